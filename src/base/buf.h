/*
 * Buffers: one that grows, and a pool of equal blocks for the data path.
 */
#ifndef HT_BASE_BUF_H
#define HT_BASE_BUF_H

#include "base/base.h"
#include "base/err.h"

/*
 * Bytes off..len of data are unread. Zero-initialised is a valid empty buffer that holds no memory.
 */
struct ht_buf {
    uint8_t *data;
    size_t off, len, cap;
};

static inline size_t ht_buf_size(const struct ht_buf *b) { return b->len - b->off; }
/* NULL when there is no memory; C knows no NULL + 0 (C11 6.5.6). */
static inline uint8_t *ht_buf_head(const struct ht_buf *b) { return b->data ? b->data + b->off : NULL; }
static inline struct ht_slice ht_buf_slice(const struct ht_buf *b) {
    return ht_slice_of(ht_buf_head(b), b->len - b->off);
}

/* Room for `n` more bytes behind len; moves or reallocates. Returns where they go, or NULL (out of memory). */
uint8_t *ht_buf_reserve(struct ht_buf *b, size_t n) HT_MUST_USE;

/* 0 or HT_ENOMEM; on error nothing was appended. */
int ht_buf_append(struct ht_buf *b, const void *p, size_t n) HT_MUST_USE;
int ht_buf_append_str(struct ht_buf *b, const char *s) HT_MUST_USE;
int ht_buf_printf(struct ht_buf *b, const char *fmt, ...) HT_PRINTF(2, 3) HT_MUST_USE;

/* Bytes written through ht_buf_reserve() become part of the buffer. */
static inline void ht_buf_commit(struct ht_buf *b, size_t n) { b->len += n; }

/* Drops `n` unread bytes from the front; an emptied buffer starts over at its beginning and keeps its memory. */
static inline void ht_buf_consume(struct ht_buf *b, size_t n) {
    b->off += n;
    if (b->off == b->len)
        b->off = b->len = 0;
}

/* Gives the memory back and leaves a valid empty buffer. */
void ht_buf_free(struct ht_buf *b);

/*
 * A pool of blocks of one size. Freed blocks are kept up to `keep`, the rest goes back to the heap.
 * Not thread-safe: one per thread. `live` counts blocks handed out.
 */
struct ht_pool {
    size_t block_size;
    size_t keep;
    size_t free_count, live;
    void *free_list;
};

void ht_pool_init(struct ht_pool *p, size_t block_size, size_t keep);
void *ht_pool_get(struct ht_pool *p) HT_MUST_USE; /* NULL: out of memory */
void ht_pool_put(struct ht_pool *p, void *block); /* NULL is ignored */
void ht_pool_drain(struct ht_pool *p);            /* gives the kept blocks back to the heap */

#endif
