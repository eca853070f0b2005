/* One WebSocket of a driver: ws below, a mux link above. */
#include "kit/kit_priv.h"

#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "log_gen.h"

static struct crowd *crowd_of(struct kit *k, const struct kit_user *user) {
    return &k->strangers[user ? SHOWN_TOKEN : SHOWN_NOTHING];
}

/* Whose place it is: the user's where there are several, and until that is known, the address's. */
static struct crowd_key key_of(const struct kit *k, const struct kit_user *user, const struct io_addr *from) {
    return user && k->opt->users ? crowd_by_user(user) : crowd_by_address(from);
}

static bool is_stranger(const struct kit_sock *s) { return ht_list_linked(&s->stranger.node); }

static void no_longer_stranger(struct kit_sock *s) {
    if (is_stranger(s))
        crowd_leave(crowd_of(s->kit, s->user), &s->stranger);
}

bool sock_room(struct kit *k, const struct kit_user *user, const struct io_addr *from) {
    struct crowd *crowd = crowd_of(k, user);
    if (crowd->n < k->opt->max_pre_auth_connections)
        return true;
    struct crowd_member *gives = crowd_gives(crowd, key_of(k, user, from));
    if (!gives)
        return false;
    k->metrics.handshake_failures_total[HT_METRIC_HANDSHAKE_FAILURE_PRE_AUTH_CAP]++;
    sock_drop(HT_LIST_ENTRY(gives, struct kit_sock, stranger));
    return true;
}

void sock_drop(struct kit_sock *s) {
    if (s->dead)
        return;
    s->dead = true;
    s->session = NULL;
    no_longer_stranger(s);
    hello_forget(s);
    past_drop_hand(s);
    io_timer_stop(&s->hello_timer);
    io_timer_stop(&s->life_timer);
    ht_list_remove(&s->node);
    s->kit->n_socks--;
    ht_list_push_back(&s->kit->dead_socks, &s->node);
    kit_reap_later(s->kit);
}

void sock_free(struct kit_sock *s) {
    ht_list_remove(&s->node);
    io_timer_stop(&s->hello_timer);
    io_timer_stop(&s->life_timer);
    ws_conn_destroy(&s->ws);
    vtunnel_destroy(&s->vt);
    mux_link_destroy(&s->link);
    ht_free(s);
}

void sock_close(struct kit_sock *s, uint16_t ws_code, const char *reason) {
    if (s->dead || s->closing)
        return;
    s->closing = true;
    hello_forget(s);
    past_drop_hand(s);
    io_timer_stop(&s->hello_timer);
    io_timer_stop(&s->life_timer);
    ws_conn_close(s->ws, ws_code, reason);
}

/* ---- from below: ws ---- */

static ssize_t ws_message(void *ctx, uint8_t *p, size_t n, bool end) {
    struct kit_sock *s = ctx;
    if (s->dead)
        return HT_ECLOSED;
    if (s->session && s->session->owner.mux)
        mux_session_measure(s->session->owner.mux, ht_now_us());
    ssize_t used =
        s->vt ? vtunnel_message(s->vt, p, n, end, io_now_ms(s->kit->loop)) : mux_link_message(s->link, p, n, end);
    return s->dead ? HT_ECLOSED : used;
}

static void ws_fed(void *ctx) {
    struct kit_sock *s = ctx;
    if (s->dead)
        return;
    mux_link_fed(s->link);
    if (s->session)
        session_touch(s->session);
}

static size_t ws_pull(void *ctx, uint8_t *out, size_t cap) {
    struct kit_sock *s = ctx;
    if (s->dead)
        return 0;
    size_t n = s->vt ? vtunnel_pull(s->vt, out, cap) : mux_link_pull(s->link, out, cap);
    if (n > 0)
        sock_pulled(s);
    if (s->session)
        session_pulled(s->session);
    return n;
}

static void ws_closed(void *ctx, uint16_t code, struct ht_slice reason, bool local) {
    struct kit_sock *s = ctx;
    if (s->dead)
        return;
    s->closing = true;
    ht_log_with(HT_LOG_DEBUG, "kit", HT_LOG_FIELDS(log_peer(s->peer), log_code(code), log_reason_slice(reason)),
                "WebSocket closed by %s", local ? "us" : "the driver");
    /* Rule END-1: a close without a code or with 1000 is a goodbye; a socket that drops or another code is not. */
    mux_link_closed(s->link, code == WIRE_CLOSE_NORMAL || code == WS_CLOSE_NO_CODE);
    sock_drop(s);
}

