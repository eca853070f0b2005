/*
 * A tunnel and a kit that the test plays, on one loop: the kit accepts, answers the upgrade as it is told to, and then
 * speaks through a real session or in raw frames.
 */
#ifndef HT_TESTS_DRIVER_KIT_SCRIPT_H
#define HT_TESTS_DRIVER_KIT_SCRIPT_H

#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "driver/driver.h"
#include "support/fds.h"
#include "support/ports.h"
#include "support/tap.h"

#include <poll.h>
#include <stdio.h>
#include <stdlib.h>

#define KIT_BINDS 8

struct play_stream {
    struct mux_stream *st;
    unsigned heads, closes, status, connects;
    int reset;
    char reason[160];
    struct ht_buf body;
    bool keep_open;
};

struct world {
    struct io_loop *loop;
    struct io_listener *listener;
    int held; /* a port where nobody listens; 0: none */
    char url[64];
    /* what the kit does with an upgrade: NULL is to accept it, "" is to say nothing */
    const char *answer;
    bool blunt;              /* `answer` comes to whatever is said */
    const char *subprotocol; /* NULL: the driver's */
    bool no_hello_ok, no_bind_answers, no_unbind_answers;
    const struct wire_goaway *refuse; /* instead of HELLO_OK */
    bool resumes;                     /* the kit still has the session */
    bool replaces;                    /* a connection takes the place of one that still stands here */
    /* stream-resume, when it is one of `caps` */
    bool forgets;          /* the streams of a lost session */
    const uint64_t *lie;   /* HELLO_OK.received, whatever is true */
    uint64_t grace_ms;     /* HELLO_OK.resumeGraceMs; 0: an hour */
    uint32_t other_window; /* of HELLO_OK; 0: the usual one */
    struct ws_kept *kept;
    unsigned aways, wholes;
    int64_t hello_received; /* of HELLO.resume; -1: it has none */
    uint64_t hello_replay_buffer;
    const struct wire_bind_err *refuse_bind; /* instead of BIND_OK, `n_refusals` times */
    unsigned n_refusals;
    const struct wire_resumed_bind *resumed_binds;
    size_t n_resumed_binds;
    /* the driver's options */
    enum { STAYS, LEAVES_WITH_GOAWAY, LEAVES_WITHOUT } leaves; /* the close frame goes with HELLO_OK, in one write */
    uint32_t retry_for_ms, retry_min_ms;                       /* retry_for_ms 0: never */
    bool retry_first;
    uint32_t connections, max_streams, replay_buffer;
    /* the kit's connection */
    struct io_conn *c;
    struct ht_buf in; /* the request's head; a NUL follows */
    struct ws_conn *ws;
    struct mux_link *l;
    struct mux_session *s;
    unsigned hellos, upgrades, asked;
    char offered[64];
    char hello_token[64], hello_caps[128], hello_resume[64], hello_client[132], hello_name[64];
    const char *client_id, *client_name; /* of the tunnel's options */
    struct wire_bind binds[KIT_BINDS];   /* without texts */
    char bind_label[64], bind_host[64];
    unsigned n_binds, n_unbinds;
    char bind_names[256], bind_ca[128];
    unsigned max_bindings; /* of HELLO_OK; 0: it says nothing */
    unsigned caps;         /* that the kit accepts, of those that it is asked for here */
    bool wrong_port;       /* of BIND_OK */
    uint32_t last_unbind;
    unsigned ws_closed;
    uint16_t close_code;
    const uint8_t *raw; /* sent instead of what the session has */
    size_t n_raw;
    /* the driver's */
    struct ht_tunnel *t;
    unsigned connected, bound, failed, unbound, revoked, disconnected, ended, requests;
    unsigned retries, attempt, latencies;
    int end_error, lost_error, retry_error;
    uint64_t attempt_in_ms;
    bool resumed, retrying, whole;
    unsigned paused;
    uint64_t paused_for_ms;
    uint64_t retry_in_ms;
    char end_text[512], retry_text[512], bound_url[128], fail_code[64], fail_message[128], request_error[256],
        session_id[64], server[64];
    struct ht_request request;
    size_t mem_before;
    int fds_before;
};

