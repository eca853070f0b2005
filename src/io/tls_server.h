/*
 * TLS for a listener: certificates that are chosen by the name that is asked for (SNI), read again when their files
 * change, and sessions that are resumed from tickets.
 *
 * TLS 1.2 with forward secrecy and authenticated ciphers, and TLS 1.3; neither compression, renegotiation nor early
 * data. HTTP/1.1 is all that ALPN gets. A name that no certificate is for, or none at all, gets the first certificate:
 * what is served is decided by Host, and whether it is the right one by the client.
 */
#ifndef HT_IO_TLS_SERVER_H
#define HT_IO_TLS_SERVER_H

#include "io/authority.h"
#include "io/io.h"

struct io_tls_server;

/* PEM: the certificate, then those that lead to its authority; and its key, NULL: it is in the same file. Two pairs for
 * a name are both used when their keys are of different kinds (RSA beside EC). */
struct io_tls_pair {
    const char *cert_file, *key_file;
};

struct io_tls_server_config {
    const struct io_tls_pair *pairs;
    size_t n_pairs;
    /* Names and addresses of a certificate that is made now and vouches for itself; it comes behind the pairs. */
    const char *const *self_signed;
    size_t n_self_signed;
    /* Opens a file for reading: its descriptor, or an error with *err, which names the file. */
    int (*open)(void *ctx, const char *path, bool is_key, struct ht_errmsg *err);
    void *ctx;
    /* What who speaks plain HTTP is told before the connection ends; static. */
    const char *to_plain_http;
};

/* The texts of `cfg` outlive it. NULL with *err: a file cannot be read or used, or out of memory. */
struct io_tls_server *io_tls_server_create(const struct io_tls_server_config *cfg, struct ht_errmsg *err) HT_MUST_USE;
/* No handshake is under way any more; connections that it has made live on. Clears the pointer. NULL is ignored. */
void io_tls_server_destroy(struct io_tls_server **s);

/* ---- its certificates ---- */

/* "sha256:" and 64 hexadecimal digits, of the whole certificate. */
#define IO_FINGERPRINT 72

struct io_tls_cert {
    const char *file;   /* NULL: it was made here */
    const char *name;   /* the first one it is for, or "" */
    int64_t good_until; /* Unix seconds */
    char fingerprint[IO_FINGERPRINT];
};
/* In the order of the pairs; false: there is no such one. The texts live until the next io_tls_server_renew(). */
bool io_tls_server_cert(const struct io_tls_server *s, size_t i, struct io_tls_cert *out);

/*
 * Reads pairs again, `all` of them or those whose files have changed, and calls told() for each that was read: HT_OK
 * when what was in the files is in force for handshakes from now on, or an error with `text`: the old one stays in
 * force. Files that are replaced one after the other do not belong together for a moment: without `all` an error is
 * told when the same files are found once more.
 */
void io_tls_server_renew(struct io_tls_server *s, bool all,
                         void (*told)(void *ctx, const struct io_tls_cert *cert, int err, const char *text), void *ctx);

/* ---- handshakes ---- */

/* As io_accept_start(), with one of these certificates. */
struct io_accept *io_accept_server(struct io_loop *loop, struct io_conn *c, struct io_tls_server *s,
                                   uint64_t timeout_ms, const struct io_accept_ops *ops, void *ctx,
                                   struct ht_errmsg *err) HT_MUST_USE;

#endif
