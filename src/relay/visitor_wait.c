/*
 * Visitors who wait until they may open a stream. Either the link of their session has no room for another request
 * (hardening case 29), or visitors of their address have opened and left too many streams (hardening case 28), or the
 * session is away and may come back (rule PARK-2).
 *
 * Each owner has a list of addresses with waiting visitors, and each address has its visitors in order. The addresses
 * take turns, so that one of them cannot make the others wait. mux reports when there is room. The timer finds what
 * nobody reports: visitors that have left, and sessions that have ended.
 *
 * A stream costs the driver a connection, even when its visitor leaves at once. So each stream that is left early is
 * taken from a budget of the visitor's address and from one of the owner, which is used up well before the driver
 * defends itself. An address that has used up its budget waits. When the owner's budget is used up, only addresses with
 * a full budget of their own may open streams.
 */
#include "relay/visitor_priv.h"

#include <netinet/in.h>

#define TICK_MS 100
/* Most visitors that one call looks at; each costs a system call. */
#define LOOKS 256

/* How many streams visitors may open and leave early: at once, and then each second. */
#define SOURCE_BURST 1000
#define SOURCE_RATE 200
#define OWNER_RATE 1000
#define SOURCES 4096 /* addresses with a debt; those beyond share one */
#define OTHERS UINT64_MAX

/* ---- addresses ---- */

/* All addresses of an IPv6 network of 64 bits count as one, since one visitor may have all of them. */
uint64_t relay_from(const struct io_addr *peer) {
    uint64_t from = 0;
    if (peer->ss.ss_family == AF_INET) {
        struct sockaddr_in in;
        memcpy(&in, &peer->ss, sizeof in);
        return UINT64_C(0xffff) << 32 | in.sin_addr.s_addr;
    }
    if (peer->ss.ss_family == AF_INET6) {
        struct sockaddr_in6 in6;
        memcpy(&in6, &peer->ss, sizeof in6);
        memcpy(&from, in6.sin6_addr.s6_addr, sizeof from);
    }
    return from;
}

static struct ht_list *bucket_of(struct relay_table *t, const struct relay_owner *o, uint64_t from) {
    uint64_t h = (from ^ (uint64_t)(uintptr_t)o) * UINT64_C(0x9E3779B97F4A7C15);
    return &t->sources[h >> 32 & (RELAY_SOURCE_BUCKETS - 1)];
}

static struct relay_source *source_find(struct relay_table *t, const struct relay_owner *o, uint64_t from) {
    HT_LIST_FOR (it, bucket_of(t, o, from)) {
        struct relay_source *src = HT_LIST_ENTRY(it, struct relay_source, hash);
        if (src->owner == o && src->from == from)
            return src;
    }
    return NULL;
}

static void fill(int32_t *left, uint64_t *at, int32_t burst, unsigned rate, uint64_t now) {
    uint64_t back = (now - *at) * rate / 1000;
    if (back == 0)
        return;
    *left = back < (uint64_t)(burst - *left) ? *left + (int32_t)back : burst;
    *at = now;
}

static struct relay_source *source_take(struct relay_table *t, struct relay_owner *o, uint64_t from) {
    struct relay_source *src = source_find(t, o, from);
    if (src)
        return src;
    src = ht_pool_get(&t->source_pool);
    if (!src)
        return NULL;
    *src = (struct relay_source){
        .t = t, .owner = o, .from = from, .left = SOURCE_BURST, .filled_ms = io_now_ms(t->cfg.loop)};
    ht_list_init(&src->turn);
    ht_list_init(&src->waiting);
    ht_list_init(&src->hash);
    ht_list_init(&src->all);
    ht_list_push_back(bucket_of(t, o, from), &src->hash);
    ht_list_push_back(&t->all_sources, &src->all);
    t->n_sources++;
    o->n_sources++;
    if (!io_timer_active(&t->wait_timer))
        io_timer_set(&t->wait_timer, TICK_MS);
    return src;
}

