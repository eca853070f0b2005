/* A driver's session: what ties a mux session, its socks and its bindings together. */
#include "kit/kit_priv.h"

#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "log_gen.h"

#include <assert.h>
#include <stdio.h>

/* ---- state ---- */

static unsigned *counter(struct kit *k, enum wire_session_state st) {
    switch (st) {
    case WIRE_SESSION_LIVE:
        return &k->n_live;
    case WIRE_SESSION_RESTARTING:
    case WIRE_SESSION_DRAINING:
        return &k->n_closing;
    case WIRE_SESSION_PARKED:
        return &k->n_parked;
    case WIRE_SESSION_AWAITING:
    case WIRE_SESSION_GONE:
        break;
    }
    return NULL;
}

/* Keeps the number of users with live sessions, among whom the relay divides scarce descriptors. */
static void count_user(struct kit_session *s, bool live, bool comes) {
    struct kit *k = s->kit;
    if (!live || !k->table)
        return;
    unsigned before = s->user->n_live;
    s->user->n_live = comes ? before + 1 : before - 1;
    if (before == 0 || s->user->n_live == 0)
        relay_table_set_users(k->table, k->n_users_here += s->user->n_live ? 1 : (unsigned)-1);
}

void session_enter_state(struct kit_session *s, enum wire_session_state to) {
    struct kit *k = s->kit;
    assert(to == s->state || wire_session_may(s->state, to));
    unsigned *from = counter(k, s->state);
    if (from) {
        --*from;
        count_user(s, from != &k->n_parked, false);
    }
    ht_list_remove(&s->node);
    s->state = to;
    unsigned *into = counter(k, to);
    if (into) {
        ++*into;
        count_user(s, into != &k->n_parked, true);
    }
    ht_list_push_back(to == WIRE_SESSION_PARKED ? &k->parked
                      : to == WIRE_SESSION_GONE ? &k->dead_sessions
                                                : &k->live,
                      &s->node);
    if (to == WIRE_SESSION_GONE || k->draining)
        kit_reap_later(k);
    store_touch(k);
}

struct kit_session *session_find(struct kit *k, struct ht_slice id) {
    struct ht_list *lists[] = {&k->live, &k->parked};
    for (size_t i = 0; i < HT_ARRAY_LEN(lists); i++) {
        HT_LIST_FOR (it, lists[i]) {
            struct kit_session *s = HT_LIST_ENTRY(it, struct kit_session, node);
            if (s->state != WIRE_SESSION_DRAINING && ht_const_time_eq(s->id, KIT_ID_LEN, id.p, id.n))
                return s;
        }
    }
    return NULL;
}

struct kit_session *session_find_own(struct kit *k, const struct kit_user *user, struct ht_slice id) {
    struct kit_session *s = session_find(k, id);
    return s && s->user == user ? s : NULL;
}

/* ---- time: one timer follows the deadline of mux, which is asked for once a turn and not once a frame ---- */

static void follow_deadline(struct kit_session *s) {
    uint64_t due = mux_session_deadline(s->owner.mux);
    /* A deadline that has moved further away is noticed when the timer fires. That is cheaper than to set the timer
     * with every message. */
    if (due >= s->timer_at)
        return;
    uint64_t now = io_now_ms(s->kit->loop);
    s->timer_at = due;
    io_timer_set(&s->timer, due > now ? due - now : 0);
}

static void let_time_pass(struct kit_session *s) {
    if (s->owner.mux)
        mux_session_tick(s->owner.mux, io_now_ms(s->kit->loop));
    if (s->owner.mux)
        follow_deadline(s);
}

static void end_of_turn(struct io_task *t) {
    struct kit_session *s = ht_container_of(t, struct kit_session, task);
    if (!s->kit->ticking && s->owner.mux && mux_session_streams(s->owner.mux))
        status_wake(s->kit);
    shards_tell(s);
    handover_look(s);
    let_time_pass(s);
}

void session_touch(struct kit_session *s) {
    if (s->owner.mux)
        io_task_add(s->kit->loop, &s->task);
}

void session_pulled(struct kit_session *s) {
    if (s->owner.mux && mux_session_deadline(s->owner.mux) < s->timer_at)
        session_touch(s);
}

static void timer_fired(struct io_timer *t) {
    struct kit_session *s = ht_container_of(t, struct kit_session, timer);
    s->timer_at = UINT64_MAX;
    if (s->state == WIRE_SESSION_PARKED)
        session_grace_over(s);
    else
        let_time_pass(s);
}

/* ---- life ---- */

