/*
 * Makes text of a peer safe to show on a terminal, in a log or in a callback. Characters that control a terminal, or
 * that make one text look like another, are escaped (hardening cases 26 and 31):
 *
 *   the control characters U+0000 to U+001F and U+007F to U+009F (ESC, BEL, newline, CSI, ...)
 *   characters that change the direction of text (Unicode TR 9, 2.6), and line separators
 *   bytes that are not valid UTF-8
 *
 * All other characters stay as they are, letters of every language included.
 */
#ifndef HT_BASE_TEXT_H
#define HT_BASE_TEXT_H

#include "base/base.h"
#include "base/buf.h"

enum ht_text_style {
    HT_TEXT_PLAIN, /* a byte becomes \x1b, a character \u202e */
    HT_TEXT_JSON,  /* for the inside of a JSON string: \u001b, \", \\; an invalid byte becomes U+FFFD */
};

#define HT_TEXT_CHAR 8 /* most bytes that one character becomes, with the NUL */

/* Writes the character at *p, escaped if needed, to `out` with a NUL behind it, and moves *p behind the character. *p
 * must be below `end`. Returns the number of bytes in `out` without the NUL. */
unsigned ht_text_next(const uint8_t **p, const uint8_t *end, enum ht_text_style style, char out[HT_TEXT_CHAR]);

/* How many bytes from `p` on need no escaping: the length of the run of printable ASCII. */
size_t ht_text_run(const uint8_t *p, const uint8_t *end, enum ht_text_style style);

/* Writes `s`, escaped, and a NUL to out[0..cap); cap > 0. A text that does not fit is cut behind a whole character.
 * Returns the length. `out` and `s` must not overlap. */
size_t ht_text_put(struct ht_slice s, enum ht_text_style style, char *out, size_t cap);

/* The same in plain style, for use in an argument list. Returns `out`. */
static inline char *ht_text_clean(struct ht_slice s, char *out, size_t cap) {
    ht_text_put(s, HT_TEXT_PLAIN, out, cap);
    return out;
}

/* Appends `s` as text of an HTML page, which may also stand in a quoted value of an attribute. 0 or HT_ENOMEM. */
int ht_text_html(struct ht_buf *b, struct ht_slice s) HT_MUST_USE;

#endif
