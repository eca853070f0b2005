#include "base/log.h"
#include "base/mem.h"
#include "base/text.h"
#include "log_gen.h"
#include "relay/front_priv.h"
#include "relay/visitor_priv.h"

#include <stdio.h>
#include <time.h>

static const char kept_cap_text[] =
    "this session already has %u ports, and the kit allows no more (--max-bindings-per-session)";
static const char names_cap_text[] =
    "this session would have more than %u names, and the kit allows no more (--max-names-per-session)";
#define NUMBER_TRIES 64

static const char taken_text[] = "taken over by another session";

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

/* Those of a BIND, or NULL, in the place of the ones it has. There is room for them, and nobody holds them. */
static void set_names(struct relay_binding *b, struct relay_names *names) {
    relay_names_remove(&b->t->names, b->names);
    b->owner->n_names -= b->names ? (unsigned)b->names->n : 0;
    relay_names_free(&b->names);
    b->names = names;
    if (names) {
        relay_names_add(&b->t->names, names, b);
        b->owner->n_names += (unsigned)names->n;
    }
}

/* A port goes with its only binding. */
static void binding_destroy(struct relay_binding *b, uint16_t code, const char *reason) {
    set_names(b, NULL);
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
        binding_destroy(HT_LIST_ENTRY(o->bindings.next, struct relay_binding, node), WIRE_CODE_BIND_ERROR,
                        "the session is over");
    relay_owner_forget(t, o);
}

void relay_table_destroy(struct relay_table **tp) {
    struct relay_table *t = *tp;
    if (!t)
        return;
    *tp = NULL;
    while (!ht_list_empty(&t->bindings))
        binding_destroy(HT_LIST_ENTRY(t->bindings.next, struct relay_binding, all), WIRE_CODE_BIND_ERROR,
                        "the kit shuts down");
    front_close(&t->front);
    relay_stray_drop_all(t);
    relay_owner_forget(t, NULL);
    io_timer_stop(&t->wait_timer);
    /* Those that linger hold permits of a budget that may go with us. */
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
    if (!o->mux || mux_session_draining(o->mux))
        return NULL;
    /* Rule RESUME-5. */
    if (o->not_before_ms && io_now_ms(b->t->cfg.loop) < o->not_before_ms)
        return NULL;
    return o->mux;
}

void relay_table_set_users(struct relay_table *t, unsigned n) { t->n_users = n; }

bool relay_fair(const struct relay_table *t, const struct relay_owner *o) {
    const struct io_fds *fds = t->cfg.fds;
    unsigned part = fds->total / ht_max(t->n_users, 1), kept = fds->total / RELAY_KEPT_PART;
    return t->n_users < 2 || !o->share || o->share->n_conns < part || io_fds_available(fds) + fds->lingering > kept;
}

bool relay_permit(struct relay_table *t) {
    return io_fds_take(t->cfg.fds) || (io_linger_shed(t->cfg.loop, t->cfg.fds) && io_fds_take(t->cfg.fds));
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
    /* Three quarters are taken; those that linger give way. */
    return (uint64_t)(fds->used - fds->lingering) * 4 >= (uint64_t)fds->total * 3 || (mux && mux_session_short(mux));
}

/* ---- BIND ---- */

/* A BIND while it is checked and carried out. */
struct request {
    struct relay_table *t;
    struct relay_owner *o;
    const struct wire_bind *bind;
    struct relay_names *names; /* until a binding has them; NULL: none */
    struct relay_names *hosts; /* the same */
    struct io_addr addr;       /* without its port */
    enum wire_bind_error *code;
    struct ht_errmsg *err;
};

