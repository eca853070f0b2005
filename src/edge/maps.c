/* HAProxy's maps: what is wanted is in memory and in files, and HAProxy is made to have the same. */
#include "edge/edge_priv.h"

#include "base/log.h"
#include "base/mem.h"
#include "log_gen.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#define AGAIN_MS 200 /* until HAProxy is asked again that was not reached */
#define WATCH_MS 1000

struct entry {
    struct entry *next; /* in its bucket */
    struct ht_list changed;
    char *value;   /* NULL: it is to be removed */
    uint64_t line; /* where it is in the file */
    uint64_t ref;  /* HAProxy's name for it, in the process that was compared last; 0: not known */
    bool applied;  /* HAProxy has a value for the key, this one or an older one */
    bool seen;     /* while they are compared */
    bool unfiled;  /* the file has another value */
    char key[];
};

struct table {
    struct entry **buckets;
    size_t n_buckets, n, n_wanted;
    struct ht_list changed; /* struct entry: those that HAProxy is to be told of */
    struct edge_mapfile file;
    bool file_stale;        /* it is to be written anew */
    struct entry **unfiled; /* those that the file is to follow in */
    size_t n_unfiled, cap_unfiled;
};

/* Whether HAProxy can be told of changes. */
enum maps_state {
    MAPS_HELD,    /* it starts, or loads anew */
    MAPS_UNSURE,  /* it is asked what it has */
    MAPS_FOLLOWS, /* it has what was wanted when it was told last */
};

struct edge_maps {
    struct io_loop *loop;
    const char *folder;
    struct edge_admin *admin;
    enum maps_state state;
    uint64_t pid;
    unsigned generation; /* answers to what was asked before edge_maps_hold() are of the past */
    unsigned map;        /* that is compared now */
    struct io_task flush;
    struct io_timer again, watch;
    bool asked;            /* an answer is awaited */
    struct ht_buf doubles; /* commands that take away what HAProxy has twice */
    bool more_doubles;     /* than have room there: it is compared again */
    bool unsettled;        /* its watcher has not been told since something has changed */
    const struct edge_maps_ops *ops;
    void *ctx;
    void (*before)(void *ctx);
    void *before_ctx;
    struct table tables[HAPROXY_MAPS];
};

/* What an answer is to. */
struct question {
    struct edge_maps *m;
    unsigned generation;
};

/* ---- entries ---- */

static uint64_t hash_of(const char *key, size_t n) {
    uint64_t h = HT_HASH;
    for (size_t i = 0; i < n; i++)
        h = ht_hash_char(h, key[i]);
    return h;
}

static struct entry **place_of(const struct table *t, struct ht_slice key) {
    struct entry **at = &t->buckets[hash_of(key.p, key.n) & (t->n_buckets - 1)];
    while (*at && !ht_slice_is(key, (*at)->key))
        at = &(*at)->next;
    return at;
}

static struct entry *find(const struct table *t, struct ht_slice key) {
    return t->n_buckets ? *place_of(t, key) : NULL;
}

static bool grow(struct table *t) {
    size_t n = t->n_buckets ? t->n_buckets * 2 : 64;
    struct entry **buckets = ht_calloc(n, sizeof *buckets);
    if (!buckets)
        return false;
    for (size_t i = 0; i < t->n_buckets; i++)
        for (struct entry *e = t->buckets[i], *next; e; e = next) {
            struct entry **to = &buckets[hash_of(e->key, strlen(e->key)) & (n - 1)];
            next = e->next;
            e->next = *to;
            *to = e;
        }
    ht_free(t->buckets);
    t->buckets = buckets;
    t->n_buckets = n;
    return true;
}

static struct entry *add(struct table *t, struct ht_slice key) {
    if (t->n >= t->n_buckets && !grow(t))
        return NULL;
    struct entry *e = ht_calloc(1, sizeof *e + key.n + 1);
    if (!e)
        return NULL;
    memcpy(e->key, key.p, key.n);
    ht_list_init(&e->changed);
    e->line = EDGE_NO_LINE;
    struct entry **at = &t->buckets[hash_of(key.p, key.n) & (t->n_buckets - 1)];
    e->next = *at;
    *at = e;
    t->n++;
    return e;
}

static void forget(struct table *t, struct entry *e) {
    *place_of(t, ht_slice_str(e->key)) = e->next;
    ht_list_remove(&e->changed);
    ht_free(e->value);
    ht_free(e);
    t->n--;
}

/* HAProxy is to be told of it. */
static void changed(struct edge_maps *m, struct table *t, struct entry *e) {
    if (!ht_list_linked(&e->changed))
        ht_list_push_back(&t->changed, &e->changed);
    m->unsettled = true;
    io_task_add(m->loop, &m->flush);
}

