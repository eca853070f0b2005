#include "base/clock.h"
#include "base/mem.h"
#include "io/io_priv.h"
#include "io/proxy.h"

#include <arpa/inet.h>
#include <netdb.h>
#include <stdio.h>

enum dial_state {
    DIAL_RESOLVING,
    DIAL_CONNECTING,
    DIAL_PROXY_TLS, /* the handshake with an https:// proxy */
    DIAL_PROXY,     /* the conversation with the proxy */
    DIAL_HANDSHAKE, /* the one with the host */
    DIAL_FAILED,
    DIAL_GIVEN,
};

struct io_dial {
    struct io_loop *loop;
    const struct io_dial_ops *ops;
    void *ctx;
    struct io_tls *tls;
    const struct io_proxy *via;  /* NULL: directly */
    struct io_hop *hop;          /* of DIAL_PROXY; else NULL */
    void (*cancelled)(void *by); /* io_dial_by(), until it was given */
    void *by;
    enum dial_state state;
    struct io_lookup_wait lookup;
    struct io_race race;
    struct io_conn *conn;
    struct io_timer timer;
    struct io_task report; /* a failure that was known at once is told at the end of the turn */
    uint64_t timeout_ms, deadline_us;
    struct io_resolved to;
    struct io_addr first; /* len 0: none */
    int err;
    struct ht_errmsg text;
    uint16_t port;
    char name[IO_ADDR_TEXT + 256 + 400]; /* host:port for people, and the proxy before it */
    char host[];
};

void io_dial_cancel(struct io_dial **dp) {
    struct io_dial *d = *dp;
    if (!d)
        return;
    *dp = NULL;
    if (d->cancelled)
        d->cancelled(d->by);
    io_race_stop(&d->race);
    io_conn_abort(&d->conn);
    io_lookup_cancel(&d->lookup);
    io_timer_stop(&d->timer);
    io_task_cancel(&d->report);
    if (d->hop)
        explicit_bzero(d->hop, sizeof *d->hop); /* it may hold credentials */
    ht_free(d->hop);
    ht_free(d);
}

/* Where a socket is opened to, and what it is called. */
static const char *first_host(const struct io_dial *d) { return d->via ? d->via->host : d->host; }
static const char *first_name(const struct io_dial *d) { return d->via ? d->via->name : d->name; }

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
    io_race_stop(&d->race);
    io_conn_close(&d->conn);
    io_lookup_cancel(&d->lookup);
    io_timer_stop(&d->timer);
    io_task_add(d->loop, &d->report);
}

