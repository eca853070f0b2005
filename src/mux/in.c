#include "mux/mux_priv.h"

#include <stdio.h>

/* ---- what goes wrong too often ---- */

int in_fault(struct mux_session *s) {
    if (!session_alive(s))
        return HT_EPROTO;
    if (s->faults_left > 0) {
        s->faults_left--;
        return 0;
    }
    return session_violation(s, WIRE_CODE_ENHANCE_YOUR_CALM, WIRE_CLOSE_PROTOCOL_ERROR, "too many broken streams");
}

/* For a stream that never was (STREAM-7). */
static int stray(struct mux_session *s) {
    if (++s->strays <= WIRE_LIMIT_OF(s->cfg.version, MAX_STRAY_FRAMES))
        return 0;
    return session_violation(s, WIRE_GOAWAY_STRAY_FRAMES_CODE, WIRE_GOAWAY_STRAY_FRAMES_CLOSE,
                             WIRE_GOAWAY_STRAY_FRAMES_MESSAGE);
}

/* `st` NULL: it is not open, and was once when its id was used (STREAM-6). */
static enum wire_stream_state state_of(const struct mux_session *s, uint32_t id, const struct mux_stream *st) {
    if (st)
        return st->state;
    bool used = id % 2 == 0 && (id < s->next_id || s->next_id == 0); /* 0: behind the last */
    return used ? WIRE_STATE_CLOSED : WIRE_STATE_IDLE;
}

/* Asks the spec's row of the frame. Negative: stop; else *verdict is no breach. */
static int check_state(struct mux_session *s, uint8_t type, uint32_t id, struct mux_stream *st,
                       enum wire_stream_verdict *verdict) {
    struct wire_error err;
    enum wire_stream_state state = state_of(s, id, st);
    *verdict = wire_check_stream(type, state, &err);
    if (*verdict == WIRE_STREAM_BREACH) { /* STREAM-4 */
        *verdict = WIRE_STREAM_IGNORE;
        return st ? stream_violation(st, err.code, err.text) : in_fault(s);
    }
    return *verdict != WIRE_STREAM_TAKE && state == WIRE_STATE_IDLE ? stray(s) : 0;
}

/* Frames that make us answer: a peer that asks and never reads ends here, not in our memory. */
static int check_answers(struct mux_session *s, const struct mux_link *l) {
    if (ht_buf_size(&l->queue) <= MUX_QUEUE_MAX)
        return 0;
    return session_violation(s, WIRE_CODE_ENHANCE_YOUR_CALM, WIRE_CLOSE_POLICY_VIOLATION,
                             "the peer does not read what it is sent");
}

/* ---- streams ---- */

static int refuse(struct mux_session *s, struct mux_link *l, uint32_t id, enum wire_code code, const char *reason) {
    int rc = check_answers(s, l);
    if (rc < 0)
        return rc;
    out_reset(l, id, (uint16_t)code, reason);
    return 0;
}

/* It is not the stream's fault, and another one may do better: visitors are told so (ANSWER-2). */
static int refuse_as(struct mux_session *s, struct mux_link *l, uint32_t id, enum wire_origin_error error,
                     const char *text) {
    char reason[128];
    snprintf(reason, sizeof reason, "%s: %s", wire_origin_error_text(error), text);
    return refuse(s, l, id, WIRE_CODE_REFUSED_STREAM, reason);
}

