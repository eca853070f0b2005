/* An open WebSocket: making, closing and freeing it. */
#include "base/mem.h"
#include "ws/ws_priv.h"

#include <assert.h>

static void on_timer(struct io_timer *t) {
    struct ws_conn *w = ht_container_of(t, struct ws_conn, timer);
    ws_enter(w);
    ws_finish_as_peer_said(w, w->failure            ? w->failure
                              : w->tx == WS_TX_DEAD ? "writing to the peer failed"
                                                    : "the peer did not finish the closing handshake in time");
    ws_leave(w);
}

struct ws_conn *ws_conn_create(struct io_loop *loop, struct io_conn *conn, enum ws_side side,
                               const struct ws_limits *limits, struct ht_slice early, const struct ws_ops *ops,
                               void *ctx) {
    assert(limits->max_pull > 0 && limits->max_pull <= IO_BLOCK - WS_HEADER_MAX);
    struct ws_conn *w = ht_calloc(1, sizeof *w);
    if (!w) {
        io_conn_close(&conn);
        return NULL;
    }
    w->loop = loop;
    w->io = conn;
    w->ops = ops;
    w->ctx = ctx;
    w->limits = *limits;
    w->server = side == WS_SERVER;
    io_task_init(&w->in, ws_on_in);
    io_task_init(&w->out, ws_on_out);
    io_timer_init(loop, &w->timer, on_timer);
    if (ws_control_init(w) != HT_OK || ws_receive_early(w, early) != HT_OK) {
        ws_conn_destroy(&w);
        return NULL;
    }
    io_conn_set_ops(conn, &ws_io_ops, w);
    io_conn_want_write(conn, false);
    io_conn_read_on(conn, true);
    return w;
}

void ws_conn_set_limits(struct ws_conn *w, const struct ws_limits *limits) { w->limits = *limits; }

void ws_conn_use_text(struct ws_conn *w) { w->text = true; }

void ws_conn_tune_tunnel(struct ws_conn *w, uint64_t dead_ms, size_t kept_short) {
    w->bulk.kept_short = kept_short;
    w->short_way = io_conn_tune_tunnel(w->io, dead_ms);
}

void ws_conn_want_send(struct ws_conn *w) {
    if (!w->over && !w->destroyed && w->tx <= WS_TX_DRAIN)
        io_task_add(w->loop, &w->out);
}

void ws_conn_pause(struct ws_conn *w, bool pause) {
    if (w->over || w->destroyed || w->rx != WS_RX_OPEN || w->tx == WS_TX_DEAD || w->paused == pause)
        return;
    w->paused = pause;
    io_conn_read_on(w->io, !pause);
    if (!pause && ws_receive_pending(w))
        io_task_add(w->loop, &w->in);
}

void ws_conn_close(struct ws_conn *w, uint16_t code, const char *reason) {
    if (w->over || w->destroyed || w->tx != WS_TX_OPEN)
        return;
    w->tx = WS_TX_DRAIN;
    w->local = true;
    w->close_code = code;
    size_t n = reason && code ? strlen(reason) : 0;
    if (n > WS_REASON_MAX) /* not in the middle of a character */
        for (n = WS_REASON_MAX; n > 0 && ((uint8_t)reason[n] & 0xc0) == 0x80;)
            n--;
    if (n)
        memcpy(w->close_reason, reason, n);
    if (w->rx == WS_RX_OPEN) {
        w->rx = WS_RX_DROP;
        ws_receive_drop(w);
    }
    if (w->paused) {
        w->paused = false;
        io_conn_read_on(w->io, true);
        io_task_add(w->loop, &w->in);
    }
    io_timer_set(&w->timer, WS_CLOSE_WAIT_MS);
    io_task_add(w->loop, &w->out);
}

void ws_fail(struct ws_conn *w, uint16_t code, const char *text) {
    w->rx = WS_RX_DEAD;
    w->failure = text;
    io_conn_read_on(w->io, false);
    if (w->tx <= WS_TX_DRAIN) {
        w->local = true;
        w->ping_pending = false;
        if (code)
            wslay_event_queue_close(w->wslay, code, (const uint8_t *)text, strlen(text));
        w->tx = WS_TX_CLOSE;
        io_timer_set(&w->timer, WS_CLOSE_WAIT_MS);
        io_task_add(w->loop, &w->out);
    } else {
        io_timer_set(&w->timer, 0); /* our close frame is on its way already: there is nothing to wait for */
    }
}

static void stop(struct ws_conn *w) {
    io_timer_stop(&w->timer);
    io_task_cancel(&w->in);
    io_task_cancel(&w->out);
}

void ws_finish(struct ws_conn *w, uint16_t code, const char *reason) {
    assert(!w->over && w->busy > 0);
    w->over = true;
    stop(w);
    ws_kept_leave(w);
    /* A close frame that says what was wrong has to get past what the peer is still sending. */
    if (w->rx == WS_RX_DEAD && w->tx == WS_TX_SENT)
        io_conn_close_lingering(&w->io, WS_CLOSE_WAIT_MS);
    else
        io_conn_close(&w->io);
    w->ops->closed(w->ctx, code, ht_slice_str(reason), w->local);
}

void ws_finish_as_peer_said(struct ws_conn *w, const char *otherwise) {
    if (w->peer_code)
        ws_finish(w, w->peer_code, w->peer_reason);
    else
        ws_finish(w, WSLAY_CODE_ABNORMAL_CLOSURE, otherwise);
}

static void free_blocks(struct ws_conn *w) {
    ht_pool_put(io_loop_blocks(w->loop), w->block);
    w->block = NULL;
    ws_send_drop(w);
}

static void free_memory(struct ws_conn *w) {
    free_blocks(w);
    if (w->wslay)
        wslay_event_context_free(w->wslay);
    ht_free(w);
}

void ws_leave(struct ws_conn *w) {
    if (--w->busy > 0)
        return;
    if (w->destroyed)
        free_memory(w);
    else if (w->over)
        free_blocks(w);
}

void ws_conn_destroy(struct ws_conn **wp) {
    struct ws_conn *w = *wp;
    if (!w)
        return;
    *wp = NULL;
    stop(w);
    io_conn_close(&w->io);
    w->destroyed = true;
    ws_kept_leave(w);
    if (w->busy == 0)
        free_memory(w);
}

int ws_conn_unread(const struct ws_conn *w, struct ht_buf *rest) {
    const uint8_t *raw = w->block ? w->block : w->stash;
    bool between = !w->over && w->rx == WS_RX_OPEN && w->tx == WS_TX_OPEN && !w->in_message && w->busy == 0;
    if (!between || ws_conn_unsent(w) > 0 || ws_control_waits(w))
        return HT_EAGAIN;
    return ht_buf_append(rest, raw + w->raw_at, w->raw_end - w->raw_at);
}

struct io_conn *ws_conn_take(struct ws_conn **wp) {
    struct io_conn *io = (*wp)->io;
    io_conn_set_ops(io, NULL, NULL);
    io_conn_read_on(io, false);
    io_conn_want_write(io, false);
    (*wp)->io = NULL;
    ws_conn_destroy(wp);
    return io;
}

size_t ws_conn_unsent(const struct ws_conn *w) {
    size_t n = 0;
    for (unsigned i = w->seg_first; i < w->seg_end; i++)
        n += w->seg[i].n;
    return n;
}

struct io_conn *ws_conn_io(struct ws_conn *w) {
    return w->io;
}
