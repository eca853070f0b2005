#include "base/mem.h"
#include "mux/mux_priv.h"

#include <assert.h>

/* False: out of memory. */
static bool begin_counting(struct mux_session *s) {
    uint32_t ours = s->cfg.replay_buffer, theirs = s->cfg.peer_replay_buffer;
    s->cfg.replay_buffer = (uint32_t)ht_max(ours, WIRE_LIMIT_MIN_REPLAY_BUFFER);
    s->ack_bytes = (uint32_t)ht_min(ht_max(theirs, WIRE_LIMIT_MIN_REPLAY_BUFFER) / 4, MUX_ACK_BYTES);
    s->replay = ht_calloc(wire_frame_in(s->cfg.version, WIRE_JOIN) ? WIRE_LIMIT_MAX_CONNECTIONS : 1, sizeof *s->replay);
    return s->replay != NULL;
}

struct mux_session *mux_session_create(const struct mux_config *cfg, const struct mux_session_ops *ops, void *ctx,
                                       uint64_t now_ms) {
    struct mux_session *s = ht_calloc(1, sizeof *s);
    if (!s)
        return NULL;
    s->cfg = *cfg;
    if (cfg->caps & WIRE_CAP_STREAM_RESUME && !begin_counting(s)) {
        ht_free(s);
        return NULL;
    }
    s->ops = ops;
    s->ctx = ctx;
    s->refs = 1;
    ht_list_init(&s->all);
    ht_list_init(&s->starved);
    ht_list_init(&s->dialling);
    flow_send_init(&s->send, cfg->session_window);
    flow_pool_init(&s->recv, cfg->session_window, cfg->session_buffer);
    s->send_limit = cfg->session_window;
    s->stream_send_limit = cfg->stream_window;
    s->send_limit = (uint32_t)ht_max(s->send_limit, window_limit(s)); /* FLOW-8, FLOW-9 */
    s->stream_send_limit = (uint32_t)ht_max(s->stream_send_limit, window_limit(s));
    s->pace.since = (uint32_t)now_ms;
    s->next_id = cfg->first_stream_id ? cfg->first_stream_id : 2;
    s->last_id = cfg->last_stream_id ? cfg->last_stream_id : UINT32_MAX - 1;
    s->ids_used_up = s->next_id > s->last_id;
    s->faults_left = s->churn_left = MUX_CHURN_BURST;
    s->settle_check_at = UINT64_MAX;
    s->now_ms = s->budgets_at = s->heard_at = now_ms;
    return s;
}

void mux_session_set_ops(struct mux_session *s, const struct mux_session_ops *ops, void *ctx) {
    s->ops = ops;
    s->ctx = ctx;
}

void session_unref(struct mux_session *s) {
    if (--s->refs > 0)
        return;
    table_free(&s->table);
    ids_free(s);
    ht_free(s->replay);
    ht_free(s);
}

/* Rows: from; bits: to. */
static const uint8_t transitions[SESSION_COUNT] = {
    [SESSION_NEW] = 1u << SESSION_LIVE | 1u << SESSION_OVER,
    [SESSION_LIVE] = 1u << SESSION_AWAY | 1u << SESSION_DRAINING | 1u << SESSION_GOING | 1u << SESSION_OVER,
    [SESSION_AWAY] = 1u << SESSION_LIVE | 1u << SESSION_OVER,
    [SESSION_GOING] = 1u << SESSION_AWAY | 1u << SESSION_DRAINING | 1u << SESSION_OVER,
    [SESSION_DRAINING] = 1u << SESSION_OVER,
};

void session_set_state(struct mux_session *s, enum session_state to) {
    assert(transitions[s->state] & 1u << to);
    s->state = to;
    if (to != SESSION_DRAINING && to != SESSION_GOING)
        return;
    for (unsigned i = 0; i < WIRE_LIMIT_MAX_CONNECTIONS; i++)
        if (s->links[i])
            s->links[i]->assembler.state = WIRE_LINK_CLOSING;
}

/* ---- links ---- */

