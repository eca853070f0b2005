/* From the upgrade to HELLO_OK: who comes in, and how the others are told. */
#include "peer.h"

#include <fcntl.h>

static uint64_t failures(enum ht_metric_handshake_failure why) {
    return kit_metrics(host.kit)->handshake_failures_total[why];
}

/* What the kit does with a WebSocket whose first message is `p->out`. */
static void expect_close(struct peer *p, uint16_t code) {
    peer_flush(p);
    UNTIL(p->closed);
    CU_ASSERT_EQUAL(p->close_code, code);
    CU_ASSERT_FALSE(p->close_local);
    peer_drop(p);
}

static void hello_is_answered(void) {
    host_start("");
    struct peer p;
    char id[64];
    peer_connect(&p);
    CU_ASSERT_STRING_EQUAL(p.protocol, "hoody-tunnel.v1");
    CU_ASSERT_EQUAL(kit_websockets_pre_auth(host.kit), 1);
    peer_begin(&p, id);
    CU_ASSERT_EQUAL(kit_websockets_pre_auth(host.kit), 0);
    const struct wire_hello_ok *ok = &p.any.hello_ok;
    CU_ASSERT_EQUAL(strlen(id), 38);
    CU_ASSERT_EQUAL(strncmp(id, "S-", 2), 0);
    CU_ASSERT_FALSE(ok->resumed);
    CU_ASSERT_EQUAL(ok->n_resumed_binds, 0);
    CU_ASSERT_EQUAL(ok->stream_window, WIRE_LIMIT_STREAM_WINDOW);
    CU_ASSERT_EQUAL(ok->session_window, WIRE_LIMIT_SESSION_WINDOW);
    CU_ASSERT_EQUAL(ok->connections_granted, 1);
    CU_ASSERT_EQUAL(ok->n_join_tickets, 0);
    CU_ASSERT(ok->has_max_streams && ok->max_streams == 1024);
    CU_ASSERT(ok->has_server && strncmp(ok->server.p, "hoody-tunnel/", 13) == 0);
    CU_ASSERT_EQUAL(kit_sessions_live(host.kit), 1);
    peer_bye(&p);
    UNTIL(kit_sessions_live(host.kit) == 0);
    CU_ASSERT_EQUAL(kit_sessions_parked(host.kit), 0);
    host_stop();
}

static void the_first_offered_subprotocol_is_chosen(void) {
    static const struct {
        const char *offer, *chosen;
    } rows[] = {
        {"hoody-tunnel.v1", "hoody-tunnel.v1"},
        {"hoody-tunnel.v2", "hoody-tunnel.v2"},
        {"hoody-tunnel.v2, hoody-tunnel.v1", "hoody-tunnel.v2"},
        {"x, hoody-tunnel.v3,hoody-tunnel.v1, hoody-tunnel.v2", "hoody-tunnel.v1"},
    };
    host_start("");
    for (size_t i = 0; i < HT_ARRAY_LEN(rows); i++) {
        struct peer p;
        peer_connect_as(&p, rows[i].offer, NULL);
        CU_ASSERT_STRING_EQUAL(p.protocol, rows[i].chosen);
        peer_drop(&p);
    }
    static const char *const bad[] = {"hoody-tunnel.v3", "hoody-tunnel", "HOODY-TUNNEL.V1"};
    for (size_t i = 0; i < HT_ARRAY_LEN(bad); i++) {
        struct peer p;
        peer_connect_as(&p, bad[i], NULL);
        CU_ASSERT_EQUAL(p.status, 400);
        peer_drop(&p);
    }
    CU_ASSERT_EQUAL(failures(HT_METRIC_HANDSHAKE_FAILURE_SUBPROTOCOL), 3);
    host_stop();
}

#define KEY "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
#define UPGRADE "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n" KEY
#define OFFER "Sec-WebSocket-Protocol: hoody-tunnel.v1\r\n"
#define HOST "Host: localhost\r\n"
#define GET_CONNECT "GET /api/v1/tunnel/connect HTTP/1.1\r\n"

