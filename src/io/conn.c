#include "base/mem.h"
#include "io/io_priv.h"

#include <assert.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <openssl/err.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

/* What may sit unsent in the kernel before the tunnel's socket counts as full: a small request waits behind no more. */
#define TUNNEL_NOTSENT (128 * 1024)
/* A round trip below which the receive buffer is kept small: 256 KiB (the kernel doubles it) make 1.3 GB/s at 0.2 ms.
 * Half of it costs a tenth more CPU, twice as much doubles what small frames wait. The large one is for bulk that has
 * the connection for itself. */
#define SHORT_WAY_US 200
#define SHORT_WAY_RCVBUF (128 * 1024)
#define SHORT_WAY_WINDOW 200000

/* When a peer is asked whether it is there, how often more, and how many times in vain. */
#define KEEP_ALIVE_S 5
#define KEEP_ALIVE_TRIES 6
/* Bytes sent after which a connection is one for bulk: see io_congestion_local(). */
#define BULK_BEGINS (256u << 10)

static void update_interest(struct io_conn *c) {
    const struct io_conn_more *m = c->more;
    int want = (c->reading ? EV_READ : 0) | (c->writing ? EV_WRITE : 0);
    if (m && ht_list_linked(&m->held))
        want &= ~EV_READ;
    if (m)
        want |= (m->write_wants_read ? EV_READ : 0) | (m->read_wants_write ? EV_WRITE : 0);
    int have = ev_is_active(&c->io) ? c->io.events & (EV_READ | EV_WRITE) : 0;
    if (want == have)
        return;
    /* libev compares with what the kernel knows when the turn's changes are applied: there and back costs nothing.
     * ev_io_set instead of ev_io_modify would force an epoll_ctl. */
    io_unwatch(c->loop, &c->io);
    if (want) {
        ev_io_modify(&c->io, want);
        io_watch(c->loop, &c->io);
    }
}

/* TLS may have waited for the other direction, and a share may hold the connection. */
static void look_closer(struct io_conn *c, bool can_read, bool can_write, bool *readable, bool *writable) {
    struct io_conn_more *m = c->more;
    *readable = *readable || (c->reading && can_write && m->read_wants_write);
    *writable = *writable || (c->writing && can_read && m->write_wants_read);
    if ((can_write && m->read_wants_write) || (can_read && m->write_wants_read)) {
        m->read_wants_write = m->read_wants_write && !can_write;
        m->write_wants_read = m->write_wants_read && !can_read;
        update_interest(c);
    }
    if (*readable && m->share && io_share_holds(c)) {
        update_interest(c);
        *readable = false;
    }
}

static void on_event(struct ev_loop *ev, ev_io *w, int revents) {
    (void)ev;
    struct io_conn *c = w->data;
    struct io_loop *loop = c->loop;
    loop->current = c;
    bool can_read = revents & EV_READ, can_write = revents & EV_WRITE;
    bool readable = c->reading && can_read, writable = c->writing && can_write;
    if (c->more)
        look_closer(c, can_read, can_write, &readable, &writable);
    if (readable && c->ops)
        c->ops->readable(c->ctx);
    if (loop->current == c && writable && c->writing && c->ops)
        c->ops->writable(c->ctx);
    loop->current = NULL;
}

struct io_conn *io_conn_adopt(struct io_loop *loop, int fd, const struct io_conn_ops *ops, void *ctx) {
    struct io_conn *c = ht_calloc(1, sizeof *c);
    if (!c) {
        close(fd);
        return NULL;
    }
    c->loop = loop;
    loop->n_fds++;
    c->ops = ops;
    c->ctx = ctx;
    ev_io_init(&c->io, on_event, fd, 0);
    c->io.data = c;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &(int){1}, sizeof(int)); /* fails on a Unix socket, which needs none */
    return c;
}

struct io_conn_more *io_conn_more(struct io_conn *c) {
    if (!c->more && (c->more = ht_calloc(1, sizeof *c->more))) {
        c->more->conn = c;
        ht_list_init(&c->more->again);
        ht_list_init(&c->more->held);
    }
    return c->more;
}

bool io_conn_set_ssl(struct io_conn *c, SSL *ssl) {
    if (!io_conn_more(c)) {
        SSL_free(ssl);
        return false;
    }
    c->more->outer = c->more->ssl;
    c->more->ssl = ssl;
    return true;
}

int io_conn_pair(struct io_loop *loop, struct io_conn *out[2]) {
    int fds[2];
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fds) < 0)
        return ht_err_from_errno(errno);
    out[0] = io_conn_adopt(loop, fds[0], NULL, NULL);
    out[1] = io_conn_adopt(loop, fds[1], NULL, NULL);
    if (!out[0] || !out[1] || !io_conn_more(out[0]) || !io_conn_more(out[1])) {
        io_conn_close(&out[0]);
        io_conn_close(&out[1]);
        return HT_ENOMEM;
    }
    out[0]->more->twin = out[1];
    out[1]->more->twin = out[0];
    return HT_OK;
}

