/* What an operator sees: probes, the stream of events, and counters that move. */
#include "peer.h"

#include <cjson/cJSON.h>

#define ASK(path) "GET " path " HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
#define EVENTS "/api/v1/tunnel/events"

/* ---- a reader ---- */

struct reader {
    struct raw r;
    size_t at; /* what was read before it was looked at */
    unsigned long long id;
    cJSON *event;
};

static unsigned readers(void) {
    struct raw r;
    CU_ASSERT_EQUAL(raw_ask(&r, host.port, ASK("/api/v1/tunnel/metrics")), 200);
    const char *line = strstr(raw_text(&r), "\nhoody_tunnel_event_readers ");
    unsigned n = 999;
    CU_ASSERT_PTR_NOT_NULL_FATAL(line);
    CU_ASSERT_EQUAL(sscanf(line, "\nhoody_tunnel_event_readers %u", &n), 1);
    raw_close(&r);
    return n;
}

static void reader_start(struct reader *e) {
    memset(e, 0, sizeof *e);
    raw_connect(&e->r, host.port);
    static unsigned nth; /* asking for a close changes nothing */
    raw_send(&e->r, nth++ % 2 ? "GET " EVENTS " HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
                              : "GET " EVENTS " HTTP/1.1\r\nHost: localhost\r\n\r\n");
    UNTIL(strstr(raw_text(&e->r), ": hoody-tunnel events\n\n"));
    CU_ASSERT_EQUAL(strncmp(raw_text(&e->r), "HTTP/1.1 200 ", 13), 0);
    CU_ASSERT_PTR_NOT_NULL(strstr(raw_text(&e->r), "Content-Type: text/event-stream\r\n"));
    e->at = ht_buf_size(&e->r.in);
}

static void reader_stop(struct reader *e) {
    cJSON_Delete(e->event);
    raw_close(&e->r);
}

static const char *member(const struct reader *e, const char *name) {
    const cJSON *v = cJSON_GetObjectItemCaseSensitive(e->event, name);
    return cJSON_IsString(v) ? v->valuestring : "";
}

static double number(const struct reader *e, const char *name) {
    const cJSON *v = cJSON_GetObjectItemCaseSensitive(e->event, name);
    return cJSON_IsNumber(v) ? v->valuedouble : -1;
}

/* The next event must be of this type. */
static void reader_expect(struct reader *e, const char *type) {
    UNTIL(strstr(raw_text(&e->r) + e->at, "\n\n") || e->r.eof);
    const char *text = raw_text(&e->r) + e->at, *end = strstr(text, "\n\n");
    CU_ASSERT_PTR_NOT_NULL_FATAL(end);
    char name[32] = "";
    unsigned long long id = 0;
    CU_ASSERT_EQUAL(sscanf(text, "id: %llu\nevent: %31[a-z-]", &id, name), 2);
    CU_ASSERT(id > e->id);
    e->id = id;
    const char *data = strstr(text, "\ndata: ");
    CU_ASSERT_FATAL(data && data < end);
    cJSON_Delete(e->event);
    e->event = cJSON_ParseWithLength(data + 7, (size_t)(end - data) - 7);
    CU_ASSERT_PTR_NOT_NULL_FATAL(e->event);
    CU_ASSERT_STRING_EQUAL(name, type);
    CU_ASSERT_STRING_EQUAL(member(e, "event"), type);
    CU_ASSERT_EQUAL(strlen(member(e, "time")), 20);
    e->at += (size_t)(end - text) + 2;
}

