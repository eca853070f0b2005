#include "base/mem.h"
#include "mux/mux_priv.h"

/* ---- the table ---- */

#define TABLE_MIN 16u

static uint32_t home_of(const struct stream_table *t, uint32_t id) { return id >> 1 & t->mask; }

struct mux_stream *table_find(const struct stream_table *t, uint32_t id) {
    if (!t->slot)
        return NULL;
    for (uint32_t i = home_of(t, id);; i = (i + 1) & t->mask) {
        struct mux_stream *st = t->slot[i];
        if (!st || st->id == id)
            return st;
    }
}

static void table_put(struct stream_table *t, struct mux_stream *st) {
    uint32_t i = home_of(t, st->id);
    while (t->slot[i])
        i = (i + 1) & t->mask;
    t->slot[i] = st;
}

/* At most half full: a lookup of an id that is not there ends soon. */
int table_add(struct stream_table *t, struct mux_stream *st) {
    if (!t->slot || t->used * 2 > t->mask) {
        uint32_t slots = t->slot ? (t->mask + 1) * 2 : TABLE_MIN;
        struct stream_table bigger = {ht_calloc(slots, sizeof *bigger.slot), slots - 1, t->used};
        if (!bigger.slot)
            return HT_ENOMEM;
        for (uint32_t i = 0; t->slot && i <= t->mask; i++)
            if (t->slot[i])
                table_put(&bigger, t->slot[i]);
        ht_free(t->slot);
        *t = bigger;
    }
    table_put(t, st);
    t->used++;
    return 0;
}

/* Moves back what the hole would hide, so that there are no tombstones to collect. */
void table_remove(struct stream_table *t, uint32_t id) {
    uint32_t hole = home_of(t, id);
    while (t->slot[hole]->id != id)
        hole = (hole + 1) & t->mask;
    for (uint32_t i = (hole + 1) & t->mask; t->slot[i]; i = (i + 1) & t->mask) {
        uint32_t home = home_of(t, t->slot[i]->id);
        if (((i - home) & t->mask) >= ((i - hole) & t->mask)) {
            t->slot[hole] = t->slot[i];
            hole = i;
        }
    }
    t->slot[hole] = NULL;
    if (--t->used == 0 && t->mask >= TABLE_MIN)
        table_free(t);
}

void table_free(struct stream_table *t) {
    ht_free(t->slot);
    *t = (struct stream_table){NULL, 0, 0};
}

/* ---- life ---- */

static enum ht_metric_mode mode_of(const struct mux_stream *st) {
    return st->kind == WIRE_KIND_HTTP ? HT_METRIC_MODE_EXPOSE : HT_METRIC_MODE_PULL;
}

struct mux_stream *stream_create(struct mux_session *s, struct mux_link *l, uint32_t id, enum wire_kind kind) {
    struct mux_stream *st = ht_calloc(1, sizeof *st);
    if (!st)
        return NULL;
    st->id = id;
    if (table_add(&s->table, st) < 0) {
        ht_free(st);
        return NULL;
    }
    ht_list_init(&st->turn);
    ht_list_init(&st->window);
    ht_list_init(&st->batch);
    ht_list_push_back(&s->all, &st->all);
    s->n_all++;
    if (s->cfg.quota)
        s->cfg.quota->streams++;
    s->idle_marked = false;
    st->s = s;
    st->l = l;
    st->l->n_streams++;
    st->away_ms = l->rp ? l->rp->away_ms : 0;
    st->kind = (uint8_t)kind;
    st->handle = true;
    stream_set_state(st, WIRE_STATE_OPEN);
    st->pace.since = (uint32_t)s->now_ms;
    flow_send_init(&st->send, s->cfg.stream_window);
    flow_recv_init(&st->recv, s->cfg.stream_window);
    if (s->cfg.metrics) {
        s->cfg.metrics->streams_active[mode_of(st)]++;
        s->cfg.metrics->streams_total[mode_of(st)]++;
    }
    return st;
}

void stream_await_answer(struct mux_stream *st, const struct wire_stream_open *open) {
    st->head = open->kind == WIRE_KIND_HTTP || open->has_authority ? HEAD_DUE : HEAD_PASSED;
}

void stream_set_state(struct mux_stream *st, enum wire_stream_state to) {
    assert(wire_stream_may(st->state, to));
    st->state = to;
}

