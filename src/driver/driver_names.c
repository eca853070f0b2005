/*
 * Names of a pull binding: what programs in the container reach by name, and where that leads (rules NAME-1, NAME-6).
 */
#include "driver/driver.h"

#include "base/mem.h"
#include "guard/guard.h"
#include "relay/origin.h"
#include "wire/name.h"

#include <stdio.h>

struct driver_name {
    struct wire_name name;
    char text[WIRE_NAME_ROOM];
    struct driver_tls *tls;
    struct relay_target *to; /* NULL: the host and port that were asked for */
};

void driver_names_free(struct driver_binding *b) {
    for (size_t i = 0; i < b->n_names; i++) {
        relay_target_destroy(&b->names[i].to);
        driver_tls_put(&b->names[i].tls);
    }
    ht_free(b->names);
    b->names = NULL;
    b->n_names = 0;
}

/* Reads the target behind NAME=. */
static int leads_to(struct driver_binding *b, struct driver_name *n, const char *target,
                    const struct ht_bind_options *o, struct relay_target_config *cfg, struct ht_errmsg *err) {
    struct driver_target at;
    struct ht_bind_options like = *o;
    like.target = target;
    if (driver_target_parse(&at, target, err) < 0 || driver_target_check(&at, false, target, err) < 0)
        return HT_TUNNEL_EINVAL;
    int rc = driver_tls_get(b->t, &at, &like, &n->tls, err);
    if (rc < 0)
        return rc;
    cfg->host = at.host;
    cfg->port = at.port;
    cfg->both_loopbacks = at.any_loopback;
    cfg->tls = driver_tls_io(n->tls);
    n->to = relay_target_create(cfg);
    return n->to ? HT_TUNNEL_OK : ht_fail(err, HT_TUNNEL_ENOMEM, "out of memory");
}

int driver_names_set(struct driver_binding *b, const struct ht_bind_options *o, const struct relay_target_config *cfg,
                     struct ht_errmsg *err) {
    if ((o->n_names || o->portless || o->ca_pem) && o->kind != HT_PULL_TCP)
        return ht_fail(err, HT_TUNNEL_EINVAL, "only a pull binding has names");
    if (o->portless && (!o->n_names || o->container_port || o->pull_host || o->target))
        return ht_fail(err, HT_TUNNEL_EINVAL,
                       "a portless binding needs names, and has neither container_port, pull_host nor target");
    if (o->policy && (!o->portless || o->n_names != 1 || o->ca_pem))
        return ht_fail(err, HT_TUNNEL_EINVAL, "a policy is for a portless binding with one name, and without ca_pem");
    if (o->ca_pem && !o->n_names)
        return ht_fail(err, HT_TUNNEL_EINVAL, "ca_pem is for names, and the binding has none");
    if (o->n_names > WIRE_LIMIT_MAX_NAMES)
        return ht_fail(err, HT_TUNNEL_EINVAL, "%zu names are too many for one binding: at most %u", o->n_names,
                       WIRE_LIMIT_MAX_NAMES);
    if (o->ca_pem && (strlen(o->ca_pem) > WIRE_LIMIT_MAX_CA || wire_ca_check(ht_slice_str(o->ca_pem), err)))
        return ht_fail(err, HT_TUNNEL_EINVAL, "ca_pem must be one to four certificates in PEM, of at most %u bytes",
                       WIRE_LIMIT_MAX_CA);
    b->portless = o->portless != 0;
    if (!o->n_names)
        return HT_TUNNEL_OK;
    b->names = ht_calloc(o->n_names, sizeof *b->names);
    b->ca = o->ca_pem ? ht_strndup(o->ca_pem, strlen(o->ca_pem)) : NULL;
    if (!b->names || (o->ca_pem && !b->ca))
        return ht_fail(err, HT_TUNNEL_ENOMEM, "out of memory");
    for (size_t i = 0; i < o->n_names; i++) {
        struct driver_name *n = &b->names[b->n_names++];
        struct relay_target_config own = *cfg;
        size_t len = strcspn(o->names[i], "=");
        if (wire_name_read(&n->name, ht_slice_of(o->names[i], len), err))
            return HT_TUNNEL_EINVAL;
        wire_name_put(&n->name, n->text);
        const char *target = o->names[i][len] ? o->names[i] + len + 1 : NULL;
        int rc = o->policy ? driver_guard_set(b, o, &n->name, target, err)
                 : target  ? leads_to(b, n, target, o, &own, err)
                           : HT_TUNNEL_OK;
        if (rc < 0)
            return rc;
    }
    if (b->portless)
        snprintf(b->name, sizeof b->name, "%.*s", (int)sizeof b->name - 1, b->names[0].text);
    return HT_TUNNEL_OK;
}

