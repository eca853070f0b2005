/* Which proxy is on the way, and the conversation with it: whole, byte by byte, cut at each place, and hostile. */
#include "base/mem.h"
#include "io/proxy.h"
#include "support/tap.h"

#include <stdio.h>
#include <stdlib.h>

static struct io_proxy *proxy_of(const char *url, const char *auth) {
    struct io_proxy *p;
    struct ht_errmsg err;
    const struct io_proxy_config cfg = {.url = url, .from = "--proxy", .auth = auth};
    return io_proxy_create(&p, &cfg, &err) == HT_OK ? p : NULL;
}

static void urls(void) {
    static const struct {
        const char *url, *auth;
        enum io_proxy_kind kind;
        const char *host;
        uint16_t port;
        const char *user, *password; /* NULL: none */
    } good[] = {
        {"http://proxy.example:3128", NULL, IO_PROXY_HTTP, "proxy.example", 3128, NULL, NULL},
        {"proxy.example:3128", NULL, IO_PROXY_HTTP, "proxy.example", 3128, NULL, NULL},
        {"HTTP://proxy.example/", NULL, IO_PROXY_HTTP, "proxy.example", 80, NULL, NULL},
        {"https://proxy.example", NULL, IO_PROXY_HTTPS, "proxy.example", 443, NULL, NULL},
        {"socks5://[::1]", NULL, IO_PROXY_SOCKS5, "::1", 1080, NULL, NULL},
        {"socks5h://10.0.0.1:9", NULL, IO_PROXY_SOCKS5, "10.0.0.1", 9, NULL, NULL},
        {"http://ann:b%3Aob%40x@p:1", NULL, IO_PROXY_HTTP, "p", 1, "ann", "b:ob@x"},
        {"http://ann@p:1", NULL, IO_PROXY_HTTP, "p", 1, "ann", ""},
        {"http://a:b:c@d@p:1", NULL, IO_PROXY_HTTP, "p", 1, "a", "b:c@d"},
        {"http://old:word@p:1", "new:wo:rd", IO_PROXY_HTTP, "p", 1, "new", "wo:rd"},
    };
    for (size_t i = 0; i < HT_ARRAY_LEN(good); i++) {
        struct io_proxy *p = proxy_of(good[i].url, good[i].auth);
        CU_ASSERT_PTR_NOT_NULL_FATAL(p);
        CU_ASSERT(p->kind == good[i].kind && p->port == good[i].port && p->has_user == (good[i].user != NULL));
        CU_ASSERT_STRING_EQUAL(p->host, good[i].host);
        CU_ASSERT_STRING_EQUAL(p->user, good[i].user ? good[i].user : "");
        CU_ASSERT_STRING_EQUAL(p->password, good[i].password ? good[i].password : "");
        CU_ASSERT((p->tls != NULL) == (p->kind == IO_PROXY_HTTPS));
        CU_ASSERT(!strstr(p->name, "word") && !strstr(p->name, "ann"));
        io_proxy_destroy(&p);
    }
    static const char *const bad[] = {"socks4://p:1",
                                      "ftp://p",
                                      "http://",
                                      "http://:3128",
                                      "http://p:0",
                                      "http://p:65536",
                                      "http://p:1x",
                                      "http://p:",
                                      "http://[::1",
                                      "http://[::1]x",
                                      "http://[p]:1",
                                      "http://secret@",
                                      "http://:secret@p",
                                      "http://p p:1",
                                      "http://secret%0a:x@p",
                                      "http://p\n:1",
                                      "http://a%3asecret@p"};
    for (size_t i = 0; i < HT_ARRAY_LEN(bad); i++) {
        struct io_proxy *p;
        struct ht_errmsg err = {""};
        const struct io_proxy_config cfg = {.url = bad[i], .from = "HTTPS_PROXY"};
        CU_ASSERT_EQUAL(io_proxy_create(&p, &cfg, &err), HT_EINVAL);
        CU_ASSERT(!p && strstr(err.text, "HTTPS_PROXY") && !strstr(err.text, "secret"));
    }
    char longest[400] = "";
    memset(longest, 'u', 300);
    CU_ASSERT_PTR_NULL(proxy_of("http://p:1", longest));
    longest[255] = '\0';
    struct io_proxy *p = proxy_of("http://p:1", longest);
    CU_ASSERT(p && strlen(p->user) == 255);
    io_proxy_destroy(&p);
    ht_mem_fail_at(0);
    CU_ASSERT_PTR_NULL(proxy_of("http://p:1", NULL));
    ht_mem_fail_at(-1);
}

