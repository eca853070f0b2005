/* The permissions of projects and containers, and what HAProxy's maps say of them. A container's take the place of its
 * project's as a whole. */
#ifndef HT_EDGE_POLICIES_H
#define HT_EDGE_POLICIES_H

#include "edge/edge_priv.h"
#include "edge/policy.h"

enum edge_owner { EDGE_OF_PROJECT, EDGE_OF_CONTAINER, EDGE_OWNERS };

struct edge_policies;

/* NULL: no memory. `maps` must outlive it. */
struct edge_policies *edge_policies_create(struct edge_maps *maps) HT_MUST_USE;
void edge_policies_destroy(struct edge_policies **ps);
/*
 * The document of an owner from now on; `id` is its id, 24 of 0-9 and a-f. HT_EINVAL: it is no policy, and *err says
 * why: nobody may visit then. HT_ENOMEM: the same, but if not even that could be kept, all is as it was.
 */
int edge_policies_set(struct edge_policies *ps, enum edge_owner owner, const char *id, struct ht_slice text,
                      struct ht_errmsg *err) HT_MUST_USE;
/* It has none any more. Harmless if it had none. */
void edge_policies_remove(struct edge_policies *ps, enum edge_owner owner, const char *id);
/* What holds for PROJECT-CONTAINER. False: there is none, and everybody may. *out is NULL when there is one that could
 * not be read, and nobody may; edge_policy_keep() it beyond the next change. */
bool edge_policies_find(const struct edge_policies *ps, struct ht_slice container, struct edge_policy **out);
/* The program, of the usual ones and of those that the policy names, whose port this is in a container; "": none. Valid
 * as long as the policy. */
struct ht_slice edge_policies_program_at(const struct edge_policies *ps, const struct edge_policy *p,
                                         struct ht_slice container, unsigned port);
/* Fills in v->also, when v->program is http or https. */
void edge_policies_also(const struct edge_policies *ps, const struct edge_policy *p, struct ht_slice container,
                        struct edge_visit *v);

#endif
