/* Own domains without an ACME server: when certificates are due, what lego's words become, what a PEM may have, names.
 */
#include "base/mem.h"
#include "edge/acme_plan.h"
#include "edge/aliases.h"
#include "edge/domains.h"
#include "support/tap.h"

#include <stdio.h>
#include <stdlib.h>

#define DAY ACME_DAY_MS
#define P "67e89abc123def456789abcd"
#define Q "0123456789abcdef01234567"

/* ---- when ---- */

static void renewal_is_due_with_a_third_left(void) {
    int64_t ends = 90 * DAY;
    CU_ASSERT_EQUAL(acme_renew_at(0, ends, 0), 60 * DAY);
    CU_ASSERT_EQUAL(acme_renew_at(0, ends, UINT32_MAX), 60 * DAY - 90 * DAY / 20);
    for (uint32_t i = 0; i < 64; i++) {
        int64_t at = acme_renew_at(1000 * DAY, 1006 * DAY, i * 67108863u);
        CU_ASSERT_TRUE(at <= 1004 * DAY && at >= 1003 * DAY);
    }
    CU_ASSERT_EQUAL(acme_renew_at(DAY, DAY, 7), DAY); /* it never was good */
    CU_ASSERT_EQUAL(acme_renew_at(2 * DAY, DAY, 7), DAY);
    CU_ASSERT_EQUAL(acme_spread("a.test"), acme_spread("a.test"));
    CU_ASSERT_NOT_EQUAL(acme_spread("a.test"), acme_spread("b.test"));
}

static void waits_double_up_to_a_day(void) {
    uint64_t minute = 60000, middle = UINT32_MAX / 2;
    for (unsigned n = 1; n < 100; n++) {
        uint64_t want = n > 20 ? (uint64_t)DAY : ht_min64(10 * minute << (n - 1), DAY);
        uint64_t least = acme_wait_ms(10 * minute, n, 0), most = acme_wait_ms(10 * minute, n, UINT32_MAX);
        CU_ASSERT_EQUAL(least, want - want / 4);
        CU_ASSERT_TRUE(most >= want + want / 4 - 1 && most <= want + want / 4 + 1);
        uint64_t half = acme_wait_ms(10 * minute, n, (uint32_t)middle);
        CU_ASSERT_TRUE(half > want - 10 && half < want + 10);
    }
    CU_ASSERT_TRUE(acme_wait_ms(1000, 0, 0) == 750);
    CU_ASSERT_TRUE(acme_wait_ms(UINT64_MAX, UINT32_MAX, UINT32_MAX) <= (uint64_t)DAY + DAY / 4);
}

static void the_ledger_counts_a_day(void) {
    struct acme_ledger l = {0}, again = {0};
    struct ht_buf text = {0};
    int64_t now = 1000 * DAY;
    CU_ASSERT_EQUAL(acme_ledger_free_at(&l, now, 1), now);
    for (int i = 0; i < 40; i++)
        CU_ASSERT_EQUAL(acme_ledger_add(&l, now + i * 1000), HT_OK);
    now += 40000;
    CU_ASSERT_EQUAL(acme_ledger_count(&l, now), 40);
    CU_ASSERT_EQUAL(acme_ledger_free_at(&l, now, 41), now);
    CU_ASSERT_EQUAL(acme_ledger_free_at(&l, now, 40), 1000 * DAY + DAY);
    CU_ASSERT_EQUAL(acme_ledger_free_at(&l, now, 10), 1000 * DAY + 30 * 1000 + DAY);
    CU_ASSERT_EQUAL(acme_ledger_put(&l, &text), HT_OK);
    CU_ASSERT_EQUAL(acme_ledger_read(&again, ht_buf_slice(&text)), HT_OK);
    CU_ASSERT_EQUAL(again.n, 40);
    CU_ASSERT_EQUAL(again.at[39], l.at[39]);
    CU_ASSERT_EQUAL(acme_ledger_count(&again, 1000 * DAY + DAY + 10500), 29);
    /* The clock is set back, or was wrong by years. */
    CU_ASSERT_EQUAL(acme_ledger_count(&l, now - DAY / 2), 40);
    CU_ASSERT_EQUAL(acme_ledger_count(&l, now - 400 * DAY), 0);
    static const char *const bad[] = {"",
                                      "{}",
                                      "[]",
                                      "{\"orders\":1}",
                                      "{\"orders\":[-1]}",
                                      "{\"orders\":[1.5]}",
                                      "{\"orders\":[1]",
                                      "{\"orders\":[1]}x",
                                      "{\"orders\":[1],\"a\":1}",
                                      "{\"orders\":[18446744073709551615]}",
                                      "{\"order\":[]}"};
    for (size_t i = 0; i < HT_ARRAY_LEN(bad); i++)
        CU_ASSERT_EQUAL(acme_ledger_read(&again, ht_slice_str(bad[i])), HT_EPROTO);
    ht_mem_fail_at(0);
    struct acme_ledger none = {0};
    CU_ASSERT_EQUAL(acme_ledger_add(&none, 1), HT_ENOMEM);
    ht_mem_fail_at(-1);
    acme_ledger_free(&l);
    acme_ledger_free(&again);
    ht_buf_free(&text);
    CU_ASSERT_EQUAL(ht_mem_live(), 0);
}

