/*
 * Own domains: documents of the kind domain, each with the part EDGE_DOMAIN_PART, {"alias": ID, "project": PROJECT},
 * and with EDGE_DOMAIN_BROUGHT when somebody has brought its certificate. Where a domain leads is not this file's: here
 * it is whose it is, and its certificate. No other room includes it.
 *
 * A certificate is asked for when all addresses of the domain lead to this server, one order at a time. What an order
 * costs is on the disk before it begins, so that a program that is killed again and again does not ask again and again.
 */
#ifndef HT_EDGE_DOMAINS_H
#define HT_EDGE_DOMAINS_H

#include "edge/certs.h"
#include "edge/edge_priv.h"
#include "edge/state.h"

#define EDGE_DOMAIN_PART "domain"
#define EDGE_DOMAIN_BROUGHT "certificate"
#define EDGE_DOMAIN_NAME (EDGE_ID_MAX + 1) /* bytes of a domain with its NUL */

/* ---- domain_name.c ---- */

/* Reads a name that can be an own domain at a site, and writes it in lower case. 0, or HT_EINVAL with *err, which says
 * what would be right: no wildcard, letters as A-labels, nothing below the site's own domain. */
int edge_domain_read(const char *site, const char *text, char out[EDGE_DOMAIN_NAME], struct ht_errmsg *err) HT_MUST_USE;
/* A text of the document's part; out is "" when there is none, or it is too long. */
void edge_domain_text(const struct edge_doc *d, const char *part, const char *member, char *out, size_t cap);
/* The project that an alias belongs to. False: there is no such alias. */
bool edge_domain_alias_project(const struct edge_state *s, const char *alias, char project[EDGE_ID + 1]);
/* Whether a project may have a name: it has it, or nobody has, nor another project a name above it. 0, or HT_EACCESS
 * with *err. */
int edge_domain_may(const struct edge_state *s, const char *name, const char *project,
                    struct ht_errmsg *err) HT_MUST_USE;

/* ---- domains.c ---- */

struct edge_domains;

struct edge_domains_config {
    struct io_loop *loop;
    const char *folder;
    const char *domain, *node;
    const struct edge_acme_config *acme;
    struct edge_state *state;
    struct edge_admin *admin;
    void (*settled)(void *ctx); /* HAProxy has other certificates than before */
    void *ctx;
};

/* Reads what there is. Before HAProxy starts. 0, or an error with *err. */
int edge_domains_start(struct edge_domains **out, const struct edge_domains_config *cfg,
                       struct ht_errmsg *err) HT_MUST_USE;
/* Before `admin` ends: lego ends. */
void edge_domains_leave(struct edge_domains *d);
/* Once it has ended. Clears the pointer. NULL is ignored. */
void edge_domains_stop(struct edge_domains **d);

/* Writes HAProxy's list of certificates. 0, or an error with *err. */
int edge_domains_write(struct edge_domains *d, struct ht_errmsg *err) HT_MUST_USE;
void edge_domains_hold(struct edge_domains *d); /* HAProxy starts or loads anew */
void edge_domains_go(struct edge_domains *d);   /* it serves */

enum edge_domain_state {
    EDGE_DOMAIN_NONE,
    EDGE_DOMAIN_WAITING,
    EDGE_DOMAIN_ISSUING,
    EDGE_DOMAIN_ISSUED,
    EDGE_DOMAIN_FAILED
};

/* What there is to know of a certificate. Texts are valid until the next turn. */
struct edge_domain {
    const char *name;
    enum edge_domain_state state;
    bool brought, has_cert;
    struct edge_cert cert;
    char error[500]; /* "": nothing is wrong */
    unsigned failures;
    int64_t next; /* seconds since 1970; 0: never */
};
/* The i-th, in the order of their names; i below edge_domains_count(). */
size_t edge_domains_count(const struct edge_domains *d);
void edge_domains_at(struct edge_domains *d, size_t i, struct edge_domain *out);
/* How many names are not behind `name`. */
size_t edge_domains_behind(const struct edge_domains *d, const char *name);
bool edge_domains_find(struct edge_domains *d, const char *name, struct edge_domain *out);
/* Whether an ACME server may be asked, the orders of the last day, and how many may be. */
bool edge_domains_acme(const struct edge_domains *d);
size_t edge_domains_orders(struct edge_domains *d);
size_t edge_domains_cap(const struct edge_domains *d);

/* Asks for a certificate now. HT_OK; HT_EOF: there is no such domain; HT_EINVAL or HT_ELIMIT with *err. */
int edge_domains_renew(struct edge_domains *d, const char *name, struct ht_errmsg *err) HT_MUST_USE;
/* Shows a certificate that was brought, cleaned and checked, once the document says so. 0, or an error with *err. */
int edge_domains_bring(struct edge_domains *d, const char *name, struct ht_slice pem,
                       struct ht_errmsg *err) HT_MUST_USE;

/* Whether acme/edge.pem can be shown as the server's own certificate. Writes it to `pem`. */
bool edge_domains_own(const char *folder, const char *node, const char *domain, struct ht_buf *pem,
                      struct edge_cert *out);

#endif
