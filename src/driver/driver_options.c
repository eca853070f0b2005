/* Checks and copies the caller's options. */
#include "base/mem.h"
#include "driver/driver.h"
#include "http/http.h"

_Static_assert(HT_MAX_CONNECTIONS == WIRE_LIMIT_MAX_CONNECTIONS, "the public header has its own copy of the limit");

/* ---- headers of the upgrade ---- */

/* Headers that the caller cannot set: those of the upgrade (RFC 6455 4.1), and those that would change the framing of
 * the request or its connection (RFC 9110 7.6.1). */
static bool handshake_owns(struct ht_slice name) {
    static const char *const owned[] = {"host", "content-length", "expect"};
    static const struct ht_slice websocket = {"sec-websocket-", 14};
    if (http_hop_of(name) != HTTP_HOP_NONE)
        return true;
    for (size_t i = 0; i < HT_ARRAY_LEN(owned); i++)
        if (ht_slice_case_eq(name, ht_slice_str(owned[i])))
            return true;
    return name.n >= websocket.n && ht_slice_case_eq(ht_slice_of(name.p, websocket.n), websocket);
}

/* Messages name the header and never its value, which may be a secret. */
static int add_header(struct ht_tunnel *t, const char *line, struct ht_errmsg *err) {
    const char *colon = line ? strchr(line, ':') : NULL;
    if (!colon)
        return ht_fail(err, HT_TUNNEL_EINVAL, "a header is written as 'Name: value'; there is no colon");
    struct ht_slice name = ht_slice_of(line, (size_t)(colon - line));
    const char *p = colon + 1;
    p += strspn(p, " \t");
    size_t n = strlen(p);
    while (n > 0 && (p[n - 1] == ' ' || p[n - 1] == '\t'))
        n--;
    if (!http_is_token(name))
        return ht_fail(err, HT_TUNNEL_EINVAL,
                       "a header's name is letters, digits and !#$%%&'*+-.^_`|~ up to the colon");
    if (!http_is_field_value(ht_slice_of(p, n)))
        return ht_fail(err, HT_TUNNEL_EINVAL, "the header %.*s holds a character that a header cannot carry",
                       HT_SLICE_ARG(name));
    if (handshake_owns(name))
        return ht_fail(err, HT_TUNNEL_EINVAL, "the header %.*s belongs to the handshake", HT_SLICE_ARG(name));
    if (t->token && ht_slice_case_eq(name, ht_slice_str("authorization")))
        return ht_fail(err, HT_TUNNEL_EINVAL, "the header Authorization carries the token; give one or the other");
    if (ht_buf_append(&t->headers, name.p, name.n) < 0 || ht_buf_append(&t->headers, ": ", 2) < 0 ||
        ht_buf_append(&t->headers, p, n) < 0 || ht_buf_append(&t->headers, "\r\n", 2) < 0)
        return ht_fail(err, HT_TUNNEL_ENOMEM, "out of memory");
    return HT_TUNNEL_OK;
}

/* Memory for all of them is reserved at once: a buffer that grows leaves copies of secrets behind. */
static const char bearer[] = "Authorization: Bearer ";

static int set_headers(struct ht_tunnel *t, const struct ht_tunnel_options *o, struct ht_errmsg *err) {
    size_t room = 1 + (t->token ? sizeof bearer + strlen(t->token) + 2 : 0);
    if (o->n_headers > 0 && !o->headers)
        return ht_fail(err, HT_TUNNEL_EINVAL, "n_headers is %zu, and headers is NULL", o->n_headers);
    for (size_t i = 0; i < o->n_headers; i++)
        room += (o->headers[i] ? strlen(o->headers[i]) : 0) + 4;
    if (!ht_buf_reserve(&t->headers, room))
        return ht_fail(err, HT_TUNNEL_ENOMEM, "out of memory");
    if (t->token && ht_buf_printf(&t->headers, "%s%s\r\n", bearer, t->token) < 0)
        return ht_fail(err, HT_TUNNEL_ENOMEM, "out of memory");
    for (size_t i = 0; i < o->n_headers; i++) {
        int rc = add_header(t, o->headers[i], err);
        if (rc < 0)
            return rc;
    }
    if (ht_buf_append(&t->headers, "", 1) < 0)
        return ht_fail(err, HT_TUNNEL_ENOMEM, "out of memory");
    return HT_TUNNEL_OK;
}

/* ---- all of it ---- */

