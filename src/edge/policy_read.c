/* A document of permissions becomes a policy. */
#include "base/clock.h"
#include "base/mem.h"
#include "edge/policy_priv.h"

#include <stdarg.h>
#include <stdio.h>

/* ---- mistakes ---- */

int policy_wrong(struct policy_reading *g, const char *fmt, ...) {
    char text[320];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    return ht_fail(g->err, HT_EINVAL, "%s%s%s", g->where, g->where[0] ? ": " : "", text);
}

int policy_bad_json(struct policy_reading *g, const char *want) {
    if (g->r.error.reason == JSON_OK || g->r.error.reason == JSON_SYNTAX)
        return policy_wrong(g, "%s is wanted here (byte %zu)", want, (size_t)(g->r.p - g->r.start));
    return policy_wrong(g, "%s (byte %zu)", json_reason_text(g->r.error.reason), g->r.error.offset);
}

/* Goes into a member; returns where it was, for policy_leave(). */
size_t policy_enter(struct policy_reading *g, struct ht_slice name) {
    size_t n = strlen(g->where);
    snprintf(g->where + n, WHERE - n, "%s%.*s", n ? "." : "", (int)ht_min(name.n, 60), name.p);
    return n;
}

void policy_leave(struct policy_reading *g, size_t n) { g->where[n] = '\0'; }

int policy_no_memory(struct policy_reading *g) { return ht_fail(g->err, HT_ENOMEM, "out of memory"); }

void *policy_one_more(void **all, size_t n, size_t size) {
    if ((n & (n - 1)) == 0) {
        void *more = ht_realloc(*all, (n ? 2 * n : 1) * size);
        if (!more)
            return NULL;
        *all = more;
    }
    return memset((char *)*all + n * size, 0, size);
}

/* ---- words ---- */

struct ht_slice policy_kept(struct policy_reading *g, struct ht_slice s) {
    char *at = g->arena.p + g->arena.used;
    struct ht_slice copy = s.p == at - s.n && s.n ? s : ht_slice_copy(&at, s); /* an escaped text is there already */
    *at = '\0';
    g->arena.used = (size_t)(at + 1 - g->arena.p);
    return copy;
}

int policy_text(struct policy_reading *g, struct ht_slice *out, const char *want) {
    *out = ht_slice_of("", 0);
    if (json_peek(&g->r) != JSON_T_STRING || json_read_string(&g->r, false, &g->arena, out) != 0)
        return policy_bad_json(g, want);
    *out = policy_kept(g, *out);
    return HT_OK;
}

int policy_flag(struct policy_reading *g, bool *out) {
    return json_peek(&g->r) == JSON_T_BOOL && json_read_bool(&g->r, out) == 0 ? HT_OK
                                                                              : policy_bad_json(g, "true or false");
}

/* ---- permissions ---- */

static bool is_program(struct ht_slice s) {
    for (size_t i = 0; i < s.n && !ht_slice_is(s, "*"); i++) {
        bool hyphen = s.p[i] == '-' && i > 0 && i + 1 < s.n && s.p[i - 1] != '-';
        if (!hyphen && (s.p[i] < 'a' || s.p[i] > 'z'))
            return false;
    }
    return s.n > 0 && s.n <= POLICY_NAME_MAX;
}

/* "8080", "8000-8100" */
static bool read_numbers(struct ht_slice s, struct range *out) {
    unsigned long n[2] = {0, 0};
    unsigned k = 0;
    size_t digits = 0;
    for (size_t i = 0; i < s.n; i++) {
        if (s.p[i] == '-' && k == 0 && digits > 0) {
            k = 1;
            digits = 0;
        } else if (ht_is_digit(s.p[i]) && digits < 5) {
            n[k] = 10 * n[k] + (unsigned)(s.p[i] - '0');
            digits++;
        } else {
            return false;
        }
    }
    if (k == 0)
        n[1] = n[0];
    *out = (struct range){(uint16_t)n[0], (uint16_t)n[1]};
    return digits > 0 && n[0] <= n[1] && n[1] <= UINT16_MAX;
}

#define ACCESS "true, false, a number, a range such as \"8000-8100\", an array of those, or \"*\""

