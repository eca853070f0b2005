#include "support/tap.h"

#include <CUnit/TestRun.h>
#include <ftw.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static unsigned count;

/* ---- drivers of a test keep their identity in a place of its own, and not in the home of whoever runs it ---- */

static char state[] = "/tmp/hoody-tunnel-test-XXXXXX";
static pid_t owner;

static int remove_one(const char *path, const struct stat *st, int kind, struct FTW *at) {
    (void)st, (void)kind, (void)at;
    return remove(path);
}

static void remove_state(void) {
    if (getpid() == owner) /* and not a child of a test */
        nftw(state, remove_one, 8, FTW_DEPTH | FTW_PHYS);
}

static bool make_state(void) {
    owner = getpid();
    return mkdtemp(state) && setenv("XDG_STATE_HOME", state, 1) == 0 && atexit(remove_state) == 0;
}

static void finished(const CU_pTest test, const CU_pSuite suite, const CU_pFailureRecord failure) {
    count++;
    printf("%sok %u - %s: %s\n", failure ? "not " : "", count, suite->pName, test->pName);
    for (CU_pFailureRecord f = failure; f; f = f->pNext)
        printf("# %s:%u: %s\n", f->strFileName ? f->strFileName : "?", f->uiLineNumber,
               f->strCondition ? f->strCondition : "?");
    fflush(stdout);
}

int tap_main(const char *name, const struct tap_test *tests) {
    if (!make_state() || CU_initialize_registry() != CUE_SUCCESS)
        return 2;
    CU_pSuite suite = CU_add_suite(name, NULL, NULL);
    if (!suite)
        return 2;
    for (const struct tap_test *t = tests; t->name; t++)
        if (!CU_add_test(suite, t->name, t->run))
            return 2;
    CU_set_test_complete_handler(finished);
    CU_run_all_tests();
    unsigned failed = CU_get_number_of_tests_failed();
    printf("1..%u\n", count);
    CU_cleanup_registry();
    return failed ? 1 : 0;
}
