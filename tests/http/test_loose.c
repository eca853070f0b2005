/* The answers of a local service: what can be read in one way only is taken, and what it was is said (hardening cases
 * 1, 3, 7). How to switch each defence off to see its test fail: tests/hardening.yaml. */
#include "feed.h"

#define KA HTTP_KEEP_ALIVE
#define CL HTTP_HAS_CONTENT_LENGTH
#define TE HTTP_CHUNKED

struct loose {
    const char *in; /* without the empty line */
    uint16_t status;
    const char *reason, *value; /* `value`: of the last field, cleaned */
    uint32_t flags, odd;
    uint64_t length;
};

static const struct loose rows[] = {
    {"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n", 200, "OK", "5", KA | CL, 0, 5},
    {"HTTP/1.1 200 OK\nContent-Length: 5\n", 200, "OK", "5", KA | CL, HTTP_ODD_LINE_END, 5},
    {"HTTP/1.1 200 OK\r\nContent-Length: 5\n", 200, "OK", "5", KA | CL, HTTP_ODD_LINE_END, 5},
    {"HTTP/1.1 200\na: b\n", 200, "", "b", KA, HTTP_ODD_LINE_END, 0},
    {"\r\nHTTP/1.1 200 OK\r\na: b\r\n", 200, "OK", "b", KA, HTTP_ODD_START_LINE, 0},
    {"HTTP/1.1  200   OK  then\r\na: b\r\n", 200, "OK  then", "b", KA, HTTP_ODD_START_LINE, 0},
    {"HTTP/1.1\t200\tOK\r\na: b\r\n", 200, "OK", "b", KA, HTTP_ODD_START_LINE, 0},
    {"HTTP/1.2 200 OK\r\nContent-Length: 5\r\n", 200, "OK", "5", CL, HTTP_ODD_VERSION, 5},
    {"HTTP/2.0 200 OK\r\nContent-Length: 5\r\n", 200, "OK", "5", CL, HTTP_ODD_VERSION, 5},
    {"HTTP/1.1 600 Own\r\na: b\r\n", 600, "Own", "b", KA, HTTP_ODD_STATUS, 0},
    {"HTTP/1.1 999 Denied\r\na: b\r\n", 999, "Denied", "b", KA, HTTP_ODD_STATUS, 0},
    {"HTTP/1.1 200 O\001K\177\r\na: b\r\n", 200, "O K ", "b", KA, HTTP_ODD_CONTROL, 0},
    {"HTTP/1.1 200 OK\r\nSet-Cookie: a=\001b\177c\r\n", 200, "OK", "a= b c", KA, HTTP_ODD_CONTROL, 0},
    {"HTTP/1.1 200 OK\r\na: b\r\n c\r\n\td\r\n", 200, "OK", "b   c  \td", KA, HTTP_ODD_FOLD, 0},
    {"HTTP/1.1 200 OK\r\na:\r\n c\r\n", 200, "OK", "c", KA, HTTP_ODD_FOLD, 0},
    {"HTTP/1.1 200 OK\r\na: b\r\n \r\n", 200, "OK", "b", KA, HTTP_ODD_FOLD, 0},
    {"HTTP/1.1 200 OK\r\na: b\n c\001\n", 200, "OK", "b  c ", KA, HTTP_ODD_FOLD | HTTP_ODD_CONTROL | HTTP_ODD_LINE_END,
     0},
    {"HTTP/1.1 200 OK\r\nContent-Length \t: 5\r\n", 200, "OK", "5", KA | CL, HTTP_ODD_NAME, 5},
    {"HTTP/1.1 200 OK\r\nTransfer-Encoding : chunked\r\n", 200, "OK", "chunked", KA | TE, HTTP_ODD_NAME, 0},
    {"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 5\r\n", 200, "OK", "5", KA | CL, HTTP_ODD_LENGTH, 5},
    {"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 05, 5\r\n", 200, "OK", "05, 5", KA | CL, HTTP_ODD_LENGTH,
     5},
    {"HTTP/1.1 200 OK\r\nContent-Length: 5,5\r\n", 200, "OK", "5,5", KA | CL, HTTP_ODD_LENGTH, 5},
    {"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\nConnection: keep-alive\r\n", 200, "OK", "keep-alive", TE,
     HTTP_ODD_OLD_CHUNKED, 0},
};

static void what_has_one_reading_is_taken(void) {
    uint32_t all = 0;
    for (size_t i = 0; i < HT_ARRAY_LEN(rows); i++) {
        const struct loose *t = &rows[i];
        char in[600];
        bool lf = strchr(t->in, '\r') == NULL;
        int head = snprintf(in, sizeof in, "%s%s", t->in, lf ? "\n" : "\r\n");
        int n = snprintf(in, sizeof in, "%s%sbody", t->in, lf ? "\n" : "\r\n");
        struct outcome o = feed_all_ways(in, (size_t)n, FEED_LOOSE, NULL);
        bool good = o.rc == head && o.h.status == t->status && o.h.flags == t->flags && o.h.odd == t->odd &&
                    o.h.content_length == t->length && o.h.minor == (in[7] == '0' && in[5] == '1' ? 0 : 1);
        if (good) {
            struct http_span value = o.h.fields[o.h.n_fields - 1].value;
            http_clean(in, o.h.reason);
            http_clean(in, value);
            good = text_is(in, o.h.reason, t->reason) && text_is(in, value, t->value);
        }
        if (!good) {
            show_input("not read as expected", t->in, strlen(t->in));
            printf("# rc %d of %d, flags %x, expected %x, odd %x, expected %x; %s\n", o.rc, head, o.h.flags, t->flags,
                   o.h.odd, t->odd, o.e.text ? o.e.text : "");
        }
        CU_ASSERT(good);
        all |= t->odd;
        /* Nothing odd: the strict rules take it as well; else they do not. */
        CU_ASSERT_EQUAL(feed_all_ways(t->in, strlen(t->in), FEED_RESPONSE, NULL).rc == HT_EPROTO, t->odd != 0);
    }
    CU_ASSERT_EQUAL(all | HTTP_ODD_CHUNK, (1u << HTTP_N_ODD) - 1);
}

