/*
 * The HTTP server of the base listener. A request for the connect path becomes a WebSocket, and so does one of a
 * vtunnel client; everything else goes to the admin API. Heads have at most 8 KiB.
 */
#include "kit/kit_priv.h"

#include "base/log.h"
#include "base/mem.h"
#include "log_gen.h"
#include "page_gen.h"

#include <stdio.h>

#define MAX_HEAD 8192
#define WRITE_TIMEOUT_MS 30000

static struct base_client *client_of(struct web_conn *c) { return ht_container_of(c, struct base_client, web); }

static void client_free(struct base_client *c) {
    struct kit *k = c->kit;
    io_timer_stop(&c->first_timer);
    events_end(c);
    crowd_leave(&k->clients, &c->member);
    ht_free(c);
    if (k->draining || k->leaving)
        kit_reap_later(k);
}

static void client_gone(struct web_conn *web) { client_free(client_of(web)); }

void base_client_close(struct base_client *c) {
    if (!c->outside) {
        web_conn_close(&c->web);
        return;
    }
    io_conn_close(&c->first);
    kit_handshake_cancel(&c->handshake);
    client_free(c);
}

void base_clients_close(struct kit *k, enum base_close which) {
    HT_LIST_FOR_SAFE (it, &k->clients.members) {
        struct base_client *c = HT_LIST_ENTRY(it, struct base_client, member.node);
        bool reader = c->web.state == WEB_STREAM;
        if (which == BASE_CLOSE_QUIET && reader)
            continue;
        if (which != BASE_CLOSE_ALL && web_conn_busy(&c->web))
            c->web.close_after = true;
        else
            base_client_close(c);
    }
}

void base_clients_finish(struct kit *k) {
    HT_LIST_FOR_SAFE (it, &k->clients.members) {
        struct base_client *c = HT_LIST_ENTRY(it, struct base_client, member.node);
        if (c->web.state == WEB_STREAM)
            base_client_close(c);
        else if (web_conn_busy(&c->web) || c->web.state > WEB_HEAD)
            c->web.close_after = true; /* of the others no request is there yet: its answer says so (request()) */
    }
}

void base_readers_of_gone(struct kit *k) {
    HT_LIST_FOR_SAFE (it, &k->readers.members) {
        struct base_client *c = HT_LIST_ENTRY(it, struct base_client, reader.node);
        if (kit_pass_gone(c->pass))
            web_conn_close(&c->web);
    }
}

/* web_server_ops.upgraded: the 101 was written. The WebSocket takes the connection, and the client is freed. */
static void hand_over(struct web_conn *web) {
    struct base_client *c = client_of(web);
    struct kit *k = c->kit;
    if (!sock_room(k, c->user, &c->from)) {
        /* Rule HELLO-6: the connection is closed after the 101, without a close frame. */
        k->metrics.handshake_failures_total[HT_METRIC_HANDSHAKE_FAILURE_PRE_AUTH_CAP]++;
        ht_log_stranger(HT_LOG_WARN, "kit",
                        HT_LOG_FIELDS(log_peer(c->peer), log_count(k->opt->max_pre_auth_connections)),
                        "too many WebSockets before HELLO (--max-pre-auth-connections), closed");
        web_conn_close(web);
        return;
    }
    struct sock_facts facts = {.version = c->upgraded_to,
                               .user = c->user,
                               .pass = c->pass,
                               .from = c->from,
                               .vtunnel = c->vtunnel,
                               .tls = c->https};
    sock_open(k, &facts, web_conn_take(web), ht_buf_slice(&web->in));
    web_conn_close(web);
}

/* Answers with an error and closes the connection behind it. `text` is static and needs no escaping in JSON. */
static bool refuse(struct base_client *c, uint16_t status, const char *text, const char *extra) {
    char body[384];
    int n = snprintf(body, sizeof body, "{\"error\":\"%s\"}\n", text);
    c->web.close_after = true;
    return web_reply(&c->web, &(struct web_reply){.status = status,
                                                  .type = "application/json",
                                                  .body = ht_slice_of(body, (size_t)n),
                                                  .extra = extra});
}

