/* Feeds a head in every way it may arrive, and checks that the outcome is the same each time. */
#ifndef HT_TESTS_HTTP_FEED_H
#define HT_TESTS_HTTP_FEED_H

#include "http/http.h"
#include "support/tap.h"

#include <stdio.h>
#include <stdlib.h>

struct outcome {
    int rc;
    struct http_error e;
    struct http_head h;
};

/* What is fed. */
enum feed_kind { FEED_REQUEST, FEED_RESPONSE, FEED_LOOSE };

static inline void outcome_begin(struct outcome *o, enum feed_kind kind, const struct http_limits *limits) {
    memset(o, 0, sizeof *o);
    if (kind == FEED_LOOSE)
        http_loose_response_begin(&o->h, limits);
    else if (kind == FEED_RESPONSE)
        http_response_begin(&o->h, limits);
    else
        http_request_begin(&o->h, limits);
}

/* A copy of exactly `n` bytes, at an address of its own: the sanitizer sees each byte read too far, and nothing can
 * depend on where the buffer was before. */
static inline int feed_copy(struct outcome *o, const char *in, size_t n) {
    char *copy = malloc(n ? n : 1);
    if (!copy)
        abort();
    memcpy(copy, in, n);
    o->rc = http_head_parse(&o->h, copy, n, &o->e);
    free(copy);
    return o->rc;
}

static inline bool same_outcome(const struct outcome *a, const struct outcome *b) {
    return a->rc == b->rc && a->e.status == b->e.status && a->e.text == b->e.text && a->h.flags == b->h.flags &&
           a->h.content_length == b->h.content_length && a->h.n_fields == b->h.n_fields &&
           memcmp(&a->h, &b->h, sizeof a->h) == 0;
}

/* Prints an input so that a failure can be found. */
static inline void show_input(const char *what, const char *in, size_t n) {
    printf("# %s: \"", what);
    for (size_t i = 0; i < n && i < 200; i++)
        printf(in[i] >= ' ' && in[i] <= '~' ? "%c" : "\\x%02x", (unsigned char)in[i]);
    printf("\"\n");
}

/* Whole, byte by byte, split at each position. */
static inline struct outcome feed_all_ways(const char *in, size_t n, enum feed_kind response,
                                           const struct http_limits *limits) {
    struct outcome whole, other;
    outcome_begin(&whole, response, limits);
    feed_copy(&whole, in, n);

    outcome_begin(&other, response, limits);
    for (size_t i = 1; i <= n; i++)
        if (feed_copy(&other, in, i) != HT_EAGAIN)
            break;
    bool same = same_outcome(&whole, &other);
    for (size_t cut = 0; same && cut < n; cut++) {
        outcome_begin(&other, response, limits);
        if (feed_copy(&other, in, cut) == HT_EAGAIN)
            feed_copy(&other, in, n);
        same = same_outcome(&whole, &other);
    }
    if (!same)
        show_input("not the same in pieces", in, n);
    CU_ASSERT(same);
    /* What was decided stays decided. */
    other = whole;
    feed_copy(&other, in, n);
    CU_ASSERT(same_outcome(&whole, &other));
    return whole;
}

static inline bool text_is(const char *in, struct http_span s, const char *expected) {
    return ht_slice_is(http_text(in, s), expected);
}

#endif
