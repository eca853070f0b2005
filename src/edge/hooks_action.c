/* What a hook does, in a document. */
#include "base/mem.h"
#include "edge/hooks_priv.h"
#include "http/http.h"

#include <stdio.h>

#define ACTIONS                                                                                                        \
    "an action is an object with one of set, add, del, path, reply, limit and forward; set, add and del may have on, " \
    "which is request or response"

static size_t captures_of(const struct hook *h) {
    size_t n = h->path.kind == HOOK_PATH_PREFIX;
    for (size_t i = 0; i < h->path.n; i++)
        n += h->path.parts[i].star;
    return n;
}

/* A text with ${...}. What stands in it as it is must be good for a value of a field; what is filled in is looked at
 * when it is. */
static int read_text(struct hook_reading *r, const struct hook *h, struct hook_text *to) {
    struct ht_slice s;
    int rc = policy_text(&r->g, &s, "a text");
    if (rc < 0)
        return rc;
    if (s.n > HOOKS_VALUE_MAX)
        return policy_wrong(&r->g, "a value has at most %d bytes", HOOKS_VALUE_MAX);
    if (!http_is_field_value(s))
        return policy_wrong(&r->g, "a value has no line ends and no other control bytes");
    const char *wrong = hook_text_read(to, s, captures_of(h), &rc);
    return wrong ? policy_wrong(&r->g, "%s", wrong) : rc < 0 ? policy_no_memory(&r->g) : HT_OK;
}

/* ---- fields ---- */

static struct hook_field *one_more_field(struct hook_reading *r, struct hook_action *a, int *rc) {
    struct hook_field *f = NULL;
    if (a->n == HOOKS_FIELDS_MAX)
        *rc = policy_wrong(&r->g, "there are at most %d fields here", HOOKS_FIELDS_MAX);
    else if (!(f = policy_one_more((void **)&a->fields, a->n, sizeof *f)))
        *rc = policy_no_memory(&r->g);
    a->n += f != NULL;
    return f;
}

static int read_field_name(struct hook_reading *r, struct hook_action *a, struct ht_slice name, struct ht_slice *out) {
    *out = name;
    int rc = hook_read_name(r, out);
    const char *fault = rc == HT_OK ? hook_field_fault(*out, a->on_response) : NULL;
    return fault ? policy_wrong(&r->g, "the field %s %s", out->p, fault) : rc;
}

/* {"x-name": "value", ...} */
static int read_fields(struct hook_reading *r, const struct hook *h, struct hook_action *a) {
    static const char want[] = "an object of header fields with their values";
    struct ht_slice key;
    int more = 0, rc = HT_OK;
    if (json_peek(&r->g.r) != JSON_T_OBJECT || json_object_begin(&r->g.r) < 0)
        return policy_bad_json(&r->g, want);
    while (rc == HT_OK && (more = json_object_next(&r->g.r, &key)) > 0) {
        struct hook_field *f = one_more_field(r, a, &rc);
        if (!f)
            return rc;
        struct ht_slice name = policy_kept(&r->g, key);
        size_t was = policy_enter(&r->g, key);
        rc = read_field_name(r, a, name, &f->name);
        if (rc == HT_OK)
            rc = read_text(r, h, &f->value);
        if (rc == HT_OK)
            policy_leave(&r->g, was);
    }
    return rc == HT_OK && more < 0 ? policy_bad_json(&r->g, want) : rc;
}

static int read_gone(struct hook_reading *r, struct hook_action *a) {
    struct ht_slice name;
    int rc = policy_text(&r->g, &name, "a name of a field, or an array of names");
    struct hook_field *f = rc == HT_OK ? one_more_field(r, a, &rc) : NULL;
    return f ? read_field_name(r, a, name, &f->name) : rc;
}

static int read_del(struct hook_reading *r, struct hook_action *a) {
    int more = 0, rc = HT_OK;
    if (json_peek(&r->g.r) != JSON_T_ARRAY)
        return read_gone(r, a);
    if (json_array_begin(&r->g.r) < 0)
        return policy_bad_json(&r->g, "names of fields");
    while (rc == HT_OK && (more = json_array_next(&r->g.r)) > 0)
        rc = read_gone(r, a);
    return rc == HT_OK && more < 0 ? policy_bad_json(&r->g, "names of fields") : rc;
}

/* ---- paths ---- */

