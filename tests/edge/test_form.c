/* What a browser sends from the page to log in: forms, ways back, origins. */
#include "edge/form.h"
#include "haproxy_gen.h"
#include "support/tap.h"

#include <stdio.h>

static void forms(void) {
    static const struct {
        const char *body, *user, *password;
        unsigned users;
        bool user_long, password_long;
    } rows[] = {
        {"user=ann&password=a%26b", "ann", "a&b", 1, false, false},
        {"password=+%2B%20&user=", "", " + ", 1, false, false},
        {"us%65r=ann&password=x&other=1", "ann", "x", 1, false, false},
        {"user=ann&user=bob&password=x", "bob", "x", 2, false, false},
        {"user=a&user=b&user=c", "c", "", 2, false, false},
        {"User=ann&user[]=x&userx=1&use=2", "", "", 0, false, false},
        {"", "", "", 0, false, false},
        {"&&&=&user", "", "", 1, false, false},
        {"user=%&password=%4", "%", "%4", 1, false, false},
        {"user=a%00b&password=%zz", "", "%zz", 1, true, false},
        {"user=12345678&password=123456789", "12345678", "", 1, false, true},
        {"user=123456789&user=ann", "ann", "", 2, false, false},
        {"user=%f0%9f%98%80=", "\xf0\x9f\x98\x80=", "", 1, false, false},
    };
    for (size_t i = 0; i < HT_ARRAY_LEN(rows); i++) {
        char user[8], password[8];
        struct edge_form_member m[] = {{.name = "user", .out = user, .cap = sizeof user},
                                       {.name = "password", .out = password, .cap = sizeof password}};
        edge_form_read(ht_slice_str(rows[i].body), m, 2);
        bool ok = ht_slice_is(ht_slice_of(user, m[0].n), rows[i].user) &&
                  ht_slice_is(ht_slice_of(password, m[1].n), rows[i].password) && m[0].times == rows[i].users &&
                  m[0].too_long == rows[i].user_long && m[1].too_long == rows[i].password_long;
        if (!ok)
            printf("# %s: \"%.*s\" %u, \"%.*s\"\n", rows[i].body, (int)m[0].n, user, m[0].times, (int)m[1].n, password);
        CU_ASSERT_TRUE(ok);
    }
}

static void ways_back(void) {
    static const char *const good[] = {"/",     "/a", "/a/../b?c=//d&e=http://x", "/.hoody-edge", "/%5c%0d%0a", "/a#b",
                                       "/.//x", "/~"};
    static const char *const bad[] = {"",
                                      "a",
                                      "//",
                                      "//evil.example/",
                                      "/\\evil.example",
                                      "/a\\b",
                                      "\\\\x",
                                      " /a",
                                      "/ a",
                                      "/a\r\nb",
                                      "/a\tb",
                                      "/a\x7f",
                                      "/\xc3\xa4",
                                      "http://x/",
                                      "https:/x",
                                      "javascript:x",
                                      "?a",
                                      "#a",
                                      ".",
                                      "*",
                                      HAPROXY_LOGIN_PATH,
                                      HAPROXY_LOGIN_PATH "login",
                                      HAPROXY_LOGIN_PATH "logout?a"};
    char longest[EDGE_RETURN_MAX + 2];
    for (size_t i = 0; i < HT_ARRAY_LEN(good); i++)
        CU_ASSERT_TRUE(edge_is_return(ht_slice_str(good[i])));
    for (size_t i = 0; i < HT_ARRAY_LEN(bad); i++) {
        if (edge_is_return(ht_slice_str(bad[i])))
            printf("# %s\n", bad[i]);
        CU_ASSERT_FALSE(edge_is_return(ht_slice_str(bad[i])));
    }
    memset(longest, 'a', sizeof longest);
    longest[0] = '/';
    CU_ASSERT_TRUE(edge_is_return(ht_slice_of(longest, EDGE_RETURN_MAX)));
    CU_ASSERT_FALSE(edge_is_return(ht_slice_of(longest, EDGE_RETURN_MAX + 1)));
    CU_ASSERT_FALSE(edge_is_return(ht_slice_of("/a\0b", 4)));
}

static void origins(void) {
    static const struct {
        const char *host, *origin, *site;
        bool own;
    } rows[] = {
        {"a.example", "https://a.example", "", true},
        {"A.example", "https://a.example", "same-origin", true},
        {"a.example:443", "https://a.example", "", true},
        {"a.example", "https://a.example:443", "", true},
        {"a.example:8443", "https://a.example:8443", "", true},
        {"a.example", "", "same-origin", true},
        {"a.example", "", "", false},
        {"a.example", "https://a.example", "cross-site", false},
        {"a.example", "https://a.example", "same-site", false},
        {"a.example", "https://a.example", "none", false},
        {"a.example", "null", "same-origin", false},
        {"a.example", "http://a.example", "", false},
        {"a.example", "https://a.example/", "", false},
        {"a.example", "https://b.a.example", "", false},
        {"a.example", "https://a.example.evil", "", false},
        {"a.example:8443", "https://a.example", "", false},
        {"a.example", "https://a.example:8443", "", false},
        {"a.example", "https://", "", false},
        {"", "https://", "", false},
        {"", "https://:443", "", false},
    };
    for (size_t i = 0; i < HT_ARRAY_LEN(rows); i++) {
        bool own =
            edge_is_own_form(ht_slice_str(rows[i].host), ht_slice_str(rows[i].origin), ht_slice_str(rows[i].site));
        if (own != rows[i].own)
            printf("# row %zu\n", i);
        CU_ASSERT_EQUAL(own, rows[i].own);
    }
}

static const struct tap_test tests[] = {
    {"forms: encoded names and values, twice, too long, with a NUL", forms},
    {"ways back: a path of the same host, and nothing else", ways_back},
    {"origins: a page of the same host, and of no other", origins},
    {NULL, NULL},
};

int main(void) { return tap_main("edge, form", tests); }
