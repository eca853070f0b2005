/* Connections of the edge's API: who may ask, which handler answers. */
#include "edge/api.h"

#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"

#include <stdio.h>
#include <unistd.h>

#define SOCKET "run/api.sock"
#define CLIENTS 64u
#define MAX_HEAD 16384
#define PATIENCE_MS 10000
#define KEEPALIVE_MS 60000
#define WRITE_MS 30000
#define TICK_MS 15000
#define API_HEADERS "Cache-Control: no-store\r\nX-Content-Type-Options: nosniff\r\nReferrer-Policy: no-referrer\r\n"

/* A connection, and its present request. */
struct api_client {
    struct ht_list node;
    struct edge_api *a;
    struct web_conn web;
    bool local; /* by the Unix socket: the kernel has looked who it is */
    bool admin;
    char from[IO_ADDR_TEXT], who[sizeof((struct edge_user *)0)->name];
    /* Of a request whose body is read: */
    char method[16], if_match[64];
    bool has_if_match;
    struct ht_buf target, body;
    const struct api_goes_on *goes_on; /* NULL: it is answered at once */
    void *goes_on_ctx;
    bool streams;
    bool held, settled; /* its answer waits for the disk; it has waited */
    struct edge_api_response held_answer;
};

struct edge_api {
    struct edge_api_config cfg;
    struct web_server web;
    struct io_listener *local, *port;
    struct ht_list clients; /* struct api_client */
    unsigned n_clients;
    struct io_task commit;
    char authority[4][IO_ADDR_TEXT]; /* what Host may be at the port */
};

static struct api_client *client_of(struct web_conn *web) { return ht_container_of(web, struct api_client, web); }

const struct edge_api_config *edge_api_of(const struct api_client *c) { return &c->a->cfg; }

struct ht_slice edge_api_field(const struct api_client *c, const char *name) {
    return web_field(&c->web, name);
}

/* ---- who may ask ---- */

/* DNS rebinding: a page of another site can make a browser send requests here, but they carry the site's own name as
 * Host, and its Origin. No browser comes by the Unix socket. */
static bool is_trusted(const struct api_client *c) {
    struct ht_slice host = web_field(&c->web, "host"), origin = web_field(&c->web, "origin");
    bool ours = c->local;
    for (size_t i = 0; i < HT_ARRAY_LEN(c->a->authority); i++)
        ours = ours || (c->a->authority[i][0] && ht_slice_case_eq(host, ht_slice_str(c->a->authority[i])));
    return ours && origin.n == 0;
}

/* Each request says anew who it is. */
static bool is_authorized(struct api_client *c) {
    static const char scheme[] = "Bearer ";
    const struct edge_api_config *cfg = &c->a->cfg;
    struct ht_slice v = web_field(&c->web, "authorization");
    size_t n = sizeof scheme - 1;
    struct edge_user user;
    c->admin = true;
    if (c->local)
        return true;
    if (v.n <= n || !ht_slice_case_eq(ht_slice_of(v.p, n), ht_slice_str(scheme)))
        return false;
    struct ht_slice token = ht_slice_of(v.p + n, v.n - n);
    if (!cfg->user)
        return cfg->token && *cfg->token && ht_const_time_eq(token.p, token.n, cfg->token, strlen(cfg->token));
    if (!cfg->user(cfg->user_ctx, token, &user))
        return false;
    c->admin = user.admin;
    snprintf(c->who, sizeof c->who, "%s", user.name);
    return true;
}

struct edge_actor edge_api_actor(const struct api_client *c, const char *what) {
    return (struct edge_actor){.who = c->who, .what = what, .from = c->from};
}

/* ---- answers ---- */

