/*
 * The PROXY protocol, versions 1 and 2: before the bytes of a connection a proxy sends a header with the address of its
 * client. Read it only from peers that are known to be such proxies: anybody else could claim any address.
 */
#ifndef HT_IO_PROXIED_H
#define HT_IO_PROXIED_H

#include "io/io.h"

#define IO_PROXIED_MAX 1024 /* most bytes of a header, with all that version 2 may put behind the addresses */

/* A header that was parsed. */
struct io_proxied {
    bool known;          /* false: the connection is the proxy's own (a health check), or it did not say */
    struct io_addr from; /* the client's address, if `known` */
    size_t wants;        /* with HT_EAGAIN: how many bytes from the beginning belong to the header for sure */
};

/*
 * Parses p[0..n), the beginning of a connection. Returns the length of the header; HT_EAGAIN: more of it must come; or
 * HT_EPROTO with *why, a static sentence: it is no header. Strict: one space between parts, addresses and ports as the
 * standard writes them, and at most IO_PROXIED_MAX bytes.
 */
ssize_t io_proxied_parse(struct io_proxied *out, const uint8_t *p, size_t n, const char **why) HT_MUST_USE;

struct io_proxied_ops {
    /* The header was read, and no byte behind it. The callee owns `c` and must set its ops. `from` is the client, or
     * the peer if the header does not say. The reader no longer exists. */
    void (*told)(void *ctx, struct io_conn *c, const struct io_addr *from);
    /* No header came in time, or a wrong one. The connection was closed. The reader no longer exists. */
    void (*failed)(void *ctx, const char *why);
};

struct io_proxied_reader;

/* Reads the header of a plain connection, and owns the connection meanwhile. No callback is called before this returns.
 * NULL: out of memory; the connection was closed. */
struct io_proxied_reader *io_proxied_start(struct io_loop *loop, struct io_conn *c, const struct io_addr *peer,
                                           uint64_t timeout_ms, const struct io_proxied_ops *ops,
                                           void *ctx) HT_MUST_USE;
/* Resets the connection; no callback is called. Clears the pointer. NULL is ignored. */
void io_proxied_cancel(struct io_proxied_reader **r);

#endif
