/*
 * The events, and the comparison after each of them. Included by session_rig.h.
 */
#ifndef HT_TESTS_MODEL_SESSION_EVENTS_H
#define HT_TESTS_MODEL_SESSION_EVENTS_H

#include "model/session_rig.h"

/* ---- the peer's messages ---- */

static inline struct sr_frame *sr_put(struct sr *r, uint8_t type, uint32_t id, const void *payload, size_t len) {
    struct sr_message *g = &r->msg;
    struct sr_frame *f = &g->f[g->n_f++];
    *f = (struct sr_frame){.type = type, .id = id, .at = g->n, .len = (uint32_t)len};
    g->n += (uint32_t)wire_encode_header(g->p + g->n, type, id, (uint32_t)len);
    if (payload)
        memcpy(g->p + g->n, payload, len);
    g->n += (uint32_t)len;
    return f;
}

static inline struct sr_frame *sr_text(struct sr *r, uint8_t type, uint32_t id, const char *fmt, ...) {
    char text[400];
    va_list ap;
    va_start(ap, fmt);
    int n = vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    return sr_put(r, type, id, text, (size_t)n);
}

static inline bool sr_room(const struct sr *r, size_t n) {
    return r->msg.n_f < 60 && r->msg.n + n + WIRE_LIMIT_HEADER < sizeof r->msg.p;
}

/* Mostly an open stream, else a finished one, one of another session, or one that never was. */
static inline uint32_t sr_pick_id(struct sr *r) {
    const struct sm *m = &r->m;
    uint8_t b = sr_u8(r);
    if (b >= 248)
        return (uint32_t[]){1, 3, 0x7FFFFFFEu, UINT32_MAX, 2, m->next_id, m->next_id + 2, 77}[b & 7];
    for (unsigned i = 0; i < m->n_st && b < 224; i++) {
        const struct sm_stream *s = &m->st[(b + i) % m->n_st];
        if (sm_here(m, s) && s->on)
            return s->id;
    }
    return m->n_st ? m->st[b % m->n_st].id : 2;
}

static inline struct sm_stream *sr_find_any(struct sr *r, uint32_t id) { return sm_find(&r->m, id); }

static inline void sr_put_data(struct sr *r, uint32_t id, uint32_t want) {
    const struct sm_stream *s = sr_find_any(r, id);
    uint64_t at = s ? s->rx_total : 0;
    uint32_t len = want;
    for (unsigned i = 0; i < r->msg.n_f; i++) { /* behind what this message holds for it already */
        if (r->msg.f[i].id == id && r->msg.f[i].type == WIRE_DATA)
            at += r->msg.f[i].len;
        else if (r->msg.f[i].id == id && r->msg.f[i].type == WIRE_STREAM_OPEN && s)
            return; /* which stream gets them is hard to tell */
        else if (r->msg.f[i].id == id && r->msg.f[i].type == WIRE_STREAM_OPEN)
            at = 0;
    }
    if (!sr_room(r, len))
        return;
    struct sr_frame *f = sr_put(r, WIRE_DATA, id, NULL, len);
    for (uint32_t i = 0; i < len; i++)
        r->msg.p[f->at + WIRE_LIMIT_HEADER + i] = sm_byte(id, at + i);
}

static inline void sr_gen_data(struct sr *r) {
    uint32_t id = sr_pick_id(r);
    const struct sm_stream *s = sr_find_any(r, id);
    uint32_t n = sr_u16(r), room = s ? ht_min(s->peer_credit, r->m.peer_credit) : 100;
    switch (n >> 12 & 15) {
    case 0: /* one byte more than allowed, or nothing */
        n = n & 1 ? 0 : s ? (uint32_t)ht_min(s->peer_credit + 1, SM_PIECE) : 1;
        break;
    case 1:
        n = (n & 7) == 0 ? (uint32_t)ht_min(r->m.peer_credit + 1, SM_PIECE) : 1;
        break;
    case 2: /* all of it */
        n = ht_min(room, 60000u);
        break;
    default:
        n = ht_min(n & 1023, room);
    }
    sr_put_data(r, id, (uint32_t)ht_min(n, 60000u));
}

