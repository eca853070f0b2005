/*
 * Stream-resume in the model: counts, acknowledgements, links that are lost and wait. Included by session_model.h.
 */
#ifndef HT_TESTS_MODEL_SESSION_REPLAY_H
#define HT_TESTS_MODEL_SESSION_REPLAY_H

#include "model/session_model.h"

static inline bool sm_replays(const struct sm *m) { return m->cfg.caps & WIRE_CAP_STREAM_RESUME; }
static inline struct sm_index *sm_index_of(struct sm *m, int link) { return &m->index[m->link[link].index]; }

/* Ahead of everything that waits. */
static inline void sm_want_first(struct sm *m, int link, uint8_t type) {
    struct sm_link *l = &m->link[link];
    sm_want(m, link, type, 0, SM_ANY);
    struct sm_want w = l->want[l->n_want - 1];
    memmove(l->want + l->met + 1, l->want + l->met, (l->n_want - 1 - l->met) * sizeof w);
    l->want[l->met] = w;
}

static inline bool sm_greets(uint8_t type) {
    return type == WIRE_HELLO || type == WIRE_HELLO_OK || type == WIRE_JOIN || type == WIRE_JOIN_OK;
}

/* ---- links that wait ---- */

static inline bool sm_may_wait(const struct sm *m) { return sm_replays(m) && m->state == SM_LIVE; }

static inline void sm_lose(struct sm *m, int link) {
    struct sm_index *x = sm_index_of(m, link);
    struct sm_link *l = &m->link[link];
    l->state = SM_LOST;
    l->since = x->since = x->waits_since = 0;
    while (l->met < l->n_want && sm_greets(l->want[l->met].type)) /* which was about that link alone */
        l->met++;
    x->must_ack = false;
}

static inline void sm_away(struct sm *m, uint16_t ws_code, int but) {
    for (int i = 0; i < SM_LINKS; i++) {
        if (m->link[i].state != SM_UP)
            continue;
        if (i != but)
            sm_link_shut(&m->link[i], ws_code);
        sm_lose(m, i);
    }
    m->state = SM_AWAY;
    m->ping_out = m->nonce_known = m->probing = m->active = m->idle_marked = false;
    m->aways_up++;
}

/* Nothing is counted any more of a link's index. */
static inline void sm_forget(struct sm *m, int link) {
    if (!sm_replays(m))
        return;
    *sm_index_of(m, link) = (struct sm_index){0};
    m->given_up++;
}

static inline void sm_end_streams(struct sm *m, int link) { /* PARK-4 */
    for (unsigned i = 0; i < m->n_st; i++)
        if (sm_here(m, &m->st[i]) && m->st[i].on && m->st[i].link == link)
            sm_stream_over(&m->st[i], WIRE_CODE_REFUSED_STREAM, true);
}

static inline void sm_give_up(struct sm *m, int link) {
    sm_end_streams(m, link);
    m->in_flight -= m->link[link].half_left;
    struct sm_stream *hole = m->link[link].half_left > 0 ? sm_find(m, m->link[link].half_id) : NULL;
    if (hole && hole->on) { /* of another link: the rest of its frame is lost */
        sm_want(m, hole->link, WIRE_RESET, hole->id, WIRE_CODE_REFUSED_STREAM);
        sm_stream_over(hole, WIRE_CODE_REFUSED_STREAM, true);
    }
    sm_forget(m, link);
    m->link[link].half_left = m->link[link].n_want = m->link[link].met = m->link[link].n_pongs = 0;
    m->link[link].state = SM_SHUT;
}

/* The peer is back on this link, and has received so many messages. */
static inline void sm_return(struct sm *m, int link, uint64_t messages, uint8_t greeting) {
    struct sm_index *x = sm_index_of(m, link);
    if (sm_kit(m))
        sm_want_first(m, link, greeting);
    m->link[link].state = SM_UP;
    m->link[link].half_left = 0;
    x->acked = messages;
    x->told = x->came;
    x->since = 0;
    x->must_ack = false;
    x->again = true;
}

