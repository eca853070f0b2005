#include "base/clock.h"
#include "io/io_priv.h"

#include <stdlib.h>
#include <sys/timerfd.h>
#include <unistd.h>

#define LOOK_MS 5000
#define JUMP_MS 2000 /* less than that is a clock that is being adjusted */

_Static_assert(sizeof(ev_io) <= sizeof((struct io_wake *)0)->impl, "libev's watcher has room there");

static ev_io *watcher(struct io_wake *w) { return (ev_io *)(void *)w->impl; }

static void look(struct io_timer *timer) {
    struct io_wake *w = ht_container_of(timer, struct io_wake, timer);
    int64_t offset = ht_wall_offset_ms(), by = llabs(offset - w->offset_ms);
    w->offset_ms = offset;
    io_timer_set(timer, LOOK_MS);
    if (by >= JUMP_MS)
        w->woke(w);
}

/* A timer for the last moment that there is: it ends only because the clock is set. False: the system has none. */
static bool arm(int fd) {
    const struct itimerspec never = {.it_value = {.tv_sec = sizeof(time_t) > 4 ? INT64_MAX / 1000000000 : INT32_MAX}};
    return timerfd_settime(fd, TFD_TIMER_ABSTIME | TFD_TIMER_CANCEL_ON_SET, &never, NULL) == 0;
}

/* The kernel also says so at the end of a sleep. */
static void clock_was_set(struct ev_loop *ev, ev_io *io, int events) {
    (void)ev, (void)events;
    struct io_wake *w = io->data;
    uint64_t times;
    ssize_t n = read(io->fd, &times, sizeof times); /* fails with ECANCELED */
    (void)n;
    if (!arm(io->fd))
        io_unwatch(w->timer.loop, io);
    look(&w->timer);
}

void io_wake_start(struct io_loop *loop, struct io_wake *w, void (*woke)(struct io_wake *)) {
    io_timer_init(loop, &w->timer, look);
    w->woke = woke;
    w->offset_ms = ht_wall_offset_ms();
    io_timer_set(&w->timer, LOOK_MS);
    int fd = timerfd_create(CLOCK_REALTIME, TFD_NONBLOCK | TFD_CLOEXEC);
    ev_io_init(watcher(w), clock_was_set, fd, EV_READ);
    watcher(w)->data = w;
    if (fd >= 0 && arm(fd))
        io_watch(loop, watcher(w));
}

void io_wake_stop(struct io_wake *w) {
    if (!w->timer.fire)
        return;
    io_timer_stop(&w->timer);
    io_unwatch(w->timer.loop, watcher(w));
    if (watcher(w)->fd >= 0)
        close(watcher(w)->fd);
    watcher(w)->fd = -1;
}
