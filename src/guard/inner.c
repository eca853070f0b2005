/*
 * The session in memory. Its two links are joined by a task, which carries one message each way and comes back as long
 * as there are more: a link's message is never fed from inside another one's (mux/mux.h).
 */
#include "guard/guard_priv.h"

#define STREAM_WINDOW (1u << 20)   /* what a slow reader makes us hold of one request */
#define SESSION_WINDOW (64u << 20) /* and of all */
#define MESSAGE (256u << 10)       /* of a link's at a time */

enum { VISITORS, SERVICES };

/* It has come to an end that nobody asked for, or its stream ids have: a new one takes its place. */
static void fail(struct guard_inner *in) { io_task_add(in->g->cfg.loop, &in->restart); }

/* ---- what both sides are told ---- */

static void on_output(void *ctx) {
    struct guard_inner *in = ctx;
    io_task_add(in->g->cfg.loop, &in->pump);
}

static void on_close(void *ctx, uint16_t ws_code, const char *reason) {
    (void)ws_code, (void)reason;
    fail(ctx);
}

static void on_over(void *ctx, enum mux_end why, const char *text) {
    (void)why, (void)text;
    fail(ctx);
}

static void on_room(void *ctx) {
    struct guard_inner *in = ctx;
    relay_owner_room(in->g->table, &in->g->owner);
}

static void no_bind(void *ctx, const struct wire_bind *bind, const struct wire_error *err) {
    (void)ctx, (void)bind, (void)err;
}

static void on_used_up(void *ctx) { fail(ctx); }

static const struct mux_session_ops visitors_ops = {
    .bind = no_bind, .room = on_room, .used_up = on_used_up, .over = on_over};
static const struct mux_session_ops services_ops = {.stream_open = guard_request_open, .over = on_over};

/* ---- the handshake ---- */

static struct mux_session *make(struct guard_inner *in, int side) {
    const struct guard *g = in->g;
    struct mux_config cfg = {
        .role = side == VISITORS ? WIRE_ROLE_KIT : WIRE_ROLE_DRIVER,
        .version = WIRE_V1,
        .stream_window = STREAM_WINDOW,
        .session_window = SESSION_WINDOW,
        .max_streams = g->cfg.max_streams,
        .session_buffer = SESSION_WINDOW,
        .own_peer = true,
        .caps = WIRE_CAP_TRAILERS,
    };
    return mux_session_create(&cfg, side == VISITORS ? &visitors_ops : &services_ops, in, io_now_ms(g->cfg.loop));
}

static void on_hello(void *ctx, const struct wire_hello *hello) {
    struct guard_inner *in = ctx;
    static const struct ht_slice caps[] = {{"trailers", 8}};
    struct wire_hello_ok ok = {
        .session_id = ht_slice_str("S-00000000-0000-4000-8000-000000000000"),
        .stream_window = STREAM_WINDOW,
        .session_window = SESSION_WINDOW,
        .connections_granted = 1,
        .capabilities = caps,
        .n_capabilities = 1,
    };
    (void)hello;
    in->sessions[VISITORS] = make(in, VISITORS);
    if (!in->sessions[VISITORS] || mux_session_attach(in->sessions[VISITORS], in->links[VISITORS], &ok) < 0) {
        fail(in);
        return;
    }
    in->g->owner.mux = in->sessions[VISITORS];
}

static void on_hello_ok(void *ctx, const struct wire_hello_ok *ok) {
    struct guard_inner *in = ctx;
    (void)ok;
    in->sessions[SERVICES] = make(in, SERVICES);
    if (!in->sessions[SERVICES] || mux_session_attach(in->sessions[SERVICES], in->links[SERVICES], NULL) < 0)
        fail(in);
}

static const struct mux_link_ops link_ops = {
    .hello = on_hello, .hello_ok = on_hello_ok, .output = on_output, .close = on_close};

/* ---- carrying ---- */

/* One message from `from` to the other link. False: there was none. */
static bool carry(struct guard_inner *in, int from, uint8_t *block) {
    size_t n = in->links[from] ? mux_link_pull(in->links[from], block, MESSAGE) : 0;
    struct mux_link *to = in->links[!from];
    if (n == 0 || !to)
        return false;
    if (mux_link_message(to, block, n, true) >= 0)
        mux_link_fed(to);
    return true;
}

static void pump(struct io_task *task) {
    struct guard_inner *in = ht_container_of(task, struct guard_inner, pump);
    struct ht_pool *blocks = io_loop_blocks(in->g->cfg.loop);
    uint8_t *block = ht_pool_get(blocks);
    if (!block) {
        fail(in);
        return;
    }
    uint64_t now = io_now_ms(in->g->cfg.loop);
    for (int i = 0; i < 2; i++)
        if (in->sessions[i])
            mux_session_tick(in->sessions[i], now);
    bool more = carry(in, VISITORS, block);
    more = carry(in, SERVICES, block) || more;
    ht_pool_put(blocks, block);
    if (more)
        io_task_add(in->g->cfg.loop, &in->pump);
}

/* ---- life ---- */

static void drop(struct guard_inner *in) {
    io_task_cancel(&in->pump);
    io_task_cancel(&in->restart);
    /* The visitors hear of the end while owner.mux still tells them which session it was. */
    for (int i = 0; i < 2; i++) {
        mux_session_destroy(&in->sessions[i]);
        mux_link_destroy(&in->links[i]);
    }
    in->g->owner.mux = NULL;
}

static int begin(struct guard_inner *in) {
    static const struct ht_slice caps[] = {{"trailers", 8}};
    struct wire_hello hello = {.version = WIRE_V1, .capabilities = caps, .n_capabilities = 1};
    in->links[VISITORS] = mux_link_create(WIRE_ROLE_KIT, WIRE_V1, &link_ops, in);
    in->links[SERVICES] = mux_link_create(WIRE_ROLE_DRIVER, WIRE_V1, &link_ops, in);
    if (!in->links[VISITORS] || !in->links[SERVICES])
        return HT_ENOMEM;
    return mux_link_send_hello(in->links[SERVICES], &hello);
}

static void restart(struct io_task *task) {
    struct guard_inner *in = ht_container_of(task, struct guard_inner, restart);
    drop(in);
    if (begin(in) < 0) /* out of memory: who comes meanwhile gets a 503 */
        drop(in);
}

int guard_inner_start(struct guard *g) {
    struct guard_inner *in = &g->inner;
    in->g = g;
    io_task_init(&in->pump, pump);
    io_task_init(&in->restart, restart);
    return begin(in);
}

void guard_inner_stop(struct guard *g) {
    if (g->inner.g)
        drop(&g->inner);
}
