/*
 * Visitors and drivers that go to the edge of what HTTP/1.1 allows, or over it: hardening cases 1, 2, 5 to 8. Beside
 * each test stands how to switch its defence off, which makes it fail; tests/hardening.yaml has the same words.
 */
#include "relay/visitor_rig.h"

static bool holds(const struct played_stream *st, const char *text) {
    bool yes = strstr(st->open, text) != NULL;
    if (!yes)
        printf("# no %s in %s\n", text, st->open);
    return yes;
}

/* ---- what is sent on ---- */

/* RFC 9112 3.2.2 and 3.2.4. Off: leave HTTP_PATH_IS_SERVER out of absolute_target(); build_fields() without the
 * authority. */
static void an_absolute_form_target_decides_about_host(void) {
    static const struct {
        const char *request, *target, *headers;
    } rows[] = {
        {"OPTIONS http://h HTTP/1.1\r\nHost: h\r\n\r\n", "*", "[[\"host\",\"h\"]]"},
        {"OPTIONS http://h/ HTTP/1.1\r\nHost: h\r\n\r\n", "/", "[[\"host\",\"h\"]]"},
        {"OPTIONS * HTTP/1.1\r\nHost: h\r\n\r\n", "*", "[[\"host\",\"h\"]]"},
        {"GET http://h HTTP/1.1\r\nHost: h\r\n\r\n", "/", "[[\"host\",\"h\"]]"},
        {"GET http://h.example:8080/a HTTP/1.0\r\nConnection: keep-alive\r\nX: y\r\n\r\n", "/a",
         "[[\"host\",\"h.example:8080\"],[\"x\",\"y\"]]"},
        {"GET http://h.example?q HTTP/1.0\r\nConnection: keep-alive\r\n\r\n", "/?q", "[[\"host\",\"h.example\"]]"},
        {"GET /plain HTTP/1.0\r\nConnection: keep-alive\r\n\r\n", "/plain", "[]"},
    };
    begin();
    for (unsigned i = 0; i < HT_ARRAY_LEN(rows); i++) {
        char want[256];
        struct visitor v = vis_connect(port);
        vis_send(&v, rows[i].request);
        snprintf(want, sizeof want, "\"target\":\"%s\",\"headers\":%s", rows[i].target, rows[i].headers);
        CU_ASSERT(holds(opened(i + 1), want));
        drv_head(&d, d.streams[i].id, 204, NULL);
        drv_eof(&d, d.streams[i].id);
        drv_send(&d);
        UNTIL(vis_got(&v) > 0);
        leave(&v);
    }
    end();
}

/* RFC 9110 7.6.2. */
static void max_forwards_is_counted_down_and_answered_at_0(void) {
    begin();
    struct visitor v = vis_connect(port);
    vis_send(&v, "OPTIONS /x HTTP/1.1\r\nHost: a\r\nMax-Forwards: 100\r\n\r\n");
    CU_ASSERT(holds(opened(1), "[\"max-forwards\",\"099\"]"));
    answer_x(1);
    vis_expect(&v, OK_X);
    vis_send(&v, "TRACE /x HTTP/1.1\r\nHost: a\r\nMax-Forwards: 1\r\n\r\n");
    CU_ASSERT(holds(opened(2), "[\"max-forwards\",\"0\"]"));
    answer_x(2);
    vis_expect(&v, OK_X);
    vis_send(&v, "GET / HTTP/1.1\r\nHost: a\r\nMax-Forwards: 0\r\n\r\n");
    CU_ASSERT(holds(opened(3), "[\"max-forwards\",\"0\"]"));
    answer_x(3);
    vis_expect(&v, OK_X);
    vis_send(&v, "OPTIONS * HTTP/1.1\r\nHost: a\r\nMax-Forwards: 0\r\n\r\n");
    vis_expect(&v, ANSWER("200 OK", "", "0", ""));
    vis_send(&v, "TRACE / HTTP/1.1\r\nHost: a\r\nMax-Forwards: 00\r\n\r\n");
    vis_expect(&v, ANSWER("501 Not Implemented", "", "26", "TRACE is not answered here"));
    vis_send(&v, "OPTIONS / HTTP/1.1\r\nHost: a\r\nMax-Forwards: -1\r\n\r\n" GET);
    vis_expect(&v, BAD_REQUEST);
    vis_expect_end(&v, false);
    CU_ASSERT_EQUAL(d.n_streams, 3);
    leave(&v);
    end();
}

