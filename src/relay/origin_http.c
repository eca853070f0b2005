/* One request: from STREAM_OPEN to the end of its answer. */
#include "base/clock.h"
#include "base/mem.h"
#include "relay/origin_priv.h"

#include <stdio.h>

/* ---- life ---- */

static void flush_task(struct io_task *task) {
    origin_request_flush(ht_container_of(task, struct origin_exchange, flush));
}

static struct origin_exchange *exchange_get(struct relay_target *t) {
    struct ht_list *node = ht_list_pop_front(&t->spare);
    struct ht_buf head = {0}, early = {0};
    struct origin_exchange *x;
    if (node) {
        x = HT_LIST_ENTRY(node, struct origin_exchange, node);
        head = x->head;
        early = x->early;
        t->n_spare--;
    } else {
        x = ht_malloc(sizeof *x);
        if (!x)
            return NULL;
    }
    *x = (struct origin_exchange){.t = t, .head = head, .early = early, .started_us = ht_now_us()};
    x->out.secret = t->cfg.secret;
    io_task_init(&x->flush, flush_task);
    ht_list_init(&x->node);
    ht_list_push_back(&t->exchanges, &x->node);
    t->n_active++;
    return x;
}

static void buffer_keep(struct ht_buf *b) {
    if (b->cap > ORIGIN_KEEP_BUFFER)
        ht_buf_free(b);
    b->off = b->len = 0;
}

static void exchange_put(struct origin_exchange *x) {
    struct relay_target *t = x->t;
    if (t->cfg.secret && x->head.data)
        explicit_bzero(x->head.data, x->head.cap);
    ht_list_remove(&x->node);
    t->n_active--;
    if (t->n_spare >= ORIGIN_KEEP_EXCHANGES) {
        ht_buf_free(&x->head);
        ht_buf_free(&x->early);
        ht_free(x);
        return;
    }
    buffer_keep(&x->head);
    buffer_keep(&x->early);
    ht_list_push_front(&t->spare, &x->node);
    t->n_spare++;
}

void origin_http_drain_spare(struct relay_target *t) {
    struct ht_list *node;
    while ((node = ht_list_pop_front(&t->spare)) != NULL) {
        struct origin_exchange *x = HT_LIST_ENTRY(node, struct origin_exchange, node);
        ht_buf_free(&x->head);
        ht_buf_free(&x->early);
        ht_free(x);
    }
    t->n_spare = 0;
}

/* Releases everything but the request's head, which the report still needs. */
static void exchange_detach(struct origin_exchange *x) {
    origin_pool_waited(x);
    io_task_cancel(&x->flush);
    io_dial_cancel(&x->dial);
    if (x->conn)
        origin_pool_abort(x->conn); /* with RST, so that a request that was cut does not look complete to the service */
    x->conn = NULL;
    relay_pipe_destroy(&x->pipe);
    if (x->st)
        mux_stream_release(&x->st);
    io_out_free(&x->out);
    ht_buf_free(&x->last_chunk);
    ht_buf_free(&x->trailers);
    origin_response_free_partial(x);
}

static void tap_end(struct origin_exchange *x, uint16_t code, const char *error) {
    enum relay_tap_fault fault = !code ? RELAY_TAP_NO_FAULT : x->fault ? x->fault : RELAY_TAP_INTERNAL;
    x->t->cfg.tap->end(x->tap, fault, ht_slice_str(code ? error : NULL));
    x->tap = NULL;
}

static void exchange_finish(struct origin_exchange *x, uint16_t code, const char *error) {
    struct relay_target *t = x->t;
    exchange_detach(x);
    if (HT_UNLIKELY(x->tap != NULL))
        tap_end(x, code, error);
    ORIGIN_LOG(t, code ? "a request is reset" : "a request is over", log_stream(x->id), log_status(x->status),
               log_code(code), log_bytes_in(x->bytes_in), log_bytes_out(x->bytes_out),
               log_duration_us(ht_now_us() - x->started_us), log_reason(error));
    if (t->cfg.finished) {
        const char *h = (const char *)x->head.data;
        struct relay_request_info info = {
            .method = ht_slice_of(h, x->method_len),
            .target = ht_slice_of(h ? h + x->method_len + 1 : NULL, x->target_len),
            .peer_addr = ht_slice_of(h ? h + x->head_len : NULL, x->head.len - x->head_len - x->note_len),
            .stream_id = x->id,
            .status = x->status,
            .answered = x->responded,
            .reset_code = code,
            .bytes_in = x->bytes_in,
            .bytes_out = x->bytes_out,
            .duration_us = ht_now_us() - x->started_us,
            .error = error,
        };
        t->cfg.finished(t->cfg.ctx, &info);
    }
    exchange_put(x);
}

