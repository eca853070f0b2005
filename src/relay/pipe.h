/*
 * Raw bytes between a connection and a stream, both ways, with half-close: PULL on both ends, and a connection after a
 * 101.
 */
#ifndef HT_RELAY_PIPE_H
#define HT_RELAY_PIPE_H

#include "base/base.h"
#include "base/buf.h"
#include "io/io.h"
#include "mux/mux.h"

struct relay_pipe;

struct relay_pipe_ops {
    /* Both directions ended, or one side failed; called once, from the loop, never from inside relay_pipe_start(). The
     * pipe has closed the connection and released the stream. `code` 0: in order. Destroy the pipe in it. */
    void (*done)(void *ctx, uint16_t code, const char *text);
};

/*
 * Takes the connection and the stream (and sets their ops). `early` are bytes already read from the connection
 * (copied). `half_close_timeout_ms`: how long a half-closed pair may be quiet; 0: for ever. NULL: out of memory, both
 * are closed.
 */
struct relay_pipe *relay_pipe_start(struct io_loop *loop, struct io_conn *conn, struct mux_stream *st,
                                    struct ht_slice early, uint64_t half_close_timeout_ms,
                                    const struct relay_pipe_ops *ops, void *ctx) HT_MUST_USE;
/* Right after the start: bytes for the connection that came before the pipe was there (an origin that was still being
 * dialled, a 101 that is not out yet) go first. Takes what `from` holds and leaves it empty. 0 or HT_ENOMEM. */
int relay_pipe_take_out(struct relay_pipe *p, struct io_out *from) HT_MUST_USE;
/* Aborts both. done() is not called. Clears the pointer. NULL is ignored. */
void relay_pipe_destroy(struct relay_pipe **p);
/* The same with a RESET of that code for the stream. */
void relay_pipe_abort(struct relay_pipe **p, uint16_t code, const char *reason);
void relay_pipe_counts(const struct relay_pipe *p, uint64_t *from_conn, uint64_t *to_conn);

#endif
