/*
 * The small HTTP server of the base listener: heads of at most 8 KiB, no bodies, one request after another. An upgrade
 * of the connect path becomes a WebSocket, everything else goes to the admin API.
 */
#include "kit/kit_priv.h"

#include "base/log.h"
#include "base/mem.h"
#include "log_gen.h"

#include <stdio.h>

#define MAX_HEAD 8192
#define LINGER_MS 1000
#define WRITE_TIMEOUT_MS 30000

void base_client_close(struct base_client *c) {
    events_end(c);
    crowd_leave(&c->kit->clients, &c->member);
    io_timer_stop(&c->timer);
    io_conn_close(&c->conn);
    ht_buf_free(&c->in);
    ht_buf_free(&c->out);
    struct kit *k = c->kit;
    ht_free(c);
    if (k->draining)
        kit_reap_later(k);
}

bool base_client_busy(const struct base_client *c) { return ht_buf_size(&c->out) > 0; }

void base_clients_close(struct kit *k, enum base_close which) {
    HT_LIST_FOR_SAFE (it, &k->clients.members) {
        struct base_client *c = HT_LIST_ENTRY(it, struct base_client, member.node);
        if ((which == BASE_CLOSE_QUIET && c->reader) || (which == BASE_CLOSE_READERS && !c->reader))
            continue;
        if (which != BASE_CLOSE_ALL && base_client_busy(c))
            c->close_after = true;
        else
            base_client_close(c);
    }
}

/* Starts over for the next request; its head timeout begins with its first byte. */
static void next_head(struct base_client *c) {
    struct http_limits limits = {MAX_HEAD, HTTP_MAX_HEADERS, MAX_HEAD};
    http_request_begin(&c->head, &limits);
    c->in_head = false;
    io_timer_set(&c->timer, c->kit->opt->keepalive_timeout_ms);
    io_conn_read_on(c->conn, true);
}

/* The 101 has left: the connection goes on as a WebSocket, and the client is gone. */
static void hand_over(struct base_client *c) {
    struct kit *k = c->kit;
    struct io_addr peer;
    io_conn_peer(c->conn, &peer);
    if (!sock_room(k, c->authorized, &peer)) {
        /* Rule HELLO-6: upgraded and dropped, without a close code. */
        k->metrics.handshake_failures_total[HT_METRIC_HANDSHAKE_FAILURE_PRE_AUTH_CAP]++;
        ht_log_stranger(HT_LOG_WARN, "kit",
                        HT_LOG_FIELDS(log_peer(c->peer), log_count(k->opt->max_pre_auth_connections)),
                        "too many WebSockets before HELLO (--max-pre-auth-connections), closed");
        base_client_close(c);
        return;
    }
    struct io_conn *conn = c->conn;
    c->conn = NULL;
    sock_open(k, conn, c->upgraded_to, c->authorized, ht_buf_slice(&c->in));
    base_client_close(c);
}

bool base_client_flush(struct base_client *c) {
    while (base_client_busy(c)) {
        struct iovec iov = {ht_buf_head(&c->out), ht_buf_size(&c->out)};
        ssize_t n = io_conn_write(c->conn, &iov, 1);
        if (n == HT_EAGAIN) {
            /* A client that does not read its answers gets no more of them: reading stops until this one is out. */
            io_conn_read_on(c->conn, false);
            io_conn_want_write(c->conn, true);
            io_timer_set(&c->timer, WRITE_TIMEOUT_MS);
            return true;
        }
        if (n < 0) {
            base_client_close(c);
            return false;
        }
        ht_buf_consume(&c->out, (size_t)n);
    }
    io_conn_want_write(c->conn, false);
    ht_buf_free(&c->out);
    if (c->upgraded_to != WIRE_VERSION_UNKNOWN && !c->close_after) {
        hand_over(c);
        return false;
    }
    if (!c->close_after)
        return true;
    io_conn_close_lingering(&c->conn, LINGER_MS);
    base_client_close(c);
    return false;
}

