/* What a policy says of a request. */
#include "edge/policy_priv.h"

#include "base/clock.h"
#include "base/mem.h"
#include "haproxy_gen.h"
#include "http/http.h"

#include <openssl/evp.h>

const char *const group_type_words[] = {"", "ip", "token", "jwt", "password"};

bool edge_digest(struct ht_slice a, struct ht_slice b, uint8_t out[DIGEST]) {
    EVP_MD_CTX *ctx = EVP_MD_CTX_new();
    bool ok = ctx && EVP_DigestInit_ex(ctx, EVP_sha256(), NULL) == 1 && EVP_DigestUpdate(ctx, a.p, a.n) == 1 &&
              EVP_DigestUpdate(ctx, b.p, b.n) == 1 && EVP_DigestFinal_ex(ctx, out, NULL) == 1;
    EVP_MD_CTX_free(ctx);
    return ok;
}

bool edge_policy_enabled(const struct edge_policy *p) { return p->enabled; }

bool edge_policy_is_of(const struct edge_policy *p, struct ht_slice text) {
    uint8_t of[DIGEST];
    return edge_digest(text, ht_slice_of("", 0), of) && memcmp(of, p->of, DIGEST) == 0;
}

uint64_t edge_policy_serial(const struct edge_policy *p) { return p->serial; }

/* With "allow" it asks only if somebody may not, or if a service must not see what groups show. */
bool edge_policy_asks(const struct edge_policy *p) {
    bool asks = !p->allow;
    for (size_t i = 0; i < p->n_rules; i++)
        asks |= p->rules[i].deny;
    for (size_t i = 0; i < p->n_groups; i++)
        asks |= p->groups[i].type != GROUP_IP;
    return asks;
}

/* ---- what a group may ---- */

/* The rule of a group for a program; NULL: it has none. */
static const struct rule *rule_of(const struct edge_policy *p, unsigned group, struct ht_slice program) {
    const struct rule *any = NULL;
    for (size_t i = 0; i < p->n_rules; i++) {
        const struct rule *r = &p->rules[i];
        if (r->group == group && ht_slice_eq(r->program, program))
            return r;
        if (r->group == group && ht_slice_is(r->program, "*"))
            any = r;
    }
    return any;
}

enum access { ACCESS_NONE, ACCESS_YES, ACCESS_NO };

static enum access access_to(const struct edge_policy *p, unsigned group, struct ht_slice program, unsigned index,
                             bool any_index) {
    const struct rule *r = rule_of(p, group, program);
    if (!r)
        return ACCESS_NONE;
    if (r->deny || r->all)
        return r->deny ? ACCESS_NO : ACCESS_YES;
    for (size_t i = 0; i < r->n; i++)
        if (any_index || (index >= r->ranges[i].first && index <= r->ranges[i].last))
            return ACCESS_YES;
    return ACCESS_NONE;
}

static enum access access_of(const struct edge_policy *p, unsigned group, const struct edge_visit *v) {
    enum access a = access_to(p, group, v->program, v->index, false);
    if (v->also.n == 0)
        return a;
    enum access b = access_to(p, group, v->also, 0, true); /* its numbers all lead to that port */
    return a == ACCESS_NO || b == ACCESS_NO ? ACCESS_NO : a == ACCESS_YES && b == ACCESS_YES ? ACCESS_YES : ACCESS_NONE;
}

struct ht_slice edge_policy_program(const struct edge_policy *p, size_t i) {
    return i < p->n_rules ? p->rules[i].program : ht_slice_of(NULL, 0);
}

/* ---- whether a visitor belongs to a group ---- */

struct asked {
    const struct edge_policy *p;
    const struct edge_visit *v;
    struct edge_field fields[POLICY_FIELDS_MAX];
    size_t n;
    uint64_t now_s;
    struct edge_decision *d;
    char scratch[JWT_MAX]; /* for a parameter */
};

enum membership { IS_NOT, IS_MEMBER, IS_WRONG, IS_AMBIGUOUS };

static enum membership wrong(struct asked *a, const char *why) {
    a->d->failed = true;
    a->d->why = why;
    return IS_WRONG;
}

static bool token_fits(const struct group *g, struct ht_slice value) {
    uint8_t digest[DIGEST];
    return edge_digest(value, ht_slice_of("", 0), digest) &&
           ht_const_time_eq(digest, sizeof digest, g->token, sizeof g->token);
}