static int on_stream_open(struct mux_session *s, struct mux_link *l, uint32_t id, const uint8_t *payload, size_t len) {
    /* STREAM-1, STREAM-2. */
    struct mux_stream *old = table_find(&s->table, id);
    enum wire_stream_verdict verdict;
    if (old)
        return check_state(s, WIRE_STREAM_OPEN, id, old, &verdict);
    if (id % 2 != 0 || id < l->next_id || l->ids_used_up || !ids_take(s, id)) {
        int rc = refuse(s, l, id, WIRE_CODE_PROTOCOL_ERROR, "stream id is odd or old");
        return rc < 0 ? rc : in_fault(s);
    }
    l->ids_used_up = id > UINT32_MAX - 2;
    l->next_id = id + 2;
    struct wire_stream_open open;
    struct wire_error err;
    if (wire_decode_stream_open(payload, len, link_scratch(), &open, &err) < 0) {
        int rc = refuse(s, l, id, err.code, err.text);
        return rc < 0 ? rc : in_fault(s);
    }
    /* GOAWAY on the primary may overtake what was opened before it on another link. */
    if (s->state != SESSION_LIVE && (s->state != SESSION_GOING || id > s->going_last))
        return refuse_as(s, l, id, WIRE_ORIGIN_ERROR_GOING_AWAY, "the session ends");
    if (s->n_all >= s->cfg.max_streams)
        return refuse_as(s, l, id, WIRE_ORIGIN_ERROR_TOO_MANY, "too many streams");
    if (s->churn_left == 0) /* STREAM-8 */
        return refuse_as(s, l, id, WIRE_ORIGIN_ERROR_TOO_MANY, "too many streams are reset");
    struct mux_stream *st = stream_create(s, l, id, open.kind);
    if (!st)
        return refuse_as(s, l, id, WIRE_ORIGIN_ERROR_BUSY, ht_err_text(HT_ENOMEM));
    stream_await_answer(st, &open);
    st->request = open.kind == WIRE_KIND_HTTP && open.is_upgrade ? REQUEST_DUE : REQUEST_PLAIN;
    stream_ref(st);
    if (s->ops->stream_open)
        s->ops->stream_open(s->ctx, st, &open);
    if (stream_is_on(st) && !st->ops) /* nobody took it, and a dead end is worse than a refusal */
        mux_stream_reset(st, WIRE_CODE_REFUSED_STREAM, "not accepted");
    stream_unref(st);
    return 0;
}

static int on_response_head(struct mux_session *s, struct mux_link *l, struct mux_stream *st, const uint8_t *payload,
                            size_t len) {
    struct wire_response_head head;
    struct wire_error err;
    size_t rewritten = compat_head_in(s, payload, len, link_text());
    if (rewritten) {
        payload = link_text();
        len = rewritten;
    }
    if (wire_decode_response_head(payload, len, link_scratch(), &head, &err) < 0)
        return stream_violation(st, err.code, err.text);
    if (st->kind != WIRE_KIND_HTTP)
        return stream_violation(st, WIRE_CODE_PROTOCOL_ERROR, "response head on a TCP stream");
    if (st->head != HEAD_DUE) /* HTTP-7 */
        return stream_violation(st, WIRE_CODE_PROTOCOL_ERROR, "response head after the final one");
    bool interim = head.status < 200 && head.status != 101;
    if (interim == head.final)
        return stream_violation(st, WIRE_CODE_PROTOCOL_ERROR, "status and final disagree");
    if (interim && ++st->interim > WIRE_LIMIT_MAX_INTERIM)
        return stream_violation(st, WIRE_CODE_ENHANCE_YOUR_CALM, "too many interim heads");
    if (head.final)
        stream_head_passed(st, head.status);
    stream_ref(st);
    stream_mark_batch(st, l);
    if (st->ops && st->ops->response_head)
        st->ops->response_head(st->ctx, &head);
    compat_heard(st);
    stream_unref(st);
    return 0;
}

/* NAME-7. */
static int on_connected(struct mux_stream *st) {
    if (st->kind != WIRE_KIND_TCP || st->head != HEAD_DUE)
        return stream_violation(st, WIRE_CODE_PROTOCOL_ERROR, "STREAM_CONNECTED on a stream that does not wait for it");
    st->head = HEAD_PASSED;
    stream_ref(st);
    if (st->ops && st->ops->connected)
        st->ops->connected(st->ctx);
    stream_unref(st);
    return 0;
}

/* What the peer may not do on this stream now, or NULL. For DATA, trailers and EOF; after trailers an EOF is fine. */
static const char *out_of_order(const struct mux_session *s, const struct mux_stream *st) {
    if (s->cfg.role == WIRE_ROLE_KIT && st->head == HEAD_DUE) /* NAME-7 */
        return st->kind == WIRE_KIND_HTTP ? "a frame before the response head" : "a frame before STREAM_CONNECTED";
    if (st->trailers_in) /* TRAIL-1 */
        return "a frame after the trailers";
    return NULL;
}

