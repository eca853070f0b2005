#include "edge/jwt.h"

#include "base/base64.h"
#include "base/clock.h"
#include "base/mem.h"
#include "json/json.h"

#include <openssl/bn.h>
#include <openssl/ec.h>
#include <openssl/ecdsa.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <openssl/pem.h>

#define BYTES_MAX (JWT_MAX / 4 * 3)
#define JOSE_MAX 1024 /* most bytes of the header */
#define P256 32       /* bytes of a number of ES256 */

struct jwt_key {
    enum jwt_algorithm algorithm;
    EVP_PKEY *public;
    size_t n;
    uint8_t secret[];
};

static const struct {
    const char *name;
    size_t hash; /* bytes; 0: a public key */
} algorithms[JWT_ALGORITHMS] = {{"HS256", 32}, {"HS384", 48}, {"HS512", 64}, {"RS256", 0}, {"ES256", 0}};

bool jwt_algorithm_read(struct ht_slice name, enum jwt_algorithm *out) {
    for (unsigned i = 0; i < JWT_ALGORITHMS; i++)
        if (ht_slice_is(name, algorithms[i].name)) {
            *out = i;
            return true;
        }
    return false;
}

const char *jwt_result_word(enum jwt_result result) {
    static const char *const words[] = {"good",      "malformed", "algorithm", "critical", "signature",
                                        "no-expiry", "expired",   "early",     "audience", "claim"};
    return words[result];
}

/* ---- keys ---- */

static int no_password(char *buf, int size, int rw, void *ctx) {
    (void)buf;
    (void)size;
    (void)rw;
    (void)ctx;
    return -1;
}

static EVP_PKEY *read_public(struct ht_slice text) {
    BIO *bio = BIO_new_mem_buf(text.p, (int)text.n);
    EVP_PKEY *key = bio ? PEM_read_bio_PUBKEY(bio, NULL, no_password, NULL) : NULL;
    BIO_free(bio);
    ERR_clear_error();
    return key;
}

/* Why the key does not fit the algorithm; NULL: it does. */
static const char *key_fault(enum jwt_algorithm algorithm, const EVP_PKEY *key) {
    char curve[32];
    if (!key)
        return "the key is no public key in PEM, which begins with -----BEGIN PUBLIC KEY-----";
    if (algorithm == JWT_RS256)
        return !EVP_PKEY_is_a(key, "RSA")              ? "RS256 needs the public key of an RSA pair"
               : EVP_PKEY_get_bits(key) < JWT_RSA_BITS ? "RS256 needs a key of 2048 bits or more"
                                                       : NULL;
    if (!EVP_PKEY_is_a(key, "EC") || EVP_PKEY_get_group_name(key, curve, sizeof curve, NULL) != 1 ||
        strcmp(curve, "prime256v1") != 0)
        return "ES256 needs the public key of a pair of the curve P-256";
    return NULL;
}

struct jwt_key *jwt_key_create(enum jwt_algorithm algorithm, struct ht_slice text, int *rc, struct ht_errmsg *err) {
    size_t hash = algorithms[algorithm].hash;
    struct jwt_key *k = NULL;
    *rc = HT_EINVAL;
    if (hash && text.n >= 10 && memcmp(text.p, "-----BEGIN", 10) == 0)
        ht_fail(err, HT_EINVAL, "the secret of %s is a key in PEM: whoever has the public key could sign with it",
                algorithms[algorithm].name);
    else if (hash && text.n < hash)
        ht_fail(err, HT_EINVAL, "the secret of %s has at least %zu bytes", algorithms[algorithm].name, hash);
    else if (!(k = ht_calloc(1, sizeof *k + (hash ? text.n : 0))))
        *rc = ht_fail(err, HT_ENOMEM, "out of memory");
    if (!k)
        return NULL;
    k->algorithm = algorithm;
    if (hash)
        memcpy(k->secret, text.p, k->n = text.n);
    else
        k->public = read_public(text);
    const char *fault = hash ? NULL : key_fault(algorithm, k->public);
    if (fault) {
        ht_fail(err, HT_EINVAL, "%s", fault);
        jwt_key_destroy(&k);
        return NULL;
    }
    *rc = HT_OK;
    return k;
}

void jwt_key_destroy(struct jwt_key **kp) {
    struct jwt_key *k = *kp;
    *kp = NULL;
    if (!k)
        return;
    EVP_PKEY_free(k->public);
    explicit_bzero(k->secret, k->n);
    ht_free(k);
}

/* ---- parts of a token ---- */

/* Base64 for URLs without padding (RFC 7515 2), nothing else. The number of bytes, or -1. */
static ssize_t decode(struct ht_slice part, uint8_t *out, size_t cap) {
    char text[JWT_MAX + 4];
    size_t n = part.n;
    if (n == 0 || n > JWT_MAX || n % 4 == 1 || (n + 3) / 4 * 3 > cap)
        return -1;
    for (size_t i = 0; i < n; i++) {
        char c = part.p[i];
        if (c == '+' || c == '/' || c == '=')
            return -1;
        text[i] = c == '-' ? '+' : c == '_' ? '/' : c;
    }
    while (n % 4)
        text[n++] = '=';
    return ht_base64_get(out, text, n);
}

