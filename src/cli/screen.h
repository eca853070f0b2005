/*
 * A block of lines at the bottom of a terminal that is drawn again and again in its place, while other lines scroll by
 * above it. No alternate screen: what was shown stays.
 *
 * The terminal is changed as little as possible: the cursor is hidden and what is typed is not echoed. Both are given
 * back by cli_screen_close(), while the process is stopped, and by cli_screen_restore() on the way out of a signal
 * handler.
 */
#ifndef HT_CLI_SCREEN_H
#define HT_CLI_SCREEN_H

#include "cli/cli.h"

#define SCREEN_ROWS_MAX 64

struct cli_screen {
    struct cli_output *out;
    unsigned columns, rows; /* of the terminal */
    bool open, hidden;      /* hidden: stopped, or in the background */
    unsigned n_rows;        /* of the block as it is on the screen */
    unsigned widths[SCREEN_ROWS_MAX];
    struct ht_buf shown; /* its text, to see whether it has changed */
};

/* A block under construction. A row that is wider than the terminal goes on in the terminal's next row. */
struct cli_frame {
    struct ht_buf text; /* rows with a newline between them */
    unsigned n_rows;
    unsigned widths[SCREEN_ROWS_MAX];
    unsigned lines;  /* of the terminal that they take together */
    unsigned folded; /* bindings that found no room */
};

/* Whether standard output is a terminal that can do this. */
bool cli_screen_possible(void);
void cli_screen_open(struct cli_screen *s, struct cli_output *out);
/* Draws it, unless it is what is there already or the last one has not even been written. */
void cli_screen_draw(struct cli_screen *s, const struct cli_frame *f);
/* A line, its newline included, that stays: above the block. */
void cli_screen_line(struct cli_screen *s, struct ht_slice line);
/* Takes the block away at once, so that somebody else can write; the next draw brings it back below that. */
void cli_screen_yield(struct cli_screen *s);
/* The terminal's size has changed. */
void cli_screen_resized(struct cli_screen *s);
/* Before and after the process is stopped. */
void cli_screen_suspend(struct cli_screen *s);
void cli_screen_resume(struct cli_screen *s);
/* Leaves the block as it is, and the cursor behind it. */
void cli_screen_close(struct cli_screen *s);
/* The terminal as it was; from a signal handler, by a process that ends at once. */
void cli_screen_restore(void);

#endif
