/* Programs that stay: their lines, their end, and what they leave. */
#include "base/clock.h"
#include "base/mem.h"
#include "io/program.h"
#include "support/process.h"
#include "support/tap.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static struct io_loop *loop;
#define TEST_LOOP loop
#include "support/turns.h"

static char lines[16][IO_PROGRAM_LINE + 1], text[128];
static size_t n_lines, longest;
static int ends, status;

static void on_said(void *ctx, struct ht_slice line) {
    (void)ctx;
    if (n_lines < HT_ARRAY_LEN(lines))
        snprintf(lines[n_lines], sizeof lines[0], "%.*s", HT_SLICE_ARG(line));
    n_lines++;
    longest = ht_max(longest, line.n);
}

static void on_ended(void *ctx, int s, const char *t) {
    (void)ctx;
    ends++;
    status = s;
    snprintf(text, sizeof text, "%s", t);
}

static struct io_program *start(const char *script) {
    static const struct io_program_ops ops = {.said = on_said, .ended = on_ended};
    const char *const argv[] = {"/bin/sh", "-c", script, NULL};
    struct ht_errmsg err = {""};
    ends = 0;
    n_lines = longest = 0;
    if (!loop)
        loop = io_loop_create();
    struct io_program *p = io_program_start(loop, argv, &ops, NULL, &err);
    if (!p)
        printf("# %s\n", err.text);
    CU_ASSERT_PTR_NOT_NULL_FATAL(p);
    return p;
}

static void end(void) {
    io_loop_destroy(&loop);
    CU_ASSERT_EQUAL(ht_mem_live(), 0);
}

static void lines_come_whole(void) {
    (void)start("echo one; echo two >&2; printf 'thr'; printf 'ee\\nlast'; exit 7");
    UNTIL(ends == 1);
    CU_ASSERT_EQUAL(n_lines, 4);
    CU_ASSERT_STRING_EQUAL(lines[0], "one");
    CU_ASSERT_STRING_EQUAL(lines[1], "two");
    CU_ASSERT_STRING_EQUAL(lines[2], "three");
    CU_ASSERT_STRING_EQUAL(lines[3], "last");
    CU_ASSERT_EQUAL(status, 7);
    CU_ASSERT_STRING_EQUAL(text, "it ended with status 7");
    end();
}

static void long_lines_come_in_pieces(void) {
    (void)start("i=0; while [ $i -lt 300 ]; do printf 'ten bytes.'; i=$((i + 1)); done; echo");
    UNTIL(ends == 1);
    CU_ASSERT_EQUAL(n_lines, 2);
    CU_ASSERT_EQUAL(longest, IO_PROGRAM_LINE);
    CU_ASSERT_EQUAL(status, 0);
    end();
}

/* What it has started ends with it, also when it was killed. */
static void nothing_of_it_is_left(void) {
    struct io_program *p = start("tail -f /dev/null & echo $!; wait");
    UNTIL(n_lines == 1);
    pid_t left = (pid_t)atoi(lines[0]);
    kill(io_program_pid(p), SIGKILL);
    UNTIL(ends == 1);
    CU_ASSERT_EQUAL(status, -1);
    CU_ASSERT_STRING_EQUAL(text, "it was ended by signal 9");
    UNTIL(is_gone(left));

    p = start("trap '' TERM; tail -f /dev/null & echo $!; while :; do wait; done");
    UNTIL(n_lines == 1);
    left = (pid_t)atoi(lines[0]);
    pid_t self = io_program_pid(p);
    io_program_stop(&p, 20);
    CU_ASSERT_PTR_NULL(p);
    CU_ASSERT_TRUE(is_gone(self));
    UNTIL(is_gone(left));
    CU_ASSERT_EQUAL(ends, 0);
    end();
}

/* Signals that this program ignores have their usual effect in the other one. */
static void signals_are_usual(void) {
    io_ignore_signals();
    struct io_program *p = start("echo here; exec tail -f /dev/null");
    UNTIL(n_lines == 1);
    io_program_signal(p, SIGUSR2);
    UNTIL(ends == 1);
    CU_ASSERT_STRING_EQUAL(text, "it was ended by signal 12");
    end();
}

static void missing_programs_are_said(void) {
    static const struct io_program_ops ops = {.said = on_said, .ended = on_ended};
    const char *const argv[] = {"/nonexistent/program", NULL};
    struct ht_errmsg err;
    loop = io_loop_create();
    CU_ASSERT_PTR_NULL(io_program_start(loop, argv, &ops, NULL, &err));
    CU_ASSERT_PTR_NOT_NULL(strstr(err.text, "/nonexistent/program cannot be started: No such file"));
    struct io_program *none = NULL;
    io_program_stop(&none, 0);
    end();
}

static void an_environment_of_its_own(void) {
    static const struct io_program_ops ops = {.said = on_said, .ended = on_ended};
    const char *const argv[] = {"/bin/sh", "-c", "export -p; umask; echo \"$GIVEN\"", NULL};
    const char *const env[] = {"GIVEN=a b", NULL};
    struct ht_errmsg err;
    loop = io_loop_create();
    ends = 0;
    n_lines = longest = 0;
    CU_ASSERT_EQUAL(setenv("HT_TEST_SECRET", "hush", 1), 0);
    CU_ASSERT_PTR_NOT_NULL_FATAL(io_program_start_env(loop, argv, env, &ops, NULL, &err));
    UNTIL(ends == 1);
    CU_ASSERT_EQUAL(status, 0);
    CU_ASSERT_TRUE_FATAL(n_lines >= 3 && n_lines < HT_ARRAY_LEN(lines));
    for (size_t i = 0; i < n_lines; i++)
        CU_ASSERT_PTR_NULL(strstr(lines[i], "hush"));
    CU_ASSERT_STRING_EQUAL(lines[n_lines - 2], "0077");
    CU_ASSERT_STRING_EQUAL(lines[n_lines - 1], "a b");
    CU_ASSERT_EQUAL(unsetenv("HT_TEST_SECRET"), 0);
    end();
}

int main(void) {
    static const struct tap_test tests[] = {
        {"lines of both outputs come whole, the last one without its newline", lines_come_whole},
        {"a long line comes in pieces", long_lines_come_in_pieces},
        {"nothing is left of a program that was killed, or does not want to end", nothing_of_it_is_left},
        {"signals have their usual effect", signals_are_usual},
        {"a program that is not there is an error", missing_programs_are_said},
        {"a program can have an environment of its own, and what it makes is then for nobody else",
         an_environment_of_its_own},
        {NULL, NULL},
    };
    return tap_main("program", tests);
}
