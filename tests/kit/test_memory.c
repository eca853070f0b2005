/*
 * Each allocation fails once while a driver comes in, binds, serves a visitor, is lost and comes back: the kit goes on,
 * and nothing is left behind. The clients here use no heap, so that only the kit can be hit.
 */
#include "peer.h"

static struct {
    int fd;
    size_t n;
    bool eof;
    char text[65536];
} c[4];

enum { DRIVER, VISITOR, ADMIN, READER };

static void few_turns(void) {
    for (int i = 0; i < 12; i++)
        io_loop_turn(host.loop, false);
}

static void take(int who) {
    while (!c[who].eof && c[who].n < sizeof c[who].text - 1) {
        ssize_t n = recv(c[who].fd, c[who].text + c[who].n, sizeof c[who].text - 1 - c[who].n, MSG_DONTWAIT);
        if (n > 0)
            c[who].n += (size_t)n;
        else if (n == 0 || errno != EAGAIN)
            c[who].eof = true;
        else
            break;
    }
    c[who].text[c[who].n] = '\0';
}

static void dial(int who, uint16_t port) {
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons(port), .sin_addr = {htonl(INADDR_LOOPBACK)}};
    c[who].n = 0;
    c[who].fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    c[who].eof = c[who].fd < 0 || connect(c[who].fd, (struct sockaddr *)&a, sizeof a) != 0;
}

/* Sends and gives the kit time to answer; false when the connection is over. */
static bool say(int who, const void *bytes, size_t n) {
    if (!c[who].eof && send(c[who].fd, bytes, n, MSG_NOSIGNAL) != (ssize_t)n)
        c[who].eof = true;
    few_turns();
    take(who);
    return !c[who].eof;
}

static void hang_up(int who) {
    if (c[who].fd >= 0)
        close(c[who].fd);
    c[who].fd = -1;
    few_turns();
}

/* One frame in one message, masked with zeros (RFC 6455 5.2). */
static bool say_frame(uint8_t type, uint32_t stream_id, const char *json) {
    uint8_t m[512] = {0x82};
    size_t len = strlen(json), n = WIRE_LIMIT_HEADER + len, at = 2;
    m[1] = (uint8_t)(0x80 | (n < 126 ? n : 126));
    if (n >= 126) {
        m[at++] = (uint8_t)(n >> 8);
        m[at++] = (uint8_t)n;
    }
    at += 4;
    wire_encode_header(m + at, type, stream_id, (uint32_t)len);
    memcpy(m + at + WIRE_LIMIT_HEADER, json, len);
    return say(DRIVER, m, at + n);
}

static const char *in_answer(const char *word) {
    const char *p = memmem(c[DRIVER].text, c[DRIVER].n, word, strlen(word));
    return p ? p + strlen(word) : NULL;
}

static bool come_in(const char *hello) {
    static const char upgrade[] =
        "GET /api/v1/tunnel/connect HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
        "Sec-WebSocket-Protocol: hoody-tunnel.v1\r\n\r\n";
    dial(DRIVER, host.port);
    return say(DRIVER, upgrade, sizeof upgrade - 1) && in_answer(" 101 ") && say_frame(WIRE_HELLO, 0, hello);
}

