/* Containers, services and switches by the API. */
#include "edge/api.h"

#include "base/mem.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#define SERVICES_MAX 250 /* of a container's own */

/* ---- what handlers begin with ---- */

static int bad_id(struct edge_api_response *res) {
    return edge_api_reply_error(res, 400, "an id has 24 of 0-9 and a-f");
}

static int no_container(struct edge_api_response *res, const char *id) {
    return edge_api_reply_error(res, 404, "there is no container %s", id);
}

/* The container that a request names. False: it is answered. */
static bool find(const struct api_client *c, const struct edge_api_request *req, struct edge_api_response *res,
                 struct edge_container *out, int *rc) {
    bool good = edge_is_id(ht_slice_str(req->params.id));
    if (!good)
        *rc = bad_id(res);
    else if (!edge_container_find(edge_api_of(c)->containers, req->params.id, out))
        *rc = no_container(res, req->params.id);
    else
        return true;
    return false;
}

static bool not_of_file(struct edge_api_response *res, const struct edge_container *it, int *rc) {
    if (it->from_file)
        *rc = edge_api_reply_error(res, 409,
                                   "the file of --containers has this container; its address and services are changed "
                                   "there");
    return !it->from_file;
}

/* ---- containers ---- */

static struct edge_api_container shown(const struct edge_container *it) {
    return (struct edge_api_container){
        .id = ht_slice_str(it->id),
        .project_id = ht_slice_str(it->project),
        .ip = ht_slice_str(it->ip),
        .enable_proxy = it->enabled,
        .source = it->from_file ? EDGE_API_SOURCE_FILE : EDGE_API_SOURCE_API,
        .file_version = edge_doc_version(it->doc),
    };
}

static int show_container(const struct api_client *c, const char *id, struct edge_api_response *res, bool changed) {
    struct edge_container it;
    if (!edge_container_find(edge_api_of(c)->containers, id, &it))
        return no_container(res, id);
    struct edge_api_container v = shown(&it);
    int rc = changed ? edge_api_reply_container_address_200(res, &v) : edge_api_reply_container_get_200(res, &v);
    edge_api_etag(res, v.file_version);
    return rc;
}

int edge_api_container_get(void *ctx, const struct edge_api_request *req, struct edge_api_response *res) {
    if (!edge_is_id(ht_slice_str(req->params.id)))
        return bad_id(res);
    return show_container(ctx, req->params.id, res, false);
}

struct ids {
    char (*p)[EDGE_ID + 1];
    size_t n, cap;
};

static int add_id(struct ids *ids, const char *id) {
    if (ids->n == ids->cap) {
        size_t cap = ids->cap ? ids->cap * 2 : 256;
        char(*more)[EDGE_ID + 1] = ht_realloc(ids->p, cap * sizeof *more);
        if (!more)
            return HT_ENOMEM;
        ids->p = more;
        ids->cap = cap;
    }
    snprintf(ids->p[ids->n++], EDGE_ID + 1, "%s", id);
    return HT_OK;
}

static int add_doc(void *ctx, const struct edge_doc *d) { return add_id(ctx, edge_doc_id(d)); }

static int add_filed(void *ctx, const char *key, const char *value) {
    (void)value;
    return add_id(ctx, key + EDGE_ID + 1);
}

static int by_id(const void *a, const void *b) { return strcmp(a, b); }

/* Fills in v and its, both for `limit` containers. */
static void page_of(const struct api_client *c, const struct ids *ids, const struct edge_api_request *req,
                    struct edge_container *its, struct edge_api_container *v, struct edge_api_containers *out) {
    const char *after = req->params.set_after ? req->params.after : "";
    for (size_t i = 0; i < ids->n; i++) {
        bool again = i > 0 && strcmp(ids->p[i], ids->p[i - 1]) == 0; /* in the file as well */
        if (again || strcmp(ids->p[i], after) <= 0 ||
            !edge_container_find(edge_api_of(c)->containers, ids->p[i], &its[0]))
            continue;
        out->more = out->n_containers == (size_t)req->params.limit;
        if (out->more)
            return;
        struct edge_container *it = &its[1 + out->n_containers];
        *it = its[0];
        v[out->n_containers++] = shown(it);
    }
}

