/* Chunked bodies: good and bad ones, in every cut (hardening case 4, RFC 9112 7.1). How to switch each
 * defence off to see its test fail: tests/hardening.yaml. */
#include "http/http.h"
#include "support/tap.h"

#include <stdio.h>
#include <stdlib.h>

#define TAIL "GET /next HTTP/1.1\r\n"

struct decoded {
    struct http_chunked c;
    int rc;
    uint16_t status;
    size_t used, n; /* raw bytes read, body bytes */
    char *body;     /* room for the whole input */
};

static bool loose; /* of the bodies that are decoded now */

/* One piece, in a buffer of its own of exactly its size. False when there is nothing more to feed. */
static bool feed(struct decoded *d, const char *in, size_t n) {
    char *piece = malloc(n ? n : 1);
    if (!piece)
        abort();
    memcpy(piece, in, n);
    size_t len = n, used = 0;
    struct http_error e = {0, NULL};
    d->rc = http_chunked_decode(&d->c, piece, &len, &used, &e);
    d->status = e.status;
    CU_ASSERT_FATAL(len <= used && used <= n);
    memcpy(d->body + d->n, piece, len);
    d->n += len;
    d->used += used;
    if (d->rc == HT_OK) {
        CU_ASSERT(d->c.done || used == n);
        /* What belongs to the next message is untouched. */
        CU_ASSERT(memcmp(piece + used, in + used, n - used) == 0);
    } else {
        CU_ASSERT(e.status == 400 && e.text && *e.text);
    }
    free(piece);
    return d->rc == HT_OK && !d->c.done;
}

static void start(struct decoded *d, char *body) { *d = (struct decoded){.body = body, .c.loose = loose}; }

static bool same(const struct decoded *a, const struct decoded *b) {
    return a->rc == b->rc && a->status == b->status && a->n == b->n && memcmp(a->body, b->body, a->n) == 0 &&
           a->c.done == b->c.done && a->c.odd == b->c.odd && (a->rc != HT_OK || a->used == b->used);
}

/* Whole, byte by byte, and cut in three at each pair of positions (short inputs) or in two. */
static struct decoded decode_all_ways(const char *in, size_t n, char *body) {
    char *other_body = malloc(n + 1);
    if (!other_body)
        abort();
    struct decoded whole, d;
    start(&whole, body);
    feed(&whole, in, n);
    start(&d, other_body);
    for (size_t i = 0; i < n && feed(&d, in + i, 1); i++) {
    }
    bool good = same(&whole, &d);
    for (size_t i = 0; good && i <= n; i++)
        for (size_t j = n <= 60 ? i : n; good && j <= n; j++) {
            start(&d, other_body);
            if (feed(&d, in, i) && feed(&d, in + i, j - i))
                feed(&d, in + j, n - j);
            good = same(&whole, &d);
        }
    if (!good)
        printf("# not the same in pieces: %.*s\n", (int)n, in);
    CU_ASSERT(good);
    free(other_body);
    return whole;
}

struct good {
    const char *in;
    const char *body;
};

static const struct good good[] = {
    {"0\r\n\r\n", ""},
    {"5\r\nhello\r\n0\r\n\r\n", "hello"},
    {"5\r\nhello\r\n6\r\n world\r\n0\r\n\r\n", "hello world"},
    {"1\r\na\r\n1\r\nb\r\n1\r\nc\r\n0\r\n\r\n", "abc"},
    {"A\r\n0123456789\r\n0\r\n\r\n", "0123456789"},
    {"a\r\n0123456789\r\n0\r\n\r\n", "0123456789"},
    {"0000000000000000000000a\r\n0123456789\r\n000\r\n\r\n", "0123456789"},
    {"2\r\n\r\n\r\n0\r\n\r\n", "\r\n"},
    {"7\r\n0\r\n\r\nGE\r\n0\r\n\r\n", "0\r\n\r\nGE"},
    {"1;a\r\nx\r\n0\r\n\r\n", "x"},
    {"1;a=b\r\nx\r\n0;c\r\n\r\n", "x"},
    {"1;a=b;c=\"d\"\r\nx\r\n0\r\n\r\n", "x"},
    {"1 ; a = b\r\nx\r\n0\r\n\r\n", "x"},
    {"1\t;\ta;b\r\nx\r\n0\r\n\r\n", "x"},
    {"1;a=\"\\\"\\\\; \t\377\"\r\nx\r\n0\r\n\r\n", "x"},
    {"0\r\na: b\r\n\r\n", ""},
    {"1\r\nx\r\n0\r\nDigest: abc\r\nX-Empty:\r\n\r\n", "x"},
};

