/* Heads that are accepted and what they mean; limits; hop-by-hop fields. */
#include "feed.h"

#define KA HTTP_KEEP_ALIVE
#define HOST HTTP_HAS_HOST
#define CL HTTP_HAS_CONTENT_LENGTH
#define TE HTTP_CHUNKED
#define UP HTTP_UPGRADE
#define WS (HTTP_UPGRADE | HTTP_UPGRADE_WEBSOCKET)
#define ABS HTTP_TARGET_ABSOLUTE
#define SLASH HTTP_PATH_NEEDS_SLASH
#define SERVER HTTP_PATH_IS_SERVER
#define EXPECT HTTP_EXPECT_CONTINUE

struct good_request {
    const char *in; /* without the empty line */
    const char *path;
    uint32_t flags;
    enum http_body_kind body;
    uint64_t length;
};

#define R11(fields) "GET / HTTP/1.1\r\nHost: a\r\n" fields
#define R10(fields) "GET / HTTP/1.0\r\n" fields

static const struct good_request requests[] = {
    {R11(""), "/", KA | HOST, HTTP_BODY_NONE, 0},
    {"\r\n" R11(""), "/", KA | HOST, HTTP_BODY_NONE, 0},
    {R10(""), "/", 0, HTTP_BODY_NONE, 0},
    {R10("Host: a\r\n"), "/", HOST, HTTP_BODY_NONE, 0},
    {"GET / HTTP/1.1\r\nHost:\r\n", "/", KA | HOST, HTTP_BODY_NONE, 0},
    {"GET / HTTP/1.1\r\nHOST: a.example:8080\r\n", "/", KA | HOST, HTTP_BODY_NONE, 0},
    {"GET / HTTP/1.1\r\nhost:a:\r\n", "/", KA | HOST, HTTP_BODY_NONE, 0},
    {"GET / HTTP/1.1\r\nhost: [::1]:65535\r\n", "/", KA | HOST, HTTP_BODY_NONE, 0},
    {"GET / HTTP/1.1\r\nhost: [::ffff:127.0.0.1]\r\n", "/", KA | HOST, HTTP_BODY_NONE, 0},
    {"GET / HTTP/1.1\r\nhost: a_b~c%41.d\r\n", "/", KA | HOST, HTTP_BODY_NONE, 0},
    {"!#$%&'*+-.^_`|~9aZ / HTTP/1.1\r\nHost: a\r\n", "/", KA | HOST, HTTP_BODY_NONE, 0},
    {"GET //a/../b;c=%zz?q=\"<>\\^`{|}[]@: HTTP/1.1\r\nHost: a\r\n", "//a/../b;c=%zz?q=\"<>\\^`{|}[]@:", KA | HOST,
     HTTP_BODY_NONE, 0},
    {"OPTIONS * HTTP/1.1\r\nHost: a\r\n", "*", KA | HOST, HTTP_BODY_NONE, 0},
    {"OPTIONS /x HTTP/1.1\r\nHost: a\r\n", "/x", KA | HOST, HTTP_BODY_NONE, 0},
    /* absolute-form */
    {"GET http://a/b?c HTTP/1.1\r\nHost: a\r\n", "/b?c", KA | HOST | ABS, HTTP_BODY_NONE, 0},
    {"GET http://a HTTP/1.1\r\nHost: a\r\n", "/", KA | HOST | ABS, HTTP_BODY_NONE, 0},
    {"GET http://a/ HTTP/1.1\r\nHost: a\r\n", "/", KA | HOST | ABS, HTTP_BODY_NONE, 0},
    {"GET https://a HTTP/1.1\r\nHost: a\r\n", "/", KA | HOST | ABS, HTTP_BODY_NONE, 0},
    {"GET http://a?q/r HTTP/1.1\r\nHost: a\r\n", "?q/r", KA | HOST | ABS | SLASH, HTTP_BODY_NONE, 0},
    {"GET HTTP://A.Example/ HTTP/1.1\r\nHost: a.eXample\r\n", "/", KA | HOST | ABS, HTTP_BODY_NONE, 0},
    {"GET http://a:80/ HTTP/1.1\r\nHost: a\r\n", "/", KA | HOST | ABS, HTTP_BODY_NONE, 0},
    {"GET http://a/ HTTP/1.1\r\nHost: a:80\r\n", "/", KA | HOST | ABS, HTTP_BODY_NONE, 0},
    {"GET https://a:443/ HTTP/1.1\r\nHost: a:\r\n", "/", KA | HOST | ABS, HTTP_BODY_NONE, 0},
    {"GET http://a:81/ HTTP/1.1\r\nHost: a:81\r\n", "/", KA | HOST | ABS, HTTP_BODY_NONE, 0},
    {"GET http://[::1]/x HTTP/1.1\r\nHost: [::1]\r\n", "/x", KA | HOST | ABS, HTTP_BODY_NONE, 0},
    {"GET http://a/x HTTP/1.0\r\n", "/x", ABS, HTTP_BODY_NONE, 0},
    /* RFC 9112 3.2.4: of the server as a whole */
    {"OPTIONS http://a HTTP/1.1\r\nHost: a\r\n", "/", KA | HOST | ABS | SERVER, HTTP_BODY_NONE, 0},
    {"OPTIONS http://a/ HTTP/1.1\r\nHost: a\r\n", "/", KA | HOST | ABS, HTTP_BODY_NONE, 0},
    {"OPTIONS http://a?q HTTP/1.1\r\nHost: a\r\n", "?q", KA | HOST | ABS | SLASH, HTTP_BODY_NONE, 0},
    /* bodies */
    {R11("Content-Length: 0\r\n"), "/", KA | HOST | CL, HTTP_BODY_NONE, 0},
    {R11("Content-Length: 5\r\n"), "/", KA | HOST | CL, HTTP_BODY_LENGTH, 5},
    {R11("content-length:\t 0000000000000000000000000000005 \t\r\n"), "/", KA | HOST | CL, HTTP_BODY_LENGTH, 5},
    {R11("CONTENT-LENGTH: 9223372036854775807\r\n"), "/", KA | HOST | CL, HTTP_BODY_LENGTH, INT64_MAX},
    {R10("Content-Length: 5\r\n"), "/", CL, HTTP_BODY_LENGTH, 5},
    {R11("Transfer-Encoding: chunked\r\n"), "/", KA | HOST | TE, HTTP_BODY_CHUNKED, 0},
    {R11("tRANSFER-eNCODING:\t CHUNKED \r\n"), "/", KA | HOST | TE, HTTP_BODY_CHUNKED, 0},
    {R11("Content-Lengths: x\r\nX-Transfer-Encoding: y\r\nContent_Length: z\r\n"), "/", KA | HOST, HTTP_BODY_NONE, 0},
    /* the connection */
    {R11("Connection: close\r\n"), "/", HOST, HTTP_BODY_NONE, 0},
    {R11("connection: CLOSE\r\n"), "/", HOST, HTTP_BODY_NONE, 0},
    {R11("Connection: keep-alive\r\n"), "/", KA | HOST, HTTP_BODY_NONE, 0},
    {R11("Connection: keep-alive, close\r\n"), "/", HOST, HTTP_BODY_NONE, 0},
    {R11("Connection: close\r\nConnection: keep-alive\r\n"), "/", HOST, HTTP_BODY_NONE, 0},
    {R11("Connection:\r\nConnection: , ,x,,\t close ,\r\n"), "/", HOST, HTTP_BODY_NONE, 0},
    {R11("Connection: closed, disclose, close;x, clo se\r\n"), "/", KA | HOST, HTTP_BODY_NONE, 0},
    {R11("Proxy-Connection: close\r\n"), "/", KA | HOST, HTTP_BODY_NONE, 0},
    {R10("Connection: keep-alive\r\n"), "/", KA, HTTP_BODY_NONE, 0},
    {R10("Connection: Keep-Alive, x\r\n"), "/", KA, HTTP_BODY_NONE, 0},
    {R10("Connection: Keep-Alive\r\nConnection: close\r\n"), "/", 0, HTTP_BODY_NONE, 0},
    {R10("Keep-Alive: timeout=5\r\n"), "/", 0, HTTP_BODY_NONE, 0},
    /* upgrades */
    {R11("Connection: Upgrade\r\nUpgrade: websocket\r\n"), "/", KA | HOST | WS, HTTP_BODY_NONE, 0},
    {R11("Upgrade: WebSocket\r\nConnection: keep-alive, upgrade\r\n"), "/", KA | HOST | WS, HTTP_BODY_NONE, 0},
    {R11("Connection: Upgrade\r\nUpgrade: foo/2, websocket\r\n"), "/", KA | HOST | WS, HTTP_BODY_NONE, 0},
    {R11("Connection: Upgrade\r\nUpgrade: foo\r\nUpgrade: websocket\r\n"), "/", KA | HOST | WS, HTTP_BODY_NONE, 0},
    {R11("Connection: Upgrade\r\nUpgrade: h2c\r\n"), "/", KA | HOST | UP, HTTP_BODY_NONE, 0},
    {R11("Connection: Upgrade\r\nUpgrade: websocket/13\r\n"), "/", KA | HOST | UP, HTTP_BODY_NONE, 0},
    {R11("Connection: Upgrade\r\nUpgrade: websockets\r\n"), "/", KA | HOST | UP, HTTP_BODY_NONE, 0},
    {R11("Connection: Upgrade\r\nUpgrade:\r\n"), "/", KA | HOST, HTTP_BODY_NONE, 0},
    {R11("Connection: Upgrade\r\n"), "/", KA | HOST, HTTP_BODY_NONE, 0},
    {R11("Upgrade: websocket\r\n"), "/", KA | HOST, HTTP_BODY_NONE, 0},
    {R11("Connection: Upgrade\r\nUpgrade: websocket\r\nContent-Length: 3\r\n"), "/", KA | HOST | WS | CL,
     HTTP_BODY_LENGTH, 3},
    {R10("Connection: Upgrade\r\nUpgrade: websocket\r\n"), "/", 0, HTTP_BODY_NONE, 0},
    /* Expect */
    {R11("Expect: 100-continue\r\nContent-Length: 5\r\n"), "/", KA | HOST | CL | EXPECT, HTTP_BODY_LENGTH, 5},
    {R11("expect: 100-Continue\r\n"), "/", KA | HOST | EXPECT, HTTP_BODY_NONE, 0},
    {R10("Expect: 100-continue\r\nContent-Length: 5\r\n"), "/", CL, HTTP_BODY_LENGTH, 5},
    {R10("Expect: anything\r\n"), "/", 0, HTTP_BODY_NONE, 0},
};

