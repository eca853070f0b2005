/* The admin commands against a server that gives one prepared answer, in a process of its own. */
#include "cli/capture.h"
#include "cli/cli.h"

#include <arpa/inet.h>
#include <errno.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/wait.h>

#define MAX_REQUEST 4096

static char request[MAX_REQUEST]; /* what the server saw */
static struct capture seen;

/* Takes one connection, reads a head, gives it to `report`, answers and ends. */
static void serve_once(int listener, const char *answer, int report) {
    char head[MAX_REQUEST];
    size_t n = 0;
    int c = accept(listener, NULL, NULL);
    while (c >= 0 && n < sizeof head - 1) {
        ssize_t r = read(c, head + n, sizeof head - 1 - n);
        if (r <= 0)
            break;
        n += (size_t)r;
        head[n] = '\0';
        if (strstr(head, "\r\n\r\n"))
            break;
    }
    ssize_t done = write(report, head, n);
    for (size_t at = 0, len = strlen(answer); at < len && done >= 0; at += (size_t)done)
        done = write(c, answer + at, len - at);
    shutdown(c, SHUT_WR);
    close(c);
    _exit(0);
}

static int start_server(const char *answer, uint16_t *port, int *report) {
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof at;
    int listener = socket(AF_INET, SOCK_STREAM, 0), ends[2];
    CU_ASSERT_FATAL(listener >= 0 && bind(listener, (struct sockaddr *)&at, len) == 0 && listen(listener, 4) == 0);
    CU_ASSERT_FATAL(getsockname(listener, (struct sockaddr *)&at, &len) == 0 && pipe(ends) == 0);
    *port = ntohs(at.sin_port);
    *report = ends[0];
    fflush(stdout);
    int pid = fork();
    CU_ASSERT_FATAL(pid >= 0);
    if (pid == 0) {
        alarm(30);
        close(ends[0]);
        serve_once(listener, answer, ends[1]);
    }
    close(listener);
    close(ends[1]);
    return pid;
}

/* Runs a command with --url (and more arguments) against the answer; returns its exit code. */
static int run_cmd(int (*cmd)(int, char **), const char *answer, const char *more) {
    static char url[64], extra[64];
    static char url_option[] = "--url";
    uint16_t port;
    int report, status;
    int pid = start_server(answer, &port, &report);
    snprintf(url, sizeof url, "127.0.0.1:%u", port);
    snprintf(extra, sizeof extra, "%s", more ? more : "");
    char *argv[] = {url_option, url, extra, NULL};
    capture_begin(&seen);
    status = cmd(more ? 3 : 2, argv);
    capture_end(&seen);
    ssize_t n = read(report, request, sizeof request - 1);
    request[n > 0 ? n : 0] = '\0';
    close(report);
    int ended;
    waitpid(pid, &ended, 0);
    return status;
}

#define JSON_ANSWER(body) "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\r\n" body

#define TUNNELS                                                                                                        \
    "{\"sessions\":[{\"sessionId\":\"S-1\",\"peerAddr\":\"10.0.0.1:5\",\"protocol\":\"v1\",\"connectionsGranted\":1,"  \
    "\"activeStreams\":3,\"exposeBindings\":[{\"bindId\":1,\"containerPort\":3000},{\"bindId\":2,\"containerPort\":"   \
    "8080}],"                                                                                                          \
    "\"pullBindings\":[]}],\"orphanedSessions\":1,\"totalStreams\":3,\"totalBindings\":2,\"fdPermitsAvailable\":77}"

static void list_is_a_table(void) {
    CU_ASSERT_EQUAL(run_cmd(cmd_list, JSON_ANSWER(TUNNELS), NULL), 0);
    CU_ASSERT_STRING_EQUAL(seen.out, "SESSION  DRIVER      PROTOCOL  STREAMS  EXPOSE     PULL\n"
                                     "S-1      10.0.0.1:5  v1        3        3000,8080  -\n\n"
                                     "1 sessions, 1 parked, 2 bindings, 3 streams, 77 descriptors free\n");
    CU_ASSERT_EQUAL(strncmp(request, "GET /api/v1/tunnel/tunnels HTTP/1.1\r\n", 37), 0);
    CU_ASSERT_PTR_NULL(strstr(request, "uthorization"));
}

static void json_is_the_answer_itself(void) {
    CU_ASSERT_EQUAL(run_cmd(cmd_list, JSON_ANSWER(TUNNELS), "--json"), 0);
    CU_ASSERT_STRING_EQUAL(seen.out, TUNNELS "\n");
}

