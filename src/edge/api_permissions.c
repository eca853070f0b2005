/* Who may visit containers, by the API. A document's text is edited, checked as a whole, and then kept. */
#include "auth/passwords.h"
#include "base/mem.h"
#include "edge/api.h"
#include "edge/permissions.h"
#include "edge/permissions_edit.h"
#include "edge/policy.h"

#include <stdio.h>

#define TEXTS 20000 /* bytes of the texts in a group's body */

/* A document that is being changed. */
struct editing {
    struct api_client *c;
    const struct edge_api_request *req;
    struct edge_api_response *res;
    enum edge_kind kind;
    const char *what;
    const struct edge_doc *doc;
    struct ht_slice was; /* its permissions; .p is NULL: none */
    struct ht_buf text;  /* what they become */
    int rc;              /* what the handler returns once it is answered */
};

/* ---- answers ---- */

static struct ht_slice member_of(struct ht_slice doc, const char *name, const char *or_else) {
    struct ht_slice value = edge_permissions_get(doc, &name, 1);
    return value.p ? value : ht_slice_str(or_else);
}

static int show(struct api_client *c, struct edge_api_response *res, enum edge_kind kind, const char *id) {
    const struct edge_doc *d = edge_state_get(edge_api_of(c)->state, kind, id);
    struct ht_slice doc = edge_doc_part(d, EDGE_PERMISSIONS);
    struct ht_buf hidden = {0};
    int rc = doc.p ? edge_permissions_hide(doc, &hidden) : HT_OK;
    bool allow = !doc.p || ht_slice_is(member_of(doc, "default", ""), "\"allow\"");
    struct edge_api_permissions v = {
        .default_ = ht_slice_str(allow ? "allow" : "deny"),
        .groups = member_of(ht_buf_slice(&hidden), "groups", "{}"),
        .permissions = member_of(ht_buf_slice(&hidden), "permissions", "{}"),
        .enable_proxy = edge_doc_on(d),
        .file_version = edge_doc_version(d),
    };
    if (rc == HT_OK)
        rc = edge_api_reply_container_permissions_get_200(res, &v);
    else if (rc == HT_EINVAL)
        rc = edge_api_reply_error(res, 409, "these permissions cannot be read; a PUT replaces them");
    edge_api_etag(res, v.file_version);
    ht_buf_free(&hidden);
    return rc;
}

/* ---- what a change begins and ends with ---- */

static bool begin(struct editing *e, void *ctx, const struct edge_api_request *req, struct edge_api_response *res,
                  enum edge_kind kind, const char *what) {
    *e = (struct editing){.c = ctx, .req = req, .res = res, .kind = kind, .what = what};
    if (!edge_is_id(ht_slice_str(req->params.id))) {
        e->rc = edge_api_reply_error(res, 400, "an id has 24 of 0-9 and a-f");
        return false;
    }
    e->doc = edge_state_get(edge_api_of(e->c)->state, kind, req->params.id);
    e->was = edge_doc_part(e->doc, EDGE_PERMISSIONS);
    return true;
}

static void wipe(struct ht_buf *b) {
    if (b->data)
        explicit_bzero(b->data, b->cap);
    ht_buf_free(b);
}

static int finish(struct editing *e) {
    wipe(&e->text);
    return e->rc;
}

/* The text becomes `next`, when rc says so. */
static bool becomes(struct editing *e, struct ht_buf *next, int rc) {
    wipe(&e->text);
    e->text = *next;
    if (rc == HT_EINVAL)
        e->rc = edge_api_reply_error(e->res, 409, "these permissions cannot be read; a PUT replaces them");
    else
        e->rc = rc;
    return rc == HT_OK;
}

/* Sets, or with .p NULL takes away, a member. */
static bool set(struct editing *e, const char *const *path, size_t n, struct ht_slice value) {
    struct ht_buf next = {0};
    struct ht_slice now = e->text.data ? ht_buf_slice(&e->text) : e->was;
    return becomes(e, &next, edge_permissions_set(now, path, n, value, &next));
}

