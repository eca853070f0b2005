/*
 * Text from elsewhere, made fit to be seen: by people on a terminal, in a log, in a callback. What a terminal would act
 * on, or what would make one text look like another, is spelled out instead (hardening cases 26 and 31):
 *
 *   control characters of ASCII and of Unicode's second page (ESC, BEL, newlines, CSI)
 *   marks that turn the direction of what follows (Unicode TR 9, 2.6), and line separators
 *   bytes that are no UTF-8
 *
 * Everything else passes as it is, letters of every language included.
 */
#ifndef HT_BASE_TEXT_H
#define HT_BASE_TEXT_H

#include "base/base.h"

enum ht_text_style {
    HT_TEXT_PLAIN, /* \x1b for a byte, \u202e for a character */
    HT_TEXT_JSON,  /* the inside of a JSON string: \u001b, \", \\; a byte that is no UTF-8 becomes U+FFFD */
};

#define HT_TEXT_CHAR 8 /* the longest that one character becomes, with the NUL */

/* The character at *p, *p below `end`, as it may be shown; *p moves behind it. Returns its bytes in `out`, which ends
 * with a NUL. */
unsigned ht_text_next(const uint8_t **p, const uint8_t *end, enum ht_text_style style, char out[HT_TEXT_CHAR]);

/* How many bytes from `p` on are shown as they are: a run of printable ASCII. */
size_t ht_text_run(const uint8_t *p, const uint8_t *end, enum ht_text_style style);

/* Writes `s` to out[0..cap), cap > 0, and a NUL; what does not fit is cut off behind a whole character. Returns the
 * length. `out` must not be where `s` is. */
size_t ht_text_put(struct ht_slice s, enum ht_text_style style, char *out, size_t cap);

/* The same, plain, for use in an argument list: returns `out`. */
static inline char *ht_text_clean(struct ht_slice s, char *out, size_t cap) {
    ht_text_put(s, HT_TEXT_PLAIN, out, cap);
    return out;
}

#endif
