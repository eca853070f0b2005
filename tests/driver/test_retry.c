/* A tunnel whose link is lost, against a kit that the test plays. */
#include "driver/kit_script.h"

#include <limits.h>

#define PORT 3000
#define KIT_PORT 20001

/* A tunnel that retries fast, with one binding. */
static void go_for(uint32_t retry_for_ms, uint16_t port) {
    world_start();
    w.retry_for_ms = retry_for_ms;
    w.retry_min_ms = 1;
    world_tunnel(NULL);
    CU_ASSERT_EQUAL_FATAL(bind_one(HT_EXPOSE_HTTP, "3000", port), 1);
    CU_ASSERT_EQUAL_FATAL(ht_tunnel_connect(w.t), HT_TUNNEL_OK);
    UNTIL(w.bound);
    CU_ASSERT(!w.resumed);
    CU_ASSERT_STRING_EQUAL(w.hello_resume, "");
}

/* On a port of the kit's choice. */
static void go(uint32_t retry_for_ms) { go_for(retry_for_ms, 0); }

static void expect_error(int error) {
    UNTIL(w.ended);
    CU_ASSERT_EQUAL(w.end_error, error);
    CU_ASSERT_EQUAL(ht_tunnel_run(w.t), error);
    CU_ASSERT_EQUAL(w.disconnected, 1);
    world_stop();
}

static void a_drop_is_resumed(void) {
    static const struct wire_resumed_bind ours = {
        .bind_id = 1, .kind = WIRE_KIND_HTTP, .mode = WIRE_MODE_EXPOSE, .container_port = KIT_PORT};
    struct play_stream k = {.st = NULL}, late = {.st = NULL};
    go(60000);
    play_get(&k, 1, "/");
    w.resumes = true;
    w.resumed_binds = &ours;
    w.n_resumed_binds = 1;
    kit_drops();
    UNTIL(w.connected == 2);
    CU_ASSERT(w.resumed);
    CU_ASSERT_STRING_EQUAL(w.hello_resume, "S-1");
    CU_ASSERT_EQUAL(w.disconnected, 1);
    CU_ASSERT_EQUAL(w.lost_error, HT_TUNNEL_ELOST);
    CU_ASSERT(w.retrying && w.retry_in_ms <= 1);
    settle();
    CU_ASSERT_EQUAL(w.n_binds, 1); /* nothing is bound again */
    CU_ASSERT_EQUAL(w.bound, 1);
    CU_ASSERT_EQUAL(w.n_unbinds, 0);
    play_get(&late, 1, "/"); /* and it serves: nobody listens at the target, which is an answer */
    UNTIL(late.closes || late.heads);
    CU_ASSERT_NOT_EQUAL(late.reset, WIRE_CODE_BIND_ERROR);
    mux_stream_release(&late.st);
    ht_buf_free(&late.body);
    ht_buf_free(&k.body);
    world_stop();
}

static void what_is_missing_is_bound_again(void) {
    static const struct wire_resumed_bind stray = {
        .bind_id = 9, .kind = WIRE_KIND_HTTP, .mode = WIRE_MODE_EXPOSE, .container_port = PORT};
    go(60000);
    w.resumes = true;
    w.resumed_binds = &stray;
    w.n_resumed_binds = 1;
    kit_drops();
    UNTIL(w.bound == 2);
    CU_ASSERT(w.resumed);
    CU_ASSERT_EQUAL(w.binds[1].container_port, KIT_PORT);
    CU_ASSERT_EQUAL(w.n_unbinds, 1); /* one that nobody knows is given back */
    CU_ASSERT_EQUAL(w.last_unbind, 9);
    world_stop();
}

