/*
 * A buffer that grows, and a pool of blocks of one size for the data path.
 */
#ifndef HT_BASE_BUF_H
#define HT_BASE_BUF_H

#include "base/base.h"
#include "base/err.h"

/*
 * data[off..len) is unread. A zero-initialised buffer is valid, empty and holds no memory. The owner calls
 * ht_buf_free().
 */
struct ht_buf {
    uint8_t *data;
    size_t off, len, cap;
};

static inline size_t ht_buf_size(const struct ht_buf *b) { return b->len - b->off; }
/* The first unread byte. NULL when the buffer has no memory yet (NULL + 0 is undefined, C11 6.5.6). */
static inline uint8_t *ht_buf_head(const struct ht_buf *b) { return b->data ? b->data + b->off : NULL; }
static inline struct ht_slice ht_buf_slice(const struct ht_buf *b) {
    return ht_slice_of(ht_buf_head(b), b->len - b->off);
}

/* Makes room for `n` more bytes behind the unread ones. Returns where to write them, or NULL: out of memory. The unread
 * bytes may move. Call ht_buf_commit() after writing. */
uint8_t *ht_buf_reserve(struct ht_buf *b, size_t n) HT_MUST_USE;

/* These append a copy. They return 0, or HT_ENOMEM: nothing was appended. */
int ht_buf_append(struct ht_buf *b, const void *p, size_t n) HT_MUST_USE;
int ht_buf_append_str(struct ht_buf *b, const char *s) HT_MUST_USE;
int ht_buf_printf(struct ht_buf *b, const char *fmt, ...) HT_PRINTF(2, 3) HT_MUST_USE;

/* Adds `n` bytes that were written to the place from ht_buf_reserve(). */
static inline void ht_buf_commit(struct ht_buf *b, size_t n) { b->len += n; }

/* Drops the first `n` unread bytes. An empty buffer starts again at its beginning and keeps its memory. */
static inline void ht_buf_consume(struct ht_buf *b, size_t n) {
    b->off += n;
    if (b->off == b->len)
        b->off = b->len = 0;
}

/* Frees the memory and leaves a valid empty buffer. */
void ht_buf_free(struct ht_buf *b);

/*
 * A pool of blocks of one size, `block_size` bytes. The pool keeps at most `keep` unused blocks and frees the others.
 * `live` counts the blocks that are in use. Not thread-safe: each thread needs its own.
 */
struct ht_pool {
    size_t block_size;
    size_t keep;
    size_t warm;  /* so many unused blocks more are kept for now: ht_pool_put_warm() */
    size_t least; /* unused blocks at any time since ht_pool_cool() */
    size_t free_count, live;
    void *free_list;
};

void ht_pool_init(struct ht_pool *p, size_t block_size, size_t keep);
void *ht_pool_get(struct ht_pool *p) HT_MUST_USE; /* NULL: out of memory */
void ht_pool_put(struct ht_pool *p, void *block); /* NULL is ignored */
void ht_pool_drain(struct ht_pool *p);            /* frees the unused blocks */
/* Puts a block back that is needed again soon: the pool keeps it, however many it has. */
void ht_pool_put_warm(struct ht_pool *p, void *block);
/* Frees the blocks beyond `keep` that nobody needed since the last call. True: there are more, which are in use now and
 * then. */
bool ht_pool_cool(struct ht_pool *p);

#endif
