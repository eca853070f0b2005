/* Connections of the inspector: who may ask, which handler answers. */
#include "inspect/server_priv.h"

#include "base/clock.h"
#include "base/mem.h"
#include "page_gen.h"
#include "web/page.h"

#include <stdio.h>

#define MAX_HEAD 16384
#define PATIENCE_MS 10000
#define BODY_MS 10000
#define KEEPALIVE_MS 60000
#define WRITE_MS 30000
#define COMMENT_MS 15000

struct client *client_of(struct web_conn *web) {
    return ht_container_of(web, struct client, web);
}

const struct inspect_exchange *exchange_of(const struct inspect_server *s, const char *id) {
    uint64_t n = 0;
    for (const char *p = id; *p; p++) {
        if (*p < '0' || *p > '9' || (*p == '0' && p == id) || n > UINT64_MAX / 10 - 1)
            return NULL;
        n = n * 10 + (uint64_t)(*p - '0');
    }
    return inspect_store_get(s->cfg.store, n);
}

static void client_gone(struct web_conn *web) {
    struct client *c = client_of(web);
    feed_leave(c);
    replay_leave(c);
    har_import_drop(c);
    har_export_drop(c);
    io_timer_stop(&c->go_on);
    ht_buf_free(&c->target);
    ht_buf_free(&c->body);
    ht_list_remove(&c->node);
    c->s->n_clients--;
    ht_free(c);
}

/* ---- who may ask ---- */

/* Whether the Host is the address that the request came to, or on this machine one of its names. */
static bool is_ours(const struct client *c, struct ht_slice host) {
    struct io_addr at;
    char text[IO_ADDR_TEXT];
    bool ours = false;
    io_conn_local(c->web.io, &at);
    if (!io_addr_is_loopback(&at))
        return ht_slice_case_eq(host, ht_slice_str(io_addr_text(&at, text)));
    for (size_t i = 0; i < HT_ARRAY_LEN(c->s->authority); i++)
        ours = ours || ht_slice_case_eq(host, ht_slice_str(c->s->authority[i]));
    return ours;
}

/*
 * DNS rebinding: a page of another site can make a browser send requests here, but they carry the site's own name as
 * Host. Its Origin is the site's, too; and the token is never known to it.
 */
static bool is_trusted(const struct client *c) {
    struct ht_slice host = web_field(&c->web, "host"), origin = web_field(&c->web, "origin");
    static const char scheme[] = "http://";
    if (!is_ours(c, host))
        return false;
    if (origin.n == 0)
        return true;
    return origin.n > sizeof scheme - 1 && memcmp(origin.p, scheme, sizeof scheme - 1) == 0 &&
           ht_slice_case_eq(ht_slice_of(origin.p + sizeof scheme - 1, origin.n - (sizeof scheme - 1)), host);
}

static bool is_authorized(const struct client *c) {
    static const char scheme[] = "Bearer ";
    struct ht_slice v = web_field(&c->web, "authorization");
    size_t n = sizeof scheme - 1;
    return v.n > n && ht_slice_case_eq(ht_slice_of(v.p, n), ht_slice_str(scheme)) &&
           ht_const_time_eq(v.p + n, v.n - n, c->s->token, strlen(c->s->token));
}

/* ---- answers ---- */

static int page(void *ctx, const struct inspect_api_request *req, struct inspect_api_response *res) {
    (void)ctx, (void)req;
    inspect_api_reply_page_200(res);
    return HT_OK;
}

static const struct inspect_api_handlers handlers = {
    .page = page,
    .feed = feed_open,
    .state = api_state,
    .find = api_find,
    .clear = api_clear,
    .exchange = api_exchange,
    .body = api_body,
    .reveal = api_reveal,
    .frames = api_frames,
    .replay = replay_ask,
    .har_export = har_export,
    .har_import = har_import,
    .reconnect = api_reconnect,
};

static const char *headers_of(const struct inspect_api_response *res, char out[512]) {
    bool bytes = res->content_type && strcmp(res->content_type, "application/octet-stream") == 0;
    snprintf(out, 512, "%s%s%s%s%s%s", API_HEADERS,
             bytes ? "Content-Disposition: attachment\r\nContent-Security-Policy: sandbox\r\n"
                   : "Content-Security-Policy: default-src 'none'; frame-ancestors 'none'\r\n",
             res->allow ? "Allow: " : "", res->allow ? res->allow : "", res->allow ? "\r\n" : "",
             res->www_authenticate ? "WWW-Authenticate: Bearer\r\n" : "");
    return out;
}

