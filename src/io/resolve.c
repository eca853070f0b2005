/*
 * Resolves names on threads, because getaddrinfo() blocks. Simultaneous requests for a name share one lookup, and its
 * result is kept for a few seconds. The number of threads is small, whatever visitors do (hardening case 34).
 *
 * A thread shares no memory with the loop. It has one end of a socket pair; closing the other end abandons the thread.
 * A thread cannot be stopped: while a name server does not answer, it runs until the resolver gives up. An abandoned
 * lookup makes room for the next one, until there are IO_RESOLVER_THREADS threads.
 */
#include "base/mem.h"
#include "io/io_priv.h"

#include <errno.h>
#include <netdb.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <sys/socket.h>
#include <unistd.h>

#define HOST_MAX 256    /* RFC 1035 2.3.4: at most 255 octets */
#define GOOD_MS 5000    /* how long addresses are good */
#define BAD_MS 1000     /* how long a failure is */
#define MAX_LOOKUPS 256 /* names asked for or remembered; more wait for no place, they fail */

enum lookup_state { LOOKUP_QUEUED, LOOKUP_RUNNING, LOOKUP_DONE };

struct io_lookup {
    struct ht_list node; /* in the loop's, in the order they came */
    struct io_loop *loop;
    enum lookup_state state;
    struct ht_list waits; /* struct io_lookup_wait */
    int fd;               /* LOOKUP_RUNNING: our end; else -1 */
    ev_io io;
    uint64_t until_ms; /* LOOKUP_DONE */
    bool telling;      /* those who waited are being told */
    struct io_resolved result;
    char host[];
};

/* ---- the thread ---- */

static void answer(const char *host, struct io_resolved *r) {
    struct addrinfo hints = {.ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM, .ai_flags = AI_ADDRCONFIG};
    struct addrinfo *list = NULL;
    r->gai = getaddrinfo(host, NULL, &hints, &list);
    if (r->gai != 0) {
        r->gai = r->gai == EAI_SYSTEM ? EAI_FAIL : r->gai;
        return;
    }
    for (struct addrinfo *a = list; a && r->n < IO_RESOLVE_MAX; a = a->ai_next) {
        if (a->ai_addrlen > sizeof r->addr[0].ss)
            continue;
        memcpy(&r->addr[r->n].ss, a->ai_addr, a->ai_addrlen);
        r->addr[r->n++].len = a->ai_addrlen;
    }
    freeaddrinfo(list);
}

static void *worker(void *arg) {
    int fd = (int)(intptr_t)arg;
    char host[HOST_MAX];
    struct io_resolved r = {0};
    if (recv(fd, host, sizeof host, 0) == (ssize_t)sizeof host) {
        answer(host, &r);
        /* Nobody listens any more when the loop is gone: MSG_NOSIGNAL, and the result does not matter. */
        if (send(fd, &r, sizeof r, MSG_NOSIGNAL) < 0)
            errno = 0;
    }
    close(fd);
    return NULL;
}

static int start_thread(int fd) {
    pthread_attr_t attr;
    pthread_t thread;
    if (pthread_attr_init(&attr) != 0)
        return HT_ENOMEM;
    /* Signals are for the loop's thread alone. */
    sigset_t all, old;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &old);
    pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
    int rc = pthread_create(&thread, &attr, worker, (void *)(intptr_t)fd) == 0 ? HT_OK : HT_ENOMEM;
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    pthread_attr_destroy(&attr);
    return rc;
}

/* A thread that has the question; returns our end of its pair, or a negative error. */
static int ask(const char *host) {
    char question[HOST_MAX] = "";
    int fd[2];
    memcpy(question, host, strlen(host));
    /* SEQPACKET keeps question and answer whole. */
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, fd) != 0)
        return ht_err_from_errno(errno);
    int rc = send(fd[0], question, sizeof question, MSG_NOSIGNAL) == (ssize_t)sizeof question ? HT_OK : HT_EIO;
    if (rc == HT_OK)
        rc = start_thread(fd[1]);
    if (rc == HT_OK)
        return fd[0];
    close(fd[0]);
    close(fd[1]);
    return rc;
}

