/* CONNECT at the proxy: where it leads, where it does not, and the bytes both ways. */
#include "relay/connect_rig.h"

static void test_both_ways(void) {
    proxy_begin();
    struct visitor v = proxy_ask("127.0.0.1");
    vis_expect(&v, ESTABLISHED);
    struct visitor o = place_accept(&place);
    vis_send(&v, "ping");
    vis_expect(&o, "ping");
    vis_send(&o, "pong");
    vis_expect(&v, "pong");
    CU_ASSERT_EQUAL(rig.metrics.connect_clients_active, 1);
    CU_ASSERT_EQUAL(rig.fds.used, 3);
    /* The client ends first; the other direction goes on. */
    shutdown(v.fd, SHUT_WR);
    vis_expect_end(&o, false);
    vis_send(&o, "after");
    vis_expect(&v, "after");
    vis_close(&o);
    vis_expect_end(&v, false);
    vis_close(&v);
    UNTIL(relay_connect_clients(proxy) == 0);
    CU_ASSERT_EQUAL(proxy_left, 1);
    CU_ASSERT_EQUAL(rig.metrics.connect_bytes_total[HT_METRIC_DIRECTION_RECEIVED], 4);
    CU_ASSERT_EQUAL(rig.metrics.connect_bytes_total[HT_METRIC_DIRECTION_SENT], 4 + 5 + strlen(ESTABLISHED));
    CU_ASSERT_EQUAL(rig.metrics.connect_requests_total[HT_METRIC_WAY_OUT_DIRECT], 1);
    /* The destination ends first. */
    v = proxy_ask("127.0.0.1");
    vis_expect(&v, ESTABLISHED);
    o = place_accept(&place);
    shutdown(o.fd, SHUT_WR);
    vis_expect_end(&v, false);
    v.ended = false;
    vis_send(&v, "still here");
    vis_expect(&o, "still here");
    vis_close(&v);
    vis_expect_end(&o, false);
    vis_close(&o);
    proxy_end();
}

/* Whatever came with the head goes to the destination, however it was cut. */
static void test_behind_the_head(void) {
    char head[256];
    proxy_begin();
    snprintf(head, sizeof head, "CONNECT 127.0.0.1:%u HTTP/1.1\r\nHost: x\r\n\r\nbehind \r\n\r\n", place.port);
    for (size_t at = 0; at <= strlen(head); at += at < 8 ? 1 : 7) {
        struct visitor v = vis_connect(proxy_port);
        vis_send_bytes(&v, head, at);
        settle();
        vis_send(&v, head + at);
        struct visitor o = place_accept(&place);
        vis_expect(&o, "behind \r\n\r\n");
        vis_expect(&v, ESTABLISHED);
        vis_close(&v);
        vis_expect_end(&o, false);
        vis_close(&o);
    }
    struct visitor v = vis_connect(proxy_port); /* HTTP/1.0 without Host, as Python's http.client sends it */
    snprintf(head, sizeof head, "CONNECT 127.0.0.1:%u HTTP/1.0\r\n\r\n", place.port);
    vis_send(&v, head);
    vis_expect(&v, ESTABLISHED);
    struct visitor o = place_accept(&place);
    vis_close(&v);
    vis_close(&o);
    proxy_end();
}

