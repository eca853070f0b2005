/* Bindings that outlive their kit: what another process needs to make them anew, and to share their ports until then.
 * relay_restore() itself is in bind.c. */
#include "relay/front_priv.h"
#include "relay/visitor_priv.h"

/* The hosts that the binding asked for, which come before that of its port (front_hosts.c): its own domains, and at
 * most one below the front's domain, by its label. */
static void put_hosts(const struct relay_binding *b, struct wire_bind *bind, struct ht_slice *hostnames) {
    const char *domain = b->t->front->domain;
    size_t n = strlen(domain);
    for (size_t i = 0; i < b->hosts->n_asked && bind->n_hostnames < WIRE_LIMIT_MAX_HOSTNAMES; i++) {
        struct ht_slice host = b->hosts->texts[i];
        const char *dot = memchr(host.p, '.', host.n);
        size_t label = dot ? (size_t)(dot - host.p) : host.n;
        if (dot && host.n - label - 1 == n && memcmp(dot + 1, domain, n) == 0) {
            bind->has_name = true;
            bind->name = ht_slice_of(host.p, label);
        } else {
            hostnames[bind->n_hostnames++] = host;
        }
    }
    bind->hostnames = hostnames;
}

static struct io_addr no_address(void) { return (struct io_addr){.len = 0}; }

void relay_each_kept(const struct relay_table *t, const struct relay_owner *o,
                     void (*each)(void *ctx, const struct relay_kept *kept), void *ctx) {
    (void)t;
    HT_LIST_FOR (it, &o->bindings) {
        const struct relay_binding *b = HT_LIST_ENTRY(it, struct relay_binding, node);
        struct ht_slice hostnames[WIRE_LIMIT_MAX_HOSTNAMES];
        char host[IO_ADDR_TEXT];
        struct relay_kept kept = {
            .bind = {.kind = b->port->kind,
                     .mode = b->port->mode,
                     .container_port = b->port->number,
                     .has_label = b->label[0] != '\0',
                     .label = ht_slice_str(b->label)},
            .bind_id = b->id,
            .since = b->since,
            .addr = b->port->listener ? b->port->addr : no_address(),
            .listener = b->port->listener,
        };
        if (b->port->listener && b->port->mode == WIRE_MODE_PULL) {
            kept.bind.has_host = true;
            kept.bind.host = ht_slice_str(io_addr_host(&b->port->addr, host));
        }
        if (b->names) {
            kept.bind.names = b->names->texts;
            kept.bind.n_names = b->names->n;
            kept.bind.has_ca = b->names->ca.n > 0;
            kept.bind.ca = b->names->ca;
            kept.bind.has_portless = kept.bind.portless = !b->port->listener;
        }
        if (b->hosts)
            put_hosts(b, &kept.bind, hostnames);
        each(ctx, &kept);
    }
}

void relay_owner_pause(struct relay_owner *o, bool pause) {
    HT_LIST_FOR (it, &o->bindings) {
        struct relay_port *p = HT_LIST_ENTRY(it, struct relay_binding, node)->port;
        if (p->listener)
            io_listener_pause(p->listener, pause);
    }
}

void relay_owner_let_go(struct relay_owner *o) {
    HT_LIST_FOR (it, &o->bindings) {
        struct relay_port *p = HT_LIST_ENTRY(it, struct relay_binding, node)->port;
        if (!p->listener)
            continue;
        io_listener_close(&p->listener);
        io_fds_give(p->t->cfg.fds);
    }
}

unsigned relay_owner_visitors(const struct relay_owner *o) {
    unsigned n = 0;
    HT_LIST_FOR (it, &o->bindings) {
        const struct relay_binding *b = HT_LIST_ENTRY(it, struct relay_binding, node);
        n += b->port->n_visitors + b->n_by_name + b->n_by_host;
    }
    return n;
}

unsigned relay_front_waiting(const struct relay_front *f) {
    unsigned n = 0;
    if (!f)
        return 0;
    HT_LIST_FOR (it, &f->doors)
        n += HT_LIST_ENTRY(it, struct relay_front_door, node)->port.n_visitors;
    return n;
}
