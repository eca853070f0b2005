#include "relay/front_priv.h"

#include "base/log.h"
#include "base/mem.h"
#include "log_gen.h"

#include <stdio.h>

/* ---- the front and its addresses ---- */

int relay_front_open(struct relay_table *t, const struct relay_front_config *cfg) {
    struct relay_front *f = ht_calloc(1, sizeof *f);
    if (!f)
        return HT_ENOMEM;
    f->t = t;
    f->cfg = *cfg;
    snprintf(f->domain, sizeof f->domain, "%s", cfg->domain);
    snprintf(f->status, sizeof f->status, "status.%.*s", (int)RELAY_DOMAIN_MAX, cfg->domain);
    f->cfg.domain = f->domain;
    f->hosts.shared = true;
    ht_list_init(&f->doors);
    for (size_t i = 0; i < FRONT_DRIVERS; i++)
        ht_list_init(&f->drivers[i]);
    t->front = f;
    return HT_OK;
}

struct relay_front *relay_table_front(const struct relay_table *t) {
    return t->front;
}

int relay_front_door_add(struct relay_front *f, const struct io_addr *addr, bool https, bool redirects,
                         struct relay_front_door **out) {
    struct relay_front_door *d = ht_calloc(1, sizeof *d);
    if (!d)
        return HT_ENOMEM;
    d->f = f;
    d->https = https;
    d->redirects = redirects;
    relay_port_init(&d->port, f->t, WIRE_KIND_HTTP, WIRE_MODE_EXPOSE, addr);
    d->port.door = d;
    ht_list_init(&d->node);
    ht_list_push_back(&f->doors, &d->node);
    if (!redirects && (!f->url || (https && !f->url->https)))
        f->url = d;
    *out = d;
    return HT_OK;
}

bool front_has_port(const struct relay_front *f, uint16_t number) {
    if (!f)
        return false;
    HT_LIST_FOR (it, &f->doors)
        if (HT_LIST_ENTRY(it, struct relay_front_door, node)->port.number == number)
            return true;
    return false;
}

char *relay_front_url(const struct relay_front *f, struct ht_slice host, char out[RELAY_URL_MAX]) {
    bool https = f->url && f->url->https;
    unsigned port = f->url ? f->url->port.number : 0;
    const char *hole = f->cfg.url_pattern ? strstr(f->cfg.url_pattern, RELAY_HOST_HOLE) : NULL;
    if (hole) {
        snprintf(out, RELAY_URL_MAX, "%.*s%.*s%s", (int)(hole - f->cfg.url_pattern), f->cfg.url_pattern,
                 HT_SLICE_ARG(host), hole + sizeof RELAY_HOST_HOLE - 1);
        return out;
    }
    int n = snprintf(out, RELAY_URL_MAX, "%s://%.*s", https ? "https" : "http", (int)host.n, host.p);
    if (port && port != (https ? 443 : 80))
        snprintf(out + n, (size_t)(RELAY_URL_MAX - n), ":%u", port);
    return out;
}

/* ---- connections ---- */

bool relay_front_permit(struct relay_front_door *d, struct io_conn *conn, const struct io_addr *peer) {
    struct relay_table *t = d->f->t;
    if (relay_permit(t))
        return true;
    relay_turned_away(&d->port, peer, NULL);
    if (!d->https)
        visitor_http_refuse(t, &conn);
    io_conn_close(&conn);
    return false;
}

void relay_front_permit_back(struct relay_front_door *d) { io_fds_give(d->f->t->cfg.fds); }

void relay_front_visit(struct relay_front_door *d, struct io_conn *conn, const struct io_addr *peer) {
    struct visitor_http *v = visitor_http_begin(&d->port, conn, peer);
    if (v)
        v->trusted = d->f->cfg.trusted && d->f->cfg.trusted(d->f->cfg.ctx, peer);
}

void relay_front_accept_failed(struct relay_front_door *d, int err) { relay_port_ops.accept_failed(&d->port, err); }

/* ---- the binding of a request ---- */

bool relay_front_is_own(const struct relay_front *f, const char *host) {
    return strcmp(host, f->domain) == 0 || strcmp(host, f->status) == 0;
}

