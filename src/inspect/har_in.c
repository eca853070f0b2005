/*
 * HAR 1.2 files that are read: the text is in memory once, and is read an entry at a time, some milliseconds in a turn
 * of the loop. What an entry has that no request can have is left out; an entry without a request is no error.
 */
#include "inspect/server_priv.h"

#include "base/base64.h"
#include "base/clock.h"
#include "base/mem.h"
#include "json/json.h"

#include <stdio.h>
#include <time.h>

#define TURN_MS 10u
#define HEADERS_MAX HTTP_MAX_HEADERS

struct har_in {
    struct inspect_store *store;
    struct json_reader r, messages; /* messages: at the value of _webSocketMessages of the present entry */
    const char *text;
    enum { HAR_ROOT, HAR_LOG, HAR_ENTRIES, HAR_DONE } at;
    struct json_arena arena;
    uint64_t imported;
};

struct har_message {
    struct {
        struct ht_slice name, value;
    } headers[HEADERS_MAX];
    size_t n_headers;
    struct ht_slice method, url, status_text, type, text, encoding;
    uint64_t status;
    bool truncated;
};

struct har_entry {
    struct har_message request, response;
    struct ht_slice started, visitor, binding;
    uint64_t time;
    struct inspect_timing timing;
    bool has_messages;
};

/* ---- values; of another type than expected they are left out ---- */

static int read_text(struct har_in *h, struct json_reader *r, struct ht_slice *out) {
    if (json_peek(r) != JSON_T_STRING)
        return json_skip(r);
    int rc = json_read_string(r, false, &h->arena, out);
    return rc < 0 ? rc : HT_OK;
}

/* A number of milliseconds as microseconds, or of seconds with `scale` 1000000; what is negative is 0. */
static int read_time(struct json_reader *r, uint64_t scale, uint64_t *out) {
    uint64_t whole = 0, part = 0, unit = scale;
    if (json_peek(r) != JSON_T_NUMBER)
        return json_skip(r);
    const uint8_t *p = r->p;
    int rc = json_skip(r);
    if (rc < 0)
        return rc;
    while (p < r->p && (*p == ' ' || *p == '\t' || *p == '\r' || *p == '\n'))
        p++;
    for (; p < r->p && *p >= '0' && *p <= '9' && whole < UINT64_C(1) << 40; p++)
        whole = whole * 10 + (uint64_t)(*p - '0');
    if (p < r->p && *p == '.')
        for (p++; p < r->p && *p >= '0' && *p <= '9' && unit > 1; p++) {
            unit /= 10;
            part += (uint64_t)(*p - '0') * unit;
        }
    *out = whole * scale + part;
    return HT_OK;
}

static int read_uint(struct json_reader *r, uint64_t *out) {
    if (json_peek(r) != JSON_T_NUMBER)
        return json_skip(r);
    int rc = json_read_uint(r, out);
    return rc < 0 ? rc : HT_OK;
}

/* Runs `member` for each member of an object; what is no object is left out. */
static int each_member(struct har_in *h, struct json_reader *r, void *to,
                       int (*member)(struct har_in *h, struct json_reader *r, struct ht_slice key, void *to)) {
    struct ht_slice key;
    if (json_peek(r) != JSON_T_OBJECT)
        return json_skip(r);
    int more, rc = json_object_begin(r);
    if (rc < 0)
        return rc;
    while ((more = json_object_next(r, &key)) > 0)
        if ((rc = member(h, r, key, to)) < 0)
            return rc;
    return more;
}

static int each_value(struct har_in *h, struct json_reader *r, void *to,
                      int (*value)(struct har_in *h, struct json_reader *r, void *to)) {
    if (json_peek(r) != JSON_T_ARRAY)
        return json_skip(r);
    int more, rc = json_array_begin(r);
    if (rc < 0)
        return rc;
    while ((more = json_array_next(r)) > 0)
        if ((rc = value(h, r, to)) < 0)
            return rc;
    return more;
}

/* ---- an entry ---- */

static int header_member(struct har_in *h, struct json_reader *r, struct ht_slice key, void *to) {
    struct har_message *m = to;
    if (ht_slice_is(key, "name"))
        return read_text(h, r, &m->headers[m->n_headers].name);
    if (ht_slice_is(key, "value"))
        return read_text(h, r, &m->headers[m->n_headers].value);
    return json_skip(r);
}