/* So is the file; without memory for it, by a new file. */
static void unfile(struct table *t, struct entry *e) {
    if (e->unfiled || t->file_stale)
        return;
    if (t->n_unfiled == t->cap_unfiled) {
        size_t cap = t->cap_unfiled ? t->cap_unfiled * 2 : 16;
        struct entry **more = ht_realloc(t->unfiled, cap * sizeof(struct entry *));
        t->file_stale = !more;
        if (!more)
            return;
        t->unfiled = more;
        t->cap_unfiled = cap;
    }
    t->unfiled[t->n_unfiled++] = e;
    e->unfiled = true;
}

static void tell_watcher(const struct edge_maps *m, enum haproxy_map map, const char *key, const char *was,
                         const char *now) {
    if (m->ops && m->ops->changed)
        m->ops->changed(m->ctx, map, key, was, now);
}

int edge_maps_set(struct edge_maps *m, enum haproxy_map map, const char *key, const char *value) {
    struct table *t = &m->tables[map];
    struct entry *e = find(t, ht_slice_str(key));
    if (e && e->value && strcmp(e->value, value) == 0)
        return HT_OK;
    char *copy = ht_strndup(value, strlen(value));
    if (!copy || (!e && !(e = add(t, ht_slice_str(key))))) {
        ht_free(copy);
        return HT_ENOMEM;
    }
    t->n_wanted += e->value == NULL;
    tell_watcher(m, map, e->key, e->value, copy);
    ht_free(e->value);
    e->value = copy;
    unfile(t, e);
    changed(m, t, e);
    return HT_OK;
}

void edge_maps_remove(struct edge_maps *m, enum haproxy_map map, const char *key) {
    struct table *t = &m->tables[map];
    struct entry *e = find(t, ht_slice_str(key));
    if (!e || !e->value)
        return;
    tell_watcher(m, map, e->key, e->value, NULL);
    ht_free(e->value);
    e->value = NULL;
    t->n_wanted--;
    unfile(t, e);
    changed(m, t, e);
}

const char *edge_maps_get(const struct edge_maps *m, enum haproxy_map map, const char *key) {
    const struct entry *e = find(&m->tables[map], ht_slice_str(key));
    return e ? e->value : NULL;
}

size_t edge_maps_count(const struct edge_maps *m, enum haproxy_map map) { return m->tables[map].n_wanted; }

/* ---- files ---- */

static char *name_of(enum haproxy_map map, char out[64]) {
    snprintf(out, 64, "haproxy/maps/%s.map", haproxy_maps[map].name);
    return out;
}

static int put_line(struct ht_buf *text, const char *key, const char *value) {
    int rc = ht_buf_append_str(text, key);
    if (rc == HT_OK)
        rc = ht_buf_append(text, " ", 1);
    if (rc == HT_OK)
        rc = ht_buf_append_str(text, value);
    return rc == HT_OK ? ht_buf_append(text, "\n", 1) : rc;
}

static int write_whole(struct edge_maps *m, enum haproxy_map map, struct ht_errmsg *err) {
    struct table *t = &m->tables[map];
    struct ht_buf text = {0};
    char name[64];
    int rc = HT_OK;
    t->file_stale = true;
    for (size_t i = 0; i < t->n_buckets; i++)
        for (struct entry *e = t->buckets[i]; rc == HT_OK && e; e = e->next) {
            e->line = e->value ? ht_buf_size(&text) : EDGE_NO_LINE;
            e->unfiled = false;
            if (e->value)
                rc = put_line(&text, e->key, e->value);
        }
    t->n_unfiled = 0;
    if (rc < 0)
        ht_fail(err, rc, "%s", ht_err_text(rc));
    else
        rc = edge_mapfile_begin(&t->file, m->folder, name_of(map, name), ht_buf_slice(&text), t->n_wanted, err);
    ht_buf_free(&text);
    t->file_stale = rc != HT_OK;
    return rc;
}

/* Changes the lines of what has changed. False: the file must be written anew. */
static bool follow(struct table *t) {
    bool ok = true;
    for (size_t i = 0; ok && i < t->n_unfiled; i++) {
        struct entry *e = t->unfiled[i];
        ok = e->value ? edge_mapfile_put(&t->file, e->key, e->value, &e->line) : edge_mapfile_drop(&t->file, &e->line);
        e->unfiled = !ok;
    }
    if (ok)
        t->n_unfiled = 0;
    return ok;
}

