/* One connection of a small server: one answer after another. */
#include "web/web.h"

#define LINGER_MS 1000
#define BODY_READ 16384

static void set_timer(struct web_conn *c, uint64_t ms) {
    if (ms > 0)
        io_timer_set(&c->timer, ms);
    else
        io_timer_stop(&c->timer);
}

void web_conn_close(struct web_conn *c) {
    io_timer_stop(&c->timer);
    io_conn_close(&c->io);
    ht_buf_free(&c->in);
    io_out_free(&c->out);
    c->server->ops->gone(c);
}

struct io_conn *web_conn_take(struct web_conn *c) {
    struct io_conn *io = c->io;
    c->io = NULL;
    return io;
}

bool web_conn_busy(const struct web_conn *c) { return io_out_pending(&c->out) > 0; }

/* ---- the request ---- */

const char *web_bytes(const struct web_conn *c) { return (const char *)ht_buf_head(&c->in); }

struct ht_slice web_path(const struct web_conn *c) {
    struct ht_slice path = http_text(web_bytes(c), c->head.path);
    const char *query = path.n ? memchr(path.p, '?', path.n) : NULL;
    return query ? ht_slice_of(path.p, (size_t)(query - path.p)) : path;
}

struct ht_slice web_field(const struct web_conn *c, const char *name) {
    const struct http_field *f = http_field_find(&c->head, web_bytes(c), name);
    return f ? http_text(web_bytes(c), f->value) : ht_slice_of(NULL, 0);
}

/* ---- the answer ---- */

bool web_conn_flush(struct web_conn *c) {
    if (io_out_flush(&c->out, c->io) < 0) {
        web_conn_close(c);
        return false;
    }
    if (web_conn_busy(c)) {
        /* While the client does not read this answer, its next requests are not read either. */
        io_conn_read_on(c->io, false);
        set_timer(c, c->server->write_timeout_ms);
        return true;
    }
    if (c->state == WEB_BODY) { /* what was written is only a 100 */
        io_conn_read_on(c->io, true);
        return true;
    }
    if (c->close_after) {
        io_conn_close_lingering(&c->io, LINGER_MS);
        web_conn_close(c);
        return false;
    }
    if (c->state == WEB_UPGRADE) {
        c->server->ops->upgraded(c);
        return false;
    }
    if (c->state == WEB_STREAM) {
        io_conn_read_on(c->io, true); /* to notice when the client closes */
        set_timer(c, c->server->tick_ms);
    }
    return true;
}

static bool put(struct web_conn *c, const struct web_reply *r, bool has_length) {
    struct ht_buf *b = &c->out.queue;
    if (c->state == WEB_BODY && !c->body_whole)
        c->close_after = true; /* what is left of the body must not be taken for the next request */
    if (c->state == WEB_BODY || c->state == WEB_WAIT)
        c->state = WEB_HEAD;
    int rc = http_write_status(b, 1, r->status, ht_slice_of(NULL, 0));
    if (!rc && r->type)
        rc = http_write_field(b, ht_slice_str("Content-Type"), ht_slice_str(r->type));
    if (!rc && has_length)
        rc = http_write_content_length(b, r->body.n);
    if (!rc && r->extra)
        rc = ht_buf_append_str(b, r->extra);
    if (!rc && c->close_after)
        rc = ht_buf_append_str(b, "Connection: close\r\n");
    if (!rc)
        rc = http_write_end(b);
    if (!rc && !c->no_body)
        rc = ht_buf_append(b, r->body.p, r->body.n);
    if (!rc)
        return true;
    web_conn_close(c);
    return false;
}

bool web_reply(struct web_conn *c, const struct web_reply *r) { return put(c, r, true); }

bool web_stream(struct web_conn *c, const struct web_reply *r) {
    c->state = WEB_STREAM;
    c->close_after = false; /* the end of the connection is the end of this answer, so it must not be closed now */
    return put(c, r, false);
}