int edge_api_container_list(void *ctx, const struct edge_api_request *req, struct edge_api_response *res) {
    struct api_client *c = ctx;
    struct ids ids = {0};
    int rc = edge_state_each(edge_api_of(c)->state, EDGE_CONTAINER, add_doc, &ids);
    if (rc == HT_OK)
        rc = edge_book_each(*edge_api_of(c)->book, HAPROXY_MAP_CONTAINERS, add_filed, &ids);
    size_t limit = (size_t)req->params.limit;
    struct edge_container *its = ht_calloc(limit + 1, sizeof *its);
    struct edge_api_container *v = ht_calloc(limit, sizeof *v);
    struct edge_api_containers out = {.containers = v};
    if (rc == HT_OK && its && v) {
        if (ids.n)
            qsort(ids.p, ids.n, sizeof *ids.p, by_id);
        page_of(c, &ids, req, its, v, &out);
        rc = edge_api_reply_container_list_200(res, &out);
    } else {
        rc = HT_ENOMEM;
    }
    ht_free(its);
    ht_free(v);
    ht_free(ids.p);
    return rc;
}

/* The project that the address is for; "" and *rc: it is answered. */
static const char *project_of(struct edge_api_response *res, const struct edge_container *it,
                              const struct api_member *said, char out[EDGE_ID + 1], int *rc) {
    out[0] = '\0';
    if (said->set && !edge_is_id(said->value))
        *rc = edge_api_reply_error(res, 400, "project_id must have 24 of 0-9 and a-f");
    else if (!said->set && !it->project[0])
        *rc = edge_api_reply_error(res, 400, "the body needs project_id: the container is not known yet");
    else if (said->set && it->project[0] && !ht_slice_is(said->value, it->project))
        *rc = edge_api_reply_error(res, 409, "the container is of the project %s, and stays there", it->project);
    else
        snprintf(out, EDGE_ID + 1, "%.*s", EDGE_ID, said->set ? said->value.p : it->project);
    return out;
}

int edge_api_container_address(void *ctx, const struct edge_api_request *req, struct edge_api_response *res) {
    struct api_client *c = ctx;
    struct api_member m[] = {{.name = "ip", .type = API_TEXT, .required = true},
                             {.name = "project_id", .type = API_TEXT}};
    char space[256], project[EDGE_ID + 1], ip[IO_ADDR_TEXT], text[2][IO_ADDR_TEXT + 2];
    struct edge_container it;
    struct ht_errmsg err;
    uint64_t version;
    int rc;
    if (!edge_is_id(ht_slice_str(req->params.id)))
        return bad_id(res);
    (void)edge_container_find(edge_api_of(c)->containers, req->params.id, &it);
    if (!not_of_file(res, &it, &rc) || !edge_api_body(req, res, m, HT_ARRAY_LEN(m), space, sizeof space, &rc))
        return rc;
    if (edge_read_address(m[0].value, ip, &err) < 0)
        return edge_api_reply_error(res, 400, "ip: %s", err.text);
    if (!*project_of(res, &it, &m[1], project, &rc))
        return rc;
    snprintf(text[0], sizeof text[0], "\"%s\"", project);
    snprintf(text[1], sizeof text[1], "\"%s\"", ip);
    const struct edge_change changes[] = {{.part = "project_id", .value = ht_slice_str(text[0])},
                                          {.part = "ip", .value = ht_slice_str(text[1])}};
    if (!edge_api_change(c, req, res, EDGE_CONTAINER, req->params.id, changes, 2, "containerAddress", &version, &rc))
        return rc;
    return show_container(c, req->params.id, res, true);
}

