/*
 * What a session must do, written a second time and as simply as possible: arrays instead of lists, one flat record per
 * stream, no output queue. It says which control frames must come and in which order, what may come as WINDOW, DATA and
 * EOF, and what must have come once everything was pulled. Rule ids are those of spec/protocol.yaml.
 *
 * Nothing of src/mux/mux_priv.h is used here. The rig (session_rig.h) drives the real thing and this side by side.
 */
#ifndef HT_TESTS_MODEL_SESSION_MODEL_H
#define HT_TESTS_MODEL_SESSION_MODEL_H

#include "mux/mux.h"
#include "wire/bytes.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SM_STREAMS 40 /* of one sequence, all sessions together */
#define SM_LINKS 4
#define SM_IDS 4096
#define SM_WANTS 512
#define SM_PONGS 16 /* of a flood of PINGs, this many are answered; the last one is the latest */
#define SM_FIRST_BURST 921600u
#define SM_DIAL_SETTLE 250u /* ms; section 10 of the protocol */
#define SM_EOF_PATIENCE 10000u
#define SM_STRAYS 1024u
#define SM_INTERIMS 32u
#define SM_PIECE 65536u

enum sm_state { SM_NONE, SM_LIVE, SM_DRAINING, SM_GOING, SM_OVER, SM_AWAY };
/* SM_LOST: its streams wait for another one (stream-resume). */
enum sm_link_state { SM_ABSENT, SM_WAIT, SM_UP, SM_SHUT, SM_LOST };

/* What the application does with the bytes it is given. */
enum sm_act { SM_HOLD, SM_AUTO, SM_AT_ONCE, SM_RESET_IN_DATA, SM_RELEASE_IN_DATA, SM_ACTS };
/* What it does with a new stream (driver). */
enum sm_policy { SM_ACCEPT, SM_REFUSE, SM_IGNORE };

struct sm_stream {
    bool used, http, upgrade, request_due;
    unsigned gen; /* of which session */
    uint32_t id;
    int link;
    bool handle, on, dead; /* dead: its session is gone */
    bool opened;           /* STREAM_OPEN was seen on the wire */
    bool sent_eof, got_eof, head;
    unsigned interims_seen;
    uint32_t tx_credit, peer_credit, unconsumed;
    uint64_t tx_total, rx_total;
    bool window_seen;
    uint64_t window_at;
    bool dialled, maybe_dialled; /* something came back; or time has passed, from when on we do not know exactly */
    /* the application */
    enum sm_act act;
    bool release_in_closed, lazy, dry;
    bool fresh_bytes; /* something came since data_end() */
    uint32_t pending; /* bytes it has for the peer */
    bool then_eof, said_eof, request_ended;
    bool told_no; /* it was told to wait */
    bool eof_held;
    uint64_t eof_until;
    /* upward calls that must have come */
    unsigned closes, eofs, heads, interims;
    uint16_t code;
    bool remote;
};

struct sm_want {
    uint8_t type;
    uint32_t id, value; /* value: RESET and GOAWAY code, clientBindRef, bindId; SM_ANY */
};
#define SM_ANY UINT32_MAX

/* Messages of a link index (RESUME-6). */
struct sm_index {
    uint64_t sent, acked, came, told;
    uint64_t waits_since; /* KEEP-6: when a tick first saw that messages wait for an ACK; 0: none does, or none has */
    uint64_t since;       /* when a tick first saw that the peer was not told of all; 0: none has */
    bool must_ack;
    bool again; /* the owner has not been asked yet to send again what was not received */
};

struct sm_link {
    enum sm_link_state state;
    uint64_t since;     /* SM_LOST: when the first tick saw it; 0: none has */
    uint32_t half_left; /* SM_LOST: bytes of a DATA frame that have not come */
    uint32_t half_id;   /* whose they are; 0: nobody takes them */
    bool hello_sent;    /* driver: our first frame */
    unsigned index;
    uint32_t next_id;
    struct sm_want want[SM_WANTS];
    unsigned n_want, met;
    uint8_t pongs[SM_PONGS][8];
    unsigned n_pongs;
    int closes; /* close() calls that must have come */
    uint16_t ws_code;
};

