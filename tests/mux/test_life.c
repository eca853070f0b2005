/* Dead links, and links that only look dead: KEEP-1, KEEP-2, KEEP-5. */
#include "mux/rig.h"

#define SUSPECT WIRE_LIMIT_SUSPECT_AFTER

static void defaults(struct mux_config *c) { c->suspect_after_ms = SUSPECT; }

static unsigned pings(struct rig *r) { return rig_count(r, WIRE_PING, 0); }

/* What both ends do while something is under way: a PING after 15 s, the end 15 s later. */
static void an_active_link_is_not_waited_for(void) {
    for (int role = WIRE_ROLE_KIT; role <= WIRE_ROLE_DRIVER; role++) {
        size_t live = ht_mem_live();
        struct rig *r = rig_start((enum wire_role)role, defaults);
        CU_ASSERT_PTR_NOT_NULL_FATAL(r->s);
        bool open = role == WIRE_ROLE_KIT ? rig_visit(r, WIRE_KIND_HTTP) != NULL : rig_open(r, 2, RIG_OPEN_TCP) > 0;
        CU_ASSERT_FATAL(open);
        rig_tick(r, 0);
        rig_tick(r, SUSPECT - 1);
        CU_ASSERT_EQUAL(pings(r), 0);
        CU_ASSERT_EQUAL(mux_session_deadline(r->s), r->now + 1);
        rig_tick(r, 1);
        CU_ASSERT_EQUAL(pings(r), 1);
        CU_ASSERT_EQUAL(mux_session_deadline(r->s), r->now + SUSPECT);
        rig_tick(r, SUSPECT - 1);
        CU_ASSERT_EQUAL(r->overs, 0);
        rig_tick(r, 1);
        CU_ASSERT_EQUAL(r->overs, 1);
        CU_ASSERT_EQUAL(r->why, MUX_END_TIMEOUT);
        CU_ASSERT_EQUAL(r->streams[0].closes, 1);
        CU_ASSERT(mux_stream_was_lost(r->streams[0].st)); /* nobody is to blame the service for it */
        /* GOAWAY from a driver would be a goodbye. */
        CU_ASSERT_EQUAL(rig_count(r, WIRE_GOAWAY, 0), role == WIRE_ROLE_KIT);
        rig_stop(r, live);
    }
}

static void an_idle_link_has_its_time(void) {
    size_t live = ht_mem_live();
    struct rig *r = rig_start(WIRE_ROLE_DRIVER, defaults);
    rig_tick(r, WIRE_LIMIT_PING_INTERVAL - 1);
    CU_ASSERT_EQUAL(pings(r), 0);
    rig_tick(r, 1);
    CU_ASSERT_EQUAL(pings(r), 1);
    rig_tick(r, WIRE_LIMIT_PONG_TIMEOUT - 1);
    CU_ASSERT_EQUAL(r->overs, 0);
    rig_tick(r, 1);
    CU_ASSERT_EQUAL(r->why, MUX_END_TIMEOUT);
    rig_stop(r, live);
}

/* A visitor comes while the PING of an idle link is out: he waits for 15 s, not for what is left of 60. */
static void a_visitor_on_a_quiet_link(void) {
    size_t live = ht_mem_live();
    struct rig *r = rig_start(WIRE_ROLE_KIT, defaults);
    mux_session_set_bindings(r->s, 1);
    rig_tick(r, WIRE_LIMIT_PING_INTERVAL);
    CU_ASSERT_EQUAL(pings(r), 1);
    rig_tick(r, 20000);
    CU_ASSERT_PTR_NOT_NULL_FATAL(rig_visit(r, WIRE_KIND_HTTP));
    CU_ASSERT(mux_session_deadline(r->s) <= r->now); /* the turn ends with a tick */
    rig_tick(r, 0);
    CU_ASSERT_EQUAL(mux_session_deadline(r->s), r->now + SUSPECT);
    rig_tick(r, SUSPECT - 1);
    CU_ASSERT_EQUAL(r->overs, 0);
    rig_tick(r, 1);
    CU_ASSERT_EQUAL(r->why, MUX_END_TIMEOUT);
    rig_stop(r, live);
    /* Silence that is older than 15 s is asked about at once. */
    live = ht_mem_live();
    r = rig_start(WIRE_ROLE_KIT, defaults);
    mux_session_set_bindings(r->s, 1);
    rig_tick(r, SUSPECT + 1000);
    CU_ASSERT_PTR_NOT_NULL_FATAL(rig_visit(r, WIRE_KIND_HTTP));
    rig_tick(r, 0);
    CU_ASSERT_EQUAL(pings(r), 1);
    rig_stop(r, live);
}

/* Any word counts, not the PONG alone; without one the longer time is still over at its end. */
static void any_word_is_a_sign_of_life(void) {
    size_t live = ht_mem_live();
    struct rig *r = rig_start(WIRE_ROLE_DRIVER, defaults);
    CU_ASSERT(rig_open(r, 2, RIG_OPEN_TCP) > 0);
    rig_tick(r, 0);
    rig_tick(r, SUSPECT);
    CU_ASSERT_EQUAL(pings(r), 1);
    for (unsigned passed = 0; passed < WIRE_LIMIT_PONG_TIMEOUT - 10000; passed += 10000) {
        rig_tick(r, 10000);
        CU_ASSERT_EQUAL(r->overs, 0);
        rig_frame_in(r, WIRE_DATA, 2, "x", 1);
        rig_tick(r, 0);
    }
    rig_tick(r, 10000);
    CU_ASSERT_EQUAL(r->overs, 1); /* KEEP-2 */
    rig_stop(r, live);
}

