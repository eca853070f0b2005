/* The connection to the kit: dialling, the upgrade, HELLO, the session, and the end of each of them. */
#include "driver/driver.h"

#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/text.h"
#include "log_gen.h"

#include <stdio.h>
#include <string.h>

#define GHOST_MS 120000
#define DEAD_CLOSE_MS 50 /* time to send the close frame on a dead link */
#define HURRY_MS 200     /* time to send it and to get the kit's */

/* ---- the session's clock ---- */

static void clock_task(struct io_task *task) {
    struct driver_session *ses = ht_container_of(task, struct driver_session, clock);
    uint64_t now = io_now_ms(ses->t->loop);
    uint64_t deadline = ses->mux ? mux_session_deadline(ses->mux) : UINT64_MAX;
    if (deadline <= now) { /* a timer would take another turn of the loop */
        mux_session_tick(ses->mux, now);
        deadline = ses->mux ? mux_session_deadline(ses->mux) : UINT64_MAX;
    }
    /* One that has moved further away is noticed when the timer fires: cheaper than to set it with every message. */
    if (deadline >= ses->deadline)
        return;
    ses->deadline = deadline;
    io_timer_set(&ses->timer, deadline > now ? deadline - now : 0);
}

void driver_session_touch(struct driver_session *ses) { io_task_add(ses->t->loop, &ses->clock); }

void driver_link_touch(struct ht_tunnel *t) { driver_session_touch(t->now); }

static void session_timer_fired(struct io_timer *timer) {
    struct driver_session *ses = ht_container_of(timer, struct driver_session, timer);
    ses->deadline = UINT64_MAX;
    driver_session_touch(ses);
    if (ses->mux)
        mux_session_tick(ses->mux, io_now_ms(ses->t->loop));
}

/* ---- sessions as such ---- */

struct driver_session *driver_session_new(struct ht_tunnel *t) {
    struct driver_session *ses = ht_calloc(1, sizeof *ses);
    if (!ses)
        return NULL;
    ses->t = t;
    ht_list_init(&ses->node);
    return ses;
}

void driver_session_unlink(struct driver_session *ses) {
    for (unsigned i = 0; i < HT_MAX_CONNECTIONS; i++)
        driver_sock_drop(&ses->socks[i]);
    if (ses->clock.run) {
        io_task_cancel(&ses->clock);
        io_timer_stop(&ses->timer);
    }
}

void driver_session_drop(struct driver_session *ses) {
    mux_session_destroy(&ses->mux);
    driver_session_unlink(ses);
    for (unsigned i = 0; i < HT_MAX_CONNECTIONS; i++)
        driver_kept_drop(ses, i);
}

void driver_session_free(struct driver_session **sp) {
    struct driver_session *ses = *sp;
    *sp = NULL;
    if (!ses)
        return;
    driver_session_drop(ses);
    ht_free(ses);
}

/* ---- the end of a link or session ---- */

static void link_gone(struct ht_tunnel *t) {
    /* Only the first reason counts, and where the fault was found one was set. This is for all other cases. */
    driver_end_reason(t, HT_TUNNEL_ELOST, "the connection to the kit was lost");
    driver_end(t);
}

