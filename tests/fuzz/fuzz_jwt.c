/*
 * Tokens: any bytes are checked without a step too far; nobody gets in without the secret; and with a right signature
 * around any header and claims, only those that are strictly a token of this algorithm, with an exp, for us.
 *
 * Input: a token, a NUL, a header, a NUL, claims; the latter two are signed here.
 */
#include "edge/jwt.h"
#include "fuzz.h"
#include "support/base64url.h"
#include "json/json.h"

#include <openssl/evp.h>
#include <openssl/hmac.h>

#define SECRET "0123456789abcdef0123456789abcdef"
#define NOW 2000000000u

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static struct jwt_key *key;
    static const struct jwt_value web = {JWT_TEXT, {"web", 3}, 0};
    static const struct jwt_claim claims[] = {{{"aud", 3}, &web, 1}};
    static char token[4 * JWT_MAX];
    const uint8_t *end = data + size, *nul = size ? memchr(data, '\0', size) : NULL;
    struct ht_errmsg err;
    int rc;
    if (!key && !(key = jwt_key_create(JWT_HS256, ht_slice_str(SECRET), &rc, &err)))
        abort();
    const uint8_t *header = nul ? nul + 1 : end;
    nul = header < end ? memchr(header, '\0', (size_t)(end - header)) : NULL;
    const uint8_t *payload = nul ? nul + 1 : end;
    size_t n = (size_t)(header - data) - (header > data && header[-1] == '\0' ? 1 : 0);
    size_t n_header = nul ? (size_t)(nul - header) : (size_t)(end - header), n_payload = (size_t)(end - payload);
    char *copy = fuzz_copy(data, n);
    FUZZ_CHECK(jwt_check(key, claims, 1, ht_slice_of(copy, n), NOW) != JWT_GOOD);
    free(copy);
    if (n_header + n_payload > 2 * JWT_MAX)
        return 0;
    size_t len = put64(token, header, n_header);
    token[len++] = '.';
    len += put64(token + len, payload, n_payload);
    uint8_t sign[EVP_MAX_MD_SIZE];
    unsigned n_sign = sizeof sign;
    if (!HMAC(EVP_sha256(), SECRET, sizeof SECRET - 1, (const uint8_t *)token, len, sign, &n_sign))
        return 0;
    token[len++] = '.';
    len += put64(token + len, sign, n_sign);
    enum jwt_result result = jwt_check(key, claims, 1, ht_slice_of(token, len), NOW);
    FUZZ_CHECK(result == jwt_check(key, claims, 1, ht_slice_of(token, len), NOW) && result != JWT_SIGNATURE);
    FUZZ_CHECK(result != JWT_GOOD || (json_validate((const char *)header, n_header, NULL, NULL) == 0 &&
                                      json_validate((const char *)payload, n_payload, NULL, NULL) == 0 &&
                                      memmem(payload, n_payload, "exp", 3) != NULL));
    return 0;
}
