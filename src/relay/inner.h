/*
 * A session in memory: the kit's end and the driver's end in one program, without a connection between them. Visitors
 * are at one end and local services at the other. Requests are checked as strictly as between a kit and a driver,
 * because the code is the same.
 */
#ifndef HT_RELAY_INNER_H
#define HT_RELAY_INNER_H

#include "relay/kit.h"

struct relay_inner_config {
    struct relay_table *t;     /* must outlive this object */
    struct relay_owner *owner; /* owner of the visitors' bindings; must outlive this object. Its `mux` is set here */
    uint32_t max_streams;
    /* mux_session_ops.stream_open of the end of the services. */
    void (*stream_open)(void *ctx, struct mux_stream *st, const struct wire_stream_open *open);
    void (*ended)(void *ctx, const char *why); /* the session has failed, and a new one follows; may be NULL */
    void *ctx;
};

struct relay_inner;

struct relay_inner_end {
    struct relay_inner *of;
    struct mux_link *link;
    struct mux_session *mux;
};

/* A member of its owner's structure. Zero-initialised until relay_inner_init(). */
struct relay_inner {
    struct relay_inner_config cfg;
    struct relay_inner_end visitors, services;
    struct io_task pump; /* moves output of each link to the other */
    struct io_timer tick;
    bool broken;  /* the session has failed */
    bool used_up; /* the session has no stream ids left: a new one follows when its streams have ended */
};

void relay_inner_init(struct relay_inner *in, const struct relay_inner_config *cfg);
/*
 * Makes the session if there is none. Call it before each relay_inside_visit(), and not inside a callback of mux. A
 * session that fails is replaced by itself; without memory for that there is none until the next call. 0, or HT_ENOMEM:
 * visitors get a 503.
 */
int relay_inner_up(struct relay_inner *in) HT_MUST_USE;
/* Ends the session; the callbacks of its streams report it. Does nothing for a zero-initialised one. */
void relay_inner_down(struct relay_inner *in);

#endif