/* A group of secrets: one of the places where it may stand is enough. */
static enum membership shows_secret(struct asked *a, const struct group *g) {
    enum membership m = IS_NOT;
    for (size_t i = 0; i < g->n_sources && m != IS_MEMBER; i++) {
        struct ht_slice value;
        if (edge_source_find(&g->sources[i], a->fields, a->n, a->v->target, a->scratch, &value) != 1)
            continue;
        struct ht_slice token = edge_bearer(value);
        bool basic = g->sources[i].kind == SOURCE_HEADER && value.n >= 6 &&
                     ht_slice_case_eq(ht_slice_of(value.p, 6), ht_slice_str("basic "));
        if (g->type == GROUP_TOKEN) {
            m = token_fits(g, token) || (token.n != value.n && token_fits(g, value)) ? IS_MEMBER
                : basic                                                              ? m
                                                                                     : wrong(a, "token");
            continue;
        }
        if (basic) /* of another group, or of the service */
            continue;
        enum jwt_result rc = jwt_check(g->key, g->claims, g->n_claims, token, a->now_s);
        m = rc == JWT_GOOD ? IS_MEMBER : wrong(a, jwt_result_word(rc));
    }
    return m;
}

/* Two of what may be there once: this side and the service might each take another one. */
static bool is_ambiguous(struct asked *a) {
    for (size_t i = 0; i < a->p->n_groups; i++) {
        const struct group *g = &a->p->groups[i];
        static const struct source basic = {SOURCE_HEADER, {"authorization", 13}};
        struct ht_slice value;
        if (g->type == GROUP_PASSWORD &&
            edge_source_find(&basic, a->fields, a->n, a->v->target, a->scratch, &value) > 1)
            return true;
        for (size_t k = 0; k < g->n_sources; k++)
            if (edge_source_find(&g->sources[k], a->fields, a->n, a->v->target, a->scratch, &value) > 1)
                return true;
    }
    return false;
}

static bool is_member(struct asked *a, const struct group *g) {
    if (g->type == GROUP_IP)
        return a->v->family && ht_cidrs_match(g->nets, g->n_nets, a->v->family, a->v->addr);
    if (g->type == GROUP_PASSWORD)
        return a->v->login.n && ht_slice_eq(g->name, a->v->login);
    return shows_secret(a, g) == IS_MEMBER;
}

/* ---- passwords ---- */

static unsigned challenge_of(const struct group *g) {
    if (g->type == GROUP_PASSWORD)
        return EDGE_BASIC;
    for (size_t i = 0; i < g->n_sources; i++)
        if (g->sources[i].kind == SOURCE_HEADER && ht_slice_is(g->sources[i].name, "authorization"))
            return EDGE_BEARER;
    return 0;
}

/* The hash is that of the hexadecimal SHA-256 of salt and password: what another system had kept. */
static bool digest_password(struct edge_decision *d, struct ht_slice salt) {
    uint8_t sum[DIGEST];
    if (!edge_digest(salt, d->claim.password, sum))
        return false;
    for (size_t i = 0; i < DIGEST; i++) {
        d->digest[2 * i] = "0123456789abcdef"[sum[i] >> 4];
        d->digest[2 * i + 1] = "0123456789abcdef"[sum[i] & 15];
    }
    d->claim.password = ht_slice_of(d->digest, 2 * DIGEST);
    explicit_bzero(sum, sizeof sum);
    return true;
}

/* Whether some group's password may fit what is in d->claim. One of a name that no group has is checked, too: it must
 * take as long. */
static bool may_fit(const struct edge_policy *p, const struct edge_visit *v, struct edge_decision *d) {
    bool asked = false;
    for (unsigned i = 0; i < p->n_groups; i++) {
        const struct group *g = &p->groups[i];
        if (g->type != GROUP_PASSWORD || access_of(p, i, v) != ACCESS_YES)
            continue;
        asked = true;
        if (!ht_slice_eq(g->user, d->claim.name))
            continue;
        d->group = g->name;
        d->claim.hash = g->hash.p;
        return !g->digested || digest_password(d, g->salt);
    }
    return asked;
}

static bool shows_login(struct asked *a) {
    static const struct source basic = {SOURCE_HEADER, {"authorization", 13}};
    struct edge_decision *d = a->d;
    struct ht_slice value;
    return edge_source_find(&basic, a->fields, a->n, a->v->target, a->scratch, &value) == 1 &&
           auth_basic_read(value, d->basic, &d->claim.name, &d->claim.password) && may_fit(a->p, a->v, d);
}

bool edge_policy_claim(const struct edge_policy *p, const struct edge_visit *v, struct ht_slice name,
                       struct ht_slice password, struct edge_decision *d) {
    char *at = d->basic;
    *d = (struct edge_decision){.why = "", .group = {"", 0}, .challenge = EDGE_BASIC};
    d->claim.name = ht_slice_of(at, name.n);
    ht_slice_copy(&at, name);
    d->claim.password = ht_slice_of(at, password.n);
    ht_slice_copy(&at, password);
    d->verdict = may_fit(p, v, d) ? EDGE_PASSWORD : EDGE_DENY;
    return d->verdict == EDGE_PASSWORD;
}