/* ---- passwords are hashed on a thread ---- */

/* A change that waits for the hashes of its passwords. */
struct hashing {
    struct api_client *c;
    struct io_work *work;
    struct edge_api_request req; /* of it the parameters and the version are valid */
    enum edge_kind kind;
    const char *what;
    struct edge_change more;
    size_t n_more;
    struct ht_buf text;
    struct edge_plains plains;
    unsigned at; /* the one that is being hashed */
};

static void hashing_free(struct hashing *h) {
    io_work_cancel(&h->work);
    wipe(&h->text);
    explicit_bzero(&h->plains, sizeof h->plains);
    ht_free(h);
}

static void hashing_gone(struct api_client *c, void *ctx) {
    (void)c;
    hashing_free(ctx);
}

/* Keeps the text, which is a policy, with other parts of the document. */
static int store(struct editing *e, const struct edge_change *more, size_t n) {
    struct edge_change changes[3] = {{.part = EDGE_PERMISSIONS, .value = ht_buf_slice(&e->text)}};
    uint64_t version;
    for (size_t i = 0; i < n; i++)
        changes[i + 1] = more[i];
    if (edge_api_change(e->c, e->req, e->res, e->kind, e->req->params.id, changes, n + 1, e->what, &version, &e->rc))
        e->rc = show(e->c, e->res, e->kind, e->req->params.id);
    return finish(e);
}

/* With all the hashes. The change is of the version that the request has named, whatever happened meanwhile. */
static void hashed(struct hashing *h) {
    struct edge_api_response res = {0};
    struct editing e = {.c = h->c, .req = &h->req, .res = &res, .kind = h->kind, .what = h->what};
    struct ht_errmsg err;
    h->plains.made = true;
    int rc = edge_permissions_hash(ht_buf_slice(&h->text), &h->plains, &e.text, &err);
    if (rc == HT_OK) {
        rc = store(&e, &h->more, h->n_more);
    } else {
        wipe(&e.text);
    }
    if (rc < 0) {
        edge_api_response_free(&res);
        edge_api_client_end(h->c, false); /* which frees *h */
        return;
    }
    struct api_client *c = h->c;
    hashing_free(h);
    edge_api_client_answer(c, &res);
}

/* On a thread. `in` is a password with its NUL, `out` becomes its hash; "": there is none. */
static void run_hash(const void *in, size_t n, void *out) {
    char made[AUTH_HASH_MAX];
    struct ht_errmsg err;
    (void)n;
    _Static_assert(AUTH_HASH_MAX <= IO_WORK_RESULT && AUTH_PASSWORD_MAX < IO_WORK_MAX, "it fits");
    if (auth_password_hash(in, made, &err) == HT_OK)
        memcpy(out, made, strlen(made) + 1);
}

static void on_hash(void *ctx, const void *out);

static int hash_next(struct hashing *h) {
    const char *text = h->plains.all[h->at].text;
    h->work = io_work_start(edge_api_of(h->c)->loop, run_hash, text, strlen(text) + 1, on_hash, h);
    return h->work ? HT_OK : HT_ENOMEM;
}

static void on_hash(void *ctx, const void *out) {
    struct hashing *h = ctx;
    struct api_client *c = h->c;
    h->work = NULL;
    if (out && *(const char *)out) {
        snprintf(h->plains.all[h->at].hash, AUTH_HASH_MAX, "%s", (const char *)out);
        if (++h->at == h->plains.n)
            hashed(h);
        else if (hash_next(h) < 0)
            edge_api_client_end(c, false);
        return;
    }
    struct edge_api_response res = {0};
    if (edge_api_reply_error(&res, 503, "this password cannot be hashed just now") < 0) {
        edge_api_response_free(&res);
        edge_api_client_end(c, false);
        return;
    }
    hashing_free(h);
    edge_api_client_answer(c, &res);
}

