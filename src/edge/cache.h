/* What a container says of answers that are kept: the part `cache` of its document. No other room includes it. */
#ifndef HT_EDGE_CACHE_H
#define HT_EDGE_CACHE_H

#include "edge/edge_priv.h"

#define EDGE_CACHE "cache"
#define EDGE_CACHE_SERVICES 64 /* most services that something is said of */

struct edge_cache_service {
    char name[EDGE_SERVICE];
    enum { EDGE_CACHE_AS_ALL, EDGE_CACHE_ON, EDGE_CACHE_OFF } kept; /* AS_ALL: as `enabled` says */
    uint64_t generation;                                            /* 0: it was never purged by itself */
};

struct edge_cache {
    bool enabled;        /* for all services that nothing else is said of */
    uint64_t generation; /* 0: it was never enabled */
    size_t n;
    struct edge_cache_service services[EDGE_CACHE_SERVICES];
};

/*
 * Reads the part of a document, or with `wish` what a user may say of it, which has no generations; .p NULL: nothing is
 * said, and nothing is kept. 0, or HT_EINVAL with *err.
 */
int edge_cache_read(struct edge_cache *out, struct ht_slice json, bool wish, struct ht_errmsg *err) HT_MUST_USE;
/* Appends it as JSON, the same way. HT_ENOMEM. */
int edge_cache_write(const struct edge_cache *c, bool wish, struct ht_buf *out) HT_MUST_USE;
/* Whether two say the same, whatever their generations. */
bool edge_cache_same(const struct edge_cache *a, const struct edge_cache *b);
/*
 * What was kept is not used any more: of a service, or with NULL of all. now_ms is the wall clock: a generation never
 * comes twice, not even where the document was away in between. HT_ELIMIT: something is said of too many services.
 */
int edge_cache_purge(struct edge_cache *c, const char *service, uint64_t now_ms) HT_MUST_USE;
/* The value for a service in the map, or with NULL that of all: 0: nothing is kept; UINT64_MAX: as of all. */
uint64_t edge_cache_generation(const struct edge_cache *c, const struct edge_cache_service *s);

#endif