static void good_requests(void) {
    for (size_t i = 0; i < HT_ARRAY_LEN(requests); i++) {
        const struct good_request *t = &requests[i];
        /* What follows the head is not looked at. */
        char in[600];
        int head = snprintf(in, sizeof in, "%s\r\n", t->in);
        int n = snprintf(in, sizeof in, "%s\r\n\001 GET http://canary HTTP/9", t->in);
        struct outcome o = feed_all_ways(in, (size_t)n, FEED_REQUEST, NULL);
        bool good = o.rc == head && o.h.flags == t->flags && text_is(in, o.h.path, t->path) &&
                    http_request_body(&o.h) == t->body && o.h.content_length == t->length;
        if (!good) {
            show_input("not read as expected", in, (size_t)head);
            printf("# rc %d of %d, flags %x, expected %x; %s\n", o.rc, head, o.h.flags, t->flags,
                   o.e.text ? o.e.text : "");
        }
        CU_ASSERT(good);
    }
}

static void parts_of_a_request(void) {
    const char *in = "PATCH /a?b HTTP/1.1\r\nHost: \t x:1 \r\nX-Empty:\r\nCookie: a=b\r\nCOOKIE: c=d\r\n\r\n";
    struct outcome o = feed_all_ways(in, strlen(in), FEED_REQUEST, NULL);
    CU_ASSERT_EQUAL(o.rc, (int)strlen(in));
    CU_ASSERT(text_is(in, o.h.method, "PATCH"));
    CU_ASSERT(text_is(in, o.h.target, "/a?b"));
    CU_ASSERT(text_is(in, o.h.host, "x:1"));
    CU_ASSERT_EQUAL(o.h.minor, 1);
    CU_ASSERT_EQUAL_FATAL(o.h.n_fields, 4);
    CU_ASSERT(text_is(in, o.h.fields[0].name, "Host"));
    CU_ASSERT(text_is(in, o.h.fields[1].name, "X-Empty"));
    CU_ASSERT(text_is(in, o.h.fields[1].value, ""));
    CU_ASSERT(text_is(in, o.h.fields[3].value, "c=d"));
    CU_ASSERT_PTR_EQUAL(http_field_find(&o.h, in, "cookie"), &o.h.fields[2]);
    CU_ASSERT_PTR_EQUAL(http_field_find(&o.h, in, "x-eMPTY"), &o.h.fields[1]);
    CU_ASSERT_PTR_NULL(http_field_find(&o.h, in, "cook"));
    /* Starting over leaves nothing behind. */
    http_request_begin(&o.h, NULL);
    CU_ASSERT_EQUAL(feed_copy(&o, "GET / HTTP/1.0\r\n\r\n", 18), 18);
    CU_ASSERT_EQUAL(o.h.n_fields, 0);
    CU_ASSERT_EQUAL(o.h.flags, 0);
    CU_ASSERT_EQUAL(o.h.host.len, 0);
}