struct sm {
    struct mux_config cfg;
    enum sm_state state;
    unsigned gen;
    uint64_t now;
    struct sm_link link[SM_LINKS];
    struct sm_index index[WIRE_LIMIT_MAX_CONNECTIONS];
    bool full;               /* the rig's word: the replay buffer is full */
    uint64_t ack_ms, rtt_ms; /* KEEP-6: how long answers take; rtt_ms 0: not known */
    unsigned aways_up, given_up;
    struct sm_stream st[SM_STREAMS];
    unsigned n_st;
    uint32_t next_id;
    uint32_t came[SM_IDS]; /* ids of STREAM_OPENs (driver) */
    unsigned n_came;
    uint32_t tx_credit, peer_credit; /* session credit: what we may send, what the peer may */
    uint64_t in_flight;              /* bytes of DATA frames whose credit is taken and that have not come */
    unsigned bindings, bind_ids;
    uint32_t strays;
    bool heard, ping_out, nonce_known, idle_marked, rtt_known;
    uint8_t nonce[8];
    uint64_t heard_at, ping_at, idle_since, drain_until;
    unsigned pings_unsent;
    /* KEEP-5. `left`: some link may have kept something back for want of room; `moved_at`: when such a one went on. */
    bool active, probing, left;
    uint64_t active_since, moved_at;
    uint16_t drain_ws;
    unsigned overs, pongs_up, goaways_up, binds_up, lost_up, others_up;
    enum mux_end why;
    bool parkable; /* how the last session ended */
    char failed[400];
};

/* The first failure counts. */
static inline void sm_fail(struct sm *m, const char *fmt, ...) {
    va_list ap;
    if (m->failed[0])
        return;
    va_start(ap, fmt);
    (void)vsnprintf(m->failed, sizeof m->failed, fmt, ap);
    va_end(ap);
}

static inline bool sm_alive(const struct sm *m) { return m->state != SM_NONE && m->state != SM_OVER; }
static inline bool sm_kit(const struct sm *m) { return m->cfg.role == WIRE_ROLE_KIT; }

static inline bool sm_here(const struct sm *m, const struct sm_stream *s) {
    return s->used && s->gen == m->gen && !s->dead;
}

static inline struct sm_stream *sm_find(struct sm *m, uint32_t id) {
    for (unsigned i = 0; i < m->n_st; i++)
        if (sm_here(m, &m->st[i]) && m->st[i].on && m->st[i].id == id)
            return &m->st[i];
    return NULL;
}

static inline unsigned sm_handles(const struct sm *m) {
    unsigned n = 0;
    for (unsigned i = 0; i < m->n_st; i++)
        n += sm_here(m, &m->st[i]) && m->st[i].handle;
    return n;
}

/* Streams that the peer knows of, or will. */
static inline unsigned sm_streams_on(const struct sm *m) {
    unsigned n = 0;
    for (unsigned i = 0; i < m->n_st; i++)
        n += sm_here(m, &m->st[i]) && m->st[i].on;
    return n;
}

static inline unsigned sm_links_up(const struct sm *m) {
    unsigned n = 0;
    for (unsigned i = 0; i < SM_LINKS; i++)
        n += m->link[i].state == SM_UP;
    return n;
}

static inline uint64_t sm_held(const struct sm *m) {
    uint64_t n = 0;
    for (unsigned i = 0; i < m->n_st; i++)
        n += sm_here(m, &m->st[i]) && m->st[i].handle ? m->st[i].unconsumed : 0;
    return n;
}

static inline void sm_want(struct sm *m, int link, uint8_t type, uint32_t id, uint32_t value) {
    struct sm_link *l = &m->link[link];
    if (l->n_want == SM_WANTS) {
        memmove(l->want, l->want + l->met, (l->n_want - l->met) * sizeof l->want[0]);
        l->n_want -= l->met;
        l->met = 0;
    }
    if (l->n_want == SM_WANTS)
        sm_fail(m, "the model's own list of frames is full");
    else
        l->want[l->n_want++] = (struct sm_want){type, id, value};
}

static inline void sm_link_shut(struct sm_link *l, uint16_t ws_code) {
    l->state = SM_SHUT;
    l->closes++;
    l->ws_code = ws_code;
}

