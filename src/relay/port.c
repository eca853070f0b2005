/* Ports: which ones a BIND may have, their listeners, and accepting visitors there. */
#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "log_gen.h"
#include "relay/connect_priv.h"
#include "relay/front_priv.h"
#include "relay/visitor_priv.h"

#include <arpa/inet.h>
#include <netinet/in.h>

#define RANDOM_PORT_TRIES 64
#define RANDOM_PORT_ANYWHERE                                                                                           \
    16 /* so many of them, the last ones, are not limited to ports outside the kernel's range */
#define EPHEMERAL_PORT_TRIES 16

/* ---- what a BIND may ask for ---- */

int relay_pull_addr(struct ht_slice host, struct io_addr *out) {
    if (host.n == 0 || ht_slice_case_eq(host, ht_slice_str("localhost")))
        return io_addr_parse(out, "127.0.0.1", 0);
    char text[IO_ADDR_TEXT];
    if (host.n >= sizeof text)
        return HT_EINVAL;
    memcpy(text, host.p, host.n);
    text[host.n] = '\0';
    if (strlen(text) != host.n || io_addr_parse(out, text, 0))
        return HT_EINVAL;
    /* ::ffff:127.0.0.1 would be a second name for 127.0.0.1, and be taken for another port. */
    if (out->ss.ss_family == AF_INET6 && strchr(text, '.'))
        return HT_EINVAL;
    return io_addr_is_loopback(out) ? HT_OK : HT_EINVAL;
}

static bool is_wildcard(const struct io_addr *a) {
    if (a->ss.ss_family == AF_INET)
        return ((const struct sockaddr_in *)(const void *)&a->ss)->sin_addr.s_addr == htonl(INADDR_ANY);
    const struct in6_addr *v6 = &((const struct sockaddr_in6 *)(const void *)&a->ss)->sin6_addr;
    return IN6_IS_ADDR_UNSPECIFIED(v6);
}

bool relay_addr_overlap(const struct io_addr *a, const struct io_addr *b) {
    if (a->ss.ss_family != b->ss.ss_family)
        return false; /* listeners are IPV6_V6ONLY */
    if (is_wildcard(a) || is_wildcard(b))
        return true;
    char x[IO_ADDR_TEXT], y[IO_ADDR_TEXT];
    return strcmp(io_addr_host(a, x), io_addr_host(b, y)) == 0;
}

struct io_addr relay_addr_with_port(const struct io_addr *a, uint16_t port) {
    struct io_addr r = *a;
    if (r.ss.ss_family == AF_INET)
        ((struct sockaddr_in *)(void *)&r.ss)->sin_port = htons(port);
    else
        ((struct sockaddr_in6 *)(void *)&r.ss)->sin6_port = htons(port);
    return r;
}

bool relay_port_reserved(const struct relay_table *t, uint16_t port) {
    if (port < WIRE_LIMIT_RESERVED_BELOW)
        return true;
    if (port == t->proxy_port || front_has_port(t->front, port))
        return true;
    for (size_t i = 0; i < t->cfg.n_reserved_ports; i++)
        if (t->reserved[i] == port)
            return true;
    return false;
}

/* A port of the kernel's range for outgoing connections can be lost: while the kit restarts nobody listens there, and
 * an outgoing connection may get it. */
static uint16_t random_port(const struct relay_table *t, bool outside) {
    const uint32_t min = WIRE_LIMIT_RANDOM_PORT_MIN, max = WIRE_LIMIT_RANDOM_PORT_MAX;
    uint32_t r, first = ht_max(t->cfg.outgoing_first, min), last = ht_min(t->cfg.outgoing_last, max);
    uint32_t hole = first <= last ? last - first + 1 : 0, all = max - min + 1;
    if (!outside || hole == all)
        hole = 0;
    ht_random_bytes(&r, sizeof r);
    uint32_t port = min + r % (all - hole);
    if (hole && port >= first)
        port += hole;
    return port;
}

static uint16_t picked(const struct relay_owner *o) { return o->ops->pick ? o->ops->pick(o) : 0; }

uint16_t relay_pick_port(const struct relay_table *t, const struct relay_owner *o, bool outside) {
    uint16_t own = picked(o);
    return own ? own : random_port(t, outside);
}

int relay_public_url(const char *pattern, uint16_t port, char *out, size_t cap) {
    static const char hole[] = "{port}";
    struct ht_buf b = {0};
    int rc = HT_OK;
    while (rc == HT_OK && pattern && *pattern) {
        const char *at = strstr(pattern, hole);
        rc = ht_buf_append(&b, pattern, at ? (size_t)(at - pattern) : strlen(pattern));
        if (rc == HT_OK && at)
            rc = ht_buf_printf(&b, "%u", port);
        pattern = at ? at + sizeof hole - 1 : NULL;
    }
    if (rc == HT_OK && ht_buf_size(&b) >= cap)
        rc = HT_ESPACE;
    if (rc == HT_OK) {
        if (ht_buf_size(&b))
            memcpy(out, ht_buf_head(&b), ht_buf_size(&b));
        out[ht_buf_size(&b)] = '\0';
    }
    ht_buf_free(&b);
    return rc;
}

