/* Response heads that must be refused; whatever the reason, the visitor is owed a 502 (hardening cases 1, 3, 7). */
/* How to switch each defence off to see its test fail: tests/hardening.yaml. */
#include "feed.h"

struct bad {
    const char *in;
    size_t n;
};

#define RAW(text)                                                                                                      \
    { text, sizeof(text) - 1 }
#define LINE(line) RAW(line "\r\nContent-Length: 0\r\n\r\n")
#define FIELD(field) RAW("HTTP/1.1 200 OK\r\n" field "\r\n\r\n")
#define FIELD10(field) RAW("HTTP/1.0 200 OK\r\n" field "\r\n\r\n")

static const struct bad status_lines[] = {
    RAW("\r\nHTTP/1.1 200 OK\r\n\r\n"),
    RAW("\nHTTP/1.1 200 OK\r\n\r\n"),
    RAW(" HTTP/1.1 200 OK\r\n\r\n"),
    RAW("GET / HTTP/1.1\r\n\r\n"),
    RAW("<html>hello</html>"),
    RAW("ICY 200 OK\r\n\r\n"),
    RAW("SSH-2.0-OpenSSH_9.2\r\n"),
    RAW("\025\003\001\000\002\002\050"), /* a TLS alert */
    RAW("HTTP/1.1 200 OK\n\n"),
    RAW("HTTP/1.1 200 OK\r\r\n\r\n"),
    RAW("HTTP/1.1 200\n\n"),
    LINE("HTTP/0.9 200 OK"),
    LINE("HTTP/1.2 200 OK"),
    LINE("HTTP/2.0 200 OK"),
    LINE("HTTP/2 200 OK"),
    LINE("HTTP/1 200 OK"),
    LINE("HTTP/1.10 200 OK"),
    LINE("http/1.1 200 OK"),
    LINE("HTTP1.1 200 OK"),
    LINE("HTTP/1.1"),
    LINE("HTTP/1.1 "),
    LINE("HTTP/1.1 OK"),
    LINE("HTTP/1.1  200 OK"),
    LINE("HTTP/1.1\t200 OK"),
    LINE("HTTP/1.1 200\tOK"),
    LINE("HTTP/1.1 2"),
    LINE("HTTP/1.1 20"),
    LINE("HTTP/1.1 20 OK"),
    LINE("HTTP/1.1 2000"),
    LINE("HTTP/1.1 2000 OK"),
    LINE("HTTP/1.1 0200 OK"),
    LINE("HTTP/1.1 +20 OK"),
    LINE("HTTP/1.1 -20 OK"),
    LINE("HTTP/1.1 2x0 OK"),
    LINE("HTTP/1.1 000 OK"),
    LINE("HTTP/1.1 099 OK"),
    LINE("HTTP/1.1 600 OK"),
    LINE("HTTP/1.1 999 OK"),
    LINE("HTTP/1.1 200OK"),
    LINE("HTTP/1.1 200 O\0K"),
    LINE("HTTP/1.1 200 O\rK"),
    LINE("HTTP/1.1 200 O\nK"),
    LINE("HTTP/1.1 200 O\033K"),
    LINE("HTTP/1.1 200 O\177K"),
};

static const struct bad fields[] = {
    FIELD("a"),
    FIELD(": b"),
    FIELD("a : b"),
    FIELD("a b: c"),
    FIELD(" a: b"),
    FIELD("a: b\r\n c"),
    FIELD("a: b\r\n\tc"),
    FIELD("a: b\nc: d"),
    FIELD("a: b\rc: d"),
    FIELD("a: b\0c"),
    FIELD("a: b\001c"),
    FIELD("a: b\177c"),
    FIELD("a\200: c"),
    FIELD("a(b: c"),
    FIELD("Content-Length:"),
    FIELD("Content-Length: a"),
    FIELD("Content-Length: -1"),
    FIELD("Content-Length: +1"),
    FIELD("Content-Length: 1, 1"),
    FIELD("Content-Length: 1 1"),
    FIELD("Content-Length: 0x1"),
    FIELD("Content-Length: 9223372036854775808"),
    FIELD("Content-Length: 1\r\nContent-Length: 1"),
    FIELD("Content-Length: 1\r\nContent-Length: 2"),
    FIELD("Content-Length: 1\r\nTransfer-Encoding: chunked"),
    FIELD("Transfer-Encoding: chunked\r\nContent-Length: 1"),
    FIELD("Transfer-Encoding:"),
    FIELD("Transfer-Encoding: identity"),
    FIELD("Transfer-Encoding: gzip"),
    FIELD("Transfer-Encoding: gzip, chunked"),
    FIELD("Transfer-Encoding: chunked, chunked"),
    FIELD("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked"),
    FIELD("Transfer-Encoding: xchunked"),
    FIELD("Connection: a,b,c,d,e,f,g,h,i,j,k,l,m,n,o,p,q,r,s,t,u,v,w,x,y,z,aa,bb,cc,dd,ee,ff,gg"),
    FIELD10("Transfer-Encoding: chunked"),
    FIELD10("Transfer-Encoding: identity"),
    RAW("HTTP/1.1 200 OK\r\n a: b\r\n\r\n"),
    RAW("HTTP/1.1 200 OK\r\na: b\r\n\n"),
    RAW("HTTP/1.1 200 OK\r\na: b\r\n\rx"),
    RAW("HTTP/1.1 304 Not Modified\r\nContent-Length: x\r\n\r\n"),
    RAW("HTTP/1.1 204 No Content\r\nTransfer-Encoding: chunked\r\nContent-Length: 0\r\n\r\n"),
};

static void refuse_all(const struct bad *rows, size_t n) {
    for (size_t i = 0; i < n; i++) {
        struct outcome o = feed_all_ways(rows[i].in, rows[i].n, FEED_RESPONSE, NULL);
        if (o.rc != HT_EPROTO)
            show_input("not refused", rows[i].in, rows[i].n);
        CU_ASSERT_EQUAL(o.rc, HT_EPROTO);
        CU_ASSERT_EQUAL(o.e.status, 502);
        CU_ASSERT(o.e.text && *o.e.text);
    }
}

static void bad_status_lines(void) { refuse_all(status_lines, HT_ARRAY_LEN(status_lines)); }
static void bad_fields(void) { refuse_all(fields, HT_ARRAY_LEN(fields)); }

static void limits_are_502_too(void) {
    const struct http_limits limits = {.max_head = 40, .max_headers = 2, .max_target = 10};
    const char *many = "HTTP/1.1 200 OK\r\na:\r\nb:\r\nc:\r\n\r\n";
    const char *large = "HTTP/1.1 200 OK\r\na: 0123456789012345678901234567890\r\n\r\n";
    CU_ASSERT_EQUAL(feed_all_ways(many, strlen(many), FEED_RESPONSE, &limits).e.status, 502);
    CU_ASSERT_EQUAL(feed_all_ways(large, strlen(large), FEED_RESPONSE, &limits).e.status, 502);
}

int main(void) {
    static const struct tap_test tests[] = {
        {"bad status lines are refused", bad_status_lines},
        {"malformed fields of responses are refused", bad_fields},
        {"responses over the limits are refused", limits_are_502_too},
        {NULL, NULL},
    };
    return tap_main("http: responses that must be refused", tests);
}
