/* Writing heads: what must not go out does not, and what goes out comes back the same through the parser. */
#include "base/mem.h"
#include "feed.h"

static struct ht_slice str(const char *s) { return ht_slice_str(s); }

static bool holds(const struct ht_buf *b, const char *expected) {
    bool same = ht_slice_is(ht_buf_slice(b), expected);
    if (!same)
        show_input("written", (const char *)ht_buf_head(b), ht_buf_size(b));
    return same;
}

static void lines(void) {
    struct ht_buf b = {0};
    CU_ASSERT_EQUAL(http_write_status(&b, 1, 200, str("")), HT_OK);
    CU_ASSERT_EQUAL(http_write_status(&b, 0, 404, str("Not here")), HT_OK);
    CU_ASSERT_EQUAL(http_write_status(&b, 1, 299, str(NULL)), HT_OK);
    CU_ASSERT_EQUAL(http_write_status(&b, 1, 100, str("")), HT_OK);
    CU_ASSERT_EQUAL(http_write_status(&b, 1, 599, str("Gr\303\274n")), HT_OK);
    CU_ASSERT_EQUAL(http_write_request_line(&b, str("GET"), str("/a?b")), HT_OK);
    CU_ASSERT_EQUAL(http_write_field(&b, str("x-a"), str(" b\tc ")), HT_OK);
    CU_ASSERT_EQUAL(http_write_field(&b, str("x-b"), str("")), HT_OK);
    CU_ASSERT_EQUAL(http_write_field(&b, str("x-c"), str(" \t ")), HT_OK);
    CU_ASSERT_EQUAL(http_write_content_length(&b, 0), HT_OK);
    CU_ASSERT_EQUAL(http_write_content_length(&b, UINT64_MAX), HT_OK);
    CU_ASSERT_EQUAL(http_write_end(&b), HT_OK);
    CU_ASSERT(holds(&b, "HTTP/1.1 200 OK\r\nHTTP/1.0 404 Not here\r\nHTTP/1.1 299 \r\nHTTP/1.1 100 Continue\r\n"
                        "HTTP/1.1 599 Gr\303\274n\r\nGET /a?b HTTP/1.1\r\nx-a: b\tc\r\nx-b: \r\nx-c: \r\n"
                        "content-length: 0\r\ncontent-length: 18446744073709551615\r\n\r\n"));
    ht_buf_free(&b);
}

static void nothing_bad_goes_out(void) {
    static const char *const bad_values[] = {"a\r\nb: c", "a\rb",     "a\nb", "\n",    "\r",
                                             "a\001",     "a\033[0m", "\177", "a\013b"};
    static const char *const bad_names[] = {"",    " ",    "a b", "a:",       ":a",    "a\r",
                                            "a\n", "\r\n", "a(b", "\303\244", "a\177", " a"};
    static const char *const bad_targets[] = {"",    " ",  "/ ",        "/a b",  "/\r\n",
                                              "/\n", "/#", "/\303\244", "/\177", "/\001"};
    struct ht_buf b = {0};
    for (size_t i = 0; i < HT_ARRAY_LEN(bad_values); i++) {
        CU_ASSERT_EQUAL(http_write_field(&b, str("a"), str(bad_values[i])), HT_EINVAL);
        CU_ASSERT_EQUAL(http_write_status(&b, 1, 200, str(bad_values[i])), HT_EINVAL);
        CU_ASSERT(!http_is_field_value(str(bad_values[i])));
    }
    for (size_t i = 0; i < HT_ARRAY_LEN(bad_names); i++) {
        CU_ASSERT_EQUAL(http_write_field(&b, str(bad_names[i]), str("b")), HT_EINVAL);
        CU_ASSERT_EQUAL(http_write_request_line(&b, str(bad_names[i]), str("/")), HT_EINVAL);
        CU_ASSERT(!http_is_token(str(bad_names[i])));
    }
    for (size_t i = 0; i < HT_ARRAY_LEN(bad_targets); i++)
        CU_ASSERT_EQUAL(http_write_request_line(&b, str("GET"), str(bad_targets[i])), HT_EINVAL);
    /* A NUL anywhere, and at each place of the fast path. */
    for (size_t n = 1; n < 40; n++)
        for (size_t at = 0; at < n; at++) {
            char text[40];
            memset(text, 'x', sizeof text);
            CU_ASSERT(http_is_field_value(ht_slice_of(text, n)) && http_is_token(ht_slice_of(text, n)));
            text[at] = '\0';
            CU_ASSERT_EQUAL(http_write_field(&b, str("a"), ht_slice_of(text, n)), HT_EINVAL);
            CU_ASSERT_EQUAL(http_write_field(&b, ht_slice_of(text, n), str("a")), HT_EINVAL);
            text[at] = '\t';
            CU_ASSERT(http_is_field_value(ht_slice_of(text, n)) && !http_is_token(ht_slice_of(text, n)));
        }
    CU_ASSERT_EQUAL(http_write_status(&b, 1, 99, str("")), HT_EINVAL);
    CU_ASSERT_EQUAL(http_write_status(&b, 1, 1000, str("")), HT_EINVAL);
    CU_ASSERT_EQUAL(http_write_status(&b, 1, 0, str("")), HT_EINVAL);
    CU_ASSERT_EQUAL(http_write_status(&b, 2, 200, str("")), HT_EINVAL);
    CU_ASSERT_EQUAL(http_write_answer(&b, 1, 1000, NULL, "x", false, false), HT_EINVAL);
    CU_ASSERT_EQUAL(ht_buf_size(&b), 0);
    CU_ASSERT(http_is_field_value(str("")));
    ht_buf_free(&b);
}

