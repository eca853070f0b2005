#include "edge/proxy_settings.h"

#include "base/log.h"
#include "base/mem.h"
#include "edge/cache.h"
#include "edge/pages.h"

#include <inttypes.h>
#include <stdio.h>

#define AGAIN_MS 200 /* until what memory was missing for is tried again */
#define NOTHING "-"  /* in place of a generation */

struct edge_proxy_settings {
    struct edge_proxy_settings_config cfg;
    struct edge_observer observer;
    struct io_timer again;
};

/* ---- answers that are kept ---- */

struct removing {
    struct edge_maps *maps;
    const struct edge_cache *cache;
    const char *id;
};

static const char *key_of(const char *id, const char *service, char out[EDGE_KEY]) {
    snprintf(out, EDGE_KEY, "%s%s%s", id, service ? "." : "", service ? service : "");
    return out;
}

/* Removes an entry of the container that is not wanted any more. */
static int remove_other(void *ctx, const char *key, const char *value) {
    const struct removing *r = ctx;
    (void)value;
    if (strncmp(key, r->id, EDGE_ID) != 0)
        return 0;
    bool wanted = !key[EDGE_ID] && edge_cache_generation(r->cache, NULL);
    for (size_t i = 0; key[EDGE_ID] && i < r->cache->n; i++)
        if (strcmp(key + EDGE_ID + 1, r->cache->services[i].name) == 0)
            wanted = edge_cache_generation(r->cache, &r->cache->services[i]) != UINT64_MAX;
    if (!wanted)
        edge_maps_remove(r->maps, HAPROXY_MAP_CACHES, key);
    return 0;
}

static int set_one(const struct edge_proxy_settings *p, const char *id, const char *service, uint64_t generation) {
    char key[EDGE_KEY], value[24] = NOTHING;
    if (generation)
        snprintf(value, sizeof value, "%" PRIu64, generation);
    return edge_maps_set(p->cfg.maps, HAPROXY_MAP_CACHES, key_of(id, service, key), value);
}

static int apply_cache(const struct edge_proxy_settings *p, const char *id, struct ht_slice json, bool fresh) {
    struct edge_cache c;
    struct ht_errmsg err;
    if (edge_cache_read(&c, json, false, &err) < 0) {
        ht_error("edge", "nothing is kept of container %s: %s", id, err.text);
        c = (struct edge_cache){.n = 0};
    }
    uint64_t all = edge_cache_generation(&c, NULL);
    int rc = all ? set_one(p, id, NULL, all) : HT_OK;
    for (size_t i = 0; rc == HT_OK && i < c.n; i++) {
        uint64_t one = edge_cache_generation(&c, &c.services[i]);
        if (one != UINT64_MAX)
            rc = set_one(p, id, c.services[i].name, one);
    }
    if (rc == HT_OK && !fresh && edge_maps_count(p->cfg.maps, HAPROXY_MAP_CACHES))
        (void)edge_maps_each(p->cfg.maps, HAPROXY_MAP_CACHES, remove_other, &(struct removing){p->cfg.maps, &c, id});
    return rc;
}

/* ---- documents ---- */

/* `fresh`: the maps have nothing of it yet. */
static void apply(struct edge_proxy_settings *p, enum edge_kind kind, const char *id, const struct edge_doc *doc,
                  bool fresh) {
    char owner[64];
    if (kind != EDGE_CONTAINER && kind != EDGE_PROJECT)
        return;
    snprintf(owner, sizeof owner, "%s.%s", edge_kind_names[kind], id);
    int rc = edge_pages_set(p->cfg.maps, owner, edge_doc_part(doc, EDGE_PAGES));
    if (rc == HT_OK && kind == EDGE_CONTAINER)
        rc = apply_cache(p, id, edge_doc_part(doc, EDGE_CACHE), fresh);
    if (rc < 0)
        io_timer_set(&p->again, AGAIN_MS);
    if (!fresh && p->cfg.wanted && edge_maps_count(p->cfg.maps, HAPROXY_MAP_CACHES))
        p->cfg.wanted(p->cfg.ctx);
}

static void changed(struct edge_observer *o, enum edge_kind kind, const char *id, const struct edge_doc *doc) {
    apply(ht_container_of(o, struct edge_proxy_settings, observer), kind, id, doc, false);
}

struct loading {
    struct edge_proxy_settings *p;
    enum edge_kind kind;
    bool fresh;
};

static int load_one(void *ctx, const struct edge_doc *doc) {
    const struct loading *l = ctx;
    if (edge_doc_part(doc, EDGE_PAGES).p || edge_doc_part(doc, EDGE_CACHE).p)
        apply(l->p, l->kind, edge_doc_id(doc), doc, l->fresh);
    return 0;
}

static void load(struct edge_proxy_settings *p, bool fresh) {
    static const enum edge_kind kinds[] = {EDGE_PROJECT, EDGE_CONTAINER};
    for (size_t i = 0; i < HT_ARRAY_LEN(kinds); i++)
        (void)edge_state_each(p->cfg.state, kinds[i], load_one, &(struct loading){p, kinds[i], fresh});
}

static void on_again(struct io_timer *t) { load(ht_container_of(t, struct edge_proxy_settings, again), false); }

/* ---- life ---- */

int edge_proxy_settings_start(struct edge_proxy_settings **out, const struct edge_proxy_settings_config *cfg,
                              struct ht_errmsg *err) {
    struct edge_proxy_settings *p = ht_calloc(1, sizeof *p);
    *out = NULL;
    if (!p)
        return ht_fail(err, HT_ENOMEM, "out of memory");
    p->cfg = *cfg;
    p->observer.changed = changed;
    io_timer_init(cfg->loop, &p->again, on_again);
    int rc = edge_pages_load(cfg->maps, cfg->pages, err);
    if (rc < 0) {
        ht_free(p);
        return rc;
    }
    load(p, true);
    edge_state_watch(cfg->state, &p->observer);
    *out = p;
    return HT_OK;
}

int edge_proxy_settings_again(struct edge_proxy_settings *p, struct ht_errmsg *err) {
    return edge_pages_load(p->cfg.maps, p->cfg.pages, err);
}

void edge_proxy_settings_stop(struct edge_proxy_settings **pp) {
    struct edge_proxy_settings *p = *pp;
    *pp = NULL;
    if (!p)
        return;
    edge_state_unwatch(p->cfg.state, &p->observer);
    io_timer_stop(&p->again);
    ht_free(p);
}
