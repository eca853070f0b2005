/* A document of hooks becomes what requests are compared with. */
#include "base/mem.h"
#include "edge/hooks_priv.h"
#include "http/http.h"

#include <stdio.h>

/* ---- words ---- */

size_t hook_enter_item(struct hook_reading *r, size_t i) {
    char name[24];
    snprintf(name, sizeof name, "%zu", i);
    return policy_enter(&r->g, ht_slice_str(name));
}

int hook_read_some(struct hook_reading *r, struct hook *to, hook_read_one *one, const char *want) {
    int more = 0, rc = HT_OK;
    if (json_peek(&r->g.r) != JSON_T_ARRAY)
        return one(r, to);
    if (json_array_begin(&r->g.r) < 0)
        return policy_bad_json(&r->g, want);
    while (rc == HT_OK && (more = json_array_next(&r->g.r)) > 0)
        rc = one(r, to);
    return rc == HT_OK && more < 0 ? policy_bad_json(&r->g, want) : rc;
}

int hook_read_number(struct hook_reading *r, unsigned least, unsigned most, unsigned *out) {
    char want[60];
    uint64_t n = 0;
    snprintf(want, sizeof want, "a whole number from %u to %u", least, most);
    if (json_peek(&r->g.r) != JSON_T_NUMBER)
        return policy_bad_json(&r->g, want);
    int rc = json_read_uint(&r->g.r, &n);
    if (rc < 0)
        return policy_bad_json(&r->g, want);
    if (rc > 0 || n < least || n > most)
        return policy_wrong(&r->g, "%s is wanted here", want);
    *out = (unsigned)n;
    return HT_OK;
}

int hook_read_path(struct hook_reading *r, struct ht_slice *out) {
    int rc = policy_text(&r->g, out, "a path such as /api");
    if (rc < 0)
        return rc;
    if (out->n > HOOKS_PATH_MAX)
        return policy_wrong(&r->g, "a path has at most %d bytes", HOOKS_PATH_MAX);
    if (!hook_path_is_good(*out))
        return policy_wrong(
            &r->g,
            "\"%.*s\" is no path such as /api/v1: from the first slash on, without a query, doubled slashes, . and .., "
            "and percents (%%20) where they must be",
            (int)ht_min(out->n, 60), out->p);
    return HT_OK;
}

int hook_read_name(struct hook_reading *r, struct ht_slice *name) {
    if (!http_is_token(*name) || name->n > 63)
        return policy_wrong(&r->g, "\"%.*s\" is no name of a field", (int)ht_min(name->n, 60), name->p);
    char *p = (char *)(uintptr_t)name->p; /* it is the arena's */
    for (size_t i = 0; i < name->n; i++)
        p[i] = ht_lower(p[i]);
    return HT_OK;
}

/* ---- what a hook looks at ---- */

static int read_method(struct hook_reading *r, struct hook *to) {
    struct ht_slice s;
    int rc = policy_text(&r->g, &s, "a method such as GET");
    if (rc < 0)
        return rc;
    for (size_t i = 0; i < s.n; i++)
        if (s.p[i] != '-' && (s.p[i] < 'A' || s.p[i] > 'Z'))
            s.n = 0;
    if (s.n == 0 || s.n > 24)
        return policy_wrong(&r->g, "this is no method such as GET, in upper case");
    if (to->n_methods == HOOKS_METHODS_MAX)
        return policy_wrong(&r->g, "a hook looks at no more than %d methods", HOOKS_METHODS_MAX);
    to->methods[to->n_methods++] = s;
    return HT_OK;
}

