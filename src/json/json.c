#include "json/json.h"

#include "base/utf8.h"

static const struct json_limits most = {JSON_MAX_DEPTH, JSON_MAX_KEYS, false};

const char *json_reason_text(enum json_reason reason) {
    static const char *const texts[] = {
        [JSON_OK] = "no error",
        [JSON_SYNTAX] = "not JSON",
        [JSON_TRUNCATED] = "ends too early",
        [JSON_TRAILING] = "bytes behind the value",
        [JSON_BOM] = "byte order mark",
        [JSON_UTF8] = "not UTF-8",
        [JSON_SURROGATE] = "lone surrogate",
        [JSON_CONTROL] = "control byte in a string",
        [JSON_DUPLICATE] = "duplicate key",
        [JSON_DEPTH] = "nested too deeply",
        [JSON_KEYS] = "too many members",
        [JSON_NUMBER] = "number too large",
        [JSON_NUL] = "U+0000 in a string",
    };
    return (size_t)reason < HT_ARRAY_LEN(texts) ? texts[reason] : "unknown reason";
}

/* Keeps the first error; everything after it is a consequence. */
static int fail_at(struct json_reader *r, enum json_reason reason, const uint8_t *at) {
    if (r->error.reason == JSON_OK) {
        r->error.reason = reason;
        r->error.offset = (size_t)(at - r->start);
    }
    return HT_EPROTO;
}

/* "Unexpected byte", or "the end" when there is none. */
static int unexpected(struct json_reader *r) { return fail_at(r, r->p < r->end ? JSON_SYNTAX : JSON_TRUNCATED, r->p); }

static void skip_space(struct json_reader *r) {
    while (r->p < r->end && (*r->p == ' ' || *r->p == '\t' || *r->p == '\n' || *r->p == '\r'))
        r->p++;
}

void json_begin(struct json_reader *r, const void *text, size_t n, const struct json_limits *limits) {
    static const uint8_t empty[1];
    r->start = r->p = n ? (const uint8_t *)text : empty;
    r->end = r->start + n;
    r->limits = limits ? *limits : most;
    r->limits.max_depth = (unsigned)ht_min(r->limits.max_depth, JSON_MAX_DEPTH);
    r->limits.max_keys = (unsigned)ht_min(r->limits.max_keys, JSON_MAX_KEYS);
    r->error = (struct json_error){JSON_OK, 0};
    r->depth = r->n_keys = 0;
    if (n >= 3 && memcmp(r->start, "\xEF\xBB\xBF", 3) == 0)
        (void)fail_at(r, JSON_BOM, r->start);
}

enum json_type json_peek(struct json_reader *r) {
    skip_space(r);
    if (r->p == r->end || r->error.reason != JSON_OK)
        return JSON_T_NONE;
    switch (*r->p) {
    case '{':
        return JSON_T_OBJECT;
    case '[':
        return JSON_T_ARRAY;
    case '"':
        return JSON_T_STRING;
    case 't':
    case 'f':
        return JSON_T_BOOL;
    case 'n':
        return JSON_T_NULL;
    default:
        return *r->p == '-' || (*r->p >= '0' && *r->p <= '9') ? JSON_T_NUMBER : JSON_T_NONE;
    }
}

/* ---- strings ---- */

struct raw {
    const uint8_t *p; /* between the quotes */
    size_t n;
    bool escaped, wide, nul;
};

static int hex4(const uint8_t *p, const uint8_t *end, uint32_t *out) {
    if (end - p < 4)
        return HT_EPROTO;
    *out = 0;
    for (int i = 0; i < 4; i++) {
        uint8_t c = p[i], low = c | 0x20;
        if (c >= '0' && c <= '9')
            *out = *out << 4 | (uint32_t)(c - '0');
        else if (low >= 'a' && low <= 'f')
            *out = *out << 4 | (uint32_t)(low - 'a' + 10);
        else
            return HT_EPROTO;
    }
    return 0;
}