static struct world w;
static const char *kit_address = "127.0.0.1";

#define TEST_LOOP w.loop
#include "support/turns.h"

/* ---- the kit: session ---- */

static inline void kit_bind(void *ctx, const struct wire_bind *bind, const struct wire_error *err) {
    (void)ctx;
    CU_ASSERT_PTR_NULL(err);
    CU_ASSERT_FATAL(w.n_binds < KIT_BINDS);
    w.binds[w.n_binds++] = *bind;
    snprintf(w.bind_label, sizeof w.bind_label, "%.*s", HT_SLICE_ARG(bind->label));
    snprintf(w.bind_host, sizeof w.bind_host, "%.*s", HT_SLICE_ARG(bind->host));
    snprintf(w.bind_ca, sizeof w.bind_ca, "%.*s", HT_SLICE_ARG(bind->ca));
    w.bind_names[0] = '\0';
    for (size_t i = 0; i < bind->n_names; i++) {
        size_t at = strlen(w.bind_names);
        snprintf(w.bind_names + at, sizeof w.bind_names - at, "%.*s ", HT_SLICE_ARG(bind->names[i]));
    }
    if (w.no_bind_answers)
        return;
    if (w.n_refusals > 0) {
        struct wire_bind_err refusal = *w.refuse_bind;
        refusal.has_client_bind_ref = true;
        refusal.client_bind_ref = bind->client_bind_ref;
        w.n_refusals--;
        CU_ASSERT_EQUAL(mux_session_send(w.s, WIRE_BIND_ERR, &refusal), 0);
        return;
    }
    struct wire_bind_ok ok = {.client_bind_ref = bind->client_bind_ref,
                              .bind_id = w.n_binds,
                              .container_port = bind->container_port ? bind->container_port : 20001};
    if (bind->portless != w.wrong_port)
        ok.container_port = 0;
    CU_ASSERT_EQUAL(mux_session_send(w.s, WIRE_BIND_OK, &ok), 0);
}

static inline void kit_unbind(void *ctx, const struct wire_unbind *unbind) {
    (void)ctx;
    w.n_unbinds++;
    w.last_unbind = unbind->bind_id;
    struct wire_unbind_ok ok = {.bind_id = unbind->bind_id};
    if (!w.no_unbind_answers)
        CU_ASSERT_EQUAL(mux_session_send(w.s, WIRE_UNBIND_OK, &ok), 0);
}

static inline void kit_over(void *ctx, enum mux_end why, const char *text) { (void)ctx, (void)why, (void)text; }
static inline void kit_away(void *ctx, const char *text) { (void)ctx, (void)text, w.aways++; }

/* ---- the kit: what is kept ---- */

static inline size_t kit_kept(void *ctx) {
    (void)ctx;
    return w.kept ? ws_kept_bytes(w.kept) : 0;
}

static inline void kit_acked(void *ctx, uint64_t count) {
    (void)ctx;
    ws_kept_forget(w.kept, count);
}

static inline void kit_replay(void *ctx, uint64_t count) {
    kit_acked(ctx, count);
    ws_conn_resend(w.ws);
}

static inline void kit_forget(void) {
    mux_session_destroy(&w.s);
    ws_kept_destroy(&w.kept);
}

/* Sends a HELLO_OK that is not true, in place of what the link would have sent. */
static inline void kit_lies(struct wire_hello_ok ok) {
    static uint8_t bytes[4096];
    ok.has_received = true;
    ok.received = *w.lie;
    int n = wire_encode_hello_ok(bytes, sizeof bytes, 0, &ok);
    CU_ASSERT_FATAL(n > 0);
    w.raw = bytes;
    w.n_raw = (size_t)n;
    ws_conn_want_send(w.ws);
}

/* What the kit chooses. */
static inline enum wire_version kit_version(void) {
    return w.subprotocol && strcmp(w.subprotocol, WIRE_SUBPROTOCOL_V2) == 0 ? WIRE_V2 : WIRE_V1;
}

