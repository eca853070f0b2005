/* The address book: a file with the containers of this server, their services, and what is switched off. */
#include "edge/edge_priv.h"

#include "base/log.h"
#include "base/mem.h"
#include "json/json.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define BOOK_MAX (32u * 1024u * 1024u)

/* An entry of a map. */
struct row {
    enum haproxy_map map;
    char key[EDGE_KEY], value[IO_ADDR_TEXT];
};

struct edge_book {
    struct row *rows; /* sorted by map and key */
    size_t n, cap;
};

struct reading {
    struct json_reader r;
    struct json_arena arena;
    struct edge_book *book;
    const char *file;
    struct ht_errmsg *err;
};

/* ---- mistakes ---- */

static int wrong(struct reading *g, const char *fmt, ...) HT_PRINTF(2, 3);
static int wrong(struct reading *g, const char *fmt, ...) {
    char text[256];
    unsigned line = 1;
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    for (const uint8_t *p = g->r.start; p < g->r.p; p++)
        line += *p == '\n';
    return ht_fail(g->err, HT_EINVAL, "%s:%u: error: %s", g->file, line, text);
}

/* What the reader says; `want` when it is another type than that. */
static int bad_json(struct reading *g, const char *want) {
    if (g->r.error.reason == JSON_OK || g->r.error.reason == JSON_SYNTAX)
        return wrong(g, "%s is wanted here", want);
    return wrong(g, "%s", json_reason_text(g->r.error.reason));
}

/* ---- rows ---- */

static int add(struct reading *g, enum haproxy_map map, const char *key, const char *value) {
    struct edge_book *b = g->book;
    if (b->n == b->cap) {
        size_t cap = b->cap ? b->cap * 2 : 64;
        struct row *more = ht_realloc(b->rows, cap * sizeof *more);
        if (!more)
            return ht_fail(g->err, HT_ENOMEM, "out of memory");
        b->rows = more;
        b->cap = cap;
    }
    struct row *row = &b->rows[b->n++];
    row->map = map;
    snprintf(row->key, sizeof row->key, "%s", key);
    snprintf(row->value, sizeof row->value, "%s", value);
    return HT_OK;
}

static int by_key(const void *x, const void *y) {
    const struct row *a = x, *b = y;
    return a->map != b->map ? (a->map < b->map ? -1 : 1) : strcmp(a->key, b->key);
}

/* ---- words ---- */

static int read_text(struct reading *g, struct ht_slice *out, const char *want) {
    g->arena.used = 0;
    if (json_peek(&g->r) != JSON_T_STRING || json_read_string(&g->r, false, &g->arena, out) != 0)
        return bad_json(g, want);
    return HT_OK;
}

static int read_id(struct reading *g, char out[EDGE_ID + 1]) {
    struct ht_slice s;
    int rc = read_text(g, &s, "an id");
    if (rc == HT_OK && !edge_is_id(s))
        rc = wrong(g, "an id has 24 of 0-9 and a-f");
    if (rc == HT_OK)
        snprintf(out, EDGE_ID + 1, "%.*s", HT_SLICE_ARG(s));
    return rc;
}

static int read_address(struct reading *g, char out[IO_ADDR_TEXT]) {
    struct ht_slice s;
    struct ht_errmsg why;
    int rc = read_text(g, &s, "an IP address");
    if (rc == HT_OK && edge_read_address(s, out, &why) < 0)
        rc = wrong(g, "%s", why.text);
    return rc;
}

/* ---- parts of the file ---- */

/* {"terminal": 7681, ...}: `scope` is "" or PROJECT-CONTAINER with a dot. */
static int read_services(struct reading *g, const char *scope) {
    struct ht_slice name;
    char key[EDGE_KEY], value[8];
    uint64_t port = 0;
    int more = 0, rc = json_object_begin(&g->r);
    if (rc < 0)
        return bad_json(g, "an object of services with their ports");
    while (rc == HT_OK && (more = json_object_next(&g->r, &name)) > 0) {
        if (!edge_has_port(name))
            return wrong(g, "\"%.*s\" is no service: a-z and hyphens between them, and neither http nor https",
                         HT_SLICE_ARG(name));
        snprintf(key, sizeof key, "%s%.*s", scope, HT_SLICE_ARG(name));
        if (json_peek(&g->r) != JSON_T_NUMBER || json_read_uint(&g->r, &port) != 0 || port < 1 || port > UINT16_MAX)
            return wrong(g, "a port from 1 to 65535 is wanted here");
        snprintf(value, sizeof value, "%u", (unsigned)port);
        rc = add(g, HAPROXY_MAP_SERVICES, key, value);
    }
    return more < 0 ? bad_json(g, "a service") : rc;
}

