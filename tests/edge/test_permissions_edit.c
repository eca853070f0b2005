/* Documents of permissions as texts: members that change, secrets that are hidden and put back, passwords that become
 * hashes. */
#include "auth/passwords.h"
#include "base/mem.h"
#include "edge/permissions_edit.h"
#include "support/tap.h"

#include <stdio.h>
#include <stdlib.h>

static void is(struct ht_buf *b, int rc, const char *want) {
    bool ok = rc == HT_OK && ht_slice_is(ht_buf_slice(b), want);
    if (!ok)
        printf("# %d: %.*s\n", rc, (int)ht_buf_size(b), (const char *)ht_buf_head(b));
    CU_ASSERT_TRUE(ok);
    ht_buf_free(b);
}

static void setting(void) {
    static const struct {
        const char *doc, *path[3], *value, *want; /* NULL: none */
    } rows[] = {
        {NULL, {"default"}, "\"deny\"", "{\"default\":\"deny\"}"},
        {NULL, {"groups", "a", "type"}, "1", "{\"groups\":{\"a\":{\"type\":1}}}"},
        {NULL, {"groups", "a"}, NULL, "{}"},
        {"{}", {"a"}, "1", "{\"a\":1}"},
        {" { \"a\" : [1, 2] , \"b\" : {} } ", {"c"}, "3", "{\"a\":[1, 2],\"b\":{},\"c\":3}"},
        {"{\"a\":1,\"b\":2,\"c\":3}", {"b"}, NULL, "{\"a\":1,\"c\":3}"},
        {"{\"a\":1,\"b\":2}", {"b"}, "{\"x\":0}", "{\"a\":1,\"b\":{\"x\":0}}"},
        {"{\"p\":{\"a\":{\"x\":1},\"b\":{}}}", {"p", "a", "y"}, "2", "{\"p\":{\"a\":{\"x\":1,\"y\":2},\"b\":{}}}"},
        {"{\"p\":{\"a\":{\"x\":1},\"b\":{}}}", {"p", "b", "y"}, "2", "{\"p\":{\"a\":{\"x\":1},\"b\":{\"y\":2}}}"},
        {"{\"p\":{\"a\":{\"x\":1},\"b\":{}}}", {"p", "a"}, NULL, "{\"p\":{\"b\":{}}}"},
        {"{\"p\":{}}", {"p", "a", "y"}, NULL, "{\"p\":{}}"},
        {"{\"\\u00e4b\":{\"c\\u0064\":1}}", {"a"}, "1", "{\"\303\244b\":{\"c\\u0064\":1},\"a\":1}"},
        {"[]", {"a"}, "1", NULL},
        {"{\"a\":1} x", {"b"}, "1", NULL},
        {"{\"a\":1", {"b"}, "1", NULL},
        {"{\"p\":1}", {"p", "a"}, "1", NULL},
        {"{\"x\\\"y\":1}", {"a"}, "1", NULL},
    };
    for (size_t i = 0; i < HT_ARRAY_LEN(rows); i++) {
        struct ht_buf b = {0};
        size_t n = rows[i].path[1] ? rows[i].path[2] ? 3 : 2 : 1;
        int rc = edge_permissions_set(ht_slice_str(rows[i].doc), rows[i].path, n, ht_slice_str(rows[i].value), &b);
        if (rows[i].want) {
            is(&b, rc, rows[i].want);
        } else {
            CU_ASSERT_EQUAL(rc, HT_EINVAL);
            ht_buf_free(&b);
        }
    }
    static const char *const path[] = {"p", "a", "x"}, *const none[] = {"p", "c", "x"};
    struct ht_slice doc = ht_slice_str("{\"q\":0,\"p\":{\"b\":1,\"a\":{\"x\": \"v\" }}}");
    CU_ASSERT_TRUE(ht_slice_is(edge_permissions_get(doc, path, 3), "\"v\""));
    CU_ASSERT_PTR_NULL(edge_permissions_get(doc, none, 3).p);
    CU_ASSERT_PTR_NULL(edge_permissions_get(ht_slice_str(NULL), path, 3).p);
    CU_ASSERT_PTR_NULL(edge_permissions_get(ht_slice_str("{\"p\":7}"), path, 3).p);
}

