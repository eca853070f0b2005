/*
 * Visitors that come while the link of their driver is away: they wait, and are served when it is back (rule PARK-2).
 * Here its owner is told so; what happens to streams meanwhile is seen with whole programs (tests/integration).
 *
 * Runs: sanitized.
 */
#include "relay/visitor_priv.h"
#include "relay/visitor_rig.h"

#define HOLD_MS 5000
#define PARKED(connection)                                                                                             \
    ANSWER("503 Service Unavailable", "retry-after: 5\r\n" connection, "22", "tunnel is reconnecting")

static void begin_hold(uint64_t hold_ms) {
    rig_start();
    rig.cfg.hold_ms = hold_ms;
    rig_table();
    drv_start(&d);
    port = rig_expose(&d);
}

static void away(void) { relay_owner_away(rig.table, &d.owner); }

static void back(void) {
    relay_owner_back(&d.owner);
    relay_owner_room(rig.table, &d.owner);
}

static uint64_t holds(enum ht_metric_hold how) { return rig.metrics.holds_total[how]; }

static void pass(uint64_t ms) {
    ht_clock_skip(ms * 1000);
    settle();
}

static void a_visitor_waits_and_is_served(void) {
    begin_hold(HOLD_MS);
    struct visitor v = vis_connect(port), idle = vis_connect(port);
    settle();
    away();
    vis_send(&v, POST "Content-Length: 10\r\n\r\n01234");
    vis_send(&idle, GET);
    UNTIL(relay_owner_waiting(&d.owner) == 2);
    pass(HOLD_MS - 500);
    vis_send(&v, "56789");
    CU_ASSERT_EQUAL(d.n_streams, 0);
    CU_ASSERT_EQUAL(vis_got(&v), 0);
    back();
    UNTIL(d.n_streams == 2);
    answer_x_to_all(1);
    answer_x_to_all(2);
    vis_expect(&v, OK_X);
    vis_expect(&idle, OK_X);
    CU_ASSERT_EQUAL(holds(HT_METRIC_HOLD_SERVED), 2);
    leave_soon(&idle);
    leave(&v);
    end();
}

/* Off: end_holds() looks at no clock. */
static void whoever_waited_long_enough_is_told_so(void) {
    begin_hold(HOLD_MS);
    struct visitor early = vis_connect(port), late = vis_connect(port);
    away();
    vis_send(&early, GET);
    UNTIL(relay_owner_waiting(&d.owner) == 1);
    pass(HOLD_MS / 2);
    vis_send(&late, GET);
    UNTIL(relay_owner_waiting(&d.owner) == 2);
    pass(HOLD_MS / 2);
    vis_expect(&early, PARKED(""));
    CU_ASSERT_EQUAL(relay_owner_waiting(&d.owner), 1);
    CU_ASSERT_EQUAL(vis_got(&late), 0);
    vis_send(&early, GET); /* its connection stands, and it may wait again */
    UNTIL(relay_owner_waiting(&d.owner) == 2);
    pass(HOLD_MS / 2);
    vis_expect(&late, PARKED(""));
    back();
    answer_x(1);
    vis_expect(&early, OK_X);
    CU_ASSERT_EQUAL(holds(HT_METRIC_HOLD_LATE), 2);
    CU_ASSERT_EQUAL(holds(HT_METRIC_HOLD_SERVED), 1);
    leave_soon(&late);
    leave(&early);
    end();
}

static void without_a_hold_nobody_waits(void) {
    begin_hold(0);
    struct visitor v = vis_connect(port), raw;
    uint16_t pulled = rig_pull(&d);
    away();
    vis_send(&v, GET);
    vis_expect(&v, PARKED(""));
    raw = vis_connect(pulled);
    vis_expect_end(&raw, false);
    back();
    vis_send(&v, GET);
    answer_x(1);
    vis_expect(&v, OK_X);
    CU_ASSERT_EQUAL(holds(HT_METRIC_HOLD_LATE), 0);
    vis_close(&raw);
    leave(&v);
    end();
}

static void whoever_leaves_opens_no_stream(void) {
    begin_hold(HOLD_MS);
    struct visitor v = vis_connect(port), raw = vis_connect(rig_pull(&d));
    settle(); /* a stream of `raw` was opened before */
    drv_reset(&d, opened(1)->id, WIRE_CODE_CANCEL);
    drv_send(&d);
    vis_expect_end(&raw, true);
    vis_close(&raw);
    away();
    vis_send(&v, GET);
    UNTIL(relay_owner_waiting(&d.owner) == 1);
    leave(&v);
    CU_ASSERT_EQUAL(relay_owner_waiting(&d.owner), 0);
    CU_ASSERT_EQUAL(holds(HT_METRIC_HOLD_LEFT), 1);
    back();
    settle();
    CU_ASSERT_EQUAL(d.n_streams, 1);
    end();
}

/* Whether the kit knows of the visitor's end when it writes the head is a matter of luck, and so is "connection:
 * close".
 */