/* Sets the end's reason from the kit's GOAWAY, and whether another attempt makes sense. */
static void goaway_reason(struct ht_tunnel *t) {
    const char *text = t->goaway_text[0] ? t->goaway_text : "it did not say why";
    /* Final: a refused token when no other one can be read, and a session that was idle because it has no bindings. */
    t->final = (t->goaway_code == WIRE_CODE_AUTH_ERROR && !driver_token_again(t)) ||
               (t->goaway_code == WIRE_CODE_IDLE_TIMEOUT && ht_list_empty(&t->bindings));
    t->refused = t->goaway_code == WIRE_CODE_VERSION_MISMATCH || t->goaway_code == WIRE_CODE_ENHANCE_YOUR_CALM ||
                 t->goaway_code == WIRE_CODE_PROTOCOL_ERROR;
    switch (t->goaway_code) {
    case WIRE_CODE_AUTH_ERROR:
        driver_end_reason(t, HT_TUNNEL_EAUTH, "the kit refused the token: %s", text);
        break;
    case WIRE_CODE_RESOURCE_EXHAUSTED:
        driver_end_reason(t, HT_TUNNEL_ELIMIT, "the kit has no room: %s", text);
        break;
    case WIRE_CODE_PROTOCOL_ERROR:
        /* The code is the same when an admin kills the session and when this driver broke a rule. But only a kill ends
         * with a clean close. A broken rule is a defect, and a new session begins without its consequences. */
        if (strcmp(t->goaway_text, WIRE_GOAWAY_KILLED_MESSAGE) == 0 || t->close_code == WIRE_CLOSE_NORMAL)
            driver_end_reason(t, HT_TUNNEL_EREVOKED, "the kit closed the session: %s", text);
        else
            driver_end_reason(t, HT_TUNNEL_EPROTO, "the kit says that this driver broke the protocol: %s", text);
        break;
    case WIRE_GOAWAY_SUPERSEDED_CODE:
    case WIRE_CODE_BIND_TAKEOVER:
        /* RESUME-3. A driver that came back now would take turns with the other one forever. But the other one may be
         * this driver's own earlier HELLO, which was given up here and reached the kit late (a ghost). */
        if (io_now_ms(t->loop) < t->ghost_until)
            driver_end_reason(t, HT_TUNNEL_ELOST, "an earlier attempt of this driver reached the kit late: %s", text);
        else
            driver_end_reason(t, HT_TUNNEL_EREVOKED, "another driver took the session over: %s", text);
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
    ht_text_clean(goaway->message, t->goaway_text, sizeof t->goaway_text);
}

/* False: HELLO was not answered yet. */
static bool is_established(const struct ht_tunnel *t) {
    return t->now->mux && (t->state != DRIVER_HELLO || !driver_is_away(t));
}

/* What came before the loss waits for the next link. */
static void session_away(void *ctx, const char *text) {
    struct ht_tunnel *t = ctx;
    (void)text;
    if (driver_handover_is_near(t))
        return;
    io_timer_stop(&t->close_timer);
    driver_end_reason(t, HT_TUNNEL_ELOST,
                      t->now->socks[0].ws ? "the kit does not answer any more" : "the connection to the kit was lost");
    driver_end(t);
}

static void session_given_up(void *ctx, unsigned index) {
    struct ht_tunnel *t = ctx;
    driver_kept_drop(t->now, index);
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
    if (!t->now->socks[0].ws) {
        link_gone(t);
        return;
    }
    /* Queued frames, such as a GOAWAY, are still sent. The closing handshake has a time limit. */
    if (t->state != DRIVER_ENDED)
        driver_set_state(t, driver_retry_wanted(t) ? DRIVER_DOWN : DRIVER_CLOSING);
    driver_sock_close(&t->now->socks[0], 0, "");
    if (why == MUX_END_TIMEOUT) /* the link is dead, so no close frame will come */
        io_timer_set(&t->close_timer, DEAD_CLOSE_MS);
}

void driver_link_close(struct ht_tunnel *t) {
    io_timer_stop(&t->close_timer);
    if (is_established(t) && !t->session_over)
        mux_session_close(t->now->mux); /* calls session_over() */
    else
        driver_end(t);
}

/* The caller asks for the end a second time, so it must come fast. But the close frame has to be sent: without it the
 * kit would park the session and keep its ports for a driver that does not come back (rule END-1). */
void driver_link_hurry(struct ht_tunnel *t) {
    bool again = t->hurried;
    t->hurried = true;
    if (again || !t->now->mux || driver_is_away(t) || t->session_over)
        driver_sock_close(&t->now->socks[0], 0, "");
    else
        mux_session_close(t->now->mux);
    if (again)
        driver_end(t);
    else if (t->state == DRIVER_CLOSING)
        io_timer_set(&t->close_timer, HURRY_MS);
}

static void close_timer_fired(struct io_timer *timer) {
    driver_link_close(ht_container_of(timer, struct ht_tunnel, close_timer));
}

void driver_link_destroy(struct ht_tunnel *t) {
    if (t->now) {
        bool begun = t->now->clock.run;
        driver_session_drop(t->now);
        if (begun)
            io_timer_stop(&t->close_timer);
    }
    driver_handover_stop(t);
    io_timer_stop(&t->retry_timer);
    io_timer_stop(&t->pause.over);
}

/* ---- the session ---- */

/* Rule HANDOVER-1. */
static bool is_handover(const struct ht_tunnel *t, const struct wire_goaway *g) {
    return t->state == DRIVER_UP && (t->caps & WIRE_CAP_HANDOVER) && g->code == WIRE_GOAWAY_RESTARTING_CODE &&
           ht_slice_is(g->message, WIRE_GOAWAY_RESTARTING_MESSAGE) && !g->retry_after_ms;
}

static void session_goaway(void *ctx, const struct wire_goaway *goaway) {
    if (is_handover(ctx, goaway))
        driver_handover_begin(ctx);
    else
        note_goaway(ctx, goaway);
}

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
    .reissued = driver_on_reissued,
    .shard_map = driver_on_shard_map,
    .away = session_away,
    .given_up = session_given_up,
    .over = session_over,
};