static inline void sm_link_up(struct sm *m, int link, unsigned index) {
    m->link[link].state = SM_UP;
    m->link[link].index = index;
    m->link[link].next_id = m->cfg.first_stream_id ? m->cfg.first_stream_id : 2;
}

/* The handshake is done on link 0. */
static inline void sm_begin(struct sm *m) {
    m->state = SM_LIVE;
    m->gen++;
    m->n_came = 0;
    m->next_id = m->cfg.first_stream_id ? m->cfg.first_stream_id : 2;
    m->tx_credit = m->peer_credit = m->cfg.session_window;
    m->in_flight = 0;
    m->bindings = m->bind_ids = 0;
    m->strays = 0;
    m->heard = m->ping_out = m->nonce_known = m->idle_marked = m->rtt_known = m->active = m->probing = m->left = false;
    m->pings_unsent = 0;
    m->active_since = m->moved_at = m->ack_ms = m->rtt_ms = 0;
    m->heard_at = m->now;
    memset(m->index, 0, sizeof m->index);
    if (m->cfg.role == WIRE_ROLE_KIT)
        sm_want(m, 0, WIRE_HELLO_OK, 0, SM_ANY);
    sm_link_up(m, 0, 0);
}

/* ---- ends of streams and sessions ---- */

static inline void sm_give_back(struct sm_stream *s) {
    s->handle = false;
    s->unconsumed = 0;
}

static inline void sm_stream_over(struct sm_stream *s, uint16_t code, bool remote) {
    s->on = false;
    s->closes++;
    s->code = code;
    s->remote = remote;
    s->eof_held = false;
    if (s->release_in_closed)
        sm_give_back(s);
}

static inline void sm_end_session(struct sm *m, enum mux_end why, uint16_t stream_code, bool remote, uint16_t ws_code,
                                  int but) {
    for (unsigned i = 0; i < m->n_st; i++) {
        struct sm_stream *s = &m->st[i];
        if (!sm_here(m, s))
            continue;
        if (s->on)
            sm_stream_over(s, stream_code, remote);
        s->dead = true;
        s->unconsumed = 0;
    }
    for (int i = 0; i < SM_LINKS; i++) {
        if (m->link[i].state == SM_LOST) {
            m->link[i].state = SM_SHUT;
            m->link[i].n_want = m->link[i].met = m->link[i].n_pongs = 0;
        }
        if (m->link[i].state != SM_UP)
            continue;
        if (i == but)
            m->link[i].state = SM_SHUT;
        else
            sm_link_shut(&m->link[i], ws_code);
    }
    m->state = SM_OVER;
    m->overs++;
    m->why = why;
    m->parkable = why == MUX_END_LOST || why == MUX_END_TIMEOUT;
    m->in_flight = 0;
}

/* By our own will. With all links lost, the streams end as lost ones do. */
static inline void sm_end_locally(struct sm *m, uint16_t ws_code) {
    bool away = m->state == SM_AWAY;
    sm_end_session(m, MUX_END_LOCAL, away ? WIRE_CODE_REFUSED_STREAM : WIRE_CODE_CANCEL, away, ws_code, -1);
}

/* Without a word on the wire, and nobody is called but the streams. */
static inline void sm_destroy(struct sm *m) {
    if (!sm_alive(m))
        return;
    unsigned overs = m->overs;
    enum mux_end why = m->why;
    for (int i = 0; i < SM_LINKS; i++)
        if (m->link[i].state == SM_UP)
            m->link[i].state = SM_SHUT;
    sm_end_locally(m, 0);
    m->overs = overs;
    m->why = why;
}

static inline void sm_violation(struct sm *m, uint32_t code, uint16_t ws_code) {
    if (!sm_alive(m))
        return;
    sm_want(m, 0, WIRE_GOAWAY, 0, code);
    sm_end_session(m, MUX_END_VIOLATION, WIRE_CODE_CANCEL, false, ws_code, -1);
}

static inline void sm_stream_violation(struct sm *m, struct sm_stream *s, uint16_t code) {
    sm_want(m, s->link, WIRE_RESET, s->id, code);
    sm_stream_over(s, code, false);
}

