/* Which requests pass: rules against every reading that a path can have. */
#include "base/mem.h"
#include "guard/rules.h"
#include "support/tap.h"

#include <stdio.h>
#include <stdlib.h>

static char scratch[GUARD_PATH_MAX];

/* The judgement of one request by `allow` and `deny` rules, each a list that ends with NULL. */
static enum guard_judgement judge(const char *const *allow, const char *const *deny, const char *method,
                                  const char *target) {
    struct guard_rule rules[2][8];
    struct guard_rules all = {.allow = rules[0], .deny = rules[1]};
    const struct guard_rule *rule;
    struct ht_errmsg err;
    for (; allow && allow[all.n_allow]; all.n_allow++)
        CU_ASSERT_EQUAL_FATAL(guard_rule_parse(&all.allow[all.n_allow], allow[all.n_allow], &err), HT_OK);
    for (; deny && deny[all.n_deny]; all.n_deny++)
        CU_ASSERT_EQUAL_FATAL(guard_rule_parse(&all.deny[all.n_deny], deny[all.n_deny], &err), HT_OK);
    enum guard_judgement j = guard_rules_judge(&all, ht_slice_str(method), ht_slice_str(target), scratch, &rule);
    for (size_t i = 0; i < all.n_allow; i++)
        guard_rule_free(&all.allow[i]);
    for (size_t i = 0; i < all.n_deny; i++)
        guard_rule_free(&all.deny[i]);
    return j;
}

#define RULES(...) ((const char *const[]){__VA_ARGS__, NULL})
#define GOOD GUARD_JUDGED_GOOD
#define DENIED GUARD_JUDGED_DENIED
#define UNNAMED GUARD_JUDGED_UNNAMED
#define FOUL GUARD_JUDGED_AMBIGUOUS

struct row {
    const char *method, *target;
    enum guard_judgement want;
};

static void check(const char *const *allow, const char *const *deny, const struct row *rows, size_t n) {
    for (size_t i = 0; i < n; i++) {
        enum guard_judgement got = judge(allow, deny, rows[i].method, rows[i].target);
        if (got != rows[i].want)
            printf("# %s %s: %d\n", rows[i].method, rows[i].target, got);
        CU_ASSERT_EQUAL(got, rows[i].want);
    }
}

static void what_is_allowed(void) {
    static const struct row rows[] = {
        {"GET", "/v1/models", GOOD},
        {"HEAD", "/v1/models", GOOD},
        {"GET", "/v1/models?limit=3", GOOD},
        {"GET", "/v1/%6Dodels", GOOD},
        {"GET", "/v1/models/", UNNAMED},
        {"GET", "/v1/model", UNNAMED},
        {"GET", "/V1/models", UNNAMED},
        {"POST", "/v1/models", UNNAMED},
        {"get", "/v1/models", UNNAMED},
        {"POST", "/v1/chat/completions", GOOD},
        {"POST", "/v1/chat/a/b", GOOD},
        {"POST", "/v1/chat/", GOOD},
        {"POST", "/v1/chat", UNNAMED},
        {"GET", "/users/7/name", GOOD},
        {"GET", "/users/7/8/name", UNNAMED},
        {"GET", "/users/7%2F8/name", UNNAMED}, /* two segments to some */
        {"GET", "/users//name", UNNAMED},      /* none to some */
        {"GET", "/files/a.txt", GOOD},
        {"GET", "/files/.txt", GOOD},
        {"GET", "/files/a.txt;x=1", UNNAMED},
        {"GET", "*", UNNAMED},
        {"OPTIONS", "*", UNNAMED},
    };
    check(RULES("GET /v1/models", "POST /v1/chat/*", "GET /users/*/name", "GET /files/*.txt"), NULL, rows,
          HT_ARRAY_LEN(rows));
}

static void what_is_denied(void) {
    static const struct row rows[] = {
        {"GET", "/", GOOD},
        {"GET", "/admin", DENIED},
        {"GET", "/ADMIN", DENIED},
        {"GET", "/%61dmin", DENIED},
        {"GET", "/%2561dmin", DENIED},
        {"GET", "//admin", DENIED},
        {"GET", "/%2Fadmin", DENIED},
        {"GET", "/admin;jsessionid=1", DENIED},
        {"GET", "/admin%3Bx", DENIED},
        {"GET", "/;x/admin", DENIED},
        {"GET", "/admin?x", DENIED},
        {"GET", "/admins", GOOD},
        {"DELETE", "/repos/a/b", DENIED},
        {"delete", "/repos/a/b", DENIED},
        {"DELETE", "/repos%2Fa", DENIED},
        {"DELETE", "/other", GOOD},
    };
    check(NULL, RULES("* /admin", "DELETE /repos/*"), rows, HT_ARRAY_LEN(rows));
}

static void a_denial_goes_before(void) {
    static const struct row rows[] = {{"GET", "/v1/a", GOOD},
                                      {"GET", "/v1/secrets", DENIED},
                                      {"GET", "/v1/%73ecrets", DENIED},
                                      {"GET", "/v2", UNNAMED}};
    check(RULES("GET /v1/*"), RULES("* /v1/secrets"), rows, HT_ARRAY_LEN(rows));
    static const struct row any[] = {{"GET", "/v1/a", DENIED}, {"POST", "/", DENIED}};
    check(NULL, RULES("* *"), any, HT_ARRAY_LEN(any));
}

