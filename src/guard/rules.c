#include "guard/rules.h"

#include "base/mem.h"

#include <stdlib.h>

/* ---- a rule ---- */

static int bad(struct ht_errmsg *err, const char *text, const char *why) {
    return ht_fail(err, HT_EINVAL,
                   "the rule \"%.100s\" %s; a rule is METHOD PATH, as in \"GET /v1/models\" or \"POST /v1/chat/*\"",
                   text, why);
}

static const char *path_fault(struct ht_slice path) {
    size_t stars = 0, segments = 0, begin = 1;
    if (path.n == 0)
        return "has no path";
    if (ht_slice_is(path, "*"))
        return NULL;
    if (path.p[0] != '/')
        return "has a path that does not begin with a slash";
    for (size_t i = 1; i <= path.n; i++) {
        char c = i < path.n ? path.p[i] : '/';
        if (c == '*' && ++stars > 1)
            return "has more than one * in a segment";
        if (c != '/') {
            if ((unsigned char)c <= 0x20 || c == 0x7f || strchr("%?#;\\", c))
                return "has a path with a blank or one of % ? # ; \\ in it: write it decoded, and without a query";
            continue;
        }
        struct ht_slice segment = ht_slice_of(path.p + begin, i - begin);
        if (ht_slice_is(segment, ".") || ht_slice_is(segment, "..") || (segment.n == 0 && i < path.n))
            return "has a path with //, /. or /.. in it";
        if (++segments > GUARD_SEGMENTS_MAX)
            return "has too many segments";
        begin = i + 1;
        stars = 0;
    }
    return NULL;
}

int guard_rule_parse(struct guard_rule *r, const char *text, struct ht_errmsg *err) {
    *r = (struct guard_rule){.text = NULL};
    size_t n = strlen(text), method = strcspn(text, " \t");
    size_t path = method + strspn(text + method, " \t");
    if (n > GUARD_RULE_MAX)
        return bad(err, text, "is too long");
    for (size_t i = 0; i < method; i++)
        if (!((text[i] >= 'A' && text[i] <= 'Z') || text[i] == '-' || (text[i] == '*' && method == 1)))
            return bad(err, text, text[0] == '/' ? "has no method" : "has a method that is not in capitals");
    const char *why = method == 0 ? "has no method" : path_fault(ht_slice_of(text + path, n - path));
    if (why)
        return bad(err, text, why);
    r->text = ht_strndup(text, n);
    if (!r->text)
        return ht_fail(err, HT_ENOMEM, "out of memory");
    r->method = ht_slice_of(r->text, text[0] == '*' ? 0 : method);
    r->path = ht_slice_of(r->text + path, strcmp(text + path, "*") == 0 ? 0 : n - path);
    return HT_OK;
}

void guard_rule_free(struct guard_rule *r) {
    ht_free(r->text);
    *r = (struct guard_rule){.text = NULL};
}

/* ---- matching; `loose`: a denial, where another case is the same ---- */

static bool same(struct ht_slice a, struct ht_slice b, bool loose) {
    return loose ? ht_slice_case_eq(a, b) : ht_slice_eq(a, b);
}

static struct ht_slice first_of(struct ht_slice s, size_t n) { return ht_slice_of(s.p, ht_min(n, s.n)); }
static struct ht_slice last_of(struct ht_slice s, size_t n) {
    return ht_slice_of(s.p + s.n - ht_min(n, s.n), ht_min(n, s.n));
}

/* The piece of `s` before its first slash. */
static struct ht_slice segment_of(struct ht_slice s) {
    const char *slash = s.n ? memchr(s.p, '/', s.n) : NULL;
    return first_of(s, slash ? (size_t)(slash - s.p) : s.n);
}

static bool segment_matches(struct ht_slice pattern, struct ht_slice s, bool loose) {
    const char *star = pattern.n ? memchr(pattern.p, '*', pattern.n) : NULL;
    if (!star)
        return same(pattern, s, loose);
    size_t before = (size_t)(star - pattern.p), after = pattern.n - before - 1;
    return s.n >= before + after && same(first_of(pattern, before), first_of(s, before), loose) &&
           same(last_of(pattern, after), last_of(s, after), loose);
}

