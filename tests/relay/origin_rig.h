/*
 * A target between two real sessions in memory and a service that the test plays by hand on a loopback port: the kit's
 * end opens streams, the driver's end gives them to the target, the target dials the service. Nothing here sleeps.
 */
#ifndef HT_TESTS_RELAY_ORIGIN_RIG_H
#define HT_TESTS_RELAY_ORIGIN_RIG_H

#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "relay/origin.h"
#include "support/fds.h"
#include "support/tap.h"

#include <poll.h>
#include <stdio.h>
#include <stdlib.h>

#define RIG_MESSAGE (WIRE_LIMIT_MAX_MESSAGE)
#define RIG_CONNS 256
#define RIG_CALLS 256

/* One end of the session. */
struct end {
    struct end *peer;
    struct mux_link *l;
    struct mux_session *s;
    struct io_task pump;
};

/* A connection that the target made to the service. */
struct service_conn {
    struct io_conn *c;
    struct ht_buf in; /* a NUL follows */
    bool ended, broken, paused;
};

/* A stream that the kit opened. */
struct call {
    struct mux_stream *st;
    char head[2048]; /* the final head: "200 name: value, name: value" */
    char interim[256];
    char reason_said[128]; /* of the final head; "-": none */
    char trailers[512];    /* "name: value, name: value" */
    unsigned heads, interims, eofs, closes;
    struct ht_buf body; /* a NUL follows */
    int reset;          /* -1: none */
    char reason[256];
    struct ht_buf send;  /* what it still has to send */
    bool send_eof, keep; /* keep: give no credit back */
    size_t received;
};

struct rig {
    struct io_loop *loop;
    struct end kit, driver;
    struct relay_target_config cfg;
    struct relay_target *target;
    struct io_listener *listener;
    struct service_conn conns[RIG_CONNS];
    unsigned n_conns;
    struct call calls[RIG_CALLS];
    unsigned n_calls;
    struct relay_request_info last; /* without its texts */
    char last_error[256], last_line[512];
    unsigned finished;
    uint32_t stream_window; /* of the next rig */
    size_t mem_before;
    int fds_before;
};

static struct rig rig;
static unsigned rig_caps; /* what both sides of the next session have named */
/* Who gets the streams; NULL: the target. */
static void (*rig_serve)(struct mux_stream *st, const struct wire_stream_open *open);

#define TEST_LOOP rig.loop
#include "support/turns.h"

/* ---- the session ---- */

static inline void end_pump(struct io_task *t) {
    static uint8_t buffer[RIG_MESSAGE];
    struct end *e = ht_container_of(t, struct end, pump);
    size_t n = e->l && e->peer->l ? mux_link_pull(e->l, buffer, sizeof buffer) : 0;
    if (n == 0)
        return;
    ssize_t used = mux_link_message(e->peer->l, buffer, n, true);
    CU_ASSERT(used == (ssize_t)n);
    mux_link_fed(e->peer->l);
    io_task_add(rig.loop, &e->pump);
}

static inline void end_output(void *ctx) { io_task_add(rig.loop, &((struct end *)ctx)->pump); }

static inline void end_close(void *ctx, uint16_t code, const char *reason) { (void)ctx, (void)code, (void)reason; }

static inline void end_over(void *ctx, enum mux_end why, const char *text) { (void)ctx, (void)why, (void)text; }

static inline void driver_stream_open(void *ctx, struct mux_stream *st, const struct wire_stream_open *open) {
    (void)ctx;
    if (rig_serve)
        rig_serve(st, open);
    else
        relay_target_serve(rig.target, st, open);
}

static inline void end_session(struct end *e, enum wire_role role, const struct wire_hello_ok *ok) {
    static const struct mux_session_ops ops = {.stream_open = driver_stream_open, .over = end_over};
    struct mux_config cfg = {
        .role = role,
        .version = WIRE_V1,
        .stream_window = ok->stream_window,
        .session_window = ok->session_window,
        .max_streams = RIG_CALLS,
        .session_buffer = WIRE_LIMIT_SESSION_BUFFER,
        .first_stream_id = 2,
        .own_peer = true,
        .caps = rig_caps,
    };
    e->s = mux_session_create(&cfg, &ops, e, ht_now_ms());
    CU_ASSERT_PTR_NOT_NULL_FATAL(e->s);
    CU_ASSERT_EQUAL_FATAL(mux_session_attach(e->s, e->l, ok), 0);
}

