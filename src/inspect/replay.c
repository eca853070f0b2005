/*
 * Requests that are sent again: each is a visitor from inside this program, whose stream goes to the service directly.
 * The tap lists it like every other request, so its answer is only read here, and dropped.
 */
#include "inspect/server_priv.h"

#include "base/mem.h"
#include "relay/kit.h"
#include "json/json.h"

#include <stdio.h>

#define REPLAY_TIMEOUT_MS (5u * 60u * 1000u)
#define DESCRIPTORS 6 /* of one replay: a pair, the service, one that lingers */

/* ---- the request ---- */

/* What is sent in place of what was. What is not set stays as it was. */
struct edit {
    struct ht_slice method, target, body;
    bool has_headers, has_body;
    struct edit_header {
        struct ht_slice name, value;
        bool keep;
    } headers[HTTP_MAX_HEADERS];
    size_t n_headers;
    struct json_arena arena;
};

static int read_text(struct json_reader *r, struct edit *e, struct ht_slice *out) {
    int rc = json_read_string(r, false, &e->arena, out);
    return rc < 0 ? rc : HT_OK;
}

static int read_header(struct json_reader *r, struct edit *e) {
    struct ht_slice key;
    int more, rc = e->n_headers < HTTP_MAX_HEADERS ? json_object_begin(r) : HT_ELIMIT;
    if (rc < 0)
        return rc;
    struct edit_header *h = &e->headers[e->n_headers++];
    *h = (struct edit_header){.keep = false};
    while ((more = json_object_next(r, &key)) > 0) {
        rc = ht_slice_is(key, "name")    ? read_text(r, e, &h->name)
             : ht_slice_is(key, "value") ? read_text(r, e, &h->value)
             : ht_slice_is(key, "keep")  ? json_read_bool(r, &h->keep)
                                         : json_skip(r);
        if (rc < 0)
            return rc;
    }
    return more;
}

static int read_headers(struct json_reader *r, struct edit *e) {
    int more = 0, rc = json_array_begin(r);
    e->has_headers = true;
    while (rc == HT_OK && (more = json_array_next(r)) > 0)
        rc = read_header(r, e);
    return rc < 0 ? rc : more;
}

static int read_edit(struct json_reader *r, struct edit *e) {
    struct ht_slice key;
    int more, rc = json_object_begin(r);
    if (rc < 0)
        return rc;
    while ((more = json_object_next(r, &key)) > 0) {
        if (ht_slice_is(key, "method"))
            rc = read_text(r, e, &e->method);
        else if (ht_slice_is(key, "target"))
            rc = read_text(r, e, &e->target);
        else if (ht_slice_is(key, "headers"))
            rc = read_headers(r, e);
        else if (ht_slice_is(key, "body")) {
            rc = read_text(r, e, &e->body);
            e->has_body = true;
        } else
            rc = json_skip(r);
        if (rc < 0)
            return rc;
    }
    return more < 0 ? more : json_end(r);
}

static bool is_edited(const struct edit *e) { return e->method.p || e->target.p || e->has_headers || e->has_body; }

/* The value of the nth field of that name, from 0. False: there is none. */
static bool captured_value(const struct inspect_exchange *x, struct ht_slice name, unsigned nth,
                           struct ht_slice *value) {
    struct ht_slice lines = inspect_head_fields(&x->request.head);
    struct inspect_field f;
    while (inspect_field_next(NULL, &lines, &f)) {
        if (!ht_slice_case_eq(f.name, name) || nth-- > 0)
            continue;
        *value = f.value;
        return true;
    }
    return false;
}

/* Fields that the relay writes itself, or that are about one connection. */
static bool is_ours(struct ht_slice name) {
    return http_hop_of(name) != HTTP_HOP_NONE || ht_slice_case_eq(name, ht_slice_str("content-length")) ||
           ht_slice_case_eq(name, ht_slice_str("expect"));
}

static int put_captured_fields(struct ht_buf *b, const struct inspect_exchange *x) {
    struct ht_slice lines = inspect_head_fields(&x->request.head);
    struct inspect_field f;
    int rc = HT_OK;
    while (rc == HT_OK && inspect_field_next(NULL, &lines, &f))
        if (!is_ours(f.name))
            rc = http_write_field(b, f.name, f.value);
    return rc;
}