static inline void kit_hello(void *ctx, const struct wire_hello *hello) {
    static const struct mux_session_ops ops = {
        .bind = kit_bind, .unbind = kit_unbind, .away = kit_away, .over = kit_over};
    (void)ctx;
    w.hellos++;
    w.hello_received = hello->resume.has_received ? (int64_t)hello->resume.received : -1;
    w.hello_replay_buffer = hello->has_replay_buffer ? hello->replay_buffer : 0;
    CU_ASSERT_EQUAL(hello->version, kit_version());
    w.asked = hello->has_max_connections ? hello->max_connections : 0;
    snprintf(w.hello_token, sizeof w.hello_token, "%.*s", HT_SLICE_ARG(hello->auth.token));
    snprintf(w.hello_resume, sizeof w.hello_resume, "%.*s", HT_SLICE_ARG(hello->resume.session_id));
    snprintf(w.hello_client, sizeof w.hello_client, "%.*s", HT_SLICE_ARG(hello->client.id));
    snprintf(w.hello_name, sizeof w.hello_name, "%.*s", HT_SLICE_ARG(hello->client.name));
    w.hello_caps[0] = '\0';
    for (size_t i = 0; i < hello->n_capabilities; i++) {
        size_t at = strlen(w.hello_caps);
        snprintf(w.hello_caps + at, sizeof w.hello_caps - at, "%.*s,", HT_SLICE_ARG(hello->capabilities[i]));
    }
    if (w.refuse) {
        mux_link_refuse(w.l, w.refuse, WIRE_CLOSE_POLICY_VIOLATION, "no");
        return;
    }
    if (w.no_hello_ok)
        return;
    bool goes_on = w.s && hello->resume.has_received && !w.forgets;
    static const struct wire_join_ticket ticket = {.index = 1, .nonce = {"n", 1}, .expires_ms = 30000};
    struct ht_slice caps[WIRE_N_CAPABILITIES];
    size_t n_caps = wire_caps_names(w.caps, caps);
    struct wire_hello_ok ok = {.capabilities = caps,
                               .n_capabilities = n_caps,
                               .session_id = ht_slice_str("S-1"),
                               .stream_window = w.other_window ? w.other_window : WIRE_LIMIT_STREAM_WINDOW,
                               .session_window = WIRE_LIMIT_SESSION_WINDOW,
                               .has_resume_grace_ms = w.caps & WIRE_CAP_STREAM_RESUME,
                               .resume_grace_ms = w.grace_ms ? w.grace_ms : 3600000,
                               .connections_granted = kit_version() == WIRE_V2 ? 2 : 1,
                               .join_tickets = &ticket,
                               .n_join_tickets = kit_version() == WIRE_V2,
                               .resumed = w.resumes && hello->has_resume,
                               .resumed_binds = w.resumed_binds,
                               .n_resumed_binds = w.resumes && hello->has_resume ? w.n_resumed_binds : 0,
                               .has_max_bindings = w.max_bindings > 0,
                               .max_bindings = w.max_bindings,
                               .has_server = true,
                               .server = ht_slice_str("scripted/1")};
    struct mux_config cfg = {.role = WIRE_ROLE_KIT,
                             .version = kit_version(),
                             .stream_window = ok.stream_window,
                             .session_window = ok.session_window,
                             .max_streams = 64,
                             .session_buffer = WIRE_LIMIT_SESSION_BUFFER,
                             .first_stream_id = 2,
                             .own_peer = true,
                             .caps = w.caps};
    ok.resumed = ok.resumed || goes_on;
    if (w.lie) {
        kit_lies(ok);
        return;
    }
    if (w.caps & WIRE_CAP_STREAM_RESUME) {
        if (!goes_on)
            kit_forget();
        w.kept = w.kept ? w.kept : ws_kept_create(w.loop);
        ws_conn_set_kept(w.ws, w.kept);
    }
    if (goes_on) {
        w.wholes++;
        CU_ASSERT_EQUAL_FATAL(mux_session_resume(w.s, w.l, hello->resume.received, &ok, ht_now_ms()), 0);
        return;
    }
    w.s = mux_session_create(&cfg, &ops, NULL, ht_now_ms());
    CU_ASSERT_PTR_NOT_NULL_FATAL(w.s);
    CU_ASSERT_EQUAL_FATAL(mux_session_attach(w.s, w.l, &ok), 0);
    if (w.leaves == LEAVES_WITH_GOAWAY) {
        mux_session_shutdown(w.s, WIRE_CODE_NO_ERROR, "gone at once", 0, WIRE_CLOSE_GOING_AWAY);
        mux_session_tick(w.s, ht_now_ms() + 1);
    } else if (w.leaves == LEAVES_WITHOUT) {
        ws_conn_close(w.ws, WIRE_CLOSE_GOING_AWAY, "gone at once");
    }
}