static bool path_matches(struct ht_slice pattern, struct ht_slice path, bool loose) {
    if (pattern.n == 0)
        return true;
    for (;;) {
        struct ht_slice p = segment_of(pattern), s = segment_of(path);
        bool last = p.n == pattern.n;
        if (last && p.n && p.p[p.n - 1] == '*') /* everything that follows */
            return path.n >= p.n - 1 && same(first_of(p, p.n - 1), first_of(path, p.n - 1), loose);
        if (!segment_matches(p, s, loose))
            return false;
        if (last || s.n == path.n)
            return last && s.n == path.n;
        pattern = ht_slice_of(pattern.p + p.n + 1, pattern.n - p.n - 1);
        path = ht_slice_of(path.p + s.n + 1, path.n - s.n - 1);
    }
}

static bool method_matches(struct ht_slice pattern, struct ht_slice method, bool loose) {
    return pattern.n == 0 || same(pattern, method, loose) ||
           (ht_slice_is(pattern, "GET") && same(ht_slice_str("HEAD"), method, loose));
}

static const struct guard_rule *find(const struct guard_rule *rules, size_t n, struct ht_slice method,
                                     struct ht_slice path, bool loose) {
    for (size_t i = 0; i < n; i++)
        if (method_matches(rules[i].method, method, loose) && path_matches(rules[i].path, path, loose))
            return &rules[i];
    return NULL;
}

/* ---- readings ---- */

enum reading {
    READ_SLASH = 1,    /* %2F is a slash */
    READ_PARAMS = 2,   /* ";x" of a segment does not count */
    READ_COLLAPSE = 4, /* a second slash does not count */
    READ_TWICE = 8,    /* what is left of %XX is decoded again */
    READINGS = 16,
};

/* The byte of a %XX at s[i], or -1. */
static int encoded_at(const char *s, size_t n, size_t i) {
    if (s[i] != '%' || i + 2 >= n)
        return -1;
    int high = ht_hex_digit(s[i + 1]), low = ht_hex_digit(s[i + 2]);
    return high < 0 || low < 0 ? -1 : high << 4 | low;
}

static bool is_foul(int c) { return c < 0x20 || c == 0x7f || c == '\\'; }

/* Decodes in place once. False: nobody honest sends it. */
static bool decode(char *s, size_t *n, bool slash, bool strict) {
    size_t to = 0;
    for (size_t i = 0; i < *n; i++) {
        int c = encoded_at(s, *n, i);
        if (c < 0) {
            if ((strict && s[i] == '%') || is_foul((unsigned char)s[i]))
                return false;
            s[to++] = s[i];
            continue;
        }
        if (is_foul(c))
            return false;
        if (c == '/' && !slash) {
            memmove(s + to, s + i, 3);
            to += 3;
        } else {
            s[to++] = (char)c;
        }
        i += 2;
    }
    *n = to;
    return true;
}

static void drop_params(char *s, size_t *n) {
    size_t to = 0;
    bool inside = false;
    for (size_t i = 0; i < *n; i++) {
        inside = s[i] != '/' && (inside || s[i] == ';');
        if (!inside)
            s[to++] = s[i];
    }
    *n = to;
}

static void collapse(char *s, size_t *n) {
    size_t to = 0;
    for (size_t i = 0; i < *n; i++)
        if (s[i] != '/' || to == 0 || s[to - 1] != '/')
            s[to++] = s[i];
    *n = to;
}

static bool has_dots(struct ht_slice path) {
    for (;;) {
        struct ht_slice s = segment_of(path);
        if (ht_slice_is(s, ".") || ht_slice_is(s, ".."))
            return true;
        if (s.n == path.n)
            return false;
        path = ht_slice_of(path.p + s.n + 1, path.n - s.n - 1);
    }
}

