/* Raw bytes both ways: visitors of a pull port, and the pipe below them. */
#include "relay/kit_rig.h"
#include "relay/pipe.h"

static struct driver d;
static uint16_t port;

static void begin_with(uint64_t half_close_ms, bool own_peer) {
    rig_start();
    rig.cfg.half_close_timeout_ms = half_close_ms;
    rig_table();
    drv_start(&d);
    d.owner.own_peer = own_peer;
    port = rig_pull(&d);
}

static void begin(void) { begin_with(30000, true); }

static void end(void) {
    UNTIL(relay_count_visitors(rig.table) == 0);
    CU_ASSERT_EQUAL(mux_session_streams(d.s), 0);
    drv_stop(&d);
    rig_stop();
}

static struct played_stream *opened(unsigned n) {
    UNTIL(d.n_streams >= n);
    return &d.streams[n - 1];
}

static bool body_is(const struct played_stream *st, const char *text) {
    return ht_buf_size(&st->body) == strlen(text) && memcmp(ht_buf_head(&st->body), text, strlen(text)) == 0;
}

static void test_both_ways(void) {
    begin();
    struct visitor v = vis_connect(port);
    struct played_stream *st = opened(1);
    char want[256];
    snprintf(want, sizeof want, "{\"kind\":\"tcp\",\"bindId\":1,\"containerPort\":%u,\"peerAddr\":\"%s\"}", port,
             v.addr);
    CU_ASSERT_STRING_EQUAL(st->open, want);
    vis_send(&v, "ping");
    UNTIL(ht_buf_size(&st->body) == 4);
    CU_ASSERT(body_is(st, "ping"));
    drv_text(&d, 2, "po");
    drv_text(&d, 2, "ng");
    drv_send(&d);
    vis_expect(&v, "pong");
    /* the visitor ends first; the other direction goes on (rule TCP-1) */
    shutdown(v.fd, SHUT_WR);
    UNTIL(st->eofs == 1);
    drv_text(&d, 2, "after");
    drv_send(&d);
    vis_expect(&v, "after");
    drv_eof(&d, 2);
    drv_send(&d);
    vis_expect_end(&v, false);
    CU_ASSERT_EQUAL(st->reset, -1);
    vis_close(&v);
    end();
}

static void test_driver_ends_first(void) {
    begin();
    struct visitor v = vis_connect(port);
    struct played_stream *st = opened(1);
    drv_text(&d, 2, "bye");
    drv_eof(&d, 2);
    drv_send(&d);
    vis_expect(&v, "bye");
    vis_expect_end(&v, false);
    v.ended = false;
    vis_send(&v, "still here");
    UNTIL(ht_buf_size(&st->body) == 10);
    vis_close(&v);
    UNTIL(st->eofs == 1);
    end();
}

static void a_reset_or_a_cut_on_one_side_is_a_cut_on_the_other(void) {
    begin();
    struct visitor v = vis_connect(port);
    opened(1);
    drv_text(&d, 2, "x");
    drv_reset(&d, 2, WIRE_CODE_REFUSED_STREAM);
    drv_send(&d);
    UNTIL(vis_over(&v));
    CU_ASSERT(v.cut);
    vis_close(&v);
    v = vis_connect(port); /* a RESET with code 0 is a cut too */
    opened(2);
    drv_reset(&d, 4, WIRE_CODE_NO_ERROR);
    drv_send(&d);
    vis_expect_end(&v, true);
    vis_close(&v);
    v = vis_connect(port); /* the visitor's RST */
    struct played_stream *st = opened(3);
    vis_send(&v, "abc");
    UNTIL(ht_buf_size(&st->body) == 3);
    setsockopt(v.fd, SOL_SOCKET, SO_LINGER, &(struct linger){1, 0}, sizeof(struct linger));
    vis_close(&v);
    UNTIL(st->reset == WIRE_CODE_CANCEL);
    v = vis_connect(port); /* the session goes */
    opened(4);
    drv_drop(&d);
    vis_expect_end(&v, true);
    vis_close(&v);
    UNTIL(relay_count_visitors(rig.table) == 0);
    v = vis_connect(port); /* parked: closed at once */
    UNTIL(vis_over(&v));
    vis_close(&v);
    drv_stop(&d);
    rig_stop();
}

static void without_a_permit_or_a_stream_the_visitor_is_closed(void) {
    begin();
    rig.fds.total = rig.fds.used + 1;
    struct visitor v = vis_connect(port), w = vis_connect(port);
    opened(1);
    UNTIL(vis_over(&w));
    CU_ASSERT_EQUAL(ht_buf_size(&w.rx), 0);
    vis_close(&w);
    CU_ASSERT_EQUAL(d.n_streams, 1);
    vis_close(&v);
    UNTIL(d.streams[0].eofs == 1);
    drv_eof(&d, 2);
    drv_send(&d);
    end();
    begin();
    d.s = d.owner.mux;
    struct visitor many[128];
    for (unsigned i = 0; i < 128; i++)
        many[i] = vis_connect(port);
    opened(128);
    w = vis_connect(port);
    UNTIL(vis_over(&w));
    vis_close(&w);
    for (unsigned i = 0; i < 128; i++) {
        setsockopt(many[i].fd, SOL_SOCKET, SO_LINGER, &(struct linger){1, 0}, sizeof(struct linger));
        vis_close(&many[i]);
    }
    end();
}