static inline void sm_check_done(struct sm_stream *s) {
    if (s->on && s->sent_eof && s->got_eof)
        sm_stream_over(s, WIRE_CODE_NO_ERROR, false);
}

/* ---- what the application does ---- */

static inline struct sm_stream *sm_new_stream(struct sm *m, uint32_t id, int link, bool http, bool upgrade) {
    struct sm_stream *s = &m->st[m->n_st++];
    *s = (struct sm_stream){
        .used = true, .gen = m->gen, .id = id, .link = link, .http = http, .upgrade = upgrade, .request_due = upgrade};
    s->handle = s->on = true;
    s->tx_credit = s->peer_credit = m->cfg.stream_window;
    m->idle_marked = false;
    return s;
}

static inline void sm_app_reset(struct sm *m, struct sm_stream *s, uint16_t code) {
    if (!s->on)
        return;
    s->on = s->eof_held = false;
    sm_want(m, s->link, WIRE_RESET, s->id, code);
}

static inline void sm_app_release(struct sm *m, struct sm_stream *s) {
    if (!s->handle)
        return;
    sm_app_reset(m, s, WIRE_CODE_CANCEL);
    sm_give_back(s);
}

static inline void sm_app_consume(struct sm_stream *s, uint32_t n) {
    s->unconsumed -= n < s->unconsumed ? n : s->unconsumed;
}

static inline void sm_app_shutdown(struct sm *m, uint16_t code, uint64_t grace, uint16_t ws_code) {
    if (!sm_alive(m))
        return;
    if (m->state == SM_AWAY) {
        sm_end_locally(m, ws_code);
        return;
    }
    if (m->state == SM_DRAINING) {
        m->drain_until = m->now + grace < m->drain_until ? m->now + grace : m->drain_until;
        return;
    }
    sm_want(m, 0, WIRE_GOAWAY, 0, code);
    m->drain_until = m->now + grace;
    m->drain_ws = ws_code;
    m->state = SM_DRAINING;
}

#include "model/session_replay.h"

/* ---- what the peer does ---- */

/* STREAM-6, STREAM-7. */
static inline void sm_not_open(struct sm *m, uint32_t id) {
    if (id % 2 == 0 && id < m->next_id)
        return;
    if (++m->strays > SM_STRAYS)
        sm_violation(m, WIRE_CODE_ENHANCE_YOUR_CALM, WIRE_CLOSE_PROTOCOL_ERROR);
}

static inline struct sm_stream *sm_rx_open(struct sm *m, int link, uint32_t id, bool bad, bool http, bool upgrade,
                                           enum sm_policy policy) {
    struct sm_link *l = &m->link[link];
    struct sm_stream *s = sm_find(m, id);
    if (s) {
        sm_stream_violation(m, s, WIRE_CODE_PROTOCOL_ERROR);
        return NULL;
    }
    bool again = false;
    for (unsigned i = 0; i < m->n_came; i++)
        again = again || m->came[i] == id;
    if (id % 2 != 0 || id < l->next_id || again) {
        sm_want(m, link, WIRE_RESET, id, WIRE_CODE_PROTOCOL_ERROR);
        return NULL;
    }
    if (m->n_came == SM_IDS)
        sm_fail(m, "the model's own list of ids is full");
    else
        m->came[m->n_came++] = id;
    l->next_id = id + 2;
    if (l->next_id > m->next_id)
        m->next_id = l->next_id;
    if (bad || m->state != SM_LIVE || sm_handles(m) >= m->cfg.max_streams) {
        sm_want(m, link, WIRE_RESET, id, bad ? WIRE_CODE_PROTOCOL_ERROR : WIRE_CODE_REFUSED_STREAM);
        return NULL;
    }
    s = sm_new_stream(m, id, link, http, upgrade);
    s->opened = true;
    if (policy == SM_REFUSE)
        sm_app_release(m, s);
    if (policy == SM_IGNORE)
        sm_app_reset(m, s, WIRE_CODE_REFUSED_STREAM);
    return s;
}

/* An EOF of the kit's that ends an upgrade's request and nothing else. */
static inline bool sm_request_eof(struct sm_stream *s) {
    bool yes = s->upgrade && (!s->head || s->request_due);
    s->request_due = s->request_due && !yes;
    return yes;
}

