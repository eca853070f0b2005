#include "guard/locked.h"

#include <stdatomic.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <unistd.h>

static atomic_bool refused;

bool guard_locked_refused(void) { return atomic_load(&refused); }

int guard_locked_take(struct guard_locked *m, size_t cap) {
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    guard_locked_free(m);
    cap = (cap + page - 1) / page * page;
    prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);
    void *p = mmap(NULL, cap ? cap : page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (p == MAP_FAILED)
        return HT_ENOMEM;
    m->p = p;
    m->cap = cap ? cap : page;
    if (mlock(p, m->cap) != 0)
        atomic_store(&refused, true);
    madvise(p, m->cap, MADV_DONTDUMP);
    madvise(p, m->cap, MADV_WIPEONFORK); /* a program that is started gets none of it */
    return HT_OK;
}

int guard_locked_put(struct guard_locked *m, const void *p, size_t n) {
    if (n > m->cap - m->n)
        return HT_ESPACE;
    if (n)
        memcpy(m->p + m->n, p, n);
    m->n += n;
    return HT_OK;
}

void guard_locked_free(struct guard_locked *m) {
    if (m->p) {
        explicit_bzero(m->p, m->cap);
        munmap(m->p, m->cap);
    }
    *m = (struct guard_locked){.p = NULL};
}
