#include "io/site.h"

#include "io/cert_priv.h"

#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#define AUTHORITY_S (3650L * 86400L)
#define DAY_S 86400L

static int fail(struct ht_errmsg *err, const char *what) {
    return ht_fail(err, HT_ETLS, "%s: %s", what, io_cert_why());
}

/* ---- texts ---- */

static bool take(BIO *b, char *out, size_t cap) {
    char *text = NULL;
    long n = BIO_get_mem_data(b, &text);
    bool ok = n > 0 && (size_t)n < cap;
    if (ok) {
        memcpy(out, text, (size_t)n);
        out[n] = '\0';
    }
    if (text)
        explicit_bzero(text, n > 0 ? (size_t)n : 0);
    return ok;
}

static bool put(X509 *x, EVP_PKEY *key, struct io_site_pair *out) {
    BIO *cert = BIO_new(BIO_s_mem()), *secret = BIO_new(BIO_s_mem());
    bool ok = cert && secret && PEM_write_bio_X509(cert, x) == 1 && take(cert, out->cert, sizeof out->cert) &&
              PEM_write_bio_PrivateKey(secret, key, NULL, NULL, 0, NULL, NULL) == 1 &&
              take(secret, out->key, sizeof out->key);
    BIO_free(cert);
    BIO_free(secret);
    return ok;
}

static bool get(const struct io_site_pair *in, X509 **x, EVP_PKEY **key) {
    static char none[] = ""; /* there is no password, and OpenSSL must not ask for one at the terminal */
    BIO *cert = BIO_new_mem_buf(in->cert, -1), *secret = BIO_new_mem_buf(in->key, -1);
    *x = cert ? PEM_read_bio_X509(cert, NULL, NULL, NULL) : NULL;
    *key = secret ? PEM_read_bio_PrivateKey(secret, NULL, NULL, none) : NULL;
    BIO_free(cert);
    BIO_free(secret);
    return *x && *key && X509_check_private_key(*x, *key) == 1;
}

/* ---- certificates ---- */

/* Where the authority's certificate carries the domain: its constraint is compared as text, as it was made. */
static void limits_of(const char *domain, char *out, size_t cap) {
    snprintf(out, cap, "critical,permitted;DNS:%s,excluded;IP:0.0.0.0/0.0.0.0,excluded;IP:::/::", domain);
}

static bool is_for(const X509 *ca, const char *domain) {
    NAME_CONSTRAINTS *nc = X509_get_ext_d2i(ca, NID_name_constraints, NULL, NULL);
    bool found = false;
    for (int i = 0; nc && i < sk_GENERAL_SUBTREE_num(nc->permittedSubtrees); i++) {
        const GENERAL_NAME *name = sk_GENERAL_SUBTREE_value(nc->permittedSubtrees, i)->base;
        if (name->type == GEN_DNS)
            found = found || (ASN1_STRING_length(name->d.dNSName) == (int)strlen(domain) &&
                              memcmp(ASN1_STRING_get0_data(name->d.dNSName), domain, strlen(domain)) == 0);
    }
    NAME_CONSTRAINTS_free(nc);
    return found;
}

int io_site_authority(const char *domain, struct io_site_pair *out, struct ht_errmsg *err) {
    char subject[65], limits[400];
    ERR_clear_error();
    EVP_PKEY *key = EVP_EC_gen("P-256");
    snprintf(subject, sizeof subject, "hoody-tunnel edge %.40s", domain); /* 64 characters at most (RFC 5280) */
    limits_of(domain, limits, sizeof limits);
    X509 *x = key ? io_cert_new(key, AUTHORITY_S, subject, NULL) : NULL;
    bool ok = x && io_cert_add(x, x, NID_basic_constraints, "critical,CA:TRUE,pathlen:0") &&
              io_cert_add(x, x, NID_key_usage, "critical,keyCertSign,cRLSign") &&
              io_cert_add(x, x, NID_subject_key_identifier, "hash") && io_cert_add(x, x, NID_name_constraints, limits);
    x = io_cert_sign(x, key, ok);
    int rc = x && put(x, key, out) ? HT_OK : fail(err, "cannot make an authority for certificates");
    X509_free(x);
    EVP_PKEY_free(key);
    return rc;
}

