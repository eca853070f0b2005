/*
 * kit/bounds.h says how much heap each kind of stranger can cost a kit. These are the worst of each kind that we know:
 * they must stay below, and what they cost must be gone with them.
 *
 * Runs: plain.
 */
#include "kit/bounds.h"
#include "rawws.h"

static size_t before;

static void begin(const char *args) {
    host_start(args);
    struct raw r;
    /* What is made once and kept: the loop's blocks, the decoder's room. */
    raw_session(&r);
    raw_close(&r);
    UNTIL(kit_websockets(host.kit) == 0);
    before = ht_mem_bytes();
}

static void within(const char *what, size_t n, size_t bound, size_t own) {
    size_t now = ht_mem_bytes(), cost = now > before + own ? now - before - own : 0;
    printf("# %s: %zu bytes each, %zu allowed\n", what, cost / n, bound);
    CU_ASSERT(cost <= n * bound);
    CU_ASSERT(cost / n * 50 >= bound); /* a bound that nobody comes near says nothing */
}

static size_t own_bytes(const struct raw *r, size_t n) {
    size_t all = 0;
    for (size_t i = 0; i < n; i++)
        all += r[i].in.cap;
    return all;
}

static void strangers(void) {
    begin("");
    static uint8_t part[WIRE_LIMIT_MAX_PREAUTH_MESSAGE];
    struct raw r[24];
    struct ht_buf b = {0};
    wire_encode_header(part, WIRE_HELLO, 0, WIRE_LIMIT_MAX_PAYLOAD);
    for (size_t i = 0; i < HT_ARRAY_LEN(r); i++) {
        raw_upgrade(&r[i], WIRE_SUBPROTOCOL_V1);
        for (int k = 0; k < 64; k++)
            ws_put(&b, WS_PING, part, 125);
        ws_put(&b, WS_WHOLE, part, sizeof part);
        b.len -= 10; /* all of a message but its end */
        (void)raw_push(&r[i], &b);
    }
    ht_buf_free(&b);
    CU_ASSERT_EQUAL(kit_websockets_pre_auth(host.kit), HT_ARRAY_LEN(r));
    within("a stranger", HT_ARRAY_LEN(r), kit_bound_socket(), own_bytes(r, HT_ARRAY_LEN(r)));
    for (size_t i = 0; i < HT_ARRAY_LEN(r); i++)
        raw_close(&r[i]);
    host_stop();
}

/* A session with as many names as it may have, each as long as they get. */
static void many_names(struct peer *p, unsigned nth) {
    static const struct ht_slice cap = {"names", 5};
    static char text[WIRE_LIMIT_MAX_NAMES][WIRE_LIMIT_NAME_TEXT + 1];
    struct wire_hello h = {.version = WIRE_V1, .capabilities = &cap, .n_capabilities = 1};
    struct ht_slice names[WIRE_LIMIT_MAX_NAMES / 2];
    peer_connect(p);
    CU_ASSERT_FATAL(p->open);
    peer_hello(p, &h);
    peer_expect(p, WIRE_HELLO_OK);
    for (unsigned half = 0; half < 2; half++) { /* all of them do not fit one frame */
        for (size_t i = 0; i < HT_ARRAY_LEN(names); i++) {
            char *t = text[i];
            memset(t, 'a', WIRE_LIMIT_NAME_HOST);
            for (size_t dot = 63; dot < WIRE_LIMIT_NAME_HOST; dot += 64)
                t[dot] = '.';
            memcpy(t + WIRE_LIMIT_NAME_HOST, ":65535", 7);
            int n = snprintf(t, 16, "%u-%u-%zu", nth, half, i);
            t[n] = 'a';
            names[i] = ht_slice_str(t);
        }
        struct wire_bind b = {.has_client_bind_ref = true,
                              .kind = WIRE_KIND_TCP,
                              .mode = WIRE_MODE_PULL,
                              .has_portless = true,
                              .portless = true,
                              .names = names,
                              .n_names = HT_ARRAY_LEN(names)};
        peer_send(p, WIRE_BIND, 0, &b);
        peer_expect(p, WIRE_BIND_OK);
    }
}

