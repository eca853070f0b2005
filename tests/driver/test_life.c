/* A tunnel through the hours, against a real kit: sleeping links, dead ones, and others who claim the session. */
#include "driver/duo.h"
#include "mux/mux_priv.h"

#define HOUR_MS UINT64_C(3600000)

static const struct ht_tunnel_options usual = {.retry_min_ms = 1};

/* ---- a day in a moment ---- */

/* Everything that can happen at this moment of the clock, the answer to a PING included. */
static void happen(void) {
    uint64_t until = ht_now_ms() + PATIENCE_MS;
    int turns = 0;
    do
        io_loop_turn(host.loop, false);
    while ((++turns < 6 || (d.t->now->mux && d.t->now->mux->ping_sent)) && ht_now_ms() < until);
}

/* The clock moves to when something is due next, at most by `most_ms`. */
static void skip(uint64_t most_ms) {
    int ms = io_loop_timeout_ms(host.loop);
    ht_clock_skip((ms < 0 ? most_ms : ht_min(most_ms, (uint64_t)ms)) * 1000);
}

static void a_quiet_day(void) {
    struct raw r;
    struct ht_tunnel_options o = {.connections = 2};
    duo_kit("");
    duo_go(&o);
    UNTIL(duo_status().connections == 2);
    happen();
    uint64_t begin = ht_now_ms();
    unsigned before = d.latencies;
    while (ht_now_ms() - begin < 24 * HOUR_MS) {
        skip(HOUR_MS);
        happen();
    }
    CU_ASSERT_EQUAL(d.disconnected, 0);
    CU_ASSERT_EQUAL(d.connected, 1);
    CU_ASSERT_EQUAL(duo_status().connections, 2);
    CU_ASSERT(duo_status().up_ms >= 24 * HOUR_MS);
    /* One of both ends asks every 30 s, and hears the other; the driver's own are what is counted here. */
    CU_ASSERT(d.latencies - before <= 24 * 120);
    printf("# %u round trips measured in 24 h\n", d.latencies - before);
    raw_connect(&r, d.port);
    duo_talk(&r, "good morning");
    raw_close(&r);
    duo_stop();
}

/* KEEP-1, KEEP-2: silence, a PING, silence. With alarm after alarm the patience grows. */
static void a_dead_link_is_noticed_in_time(void) {
    duo_kit("");
    duo_go(&usual);
    for (int round = 0; round < 20; round++) {
        happen();
        uint64_t begin = ht_now_ms();
        ws_conn_pause(d.t->now->socks[0].ws, true); /* nothing of the kit's is heard any more */
        unsigned lost = d.disconnected, back = d.connected;
        while (d.disconnected == lost && ht_now_ms() - begin < HOUR_MS) {
            skip(1000);
            for (int i = 0; i < 4; i++)
                io_loop_turn(host.loop, false);
        }
        uint64_t took = ht_now_ms() - begin;
        uint64_t hasty = WIRE_LIMIT_ACK_OVERDUE + WIRE_LIMIT_ACK_PATIENCE; /* KEEP-6: the PING is not confirmed */
        CU_ASSERT(took >= hasty);
        CU_ASSERT(took <= WIRE_LIMIT_PING_INTERVAL + (round == 0 ? 3 * hasty : WIRE_LIMIT_PONG_TIMEOUT) + 2000);
        CU_ASSERT_EQUAL(d.lost_error, HT_TUNNEL_ELOST);
        UNTIL(d.connected == back + 1);
    }
    CU_ASSERT_EQUAL(d.bound, 1 + (d.connected - 1 - d.resumed)); /* asked for again only where it was not resumed */
    duo_stop();
}

/* The same in real time. */
static void a_dead_link_in_real_time(void) {
    struct ht_tunnel_options o = {.retry_min_ms = 1, .ping_interval_ms = 20, .pong_timeout_ms = 200};
    duo_kit("");
    duo_go(&o);
    UNTIL(d.latencies >= 3); /* what lives is not given up */
    CU_ASSERT_EQUAL(d.disconnected, 0);
    ws_conn_pause(d.t->now->socks[0].ws, true);
    UNTIL(d.resumed == 1);
    CU_ASSERT_EQUAL(d.lost_error, HT_TUNNEL_ELOST);
    duo_stop();
}

/* ---- who else claims the session ---- */

static void another_driver_takes_the_session(void) {
    struct ht_tunnel *second;
    char url[64];
    duo_kit("");
    duo_go(&usual);
    snprintf(url, sizeof url, "ws://127.0.0.1:%u", host.port);
    struct ht_tunnel_options o = {.size = sizeof o, .url = url, .retry_min_ms = 1};
    CU_ASSERT_EQUAL_FATAL(driver_create_on(host.loop, &second, &o, NULL, NULL), HT_TUNNEL_OK);
    memcpy(second->session_id, d.t->session_id, sizeof second->session_id);
    CU_ASSERT_EQUAL(ht_tunnel_connect(second), HT_TUNNEL_OK);
    UNTIL(d.ended);
    CU_ASSERT_EQUAL(d.end_error, HT_TUNNEL_EREVOKED);
    CU_ASSERT_EQUAL(ht_exit_status(d.end_error), 7);
    CU_ASSERT_PTR_NOT_NULL(strstr(d.end_text, "another driver"));
    CU_ASSERT_EQUAL(d.retries, 0); /* they do not take turns */
    UNTIL(second->state == DRIVER_UP);
    for (int i = 0; i < 20; i++)
        ready_turn();
    CU_ASSERT_EQUAL(second->state, DRIVER_UP);
    CU_ASSERT_EQUAL(kit_sessions_live(host.kit), 1);
    ht_tunnel_destroy(&second);
    duo_stop();
}

/* A HELLO of ours that was given up reaches the kit after the next one: that is no other driver. */
static void its_own_ghost(void) {
    struct peer ghost;
    char id[160];
    duo_kit("");
    duo_go(&usual);
    memcpy(id, d.t->session_id, sizeof id);
    d.t->ghost_until = ht_now_ms() + HOUR_MS;
    peer_resume(&ghost, id);
    CU_ASSERT(ghost.any.hello_ok.resumed);
    UNTIL(d.resumed == 1);
    CU_ASSERT_STRING_EQUAL(d.t->session_id, id);
    CU_ASSERT_EQUAL(d.ended, 0);
    CU_ASSERT_EQUAL(d.bound, 1);
    peer_expect(&ghost, WIRE_GOAWAY);
    peer_drop(&ghost);
    duo_stop();
}

static const struct tap_test tests[] = {
    {"an idle tunnel stays up for a day", a_quiet_day},
    {"a dead link is noticed in time", a_dead_link_is_noticed_in_time},
    {"a dead link is noticed in real time", a_dead_link_in_real_time},
    {"a driver whose session another one has taken ends", another_driver_takes_the_session},
    {"the driver recognises its own late HELLO", its_own_ghost},
    {NULL, NULL},
};

int main(void) { return tap_main("driver, life", tests); }