static void pipelined_requests(void) {
    const char *in =
        "GET /1 HTTP/1.1\r\nHost: a\r\n\r\nGET /2 HTTP/1.1\r\nHost: a\r\n\r\n\r\nGET /3 HTTP/1.1\r\nHost: a\r\n\r\n";
    const char *at = in;
    for (int i = 1; i <= 3; i++) {
        struct outcome o = feed_all_ways(at, strlen(at), FEED_REQUEST, NULL);
        CU_ASSERT_FATAL(o.rc > 0);
        CU_ASSERT_EQUAL(at[o.h.path.off + 1], '0' + i);
        at += o.rc;
    }
    CU_ASSERT_EQUAL(*at, '\0');
}

struct good_response {
    const char *in; /* without the empty line */
    uint16_t status;
    const char *reason;
    uint32_t flags;
    enum http_body_kind body, body_of_head; /* as an answer to GET, to HEAD */
};

#define S(status, fields) "HTTP/1.1 " status "\r\n" fields

static const struct good_response responses[] = {
    {S("200 OK", "Content-Length: 5\r\n"), 200, "OK", KA | CL, HTTP_BODY_LENGTH, HTTP_BODY_NONE},
    {S("200 OK", "Content-Length: 0\r\n"), 200, "OK", KA | CL, HTTP_BODY_NONE, HTTP_BODY_NONE},
    {S("200", "Content-Length: 5\r\n"), 200, "", KA | CL, HTTP_BODY_LENGTH, HTTP_BODY_NONE},
    {S("200 ", "Content-Length: 5\r\n"), 200, "", KA | CL, HTTP_BODY_LENGTH, HTTP_BODY_NONE},
    {S("200  two  words ", "Content-Length: 5\r\n"), 200, "two  words", KA | CL, HTTP_BODY_LENGTH, HTTP_BODY_NONE},
    {S("404 Gr\303\274n", "Content-Length: 5\r\n"), 404, "Gr\303\274n", KA | CL, HTTP_BODY_LENGTH, HTTP_BODY_NONE},
    {S("200 OK", "Transfer-Encoding: Chunked\r\n"), 200, "OK", KA | TE, HTTP_BODY_CHUNKED, HTTP_BODY_NONE},
    {S("200 OK", ""), 200, "OK", KA, HTTP_BODY_CLOSE, HTTP_BODY_NONE},
    {S("200 OK", "Connection: close\r\n"), 200, "OK", 0, HTTP_BODY_CLOSE, HTTP_BODY_NONE},
    {"HTTP/1.0 200 OK\r\n", 200, "OK", 0, HTTP_BODY_CLOSE, HTTP_BODY_NONE},
    {"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 1\r\n", 200, "OK", KA | CL, HTTP_BODY_LENGTH,
     HTTP_BODY_NONE},
    {S("100 Continue", ""), 100, "Continue", KA, HTTP_BODY_NONE, HTTP_BODY_NONE},
    {S("103 Early Hints", "Link: </a>\r\n"), 103, "Early Hints", KA, HTTP_BODY_NONE, HTTP_BODY_NONE},
    {S("199 X", "Content-Length: 5\r\n"), 199, "X", CL, HTTP_BODY_NONE, HTTP_BODY_NONE},
    {S("101 Switching Protocols", "Upgrade: websocket\r\nConnection: Upgrade\r\n"), 101, "Switching Protocols", KA | WS,
     HTTP_BODY_NONE, HTTP_BODY_NONE},
    {S("426 Upgrade Required", "Upgrade: foo\r\nConnection: upgrade\r\nContent-Length: 0\r\n"), 426, "Upgrade Required",
     KA | UP | CL, HTTP_BODY_NONE, HTTP_BODY_NONE},
    {S("204 No Content", ""), 204, "No Content", KA, HTTP_BODY_NONE, HTTP_BODY_NONE},
    {S("204 No Content", "Content-Length: 0\r\n"), 204, "No Content", KA | CL, HTTP_BODY_NONE, HTTP_BODY_NONE},
    {S("204 No Content", "Content-Length: 5\r\n"), 204, "No Content", CL, HTTP_BODY_NONE, HTTP_BODY_NONE},
    {S("204 No Content", "Transfer-Encoding: chunked\r\n"), 204, "No Content", TE, HTTP_BODY_NONE, HTTP_BODY_NONE},
    {S("304 Not Modified", "Content-Length: 5\r\n"), 304, "Not Modified", KA | CL, HTTP_BODY_NONE, HTTP_BODY_NONE},
    {S("304 Not Modified", "Transfer-Encoding: chunked\r\n"), 304, "Not Modified", KA | TE, HTTP_BODY_NONE,
     HTTP_BODY_NONE},
    {S("599 X", "Host: a\r\nHost: b\r\nExpect: x\r\n"), 599, "X", KA, HTTP_BODY_CLOSE, HTTP_BODY_NONE},
};

