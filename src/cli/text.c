/* Texts for people and for JSON. Text of a peer is made safe before it reaches the terminal. */
#include "cli/cli.h"

#include "base/text.h"
#include "base/utf8.h"

#include <langinfo.h>
#include <locale.h>
#include <wchar.h>

/* Called only where text is shown: the tables of the locale take 150 KiB, which a kit, or a driver that writes JSON,
 * does not need. */
bool cli_utf8(void) {
    static bool known, utf8;
    if (!known) {
        setlocale(LC_CTYPE, "");
        utf8 = strcmp(nl_langinfo(CODESET), "UTF-8") == 0;
        known = true;
    }
    return utf8;
}

int cli_json_string(struct ht_buf *b, const char *text) {
    const uint8_t *p = (const uint8_t *)text, *end = p + strlen(text);
    char one[HT_TEXT_CHAR];
    int rc = ht_buf_append(b, "\"", 1);
    while (p < end && rc == HT_OK) {
        size_t run = ht_text_run(p, end, HT_TEXT_JSON);
        rc = ht_buf_append(b, p, run);
        p += run;
        if (p < end && rc == HT_OK) {
            unsigned n = ht_text_next(&p, end, HT_TEXT_JSON, one);
            rc = ht_buf_append(b, one, n);
        }
    }
    return rc == HT_OK ? ht_buf_append(b, "\"", 1) : rc;
}

/* ---- characters for a terminal ---- */

/* Writes the character at *p in a form that is safe to show, and moves *p behind it. Returns the columns it takes. */
static unsigned take_char(const uint8_t **p, const uint8_t *end, bool ascii, char out[HT_TEXT_CHAR]) {
    const uint8_t *from = *p;
    unsigned n = ht_text_next(p, end, HT_TEXT_PLAIN, out);
    if (n == 1 || (out[0] == '\\' && *from != '\\')) /* ASCII, or an escape sequence */
        return n;
    if (ascii) {
        memcpy(out, "?", 2);
        return 1;
    }
    int columns = wcwidth((wchar_t)ht_utf8_get(from, n));
    return columns < 0 ? 1 : (unsigned)columns;
}

int cli_put_text(struct ht_buf *b, const char *text) {
    const uint8_t *p = (const uint8_t *)text, *end = p + strlen(text);
    char one[HT_TEXT_CHAR];
    int rc = HT_OK;
    while (p < end && rc == HT_OK) {
        take_char(&p, end, false, one);
        rc = ht_buf_append_str(b, one);
    }
    return rc;
}

/* ---- rows with a limited width ---- */

static void row_put(struct cli_row *r, const char *s) {
    if (r->rc == HT_OK)
        r->rc = ht_buf_append_str(r->b, s);
}

void cli_row_add(struct cli_row *r, const char *color, const char *text) {
    const uint8_t *p = (const uint8_t *)text, *end = p + strlen(text);
    char one[HT_TEXT_CHAR];
    bool utf8 = cli_utf8();
    if (r->full || p == end)
        return;
    if (color && r->color) {
        row_put(r, "\033[");
        row_put(r, color);
        row_put(r, "m");
    }
    while (p < end && !r->full) {
        unsigned columns = take_char(&p, end, !utf8, one);
        unsigned at = r->wrap && r->columns ? r->used % r->columns : 0;
        /* If the text does not fit, the last column shows a sign that something is missing. */
        if (r->wrap) {
            r->used += columns + (at + columns > r->columns ? r->columns - at : 0);
            row_put(r, one);
        } else if (r->used + columns > r->columns || (r->used + columns == r->columns && p < end)) {
            r->full = true;
            for (; r->used + 1 < r->columns && utf8; r->used++)
                row_put(r, " ");
            if (r->used < r->columns) /* otherwise the text before has filled the row exactly */
                row_put(r, utf8 ? "\xe2\x80\xa6" : ">");
            r->used = r->columns;
        } else {
            row_put(r, one);
            r->used += columns;
        }
    }
    if (color && r->color)
        row_put(r, "\033[0m");
}

void cli_row_pad(struct cli_row *r, unsigned to) {
    while (r->used < to && !r->full)
        cli_row_add(r, NULL, " ");
}

/* ---- numbers ---- */

char *cli_human_bytes(uint64_t n, char out[CLI_HUMAN]) {
    static const char *const units[] = {"B", "KiB", "MiB", "GiB", "TiB"};
    double v = (double)n;
    size_t u = 0;
    while (v >= 1024 && u + 1 < HT_ARRAY_LEN(units)) {
        v /= 1024;
        u++;
    }
    snprintf(out, CLI_HUMAN, u == 0 || v >= 100 ? "%.0f %s" : "%.1f %s", v, units[u]);
    return out;
}

char *cli_human_us(uint64_t us, char out[CLI_HUMAN]) {
    if (us < 1000)
        snprintf(out, CLI_HUMAN, "%u us", (unsigned)us);
    else if (us < 1000000)
        snprintf(out, CLI_HUMAN, us < 100000 ? "%.1f ms" : "%.0f ms", (double)us / 1e3);
    else
        snprintf(out, CLI_HUMAN, "%.1f s", (double)us / 1e6);
    return out;
}