/* Hardening case 8. Off: http_is_end_to_end() always false. */
static void test_connection_cannot_strip(void) {
    begin();
    struct visitor v = vis_connect(port);
    vis_send(&v, "GET / HTTP/1.1\r\nHost: a\r\nConnection: X-Forwarded-For, authorization\r\nConnection: cookie,host, "
                 "x-hop\r\nX-Forwarded-For: 1.2.3.4\r\nAuthorization: b\r\nCookie: c\r\nX-Hop: 1\r\n\r\n");
    CU_ASSERT(holds(opened(1), "\"headers\":[[\"host\",\"a\"],[\"x-forwarded-for\",\"1.2.3.4\"],[\"authorization\","
                               "\"b\"],[\"cookie\",\"c\"]]"));
    /* The same the other way. Off: is_named() always false, and then always true. */
    drv_head(&d, 2, 200, "connection: x-hop, set-cookie\nx-hop: 1\nSet-Cookie: s\ncontent-length: 1\nx-end: 2");
    drv_text(&d, 2, "x");
    drv_eof(&d, 2);
    drv_send(&d);
    vis_expect(&v, "HTTP/1.1 200 OK\r\nSet-Cookie: s\r\nx-end: 2\r\ncontent-length: 1\r\n\r\nx");
    leave(&v);
    end();
}

/* ---- drivers ---- */

/* Heads count against no window. Off: limits/MAX_INTERIM at 60000. */
static void test_interim_heads_without_end(void) {
    char fields[4096];
    begin();
    memset(fields, 'v', sizeof fields);
    memcpy(fields, "link: ", 6);
    fields[sizeof fields - 1] = '\0';
    struct visitor v = vis_connect(port);
    setsockopt(v.fd, SOL_SOCKET, SO_RCVBUF, &(int){4096}, sizeof(int));
    vis_send(&v, GET);
    struct played_stream *st = opened(1);
    unsigned n = 0;
    for (; st->reset < 0 && n < 5000; n++) {
        drv_head_final(&d, st->id, 103, fields, false);
        drv_send(&d);
        one_turn();
    }
    CU_ASSERT_EQUAL(st->reset, WIRE_CODE_ENHANCE_YOUR_CALM);
    vis_close(&v);
    UNTIL(relay_count_visitors(rig.table) == 0);
    end();
}

/* Response splitting and second answers (hardening case 7). Off: http_is_field_value() always true; check_head()
 * always NULL; the length check in stream_data(). */
static void a_second_answer_is_never_passed(void) {
    static const struct {
        uint16_t status;
        const char *fields;
    } second[] = {{200, "content-length: 0"}, {103, NULL}, {404, NULL}, {101, NULL}};
    begin();
    for (unsigned i = 0; i < HT_ARRAY_LEN(second); i++) {
        struct visitor v = vis_connect(port);
        vis_send(&v, GET GET);
        struct played_stream *st = opened(2 * i + 1);
        drv_head(&d, st->id, 200, "content-length: 9");
        drv_text(&d, st->id, "only");
        drv_send(&d);
        vis_expect(&v, "HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nonly");
        drv_head(&d, st->id, second[i].status, second[i].fields);
        drv_send(&d);
        vis_expect_end(&v, true);
        UNTIL(st->reset == WIRE_CODE_PROTOCOL_ERROR);
        leave(&v);
        v = vis_connect(port);
        vis_send(&v, GET);
        st = opened(2 * i + 2);
        struct wire_header h = {ht_slice_str(i % 2 ? "x" : "x: a\r\n\r\n<p>"),
                                ht_slice_str(i < 2 ? "a\r\n\r\nHTTP/1.1 200 OK\r\n\r\n" : "a\nset-cookie: b")};
        struct wire_response_head head = {.status = 200, .headers = &h, .n_headers = 1, .final = true};
        uint8_t f[512];
        int len = wire_encode_response_head(f, sizeof f, st->id, &head);
        CU_ASSERT_FATAL(len > 0);
        drv_frame(&d, f, (size_t)len);
        drv_send(&d);
        vis_expect(&v, DRIVER_ERROR);
        UNTIL(st->reset == WIRE_CODE_PROTOCOL_ERROR);
        leave(&v);
    }
    end();
}

