/* Follows kits: the stream of a kit's events says that something has changed, and its list of bindings what is so now.
 */
#include "edge/edge_priv.h"

#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "log_gen.h"
#include "json/json.h"

#include <stdio.h>

#define EVENTS "/api/v1/tunnel/events"
#define BINDINGS "/api/v1/tunnel/bindings"
#define QUIET_MS 40000 /* a kit without events sends a comment every 15 seconds */
#define ANSWER_MS 10000
#define AWAY_MS 2000 /* without a kit for this long, what it serves is away */
#define AGAIN_MIN_MS 50
#define AGAIN_MAX_MS 5000
#define KIT_SERVICES 4096 /* most hosts that a kit may give names to */

struct service {
    struct ht_list node;
    bool named; /* while the list is read: it is in there */
    bool told;  /* its URL was told */
    char host[EDGE_HOST];
};

struct kit {
    struct ht_list node; /* in edge_kits.kits */
    struct edge_kits *all;
    struct edge_kit_config cfg;
    char host[IO_ADDR_TEXT], asked[IO_ADDR_TEXT];
    struct ht_list services; /* struct service */
    size_t n_services;
    struct web_request *events, *list;
    struct web_sse sse;
    struct ht_buf body;
    uint16_t events_status, list_status;
    bool list_stale, away, reached;
    struct io_timer again, lost;
    struct io_task work; /* requests are destroyed outside of their callbacks */
    bool events_over, list_over;
    int list_rc;
    uint64_t again_ms;
    char why[160];
};

struct edge_kits {
    struct edge_kits_config cfg;
    struct ht_list kits;
};

/* ---- entries ---- */

static int put(struct kit *k, const char *host, const struct io_addr *to, const char *as) {
    char value[EDGE_HOST + 128], address[IO_ADDR_TEXT];
    const char *fields[HAPROXY_BINDINGS_FIELDS];
    char port[8];
    size_t n = 0;
    snprintf(port, sizeof port, "%u", io_addr_port(to));
    fields[HAPROXY_BINDINGS_ADDRESS] = io_addr_host(to, address);
    fields[HAPROXY_BINDINGS_PORT] = port;
    fields[HAPROXY_BINDINGS_HOST] = as ? as : "*";
    fields[HAPROXY_BINDINGS_STATE] = k->away ? "away" : "live";
    fields[HAPROXY_BINDINGS_WAY] = to == &k->cfg.visits ? "proxy" : "plain";
    for (int i = 0; i < HAPROXY_BINDINGS_FIELDS; i++)
        n += (size_t)snprintf(value + n, sizeof value - n, "%s%s", i ? "|" : "", fields[i]);
    return edge_maps_set(k->all->cfg.maps, HAPROXY_MAP_BINDINGS, host, value);
}

static void tell_url(struct kit *k, struct service *s, bool bound) {
    char url[EDGE_HOST + 16], port[8] = "";
    if (k->all->cfg.https_port != 443)
        snprintf(port, sizeof port, ":%u", k->all->cfg.https_port);
    snprintf(url, sizeof url, "https://%s%s", s->host, port);
    s->told = bound;
    k->all->cfg.service(k->all->cfg.ctx, url, bound);
}

static void drop(struct kit *k, struct service *s) {
    edge_maps_remove(k->all->cfg.maps, HAPROXY_MAP_BINDINGS, s->host);
    if (s->told)
        tell_url(k, s, false);
    ht_list_remove(&s->node);
    k->n_services--;
    ht_free(s);
}

static struct service *find(struct kit *k, const char *host) {
    HT_LIST_FOR (it, &k->services) {
        struct service *s = HT_LIST_ENTRY(it, struct service, node);
        if (strcmp(s->host, host) == 0)
            return s;
    }
    return NULL;
}

/* True for a host of letters, digits and hyphens that is one label below the domain. */
static bool is_below(const char *host, const char *domain) {
    size_t label = strspn(host, "abcdefghijklmnopqrstuvwxyz0123456789-");
    return label > 0 && label <= 63 && host[label] == '.' && strcmp(host + label + 1, domain) == 0;
}

/* True when another kit has the host, or it is a kit's own. */
static bool is_taken(const struct kit *k, const char *host) {
    char own[EDGE_HOST];
    HT_LIST_FOR (it, &k->all->kits) {
        struct kit *other = HT_LIST_ENTRY(it, struct kit, node);
        snprintf(own, sizeof own, "%s.%s", other->cfg.id, k->all->cfg.domain);
        if (strcmp(own, host) == 0 || (other != k && find(other, host)))
            return true;
    }
    return false;
}

