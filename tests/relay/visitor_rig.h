/* One exposed port, its driver played by hand, and visitors that say what the test says. */
#ifndef HT_TESTS_RELAY_VISITOR_RIG_H
#define HT_TESTS_RELAY_VISITOR_RIG_H

#include "relay/kit_rig.h"

static struct driver d;
static uint16_t port;

static inline void begin_with(uint64_t half_close_ms, uint64_t response_ms) {
    rig_start();
    rig.cfg.half_close_timeout_ms = half_close_ms;
    rig.cfg.response_timeout_ms = response_ms;
    rig_table();
    drv_start(&d);
    port = rig_expose(&d);
}

static inline void begin(void) { begin_with(30000, 300000); }

static inline void end(void) {
    CU_ASSERT_EQUAL(relay_count_visitors(rig.table), 0);
    CU_ASSERT_EQUAL(mux_session_streams(d.s), 0);
    drv_stop(&d);
    rig_stop();
}

/* In a hurry: a RST, which is noticed at once. */
static inline void leave_soon(struct visitor *v) {
    setsockopt(v->fd, SOL_SOCKET, SO_LINGER, &(struct linger){.l_onoff = 1}, sizeof(struct linger));
    vis_close(v);
}

static inline void leave(struct visitor *v) {
    leave_soon(v);
    UNTIL(relay_count_visitors(rig.table) == 0);
}

static inline struct played_stream *opened(unsigned n) {
    UNTIL(d.n_streams >= n);
    return &d.streams[n - 1];
}

static inline void expect_open(const struct played_stream *st, const struct visitor *v, const char *method_to_headers,
                               bool upgrade, const char *version) {
    char want[4096];
    snprintf(want, sizeof want,
             "{\"kind\":\"http\",\"bindId\":1,%s,\"isUpgrade\":%s,\"containerPort\":%u,\"peerAddr\":\"%s\","
             "\"httpVersion\":\"%s\"}",
             method_to_headers, upgrade ? "true" : "false", port, v->addr, version);
    if (strcmp(st->open, want) != 0)
        printf("# expected %s\n# got      %s\n", want, st->open);
    CU_ASSERT_STRING_EQUAL(st->open, want);
}

#define GET "GET / HTTP/1.1\r\nHost: a\r\n\r\n"
#define POST "POST / HTTP/1.1\r\nHost: a\r\n"
#define OK_X "HTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\nx"
#define OK_X_CLOSE "HTTP/1.1 200 OK\r\ncontent-length: 1\r\nconnection: close\r\n\r\nx"

static inline void answer_x(unsigned n) {
    struct played_stream *st = opened(n);
    drv_head(&d, st->id, 200, "content-length: 1");
    drv_text(&d, st->id, "x");
    drv_eof(&d, st->id);
    drv_send(&d);
}

/* The same once the whole request is there: an early answer would end the connection. */
static inline void answer_x_to_all(unsigned n) {
    UNTIL(opened(n)->eofs == 1);
    answer_x(n);
}

#define BAD_GATEWAY ANSWER("502 Bad Gateway", "", "38", "the local service gave no valid answer")
#define DRIVER_ERROR ANSWER("502 Bad Gateway", "", "46", "the client of this tunnel gave no valid answer")
#define LINK_LOST                                                                                                      \
    ANSWER("503 Service Unavailable", "retry-after: 5\r\n", "69",                                                      \
           "the link to the client of this tunnel was lost before the answer came")
#define BAD_REQUEST ANSWER("400 Bad Request", CLOSE, "11", "bad request")

#define UPGRADE                                                                                                        \
    "GET /ws HTTP/1.1\r\nHost: a\r\nConnection: keep-alive, Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: k\r\n" \
    "Sec-WebSocket-Version: 13\r\n\r\n"

#endif
