/* The small client, and a server that answers by hand. */
#include "web_rig.h"

#include <arpa/inet.h>
#include <netinet/in.h>

static int listener;
static struct web_ask ask;

static struct {
    struct web_request *r;
    int fd; /* the server's end */
    int heads, done, rc, ended, piece_says;
    uint16_t status;
    char request[2048], body[4096], why[256];
    size_t n_body;
} w;

static void on_head(void *ctx, uint16_t status) {
    (void)ctx;
    w.heads++;
    w.status = status;
}

static int on_piece(void *ctx, struct ht_slice piece) {
    (void)ctx;
    CU_ASSERT(piece.n > 0 && w.n_body + piece.n < sizeof w.body);
    memcpy(w.body + w.n_body, piece.p, piece.n);
    w.n_body += piece.n;
    return w.piece_says;
}

static void on_done(void *ctx, int rc, const char *why) {
    (void)ctx;
    w.done++;
    w.rc = rc;
    snprintf(w.why, sizeof w.why, "%s", why);
}

static const struct web_request_ops ops = {on_head, on_piece, on_done};

/* Asks, and takes the whole request. */
static void begin(void) {
    struct ht_errmsg err;
    size_t n = 0;
    memset(&w, 0, sizeof w);
    CU_ASSERT_EQUAL_FATAL(web_request_start(&w.r, loop, &ask, &ops, NULL, &err), HT_OK);
    while ((w.fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)) < 0 && !w.done)
        loop_turns(loop, 1);
    while (!strstr(w.request, "\r\n\r\n") && !w.done) {
        loop_turns(loop, 1);
        n = peer_read(w.fd, w.request, sizeof w.request, n, &w.ended);
    }
}

static void say(const char *p, size_t n) {
    peer_write(w.fd, p, n);
    loop_turns(loop, 2);
}

static void hang_up(void) { CU_ASSERT_EQUAL(shutdown(w.fd, SHUT_WR), 0); }

static void await_end(void) {
    CU_ASSERT(loop_until(loop, &w.done, PATIENCE_MS));
    CU_ASSERT_EQUAL(w.done, 1);
}

static void end(void) {
    web_request_destroy(&w.r);
    close(w.fd);
}

/* ---- tests ---- */

static void what_it_asks(void) {
    begin();
    char want[256];
    snprintf(want, sizeof want, "GET /a?b HTTP/1.1\r\nhost: %s\r\naccept: */*\r\nconnection: close\r\n\r\n",
             ask.host_field);
    CU_ASSERT_STRING_EQUAL(w.request, want);
    end();
    struct web_ask plain = ask;
    ask.method = "DELETE";
    ask.user_agent = "test/1";
    ask.token = "s3cret";
    begin();
    snprintf(want, sizeof want,
             "DELETE /a?b HTTP/1.1\r\nhost: %s\r\nuser-agent: test/1\r\naccept: */*\r\nconnection: close\r\n"
             "authorization: Bearer s3cret\r\n\r\n",
             ask.host_field);
    CU_ASSERT_STRING_EQUAL(w.request, want);
    end();
    ask = plain;
}

