/* Base64 for URLs, without padding, as tokens of JSON have it (RFC 7515). */
#ifndef HT_TESTS_SUPPORT_BASE64URL_H
#define HT_TESTS_SUPPORT_BASE64URL_H

#include "base/base64.h"

#include <stddef.h>

/* Writes that of n bytes at p to `out`, which has room for their Base64 with padding. Returns its length. */
static inline size_t put64(char *out, const void *p, size_t n) {
    size_t len = ht_base64_put(out, p, n);
    while (len && out[len - 1] == '=')
        len--;
    for (size_t i = 0; i < len; i++)
        out[i] = out[i] == '+' ? '-' : out[i] == '/' ? '_' : out[i];
    return len;
}

#endif