/* A host of a binding leads to the kit, which knows it as `as`. The first binding that has it keeps it. */
static int name(struct kit *k, const char *host, const char *as) {
    struct service *s = find(k, host);
    if ((s && s->named) || !is_below(host, k->all->cfg.domain) || is_taken(k, host))
        return HT_OK;
    if (!s) {
        if (k->n_services >= KIT_SERVICES)
            return HT_ELIMIT;
        if (!(s = ht_calloc(1, sizeof *s)))
            return HT_ENOMEM;
        snprintf(s->host, sizeof s->host, "%s", host);
        ht_list_push_back(&k->services, &s->node);
        k->n_services++;
    }
    s->named = true;
    int rc = put(k, host, &k->cfg.visits, as);
    if (rc == HT_OK && !s->told)
        tell_url(k, s, true);
    return rc;
}

/* ---- the list of bindings ---- */

struct binding {
    bool expose;
    uint64_t port;
    char hosts[4][EDGE_HOST];
    size_t n_hosts;
};

static int read_hosts(struct json_reader *r, struct json_arena *arena, struct binding *b) {
    struct ht_slice host;
    int more = 0, rc = json_array_begin(r);
    while (rc == 0 && (more = json_array_next(r)) > 0) {
        rc = json_read_string(r, false, arena, &host);
        if (rc == 0 && b->n_hosts < HT_ARRAY_LEN(b->hosts) && host.n < EDGE_HOST)
            snprintf(b->hosts[b->n_hosts++], EDGE_HOST, "%.*s", HT_SLICE_ARG(host));
    }
    return rc < 0 ? rc : more;
}

static int read_binding(struct json_reader *r, struct json_arena *arena, struct binding *b) {
    struct ht_slice key, mode = {0};
    int more = 0, rc = json_object_begin(r);
    while (rc == 0 && (more = json_object_next(r, &key)) > 0) {
        if (ht_slice_is(key, "mode"))
            rc = json_read_string(r, false, arena, &mode);
        else if (ht_slice_is(key, "port"))
            rc = json_read_uint(r, &b->port);
        else if (ht_slice_is(key, "hosts"))
            rc = read_hosts(r, arena, b);
        else
            rc = json_skip(r);
    }
    b->expose = ht_slice_is(mode, "expose");
    return rc < 0 ? rc : more;
}

/* Its hosts, and ID-PORT, which is written as the first of them. */
static int name_binding(struct kit *k, const struct binding *b) {
    char host[EDGE_HOST], as[EDGE_HOST + 8], port[8] = "";
    int rc = HT_OK;
    for (size_t i = 0; rc == HT_OK && i < b->n_hosts; i++)
        rc = name(k, b->hosts[i], NULL);
    if (rc < 0 || b->n_hosts == 0 || b->port == 0 || b->port > UINT16_MAX)
        return rc;
    if (k->all->cfg.https_port != 443)
        snprintf(port, sizeof port, ":%u", k->all->cfg.https_port);
    snprintf(host, sizeof host, "%s-%u.%s", k->cfg.id, (unsigned)b->port, k->all->cfg.domain);
    snprintf(as, sizeof as, "%s%s", b->hosts[b->n_hosts - 1], port); /* the one of the port is the last */
    return name(k, host, as);
}

static int read_list(struct kit *k, struct ht_slice text, struct json_arena *arena) {
    static const struct json_limits limits = {.max_depth = 8, .max_keys = JSON_MAX_KEYS, .refuse_nul = true};
    struct json_reader r;
    struct ht_slice key;
    int more = 0, rc;
    bool found = false;
    json_begin(&r, text.p, text.n, &limits);
    rc = json_object_begin(&r);
    while (rc == 0 && (more = json_object_next(&r, &key)) > 0) {
        if (!ht_slice_is(key, "bindings")) {
            rc = json_skip(&r);
            continue;
        }
        found = true;
        rc = json_array_begin(&r);
        while (rc == 0 && (more = json_array_next(&r)) > 0) {
            struct binding b = {.expose = false};
            arena->used = 0;
            rc = read_binding(&r, arena, &b);
            if (rc == 0 && b.expose)
                rc = name_binding(k, &b);
        }
    }
    return rc < 0 ? rc : found ? json_end(&r) : HT_EPROTO;
}

/* What is not in the list is bound no longer. A list that cannot be read changes nothing but what it named. */
static void take_list(struct kit *k) {
    struct ht_slice text = ht_buf_slice(&k->body);
    struct json_arena arena = {.p = ht_malloc(text.n + 1), .cap = text.n};
    HT_LIST_FOR (it, &k->services)
        HT_LIST_ENTRY(it, struct service, node)->named = false;
    int rc = arena.p ? read_list(k, text, &arena) : HT_ENOMEM;
    ht_free(arena.p);
    if (rc < 0) {
        ht_error("edge", "the kit's list of bindings cannot be used: %s", ht_err_text(rc));
        return;
    }
    HT_LIST_FOR_SAFE (it, &k->services) {
        struct service *s = HT_LIST_ENTRY(it, struct service, node);
        if (!s->named)
            drop(k, s);
    }
}