static void answers_split_at_every_byte(void) {
    static const struct {
        const char *answer;
        bool closes;
    } rows[] = {
        {"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello", false},
        {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhe\r\n3;x=y\r\nllo\r\n0\r\nA: b\r\n\r\n", false},
        {"HTTP/1.1 103 Early\r\nA: b\r\n\r\nHTTP/1.0 200 OK\r\n\r\nhello", true},
    };
    for (size_t i = 0; i < HT_ARRAY_LEN(rows); i++) {
        size_t n = strlen(rows[i].answer);
        for (size_t at = 0; at < n; at++) {
            begin();
            if (at)
                say(rows[i].answer, at);
            say(rows[i].answer + at, n - at);
            if (rows[i].closes)
                hang_up();
            await_end();
            CU_ASSERT(w.rc == HT_OK && w.heads == 1 && w.status == 200);
            CU_ASSERT(w.n_body == 5 && memcmp(w.body, "hello", 5) == 0);
            end();
        }
    }
}

static void answers_without_a_body(void) {
    static const char *const rows[] = {
        "HTTP/1.1 204 No Content\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
        "HTTP/1.1 304 Not Modified\r\nContent-Length: 7\r\n\r\n",
    };
    for (size_t i = 0; i < HT_ARRAY_LEN(rows); i++) {
        begin();
        say(rows[i], strlen(rows[i]));
        await_end();
        CU_ASSERT(w.rc == HT_OK && w.heads == 1 && w.n_body == 0);
        end();
    }
}

static void answers_that_are_none(void) {
    static const struct {
        const char *answer;
        int rc;
        const char *why;
    } rows[] = {
        {"", HT_ECLOSED, "before the answer was complete"},
        {"HTTP/1.1 200 OK\r\n", HT_ECLOSED, "before the answer was complete"},
        {"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhell", HT_ECLOSED, "before the answer was complete"},
        {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n", HT_ECLOSED, "was complete"},
        {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", HT_EPROTO, "127.0.0.1:"},
        {"220 mail.example\r\n\r\n", HT_EPROTO, "127.0.0.1:"},
    };
    for (size_t i = 0; i < HT_ARRAY_LEN(rows); i++) {
        begin();
        say(rows[i].answer, strlen(rows[i].answer));
        hang_up();
        await_end();
        CU_ASSERT_EQUAL(w.rc, rows[i].rc);
        CU_ASSERT_PTR_NOT_NULL(strstr(w.why, rows[i].why));
        end();
    }
    begin();
    w.piece_says = HT_ELIMIT; /* whoever asked has enough */
    say("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhe", 40);
    await_end();
    CU_ASSERT(w.rc == HT_ELIMIT && strstr(w.why, "too long"));
    say("llo", 3);
    CU_ASSERT(w.done == 1 && w.n_body == 2);
    end();
}

static void time_limits(void) {
    struct web_ask plain = ask;
    ask.timeout_ms = 50;
    begin();
    await_end();
    CU_ASSERT_EQUAL(w.rc, HT_ETIMEDOUT);
    end();
    ask.timeout_ms = PATIENCE_MS;
    ask.quiet_ms = 1;
    begin(); /* an answer without an end may last, but not be silent */
    say("HTTP/1.1 200 OK\r\n\r\nhello", 24);
    await_end();
    CU_ASSERT(w.rc == HT_ETIMEDOUT && w.heads == 1 && strstr(w.why, "stopped sending"));
    end();
    ask = plain;
}

static void nobody_there(void) {
    struct ht_errmsg err;
    struct web_answer answer;
    struct web_ask there = ask;
    there.port = 1;
    CU_ASSERT(web_fetch(&there, &answer, &err) < 0);
    CU_ASSERT_PTR_NOT_NULL(strstr(err.text, "refused"));
    CU_ASSERT_PTR_NULL(answer.body.data);
    there.tls = true;
    there.ca = "/nonexistent";
    CU_ASSERT_EQUAL(web_fetch(&there, &answer, &err), HT_ETLS);
    there = ask;
    there.path = "/a b";
    CU_ASSERT_EQUAL(web_request_start(&w.r, loop, &there, &ops, NULL, &err), HT_EINVAL);
    CU_ASSERT_PTR_NULL(w.r);
    web_request_destroy(&w.r);
}

static const struct tap_test tests[] = {
    {"the request that the client sends", what_it_asks},
    {"answers split at every byte", answers_split_at_every_byte},
    {"answers without a body", answers_without_a_body},
    {"malformed answers are errors", answers_that_are_none},
    {"the client's time limits", time_limits},
    {"a server that does not listen is an error", nobody_there},
    {NULL, NULL},
};

int main(void) {
    static char host_field[32];
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof at;
    io_ignore_sigpipe();
    loop = io_loop_create();
    listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (!loop || listener < 0 || bind(listener, (struct sockaddr *)&at, len) != 0 || listen(listener, 4) != 0 ||
        getsockname(listener, (struct sockaddr *)&at, &len) != 0)
        return 1;
    snprintf(host_field, sizeof host_field, "127.0.0.1:%u", ntohs(at.sin_port));
    ask = (struct web_ask){.host = "127.0.0.1",
                           .port = ntohs(at.sin_port),
                           .host_field = host_field,
                           .path = "/a?b",
                           .timeout_ms = PATIENCE_MS};
    int rc = tap_main("web, client", tests);
    close(listener);
    io_loop_destroy(&loop);
    return rc;
}
