/* A visitor of an EXPOSE port: its states, timers and end. It has one request at a time (rule HTTP-14). */
#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "log_gen.h"
#include "relay/connect_priv.h"
#include "relay/front_priv.h"
#include "relay/tap.h"
#include "relay/visitor_priv.h"

#include <assert.h>
#include <stdio.h>

/* ---- life ---- */

static void free_partial(struct visitor_http *v) {
    ht_pool_put(&v->port->t->partial_heads, v->partial);
    v->partial = NULL;
}

bool visitor_need_chunks(struct visitor_http *v) {
    if (!v->chunks)
        v->chunks = ht_calloc(1, sizeof *v->chunks);
    return v->chunks;
}

static void drop_chunks(struct visitor_http *v) {
    if (!v->chunks)
        return;
    ht_buf_free(&v->chunks->trailers);
    ht_buf_free(&v->chunks->last);
    v->chunks->request = (struct http_chunked){.left = 0};
}

/* Frees the visitor. Its stream and its connection were closed or handed over before. */
static void visitor_free(struct visitor_http *v) {
    struct relay_table *t = v->port->t;
    io_task_cancel(&v->next);
    io_timer_stop(&v->timer);
    relay_wait_end(&v->waiter);
    free_partial(v);
    if (v->port->door)
        front_leave(v);
    io_out_free(&v->out);
    ht_buf_free(&v->in);
    ht_buf_free(&v->head);
    drop_chunks(v);
    ht_free(v->chunks);
    ht_free(v->peer);
    relay_visitor_removed(v->port, &v->node);
    ht_pool_put(&t->http_visitors, v);
}

/* For each state, the states that may follow, as bits. */
static const uint8_t transitions[VISITOR_STATES] = {
    [VISITOR_HEAD] = 1u << VISITOR_WAITING | 1u << VISITOR_ACTIVE | 1u << VISITOR_SENDING,
    [VISITOR_WAITING] = 1u << VISITOR_ACTIVE | 1u << VISITOR_SENDING,
    [VISITOR_ACTIVE] = 1u << VISITOR_SENDING | 1u << VISITOR_PIPE,
    [VISITOR_SENDING] = 1u << VISITOR_SENDING | 1u << VISITOR_HEAD,
};

void visitor_set_state(struct visitor_http *v, enum visitor_state to) {
    assert(transitions[v->state] & 1u << to);
    assert((v->st != NULL) == (to == VISITOR_ACTIVE));
    assert(v->b || to == VISITOR_HEAD || to == VISITOR_SENDING);
    v->state = to;
}

void visitor_end_stream(struct visitor_http *v, uint16_t code, const char *reason) {
    if (v->state != VISITOR_ACTIVE)
        return;
    if (code == WIRE_CODE_CANCEL && !mux_stream_is_over(v->st))
        relay_left_early(v->b, v->from);
    mux_stream_reset(v->st, code, reason);
    mux_stream_release(&v->st);
    visitor_set_state(v, VISITOR_SENDING);
    visitor_update_reading(v);
}

const char *visitor_session(const struct visitor_http *v) {
    const struct relay_binding *b = v->b ? v->b : v->port->binding;
    return b ? b->owner->id : NULL;
}

void visitor_lost(struct visitor_http *v, bool cut, const char *why) {
    ht_log_with(HT_LOG_DEBUG, "visitor",
                HT_LOG_FIELDS(log_session(visitor_session(v)), log_port(v->port->number), log_peer(v->peer),
                              log_stream(v->stream_id), log_reason(why)),
                cut ? "cut" : "over");
    visitor_end_stream(v, WIRE_CODE_CANCEL, why);
    if (cut)
        io_conn_abort(&v->conn);
    else
        io_conn_close(&v->conn);
    visitor_free(v);
}

