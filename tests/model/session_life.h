/*
 * What the application, the network and time do to a session, and sr_run(). Included by session_events.h.
 */
#ifndef HT_TESTS_MODEL_SESSION_LIFE_H
#define HT_TESTS_MODEL_SESSION_LIFE_H

#include "model/session_events.h"

/* ---- the application ---- */

/* A stream that was used, whatever became of it; -1: there is none. */
static inline int sr_pick(struct sr *r) {
    uint8_t b = sr_u8(r);
    const struct sm *m = &r->m;
    for (unsigned i = 0; i < m->n_st && b < 240; i++) {
        unsigned at = (b + i) % m->n_st;
        if (sm_here(m, &m->st[at]) && m->st[at].on)
            return (int)at;
    }
    return m->n_st ? (int)(b % m->n_st) : -1;
}

static inline void sr_app_open(struct sr *r) {
    struct sm *m = &r->m;
    uint8_t b = sr_u8(r);
    if (!r->s || r->n_a == SM_STREAMS)
        return;
    bool http = b & 1, upgrade = http && (b & 6) == 6;
    struct wire_stream_open open = {
        .kind = http ? WIRE_KIND_HTTP : WIRE_KIND_TCP,
        .bind_id = 1,
        .method = ht_slice_str("GET"),
        .target = ht_slice_str("/"),
        .is_upgrade = upgrade,
    };
    int want = m->state != SM_LIVE ? HT_ECLOSED : sm_handles(m) >= m->cfg.max_streams ? HT_ELIMIT : 0;
    struct sr_stream *a = &r->a[r->n_a];
    *a = (struct sr_stream){.r = r};
    int rc = mux_stream_open(r->s, &open, &sr_stream_ops, a, &a->st);
    if (rc != want)
        sm_fail(m, "opening a stream says %d instead of %d", rc, want);
    if (rc != 0)
        return;
    r->n_a++;
    /* Which link carries it is the session's choice: where there is one, the wire tells at once. */
    bool choice = sm_links_up(m) > 1;
    struct sm_stream *s = sm_new_stream(m, m->next_id, choice ? -1 : 0, http, upgrade);
    if (!choice)
        sm_want(m, 0, WIRE_STREAM_OPEN, s->id, SM_ANY);
    m->next_id += 2;
    sr_give_traits(r, s);
    if (choice)
        sr_pull_all(r);
    if (mux_stream_id(a->st) != s->id)
        sm_fail(m, "stream %u got id %u", s->id, mux_stream_id(a->st));
}

static inline void sr_app_respond(struct sr *r) {
    int i = sr_pick(r);
    uint8_t b = sr_u8(r);
    if (i < 0)
        return;
    struct sm_stream *s = &r->m.st[i];
    if (!r->a[i].st || s->said_eof || s->then_eof)
        return;
    bool final = b >= 48;
    struct wire_response_head head = {.status = !final ? 103 : !s->upgrade ? 200 : b & 1 ? 101 : 403, .final = final};
    int want = !s->on || s->sent_eof ? HT_ECLOSED : !s->http || s->head ? HT_EINVAL : 0;
    int rc = mux_stream_respond(r->a[i].st, &head);
    if (rc != want)
        sm_fail(&r->m, "stream %u: the head says %d instead of %d", s->id, rc, want);
    if (rc != 0)
        return;
    sm_want(&r->m, s->link, WIRE_STREAM_RESPONSE_HEAD, s->id, SM_ANY);
    s->head = final;
    if (final && head.status != 101)
        sm_declined(&r->m, s);
}

static inline void sr_app_write(struct sr *r) {
    int i = sr_pick(r);
    uint8_t b = sr_u8(r);
    uint32_t n = sr_u16(r);
    if (i < 0 || !r->a[i].st)
        return;
    struct sm_stream *s = &r->m.st[i];
    bool early = s->http && !s->head;
    s->dry = (b & 14) == 14;
    if (s->on && !s->sent_eof && !s->said_eof && !s->then_eof && (sm_kit(&r->m) || !early)) {
        /* Before the 101 an upgrade has an end of its request and nothing else. */
        if (!(early && s->upgrade))
            s->pending += b & 64 ? n : n & 511;
        s->then_eof = (b & 3) == 3 && !(early && s->upgrade && s->request_ended);
        s->request_ended = s->request_ended || s->then_eof;
    }
    mux_stream_ready(r->a[i].st);
}