static void sessions_and_bindings(void) {
    CU_ASSERT_EQUAL(
        run_cmd(cmd_sessions_list,
                JSON_ANSWER("{\"sessions\":[{\"sessionId\":\"S-\\u0007x\",\"peerAddr\":\"a\",\"isV2\":true,"
                            "\"connectionsGranted\":4,\"activeStreams\":1,\"maxStreams\":1024,\"bindings\":[{}]}],"
                            "\"total\":1}"),
                NULL),
        0);
    CU_ASSERT_STRING_EQUAL(seen.out, "SESSION  DRIVER  PROTOCOL  SOCKETS  STREAMS  BINDINGS  STATE\n"
                                     "S-\\x07x  a       v2        4        1/1024   1         live\n");
    CU_ASSERT_EQUAL(
        run_cmd(
            cmd_bindings_list,
            JSON_ANSWER("{\"bindings\":[{\"sessionId\":\"S-1\",\"bindId\":7,\"port\":5432,\"kind\":\"tcp\","
                        "\"mode\":\"pull\",\"bindAddr\":\"::1\",\"label\":\"db \xe2\x80\xaegnihsif\",\"parked\":true,"
                        "\"parkedUntil\":\"2026-02-01T10:01:00Z\"}],\"total\":1}"),
            NULL),
        0);
    CU_ASSERT_STRING_EQUAL(
        seen.out, "PORT  MODE  KIND  ADDRESS  LABEL             STATE                              ID  SESSION\n"
                  "5432  pull  tcp   ::1      db \\u202egnihsif  parked until 2026-02-01T10:01:00Z  7   S-1\n");
    CU_ASSERT_EQUAL(
        run_cmd(cmd_bindings_list,
                JSON_ANSWER("{\"bindings\":[{\"sessionId\":\"S-1\",\"bindId\":7,\"port\":0,\"kind\":\"tcp\","
                            "\"mode\":\"pull\",\"names\":[\"a.b:1\",\"*.c\"]}],\"total\":1}"),
                NULL),
        0);
    CU_ASSERT_STRING_EQUAL(seen.out, "PORT  MODE  KIND  ADDRESS  LABEL  STATE  ID  SESSION  NAMES\n"
                                     "-     pull  tcp   -        -      live   7   S-1      a.b:1,*.c\n");
    CU_ASSERT_EQUAL(run_cmd(cmd_bindings_list, JSON_ANSWER("{\"bindings\":[]}"), NULL), 0); /* a kit that says less */
    CU_ASSERT_STRING_EQUAL(seen.out, "PORT  MODE  KIND  ADDRESS  LABEL  STATE  ID  SESSION\n");
    CU_ASSERT_EQUAL(run_cmd(cmd_bindings_list, JSON_ANSWER("{}"), NULL), OPT_EXIT_FAILURE); /* and somebody else */
    CU_ASSERT_PTR_NOT_NULL(strstr(seen.err, "not a kit: its answer has no \"bindings\""));
}

static void health(void) {
    CU_ASSERT_EQUAL(
        run_cmd(cmd_health, JSON_ANSWER("{\"status\":\"ok\",\"userAgent\":\"\",\"memory\":{\"rss\":1048576}}"), NULL),
        0);
    CU_ASSERT_PTR_NOT_NULL(strstr(seen.out, "status       ok\n"));
    CU_ASSERT_PTR_NOT_NULL(strstr(seen.out, "memory       1.0 MiB\n"));
    CU_ASSERT_EQUAL(run_cmd(cmd_health, JSON_ANSWER("{\"status\":\"sick\"}"), NULL), OPT_EXIT_FAILURE);
}

static void kill_asks_with_delete(void) {
    static const char answer[] = "HTTP/1.1 202 Accepted\r\n\r\n{\"sessionId\":\"S-1\",\"status\":\"closing\"}";
    char url[] = "127.0.0.1:1", id[] = "a b/?", none[] = "--grace-ms=5001", option[] = "--url";
    CU_ASSERT_EQUAL(run_cmd(cmd_sessions_kill, answer, "S-1"), 0);
    CU_ASSERT_STRING_EQUAL(seen.out, "S-1 is closing\n");
    CU_ASSERT_EQUAL(strncmp(request, "DELETE /api/v1/tunnel/sessions/S-1?grace_ms=50 HTTP/1.1\r\n", 57), 0);
    CU_ASSERT_EQUAL(run_cmd(cmd_sessions_kill, answer, "a b/?\xc3"), 0);
    CU_ASSERT_EQUAL(strncmp(request, "DELETE /api/v1/tunnel/sessions/a%20b%2F%3F%C3?grace", 51), 0);
    CU_ASSERT_EQUAL(run_cmd(cmd_sessions_kill, "HTTP/1.1 404 No\r\n\r\n{\"error\":\"no such session\"}", "S-9"),
                    OPT_EXIT_FAILURE);
    CU_ASSERT_PTR_NOT_NULL(strstr(seen.err, "the kit has no session S-9"));
    char *argv[] = {option, url, none, id, NULL};
    capture_begin(&seen);
    CU_ASSERT_EQUAL(cmd_sessions_kill(4, argv), OPT_EXIT_USAGE);
    capture_end(&seen);
    CU_ASSERT_PTR_NOT_NULL(strstr(seen.err, "0 to 5000 ms"));
}

