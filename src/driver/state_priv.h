/*
 * Small secrets of this machine and user that outlive the process: a file each, hoody-tunnel/<name>-<machine> below the
 * user's state directory ($XDG_STATE_HOME, else ~/.local/state); one for each machine, because home directories travel.
 * Nothing but its owner may read it. The first process that makes it wins, what is written is on the disk before it has
 * its name, and no copy stays in memory: files that a user asks for are written in another way (cli_replace_file()).
 */
#ifndef HT_DRIVER_STATE_PRIV_H
#define HT_DRIVER_STATE_PRIV_H

#include "base/base.h"
#include "base/err.h"

struct state_kind {
    const char *name;
    size_t max; /* bytes of the longest, its last line end included */
    bool (*is_good)(struct ht_slice text);
    /* Writes a fresh one, which ends with a line end, to out[0..max). */
    int (*make)(char *out, size_t *n, struct ht_errmsg *err);
};

/*
 * Reads it to out[0..max], with room for one byte more; it is made when there is none yet, and processes that start at
 * the same time get the same. A file that is damaged, or that others could read, is replaced. 0 or a negative error
 * with one sentence about why there is none; nothing is left half-done then.
 */
int state_load(const struct state_kind *k, char *out, size_t *n, struct ht_errmsg *err) HT_MUST_USE;

#endif
