/*
 * Stream-resume (RESUME-4 to RESUME-11). Messages are counted by the index of their link. The owner keeps those that
 * were sent until the peer acknowledges them. A link that is lost stays in its session as it is, `away`, with streams,
 * lists, queue and the half of a message; another link of its index takes all that over.
 */
#include "mux/mux_priv.h"

#include <stdio.h>

static uint32_t bit_of(const struct mux_link *l) { return 1u << l->index; }

/* Only ACKs of the message have come, or nothing: the peer need not send it again, so nothing of it is remembered. */
static bool is_half(const struct wire_asm *at, unsigned acks) { return at->consumed > 0 && at->frames > acks; }

/* ---- messages that come ---- */

static void resume_half(struct mux_link *l) {
    struct wire_asm *a = &l->assembler;
    const struct wire_asm *at = &l->half.at;
    a->consumed = at->consumed;
    a->frames = at->frames;
    a->left = at->left;
    a->data_len = at->data_len;
    a->data_stream = at->data_stream;
    a->skipping = at->skipping;
    a->data_first = at->data_first;
    l->data_left = l->half.data_left;
    l->discard = l->half.discard;
    l->acks = l->half.acks;
}

/* RESUME-6. */
static void first_is_over(struct mux_link *l) {
    l->past_first = true;
    l->acks = 0;
    if (l->assembler.whole != 1)
        (void)session_violation(l->s, WIRE_CODE_PROTOCOL_ERROR, WIRE_CLOSE_PROTOCOL_ERROR,
                                "more than one frame in the first message of a connection");
    else if (l->skip > 0)
        resume_half(l);
}

ssize_t resume_feed(struct mux_link *l, const uint8_t *p, size_t n, bool end, struct wire_error *err) {
    size_t skipped = 0;
    if (HT_UNLIKELY(l->skip > 0) && l->past_first) { /* RESUME-10 */
        skipped = ht_min(n, l->skip);
        l->skip -= (uint32_t)skipped;
        if (l->skip > 0 && end) {
            snprintf(err->text, sizeof err->text, "a message that is sent again is shorter than what came of it");
            return HT_EPROTO;
        }
        if (l->skip > 0)
            return (ssize_t)skipped;
    }
    l->fed = p + skipped;
    ssize_t used = link_feed(l, p + skipped, n - skipped, end, err);
    return used < 0 ? used : used + (ssize_t)skipped;
}

int resume_stopped(struct mux_link *l, const uint8_t *end_of_frame) {
    if (l->away && l->fed) {
        l->assembler.consumed += (uint32_t)(end_of_frame - l->fed);
        l->fed = NULL;
    }
    return HT_ECLOSED;
}

void resume_came(struct mux_link *l, size_t n, bool end) {
    struct replay *rp = l->rp;
    rp->fresh += (uint32_t)n;
    if (!end)
        return;
    if (!l->past_first) {
        first_is_over(l);
        return;
    }
    bool counts = l->assembler.whole > l->acks;
    l->acks = 0;
    if (!counts)
        return;
    rp->came++;
    l->s->unacked |= bit_of(l);
    if (rp->fresh >= l->s->ack_bytes && !rp->due) { /* RESUME-7 */
        rp->due = true;
        link_wake(l);
    }
}

/* ---- what is kept ---- */

static void count_kept(struct mux_link *l) {
    size_t now = l->ops->kept(l->ctx);
    l->s->kept += now - l->rp->kept;
    l->rp->kept = now;
}

/*
 * RESUME-8. With several links, as much as is kept of one stays free for the others (the dynamic thresholds of switches
 * that share their buffer: Choudhury and Hahne, 1998). So one that is away, and keeps what it has until it comes back,
 * does not stop them. And of each, one message may always be under way.
 */
static bool is_within(const struct mux_session *s, const struct replay *rp, size_t bound) {
    if (s->n_links + s->n_away < 2)
        return s->kept < bound;
    return rp->kept == 0 || rp->kept + s->kept < bound;
}

/* Whoever still has no room says so again. */
static void make_room(struct mux_session *s) {
    if (!s->full)
        return;
    s->full = false;
    for (unsigned i = 0; i < WIRE_LIMIT_MAX_CONNECTIONS; i++)
        if (s->links[i])
            link_wake(s->links[i]);
}