static void ready_is_yes_or_no(void) {
    CU_ASSERT_EQUAL(run_cmd(cmd_ready, JSON_ANSWER("{\"status\":\"ok\",\"started\":\"x\"}"), NULL), 0);
    CU_ASSERT_STRING_EQUAL(seen.out, "ready\n");
    CU_ASSERT_EQUAL(strncmp(request, "GET /readyz HTTP/1.1\r\n", 22), 0);
    CU_ASSERT_EQUAL(run_cmd(cmd_ready, "HTTP/1.1 503 No\r\n\r\n{\"error\":\"draining\"}", NULL), OPT_EXIT_FAILURE);
    CU_ASSERT_PTR_NOT_NULL(strstr(seen.err, "draining"));
    CU_ASSERT_EQUAL(run_cmd(cmd_ready, "", NULL), OPT_EXIT_FAILURE);
}

#define METRICS                                                                                                        \
    "# HELP a hoody_tunnel_b\n# TYPE a counter\na 1\nb{x=\"1 {} , =\\\\ \\\" \",y=\"\"} 2.5\nc NaN\nd{z=\"q\"} +Inf\n"

static void metrics(void) {
    const char *answer = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
                         "12\r\nhoody_tunnel_a 1\nb\r\n4\r\n 22\n\r\n0\r\n\r\n";
    CU_ASSERT_EQUAL(run_cmd(cmd_metrics, answer, NULL), 0);
    CU_ASSERT_STRING_EQUAL(seen.out, "hoody_tunnel_a 1\nb 22\n");
    CU_ASSERT_EQUAL(run_cmd(cmd_metrics, JSON_ANSWER(METRICS), "--json"), 0);
    CU_ASSERT_STRING_EQUAL(seen.out,
                           "{\"metrics\":[\n{\"name\":\"a\",\"labels\":{},\"value\":1},\n"
                           "{\"name\":\"b\",\"labels\":{\"x\":\"1 {} , =\\\\ \\\" \",\"y\":\"\"},\"value\":2.5},\n"
                           "{\"name\":\"c\",\"labels\":{},\"value\":null},\n"
                           "{\"name\":\"d\",\"labels\":{\"z\":\"q\"},\"value\":null}\n]}\n");
    CU_ASSERT_EQUAL(run_cmd(cmd_metrics, JSON_ANSWER("nonsense\n"), "--json"), OPT_EXIT_FAILURE);
}

static void answers_that_are_errors(void) {
    static const struct {
        const char *answer, *says;
        int status;
    } rows[] = {
        {"HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\n\r\n", "wants a token", OPT_EXIT_AUTH},
        {"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n", "trusted prox", OPT_EXIT_FAILURE},
        {"HTTP/1.1 404 Not Found\r\n\r\n{\"error\":\"no such thing\"}", "no such thing", OPT_EXIT_FAILURE},
        {"HTTP/1.1 500 Oops\r\n\r\n{\"message\":\"broken\\n\",\"error\":\"x\"}", "500: broken?", OPT_EXIT_FAILURE},
        {"HTTP/1.1 502 Bad\r\n\r\n<html>", "does not reach it (502)", OPT_EXIT_FAILURE},
        {JSON_ANSWER("<html>"), "not JSON", OPT_EXIT_FAILURE},
        {JSON_ANSWER("[]"), "not JSON", OPT_EXIT_FAILURE},
        {JSON_ANSWER("{\"a\":1,\"a\":2}"), "not JSON", OPT_EXIT_FAILURE},
        {JSON_ANSWER(""), "not JSON", OPT_EXIT_FAILURE},
        {"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n{", "before the answer was complete", OPT_EXIT_GAVE_UP},
        {"220 mail.example\r\n\r\n", "127.0.0.1:", OPT_EXIT_GAVE_UP},
        {"", "before the answer was complete", OPT_EXIT_GAVE_UP},
    };
    for (size_t i = 0; i < HT_ARRAY_LEN(rows); i++) {
        CU_ASSERT_EQUAL(run_cmd(cmd_list, rows[i].answer, NULL), rows[i].status);
        CU_ASSERT_PTR_NOT_NULL(strstr(seen.err, rows[i].says));
        CU_ASSERT_STRING_EQUAL(seen.out, "");
        if (!strstr(seen.err, rows[i].says))
            printf("# %zu: %s\n", i, seen.err);
    }
}