/* Status and the final mark have to agree, and be a status. */
/* Many small frames of one message fill the list of borrowed bytes: what was said already cannot be taken back. */
static void test_too_much_in_small_frames(void) {
    begin();
    struct visitor v = vis_connect(port);
    vis_send(&v, GET);
    opened(1);
    drv_head(&d, 2, 200, "content-length: 40");
    for (int i = 0; i < 41; i++)
        drv_text(&d, 2, "x");
    drv_eof(&d, 2);
    drv_send(&d);
    UNTIL(vis_over(&v));
    CU_ASSERT(v.cut);
    CU_ASSERT(ht_buf_size(&v.rx) == 0 || !memmem(ht_buf_head(&v.rx), ht_buf_size(&v.rx), "502", 3));
    UNTIL(d.streams[0].reset == WIRE_CODE_PROTOCOL_ERROR);
    vis_close(&v);
    end();
}

static void test_statuses(void) {
    static const struct {
        uint16_t status;
        bool final;
    } bad[] = {{100, true}, {103, true}, {199, true}, {200, false}, {204, false}, {599, false}};
    begin();
    struct visitor v = vis_connect(port);
    for (unsigned i = 0; i < HT_ARRAY_LEN(bad); i++) {
        vis_send(&v, GET);
        struct played_stream *st = opened(i + 1);
        drv_head_final(&d, st->id, bad[i].status, NULL, bad[i].final);
        drv_send(&d);
        vis_expect(&v, DRIVER_ERROR);
        UNTIL(st->reset == WIRE_CODE_PROTOCOL_ERROR);
    }
    leave(&v);
    end();
}

/* RESET at each moment of an answer: before the head 502, behind interim heads too; in the middle a cut; and an answer
 * that is whole stays whole. */
static void test_resets(void) {
    begin();
    struct visitor v = vis_connect(port);
    vis_send(&v, GET);
    struct played_stream *st = opened(1);
    drv_head_final(&d, st->id, 103, "a: b", false);
    drv_send(&d);
    vis_expect(&v, "HTTP/1.1 103 Early Hints\r\na: b\r\n\r\n");
    drv_reset(&d, st->id, WIRE_CODE_NO_ERROR);
    drv_send(&d);
    vis_expect(&v, BAD_GATEWAY);
    vis_send(&v, GET); /* head, body and RESET in one message: complete all the same */
    st = opened(2);
    drv_head(&d, st->id, 200, "content-length: 1");
    drv_text(&d, st->id, "x");
    drv_reset(&d, st->id, WIRE_CODE_INTERNAL_ERROR);
    drv_send(&d);
    vis_expect(&v, OK_X);
    vis_send(&v, "HEAD / HTTP/1.1\r\nHost: a\r\n\r\n");
    st = opened(3);
    drv_head(&d, st->id, 200, "content-length: 5");
    drv_reset(&d, st->id, WIRE_CODE_INTERNAL_ERROR);
    drv_send(&d);
    vis_expect(&v, "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n");
    vis_send(&v, GET); /* a chunked answer is whole only with its last chunk */
    st = opened(4);
    drv_head(&d, st->id, 200, NULL);
    drv_text(&d, st->id, "x");
    drv_reset(&d, st->id, WIRE_CODE_NO_ERROR);
    drv_send(&d);
    UNTIL(vis_over(&v));
    CU_ASSERT(v.cut);
    CU_ASSERT_PTR_NULL(memmem(v.rx.data, ht_buf_size(&v.rx), "0\r\n\r\n", 5));
    leave(&v);
    end();
}