static bool cut(struct ht_slice *rest, struct ht_slice *part) {
    const char *dot = memchr(rest->p, '.', rest->n);
    if (!dot)
        return false;
    *part = ht_slice_of(rest->p, (size_t)(dot - rest->p));
    *rest = ht_slice_of(dot + 1, rest->n - part->n - 1);
    return true;
}

struct reading {
    struct json_reader r;
    struct json_arena arena;
    char text[BYTES_MAX + 1]; /* of the arena */
};

static void begin(struct reading *g, const void *text, size_t n) {
    static const struct json_limits limits = {.max_depth = 16, .max_keys = 128, .refuse_nul = true};
    g->arena = (struct json_arena){.p = g->text, .cap = BYTES_MAX};
    json_begin(&g->r, text, n, &limits);
}

/* {"alg": the algorithm, ...}: `crit` names what must be understood, and nothing is here (RFC 7515 4.1.11). */
static enum jwt_result check_header(struct reading *g, enum jwt_algorithm algorithm, const void *text, size_t n) {
    struct ht_slice key, alg = {NULL, 0};
    bool critical = false;
    int more, rc;
    begin(g, text, n);
    if (json_object_begin(&g->r) < 0)
        return JWT_MALFORMED;
    while ((more = json_object_next(&g->r, &key)) > 0) {
        bool is_alg = ht_slice_is(key, "alg");
        critical |= ht_slice_is(key, "crit");
        rc = is_alg ? json_read_string(&g->r, false, &g->arena, &alg) : json_skip(&g->r);
        if (rc != 0)
            return JWT_MALFORMED;
    }
    if (more < 0 || json_end(&g->r) < 0)
        return JWT_MALFORMED;
    if (!ht_slice_is(alg, algorithms[algorithm].name))
        return JWT_ALGORITHM;
    return critical ? JWT_CRITICAL : JWT_GOOD;
}

/* ---- signatures ---- */

static bool fits_secret(const struct jwt_key *k, struct ht_slice what, const uint8_t *sign, size_t n) {
    const EVP_MD *md = k->algorithm == JWT_HS256   ? EVP_sha256()
                       : k->algorithm == JWT_HS384 ? EVP_sha384()
                                                   : EVP_sha512();
    uint8_t made[EVP_MAX_MD_SIZE];
    unsigned len = sizeof made;
    return HMAC(md, k->secret, (int)k->n, (const uint8_t *)what.p, what.n, made, &len) &&
           ht_const_time_eq(made, len, sign, n);
}

/* The two numbers of an ECDSA signature (RFC 7518 3.4) as OpenSSL wants them. The length, or -1. */
static int to_der(const uint8_t *sign, size_t n, uint8_t **out) {
    ECDSA_SIG *sig = n == 2 * P256 ? ECDSA_SIG_new() : NULL;
    BIGNUM *r = sig ? BN_bin2bn(sign, P256, NULL) : NULL, *s = r ? BN_bin2bn(sign + P256, P256, NULL) : NULL;
    int len = -1;
    if (s && ECDSA_SIG_set0(sig, r, s) == 1) {
        len = i2d_ECDSA_SIG(sig, out);
    } else {
        BN_free(r);
        BN_free(s);
    }
    ECDSA_SIG_free(sig);
    return len;
}

static bool fits_public(const struct jwt_key *k, struct ht_slice what, const uint8_t *sign, size_t n) {
    uint8_t *der = NULL;
    int len = k->algorithm == JWT_ES256 ? to_der(sign, n, &der) : (int)n;
    EVP_MD_CTX *ctx = len > 0 ? EVP_MD_CTX_new() : NULL;
    bool ok = ctx && EVP_DigestVerifyInit(ctx, NULL, EVP_sha256(), NULL, k->public) == 1 &&
              EVP_DigestVerify(ctx, der ? der : sign, (size_t)len, (const uint8_t *)what.p, what.n) == 1;
    EVP_MD_CTX_free(ctx);
    OPENSSL_free(der);
    ERR_clear_error();
    return ok;
}

/* ---- claims ---- */

struct found {
    bool exp, nbf, aud;
    uint64_t exp_s, nbf_s;
    bool bad_exp, bad_nbf;
    unsigned met; /* bit i: claim i */
};

static bool is_wanted(const struct jwt_claim *c, const struct jwt_value *v) {
    for (size_t i = 0; c && i < c->n; i++)
        if (c->values[i].type == v->type &&
            (v->type == JWT_TEXT ? ht_slice_eq(c->values[i].text, v->text) : c->values[i].number == v->number))
            return true;
    return false;
}