static inline void sr_app_consume(struct sr *r) {
    int i = sr_pick(r);
    uint32_t n = sr_u16(r);
    if (i < 0 || !r->a[i].st)
        return;
    n = n & 1 ? n : r->m.st[i].unconsumed;
    mux_stream_consumed(r->a[i].st, n);
    sm_app_consume(&r->m.st[i], n);
}

static inline void sr_app_reset(struct sr *r) {
    int i = sr_pick(r);
    uint8_t b = sr_u8(r) % 14 + 1;
    if (i < 0 || !r->a[i].st)
        return;
    mux_stream_reset(r->a[i].st, b, "no more");
    sm_app_reset(&r->m, &r->m.st[i], b);
}

static inline void sr_app_release(struct sr *r) {
    int i = sr_pick(r);
    if (i < 0)
        return;
    r->a[i].due = false;
    mux_stream_release(&r->a[i].st);
    sm_app_release(&r->m, &r->m.st[i]);
}

/* A stream-zero frame of our own. */
static inline void sr_app_send(struct sr *r) {
    struct sm *m = &r->m;
    struct wire_bind bind = {.client_bind_ref = 5, .kind = WIRE_KIND_TCP, .mode = WIRE_MODE_PULL};
    struct wire_bind_revoked revoked = {.bind_id = 1, .reason = ht_slice_str("takeover")};
    enum wire_frame_type type = sm_kit(m) ? WIRE_BIND_REVOKED : WIRE_BIND;
    if (!r->s)
        return;
    int rc = mux_session_send(r->s, type, sm_kit(m) ? (const void *)&revoked : &bind);
    int want = sm_alive(m) ? 0 : HT_ECLOSED;
    if (rc != want)
        sm_fail(m, "sending says %d instead of %d", rc, want);
    if (rc == 0)
        sm_want(m, 0, (uint8_t)type, 0, SM_ANY);
}

static inline void sr_app_end(struct sr *r) {
    static const uint64_t graces[] = {0, 50, 5000, 100000};
    uint8_t b = sr_u8(r);
    struct sm *m = &r->m;
    if (!r->s)
        return;
    SR_TRACE(r, "end %u", b);
    if (b < 160) {
        uint64_t grace = graces[b & 3];
        uint16_t ws_code = b & 4 ? WIRE_CLOSE_NORMAL : WIRE_CLOSE_GOING_AWAY;
        mux_session_shutdown(r->s, WIRE_CODE_PROTOCOL_ERROR, "closed by admin", grace, ws_code);
        sm_app_shutdown(m, WIRE_CODE_PROTOCOL_ERROR, grace, ws_code);
    } else if (b < 208 && !sm_kit(m)) {
        mux_session_close(r->s);
        if (sm_alive(m))
            sm_end_locally(m, 0);
    } else if (b >= 208) {
        mux_session_destroy(&r->s);
        sm_destroy(m);
    }
}

/* ---- time and the network ---- */

/* Whether frames wait is for the transport to say: where nothing else is under way, none do. */
static inline void sr_clear_out(struct sr *r) {
    for (int i = 0; i < SM_LINKS && r->m.cfg.suspect_after_ms && sm_streams_on(&r->m) == 0; i++)
        while (r->k[i].left && !r->m.failed[0])
            (void)sr_pull_one(r, i);
}

static inline void sr_time(struct sr *r) {
    static const uint32_t steps[] = {0, 1, 7, 40, 60, 99, 100, 101, 1000, 2999, 3000, 5000, 9999, 10000, 30000, 60000};
    uint8_t b = sr_u8(r);
    uint64_t now = r->m.now + steps[b % HT_ARRAY_LEN(steps)];
    unsigned overs = r->overs + r->aways;
    if (r->s && b >= 224) {
        mux_session_probe(r->s, r->m.now * 1000, 0);
        sm_app_probe(&r->m);
    }
    sr_clear_out(r);
    if (r->s)
        mux_session_tick(r->s, now);
    sm_tick(&r->m, now, r->overs + r->aways != overs);
    if (r->s && sm_alive(&r->m) && mux_session_deadline(r->s) <= now)
        sm_fail(&r->m, "a deadline that tick() does not move");
}

static inline void sr_destroy_link(struct sr *r, int i) {
    mux_link_destroy(&r->k[i].l);
    r->k[i] = (struct sr_link){.r = r, .index = i};
    if (r->m.link[i].state == SM_LOST)
        r->m.link[i].closes = 0;
    else
        r->m.link[i] = (struct sm_link){.state = SM_ABSENT};
}

