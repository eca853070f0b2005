/*
 * A file of users (spec/users.yaml) by itself, for another server than a kit: who has which token, and whether it is an
 * admin. What it says of tunnels is not looked at, but must be right.
 */
#ifndef HT_KIT_USERS_H
#define HT_KIT_USERS_H

#include "base/base.h"
#include "base/err.h"

struct kit_users;

/* Reads the file. Replaces *users, which may be NULL before; with an error it stays as it was. 0, HT_ENOMEM, HT_EIO, or
 * HT_EINVAL: *err is the first problem with its place, and all of them were logged. */
int kit_users_load(struct kit_users **users, const char *file, struct ht_errmsg *err) HT_MUST_USE;
/* Whose token it is. False: nobody's. *name is valid until the next load. */
bool kit_users_find(const struct kit_users *users, struct ht_slice token, const char **name, bool *admin);
/* Clears the pointer. NULL is ignored. */
void kit_users_free(struct kit_users **users);

#endif
