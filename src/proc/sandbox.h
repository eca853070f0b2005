/*
 * What the daemon gives up once its listener stands: root, the way to any new privilege, and all system calls that it
 * does not need (tests/hardening.yaml). Each step either holds or fails; a half-dropped process is an
 * error that the caller must end with.
 */
#ifndef HT_PROC_SANDBOX_H
#define HT_PROC_SANDBOX_H

#include "base/base.h"
#include "base/err.h"

#include <sys/types.h>

/* ---- another user ---- */

struct proc_sandbox_user {
    uid_t uid;
    gid_t gid;
    char name[64]; /* of the account; "" when only a number is known: then no supplementary groups but `gid` */
};

/*
 * NAME[:GROUP], names or numbers. HT_EINVAL with *err: there is no such account or group, a number without an account
 * comes without a group, or it is root, who would not be dropped at all.
 */
int proc_sandbox_find_user(const char *text, struct proc_sandbox_user *out, struct ht_errmsg *err) HT_MUST_USE;

/*
 * Becomes that user for good: user, group and supplementary groups, real, effective and saved, and no capability but
 * CAP_NET_BIND_SERVICE when `keep_low_ports`. 0 only when all of it has been read back and found so; already being that
 * user is fine. HT_EACCESS with *err else, and the process may be anything between: it must end. Before any thread is
 * started.
 */
int proc_sandbox_become(const struct proc_sandbox_user *u, bool keep_low_ports, struct ht_errmsg *err) HT_MUST_USE;

/* ---- no way back, and few system calls ---- */

/* PR_SET_NO_NEW_PRIVS: no set-user-id program gives this process or its children anything (prctl(2)). HT_EIO. */
int proc_sandbox_no_new_privs(struct ht_errmsg *err) HT_MUST_USE;

struct proc_sandbox_calls {
    bool append_files; /* files may be opened for appending, and made: --log-file after a rotation */
    bool connects;     /* connections go out, and names are looked up on threads: --connect-proxy */
};

/*
 * Installs a seccomp filter for every thread: system calls that a running kit does not make fail with EPERM, and the
 * first of each kind is logged with its number. Returns how many rules the filter has. HT_EIO with *err: the kernel has
 * no filters, or refuses them; nothing has changed then. Needs proc_sandbox_no_new_privs() before it.
 */
int proc_sandbox_filter_calls(const struct proc_sandbox_calls *calls, struct ht_errmsg *err) HT_MUST_USE;

#endif
