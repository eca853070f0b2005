/*
 * Rules for requests, such as "POST /v1/chat/" with a star behind it, and rates. Pure.
 *
 * Services read paths differently: %2F may be a slash or not, ";x" and a double slash may count or not, and a double
 * encoding may be decoded once or twice. So every possible reading of a path is checked. A request is allowed when each
 * reading is allowed and none is denied. Paths that no honest client sends are refused at once: dot segments,
 * backslashes, control bytes, invalid encodings.
 */
#ifndef HT_GUARD_RULES_H
#define HT_GUARD_RULES_H

#include "base/base.h"
#include "base/err.h"

#define GUARD_RULES_MAX 64    /* most rules of one name, for allow and for deny each */
#define GUARD_RULE_MAX 512    /* most characters of a rule */
#define GUARD_PATH_MAX 16384  /* most bytes of a path */
#define GUARD_SEGMENTS_MAX 32 /* most segments of a rule */

/*
 * A rule "METHOD PATH". The method is in capitals, or * for any method; GET includes HEAD. The path is written decoded
 * and begins with a slash, or is * for every path. In a segment, one * is any text without a slash. At the end of the
 * path, * is everything that follows, slashes included.
 */
struct guard_rule {
    char *text;             /* as it was given */
    struct ht_slice method; /* in `text`; empty: any */
    struct ht_slice path;   /* in `text`; empty: any */
};

/* Reads a rule; guard_rule_free() frees it. 0, HT_ENOMEM, or HT_EINVAL: *err says what would be right. */
int guard_rule_parse(struct guard_rule *r, const char *text, struct ht_errmsg *err) HT_MUST_USE;
void guard_rule_free(struct guard_rule *r);

struct guard_rules {
    struct guard_rule *allow, *deny; /* without `allow`, everything is allowed that no rule of `deny` matches */
    size_t n_allow, n_deny;
};

enum guard_judgement {
    GUARD_JUDGED_GOOD,
    GUARD_JUDGED_DENIED,    /* a rule of `deny` matches */
    GUARD_JUDGED_UNNAMED,   /* no rule of `allow` matches */
    GUARD_JUDGED_AMBIGUOUS, /* no honest client sends such a path */
};

/* Judges a request. `target` is that of the request line; its query is ignored. *rule is the rule that decided; NULL:
 * none. `scratch` must have GUARD_PATH_MAX bytes. */
enum guard_judgement guard_rules_judge(const struct guard_rules *rules, struct ht_slice method, struct ht_slice target,
                                       char *scratch, const struct guard_rule **rule);

/* A rate "10/s", "60/m" or "1000/h": that many requests at once, and then one each time the rate allows one. */
struct guard_rate {
    uint32_t n; /* 0: no limit */
    uint64_t per_ms;
    uint64_t left, filled_ms; /* `left` counts in 1/per_ms of a request */
};

/* 0, or HT_EINVAL with *err. */
int guard_rate_parse(struct guard_rate *r, const char *text, struct ht_errmsg *err) HT_MUST_USE;
/* Counts a request. 0: it is within the rate. Otherwise the number of seconds until one will be. */
uint32_t guard_rate_take(struct guard_rate *r, uint64_t now_ms);

#endif
