/* Requests and answers of visitors of an exposed port, byte for byte. How to switch defences off to see a test fail:
 * tests/hardening.yaml. */
#include "relay/visitor_rig.h"

/* ---- heads ---- */

static void test_get(void) {
    begin();
    struct visitor v = vis_connect(port);
    vis_send(&v, "GET /a?b=c HTTP/1.1\r\nHost: x:1\r\nUser-Agent: Me\r\nX-Two: 1\r\nx-two: 2\r\nConnection: x-gone\r\n"
                 "X-Gone: 1\r\nTE: trailers\r\nKeep-Alive: 5\r\nContent-Length: 0\r\n\r\n");
    struct played_stream *st = opened(1);
    UNTIL(st->eofs == 1);
    CU_ASSERT_EQUAL(st->id, 2);
    CU_ASSERT_EQUAL(d.messages, 2); /* HELLO_OK, then OPEN and EOF in one */
    expect_open(st, &v,
                "\"method\":\"GET\",\"target\":\"/a?b=c\",\"headers\":[[\"host\",\"x:1\"],[\"user-agent\",\"Me\"],"
                "[\"x-two\",\"1\"],[\"x-two\",\"2\"]]",
                false, "1.1");
    drv_head(&d, 2, 200, "Content-Length: 5\nX-Up: Yes\nConnection: close\nKeep-Alive: 1");
    drv_text(&d, 2, "hello");
    drv_eof(&d, 2);
    drv_send(&d);
    vis_expect(&v, "HTTP/1.1 200 OK\r\nX-Up: Yes\r\ncontent-length: 5\r\n\r\nhello");
    CU_ASSERT_EQUAL(mux_session_streams(d.s), 0);
    CU_ASSERT_EQUAL(st->reset, -1);
    /* the same connection again */
    vis_send(&v, GET);
    st = opened(2);
    CU_ASSERT_EQUAL(st->id, 4);
    drv_head(&d, 4, 204, "Content-Length: 0");
    drv_eof(&d, 4);
    drv_send(&d);
    vis_expect(&v, "HTTP/1.1 204 No Content\r\n\r\n");
    CU_ASSERT_EQUAL(rig.metrics.visitor_responses_total[HT_METRIC_CLASS_2XX], 2);
    leave(&v);
    end();
}

static void absolute_targets_are_sent_on_in_origin_form(void) {
    begin();
    struct visitor v = vis_connect(port);
    vis_send(&v, "GET http://h/p?q HTTP/1.1\r\nHost: h\r\n\r\n");
    expect_open(opened(1), &v, "\"method\":\"GET\",\"target\":\"/p?q\",\"headers\":[[\"host\",\"h\"]]", false, "1.1");
    drv_head(&d, 2, 304, "Content-Length: 9");
    drv_eof(&d, 2);
    drv_send(&d);
    vis_expect(&v, "HTTP/1.1 304 Not Modified\r\ncontent-length: 9\r\n\r\n");
    vis_send(&v, "GET http://h?q HTTP/1.1\r\nHost: h\r\n\r\n");
    expect_open(opened(2), &v, "\"method\":\"GET\",\"target\":\"/?q\",\"headers\":[[\"host\",\"h\"]]", false, "1.1");
    drv_head(&d, 4, 200, "Content-Length: 0");
    drv_eof(&d, 4);
    drv_send(&d);
    vis_expect(&v, "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n");
    leave(&v);
    end();
}

static void a_request_that_comes_byte_by_byte_is_read_as_one(void) {
    static const char request[] = POST "Content-Length: 3\r\n\r\nabc" GET;
    begin();
    struct visitor v = vis_connect(port);
    for (size_t i = 0; i < sizeof request - 1; i++) {
        vis_send_bytes(&v, request + i, 1);
        one_turn();
    }
    struct played_stream *st = opened(1);
    UNTIL(st->eofs == 1);
    CU_ASSERT_EQUAL_FATAL(ht_buf_size(&st->body), 3);
    CU_ASSERT_EQUAL(memcmp(ht_buf_head(&st->body), "abc", 3), 0);
    CU_ASSERT_EQUAL(d.n_streams, 1); /* rule HTTP-14: the next one waits */
    drv_head(&d, 2, 200, "content-length: 0");
    drv_eof(&d, 2);
    drv_send(&d);
    vis_expect(&v, "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n");
    expect_open(opened(2), &v, "\"method\":\"GET\",\"target\":\"/\",\"headers\":[[\"host\",\"a\"]]", false, "1.1");
    leave(&v);
    UNTIL(d.streams[1].reset == WIRE_CODE_CANCEL);
    end();
}

