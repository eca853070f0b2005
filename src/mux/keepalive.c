/*
 * Everything that depends on time. Only mux_session_tick() changes the time. Events between two ticks are marked and
 * count from the next tick on, so a timer may fire late, but never early.
 */
#include "mux/mux_priv.h"

static bool idle(const struct mux_session *s) {
    return s->cfg.idle_timeout_ms && s->state == SESSION_LIVE && s->n_all == 0 && s->bindings == 0;
}

static bool drained(const struct mux_session *s) { return s->state == SESSION_DRAINING && s->n_all == 0; }

/* A session between auto-window peers measures its round trip once, early: growing windows go by it. */
static bool early_ping(const struct mux_session *s) {
    return s->cfg.caps & WIRE_CAP_AUTO_WINDOW && !s->rtt_known && !s->ping_sent && s->state == SESSION_LIVE;
}

static bool measure_due(const struct mux_session *s) {
    return s->cfg.measure_interval_ms && s->now_ms >= s->ping_at + s->cfg.measure_interval_ms;
}

uint64_t session_measured_us(const struct mux_session *s) {
    uint64_t ticked = s->now_ms * 1000;
    return s->measure_us > ticked ? s->measure_us : ticked;
}

void mux_session_measure(struct mux_session *s, uint64_t now_us) { s->measure_us = now_us; }

static void time_out(struct mux_session *s, enum mux_end why, uint32_t code, const char *message, uint16_t ws_code) {
    if (why == MUX_END_TIMEOUT && resume_away(s, ws_code, message, NULL))
        return;
    /* END-1: from a driver it would be a goodbye, and nothing would be left to resume. */
    if (s->cfg.role == WIRE_ROLE_KIT)
        session_send_goaway(s, code, message);
    session_finish(s,
                   &(struct session_end){
                       .why = why,
                       .text = message,
                       .ws_code = ws_code,
                       .stream_code = WIRE_CODE_REFUSED_STREAM,
                   },
                   NULL);
}

static void send_ping(struct mux_session *s) {
    struct wire_ping ping;
    s->ping_nonce++;
    if (s->cfg.random) /* a peer that made PONGs up ahead could pass a slow link for a quick one */
        s->cfg.random(&s->ping_nonce, sizeof s->ping_nonce);
    memcpy(ping.nonce, &s->ping_nonce, sizeof ping.nonce);
    if (out_session_frame(session_primary(s), WIRE_PING, &ping) < 0)
        return; /* the next tick tries again */
    s->ping_sent = true;
    s->ping_at = s->now_ms;
    s->ping_us = session_measured_us(s);
    if (s->cfg.metrics)
        s->cfg.metrics->pings_total[HT_METRIC_DIRECTION_SENT]++;
}

/* True while streams are open, bytes wait to be sent, or the peer is probed (KEEP-5). */
static bool under_way(const struct mux_session *s) {
    if (!s->cfg.suspect_after_ms)
        return false;
    if (s->probing || s->table.used > 0)
        return true;
    for (unsigned i = 0; i < WIRE_LIMIT_MAX_CONNECTIONS; i++)
        if (s->links[i] && s->links[i]->left_at)
            return true;
    return false;
}

/* How long something may be silent that is under way. */
static uint64_t patience(const struct mux_session *s) {
    return s->probing && s->patience_ms ? s->patience_ms : s->cfg.suspect_after_ms;
}

/*
 * KEEP-6. A time of the spec, as --suspect-after stands to what it has in the spec, or a multiple of what answers take
 * here. With the buffers of some routers that is seconds, which come and go.
 */
static uint64_t on_this_link(const struct mux_session *s, uint64_t ms) {
    uint64_t trip = ht_max64(s->ack_ms, s->rtt_known ? s->rtt_ms : 0);
    return ht_max64(ms * s->cfg.suspect_after_ms / WIRE_LIMIT_SUSPECT_AFTER, WIRE_LIMIT_ACK_TRIPS * trip);
}

/* When messages without an ACK have had their time; UINT64_MAX: none waits, or the session could not go on. */
static uint64_t ack_due(const struct mux_session *s) {
    uint64_t since = s->replay && s->cfg.suspect_after_ms ? resume_waits_since(s) : UINT64_MAX;
    return since == UINT64_MAX ? since : ht_max64(since, s->heard_at) + on_this_link(s, WIRE_LIMIT_ACK_OVERDUE);
}

/* The same for a PING that is out. What went on its way meanwhile was taken in by somebody. */
static uint64_t ack_late(const struct mux_session *s) {
    uint64_t since = ack_due(s);
    if (since == UINT64_MAX)
        return since;
    since = ht_max64(since, s->ping_at);
    since = ht_max64(since, s->moved_at);
    since = ht_max64(since, s->drained_at);
    return since + on_this_link(s, WIRE_LIMIT_ACK_PATIENCE);
}