bool web_upgrade(struct web_conn *c, int rc) {
    c->state = WEB_UPGRADE;
    c->close_after = false;
    if (!rc)
        return true;
    web_conn_close(c);
    return false;
}

/* ---- the body ---- */

bool web_take_body(struct web_conn *c, uint64_t max) {
    enum http_body_kind kind = http_request_body(&c->head);
    c->state = WEB_BODY;
    c->close_after = !(c->head.flags & HTTP_KEEP_ALIVE);
    c->chunked = (struct http_chunked){.left = 0};
    c->body_left = kind == HTTP_BODY_LENGTH ? c->head.content_length : 0;
    c->body_got = 0;
    c->body_max = max;
    c->body_whole = kind == HTTP_BODY_NONE;
    if (c->body_whole)
        return c->server->ops->body(c, ht_slice_of(NULL, 0), true);
    if (c->body_left > max)
        return c->server->ops->refuse(c, 413, "the body is too long");
    c->body_step = WEB_BODY_STEP;
    set_timer(c, c->server->body_timeout_ms);
    if (!(c->head.flags & HTTP_EXPECT_CONTINUE) ||
        ht_buf_append_str(&c->out.queue, "HTTP/1.1 100 Continue\r\n\r\n") == 0)
        return true;
    web_conn_close(c);
    return false;
}

bool web_later(struct web_conn *c) {
    c->state = WEB_WAIT;
    io_conn_read_on(c->io, false);
    io_timer_stop(&c->timer);
    return true;
}

/* ---- the connection ---- */

static void refuse(struct web_conn *c, uint16_t status, const char *text) {
    c->close_after = true;
    if (c->server->ops->refuse(c, status, text))
        web_conn_flush(c);
}

/* Prepares for the next request. Its head timeout begins with its first byte. */
static void next_head(struct web_conn *c) {
    http_request_begin(&c->head, &c->server->limits);
    c->state = WEB_IDLE;
    c->no_body = false;
    set_timer(c, c->server->keepalive_timeout_ms);
    io_conn_read_on(c->io, true);
}

/* Serves the head at the front of the bytes that were read. False: it is not complete, or the connection is gone. */
static bool serve_head(struct web_conn *c) {
    struct http_error e;
    if (c->state == WEB_IDLE) {
        c->state = WEB_HEAD;
        set_timer(c, c->server->head_timeout_ms);
    }
    int len = http_head_parse(&c->head, web_bytes(c), ht_buf_size(&c->in), &e);
    if (len == HT_EAGAIN)
        return false;
    if (len < 0) {
        refuse(c, e.status, e.text);
        return false;
    }
    c->no_body = ht_slice_is(http_text(web_bytes(c), c->head.method), "HEAD");
    c->close_after = http_request_body(&c->head) != HTTP_BODY_NONE || !(c->head.flags & HTTP_KEEP_ALIVE);
    if (!c->server->ops->request(c))
        return false;
    ht_buf_consume(&c->in, (size_t)len);
    return true;
}

/* The same for what has come of a body. */
static bool serve_body(struct web_conn *c) {
    char *p = (char *)ht_buf_head(&c->in);
    size_t len = ht_buf_size(&c->in), used = len;
    struct http_error e;
    if (c->head.flags & HTTP_CHUNKED) {
        if (http_chunked_decode(&c->chunked, p, &len, &used, &e) < 0) {
            refuse(c, e.status, e.text);
            return false;
        }
        c->body_whole = c->chunked.done;
    } else {
        len = used = (size_t)ht_min((uint64_t)len, c->body_left);
        c->body_left -= len;
        c->body_whole = c->body_left == 0;
    }
    c->body_got += len;
    if (c->body_got > c->body_max) {
        c->body_whole = false;
        refuse(c, 413, "the body is too long");
        return false;
    }
    if (c->body_got >= c->body_step) {
        c->body_step = c->body_got + WEB_BODY_STEP;
        set_timer(c, c->server->body_timeout_ms);
    }
    if ((len || c->body_whole) && !c->server->ops->body(c, ht_slice_of(p, len), c->body_whole))
        return false;
    ht_buf_consume(&c->in, used);
    return true;
}

