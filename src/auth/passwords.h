/*
 * The file of users: a line "NAME:HASH" for each, # begins a comment. A hash is bcrypt ($2b$, $2y$; cost 10 to 14),
 * yescrypt ($y$), or SHA-crypt ($5$, $6$; 5,000 to 1,000,000 rounds), as `hoody-tunnel password new`, `htpasswd -B -C
 * 10` and `mkpasswd` make them. Passwords in plain text and weaker hashes are refused. Only its owner and group may
 * read the file.
 */
#ifndef HT_AUTH_PASSWORDS_H
#define HT_AUTH_PASSWORDS_H

#include "base/base.h"
#include "base/err.h"

#define AUTH_PASSWORDS_MAX 1024    /* most users */
#define AUTH_PASSWORDS_FILE 262144 /* most bytes of the file */
#define AUTH_USER_MAX 128          /* bytes of a name */
#define AUTH_HASH_MAX 256          /* bytes of a hash, with the NUL */
#define AUTH_PASSWORD_MAX 512      /* bytes of a password that is looked at */

struct auth_user {
    struct ht_slice name;
    const char *hash; /* ends with a NUL */
};

struct auth_passwords {
    struct auth_user *users;
    size_t n;
    char *text;
    size_t text_len;
};

/* Reads a text of `n` bytes. `name` is the file's, for messages. 0, HT_ENOMEM, or HT_EINVAL with *err, which never
 * holds a hash. The caller frees *p in each case. */
int auth_passwords_parse(struct auth_passwords *p, const char *name, const char *text, size_t n,
                         struct ht_errmsg *err) HT_MUST_USE;
/* The same for a file. HT_EIO: it cannot be read, or strangers can read or change it. */
int auth_passwords_load(struct auth_passwords *p, const char *name, struct ht_errmsg *err) HT_MUST_USE;
/* Wipes and frees. */
void auth_passwords_free(struct auth_passwords *p);
/* NULL: there is none. */
const struct auth_user *auth_passwords_find(const struct auth_passwords *p, struct ht_slice name);

/* 0, or HT_EINVAL with *err: no user can have this name. */
int auth_user_name_check(struct ht_slice name, struct ht_errmsg *err) HT_MUST_USE;
/* Why a hash is not taken, to follow "this user"; NULL: it is. Static storage. */
const char *auth_hash_fault(const char *hash);
/* Writes a hash that is taken here, with a salt of its own. Takes as long as a login. 0, or HT_EINVAL or HT_EIO with
 * *err. */
int auth_password_hash(const char *password, char out[AUTH_HASH_MAX], struct ht_errmsg *err) HT_MUST_USE;

/* A hash of no password that anybody has: checking one against it takes as long as a login. */
#define AUTH_NOBODY_HASH "$y$j9T$AAAAAAAAAAAAAAAAAAAAA.$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"

/* True when the password has that hash. Takes long, and may run on any thread: it shares nothing. */
bool auth_password_fits(const char *hash, const char *password);

#endif
