#include "base/mem.h"

#include <malloc.h>
#include <stdlib.h>

static size_t live, bytes;
static long fail_in = -1;

static bool must_fail(void) {
    if (HT_LIKELY(fail_in < 0))
        return false;
    return fail_in-- == 0;
}

/* malloc_usable_size() reads the block's own header: next to nothing beside malloc() itself. NULL counts as nothing. */
static void *count_in(void *p) {
    live += p != NULL;
    bytes += malloc_usable_size(p);
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
    live -= old != NULL;
    bytes -= had;
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
        live--;
        bytes -= malloc_usable_size(p);
        free(p);
    }
}

size_t ht_mem_live(void) { return live; }

size_t ht_mem_bytes(void) { return bytes; }

void ht_mem_fail_at(long index) { fail_in = index; }
