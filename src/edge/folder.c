#include "edge/edge_priv.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

static const char *const parts[] = {"state",   "ca",   "certs",     "haproxy",      "haproxy/maps", "run",
                                    "brought", "acme", "acme/lego", "acme/webroot", "acme/tries"};

char *edge_path(const char *folder, const char *name, char out[EDGE_PATH]) {
    snprintf(out, EDGE_PATH, "%s/%s", folder, name);
    return out;
}

/* The path stands in HAProxy's configuration, and between the brackets and commas of its expressions. */
static int check(const char *folder, struct ht_errmsg *err) {
    static const char good[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789/._-+";
    if (folder[0] != '/')
        return ht_fail(err, HT_EINVAL, "the edge's folder must be an absolute path, and not \"%s\"", folder);
    if (strlen(folder) > EDGE_FOLDER_MAX)
        return ht_fail(err, HT_EINVAL, "the edge's folder %s has a path of more than %d bytes; --folder names another",
                       folder, EDGE_FOLDER_MAX);
    if (folder[strspn(folder, good)])
        return ht_fail(err, HT_EINVAL,
                       "the edge's folder %s has other characters than letters, digits and /._-+ in its path, which "
                       "HAProxy's configuration cannot hold; --folder names another",
                       folder);
    return HT_OK;
}

static int make_one(const char *path, struct ht_errmsg *err) {
    struct stat st;
    if (mkdir(path, 0700) == 0)
        return HT_OK;
    if (errno != EEXIST)
        return ht_fail(err, HT_EIO, "the edge's folder %s cannot be made: %s", path, strerror(errno));
    if (lstat(path, &st) != 0 || !S_ISDIR(st.st_mode))
        return ht_fail(err, HT_EIO, "%s is in the way of the edge's folder: it is no folder", path);
    return HT_OK;
}

/* It has keys in it: nobody else may have prepared it, or look into it. */
static int check_owner(const char *folder, struct ht_errmsg *err) {
    struct stat st;
    if (stat(folder, &st) != 0)
        return ht_fail(err, HT_EIO, "the edge's folder %s: %s", folder, strerror(errno));
    if (st.st_uid != geteuid())
        return ht_fail(err, HT_EACCESS, "the edge's folder %s belongs to somebody else; --folder names another",
                       folder);
    /* A group may have come in through it, and not more: socket.c. */
    if ((st.st_mode & 067) && chmod(folder, 0700) != 0)
        return ht_fail(err, HT_EACCESS, "the edge's folder %s is open to others: %s", folder, strerror(errno));
    return HT_OK;
}

int edge_folder_make(const char *folder, struct ht_errmsg *err) {
    char path[EDGE_PATH];
    int rc = check(folder, err);
    if (rc < 0)
        return rc;
    snprintf(path, sizeof path, "%s", folder);
    for (char *slash = path + 1; (slash = strchr(slash, '/')); slash++) {
        *slash = '\0';
        if (mkdir(path, 0755) != 0 && errno != EEXIST)
            return ht_fail(err, HT_EIO, "the folder %s cannot be made: %s", path, strerror(errno));
        *slash = '/';
    }
    rc = make_one(folder, err);
    if (rc == HT_OK)
        rc = check_owner(folder, err);
    for (size_t i = 0; rc == HT_OK && i < HT_ARRAY_LEN(parts); i++)
        rc = make_one(edge_path(folder, parts[i], path), err);
    return rc;
}

int edge_folder_lock(const char *folder, struct ht_errmsg *err) {
    char path[EDGE_PATH];
    int fd = open(edge_path(folder, "lock", path), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd < 0)
        return ht_fail(err, HT_EIO, "%s: %s", path, strerror(errno));
    if (flock(fd, LOCK_EX | LOCK_NB) == 0)
        return fd;
    int why = errno;
    close(fd);
    if (why == EWOULDBLOCK)
        return ht_fail(err, HT_EINUSE, "another edge works in the folder %s; --folder names another", folder);
    return ht_fail(err, HT_EIO, "%s: %s", path, strerror(why));
}

/* ---- files ---- */

static bool write_all(int fd, struct ht_slice text) {
    while (text.n > 0) {
        ssize_t n = write(fd, text.p, text.n);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return false;
        text = ht_slice_of(text.p + n, text.n - (size_t)n);
    }
    return true;
}

/* The new name is on the disk only when its folder is. */
static bool sync_folder_of(char *path) {
    *strrchr(path, '/') = '\0';
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    bool ok = fd >= 0 && fsync(fd) == 0;
    if (fd >= 0)
        close(fd);
    return ok;
}

int edge_folder_write(const char *folder, const char *name, struct ht_slice text, bool lasting, struct ht_errmsg *err) {
    char path[EDGE_PATH], part[EDGE_PATH + 8];
    snprintf(part, sizeof part, "%s.part", edge_path(folder, name, path));
    int fd = open(part, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
    bool ok = fd >= 0 && write_all(fd, text) && (!lasting || fsync(fd) == 0);
    int why = errno;
    if (fd >= 0 && close(fd) != 0 && ok) {
        ok = false;
        why = errno;
    }
    if (ok && rename(part, path) != 0) {
        ok = false;
        why = errno;
    }
    if (!ok && fd >= 0)
        unlink(part);
    if (ok && lasting && !sync_folder_of(path)) {
        ok = false;
        why = errno;
    }
    return ok ? HT_OK : ht_fail(err, HT_EIO, "%s/%s cannot be written: %s", folder, name, strerror(why));
}

int edge_folder_sync(const char *folder, const char *name, struct ht_errmsg *err) {
    char path[EDGE_PATH];
    snprintf(path, sizeof path, "%s/%s%s.", folder, name, *name ? "/" : "");
    return sync_folder_of(path) ? HT_OK
                                : ht_fail(err, HT_EIO, "%s/%s cannot be written: %s", folder, name, strerror(errno));
}

int edge_folder_remove(const char *folder, const char *name, struct ht_errmsg *err) {
    char path[EDGE_PATH];
    bool ok = (unlink(edge_path(folder, name, path)) == 0 || errno == ENOENT) && sync_folder_of(path);
    return ok ? HT_OK : ht_fail(err, HT_EIO, "%s/%s cannot be removed: %s", folder, name, strerror(errno));
}

int edge_folder_read(const char *folder, const char *name, char *out, size_t cap, struct ht_errmsg *err) {
    char path[EDGE_PATH];
    int fd = open(edge_path(folder, name, path), O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    size_t n = 0;
    if (fd < 0)
        return errno == ENOENT ? HT_EOF : ht_fail(err, HT_EIO, "%s cannot be read: %s", path, strerror(errno));
    for (ssize_t got = 1; got > 0 && n < cap;) {
        got = read(fd, out + n, cap - n);
        if (got < 0) {
            close(fd);
            return ht_fail(err, HT_EIO, "%s cannot be read: %s", path, strerror(errno));
        }
        n += (size_t)got;
    }
    close(fd);
    if (n == cap)
        return ht_fail(err, HT_EIO, "%s is too long", path);
    out[n] = '\0';
    return (int)n;
}
