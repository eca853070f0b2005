#include "driver/state_priv.h"

#include "driver/place.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#define TRIES 8 /* others may replace the file at the same time */

static int failed(struct ht_errmsg *err, const char *what, const char *path) {
    int why = errno;
    return ht_fail(err, why == ENOMEM ? HT_ENOMEM : HT_EIO, "%s %s: %s", what, path, strerror(why));
}

/* ---- the content ---- */

/* Reads the file. 1: it is good. 0: there is none, or it must not be used. Negative: an error. */
static int read_file(const struct state_kind *k, const char *path, char *out, size_t *n, struct ht_errmsg *err) {
    struct stat st;
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    if (fd < 0)
        return errno == ENOENT || errno == ELOOP ? 0 : failed(err, "cannot read", path);
    ssize_t got = -1;
    if (fstat(fd, &st) == 0 && S_ISREG(st.st_mode) && st.st_uid == geteuid() && (st.st_mode & 077) == 0)
        got = read(fd, out, k->max + 1);
    close(fd);
    /* A file that a full disk has cut off must not be used. */
    if (got <= 0 || (size_t)got > k->max || out[got - 1] != '\n')
        return 0;
    *n = (size_t)got;
    return k->is_good(ht_slice_of(out, (size_t)got));
}

/* Writes new content to a temporary file beside `path`, and its name to `temp`. `text` is scratch memory. */
static int write_fresh(const struct state_kind *k, const char *path, char temp[PATH_MAX], char *text,
                       struct ht_errmsg *err) {
    size_t n = 0;
    int rc = k->make(text, &n, err);
    if (rc < 0)
        return rc;
    memcpy(temp, path, strlen(path) + 1); /* driver_place() leaves room for the suffix */
    strcat(temp, ".XXXXXX");
    int fd = mkostemp(temp, O_CLOEXEC); /* 0600 */
    if (fd < 0)
        return failed(err, "cannot make", temp);
    bool good = write(fd, text, n) == (ssize_t)n && fsync(fd) == 0;
    rc = good ? 0 : failed(err, "cannot write", temp);
    if (close(fd) < 0 && rc == 0)
        rc = failed(err, "cannot write", temp);
    explicit_bzero(text, k->max + 1);
    if (rc < 0)
        unlink(temp);
    return rc;
}

/* In another user's home (sudo keeps HOME) a file of this user would keep the owner from making one. */
static int check_owner(char *path, struct ht_errmsg *err) {
    struct stat st;
    char *slash = strrchr(path, '/');
    *slash = '\0';
    int rc = stat(path, &st) < 0      ? failed(err, "cannot look at", path)
             : st.st_uid != geteuid() ? ht_fail(err, HT_EACCESS, "%s belongs to another user", path)
                                      : 0;
    *slash = '/';
    return rc;
}

int state_load(const struct state_kind *k, char *out, size_t *n, struct ht_errmsg *err) {
    char path[PATH_MAX], temp[PATH_MAX];
    int rc = driver_place(k->name, path, err);
    if (rc == 0)
        rc = check_owner(path, err);
    bool damaged = false;
    for (int i = 0; rc == 0 && i < TRIES; i++) {
        rc = read_file(k, path, out, n, err);
        if (rc != 0)
            return rc < 0 ? rc : 0;
        damaged = access(path, F_OK) == 0 || damaged;
        if ((rc = write_fresh(k, path, temp, out, err)) < 0)
            return rc;
        /* link() never replaces a file, so of several processes that start at once one wins, and all read its file. */
        if (damaged ? rename(temp, path) < 0 : link(temp, path) < 0 && errno != EEXIST)
            rc = failed(err, "cannot make", path);
        unlink(temp);
        damaged = false;
    }
    return rc < 0 ? rc : ht_fail(err, HT_EIO, "%s keeps being changed", path);
}
