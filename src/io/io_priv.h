/* What the files of this room share. No other room includes ev.h. */
#ifndef HT_IO_IO_PRIV_H
#define HT_IO_IO_PRIV_H

#include "io/io.h"
#include "io/share.h"

#include <ev.h>
#include <openssl/ssl.h>

struct io_loop {
    struct ev_loop *ev;
    uint64_t now_us; /* when the poll of the present turn returned */
    uint64_t lag_us; /* the longest turn since io_loop_take_lag_us() */
    bool broken;     /* io_loop_break() was called */
    bool in_turn;
    bool embedded;     /* another loop polls `fd` */
    bool dirty;        /* libev has changes of interest that it has not told the kernel yet */
    int fd;            /* libev's epoll descriptor; -1: it uses another method */
    int alarm_fd;      /* timerfd that makes `fd` readable for timers and tasks; libev also needs one watcher to wait */
    ev_io alarm_io;    /* drains alarm_fd */
    ev_timer wake;     /* ends the wait when the first timer is due */
    uint64_t wake_at;  /* time to which `wake` is set; 0: not set */
    uint64_t alarm_at; /* time to which alarm_fd is set; 0: not set */
    struct io_timer *timers; /* root of the heap */
    struct ht_list tasks;
    struct ht_list again; /* struct io_conn_more whose TLS holds bytes already: the kernel does not call it readable */
    struct ht_list lingering; /* struct lingerer, oldest first */
    unsigned n_lingering;     /* those without a permit */
    struct ht_list lookups;   /* struct io_lookup */
    unsigned n_lookups, n_lookup_threads;
    unsigned n_extras;       /* attempts of all races beside the first of each */
    struct ht_list works;    /* struct io_work */
    unsigned n_working;      /* those with a thread */
    struct io_conn *current; /* the connection whose callback runs; NULL once the callback has closed it */
    struct ht_pool blocks;
    struct io_timer cool;     /* set while `blocks` keeps more than its number */
    unsigned n_fds;           /* connections and listeners */
    struct ht_list inherited; /* struct io_heirloom (listen.c) */
};

/* What only some connections have: those with TLS, with a share, or with a twin. */
struct io_conn_more {
    struct io_conn *conn;
    struct io_conn *twin;  /* the other end of io_conn_pair(); NULL: none */
    SSL *ssl;              /* NULL: no TLS */
    SSL *outer;            /* TLS to the proxy that `ssl` passes through, and owns; NULL: there is none */
    struct ht_list again;  /* in the loop's list, or not linked */
    const char *tls_error; /* the message of TLS about its failure; NULL: none */
    int end;               /* the code that reading returns once `ended` is set */
    bool read_wants_write; /* TLS must write (a key update) before it can read on */
    bool write_wants_read; /* TLS must read before it can write on */
    bool ended; /* TLS has met an end or error (`end`), maybe behind bytes that it returned; the next read returns it */
    bool drained;           /* TLS holds no whole record; the rest of one is still to come */
    bool broken;            /* TLS failed: SSL_shutdown must not be called */
    bool next_in_share;     /* its share has let it go just now */
    struct io_share *share; /* NULL: none bounds it */
    struct ht_list held;    /* linked: it waits until its share lets it read */
};

/* A kit with many idle visitors has one of these for each. */
struct io_conn {
    ev_io io;
    struct io_loop *loop;
    const struct io_conn_ops *ops;
    void *ctx;
    struct io_conn_more *more; /* NULL: it has nothing of that */
    uint64_t in, out;
    bool reading, writing;
    bool shut;   /* our direction is closed */
    bool resets; /* the kernel resets the connection if the process ends without closing it */
    bool lost;   /* a reset was reported already, other than by reading */
};
_Static_assert(sizeof(struct io_conn) <= 104, "a connection stays small");

/* Makes what few connections have, if it is not there. NULL: out of memory. */
struct io_conn_more *io_conn_more(struct io_conn *c) HT_MUST_USE;
/* NULL: no TLS. */
static inline SSL *io_conn_ssl(const struct io_conn *c) { return c->more ? c->more->ssl : NULL; }
/* From now on it speaks TLS; what it spoke before is outside of that. It owns `ssl`, also when this fails. False: out
 * of memory. */
bool io_conn_set_ssl(struct io_conn *c, SSL *ssl) HT_MUST_USE;
/* Whether a share bounds what it reads. */
static inline bool io_conn_shares(const struct io_conn *c) { return c->more && c->more->share; }

/* ---- share.c, for connections with a share ---- */

/* One is readable: true: it has to wait, and its owner is not told now. */
bool io_share_holds(struct io_conn *c);
/* It is to be read though nobody was told that it is readable: true: its share has nothing left, and it has to wait. */
bool io_share_is_spent(struct io_conn *c);
/* How much of `cap` it may read. */
size_t io_share_cap(const struct io_conn *c, size_t cap);
void io_share_took(struct io_conn *c, size_t n);
/* From there: it is no longer held. */
void io_conn_let_go(struct io_conn *c);

/* Makes an embedding loop call io_loop_turn(). Called outside a turn when there is new work for a turn. */
void io_loop_wake(struct io_loop *loop);
/* Fires all timers that are due. */
void io_timers_run(struct io_loop *loop);