static inline void kit_output(void *ctx) {
    (void)ctx;
    if (w.ws)
        ws_conn_want_send(w.ws);
}

static inline void kit_close(void *ctx, uint16_t code, const char *reason) {
    (void)ctx;
    if (w.ws)
        ws_conn_close(w.ws, code, reason);
}

static const struct mux_link_ops kit_link_ops = {.hello = kit_hello,
                                                 .output = kit_output,
                                                 .close = kit_close,
                                                 .kept = kit_kept,
                                                 .acked = kit_acked,
                                                 .replay = kit_replay};

/* ---- the kit: WebSocket ---- */

static inline ssize_t kit_message(void *ctx, uint8_t *p, size_t n, bool end) {
    (void)ctx;
    return mux_link_message(w.l, p, n, end);
}

static inline void kit_fed(void *ctx) {
    (void)ctx;
    mux_link_fed(w.l);
}

static inline size_t kit_pull(void *ctx, uint8_t *out, size_t cap) {
    (void)ctx;
    if (!w.raw) {
        size_t pulled = mux_link_pull(w.l, out, cap);
        if (pulled > 0 && mux_link_counts(w.l))
            ws_conn_keep(w.ws);
        return pulled;
    }
    size_t n = w.n_raw;
    CU_ASSERT_FATAL(n <= cap);
    memcpy(out, w.raw, n);
    w.raw = NULL;
    return n;
}

static inline void kit_ws_closed(void *ctx, uint16_t code, struct ht_slice reason, bool local) {
    (void)ctx, (void)reason, (void)local;
    w.ws_closed++;
    w.close_code = code;
    ws_conn_destroy(&w.ws);
    mux_link_closed(w.l, code == 1005 || code == WIRE_CLOSE_NORMAL);
    if (w.s && mux_session_is_away(w.s))
        mux_link_destroy(&w.l);
}

/* The connection breaks, and the kit keeps the session. */
static inline void kit_loses(void) {
    ws_conn_destroy(&w.ws);
    if (w.l)
        mux_link_closed(w.l, false);
    mux_link_destroy(&w.l);
}

/* The connection breaks, and the kit forgets its side of it. */
static inline void kit_drops(void) {
    ws_conn_destroy(&w.ws);
    kit_forget();
    mux_link_destroy(&w.l);
}

static inline void kit_upgrade(struct http_head *h, const char *head) {
    static const struct ws_ops ops = {
        .message = kit_message, .fed = kit_fed, .pull = kit_pull, .closed = kit_ws_closed};
    static const struct ws_limits limits = {.max_message = WIRE_LIMIT_MAX_MESSAGE,
                                            .max_fragments = WIRE_LIMIT_MAX_FRAGMENTS,
                                            .max_pull = WIRE_LIMIT_MAX_MESSAGE};
    struct ht_buf out = {0}, scratch = {0};
    struct ht_slice key, offered;
    struct http_error e;
    CU_ASSERT_EQUAL_FATAL(ws_check_request(h, head, &key, &offered, &scratch, &e), 0);
    snprintf(w.offered, sizeof w.offered, "%.*s", HT_SLICE_ARG(offered));
    if (w.replaces)
        kit_drops();
    else if (w.ws && w.caps & WIRE_CAP_STREAM_RESUME) /* the driver has noticed the loss first (RESUME-3) */
        kit_loses();
    CU_ASSERT_EQUAL_FATAL(ws_write_101(&out, key, w.subprotocol ? w.subprotocol : WIRE_SUBPROTOCOL_V1), 0);
    struct iovec v = {.iov_base = out.data, .iov_len = out.len};
    CU_ASSERT_EQUAL_FATAL(io_conn_write(w.c, &v, 1), (ssize_t)out.len);
    if (!w.s || mux_session_is_away(w.s))
        mux_link_destroy(&w.l); /* of an attempt that was refused */
    w.l = mux_link_create(WIRE_ROLE_KIT, kit_version(), &kit_link_ops, NULL);
    w.ws = ws_conn_create(w.loop, w.c, WS_SERVER, &limits, ht_slice_of(NULL, 0), &ops, NULL);
    w.c = NULL;
    CU_ASSERT_FATAL(w.l && w.ws);
    ht_buf_free(&out);
    ht_buf_free(&scratch);
}

