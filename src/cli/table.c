#include "base/text.h"
#include "cli/cli.h"

#include <stdarg.h>
#include <stdio.h>

#define TABLE_COLUMNS 16

int cli_table_cell(struct cli_table *t, const char *fmt, ...) {
    char text[512], shown[1024];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    size_t n = ht_text_put(ht_slice_str(text), HT_TEXT_PLAIN, shown, sizeof shown);
    t->n++;
    return ht_buf_append(&t->cells, shown, n + 1);
}

/* The number of characters: continuation bytes of UTF-8 do not count. */
static size_t width(const char *s) {
    size_t n = 0;
    for (; *s; s++)
        n += ((unsigned char)*s & 0xc0) != 0x80;
    return n;
}

void cli_table_print(const struct cli_table *t, FILE *to) {
    size_t widths[TABLE_COLUMNS] = {0};
    unsigned columns = t->columns < TABLE_COLUMNS ? t->columns : TABLE_COLUMNS;
    if (columns == 0 || t->n == 0)
        return;
    const char *p = (const char *)t->cells.data;
    for (size_t i = 0; i < t->n; i++, p += strlen(p) + 1)
        widths[i % columns] = ht_max(widths[i % columns], width(p));
    p = (const char *)t->cells.data;
    for (size_t i = 0; i < t->n; i++, p += strlen(p) + 1) {
        bool last = i % columns == columns - 1;
        fprintf(to, "%s%*s", p, last ? 0 : (int)(widths[i % columns] - width(p) + 2), "");
        if (last)
            fputc('\n', to);
    }
}

void cli_table_free(struct cli_table *t) { ht_buf_free(&t->cells); }

int cli_table_row(struct cli_table *t, const char *const *cells) {
    int rc = HT_OK;
    for (unsigned i = 0; i < t->columns && rc == HT_OK; i++)
        rc = cli_table_cell(t, "%s", cells[i]);
    return rc;
}

int cli_table_end(struct cli_table *t, int rc) {
    if (rc == HT_OK)
        cli_table_print(t, stdout);
    else
        cli_complain("%s", ht_err_text(rc));
    cli_table_free(t);
    if (rc == HT_OK && fflush(stdout) == 0)
        return OPT_EXIT_OK;
    if (rc == HT_OK)
        cli_complain("standard output cannot be written");
    return OPT_EXIT_FAILURE;
}
