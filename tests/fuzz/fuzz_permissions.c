/*
 * Documents of permissions, and requests that they decide about: any bytes are a policy, or what is wrong is said
 * without a secret in it; a policy decides the same twice, lets nobody in whom none of its groups knows unless its
 * default does, and takes every secret out of what the service gets.
 *
 * Input: the document, a NUL, path and query, a NUL, header fields.
 */
#include "edge/permissions_edit.h"
#include "edge/policy.h"
#include "fuzz.h"

static struct ht_slice piece(const uint8_t **p, const uint8_t *end) {
    const uint8_t *nul = *p < end ? memchr(*p, '\0', (size_t)(end - *p)) : NULL;
    struct ht_slice s = ht_slice_of(*p, (size_t)((nul ? nul : end) - *p));
    *p = nul ? nul + 1 : end;
    return s;
}

static void decide(struct edge_policy *p, const struct edge_visit *v) {
    struct edge_decision d, again;
    struct edge_strip s = {.authorization = false}, twice = {.authorization = false};
    edge_policy_decide(p, v, 2000000000, &d);
    edge_policy_decide(p, v, 2000000000, &again);
    FUZZ_CHECK(d.verdict == again.verdict && strcmp(d.why, again.why) == 0 && d.failed == again.failed);
    FUZZ_CHECK(d.verdict != EDGE_ALLOW || d.group.n > 0 || strcmp(d.why, "default") == 0);
    FUZZ_CHECK(d.verdict != EDGE_LOGIN || d.challenge);
    FUZZ_CHECK(d.verdict != EDGE_PASSWORD ||
               (d.claim.name.n <= AUTH_USER_MAX && d.claim.password.n <= AUTH_PASSWORD_MAX));
    FUZZ_CHECK(edge_policy_strip(p, v, &s) == HT_OK);
    FUZZ_CHECK(!s.has_target || ht_buf_size(&s.target) <= v->target.n);
    /* What is left has nothing more to take out. */
    struct edge_visit left = *v;
    struct ht_buf cookies = {0};
    if (s.has_target)
        left.target = ht_buf_slice(&s.target);
    FUZZ_CHECK(ht_buf_printf(&cookies, "cookie: %.*s", (int)ht_buf_size(&s.cookie),
                             (const char *)ht_buf_head(&s.cookie)) == 0);
    left.heads = s.has_cookie ? ht_buf_slice(&cookies) : ht_slice_of("", 0);
    FUZZ_CHECK(edge_policy_strip(p, &left, &twice) == HT_OK && !twice.has_target && !twice.has_cookie);
    ht_buf_free(&cookies);
    edge_strip_free(&s);
    edge_strip_free(&twice);
}

/* The text's secrets are hidden and come back. */
static void edit(struct ht_slice doc) {
    struct ht_buf hidden = {0}, back = {0}, again = {0};
    FUZZ_CHECK(edge_permissions_hide(doc, &hidden) != HT_ENOMEM);
    if (edge_permissions_hide(doc, &again) == HT_OK) {
        struct ht_buf once = {0};
        FUZZ_CHECK(ht_slice_eq(ht_buf_slice(&hidden), ht_buf_slice(&again)));
        FUZZ_CHECK(edge_permissions_unhide(ht_buf_slice(&hidden), doc, &back) == HT_OK);
        /* They are the same apart from white space between members: hidden once more, they are the very same. */
        FUZZ_CHECK(edge_permissions_hide(ht_buf_slice(&back), &once) == HT_OK &&
                   ht_slice_eq(ht_buf_slice(&once), ht_buf_slice(&hidden)));
        ht_buf_free(&once);
    }
    ht_buf_free(&hidden);
    ht_buf_free(&back);
    ht_buf_free(&again);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    const uint8_t *at = data, *end = data + size;
    struct ht_errmsg err = {""}, same = {""};
    int rc, rc2;
    if (size > 20000)
        return 0;
    size_t live = ht_mem_live();
    struct ht_slice text = piece(&at, end), target = piece(&at, end);
    char *doc = fuzz_copy(text.p, text.n), *path = fuzz_copy(target.p, target.n);
    char *heads = fuzz_copy(at, (size_t)(end - at));
    struct edge_policy *p = edge_policy_create(ht_slice_of(doc, text.n), &rc, &err);
    struct edge_policy *second = edge_policy_create(ht_slice_of(doc, text.n), &rc2, &same);
    FUZZ_CHECK((p ? rc == HT_OK : rc == HT_EINVAL && err.text[0]) && rc == rc2 && strcmp(err.text, same.text) == 0);
    edge_policy_destroy(&second);
    if (p) {
        static const char *const programs[] = {"terminal", "http", "exec"};
        for (size_t i = 0; i < HT_ARRAY_LEN(programs); i++) {
            struct edge_visit v = {.program = ht_slice_str(programs[i]),
                                   .index = 1 + 2999 * (unsigned)i,
                                   .family = i == 2 ? 0 : 4,
                                   .addr = {203, 0, 113, 7},
                                   .target = ht_slice_of(path, target.n),
                                   .heads = ht_slice_of(heads, (size_t)(end - at))};
            decide(p, &v);
        }
    }
    edge_policy_destroy(&p);
    edit(ht_slice_of(doc, text.n));
    free(doc);
    free(path);
    free(heads);
    FUZZ_CHECK(ht_mem_live() == live);
    return 0;
}
