/* What documents say of answers that are kept (cache.h) and of pages (pages.h), as entries of the maps. No other room
 * includes it. */
#ifndef HT_EDGE_PROXY_SETTINGS_H
#define HT_EDGE_PROXY_SETTINGS_H

#include "edge/edge_priv.h"
#include "edge/state.h"

struct edge_proxy_settings;

/* All of them must outlive it. */
struct edge_proxy_settings_config {
    struct io_loop *loop;
    struct edge_state *state;
    struct edge_maps *maps;
    const char *pages;         /* the folder of the edge's own pages, or NULL */
    void (*wanted)(void *ctx); /* after a change something wants answers kept, as before or for the first time */
    void *ctx;
};

/* Makes the maps as the documents say, and keeps them so. HT_EINVAL, HT_EIO or HT_ENOMEM with *err, and *out is NULL.
 */
int edge_proxy_settings_start(struct edge_proxy_settings **out, const struct edge_proxy_settings_config *cfg,
                              struct ht_errmsg *err) HT_MUST_USE;
/* Reads the folder again. An error with *err: its pages stay as they are. */
int edge_proxy_settings_again(struct edge_proxy_settings *p, struct ht_errmsg *err) HT_MUST_USE;
/* Clears the pointer. NULL is ignored. */
void edge_proxy_settings_stop(struct edge_proxy_settings **p);

#endif
