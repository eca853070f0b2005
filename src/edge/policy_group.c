/* A group of a document of permissions. */
#include "auth/passwords.h"
#include "base/mem.h"
#include "edge/policy_priv.h"
#include "haproxy_gen.h"
#include "http/http.h"

/* The members of a group, as they stand there. */
struct members {
    struct ht_slice type, value, secret, algorithm, username, password, salt;
    unsigned max_age_s, idle_s;
    unsigned seen; /* of enum member */
};

enum member {
    M_TYPE,
    M_VALUE,
    M_SECRET,
    M_ALGORITHM,
    M_USERNAME,
    M_PASSWORD,
    M_SALT,
    M_TEXTS,
    M_RANGE = M_TEXTS,
    M_SOURCES,
    M_CLAIMS,
    M_MAX_AGE,
    M_IDLE,
    M_PLACE,
    M_MEMBERS
};

static const char *const member_names[] = {"type", "value", "secret",  "algorithm", "username", "password",
                                           "salt", "range", "sources", "claims",    "max_age",  "idle"};

#define BIT(m) (1u << (m))

/* What each type has, and what it must have. */
static const struct {
    unsigned may, must;
} type_members[] = {
    [GROUP_IP] = {BIT(M_TYPE) | BIT(M_RANGE), BIT(M_RANGE)},
    [GROUP_TOKEN] = {BIT(M_TYPE) | BIT(M_VALUE) | BIT(M_PLACE), BIT(M_VALUE)},
    [GROUP_JWT] = {BIT(M_TYPE) | BIT(M_SECRET) | BIT(M_ALGORITHM) | BIT(M_SOURCES) | BIT(M_CLAIMS),
                   BIT(M_SECRET) | BIT(M_ALGORITHM)},
    [GROUP_PASSWORD] = {BIT(M_TYPE) | BIT(M_USERNAME) | BIT(M_PASSWORD) | BIT(M_ALGORITHM) | BIT(M_SALT) |
                            BIT(M_MAX_AGE) | BIT(M_IDLE),
                        BIT(M_USERNAME) | BIT(M_PASSWORD)},
};

static int read_net(struct policy_reading *g, struct group *to) {
    struct ht_slice s;
    struct ht_cidr *net;
    int rc = policy_text(g, &s, "a network such as \"203.0.113.0/24\"");
    if (rc < 0)
        return rc;
    if (!(net = policy_one_more((void **)&to->nets, to->n_nets, sizeof *net)))
        return policy_no_memory(g);
    if (!ht_cidr_read(s.p, s.n, net))
        return policy_wrong(g, "\"%.*s\" is no network such as 203.0.113.0/24 or 2001:db8::/32", (int)ht_min(s.n, 60),
                            s.p);
    to->n_nets++;
    return HT_OK;
}

static int read_range(struct policy_reading *g, struct group *to) {
    int more = 0, rc = HT_OK;
    if (json_peek(&g->r) != JSON_T_ARRAY)
        return read_net(g, to);
    if (json_array_begin(&g->r) < 0)
        return policy_bad_json(g, "networks");
    while (rc == HT_OK && (more = json_array_next(&g->r)) > 0)
        rc = read_net(g, to);
    if (rc == HT_OK && more < 0)
        return policy_bad_json(g, "a network");
    return rc == HT_OK && to->n_nets == 0 ? policy_wrong(g, "one network at least is wanted here") : rc;
}

static const char *const source_names[] = {
    [SOURCE_HEADER] = "header", [SOURCE_COOKIE] = "cookie", [SOURCE_PARAM] = "param"};

/* True when the member names a place. */
static bool source_of(struct ht_slice key, enum source_kind *kind) {
    for (unsigned i = 0; i < HT_ARRAY_LEN(source_names); i++)
        if (ht_slice_is(key, source_names[i])) {
            *kind = i;
            return true;
        }
    return false;
}

/* What HAProxy or the way to the service needs itself cannot be a secret that is taken out. */
static bool is_special(struct ht_slice s) {
    static const char *const names[] = {"host", "cookie", "content-length", "expect", "x-forwarded-for"};
    for (size_t i = 0; i < HT_ARRAY_LEN(names); i++)
        if (ht_slice_is(s, names[i]))
            return true;
    return http_hop_of(s) != HTTP_HOP_NONE || http_field_is_about_visitor(s);
}

