/*
 * Each system call of the guard fails once in each scenario, in every way that its manual page knows
 * (support/failing.h). What is only an inconvenience is not seen by anybody. What is a failure costs at most the
 * connection, visibly; no secret gets to the container, each request that was begun is told to its end, the next one is
 * served, and nothing is left behind. The service is a process of its own, which nothing happens to.
 *
 * Runs: sanitized.
 */
#include "guard/guard_rig.h"

#include <netinet/in.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>

static bool guard_runs;
#define FAILING_NOW guard_runs
#include "support/failing.h"

/* ---- the service ---- */

static uint16_t port;

/* False: it is over. */
static bool service_answers(int fd) {
    static char in[1 << 16];
    ssize_t n = recv(fd, in, sizeof in - 1, 0);
    in[n > 0 ? n : 0] = '\0';
    const char *says = strstr(in, "upgrade:") ? "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: "
                                                "websocket\r\nX-Echo: " CANARY "\r\n\r\nhello"
                                              : "HTTP/1.1 200 OK\r\nX-Echo: " CANARY
                                                "\r\nContent-Length: 5\r\n\r\nhello";
    if (strstr(in, "HTTP/1.1\r\n"))
        (void)!write(fd, says, strlen(says));
    return n > 0;
}

static pid_t service_begin(void) {
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof at;
    int listener = socket(AF_INET, SOCK_STREAM, 0);
    if (bind(listener, (struct sockaddr *)&at, len) < 0 || listen(listener, 128) < 0 ||
        getsockname(listener, (struct sockaddr *)&at, &len) < 0)
        return -1;
    port = ntohs(at.sin_port);
    pid_t pid = fork();
    if (pid != 0) {
        close(listener);
        return pid;
    }
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    struct pollfd fds[512] = {{.fd = listener, .events = POLLIN}};
    nfds_t n = 1;
    for (;;) {
        poll(fds, n, -1);
        for (nfds_t i = n; i-- > 1;)
            if (fds[i].revents && !service_answers(fds[i].fd)) {
                close(fds[i].fd);
                fds[i] = fds[--n];
            }
        if (fds[0].revents && n < HT_ARRAY_LEN(fds))
            fds[n++] = (struct pollfd){.fd = accept4(listener, NULL, NULL, 0), .events = POLLIN};
    }
}

/* ---- the scenarios: true when all went as it does when nothing is in the way ---- */

static bool harmless;

/*
 * Whatever fails, it is an answer or an end. What could not be sent to a service may have been enough for it: then it
 * is the time for an answer that ends it.
 */
#define SILENCE_MS 500

static void next_turn(uint64_t *since) {
    one_turn();
    *since = *since ? *since : ht_now_ms();
    if (guard_runs && fault.hit && !harmless && ht_now_ms() - *since > SILENCE_MS) {
        ht_clock_skip((WIRE_LIMIT_RESPONSE_TIMEOUT + 1000) * UINT64_C(1000));
        *since = ht_now_ms();
    }
}

static bool answered(struct call *c, const char *what) {
    uint64_t since = 0;
    while (!c->closes && !c->eofs && !strstr(call_body(c), what) && !strstr(call_body(c), "HTTP/1.1 50"))
        next_turn(&since);
    return strstr(call_body(c), what) != NULL;
}

static void leave(struct call *c) {
    CU_ASSERT_PTR_NULL(strstr(call_body(c), CANARY));
    if (c->st)
        mux_stream_reset(c->st, WIRE_CODE_CANCEL, "");
    mux_stream_release(&c->st);
}

static bool a_request(void) {
    struct call *c = connection(1, "POST /v1/a HTTP/1.1\r\nHost: api.test\r\nContent-Length: 4\r\n\r\nbody");
    bool good = answered(c, "\r\n\r\nhello") && strstr(call_body(c), "HTTP/1.1 200 OK\r\n");
    leave(c);
    return good;
}

static bool a_refusal(void) {
    struct call *c = connection(1, GET("/v2"));
    bool good = answered(c, "no rule of `allow`") && strstr(call_body(c), "HTTP/1.1 403 ");
    leave(c);
    return good;
}

static bool an_upgrade(void) {
    struct call *c =
        connection(1, "GET /v1/ws HTTP/1.1\r\nHost: api.test\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n");
    bool good = answered(c, "\r\n\r\nhello") && strstr(call_body(c), "HTTP/1.1 101 ");
    leave(c);
    return good;
}

static bool with_tls(void) {
    struct client k;
    char answer[2048] = "";
    asked = 443;
    client_begin(&k, guard_host_ca(host), "api.test");
    bool good = false, over = false;
    size_t have = 0;
    uint64_t since = 0;
    while (!good && !over) {
        over = (k.c->closes || k.c->eofs) && ht_buf_size(&k.c->body) == 0;
        good = SSL_do_handshake(k.ssl) == 1;
        client_carry(&k);
        next_turn(&since);
    }
    if (good)
        SSL_write(k.ssl, GET("/v1/tls"), (int)strlen(GET("/v1/tls")));
    while (good && !over && !strstr(answer, "hello") && !strstr(answer, "HTTP/1.1 50")) {
        over = (k.c->closes || k.c->eofs) && ht_buf_size(&k.c->body) == 0;
        client_carry(&k);
        next_turn(&since);
        int n = SSL_read(k.ssl, answer + have, (int)(sizeof answer - 1 - have));
        have += n > 0 ? (size_t)n : 0;
        answer[have] = '\0';
    }
    good = good && strstr(answer, "hello");
    CU_ASSERT_PTR_NULL(strstr(answer, CANARY));
    client_end(&k);
    leave(k.c);
    asked = 80;
    return good;
}

