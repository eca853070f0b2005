/* Outgoing frames: messages are built in the block from which they are sent, several with one system call. */
#include "base/clock.h"
#include "ws/ws_priv.h"

#include <assert.h>

/* A message that would have less room than this waits for the next block. */
#define ROOM_MIN (8u * 1024u)
/* One connection sends no more in a turn, so that the others get theirs. Long messages mean that nobody waits for a
 * small one (mux sees to that): then fewer turns cost less. */
#define SENT_PER_TURN (128u * 1024u)
#define SENT_PER_TURN_LONG (1024u * 1024u)

void ws_next_mask(struct ws_conn *w, uint8_t out[4]) {
    if (w->masks_left < 4) {
        ht_random_bytes(w->masks, sizeof w->masks);
        w->masks_left = sizeof w->masks;
    }
    w->masks_left -= 4;
    memcpy(out, w->masks + w->masks_left, 4);
}

static size_t length_bytes(size_t n) { return n < 126 ? 0 : n < 65536 ? 2 : 8; }

size_t ws_frame_start(uint8_t *h, uint8_t opcode, bool masked, size_t n) {
    size_t ext = length_bytes(n);
    h[0] = 0x80 | opcode;
    h[1] = (uint8_t)((masked ? 0x80 : 0) | (ext == 0 ? n : ext == 2 ? 126 : 127));
    for (size_t i = 0; i < ext; i++)
        h[2 + i] = (uint8_t)((uint64_t)n >> (8 * (ext - 1 - i)));
    return 2 + ext;
}

size_t ws_frame(struct ws_conn *w, uint8_t *p, size_t n) {
    size_t header = 2 + length_bytes(n) + (w->server ? 0 : 4);
    uint8_t *h = p - header;
    size_t at = ws_frame_start(h, w->text ? WSLAY_TEXT_FRAME : WSLAY_BINARY_FRAME, !w->server, n);
    if (!w->server) {
        ws_next_mask(w, h + at);
        ws_mask(p, n, h + at, 0);
    }
    w->sends_long = n > WS_LONG_MESSAGE;
    return header;
}

int ws_frame_of_client(struct ht_buf *out, const uint8_t *p, size_t n) {
    uint8_t h[WS_HEADER_MAX] = {0};
    size_t at = ws_frame_start(h, WSLAY_BINARY_FRAME, true, n);
    return ht_buf_append(out, h, at + 4) < 0 || ht_buf_append(out, p, n) < 0 ? HT_ENOMEM : HT_OK;
}

static void pull_messages(struct ws_conn *w) {
    while (w->seg_end < WS_SEGMENTS && w->send_end < WS_ENOUGH && IO_BLOCK - w->send_end >= WS_HEADER_MAX + ROOM_MIN) {
        size_t at = w->send_end + WS_HEADER_MAX, cap = ht_min(IO_BLOCK - at, w->limits.max_pull);
        size_t n = w->ops->pull(w->ctx, w->send_block + at, cap);
        if (w->destroyed || n == 0)
            return;
        assert(n <= cap);
        size_t header = ws_frame(w, w->send_block + at, n);
        w->send_end = at + n;
        ws_add_segment(w, at - header, header + n);
        if (w->kept) /* since this pull() */
            return;
    }
}

void ws_send_drop(struct ws_conn *w) {
    ht_pool_put(io_loop_blocks(w->loop), w->send_block);
    w->send_block = NULL;
    w->send_end = 0;
    w->seg_first = w->seg_end = 0;
    if (w->kept)
        ws_kept_written(w->kept);
}

/* PONG and CLOSE go ahead of everything that was not built yet. False: out of memory. */
static bool put_controls(struct ws_conn *w) {
    if (!w->send_block && ws_control_waits(w))
        w->send_block = ht_pool_get(io_loop_blocks(w->loop));
    if (!w->send_block)
        return !ws_control_waits(w);
    ws_control_write(w);
    return true;
}

static int fill_open(struct ws_conn *w) {
    if (w->silent)
        return HT_OK;
    if (w->kept)
        return ws_kept_fill(w);
    pull_messages(w);
    return HT_OK;
}

/* Fills an empty block. > 0: there is something to send. 0: nothing, or the connection is gone. HT_ENOMEM. */
static int fill(struct ws_conn *w) {
    if (w->kept)
        ws_send_drop(w);
    else if (!w->send_block && !(w->send_block = ht_pool_get(io_loop_blocks(w->loop))))
        return HT_ENOMEM;
    w->send_end = 0;
    w->seg_first = w->seg_end = 0;
    if (!put_controls(w))
        return HT_ENOMEM;
    if (w->tx == WS_TX_OPEN || w->tx == WS_TX_DRAIN) {
        if (fill_open(w) != HT_OK)
            return HT_ENOMEM;
        if (w->destroyed)
            return 0;
        if (w->seg_end == 0 && w->tx == WS_TX_DRAIN) {
            wslay_event_queue_close(w->wslay, w->close_code, (const uint8_t *)w->close_reason, strlen(w->close_reason));
            w->tx = WS_TX_CLOSE;
            if (!put_controls(w))
                return HT_ENOMEM;
        }
    }
    return w->seg_end > 0;
}

