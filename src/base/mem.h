/*
 * All heap memory comes from here, so that a test can let the i-th allocation fail and count what is left.
 */
#ifndef HT_BASE_MEM_H
#define HT_BASE_MEM_H

#include "base/base.h"

void *ht_malloc(size_t n) HT_MUST_USE;
void *ht_calloc(size_t count, size_t size) HT_MUST_USE;
void *ht_realloc(void *p, size_t n) HT_MUST_USE;
char *ht_strndup(const char *s, size_t n) HT_MUST_USE;
void ht_free(void *p);

/* Blocks that are allocated and not freed, and what they take of the heap, in bytes. */
size_t ht_mem_live(void);
size_t ht_mem_bytes(void);

/* Test only: the allocation number `index` from now (0 = the next one) returns NULL, once. Negative: none fails. */
void ht_mem_fail_at(long index);
/* Test only: that allocation has not come yet. */
bool ht_mem_fail_pending(void);

#endif
