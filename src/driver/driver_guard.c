/* Names with a policy: the guard checks their requests and adds secrets (guard/guard.h). */
#include "driver/driver.h"

#include "base/mem.h"
#include "driver/state_priv.h"
#include "guard/guard.h"
#include "guard/locked.h"
#include "wire/name.h"

#include <stdio.h>

/* ---- the key of the machine's authority ---- */

static bool is_key(struct ht_slice text) {
    struct io_authority *a = io_authority_create(text.p, text.n, NULL);
    bool good = a != NULL;
    io_authority_destroy(&a);
    return good;
}

static int make_key(char *out, size_t *n, struct ht_errmsg *err) { return io_authority_make_key(out, n, err); }

static int load_authority(struct ht_tunnel *t, struct ht_errmsg *err) {
    static const struct state_kind kind = {.name = "ca-key", .max = IO_KEY_MAX, .is_good = is_key, .make = make_key};
    struct guard_locked text = {.p = NULL};
    struct ht_errmsg why;
    size_t n = 0;
    int rc = guard_locked_take(&text, IO_KEY_MAX + 1);
    if (rc == HT_OK)
        rc = state_load(&kind, text.p, &n, &why);
    else
        ht_fail(&why, rc, "%s", ht_err_text(rc));
    if (rc == HT_OK && !(t->authority = io_authority_create(text.p, n, &why)))
        rc = HT_ETLS;
    guard_locked_free(&text);
    return rc < 0 ? ht_fail(err, rc == HT_ENOMEM ? HT_TUNNEL_ENOMEM : HT_TUNNEL_EINVAL,
                            "there is no key for the certificates that the container gets: %s", why.text)
                  : HT_TUNNEL_OK;
}

/* ---- reports ---- */

static bool audit(void *ctx, const struct guard_event *e) {
    struct ht_tunnel *t = ctx;
    const struct driver_binding *b = e->ctx;
    char name[WIRE_NAME_ROOM];
    if (!t->calls.audit)
        return true;
    struct ht_audit a = {
        .over = e->over,
        .binding = b->number,
        .request = e->id,
        .name = wire_authority_put(e->host, e->port, name),
        .method = e->method,
        .path = e->path,
        .query = e->query,
        .peer = e->peer,
        .allowed = e->reason == GUARD_ALLOWED,
        .reason = guard_reason_word(e->reason),
        .rule = e->rule,
        .secret = e->injects,
        .status = e->status,
        .bytes_in = e->bytes_in,
        .bytes_out = e->bytes_out,
        .duration_us = e->duration_us,
        .error = e->error,
    };
    return t->calls.audit(t->user, &a) != 0;
}

static void trouble(void *ctx, const char *host, const char *text) {
    driver_say(ctx, HT_SEVERITY_WARNING, "%s: %s", host, text);
}

/* ---- names ---- */

static int prepare(struct ht_tunnel *t, struct ht_errmsg *err) {
    struct guard_config cfg = {
        .loop = t->loop,
        .connect_timeout_ms = t->connect_timeout_ms,
        .pool_idle_ms = t->pool_idle_ms,
        .pool_size = t->pool_size,
        .max_streams = t->max_streams,
        .audit = audit,
        .trouble = trouble,
        .ctx = t,
    };
    int rc = t->authority ? HT_TUNNEL_OK : load_authority(t, err);
    if (rc == HT_TUNNEL_OK && !t->guard && !(t->guard = guard_create(&cfg)))
        rc = ht_fail(err, HT_TUNNEL_ENOMEM, "out of memory");
    return rc;
}

static int read_target(const char *text, struct driver_target *at, struct guard_host_config *cfg,
                       struct ht_errmsg *err) {
    if (driver_target_parse(at, text, err) < 0 || driver_target_check(at, false, text, err) < 0)
        return HT_TUNNEL_EINVAL;
    if (driver_target_is_unix(at))
        return ht_fail(err, HT_TUNNEL_EINVAL, "\"%s\": a policy wants a host with a port, not a Unix socket", text);
    if (at->tls == DRIVER_TLS_INSECURE)
        return ht_fail(err, HT_TUNNEL_EINVAL, "\"%s\": a policy wants a host whose certificate is verified", text);
    cfg->target = at->any_loopback ? "127.0.0.1" : at->host;
    cfg->target_port = at->port;
    cfg->spoken = at->tls == DRIVER_TLS ? GUARD_TLS : strncmp(text, "http://", 7) == 0 ? GUARD_PLAIN : GUARD_SAME;
    return HT_TUNNEL_OK;
}

int driver_guard_set(struct driver_binding *b, const struct ht_bind_options *o, const struct wire_name *name,
                     const char *target, struct ht_errmsg *err) {
    struct ht_tunnel *t = b->t;
    const struct ht_policy *p = o->policy;
    struct driver_target at;
    char host[WIRE_NAME_ROOM + 2];
    struct guard_host_config cfg = {
        .policy = {.host = host,
                   .header_names = p->inject_names,
                   .header_values = p->inject_values,
                   .n_headers = p->n_inject,
                   .user = p->user,
                   .placeholder = p->replace,
                   .allow = p->allow,
                   .deny = p->deny,
                   .n_allow = p->n_allow,
                   .n_deny = p->n_deny,
                   .rate = p->rate},
    };
    snprintf(host, sizeof host, "%s%s", name->wildcard ? "*." : "", name->host);
    if (p->size != sizeof *p)
        return ht_fail(err, HT_TUNNEL_EINVAL, "the field `size` of struct ht_policy is not set; set it with sizeof");
    if (o->target_sni)
        return ht_fail(err, HT_TUNNEL_EINVAL,
                       "with a policy the certificate must be for the name itself, so target_sni has no use");
    int rc = target ? read_target(target, &at, &cfg, err) : HT_TUNNEL_OK;
    rc = rc == HT_TUNNEL_OK ? prepare(t, err) : rc;
    if (rc < 0)
        return rc;
    b->guard_tls = io_tls_create_with(&(struct io_tls_config){.ca_file = o->target_ca,
                                                              .cert_file = o->target_cert,
                                                              .key_file = o->target_key,
                                                              .alpn = "http/1.1",
                                                              .ca_option = "`ca:`"},
                                      err);
    if (!b->guard_tls)
        return HT_TUNNEL_ETLS;
    cfg.ctx = b;
    cfg.authority = t->authority;
    cfg.tls = b->guard_tls;
    b->guarded = guard_host_add(t->guard, &cfg, &rc, err);
    if (!b->guarded)
        return rc == HT_ENOMEM ? HT_TUNNEL_ENOMEM : rc == HT_ETLS ? HT_TUNNEL_ETLS : HT_TUNNEL_EINVAL;
    const char *ca = guard_host_ca(b->guarded);
    b->ca = ht_strndup(ca, strlen(ca));
    if (!b->ca)
        return ht_fail(err, HT_TUNNEL_ENOMEM, "out of memory");
    if (guard_locked_refused())
        driver_say(
            t, HT_SEVERITY_WARNING,
            "the system locks no memory for secrets, so they may be swapped; `ulimit -l` says how much it would");
    return HT_TUNNEL_OK;
}

void driver_guard_free(struct driver_binding *b) {
    guard_host_remove(&b->guarded);
    io_tls_destroy(&b->guard_tls);
}

void driver_guard_away(struct ht_tunnel *t, bool away) {
    if (t->guard)
        guard_away(t->guard, away);
}

void driver_guard_destroy(struct ht_tunnel *t) {
    guard_destroy(&t->guard);
    io_authority_destroy(&t->authority);
}