static void good_bodies(void) {
    for (size_t i = 0; i < HT_ARRAY_LEN(good); i++) {
        char in[200], body[200];
        int n = snprintf(in, sizeof in, "%s" TAIL, good[i].in);
        struct decoded d = decode_all_ways(in, (size_t)n, body);
        bool right = d.rc == HT_OK && d.c.done && d.used == strlen(good[i].in) && d.n == strlen(good[i].body) &&
                     memcmp(body, good[i].body, d.n) == 0;
        if (!right)
            printf("# row %zu: rc %d, used %zu, n %zu\n", i, d.rc, d.used, d.n);
        CU_ASSERT(right);
        /* Without its last byte it is not over yet. */
        d = decode_all_ways(in, strlen(good[i].in) - 1, body);
        CU_ASSERT(d.rc == HT_OK && !d.c.done);
        CU_ASSERT_EQUAL(d.n, strlen(good[i].body));
    }
}

struct bad {
    const char *in;
    size_t n;
};

#define BAD(text)                                                                                                      \
    { text, sizeof(text) - 1 }

static const struct bad bad[] = {
    BAD("\r\n"),
    BAD("\n"),
    BAD(";a\r\n"),
    BAD(" 5\r\nhello\r\n"),
    BAD("5 \r\nhello\r\n"),
    BAD("5\t\r\nhello\r\n"),
    BAD("+5\r\nhello\r\n"),
    BAD("-5\r\nhello\r\n"),
    BAD("-0\r\n"),
    BAD("0x5\r\nhello\r\n"),
    BAD("0X5\r\nhello\r\n"),
    BAD("x5\r\nhello\r\n"),
    BAD("5_\r\nhello\r\n"),
    BAD("1_0\r\nhello\r\n"),
    BAD("5h\r\nhello\r\n"),
    BAD("g\r\n"),
    BAD("5.0\r\n"),
    BAD("5,5\r\n"),
    BAD("5\nhello\r\n"),
    BAD("5\rhello\r\n"),
    BAD("5\r\rhello\r\n"),
    BAD("5\r\nhello\n0\r\n\r\n"),
    BAD("5\r\nhello\r0\r\n\r\n"),
    BAD("5\r\nhello0\r\n\r\n"),
    BAD("5\r\nhello!\r\n0\r\n\r\n"),
    BAD("5\r\nhello\r\n\r\n0\r\n\r\n"),
    BAD("5\r\nhell\r\n0\r\n\r\n"),
    BAD("8000000000000000\r\n"),
    BAD("fffffffffffffffe\r\n"),
    BAD("ffffffffffffffff\r\n"),
    BAD("10000000000000000\r\n"),
    BAD("10000000000000005\r\nhello"),
    BAD("00000ffffffffffffffff5\r\nhello"),
    BAD("\0\r\n"),
    BAD("5\0\r\nhello"),
    BAD("5;\r\n"),
    BAD("5;a=\r\n"),
    BAD("5;=b\r\n"),
    BAD("5;a=b \r\n"),
    BAD("5;a b\r\n"),
    BAD("5;a\n"),
    BAD("5;a\nb\r\n"),
    BAD("5;a\r\r\n"),
    BAD("5;a=b\rc\r\n"),
    BAD("5;a=\"b\r\n"),
    BAD("5;a=\"b\n\"\r\n"),
    BAD("5;a=\"b\\\r\n\"\r\n"),
    BAD("5;a=\"b\"c\r\n"),
    BAD("5;a\0\r\n"),
    BAD("5;a=\"\0\"\r\n"),
    BAD("5;\303\244\r\n"),
    BAD("0\n\n"),
    BAD("0\n\r\n"),
    BAD("0\r\n\n"),
    BAD("0\r\n\rx"),
    BAD("0\r\na\r\n\r\n"),
    BAD("0\r\n: b\r\n\r\n"),
    BAD("0\r\na : b\r\n\r\n"),
    BAD("0\r\n a: b\r\n\r\n"),
    BAD("0\r\na: b\r\n c\r\n\r\n"),
    BAD("0\r\na(b: c\r\n\r\n"),
    BAD("0\r\na: b\nc: d\r\n\r\n"),
    BAD("0\r\na: b\rc: d\r\n\r\n"),
    BAD("0\r\na: b\0\r\n\r\n"),
    BAD("0\r\na: b\177\r\n\r\n"),
    BAD("0\r\na: b\r\n\n"),
    BAD("0\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n"),
};

