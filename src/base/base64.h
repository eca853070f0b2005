/* Base64 with the standard alphabet and padding, RFC 4648 section 4. Pure. */
#ifndef HT_BASE_BASE64_H
#define HT_BASE_BASE64_H

#include "base/base.h"

#include <sys/types.h>

/* Number of characters that encode `n` bytes. */
static inline size_t ht_base64_size(size_t n) { return (n + 2) / 3 * 4; }

/* Encodes: writes ht_base64_size(n) characters without a NUL, and returns their number. `out` and `p` must not overlap.
 */
size_t ht_base64_put(char *out, const void *p, size_t n);
/*
 * Decodes p[0..n) into `out`, which needs n / 4 * 3 bytes and may be `p` itself. Returns the number of bytes. It
 * returns -1 for text that ht_base64_put() never writes: other characters, white space, missing, misplaced or surplus
 * padding, unused bits that are not zero.
 */
ssize_t ht_base64_get(uint8_t *out, const char *p, size_t n) HT_MUST_USE;

#endif
