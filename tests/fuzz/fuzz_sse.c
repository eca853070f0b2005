/*
 * Server-sent events: however a stream is cut into pieces, the same events come out; none is longer than the bound, and
 * nothing is leaked.
 *
 * Input: the length of a piece (one byte, 0: all at once), then the stream.
 */
#include "fuzz.h"
#include "web/web.h"

struct seen {
    unsigned events;
    uint64_t hash; /* FNV-1a of all of them */
};

static void add(struct seen *s, const void *p, size_t n) {
    for (size_t i = 0; i < n; i++)
        s->hash = (s->hash ^ ((const uint8_t *)p)[i]) * UINT64_C(0x100000001b3);
}

static void on_event(void *ctx, struct ht_slice data, const char *id) {
    struct seen *s = ctx;
    FUZZ_CHECK(data.n < WEB_SSE_MAX && data.p[data.n] == '\0' && strlen(id) < WEB_SSE_MAX);
    s->events++;
    add(s, data.p, data.n + 1);
    add(s, id, strlen(id) + 1);
}

static int feed(const uint8_t *p, size_t n, size_t piece, struct seen *seen) {
    struct web_sse s = {.cr = false};
    int rc = HT_OK;
    *seen = (struct seen){.hash = UINT64_C(0xcbf29ce484222325)};
    for (size_t at = 0; at < n && rc == HT_OK; at += piece) {
        size_t len = ht_min(piece, n - at);
        void *copy = fuzz_copy(p + at, len);
        rc = web_sse_feed(&s, ht_slice_of(copy, len), on_event, seen);
        free(copy);
    }
    FUZZ_CHECK(rc == HT_OK || rc == HT_ELIMIT);
    web_sse_free(&s);
    return rc;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct seen whole, pieces, bytes;
    size_t live = ht_mem_live();
    if (size < 2)
        return 0;
    size_t piece = data[0] ? data[0] : size;
    int rc = feed(data + 1, size - 1, size, &whole);
    FUZZ_CHECK(feed(data + 1, size - 1, piece, &pieces) == rc && feed(data + 1, size - 1, 1, &bytes) == rc);
    FUZZ_CHECK(pieces.events == whole.events && pieces.hash == whole.hash);
    FUZZ_CHECK(bytes.events == whole.events && bytes.hash == whole.hash);
    FUZZ_CHECK(ht_mem_live() == live);
    return 0;
}