static const struct ws_ops sock_ws_ops = {
    .message = ws_message,
    .fed = ws_fed,
    .pull = ws_pull,
    .closed = ws_closed,
};

/* ---- from above: mux ---- */

static void link_hello(void *ctx, const struct wire_hello *hello) { hello_received(ctx, hello); }

static void link_join(void *ctx, const struct wire_join *join) { join_received(ctx, join); }

static void link_output(void *ctx) {
    struct kit_sock *s = ctx;
    if (s->dead || !s->ws)
        return;
    ws_conn_want_send(s->ws);
    if (s->session)
        session_touch(s->session);
}

static void link_close(void *ctx, uint16_t ws_code, const char *reason) {
    struct kit_sock *s = ctx;
    if (s->dead)
        return;
    if (!s->session && is_stranger(s) && ws_code == WIRE_CLOSE_PROTOCOL_ERROR) {
        s->kit->metrics.handshake_failures_total[HT_METRIC_HANDSHAKE_FAILURE_BAD_HELLO]++;
        ht_log_stranger(HT_LOG_INFO, "kit", HT_LOG_FIELDS(log_peer(s->peer), log_reason(reason)),
                        "the first frame was not a valid HELLO");
    }
    if (s->vt && s->session && s->session->goodbye) /* vtunnel has no GOAWAY: the close frame says why */
        reason = s->session->goodbye;
    sock_close(s, ws_code, reason);
}

static const struct mux_link_ops sock_link_ops = {
    .hello = link_hello,
    .join = link_join,
    .output = link_output,
    .close = link_close,
    .kept = sock_kept,
    .acked = sock_acked,
    .replay = sock_replay,
    .drained = sock_drained,
};

/* ---- life ---- */

static void hello_late(struct io_timer *t) {
    struct kit_sock *s = ht_container_of(t, struct kit_sock, hello_timer);
    /* Rule HELLO-5: without a closing handshake, which would keep the stranger's place in use. */
    s->kit->metrics.handshake_failures_total[HT_METRIC_HANDSHAKE_FAILURE_HELLO_TIMEOUT]++;
    ht_log_stranger(HT_LOG_INFO, "kit", HT_LOG_FIELDS(log_peer(s->peer)), "no HELLO in time, closed");
    sock_drop(s);
}

/*
 * The session's PINGs travel on the primary (FRAME-10), so the kit checks a quiet secondary with a PING of WebSocket
 * itself, which every client answers. Otherwise streams would be opened on a secondary whose other end is gone.
 */
static void check_life(struct io_timer *t) {
    struct kit_sock *s = ht_container_of(t, struct kit_sock, life_timer);
    const struct opt_serve *o = s->kit->opt;
    uint64_t in, out, now = io_now_ms(s->kit->loop), wait = o->ping_interval_ms;
    if (s->closing)
        return;
    io_conn_counts(ws_conn_io(s->ws), &in, &out);
    if (in != s->heard) {
        s->heard = in;
        s->pinged_at = 0;
    } else if (!s->pinged_at) {
        s->pinged_at = now;
        ws_conn_ping(s->ws);
    } else if (o->pong_timeout_ms && now >= s->pinged_at + o->pong_timeout_ms) {
        ht_log_with(HT_LOG_INFO, "kit", HT_LOG_FIELDS(log_peer(s->peer)), "a connection no longer answers");
        mux_link_closed(s->link, false);
        sock_drop(s);
        return;
    }
    if (s->pinged_at && o->pong_timeout_ms)
        wait = ht_min64(wait, s->pinged_at + o->pong_timeout_ms - now);
    io_timer_set(&s->life_timer, wait);
}

/* ---- vtunnel's JSON ---- */

static const struct ws_limits vtunnel_limits = {VTUNNEL_LIMIT_MAX_MESSAGE, VTUNNEL_LIMIT_MAX_FRAGMENTS,
                                                VTUNNEL_LIMIT_MAX_MESSAGE};

static void vtunnel_pause(void *ctx, bool pause) {
    struct kit_sock *s = ctx;
    if (!s->dead)
        ws_conn_pause(s->ws, pause);
    io_timer_set(&s->life_timer, 0); /* the deadline has changed: look it up */
}

static void vtunnel_end(void *ctx, uint16_t code, const char *reason) { sock_close(ctx, code, reason); }

