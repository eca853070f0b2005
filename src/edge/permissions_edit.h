/*
 * Documents of permissions as texts: one member is changed, secrets are hidden and put back, passwords are hashed. Each
 * appends to `out` and returns 0, HT_ENOMEM, or HT_EINVAL: the document is no JSON object of objects; what was appended
 * is then of no use. Whether the outcome is a policy, edge_policy_create() says.
 */
#ifndef HT_EDGE_PERMISSIONS_EDIT_H
#define HT_EDGE_PERMISSIONS_EDIT_H

#include "auth/passwords.h"
#include "base/base.h"
#include "base/buf.h"
#include "base/err.h"

#define EDGE_HIDDEN "***"      /* what stands for a secret that is not shown */
#define EDGE_PLAIN_PASSWORDS 4 /* most of a document in plain text: hashing takes its time */
#define EDGE_MEMBERS_DEPTH 4

/* The document with the member path[0]...path[n - 1] set to a JSON value; .p is NULL: without it. Objects on the way
 * are made. `doc` .p NULL: there was none. */
int edge_permissions_set(struct ht_slice doc, const char *const *path, size_t n, struct ht_slice value,
                         struct ht_buf *out) HT_MUST_USE;
/* The JSON value of a member; .p is NULL when it is not there. */
struct ht_slice edge_permissions_get(struct ht_slice doc, const char *const *path, size_t n);
/* With EDGE_HIDDEN in place of each secret. */
int edge_permissions_hide(struct ht_slice doc, struct ht_buf *out) HT_MUST_USE;
/* The other way round: a secret that is EDGE_HIDDEN becomes that of the same group in `old`. */
int edge_permissions_unhide(struct ht_slice doc, struct ht_slice old, struct ht_buf *out) HT_MUST_USE;
/* Passwords in plain text that a document has, and what is made of them on a thread meanwhile. */
struct edge_plains {
    unsigned n;
    bool made; /* the hashes are there */
    struct edge_plain {
        char text[AUTH_PASSWORD_MAX + 1], hash[AUTH_HASH_MAX];
    } all[EDGE_PLAIN_PASSWORDS];
};

/*
 * With hashes in place of passwords in plain text, and around SHA-256 digests of `algorithm` sha256. Without p->made it
 * fills *p in with what is to be hashed, and AUTH_NOBODY_HASH stands for the hashes: so it can be seen whether all the
 * rest is right. With p->made the hashes of the same document are put in. HT_EINVAL with *err also when there are more
 * than EDGE_PLAIN_PASSWORDS, or when one is too long. *p and what `doc` points to hold secrets, and are wiped by the
 * caller.
 */
int edge_permissions_hash(struct ht_slice doc, struct edge_plains *p, struct ht_buf *out,
                          struct ht_errmsg *err) HT_MUST_USE;

#endif
