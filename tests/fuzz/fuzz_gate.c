/*
 * Files of users and header rules: any bytes are users with hashes that are taken, or rules whose fields may stand in a
 * head; or a message says what is wrong, without a hash or a value. Nothing is leaked.
 *
 * Input: a byte, odd for a file of users; then the file, or rules with a NUL behind each.
 */
#include "auth/passwords.h"
#include "fuzz.h"
#include "gate/rules.h"
#include "http/http.h"

static void check_users(const char *text, size_t n) {
    struct auth_passwords p;
    struct ht_errmsg err = {""};
    int rc = auth_passwords_parse(&p, "users", text, n, &err);
    FUZZ_CHECK(rc == HT_OK || (rc == HT_EINVAL && strncmp(err.text, "users", 5) == 0));
    for (size_t i = 0; rc == HT_OK && i < p.n; i++) {
        const struct auth_user *u = &p.users[i];
        FUZZ_CHECK(u->name.n > 0 && u->name.n <= AUTH_USER_MAX && !memchr(u->name.p, ':', u->name.n));
        FUZZ_CHECK(u->hash[0] == '$' && strlen(u->hash) < AUTH_HASH_MAX && !strpbrk(u->hash, ":\n\r *"));
        FUZZ_CHECK(auth_passwords_find(&p, u->name) == u);
    }
    FUZZ_CHECK(rc < 0 || p.n > 0);
    auth_passwords_free(&p);
}

static void check_rules(const char *text, size_t n, bool request) {
    const char *texts[GATE_RULES_MAX];
    struct wire_header fields[8] = {{ht_slice_str("host"), ht_slice_str("a")}};
    struct gate_rules r;
    struct ht_errmsg err = {""};
    size_t n_texts = 0;
    for (size_t at = 0; at < n && n_texts < GATE_RULES_MAX; at += strlen(text + at) + 1)
        texts[n_texts++] = text + at;
    int rc = gate_rules_parse(&r, texts, n_texts, request, &err);
    FUZZ_CHECK(rc == HT_OK || (rc == HT_EINVAL && err.text[0]));
    for (size_t i = 0; rc == HT_OK && i < r.n; i++) {
        FUZZ_CHECK(http_is_token(r.rules[i].name) && http_hop_of(r.rules[i].name) == HTTP_HOP_NONE);
        FUZZ_CHECK(!ht_slice_is(r.rules[i].name, "content-length") && http_is_field_value(r.rules[i].value));
        FUZZ_CHECK((r.rules[i].kind == GATE_REMOVE) == (r.rules[i].value.n == 0));
    }
    ssize_t with = rc == HT_OK ? gate_rules_apply(&r, fields, 1, HT_ARRAY_LEN(fields)) : 0;
    FUZZ_CHECK(with == HT_ESPACE || (with >= 0 && with <= (ssize_t)HT_ARRAY_LEN(fields)));
    if (request && rc == HT_OK && with > 0)
        FUZZ_CHECK(ht_slice_is(fields[0].name, "host") && ht_slice_is(fields[0].value, "a"));
    gate_rules_free(&r);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    size_t live = ht_mem_live();
    if (size == 0)
        return 0;
    char *text = fuzz_copy(data, size); /* moved by one, with a NUL behind it */
    memmove(text, text + 1, size - 1);
    text[size - 1] = '\0';
    if (data[0] & 1)
        check_users(text, size - 1);
    else
        check_rules(text, size - 1, data[0] & 2);
    free(text);
    FUZZ_CHECK(ht_mem_live() == live);
    return 0;
}
