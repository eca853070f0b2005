/*
 * Memory for secrets: never swapped, never in a core file, wiped before it goes back. The first piece makes the whole
 * process one that leaves no core and that no other process of the user may look into (PR_SET_DUMPABLE).
 */
#ifndef HT_GUARD_LOCKED_H
#define HT_GUARD_LOCKED_H

#include "base/base.h"
#include "base/err.h"

/* Zero-initialised is an empty piece. The bytes are the caller's to fill: p[0..n). */
struct guard_locked {
    char *p;
    size_t n, cap;
};

/* Room for at least `cap` bytes; what it held is wiped. 0 or HT_ENOMEM. A piece that the system refuses to lock
 * (RLIMIT_MEMLOCK) is still a piece: see guard_locked_refused(). */
int guard_locked_take(struct guard_locked *m, size_t cap) HT_MUST_USE;
/* Appends; HT_ESPACE when it does not fit. */
int guard_locked_put(struct guard_locked *m, const void *p, size_t n) HT_MUST_USE;
/* Wipes it and gives it back; leaves an empty piece. */
void guard_locked_free(struct guard_locked *m);
/* Some piece could not be locked: it may be swapped. */
bool guard_locked_refused(void);

#endif
