/* What the files of a server's TLS share. */
#ifndef HT_IO_TLS_SERVER_PRIV_H
#define HT_IO_TLS_SERVER_PRIV_H

#include "io/tls_server.h"

#include <openssl/ssl.h>

/* NULL: *err says why. */
SSL *io_tls_server_session(struct io_tls_server *s, int fd, struct ht_errmsg *err);
const char *io_tls_server_to_plain_http(const struct io_tls_server *s);

/* ---- tls_tickets.c ---- */

/*
 * The keys that tickets are sealed with: a new one each TICKET_KEY_S, and the one before it opens what it has sealed
 * for as long again. Never written anywhere.
 */
struct io_tickets;
struct io_tickets *io_tickets_create(void); /* NULL: out of memory */
void io_tickets_destroy(struct io_tickets **t);
/* Makes `ctx` use them; they outlive its handshakes. False: OpenSSL does not want to. */
bool io_tickets_use(struct io_tickets *t, SSL_CTX *ctx);

#define IO_TICKET_KEY_S 43200

#endif
