/* The opening handshake of a client over io, RFC 6455 4.1. */
#include "base/clock.h"
#include "base/mem.h"
#include "ws/refusal_priv.h"
#include "ws/ws.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#define HEAD_MAX (16u * 1024u)
#define READ_MAX (64u * 1024u) /* head, and what came behind it */
#define PAGE_MAX 4096u         /* of a body, in which the title of a page is looked for */

struct ws_connect {
    struct io_loop *loop;
    const struct ws_connect_ops *ops;
    void *ctx;
    struct io_dial *dial;
    struct io_conn *conn;
    struct io_timer timer;
    struct ht_buf out, in;
    struct http_head head;
    bool refused; /* the answer is not 101: its body is collected for the excerpt */
    size_t head_len;
    uint64_t timeout_ms, deadline_ms;
    char key[WS_KEY_LEN + 1];
    char *protocols;
    char name[320]; /* ws://host:port/path for people */
};

static void destroy(struct ws_connect *c) {
    io_dial_cancel(&c->dial);
    io_conn_close(&c->conn);
    io_timer_stop(&c->timer);
    /* It may hold a token. */
    if (c->out.data)
        memset(c->out.data, 0, c->out.cap);
    ht_buf_free(&c->out);
    ht_buf_free(&c->in);
    ht_free(c->protocols);
    ht_free(c);
}

void ws_connect_cancel(struct ws_connect **cp) {
    struct ws_connect *c = *cp;
    if (!c)
        return;
    *cp = NULL;
    destroy(c);
}

static void fail(struct ws_connect *c, int err, uint16_t status, uint64_t retry_after_ms,
                 const struct ht_errmsg *text) {
    struct ht_errmsg copy = *text;
    const struct ws_connect_ops *ops = c->ops;
    void *ctx = c->ctx;
    destroy(c);
    ops->failed(ctx, err, status, retry_after_ms, copy.text);
}

static void fail_text(struct ws_connect *c, int err, uint16_t status, const char *what) {
    struct ht_errmsg e;
    ht_fail(&e, err, "cannot open %s: %s", c->name, what);
    fail(c, err, status, 0, &e);
}

/* Retry-After (RFC 9110 10.2.3): seconds or a date. */
static uint64_t retry_after_ms(const struct ws_connect *c) {
    const char *buf = (const char *)ht_buf_head(&c->in);
    const struct http_field *f = http_field_find(&c->head, buf, "retry-after");
    struct ht_slice v = f ? http_text(buf, f->value) : ht_slice_str("");
    char text[40];
    if (v.n == 0 || v.n >= sizeof text)
        return 0;
    memcpy(text, v.p, v.n);
    text[v.n] = '\0';
    if (isdigit((unsigned char)text[0])) {
        uint64_t s = strtoull(text, NULL, 10);
        return s > 86400 ? 86400000u : s * 1000u; /* nobody waits for more than a day */
    }
    struct tm tm = {0};
    const char *end = strptime(text, "%a, %d %b %Y %H:%M:%S GMT", &tm);
    time_t at = end && !*end ? timegm(&tm) : 0, now = time(NULL);
    return at > now ? (at - now > 86400 ? 86400000u : (uint64_t)(at - now) * 1000u) : 0;
}

static void refuse(struct ws_connect *c) {
    char more[WS_REFUSAL_MAX];
    struct ht_errmsg e;
    uint16_t status = c->head.status;
    char *buf = (char *)ht_buf_head(&c->in);
    const char *reason = http_reason(status);
    ws_refusal_text(&c->head, buf, buf + c->head_len, ht_buf_size(&c->in) - c->head_len, more);
    bool token = (status == 401 && !ws_refusal_is_login(&c->head, buf)) || status == 403;
    int err = token ? HT_EAUTH : HT_EPROTO;
    ht_fail(&e, err, "cannot open %s: the server answered %u%s%s%s", c->name, (unsigned)status, *reason ? " " : "",
            reason, more);
    fail(c, err, status, retry_after_ms(c), &e);
}

/* True when all of the body is here that an excerpt needs. */
static bool excerpt_is_complete(const struct ws_connect *c) {
    size_t have = ht_buf_size(&c->in) - c->head_len;
    if (have >= PAGE_MAX || ht_buf_size(&c->in) >= READ_MAX)
        return true;
    switch (http_response_body(&c->head, false)) {
    case HTTP_BODY_NONE:
        return true;
    case HTTP_BODY_LENGTH:
        return have >= c->head.content_length;
    case HTTP_BODY_CHUNKED:
        return have >= 5 && memcmp(ht_buf_head(&c->in) + ht_buf_size(&c->in) - 5, HTTP_CHUNK_LAST, 5) == 0;
    default:
        return false; /* ends with the connection */
    }
}