/* KEEP-6. What came slowly of late is forgotten by an eighth with each ACK. */
static void confirmed(struct mux_link *l) {
    struct replay *rp = l->rp;
    struct mux_session *s = l->s;
    uint64_t now = session_measured_us(s) / 1000;
    uint64_t took = rp->waits_since && now > rp->waits_since ? now - rp->waits_since : 0;
    s->ack_ms = ht_max64(took, s->ack_ms - (s->ack_ms + 7) / 8);
    rp->waits_since = 0;
    if (rp->acked == rp->sent)
        s->unconfirmed &= ~bit_of(l);
}

int resume_acked(struct mux_session *s, struct mux_link *l, uint64_t messages) {
    struct replay *rp = l->rp;
    l->acks++;
    if (messages > rp->sent)
        return session_violation(s, WIRE_CODE_PROTOCOL_ERROR, WIRE_CLOSE_PROTOCOL_ERROR,
                                 "more messages acknowledged than were sent");
    if (messages <= rp->acked)
        return 0;
    rp->acked = messages;
    confirmed(l);
    l->ops->acked(l->ctx, messages);
    count_kept(l);
    make_room(s);
    return 0;
}

/* ---- messages that go out ---- */

/* What the peer was told, it was told. */
static void told(struct mux_link *l) {
    struct replay *rp = l->rp;
    rp->told = rp->came;
    rp->since = 0;
    rp->fresh = 0;
    rp->due = false;
    l->s->unacked &= ~bit_of(l);
}

void resume_greet(struct mux_link *l, struct mux_message *m) {
    size_t n = ht_buf_size(&l->greeting);
    l->counted = false;
    if (n > m->cap)
        return;
    memcpy(m->p, ht_buf_head(&l->greeting), n);
    ht_buf_free(&l->greeting);
    m->len = n;
    link_wake(l);
}

static void send_again(struct mux_link *l) {
    l->replays = false;
    l->ops->replay(l->ctx, l->rp->acked);
    count_kept(l);
    make_room(l->s);
    link_wake(l);
}

bool resume_begin(struct mux_link *l, struct mux_message *m) {
    struct mux_session *s = l->s;
    l->counted = false;
    if (l->away) {
        l->woken = true; /* nobody sends what it has, so nobody is told of it */
        return false;
    }
    if (l->replays) {
        send_again(l);
        return false;
    }
    count_kept(l);
    if (!is_within(s, l->rp, s->cfg.replay_buffer)) { /* RESUME-8 */
        s->full = m->no_data = true;
        m->nothing = !is_within(s, l->rp, (size_t)s->cfg.replay_buffer + MUX_KEPT_MORE);
    }
    if (l->rp->told < l->rp->came && m->cap > REPLAY_ACK) {
        m->cap -= REPLAY_ACK;
        m->max_frames--;
        m->acks = true;
    }
    return true;
}

/* ---- links that are away ---- */

static bool may_wait(const struct mux_session *s) {
    return s->replay && session_goes_on(s) && s->ops->away && !s->said_goaway && !s->failed && !s->destroyed;
}

/* Makes no callback. */
static void go_away(struct mux_link *l) {
    struct mux_session *s = l->s;
    link_ref(l); /* the session's, until link_detach() */
    l->away = l->dead = l->woken = true;
    l->left_at = 0;
    l->rp->away_at = ht_max(s->now_ms, 1);
    l->rp->since = 0;
    l->rp->due = false;
    l->rp->waits_since = 0;
    s->unacked &= ~bit_of(l);
    s->unconfirmed &= ~bit_of(l);
    s->n_links--;
    s->n_away++;
}

bool resume_away(struct mux_session *s, uint16_t ws_code, const char *text, struct mux_link *but) {
    if (!may_wait(s))
        return false;
    struct mux_link *lost[WIRE_LIMIT_MAX_CONNECTIONS];
    unsigned n = 0;
    session_ref(s);
    session_set_state(s, SESSION_AWAY);
    s->ping_sent = s->probing = s->active = s->idle_marked = false;
    for (unsigned i = 0; i < WIRE_LIMIT_MAX_CONNECTIONS; i++) {
        struct mux_link *l = s->links[i];
        if (!l || l->away)
            continue;
        link_ref(l);
        go_away(l);
        lost[n++] = l;
    }
    for (unsigned i = 0; i < n; i++) {
        mux_link_fed(lost[i]); /* what is borrowed from it dies now */
        if (lost[i] != but && !lost[i]->destroyed)
            lost[i]->ops->close(lost[i]->ctx, ws_code, text);
        link_unref(lost[i]);
    }
    if (s->state == SESSION_AWAY && !s->destroyed)
        s->ops->away(s->ctx, text);
    session_unref(s);
    return true;
}