static void bad_heads_are_refused_and_the_connection_ends(void) {
    static const struct {
        const char *request, *answer;
    } rows[] = {
        {"GET / HTTP/1.1\r\n\r\n", ANSWER("400 Bad Request", CLOSE, "11", "bad request")},
        {"\x16\x03\x01\x02\x00\x01", ANSWER("400 Bad Request", CLOSE, "11", "bad request")},
        {"GET / HTTP/1.1\nHost: a\n\n", ANSWER("400 Bad Request", CLOSE, "11", "bad request")},
        {POST "Content-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
         ANSWER("400 Bad Request", CLOSE, "11", "bad request")},
        {POST "Content-Length: 1, 1\r\n\r\n", ANSWER("400 Bad Request", CLOSE, "11", "bad request")},
        {"CONNECT a:1 HTTP/1.1\r\nHost: a:1\r\n\r\n",
         ANSWER("405 Method Not Allowed", CLOSE, "26", "CONNECT is not served here")},
        {"GET / HTTP/2.0\r\nHost: a\r\n\r\n",
         ANSWER("505 HTTP Version Not Supported", CLOSE, "26", "HTTP/1.0 and HTTP/1.1 only")},
        {"GET / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: upgrade\r\nContent-Length: 1\r\n\r\nx",
         ANSWER("400 Bad Request", CLOSE, "11", "bad request")},
    };
    begin();
    for (size_t i = 0; i < HT_ARRAY_LEN(rows); i++) {
        struct visitor v = vis_connect(port);
        vis_send(&v, rows[i].request);
        vis_send(&v, GET); /* the canary */
        vis_expect(&v, rows[i].answer);
        vis_expect_end(&v, false);
        leave(&v);
    }
    CU_ASSERT_EQUAL(d.n_streams, 0);
    end();
}

static void heads_up_to_the_limits_pass_larger_ones_are_refused(void) {
    begin();
    struct visitor v = vis_connect(port);
    vis_send(&v, "GET /");
    for (int i = 0; i < 17; i++) {
        char kib[1025];
        memset(kib, 'a', 1024);
        kib[1024] = '\0';
        vis_send(&v, kib);
    }
    vis_expect(&v, ANSWER("414 URI Too Long", CLOSE, "23", "request target too long"));
    vis_expect_end(&v, false);
    leave(&v);
    v = vis_connect(port);
    vis_send(&v, "GET / HTTP/1.1\r\nHost: a\r\n");
    for (int i = 0; i < 129; i++)
        vis_send(&v, "a: b\r\n");
    vis_expect(&v, ANSWER("431 Request Header Fields Too Large", CLOSE, "22", "request head too large"));
    vis_expect_end(&v, false);
    leave(&v);
    end();
}

static void a_head_that_is_late_gets_408_an_answer_that_is_late(void) {
    rig_start();
    rig.cfg.head_timeout_ms = 60;
    rig.cfg.keepalive_timeout_ms = 60;
    rig.cfg.response_timeout_ms = 60;
    rig_table();
    drv_start(&d);
    port = rig_expose(&d);
    struct visitor v = vis_connect(port);
    vis_send(&v, "GET / HT");
    vis_expect(&v, ANSWER("408 Request Timeout", CLOSE, "20", "request head timeout"));
    vis_expect_end(&v, false);
    leave(&v);
    v = vis_connect(port);
    vis_send(&v, GET);
    vis_expect(&v, ANSWER("504 Gateway Timeout", "", "31", "the local service took too long"));
    CU_ASSERT_EQUAL(d.streams[0].reset, WIRE_CODE_CANCEL);
    vis_expect_end(&v, false); /* idle for too long: nothing is said */
    leave(&v);
    v = vis_connect(port);
    vis_send(&v, POST "Content-Length: 5\r\n\r\nabc");
    vis_expect(&v, ANSWER("408 Request Timeout", CLOSE, "20", "request body timeout"));
    UNTIL(d.streams[1].reset == WIRE_CODE_CANCEL);
    vis_expect_end(&v, false);
    leave(&v);
    end();
}

/* ---- request bodies ---- */

