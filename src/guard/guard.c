#include "guard/guard_priv.h"

#include "base/mem.h"
#include "relay/reply.h"

#include <stdio.h>

#define DESCRIPTORS 4 /* of one connection: a pair, the service, one that lingers */

struct guard *guard_create(const struct guard_config *cfg) {
    struct guard *g = ht_calloc(1, sizeof *g);
    if (!g)
        return NULL;
    g->cfg = *cfg;
    ht_list_init(&g->hosts);
    ht_list_init(&g->entries);
    ht_list_init(&g->refusals);
    g->fds.total = cfg->max_streams * DESCRIPTORS + GUARD_DOORS_MAX;
    relay_owner_init(&g->owner, NULL);
    g->owner.own_peer = true;
    struct relay_kit_config kit = relay_inside_config(cfg->loop, &g->fds, &g->metrics);
    kit.head_limits.max_headers -= GUARD_HEADERS_MAX;
    kit.max_bindings_per_session = UINT32_MAX;
    g->table = relay_table_create(&kit);
    if (!g->table)
        guard_destroy(&g);
    else
        relay_inner_init(&g->inner, &(struct relay_inner_config){.t = g->table,
                                                                 .owner = &g->owner,
                                                                 .max_streams = cfg->max_streams,
                                                                 .stream_open = guard_request_open,
                                                                 .ctx = g});
    return g;
}

void guard_away(struct guard *g, bool away) {
    g->away = away;
    relay_inside_away(g->table, away);
}

void guard_destroy(struct guard **gp) {
    struct guard *g = *gp;
    *gp = NULL;
    if (!g)
        return;
    while (!ht_list_empty(&g->hosts)) {
        struct guard_host *h = HT_LIST_ENTRY(g->hosts.next, struct guard_host, node);
        guard_host_remove(&h);
    }
    if (g->table)
        relay_owner_drop(g->table, &g->owner);
    relay_inner_down(&g->inner);
    relay_replies_drop(&g->refusals);
    relay_table_destroy(&g->table);
    ht_free(g);
}

/* ---- hosts ---- */

static bool is_taken(const struct guard *g, const struct guard_policy *p) {
    HT_LIST_FOR (it, &g->hosts)
        if (guard_policy_same_placeholder(HT_LIST_ENTRY(it, struct guard_host, node)->policy, p))
            return true;
    return false;
}

/* As a client of that URL would write it: without the scheme's own port. */
static void name_host(struct guard_host *h, const struct guard_host_config *cfg) {
    bool v6 = strchr(h->target, ':') != NULL;
    char port[8] = "";
    if (cfg->target_port != (cfg->spoken == GUARD_TLS ? 443 : 80))
        snprintf(port, sizeof port, ":%u", cfg->target_port);
    snprintf(h->host_field, sizeof h->host_field, "%s%.280s%s%s", v6 ? "[" : "", h->target, v6 ? "]" : "", port);
}

/* A command has ended, or the first ones are to be started: not before the loop runs, for whoever only wants to know
 * whether a policy is good. What is told comes last: it may be the host's end. */
static void secrets_due(struct io_task *task) {
    struct guard_host *h = ht_container_of(task, struct guard_host, secrets);
    const struct guard *g = h->g;
    struct ht_errmsg why = h->why;
    h->why.text[0] = '\0';
    int rc = guard_policy_load(h->policy, io_now_ms(g->cfg.loop), true, *why.text ? NULL : &why);
    if (!ht_list_empty(&h->waiting))
        guard_waiting_resume(h); /* which tells of it, too */
    else if (*why.text && rc != HT_EAGAIN)
        g->cfg.trouble(g->cfg.ctx, h->name, why.text);
}

static void command_ended(void *ctx, const char *why) {
    struct guard_host *h = ctx;
    if (why)
        snprintf(h->why.text, sizeof h->why.text, "%s", why);
    io_task_add(h->g->cfg.loop, &h->secrets);
}

static int set_up(struct guard_host *h, const struct guard_host_config *cfg, struct ht_errmsg *err) {
    int rc;
    const char *name = cfg->policy.host;
    h->policy = guard_policy_create(&cfg->policy, &rc, err);
    if (!h->policy)
        return rc;
    if (is_taken(h->g, h->policy))
        return ht_fail(err, HT_EINVAL,
                       "replace: another host has the same placeholder, and it would not be clear which one is meant");
    h->name = ht_strndup(name, strlen(name));
    h->target = ht_strndup(cfg->target ? cfg->target : name, strlen(cfg->target ? cfg->target : name));
    h->named = io_tls_named(cfg->tls, name);
    if (!h->name || !h->target || !h->named)
        return ht_fail(err, HT_ENOMEM, "out of memory");
    h->target_port = cfg->target_port;
    if (cfg->spoken != GUARD_SAME)
        name_host(h, cfg);
    h->spoken = cfg->spoken;
    h->tls = cfg->spoken == GUARD_TLS ? cfg->tls : h->named;
    h->tls_host = io_tls_host_create(cfg->authority, name, err);
    if (!h->tls_host)
        return HT_ETLS;
    guard_policy_run_in(h->policy, h->g->cfg.loop, command_ended, h);
    rc = guard_policy_load(h->policy, io_now_ms(h->g->cfg.loop), false, err);
    if (rc == HT_EAGAIN)
        io_task_add(h->g->cfg.loop, &h->secrets);
    return rc == HT_EAGAIN ? HT_OK : rc;
}

