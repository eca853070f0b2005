/* What the files of this room share. */
#ifndef HT_OPT_OPT_PRIV_H
#define HT_OPT_OPT_PRIV_H

#include "opt/opt.h"

/* Where a value comes from, for messages: "--name" or the name of the environment variable. */
struct opt_source {
    const char *dashes, *name;
    struct ht_errmsg *err;
};

/* True when `o` adds to a list. */
bool opt_is_list(const struct opt_option *o);
/* Reads `text` into the structure at `base`. 0, HT_ENOMEM, or HT_EINVAL: src->err says what would be right. */
int opt_set_value(const struct opt_option *o, const struct opt_source *src, const char *text, char *base) HT_MUST_USE;

/* Compares `name` with the mistyped `wanted`. If it is similar enough, and more similar than *best, it becomes *best.
 * Call it for each name, with *best_distance SIZE_MAX at first. */
void opt_consider(const char *wanted, const char *name, const char **best, size_t *best_distance);
/* The hint for a word of another tool; NULL: there is none. "-p8080" counts as "-p". */
const char *opt_hint(const struct opt_program *p, const char *word, const char *command);

#endif