struct kit_session *session_new(struct kit *k, struct kit_who who) {
    struct kit_session *s = ht_calloc(1, sizeof *s);
    if (!s)
        return NULL;
    s->kit = k;
    s->user = who.user;
    s->pass = who.pass;
    s->load.since_ms = io_now_ms(k->loop);
    ht_list_init(&s->node);
    char uuid[37];
    ht_uuid4(uuid);
    snprintf(s->id, sizeof s->id, "S-%s", uuid);
    s->next_stream_id = 2; /* rule STREAM-1: even, from 2 */
    s->timer_at = UINT64_MAX;
    ht_list_init(&s->waiting);
    ht_list_init(&s->late);
    relay_owner_init(&s->owner, &session_owner_ops);
    s->owner.id = s->id;
    s->owner.user = who.user;
    s->owner.quota = &who.user->quota;
    s->owner.share = who.user->up.loop ? &who.user->up : NULL;
    io_timer_init(k->loop, &s->timer, timer_fired);
    io_timer_init(k->loop, &s->probe_timer, session_probe_fired);
    io_timer_init(k->loop, &s->handover_timer, handover_late);
    io_task_init(&s->task, end_of_turn);
    return s;
}

void session_go_live(struct kit_session *s, struct mux_session *mux, struct kit_sock *sock) {
    io_timer_stop(&s->timer);
    s->timer_at = UINT64_MAX;
    kept_forget(s);
    relay_owner_back(&s->owner);
    s->owner.mux = mux;
    s->version = sock->version;
    s->vtunnel = sock->vt != NULL;
    memcpy(s->peer, sock->peer, sizeof s->peer);
    if (s->state != WIRE_SESSION_LIVE)
        session_enter_state(s, WIRE_SESSION_LIVE);
    sock_admitted(sock, s, 0);
    mux_session_set_bindings(mux, s->owner.n_bindings);
    session_touch(s);
}

/*
 * Closes the socks, and takes them away from the session: whatever still comes on them must not change it (hardening
 * case 18).
 */
static void let_go_of_socks(struct kit_session *s, uint16_t ws_code, const char *reason) {
    HT_LIST_FOR_SAFE (it, &s->kit->socks) {
        struct kit_sock *sock = HT_LIST_ENTRY(it, struct kit_sock, node);
        if (sock->session != s)
            continue;
        sock->session = NULL;
        sock_close(sock, ws_code, reason);
    }
}

static void drop_mux(struct kit_session *s) {
    session_forget_binds(s);
    s->owner.restarting = false;
    relay_owner_back(&s->owner);
    if (!s->owner.mux)
        return;
    s->next_stream_id = mux_session_next_id(s->owner.mux);
    status_keep(s);
    /* This closes the streams, and visitors still need owner.mux then: to tell which session it was. */
    struct mux_session *mux = s->owner.mux;
    mux_session_destroy(&mux);
    s->owner.mux = NULL;
    session_forget_all_kept(s);
    s->caps = 0;
    io_task_cancel(&s->task);
    io_timer_stop(&s->timer);
    s->timer_at = UINT64_MAX;
}

void session_cut(struct kit_session *s, const char *reason) {
    drop_mux(s);
    let_go_of_socks(s, WIRE_CLOSE_GOING_AWAY, reason);
}

void session_supersede(struct kit_session *s) {
    struct wire_goaway goaway = {
        .code = WIRE_GOAWAY_SUPERSEDED_CODE,
        .message = ht_slice_str(WIRE_GOAWAY_SUPERSEDED_MESSAGE),
    };
    /* What is queued is still sent. Without memory for a GOAWAY the driver learns it from the close frame. */
    if (s->owner.mux && mux_session_send(s->owner.mux, WIRE_GOAWAY, &goaway) < 0)
        ht_log_with(HT_LOG_WARN, "session", HT_LOG_FIELDS(log_session(s->id)), "GOAWAY could not be sent");
    event_goaway(s, ADMIN_SENDER_KIT, WIRE_GOAWAY_SUPERSEDED_CODE, goaway.message);
    drop_mux(s);
    let_go_of_socks(s, WIRE_GOAWAY_SUPERSEDED_CLOSE, WIRE_GOAWAY_SUPERSEDED_MESSAGE);
}

void session_gone(struct kit_session *s, const char *why) {
    if (s->state == WIRE_SESSION_GONE)
        return;
    leave_gone(s);
    elsewhere_end(s, true);
    session_cut(s, why);
    io_timer_stop(&s->timer);
    handover_forget(s, why);
    session_enter_state(s, WIRE_SESSION_GONE);
    event_session(s, ADMIN_EVENT_TYPE_SESSION_ENDED, why);
    session_log(s, HT_LOG_INFO, HT_LOG_FIELDS(log_session(s->id), log_peer(s->peer), log_reason(why)), "session ended");
}

void session_free(struct kit_session *s) {
    drop_mux(s);
    io_timer_stop(&s->timer);
    io_timer_stop(&s->probe_timer);
    io_timer_stop(&s->handover_timer);
    io_task_cancel(&s->task);
    session_set_client(s, ht_slice_of(NULL, 0), ht_slice_of(NULL, 0));
    kept_forget(s);
    relay_owner_drop(s->kit->table, &s->owner);
    ht_list_remove(&s->node);
    ht_free(s);
}

