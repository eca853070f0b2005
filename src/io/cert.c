#include "io/io_priv.h"

#include "base/clock.h"
#include "io/cert_priv.h"

#include <openssl/err.h>
#include <stdio.h>
#include <string.h>

#define BACKDATE_S 3600 /* for clocks that are behind this one's */

const char *io_cert_why(void) {
    unsigned long e = ERR_get_error();
    const char *text = e ? ERR_reason_error_string(e) : NULL;
    ERR_clear_error();
    return text ? text : "unknown error";
}

bool io_cert_add(X509 *x, X509 *issuer, int nid, const char *value) {
    X509V3_CTX ctx;
    X509V3_set_ctx_nodb(&ctx);
    X509V3_set_ctx(&ctx, issuer, x, NULL, NULL, 0);
    X509_EXTENSION *e = X509V3_EXT_conf_nid(NULL, &ctx, nid, value);
    bool ok = e && X509_add_ext(x, e, -1) == 1;
    X509_EXTENSION_free(e);
    return ok;
}

X509 *io_cert_new(EVP_PKEY *key, long seconds, const char *subject, const X509_NAME *issuer) {
    uint8_t serial[16];
    X509 *x = X509_new();
    BIGNUM *bn = NULL;
    X509_NAME *name = X509_NAME_new();
    ht_random_bytes(serial, sizeof serial);
    serial[0] = (uint8_t)((serial[0] & 0x3f) | 0x40);
    bool ok = x && name && X509_set_version(x, X509_VERSION_3) == 1 && (bn = BN_bin2bn(serial, sizeof serial, NULL)) &&
              BN_to_ASN1_INTEGER(bn, X509_get_serialNumber(x)) &&
              X509_gmtime_adj(X509_getm_notBefore(x), -BACKDATE_S) && X509_gmtime_adj(X509_getm_notAfter(x), seconds) &&
              X509_set_pubkey(x, key) == 1 &&
              X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_UTF8, (const unsigned char *)subject, -1, -1, 0) == 1 &&
              X509_set_subject_name(x, name) == 1 && X509_set_issuer_name(x, issuer ? issuer : name) == 1;
    BN_free(bn);
    X509_NAME_free(name);
    if (ok)
        return x;
    X509_free(x);
    return NULL;
}

X509 *io_cert_sign(X509 *x, EVP_PKEY *key, bool ok) {
    if (x && ok && X509_sign(x, key, EVP_sha256()) > 0)
        return x;
    X509_free(x);
    return NULL;
}

void io_fingerprint_text(const uint8_t sum[32], char *out) {
    memcpy(out, "sha256:", 8);
    for (int i = 0; i < 32; i++)
        snprintf(out + 7 + 2 * i, 3, "%02x", sum[i]);
}

int io_alpn_http(SSL *ssl, const unsigned char **out, unsigned char *n, const unsigned char *in, unsigned len,
                 void *ctx) {
    static const char http[] = "http/1.1";
    (void)ssl, (void)ctx;
    for (unsigned i = 0; i < len; i += 1u + in[i])
        if (in[i] == sizeof http - 1 && i + in[i] < len && memcmp(in + i + 1, http, sizeof http - 1) == 0) {
            *out = in + i + 1;
            *n = in[i];
            return SSL_TLSEXT_ERR_OK;
        }
    return SSL_TLSEXT_ERR_ALERT_FATAL;
}