static int header(struct har_in *h, struct json_reader *r, void *to) {
    struct har_message *m = to;
    if (m->n_headers == HEADERS_MAX)
        return json_skip(r);
    memset(&m->headers[m->n_headers], 0, sizeof m->headers[0]);
    int rc = each_member(h, r, m, header_member);
    m->n_headers += rc == HT_OK && m->headers[m->n_headers].name.n > 0;
    return rc;
}

static int body_member(struct har_in *h, struct json_reader *r, struct ht_slice key, void *to) {
    struct har_message *m = to;
    if (ht_slice_is(key, "text"))
        return read_text(h, r, &m->text);
    if (ht_slice_is(key, "encoding"))
        return read_text(h, r, &m->encoding);
    if (ht_slice_is(key, "mimeType"))
        return read_text(h, r, &m->type);
    return json_skip(r);
}

static int message_member(struct har_in *h, struct json_reader *r, struct ht_slice key, void *to) {
    struct har_message *m = to;
    if (ht_slice_is(key, "method"))
        return read_text(h, r, &m->method);
    if (ht_slice_is(key, "url"))
        return read_text(h, r, &m->url);
    if (ht_slice_is(key, "status"))
        return read_uint(r, &m->status);
    if (ht_slice_is(key, "statusText"))
        return read_text(h, r, &m->status_text);
    if (ht_slice_is(key, "headers"))
        return each_value(h, r, m, header);
    if (ht_slice_is(key, "postData") || ht_slice_is(key, "content"))
        return each_member(h, r, m, body_member);
    if (ht_slice_is(key, "_truncated") && json_peek(r) == JSON_T_BOOL)
        return json_read_bool(r, &m->truncated);
    return json_skip(r);
}

static int timing_member(struct har_in *h, struct json_reader *r, struct ht_slice key, void *to) {
    struct inspect_timing *t = to;
    (void)h;
    uint64_t *at = ht_slice_is(key, "blocked")   ? &t->queued
                   : ht_slice_is(key, "connect") ? &t->connect
                   : ht_slice_is(key, "send")    ? &t->send
                   : ht_slice_is(key, "wait")    ? &t->wait
                   : ht_slice_is(key, "receive") ? &t->receive
                                                 : NULL;
    return at ? read_time(r, 1000, at) : json_skip(r);
}

static int entry_member(struct har_in *h, struct json_reader *r, struct ht_slice key, void *to) {
    struct har_entry *e = to;
    if (ht_slice_is(key, "request"))
        return each_member(h, r, &e->request, message_member);
    if (ht_slice_is(key, "response"))
        return each_member(h, r, &e->response, message_member);
    if (ht_slice_is(key, "startedDateTime"))
        return read_text(h, r, &e->started);
    if (ht_slice_is(key, "time"))
        return read_time(r, 1000, &e->time);
    if (ht_slice_is(key, "timings"))
        return each_member(h, r, &e->timing, timing_member);
    if (ht_slice_is(key, "_visitor"))
        return read_text(h, r, &e->visitor);
    if (ht_slice_is(key, "_binding"))
        return read_text(h, r, &e->binding);
    if (ht_slice_is(key, "_webSocketMessages")) {
        h->messages = *r;
        e->has_messages = true;
    }
    return json_skip(r);
}

/* ---- into the store ---- */

/* "2026-01-31T12:00:00.000Z", or with +01:00 behind it; 0: it is none. */
static uint64_t time_of(struct ht_slice s) {
    char text[64], sign = 'Z', fraction[16] = "";
    struct tm tm = {.tm_isdst = 0};
    int hours = 0, minutes = 0, n = 0;
    snprintf(text, sizeof text, "%.*s", (int)ht_min(s.n, sizeof text - 1), s.n ? s.p : "");
    if (sscanf(text, "%4d-%2d-%2dT%2d:%2d:%2d%n", &tm.tm_year, &tm.tm_mon, &tm.tm_mday, &tm.tm_hour, &tm.tm_min,
               &tm.tm_sec, &n) != 6 ||
        tm.tm_year < 1970 || tm.tm_year > 9999)
        return 0;
    const char *rest = text + n;
    if (*rest == '.')
        for (rest++, n = 0; *rest >= '0' && *rest <= '9'; rest++)
            if (n < 6)
                fraction[n++] = *rest;
    while (*fraction && strlen(fraction) < 6)
        strcat(fraction, "0");
    if (sscanf(rest, "%c%2d:%2d", &sign, &hours, &minutes) < 1)
        sign = 'Z';
    tm.tm_year -= 1900;
    tm.tm_mon -= 1;
    int64_t seconds = (int64_t)timegm(&tm), zone = (sign == '-' ? -1 : 1) * (hours * 3600 + minutes * 60);
    uint64_t us = 0;
    for (const char *p = fraction; *p; p++)
        us = us * 10 + (uint64_t)(*p - '0');
    seconds -= sign == '+' || sign == '-' ? zone : 0;
    return seconds > 0 ? (uint64_t)seconds * 1000000 + us : 0;
}

