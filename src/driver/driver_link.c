/* The way to the kit: dial, upgrade, HELLO, the session, and how each of them ends. */
#include "driver/driver.h"

#include "base/clock.h"

#include <stdio.h>

/* ---- the session's clock ---- */

static void clock_task(struct io_task *task) {
    struct ht_tunnel *t = ht_container_of(task, struct ht_tunnel, clock);
    if (!t->session)
        return;
    uint64_t deadline = mux_session_deadline(t->session);
    if (deadline == t->deadline)
        return;
    t->deadline = deadline;
    if (deadline == UINT64_MAX) {
        io_timer_stop(&t->session_timer);
        return;
    }
    uint64_t now = io_now_ms(t->loop);
    io_timer_set(&t->session_timer, deadline > now ? deadline - now : 0);
}

void driver_link_touch(struct ht_tunnel *t) { io_task_add(t->loop, &t->clock); }

static void session_timer_fired(struct io_timer *timer) {
    struct ht_tunnel *t = ht_container_of(timer, struct ht_tunnel, session_timer);
    t->deadline = UINT64_MAX;
    driver_link_touch(t);
    if (t->session)
        mux_session_tick(t->session, io_now_ms(t->loop));
}

/* ---- the end of things ---- */

static void link_gone(struct ht_tunnel *t) {
    /* Whatever happened was noted by whoever saw it first; this is for the case that nobody did. */
    driver_end_reason(t, HT_TUNNEL_ELOST, "the connection to the kit was lost");
    driver_end(t);
}

static void start_ws_close(struct ht_tunnel *t, uint16_t code, const char *reason) {
    if (t->ws_closing)
        return;
    t->ws_closing = true;
    ws_conn_close(t->ws, code, reason);
}

/* What a GOAWAY means for whoever runs this driver. `text` is for people. */
static void goaway_reason(struct ht_tunnel *t) {
    const char *text = t->goaway_text[0] ? t->goaway_text : "it did not say why";
    /* Of these another attempt would change nothing: a session that was idle has nothing to come back for, one that
     * was resumed elsewhere is not ours any more. */
    t->final = t->final || t->goaway_code == WIRE_CODE_VERSION_MISMATCH || t->goaway_code == WIRE_CODE_STREAM_CLOSED ||
               t->goaway_code == WIRE_CODE_ENHANCE_YOUR_CALM || t->goaway_code == WIRE_CODE_BIND_TAKEOVER ||
               (t->goaway_code == WIRE_CODE_IDLE_TIMEOUT && ht_list_empty(&t->bindings));
    switch (t->goaway_code) {
    case WIRE_CODE_AUTH_ERROR:
        driver_end_reason(t, HT_TUNNEL_EAUTH, "the kit refused the token: %s", text);
        break;
    case WIRE_CODE_RESOURCE_EXHAUSTED:
        driver_end_reason(t, HT_TUNNEL_ELIMIT, "the kit has no room: %s", text);
        break;
    case WIRE_CODE_PROTOCOL_ERROR:
        /* Only an admin's kill says so with a clean goodbye; a violation of ours would be a defect, and reads the same.
         */
        driver_end_reason(t, HT_TUNNEL_EREVOKED, "the kit closed the session: %s", text);
        break;
    default:
        driver_end_reason(t, HT_TUNNEL_EGOAWAY, "the kit ended the session: %s", text);
        break;
    }
}

static void note_goaway(struct ht_tunnel *t, const struct wire_goaway *goaway) {
    t->goaway = true;
    t->goaway_code = goaway->code;
    t->retry_after_ms = goaway->retry_after_ms;
    driver_text(goaway->message, t->goaway_text, sizeof t->goaway_text);
}

static void session_over(void *ctx, enum mux_end why, const char *text) {
    struct ht_tunnel *t = ctx;
    t->session_over = true;
    io_timer_stop(&t->close_timer);
    if (t->goaway)
        goaway_reason(t);
    switch (why) {
    case MUX_END_LOCAL:
        break;
    case MUX_END_CLEAN:
        driver_end_reason(t, HT_TUNNEL_ELOST, "the kit closed the connection");
        break;
    case MUX_END_VIOLATION:
        driver_end_reason(t, HT_TUNNEL_EPROTO, "the kit broke the protocol: %s", text && *text ? text : "no details");
        break;
    case MUX_END_TIMEOUT:
    case MUX_END_IDLE:
        driver_end_reason(t, HT_TUNNEL_ELOST, "the kit does not answer any more");
        break;
    case MUX_END_LOST:
        driver_end_reason(t, HT_TUNNEL_ELOST, "the connection to the kit was lost");
        break;
    }
    if (!t->ws) {
        link_gone(t);
        return;
    }
    /* What is queued (a GOAWAY, the close frame) still goes out; the closing handshake is bounded in time. */
    if (t->state != DRIVER_ENDED)
        t->state = driver_retry_wanted(t) ? DRIVER_DOWN : DRIVER_CLOSING;
    start_ws_close(t, 0, "");
}