/* ["files", ...] below a container, or ids of projects at the top. */
static int read_off(struct reading *g, const char *scope) {
    struct ht_slice s;
    char key[EDGE_KEY];
    int more = 0, rc = json_array_begin(&g->r);
    if (rc < 0)
        return bad_json(g, "an array of what is switched off");
    while (rc == HT_OK && (more = json_array_next(&g->r)) > 0) {
        rc = read_text(g, &s, *scope ? "the name of a service" : "the id of a project");
        if (rc == HT_OK && !(*scope ? edge_is_service(s) : edge_is_id(s)))
            rc = wrong(g, "\"%.*s\" is no %s", HT_SLICE_ARG(s), *scope ? "service" : "id of a project");
        snprintf(key, sizeof key, "%s%.*s", scope, HT_SLICE_ARG(s));
        if (rc == HT_OK)
            rc = add(g, HAPROXY_MAP_OFF, key, "1");
    }
    return more < 0 ? bad_json(g, "a text") : rc;
}

/* The ids stand first, so that the rest can be named by them. */
static int read_container(struct reading *g) {
    static const char *const order = "project and container stand before everything else of a container";
    struct ht_slice key;
    char project[EDGE_ID + 1] = "", container[EDGE_ID + 1] = "", name[2 * EDGE_ID + 2] = "",
                           scope[2 * EDGE_ID + 3] = "";
    char address[IO_ADDR_TEXT] = "";
    bool enabled = true;
    int more = 0, rc = json_object_begin(&g->r);
    if (rc < 0)
        return bad_json(g, "an object with project, container and address");
    while (rc == HT_OK && (more = json_object_next(&g->r, &key)) > 0) {
        bool later = ht_slice_is(key, "services") || ht_slice_is(key, "off");
        if (later && !scope[0])
            return wrong(g, "%s", order);
        if (ht_slice_is(key, "project"))
            rc = read_id(g, project);
        else if (ht_slice_is(key, "container"))
            rc = read_id(g, container);
        else if (ht_slice_is(key, "address"))
            rc = read_address(g, address);
        else if (ht_slice_is(key, "services"))
            rc = read_services(g, scope);
        else if (ht_slice_is(key, "off"))
            rc = read_off(g, scope);
        else if (!ht_slice_is(key, "enabled"))
            rc = wrong(g, "\"%.*s\" is unknown; a container has project, container, address, enabled, services and off",
                       HT_SLICE_ARG(key));
        else if (json_peek(&g->r) != JSON_T_BOOL || json_read_bool(&g->r, &enabled) != 0)
            rc = wrong(g, "true or false is wanted here");
        if (project[0] && container[0]) {
            snprintf(name, sizeof name, "%s-%s", project, container);
            snprintf(scope, sizeof scope, "%s.", name);
        }
    }
    if (more < 0)
        return bad_json(g, "a member of a container");
    if (rc == HT_OK && (!name[0] || !address[0]))
        rc = wrong(g, "a container needs project, container and address");
    if (rc == HT_OK)
        rc = add(g, HAPROXY_MAP_CONTAINERS, name, address);
    return rc == HT_OK && !enabled ? add(g, HAPROXY_MAP_OFF, name, "1") : rc;
}

static int read_containers(struct reading *g) {
    int more = 0, rc = json_array_begin(&g->r);
    if (rc < 0)
        return bad_json(g, "an array of containers");
    while (rc == HT_OK && (more = json_array_next(&g->r)) > 0)
        rc = read_container(g);
    return more < 0 ? bad_json(g, "a container") : rc;
}

static int read_book(struct reading *g) {
    struct ht_slice key;
    int more = 0, rc = json_object_begin(&g->r);
    if (rc < 0)
        return bad_json(g, "an object with containers, services and off");
    while (rc == HT_OK && (more = json_object_next(&g->r, &key)) > 0) {
        if (ht_slice_is(key, "containers"))
            rc = read_containers(g);
        else if (ht_slice_is(key, "services"))
            rc = read_services(g, "");
        else if (ht_slice_is(key, "off"))
            rc = read_off(g, "");
        else
            rc = wrong(g, "\"%.*s\" is unknown; there are containers, services and off", HT_SLICE_ARG(key));
    }
    if (rc == HT_OK && (more < 0 || json_end(&g->r) < 0))
        rc = bad_json(g, "the end of the file");
    return rc;
}