/* Bytes of the frame under way that have not come. */
static inline uint32_t sr_left(const struct sr_message *g) { return g->begun ? g->f[g->next].len - g->done : 0; }

/* The link of a message that came in part is lost: the peer will send it again. */
static inline void sr_keep_half(struct sr *r, int i) {
    r->half[i] = r->msg;
    r->m.link[i].half_left = sr_left(&r->msg);
    r->m.link[i].half_id = r->msg.begun && r->msg.taker ? r->msg.taker->id : 0;
}

/* The socket of `i` is over. */
static inline void sr_drop(struct sr *r, int i, uint8_t how) {
    if (!r->k[i].l)
        return;
    SR_TRACE(r, "link %d drops, %u", i, how);
    if (how % 4 != 0)
        mux_link_closed(r->k[i].l, how % 4 == 1);
    else
        mux_link_destroy(&r->k[i].l);
    sm_rx_link_gone(&r->m, i, how % 4 == 1);
    bool waits = r->m.link[i].state == SM_LOST;
    if (r->feeding == i && !waits && sm_alive(&r->m))
        r->m.in_flight -= sr_left(&r->msg);
    struct sm_stream *hole = r->feeding == i && r->msg.begun && !waits ? r->msg.taker : NULL;
    if (hole && sm_alive(&r->m) && hole->on) { /* of another link: the rest of its frame is lost */
        sm_want(&r->m, hole->link, WIRE_RESET, hole->id, WIRE_CODE_REFUSED_STREAM);
        sm_stream_over(hole, WIRE_CODE_REFUSED_STREAM, true);
    }
    if (how % 4 != 2)
        sr_destroy_link(r, i);
}

static inline void sr_drop_some(struct sr *r) {
    uint8_t b = sr_u8(r);
    sr_drop(r, b < 128 ? 0 : b % SM_LINKS, b >> 2 & 3);
}

static inline void sr_new_link(struct sr *r, int i) {
    sr_destroy_link(r, i);
    r->m.link[i].state = SM_WAIT;
    r->k[i].l = mux_link_create(r->m.cfg.role, r->m.cfg.version, &sr_link_ops, &r->k[i]);
    if (!r->k[i].l)
        sm_fail(&r->m, "no memory for a link");
}

/* A new socket for a session: its own again when that could be parked, else a fresh one. */
static inline void sr_connect(struct sr *r) {
    struct sm *m = &r->m;
    uint8_t b = sr_u8(r);
    bool resume = m->parkable && b & 1;
    for (int i = 0; i < SM_LINKS; i++)
        sr_destroy_link(r, i);
    sr_new_link(r, 0);
    m->cfg.first_stream_id = resume ? m->next_id : b & 2 ? 2 : 0;
    if (sm_kit(m))
        return;
    struct wire_hello hello = {.version = m->cfg.version};
    if (mux_link_send_hello(r->k[0].l, &hello) != 0)
        sm_fail(m, "HELLO cannot be sent");
    sm_want(m, 0, WIRE_HELLO, 0, SM_ANY);
}

/* The peer's message as it is, to a link that has no session. */
static inline void sr_deliver(struct sr *r, int i) {
    struct sr_link *k = &r->k[i];
    SR_TRACE(r, "link %d: handshake frame 0x%02x", i, r->msg.p[0]);
    ssize_t n = mux_link_message(k->l, r->msg.p, r->msg.n, true);
    mux_link_fed(k->l);
    if ((n < 0) != (r->m.link[i].state == SM_SHUT))
        sm_fail(&r->m, "link %d: a handshake message gives %zd", i, n);
}

static inline void sr_shake(struct sr *r) {
    struct sm *m = &r->m;
    struct sm_link *l = &m->link[0];
    const char *v = m->cfg.version == WIRE_V2 ? "v2" : "v1";
    uint8_t b = sr_u8(r);
    sr_clear(r);
    r->refuse_hello = sm_kit(m) && b >= 224 && b < 236;
    if (b >= 250) {
        sr_drop(r, 0, b);
        return;
    }
    if (b >= 236 && b < 243) /* HELLO-4 */
        sr_put(r, b & 1 ? WIRE_DATA : WIRE_BIND, b & 1 ? 2 : 0, "x", 1);
    else if (b >= 243)
        sr_text(r, sm_kit(m) ? WIRE_HELLO : WIRE_HELLO_OK, 0, "{\"version\":7,\"sessionId\":7}");
    else if (sm_kit(m))
        sr_text(r, WIRE_HELLO, 0, "{\"version\":\"hoody-tunnel.%s\",\"capabilities\":[]}", v);
    else if (b >= 224)
        sr_text(r, WIRE_GOAWAY, 0, "{\"code\":14,\"message\":\"full\",\"lastStreamId\":0,\"retryAfterMs\":0}");
    else
        sr_text(r, WIRE_HELLO_OK, 0, "{\"sessionId\":\"S-1\"}");
    if (b < 224) {
        sm_begin(m);
    } else if (r->refuse_hello) {
        sm_want(m, 0, WIRE_GOAWAY, 0, WIRE_CODE_RESOURCE_EXHAUSTED);
        sm_link_shut(l, WIRE_CLOSE_TRY_AGAIN_LATER);
    } else if (b >= 236) {
        sm_link_shut(l, WIRE_CLOSE_PROTOCOL_ERROR);
    }
    sr_deliver(r, 0);
    if (r->refused)
        sr_drop(r, 0, 0);
    r->refused = false;
}