struct edge_login_age edge_policy_login_age(const struct edge_policy *p, struct ht_slice group) {
    struct edge_login_age age = {HAPROXY_LOGIN_MAX_AGE_S, HAPROXY_LOGIN_IDLE_S};
    for (size_t i = 0; i < p->n_groups; i++)
        if (ht_slice_eq(p->groups[i].name, group)) {
            age.max_age_s = p->groups[i].max_age_s ? p->groups[i].max_age_s : age.max_age_s;
            age.idle_s = p->groups[i].idle_s ? p->groups[i].idle_s : age.idle_s;
        }
    return age;
}

/* An item of Accept, whatever its weight: what is not wanted at all is not named. */
static bool names_html(struct ht_slice accept) {
    static const char html[] = "text/html";
    struct ht_slice item;
    while (http_list_next(&accept, &item))
        if (item.n >= sizeof html - 1 && ht_slice_case_eq(ht_slice_of(item.p, sizeof html - 1), ht_slice_str(html)))
            return true;
    return false;
}

enum edge_reader edge_policy_reader(const struct edge_visit *v) {
    struct edge_field f[POLICY_FIELDS_MAX];
    struct ht_slice mode = {"", 0};
    bool html = false;
    size_t n = edge_fields_read(v->heads, f, POLICY_FIELDS_MAX);
    for (size_t i = 0; i < n; i++) {
        if (ht_slice_case_eq(f[i].name, ht_slice_str("accept")))
            html |= names_html(f[i].value);
        else if (ht_slice_case_eq(f[i].name, ht_slice_str("sec-fetch-mode")))
            mode = f[i].value;
    }
    if (mode.n && !ht_slice_is(mode, "navigate"))
        return EDGE_READER_PAGE;
    return html ? EDGE_READER_PERSON : EDGE_READER_PROGRAM;
}

bool edge_policy_ticket(const struct edge_policy *p, const struct edge_visit *v, struct ht_slice *ticket) {
    struct edge_field f[POLICY_FIELDS_MAX];
    bool passwords = false;
    for (size_t i = 0; i < p->n_groups; i++)
        passwords |= p->groups[i].type == GROUP_PASSWORD;
    return passwords && edge_cookie_find(ht_slice_str(HAPROXY_LOGIN_COOKIE), f,
                                         edge_fields_read(v->heads, f, POLICY_FIELDS_MAX), ticket) == 1;
}

/* ---- the decision ---- */

static void decided(struct edge_decision *d, enum edge_verdict verdict, const char *why, struct ht_slice group) {
    d->verdict = verdict;
    d->why = why;
    d->group = group;
}

/* Nobody lets him in: what would help? */
static void refuse(struct edge_decision *d, const char *why, struct ht_slice group) {
    decided(d, d->challenge ? EDGE_LOGIN : EDGE_DENY, why, group);
}

static void decide(struct asked *a) {
    static const struct ht_slice none = {"", 0};
    const struct edge_policy *p = a->p;
    struct edge_decision *d = a->d;
    const struct group *told_no = NULL;
    if (is_ambiguous(a)) {
        decided(d, EDGE_DENY, "twice", none);
        return;
    }
    for (unsigned i = 0; i < p->n_groups; i++) {
        const struct group *g = &p->groups[i];
        enum access access = access_of(p, i, a->v);
        if (access == ACCESS_NONE)
            continue;
        d->challenge |= access == ACCESS_YES ? challenge_of(g) : 0;
        if (!is_member(a, g))
            continue;
        if (access == ACCESS_YES) {
            d->failed = false;
            decided(d, EDGE_ALLOW, g->type == GROUP_PASSWORD ? "page" : group_type_words[g->type], g->name);
            return;
        }
        told_no = g;
    }
    const char *why = d->failed ? d->why : "nobody";
    if (p->allow && !told_no)
        decided(d, EDGE_ALLOW, "default", none);
    else if (shows_login(a))
        d->verdict = EDGE_PASSWORD;
    else
        refuse(d, told_no ? "group" : why, told_no ? told_no->name : none);
}

void edge_policy_decide(const struct edge_policy *p, const struct edge_visit *v, uint64_t now_s,
                        struct edge_decision *d) {
    struct asked a; /* it is large, and nearly all of it is not touched */
    a.p = p;
    a.v = v;
    a.now_s = now_s;
    a.d = d;
    a.n = edge_fields_read(v->heads, a.fields, POLICY_FIELDS_MAX);
    *d = (struct edge_decision){.why = "", .group = {"", 0}};
    decide(&a);
    if (v->target.n && memchr(v->target.p, '?', v->target.n))
        explicit_bzero(a.scratch, sizeof a.scratch);
}

void edge_policy_login(struct edge_decision *d, bool good) {
    if (good) {
        decided(d, EDGE_ALLOW, "password", d->group);
        return;
    }
    refuse(d, "password", ht_slice_of("", 0));
}