static void a_new_session_gets_the_same_ports(void) {
    static const struct wire_bind_err held = {.code = WIRE_BIND_ERROR_ALREADY_BOUND, .message = {"held", 4}};
    go(60000);
    w.refuse_bind = &held; /* by our own ghost, which the kit has not noticed to be dead */
    w.n_refusals = 2;
    kit_drops();
    UNTIL(w.bound == 2);
    CU_ASSERT(!w.resumed);
    CU_ASSERT_EQUAL(w.failed, 0);
    CU_ASSERT_EQUAL(w.n_binds, 4);
    for (unsigned i = 1; i < 4; i++) {
        CU_ASSERT_EQUAL(w.binds[i].container_port, KIT_PORT);
        CU_ASSERT(!w.binds[i].takeover);
    }
    world_stop();
}

/*
 * While the kit was away, an outgoing connection of the container got the port. A port that was asked for by its number
 * is asked for until it is back, in a session that is resumed too; who asked for any gets another one at once.
 */
static void a_port_that_another_program_has_now(void) {
    static const struct wire_bind_err taken = {.code = WIRE_BIND_ERROR_PORT_IN_USE, .message = {"taken", 5}};
    for (int i = 0; i < 4; i++) {
        bool any = i & 1;
        go_for(60000, any ? 0 : KIT_PORT);
        w.resumes = i & 2;
        w.refuse_bind = &taken;
        w.n_refusals = any ? 1 : 3;
        kit_drops();
        UNTIL(w.bound == 2);
        CU_ASSERT_EQUAL(w.failed, 0);
        CU_ASSERT_EQUAL_FATAL(w.n_binds, any ? 3 : 5);
        CU_ASSERT_EQUAL(w.binds[1].container_port, KIT_PORT);
        CU_ASSERT_EQUAL(w.binds[w.n_binds - 1].container_port, any ? 0 : KIT_PORT);
        world_stop();
    }
}

static void a_resumed_session_has_no_ghost(void) {
    static const struct wire_bind_err held = {.code = WIRE_BIND_ERROR_ALREADY_BOUND, .message = {"held", 4}};
    go(60000);
    w.resumes = true; /* but another driver has taken the port over meanwhile */
    w.refuse_bind = &held;
    w.n_refusals = 1;
    kit_drops();
    UNTIL(w.failed == 1);
    CU_ASSERT_STRING_EQUAL(w.fail_code, "ALREADY_BOUND");
    CU_ASSERT_EQUAL(w.n_binds, 2);
    world_stop();
}

static void a_kit_that_shuts_down_is_awaited(void) {
    go(60000);
    mux_session_shutdown(w.s, WIRE_GOAWAY_SHUTDOWN_CODE, WIRE_GOAWAY_SHUTDOWN_MESSAGE, 0, WIRE_GOAWAY_SHUTDOWN_CLOSE);
    mux_session_tick(w.s, ht_now_ms() + 1);
    UNTIL(w.ws_closed);
    kit_drops();
    UNTIL(w.bound == 2);
    CU_ASSERT_EQUAL(w.lost_error, HT_TUNNEL_EGOAWAY);
    world_stop();
}

static void what_no_retry_mends(void) {
    go(60000);
    static const struct wire_goaway refused = {.code = WIRE_CODE_AUTH_ERROR, .message = {"no", 2}};
    w.refuse = &refused;
    kit_drops();
    expect_error(HT_TUNNEL_EAUTH);
    go(60000);
    mux_session_shutdown(w.s, WIRE_GOAWAY_KILLED_CODE, WIRE_GOAWAY_KILLED_MESSAGE, 0, WIRE_GOAWAY_KILLED_CLOSE);
    mux_session_tick(w.s, ht_now_ms() + 1);
    expect_error(HT_TUNNEL_EREVOKED);
}

#define NO(status, more) "HTTP/1.1 " status "\r\n" more "Content-Length: 0\r\n\r\n"