/* ---- the environment ---- */

static const char *const *variables; /* name, value, name, value, ..., NULL */

static char *variable(const char *name) {
    for (const char *const *v = variables; *v; v += 2)
        if (strcmp(v[0], name) == 0)
            return (char *)(uintptr_t)v[1];
    return NULL;
}

static void environment(void) {
    static const struct {
        const char *set[13];
        bool tls;
        const char *host, *want, *from; /* want NULL: directly */
    } cases[] = {
        {{NULL}, true, "kit.example", NULL, NULL},
        {{"https_proxy", "a", "HTTPS_PROXY", "b", NULL}, true, "kit.example", "a", "https_proxy"},
        {{"https_proxy", "", "HTTPS_PROXY", "b", NULL}, true, "kit.example", "b", "HTTPS_PROXY"},
        {{"HTTPS_PROXY", "b", NULL}, false, "kit.example", NULL, NULL},
        {{"http_proxy", "c", "HTTPS_PROXY", "b", NULL}, false, "kit.example", "c", "http_proxy"},
        {{"HTTP_PROXY", "d", NULL}, false, "kit.example", "d", "HTTP_PROXY"},
        {{"HTTP_PROXY", "d", "REQUEST_METHOD", "GET", NULL}, false, "kit.example", NULL, NULL},
        {{"http_proxy", "c", "REQUEST_METHOD", "GET", NULL}, false, "kit.example", "c", "http_proxy"},
        {{"ALL_PROXY", "e", NULL}, true, "kit.example", "e", "ALL_PROXY"},
        {{"ALL_PROXY", "e", "all_proxy", "f", NULL}, false, "kit.example", "f", "all_proxy"},
        {{"ALL_PROXY", "e", "HTTPS_PROXY", "b", NULL}, true, "kit.example", "b", "HTTPS_PROXY"},
        {{"HTTPS_PROXY", "b", "NO_PROXY", "kit.example", NULL}, true, "kit.example", NULL, NULL},
        {{"HTTPS_PROXY", "b", "NO_PROXY", "kit.example", "no_proxy", "x", NULL},
         true,
         "kit.example",
         "b",
         "HTTPS_PROXY"},
        {{"ALL_PROXY", "e", NULL}, true, "localhost", NULL, NULL},
        {{"ALL_PROXY", "e", NULL}, true, "a.LocalHost", NULL, NULL},
        {{"ALL_PROXY", "e", NULL}, true, "127.9.9.9", NULL, NULL},
        {{"ALL_PROXY", "e", NULL}, true, "::1", NULL, NULL},
        {{"ALL_PROXY", "e", NULL}, true, "192.0.2.1", "e", "ALL_PROXY"},
    };
    for (size_t i = 0; i < HT_ARRAY_LEN(cases); i++) {
        const char *from = NULL;
        variables = cases[i].set;
        const char *got = io_proxy_from_env(variable, cases[i].tls, cases[i].host, 443, &from);
        CU_ASSERT_STRING_EQUAL(got ? got : "", cases[i].want ? cases[i].want : "");
        if (got)
            CU_ASSERT_STRING_EQUAL(from, cases[i].from);
    }
}

