/*
 * Timers, in a pairing heap (Fredman, Sedgewick, Sleator, Tarjan 1986). The heap's pointers are in the timers, so that
 * setting a timer cannot fail. An embedding loop needs to know when the next timer fires; libev does not tell that, so
 * its timers are not used. Moving a timer later, as every byte does to an idle timeout, only writes `due`: the heap
 * is sorted again when the old time has come.
 */
#include "base/clock.h"
#include "io/io_priv.h"

#include <signal.h>

static struct io_timer *meld(struct io_timer *a, struct io_timer *b) {
    if (!a || !b)
        return a ? a : b;
    if (b->key < a->key) {
        struct io_timer *t = a;
        a = b;
        b = t;
    }
    b->prev = a;
    b->next = a->child;
    if (a->child)
        a->child->prev = b;
    a->child = b;
    return a;
}

/* Melds a list of siblings: in pairs from the left, then the pairs from the right. */
static struct io_timer *meld_pairs(struct io_timer *first) {
    struct io_timer *pairs = NULL, *root = NULL;
    while (first) {
        struct io_timer *a = first, *b = a->next;
        first = b ? b->next : NULL;
        a->next = a->prev = NULL;
        if (b)
            b->next = b->prev = NULL;
        a = meld(a, b);
        a->next = pairs;
        pairs = a;
    }
    while (pairs) {
        struct io_timer *next = pairs->next;
        pairs->next = NULL;
        root = meld(root, pairs);
        pairs = next;
    }
    return root;
}

static void heap_insert(struct io_timer *t) {
    t->key = t->due;
    t->child = t->next = t->prev = NULL;
    t->loop->timers = meld(t->loop->timers, t);
}

static void heap_remove(struct io_timer *t) {
    struct io_timer *rest = meld_pairs(t->child);
    if (t == t->loop->timers) {
        t->loop->timers = rest;
    } else {
        if (t->prev->child == t)
            t->prev->child = t->next;
        else
            t->prev->next = t->next;
        if (t->next)
            t->next->prev = t->prev;
        t->loop->timers = meld(t->loop->timers, rest);
    }
    t->child = t->next = t->prev = NULL;
    t->key = 0;
}

void io_timer_init(struct io_loop *loop, struct io_timer *t, void (*fire)(struct io_timer *)) {
    *t = (struct io_timer){.fire = fire, .loop = loop};
}

void io_timer_set(struct io_timer *t, uint64_t after_ms) {
    /* Not the turn's time: a turn that took long must not make the timer early. */
    uint64_t now = ht_now_us();
    t->due = after_ms < (UINT64_MAX - now) / 1000u ? now + after_ms * 1000u : UINT64_MAX;
    if (t->key && t->due >= t->key)
        return;
    if (t->key)
        heap_remove(t);
    heap_insert(t);
    if (t->loop->timers == t)
        io_loop_wake(t->loop);
}

void io_timer_stop(struct io_timer *t) {
    if (t->key)
        heap_remove(t);
}

bool io_timer_active(const struct io_timer *t) { return t->key != 0; }

void io_timers_run(struct io_loop *loop) {
    /* One set by a callback is due later than this turn began, so this ends. */
    uint64_t now = loop->now_us;
    while (loop->timers && loop->timers->key <= now) {
        struct io_timer *t = loop->timers;
        heap_remove(t);
        if (t->due > now)
            heap_insert(t);
        else
            t->fire(t);
    }
}

/* ---- signals ---- */

_Static_assert(sizeof(ev_signal) <= sizeof(((struct io_signal *)0)->impl), "an ev_signal fits");

static void on_signal(struct ev_loop *ev, ev_signal *w, int revents) {
    (void)ev;
    (void)revents;
    struct io_signal *s = w->data;
    s->fire(s, w->signum);
}

void io_signal_start(struct io_loop *loop, struct io_signal *s, int signo, void (*fire)(struct io_signal *, int)) {
    struct sigaction before;
    *s = (struct io_signal){.fire = fire, .loop = loop};
    s->ignored = sigaction(signo, NULL, &before) == 0 && before.sa_handler == SIG_IGN;
    ev_signal *w = (ev_signal *)(void *)s->impl;
    ev_signal_init(w, on_signal, signo);
    w->data = s;
    ev_signal_start(loop->ev, w);
    loop->dirty = true;
    io_loop_wake(loop);
}

/* libev sets the default action, which would end the process. A blocked signal waits until it is ignored, and is gone.
 */
void io_signal_stop(struct io_signal *s) {
    ev_signal *w = (ev_signal *)(void *)s->impl;
    struct sigaction after;
    sigset_t set, old;
    if (!s->loop)
        return;
    sigemptyset(&set);
    sigaddset(&set, w->signum);
    pthread_sigmask(SIG_BLOCK, &set, &old);
    ev_signal_stop(s->loop->ev, w);
    if (s->ignored && sigaction(w->signum, NULL, &after) == 0 && after.sa_handler == SIG_DFL)
        signal(w->signum, SIG_IGN);
    pthread_sigmask(SIG_SETMASK, &old, NULL);
}

unsigned io_end_request(struct io_end_requests *r) {
    uint64_t now = ht_now_ms();
    if (r->n == 1 && now - r->first_at_ms < IO_SAME_REQUEST_MS)
        return 0;
    if (r->n == 0)
        r->first_at_ms = now;
    return ++r->n;
}

void io_block_end_signals(void) {
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGINT);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGHUP);
    pthread_sigmask(SIG_BLOCK, &set, NULL);
}

void io_ignore_sigpipe(void) {
    struct sigaction sa = {.sa_handler = SIG_IGN};
    sigaction(SIGPIPE, &sa, NULL);
}

void io_ignore_signals(void) {
    static const int others[] = {SIGUSR1, SIGUSR2, SIGALRM, SIGVTALRM, SIGPROF, SIGIO, SIGPWR, SIGSTKFLT};
    io_ignore_sigpipe();
    for (size_t i = 0; i < HT_ARRAY_LEN(others); i++)
        signal(others[i], SIG_IGN);
    for (int signo = SIGRTMIN; signo <= SIGRTMAX; signo++)
        signal(signo, SIG_IGN);
}
