/*
 * The machine's own certificate authority, and the server side of TLS. A program in a container connects to
 * api.example.com, and this machine answers with a certificate for that name.
 *
 * The machine has one key. Each host gets a CA certificate of its own, made again at each start. The certificate is
 * constrained to its host (RFC 5280 4.2.1.10), so a program that trusts it trusts this machine for that host alone.
 * One CA certificate for all hosts would have to change with each new host. Programs with an older version would then
 * refuse the new host, or check against the wrong one of two certificates with the same name. Two processes that serve
 * the same host make certificates that are interchangeable: they have the same key and the same name.
 *
 * The caller stores the text of the key. No function here returns the key of an existing authority.
 */
#ifndef HT_IO_AUTHORITY_H
#define HT_IO_AUTHORITY_H

#include "io/io.h"

#define IO_KEY_MAX 512   /* bytes of a key's text */
#define IO_CERT_MAX 2048 /* bytes of a certificate's text */

struct io_authority;

/* Makes a new key and writes it as PEM, *n bytes without a NUL. The caller wipes it. 0, or HT_ETLS with *err. */
int io_authority_make_key(char out[IO_KEY_MAX], size_t *n, struct ht_errmsg *err) HT_MUST_USE;
/* An authority with the key that io_authority_make_key() made. The text is copied: the caller may wipe it. NULL: *err
 * says why. */
struct io_authority *io_authority_create(const char *pem, size_t n, struct ht_errmsg *err) HT_MUST_USE;
/* Clears the pointer. NULL is ignored. */
void io_authority_destroy(struct io_authority **a);

/* The server side of TLS for one host: its CA certificate, and a server certificate that is renewed. The authority must
 * outlive it. */
struct io_tls_host;

/*
 * `host` is a name in lower case, or an address without brackets. A server certificate is valid for one day and is made
 * when it is needed. ALPN offers http/1.1 only. NULL: *err says why.
 */
struct io_tls_host *io_tls_host_create(struct io_authority *a, const char *host, struct ht_errmsg *err) HT_MUST_USE;
/* Open connections stay open. Clears the pointer. NULL is ignored. */
void io_tls_host_destroy(struct io_tls_host **e);
/* The CA certificate that programs must trust, as PEM with a NUL. Valid as long as `e`. */
const char *io_tls_host_ca(const struct io_tls_host *e);

/* A TLS handshake that is running. */
struct io_accept;

enum io_accept_why {
    IO_ACCEPT_TIMED_OUT,
    IO_ACCEPT_LEFT,       /* the client has closed the connection */
    IO_ACCEPT_PLAIN_HTTP, /* the client speaks HTTP without TLS */
    IO_ACCEPT_DISTRUSTED, /* the client does not trust the certificate */
    IO_ACCEPT_UNMATCHED,  /* there is no version, cipher or protocol that both sides know */
    IO_ACCEPT_BROKEN,     /* no TLS handshake, or a wrong one */
};

struct io_accept_ops {
    /* The handshake is done. The callee owns `c` and must set its ops. The io_accept no longer exists. */
    void (*accepted)(void *ctx, struct io_conn *c);
    /* The handshake has failed, and the connection is closed. `text` tells a person why; it is valid during the call.
     * The io_accept no longer exists. */
    void (*failed)(void *ctx, enum io_accept_why why, const char *text);
};

/*
 * Starts the server side of TLS on a plain connection, and takes the connection over. A client that asks for another
 * host (SNI) is refused. The whole handshake may take `timeout_ms`. NULL: *err says why, and the connection is closed.
 * No callback is called before this returns.
 */
struct io_accept *io_accept_start(struct io_loop *loop, struct io_conn *c, struct io_tls_host *e, uint64_t timeout_ms,
                                  const struct io_accept_ops *ops, void *ctx, struct ht_errmsg *err) HT_MUST_USE;
/* Resets the connection; no callback is called. Clears the pointer. NULL is ignored. */
void io_accept_cancel(struct io_accept **a);

#endif
