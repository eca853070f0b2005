/*
 * Containers of documents and of the address book, as entries of the maps.
 *
 * The file says where a container is and which services it has, and wins as a whole: of a container that it names, the
 * documents' address and services are not used. A switch is off when either says so.
 */
#include "edge/containers.h"

#include "base/log.h"
#include "base/mem.h"
#include "json/json.h"

#include <stdio.h>
#include <stdlib.h>

#define AGAIN_MS 200

struct row {
    enum haproxy_map map;
    char key[EDGE_KEY], value[IO_ADDR_TEXT];
};

/* What the maps have of a document. */
struct kept {
    char id[EDGE_ID + 1];
    enum edge_kind kind;
    struct row *rows;
    size_t n;
};

struct rows {
    struct row *p;
    size_t n, cap;
    bool no_memory;
};

struct edge_containers {
    struct edge_containers_config cfg;
    struct edge_observer observer;
    struct kept *kept; /* sorted */
    size_t n, cap;
    struct io_timer again; /* what memory was missing for */
};

/* ---- parts of a document ---- */

static bool text_of(const struct edge_doc *d, const char *part, char *out, size_t cap) {
    struct ht_slice json = edge_doc_part(d, part), text;
    struct json_reader r;
    char space[256];
    struct json_arena arena = {.p = space, .cap = sizeof space};
    out[0] = '\0';
    json_begin(&r, json.p ? json.p : "", json.n, NULL);
    if (json_peek(&r) != JSON_T_STRING || json_read_string(&r, false, &arena, &text) != 0 || text.n >= cap)
        return false;
    memcpy(out, text.p, text.n);
    out[text.n] = '\0';
    return true;
}

bool edge_doc_on(const struct edge_doc *d) { return !ht_slice_is(edge_doc_part(d, "enable_proxy"), "false"); }

/* An entry of services, or of off with port 0. */
typedef void each_service(void *ctx, const char *name, unsigned port);

void edge_services_begin(struct edge_services_reader *s, struct ht_slice json) {
    json_begin(&s->r, json.p ? json.p : "", json.n, NULL);
    s->rc = json_object_begin(&s->r);
}

int edge_services_next(struct edge_services_reader *s, char name[EDGE_SERVICE], unsigned *port) {
    struct ht_slice key;
    uint64_t n;
    int more = s->rc < 0 ? s->rc : json_object_next(&s->r, &key);
    if (more <= 0)
        return more < 0 ? HT_EINVAL : json_end(&s->r) < 0 ? HT_EINVAL : 0;
    bool good = edge_has_port(key);
    snprintf(name, EDGE_SERVICE, "%.*s", (int)ht_min(key.n, EDGE_SERVICE - 1), key.p);
    if (!good || json_peek(&s->r) != JSON_T_NUMBER || json_read_uint(&s->r, &n) != 0 || n < 1 || n > UINT16_MAX)
        return HT_EINVAL;
    *port = (unsigned)n;
    return 1;
}

static void walk_services(const struct edge_doc *d, each_service *each, void *ctx) {
    struct edge_services_reader r;
    char name[EDGE_SERVICE];
    unsigned port;
    edge_services_begin(&r, edge_doc_part(d, "services"));
    while (edge_services_next(&r, name, &port) > 0)
        each(ctx, name, port);
}

static void walk_off(const struct edge_doc *d, each_service *each, void *ctx) {
    struct ht_slice json = edge_doc_part(d, "off"), text;
    struct json_reader r;
    char name[EDGE_SERVICE];
    json_begin(&r, json.p, json.n, NULL);
    if (!json.p || json_array_begin(&r) < 0)
        return;
    while (json_array_next(&r) > 0) {
        struct json_arena arena = {.p = name, .cap = sizeof name - 1};
        if (json_peek(&r) != JSON_T_STRING || json_read_string(&r, false, &arena, &text) != 0)
            return;
        if (!edge_is_service(text))
            continue;
        memmove(name, text.p, text.n);
        name[text.n] = '\0';
        each(ctx, name, 0);
    }
}

void edge_container_services(const struct edge_doc *d, each_service *each, void *ctx) { walk_services(d, each, ctx); }

void edge_container_off(const struct edge_doc *d, each_service *each, void *ctx) { walk_off(d, each, ctx); }

/* ---- what the file says ---- */

struct wanted {
    const char *id;
    struct edge_container *out;
};

static int is_it(void *ctx, const char *key, const char *value) {
    const struct wanted *w = ctx;
    if (strcmp(key + EDGE_ID + 1, w->id) != 0)
        return 0;
    snprintf(w->out->project, sizeof w->out->project, "%.*s", EDGE_ID, key);
    snprintf(w->out->ip, sizeof w->out->ip, "%s", value);
    w->out->from_file = true;
    return 1;
}

