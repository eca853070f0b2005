/*
 * The event loop and everything that has a file descriptor. The only room that includes ev.h: the other rooms see
 * opaque structs and small structs of functions. One thread; no call here blocks.
 *
 * Callbacks may destroy any object of this room, their own included, unless it is said otherwise.
 */
#ifndef HT_IO_IO_H
#define HT_IO_IO_H

#include "base/base.h"
#include "base/buf.h"
#include "base/err.h"
#include "base/list.h"

#include <sys/socket.h>
#include <sys/types.h>
#include <sys/uio.h>

/* ---- loop ---- */

struct io_loop;

struct io_loop *io_loop_create(void) HT_MUST_USE; /* NULL: out of memory or descriptors */
/* Not from inside a callback. Everything else of this room on this loop must be gone, but for lingering connections:
 * those are closed here. Clears the pointer. NULL is ignored. */
void io_loop_destroy(struct io_loop **loop);
/* Runs until io_loop_break(). Neither this nor io_loop_turn() may be called from inside a callback. */
void io_loop_run(struct io_loop *loop);
/* One turn: handles what is ready; waits for something first when `wait`. */
void io_loop_turn(struct io_loop *loop, bool wait);
void io_loop_break(struct io_loop *loop);
/* Monotonic time of the present turn: when it began to handle what was ready. */
uint64_t io_now_ms(struct io_loop *loop);
/*
 * A descriptor that polls readable when io_loop_turn() has work, timers and tasks included: for embedding in another
 * loop (the epoll descriptor). From the first call on the loop pays for that with a timerfd. -1: the kernel has no
 * epoll.
 */
int io_loop_fd(struct io_loop *loop);
/* How long io_loop_turn() would wait for time alone: 0: there is work already; -1: for ever. For loops that cannot
 * watch a descriptor for timers. */
int io_loop_timeout_ms(struct io_loop *loop);
/* Longest time one turn has taken since the last call, microseconds; for the lag metric. */
uint64_t io_loop_take_lag_us(struct io_loop *loop);
/*
 * The loop's large blocks for reading and sending, IO_BLOCK bytes each: taken for the time that bytes are in them, a
 * few kept for the next one. All must be back before the loop is destroyed.
 */
#define IO_BLOCK (256u * 1024u + 4096u)
struct ht_pool *io_loop_blocks(struct io_loop *loop);

/*
 * Work for the end of this turn: run once, after all ready descriptors and timers were handled and before the loop
 * waits. This is where a turn's output is gathered into one system call. Adding twice is harmless; a task may add
 * itself or others again: they run in the same turn, in rounds, at most 16, then in the next turn.
 */
struct io_task {
    struct ht_list node;
    void (*run)(struct io_task *);
};
void io_task_init(struct io_task *t, void (*run)(struct io_task *));
void io_task_add(struct io_loop *loop, struct io_task *t);
void io_task_cancel(struct io_task *t);

/*
 * ---- timers: one shot, coarse (about a millisecond), embedded in their owner; setting again moves it cheaply ----
 *
 * A zero-initialised timer may be stopped and asked, but not set. The owner stops it before the memory goes.
 */

struct io_timer {
    struct io_timer *child, *next, *prev; /* the loop's heap */
    uint64_t key;                         /* where it stands in the heap; 0: it does not */
    uint64_t due;                         /* when it is to fire, >= key: moving it later touches nothing else */
    void (*fire)(struct io_timer *);
    struct io_loop *loop;
};
void io_timer_init(struct io_loop *loop, struct io_timer *t, void (*fire)(struct io_timer *));
void io_timer_set(struct io_timer *t, uint64_t after_ms);
void io_timer_stop(struct io_timer *t);
bool io_timer_active(const struct io_timer *t);

/*
 * Looks every few seconds whether the machine was asleep or its clock was set, which an old connection may not have
 * outlived (ht_wall_offset_ms()), and calls woke() then.
 */
struct io_wake {
    struct io_timer timer;
    int64_t offset_ms;
    void (*woke)(struct io_wake *w);
};
void io_wake_start(struct io_loop *loop, struct io_wake *w, void (*woke)(struct io_wake *));
/* One that was never started is fine. */
void io_wake_stop(struct io_wake *w);

/* ---- signals ---- */

