/* The base listener: its HTTP, the admin API over a live kit, and what it takes to start. */
#include "peer.h"

#include <cjson/cJSON.h>
#include <fcntl.h>

#define API "/api/v1/tunnel"

/* ---- HTTP ---- */

static void requests_are_answered_one_after_another(void) {
    host_start("");
    struct raw r;
    raw_connect(&r, host.port);
    raw_send(&r, "GET " API "/nothing HTTP/1.1\r\nHost: localhost\r\n\r\nHEAD " API
                 "/health HTTP/1.1\r\nHost: localhost\r\n\r\n"
                 "GET " API "/bindings HTTP/1.1\r\nHost: localhost\r\n\r\nGET " API "/bind");
    UNTIL(strstr(raw_text(&r), "\"total\":0}"));
    const char *t = raw_text(&r);
    CU_ASSERT_EQUAL(strncmp(t, "HTTP/1.1 404 ", 13), 0);
    const char *second = strstr(t + 13, "HTTP/1.1 200 ");
    CU_ASSERT_PTR_NOT_NULL_FATAL(second);
    CU_ASSERT_PTR_NOT_NULL(strstr(second, "Content-Type: application/json\r\n"));
    const char *end = strstr(second, "\r\n\r\n");
    CU_ASSERT_EQUAL(strncmp(end + 4, "HTTP/1.1 200 ", 13), 0); /* HEAD: no body in between */
    raw_send(&r, "ings HTTP/1.0\r\nHost: localhost\r\n\r\n");
    UNTIL(raw_ended(&r)); /* HTTP/1.0 does not stay */
    raw_close(&r);
    host_stop();
}

static void wrong_requests_are_refused(void) {
    static const struct {
        const char *request;
        int status;
        const char *word;
    } rows[] = {
        {"GET /nothing HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n", 404, "error"},
        {"POST " API "/sessions HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n", 405, "Allow: GET, HEAD\r\n"},
        {"GET " API "/health HTTP/1.1\r\nHost: localhost\r\nContent-Length: 4\r\n\r\nGET ", 200,
         "Connection: close\r\n"},
        {"GET " API "/health HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 200,
         "Connection: close\r\n"},
        {"GET " API "/health HTTP/1.1\r\n\r\n", 400, "error"},
        {"GET " API "/health HTTP/1.1\r\nHost: evil.example\r\n\r\n", 403, "trusted-proxy"},
        {"DELETE " API "/sessions/S-1 HTTP/1.1\r\nHost: localhost\r\nOrigin: http://evil.example\r\n\r\n", 403,
         "origin"},
        {"DELETE " API "/sessions/S-1 HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n", 404, "S-1"},
        {"DELETE " API "/sessions/S-1?grace_ms=5001 HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n", 400,
         "grace_ms"},
        {"hello\r\n\r\n", 400, "error"},
        {"GET / HTTP/2.0\r\nHost: localhost\r\n\r\n", 505, "error"},
        {"CONNECT a:1 HTTP/1.1\r\nHost: localhost\r\n\r\n", 405, "error"},
    };
    host_start("");
    for (size_t i = 0; i < HT_ARRAY_LEN(rows); i++) {
        struct raw r;
        int status = raw_ask(&r, host.port, rows[i].request);
        CU_ASSERT_EQUAL(status, rows[i].status);
        CU_ASSERT_PTR_NOT_NULL(strstr(raw_text(&r), rows[i].word));
        if (status != rows[i].status || !strstr(raw_text(&r), rows[i].word))
            printf("# row %zu: %s\n", i, raw_text(&r));
        raw_close(&r);
    }
    struct raw head; /* whoever refuses it: nothing is behind the head */
    raw_connect(&head, host.port);
    raw_send(&head, "HEAD " API "/health HTTP/1.1\r\nHost: evil.example\r\n\r\n");
    UNTIL(raw_ended(&head));
    CU_ASSERT_EQUAL(strncmp(raw_text(&head), "HTTP/1.1 403 ", 13), 0);
    const char *behind = strstr(raw_text(&head), "\r\n\r\n");
    CU_ASSERT(behind && behind[4] == '\0');
    CU_ASSERT_PTR_NULL(strstr(raw_text(&head), "Content-Length: 0\r\n"));
    raw_close(&head);
    char big[9100];
    memset(big, 'x', sizeof big - 1);
    memcpy(big, "GET / HTTP/1.1\r\nHost: localhost\r\nA: ", 36);
    big[sizeof big - 1] = '\0';
    struct raw r;
    CU_ASSERT_EQUAL(raw_ask(&r, host.port, big), 431);
    raw_close(&r);
    host_stop();
}

