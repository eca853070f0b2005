/*
 * What can happen at a kit, each as a function that says whether all of it worked. Something may have failed inside the
 * kit meanwhile (an allocation, a system call): then they say no, but never is anybody told anything wrong.
 */
#ifndef HT_TESTS_KIT_SCENARIOS_H
#define HT_TESTS_KIT_SCENARIOS_H

#include "noheap.h"

#include "driver/driver.h"
#include "driver/hoody_tunnel.h"

#define CLOSE_HEAD "GET / HTTP/1.1\r\nHost: app\r\nConnection: close\r\n\r\n"
#define LIES(who, body) CU_ASSERT_FALSE(answer_lies(who, body))

/* A driver with one port, where the next stream of a new session is 2. */
static uint16_t serve(int who, const char *kind) { return come_in(who, V1_HELLO) ? bind_port(who, kind, 0, false) : 0; }

/* ---- visitors ---- */

static bool http_get(void) {
    uint16_t port = serve(DRIVER, "http");
    if (!port)
        return false;
    dial(VISITOR, port);
    bool good = say_text(VISITOR, CLOSE_HEAD) && say_frame(DRIVER, WIRE_STREAM_RESPONSE_HEAD, 2, HEAD_OF("5")) &&
                say_bytes(DRIVER, WIRE_DATA, 2, "hello", 5) && say_bytes(DRIVER, WIRE_EOF, 2, NULL, 0);
    LIES(VISITOR, "hello");
    return good && answered(VISITOR, "hello");
}