static void test_small_post(void) {
    begin();
    struct visitor v = vis_connect(port);
    vis_send(&v, POST "Content-Length: 3\r\n\r\nabc");
    struct played_stream *st = opened(1);
    UNTIL(st->eofs == 1);
    CU_ASSERT_EQUAL(d.messages, 2); /* the body went with the head */
    expect_open(st, &v,
                "\"method\":\"POST\",\"target\":\"/\",\"headers\":[[\"host\",\"a\"],[\"content-length\",\"3\"]]", false,
                "1.1");
    drv_head(&d, 2, 200, NULL);
    drv_text(&d, 2, "one");
    drv_text(&d, 2, "twotwotwotwotwotwo");
    drv_send(&d);
    vis_expect(&v, "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n15\r\nonetwotwotwotwotwotwo\r\n");
    drv_text(&d, 2, "three");
    drv_eof(&d, 2);
    drv_send(&d);
    vis_expect(&v, "5\r\nthree\r\n0\r\n\r\n");
    leave(&v);
    end();
}

static void test_chunked_post(void) {
    begin();
    struct visitor v = vis_connect(port);
    vis_send(&v, POST "Transfer-Encoding: chunked\r\nExpect: 100-continue\r\n\r\n");
    struct played_stream *st = opened(1);
    expect_open(
        st, &v,
        "\"method\":\"POST\",\"target\":\"/\",\"headers\":[[\"host\",\"a\"],[\"transfer-encoding\",\"chunked\"]]",
        false, "1.1");
    vis_expect(&v, "HTTP/1.1 100 Continue\r\n\r\n");
    vis_send(&v, "3;ext=1\r\nabc\r\n");
    UNTIL(ht_buf_size(&st->body) == 3);
    vis_send(&v, "2\r\nde\r\n0\r\nTrailer: x\r\n\r\n" GET);
    UNTIL(st->eofs == 1);
    CU_ASSERT_EQUAL_FATAL(ht_buf_size(&st->body), 5);
    CU_ASSERT_EQUAL(memcmp(ht_buf_head(&st->body), "abcde", 5), 0);
    drv_head_final(&d, 2, 103, "link: </a>", false);
    drv_head(&d, 2, 200, "content-length: 2");
    drv_text(&d, 2, "ok");
    drv_eof(&d, 2);
    drv_send(&d);
    vis_expect(&v, "HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok");
    opened(2); /* the pipelined one */
    leave(&v);
    UNTIL(d.streams[1].reset == WIRE_CODE_CANCEL);
    end();
}

static void a_bad_chunk_ends_the_request(void) {
    begin();
    struct visitor v = vis_connect(port);
    vis_send(&v, POST "Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n-1\r\n" GET);
    vis_expect(&v, ANSWER("400 Bad Request", CLOSE, "11", "bad request"));
    vis_expect_end(&v, false);
    UNTIL(d.streams[0].reset == WIRE_CODE_CANCEL);
    CU_ASSERT_EQUAL(d.n_streams, 1);
    leave(&v);
    end();
}

static void an_upload_that_is_cut_off_is_reset_and_not_ended(void) {
    begin();
    struct visitor v = vis_connect(port);
    vis_send(&v, POST "Content-Length: 10\r\n\r\nabc");
    struct played_stream *st = opened(1);
    UNTIL(ht_buf_size(&st->body) == 3);
    shutdown(v.fd, SHUT_WR);
    UNTIL(st->reset == WIRE_CODE_CANCEL);
    CU_ASSERT_EQUAL(st->eofs, 0);
    vis_expect(&v, BAD_REQUEST);
    vis_expect_end(&v, false);
    leave(&v);
    end();
}

static void upload(bool chunked, size_t total) {
    begin();
    struct visitor v = vis_connect(port);
    uint8_t *bytes = malloc(total);
    CU_ASSERT_PTR_NOT_NULL_FATAL(bytes);
    for (size_t i = 0; i < total; i++)
        bytes[i] = (uint8_t)(i * 2654435761u >> 24);
    char head[256];
    snprintf(head, sizeof head, POST "%s\r\n\r\n", chunked ? "Transfer-Encoding: chunked" : "Content-Length: ");
    if (!chunked)
        snprintf(head, sizeof head, POST "Content-Length: %zu\r\n\r\n", total);
    vis_send(&v, head);
    for (size_t at = 0; at < total;) {
        size_t n = ht_min(total - at, 1 + at % 70001);
        if (chunked) {
            snprintf(head, sizeof head, "%zx\r\n", n);
            vis_send(&v, head);
        }
        vis_send_bytes(&v, bytes + at, n);
        if (chunked)
            vis_send(&v, "\r\n");
        at += n;
    }
    if (chunked)
        vis_send(&v, "0\r\n\r\n");
    struct played_stream *st = opened(1);
    UNTIL(st->eofs == 1);
    CU_ASSERT_EQUAL_FATAL(ht_buf_size(&st->body), total);
    CU_ASSERT_EQUAL(memcmp(ht_buf_head(&st->body), bytes, total), 0);
    drv_head(&d, 2, 200, "content-length: 0");
    drv_eof(&d, 2);
    drv_send(&d);
    vis_expect(&v, "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n");
    free(bytes);
    leave(&v);
    end();
}