/* Appends an answer. `extra`: header lines, each with its CRLF, or NULL. False: out of memory, the client is gone. */
static bool put_answer(struct base_client *c, uint16_t status, const char *type, struct ht_slice body,
                       const char *extra, bool no_body) {
    struct ht_buf *b = &c->out;
    int rc = http_write_status(b, 1, status, ht_slice_of(NULL, 0));
    if (!rc && type)
        rc = http_write_field(b, ht_slice_str("Content-Type"), ht_slice_str(type));
    if (!rc)
        rc = http_write_content_length(b, body.n);
    if (!rc && extra)
        rc = ht_buf_append_str(b, extra);
    if (!rc && c->close_after)
        rc = ht_buf_append_str(b, "Connection: close\r\n");
    if (!rc)
        rc = http_write_end(b);
    if (!rc && !no_body)
        rc = ht_buf_append(b, body.p, body.n);
    if (!rc)
        return true;
    base_client_close(c);
    return false;
}

/* An error of ours; the connection closes behind it. `text` is static and needs no escaping. Always false: the caller
 * must not go on with this client's input. */
static bool refuse(struct base_client *c, uint16_t status, const char *text, const char *extra) {
    char body[384];
    int n = snprintf(body, sizeof body, "{\"error\":\"%s\"}\n", text);
    c->close_after = true;
    if (put_answer(c, status, "application/json", ht_slice_of(body, (size_t)n), extra, false))
        base_client_flush(c);
    return false;
}

static bool refuse_handshake(struct base_client *c, enum ht_metric_handshake_failure why, uint16_t status,
                             const char *text, const char *extra) {
    c->kit->metrics.handshake_failures_total[why]++;
    ht_log_with(HT_LOG_DEBUG, "kit", HT_LOG_FIELDS(log_peer(c->peer), log_status(status), log_reason(text)),
                "upgrade refused");
    return refuse(c, status, text, extra);
}

static struct ht_slice field(const struct base_client *c, const char *name) {
    const char *buf = (const char *)ht_buf_head(&c->in);
    const struct http_field *f = http_field_find(&c->head, buf, name);
    return f ? http_text(buf, f->value) : ht_slice_of(NULL, 0);
}

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
    static const char suffix[] = ".localhost";
    char text[64];
    struct io_addr a;
    if (ht_slice_case_eq(host, ht_slice_str("localhost")))
        return true;
    /* RFC 6761 6.3: names below localhost are loopback for every resolver that a browser uses. */
    if (host.n > sizeof suffix - 1 &&
        ht_slice_case_eq(ht_slice_of(host.p + host.n - (sizeof suffix - 1), sizeof suffix - 1), ht_slice_str(suffix)))
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
 * they carry the site's own name as Host. Behind a trusted proxy the proxy decides which names there are. No page has
 * the token: who shows it is no browser, and a tunnel is not opened without it, here or in HELLO.
 */
static bool host_allowed(const struct base_client *c, struct ht_slice path) {
    const struct kit *k = c->kit;
    if (!io_addr_is_loopback(&k->listen_addr) || k->opt->n_trusted_proxy > 0)
        return true;
    if (k->token_len && (ht_slice_is(path, WIRE_CONNECT_PATH) || kit_token_matches(k, bearer(c))))
        return true;
    return is_loopback_name(host_part(field(c, "host")));
}

/*
 * Hardening case 24, cross-site requests: a browser puts the page's origin on every WebSocket handshake and on every
 * request that changes something. "null" is an opaque origin. A value that is neither that nor scheme://authority comes
 * from no browser: one published driver's runtime sends the bare word "client".
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

/* The first thing that people meet who put a proxy in front of the kit: the answer says what to set. */
static bool refuse_host(struct base_client *c) {
    c->kit->metrics.base_requests_refused_total[HT_METRIC_REFUSAL_HOST]++;
    ht_log_stranger(HT_LOG_WARN, "kit", HT_LOG_FIELDS(log_peer(c->peer), log_target_slice(field(c, "host"))),
                    "a request for a name that is not of this machine was refused; behind a proxy on this machine set "
                    "--trusted-proxy 127.0.0.1, or a token");
    return refuse(c, 403,
                  "Host is not a loopback name; behind a proxy on this machine start the kit with --trusted-proxy "
                  "127.0.0.1, or with a token that the driver shows",
                  NULL);
}

/* A token was shown and is wrong, or none was where one is needed. */
static void note_bad_token(struct base_client *c, enum ht_metric_shown_at where) {
    bool shown = field(c, "authorization").n > 0;
    enum ht_metric_token token = shown ? HT_METRIC_TOKEN_WRONG : HT_METRIC_TOKEN_MISSING;
    c->kit->metrics.auth_failures_total[where][token]++;
    ht_log_stranger(
        HT_LOG_WARN, "kit",
        HT_LOG_FIELDS(log_peer(c->peer), log_target_slice(http_text((const char *)ht_buf_head(&c->in), c->head.path))),
        shown ? "a wrong token was shown" : "a request came without the token");
}