/* r->p is at a backslash. Moves behind the escape, both halves of a pair. */
static int scan_escape(struct json_reader *r, struct raw *out) {
    const uint8_t *at = r->p;
    if (r->end - at < 2)
        return fail_at(r, JSON_TRUNCATED, r->end);
    out->escaped = true;
    if (at[1] != 'u') {
        if (!memchr("\"\\/bfnrt", at[1], 8))
            return fail_at(r, JSON_SYNTAX, at + 1);
        r->p += 2;
        return 0;
    }
    uint32_t unit, second;
    if (hex4(at + 2, r->end, &unit) != 0)
        return fail_at(r, r->end - at < 6 ? JSON_TRUNCATED : JSON_SYNTAX, at);
    r->p += 6;
    out->nul |= unit == 0;
    if (unit < 0xD800 || unit > 0xDFFF)
        return 0;
    if (unit > 0xDBFF || r->end - r->p < 6 || r->p[0] != '\\' || r->p[1] != 'u' ||
        hex4(r->p + 2, r->end, &second) != 0 || second < 0xDC00 || second > 0xDFFF)
        return fail_at(r, JSON_SURROGATE, at);
    r->p += 6;
    return 0;
}

/* r->p is at the opening quote. Checks the string and moves behind its closing quote. */
static int scan_string(struct json_reader *r, struct raw *out) {
    *out = (struct raw){.p = ++r->p};
    for (;;) {
        unsigned run = 8;
        while (run == 8 && r->end - r->p >= 8)
            r->p += run = json_plain_run8(r->p);
        if (r->p == r->end)
            return fail_at(r, JSON_TRUNCATED, r->p);
        uint8_t c = *r->p;
        if (c == '"') {
            out->n = (size_t)(r->p++ - out->p);
            if (out->nul && r->limits.refuse_nul)
                return fail_at(r, JSON_NUL, out->p);
            return 0;
        }
        if (c == '\\') {
            if (scan_escape(r, out) != 0)
                return HT_EPROTO;
        } else if (c < 0x20) {
            return fail_at(r, JSON_CONTROL, r->p);
        } else if (c < 0x80) {
            r->p++;
        } else {
            unsigned len = ht_utf8_len(r->p, r->end);
            if (len == 0)
                return fail_at(r, JSON_UTF8, r->p);
            out->wide = true;
            r->p += len;
        }
    }
}

/* The next code point of a string that scan_string() has checked; moves *p behind it. */
static uint32_t next_point(const uint8_t **p, const uint8_t *end) {
    const uint8_t *s = *p;
    if (*s != '\\') {
        unsigned len = ht_utf8_len(s, end);
        *p += len;
        return ht_utf8_get(s, len);
    }
    if (s[1] != 'u') {
        static const char from[] = "bfnrt", to[] = "\b\f\n\r\t";
        const char *which = strchr(from, s[1]);
        *p += 2;
        return which ? (uint8_t)to[which - from] : s[1];
    }
    uint32_t unit = 0, second = 0;
    (void)hex4(s + 2, end, &unit);
    *p += 6;
    if (unit < 0xD800 || unit > 0xDFFF)
        return unit;
    (void)hex4(s + 8, end, &second);
    *p += 6;
    return 0x10000 + ((unit - 0xD800) << 10) + (second - 0xDC00);
}

int json_read_string(struct json_reader *r, bool latin1, struct json_arena *arena, struct ht_slice *out) {
    struct raw raw;
    *out = (struct ht_slice){0};
    if (json_peek(r) != JSON_T_STRING)
        return unexpected(r);
    if (scan_string(r, &raw) != 0)
        return HT_EPROTO;
    if (!raw.escaped && !(latin1 && raw.wide)) {
        *out = ht_slice_of(raw.p, raw.n);
        return 0;
    }
    /* Each code point takes at least as many bytes in the text as decoded, see struct json_arena. */
    if (arena->cap - arena->used < raw.n)
        return HT_ENOMEM;
    uint8_t *to = (uint8_t *)arena->p + arena->used, *first = to;
    for (const uint8_t *p = raw.p, *end = raw.p + raw.n; p < end;) {
        uint32_t cp = next_point(&p, end);
        if (!latin1)
            to += ht_utf8_put(to, cp);
        else if (cp > 0xFF)
            return JSON_STRING_ABOVE_LATIN1;
        else
            *to++ = (uint8_t)cp;
    }
    *out = ht_slice_of(first, (size_t)(to - first));
    arena->used += out->n;
    return raw.nul ? JSON_STRING_NUL : 0;
}

/* ---- keys ---- */

static uint32_t hash_bytes(uint32_t h, const uint8_t *p, size_t n) {
    for (size_t i = 0; i < n; i++)
        h = (h ^ p[i]) * 16777619u;
    return h;
}

static uint32_t hash_key(const struct raw *raw) {
    uint32_t h = 2166136261u;
    if (!raw->escaped)
        return hash_bytes(h, raw->p, raw->n);
    for (const uint8_t *p = raw->p, *end = p + raw->n; p < end;) {
        uint8_t utf8[4];
        h = hash_bytes(h, utf8, ht_utf8_put(utf8, next_point(&p, end)));
    }
    return h;
}