static void bad_bodies(void) {
    for (size_t i = 0; i < HT_ARRAY_LEN(bad); i++) {
        char body[200];
        struct decoded d = decode_all_ways(bad[i].in, bad[i].n, body);
        if (d.rc != HT_EPROTO)
            printf("# row %zu was accepted: %s\n", i, bad[i].in);
        CU_ASSERT_EQUAL(d.rc, HT_EPROTO);
        CU_ASSERT(!d.c.done);
        /* It stays refused. */
        feed(&d, "0\r\n\r\n", 5);
        CU_ASSERT_EQUAL(d.rc, HT_EPROTO);
    }
}

/* From a local service: taken, and said to be odd. */
static const struct good loose_good[] = {
    {"5 \r\nhello\r\n0\r\n\r\n", "hello"}, {"5 \t \r\nhello\r\n0  \r\n\r\n", "hello"}, {"5\nhello\n0\n\n", "hello"},
    {"5\nhello\r\n0\r\n\n", "hello"},      {"5 \nhello\n0;a\r\na: b\n\n", "hello"},
};

static const struct bad loose_bad[] = {
    BAD(" 5\r\nhello\r\n"),         BAD("+5\r\nhello\r\n"),
    BAD("0x5\r\nhello\r\n"),        BAD("5 5\r\nhello\r\n"),
    BAD("5h\r\nhello\r\n"),         BAD("5\rhello\r\n"),
    BAD("5\r\nhello0\r\n\r\n"),     BAD("5\r\nhello!\r\n0\r\n\r\n"),
    BAD("5;a\nhello\r\n0\r\n\r\n"), BAD("5 ;a\nhello\r\n0\r\n\r\n"),
    BAD("5 ; a=b \r\nhello\r\n"),   BAD("5;\r\nhello"),
    BAD("8000000000000000\r\n"),    BAD("0\r\nGET / HTTP/1.1\r\n\r\n"),
    BAD("0\na b: c\n\n"),
};

static void loose_bodies(void) {
    char in[200], body[200];
    loose = true;
    for (size_t i = 0; i < HT_ARRAY_LEN(loose_good) + HT_ARRAY_LEN(good); i++) {
        bool odd = i < HT_ARRAY_LEN(loose_good);
        const struct good *t = odd ? &loose_good[i] : &good[i - HT_ARRAY_LEN(loose_good)];
        int n = snprintf(in, sizeof in, "%s" TAIL, t->in);
        struct decoded d = decode_all_ways(in, (size_t)n, body);
        bool right = d.rc == HT_OK && d.c.done && d.used == strlen(t->in) && d.n == strlen(t->body) &&
                     memcmp(body, t->body, d.n) == 0 && d.c.odd == odd;
        if (!right)
            printf("# row %zu: rc %d, used %zu, n %zu, odd %d\n", i, d.rc, d.used, d.n, d.c.odd);
        CU_ASSERT(right);
    }
    for (size_t i = 0; i < HT_ARRAY_LEN(loose_bad); i++) {
        struct decoded d = decode_all_ways(loose_bad[i].in, loose_bad[i].n, body);
        if (d.rc != HT_EPROTO)
            printf("# row %zu was accepted: %s\n", i, loose_bad[i].in);
        CU_ASSERT_EQUAL(d.rc, HT_EPROTO);
    }
    loose = false;
}

static void the_largest_chunk(void) {
    char body[64];
    struct decoded d = decode_all_ways("7fffffffffffffff\r\nabc", 21, body);
    CU_ASSERT_EQUAL(d.rc, HT_OK);
    CU_ASSERT_EQUAL(d.n, 3);
    CU_ASSERT_EQUAL(d.c.left, (uint64_t)INT64_MAX - 3);
}

/* Feeds `text` again and again until something ends it; the number of times that were fine. */
static size_t flood(struct decoded *d, const char *text) {
    size_t times = 0;
    while (times < 100000 && feed(d, text, strlen(text))) {
        times++;
        d->n = 0;
    }
    return times;
}

