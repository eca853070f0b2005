/* What the targets of request and response heads share: feeding in pieces, and a plain reading of an accepted head. */
#ifndef HT_TESTS_FUZZ_HEADS_H
#define HT_TESTS_FUZZ_HEADS_H

#include "fuzz.h"
#include "http/http.h"

struct head_outcome {
    int rc;
    struct http_error e;
    struct http_head h;
};

static inline struct http_limits head_limits(uint8_t how) {
    static const uint32_t heads[] = {49152, 600, 64, 20}, fields[] = {128, 8, 2, 0}, targets[] = {16384, 100, 10, 1};
    return (struct http_limits){heads[how & 3], fields[(how >> 2) & 3], targets[(how >> 4) & 3]};
}

enum head_kind { HEAD_REQUEST, HEAD_RESPONSE, HEAD_LOOSE };

static inline void head_begin(struct head_outcome *o, enum head_kind kind, const struct http_limits *limits) {
    memset(o, 0, sizeof *o);
    if (kind == HEAD_LOOSE)
        http_loose_response_begin(&o->h, limits);
    else if (kind == HEAD_RESPONSE)
        http_response_begin(&o->h, limits);
    else
        http_request_begin(&o->h, limits);
}

static inline int head_feed(struct head_outcome *o, const char *in, size_t n) {
    char *copy = fuzz_copy(in, n);
    o->rc = http_head_parse(&o->h, copy, n, &o->e);
    free(copy);
    return o->rc;
}

static inline bool head_same(const struct head_outcome *a, const struct head_outcome *b) {
    return a->rc == b->rc && a->e.status == b->e.status && a->e.text == b->e.text &&
           memcmp(&a->h, &b->h, sizeof a->h) == 0;
}

/* Whole; then byte by byte and cut at each place (or at some places of a long one): always the same. */
static inline void head_all_ways(struct head_outcome *whole, const char *in, size_t n, enum head_kind kind,
                                 const struct http_limits *limits) {
    static struct head_outcome other;
    head_begin(whole, kind, limits);
    head_feed(whole, in, n);
    FUZZ_CHECK(whole->rc > 0 || whole->rc == HT_EAGAIN || whole->rc == HT_EPROTO);
    FUZZ_CHECK(whole->rc != HT_EPROTO || (whole->e.text && whole->e.text[0]));
    uint32_t seed = (uint32_t)fuzz_hash(FUZZ_HASH, in, n);
    size_t step = n <= 400 ? 1 : n / 40;
    head_begin(&other, kind, limits);
    for (size_t at = step; at < n && head_feed(&other, in, at) == HT_EAGAIN; at += step)
        ;
    if (other.rc == HT_EAGAIN || n <= step)
        head_feed(&other, in, n);
    FUZZ_CHECK(head_same(whole, &other));
    for (size_t i = 0; i < (n <= 160 ? n : 16); i++) {
        head_begin(&other, kind, limits);
        if (head_feed(&other, in, n <= 160 ? i : fuzz_next(&seed) % n) == HT_EAGAIN)
            head_feed(&other, in, n);
        FUZZ_CHECK(head_same(whole, &other));
    }
    /* What was decided stays decided. */
    other = *whole;
    head_feed(&other, in, n);
    FUZZ_CHECK(head_same(whole, &other));
}

/* ---- an accepted head, read line by line ---- */

#define HEAD_LINES (HTTP_MAX_HEADERS + 1)

struct head_lines {
    struct ht_slice start, name[HEAD_LINES], value[HEAD_LINES];
    size_t n;
};

static inline struct ht_slice head_trimmed(struct ht_slice s) {
    while (s.n && (s.p[0] == ' ' || s.p[0] == '\t'))
        s = ht_slice_of(s.p + 1, s.n - 1);
    while (s.n && (s.p[s.n - 1] == ' ' || s.p[s.n - 1] == '\t'))
        s.n--;
    return s;
}

