/* Version 2 of the library against a real kit: several sockets, and what becomes of a lost one. */
#include "driver/duo.h"

#include <sys/ioctl.h>

#define SOCKETS 4
#define ALL_UP(n) (duo_status().connections == (n))

static const struct ht_tunnel_options four = {.connections = SOCKETS, .retry_min_ms = 1};
/* Streams end with their socket; test_whole.c has those that do not. */
static const struct ht_tunnel_options forgetful = {
    .connections = SOCKETS, .retry_min_ms = 1, .replay_buffer = HT_NO_REPLAY};

/* A visitor for each socket; where[i] is the socket that its stream is on. */
static void one_visitor_each(struct raw *r) {
    for (unsigned i = 0; i < SOCKETS; i++) {
        raw_connect(&r[i], d.port);
        duo_talk(&r[i], "hello");
        UNTIL(kit_streams(host.kit) == i + 1);
    }
}

static void all_sockets_stand_and_share_the_streams(void) {
    struct raw r[SOCKETS];
    duo_kit("");
    duo_go(&four);
    UNTIL(ALL_UP(SOCKETS));
    struct ht_tunnel_status s = duo_status();
    CU_ASSERT_EQUAL(s.version, 2);
    CU_ASSERT_EQUAL(s.granted, SOCKETS);
    CU_ASSERT_EQUAL(kit_websockets(host.kit), SOCKETS);
    one_visitor_each(r);
    CU_ASSERT_EQUAL(duo_status().streams, SOCKETS);
    CU_ASSERT_EQUAL(duo_status().bytes_in, SOCKETS * 5);
    CU_ASSERT_EQUAL(duo_status().bytes_out, SOCKETS * 5);
    for (unsigned i = 0; i < SOCKETS; i++)
        raw_close(&r[i]);
    ht_tunnel_close(d.t);
    UNTIL(d.ended);
    CU_ASSERT_EQUAL(d.end_error, HT_TUNNEL_OK);
    UNTIL(kit_sessions_live(host.kit) == 0);
    CU_ASSERT_EQUAL(kit_sessions_parked(host.kit), 0); /* a goodbye */
    duo_stop();
}

static void the_kit_grants_fewer(void) {
    duo_kit("--max-connections 2");
    duo_go(&four);
    UNTIL(ALL_UP(2));
    CU_ASSERT_EQUAL(duo_status().granted, 2);
    duo_stop();
    duo_kit("--max-connections 1");
    duo_go(&four);
    CU_ASSERT_EQUAL(duo_status().granted, 1);
    CU_ASSERT_EQUAL(duo_status().version, 2);
    duo_stop();
}

/* Rule PARK-4, and the socket comes back by itself (SHARD-2). */
static void a_lost_secondary_takes_its_own_streams_only(void) {
    struct raw r[SOCKETS], late[SOCKETS];
    duo_kit("");
    duo_go(&forgetful);
    UNTIL(ALL_UP(SOCKETS));
    one_visitor_each(r);
    duo_cut(2);
    UNTIL(raw_ended(&r[0]) + raw_ended(&r[1]) + raw_ended(&r[2]) + raw_ended(&r[3]) == 1);
    for (unsigned i = 0; i < SOCKETS; i++)
        if (!r[i].eof)
            duo_talk(&r[i], "still here");
    UNTIL(ALL_UP(SOCKETS) && kit_websockets(host.kit) == SOCKETS);
    CU_ASSERT_EQUAL(d.disconnected, 0);
    CU_ASSERT_EQUAL(d.connected, 1);
    for (unsigned i = 0; i < SOCKETS; i++)
        raw_close(&r[i]);
    UNTIL(kit_streams(host.kit) == 0);
    one_visitor_each(late); /* the new socket carries streams too */
    for (unsigned i = 0; i < SOCKETS; i++) {
        duo_talk(&late[i], "again");
        raw_close(&late[i]);
    }
    duo_stop();
}

static void now_and_not_later(void) {
    static const struct ht_tunnel_options patient = {.connections = 2, .retry_min_ms = 3000000};
    duo_kit("");
    duo_go(&patient);
    for (int round = 0; round < 5; round++) { /* waits of up to 30 s, most of them longer than we wait here */
        UNTIL(ALL_UP(2));
        duo_cut(1);
        UNTIL(d.t->now->socks[1].state == SHARD_LOST);
        ht_tunnel_retry_now(d.t);
    }
    UNTIL(ALL_UP(2));
    duo_stop();
}