static int read_net(struct hook_reading *r, struct hook *to) {
    struct ht_slice s;
    int rc = policy_text(&r->g, &s, "a network such as \"203.0.113.0/24\"");
    if (rc < 0)
        return rc;
    if (to->n_nets == HOOKS_NETS_MAX)
        return policy_wrong(&r->g, "a hook looks at no more than %d networks", HOOKS_NETS_MAX);
    struct ht_cidr *net = policy_one_more((void **)&to->nets, to->n_nets, sizeof *net);
    if (!net)
        return policy_no_memory(&r->g);
    if (!ht_cidr_read(s.p, s.n, net))
        return policy_wrong(&r->g, "\"%.*s\" is no network such as 203.0.113.0/24 or 2001:db8::/32",
                            (int)ht_min(s.n, 60), s.p);
    to->n_nets++;
    return HT_OK;
}

static int read_index(struct hook_reading *r, struct hook *to) {
    if (to->n_indexes == HOOKS_FIELDS_MAX)
        return policy_wrong(&r->g, "a hook looks at no more than %d numbers", HOOKS_FIELDS_MAX);
    unsigned *n = policy_one_more((void **)&to->indexes, to->n_indexes, sizeof *n);
    if (!n)
        return policy_no_memory(&r->g);
    to->n_indexes++;
    return hook_read_number(r, 0, UINT16_MAX, n);
}

/* The value of a field: true, false, or a text with at most one *. */
static int read_want(struct hook_reading *r, struct hook_want *w) {
    static const char want[] = "true, false, or a text in which a * stands for anything";
    struct ht_slice s;
    bool there = false;
    if (json_peek(&r->g.r) == JSON_T_BOOL) {
        int rc = policy_flag(&r->g, &there);
        w->kind = there ? HOOK_WANT_PRESENT : HOOK_WANT_ABSENT;
        return rc;
    }
    int rc = policy_text(&r->g, &s, want);
    if (rc < 0)
        return rc;
    if (s.n > HOOKS_VALUE_MAX || !http_is_field_value(s))
        return policy_wrong(&r->g, "a field's value has at most %d bytes, and no control bytes", HOOKS_VALUE_MAX);
    const char *star = s.n ? memchr(s.p, '*', s.n) : NULL;
    w->kind = star ? HOOK_WANT_AROUND : HOOK_WANT_TEXT;
    w->before = star ? ht_slice_of(s.p, (size_t)(star - s.p)) : s;
    w->after = star ? ht_slice_of(star + 1, s.n - w->before.n - 1) : ht_slice_of("", 0);
    return star && memchr(w->after.p, '*', w->after.n) ? policy_wrong(&r->g, "there is at most one *") : HT_OK;
}

static int read_wants(struct hook_reading *r, struct hook *to) {
    static const char want[] = "an object of header fields, each with true, false or a text";
    struct ht_slice key;
    int more = 0, rc = HT_OK;
    if (json_peek(&r->g.r) != JSON_T_OBJECT || json_object_begin(&r->g.r) < 0)
        return policy_bad_json(&r->g, want);
    while (rc == HT_OK && (more = json_object_next(&r->g.r, &key)) > 0) {
        if (to->n_wants == HOOKS_FIELDS_MAX)
            return policy_wrong(&r->g, "a hook looks at no more than %d fields", HOOKS_FIELDS_MAX);
        if (r->h->n_wants++ == HOOKS_WANTS_MAX)
            return policy_wrong(&r->g, "hooks of a container look at no more than %d fields", HOOKS_WANTS_MAX);
        struct hook_want *w = policy_one_more((void **)&to->wants, to->n_wants, sizeof *w);
        if (!w)
            return policy_no_memory(&r->g);
        to->n_wants++;
        w->name = policy_kept(&r->g, key);
        size_t was = policy_enter(&r->g, key);
        rc = hook_read_name(r, &w->name);
        if (rc == HT_OK)
            rc = read_want(r, w);
        if (rc == HT_OK)
            policy_leave(&r->g, was);
    }
    return rc == HT_OK && more < 0 ? policy_bad_json(&r->g, want) : rc;
}

static int read_pattern(struct hook_reading *r, struct hook_path *p, struct ht_slice text) {
    int rc = HT_OK;
    const char *wrong = hook_pattern_read(p, text, &rc);
    return wrong ? policy_wrong(&r->g, "%s", wrong) : rc < 0 ? policy_no_memory(&r->g) : HT_OK;
}

