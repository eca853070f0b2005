/* HAR 1.2 files that are written, an entry at a time while the client reads. */
#include "inspect/server_priv.h"

#include "base/base64.h"
#include "base/mem.h"
#include "json/json.h"

#include <stdio.h>
#include <time.h>

#define PART (256u * 1024u) /* bytes that wait for the client before its reading is waited for */
#define TURN_ENTRIES 64     /* written in one turn of the loop at most */
#define KNOWN_MAX 32

/* ---- small parts ---- */

struct writer {
    struct ht_buf *out;
    const struct inspect_store *store;
    const struct inspect_exchange *x;
    bool secrets;
    struct ht_slice known[KNOWN_MAX]; /* secrets of the header fields, which are masked in bodies too */
    size_t n_known;
};

static int text(struct writer *w, const char *s) { return ht_buf_append_str(w->out, s); }

/* {"name":...,"value":... without the end */
static int pair(struct writer *w, bool first, struct ht_slice name, struct ht_slice value) {
    int rc = text(w, first ? "{\"name\":" : ",{\"name\":");
    rc = rc == HT_OK ? show_string(w->out, name) : rc;
    rc = rc == HT_OK ? text(w, ",\"value\":") : rc;
    return rc == HT_OK ? show_string(w->out, value) : rc;
}

static struct ht_slice trim(struct ht_slice s) {
    while (s.n && (*s.p == ' ' || *s.p == '\t'))
        s = ht_slice_of(s.p + 1, s.n - 1);
    while (s.n && (s.p[s.n - 1] == ' ' || s.p[s.n - 1] == '\t'))
        s.n--;
    return s;
}

/* The part of *rest before `end`, which is cut off with it. False: nothing is left. */
static bool next_part(struct ht_slice *rest, char end, struct ht_slice *part) {
    if (!rest->n)
        return false;
    const char *p = memchr(rest->p, end, rest->n);
    *part = ht_slice_of(rest->p, p ? (size_t)(p - rest->p) : rest->n);
    size_t skip = part->n + (p != NULL);
    *rest = ht_slice_of(rest->p + skip, rest->n - skip);
    return true;
}

static struct ht_slice before(struct ht_slice s, char mark, struct ht_slice *behind) {
    const char *p = s.n ? memchr(s.p, mark, s.n) : NULL;
    *behind = p ? ht_slice_of(p + 1, s.n - (size_t)(p - s.p) - 1) : ht_slice_str("");
    return ht_slice_of(s.p, p ? (size_t)(p - s.p) : s.n);
}

static struct ht_slice shown(const struct writer *w, bool secret, struct ht_slice value) {
    return secret && !w->secrets && value.n ? ht_slice_str(INSPECT_DOTS) : value;
}

/* Arguments for "%llu.%03u": milliseconds, whatever the locale would write between them. */
#define MS(us) (unsigned long long)((us) / 1000), (unsigned)((us) % 1000)

/* ---- fields and cookies ---- */

static int headers(struct writer *w, const struct inspect_message *m, bool drop_coding) {
    struct ht_slice lines = inspect_head_fields(&m->head);
    struct inspect_field f;
    struct ht_buf masked = {0};
    bool first = true;
    int rc = text(w, "\"headers\":[");
    while (rc == HT_OK && inspect_field_next(inspect_store_secrets(w->store), &lines, &f)) {
        if (drop_coding && ht_slice_case_eq(f.name, ht_slice_str("content-encoding")))
            continue;
        ht_buf_consume(&masked, ht_buf_size(&masked));
        if (!w->secrets) /* a secret may be repeated in a field that is none */
            rc = f.secret ? inspect_mask_value(f.name, f.value, &masked)
                          : inspect_mask_body(inspect_store_secrets(w->store), ht_slice_str(""), f.value, w->known,
                                              w->n_known, &masked);
        rc = rc == HT_OK ? pair(w, first, f.name, w->secrets ? f.value : ht_buf_slice(&masked)) : rc;
        rc = rc == HT_OK ? text(w, "}") : rc;
        first = false;
    }
    ht_buf_free(&masked);
    return rc == HT_OK ? text(w, "],") : rc;
}