static int on_trailers(struct mux_session *s, struct mux_link *l, struct mux_stream *st, const uint8_t *payload,
                       size_t len) {
    struct wire_trailers t;
    struct wire_error err;
    const char *wrong = out_of_order(s, st);
    if (wrong)
        return stream_violation(st, WIRE_CODE_PROTOCOL_ERROR, wrong);
    if (st->kind != WIRE_KIND_HTTP || st->head == HEAD_SWITCHED)
        return stream_violation(st, WIRE_CODE_PROTOCOL_ERROR, "trailers on a stream of raw bytes");
    if (wire_decode_trailers(payload, len, link_scratch(), &t, &err) < 0)
        return stream_violation(st, err.code, err.text);
    st->trailers_in = true;
    stream_ref(st);
    stream_mark_batch(st, l);
    if (st->ops && st->ops->trailers)
        st->ops->trailers(st->ctx, &t);
    stream_unref(st);
    return 0;
}

static int on_eof(struct mux_session *s, struct mux_link *l, struct mux_stream *st) {
    const char *wrong = st->trailers_in ? NULL : out_of_order(s, st);
    if (wrong)
        return stream_violation(st, WIRE_CODE_PROTOCOL_ERROR, wrong);
    if (s->cfg.role == WIRE_ROLE_DRIVER && stream_request_eof(st)) {
        st->request = REQUEST_PASSED;
        st->trailers_in = false;
        return 0;
    }
    stream_end_remote(st);
    stream_ref(st);
    stream_mark_batch(st, l);
    if (st->ops && st->ops->eof)
        st->ops->eof(st->ctx);
    if (stream_is_on(st))
        stream_check_done(st);
    stream_unref(st);
    return 0;
}

static int on_reset(struct mux_session *s, struct mux_stream *st, const uint8_t *payload, size_t len) {
    struct wire_reset r;
    struct wire_error err;
    if (wire_decode_reset(payload, len, link_scratch(), &r, &err) < 0) {
        r.reason = ht_slice_str(err.text); /* it ends the stream all the same */
        r.code = (uint16_t)err.code;
    }
    /* Unknown codes count as CANCEL. So does 0: closed() keeps that for an end in order. */
    if (r.code == WIRE_CODE_NO_ERROR || r.code > WIRE_CODE_RESOURCE_EXHAUSTED)
        r.code = WIRE_CODE_CANCEL;
    if (s->cfg.metrics)
        s->cfg.metrics->resets_total[ht_metric_code_of(r.code)][HT_METRIC_DIRECTION_RECEIVED]++;
    stream_end(st, r.code, r.reason, true);
    /* STREAM-8. A driver dials for each stream, so one that is opened only to be reset has its price. But who resets is
     * a visitor: the kit passes it on, and is not to blame. */
    if (s->cfg.role == WIRE_ROLE_DRIVER && s->churn_left > 0)
        s->churn_left--;
    return 0;
}

static int on_window(struct mux_session *s, uint32_t id, const uint8_t *payload, size_t len) {
    struct wire_window w;
    struct wire_error err;
    if (wire_decode_window(payload, len, link_scratch(), &w, &err) < 0)
        return session_violation(s, err.code, err.ws_close, err.text);
    if (id == 0)
        return window_session_grant(s, w.increment);
    struct mux_stream *st = table_find(&s->table, id);
    enum wire_stream_verdict verdict;
    int rc = check_state(s, WIRE_WINDOW, id, st, &verdict);
    return verdict == WIRE_STREAM_TAKE ? window_stream_grant(st, w.increment) : rc;
}

static int stream_frame(struct mux_session *s, struct mux_link *l, uint8_t type, uint32_t id, const uint8_t *payload,
                        size_t len) {
    if (type == WIRE_STREAM_OPEN)
        return on_stream_open(s, l, id, payload, len);
    if (type == WIRE_WINDOW)
        return on_window(s, id, payload, len);
    struct mux_stream *st = table_find(&s->table, id);
    enum wire_stream_verdict verdict;
    int rc = check_state(s, type, id, st, &verdict);
    if (verdict != WIRE_STREAM_TAKE)
        return rc;
    switch (type) {
    case WIRE_STREAM_RESPONSE_HEAD:
        return on_response_head(s, l, st, payload, len);
    case WIRE_STREAM_TRAILERS:
        return on_trailers(s, l, st, payload, len);
    case WIRE_STREAM_CONNECTED:
        return on_connected(st);
    case WIRE_EOF:
        return on_eof(s, l, st);
    case WIRE_RESET:
        return on_reset(s, st, payload, len);
    default:
        return 0;
    }
}

