/*
 * Helpers of the generated codecs (wire_gen.c), and of no other code. Typed reads remember the first fault of a
 * payload. Writes go straight into the output buffer.
 */
#ifndef HT_WIRE_CODEC_H
#define HT_WIRE_CODEC_H

#include "base/utf8.h"
#include "wire/bytes.h"
#include "wire_gen.h"
#include "json/json.h"

/* Fills *err (which may be NULL) and returns HT_EPROTO. */
int wire_fail(struct wire_error *err, enum wire_violation_scope scope, enum wire_code code, uint16_t ws_close,
              const char *rule, const char *fmt, ...) HT_PRINTF(6, 7);

/* ---- reading ---- */

/* What a read must know about its field. `name` is for messages, such as "BIND.containerPort". */
struct wire_field {
    const char *name;
    uint64_t min, max;
    bool required, nullable;
};

struct wire_rd {
    const struct wire_frame_rule *frame;
    struct wire_error *err;
    unsigned version, caps; /* fields of other versions and capabilities count as unknown */
    bool failed;            /* a field is wrong. Reading goes on, to find JSON errors and to keep the other fields */
    struct json_arena arena;
    struct json_reader json;
};

void wire_rd_begin(struct wire_rd *r, uint8_t type, const uint8_t *payload, size_t len, char *text, size_t text_cap,
                   struct wire_error *err);
/* `rc` is the result of reading the payload's object. Returns the decoder's result: 0, or HT_EPROTO with *err filled.
 */
int wire_rd_end(struct wire_rd *r, int rc) HT_MUST_USE;

/* Marks the payload as wrong. Only the first message is kept; it begins with the field's name. Returns 0. */
int wire_rd_bad(struct wire_rd *r, const char *rule, const char *field, const char *fmt, ...) HT_PRINTF(4, 5);

/*
 * Typed reads. 1: *out is set. 0: the value was null and null means absent, or it was wrong, which was remembered.
 * Negative: the JSON is not valid.
 */
int wire_rd_uint(struct wire_rd *r, const struct wire_field *f, uint64_t *out) HT_MUST_USE;
int wire_rd_bool(struct wire_rd *r, const struct wire_field *f, bool *out) HT_MUST_USE;
int wire_rd_text(struct wire_rd *r, const struct wire_field *f, bool latin1, struct ht_slice *out) HT_MUST_USE;
/* `from` returns 0 for an unknown text. Unknown texts are an error unless `keep` is true. */
int wire_rd_enum(struct wire_rd *r, const struct wire_field *f, int (*from)(struct ht_slice), bool keep,
                 int *out) HT_MUST_USE;
/* 1: the object or array was entered. */
int wire_rd_open(struct wire_rd *r, const struct wire_field *f, enum json_type type) HT_MUST_USE;

#define wire_key_is(key, lit) ((key).n == sizeof(lit) - 1 && memcmp((key).p, lit, sizeof(lit) - 1) == 0)

/* ---- writing ---- */

struct wire_wr {
    uint8_t *start, *p, *end;
    int rc; /* the first error: HT_ESPACE or HT_EINVAL */
};

/* Starts a frame at `out`, and leaves room for its header. */
void wire_wr_begin(struct wire_wr *w, uint8_t *out, size_t cap);
/* Writes the header. Returns the size of the frame, or the first error. */
int wire_wr_end(struct wire_wr *w, const struct wire_frame_rule *frame, uint32_t stream_id) HT_MUST_USE;

void wire_wr_uint(struct wire_wr *w, uint64_t v, uint64_t min, uint64_t max);
/* Writes a JSON string, quoted and escaped. The text must be UTF-8; with `latin1` each byte from 0x80 on is a code
 * point. */
void wire_wr_text(struct wire_wr *w, struct ht_slice s, uint64_t min, uint64_t max, bool latin1);
void wire_wr_check_count(struct wire_wr *w, uint64_t n, uint64_t min, uint64_t max);

static inline void wire_wr_error(struct wire_wr *w, int rc) {
    if (w->rc == 0)
        w->rc = rc;
}

/* The place for the next `n` bytes; NULL: there is no room, and the error is set. */
static inline uint8_t *wire_wr_room(struct wire_wr *w, size_t n) {
    if (HT_UNLIKELY((size_t)(w->end - w->p) < n)) {
        wire_wr_error(w, HT_ESPACE);
        return NULL;
    }
    w->p += n;
    return w->p - n;
}

static inline void wire_wr_bytes(struct wire_wr *w, const void *p, size_t n) {
    uint8_t *to = n ? wire_wr_room(w, n) : NULL;
    if (to)
        memcpy(to, p, n);
}

#define wire_wr_lit(w, lit) wire_wr_bytes(w, lit, sizeof(lit) - 1)

/* Writes a text of the spec as a JSON string; such texts need no escapes. NULL (an unknown enum value) is an error. */
static inline void wire_wr_word(struct wire_wr *w, const char *text) {
    if (!text) {
        wire_wr_error(w, HT_EINVAL);
        return;
    }
    wire_wr_lit(w, "\"");
    wire_wr_bytes(w, text, strlen(text));
    wire_wr_lit(w, "\"");
}

static inline void wire_wr_bool(struct wire_wr *w, bool v) {
    if (v)
        wire_wr_lit(w, "true");
    else
        wire_wr_lit(w, "false");
}

/* Ends an object or array. Each item was written with a comma before it: the first comma becomes the opening bracket.
 */
static inline void wire_wr_close(struct wire_wr *w, uint8_t *first, const char brackets[2]) {
    if (w->rc != 0)
        return;
    if (w->p == first)
        wire_wr_bytes(w, brackets, 1);
    else
        *first = (uint8_t)brackets[0];
    wire_wr_bytes(w, brackets + 1, 1);
}

#endif
