/*
 * A visitor's request head: the same however it is cut; and what is accepted is read the same way by a plain reader
 * that knows lines and colons only. Then the checks of an upgrade to WebSocket over it.
 *
 * Input: limits (one byte), the head and what follows it.
 */
#include "heads.h"
#include "ws/ws.h"

static void check_start(const struct http_head *h, const char *in, const struct head_lines *l) {
    struct ht_slice method = http_text(in, h->method), target = http_text(in, h->target), path = http_text(in, h->path);
    char version[] = " HTTP/1.0";
    version[8] = (char)('0' + h->minor);
    FUZZ_CHECK(h->minor <= 1);
    FUZZ_CHECK(l->start.n == method.n + 1 + target.n + 9 && memcmp(l->start.p, method.p, method.n) == 0);
    FUZZ_CHECK(l->start.p[method.n] == ' ' && memcmp(l->start.p + method.n + 1, target.p, target.n) == 0);
    FUZZ_CHECK(memcmp(l->start.p + method.n + 1 + target.n, version, 9) == 0);
    FUZZ_CHECK(head_is_token(method) && !ht_slice_is(method, "CONNECT"));
    FUZZ_CHECK(target.n > 0 && target.n <= h->limits.max_target);
    for (size_t i = 0; i < target.n; i++)
        FUZZ_CHECK(target.p[i] > ' ' && target.p[i] < 0x7f && target.p[i] != '#');
    /* The path is what another server is asked for: a part of the target, and never empty. */
    FUZZ_CHECK(path.n > 0 && path.p >= target.p && path.p + path.n <= target.p + target.n);
    FUZZ_CHECK(path.p[0] == '/' || ht_slice_is(path, "*") || (path.p[0] == '?' && (h->flags & HTTP_PATH_NEEDS_SLASH)));
    FUZZ_CHECK(!ht_slice_is(path, "*") || ht_slice_is(method, "OPTIONS"));
}

static void check_host(const struct http_head *h, const char *in, const struct head_lines *l) {
    struct ht_slice v = {NULL, 0};
    unsigned hosts = head_count(l, "host", &v);
    FUZZ_CHECK(hosts <= 1 && (hosts == 1) == !!(h->flags & HTTP_HAS_HOST));
    FUZZ_CHECK(hosts == 1 || h->minor == 0); /* RFC 9112 3.2 */
    if (hosts)
        FUZZ_CHECK(ht_slice_eq(http_text(in, h->host), v));
    for (size_t i = 0; i < v.n; i++)
        FUZZ_CHECK(v.p[i] > ' ' && v.p[i] < 0x7f && !strchr("/?#@,\\\"<>", v.p[i]));
}

static void check_upgrade(const struct http_head *h, const char *in) {
    struct ht_slice key, protocols;
    struct ht_buf scratch = {0}, out = {0};
    struct http_error e = {0};
    if (ws_check_request(h, in, &key, &protocols, &scratch, &e) == 0) {
        FUZZ_CHECK(key.n == WS_KEY_LEN && http_request_body(h) == HTTP_BODY_NONE &&
                   (h->flags & HTTP_UPGRADE_WEBSOCKET));
        FUZZ_CHECK(ws_write_101(&out, key, NULL) == 0);
        static struct head_outcome answer;
        head_begin(&answer, true, NULL);
        FUZZ_CHECK(head_feed(&answer, (const char *)ht_buf_head(&out), ht_buf_size(&out)) == (int)ht_buf_size(&out));
        FUZZ_CHECK(answer.h.status == 101);
    } else {
        FUZZ_CHECK((e.status == 400 || e.status == 405 || e.status == 426) && e.text[0]);
    }
    ht_buf_free(&scratch);
    ht_buf_free(&out);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static struct head_outcome whole;
    static struct head_lines lines;
    struct fuzz_in in = {data, data + size};
    struct http_limits limits = head_limits(fuzz_u8(&in));
    size_t n = fuzz_left(&in), live = ht_mem_live();
    char *text = fuzz_copy(in.p, n);
    head_all_ways(&whole, text, n, HEAD_REQUEST, &limits);
    if (whole.rc == HT_EPROTO) {
        static const uint16_t statuses[] = {400, 405, 414, 417, 431, 505};
        bool known = false;
        for (size_t i = 0; i < HT_ARRAY_LEN(statuses); i++)
            known = known || whole.e.status == statuses[i];
        FUZZ_CHECK(known);
    } else if (whole.rc > 0) {
        size_t head_n = (size_t)whole.rc, skip = text[0] == '\r' ? 2 : 0; /* RFC 9112 2.2 */
        FUZZ_CHECK(head_n <= n && head_n <= limits.max_head);
        head_read(&lines, text + skip, head_n - skip);
        check_start(&whole.h, text, &lines);
        head_check_fields(&whole.h, text, &lines);
        check_host(&whole.h, text, &lines);
        check_upgrade(&whole.h, text);
    }
    free(text);
    FUZZ_CHECK(ht_mem_live() == live);
    return 0;
}
