#include "edge/permissions_edit.h"

#include "base/mem.h"
#include "json/json.h"

#include <stdio.h>

#define HIDDEN_JSON "\"" EDGE_HIDDEN "\""
#define DIGEST_HEX 64

static const char *const secrets[] = {"value", "secret", "password"};

/* ---- members of an object, as they stand there ---- */

struct members {
    struct json_reader r;
    char key[sizeof((struct json_reader *)0)->key_text]; /* one with escapes: the reader's does not outlast the value */
};

/* False: it is no object. An object that is not there has no members. */
static bool members_begin(struct members *m, struct ht_slice text) {
    json_begin(&m->r, text.p ? text.p : "{}", text.p ? text.n : 2, NULL);
    return json_object_begin(&m->r) == 0;
}

/* 1: the next member; its key without quotes, and the text of its value. 0: there is none. HT_EINVAL. */
static int members_next(struct members *m, struct ht_slice *key, struct ht_slice *value) {
    int more = json_object_next(&m->r, key);
    if (more <= 0)
        return more < 0 || json_end(&m->r) < 0 ? HT_EINVAL : 0;
    if (key->p == m->r.key_text)
        key->p = memcpy(m->key, key->p, key->n);
    if (json_peek(&m->r) == JSON_T_NONE) /* it is behind white space now */
        return HT_EINVAL;
    const char *from = (const char *)m->r.p;
    if (json_skip(&m->r) < 0)
        return HT_EINVAL;
    *value = ht_slice_of(from, (size_t)((const char *)m->r.p - from));
    return 1;
}

/* A key is written as it is: one that needs escapes is none of ours, and is refused. */
static int put_key(struct ht_buf *out, bool *first, struct ht_slice key) {
    for (size_t i = 0; i < key.n; i++)
        if ((unsigned char)key.p[i] < 0x20 || key.p[i] == '"' || key.p[i] == '\\')
            return HT_EINVAL;
    int rc = ht_buf_printf(out, "%s\"%.*s\":", *first ? "" : ",", HT_SLICE_ARG(key));
    *first = false;
    return rc;
}

static int put(struct ht_buf *out, struct ht_slice text) { return ht_buf_append(out, text.p, text.n); }

/* ---- one member ---- */

static int put_new(struct ht_buf *out, const char *const *path, size_t n, struct ht_slice value) {
    int rc = HT_OK;
    for (size_t i = 0; rc == HT_OK && i < n; i++)
        rc = ht_buf_printf(out, "%s\"%s\":", i ? "{" : "", path[i]);
    if (rc == HT_OK)
        rc = put(out, value);
    for (size_t i = 1; rc == HT_OK && i < n; i++)
        rc = ht_buf_append_str(out, "}");
    return rc;
}

int edge_permissions_set(struct ht_slice doc, const char *const *path, size_t n, struct ht_slice value,
                         struct ht_buf *out) {
    struct members *m = n <= EDGE_MEMBERS_DEPTH ? ht_calloc(1, sizeof *m) : NULL;
    struct ht_slice key, was;
    bool first = true, done = false;
    int more = 0, rc = !m ? HT_ENOMEM : members_begin(m, doc) ? ht_buf_append_str(out, "{") : HT_EINVAL;
    while (rc == HT_OK && (more = members_next(m, &key, &was)) > 0) {
        bool it = ht_slice_is(key, path[0]);
        done |= it;
        if (it && n == 1 && !value.p)
            continue;
        rc = put_key(out, &first, key);
        if (rc == HT_OK)
            rc = !it      ? put(out, was)
                 : n == 1 ? put(out, value)
                          : edge_permissions_set(was, path + 1, n - 1, value, out);
    }
    if (rc == HT_OK && more < 0)
        rc = HT_EINVAL;
    if (rc == HT_OK && !done && value.p) {
        rc = first ? HT_OK : ht_buf_append_str(out, ",");
        if (rc == HT_OK)
            rc = put_new(out, path, n, value);
    }
    ht_free(m);
    return rc == HT_OK ? ht_buf_append_str(out, "}") : rc;
}

struct ht_slice edge_permissions_get(struct ht_slice doc, const char *const *path, size_t n) {
    struct members *m = ht_calloc(1, sizeof *m);
    struct ht_slice key, value = doc;
    for (size_t i = 0; m && value.p && i < n; i++) {
        int more = members_begin(m, value) ? 1 : 0;
        while (more > 0 && (more = members_next(m, &key, &value)) > 0 && !ht_slice_is(key, path[i]))
            continue;
        if (more <= 0)
            value = ht_slice_of(NULL, 0);
    }
    struct ht_slice none = {NULL, 0};
    bool ok = m != NULL;
    ht_free(m);
    return ok ? value : none;
}

