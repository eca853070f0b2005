/* What a driver answers, on its way to the visitor. */
#include "relay/visitor_rig.h"

/* ---- answers ---- */

static void pipelined_requests_are_answered_one_by_one_in_order(void) {
    begin();
    struct visitor v = vis_connect(port);
    for (int i = 0; i < 40; i++)
        vis_send(&v, GET);
    for (unsigned i = 1; i <= 40; i++) {
        struct played_stream *st = opened(i);
        CU_ASSERT_EQUAL(d.n_streams, i);
        char body[16];
        snprintf(body, sizeof body, "%03u", i);
        drv_head(&d, st->id, 200, "content-length: 3");
        drv_text(&d, st->id, body);
        drv_eof(&d, st->id);
        drv_send(&d);
        vis_expect(&v, "HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\n");
        vis_expect(&v, body);
    }
    leave(&v);
    end();
}

static void test_head_request(void) {
    begin();
    struct visitor v = vis_connect(port);
    vis_send(&v, "HEAD / HTTP/1.1\r\nHost: a\r\n\r\n");
    opened(1);
    drv_head(&d, 2, 200, "content-length: 77");
    drv_send(&d);
    /* A published driver sends the EOF late: nobody waits for it. */
    vis_expect(&v, "HTTP/1.1 200 OK\r\ncontent-length: 77\r\n\r\n");
    vis_send(&v, GET);
    opened(2);
    CU_ASSERT_EQUAL(mux_session_streams(d.s), 2);
    drv_eof(&d, 2);
    drv_send(&d);
    CU_ASSERT_EQUAL(mux_session_streams(d.s), 1);
    CU_ASSERT_EQUAL(d.streams[0].reset, -1);
    /* One that sends a body all the same hears of it; the visitor has its answer. */
    drv_head(&d, 4, 204, NULL);
    drv_text(&d, 4, "body");
    drv_eof(&d, 4);
    drv_send(&d);
    vis_expect(&v, "HTTP/1.1 204 No Content\r\n\r\n");
    UNTIL(d.streams[1].reset == WIRE_CODE_PROTOCOL_ERROR);
    leave(&v);
    end();
}

static void test_late_eof_timeout(void) {
    rig_start();
    rig.cfg.half_close_timeout_ms = 30;
    rig_table();
    drv_start(&d);
    port = rig_expose(&d);
    struct visitor v = vis_connect(port);
    vis_send(&v, GET);
    opened(1);
    drv_head(&d, 2, 200, "content-length: 1");
    drv_text(&d, 2, "x");
    drv_send(&d);
    vis_expect(&v, "HTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\nx");
    UNTIL(d.streams[0].reset == WIRE_CODE_CANCEL);
    leave(&v);
    end();
}

static void http_1_0_gets_no_chunks_and_no_interim_heads(void) {
    begin();
    struct visitor v = vis_connect(port);
    vis_send(&v, "GET / HTTP/1.0\r\n\r\n");
    expect_open(opened(1), &v, "\"method\":\"GET\",\"target\":\"/\",\"headers\":[]", false, "1.0");
    drv_head_final(&d, 2, 103, NULL, false); /* not for HTTP/1.0 */
    drv_head(&d, 2, 200, "a: b");
    drv_text(&d, 2, "until the end");
    drv_send(&d);
    vis_expect(&v, "HTTP/1.1 200 OK\r\na: b\r\nconnection: close\r\n\r\nuntil the end");
    drv_eof(&d, 2);
    drv_send(&d);
    vis_expect_end(&v, false);
    leave(&v);
    v = vis_connect(port);
    vis_send(&v, "GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n");
    opened(2);
    drv_head(&d, 4, 200, "content-length: 1");
    drv_text(&d, 4, "x");
    drv_eof(&d, 4);
    drv_send(&d);
    vis_expect(&v, "HTTP/1.1 200 OK\r\ncontent-length: 1\r\nconnection: keep-alive\r\n\r\nx");
    vis_send(&v, "GET / HTTP/1.0\r\n\r\n");
    opened(3);
    drv_head(&d, 6, 200, NULL);
    drv_text(&d, 6, "part");
    drv_send(&d);
    vis_expect(&v, "HTTP/1.1 200 OK\r\nconnection: close\r\n\r\npart");
    drv_reset(&d, 6, WIRE_CODE_INTERNAL_ERROR);
    drv_send(&d);
    vis_expect_end(&v, true); /* truncation shows */
    leave(&v);
    end();
}