static void source_free(struct relay_source *src) {
    ht_list_remove(&src->hash);
    ht_list_remove(&src->all);
    src->t->n_sources--;
    src->owner->n_sources--;
    ht_pool_put(&src->t->source_pool, src);
}

/* Frees the source if no visitor of it waits and it has no debt. */
static void source_unref(struct relay_source *src) {
    struct relay_owner *o = src->owner;
    if (!ht_list_empty(&src->waiting))
        return;
    ht_list_remove(&src->turn);
    if (ht_list_empty(&o->turns))
        ht_list_remove(&o->waits);
    if (src->left == SOURCE_BURST)
        source_free(src);
}

void relay_owner_forget(struct relay_table *t, struct relay_owner *o) {
    HT_LIST_FOR_SAFE (it, &t->all_sources) {
        struct relay_source *src = HT_LIST_ENTRY(it, struct relay_source, all);
        if (!o || src->owner == o)
            source_free(src);
    }
}

void relay_wait_move(struct relay_table *t, struct relay_owner *from, struct relay_owner *to) {
    HT_LIST_FOR (it, &t->all_sources) {
        struct relay_source *src = HT_LIST_ENTRY(it, struct relay_source, all);
        if (src->owner != from)
            continue;
        src->owner = to;
        ht_list_remove(&src->hash);
        ht_list_push_back(bucket_of(t, to, src->from), &src->hash);
    }
    ht_list_splice(&to->turns, &from->turns);
    ht_list_remove(&from->waits);
    if (!ht_list_empty(&to->turns))
        ht_list_push_back(&t->owners, &to->waits);
    to->n_sources = from->n_sources;
    to->churn_left = from->churn_left;
    to->churn_filled_ms = from->churn_filled_ms;
    from->n_sources = 0;
}

/* ---- what visitors leave ---- */

void relay_left_early(struct relay_binding *b, uint64_t from) {
    struct relay_table *t = b->t;
    struct relay_owner *o = b->owner;
    uint64_t now = io_now_ms(t->cfg.loop);
    fill(&o->churn_left, &o->churn_filled_ms, RELAY_OWNER_BURST, OWNER_RATE, now);
    if (o->churn_left > -RELAY_OWNER_BURST)
        o->churn_left--;
    struct relay_source *src = source_find(t, o, from);
    if (!src)
        src = source_take(t, o, t->n_sources < SOURCES ? from : OTHERS);
    if (!src)
        return;
    fill(&src->left, &src->filled_ms, SOURCE_BURST, SOURCE_RATE, now);
    if (src->left > 0)
        src->left--;
}

void relay_opened(struct relay_binding *b, uint64_t from) {
    struct relay_source *src = b->owner->n_sources ? source_find(b->t, b->owner, from) : NULL;
    if (src && src->left > 0)
        src->left--;
}

void relay_answered(struct relay_binding *b, uint64_t from) {
    struct relay_source *src = b->owner->n_sources ? source_find(b->t, b->owner, from) : NULL;
    if (src)
        src->left = ht_min(src->left + 2, SOURCE_BURST);
}

/* `src`: NULL for an address without a debt. */
static bool may_open(struct relay_table *t, struct relay_owner *o, struct relay_source *src) {
    uint64_t now = io_now_ms(t->cfg.loop);
    fill(&o->churn_left, &o->churn_filled_ms, RELAY_OWNER_BURST, OWNER_RATE, now);
    if (!src)
        return o->churn_left > -RELAY_OWNER_BURST;
    fill(&src->left, &src->filled_ms, SOURCE_BURST, SOURCE_RATE, now);
    return src->left > 0 && (o->churn_left > 0 || (src->left == SOURCE_BURST && o->churn_left > -RELAY_OWNER_BURST));
}

/* ---- waiting ---- */

