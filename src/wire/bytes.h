/* Bytes on the wire: big-endian numbers, a bounded cursor, UTF-8. Everything here is pure and inline. */
#ifndef HT_WIRE_BYTES_H
#define HT_WIRE_BYTES_H

#include "base/base.h"

static inline void wire_put16(uint8_t *p, uint32_t v) {
    p[0] = (uint8_t)(v >> 8);
    p[1] = (uint8_t)v;
}

static inline void wire_put32(uint8_t *p, uint32_t v) {
    wire_put16(p, v >> 16);
    wire_put16(p + 2, v);
}

static inline uint32_t wire_get16(const uint8_t *p) { return (uint32_t)p[0] << 8 | p[1]; }
static inline uint32_t wire_get32(const uint8_t *p) { return wire_get16(p) << 16 | wire_get16(p + 2); }

/* Reads never pass the end: a read that would sets `bad`, and it and all later ones give 0 or an empty slice. */
struct wire_cursor {
    const uint8_t *p, *end;
    bool bad;
};

static inline struct wire_cursor wire_cursor_of(const uint8_t *p, size_t n) {
    return (struct wire_cursor){p, p ? p + n : p, false};
}

static inline size_t wire_cursor_left(const struct wire_cursor *c) { return (size_t)(c->end - c->p); }

/* The next `n` bytes, or NULL. */
static inline const uint8_t *wire_cursor_take(struct wire_cursor *c, size_t n) {
    if (c->bad || wire_cursor_left(c) < n || n == 0) {
        c->bad = c->bad || n > 0;
        return NULL;
    }
    c->p += n;
    return c->p - n;
}

static inline uint8_t wire_cursor_u8(struct wire_cursor *c) {
    const uint8_t *p = wire_cursor_take(c, 1);
    return p ? *p : 0;
}

static inline uint16_t wire_cursor_u16(struct wire_cursor *c) {
    const uint8_t *p = wire_cursor_take(c, 2);
    return p ? (uint16_t)wire_get16(p) : 0;
}

static inline uint32_t wire_cursor_u32(struct wire_cursor *c) {
    const uint8_t *p = wire_cursor_take(c, 4);
    return p ? wire_get32(p) : 0;
}

/* Length of the well-formed UTF-8 sequence at `p` (RFC 3629 section 4), or 0. `p` is below `end`. */
static inline unsigned wire_utf8_len(const uint8_t *p, const uint8_t *end) {
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

/* Decodes a sequence that wire_utf8_len() has found well-formed. */
static inline uint32_t wire_utf8_get(const uint8_t *p, unsigned len) {
    if (len == 1)
        return p[0];
    uint32_t cp = p[0] & (0xFFu >> (len + 1));
    for (unsigned i = 1; i < len; i++)
        cp = cp << 6 | (p[i] & 0x3F);
    return cp;
}

/* Writes a code point, 1 to 4 bytes; returns how many. */
static inline unsigned wire_utf8_put(uint8_t *out, uint32_t cp) {
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

static inline bool wire_utf8_valid(const uint8_t *p, size_t n) {
    for (const uint8_t *end = p + n; n > 0 && p < end;) {
        unsigned len = wire_utf8_len(p, end);
        if (len == 0)
            return false;
        p += len;
    }
    return true;
}

/*
 * How many of the 8 bytes at `p`, from the first on, need no look inside a JSON string: no control byte, quote,
 * backslash, or byte from 0x80 on. Exact: below the first special byte no subtraction borrows, so nothing before it
 * shows, and it does.
 */
static inline unsigned wire_plain_run8(const uint8_t *p) {
    const uint64_t ones = 0x0101010101010101u, high = ones << 7;
    uint64_t x;
    memcpy(&x, p, sizeof x);
#if !defined(__BYTE_ORDER__) || __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
    x = (uint64_t)p[7] << 56 | (uint64_t)p[6] << 48 | (uint64_t)p[5] << 40 | (uint64_t)p[4] << 32 |
        (uint64_t)p[3] << 24 | (uint64_t)p[2] << 16 | (uint64_t)p[1] << 8 | p[0];
#endif
    uint64_t quote = x ^ (ones * '"'), back = x ^ (ones * '\\');
    uint64_t special = ((x - ones * 0x20) | (quote - ones) | (back - ones) | x) & high;
    if (special == 0)
        return 8;
#if defined(__GNUC__)
    return (unsigned)__builtin_ctzll(special) / 8;
#else
    unsigned n = 0;
    while (!(special >> (8 * n + 7) & 1))
        n++;
    return n;
#endif
}

#endif