static void everything_is_told(void) {
    host_start("");
    struct reader e;
    struct peer p, q;
    char id[64], other[64];
    reader_start(&e);
    CU_ASSERT_EQUAL(readers(), 1);
    peer_start(&p, id);
    reader_expect(&e, "session-opened");
    CU_ASSERT_STRING_EQUAL(member(&e, "sessionId"), id);
    CU_ASSERT_STRING_EQUAL(member(&e, "protocol"), "v1");
    CU_ASSERT_EQUAL(strncmp(member(&e, "peerAddr"), "127.0.0.1:", 10), 0);
    uint16_t http = peer_bind(&p, WIRE_KIND_HTTP, 0), tcp = peer_bind(&p, WIRE_KIND_TCP, 0);
    reader_expect(&e, "bind");
    CU_ASSERT_EQUAL(number(&e, "port"), http);
    CU_ASSERT_EQUAL(number(&e, "bindId"), 1);
    CU_ASSERT_STRING_EQUAL(member(&e, "kind"), "http");
    CU_ASSERT_STRING_EQUAL(member(&e, "mode"), "expose");
    reader_expect(&e, "bind");
    CU_ASSERT_EQUAL(number(&e, "port"), tcp);
    CU_ASSERT_STRING_EQUAL(member(&e, "mode"), "pull");
    struct wire_unbind u = {.bind_id = 2};
    peer_send(&p, WIRE_UNBIND, 0, &u);
    reader_expect(&e, "unbind");
    CU_ASSERT_EQUAL(number(&e, "port"), tcp);
    peer_expect(&p, WIRE_UNBIND_OK);
    peer_drop(&p);
    reader_expect(&e, "session-parked");
    CU_ASSERT_STRING_EQUAL(member(&e, "sessionId"), id);
    peer_resume(&p, id);
    reader_expect(&e, "session-resumed");
    peer_start(&q, other);
    reader_expect(&e, "session-opened");
    struct wire_bind b = {.has_client_bind_ref = true,
                          .kind = WIRE_KIND_HTTP,
                          .mode = WIRE_MODE_EXPOSE,
                          .container_port = http,
                          .takeover = true};
    peer_send(&q, WIRE_BIND, 0, &b);
    reader_expect(&e, "takeover");
    CU_ASSERT_STRING_EQUAL(member(&e, "sessionId"), other);
    CU_ASSERT_STRING_EQUAL(member(&e, "fromSessionId"), id);
    CU_ASSERT_EQUAL(number(&e, "port"), http);
    peer_expect(&q, WIRE_BIND_OK);
    struct wire_goaway bye = {.code = WIRE_CODE_NO_ERROR, .message = ht_slice_str("done\n\nfor today")};
    peer_send(&q, WIRE_GOAWAY, 0, &bye);
    reader_expect(&e, "goaway");
    CU_ASSERT_STRING_EQUAL(member(&e, "sender"), "driver");
    CU_ASSERT_STRING_EQUAL(member(&e, "reason"), "done\n\nfor today");
    CU_ASSERT_EQUAL(number(&e, "code"), 0);
    reader_expect(&e, "session-ended");
    CU_ASSERT_STRING_EQUAL(member(&e, "sessionId"), other);
    UNTIL(q.closed);
    peer_drop(&q);
    peer_expect(&p, WIRE_BIND_REVOKED);
    peer_bye(&p);
    reader_expect(&e, "session-ended");
    CU_ASSERT_STRING_EQUAL(member(&e, "sessionId"), id);
    reader_stop(&e);
    UNTIL(kit_http_clients(host.kit) == 0);
    CU_ASSERT_EQUAL(readers(), 0);
    host_stop();
}

static void refusals_and_kills_are_told(void) {
    host_start("--max-sessions 1");
    struct reader e;
    struct peer p, q;
    struct raw r;
    char id[64], request[256];
    reader_start(&e);
    peer_start(&p, id);
    reader_expect(&e, "session-opened");
    struct wire_hello h = {.version = WIRE_V1};
    peer_connect(&q);
    peer_hello(&q, &h);
    reader_expect(&e, "goaway");
    CU_ASSERT_STRING_EQUAL(member(&e, "sender"), "kit");
    CU_ASSERT_EQUAL(number(&e, "code"), WIRE_GOAWAY_SESSION_LIMIT_CODE);
    CU_ASSERT_STRING_EQUAL(member(&e, "sessionId"), "");
    UNTIL(q.closed);
    peer_drop(&q);
    snprintf(request, sizeof request,
             "DELETE /api/v1/tunnel/sessions/%s HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n", id);
    CU_ASSERT_EQUAL(raw_ask(&r, host.port, request), 202);
    raw_close(&r);
    reader_expect(&e, "goaway");
    CU_ASSERT_STRING_EQUAL(member(&e, "reason"), WIRE_GOAWAY_KILLED_MESSAGE);
    reader_expect(&e, "session-ended");
    UNTIL(p.closed);
    peer_drop(&p);
    reader_stop(&e);
    host_stop();
}

