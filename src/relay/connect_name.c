/*
 * A client of the CONNECT proxy whose destination a driver has registered: it waits for its turn, has a stream, and
 * then bytes both ways (pipe.c).
 */
#include "relay/connect_priv.h"

#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/text.h"
#include "log_gen.h"

#include <stdio.h>

static void pipe_done(void *ctx, uint16_t code, const char *text) {
    struct connect_client *x = ctx;
    uint64_t in, out;
    relay_pipe_counts(x->pipe, &in, &out);
    ht_log_with(HT_LOG_DEBUG, "connect",
                HT_LOG_FIELDS(log_session(x->name.b->owner->id), log_peer(x->peer), log_target(x->dest.text),
                              log_code(code), log_bytes_in(in), log_bytes_out(out),
                              log_duration_us(ht_now_us() - x->began_us), log_reason(code ? text : "in order")),
                "connection over");
    if (code == WIRE_CODE_CANCEL)
        relay_left_early(x->name.b, x->from);
    else
        relay_answered(x->name.b, x->from);
    connect_free(x);
}

/* Any byte between two looks is a sign of life. When the link was away meanwhile, nothing can be said. */
static void pipe_look(struct io_timer *timer) {
    struct connect_client *x = ht_container_of(timer, struct connect_client, timer);
    uint64_t in, out, away = relay_pipe_away_ms(x->pipe);
    relay_pipe_counts(x->pipe, &in, &out);
    if (in + out == x->moved && away == x->away_ms) {
        static const char why[] = "no bytes came from either side for too long (--connect-idle-timeout)";
        relay_pipe_abort(&x->pipe, WIRE_CODE_IDLE_TIMEOUT, why);
        connect_gone(x, why);
        return;
    }
    x->moved = in + out;
    x->away_ms = away;
    io_timer_set(timer, x->c->cfg.idle_timeout_ms);
}

/* NAME-7: the driver has its connection. */
static void stream_connected(void *ctx) {
    static const struct relay_pipe_ops ops = {.done = pipe_done};
    struct connect_client *x = ctx;
    struct relay_connect *c = x->c;
    uint8_t reply[RELAY_SOCKS_REPLY];
    struct io_out first = connect_established(x, reply);
    struct io_conn *conn = x->conn;
    struct mux_stream *st = x->st;
    if (x->asked) {
        io_dial_give(x->asked, x->far);
        x->asked = NULL;
        x->far = NULL;
        first = (struct io_out){.n_iov = 0};
    } else {
        c->t->cfg.metrics->connect_requests_total[HT_METRIC_WAY_OUT_TUNNEL]++;
        connect_tell(c, &(struct relay_connect_told){.peer = ht_slice_str(x->peer),
                                                     .target = x->dest.text,
                                                     .session = x->name.b->owner->id,
                                                     .user = x->who.user,
                                                     .status = CONNECT_ESTABLISHED});
    }
    x->conn = NULL;
    x->st = NULL;
    connect_set_state(x, CLIENT_PIPED);
    io_timer_stop(&x->timer);
    x->moved = UINT64_MAX;
    io_timer_init(c->t->cfg.loop, &x->timer, pipe_look);
    if (c->cfg.idle_timeout_ms)
        io_timer_set(&x->timer, c->cfg.idle_timeout_ms);
    x->pipe = relay_pipe_start(c->t->cfg.loop, conn, st, ht_buf_slice(&x->in), 0, &ops, x);
    if (x->pipe && relay_pipe_take_out(x->pipe, &first) == HT_OK) {
        ht_buf_free(&x->in);
        return;
    }
    io_out_free(&first);
    connect_free(x);
}

