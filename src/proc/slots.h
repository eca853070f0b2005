/*
 * A folder with state that outlives the process, for one kit (--state-dir). The state stands in two files, of which the
 * older one is written: whenever the process or the machine ends, the other one is whole. The caller's format tells a
 * whole file from one that is not, and which one is newer.
 *
 * Both files are open all the time, so that a process in its sandbox needs no right to open any.
 */
#ifndef HT_PROC_SLOTS_H
#define HT_PROC_SLOTS_H

#include "base/base.h"
#include "base/buf.h"
#include "base/err.h"

#define PROC_SLOTS 2

struct proc_slots {
    int fd[PROC_SLOTS]; /* -1: not open */
};

/*
 * Opens the files of the folder, which is made if its parent exists, for this user alone (0700, files 0600). `user` is
 * what --user says, or NULL: to that user they belong. 0, or with *err: HT_EIO; HT_EACCESS: the files are another
 * user's, or no plain files. After an error nothing is open.
 */
int proc_slots_open(struct proc_slots *s, const char *folder, const char *user, struct ht_errmsg *err) HT_MUST_USE;
void proc_slots_close(struct proc_slots *s);

/* Makes this process the only one that writes there; another one gives up its claim with proc_slots_unclaim(), or by
 * ending. 0; HT_EINUSE: another kit has it. Descriptors that were copied by fork(2) share the claim. */
int proc_slots_claim(const struct proc_slots *s) HT_MUST_USE;
void proc_slots_unclaim(const struct proc_slots *s);

/* Appends what file `i` holds, at most `most` bytes. 0, HT_ENOMEM, HT_EIO, HT_ESPACE. */
int proc_slots_read(const struct proc_slots *s, unsigned i, size_t most, struct ht_buf *out) HT_MUST_USE;
/* Replaces what file `i` holds. It is on the disk after proc_slots_sync(). 0 or HT_EIO. */
int proc_slots_write(const struct proc_slots *s, unsigned i, struct ht_slice bytes) HT_MUST_USE;
/* Waits until file `i` is on the disk. 0 or HT_EIO. */
int proc_slots_sync(const struct proc_slots *s, unsigned i);

#endif
