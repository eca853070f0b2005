/*
 * Shared libraries that are loaded when they are first needed. Only what few processes ever use is worth it: each
 * library that a program is linked with costs every process the pages that the loader and the library write to.
 */
#ifndef HT_BASE_LIBRARY_H
#define HT_BASE_LIBRARY_H

#include "base/base.h"

/*
 * The functions of a library are the members of a struct, and called through it:
 *     #define FUNCTIONS(X) X(inflate) X(inflateEnd)
 *     static struct { FUNCTIONS(HT_LIBRARY_MEMBER) } z;
 *     #define ROW(f) HT_LIBRARY_FUNCTION(z, f)
 *     static const struct ht_library_function rows[] = {FUNCTIONS(ROW)};
 */
#define HT_LIBRARY_MEMBER(f) __typeof__(f) *f;
#define HT_LIBRARY_FUNCTION(of, f) {#f, (void **)(void *)&(of).f},

struct ht_library_function {
    const char *name;
    void **to;
};

/* A static variable; its user sets the first three. */
struct ht_library {
    const char *files[3]; /* names that the loader looks for, in this order; NULL ends them */
    const struct ht_library_function *functions;
    size_t n_functions;
    enum { HT_LIBRARY_UNKNOWN, HT_LIBRARY_THERE, HT_LIBRARY_MISSING } state;
};

/* True: all functions may be called, until the process ends. False: this system has no such library. Any thread may
 * ask. */
bool ht_library_need(struct ht_library *l) HT_MUST_USE;

#endif