static void attempts_are_kept(void) {
    struct acme_record r = {.failures = 3,
                            .running = true,
                            .next = 1796005834104,
                            .error = "it said \"no\" \\ \x01 \xc3\xbc"},
                       got;
    struct ht_buf text = {0};
    CU_ASSERT_EQUAL(acme_record_put(&r, &text), HT_OK);
    CU_ASSERT_EQUAL(acme_record_read(&got, ht_buf_slice(&text)), HT_OK);
    CU_ASSERT_TRUE(got.failures == 3 && got.running && got.next == r.next);
    CU_ASSERT_STRING_EQUAL(got.error, r.error);
    static const char *const bad[] = {"",
                                      "{",
                                      "[]",
                                      "{\"failures\":-1}",
                                      "{\"next\":1.5}",
                                      "{\"running\":1}",
                                      "{\"error\":1}",
                                      "{\"x\":1}",
                                      "{\"failures\":4294967296}",
                                      "{} {}"};
    for (size_t i = 0; i < HT_ARRAY_LEN(bad); i++) {
        CU_ASSERT_EQUAL(acme_record_read(&got, ht_slice_str(bad[i])), HT_EPROTO);
        CU_ASSERT_EQUAL(got.failures, 0);
    }
    memset(r.error, '\x01', sizeof r.error - 1); /* what becomes longest, and comes back whole */
    ht_buf_consume(&text, ht_buf_size(&text));
    CU_ASSERT_EQUAL(acme_record_put(&r, &text), HT_OK);
    CU_ASSERT_EQUAL(acme_record_read(&got, ht_buf_slice(&text)), HT_OK);
    CU_ASSERT_STRING_EQUAL(got.error, r.error);
    ht_buf_free(&text);
}

/* ---- what lego says ---- */

static void says(const char *line, const struct acme_env *env, const char *want) {
    char out[ACME_ERROR];
    bool any = acme_reason(ht_slice_str(line), env, out);
    CU_ASSERT_EQUAL(any, want[0] != '\0');
    CU_ASSERT_STRING_EQUAL(out, want);
}

