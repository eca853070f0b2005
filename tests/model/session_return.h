/*
 * Stream-resume: the peer comes back on a link that was lost. Included by session_life.h.
 */
#ifndef HT_TESTS_MODEL_SESSION_RETURN_H
#define HT_TESTS_MODEL_SESSION_RETURN_H

#include "model/session_life.h"

/* A new link in the place of a lost one. */
static inline struct sr_link *sr_relink(struct sr *r, int i) {
    struct sr_link *k = &r->k[i];
    sr_destroy_link(r, i);
    k->l = mux_link_create(r->m.cfg.role, r->m.cfg.version, &sr_link_ops, k);
    if (!k->l)
        sm_fail(&r->m, "no memory for a link");
    return k;
}

/* The peer's word about an index: mostly one that can be true. */
static inline uint64_t sr_claim(struct sr *r, const struct sm_index *x) {
    uint8_t b = sr_u8(r);
    if (b >= 248)
        return x->sent + 1 + (b & 3);
    if (b >= 240 && x->acked > 0)
        return x->acked - 1;
    return x->acked + (x->sent > x->acked ? b % (x->sent - x->acked + 1) : 0);
}

static inline bool sr_is_true(const struct sm_index *x, uint64_t claim) {
    return claim <= x->sent && claim >= x->acked;
}

/* What is still to come of the half holds the bytes that are due now: this peer sends those of a stream on any link. */
static inline void sr_refresh(struct sr *r) {
    struct sr_message *g = &r->msg;
    for (unsigned i = g->next; i < g->n_f; i++) {
        const struct sr_frame *f = &g->f[i];
        const struct sm_stream *s = sr_find_any(r, f->id);
        uint64_t at = s ? s->rx_total : 0;
        if (f->type != WIRE_DATA)
            continue;
        for (unsigned j = g->next; j < i; j++) {
            if (g->f[j].id == f->id && g->f[j].type == WIRE_STREAM_OPEN && !s)
                at = 0;
            else if (g->f[j].id == f->id && g->f[j].type == WIRE_DATA)
                at += j == g->next && g->begun ? g->f[j].len - g->done : g->f[j].len;
        }
        uint32_t from = i == g->next && g->begun ? g->done : 0;
        for (uint32_t k = from; k < f->len; k++)
            g->p[f->at + WIRE_LIMIT_HEADER + k] = sm_byte(f->id, at + k - from);
    }
}

/* What was cut comes again, before anything else, and may be cut again. */
static inline void sr_send_half(struct sr *r, int i) {
    if (r->half[i].n == 0 || r->m.link[i].state != SM_UP)
        return;
    r->msg = r->half[i];
    r->half[i].n = 0;
    sr_refresh(r);
    uint8_t b = sr_u8(r);
    uint32_t split = b < 128 ? 0 : sr_u16(r) % r->msg.n;
    sr_message(r, i, split);
}

/* HELLO with a count, of a session whose links are all lost. */
static inline void sr_return(struct sr *r) {
    struct sm *m = &r->m;
    struct sm_index *x = &m->index[0];
    uint64_t claim = sr_claim(r, x);
    bool good = sr_is_true(x, claim);
    struct sr_link *k = sr_relink(r, 0);
    SR_TRACE(r, "the peer is back, and has had %llu of %llu..%llu", (unsigned long long)claim,
             (unsigned long long)x->acked, (unsigned long long)x->sent);
    sr_clear(r);
    if (sm_kit(m)) {
        sr_text(r, WIRE_HELLO, 0,
                "{\"version\":\"hoody-tunnel.v%d\",\"resume\":{\"sessionId\":\"S-1\",\"received\":%llu}}",
                m->cfg.version == WIRE_V2 ? 2 : 1, (unsigned long long)claim);
    } else {
        struct wire_hello hello = {.version = m->cfg.version};
        if (mux_link_send_hello(k->l, &hello) != 0)
            sm_fail(m, "HELLO cannot be sent");
        if (good)
            sm_want_first(m, 0, WIRE_HELLO);
        sr_text(r, WIRE_HELLO_OK, 0,
                "{\"sessionId\":\"S-1\",\"received\":%llu,\"streamWindow\":%u,\"sessionWindow\":%u,"
                "\"capabilities\":[\"stream-resume\",\"auto-window\"]}",
                (unsigned long long)claim, m->cfg.stream_window, m->cfg.session_window);
    }
    r->rc = 1;
    if (good)
        sm_resume(m, claim);
    (void)!mux_link_message(k->l, r->msg.p, r->msg.n, true);
    mux_link_fed(k->l);
    int want = good ? 0 : claim > x->sent ? HT_EPROTO : HT_EAGAIN;
    if (r->rc != want)
        sm_fail(m, "a resume says %d instead of %d", r->rc, want);
    if (good)
        sr_send_half(r, 0);
    else
        sr_destroy_link(r, 0);
}

/* JOIN of a secondary whose streams wait. */
static inline void sr_rejoin(struct sr *r, int i, uint8_t b) {
    struct sm *m = &r->m;
    struct sm_index *x = sm_index_of(m, i);
    unsigned index = m->link[i].index;
    uint64_t claim = sr_claim(r, x);
    bool says = b < 224, good = says && sr_is_true(x, claim), late = says && claim < x->acked;
    uint32_t next_id = m->link[i].next_id;
    char received[64] = "";
    struct sr_link *k = sr_relink(r, i);
    if (says)
        snprintf(received, sizeof received, ",\"received\":%llu", (unsigned long long)claim);
    SR_TRACE(r, "JOIN of link %d, index %u%s", i, index, received);
    sr_clear(r);
    if (good && sm_kit(m)) {
        sm_return(m, i, claim, WIRE_JOIN_OK);
    } else if (sm_kit(m) && !late) {
        sm_give_up(m, i);
        sm_want(m, i, WIRE_JOIN_OK, 0, SM_ANY);
        sm_link_up(m, i, index);
    }
    if (sm_kit(m)) {
        sr_text(r, WIRE_JOIN, 0, "{\"sessionId\":\"S-1\",\"index\":%u,\"nonce\":\"n\"%s}", index, received);
    } else {
        struct wire_join join = {
            .session_id = ht_slice_str("S-1"), .index = (uint16_t)index, .nonce = ht_slice_str("n")};
        k->ask_index = index;
        if (mux_link_send_join(k->l, &join) != 0)
            sm_fail(m, "JOIN cannot be sent");
        if (good) {
            sm_want_first(m, i, WIRE_JOIN);
            sm_return(m, i, claim, WIRE_JOIN_OK);
        } else if (!says) {
            sm_give_up(m, i);
            sm_want(m, i, WIRE_JOIN, 0, SM_ANY);
            sm_link_up(m, i, index);
        } else { /* RESUME-11 */
            sm_violation(m, WIRE_CODE_PROTOCOL_ERROR, WIRE_CLOSE_PROTOCOL_ERROR);
        }
        sr_text(r, WIRE_JOIN_OK, 0, "{\"index\":%u%s}", index, received);
    }
    if (good)
        m->link[i].next_id = next_id;
    else if (m->link[i].state != SM_LOST)
        r->half[i].n = 0;
    if (m->link[i].state != SM_SHUT)
        m->link[i].closes = 0;
    (void)!mux_link_message(k->l, r->msg.p, r->msg.n, true);
    mux_link_fed(k->l);
    if (good)
        sr_send_half(r, i);
    else if (!sm_alive(m) || m->link[i].state == SM_LOST) /* RESUME-11: it came late, and was refused */
        sr_destroy_link(r, i);
}

#endif