int edge_api_container_delete(void *ctx, const struct edge_api_request *req, struct edge_api_response *res) {
    struct api_client *c = ctx;
    struct edge_change changes[EDGE_PARTS_MAX];
    uint64_t version;
    int rc;
    if (!edge_is_id(ht_slice_str(req->params.id)))
        return bad_id(res);
    const struct edge_doc *d = edge_state_get(edge_api_of(c)->state, EDGE_CONTAINER, req->params.id);
    size_t n = edge_doc_parts(d);
    if (n == 0)
        return no_container(res, req->params.id);
    for (size_t i = 0; i < n; i++)
        changes[i] = (struct edge_change){.part = edge_doc_part_name(d, i)};
    if (!edge_api_change(c, req, res, EDGE_CONTAINER, req->params.id, changes, n, "containerDelete", &version, &rc))
        return rc;
    return edge_api_reply_container_delete_200(res, &(struct edge_api_version){.file_version = version});
}

/* ---- services: the container's own, and the usual ones ---- */

struct service {
    char name[EDGE_SERVICE];
    unsigned port;
    bool own, off;
};

struct services {
    struct service *p;
    size_t n, cap;
    bool no_memory;
};

static struct service *service_of(struct services *s, const char *name) {
    for (size_t i = 0; i < s->n; i++)
        if (strcmp(s->p[i].name, name) == 0)
            return &s->p[i];
    if (s->n == s->cap) {
        size_t cap = s->cap ? s->cap * 2 : 32;
        struct service *more = ht_realloc(s->p, cap * sizeof *more);
        s->no_memory = s->no_memory || !more;
        if (!more)
            return NULL;
        s->p = more;
        s->cap = cap;
    }
    s->p[s->n] = (struct service){.port = 0};
    snprintf(s->p[s->n].name, EDGE_SERVICE, "%s", name);
    return &s->p[s->n++];
}

static void add_own(void *ctx, const char *name, unsigned port) {
    struct service *s = service_of(ctx, name);
    if (s && port) {
        s->port = port;
        s->own = true;
    } else if (s) {
        s->off = true;
    }
}

struct filed {
    struct services *s;
    const char *scope; /* of the container */
    bool off;
};

static int add_from_file(void *ctx, const char *key, const char *value) {
    const struct filed *f = ctx;
    bool own = strncmp(key, f->scope, EDGE_SCOPE - 1) == 0 && key[EDGE_SCOPE - 1] == '.';
    const char *name = own ? key + EDGE_SCOPE : strchr(key, '.') || f->off ? NULL : key;
    struct service *s = name ? service_of(f->s, name) : NULL;
    if (s && f->off) {
        s->off = true;
    } else if (s && (own || !s->own)) {
        s->port = (unsigned)strtoul(value, NULL, 10);
        s->own = own;
    }
    return 0;
}

/* Of the usual ones that this file does not name, the map knows. */
static void add_usual(const struct edge_maps *maps, const char *name, struct services *s) {
    const char *port = edge_maps_get(maps, HAPROXY_MAP_SERVICES, name);
    struct service *one = port ? service_of(s, name) : NULL;
    if (one && !one->port)
        one->port = (unsigned)strtoul(port, NULL, 10);
}

static int by_name(const void *a, const void *b) {
    return strcmp(((const struct service *)a)->name, ((const struct service *)b)->name);
}

static void collect(const struct api_client *c, const struct edge_container *it, struct services *out) {
    const struct edge_book *book = *edge_api_of(c)->book;
    if (!it->from_file)
        edge_container_services(it->doc, add_own, out);
    edge_container_off(it->doc, add_own, out);
    (void)edge_book_each(book, HAPROXY_MAP_SERVICES, add_from_file, &(struct filed){out, it->scope, false});
    (void)edge_book_each(book, HAPROXY_MAP_OFF, add_from_file, &(struct filed){out, it->scope, true});
    for (size_t i = 0; i < HAPROXY_SERVICES; i++)
        add_usual(edge_api_of(c)->maps, haproxy_services[i].name, out);
    (void)service_of(out, "http");
    (void)service_of(out, "https");
    if (out->n)
        qsort(out->p, out->n, sizeof *out->p, by_name);
}