static void readers_are_capped_and_yield_to_nobody(void) {
    host_start("");
    struct reader e[16];
    struct raw r;
    for (int i = 0; i < 16; i++)
        reader_start(&e[i]);
    CU_ASSERT_EQUAL(raw_ask(&r, host.port, ASK(EVENTS)), 503);
    raw_close(&r);
    CU_ASSERT_EQUAL(raw_ask(&r, host.port, "HEAD " EVENTS " HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"),
                    503);
    raw_close(&r);
    struct peer p;
    peer_start(&p, NULL);
    for (int i = 0; i < 16; i++)
        reader_expect(&e[i], "session-opened");
    reader_stop(&e[3]);
    UNTIL(kit_http_clients(host.kit) == 15);
    CU_ASSERT_EQUAL(raw_ask(&r, host.port, "HEAD " EVENTS " HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"),
                    200);
    raw_close(&r);
    reader_start(&e[3]);
    for (int i = 0; i < 16; i++)
        reader_stop(&e[i]);
    peer_bye(&p);
    host_stop();
}

/* One reader never reads: it is cut off, and neither the other one nor the kit's memory notices. */
static void a_slow_reader_is_cut_off(void) {
    host_start("--max-bindings-per-session 2");
    struct reader slow, good;
    struct peer p;
    int small = 4096;
    peer_start(&p, NULL);
    /* The smallest buffers the kernel gives: what it holds would take long to fill. */
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons(host.port), .sin_addr = {htonl(INADDR_LOOPBACK)}};
    memset(&slow, 0, sizeof slow);
    slow.r.fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    CU_ASSERT_FATAL(slow.r.fd >= 0);
    CU_ASSERT_EQUAL(setsockopt(slow.r.fd, SOL_SOCKET, SO_RCVBUF, &small, sizeof small), 0);
    CU_ASSERT_EQUAL_FATAL(connect(slow.r.fd, (struct sockaddr *)&a, sizeof a), 0);
    raw_send(&slow.r, "GET " EVENTS " HTTP/1.1\r\nHost: localhost\r\n\r\n");
    reader_start(&good);
    uint64_t *dropped = &kit_metrics(host.kit)->event_readers_dropped_total, end = ht_now_ms() + PATIENCE_MS;
    struct wire_bind b = {.has_client_bind_ref = true, .kind = WIRE_KIND_TCP, .mode = WIRE_MODE_PULL};
    unsigned id = 1;
    while (*dropped == 0 && ht_now_ms() < end) {
        for (int i = 0; i < 16; i++, id++) {
            struct wire_unbind u = {.bind_id = id};
            peer_add(&p, WIRE_BIND, 0, &b);
            peer_add(&p, WIRE_UNBIND, 0, &u);
        }
        peer_flush(&p);
        one_turn();
        raw_read(&good.r);
        p.n_frames = p.n_read = 0; /* the answers do not matter here */
    }
    CU_ASSERT_EQUAL(*dropped, 1);
    UNTIL(kit_http_clients(host.kit) == 1);
    CU_ASSERT_FALSE(raw_ended(&good.r));
    reader_stop(&slow);
    reader_stop(&good);
    p.n_frames = p.n_read = 0;
    peer_bye(&p);
    host_stop();
}

/* A reader sees the end, then its connection ends. */
static void a_drain_is_told_to_the_end(void) {
    host_start("");
    struct reader e;
    struct peer p;
    reader_start(&e);
    peer_start(&p, NULL);
    reader_expect(&e, "session-opened");
    kit_drain(host.kit, host_drained, &host);
    reader_expect(&e, "goaway");
    CU_ASSERT_STRING_EQUAL(member(&e, "reason"), WIRE_GOAWAY_SHUTDOWN_MESSAGE);
    reader_expect(&e, "session-ended");
    UNTIL(raw_ended(&e.r));
    UNTIL(host.drained);
    UNTIL(p.closed);
    peer_drop(&p);
    reader_stop(&e);
    host_stop();
}

/* From /readyz, which is where a probe finds it as well. */
static uint16_t proxy_port(void) {
    struct raw r;
    unsigned port = 0;
    CU_ASSERT_EQUAL(raw_ask(&r, host.port, ASK("/readyz")), 200);
    const char *at = strstr(raw_text(&r), "\"proxy\":\"127.0.0.1:");
    CU_ASSERT_FATAL(at && sscanf(at, "\"proxy\":\"127.0.0.1:%u\"", &port) == 1);
    raw_close(&r);
    return (uint16_t)port;
}

