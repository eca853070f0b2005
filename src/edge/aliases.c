/*
 * Aliases, and the domains that lead to them, as entries of the map `hosts`.
 *
 * Of two documents with the same name, which the API does not make, the one with the smaller id has it. A domain whose
 * alias is not known has no entry, and waits for it. A name that was given up rests for a while: others may not have
 * it.
 */
#include "edge/aliases.h"

#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "json/json.h"

#include <inttypes.h>
#include <stdio.h>

#define AGAIN_MS 200
#define DISK_MS 60000
#define DOMAIN_PART "domain"
#define VALUE (EDGE_SCOPE + EDGE_SERVICE + EDGE_ALIAS_NAME + EDGE_ALIAS_TARGET + 64)

/* An id that a document has, or that a domain wants. */
struct node {
    struct node *next;      /* in its bucket of ids */
    struct node *next_name; /* in its bucket of names */
    char *name;             /* NULL: there is no such alias, or it is wrong */
    int64_t expires;        /* seconds since 1970; 0: never */
    bool expired;           /* as the map has it */
    struct ht_list domains; /* struct domain */
    char id[EDGE_ID_MAX + 1];
};

/* A domain that has chosen an alias. */
struct domain {
    struct domain *next;
    struct ht_list of_node;
    struct node *node;
    char id[EDGE_ID_MAX + 1];
};

/* A name that was given up. */
struct rest {
    struct rest *next;
    struct edge_released was;
    char id[EDGE_ID_MAX + 1]; /* of its document */
};

#define BUCKETS 4096u /* 50,000 aliases: some 12 in each */

struct edge_aliases {
    struct edge_aliases_config cfg;
    struct edge_observer observer;
    struct node *ids[BUCKETS], *names[BUCKETS];
    struct domain *domains[BUCKETS];
    struct rest *rests[BUCKETS]; /* by id */
    int64_t next;                /* the first expiry that is waited for, in seconds since 1970; 0: none */
    struct io_timer expiry, again;
    struct io_wake wake; /* the clock was set */
};

static size_t bucket_of(const char *key) {
    uint64_t h = HT_HASH;
    for (const char *p = key; *p; p++)
        h = ht_hash_char(h, *p);
    return (size_t)(h % BUCKETS);
}

/* ---- nodes ---- */

static struct node *find(const struct edge_aliases *a, const char *id) {
    struct node *n = a->ids[bucket_of(id)];
    while (n && strcmp(n->id, id) != 0)
        n = n->next;
    return n;
}

static struct node *find_or_make(struct edge_aliases *a, const char *id) {
    struct node *n = find(a, id), **at = &a->ids[bucket_of(id)];
    if (n || !(n = ht_calloc(1, sizeof *n)))
        return n;
    snprintf(n->id, sizeof n->id, "%s", id);
    ht_list_init(&n->domains);
    n->next = *at;
    *at = n;
    return n;
}

static void unname(struct edge_aliases *a, struct node *n) {
    if (!n->name)
        return;
    struct node **at = &a->names[bucket_of(n->name)];
    while (*at != n)
        at = &(*at)->next_name;
    *at = n->next_name;
    ht_free(n->name);
    n->name = NULL;
}

/* HT_ENOMEM: it keeps the one that it has had. */
static int set_name(struct edge_aliases *a, struct node *n, const char *name) {
    char *copy = name ? ht_strndup(name, strlen(name)) : NULL;
    if (name && !copy)
        return HT_ENOMEM;
    unname(a, n);
    if (!name)
        return HT_OK;
    struct node **at = &a->names[bucket_of(name)];
    n->name = copy;
    n->next_name = *at;
    *at = n;
    return HT_OK;
}

/* Nobody wants it any more. */
static void drop_idle(struct edge_aliases *a, struct node *n) {
    if (n->name || !ht_list_empty(&n->domains))
        return;
    struct node **at = &a->ids[bucket_of(n->id)];
    while (*at != n)
        at = &(*at)->next;
    *at = n->next;
    ht_free(n);
}

