/* What users have together, and what each of them has beside the others: streams, bytes, descriptors, sessions. */
#include "kit/peer.h"

#define MIB (1u << 20)

static char file_name[] = "/tmp/hoody-users-XXXXXX";
static char tokens[2][KIT_TOKEN_TEXT];
static const char *const names[2] = {"greedy", "modest"};

/* A kit with two users; `of_greedy` are more lines of the first one's. */
static void start(const char *options, const char *of_greedy) {
    char args[512];
    snprintf(file_name, sizeof file_name, "/tmp/hoody-users-XXXXXX");
    int fd = mkstemp(file_name);
    FILE *f = fd < 0 ? NULL : fdopen(fd, "w");
    CU_ASSERT_PTR_NOT_NULL_FATAL(f);
    fprintf(f, "users:\n");
    for (int i = 0; i < 2; i++) {
        char line[KIT_TOKEN_LINE];
        kit_token_new(tokens[i], line);
        fprintf(f, "  - name: %s\n    tokens: [%s]\n%s", names[i], line, i == 0 ? of_greedy : "");
    }
    fclose(f);
    snprintf(args, sizeof args, "--users %s %s", file_name, options);
    host_start(args);
}

static void stop(void) {
    host_stop();
    unlink(file_name);
}

/* Without --users there is one user, whose both are. */
static void start_alike(void) {
    host_start("");
    tokens[0][0] = tokens[1][0] = '\0';
    snprintf(file_name, sizeof file_name, "/tmp/hoody-users-none");
}

static void come(struct peer *p, int user) {
    char extra[128] = "";
    if (tokens[user][0])
        snprintf(extra, sizeof extra, "Authorization: Bearer %s\r\n", tokens[user]);
    peer_connect_as(p, WIRE_SUBPROTOCOL_V1, extra[0] ? extra : NULL);
    CU_ASSERT_FATAL(p->open);
}

static void begin(struct peer *p, int user) {
    come(p, user);
    peer_begin(p, NULL);
}

/* Puts `n` bytes into the socket, which nobody reads yet. */
static void put(struct raw *r, size_t n) {
    static const char zeros[65536];
    while (n > 0) {
        ssize_t sent = send(r->fd, zeros, ht_min(n, sizeof zeros), MSG_NOSIGNAL | MSG_DONTWAIT);
        CU_ASSERT_FATAL(sent > 0);
        n -= (size_t)sent;
    }
}

#define FLOOD 8

/* How many bytes of the greedy one's visitors have come when all of the modest one's have. */
static uint64_t flood(void) {
    struct peer peers[2];
    struct raw many[FLOOD], one;
    begin(&peers[0], 0);
    begin(&peers[1], 1);
    uint16_t to[2] = {peer_bind(&peers[0], WIRE_KIND_TCP, 0), peer_bind(&peers[1], WIRE_KIND_TCP, 0)};
    for (int i = 0; i < FLOOD; i++) {
        raw_connect(&many[i], to[0]);
        put(&many[i], MIB / 2);
    }
    raw_connect(&one, to[1]);
    put(&one, MIB / 2);
    UNTIL(data_bytes(&peers[1], 0) == MIB / 2);
    uint64_t others = data_bytes(&peers[0], 0);
    UNTIL(data_bytes(&peers[0], 0) == FLOOD * (MIB / 2));
    for (int i = 0; i < FLOOD; i++)
        raw_close(&many[i]);
    raw_close(&one);
    peer_drop(&peers[0]);
    peer_drop(&peers[1]);
    return others;
}

/* On a busy machine the kernel may bring somebody's bytes late, and the others use that time: of a few tries the one
 * tells that nothing disturbed. */
#define TRIES 6
#define FAIR (MIB - MIB / 8)

static void bytes_are_shared_by_user(void) {
    uint64_t before = 0, after = UINT64_MAX;
    for (int i = 0; i < TRIES && before <= FAIR; i++) {
        start_alike();
        before = ht_max64(before, flood());
        host_stop();
    }
    for (int i = 0; i < TRIES && after > FAIR; i++) {
        start("--takeover-grace 0s", "");
        after = ht_min64(after, flood());
        stop();
    }
    printf(
        "# when the one visitor's %u KiB have come, of the %d others' %u KiB: by connection %u KiB, by user %u KiB\n",
        MIB / 2 / 1024, FLOOD, FLOOD * MIB / 2 / 1024, (unsigned)(before / 1024), (unsigned)(after / 1024));
    CU_ASSERT(after <= FAIR && before > FAIR);
}