static bool http_upload(void) {
    static char body[100000];
    uint16_t port = serve(DRIVER, "http");
    if (!port)
        return false;
    memset(body, 'u', sizeof body);
    dial(VISITOR, port);
    bool good =
        say_text(VISITOR, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 100000\r\nConnection: close\r\n\r\n") &&
        say(VISITOR, body, sizeof body);
    take(DRIVER);
    good = good && heard_frame(DRIVER, WIRE_EOF, 2) && say_frame(DRIVER, WIRE_STREAM_RESPONSE_HEAD, 2, HEAD_OF("2")) &&
           say_bytes(DRIVER, WIRE_DATA, 2, "ok", 2) && say_bytes(DRIVER, WIRE_EOF, 2, NULL, 0);
    LIES(VISITOR, "ok");
    return good && answered(VISITOR, "ok");
}

static bool http_chunked(void) {
    uint16_t port = serve(DRIVER, "http");
    if (!port)
        return false;
    dial(VISITOR, port);
    bool good = say_text(VISITOR,
                         "PUT / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n5\r\n") &&
                say_text(VISITOR, "hello\r\n0\r\n\r\n") && heard(DRIVER, "ello") && heard_frame(DRIVER, WIRE_EOF, 2) &&
                say_frame(DRIVER, WIRE_STREAM_RESPONSE_HEAD, 2,
                          "{\"status\":200,\"headers\":[[\"x\",\"y\"]],\"final\":true}") &&
                say_bytes(DRIVER, WIRE_DATA, 2, "chunk", 5) && say_bytes(DRIVER, WIRE_EOF, 2, NULL, 0);
    bool whole = heard(VISITOR, "\r\n0\r\n\r\n") != NULL;
    CU_ASSERT(!whole || heard(VISITOR, "5\r\nchunk\r\n"));
    return good && whole;
}

static bool http_interim_and_head(void) {
    uint16_t port = serve(DRIVER, "http");
    if (!port)
        return false;
    dial(VISITOR, port);
    return say_text(VISITOR, "HEAD / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nConnection: close\r\n\r\n") &&
           say_frame(DRIVER, WIRE_STREAM_RESPONSE_HEAD, 2,
                     "{\"status\":103,\"headers\":[[\"link\",\"x\"]],\"final\":false}") &&
           say_frame(DRIVER, WIRE_STREAM_RESPONSE_HEAD, 2, HEAD_OF("7")) && say_bytes(DRIVER, WIRE_EOF, 2, NULL, 0) &&
           heard(VISITOR, "HTTP/1.1 103 ") && heard(VISITOR, "HTTP/1.1 200 ");
}

static bool http_pipelined(void) {
    uint16_t port = serve(DRIVER, "http");
    if (!port)
        return false;
    dial(VISITOR, port);
    bool good =
        say_text(VISITOR, "GET /1 HTTP/1.1\r\nHost: a\r\n\r\nGET /2 HTTP/1.1\r\nHost: a\r\n\r\nGET /3 HTTP/1.1\r\n");
    for (uint32_t id = 2; good && id <= 4; id += 2)
        good = say_frame(DRIVER, WIRE_STREAM_RESPONSE_HEAD, id, HEAD_OF("1")) &&
               say_bytes(DRIVER, WIRE_DATA, id, id == 2 ? "A" : "B", 1) && say_bytes(DRIVER, WIRE_EOF, id, NULL, 0);
    const char *a = heard(VISITOR, "\r\n\r\nA"), *b = heard(VISITOR, "\r\n\r\nB");
    CU_ASSERT(!b || (a && a < b));
    return good && a && b;
}

static bool http_slow_reader(void) {
    static char piece[60000];
    uint16_t port = serve(DRIVER, "http");
    if (!port)
        return false;
    memset(piece, 's', sizeof piece);
    dial_as(VISITOR, port, true);
    bool good = say_text(VISITOR, CLOSE_HEAD) && say_frame(DRIVER, WIRE_STREAM_RESPONSE_HEAD, 2, HEAD_OF("240000"));
    for (int i = 0; good && i < 4; i++)
        good = say_bytes(DRIVER, WIRE_DATA, 2, piece, sizeof piece);
    good = good && say_bytes(DRIVER, WIRE_EOF, 2, NULL, 0);
    for (int i = 0; i < 300 && !c[VISITOR].eof; i++) {
        take(VISITOR);
        few_turns();
    }
    bool is_answer = strncmp(c[VISITOR].text, "HTTP/1.1 200 ", 13) == 0;
    const char *body = is_answer ? heard(VISITOR, "\r\n\r\n") : NULL;
    size_t got = body ? c[VISITOR].n - (size_t)(body - c[VISITOR].text) : 0;
    for (size_t i = 0; i < got; i++)
        if (body[i] != 's')
            CU_FAIL_FATAL("wrong bytes");
    return good && got == 240000;
}

static bool http_visitor_leaves(void) {
    uint16_t port = serve(DRIVER, "http");
    if (!port)
        return false;
    dial(VISITOR, port);
    bool good = say_text(VISITOR, CLOSE_HEAD) && say_frame(DRIVER, WIRE_STREAM_RESPONSE_HEAD, 2, HEAD_OF("9")) &&
                say_bytes(DRIVER, WIRE_DATA, 2, "123", 3);
    setsockopt(c[VISITOR].fd, SOL_SOCKET, SO_LINGER, &(struct linger){.l_onoff = 1}, sizeof(struct linger));
    hang_up(VISITOR);
    good = good && heard_frame(DRIVER, WIRE_RESET, 2);
    dial(LATE, port);
    return good && say_text(LATE, CLOSE_HEAD) && say_bytes(DRIVER, WIRE_RESET, 4, "\0\6no", 4) &&
           heard(LATE, "HTTP/1.1 502 ");
}

static bool http_refused(void) {
    static const char *const bad[] = {"GET / HTTP/1.1\r\n\r\n", "CONNECT a:1 HTTP/1.1\r\nHost: a\r\n\r\n",
                                      "rubbish\r\n\r\n"};
    uint16_t port = serve(DRIVER, "http");
    bool good = port != 0;
    for (size_t i = 0; good && i < HT_ARRAY_LEN(bad); i++) {
        dial(VISITOR, port);
        say_text(VISITOR, bad[i]);
        good = heard(VISITOR, "HTTP/1.1 4");
        hang_up(VISITOR);
    }
    return good;
}

static bool upgrade_both_ways(void) {
    uint16_t port = serve(DRIVER, "http");
    if (!port)
        return false;
    dial(VISITOR, port);
    bool good =
        say_text(VISITOR, "GET /ws HTTP/1.1\r\nHost: a\r\nUpgrade: x\r\nConnection: Upgrade\r\n\r\n") &&
        say_frame(DRIVER, WIRE_STREAM_RESPONSE_HEAD, 2,
                  "{\"status\":101,\"headers\":[[\"upgrade\",\"x\"],[\"connection\",\"upgrade\"]],\"final\":true}") &&
        heard(VISITOR, "HTTP/1.1 101 ") && say_text(VISITOR, "ping") && heard(DRIVER, "ing") &&
        say_bytes(DRIVER, WIRE_DATA, 2, "pong", 4) && heard(VISITOR, "pong") && say_bytes(DRIVER, WIRE_EOF, 2, NULL, 0);
    take(VISITOR);
    return good && c[VISITOR].eof;
}

static bool pull_both_ways(void) {
    uint16_t port = serve(DRIVER, "tcp");
    if (!port)
        return false;
    dial(VISITOR, port);
    bool good = say_text(VISITOR, "query") && heard(DRIVER, "uery") &&
                say_bytes(DRIVER, WIRE_WINDOW, 2, "\0\0\0\5", 4) && say_bytes(DRIVER, WIRE_DATA, 2, "rows", 4) &&
                heard(VISITOR, "rows");
    shutdown(c[VISITOR].fd, SHUT_WR);
    few_turns();
    good = good && say_bytes(DRIVER, WIRE_EOF, 2, NULL, 0);
    take(VISITOR);
    return good && c[VISITOR].eof;
}

static bool pull_bulk(void) {
    static char piece[65000];
    uint16_t port = serve(DRIVER, "tcp");
    if (!port)
        return false;
    dial(VISITOR, port);
    bool good = say_text(VISITOR, "x") && say_bytes(DRIVER, WIRE_WINDOW, 2, "\0\0\0\1", 4);
    for (int i = 0; good && i < 3; i++)
        good = say(VISITOR, piece, sizeof piece) && say_bytes(DRIVER, WIRE_DATA, 2, piece, sizeof piece);
    few_turns();
    take(VISITOR);
    return good && c[VISITOR].n == 3 * sizeof piece && say_bytes(DRIVER, WIRE_RESET, 2, "\0\7", 2);
}

/* ---- sessions ---- */

static bool resume_as(int who, const char *id) {
    char hello[160];
    snprintf(hello, sizeof hello, "{\"version\":\"hoody-tunnel.v1\",\"resume\":{\"sessionId\":\"%s\"}}", id);
    return come_in(who, hello) && heard(who, "\"resumed\":true");
}

static bool park_and_resume(void) {
    char id[64] = "";
    bool good = come_in(DRIVER, V1_HELLO) && session_id(DRIVER, id);
    uint16_t port = good ? bind_port(DRIVER, "http", 0, false) : 0;
    good = good && port && bind_port(DRIVER, "tcp", 0, false);
    hang_up(DRIVER);
    if (!good)
        return false;
    dial(VISITOR, port);
    say_text(VISITOR, CLOSE_HEAD);
    good = heard(VISITOR, "HTTP/1.1 503 ");
    hang_up(VISITOR);
    return resume_as(DRIVER, id) && heard(DRIVER, "\"containerPort\"") && good;
}

static bool supersede(void) {
    char id[64] = "";
    return come_in(DRIVER, V1_HELLO) && session_id(DRIVER, id) && bind_port(DRIVER, "http", 0, false) &&
           resume_as(OTHER, id) && heard_frame(DRIVER, WIRE_GOAWAY, 0);
}

static bool takeover_live(void) {
    uint16_t port = serve(DRIVER, "http");
    if (!port || !come_in(OTHER, V1_HELLO))
        return false;
    dial(VISITOR, port);
    bool good = say_text(VISITOR, "GET / HTTP/1.1\r\nHost: a\r\n\r\n") && bind_port(OTHER, "http", port, true) == port;
    return good && heard_frame(DRIVER, WIRE_BIND_REVOKED, 0);
}

static bool takeover_parked(void) {
    uint16_t port = serve(DRIVER, "http");
    hang_up(DRIVER);
    return port && come_in(OTHER, V1_HELLO) && bind_port(OTHER, "http", port, true) == port;
}

#define V2_HELLO                                                                                                       \
    "{\"version\":\"hoody-tunnel.v2\",\"capabilities\":[\"multi-ws\",\"shard-map\",\"reissue-tickets\"],"              \
    "\"maxConnections\":3}"

static bool join(int who, const char *id, const char *nonce, unsigned index) {
    char text[200];
    snprintf(text, sizeof text, "{\"sessionId\":\"%s\",\"index\":%u,\"nonce\":\"%.32s\"}", id, index, nonce);
    return upgrade_as(who, WIRE_SUBPROTOCOL_V2, NULL) && say_frame(who, WIRE_JOIN, 0, text) &&
           heard_frame(who, WIRE_JOIN_OK, 0);
}

static bool v2_joins(void) {
    char id[64] = "";
    const char *nonce = come_in(DRIVER, V2_HELLO) && session_id(DRIVER, id) ? heard(DRIVER, "\"nonce\":\"") : NULL;
    if (!nonce)
        return false;
    bool good = join(SECOND, id, nonce, 1) && heard_frame(DRIVER, WIRE_SHARD_MAP, 0);
    uint16_t port = good ? bind_port(DRIVER, "http", 0, false) : 0;
    if (!port)
        return false;
    dial(VISITOR, port);
    dial(LATE, port);
    good = say_text(VISITOR, CLOSE_HEAD) && say_text(LATE, CLOSE_HEAD);
    int on = heard_frame(SECOND, WIRE_STREAM_OPEN, 2) ? SECOND : DRIVER;
    good = good && say_frame(on, WIRE_STREAM_RESPONSE_HEAD, 2, HEAD_OF("1")) && say_bytes(on, WIRE_DATA, 2, "1", 1) &&
           say_bytes(on, WIRE_EOF, 2, NULL, 0);
    hang_up(SECOND); /* its stream, whichever that is, is reset; the session goes on */
    LIES(VISITOR, "1");
    return good && say_bytes(DRIVER, WIRE_PING, 0, "12345678", 8) && heard_frame(DRIVER, WIRE_PONG, 0);
}

static bool v2_reissue(void) {
    char id[64] = "", nonce[40];
    bool good = come_in(DRIVER, V2_HELLO) && session_id(DRIVER, id);
    c[DRIVER].n = 0;
    const char *p = good && say_frame(DRIVER, WIRE_REISSUE_JOIN_TICKETS, 0, "{\"indexes\":[2]}")
                        ? heard(DRIVER, "\"nonce\":\"")
                        : NULL;
    if (!p)
        return false;
    snprintf(nonce, sizeof nonce, "%.32s", p);
    return join(SECOND, id, nonce, 2);
}

static bool binds_and_errors(void) {
    uint16_t port = serve(DRIVER, "http");
    if (!port)
        return false;
    bool good = true;
    static const char *const bad[] = {
        "{\"clientBindRef\":2,\"kind\":\"http\",\"mode\":\"pull\"}",
        "{\"clientBindRef\":3,\"kind\":\"http\",\"mode\":\"expose\",\"containerPort\":79}",
        "{\"clientBindRef\":4,\"kind\":\"http\",\"mode\":\"expose\",\"containerPort\":\"x\"}",
        "{\"clientBindRef\":5,\"kind\":\"tcp\",\"mode\":\"pull\",\"host\":\"10.0.0.1\"}",
    };
    for (size_t i = 0; good && i < HT_ARRAY_LEN(bad); i++) {
        c[DRIVER].n = 0;
        good = say_frame(DRIVER, WIRE_BIND, 0, bad[i]) && heard_frame(DRIVER, WIRE_BIND_ERR, 0);
    }
    return good && bind_port(DRIVER, "tcp", 0, false) && say_frame(DRIVER, WIRE_UNBIND, 0, "{\"bindId\":1}") &&
           heard_frame(DRIVER, WIRE_UNBIND_OK, 0) && say_frame(DRIVER, WIRE_UNBIND, 0, "{\"bindId\":99}") &&
           heard_frame(DRIVER, WIRE_UNBIND_ERR, 0);
}

static bool goodbyes(void) {
    if (!serve(DRIVER, "http") || !say_frame(DRIVER, WIRE_GOAWAY, 0, "{\"code\":0,\"message\":\"bye\"}"))
        return heard(DRIVER, "\x88") != NULL || c[DRIVER].eof; /* the close frame may come with it */
    return true;
}

static bool violations(void) {
    bool good = serve(DRIVER, "http") != 0;
    say_frame(DRIVER, WIRE_HELLO, 0, V1_HELLO); /* a second one */
    return good && heard_frame(DRIVER, WIRE_GOAWAY, 0);
}

static bool strangers(void) {
    bool good = upgrade_as(DRIVER, WIRE_SUBPROTOCOL_V1, NULL);
    say_frame(DRIVER, WIRE_HELLO, 0, "{\"version\":7}");
    good = good && heard(DRIVER, "\x88");
    dial(OTHER, host.port);
    say_text(OTHER, "GET " WIRE_CONNECT_PATH " HTTP/1.1\r\nHost: localhost\r\n\r\n");
    return good && heard(OTHER, " 426 ");
}

/* ---- admin ---- */

static bool admin_get(const char *path, const char *word) {
    char request[160];
    snprintf(request, sizeof request, "GET /api/v1/tunnel/%s HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n",
             path);
    dial(ADMIN, host.port);
    say_text(ADMIN, request);
    bool good = heard(ADMIN, word) != NULL;
    hang_up(ADMIN);
    return good;
}

static bool admin_reads(void) {
    bool good = serve(DRIVER, "http") != 0;
    return admin_get("tunnels", "orphanedSessions") && admin_get("sessions", "maxStreams") &&
           admin_get("bindings", "\"port\"") && admin_get("health", "\"status\"") &&
           admin_get("metrics", "hoody_tunnel_sessions_active") && admin_get("openapi.json", "paths") &&
           admin_get("status", "\"traffic\"") && admin_get("me", "\"admin\"") && admin_get("nothing", "error") && good;
}

static bool admin_kills(void) {
    char id[64] = "", request[200];
    bool good = come_in(DRIVER, V1_HELLO) && session_id(DRIVER, id) && bind_port(DRIVER, "tcp", 0, false);
    snprintf(request, sizeof request,
             "DELETE /api/v1/tunnel/sessions/%s?grace_ms=0 HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n",
             id);
    dial(ADMIN, host.port);
    say_text(ADMIN, request);
    return good && heard(ADMIN, " 202 ") && heard(DRIVER, "closed by admin");
}

/* A reader of events is told everything or cut off. */
static bool events_are_read(void) {
    dial(READER, host.port);
    bool told = say_text(READER, "GET /api/v1/tunnel/events HTTP/1.1\r\nHost: localhost\r\n\r\n");
    bool good = serve(DRIVER, "http") != 0;
    hang_up(DRIVER);
    few_turns();
    take(READER);
    told = told && !c[READER].eof;
    CU_ASSERT(!told || !good || (heard(READER, "event: session-parked\n") && heard(READER, "event: bind\n")));
    return good && told;
}

static bool drained_flag;
static void drained(void *ctx) {
    (void)ctx;
    drained_flag = true;
}

/* The end of a kit; another one takes its place. */
static bool drain(void) {
    bool good = serve(DRIVER, "http") != 0;
    drained_flag = false;
    kit_drain(host.kit, drained, NULL);
    few_turns();
    good = good && heard_frame(DRIVER, WIRE_GOAWAY, 0);
    hang_up_all();
    for (int i = 0; i < 400 && !drained_flag; i++)
        one_turn();
    CU_ASSERT(drained_flag);
    return good;
}

/* ---- with our own driver, on the same loop: an allocation that fails may be either side's ---- */

static struct {
    uint16_t port;
    bool ended;
} tunnel;

static void on_bound(void *user, const struct ht_bound *b) {
    (void)user;
    tunnel.port = b->container_port;
}

static void on_ended(void *user, int error, const char *text) {
    (void)user, (void)error, (void)text;
    tunnel.ended = true;
}

/* A service that answers or echoes, by hand: one connection. */
static int service_listen(uint16_t *port) {
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
    socklen_t n = sizeof a;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0 || bind(fd, (struct sockaddr *)&a, n) != 0 || listen(fd, 8) != 0 ||
        getsockname(fd, (struct sockaddr *)&a, &n))
        abort();
    *port = ntohs(a.sin_port);
    return fd;
}