/* Another final answer than 101: the request's EOF, which has passed or is due, is an end like any other. */
static inline void sm_declined(const struct sm *m, struct sm_stream *s) {
    if (s->upgrade && !s->request_due)
        *(sm_kit(m) ? &s->sent_eof : &s->got_eof) = true;
    s->upgrade = false;
}

/* What the peer may not do now: DATA or EOF. 0: it may. */
static inline uint16_t sm_out_of_order(const struct sm *m, const struct sm_stream *s) {
    if (s->got_eof)
        return WIRE_CODE_STREAM_CLOSED;
    return sm_kit(m) && s->http && !s->head ? WIRE_CODE_PROTOCOL_ERROR : 0;
}

/* FLOW-1, FLOW-4, FLOW-5. NULL: nobody gets these bytes. */
static inline struct sm_stream *sm_rx_data(struct sm *m, uint32_t id, uint32_t len) {
    if (len > m->peer_credit) {
        sm_violation(m, WIRE_CODE_FLOW_CONTROL_ERROR, WIRE_CLOSE_PROTOCOL_ERROR);
        return NULL;
    }
    m->peer_credit -= len;
    m->in_flight += len;
    struct sm_stream *s = sm_find(m, id);
    if (!s) {
        sm_not_open(m, id);
        return NULL;
    }
    uint16_t code = sm_out_of_order(m, s);
    if (code == 0 && len > s->peer_credit)
        code = WIRE_CODE_FLOW_CONTROL_ERROR;
    if (code != 0) {
        sm_stream_violation(m, s, code);
        return NULL;
    }
    s->peer_credit -= len;
    s->request_due = s->request_due && (sm_kit(m) || !s->head);
    return s;
}

/* Something came back on it: the driver's local connection stands. */
static inline void sm_heard(struct sm_stream *s) {
    s->dialled = s->maybe_dialled = true;
    s->eof_held = false;
}

static inline void sm_rx_bytes(struct sm *m, struct sm_stream *s, uint32_t n) {
    if (m->state == SM_OVER)
        return;
    m->in_flight -= n;
    if (!s || !s->on || n == 0)
        return;
    s->rx_total += n;
    s->unconsumed += n;
    s->fresh_bytes = true;
    if (s->act == SM_AT_ONCE)
        sm_app_consume(s, n);
    else if (s->act == SM_RESET_IN_DATA)
        sm_app_reset(m, s, WIRE_CODE_CANCEL);
    else if (s->act == SM_RELEASE_IN_DATA)
        sm_app_release(m, s);
    sm_heard(s);
}

/* data_end() of everybody. */
static inline void sm_fed(struct sm *m) {
    for (unsigned i = 0; i < m->n_st; i++) {
        if (m->st[i].act == SM_AUTO && m->st[i].fresh_bytes)
            m->st[i].unconsumed = 0;
        m->st[i].fresh_bytes = false;
    }
}

static inline void sm_rx_eof(struct sm *m, uint32_t id) {
    struct sm_stream *s = sm_find(m, id);
    if (!s) {
        sm_not_open(m, id);
        return;
    }
    uint16_t code = sm_out_of_order(m, s);
    if (code != 0) {
        sm_stream_violation(m, s, code);
        return;
    }
    if (!sm_kit(m) && sm_request_eof(s))
        return; /* section 4: ignored until the 101, which may overtake it */
    s->got_eof = true;
    s->eofs++;
    sm_check_done(s);
}

static inline void sm_rx_reset(struct sm *m, uint32_t id, uint16_t code) {
    struct sm_stream *s = sm_find(m, id);
    if (s)
        sm_stream_over(s, code == 0 || code > WIRE_CODE_RESOURCE_EXHAUSTED ? WIRE_CODE_CANCEL : code, true);
    else
        sm_not_open(m, id);
}