static int read_access_one(struct policy_reading *g, struct rule *r) {
    struct ht_slice s;
    uint64_t n = 0;
    struct range *range = policy_one_more((void **)&r->ranges, r->n, sizeof *range);
    if (!range)
        return policy_no_memory(g);
    if (json_peek(&g->r) == JSON_T_NUMBER) {
        if (json_read_uint(&g->r, &n) != 0 || n > UINT16_MAX)
            return policy_bad_json(g, "a number up to 65535");
        *range = (struct range){(uint16_t)n, (uint16_t)n};
    } else {
        int rc = policy_text(g, &s, ACCESS);
        if (rc < 0)
            return rc;
        if (ht_slice_is(s, "*"))
            r->all = true;
        else if (!read_numbers(s, range))
            return policy_wrong(g, ACCESS " is wanted here");
    }
    r->n += r->all ? 0 : 1;
    return HT_OK;
}

static int read_access(struct policy_reading *g, struct rule *r) {
    int more = 0, rc = HT_OK;
    bool yes = false;
    switch (json_peek(&g->r)) {
    case JSON_T_BOOL:
        rc = policy_flag(g, &yes);
        r->all = yes;
        r->deny = !yes;
        return rc;
    case JSON_T_ARRAY:
        if (json_array_begin(&g->r) < 0)
            return policy_bad_json(g, ACCESS);
        while (rc == HT_OK && (more = json_array_next(&g->r)) > 0)
            rc = read_access_one(g, r);
        return rc == HT_OK && more < 0 ? policy_bad_json(g, ACCESS) : rc;
    default:
        return read_access_one(g, r);
    }
}

/* {"terminal": true, ...} of a group. */
static int read_rules(struct policy_reading *g, unsigned group) {
    struct edge_policy *p = g->p;
    struct ht_slice key;
    int more = 0, rc = HT_OK;
    if (json_peek(&g->r) != JSON_T_OBJECT || json_object_begin(&g->r) < 0)
        return policy_bad_json(g, "an object of programs with what is allowed");
    while (rc == HT_OK && (more = json_object_next(&g->r, &key)) > 0) {
        if (!is_program(key))
            return policy_wrong(g, "\"%.*s\" is no program such as terminal, http or *", (int)ht_min(key.n, 60), key.p);
        struct rule *r = policy_one_more((void **)&p->rules, p->n_rules, sizeof *r);
        if (!r)
            return policy_no_memory(g);
        r->program = policy_kept(g, key);
        r->group = group;
        p->n_rules++;
        size_t was = policy_enter(g, key);
        rc = read_access(g, r);
        if (rc == HT_OK)
            policy_leave(g, was);
    }
    return rc == HT_OK && more < 0 ? policy_bad_json(g, "a program") : rc;
}

/* Rules name groups, which may stand behind them: so the groups are counted by name at the end. */
struct later {
    struct json_reader at; /* where `permissions` begins */
    bool there;
};

static int read_permissions(struct policy_reading *g) {
    struct ht_slice key;
    int more = 0, rc = HT_OK;
    if (json_peek(&g->r) != JSON_T_OBJECT || json_object_begin(&g->r) < 0)
        return policy_bad_json(g, "an object of groups with their programs");
    while (rc == HT_OK && (more = json_object_next(&g->r, &key)) > 0) {
        unsigned i = 0;
        while (i < g->p->n_groups && !ht_slice_eq(g->p->groups[i].name, key))
            i++;
        if (i == g->p->n_groups)
            return policy_wrong(g, "there is no group \"%.*s\" among the groups", (int)ht_min(key.n, 60), key.p);
        size_t was = policy_enter(g, key);
        rc = read_rules(g, i);
        if (rc == HT_OK)
            policy_leave(g, was);
    }
    return rc == HT_OK && more < 0 ? policy_bad_json(g, "a group") : rc;
}

static int read_groups(struct policy_reading *g) {
    struct ht_slice key;
    int more = 0, rc = HT_OK;
    if (json_peek(&g->r) != JSON_T_OBJECT || json_object_begin(&g->r) < 0)
        return policy_bad_json(g, "an object of groups");
    while (rc == HT_OK && (more = json_object_next(&g->r, &key)) > 0) {
        size_t was = policy_enter(g, key);
        rc = policy_group(g, key);
        if (rc == HT_OK)
            policy_leave(g, was);
    }
    return rc == HT_OK && more < 0 ? policy_bad_json(g, "a group") : rc;
}

/* ---- the document ---- */

static int read_default(struct policy_reading *g) {
    static const char want[] = "\"allow\" or \"deny\"";
    struct ht_slice s;
    int rc = policy_text(g, &s, want);
    if (rc < 0)
        return rc;
    g->p->allow = ht_slice_is(s, "allow");
    return g->p->allow || ht_slice_is(s, "deny") ? HT_OK : policy_wrong(g, "%s is wanted here", want);
}

