#include "edge/form.h"

#include "haproxy_gen.h"

int edge_form_byte(struct ht_slice *s) {
    char c = *s->p;
    size_t n = 1;
    if (c == '+')
        c = ' ';
    if (c == '%') {
        int high = s->n > 2 ? ht_hex_digit(s->p[1]) : -1, low = s->n > 2 ? ht_hex_digit(s->p[2]) : -1;
        if (high >= 0 && low >= 0) {
            c = (char)(high << 4 | low);
            n = 3;
        }
    }
    *s = ht_slice_of(s->p + n, s->n - n);
    return (unsigned char)c;
}

static bool is_named(struct ht_slice encoded, const char *name) {
    for (; encoded.n && *name; name++)
        if (edge_form_byte(&encoded) != (unsigned char)*name)
            return false;
    return encoded.n == 0 && !*name;
}

static void take(struct edge_form_member *m, struct ht_slice encoded) {
    m->n = 0;
    m->times += m->times < 2;
    m->too_long = false;
    while (encoded.n) {
        int c = edge_form_byte(&encoded);
        if (c == 0 || m->n == m->cap) {
            m->too_long = true;
            m->n = 0;
            return;
        }
        m->out[m->n++] = (char)c;
    }
}

void edge_form_read(struct ht_slice body, struct edge_form_member *members, size_t n) {
    for (size_t i = 0; i < n; i++)
        members[i].n = members[i].times = members[i].too_long = 0;
    while (body.n) {
        const char *end = memchr(body.p, '&', body.n);
        struct ht_slice item = ht_slice_of(body.p, end ? (size_t)(end - body.p) : body.n);
        const char *is = item.n ? memchr(item.p, '=', item.n) : NULL;
        struct ht_slice name = ht_slice_of(item.p, is ? (size_t)(is - item.p) : item.n);
        struct ht_slice value = is ? ht_slice_of(is + 1, item.n - name.n - 1) : ht_slice_of("", 0);
        for (size_t i = 0; i < n; i++)
            if (is_named(name, members[i].name))
                take(&members[i], value);
        body = end ? ht_slice_of(end + 1, body.n - item.n - 1) : ht_slice_of("", 0);
    }
}

bool edge_is_return(struct ht_slice t) {
    static const struct ht_slice own = {HAPROXY_LOGIN_PATH, sizeof HAPROXY_LOGIN_PATH - 1};
    if (t.n == 0 || t.n > EDGE_RETURN_MAX || t.p[0] != '/' || (t.n > 1 && t.p[1] == '/'))
        return false;
    for (size_t i = 0; i < t.n; i++)
        if (t.p[i] <= ' ' || t.p[i] > '~' || t.p[i] == '\\')
            return false;
    return t.n < own.n || memcmp(t.p, own.p, own.n) != 0;
}

/* Without the port that https has anyway. */
static struct ht_slice without_usual_port(struct ht_slice host) {
    static const char usual[] = ":443";
    size_t n = sizeof usual - 1;
    if (host.n > n && memcmp(host.p + host.n - n, usual, n) == 0)
        host.n -= n;
    return host;
}

bool edge_is_own_form(struct ht_slice host, struct ht_slice origin, struct ht_slice fetch_site) {
    static const char scheme[] = "https://";
    size_t n = sizeof scheme - 1;
    if (fetch_site.n && !ht_slice_is(fetch_site, "same-origin"))
        return false;
    if (origin.n == 0)
        return fetch_site.n > 0;
    return host.n && origin.n > n && memcmp(origin.p, scheme, n) == 0 &&
           ht_slice_case_eq(without_usual_port(ht_slice_of(origin.p + n, origin.n - n)), without_usual_port(host));
}