static const struct {
    const char *name;
    bool (*run)(void);
} scenarios[] = {
    {"a request", a_request}, {"a refusal", a_refusal}, {"an upgrade", an_upgrade}, {"with TLS", with_tls}};

/* ---- what may go wrong ---- */

static const struct failing_kind kinds[] = {
    {RECV, EINTR, true},
    {RECV, SHORT, true},
    {RECV, EAGAIN, true},
    {RECV, ECONNRESET, false},
    {RECV, ENOMEM, false},
    {SENDMSG, EINTR, true},
    {SENDMSG, SHORT, true},
    {SENDMSG, EAGAIN, true},
    {SENDMSG, EPIPE, false},
    {SENDMSG, ENOBUFS, false},
    {SOCKET, EMFILE, false},
    {SOCKETPAIR, EMFILE, false},
    {SOCKETPAIR, ENOBUFS, false},
    {CONNECT, EINTR, true},
    {CONNECT, ECONNREFUSED, false},
    {CONNECT, EADDRNOTAVAIL, false},
    {EPOLL_WAIT, EINTR, true},
    {SHUTDOWN, ENOTCONN, false},
    {SETSOCKOPT, ENOBUFS, false},
    {GETSOCKOPT, ENOBUFS, false},
    {GETPEERNAME, ENOTCONN, false},
    {OPEN, EMFILE, false},
    {OPEN, EACCES, false},
    {READ, EINTR, true},
    {READ, SHORT, true},
    {READ, EIO, false},
};

static char path[] = P_tmpdir "/guard-faults-XXXXXX", value[64];

static bool write_secret(void) {
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    bool good = fd >= 0 && write(fd, CANARY "\n", sizeof CANARY) == sizeof CANARY;
    close(fd);
    return good;
}

static bool run_once(size_t which, const struct failing_kind *kind, long at, bool *good) {
    static const char *const allow[] = {"* /v1/*"};
    const char *const one = value;
    begin();
    io_listener_close(&rig.listener); /* the service is another process */
    struct guard_host_config cfg = config("api.test");
    cfg.target_port = port;
    cfg.spoken = GUARD_PLAIN;
    cfg.policy.header_values = &one;
    cfg.policy.allow = allow;
    cfg.policy.n_allow = 1;
    host = add(&cfg);
    CU_ASSERT_EQUAL(unlink(path), 0);
    CU_ASSERT_FATAL(write_secret()); /* another file: it is read again */
    fault_arm(kind, at);
    harmless = kind->harmless;
    if (getenv("HT_TEST_LOG"))
        printf("# %s: call %d, error %d, the %ldth\n", scenarios[which].name, kind->call, kind->err, at);
    guard_runs = true;
    *good = scenarios[which].run();
    guard_runs = false;
    bool hit = fault_disarm();
    bool works = scenarios[which].run();
    CU_ASSERT(works);
    if (!works)
        printf("# %s: call %d, error %d, the %ldth: no recovery\n", scenarios[which].name, kind->call, kind->err, at);
    UNTIL(n_begun == n_ended);
    CU_ASSERT_PTR_NULL(strstr(notes, CANARY));
    CU_ASSERT_PTR_NULL(strstr(troubles, CANARY));
    end();
    return hit;
}

static void every_call_may_fail(void) {
    struct failing_sums sums = {0, 0, 0};
    for (size_t which = 0; which < HT_ARRAY_LEN(scenarios); which++)
        for (size_t kind = 0; kind < HT_ARRAY_LEN(kinds); kind++)
            fail_each_call(&sums, which, scenarios[which].name, &kinds[kind], 100, run_once);
    printf("# %u faults, %u of them seen by somebody\n", sums.total, sums.seen);
    CU_ASSERT_EQUAL(sums.bad, 0);
    CU_ASSERT(sums.total > 200);
    CU_ASSERT(sums.seen > 20);
}

int main(void) {
    static const struct tap_test tests[] = {
        {"every call may fail", every_call_may_fail},
        {NULL, NULL},
    };
    io_ignore_sigpipe();
    pid_t service = service_begin();
    int fd = mkstemp(path);
    if (service < 0 || fd < 0 || !write_secret())
        return 1;
    close(fd);
    snprintf(value, sizeof value, "Bearer ${file:%s}", path);
    int rc = tap_main("guard: failing system calls", tests);
    unlink(path);
    kill(service, SIGKILL);
    waitpid(service, NULL, 0);
    return rc;
}