/* The attributes of a Set-Cookie that HAR has. */
static int attributes(struct writer *w, struct ht_slice rest) {
    struct ht_slice part, value;
    int rc = HT_OK;
    while (rc == HT_OK && next_part(&rest, ';', &part)) {
        struct ht_slice name = trim(before(part, '=', &value));
        bool path = ht_slice_case_eq(name, ht_slice_str("path")),
             domain = ht_slice_case_eq(name, ht_slice_str("domain"));
        if (path || domain) {
            rc = text(w, path ? ",\"path\":" : ",\"domain\":");
            rc = rc == HT_OK ? show_string(w->out, trim(value)) : rc;
        } else if (ht_slice_case_eq(name, ht_slice_str("httponly"))) {
            rc = text(w, ",\"httpOnly\":true");
        } else if (ht_slice_case_eq(name, ht_slice_str("secure"))) {
            rc = text(w, ",\"secure\":true");
        }
    }
    return rc;
}

static int cookies(struct writer *w, const struct inspect_message *m, bool set) {
    struct ht_slice lines = inspect_head_fields(&m->head), part, value;
    struct inspect_field f;
    bool first = true;
    int rc = text(w, "\"cookies\":[");
    while (rc == HT_OK && inspect_field_next(NULL, &lines, &f)) {
        struct ht_slice rest = f.value;
        if (!ht_slice_case_eq(f.name, ht_slice_str(set ? "set-cookie" : "cookie")))
            continue;
        while (rc == HT_OK && next_part(&rest, ';', &part)) {
            struct ht_slice name = trim(before(part, '=', &value));
            rc = pair(w, first, name, shown(w, true, trim(value)));
            rc = rc == HT_OK && set ? attributes(w, rest) : rc;
            rc = rc == HT_OK ? text(w, "}") : rc;
            first = false;
            if (set)
                break;
        }
    }
    return rc == HT_OK ? text(w, "],") : rc;
}

/* ---- the URL ---- */

static int put_encoded(struct ht_buf *b, struct ht_slice s) {
    int rc = HT_OK;
    for (size_t i = 0; i < s.n && rc == HT_OK; i++) {
        unsigned char ch = (unsigned char)s.p[i];
        bool plain = ch > 0x20 && ch < 0x7f && !strchr("\"<>\\^`{|}", ch);
        rc = plain ? ht_buf_append(b, &ch, 1) : ht_buf_printf(b, "%%%02X", ch);
    }
    return rc;
}

static int url(struct writer *w) {
    const struct inspect_message *m = &w->x->request;
    struct ht_slice host = inspect_field(m, "host"), proto = inspect_field(m, "x-forwarded-proto");
    struct ht_buf target = {0}, whole = {0};
    int rc = w->secrets ? ht_buf_append(&target, w->x->target.p, w->x->target.n)
                        : inspect_mask_target(inspect_store_secrets(w->store), w->x->target, &target);
    bool ws = w->x->kind == INSPECT_WEBSOCKET, tls = ht_slice_case_eq(proto, ht_slice_str("https"));
    bool absolute = ht_buf_size(&target) && *ht_buf_head(&target) != '/';
    rc = rc == HT_OK ? ht_buf_printf(&whole, "%s%s://", ws ? "ws" : "http", tls ? "s" : "") : rc;
    rc = rc == HT_OK ? put_encoded(&whole, host.n ? host : ht_slice_str("localhost")) : rc;
    rc = rc == HT_OK && absolute ? ht_buf_append_str(&whole, "/") : rc;
    rc = rc == HT_OK ? put_encoded(&whole, ht_buf_slice(&target)) : rc;
    rc = rc == HT_OK ? show_string(w->out, ht_buf_slice(&whole)) : rc;
    ht_buf_free(&target);
    ht_buf_free(&whole);
    return rc;
}

static int query(struct writer *w) {
    struct ht_slice rest, part, value;
    bool first = true;
    before(w->x->target, '?', &rest);
    int rc = text(w, "\"queryString\":[");
    while (rc == HT_OK && next_part(&rest, '&', &part)) {
        struct ht_slice name = before(part, '=', &value);
        rc = pair(w, first, name, shown(w, inspect_is_secret_member(inspect_store_secrets(w->store), name), value));
        rc = rc == HT_OK ? text(w, "}") : rc;
        first = false;
    }
    return rc == HT_OK ? text(w, "],") : rc;
}