static void no_proxy(void) {
    static const struct {
        const char *list, *host;
        uint16_t port;
        bool skips;
    } cases[] = {
        {"", "a.example", 443, false},
        {"*", "a.example", 443, true},
        {"a.example", "a.example", 443, true},
        {"A.Example.", "a.eXample", 443, true},
        {"a.example", "a.example.", 443, true},
        {"a.example", "b.a.example", 443, true},
        {"a.example", "ba.example", 443, false},
        {".a.example", "b.a.example", 443, true},
        {".a.example", "a.example", 443, true},
        {"*.a.example", "b.a.example", 443, true},
        {"b.a.example", "a.example", 443, false},
        {"x, a.example ,y", "a.example", 443, true},
        {"x a.example", "a.example", 443, true},
        {",, ,", "a.example", 443, false},
        {".", "a.example", 443, false},
        {"a.example:443", "a.example", 443, true},
        {"a.example:80", "a.example", 443, false},
        {"a.example:", "a.example", 443, false},
        {"a.example:99999999999", "a.example", 443, false},
        {"192.0.2.1", "192.0.2.1", 443, true},
        {"192.0.2.1", "192.0.2.10", 443, false},
        {"192.0.2.1:443", "192.0.2.1", 443, true},
        {"192.0.2.1:80", "192.0.2.1", 443, false},
        {"192.0.2.0/24", "192.0.2.77", 443, true},
        {"192.0.2.0/25", "192.0.2.128", 443, false},
        {"192.0.2.0/33", "192.0.2.1", 443, false},
        {"192.0.2.0/", "192.0.2.1", 443, false},
        {"0.0.0.0/0", "198.51.100.1", 443, true},
        {"0.0.0.0/0", "2001:db8::1", 443, false},
        {"10.0.0.0/8", "ten.example", 443, false},
        {"2001:db8::1", "2001:db8::1", 443, true},
        {"[2001:db8::1]", "2001:db8::1", 443, true},
        {"[2001:db8::1]:443", "2001:db8::1", 443, true},
        {"[2001:db8::1]:80", "2001:db8::1", 443, false},
        {"2001:db8::/32", "2001:db8:ffff::1", 443, true},
        {"2001:db8::/33", "2001:db8:ffff::1", 443, false},
        {"2.1", "192.0.2.1", 443, false}, /* addresses have no names below them */
    };
    for (size_t i = 0; i < HT_ARRAY_LEN(cases); i++)
        if (io_proxy_skips(cases[i].list, cases[i].host, cases[i].port) != cases[i].skips) {
            printf("# \"%s\" and %s:%u\n", cases[i].list, cases[i].host, cases[i].port);
            CU_FAIL("a list is read wrongly");
        }
}

/* ---- the conversation ---- */

#define SOCKS_OPEN "\5\0\5\0\0\1\x7f\0\0\1\1\2"
#define PART(text) text, sizeof text - 1

struct talk {
    const char *url;
    const char *answer; /* all that the proxy says */
    size_t n;
    const char *said; /* a part of the message; NULL: it opens */
    int err;
};