/* Splits scheme://authority/path?query#fragment; the path begins with a slash, or is empty. */
static void split_url(struct ht_slice url, struct ht_slice *authority, struct ht_slice *path) {
    const char *sep = url.n ? memmem(url.p, url.n, "://", 3) : NULL, *end = url.p + url.n;
    const char *p = sep ? sep + 3 : url.p, *from = p;
    while (p < end && *p != '/' && *p != '?' && *p != '#')
        p++;
    *authority = ht_slice_of(from, (size_t)(p - from));
    const char *hash = p < end ? memchr(p, '#', (size_t)(end - p)) : NULL;
    *path = ht_slice_of(p, (size_t)((hash ? hash : end) - p));
    if (!sep)
        *authority = ht_slice_of(NULL, 0), *path = url;
    const char *at = authority->n ? memchr(authority->p, '@', authority->n) : NULL;
    if (at) /* a password is nobody's business */
        *authority = ht_slice_of(at + 1, (size_t)(authority->p + authority->n - at - 1));
}

static bool has_field(const struct har_message *m, const char *name) {
    for (size_t i = 0; i < m->n_headers; i++)
        if (ht_slice_case_eq(m->headers[i].name, ht_slice_str(name)))
            return true;
    return false;
}

/* The fields of a message; those that no head may have are left out. */
static int put_fields(struct ht_buf *b, const struct har_message *m, const char *without) {
    int rc = HT_OK;
    for (size_t i = 0; i < m->n_headers && rc != HT_ENOMEM; i++)
        if (!ht_slice_case_eq(m->headers[i].name, ht_slice_str(without)))
            rc = http_write_field(b, m->headers[i].name, m->headers[i].value);
    return rc == HT_ENOMEM ? rc : http_write_end(b);
}

static int put_request(struct ht_buf *b, const struct har_message *m) {
    struct ht_slice authority, path;
    struct ht_buf target = {0};
    split_url(m->url, &authority, &path);
    int rc = path.n == 0 || *path.p == '?' ? ht_buf_append_str(&target, "/") : HT_OK;
    if (rc == HT_OK)
        rc = ht_buf_append(&target, path.p, path.n);
    if (rc == HT_OK)
        rc = http_write_request_line(b, m->method, ht_buf_slice(&target));
    ht_buf_free(&target);
    if (rc == HT_OK && !has_field(m, "host") && authority.n)
        rc = http_write_field(b, ht_slice_str("Host"), authority);
    return rc == HT_OK ? put_fields(b, m, "") : rc;
}

static int put_response(struct ht_buf *b, const struct har_message *m) {
    int rc = http_write_status(b, 1, (uint16_t)m->status, m->status_text);
    if (rc == HT_EINVAL)
        rc = http_write_status(b, 1, (uint16_t)m->status, ht_slice_of(NULL, 0));
    /* The content of a file is decoded. */
    return rc == HT_OK ? put_fields(b, m, "content-encoding") : rc;
}

static void put_body(struct inspect_exchange *x, bool response, const struct har_message *m) {
    uint8_t *bytes = NULL;
    ssize_t n = -1;
    if (ht_slice_is(m->encoding, "base64") && m->text.n && (bytes = ht_malloc(m->text.n)) != NULL)
        n = ht_base64_get(bytes, m->text.p, m->text.n);
    if (n >= 0)
        inspect_body(x, response, ht_slice_of((char *)bytes, (size_t)n));
    else if (m->text.n)
        inspect_body(x, response, m->text);
    ht_free(bytes);
    if (!m->truncated)
        inspect_body_end(x, response);
}

struct har_frame {
    struct inspect_exchange *x;
    struct ht_slice type, data;
    uint64_t time, opcode;
};

