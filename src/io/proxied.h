/*
 * The PROXY protocol, versions 1 and 2: a proxy says in front of a connection's own bytes whom it is for. Only whoever
 * is sure who may speak it reads it.
 */
#ifndef HT_IO_PROXIED_H
#define HT_IO_PROXIED_H

#include "io/io.h"

#define IO_PROXIED_MAX 1024 /* of a header, what follows the addresses in version 2 included */

/* What a header says. */
struct io_proxied {
    bool known; /* `from` is the client's; else the connection is the proxy's own, or nobody knows */
    struct io_addr from;
    size_t wants; /* HT_EAGAIN: bytes that belong to the header for sure, from its beginning */
};

/*
 * Reads p[0..n), how a connection begins. The header's length; HT_EAGAIN: there is more of it, and `wants` is larger
 * than n or what may be taken off the connection; HT_EPROTO with *why, one sentence: it is none. Strict: one space
 * between parts, addresses and ports as the standard writes them, no header over IO_PROXIED_MAX.
 */
ssize_t io_proxied_parse(struct io_proxied *out, const uint8_t *p, size_t n, const char **why) HT_MUST_USE;

struct io_proxied_ops {
    /* Exactly the header was read: `c` is yours, its ops are to be set. `from`: whom it is for. The reader is gone. */
    void (*told)(void *ctx, struct io_conn *c, const struct io_addr *from);
    /* The connection is gone, and so is the reader. */
    void (*failed)(void *ctx, const char *why);
};

struct io_proxied_reader;

/* Takes the connection, which no TLS was begun on, over until its header is there. Never calls back before it returns.
 * NULL: out of memory, and the connection is gone. */
struct io_proxied_reader *io_proxied_start(struct io_loop *loop, struct io_conn *c, const struct io_addr *peer,
                                           uint64_t timeout_ms, const struct io_proxied_ops *ops,
                                           void *ctx) HT_MUST_USE;
/* No callback comes any more; the connection is cut. Clears the pointer. NULL is ignored. */
void io_proxied_cancel(struct io_proxied_reader **r);

#endif