static void a_large_upload_arrives_whole(void) { upload(false, 5000000); }
static void test_large_chunked_upload(void) { upload(true, 5000000); }

/* Without credit the visitor is not read any more; with credit it goes on. */
static void test_upload_without_credit(void) {
    begin();
    d.no_windows = true;
    struct visitor v = vis_connect(port);
    size_t total = 8u << 20, sent = 0;
    static char block[65536];
    char head[128];
    snprintf(head, sizeof head, POST "Content-Length: %zu\r\n\r\n", total);
    vis_send(&v, head);
    struct played_stream *st = opened(1);
    for (int quiet = 0; quiet < 20;) {
        ssize_t n = send(v.fd, block, ht_min(sizeof block, total - sent), MSG_NOSIGNAL);
        quiet = n > 0 ? 0 : quiet + 1;
        sent += n > 0 ? (size_t)n : 0;
        one_turn();
    }
    CU_ASSERT_EQUAL(ht_buf_size(&st->body), WIRE_LIMIT_STREAM_WINDOW);
    d.no_windows = false;
    drv_window(&d, 2, WIRE_LIMIT_STREAM_WINDOW);
    drv_window(&d, 0, WIRE_LIMIT_STREAM_WINDOW);
    drv_send(&d);
    while (sent < total) {
        size_t n = ht_min(sizeof block, total - sent);
        vis_send_bytes(&v, block, n);
        sent += n;
    }
    UNTIL(st->eofs == 1);
    CU_ASSERT_EQUAL(ht_buf_size(&st->body), total);
    leave(&v);
    UNTIL(st->reset == WIRE_CODE_CANCEL);
    end();
}

static void an_early_answer_is_passed_on_and_ends_the_connection(void) {
    begin();
    struct visitor v = vis_connect(port);
    vis_send(&v, POST "Content-Length: 100\r\n\r\n");
    vis_send(&v, GET); /* a body, and never a request */
    struct played_stream *st = opened(1);
    drv_head(&d, 2, 413, "content-length: 2");
    drv_text(&d, 2, "no");
    drv_eof(&d, 2);
    drv_send(&d);
    vis_expect(&v, "HTTP/1.1 413 Content Too Large\r\ncontent-length: 2\r\nconnection: close\r\n\r\nno");
    UNTIL(st->reset == WIRE_CODE_NO_ERROR);
    vis_send(&v, GET GET);
    vis_expect_end(&v, false);
    CU_ASSERT_EQUAL(d.n_streams, 1);
    leave(&v);
    end();
}

/* ---- no session, no room ---- */

#define PARKED(more) ANSWER("503 Service Unavailable", "retry-after: 5\r\n" more, "22", "tunnel is reconnecting")

static void while_the_session_is_parked_visitors_get_503(void) {
    begin();
    struct visitor v = vis_connect(port), w = vis_connect(port), x = vis_connect(port);
    vis_send(&v, GET);
    vis_send(&w, GET);
    opened(2);
    drv_head(&d, 2, 200, "content-length: 9");
    drv_text(&d, 2, "x");
    drv_send(&d);
    one_turn();
    drv_drop(&d);
    UNTIL(vis_over(&v) || vis_over(&w));
    struct visitor *cut = v.cut ? &v : &w, *told = v.cut ? &w : &v;
    CU_ASSERT(cut->cut);
    vis_expect(told, LINK_LOST);
    vis_send(&x, GET GET);
    vis_expect(&x, PARKED("") PARKED(""));
    vis_send(&x, POST "Content-Length: 5\r\n\r\n");
    vis_expect(&x, PARKED(CLOSE));
    vis_expect_end(&x, false);
    vis_close(&v);
    vis_close(&w);
    leave(&x);
    drv_stop(&d);
    rig_stop();
}