void session_shutdown(struct kit_session *s, uint16_t code, const char *message, uint64_t grace_ms, uint16_t ws_code) {
    io_timer_stop(&s->handover_timer);
    s->owner.restarting = false;
    s->goodbye = message;
    session_enter_state(s, WIRE_SESSION_DRAINING);
    session_touch(s);
    for (struct kit_session *p = s->before; p; p = p->before) {
        session_touch(p);
        mux_session_shutdown(p->owner.mux, code, message, grace_ms, ws_code);
    }
    event_goaway(s, ADMIN_SENDER_KIT, code, ht_slice_str(message));
    /* Last, because over() may be called inside. */
    mux_session_shutdown(s->owner.mux, code, message, grace_ms, ws_code);
}

/* ---- from mux ---- */

void session_send_or_end(struct kit_session *s, enum wire_frame_type type, const void *payload) {
    if (!s->owner.mux || mux_session_send(s->owner.mux, type, payload) == 0)
        return;
    /* The driver would wait for the answer forever, so it is told that something broke. */
    ht_log_with(HT_LOG_ERROR, "session", HT_LOG_FIELDS(log_session(s->id)), "an answer could not be sent");
    session_shutdown(s, WIRE_CODE_INTERNAL_ERROR, "out of memory", 0, WIRE_CLOSE_INTERNAL_ERROR);
}

static void on_bind(void *ctx, const struct wire_bind *bind, const struct wire_error *err) {
    session_bind(ctx, bind, err);
}

static void on_unbind(void *ctx, const struct wire_unbind *unbind) { session_unbind(ctx, unbind); }

static void on_pong(void *ctx, uint64_t rtt_us) {
    struct kit_session *s = ctx;
    s->load.rtt_us = ht_max64(rtt_us, 1);
    session_probe_answered(s);
}

static void on_goaway(void *ctx, const struct wire_goaway *goaway) {
    struct kit_session *s = ctx;
    event_goaway(s, ADMIN_SENDER_DRIVER, goaway->code, goaway->message);
    session_log(s, HT_LOG_INFO,
                HT_LOG_FIELDS(log_session(s->id), log_code(goaway->code), log_reason_slice(goaway->message)),
                "the driver has sent GOAWAY");
}

static void on_reissue(void *ctx, const struct wire_reissue *ask) {
    struct kit_session *s = ctx;
    if (s->state == WIRE_SESSION_LIVE)
        shards_reissue(s, ask);
}

static void on_away(void *ctx, const char *text) { session_away(ctx, text); }

static void on_given_up(void *ctx, unsigned index) { session_forget_kept(ctx, index); }

static void on_link_lost(void *ctx, struct mux_link *link, unsigned index) {
    struct kit_session *s = ctx;
    session_log(s, HT_LOG_INFO, HT_LOG_FIELDS(log_session(s->id), log_connection(index)), "a connection is lost");
    HT_LIST_FOR (it, &s->kit->socks) {
        struct kit_sock *sock = HT_LIST_ENTRY(it, struct kit_sock, node);
        /* The sock keeps the link until its WebSocket has closed. */
        if (sock->link == link) {
            sock->session = NULL;
            break;
        }
    }
    shards_touch(s);
}

/* Reports a GOAWAY that mux has sent by itself. */
static void tell_goaway(const struct kit_session *s, enum mux_end why, const char *text) {
    if (why == MUX_END_TIMEOUT)
        event_goaway(s, ADMIN_SENDER_KIT, WIRE_GOAWAY_PONG_TIMEOUT_CODE, ht_slice_str(text));
    else if (why == MUX_END_IDLE)
        event_goaway(s, ADMIN_SENDER_KIT, WIRE_GOAWAY_IDLE_CODE, ht_slice_str(text));
    else if (why == MUX_END_VIOLATION)
        event_goaway(s, ADMIN_SENDER_KIT, -1, ht_slice_str(text));
}

static void on_over(void *ctx, enum mux_end why, const char *text) {
    struct kit_session *s = ctx;
    tell_goaway(s, why, text);
    bool may_park = why == MUX_END_LOST || why == MUX_END_TIMEOUT;
    if (s->state == WIRE_SESSION_DRAINING && s->before) { /* its predecessor still has streams to finish */
        session_cut(s, text ? text : "closed");
        return;
    }
    bool stands = s->state == WIRE_SESSION_LIVE || s->state == WIRE_SESSION_RESTARTING;
    if (may_park && !s->replaced && stands)
        session_lose(s, text);
    else
        session_gone(s, text ? text : "closed");
}

static void on_used_up(void *ctx) { handover_due(ctx); }

static void on_room(void *ctx) {
    struct kit_session *s = ctx;
    relay_owner_room(s->kit->table, &s->owner);
}

const struct mux_session_ops session_mux_ops = {
    .bind = on_bind,
    .unbind = on_unbind,
    .reissue = on_reissue,
    .goaway = on_goaway,
    .pong = on_pong,
    .link_lost = on_link_lost,
    .away = on_away,
    .given_up = on_given_up,
    .used_up = on_used_up,
    .room = on_room,
    .over = on_over,
};
