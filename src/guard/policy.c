#include "guard/policy.h"

#include "base/mem.h"
#include "guard/rules.h"
#include "guard/value.h"
#include "http/http.h"

#include <stdio.h>

struct field {
    char *name; /* in lower case */
    struct guard_value *value;
};

struct guard_policy {
    char *host, *placeholder;
    struct field fields[GUARD_HEADERS_MAX];
    size_t n_fields;
    struct guard_rules rules;
    struct guard_rate rate;
    bool secrets;
    char scratch[GUARD_PATH_MAX];
};

/* ---- words ---- */

const char *guard_reason_word(enum guard_reason r) {
    static const char *const words[] = {
#define X(name, word, status, text) word,
        AUDIT_DECISIONS(X)
#undef X
    };
    return words[r];
}

uint16_t guard_reason_status(enum guard_reason r) {
    static const uint16_t statuses[] = {
#define X(name, word, status, text) status,
        AUDIT_DECISIONS(X)
#undef X
    };
    return statuses[r];
}

const char *guard_reason_text(enum guard_reason r) {
    static const char *const texts[] = {
#define X(name, word, status, text) text,
        AUDIT_DECISIONS(X)
#undef X
    };
    return texts[r];
}

/* ---- making one ---- */

/* Services that turn names into variables take an underscore for a hyphen: X_Api_Key is X-Api-Key to them. */
static bool same_name(struct ht_slice a, const char *b) {
    size_t i = 0;
    for (; i < a.n && b[i]; i++)
        if ((a.p[i] == '_' ? '-' : ht_lower(a.p[i])) != (b[i] == '_' ? '-' : b[i]))
            return false;
    return i == a.n && !b[i];
}

/* What frames or routes the message is nobody's to set. */
static bool is_reserved(const char *name) {
    static const char *const names[] = {
        "host", "content-length", "transfer-encoding", "connection",      "upgrade", "trailer",
        "te",   "expect",         "keep-alive",        "proxy-connection"};
    for (size_t i = 0; i < HT_ARRAY_LEN(names); i++)
        if (same_name(ht_slice_str(name), names[i]))
            return true;
    return false;
}

static int add_field(struct guard_policy *p, const char *name, const char *value, const char *user,
                     struct ht_errmsg *err) {
    struct ht_errmsg why;
    if (!http_is_token(ht_slice_str(name)))
        return ht_fail(err, HT_EINVAL, "inject: \"%.80s\" is not a valid name of a header field", name);
    if (is_reserved(name))
        return ht_fail(err, HT_EINVAL, "inject: %s cannot be set; the request keeps its own", name);
    if (p->n_fields == GUARD_HEADERS_MAX)
        return ht_fail(err, HT_EINVAL, "inject: too many header fields; at most %d", GUARD_HEADERS_MAX);
    for (size_t i = 0; i < p->n_fields; i++)
        if (same_name(ht_slice_str(name), p->fields[i].name))
            return ht_fail(err, HT_EINVAL, "inject: %s is given twice", name);
    if (!http_is_field_value(ht_slice_str(value)))
        return ht_fail(err, HT_EINVAL, "inject: the value of %s has a line end or another control byte in it", name);
    struct field *f = &p->fields[p->n_fields];
    f->name = ht_strndup(name, strlen(name));
    if (!f->name)
        return ht_fail(err, HT_ENOMEM, "out of memory");
    for (char *c = f->name; *c; c++)
        *c = ht_lower(*c);
    int rc;
    f->value = guard_value_parse(value, user, &rc, &why);
    if (!f->value) {
        ht_free(f->name);
        return ht_fail(err, rc, "inject: %s: %s", name, why.text);
    }
    p->n_fields++;
    p->secrets = p->secrets || guard_value_is_secret(f->value);
    return HT_OK;
}

static int add_fields(struct guard_policy *p, const struct guard_policy_config *cfg, struct ht_errmsg *err) {
    int rc = HT_OK;
    bool authorization = false;
    for (size_t i = 0; rc == HT_OK && i < cfg->n_headers; i++) {
        bool is = same_name(ht_slice_str(cfg->header_names[i]), "authorization");
        authorization = authorization || is;
        rc = add_field(p, cfg->header_names[i], cfg->header_values[i], is ? cfg->user : NULL, err);
    }
    if (rc == HT_OK && cfg->user && !authorization)
        rc = ht_fail(err, HT_EINVAL,
                     "user needs a password beside it, as in inject: {Authorization: \"${file:~/.secrets/git}\"}");
    return rc;
}

