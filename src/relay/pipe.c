#include "relay/pipe.h"

#include "base/mem.h"

struct relay_pipe {
    struct io_loop *loop;
    struct io_conn *conn;
    struct mux_stream *st;
    const struct relay_pipe_ops *ops;
    void *ctx;
    struct io_out out;
    struct ht_buf early;  /* read from the connection before the pipe began, not yet pulled */
    struct io_task begin; /* looks at what happened before the pipe took over */
    struct io_timer quiet;
    uint64_t half_close_ms;
    uint64_t last_ms; /* when bytes moved last, kept only while half-closed */
    uint64_t from_conn, to_conn;
    void (*raw)(void *x, bool from_conn, struct ht_slice piece); /* NULL: no tap */
    void *raw_ctx;
    enum relay_pipe_end cut_by;
    bool conn_ended;   /* the connection gave its end */
    bool stream_ended; /* the peer sent EOF */
    bool shut;         /* ... and the connection was told */
    bool wire_over;    /* both EOFs are on the wire */
};

/* The one way out. Nothing of `p` may be touched afterwards: done() destroys it. */
static void finish(struct relay_pipe *p, uint16_t code, const char *text) {
    if (code)
        io_conn_abort(&p->conn); /* a cut must never look like a clean end */
    else
        io_conn_close(&p->conn);
    if (p->st && code)
        mux_stream_reset(p->st, code, text);
    mux_stream_release(&p->st);
    io_timer_stop(&p->quiet);
    io_task_cancel(&p->begin);
    p->ops->done(p->ctx, code, text);
}

static void watch_half_close(struct relay_pipe *p) {
    if (p->half_close_ms == 0 || p->conn_ended == p->stream_ended)
        return;
    p->last_ms = io_now_ms(p->loop);
    if (!io_timer_active(&p->quiet))
        io_timer_set(&p->quiet, p->half_close_ms);
}

static void quiet_fired(struct io_timer *t) {
    struct relay_pipe *p = ht_container_of(t, struct relay_pipe, quiet);
    if (p->conn_ended && p->stream_ended)
        return; /* only the rest of the output is left; its reader decides */
    uint64_t idle = io_now_ms(p->loop) - p->last_ms;
    if (idle < p->half_close_ms) {
        io_timer_set(&p->quiet, p->half_close_ms - idle); /* set lazily: bytes have moved since */
        return;
    }
    finish(p, WIRE_CODE_IDLE_TIMEOUT, "one side has closed, and nothing came for too long");
}

/* Writes the output, gives the credit of written bytes back, and passes the end on. False: the pipe was freed. */
static bool flush(struct relay_pipe *p) {
    ssize_t n = io_out_flush(&p->out, p->conn);
    if (n < 0) {
        finish(p, WIRE_CODE_CANCEL, io_conn_error_text(p->conn, (int)n));
        return false;
    }
    if (n > 0) {
        p->to_conn += (uint64_t)n;
        watch_half_close(p);
    }
    size_t pending = io_out_pending(&p->out);
    size_t held = mux_stream_unconsumed(p->st);
    if (held > pending)
        mux_stream_consumed(p->st, held - pending);
    if (p->stream_ended && !p->shut && pending == 0) {
        p->shut = io_conn_shutdown(p->conn) != HT_EAGAIN; /* one that fails shows as an error when reading */
        io_conn_want_write(p->conn, !p->shut);
    }
    if (p->wire_over && p->shut) {
        finish(p, WIRE_CODE_NO_ERROR, "");
        return false;
    }
    return true;
}

static void conn_readable(void *ctx) {
    struct relay_pipe *p = ctx;
    mux_stream_ready(p->st);
}

static void conn_writable(void *ctx) { flush(ctx); }

static const struct io_conn_ops pipe_conn_ops = {.readable = conn_readable, .writable = conn_writable};

