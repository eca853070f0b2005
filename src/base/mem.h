/*
 * All heap memory comes from here, so that a test can make the i-th allocation fail and count the blocks that are left.
 * The functions work as those of the C library: NULL means out of memory, and the caller frees with ht_free().
 */
#ifndef HT_BASE_MEM_H
#define HT_BASE_MEM_H

#include "base/base.h"

void *ht_malloc(size_t n) HT_MUST_USE;
void *ht_calloc(size_t count, size_t size) HT_MUST_USE;
void *ht_realloc(void *p, size_t n) HT_MUST_USE;
char *ht_strndup(const char *s, size_t n) HT_MUST_USE;
void ht_free(void *p);

/* How many blocks are allocated now, and how many bytes of the heap they take. */
size_t ht_mem_live(void);
size_t ht_mem_bytes(void);

/* Test only: the allocation number `index` from now on (0 is the next one) returns NULL, once. Negative: none fails. */
void ht_mem_fail_at(long index);
/* Test only: true until the allocation that ht_mem_fail_at() chose has failed. */
bool ht_mem_fail_pending(void);

#endif
