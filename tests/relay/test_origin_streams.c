/* The origin: request bodies, flow control both ways, early ends, upgrades and raw connections. */
#include "relay/origin_rig.h"
#include "support/ports.h"

#define OK_HELLO "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"
#define MIB 1048576u

static char *pattern(size_t n) {
    char *p = malloc(n);
    CU_ASSERT_PTR_NOT_NULL_FATAL(p);
    for (size_t i = 0; i < n; i++)
        p[i] = (char)(i * 31 + i / 251);
    return p;
}

static struct call *call_post(const char *length, const char *body, bool eof) {
    struct wire_header h[2] = {H("host", "a"), {ht_slice_str("content-length"), ht_slice_str(length)}};
    return call_http("POST", "/", h, 2, body, eof);
}

static struct call *call_chunked(const char *body, bool eof) {
    return call_http("POST", "/", HEADERS(H("host", "a"), H("transfer-encoding", "chunked")), 2, body, eof);
}

/* ---- request bodies ---- */

static void a_counted_body(void) {
    rig_go();
    struct call *c = call_post("10", "01234", false);
    struct service_conn *s = service_wait(0, "01234");
    CU_ASSERT_STRING_EQUAL(service_heard(s), "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 10\r\n\r\n01234");
    call_sends(c, "56789", 5, true);
    service_wait(0, "0123456789");
    service_says(s, OK_HELLO);
    UNTIL(c->closes);
    CU_ASSERT_EQUAL(c->reset, -1);
    CU_ASSERT_EQUAL(relay_target_idle(rig.target), 1);
    UNTIL(rig.finished == 1);
    CU_ASSERT_EQUAL(rig.last.bytes_in, 10);
    rig_stop();
}

static void a_chunked_body_is_chunked_anew(void) {
    rig_go();
    struct call *c = call_chunked("first", false);
    struct service_conn *s = service_wait(0, "first");
    CU_ASSERT_STRING_EQUAL(service_heard(s),
                           "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n5\r\nfirst\r\n");
    service_forget(s);
    call_sends(c, "0123456789abcdef", 16, true);
    service_wait(0, "0\r\n\r\n");
    CU_ASSERT_STRING_EQUAL(service_heard(s), "10\r\n0123456789abcdef\r\n0\r\n\r\n");
    service_says(s, OK_HELLO);
    UNTIL(c->closes);
    CU_ASSERT_EQUAL(relay_target_idle(rig.target), 1);
    rig_stop();
}

static void an_empty_chunked_body(void) {
    rig_go();
    struct call *c = call_chunked("", true);
    struct service_conn *s = service_wait(0, "0\r\n\r\n");
    service_says(s, OK_HELLO);
    UNTIL(c->closes);
    CU_ASSERT_EQUAL(c->reset, -1);
    rig_stop();
}

static void bodies_against_their_framing_are_refused(void) {
    rig_go();
    struct call *calls[] = {
        call_post("3", "four", true),
        call_post("5", "four", true),
        call_http("POST", "/", HEADERS(H("host", "a")), 1, "unasked", true),
        call_http("POST", "/", HEADERS(H("host", "a"), H("content-length", "1"), H("content-length", "1")), 3, "x",
                  true),
        call_http("POST", "/", HEADERS(H("content-length", "1"), H("transfer-encoding", "chunked")), 2, "x", true),
        call_http("POST", "/", HEADERS(H("transfer-encoding", "gzip, chunked")), 1, "x", true),
        call_http("POST", "/", HEADERS(H("content-length", "0x1")), 1, "x", true),
        call_http("GET", "/", HEADERS(H("upgrade", "x"), H("connection", "upgrade"), H("transfer-encoding", "chunked")),
                  3, "x", true),
        call_http("POST", "/", HEADERS(H("upgrade", "x"), H("connection", "upgrade"), H("content-length", "1")), 3,
                  "xy", true),
        call_http("GET", "/", HEADERS(H("x", "a\r\nb: c")), 1, "", true),
        call_http("GET", "/ HTTP/1.1\r\nx: y", NULL, 0, "", true),
    };
    for (size_t i = 0; i < HT_ARRAY_LEN(calls); i++) {
        UNTIL(calls[i]->closes);
        CU_ASSERT_EQUAL(calls[i]->reset, WIRE_CODE_PROTOCOL_ERROR);
    }
    settle();
    for (unsigned i = 0; i < rig.n_conns; i++)
        CU_ASSERT(strncmp(service_heard(&rig.conns[i]), "GET", 3) != 0);
    rig_stop();
}

