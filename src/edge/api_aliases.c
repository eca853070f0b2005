/* Aliases by the API. */
#include "edge/api.h"

#include "base/clock.h"
#include "base/mem.h"

#include <stdio.h>

/* An alias as it is shown. */
struct shown {
    struct edge_alias it;
    char id[EDGE_ID_MAX + 1], host[EDGE_HOST], expires[EDGE_ALIAS_TIME];
    uint64_t version;
};

static struct ht_slice text_or_none(const char *text) { return ht_slice_of(*text ? text : NULL, strlen(text)); }

/* False: its document cannot be read. */
static bool fill(const struct api_client *c, const struct edge_doc *d, struct shown *s, struct ht_errmsg *err) {
    if (edge_alias_read(&s->it, d, err) < 0)
        return false;
    snprintf(s->id, sizeof s->id, "%s", edge_doc_id(d));
    if (edge_aliases_host(edge_api_of(c)->aliases, s->it.name, s->host, NULL) < 0)
        s->host[0] = '\0';
    s->version = edge_doc_version(d);
    s->expires[0] = '\0';
    if (s->it.expires)
        edge_alias_time(&s->it, s->expires);
    return true;
}

static struct edge_api_alias show(const struct shown *s) {
    return (struct edge_api_alias){
        .id = ht_slice_str(s->id),
        .alias = ht_slice_str(s->it.name),
        .host = ht_slice_str(s->host),
        .project_id = ht_slice_str(s->it.project),
        .container_id = ht_slice_str(s->it.container),
        .program = ht_slice_str(s->it.program),
        .port = s->it.port,
        .index = edge_alias_number(&s->it),
        .target_path = text_or_none(s->it.target),
        .allow_path_override = s->it.override,
        .exact = s->it.exact,
        .expires_at = text_or_none(s->expires),
        .enabled = !s->it.disabled,
        .expired = edge_alias_expired(&s->it),
        .file_version = s->version,
    };
}

/* ---- reading ---- */

static int no_alias(struct edge_api_response *res, const char *id) {
    return edge_api_reply_error(res, 404, "there is no alias %s", id);
}

static int unreadable(struct edge_api_response *res, const struct ht_errmsg *err) {
    return edge_api_reply_error(res, 409, "this alias cannot be read, take it away and make it anew: %s", err->text);
}

/* The document that a request names; NULL: it is answered. */
static const struct edge_doc *find(const struct api_client *c, const struct edge_api_request *req,
                                   struct edge_api_response *res, int *rc) {
    const char *id = req->params.id;
    bool good = edge_is_id(ht_slice_str(id));
    const struct edge_doc *d = good ? edge_state_get(edge_api_of(c)->state, EDGE_ALIAS, id) : NULL;
    if (edge_alias_released(d, NULL))
        d = NULL;
    if (!d)
        *rc = good ? no_alias(res, id) : edge_api_reply_error(res, 400, "an id has 24 of 0-9 and a-f");
    return d;
}

static int show_one(const struct api_client *c, const char *id, struct edge_api_response *res) {
    struct shown s;
    struct ht_errmsg err;
    const struct edge_doc *d = edge_state_get(edge_api_of(c)->state, EDGE_ALIAS, id);
    if (!fill(c, d, &s, &err))
        return unreadable(res, &err);
    struct edge_api_alias v = show(&s);
    int rc = edge_api_reply_alias_get_200(res, &v);
    edge_api_etag(res, s.version);
    return rc;
}

int edge_api_alias_get(void *ctx, const struct edge_api_request *req, struct edge_api_response *res) {
    int rc;
    return find(ctx, req, res, &rc) ? show_one(ctx, req->params.id, res) : rc;
}

struct page {
    const struct api_client *c;
    const struct edge_api_params *wanted;
    struct shown *all;
    size_t n, limit;
    bool more;
};

/* One that cannot be read is none. */
static int add_one(void *ctx, const struct edge_doc *d) {
    struct page *p = ctx;
    const struct edge_api_params *w = p->wanted;
    struct shown s;
    if ((w->set_after && strcmp(edge_doc_id(d), w->after) <= 0) || !fill(p->c, d, &s, NULL))
        return 0;
    if (w->set_container && strcmp(w->container, s.it.container) != 0)
        return 0;
    p->more = p->n == p->limit;
    if (!p->more)
        p->all[p->n++] = s;
    return p->more;
}

