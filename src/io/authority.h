/*
 * The machine's own certificate authority, and the server half of TLS: for a program in a container that asks for
 * api.example.com and is answered from here.
 *
 * There is one key, and a certificate of an authority for each host, made anew at each start. It is constrained to that
 * host (RFC 5280 4.2.1.10), so whoever trusts it trusts this machine for nothing else. One certificate for all hosts
 * would have to change with each of them: programs that hold an older one would refuse the new host, or, with the same
 * name under two sets of constraints, take the wrong one for the check. Two processes that serve the same host make
 * certificates that stand for each other: same key, same name.
 *
 * The key's text is made once and kept by the caller. Nothing here gives it out.
 */
#ifndef HT_IO_AUTHORITY_H
#define HT_IO_AUTHORITY_H

#include "io/io.h"

#define IO_KEY_MAX 512   /* bytes of a key's text */
#define IO_CERT_MAX 2048 /* bytes of a certificate's text */

struct io_authority;

/* A fresh key as PEM, without a NUL. 0 or an error with *err. */
int io_authority_make_key(char out[IO_KEY_MAX], size_t *n, struct ht_errmsg *err) HT_MUST_USE;
/* From such a text, which may be wiped afterwards. NULL: *err says why. */
struct io_authority *io_authority_create(const char *pem, size_t n, struct ht_errmsg *err) HT_MUST_USE;
void io_authority_destroy(struct io_authority **a);

/* What ends TLS for one host. The authority outlives it. */
struct io_ending;

/*
 * `host`: a name in lower case or an address, as it stands in a URL without brackets. Certificates for it are good for
 * a day and made when they are needed; HTTP/1.1 is all that ALPN gets. NULL: *err says why.
 */
struct io_ending *io_ending_create(struct io_authority *a, const char *host, struct ht_errmsg *err) HT_MUST_USE;
/* Connections that it has made live on. */
void io_ending_destroy(struct io_ending **e);
/* The certificate that programs have to trust, as PEM; lives as long as `e`. */
const char *io_ending_ca(const struct io_ending *e);

struct io_accept;

struct io_accept_ops {
    /* The handshake is done: `c` is yours, its ops are to be set. The io_accept is gone. */
    void (*accepted)(void *ctx, struct io_conn *c);
    /* It came to nothing; the connection is closed. `text` says why, for a person. The io_accept is gone. */
    void (*failed)(void *ctx, int err, const char *text);
};

/*
 * Ends TLS on a plain connection, which belongs to it from now on. A name that is asked for (SNI) and is not the host
 * is refused. `timeout_ms` for all of it. NULL with *err: the connection is closed. No callback comes before this
 * returns.
 */
struct io_accept *io_accept_start(struct io_loop *loop, struct io_conn *c, struct io_ending *e, uint64_t timeout_ms,
                                  const struct io_accept_ops *ops, void *ctx, struct ht_errmsg *err) HT_MUST_USE;
/* No callback comes any more; the connection is cut. Clears the pointer. NULL is ignored. */
void io_accept_cancel(struct io_accept **a);

#endif