static const struct edge_api_handlers handlers = {
    .container_list = edge_api_container_list,
    .container_get = edge_api_container_get,
    .container_delete = edge_api_container_delete,
    .container_address = edge_api_container_address,
    .service_list = edge_api_service_list,
    .services_put = edge_api_services_put,
    .services_delete = edge_api_services_delete,
    .service_get = edge_api_service_get,
    .service_put = edge_api_service_put,
    .service_delete = edge_api_service_delete,
    .service_state = edge_api_service_state,
    .container_state_get = edge_api_container_state_get,
    .container_state = edge_api_container_state,
    .project_state_get = edge_api_project_state_get,
    .project_state = edge_api_project_state,
    .domain_list = edge_api_domain_list,
    .domain_get = edge_api_domain_get,
    .domain_put = edge_api_domain_put,
    .domain_delete = edge_api_domain_delete,
    .domain_renew = edge_api_domain_renew,
    .domain_certificate = edge_api_domain_certificate,
    .domain_certificate_delete = edge_api_domain_certificate_delete,
    .log_list = edge_api_log_list,
    .log_stats = edge_api_log_stats,
    .log_stream = edge_api_log_stream,
    .alias_list = edge_api_alias_list,
    .alias_create = edge_api_alias_create,
    .alias_get = edge_api_alias_get,
    .alias_change = edge_api_alias_change,
    .alias_delete = edge_api_alias_delete,
    .alias_state = edge_api_alias_state,
    .container_permissions_get = edge_api_container_permissions_get,
    .container_permissions = edge_api_container_permissions,
    .container_permissions_delete = edge_api_container_permissions_delete,
    .container_permissions_default = edge_api_container_permissions_default,
    .container_group_put = edge_api_container_group_put,
    .container_group_delete = edge_api_container_group_delete,
    .container_rule_put = edge_api_container_rule_put,
    .container_rule_delete = edge_api_container_rule_delete,
    .container_settings_get = edge_api_container_settings_get,
    .container_settings = edge_api_container_settings,
    .project_settings_get = edge_api_project_settings_get,
    .project_settings = edge_api_project_settings,
    .container_cache_purge = edge_api_container_cache_purge,
    .service_cache_purge = edge_api_service_cache_purge,
    .project_permissions_get = edge_api_project_permissions_get,
    .project_permissions = edge_api_project_permissions,
    .project_permissions_delete = edge_api_project_permissions_delete,
    .project_permissions_default = edge_api_project_permissions_default,
    .project_group_put = edge_api_project_group_put,
    .project_group_delete = edge_api_project_group_delete,
    .project_rule_put = edge_api_project_rule_put,
    .project_rule_delete = edge_api_project_rule_delete,
    .hooks_get = edge_api_hooks_get,
    .hooks_put = edge_api_hooks_put,
    .hooks_delete = edge_api_hooks_delete,
    .hook_list = edge_api_hook_list,
    .hook_list_put = edge_api_hook_list_put,
    .hook_add = edge_api_hook_add,
    .hook_list_delete = edge_api_hook_list_delete,
    .hook_get = edge_api_hook_get,
    .hook_put = edge_api_hook_put,
    .hook_delete = edge_api_hook_delete,
    .hook_move = edge_api_hook_move,
};

#define EXTRA 512

static struct web_reply reply_of(const struct edge_api_response *res, char extra[EXTRA]) {
    snprintf(extra, EXTRA, "%sContent-Security-Policy: default-src 'none'; frame-ancestors 'none'\r\n%s%s%s%s%s%s%s",
             API_HEADERS, res->allow ? "Allow: " : "", res->allow ? res->allow : "", res->allow ? "\r\n" : "",
             res->www_authenticate ? "WWW-Authenticate: Bearer\r\n" : "", res->etag[0] ? "ETag: " : "", res->etag,
             res->etag[0] ? "\r\n" : "");
    return (struct web_reply){
        .status = (uint16_t)res->status, .type = res->content_type, .body = ht_buf_slice(&res->body), .extra = extra};
}

/* False: the connection is gone. */
static bool begin_stream(struct api_client *c, struct edge_api_response *res) {
    char extra[EXTRA];
    struct web_reply r = reply_of(res, extra);
    const struct api_goes_on *ops = c->goes_on;
    c->streams = true;
    if (!web_stream(&c->web, &r))
        return false;
    ops->began(c, c->goes_on_ctx);
    return true;
}

/* ---- answers that wait for the disk ---- */

/*
 * Changes of all requests that have come in a turn of the loop wait for the disk together, at its end. Until then
 * nobody is told of them, who has asked for something else included.
 */
static bool hold(struct api_client *c, struct edge_api_response *res) {
    c->held = true;
    c->held_answer = *res;
    *res = (struct edge_api_response){0};
    io_task_add(c->a->cfg.loop, &c->a->commit);
    return web_later(&c->web);
}

