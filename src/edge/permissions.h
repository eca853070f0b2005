/* The permissions that documents have, and the agent that HAProxy asks about them. */
#ifndef HT_EDGE_PERMISSIONS_H
#define HT_EDGE_PERMISSIONS_H

#include "edge/edge_priv.h"
#include "edge/state.h"

#define EDGE_PERMISSIONS "permissions" /* the part of a project's or container's document: edge/policy.h */

struct edge_permissions;

/*
 * Reads the documents' permissions into maps, follows them from now on, and listens for HAProxy. A document whose
 * permissions cannot be read lets nobody in, and the log says why. All of them must outlive it. HT_EIO or HT_ENOMEM
 * with *err, and *out is NULL.
 */
int edge_permissions_start(struct edge_permissions **out, struct io_loop *loop, const char *folder,
                           struct edge_state *state, struct edge_maps *maps, struct ht_errmsg *err) HT_MUST_USE;
/* Clears the pointer. NULL is ignored. */
void edge_permissions_stop(struct edge_permissions **p);

#endif