int edge_maps_write(struct edge_maps *m, struct ht_errmsg *err) {
    int rc = HT_OK;
    if (m->before)
        m->before(m->before_ctx);
    for (int map = 0; rc == HT_OK && map < HAPROXY_MAPS; map++) {
        struct table *t = &m->tables[map];
        if (t->file_stale || (t->n_unfiled && (edge_mapfile_full(&t->file) || !follow(t))))
            rc = write_whole(m, map, err);
    }
    return rc;
}

/* ---- what HAProxy is told ---- */

static void unsure(struct edge_maps *m, uint64_t after_ms) {
    m->state = MAPS_UNSURE;
    m->pid = 0;
    m->map = 0;
    io_timer_set(&m->again, after_ms);
}

static bool is_blank(struct ht_slice text) {
    for (size_t i = 0; i < text.n; i++)
        if (text.p[i] != '\n' && text.p[i] != ' ')
            return false;
    return true;
}

/* Takes the answer to a question. NULL: it is of the past, or there is none, and HAProxy is asked again. */
static struct edge_maps *answered(struct question *q, int rc) {
    struct edge_maps *m = q->m;
    bool current = q->generation == m->generation;
    ht_free(q);
    if (!current)
        return NULL;
    m->asked = false;
    if (rc == HT_OK)
        return m;
    ht_debug("edge", "HAProxy's socket: %s", ht_err_text(rc));
    unsure(m, AGAIN_MS);
    return NULL;
}

static void ask_haproxy(struct edge_maps *m, struct ht_slice commands, edge_admin_done *done) {
    struct question *q = ht_calloc(1, sizeof *q);
    if (q)
        *q = (struct question){m, m->generation};
    if (!q || edge_admin_send(m->admin, commands, done, q) < 0) {
        ht_free(q);
        unsure(m, AGAIN_MS);
        return;
    }
    m->asked = true;
}

static void on_told(void *ctx, int rc, const struct edge_answer *a) {
    struct edge_maps *m = answered(ctx, rc);
    if (!m)
        return;
    if (a->pid != m->pid || !is_blank(a->text)) {
        if (a->pid == m->pid)
            ht_warn("edge", "HAProxy did not take a change of its maps; they are compared");
        unsure(m, 0);
    } else if (m->more_doubles) {
        unsure(m, 0);
    }
    io_task_add(m->loop, &m->flush);
}

/*
 * HAProxy looks through all of a map for a key whose value is set: 2 ms for 50,000. To add an entry takes no time, and
 * little to remove one by its name. Until the old one is gone, it is the one that is found. A name is good for one
 * process: in another one that has loaded anew unasked, nothing has the name, which is noticed, or by a rare chance
 * another entry has it, and is missing until the maps are compared a moment later. So this is for maps alone where what
 * is missing leads nowhere.
 */
static bool goes_by_name(enum haproxy_map map) {
    return map == HAPROXY_MAP_BINDINGS || map == HAPROXY_MAP_CONTAINERS || map == HAPROXY_MAP_SERVICES ||
           map == HAPROXY_MAP_HOSTS;
}

/* Appends the command for an entry, and takes it as carried out. */
static int put_command(struct ht_buf *b, const struct edge_maps *m, enum haproxy_map map, struct entry *e) {
    char name[64], path[EDGE_PATH];
    edge_path(m->folder, name_of(map, name), path);
    const char *sep = ht_buf_size(b) ? ";" : "";
    uint64_t ref = e->ref;
    e->ref = 0;
    if (!e->value)
        return e->applied ? ht_buf_printf(b, "%sdel map %s %s", sep, path, e->key) : HT_OK;
    if (e->applied && ref && goes_by_name(map)) {
        return ht_buf_printf(b, "%sadd map %s %s %s;del map %s #0x%" PRIx64, sep, path, e->key, e->value, path, ref);
    }
    e->ref = e->applied ? ref : 0;
    return ht_buf_printf(b, "%s%s map %s %s %s", sep, e->applied ? "set" : "add", path, e->key, e->value);
}

/* Bytes of the command for an entry at most. */
static size_t command_size(const struct entry *e) {
    return 2 * EDGE_PATH + strlen(e->key) + (e->value ? strlen(e->value) : 0) + 64;
}

