/* Own domains and their certificates by the API. */
#include "edge/acme_plan.h"
#include "edge/api.h"
#include "edge/domains.h"

#include "base/mem.h"
#include "json/json.h"

#include <stdio.h>

#define TEXTS 66000   /* bytes of the texts of a body */
#define NAME_ROOM 256 /* bytes of a name, which may be that of the wildcard, with its NUL */

/* A domain for an answer, with texts of its document. */
struct shown {
    struct edge_domain it;
    char alias[EDGE_ID_MAX + 1], project[EDGE_ID + 1];
};

static struct edge_domains *domains_of(const struct api_client *c) { return edge_api_of(c)->domains; }

static const struct edge_doc *doc_of(const struct api_client *c, const char *name) {
    return edge_state_get(edge_api_of(c)->state, EDGE_DOMAIN, name);
}

static struct ht_slice or_nothing(const char *text) { return text[0] ? ht_slice_str(text) : ht_slice_of(NULL, 0); }

static struct edge_api_domain shown(const struct api_client *c, struct shown *s) {
    static const enum edge_api_domain_state states[] = {
        [EDGE_DOMAIN_NONE] = EDGE_API_DOMAIN_STATE_NONE,       [EDGE_DOMAIN_WAITING] = EDGE_API_DOMAIN_STATE_WAITING,
        [EDGE_DOMAIN_ISSUING] = EDGE_API_DOMAIN_STATE_ISSUING, [EDGE_DOMAIN_ISSUED] = EDGE_API_DOMAIN_STATE_ISSUED,
        [EDGE_DOMAIN_FAILED] = EDGE_API_DOMAIN_STATE_FAILED,
    };
    const struct edge_doc *d = doc_of(c, s->it.name);
    edge_domain_text(d, EDGE_DOMAIN_PART, "alias", s->alias, sizeof s->alias);
    edge_domain_text(d, EDGE_DOMAIN_PART, "project", s->project, sizeof s->project);
    return (struct edge_api_domain){
        .domain = ht_slice_str(s->it.name),
        .alias = or_nothing(s->alias),
        .project_id = or_nothing(s->project),
        .state = states[s->it.state],
        .source = s->it.brought ? EDGE_API_CERTIFICATE_SOURCE_FILE : EDGE_API_CERTIFICATE_SOURCE_ACME,
        .issuer = s->it.has_cert ? or_nothing(s->it.cert.issuer) : ht_slice_of(NULL, 0),
        .has_not_before = s->it.has_cert,
        .not_before = (uint64_t)s->it.cert.begins,
        .has_not_after = s->it.has_cert,
        .not_after = (uint64_t)s->it.cert.ends,
        .error = or_nothing(s->it.error),
        .has_failures = s->it.failures > 0,
        .failures = s->it.failures,
        .has_next_try = s->it.next > 0,
        .next_try = (uint64_t)s->it.next,
        .file_version = edge_doc_version(d),
    };
}

static int no_domain(struct edge_api_response *res, const char *name) {
    return edge_api_reply_error(res, 404, "there is no domain %s", name);
}

static int show(const struct api_client *c, struct edge_api_response *res, const char *name) {
    struct shown s;
    if (!edge_domains_find(domains_of(c), name, &s.it))
        return no_domain(res, name);
    struct edge_api_domain v = shown(c, &s);
    int rc = edge_api_reply_domain_get_200(res, &v);
    edge_api_etag(res, v.file_version);
    return rc;
}

/* ---- names ---- */

/* The name of the path; with `own` the server's own as well. False: it is answered. */
static bool name_of(const struct api_client *c, const struct edge_api_request *req, struct edge_api_response *res,
                    bool own, char out[NAME_ROOM], int *rc) {
    struct edge_domain it;
    struct ht_errmsg err;
    if (own && req->params.domain[0] == '*' && edge_domains_find(domains_of(c), req->params.domain, &it)) {
        snprintf(out, NAME_ROOM, "%s", req->params.domain);
        return true;
    }
    if (edge_domain_read(edge_api_of(c)->domain, req->params.domain, out, &err) == HT_OK)
        return true;
    *rc = edge_api_reply_error(res, 400, "%s", err.text);
    return false;
}