static struct edge_api_service shown_service(const struct service *s) {
    return (struct edge_api_service){
        .service = ht_slice_str(s->name), .port = s->port, .own = s->own, .enable_proxy = !s->off};
}

/* What is switched off, and no service any more, is not listed. */
static bool is_there(const struct service *s) {
    return s->port || strcmp(s->name, "http") == 0 || strcmp(s->name, "https") == 0;
}

static int show_services(const struct api_client *c, const char *id, struct edge_api_response *res) {
    struct edge_container it;
    struct services all = {0};
    int rc = HT_ENOMEM;
    if (!edge_container_find(edge_api_of(c)->containers, id, &it))
        return no_container(res, id);
    collect(c, &it, &all);
    struct edge_api_service *v = all.n ? ht_calloc(all.n, sizeof *v) : NULL;
    struct edge_api_services out = {.services = v, .file_version = edge_doc_version(it.doc)};
    for (size_t i = 0; v && i < all.n; i++)
        if (is_there(&all.p[i]))
            v[out.n_services++] = shown_service(&all.p[i]);
    if (v && !all.no_memory)
        rc = edge_api_reply_service_list_200(res, &out);
    edge_api_etag(res, out.file_version);
    ht_free(v);
    ht_free(all.p);
    return rc;
}

int edge_api_service_list(void *ctx, const struct edge_api_request *req, struct edge_api_response *res) {
    struct edge_container it;
    int rc;
    return find(ctx, req, res, &it, &rc) ? show_services(ctx, req->params.id, res) : rc;
}

int edge_api_service_get(void *ctx, const struct edge_api_request *req, struct edge_api_response *res) {
    struct api_client *c = ctx;
    struct edge_container it;
    struct services all = {0};
    int rc;
    if (!find(c, req, res, &it, &rc))
        return rc;
    collect(c, &it, &all);
    rc = all.no_memory ? HT_ENOMEM
                       : edge_api_reply_error(res, 404, "the container has no service %s", req->params.service);
    for (size_t i = 0; rc == HT_OK && i < all.n; i++)
        if (strcmp(all.p[i].name, req->params.service) == 0 && is_there(&all.p[i])) {
            struct edge_api_service v = shown_service(&all.p[i]);
            rc = edge_api_reply_service_get_200(res, &v);
            edge_api_etag(res, edge_doc_version(it.doc));
        }
    ht_free(all.p);
    return rc;
}

/* ---- changing services ---- */

struct table {
    struct ht_buf json;
    const char *but; /* is left out */
    size_t n;
    int rc;
};

static void put_service(void *ctx, const char *name, unsigned port) {
    struct table *t = ctx;
    if (t->rc < 0 || (t->but && strcmp(name, t->but) == 0))
        return;
    t->rc = port ? ht_buf_printf(&t->json, "%s\"%s\":%u", t->n ? "," : "{", name, port)
                 : ht_buf_printf(&t->json, "%s\"%s\"", t->n ? "," : "[", name);
    t->n++;
}

/* Writes a part whose text is in the table, which ends it; an empty one takes the part away. */
static int write_table(struct api_client *c, const struct edge_api_request *req, struct edge_api_response *res,
                       struct table *t, const char *part, const struct edge_container *it, const char *what) {
    char project[EDGE_ID + 3];
    uint64_t version;
    int rc = t->rc;
    if (rc == HT_OK && t->n)
        rc = ht_buf_append_str(&t->json, strcmp(part, "off") == 0 ? "]" : "}");
    snprintf(project, sizeof project, "\"%s\"", it->project);
    const struct edge_change changes[] = {
        {.part = "project_id", .value = ht_slice_str(project)},
        {.part = part, .value = t->n ? ht_buf_slice(&t->json) : ht_slice_of(NULL, 0)}};
    if (t->n > SERVICES_MAX)
        rc = edge_api_reply_error(res, 400, "a container has at most %d services of its own", SERVICES_MAX);
    else if (rc == HT_OK && edge_api_change(c, req, res, EDGE_CONTAINER, it->id, changes, 2, what, &version, &rc))
        rc = show_services(c, it->id, res);
    ht_buf_free(&t->json);
    return rc;
}

