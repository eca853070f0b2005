/*
 * The old kit of a restart, once the new one serves. It takes no new drivers and accepts at no address of its own.
 * Drivers that know HANDOVER-1 are told to come to the new kit; until one has come, visitors of its ports are served
 * here, over its old link. Connections that stand are served to their end, the ones of visitors up to the end of their
 * next answer. Then the program ends.
 */
#include "kit/handoff.h"
#include "kit/kit_priv.h"

#include "base/log.h"
#include "log_gen.h"
#include "proc/seal.h"
#include "relay/front.h"

#include <stdio.h>
#include <unistd.h>

#define LOOK_MS 250
/* Drivers are told a few at a time, so that the new kit has room for their HELLOs (--max-pre-auth-connections); the
 * others' visitors are served here meanwhile. One that has not moved after MOVES_MS is not waited for, and all are told
 * within TOLD_MS. */
#define TELL_MS 50
#define TELL_AT_ONCE 16u
#define MOVES_MS 250u
#define TOLD_MS 4000u /* less than WIRE_LIMIT_HANDOVER_WAIT */
#define TO_BE_TOLD 1  /* cut_at_ms of a driver that is not told yet; else when it was told */
#define SEND_WAIT_MS 200

static void tell(const struct kit_session *s, enum restart_type what) {
    struct restart_message m = {.type = what, .session = ht_slice_str(s->id)};
    if (s->handed && s->kit->heir >= 0 && handoff_send(s->kit->heir, &m, NULL, 0, SEND_WAIT_MS) < 0)
        ht_log_with(HT_LOG_WARN, "session", HT_LOG_FIELDS(log_session(s->id)), "the new kit could not be told");
}

/* The new kit serves its ports. */
static void let_go(struct kit_session *s) {
    s->moved = true;
    relay_owner_let_go(&s->owner);
}

/* The driver comes back to what is under way here, by way of the new kit. */
static bool is_awaited(const struct kit_session *s) {
    return s->past && !s->kit->draining && s->kit->opt->takeover_grace_ms > 0 && s->owner.mux &&
           mux_session_is_away(s->owner.mux) && mux_session_owes(s->owner.mux);
}

bool leave_lost(struct kit_session *s, const char *why) {
    if (!s->kit->leaving)
        return false;
    if (!s->moved) {
        tell(s, RESTART_YOURS);
        let_go(s);
    }
    if (!is_awaited(s))
        session_gone(s, why ? why : "closed");
    else if (s->state != WIRE_SESSION_PARKED)
        session_park(s, why);
    return true;
}

void leave_gone(struct kit_session *s) {
    if (s->kit->leaving && !s->moved)
        tell(s, RESTART_GONE);
    if (s->kit->leaving && s->past)
        tell(s, RESTART_OVER);
    s->moved = true;
    s->past = false;
}

void leave_over(struct kit *k, struct kit_session *s, struct ht_slice id) {
    struct restart_message m = {.type = RESTART_OVER, .session = id};
    if (s && s->past)
        session_gone(s, "its driver could not go on with what was under way");
    else if (k->heir >= 0 && handoff_send(k->heir, &m, NULL, 0, SEND_WAIT_MS) < 0)
        ht_log_with(HT_LOG_WARN, "session", HT_LOG_FIELDS(log_session_slice(id)), "the new kit could not be told");
}

void leave_mine(struct kit *k, struct ht_slice id) {
    struct kit_session *s = session_find(k, id);
    if (s && !s->moved)
        let_go(s);
}

/* ---- drivers are told ---- */

static void tell_driver(struct kit_session *s) {
    struct wire_goaway goaway = {
        .code = WIRE_GOAWAY_RESTARTING_CODE,
        .message = ht_slice_str(WIRE_GOAWAY_RESTARTING_MESSAGE),
        .last_stream_id = session_last_stream(s->kit),
    };
    s->cut_at_ms = io_now_ms(s->kit->loop);
    if (mux_session_send(s->owner.mux, WIRE_GOAWAY, &goaway) < 0)
        ht_log_with(HT_LOG_WARN, "session", HT_LOG_FIELDS(log_session(s->id)), "GOAWAY could not be sent");
    event_goaway(s, ADMIN_SENDER_KIT, goaway.code, goaway.message);
    session_touch(s);
}