/* Never whole heads, and answers that nobody takes. */
static void clients(void) {
    begin("");
    static char head[8192];
    struct raw r[32];
    struct peer p[4];
    for (size_t i = 0; i < HT_ARRAY_LEN(p); i++)
        many_names(&p[i], (unsigned)i);
    before = ht_mem_bytes();
    memset(head, 'x', sizeof head - 1);
    memcpy(head, "GET / HTTP/1.1\r\nHost: localhost\r\nA: ", 36);
    for (size_t i = 0; i < HT_ARRAY_LEN(r); i++) {
        raw_connect(&r[i], host.port);
        setsockopt(r[i].fd, SOL_SOCKET, SO_RCVBUF, &(int){4096}, sizeof(int));
        if (i % 2)
            raw_send(&r[i], head);
        for (int k = 0; i % 2 == 0 && k < 100; k++)
            raw_send(&r[i], "GET /api/v1/tunnel/bindings HTTP/1.1\r\nHost: localhost\r\n\r\n");
    }
    UNTIL(kit_http_clients(host.kit) == HT_ARRAY_LEN(r));
    for (int i = 0; i < 50; i++)
        ready_turn();
    within("an HTTP client", HT_ARRAY_LEN(r), kit_bound_client(&host.opt), own_bytes(r, HT_ARRAY_LEN(r)));
    for (size_t i = 0; i < HT_ARRAY_LEN(r); i++)
        raw_close(&r[i]);
    for (size_t i = 0; i < HT_ARRAY_LEN(p); i++)
        peer_bye(&p[i]);
    host_stop();
}

static void readers(void) {
    begin("");
    struct raw r[8];
    struct peer p;
    for (size_t i = 0; i < HT_ARRAY_LEN(r); i++) {
        raw_connect(&r[i], host.port);
        setsockopt(r[i].fd, SOL_SOCKET, SO_RCVBUF, &(int){4096}, sizeof(int));
        raw_send(&r[i], "GET /api/v1/tunnel/events HTTP/1.1\r\nHost: localhost\r\n\r\n");
        UNTIL(strstr(raw_text(&r[i]), ": hoody-tunnel events"));
    }
    size_t most = 0;
    for (int i = 0; i < 4000 && kit_http_clients(host.kit) > 0; i++) {
        peer_start(&p, NULL);
        peer_drop(&p);
        most = ht_max(most, ht_mem_bytes());
    }
    size_t cost = (most > before ? most - before : 0) / HT_ARRAY_LEN(r);
    printf("# a reader of events: %zu bytes each, %zu allowed\n", cost,
           kit_bound_reader() + kit_bound_parked(&host.opt));
    CU_ASSERT(most - before <= HT_ARRAY_LEN(r) * kit_bound_reader() + 9 * kit_bound_parked(&host.opt) +
                                   own_bytes(r, HT_ARRAY_LEN(r)) + (1u << 20));
    for (size_t i = 0; i < HT_ARRAY_LEN(r); i++)
        raw_close(&r[i]);
    host_stop();
}

static void visitors_with_half_a_head(void) {
    begin("");
    static char head[WIRE_LIMIT_MAX_HEAD];
    struct peer p;
    struct raw r[32];
    memset(head, 'x', sizeof head - 2);
    memcpy(head, "GET / HTTP/1.1\r\nHost: localhost\r\nA: ", 36);
    peer_start(&p, NULL);
    uint16_t port = peer_bind(&p, WIRE_KIND_HTTP, 0);
    before = ht_mem_bytes();
    for (size_t i = 0; i < HT_ARRAY_LEN(r); i++) {
        raw_connect(&r[i], port);
        raw_send(&r[i], head);
    }
    UNTIL(kit_visitors(host.kit) == HT_ARRAY_LEN(r));
    for (int i = 0; i < 50; i++)
        ready_turn();
    within("a visitor with half a head", HT_ARRAY_LEN(r), kit_bound_waiting(), 0);
    for (size_t i = 0; i < HT_ARRAY_LEN(r); i++)
        raw_close(&r[i]);
    UNTIL(kit_visitors(host.kit) == 0);
    for (int i = 0; i < 5; i++)
        ready_turn();
    /* What they cost is gone with them, but for the records that are kept for the next ones: of each visitor, and of 16
     * heads. */
    CU_ASSERT(ht_mem_bytes() <= before + HT_ARRAY_LEN(r) * 1024 + 16 * sizeof(struct http_head));
    peer_bye(&p);
    host_stop();
}

/* The driver sends as much as it may to visitors who read nothing: single bytes in messages of their own, or all. */
static void flood(struct raw *driver, uint32_t id, uint32_t window, uint32_t piece) {
    static uint8_t bytes[WIRE_LIMIT_MAX_PAYLOAD];
    struct ht_buf b = {0};
    for (uint32_t sent = 0; sent + piece <= window; sent += piece)
        message_put(&b, WIRE_DATA, id, bytes, piece);
    CU_ASSERT(raw_push(driver, &b));
    ht_buf_free(&b);
}