bool resume_wait(struct mux_session *s, struct mux_link *l, bool clean) {
    if (clean || !may_wait(s))
        return false;
    if (l->index == 0)
        return resume_away(s, WIRE_CLOSE_GOING_AWAY, "connection lost", l);
    session_ref(s);
    go_away(l);
    mux_link_fed(l);
    if (l->away && session_alive(s) && s->ops->link_lost)
        s->ops->link_lost(s->ctx, l, l->index);
    session_unref(s);
    return true;
}

void resume_forget(struct mux_session *s, unsigned index) {
    struct replay *rp = &s->replay[index];
    s->kept -= rp->kept;
    s->unacked &= ~(1u << index);
    s->unconfirmed &= ~(1u << index);
    *rp = (struct replay){.away_ms = rp->away_ms};
    if (!session_alive(s))
        return;
    if (s->ops->given_up)
        s->ops->given_up(s->ctx, index);
    if (session_alive(s))
        make_room(s);
}

/* Ends the streams that wait for a link of `index`. */
static void give_up(struct mux_session *s, unsigned index) {
    struct mux_link *l = s->links[index];
    session_ref(s);
    link_ref(l);
    session_end_streams(s, l);
    if (l->s == s)
        session_drop_rest(s, l);
    if (l->s == s) {
        link_detach(l);
        resume_forget(s, index);
    }
    link_unref(l);
    session_unref(s);
}

/* A callback has destroyed the link while its message was made. Nobody keeps that message, so the peer cannot get it.
 */
static void lost_message(struct mux_session *s, struct mux_link *l) {
    if (l->index > 0)
        give_up(s, l->index);
    else
        session_finish(s,
                       &(struct session_end){
                           .why = MUX_END_LOST,
                           .text = "connection lost",
                           .ws_code = WIRE_CLOSE_GOING_AWAY,
                           .stream_code = WIRE_CODE_REFUSED_STREAM,
                           .remote = true,
                       },
                       l);
}

void resume_end(struct mux_link *l, struct mux_message *m) {
    struct replay *rp = l->rp;
    if (!rp) /* the session ended in between */
        return;
    l->counted = m->frames > 0;
    rp->sent += l->counted;
    if (l->counted && l->s)
        l->s->unconfirmed |= bit_of(l);
    if (m->acks && (l->counted || rp->due)) {
        m->len += (size_t)wire_encode_ack(m->p + m->len, REPLAY_ACK, rp->came);
        told(l);
    }
    if (l->destroyed && l->counted)
        lost_message(l->s, l);
}

/* ---- another link takes over ---- */

/* Somebody's call on the lost link is still running: what it has read or made is not settled. */
static bool is_in_use(const struct mux_link *l) { return l->refs > (l->destroyed ? 1u : 2u); }

int mux_session_can_resume(const struct mux_session *s, unsigned index, uint64_t messages) {
    const struct replay *rp = s->replay ? &s->replay[index] : NULL;
    if (!rp || !s->links[index] || s->said_goaway || s->failed || s->destroyed || !s->ops->away ||
        (s->state != SESSION_AWAY && !session_goes_on(s)))
        return HT_EINVAL;
    return messages > rp->sent ? HT_EPROTO : messages < rp->acked ? HT_EAGAIN : 0; /* RESUME-11 */
}

static void keep_half(const struct mux_link *old, struct mux_link *l) {
    if (!link_half_waits(old) && !(old->past_first && is_half(&old->assembler, old->acks)))
        return;
    l->half = link_half(old);
    l->skip = l->half.at.consumed;
    if (l->past_first)
        resume_half(l);
}

static void take_streams(struct mux_link *old, struct mux_link *l) {
    HT_LIST_FOR (node, &old->s->all) {
        struct mux_stream *st = HT_LIST_ENTRY(node, struct mux_stream, all);
        if (st->l == old)
            st->l = l;
    }
    ht_list_splice(&l->fresh, &old->fresh);
    ht_list_splice(&l->ring, &old->ring);
    ht_list_splice(&l->windows, &old->windows);
    l->n_ready = old->n_ready;
    l->n_streams = old->n_streams;
    old->n_ready = old->n_streams = 0;
}