/* Credit for the whole frame is taken when it begins. 0: go on, *discard tells how. */
static int begin_data(struct mux_session *s, uint32_t id, uint32_t frame_len, bool *discard) {
    *discard = true;
    if (!flow_recv_take(&s->recv.recv, frame_len)) /* FLOW-4 */
        return session_violation(s, WIRE_CODE_FLOW_CONTROL_ERROR, WIRE_CLOSE_PROTOCOL_ERROR,
                                 "more DATA than session credit");
    struct mux_stream *st = table_find(&s->table, id);
    enum wire_stream_verdict verdict;
    int rc = check_state(s, WIRE_DATA, id, st, &verdict);
    if (verdict != WIRE_STREAM_TAKE)
        return rc; /* the credit goes back: WIRE_STREAM_CREDIT, or that of a stream that has ended */
    const char *wrong = out_of_order(s, st);
    if (wrong)
        return stream_violation(st, WIRE_CODE_PROTOCOL_ERROR, wrong);
    if (!flow_recv_take(&st->recv, frame_len)) /* FLOW-4 */
        return stream_violation(st, WIRE_CODE_FLOW_CONTROL_ERROR, "more DATA than stream credit");
    if (s->cfg.role == WIRE_ROLE_DRIVER && st->head != HEAD_DUE &&
        st->request == REQUEST_DUE) /* before the head it is the body, and its EOF comes */
        st->request = REQUEST_PASSED;
    *discard = false;
    return 0;
}

int in_data(struct mux_session *s, struct mux_link *l, uint32_t id, const uint8_t *p, size_t n, uint32_t frame_len,
            bool first) {
    if (first) {
        int rc = begin_data(s, id, frame_len, &l->discard);
        if (rc < 0)
            return rc;
        l->data_left = frame_len;
        s->received[l->index] += frame_len;
    }
    l->data_left -= (uint32_t)n;
    if (n == 0)
        return 0;
    struct mux_stream *st = l->discard ? NULL : table_find(&s->table, id);
    if (!st) { /* FLOW-5 */
        window_drop(s, (uint32_t)n);
        return 0;
    }
    window_session_came(s, (uint32_t)n);
    st->unconsumed += (uint32_t)n;
    if (s->cfg.metrics)
        s->cfg.metrics->bytes_total[st->kind == WIRE_KIND_HTTP ? HT_METRIC_MODE_EXPOSE : HT_METRIC_MODE_PULL]
                                   [HT_METRIC_DIRECTION_RECEIVED] += n;
    stream_ref(st);
    stream_mark_batch(st, l);
    if (st->ops && st->ops->data)
        st->ops->data(st->ctx, p, n);
    compat_heard(st);
    stream_unref(st);
    return 0;
}

/* ---- the session ---- */

static int on_goaway(struct mux_session *s, const struct wire_goaway *g) {
    if (s->cfg.metrics)
        s->cfg.metrics->goaways_total[ht_metric_code_of(g->code)][HT_METRIC_DIRECTION_RECEIVED]++;
    if (s->ops->goaway)
        s->ops->goaway(s->ctx, g);
    if (!session_alive(s))
        return HT_ECLOSED;
    if (s->cfg.role == WIRE_ROLE_DRIVER) { /* the kit closes when it is through */
        bool live = s->state == SESSION_LIVE;
        s->restarts = (live || s->restarts) && session_is_handover(s, g);
        if (live) {
            s->going_last = g->last_stream_id;
            session_set_state(s, SESSION_GOING);
        }
        return 0;
    }
    session_finish(s, /* END-1 */
                   &(struct session_end){
                       .why = MUX_END_CLEAN,
                       .text = "GOAWAY from the peer",
                       .ws_code = WIRE_CLOSE_NORMAL,
                       .stream_code = WIRE_CODE_CANCEL,
                       .remote = true,
                   },
                   NULL);
    return HT_ECLOSED;
}

static int on_ping(struct mux_session *s, uint8_t type, const struct wire_ping *ping) {
    if (type == WIRE_PING) {
        if (s->cfg.metrics)
            s->cfg.metrics->pings_total[HT_METRIC_DIRECTION_RECEIVED]++;
        if (session_primary(s)) /* FRAME-10, even when the PING came on a secondary */
            out_pong(session_primary(s), ping->nonce);
        return 0;
    }
    uint64_t nonce;
    memcpy(&nonce, ping->nonce, sizeof nonce);
    if (!s->ping_sent || nonce != s->ping_nonce)
        return 0; /* late or made up */
    s->ping_sent = s->in_order = false;
    s->rtt_known = true;
    uint64_t now_us = session_measured_us(s), rtt_us = now_us > s->ping_us ? now_us - s->ping_us : 0;
    s->rtt_ms = rtt_us / 1000;
    if (s->cfg.metrics)
        ht_metrics_observe_ping_rtt_seconds(s->cfg.metrics, rtt_us);
    if (s->ops->pong)
        s->ops->pong(s->ctx, rtt_us);
    return 0;
}

