/*
 * Credit-based flow control, the arithmetic alone: send windows, receive windows, and the session's receive window with
 * its buffer. Nothing here knows streams, frames or time. Rules FLOW-1 to FLOW-8 of spec/protocol.yaml.
 *
 * All counts are bytes of DATA payload.
 */
#ifndef HT_FLOW_FLOW_H
#define HT_FLOW_FLOW_H

#include "base/base.h"
#include "wire_gen.h"

/*
 * Existing senders take credit in pieces of up to this many bytes, first in first out: with less than one piece left
 * they may stand still (FLOW-2). Equals the largest payload of a frame.
 */
#define FLOW_PIECE WIRE_LIMIT_MAX_PAYLOAD

/* ---- sending: what the peer lets us send ---- */

struct flow_send {
    uint32_t credit;
};

static inline void flow_send_init(struct flow_send *w, uint32_t initial) { w->credit = initial; }

/* `n` bytes leave; n <= credit. */
static inline void flow_send_take(struct flow_send *w, uint32_t n) { w->credit -= n; }

enum flow_grant {
    FLOW_GRANTED,   /* more credit than before, and there was some left */
    FLOW_UNBLOCKED, /* there was none: whoever waits for this window can go on */
    FLOW_ZERO,      /* an increment of 0; the window is unchanged (FLOW-3) */
    FLOW_OVERFLOW,  /* would lift the window above `limit`; unchanged (FLOW-3) */
};

/* WINDOW came. `limit` is the window's first size, or what auto-window allows (FLOW-8). */
enum flow_grant flow_send_grant(struct flow_send *w, uint32_t increment, uint32_t limit) HT_MUST_USE;

/* ---- receiving: what we let the peer send ---- */

/* Always holds: avail + owed + (bytes received and not given back) == window. */
struct flow_recv {
    uint32_t window; /* size */
    uint32_t avail;  /* what the peer may still send */
    uint32_t owed;   /* finished with, and not yet announced in a WINDOW */
};

static inline void flow_recv_init(struct flow_recv *w, uint32_t window) {
    w->window = w->avail = window;
    w->owed = 0;
}

/* `n` bytes came. False: more than the peer had credit for (FLOW-4); unchanged. */
bool flow_recv_take(struct flow_recv *w, uint32_t n) HT_MUST_USE;

/* `n` of the bytes taken are finished with. */
static inline void flow_recv_give(struct flow_recv *w, uint32_t n) { w->owed += n; }

/*
 * A WINDOW is due: a quarter of the window is owed, or the peer has less than one piece left. In between nothing is
 * said, so that a bulk transfer costs four WINDOWs per window and a sender never starves while we owe it anything
 * (FLOW-2).
 */
static inline bool flow_recv_due(const struct flow_recv *w) {
    return w->owed > 0 && (w->owed >= w->window / 4 || w->avail < FLOW_PIECE);
}

/* The increment to announce now: everything owed; 0 when nothing is. */
uint32_t flow_recv_announce(struct flow_recv *w) HT_MUST_USE;

/* Lifts the window to `window` (never lowers it); the difference becomes owed (FLOW-8). */
void flow_recv_grow(struct flow_recv *w, uint32_t window);

/* ---- the session's receive window ---- */

/*
 * Session credit goes back on receipt as long as what we hold is within `buffer`; above that it waits for bytes to be
 * finished with. One stalled stream thus keeps nobody else waiting (FLOW-6), and what we hold never exceeds
 * buffer + window.
 *
 * Always holds: avail + owed + deferred == window (+ bytes of a frame that is still arriving), deferred <= held.
 */
struct flow_pool {
    struct flow_recv recv;
    uint64_t buffer;
    uint64_t held;     /* handed up, not finished with */
    uint64_t deferred; /* part of held whose credit was kept back */
};

void flow_pool_init(struct flow_pool *p, uint32_t window, uint64_t buffer);

/* `n` bytes that flow_recv_take() has accepted were handed up, to be finished with later. */
void flow_pool_hold(struct flow_pool *p, uint32_t n);

/* `n` held bytes are finished with. */
void flow_pool_finish(struct flow_pool *p, uint64_t n);

/* `n` bytes that flow_recv_take() has accepted go nowhere: their stream is gone (FLOW-5). */
static inline void flow_pool_drop(struct flow_pool *p, uint32_t n) { flow_recv_give(&p->recv, n); }

#endif
