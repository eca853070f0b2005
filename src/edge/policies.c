#include "edge/policies.h"

#include "base/mem.h"
#include "edge/by_id.h"

#include <stdio.h>
#include <stdlib.h>

struct edge_policies {
    struct edge_maps *maps;
    struct edge_by_id tables[EDGE_OWNERS]; /* struct edge_policy; NULL: it could not be read */
};

static const enum haproxy_map map_of[EDGE_OWNERS] = {HAPROXY_MAP_PROJECT_POLICIES, HAPROXY_MAP_CONTAINER_POLICIES};

struct edge_policies *edge_policies_create(struct edge_maps *maps) {
    struct edge_policies *ps = ht_calloc(1, sizeof *ps);
    if (ps)
        ps->maps = maps;
    return ps;
}

static void drop(struct edge_by_id_entry *e) {
    struct edge_policy *p = e->value;
    edge_policy_destroy(&p);
    e->value = NULL;
}

void edge_policies_destroy(struct edge_policies **pp) {
    struct edge_policies *ps = *pp;
    *pp = NULL;
    if (!ps)
        return;
    for (int k = 0; k < EDGE_OWNERS; k++) {
        for (size_t i = 0; i < ps->tables[k].n; i++)
            drop(&ps->tables[k].entries[i]);
        edge_by_id_free(&ps->tables[k]);
    }
    ht_free(ps);
}

int edge_policies_set(struct edge_policies *ps, enum edge_owner owner, const char *id, struct ht_slice text,
                      struct ht_errmsg *err) {
    int rc = HT_EINVAL;
    if (strlen(id) != EDGE_ID)
        return ht_fail(err, rc, "an id has %d of 0-9 and a-f", EDGE_ID);
    struct edge_by_id *t = &ps->tables[owner];
    struct edge_by_id_entry *e = edge_by_id_find(t, id);
    /* Logins hold as long as the policy, which is the same while its text is: other parts of the document may change.
     */
    bool same = e && e->value && edge_policy_is_of(e->value, text);
    struct edge_policy *p = same ? edge_policy_keep(e->value) : edge_policy_create(text, &rc, err);
    e = edge_by_id_take(t, id);
    if (same)
        rc = HT_OK;
    if (!e) {
        edge_policy_destroy(&p);
        return ht_fail(err, HT_ENOMEM, "out of memory");
    }
    drop(e);
    e->value = p;
    char value[32];
    snprintf(value, sizeof value, "%s|%08x", !p || edge_policy_asks(p) ? "ask" : "open", edge_revision(text));
    if (edge_maps_set(ps->maps, map_of[owner], id, value) < 0 && rc == HT_OK)
        rc = ht_fail(err, HT_ENOMEM, "out of memory");
    return rc;
}

void edge_policies_remove(struct edge_policies *ps, enum edge_owner owner, const char *id) {
    struct edge_by_id *t = &ps->tables[owner];
    struct edge_by_id_entry *e = strlen(id) == EDGE_ID ? edge_by_id_find(t, id) : NULL;
    if (!e)
        return;
    drop(e);
    edge_by_id_remove(t, e);
    edge_maps_remove(ps->maps, map_of[owner], id);
}

bool edge_policies_find(const struct edge_policies *ps, struct ht_slice container, struct edge_policy **out) {
    *out = NULL;
    if (container.n != 2 * EDGE_ID + 1)
        return true; /* that is nobody's host */
    const char *ids[EDGE_OWNERS] = {[EDGE_OF_PROJECT] = container.p, [EDGE_OF_CONTAINER] = container.p + EDGE_ID + 1};
    for (int k = EDGE_OF_CONTAINER; k >= EDGE_OF_PROJECT; k--) {
        const struct edge_by_id_entry *e = edge_by_id_find(&ps->tables[k], ids[k]);
        if (e) {
            *out = e->value;
            return true;
        }
    }
    return false;
}

/* The port of a program in a container, as HAProxy finds it: its own, or the usual one. */
static bool is_port_of(const struct edge_policies *ps, struct ht_slice container, struct ht_slice program,
                       unsigned port) {
    char key[2 * EDGE_ID + 64];
    snprintf(key, sizeof key, "%.*s.%.*s", HT_SLICE_ARG(container), HT_SLICE_ARG(program));
    const char *value = edge_maps_get(ps->maps, HAPROXY_MAP_SERVICES, key);
    if (!value)
        value = edge_maps_get(ps->maps, HAPROXY_MAP_SERVICES, key + container.n + 1);
    return value && strtoul(value, NULL, 10) == port;
}

struct ht_slice edge_policies_program_at(const struct edge_policies *ps, const struct edge_policy *p,
                                         struct ht_slice container, unsigned port) {
    struct ht_slice program;
    for (size_t i = 0; (program = edge_policy_program(p, i)).p; i++)
        if (is_port_of(ps, container, program, port))
            return program;
    for (size_t i = 0; i < HAPROXY_SERVICES; i++) {
        program = ht_slice_str(haproxy_services[i].name);
        if (is_port_of(ps, container, program, port))
            return program;
    }
    return ht_slice_of("", 0);
}

void edge_policies_also(const struct edge_policies *ps, const struct edge_policy *p, struct ht_slice container,
                        struct edge_visit *v) {
    if (ht_slice_is(v->program, "http") || ht_slice_is(v->program, "https"))
        v->also = edge_policies_program_at(ps, p, container, v->index);
}
