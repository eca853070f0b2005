/* Streams that survive a lost link, against a kit that the test plays. */
#include "driver/kit_script.h"

#include <sys/socket.h>

#define HOUR_MS 3600000u
#define BIG (3u << 20)

/* ---- a service: says back what it hears, or is quiet ---- */

struct service_conn {
    struct io_conn *c;
    size_t heard;
    bool eof, reset;
};

static struct io_listener *service;
static char target[IO_ADDR_TEXT];
static struct service_conn served[8];
static unsigned n_served;
static bool quiet;

static void service_readable(void *ctx) {
    static char bytes[65536];
    struct service_conn *e = ctx;
    ssize_t n = io_conn_read(e->c, bytes, sizeof bytes);
    if (n == HT_EAGAIN)
        return;
    if (n <= 0) {
        e->eof = n == HT_EOF;
        e->reset = !e->eof;
        io_conn_read_on(e->c, false);
        if (e->reset)
            io_conn_close(&e->c);
        else
            CU_ASSERT_EQUAL(io_conn_shutdown(e->c), 0);
        return;
    }
    e->heard += (size_t)n;
    struct iovec v = {.iov_base = bytes, .iov_len = (size_t)n};
    if (!quiet)
        CU_ASSERT_EQUAL(io_conn_write(e->c, &v, 1), n);
}

static void service_accepted(void *ctx, struct io_conn *c, const struct io_addr *peer) {
    static const struct io_conn_ops ops = {.readable = service_readable};
    (void)ctx, (void)peer;
    CU_ASSERT_FATAL(n_served < HT_ARRAY_LEN(served));
    served[n_served] = (struct service_conn){.c = c};
    io_conn_set_ops(c, &ops, &served[n_served++]);
    io_conn_read_on(c, true);
}

static void service_says(const char *text) {
    struct iovec v = {.iov_base = (void *)(uintptr_t)text, .iov_len = strlen(text)};
    CU_ASSERT_EQUAL(io_conn_write(served[0].c, &v, 1), (ssize_t)strlen(text));
}

/* Bytes that differ from each other. */
static uint8_t byte_at(size_t i) { return (uint8_t)(i * 31 + i / 256); }

/* ---- the kit's streams ---- */

struct flow {
    struct mux_stream *st;
    struct ht_buf out, in;
    bool ends, eof;
    unsigned closes;
    int code;
};

static void flow_data(void *ctx, const uint8_t *p, size_t n) {
    struct flow *f = ctx;
    CU_ASSERT_EQUAL(ht_buf_append(&f->in, p, n), 0);
    mux_stream_consumed(f->st, n);
}

static void flow_eof(void *ctx) { ((struct flow *)ctx)->eof = true; }

static ssize_t flow_pull(void *ctx, uint8_t *out, size_t cap, unsigned *flags) {
    struct flow *f = ctx;
    size_t n = ht_min(cap, ht_buf_size(&f->out));
    if (n)
        memcpy(out, ht_buf_head(&f->out), n);
    ht_buf_consume(&f->out, n);
    *flags = ht_buf_size(&f->out) ? MUX_PULL_MORE : f->ends ? MUX_PULL_EOF : 0;
    return (ssize_t)n;
}

static void flow_closed(void *ctx, uint16_t code, struct ht_slice reason, bool remote) {
    struct flow *f = ctx;
    (void)reason, (void)remote;
    f->closes++;
    f->code = code;
}

static const struct mux_stream_ops flow_ops = {
    .data = flow_data, .eof = flow_eof, .data_end = play_nothing, .pull = flow_pull, .closed = flow_closed};

static void flow_open(struct flow *f, uint32_t bind_id) {
    struct wire_stream_open open = {.kind = WIRE_KIND_TCP, .bind_id = bind_id};
    *f = (struct flow){.st = NULL};
    CU_ASSERT_EQUAL_FATAL(mux_stream_open(w.s, &open, &flow_ops, f, &f->st), 0);
}

