/* What a driver is called: which names are good, what is right instead, and the one that is kept. */
#include "driver/name.h"
#include "support/tap.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#define FIFTY "a2345678901234567890123456789012345678901234567890"

static void names_and_their_right_spelling(void) {
    static const struct {
        const char *name, *right; /* NULL: it is right */
    } rows[] = {
        {"myapp", NULL},
        {"a", NULL},
        {"3", NULL},
        {"my-app--2", NULL},
        {FIFTY "1234567", NULL},
        {FIFTY "12345678", FIFTY "1234567"},
        {"MyApp", "myapp"},
        {"my_app", "my-app"},
        {"my app.example", "my-app-example"},
        {"-myapp-", "myapp"},
        {"ab--cd", "ab-cd"},
        {"xn--bcher-kva", "xn-bcher-kva"},
        {"b\xc3\xbc"
         "cher",
         "b-cher"},
        {"", ""},
        {"---", ""},
    };
    for (size_t i = 0; i < HT_ARRAY_LEN(rows); i++) {
        struct ht_errmsg err = {""};
        char right[DRIVER_NAME_MAX + 1], want[DRIVER_NAME_MAX + 16];
        CU_ASSERT_EQUAL(driver_name_check(rows[i].name, &err), rows[i].right ? HT_EINVAL : HT_OK);
        driver_name_clean(ht_slice_str(rows[i].name), right);
        if (!rows[i].right)
            continue;
        CU_ASSERT_STRING_EQUAL(right, rows[i].right);
        snprintf(want, sizeof want, "; write %s", right);
        const char *at = strstr(err.text, "; write ");
        CU_ASSERT_STRING_EQUAL(at ? at : "", *right ? want : "");
        CU_ASSERT(!*right || driver_name_check(right, NULL) == HT_OK);
    }
}

static void one_is_made_once_and_kept(void) {
    char folder[] = "/tmp/hoody-tunnel-name-XXXXXX", first[DRIVER_NAME_MAX + 1], again[DRIVER_NAME_MAX + 1], text[256];
    char host[256] = "", cleaned[DRIVER_NAME_MAX + 1];
    struct ht_errmsg err;
    CU_ASSERT_PTR_NOT_NULL_FATAL(mkdtemp(folder));
    setenv("XDG_STATE_HOME", folder, 1);
    CU_ASSERT_EQUAL(driver_name_default(first, &err), 0);
    CU_ASSERT_EQUAL(driver_name_default(again, &err), 0);
    CU_ASSERT_STRING_EQUAL(first, again);
    CU_ASSERT_EQUAL(driver_name_check(first, NULL), HT_OK);
    gethostname(host, sizeof host - 1);
    driver_name_clean(ht_slice_of(host, strcspn(host, ".")), cleaned);
    CU_ASSERT(!*cleaned || strncmp(first, cleaned, ht_min(strlen(cleaned), 40)) == 0);
    CU_ASSERT(strlen(first) > 5 && first[strlen(first) - 5] == '-');
    snprintf(text, sizeof text, "rm -r %s", folder);
    CU_ASSERT_EQUAL(system(text), 0);
    /* Without a place for it there is one all the same, and a reason. */
    setenv("XDG_STATE_HOME", "/dev/null", 1);
    CU_ASSERT(driver_name_default(again, &err) < 0);
    CU_ASSERT_PTR_NOT_NULL(strstr(err.text, "/dev/null"));
    CU_ASSERT_EQUAL(driver_name_check(again, NULL), HT_OK);
}

static const struct tap_test tests[] = {
    {"names, and their right spelling", names_and_their_right_spelling},
    {"one is made once, and kept", one_is_made_once_and_kept},
    {NULL, NULL},
};

int main(void) { return tap_main("driver, name", tests); }