static const struct refusal {
    const char *answer, *says;
    int error;
} refusals[] = {
    {NO("400 Bad Request", ""), "not a kit", HT_TUNNEL_EHANDSHAKE},
    {NO("401 Unauthorized", ""), "wants a token", HT_TUNNEL_EAUTH},
    {NO("403 Forbidden", ""), "refuses connections from here", HT_TUNNEL_EHANDSHAKE},
    {NO("404 Not Found", ""), "not a kit", HT_TUNNEL_EHANDSHAKE},
    {NO("407 Proxy Authentication Required", ""), "a proxy of this network", HT_TUNNEL_EHANDSHAKE},
    {NO("426 Upgrade Required", "Upgrade: websocket\r\n"), "WebSockets", HT_TUNNEL_EHANDSHAKE},
    {NO("302 Found", "Location: http://login.example/\r\n"), "login page", HT_TUNNEL_EHANDSHAKE},
    {"HTTP/1.1 200 OK\r\nContent-Length: 13\r\n\r\n<html>Pay here", "login page", HT_TUNNEL_EHANDSHAKE},
    {NO("500 Internal Server Error", ""), "500", HT_TUNNEL_EHANDSHAKE},
    {NO("502 Bad Gateway", ""), "502", HT_TUNNEL_EHANDSHAKE},
    {"HTTP/1.1 101 Switching Protocols\r\nUpgrade: h2c\r\nConnection: upgrade\r\n\r\n", "WebSocket",
     HT_TUNNEL_EHANDSHAKE},
    {"220 mail.example ESMTP\r\n\r\n", "the answer is not HTTP", HT_TUNNEL_EHANDSHAKE},
};

/* Each of these comes from something in between, or may: it is told, tried again, and over when that is gone. */
static void what_stands_in_between_passes(void) {
    for (size_t i = 0; i < HT_ARRAY_LEN(refusals); i++) {
        const struct refusal *no = &refusals[i];
        go(60000);
        w.answer = no->answer;
        kit_drops();
        UNTIL(w.retries >= 3 || w.ended);
        CU_ASSERT_EQUAL_FATAL(w.ended, 0);
        CU_ASSERT_EQUAL(w.retry_error, no->error);
        CU_ASSERT_PTR_NOT_NULL(strstr(w.retry_text, no->says));
        w.answer = NULL;
        ht_tunnel_retry_now(w.t);
        UNTIL(w.bound == 2);
        world_stop();
    }
}

static void and_at_the_start_where_it_is_asked_for(void) {
    for (size_t i = 0; i < HT_ARRAY_LEN(refusals); i++) {
        const struct refusal *no = &refusals[i];
        world_start();
        w.retry_for_ms = 60000;
        w.retry_min_ms = 1;
        w.retry_first = true;
        w.answer = no->answer;
        world_tunnel(NULL);
        CU_ASSERT_EQUAL_FATAL(ht_tunnel_connect(w.t), HT_TUNNEL_OK);
        UNTIL(w.retries >= 2 || w.ended);
        CU_ASSERT_EQUAL_FATAL(w.ended, 0);
        CU_ASSERT_EQUAL(w.retry_error, no->error);
        w.answer = NULL;
        ht_tunnel_retry_now(w.t);
        UNTIL(w.connected);
        world_stop();
    }
}

/* Somebody who has said no is not asked again in a moment; one who was only busy is. */
static void a_refusal_is_retried_more_slowly(void) {
    go(HT_NO_RETRY - 1);
    w.t->retry_min_ms = 1000;
    w.answer = NO("403 Forbidden", "");
    kit_drops();
    UNTIL(w.retries == 1);
    CU_ASSERT(w.attempt_in_ms <= 1000);
    ht_tunnel_retry_now(w.t);
    UNTIL(w.retries == 2);
    CU_ASSERT(w.attempt_in_ms >= 4000 && w.attempt_in_ms <= 4000 + 16000);
    for (unsigned n = 3; n < 40; n++) {
        ht_tunnel_retry_now(w.t);
        UNTIL(w.retries == n);
        CU_ASSERT(w.attempt_in_ms >= 4000 && w.attempt_in_ms <= 4000 + 30000);
    }
    world_stop();
}