/* They were told, and are on their way to the new kit. */
static size_t under_way(const struct kit *k) {
    uint64_t now = io_now_ms(k->loop);
    size_t n = 0;
    HT_LIST_FOR (it, &k->live) {
        const struct kit_session *s = HT_LIST_ENTRY(it, struct kit_session, node);
        n += !s->moved && s->cut_at_ms > TO_BE_TOLD && now - s->cut_at_ms < MOVES_MS;
    }
    return n;
}

/* Tells some more. True: that were not all. */
static bool tell_more(struct kit *k) {
    size_t most = ht_max(1, ht_min(TELL_AT_ONCE, k->opt->max_pre_auth_connections / 2)), n = under_way(k);
    most = ht_max(most, k->n_live * MOVES_MS / TOLD_MS + 1);
    HT_LIST_FOR_SAFE (it, &k->live) {
        struct kit_session *s = HT_LIST_ENTRY(it, struct kit_session, node);
        if (s->state != WIRE_SESSION_LIVE || s->cut_at_ms != TO_BE_TOLD || !s->owner.mux)
            continue;
        if (n++ >= most)
            return true;
        tell_driver(s);
    }
    return false;
}

/* ---- the end of sessions ---- */

static bool knows_handover(const struct kit_session *s) {
    return !s->vtunnel && s->owner.mux && mux_session_agreed(s->owner.mux, WIRE_CAP_HANDOVER);
}

bool leave_keeps(const struct kit_session *s) {
    bool stands = s->state == WIRE_SESSION_LIVE || s->state == WIRE_SESSION_PARKED;
    return stands && kept_is_written(s) && session_keeps(s) && knows_handover(s);
}

/* Nobody needs its link any more: the driver has another one, or comes back once this one is gone. */
static void close_link(struct kit_session *s) {
    session_enter_state(s, WIRE_SESSION_DRAINING);
    session_touch(s);
    mux_session_shutdown(s->owner.mux, WIRE_GOAWAY_RESTARTING_CODE, NULL, UINT64_MAX, WIRE_GOAWAY_RESTARTING_CLOSE);
}

static void look_at(struct kit_session *s, bool fronts_wait) {
    bool late = !knows_handover(s) && io_now_ms(s->kit->loop) >= s->cut_at_ms;
    bool used = mux_session_owes(s->owner.mux) || relay_owner_visitors(&s->owner) > 0 || fronts_wait;
    if (s->moved && late)
        session_gone(s, "its driver is to come back to the kit that has taken over");
    else if (s->moved && (!used || (!knows_handover(s) && mux_session_streams(s->owner.mux) == 0)))
        close_link(s);
}

void leave_look(struct io_timer *t) {
    struct kit *k = ht_container_of(t, struct kit, leave_timer);
    const struct relay_front *f = relay_table_front(k->table);
    if (io_now_ms(k->loop) >= k->leave_until_ms) {
        ht_warn("kit", "restart: --restart-drain is over: %u sessions and %u visitors of the old program are cut",
                k->n_live + k->n_closing, kit_visitors(k));
        HT_LIST_FOR (it, &k->live) {
            struct kit_session *s = HT_LIST_ENTRY(it, struct kit_session, node);
            if (!s->moved && s->state != WIRE_SESSION_DRAINING) {
                tell(s, RESTART_YOURS);
                let_go(s);
            }
        }
        kit_drain(k, k->left, k->left_ctx);
        return;
    }
    bool fronts_wait = f && relay_front_waiting(f) > 0, more = tell_more(k);
    HT_LIST_FOR_SAFE (it, &k->live) {
        struct kit_session *s = HT_LIST_ENTRY(it, struct kit_session, node);
        if (s->owner.mux && s->state != WIRE_SESSION_DRAINING)
            look_at(s, fronts_wait);
    }
    io_timer_set(t, more ? TELL_MS : LOOK_MS);
    leave_if_over(k);
}

/* ---- the end of all ---- */

void leave_if_over(struct kit *k) {
    const struct relay_front *f = relay_table_front(k->table);
    void (*left)(void *) = k->left;
    if (!left || k->draining || k->n_live + k->n_closing + k->n_parked + k->n_socks + k->n_spliced + k->clients.n > 0 ||
        (f && relay_front_waiting(f) > 0) || kit_visitors(k) > 0 ||
        (k->connect && relay_connect_clients(k->connect) > 0))
        return;
    k->left = NULL;
    io_timer_stop(&k->leave_timer);
    left(k->left_ctx);
}