/* What the BIND says by itself (rules BIND-2, BIND-3, PORT-2, PORT-3). */
static int check_fields(struct request *r) {
    const struct wire_bind *b = r->bind;
    const struct relay_kit_config *cfg = &r->t->cfg;
    bool expose = b->kind == WIRE_KIND_HTTP && b->mode == WIRE_MODE_EXPOSE;
    bool pull = b->kind == WIRE_KIND_TCP && b->mode == WIRE_MODE_PULL;
    if (!expose && !pull)
        return RELAY_REFUSE(r, INVALID_KIND, HT_EINVAL, "only http with expose and tcp with pull can be bound");
    if (pull && b->takeover)
        return RELAY_REFUSE(r, INVALID_KIND, HT_EINVAL, "only an expose binding can be taken over");
    if (expose && (b->n_names || b->portless))
        return RELAY_REFUSE(r, INVALID_KIND, HT_EINVAL, "only a pull binding has names");
    if (b->portless && (!b->n_names || b->container_port || b->host.n))
        return RELAY_REFUSE(r, INVALID_NAME, HT_EINVAL,
                            "a portless binding needs a name, and has neither a port nor a host");
    if (pull && (b->has_name || b->n_hostnames))
        return RELAY_REFUSE(r, INVALID_KIND, HT_EINVAL, "only an expose binding has a name or hostnames");
    if (!r->t->front && (b->has_name || b->n_hostnames))
        return RELAY_REFUSE(r, INVALID_NAME, HT_EINVAL,
                            "this kit has no public port, so a binding has no hosts there (--public, --domain)");
    r->addr = cfg->expose_address;
    if (pull && relay_pull_addr(b->host, &r->addr))
        return RELAY_REFUSE(r, INVALID_HOST, HT_EINVAL, "a pull listens on a loopback address only");
    uint16_t port = b->container_port;
    if (port == 0 || (expose && cfg->no_ports)) /* a number alone is in nobody's way */
        return HT_OK;
    if (relay_port_reserved(r->t, port))
        return RELAY_REFUSE(r, RESERVED_PORT, HT_EINVAL, "port %u is reserved", port);
    if (port < WIRE_LIMIT_PRIVILEGED_BELOW && !(expose ? cfg->allow_privileged_expose : cfg->allow_privileged_pull))
        return RELAY_REFUSE(r, PRIVILEGED_PORT, HT_EACCESS, "port %u is privileged; this kit does not allow those",
                            port);
    return HT_OK;
}

/* Rules NAME-1, NAME-4, NAME-8. */
static int read_names(struct request *r) {
    const struct wire_bind *b = r->bind;
    struct relay_table *t = r->t;
    if (b->has_ca && !b->n_names)
        return RELAY_REFUSE(r, INVALID_CA, HT_EINVAL, "a ca is for names, and the binding has none");
    if (b->has_ca && wire_ca_check(b->ca, r->err))
        return *r->code = WIRE_BIND_ERROR_INVALID_CA, HT_EINVAL;
    int rc = relay_names_read(b, &r->names, r->err);
    if (rc) {
        *r->code = rc == HT_EINVAL ? WIRE_BIND_ERROR_INVALID_NAME : WIRE_BIND_ERROR_INTERNAL;
        return rc;
    }
    if (r->names && relay_names_reserve(&t->names, r->names))
        return RELAY_REFUSE(r, INTERNAL, HT_ENOMEM, "out of memory");
    if (r->names && r->o->n_names + r->names->n > t->cfg.max_names_per_session)
        return RELAY_REFUSE(r, BIND_CAP_EXCEEDED, HT_ELIMIT, names_cap_text, t->cfg.max_names_per_session);
    return HT_OK;
}

/* Rules HOST-1, HOST-2; NAME-4. */
static int read_hosts(struct request *r) {
    struct relay_front *f = r->t->front;
    if (!f || r->bind->mode != WIRE_MODE_EXPOSE)
        return HT_OK;
    int rc = front_hosts_read(f, r->o, r->bind, &r->hosts, r->code, r->err);
    if (rc)
        return rc;
    if (r->o->n_names + r->hosts->n_asked > r->t->cfg.max_names_per_session)
        return RELAY_REFUSE(r, BIND_CAP_EXCEEDED, HT_ELIMIT, names_cap_text, r->t->cfg.max_names_per_session);
    return HT_OK;
}

static void belongs_to(struct relay_binding *b, const struct request *r) {
    b->owner = r->o;
    b->since = (int64_t)time(NULL);
    ht_text_clean(r->bind->has_label ? r->bind->label : ht_slice_of(NULL, 0), b->label, sizeof b->label);
}