static void test_bad_heads(void) {
    static const struct {
        const char *head;
        unsigned status;
        const char *error;
    } bad[] = {
        {"CONNECT 127.0.0.1 HTTP/1.1\r\n\r\n", 400, "bad-request"},
        {"CONNECT :80 HTTP/1.1\r\n\r\n", 400, "bad-request"},
        {"CONNECT http://a/ HTTP/1.1\r\n\r\n", 400, "bad-request"},
        {"CONNECT a:b@c:80 HTTP/1.1\r\n\r\n", 400, "bad-request"},
        {"CONNECT a:0 HTTP/1.1\r\n\r\n", 400, "proxy-bad-target"},
        {"CONNECT 127.1:80 HTTP/1.1\r\n\r\n", 400, "proxy-bad-target"},
        {"CONNECT 0x7f.0.0.1:80 HTTP/1.1\r\n\r\n", 400, "proxy-bad-target"},
        {"CONNECT 0177.0.0.1:80 HTTP/1.1\r\n\r\n", 400, "proxy-bad-target"},
        {"CONNECT 2130706433:80 HTTP/1.1\r\n\r\n", 400, "proxy-bad-target"},
        {"CONNECT a%2eb:80 HTTP/1.1\r\n\r\n", 400, "proxy-bad-target"},
        {"CONNECT a:80 HTTP/1.1\r\nContent-Length: 4\r\n\r\nbody", 400, "bad-request"},
        {"CONNECT a:80 HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400, "bad-request"},
        {"CONNECT a:80 HTTP/1.1\nHost: x\n\n", 400, "bad-request"},
        {"CONNECT  a:80 HTTP/1.1\r\n\r\n", 400, "bad-request"},
        {"CONNECT a:80 HTTP/2.0\r\n\r\n", 505, "version"},
        {"POST http://a/ HTTP/1.1\r\nHost: a\r\nExpect: x\r\n\r\n", 417, "bad-request"},
        {"\x16\x03\x01\x02\x00\x01", 400, "bad-request"},
    };
    proxy_begin();
    for (size_t i = 0; i < HT_ARRAY_LEN(bad); i++) {
        struct visitor v = vis_connect(proxy_port);
        vis_send(&v, bad[i].head);
        EXPECT_ANSWER(&v, bad[i].status, bad[i].error);
    }
    CU_ASSERT_EQUAL(rig.metrics.connect_requests_total[HT_METRIC_WAY_OUT_REFUSED], HT_ARRAY_LEN(bad));
    CU_ASSERT(place_is_quiet(&place));
    /* a head without end */
    struct visitor v = vis_connect(proxy_port);
    static char field[WIRE_LIMIT_MAX_HEAD + 64];
    memset(field, 'a', sizeof field - 1);
    vis_send(&v, "CONNECT a:80 HTTP/1.1\r\nx: ");
    vis_send(&v, field);
    EXPECT_ANSWER(&v, 431, "head-too-large");
    field[WIRE_LIMIT_MAX_TARGET + 1] = '\0'; /* a destination without end */
    v = vis_connect(proxy_port);
    vis_send(&v, "CONNECT ");
    vis_send(&v, field);
    EXPECT_ANSWER(&v, 414, "target-too-long");
    v = vis_connect(proxy_port); /* too many fields */
    vis_send(&v, "CONNECT a:80 HTTP/1.1\r\n");
    for (unsigned i = 0; i <= WIRE_LIMIT_MAX_HEADERS; i++)
        vis_send(&v, "x: y\r\n");
    vis_send(&v, "\r\n");
    EXPECT_ANSWER(&v, 431, "head-too-large");
    proxy_end();
}

/* ---- where it does not lead ---- */

static void test_denied(void) {
    static const char *const hosts[] = {"127.0.0.2",     "localhost",          "LOCALHOST.",
                                        "[::1]",         "[::ffff:127.0.0.2]", "[64:ff9b::127.0.0.1]",
                                        "0.0.0.0",       "169.254.169.254",    "rebound.example",
                                        "mixed.example", "mapped.example",     "metadata.example"};
    proxy_begin();
    proxy_rules[1] = proxy_rules[0];
    name_is(0, "rebound.example", "127.0.0.2", NULL, NULL);
    name_is(1, "mixed.example", "127.0.0.3", "::1", "169.254.1.1");
    name_is(2, "mapped.example", "::ffff:127.0.0.2", NULL, NULL);
    name_is(3, "metadata.example", "169.254.169.254", NULL, NULL);
    struct place wide = {.fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0)};
    struct io_addr a;
    CU_ASSERT_EQUAL_FATAL(io_addr_parse(&a, "127.0.0.2", place.port), 0);
    CU_ASSERT_EQUAL(bind(wide.fd, (struct sockaddr *)&a.ss, a.len), 0); /* somebody would be there */
    CU_ASSERT_EQUAL(listen(wide.fd, 8), 0);
    /* "localhost" leads to the place, which is allowed; nothing else does. */
    proxy_rules[0].first = proxy_rules[0].last = (uint16_t)(place.port ^ 1);
    for (size_t i = 0; i < HT_ARRAY_LEN(hosts); i++) {
        struct visitor v = proxy_ask(hosts[i]);
        EXPECT_ANSWER(&v, 403, "proxy-denied");
    }
    CU_ASSERT(place_is_quiet(&place) && place_is_quiet(&wide));
    CU_ASSERT_EQUAL(rig.metrics.connect_requests_total[HT_METRIC_WAY_OUT_DENIED], HT_ARRAY_LEN(hosts));
    close(wide.fd);
    proxy_end();
}