static void flow_say(struct flow *f, const void *p, size_t n) {
    CU_ASSERT_EQUAL_FATAL(ht_buf_append(&f->out, p, n), 0);
    mux_stream_ready(f->st);
}

static void flow_word(struct flow *f, const char *word) { flow_say(f, word, strlen(word)); }

static bool flow_has(struct flow *f, const char *word) {
    size_t n = strlen(word);
    return ht_buf_size(&f->in) == n && memcmp(ht_buf_head(&f->in), word, n) == 0;
}

static void flow_end(struct flow *f) {
    mux_stream_release(&f->st);
    ht_buf_free(&f->out);
    ht_buf_free(&f->in);
}

/* ---- the scene ---- */

static struct flow f;

static void ready(void) {
    static const struct io_listener_ops ops = {.accepted = service_accepted};
    struct io_addr at;
    world_start();
    w.caps = WIRE_CAP_STREAM_RESUME;
    w.retry_for_ms = HT_NO_RETRY - 1;
    w.retry_min_ms = 1;
    n_served = 0;
    quiet = false;
    memset(served, 0, sizeof served);
    CU_ASSERT_EQUAL_FATAL(io_addr_parse(&at, "127.0.0.1", 0), 0);
    CU_ASSERT_EQUAL_FATAL(io_listen(w.loop, &at, &ops, NULL, &service, NULL), 0);
    io_listener_local(service, &at);
    io_addr_text(&at, target);
}

/* A tunnel with a pulled port, and a connection to it over which something was said. */
static void set_out(void) {
    world_tunnel(NULL);
    CU_ASSERT_EQUAL_FATAL(bind_one(HT_PULL_TCP, target, 0), 1);
    CU_ASSERT_EQUAL_FATAL(ht_tunnel_connect(w.t), HT_TUNNEL_OK);
    UNTIL(w.bound);
    flow_open(&f, 1);
    flow_word(&f, "one ");
    UNTIL(flow_has(&f, "one "));
}

static void go(void) {
    ready();
    set_out();
}

static void done(void) {
    flow_end(&f);
    for (unsigned i = 0; i < n_served; i++)
        io_conn_close(&served[i].c);
    io_listener_close(&service);
    world_stop();
}

/* The driver's end of the link fails: nothing that is on its way arrives. */
static void network_fails(void) {
    static char gone[65536];
    struct ws_conn *ws = w.t->now->socks[0].ws;
    CU_ASSERT_PTR_NOT_NULL_FATAL(ws);
    int fd = io_conn_fd(ws_conn_io(ws));
    CU_ASSERT_EQUAL(shutdown(fd, SHUT_RDWR), 0);
    while (recv(fd, gone, sizeof gone, MSG_DONTWAIT) > 0)
        continue;
}

/* The link is lost, and nobody takes a new one for now. */
static void lose(void) {
    io_listener_pause(w.listener, true);
    kit_loses();
    UNTIL(w.disconnected);
    CU_ASSERT_EQUAL(w.aways, 1);
}

static void find(void) {
    io_listener_pause(w.listener, false);
    UNTIL(w.connected == 2);
}

/* Everything goes on. */
static void expect_whole(unsigned links) {
    UNTIL(w.connected == links);
    CU_ASSERT(w.whole && w.resumed);
    CU_ASSERT_EQUAL(w.wholes, links - 1);
    CU_ASSERT_EQUAL(w.n_binds, 1);
    CU_ASSERT_EQUAL(w.bound, 1);
    CU_ASSERT_EQUAL(w.n_unbinds, 0);
    CU_ASSERT_EQUAL(n_served, 1);
    CU_ASSERT(!served[0].reset && !served[0].eof);
    flow_word(&f, "last ");
    UNTIL(ht_buf_size(&f.in) >= 5 && memcmp((char *)ht_buf_head(&f.in) + ht_buf_size(&f.in) - 5, "last ", 5) == 0);
    CU_ASSERT_EQUAL(f.closes, 0);
}

