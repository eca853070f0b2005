/*
 * A splice carries raw bytes between two connections, in both directions and with half-close. The CONNECT proxy uses it
 * for destinations that the kit itself has dialled.
 */
#ifndef HT_RELAY_SPLICE_H
#define HT_RELAY_SPLICE_H

#include "base/base.h"
#include "base/buf.h"
#include "io/io.h"

/* Most bytes that are read at once. A splice holds at most as many for a slow reader. */
#define RELAY_SPLICE_READ (128u * 1024u)

struct relay_splice;

struct relay_splice_ops {
    /* Both directions have ended, or one side has failed; both connections are closed. `rc` is 0 for an orderly end,
     * else an error; `text` is static. Called once, never inside relay_splice_start(). The callee destroys the splice.
     */
    void (*done)(void *ctx, int rc, const char *text);
};

struct relay_splice_config {
    struct io_loop *loop;
    uint64_t idle_timeout_ms;       /* how long both directions may be quiet; 0: for ever */
    uint64_t half_close_timeout_ms; /* the same once one side has ended; 0: for ever */
};

/*
 * Owns both connections from now on, and sets their ops. `early` are bytes that were read from `a` already, for `b`;
 * they are copied. `first` has the bytes that go to `a` before all others; it is left empty. NULL: out of memory; both
 * are closed.
 */
struct relay_splice *relay_splice_start(const struct relay_splice_config *cfg, struct io_conn *a, struct io_conn *b,
                                        struct ht_slice early, struct io_out *first, const struct relay_splice_ops *ops,
                                        void *ctx) HT_MUST_USE;
/* Resets both connections; done() is not called. Clears the pointer. NULL is ignored. */
void relay_splice_destroy(struct relay_splice **s);
/* Bytes read from `a`, and bytes written to it. */
void relay_splice_counts(const struct relay_splice *s, uint64_t *from_a, uint64_t *to_a);

#endif
