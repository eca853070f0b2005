#include "base/text.h"

#include "base/utf8.h"

/* ALM, LRM, RLM, the separators of lines and paragraphs, embeddings, overrides, isolates. */
static bool is_treacherous(uint32_t cp) {
    return cp == 0x061c || cp == 0x200e || cp == 0x200f || (cp >= 0x2028 && cp <= 0x202e) ||
           (cp >= 0x2066 && cp <= 0x2069);
}

static unsigned spell(char *out, const char *lead, uint32_t value, unsigned digits) {
    static const char hex[] = "0123456789abcdef";
    unsigned n = 0;
    while (*lead)
        out[n++] = *lead++;
    while (digits-- > 0)
        out[n++] = hex[value >> (4 * digits) & 15];
    out[n] = '\0';
    return n;
}

unsigned ht_text_next(const uint8_t **p, const uint8_t *end, enum ht_text_style style, char out[HT_TEXT_CHAR]) {
    const uint8_t *from = *p;
    bool json = style == HT_TEXT_JSON;
    unsigned len = ht_utf8_len(from, end), n = 0;
    *p += len ? len : 1;
    if (len == 0 && json) {
        memcpy(out, "\xef\xbf\xbd", 4);
        return 3;
    }
    if (len == 0 || *from < 0x20 || *from == 0x7f)
        return json ? spell(out, "\\u", *from, 4) : spell(out, "\\x", *from, 2);
    uint32_t cp = ht_utf8_get(from, len);
    if ((cp >= 0x80 && cp < 0xa0) || is_treacherous(cp))
        return spell(out, "\\u", cp, 4);
    if (json && (*from == '"' || *from == '\\'))
        out[n++] = '\\';
    memcpy(out + n, from, len);
    out[n + len] = '\0';
    return n + len;
}

size_t ht_text_run(const uint8_t *p, const uint8_t *end, enum ht_text_style style) {
    const uint8_t *from = p;
    while (p < end && *p >= 0x20 && *p < 0x7f && (style != HT_TEXT_JSON || (*p != '"' && *p != '\\')))
        p++;
    return (size_t)(p - from);
}

size_t ht_text_put(struct ht_slice s, enum ht_text_style style, char *out, size_t cap) {
    const uint8_t *p = (const uint8_t *)s.p, *end = s.n ? p + s.n : p;
    char one[HT_TEXT_CHAR];
    size_t at = 0;
    while (p < end) {
        size_t run = ht_min(ht_text_run(p, end, style), cap - 1 - at);
        memcpy(out + at, p, run);
        at += run;
        p += run;
        if (p == end)
            break;
        unsigned n = ht_text_next(&p, end, style, one);
        if (at + n >= cap)
            break;
        memcpy(out + at, one, n);
        at += n;
    }
    out[at] = '\0';
    return at;
}

int ht_text_html(struct ht_buf *b, struct ht_slice s) {
    int rc = HT_OK;
    for (size_t i = 0; i < s.n && rc == HT_OK; i++) {
        char c = s.p[i];
        const char *as = c == '<'    ? "&lt;"
                         : c == '>'  ? "&gt;"
                         : c == '&'  ? "&amp;"
                         : c == '"'  ? "&quot;"
                         : c == '\'' ? "&#39;"
                                     : NULL;
        rc = as ? ht_buf_append_str(b, as) : ht_buf_append(b, &c, 1);
    }
    return rc;
}
