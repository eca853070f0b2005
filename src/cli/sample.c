/* The page of `expose --sample` and `demo`: a small HTTP/1.1 server on a loopback port. */
#include "cli/cli.h"

#include "base/list.h"
#include "base/mem.h"
#include "http/http.h"

#include <stdio.h>
#include <time.h>

#define SAMPLE_HEAD 16384
#define SAMPLE_TICK_MS 1000

struct cli_sample {
    struct io_loop *loop;
    struct io_listener *listener;
    struct ht_list conns;
    unsigned long served;
};

struct sample_conn {
    struct ht_list node;
    struct cli_sample *s;
    struct io_conn *c;
    struct ht_buf in;
    struct io_out out;
    struct http_head head;
    struct io_timer tick; /* for the event stream */
    unsigned long ticks;
    bool closing, events;
};

static void conn_drop(struct sample_conn *k) {
    ht_list_remove(&k->node);
    io_timer_stop(&k->tick);
    io_conn_close(&k->c);
    io_out_free(&k->out);
    ht_buf_free(&k->in);
    ht_free(k);
}

/* ---- what it says ---- */

static int put_escaped(struct ht_buf *b, struct ht_slice s) {
    int rc = HT_OK;
    for (size_t i = 0; i < s.n && rc == HT_OK; i++) {
        unsigned char c = (unsigned char)s.p[i];
        if (c == '<' || c == '>' || c == '&' || c == '"' || c >= 0x80)
            rc = ht_buf_printf(b, "&#%u;", c);
        else
            rc = ht_buf_append(b, s.p + i, 1);
    }
    return rc;
}

static const char page_top[] =
    "<!doctype html>\n<html lang=\"en\">\n<meta charset=\"utf-8\">\n"
    "<meta name=\"viewport\" content=\"width=device-width\">\n<title>It works: hoody-tunnel</title>\n<style>\n"
    "body{font:17px/1.5 system-ui,sans-serif;max-width:44rem;margin:3rem auto;padding:0 "
    "1rem;color:#223;background:#fbfaf7}\n"
    "h1{font-size:2rem;margin:0 0 .5rem}code,td{font-family:ui-monospace,monospace;font-size:.85rem}\n"
    "table{border-collapse:collapse;width:100%}td{border-top:1px solid #ddd;padding:.3rem .6rem .3rem "
    "0;vertical-align:top;"
    "overflow-wrap:anywhere}td:first-child{color:#667;white-space:nowrap}a{color:#0a58a8}#tick{font-weight:600}\n"
    "</style>\n<h1>It works.</h1>\n"
    "<p>This page comes from a small server inside <code>hoody-tunnel</code>. Your request went to a port of the kit, "
    "through one WebSocket to the driver, and from there to that server; this answer came the same way back.</p>\n";

static const char page_mid[] =
    "<p>Server-sent events stream as they happen: <span id=\"tick\">waiting&hellip;</span></p>\n"
    "<script>new "
    "EventSource('/events').onmessage=function(e){document.getElementById('tick').textContent=e.data}</script>\n"
    "<p>Also here: <a href=\"/headers\">/headers</a> as plain text, <a href=\"/events\">/events</a>, "
    "and <a href=\"/no-such-page\">a page that is not</a>.</p>\n<h2>Your request</h2>\n<table>\n";

static int page_body(struct sample_conn *k, const char *head, struct ht_buf *b) {
    int rc = ht_buf_append_str(b, page_top);
    if (rc == HT_OK)
        rc = ht_buf_printf(b, "<p>Request number %lu since it was started.</p>\n", k->s->served);
    if (rc == HT_OK)
        rc = ht_buf_append_str(b, page_mid);
    for (uint32_t i = 0; i < k->head.n_fields && rc == HT_OK; i++) {
        rc = ht_buf_append_str(b, "<tr><td>");
        if (rc == HT_OK)
            rc = put_escaped(b, http_text(head, k->head.fields[i].name));
        if (rc == HT_OK)
            rc = ht_buf_append_str(b, "<td>");
        if (rc == HT_OK)
            rc = put_escaped(b, http_text(head, k->head.fields[i].value));
        if (rc == HT_OK)
            rc = ht_buf_append_str(b, "\n");
    }
    return rc == HT_OK ? ht_buf_append_str(b, "</table>\n</html>\n") : rc;
}

