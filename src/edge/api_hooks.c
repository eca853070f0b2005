/* Hooks of containers, by the API. A document's text is edited, checked as a whole, and then kept. */
#include "edge/api.h"
#include "edge/hooks_edit.h"
#include "edge/hooks_table.h"
#include "edge/permissions_edit.h"

#include <stdio.h>

#define UNREADABLE "these hooks cannot be read; a PUT of all of them replaces them"

/* A document whose hooks are looked at or changed. */
struct editing {
    struct api_client *c;
    const struct edge_api_request *req;
    struct edge_api_response *res;
    const char *what;
    struct ht_slice was; /* its hooks; .p is NULL: none */
    struct edge_hook_rows rows;
    struct ht_buf text; /* what they become */
    int rc;             /* what the handler returns once it is answered */
};

/* ---- what a request begins with ---- */

static bool fail(struct editing *e, int status, const char *text) {
    e->rc = edge_api_reply_error(e->res, status, "%s", text);
    return false;
}

static bool begin(struct editing *e, void *ctx, const struct edge_api_request *req, struct edge_api_response *res,
                  const char *what) {
    *e = (struct editing){.c = ctx, .req = req, .res = res, .what = what};
    if (!edge_is_id(ht_slice_str(req->params.id)))
        return fail(e, 400, "an id has 24 of 0-9 and a-f");
    e->was = edge_doc_part(edge_state_get(edge_api_of(e->c)->state, EDGE_CONTAINER, req->params.id), EDGE_HOOKS);
    return true;
}

/* The same, for the hooks of a service. */
static bool begin_rows(struct editing *e, void *ctx, const struct edge_api_request *req, struct edge_api_response *res,
                       const char *what) {
    const char *service = req->params.service;
    if (!begin(e, ctx, req, res, what))
        return false;
    if (strcmp(service, "*") != 0 && !edge_is_service(ht_slice_str(service)))
        return fail(e, 400, "the service must be one such as terminal, http or *");
    int rc = edge_hook_rows_read(e->was, service, &e->rows);
    if (rc == HT_EINVAL)
        return fail(e, 409, UNREADABLE);
    e->rc = rc;
    return rc == HT_OK;
}

/* The same, for a hook that is there; *at is where. */
static bool begin_hook(struct editing *e, void *ctx, const struct edge_api_request *req, struct edge_api_response *res,
                       const char *what, size_t *at) {
    if (!begin_rows(e, ctx, req, res, what))
        return false;
    *at = edge_hook_rows_find(&e->rows, req->params.hook);
    return *at < e->rows.n || fail(e, 404, "there is no such hook");
}

/* ---- answers ---- */

static const struct edge_doc *doc_of(const struct editing *e) {
    return edge_state_get(edge_api_of(e->c)->state, EDGE_CONTAINER, e->req->params.id);
}

static int show_all(struct editing *e) {
    const struct edge_doc *d = doc_of(e);
    struct ht_slice hooks = edge_doc_part(d, EDGE_HOOKS);
    struct edge_api_hooks v = {.hooks = hooks.p ? hooks : ht_slice_str("{}"), .file_version = edge_doc_version(d)};
    int rc = edge_api_reply_hooks_get_200(e->res, &v);
    edge_api_etag(e->res, v.file_version);
    return rc;
}

static int show_list(struct editing *e) {
    const struct edge_doc *d = doc_of(e);
    const char *service = e->req->params.service;
    struct ht_slice part = edge_doc_part(d, EDGE_HOOKS);
    struct ht_slice list = part.p ? edge_permissions_get(part, &service, 1) : part;
    struct edge_api_hook_list v = {.service = ht_slice_str(service),
                                   .hooks = list.p ? list : ht_slice_str("[]"),
                                   .file_version = edge_doc_version(d)};
    int rc = edge_api_reply_hook_list_200(e->res, &v);
    edge_api_etag(e->res, v.file_version);
    return rc;
}

static struct ht_slice member(struct ht_slice object, const char *name) {
    return edge_permissions_get(object, &name, 1);
}

static int show_hook(struct editing *e, const char *id) {
    const struct edge_doc *d = doc_of(e);
    int rc = edge_hook_rows_read(edge_doc_part(d, EDGE_HOOKS), e->req->params.service, &e->rows);
    size_t at = rc == HT_OK ? edge_hook_rows_find(&e->rows, id) : 0;
    if (rc < 0)
        return rc;
    if (at == e->rows.n)
        return edge_api_reply_error(e->res, 404, "there is no such hook");
    struct ht_slice text = e->rows.all[at].text, timeout = member(text, "timeout");
    struct edge_api_hook v = {.service = ht_slice_str(e->req->params.service),
                              .id = ht_slice_str(id),
                              .position = at,
                              .match = member(text, "match"),
                              .actions = member(text, "actions"),
                              .file_version = edge_doc_version(d)};
    v.has_timeout = timeout.p != NULL;
    for (size_t i = 0; i < timeout.n && i < 9; i++)
        v.timeout = 10 * v.timeout + (uint64_t)(timeout.p[i] - '0');
    rc = edge_api_reply_hook_get_200(e->res, &v);
    edge_api_etag(e->res, v.file_version);
    return rc;
}