static void stream_data(void *ctx, const uint8_t *bytes, size_t n) {
    struct relay_pipe *p = ctx;
    if (HT_UNLIKELY(p->raw != NULL))
        p->raw(p->raw_ctx, false, ht_slice_of(bytes, n));
    if (io_out_add(&p->out, bytes, n))
        finish(p, WIRE_CODE_INTERNAL_ERROR, "out of memory");
}

static void stream_eof(void *ctx) {
    struct relay_pipe *p = ctx;
    p->stream_ended = true;
    watch_half_close(p);
}

static void stream_data_end(void *ctx) { flush(ctx); }

static ssize_t pull(struct relay_pipe *p, const struct iovec *to, int n_to, unsigned *flags) {
    size_t early = ht_buf_size(&p->early), cap = io_iov_size(to, n_to);
    if (early) {
        size_t n = ht_min(early, to[0].iov_len);
        memcpy(to[0].iov_base, ht_buf_head(&p->early), n);
        ht_buf_consume(&p->early, n);
        if (n == early)
            ht_buf_free(&p->early);
        p->from_conn += n;
        *flags = MUX_PULL_MORE;
        return (ssize_t)n;
    }
    if (p->conn_ended) {
        *flags = MUX_PULL_EOF;
        return 0;
    }
    if (cap == 0)
        return 0;
    ssize_t n = io_conn_readv(p->conn, to, n_to, cap);
    if (n > 0) {
        p->from_conn += (uint64_t)n;
        watch_half_close(p);
        /* A short read emptied the socket: the loop tells when there is more. */
        if ((size_t)n == cap)
            *flags = MUX_PULL_MORE;
        return n;
    }
    if (n == HT_EAGAIN)
        return 0;
    if (n == HT_EOF) {
        p->conn_ended = true;
        io_conn_read_on(p->conn, false);
        watch_half_close(p);
        *flags = MUX_PULL_EOF;
        return 0;
    }
    finish(p, WIRE_CODE_CANCEL, io_conn_error_text(p->conn, (int)n));
    return HT_ECLOSED;
}

static ssize_t stream_pullv(void *ctx, const struct iovec *to, int n_to, unsigned *flags) {
    struct relay_pipe *p = ctx;
    ssize_t n = pull(p, to, n_to, flags);
    if (HT_LIKELY(n <= 0 || p->raw == NULL)) /* after an error the pipe is gone */
        return n;
    for (size_t left = (size_t)n; left > 0; to++) {
        size_t part = ht_min(left, to->iov_len);
        p->raw(p->raw_ctx, true, ht_slice_of(to->iov_base, part));
        left -= part;
    }
    return n;
}

static ssize_t stream_pull(void *ctx, uint8_t *to, size_t cap, unsigned *flags) {
    return stream_pullv(ctx, &(struct iovec){.iov_base = to, .iov_len = cap}, 1, flags);
}

static void stream_writable(void *ctx, bool yes) {
    struct relay_pipe *p = ctx;
    io_conn_read_on(p->conn, yes && !p->conn_ended);
    if (yes)
        mux_stream_ready(p->st);
}

static void stream_closed(void *ctx, uint16_t code, struct ht_slice reason, bool remote) {
    struct relay_pipe *p = ctx;
    p->cut_by = remote && code != WIRE_CODE_REFUSED_STREAM ? RELAY_PIPE_PEER : RELAY_PIPE_SESSION;
    if (code == WIRE_CODE_NO_ERROR && p->conn_ended) {
        /* In order; what is still to be written may take its time. */
        p->wire_over = true;
        p->stream_ended = true;
        flush(p);
        return;
    }
    char text[96];
    size_t n = ht_min(reason.n, sizeof text - 1);
    if (n)
        memcpy(text, reason.p, n);
    text[n] = '\0';
    /* RESET with NO_ERROR while our side was still sending: the peer wants no more, which is a cut all the same. */
    finish(p, code ? code : WIRE_CODE_CANCEL, text);
}