bool relay_must_wait(struct relay_binding *b, uint64_t from) {
    struct relay_owner *o = b->owner;
    if (o->n_sources == 0 && o->churn_left == RELAY_OWNER_BURST) /* the usual case: nobody waits or has a debt */
        return o->restarting || o->away || mux_session_congested(o->mux);
    struct relay_source *src = source_find(b->t, o, from);
    return o->restarting || o->away || (src && !ht_list_empty(&src->waiting)) || mux_session_congested(o->mux) ||
           !may_open(b->t, o, src);
}

/* Without a session nobody is told to come again for having sent all there is, as `nc -N` does. */
static bool stays(const struct relay_owner *o, const struct relay_waiter *w) {
    return w->half_close || o->away || o->restarting;
}

int relay_wait(struct relay_binding *b, struct relay_waiter *w, uint64_t from) {
    struct relay_table *t = b->t;
    struct relay_owner *o = b->owner;
    struct relay_source *src = source_take(t, o, from);
    if (!src)
        return HT_ENOMEM;
    w->source = src;
    w->since_ms = io_now_ms(t->cfg.loop);
    w->held = o->away;
    w->stays = stays(o, w);
    ht_list_init(&w->node);
    ht_list_init(&w->all);
    ht_list_push_back(&src->waiting, &w->node);
    ht_list_push_back(&t->waiting, &w->all);
    if (!ht_list_linked(&src->turn))
        ht_list_push_back(&o->turns, &src->turn);
    if (!ht_list_linked(&o->waits))
        ht_list_push_back(&t->owners, &o->waits);
    return HT_OK;
}

/* Counts how the wait ends of one that came while the session was away. */
static void hold_ends(struct relay_waiter *w, enum ht_metric_hold how) {
    if (w->held)
        w->source->t->cfg.metrics->holds_total[how]++;
    w->held = false;
}

void relay_wait_end(struct relay_waiter *w) {
    struct relay_source *src = w->source;
    if (!src)
        return;
    hold_ends(w, HT_METRIC_HOLD_LATE);
    w->source = NULL;
    ht_list_remove(&w->node);
    ht_list_remove(&w->all);
    source_unref(src);
}

static bool has_left(struct relay_waiter *w, int *rc) {
    w->stays = w->stays || stays(w->source->owner, w);
    *rc = io_conn_look(w->conn);
    return *rc && !(*rc == HT_EOF && w->stays);
}

static void take_turn(struct relay_waiter *w, enum ht_metric_hold how) {
    int rc;
    bool left = has_left(w, &rc);
    hold_ends(w, left ? HT_METRIC_HOLD_LEFT : how);
    relay_wait_end(w);
    if (left)
        w->ops->left(w, rc);
    else
        w->ops->turn(w);
}

/* Those who were passed over come back into the list of the owner's turns. */
static void still_wait(struct relay_table *t, struct relay_owner *o, struct ht_list *passed) {
    ht_list_splice(&o->turns, passed);
    if (!ht_list_empty(&o->turns) && !ht_list_linked(&o->waits))
        ht_list_push_back(&t->owners, &o->waits);
}

static struct relay_waiter *first_of(struct relay_source *src) {
    return HT_LIST_ENTRY(src->waiting.next, struct relay_waiter, node);
}

/* Whose time is over while the session is away has its turn without a session: it is told that there is none. The
 * visitors of an address wait in the order in which they came. */
static void end_holds(struct relay_table *t, struct relay_owner *o) {
    uint64_t now = io_now_ms(t->cfg.loop);
    struct ht_list later;
    ht_list_init(&later);
    for (unsigned looks = 0; !ht_list_empty(&o->turns);) {
        struct relay_source *src = HT_LIST_ENTRY(o->turns.next, struct relay_source, turn);
        struct relay_waiter *w = first_of(src);
        if (now - ht_max64(w->since_ms, o->away_since_ms) < t->cfg.hold_ms) {
            ht_list_remove(&src->turn);
            ht_list_push_back(&later, &src->turn);
            continue;
        }
        if (looks++ == LOOKS) { /* as in relay_owner_room() */
            io_timer_set(&t->wait_timer, 1);
            break;
        }
        take_turn(w, HT_METRIC_HOLD_LATE);
    }
    still_wait(t, o, &later);
}