void visitor_http_destroy(struct visitor_http *v, uint16_t code, const char *reason) {
    relay_pipe_abort(&v->pipe, code, reason);
    bool asked = v->state == VISITOR_ACTIVE || v->state == VISITOR_WAITING;
    relay_wait_end(&v->waiter);
    visitor_end_stream(v, code, reason);
    if (asked && v->answer == ANSWER_AWAITED && !visitor_answer(v, &answer_closed, false))
        return;
    bool idle = v->state == VISITOR_HEAD && ht_buf_size(&v->in) == 0;
    if (idle)
        io_conn_close(&v->conn);
    else
        io_conn_abort(&v->conn);
    visitor_free(v);
}

void visitor_http_revoke(struct visitor_http *v, uint16_t code, const char *reason) {
    if (v->pipe) {
        visitor_http_destroy(v, code, reason);
        return;
    }
    if (v->state == VISITOR_WAITING) { /* now it waits for the new owner */
        relay_wait_end(&v->waiter);
        if (relay_wait(v->b, &v->waiter, v->from))
            visitor_lost(v, true, ht_err_text(HT_ENOMEM));
        return;
    }
    if (v->state != VISITOR_ACTIVE)
        return;
    visitor_end_stream(v, code, reason);
    if (v->answer == ANSWER_AWAITED)
        (void)visitor_answer(v, &answer_taken_over, true);
    else if (v->answer == ANSWER_BEGUN)
        visitor_lost(v, true, reason);
    else if (visitor_flush(v)) /* data_end() would have done it, but is not called after the stream's end */
        (void)visitor_settle(v);
}

/* ---- the connection ---- */

void visitor_update_reading(struct visitor_http *v) {
    bool on = false;
    switch (v->state) {
    case VISITOR_HEAD:
        /* Bytes in `in` are handled first, so that the visitor's close is not seen before them. */
        on = !ht_list_linked(&v->next.node);
        break;
    case VISITOR_ACTIVE:
        /* While an answer is awaited, reading shows when the visitor leaves. It stops at a pipelined request. */
        if (v->request == REQUEST_WHOLE)
            on = ht_buf_size(&v->in) == 0 && v->answer != ANSWER_WHOLE && !v->half_closed;
        else
            on = v->request == REQUEST_COMES;
        break;
    case VISITOR_SENDING:
        /* The rest of the request is read and dropped: many clients read the answer only after sending all of it. */
        on = v->request != REQUEST_WHOLE && !v->half_closed;
        break;
    case VISITOR_WAITING:
    case VISITOR_PIPE:
    case VISITOR_STATES:
        break;
    }
    if (v->conn)
        io_conn_read_on(v->conn, on);
}

/* The visitor has sent its next request while this one is being answered, or it has closed. */
static void watch_visitor(struct visitor_http *v) {
    struct relay_table *t = v->port->t;
    if (v->answer == ANSWER_WHOLE) { /* if it has closed its side, it may still read the answer */
        visitor_update_reading(v);
        return;
    }
    ssize_t n = io_conn_read(v->conn, t->scratch, sizeof t->scratch);
    if (n == HT_EAGAIN)
        return;
    if (n == HT_EOF) {
        visitor_half_closed(v);
        return;
    }
    if (n <= 0) {
        visitor_lost(v, true, "the visitor left"); /* rule HTTP-9 */
        return;
    }
    if (ht_buf_append(&v->in, t->scratch, (size_t)n)) {
        visitor_lost(v, true, ht_err_text(HT_ENOMEM));
        return;
    }
    visitor_update_reading(v);
}

/* Drops the rest of a request whose answer is being sent. */
static void discard(struct visitor_http *v) {
    ssize_t n = io_conn_discard(v->conn);
    if (n > 0 || n == HT_EAGAIN)
        return;
    if (n != HT_EOF) {
        visitor_lost(v, true, ht_err_text((int)n));
        return;
    }
    v->half_closed = true;
    visitor_update_reading(v);
}

static void conn_readable(void *ctx) {
    struct visitor_http *v = ctx;
    if (v->state == VISITOR_HEAD)
        visitor_read_head(v);
    else if (v->state == VISITOR_SENDING)
        discard(v);
    else if (v->state != VISITOR_ACTIVE)
        visitor_update_reading(v);
    else if (v->request != REQUEST_WHOLE)
        mux_stream_ready(v->st);
    else
        watch_visitor(v);
}

