/* Who may visit an exposed service, and what of heads is changed (gate/gate.h). */
#include "driver/driver.h"
#include "gate/gate.h"

#include <stdio.h>

static size_t answers(void *ctx, struct ht_slice note, uint16_t status, struct wire_header *fields, size_t n,
                      size_t cap) {
    struct driver_binding *b = ctx;
    return b->gate ? gate_answers(b->gate, note, status, fields, n, cap) : n;
}

static bool fails(void *ctx, struct mux_stream *st, const struct relay_failure *f) {
    struct driver_binding *b = ctx;
    return b->gate && gate_fails(b->gate, st, f);
}

static void trouble(void *ctx, const char *text) {
    struct driver_binding *b = ctx;
    driver_say(b->t, HT_SEVERITY_WARNING, "%s: %s", b->name, text);
}

/* As a client of the service itself would write it: without the scheme's own port. */
static const char *authority_of(const struct driver_target *t, char out[DRIVER_TARGET_TEXT]) {
    bool v6 = strchr(t->host, ':') != NULL;
    uint16_t own = t->tls ? 443 : 80;
    const char *host = t->any_loopback ? "localhost" : t->host;
    if (driver_target_is_unix(t))
        return "localhost";
    int n = snprintf(out, DRIVER_TARGET_TEXT, "%s%.255s%s", v6 ? "[" : "", host, v6 ? "]" : "");
    if (t->port != own)
        snprintf(out + n, DRIVER_TARGET_TEXT - (size_t)n, ":%u", t->port);
    return out;
}

int driver_gate_set(struct driver_binding *b, const struct ht_bind_options *o, struct relay_target_config *cfg,
                    struct ht_errmsg *err) {
    char authority[DRIVER_TARGET_TEXT];
    struct gate_config gate = {
        .loop = b->t->loop,
        .options = {.host_header = o->host_header,
                    .forwarded = o->forwarded == HT_FORWARDED_SET    ? GATE_FORWARDED_SET
                                 : o->forwarded == HT_FORWARDED_PASS ? GATE_FORWARDED_PASS
                                                                     : GATE_FORWARDED_AUTO,
                    .request_headers = o->request_headers,
                    .response_headers = o->response_headers,
                    .n_request_headers = o->n_request_headers,
                    .n_response_headers = o->n_response_headers,
                    .allow = o->allow_ips,
                    .deny = o->deny_ips,
                    .edges = o->trusted_edges,
                    .n_allow = o->n_allow_ips,
                    .n_deny = o->n_deny_ips,
                    .n_edges = o->n_trusted_edges,
                    .passwords = o->basic_auth,
                    .keep_credentials = o->basic_auth_pass != 0,
                    .pages = o->error_pages,
                    .n_pages = o->n_error_pages},
        .authority = authority_of(&b->target, authority),
        .secure = b->target.tls != DRIVER_PLAIN,
        .finished = cfg->finished,
        .trouble = trouble,
        .ctx = b,
    };
    int rc;
    if (!gate_wanted(&gate.options))
        return HT_TUNNEL_OK;
    if (o->kind != HT_EXPOSE_HTTP)
        return ht_fail(err, HT_TUNNEL_EINVAL,
                       "only an exposed service has rules for heads, logins, addresses and pages");
    b->gate = gate_create(&gate, &rc, err);
    if (!b->gate)
        return rc == HT_ENOMEM ? HT_TUNNEL_ENOMEM : HT_TUNNEL_EINVAL;
    cfg->answers = answers;
    cfg->fails = fails;
    return HT_TUNNEL_OK;
}

void driver_gate_free(struct driver_binding *b) { gate_destroy(&b->gate); }

void driver_gate_serve(struct driver_binding *b, struct mux_stream *st, const struct wire_stream_open *open) {
    if (b->gate && open->kind == WIRE_KIND_HTTP)
        gate_serve(b->gate, b->origin, st, open);
    else
        relay_target_serve(b->origin, st, open);
}

void driver_gate_bound(struct driver_binding *b, const struct ht_bound *bound) {
    if (b->gate && bound->n_urls)
        gate_set_urls(b->gate, bound->urls, bound->n_urls);
    else if (b->gate)
        gate_set_urls(b->gate, &bound->url, 1);
}

unsigned driver_gate_streams(const struct driver_binding *b) { return b->gate ? gate_waiting(b->gate) : 0; }

void driver_gate_reload(struct ht_tunnel *t) {
    HT_LIST_FOR (it, &t->bindings) {
        struct driver_binding *b = HT_LIST_ENTRY(it, struct driver_binding, node);
        if (b->gate)
            gate_reload(b->gate);
    }
}