static void slow_heads_time_out(void) {
    host_start("--head-timeout 100ms --keepalive-timeout 150ms");
    struct raw slow, silent, kept;
    raw_connect(&slow, host.port);
    raw_send(&slow, "GET / HT");
    raw_connect(&silent, host.port);
    raw_connect(&kept, host.port);
    raw_send(&kept, "GET " API "/health HTTP/1.1\r\nHost: localhost\r\n\r\n");
    UNTIL(raw_ended(&slow) && raw_ended(&silent) && raw_ended(&kept));
    CU_ASSERT_EQUAL(strncmp(raw_text(&slow), "HTTP/1.1 408 ", 13), 0);
    CU_ASSERT_STRING_EQUAL(raw_text(&silent), "");
    CU_ASSERT_EQUAL(strncmp(raw_text(&kept), "HTTP/1.1 200 ", 13), 0);
    raw_close(&slow);
    raw_close(&silent);
    raw_close(&kept);
    host_stop();
}

/* One more than there is room for: an idle one gives way, else the oldest that has not said all of its head. */
static void clients_are_capped(void) {
    host_start("");
    struct raw r[66];
    for (unsigned i = 0; i < 64; i++) {
        raw_connect(&r[i], host.port);
        if (i)
            raw_send(&r[i], "GET /");
        UNTIL(kit_http_clients(host.kit) == i + 1);
    }
    CU_ASSERT_FALSE(raw_ended(&r[0]));
    raw_connect(&r[64], host.port);
    raw_send(&r[64], "GET /");
    UNTIL(raw_ended(&r[0]));
    CU_ASSERT_EQUAL(kit_http_clients(host.kit), 64);
    /* Whether the new one's head has begun is known once the loop has read it: then nobody is idle. */
    for (int i = 0; i < 3; i++)
        ready_turn();
    raw_connect(&r[65], host.port);
    UNTIL(raw_ended(&r[1]));
    CU_ASSERT_FALSE(raw_ended(&r[65]));
    CU_ASSERT_EQUAL(kit_http_clients(host.kit), 64);
    for (int i = 0; i < 66; i++)
        raw_close(&r[i]);
    host_stop();
}

static void every_split_gives_the_same_answer(void) {
    static const char request[] = "GET " API "/sessions HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    host_start("");
    for (size_t cut = 1; cut < sizeof request - 1; cut++) {
        struct raw r;
        char head[sizeof request];
        memcpy(head, request, cut);
        head[cut] = '\0';
        raw_connect(&r, host.port);
        raw_send(&r, head);
        UNTIL(kit_http_clients(host.kit) == 1);
        one_turn();
        raw_send(&r, request + cut);
        UNTIL(raw_ended(&r));
        CU_ASSERT_EQUAL(strncmp(raw_text(&r), "HTTP/1.1 200 ", 13), 0);
        raw_close(&r);
        UNTIL(kit_http_clients(host.kit) == 0);
    }
    host_stop();
}

/* ---- the admin API over a live kit ---- */

static cJSON *ask(const char *method, const char *path, const char *extra, int status) {
    struct raw r;
    char request[512];
    snprintf(request, sizeof request,
             "%s " API "%s HTTP/1.1\r\nHost: localhost\r\nUser-Agent: test/1\r\n%sConnection: close\r\n\r\n", method,
             path, extra ? extra : "");
    CU_ASSERT_EQUAL(raw_ask(&r, host.port, request), status);
    cJSON *json = cJSON_Parse(raw_body(&r));
    raw_close(&r);
    CU_ASSERT_PTR_NOT_NULL_FATAL(json);
    return json;
}

static const cJSON *at(const cJSON *json, const char *name) { return cJSON_GetObjectItemCaseSensitive(json, name); }
static double num(const cJSON *json, const char *name) { return cJSON_GetNumberValue(at(json, name)); }
static const char *str(const cJSON *json, const char *name) {
    const char *s = cJSON_GetStringValue(at(json, name));
    return s ? s : "(none)";
}

