/*
 * A pipe carries raw bytes between a connection and a stream, in both directions and with half-close. It is used at
 * both ends of PULL, and for connections after a 101.
 */
#ifndef HT_RELAY_PIPE_H
#define HT_RELAY_PIPE_H

#include "base/base.h"
#include "base/buf.h"
#include "io/io.h"
#include "mux/mux.h"

struct relay_pipe;

struct relay_pipe_ops {
    /* Both directions have ended, or one side has failed. The pipe has closed the connection and released the stream.
     * `code` is 0 for an orderly end, else the code of the RESET. Called once, never inside relay_pipe_start(). The
     * callee destroys the pipe. */
    void (*done)(void *ctx, uint16_t code, const char *text);
};

/*
 * Owns the connection and the stream from now on, and sets their ops. `early` are bytes that were read from the
 * connection already; they are copied. A half-closed pipe may be quiet for `half_close_timeout_ms`; 0: for ever. NULL:
 * out of memory; connection and stream are closed.
 */
struct relay_pipe *relay_pipe_start(struct io_loop *loop, struct io_conn *conn, struct mux_stream *st,
                                    struct ht_slice early, uint64_t half_close_timeout_ms,
                                    const struct relay_pipe_ops *ops, void *ctx) HT_MUST_USE;
/* Right after the start: sends the bytes in `from` to the connection first. They came before the pipe existed, for
 * example while the origin was dialled, or are a 101 that was not written yet. Leaves `from` empty. 0 or HT_ENOMEM. */
int relay_pipe_take_out(struct relay_pipe *p, struct io_out *from) HT_MUST_USE;
/* Resets connection and stream; done() is not called. Clears the pointer. NULL is ignored. */
void relay_pipe_destroy(struct relay_pipe **p);
/* The same, with this code and reason in the stream's RESET. */
void relay_pipe_abort(struct relay_pipe **p, uint16_t code, const char *reason);
/* Who is told of each byte: read from the connection (`from_conn`) or about to be written to it. Call it right after
 * the start. */
void relay_pipe_tap(struct relay_pipe *p, void (*raw)(void *x, bool from_conn, struct ht_slice piece), void *x);
/* Who has cut a pipe that did not end in order; for done(). */
enum relay_pipe_end { RELAY_PIPE_CONN, RELAY_PIPE_PEER, RELAY_PIPE_SESSION };
enum relay_pipe_end relay_pipe_cut_by(const struct relay_pipe *p);
/* mux_stream_away_ms() and mux_stream_is_away() of its stream. */
uint64_t relay_pipe_away_ms(const struct relay_pipe *p);
bool relay_pipe_is_away(const struct relay_pipe *p);
/* Bytes read from the connection, and bytes written to it. */
void relay_pipe_counts(const struct relay_pipe *p, uint64_t *from_conn, uint64_t *to_conn);

#endif