/* ev_io_start and ev_io_stop, which also note the change for an embedding loop. */
void io_watch(struct io_loop *loop, ev_io *w);
void io_unwatch(struct io_loop *loop, ev_io *w);

/* Bytes that TLS has read ahead do not make the descriptor readable. This puts such a connection into loop->again. */
void io_conn_check_again(struct io_conn *c);
void io_linger_close_all(struct io_loop *loop);
/* Switches SO_LINGER with time 0: closing the descriptor, or the end of the process, then resets the connection. */
void io_set_reset(int fd, bool on);

/* ---- congestion.c ---- */

/* A socket whose other end is, or will be, a loopback address: it does not pace. Those that a listener accepts have it
 * from the listener. */
void io_congestion_local(int fd);

/* ---- netlink.c ---- */

/* Whether messages of rtnetlink(7), whole or cut, tell of a change that is reported. */
bool io_network_matters(const void *p, size_t n);

/* ---- tls.c ---- */

/* The modes and buffers of connections, for clients and servers. */
void io_tls_set_up(SSL_CTX *ctx);
/* Whether to read several records at once, into a buffer of that size. It is so from the start. */
void io_tls_read_ahead(SSL *ssl, bool on);
/* A TLS client session on a connection, inside of its TLS when it has some (a proxy's). It goes to io_conn_set_ssl().
 * NULL: *err says why. */
SSL *io_tls_session(struct io_tls *t, struct io_conn *c, const char *host, struct ht_errmsg *err);
/* Whether its TLS has bytes that the kernel no longer tells of. */
bool io_tls_holds(const struct io_conn_more *m);
/* One step of the handshake. 0: done. HT_EAGAIN: wait for *want, EV_READ or EV_WRITE. HT_ETLS and others: *err says
 * why. `name` is host:port for messages. */
int io_tls_handshake(SSL *ssl, const char *name, int *want, struct ht_errmsg *err);
/* io_conn_read() and io_conn_write() of a connection with TLS. */
ssize_t io_tls_read(struct io_conn *c, void *buf, size_t cap);
ssize_t io_tls_write(struct io_conn *c, const struct iovec *iov, int iovcnt);
/* Sends close_notify. HT_OK; HT_EAGAIN: it could not be written yet; or an error. */
int io_tls_shutdown(struct io_conn *c);

/* ---- resolve.c ---- */

/* At most this many addresses of a name are tried. */
#define IO_RESOLVE_MAX 8

struct io_resolved {
    int gai; /* 0, or an EAI_ code of getaddrinfo(); EAI_FAIL instead of EAI_SYSTEM */
    unsigned n;
    struct io_addr addr[IO_RESOLVE_MAX];
};
/* At most IO_RESOLVERS names are looked up at the same time. At most IO_RESOLVER_THREADS threads exist: a thread cannot
 * be stopped, so it may still run after nobody waits for its result. */
#define IO_RESOLVERS 4
#define IO_RESOLVER_THREADS 16

struct io_lookup;
/* A member of the structure of whoever waits for a lookup. */
struct io_lookup_wait {
    struct ht_list node;
    struct io_lookup *lookup; /* NULL: it does not wait */
    void (*done)(struct io_lookup_wait *w, const struct io_resolved *result);
};
/*
 * Looks up the addresses of a name; their port is 0. HT_OK: *out has the result at once. HT_EAGAIN: done() will be
 * called. Errors: HT_ERESOLVE (the name is too long), HT_ELIMIT, HT_ENOMEM, HT_EFDS.
 */
int io_lookup(struct io_loop *loop, const char *host, struct io_lookup_wait *w, struct io_resolved *out) HT_MUST_USE;
/* Stops waiting: done() is not called. Does nothing if it does not wait. */
void io_lookup_cancel(struct io_lookup_wait *w);
void io_lookup_drop_all(struct io_loop *loop);

/* ---- race.c: from the addresses of a host to one connected socket ---- */

struct io_race;
struct io_race_try {
    struct io_race *of;
    struct io_addr to;
    ev_io io;
    int fd;  /* -1: it does not run */
    int err; /* how it has ended; HT_OK: it has not */
};
/* A member of its owner's structure, which sets `loop`, `won` and `lost`. Zero-initialised it may be stopped. */
struct io_race {
    struct io_loop *loop;
    void (*won)(struct io_race *r, int fd); /* the callee owns the descriptor */
    void (*lost)(struct io_race *r);        /* none was reached; `err` has the error that says most */
    unsigned n, next, running;              /* next: how many attempts have begun */
    uint64_t delay_ms;
    int err;
    struct io_timer timer;
    struct io_race_try tries[IO_RESOLVE_MAX];
};
/* Starts with `first` if the host has that address; NULL: no preference. lost() may be called before this returns. */
void io_race_begin(struct io_race *r, const struct io_resolved *to, const struct io_addr *first, uint64_t left_ms);
/* Ends all attempts; no callback is called. */
void io_race_stop(struct io_race *r);
/* Writes " (tried A, B)" about the attempts that have begun, with their errors where these differ. */
void io_race_tell(const struct io_race *r, char *out, size_t cap);

/* ---- work.c ---- */

void io_work_drop_all(struct io_loop *loop);

#endif