static int read_source(struct policy_reading *g, struct group *to, enum source_kind kind) {
    struct ht_slice s;
    int rc = policy_text(g, &s, "a name");
    if (rc < 0)
        return rc;
    if (to->n_sources == POLICY_SOURCES_MAX)
        return policy_wrong(g, "a group has at most %d places for its secret", POLICY_SOURCES_MAX);
    if (s.n > 128 || (kind == SOURCE_PARAM ? s.n == 0 : !http_is_token(s)))
        return policy_wrong(g, "\"%.*s\" is no name of a %s", (int)ht_min(s.n, 60), s.p, source_names[kind]);
    char *name = (char *)(uintptr_t)s.p; /* it is the arena's */
    for (size_t i = 0; kind == SOURCE_HEADER && i < s.n; i++)
        name[i] = ht_lower(name[i]);
    if (kind == SOURCE_HEADER && is_special(s))
        return policy_wrong(g, "the header %.*s has another meaning already", HT_SLICE_ARG(s));
    if (kind == SOURCE_COOKIE && ht_slice_is(s, HAPROXY_LOGIN_COOKIE))
        return policy_wrong(g, "the cookie " HAPROXY_LOGIN_COOKIE " is the edge's own");
    to->sources[to->n_sources++] = (struct source){kind, s};
    return HT_OK;
}

/* [{"header": "Authorization"}, {"cookie": "session"}, ...] */
static int read_sources(struct policy_reading *g, struct group *to) {
    static const char want[] = "an array of objects such as {\"header\": \"Authorization\"}, {\"cookie\": \"NAME\"} or "
                               "{\"param\": \"NAME\"}";
    struct ht_slice key;
    enum source_kind kind;
    int more = 0, rc = HT_OK;
    if (json_peek(&g->r) != JSON_T_ARRAY || json_array_begin(&g->r) < 0)
        return policy_bad_json(g, want);
    while (rc == HT_OK && (more = json_array_next(&g->r)) > 0) {
        if (json_peek(&g->r) != JSON_T_OBJECT || json_object_begin(&g->r) < 0)
            return policy_bad_json(g, want);
        while (rc == HT_OK && (more = json_object_next(&g->r, &key)) > 0)
            rc = source_of(key, &kind) ? read_source(g, to, kind) : policy_wrong(g, "%s is wanted here", want);
        if (rc == HT_OK && more < 0)
            return policy_bad_json(g, want);
    }
    if (rc == HT_OK && more < 0)
        return policy_bad_json(g, want);
    return rc == HT_OK && to->n_sources == 0 ? policy_wrong(g, "%s is wanted here", want) : rc;
}

/* ---- claims ---- */

static int read_wanted(struct policy_reading *g, struct jwt_value **all, size_t *n) {
    static const char want[] = "a text, a whole number, true or false, or an array of those";
    struct jwt_value *v = *n < JWT_WANTED_MAX ? policy_one_more((void **)all, *n, sizeof *v) : NULL;
    bool flag = false;
    if (!v)
        return *n < JWT_WANTED_MAX ? policy_no_memory(g)
                                   : policy_wrong(g, "a claim has at most %d values", JWT_WANTED_MAX);
    (*n)++;
    switch (json_peek(&g->r)) {
    case JSON_T_STRING:
        v->type = JWT_TEXT;
        return policy_text(g, &v->text, want);
    case JSON_T_NUMBER:
        v->type = JWT_NUMBER;
        return json_read_uint(&g->r, &v->number) == 0 ? HT_OK : policy_bad_json(g, want);
    case JSON_T_BOOL:
        v->type = JWT_BOOL;
        if (policy_flag(g, &flag) < 0)
            return HT_EINVAL;
        v->number = flag;
        return HT_OK;
    default:
        return policy_bad_json(g, want);
    }
}

static int read_claim(struct policy_reading *g, struct jwt_claim *c) {
    struct jwt_value *values = NULL;
    int more = 0, rc = HT_OK;
    if (json_peek(&g->r) != JSON_T_ARRAY) {
        rc = read_wanted(g, &values, &c->n);
    } else if (json_array_begin(&g->r) == 0) {
        while (rc == HT_OK && (more = json_array_next(&g->r)) > 0)
            rc = read_wanted(g, &values, &c->n);
        if (rc == HT_OK && more < 0)
            rc = policy_bad_json(g, "a value");
        else if (rc == HT_OK && c->n == 0)
            rc = policy_wrong(g, "one value at least is wanted here");
    }
    c->values = values;
    return rc;
}

