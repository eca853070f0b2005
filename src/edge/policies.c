#include "edge/policies.h"

#include "base/mem.h"

#include <stdio.h>
#include <stdlib.h>

#define ID 24

struct entry {
    char id[ID + 1];
    struct edge_policy *policy; /* NULL: it could not be read */
};

struct edge_policies {
    struct edge_maps *maps;
    struct table {
        struct entry *entries; /* sorted by id */
        size_t n, cap;
    } tables[EDGE_OWNERS];
};

static const enum haproxy_map map_of[EDGE_OWNERS] = {HAPROXY_MAP_PROJECT_POLICIES, HAPROXY_MAP_CONTAINER_POLICIES};

/* Where the id is, or belongs. */
static size_t place_of(const struct table *t, const char *id) {
    size_t low = 0, high = t->n;
    while (low < high) {
        size_t middle = (low + high) / 2;
        if (memcmp(t->entries[middle].id, id, ID) < 0)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

static bool is_at(const struct table *t, size_t i, const char *id) {
    return i < t->n && memcmp(t->entries[i].id, id, ID) == 0;
}

static struct entry *entry_for(struct table *t, const char *id) {
    size_t i = place_of(t, id);
    if (is_at(t, i, id))
        return &t->entries[i];
    if (t->n == t->cap) {
        size_t cap = t->cap ? t->cap * 2 : 16;
        struct entry *more = ht_realloc(t->entries, cap * sizeof *more);
        if (!more)
            return NULL;
        t->entries = more;
        t->cap = cap;
    }
    memmove(&t->entries[i + 1], &t->entries[i], (t->n - i) * sizeof *t->entries);
    t->n++;
    t->entries[i] = (struct entry){.policy = NULL};
    memcpy(t->entries[i].id, id, ID);
    return &t->entries[i];
}

struct edge_policies *edge_policies_create(struct edge_maps *maps) {
    struct edge_policies *ps = ht_calloc(1, sizeof *ps);
    if (ps)
        ps->maps = maps;
    return ps;
}

void edge_policies_destroy(struct edge_policies **pp) {
    struct edge_policies *ps = *pp;
    *pp = NULL;
    if (!ps)
        return;
    for (int k = 0; k < EDGE_OWNERS; k++) {
        for (size_t i = 0; i < ps->tables[k].n; i++)
            edge_policy_destroy(&ps->tables[k].entries[i].policy);
        ht_free(ps->tables[k].entries);
    }
    ht_free(ps);
}

int edge_policies_set(struct edge_policies *ps, enum edge_owner owner, const char *id, struct ht_slice text,
                      struct ht_errmsg *err) {
    int rc = HT_EINVAL;
    if (strlen(id) != ID)
        return ht_fail(err, rc, "an id has %d of 0-9 and a-f", ID);
    struct table *t = &ps->tables[owner];
    size_t at = place_of(t, id);
    /* Logins hold as long as the policy, which is the same while its text is: other parts of the document may change.
     */
    bool same = is_at(t, at, id) && t->entries[at].policy && edge_policy_is_of(t->entries[at].policy, text);
    struct edge_policy *p = same ? edge_policy_keep(t->entries[at].policy) : edge_policy_create(text, &rc, err);
    struct entry *e = entry_for(t, id);
    if (same)
        rc = HT_OK;
    if (!e) {
        edge_policy_destroy(&p);
        return ht_fail(err, HT_ENOMEM, "out of memory");
    }
    edge_policy_destroy(&e->policy);
    e->policy = p;
    char value[32];
    uint64_t revision = HT_HASH;
    for (size_t i = 0; i < text.n; i++)
        revision = ht_hash_char(revision, text.p[i]);
    snprintf(value, sizeof value, "%s|%08x", !p || edge_policy_asks(p) ? "ask" : "open", (unsigned)revision);
    if (edge_maps_set(ps->maps, map_of[owner], id, value) < 0 && rc == HT_OK)
        rc = ht_fail(err, HT_ENOMEM, "out of memory");
    return rc;
}

void edge_policies_remove(struct edge_policies *ps, enum edge_owner owner, const char *id) {
    struct table *t = &ps->tables[owner];
    if (strlen(id) != ID)
        return;
    size_t i = place_of(t, id);
    if (!is_at(t, i, id))
        return;
    edge_policy_destroy(&t->entries[i].policy);
    memmove(&t->entries[i], &t->entries[i + 1], (t->n - i - 1) * sizeof *t->entries);
    t->n--;
    edge_maps_remove(ps->maps, map_of[owner], id);
}

bool edge_policies_find(const struct edge_policies *ps, struct ht_slice container, struct edge_policy **out) {
    *out = NULL;
    if (container.n != 2 * ID + 1)
        return true; /* that is nobody's host */
    const char *ids[EDGE_OWNERS] = {[EDGE_OF_PROJECT] = container.p, [EDGE_OF_CONTAINER] = container.p + ID + 1};
    for (int k = EDGE_OF_CONTAINER; k >= EDGE_OF_PROJECT; k--) {
        size_t i = place_of(&ps->tables[k], ids[k]);
        if (is_at(&ps->tables[k], i, ids[k])) {
            *out = ps->tables[k].entries[i].policy;
            return true;
        }
    }
    return false;
}

/* The port of a program in a container, as HAProxy finds it: its own, or the usual one. */
static bool is_port_of(const struct edge_policies *ps, struct ht_slice container, struct ht_slice program,
                       unsigned port) {
    char key[2 * ID + 64];
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