/* The streams are gone, and the session is resumed or a new one. */
static void expect_cut(bool resumed) {
    UNTIL(w.connected == 2);
    CU_ASSERT(!w.whole);
    CU_ASSERT_EQUAL(w.resumed, resumed);
    UNTIL(served[0].reset);
    CU_ASSERT_EQUAL(driver_bind_streams(w.t), 0);
    UNTIL(w.bound == 2 || resumed);
    flow_end(&f);
    flow_open(&f, resumed ? 1 : w.n_binds);
    flow_word(&f, "anew");
    UNTIL(flow_has(&f, "anew"));
}

static struct ht_tunnel_status status(void) {
    struct ht_tunnel_status s = {.size = sizeof s};
    CU_ASSERT_EQUAL(ht_tunnel_get_status(w.t, &s), HT_TUNNEL_OK);
    return s;
}

/* ---- it goes on ---- */

static void nothing_is_lost(void) {
    go();
    CU_ASSERT_PTR_NOT_NULL(strstr(w.hello_caps, "stream-resume"));
    CU_ASSERT_EQUAL(w.hello_received, -1);
    CU_ASSERT_EQUAL(w.hello_replay_buffer, WIRE_LIMIT_SESSION_BUFFER);
    network_fails();
    flow_word(&f, "two "); /* to a link that nobody reads */
    one_turn();
    UNTIL(w.disconnected);
    CU_ASSERT_EQUAL(w.paused, 1);
    CU_ASSERT_EQUAL(w.paused_for_ms, HOUR_MS);
    CU_ASSERT(w.retrying);
    expect_whole(2);
    CU_ASSERT(flow_has(&f, "one two last "));
    struct ht_tunnel_status s = status();
    CU_ASSERT_EQUAL(s.whole, 1);
    CU_ASSERT_EQUAL(s.sessions, 2);
    CU_ASSERT_EQUAL(s.paused_left_ms, 0);
    CU_ASSERT_EQUAL(s.longest_pause_ms, s.paused_ms);
    CU_ASSERT_EQUAL(s.streams, 1);
    CU_ASSERT_EQUAL(w.ended, 0);
    done();
}

/* What was asked for and answered while the link was gone comes afterwards, both ways. */
static void what_the_service_says_meanwhile(void) {
    go();
    lose();
    CU_ASSERT_EQUAL(driver_bind_streams(w.t), 1);
    struct ht_tunnel_status s = status();
    CU_ASSERT_EQUAL(s.state, HT_TUNNEL_RETRYING);
    CU_ASSERT(s.paused_left_ms > 0 && s.paused_left_ms <= HOUR_MS);
    service_says("meanwhile ");
    settle();
    CU_ASSERT(!served[0].reset && !served[0].eof);
    CU_ASSERT(flow_has(&f, "one "));
    find();
    expect_whole(2);
    CU_ASSERT(flow_has(&f, "one meanwhile last "));
    done();
}

static void again_and_again(void) {
    go();
    for (unsigned i = 2; i < 12; i++) {
        network_fails();
        flow_word(&f, "x");
        UNTIL(w.disconnected == i - 1);
        expect_whole(i);
        CU_ASSERT(w.hello_received > 0);
    }
    CU_ASSERT(flow_has(&f, "one xlast xlast xlast xlast xlast xlast xlast xlast xlast xlast "));
    CU_ASSERT_EQUAL(status().whole, 10);
    done();
}

/* The kit lets visitors wait for a moment only. */
static void the_next_attempt_is_soon(void) {
    go();
    for (unsigned i = 2; i < 7; i++) {
        w.t->attempts = 40; /* it was lost as often, each time soon after it had come up */
        network_fails();
        flow_word(&f, "x");
        UNTIL(w.disconnected == i - 1);
        CU_ASSERT(w.retry_in_ms <= WIRE_LIMIT_RETRY_KEPT);
        driver_retry_now(w.t);
        expect_whole(i);
    }
    done();
}