int edge_api_alias_list(void *ctx, const struct edge_api_request *req, struct edge_api_response *res) {
    const struct edge_api_config *cfg = edge_api_of(ctx);
    size_t limit = ht_min((size_t)req->params.limit, edge_state_count(cfg->state, EDGE_ALIAS));
    struct page p = {.c = ctx, .wanted = &req->params, .limit = limit};
    struct edge_api_alias *v = ht_calloc(limit + 1, sizeof *v);
    p.all = ht_calloc(limit + 1, sizeof *p.all);
    const char *named = req->params.set_alias ? edge_aliases_find(cfg->aliases, req->params.alias) : NULL;
    int rc = v && p.all ? HT_OK : HT_ENOMEM;
    if (rc == HT_OK && named && limit > 0)
        (void)add_one(&p, edge_state_get(cfg->state, EDGE_ALIAS, named));
    else if (rc == HT_OK && !req->params.set_alias)
        (void)edge_state_each(cfg->state, EDGE_ALIAS, add_one, &p);
    for (size_t i = 0; rc == HT_OK && i < p.n; i++)
        v[i] = show(&p.all[i]);
    if (rc == HT_OK)
        rc = edge_api_reply_alias_list_200(res,
                                           &(struct edge_api_aliases){.aliases = v, .n_aliases = p.n, .more = p.more});
    ht_free(p.all);
    ht_free(v);
    return rc;
}

/* ---- what a body says ---- */

static const enum edge_alias_part of_body[] = {
    EDGE_ALIAS_NAME_PART,   EDGE_ALIAS_CONTAINER, EDGE_ALIAS_PROGRAM, EDGE_ALIAS_PORT,    EDGE_ALIAS_INDEX,
    EDGE_ALIAS_TARGET_PATH, EDGE_ALIAS_OVERRIDE,  EDGE_ALIAS_EXACT,   EDGE_ALIAS_EXPIRES, EDGE_ALIAS_ENABLED};

/* Members of the body take the place of those of the alias. False: it is answered. */
static bool take_body(const struct edge_api_request *req, struct edge_api_response *res, struct edge_alias *it,
                      int *rc) {
    struct api_member m[HT_ARRAY_LEN(of_body)];
    struct ht_errmsg err;
    char space[8];
    bool set[EDGE_ALIAS_PARTS] = {false};
    for (size_t i = 0; i < HT_ARRAY_LEN(m); i++)
        m[i] = (struct api_member){.name = edge_alias_parts[of_body[i]], .type = API_JSON};
    if (!edge_api_body(req, res, m, HT_ARRAY_LEN(m), space, sizeof space, rc))
        return false;
    for (size_t i = 0; i < HT_ARRAY_LEN(m); i++)
        set[of_body[i]] = m[i].set;
    /* The number of one program is not that of another one. */
    if (set[EDGE_ALIAS_PROGRAM] || set[EDGE_ALIAS_PORT] || set[EDGE_ALIAS_INDEX])
        it->port = it->index = 0;
    bool ok = true;
    for (size_t i = 0; ok && i < HT_ARRAY_LEN(m); i++)
        ok = !m[i].set || edge_alias_set(it, of_body[i], m[i].value, &err) == HT_OK;
    if (ok && set[EDGE_ALIAS_EXPIRES] && edge_alias_expired(it)) {
        *rc = edge_api_reply_error(res, 400, "expires_at is in the past");
        return false;
    }
    ok = ok && edge_alias_check(it, &err) == HT_OK;
    if (!ok)
        *rc = edge_api_reply_error(res, 400, "%s", err.text);
    return ok;
}

/* Whether another project has had the name until lately, and it is answered. */
static bool rests(const struct api_client *c, struct edge_api_response *res, const struct edge_alias *it, int *rc) {
    struct edge_alias until = {.expires = edge_aliases_rests(edge_api_of(c)->aliases, it->name, it->project)};
    char when[EDGE_ALIAS_TIME];
    if (until.expires)
        *rc = edge_api_reply_error(res, 409,
                                   "another project has given up the name %s; visitors' browsers may still have its "
                                   "cookies, so it rests until %s",
                                   it->name, edge_alias_time(&until, when));
    return until.expires != 0;
}