static int add_placeholder(struct guard_policy *p, const char *text, struct ht_errmsg *err) {
    size_t n = strlen(text);
    if (p->n_fields == 0)
        return ht_fail(err, HT_EINVAL, "replace needs a field to set, as in inject: {Authorization: ..}");
    if (n < GUARD_PLACEHOLDER_MIN || n > GUARD_PLACEHOLDER_MAX)
        return ht_fail(err, HT_EINVAL,
                       "replace: a placeholder has %d to %d characters, so that it is not found by accident",
                       GUARD_PLACEHOLDER_MIN, GUARD_PLACEHOLDER_MAX);
    for (size_t i = 0; i < n; i++)
        if (text[i] <= 0x20 || text[i] == 0x7f || strchr("%\"\\,;", text[i]))
            return ht_fail(err, HT_EINVAL,
                           "replace: a placeholder is made of letters, digits and signs such as - _ . :");
    p->placeholder = ht_strndup(text, n);
    return p->placeholder ? HT_OK : ht_fail(err, HT_ENOMEM, "out of memory");
}

static int add_rules(struct guard_rule **out, size_t *n_out, const char *const *texts, size_t n, const char *key,
                     struct ht_errmsg *err) {
    struct ht_errmsg why;
    if (n > GUARD_RULES_MAX)
        return ht_fail(err, HT_EINVAL, "%s: more than %d rules are too many", key, GUARD_RULES_MAX);
    *out = ht_calloc(n ? n : 1, sizeof **out);
    if (!*out)
        return ht_fail(err, HT_ENOMEM, "out of memory");
    for (; *n_out < n; ++*n_out) {
        int rc = guard_rule_parse(&(*out)[*n_out], texts[*n_out], &why);
        if (rc < 0)
            return ht_fail(err, rc, "%s: %s", key, why.text);
    }
    return HT_OK;
}

struct guard_policy *guard_policy_create(const struct guard_policy_config *cfg, int *rc, struct ht_errmsg *err) {
    struct guard_policy *p = ht_calloc(1, sizeof *p);
    *rc = p ? HT_OK : ht_fail(err, HT_ENOMEM, "out of memory");
    if (p && !(p->host = ht_strndup(cfg->host, strlen(cfg->host))))
        *rc = ht_fail(err, HT_ENOMEM, "out of memory");
    if (*rc == HT_OK && strchr(cfg->host, '*'))
        *rc = ht_fail(err, HT_EINVAL, "%s stands for many hosts; inject, replace, allow, deny and rate are for one",
                      cfg->host);
    if (*rc == HT_OK)
        *rc = add_fields(p, cfg, err);
    if (*rc == HT_OK && cfg->placeholder)
        *rc = add_placeholder(p, cfg->placeholder, err);
    if (*rc == HT_OK)
        *rc = add_rules(&p->rules.allow, &p->rules.n_allow, cfg->allow, cfg->n_allow, "allow", err);
    if (*rc == HT_OK)
        *rc = add_rules(&p->rules.deny, &p->rules.n_deny, cfg->deny, cfg->n_deny, "deny", err);
    if (*rc == HT_OK && cfg->rate)
        *rc = guard_rate_parse(&p->rate, cfg->rate, err);
    if (*rc < 0 && p)
        guard_policy_destroy(&p);
    return p;
}

static void free_rules(struct guard_rule *rules, size_t n) {
    for (size_t i = 0; i < n; i++)
        guard_rule_free(&rules[i]);
    ht_free(rules);
}

void guard_policy_destroy(struct guard_policy **pp) {
    struct guard_policy *p = *pp;
    *pp = NULL;
    if (!p)
        return;
    for (size_t i = 0; i < p->n_fields; i++) {
        ht_free(p->fields[i].name);
        guard_value_free(&p->fields[i].value);
    }
    free_rules(p->rules.allow, p->rules.n_allow);
    free_rules(p->rules.deny, p->rules.n_deny);
    ht_free(p->host);
    ht_free(p->placeholder);
    ht_free(p);
}

const char *guard_policy_host(const struct guard_policy *p) { return p->host; }
bool guard_policy_has_secrets(const struct guard_policy *p) { return p->secrets; }