struct io_signal {
    void *impl[8];
    void (*fire)(struct io_signal *, int signo);
    struct io_loop *loop;
};
void io_signal_start(struct io_loop *loop, struct io_signal *s, int signo, void (*fire)(struct io_signal *, int));
void io_signal_stop(struct io_signal *s);
/*
 * Counts how often the end was asked for. timeout(1), shells and terminals that are closed signal a process and then
 * the group that it is in: what comes within IO_SAME_REQUEST_MS of the first request is part of it. Whoever insists
 * later is impatient, and each signal counts. Starts as zeros.
 */
#define IO_SAME_REQUEST_MS 500u
struct io_end_requests {
    _Atomic unsigned n;
    _Atomic uint64_t first_at_ms;
};
/* For each such signal, also in its handler while the other ones are blocked. The number of this request, from 1; 0: it
 * is part of the first. */
unsigned io_end_request(struct io_end_requests *r);
/* Blocks SIGINT, SIGTERM and SIGHUP for good: the program ends anyway, and none of them is to change its status. */
void io_block_end_signals(void);
/* Ignores SIGPIPE for the process; every program does it first. */
void io_ignore_sigpipe(void);
/* The same, and every other signal that would end the process though it says nothing to it: SIGUSR1, SIGUSR2, SIGALRM,
 * SIGIO, the real-time ones and their like. Those that ask for the end, or tell of a fault or a limit, stay. */
void io_ignore_signals(void);

/* ---- addresses ---- */

struct io_addr {
    struct sockaddr_storage ss;
    socklen_t len;
};
/* "127.0.0.1", "::1" (no brackets) and a port. HT_EINVAL: no literal address. Never asks a name server. */
int io_addr_parse(struct io_addr *a, const char *host, uint16_t port);
/* "host:port", "[v6]:port", ":port" (loopback). */
int io_addr_parse_hostport(struct io_addr *a, const char *text, struct ht_errmsg *err);
/* "127.0.0.1:50" or "[::1]:50"; for v4-mapped addresses the v4 form. Returns out. */
#define IO_ADDR_TEXT 64
char *io_addr_text(const struct io_addr *a, char out[IO_ADDR_TEXT]);
/* Host part alone, no brackets, no port. */
char *io_addr_host(const struct io_addr *a, char out[IO_ADDR_TEXT]);
uint16_t io_addr_port(const struct io_addr *a);
bool io_addr_is_loopback(const struct io_addr *a);
/* The bytes of the address in network order, 4 of an IPv4 address and 16 of an IPv6 one. Returns the family: 4 or 6; 0:
 * it is neither. */
int io_addr_bytes(const struct io_addr *a, uint8_t out[16]);
/* The other way round. */
struct io_addr io_addr_of_bytes(int family, const uint8_t *bytes, uint16_t port);
/* Whether it is one that this machine has: tries to bind to it, so with ip_nonlocal_bind every address looks like one.
 */
bool io_addr_is_own(const struct io_addr *a);
/*
 * Whose address it is, for limits that are kept by visitor: an IPv4 address, or the /64 of an IPv6 one, which is what
 * one host gets. Equal bytes mean the same source.
 */
#define IO_SOURCE_LEN 8
void io_addr_source(const struct io_addr *a, uint8_t out[IO_SOURCE_LEN]);

/* ---- descriptor permits: a budget; accept and dial stop before the process runs dry (hardening case 22) ---- */

struct io_fds {
    unsigned total, used;
    unsigned lingering; /* of the used ones: io_conn_linger() */
};
static inline bool io_fds_take(struct io_fds *f) {
    if (f->used >= f->total)
        return false;
    f->used++;
    return true;
}
static inline void io_fds_give(struct io_fds *f) { f->used--; }
static inline unsigned io_fds_available(const struct io_fds *f) { return f->total - f->used; }
/* Open descriptors of this process, or -1. Asks the kernel for each: with thousands of them that takes milliseconds. */
int io_count_fds(void);
/* Those of the connections and listeners of a loop: a counter. */
unsigned io_loop_fds(const struct io_loop *loop);
/* Raises the soft limit to the hard one and returns it. */
unsigned io_raise_fd_limit(void);

/* ---- connections ---- */

struct io_conn;

struct io_conn_ops {
    /* Bytes, the end or an error can be read with io_conn_read(). Level-triggered: called each turn while reading is
     * on. */
    void (*readable)(void *ctx);
    /* Writing is possible again after io_conn_want_write(c, true). */
    void (*writable)(void *ctx);
};

