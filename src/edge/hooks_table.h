/* The hooks of containers: documents become what requests are compared with, and an entry of HAProxy's map. */
#ifndef HT_EDGE_HOOKS_TABLE_H
#define HT_EDGE_HOOKS_TABLE_H

#include "edge/hooks.h"
#include "edge/state.h"

#define EDGE_HOOKS "hooks" /* the part of a container's document: edge/hooks.h */

/* Bytes of an entry of the map, with its NUL: a revision and containers. */
#define EDGE_HOOKS_VALUE (12 + (HOOKS_FORWARDS_MAX + 1) * (EDGE_ID + 1))

struct edge_hooktable;

/* NULL: no memory. `maps` must outlive it. */
struct edge_hooktable *edge_hooktable_create(struct edge_maps *maps) HT_MUST_USE;
/* Clears the pointer. NULL is ignored. */
void edge_hooktable_destroy(struct edge_hooktable **t);
/*
 * The hooks of a container from now on; `id` has 24 of 0-9 and a-f. HT_EINVAL: they are none, and *err says why: nobody
 * may visit then. HT_ENOMEM: the same, but if not even that could be kept, all is as it was.
 */
int edge_hooktable_set(struct edge_hooktable *t, const char *id, struct ht_slice text,
                       struct ht_errmsg *err) HT_MUST_USE;
/* It has none any more. Harmless if it had none. */
void edge_hooktable_remove(struct edge_hooktable *t, const char *id);
/* The hooks of PROJECT-CONTAINER. False: it has none. *out is NULL when they could not be read. Valid until the next
 * change. */
bool edge_hooktable_find(const struct edge_hooktable *t, struct ht_slice container, const struct edge_hooks **out);

/* Reads all documents of `state`, which outlives it, and follows them. A document whose hooks cannot be read lets
 * nobody in, and the log says why. */
void edge_hooktable_follow(struct edge_hooktable *t, struct io_loop *loop, struct edge_state *state);

#endif
