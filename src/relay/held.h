/* A stream at the driver's end whose request waits for a decision. What comes on it meanwhile is kept; the stream's
 * window bounds it. */
#ifndef HT_RELAY_HELD_H
#define HT_RELAY_HELD_H

#include "base/base.h"
#include "mux/mux.h"
#include "wire_gen.h"

struct relay_held;

/* Accepts the stream, owns it, and copies `open`. left() is called when the visitor has left, or there is no memory for
 * what comes: the relay_held no longer exists. NULL: out of memory; the stream was reset. */
struct relay_held *relay_held_start(struct mux_stream *st, const struct wire_stream_open *open, void (*left)(void *ctx),
                                    void *ctx) HT_MUST_USE;
const struct wire_stream_open *relay_held_open(const struct relay_held *h);
/* Passes the stream on: take() owns it and gives it other ops, and gets the request, which is valid during the call.
 * What was kept comes to those ops. Clears the pointer. */
void relay_held_go(struct relay_held **h,
                   void (*take)(void *ctx, struct mux_stream *st, const struct wire_stream_open *open), void *ctx);
/* Resets the stream; left() is not called. Clears the pointer. NULL is ignored. */
void relay_held_cut(struct relay_held **h, uint16_t code, const char *reason);

#endif
