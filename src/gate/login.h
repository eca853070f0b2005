/*
 * Logins with HTTP's Basic scheme (RFC 7617). A password that fits is remembered for GATE_LOGIN_GOOD_MS by a keyed hash
 * of name and password, so that not each request costs what a password hash costs. Hashes are computed on threads.
 *
 * An address whose logins have failed GATE_LOGIN_FREE times waits after each further one: a second, then twice as long
 * each time, up to a minute. Meanwhile its logins are not looked at, but those that are remembered pass.
 */
#ifndef HT_GATE_LOGIN_H
#define HT_GATE_LOGIN_H

#include "base/base.h"
#include "base/err.h"
#include "base/list.h"
#include "gate/passwords.h"
#include "io/io.h"

#define GATE_LOGIN_GOOD_MS 300000u /* how long a login is remembered */
#define GATE_LOGIN_REMEMBERED 256  /* logins, at most */
#define GATE_LOGIN_FREE 5u         /* logins of an address that may fail before it is slowed down */
#define GATE_LOGIN_WAIT_MAX_MS 60000u
#define GATE_LOGIN_FORGET_MS 600000u /* without a failure, an address begins anew */
#define GATE_LOGIN_ADDRESSES 1024    /* that are known to have failed, at most */
#define GATE_LOGIN_CHECKS 32         /* passwords that are being checked or wait for it, at most */

enum gate_login_result {
    GATE_LOGIN_GOOD,
    GATE_LOGIN_BAD,   /* none, or a wrong one */
    GATE_LOGIN_SLOW,  /* the address has to wait */
    GATE_LOGIN_BUSY,  /* too many are being checked */
    GATE_LOGIN_ASKED, /* done() follows */
};

struct gate_login;

/* A request that waits; a member of its owner's structure. */
struct gate_login_wait {
    struct ht_list node;
    void (*done)(struct gate_login_wait *w, enum gate_login_result result);
};

/* Takes the passwords over. NULL: out of memory; the caller keeps them. */
struct gate_login *gate_login_create(struct io_loop *loop, struct gate_passwords *p) HT_MUST_USE;
/* Nobody may wait any more. Clears the pointer. NULL is ignored. */
void gate_login_destroy(struct gate_login **l);
/* Replaces the passwords, and takes them over: nothing is remembered of the old ones. */
void gate_login_set(struct gate_login *l, struct gate_passwords *p);
/* Checks the value of Authorization. `from` is the visitor's address; NULL: not known. With GATE_LOGIN_SLOW *wait_s is
 * set.
 */
enum gate_login_result gate_login_ask(struct gate_login *l, struct ht_slice authorization, const struct io_addr *from,
                                      struct gate_login_wait *w, unsigned *wait_s) HT_MUST_USE;
void gate_login_cancel(struct gate_login_wait *w);

#endif
