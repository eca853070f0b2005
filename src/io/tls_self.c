/* A certificate that vouches for itself: made here, or by the program before (tls_server.h). */
#include "io/tls_server_priv.h"

#include "io/cert_priv.h"

#include <openssl/err.h>
#include <openssl/pem.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#define LIFE_S (397 * INT64_C(86400)) /* the longest life of a certificate that browsers accept */
#define LEAST_S (30 * INT64_C(86400)) /* what must be left of it to be used again */
#define NAMES_TEXT (64 + 16 * 256)

/* The names as a subjectAltName in OpenSSL's words. False: they are too long. */
static bool names_text(char out[NAMES_TEXT], const char *const *names, size_t n) {
    size_t at = 0;
    for (size_t i = 0; i < n && at < NAMES_TEXT; i++) {
        struct io_addr a;
        at += (size_t)snprintf(out + at, NAMES_TEXT - at, "%s%s:%s", at ? "," : "",
                               io_addr_parse(&a, names[i], 0) == HT_OK ? "IP" : "DNS", names[i]);
    }
    return at < NAMES_TEXT;
}

bool io_self_make(X509 **leaf, EVP_PKEY **key, const char *const *names, size_t n) {
    char text[NAMES_TEXT];
    *key = EVP_EC_gen("P-256");
    X509 *x = *key && names_text(text, names, n) ? io_cert_new(*key, LIFE_S, "hoody-tunnel", NULL) : NULL;
    /* It is a CA, so that clients can be told to trust it, but one that may not issue CA certificates below itself. */
    bool ok = x && io_cert_add(x, x, NID_basic_constraints, "critical,CA:TRUE,pathlen:0") &&
              io_cert_add(x, x, NID_key_usage, "critical,digitalSignature,keyCertSign") &&
              io_cert_add(x, x, NID_ext_key_usage, "serverAuth") &&
              io_cert_add(x, x, NID_subject_key_identifier, "hash") && io_cert_add(x, x, NID_subject_alt_name, text);
    *leaf = io_cert_sign(x, *key, ok);
    return *leaf != NULL;
}

/* ---- the one of before ---- */

static bool is_for(const X509 *x, const char *const *names, size_t n) {
    char text[NAMES_TEXT];
    X509V3_CTX ctx;
    X509V3_set_ctx_nodb(&ctx);
    X509V3_set_ctx(&ctx, NULL, NULL, NULL, NULL, 0);
    int at = X509_get_ext_by_NID(x, NID_subject_alt_name, -1);
    X509_EXTENSION *have = at >= 0 ? X509_get_ext(x, at) : NULL;
    X509_EXTENSION *want =
        names_text(text, names, n) ? X509V3_EXT_conf_nid(NULL, &ctx, NID_subject_alt_name, text) : NULL;
    bool same =
        have && want && ASN1_OCTET_STRING_cmp(X509_EXTENSION_get_data(have), X509_EXTENSION_get_data(want)) == 0;
    X509_EXTENSION_free(want);
    return same;
}

bool io_self_take(X509 **leaf, EVP_PKEY **key, struct ht_slice kept, const char *const *names, size_t n) {
    time_t then = time(NULL) + LEAST_S;
    bool asked = false;
    BIO *b = kept.n && kept.n < INT32_MAX ? BIO_new_mem_buf(kept.p, (int)kept.n) : NULL;
    X509 *x = b ? PEM_read_bio_X509(b, NULL, io_no_password, &asked) : NULL;
    EVP_PKEY *k = x ? PEM_read_bio_PrivateKey(b, NULL, io_no_password, &asked) : NULL;
    BIO_free(b);
    bool good = k && X509_check_private_key(x, k) == 1 && X509_verify(x, k) == 1 &&
                X509_cmp_time(X509_get0_notAfter(x), &then) > 0 && is_for(x, names, n);
    ERR_clear_error();
    if (!good) {
        X509_free(x);
        EVP_PKEY_free(k);
        return false;
    }
    *leaf = x;
    *key = k;
    return true;
}

int io_self_write(X509 *leaf, EVP_PKEY *key, struct ht_buf *out) {
    BIO *b = BIO_new(BIO_s_mem());
    char *text = NULL;
    bool ok = b && PEM_write_bio_X509(b, leaf) == 1 && PEM_write_bio_PrivateKey(b, key, NULL, NULL, 0, NULL, NULL) == 1;
    long n = ok ? BIO_get_mem_data(b, &text) : 0;
    int rc = n > 0 ? ht_buf_append(out, text, (size_t)n) : HT_ENOMEM;
    if (n > 0)
        explicit_bzero(text, (size_t)n);
    BIO_free(b);
    ERR_clear_error();
    return rc;
}