static void the_admin_sees_sessions_and_ports(void) {
    host_start("");
    struct peer p, lost;
    char id[64], lost_id[64];
    peer_start(&lost, lost_id);
    uint16_t lost_port = peer_bind(&lost, WIRE_KIND_HTTP, 0);
    peer_drop(&lost);
    UNTIL(kit_sessions_parked(host.kit) == 1);
    peer_start(&p, id);
    uint16_t web = peer_bind(&p, WIRE_KIND_HTTP, 0), tcp = peer_bind(&p, WIRE_KIND_TCP, 0);
    struct raw visitor;
    raw_connect(&visitor, web);
    raw_send(&visitor, "GET / HTTP/1.1\r\nHost: app\r\n\r\n");
    peer_expect(&p, WIRE_STREAM_OPEN);

    cJSON *j = ask("GET", "/health", NULL, 200);
    CU_ASSERT_STRING_EQUAL(str(j, "userAgent"), "test/1");
    CU_ASSERT_STRING_EQUAL(str(j, "ip"), "127.0.0.1");
    CU_ASSERT_EQUAL(num(j, "pid"), getpid());
    cJSON_Delete(j);

    j = ask("GET", "/tunnels", NULL, 200);
    const cJSON *t = cJSON_GetArrayItem(at(j, "sessions"), 0);
    CU_ASSERT_EQUAL(cJSON_GetArraySize(at(j, "sessions")), 1);
    CU_ASSERT_STRING_EQUAL(str(t, "sessionId"), id);
    CU_ASSERT_EQUAL(strncmp(str(t, "peerAddr"), "127.0.0.1:", 10), 0);
    CU_ASSERT_STRING_EQUAL(str(t, "protocol"), "v1");
    CU_ASSERT_EQUAL(num(t, "activeStreams"), 1);
    CU_ASSERT_EQUAL(num(cJSON_GetArrayItem(at(t, "exposeBindings"), 0), "containerPort"), web);
    CU_ASSERT_EQUAL(num(cJSON_GetArrayItem(at(t, "pullBindings"), 0), "containerPort"), tcp);
    CU_ASSERT_EQUAL(num(j, "orphanedSessions"), 1);
    CU_ASSERT_EQUAL(num(j, "totalBindings"), 3);
    CU_ASSERT(num(j, "fdPermitsAvailable") > 0);
    cJSON_Delete(j);

    j = ask("GET", "/sessions", NULL, 200);
    CU_ASSERT_EQUAL(num(j, "total"), 2);
    CU_ASSERT_EQUAL(num(cJSON_GetArrayItem(at(j, "sessions"), 0), "maxStreams"), 1024);
    cJSON_Delete(j);

    j = ask("GET", "/bindings", NULL, 200);
    CU_ASSERT_EQUAL(num(j, "total"), 3);
    CU_ASSERT_STRING_EQUAL(str(cJSON_GetArrayItem(at(j, "bindings"), 1), "bindAddr"), "127.0.0.1");
    CU_ASSERT_STRING_EQUAL(str(cJSON_GetArrayItem(at(j, "bindings"), 2), "sessionId"), lost_id);
    CU_ASSERT_EQUAL(num(cJSON_GetArrayItem(at(j, "bindings"), 2), "port"), lost_port);
    cJSON_Delete(j);

    struct raw r;
    CU_ASSERT_EQUAL(
        raw_ask(&r, host.port, "GET " API "/metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"), 200);
    CU_ASSERT_PTR_NOT_NULL(strstr(raw_text(&r), "Content-Type: text/plain"));
    static const char *const lines[] = {
        "\nhoody_tunnel_sessions_active 1\n",
        "\nhoody_tunnel_sessions_parked 1\n",
        "\nhoody_tunnel_bindings_active{kind=\"http\",mode=\"expose\"} 1\n",
        "\nhoody_tunnel_bindings_active{kind=\"tcp\",mode=\"pull\"} 1\n",
        "\nhoody_tunnel_fd_permits_available ",
        "\nhoody_tunnel_build_info{version=\"" KIT_VERSION "\"} 1\n",
    };
    for (size_t i = 0; i < HT_ARRAY_LEN(lines); i++)
        CU_ASSERT_PTR_NOT_NULL(strstr(raw_body(&r), lines[i]));
    raw_close(&r);
    raw_close(&visitor);
    peer_bye(&p);
    host_stop();
}