/* Both directions are full, and the link fails again and again in the middle of what is sent again. */
static void in_the_middle_of_the_replay(void) {
    go();
    uint8_t *big = ht_malloc(BIG);
    CU_ASSERT_PTR_NOT_NULL_FATAL(big);
    for (size_t i = 0; i < BIG; i++)
        big[i] = byte_at(i);
    flow_say(&f, big, BIG);
    size_t step = 4;
    for (unsigned i = 2; i < 10; i++) {
        step += BIG / 16;
        size_t until = step;
        UNTIL(ht_buf_size(&f.in) >= until);
        if (i % 2)
            kit_loses(); /* what the driver has on its way is gone, else what the kit has */
        else
            network_fails();
        UNTIL(w.connected == i);
        CU_ASSERT_EQUAL(w.wholes, i - 1);
    }
    UNTIL(ht_buf_size(&f.in) == BIG + 4);
    CU_ASSERT_EQUAL(memcmp((uint8_t *)ht_buf_head(&f.in) + 4, big, BIG), 0);
    CU_ASSERT_EQUAL(served[0].heard, BIG + 4);
    CU_ASSERT(status().resent > 0);
    ht_free(big);
    done();
}

/* HELLO was sent, and the link fails before its answer comes: the next one says the same. */
static void before_hello_ok(void) {
    go();
    w.no_hello_ok = true;
    network_fails();
    flow_word(&f, "two ");
    UNTIL(w.hellos == 2);
    int64_t said = w.hello_received;
    CU_ASSERT(said > 0);
    CU_ASSERT_EQUAL(w.t->state, DRIVER_HELLO);
    w.no_hello_ok = false;
    kit_loses();
    UNTIL(w.hellos == 3);
    CU_ASSERT_EQUAL(w.hello_received, said);
    CU_ASSERT_EQUAL(w.disconnected, 1);
    expect_whole(2);
    CU_ASSERT(flow_has(&f, "one two last "));
    done();
}

static void the_service_ends_meanwhile(void) {
    go();
    lose();
    service_says("bye");
    CU_ASSERT_EQUAL(io_conn_shutdown(served[0].c), 0);
    settle();
    find();
    UNTIL(f.eof);
    CU_ASSERT(flow_has(&f, "one bye"));
    f.ends = true;
    mux_stream_ready(f.st);
    UNTIL(f.closes);
    CU_ASSERT_EQUAL(f.code, 0);
    CU_ASSERT(w.whole);
    done();
}

static void the_service_fails_meanwhile(void) {
    go();
    lose();
    io_conn_abort(&served[0].c);
    settle();
    find();
    UNTIL(f.closes);
    CU_ASSERT_NOT_EQUAL(f.code, 0);
    CU_ASSERT(w.whole);
    flow_end(&f);
    flow_open(&f, 1);
    flow_word(&f, "anew");
    UNTIL(flow_has(&f, "anew"));
    done();
}

/* The kit no longer answers, and its end stays open. */
static void a_dead_link(void) {
    ready();
    world_tunnel(NULL);
    w.replaces = true;
    w.t->ping_interval_ms = w.t->pong_timeout_ms = 30000;
    w.t->suspect_after_ms = 20000;
    CU_ASSERT_EQUAL_FATAL(bind_one(HT_PULL_TCP, target, 0), 1);
    CU_ASSERT_EQUAL_FATAL(ht_tunnel_connect(w.t), HT_TUNNEL_OK);
    UNTIL(w.bound);
    flow_open(&f, 1);
    flow_word(&f, "one ");
    UNTIL(flow_has(&f, "one "));
    ws_conn_pause(w.ws, true);
    w.replaces = false;
    settle();
    ht_clock_skip(20001000u);
    settle();
    io_listener_pause(w.listener, true);
    ht_clock_skip(20001000u);
    UNTIL(w.disconnected);
    CU_ASSERT_PTR_NOT_NULL(strstr(w.retry_text, "does not answer"));
    CU_ASSERT_EQUAL(w.paused, 1);
    kit_loses();
    find();
    expect_whole(2);
    done();
}