static inline void sr_gen_window(struct sr *r) {
    const struct sm *m = &r->m;
    uint8_t b = sr_u8(r), p[4];
    uint32_t id = b & 1 ? 0 : sr_pick_id(r);
    const struct sm_stream *s = id ? sr_find_any(r, id) : NULL;
    uint32_t limit = id ? m->cfg.stream_window : m->cfg.session_window;
    uint32_t credit = id ? s ? s->tx_credit : limit : m->tx_credit;
    uint32_t room = credit < limit ? limit - credit : 0, n;
    switch (b >> 1) {
    case 0:
        n = 0;
        break;
    case 1:
        n = room + 1;
        break;
    case 2:
        n = UINT32_MAX;
        break;
    default:
        n = b & 128 ? room : (uint32_t)ht_min(room, sr_u8(r) + 1u);
        if (n == 0)
            return;
    }
    wire_put32(p, n);
    sr_put(r, WIRE_WINDOW, id, p, 4)->value = n;
}

static inline void sr_gen_reset(struct sr *r) {
    uint32_t id = sr_pick_id(r);
    uint8_t b = sr_u8(r), p[3] = {0, (uint8_t)(b & 31), 0xFF};
    struct sr_frame *f = sr_put(r, WIRE_RESET, id, p, b == 255 ? 3 : 2); /* a reason that is not UTF-8 */
    f->value = b == 255 ? WIRE_CODE_PROTOCOL_ERROR : p[1];
}

static inline void sr_gen_head(struct sr *r) {
    static const struct {
        uint16_t status;
        bool final, bad;
    } heads[] = {{200, true, false},  {404, true, false},  {200, true, false}, {101, true, false}, {204, true, false},
                 {103, false, false}, {200, false, false}, {103, true, false}, {200, true, true}};
    uint32_t id = sr_pick_id(r);
    uint8_t b = sr_u8(r);
    unsigned i = b % 64 < HT_ARRAY_LEN(heads) ? b % 64u : 0;
    struct sr_frame *f = sr_text(r, WIRE_STREAM_RESPONSE_HEAD, id,
                                 heads[i].bad ? "{\"status\":%u,\"headers\":7,\"final\":%s}"
                                              : "{\"status\":%u,\"headers\":[],\"final\":%s}",
                                 heads[i].status, heads[i].final ? "true" : "false");
    f->status = heads[i].status;
    f->final = heads[i].final;
    f->bad = heads[i].bad;
}

static inline void sr_gen_open(struct sr *r) {
    const struct sm *m = &r->m;
    unsigned opens = 0;
    for (unsigned i = 0; i < r->msg.n_f; i++)
        opens += r->msg.f[i].type == WIRE_STREAM_OPEN;
    if (m->n_st + opens >= SM_STREAMS)
        return;
    uint8_t b = sr_u8(r);
    uint32_t id = b < 224 ? m->next_id + 2 * opens + (b % 16 == 0 ? 4 : 0) : sr_pick_id(r);
    if (id == 0 || id > 0x7FFFFFFEu)
        id = m->next_id;
    bool http = b & 1, upgrade = http && (b & 6) == 6, bad = b >= 216 && b < 224;
    struct sr_frame *f;
    if (bad)
        f = sr_text(r, WIRE_STREAM_OPEN, id, "{\"kind\":\"%s\",\"bindId\":1}", b & 1 ? "http" : "udp");
    else if (http)
        f = sr_text(r, WIRE_STREAM_OPEN, id,
                    "{\"kind\":\"http\",\"bindId\":1,\"method\":\"GET\",\"target\":\"/\",\"headers\":[],"
                    "\"isUpgrade\":%s}",
                    upgrade ? "true" : "false");
    else
        f = sr_text(r, WIRE_STREAM_OPEN, id, "{\"kind\":\"tcp\",\"bindId\":1,\"containerPort\":5432}");
    f->http = http;
    f->upgrade = upgrade;
    f->bad = bad;
}

/* Mostly of the primary, and mostly true; what it means elsewhere is the model's to say. */
static inline void sr_gen_ack(struct sr *r, uint8_t b) {
    const struct sm_index *x = &r->m.index[0];
    uint8_t p[8];
    uint64_t n = b == 63 ? x->sent + 1 : x->acked + (x->sent > x->acked ? b % (x->sent - x->acked + 1) : 0);
    wire_put64(p, b == 62 ? 0 : n);
    struct sr_frame *f = sr_put(r, WIRE_ACK, 0, p, sizeof p);
    f->value = b == 62 ? 0 : (uint32_t)n;
    f->skip = !sm_replays(&r->m);
}

