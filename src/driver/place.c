#include "driver/place.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

/* A number for this machine from which its name cannot be read; 0: it has no name. */
static uint32_t machine(void) {
    char id[64];
    int fd = open("/etc/machine-id", O_RDONLY | O_CLOEXEC);
    ssize_t n = fd < 0 ? 0 : read(fd, id, sizeof id);
    if (fd >= 0)
        close(fd);
    uint32_t hash = 2166136261u; /* FNV-1a */
    for (ssize_t i = 0; i < n; i++)
        hash = (hash ^ (uint8_t)id[i]) * 16777619u;
    return n > 0 ? hash : 0;
}

static int failed(struct ht_errmsg *err, const char *what, const char *path) {
    int why = errno;
    return ht_fail(err, why == ENOMEM ? HT_ENOMEM : HT_EIO, "%s %s: %s", what, path, strerror(why));
}

/* Makes the directories of `path` below its first `base` characters. */
static int make_folders(char *path, size_t base, struct ht_errmsg *err) {
    for (char *slash = path + base; (slash = strchr(slash + 1, '/'));) {
        *slash = '\0';
        int rc = mkdir(path, 0700) < 0 && errno != EEXIST ? failed(err, "cannot make", path) : 0;
        *slash = '/';
        if (rc < 0)
            return rc;
    }
    return 0;
}

int driver_place(const char *name, char path[PATH_MAX], struct ht_errmsg *err) {
    const char *state = getenv("XDG_STATE_HOME"), *home = getenv("HOME");
    bool given = state && *state == '/'; /* the XDG specification says to ignore a relative path */
    if (!given && (!home || *home != '/'))
        return ht_fail(err, HT_EINVAL, "neither XDG_STATE_HOME nor HOME is set, so there is no place for it");
    size_t base = given ? 0 : strlen(home);
    int n = snprintf(path, PATH_MAX, "%s%s/hoody-tunnel/%s-%08x", given ? state : home, given ? "" : "/.local/state",
                     name, (unsigned)machine());
    if (n < 0 || n >= PATH_MAX - 32)
        return ht_fail(err, HT_ESPACE, "the path of the state directory is too long");
    return make_folders(path, base, err);
}

/* ---- inspectors ---- */

static int inspector_path(char path[PATH_MAX], long pid, unsigned number, struct ht_errmsg *err) {
    char name[64];
    snprintf(name, sizeof name, "inspectors/%ld-%u", pid, number);
    return driver_place(name, path, err);
}

int driver_inspector_put(unsigned number, const char *url, struct ht_errmsg *err) {
    char path[PATH_MAX];
    int rc = inspector_path(path, (long)getpid(), number, err);
    if (rc < 0)
        return rc;
    unlink(path); /* what an earlier process with this number has left */
    int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd < 0)
        return failed(err, "cannot make", path);
    bool good = dprintf(fd, "%s\n", url) > 0;
    rc = good ? 0 : failed(err, "cannot write", path);
    close(fd);
    return rc;
}

void driver_inspector_drop(unsigned number) {
    char path[PATH_MAX];
    struct ht_errmsg err;
    if (inspector_path(path, (long)getpid(), number, &err) == 0)
        unlink(path);
}

/* Reads one file into `url`; a file that others could have written, or that is no URL, is none. */
static bool read_url(const char *path, char *url, size_t cap) {
    struct stat st;
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    ssize_t n = -1;
    if (fd >= 0 && fstat(fd, &st) == 0 && S_ISREG(st.st_mode) && st.st_uid == geteuid() && (st.st_mode & 077) == 0)
        n = read(fd, url, cap - 1);
    if (fd >= 0)
        close(fd);
    if (n <= 0 || url[n - 1] != '\n')
        return false;
    url[n - 1] = '\0';
    return strncmp(url, "http://", 7) == 0;
}

static struct driver_inspector *add(struct driver_inspector *list, size_t cap, size_t n, const char *name,
                                    const char *path) {
    struct driver_inspector *one = n < cap ? &list[n] : NULL;
    char *end;
    long pid = strtol(name, &end, 10);
    if (!one || pid <= 0 || *end != '-' || (kill((pid_t)pid, 0) < 0 && errno == ESRCH) ||
        !read_url(path, one->url, sizeof one->url))
        return NULL;
    one->pid = pid;
    return one;
}

size_t driver_inspectors(struct driver_inspector *list, size_t cap) {
    char path[PATH_MAX], mine[16];
    struct ht_errmsg err;
    size_t n = 0;
    if (inspector_path(path, 0, 0, &err) < 0)
        return 0;
    char *slash = strrchr(path, '/');
    snprintf(mine, sizeof mine, "%s", strrchr(path, '-')); /* other machines may share the home directory */
    *slash = '\0';
    DIR *folder = opendir(path);
    *slash = '/';
    for (const struct dirent *e; folder && (e = readdir(folder)) != NULL;) {
        size_t len = strlen(e->d_name), tail = strlen(mine);
        if (len <= tail || strcmp(e->d_name + len - tail, mine) != 0 || (size_t)(slash + 1 - path) + len >= sizeof path)
            continue;
        memcpy(slash + 1, e->d_name, len + 1);
        n += add(list, cap, n, e->d_name, path) != NULL;
    }
    if (folder)
        closedir(folder);
    return n;
}
