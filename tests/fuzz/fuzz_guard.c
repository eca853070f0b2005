/*
 * Rules for requests: a denial is not talked out of by writing a path differently, and nothing is allowed that its
 * plain form is not.
 *
 * Input: how to encode (one byte), the length of a rule (one byte), the rule, then the path.
 */
#include "fuzz.h"

#include "guard/rules.h"

static char scratch[GUARD_PATH_MAX];

static enum guard_judgement judge(struct guard_rule *rule, bool deny, struct ht_slice target) {
    struct guard_rules rules = {.allow = rule, .n_allow = !deny, .deny = rule, .n_deny = deny};
    const struct guard_rule *by;
    return guard_rules_judge(&rules, ht_slice_str("GET"), target, scratch, &by);
}

static bool is_plain(struct ht_slice s) {
    for (size_t i = 0; i < s.n; i++)
        if ((unsigned char)s.p[i] <= 0x20 || s.p[i] == 0x7f || strchr("%?;\\", s.p[i]))
            return false;
    return !memmem(s.p, s.n, "//", 2);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct fuzz_in in = {data, data + size};
    uint8_t how = fuzz_u8(&in), len = fuzz_u8(&in);
    struct ht_slice rule_text = fuzz_take(&in, len), path = fuzz_take(&in, 4096);
    char text[300] = "";
    struct guard_rule rule;
    memcpy(text, rule_text.p, rule_text.n);
    char *target = fuzz_copy(path.p, path.n);
    path.p = target;
    if (guard_rule_parse(&rule, text, NULL) < 0) {
        free(target);
        return 0;
    }
    enum guard_judgement denied = judge(&rule, true, path), allowed = judge(&rule, false, path);
    FUZZ_CHECK(allowed != GUARD_JUDGED_DENIED && denied != GUARD_JUDGED_UNNAMED);
    /* What is allowed is also denied by the same rule, and what is foul is foul for both. */
    FUZZ_CHECK(allowed != GUARD_JUDGED_GOOD || denied == GUARD_JUDGED_DENIED);
    FUZZ_CHECK((allowed == GUARD_JUDGED_AMBIGUOUS) == (denied == GUARD_JUDGED_AMBIGUOUS));
    if (path.n && is_plain(path) && allowed != GUARD_JUDGED_AMBIGUOUS) {
        /* The same path with some of its bytes encoded, once or twice, with parameters and more slashes. */
        char *other = malloc(path.n * 6 + 8);
        size_t n = 0;
        for (size_t i = 0; other && i < path.n; i++) {
            bool encode = i && how >> (i % 5) & 1;
            if (encode)
                n += (size_t)sprintf(other + n, how & 32 ? "%%25%02x" : "%%%02X", (unsigned char)path.p[i]);
            else
                other[n++] = path.p[i];
            if (how & 64 && path.p[i] == '/' && !encode)
                other[n++] = '/';
        }
        if (other && how & 128 && path.n > 1)
            n += (size_t)sprintf(other + n, ";x=1");
        struct ht_slice same = ht_slice_of(other, n);
        FUZZ_CHECK(other && (denied != GUARD_JUDGED_DENIED || judge(&rule, true, same) != GUARD_JUDGED_GOOD));
        FUZZ_CHECK(allowed == GUARD_JUDGED_GOOD || judge(&rule, false, same) != GUARD_JUDGED_GOOD);
        free(other);
    }
    guard_rule_free(&rule);
    free(target);
    return 0;
}
