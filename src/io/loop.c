#include "base/clock.h"
#include "base/mem.h"
#include "io/io_priv.h"

#include <limits.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <sys/timerfd.h>
#include <unistd.h>

/* Blocks kept when nobody uses them: one that is read into, one that is sent from, and one to spare. */
#define BLOCKS_KEPT 3
#define BLOCKS_COOL_MS 1000
#define TASK_ROUNDS 16

static void poll_begins(struct ev_loop *ev) { (void)ev; }

static void poll_ended(struct ev_loop *ev) {
    struct io_loop *loop = ev_userdata(ev);
    loop->now_us = ht_now_us();
}

static void on_wake(struct ev_loop *ev, ev_timer *w, int revents) {
    (void)w;
    (void)revents;
    struct io_loop *loop = ev_userdata(ev);
    loop->wake_at = 0;
}

static void on_alarm(struct ev_loop *ev, ev_io *w, int revents) {
    (void)revents;
    struct io_loop *loop = ev_userdata(ev);
    uint64_t times;
    if (read(w->fd, &times, sizeof times) > 0)
        loop->alarm_at = 0;
}

static void on_probe(struct ev_loop *ev, ev_io *w, int revents) {
    (void)ev;
    (void)w;
    (void)revents;
}

/*
 * libev does not tell its epoll descriptor. We let it watch a descriptor of ours and look for the epoll set that this
 * one can be removed from: there is exactly one, whatever other threads open meanwhile.
 */
static int find_epoll(struct ev_loop *ev) {
    if (ev_backend(ev) != EVBACKEND_EPOLL)
        return -1;
    int probe = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (probe < 0)
        return -1;
    ev_io w;
    ev_io_init(&w, on_probe, probe, EV_READ);
    ev_io_start(ev, &w);
    ev_run(ev, EVRUN_NOWAIT);
    struct rlimit lim;
    int top = getrlimit(RLIMIT_NOFILE, &lim) == 0 && lim.rlim_cur < 65536 ? (int)lim.rlim_cur : 65536;
    int found = -1;
    for (int fd = 0; fd < top && found < 0; fd++)
        if (fd != probe && epoll_ctl(fd, EPOLL_CTL_DEL, probe, NULL) == 0)
            found = fd;
    ev_io_stop(ev, &w);
    close(probe);
    return found;
}

static void on_cool(struct io_timer *t) {
    if (ht_pool_cool(&t->loop->blocks))
        io_timer_set(t, BLOCKS_COOL_MS);
}

struct io_loop *io_loop_create(void) {
    struct io_loop *loop = ht_calloc(1, sizeof *loop);
    if (!loop)
        return NULL;
    loop->alarm_fd = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
    loop->ev = loop->alarm_fd < 0 ? NULL : ev_loop_new(EVFLAG_NOENV | EVBACKEND_EPOLL);
    if (loop->alarm_fd >= 0 && !loop->ev)
        loop->ev = ev_loop_new(EVFLAG_NOENV | EVBACKEND_POLL);
    if (!loop->ev) {
        if (loop->alarm_fd >= 0)
            close(loop->alarm_fd);
        ht_free(loop);
        return NULL;
    }
    ev_set_userdata(loop->ev, loop);
    ev_set_loop_release_cb(loop->ev, poll_begins, poll_ended);
    loop->now_us = ht_now_us();
    ht_list_init(&loop->tasks);
    ht_list_init(&loop->again);
    ht_list_init(&loop->lingering);
    ht_list_init(&loop->lookups);
    ht_list_init(&loop->works);
    ht_list_init(&loop->inherited);
    ht_pool_init(&loop->blocks, IO_BLOCK, BLOCKS_KEPT);
    io_timer_init(loop, &loop->cool, on_cool);
    loop->fd = find_epoll(loop->ev);
    ev_io_init(&loop->alarm_io, on_alarm, loop->alarm_fd, EV_READ);
    ev_io_start(loop->ev, &loop->alarm_io);
    ev_run(loop->ev, EVRUN_NOWAIT); /* the kernel must know the alarm before anybody polls */
    ev_timer_init(&loop->wake, on_wake, 0., 0.);
    return loop;
}

unsigned io_loop_fds(const struct io_loop *loop) { return loop->n_fds; }

void io_loop_destroy(struct io_loop **lp) {
    struct io_loop *loop = *lp;
    if (!loop)
        return;
    *lp = NULL;
    io_linger_close_all(loop);
    io_inherit_drop(loop, NULL, NULL);
    io_lookup_drop_all(loop);
    io_work_drop_all(loop);
    ev_io_stop(loop->ev, &loop->alarm_io);
    ev_timer_stop(loop->ev, &loop->wake);
    ev_loop_destroy(loop->ev);
    close(loop->alarm_fd);
    ht_pool_drain(&loop->blocks);
    ht_free(loop);
}

static void set_alarm(struct io_loop *loop, uint64_t at_us) {
    if (loop->alarm_at == at_us)
        return;
    loop->alarm_at = at_us;
    struct itimerspec when = {
        .it_value = {.tv_sec = (time_t)(at_us / 1000000u), .tv_nsec = (long)(at_us % 1000000u) * 1000}};
    timerfd_settime(loop->alarm_fd, TFD_TIMER_ABSTIME, &when, NULL);
}

