/* Control frames and the closing handshake, by wslay. Data frames never come here. */
#include "ws/ws_priv.h"

#include "base/utf8.h"

#include <assert.h>

static ssize_t wslay_reads(wslay_event_context_ptr ctx, uint8_t *buf, size_t len, int flags, void *user) {
    (void)flags;
    struct ws_conn *w = user;
    size_t n = ht_min(len, w->feed.n);
    if (n == 0) {
        wslay_event_set_error(ctx, WSLAY_ERR_WOULDBLOCK);
        return -1;
    }
    memcpy(buf, w->feed.p, n);
    w->feed.p += n;
    w->feed.n -= n;
    return (ssize_t)n;
}

static ssize_t wslay_writes(wslay_event_context_ptr ctx, const uint8_t *data, size_t len, int flags, void *user) {
    (void)ctx;
    (void)flags;
    struct ws_conn *w = user;
    assert(IO_BLOCK - w->send_end >= len);
    memcpy(w->send_block + w->send_end, data, len);
    w->send_end += len;
    return (ssize_t)len;
}

static int wslay_wants_mask(wslay_event_context_ptr ctx, uint8_t *buf, size_t len, void *user) {
    (void)ctx;
    uint8_t m[4];
    assert(len == sizeof m);
    ws_next_mask(user, m);
    memcpy(buf, m, len);
    return 0;
}

static void on_control(wslay_event_context_ptr ctx, const struct wslay_event_on_msg_recv_arg *arg, void *user) {
    (void)ctx;
    struct ws_conn *w = user;
    if (arg->opcode != WSLAY_CONNECTION_CLOSE || arg->msg_length < 2)
        return;
    size_t n = ht_min(arg->msg_length - 2, WS_REASON_MAX);
    for (size_t i = 0; i < n; i++) {
        uint8_t c = arg->msg[2 + i];
        w->peer_reason[i] = (char)(c < 0x20 || c == 0x7f ? '?' : c);
    }
    w->peer_reason[n] = '\0';
}

int ws_control_init(struct ws_conn *w) {
    static const struct wslay_event_callbacks callbacks = {
        .recv_callback = wslay_reads,
        .send_callback = wslay_writes,
        .genmask_callback = wslay_wants_mask,
        .on_msg_recv_callback = on_control,
    };
    int rc = w->server ? wslay_event_context_server_init(&w->wslay, &callbacks, w)
                       : wslay_event_context_client_init(&w->wslay, &callbacks, w);
    if (rc != 0) {
        w->wslay = NULL;
        return HT_ENOMEM;
    }
    /* Data never reaches wslay; should a frame slip through, it is not collected in memory. */
    wslay_event_config_set_no_buffering(w->wslay, 1);
    wslay_event_config_set_max_recv_msg_length(w->wslay, WS_CONTROL_MAX);
    return HT_OK;
}

static int feed(struct ws_conn *w, const uint8_t *frame, size_t n) {
    w->feed = ht_slice_of(frame, n);
    int rc = wslay_event_recv(w->wslay);
    w->feed = ht_slice_of(NULL, 0);
    return rc;
}

/* Whether a close frame's payload, which is still masked when a client sent it, has UTF-8 behind its code. */
static bool reason_is_text(const struct ws_conn *w, const uint8_t *payload, size_t len) {
    uint8_t copy[WS_CONTROL_MAX];
    memcpy(copy, payload, len);
    if (w->server)
        ws_mask(copy, len, payload - 4, 0);
    return ht_utf8_valid(copy + 2, len - 2);
}

/*
 * 1012 to 1014 were registered after RFC 6455 and wslay takes them for errors. Such a close frame is shown to wslay
 * with 1000 instead, behind an answer that echoes the real code. Returns that, or 0.
 */
static uint16_t disguise_newer_code(struct ws_conn *w, uint8_t *frame, size_t n) {
    size_t len = frame[1] & 0x7f, at = n - len;
    if (len < 2)
        return 0;
    uint8_t hi = frame[at], lo = frame[at + 1];
    if (w->server) {
        hi ^= frame[at - 4];
        lo ^= frame[at - 3];
    }
    uint16_t code = (uint16_t)(hi << 8 | lo), change = code ^ WSLAY_CODE_NORMAL_CLOSURE;
    if (code < 1012 || code > 1014 || !reason_is_text(w, frame + at, len))
        return 0;
    frame[at] ^= (uint8_t)(change >> 8); /* the same through any mask */
    frame[at + 1] ^= (uint8_t)change;
    wslay_event_queue_close(w->wslay, code, NULL, 0);
    return code;
}

static void close_received(struct ws_conn *w, uint8_t *frame, size_t n) {
    uint16_t newer = disguise_newer_code(w, frame, n);
    int rc = feed(w, frame, n);
    if (rc != 0) {
        ws_fail(w, WSLAY_CODE_INTERNAL_SERVER_ERROR, "a close frame could not be handled");
        return;
    }
    if (!wslay_event_get_close_received(w->wslay)) {
        /* wslay found the frame bad and has queued the close frame that says so. */
        ws_fail(w, 0, "a bad close frame");
        return;
    }
    w->peer_code = newer ? newer : wslay_event_get_status_code_received(w->wslay);
    ws_receive_drop(w);
    w->rx = WS_RX_DONE;
    if (w->tx == WS_TX_OPEN || w->tx == WS_TX_DRAIN)
        w->tx = WS_TX_CLOSE; /* wslay has queued the answer; what was to be sent has lost its reader */
    io_timer_set(&w->timer, WS_CLOSE_WAIT_MS);
    io_task_add(w->loop, &w->out);
}

void ws_control_received(struct ws_conn *w, uint8_t *frame, size_t n, uint8_t opcode) {
    switch (opcode) {
    case WSLAY_PING:
        /*
         * RFC 6455 5.5.3: only the latest of several needs an answer. wslay would keep every one, 64 bytes of heap each
         * (hardening case 11), so it sees a PING only when the PONG can leave.
         */
        if (w->tx <= WS_TX_DRAIN) {
            memcpy(w->ping, frame, n);
            w->ping_n = n;
            w->ping_pending = true;
            io_task_add(w->loop, &w->out);
        }
        break;
    case WSLAY_CONNECTION_CLOSE:
        close_received(w, frame, n);
        break;
    default: /* PONG: that it came is all it says */
        break;
    }
}

void ws_conn_ping(struct ws_conn *w) {
    static const struct wslay_event_msg ping = {.opcode = WSLAY_PING};
    if (w->tx != WS_TX_OPEN || w->over || wslay_event_want_write(w->wslay))
        return; /* one that waits already does as well */
    if (wslay_event_queue_msg(w->wslay, &ping) == 0)
        io_task_add(w->loop, &w->out);
}

bool ws_control_waits(const struct ws_conn *w) {
    return w->ping_pending || w->tx == WS_TX_CLOSE || wslay_event_want_write(w->wslay);
}

void ws_control_write(struct ws_conn *w) {
    if (w->ping_pending && w->tx <= WS_TX_DRAIN && feed(w, w->ping, w->ping_n) != 0)
        w->tx = WS_TX_CLOSE;
    w->ping_pending = false;
    size_t begin = w->send_end;
    /* Our callback takes everything, so nothing stays behind; an error leaves a hole where the frame would be. */
    if (wslay_event_want_write(w->wslay) && wslay_event_send(w->wslay) != 0)
        w->send_end = begin;
    if (w->send_end > begin)
        ws_add_segment(w, begin, w->send_end - begin);
    if (w->tx == WS_TX_CLOSE)
        w->tx = WS_TX_SENT;
}
