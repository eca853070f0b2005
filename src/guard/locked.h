/*
 * Memory for secrets. It is not swapped and not in a core file, and it is wiped before it is freed. The first piece
 * also changes the process: it leaves no core file, and other processes of the user cannot read its memory
 * (PR_SET_DUMPABLE).
 */
#ifndef HT_GUARD_LOCKED_H
#define HT_GUARD_LOCKED_H

#include "base/base.h"
#include "base/err.h"

/* A piece of memory with the content p[0..n), which the caller may change. Zero-initialised it is empty. */
struct guard_locked {
    char *p;
    size_t n, cap;
};

/* Makes room for at least `cap` bytes and wipes the old content. 0 or HT_ENOMEM. It also succeeds when the system
 * refuses to lock the memory (RLIMIT_MEMLOCK): see guard_locked_refused(). */
int guard_locked_take(struct guard_locked *m, size_t cap) HT_MUST_USE;
/* Appends bytes. 0, or HT_ESPACE: they do not fit. */
int guard_locked_put(struct guard_locked *m, const void *p, size_t n) HT_MUST_USE;
/* Wipes and frees the memory; leaves an empty piece. */
void guard_locked_free(struct guard_locked *m);
/* True when a piece could not be locked, so that it may be swapped. */
bool guard_locked_refused(void);

#endif