static void a_kill_is_final(void) {
    host_start("");
    struct peer p, lost;
    char id[64], lost_id[64], path[128];
    peer_start(&lost, lost_id);
    uint16_t lost_port = peer_bind(&lost, WIRE_KIND_HTTP, 0);
    peer_drop(&lost);
    UNTIL(kit_sessions_parked(host.kit) == 1);
    peer_start(&p, id);
    uint16_t port = peer_bind(&p, WIRE_KIND_HTTP, 0);
    struct raw visitor, late;
    raw_connect(&visitor, port);
    raw_send(&visitor, "GET / HTTP/1.1\r\nHost: app\r\n\r\n");
    peer_expect(&p, WIRE_STREAM_OPEN);
    peer_expect(&p, WIRE_EOF);

    snprintf(path, sizeof path, "/sessions/%s?grace_ms=300", id);
    cJSON *j = ask("DELETE", path, NULL, 202);
    CU_ASSERT_STRING_EQUAL(str(j, "sessionId"), id);
    CU_ASSERT_STRING_EQUAL(str(j, "status"), "closing");
    cJSON_Delete(j);
    cJSON_Delete(ask("DELETE", path, NULL, 404));
    peer_expect(&p, WIRE_GOAWAY);
    CU_ASSERT_EQUAL(p.any.goaway.code, WIRE_CODE_PROTOCOL_ERROR);
    CU_ASSERT(ht_slice_is(p.any.goaway.message, "closed by admin"));
    CU_ASSERT_FALSE(p.closed); /* what is in flight may finish */
    CU_ASSERT_FALSE(raw_ended(&visitor));
    raw_connect(&late, port);
    raw_send(&late, "GET / HTTP/1.1\r\nHost: app\r\nConnection: close\r\n\r\n");
    UNTIL(raw_ended(&late));
    CU_ASSERT_EQUAL(strncmp(raw_text(&late), "HTTP/1.1 503 ", 13), 0);
    raw_close(&late);
    UNTIL(p.closed && raw_ended(&visitor));
    UNTIL(kit_sessions_live(host.kit) == 0);
    CU_ASSERT_EQUAL(kit_sessions_parked(host.kit), 1);
    raw_close(&visitor);
    peer_drop(&p);

    /* An orphan goes at once. */
    snprintf(path, sizeof path, "/sessions/%s", lost_id);
    cJSON_Delete(ask("DELETE", path, NULL, 202));
    CU_ASSERT_EQUAL(kit_sessions_parked(host.kit), 0);
    cJSON_Delete(ask("DELETE", path, NULL, 404));
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons(lost_port), .sin_addr = {htonl(INADDR_LOOPBACK)}};
    CU_ASSERT(connect(fd, (struct sockaddr *)&a, sizeof a) != 0);
    close(fd);
    peer_resume(&p, id);
    CU_ASSERT_FALSE(p.any.hello_ok.resumed);
    peer_bye(&p);
    host_stop();
}

