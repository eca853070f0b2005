/*
 * BIND: checks what it asks for, asks those who hold it, and makes a binding or moves one to its new owner. Holders
 * that will not yield are looked for first, so that nobody loses anything for a BIND that is refused.
 */
#include "base/mem.h"
#include "base/text.h"
#include "relay/front_priv.h"
#include "relay/visitor_priv.h"

#include <stdio.h>
#include <time.h>

#define NUMBER_TRIES 64 /* random numbers for a binding without a listener */

static const char kept_cap_text[] =
    "this session already has %u ports, and the kit allows no more (--max-bindings-per-session)";
static const char names_cap_text[] =
    "this session would have more than %u names, and the kit allows no more (--max-names-per-session)";
static const char taken_text[] = "taken over by another session";

/* A BIND while it is checked and carried out. */
struct request {
    struct relay_table *t;
    struct relay_owner *o;
    const struct wire_bind *bind;
    struct relay_names *names; /* NULL: none, or a binding owns them already */
    struct relay_names *hosts; /* the same */
    struct io_addr addr;       /* where to listen; its port is not set */
    enum wire_bind_error *code;
    struct ht_errmsg *err;
};

/* ---- checks of the frame itself ---- */

/* Rules BIND-2, BIND-3, PORT-2, PORT-3. */
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
    if (port == 0 || (expose && cfg->no_ports)) /* without a listener the port is only a number */
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

/* ---- making a binding, and changing its owner ---- */

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

/* Writes the URL for BIND_OK; "": none. With --public-url-pattern it is that of the port, else that of the first host.
 */
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

static bool port_host_taken(const struct request *r, uint16_t number) {
    front_hosts_of_port(r->t->front, r->o, r->hosts, number);
    return relay_names_holder(&r->t->front->hosts, r->o->user, front_host_of_port(r->hosts)) != NULL;
}

/* Checks the host of the port, now that its number is known. */
static int check_port_host(struct request *r, uint16_t number) {
    if (port_host_taken(r, number))
        return RELAY_REFUSE(r, NAME_IN_USE, HT_EINUSE, "another binding has the host of the port that was picked, %u",
                            number);
    if (!front_may_have(r->t->front, r->o, front_host_of_port(r->hosts)->host, r->err))
        return *r->code = WIRE_BIND_ERROR_NOT_ALLOWED, HT_EACCESS;
    return HT_OK;
}

/* Completes the host of a port that the kit picks. A port without a listener first gets a number whose host is free. */
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
    relay_binding_set_names(b, r->names);
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
    relay_binding_set_names(b, NULL);
    front_set_hosts(b->t->front, b, NULL);
    old->n_bindings--;
    r->o->n_bindings++;
    belongs_to(b, r);
    b->id = r->o->next_bind_id++;
    relay_binding_set_names(b, r->names);
    front_set_hosts(b->t->front, b, r->hosts);
    r->names = r->hosts = NULL;
    ht_list_remove(&b->node);
    ht_list_push_back(&r->o->bindings, &b->node);
    if (b->port->listener)
        io_listener_pause(b->port->listener, false); /* relay_owner_pause() may have been called for `old` */
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

/* Takes a binding away from its owner and closes it. For a binding whose listener cannot serve the new one, which has
 * another kind or address: visitors may be refused until the new listener is open. */
static void revoke(struct relay_binding *b) {
    struct relay_owner *old = b->owner;
    uint32_t old_id = b->id;
    b->t->cfg.metrics->takeovers_total++;
    relay_binding_destroy(b, WIRE_CODE_BIND_TAKEOVER, taken_text);
    if (old->ops->revoked)
        old->ops->revoked(old, old_id, taken_text);
}

static bool same_listener(const struct request *r, const struct relay_binding *b) {
    char x[IO_ADDR_TEXT], y[IO_ADDR_TEXT];
    const struct relay_port *p = b->port;
    return p->kind == r->bind->kind && p->mode == r->bind->mode &&
           strcmp(io_addr_host(&p->addr, x), io_addr_host(&r->addr, y)) == 0;
}

/* ---- who holds what it asks for ---- */

/* Refuses the BIND because `b` has `what`: "port 3000", or a name or host. */
static int held(struct request *r, enum wire_bind_error code, const char *what, const struct relay_binding *b) {
    const struct relay_owner *holder = b->owner;
    *r->code = code;
    int rc = ht_fail(r->err, HT_EINUSE, "%s is bound by %s session", what, holder == r->o ? "this" : "another");
    struct relay_binding_info info = relay_binding_info_of(b);
    if (holder != r->o && holder->ops->keeps)
        holder->ops->keeps(holder, r->o, what, &info, r->err);
    return rc;
}

static enum relay_yield ask(const struct request *r, struct relay_owner *holder) {
    return holder != r->o && holder->ops->yields ? holder->ops->yields(holder, r->o) : RELAY_KEEPS;
}