/* ---- away, and back ---- */

/* All of its hosts are written anew, with another state. */
static void set_away(struct kit *k, bool away) {
    char own[EDGE_HOST];
    if (k->away == away)
        return;
    k->away = away;
    snprintf(own, sizeof own, "%s.%s", k->cfg.id, k->all->cfg.domain);
    /* Without a token anybody who reaches its API may end sessions, a page in a browser included. */
    if (k->cfg.token && k->cfg.token[0] && put(k, own, &k->cfg.base, NULL) < 0)
        ht_error("edge", "out of memory");
    if (!away)
        return; /* the list that comes next names the others */
    ht_log_with(HT_LOG_WARN, "edge", HT_LOG_FIELDS(log_target(k->cfg.id), log_reason(k->why)), "a kit is away");
    HT_LIST_FOR (it, &k->services) {
        struct service *s = HT_LIST_ENTRY(it, struct service, node);
        if (put(k, s->host, &k->cfg.visits, NULL) < 0)
            ht_error("edge", "out of memory");
    }
}

static void on_lost(struct io_timer *t) { set_away(ht_container_of(t, struct kit, lost), true); }

/* ---- its requests ---- */

static const struct web_ask asks = {.method = "GET", .timeout_ms = ANSWER_MS};

static int ask(struct kit *k, struct web_request **out, const char *path, uint64_t quiet_ms,
               const struct web_request_ops *ops, struct ht_errmsg *err) {
    struct web_ask a = asks;
    a.host = k->host;
    a.port = io_addr_port(&k->cfg.base);
    a.host_field = k->asked;
    a.path = path;
    a.token = k->cfg.token;
    a.quiet_ms = quiet_ms;
    return web_request_start(out, k->all->cfg.loop, &a, ops, k, err);
}

static void list_head(void *ctx, uint16_t status) { ((struct kit *)ctx)->list_status = status; }

static int list_piece(void *ctx, struct ht_slice piece) {
    struct kit *k = ctx;
    if (ht_buf_size(&k->body) + piece.n > WEB_ANSWER_MAX)
        return HT_ELIMIT;
    return ht_buf_append(&k->body, piece.p, piece.n);
}

static void list_done(void *ctx, int rc, const char *why) {
    struct kit *k = ctx;
    (void)why;
    k->list_over = true;
    k->list_rc = rc;
    io_task_add(k->all->cfg.loop, &k->work);
}

static void want_list(struct kit *k) {
    static const struct web_request_ops ops = {.head = list_head, .piece = list_piece, .done = list_done};
    struct ht_errmsg err;
    k->list_stale = true;
    if (k->list || !k->events || k->events_status != 200)
        return;
    k->list_stale = false;
    k->list_over = false;
    k->list_status = 0;
    ht_buf_consume(&k->body, ht_buf_size(&k->body));
    if (ask(k, &k->list, BINDINGS, 0, &ops, &err) < 0)
        ht_error("edge", "%s", err.text);
}

static void events_head(void *ctx, uint16_t status) {
    struct kit *k = ctx;
    k->events_status = status;
    if (status != 200)
        return;
    io_timer_stop(&k->lost);
    k->again_ms = AGAIN_MIN_MS;
    k->reached = true;
    set_away(k, false);
    k->list_stale = true; /* what has changed from now on is told */
    io_task_add(k->all->cfg.loop, &k->work);
}

/* Whatever has happened: the list says what is so now. Those of the CONNECT proxy change nothing in it. */
static void on_event(void *ctx, struct ht_slice data, const char *id) {
    static const char proxy[] = "{\"event\":\"proxy-";
    struct kit *k = ctx;
    (void)id;
    if (data.n > sizeof proxy && memcmp(data.p, proxy, sizeof proxy - 1) == 0)
        return;
    k->list_stale = true;
    io_task_add(k->all->cfg.loop, &k->work);
}

static int events_piece(void *ctx, struct ht_slice piece) {
    struct kit *k = ctx;
    return k->events_status == 200 ? web_sse_feed(&k->sse, piece, on_event, k) : HT_OK;
}

