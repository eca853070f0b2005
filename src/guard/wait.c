/* Requests that wait until a command has printed their secret. */
#include "guard/guard_priv.h"

#include "base/mem.h"
#include "relay/held.h"

struct guard_waiting {
    struct ht_list node;
    struct guard_door *d;
    struct relay_held *held;
    uint64_t id;
    struct guard_decision decision;
    struct ht_errmsg why; /* its secret cannot be had; "": it can */
};

static void waiting_free(void *ctx) {
    struct guard_waiting *w = ctx;
    ht_list_remove(&w->node);
    ht_free(w);
}

void guard_waiting_add(struct guard_door *d, struct mux_stream *st, const struct wire_stream_open *open, uint64_t id,
                       const struct guard_decision *decision) {
    struct guard_waiting *w = ht_malloc(sizeof *w);
    if (!w) {
        mux_stream_reset(st, WIRE_CODE_INTERNAL_ERROR, ht_err_text(HT_ENOMEM));
        mux_stream_release(&st);
        return;
    }
    *w = (struct guard_waiting){.d = d, .id = id, .decision = *decision};
    ht_list_init(&w->node);
    ht_list_push_back(&d->h->waiting, &w->node);
    w->held = relay_held_start(st, open, waiting_free, w);
    if (!w->held)
        waiting_free(w);
}

/* ---- the end of the wait ---- */

static void take(void *ctx, struct mux_stream *st, const struct wire_stream_open *open) {
    struct guard_waiting *w = ctx;
    guard_request_go(w->d, st, open, w->id, &w->decision, w->why.text);
}

void guard_waiting_resume(struct guard_host *h) {
    HT_LIST_FOR_SAFE (it, &h->waiting) {
        struct guard_waiting *w = HT_LIST_ENTRY(it, struct guard_waiting, node);
        if (guard_request_load(w->d, &w->decision, &w->why) == HT_EAGAIN)
            continue;
        ht_list_remove(&w->node);
        relay_held_go(&w->held, take, w);
        ht_free(w);
    }
}

void guard_waiting_cut(struct guard_host *h) {
    while (!ht_list_empty(&h->waiting)) {
        struct guard_waiting *w = HT_LIST_ENTRY(h->waiting.next, struct guard_waiting, node);
        relay_held_cut(&w->held, WIRE_CODE_CANCEL, "the tunnel is closing");
        waiting_free(w);
    }
}