void io_loop_wake(struct io_loop *loop) {
    if (loop->embedded && !loop->in_turn)
        set_alarm(loop, 1); /* long past on the monotonic clock: readable at once */
}

void io_watch(struct io_loop *loop, ev_io *w) {
    ev_io_start(loop->ev, w);
    loop->dirty = true;
    io_loop_wake(loop);
}

void io_unwatch(struct io_loop *loop, ev_io *w) {
    if (!ev_is_active(w))
        return;
    ev_io_stop(loop->ev, w);
    loop->dirty = true;
}

static void run_tasks(struct io_loop *loop) {
    for (int round = 0; round < TASK_ROUNDS && !ht_list_empty(&loop->tasks); round++) {
        struct ht_list batch, *n;
        ht_list_init(&batch);
        ht_list_splice(&batch, &loop->tasks);
        while ((n = ht_list_pop_front(&batch))) {
            struct io_task *t = HT_LIST_ENTRY(n, struct io_task, node);
            t->run(t);
        }
    }
}

static void run_again(struct io_loop *loop) {
    struct ht_list batch, *n;
    ht_list_init(&batch);
    ht_list_splice(&batch, &loop->again);
    while ((n = ht_list_pop_front(&batch))) {
        struct io_conn *c = HT_LIST_ENTRY(n, struct io_conn_more, again)->conn;
        loop->current = c;
        if (c->reading && c->ops && !(c->more->share && io_share_holds(c)))
            c->ops->readable(c->ctx);
        if (loop->current == c)
            io_conn_check_again(c);
        loop->current = NULL;
    }
}

/* Lets libev wait no longer than until the first timer. False: it is due already. */
static bool arm_wake(struct io_loop *loop) {
    uint64_t at = loop->timers ? loop->timers->key : 0;
    if (at && at <= ht_now_us())
        return false;
    if (at == loop->wake_at)
        return true;
    loop->wake_at = at;
    ev_timer_stop(loop->ev, &loop->wake);
    if (at) {
        /* libev counts from when its last poll returned, which is when now_us was taken. */
        ev_timer_set(&loop->wake, at > loop->now_us ? (double)(at - loop->now_us) / 1e6 : 0., 0.);
        ev_timer_start(loop->ev, &loop->wake);
    }
    return true;
}

void io_loop_turn(struct io_loop *loop, bool wait) {
    loop->in_turn = true;
    wait = wait && ht_list_empty(&loop->tasks) && ht_list_empty(&loop->again) && arm_wake(loop);
    loop->dirty = false;
    ev_run(loop->ev, wait ? EVRUN_ONCE : EVRUN_NOWAIT);
    io_timers_run(loop);
    run_again(loop);
    run_tasks(loop);
    uint64_t took = ht_now_us() - loop->now_us;
    loop->lag_us = took > loop->lag_us ? took : loop->lag_us;
    loop->in_turn = false;
    if (!loop->embedded)
        return;
    if (loop->dirty || !ht_list_empty(&loop->tasks) || !ht_list_empty(&loop->again))
        set_alarm(loop, 1);
    else
        set_alarm(loop, loop->timers ? loop->timers->key : 0);
}

void io_loop_run(struct io_loop *loop) {
    for (loop->broken = false; !loop->broken;)
        io_loop_turn(loop, true);
}

void io_loop_break(struct io_loop *loop) { loop->broken = true; }

uint64_t io_now_ms(struct io_loop *loop) { return loop->now_us / 1000u; }

int io_loop_fd(struct io_loop *loop) {
    if (!loop->embedded) {
        loop->embedded = true;
        io_loop_wake(loop); /* not again: who asks before each poll would never sleep */
    }
    return loop->fd;
}

int io_loop_timeout_ms(struct io_loop *loop) {
    if (!ht_list_empty(&loop->tasks) || !ht_list_empty(&loop->again))
        return 0;
    if (!loop->timers)
        return -1;
    uint64_t at = loop->timers->key, now = ht_now_us();
    if (at <= now)
        return 0;
    uint64_t ms = (at - now + 999) / 1000; /* not too early: that would be a turn for nothing */
    return ms < INT_MAX ? (int)ms : INT_MAX;
}

uint64_t io_loop_take_lag_us(struct io_loop *loop) {
    uint64_t lag = loop->lag_us;
    loop->lag_us = 0;
    return lag;
}

struct ht_pool *io_loop_blocks(struct io_loop *loop) {
    return &loop->blocks;
}

void io_loop_put_block(struct io_loop *loop, void *block) {
    ht_pool_put_warm(&loop->blocks, block);
    if (loop->blocks.warm && !io_timer_active(&loop->cool))
        io_timer_set(&loop->cool, BLOCKS_COOL_MS);
}

void io_task_init(struct io_task *t, void (*run)(struct io_task *)) {
    ht_list_init(&t->node);
    t->run = run;
}

void io_task_add(struct io_loop *loop, struct io_task *t) {
    if (ht_list_linked(&t->node))
        return;
    ht_list_push_back(&loop->tasks, &t->node);
    io_loop_wake(loop);
}

void io_task_cancel(struct io_task *t) { ht_list_remove(&t->node); }