static bool good_service(struct edge_api_response *res, const char *name, bool with_port, int *rc) {
    bool good = with_port ? edge_has_port(ht_slice_str(name)) : edge_is_service(ht_slice_str(name));
    if (!good)
        *rc = edge_api_reply_error(res, 400, "\"%s\" is no service%s: a-z and single hyphens between them", name,
                                   with_port ? " with a port of its own, as neither http nor https is" : "");
    return good;
}

int edge_api_service_put(void *ctx, const struct edge_api_request *req, struct edge_api_response *res) {
    struct api_client *c = ctx;
    struct api_member m[] = {{.name = "port", .type = API_NUMBER, .required = true}};
    struct edge_container it;
    struct table t = {.but = req->params.service};
    char space[8];
    int rc;
    if (!find(c, req, res, &it, &rc) || !not_of_file(res, &it, &rc) ||
        !good_service(res, req->params.service, true, &rc) || !edge_api_body(req, res, m, 1, space, sizeof space, &rc))
        return rc;
    if (m[0].number < 1 || m[0].number > UINT16_MAX)
        return edge_api_reply_error(res, 400, "port must be 1 to 65535");
    edge_container_services(it.doc, put_service, &t);
    t.but = NULL;
    put_service(&t, req->params.service, (unsigned)m[0].number);
    return write_table(c, req, res, &t, "services", &it, "servicePut");
}

int edge_api_service_delete(void *ctx, const struct edge_api_request *req, struct edge_api_response *res) {
    struct api_client *c = ctx;
    struct edge_container it;
    struct table all = {0}, t = {.but = req->params.service};
    int rc;
    if (!find(c, req, res, &it, &rc) || !not_of_file(res, &it, &rc))
        return rc;
    edge_container_services(it.doc, put_service, &all);
    edge_container_services(it.doc, put_service, &t);
    ht_buf_free(&all.json);
    if (all.n == t.n) {
        ht_buf_free(&t.json);
        return edge_api_reply_error(res, 404, "the container has no service %s of its own", req->params.service);
    }
    return write_table(c, req, res, &t, "services", &it, "serviceDelete");
}

/* Checks what PUT has as `services`, by reading it as a document would have it. */
static bool check_services(struct edge_api_response *res, struct ht_slice json, struct table *t, int *rc) {
    struct edge_services_reader r;
    char name[EDGE_SERVICE];
    unsigned port;
    int more;
    edge_services_begin(&r, json);
    while ((more = edge_services_next(&r, name, &port)) > 0)
        put_service(t, name, port);
    if (more < 0)
        *rc = edge_api_reply_error(res, 400,
                                   "services must be an object of ports from 1 to 65535 by name; a name is "
                                   "a-z and single hyphens between them, and neither http nor https");
    return more == 0;
}

int edge_api_services_put(void *ctx, const struct edge_api_request *req, struct edge_api_response *res) {
    struct api_client *c = ctx;
    struct api_member m[] = {{.name = "services", .type = API_JSON, .required = true}};
    struct edge_container it;
    struct table t = {0};
    char space[8];
    int rc;
    if (!find(c, req, res, &it, &rc) || !not_of_file(res, &it, &rc) ||
        !edge_api_body(req, res, m, 1, space, sizeof space, &rc))
        return rc;
    if (!check_services(res, m[0].value, &t, &rc)) {
        ht_buf_free(&t.json);
        return rc;
    }
    return write_table(c, req, res, &t, "services", &it, "servicesPut");
}