static const struct talk talks[] = {
    {"http://p:1", PART("HTTP/1.1 200 Connection established\r\n\r\n"), NULL, 0},
    {"http://p:1", PART("HTTP/1.0 200\r\n\r\n"), NULL, 0},
    {"http://p:1", PART("HTTP/1.1 204 \nA: b\n\n"), NULL, 0},
    {"http://p:1", PART("HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n"), NULL, 0},
    {"http://p:1", PART("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 \r\nLink: x\r\n\r\nHTTP/1.1 200 OK\r\n\r\n"), NULL,
     0},
    {"http://p:1", PART("HTTP/1.1 200 OK\r\n\r\nGarbage"), "bytes of its own", HT_EIO},
    {"http://p:1",
     PART("HTTP/1.1 407 Proxy Authentication Required\r\nProxy-Authenticate: Basic realm=\"Corp\"\r\n\r\n"),
     "wants credentials for \"Corp\" (407, Basic); give them with --proxy-auth-file", HT_EAUTH},
    {"http://p:1", PART("HTTP/1.1 407 x\r\nProxy-Authenticate: Negotiate\r\nproxy-authenticate: BASIC realm=x\r\n\r\n"),
     "wants credentials for \"x\" (407, Basic)", HT_EAUTH},
    {"http://p:1", PART("HTTP/1.1 407 x\r\nProxy-Authenticate: Negotiate\r\nProxy-Authenticate: NTLM\r\n\r\n"),
     "wants a login by Negotiate (407), which is not known here", HT_EAUTH},
    {"http://p:1", PART("HTTP/1.1 407 x\r\n\r\n"), "wants credentials (407)", HT_EAUTH},
    {"http://ann:bob@p:1", PART("HTTP/1.1 407 x\r\nProxy-Authenticate: Basic realm=\"\33[31m\"\r\n\r\n"),
     "refused the credentials for \"\\x1b[31m\" (407, Basic)", HT_EAUTH},
    {"http://ann:bob@p:1", PART("HTTP/1.1 401 x\r\n\r\n"), "refused the credentials (401)", HT_EAUTH},
    {"http://p:1", PART("HTTP/1.1 403 Forbidden\r\n\r\n"), "refuses connections to kit.example:443 (403 Forbidden)",
     HT_EACCESS},
    {"http://p:1", PART("HTTP/1.1 502 Bad Gateway\r\n\r\n"), "did not reach kit.example:443 (502 Bad Gateway)",
     HT_EUNREACH},
    {"http://p:1", PART("HTTP/1.1 503 x\r\n\r\n"), "did not reach kit.example:443", HT_EUNREACH},
    {"http://p:1", PART("HTTP/1.1 504 x\r\n\r\n"), "got no answer from kit.example:443", HT_ETIMEDOUT},
    {"http://p:1", PART("HTTP/1.1 405 x\r\n\r\n"), "does not open connections by CONNECT", HT_EIO},
    {"http://p:1", PART("HTTP/1.1 302 Found\r\nLocation: http://hotel.example/\33\r\n\r\n"),
     "leads to http://hotel.example/\\x1b:", HT_EIO},
    {"http://p:1", PART("HTTP/1.1 101 x\r\n\r\n"), "answered 101", HT_EIO},
    {"http://p:1", PART("HTTP/1.1 500 \33[2J\r\n\r\n"), "answered 500 \\x1b[2J", HT_EIO},
    {"http://p:1", PART("SSH-2.0-x\r\n"), "not HTTP", HT_EIO},
    {"http://p:1", PART("HTTP/1.1 2000 OK\r\n\r\n"), "not HTTP", HT_EIO},
    {"http://p:1", PART("HTTP/2 200 OK\r\n\r\n"), "not HTTP", HT_EIO},
    {"http://p:1", PART("\r\nHTTP/1.1 200 OK\r\n\r\n"), "not HTTP", HT_EIO},
    {"http://p:1", PART("\5\377"), "speaks SOCKS", HT_EIO},
    {"http://p:1", PART("\x15\3\3\0\2\2\x28"), "speaks TLS", HT_EIO},
    {"http://p:1", PART("HTTP/1.1 200 OK\0\r\nA\0B: \0\r\n\r\n"), NULL, 0},
    {"socks5://p:1", PART(SOCKS_OPEN), NULL, 0},
    {"socks5://p:1", PART("\5\0\5\0\0\3\3abc\1\2"), NULL, 0},
    {"socks5://p:1", PART("\5\0\5\0\0\3\0\1\2"), NULL, 0},
    {"socks5://p:1", PART("\5\0\5\0\0\4\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\1\2"), NULL, 0},
    {"socks5://p:1", PART(SOCKS_OPEN "x"), "bytes of its own", HT_EIO},
    {"socks5://ann:bob@p:1", PART(SOCKS_OPEN), NULL, 0},
    {"socks5://ann:bob@p:1", PART("\5\2\1\0\5\0\0\1\x7f\0\0\1\1\2"), NULL, 0},
    {"socks5://ann:bob@p:1", PART("\5\2\1\1"), "refused the credentials", HT_EAUTH},
    {"socks5://ann:bob@p:1", PART("\5\2\7\0"), "its answer to the login", HT_EIO},
    {"socks5://ann:bob@p:1", PART("\5\377"), "another login", HT_EAUTH},
    {"socks5://p:1", PART("\5\377"), "wants credentials", HT_EAUTH},
    {"socks5://p:1", PART("\5\2"), "not offered", HT_EIO},
    {"socks5://p:1", PART("\5\1"), "not offered", HT_EIO},
    {"socks5://p:1", PART("\4\0"), "no SOCKS5 proxy", HT_EIO},
    {"socks5://p:1", PART("HTTP/1.1 400 Bad Request\r\n"), "speaks HTTP", HT_EIO},
    {"socks5://p:1", PART("\5\0\5\1"), "did not reach kit.example:443", HT_EUNREACH},
    {"socks5://p:1", PART("\5\0\5\2"), "refuses connections to kit.example:443", HT_EACCESS},
    {"socks5://p:1", PART("\5\0\5\3"), "no way to the network", HT_EUNREACH},
    {"socks5://p:1", PART("\5\0\5\4"), "could not reach, or not resolve,", HT_EUNREACH},
    {"socks5://p:1", PART("\5\0\5\5\0\1\0\0\0\0\0\0"), "was refused by kit.example:443", HT_EREFUSED},
    {"socks5://p:1", PART("\5\0\5\6"), "got no answer from", HT_ETIMEDOUT},
    {"socks5://p:1", PART("\5\0\5\7"), "does not open connections", HT_EIO},
    {"socks5://p:1", PART("\5\0\5\10"), "kind of", HT_EIO},
    {"socks5://p:1", PART("\5\0\5\11"), "code 9", HT_EIO},
    {"socks5://p:1", PART("\5\0\4\0"), "another version", HT_EIO},
    {"socks5://p:1", PART("\5\0\5\0\0\2\0"), "no known kind", HT_EIO},
};