static inline void sr_rejoin(struct sr *r, int i, uint8_t b);

/* v2: one socket more. */
static inline void sr_join(struct sr *r) {
    struct sm *m = &r->m;
    uint8_t b = sr_u8(r);
    int i = 1 + b % (SM_LINKS - 1);
    unsigned index = b >= 240 ? 15 : 1 + (b >> 2 & 3);
    if (m->cfg.version != WIRE_V2 || (r->k[i].l && m->link[i].state != SM_LOST) || !sm_alive(m))
        return;
    if (m->state == SM_AWAY || m->link[i].state == SM_LOST) {
        if (m->state == SM_LIVE)
            sr_rejoin(r, i, b);
        return;
    }
    for (int j = 0; j < SM_LINKS; j++)
        if (m->link[j].state == SM_LOST && m->link[j].index == index)
            return; /* that one waits in its own place */
    bool taken = m->state != SM_LIVE;
    for (int j = 0; j < SM_LINKS; j++)
        taken = taken || (m->link[j].state == SM_UP && m->link[j].index == index);
    sr_new_link(r, i);
    sr_clear(r);
    struct sm_link *l = &m->link[i];
    if (sm_kit(m)) {
        sr_text(r, WIRE_JOIN, 0, "{\"sessionId\":\"S-1\",\"index\":%u,\"nonce\":\"n\"}", index);
        sm_want(m, i, taken ? WIRE_JOIN_ERR : WIRE_JOIN_OK, 0, SM_ANY);
        if (taken)
            sm_link_shut(l, WIRE_CLOSE_POLICY_VIOLATION);
    } else {
        struct wire_join join = {
            .session_id = ht_slice_str("S-1"), .index = (uint16_t)index, .nonce = ht_slice_str("n")};
        r->k[i].ask_index = index;
        if (mux_link_send_join(r->k[i].l, &join) != 0)
            sm_fail(m, "JOIN cannot be sent");
        sm_want(m, i, WIRE_JOIN, 0, SM_ANY);
        bool no = b >= 224 && b < 240;
        if (no)
            sr_text(r, WIRE_JOIN_ERR, 0, "{\"code\":\"INTERNAL\",\"message\":\"\"}");
        else
            sr_text(r, WIRE_JOIN_OK, 0, "{\"index\":%u}", index);
        taken = taken || no;
    }
    if (!taken)
        sm_link_up(m, i, index);
    sr_deliver(r, i);
    r->refused = false;
    if (taken && !sm_kit(m))
        sr_drop(r, i, 0);
}

/* What may happen between the two halves of a message. */
static inline void sr_between(struct sr *r) {
    switch (sr_u8(r) % 8) {
    case 0:
        sr_app_reset(r);
        break;
    case 1:
        sr_app_release(r);
        break;
    case 2:
        sr_app_consume(r);
        break;
    case 3:
        sr_app_write(r);
        break;
    case 4:
        sr_drop_some(r);
        break;
    case 5:
        sr_app_end(r);
        break;
    default:
        sr_time(r);
    }
}