static int headers_body(struct sample_conn *k, const char *head, struct ht_buf *b) {
    struct ht_slice m = http_text(head, k->head.method), t = http_text(head, k->head.target);
    int rc = ht_buf_printf(b, "%.*s %.*s HTTP/1.%u\n", HT_SLICE_ARG(m), HT_SLICE_ARG(t), k->head.minor);
    for (uint32_t i = 0; i < k->head.n_fields && rc == HT_OK; i++) {
        struct ht_slice n = http_text(head, k->head.fields[i].name), v = http_text(head, k->head.fields[i].value);
        rc = ht_buf_printf(b, "%.*s: %.*s\n", HT_SLICE_ARG(n), HT_SLICE_ARG(v));
    }
    return rc;
}

static int put_event(struct sample_conn *k, struct ht_buf *b) {
    time_t now = time(NULL);
    struct tm tm;
    char when[32];
    localtime_r(&now, &tm);
    strftime(when, sizeof when, "%H:%M:%S", &tm);
    char data[96];
    int n = snprintf(data, sizeof data, "data: event %lu at %s\n\n", ++k->ticks, when);
    return ht_buf_printf(b, "%x\r\n%s\r\n", (unsigned)n, data);
}

static int answer(struct sample_conn *k, const char *head, struct ht_buf *b) {
    struct ht_slice method = http_text(head, k->head.method), path = http_text(head, k->head.path);
    bool is_head = ht_slice_is(method, "HEAD");
    struct ht_buf body = {0};
    const char *query = path.n ? memchr(path.p, '?', path.n) : NULL;
    path.n = query ? (size_t)(query - path.p) : path.n;
    int rc;
    if (!is_head && !ht_slice_is(method, "GET"))
        return http_write_answer(b, 1, 405, "Allow: GET, HEAD\r\n", "this sample answers GET and HEAD\n", false,
                                 k->closing);
    if (ht_slice_is(path, "/events") && !is_head && k->head.minor == 1) {
        k->events = true;
        io_timer_set(&k->tick, SAMPLE_TICK_MS);
        rc = ht_buf_append_str(b, "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nCache-Control: no-store\r\n"
                                  "Transfer-Encoding: chunked\r\n\r\n");
        return rc == HT_OK ? put_event(k, b) : rc;
    }
    const char *type = "text/html; charset=utf-8";
    if (ht_slice_is(path, "/")) {
        rc = page_body(k, head, &body);
    } else if (ht_slice_is(path, "/headers")) {
        type = "text/plain; charset=utf-8";
        rc = headers_body(k, head, &body);
    } else {
        return http_write_answer(b, 1, 404, NULL, "there is no such page here, and that travels too\n", is_head,
                                 k->closing);
    }
    if (rc == HT_OK)
        rc = ht_buf_printf(
            b, "HTTP/1.1 200 OK\r\nContent-Type: %s\r\nCache-Control: no-store\r\nContent-Length: %zu\r\n%s\r\n", type,
            ht_buf_size(&body), k->closing ? "Connection: close\r\n" : "");
    if (rc == HT_OK && !is_head)
        rc = ht_buf_append(b, ht_buf_head(&body), ht_buf_size(&body));
    ht_buf_free(&body);
    return rc;
}

/* ---- the connection ---- */

/* False: the connection is gone. */
static bool conn_flush(struct sample_conn *k) {
    if (io_out_flush(&k->out, k->c) < 0) {
        conn_drop(k);
        return false;
    }
    if (!k->closing || io_out_pending(&k->out) > 0)
        return true;
    io_conn_close_lingering(&k->c, 1000);
    conn_drop(k);
    return false;
}

static void tick_fired(struct io_timer *t) {
    struct sample_conn *k = ht_container_of(t, struct sample_conn, tick);
    if (put_event(k, &k->out.queue) < 0) {
        conn_drop(k);
        return;
    }
    io_timer_set(&k->tick, SAMPLE_TICK_MS);
    conn_flush(k);
}

