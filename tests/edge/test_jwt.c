/* Tokens: each of the algorithms, and every way in which one is not what it says. Real keys, made here. */
#include "edge/jwt.h"

#include "base/mem.h"
#include "support/base64url.h"
#include "support/tap.h"

#include <openssl/ec.h>
#include <openssl/ecdsa.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <openssl/pem.h>
#include <openssl/rsa.h>
#include <stdio.h>
#include <stdlib.h>

#define NOW UINT64_C(2000000000)
#define SECRET "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"

static EVP_PKEY *rsa, *ec;
static char rsa_pem[1024], ec_pem[512];

static void pem_of(EVP_PKEY *key, char *out, size_t cap) {
    BIO *bio = BIO_new(BIO_s_mem());
    if (PEM_write_bio_PUBKEY(bio, key) != 1)
        abort();
    int n = BIO_read(bio, out, (int)cap - 1);
    out[n > 0 ? n : 0] = '\0';
    BIO_free(bio);
}

static size_t sign_public(EVP_PKEY *key, const char *text, size_t n, uint8_t *out, size_t cap) {
    EVP_MD_CTX *ctx = EVP_MD_CTX_new();
    size_t len = cap;
    CU_ASSERT_FATAL(EVP_DigestSignInit(ctx, NULL, EVP_sha256(), NULL, key) == 1 &&
                    EVP_DigestSign(ctx, out, &len, (const uint8_t *)text, n) == 1);
    EVP_MD_CTX_free(ctx);
    if (key != ec)
        return len;
    const uint8_t *at = out;
    ECDSA_SIG *sig = d2i_ECDSA_SIG(NULL, &at, (long)len);
    uint8_t raw[64];
    BN_bn2binpad(ECDSA_SIG_get0_r(sig), raw, 32);
    BN_bn2binpad(ECDSA_SIG_get0_s(sig), raw + 32, 32);
    ECDSA_SIG_free(sig);
    memcpy(out, raw, sizeof raw);
    return sizeof raw;
}

/* A token with a right signature of `key`: NULL: by HMAC with `secret`. */
static struct ht_slice token(char out[JWT_MAX + 100], const char *header, const char *payload, EVP_PKEY *key,
                             const EVP_MD *md, const char *secret) {
    uint8_t sign[512];
    unsigned len = sizeof sign;
    size_t n = put64(out, header, strlen(header));
    out[n++] = '.';
    n += put64(out + n, payload, strlen(payload));
    if (key)
        len = (unsigned)sign_public(key, out, n, sign, sizeof sign);
    else
        HMAC(md, secret, (int)strlen(secret), (const uint8_t *)out, n, sign, &len);
    out[n++] = '.';
    n += put64(out + n, sign, len);
    return ht_slice_of(out, n);
}

static struct jwt_key *key_of(enum jwt_algorithm a, const char *text) {
    struct ht_errmsg e = {""};
    int rc;
    struct jwt_key *k = jwt_key_create(a, ht_slice_str(text), &rc, &e);
    if (!k)
        printf("# %s\n", e.text);
    CU_ASSERT_PTR_NOT_NULL_FATAL(k);
    return k;
}

static void expect(enum jwt_result got, enum jwt_result want, const char *what) {
    if (got != want)
        printf("# %s: %s and not %s\n", what, jwt_result_word(got), jwt_result_word(want));
    CU_ASSERT_EQUAL(got, want);
}

#define GOOD_PAYLOAD "{\"exp\":2000000100}"