#define OLD                                                                                                            \
    "{\"default\":\"deny\",\"groups\":{\"a\":{\"type\":\"token\",\"value\":\"v1\",\"header\":\"x\"},"                  \
    "\"b\":{\"type\":\"jwt\",\"secret\":\"s1\",\"claims\":{\"value\":\"kept\"}}},\"value\":\"kept\"}"

static void secrets(void) {
    struct ht_buf b = {0}, back = {0};
    CU_ASSERT_EQUAL(edge_permissions_hide(ht_slice_str(OLD), &b), 0);
    CU_ASSERT_TRUE(ht_slice_is(ht_buf_slice(&b),
                               "{\"default\":\"deny\",\"groups\":{\"a\":{\"type\":\"token\",\"value\":\"***\","
                               "\"header\":\"x\"},\"b\":{\"type\":\"jwt\",\"secret\":\"***\",\"claims\":"
                               "{\"value\":\"kept\"}}},\"value\":\"kept\"}"));
    is(&back, edge_permissions_unhide(ht_buf_slice(&b), ht_slice_str(OLD), &back), OLD);
    ht_buf_free(&b);
    /* What was changed stays changed, and what no group had cannot be put back. */
    is(&back,
       edge_permissions_unhide(
           ht_slice_str(
               "{\"groups\":{\"a\":{\"value\":\"new\"},\"c\":{\"value\":\"***\"},\"b\":{\"value\":\"***\"},\"d\":7}}"),
           ht_slice_str(OLD), &back),
       "{\"groups\":{\"a\":{\"value\":\"new\"},\"c\":{\"value\":\"***\"},\"b\":{\"value\":\"***\"},\"d\":7}}");
    CU_ASSERT_EQUAL(edge_permissions_hide(ht_slice_str("{\"groups\":{\"a\":{\"value\":}}}"), &b), HT_EINVAL);
    ht_buf_free(&b);
}

#define PASSWORD(more) "{\"groups\":{\"a\":{\"type\":\"password\",\"username\":\"ann\"" more "}}}"

