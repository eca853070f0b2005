#include "base/mem.h"
#include "relay/origin_priv.h"

static void conn_readable(void *ctx) {
    struct origin_conn *oc = ctx;
    struct origin_exchange *x = oc->x;
    if (!x) {
        /* The connection is idle: the service has closed it, or sends bytes that belong to no request. */
        origin_pool_close(oc, "the service closed it, or sent bytes that answer no request");
        return;
    }
    if (x->responded) {
        /* The stream's pull reads the body straight into the message, and switches reading on again. */
        io_conn_read_on(oc->c, false);
        mux_stream_ready(x->st);
        return;
    }
    origin_response_read_head(x);
}

static void conn_writable(void *ctx) {
    struct origin_conn *oc = ctx;
    if (oc->x)
        origin_request_flush(oc->x);
    else
        io_conn_want_write(oc->c, false);
}

static const struct io_conn_ops conn_ops = {.readable = conn_readable, .writable = conn_writable};

struct origin_conn *origin_pool_adopt(struct relay_target *t, struct io_conn *c) {
    struct origin_conn *oc = ht_pool_get(&t->conns);
    if (!oc) {
        io_conn_close(&c);
        return NULL;
    }
    *oc = (struct origin_conn){.t = t, .c = c};
    ht_list_init(&oc->node);
    io_conn_set_ops(c, &conn_ops, oc);
    return oc;
}

struct io_conn *origin_pool_release(struct origin_conn *oc) {
    struct io_conn *c = oc->c;
    if (ht_list_linked(&oc->node)) {
        ht_list_remove(&oc->node);
        oc->t->n_idle--;
    }
    ht_pool_put(&oc->t->conns, oc);
    return c;
}

void origin_pool_close(struct origin_conn *oc, const char *why) {
    ORIGIN_LOG(oc->t, "a connection is closed", log_reason(why), log_count(oc->t->n_idle));
    struct io_conn *c = origin_pool_release(oc);
    io_conn_close(&c);
}

void origin_pool_abort(struct origin_conn *oc) {
    struct io_conn *c = origin_pool_release(oc);
    io_conn_abort(&c);
}

struct origin_conn *origin_pool_take(struct relay_target *t) {
    while (!ht_list_empty(&t->idle)) {
        struct origin_conn *oc = HT_LIST_ENTRY(t->idle.next, struct origin_conn, node);
        char byte;
        if (io_conn_read(oc->c, &byte, 1) != HT_EAGAIN) {
            origin_pool_close(oc, "the service closed it, or sent bytes that answer no request");
            continue;
        }
        ht_list_remove(&oc->node);
        t->n_idle--;
        oc->reused = true;
        return oc;
    }
    return NULL;
}

/* ---- services that serve one connection at a time ---- */

static bool is_parallel(const struct relay_target *t, uint64_t now) {
    return t->parallel_ms && now - t->parallel_ms < ORIGIN_SHY_MS;
}

static void close_idle(struct relay_target *t, const char *why) {
    while (!ht_list_empty(&t->idle))
        origin_pool_close(HT_LIST_ENTRY(t->idle.next, struct origin_conn, node), why);
}

static void ease_fire(struct io_timer *timer) {
    struct relay_target *t = ht_container_of(timer, struct relay_target, ease_timer);
    uint64_t now = io_now_ms(t->cfg.loop), age = now - t->fresh_ms;
    bool parallel = is_parallel(t, now);
    uint64_t moment = parallel ? ORIGIN_EASE_PARALLEL_MS : ORIGIN_EASE_MS;
    if (t->n_fresh == 0 || t->n_idle == 0)
        return;
    if (age < moment) {
        io_timer_set(timer, moment - age);
        return;
    }
    if (parallel && t->eased_ms && now - t->eased_ms < ORIGIN_EASE_AGAIN_MS) {
        io_timer_set(timer, t->eased_ms + ORIGIN_EASE_AGAIN_MS - now);
        return;
    }
    t->eased_ms = now;
    if (!parallel)
        t->shy_until_ms = now + ORIGIN_SHY_MS;
    close_idle(t, "a new connection gets no answer, so the service may wait for this one");
}

static void watch_fresh(struct relay_target *t) {
    if (t->n_fresh > 0 && t->n_idle > 0 && !io_timer_active(&t->ease_timer))
        io_timer_set(&t->ease_timer, ORIGIN_EASE_MS);
}

void origin_pool_waits(struct origin_exchange *x) {
    struct relay_target *t = x->t;
    x->fresh = true;
    t->n_fresh++;
    t->fresh_ms = io_now_ms(t->cfg.loop);
    watch_fresh(t);
}

void origin_pool_waited(struct origin_exchange *x) {
    if (x->fresh)
        x->t->n_fresh--;
    x->fresh = false;
}

void origin_pool_answers(struct origin_exchange *x) {
    struct relay_target *t = x->t;
    if (t->n_idle > 0) /* a service with one connection at a time would still wait for the idle one */
        t->parallel_ms = io_now_ms(t->cfg.loop);
    if (!x->fresh)
        return;
    origin_pool_waited(x);
    t->fresh_ms = io_now_ms(t->cfg.loop);
}

/* ---- giving back ---- */

void origin_pool_put(struct origin_conn *oc) {
    struct relay_target *t = oc->t;
    oc->x = NULL;
    if (t->cfg.pool_size == 0 || (t->n_fresh > 0 && io_now_ms(t->cfg.loop) < t->shy_until_ms)) {
        origin_pool_close(oc, "idle connections are not kept, or not at present");
        return;
    }
    if (t->n_idle >= t->cfg.pool_size)
        origin_pool_close(HT_LIST_ENTRY(t->idle.prev, struct origin_conn, node), "the pool is full (--pool-size)");
    oc->idle_since_ms = io_now_ms(t->cfg.loop);
    ht_list_push_front(&t->idle, &oc->node);
    t->n_idle++;
    io_conn_want_write(oc->c, false);
    io_conn_read_on(oc->c, true);
    if (!io_timer_active(&t->idle_timer))
        io_timer_set(&t->idle_timer, t->cfg.pool_idle_ms);
    watch_fresh(t);
}

/* The timer is set for the oldest idle connection, and not moved with each request. */
static void idle_fire(struct io_timer *timer) {
    struct relay_target *t = ht_container_of(timer, struct relay_target, idle_timer);
    uint64_t now = io_now_ms(t->cfg.loop), timeout = t->cfg.pool_idle_ms;
    while (!ht_list_empty(&t->idle)) {
        struct origin_conn *oc = HT_LIST_ENTRY(t->idle.prev, struct origin_conn, node);
        uint64_t age = now - oc->idle_since_ms;
        if (age < timeout) {
            io_timer_set(timer, timeout - age);
            return;
        }
        origin_pool_close(oc, "idle for long");
    }
    if (ht_list_empty(&t->exchanges))
        origin_http_drain_spare(t);
    ht_pool_drain(&t->conns);
}

void origin_pool_init(struct relay_target *t) {
    ht_list_init(&t->idle);
    ht_pool_init(&t->conns, sizeof(struct origin_conn), t->cfg.pool_size);
    io_timer_init(t->cfg.loop, &t->idle_timer, idle_fire);
    io_timer_init(t->cfg.loop, &t->ease_timer, ease_fire);
}

void origin_pool_clear(struct relay_target *t) {
    close_idle(t, "the binding is gone");
    io_timer_stop(&t->idle_timer);
    io_timer_stop(&t->ease_timer);
    ht_pool_drain(&t->conns);
}
