/* Ports: translates listen and its answers to and from BIND and its answers. */
#include "vtunnel/vtunnel_priv.h"

#include "base/mem.h"
#include "base/text.h"
#include "wire/name.h"

#include <stdio.h>

static struct vt_port *new_port(struct vtunnel *v, uint16_t number, uint64_t ref) {
    struct vt_port *p = v->n_ports < VT_MAX_PORTS ? ht_calloc(1, sizeof *p) : NULL;
    if (!p)
        return NULL;
    p->port = number;
    p->ref = ref;
    ht_list_push_back(&v->ports, &p->node);
    v->n_ports++;
    return p;
}

static void forget(struct vtunnel *v, struct vt_port *p) {
    ht_list_remove(&p->node);
    v->n_ports--;
    ht_free(p->host);
    ht_free(p);
}

void vt_ports_free(struct vtunnel *v) {
    HT_LIST_FOR_SAFE (it, &v->ports)
        forget(v, HT_LIST_ENTRY(it, struct vt_port, node));
}

struct vt_port *vt_port_by_bind(struct vtunnel *v, uint32_t bind_id) {
    HT_LIST_FOR (it, &v->ports) {
        struct vt_port *p = HT_LIST_ENTRY(it, struct vt_port, node);
        if (p->state == VT_PORT_OPEN && p->bind_id == bind_id)
            return p;
    }
    return NULL;
}

struct vt_port *vt_port_by_number(struct vtunnel *v, int64_t port) {
    HT_LIST_FOR (it, &v->ports) {
        struct vt_port *p = HT_LIST_ENTRY(it, struct vt_port, node);
        if (p->port == port)
            return p;
    }
    return NULL;
}

static struct vt_port *by_ref(struct vtunnel *v, uint64_t ref) {
    HT_LIST_FOR (it, &v->ports) {
        struct vt_port *p = HT_LIST_ENTRY(it, struct vt_port, node);
        if (p->state == VT_PORT_ASKED && p->ref == ref)
            return p;
    }
    return NULL;
}

/* ---- server ---- */

static void say_refused(struct vtunnel *v, int64_t port, struct ht_slice why) {
    const struct vtunnel_message m = {.type = VTUNNEL_LISTEN_ERR, .port = port, .error = why};
    vt_say(v, &m);
}

/* The fixed words of the spec with the port in their middle. */
static void say_refused_as(struct vtunnel *v, int64_t port, const char *before, const char *behind) {
    char text[160];
    int n = snprintf(text, sizeof text, "%s%lld%s", before, (long long)port, behind);
    say_refused(v, port, ht_slice_of(text, (size_t)n));
}

static void say_open(struct vtunnel *v, struct vt_port *p) {
    const struct vtunnel_message m = {.type = VTUNNEL_LISTEN_OK, .port = p->port};
    vt_say(v, &m);
}

/* VLISTEN-7: "host:port", unless that is the client's own machine. */
static bool name_of(struct ht_slice local_addr, char out[WIRE_NAME_ROOM]) {
    static const char *const own[] = {"localhost", "127.0.0.1", "::1"};
    char host[WIRE_HOST_ROOM];
    uint16_t port;
    if (wire_authority_read(host, &port, local_addr, NULL))
        return false;
    for (size_t i = 0; i < HT_ARRAY_LEN(own); i++)
        if (strcmp(host, own[i]) == 0)
            return false;
    wire_authority_put(host, port, out);
    return true;
}

static void ask(struct vtunnel *v, const struct vt_port *p, const char *name) {
    const struct ht_slice names[] = {ht_slice_str(name)};
    const struct wire_bind bind = {
        .has_client_bind_ref = true,
        .client_bind_ref = p->ref,
        .kind = WIRE_KIND_TCP,
        .mode = WIRE_MODE_PULL,
        .container_port = p->port,
        .has_label = p->label[0],
        .label = ht_slice_str(p->label),
        .names = names,
        .n_names = name ? HT_ARRAY_LEN(names) : 0,
    };
    uint8_t frame[1024];
    vt_feed(v, frame, wire_encode_bind(frame, sizeof frame, 0, &bind));
}

void vt_port_listen(struct vtunnel *v, int64_t number, struct ht_slice local_addr) {
    if (number < 0 || number > UINT16_MAX) { /* VLISTEN-3 */
        say_refused_as(v, number, VTUNNEL_ERROR_INVALID_PORT_BEFORE, VTUNNEL_ERROR_INVALID_PORT_BEHIND);
        return;
    }
    struct vt_port *p = vt_port_by_number(v, number);
    if (p && p->state == VT_PORT_OPEN) { /* VLISTEN-1 */
        say_open(v, p);
        return;
    }
    if (p) {
        p->owed++;
        return;
    }
    p = new_port(v, (uint16_t)number, ++v->next_ref);
    if (!p) {
        say_refused(v, number, ht_slice_str("too many ports for one connection"));
        return;
    }
    char name[WIRE_NAME_ROOM];
    ht_text_clean(local_addr, p->label, sizeof p->label);
    p->named = v->cfg.names && name_of(local_addr, name);
    ask(v, p, p->named ? name : NULL);
}

void vt_port_bound(struct vtunnel *v, const struct wire_bind_ok *ok) {
    struct vt_port *p = by_ref(v, ok->client_bind_ref);
    if (!p)
        return;
    p->state = VT_PORT_OPEN;
    p->bind_id = ok->bind_id;
    say_open(v, p);
    for (; p->owed; p->owed--)
        say_open(v, p);
}