static void a_rate_holds(void) {
    struct peer p[2];
    struct raw r[2];
    start("--takeover-grace 0s", "    rate: 1M\n");
    for (int i = 0; i < 2; i++) {
        begin(&p[i], i);
        raw_connect(&r[i], peer_bind(&p[i], WIRE_KIND_TCP, 0));
        put(&r[i], MIB / 2);
    }
    uint64_t from = ht_now_ms();
    UNTIL(data_bytes(&p[1], 0) == MIB / 2);
    uint64_t free_ms = ht_now_ms() - from;
    CU_ASSERT(data_bytes(&p[0], 0) < MIB / 2);
    UNTIL(data_bytes(&p[0], 0) == MIB / 2);
    uint64_t ms = ht_now_ms() - from;
    printf("# %u KiB: at 1 MiB/s %u ms, without a rate %u ms\n", MIB / 2 / 1024, (unsigned)ms, (unsigned)free_ms);
    CU_ASSERT(ms >= 300);
    for (int i = 0; i < 2; i++) {
        raw_close(&r[i]);
        peer_drop(&p[i]);
    }
    stop();
}

static void streams_of_a_user_end(void) {
    struct peer p[3];
    struct raw r[4];
    start("--takeover-grace 0s", "    max-streams: 2\n");
    begin(&p[0], 0);
    begin(&p[1], 0);
    begin(&p[2], 1);
    uint16_t to[3];
    for (int i = 0; i < 3; i++)
        to[i] = peer_bind(&p[i], WIRE_KIND_HTTP, 0);
    for (int i = 0; i < 2; i++) { /* in two sessions */
        raw_connect(&r[i], to[i]);
        raw_send(&r[i], GET("/"));
        peer_expect(&p[i], WIRE_STREAM_OPEN);
    }
    raw_connect(&r[2], to[0]);
    raw_send(&r[2], GET("/"));
    UNTIL(raw_ended(&r[2]));
    CU_ASSERT_EQUAL(strncmp(raw_text(&r[2]), "HTTP/1.1 503 ", 13), 0);
    raw_connect(&r[3], to[2]);
    raw_send(&r[3], GET("/"));
    peer_expect(&p[2], WIRE_STREAM_OPEN);
    for (int i = 0; i < 4; i++)
        raw_close(&r[i]);
    for (int i = 0; i < 3; i++)
        peer_drop(&p[i]);
    stop();
}

#define CROWD 60

/* What a user is told of descriptors that are left. */
static unsigned permits_left(int user) {
    char ask[256];
    struct raw r;
    unsigned n = 0;
    snprintf(ask, sizeof ask,
             "GET /api/v1/tunnel/tunnels HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nAuthorization: Bearer "
             "%s\r\n\r\n",
             tokens[user]);
    CU_ASSERT_EQUAL(raw_ask(&r, host.port, ask), 200);
    const char *at = strstr(raw_body(&r), "\"fdPermitsAvailable\":");
    CU_ASSERT_PTR_NOT_NULL_FATAL(at);
    sscanf(at, "\"fdPermitsAvailable\":%u", &n);
    raw_close(&r);
    return n;
}

static void descriptors_are_left_to_others(void) {
    struct peer p[2];
    struct raw many[CROWD], one;
    start("--max-fds 40 --takeover-grace 0s", "");
    begin(&p[0], 0);
    begin(&p[1], 1);
    uint16_t to[2] = {peer_bind(&p[0], WIRE_KIND_HTTP, 0), peer_bind(&p[1], WIRE_KIND_HTTP, 0)};
    CU_ASSERT_EQUAL(permits_left(0), 40 - 2 - 40 / 8); /* all but the last part, which is whoever has less's */
    for (int i = 0; i < CROWD; i++)
        raw_connect(&many[i], to[0]);
    UNTIL(kit_visitors(host.kit) >= 30);
    for (int i = 0; i < 50; i++)
        ready_turn();
    CU_ASSERT(kit_fd_permits_used(host.kit) < 40);
    CU_ASSERT_EQUAL(permits_left(0), 0);
    CU_ASSERT_EQUAL(permits_left(1), 40 - kit_fd_permits_used(host.kit));
    raw_connect(&one, to[1]);
    raw_send(&one, GET("/"));
    peer_expect(&p[1], WIRE_STREAM_OPEN);
    for (int i = 0; i < CROWD; i++)
        raw_close(&many[i]);
    raw_close(&one);
    peer_drop(&p[0]);
    peer_drop(&p[1]);
    stop();
}

