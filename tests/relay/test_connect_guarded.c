/*
 * Hardening case 35 at the listener: CONNECT, SOCKS5 and http:// URLs are three ways to one policy, and none of them
 * has a way around it.
 */
#include "relay/connect_rig.h"
#include "relay/socks.h"
#include "support/clock_ahead.h"

enum way { BY_CONNECT, BY_SOCKS_NAME, BY_SOCKS_ADDR, BY_URL, WAYS };

static const char *const way_text[WAYS] = {"CONNECT", "SOCKS5 with a name", "SOCKS5 with an address", "an http:// URL"};

/* As SOCKS has it; 0: the way has no form for that host. */
static size_t socks_request(uint8_t *to, enum way way, const char *host, uint16_t port) {
    static const uint8_t hello[] = {5, 1, 0, 5, 1, 0};
    size_t n = sizeof hello;
    struct io_addr a;
    memcpy(to, hello, n);
    if (way == BY_SOCKS_NAME) {
        size_t len = strlen(host);
        to[n++] = 3;
        to[n++] = (uint8_t)len;
        memcpy(to + n, host, len);
        n += len;
    } else {
        char bare[IO_ADDR_TEXT];
        snprintf(bare, sizeof bare, "%s", host[0] == '[' ? host + 1 : host);
        bare[strcspn(bare, "]")] = '\0';
        uint8_t raw[16];
        bool six = inet_pton(AF_INET6, bare, raw) == 1; /* io_addr_parse() would make a mapped one an IPv4 address */
        if (!six && (inet_pton(AF_INET, bare, raw) != 1 || io_addr_parse(&a, bare, port)))
            return 0;
        to[n++] = six ? 4 : 1;
        memcpy(to + n, raw, six ? 16 : 4);
        n += six ? 16 : 4;
    }
    to[n++] = (uint8_t)(port >> 8);
    to[n++] = (uint8_t)port;
    return n;
}

/* False: there is no such way to say it. */
static bool ask(struct visitor *v, enum way way, const char *host, uint16_t port) {
    char text[512];
    size_t n = 0;
    if (way == BY_CONNECT)
        n = (size_t)snprintf(text, sizeof text, "CONNECT %s:%u HTTP/1.1\r\nHost: x\r\n\r\n", host, port);
    else if (way == BY_URL)
        n = (size_t)snprintf(text, sizeof text,
                             "GET http://%s:%u/latest/meta-data/ HTTP/1.1\r\nHost: %s:%u\r\nConnection: close\r\n\r\n",
                             host, port, host, port);
    else
        n = socks_request((uint8_t *)text, way, host, port);
    if (n == 0)
        return false;
    *v = vis_connect(proxy_port);
    vis_send_bytes(v, text, n);
    return true;
}

/* Told so, and then the end. */
static void expect_refused(enum way way, const char *host, uint16_t port, unsigned status, uint8_t code) {
    struct visitor v;
    uint8_t want[2 + RELAY_SOCKS_REPLY] = {5, 0};
    char line[32];
    if (!ask(&v, way, host, port))
        return;
    UNTIL(vis_over(&v));
    bool socks = way == BY_SOCKS_NAME || way == BY_SOCKS_ADDR;
    relay_socks_put(want + 2, code);
    int n = snprintf(line, sizeof line, "HTTP/1.1 %u ", status);
    size_t got = vis_got(&v);
    bool good = socks ? got == sizeof want && memcmp(ht_buf_head(&v.rx), want, got) == 0
                      : got > (size_t)n && memcmp(ht_buf_head(&v.rx), line, (size_t)n) == 0;
    if (!good)
        printf("# %s by %s: got %zu bytes: %.40s\n", host, way_text[way], got, got ? (char *)ht_buf_head(&v.rx) : "");
    CU_ASSERT(good);
    vis_close(&v);
}