static void words_of_lego_are_for_people(void) {
    struct acme_env env;
    struct ht_errmsg err;
    char out[ACME_ERROR], longer[4096];
    says("2026/01/31 12:00:00 Could not obtain certificates:", NULL, "Could not obtain certificates:");
    says("\terror: one or more domains had a problem:", NULL, "error: one or more domains had a problem:");
    says("[a.test] acme: error: 403 :: urn:ietf:params:acme:error:unauthorized :: Error", NULL,
         "[a.test] acme: error: 403 :: urn:ietf:params:acme:error:unauthorized :: Error");
    says("", NULL, "");
    says("2026/01/31 12:00:00 ", NULL, "");
    says("2026/01/31 12:00:0", NULL, "2026/01/31 12:00:0");
    says("did not match \"LoqXcYV8q5ONbJQxbmR7SCTNo3tiAXDfowyjxAjEuX0.9jg46WB3rR_AHD-EBXdN7cBkH1WOu0tA3M9fm21mqTI\" != "
         "\"hm\"",
         NULL, "did not match \"***.***\" != \"hm\"");
    says("a \x1b[31mred\x07 word, \xff \xe2\x80\xae x", NULL, "a \\x1b[31mred\\x07 word, \\xff \\u202e x");
    CU_ASSERT_EQUAL(
        acme_env_read(&env, ht_slice_str("# of a provider\nTOKEN=hush-hush\r\nSHORT=abc\n\nEMPTY=\nPW=a b=c d"), &err),
        HT_OK);
    CU_ASSERT_EQUAL(env.n, 4);
    CU_ASSERT_STRING_EQUAL(env.vars[0], "TOKEN=hush-hush");
    CU_ASSERT_STRING_EQUAL(env.vars[3], "PW=a b=c d");
    CU_ASSERT_PTR_NULL(env.vars[4]);
    says("the key hush-hush of abc is wronghush-hush; a b=c d", &env, "the key *** of abc is wrong***; ***");
    says("LoqXcYV8q5ONbJQxbmR7SCTNo3tiAXDfowyjxAjEuX0", &env, "***");
    memset(longer, 'a', sizeof longer);
    for (size_t i = 7; i < sizeof longer; i += 8)
        longer[i] = ' ';
    CU_ASSERT_TRUE(acme_reason(ht_slice_of(longer, sizeof longer), NULL, out) && strlen(out) < ACME_ERROR &&
                   strlen(out) > ACME_ERROR - 8);
    CU_ASSERT_TRUE(acme_reason(ht_slice_of(longer, sizeof longer), &env, out) && strlen(out) < ACME_ERROR);
    acme_env_free(&env);
    static const char *const bad[] = {"x", "A=1\n=2", "A B=1", "1A=2", "export A=1", "\xff=1"};
    for (size_t i = 0; i < HT_ARRAY_LEN(bad); i++) {
        CU_ASSERT_EQUAL(acme_env_read(&env, ht_slice_str(bad[i]), &err), HT_EINVAL);
        CU_ASSERT_PTR_NOT_NULL(strstr(err.text, i == 1 ? "line 2" : "line 1"));
        CU_ASSERT_PTR_NULL(env.text);
    }
    for (int i = 0; i < 2; i++) {
        ht_mem_fail_at(i);
        CU_ASSERT_EQUAL(acme_env_read(&env, ht_slice_str("A=1"), &err), HT_ENOMEM);
        ht_mem_fail_at(-1);
    }
    CU_ASSERT_EQUAL(ht_mem_live(), 0);
}

/* ---- PEM ---- */

#define CERT "-----BEGIN CERTIFICATE-----\nMIIB\nAA==\n-----END CERTIFICATE-----\n"
#define KEY "-----BEGIN PRIVATE KEY-----\nMIGH\n-----END PRIVATE KEY-----\n"

static void pem(const char *text, int want, const char *becomes) {
    struct ht_buf out = {0};
    struct ht_errmsg err = {""};
    CU_ASSERT_EQUAL(acme_pem_clean(ht_slice_str(text), &out, &err), want);
    if (want == HT_OK && !ht_slice_is(ht_buf_slice(&out), becomes))
        printf("# %.*s\n", HT_SLICE_ARG(ht_buf_slice(&out)));
    CU_ASSERT_TRUE(want != HT_OK || ht_slice_is(ht_buf_slice(&out), becomes));
    CU_ASSERT_TRUE(want == HT_OK || (err.text[0] && !strstr(err.text, "MII")));
    ht_buf_free(&out);
}