static void expect_proxy(struct reader *e, const char *type, const char *target, unsigned status, const char *session) {
    reader_expect(e, type);
    CU_ASSERT_STRING_EQUAL(member(e, "target"), target);
    CU_ASSERT_EQUAL(number(e, "status"), status);
    CU_ASSERT_STRING_EQUAL(member(e, "sessionId"), session);
    CU_ASSERT_EQUAL(strncmp(member(e, "peerAddr"), "127.0.0.1:", 10), 0);
    CU_ASSERT_EQUAL(*member(e, "reason") != '\0', strcmp(type, "proxy-refused") == 0);
}

static void clients_of_the_proxy_are_told(void) {
    static const struct ht_slice caps[] = {{"names", 5}}, name = {"a.example:443", 13};
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof a;
    int place = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    CU_ASSERT_FATAL(bind(place, (struct sockaddr *)&a, len) == 0 && listen(place, 8) == 0);
    CU_ASSERT_EQUAL_FATAL(getsockname(place, (struct sockaddr *)&a, &len), 0);
    char args[128], text[256], target[64], id[64];
    snprintf(args, sizeof args, "--connect-proxy 127.0.0.1:0 --connect-allow 127.0.0.1:%u", ntohs(a.sin_port));
    host_start(args);
    uint16_t port = proxy_port();
    struct reader e;
    struct raw r;
    struct peer p;
    reader_start(&e);
    /* connected to by the kit */
    snprintf(target, sizeof target, "127.0.0.1:%u", ntohs(a.sin_port));
    snprintf(text, sizeof text, "CONNECT %s HTTP/1.1\r\n\r\n", target);
    raw_connect(&r, port);
    raw_send(&r, text);
    expect_proxy(&e, "proxy-opened", target, 200, "");
    raw_close(&r);
    /* denied, no destination at all, nobody there; by each way in */
    CU_ASSERT_EQUAL(raw_ask(&r, port, "CONNECT 169.254.169.254:80 HTTP/1.1\r\n\r\n"), 403);
    expect_proxy(&e, "proxy-refused", "169.254.169.254:80", 403, "");
    raw_close(&r);
    CU_ASSERT_EQUAL(raw_ask(&r, port, "CONNECT 127.1:80 HTTP/1.1\r\n\r\n"), 400);
    expect_proxy(&e, "proxy-refused", "", 400, "");
    raw_close(&r);
    CU_ASSERT_EQUAL(raw_ask(&r, port, "GET http://[::1]/ HTTP/1.0\r\n\r\n"), 403);
    expect_proxy(&e, "proxy-refused", "[::1]:80", 403, "");
    raw_close(&r);
    shutdown(place, SHUT_RD); /* it listens no more */
    snprintf(text, sizeof text, "GET http://%s/?q HTTP/1.0\r\n\r\n", target);
    CU_ASSERT_EQUAL(raw_ask(&r, port, text), 502);
    expect_proxy(&e, "proxy-refused", target, 502, "");
    raw_close(&r);
    /* connected to by a driver; by its own words, not */
    struct wire_hello h = {.version = WIRE_V1, .capabilities = caps, .n_capabilities = 1};
    struct wire_bind b = {.has_client_bind_ref = true,
                          .kind = WIRE_KIND_TCP,
                          .mode = WIRE_MODE_PULL,
                          .names = &name,
                          .n_names = 1,
                          .has_portless = true,
                          .portless = true};
    peer_connect(&p);
    peer_hello(&p, &h);
    peer_expect(&p, WIRE_HELLO_OK);
    snprintf(id, sizeof id, "%.*s", HT_SLICE_ARG(p.any.hello_ok.session_id));
    reader_expect(&e, "session-opened");
    peer_send(&p, WIRE_BIND, 0, &b);
    peer_expect(&p, WIRE_BIND_OK);
    reader_expect(&e, "bind");
    raw_connect(&r, port);
    raw_send(&r, "CONNECT A.example:443 HTTP/1.1\r\n\r\n");
    const struct got_frame *f = peer_expect(&p, WIRE_STREAM_OPEN);
    peer_add_raw(&p, WIRE_STREAM_CONNECTED, f->stream_id, NULL, 0);
    peer_flush(&p);
    expect_proxy(&e, "proxy-opened", "a.example:443", 200, id);
    raw_close(&r);
    peer_expect(&p, WIRE_RESET);
    raw_connect(&r, port);
    raw_send(&r, "CONNECT a.example:443 HTTP/1.1\r\n\r\n");
    f = peer_expect(&p, WIRE_STREAM_OPEN);
    struct wire_reset reset = {.code = WIRE_CODE_REFUSED_STREAM, .reason = ht_slice_str("refused: nobody\nis there")};
    peer_send(&p, WIRE_RESET, f->stream_id, &reset);
    expect_proxy(&e, "proxy-refused", "a.example:443", 502, "");
    CU_ASSERT_PTR_NULL(strchr(member(&e, "reason"), '\n'));
    raw_close(&r);
    /* nobody binds the proxy's port under its nose (rule PORT-2) */
    b = (struct wire_bind){
        .has_client_bind_ref = true, .kind = WIRE_KIND_TCP, .mode = WIRE_MODE_PULL, .container_port = port};
    peer_send(&p, WIRE_BIND, 0, &b);
    peer_expect(&p, WIRE_BIND_ERR);
    CU_ASSERT_EQUAL(p.any.bind_err.code, WIRE_BIND_ERROR_RESERVED_PORT);
    peer_bye(&p);
    reader_stop(&e);
    host_stop();
    close(place);
}

