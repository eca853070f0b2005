/*
 * Who may reach what of a container: a document of permissions, and what it says of a request. Pure, but for memory.
 *
 *   {
 *     "default": "deny",
 *     "groups": {
 *       "office": {"type": "ip", "range": "203.0.113.0/24"},
 *       "ci":     {"type": "token", "value": "at least 16 bytes", "header": "X-Key"},
 *       "team":   {"type": "password", "username": "ann", "password": "$y$...", "max_age": 43200, "idle": 7200},
 *       "app":    {"type": "jwt", "algorithm": "ES256", "secret": "-----BEGIN PUBLIC KEY-----...",
 *                  "sources": [{"header": "Authorization"}, {"cookie": "session"}], "claims": {"aud": "web"}}
 *     },
 *     "permissions": {"office": {"terminal": true, "http": [3000, "8000-8100"]}, "team": {"*": true, "exec": false}}
 *   }
 *
 * One group that a visitor belongs to and that may is enough. Else he may not when a group of his is told `false`, or
 * when the default is not "allow"; a document without a default means "deny". `*` stands for the programs that a group
 * says nothing else about. The numbers are those in the host: the port of http-3000, the 2 of terminal-2. Who may visit
 * http-76 must be allowed to visit the terminal, too, whose port that is.
 */
#ifndef HT_EDGE_POLICY_H
#define HT_EDGE_POLICY_H

#include "auth/login.h"
#include "base/base.h"
#include "base/buf.h"
#include "base/err.h"

#define POLICY_DOC_MAX 262144u /* bytes of a document */
#define POLICY_GROUPS_MAX 64
#define POLICY_NAME_MAX 40      /* bytes of a group's name: letters, digits, - and _ */
#define POLICY_TOKEN_MIN 16     /* bytes of a token's value: fewer can be guessed */
#define POLICY_SOURCES_MAX 8    /* of a group */
#define POLICY_AGE_MIN 60u      /* seconds that a login on a page can hold: from a minute */
#define POLICY_AGE_MAX 2592000u /* to 30 days */
#define POLICY_FIELDS_MAX 128   /* header fields of a request */

struct edge_policy;

/* Reads a document; `text` is borrowed during the call. NULL: *rc is HT_ENOMEM, or HT_EINVAL, and *err names the
 * member and what would be right; it never holds a secret. */
struct edge_policy *edge_policy_create(struct ht_slice text, int *rc, struct ht_errmsg *err) HT_MUST_USE;
/* One more who uses it; returns it. */
struct edge_policy *edge_policy_keep(struct edge_policy *p);
/* One less; the last one wipes and frees it. Clears the pointer. NULL is ignored. */
void edge_policy_destroy(struct edge_policy **p);
/* False: every request may pass as it is, and nobody need be asked. */
bool edge_policy_asks(const struct edge_policy *p);
/* Whether it was made of this text. */
bool edge_policy_is_of(const struct edge_policy *p, struct ht_slice text);
/* A number that no other policy has: who was let in by an older one is not by this one. */
uint64_t edge_policy_serial(const struct edge_policy *p);
/* `enable_proxy` is not false. */
bool edge_policy_enabled(const struct edge_policy *p);

/* The programs that the document names, from 0 on; .p is NULL behind the last. */
struct ht_slice edge_policy_program(const struct edge_policy *p, size_t i);

/* A request, as HAProxy describes it. */
struct edge_visit {
    struct ht_slice program; /* in lower case, such as terminal */
    unsigned index;          /* the number behind it */
    struct ht_slice also;    /* of http and https: another program whose port the number is; "": none. Both must be
                              * allowed, or it would be a way around what is said of that program */
    int family;              /* of the visitor's address: 4 or 6; 0: not known */
    uint8_t addr[16];
    struct ht_slice target; /* path and query */
    struct ht_slice heads;  /* header fields, a line each */
    struct ht_slice login;  /* the group of passwords that the visitor has logged in to on a page; "": none */
};

/* The value of the cookie by which a visitor is known who has logged in on a page (edge/tickets.h). False: the request
 * has none, or two. */
bool edge_policy_ticket(const struct edge_policy *p, const struct edge_visit *v, struct ht_slice *ticket);

/* Who would read a refusal, by what a browser says of its requests: Accept, and Sec-Fetch-Mode. */
enum edge_reader {
    EDGE_READER_PROGRAM,
    EDGE_READER_PERSON, /* it would be shown as a page */
    EDGE_READER_PAGE,   /* a part of a page */
};
enum edge_reader edge_policy_reader(const struct edge_visit *v);

enum edge_verdict {
    EDGE_ALLOW,
    EDGE_DENY,
    EDGE_LOGIN,    /* not without a login, by `challenge` */
    EDGE_PASSWORD, /* it depends on `claim` */
};
enum edge_challenge { EDGE_BASIC = 1, EDGE_BEARER = 2 };

struct edge_decision {
    enum edge_verdict verdict;
    const char *why;       /* a word for the log; static storage */
    struct ht_slice group; /* that has decided; "" for none. Valid as long as the policy */
    unsigned challenge;    /* of enum edge_challenge: what would help */
    bool failed;           /* a secret that was shown is wrong */
    struct auth_claim claim;
    char basic[AUTH_BASIC_MAX], digest[65]; /* what `claim` points into */
};

/* What the policy says. With EDGE_PASSWORD the caller checks d->claim, and says what came out by edge_policy_login().
 * The caller wipes *d, which must stay where it is. `now_s` is the wall clock. */
void edge_policy_decide(const struct edge_policy *p, const struct edge_visit *v, uint64_t now_s,
                        struct edge_decision *d);
void edge_policy_login(struct edge_decision *d, bool good);
/* The same for a name and a password from a page: d->claim becomes what is to be checked, and d->group whose it is.
 * Both may have AUTH_USER_MAX and AUTH_PASSWORD_MAX bytes. False: no password opens what `v` wants. */
bool edge_policy_claim(const struct edge_policy *p, const struct edge_visit *v, struct ht_slice name,
                       struct ht_slice password, struct edge_decision *d);
/* How long a login on a page holds for a group of passwords, and for how long without a request, in seconds. */
struct edge_login_age {
    unsigned max_age_s, idle_s;
};
struct edge_login_age edge_policy_login_age(const struct edge_policy *p, struct ht_slice group);

/* What must not reach the service: credentials of all of the policy's groups, wherever they may stand. */
struct edge_strip {
    bool authorization; /* the field goes */
    bool has_cookie;    /* Cookie becomes `cookie`; "": it goes */
    bool has_target;    /* path and query become `target` */
    struct ht_buf cookie, target;
    struct ht_buf names; /* other fields that go, with a blank between */
    bool usual;          /* all of those are haproxy_usual, and no field is one of those and stays */
};
/* 0 or HT_ENOMEM. The caller zero-initialises it, and frees it in each case. */
int edge_policy_strip(const struct edge_policy *p, const struct edge_visit *v, struct edge_strip *out) HT_MUST_USE;
void edge_strip_free(struct edge_strip *s);

#endif
