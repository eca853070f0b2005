/* One GET to a kit's admin API, on a loop of its own. */
#include "cli/cli.h"

#include "driver/url.h"
#include "http/http.h"
#include "relay/pipe.h"
#include "wire_gen.h"

#define ANSWER_MAX (16u * 1024u * 1024u)
#define ANSWER_HEAD_MAX 65536u

struct request {
    struct io_loop *loop;
    struct io_dial *dial;
    struct io_conn *conn;
    struct relay_out out;
    struct ht_buf in;
    struct http_head head;
    struct http_chunked chunked;
    enum http_body_kind body;
    uint64_t left;
    bool has_head;
    struct io_timer timer;
    struct cli_answer *answer;
    struct ht_errmsg *err;
    const char *where;
    int rc;
};

static void finish(struct request *r, int rc) {
    r->rc = rc;
    io_loop_break(r->loop);
}

static void fail(struct request *r, int rc, const char *text) {
    ht_fail(r->err, rc, "%s: %s", r->where, text);
    finish(r, rc);
}

/* Body bytes at buf; they may be decoded in place. True when the body is over. */
static bool take_body(struct request *r, char *buf, size_t n, struct http_error *e, int *rc) {
    size_t used = n;
    *rc = HT_OK;
    if (r->body == HTTP_BODY_NONE)
        return true;
    if (r->body == HTTP_BODY_CHUNKED)
        *rc = http_chunked_decode(&r->chunked, buf, &n, &used, e);
    else if (r->body == HTTP_BODY_LENGTH)
        n = r->left < n ? (size_t)r->left : n;
    if (*rc < 0)
        return true;
    if (ht_buf_size(&r->answer->body) + n > ANSWER_MAX) {
        *rc = HT_ELIMIT;
        return true;
    }
    *rc = ht_buf_append(&r->answer->body, buf, n);
    r->left -= r->body == HTTP_BODY_LENGTH ? n : 0;
    return *rc < 0 || (r->body == HTTP_BODY_CHUNKED && r->chunked.done) ||
           (r->body == HTTP_BODY_LENGTH && r->left == 0);
}

static void got_body(struct request *r, char *buf, size_t n) {
    struct http_error e = {.text = ""};
    int rc;
    if (!take_body(r, buf, n, &e, &rc))
        return;
    if (rc == HT_OK)
        finish(r, HT_OK);
    else
        fail(r, rc, rc == HT_EPROTO ? e.text : rc == HT_ELIMIT ? "the answer is too long" : ht_err_text(rc));
}

static void got_bytes(struct request *r) {
    struct http_error e;
    while (!r->has_head) {
        int n = http_head_parse(&r->head, (char *)ht_buf_head(&r->in), ht_buf_size(&r->in), &e);
        if (n == HT_EAGAIN)
            return;
        if (n < 0) {
            fail(r, n, e.text);
            return;
        }
        ht_buf_consume(&r->in, (size_t)n);
        if (r->head.status < 200) { /* an interim head: the real one follows */
            http_response_begin(&r->head, NULL);
            if (ht_buf_size(&r->in) == 0)
                return;
            continue;
        }
        r->has_head = true;
        r->answer->status = r->head.status;
        r->body = http_response_body(&r->head, false);
        r->left = r->head.content_length;
        if (r->body == HTTP_BODY_NONE || (r->body == HTTP_BODY_LENGTH && r->left == 0)) {
            finish(r, HT_OK);
            return;
        }
    }
    if (ht_buf_size(&r->in) > 0) {
        got_body(r, (char *)ht_buf_head(&r->in), ht_buf_size(&r->in));
        ht_buf_consume(&r->in, ht_buf_size(&r->in));
    }
}

static void readable(void *ctx) {
    struct request *r = ctx;
    uint8_t *to = ht_buf_reserve(&r->in, 16384);
    if (!to) {
        fail(r, HT_ENOMEM, ht_err_text(HT_ENOMEM));
        return;
    }
    ssize_t n = io_conn_read(r->conn, to, 16384);
    if (n > 0) {
        ht_buf_commit(&r->in, (size_t)n);
        got_bytes(r);
    } else if (n == HT_EOF && r->has_head && r->body == HTTP_BODY_CLOSE) {
        finish(r, HT_OK);
    } else if (n == HT_EOF) {
        fail(r, HT_ECLOSED, "the connection was closed before the answer was complete");
    } else if (n != HT_EAGAIN) {
        fail(r, (int)n, ht_err_text((int)n));
    }
}