/* ---- bodies ---- */

static bool is_utf8(struct ht_slice s) {
    const uint8_t *p = (const uint8_t *)s.p;
    for (size_t i = 0; i < s.n;) {
        size_t n = p[i] < 0x80 ? 1 : p[i] < 0xc2 || p[i] > 0xf4 ? 0 : p[i] >= 0xf0 ? 4 : p[i] >= 0xe0 ? 3 : 2;
        if (n == 0 || i + n > s.n || p[i] == 0)
            return false;
        for (size_t k = 1; k < n; k++)
            if ((p[i + k] & 0xc0) != 0x80)
                return false;
        if ((p[i] == 0xe0 && p[i + 1] < 0xa0) || (p[i] == 0xed && p[i + 1] > 0x9f) ||
            (p[i] == 0xf0 && p[i + 1] < 0x90) || (p[i] == 0xf4 && p[i + 1] > 0x8f))
            return false;
        i += n;
    }
    return true;
}

/* "text":... and, for what is no text, "encoding":"base64". */
static int content(struct writer *w, struct ht_slice body) {
    int rc = text(w, "\"text\":");
    if (rc < 0 || is_utf8(body))
        return rc == HT_OK ? show_string(w->out, body) : rc;
    uint8_t *to = ht_buf_reserve(w->out, ht_base64_size(body.n) + 2);
    if (!to)
        return HT_ENOMEM;
    to[0] = '"';
    size_t n = ht_base64_put((char *)to + 1, body.p, body.n);
    to[1 + n] = '"';
    ht_buf_commit(w->out, n + 2);
    return text(w, ",\"encoding\":\"base64\"");
}

/* The body as it is shown: decoded, and masked unless secrets are wanted. */
static int body_of(struct writer *w, const struct inspect_message *m, struct ht_buf *decoded, struct ht_buf *masked,
                   struct ht_slice *body) {
    int rc = show_body(m, decoded, body);
    if (rc < 0 || w->secrets || !body->n)
        return rc;
    rc = inspect_mask_body(inspect_store_secrets(w->store), inspect_field(m, "content-type"), *body, w->known,
                           w->n_known, masked);
    *body = ht_buf_slice(masked);
    return rc;
}

static int post_data(struct writer *w, struct ht_slice body) {
    struct ht_slice type = inspect_field(&w->x->request, "content-type");
    int rc = text(w, ",\"postData\":{\"mimeType\":");
    rc = rc == HT_OK ? show_string(w->out, type) : rc;
    rc = rc == HT_OK ? text(w, ",") : rc;
    rc = rc == HT_OK ? content(w, body) : rc;
    return rc == HT_OK ? text(w, "}") : rc;
}

static int request(struct writer *w) {
    const struct inspect_exchange *x = w->x;
    struct ht_buf decoded = {0}, masked = {0};
    struct ht_slice body;
    int rc = body_of(w, &x->request, &decoded, &masked, &body);
    rc = rc == HT_OK ? text(w, "\"request\":{\"method\":") : rc;
    rc = rc == HT_OK ? show_string(w->out, x->method) : rc;
    rc = rc == HT_OK ? text(w, ",\"url\":") : rc;
    rc = rc == HT_OK ? url(w) : rc;
    rc = rc == HT_OK ? text(w, ",\"httpVersion\":") : rc;
    rc = rc == HT_OK ? show_string(w->out, x->version) : rc;
    rc = rc == HT_OK ? text(w, ",") : rc;
    rc = rc == HT_OK ? cookies(w, &x->request, false) : rc;
    /* A request may be sent again from the file, so its fields fit the body that is in there. */
    rc = rc == HT_OK ? headers(w, &x->request, ht_buf_size(&decoded) > 0) : rc;
    rc = rc == HT_OK ? query(w) : rc;
    rc = rc == HT_OK ? ht_buf_printf(w->out, "\"headersSize\":%zu,\"bodySize\":%llu", ht_buf_size(&x->request.head),
                                     (unsigned long long)x->request.size)
                     : rc;
    rc = rc == HT_OK && body.n ? post_data(w, body) : rc;
    rc = rc == HT_OK && (!x->request.ended || ht_buf_size(&x->request.body) < x->request.size)
             ? text(w, ",\"_truncated\":true")
             : rc;
    ht_buf_free(&decoded);
    ht_buf_free(&masked);
    return rc == HT_OK ? text(w, "},") : rc;
}