/* ---- the beginning ---- */

/* Published drivers give up after a GOAWAY, and come back after a lost connection. */
static void begin_session(struct kit_session *s) {
    uint64_t most = ht_min64(s->kit->opt->hold_ms / 2, WIRE_LIMIT_HANDOVER_WAIT);
    session_forget_binds(s);
    if (knows_handover(s)) {
        relay_owner_pause(&s->owner, false); /* until its driver is at the new kit */
        if (s->state == WIRE_SESSION_LIVE)
            s->cut_at_ms = TO_BE_TOLD;
        return;
    }
    s->cut_at_ms = io_now_ms(s->kit->loop) + most;
    tell(s, RESTART_YOURS);
    let_go(s);
}

void leave_resumed(struct kit_session *s) { tell_driver(s); }

static void begin_sessions(struct kit *k) {
    HT_LIST_FOR_SAFE (it, &k->live) {
        struct kit_session *s = HT_LIST_ENTRY(it, struct kit_session, node);
        if (s->state == WIRE_SESSION_LIVE || s->state == WIRE_SESSION_RESTARTING)
            begin_session(s);
    }
    HT_LIST_FOR_SAFE (it, &k->parked) /* the new kit knows them as parked, or learns it now */
        (void)leave_lost(HT_LIST_ENTRY(it, struct kit_session, node), "the kit that has taken over keeps it");
}

/* ---- links that come by way of the new kit ---- */

/* What is known of the WebSocket. False: nobody may go on with it here. */
static bool facts_of(struct kit *k, const struct restart_message *m, struct sock_facts *f) {
    char host[IO_ADDR_TEXT];
    struct kit_pass *pass = m->token.n == KIT_DIGEST ? kit_pass_of_digest(k, (const uint8_t *)m->token.p) : NULL;
    *f = (struct sock_facts){.version = (enum wire_version)m->version, .taken = true, .pass = pass};
    f->user = pass ? pass->user : NULL;
    snprintf(host, sizeof host, "%.*s", HT_SLICE_ARG(m->address));
    if (io_addr_parse(&f->from, host, (uint16_t)m->port) < 0)
        f->from = (struct io_addr){.len = 0};
    return wire_version_text(f->version) && (pass || !m->token.n || !k->has_token) && !k->draining;
}

void leave_take(struct kit *k, struct handoff_got *got) {
    struct ht_buf said = {0};
    struct ht_errmsg err = {"what was read of it is missing"};
    struct sock_facts facts;
    bool good = facts_of(k, &got->m, &facts);
    if (!good)
        ht_fail(&err, 0, "it may not go on here");
    if (!good || got->n_fds != 2 || proc_seal_read(got->fds[1], RESTART_LIMIT_MAX_SAID, &said, &err) < 0) {
        ht_log_with(HT_LOG_WARN, "session", HT_LOG_FIELDS(log_session_slice(got->m.session), log_reason(err.text)),
                    "a connection that the new kit has passed on is of no use");
        leave_over(k, NULL, got->m.session);
    } else if (sock_room(k, facts.user, &facts.from)) { /* else its driver tries again */
        struct io_conn *conn = io_conn_adopt(k->loop, got->fds[0], NULL, NULL);
        got->fds[0] = -1;
        if (conn)
            sock_open(k, &facts, conn, ht_buf_slice(&said));
    }
    ht_buf_free(&said);
}

void leave_begin(struct kit *k, int heir, void (*finished)(void *ctx), void *ctx) {
    uint64_t drain = k->opt->restart_drain_ms;
    store_close(k);
    elders_close(k); /* the new kit has them */
    k->handing = false;
    k->leaving = true;
    k->heir = heir;
    k->left = finished;
    k->left_ctx = ctx;
    k->leave_until_ms = io_now_ms(k->loop) + drain;
    kit_close_listeners(k);
    relay_table_drain(k->table);
    events_flush(&k->events_task); /* they hear of it before they end */
    base_clients_finish(k);
    HT_LIST_FOR_SAFE (it, &k->socks) {
        struct kit_sock *sock = HT_LIST_ENTRY(it, struct kit_sock, node);
        if (!sock->session) /* its driver tries again, and comes to the other kit */
            sock_drop(sock);
    }
    begin_sessions(k);
    io_timer_set(&k->leave_timer, tell_more(k) ? TELL_MS : LOOK_MS);
    kit_reap_later(k);
}
