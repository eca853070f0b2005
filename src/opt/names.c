/* Suggestions for mistyped names, and hints for words of other tools. */
#include "opt/opt_priv.h"

/* Edits that turn `a` into `b`: insertions, deletions, replacements, neighbours that changed places. Names longer than
 * a row count as far away. */
static size_t distance(const char *a, const char *b) {
    size_t rows[3][64]; /* of the last three prefixes of `a`; by prefixes of `b` */
    size_t an = strlen(a), bn = strlen(b);
    if (an >= HT_ARRAY_LEN(rows[0]) || bn >= HT_ARRAY_LEN(rows[0]))
        return SIZE_MAX;
    for (size_t j = 0; j <= bn; j++)
        rows[0][j] = j;
    for (size_t i = 1; i <= an; i++) {
        size_t *row = rows[i % 3], *above = rows[(i + 2) % 3], *two_above = rows[(i + 1) % 3];
        row[0] = i;
        for (size_t j = 1; j <= bn; j++) {
            row[j] = ht_min(above[j - 1] + (a[i - 1] != b[j - 1]), 1 + ht_min(above[j], row[j - 1]));
            if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1])
                row[j] = ht_min(row[j], two_above[j - 2] + 1);
        }
    }
    return rows[an % 3][bn];
}

/* Keeps the nearest of the names offered, if it is near enough to be meant. */
void opt_consider(const char *wanted, const char *name, const char **best, size_t *best_distance) {
    size_t d = distance(wanted, name);
    size_t n = strlen(wanted);
    if (d < *best_distance && d < n && d <= ht_max(1, n / 3)) {
        *best = name;
        *best_distance = d;
    }
}

/* What to say about a word that is none of ours, or NULL. "-p8080" is "-p". */
const char *opt_hint(const struct opt_program *p, const char *word, const char *command) {
    bool letter = word[0] == '-' && word[1] != '-' && word[1] != '\0';
    for (const struct opt_hint *h = p->hints; h < p->hints + p->n_hints; h++) {
        const char *theirs = opt_text(h->word);
        if (strcmp(opt_text(h->command), command) == 0 &&
            (letter ? theirs[1] == word[1] && theirs[2] == '\0' : strcmp(theirs, word) == 0))
            return opt_text(h->says);
    }
    return NULL;
}
