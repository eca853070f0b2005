/* What is a secret, and what is shown in its place. */
#include "base/mem.h"
#include "inspect/mask.h"
#include "support/tap.h"

#include <stdio.h>

#define D INSPECT_DOTS

static void expect(struct ht_buf *b, const char *want) {
    if (!ht_slice_is(ht_buf_slice(b), want))
        printf("# %.*s\n# instead of %s\n", HT_SLICE_ARG(ht_buf_slice(b)), want);
    CU_ASSERT(ht_slice_is(ht_buf_slice(b), want));
    ht_buf_free(b);
}

static void names(void) {
    static const char *const further[] = {"X-Mine"};
    static const char *const yes[] = {"Authorization", "PROXY-AUTHORIZATION", "cookie",
                                      "Set-Cookie",    "X-Auth-Token",        "X-My-Secret",
                                      "Api-Key",       "X-Hub-Signature-256", "x-mine"};
    static const char *const no[] = {"Content-Type", "Cookies", "X-Min", "Authorizations", "Api", ""};
    static const char *const members[] = {"password", "API_KEY", "apiKey", "user[passwd]", "access_token"};
    struct inspect_secrets s;
    CU_ASSERT_EQUAL_FATAL(inspect_secrets_init(&s, further, 1), 0);
    for (size_t i = 0; i < HT_ARRAY_LEN(yes); i++)
        CU_ASSERT(inspect_is_secret(&s, ht_slice_str(yes[i])));
    for (size_t i = 0; i < HT_ARRAY_LEN(no); i++)
        CU_ASSERT(!inspect_is_secret(&s, ht_slice_str(no[i])));
    for (size_t i = 0; i < HT_ARRAY_LEN(members); i++)
        CU_ASSERT(inspect_is_secret_member(&s, ht_slice_str(members[i])));
    CU_ASSERT(!inspect_is_secret(NULL, ht_slice_str("X-Mine")));
    CU_ASSERT(!inspect_is_secret(NULL, ht_slice_str("password")));
    inspect_secrets_free(&s);
}

static void values(void) {
    static const char *const rows[][3] = {
        {"Authorization", "Bearer abc.def", "Bearer " D},
        {"Authorization", "basic dTpw", "basic " D},
        {"Authorization", "abcdef", D},
        {"Authorization", "hunter2 and more", D},
        {"Authorization", "", D},
        {"Cookie", "session=1; theme=dark", "session=" D "; theme=" D},
        {"Cookie", "session=a=b", "session=" D},
        {"Cookie", "bare", D},
        {"Set-Cookie", "id=1; Path=/; HttpOnly", "id=" D "; Path=/; HttpOnly"},
        {"X-Token", "Bearer abc", D},
    };
    for (size_t i = 0; i < HT_ARRAY_LEN(rows); i++) {
        struct ht_buf out = {0};
        CU_ASSERT_EQUAL(inspect_mask_value(ht_slice_str(rows[i][0]), ht_slice_str(rows[i][1]), &out), 0);
        expect(&out, rows[i][2]);
    }
}

static void targets(void) {
    static const char *const rows[][2] = {
        {"/a?b=1", "/a?b=1"},
        {"/a", "/a"},
        {"", ""},
        {"/?token=x&b=2&Access_Token=y", "/?token=" D "&b=2&Access_Token=" D},
        {"/?%74oken=x", "/?%74oken=" D},
        {"/?token", "/?token"},
        {"/?a=token", "/?a=token"},
        {"http://u:p@h/x?y=1", "http://" D "@h/x?y=1"},
    };
    for (size_t i = 0; i < HT_ARRAY_LEN(rows); i++) {
        struct ht_buf out = {0};
        CU_ASSERT_EQUAL(inspect_mask_target(NULL, ht_slice_str(rows[i][0]), &out), 0);
        expect(&out, rows[i][1]);
    }
}