/* ---- secrets of groups ---- */

/* What becomes of a secret: appends the text of a value. */
typedef int on_secret(void *ctx, struct ht_slice group, struct ht_slice key, struct ht_slice was, struct ht_slice whole,
                      struct ht_buf *out);

static bool is_secret(struct ht_slice key) {
    for (size_t i = 0; i < HT_ARRAY_LEN(secrets); i++)
        if (ht_slice_is(key, secrets[i]))
            return true;
    return false;
}

static int each_secret(struct ht_slice group, struct ht_slice name, on_secret *each, void *ctx, struct ht_buf *out) {
    struct members *m = ht_calloc(1, sizeof *m);
    struct ht_slice key, was;
    bool first = true;
    int more = 0, rc = !m ? HT_ENOMEM : members_begin(m, group) ? ht_buf_append_str(out, "{") : HT_EINVAL;
    while (rc == HT_OK && (more = members_next(m, &key, &was)) > 0) {
        rc = put_key(out, &first, key);
        if (rc == HT_OK)
            rc = is_secret(key) && *was.p == '"' ? each(ctx, name, key, was, group, out) : put(out, was);
    }
    ht_free(m);
    if (rc == HT_OK && more < 0)
        rc = HT_EINVAL;
    return rc == HT_OK ? ht_buf_append_str(out, "}") : rc;
}

/* All groups of the object; what is no object stays as it is. */
static int each_group(struct ht_slice groups, on_secret *each, void *ctx, struct ht_buf *out) {
    struct members *m = ht_calloc(1, sizeof *m);
    struct ht_slice key, was;
    bool first = true;
    int more = 0, rc = !m ? HT_ENOMEM : members_begin(m, groups) ? ht_buf_append_str(out, "{") : HT_EINVAL;
    while (rc == HT_OK && (more = members_next(m, &key, &was)) > 0) {
        rc = put_key(out, &first, key);
        if (rc == HT_OK)
            rc = *was.p == '{' ? each_secret(was, key, each, ctx, out) : put(out, was);
    }
    ht_free(m);
    if (rc == HT_OK && more < 0)
        rc = HT_EINVAL;
    return rc == HT_OK ? ht_buf_append_str(out, "}") : rc;
}

static int each_document(struct ht_slice doc, on_secret *each, void *ctx, struct ht_buf *out) {
    struct members *m = ht_calloc(1, sizeof *m);
    struct ht_slice key, was;
    bool first = true;
    int more = 0, rc = !m ? HT_ENOMEM : members_begin(m, doc) ? ht_buf_append_str(out, "{") : HT_EINVAL;
    while (rc == HT_OK && (more = members_next(m, &key, &was)) > 0) {
        bool groups = ht_slice_is(key, "groups") && *was.p == '{';
        rc = put_key(out, &first, key);
        if (rc == HT_OK)
            rc = groups ? each_group(was, each, ctx, out) : put(out, was);
    }
    ht_free(m);
    if (rc == HT_OK && more < 0)
        rc = HT_EINVAL;
    return rc == HT_OK ? ht_buf_append_str(out, "}") : rc;
}

static int hide(void *ctx, struct ht_slice group, struct ht_slice key, struct ht_slice was, struct ht_slice whole,
                struct ht_buf *out) {
    (void)ctx;
    (void)group;
    (void)key;
    (void)was;
    (void)whole;
    return ht_buf_append_str(out, HIDDEN_JSON);
}

int edge_permissions_hide(struct ht_slice doc, struct ht_buf *out) { return each_document(doc, hide, NULL, out); }

static int unhide(void *ctx, struct ht_slice group, struct ht_slice key, struct ht_slice was, struct ht_slice whole,
                  struct ht_buf *out) {
    const struct ht_slice *old = ctx;
    char name[80], member[16];
    const char *const path[] = {"groups", name, member};
    (void)whole;
    if (!ht_slice_is(was, HIDDEN_JSON) || group.n >= sizeof name || key.n >= sizeof member)
        return put(out, was);
    snprintf(name, sizeof name, "%.*s", HT_SLICE_ARG(group));
    snprintf(member, sizeof member, "%.*s", HT_SLICE_ARG(key));
    struct ht_slice kept = edge_permissions_get(*old, path, HT_ARRAY_LEN(path));
    return put(out, kept.p ? kept : was);
}

