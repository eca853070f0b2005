/*
 * The event loop and everything with a file descriptor: connections, listeners, dialling, timers, child processes. Only
 * this room includes ev.h. Other rooms see opaque structs and small structs of functions. Everything runs in one
 * thread, and no call blocks.
 *
 * A callback may destroy any object of this room, its own included, unless its comment says otherwise.
 * Errors are codes of base/err.h.
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
#include <sys/un.h>

/* ---- loop ---- */

struct io_loop;

struct io_loop *io_loop_create(void) HT_MUST_USE; /* NULL: out of memory or descriptors */
/* Not from inside a callback. All other objects of this loop must be destroyed before. Connections that linger are
 * closed here. Clears the pointer. NULL is ignored. */
void io_loop_destroy(struct io_loop **loop);
/* Runs until io_loop_break(). Neither this nor io_loop_turn() may be called from inside a callback. */
void io_loop_run(struct io_loop *loop);
/* One turn: handles everything that is ready. With `wait` it first waits until something is ready. */
void io_loop_turn(struct io_loop *loop, bool wait);
/* Makes io_loop_run() return after the present turn. */
void io_loop_break(struct io_loop *loop);
/* The monotonic time at which the present turn began to handle events. It does not change during a turn. */
uint64_t io_now_ms(struct io_loop *loop);
/*
 * A descriptor that polls readable when io_loop_turn() has work, timers and tasks included. It lets another loop embed
 * this one. From the first call on each turn sets an alarm of the kernel, which costs a little. -1: the system has no
 * epoll.
 */
int io_loop_fd(struct io_loop *loop);
/* How long io_loop_turn() would wait if no descriptor became ready. 0: there is work now; -1: for ever. For embedding
 * loops that do not use the timers of io_loop_fd(). */
int io_loop_timeout_ms(struct io_loop *loop);
/* The longest turn since the last call, in microseconds. For the metric of the loop's lag. */
uint64_t io_loop_take_lag_us(struct io_loop *loop);
/*
 * The loop's pool of large blocks for reading and sending, IO_BLOCK bytes each. A user takes a block only while it
 * holds bytes. All blocks must be given back before the loop is destroyed.
 */
#define IO_BLOCK (256u * 1024u + 4096u)
struct ht_pool *io_loop_blocks(struct io_loop *loop);
/* Gives back a block that bulk is likely to need again: it is not freed before a second has passed in which nobody did.
 */
void io_loop_put_block(struct io_loop *loop, void *block);

/*
 * A task is work for the end of a turn. It runs once, after all ready descriptors and timers and before the loop waits.
 * Tasks gather the output of a turn into one system call. To add a task twice is harmless. A running task may add
 * tasks, itself included: they run in the same turn, in up to 16 rounds, and what is left runs in the next turn.
 */
struct io_task {
    struct ht_list node;
    void (*run)(struct io_task *);
};
void io_task_init(struct io_task *t, void (*run)(struct io_task *));
void io_task_add(struct io_loop *loop, struct io_task *t);
void io_task_cancel(struct io_task *t);

/*
 * ---- timers ----
 *
 * A timer fires once, about a millisecond precise, and is a member of its owner's structure. The owner must stop it
 * before it frees the structure. A zero-initialised timer may be stopped and queried; io_timer_set() needs
 * io_timer_init() before.
 */

struct io_timer {
    struct io_timer *child, *next, *prev; /* the loop's heap */
    uint64_t key;                         /* position in the heap; 0: not in it */
    uint64_t due;                         /* when it fires, >= key. Moving it later changes only this field */
    void (*fire)(struct io_timer *);
    struct io_loop *loop;
};
void io_timer_init(struct io_loop *loop, struct io_timer *t, void (*fire)(struct io_timer *));
/* Sets the timer to `after_ms` from now. A timer that is already set is moved, which is cheap. */
void io_timer_set(struct io_timer *t, uint64_t after_ms);
void io_timer_stop(struct io_timer *t);
bool io_timer_active(const struct io_timer *t);

/*
 * Calls woke() when the machine was suspended or its clock was set: connections may have died meanwhile
 * (ht_wall_offset_ms()). It looks when the kernel says so, and every few seconds.
 */