#define UP(name, member)                                                                                               \
    do {                                                                                                               \
        if (s->ops->name)                                                                                              \
            s->ops->name(s->ctx, &any->member);                                                                        \
    } while (0)

/* wire_check_rx() has seen to it that only frames of the other role come here. */
static int hand_up(struct mux_session *s, uint8_t type, const union wire_any *any) {
    switch (type) {
    case WIRE_BIND:
        if (s->ops->bind)
            s->ops->bind(s->ctx, &any->bind, NULL);
        break;
    case WIRE_UNBIND:
        UP(unbind, unbind);
        break;
    case WIRE_BIND_OK:
        if (any->bind_ok.container_port == 0 && !mux_session_agreed(s, WIRE_CAP_NAMES)) /* NAME-3 */
            return session_violation(s, WIRE_CODE_PROTOCOL_ERROR, WIRE_CLOSE_PROTOCOL_ERROR,
                                     "BIND_OK.containerPort is 0, and nothing without a port was agreed on");
        UP(bind_ok, bind_ok);
        break;
    case WIRE_BIND_ERR:
        UP(bind_err, bind_err);
        break;
    case WIRE_UNBIND_OK:
        UP(unbind_ok, unbind_ok);
        break;
    case WIRE_UNBIND_ERR:
        UP(unbind_err, unbind_err);
        break;
    case WIRE_BIND_REVOKED:
        UP(bind_revoked, bind_revoked);
        break;
    case WIRE_SHARD_MAP:
        UP(shard_map, shard_map);
        break;
    case WIRE_REISSUE_JOIN_TICKETS:
        if (s->cfg.role == WIRE_ROLE_KIT)
            UP(reissue, reissue);
        else
            UP(reissued, reissue);
        break;
    case WIRE_PING:
    case WIRE_PONG:
        return on_ping(s, type, &any->ping);
    case WIRE_GOAWAY:
        return on_goaway(s, &any->goaway);
    default: /* a frame of a later version that asks nothing of us */
        break;
    }
    return 0;
}

static int on_ack(struct mux_session *s, struct mux_link *l, const uint8_t *payload, size_t len) {
    struct wire_ack ack;
    struct wire_error err;
    if (wire_decode_ack(payload, len, link_scratch(), &ack, &err) < 0)
        return session_violation(s, err.code, err.ws_close, err.text);
    return resume_acked(s, l, ack.received);
}

static int session_frame(struct mux_session *s, struct mux_link *l, uint8_t type, const uint8_t *payload, size_t len) {
    union wire_any any;
    struct wire_error err;
    if (type == WIRE_ACK) /* only where it was agreed on: the assembler skips others */
        return on_ack(s, l, payload, len);
    if (type == WIRE_BIND || type == WIRE_UNBIND || type == WIRE_REISSUE_JOIN_TICKETS) {
        int rc = check_answers(s, session_primary(s));
        if (rc < 0)
            return rc;
    }
    if (wire_decode_any(type, payload, len, link_scratch(), &any, &err) == 0)
        return hand_up(s, type, &any);
    if (err.scope != WIRE_SCOPE_REPLY)
        return session_violation(s, err.code, err.ws_close, err.text);
    if (s->ops->bind) /* BIND-5 */
        s->ops->bind(s->ctx, &any.bind, &err);
    return 0;
}

int in_frame(struct mux_session *s, struct mux_link *l, uint8_t type, uint32_t id, const uint8_t *payload, size_t len) {
    /* FRAME-10. Published peers are taken as they are. */
    if (id == 0 && l->index != 0 && s->cfg.own_peer && !wire_frame_rule(type)->any_link)
        return session_violation(s, WIRE_CODE_PROTOCOL_ERROR, WIRE_CLOSE_PROTOCOL_ERROR,
                                 "a frame of the session on a connection that is not the first");
    return id != 0 || type == WIRE_WINDOW ? stream_frame(s, l, type, id, payload, len)
                                          : session_frame(s, l, type, payload, len);
}
