#include "io/io_priv.h"

_Static_assert(sizeof(ev_io) <= sizeof(((struct io_watcher *)0)->impl), "an ev_io fits");

static ev_io *of(struct io_watcher *w) { return (ev_io *)(void *)w->impl; }

static void on_ready(struct ev_loop *ev, ev_io *io, int revents) {
    (void)ev, (void)revents;
    struct io_watcher *w = io->data;
    w->ready(w);
}

void io_watcher_start(struct io_loop *loop, struct io_watcher *w, int fd, void (*ready)(struct io_watcher *)) {
    *w = (struct io_watcher){.ready = ready, .loop = loop};
    ev_io_init(of(w), on_ready, fd, EV_READ);
    of(w)->data = w;
    io_watch(loop, of(w));
}

void io_watcher_writes(struct io_watcher *w, bool too) {
    int fd = of(w)->fd;
    io_unwatch(w->loop, of(w));
    ev_io_set(of(w), fd, too ? EV_READ | EV_WRITE : EV_READ);
    io_watch(w->loop, of(w));
}

void io_watcher_stop(struct io_watcher *w) {
    if (w->loop)
        io_unwatch(w->loop, of(w));
    w->loop = NULL;
}
