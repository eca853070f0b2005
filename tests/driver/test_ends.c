/* How a tunnel ends: by the kit, by a lost link, by its own close at every stage. */
#include "driver/kit_script.h"
#include "options_gen.h"

#include <pthread.h>

/* ---- ends ---- */

static void goaways_of_a_session(void) {
    static const struct {
        unsigned code, close;
        const char *message;
        int error;
    } rows[] = {
        {WIRE_GOAWAY_KILLED_CODE, WIRE_GOAWAY_KILLED_CLOSE, WIRE_GOAWAY_KILLED_MESSAGE, HT_TUNNEL_EREVOKED},
        {WIRE_GOAWAY_SHUTDOWN_CODE, WIRE_GOAWAY_SHUTDOWN_CLOSE, WIRE_GOAWAY_SHUTDOWN_MESSAGE, HT_TUNNEL_EGOAWAY},
        {WIRE_GOAWAY_IDLE_CODE, WIRE_GOAWAY_IDLE_CLOSE, WIRE_GOAWAY_IDLE_MESSAGE, HT_TUNNEL_EGOAWAY},
        {WIRE_GOAWAY_SUPERSEDED_CODE, WIRE_GOAWAY_SUPERSEDED_CLOSE, WIRE_GOAWAY_SUPERSEDED_MESSAGE, HT_TUNNEL_EREVOKED},
    };
    for (size_t i = 0; i < HT_ARRAY_LEN(rows); i++) {
        world_go();
        mux_session_shutdown(w.s, (uint16_t)rows[i].code, rows[i].message, 0, (uint16_t)rows[i].close);
        mux_session_tick(w.s, ht_now_ms() + 1);
        UNTIL(w.ended);
        CU_ASSERT_EQUAL(w.disconnected, 1);
        CU_ASSERT_EQUAL(w.lost_error, rows[i].error);
        expect_end(rows[i].error, rows[i].message);
    }
}

/* All of it comes with one read. */
static void hello_ok_and_the_end_together(void) {
    world_start();
    w.leaves = LEAVES_WITH_GOAWAY;
    start();
    UNTIL(w.ended);
    CU_ASSERT_EQUAL(w.connected, 1);
    CU_ASSERT_STRING_EQUAL(w.session_id, "S-1");
    CU_ASSERT_EQUAL(w.disconnected, 1);
    expect_end(HT_TUNNEL_EGOAWAY, "gone at once");
    world_start();
    w.leaves = LEAVES_WITHOUT;
    w.retry_for_ms = 60000;
    w.retry_min_ms = 200;
    start();
    UNTIL(w.ws_closed);
    kit_drops();
    w.leaves = STAYS;
    UNTIL(w.hellos >= 2); /* it knows the session that it has had for a moment */
    CU_ASSERT_EQUAL(w.connected, 1);
    CU_ASSERT_STRING_EQUAL(w.hello_resume, "S-1");
    world_stop();
}

static void a_dropped_link(void) {
    world_go();
    ws_conn_destroy(&w.ws);
    UNTIL(w.ended);
    CU_ASSERT_EQUAL(w.disconnected, 1);
    expect_end(HT_TUNNEL_ELOST, "lost");
}

static void a_close_frame_with_a_code(void) {
    world_go();
    ws_conn_close(w.ws, 1011, "kit trouble");
    expect_end(HT_TUNNEL_ELOST, "1011 (kit trouble)");
}

static void a_kit_that_breaks_the_protocol(void) {
    static const struct {
        uint8_t bytes[16];
        size_t n;
    } rows[] = {
        {{0x99, 0, 0, 0, 0, 0, 0, 0, 0}, 9},                     /* a mandatory type nobody knows */
        {{WIRE_WINDOW, 0, 0, 0, 0, 0, 0, 0, 4, 0, 0, 0, 0}, 13}, /* no credit */
        {{WIRE_HELLO, 0, 0, 0, 0, 0, 0, 0, 2, '{', '}'}, 11},    /* a frame of drivers */
        {{WIRE_BIND_OK, 0, 0, 0, 0, 0, 0, 0, 2, '[', ']'}, 11},  /* JSON, but not this */
    };
    for (size_t i = 0; i < HT_ARRAY_LEN(rows); i++) {
        world_go();
        kit_sends_raw(rows[i].bytes, rows[i].n);
        expect_end(HT_TUNNEL_EPROTO, "broke the protocol");
    }
}