static void pem_is_blocks_and_nothing_else(void) {
    pem(CERT KEY, HT_OK, CERT KEY);
    pem("\n" CERT "\n\nsubject=x\n" CERT "Bag Attributes\n\n" KEY, HT_OK, CERT CERT KEY);
    pem("-----BEGIN CERTIFICATE-----\r\nMIIB  \r\nAA==\r\n-----END CERTIFICATE-----", HT_OK, CERT);
    pem("-----BEGIN EC PARAMETERS-----\nBggq\n-----END EC PARAMETERS-----\n" CERT, HT_OK, CERT);
    pem("", HT_EINVAL, "");
    pem("hello", HT_EINVAL, "");
    pem("-----BEGIN CERTIFICATE-----\nMIIB\n", HT_EINVAL, "");
    pem("-----BEGIN CERTIFICATE-----\nMIIB\n-----END PRIVATE KEY-----\n", HT_EINVAL, "");
    pem("-----BEGIN CERTIFICATE-----\nMIIB\n\nAA==\n-----END CERTIFICATE-----\n", HT_EINVAL, "");
    pem("-----BEGIN CERTIFICATE-----\nMIIB\n" CERT, HT_EINVAL, "");
    pem("-----BEGIN ENCRYPTED PRIVATE KEY-----\nMIIB\n-----END ENCRYPTED PRIVATE KEY-----\n", HT_EINVAL, "");
    pem("-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\nMIIB\n-----END RSA PRIVATE KEY-----\n", HT_EINVAL,
        "");
    pem("-----BEGIN EC PARAMETERS-----\nBggq\n-----END EC PARAMETERS-----\n", HT_EINVAL, "");
    pem("-----BEGIN CERTIFICATE-----\nMIIB; del map x\n-----END CERTIFICATE-----\n", HT_EINVAL, "");
    struct ht_buf out = {0};
    struct ht_errmsg err;
    CU_ASSERT_EQUAL(
        acme_pem_clean(ht_slice_of("-----BEGIN CERTIFICATE-----\nM\0B\n-----END CERTIFICATE-----\n", 58), &out, &err),
        HT_EINVAL);
    ht_buf_free(&out);
    ht_mem_fail_at(0);
    CU_ASSERT_EQUAL(acme_pem_clean(ht_slice_str(CERT), &out, &err), HT_ENOMEM);
    ht_mem_fail_at(-1);
    ht_buf_free(&out);
    CU_ASSERT_EQUAL(ht_mem_live(), 0);
}

/* ---- names, and whose they are ---- */

static void name(const char *text, const char *want, const char *why) {
    char out[EDGE_DOMAIN_NAME] = "";
    struct ht_errmsg err = {""};
    int rc = edge_domain_read("example.com", text, out, &err);
    CU_ASSERT_EQUAL(rc, want ? HT_OK : HT_EINVAL);
    CU_ASSERT_TRUE(!want || strcmp(out, want) == 0);
    if (why && !strstr(err.text, why))
        printf("# %s: %s\n", text, err.text);
    CU_ASSERT_TRUE(!why || strstr(err.text, why));
}

static void names_that_can_be_own_domains(void) {
    name("api.mycompany.com", "api.mycompany.com", NULL);
    name("MyCompany.COM.", "mycompany.com", NULL);
    name("xn--bcher-kva.de", "xn--bcher-kva.de", NULL);
    name("notexample.com", "notexample.com", NULL);
    name("example.com.de", "example.com.de", NULL);
    name("com", NULL, "a dot");
    name("", NULL, NULL);
    name(".", NULL, NULL);
    name("*.a.com", NULL, "wildcard");
    name("example.com", NULL, "this server's own");
    name("Example.Com.", NULL, "this server's own");
    name("a.node1.containers.example.com", NULL, "this server's own");
    name("a..com", NULL, NULL);
    name("a.com:443", NULL, NULL);
    name("a.com/x", NULL, NULL);
    name("a com.de", NULL, NULL);
    name("10.0.0.1", NULL, NULL);
    name("aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa.aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa.de",
         NULL, "at most 100 bytes");
    name("b\xc3\xbc"
         "cher.de",
         NULL, "xn--");
}

static void keep(struct edge_state *s, enum edge_kind kind, const char *id, const char *part, const char *value) {
    const struct edge_change change = {part, ht_slice_str(value)};
    const struct edge_actor by = {"tests", "test", "unix"};
    struct ht_errmsg err;
    CU_ASSERT_EQUAL_FATAL(edge_state_change(s, kind, id, EDGE_ANY_VERSION, &change, 1, &by, NULL, &err), HT_OK);
}