void driver_link_close(struct ht_tunnel *t) {
    io_timer_stop(&t->close_timer);
    if (t->session && !t->session_over)
        mux_session_close(t->session); /* comes back through session_over() */
    else
        driver_end(t);
}

static void close_timer_fired(struct io_timer *timer) {
    driver_link_close(ht_container_of(timer, struct ht_tunnel, close_timer));
}

static void hello_timer_fired(struct io_timer *timer) {
    struct ht_tunnel *t = ht_container_of(timer, struct ht_tunnel, hello_timer);
    driver_end_reason(t, HT_TUNNEL_EHANDSHAKE, "the kit at %s did not answer HELLO in time", t->url.host_field);
    driver_end(t);
}

void driver_link_destroy(struct ht_tunnel *t) {
    ws_connect_cancel(&t->connect);
    mux_session_destroy(&t->session);
    mux_link_destroy(&t->link);
    ws_conn_destroy(&t->ws);
    if (t->clock.run) {
        io_task_cancel(&t->clock);
        io_timer_stop(&t->session_timer);
        io_timer_stop(&t->hello_timer);
        io_timer_stop(&t->close_timer);
    }
    io_timer_stop(&t->retry_timer);
}

/* ---- the session ---- */

static void session_goaway(void *ctx, const struct wire_goaway *goaway) { note_goaway(ctx, goaway); }

static void session_pong(void *ctx, uint64_t rtt_us) {
    struct ht_tunnel *t = ctx;
    t->rtt_us = rtt_us ? rtt_us : 1;
    if (t->calls.latency)
        t->calls.latency(t->user, t->rtt_us);
}

static const struct mux_session_ops session_ops = {
    .bind_ok = driver_on_bind_ok,
    .bind_err = driver_on_bind_err,
    .unbind_ok = driver_on_unbind_ok,
    .unbind_err = driver_on_unbind_err,
    .bind_revoked = driver_on_bind_revoked,
    .stream_open = driver_on_stream_open,
    .goaway = session_goaway,
    .pong = session_pong,
    .over = session_over,
};

static bool has_capability(const struct wire_hello_ok *ok, const char *name) {
    for (size_t i = 0; i < ok->n_capabilities; i++)
        if (ht_slice_is(ok->capabilities[i], name))
            return true;
    return false;
}

static void link_hello_ok(void *ctx, const struct wire_hello_ok *ok) {
    struct ht_tunnel *t = ctx;
    io_timer_stop(&t->hello_timer);
    struct mux_config cfg = {
        .role = WIRE_ROLE_DRIVER,
        .version = WIRE_V1,
        .stream_window = ok->stream_window,
        .session_window = ok->session_window,
        .max_streams =
            ok->has_max_streams && ok->max_streams > WIRE_LIMIT_MAX_STREAMS ? ok->max_streams : WIRE_LIMIT_MAX_STREAMS,
        .session_buffer = WIRE_LIMIT_SESSION_BUFFER,
        .ping_interval_ms = t->ping_after_ms,
        .pong_timeout_ms = t->pong_timeout_ms,
        .measure_interval_ms = t->measure_every_ms,
        .own_peer = ok->n_capabilities > 0,
        .auto_window = has_capability(ok, WIRE_CAP_AUTO_WINDOW),
        .metrics = &t->metrics,
        .random = ht_random_bytes,
    };
    t->session = mux_session_create(&cfg, &session_ops, t, io_now_ms(t->loop));
    if (!t->session || mux_session_attach(t->session, t->link, ok) < 0) {
        driver_end_reason(t, HT_TUNNEL_ENOMEM, "%s", ht_strerror(HT_TUNNEL_ENOMEM));
        driver_end(t);
        return;
    }
    t->state = DRIVER_UP;
    t->was_up = t->told_up = true;
    t->up_at = io_now_ms(t->loop);
    t->granted = 1;
    t->rtt_us = 0;
    t->sessions++;
    t->session_id[0] = '\0';
    if (ok->session_id.n < sizeof t->session_id)
        driver_text(ok->session_id, t->session_id, sizeof t->session_id);
    ws_conn_set_limits(
        t->ws, &(struct ws_limits){.max_message = WIRE_LIMIT_MAX_MESSAGE, .max_fragments = WIRE_LIMIT_MAX_FRAGMENTS});
    driver_link_touch(t);
    if (t->calls.connected) {
        char id[160], server[160];
        struct ht_connected c = {
            .session_id = driver_text(ok->session_id, id, sizeof id),
            .server = driver_text(ok->server, server, sizeof server),
            .resumed = ok->resumed,
        };
        t->calls.connected(t->user, &c);
    }
    if (t->state == DRIVER_UP)
        driver_bind_all(t, ok);
}