static inline void kit_readable(void *ctx) {
    (void)ctx;
    uint8_t *to = ht_buf_reserve(&w.in, 4096);
    CU_ASSERT_PTR_NOT_NULL_FATAL(to);
    ssize_t n = io_conn_read(w.c, to, 4095);
    if (n <= 0) {
        if (n != HT_EAGAIN)
            io_conn_read_on(w.c, false);
        return;
    }
    ht_buf_commit(&w.in, (size_t)n);
    to[n] = '\0';
    struct http_head *h = ht_malloc(sizeof *h);
    struct http_error e;
    CU_ASSERT_PTR_NOT_NULL_FATAL(h);
    if (w.blunt) {
        struct iovec v = {.iov_base = (void *)(uintptr_t)w.answer, .iov_len = strlen(w.answer)};
        CU_ASSERT_EQUAL(io_conn_write(w.c, &v, 1), (ssize_t)v.iov_len);
        w.upgrades++;
        io_conn_close(&w.c);
        ht_free(h);
        return;
    }
    http_request_begin(h, NULL);
    if (http_head_parse(h, (char *)ht_buf_head(&w.in), ht_buf_size(&w.in), &e) > 0) {
        w.upgrades++;
        if (!w.answer) {
            kit_upgrade(h, (char *)ht_buf_head(&w.in));
        } else if (*w.answer) {
            struct iovec v = {.iov_base = (void *)(uintptr_t)w.answer, .iov_len = strlen(w.answer)};
            CU_ASSERT_EQUAL(io_conn_write(w.c, &v, 1), (ssize_t)v.iov_len);
            io_conn_close(&w.c);
        }
    }
    ht_free(h);
}

static inline void kit_accepted(void *ctx, struct io_conn *c, const struct io_addr *peer) {
    static const struct io_conn_ops ops = {.readable = kit_readable};
    (void)ctx, (void)peer;
    io_conn_close(&w.c);
    w.c = c;
    io_conn_set_ops(c, &ops, NULL);
    ht_buf_consume(&w.in, ht_buf_size(&w.in));
    io_conn_read_on(w.c, true);
}

/* Sends bytes as one WebSocket message, past the session. */
static inline void kit_sends_raw(const void *p, size_t n) {
    w.raw = p;
    w.n_raw = n;
    ws_conn_want_send(w.ws);
}

/* ---- the kit's streams ---- */

static inline void play_head(void *ctx, const struct wire_response_head *h) {
    struct play_stream *k = ctx;
    k->heads++;
    k->status = h->status;
}

static inline void play_data(void *ctx, const uint8_t *p, size_t n) {
    struct play_stream *k = ctx;
    CU_ASSERT_EQUAL(ht_buf_append(&k->body, p, n), 0);
    mux_stream_consumed(k->st, n);
}

static inline ssize_t play_pull(void *ctx, uint8_t *out, size_t cap, unsigned *flags) {
    struct play_stream *k = ctx;
    (void)out, (void)cap;
    *flags = k->keep_open ? 0 : MUX_PULL_EOF;
    return 0;
}

static inline void play_closed(void *ctx, uint16_t code, struct ht_slice reason, bool remote) {
    struct play_stream *k = ctx;
    (void)remote;
    snprintf(k->reason, sizeof k->reason, "%.*s", HT_SLICE_ARG(reason));
    k->closes++;
    k->reset = code;
    mux_stream_release(&k->st);
}

static inline void play_connected(void *ctx) { ((struct play_stream *)ctx)->connects++; }
static inline void play_nothing(void *ctx) { (void)ctx; }