/* `permissions` is left for later. */
static int read_top(struct policy_reading *g, struct ht_slice key, struct later *permissions) {
    if (ht_slice_is(key, "groups"))
        return read_groups(g);
    if (ht_slice_is(key, "default"))
        return read_default(g);
    if (ht_slice_is(key, "enable_proxy"))
        return policy_flag(g, &g->p->enabled);
    if (!ht_slice_is(key, "permissions"))
        return policy_wrong(g, "this is unknown; there are default, enable_proxy, groups and permissions");
    if (json_peek(&g->r) == JSON_T_NONE)
        return policy_bad_json(g, "an object of groups with their programs");
    permissions->at = g->r;
    permissions->there = true;
    return json_skip(&g->r) < 0 ? policy_bad_json(g, "an object of groups with their programs") : HT_OK;
}

static int read_document(struct policy_reading *g) {
    struct later *permissions = ht_calloc(1, sizeof *permissions); /* a reader is large */
    struct ht_slice key;
    int more = 0, rc = permissions ? HT_OK : policy_no_memory(g);
    if (rc == HT_OK && (json_peek(&g->r) != JSON_T_OBJECT || json_object_begin(&g->r) < 0))
        rc = policy_bad_json(g, "an object with default, groups and permissions");
    while (rc == HT_OK && (more = json_object_next(&g->r, &key)) > 0) {
        size_t was = policy_enter(g, key);
        rc = read_top(g, key, permissions);
        if (rc == HT_OK)
            policy_leave(g, was);
    }
    if (rc == HT_OK && (more < 0 || json_end(&g->r) < 0))
        rc = policy_bad_json(g, "the end of the document");
    if (rc == HT_OK && permissions->there) {
        g->r = permissions->at;
        (void)policy_enter(g, ht_slice_str("permissions"));
        rc = read_permissions(g);
    }
    ht_free(permissions);
    return rc;
}

struct edge_policy *edge_policy_create(struct ht_slice text, int *rc, struct ht_errmsg *err) {
    static const struct json_limits limits = {.max_depth = 8, .max_keys = JSON_MAX_KEYS, .refuse_nul = true};
    struct edge_policy *p = ht_calloc(1, sizeof *p);
    struct policy_reading *g = ht_calloc(1, sizeof *g); /* a reader is large */
    *rc = p && g ? HT_OK : ht_fail(err, HT_ENOMEM, "out of memory");
    if (*rc == HT_OK && text.n > POLICY_DOC_MAX)
        *rc = ht_fail(err, HT_EINVAL, "a document has at most %u bytes", POLICY_DOC_MAX);
    if (*rc == HT_OK) {
        p->users = 1;
        p->enabled = true;
        ht_random_bytes(&p->serial, sizeof p->serial);
        p->text_n = 2 * text.n + 1; /* all texts of it, each with a NUL, and names of groups and programs once more */
        p->text = ht_malloc(p->text_n);
        *g = (struct policy_reading){.p = p, .err = err, .arena = {.p = p->text, .cap = p->text_n}};
        json_begin(&g->r, text.p, text.n, &limits);
        *rc = p->text && edge_digest(text, ht_slice_of("", 0), p->of) ? read_document(g) : policy_no_memory(g);
    }
    ht_free(g);
    if (*rc < 0 && p) {
        p->users = 1;
        edge_policy_destroy(&p);
    }
    return p;
}

struct edge_policy *edge_policy_keep(struct edge_policy *p) {
    p->users++;
    return p;
}

void edge_policy_destroy(struct edge_policy **pp) {
    struct edge_policy *p = *pp;
    *pp = NULL;
    if (!p || --p->users)
        return;
    for (size_t i = 0; i < p->n_groups; i++) {
        struct group *g = &p->groups[i];
        for (size_t k = 0; k < g->n_claims; k++)
            ht_free((void *)(uintptr_t)g->claims[k].values);
        ht_free(g->claims);
        ht_free(g->nets);
        jwt_key_destroy(&g->key);
    }
    for (size_t i = 0; i < p->n_rules; i++)
        ht_free(p->rules[i].ranges);
    ht_free(p->rules);
    ht_free(p->groups);
    if (p->text)
        explicit_bzero(p->text, p->text_n);
    ht_free(p->text);
    ht_free(p);
}