static void each_oddity_has_words(void) {
    for (uint32_t i = 0; i < HTTP_N_ODD; i++)
        CU_ASSERT(http_odd_text(1u << i)[0] != '\0');
    CU_ASSERT_STRING_EQUAL(http_odd_text(1u << HTTP_N_ODD), "");
}

struct doubtful {
    const char *in;
    size_t n;
    const char *says;
};

#define RAW(text) (text), sizeof(text) - 1
#define FIELD(field) RAW("HTTP/1.1 200 OK\r\n" field "\r\n\r\n")

static const struct doubtful doubtful[] = {
    {FIELD("Content-Length: 5\r\nTransfer-Encoding: chunked"), "both Transfer-Encoding and Content-Length"},
    {FIELD("Transfer-Encoding: chunked\r\nContent-Length: 5"), "both Transfer-Encoding and Content-Length"},
    {FIELD("Content-Length: 5\r\nContent-Length: 6"), "two values of Content-Length that differ"},
    {FIELD("Content-Length: 5, 6"), "two values of Content-Length that differ"},
    {FIELD("Content-Length: 5,"), "bad Content-Length"},
    {FIELD("Content-Length: ,5"), "bad Content-Length"},
    {FIELD("Content-Length: +5"), "bad Content-Length"},
    {FIELD("Content-Length:"), "bad Content-Length"},
    {FIELD("Content-Length: 5\r\n 0"), "field that frames"},
    {FIELD("Content-Length:\r\n 5"), "bad Content-Length"},
    {FIELD("Transfer-Encoding: chunked\r\n \r\nX: y"), "field that frames"},
    {FIELD("Connection: close\001"), "field that frames"},
    {FIELD("Upgrade: a\r\n b"), "field that frames"},
    {FIELD("Transfer-Encoding: gzip, chunked"), "Transfer-Encoding is not chunked"},
    {FIELD("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked"), "more than one Transfer-Encoding"},
    {FIELD("X: a\0b"), "a NUL in a field value"},
    {FIELD("X: a\rb"), "a CR without an LF"},
    {RAW("HTTP/1.1 200 O\rK\r\n\r\n"), "a CR without an LF"},
    {FIELD("X"), "bad field name"},
    {FIELD(": y"), "bad field name"},
    {FIELD("X Y: z"), "bad field name"},
    {FIELD("X\344: y"), "bad field name"},
    {RAW("HTTP/1.1 200 OK\r\n a: b\r\n\r\n"), "folded field line"},
    {RAW("HTTP/0.9 200 OK\r\n\r\n"), "neither HTTP/1.0 nor HTTP/1.1"},
    {RAW("HTTP/1.1 099 OK\r\n\r\n"), "status is out of range"},
    {RAW("HTTP/1.1 2000 OK\r\n\r\n"), "bad status"},
    {RAW("HTTP/2 200 OK\r\n\r\n"), "bad HTTP version"},
    {RAW(" HTTP/1.1 200 OK\r\n\r\n"), "bad HTTP version"},
    {RAW("<html>hello</html>"), "bad HTTP version"},
};

static void what_has_two_is_refused_and_named(void) {
    for (size_t i = 0; i < HT_ARRAY_LEN(doubtful); i++) {
        struct outcome o = feed_all_ways(doubtful[i].in, doubtful[i].n, FEED_LOOSE, NULL);
        bool good = o.rc == HT_EPROTO && o.e.status == 502 && strstr(o.e.text, doubtful[i].says);
        if (!good) {
            show_input("not refused as expected", doubtful[i].in, doubtful[i].n);
            printf("# rc %d: %s\n", o.rc, o.e.text ? o.e.text : "");
        }
        CU_ASSERT(good);
    }
}

static void empty_lines_without_end_are_refused(void) {
    static char lines[49152 + 1];
    struct outcome o;
    memset(lines, '\n', sizeof lines);
    outcome_begin(&o, FEED_LOOSE, NULL);
    CU_ASSERT_EQUAL(feed_copy(&o, lines, sizeof lines), HT_EPROTO);
}

int main(void) {
    static const struct tap_test tests[] = {
        {"odd input with one meaning is accepted", what_has_one_reading_is_taken},
        {"each oddity has a text", each_oddity_has_words},
        {"ambiguous input is refused, with its name", what_has_two_is_refused_and_named},
        {"empty lines without end are refused", empty_lines_without_end_are_refused},
        {NULL, NULL},
    };
    return tap_main("http: answers of a local service", tests);
}