static bool list_has(const struct http_head *h, const char *buf, const char *name, const char *item) {
    for (uint32_t i = 0; i < h->n_fields; i++) {
        if (!ht_slice_case_eq(http_text(buf, h->fields[i].name), ht_slice_str(name)))
            continue;
        struct ht_slice rest = http_text(buf, h->fields[i].value), one;
        while (http_list_next(&rest, &one))
            if (ht_slice_case_eq(one, ht_slice_str(item)))
                return true;
    }
    return false;
}

static bool was_offered(const struct ws_connect *c, struct ht_slice protocol) {
    struct ht_slice rest = ht_slice_str(c->protocols), one;
    while (http_list_next(&rest, &one))
        if (ht_slice_eq(one, protocol))
            return true;
    return false;
}

/* RFC 6455 4.1: what the client must check in a 101. NULL when all is well. */
static const char *check_101(const struct ws_connect *c, struct ht_slice *protocol) {
    const char *buf = (const char *)ht_buf_head(&c->in);
    const struct http_head *h = &c->head;
    char accept[WS_ACCEPT_LEN + 1];
    ws_accept_for(ht_slice_str(c->key), accept);
    if (!list_has(h, buf, "upgrade", "websocket") || !list_has(h, buf, "connection", "upgrade"))
        return "the server's 101 is not an upgrade to a WebSocket";
    const struct http_field *f = http_field_find(h, buf, "sec-websocket-accept");
    if (!f || !ht_slice_is(http_text(buf, f->value), accept))
        return "the server's 101 has a wrong Sec-WebSocket-Accept; a cache between may have answered";
    if (http_field_find(h, buf, "sec-websocket-extensions"))
        return "the server chose an extension that was not offered";
    f = http_field_find(h, buf, "sec-websocket-protocol");
    *protocol = f ? http_text(buf, f->value) : ht_slice_str("");
    if (f && !was_offered(c, *protocol))
        return "the server chose a subprotocol that was not offered";
    return NULL;
}

static void open_done(struct ws_connect *c) {
    struct ht_slice protocol;
    const char *wrong = check_101(c, &protocol);
    if (wrong) {
        fail_text(c, HT_EPROTO, 0, wrong);
        return;
    }
    struct ht_slice early = ht_slice_of(ht_buf_head(&c->in) + c->head_len, ht_buf_size(&c->in) - c->head_len);
    struct io_conn *conn = c->conn;
    struct ht_buf in = c->in; /* the slices live until open() returns */
    const struct ws_connect_ops *ops = c->ops;
    void *ctx = c->ctx;
    c->conn = NULL;
    c->in = (struct ht_buf){0};
    io_conn_read_on(conn, false);
    io_conn_set_ops(conn, NULL, NULL);
    destroy(c);
    ops->open(ctx, conn, protocol, early);
    ht_buf_free(&in);
}

static void begin_response(struct ws_connect *c) {
    const struct http_limits limits = {.max_head = HEAD_MAX, .max_headers = HTTP_MAX_HEADERS, .max_target = HEAD_MAX};
    http_response_begin(&c->head, &limits);
}

/* Looks at what has come. Returns false when the object is gone. */
static bool parse(struct ws_connect *c) {
    while (!c->refused) {
        struct http_error e = {0};
        int n = http_head_parse(&c->head, (const char *)ht_buf_head(&c->in), ht_buf_size(&c->in), &e);
        if (n == HT_EAGAIN)
            return true;
        if (n < 0) {
            char what[160];
            snprintf(what, sizeof what, "the answer is not HTTP: %s", e.text ? e.text : ht_err_text(n));
            fail_text(c, HT_EPROTO, 0, what);
            return false;
        }
        c->head_len = (size_t)n;
        if (c->head.status == 101) {
            open_done(c);
            return false;
        }
        if (c->head.status >= 200) {
            c->refused = true;
        } else { /* an interim answer (RFC 9110 15.2) */
            ht_buf_consume(&c->in, c->head_len);
            begin_response(c);
        }
    }
    if (!excerpt_is_complete(c))
        return true;
    refuse(c);
    return false;
}

static void on_readable(void *ctx) {
    struct ws_connect *c = ctx;
    for (;;) {
        size_t room = READ_MAX - ht_buf_size(&c->in);
        uint8_t *to = ht_buf_reserve(&c->in, ht_min(room, 4096));
        if (!to) {
            fail_text(c, HT_ENOMEM, 0, ht_err_text(HT_ENOMEM));
            return;
        }
        ssize_t n = io_conn_read(c->conn, to, ht_min(room, 4096));
        if (n == HT_EAGAIN)
            return;
        if (n < 0 && c->refused) {
            refuse(c);
            return;
        }
        if (n < 0) {
            fail_text(c, n == HT_EOF ? HT_ERESET : (int)n, 0,
                      n == HT_EOF ? "the server closed the connection without an answer" : ht_err_text((int)n));
            return;
        }
        ht_buf_commit(&c->in, (size_t)n);
        if (!parse(c))
            return;
    }
}