/* ---- keeping ---- */

/* Keeps e->text, if it is a document of hooks; one without any is none. True: it is kept. */
static bool keep(struct editing *e) {
    struct edge_change change = {.part = EDGE_HOOKS, .value = ht_buf_slice(&e->text)};
    struct ht_errmsg err;
    uint64_t version;
    struct edge_hooks *h = edge_hooks_create(change.value, &e->rc, &err);
    if (!h) {
        e->rc = e->rc == HT_EINVAL ? edge_api_reply_error(e->res, 400, "%s", err.text) : e->rc;
        return false;
    }
    if (edge_hooks_count(h) == 0)
        change.value = ht_slice_of(NULL, 0);
    edge_hooks_destroy(&h);
    return edge_api_change(e->c, e->req, e->res, EDGE_CONTAINER, e->req->params.id, &change, 1, e->what, &version,
                           &e->rc);
}

static bool keep_rows(struct editing *e) {
    int rc = edge_hook_rows_write(e->was, e->req->params.service, &e->rows, &e->text);
    if (rc == HT_EINVAL)
        return fail(e, 409, UNREADABLE);
    e->rc = rc;
    return rc == HT_OK && keep(e);
}

static int finish(struct editing *e) {
    ht_buf_free(&e->text);
    return e->rc;
}

/* ---- all hooks ---- */

int edge_api_hooks_get(void *ctx, const struct edge_api_request *req, struct edge_api_response *res) {
    struct editing e;
    return begin(&e, ctx, req, res, "") ? show_all(&e) : e.rc;
}

int edge_api_hooks_put(void *ctx, const struct edge_api_request *req, struct edge_api_response *res) {
    struct api_member m[] = {{.name = "hooks", .type = API_JSON, .required = true}};
    struct editing e;
    char space[8];
    if (!begin(&e, ctx, req, res, "hooksPut") || !edge_api_body(req, res, m, 1, space, sizeof space, &e.rc))
        return e.rc;
    e.rc = ht_buf_append(&e.text, m[0].value.p, m[0].value.n);
    if (e.rc == HT_OK && keep(&e))
        e.rc = show_all(&e);
    return finish(&e);
}

int edge_api_hooks_delete(void *ctx, const struct edge_api_request *req, struct edge_api_response *res) {
    struct editing e;
    if (!begin(&e, ctx, req, res, "hooksDelete"))
        return e.rc;
    if (!e.was.p)
        return edge_api_reply_error(res, 404, "there are no hooks");
    e.rc = ht_buf_append_str(&e.text, "{}");
    if (e.rc == HT_OK && keep(&e))
        e.rc = show_all(&e);
    return finish(&e);
}

/* ---- those of a service ---- */

int edge_api_hook_list(void *ctx, const struct edge_api_request *req, struct edge_api_response *res) {
    struct editing e;
    return begin_rows(&e, ctx, req, res, "") ? show_list(&e) : e.rc;
}

int edge_api_hook_list_put(void *ctx, const struct edge_api_request *req, struct edge_api_response *res) {
    struct api_member m[] = {{.name = "hooks", .type = API_JSON, .required = true}};
    struct editing e;
    char space[8];
    if (!begin_rows(&e, ctx, req, res, "hookListPut") || !edge_api_body(req, res, m, 1, space, sizeof space, &e.rc))
        return e.rc;
    bool none = ht_slice_is(m[0].value, "[]");
    e.rc = edge_permissions_set(e.was, (const char *const[]){req->params.service}, 1,
                                none ? ht_slice_of(NULL, 0) : m[0].value, &e.text);
    if (e.rc == HT_EINVAL)
        (void)fail(&e, 409, UNREADABLE);
    else if (e.rc == HT_OK && keep(&e))
        e.rc = show_list(&e);
    return finish(&e);
}

int edge_api_hook_list_delete(void *ctx, const struct edge_api_request *req, struct edge_api_response *res) {
    struct editing e;
    if (!begin_rows(&e, ctx, req, res, "hookListDelete"))
        return e.rc;
    if (e.rows.n == 0)
        return edge_api_reply_error(res, 404, "the service has no hooks");
    e.rows.n = 0;
    if (keep_rows(&e))
        e.rc = show_list(&e);
    return finish(&e);
}

/* ---- one hook ---- */

enum { M_MATCH, M_ACTIONS, M_TIMEOUT, M_POSITION, M_ID, MEMBERS };

/* The hook as it is kept. */
static int put_text(struct ht_buf *out, const char *id, const struct api_member m[]) {
    int rc = ht_buf_printf(out, "{\"id\":\"%s\"", id);
    for (unsigned i = M_MATCH; rc == HT_OK && i <= M_ACTIONS; i++)
        if (m[i].set)
            rc = ht_buf_printf(out, ",\"%s\":%.*s", m[i].name, HT_SLICE_ARG(m[i].value));
    if (rc == HT_OK && m[M_TIMEOUT].set)
        rc = ht_buf_printf(out, ",\"timeout\":%llu", (unsigned long long)m[M_TIMEOUT].number);
    return rc == HT_OK ? ht_buf_append_str(out, "}") : rc;
}