/* `why`: what has become of the whole. */
static void fail_connect(struct io_dial *d, int err, const char *why) {
    char tried[300] = "", one[IO_ADDR_TEXT];
    if (d->to.n > 1 || (d->to.n == 1 && strcmp(io_addr_host(&d->to.addr[0], one), first_host(d)) != 0))
        io_race_tell(&d->race, tried, sizeof tried);
    ht_fail(&d->text, err, "cannot connect to %s: %s%s", first_name(d), why, tried);
    fail(d, err);
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

static void talk(struct io_dial *d);

static void handshake(void *ctx) {
    struct io_dial *d = ctx;
    int want = 0;
    bool proxy = d->state == DIAL_PROXY_TLS;
    int rc = io_tls_handshake(io_conn_ssl(d->conn), proxy ? d->via->name : d->name, &want, &d->text);
    if (rc == HT_OK && proxy) {
        talk(d);
    } else if (rc == HT_OK) {
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

static void out_of_memory(struct io_dial *d) {
    ht_fail(&d->text, HT_ENOMEM, "cannot connect to %s: out of memory", d->name);
    fail(d, HT_ENOMEM);
}

static void start_tls(struct io_dial *d, struct io_tls *tls, const char *host, enum dial_state state) {
    SSL *ssl = io_tls_session(tls, d->conn, host, &d->text);
    if (!ssl) {
        fail(d, HT_ETLS);
    } else if (!io_conn_set_ssl(d->conn, ssl)) {
        out_of_memory(d);
    } else {
        d->state = state;
        io_conn_set_ops(d->conn, &handshake_ops, d);
        handshake(d);
    }
}

/* From here on the bytes are the host's. */
static void through(struct io_dial *d) {
    if (d->tls)
        start_tls(d, d->tls, d->host, DIAL_HANDSHAKE);
    else
        connected(d);
}

/* ---- the proxy ---- */

static void hop_failed(struct io_dial *d) {
    d->text = d->hop->text;
    fail(d, d->hop->err);
}

static void hop_lost(struct io_dial *d, int err) {
    io_hop_lost(d->hop, err == HT_EOF ? HT_ERESET : err,
                err == HT_EOF || err == HT_ERESET ? "closed the connection before it answered" : ht_err_text(err));
    hop_failed(d);
}

static void hop_writable(void *ctx) {
    struct io_dial *d = ctx;
    struct io_hop *h = d->hop;
    while (h->sent < h->out_len) {
        struct iovec v = {.iov_base = h->out + h->sent, .iov_len = h->out_len - h->sent};
        ssize_t n = io_conn_write(d->conn, &v, 1);
        if (n < 0) {
            io_conn_want_write(d->conn, n == HT_EAGAIN); /* of another error reading tells, behind what was answered */
            return;
        }
        h->sent += (size_t)n;
    }
    io_conn_want_write(d->conn, false);
}

static void hop_readable(void *ctx) {
    struct io_dial *d = ctx;
    uint8_t in[2048];
    ssize_t n = io_conn_read(d->conn, in, sizeof in);
    if (n == HT_EAGAIN)
        return;
    if (n < 0) {
        hop_lost(d, (int)n);
        return;
    }
    switch (io_hop_feed(d->hop, in, (size_t)n)) {
    case IO_HOP_TALKS:
        hop_writable(d);
        break;
    case IO_HOP_OPEN:
        through(d);
        break;
    case IO_HOP_REFUSED:
        hop_failed(d);
        break;
    }
}

static const struct io_conn_ops hop_ops = {hop_readable, hop_writable};

static void talk(struct io_dial *d) {
    if (!(d->hop = ht_calloc(1, sizeof *d->hop))) {
        out_of_memory(d);
        return;
    }
    d->state = DIAL_PROXY;
    io_hop_begin(d->hop, d->via, d->host, d->port);
    io_conn_set_ops(d->conn, &hop_ops, d);
    io_conn_read_on(d->conn, true);
    hop_writable(d);
}

/* ---- the socket ---- */

static void on_connected(struct io_race *r, int fd) {
    struct io_dial *d = ht_container_of(r, struct io_dial, race);
    d->conn = io_conn_adopt(d->loop, fd, NULL, NULL);
    if (!d->conn)
        out_of_memory(d);
    else if (!d->via)
        through(d);
    else if (d->via->tls)
        start_tls(d, d->via->tls, d->via->host, DIAL_PROXY_TLS);
    else
        talk(d);
}

static void on_lost(struct io_race *r) {
    fail_connect(ht_container_of(r, struct io_dial, race), r->err, ht_err_text(r->err));
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
    d->race.loop = d->loop;
    d->race.won = on_connected;
    d->race.lost = on_lost;
    io_race_begin(&d->race, &d->to, d->first.len ? &d->first : NULL, left_ms(d));
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
        ht_fail(&d->text, HT_ERESOLVE, "cannot resolve %s: %s", d->via ? d->via->name : d->host,
                r->gai ? gai_strerror(r->gai) : "no address");
        fail(d, HT_ERESOLVE);
        return;
    }
    for (unsigned i = 0; i < d->to.n; i++)
        set_port(&d->to.addr[i], d->via ? d->via->port : d->port);
    connect_to(d);
}

static void on_resolved(struct io_lookup_wait *w, const struct io_resolved *r) {
    resolved(ht_container_of(w, struct io_dial, lookup), r);
}

static void on_timeout(struct io_timer *t) {
    struct io_dial *d = ht_container_of(t, struct io_dial, timer);
    char why[64];
    snprintf(why, sizeof why, "no answer within %llu ms", (unsigned long long)d->timeout_ms);
    if (d->state == DIAL_RESOLVING) {
        ht_fail(&d->text, HT_ETIMEDOUT, "cannot resolve %s: %s", d->via ? d->via->name : d->host, why);
        fail(d, HT_ETIMEDOUT);
    } else if (d->state == DIAL_HANDSHAKE || d->state == DIAL_PROXY_TLS) {
        ht_fail(&d->text, HT_ETIMEDOUT, "the TLS handshake with %s failed: %s",
                d->state == DIAL_HANDSHAKE ? d->name : d->via->name, why);
        fail(d, HT_ETIMEDOUT);
    } else if (d->state == DIAL_PROXY) {
        snprintf(why, sizeof why, "did not answer within %llu ms", (unsigned long long)d->timeout_ms);
        io_hop_lost(d->hop, HT_ETIMEDOUT, why);
        hop_failed(d);
    } else {
        fail_connect(d, HT_ETIMEDOUT, why);
    }
}

static void name_it(struct io_dial *d) {
    int n = snprintf(d->name, sizeof d->name, strchr(d->host, ':') ? "[%.290s]:%u" : "%.290s:%u", d->host,
                     (unsigned)d->port);
    if (d->via)
        snprintf(d->name + n, sizeof d->name - (size_t)n, " (through %.380s)", d->via->name);
}

static struct io_dial *dial(struct io_loop *loop, const struct io_proxy *via, const struct io_addr *first,
                            const char *host, uint16_t port, struct io_tls *tls, uint64_t timeout_ms,
                            const struct io_dial_ops *ops, void *ctx, struct ht_errmsg *err) {
    size_t n = strlen(host);
    struct io_dial *d = ht_calloc(1, sizeof *d + n + 1);
    if (!d) {
        ht_fail(err, HT_ENOMEM, "cannot connect to %s: out of memory", host);
        return NULL;
    }
    memcpy(d->host, host, n);
    d->loop = loop;
    d->ops = ops;
    d->ctx = ctx;
    d->tls = tls;
    d->via = via;
    d->port = port;
    if (first)
        d->first = *first;
    name_it(d);
    d->lookup.done = on_resolved;
    d->timeout_ms = timeout_ms;
    uint64_t now = ht_now_us();
    d->deadline_us = timeout_ms < (UINT64_MAX - now) / 1000 ? now + timeout_ms * 1000 : UINT64_MAX;
    io_timer_init(loop, &d->timer, on_timeout);
    io_timer_set(&d->timer, timeout_ms);
    io_task_init(&d->report, on_report);
    d->state = DIAL_CONNECTING;
    const char *to = first_host(d);
    port = via ? via->port : port;
    if (io_addr_parse(&d->to.addr[0], to, port) == HT_OK) {
        d->to.n = 1;
        connect_to(d);
    } else if (io_host_is_localhost(ht_slice_str(to))) {
        d->to.n = 2;
        if (io_addr_parse(&d->to.addr[0], "127.0.0.1", port) == HT_OK &&
            io_addr_parse(&d->to.addr[1], "::1", port) == HT_OK)
            connect_to(d);
    } else {
        struct io_resolved known;
        d->state = DIAL_RESOLVING;
        int rc = io_lookup(loop, to, &d->lookup, &known);
        if (rc == HT_OK) {
            resolved(d, &known);
        } else if (rc != HT_EAGAIN) {
            ht_fail(err, rc, "cannot resolve %s: %s", to, ht_err_text(rc));
            io_timer_stop(&d->timer);
            ht_free(d);
            return NULL;
        }
    }
    return d;
}

struct io_dial *io_dial_start(struct io_loop *loop, const char *host, uint16_t port, struct io_tls *tls,
                              uint64_t timeout_ms, const struct io_dial_ops *ops, void *ctx, struct ht_errmsg *err) {
    return dial(loop, NULL, NULL, host, port, tls, timeout_ms, ops, ctx, err);
}

struct io_dial *io_dial_start_at(struct io_loop *loop, const struct io_addr *first, const char *host, uint16_t port,
                                 struct io_tls *tls, uint64_t timeout_ms, const struct io_dial_ops *ops, void *ctx,
                                 struct ht_errmsg *err) {
    return dial(loop, NULL, first, host, port, tls, timeout_ms, ops, ctx, err);
}

struct io_dial *io_dial_start_via(struct io_loop *loop, const struct io_proxy *via, const char *host, uint16_t port,
                                  struct io_tls *tls, uint64_t timeout_ms, const struct io_dial_ops *ops, void *ctx,
                                  struct ht_errmsg *err) {
    return dial(loop, via, NULL, host, port, tls, timeout_ms, ops, ctx, err);
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
