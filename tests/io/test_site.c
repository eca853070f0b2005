/* An authority for one domain, and its certificates, as OpenSSL verifies them. */
#include "io/site.h"
#include "support/tap.h"

#include <openssl/pem.h>
#include <openssl/x509v3.h>
#include <stdio.h>
#include <time.h>

static X509 *read_cert(const char *pem) {
    BIO *b = BIO_new_mem_buf(pem, -1);
    X509 *x = PEM_read_bio_X509(b, NULL, NULL, NULL);
    BIO_free(b);
    CU_ASSERT_PTR_NOT_NULL_FATAL(x);
    return x;
}

/* As a client does: the chain, and the host. 0, or OpenSSL's reason. */
static int verify(const struct io_site_pair *ca, const struct io_site_pair *leaf, const char *host) {
    X509 *root = read_cert(ca->cert), *x = read_cert(leaf->cert);
    X509_STORE *store = X509_STORE_new();
    X509_STORE_CTX *ctx = X509_STORE_CTX_new();
    X509_STORE_add_cert(store, root);
    X509_STORE_CTX_init(ctx, store, x, NULL);
    X509_VERIFY_PARAM_set1_host(X509_STORE_CTX_get0_param(ctx), host, 0);
    X509_VERIFY_PARAM_set_purpose(X509_STORE_CTX_get0_param(ctx), X509_PURPOSE_SSL_SERVER);
    int rc = X509_verify_cert(ctx) == 1 ? 0 : X509_STORE_CTX_get_error(ctx);
    X509_STORE_CTX_free(ctx);
    X509_STORE_free(store);
    X509_free(root);
    X509_free(x);
    return rc;
}

static void hosts_of_the_domain_verify(void) {
    struct io_site_pair ca, leaf;
    struct ht_errmsg err = {""};
    CU_ASSERT_EQUAL_FATAL(io_site_authority("edge.localhost", &ca, &err), HT_OK);
    CU_ASSERT_EQUAL_FATAL(io_site_issue(&ca, "edge.localhost", "me.containers", 30, &leaf, &err), HT_OK);
    CU_ASSERT_EQUAL(verify(&ca, &leaf, "me-3000.edge.localhost"), 0);
    CU_ASSERT_EQUAL(verify(&ca, &leaf, "edge.localhost"), 0);
    CU_ASSERT_EQUAL(verify(&ca, &leaf, "a-b-http-80.me.containers.edge.localhost"), 0);
    CU_ASSERT_EQUAL(verify(&ca, &leaf, "x.you.containers.edge.localhost"), X509_V_ERR_HOSTNAME_MISMATCH);
    CU_ASSERT_EQUAL(verify(&ca, &leaf, "a.b.edge.localhost"), X509_V_ERR_HOSTNAME_MISMATCH);
    CU_ASSERT_EQUAL(verify(&ca, &leaf, "localhost"), X509_V_ERR_HOSTNAME_MISMATCH);
    CU_ASSERT_EQUAL(verify(&ca, &leaf, "www.example.com"), X509_V_ERR_HOSTNAME_MISMATCH);
    X509 *x = read_cert(leaf.cert);
    time_t in_29_days = time(NULL) + 29 * 86400, in_31_days = time(NULL) + 31 * 86400;
    CU_ASSERT_TRUE(X509_cmp_time(X509_get0_notAfter(x), &in_29_days) > 0);
    CU_ASSERT_TRUE(X509_cmp_time(X509_get0_notAfter(x), &in_31_days) < 0);
    X509_free(x);
}

static void others_are_refused(void) {
    struct io_site_pair ca, other, leaf;
    struct ht_errmsg err = {""};
    CU_ASSERT_EQUAL_FATAL(io_site_authority("a.example.com", &ca, &err), HT_OK);
    CU_ASSERT_EQUAL_FATAL(io_site_authority("a.example.com", &other, &err), HT_OK);
    CU_ASSERT_EQUAL(io_site_issue(&ca, "b.example.com", NULL, 30, &leaf, &err), HT_ETLS);
    CU_ASSERT_STRING_EQUAL(err.text, "the authority is not for b.example.com");
    CU_ASSERT_EQUAL(io_site_issue(&ca, "example.com", NULL, 30, &leaf, &err), HT_ETLS);
    CU_ASSERT_EQUAL(io_site_issue(&ca, "a.example.com", NULL, 20 * 365, &leaf, &err), HT_ETLS);
    CU_ASSERT_PTR_NOT_NULL(strstr(err.text, "ends within"));
    memcpy(other.cert, ca.cert, sizeof other.cert); /* a certificate with another's key */
    CU_ASSERT_EQUAL(io_site_issue(&other, "a.example.com", NULL, 30, &leaf, &err), HT_ETLS);
    snprintf(other.cert, sizeof other.cert, "no certificate");
    CU_ASSERT_EQUAL(io_site_issue(&other, "a.example.com", NULL, 30, &leaf, &err), HT_ETLS);
    CU_ASSERT_PTR_NOT_NULL(strstr(err.text, "cannot be used"));
}

int main(void) {
    static const struct tap_test tests[] = {
        {"a certificate is good for the domain, the hosts one label below it, and nothing else",
         hosts_of_the_domain_verify},
        {"an authority issues nothing for another domain, for longer than it is good, or with another's key",
         others_are_refused},
        {NULL, NULL},
    };
    return tap_main("site", tests);
}