static void goodbye(void) {
    world_go();
    bind_one(HT_EXPOSE_HTTP, "3000", 3000);
    bind_one(HT_PULL_TCP, "3001", 3001);
    UNTIL(w.bound == 2);
    CU_ASSERT_EQUAL(ht_tunnel_close(w.t), HT_TUNNEL_OK);
    UNTIL(w.ws_closed);
    CU_ASSERT_EQUAL(w.n_unbinds, 2);
    CU_ASSERT_EQUAL(w.close_code, 1005);
    UNTIL(w.ended);
    CU_ASSERT_EQUAL(w.unbound, 0);
    CU_ASSERT_EQUAL(w.disconnected, 0);
    expect_end(HT_TUNNEL_OK, "closed");
}

/* Until it has ended. The clock moves on when there is nothing else to do; returns by how much it had to, in ms: what a
 * timer was waited for, and not what a busy machine took. */
static uint64_t waits_for_its_end(void) {
    uint64_t skipped = 0;
    struct pollfd p = {.fd = io_loop_fd(w.loop), .events = POLLIN};
    for (unsigned turns = 0; !w.ended && turns < 20000; turns++) {
        int ms = io_loop_timeout_ms(w.loop);
        if (ms != 0 && poll(&p, 1, 20) == 0) {
            ht_clock_skip(ms > 0 ? (uint64_t)ms * 1000 : 0);
            skipped += ms > 0 ? (uint64_t)ms : 0;
        }
        io_loop_turn(w.loop, false);
    }
    CU_ASSERT_FATAL(w.ended);
    return skipped;
}

static void goodbye_to_a_kit_that_does_not_answer(void) {
    world_go();
    w.no_unbind_answers = true;
    bind_one(HT_EXPOSE_HTTP, "3000", 3000);
    UNTIL(w.bound == 1);
    uint64_t began = ht_now_ms();
    ht_tunnel_close(w.t);
    CU_ASSERT(waits_for_its_end() <= WIRE_LIMIT_CLOSE_UNBIND_TIMEOUT);
    CU_ASSERT(ht_now_ms() - began >= WIRE_LIMIT_CLOSE_UNBIND_TIMEOUT);
    expect_end(HT_TUNNEL_OK, "closed");
}

static void a_second_close_cuts_it_short(void) {
    world_go();
    w.no_unbind_answers = true;
    bind_one(HT_EXPOSE_HTTP, "3000", 3000);
    UNTIL(w.bound == 1);
    ht_tunnel_close(w.t);
    ht_tunnel_close(w.t);
    CU_ASSERT(waits_for_its_end() < 1000);
    CU_ASSERT_EQUAL(w.ws_closed, 1);
    CU_ASSERT_EQUAL(w.close_code, 1005); /* without that the kit would keep the session */
    expect_end(HT_TUNNEL_OK, "closed");
}

/* Nothing that the kit says is read, not even its close frame. */
static void cut_short_towards_a_kit_that_does_not_answer(void) {
    world_go();
    bind_one(HT_EXPOSE_HTTP, "3000", 3000);
    UNTIL(w.bound == 1);
    ws_conn_pause(w.ws, true);
    ht_tunnel_close(w.t);
    uint64_t began = ht_now_ms();
    ht_tunnel_close(w.t);
    CU_ASSERT(waits_for_its_end() < WIRE_LIMIT_CLOSE_UNBIND_TIMEOUT);
    CU_ASSERT(ht_now_ms() - began >= 200);
    expect_end(HT_TUNNEL_OK, "closed");
}

static void a_third_close_drops_it(void) {
    world_go();
    w.no_unbind_answers = true;
    bind_one(HT_EXPOSE_HTTP, "3000", 3000);
    UNTIL(w.bound == 1);
    for (int i = 0; i < 3; i++)
        ht_tunnel_close(w.t);
    CU_ASSERT_EQUAL(w.t->state, DRIVER_ENDED);
    expect_end(HT_TUNNEL_OK, "closed");
}

