/* SOCKS5 at the port of the CONNECT proxy, told apart by its first byte. */
#include "relay/connect_rig.h"
#include "relay/socks.h"

#define BYTES(s) (s), sizeof(s) - 1

/* ---- the messages by themselves ---- */

static bool any_token(void *ctx, struct ht_slice token, struct relay_known *out) {
    (void)ctx, (void)out;
    return ht_slice_is(token, "secret");
}

/* Feeds `in` with cuts behind each `piece` bytes; all replies go to *out. Returns how many bytes were taken. */
static size_t feed(struct relay_socks *s, bool wants_token, const void *in, size_t n, size_t piece,
                   struct ht_buf *out) {
    size_t at = 0, end = 0;
    *s = (struct relay_socks){.wants_token = wants_token, .knows = any_token};
    while (end < n && s->step != SOCKS_BAD && s->step != SOCKS_DONE) {
        int taken;
        end = ht_min(n, end + piece);
        while ((taken = relay_socks_feed(s, (const uint8_t *)in + at, end - at)) > 0) {
            at += (size_t)taken;
            CU_ASSERT_FATAL(at <= end);
            CU_ASSERT_EQUAL(ht_buf_append(out, s->reply, s->reply_len), 0);
        }
    }
    return at;
}

static void expect(bool wants_token, const void *in, size_t n, int step, const char *dest, const void *out,
                   size_t out_n, size_t rest) {
    for (size_t piece = 1; piece <= n; piece++) {
        static struct relay_socks s;
        struct ht_buf said = {0};
        size_t taken = feed(&s, wants_token, in, n, piece, &said);
        bool same = ht_buf_size(&said) == out_n && (out_n == 0 || memcmp(ht_buf_head(&said), out, out_n) == 0);
        CU_ASSERT_EQUAL(s.step, step);
        CU_ASSERT(same);
        CU_ASSERT_STRING_EQUAL(s.dest.text, dest);
        CU_ASSERT((step == SOCKS_BAD) == (s.why != NULL));
        if (step == SOCKS_DONE)
            CU_ASSERT_EQUAL(n - taken, rest);
        ht_buf_free(&said);
    }
}

#define GOOD(token, in, dest, out, rest) expect(token, BYTES(in), SOCKS_DONE, dest, BYTES(out), rest)
#define BAD(token, in, out) expect(token, BYTES(in), SOCKS_BAD, "", BYTES(out), 0)
#define REPLY(code) "\5" code "\0\1\0\0\0\0\0\0"

static void test_messages(void) {
    GOOD(false, "\5\1\0\5\1\0\1\xc0\0\2\1\0\x50", "192.0.2.1:80", "\5\0", 0);
    GOOD(false, "\5\2\0\2\5\1\0\3\13Example.COM\1\xbb", "example.com:443", "\5\0", 0);
    GOOD(false, "\5\1\0\5\1\0\4\x20\1\xd\xb8\0\0\0\0\0\0\0\0\0\0\0\1\0\x50rest", "[2001:db8::1]:80", "\5\0", 4);
    GOOD(false,
         "\5\1\0\5\1\0\3\x9"
         "127.0.0.1\0\x50",
         "127.0.0.1:80", "\5\0", 0);                                                      /* as text */
    GOOD(false, "\5\1\2\1\1u\1p\5\1\0\1\xc0\0\2\1\0\x50", "192.0.2.1:80", "\5\2\1\0", 0); /* any password */
    GOOD(true, "\5\2\0\2\1\1u\6secret\5\1\0\1\xc0\0\2\1\0\x50", "192.0.2.1:80", "\5\2\1\0", 0);
    GOOD(true, "\5\1\2\1\0\6secret\5\1\0\1\xc0\0\2\1\0\x50", "192.0.2.1:80", "\5\2\1\0", 0);
    BAD(true, "\5\1\0", "\5\xff");
    BAD(false, "\5\1\1", "\5\xff");
    BAD(false, "\5\0", "\5\xff");
    BAD(false, "\4\1\0\x50\x7f\0\0\1\0", "");
    BAD(true, "\5\1\2\1\1u\5wrong", "\5\2\1\1");
    BAD(true, "\5\1\2\1\1u\0", "\5\2\1\1");
    BAD(true, "\5\1\2\5\1\0\1", "\5\2");
    BAD(false, "\5\1\0\4", "\5\0");
    BAD(false, "\5\1\0\5\2\0\1\xc0\0\2\1\0\x50", "\5\0" REPLY("\7")); /* BIND */
    BAD(false, "\5\1\0\5\3\0\1\xc0\0\2\1\0\x50", "\5\0" REPLY("\7")); /* UDP ASSOCIATE */
    BAD(false, "\5\1\0\5\1\0\2\xc0\0\2\1\0\x50", "\5\0" REPLY("\x8"));
    BAD(false, "\5\1\0\5\1\1\1\xc0\0\2\1\0\x50", "\5\0" REPLY("\x8"));
    BAD(false, "\5\1\0\5\1\0\1\xc0\0\2\1\0\0", "\5\0" REPLY("\x8")); /* port 0 */
    BAD(false, "\5\1\0\5\1\0\3\0\0\x50", "\5\0" REPLY("\x8"));
    BAD(false,
        "\5\1\0\5\1\0\3\5"
        "127.1\0\x50",
        "\5\0" REPLY("\x8"));
    BAD(false,
        "\5\1\0\5\1\0\3\3a\0"
        "b\0\x50",
        "\5\0" REPLY("\x8"));
    BAD(false, "\5\1\0\5\1\0\3\3a b\0\x50", "\5\0" REPLY("\x8"));
}