/* Bytes that left the block, or an error. */
static ssize_t write_block(struct ws_conn *w) {
    struct iovec iov[WS_SEGMENTS];
    int count = 0;
    for (unsigned i = w->seg_first; i < w->seg_end; i++)
        iov[count++] = (struct iovec){.iov_base = ws_segment(w, i), .iov_len = w->seg[i].n};
    ssize_t n = io_conn_write(w->io, iov, count);
    for (size_t left = n > 0 ? (size_t)n : 0; left > 0;) {
        size_t part = ht_min(left, w->seg[w->seg_first].n);
        w->seg[w->seg_first].at += (uint32_t)part;
        w->seg[w->seg_first].n -= (uint32_t)part;
        w->seg_first += w->seg[w->seg_first].n == 0;
        left -= part;
    }
    return n;
}

static void wait_for_room(struct ws_conn *w) {
    w->blocked = true;
    io_conn_want_write(w->io, true);
}

/* Nothing gets out any more, but what the peer has sent before it went, a close frame perhaps, is still to be read. */
static void output_failed(struct ws_conn *w, int err) {
    enum ws_tx had = w->tx;
    w->tx = WS_TX_DEAD;
    ws_send_drop(w);
    if (w->rx == WS_RX_DEAD || w->rx == WS_RX_DONE || had == WS_TX_SENT) {
        ws_finish_as_peer_said(w, w->failure ? w->failure : ht_err_text(err));
        return;
    }
    if (w->paused) {
        w->paused = false;
        w->rx = WS_RX_DROP;
        ws_receive_drop(w);
        io_task_add(w->loop, &w->in);
    }
    io_conn_read_on(w->io, true);
    io_timer_set(&w->timer, WS_CLOSE_WAIT_MS);
}

/* Our close frame has left us. */
static void close_is_out(struct ws_conn *w) {
    ws_send_drop(w);
    if (w->rx == WS_RX_DEAD)
        ws_finish(w, WSLAY_CODE_ABNORMAL_CLOSURE, w->failure);
    else if (w->rx == WS_RX_DONE && w->server) /* RFC 6455 7.1.1: the server closes first */
        ws_finish_as_peer_said(w, "");
    else
        io_timer_set(&w->timer, WS_CLOSE_WAIT_MS);
}

static void flush(struct ws_conn *w) {
    for (size_t sent = 0;;) {
        if (w->seg_first < w->seg_end) {
            ssize_t n = write_block(w);
            if (n < 0 && n != HT_EAGAIN) {
                output_failed(w, (int)n);
                return;
            }
            if (n > 0 && w->tx != WS_TX_OPEN)
                io_timer_set(&w->timer, WS_CLOSE_WAIT_MS); /* the drain goes on */
            if (w->seg_first < w->seg_end) {
                wait_for_room(w);
                return;
            }
            sent += (size_t)n;
        }
        if (w->tx == WS_TX_SENT) {
            close_is_out(w);
            return;
        }
        if (sent >= (w->sends_long ? SENT_PER_TURN_LONG : SENT_PER_TURN)) {
            ws_send_drop(w);
            wait_for_room(w); /* there is room; it brings us back in the next turn */
            return;
        }
        int filled = fill(w);
        if (filled == HT_ENOMEM) {
            ws_finish(w, WSLAY_CODE_ABNORMAL_CLOSURE, ht_err_text(HT_ENOMEM));
            return;
        }
        if (filled == 0) {
            if (!w->destroyed)
                ws_send_drop(w);
            return;
        }
    }
}

void ws_on_out(struct io_task *t) {
    struct ws_conn *w = ht_container_of(t, struct ws_conn, out);
    /* One round later than asked for: what the turn's other tasks have to send then goes along. */
    if (!w->put_off) {
        w->put_off = true;
        io_task_add(w->loop, &w->out);
        return;
    }
    w->put_off = false;
    if (w->over || w->blocked || w->tx == WS_TX_DEAD)
        return;
    ws_enter(w);
    flush(w);
    ws_leave(w);
}

void ws_on_writable(void *ctx) {
    struct ws_conn *w = ctx;
    w->blocked = false;
    io_conn_want_write(w->io, false);
    io_task_add(w->loop, &w->out);
}
