/* One WebSocket to the kit: connect and upgrade, a link of the multiplexer on it, and its end. */
#include "driver/driver.h"

#include "base/clock.h"
#include "base/log.h"
#include "base/text.h"
#include "log_gen.h"

/* ---- the WebSocket ---- */

static ssize_t ws_message(void *ctx, uint8_t *p, size_t n, bool end) {
    struct driver_sock *s = ctx;
    if (s->of->mux)
        mux_session_measure(s->of->mux, ht_now_us());
    return s->vt ? vtunnel_message(s->vt, p, n, end, io_now_ms(s->t->loop)) : mux_link_message(s->link, p, n, end);
}

static void ws_fed(void *ctx) {
    struct driver_sock *s = ctx;
    mux_link_fed(s->link);
    if (s->of->mux)
        mux_session_tick(s->of->mux, io_now_ms(s->t->loop));
    driver_session_touch(s->of);
}

static size_t ws_pull(void *ctx, uint8_t *out, size_t cap) {
    struct driver_sock *s = ctx;
    if (s->vt) {
        size_t n = vtunnel_pull(s->vt, out, cap);
        driver_session_touch(s->of); /* it may have fed the session, and so have moved its deadline */
        return n;
    }
    size_t n = mux_link_pull(s->link, out, cap);
    if (n > 0 && s->link && mux_link_counts(s->link))
        ws_conn_keep(s->ws);
    if (s->of->mux && mux_session_deadline(s->of->mux) < s->of->deadline) /* it waits for an ACK now */
        driver_session_touch(s->of);
    return n;
}

static void ws_closed(void *ctx, uint16_t code, struct ht_slice reason, bool local) {
    struct driver_sock *s = ctx;
    char text[160];
    ht_text_clean(reason, text, sizeof text);
    ht_log_with(HT_LOG_DEBUG, "driver", HT_LOG_FIELDS(log_connection(s->index), log_code(code), log_reason(text)),
                "WebSocket closed by %s", local ? "us" : "the kit");
    ws_conn_destroy(&s->ws);
    s->ops->closed(s, code, text, local && !s->closing);
}

static const struct ws_ops ws_calls = {.message = ws_message, .fed = ws_fed, .pull = ws_pull, .closed = ws_closed};

void driver_sock_output(void *ctx) {
    struct driver_sock *s = ctx;
    if (s->ws)
        ws_conn_want_send(s->ws);
    driver_session_touch(s->of);
}

void driver_sock_close(struct driver_sock *s, uint16_t code, const char *reason) {
    if (s->closing || !s->ws)
        return;
    s->closing = true;
    if (s->vt && code == 0) { /* VEND-1 */
        code = VTUNNEL_END_GOODBYE_CODE;
        reason = VTUNNEL_END_GOODBYE_REASON;
    }
    ws_conn_close(s->ws, code, reason);
}

void driver_sock_lost(struct driver_sock *s, const char *why) {
    if (!s->ws)
        return;
    ht_log_with(HT_LOG_DEBUG, "driver", HT_LOG_FIELDS(log_connection(s->index), log_reason(why)), "WebSocket given up");
    if (s->vt)
        io_timer_stop(&s->vt_timer);
    ws_conn_destroy(&s->ws);
    s->ops->closed(s, WS_CLOSE_DROPPED, why, false);
}

void driver_sock_drop(struct driver_sock *s) {
    io_timer_stop(&s->timer);
    ws_connect_cancel(&s->connect);
    ws_conn_destroy(&s->ws);
    if (s->vt)
        io_timer_stop(&s->vt_timer);
    vtunnel_destroy(&s->vt);
    mux_link_destroy(&s->link);
}

/* ---- vtunnel's JSON ---- */

static void vtunnel_pause(void *ctx, bool pause) {
    struct driver_sock *s = ctx;
    if (s->ws)
        ws_conn_pause(s->ws, pause);
    io_timer_set(&s->vt_timer, 0); /* the deadline has changed: look it up */
}

/* VKEEP-2: a client closes the connection without a close frame. */
static void vtunnel_end(void *ctx, uint16_t code, const char *reason) {
    struct driver_sock *s = ctx;
    (void)code;
    io_timer_stop(&s->vt_timer);
    driver_sock_lost(s, reason);
}

static void vtunnel_fired(struct io_timer *timer) {
    struct driver_sock *s = ht_container_of(timer, struct driver_sock, vt_timer);
    uint64_t now = io_now_ms(s->t->loop);
    vtunnel_tick(s->vt, now);
    uint64_t due = vtunnel_deadline(s->vt);
    if (s->ws && due != UINT64_MAX)
        io_timer_set(&s->vt_timer, due > now ? due - now : 1);
}

static const struct vtunnel_ops vtunnel_calls = {driver_sock_output, vtunnel_pause, vtunnel_end};

/* False: out of memory. */
static bool vtunnel_begin(struct driver_sock *s) {
    const struct vtunnel_config cfg = {.role = VTUNNEL_ROLE_CLIENT,
                                       .blocks = io_loop_blocks(s->t->loop),
                                       .window = (uint32_t)ht_min(s->t->max_window, WIRE_LIMIT_SESSION_WINDOW),
                                       .max_streams = s->t->max_streams,
                                       .peer = s->t->url.host_field};
    ws_conn_use_text(s->ws);
    s->vt = vtunnel_create(&cfg, s->link, &vtunnel_calls, s, io_now_ms(s->t->loop));
    if (!s->vt)
        return false;
    io_timer_init(s->t->loop, &s->vt_timer, vtunnel_fired);
    io_timer_set(&s->vt_timer, VTUNNEL_LIMIT_PING_INTERVAL);
    return true;
}