static void tell(struct edge_maps *m) {
    struct ht_buf b = m->doubles;
    int rc = HT_OK;
    m->doubles = (struct ht_buf){0};
    for (int map = 0; map < HAPROXY_MAPS; map++) {
        struct table *t = &m->tables[map];
        while (rc == HT_OK && !ht_list_empty(&t->changed)) {
            struct entry *e = HT_LIST_ENTRY(t->changed.next, struct entry, changed);
            if (ht_buf_size(&b) && ht_buf_size(&b) + command_size(e) > EDGE_ADMIN_LINE)
                break;
            rc = put_command(&b, m, map, e);
            if (rc < 0)
                break;
            ht_list_remove(&e->changed);
            e->applied = e->value != NULL;
            if (!e->value && !e->unfiled)
                forget(t, e);
        }
    }
    if (rc < 0)
        unsure(m, AGAIN_MS);
    else if (ht_buf_size(&b))
        ask_haproxy(m, ht_buf_slice(&b), on_told);
    ht_buf_free(&b);
}

static void on_flush(struct io_task *task) {
    struct edge_maps *m = ht_container_of(task, struct edge_maps, flush);
    struct ht_errmsg err;
    if (edge_maps_write(m, &err) < 0) {
        ht_error("edge", "%s; trying again", err.text);
        io_timer_set(&m->again, AGAIN_MS);
        return;
    }
    if (m->state == MAPS_FOLLOWS && !m->asked)
        tell(m);
    if (m->state == MAPS_FOLLOWS && !m->asked && m->unsettled) {
        m->unsettled = false;
        if (m->ops)
            m->ops->settled(m->ctx);
    }
}

/* ---- comparing ---- */

/* A line of `show map`: "0x55d0... key value". */
static bool take_line(struct ht_slice *text, struct ht_slice *ref, struct ht_slice *key, struct ht_slice *value) {
    while (text->n) {
        const char *end = memchr(text->p, '\n', text->n);
        size_t n = end ? (size_t)(end - text->p) : text->n;
        struct ht_slice line = ht_slice_of(text->p, n);
        *text = ht_slice_of(text->p + n + (end ? 1 : 0), text->n - n - (end ? 1 : 0));
        const char *a = memchr(line.p, ' ', line.n);
        const char *b = a ? memchr(a + 1, ' ', line.n - (size_t)(a + 1 - line.p)) : NULL;
        if (!b || line.p[0] != '0')
            continue;
        *ref = ht_slice_of(line.p, (size_t)(a - line.p));
        *key = ht_slice_of(a + 1, (size_t)(b - a - 1));
        *value = ht_slice_of(b + 1, line.n - (size_t)(b + 1 - line.p));
        return true;
    }
    return false;
}

/* A key of ours that it has once more: `add map` came to a process that had read it from the file already. The name of
 * an entry is good for this process alone; if another one takes the command, it is compared again. */
static int take_away(struct edge_maps *m, struct ht_slice ref) {
    char name[64], path[EDGE_PATH];
    m->more_doubles = ht_buf_size(&m->doubles) > EDGE_ADMIN_LINE / 2;
    return m->more_doubles ? HT_OK
                           : ht_buf_printf(&m->doubles, "%sdel map %s #%.*s", ht_buf_size(&m->doubles) ? ";" : "",
                                           edge_path(m->folder, name_of(m->map, name), path), HT_SLICE_ARG(ref));
}

/* One entry that HAProxy has. `set` and `del` are for all of a key. */
static int compare_one(struct edge_maps *m, struct table *t, struct ht_slice ref, struct ht_slice key,
                       struct ht_slice value) {
    struct entry *e = find(t, key);
    if (!e && !(e = add(t, key)))
        return HT_ENOMEM;
    bool twice = e->seen && e->value;
    e->seen = e->applied = true;
    e->ref = twice ? 0 : strtoull(ref.p, NULL, 16); /* a blank is behind it */
    if (!e->value || !ht_slice_is(value, e->value))
        changed(m, t, e);
    return twice ? take_away(m, ref) : HT_OK;
}

static int compare(struct edge_maps *m, struct table *t, struct ht_slice text) {
    struct ht_slice ref, key, value;
    int rc = HT_OK;
    if (t == m->tables) {
        ht_buf_free(&m->doubles);
        m->more_doubles = false;
    }
    for (size_t i = 0; i < t->n_buckets; i++)
        for (struct entry *e = t->buckets[i]; e; e = e->next) {
            e->seen = e->applied = false;
            e->ref = 0;
            ht_list_remove(&e->changed);
        }
    while (rc == HT_OK && take_line(&text, &ref, &key, &value))
        rc = compare_one(m, t, ref, key, value);
    for (size_t i = 0; i < t->n_buckets; i++)
        for (struct entry *e = t->buckets[i], *next; e; e = next) {
            next = e->next;
            if (!e->seen && e->value)
                changed(m, t, e);
            else if (!e->seen && !e->unfiled)
                forget(t, e);
        }
    return rc;
}