static void test_quiet_half_close(void) {
    begin_with(40, false);
    struct visitor v = vis_connect(port), w = vis_connect(port);
    struct played_stream *st = opened(2);
    (void)st;
    vis_send(&v, "x");
    shutdown(v.fd, SHUT_WR);
    vis_expect_end(&v, true);
    vis_close(&v);
    unsigned reset = 0;
    for (unsigned i = 0; i < 2; i++)
        reset += d.streams[i].reset == WIRE_CODE_IDLE_TIMEOUT;
    CU_ASSERT_EQUAL(reset, 1);
    CU_ASSERT_EQUAL(relay_count_visitors(rig.table), 1); /* one that is whole may be quiet */
    setsockopt(w.fd, SOL_SOCKET, SO_LINGER, &(struct linger){1, 0}, sizeof(struct linger));
    vis_close(&w);
    end();
}

/* Megabytes both ways at once, with a visitor that reads in small pieces. */
static void megabytes_both_ways_at_once_arrive_whole(void) {
    static uint8_t block[50021];
    begin();
    struct visitor v = vis_connect(port);
    struct played_stream *st = opened(1);
    for (size_t i = 0; i < sizeof block; i++)
        block[i] = (uint8_t)(i * 2654435761u >> 23);
    size_t total = 100 * sizeof block, up = 0, down = 0, got = 0;
    uint64_t end_ms = ht_now_ms() + PATIENCE_MS;
    while ((up < total || got < total || ht_buf_size(&st->body) < total) && ht_now_ms() < end_ms) {
        if (up < total) {
            size_t at = up % sizeof block;
            ssize_t n = send(v.fd, block + at, sizeof block - at, MSG_NOSIGNAL);
            up += n > 0 ? (size_t)n : 0;
        }
        if (down < total && down + sizeof block <= (size_t)WIRE_LIMIT_STREAM_WINDOW + st->window) {
            drv_data(&d, 2, block, sizeof block);
            drv_send(&d);
            down += sizeof block;
        }
        vis_read(&v, 30000);
        for (size_t n; (n = ht_buf_size(&v.rx)) > 0;) {
            n = ht_min(n, sizeof block - got % sizeof block);
            CU_ASSERT_FATAL(memcmp(ht_buf_head(&v.rx), block + got % sizeof block, n) == 0);
            ht_buf_consume(&v.rx, n);
            got += n;
        }
        one_turn();
    }
    CU_ASSERT_EQUAL(got, total);
    CU_ASSERT_EQUAL_FATAL(ht_buf_size(&st->body), total);
    bool same = true;
    for (size_t at = 0; at < total; at += sizeof block)
        same = same && memcmp(ht_buf_head(&st->body) + at, block, sizeof block) == 0;
    CU_ASSERT(same);
    drv_eof(&d, 2);
    drv_send(&d);
    vis_expect_end(&v, false);
    vis_close(&v);
    UNTIL(st->eofs == 1);
    end();
}

static void a_stalled_reader_holds_one_window_and_no_more(void) {
    static uint8_t block[65536];
    begin();
    struct visitor v = vis_connect(port);
    struct played_stream *st = opened(1);
    size_t sent = 0;
    for (int quiet = 0; quiet < 20; quiet++) {
        if (sent + sizeof block <= (size_t)WIRE_LIMIT_STREAM_WINDOW + st->window) {
            drv_data(&d, 2, block, sizeof block);
            sent += sizeof block;
            quiet = 0;
        }
        drv_send(&d);
        one_turn();
    }
    drv_eof(&d, 2);
    drv_send(&d);
    size_t got = 0;
    UNTIL((got = vis_got(&v), v.ended || v.cut));
    CU_ASSERT(v.ended);
    CU_ASSERT_EQUAL(got, sent);
    vis_close(&v);
    end();
}

/* ---- the pipe by itself ---- */

struct own_pipe {
    struct relay_pipe *pipe;
    unsigned dones;
    uint16_t code;
    uint64_t in, out;
};

static void own_done(void *ctx, uint16_t code, const char *text) {
    struct own_pipe *o = ctx;
    CU_ASSERT_PTR_NOT_NULL(text);
    o->dones++;
    o->code = code;
    relay_pipe_counts(o->pipe, &o->in, &o->out);
    relay_pipe_destroy(&o->pipe);
}

static const struct relay_pipe_ops own_ops = {.done = own_done};
static const struct mux_stream_ops no_ops = {.writable = NULL};

static struct mux_stream *own_stream(void) {
    struct wire_stream_open open = {.kind = WIRE_KIND_TCP, .bind_id = 1};
    struct mux_stream *st;
    CU_ASSERT_EQUAL_FATAL(mux_stream_open(d.s, &open, &no_ops, NULL, &st), 0);
    return st;
}