/*
 * Frees the port. 0: it is free, or *out is the binding that gets the new owner. HT_EAGAIN: its holder has to be waited
 * for. Another error: the holder keeps it.
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
            return HT_OK; /* bind_new() refuses it, so nobody may lose anything here */
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
 * Rule NAME-2: the same for names. A binding is revoked with all of its names. `of_port`: the binding that gets the new
 * owner anyway. With `keepers` nothing is revoked: 0 unless a holder keeps a name. All others are asked in that pass,
 * so that the BIND waits for all of them at the same time.
 */
static int clear_names(struct request *r, const struct relay_binding *of_port, bool keepers) {
    int rc = HT_OK;
    char text[WIRE_NAME_ROOM];
    if (!keepers && !of_port && r->o->n_bindings >= r->t->cfg.max_bindings_per_session)
        return HT_OK; /* as in clear_the_way() */
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

/* Whether the holder of a host gives it up: as for a port, and at once to a takeover by its own client. */
static enum relay_yield ask_for_host(const struct request *r, struct relay_owner *holder) {
    bool same = r->o->ops->same && r->o->ops->same(r->o, holder);
    return holder != r->o && same && r->bind->takeover ? RELAY_YIELDS : ask(r, holder);
}

/* True when `b` has the port that is asked for. Then the port decides, and not the host. */
static bool is_of_port(const struct request *r, const struct relay_binding *b) {
    return r->bind->container_port && b->port->number == r->bind->container_port;
}

/*
 * Rule HOST-3: as clear_names(), for hosts. With --no-ports the host of a port stands for the port itself, which
 * clear_number() handles.
 */
static int clear_hosts(struct request *r, const struct relay_binding *of_port, bool keepers) {
    int rc = HT_OK;
    if (!keepers && !of_port && r->o->n_bindings >= r->t->cfg.max_bindings_per_session)
        return HT_OK; /* as in clear_the_way() */
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

/* Rule HOST-5: as clear_the_way(), for a port without a listener. The number belongs to the driver's name. */
static int clear_number(struct request *r, struct relay_binding **out) {
    struct relay_name *e = relay_names_holder(&r->t->front->hosts, r->o->user, front_host_of_port(r->hosts));
    if (!e || !is_of_port(r, e->b))
        return HT_OK; /* a name of another binding that is spelled like this host: clear_hosts() handles it */
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

/* ---- all of it ---- */

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
    /* The URL is tried out before anything changes, with the longest port: a takeover cannot be undone. */
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

/* ---- a binding of another process ---- */

/* Whether somebody here has what the binding had. */
static int still_free(struct request *r, const struct relay_kept *kept) {
    uint16_t port = r->bind->container_port;
    if (port && (r->bind->mode == WIRE_MODE_PULL || !r->t->cfg.no_ports) && relay_port_find(r->t, &r->addr, port))
        return ht_fail(r->err, HT_ELIMIT, "port %u is bound already", port);
    for (size_t i = 0; r->names && i < r->names->n_entries; i++)
        if (relay_names_holder(&r->t->names, r->o->user, &r->names->entries[i]))
            return ht_fail(r->err, HT_ELIMIT, "%s is bound already", r->names->entries[i].host);
    for (size_t i = 0; r->hosts && i < r->hosts->n_entries; i++)
        if (r->hosts->entries[i].host[0] && relay_names_holder(&r->t->front->hosts, r->o->user, &r->hosts->entries[i]))
            return ht_fail(r->err, HT_ELIMIT, "%s is bound already", r->hosts->entries[i].host);
    HT_LIST_FOR (it, &r->o->bindings)
        if (HT_LIST_ENTRY(it, struct relay_binding, node)->id == kept->bind_id)
            return ht_fail(r->err, HT_ELIMIT, "the session has a binding %u already", (unsigned)kept->bind_id);
    return HT_OK;
}

int relay_restore(struct relay_table *t, struct relay_owner *o, const struct relay_kept *kept, struct ht_errmsg *err) {
    enum wire_bind_error code = WIRE_BIND_ERROR_INTERNAL;
    struct request r = {.t = t, .o = o, .bind = &kept->bind, .code = &code, .err = err};
    struct relay_bound out = {.public_url = ""};
    uint32_t next = o->next_bind_id;
    int rc = check_fields(&r);
    if (rc == HT_OK)
        rc = read_names(&r);
    if (rc == HT_OK)
        rc = read_hosts(&r);
    if (rc == HT_OK)
        rc = check_driver_name(&r);
    if (rc == HT_OK)
        rc = still_free(&r, kept);
    if (rc == HT_OK) {
        o->next_bind_id = kept->bind_id;
        rc = bind_new(&r, &out);
        o->next_bind_id = next;
    }
    if (rc == HT_OK)
        HT_LIST_ENTRY(o->bindings.prev, struct relay_binding, node)->since = kept->since;
    relay_names_free(&r.names);
    relay_names_free(&r.hosts);
    return rc == HT_OK || code == WIRE_BIND_ERROR_PORT_IN_USE ? rc : rc == HT_EINUSE ? HT_ELIMIT : rc;
}
