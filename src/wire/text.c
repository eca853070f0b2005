#include "wire/text.h"

#include "base/base64.h"
#include "wire/codec.h"

#include <stdarg.h>
#include <stdio.h>

/* ---- reading ---- */

struct rd {
    const struct wire_text_spec *spec;
    struct json_reader json;
    struct json_arena *arena;
    uint8_t *out;
    struct wire_text_error *err;
    unsigned type; /* 0: not known */
    bool failed;   /* a value is wrong; reading goes on, for what is no JSON */
};

static void bad(struct rd *r, const char *rule, const char *fmt, ...) HT_PRINTF(3, 4);

/* Remembers the first thing that is wrong. */
static void bad(struct rd *r, const char *rule, const char *fmt, ...) {
    va_list ap;
    if (r->failed)
        return;
    r->failed = true;
    if (!r->err)
        return;
    va_start(ap, fmt);
    r->err->rule = rule;
    (void)vsnprintf(r->err->text, sizeof r->err->text, fmt, ap);
    va_end(ap);
}

static void bad_field(struct rd *r, const struct wire_text_field *f) {
    bad(r, r->spec->rule, "%s has a wrong value", f->name);
}

/* Reads a number with or without a sign, and without fraction and exponent. False: it is not one. */
static bool whole_number(const uint8_t *p, const uint8_t *end, int64_t *out) {
    bool minus = p < end && *p == '-';
    int64_t v = 0;
    p += minus;
    if (p == end || end - p > 18 || (minus && *p == '0'))
        return false;
    for (; p < end; p++) {
        if (*p < '0' || *p > '9')
            return false;
        v = v * 10 + (*p - '0');
    }
    *out = minus ? -v : v;
    return true;
}

static int read_number(struct rd *r, const struct wire_text_field *f) {
    int64_t v = 0;
    bool is_number = json_peek(&r->json) == JSON_T_NUMBER; /* moves to its first byte */
    const uint8_t *from = r->json.p;
    int rc = json_skip(&r->json);
    if (rc < 0)
        return rc;
    if (!is_number || !whole_number(from, r->json.p, &v) || v < f->min || v > f->max)
        bad_field(r, f);
    else if (f->kind == WIRE_TEXT_INT)
        memcpy(r->out + f->offset, &v, sizeof v);
    else
        memcpy(r->out + f->offset, &(uint32_t){(uint32_t)v}, sizeof(uint32_t));
    return 0;
}

static int read_text(struct rd *r, const struct wire_text_field *f) {
    struct ht_slice s;
    if (json_peek(&r->json) != JSON_T_STRING) {
        bad_field(r, f);
        return json_skip(&r->json);
    }
    int rc = json_read_string(&r->json, false, r->arena, &s);
    if (rc < 0)
        return rc;
    if (f->kind == WIRE_TEXT_STRING && (rc > 0 || s.n < (uint64_t)f->min || s.n > (uint64_t)f->max))
        bad_field(r, f);
    else
        memcpy(r->out + f->offset, &s, sizeof s);
    return 0;
}

static int read_type(struct rd *r) {
    struct ht_slice s;
    r->type = 0;
    if (json_peek(&r->json) != JSON_T_STRING) {
        bad(r, r->spec->rule, "type must be a string");
        return json_skip(&r->json);
    }
    int rc = json_read_string(&r->json, false, r->arena, &s);
    if (rc < 0)
        return rc;
    for (unsigned i = 0; i < r->spec->n_messages && !r->type; i++)
        if (ht_slice_is(s, r->spec->messages[i].name))
            r->type = i + 1;
    return 0;
}

static int read_member(struct rd *r, struct ht_slice key) {
    const struct wire_text_spec *spec = r->spec;
    if (ht_slice_case_eq(key, ht_slice_str("type")))
        return read_type(r);
    for (unsigned i = 0; i < spec->n_fields; i++) {
        const struct wire_text_field *f = &spec->fields[i];
        if (!ht_slice_case_eq(key, ht_slice_str(f->name)))
            continue;
        if (json_peek(&r->json) == JSON_T_NULL)
            break;
        return f->kind <= WIRE_TEXT_UINT ? read_number(r, f) : read_text(r, f);
    }
    return json_skip(&r->json);
}

