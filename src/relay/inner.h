/*
 * Both ends of a session in memory: visitors at one end, local services at the other, in the same program. What is
 * strict between a kit and a driver is strict here too, because it is the same code.
 */
#ifndef HT_RELAY_INNER_H
#define HT_RELAY_INNER_H

#include "relay/kit.h"

struct relay_inner_config {
    struct relay_table *t;     /* outlives it, as `owner` does */
    struct relay_owner *owner; /* of the visitors' bindings. Its `mux` is set here: NULL while there is no session */
    uint32_t max_streams;
    /* mux_session_ops.stream_open of the services' end, with `ctx`. */
    void (*stream_open)(void *ctx, struct mux_stream *st, const struct wire_stream_open *open);
    void (*ended)(void *ctx, const char *why); /* the session broke, and is made anew; may be NULL */
    void *ctx;
};

struct relay_inner;

struct relay_inner_end {
    struct relay_inner *of;
    struct mux_link *link;
    struct mux_session *mux;
};

/* Embedded in whoever has it; zeros until relay_inner_init(). */
struct relay_inner {
    struct relay_inner_config cfg;
    struct relay_inner_end visitors, services;
    struct io_task pump; /* carries what there is from one link to the other */
    struct io_timer tick;
    bool broken;  /* the session cannot go on */
    bool used_up; /* it has no stream ids left: another one follows when it is empty */
};

void relay_inner_init(struct relay_inner *in, const struct relay_inner_config *cfg);
/*
 * To be called before a visitor is let in, and not from inside a callback of mux: makes the session, unless it stands.
 * A session that breaks is made anew by itself; without memory for that it stays down until the next call. 0, or
 * HT_ENOMEM: visitors get a 503.
 */
int relay_inner_up(struct relay_inner *in) HT_MUST_USE;
/* Ends it; whoever has a stream is told. No-op for zeros. */
void relay_inner_down(struct relay_inner *in);

#endif
