/* What stands around an answer: the reason beside its status (rule HTTP-16), the fields behind a body (TRAIL-2). */
#include "relay/visitor_rig.h"

#define CHUNKED "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"

static struct visitor ask(const char *request) {
    struct visitor v = vis_connect(port);
    vis_send(&v, request);
    opened(1);
    return v;
}

static void test_reason(void) {
    static const struct {
        uint16_t status;
        const char *reason, *line;
    } rows[] = {
        {200, "Fine, thanks", "200 Fine, thanks"}, {200, NULL, "200 OK"}, {200, "", "200 OK"},
        {299, "Made up", "299 Made up"},           {299, NULL, "299 "},   {404, "N\xc3\xb6pe", "404 N\xc3\xb6pe"}};
    for (size_t i = 0; i < HT_ARRAY_LEN(rows); i++) {
        char want[200];
        begin();
        struct visitor v = ask(GET);
        drv_head_said(&d, 2, rows[i].status, rows[i].reason, "content-length: 0", true);
        drv_eof(&d, 2);
        drv_send(&d);
        snprintf(want, sizeof want, "HTTP/1.1 %s\r\ncontent-length: 0\r\n\r\n", rows[i].line);
        vis_expect(&v, want);
        leave(&v);
        end();
    }
}

static void test_bad_reason(void) {
    static const char *const bad[] = {"OK\r\nx: y", "a\nb", "a\rb", "\x01", "\x7f"};
    for (size_t i = 0; i < HT_ARRAY_LEN(bad); i++) {
        begin();
        struct visitor v = ask(GET);
        drv_head_said(&d, 2, 200, bad[i], NULL, true);
        drv_send(&d);
        UNTIL(d.streams[0].reset == WIRE_CODE_PROTOCOL_ERROR);
        vis_expect(&v, DRIVER_ERROR);
        leave(&v);
        end();
    }
}

static void test_answer(void) {
    rig_caps = WIRE_CAP_TRAILERS;
    begin();
    struct visitor v = ask(GET);
    drv_head(&d, 2, 200, "trailer: x-sum");
    drv_text(&d, 2, "abc");
    drv_send(&d);
    drv_trailers(&d, 2, "X-Sum: 1\nx-more: a b");
    drv_eof(&d, 2);
    drv_send(&d);
    vis_expect(&v, "HTTP/1.1 200 OK\r\ntrailer: x-sum\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n"
                   "0\r\nX-Sum: 1\r\nx-more: a b\r\n\r\n");
    /* The next answer on the connection has none of them. */
    vis_send(&v, GET);
    opened(2);
    drv_head(&d, 4, 200, NULL);
    drv_text(&d, 4, "x");
    drv_eof(&d, 4);
    drv_send(&d);
    vis_expect(&v, CHUNKED "1\r\nx\r\n0\r\n\r\n");
    leave(&v);
    end();
    rig_caps = 0;
}

/* Hardening case 4: what would change the message for whoever merges them into its head never goes out. */
static void test_forbidden(void) {
    rig_caps = WIRE_CAP_TRAILERS;
    begin();
    struct visitor v = ask(GET);
    drv_head(&d, 2, 200, NULL);
    drv_text(&d, 2, "abc");
    drv_trailers(
        &d, 2,
        "content-length: 9\nTransfer-Encoding: chunked\nHost: evil\nset-cookie: a=b\nx-ok: 1\nConnection: x-ok\n"
        "content_length: 9\nWWW-Authenticate: x");
    drv_eof(&d, 2);
    drv_send(&d);
    vis_expect(&v, CHUNKED "3\r\nabc\r\n0\r\nx-ok: 1\r\n\r\n");
    leave(&v);
    end();
    rig_caps = 0;
}

static void test_bad_fields(void) {
    static const char *const bad[] = {"x y: 1", "x: a\rb", "host\r: 1", "host: a\rb"};
    rig_caps = WIRE_CAP_TRAILERS;
    for (size_t i = 0; i < HT_ARRAY_LEN(bad); i++) {
        begin();
        struct visitor v = ask(GET);
        drv_head(&d, 2, 200, NULL);
        drv_text(&d, 2, "abc");
        drv_send(&d);
        vis_expect(&v, CHUNKED "3\r\nabc\r\n");
        drv_trailers(&d, 2, bad[i]);
        drv_eof(&d, 2);
        drv_send(&d);
        UNTIL(d.streams[0].reset == WIRE_CODE_PROTOCOL_ERROR);
        vis_expect_end(&v, true);
        leave(&v);
        end();
    }
    rig_caps = 0;
}