/* What is dialled is what was looked at: a name that means something else a moment later is looked up once. */
static void test_rebinding(void) {
    proxy_begin();
    name_is(0, "rebinds.example", "127.0.0.1", NULL, NULL); /* allowed here, as a public address would be elsewhere */
    names_asked = 0;
    struct visitor v = proxy_ask("rebinds.example");
    vis_expect(&v, ESTABLISHED);
    struct visitor o = place_accept(&place);
    CU_ASSERT_EQUAL(names_asked, 1);
    vis_close(&v);
    vis_close(&o);
    /* Of several addresses only those that may be are tried, in whatever order they come. */
    name_is(1, "several.example", "169.254.169.254", "::1", "127.0.0.1");
    v = proxy_ask("several.example");
    vis_expect(&v, ESTABLISHED);
    o = place_accept(&place);
    vis_close(&v);
    vis_close(&o);
    proxy_end();
}

static void test_default_deny(void) {
    proxy_prepare();
    proxy_cfg.policy.pass = false;
    CU_ASSERT_EQUAL_FATAL(relay_rule_parse(&proxy_rules[1], "good.example", NULL), 0);
    proxy_cfg.policy.n_allow = 2;
    proxy_open();
    name_is(0, "good.example", "127.0.0.1", NULL, NULL);
    name_is(1, "other.example", "192.0.2.1", NULL, NULL);
    names_asked = 0;
    struct visitor v = proxy_ask("other.example");
    EXPECT_ANSWER(&v, 403, "proxy-denied");
    v = proxy_ask("192.0.2.1");
    EXPECT_ANSWER(&v, 403, "proxy-denied");
    v = proxy_ask("good.example");
    vis_expect(&v, ESTABLISHED);
    struct visitor o = place_accept(&place);
    vis_close(&v);
    vis_close(&o);
    proxy_end();
}

/* ---- what goes wrong on the way ---- */

static void test_unreachable(void) {
    proxy_begin();
    name_is(0, "gone.example", "127.0.0.1", NULL, NULL);
    place_refuses(&place);
    struct visitor v = proxy_ask("gone.example");
    EXPECT_ANSWER(&v, 502, "proxy-refused");
    v = proxy_ask("127.0.0.1");
    EXPECT_ANSWER(&v, 502, "proxy-refused");
    v = proxy_ask("unknown.example");
    EXPECT_ANSWER(&v, 502, "proxy-unknown");
    CU_ASSERT_EQUAL(rig.metrics.connect_requests_total[HT_METRIC_WAY_OUT_FAILED], 3);
    place_reopen(&place);
    proxy_end();
}

static void test_late(void) {
    proxy_prepare();
    proxy_cfg.dial_timeout_ms = 150;
    proxy_open();
    struct visitor v = proxy_ask("silent.example");
    EXPECT_ANSWER(&v, 504, "proxy-timeout");
    names_release();
    proxy_end();
}

/* One that leaves while its destination is looked up is not waited for. */
static void test_leaves(void) {
    proxy_begin();
    struct visitor v = proxy_ask("silent.example");
    UNTIL(rig.fds.used == 3);
    setsockopt(v.fd, SOL_SOCKET, SO_LINGER, &(struct linger){1, 0}, sizeof(struct linger));
    vis_close(&v);
    UNTIL(relay_connect_clients(proxy) == 0);
    CU_ASSERT_EQUAL(rig.fds.used, 1);
    names_release();
    /* One that has only ended its side still wants its answer. */
    name_is(0, "b.example", "127.0.0.1", NULL, NULL);
    v = proxy_ask("b.example");
    shutdown(v.fd, SHUT_WR);
    vis_expect(&v, ESTABLISHED);
    struct visitor o = place_accept(&place);
    vis_expect_end(&o, false);
    vis_send(&o, "late");
    vis_close(&o);
    vis_expect(&v, "late");
    vis_expect_end(&v, false);
    vis_close(&v);
    proxy_end();
}