/* ---- connecting ---- */

/* True when its session is dropped at the end of this turn, so that this socket no longer matters. */
static bool is_over(const struct driver_sock *s) {
    return s->t->state == DRIVER_ENDED || (s->t->state == DRIVER_DOWN && !driver_is_past(s->of));
}

static void connect_open(void *ctx, struct io_conn *conn, struct ht_slice protocol, struct ht_slice early) {
    static const struct ws_limits limits = {.max_message = WIRE_LIMIT_MAX_MESSAGE,
                                            .max_fragments = WIRE_LIMIT_MAX_FRAGMENTS,
                                            .max_pull = WIRE_LIMIT_MAX_MESSAGE};
    _Static_assert(VTUNNEL_LIMIT_MAX_MESSAGE == WIRE_LIMIT_MAX_MESSAGE, "one limit serves both");
    struct driver_sock *s = ctx;
    struct ht_tunnel *t = s->t;
    s->connect = NULL;
    if (is_over(s)) {
        io_conn_close(&conn);
        return;
    }
    if (s == &t->now->socks[0])
        driver_network_reached(t, conn);
    s->version = t->vtunnel ? WIRE_V1 : wire_version_from(protocol);
    ht_log_with(HT_LOG_DEBUG, "driver",
                HT_LOG_FIELDS(log_target(t->url.host_field), log_connection(s->index), log_version_slice(protocol)),
                t->tls ? "connected with TLS, upgraded" : "connected, upgraded");
    /* ws_connect has checked that the subprotocol is one that was offered, but not that there is one. */
    if (s->version == WIRE_VERSION_UNKNOWN || (s->index > 0 && s->version != s->of->socks[0].version)) {
        io_conn_close(&conn);
        s->ops->failed(s, HT_TUNNEL_EHANDSHAKE, 101, 0, "the kit chose no subprotocol");
        return;
    }
    s->ws = ws_conn_create(t->loop, conn, WS_CLIENT, &limits, early, &ws_calls, s);
    if (s->ws)
        /* KEEP-5: for a PING, and for its answer */
        ws_conn_tune_tunnel(s->ws, 2 * (uint64_t)t->suspect_after_ms, MUX_SHORT_MESSAGE);
    s->link = s->ws ? mux_link_create(WIRE_ROLE_DRIVER, s->version, s->ops->link, s) : NULL;
    if (!s->link || (t->vtunnel && !vtunnel_begin(s)) || s->ops->greet(s) < 0) {
        s->ops->failed(s, HT_TUNNEL_ENOMEM, 0, 0, ht_strerror(HT_TUNNEL_ENOMEM));
        return;
    }
    io_timer_set(&s->timer, t->connect_timeout_ms);
}

static void connect_failed(void *ctx, int err, uint16_t status, uint64_t retry_after_ms, const char *text) {
    struct driver_sock *s = ctx;
    /* A proxy that wants credentials or refuses the kit will do so again: that is no lost link. */
    bool refused = status || err == HT_EPROTO || err == HT_EAUTH || err == HT_EACCESS;
    int error = status == 401 && err == HT_EAUTH ? HT_TUNNEL_EAUTH
                : refused                        ? HT_TUNNEL_EHANDSHAKE
                : ht_err_is_tls(err)             ? HT_TUNNEL_ETLS
                                                 : HT_TUNNEL_ECONNECT;
    s->connect = NULL;
    ht_log_with(
        HT_LOG_DEBUG, "driver",
        HT_LOG_FIELDS(log_target(s->t->url.host_field), log_connection(s->index), log_status(status), log_reason(text)),
        "no connection");
    if (!is_over(s))
        s->ops->failed(s, error, status, retry_after_ms, text);
}

static const struct ws_connect_ops connect_ops = {.open = connect_open, .failed = connect_failed};

int driver_sock_connect(struct driver_sock *s, const char *protocols, struct ht_errmsg *err) {
    struct ht_tunnel *t = s->t;
    struct ws_connect_options o = {
        .host = t->url.host,
        .port = t->url.port,
        .tls = t->tls,
        .via = t->proxy,
        .host_field = t->url.host_field,
        .path = t->url.path,
        .protocols = protocols,
        .extra = (const char *)ht_buf_head(&t->headers),
        .timeout_ms = t->connect_timeout_ms,
    };
    s->closing = false;
    ht_log_with(HT_LOG_DEBUG, "driver",
                HT_LOG_FIELDS(log_target(t->url.host_field), log_connection(s->index), log_attempt(t->attempts + 1)),
                "connecting");
    s->connect = ws_connect_start(t->loop, &o, &connect_ops, s, err);
    return s->connect ? HT_OK : HT_ENOMEM;
}

void driver_sock_init(struct driver_sock *s, struct driver_session *of, unsigned index,
                      const struct driver_sock_ops *ops, void (*timer)(struct io_timer *)) {
    s->t = of->t;
    s->of = of;
    s->index = index;
    s->ops = ops;
    io_timer_init(of->t->loop, &s->timer, timer);
}