static void good_responses(void) {
    for (size_t i = 0; i < HT_ARRAY_LEN(responses); i++) {
        const struct good_response *t = &responses[i];
        char in[600];
        int head = snprintf(in, sizeof in, "%s\r\n", t->in);
        int n = snprintf(in, sizeof in, "%s\r\nbody", t->in);
        struct outcome o = feed_all_ways(in, (size_t)n, FEED_RESPONSE, NULL);
        bool good = o.rc == head && o.h.status == t->status && text_is(in, o.h.reason, t->reason) &&
                    o.h.flags == t->flags && http_response_body(&o.h, false) == t->body &&
                    http_response_body(&o.h, true) == t->body_of_head;
        if (!good) {
            show_input("not read as expected", in, (size_t)head);
            printf("# rc %d of %d, flags %x, expected %x; %s\n", o.rc, head, o.h.flags, t->flags,
                   o.e.text ? o.e.text : "");
        }
        CU_ASSERT(good);
    }
}

/* ---- limits ---- */

static int status_with(const char *in, size_t n, const struct http_limits *limits) {
    struct outcome o = feed_all_ways(in, n, FEED_REQUEST, limits);
    return o.rc < 0 && o.rc != HT_EAGAIN ? o.e.status : o.rc;
}

static void limit_of_the_head(void) {
    const char *in = "GET / HTTP/1.1\r\nHost: a\r\nA: 0123456789\r\n\r\n";
    int n = (int)strlen(in);
    for (int d = -1; d <= 1; d++) {
        struct http_limits limits = {(uint32_t)(n + d), 128, 100};
        CU_ASSERT_EQUAL(status_with(in, (size_t)n, &limits), d < 0 ? 431 : n);
    }
    /* Decided without the end of the head, and nothing behind the limit is looked at. */
    struct http_limits limits = {30, 128, 100};
    CU_ASSERT_EQUAL(status_with(in, 29, &limits), HT_EAGAIN);
    CU_ASSERT_EQUAL(status_with(in, 30, &limits), 431);
    CU_ASSERT_EQUAL(status_with("GET / HTTP/1.1\r\nHost: a\r\nA: bb\001", 31, &limits), 431);
    CU_ASSERT_EQUAL(status_with("GET / HTTP/1.1\r\nHost: a\r\nA: b\001", 30, &limits), 400);
}