static int set_token(struct ht_tunnel *t, const char *token, struct ht_errmsg *err) {
    if (!token || !*token)
        return HT_TUNNEL_OK;
    if (!http_is_field_value(ht_slice_str(token)))
        return ht_fail(err, HT_TUNNEL_EINVAL, "the token holds a character that a header cannot carry");
    t->token = ht_strndup(token, strlen(token));
    return t->token ? HT_TUNNEL_OK : ht_fail(err, HT_TUNNEL_ENOMEM, "out of memory");
}

static int set_client(struct ht_tunnel *t, const char *id, struct ht_errmsg *err) {
    t->client_known = id != NULL;
    if (!id || !*id)
        return HT_TUNNEL_OK;
    size_t n = strlen(id);
    if (!identity_is_good(ht_slice_of(id, n)))
        return ht_fail(err, HT_TUNNEL_EINVAL, "client_id has %d to %u visible ASCII characters", IDENTITY_MIN_LEN,
                       WIRE_LIMIT_CLIENT_ID);
    memcpy(t->client, id, n + 1);
    return HT_TUNNEL_OK;
}

static int set_name(struct ht_tunnel *t, const char *name, struct ht_errmsg *err) {
    if (!name || !*name)
        return HT_TUNNEL_OK;
    if (driver_name_check(name, err) < 0)
        return HT_TUNNEL_EINVAL;
    memcpy(t->client_name, name, strlen(name) + 1);
    return HT_TUNNEL_OK;
}

void driver_options_client(struct ht_tunnel *t) {
    struct ht_errmsg err;
    char id[IDENTITY_LEN + 1];
    if (t->client_known)
        return;
    t->client_known = true;
    if (identity_load(id, &err) < 0)
        driver_say(
            t, HT_SEVERITY_WARNING,
            "no client id could be kept, so after a crash the ports come back only once the kit has given them up: %s",
            err.text);
    else
        memcpy(t->client, id, sizeof id);
    explicit_bzero(id, sizeof id);
}

static int set_proxy(struct ht_tunnel *t, const struct ht_tunnel_options *o, struct ht_errmsg *err) {
    const struct driver_proxy_choice choice = {.url = o->proxy, .auth = o->proxy_auth, .ca = o->proxy_ca};
    int rc = driver_proxy_choose(&t->proxy, &t->url, &choice, err);
    return rc == HT_OK       ? HT_TUNNEL_OK
           : rc == HT_ETLS   ? HT_TUNNEL_ETLS
           : rc == HT_ENOMEM ? HT_TUNNEL_ENOMEM
                             : HT_TUNNEL_EINVAL;
}

