#include "mux/mux_priv.h"

#include <assert.h>

/* ---- the control queue ---- */

/* Encodes straight into the queue. Most frames are small, so room is tried for in steps. */
static int enqueue(struct mux_link *l, enum wire_frame_type type, uint32_t id, const void *payload) {
    const size_t largest = WIRE_LIMIT_HEADER + WIRE_LIMIT_MAX_PAYLOAD;
    for (size_t room = 1024;; room *= 4) {
        room = ht_min(room, largest);
        uint8_t *to = ht_buf_reserve(&l->queue, room);
        if (!to)
            return HT_ENOMEM;
        int n = wire_encode_any(to, room, (uint8_t)type, id, payload);
        if (n == HT_ESPACE && room < largest)
            continue;
        if (n < 0)
            return n;
        if (type == WIRE_STREAM_OPEN) {
            size_t less = (size_t)n - WIRE_LIMIT_HEADER -
                          compat_head_out(l, to + WIRE_LIMIT_HEADER, (size_t)n - WIRE_LIMIT_HEADER);
            n -= (int)less;
            if (less)
                wire_encode_header(to, (uint8_t)type, id, (uint32_t)n - WIRE_LIMIT_HEADER);
        }
        wire_assert_tx(l->assembler.role, l->assembler.state, (uint8_t)type, id, (uint32_t)n - WIRE_LIMIT_HEADER);
        assert(!l->s || wire_payload_agreed((uint8_t)type, payload, l->assembler.caps));
        ht_buf_commit(&l->queue, (size_t)n);
        link_wake(l);
        return 0;
    }
}

int out_session_frame(struct mux_link *l, enum wire_frame_type type, const void *payload) {
    int rc = enqueue(l, type, 0, payload);
    if (rc < 0 || type != WIRE_GOAWAY || !l->s)
        return rc;
    const struct wire_goaway *g = payload;
    l->s->said_goaway = l->s->said_goaway || !session_is_handover(l->s, g);
    if (l->s->cfg.metrics) {
        l->s->cfg.metrics->goaways_total[ht_metric_code_of(g->code)][HT_METRIC_DIRECTION_SENT]++;
    }
    return rc;
}

int out_stream_open(struct mux_link *l, uint32_t id, const struct wire_stream_open *open) {
    return enqueue(l, WIRE_STREAM_OPEN, id, open);
}

int out_response_head(struct mux_link *l, uint32_t id, const struct wire_response_head *head) {
    return enqueue(l, WIRE_STREAM_RESPONSE_HEAD, id, head);
}

int out_connected(struct mux_link *l, uint32_t id) { return enqueue(l, WIRE_STREAM_CONNECTED, id, NULL); }

void out_reset(struct mux_link *l, uint32_t id, uint16_t code, const char *reason) {
    struct wire_reset r = {.code = code, .reason = ht_slice_str(reason)};
    r.reason.n = ht_min(r.reason.n, MUX_REASON_MAX);
    int rc = enqueue(l, WIRE_RESET, id, &r);
    if (rc == HT_EINVAL) { /* the text is not UTF-8, or was cut inside a character */
        r.reason = ht_slice_str("");
        rc = enqueue(l, WIRE_RESET, id, &r);
    }
    if (!l->s)
        return;
    if (rc < 0)
        session_fail(l->s, rc);
    else if (l->s->cfg.metrics)
        l->s->cfg.metrics->resets_total[ht_metric_code_of(code)][HT_METRIC_DIRECTION_SENT]++;
}

void out_pong(struct mux_link *l, const uint8_t nonce[8]) {
    /* Of a flood only the latest count (hardening case 11). */
    if (l->n_pongs == MUX_PONGS)
        l->n_pongs--;
    memcpy(l->pongs[l->n_pongs++], nonce, 8);
    link_wake(l);
}

size_t mux_link_queued(const struct mux_link *l) {
    return ht_buf_size(&l->queue) + l->n_pongs * (WIRE_LIMIT_HEADER + 8u);
}

/* ---- turns ---- */

/*
 * A stream that becomes ready goes into `fresh`, which is served first, then into the ring, where everybody gets one
 * piece after the other. One that has nothing left stays in the ring until it is met, and only then can it be fresh
 * again: a small answer passes bulk transfers, and a bulk transfer whose source runs dry between pieces cannot pass for
 * one. (The same idea as the new and old flows of RFC 8290 section 4.2.)
 */