/* The capabilities that this driver names in HELLO. */
static unsigned our_caps(const struct driver_sock *s) {
    unsigned caps = MUX_CAPS & wire_caps_in(s->version);
    if (!s->t->client[0])
        caps &= ~(unsigned)WIRE_CAP_CLIENT;
    return s->t->replay_buffer && !s->t->vtunnel ? caps : caps & ~(unsigned)WIRE_CAP_STREAM_RESUME;
}

unsigned driver_agreed(const struct driver_sock *s, const struct wire_hello_ok *ok) {
    return our_caps(s) & wire_caps_of(s->version, ok->capabilities, ok->n_capabilities);
}

static int make_session(struct ht_tunnel *t, const struct wire_hello_ok *ok) {
    bool asks = !t->vtunnel; /* vtunnel's protocol has a ping of its own (VKEEP-1) */
    t->caps = driver_agreed(&t->now->socks[0], ok);
    t->pause.grace_ms = ok->has_resume_grace_ms ? ok->resume_grace_ms : WIRE_LIMIT_TAKEOVER_GRACE;
    if (t->caps & WIRE_CAP_STREAM_RESUME && driver_kept_begin(&t->now->socks[0]) < 0)
        return HT_ENOMEM;
    struct mux_config cfg = {
        .role = WIRE_ROLE_DRIVER,
        .version = t->now->socks[0].version,
        .stream_window = ok->stream_window,
        .session_window = ok->session_window,
        .max_window = t->max_window,
        .max_streams = t->max_streams, /* ours, whatever HELLO_OK says (hardening case 31) */
        .session_buffer = WIRE_LIMIT_SESSION_BUFFER,
        .ping_interval_ms = asks ? t->ping_interval_ms : 0,
        .pong_timeout_ms = asks ? t->pong_timeout_ms : 0,
        .suspect_after_ms = asks ? t->suspect_after_ms : 0,
        .measure_interval_ms = asks ? t->measure_every_ms : 0,
        .own_peer = ok->n_capabilities > 0 || t->vtunnel,
        .replay_buffer = t->replay_buffer,
        .peer_replay_buffer = ok->has_replay_buffer ? (uint32_t)ok->replay_buffer : 0,
        .resume_grace_ms = t->pause.grace_ms,
        .caps = t->caps,
        .metrics = &t->metrics,
        .random = ht_random_bytes,
    };
    t->now->mux = mux_session_create(&cfg, &session_ops, t, io_now_ms(t->loop));
    return t->now->mux ? mux_session_attach(t->now->mux, t->now->socks[0].link, ok) : HT_ENOMEM;
}

/* Hardening case 31: the window sizes this driver's memory. A smaller one that the kit does not know of would break the
 * session later, so a session with a window that is too large is ended. */
static bool refuse_window(struct driver_sock *s, const struct wire_hello_ok *ok) {
    struct ht_tunnel *t = s->t;
    if (ok->session_window <= t->max_window)
        return false;
    driver_end_reason(t, HT_TUNNEL_EPROTO,
                      "the kit wants to send %llu bytes ahead (its session window), and this driver takes at most %u; "
                      "--max-window lets it have more",
                      (unsigned long long)ok->session_window, (unsigned)t->max_window);
    t->final = true;
    driver_set_state(t, DRIVER_CLOSING); /* a clean close, since the kit has made a session, which it would park */
    driver_sock_close(s, 0, "");
    return true;
}

/* Everything that was under way goes on. False: the kit's count cannot be true, and HELLO is said again without ours
 * (RESUME-11). */
static bool take_up_whole(struct ht_tunnel *t, const struct wire_hello_ok *ok) {
    int rc = driver_resume_go_on(t, ok);
    if (rc == HT_OK)
        return true;
    driver_end_reason(t, HT_TUNNEL_ELOST, "the session could not be taken up as it was: %s",
                      rc == HT_ENOMEM ? ht_err_text(rc) : "what the kit says of it cannot be true");
    driver_end(t);
    if (driver_is_away(t))
        driver_resume_give_up(t, "the kit and this driver do not agree on what was sent");
    return false;
}