/* An edge that answers 400 for a moment does not cost a session its other connections for ever. */
static void a_list_is_offered_again(void) {
    world_start();
    w.retry_for_ms = 60000;
    w.retry_min_ms = 1;
    w.connections = 2;
    w.subprotocol = WIRE_SUBPROTOCOL_V2;
    world_tunnel(NULL);
    CU_ASSERT_EQUAL_FATAL(ht_tunnel_connect(w.t), HT_TUNNEL_OK);
    UNTIL(w.hellos);
    w.answer = NO("400 Bad Request", "");
    unsigned before = w.retries;
    kit_drops();
    UNTIL(w.retries >= before + 3);
    w.answer = NULL;
    w.offered[0] = '\0';
    UNTIL(w.offered[0]);
    UNTIL(strstr(w.offered, WIRE_SUBPROTOCOL_V2) || w.ended);
    CU_ASSERT_STRING_EQUAL(w.offered, WIRE_SUBPROTOCOL_V2 ", " WIRE_SUBPROTOCOL_V1);
    world_stop();
}

/* Once it was up, neither side's "you broke a rule" is the last word: what brought it about may have been a visitor. */
static void a_broken_rule_is_no_end(void) {
    static const uint8_t hello[] = {WIRE_HELLO, 0, 0, 0, 0, 0, 0, 0, 2, '{', '}'}; /* which no kit sends */
    go(60000);
    kit_sends_raw(hello, sizeof hello);
    UNTIL(w.ws_closed);
    kit_drops();
    UNTIL(w.bound == 2);
    CU_ASSERT_EQUAL(w.lost_error, HT_TUNNEL_EPROTO);
    mux_session_shutdown(w.s, WIRE_GOAWAY_STRAY_FRAMES_CODE, WIRE_GOAWAY_STRAY_FRAMES_MESSAGE, 0,
                         WIRE_GOAWAY_STRAY_FRAMES_CLOSE);
    mux_session_tick(w.s, ht_now_ms() + 1);
    UNTIL(w.ws_closed == 2);
    kit_drops();
    UNTIL(w.bound == 3);
    CU_ASSERT_EQUAL(w.lost_error, HT_TUNNEL_EGOAWAY);
    mux_session_shutdown(w.s, WIRE_CODE_PROTOCOL_ERROR, "a rule was broken", 0, WIRE_CLOSE_PROTOCOL_ERROR);
    mux_session_tick(w.s, ht_now_ms() + 1);
    UNTIL(w.ws_closed == 3);
    kit_drops();
    UNTIL(w.bound == 4);
    CU_ASSERT_EQUAL(w.lost_error, HT_TUNNEL_EPROTO);
    static const struct wire_goaway other = {.code = WIRE_CODE_VERSION_MISMATCH, .message = {"no", 2}};
    w.refuse = &other; /* a kit that is being replaced */
    kit_drops();
    unsigned before = w.retries;
    UNTIL(w.retries >= before + 2 || w.ended);
    w.refuse = NULL;
    UNTIL(w.bound == 5);
    world_stop();
}

static void the_time_runs_out(void) {
    go(50);
    world_deafens(&w.listener);
    kit_drops();
    UNTIL(w.ended);
    CU_ASSERT(w.retrying);
    CU_ASSERT_EQUAL(ht_exit_status(w.end_error), 6);
    expect_error(HT_TUNNEL_ECONNECT);
}

static void the_first_connection_too(void) {
    world_start();
    w.retry_for_ms = 60000;
    w.retry_min_ms = 1;
    w.retry_first = true;
    w.answer = "HTTP/1.1 503 Unavailable\r\nContent-Length: 0\r\n\r\n";
    world_tunnel(NULL);
    CU_ASSERT_EQUAL_FATAL(ht_tunnel_connect(w.t), HT_TUNNEL_OK);
    UNTIL(w.upgrades >= 3);
    CU_ASSERT_EQUAL(w.disconnected, 0);
    w.answer = NULL;
    UNTIL(w.connected);
    world_stop();
}

static struct ht_tunnel_status status(void) {
    struct ht_tunnel_status s = {.size = sizeof s};
    CU_ASSERT_EQUAL(ht_tunnel_get_status(w.t, &s), HT_TUNNEL_OK);
    return s;
}