static void test_just_resumed(void) {
    begin();
    d.owner.not_before_ms = io_now_ms(rig.loop) + 50;
    struct visitor v = vis_connect(port);
    vis_send(&v, GET);
    vis_expect(&v, PARKED(""));
    UNTIL(ht_now_ms() > d.owner.not_before_ms + 2);
    vis_send(&v, GET);
    opened(1);
    leave(&v);
    UNTIL(d.streams[0].reset == WIRE_CODE_CANCEL);
    end();
}

static void without_a_stream_a_visitor_gets_503(void) {
    begin();
    struct visitor v[129];
    for (unsigned i = 0; i < 128; i++) {
        v[i] = vis_connect(port);
        vis_send(&v[i], GET);
        opened(i + 1);
    }
    v[128] = vis_connect(port);
    vis_send(&v[128], GET);
    vis_expect(&v[128], ANSWER("503 Service Unavailable", "retry-after: 1\r\n", "20", "max streams exceeded"));
    CU_ASSERT_EQUAL(rig.metrics.visitor_responses_total[HT_METRIC_CLASS_STREAM_CAP], 1);
    for (unsigned i = 0; i < 129; i++)
        leave_soon(&v[i]); /* one that has only closed its side may wait for its answer */
    UNTIL(relay_count_visitors(rig.table) == 0);
    end();
}

static void without_a_descriptor_a_visitor_gets_503(void) {
    begin();
    rig.fds.total = rig.fds.used + 1;
    struct visitor v = vis_connect(port), w = vis_connect(port);
    vis_send(&w, GET);
    vis_expect(&w, ANSWER("503 Service Unavailable", "retry-after: 1\r\n" CLOSE, "24", "no file descriptors left"));
    vis_expect_end(&w, false);
    vis_close(&w);
    leave(&v);
    CU_ASSERT_EQUAL(rig.fds.used, 1);
    end();
}

/* However many are refused, few of them stay, and all are told why. Off: more may linger in io_conn_linger(). */
static void test_many_refused(void) {
    enum { MANY = 60 };
    begin();
    rig.fds.total = rig.fds.used + 1;
    struct visitor v = vis_connect(port), w[MANY];
    UNTIL(relay_count_visitors(rig.table) == 1);
    int before = io_count_fds();
    for (unsigned i = 0; i < MANY; i++) {
        w[i] = vis_connect(port);
        UNTIL(vis_got(&w[i]) > 0 || vis_over(&w[i]));
        vis_expect(&w[i],
                   ANSWER("503 Service Unavailable", "retry-after: 1\r\n" CLOSE, "24", "no file descriptors left"));
        CU_ASSERT(io_count_fds() - before - (int)(i + 1) <= RELAY_REFUSED);
        CU_ASSERT_EQUAL(rig.fds.used, rig.fds.total);
    }
    ht_clock_skip(1000000);
    UNTIL(io_count_fds() == before + MANY);
    for (unsigned i = 0; i < MANY; i++)
        vis_close(&w[i]);
    leave(&v);
    end();
}

/* One that lingers behind its answer holds a permit, and gives it up for the next visitor. Off: relay_permit() takes
 * only what is free; or linger without a permit. */
