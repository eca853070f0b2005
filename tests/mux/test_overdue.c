/* Links that are lost and say nothing of it, with stream-resume: an ACK that does not come is a sign (KEEP-6). */
#include "mux/replay.h"

#define OVERDUE WIRE_LIMIT_ACK_OVERDUE
#define PATIENCE WIRE_LIMIT_ACK_PATIENCE
#define TRIPS WIRE_LIMIT_ACK_TRIPS

static unsigned pings(struct rig *r) { return rig_count(r, WIRE_PING, 0); }

/* A stream is open, and all that was sent is confirmed. */
static struct rig_stream *begin(struct rig *r) {
    bool kit = r->cfg.role == WIRE_ROLE_KIT;
    struct rig_stream *t = kit ? rig_visit(r, WIRE_KIND_TCP) : &r->streams[0];
    if (!kit)
        CU_ASSERT_FATAL(rig_open(r, 2, RIG_OPEN_TCP) > 0);
    rig_pull(r);
    if (r->counted > 0)
        CU_ASSERT(ack(r, r->counted) > 0);
    rig_tick(r, 0);
    rig_pull(r);
    return t;
}

/* Another message, which has no ACK from now on. */
static void say(struct rig *r, struct rig_stream *t) {
    rig_write(t, 100, false);
    rig_pull(r);
    CU_ASSERT(r->counted > r->acked);
    CU_ASSERT(mux_session_deadline(r->s) <= r->now); /* its time begins with a tick */
    rig_tick(r, 0);
}

static void confirm(struct rig *r) {
    rig_pull(r);
    CU_ASSERT(ack(r, r->counted) > 0);
    rig_tick(r, 0);
}

static void answer_ping(struct rig *r) {
    const struct rig_frame *ping = rig_next(r, WIRE_PING);
    CU_ASSERT_PTR_NOT_NULL_FATAL(ping);
    CU_ASSERT(rig_frame_in(r, WIRE_PONG, 0, ping->head, 8) > 0);
    confirm(r);
}

/* A PING after `overdue`, and after `patience` more the link is away. */
static void expect_times(struct rig *r, uint64_t overdue, uint64_t patience) {
    unsigned before = pings(r), aways = r->aways;
    CU_ASSERT_EQUAL(mux_session_deadline(r->s), r->now + overdue);
    rig_tick(r, overdue - 1);
    CU_ASSERT_EQUAL(pings(r), before);
    rig_tick(r, 1);
    CU_ASSERT_EQUAL(pings(r), before + 1);
    for (uint64_t end = r->now + patience; r->now < end && r->aways == aways;) {
        uint64_t next = ht_min64(mux_session_deadline(r->s), end);
        CU_ASSERT_FATAL(next > r->now);
        if (next == end) {
            rig_tick(r, end - r->now - 1);
            CU_ASSERT_EQUAL(r->aways, aways);
        }
        rig_tick(r, next - r->now);
    }
    CU_ASSERT_EQUAL(r->aways, aways + 1);
    CU_ASSERT_EQUAL(r->overs, 0);
}

static void silence_behind_a_message(void) {
    for (int role = WIRE_ROLE_KIT; role <= WIRE_ROLE_DRIVER; role++) {
        START((enum wire_role)role, resuming);
        struct rig_stream *t = begin(r);
        say(r, t);
        expect_times(r, OVERDUE, PATIENCE);
        CU_ASSERT_EQUAL(t->closes, 0);
        STOP();
    }
}

static void a_word_of_the_peer_ends_it(void) {
    START(WIRE_ROLE_KIT, resuming);
    struct rig_stream *t = begin(r);
    say(r, t);
    for (int i = 0; i < 5; i++) { /* DATA, and no ACK */
        rig_tick(r, OVERDUE - 1);
        CU_ASSERT(rig_frame_in(r, WIRE_DATA, 2, "x", 1) > 0);
        rig_tick(r, 0);
    }
    CU_ASSERT_EQUAL(pings(r), 0);
    confirm(r); /* and then nothing is asked: silence alone has the longer time */
    CU_ASSERT_EQUAL(mux_session_deadline(r->s), r->now + WIRE_LIMIT_SUSPECT_AFTER);
    STOP();
}

/* The PONG comes, and everything is well. */
static void an_answer_in_time(void) {
    START(WIRE_ROLE_KIT, resuming);
    struct rig_stream *t = begin(r);
    say(r, t);
    rig_tick(r, OVERDUE);
    rig_tick(r, PATIENCE - 1);
    answer_ping(r);
    rig_tick(r, PATIENCE);
    CU_ASSERT_EQUAL(r->aways, 0);
    STOP();
}

/* The idle link's PING is a message, too. */
static void an_idle_link(void) {
    START(WIRE_ROLE_DRIVER, resuming);
    rig_tick(r, 0);
    rig_tick(r, WIRE_LIMIT_PING_INTERVAL);
    CU_ASSERT_EQUAL(pings(r), 1);
    rig_tick(r, 0);
    rig_tick(r, OVERDUE + PATIENCE - 1);
    CU_ASSERT_EQUAL(r->aways, 0);
    rig_tick(r, 1);
    CU_ASSERT_EQUAL(r->aways, 1);
    STOP();
}