static bool refuse_head(struct web_conn *c, uint16_t status, const char *text) {
    return refuse(client_of(c), status, text, NULL);
}

static bool refuse_handshake(struct base_client *c, enum ht_metric_handshake_failure why, uint16_t status,
                             const char *text, const char *extra) {
    c->kit->metrics.handshake_failures_total[why]++;
    ht_log_with(HT_LOG_DEBUG, "kit", HT_LOG_FIELDS(log_peer(c->peer), log_status(status), log_reason(text)),
                "upgrade refused");
    return refuse(c, status, text, extra);
}

static struct ht_slice field(const struct base_client *c, const char *name) { return web_field(&c->web, name); }

/* The host part of "host", "host:port", "[v6]" or "[v6]:port". */
static struct ht_slice host_part(struct ht_slice s) {
    if (s.n && s.p[0] == '[') {
        const char *end = memchr(s.p, ']', s.n);
        return end ? ht_slice_of(s.p + 1, (size_t)(end - s.p) - 1) : s;
    }
    const char *colon = s.n ? memchr(s.p, ':', s.n) : NULL;
    return colon ? ht_slice_of(s.p, (size_t)(colon - s.p)) : s;
}

static bool is_loopback_name(struct ht_slice host) {
    char text[64];
    struct io_addr a;
    if (io_host_is_localhost(host))
        return true;
    if (host.n == 0 || host.n >= sizeof text)
        return false;
    memcpy(text, host.p, host.n);
    text[host.n] = '\0';
    return io_addr_parse(&a, text, 1) == 0 && io_addr_is_loopback(&a);
}

/* The token of "Bearer <token>"; empty when there is none. */
static struct ht_slice bearer(const struct base_client *c) {
    struct ht_slice v = field(c, "authorization");
    if (v.n <= 7 || !ht_slice_case_eq(ht_slice_of(v.p, 7), ht_slice_str("Bearer ")))
        return ht_slice_of(NULL, 0);
    v = ht_slice_of(v.p + 7, v.n - 7);
    while (v.n && *v.p == ' ') {
        v.p++;
        v.n--;
    }
    return v;
}

/*
 * Hardening case 24, DNS rebinding: a page of another site can make a browser send requests to a loopback address, but
 * they carry the site's own name as Host. Behind a trusted proxy the proxy decides which names there are. A page cannot
 * know the token, so a request that shows it does not come from one; and a tunnel needs it, here or in HELLO.
 */
static bool host_allowed(const struct base_client *c, struct ht_slice path) {
    struct kit *k = c->kit;
    if (c->is_public || !io_addr_is_loopback(&k->listen_addr) || k->opt->n_trusted_proxy > 0)
        return true;
    if (k->has_token && (ht_slice_is(path, WIRE_CONNECT_PATH) || kit_user_of_token(k, bearer(c))))
        return true;
    return is_loopback_name(host_part(field(c, "host")));
}

/*
 * Hardening case 24, cross-site requests: a browser puts the page's origin on every WebSocket handshake and on every
 * request that changes something. "null" is an opaque origin. Browsers write nothing but that and scheme://authority,
 * so any other value is let through: the runtime of one published driver sends the bare word "client".
 */
static bool origin_allowed(const struct base_client *c) {
    struct ht_slice origin = field(c, "origin");
    if (origin.n == 0)
        return true;
    if (ht_slice_is(origin, "null"))
        return false;
    const char *sep = memmem(origin.p, origin.n, "://", 3);
    if (!sep)
        return true;
    struct ht_slice authority = ht_slice_of(sep + 3, origin.n - (size_t)(sep + 3 - origin.p));
    return ht_slice_case_eq(authority, field(c, "host"));
}

