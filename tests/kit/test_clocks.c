/*
 * Clocks that jump (hardening cases 19, 21 and 23). This program has a clock_gettime() of its own, which everything in
 * it uses, libraries included: the wall clock and the monotonic one are the kernel's plus what a test says.
 *
 * To see it fail: let ht_now_us() in src/base/clock.c ask for CLOCK_REALTIME; or leave the comparison with expires_ms
 * out of ticket_good() in src/kit/shards.c; or let session_park() in src/kit/park.c set no timer.
 */
#include "peer.h"

#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>

#define HOUR_MS INT64_C(3600000)

static int64_t wall_ms, steady_ms; /* added to what the kernel says */

int clock_gettime(clockid_t id, struct timespec *ts) {
    if (syscall(SYS_clock_gettime, id, ts) != 0)
        return -1;
    int64_t add = id == CLOCK_REALTIME || id == CLOCK_REALTIME_COARSE ? wall_ms : steady_ms;
    int64_t ns = ts->tv_nsec + add % 1000 * 1000000;
    ts->tv_sec += add / 1000 + (ns < 0 ? -1 : ns / 1000000000);
    ts->tv_nsec = ns < 0 ? ns + 1000000000 : ns % 1000000000;
    return 0;
}

int gettimeofday(struct timeval *restrict tv, void *restrict tz) {
    struct timespec ts;
    (void)tz;
    clock_gettime(CLOCK_REALTIME, &ts);
    *tv = (struct timeval){ts.tv_sec, ts.tv_nsec / 1000};
    return 0;
}

static void some_turns(void) {
    for (int i = 0; i < 20; i++)
        ready_turn();
}

static void the_clocks_are_ours(void) {
    uint64_t before = ht_now_ms();
    struct timespec ts;
    steady_ms = HOUR_MS;
    CU_ASSERT(ht_now_ms() - before >= (uint64_t)HOUR_MS && ht_now_ms() - before < (uint64_t)HOUR_MS + 60000);
    steady_ms = 0;
    wall_ms = -HOUR_MS;
    clock_gettime(CLOCK_REALTIME, &ts);
    CU_ASSERT(llabs(ts.tv_sec - (time(NULL) - 3600)) <= 60);
    wall_ms = 0;
    CU_ASSERT(ht_now_ms() - before < 60000);
}

/* 23: with every kind of timer running, an hour either way changes nothing, and afterwards all of them still work. */
static void a_wall_clock_that_jumps_moves_nothing(void) {
    static const int64_t jumps[] = {HOUR_MS, 0, -HOUR_MS, 24 * HOUR_MS, 0};
    host_start("--ping-interval 60s --takeover-grace 60s --max-connections 2");
    struct peer live, lost, v2;
    struct raw waiting, idle, head, base;
    char lost_id[64], v2_id[64], nonce[64];
    peer_start(&lost, lost_id);
    peer_bind(&lost, WIRE_KIND_HTTP, 0);
    peer_drop(&lost);
    UNTIL(kit_sessions_parked(host.kit) == 1);
    peer_start(&live, NULL);
    uint16_t port = peer_bind(&live, WIRE_KIND_HTTP, 0);
    peer_v2_hello(&v2, 2, NULL, 0, NULL);
    snprintf(v2_id, sizeof v2_id, "%.*s", HT_SLICE_ARG(v2.any.hello_ok.session_id));
    snprintf(nonce, sizeof nonce, "%.*s", HT_SLICE_ARG(v2.any.hello_ok.join_tickets[0].nonce));
    raw_connect(&waiting, port); /* response timeout */
    raw_send(&waiting, GET("/slow"));
    uint32_t id = peer_expect(&live, WIRE_STREAM_OPEN)->stream_id;
    raw_connect(&idle, port); /* keep-alive timeout */
    raw_connect(&head, port); /* head timeout */
    raw_send(&head, "GET / HT");
    raw_connect(&base, host.port);
    raw_send(&base, "GET /");
    some_turns();
    for (size_t i = 0; i < HT_ARRAY_LEN(jumps); i++) {
        wall_ms = jumps[i];
        some_turns();
        CU_ASSERT(!live.closed && !v2.closed);
        CU_ASSERT(!raw_ended(&waiting) && !raw_ended(&idle) && !raw_ended(&head) && !raw_ended(&base));
        CU_ASSERT_EQUAL(kit_sessions_parked(host.kit), 1);
    }
    wall_ms = -HOUR_MS;
    answer_stream(&live, id, "late");
    UNTIL(raw_ended(&waiting));
    CU_ASSERT_STRING_EQUAL(raw_body(&waiting), "late");
    struct peer second;
    peer_join(&second, v2_id, 1, nonce);
    peer_expect(&second, WIRE_JOIN_OK); /* its ticket is as young as it was */
    peer_drop(&second);
    peer_drop(&v2);
    UNTIL(kit_sessions_parked(host.kit) == 2);
    peer_resume(&lost, lost_id);
    CU_ASSERT(lost.any.hello_ok.resumed);
    raw_close(&waiting);
    raw_close(&idle);
    raw_close(&head);
    raw_close(&base);
    peer_bye(&lost);
    peer_bye(&live);
    wall_ms = 0;
    host_stop();
}

