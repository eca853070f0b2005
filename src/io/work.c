/*
 * Work that takes long, on threads of its own. At most IO_WORKERS of them run at a time; what is more waits in the
 * order it came. A thread shares no memory with the loop: it has one end of a socket pair, through which the work comes
 * and the result goes back. A thread cannot be stopped: cancelled work that runs keeps its place until it is done.
 */
#include "base/mem.h"
#include "io/io_priv.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <sys/socket.h>
#include <unistd.h>

struct io_work {
    struct ht_list node; /* in the loop's, in the order they came */
    struct io_loop *loop;
    void (*done)(void *ctx, const void *out); /* NULL: it was cancelled */
    void *ctx;
    int fd; /* our end; -1: it waits */
    ev_io io;
    struct io_task failed; /* it could not be started, which is told at the end of the turn */
    io_work_fn *run;
    size_t n;
    uint8_t in[IO_WORK_MAX];
};

/* What goes to the thread. */
struct order {
    io_work_fn *run;
    size_t n;
    uint8_t in[IO_WORK_MAX];
};

static void *worker(void *arg) {
    int fd = (int)(intptr_t)arg;
    struct order o;
    uint8_t out[IO_WORK_RESULT] = {0};
    if (recv(fd, &o, sizeof o, 0) == (ssize_t)sizeof o) {
        o.run(o.in, o.n, out);
        if (send(fd, out, sizeof out, MSG_NOSIGNAL) < 0) /* nobody listens any more */
            errno = 0;
    }
    explicit_bzero(&o, sizeof o);
    close(fd);
    return NULL;
}

static bool start_thread(int fd) {
    pthread_attr_t attr;
    pthread_t thread;
    sigset_t all, old;
    if (pthread_attr_init(&attr) != 0)
        return false;
    sigfillset(&all); /* signals are for the loop's thread alone */
    pthread_sigmask(SIG_SETMASK, &all, &old);
    pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
    bool ok = pthread_create(&thread, &attr, worker, (void *)(intptr_t)fd) == 0;
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    pthread_attr_destroy(&attr);
    return ok;
}

static void work_free(struct io_work *w) {
    if (w->fd >= 0) {
        io_unwatch(w->loop, &w->io);
        close(w->fd);
        w->loop->n_working--;
    }
    ht_list_remove(&w->node);
    io_task_cancel(&w->failed);
    explicit_bzero(w->in, sizeof w->in);
    ht_free(w);
}

static void run_next(struct io_loop *loop);

static void finish(struct io_work *w, const void *out) {
    struct io_loop *loop = w->loop;
    void (*done)(void *, const void *) = w->done;
    void *ctx = w->ctx;
    work_free(w);
    run_next(loop);
    if (done)
        done(ctx, out);
}

static void on_failed(struct io_task *t) { finish(ht_container_of(t, struct io_work, failed), NULL); }

static void on_result(struct ev_loop *ev, ev_io *io, int revents) {
    struct io_work *w = io->data;
    uint8_t out[IO_WORK_RESULT];
    (void)ev, (void)revents;
    ssize_t n = recv(w->fd, out, sizeof out, MSG_DONTWAIT);
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    finish(w, n == (ssize_t)sizeof out ? out : NULL);
}

static bool start(struct io_work *w) {
    struct order o = {.run = w->run, .n = w->n};
    int fd[2];
    memcpy(o.in, w->in, w->n);
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, fd) != 0)
        return false;
    bool ok = send(fd[0], &o, sizeof o, MSG_NOSIGNAL) == (ssize_t)sizeof o && start_thread(fd[1]);
    explicit_bzero(&o, sizeof o);
    if (!ok) {
        close(fd[0]);
        close(fd[1]);
        return false;
    }
    w->fd = fd[0];
    w->loop->n_working++;
    ev_io_init(&w->io, on_result, fd[0], EV_READ);
    w->io.data = w;
    io_watch(w->loop, &w->io);
    return true;
}

static void run_next(struct io_loop *loop) {
    HT_LIST_FOR (it, &loop->works) {
        struct io_work *w = HT_LIST_ENTRY(it, struct io_work, node);
        if (loop->n_working >= IO_WORKERS)
            return;
        if (w->fd < 0 && !start(w))
            io_task_add(loop, &w->failed);
    }
}

struct io_work *io_work_start(struct io_loop *loop, io_work_fn *run, const void *in, size_t n,
                              void (*done)(void *ctx, const void *out), void *ctx) {
    struct io_work *w = n <= IO_WORK_MAX ? ht_calloc(1, sizeof *w) : NULL;
    if (!w)
        return NULL;
    w->loop = loop;
    w->run = run;
    w->n = n;
    memcpy(w->in, in, n);
    w->done = done;
    w->ctx = ctx;
    w->fd = -1;
    io_task_init(&w->failed, on_failed);
    ht_list_init(&w->node);
    ht_list_push_back(&loop->works, &w->node);
    run_next(loop);
    return w;
}

void io_work_cancel(struct io_work **wp) {
    struct io_work *w = *wp;
    *wp = NULL;
    if (!w)
        return;
    w->done = NULL;
    if (w->fd < 0)
        work_free(w);
}

void io_work_drop_all(struct io_loop *loop) {
    HT_LIST_FOR_SAFE (it, &loop->works)
        work_free(HT_LIST_ENTRY(it, struct io_work, node));
}