/* ---- upgrades, hardening case 6 ---- */

/* Every kind of answer but 101 leaves HTTP as it was: framed by us, and the end of the connection. What came early is
 * never sent on or answered. Off: `v->upgrade` out of the condition in write_framing(). */
static void after_a_declined_upgrade_nothing_early_is_passed(void) {
    static const struct {
        uint16_t status;
        const char *fields, *data, *answer;
    } rows[] = {
        {403, "content-length: 2", "no", "HTTP/1.1 403 Forbidden\r\ncontent-length: 2\r\nconnection: close\r\n\r\nno"},
        {200, NULL, "no",
         "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\nconnection: close\r\n\r\n2\r\nno\r\n0\r\n\r\n"},
        {204, NULL, NULL, "HTTP/1.1 204 No Content\r\nconnection: close\r\n\r\n"},
        {426, "upgrade: foo\nconnection: upgrade\ncontent-length: 0", NULL,
         "HTTP/1.1 426 Upgrade Required\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"},
    };
    begin();
    for (unsigned i = 0; i < HT_ARRAY_LEN(rows); i++) {
        struct visitor v = vis_connect(port);
        vis_send(&v, UPGRADE GET); /* the GET would be raw bytes after a 101: now it is nothing */
        struct played_stream *st = opened(i + 1);
        drv_head(&d, st->id, rows[i].status, rows[i].fields);
        if (rows[i].data)
            drv_text(&d, st->id, rows[i].data);
        drv_eof(&d, st->id);
        drv_send(&d);
        vis_expect(&v, rows[i].answer);
        vis_expect_end(&v, false);
        CU_ASSERT_EQUAL(ht_buf_size(&st->body), 0);
        leave(&v);
    }
    CU_ASSERT_EQUAL(d.n_streams, HT_ARRAY_LEN(rows));
    end();
}

/* A WebSocket has none. Off: `refuse` in head_complete() without the WebSocket. */
static void test_websocket_with_a_body(void) {
    static const char *const framing[] = {"Content-Length: 5", "Transfer-Encoding: chunked"};
    begin();
    for (size_t i = 0; i < HT_ARRAY_LEN(framing); i++) {
        char request[512];
        struct visitor v = vis_connect(port);
        snprintf(request, sizeof request, POST "Connection: upgrade\r\nUpgrade: websocket\r\n%s\r\n\r\n", framing[i]);
        vis_send(&v, request);
        vis_send(&v, GET);
        vis_expect(&v, BAD_REQUEST);
        vis_expect_end(&v, false);
        leave(&v);
    }
    CU_ASSERT_EQUAL(d.n_streams, 0);
    end();
}

/* docker's exec. What comes behind the body is kept back until the 101: were it sent on before, a service that declines
 * would read it as a request (Pingora CVE-2026-2833). */