static inline void sm_resume(struct sm *m, uint64_t messages) {
    m->state = SM_LIVE;
    m->heard = true;
    sm_return(m, 0, messages, WIRE_HELLO_OK);
    for (int i = 0; i < SM_LINKS; i++)
        m->link[i].since = 0;
}

/* ---- counts ---- */

/* A message has come, whole. */
static inline void sm_came(struct sm *m, int link, bool counts) {
    if (sm_replays(m) && counts && m->link[link].state == SM_UP)
        sm_index_of(m, link)->came++;
}

static inline void sm_rx_ack(struct sm *m, int link, uint64_t messages) {
    struct sm_index *x = sm_index_of(m, link);
    if (messages > x->sent)
        sm_violation(m, WIRE_CODE_PROTOCOL_ERROR, WIRE_CLOSE_PROTOCOL_ERROR);
    else if (messages > x->acked) {
        uint64_t took = x->waits_since ? m->now - x->waits_since : 0;
        m->ack_ms = ht_max64(took, m->ack_ms - (m->ack_ms + 7) / 8);
        x->acked = messages;
        x->waits_since = 0;
    }
}

static inline void sm_tx_ack(struct sm *m, int link, uint64_t messages) { /* RESUME-7 */
    struct sm_index *x = sm_index_of(m, link);
    if (!sm_replays(m) || messages != x->came || messages <= x->told)
        sm_fail(m, "link %d: ACK %llu, %llu have come and %llu were told", link, (unsigned long long)messages,
                (unsigned long long)x->came, (unsigned long long)x->told);
    x->told = messages;
    x->since = 0;
    x->must_ack = false;
}

/* A message went out; the real end says whether it counts. */
static inline void sm_sent(struct sm *m, int link, bool greets, unsigned frames, unsigned acks, bool counts) {
    struct sm_index *x = sm_index_of(m, link);
    bool shut = m->link[link].state != SM_UP;
    if (acks > 1 || (greets && sm_replays(m) && frames > 1))
        sm_fail(m, "link %d: %u frames, %u ACKs in one message, or HELLO with others", link, frames, acks);
    if (counts != (sm_replays(m) && !shut && !greets && frames > acks))
        sm_fail(m, "link %d: a message of %u frames counts: %d", link, frames, counts);
    if (counts && x->again)
        sm_fail(m, "link %d: something new before what is sent again", link);
    x->sent += counts;
}

/* ---- time ---- */

static inline uint64_t sm_wait(const struct sm *m) { return m->state == SM_LIVE ? m->cfg.resume_grace_ms : 0; }

static inline void sm_tick_replay(struct sm *m) {
    for (int i = 0; sm_replays(m) && i < SM_LINKS; i++) {
        struct sm_link *l = &m->link[i];
        struct sm_index *x = sm_index_of(m, i);
        if (l->state == SM_UP && x->came > x->told) {
            x->must_ack = x->since && m->now >= x->since + WIRE_LIMIT_ACK_DELAY;
            x->since = x->since ? x->since : m->now;
        }
        if (l->state == SM_UP && x->sent > x->acked && !x->waits_since)
            x->waits_since = m->now;
        if (l->state != SM_LOST)
            continue;
        l->since = l->since ? l->since : m->now;
        if (m->now >= l->since + sm_wait(m))
            sm_give_up(m, i);
    }
}

static inline uint64_t sm_replay_deadline(struct sm *m) {
    uint64_t at = UINT64_MAX;
    for (int i = 0; sm_replays(m) && i < SM_LINKS; i++) {
        const struct sm_link *l = &m->link[i];
        const struct sm_index *x = sm_index_of(m, i);
        if (l->state == SM_UP && x->came > x->told && !x->must_ack)
            at = ht_min64(at, x->since ? x->since + WIRE_LIMIT_ACK_DELAY : m->now);
        if (l->state == SM_UP && x->sent > x->acked && !x->waits_since)
            at = m->now;
        if (l->state == SM_LOST)
            at = ht_min64(at, l->since ? l->since + sm_wait(m) : m->now);
    }
    return at;
}

#endif
