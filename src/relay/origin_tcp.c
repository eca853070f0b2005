/* A raw connection: dialled, then handed to the pipe. */
#include "base/clock.h"
#include "base/mem.h"
#include "relay/dest.h"
#include "relay/origin_priv.h"
#include "wire/name.h"

#include <stdio.h>

struct origin_tcp {
    struct ht_list node;
    struct relay_target *t;
    struct mux_stream *st;
    struct io_dial *dial;
    struct relay_pipe *pipe;
    struct io_out out; /* what came before the connection stood; the stream's window bounds it */
    uint64_t started_us;
    uint32_t id;
    bool elsewhere, guarded; /* see relay_target_serve_at() */
    char *authority;         /* NULL: it came to the port */
    char peer[IO_ADDR_TEXT];
};

static void tcp_free(struct origin_tcp *x) {
    io_dial_cancel(&x->dial);
    relay_pipe_destroy(&x->pipe);
    if (x->st)
        mux_stream_release(&x->st);
    io_out_free(&x->out);
    ht_list_remove(&x->node);
    x->t->n_active--;
    ht_free(x->authority);
    ht_free(x);
}

/* `code` is 0 for one that ended in order. */
static void tcp_finish(struct origin_tcp *x, uint16_t code, const char *error) {
    struct relay_target *t = x->t;
    struct relay_request_info info = {
        .peer_addr = ht_slice_str(x->peer),
        .stream_id = x->id,
        .reset_code = code,
        .duration_us = ht_now_us() - x->started_us,
        .error = error,
        .authority = x->authority,
    };
    if (x->pipe)
        relay_pipe_counts(x->pipe, &info.bytes_out, &info.bytes_in);
    ORIGIN_LOG(t, code ? "a connection is reset" : "a connection is over", log_stream(x->id), log_peer(x->peer),
               log_code(code), log_bytes_in(info.bytes_in), log_bytes_out(info.bytes_out),
               log_duration_us(info.duration_us), log_reason(error));
    if (t->cfg.finished)
        t->cfg.finished(t->cfg.ctx, &info);
    tcp_free(x);
}

static void tcp_fail(struct origin_tcp *x, uint16_t code, const char *text) {
    mux_stream_reset(x->st, code, text);
    tcp_finish(x, code, text);
}

/* There is no connection. A visitor of a PULL port learns nothing more, but a client of the proxy gets the reason. */
static void tcp_fail_as(struct origin_tcp *x, int err, const char *text) {
    char reason[ORIGIN_REASON];
    mux_stream_reset(x->st, WIRE_CODE_REFUSED_STREAM, origin_reason(origin_error_of(err), text, reason));
    tcp_finish(x, WIRE_CODE_REFUSED_STREAM, text);
}

static void pipe_done(void *ctx, uint16_t code, const char *text) { tcp_finish(ctx, code, code ? text : NULL); }

static const struct relay_pipe_ops pipe_ops = {.done = pipe_done};

static void dial_connected(void *ctx, struct io_conn *c) {
    struct origin_tcp *x = ctx;
    struct mux_stream *st = x->st;
    x->dial = NULL;
    if (!x->elsewhere)
        origin_dialled(x->t, c, x->id, x->started_us);
    if (x->authority && mux_stream_connected(st) < 0) { /* NAME-7 */
        io_conn_close(&c);
        tcp_fail(x, WIRE_CODE_INTERNAL_ERROR, ht_err_text(HT_ENOMEM));
        return;
    }
    x->st = NULL;
    /* The kit bounds how long a half-closed pair may be quiet: it knows what its visitors were promised. */
    x->pipe = relay_pipe_start(x->t->cfg.loop, c, st, ht_slice_of(NULL, 0), 0, &pipe_ops, x);
    if (!x->pipe || relay_pipe_take_out(x->pipe, &x->out) < 0)
        tcp_finish(x, WIRE_CODE_INTERNAL_ERROR, ht_err_text(HT_ENOMEM));
}

