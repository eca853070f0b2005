/* Programs that are started for what they print: each way in which one can end. */
#include "base/clock.h"
#include "base/mem.h"
#include "io/io.h"
#include "support/process.h"
#include "support/tap.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#define FOR_EVER "tail -f /dev/null"

static struct io_loop *loop;
#define TEST_LOOP loop
#include "support/turns.h"

static char printed[64], said[128];
static int ends, result;
static size_t got;

static void on_ended(void *ctx, int err, size_t n, const char *text) {
    (void)ctx;
    ends++;
    result = err;
    got = n;
    snprintf(said, sizeof said, "%s", text);
}

static const struct io_child_ops ops = {.ended = on_ended};

static struct io_child *start(const char *text, uint64_t limit_ms) {
    const char *const argv[] = {"/bin/sh", "-c", text, NULL};
    struct io_child_config cfg = {.argv = argv, .into = printed, .cap = sizeof printed - 1, .limit_ms = limit_ms};
    struct ht_errmsg err = {""};
    ends = 0;
    memset(printed, 0, sizeof printed);
    struct io_child *c = io_child_start(loop, &cfg, &ops, NULL, &err);
    if (!c)
        printf("# %s\n", err.text);
    CU_ASSERT_PTR_NOT_NULL_FATAL(c);
    CU_ASSERT_EQUAL(ends, 0);
    return c;
}

static void begin(void) {
    loop = io_loop_create();
    CU_ASSERT_PTR_NOT_NULL_FATAL(loop);
}

static void each_way_to_end(void) {
    static const struct {
        const char *text;
        int err;
        const char *prints, *says;
    } rows[] = {
        {"printf hello", HT_OK, "hello", ""},
        {"printf a; printf b >&2; printf c", HT_OK, "ac", ""}, /* what it says of errors is nobody's */
        {"true", HT_OK, "", ""},
        {"cat", HT_OK, "", ""}, /* there is nothing to read */
        {"exec >&-; :", HT_OK, "", ""},
        {"printf half; exit 3", HT_EIO, "half", "it ended with status 3"},
        {"no-such-program-here", HT_EIO, "", "it ended with status 127"},
        {"kill -9 $$", HT_EIO, "", "it was ended by signal 9"},
        {"cat /dev/zero", HT_ESPACE, NULL, "it prints more than 63 bytes"},
        {"printf %063d 1", HT_OK, "000000000000000000000000000000000000000000000000000000000000001", ""},
        {"printf %064d 1", HT_ESPACE, NULL, "it prints more than 63 bytes"},
    };
    begin();
    for (size_t i = 0; i < HT_ARRAY_LEN(rows); i++) {
        start(rows[i].text, PATIENCE_MS);
        UNTIL(ends == 1);
        CU_ASSERT_EQUAL(result, rows[i].err);
        CU_ASSERT_STRING_EQUAL(said, rows[i].says);
        if (rows[i].prints)
            CU_ASSERT(got == strlen(rows[i].prints) && memcmp(printed, rows[i].prints, got) == 0);
    }
    CU_ASSERT_EQUAL(waitpid(-1, NULL, WNOHANG), -1);
    io_loop_destroy(&loop);
}

static void one_that_does_not_end(void) {
    begin();
    start("echo $$; " FOR_EVER, 1000);
    UNTIL(ends == 1);
    CU_ASSERT_EQUAL(result, HT_ETIMEDOUT);
    CU_ASSERT_STRING_EQUAL(said, "it did not end within 1 s");
    CU_ASSERT(got > 1 && is_gone(atoi(printed)));
    /* With all that it has started. */
    struct io_child *c = start(FOR_EVER " & echo $!; " FOR_EVER, PATIENCE_MS);
    UNTIL(strchr(printed, '\n'));
    io_child_cancel(&c);
    CU_ASSERT_PTR_NULL(c);
    UNTIL(is_gone(atoi(printed)));
    CU_ASSERT_EQUAL(ends, 0);
    io_child_cancel(&c);
    io_loop_destroy(&loop);
}

/* Such as an agent that is started at the first use, and keeps its output open. */
static void what_it_leaves_behind(void) {
    begin();
    start(FOR_EVER " 5>&1 >/dev/null & echo $!", PATIENCE_MS);
    UNTIL(ends == 1);
    CU_ASSERT_EQUAL(result, HT_OK);
    pid_t left = atoi(printed);
    CU_ASSERT_FATAL(left > 1);
    CU_ASSERT(!is_gone(left));
    kill(left, SIGKILL);
    io_loop_destroy(&loop);
}

/* It has signals as a shell's child has them, whatever is ignored here, and no descriptor of ours. */
static void what_it_gets(void) {
    unsigned long long blocked = 1, ignored = 1;
    char before[sizeof printed];
    begin();
    io_ignore_signals();
    start("grep -E '^(SigBlk|SigIgn)' /proc/self/status | tr -d '\\t\\n'", PATIENCE_MS);
    UNTIL(ends == 1);
    CU_ASSERT_EQUAL(sscanf(printed, "SigBlk:%llxSigIgn:%llx", &blocked, &ignored), 2);
    CU_ASSERT_EQUAL(blocked, 0);
    CU_ASSERT_EQUAL(ignored & ~0x180000000ull, 0); /* the two are the C library's own */
    start("ls /proc/self/fd | tr '\\n' ' '", PATIENCE_MS);
    UNTIL(ends == 1);
    memcpy(before, printed, sizeof before);
    struct io_child *c = start(FOR_EVER, PATIENCE_MS);
    start("ls /proc/self/fd | tr '\\n' ' '", PATIENCE_MS);
    UNTIL(ends == 1);
    CU_ASSERT_STRING_EQUAL(printed, before);
    io_child_cancel(&c);
    io_loop_destroy(&loop);
}

static void what_cannot_be_started(void) {
    const char *const argv[] = {"/nonexistent/program", NULL};
    struct io_child_config cfg = {.argv = argv, .into = printed, .cap = 1, .limit_ms = 1000};
    struct ht_errmsg err = {""};
    begin();
    ends = 0;
    CU_ASSERT_PTR_NULL(io_child_start(loop, &cfg, &ops, NULL, &err));
    CU_ASSERT_STRING_EQUAL(err.text, "/nonexistent/program cannot be started: No such file or directory");
    size_t live = ht_mem_live();
    ht_mem_fail_at(0);
    CU_ASSERT_PTR_NULL(io_child_start(loop, &cfg, &ops, NULL, &err));
    ht_mem_fail_at(-1);
    CU_ASSERT_EQUAL(ht_mem_live(), live);
    CU_ASSERT_EQUAL(ends, 0);
    io_loop_destroy(&loop);
}

int main(void) {
    static const struct tap_test tests[] = {
        {"each way to end is reported", each_way_to_end},
        {"a child that runs too long is killed", one_that_does_not_end},
        {"a child may leave a process behind, which lives on", what_it_leaves_behind},
        {"a child gets default signals and no descriptor of ours", what_it_gets},
        {"a program that cannot be started is reported", what_cannot_be_started},
        {NULL, NULL},
    };
    return tap_main("programs that are started", tests);
}
