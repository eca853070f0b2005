/*
 * Small helpers that every room uses: slices, minimum and maximum, attributes.
 *
 * Portable C11. The attribute macros are empty for compilers that do not know the attributes.
 */
#ifndef HT_BASE_BASE_H
#define HT_BASE_BASE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#if defined(__GNUC__)
#define HT_MUST_USE __attribute__((warn_unused_result))
#define HT_PRINTF(fmt, args) __attribute__((format(printf, fmt, args)))
#define HT_LIKELY(x) __builtin_expect(!!(x), 1)
#define HT_UNLIKELY(x) __builtin_expect(!!(x), 0)
#else
#define HT_MUST_USE
#define HT_PRINTF(fmt, args)
#define HT_LIKELY(x) (x)
#define HT_UNLIKELY(x) (x)
#endif

/* Pointer to the structure of type `type` whose member `member` is at `ptr`. */
#define ht_container_of(ptr, type, member) ((type *)(void *)((char *)(ptr)-offsetof(type, member)))

#define HT_ARRAY_LEN(a) (sizeof(a) / sizeof((a)[0]))

/* A borrowed run of `n` bytes. `p` may be NULL when `n` is 0. There need not be a NUL behind it. */
struct ht_slice {
    const char *p;
    size_t n;
};

static inline struct ht_slice ht_slice_of(const void *p, size_t n) { return (struct ht_slice){(const char *)p, n}; }
/* Copies `s` to *at, where there is room for it, and moves *at behind the copy, which is returned. */
static inline struct ht_slice ht_slice_copy(char **at, struct ht_slice s) {
    struct ht_slice copy = ht_slice_of(*at, s.n);
    if (s.n)
        memcpy(*at, s.p, s.n);
    *at += s.n;
    return copy;
}

static inline struct ht_slice ht_slice_str(const char *s) { return (struct ht_slice){s, s ? strlen(s) : 0}; }

static inline bool ht_slice_eq(struct ht_slice a, struct ht_slice b) {
    return a.n == b.n && (a.n == 0 || memcmp(a.p, b.p, a.n) == 0);
}

static inline bool ht_slice_is(struct ht_slice a, const char *s) { return ht_slice_eq(a, ht_slice_str(s)); }

/* Lower case for ASCII letters; other bytes stay as they are. */
static inline char ht_lower(char c) { return c >= 'A' && c <= 'Z' ? (char)(c + 32) : c; }

static inline bool ht_is_digit(char c) { return c >= '0' && c <= '9'; }
/* What a hexadecimal digit is worth; -1: it is none. */
static inline int ht_hex_digit(char c) {
    return ht_is_digit(c) ? c - '0' : ht_lower(c) >= 'a' && ht_lower(c) <= 'f' ? ht_lower(c) - 'a' + 10 : -1;
}

/* FNV-1a, a byte at a time, from HT_HASH or from a seed. For tables whose keys strangers choose take a seed. */
#define HT_HASH UINT64_C(0xcbf29ce484222325)
static inline uint64_t ht_hash_char(uint64_t h, char c) { return (h ^ (unsigned char)c) * UINT64_C(0x100000001b3); }

/* The next item of a comma list, which may be empty, and moves *list behind its comma; to NULL behind the last one. */
static inline struct ht_slice ht_list_item(const char **list) {
    const char *from = *list;
    size_t n = strcspn(from, ",");
    *list = from[n] ? from + n + 1 : NULL;
    return ht_slice_of(from, n);
}

/* Equal apart from the case of ASCII letters; bytes above 0x7f must be the same. For HTTP tokens (RFC 9110 5.6.2). */
bool ht_slice_case_eq(struct ht_slice a, struct ht_slice b);

/* Writes `n` in decimal without a NUL, at most HT_UINT_DIGITS characters. Returns their number. For hot paths, where
 * printf is too slow. */
#define HT_UINT_DIGITS 20
size_t ht_uint_put(char *out, uint64_t n);

/* The two printf arguments of "%.*s". */
#define HT_SLICE_ARG(s) (int)(s).n, (s).p ? (s).p : ""

static inline size_t ht_min(size_t a, size_t b) { return a < b ? a : b; }
static inline size_t ht_max(size_t a, size_t b) { return a > b ? a : b; }
/* For times and byte counts: they need 64 bits, and size_t may have only 32. */
static inline uint64_t ht_min64(uint64_t a, uint64_t b) { return a < b ? a : b; }
static inline uint64_t ht_max64(uint64_t a, uint64_t b) { return a > b ? a : b; }

#endif