static void conn_writable(void *ctx) {
    struct visitor_http *v = ctx;
    if (visitor_flush(v))
        (void)visitor_settle(v);
}

static const struct io_conn_ops conn_ops = {.readable = conn_readable, .writable = conn_writable};

bool visitor_flush(struct visitor_http *v) {
    ssize_t n = io_out_flush(&v->out, v->conn);
    if (n < 0) {
        visitor_lost(v, true, ht_err_text((int)n));
        return false;
    }
    v->committed = v->answer != ANSWER_AWAITED;
    bool stalled = io_out_pending(&v->out) > 0;
    if (stalled && (n > 0 || !v->stalled)) {
        v->sent_ms = io_now_ms(v->port->t->cfg.loop);
        v->stalled = true;
        if (v->state == VISITOR_ACTIVE || v->state == VISITOR_SENDING)
            visitor_watch_clocks(v);
    }
    v->stalled = stalled;
    if (v->state == VISITOR_ACTIVE) {
        /* Rule FLOW-2: credit is given back for bytes that were written. */
        size_t pending = io_out_pending(&v->out), held = mux_stream_unconsumed(v->st);
        if (held > pending)
            mux_stream_consumed(v->st, held - pending);
    }
    return true;
}

/* ---- from one request to the next ---- */

static void begin_request(struct visitor_http *v) {
    v->request = REQUEST_COMES;
    v->answer = ANSWER_AWAITED;
    v->body = HTTP_BODY_NONE;
    v->upgrade = v->head_request = v->http10 = v->keep = false;
    v->half_closed = v->stalled = false;
    v->committed = v->stream_ended = v->chunk_open = false;
    v->status = 0;
    v->chunk_bytes = 0;
    drop_chunks(v);
}

static void next_request(struct visitor_http *v) {
    const struct relay_kit_config *cfg = &v->port->t->cfg;
    visitor_set_state(v, VISITOR_HEAD);
    if (v->port->door)
        front_leave(v);
    v->b = NULL;
    begin_request(v);
    if (v->head.cap > RELAY_KEEP_BUFFER)
        ht_buf_free(&v->head);
    if (ht_buf_size(&v->in)) {
        /* In a task, since many pipelined requests would make the stack deep. */
        visitor_deadline(v, cfg->head_timeout_ms);
        io_task_add(cfg->loop, &v->next);
    } else {
        if (v->in.cap > RELAY_KEEP_BUFFER)
            ht_buf_free(&v->in);
        visitor_deadline(v, cfg->keepalive_timeout_ms);
    }
    visitor_update_reading(v);
}

static void run_next(struct io_task *task) {
    struct visitor_http *v = ht_container_of(task, struct visitor_http, next);
    if (v->state == VISITOR_HEAD && ht_buf_size(&v->in))
        visitor_parse_kept(v);
}

/* Releases the stream, whose answer is complete and written. */
static void finish_stream(struct visitor_http *v) {
    if (v->request == REQUEST_WHOLE && !v->stream_ended && !v->upgrade && !mux_stream_is_over(v->st)) {
        relay_stray_adopt(v->port->t, v->st);
        v->st = NULL;
    } else {
        if (v->request == REQUEST_WHOLE)
            relay_answered(v->b, v->from);
        else
            relay_left_early(v->b, v->from);
        /* Hardening case 2: after an early answer the rest of the request is not sent on. */
        mux_stream_reset(v->st, WIRE_CODE_NO_ERROR, "the answer is complete");
        mux_stream_release(&v->st);
    }
    visitor_set_state(v, VISITOR_SENDING);
}

