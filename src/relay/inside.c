/*
 * Ports without a listener, for visitors from inside this program. They are served like visitors of an EXPOSE port.
 */
#include "base/mem.h"
#include "relay/visitor_priv.h"

struct relay_binding *relay_inside_open(struct relay_table *t, struct relay_owner *o, uint32_t *bind_id) {
    struct relay_binding *b = ht_calloc(1, sizeof *b);
    struct relay_port *p = ht_calloc(1, sizeof *p);
    if (!b || !p) {
        ht_free(b);
        ht_free(p);
        return NULL;
    }
    relay_port_init(p, t, WIRE_KIND_HTTP, WIRE_MODE_EXPOSE, &(struct io_addr){0});
    relay_binding_init(b, o, p, o->next_bind_id++);
    ht_list_push_back(&t->ports, &p->node);
    ht_list_push_back(&o->bindings, &b->node);
    ht_list_push_back(&t->bindings, &b->all);
    o->n_bindings++;
    *bind_id = b->id;
    return b;
}

void relay_inside_visit(struct relay_binding *b, struct io_conn *conn, const struct io_addr *peer) {
    if (relay_permit(b->t)) {
        visitor_http_begin(b->port, conn, peer);
        return;
    }
    visitor_http_refuse(b->t, &conn);
    io_conn_close(&conn);
}
