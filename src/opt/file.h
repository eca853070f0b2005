/* A file that somebody wrote, while it is read: what is wrong in it and where, and the texts that were kept of it. */
#ifndef HT_OPT_FILE_H
#define HT_OPT_FILE_H

#include "base/base.h"
#include "base/err.h"

#include <stdio.h>

#define OPT_FILE_MAX (1024u * 1024u) /* bytes of a file */
#define OPT_PROBLEMS_MAX 100u        /* more are counted only */

/* A place in the file, both from 1. */
struct opt_mark {
    unsigned line, column;
};

struct opt_problem {
    struct opt_mark at;
    char *text; /* one sentence, no control bytes */
};

struct opt_file {
    const char *name;             /* for messages; the caller's */
    struct opt_problem *problems; /* by place */
    size_t n_problems, n_more;    /* n_more: those that were only counted */
    char **texts;
    size_t n_texts;
};

/* Adds a problem at a place; HT_ENOMEM is remembered by nobody: the text is left out. */
void opt_file_problem(struct opt_file *f, struct opt_mark at, const char *fmt, ...) HT_PRINTF(3, 4);
/* "name:line:column: error: text" for each. */
void opt_file_print(const struct opt_file *f, FILE *to);
/* A copy that lives as long as *f. NULL: out of memory. */
char *opt_file_keep(struct opt_file *f, const char *text, size_t n) HT_MUST_USE;
/* Frees everything, and wipes the texts. */
void opt_file_free(struct opt_file *f);

#endif