/* ---- at the proxy ---- */

static struct visitor ask(const void *request, size_t n) {
    struct visitor v = vis_connect(proxy_port);
    vis_send_bytes(&v, BYTES("\5\1\0"));
    UNTIL(vis_got(&v) == 2);
    CU_ASSERT(memcmp(ht_buf_head(&v.rx), "\5\0", 2) == 0);
    ht_buf_consume(&v.rx, 2);
    vis_send_bytes(&v, request, n);
    return v;
}

/* By name, with the place's port. */
static struct visitor ask_name(const char *name) {
    char request[300];
    size_t n = strlen(name);
    memcpy(request, "\5\1\0\3", 4);
    request[4] = (char)n;
    memcpy(request + 5, name, n);
    request[5 + n] = (char)(place.port >> 8);
    request[6 + n] = (char)place.port;
    return ask(request, n + 7);
}

static bool got_reply(struct visitor *v, uint8_t code) {
    uint8_t want[RELAY_SOCKS_REPLY];
    relay_socks_put(want, code);
    UNTIL(vis_got(v) >= sizeof want || vis_over(v));
    bool same = ht_buf_size(&v->rx) >= sizeof want && memcmp(ht_buf_head(&v->rx), want, sizeof want) == 0;
    if (!same && ht_buf_size(&v->rx) > 1)
        printf("# expected %u, got %u\n", code, ht_buf_head(&v->rx)[1]);
    if (same)
        ht_buf_consume(&v->rx, sizeof want);
    return same;
}

static void expect_code(const char *name, uint8_t code) {
    struct visitor v = ask_name(name);
    CU_ASSERT(got_reply(&v, code));
    vis_expect_end(&v, false);
    vis_close(&v);
}

static void bytes_pass_both_ways_with_half_close(void) {
    proxy_begin();
    name_is(0, "a.example", "127.0.0.1", NULL, NULL);
    struct visitor v = ask_name("A.example.");
    CU_ASSERT(got_reply(&v, RELAY_SOCKS_GOOD));
    struct visitor o = place_accept(&place);
    vis_send(&v, "ping");
    vis_expect(&o, "ping");
    shutdown(v.fd, SHUT_WR);
    vis_expect_end(&o, false);
    vis_send(&o, "pong");
    vis_close(&o);
    vis_expect(&v, "pong");
    vis_expect_end(&v, false);
    vis_close(&v);
    /* Everything at once, and bytes behind it. */
    uint8_t all[] = {5, 1, 0, 5, 1, 0, 1, 127, 0, 0, 1, (uint8_t)(place.port >> 8), (uint8_t)place.port, 'x', 'y'};
    v = vis_connect(proxy_port);
    vis_send_bytes(&v, all, sizeof all);
    UNTIL(vis_got(&v) >= 2);
    CU_ASSERT(memcmp(ht_buf_head(&v.rx), "\5\0", 2) == 0);
    ht_buf_consume(&v.rx, 2);
    CU_ASSERT(got_reply(&v, RELAY_SOCKS_GOOD));
    o = place_accept(&place);
    vis_expect(&o, "xy");
    vis_close(&v);
    vis_close(&o);
    proxy_end();
}