static inline void sm_rx_head(struct sm *m, uint32_t id, bool bad, uint16_t status, bool final) {
    struct sm_stream *s = sm_find(m, id);
    if (!s) {
        sm_not_open(m, id);
        return;
    }
    bool interim = status < 200 && status != 101;
    if (s->got_eof)
        sm_stream_violation(m, s, WIRE_CODE_STREAM_CLOSED);
    else if (bad || !s->http || s->head || interim == final) /* HTTP-7 */
        sm_stream_violation(m, s, WIRE_CODE_PROTOCOL_ERROR);
    else if (interim && ++s->interims_seen > SM_INTERIMS)
        sm_stream_violation(m, s, WIRE_CODE_ENHANCE_YOUR_CALM);
    else if (interim)
        sm_heard(s), s->interims++;
    else
        sm_heard(s), s->heads++, s->head = true;
    if (s->on && s->head && status != 101)
        sm_declined(m, s);
}

static inline void sm_rx_window(struct sm *m, uint32_t id, uint32_t n) {
    struct sm_stream *s = id ? sm_find(m, id) : NULL;
    if (n == 0) { /* FLOW-3; a payload that is refused is refused for everybody */
        sm_violation(m, WIRE_CODE_PROTOCOL_ERROR, WIRE_CLOSE_PROTOCOL_ERROR);
        return;
    }
    if (id && !s) {
        sm_not_open(m, id);
        return;
    }
    uint32_t *credit = s ? &s->tx_credit : &m->tx_credit;
    uint32_t limit = s ? m->cfg.stream_window : m->cfg.session_window;
    if (m->cfg.caps & WIRE_CAP_AUTO_WINDOW && limit < WIRE_LIMIT_MAX_AUTO_WINDOW)
        limit = WIRE_LIMIT_MAX_AUTO_WINDOW;
    if (n > limit || *credit > limit - n) {
        sm_violation(m, WIRE_CODE_FLOW_CONTROL_ERROR, WIRE_CLOSE_PROTOCOL_ERROR);
        return;
    }
    *credit += n;
    if (s) {
        s->window_seen = true;
        s->window_at = m->now;
        s->eof_until = 0;
    }
}

static inline void sm_rx_ping(struct sm *m, int link, const uint8_t nonce[8]) {
    struct sm_link *l = &m->link[link];
    if (l->n_pongs == SM_PONGS)
        l->n_pongs--;
    memcpy(l->pongs[l->n_pongs++], nonce, 8);
}

static inline void sm_rx_pong(struct sm *m, const uint8_t nonce[8]) {
    if (!m->ping_out || !m->nonce_known || memcmp(nonce, m->nonce, 8) != 0)
        return;
    m->ping_out = m->nonce_known = false;
    m->rtt_known = true;
    m->rtt_ms = m->now - m->ping_at;
    m->pongs_up++;
}

static inline void sm_rx_goaway(struct sm *m) {
    m->goaways_up++;
    if (sm_kit(m)) /* END-1 */
        sm_end_session(m, MUX_END_CLEAN, WIRE_CODE_CANCEL, true, WIRE_CLOSE_NORMAL, -1);
    else if (m->state == SM_LIVE)
        m->state = SM_GOING;
}

static inline void sm_rx_link_gone(struct sm *m, int link, bool clean) {
    struct sm_link *l = &m->link[link];
    enum sm_link_state was = l->state;
    if (was == SM_LOST)
        return;
    if (was == SM_UP && !clean && sm_may_wait(m)) {
        if (l->index == 0) {
            sm_away(m, WIRE_CLOSE_GOING_AWAY, link);
        } else {
            sm_lose(m, link);
            m->lost_up++;
        }
        return;
    }
    l->n_want = l->met = l->n_pongs = 0; /* nobody can be told any more */
    l->state = SM_SHUT;
    if (was != SM_UP)
        return;
    if (l->index == 0) {
        bool goodbye = clean || m->state == SM_GOING;
        sm_end_session(m,
                       m->state == SM_DRAINING ? MUX_END_LOCAL
                       : goodbye               ? MUX_END_CLEAN
                                               : MUX_END_LOST,
                       WIRE_CODE_REFUSED_STREAM, true, WIRE_CLOSE_GOING_AWAY, link);
        return;
    }
    sm_end_streams(m, link);
    sm_forget(m, link);
    m->lost_up++;
}

/* ---- time ---- */