size_t driver_names_put(const struct driver_binding *b, struct ht_slice out[WIRE_LIMIT_MAX_NAMES]) {
    for (size_t i = 0; i < b->n_names; i++)
        out[i] = ht_slice_str(b->names[i].text);
    return b->n_names;
}

unsigned driver_names_streams(const struct driver_binding *b) {
    unsigned n = b->guarded ? guard_host_streams(b->guarded) : 0;
    for (size_t i = 0; i < b->n_names; i++)
        n += b->names[i].to ? relay_target_active(b->names[i].to) : 0;
    return n;
}

void driver_names_tls(const struct driver_binding *b, bool *tls, bool *insecure) {
    *tls = b->tls != NULL;
    *insecure = driver_tls_insecure(b->tls);
    for (size_t i = 0; i < b->n_names; i++) {
        *tls = *tls || b->names[i].tls;
        *insecure = *insecure || driver_tls_insecure(b->names[i].tls);
    }
}

void driver_names_probe(struct driver_binding *b) {
    for (size_t i = 0; i < b->n_names; i++)
        if (b->names[i].to)
            relay_target_probe(b->names[i].to);
}

/* Two names of one binding may cover the same host: chooses as the kit does among bindings (rule NAME-5). */
static bool goes_before(const struct wire_name *a, const struct wire_name *b) {
    if (a->wildcard != b->wildcard)
        return b->wildcard;
    size_t x = strlen(a->host), y = strlen(b->host);
    return x != y ? x > y : a->ports != WIRE_NAME_ANY_PORT && b->ports == WIRE_NAME_ANY_PORT;
}

static const struct driver_name *find(const struct driver_binding *b, const char *host, uint16_t port) {
    const struct driver_name *best = NULL;
    for (size_t i = 0; i < b->n_names; i++) {
        const struct driver_name *n = &b->names[i];
        if (wire_name_covers(&n->name, host, port) && (!best || goes_before(&n->name, &best->name)))
            best = n;
    }
    return best;
}

static void refuse(struct mux_stream *st, const char *what) {
    char reason[128];
    snprintf(reason, sizeof reason, "%s: %s", wire_origin_error_text(WIRE_ORIGIN_ERROR_NOT_COVERED), what);
    mux_stream_reset(st, WIRE_CODE_REFUSED_STREAM, reason);
    mux_stream_release(&st);
}

void driver_names_serve(struct driver_binding *b, struct mux_stream *st, const struct wire_stream_open *open) {
    char host[WIRE_HOST_ROOM];
    uint16_t port;
    if (!open->has_authority) {
        refuse(st, "this binding is for names alone");
        return;
    }
    if (wire_authority_read(host, &port, open->authority, NULL)) {
        refuse(st, "the stream does not ask for a host with a port");
        return;
    }
    const struct driver_name *n = find(b, host, port);
    if (n && b->guarded)
        guard_host_serve(b->guarded, st, open, port);
    else if (!n)
        refuse(st, "no name of this binding covers what was asked for");
    else if (n->to)
        relay_target_serve(n->to, st, open);
    else
        relay_target_serve_at(b->origin, st, open, host, port, n->name.wildcard);
}