static void test_slow_heads(void) {
    proxy_prepare();
    proxy_table_with(100, 30000);
    proxy_open();
    struct visitor half = vis_connect(proxy_port), mute = vis_connect(proxy_port);
    vis_send(&half, "CONNECT a:80 HT");
    EXPECT_ANSWER(&half, 408, "head-timeout");
    vis_expect_end(&mute, false); /* who has said nothing is told nothing */
    vis_close(&mute);
    proxy_end();
}

static void test_idle(void) {
    proxy_prepare();
    proxy_cfg.idle_timeout_ms = 150;
    proxy_open();
    struct visitor v = proxy_ask("127.0.0.1");
    vis_expect(&v, ESTABLISHED);
    struct visitor o = place_accept(&place);
    vis_expect_end(&v, true);
    vis_expect_end(&o, true);
    vis_close(&v);
    vis_close(&o);
    proxy_end();
    /* Half-closed and quiet has its own, shorter time. */
    proxy_prepare();
    proxy_table_with(30000, 150);
    proxy_open();
    v = proxy_ask("127.0.0.1");
    vis_expect(&v, ESTABLISHED);
    o = place_accept(&place);
    shutdown(v.fd, SHUT_WR);
    vis_expect_end(&o, false);
    vis_expect_end(&v, true);
    vis_close(&v);
    vis_close(&o);
    proxy_end();
}

static void test_cuts(void) {
    proxy_begin();
    for (int side = 0; side < 2; side++) {
        struct visitor v = proxy_ask("127.0.0.1");
        vis_expect(&v, ESTABLISHED);
        struct visitor o = place_accept(&place);
        struct visitor *gone = side ? &o : &v, *stays = side ? &v : &o;
        setsockopt(gone->fd, SOL_SOCKET, SO_LINGER, &(struct linger){1, 0}, sizeof(struct linger));
        vis_close(gone);
        vis_expect_end(stays, true); /* a cut is never an end */
        vis_close(stays);
    }
    proxy_end();
}

static void test_bulk(void) {
    enum { ALL = 8 << 20 };
    static char bytes[65536];
    for (size_t i = 0; i < sizeof bytes; i++)
        bytes[i] = (char)(i * 31 + i / 251);
    proxy_begin();
    struct visitor v = proxy_ask("127.0.0.1");
    vis_expect(&v, ESTABLISHED);
    struct visitor o = place_accept(&place);
    for (int way = 0; way < 2; way++) {
        struct visitor *from = way ? &o : &v, *to = way ? &v : &o;
        size_t sent = 0, got = 0;
        bool same = true;
        while (got < ALL) {
            if (sent < ALL) {
                ssize_t n =
                    send(from->fd, bytes + sent % sizeof bytes, sizeof bytes - sent % sizeof bytes, MSG_NOSIGNAL);
                sent += n > 0 ? (size_t)n : 0;
            }
            io_loop_turn(rig.loop, false);
            /* A slow reader: it takes less than comes. */
            vis_read(to, 20000);
            size_t n = ht_buf_size(&to->rx);
            for (size_t i = 0; i < n; i++)
                same &= ht_buf_head(&to->rx)[i] == (uint8_t)bytes[(got + i) % sizeof bytes];
            got += n;
            if (n)
                ht_buf_consume(&to->rx, n);
        }
        CU_ASSERT(same);
        CU_ASSERT_EQUAL(got, ALL);
    }
    vis_close(&v);
    vis_expect_end(&o, false);
    vis_close(&o);
    proxy_end();
}

/* ---- who may come ---- */

static bool nobody(void *ctx, const struct io_addr *peer) {
    (void)ctx, (void)peer;
    return false;
}

static void test_untrusted(void) {
    proxy_prepare();
    proxy_cfg.may_come = nobody;
    proxy_open();
    struct visitor v = vis_connect(proxy_port);
    EXPECT_ANSWER(&v, 403, "proxy-untrusted");
    proxy_end();
}