static void events_done(void *ctx, int rc, const char *why) {
    struct kit *k = ctx;
    if (rc < 0)
        snprintf(k->why, sizeof k->why, "%.150s", why);
    else
        snprintf(k->why, sizeof k->why, k->events_status == 200 ? "it ended its events" : "it answers %u",
                 k->events_status);
    k->events_over = true;
    io_task_add(k->all->cfg.loop, &k->work);
}

static void ask_events(struct io_timer *t) {
    static const struct web_request_ops ops = {.head = events_head, .piece = events_piece, .done = events_done};
    struct kit *k = ht_container_of(t, struct kit, again);
    struct ht_errmsg err;
    web_sse_free(&k->sse);
    k->sse = (struct web_sse){0};
    k->events_status = 0;
    k->events_over = false;
    if (ask(k, &k->events, EVENTS, QUIET_MS, &ops, &err) < 0) {
        ht_error("edge", "%s", err.text);
        io_timer_set(&k->again, AGAIN_MAX_MS);
    }
}

static void lost_events(struct kit *k) {
    web_request_destroy(&k->events);
    web_request_destroy(&k->list);
    k->list_over = false;
    if (k->events_status == 401 || k->events_status == 403)
        ht_log_with(HT_LOG_ERROR, "edge", HT_LOG_FIELDS(log_target(k->cfg.id), log_status(k->events_status)),
                    "a kit does not take the edge's token");
    if (!k->away && !io_timer_active(&k->lost))
        io_timer_set(&k->lost, AWAY_MS);
    io_timer_set(&k->again, k->again_ms);
    k->again_ms = ht_min64(k->again_ms * 2, AGAIN_MAX_MS);
}

static void on_work(struct io_task *t) {
    struct kit *k = ht_container_of(t, struct kit, work);
    if (k->events_over) {
        k->events_over = false;
        lost_events(k);
        return;
    }
    if (k->list_over) {
        k->list_over = false;
        web_request_destroy(&k->list);
        if (k->list_rc == HT_OK && k->list_status == 200)
            take_list(k);
        else
            ht_log_with(HT_LOG_WARN, "edge", HT_LOG_FIELDS(log_target(k->cfg.id), log_status(k->list_status)),
                        "a kit does not list its bindings: %s", ht_err_text(k->list_rc));
    }
    if (k->list_stale)
        want_list(k);
}

/* ---- beginning and end ---- */

struct edge_kits *edge_kits_create(const struct edge_kits_config *cfg) {
    struct edge_kits *a = ht_calloc(1, sizeof *a);
    if (!a)
        return NULL;
    a->cfg = *cfg;
    ht_list_init(&a->kits);
    return a;
}

static int check_id(const char *id, struct ht_errmsg *err) {
    size_t n = strlen(id);
    if (n >= 1 && n <= 40 && id[strspn(id, "abcdefghijklmnopqrstuvwxyz0123456789")] == '\0')
        return HT_OK;
    return ht_fail(err, HT_EINVAL, EDGE_NO_ID, id);
}

int edge_kits_add(struct edge_kits *a, const struct edge_kit_config *cfg, struct ht_errmsg *err) {
    int rc = check_id(cfg->id, err);
    struct kit *k = rc == HT_OK ? ht_calloc(1, sizeof *k) : NULL;
    if (!k)
        return rc < 0 ? rc : ht_fail(err, HT_ENOMEM, "out of memory");
    k->all = a;
    k->cfg = *cfg;
    k->again_ms = AGAIN_MIN_MS;
    k->away = true; /* until its events come */
    io_addr_host(&cfg->base, k->host);
    io_addr_text(&cfg->base, k->asked);
    ht_list_init(&k->services);
    io_timer_init(a->cfg.loop, &k->again, ask_events);
    io_timer_init(a->cfg.loop, &k->lost, on_lost);
    io_task_init(&k->work, on_work);
    ht_list_push_back(&a->kits, &k->node);
    io_timer_set(&k->again, 0);
    return HT_OK;
}

static void free_kit(struct kit *k) {
    io_timer_stop(&k->again);
    io_timer_stop(&k->lost);
    io_task_cancel(&k->work);
    web_request_destroy(&k->events);
    web_request_destroy(&k->list);
    web_sse_free(&k->sse);
    ht_buf_free(&k->body);
    HT_LIST_FOR_SAFE (it, &k->services)
        ht_free(HT_LIST_ENTRY(it, struct service, node));
    ht_list_remove(&k->node);
    ht_free(k);
}

void edge_kits_destroy(struct edge_kits **ap) {
    struct edge_kits *a = *ap;
    *ap = NULL;
    if (!a)
        return;
    HT_LIST_FOR_SAFE (it, &a->kits)
        free_kit(HT_LIST_ENTRY(it, struct kit, node));
    ht_free(a);
}