static void bad_upgrades_are_refused(void) {
    static const struct {
        const char *request;
        int status;
    } rows[] = {
        {GET_CONNECT HOST UPGRADE "\r\n", 400}, /* no subprotocol */
        {GET_CONNECT HOST "\r\n", 426},
        {GET_CONNECT HOST "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 8\r\n" KEY OFFER "\r\n",
         426},
        {GET_CONNECT HOST "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n" OFFER "\r\n",
         400},
        {"POST /api/v1/tunnel/connect HTTP/1.1\r\n" HOST UPGRADE OFFER "\r\n", 405},
        {"GET /api/v1/tunnel/connect HTTP/1.0\r\n" HOST UPGRADE OFFER "\r\n", 400},
        {GET_CONNECT HOST UPGRADE OFFER "Content-Length: 3\r\n\r\nabc", 400},
        {GET_CONNECT "Host: evil.example\r\n" UPGRADE OFFER "\r\n", 403},
        {GET_CONNECT "Host: 127.0.0.1.evil.example:50\r\n" UPGRADE OFFER "\r\n", 403},
        {GET_CONNECT HOST UPGRADE OFFER "Origin: http://evil.example\r\n\r\n", 403},
        {GET_CONNECT HOST UPGRADE OFFER "Origin: null\r\n\r\n", 403},
        {GET_CONNECT HOST UPGRADE OFFER "Origin: http://localhost:3000\r\n\r\n", 403},
    };
    host_start("");
    for (size_t i = 0; i < HT_ARRAY_LEN(rows); i++) {
        struct raw r;
        int status = raw_ask(&r, host.port, rows[i].request);
        CU_ASSERT_EQUAL(status, rows[i].status);
        if (status != rows[i].status)
            printf("# row %zu: %d instead of %d\n", i, status, rows[i].status);
        CU_ASSERT_PTR_NOT_NULL(strstr(raw_body(&r), "\"error\""));
        raw_close(&r);
    }
    static const char *const good[] = {
        GET_CONNECT HOST UPGRADE OFFER "Origin: http://localhost\r\n\r\n",
        GET_CONNECT HOST UPGRADE OFFER "Origin: client\r\n\r\n",
        GET_CONNECT "Host: [::1]:50\r\n" UPGRADE OFFER "\r\n",
        GET_CONNECT "Host: 127.1.2.3\r\n" UPGRADE OFFER "\r\n",
        GET_CONNECT "Host: kit.localhost:50\r\n" UPGRADE OFFER "\r\n",
        "GET /api/v1/tunnel/connect?x=1 HTTP/1.1\r\n" HOST UPGRADE OFFER "\r\n",
    };
    for (size_t i = 0; i < HT_ARRAY_LEN(good); i++) {
        struct raw r;
        raw_connect(&r, host.port);
        raw_send(&r, good[i]);
        UNTIL(strstr(raw_text(&r), "\r\n\r\n"));
        CU_ASSERT_EQUAL(strncmp(raw_text(&r), "HTTP/1.1 101 ", 13), 0);
        CU_ASSERT_PTR_NOT_NULL(strstr(raw_text(&r), "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="));
        raw_close(&r);
    }
    host_stop();
}