static void writable(void *ctx) {
    struct request *r = ctx;
    /* A kit that refuses early may have closed its reading side: what it said is still read. */
    if (relay_out_flush(&r->out, r->conn) < 0)
        io_conn_want_write(r->conn, false);
}

static const struct io_conn_ops conn_ops = {.readable = readable, .writable = writable};

static void connected(void *ctx, struct io_conn *c) {
    struct request *r = ctx;
    r->dial = NULL;
    r->conn = c;
    io_conn_set_ops(c, &conn_ops, r);
    io_conn_read_on(c, true);
    writable(r);
}

static void failed(void *ctx, int err, const char *text) {
    struct request *r = ctx;
    r->dial = NULL;
    ht_fail(r->err, err, "%s", text);
    finish(r, err == HT_ETLS ? HT_EIO : err); /* HT_ETLS is for the CA file */
}

static const struct io_dial_ops dial_ops = {.connected = connected, .failed = failed};

static void timed_out(struct io_timer *t) {
    struct request *r = ht_container_of(t, struct request, timer);
    fail(r, HT_ETIMEDOUT, "no answer in time");
}

static int write_request(struct request *r, const struct driver_url *u, const char *path, const char *token) {
    struct ht_buf *b = &r->out.queue;
    int rc = http_write_request_line(b, ht_slice_str("GET"), ht_slice_str(path));
    if (rc == HT_OK)
        rc = http_write_field(b, ht_slice_str("host"), ht_slice_str(u->host_field));
    if (rc == HT_OK)
        rc = http_write_field(b, ht_slice_str("user-agent"), ht_slice_str("hoody-tunnel/" HT_VERSION));
    if (rc == HT_OK)
        rc = ht_buf_append_str(b, "accept: */*\r\nconnection: close\r\n");
    if (rc == HT_OK && token && *token)
        rc = ht_buf_printf(b, "authorization: Bearer %s\r\n", token);
    return rc == HT_OK ? http_write_end(b) : rc;
}

int cli_admin_get(const struct cli_ask *ask, struct cli_answer *answer, struct ht_errmsg *err) {
    struct driver_url u;
    char path[DRIVER_PATH_MAX + 64];
    struct request r = {.answer = answer, .err = err, .rc = HT_EIO};
    struct io_tls *tls = NULL;
    *answer = (struct cli_answer){0};
    if (driver_url_parse(&u, ask->url, WIRE_CONNECT_PATH, err) < 0)
        return HT_EINVAL;
    if (driver_url_admin_path(&u, WIRE_CONNECT_PATH, ask->resource, path, sizeof path) < 0)
        return ht_fail(err, HT_EINVAL, "the path of the kit's URL is too long");
    if (u.tls && !(tls = io_tls_create(ask->ca, err)))
        return HT_ETLS;
    r.where = u.host_field;
    r.loop = io_loop_create();
    if (!r.loop || write_request(&r, &u, path, ask->token) < 0) {
        r.rc = ht_fail(err, HT_ENOMEM, "%s", ht_err_text(HT_ENOMEM));
    } else {
        http_response_begin(&r.head, NULL);
        io_timer_init(r.loop, &r.timer, timed_out);
        io_timer_set(&r.timer, ask->timeout_ms);
        r.dial = io_dial_start(r.loop, u.host, u.port, tls, ask->timeout_ms, &dial_ops, &r, err);
        if (r.dial)
            io_loop_run(r.loop);
        io_timer_stop(&r.timer);
    }
    if (r.rc == HT_OK) { /* for those who want a C string */
        r.rc = ht_buf_append(&answer->body, "", 1);
        answer->body.len -= r.rc == HT_OK ? 1 : 0;
    }
    io_dial_cancel(&r.dial);
    io_conn_close(&r.conn);
    if (r.out.queue.data)
        explicit_bzero(r.out.queue.data, r.out.queue.cap); /* the token */
    relay_out_free(&r.out);
    ht_buf_free(&r.in);
    io_tls_destroy(&tls);
    io_loop_destroy(&r.loop);
    if (r.rc < 0)
        ht_buf_free(&answer->body);
    return r.rc;
}