int mux_session_attach(struct mux_session *s, struct mux_link *l, const struct wire_hello_ok *ok) {
    if (s->state != SESSION_NEW || l->s || l->dead)
        return HT_EINVAL;
    int rc = s->cfg.role == WIRE_ROLE_KIT ? out_session_frame(l, WIRE_HELLO_OK, ok) : 0;
    if (rc < 0)
        return rc;
    resume_attach(l, s, 0, NULL);
    session_set_state(s, SESSION_LIVE);
    return 0;
}

uint64_t mux_session_received(const struct mux_session *s, unsigned index) { return s->received[index]; }

void mux_session_bytes(const struct mux_session *s, uint64_t *in, uint64_t *out) {
    *in = 0;
    *out = s->swallowed;
    for (unsigned i = 0; i < WIRE_LIMIT_MAX_CONNECTIONS; i++) {
        *in += s->received[i];
        *out += s->sent[i];
    }
}

/*
 * SHARD-3. Both sides count for as long as the session lives, so it does not matter if an answer is lost: the next JOIN
 * sets it right.
 */
static int restore_credit(struct mux_session *s, unsigned index, uint64_t received) {
    if (received > s->sent[index])
        return session_violation(s, WIRE_CODE_PROTOCOL_ERROR, WIRE_CLOSE_PROTOCOL_ERROR,
                                 "more received on a connection than was sent");
    uint64_t swallowed = s->sent[index] - received;
    s->sent[index] = received;
    s->swallowed += swallowed;
    return swallowed ? window_session_grant(s, (uint32_t)ht_min(swallowed, UINT32_MAX)) : 0;
}

static int join(struct mux_session *s, struct mux_link *l, unsigned index, const uint64_t *bytes,
                const uint64_t *messages) {
    struct wire_join_ok ok = {.index = (uint16_t)index, .has_received_bytes = bytes != NULL};
    if (!session_goes_on(s))
        return HT_ECLOSED;
    if (!wire_frame_in(s->cfg.version, WIRE_JOIN) || index == 0 || index >= WIRE_LIMIT_MAX_CONNECTIONS ||
        (s->links[index] && !s->links[index]->away) || l->s || l->dead)
        return HT_EINVAL;
    int rc = s->replay ? resume_join(s, l, index, messages, &ok) : 0;
    if (rc == 0 && bytes && !ok.has_received)
        rc = restore_credit(s, index, *bytes);
    ok.received_bytes = s->received[index];
    if (rc == 0 && s->cfg.role == WIRE_ROLE_KIT)
        rc = out_session_frame(l, WIRE_JOIN_OK, &ok);
    if (rc < 0)
        return rc;
    resume_attach(l, s, index, ok.has_received ? messages : NULL);
    return 0;
}

int mux_session_join(struct mux_session *s, struct mux_link *l, unsigned index, const uint64_t *bytes,
                     const uint64_t *messages) {
    session_ref(s);
    link_ref(l);
    int rc = join(s, l, index, bytes, messages);
    link_unref(l);
    session_unref(s);
    return rc;
}

/* A stream stays on its link (STREAM-3), so it does not survive it (PARK-4). */
void session_end_streams(struct mux_session *s, struct mux_link *l) {
    for (bool found = true; found;) {
        found = false;
        HT_LIST_FOR (node, &s->all) {
            struct mux_stream *st = HT_LIST_ENTRY(node, struct mux_stream, all);
            if (st->l != l)
                continue;
            st->lost = true;
            stream_end(st, WIRE_CODE_REFUSED_STREAM, ht_slice_str("a connection of the session was lost"), true);
            found = true;
            break; /* the call may have changed the list */
        }
    }
}

/*
 * Published drivers answer on another socket than the stream's. A frame of theirs that was cut in the middle leaves a
 * hole in the bytes of a stream that would go on: it ends.
 */
static void end_stream_with_hole(struct mux_session *s, uint32_t id) {
    static const char reason[] = "its bytes were lost with a connection";
    struct mux_stream *st = table_find(&s->table, id);
    if (!st)
        return;
    out_reset(st->l, st->id, WIRE_CODE_REFUSED_STREAM, reason);
    stream_end(st, WIRE_CODE_REFUSED_STREAM, ht_slice_str(reason), true);
}

void session_drop_rest(struct mux_session *s, struct mux_link *l) {
    const struct mux_half half = link_half(l);
    l->data_left = l->half.data_left = 0;
    if (half.data_left == 0)
        return;
    if (!half.discard)
        end_stream_with_hole(s, half.at.data_stream);
    /* Credit of bytes that will never come (FLOW-5). What was under way in the other direction cannot be known. */
    if (l->s == s)
        window_drop(s, half.data_left);
}

