/* Big-endian numbers, and a cursor with bounds for reading. Pure and inline. */
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

static inline void wire_put64(uint8_t *p, uint64_t v) {
    wire_put32(p, (uint32_t)(v >> 32));
    wire_put32(p + 4, (uint32_t)v);
}

static inline uint32_t wire_get16(const uint8_t *p) { return (uint32_t)p[0] << 8 | p[1]; }
static inline uint32_t wire_get32(const uint8_t *p) { return wire_get16(p) << 16 | wire_get16(p + 2); }
static inline uint64_t wire_get64(const uint8_t *p) { return (uint64_t)wire_get32(p) << 32 | wire_get32(p + 4); }

/* Reads from p to end. A read beyond the end sets `bad`. That read and all later ones return 0 or NULL. */
struct wire_cursor {
    const uint8_t *p, *end;
    bool bad;
};

static inline struct wire_cursor wire_cursor_of(const uint8_t *p, size_t n) {
    return (struct wire_cursor){p, p ? p + n : p, false};
}

static inline size_t wire_cursor_left(const struct wire_cursor *c) { return (size_t)(c->end - c->p); }

/* The next `n` bytes; NULL: there are fewer, or `n` is 0. */
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

static inline uint64_t wire_cursor_u64(struct wire_cursor *c) {
    const uint8_t *p = wire_cursor_take(c, 8);
    return p ? wire_get64(p) : 0;
}

#endif