static struct web_reply reply_of(const struct inspect_api_response *res, char extra[512]) {
    return (struct web_reply){
        .status = (uint16_t)res->status,
        .type = res->content_type,
        .body = ht_buf_slice(&res->body),
        .extra = headers_of(res, extra),
    };
}

void client_answer(struct client *c, struct inspect_api_response *res) {
    char extra[512];
    struct web_reply r = reply_of(res, extra);
    c->role = CLIENT_PLAIN;
    web_answer(&c->web, &r);
    inspect_api_response_free(res);
}

static bool respond(struct client *c, struct inspect_api_request *req) {
    struct inspect_api_response res = {0};
    char extra[512];
    c->role = CLIENT_PLAIN;
    if (inspect_api_dispatch(&handlers, c, req, &res) < 0) {
        inspect_api_response_free(&res);
        web_conn_close(&c->web);
        return false;
    }
    bool page_wanted = req->route && req->route->op == INSPECT_API_OP_PAGE && res.status == 200;
    struct web_reply r = reply_of(&res, extra);
    bool alive;
    if (page_wanted)
        alive = web_page_reply(&c->web, &web_page_inspector);
    else if (c->role == CLIENT_FEED)
        alive = web_stream(&c->web, &r) && feed_join(c);
    else if (c->role == CLIENT_EXPORT)
        alive = web_stream(&c->web, &r) && har_export_more(c);
    else if (c->role == CLIENT_IMPORT || c->role == CLIENT_REPLAY)
        alive = web_later(&c->web);
    else
        alive = web_reply(&c->web, &r);
    inspect_api_response_free(&res);
    return alive;
}

/* ---- requests ---- */

/* Keeps what is needed of a head until its body has come. */
static bool keep(struct client *c, const struct inspect_api_request *req, const struct inspect_api_route *route) {
    ht_buf_free(&c->target);
    ht_buf_free(&c->body);
    snprintf(c->method, sizeof c->method, "%.*s", HT_SLICE_ARG(req->method));
    uint64_t n = ht_min(c->web.head.content_length, route->max_body);
    if (ht_buf_append(&c->target, req->target.p, req->target.n) < 0 || (n && !ht_buf_reserve(&c->body, (size_t)n))) {
        web_conn_close(&c->web);
        return false;
    }
    return web_take_body(&c->web, route->max_body);
}

static bool request(struct web_conn *web) {
    struct client *c = client_of(web);
    struct inspect_api_request req = {
        .method = http_text(web_bytes(web), web->head.method),
        .target = http_text(web_bytes(web), web->head.path),
        .trusted = is_trusted(c),
        .authorized = is_authorized(c),
    };
    int status;
    const struct inspect_api_route *route = inspect_api_route_match(req.method, req.target, &req.params, &status);
    if (req.trusted && req.authorized && route && route->max_body)
        return keep(c, &req, route);
    return respond(c, &req);
}

static bool body(struct web_conn *web, struct ht_slice piece, bool last) {
    struct client *c = client_of(web);
    if (ht_buf_append(&c->body, piece.p, piece.n) < 0) {
        web_conn_close(web);
        return false;
    }
    if (!last)
        return true;
    struct inspect_api_request req = {
        .method = ht_slice_str(c->method),
        .target = ht_buf_slice(&c->target),
        .body = ht_buf_slice(&c->body),
        .trusted = true,
        .authorized = true,
    };
    bool alive = respond(c, &req);
    if (alive && c->role != CLIENT_IMPORT) /* which reads it on */
        ht_buf_free(&c->body);
    return alive;
}

static bool refuse(struct web_conn *web, uint16_t status, const char *text) {
    struct inspect_api_response res = {0};
    char extra[512];
    if (inspect_api_reply_error(&res, status, "%s", text) < 0) {
        inspect_api_response_free(&res);
        web_conn_close(web);
        return false;
    }
    struct web_reply r = reply_of(&res, extra);
    bool alive = web_reply(web, &r);
    inspect_api_response_free(&res);
    return alive;
}