/* ---- questions ---- */

static bool is_waited_for(const struct io_lookup *q) { return !ht_list_empty(&q->waits); }

static void lookup_free(struct io_lookup *q) {
    if (q->fd >= 0) {
        io_unwatch(q->loop, &q->io);
        close(q->fd);
        q->loop->n_lookup_threads--;
    }
    ht_list_remove(&q->node);
    q->loop->n_lookups--;
    ht_free(q);
}

static int run_next(struct io_loop *loop);

/* Tells everybody who waits. Any of them may ask again, or cancel another. */
static void finish(struct io_lookup *q) {
    struct io_loop *loop = q->loop;
    if (q->fd >= 0) {
        io_unwatch(loop, &q->io);
        close(q->fd);
        q->fd = -1;
        loop->n_lookup_threads--;
    }
    q->state = LOOKUP_DONE;
    q->until_ms = io_now_ms(loop) + (q->result.gai == 0 && q->result.n > 0 ? GOOD_MS : BAD_MS);
    (void)run_next(loop); /* without descriptors those in the row have their timeouts */
    q->telling = true;
    struct ht_list *it;
    while ((it = ht_list_pop_front(&q->waits)) != NULL) {
        struct io_lookup_wait *w = HT_LIST_ENTRY(it, struct io_lookup_wait, node);
        w->lookup = NULL;
        w->done(w, &q->result);
    }
    q->telling = false;
}

static void on_answer(struct ev_loop *ev, ev_io *w, int revents) {
    (void)ev, (void)revents;
    struct io_lookup *q = w->data;
    ssize_t n = recv(q->fd, &q->result, sizeof q->result, MSG_DONTWAIT);
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (n != (ssize_t)sizeof q->result || q->result.n > IO_RESOLVE_MAX)
        q->result = (struct io_resolved){.gai = EAI_FAIL};
    finish(q);
}

/* Starts what waits, as far as there are places: those whose question nobody waits for any more hold none. */
static int run_next(struct io_loop *loop) {
    unsigned places = 0;
    HT_LIST_FOR (it, &loop->lookups) {
        struct io_lookup *q = HT_LIST_ENTRY(it, struct io_lookup, node);
        places += q->state == LOOKUP_RUNNING && is_waited_for(q);
    }
    HT_LIST_FOR (it, &loop->lookups) {
        struct io_lookup *q = HT_LIST_ENTRY(it, struct io_lookup, node);
        if (places >= IO_RESOLVERS || loop->n_lookup_threads >= IO_RESOLVER_THREADS)
            return HT_OK;
        if (q->state != LOOKUP_QUEUED)
            continue;
        int fd = ask(q->host);
        if (fd < 0)
            return loop->n_lookup_threads ? HT_OK : fd; /* when one of those ends it is tried again */
        q->state = LOOKUP_RUNNING;
        q->fd = fd;
        ev_io_init(&q->io, on_answer, fd, EV_READ);
        q->io.data = q;
        io_watch(loop, &q->io);
        loop->n_lookup_threads++;
        places++;
    }
    return HT_OK;
}

/* Drops results that are too old, or all of them when there are too many look-ups. */
static void forget_old(struct io_loop *loop) {
    uint64_t now = io_now_ms(loop);
    bool full = loop->n_lookups >= MAX_LOOKUPS;
    HT_LIST_FOR_SAFE (it, &loop->lookups) {
        struct io_lookup *q = HT_LIST_ENTRY(it, struct io_lookup, node);
        if (q->state == LOOKUP_DONE && !q->telling && (full || q->until_ms <= now))
            lookup_free(q);
    }
}

static struct io_lookup *find(struct io_loop *loop, const char *host) {
    HT_LIST_FOR (it, &loop->lookups) {
        struct io_lookup *q = HT_LIST_ENTRY(it, struct io_lookup, node);
        if (strcmp(q->host, host) == 0)
            return q;
    }
    return NULL;
}