struct io_wake {
    struct io_timer timer;
    int64_t offset_ms;
    void *impl[8];
    void (*woke)(struct io_wake *w);
};
void io_wake_start(struct io_loop *loop, struct io_wake *w, void (*woke)(struct io_wake *));
/* Also for one that is zero-initialised and was never started. */
void io_wake_stop(struct io_wake *w);

/* ---- the machine's network ---- */

struct io_network;
/*
 * Tells of changes of this machine's links, addresses and routes, which connections may not survive. changed() is
 * called IO_NETWORK_SETTLE_MS after the first of several changes. Not told is what cannot matter to a connection with
 * another machine: the loopback interface, what a wireless driver says about itself, new link-local addresses. NULL:
 * this system does not tell, or not from inside a sandbox, or there is no memory; *err says why.
 */
#define IO_NETWORK_SETTLE_MS 100u
struct io_network *io_network_watch(struct io_loop *loop, void (*changed)(void *ctx), void *ctx,
                                    struct ht_errmsg *err) HT_MUST_USE;
/* Clears the pointer. NULL is ignored. */
void io_network_stop(struct io_network **n);

/* ---- other descriptors ---- */

/* Watches a descriptor that is none of this room's. The caller owns it, and stops the watcher before it closes it. */
struct io_watcher {
    void *impl[8];
    void (*ready)(struct io_watcher *w); /* it can be read, or its other end is gone: called in each turn */
    struct io_loop *loop;
};
void io_watcher_start(struct io_loop *loop, struct io_watcher *w, int fd, void (*ready)(struct io_watcher *));
/* Calls ready() in turns in which it can be written, too. */
void io_watcher_writes(struct io_watcher *w, bool too);
/* Also for one that is zero-initialised. */
void io_watcher_stop(struct io_watcher *w);

/* ---- signals ---- */

struct io_signal {
    void *impl[8];
    void (*fire)(struct io_signal *, int signo);
    struct io_loop *loop;
    bool ignored; /* before io_signal_start() */
};
/* A signal that was ignored before io_signal_start() is ignored again after io_signal_stop(), without a gap. */
void io_signal_start(struct io_loop *loop, struct io_signal *s, int signo, void (*fire)(struct io_signal *, int));
void io_signal_stop(struct io_signal *s);
/*
 * Counts the requests to end the program. timeout(1), shells and closing terminals signal a process and then its whole
 * process group. So signals within IO_SAME_REQUEST_MS of the first one belong to the first request. Each later signal
 * is a request of its own: the user is impatient. Zero-initialised at the start.
 */
#define IO_SAME_REQUEST_MS 500u
struct io_end_requests {
    _Atomic unsigned n;
    _Atomic uint64_t first_at_ms;
};
/* Call it for each SIGINT, SIGTERM or SIGHUP. Safe in a signal handler that blocks the other two. Returns the number of
 * the request, from 1; 0: the signal belongs to the first request. */
unsigned io_end_request(struct io_end_requests *r);
/* Blocks SIGINT, SIGTERM and SIGHUP for the rest of the process, so that none of them changes its exit status. */
void io_block_end_signals(void);
/* Ignores SIGPIPE in the process. Every program calls this or io_ignore_signals() first. */
void io_ignore_sigpipe(void);
/* Ignores SIGPIPE and every other signal that would end the process without a reason: SIGUSR1, SIGUSR2, SIGALRM, SIGIO,
 * the real-time signals and similar ones. Signals that ask for the end, or report a fault or a limit, keep their
 * effect.
 */
void io_ignore_signals(void);

/* ---- addresses ---- */