static void take_queue(struct mux_link *old, struct mux_link *l) {
    link_greet(l);
    l->queue = old->queue;
    old->queue = (struct ht_buf){0};
    memcpy(l->pongs, old->pongs, sizeof l->pongs);
    l->n_pongs = old->n_pongs;
}

/* Allocates nothing, and calls nobody but output(). */
static void take_over(struct mux_link *old, struct mux_link *l, uint64_t messages) {
    struct mux_session *s = old->s;
    struct replay *rp = old->rp;
    unsigned index = old->index;
    take_streams(old, l);
    take_queue(old, l);
    link_ref(old);
    link_detach(old);
    link_attach(l, s, index);
    l->next_id = old->next_id;
    l->ids_used_up = old->ids_used_up;
    keep_half(old, l);
    rp->away_ms += s->now_ms > rp->away_at ? s->now_ms - rp->away_at : 0;
    rp->away_at = 0;
    rp->acked = messages;
    if (rp->acked < rp->sent)
        s->unconfirmed |= bit_of(l);
    s->drain_at = 0;
    told(l);
    l->replays = true;
    link_unref(old);
    link_wake(l);
}

/* RESUME-9: what a session goes on with is what it began with. */
static bool is_same(const struct mux_session *s, const struct wire_hello_ok *ok) {
    return ok->stream_window == s->cfg.stream_window && ok->session_window == s->cfg.session_window &&
           !(s->cfg.caps & ~wire_caps_of(s->cfg.version, ok->capabilities, ok->n_capabilities));
}

int mux_session_resume(struct mux_session *s, struct mux_link *l, uint64_t messages, const struct wire_hello_ok *ok,
                       uint64_t now_ms) {
    int rc = mux_session_can_resume(s, 0, messages);
    if (rc < 0)
        return rc;
    if (s->state != SESSION_AWAY || l->s || l->dead || l->version != s->cfg.version || is_in_use(s->links[0]))
        return HT_EINVAL;
    if (s->cfg.role == WIRE_ROLE_KIT) {
        struct wire_hello_ok answer = *ok;
        answer.has_received = true;
        answer.received = s->replay[0].came;
        rc = out_session_frame(l, WIRE_HELLO_OK, &answer);
    } else if (!is_same(s, ok)) {
        rc = HT_EPROTO;
    }
    if (rc < 0)
        return rc;
    s->now_ms = ht_max(now_ms, s->now_ms);
    session_set_state(s, SESSION_LIVE);
    s->heard = true;
    for (unsigned i = 1; i < WIRE_LIMIT_MAX_CONNECTIONS; i++)
        if (s->links[i])
            s->replay[i].since = 0; /* the time of secondaries begins now */
    session_ref(s);
    take_over(s->links[0], l, messages);
    if (s->in_order) /* the PING that was to be answered was forgotten */
        mux_session_ping(s, session_measured_us(s));
    session_unref(s);
    return 0;
}

int resume_join(struct mux_session *s, struct mux_link *l, unsigned index, const uint64_t *messages,
                struct wire_join_ok *ok) {
    struct mux_link *old = s->links[index];
    if (old && is_in_use(old))
        return HT_EINVAL;
    int rc = old && messages ? mux_session_can_resume(s, index, *messages) : HT_EINVAL;
    ok->has_received = rc == 0;
    if (ok->has_received) {
        ok->received = s->replay[index].came;
        return 0;
    }
    if (rc == HT_EAGAIN && s->cfg.role == WIRE_ROLE_KIT)
        return rc;
    if (messages && s->cfg.role == WIRE_ROLE_DRIVER && !old)
        return HT_EINVAL; /* it was given up while JOIN was on its way: the next JOIN says so */
    if (messages && s->cfg.role == WIRE_ROLE_DRIVER) /* RESUME-11 */
        return session_violation(s, WIRE_CODE_PROTOCOL_ERROR, WIRE_CLOSE_PROTOCOL_ERROR,
                                 "a count of messages that cannot be true");
    if (old)
        give_up(s, index);
    return session_goes_on(s) && !s->links[index] && !l->s && !l->dead ? 0 : HT_ECLOSED;
}

