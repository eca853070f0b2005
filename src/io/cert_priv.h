/* Certificates that are made here, for authority.c and tls_server.c. */
#ifndef HT_IO_CERT_PRIV_H
#define HT_IO_CERT_PRIV_H

#include "base/base.h"

#include <openssl/ssl.h>
#include <openssl/x509v3.h>

/* What OpenSSL's queue of errors says, which is empty then. */
const char *io_cert_why(void);

/* Version, serial number, times, and the names of subject and issuer (NULL: its own). NULL: it cannot be made. */
X509 *io_cert_new(EVP_PKEY *key, long seconds, const char *subject, const X509_NAME *issuer);
/* An extension by its value as in openssl.cnf(5). `issuer` may be `x`. */
bool io_cert_add(X509 *x, X509 *issuer, int nid, const char *value);
/* `x` when `ok` and it could be signed; else it is freed, and NULL. */
X509 *io_cert_sign(X509 *x, EVP_PKEY *key, bool ok);

/* Who is asked for the password of a key: OpenSSL would ask at the terminal. Notes in `*(bool *)ctx` that it was
 * needed.
 */
int io_no_password(char *buf, int size, int writing, void *ctx);

/* "sha256:" and the 32 bytes of a digest. */
void io_fingerprint_text(const uint8_t sum[32], char *out);

/* 1, or the alert, as SSL_CTX_set_alpn_select_cb() wants it: http/1.1 or nothing. */
int io_alpn_http(SSL *ssl, const unsigned char **out, unsigned char *n, const unsigned char *in, unsigned len,
                 void *ctx);

#endif
