/*
 * Logins with HTTP's Basic scheme (RFC 7617). A password that fits is remembered for AUTH_LOGIN_GOOD_MS by a keyed hash
 * of name and password, so that not each request costs what a password hash costs. Hashes are computed on threads.
 *
 * An address whose logins have failed AUTH_LOGIN_FREE times waits after each further one: a second, then twice as long
 * each time, up to a minute. Meanwhile its logins are not looked at, but those that are remembered pass.
 */
#ifndef HT_AUTH_LOGIN_H
#define HT_AUTH_LOGIN_H

#include "auth/passwords.h"
#include "base/base.h"
#include "base/err.h"
#include "base/list.h"
#include "io/io.h"

#define AUTH_LOGIN_GOOD_MS 300000u /* how long a login is remembered */
#define AUTH_LOGIN_REMEMBERED 1024 /* logins, at most; a power of two */
#define AUTH_LOGIN_FREE 5u         /* logins of an address that may fail before it is slowed down */
#define AUTH_LOGIN_WAIT_MAX_MS 60000u
#define AUTH_LOGIN_FORGET_MS 600000u /* without a failure, an address begins anew */
#define AUTH_LOGIN_ADDRESSES 1024    /* that are known to have failed, at most */
#define AUTH_LOGIN_CHECKS 32         /* passwords that are being checked or wait for it, at most */
#define AUTH_LOGIN_SCOPE_CHECKS 16   /* and of one scope */

enum auth_login_result {
    AUTH_LOGIN_GOOD,
    AUTH_LOGIN_BAD,   /* none, or a wrong one */
    AUTH_LOGIN_SLOW,  /* the address has to wait */
    AUTH_LOGIN_BUSY,  /* too many are being checked */
    AUTH_LOGIN_ASKED, /* done() follows */
};

struct auth_login;

/* A request that waits; a member of its owner's structure. */
struct auth_login_wait {
    struct ht_list node;
    void (*done)(struct auth_login_wait *w, enum auth_login_result result);
};

/* Takes the passwords over; there may be none, for auth_login_check(). NULL: out of memory; the caller keeps them. */
struct auth_login *auth_login_create(struct io_loop *loop, struct auth_passwords *p) HT_MUST_USE;
/* Nobody may wait any more. Clears the pointer. NULL is ignored. */
void auth_login_destroy(struct auth_login **l);
/* Replaces the passwords, and takes them over: nothing is remembered of the old ones. */
void auth_login_set(struct auth_login *l, struct auth_passwords *p);
/* Checks the value of Authorization for one of the passwords. `from` is the visitor's address; NULL: not known. With
 * AUTH_LOGIN_SLOW *wait_s is set.
 */
enum auth_login_result auth_login_ask(struct auth_login *l, struct ht_slice authorization, const struct io_addr *from,
                                      struct auth_login_wait *w, unsigned *wait_s) HT_MUST_USE;

/* A login against a hash that the caller has. */
struct auth_claim {
    const char *hash; /* NULL: there is no such user. It takes as long as if there were one, and fails */
    struct ht_slice name, password;
    /* What is guessed at: addresses are slowed down for each of them alone, and none may have more than
     * AUTH_LOGIN_SCOPE_CHECKS passwords that are being checked. Empty: nothing of the kind. */
    struct ht_slice scope;
};
/* As auth_login_ask(). Nothing but the hash, the name and the password decide whether it is remembered. */
enum auth_login_result auth_login_check(struct auth_login *l, const struct auth_claim *claim,
                                        const struct io_addr *from, struct auth_login_wait *w,
                                        unsigned *wait_s) HT_MUST_USE;
/* Whether it is remembered, without a check. */
bool auth_login_known(struct auth_login *l, const struct auth_claim *claim);
/* Secrets of another kind are guessed at, too. Whether the address has to wait; *wait_s is set then. */
bool auth_login_waits(struct auth_login *l, struct ht_slice scope, const struct io_addr *from, unsigned *wait_s);
/* One of them was wrong, which counts like a wrong password. */
void auth_login_failed(struct auth_login *l, struct ht_slice scope, const struct io_addr *from);

/* "Basic" with NAME:PASSWORD (RFC 7617), decoded into `out`, where the slices point. False: it is none, or too long. */
#define AUTH_BASIC_MAX (AUTH_USER_MAX + AUTH_PASSWORD_MAX + 4)
bool auth_basic_read(struct ht_slice value, char out[AUTH_BASIC_MAX], struct ht_slice *name, struct ht_slice *password);

void auth_login_cancel(struct auth_login_wait *w);

#endif