static inline void kit_hello(void *ctx, const struct wire_hello *hello) {
    static const struct ht_slice caps[] = {{"auto-window", sizeof "auto-window" - 1}};
    (void)hello;
    struct wire_hello_ok ok = {.session_id = ht_slice_str("S-1"),
                               .stream_window = rig.stream_window ? rig.stream_window : WIRE_LIMIT_STREAM_WINDOW,
                               .session_window = WIRE_LIMIT_SESSION_WINDOW,
                               .connections_granted = 1,
                               .capabilities = caps,
                               .n_capabilities = 1};
    end_session(ctx, WIRE_ROLE_KIT, &ok);
}

static inline void driver_hello_ok(void *ctx, const struct wire_hello_ok *ok) {
    end_session(ctx, WIRE_ROLE_DRIVER, ok);
}

static inline void sessions_start(void) {
    static const struct mux_link_ops ops = {
        .hello = kit_hello, .hello_ok = driver_hello_ok, .output = end_output, .close = end_close};
    rig.kit.peer = &rig.driver;
    rig.driver.peer = &rig.kit;
    io_task_init(&rig.kit.pump, end_pump);
    io_task_init(&rig.driver.pump, end_pump);
    rig.kit.l = mux_link_create(WIRE_ROLE_KIT, WIRE_V1, &ops, &rig.kit);
    rig.driver.l = mux_link_create(WIRE_ROLE_DRIVER, WIRE_V1, &ops, &rig.driver);
    CU_ASSERT_PTR_NOT_NULL_FATAL(rig.kit.l);
    CU_ASSERT_PTR_NOT_NULL_FATAL(rig.driver.l);
    CU_ASSERT_EQUAL_FATAL(mux_link_send_hello(rig.driver.l, &(struct wire_hello){.version = WIRE_V1}), 0);
    UNTIL(rig.kit.s && rig.driver.s);
}

/* ---- the service ---- */

static inline void service_readable(void *ctx) {
    struct service_conn *k = ctx;
    uint8_t *to = ht_buf_reserve(&k->in, 65536);
    CU_ASSERT_PTR_NOT_NULL_FATAL(to);
    ssize_t n = io_conn_read(k->c, to, 65535);
    if (n > 0) {
        ht_buf_commit(&k->in, (size_t)n);
        ht_buf_head(&k->in)[ht_buf_size(&k->in)] = '\0';
    } else if (n != HT_EAGAIN) {
        k->ended = true;
        k->broken = n != HT_EOF;
        io_conn_read_on(k->c, false);
    }
}

static inline void service_accepted(void *ctx, struct io_conn *c, const struct io_addr *peer) {
    static const struct io_conn_ops ops = {.readable = service_readable};
    (void)ctx, (void)peer;
    CU_ASSERT_FATAL(rig.n_conns < RIG_CONNS);
    struct service_conn *k = &rig.conns[rig.n_conns++];
    k->c = c;
    io_conn_set_ops(c, &ops, k);
    io_conn_read_on(k->c, true);
}

static inline void service_start(void) {
    static const struct io_listener_ops ops = {.accepted = service_accepted};
    struct io_addr any;
    CU_ASSERT_EQUAL_FATAL(io_addr_parse(&any, "127.0.0.1", 0), 0);
    CU_ASSERT_EQUAL_FATAL(io_listen(rig.loop, &any, &ops, NULL, &rig.listener, NULL), 0);
    io_listener_local(rig.listener, &any);
    rig.cfg.port = io_addr_port(&any);
}

/* The nth connection, once it is there and has sent something that holds `what`. */
static inline struct service_conn *service_wait(unsigned n, const char *what) {
    UNTIL(rig.n_conns > n && ht_buf_size(&rig.conns[n].in) > 0 && strstr((char *)ht_buf_head(&rig.conns[n].in), what));
    return &rig.conns[n];
}

static inline void service_bytes(struct service_conn *k, const char *p, size_t n) {
    while (n > 0) {
        struct iovec v = {.iov_base = (void *)(uintptr_t)p, .iov_len = n};
        ssize_t done = io_conn_write(k->c, &v, 1);
        CU_ASSERT_FATAL(done > 0 || done == HT_EAGAIN);
        if (done > 0) {
            p += done;
            n -= (size_t)done;
        } else {
            one_turn();
        }
    }
}

