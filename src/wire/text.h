/*
 * Wires of text messages, each one JSON object: what the tables that are generated from a spec with `wire: text` stand
 * on. Pure; the only memory is the caller's.
 *
 * A message is a struct whose first member is its type, a number from 1 on in the order of the spec's messages. Its
 * other members are the fields: int64_t, uint32_t or struct ht_slice. What is absent is 0 or empty, and what is 0 or
 * empty is not written.
 */
#ifndef HT_WIRE_TEXT_H
#define HT_WIRE_TEXT_H

#include "base/base.h"
#include "base/err.h"
#include "json/json.h"

enum wire_text_kind { WIRE_TEXT_INT, WIRE_TEXT_UINT, WIRE_TEXT_STRING, WIRE_TEXT_BASE64 };

struct wire_text_field {
    const char *name;
    enum wire_text_kind kind;
    size_t offset;    /* in the struct */
    int64_t min, max; /* of a number; of a string's bytes; of the bytes that base64 stands for */
    const char *rule; /* that base64 which is none breaks */
};

struct wire_text_message {
    const char *name;
    unsigned senders; /* bits of the spec's roles */
    bool stream;      /* it is about a stream */
};

struct wire_text_spec {
    const struct wire_text_field *fields; /* in the order in which they are written */
    unsigned n_fields;
    const struct wire_text_message *messages; /* number 1 first */
    unsigned n_messages;
    size_t size; /* of the struct */
    struct json_limits limits;
    const char *rule; /* that everything else which is wrong breaks */
};

struct wire_text_error {
    const char *rule; /* static storage */
    char text[160];   /* one sentence */
};

/*
 * A whole message that `sender` (one bit) has sent. 0 with *out filled; its slices point into `text`, in which base64
 * is decoded in place, and into the arena. HT_EPROTO with *err: it breaks a rule. Where nothing but base64 is wrong the
 * rest of *out holds, its type is not 0, and the field is empty. HT_ENOMEM: the arena is too small; one as long as the
 * text never is, and without a backslash in the text none is needed.
 */
int wire_text_decode(const struct wire_text_spec *spec, unsigned sender, uint8_t *text, size_t n,
                     struct json_arena *arena, void *out, struct wire_text_error *err) HT_MUST_USE;

/* The canonical text. Its length; HT_ESPACE: it does not fit; HT_EINVAL: a value or the type is out of bounds. */
int wire_text_encode(const struct wire_text_spec *spec, const void *message, uint8_t *out, size_t cap) HT_MUST_USE;

#endif