/* When the next PING goes out for silence; UINT64_MAX: never. */
static uint64_t ping_due(const struct mux_session *s) {
    uint64_t wait = s->cfg.ping_interval_ms ? s->cfg.ping_interval_ms : UINT64_MAX;
    if (s->active && s->cfg.suspect_after_ms < wait)
        wait = s->cfg.suspect_after_ms;
    return ht_min64(wait < UINT64_MAX - s->heard_at ? s->heard_at + wait : UINT64_MAX, ack_due(s));
}

/*
 * When a PING that is out has had its time; UINT64_MAX: never. While something is under way that is sooner (KEEP-5),
 * unless it only takes its turn on a slow link: what had to wait for room and then got some was taken in by somebody.
 */
static uint64_t pong_due(const struct mux_session *s) {
    uint64_t at = s->cfg.pong_timeout_ms ? s->ping_at + s->cfg.pong_timeout_ms : UINT64_MAX;
    at = ht_min64(at, ack_late(s));
    if (!s->active)
        return at;
    uint64_t since = s->ping_at;
    since = ht_max(since, s->active_since);
    since = ht_max(since, s->heard_at);
    since = ht_max(since, s->moved_at);
    return ht_min64(at, since + patience(s));
}

/* A link to send something on. */
static bool has_link(const struct mux_session *s) {
    return session_alive(s) && s->state != SESSION_NEW && s->state != SESSION_AWAY;
}

/* A PING between two ticks goes out now, not at the last one: that may be as long ago as the peer has been silent. */
static void take_time(struct mux_session *s, uint64_t now_us) {
    mux_session_measure(s, now_us);
    s->now_ms = ht_max64(s->now_ms, now_us / 1000);
}

void mux_session_probe(struct mux_session *s, uint64_t now_us, uint64_t patience_ms) {
    if (!has_link(s) || !s->cfg.suspect_after_ms)
        return;
    take_time(s, now_us);
    if (s->probing) /* a clock that jumps all the time gives nobody more time */
        return;
    s->probing = true;
    s->patience_ms = patience_ms;
    s->ping_sent = false; /* the answer to an older one may be lost by now */
    send_ping(s);
}

static void tick_active(struct mux_session *s) {
    bool active = under_way(s);
    if (active && !s->active)
        s->active_since = s->now_ms;
    s->active = active;
}

void mux_session_ping(struct mux_session *s, uint64_t now_us) {
    if (!has_link(s))
        return;
    take_time(s, now_us);
    bool waiting = s->ping_sent;
    uint64_t since = s->ping_at;
    send_ping(s);
    if (waiting) /* an earlier one has no answer: silence counts from there */
        s->ping_at = since;
}

void mux_session_in_order(struct mux_session *s) {
    if (!session_alive(s) || !wire_frame_in(s->cfg.version, WIRE_JOIN))
        return;
    s->in_order = true;
    mux_session_ping(s, session_measured_us(s));
}

uint64_t mux_session_heard_ms(const struct mux_session *s) { return s->heard ? s->now_ms : s->heard_at; }

/*
 * KEEP-6, on a slow link: bytes are on their way all the time, and more and more of them arrive. A relay that is dead
 * takes in what comes, too, but then nothing is on its way any more. Four looks in the time that is left.
 */
static bool watches_drain(const struct mux_session *s) {
    const struct mux_link *l = session_primary(s);
    return s->ping_sent && l && l->ops->drained && ack_due(s) != UINT64_MAX;
}

static void look_at_drain(struct mux_session *s) {
    if (!watches_drain(s) || s->now_ms < s->drain_at)
        return;
    const struct mux_link *l = session_primary(s);
    bool waits;
    uint64_t before = s->drained;
    s->drained = l->ops->drained(l->ctx, &waits);
    if (!waits)
        s->drained = UINT64_MAX;
    else if (s->drain_at && s->drained > before)
        s->drained_at = s->now_ms;
    s->drain_at = s->now_ms + on_this_link(s, WIRE_LIMIT_ACK_PATIENCE) / 4 + 1;
}

static void tick_ping(struct mux_session *s) {
    tick_active(s);
    if (s->ping_sent) {
        look_at_drain(s);
        if (s->now_ms < pong_due(s))
            return;
        if (s->cfg.suspect_after_ms) /* KEEP-6: if this is wrong, it takes twice as long the next time */
            s->ack_ms =
                ht_min64(2 * on_this_link(s, WIRE_LIMIT_ACK_PATIENCE) / WIRE_LIMIT_ACK_TRIPS, s->cfg.suspect_after_ms);
        time_out(s, MUX_END_TIMEOUT, WIRE_GOAWAY_PONG_TIMEOUT_CODE, WIRE_GOAWAY_PONG_TIMEOUT_MESSAGE,
                 WIRE_GOAWAY_PONG_TIMEOUT_CLOSE);                             /* KEEP-2 */
    } else if (early_ping(s) || measure_due(s) || s->now_ms >= ping_due(s)) { /* KEEP-1 */
        send_ping(s);
        look_at_drain(s);
    }
}