static void algorithms(void) {
    static char out[JWT_MAX + 100];
    const struct {
        enum jwt_algorithm a;
        const char *name, *key;
        EVP_PKEY *pair;
        const EVP_MD *md;
    } rows[] = {{JWT_HS256, "HS256", SECRET, NULL, EVP_sha256()},
                {JWT_HS384, "HS384", SECRET, NULL, EVP_sha384()},
                {JWT_HS512, "HS512", SECRET, NULL, EVP_sha512()},
                {JWT_RS256, "RS256", rsa_pem, rsa, NULL},
                {JWT_ES256, "ES256", ec_pem, ec, NULL}};
    for (size_t i = 0; i < HT_ARRAY_LEN(rows); i++) {
        struct jwt_key *k = key_of(rows[i].a, rows[i].key);
        enum jwt_algorithm a;
        char header[80];
        CU_ASSERT(jwt_algorithm_read(ht_slice_str(rows[i].name), &a) && a == rows[i].a);
        snprintf(header, sizeof header, "{\"typ\":\"JWT\",\"alg\":\"%s\",\"kid\":\"x\"}", rows[i].name);
        struct ht_slice t = token(out, header, GOOD_PAYLOAD, rows[i].pair, rows[i].md, SECRET);
        expect(jwt_check(k, NULL, 0, t, NOW), JWT_GOOD, rows[i].name);
        /* Each byte counts, and each piece of it is none. */
        for (size_t n = 0; n < t.n; n++) {
            char was = out[n];
            out[n] = was == 'A' ? 'B' : 'A';
            if (out[n] != was)
                CU_ASSERT_NOT_EQUAL(jwt_check(k, NULL, 0, t, NOW), JWT_GOOD);
            out[n] = was;
            char *piece = malloc(n ? n : 1);
            memcpy(piece, out, n);
            CU_ASSERT_NOT_EQUAL(jwt_check(k, NULL, 0, ht_slice_of(piece, n), NOW), JWT_GOOD);
            free(piece);
        }
        /* With the header of any other one, and of none. */
        static const char *const others[] = {"none",  "None",   "NONE",  "nOnE",  "",
                                             "hs256", "HS256 ", "RS512", "PS256", "EdDSA"};
        for (size_t n = 0; n < HT_ARRAY_LEN(others) + HT_ARRAY_LEN(rows); n++) {
            const char *name = n < HT_ARRAY_LEN(others) ? others[n] : rows[n - HT_ARRAY_LEN(others)].name;
            if (strcmp(name, rows[i].name) == 0)
                continue;
            snprintf(header, sizeof header, "{\"alg\":\"%s\"}", name);
            t = token(out, header, GOOD_PAYLOAD, rows[i].pair, rows[i].md, SECRET);
            expect(jwt_check(k, NULL, 0, t, NOW), JWT_ALGORITHM, name);
        }
        jwt_key_destroy(&k);
    }
    enum jwt_algorithm a;
    CU_ASSERT_FALSE(jwt_algorithm_read(ht_slice_str("none"), &a) || jwt_algorithm_read(ht_slice_str("hs256"), &a));
}

/* The public key is public: who signs with it as if it were a secret gets nowhere. */
static void keys_are_not_confused(void) {
    static char out[JWT_MAX + 100];
    struct jwt_key *k = key_of(JWT_RS256, rsa_pem);
    struct ht_errmsg e;
    int rc;
    struct ht_slice t = token(out, "{\"alg\":\"HS256\"}", GOOD_PAYLOAD, NULL, EVP_sha256(), rsa_pem);
    expect(jwt_check(k, NULL, 0, t, NOW), JWT_ALGORITHM, "HS256 with the public key");
    t = token(out, "{\"alg\":\"RS256\"}", GOOD_PAYLOAD, NULL, EVP_sha256(), rsa_pem);
    expect(jwt_check(k, NULL, 0, t, NOW), JWT_SIGNATURE, "RS256 by HMAC with the public key");
    jwt_key_destroy(&k);
    const struct {
        enum jwt_algorithm a;
        const char *text, *says;
    } rows[] = {
        {JWT_HS256, rsa_pem, "whoever has the public key"},
        {JWT_HS256, "0123456789abcdef0123456789abcde", "at least 32 bytes"},
        {JWT_HS384, "0123456789abcdef0123456789abcdef0123456789abcde", "at least 48 bytes"},
        {JWT_HS512, "0123456789abcdef0123456789abcdef", "at least 64 bytes"},
        {JWT_RS256, SECRET, "no public key in PEM"},
        {JWT_RS256, "", "no public key in PEM"},
        {JWT_RS256, ec_pem, "of an RSA pair"},
        {JWT_ES256, rsa_pem, "of the curve P-256"},
    };
    for (size_t i = 0; i < HT_ARRAY_LEN(rows); i++) {
        CU_ASSERT_PTR_NULL(jwt_key_create(rows[i].a, ht_slice_str(rows[i].text), &rc, &e));
        CU_ASSERT(rc == HT_EINVAL && strstr(e.text, rows[i].says) && !strstr(e.text, "0123456789"));
    }
    EVP_PKEY *weak = EVP_RSA_gen(1024), *other = EVP_EC_gen("P-384");
    char pem[1024];
    pem_of(weak, pem, sizeof pem);
    CU_ASSERT(!jwt_key_create(JWT_RS256, ht_slice_str(pem), &rc, &e) && strstr(e.text, "2048 bits"));
    pem_of(other, pem, sizeof pem);
    CU_ASSERT(!jwt_key_create(JWT_ES256, ht_slice_str(pem), &rc, &e) && strstr(e.text, "P-256"));
    EVP_PKEY_free(weak);
    EVP_PKEY_free(other);
}