static int response(struct writer *w) {
    const struct inspect_exchange *x = w->x;
    const struct inspect_message *m = &x->response;
    struct ht_buf decoded = {0}, masked = {0};
    struct ht_slice body;
    int rc = body_of(w, m, &decoded, &masked, &body);
    rc = rc == HT_OK ? ht_buf_printf(w->out, "\"response\":{\"status\":%u,\"statusText\":", x->status) : rc;
    rc = rc == HT_OK ? show_string(w->out, x->reason) : rc;
    rc = rc == HT_OK ? text(w, ",\"httpVersion\":") : rc;
    rc = rc == HT_OK ? show_string(w->out, x->version) : rc;
    rc = rc == HT_OK ? text(w, ",") : rc;
    rc = rc == HT_OK ? cookies(w, m, true) : rc;
    rc = rc == HT_OK ? headers(w, m, false) : rc;
    rc = rc == HT_OK ? ht_buf_printf(w->out, "\"content\":{\"size\":%zu,\"mimeType\":", body.n) : rc;
    rc = rc == HT_OK ? show_string(w->out, x->type.n ? x->type : ht_slice_str("x-unknown")) : rc;
    rc = rc == HT_OK && body.n ? text(w, ",") : rc;
    rc = rc == HT_OK && body.n ? content(w, body) : rc;
    rc = rc == HT_OK ? text(w, "},\"redirectURL\":") : rc;
    rc = rc == HT_OK ? show_string(w->out, inspect_field(m, "location")) : rc;
    rc = rc == HT_OK
             ? ht_buf_printf(w->out, ",\"headersSize\":%lld,\"bodySize\":%llu",
                             ht_buf_size(&m->head) ? (long long)ht_buf_size(&m->head) : -1, (unsigned long long)m->size)
             : rc;
    rc = rc == HT_OK && x->fault != INSPECT_NO_FAULT ? text(w, ",\"_error\":") : rc;
    rc = rc == HT_OK && x->fault != INSPECT_NO_FAULT ? show_string(w->out, ht_slice_str(inspect_fault_title(x->fault)))
                                                     : rc;
    ht_buf_free(&decoded);
    ht_buf_free(&masked);
    return rc == HT_OK ? text(w, "},\"cache\":{},") : rc;
}

static int frame(struct writer *w, bool first, const struct inspect_frame *f) {
    struct ht_buf masked = {0};
    struct ht_slice data = f->data;
    int rc = ht_buf_printf(w->out, "%s{\"type\":\"%s\",\"time\":%llu.%06u,\"opcode\":%d,\"data\":", first ? "" : ",",
                           f->down ? "receive" : "send", (unsigned long long)(f->at_us / 1000000),
                           (unsigned)(f->at_us % 1000000), (int)f->opcode);
    if (rc == HT_OK && f->opcode != INSPECT_TEXT) {
        char *base64 = ht_malloc(ht_base64_size(data.n) + 1);
        rc = base64 ? show_string(w->out, ht_slice_of(base64, ht_base64_put(base64, data.p, data.n))) : HT_ENOMEM;
        ht_free(base64);
    } else if (rc == HT_OK) {
        if (!w->secrets && data.n) {
            rc = inspect_mask_body(inspect_store_secrets(w->store), ht_slice_str("application/json"), data, w->known,
                                   w->n_known, &masked);
            data = ht_buf_slice(&masked);
        }
        rc = rc == HT_OK ? show_string(w->out, data) : rc;
    }
    ht_buf_free(&masked);
    return rc == HT_OK ? text(w, "}") : rc;
}

