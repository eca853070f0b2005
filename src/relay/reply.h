/*
 * An answer of our own on a stream, at the driver's end: for requests that the local service never sees, or does not
 * answer. What the visitor still sends is dropped.
 */
#ifndef HT_RELAY_REPLY_H
#define HT_RELAY_REPLY_H

#include "base/base.h"
#include "base/buf.h"
#include "base/list.h"
#include "mux/mux.h"
#include "wire_gen.h"

struct relay_reply {
    uint16_t status;
    const struct wire_header *fields; /* without Content-Length and the like: those are written here */
    size_t n_fields;
    struct ht_slice body; /* copied */
    bool head;            /* the request was HEAD: no body */
};

#define RELAY_REPLY_FIELDS 8 /* most of them */

/* Answers, and owns the stream from now on, accepted or not. The answer is in `list` until it is out. */
void relay_reply(struct ht_list *list, struct mux_stream *st, const struct relay_reply *r);
/* Cuts the answers in the list. */
void relay_replies_drop(struct ht_list *list);

/* ---- what an answer looks like ---- */

enum relay_form { RELAY_TEXT, RELAY_HTML, RELAY_JSON };

/* What the request would have, by its Accept (RFC 9110 12.5.1). */
enum relay_form relay_form_of(struct ht_slice accept);
/* The value of Content-Type. */
const char *relay_form_type(enum relay_form form);
/* Writes a body: a sentence for people and an error code for programs. Both are our own texts. NULL `error`: there is
 * none. 0 or HT_ENOMEM. */
int relay_form_body(struct ht_buf *b, enum relay_form form, uint16_t status, const char *error,
                    const char *text) HT_MUST_USE;
/* Appends a text, escaped for HTML or JSON. 0 or HT_ENOMEM. */
int relay_form_escape(struct ht_buf *b, enum relay_form form, struct ht_slice text) HT_MUST_USE;

#endif