void io_conn_set_ops(struct io_conn *c, const struct io_conn_ops *ops, void *ctx) {
    c->ops = ops;
    c->ctx = ctx;
}

void io_conn_check_again(struct io_conn *c) {
    struct io_conn_more *m = c->more;
    if (m && m->ssl && c->reading && !ht_list_linked(&m->held) && ((!m->drained && io_tls_holds(m)) || m->ended) &&
        !ht_list_linked(&m->again)) {
        ht_list_push_back(&c->loop->again, &m->again);
        io_loop_wake(c->loop);
    }
}

void io_conn_let_go(struct io_conn *c) {
    c->more->next_in_share = true;
    io_conn_check_again(c);
    update_interest(c);
}

void io_conn_read_on(struct io_conn *c, bool on) {
    if (c->reading == on)
        return;
    c->reading = on;
    if (!on && c->more)
        ht_list_remove(&c->more->again);
    io_conn_check_again(c);
    update_interest(c);
}

void io_conn_want_write(struct io_conn *c, bool on) {
    if (c->writing == on)
        return;
    c->writing = on;
    update_interest(c);
}

/*
 * The kernel tells of a reset once, to whoever asks first, and calls it an end from then on. When that was a writer, a
 * reader would take what was cut for whole. (EPIPE is a reset behind the peer's end: what came before it is whole.)
 */
static int noted(struct io_conn *c, int err) {
    c->lost = c->lost || err == ECONNRESET;
    return ht_err_from_errno(err);
}

static ssize_t end_of(const struct io_conn *c) { return c->lost ? HT_ERESET : HT_EOF; }

/* Copies to[0..n) as far as `most` bytes reach. Returns how many pieces that are. */
static int clip(struct iovec out[IO_READ_IOV], const struct iovec *to, int n, size_t most) {
    int count = 0;
    for (; count < n && (most > 0 || count == 0); count++) {
        out[count] = (struct iovec){.iov_base = to[count].iov_base, .iov_len = ht_min(to[count].iov_len, most)};
        most -= out[count].iov_len;
    }
    return count;
}

static ssize_t receive(struct io_conn *c, struct iovec *to, int count) {
    ssize_t n;
    struct msghdr m = {.msg_iov = to, .msg_iovlen = (size_t)count};
    do
        n = count == 1 ? recv(c->io.fd, to[0].iov_base, to[0].iov_len, 0) : recvmsg(c->io.fd, &m, 0);
    while (n < 0 && errno == EINTR);
    return n > 0 ? n : n == 0 ? end_of(c) : ht_err_from_errno(errno);
}

/* What comes behind the first piece, an end or an error, is kept by TLS and told by the next read. */
static ssize_t receive_tls(struct io_conn *c, const struct iovec *to, int count) {
    ssize_t total = 0;
    for (int i = 0; i < count; i++) {
        ssize_t n = io_tls_read(c, to[i].iov_base, to[i].iov_len);
        total = n < 0 && total == 0 ? n : n < 0 ? total : total + n;
        if (n < (ssize_t)to[i].iov_len)
            break;
    }
    io_conn_check_again(c);
    update_interest(c);
    return total;
}

ssize_t io_conn_read(struct io_conn *c, void *buf, size_t cap) {
    return io_conn_readv(c, &(struct iovec){.iov_base = buf, .iov_len = cap}, 1, cap);
}

ssize_t io_conn_readv(struct io_conn *c, const struct iovec *to, int n_to, size_t most) {
    struct iovec iov[IO_READ_IOV];
    bool shares = io_conn_shares(c);
    assert(n_to <= IO_READ_IOV);
    if (shares && io_share_is_spent(c)) {
        update_interest(c);
        return HT_EAGAIN;
    }
    int count = clip(iov, to, n_to, shares ? io_share_cap(c, most) : most);
    ssize_t n = io_conn_ssl(c) ? receive_tls(c, iov, count) : receive(c, iov, count);
    if (n > 0) {
        c->in += (uint64_t)n;
        if (shares)
            io_share_took(c, (size_t)n);
    }
    return n;
}

ssize_t io_conn_peek_bytes(struct io_conn *c, void *buf, size_t cap) {
    ssize_t n;
    do
        n = recv(c->io.fd, buf, cap, MSG_PEEK);
    while (n < 0 && errno == EINTR);
    return n > 0 ? n : n == 0 ? end_of(c) : ht_err_from_errno(errno);
}

int io_conn_peek(struct io_conn *c) {
    unsigned char byte;
    ssize_t n = io_conn_peek_bytes(c, &byte, 1);
    return n > 0 ? byte : (int)n;
}

