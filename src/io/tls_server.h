/*
 * TLS for a listener. The certificate is chosen by the name that the client asks for (SNI). Certificates are read again
 * when their files change, and sessions are resumed from tickets.
 *
 * It has TLS 1.2 with forward secrecy and authenticated ciphers, and TLS 1.3, without compression, renegotiation and
 * early data. ALPN offers http/1.1 only. A client that asks for an unknown name, or for none, gets the first
 * certificate: the client checks whether it is the right one, and Host decides what is served.
 */
#ifndef HT_IO_TLS_SERVER_H
#define HT_IO_TLS_SERVER_H

#include "base/buf.h"
#include "io/authority.h"
#include "io/io.h"

struct io_tls_server;

/* PEM files: the certificate with its chain, and its key; key_file NULL: the key is in cert_file. Two pairs for the
 * same name are both used if their keys are of different kinds (RSA and EC). */
struct io_tls_pair {
    const char *cert_file, *key_file;
};

struct io_tls_server_config {
    const struct io_tls_pair *pairs;
    size_t n_pairs;
    /* Names and addresses of a certificate that is made now and vouches for itself; it comes behind the pairs. With it
     * files may be missing still: their pair is used from the first io_tls_server_renew() on that finds them. */
    const char *const *self_signed;
    size_t n_self_signed;
    /* What io_tls_server_keep() of an earlier server has written: that certificate is used again if it is for the same
     * names and addresses, and good for a month still. Needed during io_tls_server_create() only; may be empty. */
    struct ht_slice kept;
    /* Opens a file for reading. Returns the descriptor, or a negative error: *err names the file. */
    int (*open)(void *ctx, const char *path, bool is_key, struct ht_errmsg *err);
    void *ctx;
    /* The answer to a client that speaks plain HTTP; then the connection is closed. Static storage. */
    const char *to_plain_http;
};

/* The texts of `cfg` must outlive it. NULL: a file cannot be read or used, or out of memory; *err says which. */
struct io_tls_server *io_tls_server_create(const struct io_tls_server_config *cfg, struct ht_errmsg *err) HT_MUST_USE;
/* No handshake may be running. Open connections stay open. Clears the pointer. NULL is ignored. */
void io_tls_server_destroy(struct io_tls_server **s);

/* ---- its certificates ---- */

/* Bytes of a fingerprint: "sha256:", the 64 hexadecimal digits of the whole certificate's digest, and a NUL. */
#define IO_FINGERPRINT 72

struct io_tls_cert {
    const char *file;   /* NULL: it vouches for itself */
    bool kept;          /* and is of an earlier server */
    const char *name;   /* the first one it is for, or "" */
    int64_t good_until; /* Unix seconds; INT64_MAX: its files are missing still */
    char fingerprint[IO_FINGERPRINT];
};
/* Describes the certificate number `i`, in the order of the pairs. The texts are valid until the next
 * io_tls_server_renew(). False: there are fewer. */
bool io_tls_server_cert(const struct io_tls_server *s, size_t i, struct io_tls_cert *out);

/* Appends the self-signed certificate and its key, for io_tls_server_config.kept of another process. The caller wipes
 * it. HT_EINVAL: there is none. HT_ENOMEM. */
int io_tls_server_keep(const struct io_tls_server *s, struct ht_buf *out) HT_MUST_USE;

/*
 * Reads pairs again: `all` of them, or those whose files have changed. It calls told() for each pair that was read,
 * with HT_OK: new handshakes use the new certificate; or with an error and `text`: the old certificate stays in use.
 * While two files are replaced one after the other they do not match for a moment. So without `all` an error is
 * reported only when the next call finds the same files.
 */
void io_tls_server_renew(struct io_tls_server *s, bool all,
                         void (*told)(void *ctx, const struct io_tls_cert *cert, int err, const char *text), void *ctx);

/* ---- handshakes ---- */

/* io_accept_start() with one of these certificates. */
struct io_accept *io_accept_server(struct io_loop *loop, struct io_conn *c, struct io_tls_server *s,
                                   uint64_t timeout_ms, const struct io_accept_ops *ops, void *ctx,
                                   struct ht_errmsg *err) HT_MUST_USE;

#endif