static void tick(struct web_conn *web) {
    struct client *c = client_of(web);
    if (c->role != CLIENT_FEED)
        return;
    if (ht_buf_append_str(&web->out.queue, ":\n\n") < 0)
        web_conn_close(web);
    else
        web_conn_flush(web);
}

static void drained(struct web_conn *web) {
    struct client *c = client_of(web);
    if (c->role == CLIENT_FEED)
        feed_drained(c);
    else if (c->role == CLIENT_EXPORT && har_export_more(c))
        web_conn_flush(web);
}

static const struct web_server_ops web_ops = {
    .request = request, .body = body, .refuse = refuse, .tick = tick, .drained = drained, .gone = client_gone};

/* ---- the listener ---- */

static void accepted(void *ctx, struct io_conn *conn, const struct io_addr *peer) {
    struct inspect_server *s = ctx;
    (void)peer;
    struct client *c = s->n_clients < INSPECT_CLIENTS ? ht_calloc(1, sizeof *c) : NULL;
    if (!c) {
        io_conn_close(&conn);
        return;
    }
    c->s = s;
    ht_list_init(&c->reader);
    ht_list_push_back(&s->clients, &c->node);
    s->n_clients++;
    web_conn_begin(&c->web, s->cfg.loop, &s->web, conn);
}

static const struct io_listener_ops listener_ops = {.accepted = accepted};

static int start(struct inspect_server *s, struct ht_errmsg *err) {
    static const char *const names[] = {"127.0.0.1", "[::1]", "localhost"};
    struct io_addr at;
    s->host = ht_strndup(s->cfg.host, strlen(s->cfg.host));
    s->token = ht_strndup(s->cfg.token, strlen(s->cfg.token));
    if (!s->host || !s->token || replay_init(s) < 0)
        return ht_fail(err, HT_ENOMEM, "out of memory");
    if (io_addr_parse(&at, s->host, s->cfg.port) < 0)
        return ht_fail(err, HT_EADDR, "\"%s\" is no address", s->host);
    int rc = io_listen(s->cfg.loop, &at, &listener_ops, s, &s->listener, err);
    if (rc < 0)
        return rc;
    for (size_t i = 0; i < HT_ARRAY_LEN(names); i++)
        snprintf(s->authority[i], sizeof s->authority[i], "%s:%u", names[i], inspect_server_port(s));
    return HT_OK;
}

int inspect_server_start(struct inspect_server **out, const struct inspect_server_config *cfg, struct ht_errmsg *err) {
    struct inspect_server *s = ht_calloc(1, sizeof *s);
    *out = NULL;
    if (!s)
        return ht_fail(err, HT_ENOMEM, "out of memory");
    s->cfg = *cfg;
    s->web = (struct web_server){
        .ops = &web_ops,
        .limits = {.max_head = MAX_HEAD, .max_headers = HTTP_MAX_HEADERS, .max_target = MAX_HEAD / 2},
        .head_timeout_ms = PATIENCE_MS,
        .body_timeout_ms = BODY_MS,
        .keepalive_timeout_ms = KEEPALIVE_MS,
        .write_timeout_ms = WRITE_MS,
        .tick_ms = COMMENT_MS,
    };
    ht_list_init(&s->clients);
    ht_list_init(&s->replays);
    feed_start(s);
    int rc = start(s, err);
    if (rc < 0)
        inspect_server_stop(&s);
    *out = s;
    return rc;
}

void inspect_server_stop(struct inspect_server **sp) {
    struct inspect_server *s = *sp;
    *sp = NULL;
    if (!s)
        return;
    io_listener_close(&s->listener);
    HT_LIST_FOR_SAFE (it, &s->clients)
        web_conn_close(&HT_LIST_ENTRY(it, struct client, node)->web);
    replay_end(s);
    feed_stop(s);
    ht_free(s->host);
    if (s->token)
        explicit_bzero(s->token, strlen(s->token));
    ht_free(s->token);
    ht_free(s);
}

uint16_t inspect_server_port(const struct inspect_server *s) {
    struct io_addr at;
    io_listener_local(s->listener, &at);
    return io_addr_port(&at);
}

void inspect_server_link_changed(struct inspect_server *s) {
    if (s)
        feed_tell_link(s);
}

void inspect_server_bindings_changed(struct inspect_server *s) {
    if (s)
        feed_tell_bindings(s);
}
