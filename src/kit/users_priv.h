/*
 * Users, and the tokens that they show. Without --users there is one user, who is an admin: whoever has the token, or,
 * when none is wanted, whoever comes.
 *
 *   users.c       who somebody is; what a user may do; the file read anew
 *   users_file.c  the file
 */
#ifndef HT_KIT_USERS_PRIV_H
#define HT_KIT_USERS_PRIV_H

#include "admin/admin.h"
#include "base/list.h"
#include "kit/kit.h"
#include "wire_gen.h"

#define KIT_USER_NAME 63
#define KIT_DIGEST 32 /* SHA-256, which is all that is kept of a token */

enum kit_mode { KIT_MODE_EXPOSE = 1, KIT_MODE_PULL = 2, KIT_MODE_REACH = 4, KIT_MODES_ALL = 7 };

/* What a user may have. All zeros but for the modes: whatever the kit allows. */
struct kit_allowance {
    unsigned modes;                /* of enum kit_mode */
    bool ports_given, names_given; /* ... or all */
    struct opt_port_range *ports;
    size_t n_ports;
    char **names; /* patterns */
    size_t n_names;
    unsigned max_sessions, max_bindings, max_streams; /* 0: as the sessions may */
    uint64_t rate;                                    /* bytes a second, each way; 0: any */
};

/*
 * Whoever shows a token of theirs. Their sessions and what these hold are theirs, and nobody else's. A user that is
 * gone from the file stays here, without tokens, as long as the kit does: others may point to it.
 */
struct kit_user {
    struct ht_list node; /* in kit.users */
    char name[KIT_USER_NAME + 1];
    bool admin;      /* sees and ends everybody's */
    bool lost_token; /* when the file was read last */
    struct kit_allowance may;
    uint64_t event_id; /* counts what readers of the user's events are told */
};

/* A token, by its digest. Stays as its user does. */
struct kit_pass {
    struct ht_list node; /* in kit.passes */
    uint8_t digest[KIT_DIGEST];
    struct kit_user *user;
    bool gone, was_gone; /* it is nobody's any more; ... was so before the file was read */
};

/* Whose it is, and which token opened it. Without a token to be shown there is no pass. */
struct kit_who {
    struct kit_user *user;
    const struct kit_pass *pass;
};

/* ---- users_file.c ---- */

/* A user as the file has it. */
struct users_entry {
    char name[KIT_USER_NAME + 1];
    bool admin;
    struct kit_allowance may;
    uint8_t (*digests)[KIT_DIGEST];
    size_t n_digests;
};

struct users_file {
    struct users_entry *users; /* by name */
    size_t n;
};

/*
 * Reads the whole text of a file; `name` is for messages. HT_EINVAL with *err: what is wrong and where, the first of
 * all, and each of them was logged. HT_ENOMEM. In each case *out has to be freed.
 */
int users_file_parse(struct users_file *out, const char *name, const char *text, size_t n,
                     struct ht_errmsg *err) HT_MUST_USE;
void users_file_free(struct users_file *f);
void users_allowance_free(struct kit_allowance *a);

#endif
