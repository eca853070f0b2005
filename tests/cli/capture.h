/* What a function writes to standard output and standard error. */
#ifndef HT_TESTS_CLI_CAPTURE_H
#define HT_TESTS_CLI_CAPTURE_H

#include "support/tap.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct capture {
    int saved[2];
    FILE *files[2];
    char out[65536], err[8192];
};

static inline void capture_begin(struct capture *c) {
    fflush(stdout);
    fflush(stderr);
    for (int i = 0; i < 2; i++) {
        c->files[i] = tmpfile();
        CU_ASSERT_PTR_NOT_NULL_FATAL(c->files[i]);
        c->saved[i] = dup(i + 1);
        CU_ASSERT_FATAL(dup2(fileno(c->files[i]), i + 1) >= 0);
    }
}

static inline void capture_end(struct capture *c) {
    char *to[2] = {c->out, c->err};
    size_t room[2] = {sizeof c->out, sizeof c->err};
    fflush(stdout);
    fflush(stderr);
    for (int i = 0; i < 2; i++) {
        CU_ASSERT_FATAL(dup2(c->saved[i], i + 1) >= 0);
        close(c->saved[i]);
        rewind(c->files[i]);
        size_t n = fread(to[i], 1, room[i] - 1, c->files[i]);
        to[i][n] = '\0';
        fclose(c->files[i]);
    }
}

#endif
