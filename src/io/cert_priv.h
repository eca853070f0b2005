/* Helpers that make certificates, for authority.c and tls_server.c. */
#ifndef HT_IO_CERT_PRIV_H
#define HT_IO_CERT_PRIV_H

#include "base/base.h"

#include <openssl/ssl.h>
#include <openssl/x509v3.h>

/* The text of the first error in OpenSSL's queue, which it empties. */
const char *io_cert_why(void);

/* Makes a certificate with version, serial number, times, and the names of subject and issuer. `issuer` NULL: the
 * subject. The caller frees it. NULL: it cannot be made. */
X509 *io_cert_new(EVP_PKEY *key, long seconds, const char *subject, const X509_NAME *issuer);
/* Adds an extension with a value as in openssl.cnf(5). `issuer` may be `x`. */
bool io_cert_add(X509 *x, X509 *issuer, int nid, const char *value);
/* Signs `x` if `ok`, and returns it. Otherwise, or when it cannot be signed, frees it and returns NULL. */
X509 *io_cert_sign(X509 *x, EVP_PKEY *key, bool ok);

/* A password callback that has no password, because OpenSSL would ask at the terminal. Sets *(bool *)ctx to true: the
 * key needs one. */
int io_no_password(char *buf, int size, int writing, void *ctx);

/* Writes "sha256:" and the hexadecimal digits of a digest. */
void io_fingerprint_text(const uint8_t sum[32], char *out);

/* A callback for SSL_CTX_set_alpn_select_cb(): chooses http/1.1, or refuses with an alert. */
int io_alpn_http(SSL *ssl, const unsigned char **out, unsigned char *n, const unsigned char *in, unsigned len,
                 void *ctx);

#endif