void out_enter(struct mux_stream *st, bool fresh) {
    struct mux_link *l = st->l;
    if (st->pulling || st->wish == WISH_NOTHING || (st->place != PLACE_NOWHERE && st->place != PLACE_SPENT))
        return;
    if (st->place == PLACE_NOWHERE)
        ht_list_push_back(fresh ? &l->fresh : &l->ring, &st->turn);
    st->place = PLACE_WAITING;
    l->n_ready++;
    link_wake(l);
}

void out_leave(struct mux_stream *st) {
    ht_list_remove(&st->turn);
    if (st->place == PLACE_WAITING)
        st->l->n_ready--;
    st->place = PLACE_NOWHERE;
    st->wish = WISH_NOTHING;
}

void out_feed_starved(struct mux_session *s) {
    uint32_t credit = s->send.credit;
    while (credit > 0 && !ht_list_empty(&s->starved)) {
        struct mux_stream *st = HT_LIST_ENTRY(ht_list_pop_front(&s->starved), struct mux_stream, turn);
        if (!st->l->away) /* such a stream has time */
            credit -= (uint32_t)ht_min(credit, MUX_PIECE);
        st->place = PLACE_NOWHERE;
        stream_ref(st);
        out_enter(st, false);
        stream_tell_writable(st, true);
        stream_unref(st);
    }
}

/* ---- the message ---- */

static bool has_room(const struct mux_message *m, size_t n) {
    return m->frames < m->max_frames && m->cap - m->len >= n;
}

/* Counts a frame of `n` bytes that was encoded at the end. */
static void took(struct mux_message *m, int n) {
    assert(n > 0);
    m->len += (size_t)n;
    m->frames++;
}

static void put_pongs(struct mux_message *m, struct mux_link *l) {
    unsigned i = 0;
    while (i < l->n_pongs && has_room(m, WIRE_LIMIT_HEADER + 8))
        took(m, wire_encode_pong(m->p + m->len, m->cap - m->len, l->pongs[i++]));
    l->n_pongs -= i;
    memmove(l->pongs, l->pongs + i, l->n_pongs * sizeof l->pongs[0]);
}

/* The handshake's own frame has not left yet: nothing may go ahead of it, whatever the peer asks for already. */
static bool greeting(const struct mux_link *l) {
    if (ht_buf_size(&l->queue) == 0)
        return false;
    uint8_t type = *ht_buf_head(&l->queue);
    return type == WIRE_HELLO || type == WIRE_HELLO_OK || type == WIRE_JOIN || type == WIRE_JOIN_OK;
}

/* True: the queue is empty. What follows it must wait otherwise: a stream's DATA comes behind its STREAM_OPEN. */
static bool put_queue(struct mux_message *m, struct mux_link *l) {
    const uint8_t *head = ht_buf_head(&l->queue);
    size_t left = ht_buf_size(&l->queue), used = 0;
    unsigned frames = 0;
    while (used < left && m->frames + frames < m->max_frames) {
        size_t n = WIRE_LIMIT_HEADER + wire_get32(head + used + 5);
        if (n > m->cap - m->len - used)
            break;
        used += n;
        frames++;
    }
    if (used == 0)
        return left == 0;
    memcpy(m->p + m->len, head, used);
    m->len += used;
    m->frames += frames;
    ht_buf_consume(&l->queue, used);
    if (used == left && l->queue.cap > MUX_QUEUE_KEEP)
        ht_buf_free(&l->queue);
    return used == left;
}

#define WINDOW_FRAME (WIRE_LIMIT_HEADER + 4u)

static void put_windows(struct mux_message *m, struct mux_link *l) {
    struct flow_recv *session = &l->s->recv.recv;
    if (l->index == 0 && flow_recv_due(session) && has_room(m, WINDOW_FRAME))
        took(m, wire_encode_window(m->p + m->len, m->cap - m->len, 0, flow_recv_announce(session)));
    while (!ht_list_empty(&l->windows) && has_room(m, WINDOW_FRAME)) {
        struct mux_stream *st = HT_LIST_ENTRY(ht_list_pop_front(&l->windows), struct mux_stream, window);
        if (st->recv.owed == 0) /* its window has shrunk meanwhile */
            continue;
        took(m, wire_encode_window(m->p + m->len, m->cap - m->len, st->id, flow_recv_announce(&st->recv)));
    }
}

