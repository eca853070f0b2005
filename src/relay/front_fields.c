/*
 * Forwarded fields at the front (rule HOST-6). A service cannot know who has written X-Forwarded-For and similar
 * fields. So those of an untrusted visitor are dropped, and the kit writes what it knows itself. Those of a trusted
 * proxy stay, and the kit appends the proxy's address.
 */
#include "relay/front_priv.h"

/* True for fields that are lists: the kit appends an item to them. */
static bool is_list(struct ht_slice name) {
    return http_field_is_like(name, "forwarded") || http_field_is_like(name, "x-forwarded-for");
}

bool front_field_stays(const struct visitor_http *v, struct ht_slice name) { return v->trusted && !is_list(name); }

static bool has(const struct http_head *h, const char *p, const char *name) {
    return http_field_find(h, p, name) != NULL;
}

/* Appends the items that came with the request, each with a comma behind it. */
static int put_before(struct ht_buf *b, const struct visitor_http *v, const struct http_head *h, const char *p,
                      const char *name) {
    int rc = HT_OK;
    for (uint32_t i = 0; v->trusted && rc == HT_OK && i < h->n_fields; i++) {
        struct ht_slice value = http_text(p, h->fields[i].value);
        if (!http_field_is_like(http_text(p, h->fields[i].name), name) || value.n == 0)
            continue;
        rc = ht_buf_append(b, value.p, value.n);
        if (rc == HT_OK)
            rc = ht_buf_append_str(b, ", ");
    }
    return rc;
}

/* The address without port and brackets: 192.0.2.1, 2001:db8::1. */
static struct ht_slice address(const char *peer) {
    struct ht_slice s = ht_slice_str(peer);
    const char *colon = strrchr(peer, ':');
    if (colon)
        s.n = (size_t)(colon - peer);
    if (s.n > 1 && s.p[0] == '[')
        s = ht_slice_of(s.p + 1, s.n - 2);
    return s;
}

ssize_t front_fields_put(const struct visitor_http *v, const struct http_head *h, const char *p, struct wire_header *to,
                         size_t n) {
    struct relay_front_door *d = v->port->door;
    struct ht_buf *b = &d->f->text;
    const char *proto = d->https ? "https" : "http";
    struct ht_slice host = http_text(p, h->flags & HTTP_TARGET_ABSOLUTE ? h->authority : h->host);
    struct ht_slice from = address(v->peer);
    bool v6 = memchr(from.p, ':', from.n) != NULL;
    b->off = b->len = 0;
    int rc = put_before(b, v, h, p, "x-forwarded-for");
    if (rc == HT_OK)
        rc = ht_buf_append(b, from.p, from.n);
    size_t first = ht_buf_size(b);
    if (rc == HT_OK)
        rc = put_before(b, v, h, p, "forwarded");
    if (rc == HT_OK)
        rc = ht_buf_printf(b, "for=%s%.*s%s;host=\"%.*s\";proto=%s", v6 ? "\"[" : "", (int)from.n, from.p,
                           v6 ? "]\"" : "", (int)host.n, host.p, proto);
    if (rc)
        return rc;
    const char *text = (const char *)ht_buf_head(b);
    to[n++] = (struct wire_header){ht_slice_str("x-forwarded-for"), ht_slice_of(text, first)};
    if (!v->trusted || !has(h, p, "x-forwarded-host"))
        to[n++] = (struct wire_header){ht_slice_str("x-forwarded-host"), host};
    if (!v->trusted || !has(h, p, "x-forwarded-proto"))
        to[n++] = (struct wire_header){ht_slice_str("x-forwarded-proto"), ht_slice_str(proto)};
    to[n++] = (struct wire_header){ht_slice_str("forwarded"), ht_slice_of(text + first, ht_buf_size(b) - first)};
    return (ssize_t)n;
}
