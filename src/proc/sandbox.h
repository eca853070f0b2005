/*
 * What the daemon gives up once its listener is open: root, ways to new privileges, and all system calls that it does
 * not need (tests/hardening.yaml). Each step succeeds or fails. After a failure the process may have dropped only a
 * part of its rights, and the caller must end it.
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
    char name[64]; /* of the account; "": only a number is known, and `gid` is the only group */
};

/*
 * Finds NAME[:GROUP], which are names or numbers. HT_EINVAL with *err: there is no such account or group; a number
 * without an account needs a group; or it is root, which would drop nothing.
 */
int proc_sandbox_find_user(const char *text, struct proc_sandbox_user *out, struct ht_errmsg *err) HT_MUST_USE;

/*
 * Becomes that user for good: real, effective and saved user and group, and the supplementary groups. No capability
 * stays, except CAP_NET_BIND_SERVICE when `keep_low_ports`. Call it before any thread is started. 0: everything was
 * read back and is right, also when the process is that user already. HT_EACCESS with *err: only a part may have
 * changed, and the process must end.
 */
int proc_sandbox_become(const struct proc_sandbox_user *u, bool keep_low_ports, struct ht_errmsg *err) HT_MUST_USE;

/* ---- no way back, and few system calls ---- */

/* Sets PR_SET_NO_NEW_PRIVS (prctl(2)): set-user-id programs give this process and its children no new rights. 0, or
 * HT_EIO with *err. */
int proc_sandbox_no_new_privs(struct ht_errmsg *err) HT_MUST_USE;

struct proc_sandbox_calls {
    bool append_files; /* allow to make files and open them for appending: --log-file after a rotation */
    bool connects;     /* allow outgoing connections, and threads that look up names: --connect-proxy */
};

/*
 * Installs a seccomp filter for all threads. System calls that a running kit does not make fail with EPERM, and the
 * first of each kind is logged with its number. Call proc_sandbox_no_new_privs() before. Returns the number of rules (>
 * 0). HT_EIO with *err: the kernel has no filters or refuses them; nothing has changed.
 */
int proc_sandbox_filter_calls(const struct proc_sandbox_calls *calls, struct ht_errmsg *err) HT_MUST_USE;

#endif
