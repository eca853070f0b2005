/*
 * Visitors that take their time: slow ones, silent ones, and those that have closed their side (hardening case 9).
 * Beside each test stands how to switch its defence off, which makes it fail; tests/hardening.yaml has the same words.
 *
 * Runs: sanitized.
 */
#include "relay/visitor_rig.h"

/* ---- one side closed ---- */

/* Whether the kit's end of a visitor's connection has TCP ask for the peer. */
static bool is_asked_for(const struct visitor *v) {
    for (int fd = 3; fd < 1024; fd++) {
        struct io_addr a = {.len = sizeof a.ss};
        char text[IO_ADDR_TEXT];
        int on = 0;
        if (fd == v->fd || getpeername(fd, (struct sockaddr *)&a.ss, &a.len) != 0)
            continue;
        if (strcmp(io_addr_text(&a, text), v->addr) == 0)
            return getsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &on, &(socklen_t){sizeof on}) == 0 && on;
    }
    return false;
}

/* Off: visitor_half_closed() calls visitor_lost(). */
static void test_half_closed(void) {
    begin();
    struct visitor v = vis_connect(port);
    vis_send(&v, GET GET);
    shutdown(v.fd, SHUT_WR);
    answer_x(1);
    vis_expect(&v, OK_X);
    opened(2);
    for (int i = 0; i < 20; i++)
        ready_turn();
    answer_x(2);
    vis_expect(&v, OK_X_CLOSE);
    vis_expect_end(&v, false);
    leave(&v);
    v = vis_connect(port);
    vis_send(&v, POST "Content-Length: 3\r\n\r\nabc");
    opened(3);
    shutdown(v.fd, SHUT_WR);
    for (int i = 0; i < 20; i++)
        ready_turn();
    answer_x(3);
    vis_expect(&v, OK_X_CLOSE);
    vis_expect_end(&v, false);
    CU_ASSERT_EQUAL(d.streams[2].reset, -1);
    leave(&v);
    end();
}

/* A slow answer: nothing comes before it, and one that is cut is noticed. Off: look_at_half_closed() sends an interim
 * head; or does not look, and the stream of the one that left stays. */
static void test_half_closed_slow_answer(void) {
    begin();
    struct visitor v = vis_connect(port), gone = vis_connect(port);
    vis_send(&v, GET);
    opened(1);
    vis_send(&gone, GET);
    opened(2);
    shutdown(v.fd, SHUT_WR);
    shutdown(gone.fd, SHUT_WR);
    settle();
    for (int i = 0; i < 3; i++) {
        ht_clock_skip(60000000);
        settle();
    }
    CU_ASSERT(is_asked_for(&gone));
    leave_soon(&gone);
    UNTIL(d.streams[1].reset == WIRE_CODE_CANCEL);
    CU_ASSERT_EQUAL(vis_got(&v), 0);
    answer_x(1);
    vis_expect(&v, OK_X_CLOSE);
    vis_expect_end(&v, false);
    leave(&v);
    end();
}

/* An answer may take longer than a pulled connection may be quiet. Off: the half-close timeout in
 * look_at_half_closed(). */
static void a_half_closed_visitor_may_wait_long_for_its_answer(void) {
    begin_with(50, 300000);
    struct visitor old = vis_connect(port), begun = vis_connect(port);
    vis_send(&old, "GET / HTTP/1.0\r\n\r\n");
    shutdown(old.fd, SHUT_WR);
    opened(1);
    vis_send(&begun, GET);
    drv_head(&d, opened(2)->id, 200, "content-length: 1");
    drv_send(&d);
    vis_expect(&begun, "HTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\n");
    shutdown(begun.fd, SHUT_WR);
    uint64_t until = ht_now_ms() + 250;
    UNTIL(ht_now_ms() >= until);
    CU_ASSERT_EQUAL(d.streams[0].reset, -1);
    CU_ASSERT_EQUAL(d.streams[1].reset, -1);
    answer_x(1);
    drv_text(&d, d.streams[1].id, "x");
    drv_eof(&d, d.streams[1].id);
    drv_send(&d);
    vis_expect(&begun, "x");
    vis_expect_end(&begun, false);
    vis_expect(&old, OK_X_CLOSE);
    vis_expect_end(&old, false);
    vis_close(&begun);
    leave(&old);
    end();
}

/* Where nothing may be said the quiet has an end: an answer that has begun. */
static void test_half_closed_and_quiet(void) {
    begin_with(30000, 50);
    struct visitor v = vis_connect(port);
    vis_send(&v, GET);
    struct played_stream *st = opened(1);
    drv_head(&d, st->id, 200, NULL);
    drv_text(&d, st->id, "x");
    drv_send(&d);
    vis_expect(&v, "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n1\r\nx\r\n");
    shutdown(v.fd, SHUT_WR);
    UNTIL(st->reset == WIRE_CODE_CANCEL);
    vis_expect_end(&v, true);
    leave(&v);
    end();
}

