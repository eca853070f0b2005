#include "base/clock.h"
#include "base/mem.h"
#include "io/io_priv.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netdb.h>
#include <stdio.h>
#include <sys/socket.h>
#include <unistd.h>

enum dial_state { DIAL_RESOLVING, DIAL_CONNECTING, DIAL_HANDSHAKE, DIAL_FAILED, DIAL_GIVEN };

struct io_dial {
    struct io_loop *loop;
    const struct io_dial_ops *ops;
    void *ctx;
    struct io_tls *tls;
    void (*cancelled)(void *by); /* io_dial_by(), until it was given */
    void *by;
    enum dial_state state;
    struct io_lookup_wait lookup;
    ev_io io; /* the socket that connects */
    int fd;   /* -1: none */
    struct io_conn *conn;
    struct io_timer timer;
    struct io_task report; /* a failure that was known at once is told at the end of the turn */
    uint64_t timeout_ms, deadline_us;
    unsigned next;
    struct io_resolved to;
    struct io_addr first; /* len 0: none */
    int err;              /* of the first attempt that failed */
    struct ht_errmsg text;
    uint16_t port;
    char name[IO_ADDR_TEXT + 256]; /* host:port for people */
    char host[];
};

static void drop_fd(struct io_dial *d) {
    if (d->fd < 0)
        return;
    io_unwatch(d->loop, &d->io);
    close(d->fd);
    d->fd = -1;
}

void io_dial_cancel(struct io_dial **dp) {
    struct io_dial *d = *dp;
    if (!d)
        return;
    *dp = NULL;
    if (d->cancelled)
        d->cancelled(d->by);
    /* It may stand already, unknown to us: a service must not take what was called off for a caller who came, said
     * nothing and left in order. */
    if (d->fd >= 0)
        io_set_reset(d->fd, true);
    drop_fd(d);
    io_conn_abort(&d->conn);
    io_lookup_cancel(&d->lookup);
    io_timer_stop(&d->timer);
    io_task_cancel(&d->report);
    ht_free(d);
}

static void finish_failed(struct io_dial *d) {
    struct ht_errmsg text = d->text;
    const struct io_dial_ops *ops = d->ops;
    void *ctx = d->ctx;
    int err = d->err;
    io_dial_cancel(&d);
    ops->failed(ctx, err, text.text);
}

static void on_report(struct io_task *t);

/* Reports the end by a task, because the caller may still be inside io_dial_start(). */
static void fail(struct io_dial *d, int err) {
    d->state = DIAL_FAILED;
    d->err = err;
    drop_fd(d);
    io_conn_close(&d->conn);
    io_lookup_cancel(&d->lookup);
    io_timer_stop(&d->timer);
    io_task_add(d->loop, &d->report);
}

static void fail_connect(struct io_dial *d) {
    char tried[300] = "", one[IO_ADDR_TEXT];
    size_t at = 0;
    bool by_name = d->to.n > 1 || strcmp(io_addr_host(&d->to.addr[0], one), d->host) != 0;
    for (unsigned i = 0; by_name && i < d->next && at < sizeof tried; i++)
        at += (size_t)snprintf(tried + at, sizeof tried - at, "%s%s", i ? ", " : " (tried ",
                               io_addr_text(&d->to.addr[i], one));
    ht_fail(&d->text, d->err, "cannot connect to %s: %s%s%s", d->name, ht_err_text(d->err), tried, *tried ? ")" : "");
    fail(d, d->err);
}

static uint64_t left_ms(const struct io_dial *d) {
    uint64_t now = ht_now_us();
    return now < d->deadline_us ? (d->deadline_us - now + 999) / 1000 : 0;
}

static void connected(struct io_dial *d) {
    struct io_conn *c = d->conn;
    const struct io_dial_ops *ops = d->ops;
    void *ctx = d->ctx;
    d->conn = NULL;
    io_conn_set_ops(c, NULL, NULL);
    io_conn_read_on(c, false);
    io_conn_want_write(c, false);
    io_dial_cancel(&d);
    ops->connected(ctx, c);
}

static void on_report(struct io_task *t) {
    struct io_dial *d = ht_container_of(t, struct io_dial, report);
    if (d->state == DIAL_GIVEN)
        connected(d);
    else
        finish_failed(d);
}

static void handshake(void *ctx) {
    struct io_dial *d = ctx;
    int want = 0;
    int rc = io_tls_handshake(io_conn_ssl(d->conn), d->name, &want, &d->text);
    if (rc == HT_OK) {
        connected(d);
    } else if (rc == HT_EAGAIN) {
        io_conn_read_on(d->conn, want == EV_READ);
        io_conn_want_write(d->conn, want == EV_WRITE);
    } else {
        d->conn->more->broken = true;
        fail(d, rc);
    }
}

static const struct io_conn_ops handshake_ops = {handshake, handshake};

static void try_next(struct io_dial *d);