static int read_match_path(struct hook_reading *r, struct hook *to) {
    static const char want[] = "a pattern such as \"/api/**\", or an object with one of exact, prefix and pattern";
    static const char *const kinds[] = {
        [HOOK_PATH_EXACT] = "exact", [HOOK_PATH_PREFIX] = "prefix", [HOOK_PATH_PATTERN] = "pattern"};
    struct ht_slice key, text;
    int more = 0, rc = HT_OK;
    if (json_peek(&r->g.r) == JSON_T_STRING) {
        rc = hook_read_path(r, &text);
        return rc == HT_OK ? read_pattern(r, &to->path, text) : rc;
    }
    if (json_peek(&r->g.r) != JSON_T_OBJECT || json_object_begin(&r->g.r) < 0)
        return policy_bad_json(&r->g, want);
    while (rc == HT_OK && (more = json_object_next(&r->g.r, &key)) > 0) {
        unsigned kind = HOOK_PATH_EXACT;
        while (kind <= HOOK_PATH_PATTERN && !ht_slice_is(key, kinds[kind]))
            kind++;
        if (kind > HOOK_PATH_PATTERN || to->path.kind != HOOK_PATH_ANY)
            return policy_wrong(&r->g, "%s is wanted here", want);
        rc = hook_read_path(r, &text);
        to->path.kind = kind;
        to->path.text = text;
        if (rc == HT_OK && kind == HOOK_PATH_PATTERN)
            rc = read_pattern(r, &to->path, text);
    }
    if (rc == HT_OK && more < 0)
        return policy_bad_json(&r->g, want);
    return rc == HT_OK && to->path.kind == HOOK_PATH_ANY ? policy_wrong(&r->g, "%s is wanted here", want) : rc;
}

static int read_match(struct hook_reading *r, struct hook *to) {
    static const char want[] = "an object with some of method, path, headers, ip and index";
    struct ht_slice key;
    int more = 0, rc = HT_OK;
    if (json_peek(&r->g.r) != JSON_T_OBJECT || json_object_begin(&r->g.r) < 0)
        return policy_bad_json(&r->g, want);
    while (rc == HT_OK && (more = json_object_next(&r->g.r, &key)) > 0) {
        size_t was = policy_enter(&r->g, key);
        if (ht_slice_is(key, "method"))
            rc = hook_read_some(r, to, read_method, "methods");
        else if (ht_slice_is(key, "path"))
            rc = read_match_path(r, to);
        else if (ht_slice_is(key, "headers"))
            rc = read_wants(r, to);
        else if (ht_slice_is(key, "ip"))
            rc = hook_read_some(r, to, read_net, "networks");
        else if (ht_slice_is(key, "index"))
            rc = hook_read_some(r, to, read_index, "numbers");
        else
            rc = policy_wrong(&r->g, "this is unknown; there are method, path, headers, ip and index");
        if (rc == HT_OK)
            policy_leave(&r->g, was);
    }
    return rc == HT_OK && more < 0 ? policy_bad_json(&r->g, want) : rc;
}

/* ---- a hook ---- */

static int read_id(struct hook_reading *r, struct hook *to) {
    static const char good[] = "abcdefghijklmnopqrstuvwxyz0123456789-_";
    int rc = policy_text(&r->g, &to->id, "a text");
    if (rc < 0)
        return rc;
    if (to->id.n == 0 || to->id.n > HOOKS_ID_MAX || strspn(to->id.p, good) != to->id.n)
        return policy_wrong(&r->g, "an id has 1 to %d of a-z, 0-9, - and _", HOOKS_ID_MAX);
    for (const struct hook *h = r->h->hooks; h != to; h++)
        if (ht_slice_eq(h->service, to->service) && ht_slice_eq(h->id, to->id))
            return policy_wrong(&r->g, "another hook of the service has the id %s already", to->id.p);
    return HT_OK;
}