struct io_addr {
    struct sockaddr_storage ss;
    socklen_t len;
};
/* Reads a literal address, "127.0.0.1" or "::1" without brackets. 0 or HT_EINVAL. Never asks a name server. */
int io_addr_parse(struct io_addr *a, const char *host, uint16_t port);
/* Reads "host:port", "[v6]:port" or ":port" (loopback), where host is a literal address. 0, or HT_EINVAL with *err. */
int io_addr_parse_hostport(struct io_addr *a, const char *text, struct ht_errmsg *err);
/* The address of a Unix socket. `path` has at most IO_UNIX_PATH_MAX bytes; a longer one is cut. */
#define IO_UNIX_PATH_MAX (sizeof((struct sockaddr_un *)0)->sun_path - 1)
struct io_addr io_addr_of_path(const char *path);
/* Writes "127.0.0.1:50" or "[::1]:50". A v4-mapped address is written as IPv4. Returns `out`. */
#define IO_ADDR_TEXT 64
char *io_addr_text(const struct io_addr *a, char out[IO_ADDR_TEXT]);
/* Writes the host alone, without brackets and port. Returns `out`. */
char *io_addr_host(const struct io_addr *a, char out[IO_ADDR_TEXT]);
uint16_t io_addr_port(const struct io_addr *a);
bool io_addr_is_loopback(const struct io_addr *a);
/* localhost and every name below it: always loopback, whatever a name server would say (RFC 6761 6.3). */
bool io_host_is_localhost(struct ht_slice host);
/* Writes the bytes of the address in network order: 4 for IPv4, 16 for IPv6. Returns the family, 4 or 6; 0: neither. */
int io_addr_bytes(const struct io_addr *a, uint8_t out[16]);
/* The reverse of io_addr_bytes(): an address from its bytes. `family` is 4 or 6. */
struct io_addr io_addr_of_bytes(int family, const uint8_t *bytes, uint16_t port);
/* True when they are the same, port and family included. */
bool io_addr_same(const struct io_addr *a, const struct io_addr *b);
/* True when this machine has the address, a link-local one of IPv6 on the interface that it names. It tries to bind to
 * the address: with the sysctl ip_nonlocal_bind every address seems to be its own. */
bool io_addr_is_own(const struct io_addr *a);
/* The address from which this machine would reach `to` now; its port is 0. False: there is no way. Sends nothing. */
bool io_addr_way(const struct io_addr *to, struct io_addr *from);
/*
 * The source of an address, for limits per visitor: the whole IPv4 address, or the first 64 bits of an IPv6 address,
 * since one host usually gets a whole /64. Two addresses have the same source when the bytes are equal.
 */
#define IO_SOURCE_LEN 8
void io_addr_source(const struct io_addr *a, uint8_t out[IO_SOURCE_LEN]);

/* ---- descriptor permits: a budget, so that accept and dial stop before the process has no descriptors left (hardening
 * case 22) ---- */

struct io_fds {
    unsigned total, used;
    unsigned lingering; /* how many of the used permits belong to io_conn_linger() */
};
/* Takes a permit; false: none is left. */
static inline bool io_fds_take(struct io_fds *f) {
    if (f->used >= f->total)
        return false;
    f->used++;
    return true;
}
static inline void io_fds_give(struct io_fds *f) { f->used--; }
static inline unsigned io_fds_available(const struct io_fds *f) { return f->total - f->used; }
/* How many descriptors the process has open; -1: not known. It reads a list from the kernel: with thousands of
 * descriptors that takes milliseconds. */
int io_count_fds(void);
/* How many connections and listeners the loop has. Cheap: a counter. */
unsigned io_loop_fds(const struct io_loop *loop);
/* Raises the soft limit of descriptors to the hard limit, and returns it. */
unsigned io_raise_fd_limit(void);

/* ---- connections ---- */

struct io_conn;

struct io_conn_ops {
    /* io_conn_read() has bytes, the end or an error to return. Level-triggered: called in each turn while reading is
     * on.
     */
    void (*readable)(void *ctx);
    /* Writing is possible again. Called in each turn while io_conn_want_write() is on. */
    void (*writable)(void *ctx);
};

/* Makes a connection of a connected, non-blocking stream socket, and owns the descriptor. Sets TCP_NODELAY. Reading is
 * off at first. NULL: out of memory; the descriptor is closed. */
struct io_conn *io_conn_adopt(struct io_loop *loop, int fd, const struct io_conn_ops *ops, void *ctx) HT_MUST_USE;
/* Makes both ends of a connection inside this process. Bytes written to one end are read from the other, and
 * io_conn_abort() of one end resets the other. The caller owns both; reading is off, and they have no ops. 0, HT_ENOMEM
 * or HT_EFDS. */
int io_conn_pair(struct io_loop *loop, struct io_conn *out[2]) HT_MUST_USE;
void io_conn_set_ops(struct io_conn *c, const struct io_conn_ops *ops, void *ctx);

/* Switch the callbacks readable() and writable() on or off. Cheap: several switches in a turn cost one epoll_ctl at
 * most. */
void io_conn_read_on(struct io_conn *c, bool on);
void io_conn_want_write(struct io_conn *c, bool on);