/* Puts the body's hook in place of the one of this id, or to its position, or at the end. */
static int put_hook(struct editing *e, const char *id, const struct api_member m[]) {
    struct edge_hook_row row;
    struct ht_buf text = {0};
    size_t at = edge_hook_rows_find(&e->rows, id);
    snprintf(row.id, sizeof row.id, "%s", id);
    e->rc = put_text(&text, id, m);
    row.text = ht_buf_slice(&text);
    if (at < e->rows.n)
        edge_hook_rows_remove(&e->rows, at);
    if (e->rc == HT_OK && e->rows.n == HOOKS_SERVICE_MAX) {
        e->rc = edge_api_reply_error(e->res, 400, "a service has at most %d hooks", HOOKS_SERVICE_MAX);
    } else if (e->rc == HT_OK) {
        edge_hook_rows_insert(&e->rows, m[M_POSITION].set ? (size_t)m[M_POSITION].number : at, &row);
        if (keep_rows(e))
            e->rc = show_hook(e, id);
    }
    ht_buf_free(&text);
    return finish(e);
}

static bool good_id(struct editing *e, const char *id) {
    static const char good[] = "abcdefghijklmnopqrstuvwxyz0123456789-_";
    if (*id && !id[strspn(id, good)])
        return true;
    e->rc = edge_api_reply_error(e->res, 400, "an id has 1 to %d of a-z, 0-9, - and _", HOOKS_ID_MAX);
    return false;
}

#define HOOK_MEMBERS                                                                                                   \
    [M_MATCH] = {.name = "match", .type = API_JSON}, [M_ACTIONS] = {.name = "actions", .type = API_JSON},              \
    [M_TIMEOUT] = {.name = "timeout", .type = API_NUMBER}, [M_POSITION] = {.name = "position", .type = API_NUMBER}

int edge_api_hook_get(void *ctx, const struct edge_api_request *req, struct edge_api_response *res) {
    struct editing e;
    size_t at;
    return begin_hook(&e, ctx, req, res, "", &at) ? show_hook(&e, req->params.hook) : e.rc;
}

int edge_api_hook_put(void *ctx, const struct edge_api_request *req, struct edge_api_response *res) {
    struct api_member m[] = {HOOK_MEMBERS};
    struct editing e;
    char space[8];
    if (!begin_rows(&e, ctx, req, res, "hookPut") || !good_id(&e, req->params.hook) ||
        !edge_api_body(req, res, m, HT_ARRAY_LEN(m), space, sizeof space, &e.rc))
        return e.rc;
    return put_hook(&e, req->params.hook, m);
}

int edge_api_hook_add(void *ctx, const struct edge_api_request *req, struct edge_api_response *res) {
    struct api_member m[] = {HOOK_MEMBERS, [M_ID] = {.name = "id", .type = API_TEXT}};
    struct editing e;
    char space[HOOKS_ID_MAX + 8], id[HOOKS_ID_MAX + 1];
    if (!begin_rows(&e, ctx, req, res, "hookAdd") ||
        !edge_api_body(req, res, m, HT_ARRAY_LEN(m), space, sizeof space, &e.rc))
        return e.rc;
    edge_hook_rows_new_id(&e.rows, id);
    if (m[M_ID].set)
        snprintf(id, sizeof id, "%.*s", m[M_ID].value.n > HOOKS_ID_MAX ? 0 : (int)m[M_ID].value.n, m[M_ID].value.p);
    if (!good_id(&e, id))
        return e.rc;
    if (edge_hook_rows_find(&e.rows, id) < e.rows.n)
        return edge_api_reply_error(res, 400, "there is a hook %s already; a PUT replaces it", id);
    return put_hook(&e, id, m);
}

int edge_api_hook_delete(void *ctx, const struct edge_api_request *req, struct edge_api_response *res) {
    struct editing e;
    size_t at;
    if (!begin_hook(&e, ctx, req, res, "hookDelete", &at))
        return e.rc;
    edge_hook_rows_remove(&e.rows, at);
    if (keep_rows(&e))
        e.rc = show_list(&e);
    return finish(&e);
}

int edge_api_hook_move(void *ctx, const struct edge_api_request *req, struct edge_api_response *res) {
    struct api_member m[] = {{.name = "position", .type = API_NUMBER, .required = true}};
    struct edge_hook_row row;
    struct editing e;
    char space[8];
    size_t at;
    if (!begin_hook(&e, ctx, req, res, "hookMove", &at) || !edge_api_body(req, res, m, 1, space, sizeof space, &e.rc))
        return e.rc;
    row = e.rows.all[at];
    edge_hook_rows_remove(&e.rows, at);
    edge_hook_rows_insert(&e.rows, (size_t)m[0].number, &row);
    if (keep_rows(&e))
        e.rc = show_hook(&e, req->params.hook);
    return finish(&e);
}