/* ---- flow control ---- */

static void a_slow_service_stops_its_stream_only(void) {
    enum { SIZE = 12 * MIB };
    char *body = pattern(SIZE);
    rig_go();
    struct call *c = call_post("12582912", "", false);
    struct service_conn *s = service_wait(0, "\r\n\r\n");
    service_forget(s);
    io_conn_read_on(s->c, false);
    call_sends(c, body, SIZE, true);
    size_t last = 0;
    do { /* until nothing moves any more */
        last = ht_buf_size(&c->send);
        settle();
    } while (last != ht_buf_size(&c->send));
    CU_ASSERT(last > SIZE / 4);
    struct call *other = call_get("/other");
    service_says(service_wait(1, "/other"), OK_HELLO);
    UNTIL(other->closes);
    io_conn_read_on(s->c, true);
    UNTIL(ht_buf_size(&s->in) == SIZE);
    CU_ASSERT_EQUAL(memcmp(ht_buf_head(&s->in), body, SIZE), 0);
    service_says(s, OK_HELLO);
    UNTIL(c->closes);
    CU_ASSERT_EQUAL(c->reset, -1);
    /* The other one may have been closed for the slow one: nothing tells that the service serves both. */
    CU_ASSERT(relay_target_idle(rig.target) >= 1);
    free(body);
    rig_stop();
}

static void many_chunks_to_a_slow_service(void) {
    enum { PIECE = 1500, PIECES = 2000 };
    char *body = pattern(PIECE * PIECES);
    rig_go();
    struct call *c = call_chunked("", false);
    struct service_conn *s = service_wait(0, "\r\n\r\n");
    service_forget(s);
    io_conn_read_on(s->c, false);
    for (size_t i = 0; i < PIECES; i++) {
        call_sends(c, body + i * PIECE, PIECE, i == PIECES - 1);
        if (i % 3 == 0)
            io_loop_turn(rig.loop, false);
    }
    settle();
    io_conn_read_on(s->c, true);
    UNTIL(ht_buf_size(&s->in) > 5 && memcmp(s->in.data + s->in.len - 5, "0\r\n\r\n", 5) == 0);
    struct http_chunked dec = {0};
    size_t n = ht_buf_size(&s->in), used;
    struct http_error e;
    CU_ASSERT_EQUAL(http_chunked_decode(&dec, (char *)ht_buf_head(&s->in), &n, &used, &e), 0);
    CU_ASSERT(dec.done);
    CU_ASSERT_EQUAL_FATAL(n, PIECE * PIECES);
    CU_ASSERT_EQUAL(memcmp(ht_buf_head(&s->in), body, n), 0);
    service_says(s, OK_HELLO);
    UNTIL(c->closes);
    free(body);
    rig_stop();
}

static void a_slow_visitor_stops_its_stream_only(void) {
    enum { SIZE = 12 * MIB };
    char *body = pattern(SIZE);
    size_t at = 0;
    rig_go();
    struct call *c = call_get("/big");
    c->keep = true;
    struct service_conn *s = service_wait(0, "\r\n\r\n");
    service_says(s, "HTTP/1.1 200 OK\r\nContent-Length: 12582912\r\n\r\n");
    for (int quiet = 0; quiet < 50;) { /* until the sockets between are full */
        struct iovec v = {.iov_base = body + at, .iov_len = SIZE - at};
        ssize_t n = at < SIZE ? io_conn_write(s->c, &v, 1) : HT_EAGAIN;
        at += n > 0 ? (size_t)n : 0;
        quiet = n > 0 ? 0 : quiet + 1;
        one_turn();
    }
    CU_ASSERT_EQUAL(c->received, WIRE_LIMIT_STREAM_WINDOW);
    struct call *other = call_get("/other");
    service_says(service_wait(1, "/other"), OK_HELLO);
    UNTIL(other->closes);
    c->keep = false;
    mux_stream_consumed(c->st, mux_stream_unconsumed(c->st));
    service_bytes(s, body + at, SIZE - at);
    UNTIL(c->closes);
    CU_ASSERT_EQUAL_FATAL(c->received, SIZE);
    CU_ASSERT_EQUAL(memcmp(ht_buf_head(&c->body), body, SIZE), 0);
    CU_ASSERT_EQUAL(c->eofs, 1);
    free(body);
    rig_stop();
}