static void chunk_heads(void) {
    static const struct {
        size_t n;
        const char *text;
    } rows[] = {{1, "1\r\n"},
                {9, "9\r\n"},
                {10, "a\r\n"},
                {15, "f\r\n"},
                {16, "10\r\n"},
                {255, "ff\r\n"},
                {65536, "10000\r\n"},
                {0xabcdef12, "abcdef12\r\n"},
                {SIZE_MAX, "ffffffffffffffff\r\n"}};
    for (size_t i = 0; i < HT_ARRAY_LEN(rows); i++) {
        char out[20];
        size_t n = http_chunk_head(out, rows[i].n);
        CU_ASSERT(ht_slice_is(ht_slice_of(out, n), rows[i].text));
    }
}

static void reasons(void) {
    CU_ASSERT_STRING_EQUAL(http_reason(200), "OK");
    CU_ASSERT_STRING_EQUAL(http_reason(431), "Request Header Fields Too Large");
    CU_ASSERT_STRING_EQUAL(http_reason(502), "Bad Gateway");
    CU_ASSERT_STRING_EQUAL(http_reason(299), "");
    for (uint32_t s = 0; s <= UINT16_MAX; s++)
        CU_ASSERT(strlen(http_reason((uint16_t)s)) <= 31 && http_is_field_value(str(http_reason((uint16_t)s))));
}

static void answers(void) {
    struct ht_buf b = {0};
    CU_ASSERT_EQUAL(http_write_answer(&b, 1, 503, "retry-after: 5\r\n", "parked\n", false, true), HT_OK);
    CU_ASSERT(holds(&b, "HTTP/1.1 503 Service Unavailable\r\ncontent-type: text/plain; charset=utf-8\r\n"
                        "content-length: 7\r\nretry-after: 5\r\nconnection: close\r\n\r\nparked\n"));
    ht_buf_consume(&b, ht_buf_size(&b));
    CU_ASSERT_EQUAL(http_write_answer(&b, 0, 502, NULL, "down", true, false), HT_OK);
    CU_ASSERT(holds(&b, "HTTP/1.0 502 Bad Gateway\r\ncontent-type: text/plain; charset=utf-8\r\ncontent-length: 4\r\n"
                        "connection: keep-alive\r\n\r\n"));
    ht_buf_consume(&b, ht_buf_size(&b));
    CU_ASSERT_EQUAL(http_write_answer(&b, 1, 404, NULL, NULL, false, false), HT_OK);
    CU_ASSERT(
        holds(&b, "HTTP/1.1 404 Not Found\r\ncontent-type: text/plain; charset=utf-8\r\ncontent-length: 0\r\n\r\n"));
    ht_buf_consume(&b, ht_buf_size(&b));
    CU_ASSERT_EQUAL(http_write_answer(&b, 1, 204, NULL, "dropped", false, false), HT_OK);
    CU_ASSERT_EQUAL(http_write_answer(&b, 1, 100, NULL, NULL, false, false), HT_OK);
    CU_ASSERT(holds(&b, "HTTP/1.1 204 No Content\r\n\r\nHTTP/1.1 100 Continue\r\n\r\n"));
    ht_buf_free(&b);
}

