#include "proc/inherit.h"

#include "base/mem.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

#define FIRST 3 /* SD_LISTEN_FDS_START */
#define MOST 65536u

/* A whole number without anything around it. */
static bool number(const char *text, unsigned long *out) {
    char *end;
    if (!text || !ht_is_digit(*text))
        return false;
    errno = 0;
    *out = strtoul(text, &end, 10);
    return !*end && !errno;
}

/* Each name, as far as there are names. */
static bool put_names(struct proc_inheritance *in, const char *names) {
    size_t i = 0;
    for (; names; i++) {
        size_t n = strcspn(names, ":");
        if (i == in->n || n > PROC_INHERIT_NAME)
            return false;
        memcpy(in->all[i].name, names, n);
        in->all[i].name[n] = '\0';
        names = names[n] ? names + n + 1 : NULL;
    }
    return i == in->n;
}

static int take(struct proc_inheritance *out, struct ht_errmsg *err) {
    unsigned long pid, n;
    const char *names = getenv("LISTEN_FDNAMES"), *count = getenv("LISTEN_FDS");
    if (!count)
        return HT_OK;
    if (!number(getenv("LISTEN_PID"), &pid))
        return ht_fail(err, HT_EINVAL, "LISTEN_FDS is set, and LISTEN_PID is no process: who has inherited it?");
    if (pid != (unsigned long)getpid())
        return HT_OK;
    if (!number(count, &n) || n > MOST)
        return ht_fail(err, HT_EINVAL, "LISTEN_FDS %s: not a number of descriptors", count);
    out->all = n ? ht_calloc(n, sizeof *out->all) : NULL;
    if (n && !out->all)
        return ht_fail(err, HT_ENOMEM, "out of memory");
    out->n = n;
    for (size_t i = 0; i < n; i++)
        out->all[i].fd = -1;
    for (size_t i = 0; i < n; i++) {
        int fd = FIRST + (int)i;
        if (fcntl(fd, F_SETFD, FD_CLOEXEC) != 0)
            return ht_fail(err, HT_EINVAL, "LISTEN_FDS %lu: descriptor %d is not open", n, fd);
        out->all[i].fd = fd;
    }
    if (names && n && !put_names(out, names))
        return ht_fail(err, HT_EINVAL, "LISTEN_FDNAMES has not one name for each of %lu descriptors", n);
    return HT_OK;
}

int proc_inherit_take(struct proc_inheritance *out, struct ht_errmsg *err) {
    *out = (struct proc_inheritance){.all = NULL};
    int rc = take(out, err);
    if (rc < 0)
        proc_inherit_free(out);
    unsetenv("LISTEN_PID");
    unsetenv("LISTEN_FDS");
    unsetenv("LISTEN_FDNAMES");
    unsetenv("LISTEN_PIDFDID");
    return rc;
}

void proc_inherit_free(struct proc_inheritance *in) {
    for (size_t i = 0; i < in->n; i++)
        if (in->all[i].fd >= 0)
            close(in->all[i].fd);
    ht_free(in->all);
    *in = (struct proc_inheritance){.all = NULL};
}