void origin_http_fail(struct origin_exchange *x, uint16_t code, const char *text) {
    if (x->st)
        mux_stream_reset(x->st, code, text);
    exchange_finish(x, code, text);
}

static enum relay_tap_fault fault_of(enum wire_origin_error error) {
    switch (error) {
    case WIRE_ORIGIN_ERROR_TIMEOUT:
        return RELAY_TAP_TIMEOUT;
    case WIRE_ORIGIN_ERROR_CLOSED:
        return RELAY_TAP_RESET;
    case WIRE_ORIGIN_ERROR_BAD_ANSWER:
    case WIRE_ORIGIN_ERROR_TLS_SERVICE:
        return RELAY_TAP_PROTOCOL;
    case WIRE_ORIGIN_ERROR_BUSY:
        return RELAY_TAP_INTERNAL;
    default: /* each of the others is a way in which no connection comes about */
        return RELAY_TAP_REFUSED;
    }
}

struct ht_slice origin_http_note(const struct origin_exchange *x) {
    return ht_slice_of(x->note_len ? (const char *)x->head.data + x->head.len - x->note_len : NULL, x->note_len);
}

/* True when the answer comes from this end, which then has the stream. */
static bool fails_here(struct origin_exchange *x, struct relay_failure *f) {
    const struct relay_target_config *cfg = &x->t->cfg;
    if (!cfg->fails || x->interims)
        return false;
    f->note = origin_http_note(x);
    f->head = x->head_request;
    origin_request_drop(x); /* the credit for what was never written */
    if (!cfg->fails(cfg->ctx, x->st, f))
        return false;
    x->st = NULL;
    return true;
}

void origin_http_fail_as(struct origin_exchange *x, uint16_t code, enum wire_origin_error error, const char *text) {
    char reason[ORIGIN_REASON];
    if (x->responded) { /* it is too late for another status */
        origin_http_fail(x, code, text);
        return;
    }
    struct relay_failure f = origin_failure(error);
    x->status = f.status;
    x->fault = fault_of(error);
    if (x->st && fails_here(x, &f)) {
        if (x->tap)
            tap_end(x, code, text);
        code = WIRE_CODE_NO_ERROR;
    } else if (x->st) {
        mux_stream_reset(x->st, code, origin_reason(error, text, reason));
    }
    exchange_finish(x, code, text);
}

static void count_pipe(struct origin_exchange *x) {
    uint64_t from_conn, to_conn;
    relay_pipe_counts(x->pipe, &from_conn, &to_conn);
    x->bytes_out += from_conn;
    x->bytes_in += to_conn;
}

void origin_http_abort(struct origin_exchange *x) {
    static const char why[] = "the tunnel is closing";
    x->fault = RELAY_TAP_LINK;
    if (x->st)
        mux_stream_reset(x->st, WIRE_CODE_CANCEL, why);
    if (x->t->cfg.tells_cut) {
        if (x->pipe)
            count_pipe(x);
        exchange_finish(x, WIRE_CODE_CANCEL, why);
        return;
    }
    exchange_detach(x);
    if (x->tap)
        tap_end(x, WIRE_CODE_CANCEL, why);
    exchange_put(x);
}

/* ---- the connection ---- */

static void dial_connected(void *ctx, struct io_conn *c) {
    struct origin_exchange *x = ctx;
    x->dial = NULL;
    x->conn = origin_pool_adopt(x->t, c);
    if (!x->conn) {
        origin_http_fail_as(x, WIRE_CODE_INTERNAL_ERROR, WIRE_ORIGIN_ERROR_BUSY, ht_err_text(HT_ENOMEM));
        return;
    }
    x->conn->x = x;
    origin_dialled(x->t, c, x->id, x->started_us);
    ORIGIN_TAP(x, moment, RELAY_TAP_CONNECTED);
    origin_pool_waits(x);
    io_conn_read_on(c, true);
    origin_request_flush(x);
}

static void dial_failed(void *ctx, int err, const char *text) {
    struct origin_exchange *x = ctx;
    x->dial = NULL;
    origin_undialled(x->t, text, x->id, x->started_us);
    bool denied = err == HT_EACCESS && x->t->cfg.allowed;
    origin_http_fail_as(x, WIRE_CODE_REFUSED_STREAM, denied ? WIRE_ORIGIN_ERROR_NOT_COVERED : origin_error_of(err),
                        text);
}

static bool dial_allowed(void *ctx, const struct io_addr *a) {
    const struct origin_exchange *x = ctx;
    return !x->t->cfg.allowed || x->t->cfg.allowed(x->t->cfg.ctx, a);
}

static const struct io_dial_ops dial_ops = {
    .connected = dial_connected, .failed = dial_failed, .allowed = dial_allowed};