static uint16_t raw_bind(struct raw *driver, const char *kind) {
    struct ht_buf b = {0};
    char text[128];
    snprintf(text, sizeof text, "{\"clientBindRef\":1,\"kind\":\"%s\",\"mode\":\"%s\"}", kind,
             strcmp(kind, "http") ? "pull" : "expose");
    message_put_text(&b, WIRE_BIND, 0, text);
    CU_ASSERT(raw_push(driver, &b));
    ht_buf_free(&b);
    const char *at = NULL;
    uint64_t end = ht_now_ms() + PATIENCE_MS;
    while (!at && ht_now_ms() < end) {
        one_turn();
        raw_read(driver);
        at = memmem(ht_buf_head(&driver->in), ht_buf_size(&driver->in), "\"containerPort\":", 16);
    }
    CU_ASSERT_PTR_NOT_NULL_FATAL(at);
    uint16_t port = (uint16_t)strtoul(at + 16, NULL, 10);
    ht_buf_consume(&driver->in, ht_buf_size(&driver->in));
    return port;
}

static void stalled(const char *kind, uint32_t piece, size_t bound, unsigned n) {
    static struct raw r[64];
    struct raw driver;
    struct ht_buf b = {0};
    raw_session(&driver);
    uint16_t port = raw_bind(&driver, kind);
    before = ht_mem_bytes() - driver.in.cap;
    for (unsigned i = 0; i < n; i++) {
        raw_connect(&r[i], port);
        setsockopt(r[i].fd, SOL_SOCKET, SO_RCVBUF, &(int){4096}, sizeof(int));
        raw_send(&r[i], strcmp(kind, "http") ? "x" : "GET / HTTP/1.1\r\nHost: a\r\n\r\n");
        UNTIL(kit_streams(host.kit) == i + 1);
        uint32_t id = 2 * (i + 1);
        if (strcmp(kind, "http") == 0)
            message_put_text(&b, WIRE_STREAM_RESPONSE_HEAD, id, "{\"status\":200,\"headers\":[],\"final\":true}");
        CU_ASSERT(raw_push(&driver, &b));
        /* Twice the window: the first one may go into the kernel's buffers and give its credit back. */
        for (int k = 0; k < 2; k++)
            flood(&driver, id, (uint32_t)host.opt.stream_initial_window / 2, piece);
    }
    raw_read(&driver);
    within(kind, n, bound, driver.in.cap);
    CU_ASSERT(ht_mem_bytes() - before <= kit_bound_session(&host.opt) + driver.in.cap);
    ht_buf_free(&b);
    for (unsigned i = 0; i < n; i++)
        raw_close(&r[i]);
    raw_close(&driver);
}

static void visitors_who_do_not_read(void) {
    begin("--stream-initial-window 16M --session-initial-window 64M --session-buffer 64M --max-window 16M");
    stalled("http", 65536, kit_bound_visitor(&host.opt), 2);
    host_stop();
    begin("--stream-initial-window 16M --session-initial-window 64M --session-buffer 64M --max-window 16M");
    stalled("http", 64, kit_bound_visitor(&host.opt), 1);
    host_stop();
    begin("--stream-initial-window 16M --session-initial-window 64M --session-buffer 64M --max-window 16M");
    stalled("tcp", 65536, kit_bound_pull(&host.opt), 2);
    host_stop();
}

/* `n` bytes of fields that may stand behind a body, as lines or as the members of STREAM_TRAILERS; at most 128. */
static size_t fields(char *to, size_t n, bool json) {
    static char value[WIRE_LIMIT_MAX_PAYLOAD];
    size_t each = n / 100, len = 0;
    memset(value, 'x', each);
    for (int i = 0; i < 100; i++)
        len += (size_t)sprintf(to + len, json ? "%s[\"x-%02d\",\"%.*s\"]" : "%sx-%02d: %.*s\r\n", json && i ? "," : "",
                               i, (int)each - 10, value);
    return len;
}

/* Requests whose trailers never end, and answers whose trailers came and whose EOF does not. Those of more than 16 KiB
 * are not kept. */