static struct node *holder_of(const struct edge_aliases *a, const char *name) {
    struct node *holder = NULL;
    for (struct node *n = a->names[bucket_of(name)]; n; n = n->next_name)
        if (strcmp(n->name, name) == 0 && (!holder || strcmp(n->id, holder->id) < 0))
            holder = n;
    return holder;
}

const char *edge_aliases_find(const struct edge_aliases *a, const char *name) {
    const struct node *n = holder_of(a, name);
    return n ? n->id : NULL;
}

/* ---- entries ---- */

int edge_aliases_host(const struct edge_aliases *a, const char *name, char out[EDGE_HOST], struct ht_errmsg *err) {
    if (snprintf(out, EDGE_HOST, "%s%s", name, a->cfg.suffix) < EDGE_HOST)
        return HT_OK;
    return ht_fail(err, HT_EINVAL, "alias: %s%s would be longer than a host may be, %d bytes", name, a->cfg.suffix,
                   EDGE_HOST - 1);
}

static const char *mode_of(const struct edge_alias *it, bool expired) {
    if (it->disabled || expired)
        return it->disabled ? "off" : "expired";
    if (it->exact)
        return "exact";
    return strlen(it->target) < 2 ? "plain" : it->override ? "override" : "prefix";
}

/* The map's value; "": there is none. */
static void value_of(const struct edge_aliases *a, const struct node *n, char out[VALUE]) {
    const char *fields[HAPROXY_HOSTS_FIELDS];
    char scope[EDGE_SCOPE], port[8], until[24];
    struct edge_alias it;
    size_t at = 0;
    out[0] = '\0';
    if (!n->name || edge_alias_read(&it, edge_state_get(a->cfg.state, EDGE_ALIAS, n->id), NULL) < 0)
        return;
    snprintf(scope, sizeof scope, "%s-%s", it.project, it.container);
    snprintf(port, sizeof port, "%u", edge_alias_number(&it));
    snprintf(until, sizeof until, "%" PRId64, it.expires);
    fields[HAPROXY_HOSTS_CONTAINER] = scope;
    fields[HAPROXY_HOSTS_PROGRAM] = it.program;
    fields[HAPROXY_HOSTS_PORT] = port;
    fields[HAPROXY_HOSTS_MODE] = mode_of(&it, n->expired);
    fields[HAPROXY_HOSTS_UNTIL] = until;
    fields[HAPROXY_HOSTS_ALIAS] = it.name;
    fields[HAPROXY_HOSTS_TARGET] = it.target;
    for (int i = 0; i < HAPROXY_HOSTS_FIELDS; i++)
        at += (size_t)snprintf(out + at, VALUE - at, "%s%s", i ? "|" : "", fields[i]);
}

static int put(struct edge_aliases *a, const char *host, const char *value) {
    if (*value)
        return edge_maps_set(a->cfg.maps, HAPROXY_MAP_HOSTS, host, value);
    edge_maps_remove(a->cfg.maps, HAPROXY_MAP_HOSTS, host);
    return HT_OK;
}

static int put_name(struct edge_aliases *a, const char *name) {
    const struct node *n = holder_of(a, name);
    char host[EDGE_HOST], value[VALUE] = "";
    if (n)
        value_of(a, n, value);
    /* What would be too long never had an entry. */
    return edge_aliases_host(a, name, host, NULL) == HT_OK ? put(a, host, value) : HT_OK;
}

bool edge_aliases_may_lead(const struct edge_aliases *a, const char *domain) {
    size_t n = strlen(domain), own = strlen(a->cfg.domain);
    if (n < own || strcmp(domain + n - own, a->cfg.domain) != 0)
        return true;
    return n > own && domain[n - own - 1] != '.';
}

static int put_domain(struct edge_aliases *a, const char *id, const struct node *n) {
    char value[VALUE] = "";
    if (n && edge_aliases_may_lead(a, id))
        value_of(a, n, value);
    return put(a, id, value);
}

/* The alias's own host, and those of its domains. */
static int put_all(struct edge_aliases *a, const struct node *n) {
    int rc = n->name ? put_name(a, n->name) : HT_OK;
    HT_LIST_FOR (it, &n->domains) {
        if (rc == HT_OK)
            rc = put_domain(a, HT_LIST_ENTRY(it, struct domain, of_node)->id, n);
    }
    return rc;
}