/* What is signed with the right key, and still no token for us. */
static void payloads(void) {
    static const struct jwt_value web = {JWT_TEXT, {"web", 3}, 0},
                                  roles[] = {{JWT_TEXT, {"admin", 5}, 0}, {JWT_NUMBER, {NULL, 0}, 7}},
                                  yes = {JWT_BOOL, {NULL, 0}, 1};
    static const struct jwt_claim aud = {{"aud", 3}, &web, 1}, role = {{"role", 4}, roles, 2},
                                  both[] = {{{"aud", 3}, &web, 1}, {{"ok", 2}, &yes, 1}};
    static const struct {
        const char *payload;
        const struct jwt_claim *claims;
        size_t n;
        enum jwt_result want;
    } rows[] = {
        {"{}", NULL, 0, JWT_NO_EXPIRY},
        {"{\"exp\":\"2000000100\"}", NULL, 0, JWT_NO_EXPIRY},
        {"{\"exp\":2000000100.5}", NULL, 0, JWT_NO_EXPIRY},
        {"{\"exp\":2e9}", NULL, 0, JWT_NO_EXPIRY},
        {"{\"exp\":-1}", NULL, 0, JWT_NO_EXPIRY},
        {"{\"exp\":null}", NULL, 0, JWT_NO_EXPIRY},
        {"{\"exp\":[2000000100]}", NULL, 0, JWT_NO_EXPIRY},
        {"{\"exp\":18446744073709551616}", NULL, 0, JWT_NO_EXPIRY},
        {"{\"EXP\":2000000100}", NULL, 0, JWT_NO_EXPIRY},
        {"{\"exp\":18446744073709551615}", NULL, 0, JWT_GOOD},
        {"{\"exp\":0}", NULL, 0, JWT_EXPIRED},
        {"{\"exp\":1999999995}", NULL, 0, JWT_EXPIRED},
        {"{\"exp\":1999999996}", NULL, 0, JWT_GOOD}, /* clocks differ a little */
        {"{\"exp\":2000000100,\"exp\":1}", NULL, 0, JWT_MALFORMED},
        {"{\"exp\":1,\"\\u0065xp\":2000000100}", NULL, 0, JWT_MALFORMED},
        {"{\"exp\":2000000100,}", NULL, 0, JWT_MALFORMED},
        {"{\"exp\":2000000100} x", NULL, 0, JWT_MALFORMED},
        {"{\"exp\":02000000100}", NULL, 0, JWT_MALFORMED},
        {"[2000000100]", NULL, 0, JWT_MALFORMED},
        {"{\"exp\":2000000100,\"a\":\"\xff\"}", NULL, 0, JWT_MALFORMED},
        {"{\"exp\":2000000100,\"nbf\":2000000005}", NULL, 0, JWT_GOOD},
        {"{\"exp\":2000000100,\"nbf\":2000000006}", NULL, 0, JWT_EARLY},
        {"{\"exp\":2000000100,\"nbf\":\"1\"}", NULL, 0, JWT_EARLY},
        {"{\"exp\":2000000100,\"nbf\":1.5}", NULL, 0, JWT_EARLY},
        {"{\"exp\":2000000100,\"aud\":\"web\"}", NULL, 0, JWT_AUDIENCE}, /* for somebody, and nobody says for us */
        {"{\"exp\":2000000100,\"aud\":\"web\"}", &aud, 1, JWT_GOOD},
        {"{\"exp\":2000000100,\"aud\":[\"a\",\"web\"]}", &aud, 1, JWT_GOOD},
        {"{\"exp\":2000000100,\"aud\":[\"a\",[\"web\"]]}", &aud, 1, JWT_AUDIENCE},
        {"{\"exp\":2000000100,\"aud\":\"web2\"}", &aud, 1, JWT_AUDIENCE},
        {"{\"exp\":2000000100,\"aud\":\"WEB\"}", &aud, 1, JWT_AUDIENCE},
        {"{\"exp\":2000000100,\"aud\":[]}", &aud, 1, JWT_AUDIENCE},
        {"{\"exp\":2000000100,\"aud\":{\"web\":1}}", &aud, 1, JWT_AUDIENCE},
        {"{\"exp\":2000000100}", &aud, 1, JWT_AUDIENCE},
        {"{\"exp\":2000000100,\"role\":\"admin\"}", &role, 1, JWT_GOOD},
        {"{\"exp\":2000000100,\"role\":7}", &role, 1, JWT_GOOD},
        {"{\"exp\":2000000100,\"role\":\"7\"}", &role, 1, JWT_CLAIM},
        {"{\"exp\":2000000100,\"role\":7.0}", &role, 1, JWT_CLAIM},
        {"{\"exp\":2000000100,\"role\":true}", &role, 1, JWT_CLAIM},
        {"{\"exp\":2000000100,\"role\":null}", &role, 1, JWT_CLAIM},
        {"{\"exp\":2000000100,\"role\":\"administrator\"}", &role, 1, JWT_CLAIM},
        {"{\"exp\":2000000100,\"x\":{\"role\":\"admin\"}}", &role, 1, JWT_CLAIM},
        {"{\"exp\":2000000100,\"role\":[\"user\",\"admin\"]}", &role, 1, JWT_GOOD},
        {"{\"exp\":2000000100,\"role\":\"admin\",\"aud\":\"web\"}", &role, 1, JWT_AUDIENCE},
        {"{\"exp\":2000000100,\"ok\":true,\"aud\":\"web\"}", both, 2, JWT_GOOD},
        {"{\"exp\":2000000100,\"ok\":1,\"aud\":\"web\"}", both, 2, JWT_CLAIM},
        {"{\"exp\":2000000100,\"ok\":\"true\",\"aud\":\"web\"}", both, 2, JWT_CLAIM},
    };
    static char out[JWT_MAX + 100];
    struct jwt_key *k = key_of(JWT_HS256, SECRET);
    for (size_t i = 0; i < HT_ARRAY_LEN(rows); i++) {
        struct ht_slice t = token(out, "{\"alg\":\"HS256\"}", rows[i].payload, NULL, EVP_sha256(), SECRET);
        expect(jwt_check(k, rows[i].claims, rows[i].n, t, NOW), rows[i].want, rows[i].payload);
    }
    jwt_key_destroy(&k);
}

