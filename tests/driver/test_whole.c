/* Streams that survive lost links, between the library and a real kit, over several sockets. */
#include "driver/duo.h"

#define SOCKETS 4
#define ALL_UP(n) (duo_status().connections == (n) && kit_websockets(host.kit) == (n))

static const struct ht_tunnel_options four = {.connections = SOCKETS, .retry_min_ms = 1};

/* A visitor that says one text after another, and knows what must come back. */
struct talker {
    struct raw r;
    size_t said, right; /* bytes: how far what came back was looked at */
};

static struct talker talkers[SOCKETS];

static char char_at(unsigned who, size_t i) { return (char)('!' + (i * 7 + i / 90 + who * 13) % 90); }

static void say(unsigned who, size_t n) {
    struct talker *t = &talkers[who];
    char text[20001];
    CU_ASSERT_FATAL(n < sizeof text);
    for (size_t i = 0; i < n; i++)
        text[i] = char_at(who, t->said + i);
    text[n] = '\0';
    raw_send(&t->r, text);
    t->said += n;
}

/* What has come is what was said, as far as it goes. */
static bool is_right(unsigned who) {
    struct talker *t = &talkers[who];
    const char *text = raw_text(&t->r);
    for (; text[t->right]; t->right++)
        if (text[t->right] != char_at(who, t->right))
            return false;
    return t->right <= t->said;
}

static bool all_heard(void) {
    for (unsigned i = 0; i < SOCKETS; i++)
        if (ht_buf_size(&talkers[i].r.in) != talkers[i].said || talkers[i].r.eof) {
            (void)raw_ended(&talkers[i].r);
            return false;
        }
    return true;
}

static void expect_all_heard(void) {
    UNTIL(all_heard());
    for (unsigned i = 0; i < SOCKETS; i++)
        CU_ASSERT(is_right(i));
}

/* A talker for each socket. */
static void begin(const char *kit_args, const struct ht_tunnel_options *o) {
    duo_kit(kit_args);
    duo_go(o);
    UNTIL(ALL_UP(SOCKETS));
    memset(talkers, 0, sizeof talkers);
    for (unsigned i = 0; i < SOCKETS; i++) {
        raw_connect(&talkers[i].r, d.port);
        say(i, 5);
        UNTIL(kit_streams(host.kit) == i + 1);
    }
    expect_all_heard();
}

static void end(void) {
    for (unsigned i = 0; i < SOCKETS; i++)
        raw_close(&talkers[i].r);
    duo_stop();
}

/* The network fails, and what was on its way to the driver is gone. */
static void cut(unsigned index) {
    static char gone[65536];
    struct driver_sock *s = &d.t->now->socks[index];
    if (!s->ws)
        return;
    int fd = io_conn_fd(ws_conn_io(s->ws));
    duo_cut(index);
    while (recv(fd, gone, sizeof gone, MSG_DONTWAIT) > 0)
        continue;
}

static void a_lost_secondary(void) {
    begin("", &four);
    for (unsigned round = 0; round < 12; round++) {
        for (unsigned i = 0; i < SOCKETS; i++)
            say(i, 3000);
        if (round % 2)
            one_turn();
        cut(1 + round % 3);
        for (unsigned i = 0; i < SOCKETS; i++)
            say(i, 10);
        expect_all_heard();
        UNTIL(ALL_UP(SOCKETS));
    }
    CU_ASSERT_EQUAL(d.connected, 1);
    CU_ASSERT_EQUAL(d.disconnected, 0);
    CU_ASSERT_EQUAL(d.n_echo, SOCKETS);
    end();
}

static void a_lost_primary(void) {
    begin("", &four);
    for (unsigned round = 1; round <= 12; round++) {
        for (unsigned i = 0; i < SOCKETS; i++)
            say(i, 3000);
        if (round % 2)
            one_turn();
        cut(0);
        for (unsigned i = 0; i < SOCKETS; i++)
            say(i, 10);
        expect_all_heard();
        UNTIL(ALL_UP(SOCKETS));
        CU_ASSERT_EQUAL(d.disconnected, round);
        CU_ASSERT_EQUAL(duo_status().whole, round);
    }
    CU_ASSERT_EQUAL(d.bound, 1);
    CU_ASSERT_EQUAL(d.n_echo, SOCKETS);
    end();
}

