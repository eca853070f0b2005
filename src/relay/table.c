/* The table of bindings: owners, their bindings, and what bindings share: permits and limits. BIND itself is in bind.c.
 */
#include "base/mem.h"
#include "relay/front_priv.h"
#include "relay/visitor_priv.h"

#include <limits.h>
#include <stdio.h>

/* ---- the table ---- */

struct relay_table *relay_table_create(const struct relay_kit_config *cfg) {
    struct relay_table *t = ht_calloc(1, sizeof *t);
    if (!t)
        return NULL;
    t->cfg = *cfg;
    size_t n = cfg->n_reserved_ports;
    t->reserved = ht_calloc(n + 1, sizeof t->reserved[0]);
    if (cfg->public_url_pattern)
        t->url_pattern = ht_strndup(cfg->public_url_pattern, strlen(cfg->public_url_pattern));
    if (!t->reserved || (cfg->public_url_pattern && !t->url_pattern)) {
        ht_free(t->reserved);
        ht_free(t->url_pattern);
        ht_free(t);
        return NULL;
    }
    if (n)
        memcpy(t->reserved, cfg->reserved_ports, n * sizeof t->reserved[0]);
    t->cfg.reserved_ports = t->reserved;
    t->refused.total = RELAY_REFUSED;
    t->cfg.public_url_pattern = t->url_pattern;
    ht_list_init(&t->ports);
    ht_list_init(&t->bindings);
    ht_list_init(&t->stray_list);
    ht_list_init(&t->waiting);
    ht_list_init(&t->owners);
    ht_list_init(&t->all_sources);
    for (size_t i = 0; i < RELAY_SOURCE_BUCKETS; i++)
        ht_list_init(&t->sources[i]);
    ht_pool_init(&t->http_visitors, sizeof(struct visitor_http), RELAY_KEEP_VISITORS);
    ht_pool_init(&t->tcp_visitors, sizeof(struct visitor_tcp), RELAY_KEEP_VISITORS);
    ht_pool_init(&t->partial_heads, sizeof(struct http_head), 16);
    ht_pool_init(&t->strays, sizeof(struct relay_stray), RELAY_KEEP_VISITORS);
    ht_pool_init(&t->source_pool, sizeof(struct relay_source), RELAY_KEEP_VISITORS);
    io_timer_init(cfg->loop, &t->stray_timer, relay_stray_fired);
    io_timer_init(cfg->loop, &t->wait_timer, relay_wait_fired);
    return t;
}

void relay_owner_init(struct relay_owner *o, const struct relay_owner_ops *ops) {
    static const struct relay_owner_ops none = {.revoked = NULL};
    *o = (struct relay_owner){.next_bind_id = 1, .ops = ops ? ops : &none};
    ht_list_init(&o->bindings);
    ht_list_init(&o->named);
    ht_list_init(&o->turns);
    ht_list_init(&o->waits);
    o->churn_left = RELAY_OWNER_BURST;
}

/* ---- bindings ---- */

void relay_binding_init(struct relay_binding *b, struct relay_owner *o, struct relay_port *p, uint32_t id) {
    *b = (struct relay_binding){.t = p->t, .owner = o, .port = p, .id = id};
    p->binding = b;
    ht_list_init(&b->node);
    ht_list_init(&b->all);
    ht_list_init(&b->by_name);
    ht_list_init(&b->by_host);
}

struct relay_binding_info relay_binding_info_of(const struct relay_binding *b) {
    struct relay_binding_info info = {
        .owner = b->owner,
        .bind_id = b->id,
        .port = b->port->number,
        .kind = b->port->kind,
        .mode = b->port->mode,
        .visitors = b->port->n_visitors + b->n_by_name + b->n_by_host,
        .names = b->names ? b->names->texts : NULL,
        .n_names = b->names ? b->names->n : 0,
        .ca = b->names ? b->names->ca : ht_slice_of(NULL, 0),
        .label = b->label,
        .since = b->since,
        .hosts = b->hosts ? b->hosts->texts : NULL,
        .n_hosts = b->hosts ? b->hosts->n : 0,
        .url = b->url ? b->url : "",
    };
    if (b->port->listener)
        io_addr_host(&b->port->addr, info.bind_addr);
    return info;
}

