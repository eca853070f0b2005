#include "base/mem.h"

#include <malloc.h>
#include <stdatomic.h>
#include <stdlib.h>

static atomic_size_t live, bytes; /* tunnels may live in several threads */
static long fail_in = -1;

static void add(atomic_size_t *to, size_t n) { atomic_fetch_add_explicit(to, n, memory_order_relaxed); }
static void take(atomic_size_t *from, size_t n) { atomic_fetch_sub_explicit(from, n, memory_order_relaxed); }

static bool must_fail(void) {
    if (HT_LIKELY(fail_in < 0))
        return false;
    return fail_in-- == 0;
}

/* malloc_usable_size() reads the block's own header: next to nothing beside malloc() itself. NULL counts as nothing. */
static void *count_in(void *p) {
    if (p) {
        add(&live, 1);
        add(&bytes, malloc_usable_size(p));
    }
    return p;
}

void *ht_malloc(size_t n) { return must_fail() ? NULL : count_in(malloc(n ? n : 1)); }

void *ht_calloc(size_t count, size_t size) {
    return must_fail() ? NULL : count_in(calloc(count ? count : 1, size ? size : 1));
}

void *ht_realloc(void *old, size_t n) {
    if (must_fail())
        return NULL;
    size_t had = malloc_usable_size(old);
    void *p = realloc(old, n ? n : 1);
    if (!p)
        return NULL;
    take(&live, old != NULL);
    take(&bytes, had);
    return count_in(p);
}

char *ht_strndup(const char *s, size_t n) {
    char *p = ht_malloc(n + 1);
    if (!p)
        return NULL;
    if (n)
        memcpy(p, s, n);
    p[n] = '\0';
    return p;
}

void ht_free(void *p) {
    if (p) {
        take(&live, 1);
        take(&bytes, malloc_usable_size(p));
        free(p);
    }
}

size_t ht_mem_live(void) { return atomic_load_explicit(&live, memory_order_relaxed); }

size_t ht_mem_bytes(void) { return atomic_load_explicit(&bytes, memory_order_relaxed); }

void ht_mem_fail_at(long index) { fail_in = index; }

bool ht_mem_fail_pending(void) { return fail_in >= 0; }