/* Back into the ring, with something to send. */
static void again(struct mux_stream *st, bool at_front) {
    struct mux_link *l = st->l;
    st->place = PLACE_WAITING;
    l->n_ready++;
    if (at_front)
        ht_list_push_front(&l->ring, &st->turn);
    else
        ht_list_push_back(&l->ring, &st->turn);
}

/*
 * TRAIL-1: what goes ahead of EOF. In a message that is full they wait in the control queue with their EOF: what the
 * stream had to say before is in this message or gone. True: the EOF has gone with them.
 */
static bool put_trailers(struct mux_message *m, struct mux_stream *st) {
    size_t n = WIRE_LIMIT_HEADER + wire_get32(st->trailers + 5);
    struct mux_link *l = st->l;
    wire_assert_tx(l->assembler.role, l->assembler.state, st->trailers[0], st->id, (uint32_t)n - WIRE_LIMIT_HEADER);
    bool queued = false;
    if (has_room(m, n)) {
        memcpy(m->p + m->len, st->trailers, n);
        took(m, (int)n);
    } else {
        uint8_t *to = ht_buf_reserve(&l->queue, n + WIRE_LIMIT_HEADER);
        if (to) { /* they may be lost (RFC 9110 6.5.1); the stream's bytes may not */
            memcpy(to, st->trailers, n);
            ht_buf_commit(&l->queue, n + (size_t)wire_encode_header(to + n, WIRE_EOF, st->id, 0));
            link_wake(l);
            queued = true;
        }
    }
    stream_drop_trailers(st);
    return queued;
}

static void put_eof(struct mux_message *m, struct mux_stream *st) {
    bool queued = st->trailers && put_trailers(m, st);
    if (!queued && !has_room(m, WIRE_LIMIT_HEADER)) {
        again(st, true);
        return;
    }
    if (!queued)
        took(m, wire_encode_eof(m->p + m->len, m->cap - m->len, st->id));
    st->wish = WISH_NOTHING;
    if (st->s->cfg.role == WIRE_ROLE_KIT && stream_request_eof(st)) {
        st->request = REQUEST_PASSED;
        stream_tell_writable(st, true); /* it will have bytes again */
        return;
    }
    stream_end_local(st);
    stream_check_done(st);
}

static void count_sent(struct mux_stream *st, uint32_t n) {
    struct mux_session *s = st->s;
    flow_send_take(&st->send, n);
    flow_send_take(&s->send, n);
    s->sent[st->l->index] += n;
    compat_sent(st, n);
    if (s->cfg.role == WIRE_ROLE_KIT && st->head != HEAD_DUE && st->request == REQUEST_DUE) /* see begin_data() */
        st->request = REQUEST_PASSED;
    if (s->cfg.metrics)
        s->cfg.metrics->bytes_total[st->kind == WIRE_KIND_HTTP ? HT_METRIC_MODE_EXPOSE : HT_METRIC_MODE_PULL]
                                   [HT_METRIC_DIRECTION_SENT] += n;
}

/* The source's word: no bytes come behind these. */
static void end_after(struct mux_message *m, struct mux_stream *st) {
    st->wish = WISH_EOF;
    if (!compat_hold_eof(st))
        put_eof(m, st);
}

/* Where up to `room` bytes go, with gaps for the headers of their frames. The first piece may be empty. */
static int lay_out(const struct mux_message *m, size_t room, struct iovec pieces[MUX_RUN]) {
    int n = 0;
    size_t at = m->len;
    do {
        size_t left = m->cap - at - WIRE_LIMIT_HEADER, piece = ht_min(ht_min(room, MUX_PIECE), left);
        pieces[n++] = (struct iovec){.iov_base = m->p + at + WIRE_LIMIT_HEADER, .iov_len = piece};
        at += WIRE_LIMIT_HEADER + piece;
        room -= piece;
    } while (room > 0 && n < MUX_RUN && m->frames + (unsigned)n < m->max_frames &&
             m->cap - at >= WIRE_LIMIT_HEADER + MUX_LEAST_PIECE);
    return n;
}

/* Asks the source for up to `room` bytes, straight into the message: for more than a piece only one that can do so in
 * one call. False: the stream is gone. */