/* The same of a domain that is there. */
static bool there(const struct api_client *c, const struct edge_api_request *req, struct edge_api_response *res,
                  bool own, char out[NAME_ROOM], int *rc) {
    struct edge_domain it;
    if (!name_of(c, req, res, own, out, rc))
        return false;
    if (edge_domains_find(domains_of(c), out, &it))
        return true;
    *rc = no_domain(res, out);
    return false;
}

/* ---- reading ---- */

int edge_api_domain_get(void *ctx, const struct edge_api_request *req, struct edge_api_response *res) {
    char name[NAME_ROOM];
    int rc;
    return there(ctx, req, res, true, name, &rc) ? show(ctx, res, name) : rc;
}

int edge_api_domain_list(void *ctx, const struct edge_api_request *req, struct edge_api_response *res) {
    struct api_client *c = ctx;
    struct edge_domains *all = domains_of(c);
    size_t first = req->params.set_behind ? edge_domains_behind(all, req->params.behind) : 0;
    size_t left = edge_domains_count(all) - first, n = ht_min(left, (size_t)req->params.limit);
    struct shown *its = ht_calloc(n + 1, sizeof *its);
    struct edge_api_domain *v = ht_calloc(n + 1, sizeof *v);
    int rc = HT_ENOMEM;
    if (its && v) {
        for (size_t i = 0; i < n; i++) {
            edge_domains_at(all, first + i, &its[i].it);
            v[i] = shown(c, &its[i]);
        }
        struct edge_api_domains out = {.domains = v,
                                       .n_domains = n,
                                       .more = left > n,
                                       .acme = edge_domains_acme(all),
                                       .daily_cap = edge_domains_cap(all),
                                       .orders_today = edge_domains_orders(all)};
        rc = edge_api_reply_domain_list_200(res, &out);
    }
    ht_free(its);
    ht_free(v);
    return rc;
}

/* ---- changing ---- */

int edge_api_domain_put(void *ctx, const struct edge_api_request *req, struct edge_api_response *res) {
    struct api_client *c = ctx;
    struct edge_state *state = edge_api_of(c)->state;
    struct api_member m[] = {{.name = "alias", .type = API_TEXT, .required = true}};
    char name[NAME_ROOM], space[1024], alias[EDGE_ID_MAX + 1], project[EDGE_ID + 1], part[300];
    struct ht_errmsg err;
    uint64_t version;
    int rc;
    if (!name_of(c, req, res, false, name, &rc) || !edge_api_body(req, res, m, 1, space, sizeof space, &rc))
        return rc;
    snprintf(alias, sizeof alias, "%.*s", (int)ht_min(m[0].value.n, EDGE_ID_MAX), m[0].value.p);
    if (m[0].value.n > EDGE_ID_MAX || !edge_domain_alias_project(state, alias, project))
        return edge_api_reply_error(res, 404, "there is no such alias; a domain leads to one by its id");
    if (edge_domain_may(state, name, project, &err) < 0)
        return edge_api_reply_error(res, 409, "%s", err.text);
    snprintf(part, sizeof part, "{\"alias\":\"%s\",\"project\":\"%s\"}", alias, project);
    const struct edge_change change = {EDGE_DOMAIN_PART, ht_slice_str(part)};
    return edge_api_change(c, req, res, EDGE_DOMAIN, name, &change, 1, "domainPut", &version, &rc) ? show(c, res, name)
                                                                                                   : rc;
}