bool front_enter(struct visitor_http *v, const struct http_head *h, const char *p) {
    struct relay_front *f = v->port->door->f;
    char host[WIRE_HOST_ROOM];
    struct http_span asked = h->flags & HTTP_TARGET_ABSOLUTE ? h->authority : h->host;
    if (!asked.len || !wire_asked_host(host, http_text(p, asked)))
        return false;
    struct relay_name *e = relay_names_exact(&f->hosts, host);
    if (!e)
        return f->cfg.own_host && relay_front_is_own(f, host);
    v->b = e->b;
    v->port->n_visitors--;
    v->b->n_by_host++;
    ht_list_remove(&v->node);
    ht_list_push_back(&v->b->by_host, &v->node);
    return false;
}

void front_leave(struct visitor_http *v) {
    if (!v->b)
        return;
    v->b->n_by_host--;
    v->port->n_visitors++;
    ht_list_remove(&v->node);
    ht_list_push_back(&v->port->visitors, &v->node);
    v->b = NULL;
}

void front_hand_over(struct visitor_http *v, const char *p, size_t n, bool kept) {
    struct relay_front_door *d = v->port->door;
    struct ht_buf said = {0};
    struct io_addr peer;
    struct ht_errmsg err;
    int rc = io_addr_parse_hostport(&peer, v->peer, &err);
    if (rc == HT_OK && kept) {
        said = v->in;
        v->in = (struct ht_buf){0};
    } else if (rc == HT_OK) {
        rc = ht_buf_append(&said, p, n);
    }
    struct io_conn *conn = v->conn;
    if (rc) {
        visitor_lost(v, true, ht_err_text(rc));
        return;
    }
    v->conn = NULL;
    visitor_lost(v, false, "it is the kit's own");
    d->f->cfg.own_host(d->f->cfg.ctx, conn, &peer, &said, d->https);
    ht_buf_free(&said);
}

/* ---- the end of a binding, and of all ---- */

void front_drop_visitors(struct relay_binding *b, uint16_t code, const char *reason) {
    while (!ht_list_empty(&b->by_host))
        visitor_http_destroy(HT_LIST_ENTRY(b->by_host.next, struct visitor_http, node), code, reason);
}

void front_revoke_visitors(struct relay_binding *b, uint16_t code, const char *reason) {
    HT_LIST_FOR_SAFE (it, &b->by_host)
        visitor_http_revoke(HT_LIST_ENTRY(it, struct visitor_http, node), code, reason);
}

void relay_front_drain(struct relay_front *f) {
    HT_LIST_FOR (at, &f->doors) {
        struct relay_port *p = &HT_LIST_ENTRY(at, struct relay_front_door, node)->port;
        HT_LIST_FOR_SAFE (it, &p->visitors) {
            struct visitor_http *v = HT_LIST_ENTRY(it, struct visitor_http, node);
            if (v->state == VISITOR_HEAD && ht_buf_size(&v->in) == 0)
                visitor_lost(v, false, "the kit shuts down");
        }
    }
}

void relay_front_cut(struct relay_front *f) {
    HT_LIST_FOR (it, &f->t->bindings)
        front_drop_visitors(HT_LIST_ENTRY(it, struct relay_binding, all), WIRE_CODE_BIND_ERROR, "the kit shuts down");
    HT_LIST_FOR (at, &f->doors) {
        struct relay_port *p = &HT_LIST_ENTRY(at, struct relay_front_door, node)->port;
        while (!ht_list_empty(&p->visitors))
            visitor_http_destroy(HT_LIST_ENTRY(p->visitors.next, struct visitor_http, node), WIRE_CODE_BIND_ERROR,
                                 "the kit shuts down");
    }
}

void front_close(struct relay_front **fp) {
    struct relay_front *f = *fp;
    if (!f)
        return;
    relay_front_cut(f);
    while (!ht_list_empty(&f->doors)) {
        struct relay_front_door *d = HT_LIST_ENTRY(ht_list_pop_front(&f->doors), struct relay_front_door, node);
        ht_free(d);
    }
    relay_name_index_free(&f->hosts);
    ht_buf_free(&f->text);
    ht_free(f);
    *fp = NULL;
}
