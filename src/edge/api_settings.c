/* Answers that are kept and pages of one's own, by the API. */
#include "base/clock.h"
#include "edge/api.h"
#include "edge/cache.h"
#include "edge/pages.h"

#include <stdio.h>

static bool good_id(const struct edge_api_request *req, struct edge_api_response *res, int *rc) {
    bool good = edge_is_id(ht_slice_str(req->params.id));
    if (!good)
        *rc = edge_api_reply_error(res, 400, "an id has 24 of 0-9 and a-f");
    return good;
}

static const struct edge_doc *doc_of(const struct api_client *c, const struct edge_api_request *req,
                                     enum edge_kind kind) {
    return edge_state_get(edge_api_of(c)->state, kind, req->params.id);
}

static struct ht_slice pages_of(const struct edge_doc *d) {
    struct ht_slice pages = edge_doc_part(d, EDGE_PAGES);
    return pages.p ? pages : ht_slice_str("{}");
}

/* ---- showing ---- */

static int show(const struct api_client *c, const struct edge_api_request *req, struct edge_api_response *res) {
    const struct edge_doc *d = doc_of(c, req, EDGE_CONTAINER);
    struct edge_cache cache;
    struct ht_errmsg err;
    struct ht_buf text = {0};
    int rc = edge_cache_read(&cache, edge_doc_part(d, EDGE_CACHE), false, &err);
    if (rc < 0)
        return edge_api_reply_error(res, 409, "these settings cannot be read; a PUT replaces them");
    rc = edge_cache_write(&cache, true, &text);
    const struct edge_api_settings v = {
        .cache = ht_buf_slice(&text), .pages = pages_of(d), .file_version = edge_doc_version(d)};
    if (rc == HT_OK)
        rc = edge_api_reply_container_settings_get_200(res, &v);
    edge_api_etag(res, v.file_version);
    ht_buf_free(&text);
    return rc;
}

static int show_project(const struct api_client *c, const struct edge_api_request *req, struct edge_api_response *res) {
    const struct edge_doc *d = doc_of(c, req, EDGE_PROJECT);
    const struct edge_api_project_settings v = {.pages = pages_of(d), .file_version = edge_doc_version(d)};
    int rc = edge_api_reply_project_settings_get_200(res, &v);
    edge_api_etag(res, v.file_version);
    return rc;
}

int edge_api_container_settings_get(void *ctx, const struct edge_api_request *req, struct edge_api_response *res) {
    int rc;
    return good_id(req, res, &rc) ? show(ctx, req, res) : rc;
}

int edge_api_project_settings_get(void *ctx, const struct edge_api_request *req, struct edge_api_response *res) {
    int rc;
    return good_id(req, res, &rc) ? show_project(ctx, req, res) : rc;
}

/* ---- changing ---- */

static uint64_t wall_ms(void) { return (uint64_t)((int64_t)ht_now_ms() + ht_wall_offset_ms()); }

/* What is kept stays only when the same is said of it as before. */
static int next_cache(const struct edge_doc *d, struct ht_slice wish, struct ht_buf *out, struct ht_errmsg *err) {
    struct edge_cache was, now;
    struct ht_errmsg old;
    int rc = edge_cache_read(&now, wish, true, err);
    if (rc < 0)
        return rc;
    bool readable = edge_cache_read(&was, edge_doc_part(d, EDGE_CACHE), false, &old) == HT_OK;
    if (readable && was.generation && edge_cache_same(&was, &now))
        return edge_cache_write(&was, false, out);
    for (size_t i = 0; readable && i < was.n; i++)
        was.generation = ht_max64(was.generation, was.services[i].generation);
    now.generation = readable ? was.generation : 0;
    rc = edge_cache_purge(&now, NULL, wall_ms());
    return rc == HT_OK ? edge_cache_write(&now, false, out) : rc;
}

/* The part as the body has it; an empty object is none. */
static bool check_pages(struct api_member *m, struct edge_api_response *res, struct edge_change *change, int *rc) {
    struct ht_errmsg err;
    change->part = EDGE_PAGES;
    *rc = m->set ? edge_pages_check(m->value, &err) : HT_OK;
    if (*rc == HT_OK && m->set)
        change->value = m->value;
    if (*rc == HT_EINVAL)
        *rc = edge_api_reply_error(res, 400, "%s", err.text);
    else if (*rc == HT_OK)
        return true;
    return false;
}