static void each_attempt_is_told(void) {
    static const char *const hour = "HTTP/1.1 503 Unavailable\r\nRetry-After: 3600\r\nContent-Length: 0\r\n\r\n";
    go(HT_NO_RETRY - 1);
    struct ht_tunnel_status s = status();
    CU_ASSERT_EQUAL(s.state, HT_TUNNEL_UP);
    CU_ASSERT_EQUAL(s.attempt, 0);
    CU_ASSERT_EQUAL(s.version, 1);
    CU_ASSERT_EQUAL(s.connections, 1);
    CU_ASSERT_EQUAL(s.bindings, 1);
    CU_ASSERT_EQUAL(s.sessions, 1);
    w.answer = hour;
    kit_drops();
    UNTIL(w.retries == 2);
    CU_ASSERT_EQUAL(w.disconnected, 1);
    CU_ASSERT_EQUAL(w.attempt, 2);
    CU_ASSERT_EQUAL(w.retry_error, HT_TUNNEL_EHANDSHAKE);
    CU_ASSERT_EQUAL(w.attempt_in_ms, 3600000);
    s = status();
    CU_ASSERT_EQUAL(s.state, HT_TUNNEL_RETRYING);
    CU_ASSERT_EQUAL(s.attempt, 2);
    CU_ASSERT(s.retry_in_ms > 3500000 && s.retry_in_ms <= 3600000);
    CU_ASSERT_EQUAL(s.connections, 0);
    CU_ASSERT_EQUAL(s.bindings, 0);
    w.answer = NULL;
    ht_tunnel_retry_now(w.t);
    UNTIL(w.connected == 2);
    CU_ASSERT_EQUAL(status().sessions, 2);
    s.size = 0;
    CU_ASSERT_EQUAL(ht_tunnel_get_status(w.t, &s), HT_TUNNEL_EINVAL);
    CU_ASSERT_EQUAL(ht_tunnel_get_status(w.t, NULL), HT_TUNNEL_EINVAL);
    struct {
        struct ht_tunnel_status s;
        uint64_t guard;
    } older = {.guard = 7};
    memset(&older.s, 0xff, sizeof older.s);
    older.s.size = offsetof(struct ht_tunnel_status, attempt); /* of a program that knew less */
    CU_ASSERT_EQUAL(ht_tunnel_get_status(w.t, &older.s), HT_TUNNEL_OK);
    CU_ASSERT_EQUAL(older.s.state, HT_TUNNEL_UP);
    CU_ASSERT_EQUAL(older.s.attempt, UINT_MAX);
    world_stop();
}

static void round_trips_are_told(void) {
    struct ht_tunnel_options o = {.size = sizeof o, .measure_every_ms = 5};
    world_start();
    o.url = w.url;
    CU_ASSERT_EQUAL_FATAL(driver_create_on(w.loop, &w.t, &o, &calls, NULL), HT_TUNNEL_OK);
    CU_ASSERT_EQUAL(ht_tunnel_connect(w.t), HT_TUNNEL_OK);
    UNTIL(w.latencies >= 3);
    CU_ASSERT(status().round_trip_us > 0);
    world_stop();
}

/* The kit asks for an hour; somebody is not that patient. */
static void now_and_not_later(void) {
    go(HT_NO_RETRY - 1);
    w.answer = "HTTP/1.1 503 Unavailable\r\nRetry-After: 3600\r\nContent-Length: 0\r\n\r\n";
    kit_drops();
    UNTIL(w.upgrades == 2 && w.t->state == DRIVER_WAITING);
    CU_ASSERT(io_timer_active(&w.t->retry_timer));
    CU_ASSERT(w.t->retry_timer.due >= (io_now_ms(w.loop) + 3000000) * 1000);
    settle();
    CU_ASSERT_EQUAL(w.upgrades, 2);
    w.answer = NULL;
    ht_tunnel_retry_now(w.t);
    UNTIL(w.connected == 2);
    world_stop();
}

