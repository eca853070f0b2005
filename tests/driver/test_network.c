/* A tunnel whose machine gets into another network, in a network namespace of the test's own. */
#include "driver/kit_script.h"
#include "support/netns.h"

#define HOUR_MS 3600000u

static const struct wire_resumed_bind ours = {
    .bind_id = 1, .kind = WIRE_KIND_HTTP, .mode = WIRE_MODE_EXPOSE, .container_port = 20001};

/* A tunnel with a binding, which would neither ask nor try again for an hour. */
static void go(void) {
    world_start();
    w.retry_for_ms = HT_NO_RETRY - 1;
    w.retry_min_ms = HOUR_MS;
    w.resumes = w.replaces = true;
    w.resumed_binds = &ours;
    w.n_resumed_binds = 1;
    world_tunnel(NULL);
    w.t->ping_interval_ms = w.t->suspect_after_ms = HOUR_MS;
    CU_ASSERT_EQUAL_FATAL(bind_one(HT_EXPOSE_HTTP, "3000", 0), 1);
    CU_ASSERT_EQUAL_FATAL(ht_tunnel_connect(w.t), HT_TUNNEL_OK);
    UNTIL(w.bound);
    CU_ASSERT_PTR_NOT_NULL_FATAL(w.t->network.watch);
}

static uint64_t pings(void) { return w.t->metrics.pings_total[HT_METRIC_DIRECTION_SENT]; }

static void turn_for(uint64_t ms) {
    for (uint64_t until = ht_now_ms() + ms; ht_now_ms() < until;)
        one_turn();
}

/* The kit goes, and does not answer for now. */
static void kit_leaves(void) {
    io_listener_pause(w.listener, true);
    kit_drops();
    UNTIL(w.disconnected);
    io_timer_set(&w.t->retry_timer, HOUR_MS); /* whatever chance has said */
}

static void the_address_goes(void) {
    go();
    SH("ip addr add 192.0.2.3/24 dev d0");
    turn_for(2 * IO_NETWORK_SETTLE_MS);
    CU_ASSERT_EQUAL(w.disconnected, 0);
    SH("ip addr del 192.0.2.2/24 dev d0 && " WAY_FROM("192.0.2.3"));
    uint64_t begun = ht_now_ms();
    UNTIL(w.connected == 2);
    printf("# back after %u ms\n", (unsigned)(ht_now_ms() - begun));
    CU_ASSERT(w.resumed && w.retrying);
    CU_ASSERT_EQUAL(w.lost_error, HT_TUNNEL_ELOST);
    CU_ASSERT_EQUAL(w.retry_in_ms, 0);
    CU_ASSERT_PTR_NOT_NULL(strstr(w.retry_text, "192.0.2.2"));
    struct io_addr local;
    char text[IO_ADDR_TEXT];
    io_conn_local(ws_conn_io(w.t->now->socks[0].ws), &local);
    CU_ASSERT_STRING_EQUAL(io_addr_host(&local, text), "192.0.2.3");
    settle();
    CU_ASSERT_EQUAL(w.disconnected, 1);
    world_stop();
    SH("ip addr add 192.0.2.2/24 dev d0 && " WAY_FROM("192.0.2.2") " && ip addr del 192.0.2.3/24 dev d0");
}

/* While there is no way to the kit the link is kept: what comes back is most often the same network. */
static void the_network_goes_and_comes(void) {
    go();
    SH("ip link set d0 down && ip addr flush dev d0");
    turn_for(3 * IO_NETWORK_SETTLE_MS);
    CU_ASSERT_EQUAL(w.disconnected, 0);
    SH("ip link set d0 up && ip addr add 192.0.2.1/24 dev d0 && ip addr add 192.0.2.2/24 dev d0 && " WAY_FROM(
        "192.0.2.2"));
    turn_for(3 * IO_NETWORK_SETTLE_MS);
    unsigned before = w.latencies;
    mux_session_ping(w.t->now->mux, ht_now_us());
    driver_link_touch(w.t);
    UNTIL(w.latencies > before);
    CU_ASSERT_EQUAL(w.disconnected, 0);
    CU_ASSERT_EQUAL(w.connected, 1);
    world_stop();
}

/* One PING for what comes together, and one for what comes within some time after it. */
static void other_changes_cost_a_ping(void) {
    go();
    uint64_t before = pings();
    SH("ip addr add 198.51.100.1/24 dev d1 && ip route add 203.0.113.0/24 via 192.0.2.9");
    UNTIL(pings() == before + 1);
    uint64_t first = w.t->network.acted_at; /* the loop's time, which is earlier than ours on a busy machine */
    SH("ip route del 203.0.113.0/24 && ip link set d1 up");
    turn_for(2 * IO_NETWORK_SETTLE_MS);
    SH("ip addr del 198.51.100.1/24 dev d1");
    UNTIL(pings() == before + 2);
    CU_ASSERT(w.t->network.acted_at - first >= 2000);
    turn_for(3 * IO_NETWORK_SETTLE_MS);
    CU_ASSERT_EQUAL(pings(), before + 2);
    CU_ASSERT_EQUAL(w.disconnected, 0);
    UNTIL(w.latencies >= 1); /* they are answered */
    world_stop();
}

static void a_wait_ends(void) {
    go();
    kit_leaves();
    SH("ip addr add 192.0.2.3/24 dev d0 && " WAY_FROM("192.0.2.3"));
    io_listener_pause(w.listener, false);
    UNTIL(w.connected == 2);
    world_stop();
    SH(WAY_FROM("192.0.2.2") " && ip addr del 192.0.2.3/24 dev d0");
}

