/*
 * A day of the kit's timers in a second: the clock runs ahead, and each thing happens when it is due, neither earlier
 * nor much later, as often as it should, and leaves nothing.
 *
 * Runs: sanitized.
 */
#include "peer.h"
#include "support/clock_ahead.h"

#define STEP_MS 500u   /* how far the clock jumps between two looks */
#define SLACK_MS 4000u /* steps that a thing may be late, and what a busy machine adds: real time passes too */
#define SECONDS(n) ((uint64_t)(n)*1000u)
#define DAY SECONDS(24 * 60 * 60)

/* What a driver saw, besides answering PINGs when it is told to. */
struct guest {
    struct peer p;
    char id[64];
    bool mute;
    unsigned pings;
    int goaway; /* its code; -1: none came */
    char message[64];
};

static uint64_t day_began;
static struct guest *guests[8];
static size_t n_guests;

static uint64_t elapsed(void) { return ht_now_ms() - day_began; }

static void attend(struct guest *g) {
    struct peer *p = &g->p;
    for (; p->n_read < p->n_frames; p->n_read++) {
        const struct got_frame *f = &p->frames[p->n_read];
        struct wire_error err;
        if (f->type == WIRE_PING) {
            g->pings++;
            if (!g->mute && !p->closed) {
                peer_add_raw(p, WIRE_PONG, 0, p->bytes.data + f->at, f->len);
                ws_conn_want_send(p->ws);
            }
        } else if (f->type == WIRE_GOAWAY &&
                   wire_decode_any(f->type, p->bytes.data + f->at, f->len, p->scratch, &p->any, &err) == 0) {
            g->goaway = (int)p->any.goaway.code;
            snprintf(g->message, sizeof g->message, "%.*s", HT_SLICE_ARG(p->any.goaway.message));
        }
    }
    if (p->parsed == p->bytes.len) /* a day's frames are more than a peer keeps */
        p->n_frames = p->n_read = p->parsed = p->bytes.len = p->bytes.off = 0;
}

/* One step of the clock, and enough turns for a PING to be answered. */
static void step(uint64_t ms) {
    clock_ahead_ms += ms;
    for (int i = 0; i < 6; i++) {
        io_loop_turn(host.loop, false);
        for (size_t g = 0; g < n_guests; g++)
            attend(guests[g]);
    }
}

static void pass(uint64_t ms) {
    for (uint64_t end = ht_now_ms() + ms; ht_now_ms() < end;)
        step(ht_min(STEP_MS, end - ht_now_ms()));
}

/* Lets the clock run until `cond`, which must become true `after` milliseconds from `from`, a few steps late at most.
 */
#define DUE(cond, from, after)                                                                                         \
    do {                                                                                                               \
        while (!(cond) && ht_now_ms() < (from) + (after) + 20 * STEP_MS)                                               \
            step(STEP_MS);                                                                                             \
        uint64_t took_ = ht_now_ms() - (from);                                                                         \
        CU_ASSERT(!!(cond));                                                                                           \
        CU_ASSERT(took_ + STEP_MS >= (after) && took_ <= (after) + SLACK_MS);                                          \
        if (!(cond) || took_ + STEP_MS < (after) || took_ > (after) + SLACK_MS)                                        \
            printf("# %s: after %llu ms instead of %llu\n", #cond, (unsigned long long)took_,                          \
                   (unsigned long long)(after));                                                                       \
    } while (0)

static void day_start(const char *args) {
    n_guests = 0;
    host_start(args);
    day_began = ht_now_ms();
}

static void guest_in(struct guest *g, const char *resume) {
    g->goaway = -1;
    if (resume)
        peer_resume(&g->p, resume);
    else
        peer_start(&g->p, g->id);
    guests[n_guests++] = g;
}

static void guest_out(struct guest *g) {
    for (size_t i = 0; i < n_guests; i++)
        if (guests[i] == g)
            guests[i--] = guests[--n_guests];
}