void session_link_gone(struct mux_session *s, struct mux_link *l, bool clean) {
    session_ref(s);
    /* One that goes while the session ends (a callback has destroyed it) is taken off like a secondary. */
    if (l->index == 0 && s->state != SESSION_OVER) {
        bool said_goodbye = clean || s->state == SESSION_GOING;
        session_finish(s,
                       &(struct session_end){
                           .why = s->state == SESSION_DRAINING ? MUX_END_LOCAL
                                  : said_goodbye               ? MUX_END_CLEAN
                                                               : MUX_END_LOST,
                           .text = said_goodbye ? "closed by the peer" : "connection lost",
                           .ws_code = WIRE_CLOSE_GOING_AWAY,
                           .stream_code = WIRE_CODE_REFUSED_STREAM,
                           .remote = true,
                       },
                       l);
        session_unref(s);
        return;
    }
    unsigned index = l->index;
    session_end_streams(s, l);
    mux_link_fed(l); /* what is still borrowed from it dies now */
    if (l->s == s)
        session_drop_rest(s, l);
    if (l->s == s) {
        link_detach(l);
        if (s->replay)
            resume_forget(s, index);
        if (session_alive(s) && s->ops->link_lost)
            s->ops->link_lost(s->ctx, l, index);
    }
    session_unref(s);
}

/* ---- ends ---- */

void session_finish(struct mux_session *s, const struct session_end *end, struct mux_link *but) {
    if (s->state == SESSION_OVER)
        return;
    session_ref(s);
    session_set_state(s, SESSION_OVER);
    while (!ht_list_empty(&s->all))
        stream_orphan(HT_LIST_ENTRY(s->all.next, struct mux_stream, all), (uint16_t)end->stream_code,
                      ht_slice_str(end->text), end->remote);
    for (unsigned i = 0; i < WIRE_LIMIT_MAX_CONNECTIONS; i++) {
        struct mux_link *l = s->links[i];
        if (!l)
            continue;
        link_ref(l);
        link_detach(l);
        if (l == but)
            l->dead = true;
        else
            link_close(l, end->ws_code, end->text);
        link_unref(l);
    }
    if (!s->destroyed && s->ops->over)
        s->ops->over(s->ctx, end->why, end->text);
    session_unref(s);
}

void mux_session_destroy(struct mux_session **sp) {
    struct mux_session *s = sp ? *sp : NULL;
    if (!s)
        return;
    *sp = NULL;
    s->destroyed = true;
    if (s->state != SESSION_OVER) {
        bool away = s->state == SESSION_AWAY; /* its links are lost, and now its streams are */
        session_set_state(s, SESSION_OVER);
        while (!ht_list_empty(&s->all))
            stream_orphan(HT_LIST_ENTRY(s->all.next, struct mux_stream, all),
                          away ? WIRE_CODE_REFUSED_STREAM : WIRE_CODE_CANCEL,
                          ht_slice_str(away ? "connection lost" : ""), away);
        for (unsigned i = 0; i < WIRE_LIMIT_MAX_CONNECTIONS; i++)
            if (s->links[i]) {
                s->links[i]->dead = true;
                link_detach(s->links[i]);
            }
    }
    session_unref(s);
}

bool session_is_handover(const struct mux_session *s, const struct wire_goaway *g) {
    return s->cfg.caps & WIRE_CAP_HANDOVER && g->code == WIRE_GOAWAY_RESTARTING_CODE &&
           ht_slice_is(g->message, WIRE_GOAWAY_RESTARTING_MESSAGE) && !g->retry_after_ms;
}

void session_send_goaway(struct mux_session *s, uint32_t code, const char *message) {
    struct wire_goaway g = {
        .code = (uint16_t)code,
        .message = ht_slice_str(message),
        .last_stream_id = s->next_id - 2,
    };
    struct mux_link *l = session_primary(s);
    /* Without memory for it, the close code that follows has to do. */
    if (l && out_session_frame(l, WIRE_GOAWAY, &g) < 0)
        s->failed = HT_ENOMEM;
}

