#include "base/mem.h"

#include <stdlib.h>

static size_t live;
static long fail_in = -1;

static bool must_fail(void) {
    if (HT_LIKELY(fail_in < 0))
        return false;
    return fail_in-- == 0;
}

void *ht_malloc(size_t n) {
    if (must_fail())
        return NULL;
    void *p = malloc(n ? n : 1);
    live += p != NULL;
    return p;
}

void *ht_calloc(size_t count, size_t size) {
    if (must_fail())
        return NULL;
    void *p = calloc(count ? count : 1, size ? size : 1);
    live += p != NULL;
    return p;
}

void *ht_realloc(void *old, size_t n) {
    if (must_fail())
        return NULL;
    void *p = realloc(old, n ? n : 1);
    live += p != NULL && old == NULL;
    return p;
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
        free(p);
    }
}

size_t ht_mem_live(void) { return live; }

void ht_mem_fail_at(long index) { fail_in = index; }