/* Returns the number of bytes (> 0), HT_EAGAIN, HT_EOF, or an error such as HT_ERESET. With TLS it returns decrypted
 * bytes. */
ssize_t io_conn_read(struct io_conn *c, void *buf, size_t cap);
/* The same, at most `most` bytes into to[0..n) in order, n <= IO_READ_IOV. Fewer than asked for: there is no more now.
 */
#define IO_READ_IOV 8
ssize_t io_conn_readv(struct io_conn *c, const struct iovec *to, int n, size_t most);
/* The bytes that v[0..n) has room for. */
static inline size_t io_iov_size(const struct iovec *v, int n) {
    size_t all = 0;
    for (int i = 0; i < n; i++)
        all += v[i].iov_len;
    return all;
}
/* The next byte (>= 0), which stays to be read; HT_EAGAIN, HT_EOF, or an error. Only without TLS. */
int io_conn_peek(struct io_conn *c);
/* The same for up to `cap` bytes, which all stay to be read: > 0 bytes; or as there. */
ssize_t io_conn_peek_bytes(struct io_conn *c, void *buf, size_t cap);
/* Reads bytes and drops them. Returns their number (> 0), HT_EAGAIN, HT_EOF, or an error. */
ssize_t io_conn_discard(struct io_conn *c);
/* Takes the pending error off the socket: HT_OK, or an error such as HT_ERESET. For a connection whose reading is off.
 */
int io_conn_error(struct io_conn *c);
/* Asks the kernel whether the peer is still there, without reading or sending. HT_OK; HT_EOF: the peer has closed its
 * side, though bytes may be left to read; or the error that ended the connection. HT_OK for sockets other than TCP. */
int io_conn_look(struct io_conn *c);
/* Returns how many bytes were written: > 0, and possibly fewer than given. HT_EAGAIN: call io_conn_want_write(), and
 * begin the next call with the same bytes, since TLS may have encrypted them already. Or an error. */
ssize_t io_conn_write(struct io_conn *c, const struct iovec *iov, int iovcnt);
/* Half-close: ends our direction with FIN; with TLS with close_notify and FIN. HT_OK, or an error. HT_EAGAIN, with TLS
 * only: close_notify could not be written yet. Call io_conn_want_write(), and this again when writable. */
int io_conn_shutdown(struct io_conn *c);
/* The text for an error of io_conn_read() or io_conn_write(): the message of TLS if there is one, else ht_err_text().
 * Valid as long as `c`. */
const char *io_conn_error_text(const struct io_conn *c, int err);
/* Closes the connection in order. The kernel sends RST if unread bytes are left. Clears the pointer. NULL is ignored.
 */
void io_conn_close(struct io_conn **c);
/* Closes with RST, so that the peer can tell it from an orderly end. Clears the pointer. NULL is ignored. */
void io_conn_abort(struct io_conn **c);
/* Turns TCP keep-alive on, with intervals of seconds. When the peer is gone, io_conn_error() reports it. */
void io_conn_keep_alive(struct io_conn *c);
/* From now on the kernel resets the connection if the process dies. For data whose end is marked only by the end of the
 * connection: a killed process must not make half of it look complete. */
void io_conn_reset_on_exit(struct io_conn *c);
/*
 * Closes after an answer, for a peer that may still be sending: a plain close would make the kernel send RST, and the
 * answer would be lost (hardening case 2). It half-closes and drops all input until the peer closes its side, was quiet
 * for `quiet_ms`, or `all_ms` have passed. The loop owns the connection from now on. Clears the pointer. NULL is
 * ignored.
 *
 * `fds`: the connection holds one of these permits while it lingers. It takes the permit even when none is left; the
 * caller gives its own back. At most half of all permits linger: beyond that the oldest lingering connection is closed.
 * NULL: no permit; a loop then keeps only a small fixed number of such connections.
 */
struct io_linger {
    uint64_t quiet_ms, all_ms;
    struct io_fds *fds;
};
void io_conn_linger(struct io_conn **c, const struct io_linger *how);
/* The same for `linger_ms` in all, without a permit. */
void io_conn_close_lingering(struct io_conn **c, uint64_t linger_ms);
/* Closes the oldest connection that lingers with a permit of `fds`, and gives the permit back. False: there is none. */
bool io_linger_shed(struct io_loop *loop, const struct io_fds *fds);

