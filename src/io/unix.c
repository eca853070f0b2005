/* Connections to Unix sockets of this machine. They stand at once, or not at all. */
#include "base/clock.h"
#include "base/mem.h"
#include "io/io_priv.h"

#include <errno.h>
#include <sys/stat.h>
#include <unistd.h>

#define AGAIN_MS 5 /* between two attempts while the socket's queue is full */

struct unix_dial {
    struct io_dial *dial; /* what the caller has */
    struct io_loop *loop;
    struct io_timer again;
    uint64_t until_us, timeout_ms;
    struct io_addr to;
    char path[];
};

struct io_addr io_addr_of_path(const char *path) {
    struct io_addr a = {.len = sizeof(struct sockaddr_un)};
    struct sockaddr_un un = {.sun_family = AF_UNIX};
    memcpy(un.sun_path, path, ht_min(strlen(path), IO_UNIX_PATH_MAX));
    memcpy(&a.ss, &un, sizeof un);
    return a;
}

uid_t io_conn_uid(struct io_conn *c) {
    struct ucred who = {.uid = (uid_t)-1};
    socklen_t n = sizeof who;
    return getsockopt(io_conn_fd(c), SOL_SOCKET, SO_PEERCRED, &who, &n) == 0 ? who.uid : (uid_t)-1;
}

static void cancelled(void *by) {
    struct unix_dial *u = by;
    io_timer_stop(&u->again);
    ht_free(u);
}

/* Why connect() has failed, for a person. The system says "connection refused" of a plain file, too. */
static const char *reason(const char *path, int e) {
    struct stat st;
    bool there = stat(path, &st) == 0;
    switch (e) {
    case ENOENT:
    case ENOTDIR:
        return "there is no such socket";
    case EACCES:
    case EPERM:
        return "permission denied: this user needs write permission for the socket, and search permission for its "
               "folders";
    case ECONNREFUSED:
        return there && !S_ISSOCK(st.st_mode) ? "that is not a socket"
                                              : "nobody listens there: the program that made the socket has ended";
    case EPROTOTYPE:
        return "that is not a stream socket";
    default:
        return ht_err_text(ht_err_from_errno(e));
    }
}

static void failed(struct unix_dial *u, int e) {
    struct ht_errmsg text;
    struct io_dial *d = u->dial;
    int err = e == ENOENT || e == ENOTDIR || e == EPROTOTYPE ? HT_EREFUSED : ht_err_from_errno(e);
    if (e == EAGAIN)
        err = ht_fail(&text, HT_ETIMEDOUT, "cannot connect to unix:%s: its queue was full for %llu ms", u->path,
                      (unsigned long long)u->timeout_ms);
    else
        ht_fail(&text, err, "cannot connect to unix:%s: %s", u->path, reason(u->path, e));
    cancelled(u);
    io_dial_give_up(d, err, text.text);
}

static void attempt(struct unix_dial *u) {
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0), e = errno;
    if (fd >= 0 && connect(fd, (const struct sockaddr *)&u->to.ss, u->to.len) == 0) {
        struct io_conn *c = io_conn_adopt(u->loop, fd, NULL, NULL); /* closes it when there is no memory */
        struct io_dial *d = u->dial;
        if (!c) {
            failed(u, ENOMEM);
            return;
        }
        cancelled(u);
        io_dial_give(d, c);
        return;
    }
    if (fd >= 0) {
        e = errno;
        close(fd);
    }
    if (e == EAGAIN && ht_now_us() < u->until_us)
        io_timer_set(&u->again, AGAIN_MS);
    else
        failed(u, e);
}

static void on_again(struct io_timer *t) { attempt(ht_container_of(t, struct unix_dial, again)); }

struct io_dial *io_dial_unix(struct io_loop *loop, const char *path, uint64_t timeout_ms, const struct io_dial_ops *ops,
                             void *ctx, struct ht_errmsg *err) {
    size_t n = strlen(path);
    struct unix_dial *u = ht_calloc(1, sizeof *u + n + 1);
    struct io_dial *d = u ? io_dial_by(loop, ops, ctx, cancelled, u) : NULL;
    if (!d) {
        ht_free(u);
        ht_fail(err, HT_ENOMEM, "cannot connect to unix:%s: out of memory", path);
        return NULL;
    }
    u->dial = d;
    u->loop = loop;
    u->timeout_ms = timeout_ms;
    uint64_t now = ht_now_us();
    u->until_us = timeout_ms < (UINT64_MAX - now) / 1000 ? now + timeout_ms * 1000 : UINT64_MAX;
    u->to = io_addr_of_path(path);
    memcpy(u->path, path, n + 1);
    io_timer_init(loop, &u->again, on_again);
    attempt(u);
    return d;
}
