#include "base/base64.h"

#define BAD 0x80

static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/* What a character stands for; BAD: nothing. */
/* clang-format off */
static const uint8_t values[256] = {
    BAD, BAD, BAD, BAD, BAD, BAD, BAD, BAD, BAD, BAD, BAD, BAD, BAD, BAD, BAD, BAD,
    BAD, BAD, BAD, BAD, BAD, BAD, BAD, BAD, BAD, BAD, BAD, BAD, BAD, BAD, BAD, BAD,
    BAD, BAD, BAD, BAD, BAD, BAD, BAD, BAD, BAD, BAD, BAD, 62, BAD, BAD, BAD, 63,
    52, 53, 54, 55, 56, 57, 58, 59, 60, 61, BAD, BAD, BAD, BAD, BAD, BAD,
    BAD, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14,
    15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, BAD, BAD, BAD, BAD, BAD,
    BAD, 26, 27, 28, 29, 30, 31, 32, 33, 34, 35, 36, 37, 38, 39, 40,
    41, 42, 43, 44, 45, 46, 47, 48, 49, 50, 51, BAD, BAD, BAD, BAD, BAD,
    BAD, BAD, BAD, BAD, BAD, BAD, BAD, BAD, BAD, BAD, BAD, BAD, BAD, BAD, BAD, BAD,
    BAD, BAD, BAD, BAD, BAD, BAD, BAD, BAD, BAD, BAD, BAD, BAD, BAD, BAD, BAD, BAD,
    BAD, BAD, BAD, BAD, BAD, BAD, BAD, BAD, BAD, BAD, BAD, BAD, BAD, BAD, BAD, BAD,
    BAD, BAD, BAD, BAD, BAD, BAD, BAD, BAD, BAD, BAD, BAD, BAD, BAD, BAD, BAD, BAD,
    BAD, BAD, BAD, BAD, BAD, BAD, BAD, BAD, BAD, BAD, BAD, BAD, BAD, BAD, BAD, BAD,
    BAD, BAD, BAD, BAD, BAD, BAD, BAD, BAD, BAD, BAD, BAD, BAD, BAD, BAD, BAD, BAD,
    BAD, BAD, BAD, BAD, BAD, BAD, BAD, BAD, BAD, BAD, BAD, BAD, BAD, BAD, BAD, BAD,
    BAD, BAD, BAD, BAD, BAD, BAD, BAD, BAD, BAD, BAD, BAD, BAD, BAD, BAD, BAD, BAD,
};
/* clang-format on */

size_t ht_base64_put(char *out, const void *bytes, size_t n) {
    const uint8_t *p = bytes;
    char *to = out;
    for (; n >= 3; n -= 3, p += 3, to += 4) {
        uint32_t v = (uint32_t)p[0] << 16 | (uint32_t)p[1] << 8 | p[2];
        to[0] = digits[v >> 18];
        to[1] = digits[v >> 12 & 63];
        to[2] = digits[v >> 6 & 63];
        to[3] = digits[v & 63];
    }
    if (n > 0) {
        uint32_t v = (uint32_t)p[0] << 16 | (n > 1 ? (uint32_t)p[1] << 8 : 0);
        to[0] = digits[v >> 18];
        to[1] = digits[v >> 12 & 63];
        to[2] = n > 1 ? digits[v >> 6 & 63] : '=';
        to[3] = '=';
        to += 4;
    }
    return (size_t)(to - out);
}

/* The last group, which may end in padding. How many bytes it holds, or -1. */
static int last_group(uint8_t *out, const uint8_t *s) {
    unsigned n = s[3] != '=' ? 3 : s[2] != '=' ? 2 : 1;
    uint32_t a = values[s[0]], b = values[s[1]], c = n > 1 ? values[s[2]] : 0, d = n > 2 ? values[s[3]] : 0;
    uint32_t v = a << 18 | b << 12 | c << 6 | d;
    if ((a | b | c | d) & BAD || v & (0xFFFFFFu >> (8 * n)))
        return -1;
    for (unsigned i = 0; i < n; i++)
        out[i] = (uint8_t)(v >> (16 - 8 * i));
    return (int)n;
}

ssize_t ht_base64_get(uint8_t *out, const char *p, size_t n) {
    const uint8_t *s = (const uint8_t *)p;
    uint8_t *to = out;
    if (n % 4 != 0)
        return -1;
    if (n == 0)
        return 0;
    for (; n > 4; n -= 4, s += 4, to += 3) {
        uint32_t a = values[s[0]], b = values[s[1]], c = values[s[2]], d = values[s[3]];
        if (HT_UNLIKELY((a | b | c | d) & BAD))
            return -1;
        uint32_t v = a << 18 | b << 12 | c << 6 | d;
        to[0] = (uint8_t)(v >> 16);
        to[1] = (uint8_t)(v >> 8);
        to[2] = (uint8_t)v;
    }
    int last = last_group(to, s);
    return last < 0 ? -1 : to - out + last;
}