/* The 101 begins to leave; what comes behind the request waits for it. */
static void become_websocket(struct base_client *c, size_t head_len, struct ht_slice key, enum wire_version version,
                             bool authorized) {
    if (ws_write_101(&c->out, key, wire_version_text(version)) < 0) {
        base_client_close(c);
        return;
    }
    c->upgraded_to = version;
    c->authorized = authorized;
    ht_buf_consume(&c->in, head_len);
    base_client_flush(c);
}

/* Rule CONN-3: the first offered one that we speak. */
static enum wire_version choose_version(struct ht_slice offered) {
    struct ht_slice item;
    while (http_list_next(&offered, &item)) {
        enum wire_version v = wire_version_from(item);
        if (v != WIRE_VERSION_UNKNOWN)
            return v;
    }
    return WIRE_VERSION_UNKNOWN;
}

static bool upgrade(struct base_client *c, size_t head_len) {
    struct kit *k = c->kit;
    struct ht_slice key, offered;
    struct ht_buf scratch = {0};
    struct http_error e = {400, "bad request"};
    if (k->draining)
        return refuse_handshake(c, HT_METRIC_HANDSHAKE_FAILURE_SESSION_CAP, 503, "the kit shuts down",
                                "Retry-After: 5\r\n");
    if (!kit_token_matches(k, bearer(c)) && !origin_allowed(c))
        return refuse_handshake(c, HT_METRIC_HANDSHAKE_FAILURE_UNTRUSTED, 403, "this origin may not open a tunnel",
                                NULL);
    if (ws_check_request(&c->head, (const char *)ht_buf_head(&c->in), &key, &offered, &scratch, &e) < 0) {
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
    bool authorized = false;
    if (k->token_len && field(c, "authorization").n) {
        authorized = kit_token_matches(k, bearer(c));
        if (!authorized) {
            note_bad_token(c, HT_METRIC_SHOWN_AT_CONNECT);
            return refuse_handshake(c, HT_METRIC_HANDSHAKE_FAILURE_AUTH, 401, "the token is wrong",
                                    "WWW-Authenticate: Bearer\r\n");
        }
    }
    become_websocket(c, head_len, key, version, authorized);
    return false;
}

static bool ask_admin(struct base_client *c) {
    const char *buf = (const char *)ht_buf_head(&c->in);
    struct admin_request rq = {
        .method = http_text(buf, c->head.method),
        .target = http_text(buf, c->head.path),
        .user_agent = field(c, "user-agent"),
        .trusted = true,
        .authorized = c->kit->token_len == 0 || kit_token_matches(c->kit, bearer(c)),
    };
    struct admin_response rs = {0};
    bool head_request = ht_slice_is(rq.method, "HEAD");
    bool shown = c->kit->token_len > 0 && rq.authorized;
    if (!shown && !head_request && !ht_slice_is(rq.method, "GET") && !origin_allowed(c))
        return refuse(c, 403, "this origin may not change anything", NULL);
    c->kit->asked_by = c->peer;
    int rc = admin_serve(&c->kit->admin, &rq, &rs);
    c->kit->asked_by = NULL;
    if (rc < 0) {
        admin_response_free(&rs);
        return refuse(c, 500, "out of memory", NULL);
    }
    if (rs.status == 401)
        note_bad_token(c, HT_METRIC_SHOWN_AT_API);
    if (admin_is_stream(&rq, &rs)) {
        admin_response_free(&rs);
        return events_begin(c);
    }
    char extra[256];
    snprintf(extra, sizeof extra, "%s%s%s%s%s%s", rs.allow ? "Allow: " : "", rs.allow ? rs.allow : "",
             rs.allow ? "\r\n" : "", rs.www_authenticate ? "WWW-Authenticate: " : "",
             rs.www_authenticate ? rs.www_authenticate : "", rs.www_authenticate ? "\r\n" : "");
    bool alive = put_answer(c, (uint16_t)rs.status, rs.content_type, ht_buf_slice(&rs.body), extra, head_request);
    admin_response_free(&rs);
    return alive;
}

/* A complete head of `head_len` bytes. False: the client is gone, or its input does not matter any more. */
static bool request(struct base_client *c, size_t head_len) {
    const char *buf = (const char *)ht_buf_head(&c->in);
    struct ht_slice path = http_text(buf, c->head.path);
    const char *query = path.n ? memchr(path.p, '?', path.n) : NULL;
    if (query)
        path.n = (size_t)(query - path.p);
    if (!host_allowed(c, path))
        return refuse_host(c);
    bool body = http_request_body(&c->head) != HTTP_BODY_NONE;
    if (ht_slice_is(path, WIRE_CONNECT_PATH)) {
        if (body)
            return refuse_handshake(c, HT_METRIC_HANDSHAKE_FAILURE_UPGRADE, 400, "an upgrade has no body", NULL);
        return upgrade(c, head_len);
    }
    /* No route takes a body: it is not read, so that it can never be taken for the next request (hardening case 2). */
    c->close_after = c->close_after || body || !(c->head.flags & HTTP_KEEP_ALIVE) || c->kit->draining;
    if (!ask_admin(c))
        return false;
    ht_buf_consume(&c->in, head_len);
    return true;
}

/* Serves what has been read. */
static void process(struct base_client *c) {
    while (!base_client_busy(c)) {
        size_t n = ht_buf_size(&c->in);
        if (n == 0) {
            ht_buf_free(&c->in);
            return;
        }
        if (!c->in_head) {
            c->in_head = true;
            io_timer_set(&c->timer, c->kit->opt->head_timeout_ms);
        }
        struct http_error e;
        int len = http_head_parse(&c->head, (const char *)ht_buf_head(&c->in), n, &e);
        if (len == HT_EAGAIN)
            return;
        if (len < 0) {
            refuse(c, e.status, e.text, NULL);
            return;
        }
        if (!request(c, (size_t)len) || !base_client_flush(c) || c->reader)
            return;
        if (!base_client_busy(c))
            next_head(c);
    }
}

/* It has asked its question; all there is to see is that it leaves. */
static void reader_readable(struct base_client *c) {
    uint8_t dropped[512];
    ssize_t n = io_conn_read(c->conn, dropped, sizeof dropped);
    if (n < 0 && n != HT_EAGAIN)
        base_client_close(c);
}

static void client_readable(void *ctx) {
    struct base_client *c = ctx;
    if (c->reader) {
        reader_readable(c);
        return;
    }
    if (c->close_after)
        return;
    /* One byte more than a head may have: then the parser says 431 by itself. */
    size_t room = MAX_HEAD + 1 - ht_buf_size(&c->in);
    uint8_t *to = ht_buf_reserve(&c->in, room);
    if (!to) {
        base_client_close(c);
        return;
    }
    ssize_t n = io_conn_read(c->conn, to, room);
    if (n == HT_EAGAIN)
        return;
    if (n < 0) {
        base_client_close(c);
        return;
    }
    ht_buf_commit(&c->in, (size_t)n);
    process(c);
}

static void client_writable(void *ctx) {
    struct base_client *c = ctx;
    if (!base_client_flush(c) || base_client_busy(c))
        return;
    if (c->reader) {
        events_rest(c);
        return;
    }
    next_head(c);
    process(c);
}

static const struct io_conn_ops client_ops = {client_readable, client_writable};

static void client_timeout(struct io_timer *t) {
    struct base_client *c = ht_container_of(t, struct base_client, timer);
    if (c->reader && !base_client_busy(c))
        events_heartbeat(c);
    else if (c->in_head && !base_client_busy(c))
        refuse(c, 408, "the request head did not arrive in time", NULL);
    else
        base_client_close(c);
}

void base_client_begin(struct kit *k, struct io_conn *conn, const struct io_addr *peer) {
    struct base_client *c = ht_calloc(1, sizeof *c);
    if (!c) {
        io_conn_close(&conn);
        return;
    }
    c->kit = k;
    c->conn = conn;
    io_conn_set_ops(conn, &client_ops, c);
    io_addr_text(peer, c->peer);
    crowd_join(&k->clients, &c->member, peer);
    io_timer_init(k->loop, &c->timer, client_timeout);
    next_head(c);
    /* A connection that says nothing at all is given no more time than one that begins a head. */
    io_timer_set(&c->timer, k->opt->head_timeout_ms);
    /* A request that is here already is answered before anybody can press it out. */
    client_readable(c);
}