/* What HAProxy has by itself, where the file says nothing else; and nothing twice. */
static int complete(struct reading *g) {
    struct edge_book *b = g->book;
    char value[8];
    int rc = HT_OK;
    for (size_t i = 0; rc == HT_OK && i < HAPROXY_SERVICES; i++) {
        struct row row = {.map = HAPROXY_MAP_SERVICES};
        snprintf(row.key, sizeof row.key, "%s", haproxy_services[i].name);
        snprintf(value, sizeof value, "%u", haproxy_services[i].port);
        bool said = false;
        for (size_t k = 0; !said && k < b->n; k++)
            said = by_key(&row, &b->rows[k]) == 0;
        rc = said ? HT_OK : add(g, HAPROXY_MAP_SERVICES, row.key, value);
    }
    if (rc < 0)
        return rc;
    qsort(b->rows, b->n, sizeof *b->rows, by_key);
    for (size_t i = 1; i < b->n; i++)
        if (by_key(&b->rows[i - 1], &b->rows[i]) == 0 && b->rows[i].map == HAPROXY_MAP_CONTAINERS)
            return ht_fail(g->err, HT_EINVAL, "%s: error: the container %s is there twice", g->file, b->rows[i].key);
    return HT_OK;
}

static int read_file(const char *file, struct ht_buf *out, struct ht_errmsg *err) {
    int fd = open(file, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    ssize_t n = 1;
    if (fd < 0)
        return ht_fail(err, HT_EIO, "%s: %s", file, strerror(errno));
    while (n > 0 && ht_buf_size(out) <= BOOK_MAX) {
        uint8_t *to = ht_buf_reserve(out, 65536);
        n = to ? read(fd, to, 65536) : -1;
        if (n > 0)
            ht_buf_commit(out, (size_t)n);
    }
    int why = errno;
    close(fd);
    if (n < 0)
        return ht_fail(err, HT_EIO, "%s: %s", file, strerror(why));
    return n > 0 ? ht_fail(err, HT_ELIMIT, "%s has more than %u bytes", file, BOOK_MAX) : HT_OK;
}

/* ---- using it ---- */

/* Both are sorted: what is only in the old one goes. */
static int apply(const struct edge_book *old, const struct edge_book *now, struct edge_maps *maps) {
    int rc = HT_OK;
    size_t k = 0;
    for (size_t i = 0; i < old->n; i++) {
        while (k < now->n && by_key(&now->rows[k], &old->rows[i]) < 0)
            k++;
        if (k == now->n || by_key(&now->rows[k], &old->rows[i]) != 0)
            edge_maps_remove(maps, old->rows[i].map, old->rows[i].key);
    }
    for (size_t i = 0; rc == HT_OK && i < now->n; i++)
        rc = edge_maps_set(maps, now->rows[i].map, now->rows[i].key, now->rows[i].value);
    return rc;
}

int edge_book_load(struct edge_book **book, const char *file, struct edge_maps *maps, struct ht_errmsg *err) {
    static const struct json_limits limits = {.max_depth = 8, .max_keys = JSON_MAX_KEYS, .refuse_nul = true};
    static const struct edge_book none = {NULL, 0, 0};
    struct edge_book *now = ht_calloc(1, sizeof *now);
    struct ht_buf text = {0};
    struct reading *g = ht_calloc(1, sizeof *g); /* a reader is large */
    int rc = now && g ? HT_OK : ht_fail(err, HT_ENOMEM, "out of memory");
    if (rc == HT_OK && file)
        rc = read_file(file, &text, err);
    if (rc == HT_OK) {
        *g = (struct reading){.book = now, .file = file, .err = err};
        g->arena = (struct json_arena){.p = ht_malloc(ht_buf_size(&text) + 1), .cap = ht_buf_size(&text)};
        json_begin(&g->r, ht_buf_head(&text), ht_buf_size(&text), &limits);
        rc = !g->arena.p ? ht_fail(err, HT_ENOMEM, "out of memory") : file ? read_book(g) : HT_OK;
        ht_free(g->arena.p);
    }
    if (rc == HT_OK)
        rc = complete(g);
    if (rc == HT_OK) {
        rc = apply(*book ? *book : &none, now, maps);
        edge_book_free(book);
        *book = now;
        now = NULL;
        if (rc < 0)
            ht_fail(err, rc, "out of memory");
    }
    edge_book_free(&now);
    ht_buf_free(&text);
    ht_free(g);
    return rc;
}

const char *edge_book_get(const struct edge_book *b, enum haproxy_map map, const char *key) {
    struct row row = {.map = map};
    snprintf(row.key, sizeof row.key, "%s", key);
    const struct row *found = b && b->n ? bsearch(&row, b->rows, b->n, sizeof row, by_key) : NULL;
    return found ? found->value : NULL;
}

int edge_book_each(const struct edge_book *b, enum haproxy_map map,
                   int (*each)(void *ctx, const char *key, const char *value), void *ctx) {
    int rc = 0;
    for (size_t i = 0; b && rc == 0 && i < b->n; i++)
        if (b->rows[i].map == map)
            rc = each(ctx, b->rows[i].key, b->rows[i].value);
    return rc;
}

void edge_book_free(struct edge_book **bp) {
    struct edge_book *b = *bp;
    *bp = NULL;
    if (!b)
        return;
    ht_free(b->rows);
    ht_free(b);
}
