/*
 * Descriptors that this process has inherited from a service manager: sockets of socket activation, and what the
 * process before it has put into the manager's store (sd_listen_fds(3), FDSTORE of sd_notify(3)). No library is needed.
 */
#ifndef HT_PROC_INHERIT_H
#define HT_PROC_INHERIT_H

#include "base/base.h"
#include "base/err.h"

#define PROC_INHERIT_NAME 255 /* most characters of a name (sd_notify(3), FDNAME) */

struct proc_inherited {
    int fd; /* whoever takes it sets it to -1 */
    char name[PROC_INHERIT_NAME + 1];
};

struct proc_inheritance {
    struct proc_inherited *all;
    size_t n;
};

/*
 * Reads LISTEN_PID, LISTEN_FDS and LISTEN_FDNAMES and takes them out of the environment, so that no other program
 * believes them. The descriptors are closed in programs that are started. 0, also when there are none or when they are
 * another process's. HT_EINVAL with *err: the variables contradict themselves. HT_ENOMEM. After an error *out is empty.
 */
int proc_inherit_take(struct proc_inheritance *out, struct ht_errmsg *err) HT_MUST_USE;
/* Closes the descriptors that nobody took. */
void proc_inherit_free(struct proc_inheritance *in);

#endif