/* e->text goes to the thread with its passwords; the answer comes later. */
static int hash_later(struct editing *e, struct hashing *h, const struct edge_change *more, size_t n) {
    static const struct api_goes_on ops = {.gone = hashing_gone};
    h->c = e->c;
    h->req = *e->req;
    h->kind = e->kind;
    h->what = e->what;
    h->n_more = n;
    if (n)
        h->more = *more;
    e->rc = hash_next(h);
    if (e->rc < 0)
        hashing_free(h);
    else
        edge_api_client_goes_on(e->c, &ops, h);
    return finish(e);
}

/* Keeps the text, if it is a policy, with at most one other part of the document: hidden secrets are put back, and
 * passwords hashed. */
static int keep(struct editing *e, const struct edge_change *more, size_t n) {
    struct hashing *h = ht_calloc(1, sizeof *h);
    struct ht_buf next = {0};
    struct ht_errmsg err;
    e->rc = h ? HT_OK : HT_ENOMEM;
    if (h && becomes(e, &next, edge_permissions_unhide(ht_buf_slice(&e->text), e->was, &next))) {
        next = (struct ht_buf){0};
        e->rc = edge_permissions_hash(ht_buf_slice(&e->text), &h->plains, &next, &err);
        h->text = e->text;
        e->text = next;
        struct edge_policy *p = e->rc == HT_OK ? edge_policy_create(ht_buf_slice(&e->text), &e->rc, &err) : NULL;
        edge_policy_destroy(&p);
        if (e->rc == HT_OK && h->plains.n)
            return hash_later(e, h, more, n);
        if (e->rc == HT_OK) {
            hashing_free(h);
            return store(e, more, n);
        }
        if (e->rc == HT_EINVAL)
            e->rc = edge_api_reply_error(e->res, 400, "%s", err.text);
    }
    if (h)
        hashing_free(h);
    return finish(e);
}

/* The group of the path. False: it is answered. */
static bool good_name(struct editing *e) {
    const char *name = e->req->params.name;
    bool good = *name;
    for (const char *p = name; *p; p++)
        good &= ht_is_digit(*p) || (ht_lower(*p) >= 'a' && ht_lower(*p) <= 'z') || *p == '-' || *p == '_';
    if (!good)
        e->rc =
            edge_api_reply_error(e->res, 400, "a group's name has 1 to %d letters, digits, - and _", POLICY_NAME_MAX);
    return good;
}

static bool has_group(struct editing *e) {
    const char *const path[] = {"groups", e->req->params.name};
    bool there = edge_permissions_get(e->was, path, 2).p;
    if (!there)
        e->rc = edge_api_reply_error(e->res, 404, "there is no group %s", e->req->params.name);
    return there;
}

/* A text as JSON; the caller frees it. */
static int quoted(struct ht_slice s, struct ht_buf *out) {
    int rc = ht_buf_append_str(out, "\"");
    const uint8_t *p = (const uint8_t *)s.p, *end = p + s.n;
    while (rc == HT_OK && p < end) {
        /* Not ht_text_next(): a secret stays as it is, byte for byte. */
        if (*p == '"' || *p == '\\')
            rc = ht_buf_printf(out, "\\%c", *p);
        else if (*p < 0x20)
            rc = ht_buf_printf(out, "\\u%04x", *p);
        else
            rc = ht_buf_append(out, p, 1);
        p++;
    }
    return rc == HT_OK ? ht_buf_append_str(out, "\"") : rc;
}

/* ---- whole documents ---- */

static int get(void *ctx, const struct edge_api_request *req, struct edge_api_response *res, enum edge_kind kind) {
    struct editing e;
    return begin(&e, ctx, req, res, kind, "") ? show(e.c, res, kind, req->params.id) : e.rc;
}

