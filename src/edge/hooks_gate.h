/* Hooks as a part of what the gate's agent answers. */
#ifndef HT_EDGE_HOOKS_GATE_H
#define HT_EDGE_HOOKS_GATE_H

#include "edge/hooks_table.h"
#include "edge/policies.h"
#include "edge/spop.h"

/* What hooks do to a request, if the gate lets it in. All zero: nothing. */
struct edge_hooking {
    bool broken; /* the container's hooks cannot be read: nobody may visit */
    struct edge_hooked did;
    /* Where a hook forwards to, the gate of that service says as well who may. */
    bool to_gated;
    struct edge_policy *to_policy; /* NULL: it cannot be read */
    struct edge_decision to;
    char to_scope[EDGE_SCOPE], to_program[EDGE_SERVICE];
};

/* `strip` is what the gate of the visited service takes out, by `policy`, which is NULL where there is none; what the
 * gate of a service that a hook forwards to takes out comes to it. What comes of it all outlives the arguments. 0 or
 * HT_ENOMEM; the caller frees *h, which was zero and must stay where it is, in each case. */
int edge_hooking_run(struct edge_hooking *h, const struct edge_hooktable *hooks, const struct edge_policies *policies,
                     struct ht_slice container, struct ht_slice method, const struct edge_visit *v,
                     struct edge_strip *strip, const struct edge_policy *policy, uint64_t now_s) HT_MUST_USE;
void edge_hooking_free(struct edge_hooking *h);
/* Appends the variables of the answer for who may pass. */
#define EDGE_HOOKING_SETS (8 + 3 * HOOKS_LIMITS)
size_t edge_hooking_sets(const struct edge_hooking *h, struct spop_set *sets);

#endif