static inline void service_says(struct service_conn *k, const char *text) { service_bytes(k, text, strlen(text)); }

static inline void service_forget(struct service_conn *k) { ht_buf_consume(&k->in, ht_buf_size(&k->in)); }

static inline const char *service_heard(struct service_conn *k) {
    return ht_buf_size(&k->in) ? (const char *)ht_buf_head(&k->in) : "";
}

/* ---- the kit's streams ---- */

static inline void fields_text(char *out, size_t cap, const struct wire_header *h, size_t n, const char *before) {
    size_t at = 0;
    for (size_t i = 0; i < n && at < cap; i++)
        at += (size_t)snprintf(out + at, cap - at, "%s%.*s: %.*s", i ? ", " : before, HT_SLICE_ARG(h[i].name),
                               HT_SLICE_ARG(h[i].value));
}

static inline void head_text(char *out, size_t cap, const struct wire_response_head *h) {
    size_t at = (size_t)snprintf(out, cap, "%u", h->status);
    fields_text(out + at, cap - at, h->headers, h->n_headers, " ");
}

static inline void call_head(void *ctx, const struct wire_response_head *h) {
    struct call *k = ctx;
    if (h->final) {
        k->heads++;
        head_text(k->head, sizeof k->head, h);
        snprintf(k->reason_said, sizeof k->reason_said, "%.*s",
                 HT_SLICE_ARG(h->has_reason ? h->reason : ht_slice_str("-")));
    } else {
        k->interims++;
        head_text(k->interim, sizeof k->interim, h);
    }
}

static inline void call_data(void *ctx, const uint8_t *p, size_t n) {
    struct call *k = ctx;
    k->received += n;
    CU_ASSERT_EQUAL_FATAL(ht_buf_append(&k->body, p, n), 0);
    CU_ASSERT_PTR_NOT_NULL_FATAL(ht_buf_reserve(&k->body, 1));
    k->body.data[k->body.len] = '\0';
}

static inline void call_trailers(void *ctx, const struct wire_trailers *t) {
    struct call *k = ctx;
    CU_ASSERT_EQUAL(k->eofs, 0);
    fields_text(k->trailers, sizeof k->trailers, t->headers, t->n_headers, "");
}

static inline void call_eof(void *ctx) { ((struct call *)ctx)->eofs++; }

static inline void call_data_end(void *ctx) {
    struct call *k = ctx;
    if (!k->keep && k->st)
        mux_stream_consumed(k->st, mux_stream_unconsumed(k->st));
}

static inline ssize_t call_pull(void *ctx, uint8_t *out, size_t cap, unsigned *flags) {
    struct call *k = ctx;
    size_t n = ht_min(cap, ht_buf_size(&k->send));
    if (n) {
        memcpy(out, ht_buf_head(&k->send), n);
        ht_buf_consume(&k->send, n);
    }
    *flags = ht_buf_size(&k->send) ? MUX_PULL_MORE : k->send_eof ? MUX_PULL_EOF : 0;
    return (ssize_t)n;
}

static inline void call_closed(void *ctx, uint16_t code, struct ht_slice reason, bool remote) {
    struct call *k = ctx;
    (void)remote;
    k->closes++;
    if (code)
        k->reset = code;
    snprintf(k->reason, sizeof k->reason, "%.*s", HT_SLICE_ARG(reason));
    mux_stream_release(&k->st);
}

static const struct mux_stream_ops call_ops = {
    .response_head = call_head,
    .data = call_data,
    .trailers = call_trailers,
    .eof = call_eof,
    .data_end = call_data_end,
    .pull = call_pull,
    .closed = call_closed,
};

static inline struct call *call_open(const struct wire_stream_open *open, const char *body, size_t n, bool eof) {
    CU_ASSERT_FATAL(rig.n_calls < RIG_CALLS);
    struct call *k = &rig.calls[rig.n_calls++];
    k->reset = -1;
    k->send_eof = eof;
    CU_ASSERT_EQUAL_FATAL(ht_buf_append(&k->send, body, n), 0);
    CU_ASSERT_EQUAL_FATAL(mux_stream_open(rig.kit.s, open, &call_ops, k, &k->st), 0);
    mux_stream_ready(k->st);
    return k;
}

/* More body, and its end. */
static inline void call_sends(struct call *k, const char *p, size_t n, bool eof) {
    CU_ASSERT_EQUAL_FATAL(ht_buf_append(&k->send, p, n), 0);
    k->send_eof = eof;
    mux_stream_ready(k->st);
}