static void forms(void) {
    static const struct {
        const char *header;
        enum jwt_result want;
    } headers[] = {
        {"{\"alg\":\"HS256\",\"crit\":[\"b64\"],\"b64\":false}", JWT_CRITICAL},
        {"{\"alg\":\"HS256\",\"crit\":[]}", JWT_CRITICAL},
        {"{\"alg\":\"none\",\"alg\":\"HS256\"}", JWT_MALFORMED},
        {"{\"alg\":[\"HS256\"]}", JWT_MALFORMED},
        {"{}", JWT_ALGORITHM},
        {"[]", JWT_MALFORMED},
        {"{\"alg\":\"HS256\"", JWT_MALFORMED},
        {"{\"alg\":\"HS256\"}{}", JWT_MALFORMED},
        {"{\"alg\":\"HS256\\u0000\"}", JWT_MALFORMED},
        {"{\"\\u0061lg\":\"HS256\"}", JWT_GOOD},
        {"{\"alg\":\"HS256\",\"jwk\":{\"kty\":\"oct\",\"k\":\"AA\"},\"jku\":\"http://evil.test\"}", JWT_GOOD},
    };
    static char out[JWT_MAX + 100], other[2 * JWT_MAX];
    struct jwt_key *k = key_of(JWT_HS256, SECRET);
    for (size_t i = 0; i < HT_ARRAY_LEN(headers); i++) {
        struct ht_slice t = token(out, headers[i].header, GOOD_PAYLOAD, NULL, EVP_sha256(), SECRET);
        expect(jwt_check(k, NULL, 0, t, NOW), headers[i].want, headers[i].header);
    }
    struct ht_slice t = token(out, "{\"alg\":\"HS256\"}", GOOD_PAYLOAD, NULL, EVP_sha256(), SECRET);
    static const char *const around[] = {"%s=", "%s==", "%s.", "%s.x", ".%s", " %s", "%s ", "%s\n", "x%s", "%s%%"};
    for (size_t i = 0; i < HT_ARRAY_LEN(around); i++) {
        char text[512];
        snprintf(text, sizeof text, "%.*s", HT_SLICE_ARG(t));
        snprintf(other, sizeof other, around[i], text);
        CU_ASSERT_NOT_EQUAL(jwt_check(k, NULL, 0, ht_slice_str(other), NOW), JWT_GOOD);
    }
    /* Unused bits of the last character are no second way to write a token. */
    snprintf(other, sizeof other, "%.*s", HT_SLICE_ARG(t));
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    size_t at = (size_t)(strchr(digits, other[t.n - 1]) - digits);
    CU_ASSERT_EQUAL(at % 4, 0); /* 32 bytes leave two bits */
    other[t.n - 1] = digits[at + 1];
    expect(jwt_check(k, NULL, 0, ht_slice_str(other), NOW), JWT_MALFORMED, "unused bits");
    /* Without a signature, without anything. */
    static const char *const none[] = {"", ".", "..", "...", "a.b.c", "e30.e30.", "eyJhbGciOiJub25lIn0.e30."};
    for (size_t i = 0; i < HT_ARRAY_LEN(none); i++)
        CU_ASSERT_NOT_EQUAL(jwt_check(k, NULL, 0, ht_slice_str(none[i]), NOW), JWT_GOOD);
    char *dot = strrchr(other, '.');
    dot[1] = '\0';
    CU_ASSERT_NOT_EQUAL(jwt_check(k, NULL, 0, ht_slice_str(other), NOW), JWT_GOOD);
    memset(other, 'a', sizeof other);
    expect(jwt_check(k, NULL, 0, ht_slice_of(other, JWT_MAX + 1), NOW), JWT_MALFORMED, "too long");
    other[4000] = other[4001] = '.';
    CU_ASSERT_NOT_EQUAL(jwt_check(k, NULL, 0, ht_slice_of(other, JWT_MAX), NOW), JWT_GOOD);
    jwt_key_destroy(&k);
}

