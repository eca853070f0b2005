/*
 * A tunnel with a thread of its own. Only that thread uses the tunnel while it runs. It carries out calls of other
 * threads between two callbacks, and those threads wait for the result.
 */
#include "driver/driver.h"

#include <signal.h>

struct driver_call {
    struct driver_call *next;
    int (*run)(struct ht_tunnel *t, void *arg, struct ht_errmsg *err);
    void *arg;
    struct ht_errmsg err;
    int rc;
    bool done;
};

/* Carries out the waiting calls. The lock is held, and the calling thread may use the tunnel. */
static void run_calls(struct ht_tunnel *t) {
    struct driver_call *c;
    while ((c = t->thread.first)) {
        t->thread.first = c->next;
        pthread_mutex_unlock(&t->thread.lock);
        c->rc = c->run(t, c->arg, &c->err);
        pthread_mutex_lock(&t->thread.lock);
        c->done = true; /* from now on the call belongs to its caller again */
        pthread_cond_broadcast(&t->thread.done);
    }
}

void driver_thread_calls(struct ht_tunnel *t) {
    if (!t->thread.started)
        return;
    pthread_mutex_lock(&t->thread.lock);
    run_calls(t);
    pthread_mutex_unlock(&t->thread.lock);
}

bool driver_thread_is_ours(const struct ht_tunnel *t) {
    return !t->thread.started || pthread_equal(pthread_self(), t->thread.id);
}

int driver_thread_call(struct ht_tunnel *t, int (*run)(struct ht_tunnel *t, void *arg, struct ht_errmsg *err),
                       void *arg, struct ht_errmsg *err) {
    if (driver_thread_is_ours(t))
        return run(t, arg, err);
    struct driver_call c = {.run = run, .arg = arg};
    pthread_mutex_lock(&t->thread.lock);
    struct driver_call **last = &t->thread.first;
    while (*last)
        last = &(*last)->next;
    *last = &c;
    if (t->thread.over)
        run_calls(t);
    else
        driver_wake(t);
    while (!c.done)
        pthread_cond_wait(&t->thread.done, &t->thread.lock);
    pthread_mutex_unlock(&t->thread.lock);
    *err = c.err;
    return c.rc;
}

static void *thread_main(void *arg) {
    struct ht_tunnel *t = arg;
    pthread_mutex_lock(&t->thread.lock); /* waits until ht_tunnel_start() has stored this thread's id */
    pthread_mutex_unlock(&t->thread.lock);
    int rc = ht_tunnel_run(t);
    driver_abandon(t); /* connections and timers end with the thread that uses them */
    pthread_mutex_lock(&t->thread.lock);
    t->thread.rc = rc;
    t->thread.over = true;
    run_calls(t);
    pthread_mutex_unlock(&t->thread.lock);
    return NULL;
}

int driver_thread_start(struct ht_tunnel *t, struct ht_errmsg *err) {
    sigset_t all, before;
    if (t->thread.started)
        return ht_fail(err, HT_TUNNEL_ESTATE, "the tunnel has a thread already");
    pthread_mutex_init(&t->thread.lock, NULL);
    pthread_cond_init(&t->thread.done, NULL);
    /* Signals are for the program's own threads. */
    sigfillset(&all);
    pthread_sigmask(SIG_BLOCK, &all, &before);
    pthread_mutex_lock(&t->thread.lock);
    int rc = pthread_create(&t->thread.id, NULL, thread_main, t);
    t->thread.started = t->thread.joinable = rc == 0;
    pthread_mutex_unlock(&t->thread.lock);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (rc == 0)
        return HT_TUNNEL_OK;
    pthread_cond_destroy(&t->thread.done);
    pthread_mutex_destroy(&t->thread.lock);
    return ht_fail(err, HT_TUNNEL_ENOMEM, "no thread could be started");
}

int driver_thread_join(struct ht_tunnel *t, struct ht_errmsg *err) {
    if (!t->thread.joinable)
        return ht_fail(err, HT_TUNNEL_ESTATE, "the tunnel has no thread");
    if (pthread_equal(pthread_self(), t->thread.id))
        return ht_fail(err, HT_TUNNEL_ESTATE, "a callback cannot wait for its own thread");
    pthread_join(t->thread.id, NULL);
    t->thread.joinable = false;
    return t->thread.rc;
}

void driver_thread_free(struct ht_tunnel *t) {
    struct ht_errmsg err;
    if (!t->thread.started)
        return;
    if (t->thread.joinable) {
        ht_tunnel_stop(t);
        (void)driver_thread_join(t, &err);
    }
    pthread_cond_destroy(&t->thread.done);
    pthread_mutex_destroy(&t->thread.lock);
    t->thread.started = false;
}