/* ---- expiry ---- */

static int64_t now_ms(void) { return (int64_t)ht_now_ms() + ht_wall_offset_ms(); }

/* Looks again at that time, in seconds since 1970, or earlier. */
static void wait_for(struct edge_aliases *a, int64_t when) {
    int64_t left = when * 1000 - now_ms();
    if (a->next && a->next <= when)
        return;
    a->next = when;
    io_timer_set(&a->expiry, left > 0 ? (uint64_t)left : 0);
}

/* ---- names that rest ---- */

static int64_t rests_until(const struct edge_aliases *a, const struct rest *r) {
    return r->was.at + (int64_t)(a->cfg.rest_ms / 1000);
}

bool edge_aliases_keeps_names(const struct edge_aliases *a) { return a->cfg.rest_ms > 0; }

int64_t edge_aliases_rests(const struct edge_aliases *a, const char *name, const char *project) {
    int64_t until = 0;
    for (size_t i = 0; i < BUCKETS; i++)
        for (const struct rest *r = a->rests[i]; r; r = r->next)
            if (strcmp(r->was.name, name) == 0 && strcmp(r->was.project, project) != 0 && rests_until(a, r) > until)
                until = rests_until(a, r);
    return until * 1000 > now_ms() ? until : 0;
}

static int apply_rest(struct edge_aliases *a, const char *id, const struct edge_doc *d) {
    struct edge_released was;
    bool there = edge_alias_released(d, &was);
    struct rest **first = &a->rests[bucket_of(id)], **at = first, *r;
    while (*at && strcmp((*at)->id, id) != 0)
        at = &(*at)->next;
    r = *at;
    if (r && !there) {
        *at = r->next;
        ht_free(r);
    }
    if (!there)
        return HT_OK;
    if (!r) {
        if (!(r = ht_calloc(1, sizeof *r)))
            return HT_ENOMEM;
        snprintf(r->id, sizeof r->id, "%s", id);
        r->next = *first;
        *first = r;
    }
    r->was = was;
    wait_for(a, rests_until(a, r));
    return HT_OK;
}

/* Its document goes, and with it `r`. */
static int end_rest(struct edge_aliases *a, const struct rest *r) {
    static const struct edge_actor by = {.who = "edge", .what = "aliasForget", .from = "-"};
    const struct edge_doc *d = edge_state_get(a->cfg.state, EDGE_ALIAS, r->id);
    struct edge_change changes[EDGE_PARTS_MAX];
    struct ht_errmsg err;
    size_t n = edge_doc_parts(d);
    for (size_t i = 0; i < n; i++)
        changes[i] = (struct edge_change){.part = edge_doc_part_name(d, i)};
    int rc = edge_state_change(a->cfg.state, EDGE_ALIAS, r->id, EDGE_ANY_VERSION, changes, n, &by, NULL, &err);
    if (rc < 0)
        ht_error("edge", "%s", err.text);
    return rc;
}

/* Those that have rested long enough go, and the others are waited for. HT_EIO and HT_ENOMEM: some go later. */
static int look_at_rests(struct edge_aliases *a) {
    int rc = HT_OK;
    for (size_t i = 0; i < BUCKETS; i++)
        for (struct rest *r = a->rests[i], *after; r; r = after) {
            after = r->next;
            if (rests_until(a, r) * 1000 > now_ms())
                wait_for(a, rests_until(a, r));
            else if (rc == HT_OK)
                rc = end_rest(a, r);
        }
    return rc;
}

/* Whatever the clock says now: it may have been set back. */
static void look(struct edge_aliases *a) {
    int64_t now = now_ms() / 1000, next = 0;
    int rc = HT_OK;
    for (size_t i = 0; i < BUCKETS; i++)
        for (struct node *n = a->ids[i]; n; n = n->next) {
            bool expired = n->expires && n->expires <= now;
            if (expired != n->expired) {
                n->expired = expired;
                int did = put_all(a, n);
                rc = rc < 0 ? rc : did;
            }
            if (n->expires && !expired && (!next || n->expires < next))
                next = n->expires;
        }
    a->next = 0;
    io_timer_stop(&a->expiry);
    if (next)
        wait_for(a, next);
    int ended = look_at_rests(a);
    if (rc < 0 || ended < 0)
        io_timer_set(&a->again, rc == HT_OK && ended == HT_EIO ? DISK_MS : AGAIN_MS);
}

