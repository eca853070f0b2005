#include "edge/cache.h"

#include "json/json.h"

#include <inttypes.h>
#include <stdio.h>

static struct edge_cache_service *find(struct edge_cache *c, struct ht_slice name) {
    for (size_t i = 0; i < c->n; i++)
        if (ht_slice_is(name, c->services[i].name))
            return &c->services[i];
    return NULL;
}

/* The one of this name, which is made if it is not there. NULL: there are too many. */
static struct edge_cache_service *place(struct edge_cache *c, struct ht_slice name) {
    struct edge_cache_service *s = find(c, name);
    if (s || c->n == EDGE_CACHE_SERVICES)
        return s;
    s = &c->services[c->n++];
    *s = (struct edge_cache_service){.kept = EDGE_CACHE_AS_ALL};
    snprintf(s->name, sizeof s->name, "%.*s", HT_SLICE_ARG(name));
    return s;
}

/* ---- reading ---- */

static int bad(struct ht_errmsg *err, const char *what, struct ht_slice name) {
    return ht_fail(err, HT_EINVAL, "cache: %s%.*s", what, (int)ht_min(name.n, 40), name.p ? name.p : "");
}

/* An object with a member for each service: true and false, or generations. */
static int read_services(struct edge_cache *c, struct json_reader *r, bool generations, struct ht_errmsg *err) {
    struct ht_slice name;
    int more = json_peek(r) == JSON_T_OBJECT ? json_object_begin(r) : -1;
    while (more >= 0 && (more = json_object_next(r, &name)) > 0) {
        if (!edge_is_service(name))
            return bad(err, "this is no name of a service, such as terminal: ", name);
        struct edge_cache_service *s = place(c, name);
        bool on = false;
        if (!s)
            return ht_fail(err, HT_EINVAL, "cache: something is said of more than %d services", EDGE_CACHE_SERVICES);
        if (generations && (json_peek(r) != JSON_T_NUMBER || json_read_uint(r, &s->generation) != 0))
            return bad(err, "no generation: ", name);
        if (!generations && (json_peek(r) != JSON_T_BOOL || json_read_bool(r, &on) != 0))
            return bad(err, "true or false belongs to the service ", name);
        if (!generations)
            s->kept = on ? EDGE_CACHE_ON : EDGE_CACHE_OFF;
    }
    return more < 0 ? bad(err, "services must be an object, service -> true or false", ht_slice_of(NULL, 0)) : HT_OK;
}

static int read_member(struct edge_cache *c, struct json_reader *r, struct ht_slice key, bool wish,
                       struct ht_errmsg *err) {
    if (ht_slice_is(key, "enabled")) {
        bool ok = json_peek(r) == JSON_T_BOOL && json_read_bool(r, &c->enabled) == 0;
        return ok ? HT_OK : bad(err, "enabled must be true or false", ht_slice_of(NULL, 0));
    }
    if (ht_slice_is(key, "services"))
        return read_services(c, r, false, err);
    if (!wish && ht_slice_is(key, "generations"))
        return read_services(c, r, true, err);
    if (!wish && ht_slice_is(key, "generation")) {
        bool ok = json_peek(r) == JSON_T_NUMBER && json_read_uint(r, &c->generation) == 0;
        return ok ? HT_OK : bad(err, "no generation", ht_slice_of(NULL, 0));
    }
    return bad(err, "there are enabled and services, and no ", key);
}

int edge_cache_read(struct edge_cache *out, struct ht_slice json, bool wish, struct ht_errmsg *err) {
    struct json_reader r;
    struct ht_slice key;
    *out = (struct edge_cache){.n = 0};
    if (!json.p)
        return HT_OK;
    json_begin(&r, json.p, json.n, NULL);
    int rc = HT_OK, more = json_peek(&r) == JSON_T_OBJECT ? json_object_begin(&r) : -1;
    while (rc == HT_OK && more >= 0 && (more = json_object_next(&r, &key)) > 0)
        rc = read_member(out, &r, key, wish, err);
    if (rc == HT_OK && (more < 0 || json_end(&r) < 0))
        rc = bad(err, "it must be an object with enabled and services", ht_slice_of(NULL, 0));
    return rc;
}

/* ---- writing ---- */

int edge_cache_write(const struct edge_cache *c, bool wish, struct ht_buf *out) {
    const char *sep = "";
    int rc = ht_buf_printf(out, "{\"enabled\":%s,\"services\":{", c->enabled ? "true" : "false");
    for (size_t i = 0; rc == HT_OK && i < c->n; i++) {
        const struct edge_cache_service *s = &c->services[i];
        if (s->kept == EDGE_CACHE_AS_ALL)
            continue;
        rc = ht_buf_printf(out, "%s\"%s\":%s", sep, s->name, s->kept == EDGE_CACHE_ON ? "true" : "false");
        sep = ",";
    }
    if (rc == HT_OK && !wish)
        rc = ht_buf_printf(out, "},\"generation\":%" PRIu64 ",\"generations\":{", c->generation);
    sep = "";
    for (size_t i = 0; !wish && rc == HT_OK && i < c->n; i++) {
        const struct edge_cache_service *s = &c->services[i];
        if (s->generation == 0)
            continue;
        rc = ht_buf_printf(out, "%s\"%s\":%" PRIu64, sep, s->name, s->generation);
        sep = ",";
    }
    return rc == HT_OK ? ht_buf_append_str(out, "}}") : rc;
}

/* ---- what it says ---- */

static bool says(const struct edge_cache *a, const struct edge_cache *b) {
    for (size_t i = 0; i < a->n; i++) {
        const struct edge_cache_service *s = &a->services[i], *t = NULL;
        for (size_t j = 0; j < b->n && !t; j++)
            t = strcmp(s->name, b->services[j].name) == 0 ? &b->services[j] : NULL;
        if (s->kept != (t ? t->kept : EDGE_CACHE_AS_ALL))
            return false;
    }
    return a->enabled == b->enabled;
}

bool edge_cache_same(const struct edge_cache *a, const struct edge_cache *b) { return says(a, b) && says(b, a); }

int edge_cache_purge(struct edge_cache *c, const char *service, uint64_t now_ms) {
    struct edge_cache_service *s = service ? place(c, ht_slice_str(service)) : NULL;
    uint64_t last = c->generation;
    if (service && !s)
        return HT_ELIMIT;
    for (size_t i = 0; i < c->n; i++)
        last = ht_max64(last, c->services[i].generation);
    uint64_t next = ht_max64(now_ms, last + 1); /* the clock may have been set back */
    if (s) {
        s->generation = next;
        return HT_OK;
    }
    c->generation = next;
    size_t n = 0;
    for (size_t i = 0; i < c->n; i++) {
        c->services[i].generation = 0;
        if (c->services[i].kept != EDGE_CACHE_AS_ALL)
            c->services[n++] = c->services[i];
    }
    c->n = n;
    return HT_OK;
}

uint64_t edge_cache_generation(const struct edge_cache *c, const struct edge_cache_service *s) {
    bool kept = s && s->kept != EDGE_CACHE_AS_ALL ? s->kept == EDGE_CACHE_ON : c->enabled;
    if (s && kept == c->enabled && (!kept || s->generation <= c->generation))
        return UINT64_MAX;
    return !kept ? 0 : s ? ht_max64(c->generation, s->generation) : c->generation;
}
