/*
 * What the fuzz targets share. A target is one file, fuzz_<unit>.c, with one function: it takes any bytes and aborts
 * when a promise of the unit is broken. The same file is linked with libFuzzer (`make fuzz`) and with replay.c, which
 * runs the committed corpora and simple mutations of them in `make test`.
 *
 * What an input means is said at the top of each target. Inputs that once showed a defect stay in corpus/<unit>/ for
 * good.
 */
#ifndef HT_TESTS_FUZZ_FUZZ_H
#define HT_TESTS_FUZZ_FUZZ_H

#include "base/base.h"
#include "base/mem.h"

#include <stdio.h>
#include <stdlib.h>

/* libFuzzer's name for it. Returns 0. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define FUZZ_CHECK(cond)                                                                                               \
    do {                                                                                                               \
        if (!(cond)) {                                                                                                 \
            fprintf(stderr, "%s:%d: broken: %s\n", __FILE__, __LINE__, #cond);                                         \
            abort();                                                                                                   \
        }                                                                                                              \
    } while (0)

/* The input, taken from the front; behind its end come zeros. */
struct fuzz_in {
    const uint8_t *p, *end;
};

static inline size_t fuzz_left(const struct fuzz_in *in) { return (size_t)(in->end - in->p); }

static inline uint8_t fuzz_u8(struct fuzz_in *in) { return in->p < in->end ? *in->p++ : 0; }

static inline uint32_t fuzz_u16(struct fuzz_in *in) {
    uint32_t high = fuzz_u8(in);
    return high << 8 | fuzz_u8(in);
}

/* At most `n` bytes of it. */
static inline struct ht_slice fuzz_take(struct fuzz_in *in, size_t n) {
    struct ht_slice s = ht_slice_of(in->p, ht_min(n, fuzz_left(in)));
    in->p += s.n;
    return s;
}

/* A copy of exactly `n` bytes at an address of its own: a sanitizer sees each step too far. free() it. */
static inline void *fuzz_copy(const void *p, size_t n) {
    void *copy = malloc(n ? n : 1);
    if (!copy)
        abort();
    if (n)
        memcpy(copy, p, n);
    return copy;
}

/* FNV-1a, for traces that are compared. */
#define FUZZ_HASH UINT64_C(14695981039346656037)

static inline uint64_t fuzz_hash(uint64_t h, const void *p, size_t n) {
    const uint8_t *b = (const uint8_t *)p;
    for (size_t i = 0; i < n; i++)
        h = (h ^ b[i]) * UINT64_C(1099511628211);
    return h;
}

static inline uint64_t fuzz_hash_u32(uint64_t h, uint32_t v) { return fuzz_hash(h, &v, sizeof v); }

/* Numbers that depend on the input alone. */
static inline uint32_t fuzz_next(uint32_t *seed) {
    *seed = *seed * 1664525u + 1013904223u;
    return *seed >> 8;
}

#endif
