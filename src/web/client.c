/* One request to a server, and its answer. */
#include "web/web.h"

#include "base/clock.h"
#include "base/mem.h"

#include <stdio.h>

#define READ_PIECE 16384u
#define WHERE_MAX 288 /* most bytes of a host with port and brackets */

struct web_request {
    struct io_loop *loop;
    const struct web_request_ops *ops;
    void *ctx;
    struct io_tls *tls;
    struct io_dial *dial;
    struct io_conn *conn;
    struct io_out out;
    struct ht_buf in;
    struct http_head head;
    struct http_chunked chunked;
    enum http_body_kind body;
    uint64_t left, quiet_ms, deadline_ms;
    bool has_head, over;
    struct io_timer timer;
    char where[WHERE_MAX];
};

/* Makes the last call of ops. The owner destroys the request, perhaps later. */
static void finish(struct web_request *r, int rc, const char *text) {
    if (r->over)
        return;
    r->over = true;
    io_timer_stop(&r->timer);
    io_dial_cancel(&r->dial);
    if (r->conn)
        io_conn_read_on(r->conn, false);
    r->ops->done(r->ctx, rc, text);
}

static void fail(struct web_request *r, int rc, const char *text) {
    struct ht_errmsg err;
    ht_fail(&err, rc, "%s: %s", r->where, text);
    finish(r, rc, err.text);
}

/* Takes body bytes, which may be decoded in place. */
static void got_body(struct web_request *r, char *buf, size_t n) {
    struct http_error e = {.text = ""};
    size_t used = n;
    if (r->body == HTTP_BODY_CHUNKED && http_chunked_decode(&r->chunked, buf, &n, &used, &e) < 0) {
        fail(r, HT_EPROTO, e.text);
        return;
    }
    if (r->body == HTTP_BODY_LENGTH) {
        n = r->left < n ? (size_t)r->left : n;
        r->left -= n;
    }
    int rc = n > 0 ? r->ops->piece(r->ctx, ht_slice_of(buf, n)) : HT_OK;
    if (rc < 0)
        fail(r, rc, rc == HT_ELIMIT ? "the answer is too long" : ht_err_text(rc));
    else if ((r->body == HTTP_BODY_CHUNKED && r->chunked.done) || (r->body == HTTP_BODY_LENGTH && r->left == 0))
        finish(r, HT_OK, "");
    else if (r->quiet_ms > 0)
        io_timer_set(&r->timer, r->quiet_ms);
}

/* Parses the head. True: it is complete, and a body follows. */
static bool got_head(struct web_request *r) {
    struct http_error e;
    while (!r->has_head) {
        int n = http_head_parse(&r->head, (char *)ht_buf_head(&r->in), ht_buf_size(&r->in), &e);
        if (n == HT_EAGAIN)
            return false;
        if (n < 0) {
            fail(r, n, e.text);
            return false;
        }
        ht_buf_consume(&r->in, (size_t)n);
        if (r->head.status < 200) { /* an interim head; the final one follows */
            http_response_begin(&r->head, NULL);
            if (ht_buf_size(&r->in) == 0)
                return false;
            continue;
        }
        r->has_head = true;
        r->body = http_response_body(&r->head, false);
        r->left = r->head.content_length;
        if (r->quiet_ms > 0)
            io_timer_set(&r->timer, r->quiet_ms);
        r->ops->head(r->ctx, r->head.status);
        if (r->body == HTTP_BODY_NONE || (r->body == HTTP_BODY_LENGTH && r->left == 0))
            finish(r, HT_OK, "");
    }
    return !r->over;
}

static void readable(void *ctx) {
    struct web_request *r = ctx;
    uint8_t *to = ht_buf_reserve(&r->in, READ_PIECE);
    if (!to) {
        fail(r, HT_ENOMEM, ht_err_text(HT_ENOMEM));
        return;
    }
    ssize_t n = io_conn_read(r->conn, to, READ_PIECE);
    if (n > 0) {
        ht_buf_commit(&r->in, (size_t)n);
        if (got_head(r) && ht_buf_size(&r->in) > 0) {
            got_body(r, (char *)ht_buf_head(&r->in), ht_buf_size(&r->in));
            ht_buf_consume(&r->in, ht_buf_size(&r->in));
        }
    } else if (n == HT_EOF && r->has_head && r->body == HTTP_BODY_CLOSE) {
        finish(r, HT_OK, "");
    } else if (n == HT_EOF) {
        fail(r, HT_ECLOSED, "the connection was closed before the answer was complete");
    } else if (n != HT_EAGAIN) {
        fail(r, (int)n, ht_err_text((int)n));
    }
}

static void writable(void *ctx) {
    struct web_request *r = ctx;
    /* A server that refuses early may read no more, but its answer can still be read. */
    if (io_out_flush(&r->out, r->conn) < 0)
        io_conn_want_write(r->conn, false);
}

static const struct io_conn_ops conn_ops = {.readable = readable, .writable = writable};

static void connected(void *ctx, struct io_conn *c) {
    struct web_request *r = ctx;
    r->dial = NULL;
    r->conn = c;
    uint64_t now = ht_now_ms(); /* until here the dial kept the time */
    io_timer_set(&r->timer, r->deadline_ms > now ? r->deadline_ms - now : 0);
    io_conn_set_ops(c, &conn_ops, r);
    io_conn_read_on(c, true);
    writable(r);
}

static void failed(void *ctx, int err, const char *text) {
    struct web_request *r = ctx;
    r->dial = NULL;
    finish(r, ht_err_is_tls(err) ? HT_EIO : err, text); /* HT_ETLS is for the CA file */
}

static const struct io_dial_ops dial_ops = {.connected = connected, .failed = failed};