static bool whole_tunnel(enum ht_bind_kind kind) {
    uint16_t service_port;
    char url[64], target[32];
    int listener = service_listen(&service_port), service = -1;
    struct ht_tunnel *t = NULL;
    struct ht_tunnel_callbacks calls = {.size = sizeof calls, .bound = on_bound, .ended = on_ended};
    snprintf(url, sizeof url, "ws://127.0.0.1:%u", host.port);
    snprintf(target, sizeof target, "127.0.0.1:%u", service_port);
    struct ht_tunnel_options o = {.size = sizeof o, .url = url, .retry_for_ms = HT_NO_RETRY};
    struct ht_bind_options b = {.size = sizeof b, .kind = kind, .target = target};
    memset(&tunnel, 0, sizeof tunnel);
    bool good = driver_create_on(host.loop, &t, &o, &calls, NULL) == HT_TUNNEL_OK && ht_tunnel_bind(t, &b) >= 0 &&
                ht_tunnel_connect(t) == HT_TUNNEL_OK;
    for (int i = 0; good && i < 60 && !tunnel.port && !tunnel.ended; i++)
        patient_turn();
    good = good && tunnel.port;
    if (good) {
        char got[256] = "";
        dial(VISITOR, tunnel.port);
        say_text(VISITOR, kind == HT_EXPOSE_HTTP ? CLOSE_HEAD : "query");
        good = false;
        for (int i = 0; i < 40 && !good; i++) {
            few_turns();
            service = service < 0 ? accept4(listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK) : service;
            ssize_t n = service < 0 ? -1 : recv(service, got, sizeof got - 1, 0);
            good = n > 0;
            if (service < 0 && (i > 3 || c[VISITOR].eof))
                break;
            if (n == 0) { /* the driver has only looked whether the service is there */
                close(service);
                service = -1;
            }
        }
        const char *answer = kind == HT_EXPOSE_HTTP ? "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello" : "hello";
        if (good)
            good = send(service, answer, strlen(answer), MSG_NOSIGNAL) > 0;
        few_turns();
        if (kind == HT_EXPOSE_HTTP)
            LIES(VISITOR, "hello");
        good = good && (kind == HT_EXPOSE_HTTP ? answered(VISITOR, "hello") : heard(VISITOR, "hello") != NULL);
    }
    if (service >= 0)
        close(service);
    close(listener);
    hang_up(VISITOR);
    ht_tunnel_destroy(&t);
    few_turns();
    return good;
}