static void what_nobody_honest_sends(void) {
    static const struct row rows[] = {
        {"GET", "/a/../b", FOUL},       {"GET", "/a/./b", FOUL},    {"GET", "/..", FOUL},
        {"GET", "/a/%2e%2e/b", FOUL},   {"GET", "/a/.%2E", FOUL},   {"GET", "/a/%252e%252e/b", FOUL},
        {"GET", "/a/..;x/b", FOUL},     {"GET", "/a/..%2Fb", FOUL}, {"GET", "/a%5Cb", FOUL},
        {"GET", "/a\\b", FOUL},         {"GET", "/a%00", FOUL},     {"GET", "/a%0d%0ab", FOUL},
        {"GET", "/a%zz", FOUL},         {"GET", "/a%2", FOUL},      {"GET", "/a%", FOUL},
        {"GET", "/a%25252e", FOUL},     {"GET", "", FOUL},          {"GET", "a", FOUL},
        {"GET", "/.well-known", GOOD},  {"GET", "/...", GOOD},      {"GET", "/100%25", GOOD},
        {"GET", "/group%2Fname", GOOD}, {"GET", "/@x%2fy", GOOD},   {"GET", "/a?../%00", GOOD},
        {"GET", "/a;b=c", GOOD},        {"GET", "/a%25b", GOOD},    {"GET", "/a/..;/b", FOUL},
    };
    check(NULL, NULL, rows, HT_ARRAY_LEN(rows));
    char *deep = malloc(GUARD_PATH_MAX + 2);
    memset(deep, 'a', GUARD_PATH_MAX + 1);
    deep[0] = '/';
    deep[GUARD_PATH_MAX + 1] = '\0';
    CU_ASSERT_EQUAL(judge(NULL, NULL, "GET", deep), FOUL);
    deep[GUARD_PATH_MAX] = '\0';
    CU_ASSERT_EQUAL(judge(NULL, NULL, "GET", deep), GOOD);
    free(deep);
}

static void rules_that_are_none(void) {
    static const char *const bad[] = {"",           "GET",       "/v1",      "GET v1",    "get /v1",
                                      "GET /a%20b", "GET /a?b",  "GET /a b", "GET /a//b", "GET /a/../b",
                                      "GET /**",    "GET /a*b*", "GET /a;b", "* "};
    struct guard_rule r;
    for (size_t i = 0; i < HT_ARRAY_LEN(bad); i++) {
        struct ht_errmsg err = {""};
        CU_ASSERT_EQUAL(guard_rule_parse(&r, bad[i], &err), HT_EINVAL);
        CU_ASSERT(strstr(err.text, "as in") != NULL);
    }
    static const char *const good[] = {"GET /", "* *", "GET  /a", "GET /*", "GET /a/*/b*c/d*", "PATCH /a/"};
    for (size_t i = 0; i < HT_ARRAY_LEN(good); i++) {
        CU_ASSERT_EQUAL(guard_rule_parse(&r, good[i], NULL), HT_OK);
        guard_rule_free(&r);
    }
}

static void how_often(void) {
    struct guard_rate r = {0};
    CU_ASSERT_EQUAL(guard_rate_take(&r, 5), 0);
    CU_ASSERT_EQUAL(guard_rate_parse(&r, "3/m", NULL), HT_OK);
    for (int i = 0; i < 3; i++)
        CU_ASSERT_EQUAL(guard_rate_take(&r, 1000), 0);
    CU_ASSERT_EQUAL(guard_rate_take(&r, 1000), 20);
    CU_ASSERT_EQUAL(guard_rate_take(&r, 11000), 10);
    CU_ASSERT_EQUAL(guard_rate_take(&r, 21000), 0);
    CU_ASSERT_EQUAL(guard_rate_take(&r, 21000), 20);
    for (int i = 0; i < 3; i++) /* an hour fills it, and no more */
        CU_ASSERT_EQUAL(guard_rate_take(&r, 3621000), 0);
    CU_ASSERT(guard_rate_take(&r, 3621000) > 0);
    static const char *const bad[] = {"", "3", "0/s", "3/d", "-1/s", "3/ms", "x/s", "3/", " 3/s", "2000000/s"};
    for (size_t i = 0; i < HT_ARRAY_LEN(bad); i++)
        CU_ASSERT_EQUAL(guard_rate_parse(&r, bad[i], NULL), HT_EINVAL);
}

int main(void) {
    static const struct tap_test tests[] = {
        {"requests that a rule allows are allowed", what_is_allowed},
        {"requests that a rule denies are denied", what_is_denied},
        {"deny goes before allow", a_denial_goes_before},
        {"paths that no honest client sends are refused", what_nobody_honest_sends},
        {"malformed rules are refused", rules_that_are_none},
        {"rates allow a burst and then an even flow", how_often},
        {NULL, NULL},
    };
    return tap_main("guard rules", tests);
}