static bool ends_as(const struct io_hop *h, const struct talk *t) {
    bool as = t->said ? h->step == IO_HOP_REFUSED && h->err == t->err && strstr(h->text.text, t->said) &&
                            strstr(h->text.text, "the proxy p:1 (--proxy) ") == h->text.text
                      : h->step == IO_HOP_OPEN;
    if (!as)
        printf("# step %d, err %d: %s; wanted %s\n", h->step, h->err, h->text.text, t->said ? t->said : "it opens");
    return as;
}

static void each_answer_however_it_is_cut(void) {
    for (size_t i = 0; i < HT_ARRAY_LEN(talks); i++) {
        const struct talk *t = &talks[i];
        const uint8_t *p = (const uint8_t *)t->answer;
        struct io_proxy *proxy = proxy_of(t->url, NULL);
        struct io_hop h;
        CU_ASSERT_PTR_NOT_NULL_FATAL(proxy);
        for (size_t cut = 0; cut <= t->n; cut++) {
            io_hop_begin(&h, proxy, "kit.example", 443);
            io_hop_feed(&h, p, cut);
            CU_ASSERT(cut == t->n || t->said || h.step == IO_HOP_TALKS);
            io_hop_feed(&h, p + cut, t->n - cut);
            CU_ASSERT(ends_as(&h, t));
        }
        io_hop_begin(&h, proxy, "kit.example", 443);
        for (size_t at = 0; at < t->n; at++)
            io_hop_feed(&h, p + at, 1);
        CU_ASSERT(ends_as(&h, t));
        CU_ASSERT(!strstr(h.text.text, "bob"));
        io_proxy_destroy(&proxy);
    }
}

static bool says(const struct io_hop *h, const char *bytes, size_t n) {
    return h->out_len == n && memcmp(h->out, bytes, n) == 0;
}

