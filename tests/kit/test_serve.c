/* `hoody-tunnel serve` as a process: signals, the log, and what a service manager hears. */
#include "base/clock.h"
#include "kit/kit.h"
#include "proc/notify.h"
#include "support/tap.h"
#include "wire_gen.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

/* ---- the process, and the manager's socket ---- */

static struct {
    pid_t pid;
    int manager; /* a datagram socket */
    uint16_t port;
    char folder[64];
    char log[96], token[96];
    char heard[2048]; /* the last datagram */
} kit;

static void write_file(const char *name, const char *text) {
    FILE *f = fopen(name, "w");
    CU_ASSERT_PTR_NOT_NULL_FATAL(f);
    fputs(text, f);
    fclose(f);
}

/* Whether the file holds `word`. */
static bool file_has(const char *name, const char *word) {
    static char text[65536];
    FILE *f = fopen(name, "r");
    if (!f)
        return false;
    size_t n = fread(text, 1, sizeof text - 1, f);
    fclose(f);
    text[n] = '\0';
    return strstr(text, word) != NULL;
}

/* The next datagram; false when none comes in time. */
static bool hear(uint64_t patience_ms) {
    struct pollfd p = {.fd = kit.manager, .events = POLLIN};
    if (poll(&p, 1, (int)patience_ms) != 1)
        return false;
    ssize_t n = recv(kit.manager, kit.heard, sizeof kit.heard - 1, 0);
    kit.heard[n > 0 ? n : 0] = '\0';
    return n > 0;
}

/* Waits for a datagram that holds `line` as one of its lines. */
static bool hear_line(const char *line) {
    uint64_t end = ht_now_ms() + PATIENCE_MS;
    size_t len = strlen(line);
    while (ht_now_ms() < end && hear(PATIENCE_MS)) {
        for (const char *at = kit.heard; at && *at; at = strchr(at, '\n') ? strchr(at, '\n') + 1 : NULL)
            if (strncmp(at, line, len) == 0 && (at[len] == '\n' || at[len] == '\0'))
                return true;
    }
    printf("# %s was never heard\n", line);
    return false;
}

static void manager_open(bool abstract) {
    struct sockaddr_un a = {.sun_family = AF_UNIX};
    char name[sizeof a.sun_path];
    snprintf(name, sizeof name, "%s%s/notify", abstract ? "@" : "", kit.folder);
    kit.manager = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    CU_ASSERT_FATAL(kit.manager >= 0);
    memcpy(a.sun_path, name, strlen(name));
    socklen_t len = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + strlen(name) + !abstract);
    if (abstract)
        a.sun_path[0] = '\0';
    CU_ASSERT_EQUAL_FATAL(bind(kit.manager, (struct sockaddr *)&a, len), 0);
    setenv("NOTIFY_SOCKET", name, 1);
}

/* Starts it with `more` (NULL-terminated) behind the usual arguments, and waits for READY=1. */
static void serve_start(bool abstract, const char *const *more) {
    char *argv[24] = {(char *)"--listen", (char *)"127.0.0.1:0", (char *)"--log-file", kit.log};
    int argc = 4;
    memset(&kit, 0, sizeof kit);
    snprintf(kit.folder, sizeof kit.folder, "%s", P_tmpdir "/serve-XXXXXX");
    CU_ASSERT_PTR_NOT_NULL_FATAL(mkdtemp(kit.folder));
    snprintf(kit.log, sizeof kit.log, "%s/log", kit.folder);
    snprintf(kit.token, sizeof kit.token, "%s/token", kit.folder);
    manager_open(abstract);
    for (; *more; more++)
        argv[argc++] = strcmp(*more, "TOKEN") == 0 ? kit.token : (char *)(uintptr_t)*more;
    write_file(kit.token, "sesame\n");
    fflush(stdout);
    kit.pid = fork();
    CU_ASSERT_FATAL(kit.pid >= 0);
    if (kit.pid == 0) {
        close(kit.manager);
        _exit(kit_main(argc, argv));
    }
    CU_ASSERT_FATAL(hear_line("READY=1"));
    const char *status = strstr(kit.heard, "STATUS=listening on 127.0.0.1:");
    CU_ASSERT_PTR_NOT_NULL_FATAL(status);
    kit.port = (uint16_t)strtoul(status + strlen("STATUS=listening on 127.0.0.1:"), NULL, 10);
    CU_ASSERT(kit.port > 0);
}