static void ask_next(struct edge_maps *m);

static void on_shown(void *ctx, int rc, const struct edge_answer *a) {
    struct edge_maps *m = answered(ctx, rc);
    if (!m)
        return;
    if (m->map > 0 && a->pid != m->pid) { /* it has loaded anew in between: from the start */
        unsure(m, 0);
        return;
    }
    m->pid = a->pid;
    if (compare(m, &m->tables[m->map], a->text) < 0) {
        unsure(m, AGAIN_MS);
        return;
    }
    m->map++;
    ask_next(m);
}

static void ask_next(struct edge_maps *m) {
    char name[64], path[EDGE_PATH], line[EDGE_PATH + 16];
    if (m->map == HAPROXY_MAPS) {
        m->state = MAPS_FOLLOWS;
        io_timer_set(&m->watch, WATCH_MS);
        io_task_add(m->loop, &m->flush);
        return;
    }
    snprintf(line, sizeof line, "show map %s", edge_path(m->folder, name_of(m->map, name), path));
    ask_haproxy(m, ht_slice_str(line), on_shown);
}

static void on_again(struct io_timer *t) {
    struct edge_maps *m = ht_container_of(t, struct edge_maps, again);
    io_task_add(m->loop, &m->flush);
    if (m->state == MAPS_UNSURE && !m->asked)
        ask_next(m);
}

/* Somebody else may have had it load its configuration anew: then another process answers. */
static void on_watch(struct io_timer *t) {
    struct edge_maps *m = ht_container_of(t, struct edge_maps, watch);
    io_timer_set(&m->watch, WATCH_MS);
    if (m->state == MAPS_FOLLOWS && !m->asked)
        ask_haproxy(m, ht_slice_of("", 0), on_told);
}

void edge_maps_hold(struct edge_maps *m) {
    m->state = MAPS_HELD;
    m->pid = 0;
    m->generation++;
    m->asked = false;
    io_timer_stop(&m->again);
    io_timer_stop(&m->watch);
}

void edge_maps_compare(struct edge_maps *m) {
    edge_maps_hold(m);
    unsure(m, 0);
}

int edge_maps_each(const struct edge_maps *m, enum haproxy_map map,
                   int (*each)(void *ctx, const char *key, const char *value), void *ctx) {
    const struct table *t = &m->tables[map];
    int rc = 0;
    for (size_t i = 0; rc == 0 && i < t->n_buckets; i++)
        for (const struct entry *e = t->buckets[i]; rc == 0 && e; e = e->next)
            if (e->value)
                rc = each(ctx, e->key, e->value);
    return rc;
}

void edge_maps_watch(struct edge_maps *m, const struct edge_maps_ops *ops, void *ctx) {
    m->ops = ops;
    m->ctx = ctx;
}

void edge_maps_behind(struct edge_maps *m, void (*before)(void *ctx), void *ctx) {
    m->before = before;
    m->before_ctx = ctx;
}

uint64_t edge_maps_pid(const struct edge_maps *m) { return m->state == MAPS_FOLLOWS ? m->pid : 0; }

/* ---- beginning and end ---- */

struct edge_maps *edge_maps_create(struct io_loop *loop, const char *folder, struct edge_admin *admin) {
    struct edge_maps *m = ht_calloc(1, sizeof *m);
    if (!m)
        return NULL;
    m->loop = loop;
    m->folder = folder;
    m->admin = admin;
    io_task_init(&m->flush, on_flush);
    io_timer_init(loop, &m->again, on_again);
    io_timer_init(loop, &m->watch, on_watch);
    for (int i = 0; i < HAPROXY_MAPS; i++) {
        ht_list_init(&m->tables[i].changed);
        m->tables[i].file.fd = -1;
        m->tables[i].file_stale = true; /* HAProxy does not start without its files */
    }
    return m;
}

void edge_maps_destroy(struct edge_maps **mp) {
    struct edge_maps *m = *mp;
    *mp = NULL;
    if (!m)
        return;
    io_task_cancel(&m->flush);
    io_timer_stop(&m->again);
    io_timer_stop(&m->watch);
    for (int i = 0; i < HAPROXY_MAPS; i++) {
        struct table *t = &m->tables[i];
        for (size_t b = 0; b < t->n_buckets; b++)
            for (struct entry *e = t->buckets[b], *next; e; e = next) {
                next = e->next;
                ht_free(e->value);
                ht_free(e);
            }
        ht_free(t->buckets);
        ht_free(t->unfiled);
        edge_mapfile_close(&t->file);
    }
    ht_buf_free(&m->doubles);
    ht_free(m);
}