/* ---- visitors ---- */

void relay_turned_away(const struct relay_port *p, const struct io_addr *peer, const char *why) {
    char text[IO_ADDR_TEXT], full[RELAY_FULL_TEXT];
    ht_log_stranger(HT_LOG_INFO, "visitor",
                    HT_LOG_FIELDS(log_session(p->binding ? p->binding->owner->id : NULL), log_port(p->number),
                                  log_peer(io_addr_text(peer, text)),
                                  log_reason(why ? why : relay_no_permit_text(p->t, full))),
                    "a visitor was turned away");
}

static void accepted(void *ctx, struct io_conn *conn, const struct io_addr *peer) {
    struct relay_port *p = ctx;
    bool http = p->kind == WIRE_KIND_HTTP;
    bool parked = !http && !relay_binding_serves(p->binding);
    bool fair = relay_fair(p->t, p->binding->owner);
    if (parked || !fair || !relay_permit(p->t)) {
        relay_turned_away(p, peer,
                          parked ? "the driver is away"
                          : fair
                              ? NULL
                              : "the user of this port has its part of the descriptors; the rest is for other users");
        if (http)
            visitor_http_refuse(p->t, &conn);
        io_conn_close(&conn); /* rules TCP-3, PARK-2 */
    } else if (http) {
        (void)visitor_http_begin(p, conn, peer);
    } else {
        visitor_tcp_begin(p, conn, peer);
    }
}

static void accept_failed(void *ctx, int err) {
    struct relay_port *p = ctx;
    p->t->cfg.metrics->accept_errors_total++;
    ht_log_stranger(HT_LOG_WARN, "visitor", HT_LOG_FIELDS(log_port(p->number), log_reason(ht_err_text(err))),
                    "a visitor could not be accepted");
}

const struct io_listener_ops relay_port_ops = {.accepted = accepted, .accept_failed = accept_failed};

void relay_visitor_added(struct relay_port *p, struct ht_list *node) {
    ht_list_push_back(&p->visitors, node);
    p->n_visitors++;
    p->t->n_visitors++;
}

void relay_visitor_removed(struct relay_port *p, struct ht_list *node) {
    ht_list_remove(node);
    p->n_visitors--;
    p->t->n_visitors--;
    if (p->proxy)
        connect_left(p->proxy, CONNECT_PLAIN_PERMITS);
    else
        io_fds_give(p->t->cfg.fds);
}

static void drop_visitors(struct relay_port *p, uint16_t code, const char *reason) {
    while (!ht_list_empty(&p->visitors)) {
        struct ht_list *first = p->visitors.next;
        if (p->kind == WIRE_KIND_HTTP)
            visitor_http_destroy(HT_LIST_ENTRY(first, struct visitor_http, node), code, reason);
        else
            visitor_tcp_destroy(HT_LIST_ENTRY(first, struct visitor_tcp, node), code, reason);
    }
}

void relay_port_revoke(struct relay_port *p, const struct relay_binding *b, uint16_t code, const char *reason) {
    if (p->kind == WIRE_KIND_TCP) { /* raw bytes cannot go on in another stream */
        drop_visitors(p, code, reason);
        return;
    }
    HT_LIST_FOR_SAFE (it, &p->visitors) {
        struct visitor_http *v = HT_LIST_ENTRY(it, struct visitor_http, node);
        if (v->b == b)
            visitor_http_revoke(v, code, reason);
    }
}

/* ---- opening and closing ---- */

/* A port that is being opened for a BIND. */
struct opening {
    struct relay_table *t;
    const struct relay_owner *o;
    struct relay_port *p;
    enum wire_bind_error *code;
    struct ht_errmsg *err;
};

struct relay_port *relay_port_find(const struct relay_table *t, const struct io_addr *addr, uint16_t port) {
    HT_LIST_FOR (it, &t->ports) {
        struct relay_port *p = HT_LIST_ENTRY(it, struct relay_port, node);
        if (p->number == port && p->listener && relay_addr_overlap(&p->addr, addr))
            return p;
    }
    return NULL;
}

static int listen_on(struct opening *r, uint16_t port, struct ht_errmsg *why) {
    struct io_addr addr = relay_addr_with_port(&r->p->addr, port);
    return io_listen(r->t->cfg.loop, &addr, &relay_port_ops, r->p, &r->p->listener, why);
}