/* Its exit status, and nothing left behind. */
static int serve_wait(void) {
    int status = -1;
    uint64_t end = ht_now_ms() + PATIENCE_MS;
    while (waitpid(kit.pid, &status, WNOHANG) == 0 && ht_now_ms() < end)
        (void)hear(20);
    if (ht_now_ms() >= end) {
        kill(kit.pid, SIGKILL);
        waitpid(kit.pid, &status, 0);
    }
    close(kit.manager);
    unsetenv("NOTIFY_SOCKET");
    unsetenv("WATCHDOG_USEC");
    unsetenv("WATCHDOG_PID");
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

static void serve_clean(void) {
    static const char *const names[] = {"log", "log.1", "token", "notify"};
    char path[192];
    for (size_t i = 0; i < HT_ARRAY_LEN(names); i++) {
        snprintf(path, sizeof path, "%s/%s", kit.folder, names[i]);
        unlink(path);
    }
    CU_ASSERT_EQUAL(rmdir(kit.folder), 0);
}

/* ---- somebody who asks ---- */

static int connect_to(uint16_t port) {
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons(port), .sin_addr = {htonl(INADDR_LOOPBACK)}};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    CU_ASSERT_FATAL(fd >= 0);
    CU_ASSERT_EQUAL_FATAL(connect(fd, (struct sockaddr *)&a, sizeof a), 0);
    struct timeval patience = {.tv_sec = PATIENCE_MS / 1000};
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    return fd;
}

/* Reads until `word` is there; what came is in `text`. */
static bool read_until(int fd, char *text, size_t cap, const char *word) {
    size_t n = 0;
    while (n < cap - 1) {
        ssize_t got = recv(fd, text + n, cap - 1 - n, 0);
        if (got <= 0)
            break;
        n += (size_t)got;
        text[n] = '\0';
        if (memmem(text, n, word, strlen(word)))
            return true;
    }
    return false;
}

static void say(int fd, const void *p, size_t n) { CU_ASSERT_EQUAL_FATAL(send(fd, p, n, MSG_NOSIGNAL), (ssize_t)n); }

static int ask(const char *path, const char *token) {
    char request[512], answer[8192] = "";
    int fd = connect_to(kit.port), status = 0;
    snprintf(request, sizeof request,
             "GET %s HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer %s\r\nConnection: close\r\n\r\n", path,
             token);
    say(fd, request, strlen(request));
    (void)read_until(fd, answer, sizeof answer, "\r\n\r\n");
    close(fd);
    sscanf(answer, "HTTP/1.1 %d", &status);
    return status;
}

#define SESSIONS "/api/v1/tunnel/sessions"

/* One frame in a masked binary message (RFC 6455 5.2; the mask is zero). */
static void say_frame(int fd, uint8_t type, const char *json) {
    uint8_t m[256] = {0x82};
    size_t head = 6, len = WIRE_LIMIT_HEADER + strlen(json);
    CU_ASSERT_FATAL(len < 126); /* so that the length fits the first byte */
    m[1] = (uint8_t)(0x80 | len);
    wire_encode_header(m + head, type, 0, (uint32_t)strlen(json));
    memcpy(m + head + WIRE_LIMIT_HEADER, json, strlen(json));
    say(fd, m, head + len);
}

