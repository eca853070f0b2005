#include "gate/forwarded.h"

#include "http/http.h"

#include <stdio.h>

static bool is(const struct wire_header *h, const char *name) { return ht_slice_case_eq(h->name, ht_slice_str(name)); }

static bool has(const struct wire_stream_open *open, const char *name) {
    for (size_t i = 0; i < open->n_headers; i++)
        if (is(&open->headers[i], name))
            return true;
    return false;
}

static bool is_list(const struct wire_header *h) {
    return http_field_is_like(h->name, "x-forwarded-for") || http_field_is_like(h->name, "forwarded");
}

/* A field of the visitor that is not sent on as it is. */
static bool is_replaced(const struct gate_forward *f, const struct gate_visitor *v, const struct wire_header *h) {
    return f->set && http_field_is_about_visitor(h->name) && (!v->edge || is_list(h));
}

/* True for the Origin of the site that the visitor is at: a browser's own page, and not a foreign one. */
static bool is_same_origin(const struct gate_forward *f, struct ht_slice origin) {
    size_t n = 0;
    while (n + 3 <= origin.n && memcmp(origin.p + n, "://", 3) != 0)
        n++;
    return *f->visited && n + 3 < origin.n &&
           ht_slice_case_eq(ht_slice_of(origin.p + n + 3, origin.n - n - 3), ht_slice_str(f->visited));
}

/* ---- texts, behind each other in one buffer; fields get their slices when the buffer no longer grows ---- */

struct parts {
    struct ht_buf *b;
    struct {
        const char *name;
        size_t from, to;
    } fields[GATE_FORWARDED_FIELDS];
    size_t n;
};

static int end_field(struct parts *p, const char *name, size_t from) {
    p->fields[p->n].name = name;
    p->fields[p->n].from = from;
    p->fields[p->n++].to = ht_buf_size(p->b);
    return HT_OK;
}

/* The items that a trusted edge has sent, with commas between them. */
static int put_list(struct ht_buf *b, const struct gate_visitor *v, const struct wire_stream_open *open,
                    const char *name) {
    size_t from = ht_buf_size(b);
    int rc = HT_OK;
    for (size_t i = 0; v->edge && rc == HT_OK && i < open->n_headers; i++) {
        const struct wire_header *h = &open->headers[i];
        if (!is(h, name) || h->value.n == 0)
            continue;
        rc = ht_buf_size(b) > from ? ht_buf_append_str(b, ", ") : HT_OK;
        if (rc == HT_OK)
            rc = ht_buf_append(b, h->value.p, h->value.n);
    }
    return rc;
}

/* True when the list ends in that item. */
static bool ends_in(const struct ht_buf *b, size_t from, const char *item) {
    size_t n = strlen(item), have = ht_buf_size(b) - from;
    const char *p = (const char *)ht_buf_head(b) + from;
    return have >= n && memcmp(p + have - n, item, n) == 0 &&
           (have == n || p[have - n - 1] == ' ' || p[have - n - 1] == ',');
}

static int put_item(struct ht_buf *b, size_t from, const char *item) {
    if (ht_buf_size(b) > from && ends_in(b, from, item))
        return HT_OK;
    int rc = ht_buf_size(b) > from ? ht_buf_append_str(b, ", ") : HT_OK;
    return rc == HT_OK ? ht_buf_append_str(b, item) : rc;
}

static int put_for(struct parts *p, const struct gate_visitor *v, const struct wire_stream_open *open,
                   const char *from_host) {
    size_t from = ht_buf_size(p->b);
    int rc = put_list(p->b, v, open, "x-forwarded-for");
    if (rc == HT_OK)
        rc = put_item(p->b, from, from_host);
    return rc == HT_OK ? end_field(p, "x-forwarded-for", from) : rc;
}