static void stream_closed(void *ctx, uint16_t code, struct ht_slice reason, bool remote) {
    struct connect_client *x = ctx;
    char text[256];
    const char *colon = reason.n ? memchr(reason.p, ':', reason.n) : NULL;
    bool told = remote && !mux_stream_was_lost(x->st); /* by the driver */
    const struct visitor_answer *a = told ? &answer_proxy_unreachable : &answer_link_lost;
    (void)code;
    if (told && colon)
        a = connect_plain_answer(ht_slice_of(reason.p, (size_t)(colon - reason.p)));
    relay_answered(x->name.b, x->from);
    connect_answer(x, a, a == &answer_proxy_denied ? HT_METRIC_WAY_OUT_DENIED : HT_METRIC_WAY_OUT_FAILED,
                   ht_text_clean(reason, text, sizeof text));
}

static ssize_t stream_pull(void *ctx, uint8_t *out, size_t cap, unsigned *flags) {
    (void)ctx, (void)out, (void)cap;
    *flags = 0;
    return 0;
}

/* Neither data nor an end come before connected(): mux sees to that. */
static void stream_data(void *ctx, const uint8_t *p, size_t n) { (void)ctx, (void)p, (void)n; }
static void stream_nothing(void *ctx) { (void)ctx; }

static const struct mux_stream_ops stream_ops = {.connected = stream_connected,
                                                 .data = stream_data,
                                                 .eof = stream_nothing,
                                                 .data_end = stream_nothing,
                                                 .pull = stream_pull,
                                                 .closed = stream_closed};

/* The time for which the link was away does not count. */
static bool goes_on(struct connect_client *x) {
    uint64_t before = x->away_ms;
    if (x->state == CLIENT_WAITING && x->name.b->owner->away) { /* how long, is decided in visitor_wait.c */
        io_timer_set(&x->timer, x->c->cfg.dial_timeout_ms);
        return true;
    }
    x->away_ms = x->st ? mux_stream_away_ms(x->st, io_now_ms(x->c->t->cfg.loop)) : 0;
    if (x->away_ms == before)
        return false;
    io_timer_set(&x->timer, ht_max64(x->away_ms - before, RELAY_AWAY_LOOK_MS));
    return true;
}

static void tunnel_late(struct io_timer *timer) {
    struct connect_client *x = ht_container_of(timer, struct connect_client, timer);
    if (goes_on(x))
        return;
    if (x->st) {
        relay_left_early(x->name.b, x->from);
        mux_stream_reset(x->st, WIRE_CODE_CANCEL, "no connection in time");
    }
    connect_answer(x, x->st ? &answer_proxy_timeout : &answer_busy, HT_METRIC_WAY_OUT_FAILED,
                   "the driver said nothing in time");
}

static void open_stream(struct connect_client *x) {
    struct relay_binding *b = x->name.b;
    char text[RELAY_FULL_TEXT];
    int rc = relay_name_open(&x->name, x->dest.host, x->dest.port, x->peer, &stream_ops, x, &x->st);
    switch (rc) {
    case HT_OK:
        relay_opened(b, x->from);
        x->away_ms = mux_stream_away_ms(x->st, io_now_ms(x->c->t->cfg.loop));
        io_timer_set(&x->timer, x->c->cfg.dial_timeout_ms); /* it may have waited for its turn */
        connect_set_state(x, CLIENT_OPENING);
        break;
    case HT_ELIMIT:
        connect_refuse(x, &answer_stream_cap, relay_no_stream_text(b, text));
        break;
    case HT_ECLOSED:
        connect_refuse(x, &answer_parked, answer_parked.body);
        break;
    default:
        connect_refuse(x, &answer_proxy_busy, ht_err_text(rc));
        break;
    }
}

uint64_t connect_paused_ms(const struct connect_client *x) {
    uint64_t now = io_now_ms(x->c->t->cfg.loop);
    uint64_t waited = x->state == CLIENT_WAITING ? now - x->waiter.since_ms : x->waited_ms;
    return waited + (x->pipe ? relay_pipe_away_ms(x->pipe) : x->st ? mux_stream_away_ms(x->st, now) : 0);
}

bool connect_is_paused(const struct connect_client *x) {
    return x->pipe ? relay_pipe_is_away(x->pipe) : x->st ? mux_stream_is_away(x->st) : x->state == CLIENT_WAITING;
}