/* A new session, or one whose streams are gone. */
static bool begin_anew(struct ht_tunnel *t, const struct wire_hello_ok *ok) {
    if (driver_is_away(t)) {
        driver_resume_give_up(t, ok->resumed ? "the kit has resumed the session without them"
                                             : "the kit no longer has their session");
        if (t->state != DRIVER_HELLO) /* a callback has closed the tunnel, and so the connection */
            return false;
    }
    if (make_session(t, ok) == HT_OK)
        return true;
    driver_end_reason(t, HT_TUNNEL_ENOMEM, "%s", ht_strerror(HT_TUNNEL_ENOMEM));
    driver_end(t);
    return false;
}

static void link_hello_ok(void *ctx, const struct wire_hello_ok *ok) {
    struct driver_sock *s = ctx;
    struct ht_tunnel *t = s->t;
    io_timer_stop(&s->timer);
    if (driver_is_past(s->of)) {
        driver_past_hello_ok(s, ok);
        return;
    }
    if (s->of == t->next && t->state == DRIVER_UP) {
        driver_handover_switch(t);
    } else if (s->of != t->now || t->state != DRIVER_HELLO) { /* the tunnel is closing, or ends in this turn */
        driver_sock_close(s, 0, "");
        return;
    }
    bool whole = ok->has_received && driver_agreed(s, ok) & WIRE_CAP_STREAM_RESUME;
    if (refuse_window(s, ok) || !(whole ? take_up_whole(t, ok) : begin_anew(t, ok)))
        return;
    driver_set_state(t, DRIVER_UP);
    t->was_up = t->told_up = true;
    t->up_at = io_now_ms(t->loop);
    t->granted = wire_frame_in(s->version, WIRE_JOIN) ? (unsigned)ht_min(ok->connections_granted, t->connections) : 1;
    t->reissues = driver_agreed(s, ok) & WIRE_CAP_REISSUE_TICKETS;
    t->rtt_us = 0;
    t->sessions++;
    t->session_id[0] = '\0';
    if (ok->session_id.n < sizeof t->session_id && !t->vtunnel) { /* byte for byte, since HELLO sends it back */
        memcpy(t->session_id, ok->session_id.p, ok->session_id.n);
        t->session_id[ok->session_id.n] = '\0';
    }
    uint64_t paused_ms = whole ? driver_pause_over(t) : 0;
    driver_link_touch(t);
    ht_log_with(HT_LOG_DEBUG, "driver",
                HT_LOG_FIELDS(log_session_slice(ok->session_id), log_count(ok->connections_granted),
                              log_reason(ok->resumed ? "resumed" : "new")),
                "HELLO_OK");
    if (t->calls.connected) {
        char id[160], server[160], proxy[512], user[160];
        struct ht_connected c = {
            .knows_names = (t->caps & WIRE_CAP_NAMES) != 0,
            .proxy = ok->has_proxy ? ht_text_clean(ok->proxy, proxy, sizeof proxy) : NULL,
            .session_id = ht_text_clean(ok->session_id, id, sizeof id),
            .server = ht_text_clean(ok->server, server, sizeof server),
            .resumed = ok->resumed,
            .whole = whole,
            .paused_ms = paused_ms,
            .user = ok->has_user ? ht_text_clean(ok->user, user, sizeof user) : NULL,
        };
        t->calls.connected(t->user, &c);
    }
    if (t->state == DRIVER_UP && whole)
        driver_bind_go_on(t);
    else if (t->state == DRIVER_UP && !driver_bind_too_many(t, ok))
        driver_bind_all(t, ok);
    if (t->state == DRIVER_UP)
        driver_shards_open(t->now, ok);
}

/* ---- the link ---- */

static void link_refused(void *ctx, const struct wire_goaway *goaway) {
    struct driver_sock *s = ctx;
    struct ht_tunnel *t = s->t;
    if (s->of != t->now) /* primary_closed() is called too, and handles it */
        return;
    note_goaway(t, goaway);
    if (t->goaway_code == WIRE_CODE_PROTOCOL_ERROR)
        driver_end_reason(t, HT_TUNNEL_EHANDSHAKE, "the kit refused HELLO: %s", t->goaway_text);
    goaway_reason(t);
}

static void link_close(void *ctx, uint16_t ws_code, const char *reason) {
    struct driver_sock *s = ctx;
    if (s->of == s->t->now && !is_established(s->t))
        driver_end_reason(s->t, HT_TUNNEL_EHANDSHAKE, "the kit did not answer HELLO as it should: %s",
                          reason ? reason : "");
    driver_sock_close(s, ws_code, reason);
}

