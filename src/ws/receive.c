/* Incoming frames (RFC 6455 section 5): parsed and unmasked in place. */
#include "ws/ws_priv.h"

#include <assert.h>

/* A block with less room than this behind its bytes is tidied before the next read. */
#define ROOM_SHORT (64u * 1024u)
/* As in send.c: short messages of bulk mean that small ones wait beside them. */
#define READ_PER_TURN (128u * 1024u)
#define READ_PER_TURN_LONG (512u * 1024u)

enum step { STEP_ON, STEP_MORE, STEP_STOP };

bool ws_receive_pending(const struct ws_conn *w) { return w->raw_at < w->raw_end; }

void ws_receive_drop(struct ws_conn *w) {
    w->msg_n = 0;
    w->msg_at = w->raw_at;
}

/* Gives a block to a connection that has none: what was in the stash goes to its front. */
static bool take_block(struct ws_conn *w) {
    if (w->block)
        return true;
    w->block = ht_pool_get(io_loop_blocks(w->loop));
    if (!w->block)
        return false;
    memcpy(w->block, w->stash, w->raw_end);
    return true;
}

/* Moves unconsumed payload and unparsed bytes to the block's front. */
static void tidy(struct ws_conn *w) {
    size_t raw_n = w->raw_end - w->raw_at;
    if (w->msg_n && w->msg_at)
        memmove(w->block, w->block + w->msg_at, w->msg_n);
    if (raw_n && w->raw_at != w->msg_n)
        memmove(w->block + w->msg_n, w->block + w->raw_at, raw_n);
    w->msg_at = 0;
    w->raw_at = w->msg_n;
    w->raw_end = w->msg_n + raw_n;
}

/* A connection with nothing, or next to nothing, waiting holds no block. */
static void release_block(struct ws_conn *w) {
    size_t left = w->msg_n + (w->raw_end - w->raw_at);
    if (!w->block || left > WS_STASH)
        return;
    tidy(w);
    memcpy(w->stash, w->block, left);
    ht_pool_put(io_loop_blocks(w->loop), w->block);
    w->block = NULL;
}

static bool make_room(struct ws_conn *w) {
    if (!take_block(w))
        return false;
    size_t left = w->msg_n + (w->raw_end - w->raw_at), room = IO_BLOCK - w->raw_end, gain = w->raw_end - left;
    /* Tidy when it moves less than it gains; at any price when the block is all but full. */
    if (room < ROOM_SHORT && gain > 0 && (gain >= left || room < 1024))
        tidy(w);
    return true;
}

int ws_receive_early(struct ws_conn *w, struct ht_slice early) {
    if (early.n == 0)
        return HT_OK;
    if (early.n > IO_BLOCK)
        return HT_ELIMIT;
    if (!take_block(w))
        return HT_ENOMEM;
    memcpy(w->block, early.p, early.n);
    w->raw_end = early.n;
    io_task_add(w->loop, &w->in);
    return HT_OK;
}

static enum step violation(struct ws_conn *w, uint16_t code, const char *text) {
    ws_fail(w, code, text);
    return STEP_STOP;
}

static void message_came(struct ws_conn *w) {
    w->in_message = false;
    if (w->short_way && ws_bulk_message(&w->bulk, w->message_size))
        io_conn_tunnel_window(w->io, w->bulk.window);
}

static enum step hand_up(struct ws_conn *w, bool end) {
    w->handed = true;
    ssize_t used = w->ops->message(w->ctx, w->block + w->msg_at, w->msg_n, end);
    if (w->destroyed)
        return STEP_STOP;
    if (end)
        message_came(w);
    if (w->rx != WS_RX_OPEN) /* closed by the owner; the rest is dropped */
        return STEP_ON;
    if (used < 0) {
        w->rx = WS_RX_DROP;
        ws_receive_drop(w);
        return STEP_ON;
    }
    assert((size_t)used <= w->msg_n);
    w->msg_at += (size_t)used;
    w->msg_n -= (size_t)used;
    if (end && w->msg_n) {
        w->msg_n = 0;
        return violation(w, WSLAY_CODE_PROTOCOL_ERROR, "a message ends in the middle of something");
    }
    return STEP_ON;
}

/* Puts the new payload block[raw_at..+n) and the unconsumed bytes next to each other, moving the smaller of the two.
 * Bytes that were consumed, which may be borrowed until fed(), lie in front of both and stay as they are. */