static void passwords(void) {
    static const struct {
        const char *doc, *says;
    } bad[] = {
        {PASSWORD(",\"password\":\"$1$x$y\""), "no hash of one that is good enough"},
        {PASSWORD(",\"password\":\"***\""), "this is no password"},
        {PASSWORD(",\"password\":\"\""), "this is no password"},
        {PASSWORD(",\"password\":\"sesame\",\"algorithm\":\"sha256\""), "64 hexadecimal digits"},
        {"[]", "no document of permissions"},
    };
    struct ht_buf b = {0};
    struct ht_errmsg e;
    struct edge_plains plains = {.n = 0};
    for (size_t i = 0; i < HT_ARRAY_LEN(bad); i++) {
        CU_ASSERT(edge_permissions_hash(ht_slice_str(bad[i].doc), &plains, &b, &e) == HT_EINVAL &&
                  strstr(e.text, bad[i].says));
        CU_ASSERT_PTR_NULL(strstr(e.text, "sesame"));
        ht_buf_free(&b);
    }
    static const char *const path[] = {"groups", "a", "password"};
    static const struct {
        const char *doc, *fits;
    } good[] = {
        {PASSWORD(",\"password\":\"ses\\u0061me\""), "sesame"},
        {PASSWORD(",\"algorithm\":\"sha256\",\"password\":"
                  "\"ABCDEF0123456789abcdef0123456789abcdef0123456789abcdef0123456789\""),
         "abcdef0123456789abcdef0123456789abcdef0123456789abcdef0123456789"},
    };
    for (size_t i = 0; i < HT_ARRAY_LEN(good); i++) {
        struct edge_plains p = {.n = 0}, none = {.n = 0};
        CU_ASSERT_EQUAL(edge_permissions_hash(ht_slice_str(good[i].doc), &p, &b, &e), 0);
        CU_ASSERT(p.n == 1 && strcmp(p.all[0].text, good[i].fits) == 0);
        CU_ASSERT(ht_slice_is(edge_permissions_get(ht_buf_slice(&b), path, 3), "\"" AUTH_NOBODY_HASH "\""));
        CU_ASSERT_PTR_NULL(auth_hash_fault(AUTH_NOBODY_HASH));
        ht_buf_free(&b);
        CU_ASSERT_EQUAL(auth_password_hash(p.all[0].text, p.all[0].hash, &e), 0);
        p.made = true;
        CU_ASSERT_EQUAL(edge_permissions_hash(ht_slice_str(good[i].doc), &p, &b, &e), 0);
        struct ht_slice json = edge_permissions_get(ht_buf_slice(&b), path, 3);
        CU_ASSERT(json.n > 2 && ht_slice_is(ht_slice_of(json.p + 1, json.n - 2), p.all[0].hash));
        /* Once more: it is a hash already. */
        struct ht_buf again = {0};
        CU_ASSERT_EQUAL(edge_permissions_hash(ht_buf_slice(&b), &none, &again, &e), 0);
        CU_ASSERT(ht_slice_eq(ht_buf_slice(&again), ht_buf_slice(&b)) && none.n == 0);
        ht_buf_free(&again);
        ht_buf_free(&b);
    }
    /* A password of another kind of group is none; too many are refused. */
    static const char other[] = "{\"groups\":{\"a\":{\"type\":\"token\",\"password\":\"x\"}}}";
    is(&b, edge_permissions_hash(ht_slice_str(other), &plains, &b, &e), other);
    CU_ASSERT_EQUAL(ht_buf_append_str(&b, "{\"groups\":{"), 0);
    for (unsigned i = 0; i <= EDGE_PLAIN_PASSWORDS; i++)
        CU_ASSERT_EQUAL(ht_buf_printf(&b, "%s\"g%u\":{\"type\":\"password\",\"password\":\"p\"}", i ? "," : "", i), 0);
    CU_ASSERT_EQUAL(ht_buf_append_str(&b, "}}"), 0);
    struct ht_buf out = {0};
    CU_ASSERT(edge_permissions_hash(ht_buf_slice(&b), &plains, &out, &e) == HT_EINVAL &&
              strstr(e.text, "at most 4 passwords"));
    ht_buf_free(&b);
    ht_buf_free(&out);
}

static void no_memory(void) {
    static const char *const path[] = {"groups", "a", "header"};
    for (int kind = 0; kind < 3; kind++)
        for (long i = 0;; i++) {
            struct ht_buf b = {0};
            ht_mem_fail_at(i);
            int rc = kind == 0   ? edge_permissions_set(ht_slice_str(OLD), path, 3, ht_slice_str("1"), &b)
                     : kind == 1 ? edge_permissions_hide(ht_slice_str(OLD), &b)
                                 : edge_permissions_unhide(ht_slice_str(OLD), ht_slice_str(OLD), &b);
            bool failed = !ht_mem_fail_pending();
            ht_mem_fail_at(-1);
            CU_ASSERT_EQUAL(rc, failed ? HT_ENOMEM : HT_OK);
            ht_buf_free(&b);
            CU_ASSERT_EQUAL(ht_mem_live(), 0);
            if (!failed || i > 50)
                break;
        }
}

static const struct tap_test tests[] = {
    {"one member is set, made or taken away, at any depth", setting},
    {"secrets are hidden, and put back by their groups", secrets},
    {"passwords become hashes; digests of another system, too", passwords},
    {"each allocation fails", no_memory},
    {NULL, NULL},
};

int main(void) { return tap_main("edge, permissions as texts", tests); }