static void test_who_lingers_gives_way(void) {
    begin();
    struct visitor v = vis_connect(port);
    vis_send(&v, POST "Content-Length: 10\r\n\r\nabc");
    struct played_stream *st = opened(1);
    drv_head(&d, st->id, 413, "content-length: 0");
    drv_eof(&d, st->id);
    drv_send(&d);
    vis_expect(&v, "HTTP/1.1 413 Content Too Large\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
    UNTIL(relay_count_visitors(rig.table) == 0);
    CU_ASSERT_EQUAL(rig.fds.used, 2);
    CU_ASSERT_EQUAL(rig.fds.lingering, 1);
    rig.fds.total = 2;
    struct visitor w = vis_connect(port);
    vis_send(&w, GET);
    opened(2);
    CU_ASSERT_EQUAL(rig.fds.used, 2);
    CU_ASSERT_EQUAL(rig.fds.lingering, 0);
    vis_close(&v);
    leave(&w);
    end();
}

static void test_head_too_large_for_a_frame(void) {
    begin();
    struct visitor v = vis_connect(port);
    vis_send(&v, "GET / HTTP/1.1\r\nHost: a\r\n");
    char line[512];
    memset(line, '"', sizeof line); /* twice as long in JSON */
    for (int i = 0; i < 80; i++) {
        vis_send(&v, "x: ");
        vis_send_bytes(&v, line, 500);
        vis_send(&v, "\r\n");
    }
    vis_send(&v, "\r\n");
    vis_expect(&v, ANSWER("431 Request Header Fields Too Large", "", "22", "request head too large"));
    leave(&v);
    end();
}

static void while_the_kit_drains_visitors_get_503(void) {
    begin();
    struct visitor v = vis_connect(port);
    vis_send(&v, GET);
    opened(1);
    relay_table_drain(rig.table);
    drv_head(&d, 2, 200, "content-length: 1");
    drv_text(&d, 2, "x");
    drv_eof(&d, 2);
    drv_send(&d);
    vis_expect(&v, "HTTP/1.1 200 OK\r\ncontent-length: 1\r\nconnection: close\r\n\r\nx");
    vis_expect_end(&v, false);
    leave(&v);
    end();
}

/* ---- memory ---- */

static void test_idle_holds_nothing(void) {
    begin();
    struct visitor v = vis_connect(port);
    size_t blocks[3];
    for (unsigned i = 0; i < 3; i++) {
        vis_send(&v, GET);
        struct played_stream *st = opened(i + 1);
        drv_head(&d, st->id, 200, "content-length: 1");
        drv_text(&d, st->id, "x");
        drv_eof(&d, st->id);
        drv_send(&d);
        vis_expect(&v, "HTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\nx");
        blocks[i] = ht_mem_live();
    }
    CU_ASSERT_EQUAL(blocks[1], blocks[0]);
    CU_ASSERT_EQUAL(blocks[2], blocks[1]);
    leave(&v);
    end();
}

/* Every allocation fails once: never a crash, never a leak. */
static void any_allocation_may_fail(void) {
    for (long i = 0; i < 60; i++) {
        begin();
        struct visitor v = vis_connect(port);
        vis_send(&v, POST "Content-Length: 6\r\n\r\nabc");
        d.may_end = true;
        ht_mem_fail_at(i);
        for (int turn = 0; turn < 6; turn++) {
            one_turn();
            if (turn == 1)
                (void)!send(v.fd, "def", 3, MSG_NOSIGNAL);
            if (turn == 3 && d.n_streams && mux_session_streams(d.s)) {
                drv_head(&d, 2, 200, NULL);
                drv_text(&d, 2, "hello");
                drv_eof(&d, 2);
                drv_send(&d);
            }
        }
        ht_mem_fail_at(-1);
        vis_close(&v);
        UNTIL(relay_count_visitors(rig.table) == 0);
        drv_stop(&d);
        rig_stop();
    }
}

static const struct tap_test tests[] = {
    {"a GET and its answer", test_get},
    {"absolute targets are sent on in origin form", absolute_targets_are_sent_on_in_origin_form},
    {"a request that comes byte by byte is read as one", a_request_that_comes_byte_by_byte_is_read_as_one},
    {"bad heads are refused, and the connection ends", bad_heads_are_refused_and_the_connection_ends},
    {"heads up to the limits pass, larger ones are refused", heads_up_to_the_limits_pass_larger_ones_are_refused},
    {"a head that is late gets 408, an answer that is late 504", a_head_that_is_late_gets_408_an_answer_that_is_late},
    {"a small body goes with its head", test_small_post},
    {"chunked both ways, Expect, interim heads", test_chunked_post},
    {"a bad chunk ends the request", a_bad_chunk_ends_the_request},
    {"an upload that is cut off is reset and not ended", an_upload_that_is_cut_off_is_reset_and_not_ended},
    {"a large upload arrives whole", a_large_upload_arrives_whole},
    {"a large chunked upload arrives whole", test_large_chunked_upload},
    {"an upload waits for credit", test_upload_without_credit},
    {"an early answer is passed on and ends the connection", an_early_answer_is_passed_on_and_ends_the_connection},
    {"while the session is parked visitors get 503", while_the_session_is_parked_visitors_get_503},
    {"no streams for an old driver right after a resume", test_just_resumed},
    {"without a stream a visitor gets 503", without_a_stream_a_visitor_gets_503},
    {"without a descriptor a visitor gets 503", without_a_descriptor_a_visitor_gets_503},
    {"many visitors are refused at once", test_many_refused},
    {"lingering connections make room for new ones", test_who_lingers_gives_way},
    {"a head that fits no frame gets 431", test_head_too_large_for_a_frame},
    {"while the kit drains visitors get 503", while_the_kit_drains_visitors_get_503},
    {"an idle visitor holds nothing", test_idle_holds_nothing},
    {"any allocation may fail", any_allocation_may_fail},
    {NULL, NULL},
};

int main(void) { return tap_main("relay visitor", tests); }