/* 33: whoever does not come for the next session is as good as lost; its visitors have waited long enough. */
static void a_handover_has_its_time(void) {
    static const char hello[] = "{\"version\":\"hoody-tunnel.v1\",\"capabilities\":[\"handover\"]}";
    host_start("--session-streams 1");
    struct peer p;
    struct raw served, waits;
    peer_connect(&p);
    peer_send_text(&p, WIRE_HELLO, 0, hello);
    peer_expect(&p, WIRE_HELLO_OK);
    uint16_t port = peer_bind(&p, WIRE_KIND_HTTP, 0);
    raw_connect(&served, port);
    raw_send(&served, GET("/1"));
    uint32_t id = peer_expect(&p, WIRE_STREAM_OPEN)->stream_id;
    peer_expect(&p, WIRE_GOAWAY);
    raw_connect(&waits, port);
    raw_send(&waits, GET("/2"));
    some_turns();
    CU_ASSERT(!raw_ended(&waits) && !p.closed);
    answer_stream(&p, id, "whole");
    UNTIL(raw_ended(&served));
    CU_ASSERT_STRING_EQUAL(raw_body(&served), "whole");
    steady_ms = WIRE_LIMIT_HANDOVER_WAIT - 3000;
    some_turns();
    CU_ASSERT(!raw_ended(&waits));
    CU_ASSERT_EQUAL(kit_sessions_parked(host.kit), 0);
    steady_ms = WIRE_LIMIT_HANDOVER_WAIT + 1000;
    UNTIL(kit_sessions_parked(host.kit) == 1 && raw_ended(&waits));
    CU_ASSERT(strncmp(raw_text(&waits), "HTTP/1.1 503 ", 13) == 0);
    UNTIL(p.closed);
    CU_ASSERT_EQUAL(p.close_code, WIRE_CLOSE_GOING_AWAY);
    peer_drop(&p);
    raw_close(&served);
    raw_close(&waits);
    steady_ms = 0;
    host_stop();
}

/* 19: a ticket is good until its life is over, on the clock that nobody sets. */
static void tickets_expire_on_the_steady_clock(void) {
    for (int late = 0; late < 2; late++) {
        host_start("--max-connections 2 --ping-interval 1h");
        struct peer p, second;
        char id[64], nonce[64];
        steady_ms = wall_ms = 0;
        peer_v2_hello(&p, 2, NULL, 0, NULL);
        snprintf(id, sizeof id, "%.*s", HT_SLICE_ARG(p.any.hello_ok.session_id));
        snprintf(nonce, sizeof nonce, "%.*s", HT_SLICE_ARG(p.any.hello_ok.join_tickets[0].nonce));
        CU_ASSERT_EQUAL(p.any.hello_ok.join_tickets[0].expires_ms, WIRE_LIMIT_JOIN_TICKET_LIFE);
        /* Half a minute goes by in no time; what the test itself takes is far below these 10 s. */
        steady_ms = late ? WIRE_LIMIT_JOIN_TICKET_LIFE : WIRE_LIMIT_JOIN_TICKET_LIFE - 10000;
        some_turns();
        if (late) {
            peer_join(&second, id, 1, nonce);
            peer_expect_join_err(&second, WIRE_JOIN_ERROR_INVALID_TICKET);
        } else {
            peer_join(&second, id, 1, nonce);
            peer_expect(&second, WIRE_JOIN_OK);
            peer_drop(&second);
        }
        peer_bye(&p);
        steady_ms = 0;
        host_stop();
    }
}