/* ---- bindings ---- */

static void bindings_are_left_alone(void) {
    go();
    w.no_bind_answers = w.no_unbind_answers = true;
    CU_ASSERT_EQUAL(bind_one(HT_PULL_TCP, target, 0), 2); /* asked for, and not answered */
    UNTIL(w.n_binds == 2);
    lose();
    CU_ASSERT_EQUAL(bind_one(HT_PULL_TCP, target, 0), 3); /* not asked for yet */
    CU_ASSERT_EQUAL(ht_tunnel_unbind(w.t, 1), HT_TUNNEL_OK);
    ht_clock_skip(WIRE_LIMIT_BIND_TIMEOUT * 1000u + 1000u); /* nothing is due meanwhile */
    settle();
    CU_ASSERT_EQUAL(w.failed + w.unbound, 0);
    struct wire_bind_ok ok = {.client_bind_ref = 2, .bind_id = 2, .container_port = 20002};
    CU_ASSERT_EQUAL(mux_session_send(w.s, WIRE_BIND_OK, &ok), 0); /* which waits there */
    w.no_bind_answers = w.no_unbind_answers = false;
    find();
    CU_ASSERT(w.whole);
    UNTIL(w.bound == 3 && w.unbound == 1);
    CU_ASSERT_EQUAL(w.n_binds, 3);
    CU_ASSERT_EQUAL(w.n_unbinds, 1);
    CU_ASSERT_EQUAL(w.last_unbind, 1);
    CU_ASSERT_EQUAL(w.failed, 0);
    done();
}

/* The kit was asked, and does not answer after the resume either. */
static void an_answer_is_due_after_it(void) {
    go();
    w.no_bind_answers = w.no_unbind_answers = true;
    CU_ASSERT_EQUAL(bind_one(HT_PULL_TCP, target, 0), 2);
    UNTIL(w.n_binds == 2);
    lose();
    ht_clock_skip(WIRE_LIMIT_BIND_TIMEOUT * 1000u + 1000u);
    find();
    settle();
    CU_ASSERT_EQUAL(w.failed, 0);
    ht_clock_skip(WIRE_LIMIT_BIND_TIMEOUT * 1000u + 1000u);
    UNTIL(w.failed == 1);
    CU_ASSERT_STRING_EQUAL(w.fail_code, "TIMEOUT");
    done();
}

/* ---- it does not go on ---- */

static const struct wire_resumed_bind ours = {
    .bind_id = 1, .kind = WIRE_KIND_TCP, .mode = WIRE_MODE_PULL, .container_port = 20001};

static void as_without_it(void) {
    w.forgets = true;
    w.resumed_binds = &ours;
    w.n_resumed_binds = w.resumes;
    lose();
    CU_ASSERT_EQUAL(w.paused, 1);
    CU_ASSERT(!served[0].reset);
    find();
    CU_ASSERT(w.hello_received > 0);
    expect_cut(w.resumes);
    CU_ASSERT_EQUAL(w.wholes, 0);
    CU_ASSERT_EQUAL(status().whole, 0);
    done();
}

static void a_kit_that_was_restarted(void) {
    go();
    as_without_it();
}

static void a_kit_that_has_the_session_alone(void) {
    go();
    w.resumes = true;
    as_without_it();
}

