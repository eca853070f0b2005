/*
 * Runs CUnit suites and prints TAP: one line per test, and why a test failed as `# ` lines.
 */
#ifndef HT_TESTS_TAP_H
#define HT_TESTS_TAP_H

#include <CUnit/CUnit.h>

/* How long a test waits for what has to come. Only one that fails waits so long, and a machine may be busy. */
#define PATIENCE_MS 30000

struct tap_test {
    const char *name;
    void (*run)(void);
};

/* Returns the exit status: 0 when all passed. `tests` ends with a row whose name is NULL. */
int tap_main(const char *suite, const struct tap_test *tests);

#endif