const char relay_port_in_use_text[] = "port %u is in use by another program";

static int listen_failed(struct opening *r, uint16_t port, int rc, const struct ht_errmsg *why) {
    switch (rc) {
    case HT_EINUSE:
        return RELAY_REFUSE(r, PORT_IN_USE, rc, relay_port_in_use_text, port);
    case HT_EACCESS:
        return RELAY_REFUSE(r, PRIVILEGED_PORT, rc, "port %u: the kit has no permission to listen there", port);
    default:
        return RELAY_REFUSE(r, INTERNAL, rc, "%s", why->text[0] ? why->text : ht_err_text(rc));
    }
}

/* Rule PORT-1, expose. */
static int listen_random(struct opening *r) {
    struct ht_errmsg why = {""};
    for (int i = 0; i < RANDOM_PORT_TRIES; i++) {
        /* Perhaps few ports are outside that range, and all of them are taken: the last tries use it too. */
        uint16_t port = relay_pick_port(r->t, r->o, i < RANDOM_PORT_TRIES - RANDOM_PORT_ANYWHERE);
        if (relay_port_reserved(r->t, port) || relay_port_find(r->t, &r->p->addr, port))
            continue;
        int rc = listen_on(r, port, &why);
        if (rc == HT_OK)
            return HT_OK;
        if (rc != HT_EINUSE)
            return listen_failed(r, port, rc, &why);
    }
    return RELAY_REFUSE(r, INTERNAL, HT_EINUSE, "found no free port");
}

/* Rule PORT-1, pull: the kernel picks the port; if that is reserved, it picks again. */
static int listen_ephemeral(struct opening *r) {
    struct ht_errmsg why = {""};
    for (int i = 0; i < EPHEMERAL_PORT_TRIES; i++) {
        int rc = listen_on(r, 0, &why);
        if (rc)
            return listen_failed(r, 0, rc, &why);
        struct io_addr got;
        io_listener_local(r->p->listener, &got);
        if (!relay_port_reserved(r->t, io_addr_port(&got)))
            return HT_OK;
        io_listener_close(&r->p->listener);
    }
    return RELAY_REFUSE(r, INTERNAL, HT_EINUSE, "found no free port");
}

static int open_listener(struct opening *r, uint16_t port) {
    if (port == 0)
        return r->p->kind == WIRE_KIND_HTTP || picked(r->o) ? listen_random(r) : listen_ephemeral(r);
    struct ht_errmsg why = {""};
    int rc = listen_on(r, port, &why);
    return rc ? listen_failed(r, port, rc, &why) : HT_OK;
}

void relay_port_init(struct relay_port *p, struct relay_table *t, enum wire_kind kind, enum wire_mode mode,
                     const struct io_addr *addr) {
    *p = (struct relay_port){.t = t, .kind = kind, .mode = mode, .addr = *addr, .number = io_addr_port(addr)};
    ht_list_init(&p->visitors);
    ht_list_init(&p->node);
}

int relay_port_open(struct relay_table *t, const struct relay_owner *o, const struct wire_bind *bind,
                    const struct io_addr *addr, struct relay_port **out, enum wire_bind_error *code,
                    struct ht_errmsg *err) {
    struct opening r = {.t = t, .o = o, .code = code, .err = err};
    char text[RELAY_FULL_TEXT];
    bool listens = relay_listens(t, bind);
    if (listens && !relay_permit(t))
        return RELAY_REFUSE(&r, INTERNAL, HT_EFDS, "%s", relay_no_permit_text(t, text));
    struct relay_port *p = r.p = ht_calloc(1, sizeof *p);
    int rc = p ? HT_OK : RELAY_REFUSE(&r, INTERNAL, HT_ENOMEM, "out of memory");
    if (p) {
        relay_port_init(p, t, bind->kind, bind->mode, addr);
        rc = listens ? open_listener(&r, bind->container_port) : HT_OK;
    }
    if (rc) {
        ht_free(p);
        if (listens)
            io_fds_give(t->cfg.fds);
        return rc;
    }
    if (p->listener) {
        io_listener_local(p->listener, &p->addr);
        p->number = io_addr_port(&p->addr);
    } else if (!bind->portless) {
        p->number = bind->container_port; /* 0: the caller picks a number (rule HOST-5) */
    }
    ht_list_push_back(&t->ports, &p->node);
    *out = p;
    return HT_OK;
}

void relay_port_close(struct relay_port **pp, uint16_t code, const char *reason) {
    struct relay_port *p = *pp;
    if (p->listener) {
        io_listener_close(&p->listener);
        io_fds_give(p->t->cfg.fds);
    }
    drop_visitors(p, code, reason);
    ht_list_remove(&p->node);
    ht_free(p);
    *pp = NULL;
}
