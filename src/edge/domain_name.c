/* Which names can be own domains, and whose they are. */
#include "edge/domains.h"

#include "base/text.h"
#include "json/json.h"
#include "proc/idn.h"
#include "wire/name.h"

#include <stdio.h>

static bool is_below(const char *name, const char *site) {
    size_t n = strlen(name), m = strlen(site);
    return strcmp(name, site) == 0 || (n > m && name[n - m - 1] == '.' && strcmp(name + n - m, site) == 0);
}

int edge_domain_read(const char *site, const char *text, char out[EDGE_DOMAIN_NAME], struct ht_errmsg *err) {
    char host[WIRE_HOST_ROOM], shown[160];
    struct ht_errmsg why;
    size_t n = strlen(text);
    if (n > 1 && text[n - 1] == '.')
        n--;
    if (n > 1 && text[0] == '*' && text[1] == '.')
        return ht_fail(err, HT_EINVAL, "a wildcard is no own domain: each name is one, and its certificate is its own");
    int rc = wire_domain_read(host, ht_slice_of(text, n), 2, &why);
    if (rc < 0) {
        proc_idn_hint(text, &why);
        return ht_fail(err, HT_EINVAL, "%s", why.text);
    }
    if (strlen(host) > EDGE_ID_MAX)
        return ht_fail(err, HT_EINVAL, "an own domain has at most %d bytes", EDGE_ID_MAX);
    if (is_below(host, site))
        return ht_fail(err, HT_EINVAL, "%s is this server's own, %s or below it; an own domain is another's",
                       ht_text_clean(ht_slice_str(host), shown, sizeof shown), site);
    snprintf(out, EDGE_DOMAIN_NAME, "%s", host);
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
    edge_domain_text(d, "project_id", NULL, project, EDGE_ID + 1);
    if (!project[0])
        edge_domain_text(d, "alias", "project_id", project, EDGE_ID + 1);
    return edge_is_id(ht_slice_str(project));
}

int edge_domain_may(const struct edge_state *s, const char *name, const char *project, struct ht_errmsg *err) {
    char its[EDGE_ID + 1];
    for (const char *at = name; at && strchr(at, '.'); at = strchr(at, '.') + 1) {
        const struct edge_doc *d = edge_state_get(s, EDGE_DOMAIN, at);
        edge_domain_text(d, EDGE_DOMAIN_PART, "project", its, sizeof its);
        if (d && strcmp(its, project) != 0)
            return at == name ? ht_fail(err, HT_EACCESS, "%s belongs to another project, until that one deletes it", name)
                              : ht_fail(err, HT_EACCESS, "%s, which is above %s, belongs to another project", at, name);
    }
    return HT_OK;
}
