/*
 * The second half of the model: what comes out is held against it. Included by session_model.h.
 */
#ifndef HT_TESTS_MODEL_SESSION_CHECKS_H
#define HT_TESTS_MODEL_SESSION_CHECKS_H

#include "model/session_model.h"

/* Byte `at` of stream `id`, in both directions. */
static inline uint8_t sm_byte(uint32_t id, uint64_t at) { return (uint8_t)(id * 31 + at * 7 + (at >> 8) * 3); }

static inline uint32_t sm_room(const struct sm *m, const struct sm_stream *s, bool dialled) {
    if (!sm_kit(m) || m->cfg.own_peer || dialled)
        return s->tx_credit;
    return (uint32_t)(s->tx_total < SM_FIRST_BURST ? ht_min(s->tx_credit, SM_FIRST_BURST - s->tx_total)
                                                   : 0); /* FLOW-7 */
}

/* What it must be able to send. */
static inline uint32_t sm_stream_room(const struct sm *m, const struct sm_stream *s) {
    return sm_room(m, s, s->dialled);
}
/* What it may send. */
static inline uint32_t sm_stream_most(const struct sm *m, const struct sm_stream *s) {
    return sm_room(m, s, s->maybe_dialled);
}

static inline void sm_tx_window(struct sm *m, int link, uint32_t id, uint32_t n) {
    uint32_t limit = m->cfg.caps & WIRE_CAP_AUTO_WINDOW ? WIRE_LIMIT_MAX_AUTO_WINDOW : m->cfg.stream_window;
    if (n == 0)
        sm_fail(m, "WINDOW(%u, 0)", id);
    if (id == 0) {
        m->peer_credit += n;
        if (m->peer_credit > m->cfg.session_window)
            sm_fail(m, "session credit %u is above the window", m->peer_credit);
        if (sm_held(m) + m->peer_credit + m->in_flight > m->cfg.session_buffer + m->cfg.session_window)
            sm_fail(m, "credit for more than the session's buffer: %llu held, credit %u",
                    (unsigned long long)sm_held(m), m->peer_credit);
        return;
    }
    struct sm_stream *s = sm_find(m, id);
    if (!s || s->got_eof || s->link != link) {
        sm_fail(m, "WINDOW for stream %u, which cannot use it", id);
        return;
    }
    s->peer_credit += n;
    if (s->peer_credit + s->unconsumed > limit)
        sm_fail(m, "stream %u: credit %u beside %u unconsumed bytes", id, s->peer_credit, s->unconsumed);
}

static inline void sm_tx_data(struct sm *m, int link, uint32_t id, const uint8_t *p, uint32_t len) {
    struct sm_stream *s = sm_find(m, id);
    if (!s || !s->opened || s->sent_eof || s->link != link || len == 0) {
        sm_fail(m, "DATA of %u bytes for stream %u, which cannot send it", len, id);
        return;
    }
    if (len > sm_stream_most(m, s) || len > m->tx_credit) /* FLOW-1 */
        sm_fail(m, "stream %u: %u bytes with credit %u and %u", id, len, sm_stream_most(m, s), m->tx_credit);
    if (!sm_kit(m) && s->http && !s->head)
        sm_fail(m, "stream %u: DATA before the head", id);
    for (uint32_t i = 0; i < len; i++)
        if (p[i] != sm_byte(id, s->tx_total + i)) {
            sm_fail(m, "stream %u: byte %llu is wrong", id, (unsigned long long)(s->tx_total + i));
            break;
        }
    s->tx_credit -= len;
    m->tx_credit -= len;
    s->tx_total += len;
    s->request_due = s->request_due && !(sm_kit(m) && s->head);
}

static inline void sm_tx_eof(struct sm *m, int link, uint32_t id) {
    struct sm_stream *s = sm_find(m, id);
    if (!s || !s->opened || s->sent_eof || s->link != link || !s->said_eof || (s->eof_held && !s->maybe_dialled) ||
        s->pending > 0) {
        sm_fail(m, "EOF of stream %u, which has not come to its end", id);
        return;
    }
    s->said_eof = false;
    if (sm_kit(m) && sm_request_eof(s))
        return; /* of the request alone */
    s->sent_eof = true;
    sm_check_done(s);
}

