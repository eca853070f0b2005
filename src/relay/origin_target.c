#include "base/clock.h"
#include "base/mem.h"
#include "relay/origin_priv.h"

#include <stdio.h>

static bool is_unix(const struct relay_target *t) { return t->host[0] == '/'; }

struct relay_target *relay_target_create(const struct relay_target_config *cfg) {
    struct relay_target *t = ht_calloc(1, sizeof *t);
    if (!t)
        return NULL;
    t->cfg = *cfg;
    t->host = ht_strndup(cfg->host, strlen(cfg->host));
    if (!t->host) {
        ht_free(t);
        return NULL;
    }
    t->cfg.host = t->host;
    bool v6 = strchr(t->host, ':') != NULL;
    if (is_unix(t))
        snprintf(t->name, sizeof t->name, "unix:%.255s", t->host);
    else
        snprintf(t->name, sizeof t->name, "%s%.255s%s:%u", v6 ? "[" : "", t->host, v6 ? "]" : "", cfg->port);
    ht_list_init(&t->exchanges);
    ht_list_init(&t->spare);
    ht_list_init(&t->tcp);
    origin_pool_init(t);
    return t;
}

void relay_target_destroy(struct relay_target **tp) {
    struct relay_target *t = *tp;
    *tp = NULL;
    if (!t)
        return;
    while (!ht_list_empty(&t->exchanges))
        origin_http_abort(HT_LIST_ENTRY(t->exchanges.next, struct origin_exchange, node));
    origin_tcp_abort_all(t);
    io_dial_cancel(&t->probe);
    origin_http_drain_spare(t);
    origin_pool_clear(t);
    ht_free(t->host);
    ht_free(t);
}

/* ---- a tunnel that leads back to itself ---- */

static uint64_t own_hash(struct ht_slice address) {
    uint64_t h = HT_HASH;
    for (size_t i = 0; i < address.n; i++)
        h = ht_hash_char(h, address.p[i]);
    return h ? h : 1;
}

/*
 * With the kit on the same machine, its port for a service that does not run, or runs on ::1 alone, answers in the
 * service's place: each request would come back as a new one until the session has no streams left. The visitors of
 * such requests are connections of our own. One of them proves nothing: a machine uses the same port for connections to
 * different places, and a container has addresses of its own. Several different ones do, each in use because the one
 * before waits for it.
 */
static bool is_loop(struct relay_target *t, const struct wire_stream_open *open) {
    unsigned n = ht_min(t->n_own, ORIGIN_OWN), met = 0;
    bool own = false;
    if (n == 0 || !open->has_peer_addr || (open->has_container_port && open->container_port != io_addr_port(&t->good)))
        return false;
    uint64_t from = own_hash(open->peer_addr);
    for (unsigned i = 0; i < n; i++) {
        if (t->own[i].hash == from)
            own = t->own[i].met = true;
        met += t->own[i].met;
    }
    return own && met >= ORIGIN_OWN_MET;
}

static void refuse_loop(struct relay_target *t, struct mux_stream *st, const struct wire_stream_open *open) {
    char text[ORIGIN_REASON - 64], reason[ORIGIN_REASON];
    snprintf(text, sizeof text,
             "%s is the kit's own port, so requests lead back into the tunnel: start the service, or take another port "
             "of the container (8080=%u)",
             t->name, t->cfg.port);
    struct relay_request_info info = {.method = open->method,
                                      .target = open->target,
                                      .peer_addr = open->peer_addr,
                                      .stream_id = mux_stream_id(st),
                                      .status = WIRE_ANSWER_ORIGIN_LOOP_STATUS,
                                      .reset_code = WIRE_CODE_REFUSED_STREAM,
                                      .error = text};
    ORIGIN_LOG(t, "a request is our own", log_stream(info.stream_id), log_peer_slice(open->peer_addr));
    mux_stream_reset(st, WIRE_CODE_REFUSED_STREAM, origin_reason(WIRE_ORIGIN_ERROR_LOOP, text, reason));
    mux_stream_release(&st);
    if (t->cfg.finished)
        t->cfg.finished(t->cfg.ctx, &info);
}

void relay_target_serve_noted(struct relay_target *t, struct mux_stream *st, const struct wire_stream_open *open,
                              struct ht_slice note) {
    /* A stream of the other kind than was bound is the kit's mistake. */
    if (open->kind != t->cfg.kind) {
        mux_stream_reset(st, WIRE_CODE_PROTOCOL_ERROR, "the stream is of another kind than its binding");
        mux_stream_release(&st);
        return;
    }
    if (is_loop(t, open))
        refuse_loop(t, st, open);
    else if (t->cfg.kind == WIRE_KIND_HTTP)
        origin_http_serve(t, st, open, note);
    else
        origin_tcp_serve(t, st, open, NULL, 0, false);
}

void relay_target_serve(struct relay_target *t, struct mux_stream *st, const struct wire_stream_open *open) {
    relay_target_serve_noted(t, st, open, ht_slice_of(NULL, 0));
}

void relay_target_serve_at(struct relay_target *t, struct mux_stream *st, const struct wire_stream_open *open,
                           const char *host, uint16_t port, bool guarded) {
    origin_tcp_serve(t, st, open, host, port, guarded);
}