static inline bool sm_idle(const struct sm *m) {
    return m->cfg.idle_timeout_ms && m->state == SM_LIVE && sm_handles(m) == 0 && m->bindings == 0;
}

static inline void sm_time_out(struct sm *m, enum mux_end why, uint16_t ws_code) {
    if (why == MUX_END_TIMEOUT && sm_may_wait(m)) {
        sm_away(m, ws_code, -1);
        return;
    }
    if (sm_kit(m)) /* a driver's would be a goodbye */
        sm_want(m, 0, WIRE_GOAWAY, 0, WIRE_CODE_IDLE_TIMEOUT);
    sm_end_session(m, why, WIRE_CODE_REFUSED_STREAM, false, ws_code, -1);
}

static inline void sm_tick_drain(struct sm *m) {
    if (m->state != SM_DRAINING || (sm_handles(m) > 0 && m->now < m->drain_until))
        return;
    for (unsigned i = 0; i < m->n_st; i++) /* KILL-1 */
        if (sm_here(m, &m->st[i]) && m->st[i].on)
            sm_want(m, m->st[i].link, WIRE_RESET, m->st[i].id, WIRE_CODE_CANCEL);
    sm_end_session(m, MUX_END_LOCAL, WIRE_CODE_CANCEL, false, m->drain_ws, -1);
}

static inline void sm_send_ping(struct sm *m) {
    sm_want(m, 0, WIRE_PING, 0, SM_ANY);
    m->ping_out = true;
    m->nonce_known = false;
    m->ping_at = m->now;
    m->pings_unsent++;
}

/* KEEP-6 */
static inline uint64_t sm_on_this_link(const struct sm *m, uint64_t ms) {
    return ht_max64(m->cfg.suspect_after_ms * ms / WIRE_LIMIT_SUSPECT_AFTER,
                    WIRE_LIMIT_ACK_TRIPS * ht_max64(m->ack_ms, m->rtt_ms));
}

/* UINT64_MAX: nothing waits for an ACK, or no resume could go on with it. */
static inline uint64_t sm_ack_due(const struct sm *m, uint64_t heard_at) {
    uint64_t since = UINT64_MAX;
    for (unsigned i = 0; i < SM_LINKS && m->cfg.suspect_after_ms && sm_may_wait(m); i++) {
        const struct sm_index *x = &m->index[m->link[i].index];
        if (m->link[i].state == SM_UP && x->sent > x->acked)
            since = ht_min64(since, x->waits_since ? x->waits_since : m->now);
    }
    return since == UINT64_MAX ? since : ht_max64(since, heard_at) + sm_on_this_link(m, WIRE_LIMIT_ACK_OVERDUE);
}

static inline uint64_t sm_ack_late(const struct sm *m, uint64_t moved_at) {
    uint64_t due = sm_ack_due(m, m->heard_at), since = ht_max64(ht_max64(due, m->ping_at), moved_at);
    return due == UINT64_MAX ? due : since + sm_on_this_link(m, WIRE_LIMIT_ACK_PATIENCE);
}

static inline uint64_t sm_plus(uint64_t at, uint64_t ms) { return ms ? at + ms : UINT64_MAX; }

static inline uint64_t sm_ping_due(const struct sm *m, uint64_t heard_at) { /* KEEP-1, KEEP-5 */
    uint64_t at = ht_min64(sm_plus(heard_at, m->cfg.ping_interval_ms), sm_ack_due(m, heard_at));
    return m->active ? ht_min64(at, heard_at + m->cfg.suspect_after_ms) : at;
}

/* `moved_at` 0: nothing that waited for room went on. */
static inline uint64_t sm_pong_due(const struct sm *m, uint64_t moved_at) { /* KEEP-2, KEEP-5 */
    uint64_t at = ht_min64(sm_plus(m->ping_at, m->cfg.pong_timeout_ms), sm_ack_late(m, moved_at));
    uint64_t since = ht_max(ht_max(m->ping_at, m->active_since), ht_max(m->heard_at, moved_at));
    return m->active ? ht_min64(at, since + m->cfg.suspect_after_ms) : at;
}