/* `actions` is left for later. */
static int read_member(struct hook_reading *r, struct hook *to, struct ht_slice key, bool *acts) {
    if (ht_slice_is(key, "id"))
        return read_id(r, to);
    if (ht_slice_is(key, "match"))
        return read_match(r, to);
    if (ht_slice_is(key, "timeout"))
        return hook_read_number(r, HOOKS_TIMEOUT_MIN, HOOKS_TIMEOUT_MAX, &to->timeout_ms);
    if (!ht_slice_is(key, "actions"))
        return policy_wrong(&r->g, "this is unknown; there are id, match, actions and timeout");
    if (json_peek(&r->g.r) != JSON_T_ARRAY)
        return policy_bad_json(&r->g, "an array of actions");
    r->at = r->g.r;
    *acts = true;
    return json_skip(&r->g.r) < 0 ? policy_bad_json(&r->g, "an array of actions") : HT_OK;
}

static int read_later(struct hook_reading *r, struct hook *to) {
    r->behind = r->g.r;
    r->g.r = r->at;
    size_t was = policy_enter(&r->g, ht_slice_str("actions"));
    int rc = hook_read_actions(r, to);
    if (rc == HT_OK)
        policy_leave(&r->g, was);
    if (rc == HT_OK)
        r->g.r = r->behind;
    return rc;
}

static int read_hook(struct hook_reading *r, struct ht_slice service) {
    static const char want[] = "an object with id, match and actions";
    struct edge_hooks *h = r->h;
    struct ht_slice key;
    bool acts = false;
    int more = 0, rc = HT_OK;
    if (h->n == HOOKS_MAX)
        return policy_wrong(&r->g, "a container has at most %d hooks", HOOKS_MAX);
    struct hook *to = policy_one_more((void **)&h->hooks, h->n, sizeof *to);
    if (!to)
        return policy_no_memory(&r->g);
    h->n++;
    to->service = service;
    if (json_peek(&r->g.r) != JSON_T_OBJECT || json_object_begin(&r->g.r) < 0)
        return policy_bad_json(&r->g, want);
    while (rc == HT_OK && (more = json_object_next(&r->g.r, &key)) > 0) {
        size_t was = policy_enter(&r->g, key);
        rc = read_member(r, to, key, &acts);
        if (rc == HT_OK)
            policy_leave(&r->g, was);
    }
    if (rc == HT_OK && more < 0)
        return policy_bad_json(&r->g, want);
    if (rc == HT_OK && to->id.n == 0)
        return policy_wrong(&r->g, "a hook needs an id");
    if (rc == HT_OK && !acts && !to->timeout_ms)
        return policy_wrong(&r->g, "a hook needs actions, or a timeout");
    return rc == HT_OK && acts ? read_later(r, to) : rc;
}

/* ---- the document ---- */

static int read_service(struct hook_reading *r, struct ht_slice key) {
    struct ht_slice service = policy_kept(&r->g, key);
    size_t n = 0;
    int more = 0, rc = HT_OK;
    if (!ht_slice_is(key, "*") && !edge_is_service(key))
        return policy_wrong(&r->g, "this is no program such as terminal, http or *");
    if (json_peek(&r->g.r) != JSON_T_ARRAY || json_array_begin(&r->g.r) < 0)
        return policy_bad_json(&r->g, "an array of hooks");
    while (rc == HT_OK && (more = json_array_next(&r->g.r)) > 0) {
        size_t was = hook_enter_item(r, n);
        if (n++ == HOOKS_SERVICE_MAX)
            return policy_wrong(&r->g, "a service has at most %d hooks", HOOKS_SERVICE_MAX);
        rc = read_hook(r, service);
        if (rc == HT_OK)
            policy_leave(&r->g, was);
    }
    return rc == HT_OK && more < 0 ? policy_bad_json(&r->g, "a hook") : rc;
}

