#include "relay/inner.h"

#include "relay/visitor_priv.h"

/* ---- callbacks of both ends ---- */

/* The output is moved at the end of the turn, because a message must not be fed inside a callback of mux (mux/mux.h).
 */
static void on_output(void *ctx) {
    struct relay_inner_end *e = ctx;
    io_task_add(e->of->cfg.t->cfg.loop, &e->of->pump);
}

static void on_close(void *ctx, uint16_t code, const char *reason) {
    struct relay_inner_end *e = ctx;
    (void)code, (void)reason;
    e->of->broken = true;
    on_output(e);
}

static void on_over(void *ctx, enum mux_end why, const char *text) {
    struct relay_inner_end *e = ctx;
    (void)why;
    if (e->of->cfg.ended)
        e->of->cfg.ended(e->of->cfg.ctx, text);
    e->of->broken = true;
    on_output(e);
}

static void on_used_up(void *ctx) {
    struct relay_inner_end *e = ctx;
    e->of->used_up = true;
}

static void on_room(void *ctx) {
    struct relay_inner_end *e = ctx;
    relay_owner_room(e->of->cfg.t, e->of->cfg.owner);
}

static void on_stream_open(void *ctx, struct mux_stream *st, const struct wire_stream_open *open) {
    struct relay_inner_end *e = ctx;
    e->of->cfg.stream_open(e->of->cfg.ctx, st, open);
}

static const struct mux_session_ops session_ops = {
    .stream_open = on_stream_open, .used_up = on_used_up, .room = on_room, .over = on_over};

/* ---- the handshake ---- */

static int make_session(struct relay_inner_end *e, enum wire_role role, const struct wire_hello_ok *ok) {
    const struct mux_config cfg = {
        .role = role,
        .version = WIRE_V1,
        .stream_window = WIRE_LIMIT_STREAM_WINDOW,
        .session_window = WIRE_LIMIT_SESSION_WINDOW,
        .max_streams = e->of->cfg.max_streams,
        .session_buffer = WIRE_LIMIT_SESSION_BUFFER,
        .first_stream_id = 2,
        .own_peer = true,
        .caps = WIRE_CAP_TRAILERS,
    };
    e->mux = mux_session_create(&cfg, &session_ops, e, io_now_ms(e->of->cfg.t->cfg.loop));
    return e->mux ? mux_session_attach(e->mux, e->link, ok) : HT_ENOMEM;
}

static void on_hello(void *ctx, const struct wire_hello *hello) {
    struct relay_inner_end *visitors = ctx;
    const struct wire_hello_ok ok = {
        .session_id = ht_slice_str("inside"),
        .stream_window = WIRE_LIMIT_STREAM_WINDOW,
        .session_window = WIRE_LIMIT_SESSION_WINDOW,
        .connections_granted = 1,
    };
    (void)hello;
    if (make_session(visitors, WIRE_ROLE_KIT, &ok))
        visitors->of->broken = true;
    else
        visitors->of->cfg.owner->mux = visitors->mux;
}

static void on_hello_ok(void *ctx, const struct wire_hello_ok *ok) {
    struct relay_inner_end *services = ctx;
    if (make_session(services, WIRE_ROLE_DRIVER, ok))
        services->of->broken = true;
}

/* ---- carrying ---- */

static bool carry(struct relay_inner_end *from, struct relay_inner_end *to) {
    struct ht_pool *blocks = io_loop_blocks(from->of->cfg.t->cfg.loop);
    uint8_t *block = ht_pool_get(blocks);
    size_t n = block ? mux_link_pull(from->link, block, WIRE_LIMIT_MAX_MESSAGE) : 0;
    if (!block || (n && mux_link_message(to->link, block, n, true) != (ssize_t)n))
        from->of->broken = true;
    if (n)
        mux_link_fed(to->link);
    ht_pool_put(blocks, block);
    return n > 0;
}

static void look_at_clock(struct relay_inner *in) {
    uint64_t now = io_now_ms(in->cfg.t->cfg.loop), due = UINT64_MAX;
    struct mux_session *const both[] = {in->visitors.mux, in->services.mux};
    for (size_t i = 0; i < HT_ARRAY_LEN(both); i++) {
        mux_session_tick(both[i], now);
        due = ht_min64(due, mux_session_deadline(both[i]));
    }
    if (due != UINT64_MAX)
        io_timer_set(&in->tick, due > now ? due - now : 1);
}

/* Moves output from each end to the other, at the end of a turn. What is left is moved in the next turn. */
static void pump(struct io_task *task) {
    struct relay_inner *in = ht_container_of(task, struct relay_inner, pump);
    bool more = !in->broken && carry(&in->visitors, &in->services);
    more |= !in->broken && carry(&in->services, &in->visitors);
    if (!in->broken)
        look_at_clock(in);
    if (in->broken || (in->used_up && mux_session_streams(in->visitors.mux) == 0)) {
        relay_inner_down(in);
        (void)!relay_inner_up(in);
    } else if (more) {
        io_task_add(in->cfg.t->cfg.loop, task);
    }
}

static void tick(struct io_timer *t) {
    struct relay_inner *in = ht_container_of(t, struct relay_inner, tick);
    look_at_clock(in);
    io_task_add(in->cfg.t->cfg.loop, &in->pump);
}

/* ---- life ---- */

void relay_inner_init(struct relay_inner *in, const struct relay_inner_config *cfg) {
    *in = (struct relay_inner){.cfg = *cfg, .visitors = {.of = in}, .services = {.of = in}};
    io_task_init(&in->pump, pump);
    io_timer_init(cfg->t->cfg.loop, &in->tick, tick);
}

int relay_inner_up(struct relay_inner *in) {
    static const struct mux_link_ops ops = {
        .hello = on_hello, .hello_ok = on_hello_ok, .output = on_output, .close = on_close};
    static const struct wire_hello hello = {.version = WIRE_V1};
    struct relay_inner_end *v = &in->visitors, *s = &in->services;
    if (v->mux)
        return HT_OK;
    v->link = mux_link_create(WIRE_ROLE_KIT, WIRE_V1, &ops, v);
    s->link = mux_link_create(WIRE_ROLE_DRIVER, WIRE_V1, &ops, s);
    int rc = v->link && s->link ? mux_link_send_hello(s->link, &hello) : HT_ENOMEM;
    while (rc == HT_OK && !in->broken && (carry(s, v) || carry(v, s)))
        ;
    if (rc == HT_OK && !in->broken && v->mux && s->mux)
        return HT_OK;
    relay_inner_down(in);
    return HT_ENOMEM;
}

void relay_inner_down(struct relay_inner *in) {
    if (!in->cfg.t)
        return;
    /* This closes the streams, and visitors still need owner->mux then: to tell which session it was. */
    mux_session_destroy(&in->visitors.mux);
    in->cfg.owner->mux = NULL;
    mux_session_destroy(&in->services.mux);
    mux_link_destroy(&in->visitors.link);
    mux_link_destroy(&in->services.link);
    io_task_cancel(&in->pump);
    io_timer_stop(&in->tick);
    in->broken = in->used_up = false;
}
