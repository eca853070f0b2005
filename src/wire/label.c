/* Labels and domains of the public port (rule HOST-1). */
#include "wire/name.h"

#include "base/text.h"

#define SHOWN 96 /* most bytes of a refused text that the message repeats */

static bool is_alnum(char c) { return ht_is_digit(c) || (c >= 'a' && c <= 'z'); }

/* ---- Punycode (RFC 3492) ---- */

enum {
    BASE = 36,
    TMIN = 1,
    TMAX = 26,
    SKEW = 38,
    DAMP = 700,
    BIAS = 72,
    FIRST = 0x80,
    LETTERS = 0xa1,
    LAST = 0x10ffff
};

static uint32_t adapt(uint32_t delta, uint32_t points, bool first) {
    uint32_t k = 0;
    delta = first ? delta / DAMP : delta / 2;
    delta += delta / points;
    for (; delta > (BASE - TMIN) * TMAX / 2; k += BASE)
        delta /= BASE - TMIN;
    return k + (BASE - TMIN + 1) * delta / (delta + SKEW);
}

/* Reads one delta (RFC 3492 6.2) and moves *at behind it. False: it is incomplete or too large. */
static bool next_delta(const char **at, const char *end, uint32_t bias, uint32_t *delta) {
    uint64_t w = 1, sum = 0;
    for (uint32_t k = BASE; *at < end; k += BASE) {
        char c = *(*at)++;
        uint32_t digit = ht_is_digit(c) ? (uint32_t)(c - '0') + 26 : (uint32_t)(c - 'a');
        uint32_t t = k <= bias ? TMIN : k >= bias + TMAX ? TMAX : k - bias;
        sum += digit * w;
        if (sum > INT32_MAX)
            return false;
        *delta = (uint32_t)sum;
        if (digit < t)
            return true;
        w *= BASE - t;
    }
    return false;
}

/* True when p[0..n), the part behind "xn--" in lower case, encodes a label with a letter beyond ASCII. */
static bool decodes(const char *p, size_t n) {
    size_t basic = n;
    while (basic > 0 && p[basic - 1] != '-')
        basic--;
    const char *at = p + basic, *end = p + n;
    uint32_t points = basic ? (uint32_t)basic - 1 : 0, code = FIRST, i = 0, bias = BIAS;
    bool first = true;
    if (basic == 1 || at == end)
        return false;
    for (; at < end; first = false) {
        uint32_t delta;
        if (!next_delta(&at, end, bias, &delta))
            return false;
        uint64_t sum = (uint64_t)i + delta;
        points++;
        bias = adapt(delta, points, first);
        if (code + sum / points > LAST)
            return false;
        code += (uint32_t)(sum / points);
        i = (uint32_t)(sum % points) + 1;
        if (code < LETTERS ||
            (code >= 0xd800 && code <= 0xdfff)) /* control characters, blanks and surrogates are no letters */
            return false;
    }
    return true;
}

/* ---- labels ---- */

/* What is wrong with a label in lower case; NULL: nothing. */
static const char *wrong_with(const char *p, size_t n) {
    if (n == 0)
        return "a label is empty";
    if (n > WIRE_LIMIT_NAME_LABEL)
        return "a label has at most 63 characters";
    for (size_t i = 0; i < n; i++) {
        if ((unsigned char)p[i] >= 0x80)
            return "letters beyond ASCII must be written as an A-label (xn--...), as idn2 prints it";
        if (!is_alnum(p[i]) && p[i] != '-')
            return "a label has letters, digits and hyphens";
    }
    if (p[0] == '-' || p[n - 1] == '-')
        return "a label does not begin or end with a hyphen";
    if (n >= 4 && p[2] == '-' && p[3] == '-' && (memcmp(p, "xn", 2) != 0 || !decodes(p + 4, n - 4)))
        return "a label with two hyphens behind its second character is an A-label (xn--...), and this is none";
    return NULL;
}

static int refuse(struct ht_errmsg *err, struct ht_slice text, const char *why) {
    char shown[SHOWN];
    return ht_fail(err, HT_EINVAL, "\"%s\": %s", ht_text_clean(text, shown, sizeof shown), why);
}

static void put_lower(char *out, struct ht_slice text) {
    for (size_t i = 0; i < text.n; i++)
        out[i] = ht_lower(text.p[i]);
    out[text.n] = '\0';
}

int wire_label_read(char out[WIRE_LABEL_ROOM], struct ht_slice text, struct ht_errmsg *err) {
    if (text.n >= WIRE_LABEL_ROOM)
        return refuse(err, text, "a label has at most 63 characters");
    put_lower(out, text);
    const char *why = wrong_with(out, text.n);
    return why ? refuse(err, text, why) : HT_OK;
}

static bool all_digits(const char *p, size_t n) {
    for (size_t i = 0; i < n; i++)
        if (!ht_is_digit(p[i]))
            return false;
    return true;
}

int wire_domain_read(char out[WIRE_HOST_ROOM], struct ht_slice text, unsigned least, struct ht_errmsg *err) {
    struct ht_slice host = text;
    unsigned labels = 0;
    if (host.n > 1 && host.p[host.n - 1] == '.')
        host.n--;
    if (host.n >= WIRE_HOST_ROOM)
        return refuse(err, text, "a host has at most 253 characters");
    put_lower(out, host);
    for (const char *p = out, *end = out + host.n;; labels++) {
        const char *dot = memchr(p, '.', (size_t)(end - p));
        size_t n = (size_t)((dot ? dot : end) - p);
        const char *why = wrong_with(p, n);
        if (!why && !dot && all_digits(p, n))
            why = "it ends in a number, as addresses do";
        if (why)
            return refuse(err, text, why);
        if (!dot)
            break;
        p = dot + 1;
    }
    return labels + 1 < least ? refuse(err, text, "a domain has a dot, as in app.example.com") : HT_OK;
}

size_t wire_asked_host(char out[WIRE_HOST_ROOM], struct ht_slice authority) {
    const char *behind = authority.p + authority.n;
    while (authority.n > 0 && behind > authority.p && ht_is_digit(behind[-1]))
        behind--;
    size_t n =
        authority.n > 0 && behind > authority.p && behind[-1] == ':' ? (size_t)(behind - 1 - authority.p) : authority.n;
    if (n > 1 && authority.p[n - 1] == '.')
        n--;
    if (n == 0 || n >= WIRE_HOST_ROOM)
        return 0;
    put_lower(out, ht_slice_of(authority.p, n));
    return n;
}