static void what_is_said(void) {
    struct io_proxy *p = proxy_of("http://ann:b%C3%B6b@p:1", NULL);
    struct io_hop h;
    CU_ASSERT_PTR_NOT_NULL_FATAL(p);
    io_hop_begin(&h, p, "2001:db8::1", 8443);
    CU_ASSERT(
        says(&h, PART("CONNECT [2001:db8::1]:8443 HTTP/1.1\r\nHost: [2001:db8::1]:8443\r\nUser-Agent: hoody-tunnel\r\n"
                      "Proxy-Authorization: Basic YW5uOmLDtmI=\r\n\r\n")));
    io_proxy_destroy(&p);
    p = proxy_of("socks5://ann:bob@p:1", NULL);
    io_hop_begin(&h, p, "kit.example", 443);
    CU_ASSERT(says(&h, PART("\5\2\0\2")));
    io_hop_feed(&h, (const uint8_t *)"\5\2", 2);
    CU_ASSERT(says(&h, PART("\1\3ann\3bob")));
    io_hop_feed(&h, (const uint8_t *)"\1\0", 2);
    CU_ASSERT(says(&h, PART("\5\1\0\3\13kit.example\1\273")));
    CU_ASSERT(!memmem(h.out, sizeof h.out, "bob", 3));
    io_hop_begin(&h, p, "192.0.2.1", 80);
    io_hop_feed(&h, (const uint8_t *)"\5\0", 2);
    CU_ASSERT(says(&h, PART("\5\1\0\1\300\0\2\1\0\120")));
    io_hop_begin(&h, p, "::1", 80);
    io_hop_feed(&h, (const uint8_t *)"\5\0", 2);
    CU_ASSERT(says(&h, PART("\5\1\0\4\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\1\0\120")));
    io_proxy_destroy(&p);
    /* the longest of all: it fits */
    char login[512], host[256];
    memset(login, 'u', 255);
    login[255] = ':';
    memset(login + 256, 'w', 255);
    login[511] = '\0';
    memset(host, 'h', 255);
    host[255] = '\0';
    static const char *const kinds[] = {"http://p:1", "socks5://p:1"};
    for (size_t i = 0; i < 2; i++) {
        p = proxy_of(kinds[i], login);
        CU_ASSERT_PTR_NOT_NULL_FATAL(p);
        io_hop_begin(&h, p, host, 65535);
        CU_ASSERT(h.out_len < sizeof h.out);
        if (i == 0)
            CU_ASSERT(memcmp(h.out + h.out_len - 4, "\r\n\r\n", 4) == 0);
        io_hop_feed(&h, (const uint8_t *)"\5\2\1\0", i ? 4 : 0);
        CU_ASSERT(i == 0 || (h.out_len == 7 + 255 && h.out[4] == 255));
        io_proxy_destroy(&p);
    }
}

/* Hardening: a proxy cannot keep us reading. */
static void a_head_without_an_end(void) {
    static const char *const parts[] = {"HTTP/1.1 100 \r\n\r\n", "HTTP/1.1 200 OK\r\n", "A: b\r\n", "aaaaaaaaaaaaaaa",
                                        "\r"};
    struct io_proxy *p = proxy_of("http://p:1", NULL);
    for (size_t i = 0; i < HT_ARRAY_LEN(parts); i++) {
        struct io_hop h;
        size_t fed = 0, n = strlen(parts[i]);
        io_hop_begin(&h, p, "kit.example", 443);
        if (i > 1)
            io_hop_feed(&h, (const uint8_t *)"HTTP/1.1 200 OK\r\n", 17);
        for (; h.step == IO_HOP_TALKS && fed < 1000000; fed += n)
            io_hop_feed(&h, (const uint8_t *)parts[i], n);
        CU_ASSERT(h.step == IO_HOP_REFUSED && h.err == HT_EIO && fed < IO_HOP_IN + 64);
        CU_ASSERT(strstr(h.text.text, "no end") != NULL);
    }
    io_proxy_destroy(&p);
}

static void one_that_goes(void) {
    struct io_proxy *p = proxy_of("http://ann:bob@p:1", NULL);
    struct io_hop h;
    io_hop_begin(&h, p, "kit.example", 443);
    io_hop_lost(&h, HT_ERESET, "closed the connection before it answered");
    CU_ASSERT(h.step == IO_HOP_REFUSED && h.err == HT_ERESET);
    CU_ASSERT_STRING_EQUAL(h.text.text, "the proxy p:1 (--proxy) closed the connection before it answered");
    CU_ASSERT(!memmem(h.out, sizeof h.out, "Basic", 5));
    io_proxy_destroy(&p);
}

int main(void) {
    static const struct tap_test tests[] = {
        {"URLs of proxies, good and bad, and no message repeats credentials", urls},
        {"variables: the lower case first, and loopback never", environment},
        {"what NO_PROXY says", no_proxy},
        {"each answer of a proxy, however it is cut", each_answer_however_it_is_cut},
        {"what is said to a proxy", what_is_said},
        {"a proxy's head without an end is not read for ever", a_head_without_an_end},
        {"a proxy that closes is told so", one_that_goes},
        {NULL, NULL},
    };
    int rc = tap_main("io proxy", tests);
    if (ht_mem_live() != 0) {
        printf("Bail out! %zu blocks left\n", ht_mem_live());
        return 1;
    }
    return rc;
}