static void exchange_dial(struct origin_exchange *x) {
    struct relay_target *t = x->t;
    struct ht_errmsg err;
    /* Copied, because the connection is not made yet. Bytes of the body are queued behind the head. */
    if (io_out_copy(&x->out, x->head.data, x->head_len) < 0) {
        origin_http_fail(x, WIRE_CODE_INTERNAL_ERROR, ht_err_text(HT_ENOMEM));
        return;
    }
    ORIGIN_TAP(x, moment, RELAY_TAP_CONNECTING);
    x->dial = origin_dial(t, x->id, &dial_ops, x, &err);
    if (!x->dial)
        origin_http_fail_as(x, WIRE_CODE_REFUSED_STREAM, WIRE_ORIGIN_ERROR_BUSY, err.text);
}

static void exchange_connect(struct origin_exchange *x) {
    struct origin_conn *oc = origin_pool_take(x->t);
    if (!oc) {
        exchange_dial(x);
        return;
    }
    oc->x = x;
    x->conn = oc;
    ORIGIN_TAP(x, moment, RELAY_TAP_CONNECTED);
    ORIGIN_LOG(x->t, "an idle connection is used again", log_stream(x->id), log_count(x->t->n_idle));
    if (io_out_add(&x->out, x->head.data, x->head_len) < 0) {
        origin_http_fail(x, WIRE_CODE_INTERNAL_ERROR, ht_err_text(HT_ENOMEM));
        return;
    }
    /* Usually data_end() comes first, and writes head and body together. A head without a body is written at the end of
     * the turn. */
    io_task_add(x->t->cfg.loop, &x->flush);
}

void origin_http_lost(struct origin_exchange *x, const char *text) {
    /* RFC 9112 9.3.1: a service may close an idle connection at any time. The request is then sent again. */
    if (x->conn && x->conn->reused && x->replayable && !x->replayed && !x->resp_begun) {
        x->replayed = true;
        origin_pool_close(x->conn, "the service had closed it, and the request is sent again");
        x->conn = NULL;
        io_task_cancel(&x->flush);
        io_out_free(&x->out);
        x->req_dropped = x->tapped_sent = false;
        exchange_dial(x);
        return;
    }
    char why[400];
    snprintf(why, sizeof why, "%s %s", x->t->name, text);
    origin_http_fail_as(x, WIRE_CODE_INTERNAL_ERROR,
                        x->resp_begun ? WIRE_ORIGIN_ERROR_BAD_ANSWER : WIRE_ORIGIN_ERROR_CLOSED, why);
}

void origin_http_answered(struct origin_exchange *x, bool extra) {
    bool reuse = x->keep_alive && !extra && !x->upgrade && origin_request_is_sent(x);
    struct origin_conn *oc = x->conn;
    x->resp_ended = true;
    x->conn = NULL;
    io_task_cancel(&x->flush);
    if (reuse)
        origin_pool_put(oc);
    else
        origin_pool_close(oc, "the exchange does not allow another on this connection");
    origin_request_drop(x);
}

static void pipe_done(void *ctx, uint16_t code, const char *text) {
    struct origin_exchange *x = ctx;
    static const enum relay_tap_fault faults[] = {[RELAY_PIPE_CONN] = RELAY_TAP_RESET,
                                                  [RELAY_PIPE_PEER] = RELAY_TAP_VISITOR,
                                                  [RELAY_PIPE_SESSION] = RELAY_TAP_LINK};
    count_pipe(x);
    x->fault = faults[relay_pipe_cut_by(x->pipe)];
    exchange_finish(x, code, code ? text : NULL);
}

static const struct relay_pipe_ops pipe_ops = {.done = pipe_done};

void origin_http_become_pipe(struct origin_exchange *x, struct ht_slice early) {
    struct io_conn *c = origin_pool_release(x->conn);
    struct mux_stream *st = x->st;
    x->conn = NULL;
    x->st = NULL;
    io_task_cancel(&x->flush);
    x->pipe = relay_pipe_start(x->t->cfg.loop, c, st, early, 0, &pipe_ops, x);
    if (!x->pipe)
        exchange_finish(x, WIRE_CODE_INTERNAL_ERROR, ht_err_text(HT_ENOMEM));
    else if (HT_UNLIKELY(x->tap != NULL))
        relay_pipe_tap(x->pipe, x->t->cfg.tap->raw, x->tap);
}

/* ---- the stream ---- */

static void stream_data(void *ctx, const uint8_t *p, size_t n) {
    struct origin_exchange *x = ctx;
    const char *why;
    x->bytes_in += n;
    if (origin_request_data(x, p, n, &why) < 0)
        origin_http_fail(x, WIRE_CODE_PROTOCOL_ERROR, why);
}