static void a_name_is_its_projects(void) {
    char folder[] = "/tmp/ht-domains-XXXXXX", project[EDGE_ID + 1], line[64], text[8];
    struct edge_state *s;
    struct ht_errmsg err;
    CU_ASSERT_PTR_NOT_NULL_FATAL(mkdtemp(folder));
    CU_ASSERT_EQUAL_FATAL(edge_folder_make(folder, &err), HT_OK);
    CU_ASSERT_EQUAL_FATAL(edge_state_open(&s, folder, &err), HT_OK);
    keep(s, EDGE_ALIAS, "one", "project_id", "\"" P "\"");
    keep(s, EDGE_ALIAS, "two", "project_id", "\"" Q "\"");
    keep(s, EDGE_ALIAS, "bad", "project_id", "7");
    keep(s, EDGE_ALIAS, "gone", "project_id", "\"" P "\"");
    keep(s, EDGE_ALIAS, "gone", "alias", "\"shop\"");
    keep(s, EDGE_ALIAS, "gone", EDGE_ALIAS_RELEASED, "1796000000"); /* deleted, and its name rests */
    CU_ASSERT_TRUE(edge_domain_alias_project(s, "one", project) && strcmp(project, P) == 0);
    CU_ASSERT_TRUE(edge_domain_alias_project(s, "two", project) && strcmp(project, Q) == 0);
    CU_ASSERT_FALSE(edge_domain_alias_project(s, "bad", project));
    CU_ASSERT_FALSE(edge_domain_alias_project(s, "gone", project));
    CU_ASSERT_FALSE(edge_domain_alias_project(s, "none", project));
    CU_ASSERT_EQUAL(edge_domain_may(s, "a.b.com", P, &err), HT_OK);
    keep(s, EDGE_DOMAIN, "b.com", EDGE_DOMAIN_PART, "{\"alias\":\"one\",\"project\":\"" P "\"}");
    CU_ASSERT_EQUAL(edge_domain_may(s, "b.com", P, &err), HT_OK);
    CU_ASSERT_EQUAL(edge_domain_may(s, "x.a.b.com", P, &err), HT_OK);
    CU_ASSERT_EQUAL(edge_domain_may(s, "b.com", Q, &err), HT_EACCESS);
    CU_ASSERT_EQUAL(edge_domain_may(s, "x.a.b.com", Q, &err), HT_EACCESS);
    CU_ASSERT_PTR_NOT_NULL(strstr(err.text, "b.com, which is above x.a.b.com"));
    CU_ASSERT_EQUAL(edge_domain_may(s, "ab.com", Q, &err), HT_OK);
    CU_ASSERT_EQUAL(edge_domain_may(s, "com", Q, &err), HT_OK);
    edge_domain_text(edge_state_get(s, EDGE_DOMAIN, "b.com"), EDGE_DOMAIN_PART, "project", text, sizeof text);
    CU_ASSERT_STRING_EQUAL(text, ""); /* no room for it */
    edge_state_close(&s);
    snprintf(line, sizeof line, "rm -r %s", folder);
    CU_ASSERT_EQUAL(system(line), 0);
    CU_ASSERT_EQUAL(ht_mem_live(), 0);
}

int main(void) {
    static const struct tap_test tests[] = {
        {"a certificate is renewed when a third of its time is left, each a little sooner",
         renewal_is_due_with_a_third_left},
        {"waits double up to a day, and vary by a quarter", waits_double_up_to_a_day},
        {"the ledger counts the orders of a day, also when the clock is set", the_ledger_counts_a_day},
        {"what has become of attempts is kept, whatever the words", attempts_are_kept},
        {"lego's words are shown without times, secrets and what controls a terminal", words_of_lego_are_for_people},
        {"of a PEM its blocks are taken and nothing else, above all no blank line", pem_is_blocks_and_nothing_else},
        {"names that can be own domains, and what is said of others", names_that_can_be_own_domains},
        {"a name is its project's, with what is below it", a_name_is_its_projects},
        {NULL, NULL},
    };
    return tap_main("acme_plan", tests);
}