static int frames(struct writer *w) {
    bool first = true;
    if (w->x->kind != INSPECT_WEBSOCKET)
        return HT_OK;
    int rc = text(w, ",\"_resourceType\":\"websocket\",\"_webSocketMessages\":[");
    HT_LIST_FOR (it, &w->x->frames) {
        rc = rc == HT_OK ? frame(w, first, HT_LIST_ENTRY(it, struct inspect_frame, node)) : rc;
        first = false;
    }
    return rc == HT_OK ? text(w, "]") : rc;
}

/* ---- an entry ---- */

static void learn_secrets(struct writer *w) {
    const struct ht_slice heads[] = {inspect_head_fields(&w->x->request.head),
                                     inspect_head_fields(&w->x->response.head)};
    for (size_t i = 0; i < HT_ARRAY_LEN(heads); i++) {
        struct ht_slice lines = heads[i];
        struct inspect_field f;
        while (inspect_field_next(inspect_store_secrets(w->store), &lines, &f))
            if (f.secret)
                w->n_known += inspect_secret_parts(f.name, f.value, w->known + w->n_known, KNOWN_MAX - w->n_known);
    }
    struct ht_slice rest, part, value;
    before(w->x->target, '?', &rest);
    while (w->n_known < KNOWN_MAX && next_part(&rest, '&', &part)) {
        struct ht_slice name = before(part, '=', &value);
        if (inspect_is_secret_member(inspect_store_secrets(w->store), name))
            w->known[w->n_known++] = value;
    }
}

/* A member named started with a wall clock; snprintf because strftime knows no milliseconds. */
static int started(struct writer *w) {
    time_t seconds = (time_t)(w->x->at_us / 1000000);
    struct tm tm;
    char day[40];
    if (!gmtime_r(&seconds, &tm) || !strftime(day, sizeof day, "%Y-%m-%dT%H:%M:%S", &tm))
        snprintf(day, sizeof day, "1970-01-01T00:00:00");
    return ht_buf_printf(w->out, "{\"startedDateTime\":\"%s.%03uZ\",\"time\":%llu.%03u,", day,
                         (unsigned)(w->x->at_us / 1000 % 1000), MS(w->x->duration_us));
}

static int timings(struct writer *w) {
    const struct inspect_timing *t = &w->x->timing;
    return ht_buf_printf(w->out,
                         "\"timings\":{\"blocked\":%llu.%03u,\"dns\":-1,\"connect\":%llu.%03u,\"ssl\":-1,"
                         "\"send\":%llu.%03u,\"wait\":%llu.%03u,\"receive\":%llu.%03u}",
                         MS(t->queued), MS(t->connect), MS(t->send), MS(t->wait), MS(t->receive));
}

static int entry(struct ht_buf *out, const struct client *c, const struct inspect_exchange *x) {
    struct writer w = {.out = out, .store = c->s->cfg.store, .x = x, .secrets = c->secrets};
    if (!c->secrets)
        learn_secrets(&w);
    int rc = c->not_first ? text(&w, ",\n") : HT_OK;
    rc = rc == HT_OK ? started(&w) : rc;
    rc = rc == HT_OK ? request(&w) : rc;
    rc = rc == HT_OK ? response(&w) : rc;
    rc = rc == HT_OK ? timings(&w) : rc;
    rc = rc == HT_OK ? frames(&w) : rc;
    rc = rc == HT_OK ? text(&w, ",\"_visitor\":") : rc;
    rc = rc == HT_OK ? show_string(out, x->visitor) : rc;
    rc = rc == HT_OK ? text(&w, ",\"_binding\":") : rc;
    rc = rc == HT_OK ? show_string(out, x->binding_name) : rc;
    return rc == HT_OK ? text(&w, "}") : rc;
}

/* ---- the file ---- */

/* The next exchange that is to be written; NULL: there are no more. */
static const struct inspect_exchange *next_exchange(struct client *c) {
    while (c->ids ? c->at_id < c->n_ids : c->next_id < c->end_id) {
        uint64_t id = c->ids ? c->ids[c->at_id++] : c->next_id++;
        const struct inspect_exchange *x = inspect_store_get(c->s->cfg.store, id);
        if (x)
            return x;
    }
    return NULL;
}