/* Any of them, at any time, in the middle of each other's resumes. */
static void anything_at_any_time(void) {
    begin("", &four);
    uint64_t seed = 20291;
    for (unsigned round = 0; round < 1000; round++) {
        seed = seed * 6364136223846793005u + 1442695040888963407u;
        unsigned dice = (unsigned)(seed >> 33);
        say(dice % SOCKETS, 1 + dice / 64 % 9000);
        if (dice / 16 % 3 == 0)
            cut(dice / 4 % SOCKETS);
        if (dice / 8 % 32 == 0)
            for (unsigned i = 0; i < SOCKETS; i++)
                cut(i);
        for (unsigned turns = dice / 512 % 24; turns > 0; turns--)
            ready_turn();
        for (unsigned i = 0; i < SOCKETS; i++)
            CU_ASSERT(is_right(i));
    }
    expect_all_heard();
    UNTIL(ALL_UP(SOCKETS));
    printf("# %u losses of the session, %llu whole, %llu bytes sent again\n", d.disconnected,
           (unsigned long long)duo_status().whole, (unsigned long long)duo_status().resent);
    CU_ASSERT_EQUAL(duo_status().whole, d.disconnected);
    CU_ASSERT_EQUAL(d.n_echo, SOCKETS);
    CU_ASSERT_EQUAL(d.bound, 1);
    end();
}

/* A secondary that does not come back in time ends its own streams only. */
static void a_secondary_that_stays_away(void) {
    begin("--takeover-grace 5s", &four);
    d.t->retry_min_ms = 3000000;
    do {
        cut(2);
        UNTIL(!d.t->now->socks[2].ws);
    } while (d.t->now->socks[2].state != SHARD_LOST);
    io_timer_set(&d.t->now->socks[2].timer, 3000000);
    settle();
    for (unsigned i = 0; i < SOCKETS; i++)
        CU_ASSERT(!raw_ended(&talkers[i].r));
    ht_clock_skip(5100000u);
    unsigned over = 0;
    UNTIL((over = raw_ended(&talkers[0].r) + raw_ended(&talkers[1].r) + raw_ended(&talkers[2].r) +
                  raw_ended(&talkers[3].r)) >= 1);
    settle();
    CU_ASSERT_EQUAL(over, 1);
    for (unsigned i = 0; i < SOCKETS; i++)
        if (!raw_ended(&talkers[i].r)) {
            say(i, 100);
            UNTIL(ht_buf_size(&talkers[i].r.in) == talkers[i].said || raw_ended(&talkers[i].r));
            CU_ASSERT(is_right(i));
        }
    ht_tunnel_retry_now(d.t);
    UNTIL(ALL_UP(SOCKETS)); /* and it carries new ones */
    CU_ASSERT_EQUAL(d.connected, 1);
    end();
}

/* The kit forgets the session, or its streams: everything is cut, and the tunnel is back. */
static void a_driver_that_keeps_nothing(void) {
    struct ht_tunnel_options o = four;
    o.replay_buffer = HT_NO_REPLAY;
    begin("", &o);
    cut(0);
    UNTIL(d.resumed == 1);
    for (unsigned i = 0; i < SOCKETS; i++)
        UNTIL(raw_ended(&talkers[i].r));
    CU_ASSERT_EQUAL(duo_status().whole, 0);
    CU_ASSERT_EQUAL(duo_status().streams, 0);
    end();
}

static void a_kit_that_keeps_nothing(void) {
    begin("--replay-buffer 0", &four);
    cut(0);
    UNTIL(d.resumed == 1);
    for (unsigned i = 0; i < SOCKETS; i++)
        UNTIL(raw_ended(&talkers[i].r));
    CU_ASSERT_EQUAL(duo_status().whole, 0);
    end();
}

/* A session that was replaced does not go on with another link: its visitors are cut at once, and nobody else's. */
static void a_session_that_was_replaced(void) {
    struct ht_tunnel_options o = {.connections = 2, .retry_min_ms = 1};
    struct raw old, now;
    duo_kit("--session-streams 2");
    duo_go(&o);
    UNTIL(ALL_UP(2));
    raw_connect(&old, d.port);
    duo_talk(&old, "before");
    for (unsigned i = 0; i < 8 && d.connected < 2; i++) {
        raw_connect(&now, d.port);
        duo_talk(&now, "x");
        raw_close(&now);
    }
    UNTIL(d.connected == 2 && d.t->n_past == 1);
    raw_connect(&now, d.port);
    duo_talk(&now, "now");
    duo_talk(&old, "still");
    struct driver_session *past = HT_LIST_ENTRY(d.t->past.next, struct driver_session, node);
    for (unsigned i = 0; i < 2; i++)
        if (past->socks[i].ws)
            CU_ASSERT_EQUAL(shutdown(io_conn_fd(ws_conn_io(past->socks[i].ws)), SHUT_RDWR), 0);
    UNTIL(raw_ended(&old));
    UNTIL(d.t->n_past == 0);
    duo_talk(&now, "and on");
    duo_cut(0);
    UNTIL(d.disconnected == 1 && d.connected == 3);
    CU_ASSERT_EQUAL(duo_status().whole, 1);
    duo_talk(&now, "and on");
    raw_close(&old);
    raw_close(&now);
    duo_stop();
}