static void tick_idle(struct mux_session *s) {
    if (!idle(s)) {
        s->idle_marked = false;
    } else if (!s->idle_marked) {
        s->idle_marked = true;
        s->idle_since = s->now_ms;
    } else if (s->now_ms >= s->idle_since + s->cfg.idle_timeout_ms) { /* KEEP-3 */
        time_out(s, MUX_END_IDLE, WIRE_GOAWAY_IDLE_CODE, WIRE_GOAWAY_IDLE_MESSAGE, WIRE_GOAWAY_IDLE_CLOSE);
    }
}

static void tick_drain(struct mux_session *s) {
    if (s->state != SESSION_DRAINING || (s->n_all > 0 && s->now_ms < s->drain_until))
        return;
    HT_LIST_FOR (node, &s->all) { /* KILL-1: what is left is cut */
        struct mux_stream *st = HT_LIST_ENTRY(node, struct mux_stream, all);
        if (stream_is_on(st))
            out_reset(st->l, st->id, WIRE_CODE_CANCEL, "session closed");
    }
    session_finish(s,
                   &(struct session_end){
                       .why = MUX_END_LOCAL,
                       .text = "closed",
                       .ws_code = s->drain_ws_code,
                       .stream_code = WIRE_CODE_CANCEL,
                   },
                   NULL);
}

static void tick_budgets(struct mux_session *s) {
    uint64_t back = (s->now_ms - s->budgets_at) * MUX_CHURN_RATE / 1000;
    if (back == 0)
        return;
    s->faults_left = (uint32_t)ht_min(s->faults_left + back, MUX_CHURN_BURST);
    s->churn_left = (uint32_t)ht_min(s->churn_left + back, MUX_CHURN_BURST);
    s->budgets_at = s->now_ms;
}

void mux_session_tick(struct mux_session *s, uint64_t now_ms) {
    if (!session_alive(s) || s->state == SESSION_NEW)
        return;
    session_ref(s);
    s->now_ms = now_ms > s->now_ms ? now_ms : s->now_ms;
    if (s->heard) {
        s->heard = false;
        s->probing = s->probing && s->ping_sent; /* until the PONG: other frames may have been on their way already */
        s->drain_at = 0;
        s->heard_at = s->now_ms;
    }
    tick_budgets(s);
    if (s->failed)
        session_finish(s,
                       &(struct session_end){
                           .why = MUX_END_LOST,
                           .text = ht_err_text(s->failed),
                           .ws_code = WIRE_CLOSE_INTERNAL_ERROR,
                           .stream_code = WIRE_CODE_INTERNAL_ERROR,
                       },
                       NULL);
    if (has_link(s))
        tick_drain(s);
    if (has_link(s) && s->replay) {
        resume_tick(s);
        if (has_link(s)) /* the last streams may have ended with it */
            tick_drain(s);
    }
    if (has_link(s))
        tick_ping(s);
    if (has_link(s))
        tick_idle(s);
    if (has_link(s))
        compat_tick(s);
    session_unref(s);
}

static uint64_t earlier(uint64_t a, uint64_t b) { return a < b ? a : b; }

uint64_t mux_session_deadline(const struct mux_session *s) {
    uint64_t at = UINT64_MAX;
    if (!session_alive(s) || s->state == SESSION_NEW || (s->state == SESSION_AWAY && !s->failed))
        return at;
    if (s->failed || drained(s) || early_ping(s) || (idle(s) && !s->idle_marked) || under_way(s) != s->active)
        return s->now_ms;
    if (s->state == SESSION_DRAINING)
        at = earlier(at, s->drain_until);
    at = earlier(at, s->ping_sent ? pong_due(s) : ping_due(s));
    if (watches_drain(s))
        at = earlier(at, s->drain_at);
    if (!s->ping_sent && s->cfg.measure_interval_ms)
        at = earlier(at, s->ping_at + s->cfg.measure_interval_ms);
    if (idle(s))
        at = earlier(at, s->idle_since + s->cfg.idle_timeout_ms);
    if (s->faults_left < MUX_CHURN_BURST || s->churn_left < MUX_CHURN_BURST) /* to fill them up again */
        at = earlier(at, s->budgets_at + 1000);
    if (s->replay)
        at = earlier(at, resume_deadline(s));
    return earlier(at, s->settle_check_at);
}