static void stream_eof(void *ctx) {
    struct origin_exchange *x = ctx;
    const char *why;
    /* Also for an upgrade this only ends the request: raw bytes follow after the 101. */
    if (origin_request_end(x, &why) < 0)
        origin_http_fail(x, WIRE_CODE_PROTOCOL_ERROR, why);
}

static void stream_trailers(void *ctx, const struct wire_trailers *t) {
    struct origin_exchange *x = ctx;
    const char *why;
    if (origin_request_trailers(x, t, &why) < 0)
        origin_http_fail(x, WIRE_CODE_PROTOCOL_ERROR, why);
}

static void stream_data_end(void *ctx) { origin_request_flush(ctx); }

static ssize_t stream_pullv(void *ctx, const struct iovec *to, int n_to, unsigned *flags) {
    return origin_response_pull(ctx, to, n_to, flags);
}

static ssize_t stream_pull(void *ctx, uint8_t *out, size_t cap, unsigned *flags) {
    return stream_pullv(ctx, &(struct iovec){.iov_base = out, .iov_len = cap}, 1, flags);
}

static void stream_writable(void *ctx, bool yes) {
    struct origin_exchange *x = ctx;
    /* While the stream was blocked nothing was pulled, and only a pull switches reading on. */
    if (yes && x->responded)
        mux_stream_ready(x->st);
}

static void stream_closed(void *ctx, uint16_t code, struct ht_slice reason, bool remote) {
    struct origin_exchange *x = ctx;
    char why[256];
    /* After the whole answer a RESET only says that the rest of the request is not wanted. */
    if (code == WIRE_CODE_NO_ERROR || (remote && x->resp_sent)) {
        exchange_finish(x, 0, NULL);
        return;
    }
    /* REFUSED_STREAM: the stream's link is lost (its doc in the protocol); a kit does not refuse what it has opened. */
    x->fault = !remote || code == WIRE_CODE_REFUSED_STREAM  ? RELAY_TAP_LINK
               : ht_slice_is(reason, RELAY_NO_HEAD_IN_TIME) ? RELAY_TAP_TIMEOUT
                                                            : RELAY_TAP_VISITOR;
    snprintf(why, sizeof why, "%s%s%.*s", remote ? "ended by the kit" : "ended with the session", reason.n ? ": " : "",
             (int)ht_min(reason.n, 200), reason.n ? reason.p : "");
    exchange_finish(x, code, why);
}

static const struct mux_stream_ops stream_ops = {
    .data = stream_data,
    .trailers = stream_trailers,
    .eof = stream_eof,
    .data_end = stream_data_end,
    .pull = stream_pull,
    .writable = stream_writable,
    .closed = stream_closed,
    .pullv = stream_pullv,
};

void origin_http_serve(struct relay_target *t, struct mux_stream *st, const struct wire_stream_open *open,
                       struct ht_slice note) {
    struct origin_exchange *x = exchange_get(t);
    const char *why;
    if (!x) {
        struct relay_request_info info = {.method = open->method,
                                          .target = open->target,
                                          .peer_addr = open->peer_addr,
                                          .stream_id = mux_stream_id(st),
                                          .reset_code = WIRE_CODE_INTERNAL_ERROR,
                                          .error = ht_err_text(HT_ENOMEM)};
        mux_stream_reset(st, WIRE_CODE_INTERNAL_ERROR, info.error);
        mux_stream_release(&st);
        if (t->cfg.finished)
            t->cfg.finished(t->cfg.ctx, &info);
        return;
    }
    x->st = st;
    x->id = mux_stream_id(st);
    mux_stream_accept(st, &stream_ops, x);
    int rc = origin_request_build(x, open, &why);
    if (rc == HT_OK && note.n) {
        rc = ht_buf_append(&x->head, note.p, note.n);
        x->note_len = rc == HT_OK ? (uint32_t)note.n : 0;
        why = ht_err_text(rc);
    }
    ht_log_with(HT_LOG_DEBUG, "origin",
                HT_LOG_FIELDS(log_session(t->cfg.session), ORIGIN_LOG_PORT(t), log_stream(x->id),
                              log_peer_slice(open->peer_addr), log_method_slice(open->method),
                              log_target_slice(ht_slice_of(open->target.p, ht_min(open->target.n, 200)))),
                "a request");
    if (rc < 0) {
        origin_http_fail(x, rc == HT_ENOMEM ? WIRE_CODE_INTERNAL_ERROR : WIRE_CODE_PROTOCOL_ERROR, why);
    } else {
        if (HT_UNLIKELY(t->cfg.tap != NULL))
            x->tap = t->cfg.tap->begin(t->cfg.ctx, open, ht_slice_of(x->head.data, x->head_len));
        exchange_connect(x);
    }
}
