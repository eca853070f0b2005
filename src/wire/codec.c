#include "wire/codec.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>

static void put_error(struct wire_error *err, enum wire_violation_scope scope, enum wire_code code, uint16_t ws_close,
                      const char *rule, const char *fmt, va_list ap) {
    if (!err)
        return;
    err->scope = scope;
    err->code = code;
    err->ws_close = ws_close;
    err->rule = rule;
    (void)vsnprintf(err->text, sizeof err->text, fmt, ap);
}

int wire_fail(struct wire_error *err, enum wire_violation_scope scope, enum wire_code code, uint16_t ws_close,
              const char *rule, const char *fmt, ...) {
    va_list ap;
    va_start(ap, fmt);
    put_error(err, scope, code, ws_close, rule, fmt, ap);
    va_end(ap);
    return HT_EPROTO;
}

/* ---- reading ---- */

_Static_assert(WIRE_LIMIT_JSON_DEPTH <= JSON_MAX_DEPTH && WIRE_LIMIT_JSON_KEYS <= JSON_MAX_KEYS,
               "the reader's tables are too small");
static const struct json_limits limits = {WIRE_LIMIT_JSON_DEPTH, WIRE_LIMIT_JSON_KEYS, false};

void wire_rd_begin(struct wire_rd *r, uint8_t type, const uint8_t *payload, size_t len, char *text, size_t text_cap,
                   struct wire_error *err) {
    r->frame = wire_frame_rule(type);
    r->err = err;
    r->version = WIRE_NEWEST_VERSION;
    r->caps = ~0u;
    r->failed = false;
    r->arena = (struct json_arena){text, 0, text_cap};
    json_begin(&r->json, payload, len, &limits);
}

static const char *rule_of(enum json_reason reason) {
    switch (reason) {
    case JSON_UTF8:
    case JSON_SURROGATE:
        return "JSON-2";
    case JSON_DUPLICATE:
        return "JSON-3";
    case JSON_DEPTH:
    case JSON_KEYS:
        return "JSON-4";
    case JSON_NUMBER:
        return "JSON-5";
    default:
        return "JSON-1";
    }
}

int wire_rd_end(struct wire_rd *r, int rc) {
    const struct wire_frame_rule *f = r->frame;
    if (rc >= 0)
        rc = json_end(&r->json);
    if (rc < 0 && r->json.error.reason != JSON_OK)
        return wire_fail(r->err, f->scope, f->code, f->ws_close, rule_of(r->json.error.reason), "%s: %s at byte %zu",
                         f->name, json_reason_text(r->json.error.reason), r->json.error.offset);
    if (rc < 0)
        return wire_fail(r->err, f->scope, f->code, f->ws_close, "FRAME-2", "%s: payload too long", f->name);
    return r->failed ? HT_EPROTO : 0;
}

int wire_rd_bad(struct wire_rd *r, const char *rule, const char *field, const char *fmt, ...) {
    char text[96];
    va_list ap;
    if (r->failed)
        return 0;
    r->failed = true;
    va_start(ap, fmt);
    (void)vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    (void)wire_fail(r->err, r->frame->scope, r->frame->code, r->frame->ws_close, rule, "%s %s", field, text);
    return 0;
}

/* 1: a value of the type is next. 0: null or another type was read over. Negative: the JSON is bad. */
static int expect(struct wire_rd *r, const struct wire_field *f, enum json_type type, const char *what) {
    enum json_type have = json_peek(&r->json);
    if (have == type)
        return 1;
    int rc = json_skip(&r->json);
    if (rc < 0 || (have == JSON_T_NULL && f->nullable))
        return rc;
    if (have == JSON_T_NULL && f->required)
        return wire_rd_bad(r, "FIELD-2", f->name, "is null, but it is required");
    return wire_rd_bad(r, "FIELD-1", f->name, "must be %s", what);
}

int wire_rd_uint(struct wire_rd *r, const struct wire_field *f, uint64_t *out) {
    int rc = expect(r, f, JSON_T_NUMBER, "an integer");
    if (rc <= 0)
        return rc;
    rc = json_read_uint(&r->json, out);
    if (rc < 0)
        return rc;
    if (rc == 0 && *out >= f->min && *out <= f->max)
        return 1;
    return wire_rd_bad(r, "FIELD-3", f->name, "must be an integer in %" PRIu64 "..%" PRIu64, f->min, f->max);
}

int wire_rd_bool(struct wire_rd *r, const struct wire_field *f, bool *out) {
    int rc = expect(r, f, JSON_T_BOOL, "true or false");
    if (rc <= 0)
        return rc;
    rc = json_read_bool(&r->json, out);
    return rc < 0 ? rc : 1;
}

int wire_rd_text(struct wire_rd *r, const struct wire_field *f, bool latin1, struct ht_slice *out) {
    int rc = expect(r, f, JSON_T_STRING, "a string");
    if (rc <= 0)
        return rc;
    rc = json_read_string(&r->json, latin1, &r->arena, out);
    if (rc < 0)
        return rc;
    if (rc & JSON_STRING_ABOVE_LATIN1)
        return wire_rd_bad(r, "FIELD-4", f->name, "holds a character above U+00FF");
    if (out->n < f->min || out->n > f->max)
        rc = wire_rd_bad(r, "FIELD-3", f->name, "must have %" PRIu64 " to %" PRIu64 " bytes", f->min, f->max);
    else if (rc & JSON_STRING_NUL)
        rc = wire_rd_bad(r, "FIELD-6", f->name, "holds U+0000");
    else
        return 1;
    *out = (struct ht_slice){0};
    return rc;
}