static void test_token(void) {
    static const struct {
        const char *field;
        bool good;
    } shown[] = {
        {"", false},
        {"Proxy-Authorization: Basic dXNlcjpzZWNyZXQ=\r\n", true}, /* user:secret */
        {"proxy-authorization: basic OnNlY3JldA==\r\n", true},     /* :secret */
        {"Proxy-Authorization: Bearer secret\r\n", true},
        {"Proxy-Authorization: Bearer secre\r\n", false},
        {"Proxy-Authorization: Bearer secret2\r\n", false},
        {"Proxy-Authorization: Bearer \r\n", false},
        {"Proxy-Authorization: Basic dXNlcjp3cm9uZw==\r\n", false},
        {"Proxy-Authorization: Basic c2VjcmV0\r\n", false},        /* no colon */
        {"Proxy-Authorization: Basic dXNlcjpzZWNyZXQ\r\n", false}, /* no pad */
        {"Proxy-Authorization: Basic dXNlcjpzZWNy ZXQ=\r\n", false},
        {"Proxy-Authorization: Basic =\r\n", false},
        {"Proxy-Authorization: Basic\r\n", false},
        {"Proxy-Authorization: Digest x\r\n", false},
        {"Authorization: Bearer secret\r\n", false}, /* meant for the destination */
    };
    proxy_prepare();
    proxy_token = "secret";
    proxy_open();
    unsigned bad = 0;
    for (size_t i = 0; i < HT_ARRAY_LEN(shown); i++) {
        char head[512];
        struct visitor v = vis_connect(proxy_port);
        snprintf(head, sizeof head, "CONNECT 127.0.0.1:%u HTTP/1.1\r\nHost: x\r\n%s\r\n", place.port, shown[i].field);
        vis_send(&v, head);
        if (shown[i].good) {
            vis_expect(&v, ESTABLISHED);
            struct visitor o = place_accept(&place);
            vis_close(&v);
            vis_close(&o);
            continue;
        }
        bad++;
        UNTIL(vis_over(&v));
        static const char how[] = "proxy-authenticate: Basic realm=\"hoody-tunnel\"\r\n";
        CU_ASSERT_PTR_NOT_NULL(memmem(ht_buf_head(&v.rx), ht_buf_size(&v.rx), how, sizeof how - 1));
        EXPECT_ANSWER(&v, 407, "proxy-token");
    }
    CU_ASSERT(place_is_quiet(&place));
    CU_ASSERT_EQUAL(rig.metrics.auth_failures_total[HT_METRIC_SHOWN_AT_PROXY][HT_METRIC_TOKEN_MISSING] +
                        rig.metrics.auth_failures_total[HT_METRIC_SHOWN_AT_PROXY][HT_METRIC_TOKEN_WRONG],
                    bad);
    proxy_end();
}

/* ---- limits ---- */

/* Hardening case 30: both descriptors of a client stand in the budget, and the proxy has half of it at most. */
static void test_permits(void) {
    proxy_prepare();
    proxy_open();
    rig.fds.total = 8; /* one is the listener's, four are the proxy's */
    struct visitor v[3], o[2];
    for (int i = 0; i < 2; i++) {
        v[i] = proxy_ask("127.0.0.1");
        vis_expect(&v[i], ESTABLISHED);
        o[i] = place_accept(&place);
    }
    CU_ASSERT_EQUAL(rig.fds.used, 5);
    v[2] = proxy_ask("127.0.0.1");
    EXPECT_ANSWER(&v[2], 503, "fd-cap");
    vis_close(&v[0]);
    vis_close(&o[0]);
    UNTIL(rig.fds.used == 3);
    v[2] = vis_connect(proxy_port);
    UNTIL(rig.fds.used == 4);
    struct visitor w = proxy_ask("127.0.0.1"); /* one for itself, and none for the way */
    EXPECT_ANSWER(&w, 503, "proxy-busy");
    vis_close(&v[1]);
    vis_close(&v[2]);
    vis_close(&o[1]);
    proxy_end();
}

/* Hardening case 28: whoever says nothing takes places from itself alone. */
static void test_crowd(void) {
    static struct visitor v[RELAY_CONNECT_HEADS + 8];
    proxy_prepare();
    proxy_open();
    rig.fds.total = 4 * RELAY_CONNECT_HEADS;
    struct visitor other = vis_connect_from("127.0.0.2", "127.0.0.1", proxy_port);
    for (size_t i = 0; i < HT_ARRAY_LEN(v); i++) {
        v[i] = vis_connect(proxy_port);
        one_turn();
    }
    UNTIL(vis_over(&v[8])); /* 9 too many, with the other one */
    for (size_t i = 0; i < HT_ARRAY_LEN(v); i++)
        CU_ASSERT_EQUAL(vis_over(&v[i]), i < 9);
    CU_ASSERT_EQUAL(relay_connect_clients(proxy), RELAY_CONNECT_HEADS);
    CU_ASSERT(!vis_over(&other));
    char head[128];
    snprintf(head, sizeof head, "CONNECT 127.0.0.1:%u HTTP/1.1\r\n\r\n", place.port);
    vis_send(&other, head);
    vis_expect(&other, ESTABLISHED);
    struct visitor o = place_accept(&place);
    vis_close(&o);
    vis_close(&other);
    for (size_t i = 0; i < HT_ARRAY_LEN(v); i++)
        vis_close(&v[i]);
    proxy_end();
}

