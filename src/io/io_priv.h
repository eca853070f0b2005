/* What the files of this room share. Only here and below is ev.h known. */
#ifndef HT_IO_IO_PRIV_H
#define HT_IO_IO_PRIV_H

#include "io/io.h"

#include <ev.h>
#include <openssl/ssl.h>

struct io_loop {
    struct ev_loop *ev;
    uint64_t now_us; /* when the present turn's poll returned */
    uint64_t lag_us; /* longest turn since it was asked for */
    bool broken;
    bool in_turn;
    bool embedded;     /* somebody polls `fd` */
    bool dirty;        /* libev has interest changes that the kernel does not know yet */
    int fd;            /* libev's epoll descriptor, -1 when it uses something else */
    int alarm_fd;      /* timerfd that makes `fd` readable for timers and tasks; also keeps libev from running dry */
    ev_io alarm_io;    /* drains alarm_fd */
    ev_timer wake;     /* ends the wait when the first timer is due */
    uint64_t wake_at;  /* what `wake` is set to; 0: not set */
    uint64_t alarm_at; /* what alarm_fd is set to; 0: not set */
    struct io_timer *timers; /* root of the heap */
    struct ht_list tasks;
    struct ht_list again;     /* connections whose TLS holds decrypted bytes: readable without the kernel saying so */
    struct ht_list lingering; /* struct lingerer, oldest first */
    unsigned n_lingering;     /* of those without a permit */
    struct ht_list lookups;   /* struct io_lookup */
    unsigned n_lookups, n_lookup_threads;
    struct io_conn *current; /* whose callbacks are running; NULL once it was closed by them */
    struct ht_pool blocks;
    unsigned n_fds; /* of connections and listeners */
};

struct io_conn {
    ev_io io;
    struct io_loop *loop;
    const struct io_conn_ops *ops;
    void *ctx;
    SSL *ssl;
    struct ht_list again;
    uint64_t in, out;
    const char *tls_error; /* what TLS said about its failure; NULL: nothing */
    int end;
    bool reading, writing;
    bool read_wants_write; /* TLS must write (a key update) before it can read on */
    bool write_wants_read;
    bool shut;    /* our side is closed for writing */
    bool ended;   /* TLS read an end or an error, `end`, maybe behind bytes it gave: from now on reading tells it */
    bool drained; /* TLS has nothing whole in its buffer; what is left of a record waits for more */
    bool broken;  /* TLS failed: SSL_shutdown must not be called */
    bool resets;  /* the kernel resets it if we never close it */
    bool lost;    /* a reset was told already, and not to a reader */
    struct io_conn *twin; /* the other end of io_conn_pair() */
};
_Static_assert(sizeof(struct io_conn) <= 256, "a connection stays small");

/* Work that only a turn can do has appeared outside one: makes an embedding loop call io_loop_turn(). */
void io_loop_wake(struct io_loop *loop);
/* Fires what is due. */
void io_timers_run(struct io_loop *loop);

/* ev_io_start and ev_io_stop that remember the change for an embedding loop. */
void io_watch(struct io_loop *loop, ev_io *w);
void io_unwatch(struct io_loop *loop, ev_io *w);

/* What TLS has taken from the kernel and nobody has read yet makes nothing readable: the loop sees to it. */
void io_conn_check_again(struct io_conn *c);
void io_linger_close_all(struct io_loop *loop);
/* Closing the descriptor resets its connection, whether io_conn_abort() does it or the end of the process. */
void io_set_reset(int fd, bool on);

/* ---- tls.c ---- */

/* A client's TLS for a connected socket; NULL: *err says why. `name` is host:port for people. */
SSL *io_tls_session(struct io_tls *t, int fd, const char *host, struct ht_errmsg *err);
/* One step of the handshake: 0 done; HT_EAGAIN with *want an EV_READ or EV_WRITE; HT_ETLS and others with *err. */
int io_tls_handshake(SSL *ssl, const char *name, int *want, struct ht_errmsg *err);
ssize_t io_tls_read(struct io_conn *c, void *buf, size_t cap);
ssize_t io_tls_write(struct io_conn *c, const struct iovec *iov, int iovcnt);
/* close_notify: HT_OK; HT_EAGAIN: no room for it yet; or an error. */
int io_tls_shutdown(struct io_conn *c);

/* ---- resolve.c ---- */

/* At most this many addresses of a name are tried. */
#define IO_RESOLVE_MAX 8

struct io_resolved {
    int gai; /* 0, or an EAI_ code; EAI_SYSTEM is replaced by EAI_FAIL */
    unsigned n;
    struct io_addr addr[IO_RESOLVE_MAX];
};
/* Names that are looked up at a time; and threads, those included that nobody waits for any more and that cannot be
 * stopped. */
#define IO_RESOLVERS 4
#define IO_RESOLVER_THREADS 16

struct io_lookup;
/* Embedded in whoever asks. */
struct io_lookup_wait {
    struct ht_list node;
    struct io_lookup *lookup; /* NULL: does not wait */
    void (*done)(struct io_lookup_wait *w, const struct io_resolved *result);
};
/*
 * The addresses of a name, with port 0. HT_OK: *out has them already, or why there are none. HT_EAGAIN: done() comes
 * later. HT_ERESOLVE (the name is too long), HT_ELIMIT, HT_ENOMEM, HT_EFDS.
 */
int io_lookup(struct io_loop *loop, const char *host, struct io_lookup_wait *w, struct io_resolved *out) HT_MUST_USE;
/* No-op for one that does not wait. */
void io_lookup_cancel(struct io_lookup_wait *w);
void io_lookup_drop_all(struct io_loop *loop);

#endif
