#include "cli/screen.h"

#include <signal.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <termios.h>
#include <unistd.h>

/* ECMA-48: CUU, ED, EL. DECTCEM and DECAWM come from DEC; every terminal has them. */
#define CURSOR_HIDE "\033[?25l"
#define CURSOR_SHOW "\033[?25h"
#define WRAP_OFF "\033[?7l"
#define WRAP_ON "\033[?7h"
#define ERASE_BELOW "\033[J"

#define WAITING_MAX 16384u /* while so many bytes wait for the terminal, no new block is drawn */

static struct termios before;
static volatile sig_atomic_t changed; /* the terminal's settings must be set back to `before` */
static volatile sig_atomic_t drawn;   /* the cursor is hidden */

bool cli_screen_possible(void) {
    const char *term = getenv("TERM");
    return isatty(STDOUT_FILENO) && term && *term && strcmp(term, "dumb") != 0;
}

static bool in_foreground(void) {
    pid_t group = tcgetpgrp(STDOUT_FILENO);
    return group < 0 || group == getpgrp();
}

/* Without this, typed characters would be shown in the middle of the block. */
static void echo_off(void) {
    struct termios quiet;
    if (changed || !in_foreground() || tcgetattr(STDIN_FILENO, &before) < 0)
        return;
    quiet = before;
    quiet.c_lflag &= ~(tcflag_t)(ECHO | ECHOE | ECHOK | ECHOCTL);
    changed = tcsetattr(STDIN_FILENO, TCSANOW, &quiet) == 0;
}

static void echo_back(void) {
    if (changed && in_foreground())
        tcsetattr(STDIN_FILENO, TCSANOW, &before);
    changed = 0;
}

void cli_screen_restore(void) {
    static const char show[] = CURSOR_SHOW WRAP_ON "\r\n";
    if (changed)
        tcsetattr(STDIN_FILENO, TCSANOW, &before);
    if (drawn) {
        ssize_t n = write(STDOUT_FILENO, show, sizeof show - 1);
        (void)n;
    }
}

static void measure(struct cli_screen *s) {
    struct winsize w = {0};
    if (ioctl(STDOUT_FILENO, TIOCGWINSZ, &w) < 0)
        w.ws_col = 0;
    s->columns = w.ws_col ? w.ws_col : 80;
    s->rows = w.ws_row ? w.ws_row : 24;
}

void cli_screen_open(struct cli_screen *s, struct cli_output *out) {
    *s = (struct cli_screen){.out = out, .open = true};
    measure(s);
    echo_off();
}

/* Moves the cursor from the block's end to its beginning, and erases the block. */
static int erase(const struct cli_screen *s, struct ht_buf *b) {
    unsigned up = 0;
    if (s->n_rows == 0)
        return HT_OK;
    /* Rows that wrap take several: on purpose, or because the terminal has become narrower. */
    for (unsigned i = 0; i < s->n_rows; i++)
        up += s->widths[i] > s->columns ? (s->widths[i] + s->columns - 1) / s->columns : 1;
    up = ht_min(up, s->rows);
    return up > 1 ? ht_buf_printf(b, "\r\033[%uA" ERASE_BELOW, up - 1) : ht_buf_append_str(b, "\r" ERASE_BELOW);
}

static void put(struct cli_screen *s, struct ht_buf *b, int rc) {
    if (rc == HT_OK && ht_buf_size(b) > 0)
        cli_output_line(s->out, ht_buf_slice(b));
    ht_buf_free(b);
}

static void forget(struct cli_screen *s) {
    s->n_rows = 0;
    ht_buf_consume(&s->shown, ht_buf_size(&s->shown));
}

void cli_screen_draw(struct cli_screen *s, const struct cli_frame *f) {
    struct ht_buf b = {0};
    if (!s->open || s->hidden || f->n_rows == 0 || cli_output_waiting(s->out) > WAITING_MAX || !in_foreground())
        return;
    if (s->n_rows > 0 && ht_slice_eq(ht_buf_slice(&s->shown), ht_buf_slice(&f->text)))
        return;
    int rc = ht_buf_append_str(&b, CURSOR_HIDE WRAP_OFF);
    if (rc == HT_OK)
        rc = erase(s, &b);
    struct ht_slice rest = ht_buf_slice(&f->text);
    for (unsigned i = 0; rest.n > 0 && rc == HT_OK; i++) {
        const char *end = memchr(rest.p, '\n', rest.n);
        size_t n = end ? (size_t)(end - rest.p) : rest.n;
        bool wraps = f->widths[i] > s->columns;
        rc = wraps ? ht_buf_append_str(&b, WRAP_ON) : HT_OK;
        if (rc == HT_OK)
            rc = ht_buf_append(&b, rest.p, n);
        if (rc == HT_OK && wraps)
            rc = ht_buf_append_str(&b, WRAP_OFF);
        if (rc == HT_OK && end)
            rc = ht_buf_append_str(&b, "\r\n");
        rest = ht_slice_of(rest.p + n + (end ? 1 : 0), rest.n - n - (end ? 1 : 0));
    }
    if (rc == HT_OK)
        rc = ht_buf_append_str(&b, WRAP_ON);
    forget(s);
    if (rc == HT_OK)
        rc = ht_buf_append(&s->shown, ht_buf_head(&f->text), ht_buf_size(&f->text));
    if (rc == HT_OK) {
        drawn = 1;
        s->n_rows = f->n_rows;
        memcpy(s->widths, f->widths, sizeof s->widths);
    }
    put(s, &b, rc);
}

void cli_screen_line(struct cli_screen *s, struct ht_slice line) {
    struct ht_buf b = {0};
    int rc = s->hidden ? HT_OK : erase(s, &b);
    if (!s->hidden)
        forget(s);
    if (rc == HT_OK)
        rc = ht_buf_append(&b, line.p, line.n);
    put(s, &b, rc);
}

void cli_screen_yield(struct cli_screen *s) {
    struct ht_buf b = {0};
    if (!s->open || s->n_rows == 0)
        return;
    int rc = erase(s, &b);
    forget(s);
    put(s, &b, rc);
    cli_output_flush(s->out, 100);
}

void cli_screen_resized(struct cli_screen *s) {
    measure(s);
    ht_buf_consume(&s->shown, ht_buf_size(&s->shown));
}

void cli_screen_suspend(struct cli_screen *s) {
    struct ht_buf b = {0};
    if (!s->open || s->hidden)
        return;
    put(s, &b, ht_buf_append_str(&b, s->n_rows > 0 ? CURSOR_SHOW "\r\n" : CURSOR_SHOW));
    cli_output_flush(s->out, 100);
    forget(s); /* the block stays as it is, and others write below it */
    s->hidden = true;
    drawn = 0;
    echo_back();
}

void cli_screen_resume(struct cli_screen *s) {
    if (!s->open)
        return;
    measure(s);
    forget(s);
    s->hidden = false;
    echo_off();
}

void cli_screen_close(struct cli_screen *s) {
    cli_screen_suspend(s);
    s->open = false;
    ht_buf_free(&s->shown);
}