static const struct mux_stream_ops pipe_stream_ops = {
    .data = stream_data,
    .eof = stream_eof,
    .data_end = stream_data_end,
    .pull = stream_pull,
    .writable = stream_writable,
    .closed = stream_closed,
    .pullv = stream_pullv,
};

/* The stream may have ended, or bytes may have been left to write, before this pipe had its ops on it. */
static void begin_run(struct io_task *t) {
    struct relay_pipe *p = ht_container_of(t, struct relay_pipe, begin);
    if (!mux_stream_session(p->st)) {
        p->cut_by = RELAY_PIPE_SESSION;
        finish(p, WIRE_CODE_CANCEL, "the session is over");
        return;
    }
    if (mux_stream_is_over(p->st) && !p->wire_over) {
        p->cut_by = RELAY_PIPE_PEER;
        finish(p, WIRE_CODE_CANCEL, "the stream was reset");
        return;
    }
    if (mux_stream_remote_ended(p->st) && !p->stream_ended)
        stream_eof(p);
    flush(p);
}

struct relay_pipe *relay_pipe_start(struct io_loop *loop, struct io_conn *conn, struct mux_stream *st,
                                    struct ht_slice early, uint64_t half_close_timeout_ms,
                                    const struct relay_pipe_ops *ops, void *ctx) {
    struct relay_pipe *p = ht_calloc(1, sizeof *p);
    if (!p || ht_buf_append(&p->early, early.p, early.n)) {
        ht_free(p);
        io_conn_abort(&conn);
        mux_stream_reset(st, WIRE_CODE_INTERNAL_ERROR, "out of memory");
        mux_stream_release(&st);
        return NULL;
    }
    p->loop = loop;
    p->conn = conn;
    p->st = st;
    p->ops = ops;
    p->ctx = ctx;
    p->half_close_ms = half_close_timeout_ms;
    io_task_init(&p->begin, begin_run);
    io_timer_init(loop, &p->quiet, quiet_fired);
    io_conn_reset_on_exit(conn);
    io_conn_set_ops(conn, &pipe_conn_ops, p);
    mux_stream_set_ops(st, &pipe_stream_ops, p);
    io_conn_read_on(conn, true);
    mux_stream_ready(st);
    io_task_add(loop, &p->begin);
    return p;
}

int relay_pipe_take_out(struct relay_pipe *p, struct io_out *from) {
    int rc = io_out_spill(from);
    if (rc)
        return rc;
    io_out_free(&p->out);
    p->out = *from;
    *from = (struct io_out){.n_iov = 0};
    return HT_OK;
}

void relay_pipe_destroy(struct relay_pipe **pp) {
    struct relay_pipe *p = *pp;
    if (!p)
        return;
    *pp = NULL;
    io_timer_stop(&p->quiet);
    io_task_cancel(&p->begin);
    io_conn_abort(&p->conn);
    mux_stream_release(&p->st);
    io_out_free(&p->out);
    ht_buf_free(&p->early);
    ht_free(p);
}

void relay_pipe_abort(struct relay_pipe **pp, uint16_t code, const char *reason) {
    if (*pp)
        mux_stream_reset((*pp)->st, code, reason);
    relay_pipe_destroy(pp);
}

void relay_pipe_tap(struct relay_pipe *p, void (*raw)(void *x, bool from_conn, struct ht_slice piece), void *x) {
    p->raw = raw;
    p->raw_ctx = x;
}

enum relay_pipe_end relay_pipe_cut_by(const struct relay_pipe *p) { return p->cut_by; }

uint64_t relay_pipe_away_ms(const struct relay_pipe *p) { return mux_stream_away_ms(p->st, io_now_ms(p->loop)); }

bool relay_pipe_is_away(const struct relay_pipe *p) { return mux_stream_is_away(p->st); }

void relay_pipe_counts(const struct relay_pipe *p, uint64_t *from_conn, uint64_t *to_conn) {
    *from_conn = p->from_conn;
    *to_conn = p->to_conn;
}