static void probes_say_whether_it_is_ready(void) {
    char name[] = "token-XXXXXX";
    int fd = mkstemp(name);
    CU_ASSERT_FATAL(fd >= 0);
    CU_ASSERT_EQUAL(write(fd, "sesame\n", 7), 7);
    close(fd);
    char args[96];
    snprintf(args, sizeof args, "--max-fds 2 --token-file %s", name);
    host_start(args);
    unlink(name);
    struct raw r, v;
    struct peer p;
    CU_ASSERT_EQUAL(raw_ask(&r, host.port, ASK("/livez")), 200);
    raw_close(&r);
    CU_ASSERT_EQUAL(raw_ask(&r, host.port, ASK("/readyz")), 200);
    raw_close(&r);
    CU_ASSERT_EQUAL(raw_ask(&r, host.port, ASK(EVENTS)), 401);
    raw_close(&r);
    peer_connect_as(&p, WIRE_SUBPROTOCOL_V1, "Authorization: Bearer sesame\r\n");
    peer_begin(&p, NULL);
    uint16_t port = peer_bind(&p, WIRE_KIND_HTTP, 0);
    raw_connect(&v, port);
    UNTIL(kit_fd_permits_used(host.kit) == 2);
    CU_ASSERT_EQUAL(raw_ask(&r, host.port, ASK("/readyz")), 503);
    CU_ASSERT_PTR_NOT_NULL(strstr(raw_body(&r), "no file descriptors left"));
    raw_close(&r);
    CU_ASSERT_EQUAL(raw_ask(&r, host.port, ASK("/livez")), 200);
    raw_close(&r);
    raw_close(&v);
    UNTIL(kit_fd_permits_used(host.kit) == 1);
    CU_ASSERT_EQUAL(raw_ask(&r, host.port, ASK("/readyz")), 200);
    raw_close(&r);
    peer_bye(&p);
    host_stop();
}

/* ---- counters ---- */

static double metric(const char *text, const char *name) {
    size_t n = strlen(name);
    for (const char *at = text; (at = strstr(at, name)); at += n)
        if (at > text && at[-1] == '\n' && at[n] == ' ')
            return strtod(at + n, NULL);
    printf("# no metric %s\n", name);
    return -1;
}