static const struct mux_stream_ops play_ops = {.response_head = play_head,
                                               .connected = play_connected,
                                               .data = play_data,
                                               .eof = play_nothing,
                                               .data_end = play_nothing,
                                               .pull = play_pull,
                                               .closed = play_closed};

static inline void play_get(struct play_stream *k, uint32_t bind_id, const char *target) {
    static const struct wire_header host[] = {{{"host", 4}, {"a", 1}}};
    struct wire_stream_open open = {.kind = WIRE_KIND_HTTP,
                                    .bind_id = bind_id,
                                    .method = ht_slice_str("GET"),
                                    .target = ht_slice_str(target),
                                    .headers = host,
                                    .n_headers = 1,
                                    .has_peer_addr = true,
                                    .peer_addr = ht_slice_str("192.0.2.1:7")};
    CU_ASSERT_EQUAL_FATAL(mux_stream_open(w.s, &open, &play_ops, k, &k->st), 0);
    mux_stream_ready(k->st);
}

/* By name; `authority` NULL: to the port. */
static inline void play_connect(struct play_stream *k, uint32_t bind_id, const char *authority) {
    struct wire_stream_open open = {.kind = WIRE_KIND_TCP,
                                    .bind_id = bind_id,
                                    .has_authority = authority != NULL,
                                    .authority = ht_slice_str(authority)};
    *k = (struct play_stream){.reset = -1, .keep_open = true};
    CU_ASSERT_EQUAL_FATAL(mux_stream_open(w.s, &open, &play_ops, k, &k->st), 0);
}

/* ---- the driver's callbacks ---- */

static inline void on_connected(void *user, const struct ht_connected *c) {
    (void)user;
    w.connected++;
    w.resumed = c->resumed != 0;
    w.whole = c->whole != 0;
    snprintf(w.session_id, sizeof w.session_id, "%s", c->session_id);
    snprintf(w.server, sizeof w.server, "%s", c->server);
}

static inline void on_bound(void *user, const struct ht_bound *b) {
    (void)user;
    w.bound++;
    snprintf(w.bound_url, sizeof w.bound_url, "%s", b->url);
}

static inline void on_bind_failed(void *user, const struct ht_bind_failure *f) {
    (void)user;
    w.failed++;
    snprintf(w.fail_code, sizeof w.fail_code, "%s", f->code);
    snprintf(w.fail_message, sizeof w.fail_message, "%s", f->message);
}

static inline void on_unbound(void *user, const struct ht_unbound *u) {
    (void)user;
    w.unbound++;
    w.revoked += u->revoked != 0;
}

static inline void on_request(void *user, const struct ht_request *r) {
    (void)user;
    w.requests++;
    w.request = *r;
    snprintf(w.request_error, sizeof w.request_error, "%s %s %s: %s", r->method, r->target, r->peer,
             r->error ? r->error : "");
}

static inline void on_disconnected(void *user, const struct ht_disconnected *d) {
    (void)user;
    CU_ASSERT_EQUAL(w.ended, 0);
    w.disconnected++;
    w.lost_error = d->error;
    w.paused = d->paused;
    w.paused_for_ms = d->paused_for_ms;
    w.retrying = d->retrying != 0;
    w.retry_in_ms = d->retry_in_ms;
}

static inline void on_retrying(void *user, const struct ht_retry *r) {
    (void)user;
    w.retries++;
    w.attempt = r->attempt;
    w.retry_error = r->error;
    snprintf(w.retry_text, sizeof w.retry_text, "%s", r->text);
    w.attempt_in_ms = r->retry_in_ms;
}

static inline void on_latency(void *user, uint64_t round_trip_us) {
    (void)user;
    w.latencies++;
    CU_ASSERT(round_trip_us > 0);
}

static inline void on_ended(void *user, int error, const char *text) {
    (void)user;
    w.ended++;
    w.end_error = error;
    snprintf(w.end_text, sizeof w.end_text, "%s", text);
}

static struct ht_tunnel_callbacks calls = {
    .size = sizeof calls,
    .connected = on_connected,
    .bound = on_bound,
    .bind_failed = on_bind_failed,
    .unbound = on_unbound,
    .request = on_request,
    .disconnected = on_disconnected,
    .ended = on_ended,
    .retrying = on_retrying,
    .latency = on_latency,
};