/* What a path becomes, in which ${...} may stand. */
static int read_to(struct hook_reading *r, const struct hook *h, struct hook_action *a) {
    struct ht_slice plain;
    char joined[HOOKS_PATH_MAX + 1], *at = joined;
    int rc = read_text(r, h, &a->to);
    if (rc < 0)
        return rc;
    for (size_t i = 0; i < a->to.n; i++) {
        bool whole = i == 0 && a->to.pieces[i].kind == HOOK_PATH; /* it begins with a slash itself */
        plain = a->to.pieces[i].kind == HOOK_TEXT ? a->to.pieces[i].text : ht_slice_str(whole ? "/x" : "x");
        if (plain.n > (size_t)(joined + HOOKS_PATH_MAX - at))
            return policy_wrong(&r->g, "a path has at most %d bytes", HOOKS_PATH_MAX);
        (void)ht_slice_copy(&at, plain);
    }
    struct ht_slice path = ht_slice_of(joined, (size_t)(at - joined));
    if (!hook_path_is_good(path))
        return policy_wrong(&r->g, "this is no path such as /v2: from the first slash on, without a query, doubled "
                                   "slashes, . and .., and percents (%%20) where they must be");
    return HT_OK;
}

/* "/v2/${1}", or {"prefix": "/v1", "to": "/v2"} */
static int read_rewrite(struct hook_reading *r, const struct hook *h, struct hook_action *a) {
    static const char want[] = "a path, or an object with prefix and to";
    struct ht_slice key;
    bool to = false;
    int more = 0, rc = HT_OK;
    if (json_peek(&r->g.r) == JSON_T_STRING)
        return read_to(r, h, a);
    if (json_peek(&r->g.r) != JSON_T_OBJECT || json_object_begin(&r->g.r) < 0)
        return policy_bad_json(&r->g, want);
    while (rc == HT_OK && (more = json_object_next(&r->g.r, &key)) > 0) {
        size_t was = policy_enter(&r->g, key);
        if (ht_slice_is(key, "prefix"))
            rc = hook_read_path(r, &a->prefix);
        else if (ht_slice_is(key, "to"))
            rc = read_to(r, h, a);
        else
            rc = policy_wrong(&r->g, "this is unknown; there are prefix and to");
        to |= ht_slice_is(key, "to");
        if (rc == HT_OK)
            policy_leave(&r->g, was);
    }
    if (rc == HT_OK && more < 0)
        return policy_bad_json(&r->g, want);
    return rc < 0 || (to && a->prefix.p) ? rc : policy_wrong(&r->g, "%s is wanted here", want);
}

/* ---- answers, limits, other services ---- */

static int read_body(struct hook_reading *r, struct hook_action *a) {
    int rc = policy_text(&r->g, &a->body, "a text");
    return rc == HT_OK && a->body.n > HOOKS_BODY_MAX
               ? policy_wrong(&r->g, "a body has at most %d bytes", HOOKS_BODY_MAX)
               : rc;
}

static bool has_field(const struct hook_action *a, const char *name) {
    for (size_t i = 0; i < a->n; i++)
        if (ht_slice_is(a->fields[i].name, name))
            return true;
    return false;
}

static int check_reply(struct hook_reading *r, const struct hook_action *a) {
    size_t n = a->body.n;
    for (size_t i = 0; i < a->n; i++)
        for (size_t k = 0; k < a->fields[i].value.n; k++)
            n += a->fields[i].value.pieces[k].text.n + a->fields[i].name.n;
    if (!a->status)
        return policy_wrong(&r->g, "a reply needs a status");
    if (a->body.n && (a->status == 204 || a->status == 304))
        return policy_wrong(&r->g, "an answer with the status %u has no body", a->status);
    if (a->status == 401 && !has_field(a, "www-authenticate"))
        return policy_wrong(&r->g, "an answer with the status 401 needs the field www-authenticate");
    return n > HOOKS_RECORDS_MAX / 4 * 3 ? policy_wrong(&r->g, "this answer is too large") : HT_OK;
}

static int read_reply(struct hook_reading *r, const struct hook *h, struct hook_action *a) {
    static const char want[] = "an object with status, headers and body";
    struct ht_slice key;
    int more = 0, rc = HT_OK;
    a->on_response = true;
    if (json_peek(&r->g.r) != JSON_T_OBJECT || json_object_begin(&r->g.r) < 0)
        return policy_bad_json(&r->g, want);
    while (rc == HT_OK && (more = json_object_next(&r->g.r, &key)) > 0) {
        size_t was = policy_enter(&r->g, key);
        if (ht_slice_is(key, "status"))
            rc = hook_read_number(r, 200, 599, &a->status);
        else if (ht_slice_is(key, "headers"))
            rc = read_fields(r, h, a);
        else if (ht_slice_is(key, "body"))
            rc = read_body(r, a);
        else
            rc = policy_wrong(&r->g, "this is unknown; there are status, headers and body");
        if (rc == HT_OK)
            policy_leave(&r->g, was);
    }
    if (rc == HT_OK && more < 0)
        return policy_bad_json(&r->g, want);
    return rc == HT_OK ? check_reply(r, a) : rc;
}