/* Takes a connected non-blocking stream socket over. Sets TCP_NODELAY. Reading starts switched off. NULL: out of memory
 * (the descriptor is closed). */
struct io_conn *io_conn_adopt(struct io_loop *loop, int fd, const struct io_conn_ops *ops, void *ctx) HT_MUST_USE;
/* Two ends of one connection inside this process: what is written to one is read from the other, and io_conn_abort() of
 * one resets the other. 0 with both in `out`, reading off and without ops; HT_ENOMEM, HT_EFDS. */
int io_conn_pair(struct io_loop *loop, struct io_conn *out[2]) HT_MUST_USE;
void io_conn_set_ops(struct io_conn *c, const struct io_conn_ops *ops, void *ctx);

/* Switching is free when nothing changes, and twice in a turn costs one epoll_ctl at most. */
void io_conn_read_on(struct io_conn *c, bool on);
void io_conn_want_write(struct io_conn *c, bool on);

/* > 0 bytes; HT_EAGAIN; HT_EOF; HT_ERESET and others. TLS inside when the connection has it. */
ssize_t io_conn_read(struct io_conn *c, void *buf, size_t cap);
/* The next byte of a connection without TLS, which stays to be read; HT_EAGAIN; HT_EOF; or an error. */
int io_conn_peek(struct io_conn *c);
/* Reads and forgets: > 0 bytes; HT_EAGAIN; HT_EOF; or an error. */
ssize_t io_conn_discard(struct io_conn *c);
/* The error that waits on the socket, taken off it: HT_OK, HT_ERESET and others. For a connection nobody listens to. */
int io_conn_error(struct io_conn *c);
/* Whether the peer of a TCP connection is still there, without reading or sending: HT_OK; HT_EOF: it has closed its
 * side, whatever may be left to read; or the error that ended the connection. */
int io_conn_look(struct io_conn *c);
/* How many bytes went out (> 0, may be fewer than given); HT_EAGAIN (then io_conn_want_write, and the next call has to
 * begin with the same bytes: TLS may have sealed them); or an error. */
ssize_t io_conn_write(struct io_conn *c, const struct iovec *iov, int iovcnt);
/* Half-close: no more writes (FIN, or TLS close_notify and FIN). HT_EAGAIN, with TLS only: its last record finds no
 * room yet; io_conn_want_write(), and call it again. */
int io_conn_shutdown(struct io_conn *c);
/* What an error of io_conn_read() or io_conn_write() was, for a person: what TLS said about it, else ht_err_text(). */
const char *io_conn_error_text(const struct io_conn *c, int err);
/* Closes at once and orderly: unread input makes the kernel send RST. Clears the pointer. NULL is ignored. */
void io_conn_close(struct io_conn **c);
/* Closes with RST, so that a cut never looks like a clean end. */
void io_conn_abort(struct io_conn **c);
/* TCP asks by itself from now on whether the peer is there, in seconds: io_conn_error() tells when it is not. */
void io_conn_keep_alive(struct io_conn *c);
/* From now on the end of the process is a cut too: for bytes whose only end is the connection's. A process that is
 * killed must not make half of them look whole. */
void io_conn_reset_on_exit(struct io_conn *c);
/*
 * Closes after an answer that must reach a peer who may still be sending (hardening case 2): half-closes and drops what
 * comes, however much, until the peer has closed its side, or was quiet for `quiet_ms`, or `all_ms` are over. The
 * connection belongs to the loop from now on. Clears the pointer. NULL is ignored.
 *
 * `fds`: it holds a permit of these as long (taken even when there is none left: the caller gives one back), at most
 * half of them do, and the oldest has to go for a new one. NULL: a fixed small number of a loop's connections linger
 * without.
 */
struct io_linger {
    uint64_t quiet_ms, all_ms;
    struct io_fds *fds;
};
void io_conn_linger(struct io_conn **c, const struct io_linger *how);
/* The same for `linger_ms` in all, without a permit. */
void io_conn_close_lingering(struct io_conn **c, uint64_t linger_ms);
/* Closes the one that lingers longest with a permit of `fds`, which is given back. False: there is none. */
bool io_linger_shed(struct io_loop *loop, const struct io_fds *fds);