/* Nothing but tchar (RFC 9110 5.6.2). */
static inline bool head_is_token(struct ht_slice s) {
    for (size_t i = 0; i < s.n; i++) {
        char c = s.p[i];
        if (!((c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') ||
              (c && strchr("!#$%&'*+-.^_`|~", c))))
            return false;
    }
    return s.n > 0;
}

/* The line at *p without its CRLF; what is not a whole line of clean bytes is broken. */
static inline struct ht_slice head_line(const char **p, const char *end) {
    const char *first = *p;
    while (*p < end && **p != '\r') {
        unsigned char c = (unsigned char)**p;
        FUZZ_CHECK(c == '\t' || (c >= ' ' && c != 0x7f));
        (*p)++;
    }
    FUZZ_CHECK(end - *p >= 2 && (*p)[1] == '\n');
    *p += 2;
    return ht_slice_of(first, (size_t)(*p - 2 - first));
}

/* in[0..n) is one head and nothing else. */
static inline void head_read(struct head_lines *l, const char *in, size_t n) {
    const char *p = in, *end = in + n;
    l->n = 0;
    l->start = head_line(&p, end);
    for (;;) {
        struct ht_slice line = head_line(&p, end);
        if (line.n == 0)
            break;
        const char *colon = memchr(line.p, ':', line.n);
        FUZZ_CHECK(colon && l->n < HEAD_LINES);
        l->name[l->n] = ht_slice_of(line.p, (size_t)(colon - line.p));
        FUZZ_CHECK(head_is_token(l->name[l->n]));
        l->value[l->n] = head_trimmed(ht_slice_of(colon + 1, line.n - l->name[l->n].n - 1));
        l->n++;
    }
    FUZZ_CHECK(p == end);
}

static inline bool head_name_is(struct ht_slice name, const char *literal) {
    return ht_slice_case_eq(name, ht_slice_str(literal));
}

static inline unsigned head_count(const struct head_lines *l, const char *name, struct ht_slice *last) {
    unsigned n = 0;
    for (size_t i = 0; i < l->n; i++)
        if (head_name_is(l->name[i], name)) {
            *last = l->value[i];
            n++;
        }
    return n;
}

/* A comma list holds that token. */
static inline bool head_lists(struct ht_slice list, const char *token) {
    while (list.n) {
        const char *comma = memchr(list.p, ',', list.n);
        size_t n = comma ? (size_t)(comma - list.p) : list.n;
        if (ht_slice_case_eq(head_trimmed(ht_slice_of(list.p, n)), ht_slice_str(token)))
            return true;
        list = ht_slice_of(list.p + n, list.n - n);
        list = list.n ? ht_slice_of(list.p + 1, list.n - 1) : list;
    }
    return false;
}

static inline bool head_any_lists(const struct head_lines *l, const char *name, const char *token) {
    for (size_t i = 0; i < l->n; i++)
        if (head_name_is(l->name[i], name) && head_lists(l->value[i], token))
            return true;
    return false;
}

/* Fields, framing and persistence as the lines say. `minor` is the head's. */
static inline void head_check_fields(const struct http_head *h, const char *in, const struct head_lines *l) {
    struct ht_slice v = {NULL, 0};
    FUZZ_CHECK(h->n_fields == l->n && h->n_fields <= h->limits.max_headers);
    for (size_t i = 0; i < l->n; i++) {
        FUZZ_CHECK(ht_slice_eq(http_text(in, h->fields[i].name), l->name[i]));
        FUZZ_CHECK(ht_slice_eq(http_text(in, h->fields[i].value), l->value[i]));
        /* Case 8: Connection cannot take off what is meant for the other end. */
        if (head_name_is(l->name[i], "host") || head_name_is(l->name[i], "content-length") ||
            head_name_is(l->name[i], "authorization") || head_name_is(l->name[i], "x-forwarded-for"))
            FUZZ_CHECK(!http_field_is_hop_by_hop(h, in, (uint32_t)i));
        if (head_name_is(l->name[i], "connection") || head_name_is(l->name[i], "transfer-encoding") ||
            head_name_is(l->name[i], "upgrade") || head_name_is(l->name[i], "te"))
            FUZZ_CHECK(http_field_is_hop_by_hop(h, in, (uint32_t)i));
    }
    /* Case 1. */
    unsigned codings = head_count(l, "transfer-encoding", &v);
    FUZZ_CHECK(codings <= 1 && (codings == 1) == !!(h->flags & HTTP_CHUNKED));
    if (codings)
        FUZZ_CHECK(ht_slice_case_eq(v, ht_slice_str("chunked")) && h->minor == 1);
    unsigned lengths = head_count(l, "content-length", &v);
    FUZZ_CHECK(lengths <= 1 && (lengths == 1) == !!(h->flags & HTTP_HAS_CONTENT_LENGTH));
    FUZZ_CHECK(!(codings && lengths));
    if (lengths) {
        char digits[32];
        size_t zeros = 0;
        while (zeros + 1 < v.n && v.p[zeros] == '0')
            zeros++;
        snprintf(digits, sizeof digits, "%llu", (unsigned long long)h->content_length);
        FUZZ_CHECK(ht_slice_is(ht_slice_of(v.p + zeros, v.n - zeros), digits));
    }
    bool close = head_any_lists(l, "connection", "close");
    bool keep = !close && (h->minor == 1 || head_any_lists(l, "connection", "keep-alive"));
    FUZZ_CHECK(!(h->flags & HTTP_KEEP_ALIVE) || keep);
    if (!h->response)
        FUZZ_CHECK(!!(h->flags & HTTP_KEEP_ALIVE) == keep);
    bool upgrade = h->minor == 1 && head_any_lists(l, "connection", "upgrade") && head_count(l, "upgrade", &v) > 0;
    FUZZ_CHECK(!(h->flags & HTTP_UPGRADE) || upgrade);
    FUZZ_CHECK(!(h->flags & HTTP_UPGRADE_WEBSOCKET) || head_any_lists(l, "upgrade", "websocket"));
}

#endif