int session_violation(struct mux_session *s, enum wire_code code, uint16_t ws_code, const char *text) {
    if (session_alive(s)) {
        session_send_goaway(s, code, text);
        session_finish(s,
                       &(struct session_end){
                           .why = MUX_END_VIOLATION,
                           .text = text,
                           .ws_code = ws_code,
                           .stream_code = WIRE_CODE_CANCEL,
                       },
                       NULL);
    }
    return HT_EPROTO;
}

void session_fail(struct mux_session *s, int err) { s->failed = err; }

void mux_session_shutdown(struct mux_session *s, uint16_t code, const char *message, uint64_t grace_ms,
                          uint16_t ws_code) {
    if (!session_alive(s))
        return;
    uint64_t until = grace_ms < UINT64_MAX - s->now_ms ? s->now_ms + grace_ms : UINT64_MAX;
    if (s->state == SESSION_DRAINING) {
        s->drain_until = until < s->drain_until ? until : s->drain_until;
        return;
    }
    s->drain_until = until;
    s->drain_ws_code = ws_code;
    if (message && s->state != SESSION_AWAY)
        session_send_goaway(s, code, message);
    if (s->state == SESSION_AWAY)
        mux_session_close(s);
    else if (s->state == SESSION_NEW) /* no link: nothing to wait for */
        session_finish(s, &(struct session_end){.why = MUX_END_LOCAL, .text = message}, NULL);
    else
        session_set_state(s, SESSION_DRAINING);
}

void mux_session_close(struct mux_session *s) {
    bool away = s->state == SESSION_AWAY;
    session_finish(s,
                   &(struct session_end){
                       .why = MUX_END_LOCAL,
                       .text = away ? "connection lost" : "closed",
                       .stream_code = away ? WIRE_CODE_REFUSED_STREAM : WIRE_CODE_CANCEL,
                       .remote = away,
                   },
                   NULL);
}

/* ---- the rest of the interface ---- */

int mux_session_send(struct mux_session *s, enum wire_frame_type type, const void *payload) {
    const struct wire_frame_rule *rule = wire_frame_rule((uint8_t)type);
    struct mux_link *l = session_primary(s);
    if (!session_alive(s) || !l)
        return HT_ECLOSED;
    if (!rule || rule->zero != WIRE_ZERO || !wire_frame_in(s->cfg.version, (uint8_t)type))
        return HT_EINVAL;
    return out_session_frame(l, type, payload);
}

void mux_session_set_bindings(struct mux_session *s, unsigned n) {
    s->bindings = n;
    s->idle_marked = false;
}

unsigned mux_session_streams(const struct mux_session *s) { return s->n_all; }
bool mux_link_is_busy(const struct mux_link *l) { return l->n_streams > 0; }
bool mux_session_owes(const struct mux_session *s) {
    bool owes = s->n_all > 0;
    for (unsigned i = 0; i < WIRE_LIMIT_MAX_CONNECTIONS && !owes; i++)
        owes = s->replay && s->links[i] &&
               (s->replay[i].acked < s->replay[i].sent || ht_buf_size(&s->links[i]->queue) > 0);
    return owes;
}

unsigned mux_session_links(const struct mux_session *s) { return s->n_links; }
uint32_t mux_session_next_id(const struct mux_session *s) { return s->next_id; }

bool mux_session_draining(const struct mux_session *s) {
    return s->state == SESSION_DRAINING || s->state == SESSION_GOING;
}

bool mux_session_short(const struct mux_session *s) {
    return s->room_wanted || (uint64_t)s->n_all * 4 >= (uint64_t)s->cfg.max_streams * 3 ||
           s->recv.held >= s->cfg.session_buffer - s->cfg.session_buffer / 4;
}

uint32_t mux_session_full(const struct mux_session *s) {
    return s->n_all >= s->cfg.max_streams ? s->cfg.max_streams : 0;
}

bool mux_session_congested(struct mux_session *s) {
    const struct mux_link *l = session_next_link(s);
    bool yes = l && ht_buf_size(&l->queue) >= MUX_CONGESTED;
    s->room_wanted = s->room_wanted || yes;
    return yes;
}

bool mux_session_agreed(const struct mux_session *s, unsigned capability) { return s->cfg.caps & capability; }