static size_t limits_of(const struct edge_hooks *h, struct ht_slice service) {
    size_t n = 0;
    for (size_t i = 0; i < h->n; i++)
        for (size_t k = 0; ht_slice_eq(h->hooks[i].service, service) && k < h->hooks[i].n_actions; k++)
            n += h->hooks[i].actions[k].kind == HOOK_LIMIT;
    return n;
}

/* HAProxy counts so many things for a request, and not more. */
static int check_limits(struct hook_reading *r) {
    const struct edge_hooks *h = r->h;
    size_t all = limits_of(h, ht_slice_str("*"));
    for (size_t i = 0; i < h->n; i++)
        if (all + (ht_slice_is(h->hooks[i].service, "*") ? 0 : limits_of(h, h->hooks[i].service)) > HOOKS_LIMITS)
            return policy_wrong(&r->g, "%s: at most %d limits can hold for a service, those of * with them",
                                h->hooks[i].service.p, HOOKS_LIMITS);
    return HT_OK;
}

static int read_document(struct hook_reading *r) {
    static const char want[] = "an object of programs with their hooks";
    struct ht_slice key;
    int more = 0, rc = HT_OK;
    if (json_peek(&r->g.r) != JSON_T_OBJECT || json_object_begin(&r->g.r) < 0)
        return policy_bad_json(&r->g, want);
    while (rc == HT_OK && (more = json_object_next(&r->g.r, &key)) > 0) {
        size_t was = policy_enter(&r->g, key);
        rc = read_service(r, key);
        if (rc == HT_OK)
            policy_leave(&r->g, was);
    }
    if (rc == HT_OK && (more < 0 || json_end(&r->g.r) < 0))
        return policy_bad_json(&r->g, want);
    return rc == HT_OK ? check_limits(r) : rc;
}

struct edge_hooks *edge_hooks_create(struct ht_slice text, int *rc, struct ht_errmsg *err) {
    static const struct json_limits limits = {.max_depth = 8, .max_keys = JSON_MAX_KEYS, .refuse_nul = true};
    struct edge_hooks *h = ht_calloc(1, sizeof *h);
    struct hook_reading *r = ht_calloc(1, sizeof *r); /* readers are large */
    *rc = h && r ? HT_OK : ht_fail(err, HT_ENOMEM, "out of memory");
    if (*rc == HT_OK && text.n > HOOKS_DOC_MAX)
        *rc = ht_fail(err, HT_EINVAL, "hooks of a container have at most %u bytes", HOOKS_DOC_MAX);
    if (*rc == HT_OK) {
        size_t cap = 2 * text.n + 1; /* all texts of it, each with a NUL, and names of members */
        h->text = ht_malloc(cap);
        r->h = h;
        r->g.err = err;
        r->g.arena = (struct json_arena){.p = h->text, .cap = cap};
        json_begin(&r->g.r, text.p, text.n, &limits);
        *rc = h->text ? read_document(r) : policy_no_memory(&r->g);
    }
    ht_free(r);
    if (*rc < 0)
        edge_hooks_destroy(&h);
    return h;
}

static void free_action(struct hook_action *a) {
    for (size_t i = 0; i < a->n; i++)
        ht_free(a->fields[i].value.pieces);
    ht_free(a->fields);
    ht_free(a->to.pieces);
}

void edge_hooks_destroy(struct edge_hooks **hp) {
    struct edge_hooks *h = *hp;
    *hp = NULL;
    if (!h)
        return;
    for (size_t i = 0; i < h->n; i++) {
        struct hook *one = &h->hooks[i];
        for (size_t k = 0; k < one->n_actions; k++)
            free_action(&one->actions[k]);
        ht_free(one->actions);
        ht_free(one->path.parts);
        ht_free(one->wants);
        ht_free(one->nets);
        ht_free(one->indexes);
    }
    ht_free(h->hooks);
    ht_free(h->text);
    ht_free(h);
}