static void dial_failed(void *ctx, int err, const char *text) {
    struct origin_tcp *x = ctx;
    x->dial = NULL;
    origin_undialled(x->t, text, x->id, x->started_us);
    tcp_fail_as(x, err, text);
}

/* The name server of a wildcard's domain may claim that one of its names is this machine (hardening case 35). */
static bool dial_allowed(void *ctx, const struct io_addr *a) {
    static const struct relay_policy pass = {.pass = true};
    static const struct relay_dest somewhere = {.is_addr = false};
    const struct origin_tcp *x = ctx;
    return !x->guarded || !relay_policy_addr(&pass, &somewhere, a, io_addr_is_own(a));
}

static const struct io_dial_ops dial_ops = {
    .connected = dial_connected, .failed = dial_failed, .allowed = dial_allowed};

/* ---- the stream, until the connection stands ---- */

static void stream_data(void *ctx, const uint8_t *p, size_t n) {
    struct origin_tcp *x = ctx;
    if (ht_buf_append(&x->out.queue, p, n) < 0)
        tcp_fail(x, WIRE_CODE_INTERNAL_ERROR, ht_err_text(HT_ENOMEM));
}

/* The pipe asks the stream itself whether it has ended. */
static void stream_eof(void *ctx) { (void)ctx; }

static void stream_data_end(void *ctx) { (void)ctx; }

static ssize_t stream_pull(void *ctx, uint8_t *out, size_t cap, unsigned *flags) {
    (void)ctx, (void)out, (void)cap;
    *flags = 0;
    return 0;
}

static void stream_closed(void *ctx, uint16_t code, struct ht_slice reason, bool remote) {
    struct origin_tcp *x = ctx;
    (void)reason;
    tcp_finish(x, code, remote ? "the visitor left before the connection stood" : "the session ended");
}

static const struct mux_stream_ops stream_ops = {
    .data = stream_data,
    .eof = stream_eof,
    .data_end = stream_data_end,
    .pull = stream_pull,
    .closed = stream_closed,
};

void origin_tcp_serve(struct relay_target *t, struct mux_stream *st, const struct wire_stream_open *open,
                      const char *host, uint16_t port, bool guarded) {
    struct origin_tcp *x = ht_calloc(1, sizeof *x);
    struct ht_errmsg err;
    if (x && open->has_authority && !(x->authority = ht_strndup(open->authority.p, open->authority.n))) {
        ht_free(x);
        x = NULL;
    }
    if (!x) {
        mux_stream_reset(st, WIRE_CODE_INTERNAL_ERROR, ht_err_text(HT_ENOMEM));
        mux_stream_release(&st);
        return;
    }
    x->t = t;
    x->st = st;
    x->elsewhere = host != NULL;
    x->guarded = guarded;
    x->id = mux_stream_id(st);
    x->started_us = ht_now_us();
    snprintf(x->peer, sizeof x->peer, "%.*s", (int)ht_min(open->peer_addr.n, sizeof x->peer - 1),
             open->peer_addr.n ? open->peer_addr.p : "");
    ht_list_init(&x->node);
    ht_list_push_back(&t->tcp, &x->node);
    t->n_active++;
    mux_stream_accept(st, &stream_ops, x);
    ORIGIN_LOG(t, "a connection", log_stream(x->id), log_peer(x->peer));
    if (host)
        x->dial = io_dial_start(t->cfg.loop, host, port, NULL, t->cfg.connect_timeout_ms, &dial_ops, x, &err);
    else
        x->dial = origin_dial(t, x->id, &dial_ops, x, &err);
    if (!x->dial)
        tcp_fail_as(x, HT_ENOMEM, err.text);
}

void origin_tcp_abort_all(struct relay_target *t) {
    while (!ht_list_empty(&t->tcp)) {
        struct origin_tcp *x = HT_LIST_ENTRY(t->tcp.next, struct origin_tcp, node);
        if (x->st)
            mux_stream_reset(x->st, WIRE_CODE_CANCEL, "the tunnel is closing");
        tcp_free(x);
    }
}