void io_conn_peer(struct io_conn *c, struct io_addr *out);
void io_conn_local(struct io_conn *c, struct io_addr *out);
int io_conn_fd(struct io_conn *c);
/* Bytes read and written so far, payload only. */
void io_conn_counts(struct io_conn *c, uint64_t *in, uint64_t *out);
/* TCP_NOTSENT_LOWAT and friends, for the connection that carries the tunnel: what sits unsent in the kernel stays
 * small. When bytes find no taker for `dead_ms` the peer is dead, whatever the kernel would still try; 0: as it does.
 */
void io_conn_tune_tunnel(struct io_conn *c, uint64_t dead_ms);

/* ---- a connection's write queue ---- */

/*
 * What is to be written and the connection cannot take at once. Borrowed slices first (written straight from where they
 * are with one system call), copies only of what is left. Starts as zeros.
 */
#define IO_OUT_IOV 16
struct io_out {
    struct iovec iov[IO_OUT_IOV];
    int n_iov;
    size_t borrowed;     /* bytes in iov */
    struct ht_buf queue; /* copies, written before anything borrowed */
    bool secret;         /* set at the start: memory that the copies were in is wiped */
};

/* Adds bytes that stay valid until the next io_out_flush(). 0 or HT_ENOMEM (when iov is full it copies). */
int io_out_add(struct io_out *o, const void *p, size_t n) HT_MUST_USE;
/* Adds a copy, behind what was copied; nothing may be borrowed at the time. 0 or HT_ENOMEM. */
int io_out_copy(struct io_out *o, const void *p, size_t n) HT_MUST_USE;
/* Copies everything borrowed, so that its memory may go. 0 or HT_ENOMEM (nothing is lost then). */
int io_out_spill(struct io_out *o) HT_MUST_USE;
/* Forgets what is borrowed; what was copied stays. */
void io_out_drop_borrowed(struct io_out *o);
/*
 * Writes what it can, copies what is left of the borrowed, and sets io_conn_want_write accordingly. Returns the number
 * of bytes written now (>= 0), or a negative error of the connection.
 */
ssize_t io_out_flush(struct io_out *o, struct io_conn *conn) HT_MUST_USE;
size_t io_out_pending(const struct io_out *o);
void io_out_free(struct io_out *o);

/* ---- programs that are started for what they print ---- */

struct io_child;

struct io_child_config {
    const char *const *argv; /* a path first; a NULL last. Read at the start only */
    void *into;              /* where what it prints goes; outlives the child */
    size_t cap;
    uint64_t limit_ms;
};

struct io_child_ops {
    /* It is over, and the object is gone. HT_OK: it has ended with status 0 after `n` bytes. HT_EIO: with another one,
     * or by a signal; HT_ETIMEDOUT, HT_ESPACE: it was killed. `text` says so for a person: "it ended with status 3". */
    void (*ended)(void *ctx, int err, size_t n, const char *text);
};

/*
 * Standard input and error are /dev/null, and the environment is ours. It has a process group of its own, all of which
 * is killed when it is cancelled, takes longer than `limit_ms` or prints more than `cap` bytes. Never calls ended()
 * before it returns. NULL with *err: it cannot be started.
 */
struct io_child *io_child_start(struct io_loop *loop, const struct io_child_config *cfg, const struct io_child_ops *ops,
                                void *ctx, struct ht_errmsg *err) HT_MUST_USE;
/* Kills it; ended() does not come. Clears the pointer. NULL is ignored. */
void io_child_cancel(struct io_child **c);

/* ---- listening ---- */

struct io_listener;

struct io_listener_ops {
    /* A connection: `c` is yours, its ops are to be set. Reading is switched off. */
    void (*accepted)(void *ctx, struct io_conn *c, const struct io_addr *peer);
    /* May be NULL. accept() failed with `err` (HT_EFDS, HT_ENOMEM, ...); the listener pauses itself and comes back. */
    void (*accept_failed)(void *ctx, int err);
};

/* The ports that the kernel gives to outgoing connections, for both families; 0 and 0: it does not say. */
void io_outgoing_ports(uint16_t *first, uint16_t *last);

/*
 * SO_REUSEADDR, never SO_REUSEPORT (hardening case 25); IPV6_V6ONLY. Errors: HT_EINUSE, HT_EACCESS, HT_EADDR, HT_EFDS,
 * HT_EIO with *err filled. At most 64 accepts a turn. With no descriptor left it uses a reserve one to take a visitor
 * and close it, then pauses 100 ms: no spinning, recovery by itself.
 */
