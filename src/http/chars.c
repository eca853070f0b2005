#include "http/chars_priv.h"

#include "http/http.h"

/* Sums of the HTTP_C_ bits; one row per high half-byte. */
/* clang-format off */
const uint8_t http_chars[256] = {
     0,  0,  0,  0,  0,  0,  0,  0,  0, 16,  0,  0,  0,  0,  0,  0, /* 00 */
     0,  0,  0,  0,  0,  0,  0,  0,  0,  0,  0,  0,  0,  0,  0,  0, /* 10 */
    16, 23, 18, 17, 23, 19, 23, 23, 22, 22, 23, 23, 18, 23, 23, 18, /* 20 */
    31, 31, 31, 31, 31, 31, 31, 31, 31, 31, 18, 22, 18, 22, 18, 18, /* 30 */
    18, 31, 31, 31, 31, 31, 31, 23, 23, 23, 23, 23, 23, 23, 23, 23, /* 40 */
    23, 23, 23, 23, 23, 23, 23, 23, 23, 23, 23, 18, 18, 18, 19, 23, /* 50 */
    19, 31, 31, 31, 31, 31, 31, 23, 23, 23, 23, 23, 23, 23, 23, 23, /* 60 */
    23, 23, 23, 23, 23, 23, 23, 23, 23, 23, 23, 18, 19, 18, 23,  0, /* 70 */
    16, 16, 16, 16, 16, 16, 16, 16, 16, 16, 16, 16, 16, 16, 16, 16, /* 80 */
    16, 16, 16, 16, 16, 16, 16, 16, 16, 16, 16, 16, 16, 16, 16, 16, /* 90 */
    16, 16, 16, 16, 16, 16, 16, 16, 16, 16, 16, 16, 16, 16, 16, 16, /* a0 */
    16, 16, 16, 16, 16, 16, 16, 16, 16, 16, 16, 16, 16, 16, 16, 16, /* b0 */
    16, 16, 16, 16, 16, 16, 16, 16, 16, 16, 16, 16, 16, 16, 16, 16, /* c0 */
    16, 16, 16, 16, 16, 16, 16, 16, 16, 16, 16, 16, 16, 16, 16, 16, /* d0 */
    16, 16, 16, 16, 16, 16, 16, 16, 16, 16, 16, 16, 16, 16, 16, 16, /* e0 */
    16, 16, 16, 16, 16, 16, 16, 16, 16, 16, 16, 16, 16, 16, 16, 16, /* f0 */
};
/* clang-format on */

bool http_is_token(struct ht_slice s) {
    const unsigned char *p = (const unsigned char *)s.p;
    return s.n > 0 && http_skip(p, p + s.n, HTTP_C_TOKEN) == p + s.n;
}

bool http_is_field_value(struct ht_slice s) {
    const unsigned char *p = (const unsigned char *)s.p;
    return s.n == 0 || http_skip_text(p, p + s.n) == p + s.n;
}

bool http_list_next(struct ht_slice *rest, struct ht_slice *item) {
    while (rest->n) {
        const char *comma = memchr(rest->p, ',', rest->n);
        size_t n = comma ? (size_t)(comma - rest->p) : rest->n;
        *item = http_trim(ht_slice_of(rest->p, n));
        n += comma != NULL;
        rest->p += n;
        rest->n -= n;
        if (item->n)
            return true;
    }
    return false;
}