static void a_token_is_shown_and_never_told(void) {
    setenv("HOODY_TUNNEL_TOKEN", "s3cret", 1);
    CU_ASSERT_EQUAL(run_cmd(cmd_list, "HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\n\r\n", NULL), OPT_EXIT_AUTH);
    unsetenv("HOODY_TUNNEL_TOKEN");
    CU_ASSERT_PTR_NOT_NULL(strstr(request, "authorization: Bearer s3cret\r\n"));
    CU_ASSERT_PTR_NOT_NULL(strstr(seen.err, "refused the token"));
    CU_ASSERT_PTR_NULL(strstr(seen.err, "s3cret"));
}

static int run_alone(int (*cmd)(int, char **), const char *a, const char *b) {
    static char one[128], two[128];
    snprintf(one, sizeof one, "%s", a);
    snprintf(two, sizeof two, "%s", b ? b : "");
    char *argv[] = {one, two, NULL};
    capture_begin(&seen);
    int status = cmd(b ? 2 : 1, argv);
    capture_end(&seen);
    return status;
}

static void no_kit_at_all(void) {
    CU_ASSERT_EQUAL(run_alone(cmd_health, "--url", "127.0.0.1:1"), OPT_EXIT_GAVE_UP);
    CU_ASSERT_PTR_NOT_NULL(strstr(seen.err, "connection refused"));
    CU_ASSERT_EQUAL(run_alone(cmd_health, "--url", "gopher://x"), OPT_EXIT_USAGE);
    CU_ASSERT_PTR_NOT_NULL(strstr(seen.err, "scheme"));
    CU_ASSERT_EQUAL(run_alone(cmd_health, "--nonsense", NULL), OPT_EXIT_USAGE);
    CU_ASSERT_PTR_NOT_NULL(strstr(seen.err, "hoody-tunnel health --help"));
    CU_ASSERT_EQUAL(run_alone(cmd_health, "--token-file", "/nonexistent"), OPT_EXIT_CONFIG);
    CU_ASSERT_EQUAL(run_alone(cmd_health, "--help", NULL), OPT_EXIT_OK);
    CU_ASSERT_PTR_NOT_NULL(strstr(seen.out, "--timeout"));
    CU_ASSERT_EQUAL(run_alone(cmd_health, "--version", NULL), OPT_EXIT_OK);
    CU_ASSERT_STRING_EQUAL(seen.out, "hoody-tunnel " HT_VERSION "\n");
}

static void tunnels_that_cannot_even_start(void) {
    CU_ASSERT_EQUAL(run_alone(cmd_expose, "nonsense", NULL), OPT_EXIT_USAGE);
    CU_ASSERT_PTR_NOT_NULL(strstr(seen.err, "port is missing"));
    CU_ASSERT_EQUAL(run_alone(cmd_expose, "3000", "--url=x y"), OPT_EXIT_USAGE);
    CU_ASSERT_EQUAL(run_alone(cmd_expose, "3000", "--sample"), OPT_EXIT_USAGE);
    CU_ASSERT_EQUAL(run_alone(cmd_expose, "--json", NULL), OPT_EXIT_USAGE);
    CU_ASSERT_EQUAL(run_alone(cmd_expose, "3000", "--token=abc"), OPT_EXIT_USAGE);
    CU_ASSERT_PTR_NULL(strstr(seen.err, "abc"));
    CU_ASSERT_EQUAL(run_alone(cmd_pull, "5432", "--token-file=/nonexistent"), OPT_EXIT_CONFIG);
    CU_ASSERT_EQUAL(run_alone(cmd_pull, "5432", "--url=127.0.0.1:1"), OPT_EXIT_GAVE_UP);
    CU_ASSERT_PTR_NOT_NULL(strstr(seen.err, "connection refused"));
}

static const struct tap_test tests[] = {
    {"list prints a table", list_is_a_table},
    {"--json prints the kit's answer as it is", json_is_the_answer_itself},
    {"sessions list and bindings list print tables", sessions_and_bindings},
    {"health prints the kit's state and fails when the kit is not healthy", health},
    {"sessions kill asks with DELETE", kill_asks_with_delete},
    {"ready prints one line and has an exit status", ready_is_yes_or_no},
    {"metrics prints the kit's metrics as they are", metrics},
    {"each error of the kit has a message and an exit status", answers_that_are_errors},
    {"the token is sent, and never printed", a_token_is_shown_and_never_told},
    {"a kit that cannot be reached, and wrong command lines, are explained", no_kit_at_all},
    {"a tunnel that cannot start says why", tunnels_that_cannot_even_start},
    {NULL, NULL},
};

int main(void) {
    io_ignore_sigpipe();
    setenv("XDG_CONFIG_HOME", "/dev/null", 1); /* nobody has logged in */
    return tap_main("cli, admin", tests);
}