static const struct mux_link_ops link_ops = {
    .hello_ok = link_hello_ok,
    .refused = link_refused,
    .output = driver_sock_output,
    .close = link_close,
    .kept = driver_kept_bytes,
    .acked = driver_kept_acked,
    .replay = driver_kept_replay,
    .drained = driver_drained,
};

/* ---- the primary socket ---- */

static int say_hello(struct driver_sock *s) {
    struct ht_slice capabilities[WIRE_N_CAPABILITIES];
    struct ht_tunnel *t = s->t;
    struct wire_hello hello = {.version = s->version,
                               .capabilities = capabilities,
                               .n_capabilities = wire_caps_names(our_caps(s), capabilities),
                               .has_max_connections = wire_frame_in(s->version, WIRE_JOIN),
                               .max_connections = t->connections};
    if (t->client[0]) {
        hello.has_client = true;
        hello.client.id = ht_slice_str(t->client);
        hello.client.has_name = t->client_name[0] != '\0';
        hello.client.name = ht_slice_str(t->client_name);
    }
    if (t->token) {
        /* The upgrade has the token too, but an edge in front of the kit may replace that header. */
        hello.has_auth = true;
        hello.auth.kind = ht_slice_str("bearer");
        hello.auth.token = ht_slice_str(t->token);
    }
    if (driver_is_past(s->of)) {
        hello.has_resume = true;
        driver_past_hello(s->of, &hello.resume);
    } else if (t->session_id[0]) {
        hello.has_resume = true;
        hello.resume.session_id = ht_slice_str(t->session_id);
    }
    if (our_caps(s) & WIRE_CAP_STREAM_RESUME) {
        hello.has_replay_buffer = true;
        hello.replay_buffer = t->replay_buffer;
    }
    if (s->of == t->now) {
        t->pause.asked = driver_is_away(t) && mux_session_counted(t->now->mux, 0, &hello.resume.received);
        hello.resume.has_received = t->pause.asked;
        driver_set_state(t, DRIVER_HELLO);
    }
    ht_log_with(HT_LOG_DEBUG, "driver",
                HT_LOG_FIELDS(log_target(t->url.host_field), log_version(wire_version_text(s->version)),
                              log_session_slice(hello.resume.session_id)),
                "HELLO");
    return mux_link_send_hello(s->link, &hello);
}

/* Explains an answer to the upgrade that did not come from a kit: what may be wrong, and what helps. */
static const char *hint(uint16_t status) {
    if (status / 100 == 3)
        return "; it is not a kit: the login page of this network, or an edge that wants another URL";
    if (status / 100 == 2)
        return "; something other than a kit answers there, such as the login page of this network";
    switch (status) {
    case 400:
    case 404:
    case 405:
    case 426:
        return "; it is not a kit, or what stands in front of it does not let WebSockets through";
    case 401:
        return "; what stands in front of the kit wants a login of its own: --header 'Authorization: ...' shows one";
    case 403:
        return "; the kit, or what stands in front of it, refuses connections from here";
    case 407:
        return "; a proxy of this network is in between: --proxy names it, and --proxy-auth-file has its credentials";
    case 502:
    case 503:
    case 504:
        return "; what stands in front of the kit does not reach it, or the kit is busy";
    default:
        return "";
    }
}

/* An attempt for another session than the present one. */
static void another_failed(struct driver_sock *s, const char *why) {
    if (driver_is_past(s->of))
        driver_past_failed(s->of, why);
    else
        driver_handover_failed(s->t, why);
}

static void primary_failed(struct driver_sock *s, int error, uint16_t status, uint64_t retry_after_ms,
                           const char *text) {
    struct ht_tunnel *t = s->t;
    if (s->of != t->now) {
        another_failed(s, text);
        return;
    }
    if (status == 400 && !t->only_v1 && t->connections > 1 && t->state == DRIVER_CONNECTING) {
        t->only_v1 = true; /* an old kit may not understand a list of subprotocols */
        driver_link_start(t);
        return;
    }
    t->retry_after_ms = retry_after_ms;
    /* An edge answers 5xx while its kit restarts, which takes as long as a lost link. */
    t->refused = error == HT_TUNNEL_ETLS || error == HT_TUNNEL_EAUTH || (error == HT_TUNNEL_EHANDSHAKE && status < 500);
    if (error == HT_TUNNEL_EAUTH && driver_token_again(t))
        t->refused = false; /* the next attempt has another token */
    if (error == HT_TUNNEL_EAUTH)
        driver_end_reason(t, HT_TUNNEL_EAUTH,
                          t->token ? "the kit at %s refused the token" : "the kit at %s wants a token",
                          t->url.host_field);
    else
        driver_end_reason(t, error, "%s%s", text, hint(status));
    driver_end(t);
}