/* True when this machine no longer has the address that the connection was made from, and would now reach the peer from
 * another one: waiting for the peer is in vain. False while there is no way to the peer, since the address may come
 * back. */
bool io_conn_is_stranded(struct io_conn *c);
/* How many bytes the kernel at the other end of a TCP connection has confirmed, TLS included. *waits: others were
 * written, and it has not confirmed them yet. 0 and false for other connections. */
uint64_t io_conn_drained(struct io_conn *c, bool *waits);
/* The addresses of the two ends. */
void io_conn_peer(struct io_conn *c, struct io_addr *out);
void io_conn_local(struct io_conn *c, struct io_addr *out);
/* The descriptor; the connection keeps owning it. */
int io_conn_fd(struct io_conn *c);
/* Frees the connection, and returns its descriptor, which the caller closes or gives to another process. Not for TLS.
 */
int io_conn_release(struct io_conn **c) HT_MUST_USE;
/* Whose process has connected to a Unix socket, as the kernel says; (uid_t)-1: it is not known. */
uid_t io_conn_uid(struct io_conn *c);
/* Whether its TLS session was resumed. False without TLS. */
bool io_conn_resumed(const struct io_conn *c);
/* Bytes read and written so far, without the overhead of TLS. */
void io_conn_counts(struct io_conn *c, uint64_t *in, uint64_t *out);
/* Socket options for the connection that carries the tunnel: few unsent bytes wait in the kernel (TCP_NOTSENT_LOWAT).
 * After `dead_ms` without an acknowledgement of sent bytes the connection fails; 0: after the time of the kernel. True:
 * the way is so short that its receive window is kept small, and io_conn_tunnel_window() is for it. */
bool io_conn_tune_tunnel(struct io_conn *c, uint64_t dead_ms);
/* That window: small, as it is at first; large; or the way back: after IO_WINDOW_SHRINKS at most IO_TUNNEL_LARGE bytes
 * more come than a small window lets through, and then it is time for IO_WINDOW_SMALL. */
#define IO_TUNNEL_LARGE (1024 * 1024)
enum io_tunnel_window { IO_WINDOW_SMALL, IO_WINDOW_LARGE, IO_WINDOW_SHRINKS };
void io_conn_tunnel_window(struct io_conn *c, enum io_tunnel_window to);

/* ---- a connection's write queue ---- */

/*
 * Output that the connection cannot take at once. Callers add borrowed slices, which are written from where they are
 * with one system call; only what is left is copied. Zero-initialised at the start.
 */
#define IO_OUT_IOV 16
struct io_out {
    struct iovec iov[IO_OUT_IOV];
    int n_iov;
    size_t borrowed;     /* bytes in iov */
    struct ht_buf queue; /* copies, written before anything borrowed */
    bool secret;         /* set before the first use: memory that held copies is wiped */
};

/* Adds bytes that stay valid until the next io_out_flush(). Copies them when iov is full. 0 or HT_ENOMEM. */
int io_out_add(struct io_out *o, const void *p, size_t n) HT_MUST_USE;
/* Adds a copy behind the other copies. No borrowed bytes may be queued. 0 or HT_ENOMEM. */
int io_out_copy(struct io_out *o, const void *p, size_t n) HT_MUST_USE;
/* Copies all borrowed bytes, so that their owner may free them. 0 or HT_ENOMEM; after HT_ENOMEM the queue is unchanged.
 */
int io_out_spill(struct io_out *o) HT_MUST_USE;
/* Drops the borrowed bytes and keeps the copies. */
void io_out_drop_borrowed(struct io_out *o);
/*
 * Writes what the connection takes, copies the borrowed bytes that are left, and switches io_conn_want_write() to
 * whether anything is left. Returns the number of bytes written now (>= 0), or a negative error of the connection.
 */
ssize_t io_out_flush(struct io_out *o, struct io_conn *conn) HT_MUST_USE;
/* Bytes that are queued, borrowed and copied. */
size_t io_out_pending(const struct io_out *o);
void io_out_free(struct io_out *o);

/* ---- child processes that are started for their output ---- */

struct io_child;