static void join(struct ws_conn *w, size_t n) {
    if (w->msg_n == 0) {
        w->msg_at = w->raw_at;
    } else if (w->msg_at + w->msg_n != w->raw_at) {
        if (n < w->msg_n) {
            memmove(w->block + w->msg_at + w->msg_n, w->block + w->raw_at, n);
        } else {
            memmove(w->block + w->raw_at - w->msg_n, w->block + w->msg_at, w->msg_n);
            w->msg_at = w->raw_at - w->msg_n;
        }
    }
    w->msg_n += n;
}

static enum step payload(struct ws_conn *w) {
    size_t n = w->raw_end - w->raw_at;
    if (n > w->frame_left)
        n = (size_t)w->frame_left;
    if (w->rx == WS_RX_OPEN) {
        if (w->server) {
            ws_mask(w->block + w->raw_at, n, w->mask, w->mask_at);
            w->mask_at = (uint8_t)((w->mask_at + n) & 3);
        }
        join(w, n);
    }
    w->raw_at += n;
    w->frame_left -= n;
    bool end = w->frame_left == 0 && w->fin;
    if (w->rx == WS_RX_OPEN)
        return hand_up(w, end);
    if (end)
        w->in_message = false;
    return STEP_ON;
}

/* The first two bytes say whether the frame may come at all. NULL, or what is wrong with *code set. */
static const char *check_start(const struct ws_conn *w, uint8_t b0, uint8_t b1, uint16_t *code) {
    uint8_t opcode = b0 & 0x0f;
    *code = WSLAY_CODE_PROTOCOL_ERROR;
    if (b0 & 0x70)
        return "reserved bits are set"; /* RFC 6455 5.2: no extension was agreed on */
    if (opcode > WSLAY_PONG || (opcode > WSLAY_BINARY_FRAME && opcode < WSLAY_CONNECTION_CLOSE))
        return "an unknown opcode";
    if (w->server && !(b1 & 0x80))
        return "a frame from a client must be masked"; /* RFC 6455 5.1 */
    if (!w->server && (b1 & 0x80))
        return "a frame from a server must not be masked";
    if (opcode >= WSLAY_CONNECTION_CLOSE) { /* RFC 6455 5.5 */
        if (!(b0 & 0x80))
            return "a control frame is fragmented";
        if ((b1 & 0x7f) > WS_CONTROL_MAX)
            return "a control frame is longer than 125 bytes";
        if (opcode == WSLAY_CONNECTION_CLOSE && (b1 & 0x7f) == 1) /* RFC 6455 5.5.1; wslay lets it pass */
            return "a close frame with half of a close code";
        return NULL;
    }
    if (opcode == WSLAY_CONTINUATION_FRAME && !w->in_message) /* RFC 6455 5.4 */
        return "a continuation frame with nothing to continue";
    if (opcode != WSLAY_CONTINUATION_FRAME && w->in_message)
        return "a new message inside a fragmented one";
    if (opcode == WSLAY_TEXT_FRAME && w->rx == WS_RX_OPEN && !w->text) {
        *code = WSLAY_CODE_UNSUPPORTED_DATA;
        return "text messages are not taken here";
    }
    return NULL;
}

/* RFC 6455 5.2: the shortest form must be used, and the top bit of the longest must be 0. */
static bool read_length(const uint8_t *p, uint64_t *len) {
    uint8_t short_len = p[1] & 0x7f;
    if (short_len < 126) {
        *len = short_len;
        return true;
    }
    unsigned bytes = short_len == 126 ? 2 : 8;
    uint64_t v = 0;
    for (unsigned i = 0; i < bytes; i++)
        v = v << 8 | p[2 + i];
    *len = v;
    return bytes == 2 ? v > 125 : v > 0xffff && v >> 63 == 0;
}

static enum step data_frame(struct ws_conn *w, uint8_t opcode, uint64_t len) {
    if (opcode != WSLAY_CONTINUATION_FRAME) {
        w->in_message = true;
        w->message_size = 0;
        w->fragments = 0;
        w->msg_n = 0;
    }
    w->frame_left = len;
    if (w->rx == WS_RX_OPEN) {
        if (++w->fragments > w->limits.max_fragments)
            return violation(w, WSLAY_CODE_POLICY_VIOLATION, "a message has too many fragments");
        if (w->message_size > w->limits.max_message || len > w->limits.max_message - w->message_size)
            return violation(w, WSLAY_CODE_MESSAGE_TOO_BIG, "a message is too big");
        w->message_size += (size_t)len;
        if (w->msg_n == 0)
            w->msg_at = w->raw_at;
        if (len == 0 && w->fin)
            return hand_up(w, true);
    } else if (len == 0 && w->fin) {
        w->in_message = false;
    }
    return STEP_ON;
}

