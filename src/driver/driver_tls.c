/* TLS towards services. Bindings with the same files share one io_tls. */
#include "base/mem.h"
#include "driver/driver.h"

#define N_TEXTS 5

struct driver_tls {
    struct ht_list node;
    struct io_tls *tls;
    unsigned users;
    bool insecure;
    char *texts[N_TEXTS]; /* ca_file, cert_file, key_file, alpn, sni; NULL: none */
};

static void destroy(struct driver_tls *d) {
    ht_list_remove(&d->node);
    for (size_t i = 0; i < HT_ARRAY_LEN(d->texts); i++)
        ht_free(d->texts[i]);
    io_tls_destroy(&d->tls);
    ht_free(d);
}

static bool same(const char *a, const char *b) { return a && b ? strcmp(a, b) == 0 : a == b; }

static struct driver_tls *find(struct ht_tunnel *t, const char *const texts[N_TEXTS], bool insecure) {
    HT_LIST_FOR (it, &t->target_tls) {
        struct driver_tls *d = HT_LIST_ENTRY(it, struct driver_tls, node);
        bool is = d->insecure == insecure;
        for (size_t i = 0; i < HT_ARRAY_LEN(d->texts) && is; i++)
            is = same(d->texts[i], texts[i]);
        if (is)
            return d;
    }
    return NULL;
}

static bool is_name(const char *text) {
    char host[WIRE_HOST_ROOM];
    return wire_domain_read(host, ht_slice_str(text), 1, NULL) == 0;
}

/* Files for TLS with a target that is not reached by TLS are most likely a mistake, so they are refused. */
static int check(const struct driver_target *target, const struct ht_bind_options *o, struct ht_errmsg *err) {
    if (target->tls == DRIVER_PLAIN &&
        (o->target_ca || o->target_cert || o->target_key || o->target_alpn || o->target_sni))
        return ht_fail(
            err, HT_TUNNEL_EINVAL,
            "\"%s\": TLS is spoken to https:// and tls:// targets only, so it has no authorities, certificate, "
            "SNI or ALPN",
            o->target);
    if (target->tls == DRIVER_TLS_INSECURE && o->target_ca)
        return ht_fail(err, HT_TUNNEL_EINVAL, "\"%s\": its certificate is not verified, so authorities have no use",
                       o->target);
    if (target->https && o->target_alpn)
        return ht_fail(err, HT_TUNNEL_EINVAL,
                       "\"%s\": HTTP/1.1 is spoken to an exposed service, so ALPN names nothing else", o->target);
    if (o->target_sni && !is_name(o->target_sni))
        return ht_fail(err, HT_TUNNEL_EINVAL,
                       "\"%.80s\" is not the name of a host, as the certificate of a service has it", o->target_sni);
    if (o->target_key && !o->target_cert)
        return ht_fail(err, HT_TUNNEL_EINVAL, "a key is given (%s), and the certificate that it belongs to is missing",
                       o->target_key);
    return HT_TUNNEL_OK;
}

/* Whatever host is dialled, this name is asked for and must be in the certificate. */
static bool named(struct driver_tls *d, const char *sni) {
    struct io_tls *as = io_tls_named(d->tls, sni);
    io_tls_destroy(&d->tls);
    d->tls = as;
    return as != NULL;
}

int driver_tls_get(struct ht_tunnel *t, const struct driver_target *target, const struct ht_bind_options *o,
                   struct driver_tls **out, struct ht_errmsg *err) {
    const char *alpn = target->https ? "http/1.1" : o->target_alpn;
    const char *const texts[N_TEXTS] = {o->target_ca, o->target_cert, o->target_key, alpn, o->target_sni};
    struct io_tls_config cfg = {
        .ca_file = o->target_ca,
        .cert_file = o->target_cert,
        .key_file = o->target_key,
        .alpn = alpn,
        .insecure = target->tls == DRIVER_TLS_INSECURE,
        .ca_option = "--target-ca",
    };
    int rc = check(target, o, err);
    *out = NULL;
    if (rc < 0 || target->tls == DRIVER_PLAIN)
        return rc;
    struct driver_tls *d = find(t, texts, cfg.insecure);
    if (d) {
        d->users++;
        *out = d;
        return HT_TUNNEL_OK;
    }
    if (!(d = ht_calloc(1, sizeof *d)))
        return ht_fail(err, HT_TUNNEL_ENOMEM, "out of memory");
    ht_list_init(&d->node);
    d->users = 1;
    d->insecure = cfg.insecure;
    for (size_t i = 0; i < HT_ARRAY_LEN(texts); i++)
        if (texts[i] && !(d->texts[i] = ht_strndup(texts[i], strlen(texts[i])))) {
            destroy(d);
            return ht_fail(err, HT_TUNNEL_ENOMEM, "out of memory");
        }
    if (!(d->tls = io_tls_create_with(&cfg, err))) {
        destroy(d);
        return HT_TUNNEL_ETLS;
    }
    if (o->target_sni && !named(d, o->target_sni)) {
        destroy(d);
        return ht_fail(err, HT_TUNNEL_ENOMEM, "out of memory");
    }
    ht_list_push_back(&t->target_tls, &d->node);
    *out = d;
    return HT_TUNNEL_OK;
}

bool driver_tls_insecure(const struct driver_tls *d) { return d && d->insecure; }

struct io_tls *driver_tls_io(const struct driver_tls *d) {
    return d ? d->tls : NULL;
}

void driver_tls_put(struct driver_tls **dp) {
    struct driver_tls *d = *dp;
    *dp = NULL;
    if (d && --d->users == 0)
        destroy(d);
}