void vt_port_refused(struct vtunnel *v, const struct wire_bind_err *err) {
    struct vt_port *p = by_ref(v, err->client_bind_ref);
    if (!p)
        return;
    if (p->named) { /* the port stands without it (VLISTEN-7) */
        p->named = false;
        ask(v, p, NULL);
        return;
    }
    bool taken = err->code == WIRE_BIND_ERROR_ALREADY_BOUND || err->code == WIRE_BIND_ERROR_PORT_IN_USE;
    for (unsigned owed = p->owed + 1; owed; owed--) {
        if (taken)
            say_refused_as(v, p->port, VTUNNEL_ERROR_IN_USE_BEFORE, VTUNNEL_ERROR_IN_USE_BEHIND);
        else
            say_refused(v, p->port, err->message.n ? err->message : ht_slice_str("not allowed"));
    }
    forget(v, p);
}

/* VLISTEN-4. */
void vt_port_revoked(struct vtunnel *v, const struct wire_bind_revoked *revoked) {
    struct vt_port *p = vt_port_by_bind(v, revoked->bind_id);
    if (!p)
        return;
    say_refused(v, p->port, revoked->reason.n ? revoked->reason : ht_slice_str("the port is gone"));
    forget(v, p);
}

/* ---- client ---- */

/* Of "tls://host:port". */
static char *host_of(struct ht_slice target) {
    static const char tls[] = "tls://", insecure[] = "tls+insecure://";
    for (const char *scheme = tls; scheme; scheme = scheme == tls ? insecure : NULL) {
        size_t n = strlen(scheme);
        if (target.n <= n || memcmp(target.p, scheme, n) != 0)
            continue;
        const char *host = target.p + n, *end = target.p + target.n, *colon = memrchr(host, ':', (size_t)(end - host));
        return ht_strndup(host, (size_t)((colon ? colon : end) - host));
    }
    return NULL;
}

static void bind_refused(struct vtunnel *v, uint64_t ref, enum wire_bind_error code, struct ht_slice text) {
    const struct wire_bind_err err = {
        .has_client_bind_ref = true, .client_bind_ref = ref, .code = code, .message = text};
    uint8_t frame[WIRE_LIMIT_HEADER + 8192];
    vt_feed(v, frame, wire_encode_bind_err(frame, sizeof frame, 0, &err));
}

void vt_port_bind(struct vtunnel *v, const struct wire_bind *bind) {
    if (bind->kind != WIRE_KIND_TCP || bind->mode != WIRE_MODE_PULL || bind->container_port == 0) {
        bind_refused(v, bind->client_bind_ref, WIRE_BIND_ERROR_INVALID_KIND,
                     ht_slice_str("vtunnel's protocol can only pull ports, each by its number"));
        return;
    }
    struct vt_port *p =
        vt_port_by_number(v, bind->container_port) ? NULL : new_port(v, bind->container_port, bind->client_bind_ref);
    if (!p) {
        bind_refused(v, bind->client_bind_ref, WIRE_BIND_ERROR_BIND_CAP_EXCEEDED,
                     ht_slice_str("the port is asked for twice, or there are too many ports"));
        return;
    }
    p->host = host_of(bind->label);
    const struct vtunnel_message m = {.type = VTUNNEL_LISTEN, .port = p->port, .local_addr = bind->label};
    vt_say(v, &m);
}

/* The protocol cannot give a port back: it goes with the connection, and visitors until then are turned away. */
void vt_port_unbind(struct vtunnel *v, const struct wire_unbind *unbind) {
    struct vt_port *p = vt_port_by_bind(v, unbind->bind_id);
    if (p)
        forget(v, p);
    const struct wire_unbind_ok ok = {.bind_id = unbind->bind_id};
    uint8_t frame[256];
    vt_feed(v, frame, wire_encode_unbind_ok(frame, sizeof frame, 0, &ok));
}

void vt_port_listen_ok(struct vtunnel *v, int64_t number) {
    struct vt_port *p = vt_port_by_number(v, number);
    if (!p || p->state != VT_PORT_ASKED)
        return;
    p->state = VT_PORT_OPEN;
    p->bind_id = (uint32_t)++v->next_ref;
    const struct wire_bind_ok ok = {.client_bind_ref = p->ref, .bind_id = p->bind_id, .container_port = p->port};
    uint8_t frame[512];
    vt_feed(v, frame, wire_encode_bind_ok(frame, sizeof frame, 0, &ok));
}

void vt_port_listen_err(struct vtunnel *v, int64_t number, struct ht_slice error) {
    struct vt_port *p = vt_port_by_number(v, number);
    static const char in_use[] = "already in use";
    if (!p)
        return;
    const struct vt_port was = *p; /* but for what it owned */
    forget(v, p);
    if (error.n == 0)
        error = ht_slice_str("the server does not say why");
    if (was.state == VT_PORT_ASKED) {
        bool taken = memmem(error.p, error.n, in_use, sizeof in_use - 1);
        bind_refused(v, was.ref, taken ? WIRE_BIND_ERROR_PORT_IN_USE : WIRE_BIND_ERROR_INTERNAL, error);
        return;
    }
    const struct wire_bind_revoked revoked = {.bind_id = was.bind_id, .reason = error};
    uint8_t frame[WIRE_LIMIT_HEADER + 8192];
    vt_feed(v, frame, wire_encode_bind_revoked(frame, sizeof frame, 0, &revoked));
}