/* Answers every complete request that is there. False: the connection is gone. */
static bool serve(struct sample_conn *k) {
    while (ht_buf_size(&k->in) > 0 && !k->closing && !k->events) {
        const char *head = (const char *)ht_buf_head(&k->in);
        struct http_error e;
        int n = http_head_parse(&k->head, head, ht_buf_size(&k->in), &e), rc;
        if (n == HT_EAGAIN)
            return true;
        if (n < 0) {
            k->closing = true;
            rc = http_write_answer(&k->out.queue, 1, e.status, NULL, e.text, false, true);
        } else {
            /* A body is not read: the connection ends with the answer. */
            k->closing = http_request_body(&k->head) != HTTP_BODY_NONE || !(k->head.flags & HTTP_KEEP_ALIVE);
            k->s->served++;
            rc = answer(k, head, &k->out.queue);
        }
        if (rc < 0) {
            conn_drop(k);
            return false;
        }
        if (n > 0)
            ht_buf_consume(&k->in, (size_t)n);
        http_request_begin(&k->head, &(struct http_limits){.max_head = SAMPLE_HEAD,
                                                           .max_headers = HTTP_MAX_HEADERS,
                                                           .max_target = SAMPLE_HEAD / 2});
    }
    return conn_flush(k);
}

static void conn_readable(void *ctx) {
    struct sample_conn *k = ctx;
    uint8_t *to = ht_buf_reserve(&k->in, 4096);
    ssize_t n = to ? io_conn_read(k->c, to, 4096) : HT_ENOMEM;
    if (n == HT_EAGAIN)
        return;
    /* While events run nothing is expected but the end. */
    if (n <= 0 || ht_buf_size(&k->in) > SAMPLE_HEAD) {
        conn_drop(k);
        return;
    }
    ht_buf_commit(&k->in, (size_t)n);
    serve(k);
}

static void conn_writable(void *ctx) { conn_flush(ctx); }

static const struct io_conn_ops conn_ops = {.readable = conn_readable, .writable = conn_writable};

static void accepted(void *ctx, struct io_conn *c, const struct io_addr *peer) {
    struct cli_sample *s = ctx;
    struct sample_conn *k = ht_calloc(1, sizeof *k);
    (void)peer;
    if (!k) {
        io_conn_close(&c);
        return;
    }
    io_conn_set_ops(c, &conn_ops, k);
    k->s = s;
    k->c = c;
    ht_list_init(&k->node);
    ht_list_push_back(&s->conns, &k->node);
    io_timer_init(s->loop, &k->tick, tick_fired);
    http_request_begin(
        &k->head,
        &(struct http_limits){.max_head = SAMPLE_HEAD, .max_headers = HTTP_MAX_HEADERS, .max_target = SAMPLE_HEAD / 2});
    io_conn_read_on(c, true);
}

static const struct io_listener_ops listener_ops = {.accepted = accepted};

struct cli_sample *cli_sample_start(struct io_loop *loop, struct ht_errmsg *err) {
    struct cli_sample *s = ht_calloc(1, sizeof *s);
    struct io_addr any;
    if (!s) {
        ht_fail(err, HT_ENOMEM, "%s", ht_err_text(HT_ENOMEM));
        return NULL;
    }
    s->loop = loop;
    ht_list_init(&s->conns);
    if (io_addr_parse(&any, "127.0.0.1", 0) < 0 || io_listen(loop, &any, &listener_ops, s, &s->listener, err) < 0) {
        ht_free(s);
        return NULL;
    }
    return s;
}

uint16_t cli_sample_port(const struct cli_sample *s) {
    struct io_addr at;
    io_listener_local(s->listener, &at);
    return io_addr_port(&at);
}

void cli_sample_stop(struct cli_sample **sp) {
    struct cli_sample *s = *sp;
    *sp = NULL;
    if (!s)
        return;
    io_listener_close(&s->listener);
    while (!ht_list_empty(&s->conns))
        conn_drop(HT_LIST_ENTRY(s->conns.next, struct sample_conn, node));
    ht_free(s);
}