/* The disk has them, or not: what was held is answered by on_commit(). */
static void committed(void *ctx, int rc, const char *text) {
    struct edge_api *a = ctx;
    if (rc < 0)
        ht_error("edge", "%s", text);
    HT_LIST_FOR (it, &a->clients) {
        struct api_client *c = HT_LIST_ENTRY(it, struct api_client, node);
        if (c->held && rc < 0) {
            edge_api_response_free(&c->held_answer);
            c->held_answer = (struct edge_api_response){0};
            if (edge_api_reply_error(&c->held_answer, 500, "%s", text) < 0)
                ht_error("edge", "out of memory");
        }
        c->settled = c->held;
    }
}

static struct api_client *next_settled(const struct edge_api *a) {
    HT_LIST_FOR (it, &a->clients) {
        struct api_client *c = HT_LIST_ENTRY(it, struct api_client, node);
        if (c->settled)
            return c;
    }
    return NULL;
}

static void on_commit(struct io_task *t) {
    struct edge_api *a = ht_container_of(t, struct edge_api, commit);
    struct ht_errmsg err;
    struct api_client *c;
    if (edge_state_commit(a->cfg.state, &err) < 0)
        ht_debug("edge", "nothing of the group has changed"); /* committed() has said why */
    while ((c = next_settled(a))) { /* the answer may end the client, or have it ask for more */
        struct edge_api_response res = c->held_answer;
        c->held = c->settled = false;
        c->held_answer = (struct edge_api_response){0};
        if (res.status)
            edge_api_client_answer(c, &res);
        else
            web_conn_close(&c->web);
    }
}

static bool respond(struct api_client *c, struct edge_api_request *req) {
    struct edge_api_response res = {0};
    struct edge_state *state = c->a->cfg.state;
    char extra[EXTRA];
    bool alive;
    c->goes_on = NULL;
    c->streams = false;
    edge_state_group(state, true);
    int rc = edge_api_dispatch(&handlers, c, req, &res);
    edge_state_group(state, false);
    if (rc < 0) {
        edge_api_response_free(&res);
        web_conn_close(&c->web);
        return false;
    }
    if (edge_state_pending(state))
        io_task_add(c->a->cfg.loop, &c->a->commit);
    if (edge_state_pending(state) && !c->goes_on)
        return hold(c, &res);
    if (c->goes_on && c->goes_on->began) {
        alive = begin_stream(c, &res);
    } else if (c->goes_on) {
        alive = web_later(&c->web);
    } else {
        struct web_reply r = reply_of(&res, extra);
        alive = web_reply(&c->web, &r);
    }
    edge_api_response_free(&res);
    return alive;
}

bool edge_api_change(struct api_client *c, const struct edge_api_request *req, struct edge_api_response *res,
                     enum edge_kind kind, const char *id, const struct edge_change *changes, size_t n, const char *what,
                     uint64_t *version, int *rc) {
    struct ht_errmsg err;
    struct edge_actor by = edge_api_actor(c, what);
    int did = edge_state_change(c->a->cfg.state, kind, id, req->version, changes, n, &by, version, &err);
    if (did == HT_OK)
        return true;
    if (did == HT_EAGAIN && *version)
        *rc = edge_api_reply_error(res, 412, "the document is file:v%llu by now; get it again",
                                   (unsigned long long)*version);
    else if (did == HT_EAGAIN)
        *rc = edge_api_reply_error(res, 412, "there is no such document, or no more; file:v0 makes one");
    else
        *rc = edge_api_reply_error(res, did == HT_EINVAL || did == HT_ELIMIT ? 400 : 500, "%s", err.text);
    if (did == HT_EIO)
        ht_error("edge", "%s", err.text);
    return false;
}

/* ---- answers that come later, or have no end ---- */

void edge_api_client_goes_on(struct api_client *c, const struct api_goes_on *ops, void *ctx) {
    c->goes_on = ops;
    c->goes_on_ctx = ctx;
}

void edge_api_client_answer(struct api_client *c, struct edge_api_response *res) {
    char extra[EXTRA];
    struct web_reply r = reply_of(res, extra);
    c->goes_on = NULL;
    web_answer(&c->web, &r);
    edge_api_response_free(res);
}

struct ht_buf *edge_api_client_out(struct api_client *c) {
    return &c->web.out.queue;
}

bool edge_api_client_flush(struct api_client *c) { return web_conn_flush(&c->web); }

size_t edge_api_client_behind(const struct api_client *c) { return io_out_pending(&c->web.out); }