struct io_dial *origin_dial(struct relay_target *t, uint32_t stream, const struct io_dial_ops *ops, void *ctx,
                            struct ht_errmsg *err) {
    if (t->cfg.dial)
        return t->cfg.dial(t->cfg.ctx, stream, ops, ctx, err);
    if (is_unix(t))
        return io_dial_unix(t->cfg.loop, t->host, t->cfg.connect_timeout_ms, ops, ctx, err);
    const char *host = t->cfg.both_loopbacks ? "localhost" : t->host;
    return io_dial_start_at(t->cfg.loop, t->good.len ? &t->good : NULL, host, t->cfg.port, t->cfg.tls,
                            t->cfg.connect_timeout_ms, ops, ctx, err);
}

void origin_dialled(struct relay_target *t, struct io_conn *c, uint32_t stream, uint64_t began_us) {
    char text[IO_ADDR_TEXT];
    struct io_addr own;
    io_conn_local(c, &own);
    if (own.ss.ss_family != AF_UNIX) {
        t->own[t->n_own++ % ORIGIN_OWN] = (struct origin_own){own_hash(ht_slice_str(io_addr_text(&own, text))), false};
        if (t->n_own >= 2 * ORIGIN_OWN)
            t->n_own -= ORIGIN_OWN;
    }
    if (!is_unix(t))
        io_conn_peer(c, &t->good);
    ORIGIN_LOG(t, "connected", log_stream(stream), log_peer(is_unix(t) ? "local" : io_addr_text(&t->good, text)),
               log_duration_us(ht_now_us() - began_us));
}

const char *origin_authority(const struct relay_target *t) { return is_unix(t) ? "localhost" : t->name; }

void origin_undialled(const struct relay_target *t, const char *why, uint32_t stream, uint64_t began_us) {
    ORIGIN_LOG(t, "not connected", log_stream(stream), log_reason(why), log_duration_us(ht_now_us() - began_us));
}

/* ---- is anybody there? ---- */

static void probe_connected(void *ctx, struct io_conn *c) {
    struct relay_target *t = ctx;
    t->probe = NULL;
    origin_dialled(t, c, 0, t->probe_us);
    io_conn_close(&c);
    if (t->cfg.up)
        t->cfg.up(t->cfg.ctx);
}

static void probe_failed(void *ctx, int err, const char *text) {
    struct relay_target *t = ctx;
    t->probe = NULL;
    origin_undialled(t, text, 0, t->probe_us);
    t->cfg.down(t->cfg.ctx, text, origin_failure(origin_error_of(err)).status);
}

void relay_target_probe(struct relay_target *t) {
    static const struct io_dial_ops ops = {.connected = probe_connected, .failed = probe_failed};
    if ((t->cfg.kind != WIRE_KIND_HTTP && !t->cfg.tls) || !t->cfg.down || t->probe)
        return;
    t->probe_us = ht_now_us();
    t->probe = origin_dial(t, 0, &ops, t, NULL);
}

/* ---- what visitors are told ---- */

enum wire_origin_error origin_error_of(int err) {
    switch (err) {
    case HT_EREFUSED:
        return WIRE_ORIGIN_ERROR_REFUSED;
    case HT_ERESOLVE:
        return WIRE_ORIGIN_ERROR_NAME_UNKNOWN;
    case HT_ETIMEDOUT:
        return WIRE_ORIGIN_ERROR_TIMEOUT;
    case HT_ENOMEM:
    case HT_EFDS:
        return WIRE_ORIGIN_ERROR_BUSY;
    case HT_ETLS:
        return WIRE_ORIGIN_ERROR_TLS_FAILED;
    case HT_ECERTDATE:
        return WIRE_ORIGIN_ERROR_CERT_DATE;
    case HT_ECERTNAME:
        return WIRE_ORIGIN_ERROR_CERT_NAME;
    case HT_ECERTCA:
        return WIRE_ORIGIN_ERROR_CERT_CA;
    default:
        return WIRE_ORIGIN_ERROR_UNREACHABLE;
    }
}

struct relay_failure origin_failure(enum wire_origin_error error) {
    static const struct {
        const char *word;
        struct relay_failure as;
    } known[] = {
#define ROW(word, name)                                                                                                \
    {word,                                                                                                             \
     {.status = WIRE_ANSWER_##name##_STATUS, .code = WIRE_ANSWER_##name##_ERROR, .text = WIRE_ANSWER_##name##_BODY}},
        WIRE_ORIGIN_ANSWERS(ROW)
#undef ROW
    };
    const char *word = wire_origin_error_text(error);
    for (size_t i = 0; word && i < HT_ARRAY_LEN(known); i++)
        if (strcmp(known[i].word, word) == 0)
            return known[i].as;
    return (struct relay_failure){.status = WIRE_ANSWER_BAD_GATEWAY_STATUS,
                                  .code = WIRE_ANSWER_BAD_GATEWAY_ERROR,
                                  .text = WIRE_ANSWER_BAD_GATEWAY_BODY};
}

const char *origin_reason(enum wire_origin_error error, const char *text, char out[ORIGIN_REASON]) {
    const char *word = wire_origin_error_text(error);
    snprintf(out, ORIGIN_REASON, "%s%s%s", word ? word : "", word ? ": " : "", text);
    return out;
}

unsigned relay_target_active(const struct relay_target *t) { return t->n_active; }
unsigned relay_target_idle(const struct relay_target *t) { return t->n_idle; }
