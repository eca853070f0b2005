/* Texts of hooks with parts that a request fills in, and the fields that hooks may touch. */
#include "edge/hooks_priv.h"
#include "http/http.h"

#include <stdio.h>

/* ---- ${...} ---- */

static int add_piece(struct hook_text *t, struct hook_piece piece) {
    struct hook_piece *to = policy_one_more((void **)&t->pieces, t->n, sizeof *to);
    if (!to)
        return HT_ENOMEM;
    *to = piece;
    t->n++;
    return HT_OK;
}

/* What is between the braces. */
static const char *read_name(struct ht_slice name, size_t captures, struct hook_piece *out) {
    static const struct {
        const char *name;
        enum hook_piece_kind kind;
    } words[] = {{"path", HOOK_PATH}, {"method", HOOK_METHOD}, {"client", HOOK_CLIENT}};
    *out = (struct hook_piece){.kind = HOOK_TEXT};
    for (size_t i = 0; i < HT_ARRAY_LEN(words); i++)
        if (ht_slice_is(name, words[i].name))
            out->kind = words[i].kind;
    if (out->kind != HOOK_TEXT)
        return NULL;
    if (name.n != 1 || name.p[0] < '1' || name.p[0] > '9')
        return "behind ${ stands path, method, client or a number from 1 to 9, and then }";
    out->kind = HOOK_CAPTURE;
    out->n = (unsigned)(name.p[0] - '1');
    return out->n < captures ? NULL : "the path that this hook looks at has not so many stars";
}

const char *hook_text_read(struct hook_text *t, struct ht_slice s, size_t captures, int *rc) {
    *rc = HT_OK;
    while (s.n && *rc == HT_OK) {
        const char *at = memmem(s.p, s.n, "${", 2);
        size_t n = at ? (size_t)(at - s.p) : s.n;
        struct hook_piece piece = {.kind = HOOK_TEXT, .text = ht_slice_of(s.p, n)};
        if (n)
            *rc = add_piece(t, piece);
        s = ht_slice_of(s.p + n, s.n - n);
        if (!at || *rc < 0)
            continue;
        const char *end = memchr(s.p, '}', s.n);
        size_t len = end ? (size_t)(end - s.p) : 2;
        const char *wrong = read_name(ht_slice_of(s.p + 2, len - 2), captures, &piece);
        if (wrong)
            return wrong;
        *rc = add_piece(t, piece);
        s = ht_slice_of(s.p + len + 1, s.n - len - 1);
    }
    return NULL;
}

int hook_text_fill(const struct hook_text *t, const struct hook_filling *f, struct ht_buf *out) {
    int rc = HT_OK;
    for (size_t i = 0; rc == HT_OK && i < t->n; i++) {
        const struct hook_piece *p = &t->pieces[i];
        struct ht_slice s = p->kind == HOOK_TEXT     ? p->text
                            : p->kind == HOOK_PATH   ? f->path
                            : p->kind == HOOK_METHOD ? f->method
                            : p->kind == HOOK_CLIENT ? f->client
                            : p->n < f->captures.n   ? f->captures.all[p->n]
                                                     : ht_slice_of("", 0);
        rc = ht_buf_append(out, s.p, s.n);
    }
    return rc;
}

/* ---- fields ---- */

/* Programs that read fields as variables take - and _ for the same. */
static size_t plain_name(struct ht_slice name, char out[64]) {
    size_t n = ht_min(name.n, 63);
    for (size_t i = 0; i < n; i++)
        out[i] = name.p[i] == '_' ? '-' : ht_lower(name.p[i]);
    out[n] = '\0';
    return n;
}

static bool is_one_of(const char *name, const char *const *names, size_t n) {
    for (size_t i = 0; i < n; i++)
        if (strcmp(name, names[i]) == 0)
            return true;
    return false;
}

static const char *behind(const char *s, const char *prefix) {
    size_t n = strlen(prefix);
    return strncmp(s, prefix, n) == 0 ? s + n : NULL;
}

/* Who the visitor is says the edge alone: what it takes away from visitors (haproxy.cfg.j2), a hook does not write. */
static bool is_about_visitor(const char *name) {
    static const char *const whole[] = {"forwarded",
                                        "proxy",
                                        "via-proxy",
                                        "x-forwarded",
                                        "x-original-forwarded",
                                        "cf-connecting-ip",
                                        "cf-connecting-ipv6",
                                        "fastly-client-ip",
                                        "x-envoy-external-address"};
    static const char *const begin[] = {"x-forwarded-", "x-original-forwarded-", "x-hoody-"};
    static const char *const whose[] = {"real-",   "client-",         "true-client-", "cluster-client-",
                                        "remote-", "envoy-external-", "proxyuser-"};
    static const char *const what[] = {"ip", "addr", "address"};
    if (is_one_of(name, whole, HT_ARRAY_LEN(whole)))
        return true;
    for (size_t i = 0; i < HT_ARRAY_LEN(begin); i++)
        if (behind(name, begin[i]))
            return true;
    const char *rest = behind(name, "x-");
    rest = rest ? rest : name;
    for (size_t i = 0; i < HT_ARRAY_LEN(whose); i++) {
        const char *last = behind(rest, whose[i]);
        if (last && is_one_of(last, what, HT_ARRAY_LEN(what)))
            return true;
    }
    return false;
}

const char *hook_field_fault(struct ht_slice name, bool on_response) {
    static const char *const framing[] = {"content-length", "host", "expect", "http2-settings"};
    char plain[64];
    size_t n = plain_name(name, plain);
    if (!http_is_token(name) || name.n >= sizeof plain)
        return "is no name of a field";
    if (http_hop_of(ht_slice_of(plain, n)) != HTTP_HOP_NONE || is_one_of(plain, framing, HT_ARRAY_LEN(framing)))
        return "says where a message ends or goes, and is the edge's alone";
    if (is_about_visitor(plain))
        return "says who the visitor is, and is the edge's alone";
    if (on_response && strcmp(plain, "alt-svc") == 0)
        return "says where else the service is, and is the edge's alone";
    return NULL;
}