struct io_child_config {
    const char *const *argv; /* argv[0] is a path, and the last element NULL. Used during io_child_start() only */
    void *into;              /* the output goes here; must outlive the child */
    size_t cap;              /* bytes of `into` */
    uint64_t limit_ms;       /* how long the child may run */
};

struct io_child_ops {
    /*
     * The child has ended, and the io_child no longer exists. `n` bytes of output were written. HT_OK: it ended with
     * status 0. HT_EIO: with another status or by a signal. HT_ETIMEDOUT, HT_ESPACE: it ran too long, or wrote too
     * much, and was killed. `text` tells a person, such as "it ended with status 3"; it is valid during the call.
     */
    void (*ended)(void *ctx, int err, size_t n, const char *text);
};

/*
 * Starts a program and collects its standard output. Standard input and error are /dev/null, and the environment is
 * that of this process. The child leads a process group of its own. The whole group is killed when the child is
 * cancelled, runs longer than `limit_ms`, or writes more than `cap` bytes. ended() is never called before this returns.
 * NULL: it cannot be started, and *err says why.
 */
struct io_child *io_child_start(struct io_loop *loop, const struct io_child_config *cfg, const struct io_child_ops *ops,
                                void *ctx, struct ht_errmsg *err) HT_MUST_USE;
/* Kills the child; ended() is not called. Clears the pointer. NULL is ignored. */
void io_child_cancel(struct io_child **c);

/* ---- addresses of a name ---- */

struct io_resolve;
/*
 * Looks up the addresses of `host` as a dial does, of both families where the machine has both. done() gets them, with
 * port 0 and valid during the call; or none, and `why` says why. The io_resolve no longer exists then. done() is never
 * called before this returns. NULL: out of memory, or too many names are asked for.
 */
struct io_resolve *io_resolve_start(struct io_loop *loop, const char *host,
                                    void (*done)(void *ctx, const struct io_addr *addr, unsigned n, const char *why),
                                    void *ctx) HT_MUST_USE;
/* done() is not called. Clears the pointer. NULL is ignored. */
void io_resolve_cancel(struct io_resolve **r);

/* ---- work that takes long, on threads ---- */

#define IO_WORKERS 2       /* threads that work at the same time */
#define IO_WORK_MAX 1024   /* most bytes of what is to be done */
#define IO_WORK_RESULT 256 /* bytes of a result */
/* Runs on a thread of its own, and shares no memory with the loop. `out` has IO_WORK_RESULT bytes, all 0. */
typedef void io_work_fn(const void *in, size_t n, void *out);
struct io_work;
/* Has run() called with a copy of in[0..n). done() gets the result, or NULL when there is no thread for it; the io_work
 * no longer exists then. It is never called before this returns. The copies are wiped. NULL: out of memory. */
struct io_work *io_work_start(struct io_loop *loop, io_work_fn *run, const void *in, size_t n,
                              void (*done)(void *ctx, const void *out), void *ctx) HT_MUST_USE;
/* done() is not called. Work that runs keeps its thread until it is done. Clears the pointer. NULL is ignored. */
void io_work_cancel(struct io_work **w);

/* ---- listening ---- */

struct io_listener;

struct io_listener_ops {
    /* A new connection. The callee owns `c` and must set its ops. Reading is off. */
    void (*accepted)(void *ctx, struct io_conn *c, const struct io_addr *peer);
    /* May be NULL. accept() has failed with `err` (HT_EFDS, HT_ENOMEM, ...). The listener pauses for a moment and goes
     * on by itself. */
    void (*accept_failed)(void *ctx, int err);
};

/* The range of ports that the kernel uses for outgoing connections, for IPv4 and IPv6. Both 0: not known. */
void io_outgoing_ports(uint16_t *first, uint16_t *last);

/*
 * Listens on `addr`, with SO_REUSEADDR, without SO_REUSEPORT (hardening case 25), and with IPV6_V6ONLY. The caller owns
 * *out. Errors, with *err: HT_EINUSE, HT_EACCESS, HT_EADDR, HT_EFDS, HT_EIO. A turn accepts at most 64 connections.
 * When the process has no descriptor left, the listener accepts with a reserve descriptor, closes that connection, and
 * pauses for 100 ms. So it never spins, and it recovers by itself.
 */
int io_listen(struct io_loop *loop, const struct io_addr *addr, const struct io_listener_ops *ops, void *ctx,
              struct io_listener **out, struct ht_errmsg *err) HT_MUST_USE;