static void each_refusal_has_its_reply_code(void) {
    proxy_begin();
    name_is(0, "bad.example", "169.254.169.254", NULL, NULL);
    name_is(1, "gone.example", "127.0.0.1", NULL, NULL);
    expect_code("bad.example", RELAY_SOCKS_DENIED);
    expect_code("127.0.0.2", RELAY_SOCKS_DENIED);
    expect_code("unknown.example", RELAY_SOCKS_UNREACHABLE);
    expect_code("0x7f.1", RELAY_SOCKS_ADDRESS);
    struct visitor v = ask(BYTES("\5\1\0\1\x7f\0\0\2\0\x50"));
    CU_ASSERT(got_reply(&v, RELAY_SOCKS_DENIED));
    vis_close(&v);
    v = ask(BYTES("\5\2\0\1\x7f\0\0\1\0\x50"));
    CU_ASSERT(got_reply(&v, RELAY_SOCKS_COMMAND));
    vis_close(&v);
    CU_ASSERT(place_is_quiet(&place));
    place_refuses(&place);
    expect_code("gone.example", RELAY_SOCKS_REFUSED);
    place_reopen(&place);
    proxy_end();
    proxy_prepare();
    proxy_cfg.dial_timeout_ms = 150;
    proxy_open();
    expect_code("silent.example", RELAY_SOCKS_TIMEOUT);
    names_release();
    relay_connect_drain(proxy);
    expect_code("a.example", RELAY_SOCKS_FAILED);
    proxy_end();
}

static void test_token(void) {
    proxy_prepare();
    proxy_token = "secret";
    proxy_open();
    struct visitor v = vis_connect(proxy_port);
    vis_send_bytes(&v, BYTES("\5\1\0"));
    UNTIL(vis_over(&v));
    CU_ASSERT(vis_got(&v) == 2 && memcmp(ht_buf_head(&v.rx), "\5\xff", 2) == 0);
    vis_close(&v);
    v = vis_connect(proxy_port);
    vis_send_bytes(&v, BYTES("\5\2\0\2\1\1u\5wrong"));
    UNTIL(vis_over(&v));
    CU_ASSERT(vis_got(&v) == 4 && memcmp(ht_buf_head(&v.rx), "\5\2\1\1", 4) == 0);
    vis_close(&v);
    uint8_t to_place[] = {5, 1, 0, 1, 127, 0, 0, 1, (uint8_t)(place.port >> 8), (uint8_t)place.port};
    v = vis_connect(proxy_port);
    vis_send_bytes(&v, BYTES("\5\2\0\2\1\1u\6secret"));
    vis_send_bytes(&v, to_place, sizeof to_place);
    UNTIL(vis_got(&v) >= 4);
    CU_ASSERT(memcmp(ht_buf_head(&v.rx), "\5\2\1\0", 4) == 0);
    ht_buf_consume(&v.rx, 4);
    CU_ASSERT(got_reply(&v, RELAY_SOCKS_GOOD));
    struct visitor o = place_accept(&place);
    vis_close(&v);
    vis_close(&o);
    CU_ASSERT_EQUAL(rig.metrics.auth_failures_total[HT_METRIC_SHOWN_AT_PROXY][HT_METRIC_TOKEN_MISSING], 1);
    CU_ASSERT_EQUAL(rig.metrics.auth_failures_total[HT_METRIC_SHOWN_AT_PROXY][HT_METRIC_TOKEN_WRONG], 1);
    proxy_end();
}

static void a_client_that_is_slow_with_its_head_is_dropped(void) {
    proxy_prepare();
    proxy_table_with(100, 30000);
    proxy_open();
    struct visitor v = ask(BYTES("\5\1\0")); /* the head's time is for all of it */
    vis_expect_end(&v, false);
    vis_close(&v);
    proxy_end();
}

static void any_allocation_may_fail(void) {
    bool through = false;
    for (long i = 0; i < 300 && !through; i++) {
        proxy_begin();
        uint8_t all[] = {5, 1, 0, 5, 1, 0, 1, 127, 0, 0, 1, (uint8_t)(place.port >> 8), (uint8_t)place.port, 'x'};
        struct visitor v = vis_connect(proxy_port);
        ht_mem_fail_at(i);
        vis_send_bytes(&v, all, sizeof all);
        UNTIL(vis_got(&v) >= 2 + RELAY_SOCKS_REPLY || vis_over(&v));
        through = ht_mem_fail_pending();
        ht_mem_fail_at(-1);
        vis_close(&v);
        place_is_quiet(&place);
        proxy_end();
    }
    CU_ASSERT(through);
}

static const struct tap_test tests[] = {
    {"messages are read however they are cut", test_messages},
    {"bytes pass both ways, with half-close", bytes_pass_both_ways_with_half_close},
    {"each refusal has its reply code", each_refusal_has_its_reply_code},
    {"the token is shown as the password", test_token},
    {"a client that is slow with its head is dropped", a_client_that_is_slow_with_its_head_is_dropped},
    {"any allocation may fail", any_allocation_may_fail},
    {NULL, NULL},
};

int main(void) { return tap_main("socks", tests); }