void relay_binding_set_names(struct relay_binding *b, struct relay_names *names) {
    relay_names_remove(&b->t->names, b->names);
    b->owner->n_names -= b->names ? (unsigned)b->names->n : 0;
    relay_names_free(&b->names);
    b->names = names;
    if (names) {
        relay_names_add(&b->t->names, names, b);
        b->owner->n_names += (unsigned)names->n;
    }
}

void relay_binding_destroy(struct relay_binding *b, uint16_t code, const char *reason) {
    relay_binding_set_names(b, NULL);
    front_set_hosts(b->t->front, b, NULL);
    relay_name_drop_visitors(b, code, reason);
    front_drop_visitors(b, code, reason);
    relay_port_close(&b->port, code, reason);
    ht_list_remove(&b->node);
    ht_list_remove(&b->all);
    b->owner->n_bindings--;
    ht_free(b->url);
    ht_free(b);
}

void relay_owner_move(struct relay_table *t, struct relay_owner *from, struct relay_owner *to) {
    HT_LIST_FOR (it, &from->bindings)
        HT_LIST_ENTRY(it, struct relay_binding, node)->owner = to;
    ht_list_splice(&to->bindings, &from->bindings);
    to->n_bindings = from->n_bindings;
    to->n_names = from->n_names;
    to->next_bind_id = from->next_bind_id;
    from->n_bindings = from->n_names = 0;
    front_owner_moved(t->front, from, to);
    relay_wait_move(t, from, to);
}

void relay_owner_drop(struct relay_table *t, struct relay_owner *o) {
    while (!ht_list_empty(&o->bindings))
        relay_binding_destroy(HT_LIST_ENTRY(o->bindings.next, struct relay_binding, node), WIRE_CODE_BIND_ERROR,
                              "the session is over");
    relay_owner_forget(t, o);
}

void relay_table_destroy(struct relay_table **tp) {
    struct relay_table *t = *tp;
    if (!t)
        return;
    *tp = NULL;
    while (!ht_list_empty(&t->bindings))
        relay_binding_destroy(HT_LIST_ENTRY(t->bindings.next, struct relay_binding, all), WIRE_CODE_BIND_ERROR,
                              "the kit shuts down");
    front_close(&t->front);
    relay_stray_drop_all(t);
    relay_owner_forget(t, NULL);
    io_timer_stop(&t->wait_timer);
    /* Lingering connections hold permits, which must be given back before `refused` and cfg.fds are freed. */
    while (io_linger_shed(t->cfg.loop, t->cfg.fds) || io_linger_shed(t->cfg.loop, &t->refused))
        ;
    relay_name_index_free(&t->names);
    ht_pool_drain(&t->http_visitors);
    ht_pool_drain(&t->tcp_visitors);
    ht_pool_drain(&t->partial_heads);
    ht_pool_drain(&t->strays);
    ht_pool_drain(&t->source_pool);
    ht_free(t->reserved);
    ht_free(t->url_pattern);
    ht_free(t);
}

void relay_table_drain(struct relay_table *t) { t->draining = true; }

struct mux_session *relay_binding_mux(const struct relay_binding *b) {
    const struct relay_owner *o = b->owner;
    if (!o->mux || o->away || mux_session_draining(o->mux))
        return NULL;
    /* Rule RESUME-5. */
    if (o->not_before_ms && io_now_ms(b->t->cfg.loop) < o->not_before_ms)
        return NULL;
    return o->mux;
}

bool relay_binding_serves(const struct relay_binding *b) {
    return (b->owner->away && b->t->cfg.hold_ms > 0) || relay_binding_mux(b);
}