int edge_api_domain_delete(void *ctx, const struct edge_api_request *req, struct edge_api_response *res) {
    struct api_client *c = ctx;
    struct edge_change changes[EDGE_PARTS_MAX];
    char name[NAME_ROOM];
    uint64_t version;
    int rc;
    if (!there(c, req, res, false, name, &rc))
        return rc;
    const struct edge_doc *d = doc_of(c, name);
    size_t n = edge_doc_parts(d);
    for (size_t i = 0; i < n; i++)
        changes[i] = (struct edge_change){.part = edge_doc_part_name(d, i)};
    if (!edge_api_change(c, req, res, EDGE_DOMAIN, name, changes, n, "domainDelete", &version, &rc))
        return rc;
    return edge_api_reply_domain_delete_200(res, &(struct edge_api_version){.file_version = version});
}

int edge_api_domain_renew(void *ctx, const struct edge_api_request *req, struct edge_api_response *res) {
    struct api_client *c = ctx;
    struct ht_errmsg err;
    char name[NAME_ROOM];
    int rc;
    if (!there(c, req, res, true, name, &rc))
        return rc;
    rc = edge_domains_renew(domains_of(c), name, &err);
    return rc < 0 ? edge_api_reply_error(res, 409, "%s", err.text) : show(c, res, name);
}

/* ---- certificates that are brought ---- */

/* Certificate and key as one PEM, checked. False: it is answered. */
static bool read_pem(const struct edge_api_request *req, struct edge_api_response *res, const char *name,
                     struct ht_buf *out, int *rc) {
    struct api_member m[] = {{.name = "certificate", .type = API_TEXT, .required = true},
                             {.name = "key", .type = API_TEXT}};
    struct ht_errmsg err;
    struct edge_cert cert;
    char *space = ht_malloc(TEXTS);
    bool good = space && edge_api_body(req, res, m, HT_ARRAY_LEN(m), space, TEXTS, rc);
    int did = HT_OK;
    for (size_t i = 0; good && did == HT_OK && i < HT_ARRAY_LEN(m); i++)
        if (m[i].set)
            did = acme_pem_clean(m[i].value, out, &err);
    if (good && did == HT_OK)
        did = edge_certs_check(name, ht_buf_slice(out), &cert, &err);
    if (!space)
        *rc = HT_ENOMEM;
    else if (good && did < 0)
        *rc = did == HT_EINVAL ? edge_api_reply_error(res, 400, "%s", err.text) : did;
    if (space)
        explicit_bzero(space, TEXTS);
    ht_free(space);
    return good && did == HT_OK;
}

int edge_api_domain_certificate(void *ctx, const struct edge_api_request *req, struct edge_api_response *res) {
    struct api_client *c = ctx;
    static const char part[] = "{\"source\":\"file\"}";
    const struct edge_change change = {EDGE_DOMAIN_BROUGHT, ht_slice_of(part, sizeof part - 1)};
    struct ht_buf pem = {0};
    struct ht_errmsg err;
    char name[NAME_ROOM];
    uint64_t version;
    int rc;
    if (!there(c, req, res, false, name, &rc))
        return rc;
    if (read_pem(req, res, name, &pem, &rc) &&
        edge_api_change(c, req, res, EDGE_DOMAIN, name, &change, 1, "domainCertificate", &version, &rc))
        rc = edge_domains_bring(domains_of(c), name, ht_buf_slice(&pem), &err) < 0
                 ? edge_api_reply_error(res, 500, "%s", err.text)
                 : show(c, res, name);
    if (pem.data)
        explicit_bzero(pem.data, pem.cap);
    ht_buf_free(&pem);
    return rc;
}

int edge_api_domain_certificate_delete(void *ctx, const struct edge_api_request *req, struct edge_api_response *res) {
    struct api_client *c = ctx;
    const struct edge_change change = {.part = EDGE_DOMAIN_BROUGHT};
    char name[NAME_ROOM];
    uint64_t version;
    int rc;
    if (!there(c, req, res, false, name, &rc))
        return rc;
    if (!edge_doc_part(doc_of(c, name), EDGE_DOMAIN_BROUGHT).p)
        return edge_api_reply_error(res, 404, "nobody has brought a certificate for %s", name);
    return edge_api_change(c, req, res, EDGE_DOMAIN, name, &change, 1, "domainCertificateDelete", &version, &rc)
               ? show(c, res, name)
               : rc;
}
