#include "base/clock.h"
#include "base/mem.h"
#include "io/io_priv.h"

#include <arpa/inet.h>
#include <netdb.h>
#include <stdio.h>

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
    char name[IO_ADDR_TEXT + 256]; /* host:port for people */
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
    io_race_stop(&d->race);
    io_conn_close(&d->conn);
    io_lookup_cancel(&d->lookup);
    io_timer_stop(&d->timer);
    io_task_add(d->loop, &d->report);
}

/* `why`: what has become of the whole. */
static void fail_connect(struct io_dial *d, int err, const char *why) {
    char tried[300] = "", one[IO_ADDR_TEXT];
    if (d->to.n > 1 || (d->to.n == 1 && strcmp(io_addr_host(&d->to.addr[0], one), d->host) != 0))
        io_race_tell(&d->race, tried, sizeof tried);
    ht_fail(&d->text, err, "cannot connect to %s: %s%s", d->name, why, tried);
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

static void on_connected(struct io_race *r, int fd) {
    struct io_dial *d = ht_container_of(r, struct io_dial, race);
    SSL *ssl;
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
        io_conn_set_ops(d->conn, &handshake_ops, d);
        handshake(d);
    }
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

static void on_timeout(struct io_timer *t) {
    struct io_dial *d = ht_container_of(t, struct io_dial, timer);
    char why[64];
    snprintf(why, sizeof why, "no answer within %llu ms", (unsigned long long)d->timeout_ms);
    if (d->state == DIAL_RESOLVING) {
        ht_fail(&d->text, HT_ETIMEDOUT, "cannot resolve %s: %s", d->host, why);
        fail(d, HT_ETIMEDOUT);
    } else if (d->state == DIAL_HANDSHAKE) {
        ht_fail(&d->text, HT_ETIMEDOUT, "the TLS handshake with %s failed: %s", d->name, why);
        fail(d, HT_ETIMEDOUT);
    } else {
        fail_connect(d, HT_ETIMEDOUT, why);
    }
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
    d->timeout_ms = timeout_ms;
    uint64_t now = ht_now_us();
    d->deadline_us = timeout_ms < (UINT64_MAX - now) / 1000 ? now + timeout_ms * 1000 : UINT64_MAX;
    io_timer_init(loop, &d->timer, on_timeout);
    io_timer_set(&d->timer, timeout_ms);
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
        } else if (rc != HT_EAGAIN) {
            ht_fail(err, rc, "cannot resolve %s: %s", host, ht_err_text(rc));
            io_timer_stop(&d->timer);
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