/* ---- slowness, hardening case 9 ---- */

static void begin_impatient(void) {
    rig_start();
    rig.cfg.head_timeout_ms = 120;
    rig.cfg.body_grace_ms = 100;
    rig.cfg.send_timeout_ms = 300;
    rig_table();
    drv_start(&d);
    port = rig_expose(&d);
}

/* One byte of a head in each 20 ms: the deadline is absolute. Off: visitor_deadline() for every read in
 * head_incomplete(). */
static void a_head_that_trickles_in_ends_at_the_deadline(void) {
    begin_impatient();
    struct visitor v = vis_connect(port);
    static const char head[] =
        "GET /aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";
    for (size_t i = 0; i < sizeof head - 1 && vis_got(&v) == 0; i++) {
        uint64_t next = ht_now_ms() + 20;
        (void)!send(v.fd, head + i, 1, MSG_NOSIGNAL);
        UNTIL(ht_now_ms() >= next);
    }
    CU_ASSERT(vis_got(&v) > 0); /* while it was still being sent */
    vis_expect(&v, ANSWER("408 Request Timeout", CLOSE, "20", "request head timeout"));
    vis_expect_end(&v, false);
    leave(&v);
    end();
}

/* A body that always moves, but too slowly. Off: min_body_rate = 0. */
static void a_body_below_the_least_rate_gets_408(void) {
    static char block[5000];
    begin_impatient();
    rig.fds.total = rig.fds.used + 2; /* with two visitors all are taken */
    struct visitor fast = vis_connect(port), v = vis_connect(port);
    /* 5,000 bytes pay for ten seconds. */
    vis_send(&fast, POST "Content-Length: 5001\r\n\r\n");
    vis_send_bytes(&fast, block, sizeof block);
    opened(1);
    vis_send(&v, POST "Transfer-Encoding: chunked\r\n\r\n");
    for (uint64_t end = ht_now_ms() + PATIENCE_MS; vis_got(&v) == 0 && ht_now_ms() < end;) {
        uint64_t next = ht_now_ms() + 10;
        (void)!send(v.fd, "1\r\na\r\n", 6, MSG_NOSIGNAL);
        UNTIL(ht_now_ms() >= next);
    }
    vis_expect(&v, ANSWER("408 Request Timeout", CLOSE, "20", "request body timeout"));
    UNTIL(d.streams[1].reset == WIRE_CODE_CANCEL);
    vis_expect_end(&v, false);
    vis_close(&v);
    CU_ASSERT_EQUAL(d.streams[0].reset, -1);
    rig.fds.total = 200;
    vis_send(&fast, "x");
    answer_x_to_all(1);
    vis_expect(&fast, OK_X);
    leave(&fast);
    end();
}

static void few_turns(void) {
    for (int i = 0; i < 5; i++)
        ready_turn();
}

/* `(echo; sleep 22; echo) | curl -T -`: nobody else waits. Off: the rate counts although nothing is short. */
static void test_pausing_upload(void) {
    begin();
    struct visitor v = vis_connect(port);
    vis_send(&v, POST "Transfer-Encoding: chunked\r\n\r\n1\r\n\n\r\n");
    UNTIL(ht_buf_size(&opened(1)->body) == 1);
    for (int i = 0; i < 30; i++) {
        ht_clock_skip(2000000);
        few_turns();
    }
    CU_ASSERT_EQUAL(vis_got(&v), 0);
    vis_send(&v, "1\r\n\n\r\n0\r\n\r\n");
    UNTIL(d.streams[0].eofs == 1);
    answer_x(1);
    vis_expect(&v, OK_X);
    /* When it gets short, one that was spared is not. */
    struct visitor other = vis_connect(port);
    vis_send(&other, POST "Transfer-Encoding: chunked\r\n\r\n1\r\n\n\r\n");
    UNTIL(ht_buf_size(&opened(2)->body) == 1);
    for (int i = 0; i < 15; i++) {
        ht_clock_skip(2000000);
        few_turns();
    }
    CU_ASSERT_EQUAL(vis_got(&other), 0);
    rig.fds.total = rig.fds.used;
    ht_clock_skip(2000000);
    vis_expect(&other, ANSWER("408 Request Timeout", CLOSE, "20", "request body timeout"));
    UNTIL(d.streams[1].reset == WIRE_CODE_CANCEL);
    rig.fds.total = 200;
    vis_close(&other);
    leave(&v);
    end();
}

/* Streams of the session are short as descriptors are. Off: mux_session_short() does not count them. */
static void test_slow_body_and_few_streams(void) {
    begin_impatient();
    struct visitor v = vis_connect(port);
    struct visitor others[RIG_STREAMS];
    unsigned n = 0;
    vis_send(&v, POST "Content-Length: 5\r\n\r\na");
    opened(1);
    ht_clock_skip(2000000);
    settle();
    CU_ASSERT_EQUAL(vis_got(&v), 0);
    rig.fds.total = 2000;
    while (mux_session_streams(d.s) * 4 < d.cfg.max_streams * 3) {
        others[n] = vis_connect(port);
        vis_send(&others[n++], GET);
        opened(n + 1);
    }
    ht_clock_skip(2000000);
    vis_expect(&v, ANSWER("408 Request Timeout", CLOSE, "20", "request body timeout"));
    while (n > 0)
        leave_soon(&others[--n]);
    leave(&v);
    end();
}

