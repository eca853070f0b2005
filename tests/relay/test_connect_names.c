/* CONNECT and SOCKS5 to names that a driver has registered. The driver is played frame by frame. */
#include "relay/connect_rig.h"
#include "relay/socks.h"

static struct driver d;

static void begin(void) {
    proxy_prepare();
    rig_caps = WIRE_CAP_NAMES;
    drv_start(&d);
    proxy_cfg.policy.pass = false; /* what is registered is its driver's to reach, whatever the rest may */
    proxy_open();
}

static void end(void) {
    UNTIL(relay_connect_clients(proxy) == 0);
    drv_stop(&d);
    rig_caps = 0;
    proxy_end();
}

static void register_name(const char *name) {
    struct ht_slice one = ht_slice_str(name);
    struct relay_bound out;
    enum wire_bind_error code;
    struct wire_bind bind = {.kind = WIRE_KIND_TCP,
                             .mode = WIRE_MODE_PULL,
                             .has_portless = true,
                             .portless = true,
                             .names = &one,
                             .n_names = 1};
    CU_ASSERT_EQUAL_FATAL(rig_bind(&d, bind, &out, &code), 0);
}

static struct played_stream *opened(unsigned n) {
    UNTIL(d.n_streams >= n);
    return &d.streams[n - 1];
}

static void connected(uint32_t id) {
    uint8_t f[WIRE_LIMIT_HEADER] = {WIRE_STREAM_CONNECTED, (uint8_t)(id >> 24), (uint8_t)(id >> 16), (uint8_t)(id >> 8),
                                    (uint8_t)id};
    drv_frame(&d, f, sizeof f);
    drv_send(&d);
}

static void reset(uint32_t id, const char *reason) {
    uint8_t f[256];
    int n = wire_encode_reset(f, sizeof f, id, WIRE_CODE_REFUSED_STREAM, ht_slice_str(reason));
    CU_ASSERT_FATAL(n > 0);
    drv_frame(&d, f, (size_t)n);
    drv_send(&d);
}

static struct visitor ask(const char *target, const char *behind) {
    char head[512];
    struct visitor v = vis_connect(proxy_port);
    snprintf(head, sizeof head, "CONNECT %s HTTP/1.1\r\nHost: x\r\n\r\n%s", target, behind);
    vis_send(&v, head);
    return v;
}

static bool body_is(const struct played_stream *st, const char *text) {
    return ht_slice_is(ht_slice_of(ht_buf_head(&st->body), ht_buf_size(&st->body)), text);
}

static void test_through(void) {
    begin();
    register_name("*.corp.example:443");
    struct visitor v = ask("Git.Corp.Example.:443", "early");
    struct played_stream *st = opened(1);
    CU_ASSERT_PTR_NOT_NULL(strstr(st->open, "\"authority\":\"git.corp.example:443\""));
    settle();
    CU_ASSERT_EQUAL(vis_got(&v), 0); /* nothing is told before the driver has its connection */
    CU_ASSERT_EQUAL(ht_buf_size(&st->body), 0);
    connected(st->id);
    vis_expect(&v, ESTABLISHED);
    UNTIL(body_is(st, "early"));
    drv_text(&d, st->id, "hello");
    drv_send(&d);
    vis_expect(&v, "hello");
    CU_ASSERT_EQUAL(rig.fds.used, 2);
    CU_ASSERT_EQUAL(names_asked, 0); /* the kit looks nothing up */
    shutdown(v.fd, SHUT_WR);
    UNTIL(st->eofs == 1);
    drv_text(&d, st->id, "late");
    drv_eof(&d, st->id);
    drv_send(&d);
    vis_expect(&v, "late");
    vis_expect_end(&v, false);
    vis_close(&v);
    UNTIL(relay_connect_clients(proxy) == 0);
    CU_ASSERT_EQUAL(rig.metrics.connect_requests_total[HT_METRIC_WAY_OUT_TUNNEL], 1);
    /* the driver may speak together with its word */
    v = ask("a.corp.example:443", "");
    st = opened(2);
    uint8_t f[WIRE_LIMIT_HEADER] = {WIRE_STREAM_CONNECTED, 0, 0, 0, (uint8_t)st->id};
    drv_frame(&d, f, sizeof f);
    drv_text(&d, st->id, "banner");
    drv_eof(&d, st->id);
    drv_send(&d);
    vis_expect(&v, ESTABLISHED "banner");
    vis_expect_end(&v, false);
    vis_close(&v);
    /* what nobody has registered goes by the policy */
    v = ask("corp.example:443", "");
    EXPECT_ANSWER(&v, 403, "proxy-denied");
    v = ask("a.corp.example:80", "");
    EXPECT_ANSWER(&v, 403, "proxy-denied");
    end();
}