static void answer(const struct relay_binding *b, struct relay_bound *out) {
    out->bind_id = b->id;
    out->port = b->port->number;
    out->names = b->names ? b->names->texts : NULL;
    out->n_names = b->names ? b->names->n : 0;
    out->hosts = b->hosts ? b->hosts->texts : NULL;
    out->n_hosts = b->hosts ? b->hosts->n : 0;
}

/* The one that BIND_OK has; "" for none. The pattern of an edge in front goes before a host. */
static void put_url(struct relay_binding *b, char *out, size_t cap) {
    const struct relay_table *t = b->t;
    char url[RELAY_URL_MAX];
    out[0] = '\0';
    if (t->url_pattern && b->port->number && relay_public_url(t->url_pattern, b->port->number, out, cap))
        out[0] = '\0'; /* out of memory: the binding stands, only its name is not known */
    else if (!t->url_pattern && b->hosts)
        snprintf(out, cap, "%s", relay_front_url(t->front, b->hosts->texts[0], url));
    ht_free(b->url);
    b->url = out[0] ? ht_strndup(out, strlen(out)) : NULL;
}

void relay_binding_init(struct relay_binding *b, struct relay_owner *o, struct relay_port *p, uint32_t id) {
    *b = (struct relay_binding){.t = p->t, .owner = o, .port = p, .id = id};
    p->binding = b;
    ht_list_init(&b->node);
    ht_list_init(&b->all);
    ht_list_init(&b->by_name);
    ht_list_init(&b->by_host);
}

static bool port_host_taken(const struct request *r, uint16_t number) {
    front_hosts_of_port(r->t->front, r->o, r->hosts, number);
    return relay_names_holder(&r->t->front->hosts, r->o->user, front_host_of_port(r->hosts)) != NULL;
}

/* The number of the port is known: whether its host can be had. */
static int check_port_host(struct request *r, uint16_t number) {
    if (port_host_taken(r, number))
        return RELAY_REFUSE(r, NAME_IN_USE, HT_EINUSE, "somebody has the host of the port that was picked, %u", number);
    if (!front_may_have(r->t->front, r->o, front_host_of_port(r->hosts)->host, r->err))
        return *r->code = WIRE_BIND_ERROR_NOT_ALLOWED, HT_EACCESS;
    return HT_OK;
}

/* The port that nobody listens on has the number that was asked for, or one whose host can be had; one that is listened
 * on may have been picked just now. */
static int number_it(struct request *r, struct relay_port *p) {
    int rc = HT_OK;
    if (!r->hosts || r->bind->container_port)
        return HT_OK;
    if (p->listener)
        return check_port_host(r, p->number);
    for (unsigned i = 0; i < NUMBER_TRIES; i++) {
        uint16_t number = relay_pick_port(r->t, r->o, false);
        rc = check_port_host(r, number);
        p->number = rc == HT_OK ? number : 0;
        if (rc == HT_OK)
            break;
    }
    return rc;
}

static int bind_new(struct request *r, struct relay_bound *out) {
    struct relay_table *t = r->t;
    if (r->o->n_bindings >= t->cfg.max_bindings_per_session)
        return RELAY_REFUSE(r, BIND_CAP_EXCEEDED, HT_ELIMIT, kept_cap_text, t->cfg.max_bindings_per_session);
    if (r->o->ops->may_add && !r->o->ops->may_add(r->o, r->err))
        return *r->code = WIRE_BIND_ERROR_BIND_CAP_EXCEEDED, HT_ELIMIT;
    struct relay_binding *b = ht_calloc(1, sizeof *b);
    if (!b)
        return RELAY_REFUSE(r, INTERNAL, HT_ENOMEM, "out of memory");
    int rc = relay_port_open(t, r->o, r->bind, &r->addr, &b->port, r->code, r->err);
    if (rc) {
        ht_free(b);
        return rc;
    }
    rc = number_it(r, b->port);
    if (rc) {
        relay_port_close(&b->port, WIRE_CODE_BIND_ERROR, "the binding has no host");
        ht_free(b);
        return rc;
    }
    relay_binding_init(b, r->o, b->port, r->o->next_bind_id++);
    belongs_to(b, r);
    ht_list_push_back(&r->o->bindings, &b->node);
    ht_list_push_back(&t->bindings, &b->all);
    r->o->n_bindings++;
    set_names(b, r->names);
    front_set_hosts(t->front, b, r->hosts);
    r->names = r->hosts = NULL;
    put_url(b, out->public_url, sizeof out->public_url);
    answer(b, out);
    return HT_OK;
}