bool visitor_settle(struct visitor_http *v) {
    if (v->answer != ANSWER_WHOLE || io_out_pending(&v->out))
        return true;
    if (v->started_us) /* otherwise the answer was the kit's own, and was logged */
        ht_log_with(HT_LOG_DEBUG, "visitor",
                    HT_LOG_FIELDS(log_session(visitor_session(v)), log_port(v->port->number), log_peer(v->peer),
                                  log_stream(v->stream_id), log_status(v->status),
                                  log_duration_us(ht_now_us() - v->started_us)),
                    "answered");
    v->started_us = 0;
    if (v->state == VISITOR_ACTIVE)
        finish_stream(v);
    if (v->keep && v->request == REQUEST_WHOLE) {
        next_request(v);
        return true;
    }
    /* The visitor may still be sending a body or another request. A plain close would then reset the connection, and
     * the answer could be lost (RFC 9112 9.6). */
    if (v->http10 && v->request == REQUEST_WHOLE && ht_buf_size(&v->in) == 0)
        io_conn_close(&v->conn);
    else
        io_conn_linger(&v->conn, &(struct io_linger){.quiet_ms = RELAY_LINGER_QUIET_MS,
                                                     .all_ms = RELAY_LINGER_MS,
                                                     .fds = v->port->t->cfg.fds});
    visitor_free(v);
    return false;
}

static void pipe_done(void *ctx, uint16_t code, const char *text) {
    struct visitor_http *v = ctx;
    ht_log_with(HT_LOG_DEBUG, "visitor",
                HT_LOG_FIELDS(log_session(v->b->owner->id), log_port(v->port->number), log_peer(v->peer),
                              log_stream(v->stream_id), log_code(code), log_reason(code ? text : "in order")),
                "upgraded connection over");
    relay_pipe_destroy(&v->pipe);
    visitor_free(v);
}

static const struct relay_pipe_ops pipe_ops = {.done = pipe_done};

void visitor_become_pipe(struct visitor_http *v) {
    const struct relay_kit_config *cfg = &v->port->t->cfg;
    struct io_conn *conn = v->conn;
    struct mux_stream *st = v->st;
    uint64_t quiet = v->b->owner->own_peer ? 0 : cfg->half_close_timeout_ms;
    v->conn = NULL;
    v->st = NULL;
    visitor_set_state(v, VISITOR_PIPE);
    io_timer_stop(&v->timer);
    v->pipe = relay_pipe_start(cfg->loop, conn, st, ht_buf_slice(&v->in), quiet, &pipe_ops, v);
    if (!v->pipe || relay_pipe_take_out(v->pipe, &v->out)) {
        relay_pipe_abort(&v->pipe, WIRE_CODE_INTERNAL_ERROR, ht_err_text(HT_ENOMEM));
        visitor_free(v);
        return;
    }
    ht_buf_free(&v->in);
    ht_buf_free(&v->head);
}

/* ---- timers ---- */

void visitor_deadline(struct visitor_http *v, uint64_t after_ms) {
    uint64_t now = io_now_ms(v->port->t->cfg.loop);
    v->deadline_ms = after_ms ? now + after_ms : UINT64_MAX;
    /* A timer that fires too early is set again then, so that it is rarely moved while requests come. */
    if (after_ms && (!io_timer_active(&v->timer) || v->deadline_ms < v->armed_ms)) {
        v->armed_ms = v->deadline_ms;
        io_timer_set(&v->timer, after_ms);
    }
}

/* The proxy's own clients have a stream in memory, which is never away. The stream that it leads to may be. */
static uint64_t away_ms(const struct visitor_http *v) {
    if (!v->st)
        return 0;
    return v->port->proxy ? connect_plain_paused_ms(v) : mux_stream_away_ms(v->st, io_now_ms(v->port->t->cfg.loop));
}

static bool is_away(const struct visitor_http *v) {
    return v->st && (v->port->proxy ? connect_plain_is_paused(v) : mux_stream_is_away(v->st));
}

uint64_t visitor_stream_ms(const struct visitor_http *v) { return io_now_ms(v->port->t->cfg.loop) - away_ms(v); }

/* The first of the time limits for a request that is being answered, in monotonic milliseconds. */
static uint64_t next_clock(const struct visitor_http *v) {
    const struct relay_kit_config *cfg = &v->port->t->cfg;
    uint64_t due = UINT64_MAX;
    if (v->answer == ANSWER_AWAITED) { /* an answer that has begun has no time limit */
        due = v->progress_ms + cfg->response_timeout_ms;
        if (v->request == REQUEST_COMES && cfg->min_body_rate)
            due = ht_min64(due, v->body_due_ms);
        due += away_ms(v);
    } else if (v->stalled) {
        due = v->sent_ms + cfg->send_timeout_ms;
    }
    return v->half_closed && v->answer != ANSWER_WHOLE ? ht_min64(due, v->look_ms) : due;
}

