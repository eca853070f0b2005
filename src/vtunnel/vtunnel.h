/*
 * vtunnel's JSON protocol (spec/vtunnel.yaml), translated to and from a link of the multiplexer, so that relay,
 * bindings and limits serve both. Sans-I/O: text messages go in and out as ws/ws.h has them, frames go to and come from
 * the link, and time is a parameter.
 *
 *   as a server (the kit)     what the client says becomes HELLO, BIND, DATA, EOF, RESET of a driver
 *   as a client (the driver)  what the server says becomes HELLO_OK, BIND_OK, STREAM_OPEN, DATA, EOF, RESET of a kit
 *
 * The protocol has no windows. The link's credit is kept here: what goes beyond it waits, one message at most, and
 * nothing more is taken in until there is room (rules VFLOW-1 to VFLOW-3).
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
    /* There is something to pull. */
    void (*output)(void *ctx);
    /* True: no messages, please, until it is said again with false. */
    void (*pause)(void *ctx, bool pause);
    /* The connection cannot go on: the peer is silent (VKEEP-2) or does not read, or there is no memory. A server says
     * so in a close frame, a client drops it. Comes once, from anywhere. */
    void (*end)(void *ctx, uint16_t code, const char *reason);
};

struct vtunnel_config {
    enum vtunnel_role role; /* ours */
    struct ht_pool *blocks; /* of at least VTUNNEL_LIMIT_MAX_MESSAGE bytes; taken for as long as bytes are in them */
    uint32_t window;        /* client: credit that the driver has and gives, of a stream and of all of them */
    uint32_t max_streams;   /* client: what HELLO_OK says */
    bool names;       /* server: register the hosts that the client leads to, where a proxy could be asked for them */
    const char *peer; /* for the log; must live as long */
};

/* `link` stays the caller's, and outlives it. NULL: out of memory. */
struct vtunnel *vtunnel_create(const struct vtunnel_config *cfg, struct mux_link *link, const struct vtunnel_ops *ops,
                               void *ctx, uint64_t now_ms) HT_MUST_USE;
void vtunnel_destroy(struct vtunnel **v);

/* Server: says HELLO to the link, which makes the session; call it when the link can answer. 0 or an error. */
int vtunnel_start(struct vtunnel *v) HT_MUST_USE;

/*
 * As ws_ops.message(): nothing is consumed before the message is whole. Negative: the link takes nothing more in. Not
 * to be called after pause(true), nor from inside a call of mux.
 */
ssize_t vtunnel_message(struct vtunnel *v, uint8_t *p, size_t n, bool end, uint64_t now_ms);
/* As ws_ops.pull(), for `cap` from 8 KiB on. */
size_t vtunnel_pull(struct vtunnel *v, uint8_t *out, size_t cap);

/* Lets timers act; call it at the deadline (monotonic ms). */
void vtunnel_tick(struct vtunnel *v, uint64_t now_ms);
uint64_t vtunnel_deadline(const struct vtunnel *v);

/* Streams that are not forgotten, for tests. */
unsigned vtunnel_streams(const struct vtunnel *v);

#endif
