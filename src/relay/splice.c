/*
 * Bytes from one side are read into a block of the loop and written from there with one system call. Bytes that the
 * other side does not take at once are copied, and the source is not read until they are written. splice(2) would need
 * a pipe for each direction: it is slower on loopback and costs four descriptors.
 */
#include "relay/splice.h"

#include "base/mem.h"

struct side {
    struct relay_splice *s;
    struct io_conn *conn;
    struct io_out out; /* for this side */
    uint64_t sent;
    bool ended; /* it sends no more */
    bool shut;  /* it was told that the other one sends no more */
};

struct relay_splice {
    struct relay_splice_config cfg;
    struct side a, b;
    struct io_task begin; /* looks at what was there before */
    struct io_timer quiet;
    uint64_t last_ms; /* when bytes moved last */
    const struct relay_splice_ops *ops;
    void *ctx;
};

static struct side *other(struct side *x) { return x == &x->s->a ? &x->s->b : &x->s->a; }

/* The one way out. Nothing of `s` may be touched afterwards: done() destroys it. */
static void finish(struct relay_splice *s, int rc, const char *text) {
    if (rc) { /* a cut must never look like a clean end */
        io_conn_abort(&s->a.conn);
        io_conn_abort(&s->b.conn);
    } else {
        io_conn_close(&s->a.conn);
        io_conn_close(&s->b.conn);
    }
    io_timer_stop(&s->quiet);
    io_task_cancel(&s->begin);
    s->ops->done(s->ctx, rc, text);
}

/* ---- time ---- */

static uint64_t patience(const struct relay_splice *s) {
    bool half = s->a.ended != s->b.ended;
    uint64_t idle = s->cfg.idle_timeout_ms, half_closed = s->cfg.half_close_timeout_ms;
    return half && half_closed && (!idle || half_closed < idle) ? half_closed : idle;
}

/* Set lazily: bytes may have moved since, and then it is set again. */
static void watch(struct relay_splice *s) {
    uint64_t ms = patience(s);
    if (ms)
        io_timer_set(&s->quiet, ms);
}

static void quiet_fired(struct io_timer *t) {
    struct relay_splice *s = ht_container_of(t, struct relay_splice, quiet);
    uint64_t idle = io_now_ms(s->cfg.loop) - s->last_ms, ms = patience(s);
    if (ms == 0)
        return; /* both have ended, and only their output is left */
    if (idle < ms)
        io_timer_set(&s->quiet, ms - idle);
    else
        finish(s, HT_ETIMEDOUT,
               s->a.ended != s->b.ended
                   ? "one side has closed, and the other one sent nothing for too long (--half-close-timeout)"
                   : "no bytes came from either side for too long (--connect-idle-timeout)");
}

/* ---- bytes ---- */

static void update_reading(struct side *from) {
    io_conn_read_on(from->conn, !from->ended && io_out_pending(&other(from)->out) == 0);
}

/* Writes the output of this side, and passes the end on behind it. False: the splice was freed. */
static bool flush(struct side *to) {
    struct relay_splice *s = to->s;
    ssize_t n = io_out_flush(&to->out, to->conn);
    if (n < 0) {
        finish(s, (int)n, ht_err_text((int)n));
        return false;
    }
    if (n > 0) {
        to->sent += (uint64_t)n;
        s->last_ms = io_now_ms(s->cfg.loop);
    }
    bool all_out = io_out_pending(&to->out) == 0;
    if (all_out && other(to)->ended && !to->shut) {
        to->shut = true;
        (void)io_conn_shutdown(to->conn); /* one that fails shows as an error when reading */
        watch(s);
    }
    if (s->a.shut && s->b.shut) {
        finish(s, HT_OK, "");
        return false;
    }
    update_reading(other(to));
    return true;
}

static void readable(void *ctx) {
    struct side *from = ctx, *to = other(from);
    struct relay_splice *s = from->s;
    struct ht_pool *blocks = io_loop_blocks(s->cfg.loop);
    uint8_t *block = ht_pool_get(blocks);
    ssize_t n = block ? io_conn_read(from->conn, block, RELAY_SPLICE_READ) : HT_ENOMEM;
    if (n == HT_EOF) {
        from->ended = true;
        s->last_ms = io_now_ms(s->cfg.loop);
        if (flush(to))
            update_reading(from);
    } else if (n == HT_EAGAIN) {
        /* level-triggered: it is told again */
    } else if (n < 0 || io_out_add(&to->out, block, (size_t)n)) {
        int rc = n < 0 ? (int)n : HT_ENOMEM;
        ht_pool_put(blocks, block);
        finish(s, rc, ht_err_text(rc));
        return;
    } else {
        (void)flush(to); /* what is left of the block was copied, or dropped with the splice */
    }
    ht_pool_put(blocks, block);
}

static void writable(void *ctx) { (void)flush(ctx); }

static const struct io_conn_ops conn_ops = {.readable = readable, .writable = writable};

/* ---- life ---- */

static void begin_run(struct io_task *t) {
    struct relay_splice *s = ht_container_of(t, struct relay_splice, begin);
    watch(s);
    if (flush(&s->a))
        (void)flush(&s->b);
}

static void begin_side(struct relay_splice *s, struct side *x, struct io_conn *conn) {
    *x = (struct side){.s = s, .conn = conn};
    io_conn_set_ops(conn, &conn_ops, x);
    io_conn_reset_on_exit(conn);
}

struct relay_splice *relay_splice_start(const struct relay_splice_config *cfg, struct io_conn *a, struct io_conn *b,
                                        struct ht_slice early, struct io_out *first, const struct relay_splice_ops *ops,
                                        void *ctx) {
    struct relay_splice *s = ht_calloc(1, sizeof *s);
    if (!s || ht_buf_append(&s->b.out.queue, early.p, early.n) || io_out_spill(first)) {
        if (s)
            io_out_free(&s->b.out);
        ht_free(s);
        io_conn_abort(&a);
        io_conn_abort(&b);
        return NULL;
    }
    struct io_out for_b = s->b.out;
    s->cfg = *cfg;
    s->ops = ops;
    s->ctx = ctx;
    begin_side(s, &s->a, a);
    begin_side(s, &s->b, b);
    s->b.out = for_b;
    s->a.out = *first;
    *first = (struct io_out){.n_iov = 0};
    s->last_ms = io_now_ms(cfg->loop);
    io_timer_init(cfg->loop, &s->quiet, quiet_fired);
    io_task_init(&s->begin, begin_run);
    io_task_add(cfg->loop, &s->begin);
    return s;
}

void relay_splice_destroy(struct relay_splice **sp) {
    struct relay_splice *s = *sp;
    if (!s)
        return;
    *sp = NULL;
    io_timer_stop(&s->quiet);
    io_task_cancel(&s->begin);
    io_conn_abort(&s->a.conn);
    io_conn_abort(&s->b.conn);
    io_out_free(&s->a.out);
    io_out_free(&s->b.out);
    ht_free(s);
}

void relay_splice_counts(const struct relay_splice *s, uint64_t *from_a, uint64_t *to_a) {
    *from_a = s->b.sent;
    *to_a = s->a.sent;
}
