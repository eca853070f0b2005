/*
 * JSON Web Tokens (RFC 7515, RFC 7519) in compact form. The group says which algorithm: a token of another one is
 * refused before a key is used. The signature is checked first, and what is in the token is read by the strict JSON
 * reader only then. A token has `exp`. One with `aud` is for somebody: it is refused unless the claims name `aud`.
 */
#ifndef HT_EDGE_JWT_H
#define HT_EDGE_JWT_H

#include "base/base.h"
#include "base/err.h"

#define JWT_MAX 8192      /* most bytes of a token */
#define JWT_SKEW_S 5      /* how far the clock of who made it may be off */
#define JWT_RSA_BITS 2048 /* the least that a key for RS256 has */
#define JWT_CLAIMS_MAX 16 /* that a rule asks for */
#define JWT_WANTED_MAX 16 /* values of a claim that will do */

enum jwt_algorithm { JWT_HS256, JWT_HS384, JWT_HS512, JWT_RS256, JWT_ES256, JWT_ALGORITHMS };

/* False: there is no such algorithm here. */
bool jwt_algorithm_read(struct ht_slice name, enum jwt_algorithm *out);

/* The names of the algorithms, for messages. */
#define JWT_NAMES "HS256, HS384, HS512, RS256 or ES256"

enum jwt_value_type { JWT_TEXT, JWT_NUMBER, JWT_BOOL };

struct jwt_value {
    enum jwt_value_type type;
    struct ht_slice text;
    uint64_t number; /* of a boolean, too */
};

/* The token has the claim, and one of the values is it, or in it when it is an array. */
struct jwt_claim {
    struct ht_slice name;
    const struct jwt_value *values;
    size_t n;
};

struct jwt_key;

/*
 * Makes a key. For HS*, `text` is the secret itself, at least as long as its hash (RFC 7518 3.2). For the others it is
 * a public key in PEM. NULL: *err says why, and never holds the key; HT_EINVAL or HT_ENOMEM in *rc.
 */
struct jwt_key *jwt_key_create(enum jwt_algorithm algorithm, struct ht_slice text, int *rc,
                               struct ht_errmsg *err) HT_MUST_USE;
/* Wipes and frees. Clears the pointer. NULL is ignored. */
void jwt_key_destroy(struct jwt_key **k);

enum jwt_result {
    JWT_GOOD,
    JWT_MALFORMED, /* no token, or one that is not strictly as the RFCs say */
    JWT_ALGORITHM, /* of another algorithm */
    JWT_CRITICAL,  /* it wants something that is not known here (crit) */
    JWT_SIGNATURE,
    JWT_NO_EXPIRY, /* no exp, or one that is no whole number of seconds */
    JWT_EXPIRED,
    JWT_EARLY,    /* nbf is in the future, or no whole number of seconds */
    JWT_AUDIENCE, /* it is for somebody else */
    JWT_CLAIM,    /* a claim is missing, or has another value */
};
/* One word, for the log. Static storage. */
const char *jwt_result_word(enum jwt_result result);

/* Checks a token. `now_s` is the wall clock, in seconds since 1970. */
enum jwt_result jwt_check(const struct jwt_key *k, const struct jwt_claim *claims, size_t n_claims,
                          struct ht_slice token, uint64_t now_s) HT_MUST_USE;

#endif
