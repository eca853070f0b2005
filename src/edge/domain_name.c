/* Which names can be own domains, and whose they are. */
#include "edge/aliases.h"
#include "edge/domains.h"

#include "base/idn.h"
#include "base/text.h"
#include "json/json.h"

#include <stdio.h>

#define LABEL_MAX 63
#define HOST_MAX 253

static bool is_below(const char *name, const char *site) {
    size_t n = strlen(name), m = strlen(site);
    return strcmp(name, site) == 0 || (n > m && name[n - m - 1] == '.' && strcmp(name + n - m, site) == 0);
}

static bool is_alnum(char c) { return ht_is_digit(c) || (c >= 'a' && c <= 'z'); }

/* What is wrong with a label in lower case; NULL: nothing (RFC 1035 2.3.1, RFC 5891 4.2.3.1). */
static const char *wrong_with(const char *p, size_t n) {
    bool a_label = n > 4 && memcmp(p, "xn--", 4) == 0;
    if (n == 0)
        return "a label is empty";
    if (n > LABEL_MAX)
        return "a label has at most 63 characters";
    for (size_t i = 0; i < n; i++) {
        if ((unsigned char)p[i] >= 0x80)
            return "letters beyond ASCII are written as A-labels (xn--...), as idn2 prints them";
        if (!is_alnum(p[i]) && p[i] != '-')
            return "a label has letters, digits and hyphens";
    }
    if (p[0] == '-' || p[n - 1] == '-')
        return "a label neither begins nor ends with a hyphen";
    return n > 3 && p[2] == '-' && p[3] == '-' && !a_label ? "a label with -- at its third place is xn--..." : NULL;
}

/* The same of a domain of two labels or more. */
static const char *wrong_with_all(const char *name) {
    const char *why = NULL, *at = name, *dot;
    for (bool more = true; more && !why; at = dot + more) {
        dot = at + strcspn(at, ".");
        more = *dot;
        why = wrong_with(at, (size_t)(dot - at));
        if (!why && !more && at[strspn(at, "0123456789")] == '\0')
            why = "its last label is a number";
    }
    return why ? why : strchr(name, '.') ? NULL : "a domain has a dot, as in app.example.com";
}

static int refuse(const char *text, const char *why, struct ht_errmsg *err) {
    char shown[160], ascii[300];
    ht_text_clean(ht_slice_str(text), shown, sizeof shown);
    if (ht_idn_ascii(text, ascii, sizeof ascii))
        return ht_fail(err, HT_EINVAL, "\"%s\": letters beyond ASCII are written as A-labels: %s", shown, ascii);
    return ht_fail(err, HT_EINVAL, "\"%s\": %s", shown, why);
}

int edge_domain_read(const char *site, const char *text, char out[EDGE_DOMAIN_NAME], struct ht_errmsg *err) {
    char host[HOST_MAX + 1];
    size_t n = strlen(text);
    if (n > 1 && text[n - 1] == '.')
        n--;
    if (n > HOST_MAX)
        return refuse("", "a domain has at most 253 bytes", err);
    if (n > 1 && text[0] == '*' && text[1] == '.')
        return ht_fail(err, HT_EINVAL, "a wildcard is no own domain: each name is one, and its certificate is its own");
    for (size_t i = 0; i < n; i++)
        host[i] = ht_lower(text[i]);
    host[n] = '\0';
    const char *why = wrong_with_all(host);
    if (why)
        return refuse(text, why, err);
    if (n > EDGE_ID_MAX)
        return ht_fail(err, HT_EINVAL, "an own domain has at most %d bytes", EDGE_ID_MAX);
    if (is_below(host, site))
        return ht_fail(err, HT_EINVAL, "%s is this server's own, %s or below it; an own domain is another's", host,
                       site);
    memcpy(out, host, n + 1);
    return HT_OK;
}

/* The text that a reader stands before. */
static void take_text(struct json_reader *r, char *out, size_t cap) {
    struct ht_slice text;
    char space[600];
    struct json_arena arena = {.p = space, .cap = sizeof space};
    if (json_peek(r) == JSON_T_STRING && json_read_string(r, false, &arena, &text) == 0 && text.n < cap)
        snprintf(out, cap, "%.*s", HT_SLICE_ARG(text));
}

void edge_domain_text(const struct edge_doc *d, const char *part, const char *member, char *out, size_t cap) {
    struct ht_slice json = edge_doc_part(d, part), key;
    struct json_reader r;
    out[0] = '\0';
    json_begin(&r, json.p ? json.p : "", json.n, NULL);
    if (json.n > 500)
        return;
    if (json_peek(&r) == JSON_T_STRING && !member) {
        take_text(&r, out, cap);
        return;
    }
    if (!member || json_object_begin(&r) < 0)
        return;
    while (json_object_next(&r, &key) > 0) {
        if (ht_slice_is(key, member)) {
            take_text(&r, out, cap);
            return;
        }
        if (json_skip(&r) < 0)
            return;
    }
}

bool edge_domain_alias_project(const struct edge_state *s, const char *alias, char project[EDGE_ID + 1]) {
    const struct edge_doc *d = edge_state_get(s, EDGE_ALIAS, alias);
    if (edge_alias_released(d, NULL)) /* it was deleted, and its name rests */
        return false;
    edge_domain_text(d, edge_alias_parts[EDGE_ALIAS_PROJECT], NULL, project, EDGE_ID + 1);
    return edge_is_id(ht_slice_str(project));
}

int edge_domain_may(const struct edge_state *s, const char *name, const char *project, struct ht_errmsg *err) {
    char its[EDGE_ID + 1];
    for (const char *at = name; at && strchr(at, '.'); at = strchr(at, '.') + 1) {
        const struct edge_doc *d = edge_state_get(s, EDGE_DOMAIN, at);
        edge_domain_text(d, EDGE_DOMAIN_PART, "project", its, sizeof its);
        if (d && strcmp(its, project) != 0)
            return at == name
                       ? ht_fail(err, HT_EACCESS, "%s belongs to another project, until that one deletes it", name)
                       : ht_fail(err, HT_EACCESS, "%s, which is above %s, belongs to another project", at, name);
    }
    return HT_OK;
}