void edge_api_client_end(struct api_client *c, bool orderly) {
    if (!orderly || !web_conn_busy(&c->web))
        web_conn_close(&c->web);
    else
        c->web.close_after = true;
}

static void tick(struct web_conn *web) {
    struct api_client *c = client_of(web);
    if (c->streams && c->goes_on && c->goes_on->tick)
        c->goes_on->tick(c, c->goes_on_ctx);
}

static void drained(struct web_conn *web) {
    struct api_client *c = client_of(web);
    if (c->streams && c->goes_on && c->goes_on->drained)
        c->goes_on->drained(c, c->goes_on_ctx);
}

static void gone(struct web_conn *web) {
    struct api_client *c = client_of(web);
    if (c->goes_on)
        c->goes_on->gone(c, c->goes_on_ctx);
    edge_api_response_free(&c->held_answer);
    ht_buf_free(&c->target);
    if (c->body.data)
        explicit_bzero(c->body.data, c->body.cap); /* secrets of permissions may be in it */
    ht_buf_free(&c->body);
    ht_list_remove(&c->node);
    c->a->n_clients--;
    ht_free(c);
}

/* ---- requests ---- */

static void keep_if_match(struct api_client *c, struct ht_slice v) {
    c->has_if_match = v.p != NULL;
    snprintf(c->if_match, sizeof c->if_match, "%.*s", HT_SLICE_ARG(v));
}

/* Keeps what is needed of a head until its body has come. */
static bool keep(struct api_client *c, const struct edge_api_request *req, const struct edge_api_route *route) {
    ht_buf_free(&c->target);
    ht_buf_free(&c->body);
    snprintf(c->method, sizeof c->method, "%.*s", HT_SLICE_ARG(req->method));
    keep_if_match(c, req->if_match);
    if (ht_buf_append(&c->target, req->target.p, req->target.n) < 0) {
        web_conn_close(&c->web);
        return false;
    }
    return web_take_body(&c->web, route->max_body);
}

static bool refuse(struct web_conn *web, uint16_t status, const char *text);

static bool request(struct web_conn *web) {
    struct api_client *c = client_of(web);
    uint64_t version;
    int status;
    struct edge_api_request req = {
        .method = http_text(web_bytes(web), web->head.method),
        .target = http_text(web_bytes(web), web->head.path),
        .if_match = web_field(web, "if-match"),
        .trusted = is_trusted(c),
        .authorized = is_authorized(c),
    };
    const struct edge_api_route *route = edge_api_route_match(req.method, req.target, &req.params, &status);
    if (req.trusted && req.authorized && route && !c->admin && !ht_slice_is(req.method, "GET") &&
        !ht_slice_is(req.method, "HEAD"))
        return refuse(web, 403, "this user is no admin, and may only read");
    bool wanted = req.trusted && req.authorized && route && route->max_body;
    if (wanted && (!route->versioned || edge_api_read_version(req.if_match, &version) == 0))
        return keep(c, &req, route);
    return respond(c, &req);
}

static bool body(struct web_conn *web, struct ht_slice piece, bool last) {
    struct api_client *c = client_of(web);
    if (ht_buf_append(&c->body, piece.p, piece.n) < 0) {
        web_conn_close(web);
        return false;
    }
    if (!last)
        return true;
    struct edge_api_request req = {
        .method = ht_slice_str(c->method),
        .target = ht_buf_slice(&c->target),
        .body = ht_buf_slice(&c->body),
        .if_match = c->has_if_match ? ht_slice_str(c->if_match) : ht_slice_of(NULL, 0),
        .trusted = true,
        .authorized = true,
    };
    return respond(c, &req);
}

static bool refuse(struct web_conn *web, uint16_t status, const char *text) {
    struct edge_api_response res = {0};
    char extra[EXTRA];
    if (edge_api_reply_error(&res, status, "%s", text) < 0) {
        edge_api_response_free(&res);
        web_conn_close(web);
        return false;
    }
    struct web_reply r = reply_of(&res, extra);
    bool alive = web_reply(web, &r);
    edge_api_response_free(&res);
    return alive;
}

static const struct web_server_ops web_ops = {
    .request = request, .body = body, .refuse = refuse, .tick = tick, .drained = drained, .gone = gone};

/* ---- listening ---- */