static void all_secondaries_lost_again_and_again(void) {
    struct raw r;
    duo_kit("");
    duo_go(&four);
    raw_connect(&r, d.port); /* before a secondary stands: on the primary */
    duo_talk(&r, "a");
    for (unsigned round = 0; round < 5; round++) {
        UNTIL(ALL_UP(SOCKETS));
        for (unsigned i = 1; i < SOCKETS; i++)
            duo_cut(i);
        UNTIL(!ALL_UP(SOCKETS));
        duo_talk(&r, "b");
    }
    UNTIL(ALL_UP(SOCKETS));
    CU_ASSERT_EQUAL(d.connected, 1);
    raw_close(&r);
    duo_stop();
}

static int fd_of(unsigned index) { return io_conn_fd(ws_conn_io(d.t->now->socks[index].ws)); }

/* Bytes that have come and were not looked at. */
static int waiting(unsigned index) {
    int n = 0;
    CU_ASSERT_EQUAL(ioctl(fd_of(index), FIONREAD, &n), 0);
    return n;
}

/* The network fails, and what was on its way is gone. */
static void cut_and_swallow(unsigned index) {
    static char gone[65536];
    duo_cut(index);
    while (recv(fd_of(index), gone, sizeof gone, MSG_DONTWAIT) > 0)
        continue;
    ws_conn_pause(d.t->now->socks[index].ws, false);
}

/* Rule SHARD-3. What the kit had on its way to lost sockets would otherwise use its credit up in the second round. */
static void credit_does_not_leak(void) {
    struct raw r[SOCKETS];
    duo_kit("--session-initial-window 1000000");
    duo_go(&forgetful);
    for (unsigned round = 0; round < 5; round++) {
        UNTIL(ALL_UP(SOCKETS) && kit_websockets(host.kit) == SOCKETS);
        d.swallow = false;
        one_visitor_each(r);
        d.swallow = true;
        for (unsigned i = 1; i < SOCKETS; i++)
            ws_conn_pause(d.t->now->socks[i].ws, true);
        for (unsigned i = 0; i < SOCKETS; i++)
            fill(&r[i], 220000);
        for (unsigned i = 1; i < SOCKETS; i++)
            UNTIL(waiting(i) > 100000);
        for (unsigned i = 1; i < SOCKETS; i++)
            cut_and_swallow(i);
        UNTIL(!ALL_UP(SOCKETS));
        for (unsigned i = 0; i < SOCKETS; i++)
            raw_close(&r[i]);
        UNTIL(kit_streams(host.kit) == 0 && duo_status().streams == 0);
    }
    CU_ASSERT_EQUAL(d.connected, 1);
    duo_stop();
}

/* The primary's fate is the session's: it resumes with all of its sockets. */
static void a_lost_primary_is_resumed(void) {
    struct raw r;
    duo_kit("");
    duo_go(&four);
    UNTIL(ALL_UP(SOCKETS));
    uint16_t port = d.port;
    for (unsigned round = 1; round <= 3; round++) {
        duo_cut(0);
        UNTIL(d.resumed == round && ALL_UP(SOCKETS));
        CU_ASSERT_EQUAL(d.disconnected, round);
        CU_ASSERT_EQUAL(d.lost_error, HT_TUNNEL_ELOST);
        CU_ASSERT_EQUAL(d.bound, 1);
        CU_ASSERT_EQUAL(d.port, port);
        UNTIL(kit_websockets(host.kit) == SOCKETS);
        raw_connect(&r, port);
        duo_talk(&r, "back");
        raw_close(&r);
    }
    duo_stop();
}