static inline uint32_t sm_number_of(const uint8_t *p, uint32_t len, const char *key) {
    char text[1024];
    uint32_t n = (uint32_t)ht_min(len, sizeof text - 1);
    memcpy(text, p, n);
    text[n] = '\0';
    const char *at = strstr(text, key);
    return at ? (uint32_t)strtoul(at + strlen(key), NULL, 10) : SM_ANY;
}

static inline uint32_t sm_value_of(uint8_t type, const uint8_t *p, uint32_t len) {
    switch (type) {
    case WIRE_RESET:
        return wire_get16(p);
    case WIRE_GOAWAY:
        return sm_number_of(p, len, "\"code\":");
    case WIRE_BIND_OK:
    case WIRE_BIND_ERR:
        return sm_number_of(p, len, "\"clientBindRef\":");
    case WIRE_UNBIND_OK:
    case WIRE_UNBIND_ERR:
        return sm_number_of(p, len, "\"bindId\":");
    default:
        return SM_ANY;
    }
}

/* The frames that keep their order. */
static inline void sm_tx_control(struct sm *m, int link, uint8_t type, uint32_t id, const uint8_t *p, uint32_t len) {
    struct sm_link *l = &m->link[link];
    struct sm_stream *s = type == WIRE_STREAM_OPEN ? sm_find(m, id) : NULL;
    if (s && s->link < 0) {
        s->link = link;
        s->opened = true;
        return;
    }
    if (l->met == l->n_want) {
        sm_fail(m, "link %d: frame 0x%02x for stream %u was not asked for", link, type, id);
        return;
    }
    const struct sm_want *w = &l->want[l->met++];
    uint32_t value = sm_value_of(type, p, len);
    if (w->type != type || w->id != id || (w->value != SM_ANY && w->value != value))
        sm_fail(m, "link %d: frame 0x%02x, stream %u, value %u instead of 0x%02x, %u, %u", link, type, id, value,
                w->type, w->id, w->value);
    if (s)
        s->opened = true;
    if (type == WIRE_PING) {
        memcpy(m->nonce, p, 8);
        m->nonce_known = m->ping_out && m->pings_unsent <= 1; /* the last one counts */
        m->pings_unsent -= m->pings_unsent > 0;
    }
}

static inline void sm_tx_pong(struct sm *m, int link, const uint8_t *p) {
    struct sm_link *l = &m->link[link];
    if (l->n_pongs == 0 || memcmp(l->pongs[0], p, 8) != 0)
        sm_fail(m, "link %d: a PONG that answers nothing", link);
    else
        memmove(l->pongs, l->pongs + 1, --l->n_pongs * sizeof l->pongs[0]);
}

/* One message that the real end sends on `link`. `cap`: what it was given room for. */
static inline void sm_tx_message(struct sm *m, int link, const uint8_t *p, size_t n, size_t cap, bool counts) {
    enum wire_role receiver = sm_kit(m) ? WIRE_ROLE_DRIVER : WIRE_ROLE_KIT;
    unsigned frames = 0, acks = 0;
    bool greets = false;
    if (n > cap || n > WIRE_LIMIT_MAX_MESSAGE)
        sm_fail(m, "a message of %zu bytes, room was %zu", n, cap);
    for (size_t at = 0; at < n && !m->failed[0]; frames++) {
        uint8_t type = p[at];
        uint32_t id = wire_get32(p + at + 1), len = wire_get32(p + at + 5);
        struct wire_error err;
        at += WIRE_LIMIT_HEADER;
        if (at + len > n) {
            sm_fail(m, "a frame crosses its message");
            return;
        }
        bool first = type == WIRE_HELLO || type == WIRE_JOIN || type == WIRE_HELLO_OK || type == WIRE_JOIN_OK ||
                     type == WIRE_JOIN_ERR;
        greets = greets || first;
        if (acks > 0)
            sm_fail(m, "link %d: a frame behind ACK", link);
        if (!first && m->link[link].state != SM_WAIT && type != WIRE_GOAWAY &&
            wire_check_rx(receiver, WIRE_LINK_OPEN, type, id, len, &err) != 0)
            sm_fail(m, "frame 0x%02x, stream %u, %u bytes: %s", type, id, len, err.text);
        if (type == WIRE_DATA)
            sm_tx_data(m, link, id, p + at, len);
        else if (type == WIRE_EOF)
            sm_tx_eof(m, link, id);
        else if (type == WIRE_WINDOW)
            sm_tx_window(m, link, id, wire_get32(p + at));
        else if (type == WIRE_PONG)
            sm_tx_pong(m, link, p + at);
        else if (type == WIRE_ACK)
            acks++, sm_tx_ack(m, link, wire_get64(p + at));
        else
            sm_tx_control(m, link, type, id, p + at, len);
        at += len;
    }
    if (frames > WIRE_LIMIT_MAX_FRAMES)
        sm_fail(m, "%u frames in one message", frames);
    sm_sent(m, link, greets, frames, acks, counts);
}