void visitor_watch_clocks(struct visitor_http *v) {
    uint64_t due = next_clock(v), now = io_now_ms(v->port->t->cfg.loop);
    /* While the link is away the limits move on with the time, and nothing is gained by looking at them often. */
    uint64_t least = is_away(v) ? RELAY_AWAY_LOOK_MS : 1;
    visitor_deadline(v, due == UINT64_MAX ? 0 : due > now + least ? due - now : least);
}

static bool is_slow(const struct visitor_http *v) {
    return v->request == REQUEST_COMES && v->port->t->cfg.min_body_rate && v->body_due_ms <= visitor_stream_ms(v);
}

static void answer_late(struct visitor_http *v) {
    const struct visitor_answer *a = &answer_response_timeout;
    /* 408 if the rest of the body is missing, else 504. */
    if (v->request == REQUEST_COMES)
        a = &answer_body_timeout;
    visitor_end_stream(v, WIRE_CODE_CANCEL, a == &answer_body_timeout ? "slow request body" : RELAY_NO_HEAD_IN_TIME);
    (void)visitor_answer(v, a, true);
}

/*
 * The visitor has closed its side. It may still read, or it may be gone: TCP shows no difference until something is
 * sent, which a closed socket answers with RST. The kit cannot send anything, because clients take an unexpected
 * interim head (102) for the answer. So only TCP's keepalive and the response timeout notice that it is gone. More
 * frequent probes would not help: a closed socket of Linux acknowledges them for 60 s (tcp_fin_timeout), like one that
 * still reads.
 */
static void look_at_half_closed(struct visitor_http *v, uint64_t now) {
    const struct relay_kit_config *cfg = &v->port->t->cfg;
    int err = io_conn_error(v->conn);
    if (err) {
        visitor_lost(v, true, ht_err_text(err)); /* rule HTTP-9 */
        return;
    }
    if (is_away(v)) /* nothing can come */
        v->sent_ms = now;
    /* The limit is that for a head; --half-close-timeout is for pulled connections. */
    if (v->answer == ANSWER_BEGUN && !v->stalled &&
        now - ht_max64(v->sent_ms, v->progress_ms) >= cfg->response_timeout_ms) {
        visitor_lost(v, true, "one side has closed, and nothing came for too long");
        return;
    }
    v->look_ms = now + ht_min64(cfg->half_close_timeout_ms, RELAY_HALF_CLOSED_MS);
    visitor_watch_clocks(v);
}

void visitor_half_closed(struct visitor_http *v) {
    const struct relay_kit_config *cfg = &v->port->t->cfg;
    uint64_t now = io_now_ms(cfg->loop);
    v->half_closed = true;
    v->keep = false;
    v->sent_ms = now;
    v->look_ms = now + ht_min64(cfg->half_close_timeout_ms, RELAY_HALF_CLOSED_MS);
    io_conn_keep_alive(v->conn);
    visitor_update_reading(v);
    visitor_watch_clocks(v);
}

static void active_timeout(struct visitor_http *v, uint64_t now) {
    if (v->answer == ANSWER_AWAITED && is_slow(v) && !relay_is_short(v->b))
        v->body_due_ms = visitor_stream_ms(v) + ht_min64(v->port->t->cfg.body_grace_ms, RELAY_SHORT_MS);
    if (next_clock(v) > now)
        visitor_watch_clocks(v);
    else if (v->half_closed && v->answer != ANSWER_WHOLE && v->look_ms <= now)
        look_at_half_closed(v, now);
    else if (v->answer != ANSWER_AWAITED)
        visitor_lost(v, true, "the visitor does not read its answer");
    else
        answer_late(v);
}