static enum step header(struct ws_conn *w) {
    const uint8_t *p = w->block + w->raw_at;
    size_t have = w->raw_end - w->raw_at;
    uint16_t code;
    if (have < 2)
        return STEP_MORE;
    const char *wrong = check_start(w, p[0], p[1], &code);
    if (wrong)
        return violation(w, code, wrong);
    uint8_t opcode = p[0] & 0x0f, short_len = p[1] & 0x7f;
    size_t need = 2u + (short_len == 126 ? 2u : short_len == 127 ? 8u : 0u) + (w->server ? 4u : 0u);
    if (have < need)
        return STEP_MORE;
    uint64_t len;
    if (!read_length(p, &len))
        return violation(w, WSLAY_CODE_PROTOCOL_ERROR, "a frame's length is not in its shortest form");
    if (opcode >= WSLAY_CONNECTION_CLOSE) {
        if (have < need + len)
            return STEP_MORE;
        w->raw_at += need + len;
        ws_control_received(w, w->block + w->raw_at - need - len, need + len, opcode);
        return w->rx == WS_RX_OPEN || w->rx == WS_RX_DROP ? STEP_ON : STEP_STOP;
    }
    if (w->server)
        memcpy(w->mask, p + need - 4, 4);
    w->mask_at = 0;
    w->fin = p[0] & 0x80;
    w->raw_at += need;
    return data_frame(w, opcode, len);
}

/* Parses what is in the block, as far as it goes. */
static void parse(struct ws_conn *w) {
    /* RFC 6455 1.4: what follows the peer's close frame is discarded. */
    enum step s = w->rx == WS_RX_DONE || w->rx == WS_RX_DEAD ? STEP_STOP : STEP_ON;
    while (s == STEP_ON && !w->paused && w->raw_at < w->raw_end)
        s = w->frame_left ? payload(w) : header(w);
    if (w->destroyed)
        return;
    if (w->rx == WS_RX_DONE || w->rx == WS_RX_DEAD) {
        w->raw_at = w->raw_end = w->msg_at = w->msg_n = 0;
    }
    if (w->handed) {
        w->handed = false;
        w->ops->fed(w->ctx);
    }
}

static void input_ended(struct ws_conn *w, int err) {
    w->rx = WS_RX_DONE;
    ws_finish_as_peer_said(w, err == HT_EOF ? "the connection ended without a close frame" : ht_err_text(err));
}

static void on_readable(void *ctx) {
    struct ws_conn *w = ctx;
    size_t total = 0;
    ws_enter(w);
    if (ht_list_linked(&w->in.node) && take_block(w)) { /* what came earlier goes before the end of the input */
        io_task_cancel(&w->in);
        parse(w);
        if (w->destroyed || w->over) {
            ws_leave(w);
            return;
        }
    }
    while (total < (w->message_size > WS_LONG_MESSAGE ? READ_PER_TURN_LONG : READ_PER_TURN) && !w->paused &&
           w->rx != WS_RX_DEAD) {
        if (!make_room(w)) {
            ws_finish(w, WSLAY_CODE_ABNORMAL_CLOSURE, ht_err_text(HT_ENOMEM));
            break;
        }
        size_t room = IO_BLOCK - w->raw_end;
        if (room == 0) {
            ws_fail(w, WSLAY_CODE_MESSAGE_TOO_BIG, "a message is too big");
            break;
        }
        ssize_t n = io_conn_read(w->io, w->block + w->raw_end, room);
        if (n == HT_EAGAIN)
            break;
        if (n < 0) {
            input_ended(w, (int)n);
            break;
        }
        w->raw_end += (size_t)n;
        total += (size_t)n;
        parse(w);
        if (w->destroyed || w->over || (size_t)n < room) /* fewer than asked for: the kernel has no more */
            break;
    }
    if (!w->destroyed && !w->over)
        release_block(w);
    ws_leave(w);
}

void ws_on_in(struct io_task *t) {
    struct ws_conn *w = ht_container_of(t, struct ws_conn, in);
    if (w->over || w->paused || !take_block(w)) /* without memory: with the next bytes that come */
        return;
    ws_enter(w);
    parse(w);
    if (!w->destroyed && !w->over)
        release_block(w);
    ws_leave(w);
}

const struct io_conn_ops ws_io_ops = {on_readable, ws_on_writable};