static int frame_member(struct har_in *h, struct json_reader *r, struct ht_slice key, void *to) {
    struct har_frame *f = to;
    if (ht_slice_is(key, "type"))
        return read_text(h, r, &f->type);
    if (ht_slice_is(key, "data"))
        return read_text(h, r, &f->data);
    if (ht_slice_is(key, "time"))
        return read_time(r, 1000000, &f->time);
    if (ht_slice_is(key, "opcode"))
        return read_uint(r, &f->opcode);
    return json_skip(r);
}

static int frame(struct har_in *h, struct json_reader *r, void *to) {
    struct har_frame f = {.x = to};
    size_t used = h->arena.used;
    int rc = each_member(h, r, &f, frame_member);
    bool known = f.opcode == INSPECT_TEXT || f.opcode == INSPECT_BINARY ||
                 (f.opcode >= INSPECT_CLOSE && f.opcode <= INSPECT_PONG);
    if (rc < 0 || !known)
        return rc;
    uint8_t *bytes = NULL;
    ssize_t n = -1;
    if (f.opcode != INSPECT_TEXT && f.data.n && (bytes = ht_malloc(f.data.n)) != NULL)
        n = ht_base64_get(bytes, f.data.p, f.data.n);
    struct inspect_frame v = {
        .at_us = f.time,
        .down = ht_slice_is(f.type, "receive"),
        .opcode = (enum inspect_opcode)f.opcode,
        .data = n >= 0 ? ht_slice_of((char *)bytes, (size_t)n) : f.data,
    };
    v.size = v.data.n;
    inspect_add_frame(f.x, &v);
    ht_free(bytes);
    h->arena.used = used;
    return HT_OK;
}

static int store_entry(struct har_in *h, const struct har_entry *e) {
    struct ht_buf head = {0};
    int rc = put_request(&head, &e->request);
    struct inspect_begin b = {
        .binding_name = e->binding, .visitor = e->visitor, .imported = true, .at_us = time_of(e->started)};
    struct inspect_exchange *x = rc == HT_OK ? inspect_begin(h->store, &b, ht_buf_slice(&head)) : NULL;
    ht_buf_free(&head);
    if (rc == HT_EINVAL) /* no request, or none that could be sent */
        return HT_OK;
    if (!x)
        return HT_ENOMEM;
    put_body(x, false, &e->request);
    bool answered = e->response.status >= 100 && e->response.status <= 999;
    if (answered && put_response(&head, &e->response) == HT_OK) {
        inspect_response(x, ht_buf_slice(&head));
        put_body(x, true, &e->response);
    }
    ht_buf_free(&head);
    if (e->has_messages)
        rc = each_value(h, &h->messages, x, frame);
    inspect_set_timing(x, &e->timing, e->time);
    h->imported++;
    inspect_end(x, answered ? INSPECT_NO_FAULT : INSPECT_INTERNAL,
                answered ? ht_slice_of(NULL, 0) : ht_slice_str("the file has no answer"));
    return rc;
}

/* Room for the strings of the next value, which are never longer than its text. */
static int make_room(struct har_in *h) {
    struct json_reader *ahead = &h->messages; /* not in use yet */
    *ahead = h->r;
    int rc = json_skip(ahead);
    size_t n = rc < 0 ? 0 : (size_t)(ahead->p - h->r.p);
    h->arena.used = 0;
    if (rc < 0 || n <= h->arena.cap) {
        if (rc < 0)
            h->r.error = ahead->error;
        return rc < 0 ? HT_EPROTO : HT_OK;
    }
    ht_free(h->arena.p);
    h->arena.p = ht_malloc(n);
    h->arena.cap = h->arena.p ? n : 0;
    return h->arena.p ? HT_OK : HT_ENOMEM;
}

static int read_entry(struct har_in *h) {
    struct har_entry *e = ht_calloc(1, sizeof *e);
    int rc = e ? make_room(h) : HT_ENOMEM;
    if (rc == HT_OK)
        rc = each_member(h, &h->r, e, entry_member);
    if (rc == HT_OK)
        rc = store_entry(h, e);
    ht_free(e);
    return rc;
}

/* ---- the file ---- */

