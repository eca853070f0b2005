/*
 * Small secrets of this machine and user that outlive the process. Each has a file, hoody-tunnel/<name>-<machine> in
 * the user's state directory ($XDG_STATE_HOME, else ~/.local/state). The name has the machine, because several machines
 * may share a home directory. Only the owner may read the file. When two processes make it, the first one wins. The
 * content is on the disk before the file gets its name, and no copy stays in memory. (Files that a user asks for are
 * written by cli_replace_file() instead.)
 */
#ifndef HT_DRIVER_STATE_PRIV_H
#define HT_DRIVER_STATE_PRIV_H

#include "base/base.h"
#include "base/err.h"

struct state_kind {
    const char *name;
    size_t max; /* most bytes of the content, with its last line end */
    bool (*is_good)(struct ht_slice text);
    /* Writes a new secret with a line end to out[0..max), and its length to *n. 0, or an error with *err. */
    int (*make)(char *out, size_t *n, struct ht_errmsg *err);
};

/*
 * Reads the secret to `out`, which needs max + 1 bytes, and its length to *n. It makes the file when there is none;
 * processes that start at the same time get the same secret. A file that is damaged, or that other users could read, is
 * replaced. 0, or a negative error: *err is one sentence, and nothing has changed.
 */
int state_load(const struct state_kind *k, char *out, size_t *n, struct ht_errmsg *err) HT_MUST_USE;

#endif