static int read_limit(struct hook_reading *r, struct hook_action *a) {
    static const char want[] = "an object with requests and seconds";
    struct ht_slice key;
    int more = 0, rc = HT_OK;
    if (json_peek(&r->g.r) != JSON_T_OBJECT || json_object_begin(&r->g.r) < 0)
        return policy_bad_json(&r->g, want);
    while (rc == HT_OK && (more = json_object_next(&r->g.r, &key)) > 0) {
        size_t was = policy_enter(&r->g, key);
        if (ht_slice_is(key, "requests"))
            rc = hook_read_number(r, 1, 1000000, &a->requests);
        else if (ht_slice_is(key, "seconds"))
            rc = hook_read_number(r, 1, HOOKS_SECONDS_MAX, &a->seconds);
        else
            rc = policy_wrong(&r->g, "this is unknown; there are requests and seconds");
        if (rc == HT_OK)
            policy_leave(&r->g, was);
    }
    if (rc == HT_OK && more < 0)
        return policy_bad_json(&r->g, want);
    return rc < 0 || (a->requests && a->seconds) ? rc : policy_wrong(&r->g, "%s is wanted here", want);
}

static int keep_forward(struct hook_reading *r, const struct hook_action *a) {
    struct edge_hooks *h = r->h;
    size_t i = 0;
    h->within |= !a->container[0];
    while (i < h->n_forwards && strcmp(h->forwards[i], a->container) != 0)
        i++;
    if (i < h->n_forwards || !a->container[0])
        return HT_OK;
    if (i == HOOKS_FORWARDS_MAX)
        return policy_wrong(&r->g, "hooks of a container forward to at most %d others", HOOKS_FORWARDS_MAX);
    memcpy(h->forwards[h->n_forwards++], a->container, sizeof a->container);
    return HT_OK;
}

/* A container, by its id, and a service there. No host, no address: what is not of the project cannot be said. */
static int read_forward_member(struct hook_reading *r, struct hook_action *a, struct ht_slice key, bool *port) {
    struct ht_slice s;
    int rc;
    if (ht_slice_is(key, "port")) {
        *port = true;
        return hook_read_number(r, 1, UINT16_MAX, &a->index);
    }
    if (ht_slice_is(key, "index"))
        return hook_read_number(r, 0, UINT16_MAX, &a->index);
    if (ht_slice_is(key, "program")) {
        rc = policy_text(&r->g, &a->program, "a program such as terminal");
        return rc < 0 || edge_is_service(a->program) ? rc : policy_wrong(&r->g, "this is no program such as terminal");
    }
    if (!ht_slice_is(key, "container"))
        return policy_wrong(&r->g, "this is unknown; there are container, program with index, and port");
    rc = policy_text(&r->g, &s, "the id of a container of the same project");
    if (rc == HT_OK && !edge_is_id(s))
        return policy_wrong(&r->g, "the id of a container of the same project is wanted here, %d of 0-9 and a-f",
                            EDGE_ID);
    if (rc == HT_OK)
        memcpy(a->container, s.p, EDGE_ID);
    return rc;
}

static int read_forward(struct hook_reading *r, struct hook_action *a) {
    static const char want[] = "an object with port, or program and index, and container if it is another one";
    struct ht_slice key;
    bool port = false;
    int more = 0, rc = HT_OK;
    a->index = UINT32_MAX;
    if (json_peek(&r->g.r) != JSON_T_OBJECT || json_object_begin(&r->g.r) < 0)
        return policy_bad_json(&r->g, want);
    while (rc == HT_OK && (more = json_object_next(&r->g.r, &key)) > 0) {
        size_t was = policy_enter(&r->g, key);
        rc = read_forward_member(r, a, key, &port);
        if (rc == HT_OK)
            policy_leave(&r->g, was);
    }
    if (rc == HT_OK && more < 0)
        return policy_bad_json(&r->g, want);
    if (rc < 0)
        return rc;
    if (port == (a->program.p != NULL))
        return policy_wrong(&r->g, "%s is wanted here", want);
    if (port)
        a->program = ht_slice_str("http");
    bool by_number = !edge_has_port(a->program);
    if (by_number && (a->index == 0 || a->index > UINT16_MAX))
        return policy_wrong(&r->g, "with the program %s its port is wanted as index", a->program.p);
    if (a->index == UINT32_MAX)
        a->index = 1;
    return keep_forward(r, a);
}