/* The next attempt would go the same way as the last one, so it may wait. */
static void a_wait_goes_on(void) {
    go();
    kit_leaves();
    unsigned upgrades = w.upgrades;
    io_listener_pause(w.listener, false);
    w.t->network.acted_at = ht_now_ms();
    SH("ip addr add 198.51.100.1/24 dev d1");
    turn_for(3 * IO_NETWORK_SETTLE_MS);
    ht_clock_skip(3000000u);
    turn_for(2 * IO_NETWORK_SETTLE_MS);
    CU_ASSERT_EQUAL(w.upgrades, upgrades);
    CU_ASSERT(io_timer_active(&w.t->network.later));
    ht_clock_skip(15000000u);
    UNTIL(w.connected == 2);
    world_stop();
    SH("ip addr del 198.51.100.1/24 dev d1");
}

static void a_kit_that_wants_to_be_left_alone(void) {
    go();
    w.answer = "HTTP/1.1 503 Unavailable\r\nRetry-After: 3600\r\nContent-Length: 0\r\n\r\n";
    kit_drops();
    UNTIL(w.disconnected);
    ht_tunnel_retry_now(w.t);
    UNTIL(w.retries == 2);
    w.answer = NULL;
    unsigned upgrades = w.upgrades;
    SH("ip addr add 192.0.2.3/24 dev d0 && " WAY_FROM("192.0.2.3"));
    turn_for(3 * IO_NETWORK_SETTLE_MS);
    ht_clock_skip(20000000u);
    turn_for(3 * IO_NETWORK_SETTLE_MS);
    CU_ASSERT_EQUAL(w.upgrades, upgrades);
    w.t->network.sleep.offset_ms -= HOUR_MS; /* it was asleep: this may be another place */
    ht_clock_skip(5000000u);
    UNTIL(w.connected == 2);
    world_stop();
    SH(WAY_FROM("192.0.2.2") " && ip addr del 192.0.2.3/24 dev d0");
}

/* An attempt that hangs is made anew, once. */
static void an_attempt_hangs(void) {
    go();
    w.answer = "";
    kit_drops();
    UNTIL(w.disconnected);
    w.t->connect_timeout_ms = HOUR_MS;
    ht_tunnel_retry_now(w.t);
    UNTIL(w.upgrades == 2);
    SH("ip addr add 198.51.100.1/24 dev d1");
    turn_for(2 * IO_NETWORK_SETTLE_MS);
    CU_ASSERT_EQUAL(w.upgrades, 2); /* it may just be slow */
    ht_clock_skip(2000000u);
    UNTIL(w.upgrades == 3);
    ht_clock_skip(60000000u);
    SH("ip addr del 198.51.100.1/24 dev d1");
    turn_for(3 * IO_NETWORK_SETTLE_MS);
    CU_ASSERT_EQUAL(w.upgrades, 3);
    w.answer = NULL;
    world_stop();
}

/* HELLO was sent, and the answer would come to an address that is gone. */
static void hello_is_not_answered(void) {
    go();
    w.no_hello_ok = true;
    w.t->retry_min_ms = 1;
    kit_drops();
    UNTIL(w.hellos == 2);
    CU_ASSERT_EQUAL(w.t->state, DRIVER_HELLO);
    w.no_hello_ok = false;
    SH("ip addr add 192.0.2.3/24 dev d0 && " WAY_FROM("192.0.2.3") " && ip addr del 192.0.2.2/24 dev d0");
    UNTIL(w.hellos == 3);
    UNTIL(w.connected == 2);
    world_stop();
    SH("ip addr add 192.0.2.2/24 dev d0 && " WAY_FROM("192.0.2.2") " && ip addr del 192.0.2.3/24 dev d0");
}

static void asleep(void) {
    go();
    uint64_t before = pings();
    w.t->network.acted_at = ht_now_ms(); /* this does not wait for anything */
    w.t->network.sleep.offset_ms -= HOUR_MS;
    ht_clock_skip(5000000u);
    UNTIL(pings() == before + 1);
    CU_ASSERT(!w.t->network.woke);
    kit_leaves();
    io_listener_pause(w.listener, false);
    w.t->network.sleep.offset_ms -= HOUR_MS;
    ht_clock_skip(5000000u);
    UNTIL(w.connected == 2);
    world_stop();
}

/* Nothing of this concerns a kit on the same machine. */
static void a_local_kit(void) {
    kit_address = "127.0.0.1";
    go();
    uint64_t before = pings();
    driver_network_changed(w.t);
    turn_for(50);
    CU_ASSERT_EQUAL(pings(), before);
    CU_ASSERT_EQUAL(w.disconnected, 0);
    world_stop();
    kit_address = "192.0.2.1";
}

int main(void) {
    static const struct tap_test tests[] = {
        {"the address goes and another one comes: back at once, resumed", the_address_goes},
        {"the network goes and comes back: the link is kept", the_network_goes_and_comes},
        {"changes that do not matter cost a PING now and then", other_changes_cost_a_ping},
        {"a wait for the next attempt ends when there is a new way", a_wait_ends},
        {"and goes on for a while when the way is the same", a_wait_goes_on},
        {"a kit that wants to be left alone is left alone, until the machine was asleep",
         a_kit_that_wants_to_be_left_alone},
        {"an attempt that hangs is made anew, once", an_attempt_hangs},
        {"an attempt whose address is gone is made anew", hello_is_not_answered},
        {"after a sleep the kit is asked, and the wait ends", asleep},
        {"a kit on the same machine is not asked", a_local_kit},
        {NULL, NULL},
    };
    static const struct tap_test none[] = {{NULL, NULL}};
    kit_address = "192.0.2.1";
    return tap_main("driver: network", enter_network() ? tests : none);
}
