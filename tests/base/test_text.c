#include "base/text.h"
#include "base/utf8.h"
#include "support/tap.h"

#include <stdio.h>

static const char *plain(const char *s) {
    static char out[256];
    return ht_text_clean(ht_slice_str(s), out, sizeof out);
}

static const char *json(const char *s) {
    static char out[256];
    ht_text_put(ht_slice_str(s), HT_TEXT_JSON, out, sizeof out);
    return out;
}

static void what_a_terminal_acts_on_is_spelled_out(void) {
    CU_ASSERT_STRING_EQUAL(plain("\033]0;title\007"), "\\x1b]0;title\\x07");
    CU_ASSERT_STRING_EQUAL(plain("a\r\nb\tc\177"), "a\\x0d\\x0ab\\x09c\\x7f");
    CU_ASSERT_STRING_EQUAL(plain("\xc2\x9b"
                                 "2J"),
                           "\\u009b2J"); /* CSI in one character */
    CU_ASSERT_STRING_EQUAL(json("\033[2J\n\177"), "\\u001b[2J\\u000a\\u007f");
    CU_ASSERT_STRING_EQUAL(json("\xc2\x85"), "\\u0085");
}

static void nobody_turns_a_text_around(void) {
    static const uint32_t marks[] = {0x061c, 0x200e, 0x200f, 0x2028, 0x2029, 0x202a, 0x202b,
                                     0x202c, 0x202d, 0x202e, 0x2066, 0x2067, 0x2068, 0x2069};
    for (size_t i = 0; i < HT_ARRAY_LEN(marks); i++) {
        char in[8] = "", want[16];
        in[ht_utf8_put((uint8_t *)in, marks[i])] = '\0';
        snprintf(want, sizeof want, "\\u%04x", (unsigned)marks[i]);
        CU_ASSERT_STRING_EQUAL(plain(in), want);
        CU_ASSERT_STRING_EQUAL(json(in), want);
    }
}

static void letters_pass_and_bytes_that_are_none_show(void) {
    CU_ASSERT_STRING_EQUAL(plain("gr\xc3\xbc\xc3\x9f \xe4\xbd\xa0\xe5\xa5\xbd \xf0\x9f\x98\x80 \"\\"),
                           "gr\xc3\xbc\xc3\x9f \xe4\xbd\xa0\xe5\xa5\xbd \xf0\x9f\x98\x80 \"\\");
    CU_ASSERT_STRING_EQUAL(json("\xc3\xbc \"\\"), "\xc3\xbc \\\"\\\\");
    CU_ASSERT_STRING_EQUAL(plain("\xff\xc3"), "\\xff\\xc3");
    CU_ASSERT_STRING_EQUAL(plain("\xed\xa0\x80"), "\\xed\\xa0\\x80"); /* half of a surrogate pair */
    CU_ASSERT_STRING_EQUAL(json("\xc0\x80"), "\xef\xbf\xbd\xef\xbf\xbd");
    CU_ASSERT_STRING_EQUAL(plain(""), "");
    CU_ASSERT_STRING_EQUAL(plain(NULL), "");
}

/* Whatever the room, what is there is whole, and the NUL is inside. */
static void a_cut_is_behind_a_whole_character(void) {
    static const char in[] = "a\033\xe4\xbd\xa0\xc2\x9b\"z", *const whole = "a\\x1b\xe4\xbd\xa0\\u009b\"z";
    for (size_t cap = 1; cap < 32; cap++) {
        char out[32];
        memset(out, '#', sizeof out);
        size_t n = ht_text_put(ht_slice_str(in), HT_TEXT_PLAIN, out, cap);
        CU_ASSERT_FATAL(n < cap);
        CU_ASSERT_EQUAL(out[n], '\0');
        CU_ASSERT_EQUAL(strncmp(out, whole, n), 0);
        CU_ASSERT(ht_utf8_valid((const uint8_t *)out, n));
        CU_ASSERT(n == 0 || n == 1 || n == 5 || n == 8 || n == 14 || n == 15 || n == 16);
        if (cap < sizeof out)
            CU_ASSERT_EQUAL(out[cap], '#');
    }
}

int main(void) {
    static const struct tap_test tests[] = {
        {"what a terminal acts on is spelled out", what_a_terminal_acts_on_is_spelled_out},
        {"marks of writing direction are escaped", nobody_turns_a_text_around},
        {"letters pass, other bytes are escaped", letters_pass_and_bytes_that_are_none_show},
        {"a text is cut between characters", a_cut_is_behind_a_whole_character},
        {NULL, NULL},
    };
    return tap_main("text", tests);
}
