#include "mux/mux_priv.h"

/* ---- credit from the peer ---- */

static int bad_grant(struct mux_session *s, enum flow_grant got) { /* FLOW-3 */
    if (got == FLOW_ZERO)
        return session_violation(s, WIRE_CODE_PROTOCOL_ERROR, WIRE_CLOSE_PROTOCOL_ERROR, "WINDOW of 0");
    return session_violation(s, WIRE_CODE_FLOW_CONTROL_ERROR, WIRE_CLOSE_PROTOCOL_ERROR,
                             "WINDOW above the window's size");
}

int window_session_grant(struct mux_session *s, uint32_t n) {
    enum flow_grant got = flow_send_grant(&s->send, n, s->send_limit);
    if (got == FLOW_ZERO || got == FLOW_OVERFLOW)
        return bad_grant(s, got);
    out_feed_starved(s);
    return 0;
}

int window_stream_grant(struct mux_stream *st, uint32_t n) {
    enum flow_grant got = flow_send_grant(&st->send, n, st->s->stream_send_limit);
    if (got == FLOW_ZERO || got == FLOW_OVERFLOW)
        return bad_grant(st->s, got);
    compat_window_seen(st);
    if (st->place == PLACE_BLOCKED && window_stream_room(st) > 0)
        stream_unblock(st);
    return 0;
}

uint32_t window_stream_room(const struct mux_stream *st) { return compat_send_room(st, st->send.credit); }

/* ---- credit for the peer ---- */

void window_drop(struct mux_session *s, uint32_t n) {
    flow_pool_drop(&s->recv, n);
    window_session_check(s);
}

void window_session_check(struct mux_session *s) {
    struct mux_link *l = session_primary(s);
    if (l && flow_recv_due(&s->recv.recv))
        link_wake(l);
}

void window_stream_check(struct mux_stream *st) {
    if (!stream_is_on(st) || stream_remote_ended(st) || ht_list_linked(&st->window) || !flow_recv_due(&st->recv))
        return;
    ht_list_push_back(&st->l->windows, &st->window);
    link_wake(st->l);
}

/*
 * Windows follow the way, as TCP's receivers do: one that a whole window of bytes passed within two round
 * trips holds them back, and doubles; twice when it was used up in half a round trip, and the sender stood for the
 * rest. One that lasts for LOOK_MS is far larger than the way needs, and shrinks to twice what it does need, which is
 * its first size if nothing came. A slow reader never makes one grow, so that what is held for it stays small.
 *
 * A short way counts as one of SHORT_WAY_MS. There it is no round trip that a sender stands for, but its turn of a
 * processor: with 1 MiB bulk was a tenth slower. A stream that is alone gets the session's first window at most.
 */
#define SHORT_WAY_MS 2
#define LOOK_MS 10000

uint32_t window_limit(const struct mux_session *s) {
    if (s->cfg.caps & WIRE_CAP_LARGE_WINDOW) /* FLOW-9 */
        return WIRE_LIMIT_MAX_LARGE_WINDOW;
    return s->cfg.caps & WIRE_CAP_AUTO_WINDOW ? WIRE_LIMIT_MAX_AUTO_WINDOW : 0; /* FLOW-8 */
}

/* How large a window should be that has got `n` bytes more. */
static uint32_t follow(const struct mux_session *s, uint32_t window, uint32_t first, struct mux_pace *pace,
                       uint32_t n) {
    uint32_t took = (uint32_t)s->now_ms - pace->since;
    if (window_limit(s) == 0 || !s->rtt_known)
        return window;
    pace->bytes += n;
    if (pace->bytes < window && took < LOOK_MS)
        return window;
    uint64_t to = window, most = ht_max(first, ht_min(s->cfg.max_window, window_limit(s))), rtt = s->rtt_ms;
    if (rtt < SHORT_WAY_MS) {
        rtt = SHORT_WAY_MS;
        most = ht_min64(most, ht_max(first, s->cfg.session_window));
    }
    if (took < 2 * rtt)
        to = ht_min64((uint64_t)window * (took < rtt / 2 ? 4 : 2), most);
    else if (took >= LOOK_MS)
        to = ht_min64(window, ht_max(first, 2 * (uint64_t)pace->bytes * rtt / took));
    *pace = (struct mux_pace){.bytes = 0, .since = (uint32_t)s->now_ms};
    return (uint32_t)to;
}

void window_session_came(struct mux_session *s, uint32_t n) {
    uint32_t now = s->recv.recv.window;
    flow_pool_hold(&s->recv, n);
    uint32_t to = s->cfg.caps & WIRE_CAP_LARGE_WINDOW ? follow(s, now, s->cfg.session_window, &s->pace, n) : now;
    if (to != now)
        flow_pool_resize(&s->recv, to);
    window_session_check(s);
}

void mux_stream_consumed(struct mux_stream *st, size_t n) {
    struct mux_session *s = st->s;
    if (!s)
        return;
    n = ht_min(n, st->unconsumed);
    st->unconsumed -= (uint32_t)n;
    flow_pool_finish(&s->recv, n);
    window_session_check(s);
    if (!stream_is_on(st) || stream_remote_ended(st))
        return;
    flow_recv_give(&st->recv, (uint32_t)n);
    uint32_t to = follow(s, st->recv.window, s->cfg.stream_window, &st->pace, (uint32_t)n);
    if (to != st->recv.window)
        flow_recv_resize(&st->recv, to);
    window_stream_check(st);
}