/* A driver that has bound a port, and a visitor who waits there for ever. */
static void hang_a_visitor(int *driver, int *visitor) {
    static const char upgrade[] = "GET " WIRE_CONNECT_PATH " HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\n"
                                  "Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
                                  "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
                                  "Sec-WebSocket-Protocol: " WIRE_SUBPROTOCOL_V1 "\r\n\r\n";
    char text[8192];
    *driver = connect_to(kit.port);
    say(*driver, upgrade, strlen(upgrade));
    CU_ASSERT_FATAL(read_until(*driver, text, sizeof text, "\r\n\r\n"));
    say_frame(*driver, WIRE_HELLO, "{\"version\":\"" WIRE_SUBPROTOCOL_V1 "\",\"capabilities\":[]}");
    CU_ASSERT_FATAL(read_until(*driver, text, sizeof text, "sessionId"));
    say_frame(*driver, WIRE_BIND, "{\"clientBindRef\":1,\"kind\":\"http\",\"mode\":\"expose\"}");
    CU_ASSERT_FATAL(read_until(*driver, text, sizeof text, "publicUrl"));
    const char *port = memmem(text, sizeof text, "\"containerPort\":", 16);
    CU_ASSERT_PTR_NOT_NULL_FATAL(port);
    *visitor = connect_to((uint16_t)strtoul(port + 16, NULL, 10));
    static const char get[] = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";
    say(*visitor, get, strlen(get));
    CU_ASSERT_FATAL(read_until(*driver, text, sizeof text, "isUpgrade"));
}

/* ---- the tests ---- */

static void sigterm_drains_and_tells(void) {
    static const char *const none[] = {NULL};
    for (int abstract = 0; abstract < 2; abstract++) {
        serve_start(abstract, none);
        CU_ASSERT_EQUAL(ask("/readyz", ""), 200);
        CU_ASSERT_EQUAL(kill(kit.pid, SIGTERM), 0);
        CU_ASSERT(hear_line("STOPPING=1"));
        CU_ASSERT_PTR_NOT_NULL(strstr(kit.heard, "\nEXTEND_TIMEOUT_USEC="));
        CU_ASSERT_PTR_NOT_NULL(strstr(kit.heard, "\nSTATUS=draining"));
        CU_ASSERT_EQUAL(serve_wait(), OPT_EXIT_OK);
        CU_ASSERT(file_has(kit.log, "drained, bye"));
        serve_clean();
    }
}

/* Both are there before it can do anything about the first. */
static void signal_twice_at_once(void) {
    int status;
    CU_ASSERT_EQUAL(kill(kit.pid, SIGSTOP), 0);
    CU_ASSERT_EQUAL(waitpid(kit.pid, &status, WUNTRACED), kit.pid);
    CU_ASSERT(WIFSTOPPED(status));
    CU_ASSERT_EQUAL(kill(kit.pid, SIGTERM), 0);
    CU_ASSERT_EQUAL(kill(kit.pid, SIGINT), 0);
    CU_ASSERT_EQUAL(kill(kit.pid, SIGCONT), 0);
}

static void a_second_request_does_not_wait(void) {
    static const char *const args[] = {"--drain-timeout", "10m", NULL};
    int driver, visitor;
    serve_start(false, args);
    hang_a_visitor(&driver, &visitor);
    signal_twice_at_once();
    CU_ASSERT(hear_line("STOPPING=1"));
    CU_ASSERT_EQUAL(ask("/readyz", ""), 503); /* it drains, and would for ten minutes */
    CU_ASSERT_FALSE(file_has(kit.log, "second signal"));
    uint64_t start = ht_now_ms();
    while (!file_has(kit.log, "second signal") && ht_now_ms() - start < PATIENCE_MS)
        CU_ASSERT_EQUAL(kill(kit.pid, SIGTERM), 0); /* for half a second these belong to the first */
    CU_ASSERT_EQUAL(serve_wait(), OPT_EXIT_OK);
    CU_ASSERT(ht_now_ms() - start < PATIENCE_MS);
    CU_ASSERT(file_has(kit.log, "second signal"));
    close(driver);
    close(visitor);
    serve_clean();
}

static void reload(void) {
    CU_ASSERT_EQUAL(kill(kit.pid, SIGHUP), 0);
    CU_ASSERT(hear_line("RELOADING=1"));
    CU_ASSERT_PTR_NOT_NULL(strstr(kit.heard, "\nMONOTONIC_USEC="));
    CU_ASSERT(hear_line("READY=1"));
}