/* Nothing tells whose a connection is there before its request names a host. */
static void descriptors_are_left_to_others_at_a_public_port(void) {
    struct peer p[2];
    struct raw many[CROWD], one;
    char get[2][128];
    uint16_t public = 0;
    start("--max-fds 40 --takeover-grace 0s --public 127.0.0.1:0 --domain tunnel.localhost", "");
    for (int i = 0; i < 2; i++) {
        begin(&p[i], i);
        uint16_t port = peer_bind(&p[i], WIRE_KIND_HTTP, 0);
        const struct ht_slice url = p[i].any.bind_ok.public_url;
        const char *colon = memrchr(url.p, ':', url.n);
        CU_ASSERT_PTR_NOT_NULL_FATAL(colon);
        public = (uint16_t)strtoul(colon + 1, NULL, 10);
        snprintf(get[i], sizeof get[i], "GET / HTTP/1.1\r\nHost: %u.tunnel.localhost\r\n\r\n", port);
    }
    for (int i = 0; i < CROWD; i++) {
        raw_connect(&many[i], public);
        raw_send(&many[i], get[0]);
        one_turn();
    }
    for (int i = 0; i < 50; i++)
        ready_turn();
    CU_ASSERT(kit_streams(host.kit) >= 15);
    raw_connect(&one, public);
    raw_send(&one, get[1]);
    peer_expect(&p[1], WIRE_STREAM_OPEN);
    for (int i = 0; i < CROWD; i++)
        raw_close(&many[i]);
    raw_close(&one);
    peer_drop(&p[0]);
    peer_drop(&p[1]);
    stop();
}

static void places_are_left_to_others(void) {
    struct peer p[5];
    struct wire_hello h = {.version = WIRE_V1};
    start("--max-sessions 4 --takeover-grace 0s", "");
    begin(&p[0], 0);
    begin(&p[1], 0);
    come(&p[2], 0);
    peer_hello(&p[2], &h);
    peer_expect(&p[2], WIRE_GOAWAY);
    CU_ASSERT_EQUAL(p[2].any.goaway.code, WIRE_CODE_RESOURCE_EXHAUSTED);
    begin(&p[3], 1);
    begin(&p[4], 1);
    UNTIL(p[2].closed);
    for (int i = 0; i < 5; i++)
        peer_drop(&p[i]);
    stop();
}

/* Rule PARK-3: the oldest goes, of the user who has most. */
static void parked_ones_are_left_to_others(void) {
    struct peer p;
    char id[2][64], other[64];
    uint16_t port;
    start("--max-sessions 4 --takeover-grace 10m", "");
    begin(&p, 1);
    port = peer_bind(&p, WIRE_KIND_HTTP, 0);
    peer_drop(&p);
    UNTIL(kit_sessions_parked(host.kit) == 1);
    for (unsigned i = 0; i < 10; i++) { /* each parks before the next comes */
        come(&p, 0);
        peer_begin(&p, i == 0 ? id[0] : id[1]);
        peer_bind(&p, WIRE_KIND_HTTP, 0);
        peer_drop(&p);
        UNTIL(kit_sessions_live(host.kit) == 0);
    }
    CU_ASSERT_EQUAL(kit_sessions_parked(host.kit), 4);
    come(&p, 1);
    peer_begin(&p, other);
    CU_ASSERT_FALSE(p.any.hello_ok.resumed);
    struct wire_bind b = {
        .has_client_bind_ref = true, .kind = WIRE_KIND_HTTP, .mode = WIRE_MODE_EXPOSE, .container_port = port};
    peer_send(&p, WIRE_BIND, 0, &b);
    peer_expect(&p, WIRE_BIND_ERR); /* the modest one's own, still kept */
    CU_ASSERT_EQUAL(p.any.bind_err.code, WIRE_BIND_ERROR_ALREADY_BOUND);
    peer_bye(&p);
    for (int i = 0; i < 2; i++) { /* of the greedy one's the first is gone, and the last is not */
        struct wire_hello h = {.version = WIRE_V1, .has_resume = true, .resume = {.session_id = ht_slice_str(id[i])}};
        come(&p, 0);
        peer_hello(&p, &h);
        peer_expect(&p, WIRE_HELLO_OK);
        CU_ASSERT_EQUAL(p.any.hello_ok.resumed, i == 1);
        peer_bye(&p);
    }
    stop();
}

