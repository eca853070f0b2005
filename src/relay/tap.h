/*
 * The tap of a target: who is told of the exchanges with an HTTP service as they really travel to it and from it, byte
 * for byte. Off, it costs a look at a pointer. All slices are valid during the call only; nobody may destroy the target
 * meanwhile.
 */
#ifndef HT_RELAY_TAP_H
#define HT_RELAY_TAP_H

#include "base/base.h"
#include "wire_gen.h"

/* How an exchange failed, as far as the driver can tell. */
enum relay_tap_fault {
    RELAY_TAP_NO_FAULT,
    RELAY_TAP_REFUSED,  /* no connection to the service */
    RELAY_TAP_TIMEOUT,  /* no connection, or no answer, in time */
    RELAY_TAP_RESET,    /* the service ended the connection too early */
    RELAY_TAP_PROTOCOL, /* its answer is no HTTP */
    RELAY_TAP_LINK,     /* the session is over, or the binding */
    RELAY_TAP_VISITOR,  /* the kit wants no more of it */
    RELAY_TAP_INTERNAL,
};

enum relay_tap_moment {
    RELAY_TAP_CONNECTING,
    RELAY_TAP_CONNECTED, /* also on a connection that there was */
    RELAY_TAP_SENT,      /* the whole request was written */
    RELAY_TAP_ANSWERS,   /* the answer's first byte has come */
};

struct relay_tap {
    /* A request. `head` is what the service gets. `ctx` is the target's. Returns what the others get as `x`, until
     * end(); NULL: this exchange is not tapped. */
    void *(*begin)(void *ctx, const struct wire_stream_open *open, struct ht_slice head);
    void (*moment)(void *x, enum relay_tap_moment m);
    /* The service's head, from its first byte to the empty line; before the final one there may be interim ones. */
    void (*head)(void *x, struct ht_slice head, bool final);
    /* Bytes of a body, without chunk framing. */
    void (*body)(void *x, bool answer, struct ht_slice piece);
    /* The body is complete. `trailers` are its field lines, without the empty line. */
    void (*body_end)(void *x, bool answer, struct ht_slice trailers);
    /* Bytes behind a 101. `down`: to the visitor. */
    void (*raw)(void *x, bool down, struct ht_slice piece);
    /* The exchange is over. `text` is for people; empty when it ended in order. */
    void (*end)(void *x, enum relay_tap_fault fault, struct ht_slice text);
};

/* The kit's reason for a RESET when it gives a service up that does not answer: not the visitor has left. */
#define RELAY_NO_HEAD_IN_TIME "no response head in time"

#endif