static void test_no_room(void) {
    static const struct {
        const char *request, *fields, *answer;
    } rows[] = {
        {GET, "content-length: 3", "HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nabc"},
        {"GET / HTTP/1.0\r\n\r\n", "trailer: x-sum", "HTTP/1.1 200 OK\r\nconnection: close\r\n\r\nabc"},
    };
    rig_caps = WIRE_CAP_TRAILERS;
    for (size_t i = 0; i < HT_ARRAY_LEN(rows); i++) {
        begin();
        struct visitor v = ask(rows[i].request);
        drv_head(&d, 2, 200, rows[i].fields);
        drv_text(&d, 2, "abc");
        drv_trailers(&d, 2, "x-sum: 1");
        drv_eof(&d, 2);
        drv_send(&d);
        vis_expect(&v, rows[i].answer);
        leave(&v);
        end();
    }
    rig_caps = 0;
}

#define UPLOAD POST "Trailer: X-Sum\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n"

static void upload(unsigned caps, const char *fields, const char *want) {
    char request[500];
    rig_caps = caps;
    begin();
    snprintf(request, sizeof request, UPLOAD "%s\r\n" GET, fields);
    struct visitor v = ask(request);
    UNTIL(d.streams[0].eofs == 1);
    CU_ASSERT_STRING_EQUAL(d.streams[0].trailers, want);
    CU_ASSERT_EQUAL(strstr(d.streams[0].open, "[\"trailer\",\"X-Sum\"]") != NULL, caps != 0);
    CU_ASSERT_EQUAL(ht_buf_size(&d.streams[0].body), 3);
    drv_head(&d, 2, 200, "content-length: 0");
    drv_eof(&d, 2);
    drv_send(&d);
    opened(2); /* the pipelined one */
    CU_ASSERT_PTR_NULL(strstr(d.streams[1].open, "sum"));
    leave(&v);
    end();
    rig_caps = 0;
}

static void test_request(void) {
    upload(WIRE_CAP_TRAILERS, "X-Sum: 1\r\nx-More:  a:B \r\n",
           "{\"headers\":[[\"x-sum\",\"1\"],[\"x-more\",\"a:B\"]]}");
    upload(WIRE_CAP_TRAILERS, "Content-Length: 9\r\nHOST: evil\r\nX-Ok: 1\r\nTransfer_Encoding: x\r\nCookie: a\r\n",
           "{\"headers\":[[\"x-ok\",\"1\"]]}");
    upload(WIRE_CAP_TRAILERS, "Content-Length: 9\r\n", "");
    upload(WIRE_CAP_TRAILERS, "", "");
    upload(0, "X-Sum: 1\r\n", "");
}

/* Rule TRAIL-3. */
static void te(unsigned caps, const char *request, bool wanted) {
    rig_caps = caps;
    begin();
    struct visitor v = ask(request);
    CU_ASSERT_EQUAL(strstr(d.streams[0].open, "[\"te\",\"trailers\"]") != NULL, wanted);
    CU_ASSERT_EQUAL(strstr(d.streams[0].open, "\"te\"") != NULL, wanted);
    CU_ASSERT_PTR_NULL(strstr(d.streams[0].open, "gzip"));
    CU_ASSERT_PTR_NULL(strstr(d.streams[0].open, "connection"));
    leave(&v);
    end();
    rig_caps = 0;
}

static void test_te(void) {
    te(WIRE_CAP_TRAILERS, "GET / HTTP/1.1\r\nHost: x\r\nTE: trailers\r\nConnection: TE\r\n\r\n", true);
    te(WIRE_CAP_TRAILERS, "GET / HTTP/1.1\r\nHost: x\r\nConnection: te\r\nte: gzip;q=0.5 , Trailers\r\n\r\n", true);
    te(WIRE_CAP_TRAILERS, "GET / HTTP/1.1\r\nHost: x\r\nTE: gzip\r\nConnection: TE\r\n\r\n", false);
    te(WIRE_CAP_TRAILERS, "GET / HTTP/1.1\r\nHost: x\r\nTE: xtrailers, trailers;q=1\r\n\r\n", false);
    te(WIRE_CAP_TRAILERS, "GET / HTTP/1.0\r\nHost: x\r\nTE: trailers\r\n\r\n", false);
    te(WIRE_CAP_TRAILERS, "GET / HTTP/1.1\r\nHost: x\r\n\r\n", false);
    te(0, "GET / HTTP/1.1\r\nHost: x\r\nTE: trailers\r\nConnection: TE\r\n\r\n", false);
}

int main(void) {
    static const struct tap_test tests[] = {
        {"the driver's reason stands in the status line", test_reason},
        {"a reason with forbidden bytes resets the stream", test_bad_reason},
        {"trailers of an answer reach the visitor", test_answer},
        {"fields that must not be trailers are dropped", test_forbidden},
        {"trailers with forbidden bytes reset the stream", test_bad_fields},
        {"trailers are dropped where the framing has no place for them", test_no_room},
        {"trailers of a request reach the driver", test_request},
        {"TE is passed on when it asks for trailers", test_te},
        {NULL, NULL},
    };
    return tap_main("visitors: reasons and trailers", tests);
}
