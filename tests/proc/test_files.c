/* A file that is removed when it is ours, though another process puts its own there at every moment. */
#include "proc/files.h"
#include "support/tap.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static char folder[] = "/tmp/ht-files-XXXXXX", path[PATH_MAX], part[PATH_MAX];

/* As every program does that has a file there: whole, at one moment. */
static void put(char letter) {
    int fd = open(part, O_WRONLY | O_CREAT | O_EXCL, 0600);
    CU_ASSERT_FATAL(fd >= 0);
    CU_ASSERT_EQUAL(write(fd, &letter, 1), 1);
    close(fd);
    CU_ASSERT_EQUAL(rename(part, path), 0);
}

/* Behind which look the others come: one letter for each, '-': nobody. */
struct others {
    const char *letters;
};

/* Ours has an 'a'. */
static bool is_ours(void *ctx, int fd) {
    struct others *o = ctx;
    char letter = 0;
    CU_ASSERT_EQUAL(read(fd, &letter, 1), 1);
    if (*o->letters && *o->letters++ != '-')
        put(o->letters[-1]);
    return letter == 'a';
}

/* '\0': there is none. */
static char left(void) {
    char letter = 0;
    int fd = open(path, O_RDONLY);
    if (fd >= 0) {
        CU_ASSERT_EQUAL(read(fd, &letter, 1), 1);
        close(fd);
        CU_ASSERT_EQUAL(unlink(path), 0);
    }
    return letter;
}

static unsigned files(void) {
    unsigned n = 0;
    DIR *d = opendir(folder);
    CU_ASSERT_PTR_NOT_NULL_FATAL(d);
    for (const struct dirent *e; (e = readdir(d));)
        n += e->d_name[0] != '.';
    closedir(d);
    return n;
}

static void one_that_is_ours_goes_and_others_stay(void) {
    static const struct {
        char there;
        const char *others;
        char left;
    } cases[] = {
        {'a', "", 0},     {'b', "", 'b'}, {'b', "a", 'a'}, /* nobody has asked to remove that one */
        {'a', "b", 'b'},                                   /* between the look and the act */
        {'a', "-b", 'b'},                                  /* right behind it */
        {'a', "bc", 'c'},                                  /* while the second one is put back */
    };
    for (size_t i = 0; i < HT_ARRAY_LEN(cases); i++) {
        struct others o = {cases[i].others};
        put(cases[i].there);
        CU_ASSERT_EQUAL(proc_files_remove(path, is_ours, &o), 0);
        CU_ASSERT_EQUAL(left(), cases[i].left);
        CU_ASSERT_EQUAL(files(), 0);
    }
}

static void what_is_no_file_is_left_alone(void) {
    struct others o = {""};
    CU_ASSERT_EQUAL(proc_files_remove(path, is_ours, &o), 0);
    CU_ASSERT_EQUAL(symlink("nowhere", path), 0);
    CU_ASSERT_EQUAL(proc_files_remove(path, is_ours, &o), 0);
    CU_ASSERT_EQUAL(unlink(path), 0);
}

static void a_name_that_is_too_long(void) {
    char name[256], here[PATH_MAX];
    struct others o = {""};
    memset(name, 'n', sizeof name - 1);
    name[sizeof name - 1] = '\0';
    snprintf(here, sizeof here, "%s/%s", folder, name);
    int fd = open(here, O_WRONLY | O_CREAT | O_EXCL, 0600);
    CU_ASSERT_EQUAL(write(fd, "a", 1), 1);
    close(fd);
    CU_ASSERT(proc_files_remove(here, is_ours, &o) < 0 && errno == ENAMETOOLONG);
    CU_ASSERT_EQUAL(unlink(here), 0);
}

int main(void) {
    static const struct tap_test tests[] = {
        {"one that is ours goes, and others stay", one_that_is_ours_goes_and_others_stay},
        {"what is no file is left alone", what_is_no_file_is_left_alone},
        {"a name that is too long", a_name_that_is_too_long},
        {NULL, NULL},
    };
    if (!mkdtemp(folder))
        return 1;
    snprintf(path, sizeof path, "%s/file", folder);
    snprintf(part, sizeof part, "%s/part", folder);
    int rc = tap_main("files", tests);
    rmdir(folder);
    return rc;
}