static void attempt_failed(struct io_dial *d, int err) {
    /* "refused" says more than "unreachable" when a host has both families and we have one. */
    if (d->err == HT_OK || (err == HT_EREFUSED && (d->err == HT_EUNREACH || d->err == HT_EADDR)))
        d->err = err;
    drop_fd(d);
    try_next(d);
}

static void on_connected(struct io_dial *d) {
    int e = 0;
    socklen_t len = sizeof e;
    if (getsockopt(d->fd, SOL_SOCKET, SO_ERROR, &e, &len) != 0)
        e = errno;
    if (e != 0) {
        attempt_failed(d, ht_err_from_errno(e));
        return;
    }
    io_unwatch(d->loop, &d->io);
    int fd = d->fd;
    SSL *ssl;
    d->fd = -1;
    d->conn = io_conn_adopt(d->loop, fd, NULL, NULL);
    if (!d->conn) {
        ht_fail(&d->text, HT_ENOMEM, "cannot connect to %s: out of memory", d->name);
        fail(d, HT_ENOMEM);
    } else if (!d->tls) {
        connected(d);
    } else if (!(ssl = io_tls_session(d->tls, fd, d->host, &d->text))) {
        fail(d, HT_ETLS);
    } else if (!io_conn_set_ssl(d->conn, ssl)) {
        ht_fail(&d->text, HT_ENOMEM, "cannot connect to %s: out of memory", d->name);
        fail(d, HT_ENOMEM);
    } else {
        d->state = DIAL_HANDSHAKE;
        io_timer_set(&d->timer, left_ms(d)); /* no other address is tried from here on */
        io_conn_set_ops(d->conn, &handshake_ops, d);
        handshake(d);
    }
}

static bool same_host(const struct io_addr *a, const struct io_addr *b) {
    char x[IO_ADDR_TEXT], y[IO_ADDR_TEXT];
    return strcmp(io_addr_host(a, x), io_addr_host(b, y)) == 0;
}

/* Leaves only those that may be dialled. */
static void sift(struct io_dial *d) {
    unsigned n = 0;
    for (unsigned i = 0; i < d->to.n; i++)
        if (d->ops->allowed(d->ctx, &d->to.addr[i]))
            d->to.addr[n++] = d->to.addr[i];
    d->to.n = n;
}

/* The addresses are known. */
static void connect_to(struct io_dial *d) {
    d->state = DIAL_CONNECTING;
    if (d->ops->allowed)
        sift(d);
    if (d->to.n == 0) {
        ht_fail(&d->text, HT_EACCESS, "connecting to %s is not allowed", d->name);
        fail(d, HT_EACCESS);
        return;
    }
    for (unsigned i = 1; d->first.len && i < d->to.n; i++)
        if (same_host(&d->to.addr[i], &d->first)) {
            struct io_addr swap = d->to.addr[0];
            d->to.addr[0] = d->to.addr[i];
            d->to.addr[i] = swap;
            break;
        }
    try_next(d);
}

static void set_port(struct io_addr *a, uint16_t port) {
    if (a->ss.ss_family == AF_INET6)
        ((struct sockaddr_in6 *)&a->ss)->sin6_port = htons(port);
    else
        ((struct sockaddr_in *)&a->ss)->sin_port = htons(port);
}

static void resolved(struct io_dial *d, const struct io_resolved *r) {
    d->to = *r;
    if (r->gai != 0 || r->n == 0) {
        ht_fail(&d->text, HT_ERESOLVE, "cannot resolve %s: %s", d->host, r->gai ? gai_strerror(r->gai) : "no address");
        fail(d, HT_ERESOLVE);
        return;
    }
    for (unsigned i = 0; i < d->to.n; i++)
        set_port(&d->to.addr[i], d->port);
    connect_to(d);
}

static void on_resolved(struct io_lookup_wait *w, const struct io_resolved *r) {
    resolved(ht_container_of(w, struct io_dial, lookup), r);
}

static void on_io(struct ev_loop *ev, ev_io *w, int revents) {
    (void)ev;
    (void)revents;
    on_connected(w->data);
}

static void watch(struct io_dial *d, int fd, int events) {
    d->fd = fd;
    ev_io_init(&d->io, on_io, fd, events);
    d->io.data = d;
    io_watch(d->loop, &d->io);
}