static inline void sr_gen_ping(struct sr *r, bool pong) {
    uint8_t p[8], b = sr_u8(r);
    if (pong && b < 64) {
        sr_gen_ack(r, b);
        return;
    }
    if (pong && b < 240 && r->m.nonce_known) {
        memcpy(p, r->m.nonce, 8);
    } else {
        memset(p, 0xA5, 8);
        p[0] = (uint8_t)r->events;
        p[1] = (uint8_t)r->msg.n_f;
    }
    sr_put(r, pong ? WIRE_PONG : WIRE_PING, 0, p, 8);
}

static inline void sr_gen_goaway(struct sr *r) {
    sr_text(r, WIRE_GOAWAY, 0, "{\"code\":%u,\"message\":\"bye\",\"lastStreamId\":0,\"retryAfterMs\":0}",
            sr_u8(r) & 15);
}

/* What only a driver sends. */
static inline void sr_gen_bind(struct sr *r) {
    uint8_t b = sr_u8(r);
    if (b < 96) {
        sr_text(r, WIRE_BIND, 0, "{\"clientBindRef\":%u,\"kind\":\"tcp\",\"mode\":\"pull\",\"containerPort\":0}", b)
            ->value = b;
    } else if (b < 128) { /* BIND-5 */
        struct sr_frame *f = sr_text(
            r, WIRE_BIND, 0, "{\"clientBindRef\":%u,\"kind\":\"tcp\",\"mode\":\"pull\",\"containerPort\":70000}", b);
        f->value = b;
        f->bad = true;
    } else {
        sr_text(r, WIRE_UNBIND, 0, "{\"bindId\":%u}", b)->value = b;
    }
}

/* What only a kit sends. */
static inline void sr_gen_answer(struct sr *r) {
    uint8_t b = sr_u8(r);
    switch (b % 5) {
    case 0:
        sr_text(r, WIRE_BIND_OK, 0, "{\"clientBindRef\":1,\"bindId\":1,\"containerPort\":80,\"publicUrl\":null}");
        break;
    case 1:
        sr_text(r, WIRE_BIND_ERR, 0, "{\"clientBindRef\":1,\"code\":\"NEW_ONE\",\"message\":\"\"}");
        break;
    case 2:
        sr_text(r, WIRE_UNBIND_OK, 0, "{\"bindId\":1}");
        break;
    case 3:
        sr_text(r, WIRE_BIND_REVOKED, 0, "{\"bindId\":1,\"reason\":\"takeover\"}");
        break;
    default:
        if (r->m.cfg.version == WIRE_V2)
            sr_text(r, WIRE_SHARD_MAP, 0, "{\"epoch\":1,\"shards\":[{\"index\":0,\"up\":true}]}");
    }
}

/* Frames and messages that break a rule, or must be skipped. */
static inline void sr_gen_wrong(struct sr *r) {
    static const uint8_t junk[8] = "12345678";
    bool kit = sm_kit(&r->m);
    struct sr_frame *f = NULL;
    uint8_t b = sr_u8(r);
    switch (b % 16) {
    case 0: /* FRAME-6, FRAME-7 */
        f = sr_put(r, b & 16 ? 0x3F : 0x9A, 0, junk, 3);
        break;
    case 1: /* FRAME-4 */
        f = sr_put(r, kit ? WIRE_HELLO_OK : WIRE_HELLO, 0, "{}", 2);
        break;
    case 2: /* FRAME-9 */
        f = sr_put(r, kit ? WIRE_HELLO : WIRE_HELLO_OK, 0, "{}", 2);
        break;
    case 3: /* FRAME-8 */
        f = sr_put(r, b & 16 ? WIRE_PING : WIRE_EOF, b & 16 ? 2 : 0, junk, b & 16 ? 8 : 0);
        break;
    case 4: /* FRAME-3 */
        f = sr_put(r, WIRE_EOF, 2, junk, 1);
        f->value = SM_ANY;
        break;
    case 5:
        f = sr_put(r, WIRE_PING, 0, junk, 7);
        f->value = SM_ANY;
        break;
    case 6: /* FRAME-2 */
        f = sr_put(r, WIRE_DATA, 2, junk, 8);
        wire_put32(r->msg.p + f->at + 5, WIRE_LIMIT_MAX_PAYLOAD + 1);
        f->value = SM_ANY;
        break;
    case 7: /* MSG-5 */
        if (r->msg.n_f > 0 || !sr_room(r, 20))
            return;
        sr_put(r, WIRE_PING, 0, junk, 8);
        r->msg.n -= 1u + (b >> 4);
        r->msg.tail_error = WIRE_CODE_PROTOCOL_ERROR;
        r->msg.n_f = 0;
        return;
    case 8: /* JSON-3 */
        f = sr_put(r, WIRE_GOAWAY, 0, "{\"code\":0,\"code\":0}", 19);
        f->bad = true;
        return;
    default: /* FRAME-5 */
        sr_put(r, (uint8_t)(0x44 + (b & 63) % 60), b, junk, b % 9)->skip = true;
        return;
    }
    if (f->value == 0)
        f->value = WIRE_CODE_PROTOCOL_ERROR;
    f->fatal = true;
}