static void expect_open(enum way way, const char *host) {
    struct visitor v;
    if (!ask(&v, way, host, place.port))
        return;
    struct visitor o = place_accept(&place);
    setsockopt(v.fd, SOL_SOCKET, SO_LINGER, &(struct linger){1, 0}, sizeof(struct linger));
    vis_close(&v);
    UNTIL(vis_over(&o));
    vis_close(&o);
}

/* Somebody would answer on all of 127.0.0.0/8, on every port of the place's number. */
static struct place everywhere;

static void begin(void) {
    struct io_addr a;
    proxy_begin();
    everywhere.fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    setsockopt(everywhere.fd, SOL_SOCKET, SO_REUSEADDR, &(int){1}, sizeof(int));
    CU_ASSERT_EQUAL_FATAL(io_addr_parse(&a, "127.0.0.2", place.port), 0);
    CU_ASSERT_EQUAL_FATAL(bind(everywhere.fd, (struct sockaddr *)&a.ss, a.len), 0);
    CU_ASSERT_EQUAL_FATAL(listen(everywhere.fd, 64), 0);
}

static void end(void) {
    CU_ASSERT(place_is_quiet(&place) && place_is_quiet(&everywhere));
    close(everywhere.fd);
    proxy_end();
}

static void test_addresses(void) {
    static const char *const hosts[] = {
        "127.0.0.2", "127.255.255.254", "0.0.0.0", "0.0.0.1", "169.254.169.254", "100.100.100.200", "168.63.129.16",
        "192.0.0.192", "224.0.0.1", "255.255.255.255", "[::]", "[::1]", "[fe80::1]", "[ff02::1]", "[fd00:ec2::254]",
        /* IPv4 inside */
        "[::ffff:127.0.0.2]", "[::ffff:169.254.169.254]", "[::ffff:0.0.0.0]", "[::127.0.0.2]", "[64:ff9b::127.0.0.2]",
        "[64:ff9b::a9fe:a9fe]", "[2002:7f00:2::1]", "[2002:a9fe:a9fe::1]"};
    begin();
    for (size_t i = 0; i < HT_ARRAY_LEN(hosts); i++)
        for (enum way way = BY_CONNECT; way < WAYS; way++)
            if (way != BY_SOCKS_NAME || hosts[i][0] != '[') /* SOCKS has no brackets */
                expect_refused(way, hosts[i], place.port, 403, RELAY_SOCKS_DENIED);
    for (enum way way = BY_CONNECT; way < WAYS; way++) /* and what the rule names is open by all of them */
        expect_open(way, "127.0.0.1");
    end();
}

/* Other ways to write an address: nobody is asked what they mean, and they are no names. */
static void test_spellings(void) {
    static const char *const hosts[] = {
        "127.1",          "127.0.2", "2130706434",  "017700000002", "0x7f000002", "0x7f.0.0.2",       "0177.0.0.2",
        "0177.1",         "0x7F.2",  "127.0.0.0x2", "2852039166",   "0xa9fea9fe", "0251.254.169.254", "169.16689662",
        "00000127.0.0.2", "0"};
    begin();
    names_asked = 0;
    for (size_t i = 0; i < HT_ARRAY_LEN(hosts); i++) {
        expect_refused(BY_CONNECT, hosts[i], place.port, 400, 0);
        expect_refused(BY_URL, hosts[i], place.port, 400, 0);
        expect_refused(BY_SOCKS_NAME, hosts[i], place.port, 400, RELAY_SOCKS_ADDRESS);
    }
    CU_ASSERT_EQUAL(names_asked, 0);
    end();
}

