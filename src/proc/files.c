#include "proc/files.h"

#include "proc/sandbox.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <limits.h>
#include <linux/openat2.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

static const struct {
    const char *name;
    int flags;
    mode_t mode; /* of one that is made; 0: none is */
} kinds[] = {
    [PROC_FILES_LOG] = {"log", O_WRONLY | O_APPEND | O_CREAT, 0640},
    [PROC_FILES_AUDIT] = {"audit", O_WRONLY | O_APPEND | O_CREAT | O_NONBLOCK, 0600},
    [PROC_FILES_TOKEN] = {"token", O_RDONLY, 0},
    [PROC_FILES_CERT] = {"certificate", O_RDONLY | O_NONBLOCK, 0},
    [PROC_FILES_KEY] = {"key", O_RDONLY | O_NONBLOCK, 0},
    [PROC_FILES_USERS] = {"users", O_RDONLY, 0},
};

static int flags_of(enum proc_files_kind kind) { return O_CLOEXEC | O_NOCTTY | kinds[kind].flags; }

static bool is_written(enum proc_files_kind kind) { return kinds[kind].flags & O_CREAT; }

static int open_plain(enum proc_files_kind kind, const char *path, int more) {
    return open(path, flags_of(kind) | more, kinds[kind].mode);
}

/* ---- opening a file with the rights of another user ---- */

struct rights {
    uid_t uid;
    gid_t gid;
    gid_t groups[64];
    int n_groups;
};

static bool keep_rights(struct rights *r) {
    r->uid = geteuid();
    r->gid = getegid();
    r->n_groups = getgroups((int)HT_ARRAY_LEN(r->groups), r->groups);
    return r->n_groups >= 0;
}

static bool take_rights(const struct proc_sandbox_user *u) {
    return (u->name[0] ? initgroups(u->name, u->gid) : setgroups(1, &u->gid)) == 0 && setegid(u->gid) == 0 &&
           seteuid(u->uid) == 0;
}

static bool give_back(const struct rights *r) {
    return seteuid(r->uid) == 0 && setegid(r->gid) == 0 && setgroups((size_t)r->n_groups, r->groups) == 0;
}

static int open_as(enum proc_files_kind kind, const char *path, const struct proc_sandbox_user *u) {
    struct rights own;
    int fd = -1;
    if (!keep_rights(&own))
        return -1;
    if (take_rights(u))
        fd = open_plain(kind, path, 0);
    int e = errno;
    if (!give_back(&own))
        _exit(3); /* half of root's rights: nothing that follows could be trusted */
    errno = e;
    return fd;
}

/* ---- with root's rights ---- */

/* No symbolic link on the whole way; a kernel without openat2 checks the last name only. */
static int open_no_links(enum proc_files_kind kind, const char *path) {
    struct open_how how = {.flags = (uint64_t)flags_of(kind),
                           .mode = kinds[kind].mode,
                           .resolve = RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS};
    int fd = (int)syscall(SYS_openat2, AT_FDCWD, path, &how, sizeof how);
    return fd >= 0 || (errno != ENOSYS && errno != EPERM) ? fd : open_plain(kind, path, O_NOFOLLOW);
}

static int fail(struct ht_errmsg *err, enum proc_files_kind kind, const char *path, const char *why) {
    return ht_fail(err, HT_EIO, "%s file %s: %s", kinds[kind].name, path, why);
}

static int open_guarded(enum proc_files_kind kind, const char *path, const struct proc_sandbox_user *u,
                        struct ht_errmsg *err) {
    struct stat st;
    bool new_file = is_written(kind) && lstat(path, &st) != 0 && errno == ENOENT;
    int fd = open_no_links(kind, path);
    if (fd < 0)
        return fail(err, kind, path,
                    errno == ELOOP ? "a symbolic link is on the way to it, which root does not follow for --user"
                                   : strerror(errno));
    const char *why = NULL;
    if (fstat(fd, &st) != 0)
        why = strerror(errno);
    else if (!S_ISREG(st.st_mode))
        why = "it is not a regular file";
    else if (st.st_nlink != 1)
        why = "it has more than one hard link, so it may be a file that --user is not meant to touch";
    else if (new_file && st.st_size == 0 && st.st_uid == 0 && fchown(fd, u->uid, u->gid) != 0)
        why = "its owner cannot be changed to --user";
    if (!why)
        return fd;
    close(fd);
    return fail(err, kind, path, why);
}

/* Opens a file as the present user. Root does not append to a file behind a symbolic link. */
static int open_own(enum proc_files_kind kind, const char *path, struct ht_errmsg *err) {
    struct stat st;
    bool guarded = is_written(kind) && geteuid() == 0 && strncmp(path, "/dev/", 5) != 0;
    int fd = open_plain(kind, path, guarded ? O_NOFOLLOW : 0);
    if (fd >= 0 && guarded && fstat(fd, &st) == 0 && S_ISREG(st.st_mode) && st.st_nlink > 1) {
        close(fd);
        return fail(err, kind, path, "it has more than one hard link, and root does not write to it");
    }
    if (fd >= 0)
        return fd;
    return fail(err, kind, path,
                errno == ELOOP ? "it is a symbolic link, which root does not follow" : strerror(errno));
}

int proc_files_open(enum proc_files_kind kind, const char *path, const char *user, struct ht_errmsg *err) {
    struct proc_sandbox_user u;
    if (geteuid() != 0 || !user)
        return open_own(kind, path, err);
    int rc = proc_sandbox_find_user(user, &u, err);
    if (rc < 0)
        return rc;
    int fd = open_as(kind, path, &u);
    if (fd < 0 && errno == EACCES)
        return open_guarded(kind, path, &u, err);
    return fd >= 0 ? fd : fail(err, kind, path, strerror(errno));
}

/* ---- removing what is ours ---- */

bool proc_files_look(const char *path, proc_files_is_ours is_ours, void *ctx) {
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOFOLLOW);
    bool ours = fd >= 0 && is_ours(ctx, fd);
    if (fd >= 0)
        close(fd);
    return ours;
}

/* Between a look and an unlink(2) the name could get another file. So the name is taken from it first. */
int proc_files_remove(const char *path, proc_files_is_ours is_ours, void *ctx) {
    char gone[PATH_MAX];
    if (!proc_files_look(path, is_ours, ctx))
        return 0;
    if ((size_t)snprintf(gone, sizeof gone, "%s.%d.gone", path, (int)getpid()) >= sizeof gone) {
        errno = ENAMETOOLONG;
        return -1;
    }
    if (rename(path, gone) != 0)
        return errno == ENOENT ? 0 : -1;
    if (proc_files_look(gone, is_ours, ctx) || renameat2(AT_FDCWD, gone, AT_FDCWD, path, RENAME_NOREPLACE) != 0)
        return unlink(gone); /* it is ours, or an even newer one is there */
    return 0;
}