/* Last of all, when it is known that the text is a message. */
static bool decode_base64(struct rd *r) {
    bool good = true;
    for (unsigned i = 0; i < r->spec->n_fields; i++) {
        const struct wire_text_field *f = &r->spec->fields[i];
        struct ht_slice s;
        if (f->kind != WIRE_TEXT_BASE64)
            continue;
        memcpy(&s, r->out + f->offset, sizeof s);
        if (s.n == 0)
            continue;
        uint8_t *p = (uint8_t *)(uintptr_t)s.p; /* it points into the text or the arena, which are ours to change */
        ssize_t n = ht_base64_get(p, s.p, s.n);
        if (n < f->min || n > f->max) {
            s.n = 0;
            good = false;
            bad(r, f->rule, "%s is not what its bytes must look like", f->name);
        } else {
            s.n = (size_t)n;
        }
        memcpy(r->out + f->offset, &s, sizeof s);
    }
    return good;
}

int wire_text_decode(const struct wire_text_spec *spec, unsigned sender, uint8_t *text, size_t n,
                     struct json_arena *arena, void *out, struct wire_text_error *err) {
    struct rd r = {.spec = spec, .arena = arena, .out = out, .err = err};
    struct ht_slice key;
    memset(out, 0, spec->size);
    json_begin(&r.json, text, n, &spec->limits);
    int rc = json_object_begin(&r.json);
    while (rc >= 0 && (rc = json_object_next(&r.json, &key)) == 1)
        rc = read_member(&r, key);
    if (rc >= 0)
        rc = json_end(&r.json);
    if (rc == HT_ENOMEM)
        return rc;
    if (rc < 0) {
        r.failed = false; /* that it is no JSON is what counts */
        bad(&r, spec->rule, "%s at byte %zu", json_reason_text(r.json.error.reason), r.json.error.offset);
    } else if (!r.type) {
        bad(&r, spec->rule, "it has no type that is known");
    } else if (!(spec->messages[r.type - 1].senders & sender)) {
        bad(&r, spec->rule, "%s does not come from that side", spec->messages[r.type - 1].name);
    }
    if (!r.failed)
        memcpy(out, &r.type, sizeof r.type);
    return r.failed || !decode_base64(&r) ? HT_EPROTO : 0;
}

/* ---- writing ---- */

static void put_key(struct wire_wr *w, const char *name) {
    wire_wr_lit(w, ",\"");
    wire_wr_bytes(w, name, strlen(name));
    wire_wr_lit(w, "\":");
}

static void put_number(struct wire_wr *w, const struct wire_text_field *f, const uint8_t *from) {
    int64_t v;
    uint32_t u;
    memcpy(&u, from, sizeof u);
    if (f->kind == WIRE_TEXT_INT)
        memcpy(&v, from, sizeof v);
    else
        v = u;
    if (v == 0)
        return;
    if (v < f->min || v > f->max)
        wire_wr_error(w, HT_EINVAL);
    put_key(w, f->name);
    if (v < 0)
        wire_wr_lit(w, "-");
    uint64_t size = v < 0 ? 0 - (uint64_t)v : (uint64_t)v;
    wire_wr_uint(w, size, 0, UINT64_MAX);
}

static void put_text(struct wire_wr *w, const struct wire_text_field *f, const uint8_t *from) {
    struct ht_slice s;
    memcpy(&s, from, sizeof s);
    if (s.n == 0)
        return;
    put_key(w, f->name);
    if (f->kind == WIRE_TEXT_STRING) {
        wire_wr_text(w, s, (uint64_t)f->min, (uint64_t)f->max, false);
        return;
    }
    wire_wr_check_count(w, s.n, (uint64_t)f->min, (uint64_t)f->max);
    wire_wr_lit(w, "\"");
    uint8_t *to = wire_wr_room(w, ht_base64_size(s.n));
    if (to)
        ht_base64_put((char *)to, s.p, s.n);
    wire_wr_lit(w, "\"");
}

int wire_text_encode(const struct wire_text_spec *spec, const void *message, uint8_t *out, size_t cap) {
    struct wire_wr w = {.start = out, .p = out, .end = out + ht_min(cap, INT32_MAX)};
    const uint8_t *from = message;
    unsigned type;
    memcpy(&type, message, sizeof type);
    if (type == 0 || type > spec->n_messages)
        return HT_EINVAL;
    wire_wr_lit(&w, "{\"type\":");
    wire_wr_word(&w, spec->messages[type - 1].name);
    for (unsigned i = 0; i < spec->n_fields; i++) {
        const struct wire_text_field *f = &spec->fields[i];
        if (f->kind <= WIRE_TEXT_UINT)
            put_number(&w, f, from + f->offset);
        else
            put_text(&w, f, from + f->offset);
    }
    wire_wr_lit(&w, "}");
    return w.rc != 0 ? w.rc : (int)(w.p - w.start);
}