/*
 * Rule TAKEOVER-1: the listener stays open and only changes hands, so that no visitor is refused. Old streams end
 * first, then the old owner hears of it; the caller's BIND_OK comes last.
 */
static int take_over(struct request *r, struct relay_binding *b, struct relay_bound *out) {
    struct relay_owner *old = b->owner;
    uint32_t old_id = b->id;
    uint16_t code = WIRE_CODE_BIND_TAKEOVER;
    if (old != r->o && r->o->n_bindings >= r->t->cfg.max_bindings_per_session)
        return RELAY_REFUSE(r, BIND_CAP_EXCEEDED, HT_ELIMIT, kept_cap_text, r->t->cfg.max_bindings_per_session);
    set_names(b, NULL);
    front_set_hosts(b->t->front, b, NULL);
    old->n_bindings--;
    r->o->n_bindings++;
    belongs_to(b, r);
    b->id = r->o->next_bind_id++;
    set_names(b, r->names);
    front_set_hosts(b->t->front, b, r->hosts);
    r->names = r->hosts = NULL;
    ht_list_remove(&b->node);
    ht_list_push_back(&r->o->bindings, &b->node);
    relay_name_drop_visitors(b, code, taken_text);
    relay_port_revoke(b->port, b, code, taken_text);
    front_revoke_visitors(b, code, taken_text);
    put_url(b, out->public_url, sizeof out->public_url);
    r->t->cfg.metrics->takeovers_total++;
    answer(b, out);
    if (old->ops->revoked)
        old->ops->revoked(old, old_id, taken_text);
    return HT_OK;
}

/* A listener that cannot serve the new binding (the other kind, or another address) is closed, and one of its own is
 * made: somebody may be refused in between. */
static void revoke(struct relay_binding *b) {
    struct relay_owner *old = b->owner;
    uint32_t old_id = b->id;
    b->t->cfg.metrics->takeovers_total++;
    binding_destroy(b, WIRE_CODE_BIND_TAKEOVER, taken_text);
    if (old->ops->revoked)
        old->ops->revoked(old, old_id, taken_text);
}

static bool same_listener(const struct request *r, const struct relay_binding *b) {
    char x[IO_ADDR_TEXT], y[IO_ADDR_TEXT];
    const struct relay_port *p = b->port;
    return p->kind == r->bind->kind && p->mode == r->bind->mode &&
           strcmp(io_addr_host(&p->addr, x), io_addr_host(&r->addr, y)) == 0;
}