/* Serves what was read. */
static void serve(struct web_conn *c) {
    while (!web_conn_busy(c)) {
        if (ht_buf_size(&c->in) == 0) {
            ht_buf_free(&c->in);
            return;
        }
        if (!(c->state == WEB_BODY ? serve_body(c) : serve_head(c)))
            return;
        if (c->state == WEB_WAIT || !web_conn_flush(c) || c->state == WEB_STREAM)
            return;
        if (c->state != WEB_BODY && !web_conn_busy(c))
            next_head(c);
    }
}

void web_answer(struct web_conn *c, const struct web_reply *r) {
    if (!web_reply(c, r) || !web_conn_flush(c) || web_conn_busy(c))
        return;
    next_head(c);
    serve(c);
}

/* The client of a stream has nothing more to send, so a read only shows that it has closed. */
static void stream_readable(struct web_conn *c) {
    uint8_t dropped[512];
    ssize_t n = io_conn_read(c->io, dropped, sizeof dropped);
    if (n < 0 && n != HT_EAGAIN)
        web_conn_close(c);
}

static void conn_readable(void *ctx) {
    struct web_conn *c = ctx;
    if (c->state == WEB_STREAM) {
        stream_readable(c);
        return;
    }
    if (c->close_after && c->state != WEB_BODY)
        return;
    /* One byte more than a head may have, so that the parser answers 431 by itself. */
    size_t room = c->state == WEB_BODY ? BODY_READ : c->server->limits.max_head + 1 - ht_buf_size(&c->in);
    uint8_t *to = ht_buf_reserve(&c->in, room);
    ssize_t n = to ? io_conn_read(c->io, to, room) : HT_ENOMEM;
    if (n == HT_EAGAIN)
        return;
    if (n < 0) {
        web_conn_close(c);
        return;
    }
    ht_buf_commit(&c->in, (size_t)n);
    serve(c);
}

static void conn_writable(void *ctx) {
    struct web_conn *c = ctx;
    if (!web_conn_flush(c) || web_conn_busy(c))
        return;
    if (c->state == WEB_STREAM) {
        if (c->server->ops->drained)
            c->server->ops->drained(c);
        return;
    }
    if (c->state == WEB_BODY)
        set_timer(c, c->server->body_timeout_ms); /* it had waited to say 100 */
    else
        next_head(c);
    serve(c);
}

static const struct io_conn_ops conn_ops = {conn_readable, conn_writable};

static void timed_out(struct io_timer *t) {
    struct web_conn *c = ht_container_of(t, struct web_conn, timer);
    if (c->state == WEB_STREAM && !web_conn_busy(c)) {
        set_timer(c, c->server->tick_ms);
        c->server->ops->tick(c);
    } else if (c->state == WEB_HEAD && !web_conn_busy(c)) {
        refuse(c, 408, "the request head did not arrive in time");
    } else if (c->state == WEB_BODY && !web_conn_busy(c)) {
        refuse(c, 408, "the request body did not arrive in time");
    } else {
        web_conn_close(c);
    }
}

void web_conn_adopt(struct web_conn *c, struct io_loop *loop, const struct web_server *server, struct io_conn *io,
                    struct ht_buf *said) {
    c->in = *said;
    *said = (struct ht_buf){0};
    web_conn_begin(c, loop, server, io);
}

void web_conn_begin(struct web_conn *c, struct io_loop *loop, const struct web_server *server, struct io_conn *io) {
    c->server = server;
    c->io = io;
    io_conn_set_ops(io, &conn_ops, c);
    io_timer_init(loop, &c->timer, timed_out);
    next_head(c);
    /* A connection without a byte has no more time than one with an incomplete head. */
    set_timer(c, server->head_timeout_ms);
    /* A request that has come already is served at once, before the connection could be closed to make room. */
    if (ht_buf_size(&c->in))
        serve(c);
    else
        conn_readable(c);
}
