/* Which hosts the URLs of a user may have: the patterns of --users against what a binding asks for (rule USER-3). */
#include "kit/kit_priv.h"

#include "support/tap.h"

#define DOMAIN "t.test"
#define PATTERNS 3

/* One user's `names`; without any the key is missing. The host is below the domain unless it has a dot. */
static const struct row {
    const char *names[PATTERNS];
    const char *host;
    bool may;
} rows[] = {
    /* The key is missing: one domain, all of it, and no more. */
    {{NULL}, "anything." DOMAIN, true},
    {{NULL}, "3000." DOMAIN, true},
    {{NULL}, "a.b." DOMAIN, true},
    {{NULL}, DOMAIN, false},
    {{NULL}, "." DOMAIN, false},
    {{NULL}, "evil" DOMAIN, false},
    {{NULL}, "a." DOMAIN ".evil.test", false},
    {{NULL}, "app.example.com", false},
    {{NULL}, "test", false},
    /* A label without a star. */
    {{"bob"}, "bob." DOMAIN, true},
    {{"bob"}, "bo." DOMAIN, false},
    {{"bob"}, "bobb." DOMAIN, false},
    {{"bob"}, "abob." DOMAIN, false},
    {{"bob"}, "bob.x." DOMAIN, false},
    {{"bob"}, "x.bob." DOMAIN, false},
    {{"bob"}, "bob.example.com", false},
    {{"bob"}, "bob", false},
    {{"bob"}, "bob-3000." DOMAIN, false},
    /* A star at an end, at both, in the middle, alone. */
    {{"bob-*"}, "bob-3000." DOMAIN, true},
    {{"bob-*"}, "bob-." DOMAIN, true},
    {{"bob-*"}, "bob." DOMAIN, false},
    {{"bob-*"}, "bobby-3000." DOMAIN, false},
    {{"bob-*"}, "bob-a.b." DOMAIN, false},
    {{"bob-*"}, "bob-a.example.com", false},
    {{"*-bob"}, "x-bob." DOMAIN, true},
    {{"*-bob"}, "x-bob-y." DOMAIN, false},
    {{"*-bob"}, "x-bob-bob." DOMAIN, true},
    {{"*bob*"}, "bob." DOMAIN, true},
    {{"*bob*"}, "xbbobx." DOMAIN, true},
    {{"*bob*"}, "xboxb." DOMAIN, false},
    {{"b*b"}, "bb." DOMAIN, true},
    {{"b*b"}, "b-x-b." DOMAIN, true},
    {{"b*b"}, "b." DOMAIN, false},
    {{"*"}, "anything." DOMAIN, true},
    {{"*"}, "a.b." DOMAIN, false},
    {{"*"}, "app.example.com", false},
    {{"*"}, "example", false},
    {{"**"}, "anything." DOMAIN, true},
    {{"xn--*"}, "xn--bcher-kva." DOMAIN, true},
    /* Own domains: all labels of them, each star in one of them. */
    {{"app.bob.example"}, "app.bob.example", true},
    {{"app.bob.example"}, "xapp.bob.example", false},
    {{"app.bob.example"}, "x.app.bob.example", false},
    {{"app.bob.example"}, "app.bob.example.org", false},
    {{"app.bob.example"}, "app.bob.example." DOMAIN, false},
    {{"app.bob.example"}, "app." DOMAIN, false},
    {{"*.bob.example"}, "app.bob.example", true},
    {{"*.bob.example"}, "bob.example", false},
    {{"*.bob.example"}, "a.app.bob.example", false},
    {{"*.bob.example"}, "appxbob.example", false},
    {{"*.*.example"}, "a.b.example", true},
    {{"*.*.example"}, "b.example", false},
    {{"*.example*"}, "a.example.org", false},
    {{"a*.example"}, "a.b.example", false},
    {{"*.*"}, "example.org", true},
    {{"*.*"}, "a.example.org", false},
    /* The domain may be spelled out. */
    {{"bob-*." DOMAIN}, "bob-1." DOMAIN, true},
    {{"bob-*." DOMAIN}, "ann-1." DOMAIN, false},
    {{"*." DOMAIN}, DOMAIN, false},
    /* Any of several. */
    {{"ann", "bob-*", "*.bob.example"}, "ann." DOMAIN, true},
    {{"ann", "bob-*", "*.bob.example"}, "bob-1." DOMAIN, true},
    {{"ann", "bob-*", "*.bob.example"}, "a.bob.example", true},
    {{"ann", "bob-*", "*.bob.example"}, "carl." DOMAIN, false},
};

