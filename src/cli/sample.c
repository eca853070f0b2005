/* The page of `expose --sample` and `demo`, on a loopback port. */
#include "cli/cli.h"

#include "base/list.h"
#include "base/mem.h"

#include <stdio.h>
#include <time.h>

#define SAMPLE_HEAD 16384
#define SAMPLE_TICK_MS 1000

struct cli_sample {
    struct io_loop *loop;
    struct web_server web;
    struct io_listener *listener;
    struct ht_list conns;
    unsigned long served;
};

struct sample_conn {
    struct web_conn web;
    struct ht_list node;
    struct cli_sample *s;
    unsigned long ticks; /* events of the event stream so far */
};

static struct sample_conn *conn_of(struct web_conn *c) { return ht_container_of(c, struct sample_conn, web); }

/* ---- the answers ---- */

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

static int page_body(struct sample_conn *k, struct ht_buf *b) {
    const struct http_head *h = &k->web.head;
    const char *head = web_bytes(&k->web);
    int rc = ht_buf_append_str(b, page_top);
    if (rc == HT_OK)
        rc = ht_buf_printf(b, "<p>Request number %lu since it was started.</p>\n", k->s->served);
    if (rc == HT_OK)
        rc = ht_buf_append_str(b, page_mid);
    for (uint32_t i = 0; i < h->n_fields && rc == HT_OK; i++) {
        rc = ht_buf_append_str(b, "<tr><td>");
        if (rc == HT_OK)
            rc = put_escaped(b, http_text(head, h->fields[i].name));
        if (rc == HT_OK)
            rc = ht_buf_append_str(b, "<td>");
        if (rc == HT_OK)
            rc = put_escaped(b, http_text(head, h->fields[i].value));
        if (rc == HT_OK)
            rc = ht_buf_append_str(b, "\n");
    }
    return rc == HT_OK ? ht_buf_append_str(b, "</table>\n</html>\n") : rc;
}

static int headers_body(struct sample_conn *k, struct ht_buf *b) {
    const struct http_head *h = &k->web.head;
    const char *head = web_bytes(&k->web);
    struct ht_slice m = http_text(head, h->method), t = http_text(head, h->target);
    int rc = ht_buf_printf(b, "%.*s %.*s HTTP/1.%u\n", HT_SLICE_ARG(m), HT_SLICE_ARG(t), h->minor);
    for (uint32_t i = 0; i < h->n_fields && rc == HT_OK; i++) {
        struct ht_slice n = http_text(head, h->fields[i].name), v = http_text(head, h->fields[i].value);
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

/* `rc` is the result of queueing an answer. False: out of memory, and the connection was closed. */
static bool put(struct web_conn *c, int rc) {
    if (rc < 0)
        web_conn_close(c);
    return rc >= 0;
}

static bool page(struct sample_conn *k, bool whole) {
    struct ht_buf body = {0};
    int rc = whole ? page_body(k, &body) : headers_body(k, &body);
    bool alive = put(&k->web, rc) &&
                 web_reply(&k->web, &(struct web_reply){
                                        .status = 200,
                                        .type = whole ? "text/html; charset=utf-8" : "text/plain; charset=utf-8",
                                        .body = ht_buf_slice(&body),
                                        .extra = "Cache-Control: no-store\r\n",
                                    });
    ht_buf_free(&body);
    return alive;
}

static bool events(struct sample_conn *k) {
    static const struct web_reply begin = {
        .status = 200,
        .type = "text/event-stream",
        .extra = "Cache-Control: no-store\r\nTransfer-Encoding: chunked\r\n",
    };
    return web_stream(&k->web, &begin) && put(&k->web, put_event(k, &k->web.out.queue));
}

static bool request(struct web_conn *c) {
    struct sample_conn *k = conn_of(c);
    struct ht_slice method = http_text(web_bytes(c), c->head.method), path = web_path(c);
    bool is_head = ht_slice_is(method, "HEAD");
    k->s->served++;
    if (!is_head && !ht_slice_is(method, "GET"))
        return put(c, http_write_answer(&c->out.queue, 1, 405, "Allow: GET, HEAD\r\n",
                                        "this sample answers GET and HEAD\n", false, c->close_after));
    if (ht_slice_is(path, "/events") && !is_head && c->head.minor == 1)
        return events(k);
    if (ht_slice_is(path, "/") || ht_slice_is(path, "/headers"))
        return page(k, path.n == 1);
    return put(c, http_write_answer(&c->out.queue, 1, 404, NULL, "there is no such page here, and that travels too\n",
                                    is_head, c->close_after));
}

static bool refuse(struct web_conn *c, uint16_t status, const char *text) {
    return put(c, http_write_answer(&c->out.queue, 1, status, NULL, text, false, true));
}

static void tick(struct web_conn *c) {
    if (put(c, put_event(conn_of(c), &c->out.queue)))
        web_conn_flush(c);
}

static void gone(struct web_conn *c) {
    ht_list_remove(&conn_of(c)->node);
    ht_free(conn_of(c));
}

static const struct web_server_ops server_ops = {.request = request, .refuse = refuse, .tick = tick, .gone = gone};

static void accepted(void *ctx, struct io_conn *c, const struct io_addr *peer) {
    struct cli_sample *s = ctx;
    struct sample_conn *k = ht_calloc(1, sizeof *k);
    (void)peer;
    if (!k) {
        io_conn_close(&c);
        return;
    }
    k->s = s;
    ht_list_init(&k->node);
    ht_list_push_back(&s->conns, &k->node);
    web_conn_begin(&k->web, s->loop, &s->web, c);
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
    s->web = (struct web_server){
        .ops = &server_ops,
        .limits = {.max_head = SAMPLE_HEAD, .max_headers = HTTP_MAX_HEADERS, .max_target = SAMPLE_HEAD / 2},
        .tick_ms = SAMPLE_TICK_MS,
    };
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
        web_conn_close(&HT_LIST_ENTRY(s->conns.next, struct sample_conn, node)->web);
    ht_free(s);
}
