/*
 * A kit that says what no kit should: at least 10,000 different beginnings, each to a driver of its own. Whatever
 * comes, the driver ends with an error, and nothing of it is left. HOSTILE_N and HOSTILE_SEED as in
 * test_hostile_http.py.
 */
#include "driver/kit_script.h"

#ifdef HT_SANITIZED
#define MANY 1000
#else
#define MANY 10000
#endif

static uint64_t seed;

static uint64_t random64(void) {
    seed ^= seed << 13;
    seed ^= seed >> 7;
    seed ^= seed << 17;
    return seed;
}

static size_t below(size_t n) { return (size_t)(random64() % n); }

/* ---- what it says ---- */

#define MOST 8192

struct saying {
    char bytes[MOST];
    size_t n;
};

static void say(struct saying *s, const void *p, size_t n) {
    n = ht_min(n, MOST - s->n);
    memcpy(s->bytes + s->n, p, n);
    s->n += n;
}

/* One WebSocket frame of a server; `tweak` spoils its header in one of several ways. */
static void say_message(struct saying *s, const void *p, size_t n, unsigned tweak) {
    uint8_t head[10] = {0x82, (uint8_t)n};
    size_t h = 2;
    if (n >= 126) {
        head[1] = 126;
        head[2] = (uint8_t)(n >> 8);
        head[3] = (uint8_t)n;
        h = 4;
    }
    switch (tweak) {
    case 1: /* reserved bits, opcodes */
        head[0] = (uint8_t)random64();
        break;
    case 2: /* a mask that a server must not use */
        head[1] |= 0x80;
        break;
    case 3: /* a length that lies */
        head[1] = 127;
        for (size_t i = 2; i < 10; i++)
            head[i] = (uint8_t)random64();
        h = 10;
        break;
    case 4: /* text; a continuation frame with nothing to continue; control frames */
        head[0] = (uint8_t)(0x80 | (const uint8_t[]){0, 1, 8, 9, 10}[below(5)]);
        break;
    default:
        break;
    }
    say(s, head, h);
    say(s, p, n);
}

static size_t put_frame(uint8_t *to, uint8_t type, uint32_t stream, const char *payload, size_t n) {
    const uint8_t head[WIRE_LIMIT_HEADER] = {type,
                                             (uint8_t)(stream >> 24),
                                             (uint8_t)(stream >> 16),
                                             (uint8_t)(stream >> 8),
                                             (uint8_t)stream,
                                             (uint8_t)(n >> 24),
                                             (uint8_t)(n >> 16),
                                             (uint8_t)(n >> 8),
                                             (uint8_t)n};
    memcpy(to, head, sizeof head);
    memcpy(to + sizeof head, payload, n);
    return sizeof head + n;
}

static void spoil(char *p, size_t *n, size_t cap) {
    static const char nasty[] = "\"\\{}[],:0-e\r\n\t\0\x80\xff\xc0/ \x1b\x07\x7f";
    for (size_t times = 1 + below(4); times > 0 && *n > 0; times--) {
        size_t at = below(*n);
        switch (below(5)) {
        case 0:
            p[at] = (char)random64();
            break;
        case 1:
            p[at] = nasty[below(sizeof nasty - 1)];
            break;
        case 2: /* cut */
            *n = at;
            break;
        case 3: /* doubled */
            if (*n * 2 - at <= cap) {
                memmove(p + *n, p + at, *n - at);
                *n += *n - at;
            }
            break;
        default: /* something taken out */
            memmove(p + at, p + at + 1, *n - at - 1);
            *n -= 1;
            break;
        }
    }
}