static void test_upgrade_behind_a_body(void) {
    begin();
    struct visitor v = vis_connect(port);
    vis_send(&v, POST "Connection: Upgrade\r\nUpgrade: tcp\r\nContent-Length: 5\r\n\r\nhel");
    struct played_stream *st = opened(1);
    CU_ASSERT(holds(st, "\"isUpgrade\":true"));
    CU_ASSERT(holds(st, "[\"upgrade\",\"tcp\"],[\"content-length\",\"5\"]"));
    UNTIL(ht_buf_size(&st->body) == 3);
    CU_ASSERT_EQUAL(st->eofs, 0);
    vis_send(&v, "loraw");
    UNTIL(st->eofs == 1);
    settle();
    CU_ASSERT_EQUAL(ht_buf_size(&st->body), 5);
    drv_head(&d, st->id, 101, "upgrade: tcp\nconnection: upgrade");
    drv_send(&d);
    vis_expect(&v, "HTTP/1.1 101 Switching Protocols\r\nconnection: Upgrade\r\nupgrade: tcp\r\n\r\n");
    UNTIL(ht_buf_size(&st->body) == 8);
    CU_ASSERT_EQUAL(memcmp(ht_buf_head(&st->body), "helloraw", 8), 0);
    drv_text(&d, st->id, "out");
    drv_eof(&d, st->id);
    drv_send(&d);
    vis_expect(&v, "out");
    shutdown(v.fd, SHUT_WR);
    UNTIL(st->eofs == 2);
    leave(&v);
    /* Declined: what follows the body is nothing. */
    v = vis_connect(port);
    vis_send(&v, POST "Connection: Upgrade\r\nUpgrade: TLS/1.2\r\nContent-Length: 5\r\n\r\nhello" GET);
    answer_x_to_all(2);
    vis_expect(&v, OK_X_CLOSE);
    vis_expect_end(&v, false);
    leave(&v);
    CU_ASSERT_EQUAL(d.n_streams, 2);
    end();
}

/* Off: the 101 of check_head() without the request's end. */
static void test_a_101_before_the_whole_request(void) {
    begin();
    struct visitor v = vis_connect(port);
    vis_send(&v, POST "Connection: Upgrade\r\nUpgrade: tcp\r\nContent-Length: 5\r\n\r\nhel");
    struct played_stream *st = opened(1);
    UNTIL(ht_buf_size(&st->body) == 3);
    drv_head(&d, st->id, 101, "upgrade: tcp");
    drv_send(&d);
    UNTIL(st->reset == WIRE_CODE_PROTOCOL_ERROR);
    UNTIL(vis_got(&v) > 12);
    CU_ASSERT_EQUAL(memcmp(ht_buf_head(&v.rx), "HTTP/1.1 502", 12), 0);
    leave(&v);
    end();
}

/* RFC 9110 7.8: ignored, and the request served. `own` false: a published driver. */
static void test_upgrades_that_are_ignored(void) {
    static const struct {
        const char *fields, *body;
        bool own;
    } rows[] = {
        {"Upgrade: h2c\r\nHTTP2-Settings: x\r\nConnection: HTTP2-Settings\r\nContent-Length: 5", "hello", true},
        {"Upgrade: TLS/1.2\r\nTransfer-Encoding: chunked", "5\r\nhello\r\n0\r\n\r\n", true},
        {"Upgrade: tcp\r\nContent-Length: 5", "hello", false},
    };
    begin();
    for (unsigned i = 0; i < HT_ARRAY_LEN(rows); i++) {
        char request[512];
        d.owner.own_peer = rows[i].own;
        struct visitor v = vis_connect(port);
        snprintf(request, sizeof request, POST "Connection: Upgrade\r\n%s\r\n\r\n%s" GET, rows[i].fields, rows[i].body);
        vis_send(&v, request);
        CU_ASSERT(holds(opened(2 * i + 1), "\"isUpgrade\":false"));
        CU_ASSERT_PTR_NULL(strstr(d.streams[2 * i].open, "upgrade\""));
        answer_x_to_all(2 * i + 1);
        vis_expect(&v, OK_X);
        answer_x_to_all(2 * i + 2); /* the connection lives on */
        vis_expect(&v, OK_X);
        leave(&v);
    }
    d.owner.own_peer = true;
    end();
}

/* ---- bodies that nobody read, hardening case 2 ---- */

/* The answer comes before the body, the body looks like a request. Off: `!v->request_done` out of the condition in
 * write_framing(). */
