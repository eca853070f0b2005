#include "ws/refusal_priv.h"

#include "base/text.h"

#include <stdio.h>
#include <strings.h>

#define TITLE_MAX 80
#define PLACE_MAX 160

/* On one line: blanks and line ends become single spaces, and what is no printable ASCII ends it, unless it is `wide`.
 */
static size_t one_line(const char *p, size_t n, bool wide, char *out, size_t cap) {
    size_t to = 0;
    for (size_t i = 0; i < n && to + 1 < cap; i++) {
        bool space = p[i] == ' ' || (p[i] >= '\t' && p[i] <= '\r');
        if (!space && !wide && (p[i] < 0x20 || p[i] > 0x7e))
            break;
        if (space && (to == 0 || out[to - 1] == ' '))
            continue;
        out[to++] = space ? ' ' : p[i];
    }
    while (to && out[to - 1] == ' ')
        to--;
    out[to] = '\0';
    return to;
}

static struct ht_slice field(const struct http_head *h, const char *buf, const char *name) {
    const struct http_field *f = http_field_find(h, buf, name);
    return f ? http_text(buf, f->value) : ht_slice_str("");
}

static bool begins(struct ht_slice s, const char *with) {
    size_t n = strlen(with);
    return s.n >= n && ht_slice_case_eq(ht_slice_of(s.p, n), ht_slice_of(with, n));
}

/* Where p[0..n) has `word`, in any case, or NULL. */
static const char *find(const char *p, size_t n, const char *word) {
    for (size_t len = strlen(word); n >= len; p++, n--)
        if (begins(ht_slice_of(p, n), word))
            return p;
    return NULL;
}

bool ws_refusal_is_login(const struct http_head *h, const char *buf) {
    struct ht_slice wants = field(h, buf, "www-authenticate");
    return h->status == 401 && wants.n > 0 && !begins(wants, "bearer");
}

/* ": it leads to https://portal.example/login". A query may be somebody's, so it is left out. */
static bool tell_place(const struct http_head *h, const char *buf, char out[WS_REFUSAL_MAX]) {
    struct ht_slice to = field(h, buf, "location");
    char clean[PLACE_MAX];
    if (h->status / 100 != 3 || to.n == 0)
        return false;
    for (size_t i = 0; i < to.n; i++)
        if (to.p[i] == '?' || to.p[i] == '#')
            to.n = i;
    ht_text_clean(to, clean, sizeof clean);
    snprintf(out, WS_REFUSAL_MAX, ": it leads to %s", clean);
    return true;
}

static bool tell_login(const struct http_head *h, const char *buf, char out[WS_REFUSAL_MAX]) {
    struct ht_slice wants = field(h, buf, h->status == 407 ? "proxy-authenticate" : "www-authenticate");
    char clean[PLACE_MAX];
    if ((h->status != 407 && !ws_refusal_is_login(h, buf)) || wants.n == 0)
        return false;
    ht_text_clean(wants, clean, sizeof clean);
    snprintf(out, WS_REFUSAL_MAX, ": it wants a login: %s", clean);
    return true;
}

static bool tell_page(const struct http_head *h, const char *buf, const char *body, size_t n,
                      char out[WS_REFUSAL_MAX]) {
    char line[4 * TITLE_MAX], clean[TITLE_MAX];
    bool is_page =
        begins(field(h, buf, "content-type"), "text/html") || find(body, n, "<html") || find(body, n, "<!doctype html");
    const char *title = find(body, n, "<title"), *end = body + n;
    if (!is_page)
        return false;
    title = title ? memchr(title, '>', (size_t)(end - title)) : NULL;
    const char *stop = title ? memchr(title, '<', (size_t)(end - title)) : NULL;
    size_t len = title ? one_line(title + 1, (size_t)((stop ? stop : end) - title - 1), true, line, sizeof line) : 0;
    ht_text_clean(ht_slice_of(line, len), clean, sizeof clean);
    snprintf(out, WS_REFUSAL_MAX, len ? ": a web page, \"%s\"" : ": a web page", clean);
    return true;
}

void ws_refusal_text(const struct http_head *h, const char *buf, char *body, size_t n, char out[WS_REFUSAL_MAX]) {
    char line[WS_EXCERPT_MAX + 1];
    if (http_response_body(h, false) == HTTP_BODY_CHUNKED) {
        struct http_chunked chunked = {0};
        struct http_error e;
        size_t used;
        if (http_chunked_decode(&chunked, body, &n, &used, &e) != HT_OK)
            n = 0;
    } else if (h->flags & HTTP_HAS_CONTENT_LENGTH && n > h->content_length) {
        n = (size_t)h->content_length;
    }
    *out = '\0';
    if (tell_place(h, buf, out) || tell_login(h, buf, out) || tell_page(h, buf, body, n, out))
        return;
    if (one_line(body, n, false, line, sizeof line) > 0)
        snprintf(out, WS_REFUSAL_MAX, ": %s", line);
}