static void timed_out(struct io_timer *t) {
    struct web_request *r = ht_container_of(t, struct web_request, timer);
    fail(r, HT_ETIMEDOUT, r->has_head ? "it stopped sending" : "no answer in time");
}

static int write_request(struct web_request *r, const struct web_ask *ask) {
    struct ht_buf *b = &r->out.queue;
    int rc = http_write_request_line(b, ht_slice_str(ask->method ? ask->method : "GET"), ht_slice_str(ask->path));
    if (rc == HT_OK)
        rc = http_write_field(b, ht_slice_str("host"), ht_slice_str(ask->host_field));
    if (rc == HT_OK && ask->user_agent)
        rc = http_write_field(b, ht_slice_str("user-agent"), ht_slice_str(ask->user_agent));
    if (rc == HT_OK)
        rc = ht_buf_append_str(b, "accept: */*\r\nconnection: close\r\n");
    if (rc == HT_OK && ask->token && *ask->token)
        rc = ht_buf_printf(b, "authorization: Bearer %s\r\n", ask->token);
    if (rc == HT_OK && ask->extra)
        rc = ht_buf_append_str(b, ask->extra);
    if (rc == HT_OK && ask->body.p)
        rc = ht_buf_printf(b, "content-type: application/json\r\ncontent-length: %zu\r\n", ask->body.n);
    if (rc == HT_OK)
        rc = http_write_end(b);
    return rc == HT_OK && ask->body.p ? ht_buf_append(b, ask->body.p, ask->body.n) : rc;
}

static int start(struct web_request *r, const struct web_ask *ask, struct ht_errmsg *err) {
    if (ask->pin && !ask->tls)
        return ht_fail(err, HT_ETLS, "a pin is for a certificate, and the URL is one without TLS");
    if (ask->tls && !(r->tls = io_tls_create_pinned(ask->ca, ask->pin, err)))
        return HT_ETLS;
    snprintf(r->where, sizeof r->where, "%s", ask->host_field);
    int rc = write_request(r, ask);
    if (rc < 0)
        return ht_fail(err, rc, "%s", ht_err_text(rc));
    r->quiet_ms = ask->quiet_ms;
    http_response_begin(&r->head, NULL);
    io_timer_init(r->loop, &r->timer, timed_out);
    r->deadline_ms = ht_now_ms() + ask->timeout_ms;
    if (ask->socket)
        r->dial = io_dial_unix(r->loop, ask->socket, ask->timeout_ms, &dial_ops, r, err);
    else
        r->dial =
            io_dial_start_via(r->loop, ask->via, ask->host, ask->port, r->tls, ask->timeout_ms, &dial_ops, r, err);
    return r->dial ? HT_OK : HT_EIO;
}

int web_request_start(struct web_request **request, struct io_loop *loop, const struct web_ask *ask,
                      const struct web_request_ops *ops, void *ctx, struct ht_errmsg *err) {
    struct web_request *r = *request = ht_calloc(1, sizeof *r);
    if (!r)
        return ht_fail(err, HT_ENOMEM, "%s", ht_err_text(HT_ENOMEM));
    r->loop = loop;
    r->ops = ops;
    r->ctx = ctx;
    int rc = start(r, ask, err);
    if (rc < 0)
        web_request_destroy(request);
    return rc;
}

void web_request_destroy(struct web_request **request) {
    struct web_request *r = *request;
    *request = NULL;
    if (!r)
        return;
    io_timer_stop(&r->timer);
    io_dial_cancel(&r->dial);
    io_conn_close(&r->conn);
    if (r->out.queue.data)
        explicit_bzero(r->out.queue.data, r->out.queue.cap); /* the token */
    io_out_free(&r->out);
    ht_buf_free(&r->in);
    io_tls_destroy(&r->tls);
    ht_free(r);
}

/* ---- one answer, waited for ---- */

struct waiting {
    struct io_loop *loop;
    struct web_answer *answer;
    struct ht_errmsg *err;
    int rc;
};

static void on_head(void *ctx, uint16_t status) { ((struct waiting *)ctx)->answer->status = status; }

static int on_piece(void *ctx, struct ht_slice piece) {
    struct ht_buf *body = &((struct waiting *)ctx)->answer->body;
    return ht_buf_size(body) + piece.n > WEB_ANSWER_MAX ? HT_ELIMIT : ht_buf_append(body, piece.p, piece.n);
}

static void on_done(void *ctx, int rc, const char *text) {
    struct waiting *w = ctx;
    w->rc = rc < 0 ? ht_fail(w->err, rc, "%s", text) : rc;
    io_loop_break(w->loop);
}

int web_fetch(const struct web_ask *ask, struct web_answer *answer, struct ht_errmsg *err) {
    static const struct web_request_ops ops = {.head = on_head, .piece = on_piece, .done = on_done};
    struct waiting w = {.loop = io_loop_create(), .answer = answer, .err = err};
    struct web_request *r = NULL;
    *answer = (struct web_answer){0};
    if (!w.loop)
        return ht_fail(err, HT_ENOMEM, "%s", ht_err_text(HT_ENOMEM));
    int rc = web_request_start(&r, w.loop, ask, &ops, &w, err);
    if (rc == HT_OK) {
        io_loop_run(w.loop);
        rc = w.rc;
    }
    if (rc == HT_OK) { /* a NUL behind the body, for callers that use it as a C string */
        rc = ht_buf_append(&answer->body, "", 1);
        answer->body.len -= rc == HT_OK ? 1 : 0;
    }
    web_request_destroy(&r);
    io_loop_destroy(&w.loop);
    if (rc < 0)
        ht_buf_free(&answer->body);
    return rc;
}