static int put_edited_fields(struct ht_buf *b, const struct inspect_exchange *x, const struct edit *e,
                             struct ht_errmsg *err) {
    struct ht_slice host;
    int rc =
        captured_value(x, ht_slice_str("host"), 0, &host) ? http_write_field(b, ht_slice_str("Host"), host) : HT_OK;
    for (size_t i = 0; rc == HT_OK && i < e->n_headers; i++) {
        const struct edit_header *h = &e->headers[i];
        struct ht_slice value = h->value;
        unsigned nth = 0;
        if (is_ours(h->name) || ht_slice_case_eq(h->name, ht_slice_str("host")))
            continue;
        for (size_t j = 0; j < i; j++)
            nth += ht_slice_case_eq(e->headers[j].name, h->name);
        if (h->keep && !captured_value(x, h->name, nth, &value))
            return ht_fail(err, HT_EINVAL, "the request had no field %.*s whose value could be kept",
                           (int)ht_min(h->name.n, (size_t)80), h->name.p);
        rc = http_write_field(b, h->name, value);
        if (rc == HT_EINVAL)
            return ht_fail(err, rc, "header field %zu has a name or a value that no field may have", i + 1);
    }
    return rc;
}

/* A request whose body had chunks has chunks again. */
static int put_body(struct ht_buf *b, const struct inspect_exchange *x, const struct edit *e) {
    struct ht_slice body = e->has_body ? e->body : ht_buf_slice(&x->request.body), was;
    char size[20];
    bool chunked = !e->has_body && captured_value(x, ht_slice_str("transfer-encoding"), 0, &was);
    bool length = body.n || (!e->has_body && captured_value(x, ht_slice_str("content-length"), 0, &was));
    int rc = ht_buf_append_str(b, chunked ? "Transfer-Encoding: chunked\r\n" : "");
    if (rc == HT_OK && !chunked && length)
        rc = http_write_content_length(b, body.n);
    if (rc == HT_OK)
        rc = ht_buf_append_str(b, "Connection: close\r\n\r\n");
    if (rc == HT_OK && chunked && body.n)
        rc = ht_buf_append(b, size, http_chunk_head(size, body.n));
    if (rc == HT_OK)
        rc = ht_buf_append(b, body.p, body.n);
    if (rc == HT_OK && chunked)
        rc = ht_buf_append_str(b, body.n ? HTTP_CHUNK_TAIL HTTP_CHUNK_LAST : HTTP_CHUNK_LAST);
    return rc;
}

/* The whole request. 0, HT_ENOMEM, or HT_EINVAL with *err. */
static int write_request(struct ht_buf *b, const struct inspect_exchange *x, const struct edit *e,
                         struct ht_errmsg *err) {
    struct ht_slice target = e->target.p ? e->target : x->target;
    if (target.n == 0 || (*target.p != '/' && !ht_slice_is(target, "*")))
        return ht_fail(err, HT_EINVAL, "the target must begin with /");
    int rc = http_write_request_line(b, e->method.p ? e->method : x->method, target);
    if (rc == HT_EINVAL)
        return ht_fail(err, rc, "the method or the target has a byte that it may not have");
    if (rc == HT_OK)
        rc = e->has_headers ? put_edited_fields(b, x, e, err) : put_captured_fields(b, x);
    if (rc == HT_EINVAL && !e->has_headers)
        return ht_fail(err, rc, "the captured head cannot be written again");
    return rc == HT_OK ? put_body(b, x, e) : rc;
}

/* ---- a replay under way ---- */

static void replay_free(struct replay *r) {
    io_task_cancel(&r->tell);
    io_timer_stop(&r->timer);
    io_conn_abort(&r->conn);
    io_out_free(&r->out);
    ht_list_remove(&r->node);
    r->s->n_replays--;
    ht_free(r);
}

static void answer_error(struct replay *r, int status, const char *text) {
    struct client *c = r->client;
    struct inspect_api_response res = {0};
    r->client = NULL;
    if (!c)
        return;
    c->replay = NULL;
    if (inspect_api_reply_error(&res, status, "%s", text) == HT_OK) {
        client_answer(c, &res);
        return;
    }
    inspect_api_response_free(&res);
    web_conn_close(&c->web);
}

