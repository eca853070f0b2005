/*
 * Child processes that are started for their output. The output is read as it comes. A timer asks whether a child has
 * ended: SIGCHLD belongs to the program of which this library is a part.
 */
#include "base/mem.h"
#include "io/io_priv.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <sys/wait.h>
#include <unistd.h>

#define LOOK_MAX_MS 50 /* between two looks at whether it has ended */
#define REAP_MS 200    /* for one that is cancelled: killed, it ends as soon as it is its turn */

struct io_child {
    struct io_loop *loop;
    const struct io_child_ops *ops;
    void *ctx;
    pid_t pid; /* and its process group */
    int fd;    /* what it prints; -1: it prints no more */
    ev_io io;
    struct io_timer look, limit;
    uint64_t look_ms, limit_ms;
    char *into;
    size_t n, cap;
    int failed; /* it was killed for this; 0: it was not */
    char why[64];
};

/* ---- its end ---- */

static void stop_reading(struct io_child *c) {
    if (c->fd < 0)
        return;
    io_unwatch(c->loop, &c->io);
    close(c->fd);
    c->fd = -1;
}

/* With what it has started. */
static void kill_it(const struct io_child *c) {
    kill(-c->pid, SIGKILL);
    kill(c->pid, SIGKILL);
}

static void child_free(struct io_child *c) {
    stop_reading(c);
    io_timer_stop(&c->look);
    io_timer_stop(&c->limit);
    ht_free(c);
}

static void finish(struct io_child *c, int err, const char *text) {
    const struct io_child_ops *ops = c->ops;
    void *ctx = c->ctx;
    size_t n = c->n;
    child_free(c);
    ops->ended(ctx, err, n, text);
}

/* It is told when it is gone. */
static void kill_for(struct io_child *c, int err, const char *why) {
    c->failed = err;
    snprintf(c->why, sizeof c->why, "%s", why);
    stop_reading(c);
    io_timer_stop(&c->limit);
    kill_it(c);
    c->look_ms = 1;
    io_timer_set(&c->look, c->look_ms);
}

/* ---- what it prints ---- */

/* All that is there. HT_OK, HT_ESPACE and others. */
static int drain(struct io_child *c) {
    while (c->fd >= 0) {
        char more;
        bool full = c->n == c->cap;
        ssize_t n = read(c->fd, full ? &more : c->into + c->n, full ? 1 : c->cap - c->n);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return errno == EAGAIN ? HT_OK : ht_err_from_errno(errno);
        if (n == 0)
            stop_reading(c);
        else if (full)
            return HT_ESPACE;
        else
            c->n += (size_t)n;
    }
    return HT_OK;
}

static const char *drain_text(const struct io_child *c, int rc, char text[64]) {
    snprintf(text, 64, "it prints more than %zu bytes", c->cap);
    return rc == HT_ESPACE ? text : ht_err_text(rc);
}

/* What it has started may go on, and may go on printing: that is no answer of its own. */
static void ended_with(struct io_child *c, int status) {
    char text[64] = "";
    int rc = c->failed ? c->failed : drain(c);
    if (c->failed) {
        snprintf(text, sizeof text, "%s", c->why);
    } else if (rc < 0) {
        const char *why = drain_text(c, rc, c->why);
        snprintf(text, sizeof text, "%s", why);
    } else if (WIFSIGNALED(status)) {
        rc = HT_EIO;
        snprintf(text, sizeof text, "it was ended by signal %d", WTERMSIG(status));
    } else if (WEXITSTATUS(status)) {
        rc = HT_EIO;
        snprintf(text, sizeof text, "it ended with status %d", WEXITSTATUS(status));
    }
    finish(c, rc, text);
}

static void look(struct io_timer *t) {
    struct io_child *c = ht_container_of(t, struct io_child, look);
    int status = 0;
    pid_t got = waitpid(c->pid, &status, WNOHANG);
    if (got == 0 || (got < 0 && errno == EINTR)) {
        io_timer_set(t, c->look_ms);
        c->look_ms = ht_min64(c->look_ms * 2, LOOK_MAX_MS);
        return;
    }
    /* When the program ignores SIGCHLD, the status of the child is lost: only its output is known. */
    ended_with(c, got < 0 ? 0 : status);
}

