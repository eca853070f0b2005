/*
 * Which values are secrets, and what is shown in their place. The scheme of credentials and the names of cookies stay
 * readable: "Bearer ••••", "session=••••; theme=••••". Pure.
 */
#ifndef HT_INSPECT_MASK_H
#define HT_INSPECT_MASK_H

#include "base/base.h"
#include "base/buf.h"

#define INSPECT_DOTS "\xe2\x80\xa2\xe2\x80\xa2\xe2\x80\xa2\xe2\x80\xa2"

struct inspect_secrets {
    char **names; /* further names of header fields, in lower case */
    size_t n;
};

/* Copies the names. 0 or HT_ENOMEM. */
int inspect_secrets_init(struct inspect_secrets *s, const char *const *names, size_t n) HT_MUST_USE;
void inspect_secrets_free(struct inspect_secrets *s);

/*
 * True for Authorization, Proxy-Authorization, Cookie, Set-Cookie, the further names, and names that contain token,
 * secret, api-key or signature. `s` may be NULL: no further names.
 */
bool inspect_is_secret(const struct inspect_secrets *s, struct ht_slice name);
/* The same for a member of a JSON object, a field of a form, and a parameter of a query; these also know password,
 * passwd, and api_key and apikey for api-key. */
bool inspect_is_secret_member(const struct inspect_secrets *s, struct ht_slice name);

/* These append to *out, and return 0 or HT_ENOMEM. */

/* The value of a field that is secret, masked. */
int inspect_mask_value(struct ht_slice name, struct ht_slice value, struct ht_buf *out) HT_MUST_USE;
/* A request's target; values of secret parameters of its query are masked, and the password of its authority. */
int inspect_mask_target(const struct inspect_secrets *s, struct ht_slice target, struct ht_buf *out) HT_MUST_USE;
/*
 * A body that is exported or copied. JSON (complete or cut) and forms of both kinds lose the values of their secret
 * members; then in a body of any type each of the n_known texts, such as the exchange's own bearer token, is masked
 * where it appears. Texts of less than INSPECT_KNOWN_MIN bytes are ignored. `type` is the Content-Type; it may be
 * empty.
 */
#define INSPECT_KNOWN_MIN 6
int inspect_mask_body(const struct inspect_secrets *s, struct ht_slice type, struct ht_slice body,
                      const struct ht_slice *known, size_t n_known, struct ht_buf *out) HT_MUST_USE;
/* The secret parts of a secret field's value, for `known`: the credentials, each cookie's value. Returns their number,
 * at most `max`. They point into `value`. */
size_t inspect_secret_parts(struct ht_slice name, struct ht_slice value, struct ht_slice *parts, size_t max);

#endif
