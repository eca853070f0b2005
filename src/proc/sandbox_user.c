/* Gives up root, and reads back each right to verify that it is gone. */
#include "proc/sandbox.h"

#include <errno.h>
#include <grp.h>
#include <linux/capability.h>
#include <linux/securebits.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

/* Reads a user or group number. False: it is not a number, or it is (uid_t)-1, which means "do not change". */
static bool number(const char *text, unsigned *out) {
    char *end;
    if (*text < '0' || *text > '9')
        return false;
    errno = 0;
    unsigned long v = strtoul(text, &end, 10);
    if (*end || errno || v >= UINT32_MAX)
        return false;
    *out = (unsigned)v;
    return true;
}

static int find_group(const char *text, gid_t *out, struct ht_errmsg *err) {
    unsigned n;
    const struct group *g = getgrnam(text);
    if (g)
        *out = g->gr_gid;
    else if (number(text, &n))
        *out = n;
    else
        return ht_fail(err, HT_EINVAL, "--user: there is no group \"%s\"", text);
    return HT_OK;
}

int proc_sandbox_find_user(const char *text, struct proc_sandbox_user *out, struct ht_errmsg *err) {
    char name[sizeof out->name];
    const char *colon = strchr(text, ':');
    size_t n = colon ? (size_t)(colon - text) : strlen(text);
    unsigned id;
    if (n == 0 || n >= sizeof name || (colon && !colon[1]))
        return ht_fail(err, HT_EINVAL, "--user %s: give NAME or NAME:GROUP, as names or numbers", text);
    memcpy(name, text, n);
    name[n] = '\0';
    const struct passwd *p = getpwnam(name);
    if (!p && number(name, &id))
        p = getpwuid(id);
    if (p) {
        *out = (struct proc_sandbox_user){.uid = p->pw_uid, .gid = p->pw_gid};
        snprintf(out->name, sizeof out->name, "%s", p->pw_name);
    } else if (number(name, &id)) {
        if (!colon)
            return ht_fail(err, HT_EINVAL, "--user %s: no account has this number; name its group too, as %s:%s", text,
                           name, name);
        *out = (struct proc_sandbox_user){.uid = id};
    } else {
        return ht_fail(err, HT_EINVAL, "--user: there is no user \"%s\"", name);
    }
    int rc = colon ? find_group(colon + 1, &out->gid, err) : HT_OK;
    if (rc == HT_OK && (out->uid == 0 || out->gid == 0))
        return ht_fail(err, HT_EINVAL, "--user %s: that is root; name an account without root's rights", text);
    return rc;
}

/* ---- capabilities (capabilities(7)), without a library for two calls ---- */

#define LOW_PORTS (UINT64_C(1) << CAP_NET_BIND_SERVICE)

static int read_capabilities(uint64_t *permitted, uint64_t *effective) {
    struct __user_cap_header_struct head = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct data[2];
    if (syscall(SYS_capget, &head, data) != 0)
        return -1;
    *permitted = data[0].permitted | (uint64_t)data[1].permitted << 32;
    *effective = data[0].effective | (uint64_t)data[1].effective << 32;
    return 0;
}

static int write_capabilities(uint64_t caps) {
    struct __user_cap_header_struct head = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct data[2] = {
        {.permitted = (uint32_t)caps, .effective = (uint32_t)caps},
        {.permitted = (uint32_t)(caps >> 32), .effective = (uint32_t)(caps >> 32)},
    };
    return (int)syscall(SYS_capset, &head, data);
}

/* ---- becoming another user ---- */

static bool is_user(const struct proc_sandbox_user *u) {
    uid_t r, e, s;
    gid_t rg, eg, sg;
    return getresuid(&r, &e, &s) == 0 && getresgid(&rg, &eg, &sg) == 0 && r == u->uid && e == u->uid && s == u->uid &&
           rg == u->gid && eg == u->gid && sg == u->gid;
}

/* The name of what went wrong, with errno; NULL when nothing did. */
static const char *change(const struct proc_sandbox_user *u, bool keep_low_ports) {
    if (prctl(PR_SET_KEEPCAPS, keep_low_ports ? 1 : 0, 0, 0, 0) != 0)
        return "keep or drop capabilities";
    if (u->name[0] ? initgroups(u->name, u->gid) != 0 : setgroups(1, &u->gid) != 0)
        return "set the supplementary groups";
    if (setresgid(u->gid, u->gid, u->gid) != 0)
        return "set the group";
    if (setresuid(u->uid, u->uid, u->uid) != 0)
        return "set the user";
    /* Whatever was inherited or kept goes; securebits may have kept more than asked for. */
    if (write_capabilities(keep_low_ports ? LOW_PORTS : 0) != 0)
        return "give up the capabilities";
    if (prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0) != 0 && errno != EINVAL)
        return "give up the ambient capabilities";
    return prctl(PR_SET_KEEPCAPS, 0, 0, 0, 0) != 0 ? "stop keeping capabilities" : NULL;
}

/* root's group among the supplementary ones would open root's files. */
static bool has_group_root(void) {
    gid_t groups[256];
    int n = getgroups((int)HT_ARRAY_LEN(groups), groups);
    for (int i = 0; i < n; i++)
        if (groups[i] == 0)
            return true;
    return n < 0;
}

int proc_sandbox_become(const struct proc_sandbox_user *u, bool keep_low_ports, struct ht_errmsg *err) {
    uint64_t permitted = 0, effective = 0;
    if (geteuid() != 0 && is_user(u) && read_capabilities(&permitted, &effective) == 0 && (permitted & ~LOW_PORTS) == 0)
        return HT_OK;
    if (geteuid() != 0)
        return ht_fail(err, HT_EACCESS, "--user: only root can become another user, and this is user %u",
                       (unsigned)geteuid());
    uint64_t wanted = 0;
    if (keep_low_ports && read_capabilities(&permitted, &effective) == 0)
        wanted = permitted & LOW_PORTS; /* a container may have taken it from root too */
    const char *failed = change(u, wanted != 0);
    if (failed)
        return ht_fail(err, HT_EACCESS, "--user: cannot %s: %s", failed, strerror(errno));
    if (!is_user(u) || has_group_root() || read_capabilities(&permitted, &effective) != 0 || permitted != wanted ||
        setresuid(0, 0, 0) == 0)
        return ht_fail(err, HT_EACCESS, "--user: the privileges of root are still there after giving them up");
    return HT_OK;
}