static void on_output(struct ev_loop *ev, ev_io *w, int revents) {
    (void)ev, (void)revents;
    struct io_child *c = w->data;
    int rc = drain(c);
    char text[64];
    if (rc < 0) {
        kill_for(c, rc, drain_text(c, rc, text));
    } else if (c->fd < 0) { /* its end is near */
        c->look_ms = 1;
        look(&c->look);
    }
}

static void too_late(struct io_timer *t) {
    struct io_child *c = ht_container_of(t, struct io_child, limit);
    char text[64];
    snprintf(text, sizeof text, "it did not end within %llu s", (unsigned long long)c->limit_ms / 1000);
    kill_for(c, HT_ETIMEDOUT, text);
}

/* ---- its beginning ---- */

/* A process group of its own, with signals as a shell would have them; it never asks at the terminal. */
static int spawn(pid_t *pid, const char *const argv[], int out) {
    extern char **environ;
    union { /* posix_spawn() does not change them (POSIX.1, exec: rationale) */
        const char *const *in;
        char *const *out;
    } args = {.in = argv};
    posix_spawn_file_actions_t files;
    posix_spawnattr_t attr;
    sigset_t none, all;
    sigemptyset(&none);
    sigfillset(&all);
    if (posix_spawn_file_actions_init(&files) != 0)
        return ENOMEM;
    if (posix_spawnattr_init(&attr) != 0) {
        posix_spawn_file_actions_destroy(&files);
        return ENOMEM;
    }
    int rc = posix_spawn_file_actions_addopen(&files, 0, "/dev/null", O_RDONLY, 0);
    if (rc == 0)
        rc = posix_spawn_file_actions_adddup2(&files, out, 1);
    if (rc == 0)
        rc = posix_spawn_file_actions_addopen(&files, 2, "/dev/null", O_WRONLY, 0);
    if (rc == 0)
        rc = posix_spawnattr_setflags(&attr, POSIX_SPAWN_SETPGROUP | POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF);
    if (rc == 0)
        rc = posix_spawnattr_setsigmask(&attr, &none);
    if (rc == 0)
        rc = posix_spawnattr_setsigdefault(&attr, &all);
    if (rc == 0)
        rc = posix_spawn(pid, argv[0], &files, &attr, args.out, environ);
    posix_spawn_file_actions_destroy(&files);
    posix_spawnattr_destroy(&attr);
    return rc;
}

struct io_child *io_child_start(struct io_loop *loop, const struct io_child_config *cfg, const struct io_child_ops *ops,
                                void *ctx, struct ht_errmsg *err) {
    int fds[2];
    struct io_child *c = ht_calloc(1, sizeof *c);
    if (!c || pipe2(fds, O_CLOEXEC) < 0) {
        ht_fail(err, c ? ht_err_from_errno(errno) : HT_ENOMEM, "%s", c ? strerror(errno) : ht_err_text(HT_ENOMEM));
        ht_free(c);
        return NULL;
    }
    int rc = spawn(&c->pid, cfg->argv, fds[1]);
    close(fds[1]);
    if (rc != 0 || fcntl(fds[0], F_SETFL, O_NONBLOCK) < 0) {
        ht_fail(err, HT_EIO, "%s cannot be started: %s", cfg->argv[0], strerror(rc ? rc : errno));
        if (rc == 0) {
            kill_it(c);
            waitpid(c->pid, NULL, 0);
        }
        close(fds[0]);
        ht_free(c);
        return NULL;
    }
    c->loop = loop;
    c->ops = ops;
    c->ctx = ctx;
    c->fd = fds[0];
    c->into = cfg->into;
    c->cap = cfg->cap;
    c->limit_ms = cfg->limit_ms;
    c->look_ms = 1;
    ev_io_init(&c->io, on_output, c->fd, EV_READ);
    c->io.data = c;
    io_watch(loop, &c->io);
    io_timer_init(loop, &c->look, look);
    io_timer_init(loop, &c->limit, too_late);
    io_timer_set(&c->look, c->look_ms);
    io_timer_set(&c->limit, c->limit_ms);
    return c;
}

void io_child_cancel(struct io_child **cp) {
    struct io_child *c = *cp;
    *cp = NULL;
    if (!c)
        return;
    kill_it(c);
    for (int i = 0; i < REAP_MS && waitpid(c->pid, NULL, WNOHANG) == 0; i++)
        poll(NULL, 0, 1); /* and no longer: it may be stuck in the kernel */
    child_free(c);
}