static void a_kit_without_the_capability(void) {
    ready();
    w.caps = 0;
    set_out();
    CU_ASSERT_PTR_NULL(w.t->now->kept[0]);
    kit_drops();
    UNTIL(w.disconnected);
    CU_ASSERT_EQUAL(w.paused, 0);
    UNTIL(served[0].reset);
    CU_ASSERT_EQUAL(w.hello_received, -1);
    expect_cut(false);
    done();
}

static void a_driver_without_the_capability(void) {
    ready();
    w.replay_buffer = HT_NO_REPLAY;
    w.caps = 0;
    set_out();
    CU_ASSERT_PTR_NULL(strstr(w.hello_caps, "stream-resume"));
    CU_ASSERT_EQUAL(w.hello_replay_buffer, 0);
    kit_drops();
    UNTIL(w.disconnected);
    UNTIL(served[0].reset);
    expect_cut(false);
    done();
    ready();
    w.replay_buffer = 2u << 20;
    set_out();
    CU_ASSERT_EQUAL(w.hello_replay_buffer, 2u << 20);
    done();
    struct ht_tunnel_options few = {.size = sizeof few, .url = "ws://127.0.0.1:1", .replay_buffer = 1000};
    struct ht_tunnel *t;
    CU_ASSERT_EQUAL(ht_tunnel_create(&t, &few, NULL, NULL), HT_TUNNEL_EINVAL);
    CU_ASSERT_PTR_NOT_NULL(strstr(ht_tunnel_last_error(), "at least 1 MiB"));
}

/* RESUME-11: more than was sent, less than was acknowledged. */
static void counts_that_cannot_be_true(void) {
    static const uint64_t lies[] = {9007199254740991u, 0};
    for (size_t i = 0; i < HT_ARRAY_LEN(lies); i++) {
        go();
        flow_word(&f, "more ");
        UNTIL(flow_has(&f, "one more "));
        mux_session_tick(w.s, ht_now_ms() + 1000); /* so the driver's messages are acknowledged */
        ws_conn_want_send(w.ws);
        settle();
        w.lie = &lies[i];
        w.resumes = true;
        w.resumed_binds = &ours;
        w.n_resumed_binds = 1;
        lose();
        io_listener_pause(w.listener, false);
        UNTIL(w.hellos == 2);
        CU_ASSERT(w.hello_received > 0);
        UNTIL(served[0].reset);
        w.lie = NULL;
        UNTIL(w.hellos == 3);
        CU_ASSERT_EQUAL(w.hello_received, -1); /* and nothing is mixed up */
        CU_ASSERT_STRING_EQUAL(w.hello_resume, "S-1");
        CU_ASSERT_PTR_NOT_NULL(strstr(w.retry_text, "cannot be true"));
        expect_cut(true);
        done();
    }
}

/* A kit that says so without having been asked. */
static void a_count_that_nobody_asked_for(void) {
    static const uint64_t lie = 0;
    ready();
    w.lie = &lie;
    w.retry_first = true;
    world_tunnel(NULL);
    CU_ASSERT_EQUAL_FATAL(ht_tunnel_connect(w.t), HT_TUNNEL_OK);
    UNTIL(w.retries >= 1);
    CU_ASSERT_EQUAL(w.connected, 0);
    CU_ASSERT_PTR_NOT_NULL(strstr(w.retry_text, "cannot be true"));
    w.lie = NULL;
    UNTIL(w.connected);
    CU_ASSERT(!w.whole);
    done();
}

static void other_windows(void) {
    go();
    w.other_window = WIRE_LIMIT_STREAM_WINDOW / 2;
    lose();
    static const uint64_t zero = 1;
    w.lie = &zero; /* the count is a true one */
    io_listener_pause(w.listener, false);
    UNTIL(served[0].reset);
    w.lie = NULL;
    w.other_window = 0;
    expect_cut(false);
    done();
}