static void a_large_chunked_answer(void) {
    enum { SIZE = 3 * MIB, PIECE = 70001 };
    char *body = pattern(SIZE), head[32];
    rig_go();
    struct call *c = call_get("/big");
    struct service_conn *s = service_wait(0, "\r\n\r\n");
    service_says(s, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
    for (size_t at = 0; at < SIZE; at += PIECE) {
        size_t n = ht_min(PIECE, SIZE - at);
        service_bytes(s, head, http_chunk_head(head, n));
        service_bytes(s, body + at, n);
        service_says(s, "\r\n");
    }
    service_says(s, "0\r\n\r\n");
    UNTIL(c->closes);
    CU_ASSERT_EQUAL_FATAL(c->received, SIZE);
    CU_ASSERT_EQUAL(memcmp(ht_buf_head(&c->body), body, SIZE), 0);
    CU_ASSERT_EQUAL(relay_target_idle(rig.target), 1);
    free(body);
    rig_stop();
}

/* Windows of a few bytes: chunk framing may fill a whole read, and must not stop the stream. */
static void windows_of_a_few_bytes(void) {
    for (uint32_t window = 1; window <= 12; window++) {
        rig.stream_window = window;
        rig_go();
        struct call *c = call_get("/");
        struct service_conn *s = service_wait(0, "\r\n\r\n");
        service_says(s, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
        UNTIL(c->heads);
        service_says(s, "1;extension=value\r\na\r\n00000002\r\nbc\r\n5\r\ndefgh\r\n0\r\nTrailer: t\r\n\r\n");
        UNTIL(c->closes);
        CU_ASSERT_STRING_EQUAL(call_body(c), "abcdefgh");
        CU_ASSERT_EQUAL(c->reset, -1);
        c = call_post("20", "01234567890123456789", true);
        service_wait(0, "01234567890123456789");
        service_says(s, OK_HELLO);
        UNTIL(c->closes);
        CU_ASSERT_EQUAL(c->reset, -1);
        CU_ASSERT_STRING_EQUAL(call_body(c), "hello");
        rig_stop();
    }
    rig.stream_window = 0;
}

/* ---- ends that come early ---- */

static void an_answer_before_the_body_is_complete(void) {
    rig_go();
    struct call *c = call_post("1000000", "begin", false);
    struct service_conn *s = service_wait(0, "begin");
    service_says(s, OK_HELLO);
    UNTIL(c->eofs);
    CU_ASSERT_STRING_EQUAL(call_body(c), "hello");
    UNTIL(s->ended); /* it never gets another request */
    CU_ASSERT_EQUAL(relay_target_idle(rig.target), 0);
    char *rest = pattern(999995);
    call_sends(c, rest, 999995, true); /* taken and thrown away, with its credit */
    UNTIL(c->closes);
    CU_ASSERT_EQUAL(c->reset, -1);
    free(rest);
    rig_stop();
}

static void a_service_that_refuses_and_closes(void) {
    enum { SIZE = 8 * MIB };
    char *body = pattern(SIZE);
    rig_go();
    struct call *c = call_post("8388608", "", false);
    struct service_conn *s = service_wait(0, "\r\n\r\n");
    io_conn_read_on(s->c, false);
    call_sends(c, body, SIZE, true);
    settle();
    service_says(s, "HTTP/1.1 413 Too Large\r\nContent-Length: 3\r\nConnection: close\r\n\r\nbig");
    io_conn_close_lingering(&s->c, 1000);
    UNTIL(c->closes);
    CU_ASSERT_EQUAL(c->reset, -1);
    CU_ASSERT_STRING_EQUAL(call_body(c), "big");
    free(body);
    rig_stop();
}

/* The same with a RST at once, of what it has not read: the answer is there before it. */
static void a_service_that_refuses_and_resets(void) {
    enum { SIZE = 8 * MIB };
    char *body = pattern(SIZE);
    rig_go();
    for (unsigned i = 0; i < 20; i++) {
        struct call *c = call_post("8388608", "", false);
        struct service_conn *s = service_wait(i, "\r\n\r\n");
        io_conn_read_on(s->c, false);
        call_sends(c, body, SIZE, true);
        if (i % 2)
            settle();
        service_says(s, "HTTP/1.1 413 Too Large\r\nContent-Length: 3\r\n\r\nbig");
        io_conn_close(&s->c);
        UNTIL(c->closes);
        CU_ASSERT_EQUAL(c->reset, -1);
        CU_ASSERT_STRING_EQUAL(call_body(c), "big");
    }
    free(body);
    rig_stop();
}

static void a_visitor_who_leaves_aborts_the_request(void) {
    rig_go();
    struct call *waiting = call_get("/wait"), *reading = call_get("/read");
    struct service_conn *w = service_wait(0, "/"), *r = service_wait(1, "/");
    service_says(strstr(service_heard(w), "/read") ? w : r, "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhello");
    UNTIL(reading->received == 5);
    mux_stream_reset(waiting->st, WIRE_CODE_CANCEL, "gone");
    mux_stream_reset(reading->st, WIRE_CODE_CANCEL, "gone");
    UNTIL(w->ended && r->ended);
    UNTIL(rig.finished == 2);
    CU_ASSERT_EQUAL(rig.last.reset_code, WIRE_CODE_CANCEL);
    CU_ASSERT_EQUAL(relay_target_active(rig.target), 0);
    rig_stop();
}

static void a_visitor_who_leaves_while_it_is_dialled(void) {
    rig_go();
    struct call *c = call_get("/");
    UNTIL(relay_target_active(rig.target) == 1);
    mux_stream_reset(c->st, WIRE_CODE_CANCEL, "gone");
    UNTIL(rig.finished == 1);
    CU_ASSERT_EQUAL(relay_target_active(rig.target), 0);
    settle();
    rig_stop();
}

static void the_end_of_the_session_ends_the_requests(void) {
    rig_go();
    call_get("/");
    struct service_conn *s = service_wait(0, "\r\n\r\n");
    mux_link_closed(rig.driver.l, false);
    UNTIL(s->ended && rig.finished == 1);
    CU_ASSERT_EQUAL(relay_target_active(rig.target), 0);
    rig_stop();
}

static void a_destroyed_target_resets_its_streams(void) {
    rig_go();
    struct call *c = call_get("/");
    struct service_conn *s = service_wait(0, "\r\n\r\n");
    relay_target_destroy(&rig.target);
    UNTIL(c->closes && s->ended);
    CU_ASSERT_EQUAL(c->reset, WIRE_CODE_CANCEL);
    rig_stop();
}

static void a_stream_of_the_wrong_kind(void) {
    rig_go();
    struct wire_stream_open open = {.kind = WIRE_KIND_TCP, .bind_id = 1};
    struct call *c = call_open(&open, "", 0, false);
    UNTIL(c->closes);
    CU_ASSERT_EQUAL(c->reset, WIRE_CODE_PROTOCOL_ERROR);
    rig_stop();
}

/* ---- upgrades ---- */

static struct call *call_upgrade(void) {
    return call_http("GET", "/ws", HEADERS(H("host", "a"), H("connection", "Upgrade"), H("upgrade", "websocket")), 3,
                     "", true);
}

static void an_upgrade_becomes_raw_bytes(void) {
    rig_go();
    struct call *c = call_upgrade();
    struct service_conn *s = service_wait(0, "\r\n\r\n");
    CU_ASSERT_STRING_EQUAL(service_heard(s),
                           "GET /ws HTTP/1.1\r\nhost: a\r\nconnection: Upgrade\r\nupgrade: websocket\r\n\r\n");
    service_forget(s);
    settle();
    CU_ASSERT(!s->ended); /* the request's EOF is not the connection's */
    service_says(
        s, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nX-A: b\r\n\r\nearly");
    UNTIL(c->received == 5);
    CU_ASSERT_STRING_EQUAL(c->head, "101 Connection: Upgrade, Upgrade: websocket, X-A: b");
    call_sends(c, "ping", 4, false);
    service_wait(0, "ping");
    service_says(s, " and late");
    UNTIL(c->received == 14);
    CU_ASSERT_STRING_EQUAL(call_body(c), "early and late");
    service_close(s);
    UNTIL(c->eofs);
    call_sends(c, "", 0, true);
    UNTIL(c->closes && rig.finished == 1);
    CU_ASSERT_EQUAL(c->reset, -1);
    CU_ASSERT_EQUAL(rig.last.status, 101);
    CU_ASSERT_EQUAL(rig.last.bytes_out, 14);
    CU_ASSERT_EQUAL(rig.last.bytes_in, 4);
    rig_stop();
}

static void an_upgrade_with_a_body(void) {
    rig_go();
    struct call *c =
        call_http("POST", "/exec",
                  HEADERS(H("connection", "Upgrade"), H("upgrade", "tcp"), H("content-length", "5"), H("host", "a")), 4,
                  "hello", false);
    struct service_conn *s = service_wait(0, "hello");
    CU_ASSERT_STRING_EQUAL(
        service_heard(s),
        "POST /exec HTTP/1.1\r\nconnection: Upgrade\r\nupgrade: tcp\r\ncontent-length: 5\r\nhost: a\r\n\r\nhello");
    service_forget(s);
    service_says(s, "HTTP/1.1 101 UPGRADED\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\nout");
    UNTIL(c->received == 3);
    call_sends(c, "", 0, true); /* the EOF of the request, which the 101 has overtaken */
    settle();
    call_sends(c, "in", 2, false);
    service_wait(0, "in");
    CU_ASSERT(!s->ended);
    rig_stop();
}

/* Off: origin_request_is_sent() out of final_head(). */
static void a_101_before_the_whole_request(void) {
    rig_go();
    struct call *c =
        call_http("POST", "/exec",
                  HEADERS(H("connection", "Upgrade"), H("upgrade", "tcp"), H("content-length", "5"), H("host", "a")), 4,
                  "hel", false);
    struct service_conn *s = service_wait(0, "hel");
    service_says(s, "HTTP/1.1 101 UPGRADED\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n");
    UNTIL(c->closes);
    CU_ASSERT_EQUAL(c->heads, 0);
    CU_ASSERT_PTR_NOT_NULL(strstr(c->reason, "a 101 before the whole request"));
    rig_stop();
}

static void a_101_in_pieces(void) {
    rig_go();
    struct call *c = call_upgrade();
    struct service_conn *s = service_wait(0, "\r\n\r\n");
    service_says(s, "HTTP/1.1 101 Switching Proto");
    settle();
    service_says(s, "cols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\nearly");
    UNTIL(c->received == 5);
    CU_ASSERT_STRING_EQUAL(call_body(c), "early");
    rig_stop();
}

static void a_refused_upgrade_is_an_answer(void) {
    rig_go();
    struct call *c = call_upgrade();
    struct service_conn *s = service_wait(0, "\r\n\r\n");
    service_says(s, "HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno");
    UNTIL(c->eofs);
    CU_ASSERT_STRING_EQUAL(call_body(c), "no");
    UNTIL(rig.finished == 1); /* nobody has to reset it */
    CU_ASSERT_PTR_NULL(c->st);
    CU_ASSERT_EQUAL(rig.last.reset_code, 0);
    CU_ASSERT_EQUAL(rig.last.status, 403);
    CU_ASSERT_EQUAL(relay_target_active(rig.target), 0);
    CU_ASSERT_EQUAL(relay_target_idle(rig.target), 0);
    rig_stop();
}

static void a_visitor_who_leaves_an_upgrade(void) {
    rig_go();
    struct call *c = call_upgrade();
    struct service_conn *s = service_wait(0, "\r\n\r\n");
    service_says(s, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n");
    UNTIL(c->heads);
    settle();
    mux_stream_reset(c->st, WIRE_CODE_CANCEL, "gone");
    UNTIL(s->ended && rig.finished == 1);
    rig_stop();
}

/* ---- raw connections ---- */

static void tcp_go(void) {
    rig_start();
    rig.cfg.kind = WIRE_KIND_TCP;
    rig_target();
}

static struct call *call_tcp(const char *first, bool eof) {
    struct wire_stream_open open = {
        .kind = WIRE_KIND_TCP, .bind_id = 1, .has_peer_addr = true, .peer_addr = ht_slice_str("127.0.0.1:9")};
    return call_open(&open, first, strlen(first), eof);
}

static void bytes_both_ways(void) {
    tcp_go();
    struct call *c = call_tcp("before the dial", false);
    struct service_conn *s = service_wait(0, "before the dial");
    service_says(s, "answer");
    UNTIL(c->received == 6);
    call_sends(c, "more", 4, true);
    service_wait(0, "more");
    UNTIL(s->ended);
    service_says(s, " after the end"); /* half-closed: this direction goes on */
    UNTIL(c->received == 20);
    service_close(s);
    UNTIL(c->closes && rig.finished == 1);
    CU_ASSERT_EQUAL(c->reset, -1);
    CU_ASSERT_STRING_EQUAL(call_body(c), "answer after the end");
    CU_ASSERT_EQUAL(rig.last.bytes_in, 19);
    CU_ASSERT_EQUAL(rig.last.bytes_out, 20);
    CU_ASSERT_STRING_EQUAL(rig.last_line, "  127.0.0.1:9");
    rig_stop();
}

/* A call whose visitor is the connection that the target made as the n-th. */
static struct call *call_from(struct wire_stream_open *open, unsigned n, uint16_t port) {
    char peer[IO_ADDR_TEXT];
    struct io_addr addr;
    io_conn_peer(rig.conns[n].c, &addr);
    open->bind_id = 1;
    open->has_container_port = true;
    open->container_port = port;
    open->has_peer_addr = true;
    open->peer_addr = ht_slice_str(io_addr_text(&addr, peer));
    return call_open(open, "", 0, false);
}

/* As with a kit on the same machine whose port is the target: visitor after visitor is one of our own connections. */
static void expect_loop(struct wire_stream_open *open) {
    uint16_t port = rig.cfg.port;
    struct call *c;
    unsigned n = 0;
    do {
        unsigned conns = rig.n_conns;
        c = call_from(open, n++, port);
        UNTIL(rig.n_conns == conns + 1 || c->closes);
    } while (!c->closes && n < 20);
    CU_ASSERT_EQUAL(n, 8); /* fewer prove nothing */
    CU_ASSERT_EQUAL(rig.finished, 1);
    CU_ASSERT_EQUAL(c->reset, WIRE_CODE_REFUSED_STREAM);
    CU_ASSERT_EQUAL(strncmp(c->reason, "loop: 127.0.0.1:", 16), 0);
    CU_ASSERT_EQUAL(rig.last.status, WIRE_ANSWER_ORIGIN_LOOP_STATUS);
}

static void a_raw_tunnel_that_leads_back_to_itself(void) {
    tcp_go();
    call_tcp("hello", false);
    service_wait(0, "hello");
    expect_loop(&(struct wire_stream_open){.kind = WIRE_KIND_TCP});
    rig_stop();
}

static void requests_that_lead_back_into_the_tunnel(void) {
    rig_go();
    call_upgrade();
    service_wait(0, "\r\n\r\n");
    expect_loop(&(struct wire_stream_open){.kind = WIRE_KIND_HTTP,
                                           .method = ht_slice_str("GET"),
                                           .target = ht_slice_str("/"),
                                           .has_http_version = true,
                                           .http_version = ht_slice_str("1.1")});
    rig_stop();
}

/* A container has addresses of its own, and the kernel uses one port for connections to different places. */
static void visitors_that_look_like_us(void) {
    tcp_go();
    for (unsigned n = 0; n < 12; n++) {
        call_tcp("hello", false);
        service_wait(n, "hello");
    }
    unsigned conns = rig.n_conns;
    for (unsigned n = 0; n < 12; n++) /* of another port */
        call_from(&(struct wire_stream_open){.kind = WIRE_KIND_TCP}, n, 1);
    for (unsigned i = 0; i < 12; i++) /* always the same one */
        call_from(&(struct wire_stream_open){.kind = WIRE_KIND_TCP}, 0, rig.cfg.port);
    UNTIL(rig.n_conns == conns + 24);
    CU_ASSERT_EQUAL(rig.finished, 0);
    rig_stop();
}

static void everything_before_the_dial(void) {
    char *body = pattern(900000);
    tcp_go();
    struct call *c = call_tcp("", false);
    call_sends(c, body, 900000, true);
    UNTIL(rig.n_conns == 1 && rig.conns[0].ended);
    CU_ASSERT_EQUAL_FATAL(ht_buf_size(&rig.conns[0].in), 900000);
    CU_ASSERT_EQUAL(memcmp(ht_buf_head(&rig.conns[0].in), body, 900000), 0);
    service_says(&rig.conns[0], "got it");
    service_close(&rig.conns[0]);
    UNTIL(c->closes);
    CU_ASSERT_EQUAL(c->reset, -1);
    CU_ASSERT_STRING_EQUAL(call_body(c), "got it");
    free(body);
    rig_stop();
}

static void a_port_where_nobody_listens(void) {
    tcp_go();
    int held = deafen(&rig.listener);
    struct call *c = call_tcp("x", true);
    UNTIL(c->closes && rig.finished == 1);
    CU_ASSERT_EQUAL(c->reset, WIRE_CODE_REFUSED_STREAM);
    CU_ASSERT_PTR_NOT_NULL(strstr(rig.last_error, "connection refused"));
    close(held);
    rig_stop();
}

static void a_reset_crosses_both_ways(void) {
    tcp_go();
    struct call *a = call_tcp("a", false);
    struct service_conn *s = service_wait(0, "a");
    io_conn_abort(&s->c);
    UNTIL(a->closes);
    CU_ASSERT(a->reset > 0);
    struct call *b = call_tcp("b", false);
    s = service_wait(1, "b");
    mux_stream_reset(b->st, WIRE_CODE_CANCEL, "gone");
    UNTIL(s->ended);
    CU_ASSERT(s->broken);
    UNTIL(rig.finished == 2);
    rig_stop();
}

static void a_target_destroyed_with_raw_connections(void) {
    tcp_go();
    struct call *standing = call_tcp("x", false);
    struct service_conn *s = service_wait(0, "x");
    struct call *dialling = call_tcp("y", false);
    UNTIL(relay_target_active(rig.target) == 2);
    relay_target_destroy(&rig.target);
    UNTIL(standing->closes && dialling->closes && s->ended);
    rig_stop();
}

static const struct tap_test tests[] = {
    {"a counted body", a_counted_body},
    {"a chunked body is chunked anew", a_chunked_body_is_chunked_anew},
    {"an empty chunked body", an_empty_chunked_body},
    {"bodies against their framing are refused", bodies_against_their_framing_are_refused},
    {"a slow service stops its stream only", a_slow_service_stops_its_stream_only},
    {"many chunks to a slow service", many_chunks_to_a_slow_service},
    {"a slow visitor stops its stream only", a_slow_visitor_stops_its_stream_only},
    {"a large chunked answer", a_large_chunked_answer},
    {"windows of a few bytes", windows_of_a_few_bytes},
    {"an answer before the body is complete", an_answer_before_the_body_is_complete},
    {"a service that refuses and closes", a_service_that_refuses_and_closes},
    {"a service that refuses and resets", a_service_that_refuses_and_resets},
    {"a visitor who leaves aborts the request", a_visitor_who_leaves_aborts_the_request},
    {"a visitor who leaves while it is dialled", a_visitor_who_leaves_while_it_is_dialled},
    {"the end of the session ends the requests", the_end_of_the_session_ends_the_requests},
    {"a destroyed target resets its streams", a_destroyed_target_resets_its_streams},
    {"a stream of the wrong kind", a_stream_of_the_wrong_kind},
    {"an upgrade becomes raw bytes", an_upgrade_becomes_raw_bytes},
    {"an upgrade with a body", an_upgrade_with_a_body},
    {"a 101 before the whole request", a_101_before_the_whole_request},
    {"a 101 in pieces", a_101_in_pieces},
    {"a refused upgrade is an answer", a_refused_upgrade_is_an_answer},
    {"a visitor who leaves an upgrade", a_visitor_who_leaves_an_upgrade},
    {"tcp: bytes both ways, half-close", bytes_both_ways},
    {"tcp: everything before the dial", everything_before_the_dial},
    {"tcp: a port where nobody listens", a_port_where_nobody_listens},
    {"tcp: a tunnel that leads back to itself is cut at once", a_raw_tunnel_that_leads_back_to_itself},
    {"http: a request that comes back as our own visitor gets 508", requests_that_lead_back_into_the_tunnel},
    {"visitors whose address is like one of ours are no loop", visitors_that_look_like_us},
    {"tcp: a reset crosses both ways", a_reset_crosses_both_ways},
    {"tcp: a target destroyed with connections", a_target_destroyed_with_raw_connections},
    {NULL, NULL},
};

int main(void) { return tap_main("origin, streams", tests); }