static int read_claims(struct policy_reading *g, struct group *to) {
    struct ht_slice key;
    int more = 0, rc = HT_OK;
    if (json_peek(&g->r) != JSON_T_OBJECT || json_object_begin(&g->r) < 0)
        return policy_bad_json(g, "an object of claims with their values");
    while (rc == HT_OK && (more = json_object_next(&g->r, &key)) > 0) {
        if (to->n_claims == JWT_CLAIMS_MAX)
            return policy_wrong(g, "at most %d claims can be asked for", JWT_CLAIMS_MAX);
        if (ht_slice_is(key, "exp") || ht_slice_is(key, "nbf"))
            return policy_wrong(g, "%.*s is always looked at, and has no value here", HT_SLICE_ARG(key));
        struct jwt_claim *c = policy_one_more((void **)&to->claims, to->n_claims, sizeof *c);
        if (!c)
            return policy_no_memory(g);
        c->name = policy_kept(g, key);
        to->n_claims++;
        size_t at = policy_enter(g, key);
        rc = read_claim(g, c);
        if (rc == HT_OK)
            policy_leave(g, at);
    }
    return rc == HT_OK && more < 0 ? policy_bad_json(g, "a claim") : rc;
}

/* ---- what a group becomes ---- */

static int build_token(struct policy_reading *g, struct group *to, const struct members *m) {
    if (m->value.n < POLICY_TOKEN_MIN)
        return policy_wrong(g, "the value has at least %d bytes, or it would be guessed", POLICY_TOKEN_MIN);
    if (m->value.n > JWT_MAX)
        return policy_wrong(g, "the value has at most %d bytes", JWT_MAX);
    if (to->n_sources > 1)
        return policy_wrong(g, "one of header, cookie and param says where the value stands");
    return edge_digest(m->value, ht_slice_of("", 0), to->token) ? HT_OK : policy_no_memory(g);
}

static int build_jwt(struct policy_reading *g, struct group *to, const struct members *m) {
    enum jwt_algorithm algorithm;
    struct ht_errmsg why;
    int rc;
    if (!jwt_algorithm_read(m->algorithm, &algorithm))
        return policy_wrong(g, "algorithm is " JWT_NAMES);
    to->key = jwt_key_create(algorithm, m->secret, &rc, &why);
    return to->key ? HT_OK : rc == HT_ENOMEM ? policy_no_memory(g) : policy_wrong(g, "%s", why.text);
}

static int build_password(struct policy_reading *g, struct group *to, const struct members *m) {
    struct ht_errmsg why;
    const char *fault = auth_hash_fault(m->password.p); /* there is a NUL behind it */
    if (auth_user_name_check(m->username, &why) < 0)
        return policy_wrong(g, "%s", why.text);
    to->digested = ht_slice_is(m->algorithm, "sha256");
    if (!to->digested && m->algorithm.n && !ht_slice_is(m->algorithm, "crypt"))
        return policy_wrong(g,
                            "algorithm is crypt, for a hash of the password, or sha256, for a hash of the hexadecimal "
                            "SHA-256 of salt and password");
    if (!to->digested && m->seen & BIT(M_SALT))
        return policy_wrong(g, "salt belongs to the algorithm sha256 alone");
    if (fault)
        return policy_wrong(g, "it %s; `hoody-tunnel password new NAME` makes a good hash", fault);
    for (size_t i = 0; i < g->p->n_groups; i++)
        if (&g->p->groups[i] != to && g->p->groups[i].type == GROUP_PASSWORD &&
            ht_slice_eq(g->p->groups[i].user, m->username))
            return policy_wrong(g, "another group has this username already");
    to->user = m->username;
    to->hash = m->password;
    to->salt = m->salt;
    to->max_age_s = m->max_age_s;
    to->idle_s = m->idle_s;
    return HT_OK;
}