static void on_expiry(struct io_timer *t) { look(ht_container_of(t, struct edge_aliases, expiry)); }

static void on_clock(struct io_wake *w) { look(ht_container_of(w, struct edge_aliases, wake)); }

/* ---- documents ---- */

static int apply_alias(struct edge_aliases *a, const char *id) {
    const struct edge_doc *d = edge_state_get(a->cfg.state, EDGE_ALIAS, id);
    struct node *n = find_or_make(a, id);
    struct edge_alias it = {.port = 0};
    struct ht_errmsg err;
    char was[EDGE_ALIAS_NAME] = "";
    if (!n)
        return HT_ENOMEM;
    bool good = d && edge_alias_read(&it, d, &err) == HT_OK, rests = edge_alias_released(d, NULL);
    good = good && !rests;
    if (d && !good && !rests)
        ht_error("edge", "the alias %s leads nowhere: %s", id, err.text);
    if (n->name)
        snprintf(was, sizeof was, "%s", n->name);
    n->expires = good ? it.expires : 0;
    n->expired = good && edge_alias_expired(&it);
    int rc = apply_rest(a, id, d);
    if (rc == HT_OK)
        rc = set_name(a, n, good ? it.name : NULL);
    const char *holder = good && rc == HT_OK ? edge_aliases_find(a, it.name) : NULL;
    if (holder && strcmp(holder, id) != 0)
        ht_error("edge", "the alias %s has no host: its name %s is that of %s", id, it.name, holder);
    if (rc == HT_OK && was[0] && (!good || strcmp(was, it.name) != 0))
        rc = put_name(a, was);
    if (rc == HT_OK)
        rc = put_all(a, n);
    if (n->expires && !n->expired)
        wait_for(a, n->expires);
    if (rc == HT_OK)
        drop_idle(a, n);
    return rc;
}

/* The member `alias` of a domain's part. */
static bool chosen_alias(const struct edge_doc *d, char out[EDGE_ID_MAX + 1]) {
    struct ht_slice json = edge_doc_part(d, DOMAIN_PART), key, text;
    struct json_reader r;
    bool found = false;
    json_begin(&r, json.p ? json.p : "", json.n, NULL);
    if (!json.p || json_object_begin(&r) < 0)
        return false;
    while (json_object_next(&r, &key) > 0) {
        char space[EDGE_ID_MAX + 1];
        struct json_arena arena = {.p = space, .cap = sizeof space};
        if (!ht_slice_is(key, "alias") || json_peek(&r) != JSON_T_STRING) {
            if (json_skip(&r) < 0)
                return false;
            continue;
        }
        if (json_read_string(&r, false, &arena, &text) != 0 || text.n > EDGE_ID_MAX)
            return false;
        snprintf(out, EDGE_ID_MAX + 1, "%.*s", HT_SLICE_ARG(text));
        found = edge_is_id(ht_slice_str(out));
    }
    return found;
}

static struct domain **place_of(struct edge_aliases *a, const char *id) {
    struct domain **at = &a->domains[bucket_of(id)];
    while (*at && strcmp((*at)->id, id) != 0)
        at = &(*at)->next;
    return at;
}

static void leave_node(struct edge_aliases *a, struct domain *d) {
    struct node *n = d->node;
    ht_list_remove(&d->of_node);
    d->node = NULL;
    if (n)
        drop_idle(a, n);
}

static int apply_domain(struct edge_aliases *a, const char *id) {
    char wanted[EDGE_ID_MAX + 1];
    struct domain **at = place_of(a, id), *d = *at;
    if (!chosen_alias(edge_state_get(a->cfg.state, EDGE_DOMAIN, id), wanted)) {
        if (!d)
            return HT_OK;
        leave_node(a, d);
        *at = d->next;
        ht_free(d);
        return put_domain(a, id, NULL);
    }
    if (!d) {
        if (!(d = ht_calloc(1, sizeof *d)))
            return HT_ENOMEM;
        snprintf(d->id, sizeof d->id, "%s", id);
        ht_list_init(&d->of_node);
        *at = d;
    }
    leave_node(a, d);
    struct node *n = find_or_make(a, wanted);
    if (!n)
        return HT_ENOMEM;
    d->node = n;
    ht_list_push_back(&n->domains, &d->of_node);
    return put_domain(a, id, n);
}

