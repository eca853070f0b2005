#include "base/mem.h"
#include "io/io_priv.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#define ACCEPTS_PER_TURN 64
#define PAUSE_MS 100
#define BACKLOG 1024

struct io_listener {
    ev_io io;
    struct io_loop *loop;
    const struct io_listener_ops *ops;
    void *ctx;
    struct io_timer resume;
    int reserve;  /* a descriptor to give up when there is no other; -1 while there is none */
    bool paused;  /* by its owner */
    bool shared;  /* another process has the socket, too */
    bool local;   /* its address is a loopback address: so are its peers' */
    bool *closed; /* set while callbacks run: they may close the listener */
};

/* A socket that listens, from another process. */
struct io_heirloom {
    struct ht_list node; /* in the loop's list */
    int fd;
    struct io_addr addr;
    char role[IO_ROLE + 1];
};

static void open_reserve(struct io_listener *l) {
    l->reserve = open("/dev/null", O_RDONLY | O_CLOEXEC);
    l->loop->n_fds += l->reserve >= 0;
}

static void close_reserve(struct io_listener *l) {
    if (l->reserve < 0)
        return;
    close(l->reserve);
    l->reserve = -1;
    l->loop->n_fds--;
}

static void update_interest(struct io_listener *l) {
    bool want = !l->paused && !io_timer_active(&l->resume);
    if (want && !ev_is_active(&l->io))
        io_watch(l->loop, &l->io);
    else if (!want)
        io_unwatch(l->loop, &l->io);
}

static void on_resume(struct io_timer *t) {
    struct io_listener *l = ht_container_of(t, struct io_listener, resume);
    if (l->reserve < 0)
        open_reserve(l);
    update_interest(l);
}

/* Takes one visitor off the queue and hangs up, so that he does not wait for an answer that cannot come. */
static void turn_away(struct io_listener *l) {
    if (l->reserve < 0)
        return;
    close_reserve(l);
    int fd = accept4(l->io.fd, NULL, NULL, SOCK_CLOEXEC);
    if (fd >= 0)
        close(fd);
    open_reserve(l);
}

/* Errors of the one connection that was about to be accepted (accept(2), "Error handling"); the next may be fine. */
static bool is_passing(int e) {
    switch (e) {
    case EINTR:
    case ECONNABORTED:
    case EPROTO:
    case ENETDOWN:
    case ENOPROTOOPT:
    case EHOSTDOWN:
    case ENONET:
    case EHOSTUNREACH:
    case ENETUNREACH:
    case EOPNOTSUPP:
    case EPERM: /* a firewall rule */
        return true;
    default:
        return false;
    }
}

/* A server's TLS handshake will come in between. Without memory for it a visitor goes as it came. */
static void hand_out(struct io_listener *l, int fd, const struct io_addr *peer) {
    if (!l->local && io_addr_is_loopback(peer))
        io_congestion_local(fd);
    struct io_conn *c = io_conn_adopt(l->loop, fd, NULL, NULL);
    if (c)
        l->ops->accepted(l->ctx, c, peer);
}

static void on_acceptable(struct ev_loop *ev, ev_io *w, int revents) {
    (void)ev;
    (void)revents;
    struct io_listener *l = w->data;
    bool closed = false;
    l->closed = &closed;
    for (int i = 0; i < ACCEPTS_PER_TURN && !closed && !l->paused; i++) {
        struct io_addr peer = {.len = sizeof peer.ss};
        int fd = accept4(w->fd, (struct sockaddr *)&peer.ss, &peer.len, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (fd >= 0) {
            hand_out(l, fd, &peer);
            continue;
        }
        int e = errno;
        if (is_passing(e))
            continue;
        if (e == EAGAIN || e == EWOULDBLOCK)
            break;
        if (e == EMFILE || e == ENFILE)
            turn_away(l);
        io_timer_set(&l->resume, PAUSE_MS);
        update_interest(l);
        if (l->ops->accept_failed)
            l->ops->accept_failed(l->ctx, ht_err_from_errno(e));
        break;
    }
    if (!closed)
        l->closed = NULL;
}

/* ---- sockets from another process ---- */

static bool listens(int fd, struct io_addr *addr) {
    int yes = 0;
    socklen_t n = sizeof yes;
    *addr = (struct io_addr){.len = sizeof addr->ss};
    return getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &yes, &n) == 0 && yes &&
           getsockname(fd, (struct sockaddr *)&addr->ss, &addr->len) == 0 &&
           (addr->ss.ss_family == AF_INET || addr->ss.ss_family == AF_INET6);
}