/* Nobody else has the name, and it makes a host. False: it is answered. */
static bool may_have(const struct api_client *c, struct edge_api_response *res, const struct edge_alias *it,
                     const char *id, int *rc) {
    const struct edge_api_config *cfg = edge_api_of(c);
    char host[EDGE_HOST];
    struct ht_errmsg err;
    struct edge_alias other;
    const char *holder = edge_aliases_find(cfg->aliases, it->name);
    if (edge_aliases_host(cfg->aliases, it->name, host, &err) < 0) {
        *rc = edge_api_reply_error(res, 400, "%s", err.text);
        return false;
    }
    if (!holder || strcmp(holder, id) == 0)
        return !rests(c, res, it, rc);
    bool same = edge_alias_read(&other, edge_state_get(cfg->state, EDGE_ALIAS, holder), &err) == HT_OK &&
                strcmp(other.project, it->project) == 0;
    /* Of another project no more is told. */
    *rc = same
              ? edge_api_reply_error(res, 409, "the name %s is that of the alias %s, which leads to the container %s",
                                     it->name, holder, other.container)
              : edge_api_reply_error(res, 409, "the name %s is taken by another project; choose another one", it->name);
    return false;
}

/* The container is there, and of the alias's project, if it has one yet. False: it is answered. */
static bool may_lead(const struct api_client *c, struct edge_api_response *res, struct edge_alias *it, int *rc) {
    struct edge_container to;
    if (!edge_container_find(edge_api_of(c)->containers, it->container, &to)) {
        *rc = edge_api_reply_error(res, 404, "there is no container %s", it->container);
        return false;
    }
    if (it->project[0] && strcmp(it->project, to.project) != 0) {
        *rc = edge_api_reply_error(res, 409,
                                   "the alias is of the project %s, and stays there: the container %s is of another "
                                   "one",
                                   it->project, it->container);
        return false;
    }
    snprintf(it->project, sizeof it->project, "%s", to.project);
    return true;
}

/* ---- changing ---- */

/* Keeps what differs from `was`. */
static int keep(struct api_client *c, const struct edge_api_request *req, struct edge_api_response *res, const char *id,
                const struct edge_alias *was, const struct edge_alias *now, const char *what) {
    struct edge_change changes[EDGE_ALIAS_PARTS];
    struct ht_buf text[EDGE_ALIAS_PARTS] = {{0}}, old = {0};
    uint64_t version;
    size_t n = 0;
    int rc = HT_OK;
    for (int part = 0; rc == HT_OK && part < EDGE_ALIAS_PARTS; part++) {
        ht_buf_free(&old);
        rc = edge_alias_put(now, part, &text[part]);
        if (rc == HT_OK && was)
            rc = edge_alias_put(was, part, &old);
        struct ht_slice value = ht_buf_slice(&text[part]);
        /* Something has to change. */
        if (rc == HT_OK && (!ht_slice_eq(value, ht_buf_slice(&old)) || (part == EDGE_ALIAS_PARTS - 1 && n == 0)))
            changes[n++] =
                (struct edge_change){.part = edge_alias_parts[part], .value = value.n ? value : ht_slice_of(NULL, 0)};
    }
    if (rc == HT_OK && edge_api_change(c, req, res, EDGE_ALIAS, id, changes, n, what, &version, &rc))
        rc = show_one(c, id, res);
    for (int part = 0; part < EDGE_ALIAS_PARTS; part++)
        ht_buf_free(&text[part]);
    ht_buf_free(&old);
    return rc;
}

static struct ht_slice now_as_json(char out[24]) {
    snprintf(out, 24, "%lld", (long long)(((int64_t)ht_now_ms() + ht_wall_offset_ms()) / 1000));
    return ht_slice_str(out);
}

static void make_id(char out[EDGE_ID + 1]) {
    uint8_t bytes[EDGE_ID / 2];
    ht_random_bytes(bytes, sizeof bytes);
    for (size_t i = 0; i < sizeof bytes; i++)
        snprintf(out + 2 * i, 3, "%02x", bytes[i]);
}

int edge_api_alias_create(void *ctx, const struct edge_api_request *req, struct edge_api_response *res) {
    struct edge_alias it = {.port = 0};
    char id[EDGE_ID + 1];
    int rc;
    if (!take_body(req, res, &it, &rc) || !may_lead(ctx, res, &it, &rc) || !may_have(ctx, res, &it, "", &rc))
        return rc;
    make_id(id);
    return keep(ctx, req, res, id, NULL, &it, "aliasCreate");
}