/* A reader of events, which is let in or told to go. */
static bool reads(struct raw *r, int user) {
    char ask[256];
    snprintf(ask, sizeof ask,
             "GET /api/v1/tunnel/events HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer %s\r\n\r\n", tokens[user]);
    raw_connect(r, host.port);
    raw_send(r, ask);
    UNTIL(strstr(raw_text(r), "\r\n\r\n"));
    bool in = strncmp(raw_text(r), "HTTP/1.1 200 ", 13) == 0;
    if (!in)
        CU_ASSERT_EQUAL(strncmp(raw_text(r), "HTTP/1.1 503 ", 13), 0);
    return in;
}

#define READERS 16

static void readers_are_left_to_others(void) {
    struct raw greedy[READERS + 1], modest[READERS];
    start("--takeover-grace 0s", "");
    for (int i = 0; i < READERS; i++)
        CU_ASSERT(reads(&greedy[i], 0));
    CU_ASSERT_FALSE(reads(&greedy[READERS], 0));
    for (int i = 0; i < READERS / 2; i++) { /* half of them is the modest one's part, and no more */
        CU_ASSERT(reads(&modest[i], 1));
        UNTIL(raw_ended(&greedy[i]));
        settle();
        CU_ASSERT_FALSE(raw_ended(&greedy[i + 1]));
    }
    CU_ASSERT_FALSE(reads(&modest[READERS / 2], 1));
    raw_close(&greedy[READERS]);
    CU_ASSERT_FALSE(reads(&greedy[READERS], 0));
    CU_ASSERT_EQUAL(kit_metrics(host.kit)->event_readers_dropped_total, READERS / 2);
    for (int i = 0; i <= READERS; i++)
        raw_close(&greedy[i]);
    for (int i = 0; i <= READERS / 2; i++)
        raw_close(&modest[i]);
    stop();
}

static void places_before_hello_are_left_to_others(void) {
    struct peer greedy[5], modest[3], p;
    start("--max-pre-auth-connections 4 --hello-timeout 5m --takeover-grace 0s", "");
    for (int i = 0; i < 5; i++)
        come(&greedy[i], 0);
    UNTIL(greedy[4].closed);
    for (int i = 0; i < 2; i++) {
        come(&modest[i], 1);
        UNTIL(greedy[i].closed);
        settle();
        CU_ASSERT_FALSE(greedy[i + 1].closed);
    }
    come(&modest[2], 1);
    UNTIL(modest[2].closed);
    CU_ASSERT_EQUAL(kit_websockets_pre_auth(host.kit), 4);
    peer_begin(&modest[0], NULL); /* and its place is free again */
    begin(&p, 1);
    for (int i = 0; i < 5; i++)
        peer_drop(&greedy[i]);
    for (int i = 0; i < 3; i++)
        peer_drop(&modest[i]);
    peer_drop(&p);
    stop();
}

int main(void) {
    static const struct tap_test tests[] = {
        {"one user's flood leaves another user's visitor half of the bytes", bytes_are_shared_by_user},
        {"the rate of a user holds for all of its connections", a_rate_holds},
        {"max-streams counts the streams of all sessions of a user", streams_of_a_user_end},
        {"many visitors of one user leave descriptors to other users", descriptors_are_left_to_others},
        {"a crowd at one user's host leaves descriptors to others at the public port",
         descriptors_are_left_to_others_at_a_public_port},
        {"sessions of one user leave places to other users", places_are_left_to_others},
        {"one user's readers of events leave places to others", readers_are_left_to_others},
        {"one user's WebSockets before HELLO leave places to others", places_before_hello_are_left_to_others},
        {"one user's parked sessions take nobody else's place", parked_ones_are_left_to_others},
        {NULL, NULL},
    };
    return tap_main("users", tests);
}