int io_inherit(struct io_loop *loop, int fd, const char *role, struct ht_errmsg *err) {
    struct io_addr addr;
    bool good = listens(fd, &addr);
    int flags = good ? fcntl(fd, F_GETFL) : -1;
    struct io_heirloom *h = flags >= 0 ? ht_calloc(1, sizeof *h) : NULL;
    if (!h || fcntl(fd, F_SETFL, flags | O_NONBLOCK) != 0 || fcntl(fd, F_SETFD, FD_CLOEXEC) != 0) {
        close(fd);
        ht_free(h);
        return good && !h ? ht_fail(err, HT_ENOMEM, "out of memory")
                          : ht_fail(err, HT_EINVAL, "it is no TCP socket that listens");
    }
    h->fd = fd;
    h->addr = addr;
    snprintf(h->role, sizeof h->role, "%s", role);
    ht_list_init(&h->node);
    ht_list_push_back(&loop->inherited, &h->node);
    return HT_OK;
}

static struct io_heirloom *heirloom(const struct io_loop *loop, const struct io_addr *addr) {
    HT_LIST_FOR (it, &loop->inherited) {
        struct io_heirloom *h = HT_LIST_ENTRY(it, struct io_heirloom, node);
        if (io_addr_same(&h->addr, addr))
            return h;
    }
    return NULL;
}

bool io_inherited(const struct io_loop *loop, const struct io_addr *addr) { return heirloom(loop, addr) != NULL; }

void io_inherited_port(const struct io_loop *loop, const char *role, struct io_addr *addr) {
    if (io_addr_port(addr))
        return;
    HT_LIST_FOR (it, &loop->inherited) {
        struct io_heirloom *h = HT_LIST_ENTRY(it, struct io_heirloom, node);
        if (strcmp(h->role, role) == 0 && h->addr.ss.ss_family == addr->ss.ss_family) {
            *addr = h->addr;
            return;
        }
    }
}

static int take_heirloom(struct io_heirloom *h) {
    int fd = h->fd;
    ht_list_remove(&h->node);
    ht_free(h);
    return fd;
}

void io_inherit_drop(struct io_loop *loop, void (*told)(void *ctx, const struct io_addr *addr), void *ctx) {
    while (!ht_list_empty(&loop->inherited)) {
        struct io_heirloom *h = HT_LIST_ENTRY(loop->inherited.next, struct io_heirloom, node);
        if (told)
            told(ctx, &h->addr);
        close(take_heirloom(h));
    }
}

/* ---- listeners ---- */

static int open_socket(const struct io_addr *addr, const char **what) {
    *what = "open a socket for";
    int fd = socket(addr->ss.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return -1;
    int one = 1;
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    if (addr->ss.ss_family == AF_INET6)
        setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &one, sizeof one);
    if (io_addr_is_loopback(addr))
        io_congestion_local(fd);
    *what = "listen on";
    if (bind(fd, (const struct sockaddr *)&addr->ss, addr->len) == 0 && listen(fd, BACKLOG) == 0)
        return fd;
    int e = errno;
    close(fd);
    errno = e;
    return -1;
}

static void begin(struct io_listener *l, struct io_loop *loop, int fd, const struct io_listener_ops *ops, void *ctx) {
    l->loop = loop;
    l->ops = ops;
    l->ctx = ctx;
    open_reserve(l);
    loop->n_fds++;
    io_timer_init(loop, &l->resume, on_resume);
    ev_io_init(&l->io, on_acceptable, fd, EV_READ);
    l->io.data = l;
    update_interest(l);
}

