/*
 * A kit among bad peers, as they see it: hardening cases 10, 11, 13, 14, 15, 17, 18, 24 and 26. The rooms have their
 * own tests of each rule; tests/hardening.yaml names them all, and for each how its defence is switched off.
 */
#include "../wire/json_suite.h"
#include "rawws.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <time.h>

static bool healthy(void) {
    struct raw r;
    int status =
        raw_ask(&r, host.port, "GET /api/v1/tunnel/health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    raw_close(&r);
    return status == 200;
}

/* ---- 10: WebSocket ---- */

static void put_fragments(struct ht_buf *b, unsigned count, const void *last, size_t n) {
    for (unsigned i = 0; i + 1 < count; i++)
        ws_put(b, i ? WS_MIDDLE : WS_FIRST, NULL, 0);
    ws_put(b, count == 1 ? WS_WHOLE : WS_LAST, last, n);
}

/* Empty fragments count: 64 make a message, one more is the end, whatever they hold. */
static void fragments_are_counted(void) {
    host_start("");
    struct ht_buf hello = {0}, b = {0};
    frame_put(&hello, WIRE_HELLO, 0, HELLO_TEXT, strlen(HELLO_TEXT));
    for (unsigned count = WIRE_LIMIT_MAX_FRAGMENTS - 1; count <= WIRE_LIMIT_MAX_FRAGMENTS + 1; count++) {
        struct raw r;
        raw_upgrade(&r, WIRE_SUBPROTOCOL_V1);
        put_fragments(&b, count, ht_buf_head(&hello), ht_buf_size(&hello));
        CU_ASSERT(raw_push(&r, &b));
        if (count <= WIRE_LIMIT_MAX_FRAGMENTS) {
            UNTIL(kit_sessions_live(host.kit) == 1);
            /* The same holds for the next message, behind HELLO. */
            put_fragments(&b, WIRE_LIMIT_MAX_FRAGMENTS + 1, NULL, 0);
            CU_ASSERT(raw_push(&r, &b));
        }
        CU_ASSERT_EQUAL(ws_close_code(&r), 1008);
        raw_close(&r);
        UNTIL(kit_websockets(host.kit) == 0);
    }
    ht_buf_free(&hello);
    ht_buf_free(&b);
    CU_ASSERT(healthy());
    host_stop();
}

/* One-byte fragments, and messages that never end, cost a stranger's connection no more than its bounded buffer. */
static void a_storm_of_strangers_stays_small(void) {
    host_start("");
    static uint8_t junk[WIRE_LIMIT_MAX_PREAUTH_MESSAGE];
    struct raw r[16];
    struct ht_buf b = {0};
    raw_session(&r[0]); /* the loop's own block is there from now on */
    raw_close(&r[0]);
    UNTIL(kit_sessions_parked(host.kit) == 1);
    size_t before = ht_mem_bytes();
    for (size_t i = 0; i < HT_ARRAY_LEN(r); i++) {
        raw_upgrade(&r[i], WIRE_SUBPROTOCOL_V1);
        ws_put(&b, WS_FIRST, junk, 1);
        for (unsigned k = 0; k < WIRE_LIMIT_MAX_FRAGMENTS - 2; k++)
            ws_put(&b, WS_MIDDLE, junk, 1);
        CU_ASSERT(raw_push(&r[i], &b));
    }
    UNTIL(kit_websockets_pre_auth(host.kit) == HT_ARRAY_LEN(r) || kit_websockets(host.kit) == 0);
    ht_buf_free(&b);
    size_t mine = 0;
    for (size_t i = 0; i < HT_ARRAY_LEN(r); i++)
        mine += r[i].in.cap;
    size_t each = (ht_mem_bytes() - before - ht_min(mine, ht_mem_bytes() - before)) / HT_ARRAY_LEN(r);
    printf("# %zu bytes of heap a connection\n", each);
    CU_ASSERT(each < 16384);
    for (size_t i = 0; i < HT_ARRAY_LEN(r); i++)
        raw_close(&r[i]);
    /* One byte more than the message of a stranger may have: the header alone is enough to know. */
    struct raw big;
    static const uint8_t header[14] = {
        WS_WHOLE, 0x80 | 127, [7] = (WIRE_LIMIT_MAX_PREAUTH_MESSAGE + 1) >> 16 & 255,
        [8] = (WIRE_LIMIT_MAX_PREAUTH_MESSAGE + 1) >> 8 & 255, [9] = (WIRE_LIMIT_MAX_PREAUTH_MESSAGE + 1) & 255};
    raw_upgrade(&big, WIRE_SUBPROTOCOL_V1);
    if (ht_buf_append(&b, header, sizeof header) < 0)
        abort();
    CU_ASSERT(raw_push(&big, &b));
    CU_ASSERT_EQUAL(ws_close_code(&big), 1009);
    raw_close(&big);
    ht_buf_free(&b);
    CU_ASSERT(healthy());
    host_stop();
}

/* ---- 11: PINGs ---- */

/* On both levels, from one who reads nothing: the kit keeps reading, or the two would wait for each other for ever. */
static void ping_floods_never_stop_the_reading(void) {
    host_start("");
    struct raw r;
    struct ht_buf b = {0}, pings = {0};
    raw_session(&r);
    setsockopt(r.fd, SOL_SOCKET, SO_RCVBUF, &(int){4096}, sizeof(int));
    /* Answers, 2 MiB of them, fill what lies between the two. */
    static const char bind[] = "{\"clientBindRef\":1,\"kind\":\"http\",\"mode\":\"pull\"}";
    for (unsigned i = 0; i < WIRE_LIMIT_MAX_FRAMES; i++)
        frame_put(&pings, WIRE_BIND, 0, bind, sizeof bind - 1);
    for (int i = 0; i < 256; i++)
        ws_put(&b, WS_WHOLE, ht_buf_head(&pings), ht_buf_size(&pings));
    CU_ASSERT_FATAL(raw_push(&r, &b));
    ht_buf_consume(&pings, ht_buf_size(&pings));
    for (unsigned i = 0; i < WIRE_LIMIT_MAX_FRAMES; i++)
        frame_put(&pings, WIRE_PING, 0, "8 bytes!", 8);
    for (int round = 0; round < 2; round++) { /* the first one fills what there is to fill */
        size_t before = ht_mem_bytes();
        for (int i = 0; i < 200; i++) {
            for (int k = 0; k < 50; k++)
                ws_put(&b, WS_PING, "ping", 4);
            ws_put(&b, WS_WHOLE, ht_buf_head(&pings), ht_buf_size(&pings));
            CU_ASSERT_FATAL(raw_push(&r, &b));
        }
        CU_ASSERT(round == 0 || ht_mem_bytes() <= before + 8192);
    }
    ht_buf_free(&pings);
    ht_buf_free(&b);
    CU_ASSERT_EQUAL(kit_sessions_live(host.kit), 1);
    UNTIL(kit_metrics(host.kit)->pings_total[HT_METRIC_DIRECTION_RECEIVED] == 2 * 200 * WIRE_LIMIT_MAX_FRAMES);
    CU_ASSERT(healthy());
    raw_close(&r);
    host_stop();
}

/* Frames that must be answered, from one who never reads: a bounded queue, then the end. */
static void answers_nobody_reads_are_bounded(void) {
    host_start("--takeover-grace 0");
    struct raw r;
    struct ht_buf b = {0}, binds = {0};
    static const char bind[] = "{\"clientBindRef\":1,\"kind\":\"http\",\"mode\":\"pull\"}";
    raw_session(&r);
    size_t before = ht_mem_bytes(), most = 0;
    for (unsigned i = 0; i < WIRE_LIMIT_MAX_FRAMES; i++)
        frame_put(&binds, WIRE_BIND, 0, bind, strlen(bind));
    bool alive = true;
    for (int i = 0; i < 20000 && alive; i++) {
        ws_put(&b, WS_WHOLE, ht_buf_head(&binds), ht_buf_size(&binds));
        alive = raw_push(&r, &b) && kit_sessions_live(host.kit) == 1;
        most = ht_max(most, ht_mem_bytes());
    }
    CU_ASSERT_FALSE(alive); /* it was told to calm down */
    printf("# %zu KiB at most\n", (most - before) / 1024);
    CU_ASSERT(most - before < 12u << 20);
    ht_buf_free(&binds);
    ht_buf_free(&b);
    raw_close(&r);
    UNTIL(kit_sessions_live(host.kit) == 0);
    CU_ASSERT(healthy());
    host_stop();
}

/* ---- 13, 14: dead streams and churn ---- */

/*
 * Visitors come and go as fast as they can. The driver is told of each; what it still sends for them gives the credit
 * back and reaches nobody, and after five times more of them than there are slots the next one is served.
 */
static void visitors_that_come_and_go_leave_nothing(void) {
    host_start("--max-streams-per-session 8 --session-initial-window 64K --stream-initial-window 64K");
    static uint8_t data[2048];
    struct peer p;
    peer_start(&p, NULL);
    uint16_t port = peer_bind(&p, WIRE_KIND_HTTP, 0);
    for (int i = 0; i < 40; i++) {
        struct raw r;
        raw_connect(&r, port);
        raw_send(&r, GET("/gone"));
        uint32_t id = peer_expect(&p, WIRE_STREAM_OPEN)->stream_id;
        peer_expect(&p, WIRE_EOF);
        setsockopt(r.fd, SOL_SOCKET, SO_LINGER, &(struct linger){.l_onoff = 1}, sizeof(struct linger));
        raw_close(&r); /* with a RST: a FIN alone only says that no more is asked */
        peer_expect(&p, WIRE_RESET);
        CU_ASSERT_EQUAL(p.any.reset.code, WIRE_CODE_CANCEL);
        struct wire_response_head head = {.status = 200, .final = true};
        peer_add(&p, WIRE_STREAM_RESPONSE_HEAD, id, &head); /* late frames for a dead stream */
        peer_add_raw(&p, WIRE_DATA, id, data, sizeof data); /* 80 KiB in all: more than the session's credit */
        peer_add_raw(&p, WIRE_EOF, id, NULL, 0);
        peer_flush(&p);
    }
    UNTIL(kit_streams(host.kit) == 0 && kit_visitors(host.kit) == 0);
    CU_ASSERT_FALSE(p.closed);
    get_through(&p, port);
    peer_bye(&p);
    host_stop();
}

/* A driver that breaks the rules of one stream after the other is worth a RESET each, and then the end. */
static void violations_of_streams_have_a_budget(void) {
    host_start("--max-streams-per-session 1024 --takeover-grace 0");
    struct peer p;
    peer_start(&p, NULL);
    uint16_t port = peer_bind(&p, WIRE_KIND_HTTP, 0);
    unsigned done = 0;
    /* DATA in front of the response head, for each request: kept alive by pipelining many on one connection. */
    struct raw r;
    for (; done < 50 && !p.closed; done++) {
        raw_connect(&r, port);
        raw_send(&r, GET("/x"));
        uint32_t id = peer_expect(&p, WIRE_STREAM_OPEN)->stream_id;
        peer_expect(&p, WIRE_EOF);
        peer_add_raw(&p, WIRE_DATA, id, "x", 1);
        peer_flush(&p);
        peer_expect(&p, WIRE_RESET);
        CU_ASSERT_EQUAL(p.any.reset.code, WIRE_CODE_PROTOCOL_ERROR);
        UNTIL(raw_ended(&r));
        CU_ASSERT_EQUAL(strncmp(raw_text(&r), "HTTP/1.1 502 ", 13), 0);
        raw_close(&r);
    }
    CU_ASSERT_EQUAL(done, 50); /* far below the budget of 10,000 */
    peer_bye(&p);
    host_stop();
}

/* ---- 15: counts and sizes ---- */

struct message_case {
    const char *what;
    unsigned close; /* 0: none */
    unsigned frames;
    uint8_t type;
    uint32_t id, len;
    int cut; /* bytes missing at the end, or too many */
};

static void messages_have_exact_limits(void) {
    static const struct message_case rows[] = {
        {"64 frames", 0, WIRE_LIMIT_MAX_FRAMES, WIRE_PING, 0, 8, 0},
        {"65 frames", 1002, WIRE_LIMIT_MAX_FRAMES + 1, WIRE_PING, 0, 8, 0},
        {"64 frames of a type that is skipped", 0, WIRE_LIMIT_MAX_FRAMES, 0x7F, 0, 0, 0},
        {"65 of them", 1002, WIRE_LIMIT_MAX_FRAMES + 1, 0x7F, 0, 0, 0},
        {"no frame", 1002, 0, 0, 0, 0, 0},
        {"half a header", 1002, 1, WIRE_PING, 0, 0, 4},
        {"a payload that is not there", 1002, 1, WIRE_PING, 0, 8, 1},
        {"one byte behind the last frame", 1002, 1, WIRE_PING, 0, 8, -1},
        {"the largest payload", 0, 1, 0x7F, 0, WIRE_LIMIT_MAX_PAYLOAD, 0},
        {"one byte more", 1002, 1, 0x7F, 0, WIRE_LIMIT_MAX_PAYLOAD + 1, 0},
        {"an empty PING", 1002, 1, WIRE_PING, 0, 0, 0},
        {"a long PING", 1002, 1, WIRE_PING, 0, 9, 0},
        {"a PING on a stream", 1002, 1, WIRE_PING, 2, 8, 0},
    };
    static uint8_t zeros[WIRE_LIMIT_MAX_PAYLOAD + 2];
    host_start("--takeover-grace 0");
    for (size_t i = 0; i < HT_ARRAY_LEN(rows); i++) {
        const struct message_case *c = &rows[i];
        struct raw r;
        struct ht_buf m = {0}, b = {0};
        raw_session(&r);
        for (unsigned k = 0; k < c->frames; k++)
            frame_put(&m, c->type, c->id, zeros, c->len);
        if (c->cut < 0 && ht_buf_append(&m, zeros, (size_t)-c->cut) < 0)
            abort();
        ws_put(&b, WS_WHOLE, ht_buf_head(&m), ht_buf_size(&m) - (size_t)(c->cut > 0 ? c->cut : 0));
        if (c->close == 0) /* a goodbye of ours is answered: nothing was wrong with what came before it */
            ws_put(&b, WS_CLOSE, "\x03\xe8", 2);
        (void)raw_push(&r, &b);
        unsigned code = ws_close_code(&r);
        if (code != (c->close ? c->close : 1000))
            printf("# %s: close code %u\n", c->what, code);
        CU_ASSERT_EQUAL(code, c->close ? c->close : 1000);
        ht_buf_free(&m);
        ht_buf_free(&b);
        raw_close(&r);
        UNTIL(kit_sessions_live(host.kit) == 0);
    }
    host_stop();
}

/* Each of the 256 types in the state that comes after HELLO: known, skipped, or the end; never silence. */
static void every_unknown_type_has_an_answer(void) {
    host_start("--takeover-grace 0");
    for (unsigned type = 0; type < 256; type++) {
        if (wire_frame_rule((uint8_t)type))
            continue;
        bool skipped = type >= 0x40 && type <= 0x7F;
        struct raw r;
        struct ht_buf b = {0};
        raw_session(&r);
        message_put(&b, (uint8_t)type, type % 3, "anything", 8);
        if (skipped) /* a goodbye of ours is answered, so what came before it was fine */
            ws_put(&b, WS_CLOSE, "\x03\xe8", 2);
        (void)raw_push(&r, &b);
        CU_ASSERT_EQUAL(ws_close_code(&r), skipped ? 1000 : 1002);
        ht_buf_free(&b);
        raw_close(&r);
        UNTIL(kit_sessions_live(host.kit) == 0);
    }
    host_stop();
}

/* ---- 17: JSON, at the door ---- */

static void no_bad_json_makes_a_session(void) {
    host_start("--max-pre-auth-connections 4");
    unsigned wrong = 0;
    for (size_t i = 0; i < HT_ARRAY_LEN(json_suite); i++) {
        const struct json_suite_text *t = &json_suite[i];
        if (t->kind != 'n')
            continue;
        struct raw r;
        struct ht_buf text = {0}, b = {0};
        raw_upgrade(&r, WIRE_SUBPROTOCOL_V1);
        if (ht_buf_append_str(&text, "{\"version\":\"hoody-tunnel.v1\",\"x\":") < 0 ||
            (t->n && ht_buf_append(&text, t->text, t->n) < 0) || ht_buf_append_str(&text, "}") < 0)
            abort();
        message_put(&b, WIRE_HELLO, 0, ht_buf_head(&text), ht_buf_size(&text));
        (void)raw_push(&r, &b);
        unsigned code = ws_close_code(&r);
        if (code != 1002 || kit_sessions_live(host.kit) != 0)
            printf("# n_%s: close code %u\n", t->name, code);
        wrong += code != 1002 || kit_sessions_live(host.kit) != 0;
        ht_buf_free(&text);
        ht_buf_free(&b);
        raw_close(&r);
        UNTIL(kit_websockets(host.kit) == 0);
    }
    CU_ASSERT_EQUAL(wrong, 0);
    CU_ASSERT(healthy());
    host_stop();
}

/* The admin API takes no body; whatever one holds, it is not read and never becomes the next request. */
static void bodies_of_the_admin_api_are_not_read(void) {
    host_start("");
    for (size_t i = 0; i < HT_ARRAY_LEN(json_suite); i++) {
        struct raw r;
        char head[256];
        raw_connect(&r, host.port);
        snprintf(head, sizeof head,
                 "DELETE /api/v1/tunnel/sessions/S-1 HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
                 "Content-Length: %zu\r\n\r\n",
                 json_suite[i].n + 51);
        raw_send(&r, head);
        (void)!send(r.fd, json_suite[i].text, json_suite[i].n, MSG_NOSIGNAL);
        (void)!send(r.fd, "GET /api/v1/tunnel/health HTTP/1.1\r\nHost: localhost", 51, MSG_NOSIGNAL);
        (void)!send(r.fd, "\r\n\r\nGET /api/v1/tunnel/health HTTP/1.1\r\nHost: localhost\r\n\r\n", 59, MSG_NOSIGNAL);
        UNTIL(raw_ended(&r));
        CU_ASSERT_EQUAL(strncmp(raw_text(&r), "HTTP/1.1 404 ", 13), 0);
        CU_ASSERT_PTR_NULL(strstr(raw_text(&r), "HTTP/1.1 200 "));
        raw_close(&r);
    }
    host_stop();
}

/* ---- 18, 19: what can be guessed ---- */

static int by_text(const void *a, const void *b) { return strcmp(a, b); }

/* 122 random bits in each id, 128 in each nonce: none comes twice, and each bit is set about half of the time. */
static void ids_are_unguessable(void) {
    enum { N = 20000 };
    static char ids[N][37];
    unsigned ones[128] = {0};
    for (int i = 0; i < N; i++) {
        ht_uuid4(ids[i]);
        for (int d = 0, bit = 0; d < 36; d++) {
            if (ids[i][d] == '-')
                continue;
            unsigned v = (unsigned)(ids[i][d] <= '9' ? ids[i][d] - '0' : ids[i][d] - 'a' + 10);
            for (int k = 0; k < 4; k++, bit++)
                ones[bit] += v >> (3 - k) & 1;
        }
    }
    unsigned free_bits = 0;
    for (int bit = 0; bit < 128; bit++)
        free_bits += ones[bit] > N * 47 / 100 && ones[bit] < N * 53 / 100;
    CU_ASSERT_EQUAL(free_bits, 122);
    qsort(ids, N, sizeof ids[0], by_text);
    for (int i = 1; i < N; i++)
        CU_ASSERT_FATAL(strcmp(ids[i - 1], ids[i]) != 0);
}

/* ---- 24: browsers ---- */

static int ask_with(const char *fields) {
    char request[1024];
    struct raw r;
    snprintf(request, sizeof request, "DELETE /api/v1/tunnel/sessions/S-1 HTTP/1.1\r\n%sConnection: close\r\n\r\n",
             fields);
    int status = raw_ask(&r, host.port, request);
    raw_close(&r);
    return status;
}

static void names_and_origins_of_others_are_refused(void) {
    static const char *const strangers[] = {
        "Host: evil.example\r\n",
        "Host: evil.example:50\r\n",
        "Host: localhost.evil.example\r\n",
        "Host: 127.0.0.1.evil.example\r\n",
        "Host: notlocalhost\r\n",
        "Host: .localhost.\r\n",
        "Host: 10.0.0.1\r\n",
        "Host: 0.0.0.0\r\n",
        "Host: [::]\r\n",
        "Host: [::ffff:10.0.0.1]\r\n",
        "Host: 2130706433\r\n", /* 127.0.0.1 for a lenient parser */
        "Host: 0x7f.1\r\n",
        "Host: 127.1\r\n",
        "Host: localhost\r\nOrigin: http://evil.example\r\n",
        "Host: localhost\r\nOrigin: https://localhost.evil.example\r\n",
        "Host: localhost\r\nOrigin: http://localhost:81\r\n",
        "Host: localhost:50\r\nOrigin: http://localhost\r\n",
        "Host: localhost\r\nOrigin: null\r\n",
        "Host: localhost\r\nOrigin: file://\r\n",
        "Host: localhost\r\nOrigin: chrome-extension://abcdef\r\n",
    };
    static const char *const friends[] = {
        "Host: localhost\r\n",      "Host: LOCALHOST:50\r\n",
        "Host: 127.0.0.1:8050\r\n", "Host: 127.255.0.1\r\n",
        "Host: [::1]\r\n",          "Host: [::1]:50\r\n",
        "Host: a.localhost:1\r\n",  "Host: localhost:50\r\nOrigin: http://localhost:50\r\n",
    };
    host_start("");
    for (size_t i = 0; i < HT_ARRAY_LEN(strangers); i++) {
        int status = ask_with(strangers[i]);
        if (status != 403 && status != 400)
            printf("# %s: %d\n", strangers[i], status);
        CU_ASSERT(status == 403 || status == 400);
    }
    for (size_t i = 0; i < HT_ARRAY_LEN(friends); i++)
        CU_ASSERT_EQUAL(ask_with(friends[i]), 404); /* allowed to ask; there is no such session */
    host_stop();
}

/* ---- 26: logs, metrics, tokens ---- */

#define NASTY "x\r\n2026-01-01T00:00:00.000Z error kit: forged\x1b[31m\x7f\t\"\\"
#define NASTY_JSON "x\\r\\n2026-01-01T00:00:00.000Z error kit: forged\\u001b[31m\\u007f\\t\\\"\\\\"

/* Everything that others can make us say, in a log of the finest level. */
static void make_it_talk(void) {
    struct raw r;
    struct ht_buf b = {0};
    static const char hello[] =
        "{\"version\":\"hoody-tunnel.v1\",\"auth\":{\"kind\":\"bearer\",\"token\":\"sesame-42\"}}";
    unsigned live = kit_sessions_live(host.kit);
    raw_upgrade(&r, WIRE_SUBPROTOCOL_V1);
    message_put_text(&b, WIRE_HELLO, 0, hello);
    CU_ASSERT(raw_push(&r, &b));
    UNTIL(kit_sessions_live(host.kit) == live + 1);
    message_put_text(&b, WIRE_BIND, 0, "{\"clientBindRef\":1,\"kind\":\"" NASTY_JSON "\",\"mode\":\"expose\"}");
    message_put_text(&b, WIRE_BIND, 0,
                     "{\"clientBindRef\":2,\"kind\":\"http\",\"mode\":\"expose\",\"label\":\"" NASTY_JSON "\"}");
    message_put_text(&b, WIRE_BIND, 0,
                     "{\"clientBindRef\":3,\"kind\":\"tcp\",\"mode\":\"pull\",\"host\":\"" NASTY_JSON "\"}");
    message_put_text(&b, WIRE_GOAWAY, 0, "{\"code\":0,\"message\":\"" NASTY_JSON "\"}");
    (void)raw_push(&r, &b);
    UNTIL(kit_sessions_live(host.kit) == live);
    raw_close(&r);
    raw_upgrade(&r, WIRE_SUBPROTOCOL_V1);
    ws_put(&b, WS_CLOSE, "\x0f\xa0" NASTY, sizeof NASTY + 1);
    (void)raw_push(&r, &b);
    CU_ASSERT(ws_close_code(&r) != 0);
    raw_close(&r);
    raw_upgrade(&r, WIRE_SUBPROTOCOL_V1);
    message_put_text(&b, WIRE_HELLO, 0,
                     "{\"version\":\"hoody-tunnel.v1\",\"auth\":{\"kind\":\"bearer\",\"token\":\"guess-4711" NASTY_JSON
                     "\"}}");
    (void)raw_push(&r, &b);
    CU_ASSERT_EQUAL(ws_close_code(&r), 1008);
    raw_close(&r);
    ht_buf_free(&b);
    raw_ask(&r, host.port,
            "GET /api/v1/tunnel/sessions HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer guess-4712\r\n"
            "User-Agent: \x1b[31m\xff\r\nConnection: close\r\n\r\n");
    raw_close(&r);
    raw_ask(&r, host.port, "GET /\x1b[31m HTTP/1.1\r\nHost: \x01\r\n\r\n");
    raw_close(&r);
    UNTIL(kit_websockets(host.kit) == 0 && kit_http_clients(host.kit) == 0);
}

static bool line_is_ours(const char *line, size_t n, bool json) {
    static const char *const levels[] = {" error ", " warn  ", " info  ", " debug "};
    for (size_t i = 0; i < n; i++)
        if ((unsigned char)line[i] < 0x20 || line[i] == 0x7f)
            return false;
    if (json)
        return n > 10 && memcmp(line, "{\"time\":\"2", 10) == 0 && line[n - 1] == '}';
    bool good = n > 32 && line[23] == 'Z' && strncmp(line, "2026-01-01T00:00:00", 19) != 0;
    bool level = false;
    for (size_t i = 0; good && i < HT_ARRAY_LEN(levels); i++)
        level = level || strncmp(line + 24, levels[i], 7) == 0;
    return level;
}

static void nobody_forges_the_log_and_no_secret_is_in_it(void) {
    static char text[1 << 20];
    for (int json = 0; json < 2; json++) {
        char name[] = P_tmpdir "/hardening-XXXXXX";
        int fd = mkstemp(name);
        CU_ASSERT_FATAL(fd >= 0);
        unlink(name);
        setenv("HOODY_TUNNEL_TOKEN", "sesame-42", 1);
        host_start("");
        unsetenv("HOODY_TUNNEL_TOKEN");
        ht_log_setup(fd, HT_LOG_TRACE, json ? HT_LOG_JSON : HT_LOG_TEXT);
        make_it_talk();
        host_stop();
        ht_log_setup(2, HT_LOG_ERROR, HT_LOG_TEXT);
        ssize_t n = pread(fd, text, sizeof text - 1, 0);
        close(fd);
        CU_ASSERT_FATAL(n > 500);
        text[n] = '\0';
        unsigned bad = 0, lines = 0;
        for (char *line = text, *end; (end = strchr(line, '\n')); line = end + 1, lines++) {
            if (!line_is_ours(line, (size_t)(end - line), json))
                printf("# forged: %.*s\n", (int)(end - line), line);
            bad += !line_is_ours(line, (size_t)(end - line), json);
        }
        CU_ASSERT_EQUAL(bad, 0);
        CU_ASSERT(lines > 5);
        CU_ASSERT_PTR_NOT_NULL(strstr(text, "forged")); /* it is there, as a part of other lines */
        CU_ASSERT_PTR_NULL(strstr(text, "sesame-42"));
        CU_ASSERT_PTR_NULL(strstr(text, "guess-47"));
    }
}

/* The names and labels of all samples, without their values, sorted. */
static size_t series(char *out, size_t cap) {
    static char lines[2000][256];
    struct raw r;
    size_t n = 0, at = 0;
    raw_ask(&r, host.port,
            "GET /api/v1/tunnel/metrics HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer sesame-42\r\n"
            "Connection: close\r\n\r\n");
    for (const char *p = raw_body(&r); *p && n < HT_ARRAY_LEN(lines); n++) {
        size_t len = strcspn(p, "\n");
        const char *blank = memrchr(p, ' ', len);
        snprintf(lines[n], sizeof lines[n], "%.*s", (int)(*p != '#' && blank ? blank - p : (ssize_t)len), p);
        p += len + (p[len] == '\n');
    }
    raw_close(&r);
    qsort(lines, n, sizeof lines[0], by_text);
    for (size_t i = 0; i < n && at < cap; i++)
        at += (size_t)snprintf(out + at, cap - at, "%s\n", lines[i]);
    return n;
}

static void labels_come_from_closed_sets(void) {
    static char before[1 << 18], after[1 << 18];
    setenv("HOODY_TUNNEL_TOKEN", "sesame-42", 1);
    host_start("");
    unsetenv("HOODY_TUNNEL_TOKEN");
    ht_log_setup(2, HT_LOG_ERROR - 1, HT_LOG_TEXT);
    CU_ASSERT(series(before, sizeof before) > 50);
    make_it_talk();
    series(after, sizeof after);
    CU_ASSERT_STRING_EQUAL(before, after);
    host_stop();
}

/* The processor's time, whatever else the machine does meanwhile. */
static uint64_t cpu_us(void) {
    struct timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (uint64_t)t.tv_sec * 1000000 + (uint64_t)t.tv_nsec / 1000;
}

/* Time to compare a megabyte whose difference is at its beginning or at its end: the same, within noise. */
static void comparing_takes_the_same_time(void) {
    enum { N = 1 << 20, ROUNDS = 15 };
    static char a[N], first[N], last[N];
    uint64_t best[2] = {UINT64_MAX, UINT64_MAX};
    memset(a, 'a', N);
    memcpy(first, a, N);
    memcpy(last, a, N);
    first[0] = last[N - 1] = 'b';
    for (int i = 0; i < ROUNDS; i++)
        for (int k = 0; k < 2; k++) {
            uint64_t start = cpu_us();
            bool same = ht_const_time_eq(a, N, k ? last : first, N);
            uint64_t took = cpu_us() - start;
            CU_ASSERT_FALSE(same);
            best[k] = took < best[k] ? took : best[k];
        }
    printf("# %llu and %llu us\n", (unsigned long long)best[0], (unsigned long long)best[1]);
    CU_ASSERT(best[0] * 2 > best[1]); /* memcmp() needs no time at all for the first one */
    CU_ASSERT(best[0] > 10);
}

int main(void) {
    static const struct tap_test tests[] = {
        {"10: fragments are counted", fragments_are_counted},
        {"10: a storm of strangers stays small", a_storm_of_strangers_stays_small},
        {"11: PING floods never stop the reading", ping_floods_never_stop_the_reading},
        {"11: answers nobody reads are bounded", answers_nobody_reads_are_bounded},
        {"13, 14: visitors that come and go leave nothing", visitors_that_come_and_go_leave_nothing},
        {"14: violations of streams have a budget", violations_of_streams_have_a_budget},
        {"15: messages have exact limits", messages_have_exact_limits},
        {"15: every unknown type has an answer", every_unknown_type_has_an_answer},
        {"17: no bad JSON makes a session", no_bad_json_makes_a_session},
        {"17: bodies of the admin API are not read", bodies_of_the_admin_api_are_not_read},
        {"18: ids are unguessable", ids_are_unguessable},
        {"24: names and origins of others are refused", names_and_origins_of_others_are_refused},
        {"26: nobody forges the log and no secret is in it", nobody_forges_the_log_and_no_secret_is_in_it},
        {"26: labels come from closed sets", labels_come_from_closed_sets},
        {"26: comparing takes the same time", comparing_takes_the_same_time},
        {NULL, NULL},
    };
    return tap_main("hardening", tests);
}