/* 21: what is parked is gone at the end of the grace, ports and memory too; a machine that slept finds it so. */
static void parked_sessions_end_on_the_steady_clock(void) {
    host_start("--max-sessions 4");
    struct peer p;
    char id[64];
    uint16_t ports[4];
    size_t empty = ht_mem_live();
    for (unsigned i = 0; i < HT_ARRAY_LEN(ports); i++) {
        peer_start(&p, id);
        ports[i] = peer_bind(&p, i % 2 ? WIRE_KIND_HTTP : WIRE_KIND_TCP, 0);
        peer_drop(&p);
        UNTIL(kit_sessions_parked(host.kit) == i + 1);
    }
    steady_ms = WIRE_LIMIT_TAKEOVER_GRACE - 10000;
    some_turns();
    CU_ASSERT_EQUAL(kit_sessions_parked(host.kit), 4);
    steady_ms = WIRE_LIMIT_TAKEOVER_GRACE + HOUR_MS;
    UNTIL(kit_sessions_parked(host.kit) == 0);
    some_turns();
    for (unsigned i = 0; i < HT_ARRAY_LEN(ports); i++)
        CU_ASSERT(port_refuses(ports[i]));
    CU_ASSERT(ht_mem_live() <= empty + 3 + 16); /* the loop keeps a few blocks, and the kit the latest events */
    CU_ASSERT_EQUAL(kit_fd_permits_used(host.kit), 0);
    peer_resume(&p, id);
    CU_ASSERT_FALSE(p.any.hello_ok.resumed);
    peer_bye(&p);
    steady_ms = 0;
    host_stop();
}

/* Every wait of the options' table comes to its end when its time has come, an hour at a time. */
static void every_wait_ends(void) {
    host_start("");
    struct peer p;
    struct raw waiting, idle, head, base, quiet;
    peer_start(&p, NULL);
    uint16_t port = peer_bind(&p, WIRE_KIND_HTTP, 0), tcp = peer_bind(&p, WIRE_KIND_TCP, 0);
    raw_connect(&waiting, port);
    raw_send(&waiting, GET("/slow"));
    peer_expect(&p, WIRE_STREAM_OPEN);
    raw_connect(&idle, port);
    raw_connect(&head, port);
    raw_send(&head, "GET / HT");
    raw_connect(&base, host.port);
    raw_connect(&quiet, tcp);
    some_turns();
    steady_ms = WIRE_LIMIT_RESPONSE_TIMEOUT + 10000; /* the longest of them; the link itself is silent all the time */
    UNTIL(raw_ended(&waiting) && raw_ended(&idle) && raw_ended(&head) && raw_ended(&base));
    CU_ASSERT(strncmp(raw_text(&waiting), "HTTP/1.1 50", 11) == 0); /* 504, or 502 when the session went first */
    CU_ASSERT(strncmp(raw_text(&head), "HTTP/1.1 408 ", 13) == 0);
    steady_ms += HOUR_MS;
    UNTIL(kit_sessions_live(host.kit) == 0 && raw_ended(&quiet));
    steady_ms += HOUR_MS;
    UNTIL(kit_sessions_parked(host.kit) == 0);
    raw_close(&waiting);
    raw_close(&idle);
    raw_close(&head);
    raw_close(&base);
    raw_close(&quiet);
    peer_drop(&p);
    UNTIL(kit_websockets(host.kit) == 0);
    steady_ms = 0;
    host_stop();
}

int main(void) {
    static const struct tap_test tests[] = {
        {"the test's clocks are the kit's", the_clocks_are_ours},
        {"a wall clock that jumps moves nothing", a_wall_clock_that_jumps_moves_nothing},
        {"tickets expire on the steady clock", tickets_expire_on_the_steady_clock},
        {"parked sessions end on the steady clock", parked_sessions_end_on_the_steady_clock},
        {"every waiting state has a time limit", every_wait_ends},
        {"a handover has a time limit", a_handover_has_its_time},
        {NULL, NULL},
    };
    return tap_main("clocks", tests);
}
