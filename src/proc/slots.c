#include "proc/slots.h"

#include "proc/sandbox.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

static const char *const names[PROC_SLOTS] = {"records.a", "records.b"};

/* Whom the files have to belong to. */
struct owner {
    uid_t uid;
    gid_t gid;
    bool given; /* they are given to --user, by root */
};

static int find_owner(struct owner *o, const char *user, struct ht_errmsg *err) {
    struct proc_sandbox_user u;
    *o = (struct owner){.uid = geteuid(), .gid = getegid()};
    if (!user || o->uid != 0)
        return HT_OK;
    int rc = proc_sandbox_find_user(user, &u, err);
    if (rc == HT_OK)
        *o = (struct owner){.uid = u.uid, .gid = u.gid, .given = true};
    return rc;
}

static int give(int fd, const struct owner *o) { return o->given ? fchown(fd, o->uid, o->gid) : 0; }

static int open_folder(const char *folder, const struct owner *o, struct ht_errmsg *err) {
    bool made = mkdir(folder, 0700) == 0;
    if (!made && errno != EEXIST)
        return ht_fail(err, HT_EIO, "--state-dir %s: %s", folder, strerror(errno));
    int fd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0 || (made && give(fd, o) != 0)) {
        int e = errno;
        if (fd >= 0)
            close(fd);
        return ht_fail(err, HT_EIO, "--state-dir %s: %s", folder, strerror(e));
    }
    return fd;
}

/* What it says is believed, so nobody else may have written it. */
static const char *objection(const struct stat *st, const struct owner *o) {
    if (!S_ISREG(st->st_mode) || st->st_nlink != 1)
        return "it is not a plain file with one name";
    if (st->st_uid != o->uid && st->st_uid != geteuid())
        return "it belongs to another user";
    if (st->st_mode & (S_IRWXG | S_IRWXO))
        return "other users have rights to it (it needs mode 0600)";
    return NULL;
}

static int open_file(int folder, const char *name, const char *path, const struct owner *o, struct ht_errmsg *err) {
    struct stat st;
    int flags = O_RDWR | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY;
    int fd = openat(folder, name, flags | O_CREAT | O_EXCL, 0600);
    bool made = fd >= 0;
    if (!made && errno == EEXIST)
        fd = openat(folder, name, flags);
    if (fd < 0 || (made && give(fd, o) != 0) || fstat(fd, &st) != 0) {
        ht_fail(err, HT_EIO, "--state-dir: %s/%s: %s", path, name,
                errno == ELOOP ? "it is a symbolic link, which is not followed" : strerror(errno));
        if (fd >= 0)
            close(fd);
        return HT_EIO;
    }
    const char *why = objection(&st, o);
    if (!why)
        return fd;
    close(fd);
    return ht_fail(err, HT_EACCESS, "--state-dir: %s/%s: %s", path, name, why);
}

int proc_slots_open(struct proc_slots *s, const char *folder, const char *user, struct ht_errmsg *err) {
    struct owner o;
    *s = (struct proc_slots){{-1, -1}};
    int rc = find_owner(&o, user, err);
    int dir = rc < 0 ? rc : open_folder(folder, &o, err);
    if (dir < 0)
        return dir;
    for (unsigned i = 0; i < PROC_SLOTS && rc == HT_OK; i++) {
        s->fd[i] = open_file(dir, names[i], folder, &o, err);
        rc = s->fd[i] < 0 ? s->fd[i] : HT_OK;
    }
    if (rc < 0)
        proc_slots_close(s);
    close(dir);
    return rc;
}

void proc_slots_close(struct proc_slots *s) {
    for (unsigned i = 0; i < PROC_SLOTS; i++) {
        if (s->fd[i] >= 0)
            close(s->fd[i]);
        s->fd[i] = -1;
    }
}

int proc_slots_claim(const struct proc_slots *s) {
    return flock(s->fd[0], LOCK_EX | LOCK_NB) == 0 ? HT_OK : errno == EWOULDBLOCK ? HT_EINUSE : HT_EIO;
}

void proc_slots_unclaim(const struct proc_slots *s) { (void)flock(s->fd[0], LOCK_UN); }

int proc_slots_read(const struct proc_slots *s, unsigned i, size_t most, struct ht_buf *out) {
    struct stat st;
    if (fstat(s->fd[i], &st) != 0)
        return HT_EIO;
    if ((uint64_t)st.st_size > most)
        return HT_ESPACE;
    size_t size = (size_t)st.st_size, got = 0;
    uint8_t *to = ht_buf_reserve(out, size + 1);
    if (!to)
        return HT_ENOMEM;
    while (got < size) {
        ssize_t n = pread(s->fd[i], to + got, size - got, (off_t)got);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return HT_EIO;
        if (n == 0)
            break;
        got += (size_t)n;
    }
    ht_buf_commit(out, got);
    return HT_OK;
}

int proc_slots_write(const struct proc_slots *s, unsigned i, struct ht_slice bytes) {
    size_t put = 0;
    while (put < bytes.n) {
        ssize_t n = pwrite(s->fd[i], bytes.p + put, bytes.n - put, (off_t)put);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return HT_EIO;
        put += (size_t)n;
    }
    return ftruncate(s->fd[i], (off_t)bytes.n) == 0 ? HT_OK : HT_EIO;
}

int proc_slots_sync(const struct proc_slots *s, unsigned i) {
    return s->fd[i] < 0 || fdatasync(s->fd[i]) == 0 ? HT_OK : HT_EIO;
}
