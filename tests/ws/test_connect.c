/* The opening handshake: pure, as a client against scripted servers, and both ends with a published library. */
#include "../ws_echo/echo.h"
#include "ws_peer.h"

#include <signal.h>
#include <stdio.h>
#include <sys/wait.h>

static struct io_loop *loop;

static void keys(void) {
    char a[WS_KEY_LEN + 1], b[WS_KEY_LEN + 1], accept[WS_ACCEPT_LEN + 1];
    ws_make_key(a);
    ws_make_key(b);
    CU_ASSERT(strlen(a) == WS_KEY_LEN && strcmp(a, b) != 0);
    ws_accept_for(ht_slice_str("dGhlIHNhbXBsZSBub25jZQ=="), accept); /* RFC 6455 1.3 */
    CU_ASSERT_STRING_EQUAL(accept, "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    struct ht_buf out = {0};
    CU_ASSERT_EQUAL(ws_write_101(&out, ht_slice_str("dGhlIHNhbXBsZSBub25jZQ=="), "p"), HT_OK);
    static const char want[] =
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        "Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\nSec-WebSocket-Protocol: p\r\n\r\n";
    CU_ASSERT(out.len == sizeof want - 1 && memcmp(out.data, want, out.len) == 0);
    ht_buf_free(&out);
}

#define KEY "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
#define UP "Host: h\r\nUpgrade: websocket\r\nConnection: keep-alive, Upgrade\r\n"
#define V13 "Sec-WebSocket-Version: 13\r\n"

static void requests_are_checked(void) {
    static const struct {
        const char *text;
        uint16_t status; /* 0: good */
        const char *protocols;
    } cases[] = {
        {"GET / HTTP/1.1\r\n" UP KEY V13 "\r\n", 0, ""},
        {"GET / HTTP/1.1\r\n" UP KEY V13 "Sec-WebSocket-Protocol: a, b\r\n\r\n", 0, "a, b"},
        {"GET / HTTP/1.1\r\n" UP KEY V13 "Sec-WebSocket-Protocol: a\r\nsec-websocket-protocol: b, c\r\n\r\n", 0,
         "a, b, c"},
        {"POST / HTTP/1.1\r\n" UP KEY V13 "\r\n", 405, NULL},
        {"GET / HTTP/1.0\r\n" UP KEY V13 "\r\n", 400, NULL},
        {"GET / HTTP/1.1\r\nHost: h\r\n" KEY V13 "\r\n", 426, NULL},
        {"GET / HTTP/1.1\r\nHost: h\r\nUpgrade: h2c\r\nConnection: Upgrade\r\n" KEY V13 "\r\n", 426, NULL},
        {"GET / HTTP/1.1\r\nHost: h\r\nUpgrade: websocket\r\nConnection: close\r\n" KEY V13 "\r\n", 426, NULL},
        {"GET / HTTP/1.1\r\n" UP KEY "\r\n", 426, NULL},
        {"GET / HTTP/1.1\r\n" UP KEY "Sec-WebSocket-Version: 8\r\n\r\n", 426, NULL},
        {"GET / HTTP/1.1\r\n" UP KEY V13 V13 "\r\n", 426, NULL},
        {"GET / HTTP/1.1\r\n" UP V13 "\r\n", 400, NULL},
        {"GET / HTTP/1.1\r\n" UP KEY KEY V13 "\r\n", 400, NULL},
        {"GET / HTTP/1.1\r\n" UP V13 "Sec-WebSocket-Key: short==\r\n\r\n", 400, NULL},
        {"GET / HTTP/1.1\r\n" UP V13 "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZX==\r\n\r\n", 400, NULL},
        {"GET / HTTP/1.1\r\n" UP V13 "Sec-WebSocket-Key: dGhlIHNhbXBsZSBu*25jZQ==\r\n\r\n", 400, NULL},
        {"GET / HTTP/1.1\r\n" UP KEY V13 "Content-Length: 5\r\n\r\nabcde", 400, NULL},
    };
    for (size_t i = 0; i < HT_ARRAY_LEN(cases); i++) {
        struct http_head h;
        struct http_error e = {0};
        struct ht_slice key, protocols;
        struct ht_buf scratch = {0};
        http_request_begin(&h, NULL);
        int n = http_head_parse(&h, cases[i].text, strlen(cases[i].text), &e);
        int rc = n > 0 ? ws_check_request(&h, cases[i].text, &key, &protocols, &scratch, &e) : n;
        if ((rc == HT_OK) != (cases[i].status == 0) || e.status != cases[i].status)
            printf("# request %zu: %d, status %u (%s)\n", i, rc, e.status, e.text ? e.text : "");
        CU_ASSERT_EQUAL(e.status, cases[i].status);
        CU_ASSERT_EQUAL(rc, cases[i].status ? HT_EPROTO : HT_OK);
        if (rc == HT_OK) {
            CU_ASSERT(ht_slice_is(protocols, cases[i].protocols));
            CU_ASSERT(ht_slice_is(key, "dGhlIHNhbXBsZSBub25jZQ=="));
        }
        ht_buf_free(&scratch);
    }
}

/* ---- a client against a server that says exactly this ---- */

struct script {
    struct io_listener *listener;
    struct io_conn *conn;
    const char *answer; /* %s stands for the right Sec-WebSocket-Accept; NULL: silence */
    bool keep_open, by_bytes;
    struct ht_buf request;
    uint16_t port;
};

static void script_readable(void *ctx) {
    struct script *s = ctx;
    uint8_t *to = ht_buf_reserve(&s->request, 4096);
    ssize_t n = to ? io_conn_read(s->conn, to, 4096) : HT_ENOMEM;
    if (n <= 0) {
        if (n != HT_EAGAIN)
            io_conn_close(&s->conn);
        return;
    }
    ht_buf_commit(&s->request, (size_t)n);
    buf_add(&s->request, "", 1);
    s->request.len--;
    const char *text = (const char *)s->request.data, *key = strstr(text, "Sec-WebSocket-Key: ");
    if (!key || !strstr(text, "\r\n\r\n") || !s->answer)
        return;
    char accept[WS_ACCEPT_LEN + 1], out[4000];
    ws_accept_for(ht_slice_of(key + 19, WS_KEY_LEN), accept);
    int len = snprintf(out, sizeof out, s->answer, accept);
    for (int at = 0; at < len;) {
        struct iovec v = {.iov_base = out + at, .iov_len = s->by_bytes ? 1 : (size_t)(len - at)};
        ssize_t k = io_conn_write(s->conn, &v, 1);
        if (k <= 0)
            break;
        at += (int)k;
    }
    if (s->keep_open)
        io_conn_read_on(s->conn, false);
    else
        io_conn_close_lingering(&s->conn, 1000);
}

static const struct io_conn_ops script_ops = {script_readable, echo_writable};

static void script_accepted(void *ctx, struct io_conn *c, const struct io_addr *peer) {
    struct script *s = ctx;
    (void)peer;
    io_conn_close(&s->conn); /* one at a time */
    s->conn = c;
    io_conn_set_ops(c, &script_ops, s);
    io_conn_read_on(c, true);
}

static const struct io_listener_ops script_listener_ops = {script_accepted, NULL};

struct outcome {
    int done, err;
    uint16_t status;
    uint64_t retry_ms;
    char text[600], protocol[100], early[100];
    struct io_conn *conn;
};

static void outcome_open(void *ctx, struct io_conn *conn, struct ht_slice protocol, struct ht_slice early) {
    struct outcome *o = ctx;
    o->done = 1;
    o->conn = conn;
    snprintf(o->protocol, sizeof o->protocol, "%.*s", HT_SLICE_ARG(protocol));
    snprintf(o->early, sizeof o->early, "%.*s", HT_SLICE_ARG(early));
}

static void outcome_failed(void *ctx, int err, uint16_t status, uint64_t retry_after_ms, const char *text) {
    struct outcome *o = ctx;
    o->done = 1;
    o->err = err;
    o->status = status;
    o->retry_ms = retry_after_ms;
    snprintf(o->text, sizeof o->text, "%s", text);
}

static const struct ws_connect_ops outcome_ops = {outcome_open, outcome_failed};

static struct ws_connect *connect_to(struct outcome *o, uint16_t port, uint64_t ms) {
    struct ws_connect_options opt = {.host = "127.0.0.1",
                                     .port = port,
                                     .host_field = "kit:50",
                                     .path = "/a/b?secret=1",
                                     .protocols = "one.v1, two.v1",
                                     .extra = "Authorization: Bearer token\r\n",
                                     .timeout_ms = ms};
    struct ht_errmsg e;
    *o = (struct outcome){0};
    return ws_connect_start(loop, &opt, &outcome_ops, o, &e);
}

static bool script_start(struct script *s) {
    struct io_addr a;
    struct ht_errmsg e;
    if (io_addr_parse(&a, "127.0.0.1", 0) != HT_OK ||
        io_listen(loop, &a, &script_listener_ops, s, &s->listener, &e) != HT_OK)
        return false;
    io_listener_local(s->listener, &a);
    s->port = io_addr_port(&a);
    return true;
}

static void script_stop(struct script *s) {
    io_conn_close(&s->conn);
    io_listener_close(&s->listener);
    ht_buf_free(&s->request);
}

#define SIXTY "yyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyy"
#define OK101 "HTTP/1.1 101 Switching Protocols\r\nUpgrade: WebSocket\r\nConnection: keep-alive, upgrade\r\n"

static void answers(void) {
    static const struct {
        const char *answer;
        int err;
        uint16_t status;
        uint64_t retry_ms;
        const char *text; /* of a failure, or the early bytes */
        const char *protocol;
    } cases[] = {
        {OK101 "Sec-WebSocket-Accept: %s\r\n\r\n", HT_OK, 0, 0, "", ""},
        {OK101 "Sec-WebSocket-Accept: %s\r\nSec-WebSocket-Protocol: two.v1\r\n\r\nearly", HT_OK, 0, 0, "early",
         "two.v1"},
        {"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n" OK101 "Sec-WebSocket-Accept: %s\r\n\r\n", HT_OK, 0, 0, "", ""},
        {OK101 "Sec-WebSocket-Accept: %s\r\nSec-WebSocket-Protocol: three\r\n\r\n", HT_EPROTO, 0, 0,
         "a subprotocol that was not offered", NULL},
        {OK101 "Sec-WebSocket-Accept: %s\r\nSec-WebSocket-Extensions: permessage-deflate\r\n\r\n", HT_EPROTO, 0, 0,
         "an extension that was not offered", NULL},
        {OK101 "Sec-WebSocket-Accept: AAAAAAAAAAAAAAAAAAAAAAAAAAA=\r\n\r\n", HT_EPROTO, 0, 0, "Sec-WebSocket-Accept",
         NULL},
        {OK101 "\r\n", HT_EPROTO, 0, 0, "Sec-WebSocket-Accept", NULL},
        {"HTTP/1.1 101 x\r\nConnection: upgrade\r\nUpgrade: h2c\r\nSec-WebSocket-Accept: %s\r\n\r\n", HT_EPROTO, 0, 0,
         "is not an upgrade", NULL},
        {"HTTP/1.1 101 x\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: %s\r\n\r\n", HT_EPROTO, 0, 0,
         "is not an upgrade", NULL},
        {"HTTP/1.1 401 Unauthorized\r\nContent-Length: 25\r\n\r\n{\"error\": \"wrong token!\"}and more", HT_EAUTH, 401,
         0, "answered 401 Unauthorized: {\"error\": \"wrong token!\"}", NULL},
        {"HTTP/1.1 503 x\r\nRetry-After: 7\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nwait\r\n6\r\n a bit\r\n0\r\n\r\n",
         HT_EPROTO, 503, 7000, "answered 503 Service Unavailable: wait a bit", NULL},
        {"HTTP/1.1 404 Not Found\r\n\r\n<html>\r\n\r\n<b>none</b>\001\033[31m", HT_EPROTO, 404, 0,
         "404 Not Found: a web page", NULL},
        {"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n\r\n<TITLE x>\n Hotel\033[31m\r\n  W\303\244rme </title><b>",
         HT_EPROTO, 200, 0, "answered 200 OK: a web page, \"Hotel\\x1b[31m W\303\244rme\"", NULL},
        {"HTTP/1.1 200 OK\r\n\r\n<!doctype HTML><title>" SIXTY SIXTY SIXTY, HT_EPROTO, 200, 0,
         "a web page, \"" SIXTY "yyy", NULL},
        {"HTTP/1.1 302 Found\r\nLocation: https://portal.test/login\342\200\256?token=secret\r\nContent-Length: "
         "0\r\n\r\n",
         HT_EPROTO, 302, 0, "answered 302 Found: it leads to https://portal.test/login\\u202e", NULL},
        {"HTTP/1.1 401 Unauthorized\r\nWWW-Authenticate: Basic realm=\"Staging\"\r\n\r\n", HT_EPROTO, 401, 0,
         "401 Unauthorized: it wants a login: Basic realm=\"Staging\"", NULL},
        {"HTTP/1.1 401 Unauthorized\r\nWWW-Authenticate: Bearer\r\n\r\n", HT_EAUTH, 401, 0, "401 Unauthorized", NULL},
        {"HTTP/1.1 407 x\r\nProxy-Authenticate: Negotiate\r\n\r\n", HT_EPROTO, 407, 0, "it wants a login: Negotiate",
         NULL},
        {"HTTP/1.1 204 No Content\r\n\r\n", HT_EPROTO, 204, 0, "answered 204 No Content", NULL},
        {"SSH-2.0-OpenSSH\r\n", HT_EPROTO, 0, 0, "the answer is not HTTP", NULL},
        {"", HT_ERESET, 0, 0, "closed the connection without an answer", NULL},
        {"HTTP/1.1 101 x\r\nUpgr", HT_ERESET, 0, 0, "closed the connection without an answer", NULL},
    };
    for (size_t i = 0; i < HT_ARRAY_LEN(cases) * 2; i++) {
        size_t k = i / 2;
        struct script s = {.answer = cases[k].answer, .by_bytes = i % 2};
        struct outcome o;
        /* An answer whose end is known must not need the connection's end. */
        s.keep_open = (cases[k].status == 401 && strstr(cases[k].answer, "Length")) ||
                      (cases[k].status == 503 && !s.by_bytes) || cases[k].status == 204;
        CU_ASSERT_FATAL(script_start(&s));
        CU_ASSERT(connect_to(&o, s.port, 5000) != NULL);
        CU_ASSERT(!o.done && loop_until(loop, &o.done, PATIENCE_MS));
        bool early_cut = s.by_bytes && o.conn; /* what comes behind the head may come later */
        bool ok = o.err == cases[k].err && o.status == cases[k].status && o.retry_ms == cases[k].retry_ms;
        ok = ok &&
             (o.err ? strstr(o.text, cases[k].text) != NULL && !strstr(o.text, "secret") && !strstr(o.text, "token\r")
                    : strcmp(o.protocol, cases[k].protocol) == 0 && (early_cut || strcmp(o.early, cases[k].text) == 0));
        if (!ok)
            printf("# answer %zu: %d %u %llu \"%s\" \"%s\" \"%s\"\n", k, o.err, o.status,
                   (unsigned long long)o.retry_ms, o.text, o.protocol, o.early);
        CU_ASSERT(ok);
        if (o.err)
            CU_ASSERT(strstr(o.text, "ws://kit:50/a/b:") != NULL);
        CU_ASSERT(strstr((char *)s.request.data, "GET /a/b?secret=1 HTTP/1.1\r\nHost: kit:50\r\n") != NULL);
        CU_ASSERT(strstr((char *)s.request.data, "\r\nAuthorization: Bearer token\r\n") != NULL);
        CU_ASSERT(strstr((char *)s.request.data, "\r\nSec-WebSocket-Protocol: one.v1, two.v1\r\n") != NULL);
        io_conn_close(&o.conn);
        script_stop(&s);
        loop_turns(loop, 3);
    }
}

static void timeouts_cancelling_and_bad_options(void) {
    struct script s = {.answer = NULL};
    struct outcome o;
    CU_ASSERT_FATAL(script_start(&s));
    CU_ASSERT(connect_to(&o, s.port, 60) != NULL);
    CU_ASSERT(loop_until(loop, &o.done, PATIENCE_MS));
    CU_ASSERT_EQUAL(o.err, HT_ETIMEDOUT);
    CU_ASSERT(strstr(o.text, "no answer within 60 ms") != NULL);
    struct ws_connect *c = connect_to(&o, s.port, 5000);
    ws_connect_cancel(&c);
    CU_ASSERT_PTR_NULL(c);
    ws_connect_cancel(&c);
    c = connect_to(&o, s.port, 5000);
    loop_turns(loop, 5);
    ws_connect_cancel(&c);
    loop_turns(loop, 3);
    CU_ASSERT_EQUAL(o.done, 0);
    uint16_t port = s.port;
    script_stop(&s);
    CU_ASSERT(connect_to(&o, port, 5000) != NULL);
    CU_ASSERT(loop_until(loop, &o.done, PATIENCE_MS));
    CU_ASSERT_EQUAL(o.err, HT_EREFUSED);
    CU_ASSERT(strstr(o.text, "cannot connect to 127.0.0.1:") == o.text);
    static const char *const bad[] = {"", "nothing", "/a b", "/a\r\nX: y"};
    for (size_t i = 0; i < HT_ARRAY_LEN(bad); i++) {
        struct ws_connect_options opt = {.host = "127.0.0.1", .host_field = "h", .path = bad[i], .timeout_ms = 10};
        struct ht_errmsg e;
        CU_ASSERT_PTR_NULL(ws_connect_start(loop, &opt, &outcome_ops, &o, &e));
    }
    for (long i = 0; i < 8; i++) {
        size_t live = ht_mem_live();
        struct script t = {.answer = OK101 "Sec-WebSocket-Accept: %s\r\n\r\n"};
        CU_ASSERT_FATAL(script_start(&t));
        ht_mem_fail_at(i);
        c = connect_to(&o, t.port, 300);
        if (c)
            CU_ASSERT(loop_until(loop, &o.done, PATIENCE_MS));
        ht_mem_fail_at(-1);
        io_conn_close(&o.conn);
        script_stop(&t);
        loop_turns(loop, 3);
        CU_ASSERT_EQUAL(ht_mem_live(), live);
    }
}

/* ---- a published library ---- */

static int child_ended;
static void on_child(struct io_signal *s, int signo) {
    (void)s;
    child_ended = signo;
}

static void a_published_library_talks_to_us(void) {
    struct echo_server server;
    struct io_addr a;
    struct ht_errmsg e;
    struct io_signal child;
    CU_ASSERT_EQUAL(io_addr_parse(&a, "127.0.0.1", 0), HT_OK);
    CU_ASSERT_FATAL(echo_start(&server, loop, &a, &e) == HT_OK);
    io_listener_local(server.listener, &a);
    char script[300], port[8];
    snprintf(script, sizeof script, "%.*sinterop.py", (int)(strrchr(__FILE__, '/') + 1 - __FILE__), __FILE__);
    snprintf(port, sizeof port, "%u", (unsigned)io_addr_port(&a));
    io_signal_start(loop, &child, SIGCHLD, on_child);
    pid_t pid = fork();
    if (pid == 0) {
        execl("/usr/bin/python3", "python3", script, port, (char *)NULL);
        _exit(77);
    }
    bool ended = loop_until(loop, &child_ended, 60000);
    CU_ASSERT(ended);
    if (!ended)
        kill(pid, SIGKILL);
    int status = -1;
    waitpid(pid, &status, 0);
    if (WIFEXITED(status) && WEXITSTATUS(status) == 77)
        printf("# SKIP: no python3 with the websockets library\n");
    else
        CU_ASSERT(WIFEXITED(status) && WEXITSTATUS(status) == 0 && server.served == 4);
    io_signal_stop(&child);
    echo_stop(&server);
    loop_turns(loop, 2);
}

int main(void) {
    alarm(120);
    io_ignore_sigpipe();
    loop = io_loop_create();
    static const struct tap_test tests[] = {
        {"the key of RFC 6455 gives its accept value", keys},
        {"requests are checked", requests_are_checked},
        {"only a correct 101 opens a WebSocket", answers},
        {"a connect can time out, be cancelled and refuse bad options", timeouts_cancelling_and_bad_options},
        {"a published library talks to us", a_published_library_talks_to_us},
        {NULL, NULL},
    };
    int rc = tap_main("ws connect", tests);
    loop_turns(loop, 2);
    io_loop_destroy(&loop);
    if (ht_mem_live() != 0) {
        printf("Bail out! %zu blocks left\n", ht_mem_live());
        return 1;
    }
    return rc;
}