int edge_permissions_unhide(struct ht_slice doc, struct ht_slice old, struct ht_buf *out) {
    return each_document(doc, unhide, &old, out);
}

/* ---- passwords ---- */

struct hashing {
    struct ht_errmsg *err;
    struct edge_plains *p;
    unsigned n;
};

/* The text of a string, with a NUL. False: it is none, or longer than `cap`. */
static bool text_of(struct ht_slice json, char *out, size_t cap) {
    struct json_reader *r = ht_calloc(1, sizeof *r);
    struct json_arena arena = {.p = out, .cap = cap - 1};
    struct ht_slice s = {NULL, 0};
    if (r)
        json_begin(r, json.p, json.n, &(struct json_limits){.max_depth = 1, .max_keys = 1, .refuse_nul = true});
    bool ok = r && json_read_string(r, false, &arena, &s) == 0 && s.n < cap;
    if (ok) {
        memmove(out, s.p, s.n);
        out[s.n] = '\0';
    }
    ht_free(r);
    return ok;
}

static bool is_digest(const char *s) {
    size_t n = 0;
    for (; s[n]; n++)
        if (ht_hex_digit(s[n]) < 0)
            return false;
    return n == DIGEST_HEX;
}

static int hash(void *ctx, struct ht_slice group, struct ht_slice key, struct ht_slice was, struct ht_slice whole,
                struct ht_buf *out) {
    struct hashing *h = ctx;
    static const char *const names[] = {"type", "algorithm"};
    char plain[AUTH_PASSWORD_MAX + 1];
    struct ht_slice type = edge_permissions_get(whole, &names[0], 1);
    struct ht_slice algorithm = edge_permissions_get(whole, &names[1], 1);
    bool digested = ht_slice_is(algorithm, "\"sha256\"");
    if (!ht_slice_is(key, "password") || !ht_slice_is(type, "\"password\""))
        return put(out, was);
    if (!text_of(was, plain, sizeof plain))
        return ht_fail(h->err, HT_EINVAL, "groups.%.*s.password: a text of at most %d bytes is wanted here",
                       HT_SLICE_ARG(group), AUTH_PASSWORD_MAX);
    int rc = HT_OK;
    if (auth_hash_fault(plain) == NULL) { /* it is a hash */
        explicit_bzero(plain, sizeof plain);
        return put(out, was);
    }
    for (char *p = plain; digested && *p; p++)
        *p = ht_lower(*p);
    if (plain[0] == '$' || plain[0] == '\0' || strcmp(plain, EDGE_HIDDEN) == 0)
        rc = ht_fail(h->err, HT_EINVAL,
                     "groups.%.*s.password: this is no password, and no hash of one that is good enough",
                     HT_SLICE_ARG(group));
    else if (digested && !is_digest(plain))
        rc = ht_fail(h->err, HT_EINVAL,
                     "groups.%.*s.password: with the algorithm sha256 it is the SHA-256 of salt and password, in %d "
                     "hexadecimal digits",
                     HT_SLICE_ARG(group), DIGEST_HEX);
    else if (h->n == (h->p->made ? h->p->n : EDGE_PLAIN_PASSWORDS))
        rc = ht_fail(h->err, HT_EINVAL,
                     "at most %d passwords at a time may be in plain text; `hoody-tunnel password new` makes hashes",
                     EDGE_PLAIN_PASSWORDS);
    else if (!h->p->made)
        memcpy(h->p->all[h->n].text, plain, sizeof plain);
    explicit_bzero(plain, sizeof plain);
    return rc == HT_OK ? ht_buf_printf(out, "\"%s\"", h->p->made ? h->p->all[h->n++].hash : (h->n++, AUTH_NOBODY_HASH))
                       : rc;
}

int edge_permissions_hash(struct ht_slice doc, struct edge_plains *p, struct ht_buf *out, struct ht_errmsg *err) {
    struct hashing h = {.err = err, .p = p};
    if (err)
        err->text[0] = '\0';
    int rc = each_document(doc, hash, &h, out);
    if (!p->made)
        p->n = h.n;
    if (rc < 0 && err && !err->text[0])
        ht_fail(err, rc, "%s", rc == HT_ENOMEM ? "out of memory" : "this is no document of permissions");
    return rc;
}