bool relay_hold_shed(struct relay_table *t) {
    HT_LIST_FOR (it, &t->owners) {
        struct relay_owner *o = HT_LIST_ENTRY(it, struct relay_owner, waits);
        if (!o->away || ht_list_empty(&o->turns))
            continue;
        struct relay_waiter *w = first_of(HT_LIST_ENTRY(o->turns.next, struct relay_source, turn));
        relay_wait_end(w);
        w->ops->shed(w);
        return true;
    }
    return false;
}

void relay_owner_away(struct relay_table *t, struct relay_owner *o) {
    if (o->away)
        return;
    o->away = true;
    o->away_since_ms = io_now_ms(t->cfg.loop);
}

void relay_owner_back(struct relay_owner *o) { o->away = false; }

unsigned relay_owner_waiting(const struct relay_owner *o) {
    unsigned n = 0;
    HT_LIST_FOR (it, &o->turns) {
        const struct relay_source *src = HT_LIST_ENTRY(it, struct relay_source, turn);
        HT_LIST_FOR (one, &src->waiting)
            n++;
    }
    return n;
}

void relay_owner_room(struct relay_table *t, struct relay_owner *o) {
    struct ht_list debtors;
    if (o->away) {
        end_holds(t, o);
        return;
    }
    ht_list_init(&debtors);
    for (unsigned looks = 0; !ht_list_empty(&o->turns); looks++) {
        if (o->mux && (o->restarting || mux_session_congested(o->mux)))
            break;
        if (looks == LOOKS) { /* the rest follows a moment later, so that the loop can do other work */
            io_timer_set(&t->wait_timer, 1);
            break;
        }
        struct ht_list *first = ht_list_pop_front(&o->turns);
        struct relay_source *src = HT_LIST_ENTRY(first, struct relay_source, turn);
        if (o->mux && !may_open(t, o, src)) {
            ht_list_push_back(&debtors, first);
            continue;
        }
        ht_list_push_back(&o->turns, first);
        take_turn(first_of(src), o->mux ? HT_METRIC_HOLD_SERVED : HT_METRIC_HOLD_LATE);
    }
    still_wait(t, o, &debtors);
}

static void look_who_left(struct relay_table *t) {
    struct ht_list later;
    ht_list_init(&later);
    for (unsigned looks = 0; looks < LOOKS && !ht_list_empty(&t->waiting); looks++) {
        struct ht_list *first = ht_list_pop_front(&t->waiting);
        struct relay_waiter *w = HT_LIST_ENTRY(first, struct relay_waiter, all);
        ht_list_push_back(&later, first);
        int rc;
        if (has_left(w, &rc)) {
            hold_ends(w, HT_METRIC_HOLD_LEFT);
            relay_wait_end(w);
            w->ops->left(w, rc);
        }
    }
    ht_list_splice(&t->waiting, &later);
}

/* Frees sources whose debt is paid. */
static void forget_sources(struct relay_table *t) {
    uint64_t now = io_now_ms(t->cfg.loop);
    HT_LIST_FOR_SAFE (it, &t->all_sources) {
        struct relay_source *src = HT_LIST_ENTRY(it, struct relay_source, all);
        fill(&src->left, &src->filled_ms, SOURCE_BURST, SOURCE_RATE, now);
        if (src->left == SOURCE_BURST && ht_list_empty(&src->waiting))
            source_free(src);
    }
}

void relay_wait_fired(struct io_timer *timer) {
    struct relay_table *t = ht_container_of(timer, struct relay_table, wait_timer);
    look_who_left(t);
    HT_LIST_FOR_SAFE (it, &t->owners)
        relay_owner_room(t, HT_LIST_ENTRY(it, struct relay_owner, waits));
    forget_sources(t);
    if (!ht_list_empty(&t->all_sources) && !io_timer_active(timer))
        io_timer_set(timer, TICK_MS);
}