static bool same_key(const struct json_reader *r, const struct json_key *a, const struct json_key *b) {
    const uint8_t *pa = r->start + a->offset, *pb = r->start + b->offset;
    const uint8_t *ea = pa + a->len, *eb = pb + b->len;
    if (!a->escaped && !b->escaped)
        return a->len == b->len && memcmp(pa, pb, a->len) == 0;
    while (pa < ea && pb < eb)
        if (next_point(&pa, ea) != next_point(&pb, eb))
            return false;
    return pa == ea && pb == eb;
}

/* Remembers a key of the innermost object; an error when it is there already. */
static int add_key(struct json_reader *r, const struct raw *raw) {
    if (r->n_keys == r->limits.max_keys)
        return fail_at(r, JSON_KEYS, raw->p);
    struct json_key *key = &r->keys[r->n_keys];
    *key = (struct json_key){hash_key(raw), (uint32_t)(raw->p - r->start), (uint32_t)raw->n, raw->escaped};
    for (unsigned i = r->open[r->depth - 1].keys; i < r->n_keys; i++)
        if (r->keys[i].hash == key->hash && same_key(r, &r->keys[i], key))
            return fail_at(r, JSON_DUPLICATE, raw->p);
    r->n_keys++;
    return 0;
}

/* The key's text without escapes. One too long for key_text stays raw: its backslash keeps it from being any known
 * name. */
static struct ht_slice key_slice(struct json_reader *r, const struct raw *raw) {
    if (!raw->escaped)
        return ht_slice_of(raw->p, raw->n);
    size_t n = 0;
    for (const uint8_t *p = raw->p, *end = p + raw->n; p < end;) {
        if (n + 4 > sizeof r->key_text)
            return ht_slice_of(raw->p, raw->n);
        n += ht_utf8_put((uint8_t *)r->key_text + n, next_point(&p, end));
    }
    return ht_slice_of(r->key_text, n);
}

/* ---- objects and arrays ---- */

static int container_begin(struct json_reader *r, enum json_type type) {
    if (json_peek(r) != type)
        return unexpected(r);
    if (r->depth == r->limits.max_depth)
        return fail_at(r, JSON_DEPTH, r->p);
    r->open[r->depth].keys = (uint16_t)r->n_keys;
    r->open[r->depth].fresh = true;
    r->depth++;
    r->p++;
    return 0;
}

/* 1: another item begins here. 0: `close` was read. */
static int container_next(struct json_reader *r, uint8_t close) {
    bool fresh = r->open[r->depth - 1].fresh;
    r->open[r->depth - 1].fresh = false;
    skip_space(r);
    if (r->p == r->end)
        return unexpected(r);
    if (*r->p == close) {
        r->p++;
        r->depth--;
        r->n_keys = r->open[r->depth].keys;
        return 0;
    }
    if (fresh)
        return 1;
    if (*r->p != ',')
        return unexpected(r);
    r->p++;
    return 1;
}

int json_object_begin(struct json_reader *r) { return container_begin(r, JSON_T_OBJECT); }
int json_array_begin(struct json_reader *r) { return container_begin(r, JSON_T_ARRAY); }
int json_array_next(struct json_reader *r) { return container_next(r, ']'); }

int json_object_next(struct json_reader *r, struct ht_slice *key) {
    struct raw raw;
    int rc = container_next(r, '}');
    if (rc <= 0)
        return rc;
    if (json_peek(r) != JSON_T_STRING)
        return unexpected(r);
    if (scan_string(r, &raw) != 0 || add_key(r, &raw) != 0)
        return HT_EPROTO;
    skip_space(r);
    if (r->p == r->end || *r->p != ':')
        return unexpected(r);
    r->p++;
    *key = key_slice(r, &raw);
    return 1;
}

/* ---- numbers and words ---- */

static bool digit_at(const struct json_reader *r, const uint8_t *p) { return p < r->end && *p >= '0' && *p <= '9'; }

static int scan_digits(struct json_reader *r) {
    if (!digit_at(r, r->p))
        return unexpected(r);
    while (digit_at(r, r->p))
        r->p++;
    return 0;
}