/* Whether the visitor could not do in time what it should have done, as its link was away; it has the time again. */
static bool begins_anew(struct visitor_http *v, uint64_t now) {
    const struct relay_table *t = v->port->t;
    if (now >= t->lenient_until_ms)
        return false;
    if (v->state == VISITOR_HEAD) {
        visitor_deadline(v, ht_buf_size(&v->in) ? t->cfg.head_timeout_ms : t->cfg.keepalive_timeout_ms);
        return true;
    }
    if (v->answer == ANSWER_AWAITED || !v->stalled || now < v->sent_ms + t->cfg.send_timeout_ms)
        return false;
    v->sent_ms = now;
    visitor_watch_clocks(v);
    return true;
}

static void timer_fired(struct io_timer *timer) {
    struct visitor_http *v = ht_container_of(timer, struct visitor_http, timer);
    uint64_t now = io_now_ms(v->port->t->cfg.loop);
    if (v->deadline_ms == UINT64_MAX)
        return;
    if (now < v->deadline_ms) {
        v->armed_ms = v->deadline_ms;
        io_timer_set(timer, v->deadline_ms - now);
        return;
    }
    v->deadline_ms = UINT64_MAX;
    if (HT_UNLIKELY(begins_anew(v, now)))
        return;
    switch (v->state) {
    case VISITOR_HEAD:
        /* A visitor that has sent nothing gets no 408: it would take it for the answer to its next request. */
        if (ht_buf_size(&v->in))
            (void)visitor_answer(v, &answer_head_timeout, false);
        else
            visitor_lost(v, false, "idle");
        break;
    case VISITOR_WAITING:
        if (v->b->owner->away) { /* how long it waits for that is decided in visitor_wait.c */
            visitor_deadline(v, v->port->t->cfg.response_timeout_ms);
            break;
        }
        relay_wait_end(&v->waiter);
        (void)visitor_answer(v, &answer_response_timeout, false);
        break;
    case VISITOR_ACTIVE:
    case VISITOR_SENDING:
        active_timeout(v, now);
        break;
    case VISITOR_PIPE:
    case VISITOR_STATES:
        break;
    }
}

/* ---- coming in ---- */

void visitor_http_refuse(struct relay_table *t, struct io_conn **conn) {
    if (io_fds_available(&t->refused) && visitor_answer_write(t, *conn, &answer_fd_cap))
        io_conn_linger(conn, &(struct io_linger){.quiet_ms = RELAY_REFUSED_LINGER_MS,
                                                 .all_ms = RELAY_REFUSED_LINGER_MS,
                                                 .fds = &t->refused});
}

struct visitor_http *visitor_http_begin(struct relay_port *p, struct io_conn *conn, const struct io_addr *peer) {
    struct relay_table *t = p->t;
    struct visitor_http *v = ht_pool_get(&t->http_visitors);
    if (!v) {
        io_conn_close(&conn);
        io_fds_give(t->cfg.fds);
        return NULL;
    }
    memset(v, 0, sizeof *v);
    char text[IO_ADDR_TEXT];
    io_addr_text(peer, text);
    v->peer = ht_strndup(text, strlen(text));
    if (!v->peer || io_conn_set_share(conn, p->binding ? p->binding->owner->share : NULL) < 0) {
        ht_free(v->peer);
        ht_pool_put(&t->http_visitors, v);
        io_conn_close(&conn);
        io_fds_give(t->cfg.fds);
        return NULL;
    }
    v->port = p;
    v->conn = conn;
    io_conn_set_ops(conn, &conn_ops, v);
    ht_list_init(&v->node);
    v->waiter = (struct relay_waiter){.ops = &visitor_waiter_ops, .conn = v->conn};
    v->from = relay_from(peer);
    io_task_init(&v->next, run_next);
    io_timer_init(t->cfg.loop, &v->timer, timer_fired);
    relay_visitor_added(p, &v->node);
    begin_request(v);
    v->fresh = true;
    visitor_deadline(v, t->cfg.head_timeout_ms);
    visitor_update_reading(v);
    return v;
}

void visitor_http_said(struct visitor_http *v, struct ht_buf *said) {
    v->in = *said;
    *said = (struct ht_buf){0};
    io_task_add(v->port->t->cfg.loop, &v->next);
    visitor_update_reading(v);
}