/* A message of the peer's, whole or in two halves with something between them. */
static inline void sr_message(struct sr *r, int i, uint32_t split) {
    struct sm *m = &r->m;
    struct sr_message *g = &r->msg;
    ssize_t used = 0;
    SR_TRACE(r, "link %d: message of %u frames, %u bytes, split at %u", i, g->n_f, g->n, split);
    for (unsigned k = 0; k < g->n_f; k++)
        SR_TRACE(r, "  0x%02x stream %u, %u bytes, value %u", g->f[k].type, g->f[k].id, g->f[k].len, g->f[k].value);
    bool dead = m->link[i].state != SM_UP;
    if (split > 0) {
        used = mux_link_message(r->k[i].l, g->p, split, false);
        mux_link_fed(r->k[i].l);
        g->seen = (uint32_t)ht_max(split, g->seen);
        sr_model_feed(r, i, g->seen);
        sm_fed(m);
        sr_compare(r);
        if (!dead && (used < 0) != (m->link[i].state != SM_UP))
            sm_fail(m, "half a message gives %zd", used);
        r->feeding = i;
        if (used >= 0)
            sr_between(r);
        r->feeding = -1;
        if (used >= 0 && !dead && m->link[i].state == SM_LOST) {
            sr_keep_half(r, i);
            return;
        }
        if (used < 0 || dead || !r->k[i].l || m->failed[0])
            return;
        dead = m->link[i].state != SM_UP;
    }
    ssize_t rest = mux_link_message(r->k[i].l, g->p + used, g->n - (uint32_t)used, true);
    mux_link_fed(r->k[i].l);
    sr_model_feed(r, i, g->n);
    sr_model_tail(r, i);
    sm_fed(m);
    if (dead ? rest < 0 : (rest < 0) != (m->link[i].state != SM_UP))
        sm_fail(m, "a message gives %zd", rest);
}

static inline void sr_peer(struct sr *r) {
    uint8_t b = sr_u8(r);
    int i = b & 3;
    unsigned frames = b >= 192 ? 1u + (b >> 2 & 7) : 1;
    for (unsigned tries = 0; !r->k[i].l || r->m.link[i].state == SM_WAIT; tries++) {
        if (tries == SM_LINKS)
            return;
        i = (i + 1) % SM_LINKS;
    }
    sr_clear(r);
    while (frames-- > 0 && r->msg.tail_error == 0)
        sr_gen_frame(r);
    if (r->msg.n == 0)
        return;
    /* FRAME-10: what is the session's goes to the primary, nearly always. */
    bool sessions = false;
    for (unsigned f = 0; f < r->msg.n_f; f++)
        sessions = sessions || r->msg.f[f].id == 0;
    if (sessions && r->m.cfg.own_peer && (b & 0x3c) != 0x3c && r->k[0].l && r->m.link[0].state != SM_WAIT)
        i = 0;
    uint32_t split = (b & 0x70) == 0x70 ? 1 + sr_u16(r) % r->msg.n : 0;
    sr_message(r, i, split == r->msg.n ? 0 : split);
}

static inline void sr_flood(struct sr *r) {
    int times = sr_u8(r) < 64 ? 18 : 1;
    while (times-- > 0 && r->m.link[0].state == SM_UP) {
        sr_clear(r);
        sr_gen_flood(r);
        sr_message(r, 0, 0);
    }
}

#include "model/session_return.h"

/* ---- the whole ---- */

static inline void sr_event(struct sr *r) {
    uint8_t b = sr_u8(r);
    if (r->m.state == SM_AWAY && b < 128) {
        sr_return(r);
    } else if (r->m.state != SM_AWAY && (!r->k[0].l || r->m.link[0].state == SM_SHUT)) {
        sr_connect(r);
    } else if (r->m.link[0].state == SM_WAIT) {
        sr_shake(r);
    } else if (b < 116) {
        sr_peer(r);
    } else if (b < 140) {
        sm_kit(&r->m) ? sr_app_open(r) : sr_app_respond(r);
    } else if (b < 180) {
        sr_app_write(r);
    } else if (b < 196) {
        sr_app_consume(r);
    } else if (b < 204) {
        sr_app_reset(r);
    } else if (b < 216) {
        sr_app_release(r);
    } else if (b < 220) {
        sr_app_send(r);
    } else if (b < 236) {
        sr_time(r);
    } else if (b < 243) {
        sr_join(r);
    } else if (b < 247) {
        sr_drop_some(r);
    } else if (b < 249) {
        sr_app_end(r);
    } else if (b < 250) {
        sr_flood(r);
    } else {
        r->stall = 1u + (b & 7);
    }
}