/* People who put a proxy in front of the kit meet this answer first, so it says which option to set. */
static bool refuse_host(struct base_client *c) {
    c->kit->metrics.base_requests_refused_total[HT_METRIC_REFUSAL_HOST]++;
    ht_log_stranger(HT_LOG_WARN, "kit", HT_LOG_FIELDS(log_peer(c->peer), log_target_slice(field(c, "host"))),
                    "a request was refused because its Host is not a name of this machine; behind a proxy on this "
                    "machine set --trusted-proxy 127.0.0.1, or a token");
    return refuse(c, 403,
                  "Host is not a loopback name; behind a proxy on this machine start the kit with --trusted-proxy "
                  "127.0.0.1, or with a token that the driver shows",
                  NULL);
}

/* Counts and logs a request whose token is wrong, or which has none where one is needed. */
static void note_bad_token(struct base_client *c, enum ht_metric_shown_at where) {
    bool shown = field(c, "authorization").n > 0;
    enum ht_metric_token token = shown ? HT_METRIC_TOKEN_WRONG : HT_METRIC_TOKEN_MISSING;
    c->kit->metrics.auth_failures_total[where][token]++;
    ht_log_stranger(HT_LOG_WARN, "kit", HT_LOG_FIELDS(log_peer(c->peer), log_target_slice(web_path(&c->web))),
                    shown ? "a wrong token was shown" : "a request came without the token");
}

/* Rule CONN-3: the first of the offered versions that we speak. */
static enum wire_version choose_version(struct ht_slice offered) {
    struct ht_slice item;
    while (http_list_next(&offered, &item)) {
        enum wire_version v = wire_version_from(item);
        if (v != WIRE_VERSION_UNKNOWN)
            return v;
    }
    return WIRE_VERSION_UNKNOWN;
}

static bool upgrade(struct base_client *c) {
    struct kit *k = c->kit;
    struct ht_slice key, offered;
    struct ht_buf scratch = {0};
    struct http_error e = {400, "bad request"};
    if (k->draining)
        return refuse_handshake(c, HT_METRIC_HANDSHAKE_FAILURE_SESSION_CAP, 503, "the kit shuts down",
                                "Retry-After: 5\r\n");
    struct kit_pass *pass = kit_pass_of_token(k, bearer(c));
    if (!pass && !origin_allowed(c))
        return refuse_handshake(c, HT_METRIC_HANDSHAKE_FAILURE_UNTRUSTED, 403, "this origin may not open a tunnel",
                                NULL);
    if (ws_check_request(&c->web.head, web_bytes(&c->web), &key, &offered, &scratch, &e) < 0) {
        ht_buf_free(&scratch);
        return refuse_handshake(c, HT_METRIC_HANDSHAKE_FAILURE_UPGRADE, e.status, e.text,
                                e.status == 426   ? "Sec-WebSocket-Version: 13\r\nUpgrade: websocket\r\n"
                                : e.status == 405 ? "Allow: GET\r\n"
                                                  : NULL);
    }
    enum wire_version version = choose_version(offered);
    ht_buf_free(&scratch);
    if (version == WIRE_VERSION_UNKNOWN)
        return refuse_handshake(c, HT_METRIC_HANDSHAKE_FAILURE_SUBPROTOCOL, 400,
                                "Sec-WebSocket-Protocol offers no subprotocol that this kit speaks", NULL);
    if (k->has_token && !pass && field(c, "authorization").n) {
        note_bad_token(c, HT_METRIC_SHOWN_AT_CONNECT);
        return refuse_handshake(c, HT_METRIC_HANDSHAKE_FAILURE_AUTH, 401, "the token is wrong",
                                "WWW-Authenticate: Bearer\r\n");
    }
    c->upgraded_to = version;
    c->user = pass ? pass->user : NULL;
    c->pass = pass;
    return web_upgrade(&c->web, ws_write_101(&c->web.out.queue, key, wire_version_text(version)));
}