static void answer_exchange(struct replay *r, const struct inspect_exchange *x) {
    struct client *c = r->client;
    struct inspect_api_response res = {.status = 201, .content_type = "application/json"};
    r->client = NULL;
    if (!c)
        return;
    c->replay = NULL;
    if (show_exchange(&res.body, x) == HT_OK) {
        client_answer(c, &res);
        return;
    }
    inspect_api_response_free(&res);
    web_conn_close(&c->web);
}

/* The answer is written in a turn of its own: the store must not be read and written at once. */
static void told(struct io_task *t) {
    struct replay *r = ht_container_of(t, struct replay, tell);
    const struct inspect_exchange *x = inspect_store_get(r->s->cfg.store, r->id);
    if (x)
        answer_exchange(r, x);
    else
        answer_error(r, 409, "it was sent, and newer requests have pushed it out already");
}

/* It is over. What was refused before it became an exchange had an answer that says why. */
static void over(struct replay *r) {
    char text[160];
    if (r->id)
        told(&r->tell);
    snprintf(text, sizeof text, "it was not sent: %s", r->first[0] ? r->first : "the connection was closed");
    answer_error(r, 409, text);
    replay_free(r);
}

static void readable(void *ctx) {
    struct replay *r = ctx;
    ssize_t n = r->id || r->first[0] ? io_conn_discard(r->conn) : io_conn_read(r->conn, r->first, sizeof r->first - 1);
    r->first[strcspn(r->first, "\r\n")] = '\0';
    if (n < 0 && n != HT_EAGAIN)
        over(r);
}

static void writable(void *ctx) {
    struct replay *r = ctx;
    if (io_out_flush(&r->out, r->conn) < 0)
        over(r);
}

static const struct io_conn_ops conn_ops = {.readable = readable, .writable = writable};

static void timed_out(struct io_timer *t) { over(ht_container_of(t, struct replay, timer)); }

void replay_added(struct inspect_server *s, const struct inspect_exchange *x) {
    if (!ht_slice_is(x->visitor, "you"))
        return;
    HT_LIST_FOR (it, &s->replays) {
        struct replay *r = HT_LIST_ENTRY(it, struct replay, node);
        if (!r->opened || r->id || r->original != x->replay_of)
            continue;
        r->id = x->id;
        io_task_add(s->cfg.loop, &r->tell);
        return;
    }
}

void replay_leave(struct client *c) {
    if (c->replay)
        c->replay->client = NULL;
    c->replay = NULL;
}

/* ---- its stream ---- */

static struct replay *replay_of_peer(struct inspect_server *s, struct ht_slice peer) {
    HT_LIST_FOR (it, &s->replays) {
        struct replay *r = HT_LIST_ENTRY(it, struct replay, node);
        char text[IO_ADDR_TEXT];
        snprintf(text, sizeof text, "127.0.0.1:%u", r->port);
        if (!r->opened && ht_slice_is(peer, text))
            return r;
    }
    return NULL;
}

static const char no_service[] = "there is no service that it could go to";

static void stream_open(void *ctx, struct mux_stream *st, const struct wire_stream_open *open) {
    struct inspect_server *s = ctx;
    struct replay *r = replay_of_peer(s, open->peer_addr);
    struct wire_stream_open with = *open;
    char mark[INSPECT_MARK];
    if (r) {
        r->opened = true;
        with.peer_addr = ht_slice_str(inspect_replay_mark(s->cfg.store, r->original, r->edited, mark));
        if (s->cfg.serve(s->cfg.ctx, r->binding, st, &with) || (r->binding && s->cfg.serve(s->cfg.ctx, 0, st, &with)))
            return;
        snprintf(r->first, sizeof r->first, "%s", no_service);
    }
    mux_stream_reset(st, WIRE_CODE_BIND_ERROR, no_service);
    mux_stream_release(&st);
}

/* ---- asking ---- */