/* http:// URLs go the same way, in origin form. */
static void test_plain(void) {
    begin();
    register_name("a.example:80");
    struct visitor v = vis_connect(proxy_port);
    for (unsigned i = 1; i < 3; i++) {
        vis_send(&v, "GET http://A.example/x HTTP/1.1\r\nHost: A.example\r\n\r\n");
        struct played_stream *st = opened(i);
        CU_ASSERT_PTR_NOT_NULL(strstr(st->open, "\"authority\":\"a.example:80\""));
        connected(st->id);
        UNTIL(body_is(st, "GET /x HTTP/1.1\r\nhost: A.example\r\nvia: 1.1 hoody-tunnel\r\n\r\n"));
        drv_text(&d, st->id, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
        drv_send(&d);
        vis_expect(&v, "HTTP/1.1 200 OK\r\ncontent-length: 2\r\nvia: 1.1 hoody-tunnel\r\n\r\nok");
        UNTIL(st->eofs == 1 || st->reset >= 0);
        drv_eof(&d, st->id);
        drv_send(&d);
    }
    UNTIL(relay_connect_clients(proxy) == 1);
    CU_ASSERT_EQUAL(rig.metrics.connect_requests_total[HT_METRIC_WAY_OUT_TUNNEL], 2);
    vis_send(&v, "GET http://a.example/x HTTP/1.1\r\nHost: a.example\r\nConnection: close\r\n\r\n");
    reset(opened(3)->id, "timeout: x");
    EXPECT_ANSWER(&v, 504, "proxy-timeout");
    v = vis_connect(proxy_port); /* the client leaves while the driver connects */
    vis_send(&v, "GET http://a.example/x HTTP/1.1\r\nHost: a.example\r\n\r\n");
    opened(4);
    setsockopt(v.fd, SOL_SOCKET, SO_LINGER, &(struct linger){1, 0}, sizeof(struct linger));
    vis_close(&v);
    UNTIL(opened(4)->reset >= 0);
    drv_drop(&d);
    v = vis_connect(proxy_port);
    vis_send(&v, "GET http://a.example/x HTTP/1.1\r\nHost: a.example\r\nConnection: close\r\n\r\n");
    EXPECT_ANSWER(&v, 503, "parked");
    end();
}

static void pass(uint64_t ms) {
    ht_clock_skip(ms * 1000);
    settle();
}

static struct visitor ask_plain(unsigned n) {
    struct visitor v = vis_connect(proxy_port);
    vis_send(&v, "GET http://a.example/x HTTP/1.1\r\nHost: a.example\r\nConnection: close\r\n\r\n");
    connected(opened(n)->id);
    UNTIL(ht_buf_size(&opened(n)->body) > 0);
    return v;
}

/* The time for the head of an answer stands still while the link is away. Off: `proxy` in away_ms() (visitor_http.c).
 */
static void test_plain_away(void) {
    proxy_prepare();
    relay_table_destroy(&rig.table);
    rig.cfg.response_timeout_ms = 2000;
    rig_table();
    rig_caps = WIRE_CAP_NAMES | WIRE_CAP_STREAM_RESUME;
    drv_start(&d);
    proxy_open();
    register_name("a.example:80");
    struct visitor v = ask_plain(1), w = ask_plain(2);
    for (unsigned turn = 0; turn < 2; turn++) {
        pass(700);
        drv_away(&d);
        for (unsigned i = 0; i < 3; i++)
            pass(1100);
        drv_back(&d);
        CU_ASSERT_EQUAL(vis_got(&v) + vis_got(&w), 0);
    }
    pass(300);
    drv_text(&d, opened(1)->id, "HTTP/1.1 204 No Content\r\n\r\n");
    drv_send(&d);
    UNTIL(vis_over(&v));
    CU_ASSERT_PTR_NOT_NULL(memmem(ht_buf_head(&v.rx), ht_buf_size(&v.rx), "HTTP/1.1 204", 12));
    pass(600); /* and then it is over */
    EXPECT_ANSWER(&w, 504, "proxy-slow");
    vis_close(&v);
    for (unsigned i = 1; i <= 2; i++) {
        UNTIL(opened(i)->eofs == 1 || opened(i)->reset >= 0);
        drv_eof(&d, opened(i)->id);
    }
    drv_send(&d);
    end();
}

/* An answer that only its connection ends: when the driver's stream is cut, it must not look whole. */
static void test_plain_cut(void) {
    begin();
    register_name("a.example:80");
    struct visitor v = vis_connect(proxy_port);
    vis_send(&v, "GET http://a.example/x HTTP/1.1\r\nHost: a.example\r\n\r\n");
    struct played_stream *st = opened(1);
    connected(st->id);
    drv_text(&d, st->id, "HTTP/1.1 200 OK\r\n\r\nhalf");
    drv_send(&d);
    UNTIL(vis_got(&v) && memmem(ht_buf_head(&v.rx), ht_buf_size(&v.rx), "half", 4));
    reset(st->id, "unreachable: x");
    UNTIL(vis_over(&v));
    CU_ASSERT(v.cut);
    CU_ASSERT_PTR_NULL(memmem(ht_buf_head(&v.rx), ht_buf_size(&v.rx), "0\r\n\r\n", 5));
    vis_close(&v);
    end();
}

static void test_socks(void) {
    static const char request[] = "\5\1\0\5\1\0\3\11a.example\1\xbb"
                                  "early";
    uint8_t want[2 + RELAY_SOCKS_REPLY] = {5, 0};
    begin();
    register_name("a.example");
    struct visitor v = vis_connect(proxy_port);
    vis_send_bytes(&v, request, sizeof request - 1);
    struct played_stream *st = opened(1);
    connected(st->id);
    relay_socks_put(want + 2, RELAY_SOCKS_GOOD);
    UNTIL(vis_got(&v) >= sizeof want);
    CU_ASSERT(memcmp(ht_buf_head(&v.rx), want, sizeof want) == 0);
    UNTIL(body_is(st, "early"));
    vis_close(&v);
    drv_eof(&d, st->id);
    drv_send(&d);
    v = vis_connect(proxy_port);
    vis_send_bytes(&v, request, sizeof request - 1);
    reset(opened(2)->id, "refused: nobody is there");
    relay_socks_put(want + 2, RELAY_SOCKS_REFUSED);
    UNTIL(vis_over(&v));
    CU_ASSERT(vis_got(&v) == sizeof want && memcmp(ht_buf_head(&v.rx), want, sizeof want) == 0);
    vis_close(&v);
    end();
}

static void test_words(void) {
    static const struct {
        const char *reason;
        unsigned status;
        const char *error;
    } words[] = {
        {"refused: x", 502, "proxy-refused"},
        {"name-unknown: x", 502, "proxy-unknown"},
        {"unreachable: x", 502, "proxy-unreachable"},
        {"timeout: x", 504, "proxy-timeout"},
        {"not-covered: x", 403, "proxy-denied"},
        {"busy: x", 503, "proxy-busy"},
        {"too-many: x", 503, "proxy-busy"},
        {"tls-service: x", 502, "proxy-bad-answer"},
        {"no word of ours", 502, "proxy-unreachable"},
    };
    begin();
    register_name("a.example:443");
    for (unsigned i = 0; i < HT_ARRAY_LEN(words); i++) {
        struct visitor v = ask("a.example:443", "");
        reset(opened(i + 1)->id, words[i].reason);
        EXPECT_ANSWER(&v, words[i].status, words[i].error);
    }
    end();
}

static void one_there_one_asking(struct visitor *there, struct visitor *asking) {
    begin();
    register_name("a.example:443");
    *there = ask("a.example:443", "");
    connected(opened(1)->id);
    vis_expect(there, ESTABLISHED);
    *asking = ask("a.example:443", "");
    opened(2);
}

static void test_away(void) {
    struct visitor v, w;
    one_there_one_asking(&v, &w);
    drv_drop(&d); /* parked */
    vis_expect_end(&v, true);
    EXPECT_ANSWER(&w, 503, "link-lost");
    w = ask("a.example:443", "");
    UNTIL(vis_over(&w));
    CU_ASSERT_PTR_NOT_NULL(memmem(ht_buf_head(&w.rx), ht_buf_size(&w.rx), "retry-after: 5\r\n", 16));
    EXPECT_ANSWER(&w, 503, "parked");
    vis_close(&v);
    end();
}

/* Its link is away: who asks for the name meanwhile waits. */
static void test_hold(void) {
    begin();
    relay_connect_close(&proxy);
    proxy_cfg.dial_timeout_ms = 1000; /* counts from when the driver is asked */
    proxy_open();
    register_name("a.example:443");
    relay_owner_away(rig.table, &d.owner);
    struct visitor v = ask("a.example:443", ""), w = vis_connect(proxy_port);
    vis_send(&w, "GET http://a.example:443/x HTTP/1.1\r\nHost: a.example:443\r\nConnection: close\r\n\r\n");
    UNTIL(relay_owner_waiting(&d.owner) == 2);
    for (int i = 0; i < 3; i++) {
        ht_clock_skip(1100000);
        settle();
    }
    CU_ASSERT_EQUAL(relay_owner_waiting(&d.owner), 2);
    relay_owner_back(&d.owner);
    relay_owner_room(rig.table, &d.owner);
    opened(2);
    connected(d.streams[0].id);
    connected(d.streams[1].id);
    vis_expect(&v, ESTABLISHED);
    unsigned plain = 0;
    UNTIL(body_is(&d.streams[0], "") != body_is(&d.streams[1], ""));
    plain = body_is(&d.streams[0], "") ? 1 : 0;
    drv_text(&d, d.streams[plain].id, "HTTP/1.1 204 No Content\r\n\r\n");
    drv_send(&d);
    UNTIL(vis_over(&w));
    CU_ASSERT_PTR_NOT_NULL(memmem(ht_buf_head(&w.rx), ht_buf_size(&w.rx), "HTTP/1.1 204", 12));
    CU_ASSERT_EQUAL(rig.metrics.holds_total[HT_METRIC_HOLD_SERVED], 2);
    vis_close(&w);
    vis_close(&v);
    for (unsigned i = 0; i < 2; i++) {
        UNTIL(d.streams[i].eofs == 1);
        drv_eof(&d, d.streams[i].id);
    }
    drv_send(&d);
    relay_owner_away(rig.table, &d.owner);
    v = ask("a.example:443", "");
    UNTIL(relay_owner_waiting(&d.owner) == 1);
    for (int i = 0; i < 5; i++) {
        ht_clock_skip(1100000);
        settle();
    }
    EXPECT_ANSWER(&v, 503, "parked");
    CU_ASSERT_EQUAL(rig.metrics.holds_total[HT_METRIC_HOLD_LATE], 1);
    vis_close(&v);
    relay_owner_back(&d.owner);
    end();
}

static void test_gone(void) {
    struct visitor v, w;
    one_there_one_asking(&v, &w);
    CU_ASSERT_EQUAL(relay_unbind(rig.table, &d.owner, 1), 0);
    vis_expect_end(&v, true);
    EXPECT_ANSWER(&w, 502, "closed");
    UNTIL(d.streams[0].reset >= 0 && d.streams[1].reset >= 0);
    vis_close(&v);
    v = ask("a.example:443", "");
    EXPECT_ANSWER(&v, 403, "proxy-denied");
    end();
}

static void test_slow_driver(void) {
    begin();
    relay_connect_close(&proxy);
    proxy_cfg.dial_timeout_ms = 150;
    proxy_cfg.idle_timeout_ms = 100;
    proxy_open();
    register_name("a.example:443");
    struct visitor v = ask("a.example:443", "");
    EXPECT_ANSWER(&v, 504, "proxy-timeout");
    UNTIL(opened(1)->reset == WIRE_CODE_CANCEL);
    v = ask("a.example:443", ""); /* quiet for too long */
    connected(opened(2)->id);
    vis_expect(&v, ESTABLISHED);
    vis_expect_end(&v, true);
    UNTIL(opened(2)->reset == WIRE_CODE_IDLE_TIMEOUT);
    vis_close(&v);
    v = ask("a.example:443", ""); /* it leaves while the driver connects */
    opened(3);
    setsockopt(v.fd, SOL_SOCKET, SO_LINGER, &(struct linger){1, 0}, sizeof(struct linger));
    vis_close(&v);
    UNTIL(opened(3)->reset == WIRE_CODE_CANCEL);
    end();
}

static void test_no_stream(void) {
    begin();
    register_name("a.example:443");
    static struct visitor v[129];
    rig.fds.total = 1000;
    for (unsigned i = 0; i < 128; i++) {
        v[i] = ask("a.example:443", "");
        opened(i + 1);
    }
    v[128] = ask("a.example:443", "");
    EXPECT_ANSWER(&v[128], 503, "stream-cap");
    for (unsigned i = 0; i < 128; i++)
        vis_close(&v[i]);
    relay_connect_cut(proxy, NULL, "the test says so");
    end();
}

static void test_no_memory(void) {
    bool through = false;
    for (long i = 0; i < 300 && !through; i++) {
        begin();
        register_name("a.example:443");
        ht_mem_fail_at(i);
        struct visitor v = ask("a.example:443", "early");
        UNTIL(d.n_streams || vis_over(&v));
        if (d.n_streams)
            connected(d.streams[0].id);
        UNTIL(vis_got(&v) || vis_over(&v));
        through = ht_mem_fail_pending();
        ht_mem_fail_at(-1);
        vis_close(&v);
        relay_connect_cut(proxy, NULL, "the test says so");
        end();
    }
    CU_ASSERT(through);
}

static const struct tap_test tests[] = {
    {"CONNECT to a registered name goes through the tunnel", test_through},
    {"an http:// URL with a registered name goes through the tunnel", test_plain},
    {"the time of a request stands still while the link is away", test_plain_away},
    {"an http:// answer that is cut does not look whole", test_plain_cut},
    {"SOCKS5 to a registered name goes through the tunnel", test_socks},
    {"the driver's reason becomes the client's answer", test_words},
    {"a parked name gets 503", test_away},
    {"whoever asks for a name whose driver is away waits", test_hold},
    {"a client loses its connection with the name", test_gone},
    {"slow drivers and quiet clients time out", test_slow_driver},
    {"without a stream a client gets 503", test_no_stream},
    {"each allocation may fail", test_no_memory},
    {NULL, NULL},
};

int main(void) { return tap_main("connect names", tests); }
