/*
 * The arithmetic of credit-based flow control: send windows, receive windows, and the session's receive window with its
 * buffer. This room knows no streams, frames or time. Rules FLOW-1 to FLOW-9 of spec/protocol.yaml.
 *
 * All counts are bytes of DATA payload.
 */
#ifndef HT_FLOW_FLOW_H
#define HT_FLOW_FLOW_H

#include "base/base.h"
#include "wire_gen.h"

/*
 * The largest payload of a frame. Published senders take credit in pieces of up to this many bytes, in order. A sender
 * with less credit than the next piece needs may stop (FLOW-2).
 */
#define FLOW_PIECE WIRE_LIMIT_MAX_PAYLOAD

/* ---- the send window: how much the peer lets us send ---- */

struct flow_send {
    uint32_t credit;
};

static inline void flow_send_init(struct flow_send *w, uint32_t initial) { w->credit = initial; }

/* `n` bytes are sent; n <= credit. */
static inline void flow_send_take(struct flow_send *w, uint32_t n) { w->credit -= n; }

enum flow_grant {
    FLOW_GRANTED,   /* the credit has grown, and it was not 0 before */
    FLOW_UNBLOCKED, /* the credit has grown from 0: the sender can go on */
    FLOW_ZERO,      /* the increment was 0, which is a fault of the peer; unchanged (FLOW-3) */
    FLOW_OVERFLOW,  /* the window would become larger than `limit`; unchanged (FLOW-3) */
};

/* A WINDOW frame has come. `limit` is the initial size of the window, or what auto-window or
 * large-window allow (FLOW-8, FLOW-9). */
enum flow_grant flow_send_grant(struct flow_send *w, uint32_t increment, uint32_t limit) HT_MUST_USE;

/* ---- the receive window: how much we let the peer send ---- */

/* Always: avail + owed + (bytes received and not given back yet) == window + over. */
struct flow_recv {
    uint32_t window; /* size */
    uint32_t avail;  /* bytes that the peer may still send */
    uint32_t owed;   /* bytes that were consumed, and not announced in a WINDOW yet */
    uint32_t over;   /* the window has shrunk by so much that the peer still has: it is not given back when consumed */
};

static inline void flow_recv_init(struct flow_recv *w, uint32_t window) {
    w->window = w->avail = window;
    w->owed = w->over = 0;
}

/* `n` bytes have come. False: the peer had less credit (FLOW-4); unchanged. */
bool flow_recv_take(struct flow_recv *w, uint32_t n) HT_MUST_USE;

/* `n` of the received bytes were consumed. */
static inline void flow_recv_give(struct flow_recv *w, uint32_t n) {
    uint32_t kept = (uint32_t)ht_min(n, w->over);
    w->over -= kept;
    w->owed += n - kept;
}

/*
 * True when a WINDOW must be sent: a quarter of the window is owed, or the peer has less than one piece left (FLOW-2).
 * So a bulk transfer costs four WINDOWs for each window of bytes, and the sender never stops while we owe it credit.
 */
static inline bool flow_recv_due(const struct flow_recv *w) {
    return w->owed > 0 && (w->owed >= w->window / 4 || w->avail < FLOW_PIECE);
}

/* Returns the increment for a WINDOW, which is everything owed, and counts it as announced. 0: nothing is owed. */
uint32_t flow_recv_announce(struct flow_recv *w) HT_MUST_USE;

/* Makes the window `window` bytes. What it gains becomes owed (FLOW-8); what it loses is not given back: what was
 * announced cannot be taken back, so it is smaller only once as much was consumed. */
void flow_recv_resize(struct flow_recv *w, uint32_t window);

/* ---- the session's receive window ---- */

/*
 * While we hold at most a buffer of bytes, the peer gets session credit back as soon as bytes arrive. Beyond it the
 * credit waits until bytes are consumed. So a stream whose bytes nobody consumes does not stop the others (FLOW-6), and
 * we never hold more than buffer + window. That sum is `most`: what the window gains, the buffer loses, so that a
 * window that grows lets nobody hold more.
 *
 * Always: avail + owed + deferred == window + over (+ bytes of a frame that is still arriving), and deferred <= held.
 */
struct flow_pool {
    struct flow_recv recv;
    uint64_t most;     /* bytes that are ever held */
    uint64_t held;     /* bytes handed up and not consumed yet */
    uint64_t deferred; /* how many of the held bytes have not given their credit back */
};

void flow_pool_init(struct flow_pool *p, uint32_t window, uint64_t buffer);

/* How much is held at most before credit waits. */
static inline uint64_t flow_pool_buffer(const struct flow_pool *p) { return p->most - p->recv.window - p->recv.over; }

/* As flow_recv_resize(), but a window that would need room which is held already, or more than four fifths of all,
 * stays as it is. */
void flow_pool_resize(struct flow_pool *p, uint32_t window);

/* `n` bytes that flow_recv_take() accepted were handed up and will be consumed later. */
void flow_pool_hold(struct flow_pool *p, uint32_t n);

/* `n` held bytes were consumed. */
void flow_pool_finish(struct flow_pool *p, uint64_t n);

/* `n` bytes that flow_recv_take() accepted are dropped, because their stream has ended (FLOW-5). */
static inline void flow_pool_drop(struct flow_pool *p, uint32_t n) { flow_recv_give(&p->recv, n); }

#endif