static int build_group(struct policy_reading *g, struct group *to, const struct members *m) {
    static const struct source usual = {SOURCE_HEADER, {"authorization", 13}};
    for (unsigned t = GROUP_IP; t <= GROUP_PASSWORD; t++)
        if (ht_slice_is(m->type, group_type_words[t]))
            to->type = t;
    if (to->type == GROUP_NONE)
        return policy_wrong(g, "type is ip, token, jwt or password");
    unsigned may = type_members[to->type].may, must = type_members[to->type].must;
    for (unsigned i = 0; i < M_PLACE; i++) {
        if (m->seen & ~may & BIT(i))
            return policy_wrong(g, "a group of type %s has no %s", group_type_words[to->type], member_names[i]);
        if (must & ~m->seen & BIT(i))
            return policy_wrong(g, "a group of type %s needs %s", group_type_words[to->type], member_names[i]);
    }
    if (m->seen & ~may)
        return policy_wrong(g, "a group of type %s has none of header, cookie and param", group_type_words[to->type]);
    if (to->n_sources == 0 && (to->type == GROUP_TOKEN || to->type == GROUP_JWT))
        to->sources[to->n_sources++] = usual;
    switch (to->type) {
    case GROUP_TOKEN:
        return build_token(g, to, m);
    case GROUP_JWT:
        return build_jwt(g, to, m);
    case GROUP_PASSWORD:
        return build_password(g, to, m);
    default:
        return HT_OK;
    }
}

static int read_age(struct policy_reading *g, unsigned *out) {
    uint64_t n = 0;
    if (json_peek(&g->r) != JSON_T_NUMBER || json_read_uint(&g->r, &n) != 0 || n < POLICY_AGE_MIN || n > POLICY_AGE_MAX)
        return policy_wrong(g, "a number of seconds from %u to %u is wanted here", POLICY_AGE_MIN, POLICY_AGE_MAX);
    *out = (unsigned)n;
    return HT_OK;
}

static int read_member(struct policy_reading *g, struct group *to, struct members *m, struct ht_slice key) {
    struct ht_slice *texts[M_TEXTS] = {&m->type,     &m->value,    &m->secret, &m->algorithm,
                                       &m->username, &m->password, &m->salt};
    enum source_kind kind;
    if (source_of(key, &kind)) {
        m->seen |= BIT(M_PLACE);
        return read_source(g, to, kind);
    }
    for (unsigned i = 0; i < M_PLACE; i++) {
        if (!ht_slice_is(key, member_names[i]))
            continue;
        m->seen |= BIT(i);
        size_t at = policy_enter(g, key);
        int rc = i < M_TEXTS      ? policy_text(g, texts[i], "a text")
                 : i == M_RANGE   ? read_range(g, to)
                 : i == M_SOURCES ? read_sources(g, to)
                 : i == M_CLAIMS  ? read_claims(g, to)
                                  : read_age(g, i == M_IDLE ? &m->idle_s : &m->max_age_s);
        if (rc == HT_OK)
            policy_leave(g, at);
        return rc;
    }
    return policy_wrong(g, "\"%.*s\" is unknown; a group has type and what belongs to it", (int)ht_min(key.n, 60),
                        key.p);
}

static bool is_name(struct ht_slice s) {
    for (size_t i = 0; i < s.n; i++)
        if (!ht_is_digit(s.p[i]) && !(ht_lower(s.p[i]) >= 'a' && ht_lower(s.p[i]) <= 'z') && s.p[i] != '-' &&
            s.p[i] != '_')
            return false;
    return s.n > 0 && s.n <= POLICY_NAME_MAX;
}

int policy_group(struct policy_reading *g, struct ht_slice name) {
    struct edge_policy *p = g->p;
    struct members m = {.seen = 0};
    struct ht_slice key;
    int more = 0, rc = HT_OK;
    if (!is_name(name))
        return policy_wrong(g, "a group's name has 1 to %d letters, digits, - and _", POLICY_NAME_MAX);
    if (p->n_groups == POLICY_GROUPS_MAX)
        return policy_wrong(g, "there are at most %d groups", POLICY_GROUPS_MAX);
    struct group *to = policy_one_more((void **)&p->groups, p->n_groups, sizeof *to);
    if (!to)
        return policy_no_memory(g);
    to->name = policy_kept(g, name);
    p->n_groups++;
    if (json_peek(&g->r) != JSON_T_OBJECT || json_object_begin(&g->r) < 0)
        return policy_bad_json(g, "an object with type and what belongs to it");
    while (rc == HT_OK && (more = json_object_next(&g->r, &key)) > 0)
        rc = read_member(g, to, &m, key);
    if (rc == HT_OK && more < 0)
        return policy_bad_json(g, "a member of a group");
    return rc == HT_OK ? build_group(g, to, &m) : rc;
}
