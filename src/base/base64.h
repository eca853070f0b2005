/* Base64 with the standard alphabet and padding, RFC 4648 section 4. Pure. */
#ifndef HT_BASE_BASE64_H
#define HT_BASE_BASE64_H

#include "base/base.h"

#include <sys/types.h>

/* Characters for `n` bytes. */
static inline size_t ht_base64_size(size_t n) { return (n + 2) / 3 * 4; }

/* Writes ht_base64_size(n) characters, no NUL behind them; returns their number. `out` and `p` do not overlap. */
size_t ht_base64_put(char *out, const void *p, size_t n);
/*
 * The bytes that p[0..n) stands for, at `out`, which may be `p` itself and needs n / 4 * 3 bytes. Returns their number;
 * -1 when the text is not what ht_base64_put() writes: another alphabet, white space, padding that is missing, in the
 * middle or too much, bits behind the last byte that are not zero.
 */
ssize_t ht_base64_get(uint8_t *out, const char *p, size_t n) HT_MUST_USE;

#endif
