/* mux_stream_ops.pullv for a source that has a pull(). */
#ifndef HT_TESTS_PIECES_H
#define HT_TESTS_PIECES_H

#include "mux/mux.h"

static inline ssize_t pull_pieces(ssize_t (*pull)(void *, uint8_t *, size_t, unsigned *), void *ctx,
                                  const struct iovec *to, int n, unsigned *flags) {
    size_t all = 0;
    for (int i = 0; i < n; i++) {
        *flags = 0;
        ssize_t got = pull(ctx, to[i].iov_base, to[i].iov_len, flags);
        if (got < 0)
            return got;
        all += (size_t)got;
        if ((size_t)got < to[i].iov_len || !(*flags & MUX_PULL_MORE))
            break;
    }
    return (ssize_t)all;
}

#endif