int io_lookup(struct io_loop *loop, const char *host, struct io_lookup_wait *w, struct io_resolved *out) {
    size_t n = strlen(host);
    w->lookup = NULL;
    if (n >= HOST_MAX)
        return HT_ERESOLVE;
    forget_old(loop);
    struct io_lookup *q = find(loop, host);
    if (q && q->state == LOOKUP_DONE) {
        *out = q->result;
        return HT_OK;
    }
    if (!q) {
        if (loop->n_lookups >= MAX_LOOKUPS)
            return HT_ELIMIT;
        q = ht_calloc(1, sizeof *q + n + 1);
        if (!q)
            return HT_ENOMEM;
        memcpy(q->host, host, n);
        q->loop = loop;
        q->fd = -1;
        ht_list_init(&q->node);
        ht_list_init(&q->waits);
        ht_list_push_back(&loop->lookups, &q->node);
        loop->n_lookups++;
    }
    ht_list_init(&w->node);
    ht_list_push_back(&q->waits, &w->node);
    w->lookup = q;
    int rc = run_next(loop);
    if (rc == HT_OK || q->state != LOOKUP_QUEUED)
        return HT_EAGAIN;
    io_lookup_cancel(w);
    return rc;
}

void io_lookup_cancel(struct io_lookup_wait *w) {
    struct io_lookup *q = w->lookup;
    if (!q)
        return;
    w->lookup = NULL;
    ht_list_remove(&w->node);
    if (is_waited_for(q))
        return;
    struct io_loop *loop = q->loop;
    if (q->state == LOOKUP_QUEUED)
        lookup_free(q);
    else
        (void)run_next(loop); /* its thread goes on, and its answer may yet serve somebody */
}

void io_lookup_drop_all(struct io_loop *loop) {
    HT_LIST_FOR_SAFE (it, &loop->lookups)
        lookup_free(HT_LIST_ENTRY(it, struct io_lookup, node));
}

/* ---- for who wants nothing but the addresses ---- */

struct io_resolve {
    struct io_lookup_wait wait;
    struct io_task known; /* the result was there already */
    struct io_resolved result;
    void (*done)(void *ctx, const struct io_addr *addr, unsigned n, const char *why);
    void *ctx;
};

static void tell(struct io_resolve *r, const struct io_resolved *result) {
    struct io_resolved its = *result;
    void (*done)(void *, const struct io_addr *, unsigned, const char *) = r->done;
    void *ctx = r->ctx;
    ht_free(r);
    done(ctx, its.addr, its.gai == 0 ? its.n : 0, its.gai ? gai_strerror(its.gai) : its.n ? NULL : "it has no address");
}

static void on_resolved(struct io_lookup_wait *w, const struct io_resolved *result) {
    tell(ht_container_of(w, struct io_resolve, wait), result);
}

static void on_known(struct io_task *t) {
    struct io_resolve *r = ht_container_of(t, struct io_resolve, known);
    tell(r, &r->result);
}

struct io_resolve *io_resolve_start(struct io_loop *loop, const char *host,
                                    void (*done)(void *ctx, const struct io_addr *addr, unsigned n, const char *why),
                                    void *ctx) {
    struct io_resolve *r = ht_calloc(1, sizeof *r);
    if (!r)
        return NULL;
    r->done = done;
    r->ctx = ctx;
    r->wait.done = on_resolved;
    io_task_init(&r->known, on_known);
    int rc = io_lookup(loop, host, &r->wait, &r->result);
    if (rc == HT_OK)
        io_task_add(loop, &r->known);
    if (rc == HT_OK || rc == HT_EAGAIN)
        return r;
    ht_free(r);
    return NULL;
}

void io_resolve_cancel(struct io_resolve **rp) {
    struct io_resolve *r = *rp;
    *rp = NULL;
    if (!r)
        return;
    io_task_cancel(&r->known);
    io_lookup_cancel(&r->wait);
    ht_free(r);
}
