/*
 * Translates vtunnel's JSON protocol (spec/vtunnel.yaml) to and from frames of a mux link, so that relay, bindings and
 * limits work for both protocols. It does no I/O: text messages go in and out as in ws/ws.h, frames go to and come from
 * the link, and time is a parameter.
 *
 *   as a server (the kit)     messages of the client become a driver's HELLO, BIND, DATA, EOF and RESET
 *   as a client (the driver)  messages of the server become a kit's HELLO_OK, BIND_OK, STREAM_OPEN, DATA, EOF and RESET
 *
 * The protocol has no windows. So this room keeps the credit of the link: bytes without credit wait, at most one
 * message of them, and no further message is read until there is credit (rules VFLOW-1 to VFLOW-3).
 */
#ifndef HT_VTUNNEL_VTUNNEL_H
#define HT_VTUNNEL_VTUNNEL_H

#include "base/base.h"
#include "base/buf.h"
#include "base/err.h"
#include "mux/mux.h"
#include "vtunnel_gen.h"

#include <sys/types.h>

struct vtunnel;

struct vtunnel_ops {
    /* vtunnel_pull() has output. */
    void (*output)(void *ctx);
    /* True: vtunnel_message() must not be called until this is called with false. */
    void (*pause)(void *ctx, bool pause);
    /* The connection must end: the peer is silent (VKEEP-2) or does not read, or there is no memory. A server sends a
     * close frame with `code` and `reason`; a client drops the connection. Called once, inside any function. */
    void (*end)(void *ctx, uint16_t code, const char *reason);
};

struct vtunnel_config {
    enum vtunnel_role role; /* our own role */
    struct ht_pool *blocks; /* of at least VTUNNEL_LIMIT_MAX_MESSAGE bytes; a block is used only while it holds bytes */
    uint32_t window;        /* client: bytes; window of a stream and of the session, in both directions */
    uint32_t max_streams;   /* client: maxStreams of HELLO_OK */
    bool names;             /* server: also register the hosts of the client's targets, for the CONNECT proxy */
    const char *peer;       /* for the log; must outlive this object */
};

/* The caller keeps owning `link`, which must outlive this object. NULL: out of memory. */
struct vtunnel *vtunnel_create(const struct vtunnel_config *cfg, struct mux_link *link, const struct vtunnel_ops *ops,
                               void *ctx, uint64_t now_ms) HT_MUST_USE;
/* Clears the pointer. NULL is ignored. */
void vtunnel_destroy(struct vtunnel **v);

/* Server: sends HELLO to the link, which makes the session. Call it when the link can answer. 0 or an error. */
int vtunnel_start(struct vtunnel *v) HT_MUST_USE;

/*
 * Works as ws_ops.message(). Nothing is consumed before the message is complete. A negative result means that the link
 * takes no more input. Do not call it after pause(true), nor inside a callback of mux.
 */
ssize_t vtunnel_message(struct vtunnel *v, uint8_t *p, size_t n, bool end, uint64_t now_ms);
/* Works as ws_ops.pull(). `cap` must be 8 KiB or more. */
size_t vtunnel_pull(struct vtunnel *v, uint8_t *out, size_t cap);

/* Runs the timers. Call it at the deadline, which is in monotonic milliseconds. */
void vtunnel_tick(struct vtunnel *v, uint64_t now_ms);
uint64_t vtunnel_deadline(const struct vtunnel *v);

/* How many streams exist. For tests. */
unsigned vtunnel_streams(const struct vtunnel *v);

#endif