int edge_api_services_delete(void *ctx, const struct edge_api_request *req, struct edge_api_response *res) {
    struct edge_container it;
    struct table t = {0};
    int rc;
    if (!find(ctx, req, res, &it, &rc) || !not_of_file(res, &it, &rc))
        return rc;
    return write_table(ctx, req, res, &t, "services", &it, "servicesDelete");
}

/* ---- switches ---- */

static bool read_switch(const struct edge_api_request *req, struct edge_api_response *res, bool *on, int *rc) {
    struct api_member m[] = {{.name = "enable_proxy", .type = API_BOOL, .required = true}};
    char space[8];
    bool good = edge_api_body(req, res, m, 1, space, sizeof space, rc);
    *on = m[0].on;
    return good;
}

int edge_api_service_state(void *ctx, const struct edge_api_request *req, struct edge_api_response *res) {
    struct api_client *c = ctx;
    struct edge_container it;
    struct table t = {.but = req->params.service};
    bool on;
    int rc;
    if (!find(c, req, res, &it, &rc) || !good_service(res, req->params.service, false, &rc) ||
        !read_switch(req, res, &on, &rc))
        return rc;
    edge_container_off(it.doc, put_service, &t);
    t.but = NULL;
    if (!on)
        put_service(&t, req->params.service, 0);
    return write_table(c, req, res, &t, "off", &it, "serviceState");
}

static int show_state(struct edge_api_response *res, bool on, uint64_t version) {
    int rc =
        edge_api_reply_container_state_200(res, &(struct edge_api_state){.enable_proxy = on, .file_version = version});
    edge_api_etag(res, version);
    return rc;
}

int edge_api_container_state_get(void *ctx, const struct edge_api_request *req, struct edge_api_response *res) {
    struct edge_container it;
    int rc;
    return find(ctx, req, res, &it, &rc) ? show_state(res, it.enabled, edge_doc_version(it.doc)) : rc;
}

static struct edge_change switched(bool on) {
    return (struct edge_change){.part = "enable_proxy", .value = ht_slice_str(on ? "true" : "false")};
}

int edge_api_container_state(void *ctx, const struct edge_api_request *req, struct edge_api_response *res) {
    struct api_client *c = ctx;
    struct edge_container it;
    char project[EDGE_ID + 3];
    uint64_t version;
    bool on;
    int rc;
    if (!find(c, req, res, &it, &rc) || !read_switch(req, res, &on, &rc))
        return rc;
    snprintf(project, sizeof project, "\"%s\"", it.project);
    const struct edge_change changes[] = {{.part = "project_id", .value = ht_slice_str(project)}, switched(on)};
    if (!edge_api_change(c, req, res, EDGE_CONTAINER, it.id, changes, 2, "containerState", &version, &rc))
        return rc;
    (void)edge_container_find(edge_api_of(c)->containers, req->params.id, &it);
    return show_state(res, it.enabled, version);
}

int edge_api_project_state_get(void *ctx, const struct edge_api_request *req, struct edge_api_response *res) {
    struct api_client *c = ctx;
    const char *id = req->params.id;
    if (!edge_is_id(ht_slice_str(id)))
        return bad_id(res);
    return show_state(res, edge_project_on(edge_api_of(c)->containers, id),
                      edge_doc_version(edge_state_get(edge_api_of(c)->state, EDGE_PROJECT, id)));
}

int edge_api_project_state(void *ctx, const struct edge_api_request *req, struct edge_api_response *res) {
    struct api_client *c = ctx;
    const char *id = req->params.id;
    uint64_t version;
    bool on;
    int rc;
    if (!edge_is_id(ht_slice_str(id)))
        return bad_id(res);
    if (!read_switch(req, res, &on, &rc))
        return rc;
    struct edge_change change = switched(on);
    if (!edge_api_change(c, req, res, EDGE_PROJECT, id, &change, 1, "projectState", &version, &rc))
        return rc;
    return show_state(res, edge_project_on(edge_api_of(c)->containers, id), version);
}