/* Who called is asleep no more; is the peer still there? */
static inline void sm_app_probe(struct sm *m) {
    if (!sm_alive(m) || m->state == SM_AWAY || !m->cfg.suspect_after_ms || m->probing)
        return;
    m->probing = true;
    sm_send_ping(m);
}

/* `gave_up`: the real one did. Only how much went on of what had waited is its own affair, and only there is it
 * believed. */
static inline void sm_tick_ping(struct sm *m, bool gave_up) {
    const struct mux_config *c = &m->cfg;
    bool early = c->caps & WIRE_CAP_AUTO_WINDOW && !m->rtt_known && m->state == SM_LIVE;
    bool active = c->suspect_after_ms && (m->probing || sm_streams_on(m) > 0);
    if (active && !m->active)
        m->active_since = m->now;
    m->active = active;
    if (m->ping_out) {
        if (m->now < sm_pong_due(m, gave_up ? 0 : m->moved_at))
            return;
        if (c->suspect_after_ms)
            m->ack_ms =
                ht_min64(2 * sm_on_this_link(m, WIRE_LIMIT_ACK_PATIENCE) / WIRE_LIMIT_ACK_TRIPS, c->suspect_after_ms);
        sm_time_out(m, MUX_END_TIMEOUT, WIRE_CLOSE_PROTOCOL_ERROR);
    } else if (early || m->now >= sm_ping_due(m, m->heard_at)) {
        sm_send_ping(m);
    }
}

static inline void sm_tick_idle(struct sm *m) { /* KEEP-3 */
    if (!sm_idle(m)) {
        m->idle_marked = false;
    } else if (!m->idle_marked) {
        m->idle_marked = true;
        m->idle_since = m->now;
    } else if (m->now >= m->idle_since + m->cfg.idle_timeout_ms) {
        sm_time_out(m, MUX_END_IDLE, WIRE_CLOSE_NORMAL);
    }
}

static inline void sm_tick(struct sm *m, uint64_t now, bool gave_up) {
    m->now = now;
    if (!sm_alive(m) || m->state == SM_AWAY)
        return;
    if (m->heard) {
        m->heard_at = now;
        m->probing = m->probing && m->ping_out;
    }
    m->heard = false;
    sm_tick_drain(m);
    if (sm_alive(m))
        sm_tick_replay(m);
    if (sm_alive(m))
        sm_tick_drain(m);
    if (sm_alive(m))
        sm_tick_ping(m, gave_up);
    if (sm_alive(m) && m->state != SM_AWAY)
        sm_tick_idle(m);
    for (unsigned i = 0; sm_alive(m) && i < m->n_st; i++) {
        struct sm_stream *s = &m->st[i];
        if (s->window_seen && now >= s->window_at + SM_DIAL_SETTLE)
            s->maybe_dialled = true;
        if (!s->eof_held || !sm_here(m, s))
            continue;
        if (s->eof_until == 0)
            s->eof_until = now + (s->window_seen || s->tx_total == 0 ? SM_DIAL_SETTLE : SM_EOF_PATIENCE);
        else if (now >= s->eof_until)
            s->eof_held = false;
    }
}

/* When tick() must have been called at the latest. */
static inline uint64_t sm_deadline(struct sm *m) {
    uint64_t at = UINT64_MAX;
    if (!sm_alive(m) || m->state == SM_AWAY)
        return at;
    at = sm_replay_deadline(m);
    if (m->state == SM_DRAINING)
        at = sm_handles(m) == 0 ? m->now : m->drain_until;
    at = ht_min64(at, m->ping_out ? sm_pong_due(m, m->moved_at) : sm_ping_due(m, m->heard ? m->now : m->heard_at));
    bool busy = m->probing || sm_streams_on(m) > 0;
    if (m->cfg.suspect_after_ms && (busy ? !m->active : m->active && !m->left))
        at = m->now;
    if (sm_idle(m))
        at = ht_min(at, m->idle_marked ? m->idle_since + m->cfg.idle_timeout_ms : m->now);
    for (unsigned i = 0; i < m->n_st; i++)
        if (sm_here(m, &m->st[i]) && m->st[i].eof_held)
            at = ht_min(at, m->st[i].eof_until ? m->st[i].eof_until : m->now);
    return at;
}

#include "model/session_checks.h"

#endif