/* ---- the link ---- */

static void link_refused(void *ctx, const struct wire_goaway *goaway) {
    struct ht_tunnel *t = ctx;
    note_goaway(t, goaway);
    if (t->goaway_code == WIRE_CODE_PROTOCOL_ERROR)
        driver_end_reason(t, HT_TUNNEL_EHANDSHAKE, "the kit refused HELLO: %s", t->goaway_text);
    t->final = t->goaway_code == WIRE_CODE_PROTOCOL_ERROR;
    goaway_reason(t);
}

static void link_output(void *ctx) {
    struct ht_tunnel *t = ctx;
    if (t->ws)
        ws_conn_want_send(t->ws);
    driver_link_touch(t);
}

static void link_close(void *ctx, uint16_t ws_code, const char *reason) {
    struct ht_tunnel *t = ctx;
    if (!t->session)
        driver_end_reason(t, HT_TUNNEL_EHANDSHAKE, "the kit did not answer HELLO as it should: %s",
                          reason ? reason : "");
    if (t->ws)
        start_ws_close(t, ws_code, reason);
}

static const struct mux_link_ops link_ops = {
    .hello_ok = link_hello_ok,
    .refused = link_refused,
    .output = link_output,
    .close = link_close,
};

static ssize_t ws_message(void *ctx, uint8_t *p, size_t n, bool end) {
    struct ht_tunnel *t = ctx;
    if (t->session)
        mux_session_measure(t->session, ht_now_us());
    return mux_link_message(t->link, p, n, end);
}

static void ws_fed(void *ctx) {
    struct ht_tunnel *t = ctx;
    mux_link_fed(t->link);
    if (t->session && !t->session_over)
        mux_session_tick(t->session, io_now_ms(t->loop));
    driver_link_touch(t);
}

static size_t ws_pull(void *ctx, uint8_t *out, size_t cap) {
    struct ht_tunnel *t = ctx;
    return mux_link_pull(t->link, out, cap);
}

static void ws_closed(void *ctx, uint16_t code, struct ht_slice reason, bool local) {
    struct ht_tunnel *t = ctx;
    char text[160];
    driver_text(reason, text, sizeof text);
    ws_conn_destroy(&t->ws);
    if (local && !t->ws_closing) /* not by us: by the WebSocket layer, which saw something that may not be */
        driver_end_reason(t, HT_TUNNEL_EPROTO, "the kit broke the WebSocket protocol: %s", text);
    if (!t->session)
        driver_end_reason(t, HT_TUNNEL_EHANDSHAKE, "the kit at %s closed the connection before it answered HELLO%s%s%s",
                          t->url.host_field, *text ? " (" : "", text, *text ? ")" : "");
    else if (!t->session_over && code != 1005 && code != 1006 && !t->goaway)
        driver_end_reason(t, HT_TUNNEL_ELOST, "the kit closed the connection with code %u%s%s%s", code,
                          *text ? " (" : "", text, *text ? ")" : "");
    /* RFC 6455 7.4.1: 1005 stands for a close frame without a code. */
    mux_link_closed(t->link, code == 1005 || code == WIRE_CLOSE_NORMAL);
    link_gone(t);
}

static const struct ws_ops ws_calls = {.message = ws_message, .fed = ws_fed, .pull = ws_pull, .closed = ws_closed};

