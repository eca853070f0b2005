/*
 * What published drivers need, and our own do not: everything here is off when the peer has named one of our
 * capabilities.
 */
#include "mux/internal.h"

static bool wanted(const struct mux_session *s) { return s->cfg.role == WIRE_ROLE_KIT && !s->cfg.own_peer; }

/*
 * A published driver gathers what comes for a stream in a list until its local connection stands. Over 1 MiB there it
 * resets the stream (HTTP) or never wakes up again (TCP). It sends WINDOW once it drains the list, so until then we
 * stay below (FLOW-7).
 */
uint32_t compat_send_room(const struct mux_stream *st, uint32_t room) {
    if (st->window_seen || !wanted(st->s))
        return room;
    return (uint32_t)ht_min(room, WIRE_LIMIT_FIRST_BURST - st->sent);
}

void compat_sent(struct mux_stream *st, uint32_t n) {
    if (!st->window_seen)
        st->sent += (uint32_t)ht_min(n, WIRE_LIMIT_FIRST_BURST - st->sent);
}

/*
 * A TCP EOF that reaches a published driver before its local connection stands makes it throw everything away that came
 * before. The first WINDOW shows that the connection stands. When nothing was sent no WINDOW will come, so we give the
 * dial 100 ms; and a driver that gathers its WINDOWs may never send one for a few bytes, so after EOF_PATIENCE the EOF
 * goes out in any case. Both count from the first tick that sees the EOF waiting: time is not known more exactly, and
 * too late is harmless.
 */
#define EOF_PATIENCE_MS 10000u

bool compat_hold_eof(struct mux_stream *st) {
    struct mux_session *s = st->s;
    if (st->kind != WIRE_KIND_TCP || st->window_seen || !wanted(s))
        return false;
    st->eof_held = true;
    st->eof_until = 0;
    ht_list_push_back(&s->held_eofs, &st->turn);
    s->eof_check_at = s->now_ms;
    return true;
}

static void release(struct mux_stream *st) {
    ht_list_remove(&st->turn);
    st->eof_held = false;
    out_enter(st, true);
}

void compat_window_seen(struct mux_stream *st) {
    st->window_seen = true;
    if (st->eof_held)
        release(st);
}

void compat_tick(struct mux_session *s) {
    if (s->now_ms < s->eof_check_at)
        return;
    s->eof_check_at = UINT64_MAX;
    HT_LIST_FOR_SAFE (node, &s->held_eofs) {
        struct mux_stream *st = HT_LIST_ENTRY(node, struct mux_stream, turn);
        if (st->eof_until == 0)
            st->eof_until = s->now_ms + (st->sent > 0 ? EOF_PATIENCE_MS : WIRE_LIMIT_TCP_EOF_DELAY);
        if (s->now_ms >= st->eof_until)
            release(st);
        else if (st->eof_until < s->eof_check_at)
            s->eof_check_at = st->eof_until;
    }
}