int driver_options_set(struct ht_tunnel *t, const struct ht_tunnel_options *o, struct ht_errmsg *err) {
    if (!o->url)
        return ht_fail(err, HT_TUNNEL_EINVAL, "the kit's URL is missing");
    if (driver_url_parse(&t->url, o->url, o->vtunnel ? NULL : WIRE_CONNECT_PATH, err) < 0)
        return HT_TUNNEL_EURL;
    if (o->connections > HT_MAX_CONNECTIONS)
        return ht_fail(err, HT_TUNNEL_EINVAL, "a session has 1 to %d connections, not %u", HT_MAX_CONNECTIONS,
                       (unsigned)o->connections);
    t->vtunnel = o->vtunnel != 0;
    t->connections = o->connections && !t->vtunnel ? o->connections : 1;
    t->connect_timeout_ms = o->connect_timeout_ms ? o->connect_timeout_ms : WIRE_LIMIT_CONNECT_TIMEOUT;
    t->pool_size = o->pool_size == HT_NO_POOL ? 0 : o->pool_size ? o->pool_size : WIRE_LIMIT_POOL_SIZE;
    t->pool_idle_ms = o->pool_idle_ms ? o->pool_idle_ms : WIRE_LIMIT_POOL_IDLE;
    t->retry_for_ms = o->retry_for_ms;
    t->retry_min_ms = o->retry_min_ms ? o->retry_min_ms : WIRE_LIMIT_RETRY_MIN;
    t->retry_first = o->retry_first != 0;
    t->strict_bindings = o->strict_bindings != 0;
    t->ping_interval_ms = o->ping_interval_ms ? o->ping_interval_ms : WIRE_LIMIT_PING_INTERVAL;
    t->pong_timeout_ms = o->pong_timeout_ms ? o->pong_timeout_ms : WIRE_LIMIT_PONG_TIMEOUT;
    t->suspect_after_ms = o->suspect_after_ms ? o->suspect_after_ms : WIRE_LIMIT_SUSPECT_AFTER;
    t->measure_every_ms = o->measure_every_ms;
    t->max_streams = o->max_streams ? o->max_streams : WIRE_LIMIT_MAX_STREAMS;
    t->max_window = o->max_window ? o->max_window : WIRE_LIMIT_SESSION_BUFFER;
    if (o->replay_buffer && o->replay_buffer < WIRE_LIMIT_MIN_REPLAY_BUFFER)
        return ht_fail(err, HT_TUNNEL_EINVAL, "replay-buffer: %u bytes are too few, it is at least 1 MiB",
                       (unsigned)o->replay_buffer);
    t->replay_buffer =
        o->replay_buffer == HT_NO_REPLAY
            ? 0
            : (uint32_t)ht_max(o->replay_buffer ? o->replay_buffer : t->max_window, WIRE_LIMIT_MIN_REPLAY_BUFFER);
    int rc = set_client(t, t->vtunnel ? "" : o->client_id, err);
    if (rc == HT_TUNNEL_OK)
        rc = set_name(t, t->vtunnel ? NULL : o->client_name, err);
    if (rc == HT_TUNNEL_OK)
        rc = set_token(t, o->token, err);
    if (rc == HT_TUNNEL_OK)
        rc = set_headers(t, o, err);
    if (rc == HT_TUNNEL_OK && o->pin && !t->url.tls)
        return ht_fail(err, HT_TUNNEL_EINVAL, "a pin is for a certificate, and %.200s is spoken to without TLS",
                       o->url);
    if (rc == HT_TUNNEL_OK && o->pin && io_tls_check_pin(o->pin, err) < 0)
        return HT_TUNNEL_EINVAL;
    if (rc == HT_TUNNEL_OK && t->url.tls) {
        t->tls = io_tls_create_pinned(o->ca, o->pin, err);
        rc = t->tls ? HT_TUNNEL_OK : HT_TUNNEL_ETLS;
    }
    return rc == HT_TUNNEL_OK ? set_proxy(t, o, err) : rc;
}

/* Replaces the token in the first header. False: out of memory, and nothing has changed. */
static bool replace_token(struct ht_tunnel *t, const char *token) {
    struct ht_buf headers = {0};
    size_t skip = sizeof bearer - 1 + strlen(t->token) + 2;
    char *copy = ht_strndup(token, strlen(token));
    if (!copy || !ht_buf_reserve(&headers, sizeof bearer + strlen(token) + 2 + ht_buf_size(&t->headers)) ||
        ht_buf_printf(&headers, "%s%s\r\n", bearer, token) < 0 ||
        ht_buf_append(&headers, (const char *)ht_buf_head(&t->headers) + skip, ht_buf_size(&t->headers) - skip) < 0) {
        if (copy)
            explicit_bzero(copy, strlen(copy));
        ht_free(copy);
        ht_buf_free(&headers);
        return false;
    }
    explicit_bzero(t->token, strlen(t->token));
    ht_free(t->token);
    explicit_bzero(t->headers.data, t->headers.cap);
    ht_buf_free(&t->headers);
    t->token = copy;
    t->headers = headers;
    return true;
}

bool driver_token_again(struct ht_tunnel *t) {
    char token[WIRE_LIMIT_MAX_TOKEN + 1] = "";
    if (!t->token || !t->calls.new_token)
        return false;
    bool changed = t->calls.new_token(t->user, token, sizeof token) > 0 && memchr(token, '\0', sizeof token) &&
                   *token && strcmp(token, t->token) != 0 && http_is_field_value(ht_slice_str(token)) &&
                   replace_token(t, token);
    explicit_bzero(token, sizeof token);
    if (changed)
        driver_say(t, HT_SEVERITY_INFO, "the kit refused the token, and there is another one by now: trying that");
    return changed;
}

void driver_options_free(struct ht_tunnel *t) {
    io_tls_destroy(&t->tls);
    io_proxy_destroy(&t->proxy);
    explicit_bzero(t->client, sizeof t->client);
    if (t->token) {
        explicit_bzero(t->token, strlen(t->token));
        ht_free(t->token);
    }
    if (t->headers.data)
        explicit_bzero(t->headers.data, t->headers.cap);
    ht_buf_free(&t->headers);
}
