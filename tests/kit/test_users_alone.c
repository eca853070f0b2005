/* A file of users by itself: whose token it is, mistakes, and each allocation failing. */
#include "kit/users.h"

#include "base/mem.h"
#include "support/tap.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static char path[64];

/* The digests of the tokens `ann`, `bob` and `old`. */
#define ANN "sha256:49915e0d7d4b402e3017d010bc1c0e83cac6c797d6c16e66340fe3268693a6a1"
#define BOB "sha256:81b637d8fcd2c6da6359e6963113a1170de795e4b725b84d1e0b4cfd9ec58ce9"
#define OLD "sha256:cba06b5736faf67e54b07b561eae94395e774c517a7d910a54369e1263ccfbd4"
#define GOOD                                                                                                           \
    "users:\n  - name: ann\n    admin: true\n    tokens: [" ANN ", " OLD "]\n  - name: bob\n    tokens: [" BOB         \
    "]\n    ports: [3000]\n"

static void put(const char *text) {
    FILE *f = fopen(path, "w");
    CU_ASSERT_FATAL(f && fputs(text, f) >= 0 && fclose(f) == 0);
}

static bool is(const struct kit_users *u, const char *token, const char *name, bool admin) {
    const char *found = NULL;
    bool is_admin = false, ok = kit_users_find(u, ht_slice_str(token), &found, &is_admin);
    return *name ? ok && strcmp(found, name) == 0 && is_admin == admin : !ok;
}

static void whose_token(void) {
    struct kit_users *u = NULL;
    struct ht_errmsg err = {""};
    put(GOOD);
    CU_ASSERT_EQUAL_FATAL(kit_users_load(&u, path, &err), HT_OK);
    CU_ASSERT(is(u, "ann", "ann", true) && is(u, "old", "ann", true) && is(u, "bob", "bob", false));
    CU_ASSERT(is(u, "", "", false) && is(u, "an", "", false) && is(u, "anna", "", false) && is(u, ANN, "", false));
    /* A mistake: all is as it was. */
    put("users:\n  - name: ann\n    tokens: [ann]\n");
    CU_ASSERT(kit_users_load(&u, path, &err) == HT_EINVAL && strstr(err.text, "sha256:") && !strstr(err.text, "[ann]"));
    CU_ASSERT(is(u, "ann", "ann", true) && is(u, "bob", "bob", false));
    unlink(path);
    CU_ASSERT(kit_users_load(&u, path, &err) == HT_EIO && strstr(err.text, path));
    CU_ASSERT_EQUAL(kit_users_load(&u, "/", &err), HT_EIO);
    /* Another one. */
    put("users:\n  - name: bob\n    admin: true\n    tokens: [" OLD "]\n");
    CU_ASSERT_EQUAL(kit_users_load(&u, path, &err), HT_OK);
    CU_ASSERT(is(u, "ann", "", false) && is(u, "bob", "", false) && is(u, "old", "bob", true));
    kit_users_free(&u);
    CU_ASSERT_PTR_NULL(u);
    kit_users_free(&u);
}

static void no_memory(void) {
    struct kit_users *u = NULL;
    struct ht_errmsg err;
    put(GOOD);
    for (long i = 0; i < 500; i++) {
        ht_mem_fail_at(i);
        int rc = kit_users_load(&u, path, &err);
        bool failed = !ht_mem_fail_pending();
        ht_mem_fail_at(-1);
        CU_ASSERT_EQUAL(rc, failed ? HT_ENOMEM : HT_OK);
        CU_ASSERT_EQUAL(u != NULL, !failed);
        kit_users_free(&u);
        CU_ASSERT_EQUAL(ht_mem_live(), 0);
        if (!failed)
            return;
    }
    CU_FAIL("it never ends");
}

static const struct tap_test tests[] = {
    {"whose token it is, as the file says now; a mistake changes nothing", whose_token},
    {"each allocation fails", no_memory},
    {NULL, NULL},
};

int main(void) {
    snprintf(path, sizeof path, "/tmp/ht-users-%d", (int)getpid());
    int rc = tap_main("kit, users by themselves", tests);
    unlink(path);
    return rc;
}
