/* Where secrets stand in a request, and how they are taken out of it. */
#include "edge/form.h"
#include "edge/policy_priv.h"
#include "haproxy_gen.h"

static bool is_blank(char c) { return c == ' ' || c == '\t'; }

static struct ht_slice trimmed(struct ht_slice s) {
    while (s.n && is_blank(*s.p))
        s = ht_slice_of(s.p + 1, s.n - 1);
    while (s.n && is_blank(s.p[s.n - 1]))
        s.n--;
    return s;
}

/* The next item of a list with this separator; false: there is none. */
static bool next_item(struct ht_slice *rest, char sep, struct ht_slice *item) {
    if (!rest->p)
        return false;
    const char *end = memchr(rest->p, sep, rest->n);
    *item = ht_slice_of(rest->p, end ? (size_t)(end - rest->p) : rest->n);
    *rest = end ? ht_slice_of(end + 1, rest->n - item->n - 1) : ht_slice_of(NULL, 0);
    return true;
}

static void cut(struct ht_slice s, char at, struct ht_slice *name, struct ht_slice *value) {
    const char *p = s.n ? memchr(s.p, at, s.n) : NULL;
    *name = ht_slice_of(s.p, p ? (size_t)(p - s.p) : s.n);
    *value = p ? ht_slice_of(p + 1, s.n - name->n - 1) : ht_slice_of("", 0);
}

size_t edge_fields_read(struct ht_slice heads, struct edge_field *out, size_t cap) {
    struct ht_slice line;
    size_t n = 0;
    while (n < cap && next_item(&heads, '\n', &line)) {
        if (line.n && line.p[line.n - 1] == '\r')
            line.n--;
        if (line.n == 0)
            continue;
        cut(line, ':', &out[n].name, &out[n].value);
        out[n].value = trimmed(out[n].value);
        n++;
    }
    return n;
}

/* ---- parameters ---- */

/* Whether the encoded name is this one. */
static bool is_param(struct ht_slice encoded, struct ht_slice name) {
    size_t i = 0;
    for (; encoded.n && i < name.n; i++)
        if (edge_form_byte(&encoded) != (unsigned char)name.p[i])
            return false;
    return encoded.n == 0 && i == name.n;
}

/* Path and query. */
static struct ht_slice query_of(struct ht_slice target) {
    const char *mark = target.n ? memchr(target.p, '?', target.n) : NULL;
    return mark ? ht_slice_of(mark + 1, target.n - (size_t)(mark + 1 - target.p)) : ht_slice_of(NULL, 0);
}

static unsigned find_param(struct ht_slice name, struct ht_slice target, char *scratch, struct ht_slice *value) {
    struct ht_slice query = query_of(target), item, key, text;
    unsigned found = 0;
    while (next_item(&query, '&', &item)) {
        size_t n = 0;
        cut(item, '=', &key, &text);
        if (!is_param(key, name))
            continue;
        if (text.n > JWT_MAX)
            return 2;
        while (text.n)
            scratch[n++] = (char)edge_form_byte(&text);
        *value = ht_slice_of(scratch, n);
        found++;
    }
    return found > 2 ? 2 : found;
}

/* ---- cookies and fields ---- */

unsigned edge_cookie_find(struct ht_slice name, const struct edge_field *f, size_t n, struct ht_slice *value) {
    unsigned found = 0;
    for (size_t i = 0; i < n; i++) {
        struct ht_slice rest = f[i].value, item, key, text;
        if (!ht_slice_case_eq(f[i].name, ht_slice_str("cookie")))
            continue;
        while (next_item(&rest, ';', &item)) {
            cut(trimmed(item), '=', &key, &text);
            if (!ht_slice_eq(trimmed(key), name))
                continue;
            *value = trimmed(text);
            found++;
        }
    }
    return found > 2 ? 2 : found;
}

static unsigned find_field(struct ht_slice name, const struct edge_field *f, size_t n, struct ht_slice *value) {
    unsigned found = 0;
    for (size_t i = 0; i < n; i++)
        if (ht_slice_case_eq(f[i].name, name)) {
            *value = f[i].value;
            found++;
        }
    return found > 2 ? 2 : found;
}

unsigned edge_source_find(const struct source *s, const struct edge_field *fields, size_t n, struct ht_slice target,
                          char *scratch, struct ht_slice *value) {
    *value = ht_slice_of("", 0);
    switch (s->kind) {
    case SOURCE_HEADER:
        return find_field(s->name, fields, n, value);
    case SOURCE_COOKIE:
        return edge_cookie_find(s->name, fields, n, value);
    case SOURCE_PARAM:
        return find_param(s->name, target, scratch, value);
    }
    return 0;
}

static bool has_scheme(struct ht_slice value, const char *scheme) {
    size_t n = strlen(scheme);
    return value.n > n && ht_slice_case_eq(ht_slice_of(value.p, n), ht_slice_str(scheme)) && is_blank(value.p[n]);
}