/* The token in the URL of an upgrade, for clients that can set no header (VCONN-2). Empty when there is none. */
static struct ht_slice token_in_url(const struct base_client *c, char out[WIRE_LIMIT_MAX_TOKEN + 1]) {
    static const char name[] = "token=";
    struct ht_slice target = http_text(web_bytes(&c->web), c->web.head.target);
    const char *p = target.n ? memchr(target.p, '?', target.n) : NULL, *end = target.p + target.n;
    size_t n = 0;
    while (p && (size_t)(end - p - 1) >= sizeof name - 1 && memcmp(p + 1, name, sizeof name - 1) != 0)
        p = memchr(p + 1, '&', (size_t)(end - p - 1));
    if (!p || (size_t)(end - p) < sizeof name)
        return ht_slice_of(NULL, 0);
    for (p += sizeof name; p < end && *p != '&' && n < WIRE_LIMIT_MAX_TOKEN; p++) {
        unsigned byte;
        char hex[3] = {end - p > 2 ? p[1] : '\0', end - p > 2 ? p[2] : '\0', '\0'};
        bool escaped = *p == '%' && strspn(hex, "0123456789abcdefABCDEF") == 2 && sscanf(hex, "%2x", &byte) == 1;
        out[n++] = escaped ? (char)byte : *p;
        p += escaped ? 2 : 0;
    }
    return ht_slice_of(out, n);
}

/* A vtunnel client offers no subprotocol, and may use any path (VCONN-1). */
static bool is_vtunnel(const struct base_client *c) {
    return c->kit->opt->vtunnel && c->web.head.flags & HTTP_UPGRADE_WEBSOCKET &&
           field(c, "sec-websocket-protocol").n == 0;
}

static bool upgrade_vtunnel(struct base_client *c) {
    struct kit *k = c->kit;
    struct ht_slice key, offered;
    struct ht_buf scratch = {0};
    struct http_error e = {400, "bad request"};
    char text[WIRE_LIMIT_MAX_TOKEN + 1];
    struct kit_pass *shown = kit_pass_of_token(k, bearer(c));
    if (!shown)
        shown = kit_pass_of_token(k, token_in_url(c, text));
    explicit_bzero(text, sizeof text);
    if (!shown && !host_allowed(c, ht_slice_str("")))
        return refuse_host(c);
    if (k->draining)
        return refuse_handshake(c, HT_METRIC_HANDSHAKE_FAILURE_SESSION_CAP, 503, "the kit shuts down",
                                "Retry-After: 5\r\n");
    if (!shown && !origin_allowed(c))
        return refuse_handshake(c, HT_METRIC_HANDSHAKE_FAILURE_UNTRUSTED, 403, "this origin may not open a tunnel",
                                NULL);
    if (ws_check_request(&c->web.head, web_bytes(&c->web), &key, &offered, &scratch, &e) < 0) {
        ht_buf_free(&scratch);
        return refuse_handshake(c, HT_METRIC_HANDSHAKE_FAILURE_UPGRADE, e.status, e.text,
                                e.status == 426 ? "Sec-WebSocket-Version: 13\r\nUpgrade: websocket\r\n" : NULL);
    }
    if (k->has_token && !shown) {
        note_bad_token(c, HT_METRIC_SHOWN_AT_CONNECT);
        return refuse_handshake(c, HT_METRIC_HANDSHAKE_FAILURE_AUTH, 401,
                                "the token is wrong or missing: Authorization: Bearer, or ?token= in the URL",
                                "WWW-Authenticate: Bearer\r\n");
    }
    c->upgraded_to = WIRE_V1;
    c->vtunnel = true;
    c->user = shown ? shown->user : NULL;
    c->pass = shown;
    return web_upgrade(&c->web, ws_write_101(&c->web.out.queue, key, NULL));
}

static bool refuse_tries(struct base_client *c, unsigned wait_s) {
    char extra[64];
    snprintf(extra, sizeof extra, "Retry-After: %u\r\n", wait_s);
    return refuse(c, 429, "too many wrong tokens came from this address; wait a minute", extra);
}

