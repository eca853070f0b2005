/* A driver without a WebSocket library: it sends any bytes at all, and reads only when it is told to. */
#ifndef HT_TESTS_KIT_RAWWS_H
#define HT_TESTS_KIT_RAWWS_H

#include "peer.h"

#define WS_FIRST 0x02 /* of several fragments */
#define WS_MIDDLE 0x00
#define WS_LAST 0x80
#define WS_WHOLE 0x82
#define WS_PING 0x89
#define WS_CLOSE 0x88

/* Appends a WebSocket frame, masked with zeros (RFC 6455 5.3 wants a mask, not a good one). */
static inline void ws_put(struct ht_buf *b, uint8_t b0, const void *payload, size_t n) {
    uint8_t head[14] = {b0};
    size_t h = 2;
    if (n < 126) {
        head[1] = (uint8_t)(0x80 | n);
    } else if (n < 65536) {
        head[1] = 0x80 | 126;
        head[2] = (uint8_t)(n >> 8);
        head[3] = (uint8_t)n;
        h = 4;
    } else {
        head[1] = 0x80 | 127;
        for (int i = 0; i < 8; i++)
            head[2 + i] = (uint8_t)((uint64_t)n >> (8 * (7 - i)));
        h = 10;
    }
    if (ht_buf_append(b, head, h + 4) < 0 || (n && ht_buf_append(b, payload, n) < 0))
        abort();
}

/* Appends a frame of the tunnel's. */
static inline void frame_put(struct ht_buf *b, uint8_t type, uint32_t id, const void *payload, size_t n) {
    uint8_t head[WIRE_LIMIT_HEADER];
    wire_encode_header(head, type, id, (uint32_t)n);
    if (ht_buf_append(b, head, sizeof head) < 0 || (n && ht_buf_append(b, payload, n) < 0))
        abort();
}

/* One message that holds one frame. */
static inline void message_put(struct ht_buf *b, uint8_t type, uint32_t id, const void *payload, size_t n) {
    struct ht_buf frame = {0};
    frame_put(&frame, type, id, payload, n);
    ws_put(b, WS_WHOLE, ht_buf_head(&frame), ht_buf_size(&frame));
    ht_buf_free(&frame);
}

static inline void message_put_text(struct ht_buf *b, uint8_t type, uint32_t id, const char *json) {
    message_put(b, type, id, json, strlen(json));
}

/* Sends all of it while the kit runs, without reading a byte. False: the connection is over. */
static inline bool raw_push(struct raw *r, struct ht_buf *b) {
    uint64_t end = ht_now_ms() + PATIENCE_MS;
    while (ht_buf_size(b) > 0 && ht_now_ms() < end) {
        ssize_t n = send(r->fd, ht_buf_head(b), ht_buf_size(b), MSG_NOSIGNAL | MSG_DONTWAIT);
        if (n > 0)
            ht_buf_consume(b, (size_t)n);
        else if (errno != EAGAIN)
            break;
        one_turn();
    }
    bool all = ht_buf_size(b) == 0;
    ht_buf_consume(b, ht_buf_size(b));
    return all;
}

/* Connects and upgrades; the answer is read and forgotten. */
static inline void raw_upgrade(struct raw *r, const char *protocol) {
    char request[512];
    raw_connect(r, host.port);
    snprintf(request, sizeof request,
             "GET " WIRE_CONNECT_PATH " HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
             "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
             "Sec-WebSocket-Protocol: %s\r\n\r\n",
             protocol);
    raw_send(r, request);
    UNTIL(strstr(raw_text(r), "\r\n\r\n"));
    CU_ASSERT_EQUAL_FATAL(strncmp(raw_text(r), "HTTP/1.1 101 ", 13), 0);
    ht_buf_consume(&r->in, (size_t)(strstr(raw_text(r), "\r\n\r\n") + 4 - raw_text(r)));
}

/* The next WebSocket frame that came, taken off r->in: its first byte, or -1 while there is none. */
static inline int ws_next(struct raw *r, uint8_t *payload, size_t cap, size_t *n) {
    raw_read(r);
    const uint8_t *p = ht_buf_head(&r->in);
    size_t have = ht_buf_size(&r->in), h = 2;
    if (have < 2)
        return -1;
    uint64_t len = p[1] & 0x7f;
    unsigned ext = len == 126 ? 2 : len == 127 ? 8 : 0;
    if (have < h + ext)
        return -1;
    if (ext)
        len = 0;
    for (unsigned i = 0; i < ext; i++)
        len = len << 8 | p[h++];
    if (have < h + len)
        return -1;
    int b0 = p[0];
    *n = ht_min((size_t)len, cap);
    memcpy(payload, p + h, *n);
    ht_buf_consume(&r->in, h + (size_t)len);
    return b0;
}

/* Waits for the close frame behind whatever else comes; its code, 1005 when it has none, 0 when the socket just ends.
 */
static inline unsigned ws_close_code(struct raw *r) {
    static uint8_t payload[WIRE_LIMIT_MAX_MESSAGE];
    uint64_t end = ht_now_ms() + PATIENCE_MS;
    size_t n = 0;
    while (ht_now_ms() < end) {
        int b0 = ws_next(r, payload, sizeof payload, &n);
        if (b0 == WS_CLOSE)
            return n < 2 ? 1005 : (unsigned)(payload[0] << 8 | payload[1]);
        if (b0 < 0 && r->eof)
            return 0;
        if (b0 < 0)
            one_turn();
    }
    return 0;
}

#define HELLO_TEXT "{\"version\":\"hoody-tunnel.v1\"}"

/* Upgrade and HELLO; HELLO_OK is awaited at the kit, not read. */
static inline void raw_session_as(struct raw *r, const char *hello) {
    struct ht_buf b = {0};
    unsigned before = kit_sessions_live(host.kit);
    raw_upgrade(r, WIRE_SUBPROTOCOL_V1);
    message_put_text(&b, WIRE_HELLO, 0, hello);
    CU_ASSERT(raw_push(r, &b));
    ht_buf_free(&b);
    UNTIL(kit_sessions_live(host.kit) == before + 1);
}

static inline void raw_session(struct raw *r) { raw_session_as(r, HELLO_TEXT); }

#endif