/* Returns true when all of it worked. */
static bool scenario(void) {
    static const char admin[] = "GET /api/v1/tunnel/tunnels HTTP/1.1\r\nHost: localhost\r\n\r\n";
    static const char get[] = "GET / HTTP/1.1\r\nHost: app\r\nConnection: close\r\n\r\n";
    static const char events[] = "GET /api/v1/tunnel/events HTTP/1.1\r\nHost: localhost\r\n\r\n";
    char id[64] = "", resume[256];
    dial(READER, host.port);
    bool told = say(READER, events, sizeof events - 1);
    bool good = come_in("{\"version\":\"hoody-tunnel.v1\"}");
    const char *p = good ? in_answer("\"sessionId\":\"") : NULL;
    if (p)
        snprintf(id, 39, "%s", p);
    good = good && p && say_frame(WIRE_BIND, 0, "{\"clientBindRef\":1,\"kind\":\"http\",\"mode\":\"expose\"}");
    p = good ? in_answer("\"containerPort\":") : NULL;
    unsigned port = p ? (unsigned)strtoul(p, NULL, 10) : 0;
    good = good && port;
    if (good) {
        dial(VISITOR, (uint16_t)port);
        good = say(VISITOR, get, sizeof get - 1);
        good = good && say_frame(WIRE_STREAM_RESPONSE_HEAD, 2, "{\"status\":204,\"headers\":[],\"final\":true}") &&
               say_frame(WIRE_EOF, 2, "");
        take(VISITOR);
        good = good && strncmp(c[VISITOR].text, "HTTP/1.1 204 ", 13) == 0;
        hang_up(VISITOR);
    }
    dial(ADMIN, host.port);
    good = say(ADMIN, admin, sizeof admin - 1) && strstr(c[ADMIN].text, "orphanedSessions") && good;
    hang_up(ADMIN);
    hang_up(DRIVER);
    if (id[0]) {
        snprintf(resume, sizeof resume, "{\"version\":\"hoody-tunnel.v1\",\"resume\":{\"sessionId\":\"%s\"}}", id);
        good = come_in(resume) && in_answer("\"resumed\":true") && good;
        hang_up(DRIVER);
    }
    /* A reader of events is told everything or cut off. */
    take(READER);
    told = told && !c[READER].eof;
    CU_ASSERT(!told || !good || strstr(c[READER].text, "event: session-resumed\n"));
    hang_up(READER);
    return good && told;
}

static void the_kit_outlives_every_failure(void) {
    unsigned bad = 0, good_in_a_row = 0;
    for (long index = 0; index < 1000 && good_in_a_row < 20; index++) {
        host_start("");
        few_turns();
        ht_mem_fail_at(index);
        bool good = scenario();
        ht_mem_fail_at(-1);
        good_in_a_row = good ? good_in_a_row + 1 : 0;
        bad += !good;
        /* Whatever happened: a healthy driver is served now. */
        CU_ASSERT_FATAL(scenario());
        host_stop();
    }
    printf("# %u failures\n", bad);
    CU_ASSERT(bad > 10);
    CU_ASSERT_EQUAL(good_in_a_row, 20);
}

static void creating_one_may_fail(void) {
    ht_log_setup(2, HT_LOG_ERROR, HT_LOG_TEXT);
    size_t before = ht_mem_live();
    struct io_loop *loop = io_loop_create();
    struct opt_serve opt;
    struct ht_errmsg err;
    char *argv[] = {(char *)(uintptr_t) "--listen", (char *)(uintptr_t) "127.0.0.1:0"};
    CU_ASSERT_EQUAL_FATAL(opt_serve_parse(&opt, 2, argv, &err), 0);
    size_t made = ht_mem_live();
    struct kit *k = NULL;
    long index = 0;
    for (; index < 100 && !k; index++) {
        ht_mem_fail_at(index);
        k = kit_create(loop, &opt, &err);
        ht_mem_fail_at(-1);
        if (!k)
            CU_ASSERT_EQUAL(ht_mem_live(), made);
    }
    CU_ASSERT_PTR_NOT_NULL(k);
    CU_ASSERT(index > 3);
    kit_destroy(&k);
    opt_serve_free(&opt);
    io_loop_destroy(&loop);
    CU_ASSERT_EQUAL(ht_mem_live(), before);
}

int main(void) {
    static const struct tap_test tests[] = {
        {"creating one may fail", creating_one_may_fail},
        {"the kit outlives every failure", the_kit_outlives_every_failure},
        {NULL, NULL},
    };
    return tap_main("failing memory", tests);
}
