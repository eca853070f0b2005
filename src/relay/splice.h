/*
 * Raw bytes between two connections, both ways, with half-close: what the kit itself has dialled for a client of the
 * CONNECT proxy.
 */
#ifndef HT_RELAY_SPLICE_H
#define HT_RELAY_SPLICE_H

#include "base/base.h"
#include "base/buf.h"
#include "io/io.h"

/* Most that is read at once, and so the most that is held for a slow reader. */
#define RELAY_SPLICE_READ (128u * 1024u)

struct relay_splice;

struct relay_splice_ops {
    /* Both directions ended, or one side failed; called once, from the loop, never from inside relay_splice_start().
     * Both connections are closed. `rc` 0: in order; `text` is static. Destroy the splice in it. */
    void (*done)(void *ctx, int rc, const char *text);
};

struct relay_splice_config {
    struct io_loop *loop;
    uint64_t idle_timeout_ms;       /* both are quiet for so long; 0: for ever */
    uint64_t half_close_timeout_ms; /* the same when one side has ended; 0: for ever */
};

/*
 * Takes both connections (and sets their ops). `early` are bytes already read from `a`, for `b` (copied); `first` are
 * for `a`, before all else: taken, and left empty. NULL: out of memory, both are closed.
 */
struct relay_splice *relay_splice_start(const struct relay_splice_config *cfg, struct io_conn *a, struct io_conn *b,
                                        struct ht_slice early, struct io_out *first, const struct relay_splice_ops *ops,
                                        void *ctx) HT_MUST_USE;
/* Aborts both. done() is not called. Clears the pointer. NULL is ignored. */
void relay_splice_destroy(struct relay_splice **s);
void relay_splice_counts(const struct relay_splice *s, uint64_t *from_a, uint64_t *to_a);

#endif