static void connection_close_ends_the_connection_after(void) {
    begin();
    struct visitor v = vis_connect(port);
    vis_send(&v, "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
    opened(1);
    drv_head(&d, 2, 200, "content-length: 1");
    drv_text(&d, 2, "x");
    drv_eof(&d, 2);
    drv_send(&d);
    vis_expect(&v, "HTTP/1.1 200 OK\r\ncontent-length: 1\r\nconnection: close\r\n\r\nx");
    vis_expect_end(&v, false);
    leave(&v);
    end();
}

static void test_bad_answers(void) {
    static const char *const fields[] = {"a\r: b",
                                         "a: b\rc",
                                         "a: b\x01",
                                         "bad name: b",
                                         "content-length: 1x",
                                         "content-length: 1\ncontent-length: 2",
                                         "content-length: -1"};
    begin();
    struct visitor v = vis_connect(port);
    unsigned n = 0;
    for (size_t i = 0; i < HT_ARRAY_LEN(fields); i++) {
        vis_send(&v, GET);
        struct played_stream *st = opened(++n);
        drv_head(&d, st->id, 200, fields[i]);
        drv_send(&d);
        vis_expect(&v, DRIVER_ERROR);
        UNTIL(st->reset == WIRE_CODE_PROTOCOL_ERROR);
    }
    vis_send(&v, GET); /* a 101 that nobody asked for */
    struct played_stream *st = opened(++n);
    drv_head(&d, st->id, 101, "upgrade: websocket");
    drv_send(&d);
    vis_expect(&v, DRIVER_ERROR);
    UNTIL(st->reset == WIRE_CODE_PROTOCOL_ERROR);
    vis_send(&v, GET); /* ended before it began */
    st = opened(++n);
    drv_reset(&d, st->id, WIRE_CODE_REFUSED_STREAM);
    drv_send(&d);
    vis_expect(&v, BAD_GATEWAY);
    vis_send(&v, GET); /* more than content-length, before anything went out */
    st = opened(++n);
    drv_head(&d, st->id, 200, "content-length: 2");
    drv_text(&d, st->id, "abc");
    drv_send(&d);
    vis_expect(&v, DRIVER_ERROR);
    UNTIL(st->reset == WIRE_CODE_PROTOCOL_ERROR);
    CU_ASSERT_EQUAL(rig.metrics.visitor_responses_total[HT_METRIC_CLASS_BAD_GATEWAY], 1);
    CU_ASSERT_EQUAL(rig.metrics.visitor_responses_total[HT_METRIC_CLASS_DRIVER_ERROR], n - 1);
    leave(&v);
    end();
}

static void test_cut_answers(void) {
    begin();
    for (unsigned i = 0; i < 4; i++) {
        struct visitor v = vis_connect(port);
        vis_send(&v, GET);
        struct played_stream *st = opened(i + 1);
        drv_head(&d, st->id, 200, i == 3 ? NULL : "content-length: 4");
        drv_text(&d, st->id, "abc");
        drv_send(&d);
        vis_expect(&v, i == 3 ? "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n"
                              : "HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nabc");
        switch (i) {
        case 0:
            drv_text(&d, st->id, "de"); /* too much */
            break;
        case 1:
            drv_eof(&d, st->id); /* too little */
            break;
        default:
            drv_reset(&d, st->id, WIRE_CODE_CANCEL);
            break;
        }
        drv_send(&d);
        vis_expect_end(&v, true);
        UNTIL(i != 0 || st->reset == WIRE_CODE_PROTOCOL_ERROR);
        leave(&v);
    }
    end();
}

/* A slow visitor holds at most a stream window, and stops only itself. */
static void a_slow_reader_holds_one_window_and_stops_only_itself(void) {
    static char block[65536];
    begin();
    struct visitor slow = vis_connect(port), fast = vis_connect(port);
    setsockopt(slow.fd, SOL_SOCKET, SO_RCVBUF, &(int){262144}, sizeof(int));
    vis_send(&slow, GET);
    struct played_stream *st = opened(1);
    drv_head(&d, 2, 200, NULL);
    size_t credit = WIRE_LIMIT_STREAM_WINDOW, sent = 0;
    for (int quiet = 0; quiet < 20;) {
        if (sent + sizeof block <= credit + st->window) {
            drv_data(&d, 2, block, sizeof block);
            sent += sizeof block;
            quiet = 0;
        }
        drv_send(&d);
        one_turn();
        quiet++;
    }
    CU_ASSERT(sent < 16u << 20); /* the kernel's buffers, and a window in ours */
    vis_send(&fast, GET);
    opened(2);
    drv_head(&d, 4, 200, "content-length: 2");
    drv_text(&d, 4, "ok");
    drv_eof(&d, 4);
    drv_send(&d);
    vis_expect(&fast, "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok");
    drv_eof(&d, 2);
    drv_send(&d);
    size_t frames = sent / sizeof block, all = 0;
    while (all < sent + frames * 9) { /* all of it comes, chunk heads and tails around it */
        UNTIL(vis_got(&slow) > 0 || slow.ended || slow.cut);
        if (slow.ended || slow.cut)
            break;
        all += ht_buf_size(&slow.rx);
        bool last = ht_buf_size(&slow.rx) >= 5 && memcmp(slow.rx.data + slow.rx.len - 5, "0\r\n\r\n", 5) == 0;
        ht_buf_consume(&slow.rx, ht_buf_size(&slow.rx));
        if (last)
            break;
    }
    CU_ASSERT(all > sent && all < sent + frames * 16 + 200);
    CU_ASSERT_FALSE(slow.cut);
    vis_close(&slow);
    leave(&fast);
    end();
}

static void test_visitor_leaves(void) {
    begin_with(30000, 300);
    struct visitor v = vis_connect(port);
    vis_send(&v, GET);
    struct played_stream *st = opened(1);
    vis_close(&v);
    UNTIL(st->reset == WIRE_CODE_CANCEL);
    v = vis_connect(port); /* half-way through an answer */
    vis_send(&v, GET);
    st = opened(2);
    drv_head(&d, 4, 200, NULL);
    drv_text(&d, 4, "x");
    drv_send(&d);
    vis_expect(&v, "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n1\r\nx\r\n");
    vis_close(&v);
    UNTIL(st->reset == WIRE_CODE_CANCEL);
    UNTIL(relay_count_visitors(rig.table) == 0);
    end();
}

/* ---- upgrades ---- */

static void an_upgrade_passes_nothing_before_the_101(void) {
    begin();
    struct visitor v = vis_connect(port);
    vis_send(&v, UPGRADE "early");
    struct played_stream *st = opened(1);
    UNTIL(st->eofs == 1);
    expect_open(
        st, &v,
        "\"method\":\"GET\",\"target\":\"/ws\",\"headers\":[[\"host\",\"a\"],[\"connection\",\"keep-alive, Upgrade\"],"
        "[\"upgrade\",\"websocket\"],[\"sec-websocket-key\",\"k\"],[\"sec-websocket-version\",\"13\"]]",
        true, "1.1");
    CU_ASSERT_EQUAL(ht_buf_size(&st->body), 0); /* nothing before the 101 */
    drv_head(&d, 2, 101, "sec-websocket-accept: z");
    drv_text(&d, 2, "first");
    drv_send(&d);
    vis_expect(&v, "HTTP/1.1 101 Switching Protocols\r\nsec-websocket-accept: z\r\nconnection: Upgrade\r\n"
                   "upgrade: websocket\r\n\r\nfirst");
    UNTIL(ht_buf_size(&st->body) == 5);
    vis_send(&v, " more");
    UNTIL(ht_buf_size(&st->body) == 10);
    CU_ASSERT_EQUAL(memcmp(ht_buf_head(&st->body), "early more", 10), 0);
    shutdown(v.fd, SHUT_WR);
    UNTIL(st->eofs == 2);
    drv_text(&d, 2, "last");
    drv_eof(&d, 2);
    drv_send(&d);
    vis_expect(&v, "last");
    vis_expect_end(&v, false);
    leave(&v);
    end();
}

static void test_upgrade_declined(void) {
    begin();
    struct visitor v = vis_connect(port);
    vis_send(&v, UPGRADE);
    struct played_stream *st = opened(1);
    drv_head(&d, 2, 403, "content-length: 2");
    drv_text(&d, 2, "no");
    drv_send(&d); /* and no EOF */
    vis_expect(&v, "HTTP/1.1 403 Forbidden\r\ncontent-length: 2\r\nconnection: close\r\n\r\nno");
    vis_expect_end(&v, false);
    UNTIL(st->reset == WIRE_CODE_NO_ERROR);
    leave(&v);
    /* HTTP/2 is not what we carry: a plain request */
    v = vis_connect(port);
    vis_send(&v, "GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: "
                 "x\r\n\r\n");
    expect_open(opened(2), &v, "\"method\":\"GET\",\"target\":\"/\",\"headers\":[[\"host\",\"a\"]]", false, "1.1");
    leave(&v);
    UNTIL(d.streams[1].reset == WIRE_CODE_CANCEL);
    end();
}

static void test_upgrade_reset(void) {
    begin();
    struct visitor v = vis_connect(port);
    vis_send(&v, UPGRADE);
    opened(1);
    drv_head(&d, 2, 101, NULL);
    drv_send(&d);
    vis_expect(&v, "HTTP/1.1 101 Switching Protocols\r\nconnection: Upgrade\r\nupgrade: websocket\r\n\r\n");
    drv_reset(&d, 2, WIRE_CODE_CANCEL);
    drv_send(&d);
    vis_expect_end(&v, true);
    leave(&v);
    end();
}

static const struct tap_test tests[] = {
    {"pipelined requests are answered one by one, in order", pipelined_requests_are_answered_one_by_one_in_order},
    {"answers without a body", test_head_request},
    {"an EOF that never comes", test_late_eof_timeout},
    {"HTTP/1.0 gets no chunks and no interim heads", http_1_0_gets_no_chunks_and_no_interim_heads},
    {"Connection: close ends the connection after the answer", connection_close_ends_the_connection_after},
    {"answers that are refused", test_bad_answers},
    {"answers that are cut", test_cut_answers},
    {"a slow reader holds one window and stops only itself", a_slow_reader_holds_one_window_and_stops_only_itself},
    {"a visitor that leaves", test_visitor_leaves},
    {"an upgrade passes nothing before the 101", an_upgrade_passes_nothing_before_the_101},
    {"an upgrade that is declined", test_upgrade_declined},
    {"an upgrade that is reset", test_upgrade_reset},
    {NULL, NULL},
};

int main(void) { return tap_main("visitor, responses", tests); }
