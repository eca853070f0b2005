/* Requests that must be refused, with the status that they owe (hardening cases 1, 3, 5; RFC 9110, RFC 9112). */
/* How to switch each defence off to see its test fail: tests/hardening.yaml. */
#include "feed.h"

struct bad {
    uint16_t status;
    const char *in;
    size_t n;
};

#define RAW(status, text)                                                                                              \
    { status, text, sizeof(text) - 1 }
/* A whole request with this request line; with this field line behind a Host; with these fields in HTTP/1.0. */
#define LINE(status, line) RAW(status, line "\r\nHost: a\r\n\r\n")
#define FIELD(status, field) RAW(status, "GET / HTTP/1.1\r\nHost: a\r\n" field "\r\n\r\n")
#define FIELD10(status, field) RAW(status, "GET / HTTP/1.0\r\n" field "\r\n\r\n")
#define HOST(status, value) RAW(status, "GET / HTTP/1.1\r\nHost: " value "\r\n\r\n")
#define ABSOLUTE(status, target, host) RAW(status, "GET " target " HTTP/1.1\r\nHost: " host "\r\n\r\n")

static const struct bad method_and_shape[] = {
    RAW(400, " GET / HTTP/1.1\r\nHost: a\r\n\r\n"),
    RAW(400, "\tGET / HTTP/1.1\r\nHost: a\r\n\r\n"),
    RAW(400, "\nGET / HTTP/1.1\r\nHost: a\r\n\r\n"),
    RAW(400, "\rGET / HTTP/1.1\r\nHost: a\r\n\r\n"),
    RAW(400, "\r\n\r\n\rGET / HTTP/1.1\r\nHost: a\r\n\r\n"),
    RAW(400, "\r\n GET / HTTP/1.1\r\nHost: a\r\n\r\n"),
    RAW(400, "\r\n\nGET / HTTP/1.1\r\nHost: a\r\n\r\n"),
    RAW(400, "\0GET / HTTP/1.1\r\nHost: a\r\n\r\n"),
    RAW(400, "\026\003\001\002\000\001\000\001\374\003\003"), /* a TLS hello */
    RAW(400, "\r\n\r\n\000\r\nQUIT\n"),                       /* PROXY protocol v2 */
    RAW(400, "{\"json\": 1}\r\n\r\n"),
    RAW(400, "GET\r\n\r\n"),
    RAW(400, "GET \r\n\r\n"),
    RAW(400, "GET\n\n"),
    RAW(400, "HTTP/1.1 200 OK\r\n\r\n"),
    LINE(400, "G(T / HTTP/1.1"),
    LINE(400, "G)T / HTTP/1.1"),
    LINE(400, "G<T / HTTP/1.1"),
    LINE(400, "G>T / HTTP/1.1"),
    LINE(400, "G@T / HTTP/1.1"),
    LINE(400, "G,T / HTTP/1.1"),
    LINE(400, "G;T / HTTP/1.1"),
    LINE(400, "G:T / HTTP/1.1"),
    LINE(400, "G\\T / HTTP/1.1"),
    LINE(400, "G\"T / HTTP/1.1"),
    LINE(400, "G/T / HTTP/1.1"),
    LINE(400, "G[T / HTTP/1.1"),
    LINE(400, "G]T / HTTP/1.1"),
    LINE(400, "G?T / HTTP/1.1"),
    LINE(400, "G=T / HTTP/1.1"),
    LINE(400, "G{T / HTTP/1.1"),
    LINE(400, "G}T / HTTP/1.1"),
    LINE(400, "G\177T / HTTP/1.1"),
    LINE(400, "G\0T / HTTP/1.1"),
    LINE(400, "G\303\234T / HTTP/1.1"),
    LINE(400, "GET\t/ HTTP/1.1"),
    LINE(400, "GET  / HTTP/1.1"),
    LINE(400, "GET \t/ HTTP/1.1"),
    LINE(400, "GET /\tHTTP/1.1"),
    LINE(400, "GET /  HTTP/1.1"),
    LINE(400, "GET / HTTP/1.1 "),
    LINE(400, "GET / HTTP/1.1\t"),
    LINE(400, "GET / HTTP/1.1 x"),
    LINE(400, "GET / x HTTP/1.1"),
    LINE(400, "GET /\rHTTP/1.1"),
    LINE(400, "GET /a\rb HTTP/1.1"),
    LINE(400, "GET /a\nb HTTP/1.1"),
    LINE(400, "/ HTTP/1.1"),
    LINE(400, "GET HTTP/1.1"),
    RAW(400, "GET / HTTP/1.1\nHost: a\r\n\r\n"),
    RAW(400, "GET / HTTP/1.1\rHost: a\r\n\r\n"),
    RAW(400, "GET / HTTP/1.1\r\rHost: a\r\n\r\n"),
    RAW(400, "GET / HTTP/1.1\r\r\nHost: a\r\n\r\n"),
    RAW(400, "GET / HTTP/1.1\n\n"),
};