static void try_next(struct io_dial *d) {
    while (d->next < d->to.n) {
        const struct io_addr *a = &d->to.addr[d->next++];
        int fd = socket(a->ss.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
        if (fd >= 0 && io_addr_is_loopback(a))
            io_congestion_local(fd);
        if (fd >= 0 &&
            (connect(fd, (const struct sockaddr *)&a->ss, a->len) == 0 || errno == EINPROGRESS || errno == EINTR)) {
            watch(d, fd, EV_WRITE);
            /* An address that swallows everything leaves time for those behind it. */
            io_timer_set(&d->timer, left_ms(d) / (d->to.n - d->next + 1));
            return;
        }
        int err = ht_err_from_errno(errno);
        if (fd >= 0)
            close(fd);
        if (d->err == HT_OK || err == HT_EFDS)
            d->err = err;
    }
    fail_connect(d);
}

static void on_timeout(struct io_timer *t) {
    struct io_dial *d = ht_container_of(t, struct io_dial, timer);
    if (d->state == DIAL_CONNECTING && d->next < d->to.n && left_ms(d) > 0) {
        attempt_failed(d, HT_ETIMEDOUT);
        return;
    }
    ht_fail(&d->text, HT_ETIMEDOUT, "cannot %s %s: no answer within %llu ms",
            d->state == DIAL_RESOLVING ? "resolve" : "connect to", d->state == DIAL_RESOLVING ? d->host : d->name,
            (unsigned long long)d->timeout_ms);
    fail(d, HT_ETIMEDOUT);
}

static struct io_dial *dial(struct io_loop *loop, const struct io_addr *first, const char *host, uint16_t port,
                            struct io_tls *tls, uint64_t timeout_ms, const struct io_dial_ops *ops, void *ctx,
                            struct ht_errmsg *err) {
    size_t n = strlen(host);
    struct io_dial *d = ht_calloc(1, sizeof *d + n + 1);
    if (!d) {
        ht_fail(err, HT_ENOMEM, "cannot connect to %s: out of memory", host);
        return NULL;
    }
    memcpy(d->host, host, n);
    snprintf(d->name, sizeof d->name, strchr(host, ':') ? "[%.290s]:%u" : "%.290s:%u", host, (unsigned)port);
    d->loop = loop;
    d->ops = ops;
    d->ctx = ctx;
    d->tls = tls;
    d->port = port;
    if (first)
        d->first = *first;
    d->lookup.done = on_resolved;
    d->fd = -1;
    d->timeout_ms = timeout_ms;
    uint64_t now = ht_now_us();
    d->deadline_us = timeout_ms < (UINT64_MAX - now) / 1000 ? now + timeout_ms * 1000 : UINT64_MAX;
    io_timer_init(loop, &d->timer, on_timeout);
    io_task_init(&d->report, on_report);
    d->state = DIAL_CONNECTING;
    if (io_addr_parse(&d->to.addr[0], host, port) == HT_OK) {
        d->to.n = 1;
        connect_to(d);
    } else if (io_host_is_localhost(ht_slice_str(host))) {
        d->to.n = 2;
        if (io_addr_parse(&d->to.addr[0], "127.0.0.1", port) == HT_OK &&
            io_addr_parse(&d->to.addr[1], "::1", port) == HT_OK)
            connect_to(d);
    } else {
        struct io_resolved known;
        d->state = DIAL_RESOLVING;
        int rc = io_lookup(loop, host, &d->lookup, &known);
        if (rc == HT_OK) {
            resolved(d, &known);
        } else if (rc == HT_EAGAIN) {
            io_timer_set(&d->timer, timeout_ms);
        } else {
            ht_fail(err, rc, "cannot resolve %s: %s", host, ht_err_text(rc));
            ht_free(d);
            return NULL;
        }
    }
    return d;
}

struct io_dial *io_dial_start(struct io_loop *loop, const char *host, uint16_t port, struct io_tls *tls,
                              uint64_t timeout_ms, const struct io_dial_ops *ops, void *ctx, struct ht_errmsg *err) {
    return dial(loop, NULL, host, port, tls, timeout_ms, ops, ctx, err);
}

struct io_dial *io_dial_start_at(struct io_loop *loop, const struct io_addr *first, const char *host, uint16_t port,
                                 struct io_tls *tls, uint64_t timeout_ms, const struct io_dial_ops *ops, void *ctx,
                                 struct ht_errmsg *err) {
    return dial(loop, first, host, port, tls, timeout_ms, ops, ctx, err);
}

struct io_dial *io_dial_by(struct io_loop *loop, const struct io_dial_ops *ops, void *ctx, void (*cancelled)(void *by),
                           void *by) {
    struct io_dial *d = ht_calloc(1, sizeof *d + 1);
    if (!d)
        return NULL;
    d->loop = loop;
    d->ops = ops;
    d->ctx = ctx;
    d->cancelled = cancelled;
    d->by = by;
    d->fd = -1;
    d->state = DIAL_CONNECTING;
    io_timer_init(loop, &d->timer, on_timeout);
    io_task_init(&d->report, on_report);
    return d;
}

void io_dial_give(struct io_dial *d, struct io_conn *c) {
    d->cancelled = NULL;
    d->conn = c;
    d->state = DIAL_GIVEN;
    io_task_add(d->loop, &d->report);
}

void io_dial_give_up(struct io_dial *d, int err, const char *text) {
    d->cancelled = NULL;
    ht_fail(&d->text, err, "%s", text);
    fail(d, err);
}
