#include "support/tap.h"

#include <CUnit/TestRun.h>
#include <stdio.h>

static unsigned count;

static void finished(const CU_pTest test, const CU_pSuite suite, const CU_pFailureRecord failure) {
    count++;
    printf("%sok %u - %s: %s\n", failure ? "not " : "", count, suite->pName, test->pName);
    for (CU_pFailureRecord f = failure; f; f = f->pNext)
        printf("# %s:%u: %s\n", f->strFileName ? f->strFileName : "?", f->uiLineNumber,
               f->strCondition ? f->strCondition : "?");
    fflush(stdout);
}

int tap_main(const char *name, const struct tap_test *tests) {
    if (CU_initialize_registry() != CUE_SUCCESS)
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