static const struct {
    uint8_t type;
    uint32_t stream;
    const char *payload;
} good[] = {
    {WIRE_HELLO_OK, 0,
     "{\"sessionId\":\"S-1\",\"resumed\":false,\"resumedBinds\":[],\"streamWindow\":65536,\"sessionWindow\":1048576,"
     "\"connectionsGranted\":1,\"joinTickets\":[]}"},
    {WIRE_BIND_OK, 0, "{\"clientBindRef\":1,\"bindId\":1,\"containerPort\":20001,\"publicUrl\":null}"},
    {WIRE_STREAM_OPEN, 2,
     "{\"kind\":\"http\",\"bindId\":1,\"method\":\"POST\",\"target\":\"/a?b\",\"headers\":[[\"host\",\"a\"],"
     "[\"transfer-encoding\",\"chunked\"],[\"x\",\"y\"]],\"isUpgrade\":false}"},
    {WIRE_STREAM_OPEN, 4,
     "{\"kind\":\"http\",\"bindId\":1,\"method\":\"GET\",\"target\":\"/"
     "\",\"headers\":[[\"host\",\"a\"],[\"connection\","
     "\"upgrade\"],[\"upgrade\",\"websocket\"]],\"isUpgrade\":true}"},
    {WIRE_STREAM_OPEN, 6, "{\"kind\":\"tcp\",\"bindId\":1,\"containerPort\":20001,\"peerAddr\":\"127.0.0.1:1\"}"},
    {WIRE_DATA, 2, "some bytes"},
    {WIRE_EOF, 2, ""},
    {WIRE_RESET, 2, "\0\7why"},
    {WIRE_WINDOW, 2, "\0\0\1\0"},
    {WIRE_PING, 0, "12345678"},
    {WIRE_PONG, 0, "12345678"},
    {WIRE_BIND_ERR, 0, "{\"clientBindRef\":1,\"code\":\"INTERNAL\",\"message\":\"no\"}"},
    {WIRE_UNBIND_OK, 0, "{\"bindId\":1}"},
    {WIRE_BIND_REVOKED, 0, "{\"bindId\":1,\"reason\":\"taken\"}"},
    {WIRE_GOAWAY, 0, "{\"code\":1,\"message\":\"closed\",\"lastStreamId\":0,\"retryAfterMs\":0}"},
    {WIRE_STREAM_RESPONSE_HEAD, 2, "{\"status\":200,\"headers\":[],\"final\":true}"},
    {WIRE_HELLO, 0, "{\"version\":\"hoody-tunnel.v1\",\"capabilities\":[]}"},
    {WIRE_ACK, 0, "\0\0\0\0\0\0\0\1"},
    {WIRE_HELLO_OK, 0, /* of a kit that keeps what it sends */
     "{\"sessionId\":\"S-1\",\"resumed\":false,\"resumedBinds\":[],\"streamWindow\":65536,\"sessionWindow\":1048576,"
     "\"connectionsGranted\":1,\"joinTickets\":[],\"capabilities\":[\"stream-resume\"],\"replayBuffer\":1048576,"
     "\"resumeGraceMs\":60000}"},
    {WIRE_HELLO_OK, 0, /* and that was not asked for this */
     "{\"sessionId\":\"S-1\",\"resumed\":true,\"resumedBinds\":[],\"streamWindow\":65536,\"sessionWindow\":1048576,"
     "\"connectionsGranted\":1,\"joinTickets\":[],\"capabilities\":[\"stream-resume\"],\"received\":1}"},
};

#define KEEPS (HT_ARRAY_LEN(good) - 2)

static size_t payload_length(size_t i) {
    switch (good[i].type) {
    case WIRE_RESET:
        return 5;
    case WIRE_WINDOW:
        return 4;
    case WIRE_ACK:
        return 8;
    default:
        return strlen(good[i].payload);
    }
}

static void say_good(struct saying *s, size_t i) {
    uint8_t f[1024];
    say_message(s, f, put_frame(f, good[i].type, good[i].stream, good[i].payload, payload_length(i)), 0);
}

/* Some frames in one message; payload, type, stream or length of some are spoilt. */
static void say_spoilt(struct saying *s, size_t only) {
    static uint8_t message[MOST];
    size_t n = 0;
    for (size_t frames = 1 + below(3); frames > 0 && n < MOST / 2; frames--) {
        char payload[1024];
        size_t i = only < HT_ARRAY_LEN(good) ? only : below(HT_ARRAY_LEN(good)), len = payload_length(i);
        uint8_t *at = message + n;
        memcpy(payload, good[i].payload, len);
        if (below(4))
            spoil(payload, &len, sizeof payload);
        n += put_frame(at, good[i].type, good[i].stream, payload, len);
        if (below(8) == 0)
            at[0] = (uint8_t)random64();
        if (below(8) == 0)
            at[1 + below(4)] = (uint8_t)random64();
        if (below(8) == 0)
            at[5 + below(4)] = (uint8_t)random64();
    }
    say_message(s, message, n, below(6) ? 0 : 1 + (unsigned)below(4));
}

/* Everything the kit says to one driver, behind or instead of a good 101. */
static void make_up(struct saying *s, const char *good_101, size_t n_101) {
    s->n = 0;
    switch (below(8)) {
    case 0: { /* the answer to the upgrade */
        char text[1024];
        size_t n = n_101;
        memcpy(text, good_101, n);
        spoil(text, &n, sizeof text);
        say(s, text, n);
        break;
    }
    case 1: /* HELLO_OK */
        say(s, good_101, n_101);
        say_spoilt(s, below(2) ? 0 : KEEPS + below(2));
        break;
    case 2: { /* no WebSocket at all behind it */
        uint64_t noise[8];
        say(s, good_101, n_101);
        for (size_t i = 0; i < HT_ARRAY_LEN(noise); i++)
            noise[i] = random64();
        say(s, noise, 1 + below(sizeof noise));
        break;
    }
    default: /* a session that begins well */
        say(s, good_101, n_101);
        say_good(s, below(2) ? 0 : KEEPS);
        say_good(s, 1);
        for (size_t times = 1 + below(3); times > 0; times--)
            say_spoilt(s, SIZE_MAX);
        break;
    }
}

/* ---- telling them apart ---- */

static uint64_t *seen;
static size_t n_seen;

/* False: said before. */
static bool is_new(const char *p, size_t n, size_t slots) {
    uint64_t h = 0xcbf29ce484222325u;
    for (size_t i = 0; i < n; i++)
        h = (h ^ (uint8_t)p[i]) * 0x100000001b3u;
    h |= 1;
    size_t at = (size_t)(h % slots);
    for (; seen[at]; at = (at + 1) % slots)
        if (seen[at] == h)
            return false;
    seen[at] = h;
    n_seen++;
    return true;
}