static void keepalive_all_day(void) {
    static struct guest steady, wanderer;
    static struct raw reader;
    memset(&steady, 0, sizeof steady);
    memset(&wanderer, 0, sizeof wanderer);
    day_start("");
    guest_in(&steady, NULL);
    guest_in(&wanderer, NULL);
    uint16_t port = peer_bind(&steady.p, WIRE_KIND_HTTP, 0), other = peer_bind(&wanderer.p, WIRE_KIND_TCP, 0);
    raw_connect(&reader, host.port);
    raw_send(&reader, "GET /api/v1/tunnel/events HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n");
    UNTIL(strstr(raw_text(&reader), "events"));
    size_t live = ht_mem_live(), beats = 0;
    int fds = io_count_fds();
    for (int hour = 1; hour <= 24; hour++) {
        pass(SECONDS(3600) * (uint64_t)hour - elapsed());
        /* One of them is lost and comes back near the end of the grace, each hour. */
        guest_out(&wanderer);
        peer_drop(&wanderer.p);
        UNTIL(kit_sessions_parked(host.kit) == 1);
        pass(WIRE_LIMIT_TAKEOVER_GRACE - 2 * STEP_MS);
        CU_ASSERT_EQUAL(kit_sessions_parked(host.kit), 1);
        guest_in(&wanderer, wanderer.id);
        CU_ASSERT_EQUAL(wanderer.p.any.hello_ok.n_resumed_binds, 1);
        CU_ASSERT_EQUAL(wanderer.p.any.hello_ok.resumed_binds[0].container_port, other);
        for (const char *at = raw_text(&reader); (at = strstr(at, ":\n\n")); at++)
            beats++;
        ht_buf_free(&reader.in);
    }
    uint64_t day = elapsed();
    CU_ASSERT(day >= DAY && day < DAY + SECONDS(61));
    CU_ASSERT_EQUAL(kit_sessions_live(host.kit), 2);
    CU_ASSERT_EQUAL(steady.goaway, -1);
    CU_ASSERT_EQUAL(wanderer.goaway, -1);
    /* A PING each time that 30 s were silent; the answer starts them anew. */
    unsigned want = (unsigned)(day / WIRE_LIMIT_PING_INTERVAL);
    printf("# a day: %u PINGs of at most %u, %zu heartbeats, 24 resumes\n", steady.pings, want, beats);
    CU_ASSERT(steady.pings <= want && steady.pings >= want * 95 / 100);
    CU_ASSERT(beats <= day / 15000 && beats >= day / 15000 * 9 / 10);
    get_through(&steady.p, port);
    CU_ASSERT_EQUAL(kit_streams(host.kit), 0);
    UNTIL(io_count_fds() <= fds);
    CU_ASSERT(ht_mem_live() <= live + 16384); /* pools and buffers that were not there when the day began */
    raw_close(&reader);
    guest_out(&steady);
    guest_out(&wanderer);
    peer_bye(&steady.p);
    peer_bye(&wanderer.p);
    UNTIL(port_refuses(port) && port_refuses(other));
    host_stop();
}

static void what_ends_when(void) {
    static struct guest idle, dumb;
    memset(&idle, 0, sizeof idle);
    memset(&dumb, 0, sizeof dumb);
    day_start("");
    for (int round = 0; round < 20; round++) {
        struct peer stranger;
        /* No HELLO: the socket is closed, no close code. */
        peer_connect(&stranger);
        uint64_t from = ht_now_ms();
        DUE(stranger.closed, from, WIRE_LIMIT_HELLO_TIMEOUT);
        CU_ASSERT_EQUAL(kit_websockets(host.kit), 0);
        peer_drop(&stranger);
        /* Zero streams and zero bindings. PINGs do not count as life. */
        guest_in(&idle, NULL);
        from = ht_now_ms();
        DUE(idle.goaway == WIRE_CODE_IDLE_TIMEOUT, from, WIRE_LIMIT_IDLE_TIMEOUT);
        CU_ASSERT_STRING_EQUAL(idle.message, WIRE_GOAWAY_IDLE_MESSAGE);
        UNTIL(idle.p.closed);
        CU_ASSERT_EQUAL(kit_sessions_parked(host.kit), 0);
        guest_out(&idle);
        peer_drop(&idle.p);
        /* No PONG: GOAWAY, parked, gone at the end of the grace, and its port with it. */
        guest_in(&dumb, NULL);
        dumb.mute = true;
        uint16_t port = peer_bind(&dumb.p, WIRE_KIND_HTTP, 0);
        from = ht_now_ms();
        DUE(dumb.goaway == WIRE_CODE_IDLE_TIMEOUT, from, WIRE_LIMIT_PING_INTERVAL + WIRE_LIMIT_PONG_TIMEOUT);
        CU_ASSERT_STRING_EQUAL(dumb.message, WIRE_GOAWAY_PONG_TIMEOUT_MESSAGE);
        from = ht_now_ms();
        UNTIL(kit_sessions_parked(host.kit) == 1);
        CU_ASSERT(!port_refuses(port));
        DUE(kit_sessions_parked(host.kit) == 0, from, WIRE_LIMIT_TAKEOVER_GRACE);
        UNTIL(port_refuses(port));
        guest_out(&dumb);
        peer_drop(&dumb.p);
    }
    host_stop();
}

