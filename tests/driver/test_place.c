/* Where the inspectors of running drivers are told: files of a state directory. */
#include "driver/place.h"
#include "support/tap.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static char home[] = "/tmp/hoody-tunnel-place-XXXXXX";

/* A file beside ours, with that name in place of the process's number. */
static void plant(const char *name, const char *text, mode_t mode, char path[PATH_MAX]) {
    struct ht_errmsg err;
    char place[128];
    snprintf(place, sizeof place, "inspectors/%s", name);
    CU_ASSERT_EQUAL_FATAL(driver_place(place, path, &err), 0);
    FILE *f = fopen(path, "w");
    CU_ASSERT_PTR_NOT_NULL_FATAL(f);
    fputs(text, f);
    fclose(f);
    CU_ASSERT_EQUAL(chmod(path, mode), 0);
}

static void those_that_run(void) {
    struct driver_inspector list[4];
    struct ht_errmsg err;
    struct stat st;
    char path[PATH_MAX], name[64];
    CU_ASSERT_EQUAL(driver_inspectors(list, 4), 0);
    CU_ASSERT_EQUAL(driver_inspector_put(4040, "http://127.0.0.1:4040/#a", &err), 0);
    CU_ASSERT_EQUAL(driver_inspector_put(4040, "http://127.0.0.1:4040/#b", &err), 0); /* one that was left behind */
    CU_ASSERT_EQUAL_FATAL(driver_inspectors(list, 4), 1);
    CU_ASSERT_EQUAL(list[0].pid, (long)getpid());
    CU_ASSERT_STRING_EQUAL(list[0].url, "http://127.0.0.1:4040/#b");
    snprintf(name, sizeof name, "inspectors/%ld-4040", (long)getpid());
    CU_ASSERT_EQUAL(driver_place(name, path, &err), 0);
    CU_ASSERT(stat(path, &st) == 0 && (st.st_mode & 07777) == 0600);
    CU_ASSERT_EQUAL(driver_inspector_put(4041, "http://127.0.0.1:4041/#c", &err), 0);
    CU_ASSERT_EQUAL(driver_inspectors(list, 4), 2);
    CU_ASSERT_EQUAL(driver_inspectors(list, 1), 1);
    driver_inspector_drop(4040);
    driver_inspector_drop(4041);
    driver_inspector_drop(4041);
    CU_ASSERT_EQUAL(driver_inspectors(list, 4), 0);
}

static void those_that_do_not_count(void) {
    static const struct {
        const char *name, *text;
        mode_t mode;
    } rows[] = {
        {"1-1", "http://127.0.0.1:1/#x\n", 0644},          /* others could have written or read it */
        {"1-2", "http://127.0.0.1:1/#x", 0600},            /* cut */
        {"1-3", "javascript:1\n", 0600},                   /* no address */
        {"1-4", "", 0600},                                 /* nothing */
        {"999999999-5", "http://127.0.0.1:1/#x\n", 0600},  /* no such process */
        {"x-6", "http://127.0.0.1:1/#x\n", 0600},          /* no process at all */
        {"1-7-deadbeef", "http://127.0.0.1:1/#x\n", 0600}, /* counts: what is behind is not looked at */
    };
    struct driver_inspector list[8];
    for (size_t i = 0; i < HT_ARRAY_LEN(rows); i++) {
        char path[PATH_MAX];
        plant(rows[i].name, rows[i].text, rows[i].mode, path);
        CU_ASSERT_EQUAL(driver_inspectors(list, 8), i == 6);
        unlink(path);
    }
    char path[PATH_MAX], other[PATH_MAX];
    plant("1-8", "http://127.0.0.1:1/#x\n", 0600, path);
    snprintf(other, sizeof other, "%.*s-00000001", (int)(strrchr(path, '-') - path), path); /* another machine's */
    CU_ASSERT_EQUAL(rename(path, other), 0);
    CU_ASSERT_EQUAL(driver_inspectors(list, 8), 0);
    CU_ASSERT_EQUAL(symlink(other, path), 0);
    CU_ASSERT_EQUAL(driver_inspectors(list, 8), 0);
    unlink(path);
    unlink(other);
}

static void without_a_home(void) {
    struct driver_inspector list[1];
    struct ht_errmsg err;
    unsetenv("XDG_STATE_HOME");
    setenv("HOME", "", 1);
    CU_ASSERT(driver_inspector_put(1, "http://127.0.0.1:1/#x", &err) < 0);
    CU_ASSERT_EQUAL(driver_inspectors(list, 1), 0);
    driver_inspector_drop(1);
    setenv("XDG_STATE_HOME", home, 1);
}

static const struct tap_test tests[] = {
    {"inspectors of processes that run", those_that_run},
    {"files that do not count", those_that_do_not_count},
    {"no home", without_a_home},
    {NULL, NULL},
};

int main(void) {
    char path[PATH_MAX];
    if (!mkdtemp(home))
        return 1;
    setenv("XDG_STATE_HOME", home, 1);
    int rc = tap_main("driver, place", tests);
    static const char *const folders[] = {"/hoody-tunnel/inspectors", "/hoody-tunnel", ""};
    for (size_t i = 0; i < HT_ARRAY_LEN(folders); i++) {
        snprintf(path, sizeof path, "%s%s", home, folders[i]);
        rmdir(path);
    }
    return rc;
}
