/* A configuration file while it is read: its problems with their places, and copies of its texts. */
#ifndef HT_OPT_FILE_H
#define HT_OPT_FILE_H

#include "base/base.h"
#include "base/err.h"

#include <stdio.h>

#define OPT_FILE_MAX (1024u * 1024u) /* most bytes of a file */
#define OPT_PROBLEMS_MAX 100u        /* further problems are only counted */

/* A place in the file; both numbers begin with 1. */
struct opt_mark {
    unsigned line, column;
};

struct opt_problem {
    struct opt_mark at;
    char *text; /* one sentence, no control bytes */
};

struct opt_file {
    const char *name;             /* for messages; the caller owns it */
    struct opt_problem *problems; /* in the order of their places */
    size_t n_problems, n_more;    /* n_more: problems that were only counted */
    char **texts;
    size_t n_texts;
};

/* Adds a problem at a place. Without memory it is left out. */
void opt_file_problem(struct opt_file *f, struct opt_mark at, const char *fmt, ...) HT_PRINTF(3, 4);
/* Prints "name:line:column: error: text" for each problem. */
void opt_file_print(const struct opt_file *f, FILE *to);
/* Makes a copy that is valid as long as *f. NULL: out of memory. */
char *opt_file_keep(struct opt_file *f, const char *text, size_t n) HT_MUST_USE;
/* Frees everything and wipes the texts. */
void opt_file_free(struct opt_file *f);

#endif
