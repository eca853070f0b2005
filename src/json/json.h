/*
 * The one strict JSON reader: RFC 8259 text, checked while it is read, without a tree and without memory of its own.
 *
 * Strict means: valid UTF-8, no byte order mark, paired surrogates, no key twice in one object (escapes seen through),
 * bounded depth and number of keys, numbers below 1e308 in size, nothing behind the value. Cost is linear in the text
 * but for the search for duplicates, which the bound on keys keeps small.
 */
#ifndef HT_JSON_JSON_H
#define HT_JSON_JSON_H

#include "base/base.h"
#include "base/err.h"

enum json_reason {
    JSON_OK,
    JSON_SYNTAX,    /* not JSON */
    JSON_TRUNCATED, /* the text ends too early */
    JSON_TRAILING,  /* bytes behind the value */
    JSON_BOM,       /* a byte order mark in front */
    JSON_UTF8,      /* bytes that are not UTF-8 */
    JSON_SURROGATE, /* \u escapes that pair no surrogates */
    JSON_CONTROL,   /* a control byte inside a string */
    JSON_DUPLICATE, /* a key twice in one object */
    JSON_DEPTH,     /* nested too deeply */
    JSON_KEYS,      /* too many members */
    JSON_NUMBER,    /* a number of 1e308 or more */
    JSON_NUL,       /* U+0000 in a string, where limits refuse it */
};

/* A short sentence for each; never NULL. */
const char *json_reason_text(enum json_reason reason);

struct json_error {
    enum json_reason reason;
    size_t offset; /* of the byte that shows it */
};

#define JSON_MAX_DEPTH 64
#define JSON_MAX_KEYS 256

struct json_limits {
    unsigned max_depth; /* 1..JSON_MAX_DEPTH */
    unsigned max_keys;  /* 1..JSON_MAX_KEYS, members of the objects that are open at one point */
    bool refuse_nul;    /* set it before a tree of NUL-terminated strings is built from the text */
};

/*
 * Checks a whole text. 0, or HT_EPROTO with *err (which may be NULL) filled. `limits` NULL: JSON_MAX_DEPTH and
 * JSON_MAX_KEYS, and U+0000 is allowed.
 */
int json_validate(const char *text, size_t n, const struct json_limits *limits, struct json_error *err) HT_MUST_USE;

/* ---- the reader, for code that knows what it expects ---- */

enum json_type { JSON_T_NONE, JSON_T_OBJECT, JSON_T_ARRAY, JSON_T_STRING, JSON_T_NUMBER, JSON_T_BOOL, JSON_T_NULL };

struct json_key {
    uint32_t hash, offset, len; /* raw, between the quotes */
    bool escaped;
};

struct json_reader {
    const uint8_t *start, *p, *end;
    struct json_limits limits;
    struct json_error error;
    unsigned depth, n_keys;
    struct {
        uint16_t keys; /* n_keys at its beginning */
        bool fresh;    /* nothing read from it yet */
    } open[JSON_MAX_DEPTH];
    char key_text[64];
    struct json_key keys[JSON_MAX_KEYS];
};

/* Where decoded strings go. Decoding never makes a string longer, so a block as long as the text is always enough. */
struct json_arena {
    char *p;
    size_t used, cap;
};

/* `r` need not be initialised. Slices that the reader gives point into the text or the arena. */
void json_begin(struct json_reader *r, const void *text, size_t n, const struct json_limits *limits);

/* What comes next; JSON_T_NONE: nothing that begins a value (the read that follows reports it). */
enum json_type json_peek(struct json_reader *r);

/*
 * All of these return a negative code, with r->error set, when the text is bad; nothing may be read after that.
 * Calling one for another type than json_peek() says is such an error too.
 */
int json_object_begin(struct json_reader *r) HT_MUST_USE;
/* 1: *key is set and the value must be read or skipped next. 0: the object is over. The key is good until the next
 * call. */
int json_object_next(struct json_reader *r, struct ht_slice *key) HT_MUST_USE;
int json_array_begin(struct json_reader *r) HT_MUST_USE;
/* 1: a value must be read or skipped next. 0: the array is over. */
int json_array_next(struct json_reader *r) HT_MUST_USE;

enum json_string_flag { JSON_STRING_NUL = 1, JSON_STRING_ABOVE_LATIN1 = 2 };

/*
 * Reads a string. 0, or the flags of what it holds that a typed reader may not want: U+0000, or with `latin1` a code
 * point above U+00FF (*out is empty then). With `latin1` the result is one byte for each code point, else UTF-8.
 */
int json_read_string(struct json_reader *r, bool latin1, struct json_arena *arena, struct ht_slice *out) HT_MUST_USE;
/* Reads a number. 0, or 1 when it is valid JSON but no integer in 0..2^64-1 written without fraction and exponent. */
int json_read_uint(struct json_reader *r, uint64_t *out) HT_MUST_USE;
int json_read_bool(struct json_reader *r, bool *out) HT_MUST_USE;
/* Reads any one value and forgets it. */
int json_skip(struct json_reader *r) HT_MUST_USE;
/* Nothing but white space is left. */
int json_end(struct json_reader *r) HT_MUST_USE;

/*
 * How many of the 8 bytes at `p`, from the first on, need no look inside a JSON string: no control byte, quote,
 * backslash, or byte from 0x80 on. Exact: below the first special byte no subtraction borrows, so nothing before it
 * shows, and it does.
 */
static inline unsigned json_plain_run8(const uint8_t *p) {
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