void relay_table_set_users(struct relay_table *t, unsigned n) { t->n_users = n; }

static unsigned above(unsigned n, unsigned least) { return n > least ? n - least : 0; }

/* Part of the descriptors is everybody's who has few, and what is beyond a last part is anybody's. */
static unsigned fair_left(const struct relay_table *t, const struct io_share *share) {
    const struct io_fds *fds = t->cfg.fds;
    unsigned free = io_fds_available(fds) + fds->lingering;
    unsigned part = fds->total / ht_max(t->n_users, 1), kept = fds->total / RELAY_KEPT_PART;
    if (t->n_users < 2 || !share)
        return UINT_MAX;
    return ht_max(above(part, share->n_conns), above(free, kept));
}

bool relay_fair(const struct relay_table *t, const struct relay_owner *o) { return fair_left(t, o->share) > 0; }

unsigned relay_permits_left(const struct relay_table *t, const struct io_share *share) {
    return ht_min(io_fds_available(t->cfg.fds), fair_left(t, share));
}

static bool take_permit(struct relay_table *t) {
    return io_fds_take(t->cfg.fds) || (io_linger_shed(t->cfg.loop, t->cfg.fds) && io_fds_take(t->cfg.fds));
}

bool relay_permit(struct relay_table *t) {
    return take_permit(t) || (relay_hold_shed(t) && take_permit(t)); /* it lingers behind its answer */
}

const char *relay_no_permit_text(const struct relay_table *t, char out[RELAY_FULL_TEXT]) {
    snprintf(out, RELAY_FULL_TEXT,
             "no file descriptors left: visitors and listeners have all %u (--max-fds, ulimit -n)", t->cfg.fds->total);
    return out;
}

const char *relay_no_stream_text(const struct relay_binding *b, char out[RELAY_FULL_TEXT]) {
    uint32_t all = b->owner->mux ? mux_session_full(b->owner->mux) : 0;
    const struct mux_quota *q = b->owner->quota;
    if (q && q->max_streams && q->streams >= q->max_streams)
        snprintf(out, RELAY_FULL_TEXT, "the user has the %u streams the user may have (max-streams)", q->max_streams);
    else if (all)
        snprintf(out, RELAY_FULL_TEXT, "the session has the %u streams it may have (--max-streams-per-session)", all);
    else
        snprintf(out, RELAY_FULL_TEXT, "the driver's connection is too slow for more requests");
    return out;
}

bool relay_is_short(const struct relay_binding *b) {
    const struct io_fds *fds = b->t->cfg.fds;
    const struct mux_session *mux = b->owner->mux;
    /* Three quarters are in use. Lingering connections do not count, since they are closed when a permit is needed. */
    return (uint64_t)(fds->used - fds->lingering) * 4 >= (uint64_t)fds->total * 3 || (mux && mux_session_short(mux));
}

int relay_unbind(struct relay_table *t, struct relay_owner *o, uint32_t bind_id) {
    (void)t;
    HT_LIST_FOR (it, &o->bindings) {
        struct relay_binding *b = HT_LIST_ENTRY(it, struct relay_binding, node);
        if (b->id == bind_id) {
            relay_binding_destroy(b, WIRE_CODE_BIND_ERROR, "the port was unbound");
            return HT_OK;
        }
    }
    return HT_EINVAL;
}

/* ---- for the admin API ---- */

void relay_each_binding(const struct relay_table *t, const struct relay_owner *o,
                        void (*each)(void *ctx, const struct relay_binding_info *info), void *ctx) {
    HT_LIST_FOR (it, &t->bindings) {
        const struct relay_binding *b = HT_LIST_ENTRY(it, struct relay_binding, all);
        if (o && b->owner != o)
            continue;
        struct relay_binding_info info = relay_binding_info_of(b);
        each(ctx, &info);
    }
}

unsigned relay_count_visitors(const struct relay_table *t) { return t->n_visitors; }