/* ---- one driver after another ---- */

static size_t slots;

/* Instead of kit_readable(): the upgrade's key is real, and behind the 101 comes what is made up. */
static void hostile_readable(void *ctx) {
    static struct http_head h;
    static struct saying s;
    struct ht_buf answer = {0}, scratch = {0};
    struct ht_slice key, offered;
    struct http_error e;
    (void)ctx;
    uint8_t *to = ht_buf_reserve(&w.in, 4096);
    CU_ASSERT_PTR_NOT_NULL_FATAL(to);
    ssize_t n = io_conn_read(w.c, to, 4096);
    if (n <= 0) {
        if (n != HT_EAGAIN)
            io_conn_close(&w.c);
        return;
    }
    if (w.upgrades) /* what the driver says to all this is not of interest */
        return;
    ht_buf_commit(&w.in, (size_t)n);
    http_request_begin(&h, NULL);
    if (http_head_parse(&h, (char *)ht_buf_head(&w.in), ht_buf_size(&w.in), &e) <= 0)
        return;
    w.upgrades++;
    CU_ASSERT_EQUAL_FATAL(ws_check_request(&h, (char *)ht_buf_head(&w.in), &key, &offered, &scratch, &e), 0);
    CU_ASSERT_EQUAL_FATAL(ws_write_101(&answer, key, WIRE_SUBPROTOCOL_V1), 0);
    do
        make_up(&s, (char *)ht_buf_head(&answer), ht_buf_size(&answer));
    while (!is_new(s.bytes, s.n, slots));
    struct iovec v = {.iov_base = s.bytes, .iov_len = s.n};
    (void)io_conn_write(w.c, &v, 1);
    (void)io_conn_shutdown(w.c);
    ht_buf_free(&answer);
    ht_buf_free(&scratch);
}

static void hostile_accepted(void *ctx, struct io_conn *c, const struct io_addr *peer) {
    static const struct io_conn_ops ops = {.readable = hostile_readable};
    (void)ctx, (void)peer;
    w.c = c;
    io_conn_set_ops(c, &ops, NULL);
    io_conn_read_on(w.c, true);
}

static size_t number_of(const char *variable, size_t otherwise) {
    const char *text = getenv(variable);
    return text && *text ? strtoull(text, NULL, 10) : otherwise;
}

static void a_driver_survives_every_kit(void) {
    static const struct io_listener_ops ops = {.accepted = hostile_accepted};
    size_t many = number_of("HOSTILE_N", MANY);
    seed = number_of("HOSTILE_SEED", 20112);
    printf("# %zu kits, seed %llu\n", many, (unsigned long long)seed);
    seed = seed * 0x9e3779b97f4a7c15u | 1;
    slots = many * 4 + 1;
    seen = calloc(slots, sizeof *seen);
    CU_ASSERT_PTR_NOT_NULL_FATAL(seen);
    struct io_addr at;
    char text[IO_ADDR_TEXT];
    world_start();
    io_listener_close(&w.listener);
    CU_ASSERT_EQUAL_FATAL(io_addr_parse(&at, "127.0.0.1", 0), 0);
    CU_ASSERT_EQUAL_FATAL(io_listen(w.loop, &at, &ops, NULL, &w.listener, NULL), 0);
    io_listener_local(w.listener, &at);
    snprintf(w.url, sizeof w.url, "ws://%s", io_addr_text(&at, text));
    size_t mem = 0;
    unsigned sessions = 0, bound = 0;
    for (size_t i = 0; i < many; i++) {
        w.upgrades = w.ended = w.connected = w.bound = w.disconnected = 0;
        w.end_error = 0;
        world_tunnel(NULL);
        CU_ASSERT(bind_one(HT_EXPOSE_HTTP, "1", 1) > 0); /* nobody listens there */
        CU_ASSERT_EQUAL(ht_tunnel_connect(w.t), HT_TUNNEL_OK);
        UNTIL(w.ended);
        CU_ASSERT_NOT_EQUAL(w.end_error, HT_TUNNEL_OK);
        sessions += w.connected;
        bound += w.bound;
        ht_tunnel_destroy(&w.t);
        io_conn_close(&w.c);
        ht_buf_consume(&w.in, ht_buf_size(&w.in));
        /* The loop keeps a few blocks for the next one; how many shows early. */
        if (i < 100)
            mem = ht_max(mem, ht_mem_live() + 8);
        CU_ASSERT_FATAL(ht_mem_live() <= mem);
    }
    CU_ASSERT_EQUAL(n_seen, many);
    CU_ASSERT(sessions > many / 2 && bound > many / 4);
    printf("# %zu different, %u sessions, %u bindings\n", n_seen, sessions, bound);
    free(seen);
    world_stop();
}

int main(void) {
    static const struct tap_test tests[] = {
        {"no kit can crash a driver", a_driver_survives_every_kit},
        {NULL, NULL},
    };
    return tap_main("driver, hostile kits", tests);
}