static void a_bad_first_message_is_1002(void) {
    static const struct {
        uint8_t type;
        uint32_t stream_id;
        const char *payload;
    } rows[] = {
        {WIRE_HELLO, 0, ""},
        {WIRE_HELLO, 0, "{"},
        {WIRE_HELLO, 0, "[]"},
        {WIRE_HELLO, 0, "{}"},
        {WIRE_HELLO, 0, "{\"version\":\"hoody-tunnel.v2\"}"}, /* not the subprotocol's */
        {WIRE_HELLO, 0, "{\"version\":\"hoody-tunnel.v3\"}"},
        {WIRE_HELLO, 0, "{\"version\":\"hoody-tunnel.v1\",\"capabilities\":7}"},
        {WIRE_HELLO, 2, "{\"version\":\"hoody-tunnel.v1\"}"},
        {WIRE_BIND, 0, "{}"},
        {WIRE_JOIN, 0, "{\"sessionId\":\"S\",\"index\":1,\"nonce\":\"n\"}"}, /* v2 only */
        {WIRE_PING, 0, "12345678"},
        {WIRE_GOAWAY, 0, "{\"code\":0}"},
        {WIRE_DATA, 2, "x"},
        {0x99, 0, ""},
    };
    host_start("");
    for (size_t i = 0; i < HT_ARRAY_LEN(rows); i++) {
        struct peer p;
        peer_connect(&p);
        peer_add_raw(&p, rows[i].type, rows[i].stream_id, rows[i].payload, strlen(rows[i].payload));
        expect_close(&p, WIRE_CLOSE_PROTOCOL_ERROR);
    }
    CU_ASSERT_EQUAL(failures(HT_METRIC_HANDSHAKE_FAILURE_BAD_HELLO), HT_ARRAY_LEN(rows));
    CU_ASSERT_EQUAL(kit_sessions_live(host.kit), 0);
    host_stop();
}

static void silence_ends_without_a_close_code(void) {
    host_start("--hello-timeout 100ms");
    struct peer p;
    peer_connect(&p);
    UNTIL(p.closed);
    CU_ASSERT_EQUAL(p.close_code, 1006);
    CU_ASSERT_EQUAL(failures(HT_METRIC_HANDSHAKE_FAILURE_HELLO_TIMEOUT), 1);
    peer_drop(&p);
    host_stop();
}

static void strangers_are_capped(void) {
    host_start("--max-pre-auth-connections 2");
    struct peer p[4];
    for (int i = 0; i < 2; i++)
        peer_connect(&p[i]);
    peer_connect(&p[2]);
    UNTIL(p[2].closed);
    CU_ASSERT_EQUAL(p[2].close_code, 1006);
    CU_ASSERT_EQUAL(failures(HT_METRIC_HANDSHAKE_FAILURE_PRE_AUTH_CAP), 1);
    /* One of them says HELLO: there is room again. */
    peer_begin(&p[0], NULL);
    peer_connect(&p[3]);
    peer_begin(&p[3], NULL);
    CU_ASSERT_FALSE(p[3].closed);
    for (int i = 0; i < 4; i++)
        peer_drop(&p[i]);
    UNTIL(kit_websockets(host.kit) == 0);
    host_stop();
}

static void sessions_are_capped(void) {
    host_start("--max-sessions 1");
    struct peer a, b;
    peer_start(&a, NULL);
    peer_connect(&b);
    struct wire_hello h = {.version = WIRE_V1};
    peer_hello(&b, &h);
    peer_expect(&b, WIRE_GOAWAY);
    CU_ASSERT_EQUAL(b.any.goaway.code, WIRE_CODE_RESOURCE_EXHAUSTED);
    CU_ASSERT(ht_slice_is(b.any.goaway.message, "tunnel session limit reached"));
    UNTIL(b.closed);
    CU_ASSERT_EQUAL(b.close_code, 1013);
    peer_drop(&b);
    peer_bye(&a);
    UNTIL(kit_sessions_live(host.kit) == 0);
    peer_start(&b, NULL);
    peer_bye(&b);
    host_stop();
}

static const char *token_file(void) {
    static char name[64];
    snprintf(name, sizeof name, "%s", "token-XXXXXX");
    int fd = mkstemp(name);
    CU_ASSERT_FATAL(fd >= 0);
    CU_ASSERT_EQUAL(write(fd, "sesame\nsecond line\n", 19), 19);
    close(fd);
    return name;
}

