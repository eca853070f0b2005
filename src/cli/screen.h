/*
 * Draws a block of lines at the bottom of a terminal again and again in its place, while other lines scroll above it.
 * It does not use the alternate screen, so the lines stay visible afterwards.
 *
 * It changes the terminal as little as possible: it hides the cursor and switches the echo of typed characters off.
 * Both are restored by cli_screen_close(), while the process is stopped, and by cli_screen_restore() in a signal
 * handler that ends the process.
 */
#ifndef HT_CLI_SCREEN_H
#define HT_CLI_SCREEN_H

#include "cli/cli.h"

#define SCREEN_ROWS_MAX 64

struct cli_screen {
    struct cli_output *out;
    unsigned columns, rows; /* of the terminal */
    bool open, hidden;      /* hidden: the process is stopped or in the background */
    unsigned n_rows;        /* rows of the block on the screen */
    unsigned widths[SCREEN_ROWS_MAX];
    struct ht_buf shown; /* the text of the block on the screen */
};

/* A block that is being built. A row that is wider than the terminal takes several lines. */
struct cli_frame {
    struct ht_buf text; /* rows with a newline between them */
    unsigned n_rows;
    unsigned widths[SCREEN_ROWS_MAX];
    unsigned lines;  /* lines of the terminal that all rows take together */
    unsigned folded; /* bindings for which there is no room */
};

/* True when standard output is a terminal that can draw a block. */
bool cli_screen_possible(void);
void cli_screen_open(struct cli_screen *s, struct cli_output *out);
/* Draws the block. Does nothing when it has not changed, or when the last one was not written yet. */
void cli_screen_draw(struct cli_screen *s, const struct cli_frame *f);
/* Writes a line, with its newline, above the block. It stays there. */
void cli_screen_line(struct cli_screen *s, struct ht_slice line);
/* Removes the block at once, so that other code can write to the terminal. The next draw shows it below that output. */
void cli_screen_yield(struct cli_screen *s);
/* The terminal's size has changed. */
void cli_screen_resized(struct cli_screen *s);
/* Before and after the process is stopped. */
void cli_screen_suspend(struct cli_screen *s);
void cli_screen_resume(struct cli_screen *s);
/* Leaves the block on the screen and the cursor behind it, and restores the terminal. */
void cli_screen_close(struct cli_screen *s);
/* Restores the terminal. For a signal handler of a process that ends at once. */
void cli_screen_restore(void);

#endif