static bool send_answer(struct base_client *c, const struct admin_response *rs) {
    char extra[256];
    snprintf(extra, sizeof extra, "%s%s%s%s%s%s", rs->allow ? "Allow: " : "", rs->allow ? rs->allow : "",
             rs->allow ? "\r\n" : "", rs->www_authenticate ? "WWW-Authenticate: " : "",
             rs->www_authenticate ? rs->www_authenticate : "", rs->www_authenticate ? "\r\n" : "");
    return web_reply(&c->web, &(struct web_reply){.status = (uint16_t)rs->status,
                                                  .type = rs->content_type,
                                                  .body = ht_buf_slice(&rs->body),
                                                  .extra = extra});
}

static bool ask_admin(struct base_client *c) {
    const char *buf = web_bytes(&c->web);
    struct kit_pass *shown = kit_pass_of_token(c->kit, bearer(c));
    struct kit_user *user = shown ? shown->user : kit_user_of_nobody(c->kit);
    struct admin_request rq = {
        .method = http_text(buf, c->web.head.method),
        .target = http_text(buf, c->web.head.path),
        .user_agent = field(c, "user-agent"),
        .trusted = true,
        .authorized = user != NULL,
        .viewer = kit_viewer(user),
    };
    struct admin_response rs = {0};
    char url[PAGE_URL_TEXT];
    rq.url = page_url(c, url);
    bool head_request = ht_slice_is(rq.method, "HEAD");
    if (!shown && !head_request && !ht_slice_is(rq.method, "GET") && !origin_allowed(c))
        return refuse(c, 403, "this origin may not change anything", NULL);
    c->kit->asked_by = c->peer;
    int rc = admin_serve(&c->kit->admin, &rq, &rs);
    c->kit->asked_by = NULL;
    if (rc < 0) {
        admin_response_free(&rs);
        return refuse(c, 500, "out of memory", NULL);
    }
    /* At a public address strangers get the status page itself, and nothing about the process. */
    if (c->is_public && !user && rs.status == 200 && !admin_is_page(&rq, &rs)) {
        admin_response_free(&rs);
        return refuse(c, 404, "no such path", NULL);
    }
    if (rs.status == 401)
        note_bad_token(c, HT_METRIC_SHOWN_AT_API);
    unsigned wait = rq.route && rq.route->op == ADMIN_OP_ME
                        ? page_must_wait(c, rs.status == 401 && field(c, "authorization").n)
                        : 0;
    if (wait) {
        admin_response_free(&rs);
        return refuse_tries(c, wait);
    }
    if (admin_is_page(&rq, &rs)) {
        admin_response_free(&rs);
        /* To a driver whose URL lacks the path, a page with status 200 would say nothing. */
        if (c->web.head.flags & HTTP_UPGRADE_WEBSOCKET)
            return refuse(c, 404, "no such path; a tunnel is opened at " WIRE_CONNECT_PATH, NULL);
        return web_page_reply(&c->web, &web_page_status);
    }
    if (admin_is_stream(&rq, &rs)) {
        admin_response_free(&rs);
        c->user = user;
        c->pass = shown;
        return events_begin(c, rq.params.samples == 1);
    }
    bool alive = send_answer(c, &rs);
    admin_response_free(&rs);
    return alive;
}

static bool request(struct web_conn *web) {
    struct base_client *c = client_of(web);
    struct ht_slice path = web_path(web);
    const char *why;
    uint16_t refused = c->is_public ? page_refuses(c, &why) : 0;
    if (refused)
        return refuse(c, refused, why, NULL);
    if (is_vtunnel(c))
        return upgrade_vtunnel(c);
    if (!host_allowed(c, path))
        return refuse_host(c);
    if (ht_slice_is(path, WIRE_CONNECT_PATH)) {
        if (http_request_body(&web->head) != HTTP_BODY_NONE)
            return refuse_handshake(c, HT_METRIC_HANDSHAKE_FAILURE_UPGRADE, 400, "an upgrade has no body", NULL);
        return upgrade(c);
    }
    web->close_after = web->close_after || c->kit->draining || c->kit->leaving;
    return ask_admin(c);
}

static void heartbeat(struct web_conn *c) { events_heartbeat(client_of(c)); }