static void the_counters_move(void) {
    static const struct {
        const char *name;
        double value;
    } rows[] = {
        {"hoody_tunnel_build_info{version=\"" KIT_VERSION "\"}", 1},
        {"hoody_tunnel_sessions_active", 1},
        {"hoody_tunnel_sessions_parked", 0},
        {"hoody_tunnel_sessions_total", 1},
        {"hoody_tunnel_resumes_total", 1},
        {"hoody_tunnel_bindings_active{kind=\"http\",mode=\"expose\"}", 1},
        {"hoody_tunnel_bindings_active{kind=\"tcp\",mode=\"pull\"}", 1},
        {"hoody_tunnel_bind_errors_total{code=\"INVALID_KIND\"}", 1},
        {"hoody_tunnel_streams_total{mode=\"expose\"}", 2},
        {"hoody_tunnel_streams_total{mode=\"pull\"}", 1},
        {"hoody_tunnel_streams_active{mode=\"expose\"}", 0},
        {"hoody_tunnel_streams_active{mode=\"pull\"}", 1},
        {"hoody_tunnel_bytes_total{mode=\"expose\",direction=\"received\"}", 8},
        {"hoody_tunnel_bytes_total{mode=\"pull\",direction=\"sent\"}", 5},
        {"hoody_tunnel_resets_total{code=\"REFUSED_STREAM\",direction=\"received\"}", 1},
        {"hoody_tunnel_visitor_responses_total{class=\"2xx\"}", 1},
        {"hoody_tunnel_visitor_responses_total{class=\"parked\"}", 1},
        {"hoody_tunnel_visitor_responses_total{class=\"bad_gateway\"}", 1},
        {"hoody_tunnel_pings_total{direction=\"received\"}", 1},
        {"hoody_tunnel_takeovers_total", 0},
        {"hoody_tunnel_fd_permits_available", 97},
        {"hoody_tunnel_loop_lag_seconds_count", 1},
    };
    host_start("--max-fds 100");
    struct peer p;
    struct raw r, v;
    char id[64];
    peer_start(&p, id);
    uint16_t http = peer_bind(&p, WIRE_KIND_HTTP, 0), tcp = peer_bind(&p, WIRE_KIND_TCP, 0);
    get_through(&p, http);
    raw_connect(&r, http);
    raw_send(&r, GET("/"));
    const struct got_frame *f = peer_expect(&p, WIRE_STREAM_OPEN);
    struct wire_reset reset = {.code = WIRE_CODE_REFUSED_STREAM};
    peer_send(&p, WIRE_RESET, f->stream_id, &reset);
    UNTIL(raw_ended(&r));
    raw_close(&r);
    peer_expect(&p, WIRE_EOF);
    peer_send_text(&p, WIRE_BIND, 0, "{\"clientBindRef\":1,\"kind\":\"tcp\",\"mode\":\"expose\"}");
    peer_expect(&p, WIRE_BIND_ERR);
    struct wire_ping ping = {{9}};
    peer_send(&p, WIRE_PING, 0, &ping);
    peer_expect(&p, WIRE_PONG);
    peer_drop(&p);
    UNTIL(kit_sessions_parked(host.kit) == 1);
    CU_ASSERT_EQUAL(raw_ask(&r, http, GET("/")), 503);
    raw_close(&r);
    peer_resume(&p, id);
    uint64_t start = ht_now_ms();
    UNTIL(ht_now_ms() - start > WIRE_LIMIT_RESUME_SETTLE);
    raw_connect(&v, tcp);
    raw_send(&v, "hello");
    peer_expect(&p, WIRE_STREAM_OPEN);
    peer_expect(&p, WIRE_DATA);
    CU_ASSERT_EQUAL(raw_ask(&r, host.port, ASK("/api/v1/tunnel/metrics")), 200);
    for (size_t i = 0; i < HT_ARRAY_LEN(rows); i++) {
        double got = metric(raw_text(&r), rows[i].name);
        CU_ASSERT_EQUAL(got, rows[i].value);
        if (got != rows[i].value)
            printf("# %s is %g, not %g\n", rows[i].name, got, rows[i].value);
    }
    raw_close(&r);
    raw_close(&v);
    peer_bye(&p);
    host_stop();
}

int main(void) {
    static const struct tap_test tests[] = {
        {"every event is sent", everything_is_told},
        {"refusals and kills are events", refusals_and_kills_are_told},
        {"readers have a limit, and a new one never replaces an old one", readers_are_capped_and_yield_to_nobody},
        {"a slow reader is cut off", a_slow_reader_is_cut_off},
        {"readers get the events of a drain until its end", a_drain_is_told_to_the_end},
        {"clients of the CONNECT proxy are events", clients_of_the_proxy_are_told},
        {"/livez and /readyz answer", probes_say_whether_it_is_ready},
        {"metrics count what happens", the_counters_move},
        {NULL, NULL},
    };
    return tap_main("events", tests);
}
