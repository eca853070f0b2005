/* What tls_server.c, tls_tickets.c and accept.c share. */
#ifndef HT_IO_TLS_SERVER_PRIV_H
#define HT_IO_TLS_SERVER_PRIV_H

#include "io/io_priv.h"
#include "io/tls_server.h"

#include <openssl/ssl.h>

/* The server side of TLS for the connected socket `fd`, which stays the caller's. The caller frees the result with
 * SSL_free(). NULL: *err says why. */
SSL *io_tls_server_session(struct io_tls_server *s, int fd, struct ht_errmsg *err);
/* io_tls_server_config.to_plain_http; NULL: none. */
const char *io_tls_server_to_plain_http(const struct io_tls_server *s);

/* ---- tls_hello.c ---- */

/* What a client has said so far in its handshake, while it is watched for a ClientHello that is too long. */
struct io_hello {
    SSL *ssl; /* NULL: nothing is watched */
    uint8_t record_head[5], message_head[4];
    unsigned n_record_head, n_message_head; /* bytes of them that have come */
    size_t record, message;                 /* bytes that are still to come */
    bool handshake;                         /* what the record is of */
    bool over;                              /* no ClientHello comes any more */
    bool too_long;                          /* reading has failed because of that */
};
/* Until io_hello_over(), `h` belongs to `ssl`, which has its descriptor. */
void io_hello_watch(struct io_hello *h, SSL *ssl);
/* Before the end of `ssl`. Harmless when nothing is watched. */
void io_hello_over(struct io_hello *h);

/* ---- tls_self.c ---- */

/* Makes a key and a certificate for those names and addresses. The caller frees both in each case. False: it cannot be
 * made. */
bool io_self_make(X509 **leaf, EVP_PKEY **key, const char *const *names, size_t n);
/* Reads what io_self_write() has written. False: it cannot be used any more, and there is nothing to free. */
bool io_self_take(X509 **leaf, EVP_PKEY **key, struct ht_slice kept, const char *const *names, size_t n);
/* Appends both as PEM. 0 or HT_ENOMEM. */
int io_self_write(X509 *leaf, EVP_PKEY *key, struct ht_buf *out);

/* ---- tls_tickets.c ---- */

/*
 * The keys that encrypt session tickets (RFC 5077, RFC 8446 4.6.1). Every IO_TICKET_KEY_S seconds there is a new key.
 * The one before it decrypts tickets for the same time once more. Keys are never written to a file.
 */
#define IO_TICKET_KEY_S 43200 /* 12 hours */
struct io_tickets;
struct io_tickets *io_tickets_create(void);     /* NULL: out of memory */
void io_tickets_destroy(struct io_tickets **t); /* clears the pointer; NULL is ignored */
/* Makes `ctx` use the keys, which must outlive its handshakes. False: OpenSSL has refused. */
bool io_tickets_use(struct io_tickets *t, SSL_CTX *ctx);

#endif