static int apply(struct edge_aliases *a, enum edge_kind kind, const char *id) {
    return kind == EDGE_ALIAS ? apply_alias(a, id) : kind == EDGE_DOMAIN ? apply_domain(a, id) : HT_OK;
}

static int apply_one_alias(void *ctx, const struct edge_doc *d) { return apply(ctx, EDGE_ALIAS, edge_doc_id(d)); }

static int apply_one_domain(void *ctx, const struct edge_doc *d) { return apply(ctx, EDGE_DOMAIN, edge_doc_id(d)); }

/* Where memory was missing, documents may be gone by now. */
static int apply_gone(struct edge_aliases *a) {
    int rc = HT_OK;
    for (size_t i = 0; i < BUCKETS; i++) {
        for (struct node *n = a->ids[i], *after; rc == HT_OK && n; n = after) {
            after = n->next;
            if (!edge_state_get(a->cfg.state, EDGE_ALIAS, n->id))
                rc = apply_alias(a, n->id);
        }
        for (struct domain *d = a->domains[i], *after; rc == HT_OK && d; d = after) {
            after = d->next;
            if (!edge_state_get(a->cfg.state, EDGE_DOMAIN, d->id))
                rc = apply_domain(a, d->id);
        }
    }
    return rc;
}

static int apply_all(struct edge_aliases *a) {
    int rc = edge_state_each(a->cfg.state, EDGE_ALIAS, apply_one_alias, a);
    if (rc == HT_OK)
        rc = edge_state_each(a->cfg.state, EDGE_DOMAIN, apply_one_domain, a);
    return rc == HT_OK ? apply_gone(a) : rc;
}

static void on_again(struct io_timer *t) {
    struct edge_aliases *a = ht_container_of(t, struct edge_aliases, again);
    if (apply_all(a) < 0)
        io_timer_set(&a->again, AGAIN_MS);
    else
        look(a);
}

static void on_changed(struct edge_observer *o, enum edge_kind kind, const char *id, const struct edge_doc *doc) {
    struct edge_aliases *a = ht_container_of(o, struct edge_aliases, observer);
    (void)doc;
    if (apply(a, kind, id) < 0)
        io_timer_set(&a->again, AGAIN_MS);
}

/* ---- life ---- */

struct edge_aliases *edge_aliases_create(const struct edge_aliases_config *cfg) {
    struct edge_aliases *a = ht_calloc(1, sizeof *a);
    if (!a)
        return NULL;
    a->cfg = *cfg;
    io_timer_init(cfg->loop, &a->expiry, on_expiry);
    io_timer_init(cfg->loop, &a->again, on_again);
    io_wake_start(cfg->loop, &a->wake, on_clock);
    a->observer.changed = on_changed;
    edge_state_watch(cfg->state, &a->observer);
    if (apply_all(a) < 0)
        edge_aliases_destroy(&a);
    return a;
}

void edge_aliases_destroy(struct edge_aliases **ap) {
    struct edge_aliases *a = *ap;
    *ap = NULL;
    if (!a)
        return;
    io_timer_stop(&a->expiry);
    io_timer_stop(&a->again);
    io_wake_stop(&a->wake);
    edge_state_unwatch(a->cfg.state, &a->observer);
    for (size_t i = 0; i < BUCKETS; i++) {
        for (struct rest *r = a->rests[i], *after; r; r = after) {
            after = r->next;
            ht_free(r);
        }
        for (struct domain *d = a->domains[i], *after; d; d = after) {
            after = d->next;
            ht_free(d);
        }
        for (struct node *n = a->ids[i], *after; n; n = after) {
            after = n->next;
            ht_free(n->name);
            ht_free(n);
        }
    }
    ht_free(a);
}