struct ht_slice edge_bearer(struct ht_slice value) {
    static const char scheme[] = "bearer";
    size_t n = sizeof scheme - 1;
    return has_scheme(value, scheme) ? trimmed(ht_slice_of(value.p + n, value.n - n)) : value;
}

/* ---- taking them out ---- */

static bool is_source(const struct edge_policy *p, enum source_kind kind, struct ht_slice name) {
    for (size_t i = 0; i < p->n_groups; i++)
        for (size_t k = 0; k < p->groups[i].n_sources; k++) {
            const struct source *s = &p->groups[i].sources[k];
            bool same = kind == SOURCE_PARAM    ? is_param(name, s->name)
                        : kind == SOURCE_HEADER ? ht_slice_case_eq(name, s->name)
                                                : ht_slice_eq(name, s->name);
            if (s->kind == kind && same)
                return true;
        }
    return false;
}

/* All of Cookie, without those that are secrets. */
static int strip_cookies(const struct edge_policy *p, const struct edge_field *f, size_t n, struct edge_strip *out) {
    int rc = HT_OK;
    for (size_t i = 0; i < n; i++) {
        struct ht_slice rest = f[i].value, item, key, text;
        if (!ht_slice_case_eq(f[i].name, ht_slice_str("cookie")))
            continue;
        while (rc == HT_OK && next_item(&rest, ';', &item)) {
            item = trimmed(item);
            cut(item, '=', &key, &text);
            if (ht_slice_is(trimmed(key), HAPROXY_LOGIN_COOKIE) || is_source(p, SOURCE_COOKIE, trimmed(key))) {
                out->has_cookie = true;
                continue;
            }
            if (ht_buf_size(&out->cookie))
                rc = ht_buf_append_str(&out->cookie, "; ");
            if (rc == HT_OK)
                rc = ht_buf_append(&out->cookie, item.p, item.n);
        }
    }
    return rc;
}

static int strip_params(const struct edge_policy *p, struct ht_slice target, struct edge_strip *out) {
    struct ht_slice query = query_of(target), item, key, text;
    if (!query.p)
        return HT_OK;
    int rc = ht_buf_append(&out->target, target.p, (size_t)(query.p - 1 - target.p));
    bool first = true;
    while (rc == HT_OK && next_item(&query, '&', &item)) {
        cut(item, '=', &key, &text);
        if (is_source(p, SOURCE_PARAM, key)) {
            out->has_target = true;
            continue;
        }
        rc = ht_buf_append_str(&out->target, first ? "?" : "&");
        first = false;
        if (rc == HT_OK)
            rc = ht_buf_append(&out->target, item.p, item.n);
    }
    return rc;
}

static int add_name(struct edge_strip *out, struct ht_slice name) {
    int rc = ht_buf_size(&out->names) ? ht_buf_append_str(&out->names, " ") : HT_OK;
    return rc == HT_OK ? ht_buf_append(&out->names, name.p, name.n) : rc;
}

/* Authorization of another kind than the groups' may be for the service. */
static bool is_ours(const struct edge_policy *p, struct ht_slice authorization) {
    for (size_t i = 0; i < p->n_groups; i++) {
        const struct group *g = &p->groups[i];
        if (g->type == GROUP_PASSWORD && has_scheme(authorization, "basic"))
            return true;
        for (size_t k = 0; k < g->n_sources; k++)
            if (g->sources[k].kind == SOURCE_HEADER && ht_slice_is(g->sources[k].name, "authorization") &&
                (g->type == GROUP_TOKEN || !has_scheme(authorization, "basic")))
                return true;
    }
    return false;
}

static bool is_usual(struct ht_slice name) {
    for (size_t i = 0; i < HAPROXY_USUAL; i++)
        if (ht_slice_case_eq(name, ht_slice_str(haproxy_usual[i])))
            return true;
    return false;
}

int edge_policy_strip(const struct edge_policy *p, const struct edge_visit *v, struct edge_strip *out) {
    struct edge_field f[POLICY_FIELDS_MAX];
    size_t n = edge_fields_read(v->heads, f, POLICY_FIELDS_MAX);
    int rc = strip_cookies(p, f, n, out);
    out->usual = true;
    if (rc == HT_OK)
        rc = strip_params(p, v->target, out);
    for (size_t i = 0; rc == HT_OK && i < n; i++) {
        bool authorization = ht_slice_case_eq(f[i].name, ht_slice_str("authorization"));
        if (authorization && is_ours(p, f[i].value))
            out->authorization = true;
        bool goes = !authorization && is_source(p, SOURCE_HEADER, f[i].name);
        out->usual &= goes == is_usual(f[i].name);
        if (goes)
            rc = add_name(out, f[i].name);
    }
    return rc;
}

void edge_strip_free(struct edge_strip *s) {
    struct ht_buf *all[] = {&s->cookie, &s->target, &s->names};
    for (size_t i = 0; i < HT_ARRAY_LEN(all); i++) {
        if (all[i]->data)
            explicit_bzero(all[i]->data, all[i]->cap);
        ht_buf_free(all[i]);
    }
}
