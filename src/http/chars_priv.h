/* Classes of bytes in heads (RFC 9110 5.5, 5.6.2; RFC 3986). Private to src/http. */
#ifndef HT_HTTP_CHARS_PRIV_H
#define HT_HTTP_CHARS_PRIV_H

#include "base/base.h"

enum {
    HTTP_C_TOKEN = 1,  /* tchar */
    HTTP_C_TARGET = 2, /* visible ASCII except '#' */
    HTTP_C_HOST = 4,   /* unreserved and sub-delims of a reg-name, without the comma */
    HTTP_C_HEX = 8,
    HTTP_C_TEXT = 16, /* allowed in a field value: HTAB, SP, visible ASCII, obs-text */
};

extern const uint8_t http_chars[256];

static inline bool http_is(unsigned char c, unsigned cls) { return (http_chars[c] & cls) != 0; }

/* The first byte of p..end that is not of the class; `end` when all are. */
static inline const unsigned char *http_skip(const unsigned char *p, const unsigned char *end, unsigned cls) {
    while (p < end && http_is(*p, cls))
        p++;
    return p;
}

/* The same as http_skip(HTTP_C_TEXT). It takes eight bytes at a time while none of them is below SP or is DEL. */
static inline const unsigned char *http_skip_text(const unsigned char *p, const unsigned char *end) {
    const uint64_t ones = UINT64_C(0x0101010101010101), tops = ones << 7;
    while (end - p >= 8) {
        uint64_t x;
        memcpy(&x, p, 8);
        uint64_t del = x ^ (ones * 0x7f);
        if ((((x - ones * 0x20) & ~x) | ((del - ones) & ~del)) & tops)
            break;
        p += 8;
    }
    return http_skip(p, end, HTTP_C_TEXT);
}

static inline bool http_is_blank(char c) { return c == ' ' || c == '\t'; }

/* `s` without SP and HTAB around it (OWS, RFC 9110 5.6.3). */
static inline struct ht_slice http_trim(struct ht_slice s) {
    while (s.n && http_is_blank(s.p[0]))
        s.p++, s.n--;
    while (s.n && http_is_blank(s.p[s.n - 1]))
        s.n--;
    return s;
}

/* True when p[0..n) equals `lower` apart from case. `lower` is in lower case, and both are tokens, in which c | 0x20
 * changes letters only. */
static inline bool http_lower_eq(const char *p, const char *lower, size_t n) {
    for (size_t i = 0; i < n; i++)
        if ((p[i] | 0x20) != lower[i])
            return false;
    return true;
}

#endif