/* FLOW-2: `owed` bytes were finished with and are not announced, though everything was pulled. */
static inline bool sm_owes_too_much(uint64_t owed, uint32_t window, uint32_t credit) {
    return owed > 0 && (owed >= window / 4 || credit < SM_PIECE);
}

static inline void sm_check_credit(struct sm *m) {
    uint64_t held = sm_held(m), gone = m->cfg.session_window - m->peer_credit - m->in_flight;
    uint64_t owed = held <= m->cfg.session_buffer ? gone : gone - ht_min(gone, held);
    if (sm_owes_too_much(owed, m->cfg.session_window, m->peer_credit)) /* FLOW-5, FLOW-6 */
        sm_fail(m, "session credit: %llu bytes not given back, %llu held, credit %u", (unsigned long long)gone,
                (unsigned long long)held, m->peer_credit);
}

/* After everything was pulled from every link. */
static inline void sm_check_pulled(struct sm *m) {
    for (int i = 0; i < SM_LINKS; i++) {
        const struct sm_link *l = &m->link[i];
        if (l->state == SM_LOST)
            continue;
        if (sm_replays(m) && l->state == SM_UP && (sm_index_of(m, i)->must_ack || sm_index_of(m, i)->again))
            sm_fail(m, "link %d: an ACK, or what is to be sent again, never came", i);
        if (l->met < l->n_want)
            sm_fail(m, "link %d: frame 0x%02x for stream %u never came", i, l->want[l->met].type, l->want[l->met].id);
        if (l->n_pongs > 0)
            sm_fail(m, "link %d: a PONG never came", i);
    }
    if (!sm_alive(m) || m->state == SM_AWAY)
        return;
    sm_check_credit(m);
    for (unsigned i = 0; i < m->n_st && !m->full; i++) {
        const struct sm_stream *s = &m->st[i];
        if (!sm_here(m, s) || !s->on || m->link[s->link].state != SM_UP)
            continue;
        if (s->pending > 0 && sm_stream_room(m, s) > 0 && m->tx_credit > 0)
            sm_fail(m, "stream %u: %u bytes stay behind with credit %u and %u", s->id, s->pending, sm_stream_room(m, s),
                    m->tx_credit);
        if (s->told_no && !s->sent_eof && !s->said_eof && sm_stream_room(m, s) > 0 && m->tx_credit > 0)
            sm_fail(m, "stream %u: told to wait with credit %u and %u", s->id, sm_stream_room(m, s), m->tx_credit);
        /* A source that was told to wait need not be asked whether it has come to its end. */
        if (s->said_eof ? !s->eof_held : s->then_eof && s->pending == 0 && !s->told_no)
            sm_fail(m, "stream %u: EOF stays behind", s->id);
        uint32_t owed = m->cfg.stream_window - s->peer_credit - s->unconsumed;
        if (!(m->cfg.caps & WIRE_CAP_AUTO_WINDOW) && !s->got_eof && m->in_flight == 0 && owed > 0 &&
            (owed >= m->cfg.stream_window / 4 || (s->peer_credit < SM_PIECE && s->unconsumed == 0)))
            sm_fail(m, "stream %u: %u bytes of credit not given back", s->id, owed);
    }
}

#endif