static void hello_with_token(const char *extra, const char *token, bool good) {
    struct peer p;
    peer_connect_as(&p, WIRE_SUBPROTOCOL_V1, extra);
    CU_ASSERT_FATAL(p.open);
    struct wire_hello h = {
        .version = WIRE_V1,
        .has_auth = token != NULL,
        .auth = {.kind = ht_slice_str("bearer"), .token = ht_slice_str(token)},
    };
    peer_hello(&p, &h);
    if (good) {
        peer_expect(&p, WIRE_HELLO_OK);
        peer_bye(&p);
        return;
    }
    peer_expect(&p, WIRE_GOAWAY);
    CU_ASSERT_EQUAL(p.any.goaway.code, WIRE_CODE_AUTH_ERROR);
    UNTIL(p.closed);
    CU_ASSERT_EQUAL(p.close_code, 1008);
    peer_drop(&p);
}

static void a_token_may_come_in_two_places(void) {
    const char *file = token_file();
    char args[96];
    snprintf(args, sizeof args, "--token-file %s", file);
    host_start(args);
    unlink(file);
    hello_with_token(NULL, NULL, false);
    hello_with_token(NULL, "", false);
    hello_with_token(NULL, "sesam", false);
    hello_with_token(NULL, "sesame ", false);
    hello_with_token(NULL, "sesame", true);
    hello_with_token("Authorization: Bearer sesame\r\n", NULL, true);
    hello_with_token("Authorization: bearer sesame\r\n", "other", true);
    static const char *const wrong[] = {"Authorization: Bearer open\r\n", "Authorization: Basic sesame\r\n",
                                        "Authorization: sesame\r\n"};
    for (size_t i = 0; i < HT_ARRAY_LEN(wrong); i++) {
        struct peer p;
        peer_connect_as(&p, WIRE_SUBPROTOCOL_V1, wrong[i]);
        CU_ASSERT_EQUAL(p.status, 401);
        peer_drop(&p);
    }
    CU_ASSERT_EQUAL(failures(HT_METRIC_HANDSHAKE_FAILURE_AUTH), 7);
    CU_ASSERT_EQUAL(kit_sessions_live(host.kit), 0);
    host_stop();
}

/* ---- v2 ---- */

static const struct ht_slice published_caps[] = {{"multi-ws", 8}, {"something-else", 14}};

static void v2_hello(struct peer *p, uint32_t asked, char id[64]) {
    peer_v2_hello(p, asked, published_caps, HT_ARRAY_LEN(published_caps), NULL);
    snprintf(id, 64, "%.*s", HT_SLICE_ARG(p->any.hello_ok.session_id));
}

static void v2_gives_tickets_that_work_once(void) {
    host_start("--max-connections 3");
    struct peer primary, s1, s2, other;
    char id[64], nonce[4][64] = {""};
    v2_hello(&primary, 99, id);
    const struct wire_hello_ok *ok = &primary.any.hello_ok;
    CU_ASSERT_EQUAL(ok->connections_granted, 3);
    CU_ASSERT_EQUAL_FATAL(ok->n_join_tickets, 2);
    CU_ASSERT_EQUAL(ok->n_capabilities, 1);
    CU_ASSERT(ht_slice_is(ok->capabilities[0], "multi-ws"));
    for (unsigned i = 0; i < 2; i++) {
        CU_ASSERT_EQUAL(ok->join_tickets[i].index, i + 1);
        CU_ASSERT(ok->join_tickets[i].expires_ms > 1000);
        snprintf(nonce[i + 1], 64, "%.*s", HT_SLICE_ARG(ok->join_tickets[i].nonce));
    }
    peer_join(&s1, id, 1, nonce[1]);
    peer_expect(&s1, WIRE_JOIN_OK);
    CU_ASSERT_EQUAL(s1.any.join_ok.index, 1);
    peer_join(&other, id, 1, nonce[1]); /* used */
    peer_expect_join_err(&other, WIRE_JOIN_ERROR_INVALID_TICKET);
    peer_join(&other, id, 3, nonce[2]); /* no such index */
    peer_expect_join_err(&other, WIRE_JOIN_ERROR_INVALID_TICKET);
    peer_join(&other, "S-nobody", 2, nonce[2]);
    peer_expect_join_err(&other, WIRE_JOIN_ERROR_UNKNOWN_SESSION);
    peer_join(&s2, id, 2, nonce[2]);
    peer_expect(&s2, WIRE_JOIN_OK);
    CU_ASSERT_EQUAL(kit_websockets(host.kit), 3);
    /* A lost secondary does not end the session. */
    peer_drop(&s2);
    UNTIL(kit_websockets(host.kit) == 2);
    CU_ASSERT_EQUAL(kit_sessions_live(host.kit), 1);
    peer_bye(&primary);
    UNTIL(kit_sessions_live(host.kit) == 0);
    UNTIL(s1.closed);
    peer_drop(&s1);
    host_stop();
}

