#include "gate/rules.h"

#include "base/mem.h"
#include "http/http.h"

static bool is_white(char c) { return c == ' ' || c == '\t'; }

static struct ht_slice trimmed(const char *p, size_t n) {
    while (n && is_white(*p))
        p++, n--;
    while (n && is_white(p[n - 1]))
        n--;
    return ht_slice_of(p, n);
}

static bool begins(struct ht_slice s, const char *what) {
    size_t n = strlen(what);
    return s.n >= n && memcmp(s.p, what, n) == 0;
}

/* Why the field is not for a rule; NULL: it is. The name is in lower case. */
static const char *not_for_rules(struct ht_slice name, bool request) {
    if (http_hop_of(name) != HTTP_HOP_NONE)
        return "is about one connection, and the tunnel sets it itself";
    if (ht_slice_is(name, "content-length") || ht_slice_is(name, "expect"))
        return "says where a message ends, and the tunnel sets it itself";
    if (begins(name, "sec-websocket-"))
        return "belongs to the handshake of a WebSocket";
    if (request && ht_slice_is(name, "host"))
        return "has an option of its own, --host-header";
    return NULL;
}

static int parse_one(struct gate_rule *r, char *text, bool request, struct ht_errmsg *err) {
    r->kind = *text == '+' ? GATE_ADD : *text == '-' ? GATE_REMOVE : GATE_SET;
    char *from = r->kind == GATE_SET ? text : text + 1, *colon = strchr(from, ':');
    size_t n = colon ? (size_t)(colon - from) : strlen(from);
    if (!http_is_token(ht_slice_of(from, n)))
        return ht_fail(
            err, HT_EINVAL,
            "a header rule is \"Name: value\", \"+Name: value\" or \"-Name\", and this one has no name: \"%.80s\"",
            text);
    for (size_t i = 0; i < n; i++)
        from[i] = ht_lower(from[i]);
    r->name = ht_slice_of(from, n);
    r->value = colon ? trimmed(colon + 1, strlen(colon + 1)) : ht_slice_of("", 0);
    const char *why = not_for_rules(r->name, request);
    if (why)
        return ht_fail(err, HT_EINVAL, "the header %.*s %s", HT_SLICE_ARG(r->name), why);
    if (r->kind == GATE_REMOVE && colon)
        return ht_fail(err, HT_EINVAL, "\"-%.*s\" removes the header, so it has no colon and no value",
                       HT_SLICE_ARG(r->name));
    if (r->kind != GATE_REMOVE && r->value.n == 0)
        return ht_fail(err, HT_EINVAL, "the header %.*s has no value; \"-%.*s\" removes it", HT_SLICE_ARG(r->name),
                       HT_SLICE_ARG(r->name));
    if (!http_is_field_value(r->value)) /* the message does not repeat it: it may be a secret */
        return ht_fail(err, HT_EINVAL, "the value of %.*s holds a character that a header cannot carry",
                       HT_SLICE_ARG(r->name));
    return HT_OK;
}

int gate_rules_parse(struct gate_rules *r, const char *const *texts, size_t n, bool request, struct ht_errmsg *err) {
    size_t size = 1;
    *r = (struct gate_rules){.n = 0};
    if (n > GATE_RULES_MAX)
        return ht_fail(err, HT_EINVAL, "%zu header rules are too many: at most %d", n, GATE_RULES_MAX);
    for (size_t i = 0; i < n; i++) {
        if (!texts[i])
            return ht_fail(err, HT_EINVAL, "a header rule is NULL");
        size += strlen(texts[i]) + 1;
    }
    r->rules = ht_calloc(n ? n : 1, sizeof *r->rules);
    r->text = ht_malloc(size);
    if (!r->rules || !r->text)
        return ht_fail(err, HT_ENOMEM, "%s", ht_err_text(HT_ENOMEM));
    char *at = r->text;
    for (; r->n < n; r->n++) {
        size_t len = strlen(texts[r->n]) + 1;
        int rc = parse_one(&r->rules[r->n], memcpy(at, texts[r->n], len), request, err);
        if (rc < 0)
            return rc;
        at += len;
    }
    return HT_OK;
}

void gate_rules_free(struct gate_rules *r) {
    ht_free(r->rules);
    ht_free(r->text);
    *r = (struct gate_rules){.n = 0};
}

static size_t without(struct wire_header *fields, size_t n, struct ht_slice name) {
    size_t to = 0;
    for (size_t i = 0; i < n; i++)
        if (!ht_slice_case_eq(fields[i].name, name))
            fields[to++] = fields[i];
    return to;
}

ssize_t gate_rules_apply(const struct gate_rules *r, struct wire_header *fields, size_t n, size_t cap) {
    for (size_t i = 0; i < r->n; i++) {
        const struct gate_rule *rule = &r->rules[i];
        if (rule->kind != GATE_ADD)
            n = without(fields, n, rule->name);
        if (rule->kind == GATE_REMOVE)
            continue;
        if (n == cap)
            return HT_ESPACE;
        fields[n++] = (struct wire_header){.name = rule->name, .value = rule->value};
    }
    return (ssize_t)n;
}