static int start(struct client *c, const struct inspect_exchange *x, struct ht_buf *request, bool edited) {
    struct inspect_server *s = c->s;
    struct io_addr peer;
    struct io_conn *pair[2];
    struct replay *r = ht_calloc(1, sizeof *r);
    s->next_port = s->next_port == UINT16_MAX ? 1 : (uint16_t)(s->next_port + 1);
    if (!r || io_addr_parse(&peer, "127.0.0.1", s->next_port) < 0 || relay_inner_up(&s->inner) < 0 ||
        io_conn_pair(s->cfg.loop, pair) < 0) {
        ht_free(r);
        return HT_ENOMEM;
    }
    r->s = s;
    r->client = c;
    r->original = x->id;
    r->binding = x->binding;
    r->edited = edited;
    r->port = s->next_port;
    r->conn = pair[0];
    r->out.queue = *request;
    *request = (struct ht_buf){0};
    c->replay = r;
    ht_list_push_back(&s->replays, &r->node);
    s->n_replays++;
    io_task_init(&r->tell, told);
    io_timer_init(s->cfg.loop, &r->timer, timed_out);
    io_timer_set(&r->timer, REPLAY_TIMEOUT_MS);
    io_conn_set_ops(r->conn, &conn_ops, r);
    io_conn_read_on(r->conn, true);
    io_conn_want_write(r->conn, true);
    relay_inside_visit(s->binding, pair[1], &peer);
    return HT_OK;
}

static int send_again(struct client *c, const struct inspect_exchange *x, const struct edit *e,
                      struct inspect_api_response *res) {
    struct ht_buf request = {0};
    struct ht_errmsg err;
    const struct inspect_message *m = &x->request;
    if (x->kind == INSPECT_WEBSOCKET)
        return inspect_api_reply_error(res, 409, "a WebSocket cannot be sent again");
    if (!e->has_body && (!m->ended || ht_buf_size(&m->body) < m->size))
        return inspect_api_reply_error(res, 409, "the body of the request was not captured whole");
    if (c->s->n_replays >= INSPECT_REPLAYS)
        return inspect_api_reply_error(res, 503, "%u replays are under way already", INSPECT_REPLAYS);
    int rc = write_request(&request, x, e, &err);
    if (rc == HT_EINVAL)
        rc = inspect_api_reply_error(res, 400, "%s", err.text);
    else if (rc == HT_OK && (rc = start(c, x, &request, is_edited(e))) == HT_OK)
        c->role = CLIENT_REPLAY;
    ht_buf_free(&request);
    return rc;
}

int replay_ask(void *ctx, const struct inspect_api_request *req, struct inspect_api_response *res) {
    struct client *c = ctx;
    struct json_reader *r = ht_malloc(sizeof *r);
    struct edit *e = ht_calloc(1, sizeof *e);
    char *texts = ht_malloc(req->body.n + 1);
    int rc = r && e && texts ? HT_OK : HT_ENOMEM;
    const struct inspect_exchange *x = exchange_of(c->s, req->params.id);
    if (rc == HT_OK && req->body.n) {
        e->arena = (struct json_arena){.p = texts, .cap = req->body.n};
        json_begin(r, req->body.p, req->body.n, NULL);
        rc = read_edit(r, e);
    }
    if (rc == HT_ENOMEM)
        ;
    else if (!x)
        rc = inspect_api_reply_error(res, 404, "there is no such exchange, or no more");
    else if (rc < 0)
        rc = inspect_api_reply_error(res, 400, "the body is not what is described: %s",
                                     rc == HT_ELIMIT ? "too many header fields" : json_reason_text(r->error.reason));
    else
        rc = send_again(c, x, e, res);
    ht_free(texts);
    ht_free(e);
    ht_free(r);
    return rc;
}

/* ---- life ---- */

int replay_init(struct inspect_server *s) {
    uint32_t bind_id;
    s->fds.total = INSPECT_REPLAYS * DESCRIPTORS;
    relay_owner_init(&s->owner, NULL);
    s->owner.own_peer = true;
    struct relay_kit_config cfg = relay_inside_config(s->cfg.loop, &s->fds, &s->metrics);
    s->table = relay_table_create(&cfg);
    s->binding = s->table ? relay_inside_open(s->table, &s->owner, &bind_id) : NULL;
    if (!s->binding)
        return HT_ENOMEM;
    relay_inner_init(
        &s->inner,
        &(struct relay_inner_config){
            .t = s->table, .owner = &s->owner, .max_streams = INSPECT_REPLAYS, .stream_open = stream_open, .ctx = s});
    return HT_OK;
}

void replay_end(struct inspect_server *s) {
    HT_LIST_FOR_SAFE (it, &s->replays)
        replay_free(HT_LIST_ENTRY(it, struct replay, node));
    if (s->table)
        relay_owner_drop(s->table, &s->owner);
    relay_inner_down(&s->inner);
    relay_table_destroy(&s->table);
}