static void expect_x_and_end(struct visitor *v) {
    UNTIL(vis_over(v));
    const char *p = (const char *)ht_buf_head(&v->rx);
    size_t n = vis_got(v);
    CU_ASSERT(n > 15 && memcmp(p, "HTTP/1.1 200 OK", 15) == 0 && memcmp(p + n - 5, "\r\n\r\nx", 5) == 0);
    CU_ASSERT_FALSE(v->cut);
}

/* As `printf ... | nc -N` does it: the request is whole, and so is what the visitor has to say. Off: `stays`. */
static void one_that_has_closed_its_side_waits_too(void) {
    begin_hold(HOLD_MS);
    struct visitor before = vis_connect(port), v = vis_connect(port), late = vis_connect(port);
    settle();
    away();
    vis_send(&before, GET);
    vis_send(&v, POST "Content-Length: 2\r\n\r\nab");
    shutdown(v.fd, SHUT_WR);
    UNTIL(relay_owner_waiting(&d.owner) == 2);
    shutdown(before.fd, SHUT_WR);
    pass(HOLD_MS - 500);
    CU_ASSERT_EQUAL(vis_got(&v) + vis_got(&before), 0);
    CU_ASSERT_EQUAL(relay_owner_waiting(&d.owner), 2);
    back(); /* no look at them in between */
    UNTIL(d.n_streams == 2);
    answer_x_to_all(1);
    answer_x_to_all(2);
    expect_x_and_end(&v);
    expect_x_and_end(&before);
    away();
    vis_send(&late, GET);
    shutdown(late.fd, SHUT_WR);
    UNTIL(relay_owner_waiting(&d.owner) == 1);
    pass(HOLD_MS);
    vis_expect(&late, PARKED(""));
    vis_expect_end(&late, false);
    CU_ASSERT_EQUAL(holds(HT_METRIC_HOLD_SERVED), 2);
    CU_ASSERT_EQUAL(holds(HT_METRIC_HOLD_LATE), 1);
    CU_ASSERT_EQUAL(holds(HT_METRIC_HOLD_LEFT), 0);
    back();
    vis_close(&before);
    vis_close(&late);
    leave(&v);
    end();
}

static void one_that_has_closed_both_sides_has_left(void) {
    begin_hold(HOLD_MS);
    struct visitor v = vis_connect(port);
    away();
    vis_send(&v, GET);
    shutdown(v.fd, SHUT_WR);
    UNTIL(relay_owner_waiting(&d.owner) == 1);
    settle();
    leave_soon(&v);
    UNTIL(relay_owner_waiting(&d.owner) == 0);
    CU_ASSERT_EQUAL(holds(HT_METRIC_HOLD_LEFT), 1);
    back();
    settle();
    CU_ASSERT_EQUAL(d.n_streams, 0);
    end();
}

static void a_pulled_connection_waits(void) {
    begin_hold(HOLD_MS);
    uint16_t pulled = rig_pull(&d);
    away();
    struct visitor v = vis_connect(pulled), late;
    vis_send(&v, "hello");
    shutdown(v.fd, SHUT_WR); /* it may still read */
    UNTIL(relay_owner_waiting(&d.owner) == 1);
    settle();
    back();
    struct played_stream *st = opened(1);
    UNTIL(st->eofs == 1);
    CU_ASSERT(ht_buf_size(&st->body) == 5 && memcmp(ht_buf_head(&st->body), "hello", 5) == 0);
    drv_text(&d, st->id, "bye");
    drv_eof(&d, st->id);
    drv_send(&d);
    vis_expect(&v, "bye");
    vis_expect_end(&v, false);
    vis_close(&v);
    away();
    late = vis_connect(pulled);
    UNTIL(relay_owner_waiting(&d.owner) == 1);
    pass(HOLD_MS);
    vis_expect_end(&late, false); /* rules TCP-3, PARK-2 */
    vis_close(&late);
    back();
    CU_ASSERT_EQUAL(d.n_streams, 1);
    UNTIL(relay_count_visitors(rig.table) == 0);
    end();
}

/* A session that is known from a record only has no mux session yet. */
static void visitors_wait_for_a_session_that_has_no_link_yet(void) {
    begin_hold(HOLD_MS);
    struct mux_session *later = d.owner.mux;
    d.owner.mux = NULL;
    away();
    struct visitor v = vis_connect(port);
    vis_send(&v, GET);
    UNTIL(relay_owner_waiting(&d.owner) == 1);
    d.owner.mux = later;
    back();
    answer_x(1);
    vis_expect(&v, OK_X);
    leave(&v);
    end();
}

/* One that waits for room already, when the link is lost, waits from then on. */
static void one_that_waits_for_room_waits_on(void) {
    begin_hold(HOLD_MS);
    d.owner.restarting = true;
    struct visitor v = vis_connect(port);
    vis_send(&v, GET);
    UNTIL(relay_owner_waiting(&d.owner) == 1);
    pass(2 * HOLD_MS);
    d.owner.restarting = false;
    away();
    pass(HOLD_MS - 1000);
    CU_ASSERT_EQUAL(vis_got(&v), 0);
    pass(1000);
    vis_expect(&v, PARKED(""));
    back();
    leave(&v);
    end();
}