static void test_early_bytes(void) {
    begin();
    int fds[2];
    CU_ASSERT_EQUAL_FATAL(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fds), 0);
    struct own_pipe o = {.dones = 0};
    struct io_conn *conn = io_conn_adopt(rig.loop, fds[0], NULL, NULL);
    struct mux_stream *st = own_stream();
    struct io_out before = {.n_iov = 0};
    CU_ASSERT_EQUAL(io_out_add(&before, "head ", 5), 0);
    o.pipe = relay_pipe_start(rig.loop, conn, st, ht_slice_str("early "), 0, &own_ops, &o);
    CU_ASSERT_PTR_NOT_NULL_FATAL(o.pipe);
    CU_ASSERT_EQUAL(relay_pipe_take_out(o.pipe, &before), 0);
    CU_ASSERT_EQUAL(io_out_pending(&before), 0);
    struct visitor v = {.fd = fds[1]};
    vis_send(&v, "later");
    struct played_stream *seen = opened(1);
    drv_text(&d, 2, "tail");
    drv_eof(&d, 2);
    drv_send(&d);
    vis_expect(&v, "head tail");
    UNTIL(ht_buf_size(&seen->body) == 11);
    CU_ASSERT(body_is(seen, "early later"));
    vis_close(&v);
    UNTIL(o.dones == 1);
    CU_ASSERT_EQUAL(o.code, 0);
    CU_ASSERT_EQUAL(o.in, 11);
    CU_ASSERT_EQUAL(o.out, 9);
    CU_ASSERT_EQUAL(seen->eofs, 1);
    end();
}

static void test_destroyed(void) {
    begin();
    int fds[2];
    CU_ASSERT_EQUAL_FATAL(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fds), 0);
    struct own_pipe o = {.dones = 0};
    struct io_conn *conn = io_conn_adopt(rig.loop, fds[0], NULL, NULL);
    o.pipe = relay_pipe_start(rig.loop, conn, own_stream(), ht_slice_of(NULL, 0), 0, &own_ops, &o);
    CU_ASSERT_PTR_NOT_NULL_FATAL(o.pipe);
    relay_pipe_destroy(&o.pipe);
    relay_pipe_destroy(&o.pipe);
    struct visitor v = {.fd = fds[1]};
    UNTIL(vis_over(&v));
    UNTIL(opened(1)->reset == WIRE_CODE_CANCEL);
    CU_ASSERT_EQUAL(o.dones, 0);
    vis_close(&v);
    /* a stream that is dead before the pipe gets its first turn */
    CU_ASSERT_EQUAL_FATAL(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fds), 0);
    conn = io_conn_adopt(rig.loop, fds[0], NULL, NULL);
    struct mux_stream *st = own_stream();
    mux_stream_reset(st, WIRE_CODE_CANCEL, "");
    o.pipe = relay_pipe_start(rig.loop, conn, st, ht_slice_of(NULL, 0), 0, &own_ops, &o);
    CU_ASSERT_PTR_NOT_NULL_FATAL(o.pipe);
    CU_ASSERT_EQUAL(o.dones, 0);
    UNTIL(o.dones == 1);
    CU_ASSERT_EQUAL(o.code, WIRE_CODE_CANCEL);
    close(fds[1]);
    end();
}

static void any_allocation_may_fail(void) {
    for (long i = 0; i < 30; i++) {
        begin();
        struct visitor v = vis_connect(port);
        d.may_end = true;
        ht_mem_fail_at(i);
        for (int turn = 0; turn < 5; turn++) {
            if (turn == 2)
                (void)!send(v.fd, "abc", 3, MSG_NOSIGNAL);
            if (turn == 3 && d.n_streams && mux_session_streams(d.s)) {
                drv_text(&d, 2, "hello");
                drv_send(&d);
            }
            one_turn();
        }
        ht_mem_fail_at(-1);
        setsockopt(v.fd, SOL_SOCKET, SO_LINGER, &(struct linger){1, 0}, sizeof(struct linger));
        vis_close(&v);
        UNTIL(relay_count_visitors(rig.table) == 0);
        drv_stop(&d);
        rig_stop();
    }
}

int main(void) {
    static const struct tap_test tests[] = {
        {"bytes pass both ways, with half-close", test_both_ways},
        {"the driver may end first", test_driver_ends_first},
        {"a reset or a cut on one side is a cut on the other", a_reset_or_a_cut_on_one_side_is_a_cut_on_the_other},
        {"without a permit or a stream the visitor is closed", without_a_permit_or_a_stream_the_visitor_is_closed},
        {"a quiet half-closed stream ends", test_quiet_half_close},
        {"megabytes both ways at once arrive whole", megabytes_both_ways_at_once_arrive_whole},
        {"a stalled reader holds one window and no more", a_stalled_reader_holds_one_window_and_no_more},
        {"bytes from before the pipe go first", test_early_bytes},
        {"a pipe may be destroyed, or fail before it begins", test_destroyed},
        {"any allocation may fail", any_allocation_may_fail},
        {NULL, NULL},
    };
    return tap_main("relay pipe", tests);
}
