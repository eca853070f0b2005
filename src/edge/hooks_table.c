#include "edge/hooks_table.h"

#include "base/log.h"
#include "base/mem.h"
#include "edge/by_id.h"

#include <stdio.h>

#define AGAIN_MS 200 /* until what memory was missing for is tried again */
#define NO_FORWARDS "-"

struct edge_hooktable {
    struct edge_maps *maps;
    struct edge_by_id hooks;  /* struct edge_hooks; NULL: they could not be read */
    struct edge_state *state; /* NULL: it follows none */
    struct edge_observer observer;
    struct io_timer again;
};

struct edge_hooktable *edge_hooktable_create(struct edge_maps *maps) {
    struct edge_hooktable *t = ht_calloc(1, sizeof *t);
    if (t)
        t->maps = maps;
    return t;
}

static void drop(struct edge_by_id_entry *e) {
    struct edge_hooks *h = e->value;
    edge_hooks_destroy(&h);
    e->value = NULL;
}

void edge_hooktable_destroy(struct edge_hooktable **tp) {
    struct edge_hooktable *t = *tp;
    *tp = NULL;
    if (!t)
        return;
    if (t->state) {
        edge_state_unwatch(t->state, &t->observer);
        io_timer_stop(&t->again);
    }
    for (size_t i = 0; i < t->hooks.n; i++)
        drop(&t->hooks.entries[i]);
    edge_by_id_free(&t->hooks);
    ht_free(t);
}

/* The map's value: a revision, and where hooks forward to. */
static char *value_of(const struct edge_hooks *h, const char *id, struct ht_slice text, char out[EDGE_HOOKS_VALUE]) {
    const char *to;
    size_t n = (size_t)snprintf(out, EDGE_HOOKS_VALUE, "%08x|%s", edge_revision(text),
                                h && edge_hooks_forward_within(h) ? id : "");
    for (size_t i = 0; h && (to = edge_hooks_forward(h, i)); i++)
        n += (size_t)snprintf(out + n, EDGE_HOOKS_VALUE - n, "%s%s", out[n - 1] == '|' ? "" : ",", to);
    if (out[n - 1] == '|')
        snprintf(out + n, EDGE_HOOKS_VALUE - n, NO_FORWARDS);
    return out;
}

int edge_hooktable_set(struct edge_hooktable *t, const char *id, struct ht_slice text, struct ht_errmsg *err) {
    char value[EDGE_HOOKS_VALUE];
    int rc = HT_EINVAL;
    if (strlen(id) != EDGE_ID)
        return ht_fail(err, rc, "an id has %d of 0-9 and a-f", EDGE_ID);
    struct edge_hooks *h = edge_hooks_create(text, &rc, err);
    struct edge_by_id_entry *e = edge_by_id_take(&t->hooks, id);
    if (!e) {
        edge_hooks_destroy(&h);
        return ht_fail(err, HT_ENOMEM, "out of memory");
    }
    drop(e);
    e->value = h;
    if (edge_maps_set(t->maps, HAPROXY_MAP_CONTAINER_HOOKS, id, value_of(h, id, text, value)) < 0 && rc == HT_OK)
        rc = ht_fail(err, HT_ENOMEM, "out of memory");
    return rc;
}

void edge_hooktable_remove(struct edge_hooktable *t, const char *id) {
    struct edge_by_id_entry *e = strlen(id) == EDGE_ID ? edge_by_id_find(&t->hooks, id) : NULL;
    if (!e)
        return;
    drop(e);
    edge_by_id_remove(&t->hooks, e);
    edge_maps_remove(t->maps, HAPROXY_MAP_CONTAINER_HOOKS, id);
}

bool edge_hooktable_find(const struct edge_hooktable *t, struct ht_slice container, const struct edge_hooks **out) {
    *out = NULL;
    if (container.n != EDGE_SCOPE - 1)
        return false; /* that is nobody's host */
    const struct edge_by_id_entry *e = edge_by_id_find(&t->hooks, container.p + EDGE_ID + 1);
    if (e)
        *out = e->value;
    return e != NULL;
}

/* ---- documents ---- */

static void apply(struct edge_hooktable *t, const char *id, const struct edge_doc *doc) {
    struct ht_slice text = edge_doc_part(doc, EDGE_HOOKS);
    struct ht_errmsg err;
    if (!text.p) {
        edge_hooktable_remove(t, id);
        return;
    }
    int rc = edge_hooktable_set(t, id, text, &err);
    if (rc == HT_EINVAL)
        ht_error("edge", "the hooks of %s %s let nobody in: %s", edge_kind_names[EDGE_CONTAINER], id, err.text);
    else if (rc < 0)
        io_timer_set(&t->again, AGAIN_MS);
}

static void changed(struct edge_observer *o, enum edge_kind kind, const char *id, const struct edge_doc *doc) {
    if (kind == EDGE_CONTAINER)
        apply(ht_container_of(o, struct edge_hooktable, observer), id, doc);
}

static int load_one(void *ctx, const struct edge_doc *doc) {
    apply(ctx, edge_doc_id(doc), doc);
    return 0;
}

static void on_again(struct io_timer *timer) {
    struct edge_hooktable *t = ht_container_of(timer, struct edge_hooktable, again);
    (void)edge_state_each(t->state, EDGE_CONTAINER, load_one, t);
}

void edge_hooktable_follow(struct edge_hooktable *t, struct io_loop *loop, struct edge_state *state) {
    t->state = state;
    t->observer.changed = changed;
    io_timer_init(loop, &t->again, on_again);
    (void)edge_state_each(state, EDGE_CONTAINER, load_one, t);
    edge_state_watch(state, &t->observer);
}