static void hello_ok_twice(void) {
    static const uint64_t lie = 1;
    go();
    w.lie = &lie;
    struct wire_hello_ok ok = {.session_id = {"S-1", 3},
                               .stream_window = WIRE_LIMIT_STREAM_WINDOW,
                               .session_window = WIRE_LIMIT_SESSION_WINDOW,
                               .connections_granted = 1,
                               .resumed = true};
    kit_lies(ok);
    w.lie = NULL;
    UNTIL(w.disconnected);
    CU_ASSERT_EQUAL(w.lost_error, HT_TUNNEL_EPROTO);
    CU_ASSERT_EQUAL(w.paused, 0);
    UNTIL(served[0].reset);
    kit_drops();
    UNTIL(w.connected == 2);
    CU_ASSERT_EQUAL(w.hello_received, -1);
    CU_ASSERT(!w.whole);
    done();
}

/* ---- ends ---- */

static void the_grace_is_over(void) {
    ready();
    w.grace_ms = 5000;
    set_out();
    lose();
    CU_ASSERT_EQUAL(w.paused_for_ms, 5000);
    ht_clock_skip(4000000u);
    settle();
    CU_ASSERT(!served[0].reset);
    ht_clock_skip(1100000u);
    UNTIL(served[0].reset);
    CU_ASSERT_EQUAL(driver_bind_streams(w.t), 0);
    CU_ASSERT_EQUAL(status().paused_left_ms, 0);
    w.resumes = true;
    w.resumed_binds = &ours;
    w.n_resumed_binds = 1;
    find();
    CU_ASSERT_EQUAL(w.hello_received, -1);
    expect_cut(true);
    done();
}

/* The grace ends while HELLO waits for its answer: the kit may have kept them for a little longer. */
static void the_grace_is_over_in_hello(void) {
    ready();
    w.grace_ms = 5000;
    set_out();
    w.no_hello_ok = true;
    network_fails();
    UNTIL(w.hellos == 2);
    CU_ASSERT_EQUAL(w.t->state, DRIVER_HELLO);
    io_timer_set(&w.t->now->socks[0].timer, HOUR_MS);
    ht_clock_skip(5100000u);
    settle();
    CU_ASSERT(!served[0].reset);
    w.no_hello_ok = false;
    io_listener_pause(w.listener, true);
    kit_loses();
    settle();
    ht_clock_skip(1100000u); /* and now it is only waiting */
    UNTIL(served[0].reset);
    w.resumes = true;
    w.resumed_binds = &ours;
    w.n_resumed_binds = 1;
    find();
    expect_cut(true);
    done();
}

static void closed_by_its_user(void) {
    go();
    lose();
    CU_ASSERT_EQUAL(ht_tunnel_close(w.t), HT_TUNNEL_OK);
    UNTIL(w.ended);
    CU_ASSERT_EQUAL(w.end_error, HT_TUNNEL_OK);
    UNTIL(served[0].reset || served[0].eof);
    done();
}

static void closed_by_its_user_in_hello(void) {
    go();
    w.no_hello_ok = true;
    network_fails();
    UNTIL(w.hellos == 2);
    CU_ASSERT_EQUAL(ht_tunnel_close(w.t), HT_TUNNEL_OK);
    CU_ASSERT_EQUAL(ht_tunnel_close(w.t), HT_TUNNEL_OK);
    UNTIL(w.ended);
    CU_ASSERT_EQUAL(w.end_error, HT_TUNNEL_OK);
    CU_ASSERT_EQUAL(w.close_code, WS_CLOSE_NO_CODE); /* a goodbye, should the kit have gone on */
    UNTIL(served[0].reset || served[0].eof);
    done();
}

static void destroyed_meanwhile(void) {
    go();
    lose();
    ht_tunnel_destroy(&w.t);
    UNTIL(served[0].reset || served[0].eof);
    done();
}

