/* The strict JSON reader: what it must take, what it must refuse and why, and its typed reads. */
#include "base/utf8.h"
#include "support/tap.h"
#include "json/json.h"

#include <stdio.h>
#include <stdlib.h>

struct text {
    const char *p;
    size_t n;
    enum json_reason why;
};

#define OK(s)                                                                                                          \
    { s, sizeof(s) - 1, JSON_OK }
#define NO(why, s)                                                                                                     \
    { s, sizeof(s) - 1, JSON_##why }

#define DEEP16 "[[[[[[[[[[[[[[[["
#define END16 "]]]]]]]]]]]]]]]]"

static const struct text accepted[] = {
    /* values */
    OK("null"),
    OK("true"),
    OK("false"),
    OK("0"),
    OK("\"\""),
    OK("[]"),
    OK("{}"),
    OK(" \t\r\n null \t\r\n "),
    OK("[ ]"),
    OK("{ }"),
    OK("\n[\n]\n"),
    /* arrays */
    OK("[null]"),
    OK("[1,2,3]"),
    OK("[1 , 2 ,3 ]"),
    OK("[[]]"),
    OK("[[],[[]],{}]"),
    OK("[\"\",0,true,null,{},[]]"),
    OK("[1,null,null,null,2]"),
    OK("[false]"),
    OK(DEEP16 END16),
    OK("[\"a\"]"),
    /* objects */
    OK("{\"a\":1}"),
    OK("{\"\":0}"),
    OK("{\"a\":{\"a\":{\"a\":1}}}"),
    OK("{\"a\":1,\"b\":2}"),
    OK("{ \"a\" : 1 , \"b\" : [ ] }"),
    OK("[{\"a\":1},{\"a\":1}]"),
    OK("{\"a\":{\"b\":1},\"b\":{\"a\":1}}"),
    OK("{\"a\":1,\"A\":2}"),
    OK("{\"a\":1,\"a \":2}"),
    OK("{\"\\u0000\":1,\"\\u0001\":2}"),
    OK("{\"a\":[{\"a\":0}]}"),
    OK("{\"\\u0061b\":1,\"a\":2}"),
    OK("{\"x\\u0000\":1,\"x\":2}"),
    OK("{\"min\":-1.0e+28,\"max\":1.0e+28}"),
    /* numbers */
    OK("-0"),
    OK("-1"),
    OK("10"),
    OK("1.5"),
    OK("0.5"),
    OK("-0.0"),
    OK("1e5"),
    OK("1E5"),
    OK("1e+5"),
    OK("1e-5"),
    OK("0e0"),
    OK("0e+1"),
    OK("0E-9999"),
    OK("1e-9999"),
    OK("0e9999999999"),
    OK("0.000e9999"),
    OK("1.7e307"),
    OK("9.99e307"),
    OK("0.00001e312"),
    OK("123456789012345678901234567890"),
    OK("[20e1]"),
    OK("[123e65]"),
    OK("-1e307"),
    OK("1.00000000000000000000001"),
    OK("[-123]"),
    OK("[0.1e1]"),
    OK("0.0000000000000000000000000000000000000000000000001"),
    /* strings */
    OK("\"a\""),
    OK("\" \""),
    OK("\"\\\"\\\\\\/\\b\\f\\n\\r\\t\""),
    OK("\"\\u0041\""),
    OK("\"\\uABCD\\uabcd\""),
    OK("\"\\u0000\""),
    OK("\"\\ud83d\\ude00\""),
    OK("\"\\uD800\\uDC00\""),
    OK("\"\\uDBFF\\uDFFF\""),
    OK("\"\xc3\xa9\""),
    OK("\"\xe2\x82\xac\""),
    OK("\"\xf0\x9f\x98\x80\""),
    OK("\"\xf4\x8f\xbf\xbf\""),
    OK("\"\xed\x9f\xbf\""),
    OK("\"\xee\x80\x80\""),
    OK("\"\xef\xbf\xbf\""),
    OK("\"\x7f\""),
    OK("\"\xc2\x80\""),
    OK("\"\xdf\xbf\""),
    OK("\"\xe0\xa0\x80\""),
    OK("\"\xf0\x90\x80\x80\""),
    OK("\"/\""),
    OK("\"\\\\u0000\""),
    OK("\"\xe2\x80\xa8\xe2\x80\xa9\""),
    OK("\"long enough for several words at a time, and a tail\""),
    OK("\"1234567\\\"1234567\""),
    OK("\"\\uFFFF\""),
    OK("\"\\uFEFF\""),
    OK("\"\xef\xbb\xbf\""),
    OK("\"asd \\\\\""),
    OK("[\"\\\\n\"]"),
};

static const struct text refused[] = {
    /* nothing, or not all of it */
    NO(TRUNCATED, ""),
    NO(TRUNCATED, " "),
    NO(TRUNCATED, "["),
    NO(TRUNCATED, "{"),
    NO(TRUNCATED, "\""),
    NO(TRUNCATED, "[1"),
    NO(TRUNCATED, "[1,"),
    NO(TRUNCATED, "{\"a\""),
    NO(TRUNCATED, "{\"a\":"),
    NO(TRUNCATED, "{\"a\":1"),
    NO(TRUNCATED, "{\"a\":1,"),
    NO(TRUNCATED, "\"a"),
    NO(TRUNCATED, "\"\\"),
    NO(TRUNCATED, "\"\\u"),
    NO(TRUNCATED, "\"\\u00"),
    NO(TRUNCATED, "tru"),
    NO(TRUNCATED, "n"),
    NO(TRUNCATED, "-"),
    NO(TRUNCATED, "1."),
    NO(TRUNCATED, "1e"),
    NO(TRUNCATED, "1e+"),
    NO(TRUNCATED, "[[[["),
    NO(TRUNCATED, "[\"a\",\n4\n,1"),
    NO(TRUNCATED, "{\"a\":[{\"b\":[{"),
    /* words */
    NO(SYNTAX, "True"),
    NO(SYNTAX, "nul1"),
    NO(TRAILING, "nulll"),
    NO(TRAILING, "truefalse"),
    NO(SYNTAX, "fals3"),
    NO(SYNTAX, "NaN"),
    NO(SYNTAX, "Infinity"),
    NO(SYNTAX, "-Infinity"),
    NO(SYNTAX, "undefined"),
    NO(SYNTAX, "*"),
    NO(SYNTAX, "tRUE"),
    NO(SYNTAX, "[nul]"),
    /* numbers */
    NO(TRAILING, "01"),
    NO(TRAILING, "00"),
    NO(TRAILING, "-01"),
    NO(SYNTAX, "+1"),
    NO(SYNTAX, ".5"),
    NO(SYNTAX, "[1.]"),
    NO(SYNTAX, "[-]"),
    NO(SYNTAX, "[1e]"),
    NO(SYNTAX, "[1e+]"),
    NO(SYNTAX, "[1.e1]"),
    NO(TRAILING, "0x10"),
    NO(TRAILING, "1_000"),
    NO(TRAILING, "1 000"),
    NO(SYNTAX, "[- 1]"),
    NO(SYNTAX, "[--1]"),
    NO(SYNTAX, "[1-1]"),
    NO(SYNTAX, "[1+2]"),
    NO(TRAILING, "1.2.3"),
    NO(SYNTAX, "[0e]"),
    NO(SYNTAX, "[1eE2]"),
    NO(SYNTAX, "[2.e3]"),
    NO(SYNTAX, "[.2e-3]"),
    NO(SYNTAX, "-a"),
    NO(TRAILING, "1a"),
    NO(SYNTAX, "[1\xef\xbc\x91]"),
    NO(SYNTAX, "[0.3e+]"),
    NO(SYNTAX, "[9.e+]"),
    NO(SYNTAX, "[-.5]"),
    NO(NUMBER, "1e308"),
    NO(NUMBER, "1e400"),
    NO(NUMBER, "-1e999"),
    NO(NUMBER, "1e99999999999999999999"),
    NO(NUMBER, "0.1e309"),
    NO(NUMBER, "{\"a\":1E+9999}"),
    NO(NUMBER,
       "10000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000"
       "00000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000"
       "00000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000"),
    /* arrays */
    NO(SYNTAX, "[,]"),
    NO(SYNTAX, "[1,]"),
    NO(SYNTAX, "[,1]"),
    NO(SYNTAX, "[1,,2]"),
    NO(SYNTAX, "[1 2]"),
    NO(SYNTAX, "[1:2]"),
    NO(SYNTAX, "]"),
    NO(TRAILING, "[]]"),
    NO(SYNTAX, "[}"),
    NO(SYNTAX, "[1}"),
    NO(SYNTAX, "[\"a\" \"b\"]"),
    NO(SYNTAX, "[[],[]"
               "}"),
    NO(SYNTAX, "[3[4]]"),
    NO(SYNTAX, "[\"\": 1]"),
    NO(SYNTAX, "[;]"),
    NO(SYNTAX, "<null>"),
    NO(SYNTAX, "[<null>]"),
    /* objects */
    NO(SYNTAX, "{,}"),
    NO(SYNTAX, "{\"a\":1,}"),
    NO(SYNTAX, "{\"a\"}"),
    NO(SYNTAX, "{\"a\",1}"),
    NO(SYNTAX, "{a:1}"),
    NO(SYNTAX, "{'a':1}"),
    NO(SYNTAX, "{1:1}"),
    NO(SYNTAX, "{null:1}"),
    NO(SYNTAX, "{\"a\":}"),
    NO(SYNTAX, "{\"a\"::1}"),
    NO(SYNTAX, "{\"a\":1 \"b\":2}"),
    NO(SYNTAX, "{\"a\":1,,\"b\":2}"),
    NO(SYNTAX, "{:1}"),
    NO(SYNTAX, "}"),
    NO(TRAILING, "{}}"),
    NO(SYNTAX, "{]"),
    NO(SYNTAX, "{[]:1}"),
    NO(SYNTAX, "{\"a\" 1}"),
    NO(SYNTAX, "{\"a\":1]"),
    NO(SYNTAX, "{\"a\"=1}"),
    NO(SYNTAX, "{\"a\":/**/1}"),
    NO(SYNTAX, "{\"a\":1/*x*/}"),
    NO(TRAILING, "{}//"),
    NO(TRAILING, "{\"a\":1}#"),
    NO(SYNTAX, "{\"a\":\"b\",\"c\" \"d\"}"),
    NO(SYNTAX, "{\"id\":0,,,,,}"),
    NO(SYNTAX, "{\"x\"::\"b\"}"),
    NO(SYNTAX, "{true:1}"),
    NO(SYNTAX, "{{}:1}"),
    /* duplicates */
    NO(DUPLICATE, "{\"a\":1,\"a\":1}"),
    NO(DUPLICATE, "{\"a\":1,\"\\u0061\":1}"),
    NO(DUPLICATE, "{\"\":1,\"\":1}"),
    NO(DUPLICATE, "[{\"b\":{\"a\":1,\"b\":2,\"a\":3}}]"),
    NO(DUPLICATE, "{\"\\ud83d\\ude00\":1,\"\xf0\x9f\x98\x80\":1}"),
    NO(DUPLICATE, "{\"\\/\":1,\"/\":1}"),
    NO(DUPLICATE, "{\"\\u0000\":1,\"\\u0000\":1}"),
    NO(DUPLICATE, "{\"a\":{\"a\":1},\"a\":1}"),
    /* strings */
    NO(SYNTAX, "'a'"),
    NO(SYNTAX, "\"\\x41\""),
    NO(SYNTAX, "\"\\a\""),
    NO(SYNTAX, "\"\\u12g4\""),
    NO(SYNTAX, "\"\\U0041\""),
    NO(SYNTAX, "\"\\ \""),
    NO(SYNTAX, "\"\\0\""),
    NO(SYNTAX, "\"\\'\""),
    NO(SYNTAX, "\"\\\0\""),
    NO(CONTROL, "\"\n\""),
    NO(CONTROL, "\"\t\""),
    NO(CONTROL, "\"\0\""),
    NO(CONTROL, "\"\x1f\""),
    NO(CONTROL, "\"12345678\r\""),
    NO(SYNTAX, "a\""),
    NO(TRAILING, "\"\"\""),
    NO(TRAILING, "\"\"x"),
    NO(SYNTAX, "\\u0020\"a\""),
    NO(SYNTAX, "[\\n]"),
    NO(SYNTAX, "\"\\u+123\""),
    NO(SYNTAX, "\"\\u 123\""),
    NO(SYNTAX, "\"\\\xf0\x9f\x8c\x80\""),
    NO(SYNTAX, "\"\\u\"1234"),
    /* surrogates */
    NO(SURROGATE, "\"\\ud800\""),
    NO(SURROGATE, "\"\\udc00\""),
    NO(SURROGATE, "\"\\ud800x\""),
    NO(SURROGATE, "\"\\ud800\\n\""),
    NO(SURROGATE, "\"\\ud800\\ud800\""),
    NO(SURROGATE, "\"\\udc00\\ud800\""),
    NO(SURROGATE, "\"\\ud800\\u0041\""),
    NO(SURROGATE, "\"\\uD834\\u\""),
    NO(SURROGATE, "\"\\ud800\\udc0\""),
    NO(SURROGATE, "\"\\uDFFF\""),
    NO(SURROGATE, "\"\\udc00\\udc00\""),
    NO(SURROGATE, "\"\\udfff\\udfff\""),
    NO(SURROGATE, "\"\\ud800"),
    /* UTF-8 */
    NO(UTF8, "\"\x80\""),
    NO(UTF8, "\"\xff\""),
    NO(UTF8, "\"\xfe\""),
    NO(UTF8, "\"\xc0\x80\""),
    NO(UTF8, "\"\xc1\xbf\""),
    NO(UTF8, "\"\xc3\""),
    NO(UTF8, "\"\xe0\x80\xaf\""),
    NO(UTF8, "\"\xe0\x9f\xbf\""),
    NO(UTF8, "\"\xed\xa0\x80\""),
    NO(UTF8, "\"\xed\xbf\xbf\""),
    NO(UTF8, "\"\xf0\x80\x80\xaf\""),
    NO(UTF8, "\"\xf0\x8f\xbf\xbf\""),
    NO(UTF8, "\"\xf4\x90\x80\x80\""),
    NO(UTF8, "\"\xf5\x80\x80\x80\""),
    NO(UTF8, "\"\xe2\x82\""),
    NO(UTF8, "\"\xe2\x28\xa1\""),
    NO(UTF8, "\"\xf0\x9f\x98\""),
    NO(UTF8, "\"12345678\xe9 latin\""),
    NO(UTF8, "\"\xf8\x88\x80\x80\x80\""),
    NO(UTF8, "{\"\xe9\":1}"),
    NO(UTF8, "\"\xc3"),
    NO(UTF8, "\"\xe2\x82\xac\xac\""),
    /* around the value */
    NO(BOM, "\xef\xbb\xbf{}"),
    NO(BOM, "\xef\xbb\xbf"),
    NO(SYNTAX, "\xff\xfe{\0}\0"),
    NO(SYNTAX, "\xc2\xa0{}"),
    NO(SYNTAX, "\0{}"),
    NO(TRAILING, "{}\0"),
    NO(TRAILING, "[] x"),
    NO(TRAILING, "[][]"),
    NO(TRAILING, "{} {}"),
    NO(TRAILING, "1 2"),
    NO(TRAILING, "null,"),
    NO(SYNTAX, "\f[]"),
    NO(SYNTAX, "[\v]"),
    NO(TRAILING, "[]\xe2\x81\xa0"),
    NO(SYNTAX, "[\xc3\xa9]"),
    NO(SYNTAX, "\xef\xbb{}"),
    NO(SYNTAX, "// c\n1"),
    NO(SYNTAX, "[\xe2\x80\x83]"),
    NO(TRAILING, "[1]\x1a"),
    /* depth */
    NO(DEPTH, DEEP16 "[]" END16),
    NO(DEPTH, DEEP16 "{}" END16),
    NO(DEPTH, DEEP16 DEEP16 DEEP16 DEEP16 DEEP16),
    NO(DEPTH, "{\"\":" DEEP16),
    NO(DEPTH, DEEP16 "["),
};

static const struct json_limits sixteen = {16, JSON_MAX_KEYS, false};

static void run_list(const struct text *list, size_t n) {
    for (size_t i = 0; i < n; i++) {
        struct json_error err = {JSON_OK, 0};
        /* A block of its own, so that a sanitizer sees a read behind the end. */
        char *copy = malloc(list[i].n ? list[i].n : 1);
        memcpy(copy, list[i].p, list[i].n);
        int rc = json_validate(copy, list[i].n, &sixteen, &err);
        free(copy);
        bool good = rc == (list[i].why ? HT_EPROTO : 0) && err.reason == list[i].why && err.offset <= list[i].n;
        if (!good)
            printf("# %zu: %.60s: %s at %zu instead of %s\n", i, list[i].p, json_reason_text(err.reason), err.offset,
                   json_reason_text(list[i].why));
        CU_ASSERT(good);
    }
}

static void must_accept(void) { run_list(accepted, HT_ARRAY_LEN(accepted)); }
static void must_reject(void) { run_list(refused, HT_ARRAY_LEN(refused)); }

static void enough_cases(void) { CU_ASSERT(HT_ARRAY_LEN(accepted) + HT_ARRAY_LEN(refused) >= 150); }

/* A text that ends too early anywhere is refused, and nothing behind its end is looked at. */
static void every_prefix_is_refused(void) {
    static const char whole[] = "{\"a\":[1,-2.5e3,\"x\\u00e9\\ud83d\\ude00\xc3\xa9\",true,null],\"bb\":{\"c\":false}}";
    for (size_t n = 0; n < sizeof whole - 1; n++) {
        char *copy = malloc(n ? n : 1);
        memcpy(copy, whole, n);
        CU_ASSERT_EQUAL(json_validate(copy, n, NULL, NULL), HT_EPROTO);
        free(copy);
    }
    CU_ASSERT_EQUAL(json_validate(whole, sizeof whole - 1, NULL, NULL), 0);
}

static void offsets_point_at_the_fault(void) {
    struct json_error err;
    CU_ASSERT_EQUAL(json_validate("[1,x]", 5, NULL, &err), HT_EPROTO);
    CU_ASSERT_EQUAL(err.offset, 3);
    CU_ASSERT_EQUAL(json_validate("{\"a\":1,\"a\":2}", 13, NULL, &err), HT_EPROTO);
    CU_ASSERT_EQUAL(err.offset, 8);
    CU_ASSERT_EQUAL(json_validate("[]  ,", 5, NULL, &err), HT_EPROTO);
    CU_ASSERT_EQUAL(err.offset, 4);
}

static void limits_are_the_callers(void) {
    struct json_limits lim = {.max_depth = 2, .max_keys = 3, .refuse_nul = true};
    struct json_error err;
#define TRY(s) json_validate(s, sizeof(s) - 1, &lim, &err)
    CU_ASSERT_EQUAL(TRY("[[]]"), 0);
    CU_ASSERT_EQUAL(TRY("[[[]]]"), HT_EPROTO);
    CU_ASSERT_EQUAL(err.reason, JSON_DEPTH);
    CU_ASSERT_EQUAL(TRY("{\"a\":1,\"b\":1,\"c\":1}"), 0);
    CU_ASSERT_EQUAL(TRY("[{\"a\":1,\"b\":1},{\"c\":1,\"d\":1}]"), 0); /* only the open ones count */
    CU_ASSERT_EQUAL(TRY("{\"a\":1,\"b\":1,\"c\":1,\"d\":1}"), HT_EPROTO);
    CU_ASSERT_EQUAL(err.reason, JSON_KEYS);
    CU_ASSERT_EQUAL(TRY("\"\\u0000\""), HT_EPROTO);
    CU_ASSERT_EQUAL(err.reason, JSON_NUL);
    CU_ASSERT_EQUAL(TRY("{\"a\\u0000\":1}"), HT_EPROTO);
    CU_ASSERT_EQUAL(err.reason, JSON_NUL);
    CU_ASSERT_EQUAL(TRY("\"\\\\u0000\""), 0);
#undef TRY
    for (int r = JSON_OK; r <= JSON_NUL; r++)
        CU_ASSERT(strlen(json_reason_text((enum json_reason)r)) > 3);
    CU_ASSERT_STRING_EQUAL(json_reason_text((enum json_reason)99), "unknown reason");
}

/* Random objects against the obvious quadratic check over decoded keys. */
static void duplicates_like_the_obvious_check(void) {
    static const char *const spellings[][3] = {
        {"a", "\\u0061", "\\u0061"},        {"b", "\\u0062", "b"},
        {"\xc3\xa9", "\\u00e9", "\\u00E9"}, {"/", "\\/", "\\u002f"},
        {"\\n", "\\u000a", "\\u000A"},      {"\xf0\x9f\x98\x80", "\\ud83d\\ude00", "\\uD83D\\uDE00"},
    };
    unsigned seed = 20261121, duplicates = 0;
    for (int round = 0; round < 20000; round++) {
        char text[512] = "{";
        uint64_t names[8];
        unsigned n = 0;
        bool twice = false;
        for (seed = seed * 1664525u + 1013904223u; n < 2 + (seed >> 28) % 5; n++) {
            if (n)
                strcat(text, ",");
            strcat(text, "\"");
            names[n] = 1;
            for (unsigned letters = 1 + (seed >> 10) % 3; letters > 0; letters--) {
                seed = seed * 1664525u + 1013904223u;
                unsigned which = (seed >> 20) % 6;
                strcat(text, spellings[which][(seed >> 26) % 3]);
                names[n] = names[n] * 7 + which;
            }
            strcat(text, "\":0");
            for (unsigned i = 0; i < n; i++)
                twice = twice || names[i] == names[n];
        }
        strcat(text, "}");
        struct json_error err = {JSON_OK, 0};
        CU_ASSERT_EQUAL(json_validate(text, strlen(text), NULL, &err), twice ? HT_EPROTO : 0);
        CU_ASSERT_EQUAL(err.reason, twice ? JSON_DUPLICATE : JSON_OK);
        duplicates += twice;
    }
    CU_ASSERT(duplicates > 1000 && duplicates < 19000);
}

static int read_uint(const char *text, uint64_t *out) {
    struct json_reader r;
    json_begin(&r, text, strlen(text), NULL);
    return json_read_uint(&r, out);
}

static void integers_do_not_overflow(void) {
    uint64_t v;
    CU_ASSERT_EQUAL(read_uint("0", &v), 0);
    CU_ASSERT_EQUAL(v, 0);
    CU_ASSERT_EQUAL(read_uint("18446744073709551615", &v), 0);
    CU_ASSERT_EQUAL(v, UINT64_MAX);
    CU_ASSERT_EQUAL(read_uint("18446744073709551616", &v), 1);
    CU_ASSERT_EQUAL(read_uint("99999999999999999999999", &v), 1);
    CU_ASSERT_EQUAL(read_uint("-1", &v), 1);
    CU_ASSERT_EQUAL(read_uint("-0", &v), 1);
    CU_ASSERT_EQUAL(read_uint("1.0", &v), 1);
    CU_ASSERT_EQUAL(read_uint("1e2", &v), 1);
    CU_ASSERT_EQUAL(read_uint("\"1\"", &v), HT_EPROTO);
    CU_ASSERT_EQUAL(read_uint("1.", &v), HT_EPROTO);
}

static int read_string(const char *text, bool latin1, struct json_arena *arena, struct ht_slice *out) {
    struct json_reader r;
    json_begin(&r, text, strlen(text), NULL);
    return json_read_string(&r, latin1, arena, out);
}

static void strings_are_decoded(void) {
    static const char plain[] = "\"nothing to do here\"";
    char room[64];
    struct json_arena arena = {room, 0, sizeof room};
    struct ht_slice s;
    CU_ASSERT_EQUAL(read_string(plain, false, &arena, &s), 0);
    CU_ASSERT_PTR_EQUAL(s.p, plain + 1); /* in place */
    CU_ASSERT_EQUAL(read_string(plain, true, &arena, &s), 0);
    CU_ASSERT_PTR_EQUAL(s.p, plain + 1);
    CU_ASSERT_EQUAL(arena.used, 0);
    CU_ASSERT_EQUAL(read_string("\"\\u00e9\\t\\ud83d\\ude00\\/\"", false, &arena, &s), 0);
    CU_ASSERT(ht_slice_is(s, "\xc3\xa9\t\xf0\x9f\x98\x80/"));
    CU_ASSERT_EQUAL(arena.used, s.n);
    CU_ASSERT_EQUAL(read_string("\"\xc3\xa9\\u00ff\"", true, &arena, &s), 0);
    CU_ASSERT(ht_slice_is(s, "\xe9\xff"));
    CU_ASSERT_EQUAL(read_string("\"\\u0100\"", true, &arena, &s), JSON_STRING_ABOVE_LATIN1);
    CU_ASSERT_EQUAL(read_string("\"\xe2\x82\xac\"", true, &arena, &s), JSON_STRING_ABOVE_LATIN1);
    CU_ASSERT_EQUAL(s.n, 0);
    CU_ASSERT_EQUAL(read_string("\"a\\u0000b\"", false, &arena, &s), JSON_STRING_NUL);
    CU_ASSERT_EQUAL(s.n, 3);
    arena.used = arena.cap - 2;
    CU_ASSERT_EQUAL(read_string("\"\\u0041\"", false, &arena, &s), HT_ENOMEM);
    CU_ASSERT_EQUAL(read_string("7", false, &arena, &s), HT_EPROTO);
}

static void utf8_round_trips(void) {
    for (uint32_t cp = 0; cp <= 0x10FFFF; cp += cp < 0x11000 ? 1 : 97) {
        uint8_t b[4];
        unsigned n = ht_utf8_put(b, cp);
        bool surrogate = cp >= 0xD800 && cp <= 0xDFFF;
        if (ht_utf8_len(b, b + n) != (surrogate ? 0 : n) || (!surrogate && ht_utf8_get(b, n) != cp) ||
            (n > 1 && ht_utf8_len(b, b + n - 1) != 0))
            CU_FAIL("code point");
    }
    CU_ASSERT(ht_utf8_valid((const uint8_t *)"", 0));
    CU_ASSERT(ht_utf8_valid(NULL, 0));
    CU_ASSERT(ht_utf8_valid((const uint8_t *)"a\xc3\xa9", 3));
    CU_ASSERT(!ht_utf8_valid((const uint8_t *)"a\xc3", 2));
}

/* The word-at-a-time test against the definition, for each byte at each place, with another behind it. */
static void plain_words(void) {
    for (unsigned at = 0; at < 8; at++)
        for (unsigned c = 0; c < 256; c++)
            for (unsigned fill = 0; fill < 4; fill++) {
                uint8_t b[8];
                memset(b, "a #]"[fill], sizeof b);
                b[at] = (uint8_t)c;
                bool plain = c >= 0x20 && c < 0x80 && c != '"' && c != '\\';
                if (json_plain_run8(b) != (plain ? 8 : at))
                    CU_FAIL("plain word");
                for (unsigned later = at + 1; later < 8; later++) {
                    b[later] = "\x01\"\\\xff"[fill];
                    if (json_plain_run8(b) != (plain ? later : at))
                        CU_FAIL("plain word with another special byte");
                    b[later] = "a #]"[fill];
                }
            }
}

static void readers_walk_a_document(void) {
    static const char text[] = "{\"skip\":{\"x\":[1,{}]},\"l\\u0069st\":[true,false], \"n\":7}";
    struct json_reader r;
    struct ht_slice key;
    uint64_t n = 0;
    bool yes = false, no = true;
    json_begin(&r, text, sizeof text - 1, NULL);
    CU_ASSERT_EQUAL(json_object_begin(&r), 0);
    CU_ASSERT_EQUAL(json_object_next(&r, &key), 1);
    CU_ASSERT_EQUAL(json_skip(&r), 0);
    CU_ASSERT_EQUAL(json_object_next(&r, &key), 1);
    CU_ASSERT(ht_slice_is(key, "list"));
    CU_ASSERT_EQUAL(json_array_begin(&r), 0);
    CU_ASSERT_EQUAL(json_array_next(&r), 1);
    CU_ASSERT_EQUAL(json_read_bool(&r, &yes), 0);
    CU_ASSERT_EQUAL(json_array_next(&r), 1);
    CU_ASSERT_EQUAL(json_read_bool(&r, &no), 0);
    CU_ASSERT_EQUAL(json_array_next(&r), 0);
    CU_ASSERT(yes && !no);
    CU_ASSERT_EQUAL(json_object_next(&r, &key), 1);
    CU_ASSERT_EQUAL(json_peek(&r), JSON_T_NUMBER);
    CU_ASSERT_EQUAL(json_read_uint(&r, &n), 0);
    CU_ASSERT_EQUAL(n, 7);
    CU_ASSERT_EQUAL(json_object_next(&r, &key), 0);
    CU_ASSERT_EQUAL(json_end(&r), 0);
}

int main(void) {
    static const struct tap_test tests[] = {
        {"texts that must be accepted", must_accept},
        {"texts that must be refused, and why", must_reject},
        {"there are at least 150 texts to refuse", enough_cases},
        {"every prefix of a text is refused", every_prefix_is_refused},
        {"errors point at the fault", offsets_point_at_the_fault},
        {"limits are the caller's", limits_are_the_callers},
        {"duplicates are those of the obvious check", duplicates_like_the_obvious_check},
        {"integers do not overflow", integers_do_not_overflow},
        {"strings are decoded", strings_are_decoded},
        {"UTF-8 is decoded and encoded the same", utf8_round_trips},
        {"eight plain bytes are recognised at a time", plain_words},
        {"a reader walks a document", readers_walk_a_document},
        {NULL, NULL},
    };
    return tap_main("json", tests);
}
