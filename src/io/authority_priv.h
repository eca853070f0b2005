/* A server's TLS for a connection, between authority.c and accept.c. */
#ifndef HT_IO_AUTHORITY_PRIV_H
#define HT_IO_AUTHORITY_PRIV_H

#include "io/authority.h"

#include <openssl/ssl.h>

/* With a certificate that has time left. NULL: *err says why. */
SSL *io_ending_session(struct io_ending *e, int fd, struct ht_errmsg *err);

#endif