static int put_forwarded(struct parts *p, const struct gate_forward *f, const struct gate_visitor *v,
                         const struct wire_stream_open *open, const char *from_host) {
    char item[IO_ADDR_TEXT + 320];
    bool v6 = strchr(from_host, ':') != NULL, quotes = strchr(f->visited, '"') || strchr(f->visited, '\\');
    int n =
        snprintf(item, sizeof item, "for=%s%s%s", v6 ? "\"[" : "", *from_host ? from_host : "unknown", v6 ? "]\"" : "");
    if (*f->visited && !quotes)
        n += snprintf(item + n, sizeof item - (size_t)n, ";host=\"%s\"", f->visited);
    snprintf(item + n, sizeof item - (size_t)n, ";proto=%s", f->https ? "https" : "http");
    size_t from = ht_buf_size(p->b);
    int rc = put_list(p->b, v, open, "forwarded");
    if (rc == HT_OK)
        rc = put_item(p->b, from, item);
    return rc == HT_OK ? end_field(p, "forwarded", from) : rc;
}

/* The port that the visitor's Host names, or that of the scheme. */
static const char *port_of(const struct gate_forward *f) {
    const char *colon = strrchr(f->visited, ':');
    return colon && !strchr(colon, ']') && colon[1] ? colon + 1 : f->https ? "443" : "80";
}

static int put_text(struct parts *p, const struct gate_visitor *v, const struct wire_stream_open *open,
                    const char *name, const char *value) {
    size_t from = ht_buf_size(p->b);
    if (!*value || (v->edge && has(open, name)))
        return HT_OK;
    int rc = ht_buf_append_str(p->b, value);
    return rc == HT_OK ? end_field(p, name, from) : rc;
}

static int put_origin(struct parts *p, const struct gate_forward *f) {
    size_t from = ht_buf_size(p->b);
    int rc = ht_buf_printf(p->b, "http%s://%s", f->secure ? "s" : "", f->host);
    return rc == HT_OK ? end_field(p, "origin", from) : rc;
}

static int put_all(struct parts *p, const struct gate_forward *f, const struct gate_visitor *v,
                   const struct wire_stream_open *open, bool origin) {
    char host[IO_ADDR_TEXT] = "";
    if (v->edge_known)
        io_addr_host(&v->from, host);
    int rc = origin ? put_origin(p, f) : HT_OK;
    if (rc < 0 || !f->set)
        return rc;
    if (*host)
        rc = put_for(p, v, open, host);
    if (rc == HT_OK)
        rc = put_text(p, v, open, "x-forwarded-host", f->visited);
    if (rc == HT_OK)
        rc = put_text(p, v, open, "x-forwarded-proto", f->https ? "https" : "http");
    if (rc == HT_OK)
        rc = put_text(p, v, open, "x-forwarded-port", port_of(f));
    return rc == HT_OK ? put_forwarded(p, f, v, open, host) : rc;
}

ssize_t gate_forwarded_put(const struct gate_forward *f, const struct gate_visitor *v,
                           const struct wire_stream_open *open, struct ht_buf *text, struct wire_header *out,
                           size_t cap) {
    struct parts p = {.b = text};
    bool origin = false;
    size_t n = 0;
    text->off = text->len = 0;
    /* RFC 9112 3.2: Host comes first. An HTTP/1.0 visitor may have none. */
    if (f->host && cap > 0)
        out[n++] = (struct wire_header){.name = ht_slice_str("host"), .value = ht_slice_str(f->host)};
    for (size_t i = 0; i < open->n_headers; i++) {
        const struct wire_header *h = &open->headers[i];
        if ((f->host && is(h, "host")) || is_replaced(f, v, h))
            continue;
        if (f->host && is(h, "origin") && is_same_origin(f, h->value)) {
            origin = true;
            continue;
        }
        if (n == cap)
            return HT_ESPACE;
        out[n++] = *h;
    }
    int rc = put_all(&p, f, v, open, origin);
    if (rc < 0)
        return rc;
    if (n + p.n > cap)
        return HT_ESPACE;
    for (size_t i = 0; i < p.n; i++)
        out[n++] = (struct wire_header){.name = ht_slice_str(p.fields[i].name),
                                        .value = ht_slice_of((const char *)ht_buf_head(text) + p.fields[i].from,
                                                             p.fields[i].to - p.fields[i].from)};
    return (ssize_t)n;
}