/* Nothing came: nothing is said. Off: `fresh` is enough for a 408 in timer_fired(). */
static void test_silent(void) {
    begin_impatient();
    struct visitor v = vis_connect(port);
    settle();
    CU_ASSERT_EQUAL(relay_count_visitors(rig.table), 1);
    ht_clock_skip(200000);
    vis_expect_end(&v, false);
    CU_ASSERT_EQUAL(vis_got(&v), 0);
    leave(&v);
    end();
}

/* The time in which the driver takes nothing is not the visitor's. Off: body_due_ms stays where it is in
 * stream_writable(). */
static void test_body_held_up_by_the_driver(void) {
    static char block[WIRE_LIMIT_STREAM_WINDOW];
    rig_start();
    rig.cfg.body_grace_ms = 1500;
    rig.cfg.min_body_rate = 1000000000; /* what has come pays for nothing: only the grace counts */
    rig_table();
    drv_start(&d);
    port = rig_expose(&d);
    d.no_windows = true;
    struct visitor v = vis_connect(port);
    char head[128];
    snprintf(head, sizeof head, POST "Content-Length: %u\r\n\r\n", WIRE_LIMIT_STREAM_WINDOW + 2);
    vis_send(&v, head);
    struct played_stream *st = opened(1);
    vis_send_bytes(&v, block, sizeof block);
    vis_send(&v, "x");
    UNTIL(ht_buf_size(&st->body) == sizeof block);
    uint64_t later = ht_now_ms() + 1700;
    UNTIL(ht_now_ms() >= later);
    CU_ASSERT_EQUAL(vis_got(&v), 0);
    d.no_windows = false;
    drv_window(&d, st->id, WIRE_LIMIT_STREAM_WINDOW);
    drv_window(&d, 0, WIRE_LIMIT_STREAM_WINDOW);
    drv_send(&d);
    later = ht_now_ms() + 100;
    UNTIL(ht_now_ms() >= later);
    CU_ASSERT_EQUAL(vis_got(&v), 0);
    vis_send(&v, "y");
    UNTIL(st->eofs == 1);
    answer_x(1);
    vis_expect(&v, OK_X);
    leave(&v);
    end();
}

/* A visitor that stops reading for good, the answer still under way. Off: active_timeout() returns when headed. */
static void test_stalled_reader(void) {
    static char block[65536];
    begin_impatient();
    struct visitor v = vis_connect(port);
    setsockopt(v.fd, SOL_SOCKET, SO_RCVBUF, &(int){4096}, sizeof(int));
    vis_send(&v, GET);
    struct played_stream *st = opened(1);
    drv_head(&d, st->id, 200, NULL);
    drv_send(&d);
    size_t sent = 0;
    /* More than the kernel takes, within the window: the rest waits in the kit. */
    while (st->reset < 0 && sent < 64u << 20) {
        if (sent + sizeof block <= WIRE_LIMIT_STREAM_WINDOW + st->window) {
            drv_data(&d, st->id, block, sizeof block);
            sent += sizeof block;
        } else {
            UNTIL(st->reset >= 0 || sent + sizeof block <= WIRE_LIMIT_STREAM_WINDOW + st->window);
        }
        drv_send(&d);
        one_turn();
    }
    CU_ASSERT_EQUAL(st->reset, WIRE_CODE_CANCEL);
    struct visitor other = vis_connect(port);
    vis_send(&other, GET);
    answer_x(2);
    vis_expect(&other, OK_X);
    vis_close(&v);
    leave(&other);
    end();
}

int main(void) {
    static const struct tap_test tests[] = {
        {"a half-closed visitor gets its answers", test_half_closed},
        {"a half-closed visitor gets a slow answer", test_half_closed_slow_answer},
        {"a half-closed visitor may wait long for its answer", a_half_closed_visitor_may_wait_long_for_its_answer},
        {"a half-closed visitor of an answer that stopped is let go", test_half_closed_and_quiet},
        {"a head that trickles in ends at the deadline", a_head_that_trickles_in_ends_at_the_deadline},
        {"a body below the least rate gets 408", a_body_below_the_least_rate_gets_408},
        {"a slow body gives way when streams are short", test_slow_body_and_few_streams},
        {"an upload may pause while nothing is short", test_pausing_upload},
        {"a visitor that sends nothing is closed", test_silent},
        {"a body that the driver holds up is not late", test_body_held_up_by_the_driver},
        {"a visitor that stops reading is dropped", test_stalled_reader},
        {NULL, NULL},
    };
    return tap_main("relay visitor and time", tests);
}
