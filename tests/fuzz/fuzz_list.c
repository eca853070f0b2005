/*
 * Comma lists and the spellings of Connection, Upgrade, Expect: a list splits as a plain split does, and a head with
 * those fields decides as the split says.
 *
 * Input: how (one byte: version, how many field lines), then the list.
 */
#include "heads.h"

static void check_split(const char *text, size_t n) {
    struct ht_slice rest = ht_slice_of(text, n), item;
    const char *p = text, *end = text + n;
    for (;;) {
        bool more = http_list_next(&rest, &item);
        /* The next element that is not empty. */
        struct ht_slice want = {NULL, 0};
        while (p <= end && want.n == 0) {
            const char *comma = p < end ? memchr(p, ',', (size_t)(end - p)) : NULL;
            const char *stop = comma ? comma : end;
            want = head_trimmed(ht_slice_of(p, (size_t)(stop - p)));
            p = stop + 1;
        }
        FUZZ_CHECK(more == (want.n > 0));
        if (!more)
            break;
        FUZZ_CHECK(ht_slice_eq(item, want) && !memchr(item.p, ',', item.n));
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static struct head_outcome o;
    static struct head_lines lines;
    struct fuzz_in in = {data, data + size};
    uint8_t how = fuzz_u8(&in);
    struct ht_buf b = {0};
    size_t n = fuzz_left(&in);
    char *text = fuzz_copy(in.p, n);
    check_split(text, n);

    /* GET with the list in one field, or cut at ';' into several fields of that name. */
    static const char *const names[] = {"Connection", "connection", "Upgrade", "Expect", "Proxy-Connection", "TE"};
    bool ok =
        ht_buf_printf(&b, "GET / HTTP/1.%d\r\nHost: a\r\n%s", how & 1, how & 2 ? "Upgrade: websocket\r\n" : "") == 0;
    for (const char *p = text, *end = text + n; ok && p <= end;) {
        const char *cut = p < end ? memchr(p, ';', (size_t)(end - p)) : NULL;
        struct ht_slice piece = ht_slice_of(p, (size_t)((cut ? cut : end) - p));
        if (http_write_field(&b, ht_slice_str(names[(how >> 2) % HT_ARRAY_LEN(names)]), piece) < 0)
            break;
        p += piece.n + 1;
    }
    ok = ok && ht_buf_append_str(&b, "Host-2: x\r\nX-A: 1\r\nkeep-alive: 5\r\nCookie: s\r\n\r\n") == 0;
    FUZZ_CHECK(ok);
    head_begin(&o, false, NULL);
    const char *head = (const char *)ht_buf_head(&b);
    if (head_feed(&o, head, ht_buf_size(&b)) > 0) {
        head_read(&lines, head, ht_buf_size(&b));
        head_check_fields(&o.h, head, &lines);
        for (size_t i = 0; i < lines.n; i++) {
            bool hop = http_field_is_hop_by_hop(&o.h, head, (uint32_t)i);
            if (head_name_is(lines.name[i], "x-a"))
                FUZZ_CHECK(hop == head_any_lists(&lines, "connection", "x-a"));
            if (head_name_is(lines.name[i], "cookie"))
                FUZZ_CHECK(!hop);
        }
        bool expects = (how >> 2) % HT_ARRAY_LEN(names) == 3 && (how & 1);
        FUZZ_CHECK(expects || !(o.h.flags & HTTP_EXPECT_CONTINUE));
    }
    ht_buf_free(&b);
    free(text);
    return 0;
}
