/* Base64 as RFC 4648 section 10 has it, every length, and what is refused. */
#include "base/base64.h"
#include "support/tap.h"

#include <stdlib.h>
#include <string.h>

static void texts_of_the_rfc(void) {
    static const char *const rows[][2] = {{"", ""},
                                          {"f", "Zg=="},
                                          {"fo", "Zm8="},
                                          {"foo", "Zm9v"},
                                          {"foob", "Zm9vYg=="},
                                          {"fooba", "Zm9vYmE="},
                                          {"foobar", "Zm9vYmFy"}};
    for (size_t i = 0; i < HT_ARRAY_LEN(rows); i++) {
        char out[16];
        uint8_t back[16];
        size_t n = ht_base64_put(out, rows[i][0], strlen(rows[i][0]));
        CU_ASSERT_EQUAL(n, ht_base64_size(strlen(rows[i][0])));
        CU_ASSERT_TRUE(n == strlen(rows[i][1]) && memcmp(out, rows[i][1], n) == 0);
        CU_ASSERT_EQUAL(ht_base64_get(back, out, n), (ssize_t)strlen(rows[i][0]));
        CU_ASSERT_EQUAL(memcmp(back, rows[i][0], strlen(rows[i][0])), 0);
    }
}

/* In blocks of exactly the size that is promised, and in place. */
static void every_length_there_and_back(void) {
    for (size_t n = 0; n < 300; n++) {
        uint8_t *p = malloc(n + 1);
        char *text = malloc(ht_base64_size(n) + (n == 0));
        for (size_t i = 0; i < n; i++)
            p[i] = (uint8_t)(i * 167 + n * 31);
        size_t len = ht_base64_put(text, p, n);
        CU_ASSERT_EQUAL(ht_base64_get((uint8_t *)text, text, len), (ssize_t)n);
        CU_ASSERT_EQUAL(memcmp(text, p, n), 0);
        free(text);
        free(p);
    }
}

static void what_is_refused(void) {
    static const char *const bad[] = {
        "Z",    "Zg",   "Zg=",  "Zg=a", "=",    "====",    "Z===",     "Zm9vZg==Zg==", "Zm9v\n", "Zm9\n",
        "Z g=", "Zm9-", "Zm9_", "Zh==", "Zm9=", "Zm\xff=", "Zg==Zm9v", "=m9v",         "Zm8=="};
    for (size_t i = 0; i < HT_ARRAY_LEN(bad); i++) {
        uint8_t out[16];
        CU_ASSERT_EQUAL(ht_base64_get(out, bad[i], strlen(bad[i])), -1);
    }
    for (unsigned c = 0; c < 256; c++) {
        const char text[] = {'A', (char)c, 'A', 'A', 'A', 'A', 'A', 'A'};
        bool digit = (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '+' || c == '/';
        uint8_t out[8];
        CU_ASSERT_EQUAL(ht_base64_get(out, text, 8) == 6, digit);
    }
}

int main(void) {
    static const struct tap_test tests[] = {
        {"the examples of RFC 4648 are right", texts_of_the_rfc},
        {"every length is encoded and decoded in place", every_length_there_and_back},
        {"malformed Base64 is refused", what_is_refused},
        {NULL, NULL},
    };
    return tap_main("base64", tests);
}