static void sighup_reopens_the_log_and_reads_the_token(void) {
    static const char *const args[] = {"--token-file", "TOKEN", "--log-format", "json", NULL};
    char rotated[128];
    serve_start(false, args);
    CU_ASSERT_EQUAL(ask(SESSIONS, "sesame"), 200);
    snprintf(rotated, sizeof rotated, "%s.1", kit.log);
    CU_ASSERT_EQUAL(rename(kit.log, rotated), 0);
    write_file(kit.token, "tahini\n");
    CU_ASSERT_EQUAL(ask(SESSIONS, "sesame"), 200); /* not before it is asked to look */
    reload();
    CU_ASSERT(file_has(rotated, "listening on"));
    CU_ASSERT_FALSE(file_has(rotated, "reloaded"));
    CU_ASSERT(
        file_has(kit.log, "\"message\":\"SIGHUP: reloaded; the token has changed; sessions of the old one end\"}"));
    reload();
    CU_ASSERT(file_has(kit.log, "\"message\":\"SIGHUP: reloaded; the token is the same\"}"));
    CU_ASSERT_EQUAL(ask(SESSIONS, "sesame"), 401);
    CU_ASSERT_EQUAL(ask(SESSIONS, "tahini"), 200);
    /* A file that cannot be used changes nothing but the log. */
    static const char *const bad[] = {"", "\nsesame\n", "   \n", NULL};
    for (size_t i = 0; i < HT_ARRAY_LEN(bad); i++) {
        unlink(kit.token);
        if (bad[i])
            write_file(kit.token, bad[i]);
        write_file(kit.log, "");
        reload();
        CU_ASSERT(file_has(kit.log, "\"level\":\"error\""));
        CU_ASSERT(file_has(kit.log, "the old token stays in force"));
        CU_ASSERT_EQUAL(ask(SESSIONS, "tahini"), 200);
        CU_ASSERT_EQUAL(ask(SESSIONS, ""), 401);
    }
    /* Neither does a log that cannot be opened. */
    unlink(kit.log);
    CU_ASSERT_EQUAL(mkdir(kit.log, 0700), 0);
    reload();
    CU_ASSERT_EQUAL(rmdir(kit.log), 0);
    CU_ASSERT_EQUAL(ask(SESSIONS, "tahini"), 200);
    CU_ASSERT_EQUAL(kill(kit.pid, SIGTERM), 0);
    CU_ASSERT_EQUAL(serve_wait(), OPT_EXIT_OK);
    serve_clean();
}

/* A token that was taken back opens nothing any more; one that only was read again changes nothing. */
static void a_session_ends_with_the_token_it_came_with(void) {
    static const char *const args[] = {"--token-file", "TOKEN", NULL};
    char text[8192];
    serve_start(false, args);
    int fd = connect_to(kit.port);
    static const char upgrade[] = "GET " WIRE_CONNECT_PATH " HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\n"
                                  "Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
                                  "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nAuthorization: Bearer sesame\r\n"
                                  "Sec-WebSocket-Protocol: " WIRE_SUBPROTOCOL_V1 "\r\n\r\n";
    say(fd, upgrade, strlen(upgrade));
    CU_ASSERT(read_until(fd, text, sizeof text, "\r\n\r\n"));
    say_frame(fd, WIRE_HELLO, "{\"version\":\"" WIRE_SUBPROTOCOL_V1 "\",\"capabilities\":[]}");
    CU_ASSERT(read_until(fd, text, sizeof text, "sessionId"));
    reload();
    say_frame(fd, WIRE_BIND, "{\"clientBindRef\":1,\"kind\":\"http\",\"mode\":\"expose\"}");
    CU_ASSERT(read_until(fd, text, sizeof text, "publicUrl"));
    write_file(kit.token, "tahini\n");
    reload();
    CU_ASSERT(read_until(fd, text, sizeof text, WIRE_GOAWAY_AUTH_MESSAGE));
    close(fd);
    CU_ASSERT_EQUAL(kill(kit.pid, SIGTERM), 0);
    CU_ASSERT_EQUAL(serve_wait(), OPT_EXIT_OK);
    serve_clean();
}