/* The link is lost while the next session is being opened: that one goes on. */
static void lost_while_the_next_one_is_opened(void) {
    struct ht_tunnel_options o = {.connections = 1, .retry_min_ms = 1};
    struct raw old, now;
    duo_kit("--session-streams 2");
    duo_go(&o);
    raw_connect(&old, d.port);
    duo_talk(&old, "before");
    raw_connect(&now, d.port); /* the last stream of this session */
    raw_send(&now, "last");
    UNTIL(d.t->next);
    CU_ASSERT_FATAL(driver_handover_is_near(d.t));
    duo_cut(0);
    UNTIL(d.connected == 2);
    CU_ASSERT_EQUAL(d.disconnected, 0);
    UNTIL(raw_ended(&old)); /* this kit has not kept its streams */
    raw_close(&old);
    raw_close(&now);
    UNTIL(d.t->n_past == 0);
    raw_connect(&now, d.port);
    duo_talk(&now, "and on");
    raw_close(&now);
    CU_ASSERT_EQUAL(d.disconnected, 0);
    duo_stop();
}

/* Neither link is to be had: the tunnel counts as lost. */
static void both_are_lost(void) {
    struct ht_tunnel_options o = {.connections = 1, .retry_min_ms = 1};
    struct raw old, now;
    duo_kit("--session-streams 2");
    duo_go(&o);
    raw_connect(&old, d.port);
    duo_talk(&old, "before");
    raw_connect(&now, d.port);
    raw_send(&now, "last");
    UNTIL(d.t->next && d.t->next->socks[0].ws);
    CU_ASSERT_EQUAL(shutdown(io_conn_fd(ws_conn_io(d.t->next->socks[0].ws)), SHUT_RDWR), 0);
    duo_cut(0);
    UNTIL(d.connected == 2 && d.t->state == DRIVER_UP && !d.t->next);
    CU_ASSERT(d.disconnected <= 1);
    raw_close(&old);
    raw_close(&now);
    UNTIL(d.t->n_past == 0);
    CU_ASSERT_EQUAL(d.t->state, DRIVER_UP);
    duo_stop();
}

/* Whichever allocation of both ends fails during a resume: everything goes on, or it is cut, or the tunnel ends.
 * Nothing is mixed. */
static void memory_runs_out(void) {
    unsigned whole = 0, cuts = 0, ends = 0;
    for (long n = 0; n < 150; n++) {
        begin("", &four);
        for (unsigned i = 0; i < SOCKETS; i++)
            say(i, 2000);
        cut(n % 3 ? 0 : 1);
        ht_mem_fail_at(n);
        for (int turns = 0; turns < 40; turns++)
            ready_turn();
        ht_mem_fail_at(-1);
        UNTIL(ALL_UP(SOCKETS) || d.ended);
        ends += d.ended;
        if (d.ended) {
            CU_ASSERT_EQUAL(d.end_error, HT_TUNNEL_ENOMEM);
            ht_clock_skip(2000u * WIRE_LIMIT_TAKEOVER_GRACE);
        }
        for (unsigned i = 0; i < SOCKETS; i++) {
            struct talker *t = &talkers[i];
            UNTIL(ht_buf_size(&t->r.in) == t->said || raw_ended(&t->r));
            CU_ASSERT(is_right(i));
            whole += !t->r.eof;
            cuts += t->r.eof;
        }
        end();
    }
    printf("# %u visitors went on, %u were cut, %u tunnels have ended\n", whole, cuts, ends);
    CU_ASSERT(whole > cuts && ends < 40);
}

static const struct tap_test tests[] = {
    {"a lost secondary loses nothing", a_lost_secondary},
    {"a lost primary loses nothing", a_lost_primary},
    {"any socket at any time, in the middle of resumes", anything_at_any_time},
    {"a secondary that does not come back in time ends its own streams", a_secondary_that_stays_away},
    {"a driver that keeps nothing: as ever", a_driver_that_keeps_nothing},
    {"a kit that keeps nothing: as ever", a_kit_that_keeps_nothing},
    {"a session that was replaced ends with its link", a_session_that_was_replaced},
    {"a link that is lost while the next session is opened", lost_while_the_next_one_is_opened},
    {"both links are lost", both_are_lost},
    {"each allocation may fail during a resume", memory_runs_out},
    {NULL, NULL},
};

int main(void) { return tap_main("driver: whole", tests); }