static bool ask_source(struct mux_message *m, struct mux_stream *st, size_t room, size_t *n, unsigned *flags) {
    struct iovec pieces[MUX_RUN];
    int count = lay_out(m, room, pieces);
    *flags = 0;
    st->wish = WISH_NOTHING;
    st->nudges = 0;
    st->pulling = true;
    ssize_t got = count > 1 ? st->ops->pullv(st->ctx, pieces, count, flags)
                            : st->ops->pull(st->ctx, pieces[0].iov_base, pieces[0].iov_len, flags);
    st->pulling = false;
    if (got < 0 || !stream_is_on(st))
        return false;
    assert((size_t)got <= room);
    *n = (size_t)got;
    return true;
}

/* The headers of `n` bytes that lay_out() has found places for. */
static void put_headers(struct mux_message *m, const struct mux_stream *st, size_t n) {
    while (n > 0) {
        size_t piece = ht_min(n, MUX_PIECE);
        wire_encode_data_header(m->p + m->len, st->id, (uint32_t)piece);
        took(m, (int)(WIRE_LIMIT_HEADER + piece));
        n -= piece;
    }
}

/*
 * Bulk whose source is dry for a moment has not gone: its next message would be a long one. What it has on another link
 * of the session is in the way of a small answer all the same, because one process sends, and one takes in, all of
 * them.
 */
static void look_at(struct mux_stream *st, size_t n, bool fresh) {
    struct mux_link *l = st->l;
    if (n > MUX_SMALL_PIECE) {
        l->bulk = MUX_BULK;
        l->bulk_id = st->id;
    } else if (fresh) {
        if (l->n_ready > 0)
            l->interactive = MUX_INTERACTIVE;
        for (unsigned i = 0, left = st->s->n_links; left > 0 && i < WIRE_LIMIT_MAX_CONNECTIONS; i++) {
            struct mux_link *at = st->s->links[i];
            left -= at && !at->away;
            if (at && at->bulk > 0 && at->bulk_id != st->id)
                at->interactive = MUX_INTERACTIVE;
        }
    }
}

static void pull_stream(struct mux_message *m, struct mux_stream *st, size_t room, bool fresh) {
    unsigned flags;
    size_t n;
    if (!ask_source(m, st, room, &n, &flags))
        return;
    if (n > 0) {
        put_headers(m, st, n);
        count_sent(st, (uint32_t)n);
        look_at(st, n, fresh);
    }
    if (flags & MUX_PULL_EOF) {
        end_after(m, st);
    } else if (st->wish == WISH_PULL || (n > 0 && flags & MUX_PULL_MORE)) {
        m->in_vain += n == 0;
        st->wish = WISH_PULL;
        again(st, false);
    } else {
        st->place = PLACE_SPENT;
        ht_list_push_back(&st->l->ring, &st->turn);
        stream_tell_writable(st, true);
    }
}

/* EOF needs no credit: a request without a body must not wait behind stalled uploads. True: nothing is left to wait
 * for. */
static bool ended_without_credit(struct mux_message *m, struct mux_stream *st) {
    unsigned flags;
    size_t n;
    if (!ask_source(m, st, 0, &n, &flags))
        return true;
    if (flags & MUX_PULL_EOF) {
        end_after(m, st);
        return true;
    }
    st->wish = WISH_PULL;
    return false;
}

/*
 * What a stream may send in its turn. Large pieces cost less: 64 downloads that take turns by the piece need four times
 * the system calls of one. On a slow link they would wait too long for one another, and for an answer of a few pieces.
 */
static size_t turn_size(const struct mux_stream *st, bool fresh) {
    const struct mux_link *l = st->l;
    if (fresh && l->n_ready > 0)
        return MUX_FIRST_PIECE;
    return st->ops->pullv && (l->swift || l->n_ready == 0) ? SIZE_MAX : MUX_PIECE;
}

/* See MUX_SWIFT_BYTES. */
static void keep_pace(struct mux_link *l, size_t sent) {
    uint64_t took = l->s->now_ms - l->paced_at;
    l->paced += (uint32_t)sent;
    if (took <= MUX_SWIFT_MS && l->paced < MUX_SWIFT_BYTES)
        return;
    l->swift = took <= MUX_SWIFT_MS;
    l->paced = 0;
    l->paced_at = l->s->now_ms;
}