static void the_watchdog_is_fed(void) {
    static const char *const none[] = {NULL};
    setenv("WATCHDOG_USEC", "200000", 1);
    serve_start(false, none);
    for (int i = 0; i < 4; i++)
        CU_ASSERT(hear_line("WATCHDOG=1"));
    CU_ASSERT_EQUAL(kill(kit.pid, SIGTERM), 0);
    CU_ASSERT_EQUAL(serve_wait(), OPT_EXIT_OK);
    serve_clean();
}

static void the_managers_variables_are_checked(void) {
    static const char *const bad[] = {"notify", "/", "@", "tcp:1"};
    struct proc_notify n;
    struct ht_errmsg err;
    unsetenv("NOTIFY_SOCKET");
    CU_ASSERT_EQUAL(proc_notify_open(&n, &err), 0);
    CU_ASSERT_FALSE(proc_notify_wanted(&n));
    CU_ASSERT_EQUAL(proc_notify_send(&n, "READY=1"), 0);
    for (size_t i = 0; i < HT_ARRAY_LEN(bad); i++) {
        setenv("NOTIFY_SOCKET", bad[i], 1);
        CU_ASSERT_EQUAL(proc_notify_open(&n, &err), HT_EINVAL);
        CU_ASSERT_FALSE(proc_notify_wanted(&n));
    }
    char longest[sizeof n.addr.sun_path + 8];
    memset(longest, 'x', sizeof longest - 1);
    longest[0] = '/';
    longest[sizeof longest - 1] = '\0';
    setenv("NOTIFY_SOCKET", longest, 1);
    CU_ASSERT_EQUAL(proc_notify_open(&n, &err), HT_EINVAL);
    setenv("NOTIFY_SOCKET", "/nowhere/at/all", 1);
    CU_ASSERT_EQUAL(proc_notify_open(&n, &err), 0);
    CU_ASSERT_EQUAL(proc_notify_send(&n, "READY=1"), HT_EIO); /* nobody is there */
    proc_notify_close(&n);
    unsetenv("NOTIFY_SOCKET");

    static const struct {
        const char *usec;
        uint64_t ms;
    } rows[] = {{"30000000", 30000}, {"0", 0}, {"", 0}, {"-5", 0}, {"5x", 0}, {"99999999999999999999999", 0}};
    for (size_t i = 0; i < HT_ARRAY_LEN(rows); i++) {
        setenv("WATCHDOG_USEC", rows[i].usec, 1);
        CU_ASSERT_EQUAL(proc_notify_watchdog_ms(), rows[i].ms);
    }
    setenv("WATCHDOG_USEC", "30000000", 1);
    setenv("WATCHDOG_PID", "1", 1);
    CU_ASSERT_EQUAL(proc_notify_watchdog_ms(), 0);
    char pid[32];
    snprintf(pid, sizeof pid, "%ld", (long)getpid());
    setenv("WATCHDOG_PID", pid, 1);
    CU_ASSERT_EQUAL(proc_notify_watchdog_ms(), 30000);
    unsetenv("WATCHDOG_PID");
    unsetenv("WATCHDOG_USEC");
}

int main(void) {
    static const struct tap_test tests[] = {
        {"SIGTERM drains, and tells", sigterm_drains_and_tells},
        {"two signals at once are one request to end, a later one does not wait", a_second_request_does_not_wait},
        {"SIGHUP reopens the log and reads the token", sighup_reopens_the_log_and_reads_the_token},
        {"a session ends with the token it came with", a_session_ends_with_the_token_it_came_with},
        {"the watchdog is fed", the_watchdog_is_fed},
        {"the manager's variables are checked", the_managers_variables_are_checked},
        {NULL, NULL},
    };
    return tap_main("serve", tests);
}