static const struct vtunnel_ops vtunnel_calls = {link_output, vtunnel_pause, vtunnel_end};

static void vtunnel_life(struct io_timer *t) {
    struct kit_sock *s = ht_container_of(t, struct kit_sock, life_timer);
    uint64_t now = io_now_ms(s->kit->loop);
    if (s->closing)
        return;
    vtunnel_tick(s->vt, now);
    uint64_t due = vtunnel_deadline(s->vt);
    if (!s->closing && due != UINT64_MAX)
        io_timer_set(&s->life_timer, due > now ? due - now : 1);
}

/* The translator makes a HELLO by itself, so there is a session, or a refusal, when this returns. */
static void vtunnel_begin(struct kit_sock *s) {
    const struct vtunnel_config cfg = {
        .role = VTUNNEL_ROLE_SERVER,
        .blocks = io_loop_blocks(s->kit->loop),
        .peer = s->peer,
        .names = s->kit->connect != NULL,
    };
    ws_conn_set_limits(s->ws, &vtunnel_limits);
    ws_conn_use_text(s->ws);
    s->vt = vtunnel_create(&cfg, s->link, &vtunnel_calls, s, io_now_ms(s->kit->loop));
    if (!s->vt || vtunnel_start(s->vt) < 0) {
        if (!s->closing)
            sock_drop(s);
        return;
    }
    io_timer_init(s->kit->loop, &s->life_timer, vtunnel_life);
    io_timer_set(&s->life_timer, VTUNNEL_LIMIT_DEADLINE);
}

void sock_open(struct kit *k, const struct sock_facts *f, struct io_conn *conn, struct ht_slice early) {
    static const struct ws_limits stranger = {WIRE_LIMIT_MAX_PREAUTH_MESSAGE, WIRE_LIMIT_MAX_FRAGMENTS,
                                              WIRE_LIMIT_MAX_MESSAGE};
    struct kit_sock *s = ht_calloc(1, sizeof *s);
    if (!s) {
        io_conn_close(&conn);
        return;
    }
    s->kit = k;
    s->version = f->version;
    s->user = f->user;
    s->pass = f->pass;
    s->tls = f->tls;
    s->taken = f->taken;
    s->from = f->from;
    io_addr_text(&f->from, s->peer);
    io_timer_init(k->loop, &s->hello_timer, hello_late);
    io_timer_init(k->loop, &s->life_timer, check_life);
    ht_list_push_back(&k->socks, &s->node);
    k->n_socks++;
    crowd_join(crowd_of(k, f->user), &s->stranger, key_of(k, f->user, &f->from));
    s->link = mux_link_create(WIRE_ROLE_KIT, f->version, &sock_link_ops, s);
    if (!s->link) {
        io_conn_close(&conn);
        sock_drop(s);
        return;
    }
    s->ws = ws_conn_create(k->loop, conn, WS_SERVER, &stranger, early, &sock_ws_ops, s);
    if (!s->ws) {
        sock_drop(s);
        return;
    }
    /* KEEP-5: for a PING, and for its answer */
    ws_conn_tune_tunnel(s->ws, 2 * (uint64_t)k->opt->suspect_after_ms, MUX_SHORT_MESSAGE);
    if (f->vtunnel)
        vtunnel_begin(s);
    else
        io_timer_set(&s->hello_timer, k->opt->hello_timeout_ms);
}

void sock_admitted(struct kit_sock *s, struct kit_session *session, unsigned index) {
    const struct ws_limits known = {WIRE_LIMIT_OF(s->version, MAX_MESSAGE), WIRE_LIMIT_OF(s->version, MAX_FRAGMENTS),
                                    WIRE_LIMIT_MAX_MESSAGE};
    no_longer_stranger(s);
    io_timer_stop(&s->hello_timer);
    if (!s->vt)
        ws_conn_set_limits(s->ws, &known);
    s->session = session;
    s->index = index;
    if (session->kept[index])
        ws_conn_set_kept(s->ws, session->kept[index]);
    if (session->user->down.loop && io_conn_set_share(ws_conn_io(s->ws), &session->user->down) < 0)
        ht_warn("kit", "session %s: what its driver sends is not bounded by its user's part: out of memory",
                session->id);
    if (index > 0 && s->kit->opt->ping_interval_ms)
        io_timer_set(&s->life_timer, s->kit->opt->ping_interval_ms);
}
