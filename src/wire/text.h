/*
 * Reads and writes protocols of text messages, where each message is one JSON object. It works on tables that are
 * generated from a spec with `wire: text`. Pure; all memory is the caller's.
 *
 * A message is a struct. Its first member is its type: the number of the message in the spec, from 1 on. The other
 * members are the fields: int64_t, uint32_t or struct ht_slice. An absent field is 0 or empty, and a field that is 0 or
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
    int64_t min, max; /* of a number; of the length of a string; of the length of decoded Base64. In bytes */
    const char *rule; /* the rule that invalid Base64 breaks */
};

struct wire_text_message {
    const char *name;
    unsigned senders; /* the roles that may send it, as bits */
    bool stream;      /* the message belongs to a stream */
};

struct wire_text_spec {
    const struct wire_text_field *fields; /* in the order in which they are written */
    unsigned n_fields;
    const struct wire_text_message *messages; /* number 1 first */
    unsigned n_messages;
    size_t size; /* of the struct */
    struct json_limits limits;
    const char *rule; /* the rule that every other fault breaks */
};

struct wire_text_error {
    const char *rule; /* static storage */
    char text[160];   /* one sentence */
};

/*
 * Decodes a whole message from `sender` (one bit). 0: *out is filled; its slices point into `text` and into the arena.
 * Base64 is decoded in place. HT_EPROTO with *err: the message breaks a rule. If only Base64 is wrong, that field is
 * empty, all other fields are valid, and the type is not 0. HT_ENOMEM: the arena is too small. An arena as long as the
 * text is always enough; a text without a backslash needs none.
 */
int wire_text_decode(const struct wire_text_spec *spec, unsigned sender, uint8_t *text, size_t n,
                     struct json_arena *arena, void *out, struct wire_text_error *err) HT_MUST_USE;

/* Writes the message in its canonical form. Returns the length. HT_ESPACE: it does not fit. HT_EINVAL: the type or a
 * value is out of bounds. */
int wire_text_encode(const struct wire_text_spec *spec, const void *message, uint8_t *out, size_t cap) HT_MUST_USE;

#endif
