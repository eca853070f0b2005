#include "relay/visitor_priv.h"

static void stray_end(struct relay_stray *s) {
    ht_list_remove(&s->node);
    mux_stream_release(&s->st);
    ht_pool_put(&s->t->strays, s);
}

static void stray_data(void *ctx, const uint8_t *p, size_t n) {
    struct relay_stray *s = ctx;
    (void)p;
    /* Hardening case 7: the answer was complete, so no more data may come. */
    mux_stream_consumed(s->st, n);
    mux_stream_reset(s->st, WIRE_CODE_PROTOCOL_ERROR, "more data than the answer has");
    stray_end(s);
}

static void stray_head(void *ctx, const struct wire_response_head *head) {
    struct relay_stray *s = ctx;
    (void)head;
    mux_stream_reset(s->st, WIRE_CODE_PROTOCOL_ERROR, "a second head after the answer");
    stray_end(s);
}

static void stray_eof(void *ctx) { (void)ctx; }

static void stray_data_end(void *ctx) {
    struct relay_stray *s = ctx;
    if (mux_stream_is_over(s->st))
        stray_end(s);
}

static ssize_t stray_pull(void *ctx, uint8_t *out, size_t cap, unsigned *flags) {
    (void)ctx;
    (void)out;
    (void)cap;
    *flags = MUX_PULL_EOF;
    return 0;
}

static void stray_closed(void *ctx, uint16_t code, struct ht_slice reason, bool remote) {
    (void)code;
    (void)reason;
    (void)remote;
    stray_end(ctx);
}

static const struct mux_stream_ops stray_ops = {
    .response_head = stray_head,
    .data = stray_data,
    .eof = stray_eof,
    .data_end = stray_data_end,
    .pull = stray_pull,
    .closed = stray_closed,
};

static uint64_t patience(const struct relay_table *t) {
    return t->cfg.half_close_timeout_ms ? t->cfg.half_close_timeout_ms : WIRE_LIMIT_HALF_CLOSE_TIMEOUT;
}

void relay_stray_adopt(struct relay_table *t, struct mux_stream *st) {
    struct relay_stray *s = ht_pool_get(&t->strays);
    if (!s) {
        mux_stream_reset(st, WIRE_CODE_CANCEL, "");
        mux_stream_release(&st);
        return;
    }
    *s = (struct relay_stray){.t = t, .st = st, .deadline_ms = io_now_ms(t->cfg.loop) + patience(t)};
    ht_list_init(&s->node);
    ht_list_push_back(&t->stray_list, &s->node);
    mux_stream_set_ops(st, &stray_ops, s);
    if (!io_timer_active(&t->stray_timer))
        io_timer_set(&t->stray_timer, patience(t));
}

void relay_stray_fired(struct io_timer *timer) {
    struct relay_table *t = ht_container_of(timer, struct relay_table, stray_timer);
    uint64_t now = io_now_ms(t->cfg.loop);
    while (!ht_list_empty(&t->stray_list)) {
        struct relay_stray *s = HT_LIST_ENTRY(t->stray_list.next, struct relay_stray, node);
        if (s->deadline_ms > now) {
            io_timer_set(timer, s->deadline_ms - now);
            return;
        }
        if (mux_stream_is_away(s->st)) { /* its EOF may be on its way */
            s->deadline_ms = now + patience(t);
            ht_list_remove(&s->node);
            ht_list_push_back(&t->stray_list, &s->node);
            continue;
        }
        mux_stream_reset(s->st, WIRE_CODE_CANCEL, "the answer is complete");
        stray_end(s);
    }
}

void relay_stray_drop_all(struct relay_table *t) {
    io_timer_stop(&t->stray_timer);
    while (!ht_list_empty(&t->stray_list))
        stray_end(HT_LIST_ENTRY(t->stray_list.next, struct relay_stray, node));
}