static void the_admin_wants_the_token(void) {
    setenv("HOODY_TUNNEL_TOKEN", "sesame", 1);
    host_start("");
    unsetenv("HOODY_TUNNEL_TOKEN");
    cJSON_Delete(ask("GET", "/sessions", NULL, 401));
    cJSON_Delete(ask("GET", "/sessions", "Authorization: Bearer wrong\r\n", 401));
    cJSON_Delete(ask("GET", "/sessions", "Authorization: Bearer sesame\r\n", 200));
    cJSON_Delete(ask("GET", "/health", NULL, 200));
    struct raw r;
    raw_ask(&r, host.port, "GET " API "/metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    CU_ASSERT_PTR_NOT_NULL(strstr(raw_text(&r), "WWW-Authenticate: Bearer\r\n"));
    raw_close(&r);
    host_stop();
}

/* A kit on loopback behind a proxy that passes the visitor's Host on: whoever shows the token is no browser's page. */
static void a_token_makes_the_host_pointless(void) {
    static const char upgrade[] = "GET " API "/connect HTTP/1.1\r\nHost: kit.example\r\nConnection: Upgrade\r\n"
                                  "Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
                                  "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
                                  "Sec-WebSocket-Protocol: hoody-tunnel.v1\r\n";
    struct raw r;
    char request[512];
    setenv("HOODY_TUNNEL_TOKEN", "sesame", 1);
    host_start("");
    unsetenv("HOODY_TUNNEL_TOKEN");
    CU_ASSERT_EQUAL(raw_ask(&r, host.port,
                            "GET " API "/sessions HTTP/1.1\r\nHost: kit.example\r\nConnection: close\r\n"
                            "Authorization: Bearer sesame\r\n\r\n"),
                    200);
    raw_close(&r);
    CU_ASSERT_EQUAL(
        raw_ask(&r, host.port, "GET " API "/health HTTP/1.1\r\nHost: kit.example\r\nConnection: close\r\n\r\n"), 403);
    CU_ASSERT_PTR_NOT_NULL(strstr(raw_text(&r), "--trusted-proxy 127.0.0.1"));
    raw_close(&r);
    static const char *const shown[] = {"", "Authorization: Bearer sesame\r\n",
                                        "Authorization: Bearer sesame\r\nOrigin: https://other.example\r\n"};
    for (size_t i = 0; i < HT_ARRAY_LEN(shown); i++) { /* without one HELLO has to bring it */
        snprintf(request, sizeof request, "%s%s\r\n", upgrade, shown[i]);
        raw_connect(&r, host.port);
        raw_send(&r, request);
        UNTIL(strstr(raw_text(&r), "\r\n\r\n"));
        CU_ASSERT_EQUAL(strncmp(raw_text(&r), "HTTP/1.1 101 ", 13), 0);
        raw_close(&r);
    }
    CU_ASSERT_EQUAL(kit_metrics(host.kit)->base_requests_refused_total[HT_METRIC_REFUSAL_HOST], 1);
    host_stop();
}

static void tokens_that_are_wrong_are_counted(void) {
    setenv("HOODY_TUNNEL_TOKEN", "sesame", 1);
    host_start("");
    unsetenv("HOODY_TUNNEL_TOKEN");
    for (int i = 0; i < 3; i++)
        cJSON_Delete(ask("GET", "/sessions", "Authorization: Bearer wrong\r\n", 401));
    cJSON_Delete(ask("GET", "/sessions", NULL, 401));
    struct peer p;
    peer_connect_as(&p, WIRE_SUBPROTOCOL_V1, "Authorization: Bearer wrong\r\n");
    CU_ASSERT_EQUAL(p.status, 401);
    peer_drop(&p);
    struct wire_hello h = {.version = WIRE_V1, .has_auth = true, .auth = {.token = ht_slice_str("wrong")}};
    peer_connect(&p);
    peer_hello(&p, &h);
    UNTIL(p.closed);
    peer_drop(&p);
    const struct ht_metrics *m = kit_metrics(host.kit);
    CU_ASSERT_EQUAL(m->auth_failures_total[HT_METRIC_SHOWN_AT_API][HT_METRIC_TOKEN_WRONG], 3);
    CU_ASSERT_EQUAL(m->auth_failures_total[HT_METRIC_SHOWN_AT_API][HT_METRIC_TOKEN_MISSING], 1);
    CU_ASSERT_EQUAL(m->auth_failures_total[HT_METRIC_SHOWN_AT_CONNECT][HT_METRIC_TOKEN_WRONG], 1);
    CU_ASSERT_EQUAL(m->auth_failures_total[HT_METRIC_SHOWN_AT_HELLO][HT_METRIC_TOKEN_WRONG], 1);
    host_stop();
}

/* /health counts what it opens and closes instead of asking the kernel; it comes to the same. */
static void descriptors_are_counted(void) {
    host_start("");
    struct raw r[20];
    one_turn();
    int before = io_count_fds();
    for (int i = 0; i < (int)HT_ARRAY_LEN(r); i++) {
        raw_connect(&r[i], host.port);
        UNTIL(kit_http_clients(host.kit) == (unsigned)i + 1);
        cJSON *health = ask("GET", "/health", NULL, 200);
        CU_ASSERT_EQUAL(cJSON_GetObjectItem(health, "fds")->valueint, before + i + 2); /* who asks has one too */
        cJSON_Delete(health);
        UNTIL(kit_http_clients(host.kit) == (unsigned)i + 1);
    }
    for (size_t i = 0; i < HT_ARRAY_LEN(r); i++)
        raw_close(&r[i]);
    host_stop();
}

static void strangers_beside_the_proxy_get_a_bare_403(void) {
    host_start("--trusted-proxy 10.0.0.0/8");
    static const char *const requests[] = {
        "GET " API "/health HTTP/1.1\r\nHost: localhost\r\n\r\n",
        "GET " API "/connect HTTP/1.1\r\nHost: localhost\r\n\r\n",
        "rubbish\r\n\r\n",
    };
    for (size_t i = 0; i < HT_ARRAY_LEN(requests); i++) {
        struct raw r;
        CU_ASSERT_EQUAL(raw_ask(&r, host.port, requests[i]), 403);
        CU_ASSERT_STRING_EQUAL(raw_body(&r), "");
        raw_close(&r);
    }
    host_stop();
    /* Behind the proxy any Host is fine: the proxy decides which names there are. */
    host_start("--trusted-proxy 127.0.0.0/8");
    struct raw r;
    CU_ASSERT_EQUAL(
        raw_ask(&r, host.port, "GET " API "/health HTTP/1.1\r\nHost: x.example\r\nConnection: close\r\n\r\n"), 200);
    raw_close(&r);
    host_stop();
}

/* ---- start-up ---- */

static void cannot_start(const char *args, const char *word) {
    char text[256];
    char *argv[16];
    int argc = 0;
    struct ht_errmsg err = {""};
    struct opt_serve opt;
    size_t before = ht_mem_live();
    struct io_loop *loop = io_loop_create();
    snprintf(text, sizeof text, "%s", args);
    for (char *w = strtok(text, " "); w && argc < 16; w = strtok(NULL, " "))
        argv[argc++] = w;
    CU_ASSERT_EQUAL_FATAL(opt_serve_parse(&opt, argc, argv, &err), 0);
    struct kit *k = kit_create(loop, &opt, &err);
    CU_ASSERT_PTR_NULL(k);
    CU_ASSERT_PTR_NOT_NULL(strstr(err.text, word));
    if (!strstr(err.text, word))
        printf("# %s: %s\n", args, err.text);
    kit_destroy(&k);
    opt_serve_free(&opt);
    io_loop_destroy(&loop);
    CU_ASSERT_EQUAL(ht_mem_live(), before);
}

static void an_unsafe_kit_does_not_start(void) {
    cannot_start("--listen 0.0.0.0:0", "--insecure-listen");
    cannot_start("--listen [::]:0", "not a loopback address");
    cannot_start("--listen example.com:0", "numeric");
    cannot_start("--listen 127.0.0.1:0 --token-file /nonexistent/token", "/nonexistent/token");
    cannot_start("--listen 127.0.0.1:0 --token-file /dev/null", "empty");
    cannot_start("--listen 127.0.0.1:0 --token-file /proc/self/cmdline", "NUL");
    host_start("");
    char args[64];
    snprintf(args, sizeof args, "--listen 127.0.0.1:%u", host.port);
    cannot_start(args, args + 9);
    host_stop();
    host_start("--listen 0.0.0.0:0 --insecure-listen");
    struct raw r;
    CU_ASSERT_EQUAL(
        raw_ask(&r, host.port, "GET " API "/health HTTP/1.1\r\nHost: x.example\r\nConnection: close\r\n\r\n"), 200);
    raw_close(&r);
    host_stop();
    host_start("--listen 0.0.0.0:0 --trusted-proxy 10.0.0.0/8");
    host_stop();
}

static void exit_codes_are_the_documented_ones(void) {
    char *help[] = {(char *)(uintptr_t) "--help"}, *bad[] = {(char *)(uintptr_t) "--no-such-option"};
    char *unsafe[] = {(char *)(uintptr_t) "--listen", (char *)(uintptr_t) "0.0.0.0:0"};
    int out = dup(1), err = dup(2), null = open("/dev/null", O_WRONLY | O_CLOEXEC);
    fflush(stdout);
    dup2(null, 1);
    dup2(null, 2);
    int codes[] = {kit_main(1, help), kit_main(1, bad), kit_main(2, unsafe)};
    fflush(stdout);
    dup2(out, 1);
    dup2(err, 2);
    close(out);
    close(err);
    close(null);
    CU_ASSERT_EQUAL(codes[0], OPT_EXIT_OK);
    CU_ASSERT_EQUAL(codes[1], OPT_EXIT_USAGE);
    CU_ASSERT_EQUAL(codes[2], OPT_EXIT_CONFIG);
}

static bool certificates_are(const char *ask, int status, const char *body) {
    struct raw r;
    int got = raw_ask(&r, host.port, ask);
    bool same = got == status && (!body || strcmp(raw_body(&r), body) == 0);
    raw_close(&r);
    return same;
}

/* Rule NAME-8: what live drivers offer, each certificate once, and nothing else. */
static void certificates_of_live_drivers(void) {
    static const struct ht_slice caps[] = {{"names", 5}};
    static const char ask[] = "GET " API "/ca.pem HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    static const char *const files[] = {"one", "two"};
    char pem[2][1024];
    struct peer p[3];
    struct raw r;
    host_start("");
    for (int i = 0; i < 2; i++) {
        char command[256];
        snprintf(command, sizeof command,
                 "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout /dev/null -days 2 -subj "
                 "/CN=%s 2>/dev/null",
                 files[i]);
        FILE *f = popen(command, "r");
        CU_ASSERT_PTR_NOT_NULL_FATAL(f);
        pem[i][fread(pem[i], 1, sizeof pem[i] - 1, f)] = '\0';
        CU_ASSERT_EQUAL_FATAL(pclose(f), 0);
    }
    CU_ASSERT_EQUAL(raw_ask(&r, host.port, ask), 404);
    raw_close(&r);
    for (int i = 0; i < 3; i++) { /* the third offers what the first does */
        char name[32];
        snprintf(name, sizeof name, "host%d.test", i);
        struct ht_slice names[] = {ht_slice_str(name)};
        peer_connect(&p[i]);
        peer_hello(&p[i], &(struct wire_hello){.version = WIRE_V1, .capabilities = caps, .n_capabilities = 1});
        peer_expect(&p[i], WIRE_HELLO_OK);
        struct wire_bind bind = {.has_client_bind_ref = true,
                                 .kind = WIRE_KIND_TCP,
                                 .mode = WIRE_MODE_PULL,
                                 .names = names,
                                 .n_names = 1,
                                 .portless = true,
                                 .has_ca = true,
                                 .ca = ht_slice_str(pem[i % 2])};
        peer_send(&p[i], WIRE_BIND, 0, &bind);
        peer_expect(&p[i], WIRE_BIND_OK);
    }
    CU_ASSERT_EQUAL(raw_ask(&r, host.port, ask), 200);
    CU_ASSERT(strstr(raw_text(&r), "application/x-pem-file") != NULL);
    CU_ASSERT_EQUAL(strlen(raw_body(&r)), strlen(pem[0]) + strlen(pem[1]));
    CU_ASSERT(strstr(raw_body(&r), pem[0]) && strstr(raw_body(&r), pem[1]));
    raw_close(&r);
    peer_bye(&p[1]);  /* its certificate goes with it */
    peer_drop(&p[2]); /* parked: nobody answers there */
    UNTIL(certificates_are(ask, 200, pem[0]));
    peer_drop(&p[0]);
    UNTIL(certificates_are(ask, 404, NULL));
    host_stop();
}

int main(void) {
    static const struct tap_test tests[] = {
        {"requests are answered one after another", requests_are_answered_one_after_another},
        {"wrong requests are refused", wrong_requests_are_refused},
        {"slow heads time out", slow_heads_time_out},
        {"there are at most so many clients", clients_are_capped},
        {"every split gives the same answer", every_split_gives_the_same_answer},
        {"the admin sees sessions and ports", the_admin_sees_sessions_and_ports},
        {"a killed session does not come back", a_kill_is_final},
        {"the admin API needs the token", the_admin_wants_the_token},
        {"a request with the token may have any Host", a_token_makes_the_host_pointless},
        {"wrong tokens are counted", tokens_that_are_wrong_are_counted},
        {"descriptors in use are counted", descriptors_are_counted},
        {"peers outside --trusted-proxy get a bare 403", strangers_beside_the_proxy_get_a_bare_403},
        {"an unsafe kit does not start", an_unsafe_kit_does_not_start},
        {"exit codes are the documented ones", exit_codes_are_the_documented_ones},
        {"the certificates of live drivers are listed", certificates_of_live_drivers},
        {NULL, NULL},
    };
    return tap_main("base listener", tests);
}
