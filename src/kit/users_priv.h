/*
 * Users and their tokens. Without --users there is one user, who is an admin: everybody with the token, or everybody
 * when no token is needed.
 *
 *   users.c       finds the user of a token, checks the rights of users, and reads the file again
 *   users_file.c  parses the file
 *   users_alone.c the file by itself, for others than the kit: kit/users.h
 */
#ifndef HT_KIT_USERS_PRIV_H
#define HT_KIT_USERS_PRIV_H

#include "admin/admin.h"
#include "base/buf.h"
#include "base/list.h"
#include "io/share.h"
#include "kit/kit.h"
#include "mux/mux.h"
#include "wire_gen.h"

#define KIT_USER_NAME 63
#define KIT_PASS_BUCKETS 1024
#define KIT_DIGEST 32 /* bytes of a SHA-256; of a token only its digest is kept */

enum kit_mode { KIT_MODE_EXPOSE = 1, KIT_MODE_PULL = 2, KIT_MODE_REACH = 4, KIT_MODES_ALL = 7 };

/* What a user may do. With zeros in all fields but `modes`, the user may do what the kit allows. */
struct kit_allowance {
    unsigned modes;                /* bits of enum kit_mode */
    bool ports_given, names_given; /* false: all ports, all names */
    struct opt_port_range *ports;
    size_t n_ports;
    char **names; /* patterns */
    size_t n_names;
    unsigned max_sessions, max_bindings, max_streams; /* 0: no limit but those of sessions */
    uint64_t rate;                                    /* bytes a second in each direction; 0: no limit */
};

/*
 * A user has tokens, and owns the sessions that were opened with them. A user that is no longer in the file has no
 * valid tokens, but is freed only with the kit, since other structures may point to it.
 */
struct kit_user {
    struct ht_list node; /* in kit.users */
    char name[KIT_USER_NAME + 1];
    bool known;      /* is in the file */
    bool admin;      /* sees and ends everybody's */
    bool lost_token; /* when the file was read last, a token of this user became invalid */
    struct kit_allowance may;
    struct io_share up, down; /* of what visitors send, and of what drivers send; zeros without --users */
    struct mux_quota quota;
    unsigned n_live;   /* sessions that are not parked */
    uint64_t event_id; /* of the user's latest event */
};

/* A token, as its digest. It stays as long as its user. */
struct kit_pass {
    struct ht_list node; /* in kit.passes */
    struct ht_list like; /* in kit.by_digest */
    uint8_t digest[KIT_DIGEST];
    struct kit_user *user;
    bool gone, was_gone; /* no longer valid; the same before the file was read last */
};

/* A user, and the token that was shown. pass NULL: no token is needed. */
struct kit_who {
    struct kit_user *user;
    const struct kit_pass *pass;
};

/* ---- users_file.c ---- */

/* A user in the file. */
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
 * Parses the whole text of a file; `name` is for messages. 0, HT_ENOMEM, or HT_EINVAL: *err is the first problem with
 * its place, and all problems were logged. The caller frees *out in each case.
 */
int users_file_parse(struct users_file *out, const char *name, const char *text, size_t n,
                     struct ht_errmsg *err) HT_MUST_USE;
void users_file_free(struct users_file *f);
/* Appends the text of an open file, a little more than a file may have at most. 0, HT_ENOMEM or HT_EIO with *err. */
int users_file_read(int fd, const char *name, struct ht_buf *out, struct ht_errmsg *err) HT_MUST_USE;
void users_allowance_free(struct kit_allowance *a);

#endif