static struct relay_binding_info info_of(const struct relay_binding *b) {
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

/* `what`: "port 3000", or a name or host. */
static int held(struct request *r, enum wire_bind_error code, const char *what, const struct relay_binding *b) {
    const struct relay_owner *holder = b->owner;
    *r->code = code;
    int rc = ht_fail(r->err, HT_EINUSE, "%s is bound by %s session", what, holder == r->o ? "this" : "another");
    struct relay_binding_info info = info_of(b);
    if (holder != r->o && holder->ops->keeps)
        holder->ops->keeps(holder, r->o, what, &info, r->err);
    return rc;
}

static enum relay_yield ask(const struct request *r, struct relay_owner *holder) {
    return holder != r->o && holder->ops->yields ? holder->ops->yields(holder, r->o) : RELAY_KEEPS;
}

/*
 * Whoever is in the way goes out of it, is asked (HT_EAGAIN), or stays. *out: the binding whose listener changes hands,
 * NULL: there is none in the way any more.
 */
static int clear_the_way(struct request *r, struct relay_binding **out) {
    struct relay_port *p;
    while ((p = relay_port_find(r->t, &r->addr, r->bind->container_port))) {
        struct relay_binding *b = p->binding;
        struct relay_owner *holder = b->owner;
        *out = b;
        if (holder->user != r->o->user) /* rule USER-2 */
            return RELAY_REFUSE(r, PORT_IN_USE, HT_EINUSE, relay_port_in_use_text, p->number);
        if (r->bind->takeover && p->mode == WIRE_MODE_EXPOSE)
            return HT_OK;
        enum relay_yield yields = ask(r, holder);
        char what[16];
        snprintf(what, sizeof what, "port %u", p->number);
        if (yields == RELAY_PENDING)
            return HT_EAGAIN;
        if (yields == RELAY_KEEPS)
            return held(r, WIRE_BIND_ERROR_ALREADY_BOUND, what, b);
        if (same_listener(r, b))
            return HT_OK;
        *out = NULL;
        if (r->o->n_bindings >= r->t->cfg.max_bindings_per_session)
            return HT_OK; /* which bind_new() refuses, and nobody has lost anything */
        revoke(b);
    }
    return HT_OK;
}

static const char *name_text(const struct relay_name *e, char out[WIRE_NAME_ROOM]) {
    struct wire_name name = {
        .wildcard = e->wildcard, .ports = e->port ? WIRE_NAME_ONE_PORT : WIRE_NAME_ANY_PORT, .port = e->port};
    snprintf(name.host, sizeof name.host, "%s", e->host);
    return wire_name_put(&name, out);
}

/*
 * Rule NAME-2: the same for names, whose binding goes as a whole. One that is in the way for its port is left to
 * clear_the_way(). With `keepers` only those are looked for that keep theirs for sure: then nobody has lost anything
 * for a BIND that is refused. All others are asked at once, so that a BIND waits for all of them together.
 */
static int clear_names(struct request *r, const struct relay_binding *of_port, bool keepers) {
    int rc = HT_OK;
    char text[WIRE_NAME_ROOM];
    if (!keepers && !of_port && r->o->n_bindings >= r->t->cfg.max_bindings_per_session)
        return HT_OK; /* which bind_new() refuses, and nobody has lost anything */
    for (size_t i = 0; r->names && i < r->names->n_entries; i++) {
        struct relay_name *e = relay_names_holder(&r->t->names, r->o->user, &r->names->entries[i]);
        if (!e || e->b == of_port)
            continue;
        enum relay_yield yields = ask(r, e->b->owner);
        if (yields == RELAY_KEEPS)
            return held(r, WIRE_BIND_ERROR_ALREADY_BOUND, name_text(e, text), e->b);
        if (yields == RELAY_PENDING)
            rc = HT_EAGAIN;
        else if (!keepers)
            revoke(e->b);
    }
    return keepers ? HT_OK : rc;
}

/* Whether the holder of a host gives it up: as a port, and to its own client's takeover at once. */
static enum relay_yield ask_for_host(const struct request *r, struct relay_owner *holder) {
    bool same = r->o->ops->same && r->o->ops->same(r->o, holder);
    return holder != r->o && same && r->bind->takeover ? RELAY_YIELDS : ask(r, holder);
}

/* Whether it has the port that is asked for, so that the port decides. */
static bool is_of_port(const struct request *r, const struct relay_binding *b) {
    return r->bind->container_port && b->port->number == r->bind->container_port;
}

/*
 * Rule HOST-3: the same as clear_names() for hosts. Where nothing listens for an EXPOSE, the host of its port stands
 * for the port: its binding changes hands (clear_number()).
 */
static int clear_hosts(struct request *r, const struct relay_binding *of_port, bool keepers) {
    int rc = HT_OK;
    if (!keepers && !of_port && r->o->n_bindings >= r->t->cfg.max_bindings_per_session)
        return HT_OK; /* as there */
    for (size_t i = 0; r->hosts && i < r->hosts->n_entries; i++) {
        const struct relay_name *own = &r->hosts->entries[i];
        struct relay_name *e = own->host[0] ? relay_names_holder(&r->t->front->hosts, r->o->user, own) : NULL;
        if (!e || e->b == of_port || (keepers && is_of_port(r, e->b)))
            continue;
        enum relay_yield yields = ask_for_host(r, e->b->owner);
        if (yields == RELAY_KEEPS)
            return held(r, WIRE_BIND_ERROR_NAME_IN_USE, own->host, e->b);
        if (yields == RELAY_PENDING)
            rc = HT_EAGAIN;
        else if (!keepers)
            revoke(e->b);
    }
    return keepers ? HT_OK : rc;
}

/* Without listeners: whose the number is for this driver's name. */
static int clear_number(struct request *r, struct relay_binding **out) {
    struct relay_name *e = relay_names_holder(&r->t->front->hosts, r->o->user, front_host_of_port(r->hosts));
    if (!e || !is_of_port(r, e->b))
        return HT_OK;                    /* a name that is spelled like it is a host like any other */
    if (e->b->owner->user != r->o->user) /* rule USER-2 */
        return held(r, WIRE_BIND_ERROR_NAME_IN_USE, e->host, e->b);
    enum relay_yield yields = r->bind->takeover ? RELAY_YIELDS : ask(r, e->b->owner);
    if (yields == RELAY_KEEPS)
        return held(r, WIRE_BIND_ERROR_NAME_IN_USE, e->host, e->b);
    if (yields == RELAY_YIELDS)
        *out = e->b;
    return yields == RELAY_PENDING ? HT_EAGAIN : HT_OK;
}

static int check_driver_name(struct request *r) {
    const struct relay_owner *other = r->hosts ? front_name_taken(r->t->front, r->o, r->bind) : NULL;
    if (!other)
        return HT_OK;
    return RELAY_REFUSE(r, NAME_IN_USE, HT_EINUSE,
                        "the name \"%s\" belongs to another driver, which has bindings under it: take another one",
                        other->name);
}

static int bind_it(struct request *r, struct relay_bound *out) {
    struct relay_binding *holder = NULL;
    int rc = check_driver_name(r);
    if (rc == HT_OK)
        rc = clear_names(r, NULL, true);
    if (rc == HT_OK)
        rc = clear_hosts(r, NULL, true);
    if (rc == HT_OK && r->bind->container_port && (r->bind->mode == WIRE_MODE_PULL || !r->t->cfg.no_ports))
        rc = clear_the_way(r, &holder);
    else if (rc == HT_OK && r->bind->container_port)
        rc = clear_number(r, &holder);
    if (rc == HT_OK)
        rc = clear_names(r, holder, false);
    if (rc == HT_OK)
        rc = clear_hosts(r, holder, false);
    if (rc)
        return rc;
    return holder ? take_over(r, holder, out) : bind_new(r, out);
}

int relay_bind(struct relay_table *t, struct relay_owner *o, const struct wire_bind *bind, struct relay_bound *out,
               enum wire_bind_error *code, struct ht_errmsg *err) {
    struct request r = {.t = t, .o = o, .bind = bind, .code = code, .err = err};
    *out = (struct relay_bound){.public_url = ""};
    int rc = check_fields(&r);
    /* Before anything changes: a takeover cannot be taken back. The longest port has five digits. */
    if (rc == HT_OK && relay_public_url(t->url_pattern, UINT16_MAX, out->public_url, sizeof out->public_url))
        rc = RELAY_REFUSE(&r, INTERNAL, HT_ESPACE, "the public URL cannot be made");
    if (rc == HT_OK)
        rc = read_names(&r);
    if (rc == HT_OK)
        rc = read_hosts(&r);
    if (rc == HT_OK)
        rc = bind_it(&r, out);
    relay_names_free(&r.names);
    relay_names_free(&r.hosts);
    if (rc == HT_OK)
        ht_text_clean(bind->has_label ? bind->label : ht_slice_of(NULL, 0), out->label, sizeof out->label);
    return rc;
}

int relay_unbind(struct relay_table *t, struct relay_owner *o, uint32_t bind_id) {
    (void)t;
    HT_LIST_FOR (it, &o->bindings) {
        struct relay_binding *b = HT_LIST_ENTRY(it, struct relay_binding, node);
        if (b->id == bind_id) {
            binding_destroy(b, WIRE_CODE_BIND_ERROR, "the port was unbound");
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
        struct relay_binding_info info = info_of(b);
        each(ctx, &info);
    }
}

unsigned relay_count_visitors(const struct relay_table *t) { return t->n_visitors; }