/* The PING stands in the queue of a slow link, which still moves. */
static void a_slow_link_is_no_dead_one(void) {
    size_t live = ht_mem_live();
    struct rig *r = rig_start(WIRE_ROLE_KIT, defaults);
    struct rig_stream *t = rig_visit(r, WIRE_KIND_TCP);
    t->to_send = 500000;
    mux_stream_ready(t->st);
    rig_tick(r, 0);
    for (unsigned n = 0; n < 6; n++) { /* 10 KiB/s, for a minute in all */
        CU_ASSERT_TRUE(rig_pull_one(r, 65536 + 9));
        rig_tick(r, 9000);
        CU_ASSERT_EQUAL(r->overs, 0);
    }
    /* Nothing is taken any more. */
    rig_tick(r, SUSPECT - 9000 - 1);
    CU_ASSERT_EQUAL(r->overs, 0);
    rig_tick(r, SUSPECT);
    CU_ASSERT_EQUAL(r->overs, 1);
    rig_stop(r, live);
}

/* The machine slept: the answer to an older PING may never come. */
static void a_wake_asks_at_once(void) {
    size_t live = ht_mem_live();
    struct rig *r = rig_start(WIRE_ROLE_DRIVER, defaults);
    rig_tick(r, WIRE_LIMIT_PING_INTERVAL);
    CU_ASSERT_EQUAL(pings(r), 1);
    mux_session_probe(r->s, r->now * 1000, 0);
    CU_ASSERT_EQUAL(pings(r), 2);
    rig_tick(r, 0);
    rig_tick(r, SUSPECT - 1);
    mux_session_probe(r->s, r->now * 1000, 0); /* again and again gives nobody more time */
    CU_ASSERT_EQUAL(r->overs, 0);
    rig_tick(r, 1);
    CU_ASSERT_EQUAL(r->why, MUX_END_TIMEOUT);
    rig_stop(r, live);
    live = ht_mem_live();
    r = rig_start(WIRE_ROLE_DRIVER, defaults);
    mux_session_probe(r->s, r->now * 1000, 0);
    const struct rig_frame *ping = rig_next(r, WIRE_PING);
    CU_ASSERT_PTR_NOT_NULL_FATAL(ping);
    rig_frame_in(r, WIRE_PONG, 0, ping->head, 8);
    rig_tick(r, 0);
    rig_tick(r, SUSPECT + 1000);
    CU_ASSERT_EQUAL(r->overs, 0);
    CU_ASSERT_EQUAL(pings(r), 1); /* an idle link again */
    rig_stop(r, live);
}

/* Frames that were on their way give it time, and no more: the way that they came may be another one by now. */
static void only_the_answer_to_a_wake_is_one(void) {
    size_t live = ht_mem_live();
    struct rig *r = rig_start(WIRE_ROLE_DRIVER, defaults);
    CU_ASSERT(rig_open(r, 2, RIG_OPEN_TCP) > 0);
    rig_tick(r, 0);
    mux_session_probe(r->s, r->now * 1000, 700);
    rig_tick(r, 0);
    for (unsigned i = 0; i < 3; i++) {
        rig_tick(r, 699);
        CU_ASSERT_EQUAL(r->overs, 0);
        rig_frame_in(r, WIRE_DATA, 2, "x", 1);
        rig_tick(r, 0);
    }
    CU_ASSERT_EQUAL(mux_session_deadline(r->s), r->now + 700);
    rig_tick(r, 700);
    CU_ASSERT_EQUAL(r->why, MUX_END_TIMEOUT);
    rig_stop(r, live);
}

/* What has been quiet since the last tick was not without an answer for as long. */
static void a_wake_counts_from_when_it_asks(void) {
    size_t live = ht_mem_live();
    struct rig *r = rig_start(WIRE_ROLE_DRIVER, defaults);
    CU_ASSERT(rig_open(r, 2, RIG_OPEN_TCP) > 0);
    rig_tick(r, 0);
    r->now += SUSPECT / 2;
    mux_session_probe(r->s, r->now * 1000, 700);
    const struct rig_frame *ping = rig_next(r, WIRE_PING);
    CU_ASSERT_PTR_NOT_NULL_FATAL(ping);
    rig_tick(r, 0);
    rig_tick(r, 699);
    CU_ASSERT_EQUAL(r->overs, 0);
    rig_frame_in(r, WIRE_PONG, 0, ping->head, 8);
    CU_ASSERT_EQUAL(r->rtt_us, 699000);
    rig_tick(r, SUSPECT - 1);
    CU_ASSERT_EQUAL(r->overs, 0);
    rig_stop(r, live);
}

int main(void) {
    static const struct tap_test tests[] = {
        {"a silent peer is noticed sooner while streams are open", an_active_link_is_not_waited_for},
        {"an idle link has the longer time limits", an_idle_link_has_its_time},
        {"a visitor on a quiet link shortens the time limits", a_visitor_on_a_quiet_link},
        {"any frame shows that the peer is alive", any_word_is_a_sign_of_life},
        {"a link that is only slow is not given up", a_slow_link_is_no_dead_one},
        {"after a suspend a PING is sent at once", a_wake_asks_at_once},
        {"its time begins when it asks", a_wake_counts_from_when_it_asks},
        {"frames that were on their way are no answer to it", only_the_answer_to_a_wake_is_one},
        {NULL, NULL},
    };
    return tap_main("mux, life", tests);
}