static const struct edge_book *book_of(const struct edge_containers *c) { return *c->cfg.book; }

static const char *in_file(const struct edge_containers *c, enum haproxy_map map, const char *key) {
    return edge_book_get(book_of(c), map, key);
}

bool edge_container_find(const struct edge_containers *c, const char *id, struct edge_container *out) {
    char scope[EDGE_SCOPE];
    *out = (struct edge_container){.doc = edge_state_get(c->cfg.state, EDGE_CONTAINER, id)};
    snprintf(out->id, sizeof out->id, "%s", id);
    bool placed =
        text_of(out->doc, "project_id", out->project, sizeof out->project) && edge_is_id(ht_slice_str(out->project));
    bool addressed = text_of(out->doc, "ip", out->ip, sizeof out->ip);
    snprintf(scope, sizeof scope, "%s-%s", out->project, id);
    const char *filed = placed ? in_file(c, HAPROXY_MAP_CONTAINERS, scope) : NULL;
    if (filed) {
        out->from_file = true;
        snprintf(out->ip, sizeof out->ip, "%s", filed);
    } else if (!placed || !addressed) {
        (void)edge_book_each(book_of(c), HAPROXY_MAP_CONTAINERS, is_it, &(struct wanted){id, out});
    }
    snprintf(out->scope, sizeof out->scope, "%s-%s", out->project, id);
    bool known = out->from_file || (placed && addressed);
    out->enabled = edge_doc_on(out->doc) && !(known && in_file(c, HAPROXY_MAP_OFF, out->scope));
    return known;
}

bool edge_project_on(const struct edge_containers *c, const char *project) {
    return edge_doc_on(edge_state_get(c->cfg.state, EDGE_PROJECT, project)) && !in_file(c, HAPROXY_MAP_OFF, project);
}

/* ---- the rows of a document ---- */

static void add_row(struct rows *r, enum haproxy_map map, const char *key, const char *value) {
    if (r->n == r->cap) {
        size_t cap = r->cap ? r->cap * 2 : 4;
        struct row *more = ht_realloc(r->p, cap * sizeof *more);
        r->no_memory = r->no_memory || !more;
        if (!more)
            return;
        r->p = more;
        r->cap = cap;
    }
    struct row *row = &r->p[r->n++];
    row->map = map;
    snprintf(row->key, sizeof row->key, "%s", key);
    snprintf(row->value, sizeof row->value, "%s", value);
}

struct adding {
    struct rows *rows;
    const char *scope;
};

static void add_service(void *ctx, const char *name, unsigned port) {
    const struct adding *a = ctx;
    char key[EDGE_KEY], value[8];
    snprintf(key, sizeof key, "%s.%s", a->scope, name);
    snprintf(value, sizeof value, "%u", port);
    add_row(a->rows, port ? HAPROXY_MAP_SERVICES : HAPROXY_MAP_OFF, key, port ? value : "1");
}

static void container_rows(const struct edge_containers *c, const char *id, struct rows *rows) {
    struct edge_container it;
    if (!edge_container_find(c, id, &it) || !it.doc)
        return;
    struct adding a = {rows, it.scope};
    if (!it.from_file) {
        add_row(rows, HAPROXY_MAP_CONTAINERS, it.scope, it.ip);
        walk_services(it.doc, add_service, &a);
    }
    if (!edge_doc_on(it.doc))
        add_row(rows, HAPROXY_MAP_OFF, it.scope, "1");
    walk_off(it.doc, add_service, &a);
}

static void rows_of(const struct edge_containers *c, enum edge_kind kind, const char *id, struct rows *rows) {
    if (kind == EDGE_CONTAINER)
        container_rows(c, id, rows);
    else if (!edge_doc_on(edge_state_get(c->cfg.state, kind, id)))
        add_row(rows, HAPROXY_MAP_OFF, id, "1");
}

/* ---- what the maps have ---- */

static int order(enum edge_kind kind, const char *id, const struct kept *k) {
    return kind != k->kind ? (kind < k->kind ? -1 : 1) : strcmp(id, k->id);
}

static size_t place_of(const struct edge_containers *c, enum edge_kind kind, const char *id) {
    size_t low = 0, high = c->n;
    while (low < high) {
        size_t mid = low + (high - low) / 2;
        if (order(kind, id, &c->kept[mid]) > 0)
            low = mid + 1;
        else
            high = mid;
    }
    return low;
}

static struct kept *keep(struct edge_containers *c, enum edge_kind kind, const char *id) {
    size_t at = place_of(c, kind, id);
    if (at < c->n && order(kind, id, &c->kept[at]) == 0)
        return &c->kept[at];
    if (c->n == c->cap) {
        size_t cap = c->cap ? c->cap * 2 : 64;
        struct kept *more = ht_realloc(c->kept, cap * sizeof *more);
        if (!more)
            return NULL;
        c->kept = more;
        c->cap = cap;
    }
    memmove(c->kept + at + 1, c->kept + at, (c->n - at) * sizeof *c->kept);
    c->n++;
    c->kept[at] = (struct kept){.kind = kind};
    snprintf(c->kept[at].id, sizeof c->kept[at].id, "%s", id);
    return &c->kept[at];
}