static int put(void *ctx, const struct edge_api_request *req, struct edge_api_response *res, enum edge_kind kind,
               const char *what) {
    struct api_member m[] = {{.name = "default", .type = API_TEXT},
                             {.name = "groups", .type = API_JSON},
                             {.name = "permissions", .type = API_JSON},
                             {.name = "enable_proxy", .type = API_BOOL}};
    struct editing e;
    struct edge_change state = {.part = "enable_proxy"};
    char space[64];
    if (!begin(&e, ctx, req, res, kind, what) ||
        !edge_api_body(req, res, m, HT_ARRAY_LEN(m), space, sizeof space, &e.rc))
        return e.rc;
    struct ht_buf text = {0};
    int rc = m[0].set ? quoted(m[0].value, &text) : HT_OK;
    e.was = ht_slice_of(NULL, 0);
    const struct ht_slice values[] = {m[0].set ? ht_buf_slice(&text) : ht_slice_of(NULL, 0), m[1].value, m[2].value};
    bool ok = rc == HT_OK && set(&e, (const char *const[]){"default"}, 1, values[0]);
    for (size_t i = 1; ok && i < 3; i++)
        ok = set(&e, &m[i].name, 1, m[i].set ? values[i] : ht_slice_of(NULL, 0));
    ht_buf_free(&text);
    e.was = edge_doc_part(e.doc, EDGE_PERMISSIONS);
    if (!ok)
        return finish(&e);
    state.value = ht_slice_str(m[3].on ? "true" : "false");
    return keep(&e, &state, m[3].set ? 1 : 0);
}

static int remove_all(void *ctx, const struct edge_api_request *req, struct edge_api_response *res, enum edge_kind kind,
                      const char *what) {
    const struct edge_change change = {.part = EDGE_PERMISSIONS};
    struct editing e;
    uint64_t version;
    if (!begin(&e, ctx, req, res, kind, what))
        return e.rc;
    if (!e.was.p)
        return edge_api_reply_error(res, 404, "there are no permissions");
    if (edge_api_change(e.c, req, res, kind, req->params.id, &change, 1, what, &version, &e.rc))
        e.rc = show(e.c, res, kind, req->params.id);
    return e.rc;
}

static int put_default(void *ctx, const struct edge_api_request *req, struct edge_api_response *res,
                       enum edge_kind kind, const char *what) {
    struct api_member m[] = {{.name = "default", .type = API_TEXT, .required = true}};
    struct editing e;
    char space[64];
    if (!begin(&e, ctx, req, res, kind, what) || !edge_api_body(req, res, m, 1, space, sizeof space, &e.rc))
        return e.rc;
    struct ht_buf text = {0};
    int rc = quoted(m[0].value, &text);
    bool ok = rc == HT_OK && set(&e, &m[0].name, 1, ht_buf_slice(&text));
    ht_buf_free(&text);
    return ok ? keep(&e, NULL, 0) : finish(&e);
}

/* ---- groups, and what they may ---- */

static int put_group(void *ctx, const struct edge_api_request *req, struct edge_api_response *res, enum edge_kind kind,
                     const char *what) {
    struct editing e;
    const char *const path[] = {"groups", req->params.name}, *const type[] = {"type"};
    struct ht_buf name = {0}, group = {0};
    if (!begin(&e, ctx, req, res, kind, what) || !good_name(&e))
        return e.rc;
    int rc = quoted(ht_slice_str(req->params.type), &name);
    if (rc == HT_OK && edge_permissions_get(req->body, type, 1).p)
        rc = HT_EINVAL;
    if (rc == HT_OK)
        rc = edge_permissions_set(req->body.p ? req->body : ht_slice_str("{}"), type, 1, ht_buf_slice(&name), &group);
    bool ok = rc == HT_OK && set(&e, path, 2, ht_buf_slice(&group));
    if (rc == HT_EINVAL)
        e.rc = edge_api_reply_error(res, 400, "the body is a JSON object with what the group has, without type");
    else if (rc < 0)
        e.rc = rc;
    wipe(&group);
    ht_buf_free(&name);
    return ok ? keep(&e, NULL, 0) : finish(&e);
}

