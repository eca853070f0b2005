/*
 * Files in the user's state directory ($XDG_STATE_HOME, else ~/.local/state), below hoody-tunnel/. Their names have the
 * machine, because several machines may share a home directory.
 */
#ifndef HT_DRIVER_PLACE_H
#define HT_DRIVER_PLACE_H

#include "base/base.h"
#include "base/err.h"

#include <limits.h>

/* The path of a file, with its directories made; it has room for a suffix of 31 bytes. 0, or an error with *err. */
int driver_place(const char *name, char path[PATH_MAX], struct ht_errmsg *err) HT_MUST_USE;

/*
 * Where the inspectors of running drivers are: a file for each, which only its owner may read, with the URL and the
 * token in it, as a browser opens it. `number` tells those of one process apart.
 */
int driver_inspector_put(unsigned number, const char *url, struct ht_errmsg *err) HT_MUST_USE;
void driver_inspector_drop(unsigned number);

#define DRIVER_INSPECTOR_URL 512

struct driver_inspector {
    long pid;
    char url[DRIVER_INSPECTOR_URL];
};

/* Those of processes that run, at most `cap` of them. Returns their number. */
size_t driver_inspectors(struct driver_inspector *list, size_t cap);

#endif