int io_listen(struct io_loop *loop, const struct io_addr *addr, const struct io_listener_ops *ops, void *ctx,
              struct io_listener **out, struct ht_errmsg *err) {
    char text[IO_ADDR_TEXT];
    const char *what = NULL;
    struct io_listener *l = ht_calloc(1, sizeof *l);
    if (!l)
        return ht_fail(err, HT_ENOMEM, "cannot listen on %s: out of memory", io_addr_text(addr, text));
    struct io_heirloom *from = heirloom(loop, addr);
    l->shared = from != NULL;
    int fd = from ? take_heirloom(from) : open_socket(addr, &what);
    if (fd < 0) {
        int e = errno;
        ht_free(l);
        int rc = ht_err_from_errno(e);
        if (rc != HT_EINUSE && rc != HT_EACCESS && rc != HT_EADDR && rc != HT_EFDS && rc != HT_ENOMEM)
            rc = HT_EIO;
        return ht_fail(err, rc, "cannot %s %s: %s%s", what, io_addr_text(addr, text),
                       rc == HT_EIO ? strerror(e) : ht_err_text(rc),
                       rc == HT_EACCESS && io_addr_port(addr) < 1024 ? " (ports below 1024 need a privilege)" : "");
    }
    begin(l, loop, fd, ops, ctx);
    l->local = io_addr_is_loopback(addr);
    *out = l;
    return HT_OK;
}

int io_listen_adopt(struct io_loop *loop, int fd, const struct io_listener_ops *ops, void *ctx,
                    struct io_listener **out) {
    struct io_listener *l = ht_calloc(1, sizeof *l);
    *out = l;
    if (!l) {
        close(fd);
        return HT_ENOMEM;
    }
    begin(l, loop, fd, ops, ctx);
    return HT_OK;
}

void io_listener_set_ops(struct io_listener *l, const struct io_listener_ops *ops, void *ctx) {
    l->ops = ops;
    l->ctx = ctx;
}

void io_listener_pause(struct io_listener *l, bool pause) {
    l->paused = pause;
    update_interest(l);
}

int io_listener_share(struct io_listener *l) {
    l->shared = true;
    return l->io.fd;
}

void io_listener_local(struct io_listener *l, struct io_addr *out) {
    *out = (struct io_addr){.len = sizeof out->ss};
    if (getsockname(l->io.fd, (struct sockaddr *)&out->ss, &out->len) != 0)
        *out = (struct io_addr){0};
}

void io_listener_close(struct io_listener **lp) {
    struct io_listener *l = *lp;
    if (!l)
        return;
    *lp = NULL;
    if (l->closed)
        *l->closed = true;
    io_timer_stop(&l->resume);
    io_unwatch(l->loop, &l->io);
    /* The kernel forgets a watch when the socket is closed everywhere. */
    if (l->shared && l->loop->fd >= 0)
        (void)epoll_ctl(l->loop->fd, EPOLL_CTL_DEL, l->io.fd, NULL);
    close(l->io.fd);
    l->loop->n_fds--;
    close_reserve(l);
    ht_free(l);
}

void io_outgoing_ports(uint16_t *first, uint16_t *last) {
    char text[64], *behind = text;
    int fd = open("/proc/sys/net/ipv4/ip_local_port_range", O_RDONLY | O_CLOEXEC);
    ssize_t n = fd < 0 ? -1 : read(fd, text, sizeof text - 1);
    if (fd >= 0)
        close(fd);
    text[n < 0 ? 0 : n] = '\0';
    /* Not with stdio: its scanf would be another 64 KiB of the C library in every kit's memory. */
    unsigned long a = strtoul(text, &behind, 10), b = strtoul(behind, NULL, 10);
    bool known = a > 0 && a <= b && b <= UINT16_MAX;
    *first = known ? (uint16_t)a : 0;
    *last = known ? (uint16_t)b : 0;
}
