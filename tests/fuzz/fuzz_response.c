/*
 * A response head: the same however it is cut; what is accepted is read the same way by a plain reader. The loose
 * rules, those for a local service, take what the strict ones take and nothing more without saying so; what goes on is
 * clean.
 *
 * Input: limits (one byte), the head and what follows it.
 */
#include "heads.h"

static void check_loose(const struct head_outcome *strict, char *text, size_t n, const struct http_limits *limits) {
    static struct head_outcome loose;
    head_all_ways(&loose, text, n, HEAD_LOOSE, limits);
    const struct http_head *h = &loose.h, *s = &strict->h;
    if (strict->rc > 0) {
        FUZZ_CHECK(loose.rc == strict->rc && h->odd == 0 && h->flags == s->flags && h->status == s->status);
        FUZZ_CHECK(h->n_fields == s->n_fields && h->content_length == s->content_length);
        FUZZ_CHECK(memcmp(h->fields, s->fields, h->n_fields * sizeof h->fields[0]) == 0);
    }
    if (loose.rc <= 0)
        return;
    FUZZ_CHECK(h->odd != 0 || strict->rc > 0);
    FUZZ_CHECK((size_t)loose.rc <= n && h->minor <= 1 && h->status >= 100 && h->status <= 999);
    FUZZ_CHECK(!((h->flags & HTTP_CHUNKED) && (h->flags & HTTP_HAS_CONTENT_LENGTH)));
    http_clean(text, h->reason);
    FUZZ_CHECK(http_is_field_value(http_text(text, h->reason)));
    for (uint32_t i = 0; i < h->n_fields; i++) {
        http_clean(text, h->fields[i].value);
        FUZZ_CHECK(head_is_token(http_text(text, h->fields[i].name)));
        FUZZ_CHECK(http_is_field_value(http_text(text, h->fields[i].value)));
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static struct head_outcome whole;
    static struct head_lines lines;
    struct fuzz_in in = {data, data + size};
    struct http_limits limits = head_limits(fuzz_u8(&in));
    size_t n = fuzz_left(&in), live = ht_mem_live();
    char *text = fuzz_copy(in.p, n);
    head_all_ways(&whole, text, n, HEAD_RESPONSE, &limits);
    if (whole.rc == HT_EPROTO)
        FUZZ_CHECK(whole.e.status == 502);
    if (whole.rc > 0) {
        const struct http_head *h = &whole.h;
        char start[] = "HTTP/1.0 000";
        FUZZ_CHECK((size_t)whole.rc <= n && (size_t)whole.rc <= limits.max_head);
        head_read(&lines, text, (size_t)whole.rc);
        head_check_fields(h, text, &lines);
        FUZZ_CHECK(h->minor <= 1 && h->status >= 100 && h->status <= 599);
        start[7] = (char)('0' + h->minor);
        start[9] = (char)('0' + h->status / 100);
        start[10] = (char)('0' + h->status / 10 % 10);
        start[11] = (char)('0' + h->status % 10);
        FUZZ_CHECK(lines.start.n >= 12 && memcmp(lines.start.p, start, 12) == 0);
        FUZZ_CHECK(lines.start.n == 12 || lines.start.p[12] == ' ');
        struct ht_slice reason = head_trimmed(ht_slice_of(lines.start.p + 12, lines.start.n - 12));
        FUZZ_CHECK(ht_slice_eq(http_text(text, h->reason), reason));
        enum http_body_kind body = http_response_body(h, false);
        bool none = h->status < 200 || h->status == 204 || h->status == 304;
        FUZZ_CHECK(http_response_body(h, true) == HTTP_BODY_NONE && (!none || body == HTTP_BODY_NONE));
        FUZZ_CHECK((body == HTTP_BODY_CHUNKED) == (!none && (h->flags & HTTP_CHUNKED)));
        FUZZ_CHECK((body == HTTP_BODY_CLOSE) == (!none && !(h->flags & (HTTP_CHUNKED | HTTP_HAS_CONTENT_LENGTH))));
        /* A 1xx or 204 that announces a body: nobody knows what follows. */
        if (h->status < 200 || h->status == 204)
            FUZZ_CHECK(!(h->flags & HTTP_KEEP_ALIVE) || (!(h->flags & HTTP_CHUNKED) && h->content_length == 0));
    }
    check_loose(&whole, text, n, &limits);
    free(text);
    FUZZ_CHECK(ht_mem_live() == live);
    return 0;
}