bool har_export_more(struct client *c) {
    struct ht_buf *q = &c->web.out.queue;
    if (c->web.close_after)
        return true;
    for (unsigned i = 0; i < TURN_ENTRIES && ht_buf_size(q) < PART; i++) {
        const struct inspect_exchange *x = next_exchange(c);
        int rc = x ? entry(q, c, x) : ht_buf_append_str(q, "]}}\n");
        if (rc < 0) {
            web_conn_close(&c->web);
            return false;
        }
        c->not_first = true;
        if (!x) {
            c->web.close_after = true;
            return true;
        }
    }
    io_timer_set(&c->go_on, 1);
    return true;
}

static void go_on(struct io_timer *t) {
    struct client *c = ht_container_of(t, struct client, go_on);
    if (!web_conn_busy(&c->web) && har_export_more(c)) /* else drained() goes on */
        web_conn_flush(&c->web);
}

void har_export_drop(struct client *c) {
    io_timer_stop(&c->go_on);
    ht_free(c->ids);
    c->ids = NULL;
}

/* ---- what is asked for ---- */

static int read_ids(struct json_reader *r, struct json_arena *arena, struct client *c) {
    int more, rc = json_array_begin(r);
    if (rc < 0)
        return rc;
    if (!(c->ids = ht_calloc(FEED_MARKS, sizeof *c->ids)))
        return HT_ENOMEM;
    while ((more = json_array_next(r)) > 0) {
        struct ht_slice id;
        char one[24];
        arena->used = 0;
        rc = json_read_string(r, false, arena, &id);
        if (rc < 0 || c->n_ids == FEED_MARKS)
            return rc < 0 ? rc : HT_ELIMIT;
        snprintf(one, sizeof one, "%.*s", (int)ht_min(id.n, sizeof one - 1), id.p);
        const struct inspect_exchange *x = exchange_of(c->s, one);
        if (x)
            c->ids[c->n_ids++] = x->id;
    }
    return more;
}

static int read_wish(struct json_reader *r, struct json_arena *arena, struct client *c) {
    struct ht_slice key;
    int more, rc = json_object_begin(r);
    if (rc < 0)
        return rc;
    while ((more = json_object_next(r, &key)) > 0) {
        if (ht_slice_is(key, "ids") && json_peek(r) == JSON_T_ARRAY)
            rc = read_ids(r, arena, c);
        else if (ht_slice_is(key, "secrets"))
            rc = json_read_bool(r, &c->secrets);
        else
            rc = json_skip(r);
        if (rc < 0)
            return rc;
    }
    return more < 0 ? more : json_end(r);
}

int har_export(void *ctx, const struct inspect_api_request *req, struct inspect_api_response *res) {
    struct client *c = ctx;
    struct json_reader *r = ht_malloc(sizeof *r);
    struct json_arena arena = {.p = ht_malloc(req->body.n + 1), .cap = req->body.n};
    int rc = r && arena.p ? HT_OK : HT_ENOMEM;
    har_export_drop(c);
    c->n_ids = c->at_id = 0;
    c->secrets = c->not_first = false;
    c->next_id = inspect_store_first(c->s->cfg.store);
    c->end_id = inspect_store_end(c->s->cfg.store);
    if (rc == HT_OK && req->body.n) {
        json_begin(r, req->body.p, req->body.n, NULL);
        rc = read_wish(r, &arena, c);
    }
    ht_free(r);
    ht_free(arena.p);
    if (rc == HT_ENOMEM)
        return rc;
    if (rc < 0)
        return inspect_api_reply_error(res, 400, "the body is not what is described");
    inspect_api_reply_har_export_200(res);
    c->role = CLIENT_EXPORT;
    io_timer_init(c->s->cfg.loop, &c->go_on, go_on);
    return ht_buf_printf(&res->body,
                         "{\"log\":{\"version\":\"1.2\",\"creator\":{\"name\":\"hoody-tunnel\",\"version\":\"%s\"},"
                         "\"entries\":[\n",
                         c->s->cfg.version);
}