int io_site_issue(const struct io_site_pair *authority, const char *domain, const char *below, unsigned days,
                  struct io_site_pair *out, struct ht_errmsg *err) {
    char subject[65], names[600];
    X509 *ca = NULL, *x = NULL;
    EVP_PKEY *ca_key = NULL, *key = NULL;
    int rc = HT_OK;
    ERR_clear_error();
    time_t until = time(NULL) + (time_t)days * DAY_S;
    if (!get(authority, &ca, &ca_key))
        rc = fail(err, "the authority's certificate or key cannot be used");
    else if (!is_for(ca, domain))
        rc = ht_fail(err, HT_ETLS, "the authority is not for %s", domain);
    else if (X509_cmp_time(X509_get0_notAfter(ca), &until) < 0)
        rc = ht_fail(err, HT_ETLS, "the authority's certificate ends within %u days", days);
    snprintf(subject, sizeof subject, "%.64s", domain);
    snprintf(names, sizeof names, "DNS:*.%s,DNS:%s%s%s%s%s", domain, domain, below ? ",DNS:*." : "", below ? below : "",
             below ? "." : "", below ? domain : "");
    if (rc == HT_OK) {
        key = EVP_EC_gen("P-256");
        x = key ? io_cert_new(key, (long)days * DAY_S, subject, X509_get_subject_name(ca)) : NULL;
        bool ok = x && io_cert_add(x, ca, NID_basic_constraints, "critical,CA:FALSE") &&
                  io_cert_add(x, ca, NID_key_usage, "critical,digitalSignature") &&
                  io_cert_add(x, ca, NID_ext_key_usage, "serverAuth") &&
                  io_cert_add(x, ca, NID_authority_key_identifier, "keyid:always") &&
                  io_cert_add(x, ca, NID_subject_alt_name, names);
        x = io_cert_sign(x, ca_key, ok);
        if (!x || !put(x, key, out))
            rc = fail(err, "cannot make a certificate");
    }
    X509_free(x);
    X509_free(ca);
    EVP_PKEY_free(key);
    EVP_PKEY_free(ca_key);
    return rc;
}

/* ---- looking at one ---- */

static X509 *first_of(struct ht_slice pem) {
    BIO *b = pem.n <= INT32_MAX ? BIO_new_mem_buf(pem.p, (int)pem.n) : NULL;
    X509 *x = b ? PEM_read_bio_X509(b, NULL, io_no_password, NULL) : NULL;
    BIO_free(b);
    return x;
}

static EVP_PKEY *key_of(struct ht_slice pem) {
    BIO *b = BIO_new_mem_buf(pem.p, (int)pem.n);
    EVP_PKEY *key = b ? PEM_read_bio_PrivateKey(b, NULL, io_no_password, NULL) : NULL;
    BIO_free(b);
    return key;
}

static int64_t seconds(const ASN1_TIME *t) {
    struct tm tm;
    return ASN1_TIME_to_tm(t, &tm) == 1 ? (int64_t)timegm(&tm) : 0;
}

static void name_of(const X509_NAME *n, char *out, size_t cap) {
    BIO *b = BIO_new(BIO_s_mem());
    char *text = NULL;
    out[0] = '\0';
    if (b && X509_NAME_print_ex(b, n, 0, XN_FLAG_ONELINE & ~ASN1_STRFLGS_ESC_MSB) >= 0) {
        long len = BIO_get_mem_data(b, &text);
        snprintf(out, cap, "%.*s", (int)len, text);
    }
    BIO_free(b);
}

static int look(struct ht_slice pem, bool with_key, struct io_site_facts *out, struct ht_errmsg *err) {
    ERR_clear_error();
    X509 *x = first_of(pem);
    if (!x)
        return fail(err, "there is no certificate in it");
    EVP_PKEY *key = with_key ? key_of(pem) : NULL;
    *out = (struct io_site_facts){.begins = seconds(X509_get0_notBefore(x)),
                                  .ends = seconds(X509_get0_notAfter(x)),
                                  .vouches_for_itself = X509_check_issued(x, x) == X509_V_OK,
                                  .fits_key = key && X509_check_private_key(x, key) == 1};
    name_of(X509_get_subject_name(x), out->subject, sizeof out->subject);
    name_of(X509_get_issuer_name(x), out->issuer, sizeof out->issuer);
    EVP_PKEY_free(key);
    X509_free(x);
    ERR_clear_error();
    return HT_OK;
}

int io_site_look(struct ht_slice pem, struct io_site_facts *out, struct ht_errmsg *err) {
    return look(pem, true, out, err);
}

int io_site_glance(struct ht_slice pem, struct io_site_facts *out, struct ht_errmsg *err) {
    return look(pem, false, out, err);
}

bool io_site_is_for(struct ht_slice pem, const char *host) {
    X509 *x = first_of(pem);
    bool ok = x && X509_check_host(x, host, strlen(host), X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS, NULL) == 1;
    X509_free(x);
    ERR_clear_error();
    return ok;
}

int io_site_check(struct ht_slice pem, struct ht_errmsg *err) {
    ERR_clear_error();
    SSL_CTX *ctx = SSL_CTX_new(TLS_server_method());
    BIO *b = pem.n <= INT32_MAX ? BIO_new_mem_buf(pem.p, (int)pem.n) : NULL;
    X509 *x = b ? PEM_read_bio_X509(b, NULL, io_no_password, NULL) : NULL;
    EVP_PKEY *key = x ? key_of(pem) : NULL;
    bool ok = ctx && x && key && SSL_CTX_use_certificate(ctx, x) == 1 && SSL_CTX_use_PrivateKey(ctx, key) == 1 &&
              SSL_CTX_check_private_key(ctx) == 1;
    X509_free(x);
    while (ok && (x = PEM_read_bio_X509(b, NULL, io_no_password, NULL))) {
        ok = SSL_CTX_add1_chain_cert(ctx, x) == 1;
        X509_free(x);
    }
    int rc = ok ? HT_OK : fail(err, key ? "TLS does not take this certificate with this key" : "the key is not there");
    EVP_PKEY_free(key);
    BIO_free(b);
    SSL_CTX_free(ctx);
    ERR_clear_error();
    return rc;
}
