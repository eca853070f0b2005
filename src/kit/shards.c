/*
 * The secondary sockets of a v2 session: tickets, JOIN, and how a driver with the capabilities `reissue-tickets` and
 * `shard-map` replaces a lost socket.
 */
#include "kit/kit_priv.h"

#include "base/clock.h"
#include "base/log.h"
#include "log_gen.h"

#include <stdio.h>

/* ---- tickets ---- */

static struct wire_join_ticket issue(struct kit_session *s, unsigned index) {
    struct kit_ticket *t = &s->tickets[index];
    uint8_t raw[KIT_NONCE_LEN / 2];
    ht_random_bytes(raw, sizeof raw);
    for (size_t i = 0; i < sizeof raw; i++)
        snprintf(t->nonce + 2 * i, 3, "%02x", raw[i]);
    t->expires_ms = io_now_ms(s->kit->loop) + WIRE_LIMIT_JOIN_TICKET_LIFE;
    t->usable = true;
    return (struct wire_join_ticket){
        .index = (uint16_t)index,
        .nonce = ht_slice_str(t->nonce),
        .expires_ms = WIRE_LIMIT_JOIN_TICKET_LIFE,
    };
}

/* Rule HELLO-3: one ticket for each socket beside the primary. Tickets of an earlier HELLO_OK are no longer valid. */
size_t shards_begin(struct kit_session *s, struct wire_join_ticket *out) {
    memset(s->tickets, 0, sizeof s->tickets);
    s->shards_changed = false;
    for (unsigned i = 1; i < s->granted; i++)
        out[i - 1] = issue(s, i);
    return s->granted - 1;
}

/* Rule JOIN-2: a ticket is used up by any try, so that it can be guessed at only once. `keep`: not by a wrong guess. */
static bool ticket_good(struct kit_session *s, const struct wire_join *join, bool keep) {
    if (join->index == 0 || join->index >= s->granted)
        return false;
    struct kit_ticket *t = &s->tickets[join->index];
    bool usable = t->usable && io_now_ms(s->kit->loop) < t->expires_ms;
    bool good = ht_const_time_eq(t->nonce, KIT_NONCE_LEN, join->nonce.p, join->nonce.n);
    if (good || !keep)
        t->usable = false;
    return usable && good;
}

static struct kit_sock *sock_of(const struct kit_session *s, unsigned index) {
    HT_LIST_FOR (it, &s->kit->socks) {
        struct kit_sock *sock = HT_LIST_ENTRY(it, struct kit_sock, node);
        if (sock->session == s && sock->index == index)
            return sock;
    }
    return NULL;
}

/* Rule SHARD-2. Issues a ticket for each socket that is asked for, even if it looks alive here: the driver may have
 * noticed its loss earlier. */
void shards_reissue(struct kit_session *s, const struct wire_reissue *ask) {
    struct wire_join_ticket tickets[WIRE_LIMIT_MAX_CONNECTIONS];
    bool given[WIRE_LIMIT_MAX_CONNECTIONS] = {false};
    struct wire_reissue answer = {.join_tickets = tickets};
    if (!s->reissue_tickets || ask->n_indexes == 0) {
        session_shutdown(s, WIRE_CODE_PROTOCOL_ERROR, "a frame of an extension that was not agreed on", 0,
                         WIRE_CLOSE_PROTOCOL_ERROR);
        return;
    }
    for (size_t i = 0; i < ask->n_indexes; i++) {
        unsigned index = ask->indexes[i];
        if (index == 0 || index >= s->granted) {
            session_shutdown(s, WIRE_CODE_PROTOCOL_ERROR, "tickets for a connection that was not granted", 0,
                             WIRE_CLOSE_PROTOCOL_ERROR);
            return;
        }
        if (!given[index])
            tickets[answer.n_join_tickets++] = issue(s, index);
        given[index] = true;
    }
    session_send_or_end(s, WIRE_REISSUE_JOIN_TICKETS, &answer);
}

