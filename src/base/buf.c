#include "base/buf.h"

#include "base/mem.h"

#include <stdarg.h>
#include <stdio.h>

#define LONG (1u << 20)
#define STEP (64u << 10)

/* The size of a block for `n` bytes that replaces one of `cap`: twice as large again and again, but a long one, which
 * may stay for a while, is little more than it must be. */
static size_t larger(size_t cap, size_t n) {
    if (n >= LONG)
        return (n + STEP - 1) / STEP * STEP;
    cap = cap ? cap : 256;
    while (cap < n)
        cap *= 2;
    return cap;
}

uint8_t *ht_buf_reserve(struct ht_buf *b, size_t n) {
    if (b->cap - b->len >= n && b->data)
        return b->data + b->len;
    size_t used = b->len - b->off;
    if (n > SIZE_MAX / 4 || used > SIZE_MAX / 4)
        return NULL;
    /* What is moved stands in proportion to what has been read since the last move, or to the room that a larger block
     * brings. Else a long backlog would be copied again for each piece that comes. */
    bool fits = b->data && b->cap >= used + n && b->off >= used / 2;
    if (b->data && b->off > 0)
        memmove(b->data, b->data + b->off, used);
    b->off = 0;
    b->len = used;
    if (fits)
        return b->data + b->len;
    /* The kernel moves a long block without a copy, so that the old and the new one never exist together. */
    size_t cap = larger(b->cap, used + used / 2 + n);
    uint8_t *data = ht_realloc(b->data, cap);
    if (!data)
        return NULL;
    b->data = data;
    b->cap = cap;
    return b->data + b->len;
}

int ht_buf_append(struct ht_buf *b, const void *p, size_t n) {
    if (n == 0)
        return HT_OK;
    uint8_t *to = ht_buf_reserve(b, n);
    if (!to)
        return HT_ENOMEM;
    memcpy(to, p, n);
    b->len += n;
    return HT_OK;
}

int ht_buf_append_str(struct ht_buf *b, const char *s) { return ht_buf_append(b, s, strlen(s)); }

int ht_buf_printf(struct ht_buf *b, const char *fmt, ...) {
    va_list ap;
    va_start(ap, fmt);
    char small[256];
    va_list again;
    va_copy(again, ap);
    int n = vsnprintf(small, sizeof small, fmt, ap);
    va_end(ap);
    int rc = HT_EINVAL;
    if (n >= 0 && (size_t)n < sizeof small) {
        rc = ht_buf_append(b, small, (size_t)n);
    } else if (n >= 0) {
        uint8_t *to = ht_buf_reserve(b, (size_t)n + 1);
        rc = to ? HT_OK : HT_ENOMEM;
        if (to) {
            vsnprintf((char *)to, (size_t)n + 1, fmt, again);
            b->len += (size_t)n;
        }
    }
    va_end(again);
    return rc;
}

void ht_buf_free(struct ht_buf *b) {
    ht_free(b->data);
    *b = (struct ht_buf){0};
}

void ht_pool_init(struct ht_pool *p, size_t block_size, size_t keep) {
    *p = (struct ht_pool){.block_size = ht_max(block_size, sizeof(void *)), .keep = keep};
}

void *ht_pool_get(struct ht_pool *p) {
    void *b = p->free_list;
    if (b) {
        memcpy(&p->free_list, b, sizeof p->free_list);
        p->free_count--;
        p->least = ht_min(p->least, p->free_count);
    } else {
        b = ht_malloc(p->block_size);
        if (!b)
            return NULL;
    }
    p->live++;
    return b;
}

void ht_pool_put(struct ht_pool *p, void *block) {
    if (!block)
        return;
    p->live--;
    if (p->free_count >= p->keep + p->warm) {
        ht_free(block);
        return;
    }
    memcpy(block, &p->free_list, sizeof p->free_list);
    p->free_list = block;
    p->free_count++;
}

void ht_pool_put_warm(struct ht_pool *p, void *block) {
    p->warm += p->free_count == p->keep + p->warm;
    ht_pool_put(p, block);
}

static void free_unused(struct ht_pool *p) {
    void *b = p->free_list;
    memcpy(&p->free_list, b, sizeof p->free_list);
    p->free_count--;
    ht_free(b);
}

bool ht_pool_cool(struct ht_pool *p) {
    for (; p->least > p->keep; p->least--)
        free_unused(p);
    p->least = p->free_count;
    p->warm = p->free_count > p->keep ? p->free_count - p->keep : 0;
    return p->warm > 0;
}

void ht_pool_drain(struct ht_pool *p) {
    while (p->free_list)
        free_unused(p);
    p->least = p->warm = 0;
}