/* STREAM-7: enough of them ends the session. */
static inline void sr_gen_flood(struct sr *r) {
    for (unsigned i = 0; i < 60 && sr_room(r, 0); i++)
        sr_put(r, WIRE_EOF, 0x10001u + 2 * i, NULL, 0);
}

static inline void sr_gen_frame(struct sr *r) {
    bool kit = sm_kit(&r->m);
    uint8_t b = sr_u8(r);
    if (!sr_room(r, 500))
        return;
    if (b < 96)
        sr_gen_data(r);
    else if (b < 120)
        sr_put(r, WIRE_EOF, sr_pick_id(r), NULL, 0);
    else if (b < 132)
        sr_gen_reset(r);
    else if (b < 168)
        sr_gen_window(r);
    else if (b < 208)
        kit ? sr_gen_head(r) : sr_gen_open(r);
    else if (b < 218)
        sr_gen_ping(r, false);
    else if (b < 234)
        sr_gen_ping(r, true);
    else if (b < 246)
        kit ? sr_gen_bind(r) : sr_gen_answer(r);
    else if (b < 254)
        sr_gen_wrong(r);
    else
        sr_gen_goaway(r);
}

/* ---- how the model takes them ---- */

static inline void sr_model_frame(struct sr *r, int link, const struct sr_frame *f) {
    struct sm *m = &r->m;
    const uint8_t *p = r->msg.p + f->at + WIRE_LIMIT_HEADER;
    m->heard = true;
    if (f->type == WIRE_ACK) {
        sm_rx_ack(m, link, f->value);
        return;
    }
    if (f->id == 0 && m->link[link].index != 0 && m->cfg.own_peer) { /* FRAME-10 */
        sm_violation(m, WIRE_CODE_PROTOCOL_ERROR, WIRE_CLOSE_PROTOCOL_ERROR);
        return;
    }
    switch (f->type) {
    case WIRE_STREAM_OPEN: {
        struct sm_stream *s = sm_rx_open(m, link, f->id, f->bad, f->http, f->upgrade, sr_policy(r, f->id));
        if (s)
            sr_give_traits(r, s);
        break;
    }
    case WIRE_EOF:
        sm_rx_eof(m, f->id);
        break;
    case WIRE_RESET:
        sm_rx_reset(m, f->id, (uint16_t)f->value);
        break;
    case WIRE_WINDOW:
        sm_rx_window(m, f->id, f->value);
        break;
    case WIRE_STREAM_RESPONSE_HEAD:
        sm_rx_head(m, f->id, f->bad, f->status, f->final);
        break;
    case WIRE_PING:
        sm_rx_ping(m, 0, p); /* FRAME-10: answered on the primary */
        break;
    case WIRE_PONG:
        sm_rx_pong(m, p);
        break;
    case WIRE_GOAWAY:
        if (f->bad)
            sm_violation(m, WIRE_CODE_PROTOCOL_ERROR, WIRE_CLOSE_PROTOCOL_ERROR);
        else
            sm_rx_goaway(m);
        break;
    case WIRE_BIND:
    case WIRE_UNBIND:
        m->binds_up++;
        sm_want(m, 0, f->type == WIRE_UNBIND ? WIRE_UNBIND_OK : f->bad ? WIRE_BIND_ERR : WIRE_BIND_OK, 0, f->value);
        break;
    default:
        m->others_up++;
    }
}

