/* What authority.c gives to accept.c: the server side of a TLS connection. */
#ifndef HT_IO_AUTHORITY_PRIV_H
#define HT_IO_AUTHORITY_PRIV_H

#include "io/authority.h"

#include <openssl/ssl.h>

/* A TLS server session for the connected socket `fd`, with a certificate that does not expire soon. The caller frees it
 * with SSL_free(). NULL: *err says why. */
SSL *io_tls_host_session(struct io_tls_host *e, int fd, struct ht_errmsg *err);

#endif