static int delete_group(void *ctx, const struct edge_api_request *req, struct edge_api_response *res,
                        enum edge_kind kind, const char *what) {
    struct editing e;
    const char *const group[] = {"groups", req->params.name}, *const rule[] = {"permissions", req->params.name};
    if (!begin(&e, ctx, req, res, kind, what) || !good_name(&e) || !has_group(&e))
        return e.rc;
    bool ok = set(&e, group, 2, ht_slice_of(NULL, 0));
    if (ok && edge_permissions_get(ht_buf_slice(&e.text), rule, 2).p)
        ok = set(&e, rule, 2, ht_slice_of(NULL, 0));
    return ok ? keep(&e, NULL, 0) : finish(&e);
}

static int put_rule(void *ctx, const struct edge_api_request *req, struct edge_api_response *res, enum edge_kind kind,
                    const char *what) {
    struct api_member m[] = {{.name = "program", .type = API_TEXT, .required = true},
                             {.name = "access", .type = API_JSON, .required = true}};
    struct editing e;
    char space[POLICY_NAME_MAX + 1], program[POLICY_NAME_MAX + 1];
    if (!begin(&e, ctx, req, res, kind, what) || !good_name(&e) || !has_group(&e) ||
        !edge_api_body(req, res, m, 2, space, sizeof space, &e.rc))
        return e.rc;
    bool good = m[0].value.n > 0 && m[0].value.n < sizeof program;
    for (size_t i = 0; i < m[0].value.n; i++)
        good &= (m[0].value.p[i] >= 'a' && m[0].value.p[i] <= 'z') || m[0].value.p[i] == '-' || m[0].value.p[i] == '*';
    if (!good)
        return edge_api_reply_error(res, 400, "program must be one such as terminal, http or *");
    snprintf(program, sizeof program, "%.*s", HT_SLICE_ARG(m[0].value));
    const char *const path[] = {"permissions", req->params.name, program};
    return set(&e, path, 3, m[1].value) ? keep(&e, NULL, 0) : finish(&e);
}

static int delete_rule(void *ctx, const struct edge_api_request *req, struct edge_api_response *res,
                       enum edge_kind kind, const char *what) {
    struct editing e;
    const char *const path[] = {"permissions", req->params.name};
    if (!begin(&e, ctx, req, res, kind, what) || !good_name(&e))
        return e.rc;
    if (!edge_permissions_get(e.was, path, 2).p)
        return edge_api_reply_error(res, 404, "nothing is said of what %s may", req->params.name);
    return set(&e, path, 2, ht_slice_of(NULL, 0)) ? keep(&e, NULL, 0) : finish(&e);
}

/* ---- the same for containers and for projects ---- */

#define HANDLERS(one, kind)                                                                                            \
    int edge_api_##one##_permissions_get(void *ctx, const struct edge_api_request *req,                                \
                                         struct edge_api_response *res) {                                              \
        return get(ctx, req, res, kind);                                                                               \
    }                                                                                                                  \
    HANDLER(one, permissions, put, kind, "Permissions")                                                                \
    HANDLER(one, permissions_delete, remove_all, kind, "PermissionsDelete")                                            \
    HANDLER(one, permissions_default, put_default, kind, "PermissionsDefault")                                         \
    HANDLER(one, group_put, put_group, kind, "GroupPut")                                                               \
    HANDLER(one, group_delete, delete_group, kind, "GroupDelete")                                                      \
    HANDLER(one, rule_put, put_rule, kind, "RulePut")                                                                  \
    HANDLER(one, rule_delete, delete_rule, kind, "RuleDelete")
#define HANDLER(one, name, does, kind, what)                                                                           \
    int edge_api_##one##_##name(void *ctx, const struct edge_api_request *req, struct edge_api_response *res) {        \
        return does(ctx, req, res, kind, #one what);                                                                   \
    }

HANDLERS(container, EDGE_CONTAINER)
HANDLERS(project, EDGE_PROJECT)