void guard_policy_run_in(struct guard_policy *p, struct io_loop *loop, void (*ready)(void *ctx, const char *why),
                         void *ctx) {
    for (size_t i = 0; i < p->n_fields; i++)
        guard_value_run_in(p->fields[i].value, loop, ready, ctx);
}

int guard_policy_load(struct guard_policy *p, uint64_t now_ms, bool run, struct ht_errmsg *err) {
    struct ht_errmsg why;
    int rc = HT_OK;
    for (size_t i = 0; i < p->n_fields; i++) { /* all of them: commands run side by side */
        int one = guard_value_load(p->fields[i].value, now_ms, run, &why);
        if (one < 0 && one != HT_EAGAIN)
            return ht_fail(err, one, "inject: %s: %s", p->fields[i].name, why.text);
        rc = one < 0 ? one : rc;
    }
    return rc;
}

void guard_policy_refused(struct guard_policy *p) {
    for (size_t i = 0; i < p->n_fields; i++)
        guard_value_stale(p->fields[i].value);
}

bool guard_policy_is_secret(const struct guard_policy *p, struct ht_slice s) {
    for (size_t i = 0; i < p->n_fields; i++)
        if (guard_value_is_in(p->fields[i].value, s))
            return true;
    return false;
}

/* ---- the placeholder ---- */

static bool holds(struct ht_slice s, const char *text) {
    size_t n = strlen(text);
    return s.n >= n && memmem(s.p, s.n, text, n);
}

static int digit64(char c) {
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    const char *at = c ? strchr(digits, c) : NULL;
    return at ? (int)(at - digits) : c == '-' ? 62 : c == '_' ? 63 : -1;
}

/* What stands behind "Basic " may hold it, too. */
static bool holds_encoded(struct ht_slice s, const char *text) {
    char plain[2048];
    size_t n = 0;
    unsigned bits = 0, have = 0;
    if (s.n < 6 || !ht_slice_case_eq(ht_slice_of(s.p, 6), ht_slice_str("basic ")))
        return false;
    for (size_t i = 6; i < s.n && n < sizeof plain; i++) {
        int d = digit64(s.p[i]);
        if (d < 0)
            continue;
        bits = bits << 6 | (unsigned)d;
        have += 6;
        if (have >= 8) {
            have -= 8;
            plain[n++] = (char)(bits >> have & 0xff);
        }
    }
    return holds(ht_slice_of(plain, n), text);
}

static bool value_holds(struct ht_slice value, const char *text) {
    return holds(value, text) || holds_encoded(value, text);
}

/* As it is, or with some of it percent-encoded. */
static bool target_holds(struct ht_slice target, const char *text) {
    size_t n = strlen(text);
    if (holds(target, text))
        return true;
    for (size_t from = 0; from < target.n; from++) {
        size_t i = from, k = 0;
        for (; k < n && i < target.n; k++) {
            unsigned byte;
            char hex[3] = {0};
            if (target.p[i] == '%' && i + 2 < target.n) {
                memcpy(hex, target.p + i + 1, 2);
                if (sscanf(hex, "%2x", &byte) != 1 || (char)byte != text[k])
                    break;
                i += 3;
            } else if (target.p[i] == text[k]) {
                i++;
            } else {
                break;
            }
        }
        if (k == n)
            return true;
    }
    return false;
}

bool guard_policy_is_mentioned(const struct guard_policy *p, const struct guard_request *r) {
    if (!p->placeholder)
        return false;
    for (size_t i = 0; i < r->n_headers; i++)
        if (value_holds(r->headers[i].value, p->placeholder))
            return true;
    return target_holds(r->target, p->placeholder);
}

bool guard_policy_same_placeholder(const struct guard_policy *a, const struct guard_policy *b) {
    if (!a->placeholder || !b->placeholder)
        return false;
    return strstr(a->placeholder, b->placeholder) || strstr(b->placeholder, a->placeholder);
}

static const struct field *field_of(const struct guard_policy *p, struct ht_slice name) {
    for (size_t i = 0; i < p->n_fields; i++)
        if (same_name(name, p->fields[i].name))
            return &p->fields[i];
    return NULL;
}

/* It stands where it becomes the secret, and nowhere else: what is sent on with the placeholder in it would only tell
 * the service what it is. */