void stream_end_local(struct mux_stream *st) {
    stream_set_state(st, st->state == WIRE_STATE_HALF_CLOSED_REMOTE ? WIRE_STATE_CLOSED : WIRE_STATE_HALF_CLOSED_LOCAL);
}

void stream_end_remote(struct mux_stream *st) {
    stream_set_state(st, st->state == WIRE_STATE_HALF_CLOSED_LOCAL ? WIRE_STATE_CLOSED : WIRE_STATE_HALF_CLOSED_REMOTE);
    ht_list_remove(&st->window); /* it will not send: no more credit */
}

static void free_if_unused(struct mux_stream *st) {
    if (st->busy == 0 && !st->handle && !stream_is_on(st))
        ht_free(st);
}

void stream_unref(struct mux_stream *st) {
    st->busy--;
    free_if_unused(st);
}

static size_t frame_size(const uint8_t *frame) { return WIRE_LIMIT_HEADER + wire_get32(frame + 5); }

void stream_drop_trailers(struct mux_stream *st) {
    if (!st->trailers)
        return;
    st->s->trailers -= frame_size(st->trailers);
    ht_free(st->trailers);
    st->trailers = NULL;
}

void stream_off(struct mux_stream *st) {
    struct mux_session *s = st->s;
    if (!stream_is_on(st))
        return;
    if (st->state != WIRE_STATE_CLOSED)
        stream_set_state(st, WIRE_STATE_CLOSED);
    stream_drop_trailers(st);
    out_leave(st);
    ht_list_remove(&st->window);
    table_remove(&s->table, st->id);
    if (st->l->rp)
        resume_stream_off(st);
    st->l->n_streams--;
    st->l = NULL;
    if (s->cfg.metrics)
        s->cfg.metrics->streams_active[mode_of(st)]--;
}

/* Off the session's books: the handle is released or dead. */
static void forget(struct mux_stream *st) {
    struct mux_session *s = st->s;
    flow_pool_finish(&s->recv, st->unconsumed);
    st->unconsumed = 0;
    ht_list_remove(&st->all);
    s->n_all--;
    if (s->cfg.quota)
        s->cfg.quota->streams--;
    st->s = NULL;
    if (session_alive(s))
        window_session_check(s);
}

static void tell_closed(struct mux_stream *st, uint16_t code, struct ht_slice reason, bool remote) {
    if (st->ops && st->ops->closed)
        st->ops->closed(st->ctx, code, reason, remote);
}

void stream_end(struct mux_stream *st, uint16_t code, struct ht_slice reason, bool remote) {
    stream_ref(st);
    stream_off(st);
    tell_closed(st, code, reason, remote);
    stream_unref(st);
}

void stream_orphan(struct mux_stream *st, uint16_t code, struct ht_slice reason, bool remote) {
    bool was_open = stream_is_on(st);
    stream_ref(st);
    stream_off(st);
    forget(st);
    st->lost = was_open;
    if (was_open)
        tell_closed(st, code, reason, remote);
    /* Borrowed bytes may die with the link, whose owner need not call fed() any more. */
    if (st->batch_of) {
        ht_list_remove(&st->batch);
        st->batch_of = NULL;
        if (st->ops && st->ops->data_end)
            st->ops->data_end(st->ctx);
    }
    stream_unref(st);
}

int stream_violation(struct mux_stream *st, enum wire_code code, const char *reason) {
    struct mux_session *s = st->s;
    struct mux_link *l = st->l;
    out_reset(l, st->id, (uint16_t)code, reason);
    stream_end(st, (uint16_t)code, ht_slice_str(reason), false);
    return in_fault(s);
}

void stream_check_done(struct mux_stream *st) {
    if (stream_is_on(st) && st->state == WIRE_STATE_CLOSED)
        stream_end(st, WIRE_CODE_NO_ERROR, ht_slice_str(""), false);
}

void stream_tell_writable(struct mux_stream *st, bool yes) {
    if (st->told_no == !yes)
        return;
    st->told_no = !yes;
    if (st->ops && st->ops->writable)
        st->ops->writable(st->ctx, yes);
}

void stream_unblock(struct mux_stream *st) {
    stream_ref(st);
    ht_list_remove(&st->turn);
    st->place = PLACE_NOWHERE;
    out_enter(st, false);
    stream_tell_writable(st, true);
    stream_unref(st);
}