/* The decimal exponent of the first digit that is not 0, with `exponent` added; false for zero. */
static bool magnitude(const uint8_t *digits, const uint8_t *end, long exponent, long *out) {
    const uint8_t *point = digits;
    while (point < end && *point != '.')
        point++;
    for (const uint8_t *p = digits; p < end; p++)
        if (*p >= '1' && *p <= '9') {
            *out = exponent + (p < point ? (long)(point - p) - 1 : (long)(point - p));
            return true;
        }
    return false;
}

static int scan_exponent(struct json_reader *r, long *out) {
    bool minus = false;
    r->p++;
    if (r->p < r->end && (*r->p == '+' || *r->p == '-'))
        minus = *r->p++ == '-';
    const uint8_t *first = r->p;
    if (scan_digits(r) != 0)
        return HT_EPROTO;
    long e = 0;
    for (const uint8_t *p = first; p < r->p && e < 10000000; p++)
        e = e * 10 + (*p - '0');
    *out = minus ? -e : e;
    return 0;
}

/* Checks a number and moves behind it. *integer: only digits, so that [*digits, r->p) is its value. */
static int scan_number(struct json_reader *r, const uint8_t **digits, bool *integer) {
    bool minus = r->p < r->end && *r->p == '-';
    if (minus)
        r->p++;
    *digits = r->p;
    *integer = !minus;
    if (digit_at(r, r->p) && *r->p == '0')
        r->p++;
    else if (scan_digits(r) != 0)
        return HT_EPROTO;
    if (r->p < r->end && *r->p == '.') {
        *integer = false;
        r->p++;
        if (scan_digits(r) != 0)
            return HT_EPROTO;
    }
    const uint8_t *end = r->p;
    long exponent = 0, size;
    if (r->p < r->end && (*r->p | 0x20) == 'e') {
        *integer = false;
        if (scan_exponent(r, &exponent) != 0)
            return HT_EPROTO;
    }
    /* A tree would make infinity of it, silently. */
    if (magnitude(*digits, end, exponent, &size) && size >= 308)
        return fail_at(r, JSON_NUMBER, *digits);
    return 0;
}

int json_read_uint(struct json_reader *r, uint64_t *out) {
    const uint8_t *p;
    bool integer;
    *out = 0;
    if (json_peek(r) != JSON_T_NUMBER)
        return unexpected(r);
    if (scan_number(r, &p, &integer) != 0)
        return HT_EPROTO;
    if (!integer)
        return 1;
    for (; p < r->p; p++) {
        unsigned d = (unsigned)(*p - '0');
        if (*out > (UINT64_MAX - d) / 10)
            return 1;
        *out = *out * 10 + d;
    }
    return 0;
}

static int scan_word(struct json_reader *r, const char *word) {
    for (; *word; word++, r->p++)
        if (r->p == r->end || *r->p != (uint8_t)*word)
            return unexpected(r);
    return 0;
}

int json_read_bool(struct json_reader *r, bool *out) {
    if (json_peek(r) != JSON_T_BOOL)
        return unexpected(r);
    *out = *r->p == 't';
    return scan_word(r, *out ? "true" : "false");
}

int json_skip(struct json_reader *r) {
    const uint8_t *digits;
    struct raw raw;
    struct ht_slice key;
    bool integer;
    int rc;
    switch (json_peek(r)) {
    case JSON_T_OBJECT:
        rc = json_object_begin(r);
        while (rc == 0 && (rc = json_object_next(r, &key)) > 0)
            rc = json_skip(r);
        return rc;
    case JSON_T_ARRAY:
        rc = json_array_begin(r);
        while (rc == 0 && (rc = json_array_next(r)) > 0)
            rc = json_skip(r);
        return rc;
    case JSON_T_STRING:
        return scan_string(r, &raw);
    case JSON_T_NUMBER:
        return scan_number(r, &digits, &integer);
    case JSON_T_BOOL:
        return scan_word(r, *r->p == 't' ? "true" : "false");
    case JSON_T_NULL:
        return scan_word(r, "null");
    case JSON_T_NONE:
        break;
    }
    return unexpected(r);
}

int json_end(struct json_reader *r) {
    skip_space(r);
    if (r->error.reason != JSON_OK)
        return HT_EPROTO;
    return r->p == r->end ? 0 : fail_at(r, JSON_TRAILING, r->p);
}

int json_validate(const char *text, size_t n, const struct json_limits *limits, struct json_error *err) {
    struct json_reader r;
    json_begin(&r, text, n, limits);
    int rc = json_skip(&r);
    if (rc == 0)
        rc = json_end(&r);
    if (rc != 0 && err)
        *err = r.error;
    return rc;
}
