/*
 * The library and a real kit on one loop, with an echo service behind a pull binding. Visitors are raw sockets.
 */
#ifndef HT_TESTS_DRIVER_DUO_H
#define HT_TESTS_DRIVER_DUO_H

#include "driver/driver.h"
#include "kit/peer.h"

struct echo_conn {
    struct io_conn *c;
};

struct duo {
    struct ht_tunnel *t;
    struct io_listener *service;
    struct echo_conn echo[64];
    unsigned n_echo;
    bool swallow; /* the service says nothing back */
    char target[IO_ADDR_TEXT];
    uint16_t port; /* of the binding */
    unsigned connected, resumed, bound, disconnected, ended, latencies, retries;
    int lost_error, end_error;
    char end_text[512], log[4096];
};

static struct duo d;

/* ---- the service: says back what it hears ---- */

static inline void echo_readable(void *ctx) {
    struct echo_conn *e = ctx;
    char bytes[16384];
    ssize_t n = io_conn_read(e->c, bytes, sizeof bytes);
    if (n == HT_EAGAIN)
        return;
    if (n <= 0) {
        io_conn_close(&e->c);
        return;
    }
    struct iovec v = {.iov_base = bytes, .iov_len = (size_t)n};
    if (!d.swallow)
        CU_ASSERT_EQUAL(io_conn_write(e->c, &v, 1), n);
}

static inline void echo_accepted(void *ctx, struct io_conn *c, const struct io_addr *peer) {
    static const struct io_conn_ops ops = {.readable = echo_readable};
    (void)ctx, (void)peer;
    CU_ASSERT_FATAL(d.n_echo < HT_ARRAY_LEN(d.echo));
    struct echo_conn *e = &d.echo[d.n_echo++];
    e->c = c;
    io_conn_set_ops(c, &ops, e);
    io_conn_read_on(e->c, true);
}

/* ---- what the library tells ---- */

static inline void duo_connected(void *user, const struct ht_connected *c) {
    (void)user;
    d.connected++;
    d.resumed += c->resumed != 0;
}

static inline void duo_bound(void *user, const struct ht_bound *b) {
    (void)user;
    d.bound++;
    d.port = b->container_port;
}

static inline void duo_disconnected(void *user, const struct ht_disconnected *x) {
    (void)user;
    d.disconnected++;
    d.lost_error = x->error;
}

static inline void duo_log(void *user, enum ht_log_severity severity, const char *text) {
    (void)user, (void)severity;
    size_t at = strlen(d.log);
    if (at + strlen(text) + 2 < sizeof d.log)
        snprintf(d.log + at, sizeof d.log - at, "%s\n", text);
}

static inline void duo_ended(void *user, int error, const char *text) {
    (void)user;
    d.ended++;
    d.end_error = error;
    snprintf(d.end_text, sizeof d.end_text, "%s", text);
}

static inline void duo_latency(void *user, uint64_t us) { (void)user, (void)us, d.latencies++; }
static inline void duo_retrying(void *user, const struct ht_retry *r) { (void)user, (void)r, d.retries++; }

/* ---- life ---- */

static inline void duo_kit(const char *args) {
    static const struct io_listener_ops ops = {.accepted = echo_accepted};
    struct io_addr at;
    host_start(args);
    memset(&d, 0, sizeof d);
    CU_ASSERT_EQUAL_FATAL(io_addr_parse(&at, "127.0.0.1", 0), 0);
    CU_ASSERT_EQUAL_FATAL(io_listen(host.loop, &at, &ops, NULL, &d.service, NULL), 0);
    io_listener_local(d.service, &at);
    io_addr_text(&at, d.target);
}

/* A tunnel with one pull binding that stands; `more` has the options beside the URL. */
static inline void duo_go(const struct ht_tunnel_options *more) {
    static const struct ht_tunnel_callbacks calls = {.size = sizeof calls,
                                                     .connected = duo_connected,
                                                     .bound = duo_bound,
                                                     .disconnected = duo_disconnected,
                                                     .ended = duo_ended,
                                                     .retrying = duo_retrying,
                                                     .latency = duo_latency,
                                                     .log = duo_log};
    char url[64];
    struct ht_tunnel_options o = *more;
    struct ht_bind_options b = {.size = sizeof b, .kind = HT_PULL_TCP, .target = d.target};
    snprintf(url, sizeof url, "ws://127.0.0.1:%u", host.port);
    o.size = sizeof o;
    o.url = url;
    CU_ASSERT_EQUAL_FATAL(driver_create_on(host.loop, &d.t, &o, &calls, NULL), HT_TUNNEL_OK);
    CU_ASSERT_EQUAL_FATAL(ht_tunnel_bind(d.t, &b), 1);
    CU_ASSERT_EQUAL_FATAL(ht_tunnel_connect(d.t), HT_TUNNEL_OK);
    UNTIL(d.bound);
}

static inline struct ht_tunnel_status duo_status(void) {
    struct ht_tunnel_status s = {.size = sizeof s};
    CU_ASSERT_EQUAL(ht_tunnel_get_status(d.t, &s), HT_TUNNEL_OK);
    return s;
}

static inline void duo_stop(void) {
    ht_tunnel_destroy(&d.t);
    io_listener_close(&d.service);
    UNTIL(kit_websockets(host.kit) == 0);
    ht_clock_skip(2000u * WIRE_LIMIT_TAKEOVER_GRACE); /* what waits for this driver waits in vain */
    for (unsigned i = 0; i < d.n_echo; i++)
        io_conn_close(&d.echo[i].c);
    host_stop();
}

/* The network fails one of the driver's sockets. */
static inline void duo_cut(unsigned index) {
    CU_ASSERT_PTR_NOT_NULL_FATAL(d.t->now->socks[index].ws);
    CU_ASSERT_EQUAL(shutdown(io_conn_fd(ws_conn_io(d.t->now->socks[index].ws)), SHUT_RDWR), 0);
}

/* Both directions of a visitor's connection work. */
static inline void duo_talk(struct raw *r, const char *word) {
    size_t before = ht_buf_size(&r->in);
    raw_send(r, word);
    UNTIL(strlen(raw_text(r)) == before + strlen(word) || r->eof);
    CU_ASSERT_STRING_EQUAL(raw_text(r) + before, word);
}

#endif