static void closing_at_every_stage(void) {
    world_start();
    world_tunnel(NULL);
    ht_tunnel_close(w.t); /* never connected */
    expect_end(HT_TUNNEL_OK, "closed");
    world_start();
    start();
    ht_tunnel_close(w.t); /* dialling */
    expect_end(HT_TUNNEL_OK, "closed");
    world_start();
    w.no_hello_ok = true;
    start();
    UNTIL(w.hellos);
    bind_one(HT_EXPOSE_HTTP, "3000", 3000);
    ht_tunnel_close(w.t); /* HELLO is out: what comes of it is not to be parked */
    CU_ASSERT_EQUAL(ht_tunnel_unbind(w.t, 1), HT_TUNNEL_OK);
    UNTIL(w.ws_closed);
    CU_ASSERT_EQUAL(w.close_code, 1005);
    expect_end(HT_TUNNEL_OK, "closed");
    world_start();
    w.no_hello_ok = true;
    start();
    UNTIL(w.hellos);
    ht_tunnel_close(w.t);
    ht_tunnel_close(w.t); /* no patience */
    expect_end(HT_TUNNEL_OK, "closed");
    for (int turns = 0; turns < 12; turns++) { /* whatever the kit says in the same turn */
        world_start();
        start();
        for (int i = 0; i < turns; i++)
            ready_turn();
        ht_tunnel_close(w.t);
        expect_end(HT_TUNNEL_OK, "closed");
    }
}

/* A refusal that would be tried again is no answer to who wants to leave, at whatever moment he says so. */
static void closing_while_the_kit_refuses(void) {
    static const struct wire_goaway full = {.code = WIRE_CODE_RESOURCE_EXHAUSTED, .message = {"full", 4}};
    unsigned refused = 0;
    for (int turns = 0; turns < 40; turns++) {
        world_start();
        w.refuse = &full;
        w.retry_first = true;
        w.retry_for_ms = 60000;
        w.retry_min_ms = 60000;
        start();
        for (int i = 0; i < turns; i++)
            ready_turn();
        refused += w.hellos > 0;
        ht_tunnel_close(w.t);
        expect_end(HT_TUNNEL_OK, "closed");
    }
    CU_ASSERT(refused > 10);
}

static void destroying_at_every_stage(void) {
    world_start();
    world_tunnel(NULL);
    bind_one(HT_EXPOSE_HTTP, "3000", 3000);
    world_stop();
    world_start();
    start();
    world_stop();
    world_go();
    bind_one(HT_EXPOSE_HTTP, "3000", 3000);
    UNTIL(w.bound);
    struct play_stream k = {.st = NULL};
    play_get(&k, 1, "/");
    settle();
    ht_tunnel_destroy(&w.t);
    UNTIL(k.closes || w.ws_closed);
    mux_stream_release(&k.st);
    ht_buf_free(&k.body);
    world_stop();
}

static const struct tap_test tests[] = {
    {"each GOAWAY ends the tunnel with its own error", goaways_of_a_session},
    {"HELLO_OK and the end may come together", hello_ok_and_the_end_together},
    {"a dropped link is reported", a_dropped_link},
    {"a close frame with a code is reported", a_close_frame_with_a_code},
    {"a kit that breaks the protocol is left", a_kit_that_breaks_the_protocol},
    {"closing gives the bindings back first", goodbye},
    {"closing does not wait long for a silent kit", goodbye_to_a_kit_that_does_not_answer},
    {"a second close shortens the end", a_second_close_cuts_it_short},
    {"a second close does not wait for a silent kit", cut_short_towards_a_kit_that_does_not_answer},
    {"a third close drops the connection", a_third_close_drops_it},
    {"a tunnel can be closed at every stage", closing_at_every_stage},
    {"a tunnel can be closed while the kit refuses it", closing_while_the_kit_refuses},
    {"a tunnel can be destroyed at every stage", destroying_at_every_stage},
    {NULL, NULL},
};

int main(void) { return tap_main("driver, ends", tests); }