/* Reads a value that is no array; *met: it is one of those that will do. 0, or an error of the reader. */
static int read_scalar(struct reading *g, const struct jwt_claim *c, bool *met) {
    struct jwt_value v = {.type = JWT_TEXT};
    bool b = false;
    int rc;
    switch (json_peek(&g->r)) {
    case JSON_T_STRING:
        rc = json_read_string(&g->r, false, &g->arena, &v.text);
        break;
    case JSON_T_NUMBER:
        v.type = JWT_NUMBER;
        rc = json_read_uint(&g->r, &v.number);
        break;
    case JSON_T_BOOL:
        v.type = JWT_BOOL;
        rc = json_read_bool(&g->r, &b);
        v.number = b;
        break;
    default:
        return json_skip(&g->r);
    }
    *met |= rc == 0 && is_wanted(c, &v);
    return rc < 0 ? rc : HT_OK;
}

static int read_claim(struct reading *g, const struct jwt_claim *c, bool *met) {
    int more, rc = HT_OK;
    if (json_peek(&g->r) != JSON_T_ARRAY)
        return read_scalar(g, c, met);
    if (json_array_begin(&g->r) < 0)
        return HT_EPROTO;
    while (rc == HT_OK && (more = json_array_next(&g->r)) > 0)
        rc = read_scalar(g, c, met);
    return rc == HT_OK && more < 0 ? HT_EPROTO : rc;
}

/* A NumericDate, as whole seconds. */
static int read_time(struct reading *g, uint64_t *out, bool *bad) {
    int rc = json_peek(&g->r) == JSON_T_NUMBER ? json_read_uint(&g->r, out) : 1;
    *bad = rc != 0;
    return rc == 1 && json_peek(&g->r) != JSON_T_NONE ? json_skip(&g->r) : rc < 0 ? rc : HT_OK;
}

static int read_member(struct reading *g, struct ht_slice key, const struct jwt_claim *claims, size_t n,
                       struct found *f) {
    if (ht_slice_is(key, "exp")) {
        f->exp = true;
        return read_time(g, &f->exp_s, &f->bad_exp);
    }
    if (ht_slice_is(key, "nbf")) {
        f->nbf = true;
        return read_time(g, &f->nbf_s, &f->bad_nbf);
    }
    f->aud |= ht_slice_is(key, "aud");
    for (size_t i = 0; i < n; i++)
        if (ht_slice_eq(key, claims[i].name)) {
            bool met = false;
            int rc = read_claim(g, &claims[i], &met);
            f->met |= met ? 1u << i : 0;
            return rc;
        }
    return json_skip(&g->r);
}

static enum jwt_result judge(const struct found *f, const struct jwt_claim *claims, size_t n, uint64_t now_s) {
    bool for_us = !f->aud;
    if (!f->exp || f->bad_exp)
        return JWT_NO_EXPIRY;
    if (f->exp_s <= now_s && now_s - f->exp_s >= JWT_SKEW_S)
        return JWT_EXPIRED;
    if (f->nbf && (f->bad_nbf || (f->nbf_s > now_s && f->nbf_s - now_s > JWT_SKEW_S)))
        return JWT_EARLY;
    for (size_t i = 0; i < n; i++) {
        bool aud = ht_slice_is(claims[i].name, "aud");
        for_us |= aud;
        if (!(f->met >> i & 1))
            return aud ? JWT_AUDIENCE : JWT_CLAIM;
    }
    return for_us ? JWT_GOOD : JWT_AUDIENCE;
}

static enum jwt_result check_claims(struct reading *g, const struct jwt_claim *claims, size_t n, const void *text,
                                    size_t len, uint64_t now_s) {
    struct found f = {.exp = false};
    struct ht_slice key;
    int more;
    begin(g, text, len);
    if (json_object_begin(&g->r) < 0)
        return JWT_MALFORMED;
    while ((more = json_object_next(&g->r, &key)) > 0)
        if (read_member(g, key, claims, n, &f) < 0)
            return JWT_MALFORMED;
    if (more < 0 || json_end(&g->r) < 0)
        return JWT_MALFORMED;
    return judge(&f, claims, n, now_s);
}

enum jwt_result jwt_check(const struct jwt_key *k, const struct jwt_claim *claims, size_t n_claims,
                          struct ht_slice token, uint64_t now_s) {
    struct reading g;
    uint8_t header[JOSE_MAX], payload[BYTES_MAX], sign[BYTES_MAX];
    struct ht_slice rest = token, h, p;
    if (token.n > JWT_MAX || !cut(&rest, &h) || !cut(&rest, &p) || memchr(rest.p, '.', rest.n))
        return JWT_MALFORMED;
    ssize_t n_header = decode(h, header, sizeof header), n_payload = decode(p, payload, sizeof payload);
    ssize_t n_sign = decode(rest, sign, sizeof sign);
    if (n_header < 0)
        return JWT_MALFORMED;
    enum jwt_result rc = check_header(&g, k->algorithm, header, (size_t)n_header);
    if (rc != JWT_GOOD)
        return rc;
    if (n_payload < 0 || n_sign < 0)
        return JWT_MALFORMED;
    struct ht_slice what = ht_slice_of(token.p, h.n + 1 + p.n);
    if (!(k->public ? fits_public : fits_secret)(k, what, sign, (size_t)n_sign))
        return JWT_SIGNATURE;
    return check_claims(&g, claims, n_claims, payload, (size_t)n_payload, now_s);
}