static void closing_and_unbinding_while_it_is_away(void) {
    go(60000);
    w.answer = "HTTP/1.1 503 Unavailable\r\nRetry-After: 3600\r\nContent-Length: 0\r\n\r\n";
    kit_drops();
    UNTIL(w.upgrades == 2 && w.t->state == DRIVER_WAITING);
    CU_ASSERT_EQUAL(ht_tunnel_unbind(w.t, 1), HT_TUNNEL_OK);
    CU_ASSERT_EQUAL(bind_one(HT_EXPOSE_HTTP, "3001", 3001), 2);
    w.answer = NULL;
    ht_tunnel_retry_now(w.t);
    UNTIL(w.bound == 2);
    CU_ASSERT_EQUAL(w.unbound, 1);
    CU_ASSERT_EQUAL(w.n_binds, 2);
    w.answer = "HTTP/1.1 503 Unavailable\r\nRetry-After: 3600\r\nContent-Length: 0\r\n\r\n";
    kit_drops();
    UNTIL(w.upgrades == 4 && w.t->state == DRIVER_WAITING);
    CU_ASSERT_EQUAL(ht_tunnel_close(w.t), HT_TUNNEL_OK);
    ht_clock_skip(UINT64_C(7200000000)); /* the next attempt is due in the same turn, and is not made */
    UNTIL(w.ended);
    CU_ASSERT_EQUAL(w.end_error, HT_TUNNEL_OK);
    world_stop();
}

#define HOUR_MS UINT64_C(3600000)

/* The clock moves to the next attempt, again and again, until `ms` have passed or it has ended. */
static void hours_pass(uint64_t ms) {
    uint64_t begin = ht_now_ms();
    while (!w.ended && ht_now_ms() - begin < ms) {
        int next = w.t->state == DRIVER_WAITING ? io_loop_timeout_ms(w.loop) : 0;
        ht_clock_skip(next > 0 ? (uint64_t)next * 1000 : 0);
        io_loop_turn(w.loop, false);
        CU_ASSERT(w.attempt_in_ms <= 30000);
    }
}

static void a_day_without_a_kit(void) {
    static const struct io_listener_ops ops = {.accepted = kit_accepted};
    struct io_addr at;
    go(0);
    ht_tunnel_destroy(&w.t); /* again, with the usual waits and for ever */
    kit_drops();
    struct ht_tunnel_options o = {.size = sizeof o, .url = w.url};
    CU_ASSERT_EQUAL_FATAL(driver_create_on(w.loop, &w.t, &o, &calls, NULL), HT_TUNNEL_OK);
    CU_ASSERT_EQUAL(ht_tunnel_connect(w.t), HT_TUNNEL_OK);
    UNTIL(w.connected == 2);
    io_listener_local(w.listener, &at);
    world_deafens(&w.listener);
    kit_drops();
    UNTIL(w.retries == 1);
    size_t held = ht_mem_live();
    hours_pass(24 * HOUR_MS);
    CU_ASSERT_EQUAL(w.ended, 0);
    CU_ASSERT_EQUAL(w.attempt, w.retries);
    /* 30 s at most between two, 15 s on the average: 5,760, give or take ten standard deviations */
    CU_ASSERT(w.retries >= 5320 && w.retries <= 6200);
    printf("# %u attempts in 24 h\n", w.retries);
    UNTIL(w.t->state == DRIVER_WAITING);
    CU_ASSERT_EQUAL(ht_mem_live(), held);
    world_lets_go();
    CU_ASSERT_EQUAL_FATAL(io_listen(w.loop, &at, &ops, NULL, &w.listener, NULL), 0);
    ht_tunnel_retry_now(w.t);
    UNTIL(w.connected == 3);
    world_stop();
}