/* ---- life ---- */

static inline void world_start(void) {
    static const struct io_listener_ops ops = {.accepted = kit_accepted};
    struct io_addr at;
    char text[IO_ADDR_TEXT];
    io_ignore_sigpipe();
    ht_log_setup(2, getenv("HT_TEST_LOG") ? HT_LOG_DEBUG : HT_LOG_ERROR, HT_LOG_TEXT);
    w = (struct world){.mem_before = ht_mem_live(), .fds_before = io_count_fds()};
    w.loop = io_loop_create();
    CU_ASSERT_PTR_NOT_NULL_FATAL(w.loop);
    CU_ASSERT_EQUAL_FATAL(io_addr_parse(&at, kit_address, 0), 0);
    CU_ASSERT_EQUAL_FATAL(io_listen(w.loop, &at, &ops, NULL, &w.listener, NULL), 0);
    io_listener_local(w.listener, &at);
    snprintf(w.url, sizeof w.url, "ws://%s", io_addr_text(&at, text));
}

/* Whoever dials is refused from now on. */
static inline void world_deafens(struct io_listener **l) {
    w.held = deafen(l);
    CU_ASSERT_FATAL(w.held > 0);
}

/* And may listen again. */
static inline void world_lets_go(void) {
    if (w.held > 0)
        close(w.held);
    w.held = 0;
}

static inline void world_tunnel(const char *token) {
    struct ht_tunnel_options o = {.size = sizeof o,
                                  .url = w.url,
                                  .token = token,
                                  .connect_timeout_ms = 5000,
                                  .retry_for_ms = w.retry_for_ms ? w.retry_for_ms : HT_NO_RETRY,
                                  .retry_min_ms = w.retry_min_ms,
                                  .retry_first = w.retry_first,
                                  .connections = w.connections,
                                  .max_streams = w.max_streams,
                                  .replay_buffer = w.replay_buffer,
                                  .client_id = w.client_id,
                                  .client_name = w.client_name};
    CU_ASSERT_EQUAL_FATAL(driver_create_on(w.loop, &w.t, &o, &calls, NULL), HT_TUNNEL_OK);
}

/* A connected tunnel. */
static inline void world_go(void) {
    world_start();
    world_tunnel(NULL);
    CU_ASSERT_EQUAL_FATAL(ht_tunnel_connect(w.t), HT_TUNNEL_OK);
    UNTIL(w.connected);
}

static inline int bind_one(enum ht_bind_kind kind, const char *target, uint16_t port) {
    struct ht_bind_options o = {.size = sizeof o, .kind = kind, .target = target, .container_port = port};
    return ht_tunnel_bind(w.t, &o);
}

static inline void world_stop(void) {
    ht_tunnel_destroy(&w.t);
    ws_conn_destroy(&w.ws);
    io_conn_close(&w.c);
    kit_forget();
    mux_link_destroy(&w.l);
    io_listener_close(&w.listener);
    world_lets_go();
    ht_buf_free(&w.in);
    io_loop_destroy(&w.loop);
    CU_ASSERT(fds_are_back(w.fds_before));
    CU_ASSERT_EQUAL(ht_mem_live(), w.mem_before);
}

static inline void expect_end(int error, const char *says) {
    UNTIL(w.ended);
    CU_ASSERT_EQUAL(w.end_error, error);
    CU_ASSERT_PTR_NOT_NULL(strstr(w.end_text, says));
    if (!strstr(w.end_text, says))
        printf("# \"%s\" says nothing of \"%s\"\n", w.end_text, says);
    CU_ASSERT_EQUAL(ht_tunnel_run(w.t), error);
    CU_ASSERT_EQUAL(bind_one(HT_EXPOSE_HTTP, "1", 1), HT_TUNNEL_ESTATE);
    CU_ASSERT_EQUAL(w.ended, 1);
    world_stop();
}

static inline void start(void) {
    world_tunnel(NULL);
    CU_ASSERT_EQUAL(ht_tunnel_connect(w.t), HT_TUNNEL_OK);
}

#endif
