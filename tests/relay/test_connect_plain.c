/* Requests with an absolute target at the CONNECT proxy. */
#include "relay/connect_rig.h"
#include "support/clock_ahead.h"

#define VIA "via: 1.1 hoody-tunnel\r\n" /* RFC 9110 7.6.3 */

static struct visitor say(const char *host, const char *more) {
    char head[2048];
    struct visitor v = vis_connect(proxy_port);
    snprintf(head, sizeof head, "GET http://%s:%u/a?b HTTP/1.1\r\nHost: %s:%u\r\n%s\r\n", host, place.port, host,
             place.port, more);
    vis_send(&v, head);
    return v;
}

/* What a destination is sent by the next connection, up to the empty line. */
static struct visitor take(const char *expected) {
    struct visitor o = place_accept(&place);
    vis_expect(&o, expected);
    return o;
}

static void test_rewritten(void) {
    char want[512];
    proxy_begin();
    name_is(0, "a.example", "127.0.0.1", NULL, NULL);
    struct visitor v =
        say("a.example", "Accept: */*\r\nProxy-Connection: keep-alive\r\nProxy-Authorization: Basic eDp5\r\n"
                         "Connection: x-mine\r\nX-Mine: 1\r\nTE: gzip\r\nKeep-Alive: timeout=5\r\n");
    snprintf(want, sizeof want, "GET /a?b HTTP/1.1\r\nhost: a.example:%u\r\naccept: */*\r\n" VIA "\r\n", place.port);
    struct visitor o = take(want);
    vis_send(&o, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\nProxy-Connection: close\r\n\r\nok");
    vis_expect(&v, "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n" VIA "\r\nok");
    vis_close(&o);
    /* The client's connection serves another destination as well. */
    char head[512];
    snprintf(head, sizeof head,
             "POST http://127.0.0.1:%u HTTP/1.1\r\nHost: 127.0.0.1:%u\r\nTransfer-Encoding: chunked\r\n\r\n"
             "3\r\nabc\r\n0\r\n\r\n",
             place.port, place.port);
    vis_send(&v, head);
    snprintf(want, sizeof want,
             "POST / HTTP/1.1\r\nhost: 127.0.0.1:%u\r\n" VIA "transfer-encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
             place.port);
    o = take(want);
    vis_send(&o, "HTTP/1.1 204 No Content\r\n\r\n");
    vis_expect(&v, "HTTP/1.1 204 No Content\r\n" VIA "\r\n");
    vis_close(&o);
    CU_ASSERT_EQUAL(relay_connect_clients(proxy), 1);
    CU_ASSERT_EQUAL(rig.fds.used, 3);
    vis_close(&v);
    UNTIL(relay_connect_clients(proxy) == 0);
    CU_ASSERT_EQUAL(rig.metrics.connect_requests_total[HT_METRIC_WAY_OUT_DIRECT], 2);
    proxy_end();
}

static void test_refused(void) {
    static const struct {
        const char *head;
        unsigned status;
        const char *error;
    } bad[] = {
        {"GET / HTTP/1.1\r\nHost: x\r\n\r\n", 400, "proxy-bad-target"},
        {"GET / HTTP/1.1\r\nHost: 169.254.169.254\r\n\r\n", 400, "proxy-bad-target"},
        {"OPTIONS * HTTP/1.1\r\nHost: x\r\n\r\n", 400, "proxy-bad-target"},
        {"GET https://a.example/ HTTP/1.1\r\nHost: a.example\r\n\r\n", 400, "proxy-bad-target"},
        {"GET ftp://a.example/ HTTP/1.1\r\nHost: a.example\r\n\r\n", 400, "bad-request"},
        {"GET http://127.1/ HTTP/1.1\r\nHost: 127.1\r\n\r\n", 400, "proxy-bad-target"},
        {"GET http://a.example/ HTTP/1.1\r\nHost: b.example\r\n\r\n", 400, "bad-request"},
        {"GET http://u@a.example/ HTTP/1.1\r\nHost: a.example\r\n\r\n", 400, "bad-request"},
        {"GET http://127.0.0.2/ HTTP/1.1\r\nHost: 127.0.0.2\r\n\r\n", 403, "proxy-denied"},
        {"GET http://localhost/ HTTP/1.1\r\nHost: localhost\r\n\r\n", 403, "proxy-denied"},
        {"GET http://[::ffff:169.254.169.254]/ HTTP/1.1\r\nHost: [::ffff:169.254.169.254]\r\n\r\n", 403,
         "proxy-denied"},
        {"GET http://rebound.example/ HTTP/1.0\r\n\r\n", 403, "proxy-denied"},
        {"GET http://unknown.example/ HTTP/1.1\r\nHost: unknown.example\r\n\r\n", 502, "proxy-unknown"},
        {"POST http://a.example/ HTTP/1.1\r\nHost: a.example\r\nContent-Length: 1\r\nTransfer-Encoding: "
         "chunked\r\n\r\n",
         400, "bad-request"},
        {"POST http://a.example/ HTTP/1.1\r\nHost: a.example\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\n", 400,
         "bad-request"},
        {"POST http://a.example/ HTTP/1.1\r\nHost: a.example\r\nTransfer-Encoding: xchunked\r\n\r\n", 400,
         "bad-request"},
    };
    proxy_begin();
    name_is(0, "rebound.example", "169.254.169.254", "127.0.0.2", NULL);
    for (size_t i = 0; i < HT_ARRAY_LEN(bad); i++) {
        char head[512];
        struct visitor v = vis_connect(proxy_port);
        snprintf(head, sizeof head, "%s", bad[i].head);
        char *blank = strstr(head, "\r\n\r\n"); /* the end comes with the answer */
        memmove(blank + 23, blank + 4, strlen(blank + 4) + 1);
        memcpy(blank, "\r\nConnection: close\r\n\r\n", 23);
        vis_send(&v, head);
        EXPECT_ANSWER(&v, bad[i].status, bad[i].error);
    }
    CU_ASSERT(place_is_quiet(&place));
    proxy_end();
}

static void test_token(void) {
    proxy_prepare();
    proxy_token = "secret";
    proxy_open();
    struct visitor v = say("127.0.0.1", "");
    UNTIL(vis_got(&v) > 0);
    settle();
    CU_ASSERT_PTR_NOT_NULL(memmem(ht_buf_head(&v.rx), ht_buf_size(&v.rx), "HTTP/1.1 407 ", 13));
    CU_ASSERT_PTR_NOT_NULL(memmem(ht_buf_head(&v.rx), ht_buf_size(&v.rx), "proxy-authenticate: Basic ", 26));
    CU_ASSERT(place_is_quiet(&place));
    vis_close(&v);
    v = say("127.0.0.1", "Proxy-Authorization: Bearer secret\r\nAuthorization: Bearer theirs\r\n");
    char want[256];
    snprintf(want, sizeof want,
             "GET /a?b HTTP/1.1\r\nhost: 127.0.0.1:%u\r\nauthorization: Bearer theirs\r\n" VIA "\r\n", place.port);
    struct visitor o = take(want); /* ours goes no further */
    vis_close(&v);
    vis_close(&o);
    proxy_end();
}

static void test_failures(void) {
    proxy_begin();
    struct visitor v = say("127.0.0.1", "Connection: close\r\n");
    struct visitor o = place_accept(&place);
    vis_send(&o, "rubbish\r\n\r\n");
    EXPECT_ANSWER(&v, 502, "proxy-bad-answer");
    vis_close(&o);
    place_refuses(&place);
    v = say("127.0.0.1", "Connection: close\r\n");
    EXPECT_ANSWER(&v, 502, "proxy-refused");
    place_reopen(&place);
    proxy_rules[0].first = proxy_rules[0].last = place.port;
    v = say("127.0.0.1", ""); /* the client leaves: so does the request */
    o = place_accept(&place);
    setsockopt(v.fd, SOL_SOCKET, SO_LINGER, &(struct linger){1, 0}, sizeof(struct linger));
    vis_close(&v);
    UNTIL(vis_over(&o));
    vis_close(&o);
    proxy_end();
}

/* RFC 9110 7.6.3. */
static void test_via(void) {
    static char head[8192];
    proxy_begin();
    struct visitor v = vis_connect(proxy_port);
    snprintf(head, sizeof head, "GET http://127.0.0.1:%u/ HTTP/1.0\r\nVia: 1.1 a, 1.0 b\r\nConnection: Via\r\n\r\n",
             place.port);
    vis_send(&v, head);
    snprintf(head, sizeof head,
             "GET / HTTP/1.1\r\nhost: 127.0.0.1:%u\r\nvia: 1.1 a, 1.0 b\r\nvia: 1.0 hoody-tunnel\r\n\r\n", place.port);
    struct visitor o = take(head);
    vis_send(&o, "HTTP/1.1 200 OK\r\nVia: 1.1 c\r\nContent-Length: 0\r\n\r\n");
    vis_expect(&v, "HTTP/1.1 200 OK\r\nVia: 1.1 c\r\ncontent-length: 0\r\nconnection: close\r\n" VIA "\r\n");
    vis_expect_end(&v, false);
    vis_close(&v);
    vis_close(&o);
    /* A request that has no room for it goes nowhere, rather than without it. */
    for (unsigned fields = WIRE_LIMIT_MAX_HEADERS - 2; fields < WIRE_LIMIT_MAX_HEADERS; fields++) {
        int n = snprintf(head, sizeof head, "GET http://127.0.0.1:%u/ HTTP/1.0\r\nConnection: close\r\n", place.port);
        for (unsigned i = 1; i < fields; i++)
            n += snprintf(head + n, sizeof head - (size_t)n, "X%u: %u\r\n", i, i);
        snprintf(head + n, sizeof head - (size_t)n, "\r\n");
        v = vis_connect(proxy_port);
        vis_send(&v, head);
        if (fields > WIRE_LIMIT_MAX_HEADERS - 2) {
            EXPECT_ANSWER(&v, 431, "head-too-large");
            continue;
        }
        o = place_accept(&place);
        UNTIL(vis_got(&o) > 4 && memcmp(ht_buf_head(&o.rx) + ht_buf_size(&o.rx) - 4, "\r\n\r\n", 4) == 0);
        CU_ASSERT_PTR_NOT_NULL(memmem(ht_buf_head(&o.rx), ht_buf_size(&o.rx), "x125: 125\r\nvia: 1.0 ", 20));
        vis_close(&v);
        vis_close(&o);
    }
    proxy_end();
}

/* ---- the times of every listener ---- */

static bool answer_has(struct visitor *v, const char *text) {
    UNTIL(vis_over(v));
    return memmem(ht_buf_head(&v->rx), ht_buf_size(&v->rx), text, strlen(text)) != NULL;
}

static void jump(uint64_t seconds) {
    clock_ahead_ms += seconds * 1000;
    one_turn();
}

static void test_times(void) {
    proxy_begin();
    /* Between requests; and a second head that does not end. */
    for (int half = 0; half < 2; half++) {
        struct visitor v = say("127.0.0.1", "");
        struct visitor o = place_accept(&place);
        vis_send(&o, "HTTP/1.1 204 No Content\r\n\r\n");
        vis_expect(&v, "HTTP/1.1 204 No Content\r\n" VIA "\r\n");
        vis_close(&o);
        if (half) {
            vis_send(&v, "GET http://127.0.0.1/ HTTP/1.1\r\nHo");
            settle();
            jump(31);
            EXPECT_ANSWER(&v, 408, "head-timeout");
        } else {
            jump(76);
            vis_expect_end(&v, false);
            vis_close(&v);
        }
    }
    /* A first head that does not end. */
    struct visitor v = vis_connect(proxy_port);
    vis_send(&v, "GET http://127.0.0.1/ HTTP/1.1\r\nHo");
    settle();
    jump(31);
    EXPECT_ANSWER(&v, 408, "head-timeout");
    /* A destination that does not answer is no local service. */
    v = say("127.0.0.1", "Connection: close\r\n");
    struct visitor o = place_accept(&place);
    UNTIL(vis_got(&o) > 0);
    jump(301);
    CU_ASSERT(answer_has(&v, "\r\n\r\nthe destination took too long to answer"));
    EXPECT_ANSWER(&v, 504, "proxy-slow");
    UNTIL(vis_over(&o));
    vis_close(&o);
    /* A body that does not come: while nothing runs short it may take its time, and no longer. */
    v = say("127.0.0.1", "Content-Length: 9\r\n");
    o = place_accept(&place);
    UNTIL(vis_got(&o) > 0);
    jump(301);
    CU_ASSERT(answer_has(&v, "HTTP/1.1 408 "));
    EXPECT_ANSWER(&v, 408, "body-timeout");
    UNTIL(vis_over(&o));
    vis_close(&o);
    proxy_end();
}

/* One that does not read its answer is cut after a while, and costs what its windows hold until then. */
static void test_slow_reader(void) {
    static char bytes[65536];
    proxy_begin();
    struct visitor v = say("127.0.0.1", "");
    struct visitor o = place_accept(&place);
    UNTIL(vis_got(&o) > 0);
    vis_send(&o, "HTTP/1.1 200 OK\r\n\r\n");
    size_t sent = 0;
    for (unsigned quiet = 0; quiet < 50 && sent < 64u << 20; quiet++) {
        ssize_t n = send(o.fd, bytes, sizeof bytes, MSG_NOSIGNAL);
        sent += n > 0 ? (size_t)n : 0;
        quiet = n > 0 ? 0 : quiet;
        one_turn();
    }
    CU_ASSERT(sent < 64u << 20);
    CU_ASSERT_EQUAL(relay_connect_clients(proxy), 1);
    jump(31);
    UNTIL(relay_connect_clients(proxy) == 0);
    UNTIL(vis_over(&v));
    CU_ASSERT(v.cut);
    vis_close(&v);
    vis_close(&o);
    proxy_end();
}

/* Words of a port's local service would send people to the wrong place. */
static void test_words(void) {
    static const char *const said[] = {"", "HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n",
                                       "HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n", "\x16\x03\x01"};
    proxy_begin();
    for (size_t i = 0; i < HT_ARRAY_LEN(said); i++) {
        struct visitor v = say("127.0.0.1", "Connection: close\r\n");
        struct visitor o = place_accept(&place);
        UNTIL(vis_got(&o) > 4);
        vis_send(&o, said[i]);
        shutdown(o.fd, SHUT_WR);
        CU_ASSERT(answer_has(&v, "the destination gave no valid answer"));
        EXPECT_ANSWER(&v, 502, "proxy-bad-answer");
        vis_close(&o);
    }
    proxy_end();
}

static void test_end(void) {
    proxy_begin();
    struct visitor idle = say("127.0.0.1", ""), busy;
    struct visitor o = place_accept(&place);
    vis_send(&o, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
    UNTIL(vis_got(&idle) > 0);
    vis_close(&o);
    busy = say("127.0.0.1", "");
    o = place_accept(&place);
    relay_connect_drain(proxy);
    UNTIL(vis_over(&idle));
    CU_ASSERT(!idle.cut);
    vis_send(&o, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
    UNTIL(vis_got(&busy) > 0);
    vis_close(&o);
    vis_close(&idle);
    vis_close(&busy);
    proxy_end();
    proxy_begin(); /* cut in the middle of an answer */
    busy = say("127.0.0.1", "");
    o = place_accept(&place);
    vis_send(&o, "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf");
    UNTIL(vis_got(&busy) > 4);
    relay_connect_cut(proxy, NULL, "the test says so");
    UNTIL(vis_over(&busy));
    CU_ASSERT(busy.cut);
    vis_close(&o);
    vis_close(&busy);
    proxy_end();
}

static void test_many_places(void) {
    proxy_begin();
    struct visitor v = vis_connect(proxy_port);
    for (int i = 0; i < 80; i++) { /* a client that asks for one host after another leaves nothing behind */
        char head[256];
        snprintf(head, sizeof head, "GET http://h%d.example/ HTTP/1.1\r\nHost: h%d.example\r\n\r\n", i, i);
        size_t before = vis_got(&v);
        vis_send(&v, head);
        UNTIL(vis_got(&v) > before);
    }
    vis_close(&v);
    proxy_end();
}

static void test_no_memory(void) {
    bool through = false;
    for (long i = 0; i < 600 && !through; i++) {
        proxy_begin();
        ht_mem_fail_at(i);
        struct visitor v = say("127.0.0.1", ""), o = {.fd = -1};
        UNTIL(vis_got(&v) || vis_over(&v) || o.fd >= 0 ||
              (o.fd = accept4(place.fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0);
        through = ht_mem_fail_pending();
        ht_mem_fail_at(-1);
        vis_close(&v);
        vis_close(&o);
        place_is_quiet(&place);
        proxy_end();
    }
    CU_ASSERT(through);
}

static const struct tap_test tests[] = {
    {"sent on in origin form, and nothing of this connection", test_rewritten},
    {"impossible requests are refused", test_refused},
    {"the token goes no further", test_token},
    {"destinations that cannot be reached are reported", test_failures},
    {"requests and answers carry Via", test_via},
    {"slow clients and destinations time out", test_times},
    {"a slow reader stops only itself", test_slow_reader},
    {"answers speak of a destination, not of a local service", test_words},
    {"a drain lets requests finish, and a cut ends them", test_end},
    {"many destinations are reached at once", test_many_places},
    {"each allocation may fail", test_no_memory},
    {NULL, NULL},
};

int main(void) { return tap_main("connect plain", tests); }