static bool tunnel_expose(void) { return whole_tunnel(HT_EXPOSE_HTTP); }
static bool tunnel_pull(void) { return whole_tunnel(HT_PULL_TCP); }

/* ---- the CONNECT proxy ---- */

#define WITH_PROXY "--connect-proxy 127.0.0.1:0 --connect-allow 127.0.0.1"
#define ESTABLISHED "HTTP/1.1 200 Connection established\r\n\r\n"

static uint16_t proxy_port; /* of a kit that was started WITH_PROXY */

static void find_proxy(void) {
    dial(ADMIN, host.port);
    (void)say_text(ADMIN, "GET /readyz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    const char *at = heard(ADMIN, "\"proxy\":\"127.0.0.1:");
    CU_ASSERT_PTR_NOT_NULL_FATAL(at);
    proxy_port = (uint16_t)strtoul(at, NULL, 10);
    hang_up(ADMIN);
    for (int i = 0; i < 100 && kit_http_clients(host.kit); i++)
        few_turns();
}

/* What comes at a service: a connection from the proxy, and the first bytes of it. */
static int service_hears(int listener, char got[512]) {
    int service = -1;
    for (int i = 0; i < 12; i++) {
        few_turns();
        if (service < 0)
            service = accept4(listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
        ssize_t n = service < 0 ? -1 : recv(service, got, 511, 0);
        if (n > 0) {
            got[n] = '\0';
            return service;
        }
        take(VISITOR);
        if (n == 0 || c[VISITOR].eof)
            break;
    }
    if (service >= 0)
        close(service);
    return -1;
}

/*
 * `request` leads to a service of the test's at %u, which hears `query`, answers, and has the end of the client's side
 * told. The client has read nothing but the beginning of `expected`, or of an answer that says no.
 */
static bool through_proxy(const char *request, const char *query, const char *answer, const char *expected,
                          size_t expected_len) {
    uint16_t port;
    char text[512], got[512] = "";
    int listener = service_listen(&port);
    snprintf(text, sizeof text, request, port, port);
    dial(VISITOR, proxy_port);
    if (*request == '\5') {
        uint8_t socks[] = {5,   1,   0,   5,   1,  0, 1, 127, 0, 0, 1, (uint8_t)(port >> 8), (uint8_t)port,
                           'q', 'u', 'e', 'r', 'y'};
        say(VISITOR, socks, sizeof socks);
    } else {
        say_text(VISITOR, text);
    }
    int service = service_hears(listener, got);
    CU_ASSERT(service < 0 || strncmp(got, query, strnlen(got, strlen(query))) == 0);
    if (service >= 0) {
        (void)send(service, answer, strlen(answer), MSG_NOSIGNAL);
        few_turns();
        close(service);
        few_turns();
    }
    for (int i = 0; i < 8 && !c[VISITOR].eof; i++) {
        few_turns();
        take(VISITOR);
    }
    bool good = c[VISITOR].n == expected_len && memcmp(c[VISITOR].text, expected, expected_len) == 0;
    bool beginning = c[VISITOR].n < expected_len && memcmp(c[VISITOR].text, expected, c[VISITOR].n) == 0;
    CU_ASSERT(good || beginning || strncmp(c[VISITOR].text, "HTTP/1.1 5", 10) == 0 ||
              (*request == '\5' && c[VISITOR].n > 3 && c[VISITOR].text[3] != 0));
    close(listener);
    hang_up(VISITOR);
    return good;
}

#define EXPECT(text) (text), sizeof(text) - 1

static bool proxy_connect(void) {
    return through_proxy("CONNECT localhost:%u HTTP/1.1\r\n\r\nquery", "query", "rows", EXPECT(ESTABLISHED "rows"));
}

static bool proxy_socks(void) { return through_proxy("\5", "query", "rows", EXPECT("\5\0\5\0\0\1\0\0\0\0\0\0rows")); }

static bool proxy_url(void) {
    return through_proxy("GET http://127.0.0.1:%u/x HTTP/1.1\r\nHost: 127.0.0.1:%u\r\nConnection: close\r\n\r\n",
                         "GET /x HTTP/1.1\r\n", "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello",
                         EXPECT("HTTP/1.1 200 OK\r\ncontent-length: 5\r\nconnection: close\r\nvia: 1.1 "
                                "hoody-tunnel\r\n\r\nhello"));
}

static bool proxy_refuses(void) {
    static const char *const bad[] = {"CONNECT 169.254.169.254:80 HTTP/1.1\r\n\r\n",
                                      "GET http://[::ffff:127.0.0.2]/ HTTP/1.0\r\n\r\n",
                                      "CONNECT 127.1:80 HTTP/1.1\r\n\r\n"};
    bool good = true;
    for (size_t i = 0; i < HT_ARRAY_LEN(bad); i++) {
        dial(VISITOR, proxy_port);
        say_text(VISITOR, bad[i]);
        CU_ASSERT(!heard(VISITOR, "HTTP/1.1 2"));
        good = heard(VISITOR, "HTTP/1.1 4") && good;
        hang_up(VISITOR);
    }
    return good;
}

/*
 * A driver that has a%u.example:443 and *.b%u.example:80, whose first stream is 2. They are other names each time:
 * those of a session that was parked stay its own.
 */
static bool register_names(unsigned *number) {
    static unsigned last;
    char bind[256];
    *number = ++last;
    if (!come_in(DRIVER, "{\"version\":\"hoody-tunnel.v1\",\"capabilities\":[\"names\"]}"))
        return false;
    c[DRIVER].n = 0;
    snprintf(bind, sizeof bind,
             "{\"clientBindRef\":1,\"kind\":\"tcp\",\"mode\":\"pull\",\"portless\":true,"
             "\"names\":[\"a%u.example:443\",\"*.b%u.example:80\"]}",
             last, last);
    return say_frame(DRIVER, WIRE_BIND, 0, bind) && heard_frame(DRIVER, WIRE_BIND_OK, 0);
}

static bool say_proxy(const char *format, unsigned number) {
    char text[256];
    snprintf(text, sizeof text, format, number, number);
    dial(VISITOR, proxy_port);
    return say_text(VISITOR, text);
}

static bool proxy_by_name(void) {
    unsigned n;
    if (!register_names(&n))
        return false;
    bool good =
        say_proxy("CONNECT A%u.example:443 HTTP/1.1\r\n\r\nquery", n) && heard_frame(DRIVER, WIRE_STREAM_OPEN, 2);
    CU_ASSERT(!heard(VISITOR, " 200 ")); /* the driver has said nothing yet */
    good = good && say_bytes(DRIVER, WIRE_STREAM_CONNECTED, 2, NULL, 0) && heard(VISITOR, ESTABLISHED) &&
           heard(DRIVER, "uery") && say_bytes(DRIVER, WIRE_DATA, 2, "rows", 4) && heard(VISITOR, ESTABLISHED "rows");
    shutdown(c[VISITOR].fd, SHUT_WR);
    few_turns();
    good = good && say_bytes(DRIVER, WIRE_EOF, 2, NULL, 0);
    take(VISITOR);
    return good && c[VISITOR].eof;
}

static bool proxy_url_by_name(void) {
    static const char answer[] = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello";
    unsigned n;
    if (!register_names(&n))
        return false;
    bool good =
        say_proxy("GET http://x.b%u.example/ HTTP/1.1\r\nHost: x.b%u.example\r\nConnection: close\r\n\r\n", n) &&
        heard_frame(DRIVER, WIRE_STREAM_OPEN, 2) && say_bytes(DRIVER, WIRE_STREAM_CONNECTED, 2, NULL, 0) &&
        heard(DRIVER, "ET / HTTP/1.1\r\n") && say_bytes(DRIVER, WIRE_DATA, 2, answer, sizeof answer - 1);
    LIES(VISITOR, "hello");
    good = good && answered(VISITOR, "hello");
    hang_up(VISITOR);
    return good;
}

static bool proxy_name_is_lost(void) {
    unsigned n;
    if (!register_names(&n))
        return false;
    bool good = say_proxy("CONNECT a%u.example:443 HTTP/1.1\r\n\r\n", n) && heard_frame(DRIVER, WIRE_STREAM_OPEN, 2) &&
                say_bytes(DRIVER, WIRE_RESET, 2, "\0\6refused: no", 13) && heard(VISITOR, "HTTP/1.1 502 ");
    hang_up(VISITOR);
    good = good && say_proxy("CONNECT a%u.example:443 HTTP/1.1\r\n\r\n", n);
    hang_up(DRIVER); /* parked */
    CU_ASSERT(!good || !heard(VISITOR, " 200 "));
    good = good && heard(VISITOR, "HTTP/1.1 503 ");
    hang_up(VISITOR);
    return good;
}

/* ---- all of them ---- */

static const struct {
    const char *name;
    bool (*run)(void);
} scenarios[] = {
    {"a GET", http_get},
    {"an upload", http_upload},
    {"chunks both ways", http_chunked},
    {"interim heads, Expect, HEAD", http_interim_and_head},
    {"pipelined requests", http_pipelined},
    {"a slow reader", http_slow_reader},
    {"a visitor that leaves, a driver that resets", http_visitor_leaves},
    {"requests that are refused", http_refused},
    {"an upgrade", upgrade_both_ways},
    {"a pulled connection", pull_both_ways},
    {"much through a pulled connection", pull_bulk},
    {"parking and coming back", park_and_resume},
    {"a claim on a live session", supersede},
    {"a takeover", takeover_live},
    {"a takeover from the parked", takeover_parked},
    {"v2 with a secondary that is lost", v2_joins},
    {"v2 with tickets issued again", v2_reissue},
    {"BIND, UNBIND and their errors", binds_and_errors},
    {"a goodbye", goodbyes},
    {"a violation", violations},
    {"strangers", strangers},
    {"admin: reading", admin_reads},
    {"admin: killing", admin_kills},
    {"a reader of events", events_are_read},
    {"a drain", drain},
    {"our driver exposes", tunnel_expose},
    {"our driver pulls", tunnel_pull},
    {"the proxy: CONNECT", proxy_connect},
    {"the proxy: SOCKS5", proxy_socks},
    {"the proxy: an http:// URL", proxy_url},
    {"the proxy: where it does not lead", proxy_refuses},
    {"the proxy: by name", proxy_by_name},
    {"the proxy: an http:// URL by name", proxy_url_by_name},
    {"the proxy: a driver that refuses and one that leaves", proxy_name_is_lost},
};

/* A kit for one of them. */
static inline void scenario_start(size_t which) {
    bool proxy = strncmp(scenarios[which].name, "the proxy", 9) == 0;
    host_start(proxy ? WITH_PROXY : "");
    few_turns();
    if (proxy)
        find_proxy();
}
_Static_assert(HT_ARRAY_LEN(scenarios) >= 20, "the kit does more than that");

#endif