/* TCP forgets the bytes without copying them (tcp(7), MSG_TRUNC). */
ssize_t io_conn_discard(struct io_conn *c) {
    static char drop[65536];
    if (io_conn_ssl(c))
        return io_conn_read(c, drop, sizeof drop);
    ssize_t n;
    do
        n = recv(c->io.fd, drop, sizeof drop, MSG_TRUNC);
    while (n < 0 && errno == EINTR);
    if (n > 0)
        c->in += (uint64_t)n;
    return n > 0 ? n : n == 0 ? end_of(c) : ht_err_from_errno(errno);
}

int io_conn_error(struct io_conn *c) {
    int err = 0;
    socklen_t len = sizeof err;
    if (getsockopt(c->io.fd, SOL_SOCKET, SO_ERROR, &err, &len) != 0)
        err = errno;
    return err ? noted(c, err) : HT_OK;
}

int io_conn_look(struct io_conn *c) {
    struct tcp_info info = {0};
    socklen_t len = sizeof info;
    if (getsockopt(c->io.fd, IPPROTO_TCP, TCP_INFO, &info, &len) != 0)
        return HT_OK; /* not TCP: reading will tell */
    switch (info.tcpi_state) {
    case TCP_CLOSE_WAIT:
    case TCP_CLOSING:
    case TCP_LAST_ACK:
        return HT_EOF;
    case TCP_CLOSE: {
        int err = io_conn_error(c);
        return err ? err : HT_ERESET;
    }
    default:
        return HT_OK;
    }
}

/* What is dialled gets it only here: to choose costs a small request behind a new connection a twentieth. */
static void stop_pacing(struct io_conn *c) {
    struct io_addr peer;
    io_conn_peer(c, &peer);
    if (io_addr_is_loopback(&peer))
        io_congestion_local(c->io.fd);
}

static void count_out(struct io_conn *c, size_t n) {
    bool small = c->out < BULK_BEGINS;
    c->out += n;
    if (HT_UNLIKELY(small && c->out >= BULK_BEGINS))
        stop_pacing(c);
}

ssize_t io_conn_write(struct io_conn *c, const struct iovec *iov, int iovcnt) {
    ssize_t n;
    if (io_conn_ssl(c)) {
        n = io_tls_write(c, iov, iovcnt);
        update_interest(c);
    } else {
        struct iovec *v = (struct iovec *)(uintptr_t)iov; /* sendmsg only reads it */
        struct msghdr m = {.msg_iov = v, .msg_iovlen = (size_t)iovcnt};
        do
            n = sendmsg(c->io.fd, &m, MSG_NOSIGNAL);
        while (n < 0 && errno == EINTR);
        if (n < 0)
            n = noted(c, errno);
    }
    if (n > 0)
        count_out(c, (size_t)n);
    return n;
}

int io_conn_shutdown(struct io_conn *c) {
    if (c->shut)
        return HT_OK;
    /* A FIN without close_notify would make the peer take everything for cut. */
    if (io_conn_ssl(c) && !c->more->broken && io_tls_shutdown(c) == HT_EAGAIN)
        return HT_EAGAIN;
    c->shut = true;
    return shutdown(c->io.fd, SHUT_WR) == 0 ? HT_OK : ht_err_from_errno(errno);
}

static void destroy_more(struct io_conn *c) {
    struct io_conn_more *m = c->more;
    ht_list_remove(&m->held);
    io_conn_leave_share(c);
    ht_list_remove(&m->again);
    if (m->twin)
        m->twin->more->twin = NULL;
    if (m->outer) /* its BIO would say goodbye on behalf of a connection that is aborted */
        SSL_set_quiet_shutdown(m->outer, 1);
    SSL_free(m->ssl);
    ht_free(m);
}

static int take_apart(struct io_conn *c) {
    int fd = c->io.fd;
    io_unwatch(c->loop, &c->io);
    if (c->more)
        destroy_more(c);
    if (c->loop->current == c)
        c->loop->current = NULL;
    c->loop->n_fds--;
    ht_free(c);
    return fd;
}

static void destroy(struct io_conn *c) { close(take_apart(c)); }

void io_set_reset(int fd, bool on) {
    struct linger l = {.l_onoff = on, .l_linger = 0};
    setsockopt(fd, SOL_SOCKET, SO_LINGER, &l, sizeof l);
}

void io_conn_reset_on_exit(struct io_conn *c) {
    if (!c->resets)
        io_set_reset(c->io.fd, true);
    c->resets = true;
}

void io_conn_close(struct io_conn **cp) {
    struct io_conn *c = *cp;
    if (!c)
        return;
    *cp = NULL;
    if (c->resets)
        io_set_reset(c->io.fd, false);
    if (io_conn_ssl(c) && !c->shut && !c->more->broken)
        (void)io_tls_shutdown(c);
    destroy(c);
}

