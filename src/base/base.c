#include "base/base.h"

bool ht_slice_case_eq(struct ht_slice a, struct ht_slice b) {
    if (a.n != b.n)
        return false;
    for (size_t i = 0; i < a.n; i++)
        if (ht_lower(a.p[i]) != ht_lower(b.p[i]))
            return false;
    return true;
}

size_t ht_uint_put(char *out, uint64_t n) {
    char digits[HT_UINT_DIGITS];
    size_t at = sizeof digits;
    do
        digits[--at] = (char)('0' + n % 10);
    while ((n /= 10) != 0);
    memcpy(out, digits + at, sizeof digits - at);
    return sizeof digits - at;
}