/* False: foul. */
static bool read_as(struct ht_slice path, unsigned how, char *out, size_t *n) {
    *n = path.n;
    memcpy(out, path.p, path.n);
    if (!decode(out, n, how & READ_SLASH, true))
        return false;
    if (how & READ_TWICE) {
        if (!decode(out, n, how & READ_SLASH, false))
            return false;
        /* A third time is nobody's way of writing a path; a %2F that stays is one of the second. */
        for (size_t i = 0; i < *n; i++) {
            int c = encoded_at(out, *n, i);
            if (c >= 0 && c != '/')
                return false;
        }
    }
    if (how & READ_PARAMS)
        drop_params(out, n);
    if (how & READ_COLLAPSE)
        collapse(out, n);
    return !has_dots(ht_slice_of(out, *n));
}

/* Which readings may differ from the plain one. */
static unsigned readings_of(struct ht_slice path) {
    if (memchr(path.p, '%', path.n)) /* any of them may come out of it */
        return READINGS - 1;
    if (memchr(path.p, ';', path.n)) /* what goes may leave two slashes */
        return READ_PARAMS | READ_COLLAPSE;
    return memmem(path.p, path.n, "//", 2) ? READ_COLLAPSE : 0;
}

enum guard_judgement guard_rules_judge(const struct guard_rules *rules, struct ht_slice method, struct ht_slice target,
                                       char *scratch, const struct guard_rule **rule) {
    const char *query = target.n ? memchr(target.p, '?', target.n) : NULL;
    struct ht_slice path = first_of(target, query ? (size_t)(query - target.p) : target.n);
    enum guard_judgement result = GUARD_JUDGED_GOOD;
    *rule = NULL;
    bool star = ht_slice_is(path, "*");
    if (path.n == 0 || path.n > GUARD_PATH_MAX || (path.p[0] != '/' && !star))
        return GUARD_JUDGED_AMBIGUOUS;
    unsigned all = readings_of(path);
    for (unsigned how = 0; how < READINGS; how++) {
        size_t n;
        if (how & ~all)
            continue;
        if (!read_as(path, how, scratch, &n)) {
            *rule = NULL;
            return GUARD_JUDGED_AMBIGUOUS;
        }
        struct ht_slice reading = ht_slice_of(scratch, n);
        const struct guard_rule *no = find(rules->deny, rules->n_deny, method, reading, true);
        const struct guard_rule *yes = find(rules->allow, rules->n_allow, method, reading, false);
        if (result == GUARD_JUDGED_GOOD && no) {
            *rule = no;
            result = GUARD_JUDGED_DENIED;
        } else if (result == GUARD_JUDGED_GOOD && rules->n_allow && !yes) {
            *rule = NULL;
            result = GUARD_JUDGED_UNNAMED;
        } else if (how == 0) {
            *rule = yes;
        }
    }
    return result;
}

/* ---- how often ---- */

int guard_rate_parse(struct guard_rate *r, const char *text, struct ht_errmsg *err) {
    char *end;
    unsigned long n = text[0] >= '0' && text[0] <= '9' ? strtoul(text, &end, 10) : 0;
    uint64_t per = 0;
    if (n > 0 && n <= 1000000 && end[0] == '/' && end[1] && !end[2])
        per = end[1] == 's' ? 1000 : end[1] == 'm' ? 60000 : end[1] == 'h' ? 3600000 : 0;
    if (!per)
        return ht_fail(err, HT_EINVAL,
                       "the rate \"%.40s\" is not valid; a rate is a number of requests in a second, minute or hour, "
                       "as in 10/s, 60/m or 1000/h",
                       text);
    *r = (struct guard_rate){.n = (uint32_t)n, .per_ms = per, .left = n * per};
    return HT_OK;
}

uint32_t guard_rate_take(struct guard_rate *r, uint64_t now_ms) {
    if (r->n == 0)
        return 0;
    uint64_t full = (uint64_t)r->n * r->per_ms, since = ht_min64(now_ms - r->filled_ms, r->per_ms);
    r->left = r->filled_ms ? ht_min64(full, r->left + since * r->n) : full;
    r->filled_ms = now_ms ? now_ms : 1;
    if (r->left >= r->per_ms) {
        r->left -= r->per_ms;
        return 0;
    }
    uint64_t ms = (r->per_ms - r->left + r->n - 1) / r->n;
    return (uint32_t)((ms + 999) / 1000);
}
