/*
 * What the inspector makes of bytes that pass: however they are cut into pieces, the same WebSocket messages, events
 * and decoded bodies come out, nothing is longer than its bound, and nothing is leaked.
 *
 * Input: what it is (0 a WebSocket, 1 the same with permessage-deflate, 2 that without context takeover, 3 events,
 * 4 a body), for a body its coding, the length of a piece (0: all at once), then the bytes.
 */
#include "fuzz.h"
#include "inspect/frames.h"

#define MOST 300       /* kept of a frame */
#define DECODED 100000 /* of a body */

struct seen {
    unsigned n;
    uint64_t hash;
};

static void on_frame(void *ctx, const struct inspect_frame *f) {
    struct seen *s = ctx;
    FUZZ_CHECK(f->data.n <= MOST && f->event.n <= INSPECT_SSE_NAME && f->id.n <= INSPECT_SSE_NAME);
    FUZZ_CHECK(f->opcode == INSPECT_CLOSE || f->truncated == (f->data.n < f->size));
    s->n++;
    s->hash = fuzz_hash_u32(s->hash, (uint32_t)f->opcode << 8 | (uint32_t)f->compressed);
    s->hash = fuzz_hash(s->hash, &f->size, sizeof f->size);
    s->hash = fuzz_hash(s->hash, f->data.p, f->data.n);
    s->hash = fuzz_hash(s->hash, f->event.p, f->event.n);
    s->hash = fuzz_hash(s->hash, f->id.p, f->id.n);
}

static struct seen feed(unsigned what, unsigned coding, struct ht_slice bytes, size_t piece) {
    static const char *const codings[] = {"gzip", "deflate", "br", "zstd", "identity"};
    struct seen seen = {.hash = FUZZ_HASH};
    struct inspect_ws ws = {.max = MOST, .deflate = what > 0, .no_takeover = what == 2, .emit = on_frame, .ctx = &seen};
    struct inspect_sse sse = {.max = MOST, .emit = on_frame, .ctx = &seen};
    struct inspect_decoder *d = what == 4 ? inspect_decoder_create(ht_slice_str(codings[coding % 5])) : NULL;
    struct ht_buf out = {0};
    uint64_t total = 0;
    int rc = HT_OK;
    for (size_t at = 0; at < bytes.n && rc == HT_OK; at += piece) {
        size_t n = ht_min(piece, bytes.n - at);
        void *copy = fuzz_copy(bytes.p + at, n);
        struct ht_slice part = ht_slice_of(copy, n);
        if (what < 3)
            inspect_ws_feed(&ws, part);
        else if (what == 3)
            inspect_sse_feed(&sse, part);
        else
            rc = inspect_decoder_count(d, part, MOST, DECODED - (size_t)total, &out, &total);
        free(copy);
    }
    FUZZ_CHECK(total <= DECODED && ht_buf_size(&out) == ht_min((size_t)total, MOST));
    FUZZ_CHECK(rc == HT_OK || rc == HT_ELIMIT || rc == HT_EPROTO);
    if (rc == HT_OK) /* of a wrong body, how much came before the fault depends on the pieces */
        seen.hash = fuzz_hash(seen.hash, ht_buf_head(&out), ht_buf_size(&out));
    else
        seen.n = 1000;
    ht_buf_free(&out);
    inspect_decoder_destroy(&d);
    inspect_ws_free(&ws);
    inspect_sse_free(&sse);
    return seen;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct fuzz_in in = {data, data + size};
    size_t live = ht_mem_live();
    unsigned what = fuzz_u8(&in) % 5, coding = what == 4 ? fuzz_u8(&in) : 0, length = fuzz_u8(&in);
    struct ht_slice bytes = fuzz_take(&in, size);
    struct seen whole = feed(what, coding, bytes, size + 1),
                pieces = feed(what, coding, bytes, length ? length : size + 1), each = feed(what, coding, bytes, 1);
    FUZZ_CHECK(pieces.n == whole.n && pieces.hash == whole.hash);
    FUZZ_CHECK(each.n == whole.n && each.hash == whole.hash);
    FUZZ_CHECK(ht_mem_live() == live);
    return 0;
}