static void test_bodies_are_never_requests(void) {
    begin();
    for (unsigned i = 0; i < 3; i++) {
        struct visitor v = vis_connect(port);
        vis_send(&v, i == 0 ? POST "Content-Length: 100\r\n\r\n" : POST "Transfer-Encoding: chunked\r\n\r\n");
        struct played_stream *st = opened(i + 1);
        if (i == 2)
            vis_send(&v, "5\r\nhello\r\n");
        drv_head(&d, st->id, 403, "content-length: 0");
        drv_eof(&d, st->id);
        drv_send(&d);
        vis_expect(&v, "HTTP/1.1 403 Forbidden\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
        vis_send(&v, i == 0 ? GET : "0\r\n\r\n" GET);
        vis_expect_end(&v, false);
        CU_ASSERT_EQUAL(d.n_streams, i + 1);
        leave(&v);
    }
    end();
}

/* Expect: a visitor who waits is told to go on; one who does not is not told; unknown ones are refused. Off: answer
 * 100 without looking at `in` in stream_opened(). */
static void n100_continue_goes_only_to_a_visitor_who_waits_for_it(void) {
    begin();
    struct visitor v = vis_connect(port);
    vis_send(&v, POST "Content-Length: 1\r\nExpect: 100-Continue\r\n\r\n");
    vis_expect(&v, "HTTP/1.1 100 Continue\r\n\r\n");
    CU_ASSERT(holds(opened(1), "\"headers\":[[\"host\",\"a\"],[\"content-length\",\"1\"]]"));
    vis_send(&v, "x");
    answer_x_to_all(1);
    vis_expect(&v, OK_X);
    vis_send(&v, POST "Content-Length: 1\r\nExpect: 100-continue\r\n\r\nx");
    answer_x_to_all(2);
    vis_expect(&v, OK_X);
    vis_send(&v, POST "Content-Length: 0\r\nExpect: 100-continue\r\n\r\n"); /* nothing to wait with */
    answer_x(3);
    vis_expect(&v, OK_X);
    vis_send(&v, POST "Content-Length: 5\r\nExpect: 100-continue\r\n\r\n"); /* the answer comes instead of the body */
    vis_expect(&v, "HTTP/1.1 100 Continue\r\n\r\n");
    answer_x(4);
    vis_expect(&v, OK_X_CLOSE);
    vis_send(&v, GET);
    vis_expect_end(&v, false);
    CU_ASSERT_EQUAL(d.n_streams, 4);
    leave(&v);
    v = vis_connect(port);
    vis_send(&v, POST "Content-Length: 5\r\nExpect: tea\r\n\r\n" GET);
    vis_expect(&v, ANSWER("417 Expectation Failed", CLOSE, "19", "unknown expectation"));
    vis_expect_end(&v, false);
    leave(&v);
    end();
}

int main(void) {
    static const struct tap_test tests[] = {
        {"an absolute-form target decides about Host", an_absolute_form_target_decides_about_host},
        {"Max-Forwards is counted down, and answered at 0", max_forwards_is_counted_down_and_answered_at_0},
        {"Connection cannot strip what others rely on", test_connection_cannot_strip},
        {"interim heads without end", test_interim_heads_without_end},
        {"a second answer is never passed on", a_second_answer_is_never_passed},
        {"too much in small frames", test_too_much_in_small_frames},
        {"statuses and the final mark", test_statuses},
        {"resets at each moment", test_resets},
        {"after a declined upgrade nothing early is passed on", after_a_declined_upgrade_nothing_early_is_passed},
        {"a WebSocket with a body", test_websocket_with_a_body},
        {"an upgrade behind a body", test_upgrade_behind_a_body},
        {"a 101 before the whole request", test_a_101_before_the_whole_request},
        {"upgrades that are ignored", test_upgrades_that_are_ignored},
        {"bodies are never requests", test_bodies_are_never_requests},
        {"100 Continue goes only to a visitor who waits for it", n100_continue_goes_only_to_a_visitor_who_waits_for_it},
        {NULL, NULL},
    };
    return tap_main("relay visitor at the edge", tests);
}
