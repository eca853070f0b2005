/*
 * What published drivers need, and our own do not: everything here is off when the peer has named one of our
 * capabilities.
 */
#include "mux/internal.h"

static bool wanted(const struct mux_session *s) { return s->cfg.role == WIRE_ROLE_KIT && !s->cfg.own_peer; }

/*
 * A published driver gathers what comes for a stream in a list until its local connection stands. Over 1 MiB there it
 * resets the stream (HTTP) or never wakes up again (TCP), and a TCP EOF throws away what was gathered. It gives credit
 * for what it gathers at once, so a WINDOW tells that it has seen the stream and no more. That the connection stands is
 * known when something comes back on the stream; else we take it for granted DIAL_SETTLE after its last WINDOW. Until
 * then we stay below the limit (FLOW-7) and hold a TCP EOF back.
 *
 * When nothing was sent no WINDOW will come, so an EOF alone waits for DIAL_SETTLE only; and a driver that gathers its
 * WINDOWs may never send one for a few bytes, so after EOF_PATIENCE the EOF goes out in any case. All of it counts from
 * the first tick that sees the stream waiting: time is not known more exactly, and too late is harmless.
 */
#define EOF_PATIENCE_MS 10000u

uint32_t compat_send_room(const struct mux_stream *st, uint32_t room) {
    if (st->dialled || !wanted(st->s) || HT_MUTANT(FLOW_7))
        return room;
    return (uint32_t)ht_min(room, WIRE_LIMIT_FIRST_BURST - st->sent);
}

void compat_sent(struct mux_stream *st, uint32_t n) {
    if (!st->dialled)
        st->sent += (uint32_t)ht_min(n, WIRE_LIMIT_FIRST_BURST - st->sent);
}

static void put_aside(struct mux_stream *st) {
    st->settle_at = 0;
    ht_list_push_back(&st->s->dialling, &st->turn);
    st->s->settle_check_at = st->s->now_ms;
}

bool compat_hold_eof(struct mux_stream *st) {
    if (st->kind != WIRE_KIND_TCP || st->dialled || !wanted(st->s))
        return false;
    st->eof_held = true;
    put_aside(st);
    return true;
}

void compat_hold_burst(struct mux_stream *st) {
    if (!st->dialled && wanted(st->s))
        put_aside(st);
}

static void release(struct mux_stream *st) {
    ht_list_remove(&st->turn);
    if (st->eof_held) {
        st->eof_held = false;
        out_enter(st, true);
    } else if (st->send.credit > 0) {
        stream_unblock(st);
    }
}

/* In session->dialling: put aside by one of the two above. */
static bool is_aside(const struct mux_stream *st) { return ht_list_linked(&st->turn) && (st->eof_held || st->blocked); }

void compat_window_seen(struct mux_stream *st) {
    st->window_seen = true;
    if (!st->dialled && is_aside(st)) { /* the wait begins, or begins again: it is still busy gathering */
        st->settle_at = 0;
        st->s->settle_check_at = st->s->now_ms;
    }
}

void compat_heard(struct mux_stream *st) {
    if (st->dialled)
        return;
    st->dialled = true;
    if (is_aside(st))
        release(st);
}

/* When the stream need not wait longer; UINT64_MAX: not before something comes. */
static uint64_t settle_at(const struct mux_stream *st) {
    if (st->window_seen || st->sent == 0)
        return st->s->now_ms + WIRE_LIMIT_DIAL_SETTLE;
    return st->eof_held ? st->s->now_ms + EOF_PATIENCE_MS : UINT64_MAX;
}

void compat_tick(struct mux_session *s) {
    if (s->now_ms < s->settle_check_at)
        return;
    s->settle_check_at = UINT64_MAX;
    struct ht_list due;
    ht_list_init(&due);
    HT_LIST_FOR_SAFE (node, &s->dialling) {
        struct mux_stream *st = HT_LIST_ENTRY(node, struct mux_stream, turn);
        if (st->settle_at == 0)
            st->settle_at = settle_at(st);
        if (s->now_ms >= st->settle_at) {
            ht_list_remove(&st->turn);
            ht_list_push_back(&due, &st->turn);
        } else if (st->settle_at < s->settle_check_at) {
            s->settle_check_at = st->settle_at;
        }
    }
    /* Calls upward may end any of them, which takes it off the list. */
    while (!ht_list_empty(&due))
        compat_heard(HT_LIST_ENTRY(due.next, struct mux_stream, turn));
}