static void drop(struct edge_containers *c, const struct kept *k) {
    size_t at = (size_t)(k - c->kept);
    ht_free(k->rows);
    memmove(c->kept + at, c->kept + at + 1, (c->n - at - 1) * sizeof *c->kept);
    c->n--;
}

static bool has_row(const struct row *rows, size_t n, const struct row *row) {
    for (size_t i = 0; i < n; i++)
        if (rows[i].map == row->map && strcmp(rows[i].key, row->key) == 0)
            return true;
    return false;
}

/* The map has what the file says again, or nothing. */
static int give_back(const struct edge_containers *c, const struct row *row) {
    const char *filed = in_file(c, row->map, row->key);
    if (filed)
        return edge_maps_set(c->cfg.maps, row->map, row->key, filed);
    edge_maps_remove(c->cfg.maps, row->map, row->key);
    return HT_OK;
}

static int apply(struct edge_containers *c, enum edge_kind kind, const char *id) {
    struct rows now = {0};
    int rc = HT_OK;
    struct kept *k = keep(c, kind, id);
    rows_of(c, kind, id, &now);
    if (!k || now.no_memory) {
        ht_free(now.p);
        return HT_ENOMEM;
    }
    for (size_t i = 0; rc == HT_OK && i < k->n; i++)
        if (!has_row(now.p, now.n, &k->rows[i]))
            rc = give_back(c, &k->rows[i]);
    for (size_t i = 0; rc == HT_OK && i < now.n; i++)
        rc = edge_maps_set(c->cfg.maps, now.p[i].map, now.p[i].key, now.p[i].value);
    if (rc < 0) { /* the old rows are kept, and compared again */
        ht_free(now.p);
        return rc;
    }
    ht_free(k->rows);
    k->rows = now.p;
    k->n = now.n;
    if (k->n == 0)
        drop(c, k);
    return HT_OK;
}

static int apply_doc(void *ctx, const struct edge_doc *d) {
    struct edge_containers *c = ctx;
    return apply(c, EDGE_CONTAINER, edge_doc_id(d));
}

static int apply_project(void *ctx, const struct edge_doc *d) {
    struct edge_containers *c = ctx;
    return apply(c, EDGE_PROJECT, edge_doc_id(d));
}

/* Documents that are gone have rows, and others have documents. */
static int apply_all(struct edge_containers *c) {
    int rc = edge_state_each(c->cfg.state, EDGE_PROJECT, apply_project, c);
    if (rc == HT_OK)
        rc = edge_state_each(c->cfg.state, EDGE_CONTAINER, apply_doc, c);
    for (size_t i = c->n; rc == HT_OK && i-- > 0;)
        if (!edge_state_get(c->cfg.state, c->kept[i].kind, c->kept[i].id))
            rc = apply(c, c->kept[i].kind, c->kept[i].id);
    return rc;
}

int edge_containers_again(struct edge_containers *c) {
    int rc = apply_all(c);
    if (rc < 0)
        io_timer_set(&c->again, AGAIN_MS);
    return rc;
}

static void on_again(struct io_timer *t) {
    (void)edge_containers_again(ht_container_of(t, struct edge_containers, again));
}

static void on_changed(struct edge_observer *o, enum edge_kind kind, const char *id, const struct edge_doc *doc) {
    struct edge_containers *c = ht_container_of(o, struct edge_containers, observer);
    (void)doc;
    if (kind != EDGE_CONTAINER && kind != EDGE_PROJECT)
        return;
    if (apply(c, kind, id) < 0)
        io_timer_set(&c->again, AGAIN_MS);
}

/* ---- life ---- */

struct edge_containers *edge_containers_create(const struct edge_containers_config *cfg) {
    struct edge_containers *c = ht_calloc(1, sizeof *c);
    if (!c)
        return NULL;
    c->cfg = *cfg;
    io_timer_init(cfg->loop, &c->again, on_again);
    c->observer.changed = on_changed;
    edge_state_watch(cfg->state, &c->observer);
    if (apply_all(c) < 0)
        edge_containers_destroy(&c);
    return c;
}

void edge_containers_destroy(struct edge_containers **cp) {
    struct edge_containers *c = *cp;
    *cp = NULL;
    if (!c)
        return;
    io_timer_stop(&c->again);
    edge_state_unwatch(c->cfg.state, &c->observer);
    for (size_t i = 0; i < c->n; i++)
        ht_free(c->kept[i].rows);
    ht_free(c->kept);
    ht_free(c);
}