int edge_api_container_settings(void *ctx, const struct edge_api_request *req, struct edge_api_response *res) {
    struct api_member m[] = {{.name = "cache", .type = API_JSON}, {.name = "pages", .type = API_JSON}};
    struct edge_change changes[2] = {{.part = EDGE_CACHE}};
    struct ht_buf text = {0};
    struct ht_errmsg err;
    char space[8];
    uint64_t version;
    int rc;
    if (!good_id(req, res, &rc) || !edge_api_body(req, res, m, 2, space, sizeof space, &rc) ||
        !check_pages(&m[1], res, &changes[1], &rc))
        return rc;
    rc = next_cache(doc_of(ctx, req, EDGE_CONTAINER), m[0].value, &text, &err);
    if (rc == HT_EINVAL)
        rc = edge_api_reply_error(res, 400, "%s", err.text);
    else if (rc == HT_OK) {
        changes[0].value = ht_buf_slice(&text);
        if (edge_api_change(ctx, req, res, EDGE_CONTAINER, req->params.id, changes, 2, "containerSettings", &version,
                            &rc))
            rc = show(ctx, req, res);
    }
    ht_buf_free(&text);
    return rc;
}

int edge_api_project_settings(void *ctx, const struct edge_api_request *req, struct edge_api_response *res) {
    struct api_member m = {.name = "pages", .type = API_JSON};
    struct edge_change change;
    char space[8];
    uint64_t version;
    int rc;
    change = (struct edge_change){.part = EDGE_PAGES};
    if (!good_id(req, res, &rc) || !edge_api_body(req, res, &m, 1, space, sizeof space, &rc) ||
        !check_pages(&m, res, &change, &rc))
        return rc;
    if (edge_api_change(ctx, req, res, EDGE_PROJECT, req->params.id, &change, 1, "projectSettings", &version, &rc))
        rc = show_project(ctx, req, res);
    return rc;
}

/* ---- purging ---- */

static int purged(struct edge_api_response *res, uint64_t version) {
    const struct edge_api_version v = {.file_version = version};
    int rc = edge_api_reply_container_cache_purge_200(res, &v);
    edge_api_etag(res, version);
    return rc;
}

static int purge(struct api_client *c, const struct edge_api_request *req, struct edge_api_response *res,
                 const char *service, const char *what) {
    struct edge_change change = {.part = EDGE_CACHE};
    struct edge_cache cache;
    struct ht_errmsg err;
    struct ht_buf text = {0};
    uint64_t version;
    int rc;
    if (!good_id(req, res, &rc))
        return rc;
    struct ht_slice was = edge_doc_part(doc_of(c, req, EDGE_CONTAINER), EDGE_CACHE);
    if (!was.p)
        return edge_api_reply_error(res, 404, "nothing is kept of this container");
    if (service && !edge_is_service(ht_slice_str(service)))
        return edge_api_reply_error(res, 400, "%s is no name of a service", service);
    rc = edge_cache_read(&cache, was, false, &err);
    if (rc < 0)
        return edge_api_reply_error(res, 409, "these settings cannot be read; a PUT replaces them");
    if (edge_cache_purge(&cache, service, wall_ms()) < 0)
        return edge_api_reply_error(res, 409, "something is said of %d services already", EDGE_CACHE_SERVICES);
    rc = edge_cache_write(&cache, false, &text);
    change.value = ht_buf_slice(&text);
    struct edge_actor by = edge_api_actor(c, what);
    if (rc == HT_OK)
        rc = edge_state_change(edge_api_of(c)->state, EDGE_CONTAINER, req->params.id, EDGE_ANY_VERSION, &change, 1, &by,
                               &version, &err);
    ht_buf_free(&text);
    return rc == HT_OK ? purged(res, version) : rc == HT_ENOMEM ? rc : edge_api_reply_error(res, 500, "%s", err.text);
}

int edge_api_container_cache_purge(void *ctx, const struct edge_api_request *req, struct edge_api_response *res) {
    return purge(ctx, req, res, NULL, "containerCachePurge");
}

int edge_api_service_cache_purge(void *ctx, const struct edge_api_request *req, struct edge_api_response *res) {
    return purge(ctx, req, res, req->params.service, "serviceCachePurge");
}
