/*
 * Certificates of own domains: files of the folder, HAProxy's list of them, and HAProxy itself, which takes changes
 * through its socket. A change goes first to the certificate's file, then to the list's, then to the socket, so a
 * HAProxy that loads anew at any moment has it. No other room includes it.
 */
#ifndef HT_EDGE_CERTS_H
#define HT_EDGE_CERTS_H

#include "edge/edge_priv.h"

struct edge_certs;

/* Where a certificate is from, and so in which folder: those that somebody has brought may be for other names as well,
 * and HTTP/3's server, which goes by the names in them, does not get them. */
enum edge_cert_from { EDGE_CERT_ISSUED, EDGE_CERT_BROUGHT, EDGE_CERT_FROM };
extern const char *const edge_cert_folders[EDGE_CERT_FROM];

struct edge_certs_ops {
    void (*settled)(void *ctx); /* HAProxy has what was wanted, after a change */
    /* HAProxy does not take a certificate: it is out of the list. `why` is HAProxy's word. */
    void (*refused)(void *ctx, const char *name, const char *why);
    /* It is a name that may have a certificate from there. */
    bool (*known)(void *ctx, const char *name, enum edge_cert_from from);
};

struct edge_certs *edge_certs_create(struct io_loop *loop, const char *folder, struct edge_admin *admin,
                                     const struct edge_certs_ops *ops, void *ctx) HT_MUST_USE;
/* Once the admin has ended. Clears the pointer. NULL is ignored. */
void edge_certs_destroy(struct edge_certs **c);

/* What a certificate says. */
struct edge_cert {
    int64_t begins, ends; /* seconds since 1970 */
    char issuer[64];
};
/* Whether a cleaned PEM (acme_plan.h) can be shown for a name: it is for it, and has its key. It may have ended: the
 * clock of this machine may be wrong. 0, or HT_EINVAL with *err. */
int edge_certs_look(const char *name, struct ht_slice pem, struct edge_cert *out, struct ht_errmsg *err) HT_MUST_USE;
/* The same of one that is new, and has not ended. */
int edge_certs_check(const char *name, struct ht_slice pem, struct edge_cert *out, struct ht_errmsg *err) HT_MUST_USE;

/* The file that a name has in a folder is in the list from now on. HT_OK; HT_EOF: there is none, or it is no
 * certificate; HT_ENOMEM. Before HAProxy starts. */
int edge_certs_load(struct edge_certs *c, const char *name, enum edge_cert_from from,
                    struct edge_cert *out) HT_MUST_USE;
/* Keeps a certificate that was checked, in place of whatever the name has; HAProxy follows. HT_EIO or HT_ENOMEM with
 * *err. */
int edge_certs_put(struct edge_certs *c, const char *name, enum edge_cert_from from, struct ht_slice pem,
                   struct ht_errmsg *err) HT_MUST_USE;
/* The name's certificate goes, its files last. Harmless without one. */
void edge_certs_drop(struct edge_certs *c, const char *name);
/* certs/edge.pem is another one. */
void edge_certs_own_changed(struct edge_certs *c);
/* Removes files of certificates that are neither shown nor of a name that is known. */
void edge_certs_tidy(const struct edge_certs *c);

/* Writes the list's file. 0, or HT_EIO or HT_ENOMEM with *err. */
int edge_certs_write(struct edge_certs *c, struct ht_errmsg *err) HT_MUST_USE;
/* HAProxy starts or loads anew: nothing is said to it. Then it serves, and hears what has changed meanwhile. */
void edge_certs_hold(struct edge_certs *c);
void edge_certs_go(struct edge_certs *c);

#endif