/* ---- the end ---- */

static void test_drain_and_close(void) {
    proxy_begin();
    struct visitor mute = vis_connect(proxy_port), v = proxy_ask("127.0.0.1");
    vis_expect(&v, ESTABLISHED);
    struct visitor o = place_accept(&place);
    relay_connect_drain(proxy);
    vis_expect_end(&mute, false);
    struct visitor late = proxy_ask("127.0.0.1");
    EXPECT_ANSWER(&late, 503, "proxy-ending");
    vis_send(&v, "goes on");
    vis_expect(&o, "goes on");
    relay_connect_cut(proxy, NULL, "the test says so");
    CU_ASSERT_EQUAL(relay_connect_clients(proxy), 0);
    vis_expect_end(&v, true);
    vis_expect_end(&o, true);
    vis_close(&mute);
    vis_close(&v);
    vis_close(&o);
    proxy_end();
    /* Everything at once: a head, a look-up, and a connection. */
    proxy_begin();
    v = proxy_ask("127.0.0.1");
    vis_expect(&v, ESTABLISHED);
    o = place_accept(&place);
    struct visitor head = vis_connect(proxy_port), dials = proxy_ask("silent.example");
    vis_send(&head, "CONN");
    UNTIL(relay_connect_clients(proxy) == 3 && rig.fds.used == 6);
    relay_connect_close(&proxy);
    relay_connect_close(&proxy);
    names_release();
    UNTIL(only_thread());
    CU_ASSERT_EQUAL(rig.fds.used, 0);
    vis_close(&v);
    vis_close(&o);
    vis_close(&head);
    vis_close(&dials);
    close(place.fd);
    rig_stop();
}

/* ---- no memory ---- */

/* Every allocation fails once: the client gets what it came for, an answer, or an end, and nothing is left. */
static void test_no_memory(void) {
    bool through = false;
    for (long i = 0; i < 300 && !through; i++) {
        proxy_begin();
        name_is(0, "a.example", "127.0.0.1", NULL, NULL);
        struct visitor v = vis_connect(proxy_port), o = {.fd = -1};
        char head[128];
        snprintf(head, sizeof head, "CONNECT a.example:%u HTTP/1.1\r\n\r\nearly", place.port);
        ht_mem_fail_at(i);
        vis_send(&v, head);
        UNTIL(vis_got(&v) || vis_over(&v));
        through = ht_mem_fail_pending();
        ht_mem_fail_at(-1);
        o.fd = accept4(place.fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (through)
            vis_expect(&o, "early");
        vis_close(&v);
        vis_close(&o);
        proxy_end();
    }
    CU_ASSERT(through);
}

static const struct tap_test tests[] = {
    {"bytes pass both ways, with half-close", test_both_ways},
    {"bytes behind the head are kept", test_behind_the_head},
    {"bad heads are refused", test_bad_heads},
    {"denied destinations are refused", test_denied},
    {"a name that resolves to a guarded address is refused", test_rebinding},
    {"with a default of deny only the rules allow", test_default_deny},
    {"destinations that cannot be reached are reported", test_unreachable},
    {"a look-up without an answer times out", test_late},
    {"a client that leaves early is forgotten", test_leaves},
    {"a head that is too slow is refused", test_slow_heads},
    {"quiet connections end", test_idle},
    {"a cut on one side is a reset on the other", test_cuts},
    {"bulk arrives whole at a slow reader", test_bulk},
    {"untrusted clients get 403", test_untrusted},
    {"a client must show the token", test_token},
    {"descriptors are bounded and given back", test_permits},
    {"one address cannot keep others out", test_crowd},
    {"a drain refuses new clients, and a cut ends all", test_drain_and_close},
    {"each allocation may fail", test_no_memory},
    {NULL, NULL},
};

int main(void) { return tap_main("connect", tests); }