void stream_head_passed(struct mux_stream *st, int status) {
    st->head = status == 101 ? HEAD_SWITCHED : HEAD_PASSED;
    if (status == 101)
        return;
    bool ended = st->request == REQUEST_PASSED;
    st->request = REQUEST_PLAIN;
    if (!ended)
        return;
    if (st->s->cfg.role == WIRE_ROLE_KIT) {
        out_leave(st);
        stream_end_local(st);
    } else {
        stream_end_remote(st);
    }
}

void stream_mark_batch(struct mux_stream *st, struct mux_link *l) {
    if (st->batch_of == l)
        return;
    /* v2: bytes of another link are still borrowed. They are finished first: its fed() may come later than this one's.
     */
    if (st->batch_of) {
        ht_list_remove(&st->batch);
        st->batch_of = NULL;
        if (st->ops && st->ops->data_end)
            st->ops->data_end(st->ctx);
        if (!st->handle || st->batch_of)
            return;
    }
    st->batch_of = l;
    ht_list_push_back(&l->batch, &st->batch);
}

/* ---- the interface ---- */

/* The link with the least to say, so that streams spread over the sockets of a v2 session. */
struct mux_link *session_next_link(const struct mux_session *s) {
    struct mux_link *best = NULL;
    if (s->in_order)
        return session_primary(s);
    for (unsigned i = 0; i < WIRE_LIMIT_MAX_CONNECTIONS; i++) {
        struct mux_link *l = s->links[i];
        if (!l || l->away)
            continue;
        size_t queued = mux_link_queued(l), least = best ? mux_link_queued(best) : 0;
        if (!best || queued < least || (queued == least && l->n_streams < best->n_streams))
            best = l;
    }
    return best;
}

int mux_stream_open(struct mux_session *s, const struct wire_stream_open *open, const struct mux_stream_ops *ops,
                    void *ctx, struct mux_stream **out) {
    *out = NULL;
    if (s->state != SESSION_LIVE || s->ids_used_up || s->failed)
        return HT_ECLOSED;
    if (open->has_authority && !(s->cfg.caps & WIRE_CAP_NAMES)) /* EXT-1 */
        return HT_EINVAL;
    struct mux_link *l = session_next_link(s);
    const struct mux_quota *q = s->cfg.quota;
    if (s->n_all >= s->cfg.max_streams || (q && q->max_streams && q->streams >= q->max_streams) ||
        ht_buf_size(&l->queue) > MUX_QUEUE_MAX)
        return HT_ELIMIT;
    struct mux_stream *st = stream_create(s, l, s->next_id, open->kind);
    if (!st)
        return HT_ENOMEM;
    int rc = out_stream_open(l, st->id, open);
    if (rc < 0) {
        stream_off(st); /* the peer has not heard of it: no RESET */
        mux_stream_release(&st);
        return rc;
    }
    stream_await_answer(st, open);
    s->ids_used_up = st->id >= s->last_id;
    s->next_id += 2;
    st->request = open->kind == WIRE_KIND_HTTP && open->is_upgrade ? REQUEST_DUE : REQUEST_PLAIN;
    st->ops = ops;
    st->ctx = ctx;
    *out = st;
    if (s->ids_used_up && s->ops->used_up)
        s->ops->used_up(s->ctx);
    return 0;
}

void mux_stream_accept(struct mux_stream *st, const struct mux_stream_ops *ops, void *ctx) {
    mux_stream_set_ops(st, ops, ctx);
}

void mux_stream_set_ops(struct mux_stream *st, const struct mux_stream_ops *ops, void *ctx) {
    st->ops = ops;
    st->ctx = ctx;
}

/* A release takes the ops away. */
void mux_stream_hand_over(struct mux_stream *st, void (*take)(void *ctx), void *ctx,
                          const struct mux_arrived *arrived) {
    stream_ref(st);
    take(ctx);
    if (arrived->n && st->ops)
        st->ops->data(st->ctx, arrived->bytes, arrived->n);
    if (arrived->trailers && st->ops && st->ops->trailers)
        st->ops->trailers(st->ctx, arrived->trailers);
    if (arrived->eof && st->ops)
        st->ops->eof(st->ctx);
    if ((arrived->n || arrived->eof) && st->ops && st->ops->data_end)
        st->ops->data_end(st->ctx);
    stream_unref(st);
}