static void limit_of_the_number_of_fields(void) {
    for (uint32_t max = 1; max <= HTTP_MAX_HEADERS; max += HTTP_MAX_HEADERS - 1)
        for (uint32_t n = max - 1; n <= max + 1; n++) {
            char in[2000] = "GET / HTTP/1.0\r\n";
            for (uint32_t i = 0; i < n; i++)
                strcat(in, "a: b\r\n");
            strcat(in, "\r\n");
            struct http_limits limits = {48 * 1024, max, 100};
            CU_ASSERT_EQUAL(status_with(in, strlen(in), &limits), n > max ? 431 : (int)strlen(in));
            limits.max_headers = UINT32_MAX; /* ... is taken down to what there is room for */
            CU_ASSERT_EQUAL(status_with(in, strlen(in), &limits), n > HTTP_MAX_HEADERS ? 431 : (int)strlen(in));
        }
}

static void limit_of_the_target(void) {
    for (uint32_t max = 1; max <= 33; max++)
        for (uint32_t n = max > 1 ? max - 1 : 1; n <= max + 1; n++) {
            char in[200], target[40] = "/";
            memset(target + 1, 'x', n);
            target[n] = '\0';
            int len = snprintf(in, sizeof in, "GET %s HTTP/1.1\r\nHost: a\r\n\r\n", target);
            struct http_limits limits = {1000, 10, max};
            CU_ASSERT_EQUAL(status_with(in, (size_t)len, &limits), n > max ? 414 : len);
            /* At once, although no end is in sight. */
            CU_ASSERT_EQUAL(status_with(in, 4 + n, &limits), n > max ? 414 : HT_EAGAIN);
        }
    struct http_limits limits = {1000, 10, 4};
    CU_ASSERT_EQUAL(status_with("GET /123#", 9, &limits), 400);
    CU_ASSERT_EQUAL(status_with("GET /1234#", 10, &limits), 414);
}

