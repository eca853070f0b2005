/*
 * The only JSON reader of this program (RFC 8259). It checks the text while it reads it, builds no tree and allocates
 * no memory.
 *
 * It is strict: valid UTF-8, no byte order mark, paired surrogates, no key twice in one object (compared after
 * escapes), limited depth and number of keys, numbers below 1e308, nothing behind the value. The cost is linear in the
 * text, except the search for duplicate keys, which the limit on keys keeps small.
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
    JSON_SURROGATE, /* a \u escape with an unpaired surrogate */
    JSON_CONTROL,   /* a control byte inside a string */
    JSON_DUPLICATE, /* a key twice in one object */
    JSON_DEPTH,     /* nested too deeply */
    JSON_KEYS,      /* too many members */
    JSON_NUMBER,    /* a number of 1e308 or more */
    JSON_NUL,       /* U+0000 in a string, where limits refuse it */
};

/* A short sentence for each reason; never NULL. Static storage. */
const char *json_reason_text(enum json_reason reason);

struct json_error {
    enum json_reason reason;
    size_t offset; /* of the byte at which the error was found */
};

#define JSON_MAX_DEPTH 64
#define JSON_MAX_KEYS 256

struct json_limits {
    unsigned max_depth; /* 1..JSON_MAX_DEPTH */
    unsigned max_keys;  /* 1..JSON_MAX_KEYS; members of all objects that are open at the same time */
    bool refuse_nul;    /* refuse U+0000, for callers that make NUL-terminated strings */
};

/*
 * Checks a whole text. 0, or HT_EPROTO with *err, which may be NULL. `limits` NULL: JSON_MAX_DEPTH and JSON_MAX_KEYS,
 * and U+0000 is allowed.
 */
int json_validate(const char *text, size_t n, const struct json_limits *limits, struct json_error *err) HT_MUST_USE;

/* ---- the reader, for code that knows the expected types ---- */

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
        uint16_t keys; /* n_keys when the object began */
        bool fresh;    /* no member was read yet */
    } open[JSON_MAX_DEPTH];
    char key_text[64];
    struct json_key keys[JSON_MAX_KEYS];
};

/* Memory for decoded strings, which the caller provides. A decoded string is never longer, so a block as long as the
 * text is always enough. */
struct json_arena {
    char *p;
    size_t used, cap;
};

/* Starts reading; `r` need not be initialised. Slices of the reader point into the text or the arena. */
void json_begin(struct json_reader *r, const void *text, size_t n, const struct json_limits *limits);

/* The type of the next value. JSON_T_NONE: no value begins here; the next read reports the error. */
enum json_type json_peek(struct json_reader *r);

/*
 * These return a negative code and set r->error when the text is not valid, or when the next value has another type. No
 * function may be called after that.
 */
int json_object_begin(struct json_reader *r) HT_MUST_USE;
/* 1: there is a member; *key is valid until the next call, and the caller reads or skips the value next. 0: the object
 * has ended. */
int json_object_next(struct json_reader *r, struct ht_slice *key) HT_MUST_USE;
int json_array_begin(struct json_reader *r) HT_MUST_USE;
/* 1: there is a value; the caller reads or skips it next. 0: the array has ended. */
int json_array_next(struct json_reader *r) HT_MUST_USE;

enum json_string_flag { JSON_STRING_NUL = 1, JSON_STRING_ABOVE_LATIN1 = 2 };

/*
 * Reads a string as UTF-8, or with `latin1` as one byte for each code point. Returns 0, or flags (enum
 * json_string_flag) for a string that a caller may not want: it contains U+0000, or with `latin1` a code point above
 * U+00FF (*out is then empty).
 */
int json_read_string(struct json_reader *r, bool latin1, struct json_arena *arena, struct ht_slice *out) HT_MUST_USE;
/* Reads a number. 0: *out is set. 1: it is valid JSON, but not an integer in 0..2^64-1 without fraction and exponent.
 */
int json_read_uint(struct json_reader *r, uint64_t *out) HT_MUST_USE;
int json_read_bool(struct json_reader *r, bool *out) HT_MUST_USE;
/* Reads one value of any type and drops it. */
int json_skip(struct json_reader *r) HT_MUST_USE;
/* 0: only white space is left. */
int json_end(struct json_reader *r) HT_MUST_USE;

/*
 * How many bytes at `p`, 0 to 8, are plain in a JSON string: no control byte, quote, backslash, or byte from 0x80 on.
 * The result is exact: no subtraction borrows below the first special byte, so no plain byte before it is marked.
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
