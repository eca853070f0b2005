#include "relay/reply.h"

#include "base/mem.h"
#include "base/text.h"
#include "http/http.h"

#include <stdio.h>

struct reply {
    struct ht_list node;
    struct mux_stream *st;
    size_t at, n;
    char text[];
};

static void reply_end(struct reply *r) {
    ht_list_remove(&r->node);
    mux_stream_release(&r->st);
    ht_free(r);
}

static void on_data(void *ctx, const uint8_t *p, size_t n) {
    struct reply *r = ctx;
    (void)p;
    mux_stream_consumed(r->st, n); /* nobody wants it */
}

static void on_nothing(void *ctx) { (void)ctx; }

static ssize_t on_pull(void *ctx, uint8_t *out, size_t cap, unsigned *flags) {
    struct reply *r = ctx;
    size_t n = ht_min(cap, r->n - r->at);
    if (n)
        memcpy(out, r->text + r->at, n);
    r->at += n;
    *flags = r->at == r->n ? MUX_PULL_EOF : n ? MUX_PULL_MORE : 0;
    return (ssize_t)n;
}

static void on_writable(void *ctx, bool yes) {
    struct reply *r = ctx;
    if (yes)
        mux_stream_ready(r->st);
}

static void on_closed(void *ctx, uint16_t code, struct ht_slice reason, bool remote) {
    (void)code, (void)reason, (void)remote;
    reply_end(ctx);
}

static const struct mux_stream_ops ops = {
    .data = on_data,
    .eof = on_nothing,
    .data_end = on_nothing,
    .pull = on_pull,
    .writable = on_writable,
    .closed = on_closed,
};

void relay_reply(struct ht_list *list, struct mux_stream *st, const struct relay_reply *what) {
    size_t n = what->head ? 0 : what->body.n;
    struct reply *r = ht_malloc(sizeof *r + n);
    struct wire_header fields[RELAY_REPLY_FIELDS + 1];
    char length[24];
    if (!r) {
        mux_stream_reset(st, WIRE_CODE_INTERNAL_ERROR, ht_err_text(HT_ENOMEM));
        mux_stream_release(&st);
        return;
    }
    *r = (struct reply){.st = st, .n = n};
    if (n)
        memcpy(r->text, what->body.p, n);
    size_t n_fields = ht_min(what->n_fields, RELAY_REPLY_FIELDS);
    memcpy(fields, what->fields, n_fields * sizeof *fields);
    fields[n_fields++] =
        (struct wire_header){ht_slice_str("content-length"),
                             ht_slice_of(length, (size_t)snprintf(length, sizeof length, "%zu", what->body.n))};
    ht_list_init(&r->node);
    ht_list_push_back(list, &r->node);
    mux_stream_accept(st, &ops, r);
    struct wire_response_head head = {.status = what->status, .headers = fields, .n_headers = n_fields, .final = true};
    int rc = mux_stream_respond(st, &head);
    if (rc < 0) {
        mux_stream_reset(st, WIRE_CODE_INTERNAL_ERROR, ht_err_text(rc));
        reply_end(r);
        return;
    }
    mux_stream_ready(st);
}

void relay_replies_drop(struct ht_list *list) {
    while (!ht_list_empty(list)) {
        struct reply *r = HT_LIST_ENTRY(list->next, struct reply, node);
        mux_stream_reset(r->st, WIRE_CODE_CANCEL, "the tunnel is closing");
        reply_end(r);
    }
}

/* ---- what an answer looks like ---- */

/* The weight of an item of Accept (RFC 9110 12.4.2), in thousandths. */
static unsigned weight(struct ht_slice params) {
    for (size_t i = 0; i + 2 < params.n; i++) {
        const char *p = params.p + i;
        if ((p[0] != 'q' && p[0] != 'Q') || p[1] != '=' || (i > 0 && p[-1] != ';' && p[-1] != ' '))
            continue;
        unsigned q = p[2] == '1' ? 1000 : 0, unit = 100;
        for (size_t at = i + 4; at < params.n && unit && params.p[at] >= '0' && params.p[at] <= '9'; at++, unit /= 10)
            q += (unsigned)(params.p[at] - '0') * unit;
        return q > 1000 ? 1000 : q;
    }
    return 1000;
}

static bool ends_in(struct ht_slice s, const char *tail) {
    size_t n = strlen(tail);
    return s.n >= n && ht_slice_case_eq(ht_slice_of(s.p + s.n - n, n), ht_slice_of(tail, n));
}

enum relay_form relay_form_of(struct ht_slice accept) {
    enum relay_form best = RELAY_TEXT;
    struct ht_slice item;
    unsigned most = 0;
    while (http_list_next(&accept, &item)) {
        const char *semicolon = memchr(item.p, ';', item.n);
        size_t n = semicolon ? (size_t)(semicolon - item.p) : item.n;
        struct ht_slice type = ht_slice_of(item.p, n);
        while (type.n && (type.p[type.n - 1] == ' ' || type.p[type.n - 1] == '\t'))
            type.n--;
        enum relay_form form;
        if (ht_slice_case_eq(type, ht_slice_str("text/html")))
            form = RELAY_HTML;
        else if (ht_slice_case_eq(type, ht_slice_str("application/json")) || ends_in(type, "+json"))
            form = RELAY_JSON;
        else if (ht_slice_case_eq(type, ht_slice_str("text/plain")))
            form = RELAY_TEXT;
        else
            continue;
        unsigned q = weight(ht_slice_of(item.p + n, item.n - n));
        if (q > most) {
            most = q;
            best = form;
        }
    }
    return best;
}

const char *relay_form_type(enum relay_form form) {
    static const char *const types[] = {[RELAY_TEXT] = "text/plain; charset=utf-8",
                                        [RELAY_HTML] = "text/html; charset=utf-8",
                                        [RELAY_JSON] = "application/json"};
    return types[form];
}

int relay_form_escape(struct ht_buf *b, enum relay_form form, struct ht_slice text) {
    char safe[2048];
    if (form == RELAY_HTML)
        return ht_text_html(b, text);
    if (form == RELAY_TEXT)
        return ht_buf_append(b, text.p, text.n);
    return ht_buf_append(b, safe, ht_text_put(text, HT_TEXT_JSON, safe, sizeof safe));
}

int relay_form_body(struct ht_buf *b, enum relay_form form, uint16_t status, const char *error, const char *text) {
    const char *title = http_reason(status);
    int rc;
    switch (form) {
    case RELAY_JSON:
        return ht_buf_printf(b, "{\"error\":\"%s\",\"status\":%u,\"message\":\"%s\"}\n", error, status, text);
    case RELAY_HTML:
        rc = ht_buf_printf(b,
                           "<!doctype html>\n<html lang=\"en\">\n<meta charset=\"utf-8\">\n"
                           "<meta name=\"viewport\" content=\"width=device-width\">\n<title>%u %s</title>\n"
                           "<style>body{font:1em/1.5 sans-serif;max-width:40em;margin:4em auto;padding:0 1em}</style>\n"
                           "<h1>%u %s</h1>\n<p>",
                           status, title, status, title);
        if (rc == HT_OK)
            rc = ht_text_html(b, ht_slice_str(text));
        return rc == HT_OK ? ht_buf_printf(b, ".</p>\n<p><small>hoody-tunnel: %s</small></p>\n</html>\n", error) : rc;
    case RELAY_TEXT:
        break;
    }
    return ht_buf_append_str(b, text);
}
