#include "flow/flow.h"

enum flow_grant flow_send_grant(struct flow_send *w, uint32_t increment, uint32_t limit) {
    if (increment == 0)
        return FLOW_ZERO;
    if (increment > limit || w->credit > limit - increment)
        return FLOW_OVERFLOW;
    bool was_blocked = w->credit == 0;
    w->credit += increment;
    return was_blocked ? FLOW_UNBLOCKED : FLOW_GRANTED;
}

bool flow_recv_take(struct flow_recv *w, uint32_t n) {
    if (n > w->avail)
        return false;
    w->avail -= n;
    return true;
}

uint32_t flow_recv_announce(struct flow_recv *w) {
    uint32_t n = w->owed;
    w->avail += n;
    w->owed = 0;
    return n;
}

void flow_recv_resize(struct flow_recv *w, uint32_t window) {
    if (window >= w->window) {
        uint32_t more = window - w->window;
        w->window = window;
        flow_recv_give(w, more);
        return;
    }
    uint32_t less = w->window - window, cut = (uint32_t)ht_min(less, w->owed);
    w->window = window;
    w->owed -= cut;
    w->over += less - cut;
}

void flow_pool_init(struct flow_pool *p, uint32_t window, uint64_t buffer) {
    flow_recv_init(&p->recv, window);
    p->most = buffer + window;
    p->held = p->deferred = 0;
}

void flow_pool_resize(struct flow_pool *p, uint32_t window) {
    bool grows = window > p->recv.window;
    if (grows && (window > p->most / 5 * 4 || p->held + (window - p->recv.window) > flow_pool_buffer(p)))
        return;
    flow_recv_resize(&p->recv, window);
}

void flow_pool_hold(struct flow_pool *p, uint32_t n) {
    p->held += n;
    if (p->held <= flow_pool_buffer(p))
        flow_recv_give(&p->recv, n);
    else
        p->deferred += n;
}

void flow_pool_finish(struct flow_pool *p, uint64_t n) {
    p->held -= n;
    /* Below the mark all that was kept back goes at once; above it only as much as has left, so that streams which do
     * move go on moving while others hold the buffer full. */
    uint64_t back = p->held <= flow_pool_buffer(p) || n > p->deferred ? p->deferred : n;
    p->deferred -= back;
    flow_recv_give(&p->recv, (uint32_t)back);
}
