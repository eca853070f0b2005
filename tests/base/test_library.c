/* Libraries that are loaded when they are first needed. */
#include "base/library.h"
#include "support/tap.h"

#include <CUnit/CUnit.h>
#include <math.h>

#define MATH(X) X(sqrt) X(floor)
static struct { MATH(HT_LIBRARY_MEMBER) } math;
#define MATH_ROW(f) HT_LIBRARY_FUNCTION(math, f)
static const struct ht_library_function rows[] = {MATH(MATH_ROW)};
static const struct ht_library_function unknown[] = {{"ht_nobody_has_this", (void **)(void *)&math.sqrt}};

static void the_first_that_is_there_is_taken(void) {
    struct ht_library l = {{"libnobody-has-this.so.9", "libm.so.6"}, rows, HT_ARRAY_LEN(rows), HT_LIBRARY_UNKNOWN};
    CU_ASSERT(ht_library_need(&l));
    CU_ASSERT_EQUAL(math.sqrt(49.0), 7.0);
    CU_ASSERT_EQUAL(math.floor(1.5), 1.0);
    l.files[1] = NULL;
    CU_ASSERT(ht_library_need(&l)); /* it is not looked for again */
}

static void a_missing_one_is_said(void) {
    struct ht_library l = {{"libnobody-has-this.so.9"}, rows, HT_ARRAY_LEN(rows), HT_LIBRARY_UNKNOWN};
    CU_ASSERT_FALSE(ht_library_need(&l));
    CU_ASSERT_FALSE(ht_library_need(&l));
}

static void one_without_a_function_is_none(void) {
    struct ht_library l = {{"libm.so.6"}, unknown, 1, HT_LIBRARY_UNKNOWN};
    CU_ASSERT_FALSE(ht_library_need(&l));
}

int main(void) {
    static const struct tap_test tests[] = {
        {"the first file that is there is taken", the_first_that_is_there_is_taken},
        {"a library that is missing is said to be", a_missing_one_is_said},
        {"a library without a function is none", one_without_a_function_is_none},
        {NULL, NULL},
    };
    return tap_main("base library", tests);
}