/* A document for the name that an alias gives up. It is there before the name is free. False: it is answered. */
static bool release(struct api_client *c, struct edge_api_response *res, const struct edge_alias *was, int *rc) {
    char id[EDGE_ID + 1], name[EDGE_ALIAS_NAME + 2], project[EDGE_ID + 3], now[24];
    struct edge_actor by = edge_api_actor(c, "aliasRelease");
    struct ht_errmsg err;
    make_id(id);
    snprintf(name, sizeof name, "\"%s\"", was->name);
    snprintf(project, sizeof project, "\"%s\"", was->project);
    const struct edge_change changes[] = {
        {.part = edge_alias_parts[EDGE_ALIAS_NAME_PART], .value = ht_slice_str(name)},
        {.part = edge_alias_parts[EDGE_ALIAS_PROJECT], .value = ht_slice_str(project)},
        {.part = EDGE_ALIAS_RELEASED, .value = now_as_json(now)},
    };
    int did =
        edge_state_change(edge_api_of(c)->state, EDGE_ALIAS, id, 0, changes, HT_ARRAY_LEN(changes), &by, NULL, &err);
    if (did < 0)
        *rc = edge_api_reply_error(res, 500, "%s", err.text);
    return did == HT_OK;
}

int edge_api_alias_change(void *ctx, const struct edge_api_request *req, struct edge_api_response *res) {
    struct edge_alias was, it;
    struct ht_errmsg err;
    int rc;
    const struct edge_doc *d = find(ctx, req, res, &rc);
    if (!d)
        return rc;
    if (edge_alias_read(&was, d, &err) < 0)
        return unreadable(res, &err);
    it = was;
    if (!take_body(req, res, &it, &rc))
        return rc;
    bool keeps = edge_aliases_keeps_names(edge_api_of(ctx)->aliases) && req->version == edge_doc_version(d);
    bool moves = strcmp(it.container, was.container) != 0, renames = strcmp(it.name, was.name) != 0;
    if ((moves && !may_lead(ctx, res, &it, &rc)) || (renames && !may_have(ctx, res, &it, req->params.id, &rc)))
        return rc;
    if (renames && keeps && !release(ctx, res, &was, &rc))
        return rc;
    return keep(ctx, req, res, req->params.id, &was, &it, "aliasChange");
}

int edge_api_alias_state(void *ctx, const struct edge_api_request *req, struct edge_api_response *res) {
    struct api_member m[] = {{.name = edge_alias_parts[EDGE_ALIAS_ENABLED], .type = API_BOOL, .required = true}};
    struct edge_alias was, it;
    struct ht_errmsg err;
    char space[8];
    int rc;
    const struct edge_doc *d = find(ctx, req, res, &rc);
    if (!d || !edge_api_body(req, res, m, 1, space, sizeof space, &rc))
        return rc;
    if (edge_alias_read(&was, d, &err) < 0)
        return unreadable(res, &err);
    it = was;
    it.disabled = !m[0].on;
    return keep(ctx, req, res, req->params.id, &was, &it, "aliasState");
}

int edge_api_alias_delete(void *ctx, const struct edge_api_request *req, struct edge_api_response *res) {
    struct edge_change changes[EDGE_PARTS_MAX + 1];
    struct edge_alias was;
    char now[24];
    uint64_t version;
    size_t n = 0;
    int rc;
    const struct edge_doc *d = find(ctx, req, res, &rc);
    if (!d)
        return rc;
    bool keeps = edge_aliases_keeps_names(edge_api_of(ctx)->aliases) && edge_alias_read(&was, d, NULL) == HT_OK;
    for (size_t i = 0; i < edge_doc_parts(d); i++) {
        const char *part = edge_doc_part_name(d, i);
        bool stays = keeps && (strcmp(part, edge_alias_parts[EDGE_ALIAS_NAME_PART]) == 0 ||
                               strcmp(part, edge_alias_parts[EDGE_ALIAS_PROJECT]) == 0);
        if (!stays)
            changes[n++] = (struct edge_change){.part = part};
    }
    if (keeps) /* the name's own document from now on */
        changes[n++] = (struct edge_change){.part = EDGE_ALIAS_RELEASED, .value = now_as_json(now)};
    if (!edge_api_change(ctx, req, res, EDGE_ALIAS, req->params.id, changes, n, "aliasDelete", &version, &rc))
        return rc;
    return edge_api_reply_alias_delete_200(res, &(struct edge_api_version){.file_version = version});
}