/* Bytes up to `upto` have come. */
static inline void sr_model_feed(struct sr *r, int link, uint32_t upto) {
    struct sr_message *g = &r->msg;
    struct sm *m = &r->m;
    while (g->next < g->n_f && m->link[link].state == SM_UP) {
        const struct sr_frame *f = &g->f[g->next];
        uint32_t payload = f->at + WIRE_LIMIT_HEADER;
        if (upto < payload)
            return;
        if (f->fatal) {
            sm_violation(m, f->value, WIRE_CLOSE_PROTOCOL_ERROR);
            return;
        }
        if (f->type == WIRE_DATA) {
            if (!g->begun && (f->len == 0 || upto > payload)) {
                m->heard = true;
                g->begun = true;
                g->done = 0;
                g->taker = sm_rx_data(m, f->id, f->len);
            }
            if (!g->begun)
                return;
            uint32_t n = (uint32_t)ht_min(upto - payload, f->len) - g->done;
            g->done += n;
            m->heard = m->heard || n > 0;
            sm_rx_bytes(m, g->taker, n);
            if (g->done < f->len)
                return;
            g->begun = false;
        } else if (upto < payload + f->len) {
            return;
        } else if (!f->skip) {
            sr_model_frame(r, link, f);
        }
        g->next++;
    }
}

static inline void sr_model_tail(struct sr *r, int link) {
    bool counts = false;
    for (unsigned i = 0; i < r->msg.n_f; i++)
        counts = counts || r->msg.f[i].type != WIRE_ACK;
    if (!r->msg.tail_error)
        sm_came(&r->m, link, counts);
    if (r->m.link[link].state == SM_UP && r->msg.tail_error)
        sm_violation(&r->m, r->msg.tail_error, WIRE_CLOSE_PROTOCOL_ERROR);
}

static inline void sr_clear(struct sr *r) {
    r->msg.n = r->msg.n_f = r->msg.next = r->msg.done = r->msg.seen = r->msg.tail_error = 0;
    r->msg.begun = false;
    r->msg.taker = NULL;
}

/* ---- comparing ---- */

static inline void sr_compare_stream(struct sr *r, unsigned i) {
    const struct sr_stream *a = &r->a[i];
    const struct sm_stream *s = &r->m.st[i];
    struct sm *m = &r->m;
    if (a->closes != s->closes || (s->closes && (a->code != s->code || a->remote != s->remote)))
        sm_fail(m, "stream %u: closed %u times, code %u, remote %d instead of %u, %u, %d", s->id, a->closes, a->code,
                a->remote, s->closes, s->code, s->remote);
    if (a->eofs != s->eofs || a->heads != s->heads || a->interims != s->interims || a->rx != s->rx_total)
        sm_fail(m, "stream %u: %u EOFs, %u + %u heads, %llu bytes instead of %u, %u + %u, %llu", s->id, a->eofs,
                a->heads, a->interims, (unsigned long long)a->rx, s->eofs, s->heads, s->interims,
                (unsigned long long)s->rx_total);
    if ((a->st != NULL) != s->handle)
        sm_fail(m, "stream %u: handle %d instead of %d", s->id, a->st != NULL, s->handle);
    if (a->due)
        sm_fail(m, "stream %u: data_end() never came", s->id);
    if (!a->st || m->failed[0])
        return;
    if (mux_stream_id(a->st) != s->id || mux_stream_is_over(a->st) == s->on ||
        (mux_stream_session(a->st) == NULL) != s->dead)
        sm_fail(m, "stream %u: over %d, dead %d", s->id, mux_stream_is_over(a->st), !mux_stream_session(a->st));
    if (s->on && (mux_stream_remote_ended(a->st) != s->got_eof || mux_stream_local_ended(a->st) != s->sent_eof))
        sm_fail(m, "stream %u: ended %d, %d", s->id, mux_stream_remote_ended(a->st), mux_stream_local_ended(a->st));
    if (!s->dead && mux_stream_unconsumed(a->st) != s->unconsumed)
        sm_fail(m, "stream %u: %zu unconsumed instead of %u", s->id, mux_stream_unconsumed(a->st), s->unconsumed);
}

