/* Closes connections whose answer is written while the peer may still be sending (hardening cases 2 and 30). */
#include "base/mem.h"
#include "io/io_priv.h"

/* Of those without a permit, for which nothing else is a bound. */
#define MOST_WITHOUT_PERMIT 32

struct lingerer {
    struct ht_list node; /* in the loop's, oldest first */
    struct io_conn *conn;
    struct io_fds *fds;
    struct io_timer timer;
    uint64_t quiet_ms, heard_ms, end_ms;
};

static void linger_end(struct lingerer *l) {
    struct io_loop *loop = l->conn->loop;
    if (l->fds) {
        l->fds->lingering--;
        io_fds_give(l->fds);
    } else {
        loop->n_lingering--;
    }
    io_timer_stop(&l->timer);
    ht_list_remove(&l->node);
    io_conn_close(&l->conn);
    ht_free(l);
}

static void linger_timeout(struct io_timer *t) {
    struct lingerer *l = ht_container_of(t, struct lingerer, timer);
    uint64_t now = io_now_ms(l->conn->loop), due = ht_min64(l->heard_ms + l->quiet_ms, l->end_ms);
    if (now < due)
        io_timer_set(t, due - now); /* bytes have come since */
    else
        linger_end(l);
}

/* Once a turn: a peer that sends without end shares the loop with all others. */
static void linger_read(void *ctx) {
    struct lingerer *l = ctx;
    ssize_t n = io_conn_discard(l->conn);
    if (n > 0)
        l->heard_ms = io_now_ms(l->conn->loop);
    else if (n != HT_EAGAIN)
        linger_end(l);
}

/* TLS has its last word only now. */
static void linger_write(void *ctx) {
    struct lingerer *l = ctx;
    if (io_conn_shutdown(l->conn) != HT_EAGAIN)
        io_conn_want_write(l->conn, false);
}

static const struct io_conn_ops linger_ops = {linger_read, linger_write};

bool io_linger_shed(struct io_loop *loop, const struct io_fds *fds) {
    HT_LIST_FOR (it, &loop->lingering) {
        struct lingerer *l = HT_LIST_ENTRY(it, struct lingerer, node);
        if (l->fds != fds)
            continue;
        linger_end(l);
        return true;
    }
    return false;
}

void io_conn_linger(struct io_conn **cp, const struct io_linger *how) {
    struct io_conn *c = *cp;
    if (!c)
        return;
    struct io_loop *loop = c->loop;
    struct lingerer *l = ht_calloc(1, sizeof *l);
    int rc = l ? io_conn_shutdown(c) : HT_ENOMEM;
    if (rc != HT_OK && rc != HT_EAGAIN) {
        ht_free(l);
        io_conn_close(cp);
        return;
    }
    *cp = NULL;
    if (loop->current == c)
        loop->current = NULL; /* its old owner hears no more of it */
    bool full = how->fds ? how->fds->lingering * 2 >= how->fds->total : loop->n_lingering >= MOST_WITHOUT_PERMIT;
    if (full)
        (void)io_linger_shed(loop, how->fds);
    if (how->fds) {
        how->fds->used++;
        how->fds->lingering++;
    } else {
        loop->n_lingering++;
    }
    uint64_t now = io_now_ms(loop);
    *l = (struct lingerer){
        .conn = c, .fds = how->fds, .quiet_ms = how->quiet_ms, .heard_ms = now, .end_ms = now + how->all_ms};
    ht_list_init(&l->node);
    ht_list_push_back(&loop->lingering, &l->node);
    io_timer_init(loop, &l->timer, linger_timeout);
    io_timer_set(&l->timer, ht_min64(how->quiet_ms, how->all_ms));
    io_conn_leave_share(c);
    io_conn_set_ops(c, &linger_ops, l);
    io_conn_want_write(c, rc == HT_EAGAIN);
    io_conn_read_on(c, true);
}

void io_conn_close_lingering(struct io_conn **c, uint64_t linger_ms) {
    io_conn_linger(c, &(struct io_linger){.quiet_ms = linger_ms, .all_ms = linger_ms});
}

void io_linger_close_all(struct io_loop *loop) {
    while (!ht_list_empty(&loop->lingering))
        linger_end(HT_LIST_ENTRY(loop->lingering.next, struct lingerer, node));
}