static void bodies(void) {
    static const char *const rows[][3] = {
        {"application/json", "{\"password\": \"x\\\"y\", \"b\": 1}", "{\"password\": \"" D "\", \"b\": 1}"},
        {"application/json", "{\"token\":12,\"c\":2}", "{\"token\":\"" D "\",\"c\":2}"},
        {"application/json", "{\"token\":null,\"secret\":true}", "{\"token\":null,\"secret\":true}"},
        {"application/json", "{\"secrets\":{\"a\":[1,\"}\"]},\"c\":2}", "{\"secrets\":\"" D "\",\"c\":2}"},
        {"application/json", "[{\"\\u0074oken\" : \"x\"}]", "[{\"\\u0074oken\" : \"" D "\"}]"},
        {"application/json", "{\"a\":\"token\",\"b\":\"x\"}", "{\"a\":\"token\",\"b\":\"x\"}"},
        {"application/json", "{\"token\":\"cut of", "{\"token\":\"" D "\""},
        {"application/json", "{\"token\":", "{\"token\":"},
        {"application/json", "{\"tok", "{\"tok"},
        {"application/problem+json", "{\"token\":\"x\"}", "{\"token\":\"" D "\"}"},
        {"", " {\"token\":\"x\"}", " {\"token\":\"" D "\"}"},
        {"application/x-www-form-urlencoded", "user=a&password=b", "user=a&password=" D},
        {"multipart/form-data; boundary=B",
         "--B\r\nContent-Disposition: form-data; name=\"user\"\r\n\r\nann\r\n--B\r\n"
         "content-disposition: form-data; name=\"password\"\r\n\r\nx\r\ny\r\n--B--\r\n",
         "--B\r\nContent-Disposition: form-data; name=\"user\"\r\n\r\nann\r\n--B\r\n"
         "content-disposition: form-data; name=\"password\"\r\n\r\n" D "\r\n--B--\r\n"},
        {"multipart/form-data", "--B\r\nX: name=\"token\"\r\n\r\ncut", "--B\r\nX: name=\"token\"\r\n\r\n" D "\r\n"},
        {"multipart/form-data", "--B\r\nX: name=\"tok", "--B\r\nX: name=\"tok"},
        {"multipart/form-data", "preamble", "preamble"},
        {"text/plain", "password=b", "password=b"},
        {"text/plain", "the key is sesame42, sesame42!", "the key is " D ", " D "!"},
        {"", "", ""},
    };
    struct ht_slice known[] = {ht_slice_str("sesame42"), ht_slice_str("a"), ht_slice_str("nothing")};
    for (size_t i = 0; i < HT_ARRAY_LEN(rows); i++) {
        struct ht_buf out = {0};
        CU_ASSERT_EQUAL(inspect_mask_body(NULL, ht_slice_str(rows[i][0]), ht_slice_str(rows[i][1]), known,
                                          HT_ARRAY_LEN(known), &out),
                        0);
        expect(&out, rows[i][2]);
    }
}

/* No beginning of a body, and no broken one, shows a part of the secret or reads beyond its end. */
static void cut_bodies(void) {
    static const char json[] = "[{\"\\u0074oken\" : {\"x\":[\"sesame42\\\"\"]}, \"password\":\"sesame42\"}]";
    for (size_t n = 0; n < sizeof json; n++) {
        struct ht_buf out = {0};
        char *exact = n ? ht_strndup(json, n) : NULL;
        CU_ASSERT_EQUAL(inspect_mask_body(NULL, ht_slice_str("application/json"), ht_slice_of(exact, n), NULL, 0, &out),
                        0);
        CU_ASSERT_PTR_NULL(ht_buf_size(&out) ? memmem(ht_buf_head(&out), ht_buf_size(&out), "sesame", 6) : NULL);
        ht_free(exact);
        ht_buf_free(&out);
    }
}

static void parts(void) {
    struct ht_slice got[4];
    CU_ASSERT_EQUAL(inspect_secret_parts(ht_slice_str("authorization"), ht_slice_str("Bearer abc"), got, 4), 1);
    CU_ASSERT(ht_slice_is(got[0], "abc"));
    CU_ASSERT_EQUAL(inspect_secret_parts(ht_slice_str("Cookie"), ht_slice_str("a=1; b=2"), got, 4), 2);
    CU_ASSERT(ht_slice_is(got[0], "1") && ht_slice_is(got[1], "2"));
    CU_ASSERT_EQUAL(inspect_secret_parts(ht_slice_str("Cookie"), ht_slice_str("a=1; b=2"), got, 1), 1);
    CU_ASSERT_EQUAL(inspect_secret_parts(ht_slice_str("Set-Cookie"), ht_slice_str("a=1; Path=/"), got, 4), 1);
    CU_ASSERT_EQUAL(inspect_secret_parts(ht_slice_str("X-Token"), ht_slice_str("a b"), got, 4), 1);
    CU_ASSERT(ht_slice_is(got[0], "a b"));
}

static void each_allocation_fails(void) {
    size_t blocks = ht_mem_live();
    struct ht_slice known = ht_slice_str("sesame42");
    for (long i = 0;; i++) {
        struct inspect_secrets s;
        struct ht_buf out = {0};
        ht_mem_fail_at(i);
        const char *one[] = {"X-Mine", "X-Other"};
        (void)!inspect_secrets_init(&s, one, 2);
        (void)!inspect_mask_value(ht_slice_str("cookie"), ht_slice_str("a=1; b=2"), &out);
        (void)!inspect_mask_target(&s, ht_slice_str("/?token=a"), &out);
        (void)!inspect_mask_body(&s, ht_slice_str("json"), ht_slice_str("{\"token\":1,\"a\":\"sesame42\"}"), &known, 1,
                                 &out);
        inspect_secrets_free(&s);
        ht_buf_free(&out);
        bool over = ht_mem_fail_pending();
        ht_mem_fail_at(-1);
        CU_ASSERT_EQUAL(ht_mem_live(), blocks);
        if (over)
            break;
    }
}

int main(void) {
    static const struct tap_test tests[] = {
        {"names", names},
        {"values", values},
        {"targets", targets},
        {"bodies", bodies},
        {"bodies that are cut", cut_bodies},
        {"the secret parts of a value", parts},
        {"each allocation fails", each_allocation_fails},
        {NULL, NULL},
    };
    return tap_main("inspect mask", tests);
}
