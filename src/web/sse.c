#include "web/web.h"

/* Appends to the data of the event, as long as it is not too large. */
static int keep(struct ht_buf *b, const char *p, size_t n) {
    if (ht_buf_size(b) + n > WEB_SSE_MAX)
        return HT_ELIMIT;
    return n > 0 ? ht_buf_append(b, p, n) : HT_OK;
}

static void empty(struct ht_buf *b) { ht_buf_consume(b, ht_buf_size(b)); }

/* HTML 9.2.6: "field: value" or "field:value". Comments and fields that are not needed here are skipped. */
static int field(struct web_sse *s, struct ht_slice line) {
    const char *colon = memchr(line.p, ':', line.n);
    struct ht_slice name = ht_slice_of(line.p, colon ? (size_t)(colon - line.p) : line.n);
    struct ht_slice value = colon ? ht_slice_of(colon + 1, line.n - name.n - 1) : ht_slice_of(NULL, 0);
    if (value.n > 0 && value.p[0] == ' ')
        value = ht_slice_of(value.p + 1, value.n - 1);
    if (ht_slice_is(name, "data")) {
        int rc = keep(&s->data, value.p, value.n);
        return rc == HT_OK ? keep(&s->data, "\n", 1) : rc;
    }
    if (ht_slice_is(name, "id") && !(value.n && memchr(value.p, 0, value.n))) {
        empty(&s->id);
        int rc = keep(&s->id, value.p, value.n);
        return rc == HT_OK ? keep(&s->id, "", 1) : rc;
    }
    return HT_OK;
}

static int end_of_line(struct web_sse *s, void (*event)(void *, struct ht_slice, const char *), void *ctx) {
    int rc = HT_OK;
    if (ht_buf_size(&s->line) > 0) {
        rc = field(s, ht_buf_slice(&s->line));
    } else if (ht_buf_size(&s->data) > 0) {
        s->data.data[s->data.len - 1] = '\0'; /* replaces the newline behind the last line */
        event(ctx, ht_slice_of(ht_buf_head(&s->data), ht_buf_size(&s->data) - 1),
              ht_buf_size(&s->id) > 0 ? (const char *)ht_buf_head(&s->id) : "");
        empty(&s->data);
    }
    empty(&s->line);
    return rc;
}

int web_sse_feed(struct web_sse *s, struct ht_slice bytes, void (*event)(void *, struct ht_slice, const char *),
                 void *ctx) {
    int rc = HT_OK;
    size_t at = 0;
    while (at < bytes.n && rc == HT_OK) {
        if (s->cr && bytes.p[at] == '\n')
            at++;
        s->cr = false;
        size_t n = at;
        while (n < bytes.n && bytes.p[n] != '\n' && bytes.p[n] != '\r')
            n++;
        rc = keep(&s->line, bytes.p + at, n - at);
        if (n == bytes.n || rc < 0)
            break;
        s->cr = bytes.p[n] == '\r';
        at = n + 1;
        rc = end_of_line(s, event, ctx);
    }
    return rc;
}

void web_sse_free(struct web_sse *s) {
    ht_buf_free(&s->line);
    ht_buf_free(&s->data);
    ht_buf_free(&s->id);
}
