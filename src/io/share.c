#include "io/share.h"

#include "base/clock.h"
#include "io/io_priv.h"

#define PER_TURN (int64_t)(128 * 1024) /* bytes: about as many as one link carries in a turn */
#define EVENT_COST 2048                /* bytes that each readable() counts for: small requests take time too */
#define FEW (16 * 1024)                /* bytes for which it is worth to wake a connection */
#define BURST_MS 100                   /* for how long a rate that was not used is saved up */

static int64_t burst(const struct io_share *s) { return (int64_t)ht_max((size_t)(s->rate * BURST_MS / 1000), FEW); }

static void fill(struct io_share *s) {
    uint64_t now = ht_now_us(), back = (now - s->filled_us) * s->rate / 1000000u;
    if (back == 0)
        return;
    s->filled_us = now;
    s->left = ht_min64(back, (uint64_t)(burst(s) - s->left)) + s->left;
}

/* How many bytes may be read now. */
static int64_t may_read(struct io_share *s) {
    if (s->rate == 0)
        return s->turn > 0 ? s->turn : 0;
    fill(s);
    int64_t n = s->left < s->turn ? s->left : s->turn;
    return n > 0 ? n : 0;
}

static void let_go(struct io_share *s) {
    int64_t budget = may_read(s);
    while (budget > 0 && !ht_list_empty(&s->waiting)) {
        struct io_conn_more *m = HT_LIST_ENTRY(ht_list_pop_front(&s->waiting), struct io_conn_more, held);
        budget -= FEW;
        io_conn_let_go(m->conn);
    }
    if (ht_list_empty(&s->waiting))
        return;
    /* The connections that may read now will do so, and at the end of that turn the next ones get what is left. The
     * timer does that if none of them reads. */
    bool spent = s->rate && s->left <= 0;
    io_timer_set(&s->timer, spent ? (uint64_t)(FEW - s->left) * 1000 / s->rate + 1 : 1);
}

/* At the end of a turn the share gets its bytes for the next one. */
static void turn_over(struct io_task *t) {
    struct io_share *s = ht_container_of(t, struct io_share, next);
    s->turn = PER_TURN;
    let_go(s);
}

/* If turn_over() is due in this turn, it will do this: the timer must not give the bytes of one turn twice. */
static void more_due(struct io_timer *t) {
    struct io_share *s = ht_container_of(t, struct io_share, timer);
    if (!ht_list_linked(&s->next.node))
        let_go(s);
}

void io_share_init(struct io_loop *loop, struct io_share *s) {
    *s = (struct io_share){.loop = loop, .turn = PER_TURN, .filled_us = ht_now_us()};
    ht_list_init(&s->waiting);
    io_task_init(&s->next, turn_over);
    io_timer_init(loop, &s->timer, more_due);
}

void io_share_stop(struct io_share *s) {
    if (!s->loop)
        return;
    io_task_cancel(&s->next);
    io_timer_stop(&s->timer);
}

void io_share_set_rate(struct io_share *s, uint64_t rate) {
    s->rate = rate;
    s->left = rate ? burst(s) : 0;
    s->filled_us = ht_now_us();
    if (!ht_list_empty(&s->waiting))
        io_task_add(s->loop, &s->next);
}

void io_conn_leave_share(struct io_conn *c) {
    if (!io_conn_shares(c))
        return;
    c->more->share->n_conns--;
    c->more->share = NULL;
    if (ht_list_linked(&c->more->held)) {
        ht_list_remove(&c->more->held);
        io_conn_let_go(c);
    }
}

int io_conn_set_share(struct io_conn *c, struct io_share *s) {
    if (s && !io_conn_more(c))
        return HT_ENOMEM;
    if (c->more && c->more->share == s)
        return HT_OK;
    io_conn_leave_share(c);
    if (s) {
        c->more->share = s;
        s->n_conns++;
    }
    return HT_OK;
}

static void hold(struct io_conn_more *m) {
    struct io_share *s = m->share;
    m->next_in_share = false;
    ht_list_push_back(&s->waiting, &m->held);
    if (!io_timer_active(&s->timer))
        io_task_add(s->loop, &s->next);
}

bool io_share_is_spent(struct io_conn *c) {
    if (ht_list_linked(&c->more->held))
        return true;
    if (may_read(c->more->share) > 0)
        return false;
    hold(c->more);
    return true;
}

bool io_share_holds(struct io_conn *c) {
    struct io_conn_more *m = c->more;
    struct io_share *s = m->share;
    if (ht_list_linked(&m->held))
        return true;
    if (may_read(s) > 0 && (ht_list_empty(&s->waiting) || m->next_in_share)) {
        m->next_in_share = false;
        s->turn -= EVENT_COST;
        io_task_add(s->loop, &s->next);
        return false;
    }
    hold(m);
    return true;
}

size_t io_share_cap(const struct io_conn *c, size_t cap) {
    const struct io_share *s = c->more->share;
    int64_t n = s->rate && s->left < s->turn ? s->left : s->turn;
    return n < (int64_t)cap ? ht_max((size_t)(n > 0 ? n : 0), 1024) : cap;
}

void io_share_took(struct io_conn *c, size_t n) {
    struct io_share *s = c->more->share;
    s->turn -= (int64_t)n;
    if (s->rate)
        s->left -= (int64_t)n;
    io_task_add(s->loop, &s->next);
}