static void an_hour_is_an_hour(void) {
    world_start();
    w.retry_for_ms = HOUR_MS;
    w.retry_min_ms = 250;
    world_tunnel(NULL);
    CU_ASSERT_EQUAL_FATAL(ht_tunnel_connect(w.t), HT_TUNNEL_OK);
    UNTIL(w.connected);
    world_deafens(&w.listener);
    uint64_t begin = ht_now_ms();
    kit_drops();
    hours_pass(24 * HOUR_MS);
    CU_ASSERT(ht_now_ms() - begin >= HOUR_MS);
    CU_ASSERT(ht_now_ms() - begin <= HOUR_MS + 60000);
    expect_error(HT_TUNNEL_ECONNECT);
}

static void a_hello_without_an_answer_may_be_late(void) {
    world_start();
    struct ht_tunnel_options o = {
        .size = sizeof o, .url = w.url, .connect_timeout_ms = 50, .retry_first = 1, .retry_min_ms = 1};
    w.no_hello_ok = true;
    CU_ASSERT_EQUAL_FATAL(driver_create_on(w.loop, &w.t, &o, &calls, NULL), HT_TUNNEL_OK);
    CU_ASSERT_EQUAL(ht_tunnel_connect(w.t), HT_TUNNEL_OK);
    UNTIL(w.retries == 1);
    CU_ASSERT(w.t->ghost_until > ht_now_ms());
    world_stop();
}

static void waits_grow_and_are_spread(void) {
    static const uint64_t most[] = {250, 500, 1000, 2000, 4000, 8000, 16000, 30000, 30000};
    for (unsigned i = 0; i < HT_ARRAY_LEN(most); i++) {
        CU_ASSERT_EQUAL(driver_backoff(i, 250, 30000, 0), 0);
        CU_ASSERT_EQUAL(driver_backoff(i, 250, 30000, most[i]), most[i]);
        CU_ASSERT_EQUAL(driver_backoff(i, 250, 30000, most[i] + 1), 0);
        CU_ASSERT_EQUAL(driver_backoff(i, 250, 1000, 1000), most[i] < 1000 ? 1000 % (most[i] + 1) : 1000);
    }
    CU_ASSERT(driver_backoff(UINT32_MAX, 250, 30000, UINT64_MAX) <= 30000);
    CU_ASSERT(driver_backoff(0, 5000, 1000, UINT64_MAX) <= 1000);
}

static const struct tap_test tests[] = {
    {"a drop is resumed", a_drop_is_resumed},
    {"bindings that a resumed session lacks are bound again", what_is_missing_is_bound_again},
    {"a new session gets the same ports", a_new_session_gets_the_same_ports},
    {"a port that another program has is asked for again", a_port_that_another_program_has_now},
    {"a resumed session leaves no old session behind", a_resumed_session_has_no_ghost},
    {"a kit that shuts down is awaited", a_kit_that_shuts_down_is_awaited},
    {"errors that no retry can mend end the tunnel", what_no_retry_mends},
    {"errors of a proxy in between are retried", what_stands_in_between_passes},
    {"with --retry-for the first attempt is repeated too", and_at_the_start_where_it_is_asked_for},
    {"a refusal is retried more slowly", a_refusal_is_retried_more_slowly},
    {"both versions are offered again after a 400", a_list_is_offered_again},
    {"a protocol error after the first connection is retried", a_broken_rule_is_no_end},
    {"the tunnel ends when the time for retries is over", the_time_runs_out},
    {"with retry_first the first connection is retried", the_first_connection_too},
    {"each attempt is reported", each_attempt_is_told},
    {"round trips are reported", round_trips_are_told},
    {"a retry on request does not wait for the kit's retryAfterMs", now_and_not_later},
    {"a tunnel can be closed and unbound while the kit is away", closing_and_unbinding_while_it_is_away},
    {"a tunnel survives a day without a kit", a_day_without_a_kit},
    {"the kit's retryAfterMs is obeyed", an_hour_is_an_hour},
    {"a HELLO without an answer may be late", a_hello_without_an_answer_may_be_late},
    {"waits grow and are random", waits_grow_and_are_spread},
    {NULL, NULL},
};

int main(void) { return tap_main("driver, retry", tests); }