/* No attempt follows: everything ends as without the capability. */
static void no_retry(void) {
    ready();
    w.retry_for_ms = HT_NO_RETRY;
    set_out();
    kit_loses();
    UNTIL(w.ended);
    CU_ASSERT_EQUAL(w.end_error, HT_TUNNEL_ELOST);
    CU_ASSERT_EQUAL(w.paused, 0);
    UNTIL(served[0].reset);
    done();
}

static void a_final_refusal(void) {
    static const struct wire_goaway no = {.code = WIRE_CODE_AUTH_ERROR, .message = {"no", 2}};
    go();
    w.refuse = &no;
    lose();
    io_listener_pause(w.listener, false);
    UNTIL(w.ended);
    CU_ASSERT_EQUAL(w.end_error, HT_TUNNEL_EAUTH);
    UNTIL(served[0].reset);
    done();
}

/* A stream that ends with the session has a callback, which may close the tunnel. */
static unsigned closing_requests;

static void close_on_request(void *user, const struct ht_request *r) {
    (void)user, (void)r;
    closing_requests++;
    CU_ASSERT_EQUAL(ht_tunnel_close(w.t), HT_TUNNEL_OK);
}

static void closed_by_a_callback(void) {
    calls.request = close_on_request;
    for (unsigned way = 0; way < 3; way++) {
        static const uint64_t lie = 9007199254740991u;
        closing_requests = 0;
        ready();
        w.grace_ms = 5000;
        set_out();
        w.forgets = way == 0;
        w.lie = way == 1 ? &lie : NULL;
        lose();
        if (way == 2)
            ht_clock_skip(5100000u);
        else
            io_listener_pause(w.listener, false);
        UNTIL(w.ended);
        CU_ASSERT_EQUAL(w.end_error, HT_TUNNEL_OK);
        CU_ASSERT_EQUAL(closing_requests, 1);
        CU_ASSERT_EQUAL(w.connected, 1);
        UNTIL(served[0].reset);
        done();
    }
    calls.request = on_request;
}

int main(void) {
    static const struct tap_test tests[] = {
        {"a lost link loses nothing", nothing_is_lost},
        {"what the service says meanwhile comes afterwards", what_the_service_says_meanwhile},
        {"again and again", again_and_again},
        {"however often the link was lost, the next attempt is soon while streams wait", the_next_attempt_is_soon},
        {"a link that fails in the middle of what is sent again", in_the_middle_of_the_replay},
        {"a link that fails before HELLO_OK", before_hello_ok},
        {"the service ends its side meanwhile", the_service_ends_meanwhile},
        {"the service resets meanwhile", the_service_fails_meanwhile},
        {"a link that is dead without a word", a_dead_link},
        {"bindings: what was asked is not asked again, what was not is", bindings_are_left_alone},
        {"bindings: an answer is due after the resume", an_answer_is_due_after_it},
        {"a kit that was restarted: the streams end, and the tunnel is bound again", a_kit_that_was_restarted},
        {"a kit that has the session and not its streams", a_kit_that_has_the_session_alone},
        {"a kit without the capability: as ever", a_kit_without_the_capability},
        {"a driver that keeps nothing; how much it keeps", a_driver_without_the_capability},
        {"counts of the kit that cannot be true", counts_that_cannot_be_true},
        {"a count that nobody asked for", a_count_that_nobody_asked_for},
        {"a session that would go on with other windows", other_windows},
        {"HELLO_OK twice", hello_ok_twice},
        {"the kit's grace is over", the_grace_is_over},
        {"the kit's grace is over while HELLO waits", the_grace_is_over_in_hello},
        {"closed by its user meanwhile", closed_by_its_user},
        {"closed by its user while HELLO waits", closed_by_its_user_in_hello},
        {"destroyed meanwhile", destroyed_meanwhile},
        {"no attempt follows", no_retry},
        {"a final refusal", a_final_refusal},
        {"a callback of a stream that ends closes the tunnel", closed_by_a_callback},
        {NULL, NULL},
    };
    return tap_main("driver: resume", tests);
}