static inline void sr_compare(struct sr *r) {
    struct sm *m = &r->m;
    if (r->n_a != m->n_st)
        sm_fail(m, "%u streams instead of %u", r->n_a, m->n_st);
    for (unsigned i = 0; i < m->n_st && !m->failed[0]; i++)
        sr_compare_stream(r, i);
    for (int i = 0; i < SM_LINKS; i++)
        if (r->k[i].closes != m->link[i].closes || (r->k[i].closes && r->k[i].ws_code != m->link[i].ws_code))
            sm_fail(m, "link %d: closed %d times with %u instead of %d, %u", i, r->k[i].closes, r->k[i].ws_code,
                    m->link[i].closes, m->link[i].ws_code);
    if (r->overs != m->overs || (m->overs && r->why != m->why))
        sm_fail(m, "over %u times, why %d instead of %u, %d", r->overs, r->why, m->overs, m->why);
    if (r->pongs != m->pongs_up || r->goaways != m->goaways_up || r->binds != m->binds_up || r->lost != m->lost_up ||
        r->others != m->others_up || r->aways != m->aways_up || r->given_up != m->given_up)
        sm_fail(m, "calls: %u %u %u %u %u %u %u instead of %u %u %u %u %u %u %u", r->pongs, r->goaways, r->binds,
                r->lost, r->others, r->aways, r->given_up, m->pongs_up, m->goaways_up, m->binds_up, m->lost_up,
                m->others_up, m->aways_up, m->given_up);
    for (int i = 0; i < SM_LINKS && sm_replays(m); i++)
        if (m->link[i].state == SM_UP && !sm_index_of(m, i)->again &&
            r->kept[m->link[i].index].seen != sm_index_of(m, i)->acked)
            sm_fail(m, "link %d: %llu messages acknowledged instead of %llu", i,
                    (unsigned long long)r->kept[m->link[i].index].seen, (unsigned long long)sm_index_of(m, i)->acked);
    if (!r->s || !sm_alive(m) || m->failed[0])
        return;
    if (mux_session_streams(r->s) != sm_handles(m) || mux_session_links(r->s) != sm_links_up(m) ||
        mux_session_next_id(r->s) != m->next_id ||
        mux_session_draining(r->s) != (m->state == SM_DRAINING || m->state == SM_GOING) ||
        mux_session_is_away(r->s) != (m->state == SM_AWAY))
        sm_fail(m, "session: %u streams, %u links, next id %u, draining %d", mux_session_streams(r->s),
                mux_session_links(r->s), mux_session_next_id(r->s), mux_session_draining(r->s));
    if (mux_session_deadline(r->s) > ht_max64(sm_deadline(m), m->now)) /* the past: at once */
        sm_fail(m, "deadline in %lld ms instead of %lld", (long long)(mux_session_deadline(r->s) - m->now),
                (long long)(sm_deadline(m) - m->now));
}

/* One message of link `i`. False: it has nothing. */
static inline bool sr_pull_one(struct sr *r, int i) {
    struct sr_link *k = &r->k[i];
    if (!k->l)
        return false;
    bool expected = false; /* session credit that one link was told of may be used by another */
    for (int j = 0; j < SM_LINKS; j++)
        expected = expected || r->k[j].told || r->k[j].more;
    k->told = false;
    if (k->left && r->m.now > k->pulled_at)
        r->m.moved_at = r->m.now;
    size_t n = mux_link_pull(k->l, r->out, r->cap);
    bool counts = mux_link_counts(k->l);
    if (n > 0 && counts) {
        struct sr_kept *x = sr_kept_of(k);
        x->bytes += n;
        x->size[(sm_index_of(&r->m, i)->sent + 1) % HT_ARRAY_LEN(x->size)] = (uint32_t)n;
    }
    size_t all = 0;
    for (unsigned j = 0; j < HT_ARRAY_LEN(r->kept); j++)
        all += r->kept[j].bytes;
    r->m.full = all >= WIRE_LIMIT_MIN_REPLAY_BUFFER / 2; /* or one link's part is */
    k->more = n > 0;
    k->left = n > 0 || k->told;
    k->pulled_at = r->m.now;
    r->m.left = false;
    for (int j = 0; j < SM_LINKS; j++)
        r->m.left = r->m.left || r->k[j].left;
    if (n == 0)
        return false;
    if (!expected)
        sm_fail(&r->m, "link %d: output was not announced", i);
    sm_tx_message(&r->m, i, r->out, n, r->cap, counts);
    return !r->m.failed[0];
}

static inline void sr_pull_all(struct sr *r) {
    for (bool any = true; any;) {
        any = false;
        for (int i = 0; i < SM_LINKS; i++) {
            const struct sm_index *x = sm_index_of(&r->m, i);
            bool again = x->again;
            while (sr_pull_one(r, i))
                any = true;
            any = any || (again && !x->again); /* after replay() it has nothing for once */
        }
    }
    sm_check_pulled(&r->m);
}

#include "model/session_life.h"

#endif