static void take(struct edge_api *a, struct io_conn *conn, const struct io_addr *peer, bool local) {
    struct api_client *c = a->n_clients < CLIENTS ? ht_calloc(1, sizeof *c) : NULL;
    if (!c) {
        io_conn_close(&conn);
        return;
    }
    c->a = a;
    c->local = local;
    if (local) {
        snprintf(c->from, sizeof c->from, "unix");
        snprintf(c->who, sizeof c->who, "uid %u", (unsigned)io_conn_uid(conn));
    } else {
        io_addr_text(peer, c->from);
        snprintf(c->who, sizeof c->who, "token");
    }
    ht_list_push_back(&a->clients, &c->node);
    a->n_clients++;
    web_conn_begin(&c->web, a->cfg.loop, &a->web, conn);
}

static void accepted_local(void *ctx, struct io_conn *conn, const struct io_addr *peer) { take(ctx, conn, peer, true); }

static void accepted_port(void *ctx, struct io_conn *conn, const struct io_addr *peer) { take(ctx, conn, peer, false); }

static int listen_port(struct edge_api *a, struct ht_errmsg *err) {
    static const struct io_listener_ops ops = {.accepted = accepted_port};
    static const char *const names[] = {"127.0.0.1", "[::1]", "localhost"};
    struct io_addr at;
    if (!a->cfg.listen)
        return HT_OK;
    int rc = io_addr_parse_hostport(&at, a->cfg.listen, err);
    if (rc < 0)
        return rc;
    if (!io_addr_is_loopback(&at))
        return ht_fail(err, HT_EINVAL,
                       "--api %s: the API listens on addresses of this machine alone, as 127.0.0.1:8480",
                       a->cfg.listen);
    rc = io_listen(a->cfg.loop, &at, &ops, a, &a->port, err);
    if (rc < 0)
        return rc;
    io_listener_local(a->port, &at);
    io_addr_text(&at, a->authority[0]);
    for (size_t i = 0; i < HT_ARRAY_LEN(names); i++)
        snprintf(a->authority[i + 1], sizeof a->authority[i + 1], "%s:%u", names[i], io_addr_port(&at));
    ht_info("edge", "the API is at http://%s", a->authority[0]);
    return HT_OK;
}

int edge_api_start(struct edge_api **out, const struct edge_api_config *cfg, struct ht_errmsg *err) {
    static const struct io_listener_ops ops = {.accepted = accepted_local};
    struct edge_api *a = ht_calloc(1, sizeof *a);
    *out = NULL;
    if (!a)
        return ht_fail(err, HT_ENOMEM, "out of memory");
    a->cfg = *cfg;
    a->web = (struct web_server){
        .ops = &web_ops,
        .limits = {.max_head = MAX_HEAD, .max_headers = HTTP_MAX_HEADERS, .max_target = MAX_HEAD / 2},
        .head_timeout_ms = PATIENCE_MS,
        .body_timeout_ms = PATIENCE_MS,
        .keepalive_timeout_ms = KEEPALIVE_MS,
        .write_timeout_ms = WRITE_MS,
        .tick_ms = TICK_MS,
    };
    ht_list_init(&a->clients);
    io_task_init(&a->commit, on_commit);
    edge_state_on_commit(cfg->state, committed, a);
    int rc = edge_socket_listen(cfg->loop, cfg->folder, SOCKET, EDGE_SOCKET_FOR_OWN, &ops, a, &a->local, err);
    if (rc == HT_OK)
        rc = listen_port(a, err);
    if (rc < 0)
        edge_api_stop(&a);
    *out = a;
    return rc;
}

void edge_api_users_changed(struct edge_api *a) {
    HT_LIST_FOR_SAFE (it, &a->clients) {
        struct api_client *c = HT_LIST_ENTRY(it, struct api_client, node);
        if (!c->local && c->streams)
            web_conn_close(&c->web);
    }
}

void edge_api_stop(struct edge_api **ap) {
    struct edge_api *a = *ap;
    *ap = NULL;
    if (!a)
        return;
    edge_state_on_commit(a->cfg.state, NULL, NULL);
    io_task_cancel(&a->commit);
    io_listener_close(&a->local);
    io_listener_close(&a->port);
    HT_LIST_FOR_SAFE (it, &a->clients)
        web_conn_close(&HT_LIST_ENTRY(it, struct api_client, node)->web);
    ht_free(a);
}