static void usual_limits(void) {
    static char in[64 * 1024];
    for (int d = 0; d <= 1; d++) {
        int at = snprintf(in, sizeof in, "GET /");
        memset(in + at, 'x', (size_t)(16 * 1024 - 1 + d));
        at += 16 * 1024 - 1 + d;
        at += snprintf(in + at, sizeof in - (size_t)at, " HTTP/1.0\r\n\r\n");
        struct outcome o;
        outcome_begin(&o, false, NULL);
        CU_ASSERT_EQUAL(feed_copy(&o, in, (size_t)at), d ? HT_EPROTO : at);
        CU_ASSERT_EQUAL(o.e.status, d ? 414 : 0);

        at = snprintf(in, sizeof in, "GET / HTTP/1.0\r\na:");
        memset(in + at, 'x', sizeof in - (size_t)at);
        memcpy(in + 48 * 1024 - 4 + d, "\r\n\r\n", 4);
        outcome_begin(&o, false, NULL);
        CU_ASSERT_EQUAL(feed_copy(&o, in, sizeof in), d ? HT_EPROTO : 48 * 1024);
        CU_ASSERT_EQUAL(o.e.status, d ? 431 : 0);
    }
}

/* ---- hop-by-hop ---- */

/* The names that are hop-by-hop, each followed by a space. */
static void hops_are(const char *fields, const char *expected) {
    char in[4000], got[1000] = "";
    int n = snprintf(in, sizeof in, "GET / HTTP/1.1\r\nHost: a\r\n%s\r\n", fields);
    struct outcome o = feed_all_ways(in, (size_t)n, FEED_REQUEST, NULL);
    CU_ASSERT_EQUAL(o.rc, n);
    for (uint32_t i = 0; i < o.h.n_fields; i++)
        if (http_field_is_hop_by_hop(&o.h, in, i)) {
            strncat(got, in + o.h.fields[i].name.off, o.h.fields[i].name.len);
            strcat(got, " ");
        }
    CU_ASSERT_STRING_EQUAL(got, expected);
}