/* Makes a listener of a stream socket that listens already, is non-blocking, and is owned by the listener from now on:
 * a Unix socket with the permissions that its maker gave it. The path stays when the listener is closed. 0 or
 * HT_ENOMEM: the descriptor is closed, and *out is NULL. */
int io_listen_adopt(struct io_loop *loop, int fd, const struct io_listener_ops *ops, void *ctx,
                    struct io_listener **out) HT_MUST_USE;
void io_listener_set_ops(struct io_listener *l, const struct io_listener_ops *ops, void *ctx);
/* Stops accepting, or goes on. Connections meanwhile wait in the kernel. */
void io_listener_pause(struct io_listener *l, bool pause);
/*
 * The descriptor of its socket, for another process that goes on listening there. The listener keeps owning it, and
 * closes it without disturbing the other process.
 */
int io_listener_share(struct io_listener *l);
/*
 * The other way round: gives the loop a socket that listens already, and that the loop owns from now on. io_listen()
 * takes it when it is asked for the very address on which it listens, and opens no other. `role` says what it is for,
 * in at most IO_ROLE characters; "": not known. 0, or with *err, and the descriptor closed: HT_EINVAL: it is no TCP
 * socket that listens. HT_ENOMEM.
 */
#define IO_ROLE 31
int io_inherit(struct io_loop *loop, int fd, const char *role, struct ht_errmsg *err) HT_MUST_USE;
/* Whether such a socket for this address is there. */
bool io_inherited(const struct io_loop *loop, const struct io_addr *addr);
/* Replaces an address with port 0 by that of the inherited socket with this role, if there is one. */
void io_inherited_port(const struct io_loop *loop, const char *role, struct io_addr *addr);
/* Closes those that nobody took; calls told(), which may be NULL, for each. */
void io_inherit_drop(struct io_loop *loop, void (*told)(void *ctx, const struct io_addr *addr), void *ctx);
/* The address it listens on, with the real port. */
void io_listener_local(struct io_listener *l, struct io_addr *out);
/* Clears the pointer. NULL is ignored. */
void io_listener_close(struct io_listener **l);

/* ---- dialling ---- */

/*
 * The client side of TLS: TLS 1.2 or newer, with SNI and a check of the certificate's name. Both use the dialled name.
 */
struct io_tls;
struct io_tls_config {
    const char *ca_file;   /* authorities to trust; NULL: those of the system */
    const char *cert_file; /* our own certificate with its chain; NULL: none. Read again when it has changed */
    const char *key_file;  /* its key; NULL: in `cert_file`. Read again when it has changed. No password: refused */
    const char *alpn;      /* one protocol, such as "http/1.1"; NULL: no ALPN */
    bool insecure;         /* accepts any certificate */
    const char *pin;       /* fingerprint of the only certificate that is accepted; NULL: none. Its name, date and
                              authority are checked only when there is a `ca_file` too */
    const char *ca_option; /* name of the option for `ca_file`, for messages; static storage; may be NULL */
};
/* Copies what it needs of `cfg`. NULL: *err says why. */
struct io_tls *io_tls_create_with(const struct io_tls_config *cfg, struct ht_errmsg *err) HT_MUST_USE;
/* The same with ALPN http/1.1, verified against `ca_file`, or against the system's store when it is NULL. */
struct io_tls *io_tls_create(const char *ca_file, struct ht_errmsg *err) HT_MUST_USE;
/* The same with a pin, which may be NULL. */
struct io_tls *io_tls_create_pinned(const char *ca_file, const char *pin, struct ht_errmsg *err) HT_MUST_USE;
/* 0, or HT_EINVAL with *err: `text` is not "sha256:" and 64 hexadecimal digits, with or without colons. */
int io_tls_check_pin(const char *text, struct ht_errmsg *err) HT_MUST_USE;
/* A copy of `t` with a life of its own. It uses `name` for SNI and the certificate check, whatever host is dialled.
 * NULL: out of memory. */
struct io_tls *io_tls_named(struct io_tls *t, const char *name) HT_MUST_USE;
/* Clears the pointer. NULL is ignored. */
void io_tls_destroy(struct io_tls **t);

