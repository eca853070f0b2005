/*
 * Which requests may pass: rules such as "POST /v1/chat/" with a star behind it, and how often. Pure.
 *
 * A path means different things to different services: whether %2F is a slash, whether ";x" and a second slash count,
 * whether what is encoded twice is decoded twice. A request is judged by every reading that its path can have: it
 * passes when each of them is allowed, and not when any of them is denied. What no honest client sends (dot segments,
 * backslashes, control bytes, encodings that are none) is refused before.
 */
#ifndef HT_GUARD_RULES_H
#define HT_GUARD_RULES_H

#include "base/base.h"
#include "base/err.h"

#define GUARD_RULES_MAX 64    /* of one name, allow and deny each */
#define GUARD_RULE_MAX 512    /* characters of one */
#define GUARD_PATH_MAX 16384  /* bytes of a path that is looked at */
#define GUARD_SEGMENTS_MAX 32 /* of a rule */

/*
 * METHOD PATH: the method in capitals, or * for any; GET stands for HEAD too. The path as it is when decoded, from its
 * slash on, or * for all. In it one * in a segment stands for any text without a slash, and at the very end for
 * everything that follows, slashes included.
 */
struct guard_rule {
    char *text;             /* as it was given */
    struct ht_slice method; /* in `text`; empty: any */
    struct ht_slice path;   /* in `text`; empty: any */
};

/* 0, HT_ENOMEM, or HT_EINVAL with what would be right in *err. */
int guard_rule_parse(struct guard_rule *r, const char *text, struct ht_errmsg *err) HT_MUST_USE;
void guard_rule_free(struct guard_rule *r);

struct guard_rules {
    struct guard_rule *allow, *deny; /* no `allow`: everything that no `deny` names */
    size_t n_allow, n_deny;
};

enum guard_judgement {
    GUARD_JUDGED_GOOD,
    GUARD_JUDGED_DENIED,    /* by a rule of `deny` */
    GUARD_JUDGED_UNNAMED,   /* no rule of `allow` names it */
    GUARD_JUDGED_AMBIGUOUS, /* a path that no honest client sends */
};

/* `target` as in a request line; its query is left out. *rule: the one that decided, NULL: none did. `scratch` has
 * GUARD_PATH_MAX bytes. */
enum guard_judgement guard_rules_judge(const struct guard_rules *rules, struct ht_slice method, struct ht_slice target,
                                       char *scratch, const struct guard_rule **rule);

/* "10/s", "60/m", "1000/h": as many at once and then evenly. */
struct guard_rate {
    uint32_t n; /* 0: no limit */
    uint64_t per_ms;
    uint64_t left, filled_ms; /* `left` counts in 1/per_ms of a request */
};

int guard_rate_parse(struct guard_rate *r, const char *text, struct ht_errmsg *err) HT_MUST_USE;
/* Takes one. 0, or in how many seconds there will be one. */
uint32_t guard_rate_take(struct guard_rate *r, uint64_t now_ms);

#endif