static int say_hello(struct ht_tunnel *t) {
    static const struct ht_slice capabilities[] = {{WIRE_CAP_AUTO_WINDOW, sizeof WIRE_CAP_AUTO_WINDOW - 1}};
    struct wire_hello hello = {
        .version = WIRE_V1, .capabilities = capabilities, .n_capabilities = HT_ARRAY_LEN(capabilities)};
    if (t->token) {
        /* On the upgrade too: an edge in front of the kit may take the header for itself. */
        hello.has_auth = true;
        hello.auth.kind = ht_slice_str("bearer");
        hello.auth.token = ht_slice_str(t->token);
    }
    if (t->session_id[0]) {
        hello.has_resume = true;
        hello.resume.session_id = ht_slice_str(t->session_id);
    }
    return mux_link_send_hello(t->link, &hello);
}

static void connect_open(void *ctx, struct io_conn *conn, struct ht_slice protocol, struct ht_slice early) {
    struct ht_tunnel *t = ctx;
    t->connect = NULL;
    if (!ht_slice_is(protocol, wire_version_text(WIRE_V1))) {
        char chosen[64];
        io_conn_close(&conn);
        t->final = true;
        driver_end_reason(t, HT_TUNNEL_EHANDSHAKE, "the kit at %s chose the subprotocol \"%s\", which was not offered",
                          t->url.host_field, driver_text(protocol, chosen, sizeof chosen));
        driver_end(t);
        return;
    }
    static const struct ws_limits first = {.max_message = WIRE_LIMIT_MAX_MESSAGE,
                                           .max_fragments = WIRE_LIMIT_MAX_FRAGMENTS};
    io_conn_tune_tunnel(conn);
    t->ws = ws_conn_create(t->loop, conn, WS_CLIENT, &first, early, &ws_calls, t);
    t->link = t->ws ? mux_link_create(WIRE_ROLE_DRIVER, WIRE_V1, &link_ops, t) : NULL;
    if (!t->link || say_hello(t) < 0) {
        driver_end_reason(t, HT_TUNNEL_ENOMEM, "%s", ht_strerror(HT_TUNNEL_ENOMEM));
        driver_end(t);
        return;
    }
    t->state = DRIVER_HELLO;
    io_timer_set(&t->hello_timer, t->connect_timeout_ms);
}

static void connect_failed(void *ctx, int err, uint16_t status, uint64_t retry_after_ms, const char *text) {
    struct ht_tunnel *t = ctx;
    (void)err;
    t->connect = NULL;
    t->retry_after_ms = retry_after_ms;
    t->final = status == 400 || status == 403 || status == 426; /* RFC 9110 15.5: the same request fares no better */
    if (status == 401)
        driver_end_reason(t, HT_TUNNEL_EAUTH,
                          t->token ? "the kit at %s refused the token" : "the kit at %s wants a token",
                          t->url.host_field);
    else
        driver_end_reason(t, status ? HT_TUNNEL_EHANDSHAKE : HT_TUNNEL_ECONNECT, "%s", text);
    driver_end(t);
}

static const struct ws_connect_ops connect_ops = {.open = connect_open, .failed = connect_failed};

int driver_link_start(struct ht_tunnel *t) {
    struct ht_errmsg err;
    t->ws_closing = t->session_over = t->goaway = t->final = t->end_known = false;
    t->goaway_code = 0;
    t->goaway_text[0] = '\0';
    t->retry_after_ms = 0;
    t->deadline = UINT64_MAX;
    io_task_init(&t->clock, clock_task);
    io_timer_init(t->loop, &t->session_timer, session_timer_fired);
    io_timer_init(t->loop, &t->hello_timer, hello_timer_fired);
    io_timer_init(t->loop, &t->close_timer, close_timer_fired);
    struct ws_connect_options o = {
        .host = t->url.host,
        .port = t->url.port,
        .tls = t->tls,
        .host_field = t->url.host_field,
        .path = t->url.path,
        .protocols = wire_version_text(WIRE_V1),
        .extra = (const char *)ht_buf_head(&t->headers),
        .timeout_ms = t->connect_timeout_ms,
    };
    t->connect = ws_connect_start(t->loop, &o, &connect_ops, t, &err);
    t->state = DRIVER_CONNECTING;
    if (!t->connect) {
        driver_end_reason(t, HT_TUNNEL_ECONNECT, "%s", err.text);
        driver_end(t);
    }
    return HT_TUNNEL_OK;
}