struct guard_host *guard_host_add(struct guard *g, const struct guard_host_config *cfg, int *rc,
                                  struct ht_errmsg *err) {
    struct guard_host *h = ht_calloc(1, sizeof *h);
    if (!h) {
        *rc = ht_fail(err, HT_ENOMEM, "out of memory");
        return NULL;
    }
    h->g = g;
    h->ctx = cfg->ctx;
    ht_list_init(&h->node);
    ht_list_init(&h->waiting);
    io_task_init(&h->secrets, secrets_due);
    *rc = set_up(h, cfg, err);
    if (*rc < 0)
        guard_host_remove(&h);
    else
        ht_list_push_back(&g->hosts, &h->node);
    return h;
}

void guard_host_remove(struct guard_host **hp) {
    struct guard_host *h = *hp;
    *hp = NULL;
    if (!h)
        return;
    io_task_cancel(&h->secrets);
    guard_waiting_cut(h);
    guard_entries_cut(h->g, h);
    for (unsigned i = 0; i < h->n_doors; i++) {
        struct guard_door *d = &h->doors[i];
        (void)!relay_unbind(h->g->table, &h->g->owner, d->bind_id);
        relay_target_destroy(&d->target);
    }
    ht_list_remove(&h->node);
    guard_policy_destroy(&h->policy);
    io_tls_host_destroy(&h->tls_host);
    io_tls_destroy(&h->named);
    ht_free(h->name);
    ht_free(h->target);
    ht_free(h);
}

const char *guard_host_name(const struct guard_host *h) { return h->name; }
const char *guard_host_ca(const struct guard_host *h) { return io_tls_host_ca(h->tls_host); }
unsigned guard_host_streams(const struct guard_host *h) { return h->n_entries; }

/* ---- doors ---- */

static bool is_loopback(const char *host) {
    struct io_addr a;
    if (io_addr_parse(&a, host, 0) == HT_OK)
        return io_addr_is_loopback(&a);
    return ht_slice_case_eq(ht_slice_str(host), ht_slice_str("localhost")); /* RFC 6761 6.3 */
}

struct guard_door *guard_door_find(struct guard *g, uint32_t bind_id) {
    HT_LIST_FOR (it, &g->hosts) {
        struct guard_host *h = HT_LIST_ENTRY(it, struct guard_host, node);
        for (unsigned i = 0; i < h->n_doors; i++)
            if (h->doors[i].bind_id == bind_id)
                return &h->doors[i];
    }
    return NULL;
}

struct guard_door *guard_door_get(struct guard_host *h, uint16_t port, bool tls) {
    for (unsigned i = 0; i < h->n_doors; i++)
        if (h->doors[i].port == port && h->doors[i].tls == tls)
            return &h->doors[i];
    if (h->n_doors == GUARD_DOORS_MAX)
        return NULL;
    struct guard_door *d = &h->doors[h->n_doors];
    struct guard *g = h->g;
    bool back = h->spoken == GUARD_SAME ? tls : h->spoken == GUARD_TLS;
    *d = (struct guard_door){.h = h, .port = port, .tls = tls, .secure = back || is_loopback(h->target)};
    ht_list_init(&d->requests);
    struct relay_target_config cfg = {
        .loop = g->cfg.loop,
        .host = h->target,
        .port = h->target_port ? h->target_port : port,
        .kind = WIRE_KIND_HTTP,
        .tls = back ? h->tls : NULL,
        .connect_timeout_ms = g->cfg.connect_timeout_ms,
        .secret = guard_policy_has_secrets(h->policy),
        .hides = guard_policy_has_secrets(h->policy) ? guard_request_hides : NULL,
        .pool_size = g->cfg.pool_size,
        .pool_idle_ms = g->cfg.pool_idle_ms,
        .head_limits = {.max_head = WIRE_LIMIT_MAX_HEAD,
                        .max_headers = WIRE_LIMIT_MAX_HEADERS,
                        .max_target = WIRE_LIMIT_MAX_TARGET},
        .finished = guard_request_finished,
        .tells_cut = true,
        .ctx = d,
    };
    d->target = relay_target_create(&cfg);
    d->binding = d->target ? relay_inside_open(g->table, &g->owner, &d->bind_id) : NULL;
    if (!d->binding) {
        relay_target_destroy(&d->target);
        return NULL;
    }
    h->n_doors++;
    return d;
}