/* What has to be shorter than the hold ends nobody's wait: the hold decides. Off: the case of VISITOR_WAITING in
 * timer_fired(). */
static void no_other_limit_counts_meanwhile(void) {
    rig_start();
    rig.cfg.hold_ms = HOLD_MS;
    rig.cfg.response_timeout_ms = 1000;
    rig_table();
    drv_start(&d);
    port = rig_expose(&d);
    away();
    struct visitor v = vis_connect(port);
    vis_send(&v, GET);
    UNTIL(relay_owner_waiting(&d.owner) == 1);
    for (int i = 0; i < 3; i++)
        pass(1100);
    CU_ASSERT_EQUAL(vis_got(&v), 0);
    CU_ASSERT_EQUAL(relay_owner_waiting(&d.owner), 1);
    back();
    answer_x(1);
    vis_expect(&v, OK_X);
    leave(&v);
    end();
}

/* Off: relay_permit() without relay_hold_shed(). */
static void whoever_waits_gives_the_descriptor_up_first(void) {
    begin_hold(HOLD_MS);
    struct driver other;
    drv_start(&other);
    uint16_t live = rig_expose(&other);
    away();
    struct visitor one = vis_connect(port), two = vis_connect(port);
    vis_send(&one, GET);
    UNTIL(relay_owner_waiting(&d.owner) == 1);
    vis_send(&two, GET);
    UNTIL(relay_owner_waiting(&d.owner) == 2);
    rig.fds.total = rig.fds.used;
    struct visitor v = vis_connect(live);
    vis_send(&v, GET);
    UNTIL(other.n_streams == 1);
    vis_expect(&one, PARKED(CLOSE)); /* the first that came */
    CU_ASSERT_EQUAL(relay_owner_waiting(&d.owner), 1);
    CU_ASSERT_EQUAL(rig.fds.used, rig.fds.total);
    rig.fds.total = 200;
    back();
    answer_x(1);
    vis_expect(&two, OK_X);
    vis_close(&one);
    leave_soon(&v);
    leave(&two);
    drv_stop(&other);
    end();
}

static void waiting_visitors_go_with_their_session(void) {
    begin_hold(HOLD_MS);
    away();
    struct visitor v = vis_connect(port), raw = vis_connect(rig_pull(&d));
    vis_send(&v, GET);
    UNTIL(relay_owner_waiting(&d.owner) == 2);
    relay_owner_drop(rig.table, &d.owner);
    vis_expect(&v, ANSWER("502 Bad Gateway", CLOSE, "57", "the tunnel of this port was closed before the answer came"));
    vis_expect_end(&raw, true);
    vis_close(&raw);
    leave(&v);
    end();
}

/* Whoever takes the port serves them. */
static void a_takeover_serves_those_who_wait(void) {
    begin_hold(HOLD_MS);
    struct driver other;
    drv_start(&other);
    away();
    struct visitor v = vis_connect(port);
    vis_send(&v, GET);
    UNTIL(relay_owner_waiting(&d.owner) == 1);
    struct relay_bound bound;
    enum wire_bind_error code;
    struct wire_bind bind = {
        .kind = WIRE_KIND_HTTP, .mode = WIRE_MODE_EXPOSE, .container_port = port, .takeover = true};
    CU_ASSERT_EQUAL_FATAL(rig_bind(&other, bind, &bound, &code), 0);
    UNTIL(other.n_streams == 1);
    CU_ASSERT_EQUAL(relay_owner_waiting(&d.owner), 0);
    leave(&v);
    drv_stop(&other);
    back();
    end();
}

int main(void) {
    static const struct tap_test tests[] = {
        {"a visitor waits, and is served", a_visitor_waits_and_is_served},
        {"whoever waited long enough is told so", whoever_waited_long_enough_is_told_so},
        {"without a hold nobody waits", without_a_hold_nobody_waits},
        {"whoever leaves opens no stream", whoever_leaves_opens_no_stream},
        {"one that has closed its side waits too", one_that_has_closed_its_side_waits_too},
        {"one that has closed both sides has left", one_that_has_closed_both_sides_has_left},
        {"a pulled connection waits", a_pulled_connection_waits},
        {"visitors wait for a session that has no link yet", visitors_wait_for_a_session_that_has_no_link_yet},
        {"one that waits for room waits on", one_that_waits_for_room_waits_on},
        {"no other limit counts meanwhile", no_other_limit_counts_meanwhile},
        {"whoever waits gives the descriptor up first", whoever_waits_gives_the_descriptor_up_first},
        {"waiting visitors go with their session", waiting_visitors_go_with_their_session},
        {"a takeover serves those who wait", a_takeover_serves_those_who_wait},
        {NULL, NULL},
    };
    return tap_main("relay visitors whose link is away", tests);
}