static void where_answers_take_long(void) {
    START(WIRE_ROLE_KIT, resuming);
    struct rig_stream *t = begin(r);
    say(r, t);
    rig_tick(r, 1500); /* an ACK that took its time */
    confirm(r);
    say(r, t);
    expect_times(r, TRIPS * 1500, TRIPS * 1500);
    STOP();
}

static void what_was_slow_once_is_forgotten(void) {
    START(WIRE_ROLE_KIT, resuming);
    struct rig_stream *t = begin(r);
    say(r, t);
    rig_tick(r, 1500);
    confirm(r);
    for (int i = 0; i < 30; i++) {
        say(r, t);
        rig_tick(r, 1);
        confirm(r);
    }
    say(r, t);
    expect_times(r, OVERDUE, PATIENCE);
    STOP();
}

/* However wrong it was to give the link up, it does not happen again and again. */
static void one_alarm_makes_the_next_one_late(void) {
    START(WIRE_ROLE_KIT, resuming);
    struct rig_stream *t = begin(r);
    say(r, t);
    expect_times(r, OVERDUE, PATIENCE);
    uint64_t received = r->counted;
    mux_link_destroy(&r->l);
    come_back(r, received);
    CU_ASSERT_EQUAL(r->rc, 0);
    rig_pull(r);
    rig_pull(r);
    rig_tick(r, 0);
    say(r, t);
    expect_times(r, 2 * PATIENCE, 2 * PATIENCE);
    STOP();
}

/* A message of 64 KiB on its way, at 8 KB a second: nothing can be heard meanwhile. */
static void a_slow_link_drains(void) {
    START(WIRE_ROLE_KIT, resuming);
    struct rig_stream *t = begin(r);
    say(r, t);
    r->draining = true;
    rig_tick(r, OVERDUE);
    CU_ASSERT_EQUAL(pings(r), 1);
    uint64_t end = r->now + 2 * PATIENCE; /* KEEP-5 asks later still */
    while (r->now < end) {
        uint64_t next = mux_session_deadline(r->s);
        CU_ASSERT_FATAL(next > r->now && next <= r->now + PATIENCE / 4 + 1);
        r->drained += 1000;
        rig_tick(r, next - r->now);
        CU_ASSERT_EQUAL_FATAL(r->aways, 0);
    }
    uint64_t before = r->now; /* nothing arrives any more */
    while (r->aways == 0)
        rig_tick(r, ht_max64(mux_session_deadline(r->s), r->now + 1) - r->now);
    CU_ASSERT(r->now - before >= PATIENCE - PATIENCE / 4 && r->now - before <= PATIENCE + 1);
    STOP();
}

/* What a dead relay takes in is there at once: nothing is on its way any more. */
static void a_relay_that_takes_in_everything(void) {
    START(WIRE_ROLE_KIT, resuming);
    struct rig_stream *t = begin(r);
    say(r, t);
    rig_tick(r, OVERDUE);
    uint64_t end = r->now + PATIENCE;
    while (r->now < end) {
        CU_ASSERT_EQUAL(r->aways, 0);
        r->drained += 1000;
        rig_tick(r, ht_min64(mux_session_deadline(r->s), end) - r->now);
    }
    CU_ASSERT_EQUAL(r->aways, 1);
    STOP();
}

static void patient(struct mux_config *c) {
    resuming(c);
    c->suspect_after_ms = 60 * WIRE_LIMIT_SUSPECT_AFTER;
    c->ping_interval_ms = 0;
}

/* --suspect-after says how hasty one is: both times follow it. */
static void the_option_says_how_soon(void) {
    START(WIRE_ROLE_KIT, patient);
    struct rig_stream *t = begin(r);
    say(r, t);
    expect_times(r, 60 * OVERDUE, 60 * PATIENCE);
    STOP();
}

/* What could not go on afterwards is not cut in haste. */
static void a_session_that_ends_has_its_time(void) {
    START(WIRE_ROLE_KIT, resuming);
    struct rig_stream *t = begin(r);
    mux_session_shutdown(r->s, 0, "bye", 3600000, 1000);
    rig_write(t, 100, false);
    rig_pull(r);
    rig_tick(r, 0);
    rig_tick(r, OVERDUE);
    CU_ASSERT_EQUAL(pings(r), 0);
    rig_tick(r, PATIENCE);
    CU_ASSERT_EQUAL(r->overs + r->aways, 0);
    STOP();
}

int main(void) {
    static const struct tap_test tests[] = {
        {"silence behind a message is noticed soon", silence_behind_a_message},
        {"any word of the peer ends it", a_word_of_the_peer_ends_it},
        {"a PONG in time keeps the link", an_answer_in_time},
        {"an idle link is given up soon after its PING", an_idle_link},
        {"where answers take long there is more time", where_answers_take_long},
        {"what was slow once is forgotten", what_was_slow_once_is_forgotten},
        {"after an alarm there is twice the time", one_alarm_makes_the_next_one_late},
        {"a slow link drains, and is not given up", a_slow_link_drains},
        {"a relay that takes in everything is", a_relay_that_takes_in_everything},
        {"both times follow --suspect-after", the_option_says_how_soon},
        {"a session that ends has the longer time", a_session_that_ends_has_its_time},
        {NULL, NULL},
    };
    return tap_main("mux, overdue", tests);
}