static void a_wrong_nonce_uses_the_ticket_up(void) {
    host_start("");
    struct peer primary, s1;
    char id[64], nonce[64];
    v2_hello(&primary, 2, id);
    CU_ASSERT_EQUAL(primary.any.hello_ok.connections_granted, 2);
    snprintf(nonce, sizeof nonce, "%.*s", HT_SLICE_ARG(primary.any.hello_ok.join_tickets[0].nonce));
    peer_join(&s1, id, 1, "0123456789abcdef0123456789abcdef");
    peer_expect_join_err(&s1, WIRE_JOIN_ERROR_INVALID_TICKET);
    peer_join(&s1, id, 1, nonce);
    peer_expect_join_err(&s1, WIRE_JOIN_ERROR_INVALID_TICKET);
    peer_bye(&primary);
    host_stop();
}

static void own_drivers_are_recognised(void) {
    host_start("");
    struct peer p;
    struct ht_slice caps[] = {ht_slice_str("auto-window"), ht_slice_str("shard-map")};
    struct wire_hello h = {.version = WIRE_V1, .capabilities = caps, .n_capabilities = 2};
    peer_connect(&p);
    peer_hello(&p, &h);
    peer_expect(&p, WIRE_HELLO_OK);
    CU_ASSERT_EQUAL(p.any.hello_ok.n_capabilities, 1);
    CU_ASSERT(ht_slice_is(p.any.hello_ok.capabilities[0], "auto-window"));
    peer_bye(&p);
    host_stop();
}

static void text_messages_are_1003(void) {
    host_start("");
    struct raw r;
    raw_connect(&r, host.port);
    raw_send(&r, GET_CONNECT HOST UPGRADE OFFER "\r\n");
    UNTIL(strstr(raw_text(&r), "\r\n\r\n"));
    ht_buf_consume(&r.in, ht_buf_size(&r.in));
    raw_send(&r, "\x81\x82\x01\x01\x01\x01hh"); /* RFC 6455 5.2: FIN, text, masked, two bytes */
    UNTIL(raw_ended(&r));
    const uint8_t *f = ht_buf_head(&r.in);
    CU_ASSERT_FATAL(ht_buf_size(&r.in) >= 4);
    CU_ASSERT_EQUAL(f[0], 0x88);
    CU_ASSERT_EQUAL(f[2] << 8 | f[3], 1003);
    raw_close(&r);
    host_stop();
}

int main(void) {
    static const struct tap_test tests[] = {
        {"HELLO gets HELLO_OK", hello_is_answered},
        {"the first offered subprotocol is chosen", the_first_offered_subprotocol_is_chosen},
        {"bad upgrades are refused", bad_upgrades_are_refused},
        {"a bad first message is closed with 1002", a_bad_first_message_is_1002},
        {"a WebSocket without a HELLO is closed without a close frame", silence_ends_without_a_close_code},
        {"there are at most so many WebSockets before HELLO", strangers_are_capped},
        {"there are at most so many sessions", sessions_are_capped},
        {"a token may come in two places", a_token_may_come_in_two_places},
        {"v2 gives tickets that work once", v2_gives_tickets_that_work_once},
        {"a wrong nonce uses the ticket up", a_wrong_nonce_uses_the_ticket_up},
        {"drivers of this project are recognised", own_drivers_are_recognised},
        {"text messages are closed with 1003", text_messages_are_1003},
        {NULL, NULL},
    };
    return tap_main("handshake", tests);
}