/* ---- JOIN ---- */

void join_refuse(struct kit_sock *s, enum wire_join_error code, const char *message) {
    struct wire_join_err frame = {.code = code, .message = ht_slice_str(message)};
    s->kit->metrics.handshake_failures_total[HT_METRIC_HANDSHAKE_FAILURE_BAD_JOIN]++;
    ht_log_stranger(HT_LOG_WARN, "kit", HT_LOG_FIELDS(log_peer(s->peer), log_reason(message)), "JOIN refused");
    mux_link_refuse_join(s->link, &frame);
}

/* Drops the present socket with this index, if there is one: a driver with a good ticket knows that it is lost. */
static void give_way(struct kit_session *s, unsigned index) {
    struct kit_sock *old = sock_of(s, index);
    if (!old)
        return;
    mux_link_closed(old->link, false);
    sock_drop(old);
}

void join_received(struct kit_sock *sock, const struct wire_join *join) {
    struct kit *k = sock->kit;
    struct kit_session *s = session_find(k, join->session_id);
    const struct kit_past *past = past_find(k, join->session_id);
    /* The kit that has the streams knows the ticket, and answers. */
    if (past && (!sock->user || past_is_of(k, past, sock->user)) && past_hand_join(sock, past, join))
        return;
    /* Rule USER-2. Published drivers show no token here, so the ticket alone proves which user it is. For a wrong one
     * the answer is that there is no such session, and the ticket stays valid, so that a stranger cannot use it up. */
    bool stranger = k->has_token && k->opt->users && !sock->user, good = false;
    if (s && ((sock->user && s->user != sock->user) || (stranger && !(good = ticket_good(s, join, true)))))
        s = NULL;
    if (!s || s->state != WIRE_SESSION_LIVE || !wire_frame_in(s->version, WIRE_JOIN)) {
        join_refuse(sock, WIRE_JOIN_ERROR_UNKNOWN_SESSION, "there is no such session");
        return;
    }
    if (!good && !ticket_good(s, join, false)) {
        join_refuse(sock, WIRE_JOIN_ERROR_INVALID_TICKET, "the ticket is not valid");
        return;
    }
    give_way(s, join->index);
    const uint64_t *received = s->reissue_tickets && join->has_received_bytes ? &join->received_bytes : NULL;
    const uint64_t *messages = session_keeps(s) && join->has_received ? &join->received : NULL;
    if (mux_session_join(s->owner.mux, sock->link, join->index, received, messages) < 0) {
        join_refuse(sock, WIRE_JOIN_ERROR_INTERNAL, "the socket could not be added");
        return;
    }
    if (!session_keep(s, join->index)) { /* nothing was sent on it yet */
        mux_link_closed(sock->link, false);
        sock_drop(sock);
        return;
    }
    sock_admitted(sock, s, join->index);
    session_let_settle(s); /* v2: counted from the last JOIN */
    shards_touch(s);
    session_log(s, HT_LOG_INFO, HT_LOG_FIELDS(log_session(s->id), log_peer(sock->peer), log_connection(join->index)),
                "one more connection has joined the session");
}

/* ---- SHARD_MAP ---- */

void shards_touch(struct kit_session *s) {
    s->shards_changed = s->shard_map;
    session_touch(s);
}

/* Rule SHARD-1. All changes of a turn are told in one map. */
void shards_tell(struct kit_session *s) {
    struct wire_shard shards[WIRE_LIMIT_MAX_CONNECTIONS];
    if (!s->shards_changed || !s->owner.mux || s->state != WIRE_SESSION_LIVE)
        return;
    s->shards_changed = false;
    for (unsigned i = 0; i < s->granted; i++)
        shards[i] = (struct wire_shard){.index = (uint16_t)i, .up = sock_of(s, i) != NULL};
    struct wire_shard_map map = {.epoch = ++s->shard_epoch, .shards = shards, .n_shards = s->granted};
    session_send_or_end(s, WIRE_SHARD_MAP, &map);
}