void resume_attach(struct mux_link *l, struct mux_session *s, unsigned index, const uint64_t *messages) {
    if (messages) {
        take_over(s->links[index], l, *messages);
        return;
    }
    link_attach(l, s, index);
    if (l->rp)
        link_greet(l);
}

bool mux_session_is_away(const struct mux_session *s) { return s->state == SESSION_AWAY; }

bool mux_session_counted(const struct mux_session *s, unsigned index, uint64_t *messages) {
    if (!s->replay || !s->links[index] || !s->links[index]->away)
        return false;
    *messages = s->replay[index].came;
    return true;
}

/* ---- time ---- */

/* Index by index of what the peer was not told of, beginning with bit 0. */
static void tick_acks(struct mux_session *s) {
    for (uint32_t left = s->unacked; left; left &= left - 1) {
        unsigned i = (unsigned)__builtin_ctz(left);
        struct replay *rp = &s->replay[i];
        if (rp->since == 0) {
            rp->since = ht_max(s->now_ms, 1);
        } else if (!rp->due && s->now_ms >= rp->since + WIRE_LIMIT_ACK_DELAY) {
            rp->due = true;
            link_wake(s->links[i]);
        }
    }
}

/* KEEP-6: the time of those that no tick has seen begins now. */
static void tick_waits(struct mux_session *s) {
    for (uint32_t left = s->unconfirmed; left; left &= left - 1) {
        struct replay *rp = &s->replay[__builtin_ctz(left)];
        if (rp->waits_since == 0)
            rp->waits_since = ht_max(s->now_ms, 1);
    }
}

uint64_t resume_waits_since(const struct mux_session *s) {
    uint64_t since = UINT64_MAX;
    for (uint32_t left = may_wait(s) ? s->unconfirmed : 0; left; left &= left - 1)
        since = ht_min64(since, s->replay[__builtin_ctz(left)].waits_since);
    return since;
}

/* A session that ends lets nobody join. */
static uint64_t wait_of(const struct mux_session *s) { return session_goes_on(s) ? s->cfg.resume_grace_ms : 0; }

static void tick_away(struct mux_session *s) {
    for (unsigned i = 1; i < WIRE_LIMIT_MAX_CONNECTIONS && s->n_away > 0 && session_alive(s); i++) {
        struct replay *rp = &s->replay[i];
        if (!s->links[i] || !s->links[i]->away)
            continue;
        if (rp->since == 0)
            rp->since = ht_max(s->now_ms, 1);
        if (s->now_ms - ht_min64(rp->since, s->now_ms) >= wait_of(s))
            give_up(s, i);
    }
}

void resume_tick(struct mux_session *s) {
    if (s->unacked)
        tick_acks(s);
    if (s->unconfirmed)
        tick_waits(s);
    if (s->n_away > 0)
        tick_away(s);
}

uint64_t resume_deadline(const struct mux_session *s) {
    uint64_t at = UINT64_MAX;
    for (uint32_t left = s->unacked; left; left &= left - 1) {
        const struct replay *rp = &s->replay[__builtin_ctz(left)];
        if (!rp->due)
            at = ht_min64(at, rp->since ? rp->since + WIRE_LIMIT_ACK_DELAY : s->now_ms);
    }
    for (uint32_t left = s->unconfirmed; left; left &= left - 1)
        if (s->replay[__builtin_ctz(left)].waits_since == 0)
            at = s->now_ms;
    for (unsigned i = 1; s->n_away > 0 && i < WIRE_LIMIT_MAX_CONNECTIONS; i++)
        if (s->links[i] && s->links[i]->away)
            at = ht_min64(at, s->replay[i].since ? s->replay[i].since + wait_of(s) : s->now_ms);
    return at;
}

/* ---- how long streams were away ---- */

static uint64_t away_ms(const struct replay *rp, uint64_t now_ms) {
    return rp->away_ms + (rp->away_at && now_ms > rp->away_at ? now_ms - rp->away_at : 0);
}

void resume_stream_off(struct mux_stream *st) { st->away_ms = away_ms(st->l->rp, st->s->now_ms) - st->away_ms; }

bool mux_stream_is_away(const struct mux_stream *st) { return stream_is_on(st) && st->l->away; }

uint64_t mux_stream_away_ms(const struct mux_stream *st, uint64_t now_ms) {
    if (!stream_is_on(st))
        return st->away_ms;
    return st->l->rp ? away_ms(st->l->rp, now_ms) - st->away_ms : 0;
}