/* A secondary that is silent is asked, and replaced when it does not answer. */
static void a_dead_secondary_is_noticed(void) {
    struct ht_tunnel_options o = {
        .connections = 2, .retry_min_ms = 1, .ping_interval_ms = 20, .pong_timeout_ms = 10000};
    duo_kit("");
    duo_go(&o);
    UNTIL(ALL_UP(2));
    struct driver_sock *s = &d.t->now->socks[1];
    UNTIL(s->pinged_at);
    UNTIL(!s->pinged_at); /* a live one answers */
    CU_ASSERT_EQUAL(s->state, SHARD_UP);
    d.t->pong_timeout_ms = 50;
    io_conn_read_on(ws_conn_io(s->ws), false); /* what comes is not heard */
    ws_conn_pause(s->ws, true);
    UNTIL(s->state == SHARD_LOST || s->state == SHARD_ASKED);
    CU_ASSERT_PTR_NOT_NULL(strstr(d.log, "no longer answers"));
    d.t->pong_timeout_ms = 10000;
    UNTIL(ALL_UP(2));
    CU_ASSERT_EQUAL(d.connected, 1);
    duo_stop();
}

static void patient_again(struct io_timer *t) {
    io_timer_stop(t);
    d.t->pong_timeout_ms = 10000;
}

/* While a BIND waits for its answer nothing is read from secondaries: their silence is the driver's own. */
static void a_paused_secondary_is_not_dead(void) {
    struct ht_tunnel_options o = {
        .connections = 2, .retry_min_ms = 1, .ping_interval_ms = 20, .pong_timeout_ms = 10000};
    struct io_timer later;
    duo_kit("");
    duo_go(&o);
    UNTIL(ALL_UP(2));
    struct driver_binding *b = HT_LIST_ENTRY(d.t->bindings.next, struct driver_binding, node);
    int before = (int)b->state;
    b->state = BINDING_ASKED;
    driver_shards_bind_changed(d.t);
    d.t->pong_timeout_ms = 50;
    io_timer_init(host.loop, &later, patient_again);
    io_timer_set(&later, 300);
    UNTIL(d.t->pong_timeout_ms == 10000);
    CU_ASSERT(ALL_UP(2));
    b->state = before;
    driver_shards_bind_changed(d.t);
    UNTIL(!d.t->now->socks[1].pinged_at);
    CU_ASSERT_PTR_NULL(strstr(d.log, "does not answer"));
    duo_stop();
}

/* Whichever allocation of both ends fails, nothing is left behind. */
static void memory_runs_out(void) {
    for (long i = 0; i < 120; i++) {
        struct ht_tunnel_options o = {.size = sizeof o, .connections = SOCKETS, .retry_min_ms = 1};
        char url[64];
        duo_kit("");
        snprintf(url, sizeof url, "ws://127.0.0.1:%u", host.port);
        o.url = url;
        CU_ASSERT_EQUAL_FATAL(driver_create_on(host.loop, &d.t, &o, NULL, NULL), HT_TUNNEL_OK);
        ht_mem_fail_at(i);
        ht_tunnel_connect(d.t);
        for (int turns = 0; turns < 60; turns++)
            io_loop_turn(host.loop, false);
        ht_mem_fail_at(-1);
        duo_stop();
    }
}

static void destroyed_at_every_stage(void) {
    for (int turns = 0; turns < 40; turns++) {
        duo_kit("");
        duo_go(&four);
        for (int i = 0; i < turns; i++)
            ready_turn();
        if (turns % 2)
            duo_cut(0);
        duo_stop();
    }
}

static const struct tap_test tests[] = {
    {"all sockets are up and share the streams", all_sockets_stand_and_share_the_streams},
    {"a kit may grant fewer connections", the_kit_grants_fewer},
    {"a lost secondary takes its own streams only", a_lost_secondary_takes_its_own_streams_only},
    {"a retry on request replaces lost secondaries at once", now_and_not_later},
    {"secondaries that are lost again and again come back", all_secondaries_lost_again_and_again},
    {"credit does not leak", credit_does_not_leak},
    {"a lost primary is resumed", a_lost_primary_is_resumed},
    {"a dead secondary is noticed", a_dead_secondary_is_noticed},
    {"a secondary that is only paused is not given up", a_paused_secondary_is_not_dead},
    {"each allocation may fail", memory_runs_out},
    {"a tunnel with secondaries can be destroyed at every stage", destroyed_at_every_stage},
    {NULL, NULL},
};

int main(void) { return tap_main("driver, several sockets", tests); }