static void serve(struct mux_message *m, struct mux_stream *st, bool fresh) {
    struct mux_session *s = st->s;
    if (st->wish == WISH_EOF) {
        put_eof(m, st);
        return;
    }
    if (!st->ops || !st->ops->pull) {
        st->wish = WISH_NOTHING;
        return;
    }
    size_t room = window_stream_room(st);
    if ((s->send.credit == 0 || room == 0) && ended_without_credit(m, st))
        return;
    if (s->send.credit == 0) {
        st->place = PLACE_STARVED;
        ht_list_push_back(&s->starved, &st->turn);
        stream_tell_writable(st, false);
        return;
    }
    if (room == 0) {
        st->place = PLACE_BLOCKED;
        compat_hold_burst(st);
        stream_tell_writable(st, false);
        return;
    }
    room = ht_min(ht_min(room, s->send.credit), turn_size(st, fresh));
    pull_stream(m, st, ht_min(room, m->cap - m->len - WIRE_LIMIT_HEADER), fresh);
}

/* The stream whose turn it is, taken out of turn; NULL: nobody has anything. */
static struct mux_stream *next_in_turn(struct mux_link *l, bool *fresh) {
    for (;;) {
        *fresh = !ht_list_empty(&l->fresh);
        struct ht_list *node = ht_list_pop_front(*fresh ? &l->fresh : &l->ring);
        if (!node)
            return NULL;
        struct mux_stream *st = HT_LIST_ENTRY(node, struct mux_stream, turn);
        bool waited = st->place == PLACE_WAITING;
        st->place = PLACE_NOWHERE;
        if (waited) {
            l->n_ready--;
            return st;
        }
    }
}

static void put_data(struct mux_message *m, struct mux_link *l) {
    while (l->s && has_room(m, WIRE_LIMIT_HEADER + 1) &&
           (m->len == 0 || has_room(m, WIRE_LIMIT_HEADER + MUX_LEAST_PIECE))) {
        bool fresh;
        if (m->in_vain > m->max_frames) { /* not in this message */
            link_wake(l);
            return;
        }
        struct mux_stream *st = next_in_turn(l, &fresh);
        if (!st) {
            /* Credit that was meant for streams which then had no use for it. */
            if (l->s->send.credit == 0 || ht_list_empty(&l->s->starved))
                return;
            out_feed_starved(l->s);
            continue;
        }
        stream_ref(st);
        serve(m, st, fresh);
        stream_unref(st);
    }
}

/* At the end of a message: what is opened now begins with the next one. */
static void tell_room(struct mux_session *s, const struct mux_link *l) {
    if (!s->room_wanted || ht_buf_size(&l->queue) > MUX_ROOM || !session_alive(s))
        return;
    s->room_wanted = false;
    if (s->ops->room)
        s->ops->room(s->ctx);
}

static void make_message(struct mux_message *m, struct mux_link *l) {
    struct mux_session *s = l->s;
    if (l->interactive)
        m->cap = ht_min(m->cap, MUX_SHORT_MESSAGE);
    l->interactive -= l->interactive > 0;
    l->bulk -= l->bulk > 0;
    bool greets = greeting(l), emptied = false;
    if (!m->nothing) {
        if (!greets)
            put_pongs(m, l);
        emptied = put_queue(m, l);
        if (greets)
            put_pongs(m, l);
    }
    if (emptied && s) {
        session_ref(s);
        put_windows(m, l);
        if (!m->no_data)
            put_data(m, l);
        if (l->s)
            keep_pace(l, m->len);
        tell_room(s, l);
        session_unref(s);
    }
    l->left_at = s && !m->no_data && (!emptied || l->n_ready > 0) ? s->now_ms : 0;
    if (l->rp)
        resume_end(l, m);
}

size_t mux_link_pull(struct mux_link *l, uint8_t *out, size_t cap) {
    struct mux_message m = {
        .p = out,
        .cap = ht_min(cap, WIRE_LIMIT_OF(l->version, MAX_MESSAGE)),
        .max_frames = WIRE_LIMIT_OF(l->version, MAX_FRAMES),
    };
    struct mux_session *s = l->s;
    if (s && l->left_at && s->now_ms > l->left_at) /* the transport had no room, and has some again */
        s->moved_at = s->now_ms;
    link_ref(l);
    l->woken = false;
    if (l->greeting.data && !l->away)
        resume_greet(l, &m);
    else if (!l->rp || resume_begin(l, &m))
        make_message(&m, l);
    link_unref(l);
    return m.len;
}

bool mux_link_counts(const struct mux_link *l) { return l->rp && l->counted; }