static void floods_end(void) {
    char body[100];
    struct decoded d;
    /* Extensions, each chunk a few, over the whole message. */
    start(&d, body);
    CU_ASSERT_EQUAL(flood(&d, "1;abcdefghijklmno\r\nx\r\n"), HTTP_MAX_CHUNK_OVERHEAD / 16);
    CU_ASSERT_EQUAL(d.rc, HT_EPROTO);
    /* One that does not end. */
    start(&d, body);
    feed(&d, "1;a=\"", 5);
    CU_ASSERT_EQUAL(flood(&d, "b"), HTTP_MAX_CHUNK_OVERHEAD - 4);
    CU_ASSERT_EQUAL(d.rc, HT_EPROTO);
    /* Trailers; extensions before them count too. */
    start(&d, body);
    feed(&d, "1;a=b\r\nx\r\n0\r\n", 13);
    d.n = 0;
    CU_ASSERT_EQUAL(flood(&d, "a: bcd\r\n"), HTTP_MAX_CHUNK_OVERHEAD / 8 - 1);
    CU_ASSERT_EQUAL(d.rc, HT_EPROTO);
    /* Leading zeros. */
    start(&d, body);
    CU_ASSERT_EQUAL(flood(&d, "0"), HTTP_MAX_CHUNK_OVERHEAD);
    CU_ASSERT_EQUAL(d.rc, HT_EPROTO);
    /* Small chunks are slow but no offence. */
    start(&d, body);
    CU_ASSERT_EQUAL(flood(&d, "1\r\nx\r\n"), 100000);
    CU_ASSERT_EQUAL(d.rc, HT_OK);
}

static void exactly_the_limit_of_trailers(void) {
    for (int extra = 0; extra <= 1; extra++) {
        char in[HTTP_MAX_CHUNK_OVERHEAD + 100] = "0\r\na:", body[1];
        /* The 0 is one, the trailer line with its CRLF the rest. */
        size_t n = 3 + HTTP_MAX_CHUNK_OVERHEAD - 1 + (size_t)extra;
        memset(in + 5, 'b', n - 5 - 2);
        memcpy(in + n - 2, "\r\n\r\n", 4);
        struct decoded d;
        start(&d, body);
        feed(&d, in, n + 2);
        CU_ASSERT_EQUAL(d.rc, extra ? HT_EPROTO : HT_OK);
        CU_ASSERT_EQUAL(d.c.done, !extra);
    }
}

/* Collected when somebody wants them, cut anywhere; what may not stand there is left out. */
static void trailers_are_collected(void) {
    static const char in[] =
        "1\r\nx\r\n0\r\nX-A: 1\r\nContent-Length: 9\r\nx-b:  b:c \r\nTransfer_Encoding: x\r\nx-c:\r\n\r\n";
    for (size_t cut = 1; cut < sizeof in - 1; cut++)
        for (loose = false;; loose = true) {
            struct ht_buf lines = {0};
            struct http_field f[HTTP_MAX_HEADERS];
            char body[sizeof in];
            struct decoded d;
            start(&d, body);
            d.c.trailers = &lines;
            CU_ASSERT(feed(&d, in, cut));
            feed(&d, in + cut, sizeof in - 1 - cut);
            CU_ASSERT(d.rc == HT_OK && d.c.done);
            const char *p = (const char *)ht_buf_head(&lines);
            CU_ASSERT_EQUAL_FATAL(http_trailer_fields(p, ht_buf_size(&lines), f), 3);
            CU_ASSERT(ht_slice_is(http_text(p, f[0].name), "X-A") && ht_slice_is(http_text(p, f[0].value), "1"));
            CU_ASSERT(ht_slice_is(http_text(p, f[1].name), "x-b") && ht_slice_is(http_text(p, f[1].value), "b:c"));
            CU_ASSERT(ht_slice_is(http_text(p, f[2].name), "x-c") && f[2].value.len == 0);
            ht_buf_free(&lines);
            if (loose)
                break;
        }
    loose = false;
}

static void too_many_trailers_are_none(void) {
    struct http_field f[HTTP_MAX_HEADERS];
    char lines[4 * (HTTP_MAX_HEADERS + 1)];
    for (size_t i = 0; i < HTTP_MAX_HEADERS + 1; i++)
        memcpy(lines + 4 * i, "x:\r\n", 4);
    CU_ASSERT_EQUAL(http_trailer_fields(lines, sizeof lines - 4, f), HTTP_MAX_HEADERS);
    CU_ASSERT_EQUAL(http_trailer_fields(lines, sizeof lines, f), 0);
    CU_ASSERT_EQUAL(http_trailer_fields(NULL, 0, f), 0);
}