static const struct bad target_and_version[] = {
    LINE(400, "GET a HTTP/1.1"),
    LINE(400, "GET a/b HTTP/1.1"),
    LINE(400, "GET ?q HTTP/1.1"),
    LINE(400, "GET . HTTP/1.1"),
    LINE(400, "GET \\ HTTP/1.1"),
    LINE(400, "GET # HTTP/1.1"),
    LINE(400, "GET /# HTTP/1.1"),
    LINE(400, "GET /a#b HTTP/1.1"),
    LINE(400, "GET /a?b#c HTTP/1.1"),
    LINE(400, "GET /\0 HTTP/1.1"),
    LINE(400, "GET /a\001b HTTP/1.1"),
    LINE(400, "GET /a\033b HTTP/1.1"),
    LINE(400, "GET /a\177b HTTP/1.1"),
    LINE(400, "GET /a\200b HTTP/1.1"),
    LINE(400, "GET /\303\244 HTTP/1.1"),
    LINE(400, "GET /a\377b HTTP/1.1"),
    LINE(400, "GET * HTTP/1.1"),
    LINE(400, "M-SEARCH * HTTP/1.1"),
    LINE(400, "POST * HTTP/1.1"),
    LINE(400, "options * HTTP/1.1"),
    LINE(400, "OPTIONS ** HTTP/1.1"),
    LINE(400, "OPTIONS *a HTTP/1.1"),
    LINE(400, "OPTIONS *?q HTTP/1.1"),
    LINE(400, "GET a:80 HTTP/1.1"),
    LINE(400, "connect a:80 HTTP/1.1"),
    LINE(405, "CONNECT a:80 HTTP/1.1"),
    LINE(405, "CONNECT a HTTP/1.1"),
    LINE(405, "CONNECT [::1]:80 HTTP/1.1"),
    LINE(405, "CONNECT / HTTP/1.1"),
    LINE(405, "CONNECT * HTTP/1.1"),
    LINE(405, "CONNECT http://a/ HTTP/1.1"),
    LINE(405, "CONNECT a:80 HTTP/1.0"),
    LINE(400, "CONNECT a#b HTTP/1.1"),
    LINE(400, "CONNECT a:80"),
    LINE(505, "CONNECT a:80 HTTP/2.0"),
    RAW(400, "GET /\r\n"),
    RAW(400, "GET /\n"),
    LINE(400, "GET /"),
    LINE(400, "GET / "),
    LINE(400, "GET / HTTP"),
    LINE(400, "GET / HTTP/"),
    LINE(400, "GET / HTTP/1"),
    LINE(400, "GET / HTTP/1."),
    LINE(400, "GET / HTTP/.1"),
    LINE(400, "GET / HTTP/11"),
    LINE(400, "GET / HTTP/1,1"),
    LINE(400, "GET / HTTP/1.1.1"),
    LINE(400, "GET / HTTP/1.10"),
    LINE(400, "GET / HTTP/01.1"),
    LINE(400, "GET / HTTP/1.01"),
    LINE(400, "GET / HTTP/10.1"),
    LINE(400, "GET / HTTP/1.x"),
    LINE(400, "GET / HTTP/x.1"),
    LINE(400, "GET / HTTP/-1.1"),
    LINE(400, "GET / HTTP/1.-1"),
    LINE(400, "GET / HTTP /1.1"),
    LINE(400, "GET / HTTP/ 1.1"),
    LINE(400, "GET / HTTP/1. 1"),
    LINE(400, "GET / http/1.1"),
    LINE(400, "GET / Http/1.1"),
    LINE(400, "GET / HTTPS/1.1"),
    LINE(400, "GET / HTTP\\1.1"),
    LINE(400, "GET / XTTP/1.1"),
    LINE(400, "GET / 1.1"),
    LINE(400, "GET / RTSP/1.0"),
    LINE(400, "GET / HTTP/1.1\0"),
    LINE(400, "GET / HTTP/2"),
    LINE(505, "GET / HTTP/2.0"),
    LINE(505, "GET / HTTP/3.0"),
    LINE(505, "GET / HTTP/0.9"),
    LINE(505, "GET / HTTP/0.0"),
    LINE(505, "GET / HTTP/1.2"),
    LINE(505, "GET / HTTP/1.9"),
    LINE(505, "GET / HTTP/9.9"),
    RAW(505, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
};

static const struct bad absolute_and_host[] = {
    ABSOLUTE(400, "http://b/", "a"),
    ABSOLUTE(400, "http://a/", "a:81"),
    ABSOLUTE(400, "http://a:81/", "a"),
    ABSOLUTE(400, "http://a:443/", "a"),
    ABSOLUTE(400, "https://a:80/", "a"),
    ABSOLUTE(400, "http://a/", "b.a"),
    ABSOLUTE(400, "http://a/", ""),
    ABSOLUTE(400, "http://a.b/", "a"),
    ABSOLUTE(400, "http://a?x=http://b", "b"),
    ABSOLUTE(400, "http://u@a/", "a"),
    ABSOLUTE(400, "http://u:p@a/", "a"),
    ABSOLUTE(400, "http://a@b/", "b"),
    ABSOLUTE(400, "http://a\\@b/", "b"),
    ABSOLUTE(400, "http://", "a"),
    ABSOLUTE(400, "http:///", "a"),
    ABSOLUTE(400, "http:///a", ""),
    ABSOLUTE(400, "http://?q", "a"),
    ABSOLUTE(400, "http://:80/", "a"),
    ABSOLUTE(400, "http://a:x/", "a:x"),
    ABSOLUTE(400, "http://a:99999/", "a:99999"),
    ABSOLUTE(400, "http://[::1/", "[::1]"),
    ABSOLUTE(400, "http://a,b/", "a,b"),
    ABSOLUTE(400, "http:/a/", "a"),
    ABSOLUTE(400, "http:a/", "a"),
    ABSOLUTE(400, "http//a/", "a"),
    ABSOLUTE(400, "ftp://a/", "a"),
    ABSOLUTE(400, "ws://a/", "a"),
    ABSOLUTE(400, "file:///etc/passwd", "a"),
    ABSOLUTE(400, "httpx://a/", "a"),
    ABSOLUTE(400, "xhttp://a/", "a"),
    ABSOLUTE(400, "http://a/#f", "a"),
    RAW(400, "GET http://a/ HTTP/1.1\r\n\r\n"),
    RAW(400, "GET http://b/ HTTP/1.0\r\nHost: a\r\n\r\n"),
    RAW(400, "GET / HTTP/1.1\r\n\r\n"),
    RAW(400, "GET / HTTP/1.1\r\nHosts: a\r\n\r\n"),
    RAW(400, "GET / HTTP/1.1\r\nHos: a\r\n\r\n"),
    RAW(400, "GET / HTTP/1.1\r\nX-Host: a\r\n\r\n"),
    RAW(400, "GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n"),
    RAW(400, "GET / HTTP/1.1\r\nHost: a\r\nhOST: b\r\n\r\n"),
    RAW(400, "GET / HTTP/1.1\r\nHost:\r\nHost:\r\n\r\n"),
    RAW(400, "GET / HTTP/1.0\r\nHost: a\r\nHost: a\r\n\r\n"),
    HOST(400, "a b"),
    HOST(400, "a\tb"),
    HOST(400, "a,b"),
    HOST(400, "a, a"),
    HOST(400, "u@a"),
    HOST(400, "u:p@a"),
    HOST(400, "a/b"),
    HOST(400, "a/"),
    HOST(400, "http://a"),
    HOST(400, "a?b"),
    HOST(400, "a#b"),
    HOST(400, "a\\b"),
    HOST(400, "a:b"),
    HOST(400, "a:80:80"),
    HOST(400, "a:-1"),
    HOST(400, "a:+80"),
    HOST(400, "a:0x50"),
    HOST(400, "a:65536"),
    HOST(400, "a:99999999999999999999"),
    HOST(400, ":80"),
    HOST(400, ":"),
    HOST(400, "::1"),
    HOST(400, "[::1"),
    HOST(400, "::1]"),
    HOST(400, "[]"),
    HOST(400, "[:]x"),
    HOST(400, "[::1]80"),
    HOST(400, "[::1%25eth0]"),
    HOST(400, "[::g]"),
    HOST(400, "[127]"),
    HOST(400, "[::1]:x"),
    HOST(400, "a%"),
    HOST(400, "a%4"),
    HOST(400, "a%zz"),
    HOST(400, "\"a\""),
    HOST(400, "<a>"),
    HOST(400, "a^b"),
    HOST(400, "a|b"),
    HOST(400, "{a}"),
    HOST(400, "a`b"),
    HOST(400, "\303\244"),
};

static const struct bad fields[] = {
    FIELD(400, ": b"),
    FIELD(400, ":"),
    FIELD(400, "a"),
    FIELD(400, "a b"),
    FIELD(400, "a : b"),
    FIELD(400, "a\t: b"),
    FIELD(400, "a b: c"),
    FIELD(400, " a: b"),
    FIELD(400, "\ta: b"),
    FIELD(400, "a: b\r\n c"),
    FIELD(400, "a: b\r\n\tc"),
    FIELD(400, "a: b\r\n "),
    FIELD(400, "a:\r\n b"),
    FIELD(400, "a(b: c"),
    FIELD(400, "a)b: c"),
    FIELD(400, "a,b: c"),
    FIELD(400, "a/b: c"),
    FIELD(400, "a;b: c"),
    FIELD(400, "a<b: c"),
    FIELD(400, "a=b: c"),
    FIELD(400, "a>b: c"),
    FIELD(400, "a?b: c"),
    FIELD(400, "a@b: c"),
    FIELD(400, "a[b: c"),
    FIELD(400, "a\\b: c"),
    FIELD(400, "a]b: c"),
    FIELD(400, "a{b: c"),
    FIELD(400, "a}b: c"),
    FIELD(400, "a\"b: c"),
    FIELD(400, "\"a\": c"),
    FIELD(400, "a\0b: c"),
    FIELD(400, "a\177b: c"),
    FIELD(400, "\303\244: c"),
    FIELD(400, "a\200: c"),
    FIELD(400, "a\rb: c"),
    FIELD(400, "a\r: c"),
    FIELD(400, "a\n: c"),
    FIELD(400, "a: b\nc: d"),
    FIELD(400, "a: b\rc: d"),
    FIELD(400, "a: b\r\rc: d"),
    FIELD(400, "a: b\r"),
    FIELD(400, "a: b\n"),
    FIELD(400, "a: \0"),
    FIELD(400, "a: b\0c"),
    FIELD(400, "a: b\001c"),
    FIELD(400, "a: b\010c"),
    FIELD(400, "a: b\013c"),
    FIELD(400, "a: b\014c"),
    FIELD(400, "a: b\033[31m"),
    FIELD(400, "a: b\037c"),
    FIELD(400, "a: b\177c"),
    FIELD(400, "a: 0123456789abcdef\0"),
    FIELD(400, "a: 0123456789abcdef\177"),
    RAW(400, "GET / HTTP/1.1\r\n Host: a\r\n\r\n"),
    RAW(400, "GET / HTTP/1.1\r\nHost : a\r\n\r\n"),
    RAW(400, "GET / HTTP/1.1\r\nHost: a\r\n\n"),
    RAW(400, "GET / HTTP/1.1\r\nHost: a\n\r\n"),
    RAW(400, "GET / HTTP/1.1\r\nHost: a\r\n\rx"),
    RAW(400, "GET / HTTP/1.1\r\nHost: a\r\n\r\r\n"),
    RAW(400, "GET / HTTP/1.1\r\n\rHost: a\r\n\r\n"),
    FIELD(417, "Expect: 200-ok"),
    FIELD(417, "Expect:"),
    FIELD(417, "Expect: 100-continue, x"),
    FIELD(417, "Expect: 100-continue;q=1"),
    FIELD(417, "Expect: 100"),
    FIELD(417, "Expect: 100-continue\r\nExpect: x"),
    FIELD(400, "Expect: x\r\nContent-Length: 1\r\nContent-Length: 1"),
    FIELD(400, "Connection: a,b,c,d,e,f,g,h,i,j,k,l,m,n,o,p,q,r,s,t,u,v,w,x,y,z,aa,bb,cc,dd,ee,ff,gg"),
};

static const struct bad framing[] = {
    FIELD(400, "Content-Length: 5\r\nContent-Length: 5"),
    FIELD(400, "Content-Length: 5\r\nContent-Length: 6"),
    FIELD(400, "Content-Length: 0\r\ncontent-length: 0"),
    FIELD(400, "Content-Length: 5, 5"),
    FIELD(400, "Content-Length: 5,5"),
    FIELD(400, "Content-Length: 5,"),
    FIELD(400, "Content-Length: ,5"),
    FIELD(400, "Content-Length: 5, 6"),
    FIELD(400, "Content-Length:"),
    FIELD(400, "Content-Length: "),
    FIELD(400, "Content-Length: +5"),
    FIELD(400, "Content-Length: -5"),
    FIELD(400, "Content-Length: -0"),
    FIELD(400, "Content-Length: 5 5"),
    FIELD(400, "Content-Length: 5\t5"),
    FIELD(400, "Content-Length: 0x5"),
    FIELD(400, "Content-Length: 5_0"),
    FIELD(400, "Content-Length: 5a"),
    FIELD(400, "Content-Length: a"),
    FIELD(400, "Content-Length: 5.0"),
    FIELD(400, "Content-Length: 5e1"),
    FIELD(400, "Content-Length: 5;"),
    FIELD(400, "Content-Length: \"5\""),
    FIELD(400, "Content-Length: \331\245"),
    FIELD(400, "Content-Length: 9223372036854775808"),
    FIELD(400, "Content-Length: 18446744073709551615"),
    FIELD(400, "Content-Length: 18446744073709551616"),
    FIELD(400, "Content-Length: 18446744073709551621"),
    FIELD(400, "Content-Length: 99999999999999999999999999999999999999"),
    FIELD(400, "Content-Length: 5\r\nTransfer-Encoding: chunked"),
    FIELD(400, "Transfer-Encoding: chunked\r\nContent-Length: 5"),
    FIELD(400, "Transfer-Encoding: chunked\r\nContent-Length: 0"),
    FIELD(400, "Transfer-Encoding:"),
    FIELD(400, "Transfer-Encoding: identity"),
    FIELD(400, "Transfer-Encoding: gzip"),
    FIELD(400, "Transfer-Encoding: gzip, chunked"),
    FIELD(400, "Transfer-Encoding: chunked, gzip"),
    FIELD(400, "Transfer-Encoding: chunked, chunked"),
    FIELD(400, "Transfer-Encoding: chunked,"),
    FIELD(400, "Transfer-Encoding: ,chunked"),
    FIELD(400, "Transfer-Encoding: chunked, identity"),
    FIELD(400, "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked"),
    FIELD(400, "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity"),
    FIELD(400, "Transfer-Encoding: gzip\r\nTransfer-Encoding: chunked"),
    FIELD(400, "Transfer-Encoding: xchunked"),
    FIELD(400, "Transfer-Encoding: chunkedx"),
    FIELD(400, "Transfer-Encoding: chunke"),
    FIELD(400, "Transfer-Encoding: \"chunked\""),
    FIELD(400, "Transfer-Encoding: 'chunked'"),
    FIELD(400, "Transfer-Encoding: chunked;q=1"),
    FIELD(400, "Transfer-Encoding: chun ked"),
    FIELD(400, "Transfer-Encoding: chunked\013"),
    FIELD(400, "Transfer-Encoding: \014chunked"),
    FIELD(400, "Transfer-Encoding : chunked"),
    FIELD(400, "Transfer-Encoding\t: chunked"),
    FIELD(400, "Transfer-Encoding:\r\n chunked"),
    FIELD(400, "Transfer-Encoding\r\n : chunked"),
    FIELD(400, "Content-Length : 5"),
    FIELD10(400, "Transfer-Encoding: chunked"),
    FIELD10(400, "Transfer-Encoding: gzip"),
    FIELD10(400, "Content-Length: 5\r\nTransfer-Encoding: chunked"),
    FIELD10(400, "Content-Length: 5\r\nContent-Length: 5"),
};

static void refuse_all(const struct bad *rows, size_t n) {
    for (size_t i = 0; i < n; i++) {
        struct outcome o = feed_all_ways(rows[i].in, rows[i].n, FEED_REQUEST, NULL);
        if (o.rc != HT_EPROTO || o.e.status != rows[i].status) {
            show_input("not refused as it should be", rows[i].in, rows[i].n);
            printf("# rc %d, status %u, expected %u\n", o.rc, o.e.status, rows[i].status);
        }
        CU_ASSERT_EQUAL(o.rc, HT_EPROTO);
        CU_ASSERT_EQUAL(o.e.status, rows[i].status);
        CU_ASSERT(o.e.text && *o.e.text);
    }
}

static void bad_methods_and_shapes(void) { refuse_all(method_and_shape, HT_ARRAY_LEN(method_and_shape)); }
static void bad_targets_and_versions(void) { refuse_all(target_and_version, HT_ARRAY_LEN(target_and_version)); }
static void bad_absolute_targets_and_hosts(void) { refuse_all(absolute_and_host, HT_ARRAY_LEN(absolute_and_host)); }
static void bad_fields(void) { refuse_all(fields, HT_ARRAY_LEN(fields)); }
static void bad_framing(void) { refuse_all(framing, HT_ARRAY_LEN(framing)); }

/* One byte of each value at a place: accepted exactly when `allowed` holds it (obs_text: from 0x80 up too). */
static void each_byte_at(const char *before, const char *after, const char *allowed, bool obs_text) {
    for (unsigned c = 0; c < 256; c++) {
        char in[200];
        size_t n = strlen(before);
        memcpy(in, before, n);
        in[n++] = (char)c;
        memcpy(in + n, after, strlen(after));
        n += strlen(after);
        struct outcome o = feed_all_ways(in, n, FEED_REQUEST, NULL);
        bool good = (c && strchr(allowed, (int)c)) || (c >= 0x80 && obs_text);
        if (good != (o.rc == (int)n))
            show_input(good ? "refused" : "accepted", in, n);
        CU_ASSERT_EQUAL(o.rc, good ? (int)n : HT_EPROTO);
        CU_ASSERT(good || o.e.status == 400);
    }
}

#define ALNUM "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
#define TCHAR_BUT_HASH ALNUM "!$%&'*+-.^_`|~"
#define TCHAR TCHAR_BUT_HASH "#"
#define DELIMITERS "\"(),/:;<=>?@[\\]{}"

static void every_byte_everywhere(void) {
    each_byte_at("X", " / HTTP/1.1\r\nHost: a\r\n\r\n", TCHAR, false);
    each_byte_at("", "T / HTTP/1.1\r\nHost: a\r\n\r\n", TCHAR, false);
    each_byte_at("GET /a", "b HTTP/1.1\r\nHost: a\r\n\r\n", TCHAR_BUT_HASH DELIMITERS, false);
    each_byte_at("GET / HTTP/1.1\r\nHost: a\r\nX", "Y: z\r\n\r\n", TCHAR ":", false);
    each_byte_at("GET / HTTP/1.1\r\nHost: a\r\n", "Y: z\r\n\r\n", TCHAR, false);
    each_byte_at("GET / HTTP/1.1\r\nHost: a\r\nX: a", "b\r\n\r\n", TCHAR "\t " DELIMITERS, true);
    each_byte_at("GET / HTTP/1.1\r\nHost: a\r\nX: 0123456789", "0123456789abcdef\r\n\r\n", TCHAR "\t " DELIMITERS,
                 true);
    each_byte_at("GET / HTTP/1.1\r\nHost: a", "z\r\n\r\n", ALNUM "!$&'()*+-._~;=", false);
}

int main(void) {
    static const struct tap_test tests[] = {
        {"malformed request lines are refused", bad_methods_and_shapes},
        {"bad targets and versions are refused", bad_targets_and_versions},
        {"bad absolute targets and hosts are refused", bad_absolute_targets_and_hosts},
        {"malformed field lines are refused", bad_fields},
        {"requests with doubtful framing are refused", bad_framing},
        {"each byte is accepted or refused as its place demands", every_byte_everywhere},
        {NULL, NULL},
    };
    return tap_main("http: requests that must be refused", tests);
}