static void hop_by_hop(void) {
    hops_are("", "");
    hops_are("Accept: x\r\nTrailers: x\r\nKeep-Alives: x\r\nTEX: y\r\nConnections: z\r\n", "");
    hops_are(
        "TE: trailers\r\nTrailer: x\r\nKeep-Alive: 5\r\nProxy-Connection: close\r\nUpgrade: x\r\nconnection: x\r\n",
        "TE Trailer Keep-Alive Proxy-Connection Upgrade connection ");
    hops_are("Transfer-Encoding: chunked\r\n", "Transfer-Encoding ");
    hops_are("X-A: 1\r\nConnection: x-b, X-a\r\nx-B: 2\r\nX-C: 3\r\nx-a: 4\r\n", "X-A Connection x-B x-a ");
    hops_are("X-A: 1\r\nConnection: close\r\nConnection: , x-a\r\n", "X-A Connection Connection ");
    hops_are("X-A: 1\r\nConnection: \"x-a\", x a\r\n", "Connection ");
    /* Hardening case 8: what we or others check and add cannot be named away. */
    hops_are("Connection: host, content-length, Authorization, cookie, X-Forwarded-For, x-forwarded-proto, forwarded,"
             "sec-websocket-key, Origin, via, cache-control, if-none-match, content-type, x-real-ip\r\n"
             "Content-Length: 0\r\nAuthorization: a\r\nCookie: a\r\nX-Forwarded-For: a\r\nX-Forwarded-Proto: a\r\n"
             "Forwarded: a\r\nSec-WebSocket-Key: a\r\nOrigin: a\r\nVia: a\r\nCache-Control: a\r\nIf-None-Match: a\r\n"
             "Content-Type: a\r\nX-Real-IP: a\r\n",
             "Connection ");
    /* 32 names beside the usual options are the most. */
    hops_are("Connection: close,upgrade,keep-alive,a,b,c,d,e,f,g,h,i,j,k,l,m,n,o,p,q,r,s,t,u,v,w,x,y,z\r\n"
             "Connection: close,aa,bb,cc,dd,ee,ff\r\nff: 1\r\nm: 2\r\n",
             "Connection Connection ff m ");
}

static void hop_by_hop_of_the_last_field(void) {
    char in[2000] = "GET / HTTP/1.0\r\n";
    for (int i = 0; i < HTTP_MAX_HEADERS - 1; i++)
        strcat(in, "a: b\r\n");
    strcat(in, "te: x\r\n\r\n");
    struct outcome o = feed_all_ways(in, strlen(in), FEED_REQUEST, NULL);
    CU_ASSERT_EQUAL_FATAL(o.h.n_fields, HTTP_MAX_HEADERS);
    CU_ASSERT(http_field_is_hop_by_hop(&o.h, in, HTTP_MAX_HEADERS - 1));
    CU_ASSERT(!http_field_is_hop_by_hop(&o.h, in, HTTP_MAX_HEADERS - 2));
    CU_ASSERT(!http_field_is_hop_by_hop(&o.h, in, 63));
}

int main(void) {
    static const struct tap_test tests[] = {
        {"valid requests are read", good_requests},
        {"the parts of a request are found", parts_of_a_request},
        {"pipelined requests are read one after another", pipelined_requests},
        {"valid responses are read", good_responses},
        {"a head has a limit in bytes", limit_of_the_head},
        {"the number of fields has a limit", limit_of_the_number_of_fields},
        {"a target has a limit in bytes", limit_of_the_target},
        {"without limits of the caller the usual ones hold", usual_limits},
        {"hop-by-hop fields are marked", hop_by_hop},
        {"the last possible field can be hop-by-hop", hop_by_hop_of_the_last_field},
        {NULL, NULL},
    };
    return tap_main("http heads", tests);
}