static void on_writable(void *ctx) {
    struct ws_connect *c = ctx;
    while (ht_buf_size(&c->out)) {
        struct iovec iov = {.iov_base = ht_buf_head(&c->out), .iov_len = ht_buf_size(&c->out)};
        ssize_t n = io_conn_write(c->conn, &iov, 1);
        if (n == HT_EAGAIN) {
            io_conn_want_write(c->conn, true);
            return;
        }
        if (n < 0) {
            /* An answer may be there already: a server that refuses does not read on. Reading tells. */
            break;
        }
        ht_buf_consume(&c->out, (size_t)n);
    }
    io_conn_want_write(c->conn, false);
}

static const struct io_conn_ops conn_ops = {on_readable, on_writable};

static void on_connected(void *ctx, struct io_conn *conn) {
    struct ws_connect *c = ctx;
    c->dial = NULL;
    c->conn = conn;
    uint64_t now = ht_now_ms(); /* until here the dial kept the time */
    io_timer_set(&c->timer, c->deadline_ms > now ? c->deadline_ms - now : 0);
    io_conn_set_ops(conn, &conn_ops, c);
    io_conn_read_on(conn, true);
    on_writable(c);
}

static void on_dial_failed(void *ctx, int err, const char *text) {
    struct ws_connect *c = ctx;
    struct ht_errmsg e;
    c->dial = NULL;
    ht_fail(&e, err, "%s", text);
    fail(c, err, 0, 0, &e);
}

static const struct io_dial_ops dial_ops = {.connected = on_connected, .failed = on_dial_failed};

static void on_timeout(struct io_timer *t) {
    struct ws_connect *c = ht_container_of(t, struct ws_connect, timer);
    char what[64];
    if (c->refused) {
        refuse(c);
        return;
    }
    snprintf(what, sizeof what, "no answer within %llu ms", (unsigned long long)c->timeout_ms);
    fail_text(c, HT_ETIMEDOUT, 0, what);
}

static int write_request(struct ws_connect *c, const struct ws_connect_options *o) {
    ws_make_key(c->key);
    return ht_buf_printf(&c->out,
                         "GET %s HTTP/1.1\r\nHost: %s\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                         "Sec-WebSocket-Key: %s\r\nSec-WebSocket-Version: 13\r\n%s%s%s%s\r\n",
                         o->path, o->host_field, c->key, o->protocols ? "Sec-WebSocket-Protocol: " : "",
                         o->protocols ? o->protocols : "", o->protocols ? "\r\n" : "", o->extra ? o->extra : "");
}

struct ws_connect *ws_connect_start(struct io_loop *loop, const struct ws_connect_options *o,
                                    const struct ws_connect_ops *ops, void *ctx, struct ht_errmsg *err) {
    struct ht_slice path = ht_slice_str(o->path);
    /* What would end the request line or a field early must not get in (RFC 9110 5.5). */
    bool path_ok = path.n > 0 && path.p[0] == '/';
    for (size_t i = 0; i < path.n; i++)
        path_ok = path_ok && path.p[i] > 0x20 && path.p[i] < 0x7f;
    if (!path_ok || !http_is_field_value(ht_slice_str(o->host_field)) ||
        !http_is_field_value(ht_slice_str(o->protocols ? o->protocols : ""))) {
        ht_fail(err, HT_EINVAL, "cannot connect: host, path or subprotocols hold characters that no request may have");
        return NULL;
    }
    struct ws_connect *c = ht_calloc(1, sizeof *c);
    if (!c) {
        ht_fail(err, HT_ENOMEM, "cannot connect to %s: out of memory", o->host);
        return NULL;
    }
    c->loop = loop;
    c->ops = ops;
    c->ctx = ctx;
    c->timeout_ms = o->timeout_ms;
    snprintf(c->name, sizeof c->name, "%s://%.200s%.100s", o->tls ? "wss" : "ws", o->host_field, o->path);
    char *query = strchr(c->name, '?'); /* may hold a secret */
    if (query)
        *query = '\0';
    io_timer_init(loop, &c->timer, on_timeout);
    begin_response(c);
    c->protocols = ht_strndup(o->protocols ? o->protocols : "", o->protocols ? strlen(o->protocols) : 0);
    if (!c->protocols || write_request(c, o) != HT_OK)
        ht_fail(err, HT_ENOMEM, "cannot connect to %s: out of memory", o->host);
    else
        c->dial = io_dial_start_via(loop, o->via, o->host, o->port, o->tls, o->timeout_ms, &dial_ops, c, err);
    if (!c->dial) {
        destroy(c);
        return NULL;
    }
    uint64_t now = ht_now_ms();
    c->deadline_ms = o->timeout_ms < UINT64_MAX - now ? now + o->timeout_ms : UINT64_MAX;
    return c;
}
