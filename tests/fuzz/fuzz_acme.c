/*
 * Texts around certificates: PEM that somebody brings, the environment file of lego, what lego says, and what is kept
 * of attempts. What is cleaned has no line that ends a command to HAProxy, and is clean; what is said shows no secret;
 * what is written is read as the same.
 *
 * Input: a byte that says which, and the text.
 */
#include "edge/acme_plan.h"
#include "fuzz.h"

#define SECRET "s3cret/value"

static void pem(struct ht_slice text) {
    struct ht_buf once = {0}, twice = {0};
    struct ht_errmsg err = {""};
    int rc = acme_pem_clean(text, &once, &err);
    FUZZ_CHECK(rc == HT_OK || (rc == HT_EINVAL && err.text[0]));
    if (rc == HT_OK) {
        struct ht_slice clean = ht_buf_slice(&once);
        FUZZ_CHECK(clean.n > 11 && memcmp(clean.p, "-----BEGIN ", 11) == 0 && clean.p[clean.n - 1] == '\n');
        FUZZ_CHECK(!memmem(clean.p, clean.n, "\n\n", 2) && !memchr(clean.p, '\0', clean.n) &&
                   !memchr(clean.p, ';', clean.n) && !memchr(clean.p, '\r', clean.n));
        FUZZ_CHECK(acme_pem_clean(clean, &twice, &err) == HT_OK && ht_slice_eq(clean, ht_buf_slice(&twice)));
    }
    ht_buf_free(&once);
    ht_buf_free(&twice);
}

static void env(struct ht_slice text) {
    struct acme_env e;
    struct ht_errmsg err = {""};
    int rc = acme_env_read(&e, text, &err);
    FUZZ_CHECK(rc == HT_OK || (rc == HT_EINVAL && strncmp(err.text, "line ", 5) == 0));
    for (size_t i = 0; rc == HT_OK && i < e.n; i++) {
        const char *end = strchr(e.vars[i], '=');
        FUZZ_CHECK(end && end > e.vars[i] && !strchr(e.vars[i], '\n'));
        FUZZ_CHECK(strspn(e.vars[i], "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_") ==
                   (size_t)(end - e.vars[i]));
    }
    if (rc == HT_OK) {
        FUZZ_CHECK(!e.vars || !e.vars[e.n]);
        acme_env_free(&e);
    }
}

static void reason(struct ht_slice text) {
    static const char *vars[] = {"TOKEN=" SECRET, NULL};
    const struct acme_env e = {.vars = vars, .n = 1};
    char out[ACME_ERROR];
    bool says = acme_reason(text, &e, out);
    FUZZ_CHECK(strlen(out) < sizeof out && (says || !out[0]));
    FUZZ_CHECK(!strstr(out, SECRET));
    for (const char *p = out; *p; p++)
        FUZZ_CHECK((unsigned char)*p >= ' ' && *p != 0x7f);
}

static void record(struct ht_slice text) {
    struct acme_record r, again;
    struct ht_buf b = {0};
    int rc = acme_record_read(&r, text);
    FUZZ_CHECK(rc == HT_OK || rc == HT_EPROTO);
    FUZZ_CHECK(acme_record_put(&r, &b) == HT_OK && acme_record_read(&again, ht_buf_slice(&b)) == HT_OK);
    FUZZ_CHECK(again.failures == r.failures && again.running == r.running && again.next == r.next &&
               strcmp(again.error, r.error) == 0);
    ht_buf_free(&b);
}

static void ledger(struct ht_slice text) {
    struct acme_ledger l = {.at = NULL}, again = {.at = NULL};
    struct ht_buf b = {0};
    int rc = acme_ledger_read(&l, text);
    FUZZ_CHECK(rc == HT_OK || rc == HT_EPROTO);
    if (rc == HT_OK) {
        FUZZ_CHECK(acme_ledger_put(&l, &b) == HT_OK && acme_ledger_read(&again, ht_buf_slice(&b)) == HT_OK);
        FUZZ_CHECK(again.n == l.n);
        for (size_t i = 0; i < l.n; i++)
            FUZZ_CHECK(again.at[i] == l.at[i]);
        size_t n = acme_ledger_count(&l, ACME_DAY_MS);
        FUZZ_CHECK(n <= again.n && acme_ledger_free_at(&l, ACME_DAY_MS, n + 1) == ACME_DAY_MS);
    }
    acme_ledger_free(&l);
    acme_ledger_free(&again);
    ht_buf_free(&b);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static void (*const all[])(struct ht_slice) = {pem, env, reason, record, ledger};
    if (size == 0)
        return 0;
    all[data[0] % HT_ARRAY_LEN(all)](ht_slice_of((const char *)data + 1, size - 1));
    FUZZ_CHECK(ht_mem_live() == 0);
    return 0;
}
