/* One loop, a guard against waiting for ever, and a connection that writes down what it is told. */
#ifndef HT_TESTS_NET_SUPPORT_H
#define HT_TESTS_NET_SUPPORT_H

#include "base/buf.h"
#include "base/clock.h"
#include "base/mem.h"
#include "io/io.h"
#include "support/guard.h"
#include "support/tap.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static struct io_loop *loop;

static inline bool turn_until(const int *flag, uint64_t ms) { return loop_until(loop, flag, ms); }
static inline void turns(int n) { loop_turns(loop, n); }

/* One end of a connection. */
struct side {
    struct io_conn *c;
    size_t got, cap; /* cap: read at most this much a call */
    int ended, err, reads, writable;
    uint8_t last;
    bool close_in_readable;
};

static inline void side_readable(void *ctx) {
    struct side *s = ctx;
    static uint8_t buf[65536];
    s->reads++;
    if (s->close_in_readable) {
        io_conn_close(&s->c);
        return;
    }
    const struct iovec pieces[3] = {{buf, 100}, {buf + 100, 20000}, {buf + 20100, sizeof buf - 20100}};
    ssize_t n = io_conn_readv(s->c, pieces, 3, s->cap ? s->cap : sizeof buf);
    if (n > 0) {
        s->got += (size_t)n;
        s->last = buf[n - 1];
    } else if (n != HT_EAGAIN) {
        s->ended = 1;
        s->err = (int)n;
        io_conn_read_on(s->c, false);
    }
}

static inline void side_writable(void *ctx) {
    struct side *s = ctx;
    s->writable++;
    io_conn_want_write(s->c, false);
}

static const struct io_conn_ops side_ops = {side_readable, side_writable};

static inline ssize_t side_write(struct side *s, const void *p, size_t n) {
    struct iovec v = {.iov_base = (void *)(uintptr_t)p, .iov_len = n};
    return io_conn_write(s->c, &v, 1);
}

/* What a dial came to. */
struct dialled {
    struct side side;
    int done, err;
    char text[512];
};

static inline void dial_connected(void *ctx, struct io_conn *c) {
    struct dialled *d = ctx;
    d->side.c = c;
    io_conn_set_ops(c, &side_ops, &d->side);
    io_conn_read_on(c, true);
    d->done = 1;
}

static inline void dial_failed(void *ctx, int err, const char *text) {
    struct dialled *d = ctx;
    d->done = 1;
    d->err = err;
    snprintf(d->text, sizeof d->text, "%s", text);
}

static const struct io_dial_ops dial_ops = {.connected = dial_connected, .failed = dial_failed};

#endif
