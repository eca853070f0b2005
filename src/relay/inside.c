/*
 * Ports without a listener, for visitors from inside this program. They are served like visitors of an EXPOSE port.
 */
#include "base/mem.h"
#include "relay/visitor_priv.h"

struct relay_kit_config relay_inside_config(struct io_loop *loop, struct io_fds *fds, struct ht_metrics *metrics) {
    return (struct relay_kit_config){
        .loop = loop,
        .fds = fds,
        .metrics = metrics,
        .head_limits = {.max_head = WIRE_LIMIT_MAX_HEAD,
                        .max_headers = WIRE_LIMIT_MAX_HEADERS,
                        .max_target = WIRE_LIMIT_MAX_TARGET},
        .head_timeout_ms = WIRE_LIMIT_HEAD_TIMEOUT,
        .keepalive_timeout_ms = WIRE_LIMIT_KEEPALIVE_TIMEOUT,
        .response_timeout_ms = WIRE_LIMIT_RESPONSE_TIMEOUT,
        .half_close_timeout_ms = WIRE_LIMIT_HALF_CLOSE_TIMEOUT,
        .send_timeout_ms = WIRE_LIMIT_SEND_TIMEOUT,
        .max_bindings_per_session = 1,
    };
}

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

void relay_inside_away(struct relay_table *t, bool away) {
    t->lenient_until_ms = away ? UINT64_MAX : io_now_ms(t->cfg.loop) + RELAY_BACK_MS;
}

void relay_inside_visit(struct relay_binding *b, struct io_conn *conn, const struct io_addr *peer) {
    if (relay_permit(b->t)) {
        visitor_http_begin(b->port, conn, peer);
        return;
    }
    visitor_http_refuse(b->t, &conn);
    io_conn_close(&conn);
}