/* ---- an action ---- */

static const char *const kinds[] = {
    [HOOK_SET] = "set",     [HOOK_ADD] = "add",     [HOOK_DEL] = "del",         [HOOK_REWRITE] = "path",
    [HOOK_REPLY] = "reply", [HOOK_LIMIT] = "limit", [HOOK_FORWARD] = "forward",
};

static int read_kind(struct hook_reading *r, const struct hook *h, struct hook_action *a) {
    switch (a->kind) {
    case HOOK_SET:
    case HOOK_ADD:
        return read_fields(r, h, a);
    case HOOK_DEL:
        return read_del(r, a);
    case HOOK_REWRITE:
        return read_rewrite(r, h, a);
    case HOOK_REPLY:
        return read_reply(r, h, a);
    case HOOK_LIMIT:
        return read_limit(r, a);
    case HOOK_FORWARD:
        return read_forward(r, a);
    }
    return HT_OK;
}

/* Where fields are changed decides which of them may be, and may stand behind them. */
static int check_fields(struct hook_reading *r, const struct hook_action *a) {
    for (size_t i = 0; i < a->n; i++) {
        const char *fault = hook_field_fault(a->fields[i].name, a->on_response);
        if (fault)
            return policy_wrong(&r->g, "the field %s %s", a->fields[i].name.p, fault);
    }
    return HT_OK;
}

static int read_on(struct hook_reading *r, struct hook_action *a) {
    static const char want[] = "\"request\" or \"response\"";
    struct ht_slice s;
    int rc = policy_text(&r->g, &s, want);
    a->on_response = ht_slice_is(s, "response");
    return rc < 0 || a->on_response || ht_slice_is(s, "request") ? rc : policy_wrong(&r->g, "%s is wanted here", want);
}

static int read_action(struct hook_reading *r, struct hook *h) {
    struct ht_slice key;
    bool on = false, any = false;
    int more = 0, rc = HT_OK;
    if (h->n_actions == HOOKS_ACTIONS_MAX)
        return policy_wrong(&r->g, "a hook has at most %d actions", HOOKS_ACTIONS_MAX);
    struct hook_action *a = policy_one_more((void **)&h->actions, h->n_actions, sizeof *a);
    if (!a)
        return policy_no_memory(&r->g);
    h->n_actions++;
    if (json_peek(&r->g.r) != JSON_T_OBJECT || json_object_begin(&r->g.r) < 0)
        return policy_bad_json(&r->g, ACTIONS);
    while (rc == HT_OK && (more = json_object_next(&r->g.r, &key)) > 0) {
        size_t was = policy_enter(&r->g, key);
        unsigned kind = HOOK_SET;
        while (kind < HT_ARRAY_LEN(kinds) && !ht_slice_is(key, kinds[kind]))
            kind++;
        if (ht_slice_is(key, "on")) {
            on = true;
            rc = read_on(r, a);
        } else if (kind == HT_ARRAY_LEN(kinds) || any) {
            return policy_wrong(&r->g, ACTIONS);
        } else {
            any = true;
            a->kind = kind;
            rc = read_kind(r, h, a);
        }
        if (rc == HT_OK)
            policy_leave(&r->g, was);
    }
    if (rc == HT_OK && more < 0)
        return policy_bad_json(&r->g, ACTIONS);
    if (rc == HT_OK && (!any || (on && a->kind > HOOK_DEL)))
        return policy_wrong(&r->g, ACTIONS);
    return rc == HT_OK ? check_fields(r, a) : rc;
}

int hook_read_actions(struct hook_reading *r, struct hook *to) {
    size_t i = 0;
    int more = 0, rc = HT_OK;
    if (json_array_begin(&r->g.r) < 0)
        return policy_bad_json(&r->g, "actions");
    while (rc == HT_OK && (more = json_array_next(&r->g.r)) > 0) {
        size_t was = hook_enter_item(r, i++);
        rc = read_action(r, to);
        if (rc == HT_OK)
            policy_leave(&r->g, was);
    }
    if (rc == HT_OK && more < 0)
        return policy_bad_json(&r->g, "an action");
    return rc == HT_OK && to->n_actions == 0 && !to->timeout_ms ? policy_wrong(&r->g, "one action at least is wanted")
                                                                : rc;
}