int io_listen(struct io_loop *loop, const struct io_addr *addr, const struct io_listener_ops *ops, void *ctx,
              struct io_listener **out, struct ht_errmsg *err) HT_MUST_USE;
void io_listener_set_ops(struct io_listener *l, const struct io_listener_ops *ops, void *ctx);
void io_listener_pause(struct io_listener *l, bool pause);
void io_listener_local(struct io_listener *l, struct io_addr *out);
void io_listener_close(struct io_listener **l);

/* ---- dialling ---- */

/*
 * TLS on the way out: SNI and host name check for the dialled name, TLS 1.2 or newer. All may be NULL: the system's
 * store of authorities, no certificate of our own, no ALPN. `key_file` NULL: the key is in `cert_file`. A key that
 * needs a password is refused: nobody could type it. Both files are read again when they have changed.
 */
struct io_tls;
struct io_tls_config {
    const char *ca_file, *cert_file, *key_file;
    const char *alpn;      /* one protocol, such as "http/1.1" */
    bool insecure;         /* takes any certificate */
    const char *ca_option; /* the option that gives `ca_file`, for messages; static storage */
};
struct io_tls *io_tls_create_with(const struct io_tls_config *cfg, struct ht_errmsg *err) HT_MUST_USE;
/* For HTTP/1.1, verified against `ca_file` or the system's store. */
struct io_tls *io_tls_create(const char *ca_file, struct ht_errmsg *err) HT_MUST_USE;
/* The same as `t`, and lives apart from it: but SNI and the certificate's name are `name`, whatever is dialled. NULL:
 * out of memory. */
struct io_tls *io_tls_named(struct io_tls *t, const char *name) HT_MUST_USE;
void io_tls_destroy(struct io_tls **t);

struct io_dial;

struct io_dial_ops {
    /* Connected (and the TLS handshake done): `c` is yours, its ops are to be set. The dial object is gone. */
    void (*connected)(void *ctx, struct io_conn *c);
    /* `text` says where and why, for a person. With TLS also HT_ETLS, HT_ECERTDATE, HT_ECERTNAME, HT_ECERTCA. The dial
     * object is gone. */
    void (*failed)(void *ctx, int err, const char *text);
    /*
     * May an address that `host` was found to have be dialled? Asked of each one, with its port, before anything is
     * tried, also from inside io_dial_start(); those that may not are left out, and without any the dial fails with
     * HT_EACCESS (hardening case 35). NULL: all may. Only this is called more than once.
     */
    bool (*allowed)(void *ctx, const struct io_addr *a);
};

/*
 * Connects to `host` (a name, or an address without brackets): resolved off the loop when it is a name, one
 * question for all who ask at the same time ("localhost" is not asked for: 127.0.0.1, then ::1), each address tried in
 * turn, `timeout_ms` for all of it. NULL with *err only when it cannot even start. A connected or failed callback never
 * comes before this returns.
 */
struct io_dial *io_dial_start(struct io_loop *loop, const char *host, uint16_t port, struct io_tls *tls,
                              uint64_t timeout_ms, const struct io_dial_ops *ops, void *ctx,
                              struct ht_errmsg *err) HT_MUST_USE;
/* The same, and of several addresses `first` (its port aside; may be NULL) is tried first: the one that answered the
 * last time. */
struct io_dial *io_dial_start_at(struct io_loop *loop, const struct io_addr *first, const char *host, uint16_t port,
                                 struct io_tls *tls, uint64_t timeout_ms, const struct io_dial_ops *ops, void *ctx,
                                 struct ht_errmsg *err) HT_MUST_USE;
/*
 * The same for a connection that somebody else makes, who ends it with one of the two below; the callback comes at the
 * end of the turn. `cancelled` tells him that it is not wanted any more. NULL: out of memory.
 */
struct io_dial *io_dial_by(struct io_loop *loop, const struct io_dial_ops *ops, void *ctx, void (*cancelled)(void *by),
                           void *by) HT_MUST_USE;
void io_dial_give(struct io_dial *d, struct io_conn *c);
void io_dial_give_up(struct io_dial *d, int err, const char *text);
/* No callback comes any more; what stands already is reset. Clears the pointer. NULL is ignored. */
void io_dial_cancel(struct io_dial **d);

#endif
