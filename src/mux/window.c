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
 * FLOW-8. A stream that gets through a whole window within two round trips is held back by it: the window doubles, up
 * to 16 MiB. A slow reader never gets there, so that what is held for it stays small. On a short way, and before the
 * round trip is known, the first window is large enough: a larger one would only lengthen the queue that small requests
 * wait in.
 */
#define SHORT_WAY_MS 2

static void maybe_grow(struct mux_stream *st, uint32_t n) {
    struct mux_session *s = st->s;
    if (!(s->cfg.caps & WIRE_CAP_AUTO_WINDOW) || !s->rtt_known || s->rtt_ms < SHORT_WAY_MS)
        return;
    st->grow_bytes += n;
    if (st->grow_bytes < st->recv.window)
        return;
    if (s->now_ms - st->grow_since < 2 * s->rtt_ms && st->recv.window < WIRE_LIMIT_MAX_AUTO_WINDOW)
        flow_recv_grow(&st->recv, (uint32_t)ht_min((size_t)st->recv.window * 2, WIRE_LIMIT_MAX_AUTO_WINDOW));
    st->grow_bytes = 0;
    st->grow_since = s->now_ms;
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
    maybe_grow(st, (uint32_t)n);
    window_stream_check(st);
}
