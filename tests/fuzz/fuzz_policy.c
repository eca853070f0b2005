/*
 * What a policy does to a request: a secret gets into the fields that it is for, when the request has passed and the
 * way is private, and nowhere else; a placeholder goes no further.
 *
 * Input: flags (one byte), then texts behind a byte with their length each: what stands before the secret, the
 * placeholder, a rule, the target; then fields of the request, a name and a value each.
 */
#include "fuzz.h"

#include "guard/policy.h"

#define SECRET "s3cret-of-the-laptop"
#define FIELDS 8

enum { WITH_HOST = 1, PRIVATE = 2, WITH_PLACEHOLDER = 4, WITH_RULE = 8, DENIES = 16, TWO_FIELDS = 32 };

/* As the parser of heads lets it pass: the bytes that it refuses become others. */
static struct ht_slice text_of(struct fuzz_in *in, char out[256], bool name) {
    struct ht_slice s = fuzz_take(in, fuzz_u8(in));
    for (size_t i = 0; i < s.n; i++) {
        unsigned char c = (unsigned char)s.p[i];
        out[i] = (char)(name ? "abcdefghijklmnopqrstuvwxyz-_0123"[c % 32] : c < 0x20 || c == 0x7f ? 'x' : c);
    }
    out[s.n] = '\0';
    return ht_slice_of(out, s.n);
}

static bool has(struct ht_slice s, const char *text) { return s.n && memmem(s.p, s.n, text, strlen(text)); }

static void look(struct guard_policy *p, const struct guard_request *r, const struct guard_decision *d,
                 const char *placeholder, bool free_of_it) {
    struct wire_header out[FIELDS + 1 + GUARD_HEADERS_MAX];
    ssize_t n = guard_policy_headers(p, r, out, HT_ARRAY_LEN(out));
    unsigned hosts = 0, own = 0;
    FUZZ_CHECK(n > 0);
    for (ssize_t i = 0; i < n; i++) {
        bool is_ours = ht_slice_is(out[i].name, "authorization") || ht_slice_is(out[i].name, "x-key");
        hosts += ht_slice_is(out[i].name, "host");
        own += has(out[i].value, SECRET);
        FUZZ_CHECK(!has(out[i].value, SECRET) || (is_ours && d->injects && guard_policy_is_secret(p, out[i].value)));
        FUZZ_CHECK(!placeholder || !free_of_it || !has(out[i].value, placeholder));
    }
    FUZZ_CHECK(hosts == 1 && own <= 2 && (own > 0) == d->injects);
    FUZZ_CHECK(!d->injects || r->secure);
    FUZZ_CHECK(!placeholder || !has(r->target, placeholder));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static const char *const names[] = {"Authorization", "X-Key"};
    static char value[300], before[256], placeholder[256], rule[256], target[257], texts[FIELDS][2][256];
    struct fuzz_in in = {data, data + size};
    struct wire_header fields[FIELDS + 1] = {{ht_slice_str("host"), ht_slice_str("api.test")}};
    struct ht_errmsg err;
    int rc;
    uint8_t flags = fuzz_u8(&in);
    setenv("FUZZ_SECRET", SECRET, 1);
    text_of(&in, before, false);
    text_of(&in, placeholder, false);
    text_of(&in, rule, false);
    target[0] = '/';
    struct ht_slice path = text_of(&in, target + 1, false);
    size_t n = flags & WITH_HOST ? 1 : 0;
    while (fuzz_left(&in) > 0 && n < FIELDS) {
        fields[n].name = text_of(&in, texts[n][0], true);
        fields[n].value = text_of(&in, texts[n][1], false);
        if (fields[n].name.n && !has(fields[n].value, SECRET)) /* nobody there knows it */
            n++;
    }
    if (strstr(before, "${")) /* a source of its own: no file is read here, and no command run */
        return 0;
    snprintf(value, sizeof value, "%s${env:FUZZ_SECRET}", before);
    const char *const values[] = {value, value}, *const rules[] = {rule};
    struct guard_policy_config cfg = {
        .host = "api.test",
        .header_names = names,
        .header_values = values,
        .n_headers = flags & TWO_FIELDS ? 2 : 1,
        .placeholder = flags & WITH_PLACEHOLDER ? placeholder : NULL,
        .allow = rules,
        .n_allow = flags & WITH_RULE && !(flags & DENIES),
        .deny = rules,
        .n_deny = flags & WITH_RULE && flags & DENIES,
    };
    struct guard_policy *p = guard_policy_create(&cfg, &rc, &err);
    if (!p)
        return 0;
    FUZZ_CHECK(guard_policy_load(p, 0, false, &err) == HT_OK);
    struct guard_request r = {.method = ht_slice_str("GET"),
                              .target = ht_slice_of(target, path.n + 1),
                              .headers = fields,
                              .n_headers = n,
                              .port = 443,
                              .secure = flags & PRIVATE};
    struct guard_decision d;
    guard_policy_check(p, &r, 1, &d);
    FUZZ_CHECK(d.reason == GUARD_ALLOWED || !d.injects);
    if (d.reason == GUARD_ALLOWED)
        look(p, &r, &d, cfg.placeholder, !cfg.placeholder || !strstr(before, cfg.placeholder));
    guard_policy_destroy(&p);
    return 0;
}