/* What is known of the TLS of a connection that was dialled. Texts are printable; times are in seconds since 1970. */
struct io_tls_facts {
    char version[16], subject[96], issuer[96]; /* of the certificate, "" when it has none */
    int64_t begins, ends;
};
/* False: there is no TLS. */
bool io_conn_tls_facts(const struct io_conn *c, struct io_tls_facts *out);

struct io_dial;

struct io_dial_ops {
    /* Connected, and the TLS handshake is done. The callee owns `c` and must set its ops. The io_dial no longer exists.
     */
    void (*connected)(void *ctx, struct io_conn *c);
    /* `text` tells a person where and why; it is valid during the call. TLS adds HT_ETLS, HT_ECERTDATE, HT_ECERTNAME
     * and HT_ECERTCA. The io_dial no longer exists. */
    void (*failed)(void *ctx, int err, const char *text);
    /*
     * Returns whether an address of `host` may be dialled. It is called for each address, with the port, before any is
     * tried, possibly inside io_dial_start(). Other addresses are left out; when none is left the dial fails with
     * HT_EACCESS (hardening case 35). NULL: all are allowed.
     */
    bool (*allowed)(void *ctx, const struct io_addr *a);
};

/*
 * Connects to `host`, a name or an address without brackets. A thread resolves names, and simultaneous dials to the
 * same name share one lookup. localhost and what is below it are not looked up: 127.0.0.1, then ::1. The addresses of
 * both families take turns (Happy Eyeballs, RFC 8305): the next attempt begins when one has failed, or 250 ms after the
 * last one began, and the first that connects ends all others. Everything together may take `timeout_ms`. `tls` NULL:
 * plain TCP. NULL: it cannot start, and *err says why. connected() and failed() are never called before this returns.
 */
struct io_dial *io_dial_start(struct io_loop *loop, const char *host, uint16_t port, struct io_tls *tls,
                              uint64_t timeout_ms, const struct io_dial_ops *ops, void *ctx,
                              struct ht_errmsg *err) HT_MUST_USE;
/*
 * Connects to the Unix socket at `path`, without TLS, as io_dial_start(). When its queue is full, it is tried again
 * until the time is over. failed() has HT_EREFUSED when nobody listens there or there is no such socket, and HT_EACCESS
 * when this user may not.
 */
struct io_dial *io_dial_unix(struct io_loop *loop, const char *path, uint64_t timeout_ms, const struct io_dial_ops *ops,
                             void *ctx, struct ht_errmsg *err) HT_MUST_USE;
/* The same, but tries the address `first` before the others if `host` has it. The port of `first` does not matter. Use
 * it for the address that has answered last. NULL: no preference. */
struct io_dial *io_dial_start_at(struct io_loop *loop, const struct io_addr *first, const char *host, uint16_t port,
                                 struct io_tls *tls, uint64_t timeout_ms, const struct io_dial_ops *ops, void *ctx,
                                 struct ht_errmsg *err) HT_MUST_USE;
/* The same through a proxy (io/proxy.h), which must outlive the dial; NULL: directly. Messages say which of the two
 * hops has failed. A proxy that refuses gives HT_EAUTH, HT_EACCESS, HT_EREFUSED, HT_EUNREACH, HT_ETIMEDOUT or HT_EIO.
 */
struct io_proxy;
struct io_dial *io_dial_start_via(struct io_loop *loop, const struct io_proxy *via, const char *host, uint16_t port,
                                  struct io_tls *tls, uint64_t timeout_ms, const struct io_dial_ops *ops, void *ctx,
                                  struct ht_errmsg *err) HT_MUST_USE;
/*
 * An io_dial for a connection that other code makes. That code calls io_dial_give() or io_dial_give_up(), and the
 * callback of `ops` comes at the end of the turn. cancelled(by) tells it that io_dial_cancel() was called. NULL: out of
 * memory.
 */
struct io_dial *io_dial_by(struct io_loop *loop, const struct io_dial_ops *ops, void *ctx, void (*cancelled)(void *by),
                           void *by) HT_MUST_USE;
/* The connection is there: takes `c` over. */
void io_dial_give(struct io_dial *d, struct io_conn *c);
/* There will be no connection; `text` is copied. */
void io_dial_give_up(struct io_dial *d, int err, const char *text);
/* Gives up: no callback is called, and a connection that exists already is reset. Clears the pointer. NULL is ignored.
 */
void io_dial_cancel(struct io_dial **d);

#endif
