/* What the files of this room share. */
#ifndef HT_OPT_OPT_PRIV_H
#define HT_OPT_OPT_PRIV_H

#include "opt/opt.h"

/* Where a value came from, for the message: "--name" or the variable's name. */
struct opt_source {
    const char *dashes, *name;
    struct ht_errmsg *err;
};

/* True when `o` adds to a list. */
bool opt_is_list(const struct opt_option *o);
/* Reads `text` into the structure at `base`. HT_EINVAL with what would be right, HT_ENOMEM. */
int opt_set_value(const struct opt_option *o, const struct opt_source *src, const char *text, char *base) HT_MUST_USE;

/* Keeps the nearest of the names offered one after the other, if it is near enough to be meant. *best_distance begins
 * as SIZE_MAX. */
void opt_consider(const char *wanted, const char *name, const char **best, size_t *best_distance);
/* What to say about a word that is none of ours, or NULL. "-p8080" is "-p". */
const char *opt_hint(const struct opt_program *p, const char *word, const char *command);

#endif