static void tickets(void) {
    day_start("");
    for (int late = 0; late < 2; late++) {
        struct guest g = {.goaway = -1};
        struct peer second;
        char id[64], nonce[64];
        peer_v2_hello(&g.p, 2, NULL, 0, NULL);
        const struct wire_hello_ok *ok = &g.p.any.hello_ok;
        CU_ASSERT_EQUAL_FATAL(ok->n_join_tickets, 1);
        snprintf(id, sizeof id, "%.*s", HT_SLICE_ARG(ok->session_id));
        snprintf(nonce, sizeof nonce, "%.*s", HT_SLICE_ARG(ok->join_tickets[0].nonce));
        guests[n_guests++] = &g;
        pass(late ? WIRE_LIMIT_JOIN_TICKET_LIFE + STEP_MS : WIRE_LIMIT_JOIN_TICKET_LIFE - 2 * STEP_MS);
        peer_join(&second, id, 1, nonce);
        if (late) {
            peer_expect_join_err(&second, WIRE_JOIN_ERROR_INVALID_TICKET);
        } else {
            peer_expect(&second, WIRE_JOIN_OK);
            peer_drop(&second);
        }
        guest_out(&g);
        peer_bye(&g.p);
        UNTIL(kit_sessions_live(host.kit) == 0);
    }
    host_stop();
}

static void visitors(void) {
    static struct guest g;
    memset(&g, 0, sizeof g);
    day_start("");
    guest_in(&g, NULL);
    uint16_t web = peer_bind(&g.p, WIRE_KIND_HTTP, 0), tcp = peer_bind(&g.p, WIRE_KIND_TCP, 0);
    unsigned permits = kit_fd_permits_used(host.kit);
    for (int round = 0; round < 20; round++) {
        struct raw r;
        uint64_t from;
        /* Half a head, however it trickles in. */
        raw_connect(&r, web);
        raw_send(&r, "GET / HTTP/1.1\r\n");
        step(1);
        from = ht_now_ms();
        pass(WIRE_LIMIT_HEAD_TIMEOUT / 2);
        raw_send(&r, "Host: a\r\n");
        DUE(raw_ended(&r), from, WIRE_LIMIT_HEAD_TIMEOUT);
        CU_ASSERT_EQUAL(strncmp(raw_text(&r), "HTTP/1.1 408 ", 13), 0);
        raw_close(&r);
        /* An idle connection between two requests. A sign of life first: a request after silence brings a PING along,
         * which answer_one() would not answer. */
        peer_add_raw(&g.p, WIRE_PING, 0, "12345678", 8);
        peer_flush(&g.p);
        step(1);
        raw_connect(&r, web);
        raw_send(&r, "GET /hello?x=1 HTTP/1.1\r\nHost: app\r\n\r\n");
        guest_out(&g);
        answer_one(&g.p, "/hello?x=1", "good day");
        guests[n_guests++] = &g;
        UNTIL(strstr(raw_text(&r), "good day"));
        from = ht_now_ms();
        DUE(raw_ended(&r), from, WIRE_LIMIT_KEEPALIVE_TIMEOUT);
        raw_close(&r);
        /* A driver that does not answer. */
        raw_connect(&r, web);
        raw_send(&r, GET("/"));
        step(1);
        from = ht_now_ms();
        DUE(raw_ended(&r), from, WIRE_LIMIT_RESPONSE_TIMEOUT);
        CU_ASSERT_EQUAL(strncmp(raw_text(&r), "HTTP/1.1 504 ", 13), 0);
        raw_close(&r);
        /* A half-closed connection that is quiet: old drivers may never send their end. */
        raw_connect(&r, tcp);
        raw_send(&r, "x");
        step(1);
        shutdown(r.fd, SHUT_WR);
        step(1);
        from = ht_now_ms();
        DUE(raw_ended(&r), from, WIRE_LIMIT_HALF_CLOSE_TIMEOUT);
        raw_close(&r);
        UNTIL(kit_visitors(host.kit) == 0 && kit_streams(host.kit) == 0);
    }
    CU_ASSERT_EQUAL(kit_fd_permits_used(host.kit), permits);
    CU_ASSERT_EQUAL(g.goaway, -1);
    guest_out(&g);
    peer_bye(&g.p);
    host_stop();
}

int main(void) {
    static const struct tap_test tests[] = {
        {"keepalive, heartbeats and 24 resumes in 24 hours", keepalive_all_day},
        {"the limits for HELLO, idle sessions, PONG and the grace hold", what_ends_when},
        {"join tickets are valid as long as HELLO_OK says", tickets},
        {"the time limits for visitors hold", visitors},
        {NULL, NULL},
    };
    return tap_main("a day", tests);
}