static void test_names(void) {
    static const char *const hosts[] = {"localhost",   "LocalHost.",  "a.localhost",    "loop.example", "meta.example",
                                        "any.example", "six.example", "mapped.example", "mixed.example"};
    begin();
    proxy_rules[0].first = proxy_rules[0].last = (uint16_t)(place.port ^ 1); /* the place is guarded as well now */
    name_is(0, "localhost", "127.0.0.1", "::1", NULL);
    name_is(1, "a.localhost", "127.0.0.1", NULL, NULL);
    name_is(2, "loop.example", "127.0.0.2", NULL, NULL);
    name_is(3, "meta.example", "169.254.169.254", NULL, NULL);
    name_is(4, "any.example", "0.0.0.0", "::", NULL);
    name_is(5, "six.example", "::1", "fe80::1", NULL);
    name_is(6, "mapped.example", "::ffff:127.0.0.2", NULL, NULL);
    name_is(7, "mixed.example", "127.0.0.2", "::1", "169.254.169.254");
    for (size_t i = 0; i < HT_ARRAY_LEN(hosts); i++)
        for (enum way way = BY_CONNECT; way < WAYS; way++)
            expect_refused(way, hosts[i], place.port, 403, RELAY_SOCKS_DENIED);
    end();
}

/* After the time for which an answer is kept. */
static void name_becomes(const char *a, const char *b) {
    name_is(0, "rebinds.example", a, b, NULL);
    clock_ahead_ms += 6000;
    one_turn();
}

/* The same name means the place at first, and then what is guarded. A kept connection to the proxy remembers nothing.
 */
static void test_rebinding(void) {
    begin();
    for (enum way way = BY_CONNECT; way < WAYS; way++) {
        name_becomes("127.0.0.1", NULL);
        expect_open(way, "rebinds.example");
        name_becomes("127.0.0.2", NULL);
        expect_refused(way, "rebinds.example", place.port, 403, RELAY_SOCKS_DENIED);
        name_becomes("127.0.0.2", "127.0.0.1"); /* what may be is tried, and only that */
        expect_open(way, "rebinds.example");
    }
    char head[256];
    snprintf(head, sizeof head, "GET http://rebinds.example:%u/ HTTP/1.1\r\nHost: rebinds.example:%u\r\n\r\n",
             place.port, place.port);
    name_becomes("127.0.0.1", NULL);
    struct visitor v = vis_connect(proxy_port);
    vis_send(&v, head);
    struct visitor o = place_accept(&place);
    vis_send(&o, "HTTP/1.1 204 No Content\r\n\r\n");
    UNTIL(vis_got(&v) > 20);
    ht_buf_consume(&v.rx, ht_buf_size(&v.rx));
    vis_close(&o);
    name_becomes("127.0.0.2", NULL);
    vis_send(&v, head);
    UNTIL(vis_got(&v) > 20);
    CU_ASSERT(memcmp(ht_buf_head(&v.rx), "HTTP/1.1 403 ", 13) == 0);
    vis_close(&v);
    end();
}

/* A rule for the whole of loopback still leaves out the ports of the kit: they lead to all that the kit may do. */
static void test_own_ports(void) {
    static const char *const hosts[] = {"127.0.0.1", "localhost", "[::ffff:127.0.0.1]"};
    proxy_prepare();
    proxy_cfg.policy.own_ports[0] = place.port; /* as if the base listener were there */
    CU_ASSERT_EQUAL_FATAL(relay_rule_parse(&proxy_rules[0], "127.0.0.0/8", NULL), 0);
    name_is(0, "localhost", "127.0.0.1", NULL, NULL);
    proxy_open();
    for (size_t i = 0; i < HT_ARRAY_LEN(hosts); i++)
        for (enum way way = BY_CONNECT; way < WAYS; way++)
            if (way != BY_SOCKS_NAME || hosts[i][0] != '[') {
                expect_refused(way, hosts[i], place.port, 403, RELAY_SOCKS_DENIED);
                expect_refused(way, hosts[i], proxy_port, 403, RELAY_SOCKS_DENIED); /* no circle through itself */
            }
    CU_ASSERT(place_is_quiet(&place));
    proxy_end();
}

static const struct tap_test tests[] = {
    {"guarded addresses, by every way in", test_addresses},
    {"other spellings of addresses, by every way in", test_spellings},
    {"names that lead to guarded addresses, by every way in", test_names},
    {"a name that changes its meaning, by every way in", test_rebinding},
    {"the kit's own ports, by every way in", test_own_ports},
    {NULL, NULL},
};

int main(void) { return tap_main("connect guarded", tests); }
