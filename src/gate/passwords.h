/*
 * The file of users: a line "NAME:HASH" for each, # begins a comment. A hash is bcrypt ($2b$, $2y$; cost 10 to 14),
 * yescrypt ($y$), or SHA-crypt ($5$, $6$; 5,000 to 1,000,000 rounds), as `hoody-tunnel password new`, `htpasswd -B -C
 * 10` and `mkpasswd` make them. Passwords in plain text and weaker hashes are refused. Only its owner and group may
 * read the file.
 */
#ifndef HT_GATE_PASSWORDS_H
#define HT_GATE_PASSWORDS_H

#include "base/base.h"
#include "base/err.h"

#define GATE_PASSWORDS_MAX 1024    /* most users */
#define GATE_PASSWORDS_FILE 262144 /* most bytes of the file */
#define GATE_USER_MAX 128          /* bytes of a name */
#define GATE_HASH_MAX 256          /* bytes of a hash, with the NUL */
#define GATE_PASSWORD_MAX 512      /* bytes of a password that is looked at */

struct gate_user {
    struct ht_slice name;
    const char *hash; /* ends with a NUL */
};

struct gate_passwords {
    struct gate_user *users;
    size_t n;
    char *text;
    size_t text_len;
};

/* Reads a text of `n` bytes. `name` is the file's, for messages. 0, HT_ENOMEM, or HT_EINVAL with *err, which never
 * holds a hash. The caller frees *p in each case. */
int gate_passwords_parse(struct gate_passwords *p, const char *name, const char *text, size_t n,
                         struct ht_errmsg *err) HT_MUST_USE;
/* The same for a file. HT_EIO: it cannot be read, or strangers can read or change it. */
int gate_passwords_load(struct gate_passwords *p, const char *name, struct ht_errmsg *err) HT_MUST_USE;
/* Wipes and frees. */
void gate_passwords_free(struct gate_passwords *p);
/* NULL: there is none. */
const struct gate_user *gate_passwords_find(const struct gate_passwords *p, struct ht_slice name);

/* 0, or HT_EINVAL with *err: no user can have this name. */
int gate_user_name_check(struct ht_slice name, struct ht_errmsg *err) HT_MUST_USE;
/* Writes a hash that is taken here, with a salt of its own. Takes as long as a login. 0, or HT_EINVAL or HT_EIO with
 * *err. */
int gate_password_hash(const char *password, char out[GATE_HASH_MAX], struct ht_errmsg *err) HT_MUST_USE;

/* True when the password has that hash. Takes long, and may run on any thread: it shares nothing. */
bool gate_password_fits(const char *hash, const char *password);

#endif