static void signatures_of_a_curve(void) {
    static char out[JWT_MAX + 100];
    static const struct {
        unsigned char fill;
        size_t n;
    } bad[] = {{0, 64}, {0xff, 64}, {1, 63}, {1, 65}, {1, 1}, {1, 72}};
    struct jwt_key *k = key_of(JWT_ES256, ec_pem);
    for (size_t i = 0; i < HT_ARRAY_LEN(bad); i++) {
        struct ht_slice t = token(out, "{\"alg\":\"ES256\"}", GOOD_PAYLOAD, ec, NULL, NULL);
        uint8_t sign[80];
        char *last = memrchr(t.p, '.', t.n);
        memset(sign, bad[i].fill, sizeof sign);
        t.n = (size_t)(last + 1 - out) + put64(last + 1, sign, bad[i].n);
        expect(jwt_check(k, NULL, 0, t, NOW), JWT_SIGNATURE, "a made up signature");
    }
    jwt_key_destroy(&k);
}

static void no_memory(void) {
    struct ht_errmsg e;
    int rc;
    ht_mem_fail_at(0);
    CU_ASSERT(!jwt_key_create(JWT_HS256, ht_slice_str(SECRET), &rc, &e) && rc == HT_ENOMEM);
    ht_mem_fail_at(-1);
    CU_ASSERT_EQUAL(ht_mem_live(), 0);
}

static const struct tap_test tests[] = {
    {"each algorithm takes its own tokens alone: none, others and changed bytes are refused", algorithms},
    {"a public key is no secret, and keys that are too weak or of another kind are refused", keys_are_not_confused},
    {"what a token says: exp, nbf, aud, claims, strictly", payloads},
    {"what a token looks like: headers, padding, pieces, length", forms},
    {"signatures of ES256 are two numbers and nothing else", signatures_of_a_curve},
    {"without memory there is no key", no_memory},
    {NULL, NULL},
};

int main(void) {
    rsa = EVP_RSA_gen(2048);
    ec = EVP_EC_gen("P-256");
    pem_of(rsa, rsa_pem, sizeof rsa_pem);
    pem_of(ec, ec_pem, sizeof ec_pem);
    int rc = tap_main("edge, JWT", tests);
    EVP_PKEY_free(rsa);
    EVP_PKEY_free(ec);
    return rc;
}