/* Reads the next entry, or what is around the entries. */
static int step(struct har_in *h) {
    struct ht_slice key;
    int more;
    switch (h->at) {
    case HAR_ENTRIES:
        more = json_array_next(&h->r);
        if (more == 0)
            h->at = HAR_LOG;
        return more > 0 ? read_entry(h) : more;
    case HAR_LOG:
        more = json_object_next(&h->r, &key);
        if (more == 0)
            h->at = HAR_ROOT;
        if (more <= 0 || !ht_slice_is(key, "entries"))
            return more > 0 ? json_skip(&h->r) : more;
        h->at = HAR_ENTRIES;
        return json_array_begin(&h->r);
    case HAR_ROOT:
        more = json_object_next(&h->r, &key);
        if (more == 0) {
            h->at = HAR_DONE;
            return json_end(&h->r);
        }
        if (more < 0 || !ht_slice_is(key, "log"))
            return more > 0 ? json_skip(&h->r) : more;
        h->at = HAR_LOG;
        return json_object_begin(&h->r);
    case HAR_DONE:
        break;
    }
    return HT_OK;
}

struct har_in *har_in_create(struct inspect_store *store, struct ht_slice text) {
    static const char bom[] = "\xef\xbb\xbf"; /* some tools write it */
    struct har_in *h = ht_calloc(1, sizeof *h);
    if (!h)
        return NULL;
    if (text.n >= 3 && memcmp(text.p, bom, 3) == 0)
        text = ht_slice_of(text.p + 3, text.n - 3);
    h->store = store;
    h->text = text.p;
    json_begin(&h->r, text.n ? text.p : "", text.n, NULL);
    return h;
}

int har_in_read(struct har_in *h, uint64_t until_ms) {
    int rc = HT_OK;
    if (h->at == HAR_ROOT && h->r.depth == 0)
        rc = json_object_begin(&h->r);
    while (rc == HT_OK && h->at != HAR_DONE) {
        if (ht_now_ms() >= until_ms)
            return HT_EAGAIN;
        rc = step(h);
    }
    return rc;
}

uint64_t har_in_count(const struct har_in *h) { return h->imported; }

void har_in_why(const struct har_in *h, struct ht_errmsg *err) {
    ht_fail(err, HT_EPROTO, "at byte %zu: %s", h->r.error.offset,
            h->r.error.reason == JSON_OK ? "this is no HAR file" : json_reason_text(h->r.error.reason));
}

void har_in_destroy(struct har_in **hp) {
    struct har_in *h = *hp;
    *hp = NULL;
    if (!h)
        return;
    ht_free(h->arena.p);
    ht_free(h);
}

/* ---- the request ---- */

static void answer(struct client *c, int rc) {
    struct inspect_api_response res = {0};
    struct inspect_api_imported v = {.imported = har_in_count(c->import)};
    struct ht_errmsg why;
    if (rc == HT_OK)
        rc = inspect_api_reply_har_import_200(&res, &v);
    else if (rc == HT_ENOMEM)
        rc = inspect_api_reply_error(&res, 500, "out of memory");
    else {
        har_in_why(c->import, &why);
        rc = inspect_api_reply_error(&res, 400, "%s", why.text);
    }
    har_import_drop(c);
    ht_buf_free(&c->body);
    if (rc == HT_OK) {
        client_answer(c, &res);
        return;
    }
    inspect_api_response_free(&res);
    web_conn_close(&c->web);
}

static void go_on(struct io_timer *t) {
    struct client *c = ht_container_of(t, struct client, go_on);
    int rc = har_in_read(c->import, ht_now_ms() + TURN_MS);
    if (rc == HT_EAGAIN)
        io_timer_set(&c->go_on, 1);
    else
        answer(c, rc);
}

void har_import_drop(struct client *c) {
    if (!c->import)
        return;
    io_timer_stop(&c->go_on);
    har_in_destroy(&c->import);
    c->s->n_imports--;
}

int har_import(void *ctx, const struct inspect_api_request *req, struct inspect_api_response *res) {
    struct client *c = ctx;
    if (c->s->n_imports)
        return inspect_api_reply_error(res, 503, "another file is being read");
    c->import = har_in_create(c->s->cfg.store, req->body);
    if (!c->import)
        return HT_ENOMEM;
    c->s->n_imports++;
    c->role = CLIENT_IMPORT;
    io_timer_init(c->s->cfg.loop, &c->go_on, go_on);
    io_timer_set(&c->go_on, 1);
    return HT_OK;
}