static const struct web_server_ops server_ops = {
    .request = request,
    .refuse = refuse_head,
    .tick = heartbeat,
    .upgraded = hand_over,
    .gone = client_gone,
};

void base_set_up(struct kit *k) {
    crowd_init(&k->clients);
    k->web = (struct web_server){
        .ops = &server_ops,
        .limits = {MAX_HEAD, HTTP_MAX_HEADERS, MAX_HEAD},
        .head_timeout_ms = k->opt->head_timeout_ms,
        .keepalive_timeout_ms = k->opt->keepalive_timeout_ms,
        .write_timeout_ms = WRITE_TIMEOUT_MS,
        .tick_ms = EVENTS_HEARTBEAT_MS,
    };
}

/* ---- accepted connections ---- */

static void come_in(struct base_client *c, struct io_conn *conn) {
    c->outside = false;
    web_conn_begin(&c->web, c->kit->loop, &c->kit->web, conn);
}

static void handshake_done(struct kit_handshake *h, struct io_conn *conn) {
    struct base_client *c = ht_container_of(h, struct base_client, handshake);
    c->https = true;
    if (conn)
        come_in(c, conn);
    else
        base_client_close(c);
}

static void handshake_begin(struct base_client *c, struct io_conn *conn) {
    c->handshake = (struct kit_handshake){.kit = c->kit, .peer = c->peer, .done = handshake_done};
    if (!kit_handshake_begin(&c->handshake, conn))
        base_client_close(c);
}

#define TLS_HANDSHAKE 0x16 /* the first byte of a client that speaks TLS (RFC 8446 5.1) */

/* A program on this machine may speak plain HTTP even to a kit with TLS: nobody can listen in between. */
static void first_byte(void *ctx) {
    struct base_client *c = ctx;
    int first = io_conn_peek(c->first);
    if (first == HT_EAGAIN)
        return;
    if (first < 0) {
        base_client_close(c);
        return;
    }
    struct io_conn *conn = c->first;
    c->first = NULL;
    io_timer_stop(&c->first_timer);
    io_conn_set_ops(conn, NULL, NULL);
    io_conn_read_on(conn, false);
    if (first == TLS_HANDSHAKE)
        handshake_begin(c, conn);
    else
        come_in(c, conn);
}

static const struct io_conn_ops first_ops = {.readable = first_byte};

static void first_late(struct io_timer *t) { base_client_close(ht_container_of(t, struct base_client, first_timer)); }

/* NULL: out of memory; the connection was closed. */
static struct base_client *client_new(struct kit *k, struct io_conn *conn, const struct io_addr *peer) {
    struct base_client *c = ht_calloc(1, sizeof *c);
    if (!c) {
        io_conn_close(&conn);
        return NULL;
    }
    c->kit = k;
    ht_list_init(&c->reader.node);
    c->from = *peer;
    io_addr_text(peer, c->peer);
    crowd_join(&k->clients, &c->member, crowd_by_address(peer));
    return c;
}

void base_client_adopt(void *kit, struct io_conn *conn, const struct io_addr *peer, struct ht_buf *said, bool https) {
    struct kit *k = kit;
    base_make_room(k);
    struct base_client *c = client_new(k, conn, peer);
    if (!c)
        return;
    c->is_public = true;
    c->https = https;
    web_conn_adopt(&c->web, k->loop, &k->web, conn, said);
}

void base_client_begin(struct kit *k, struct io_conn *conn, const struct io_addr *peer) {
    struct base_client *c = client_new(k, conn, peer);
    if (!c)
        return;
    c->outside = k->tls != NULL;
    if (!k->tls) {
        come_in(c, conn);
    } else if (!io_addr_is_loopback(peer)) {
        handshake_begin(c, conn);
    } else {
        c->first = conn;
        io_timer_init(k->loop, &c->first_timer, first_late);
        io_timer_set(&c->first_timer, k->opt->head_timeout_ms);
        io_conn_set_ops(conn, &first_ops, c);
        io_conn_read_on(conn, true);
    }
}