/* HELLO was sent and not answered. It may still reach the kit, as long as TCP tries (RFC 9293 3.8.3). */
static void expect_ghost(struct ht_tunnel *t) { t->ghost_until = io_now_ms(t->loop) + GHOST_MS; }

static void primary_closed(struct driver_sock *s, uint16_t code, const char *text, bool broken) {
    struct ht_tunnel *t = s->t;
    if (driver_is_past(s->of)) {
        driver_past_closed(s, code, text);
        return;
    }
    if (s->of == t->next) {
        mux_link_closed(s->link, code == WS_CLOSE_NO_CODE || code == WIRE_CLOSE_NORMAL);
        driver_handover_failed(t, *text ? text : "the connection was closed");
        return;
    }
    t->close_code = code;
    if (broken)
        driver_end_reason(t, HT_TUNNEL_EPROTO, "the kit broke the WebSocket protocol: %s", text);
    bool unanswered = !is_established(t);
    if (unanswered)
        expect_ghost(t);
    if (unanswered)
        driver_end_reason(t, HT_TUNNEL_EHANDSHAKE, "the kit at %s closed the connection before it answered HELLO%s%s%s",
                          t->url.host_field, *text ? " (" : "", text, *text ? ")" : "");
    else if (!t->session_over && code != WS_CLOSE_NO_CODE && code != WS_CLOSE_DROPPED && !t->goaway)
        driver_end_reason(t, HT_TUNNEL_ELOST, "the kit closed the connection with code %u%s%s%s", code,
                          *text ? " (" : "", text, *text ? ")" : "");
    mux_link_closed(s->link, code == WS_CLOSE_NO_CODE || code == WIRE_CLOSE_NORMAL);
    if (!driver_is_away(t) || !driver_handover_is_near(t))
        link_gone(t);
}

static void hello_late(struct io_timer *timer) {
    struct driver_sock *s = ht_container_of(timer, struct driver_sock, timer);
    struct ht_tunnel *t = s->t;
    if (s->of != t->now) {
        another_failed(s, "the kit did not answer HELLO in time");
        return;
    }
    expect_ghost(t);
    driver_end_reason(t, HT_TUNNEL_EHANDSHAKE, "the kit at %s did not answer HELLO in time", t->url.host_field);
    driver_end(t);
}

static const struct driver_sock_ops primary_ops = {
    .link = &link_ops, .greet = say_hello, .failed = primary_failed, .closed = primary_closed};

int driver_link_dial(struct driver_session *ses, const char *protocols, struct ht_errmsg *err) {
    ses->deadline = UINT64_MAX;
    if (ses->clock.run) {
        io_task_cancel(&ses->clock);
        io_timer_stop(&ses->timer);
    }
    io_task_init(&ses->clock, clock_task);
    io_timer_init(ses->t->loop, &ses->timer, session_timer_fired);
    driver_sock_init(&ses->socks[0], ses, 0, &primary_ops, hello_late);
    return driver_sock_connect(&ses->socks[0], protocols, err);
}

static void attempt(struct ht_tunnel *t, bool again) {
    struct ht_errmsg err;
    t->session_over = t->goaway = t->final = t->refused = t->end_known = false;
    t->goaway_code = t->close_code = 0;
    t->goaway_text[0] = '\0';
    t->retry_after_ms = 0;
    io_timer_init(t->loop, &t->close_timer, close_timer_fired);
    driver_set_state(t, DRIVER_CONNECTING);
    driver_network_attempt(t, again);
    /* For a single connection the versions do not differ, and every kit speaks v1. */
    const char *protocols = t->connections > 1 && !t->only_v1 ? WIRE_SUBPROTOCOLS : WIRE_SUBPROTOCOL_V1;
    if (driver_link_dial(t->now, t->vtunnel ? NULL : protocols, &err) < 0) {
        driver_end_reason(t, HT_TUNNEL_ECONNECT, "%s", err.text);
        driver_end(t);
    }
}

int driver_link_start(struct ht_tunnel *t) {
    driver_options_client(t);
    attempt(t, false);
    return HT_TUNNEL_OK;
}

void driver_link_restart(struct ht_tunnel *t) {
    driver_sock_drop(&t->now->socks[0]);
    attempt(t, true);
}