/* Each allocation fails once: the buffer is then as it was. */
static void out_of_memory(void) {
    size_t live = ht_mem_live();
    for (int kind = 0; kind < 6; kind++) {
        struct ht_buf b = {0};
        ht_mem_fail_at(0);
        int rc = kind == 0   ? http_write_status(&b, 1, 200, str(""))
                 : kind == 1 ? http_write_request_line(&b, str("GET"), str("/"))
                 : kind == 2 ? http_write_field(&b, str("a"), str("b"))
                 : kind == 3 ? http_write_content_length(&b, 5)
                 : kind == 4 ? http_write_end(&b)
                             : http_write_answer(&b, 1, 502, NULL, "down", false, true);
        ht_mem_fail_at(-1);
        CU_ASSERT_EQUAL(rc, HT_ENOMEM);
        CU_ASSERT_EQUAL(ht_buf_size(&b), 0);
        ht_buf_free(&b);
    }
    CU_ASSERT_EQUAL(ht_mem_live(), live);
}

static bool same_text(const char *in, struct http_span s, struct ht_slice expected) {
    return ht_slice_eq(http_text(in, s), expected);
}

static uint32_t next_random(uint32_t *seed) {
    *seed = *seed * 1664525u + 1013904223u;
    return *seed >> 8;
}

/* Random fields, written and read again. */
static void round_trip(void) {
    uint32_t seed = 7;
    for (int round = 0; round < 300; round++) {
        struct ht_buf b = {0};
        bool response = round & 1;
        char names[20][12], values[20][70];
        size_t lengths[20], n = next_random(&seed) % 20;
        int rc =
            response ? http_write_status(&b, 1, 200, str("Fine")) : http_write_request_line(&b, str("PUT"), str("/x"));
        if (!response)
            rc |= http_write_field(&b, str("Host"), str("a"));
        for (size_t i = 0; i < n; i++) {
            snprintf(names[i], sizeof names[i], "x-%u", next_random(&seed) % 100000);
            lengths[i] = next_random(&seed) % sizeof values[i];
            for (size_t j = 0; j < lengths[i]; j++) {
                unsigned char c = (unsigned char)next_random(&seed);
                values[i][j] = c == 0x7f || c < 0x21 ? (j && j + 1 < lengths[i] ? " \t"[c & 1] : 'x') : (char)c;
            }
            rc |= http_write_field(&b, str(names[i]), ht_slice_of(values[i], lengths[i]));
        }
        rc |= http_write_content_length(&b, 12345);
        rc |= http_write_end(&b);
        CU_ASSERT_EQUAL_FATAL(rc, HT_OK);
        const char *in = (const char *)ht_buf_head(&b);
        struct outcome o = feed_all_ways(in, ht_buf_size(&b), response ? FEED_RESPONSE : FEED_REQUEST, NULL);
        CU_ASSERT_EQUAL(o.rc, (int)ht_buf_size(&b));
        CU_ASSERT_EQUAL(o.h.content_length, 12345);
        uint32_t first = response ? 0 : 1;
        CU_ASSERT_EQUAL_FATAL(o.h.n_fields, first + n + 1);
        for (uint32_t i = 0; i < n; i++)
            CU_ASSERT(same_text(in, o.h.fields[first + i].name, str(names[i])) &&
                      same_text(in, o.h.fields[first + i].value, ht_slice_of(values[i], lengths[i])));
        ht_buf_free(&b);
    }
}

static void lists(void) {
    static const struct {
        const char *in, *out; /* the elements, each followed by | */
    } rows[] = {
        {"", ""},
        {",", ""},
        {" , ,\t, ", ""},
        {"a", "a|"},
        {" a ", "a|"},
        {"a,b", "a|b|"},
        {",a,,b,", "a|b|"},
        {" a b ,\tc\t", "a b|c|"},
        {"\"a,b\"", "\"a|b\"|"},
        {"a;q=1, b", "a;q=1|b|"},
    };
    for (size_t i = 0; i < HT_ARRAY_LEN(rows); i++) {
        char got[100] = "";
        struct ht_slice rest = str(rows[i].in), item;
        while (http_list_next(&rest, &item)) {
            strncat(got, item.p, item.n);
            strcat(got, "|");
        }
        CU_ASSERT_STRING_EQUAL(got, rows[i].out);
        CU_ASSERT(!http_list_next(&rest, &item));
    }
}

int main(void) {
    static const struct tap_test tests[] = {
        {"start lines and fields are written", lines},
        {"texts that could split a message are refused", nothing_bad_goes_out},
        {"chunk heads are written", chunk_heads},
        {"each registered status has its reason phrase", reasons},
        {"whole small answers are written", answers},
        {"without memory nothing is appended", out_of_memory},
        {"a head that was written is read back the same", round_trip},
        {"comma lists are split", lists},
        {NULL, NULL},
    };
    return tap_main("http writer", tests);
}
