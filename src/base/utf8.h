/* UTF-8 (RFC 3629 section 4). Pure and inline. */
#ifndef HT_BASE_UTF8_H
#define HT_BASE_UTF8_H

#include "base/base.h"

/* Length in bytes of the valid UTF-8 sequence at `p`, 1 to 4; 0 when it is not valid. `p` must be below `end`. */
static inline unsigned ht_utf8_len(const uint8_t *p, const uint8_t *end) {
    uint8_t c = p[0];
    size_t left = (size_t)(end - p);
    if (c < 0x80)
        return 1;
    if (c < 0xC2 || c > 0xF4)
        return 0;
    unsigned n = c < 0xE0 ? 2 : c < 0xF0 ? 3 : 4;
    if (left < n)
        return 0;
    uint8_t low = c == 0xE0 ? 0xA0 : c == 0xF0 ? 0x90 : 0x80;
    uint8_t high = c == 0xED ? 0x9F : c == 0xF4 ? 0x8F : 0xBF;
    if (p[1] < low || p[1] > high)
        return 0;
    for (unsigned i = 2; i < n; i++)
        if ((p[i] & 0xC0) != 0x80)
            return 0;
    return n;
}

/* Decodes a sequence for which ht_utf8_len() has returned `len`. */
static inline uint32_t ht_utf8_get(const uint8_t *p, unsigned len) {
    if (len == 1)
        return p[0];
    uint32_t cp = p[0] & (0xFFu >> (len + 1));
    for (unsigned i = 1; i < len; i++)
        cp = cp << 6 | (p[i] & 0x3F);
    return cp;
}

/* Encodes a code point into 1 to 4 bytes. Returns their number. */
static inline unsigned ht_utf8_put(uint8_t *out, uint32_t cp) {
    if (cp < 0x80) {
        out[0] = (uint8_t)cp;
        return 1;
    }
    unsigned n = cp < 0x800 ? 2 : cp < 0x10000 ? 3 : 4;
    for (unsigned i = n - 1; i > 0; i--, cp >>= 6)
        out[i] = (uint8_t)(0x80 | (cp & 0x3F));
    out[0] = (uint8_t)((0xF00u >> n) | cp);
    return n;
}

static inline bool ht_utf8_valid(const uint8_t *p, size_t n) {
    for (const uint8_t *end = p + n; n > 0 && p < end;) {
        unsigned len = ht_utf8_len(p, end);
        if (len == 0)
            return false;
        p += len;
    }
    return true;
}

#endif