void io_conn_abort(struct io_conn **cp) {
    struct io_conn *c = *cp;
    if (!c)
        return;
    *cp = NULL;
    if (!c->resets)
        io_set_reset(c->io.fd, true);
    if (c->more && c->more->twin) /* a Unix socket knows no reset */
        c->more->twin->lost = true;
    destroy(c);
}

int io_conn_release(struct io_conn **cp) {
    struct io_conn *c = *cp;
    struct io_loop *loop = c->loop;
    assert(!io_conn_ssl(c));
    *cp = NULL;
    if (c->resets)
        io_set_reset(c->io.fd, false);
    int fd = take_apart(c);
    /* The kernel forgets a watch when the socket is closed everywhere. */
    if (loop->fd >= 0)
        (void)epoll_ctl(loop->fd, EPOLL_CTL_DEL, fd, NULL);
    return fd;
}

/* ---- asking ---- */

void io_conn_peer(struct io_conn *c, struct io_addr *out) {
    *out = (struct io_addr){.len = sizeof out->ss};
    if (getpeername(c->io.fd, (struct sockaddr *)&out->ss, &out->len) != 0)
        *out = (struct io_addr){0};
}

void io_conn_local(struct io_conn *c, struct io_addr *out) {
    *out = (struct io_addr){.len = sizeof out->ss};
    if (getsockname(c->io.fd, (struct sockaddr *)&out->ss, &out->len) != 0)
        *out = (struct io_addr){0};
}

const char *io_conn_error_text(const struct io_conn *c, int err) {
    return err == HT_ETLS && c->more && c->more->tls_error ? c->more->tls_error : ht_err_text(err);
}

bool io_conn_resumed(const struct io_conn *c) {
    SSL *ssl = io_conn_ssl(c);
    return ssl && SSL_session_reused(ssl);
}

int io_conn_fd(struct io_conn *c) { return c->io.fd; }

void io_conn_counts(struct io_conn *c, uint64_t *in, uint64_t *out) {
    *in = c->in;
    *out = c->out;
}

void io_conn_keep_alive(struct io_conn *c) {
    setsockopt(c->io.fd, SOL_SOCKET, SO_KEEPALIVE, &(int){1}, sizeof(int));
    setsockopt(c->io.fd, IPPROTO_TCP, TCP_KEEPIDLE, &(int){KEEP_ALIVE_S}, sizeof(int));
    setsockopt(c->io.fd, IPPROTO_TCP, TCP_KEEPINTVL, &(int){KEEP_ALIVE_S}, sizeof(int));
    setsockopt(c->io.fd, IPPROTO_TCP, TCP_KEEPCNT, &(int){KEEP_ALIVE_TRIES}, sizeof(int));
}

/*
 * The buffer bounds what waits to be read, the window what may be on its way besides. A buffer that becomes too small
 * for what is on its way makes the kernel drop it.
 */
void io_conn_tunnel_window(struct io_conn *c, enum io_tunnel_window to) {
    int buffer = to == IO_WINDOW_SMALL ? SHORT_WAY_RCVBUF : IO_TUNNEL_LARGE;
    int window = to == IO_WINDOW_LARGE ? IO_TUNNEL_LARGE : SHORT_WAY_WINDOW;
    if (to != IO_WINDOW_SHRINKS)
        setsockopt(c->io.fd, SOL_SOCKET, SO_RCVBUF, &buffer, sizeof buffer);
    if (to != IO_WINDOW_SMALL)
        setsockopt(c->io.fd, IPPROTO_TCP, TCP_WINDOW_CLAMP, &window, sizeof window);
}

bool io_conn_tune_tunnel(struct io_conn *c, uint64_t dead_ms) {
    struct tcp_info info;
    socklen_t len = sizeof info;
    setsockopt(c->io.fd, IPPROTO_TCP, TCP_USER_TIMEOUT, &(unsigned){(unsigned)ht_min(dead_ms, INT32_MAX)},
               sizeof(unsigned));
    setsockopt(c->io.fd, IPPROTO_TCP, TCP_NOTSENT_LOWAT, &(int){TUNNEL_NOTSENT}, sizeof(int));
    /* On a short way the kernel would let megabytes pile up in front of a busy reader, and each small frame behind
     * them. */
    if (getsockopt(c->io.fd, IPPROTO_TCP, TCP_INFO, &info, &len) != 0 || info.tcpi_rtt == 0 ||
        info.tcpi_rtt >= SHORT_WAY_US)
        return false;
    stop_pacing(c);
    io_conn_tunnel_window(c, IO_WINDOW_SMALL);
    return true;
}