static inline void sr_configure(struct sr *r) {
    static const uint32_t windows[] = {100, 700, 3000, 70000, 300000, 1 << 20};
    static const size_t caps[] = {700, 4300, 20000, WIRE_LIMIT_MAX_MESSAGE};
    uint8_t b = sr_u8(r), c = sr_u8(r), d = sr_u8(r);
    bool kit = b & 1;
    r->salt = sr_u16(r);
    r->cap = caps[d & 3];
    r->destroy_in_over = d & 4;
    r->m.cfg = (struct mux_config){
        .role = kit ? WIRE_ROLE_KIT : WIRE_ROLE_DRIVER,
        .version = b & 2 ? WIRE_V2 : WIRE_V1,
        .stream_window = windows[c % 64 == 0  ? 5
                                 : c % 4 == 0 ? 4 - (c >> 2 & 1)
                                              : c % 3],
        .session_buffer = c & 64 ? WIRE_LIMIT_SESSION_BUFFER : 500,
        .max_streams = 2 + (b >> 4),
        .ping_interval_ms = d & 8 ? 3000 : 0,
        .pong_timeout_ms = d & 16 ? 6000 : 0,
        .idle_timeout_ms = d & 32 ? 10000 : 0,
        .suspect_after_ms = d & 64 ? 1000 : 0,
        .own_peer = b & 4,
        .caps = ((b & 12) == 12 ? WIRE_CAP_AUTO_WINDOW : 0) | (b & 4 && d & 128 ? WIRE_CAP_STREAM_RESUME : 0),
        .resume_grace_ms = 5000,
        .max_window = WIRE_LIMIT_MAX_AUTO_WINDOW,
    };
    r->m.cfg.session_window = r->m.cfg.stream_window * (c & 128 ? 1 : 3);
    r->m.now = 1000000;
    SR_TRACE(r, "%s %s, windows %u %u, buffer %llu, %u streams, own %d, auto %d, cap %zu", kit ? "kit" : "driver",
             b & 2 ? "v2" : "v1", r->m.cfg.stream_window, r->m.cfg.session_window,
             (unsigned long long)r->m.cfg.session_buffer, r->m.cfg.max_streams, r->m.cfg.own_peer, r->m.cfg.caps != 0,
             r->cap);
}

/* Everything goes, in an order that the salt chooses; nothing may be left. */
static inline void sr_finish(struct sr *r, size_t live_before) {
    for (unsigned step = 0; step < 3; step++)
        switch ((step + r->salt) % 3) {
        case 0:
            mux_session_destroy(&r->s);
            break;
        case 1:
            for (int i = 0; i < SM_LINKS; i++)
                mux_link_destroy(&r->k[i].l);
            break;
        default:
            for (unsigned i = 0; i < r->n_a; i++)
                mux_stream_release(&r->a[i].st);
        }
    mux_session_destroy(&r->s);
    if (ht_mem_live() != live_before)
        sm_fail(&r->m, "%zu allocations are left", ht_mem_live() - live_before);
}

/* A run up to its first event. */
static inline struct sr *sr_begin(const uint8_t *bytes, size_t n, bool trace) {
    static struct sr room;
    struct sr *r = &room;
    memset(&r->m, 0, sizeof r->m);
    memset(r->k, 0, sizeof r->k);
    memset(r->kept, 0, sizeof r->kept);
    for (int i = 0; i < SM_LINKS; i++)
        r->half[i].n = 0;
    r->n_a = r->stall = r->events = r->overs = r->pongs = r->goaways = r->binds = r->lost = r->others = 0;
    r->aways = r->given_up = 0;
    r->s = NULL;
    r->in = bytes;
    r->in_n = n;
    r->in_at = 0;
    r->feeding = -1;
    r->refused = r->refuse_hello = false;
    r->trace = trace;
    sr_configure(r);
    return r;
}

static inline void sr_step(struct sr *r) {
    SR_TRACE(r, "event %u at byte %zu, state %d, %u handles, credit %u %u", r->events, r->in_at, r->m.state,
             sm_handles(&r->m), r->m.tx_credit, r->m.peer_credit);
    r->events++;
    sr_event(r);
    if (r->stall > 0) { /* the sockets are full but for a message now and then */
        r->stall--;
        if (r->events % 3 == 0)
            sr_pull_one(r, (int)(r->events / 3 % SM_LINKS));
    } else {
        sr_pull_all(r);
    }
    sr_compare(r);
}

/* NULL: all went as it must; else what did not. The text is good until the next run. */
static inline const char *sr_run(const uint8_t *bytes, size_t n, bool trace) {
    size_t live_before = ht_mem_live();
    struct sr *r = sr_begin(bytes, n, trace);
    while (r->in_at < r->in_n && !r->m.failed[0])
        sr_step(r);
    sr_finish(r, live_before);
    return r->m.failed[0] ? r->m.failed : NULL;
}

#endif