static void trailers(size_t n_answer, size_t bound) {
    static char request[HTTP_MAX_CHUNK_OVERHEAD + 512], answer[WIRE_LIMIT_MAX_PAYLOAD];
    static struct raw r[32];
    struct raw driver;
    struct ht_buf b = {0};
    begin("");
    raw_session_as(&driver, "{\"version\":\"hoody-tunnel.v1\",\"capabilities\":[\"trailers\"]}");
    uint16_t port = raw_bind(&driver, "http");
    size_t head =
        (size_t)sprintf(request, "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n");
    request[head + fields(request + head, HTTP_MAX_CHUNK_OVERHEAD - 512, false)] = 0;
    size_t len = (size_t)sprintf(answer, "{\"headers\":[");
    len += fields(answer + len, n_answer, true);
    memcpy(answer + len, "]}", 3);
    before = ht_mem_bytes() - driver.in.cap;
    for (unsigned i = 0; i < HT_ARRAY_LEN(r); i++) {
        raw_connect(&r[i], port);
        raw_send(&r[i], request);
        UNTIL(kit_streams(host.kit) == i + 1);
        message_put_text(&b, WIRE_STREAM_RESPONSE_HEAD, 2 * (i + 1), "{\"status\":200,\"headers\":[],\"final\":true}");
        message_put(&b, WIRE_DATA, 2 * (i + 1), "abc", 3);
        message_put_text(&b, WIRE_STREAM_TRAILERS, 2 * (i + 1), answer);
        CU_ASSERT(raw_push(&driver, &b));
    }
    for (int i = 0; i < 50; i++)
        ready_turn();
    raw_read(&driver);
    CU_ASSERT_EQUAL(kit_streams(host.kit), HT_ARRAY_LEN(r));
    within("a visitor with trailers", HT_ARRAY_LEN(r), bound, driver.in.cap + own_bytes(r, HT_ARRAY_LEN(r)));
    ht_buf_free(&b);
    for (unsigned i = 0; i < HT_ARRAY_LEN(r); i++)
        raw_close(&r[i]);
    raw_close(&driver);
    host_stop();
}

static void fields_behind_bodies(void) {
    trailers(HTTP_MAX_CHUNK_OVERHEAD - 512, KIT_BOUND_FIXED + KIT_BOUND_TRAILERS);
    trailers(WIRE_LIMIT_MAX_PAYLOAD - 1024, KIT_BOUND_FIXED + KIT_BOUND_TRAILERS / 3);
}

static void a_session_with_all_its_visitors(void) {
    /* 40 MiB in all: the kernel takes some, the session's buffer is full and its window half used. */
    begin("--stream-initial-window 8M --session-initial-window 16M --session-buffer 16M --max-streams-per-session 64 "
          "--max-window 8M");
    stalled("tcp", 65536, kit_bound_pull(&host.opt), 5);
    host_stop();
}

static void parked_ones(void) {
    begin("--max-sessions 16");
    struct peer p;
    for (unsigned i = 0; i < 16; i++) {
        many_names(&p, i);
        for (int k = 0; k < 6; k++)
            peer_bind(&p, k % 2 ? WIRE_KIND_HTTP : WIRE_KIND_TCP, 0);
        peer_drop(&p);
    }
    UNTIL(kit_sessions_parked(host.kit) == 16);
    within("a parked session", 16, kit_bound_parked(&host.opt), 0);
    host_stop();
}

static void the_sum_is_what_the_defaults_allow(void) {
    struct ht_errmsg err;
    struct opt_serve o;
    char *none[] = {NULL};
    CU_ASSERT_EQUAL_FATAL(opt_serve_parse(&o, 0, none, &err), 0);
    printf("# KiB: socket %zu, client %zu, reader %zu, waiting %zu, visitor %zu, pull %zu, session %zu, parked %zu; "
           "all with 1000 waiting visitors %zu MiB\n",
           kit_bound_socket() >> 10, kit_bound_client(&o) >> 10, kit_bound_reader() >> 10, kit_bound_waiting() >> 10,
           kit_bound_visitor(&o) >> 10, kit_bound_pull(&o) >> 10, kit_bound_session(&o) >> 10,
           kit_bound_parked(&o) >> 10, kit_bound_total(&o, 1000) >> 20);
    CU_ASSERT(kit_bound_total(&o, 0) > o.max_sessions * kit_bound_session(&o));
    opt_serve_free(&o);
}

int main(void) {
    static const struct tap_test tests[] = {
        {"strangers stay within their bound", strangers},
        {"clients of the base listener stay within their bound", clients},
        {"readers of events stay within their bound", readers},
        {"visitors with half a head stay within their bound", visitors_with_half_a_head},
        {"visitors who do not read stay within their bound", visitors_who_do_not_read},
        {"trailers stay within their bound", fields_behind_bodies},
        {"a session with all its visitors stays within its bound", a_session_with_all_its_visitors},
        {"parked sessions stay within their bound", parked_ones},
        {"the sum is what the defaults allow", the_sum_is_what_the_defaults_allow},
        {NULL, NULL},
    };
    return tap_main("bounds of memory", tests);
}