static void turn_has_come(struct relay_waiter *w) {
    struct connect_client *x = ht_container_of(w, struct connect_client, waiter);
    x->waited_ms = connect_paused_ms(x);
    open_stream(x);
}

static void left_while_waiting(struct relay_waiter *w, int why) {
    connect_gone(ht_container_of(w, struct connect_client, waiter), ht_err_text(why));
}

static void shed(struct relay_waiter *w) {
    connect_refuse(ht_container_of(w, struct connect_client, waiter), &answer_parked, answer_parked.body);
}

/* The binding no longer exists, or has another owner. */
static void name_gone(struct relay_name_visitor *v, uint16_t code, const char *reason) {
    struct connect_client *x = ht_container_of(v, struct connect_client, name);
    relay_wait_end(&x->waiter);
    if (x->st)
        mux_stream_reset(x->st, code, reason);
    if (x->pipe) {
        relay_pipe_abort(&x->pipe, code, reason);
        connect_gone(x, reason);
    } else {
        connect_answer(x, &answer_closed, HT_METRIC_WAY_OUT_FAILED, reason);
    }
}

void connect_through(struct connect_client *x, struct relay_binding *b) {
    static const struct relay_name_visitor_ops ops = {.gone = name_gone};
    static const struct relay_waiter_ops waiter_ops = {.turn = turn_has_come, .left = left_while_waiting, .shed = shed};
    struct io_addr peer;
    io_conn_peer(x->conn, &peer);
    io_conn_read_on(x->conn, false);
    x->from = relay_from(&peer);
    x->waiter = (struct relay_waiter){.ops = &waiter_ops, .conn = x->conn, .half_close = true};
    relay_name_enter(&x->name, b, &ops);
    io_timer_init(x->c->t->cfg.loop, &x->timer, tunnel_late);
    io_timer_set(&x->timer, x->c->cfg.dial_timeout_ms);
    bool waits = relay_must_wait(b, x->from);
    if (io_conn_set_share(x->conn, b->owner->share) < 0 || (waits && relay_wait(b, &x->waiter, x->from)))
        connect_refuse(x, &answer_proxy_busy, ht_err_text(HT_ENOMEM));
    else if (!waits)
        open_stream(x);
    else
        connect_set_state(x, CLIENT_WAITING);
}

static void not_wanted(void *by) {
    struct connect_client *x = by;
    x->asked = NULL;
    connect_gone(x, "the request that needed the connection has ended");
}

struct io_dial *connect_by_name(struct relay_connect *c, const void *user, const struct relay_dest *dest,
                                struct ht_list *among, uint32_t serves, const struct io_dial_ops *ops, void *ctx,
                                struct ht_errmsg *err) {
    struct relay_binding *b;
    struct io_conn *ends[2] = {NULL, NULL};
    struct connect_client *x = ht_calloc(1, sizeof *x);
    struct io_dial *d = x ? io_dial_by(c->t->cfg.loop, ops, ctx, not_wanted, x) : NULL;
    if (!d) {
        ht_free(x);
        ht_fail(err, HT_ENOMEM, "%s", ht_err_text(HT_ENOMEM));
        return NULL;
    }
    x->c = c;
    x->who.user = user;
    x->dest = *dest;
    x->asked = d;
    snprintf(x->peer, sizeof x->peer, "local");
    connect_enlist(x, &c->addr);
    x->serves = serves;
    ht_list_push_front(among, &x->served);
    if (io_conn_pair(c->t->cfg.loop, ends) == HT_OK) {
        x->conn = ends[0];
        x->far = ends[1];
    }
    if (!x->conn || !connect_permit(x))
        connect_refuse(x, &answer_proxy_busy, ht_err_text(HT_EFDS));
    else if (relay_name_find(c->t, user, dest->host, dest->port, &b) == RELAY_NAME_LIVE)
        connect_through(x, b);
    else
        connect_refuse(x, &answer_parked, answer_parked.body);
    return d;
}