static void what_may_be_a_trailer(void) {
    static const char *const no[] = {
        "Content-Length", "content_length",  "Transfer-Encoding", "HOST",   "te",       "Trailer",
        "connection",     "Upgrade",         "authorization",     "Cookie", "If-Match", "sec-x",
        "Content-Type",   "X-Forwarded-For", "proxy-connection",  "range",  "expect",   "Set-Cookie"};
    static const char *const yes[] = {"x-sum",       "Server-Timing", "etag",  "Digest", "Content-Digest",
                                      "grpc-status", "hos",           "hosts", "teX",    "ifx"};
    for (size_t i = 0; i < HT_ARRAY_LEN(no); i++)
        CU_ASSERT_FALSE(http_may_be_trailer(ht_slice_str(no[i])));
    for (size_t i = 0; i < HT_ARRAY_LEN(yes); i++)
        CU_ASSERT_TRUE(http_may_be_trailer(ht_slice_str(yes[i])));
}

static uint32_t next_random(uint32_t *seed) {
    *seed = *seed * 1664525u + 1013904223u;
    return *seed >> 8;
}

/* A body of many random chunks comes out as it went in, whatever the cuts. */
static void random_chunks(void) {
    enum { SIZE = 200000 };
    char *plain = malloc(SIZE), *raw = malloc(SIZE * 8), *body = malloc(SIZE * 8);
    if (!plain || !raw || !body)
        abort();
    uint32_t seed = 1;
    size_t n = 0;
    for (size_t i = 0; i < SIZE; i++)
        plain[i] = (char)next_random(&seed);
    for (size_t i = 0; i < SIZE;) {
        uint32_t largest = next_random(&seed) % 8 ? 20 : 9000;
        size_t chunk = ht_min(1 + next_random(&seed) % largest, SIZE - i);
        n += http_chunk_head(raw + n, chunk);
        memcpy(raw + n, plain + i, chunk);
        memcpy(raw + n + chunk, HTTP_CHUNK_TAIL, 2);
        n += chunk + 2;
        i += chunk;
    }
    memcpy(raw + n, HTTP_CHUNK_LAST TAIL, sizeof HTTP_CHUNK_LAST TAIL - 1);
    for (int round = 0; round < 20; round++) {
        struct decoded d;
        start(&d, body);
        size_t at = 0, all = n + sizeof HTTP_CHUNK_LAST TAIL - 1, piece;
        do {
            piece = ht_min(1 + next_random(&seed) % (1u << (2 + round % 16)), all - at);
            at += piece;
        } while (feed(&d, raw + at - piece, piece));
        CU_ASSERT(d.rc == HT_OK && d.c.done);
        CU_ASSERT_EQUAL(d.used, n + 5);
        CU_ASSERT(d.n == SIZE && memcmp(body, plain, SIZE) == 0);
    }
    free(plain);
    free(raw);
    free(body);
}

static void nothing_after_the_end(void) {
    char body[20];
    struct decoded d;
    start(&d, body);
    feed(&d, "0\r\n\r\n", 5);
    CU_ASSERT(d.c.done);
    feed(&d, "5\r\nhello", 8);
    CU_ASSERT(d.rc == HT_OK && d.used == 5 && d.n == 0);
    start(&d, body);
    feed(&d, "", 0);
    CU_ASSERT(d.rc == HT_OK && !d.c.done && d.used == 0);
}

int main(void) {
    static const struct tap_test tests[] = {
        {"valid chunked bodies are decoded", good_bodies},
        {"malformed chunked bodies are refused", bad_bodies},
        {"a local service may pad sizes and leave out CR", loose_bodies},
        {"a chunk may have 2^63-1 bytes and no more", the_largest_chunk},
        {"floods of extensions, trailers and leading zeros are refused", floods_end},
        {"trailers have a limit", exactly_the_limit_of_trailers},
        {"trailers are collected for a caller who wants them", trailers_are_collected},
        {"too many trailers are all dropped", too_many_trailers_are_none},
        {"only some fields may be trailers", what_may_be_a_trailer},
        {"random chunks, cut anywhere, decode to the same body", random_chunks},
        {"bytes behind the body are left alone", nothing_after_the_end},
        {NULL, NULL},
    };
    return tap_main("http chunked bodies", tests);
}