static struct kit_user user_with(const char *const *names, bool given) {
    struct kit_user u = {.name = "bob", .may = {.modes = KIT_MODES_ALL, .names_given = given}};
    u.may.names = (char **)(uintptr_t)names;
    while (u.may.n_names < PATTERNS && names[u.may.n_names])
        u.may.n_names++;
    return u;
}

static void each_pattern(void) {
    for (size_t i = 0; i < HT_ARRAY_LEN(rows); i++) {
        const struct row *r = &rows[i];
        struct kit_user u = user_with(r->names, r->names[0] != NULL);
        struct ht_errmsg err = {""};
        bool may = user_may_name(&u, r->host, DOMAIN, &err);
        if (may != r->may)
            printf("# %s is %s by %s\n", r->host, may ? "allowed" : "refused", r->names[0] ? r->names[0] : "no names");
        CU_ASSERT_EQUAL(may, r->may);
        CU_ASSERT_EQUAL(err.text[0] == '\0', may);
    }
}

static void none_at_all(void) {
    static const char *const none[PATTERNS] = {NULL};
    static const char *const hosts[] = {"bob." DOMAIN, "app.bob.example", "." DOMAIN};
    struct kit_user u = user_with(none, true);
    for (size_t i = 0; i < HT_ARRAY_LEN(hosts); i++)
        CU_ASSERT_FALSE(user_may_name(&u, hosts[i], DOMAIN, NULL));
    u.admin = true;
    for (size_t i = 0; i < HT_ARRAY_LEN(hosts); i++)
        CU_ASSERT(user_may_name(&u, hosts[i], DOMAIN, NULL));
}

static void the_words_say_what_may_be_had(void) {
    static const char *const some[PATTERNS] = {"bob-*", "app.bob.example"}, *const none[PATTERNS] = {NULL};
    static const struct {
        const char *const *names;
        bool given;
        const char *says;
    } texts[] = {
        {some, true, "the user bob may not have the host ann.example.org; the user's names are bob-*, app.bob.example"},
        {none, true, "the user bob may not have the host ann.example.org; the user's names are none"},
        {none, false, "the user bob may not have the host ann.example.org; the user's names are those below " DOMAIN},
    };
    for (size_t i = 0; i < HT_ARRAY_LEN(texts); i++) {
        struct kit_user u = user_with(texts[i].names, texts[i].given);
        struct ht_errmsg err = {""};
        CU_ASSERT_FALSE(user_may_name(&u, "ann.example.org", DOMAIN, &err));
        CU_ASSERT_STRING_EQUAL(err.text, texts[i].says);
    }
}

/* As many as a file may have, each as long as they get: what is told ends, and nothing is written behind it. */
static void many_long_names(void) {
    static char text[64][254];
    static char *names[64];
    for (size_t i = 0; i < HT_ARRAY_LEN(names); i++) {
        memset(text[i], 'a', i % 2 ? 253 : 40);
        names[i] = text[i];
    }
    struct kit_user u = {.name = "bob", .may = {.names_given = true, .names = names, .n_names = HT_ARRAY_LEN(names)}};
    struct ht_errmsg err = {""};
    CU_ASSERT_FALSE(user_may_name(&u, "b." DOMAIN, DOMAIN, &err));
    CU_ASSERT(strlen(err.text) < 300 && strstr(err.text, "aaa, ..."));
    u.may.names++, u.may.n_names--;
    CU_ASSERT_FALSE(user_may_name(&u, "b." DOMAIN, DOMAIN, &err));
    CU_ASSERT_PTR_NOT_NULL(strstr(err.text, "the user's names are ..."));
}

int main(void) {
    static const struct tap_test tests[] = {
        {"each pattern, and what is like it", each_pattern},
        {"an empty list allows nothing, and an admin may have all", none_at_all},
        {"a refusal says what may be had", the_words_say_what_may_be_had},
        {"a refusal by many long names is short", many_long_names},
        {NULL, NULL},
    };
    return tap_main("names of users", tests);
}