static bool is_misplaced(const struct guard_policy *p, const struct guard_request *r) {
    if (!p->placeholder)
        return false;
    for (size_t i = 0; i < r->n_headers; i++)
        if (value_holds(r->headers[i].value, p->placeholder) && !field_of(p, r->headers[i].name))
            return true;
    return target_holds(r->target, p->placeholder);
}

/* A field of the policy takes the place of one in the request, or is added. */
static bool is_set(const struct guard_policy *p, const struct guard_request *r, const struct field *f) {
    if (!p->placeholder)
        return true;
    for (size_t i = 0; i < r->n_headers; i++)
        if (same_name(r->headers[i].name, f->name) && value_holds(r->headers[i].value, p->placeholder))
            return true;
    return false;
}

/* ---- checking ---- */

/* Host names the host that was asked for, with the port that it has or without. */
static bool host_agrees(const struct guard_policy *p, const struct guard_request *r) {
    char port[8];
    bool seen = false;
    snprintf(port, sizeof port, ":%u", r->port);
    for (size_t i = 0; i < r->n_headers; i++) {
        struct ht_slice v = r->headers[i].value;
        if (!ht_slice_is(r->headers[i].name, "host"))
            continue;
        size_t n = strlen(port);
        if (v.n > n && memcmp(v.p + v.n - n, port, n) == 0)
            v.n -= n;
        if (seen || !ht_slice_case_eq(v, ht_slice_str(p->host)))
            return false;
        seen = true;
    }
    return seen;
}

static enum guard_reason check_rules(struct guard_policy *p, const struct guard_request *r,
                                     struct guard_decision *out) {
    const struct guard_rule *rule;
    enum guard_judgement j = guard_rules_judge(&p->rules, r->method, r->target, p->scratch, &rule);
    out->rule = rule ? rule->text : NULL;
    static const enum guard_reason reasons[] = {
        [GUARD_JUDGED_GOOD] = GUARD_ALLOWED,
        [GUARD_JUDGED_DENIED] = GUARD_DENIED,
        [GUARD_JUDGED_UNNAMED] = GUARD_UNNAMED,
        [GUARD_JUDGED_AMBIGUOUS] = GUARD_PATH,
    };
    return reasons[j];
}

void guard_policy_check(struct guard_policy *p, const struct guard_request *r, uint64_t now_ms,
                        struct guard_decision *out) {
    *out = (struct guard_decision){.reason = GUARD_ALLOWED};
    for (size_t i = 0; p->secrets && i < p->n_fields; i++)
        out->injects = out->injects || (guard_value_is_secret(p->fields[i].value) && is_set(p, r, &p->fields[i]));
    if (ht_slice_is(r->method, "CONNECT") || ht_slice_is(r->method, "TRACE")) /* TRACE sends back what it got */
        out->reason = GUARD_METHOD;
    else if (!host_agrees(p, r))
        out->reason = GUARD_HOST;
    else
        out->reason = check_rules(p, r, out);
    if (out->reason == GUARD_ALLOWED && is_misplaced(p, r))
        out->reason = GUARD_PLACEHOLDER;
    if (out->reason == GUARD_ALLOWED && out->injects && !r->secure)
        out->reason = GUARD_PLAINTEXT;
    if (out->reason == GUARD_ALLOWED && (out->retry_after = guard_rate_take(&p->rate, now_ms)) > 0)
        out->reason = GUARD_RATE;
    if (out->reason != GUARD_ALLOWED)
        out->injects = false;
}

ssize_t guard_policy_headers(const struct guard_policy *p, const struct guard_request *r, struct wire_header *out,
                             size_t cap) {
    size_t n = 0;
    for (size_t i = 0; i < r->n_headers; i++) {
        const struct field *f = field_of(p, r->headers[i].name);
        if (f && is_set(p, r, f))
            continue;
        if (n == cap)
            return HT_ESPACE;
        out[n++] = r->headers[i];
    }
    for (size_t i = 0; i < p->n_fields; i++) {
        const struct field *f = &p->fields[i];
        if (!is_set(p, r, f))
            continue;
        if (n == cap)
            return HT_ESPACE;
        out[n++] = (struct wire_header){.name = ht_slice_str(f->name), .value = guard_value_text(f->value)};
    }
    return (ssize_t)n;
}