int wire_rd_enum(struct wire_rd *r, const struct wire_field *f, int (*from)(struct ht_slice), bool keep, int *out) {
    struct ht_slice text;
    int rc = expect(r, f, JSON_T_STRING, "a string");
    if (rc <= 0)
        return rc;
    rc = json_read_string(&r->json, false, &r->arena, &text);
    if (rc < 0)
        return rc;
    *out = from(text);
    if (*out == 0 && !keep)
        return wire_rd_bad(r, "FIELD-3", f->name, "has an unknown value");
    return 1;
}

int wire_rd_open(struct wire_rd *r, const struct wire_field *f, enum json_type type) {
    int rc = expect(r, f, type, type == JSON_T_OBJECT ? "an object" : "an array");
    if (rc <= 0)
        return rc;
    rc = type == JSON_T_OBJECT ? json_object_begin(&r->json) : json_array_begin(&r->json);
    return rc < 0 ? rc : 1;
}

/* ---- writing ---- */

void wire_wr_begin(struct wire_wr *w, uint8_t *out, size_t cap) {
    cap = ht_min(cap, WIRE_LIMIT_HEADER + WIRE_LIMIT_MAX_PAYLOAD);
    w->start = w->p = out;
    w->end = out + cap;
    w->rc = 0;
    (void)wire_wr_room(w, WIRE_LIMIT_HEADER);
}

int wire_wr_end(struct wire_wr *w, const struct wire_frame_rule *frame, uint32_t stream_id) {
    if ((frame->zero == WIRE_ZERO && stream_id != 0) || (frame->zero == WIRE_NONZERO && stream_id == 0))
        wire_wr_error(w, HT_EINVAL);
    if (w->rc != 0)
        return w->rc;
    size_t total = (size_t)(w->p - w->start);
    (void)wire_encode_header(w->start, frame->type, stream_id, (uint32_t)(total - WIRE_LIMIT_HEADER));
    return (int)total;
}

void wire_wr_uint(struct wire_wr *w, uint64_t v, uint64_t min, uint64_t max) {
    char digits[HT_UINT_DIGITS];
    if (v < min || v > max)
        wire_wr_error(w, HT_EINVAL);
    wire_wr_bytes(w, digits, ht_uint_put(digits, v));
}

void wire_wr_check_count(struct wire_wr *w, uint64_t n, uint64_t min, uint64_t max) {
    if (n < min || n > max)
        wire_wr_error(w, HT_EINVAL);
}

/* The letter behind the backslash; 'u': a \u00XX escape; 0: refused. Bytes from 0x20 on but quote and backslash are
 * plain. */
static const char escapes[256] = {
    [0x01] = 'u', [0x02] = 'u', [0x03] = 'u', [0x04] = 'u', [0x05] = 'u',  [0x06] = 'u', [0x07] = 'u',
    [0x08] = 'b', [0x09] = 't', [0x0A] = 'n', [0x0B] = 'u', [0x0C] = 'f',  [0x0D] = 'r', [0x0E] = 'u',
    [0x0F] = 'u', [0x10] = 'u', [0x11] = 'u', [0x12] = 'u', [0x13] = 'u',  [0x14] = 'u', [0x15] = 'u',
    [0x16] = 'u', [0x17] = 'u', [0x18] = 'u', [0x19] = 'u', [0x1A] = 'u',  [0x1B] = 'u', [0x1C] = 'u',
    [0x1D] = 'u', [0x1E] = 'u', [0x1F] = 'u', ['"'] = '"',  ['\\'] = '\\',
};

static void put_escape(struct wire_wr *w, uint8_t c) {
    static const char hex[] = "0123456789abcdef";
    char e = escapes[c];
    if (e == 0) {
        wire_wr_error(w, HT_EINVAL);
        return;
    }
    char out[6] = {'\\', e, '0', '0', hex[c >> 4], hex[c & 15]};
    wire_wr_bytes(w, out, e == 'u' ? 6 : 2);
}

void wire_wr_text(struct wire_wr *w, struct ht_slice s, uint64_t min, uint64_t max, bool latin1) {
    const uint8_t *p = (const uint8_t *)s.p, *end = s.n ? p + s.n : p;
    wire_wr_check_count(w, s.n, min, max);
    wire_wr_lit(w, "\"");
    while (p < end && w->rc == 0) {
        /* Runs of plain bytes are copied as they are found: a whole word, of which the plain part counts. */
        unsigned run = 8;
        while (run == 8 && end - p >= 8 && w->end - w->p >= 8) {
            run = json_plain_run8(p);
            memcpy(w->p, p, 8);
            w->p += run;
            p += run;
        }
        if (p == end)
            break;
        uint8_t c = *p;
        if (c >= 0x80) {
            uint8_t utf8[4];
            unsigned n = latin1 ? 1 : ht_utf8_len(p, end);
            if (n == 0)
                wire_wr_error(w, HT_EINVAL);
            else if (latin1)
                wire_wr_bytes(w, utf8, ht_utf8_put(utf8, c));
            else
                wire_wr_bytes(w, p, n);
            p += n;
        } else if (c < 0x20 || escapes[c] != 0) {
            put_escape(w, c);
            p++;
        } else {
            wire_wr_bytes(w, p++, 1);
        }
    }
    wire_wr_lit(w, "\"");
}