#define HEADERS(...) ((const struct wire_header[]){__VA_ARGS__})
#define H(n, v)                                                                                                        \
    {                                                                                                                  \
        {n, sizeof(n) - 1}, { v, sizeof(v) - 1 }                                                                       \
    }

static inline struct call *call_http(const char *method, const char *target, const struct wire_header *headers,
                                     size_t n, const char *body, bool eof) {
    struct wire_stream_open open = {
        .kind = WIRE_KIND_HTTP,
        .bind_id = 1,
        .method = ht_slice_str(method),
        .target = ht_slice_str(target),
        .headers = headers,
        .n_headers = n,
        .has_peer_addr = true,
        .peer_addr = ht_slice_str("192.0.2.7:1234"),
    };
    for (size_t i = 0; i < n; i++)
        open.is_upgrade = open.is_upgrade || ht_slice_is(headers[i].name, "upgrade");
    return call_open(&open, body, strlen(body), eof);
}

static inline struct call *call_get(const char *target) {
    return call_http("GET", target, HEADERS(H("host", "site.example")), 1, "", true);
}

static inline const char *call_body(struct call *k) { return k->body.data ? (const char *)ht_buf_head(&k->body) : ""; }

/* ---- the target ---- */

static inline void target_finished(void *ctx, const struct relay_request_info *info) {
    (void)ctx;
    rig.finished++;
    rig.last = *info;
    snprintf(rig.last_error, sizeof rig.last_error, "%s", info->error ? info->error : "");
    snprintf(rig.last_line, sizeof rig.last_line, "%.*s %.*s %.*s", HT_SLICE_ARG(info->method),
             HT_SLICE_ARG(info->target), HT_SLICE_ARG(info->peer_addr));
}

static inline void rig_start(void) {
    io_ignore_sigpipe();
    ht_log_setup(2, getenv("HT_TEST_LOG") ? HT_LOG_DEBUG : HT_LOG_ERROR, HT_LOG_TEXT);
    rig = (struct rig){.stream_window = rig.stream_window, .mem_before = ht_mem_live(), .fds_before = io_count_fds()};
    rig.loop = io_loop_create();
    CU_ASSERT_PTR_NOT_NULL_FATAL(rig.loop);
    rig.cfg = (struct relay_target_config){
        .loop = rig.loop,
        .host = "127.0.0.1",
        .kind = WIRE_KIND_HTTP,
        .connect_timeout_ms = 5000,
        .pool_size = 4,
        .pool_idle_ms = 30000,
        .head_limits = {WIRE_LIMIT_MAX_HEAD, WIRE_LIMIT_MAX_HEADERS, WIRE_LIMIT_MAX_TARGET},
        .finished = target_finished,
    };
    service_start();
    sessions_start();
}

static inline void rig_target(void) {
    rig.target = relay_target_create(&rig.cfg);
    CU_ASSERT_PTR_NOT_NULL_FATAL(rig.target);
}

static inline void rig_go(void) {
    rig_start();
    rig_target();
}

static inline void service_close(struct service_conn *k) { io_conn_close(&k->c); }

/* Ends everything and looks whether anything is left. */
static inline void rig_stop(void) {
    relay_target_destroy(&rig.target);
    for (unsigned i = 0; i < rig.n_calls; i++) {
        mux_stream_release(&rig.calls[i].st);
        ht_buf_free(&rig.calls[i].body);
        ht_buf_free(&rig.calls[i].send);
    }
    for (unsigned i = 0; i < rig.n_conns; i++) {
        io_conn_close(&rig.conns[i].c);
        ht_buf_free(&rig.conns[i].in);
    }
    io_listener_close(&rig.listener);
    CU_ASSERT_EQUAL(mux_session_streams(rig.driver.s), 0);
    io_task_cancel(&rig.kit.pump);
    io_task_cancel(&rig.driver.pump);
    mux_session_destroy(&rig.kit.s);
    mux_session_destroy(&rig.driver.s);
    mux_link_destroy(&rig.kit.l);
    mux_link_destroy(&rig.driver.l);
    io_loop_destroy(&rig.loop);
    CU_ASSERT(fds_are_back(rig.fds_before));
    CU_ASSERT_EQUAL(ht_mem_live(), rig.mem_before);
}

#endif