int mux_stream_respond(struct mux_stream *st, const struct wire_response_head *head) {
    if (!stream_is_on(st) || st->wish == WISH_EOF || stream_local_ended(st))
        return HT_ECLOSED;
    if (st->head != HEAD_DUE || st->kind != WIRE_KIND_HTTP)
        return HT_EINVAL;
    int rc = out_response_head(st->l, st->id, head);
    if (rc < 0)
        return rc;
    if (head->final)
        stream_head_passed(st, head->status);
    return 0;
}

int mux_stream_connected(struct mux_stream *st) {
    if (!stream_is_on(st) || st->wish == WISH_EOF || stream_local_ended(st))
        return HT_ECLOSED;
    if (st->head != HEAD_DUE || st->kind != WIRE_KIND_TCP)
        return HT_EINVAL;
    int rc = out_connected(st->l, st->id);
    if (rc == HT_OK)
        st->head = HEAD_PASSED;
    return rc;
}

int mux_stream_trailers(struct mux_stream *st, const struct wire_trailers *t) {
    if (!stream_is_on(st) || st->wish == WISH_EOF || stream_local_ended(st))
        return HT_ECLOSED;
    struct mux_session *s = st->s;
    if (st->trailers_out || st->kind != WIRE_KIND_HTTP || st->head == HEAD_SWITCHED ||
        (s->cfg.role == WIRE_ROLE_DRIVER && st->head == HEAD_DUE)) /* TRAIL-1 */
        return HT_EINVAL;
    if (!(s->cfg.caps & WIRE_CAP_TRAILERS)) /* EXT-1 */
        return 0;
    const size_t largest = WIRE_LIMIT_HEADER + WIRE_LIMIT_MAX_PAYLOAD;
    uint8_t *frame = ht_malloc(largest);
    int n = frame ? wire_encode_trailers(frame, largest, st->id, t) : HT_ENOMEM;
    if (n > 0 && s->trailers + (size_t)n > MUX_TRAILERS_MAX)
        n = HT_ELIMIT;
    if (n < 0) {
        ht_free(frame);
        return n;
    }
    uint8_t *shorter = ht_realloc(frame, (size_t)n);
    st->trailers = shorter ? shorter : frame;
    s->trailers += (size_t)n;
    st->trailers_out = true;
    return 0;
}

/* How often ready() may come before a pull() until the source is told to be quiet. Several calls in one turn of the
 * event loop are nothing to worry about; calls turn after turn are a source that keeps polling readable behind a full
 * link. */
#define NUDGES 4

void mux_stream_ready(struct mux_stream *st) {
    if (!stream_is_on(st) || stream_local_ended(st) || st->wish == WISH_EOF)
        return;
    if (st->wish == WISH_PULL) {
        if (st->place == PLACE_WAITING && ++st->nudges == NUDGES)
            stream_tell_writable(st, false); /* which may have been the end of it */
        return;
    }
    st->wish = WISH_PULL;
    out_enter(st, true);
}

void mux_stream_reset(struct mux_stream *st, uint16_t code, const char *reason) {
    if (!stream_is_on(st))
        return;
    struct mux_link *l = st->l;
    uint32_t id = st->id;
    stream_off(st);
    out_reset(l, id, code, reason);
}

void mux_stream_release(struct mux_stream **stp) {
    struct mux_stream *st = stp ? *stp : NULL;
    if (!st)
        return;
    *stp = NULL;
    st->ops = NULL;
    st->ctx = NULL;
    st->busy++;
    mux_stream_reset(st, WIRE_CODE_CANCEL, "");
    st->handle = false;
    if (st->batch_of) {
        ht_list_remove(&st->batch);
        st->batch_of = NULL;
    }
    if (st->s)
        forget(st);
    stream_unref(st);
}

uint32_t mux_stream_id(const struct mux_stream *st) { return st->id; }
bool mux_stream_is_over(const struct mux_stream *st) { return !stream_is_on(st); }
bool mux_stream_was_lost(const struct mux_stream *st) { return st->lost; }
bool mux_stream_remote_ended(const struct mux_stream *st) { return stream_remote_ended(st); }
bool mux_stream_local_ended(const struct mux_stream *st) { return stream_local_ended(st); }
size_t mux_stream_unconsumed(const struct mux_stream *st) { return st->unconsumed; }

struct mux_session *mux_stream_session(const struct mux_stream *st) {
    return st->s;
}
