/* The origin of HTTP streams against a service that the test plays byte by byte. How to switch defences off to see a
 * test fail: tests/hardening.yaml. */
#include "relay/origin_rig.h"
#include "support/ports.h"

#define OK_HELLO "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"

static void a_request_and_its_answer(void) {
    rig_go();
    struct call *c = call_http("GET", "/a?b=c",
                               HEADERS(H("host", "site.example"), H("x-two", "1"), H("x-two", "2"),
                                       H("connection", "close"), H("te", "trailers")),
                               5, "", true);
    struct service_conn *s = service_wait(0, "\r\n\r\n");
    CU_ASSERT_STRING_EQUAL(service_heard(s),
                           "GET /a?b=c HTTP/1.1\r\nhost: site.example\r\nx-two: 1\r\nx-two: 2\r\n\r\n");
    service_says(s, "HTTP/1.1 200 Fine\r\nContent-Length: 5\r\nX-A: 1\r\nX-A: 2\r\nKeep-Alive: timeout=5\r\n\r\nhello");
    UNTIL(c->closes);
    CU_ASSERT_STRING_EQUAL(c->head, "200 Content-Length: 5, X-A: 1, X-A: 2");
    CU_ASSERT_STRING_EQUAL(call_body(c), "hello");
    CU_ASSERT_EQUAL(c->reset, -1);
    CU_ASSERT_EQUAL(c->eofs, 1);
    UNTIL(rig.finished == 1);
    CU_ASSERT_EQUAL(rig.last.status, 200);
    CU_ASSERT_EQUAL(rig.last.bytes_out, 5);
    CU_ASSERT_EQUAL(rig.last.reset_code, 0);
    CU_ASSERT_STRING_EQUAL(rig.last_line, "GET /a?b=c 192.0.2.7:1234");
    CU_ASSERT_EQUAL(relay_target_idle(rig.target), 1);
    CU_ASSERT_EQUAL(relay_target_active(rig.target), 0);
    rig_stop();
}

static void a_missing_host_is_filled_in(void) {
    char want[128];
    rig_go();
    call_http("GET", "/", NULL, 0, "", true);
    struct service_conn *s = service_wait(0, "\r\n\r\n");
    snprintf(want, sizeof want, "GET / HTTP/1.1\r\nhost: 127.0.0.1:%u\r\n\r\n", rig.cfg.port);
    CU_ASSERT_STRING_EQUAL(service_heard(s), want);
    rig_stop();
}

static void connections_are_used_again(void) {
    rig_go();
    for (int i = 0; i < 5; i++) {
        struct call *c = call_get("/");
        struct service_conn *s = service_wait(0, "\r\n\r\n");
        service_forget(s);
        service_says(s,
                     i % 2 ? "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhe\r\n3;x=y\r\nllo\r\n0\r\n\r\n"
                           : OK_HELLO);
        UNTIL(c->closes);
        CU_ASSERT_STRING_EQUAL(call_body(c), "hello");
        CU_ASSERT_PTR_NULL(strstr(c->head, "ransfer-"));
    }
    CU_ASSERT_EQUAL(rig.n_conns, 1);
    CU_ASSERT_EQUAL(relay_target_idle(rig.target), 1);
    /* Two at once need two; both stay. */
    struct call *a = call_get("/a"), *b = call_get("/b");
    struct service_conn *one = service_wait(0, "\r\n\r\n"), *two = service_wait(1, "\r\n\r\n");
    service_says(one, OK_HELLO);
    service_says(two, OK_HELLO);
    UNTIL(a->closes && b->closes);
    CU_ASSERT_EQUAL(relay_target_idle(rig.target), 2);
    rig_stop();
}

/* Each of these answers must not be followed by another request on its connection. */
/* A service that serves one connection at a time: what is idle keeps the others waiting. */
static void idle_connections_do_not_starve_the_others(void) {
    rig_go();
    struct call *c = call_get("/");
    struct service_conn *one = service_wait(0, "\r\n\r\n");
    service_forget(one);
    service_says(one, OK_HELLO);
    UNTIL(c->closes && relay_target_idle(rig.target) == 1);
    struct call *a = call_get("/a"), *b = call_get("/b"), *d = call_get("/d");
    struct service_conn *two = service_wait(1, "/b"), *three = service_wait(2, "/d");
    service_wait(0, "/a");
    service_says(one, OK_HELLO);
    UNTIL(a->closes && relay_target_idle(rig.target) == 1);
    UNTIL(one->ended); /* a moment later: it was not to be waited for */
    CU_ASSERT_EQUAL(relay_target_idle(rig.target), 0);
    service_says(two, OK_HELLO);
    UNTIL(b->closes);
    CU_ASSERT_EQUAL(relay_target_idle(rig.target), 0); /* now that it is known, at once */
    UNTIL(two->ended);
    service_says(three, OK_HELLO);
    UNTIL(d->closes);
    CU_ASSERT_EQUAL(relay_target_idle(rig.target), 1); /* nobody waits */
    rig_stop();
}

static bool fired;
static void on_fire(struct io_timer *timer) {
    (void)timer;
    fired = true;
}

/* One that answers on a second connection while the first is idle serves several: a slow answer costs it nothing. */
static void a_slow_answer_closes_no_connections(void) {
    struct io_timer timer;
    rig_go();
    struct call *a = call_get("/a"), *b = call_get("/b");
    struct service_conn *one = service_wait(0, "\r\n\r\n"), *two = service_wait(1, "\r\n\r\n");
    service_forget(one);
    service_forget(two);
    service_says(one, OK_HELLO);
    UNTIL(a->closes && relay_target_idle(rig.target) == 1);
    service_says(two, OK_HELLO);
    UNTIL(b->closes && relay_target_idle(rig.target) == 2);
    a = call_get("/a");
    b = call_get("/b");
    struct call *slow = call_get("/slow");
    service_wait(2, "/slow");
    service_says(one, OK_HELLO);
    service_says(two, OK_HELLO);
    UNTIL(a->closes && b->closes);
    fired = false;
    io_timer_init(rig.loop, &timer, on_fire);
    io_timer_set(&timer, 300);
    UNTIL(fired);
    CU_ASSERT_EQUAL(relay_target_idle(rig.target), 2);
    CU_ASSERT(!one->ended && !two->ended);
    service_says(&rig.conns[2], OK_HELLO);
    UNTIL(slow->closes);
    CU_ASSERT_EQUAL(relay_target_idle(rig.target), 3);
    rig_stop();
}

static void connections_that_are_not_used_again(void) {
    static const char *const answers[] = {
        "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: close\r\n\r\nhello",
        "HTTP/1.0 200 OK\r\nContent-Length: 5\r\n\r\nhello",
        "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello, and more",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\nHTTP/1.1 200 OK\r\n\r\n",
    };
    rig_go();
    for (unsigned i = 0; i < HT_ARRAY_LEN(answers); i++) {
        struct call *c = call_get("/");
        struct service_conn *s = service_wait(i, "\r\n\r\n");
        service_says(s, answers[i]);
        UNTIL(c->closes);
        CU_ASSERT_EQUAL(c->reset, -1);
        CU_ASSERT_STRING_EQUAL(call_body(c), "hello");
        CU_ASSERT_EQUAL(relay_target_idle(rig.target), 0);
        UNTIL(s->ended);
    }
    rig_stop();
}

/* Bytes behind the body that come while it is read by pull(), not with the head. */
static void bytes_behind_a_body_are_never_an_answer(void) {
    rig_go();
    struct call *c = call_get("/");
    struct service_conn *s = service_wait(0, "\r\n\r\n");
    service_says(s, "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n");
    UNTIL(c->heads);
    service_says(s, "helloHTTP/1.1 200 Smuggled\r\nContent-Length: 0\r\n\r\n");
    UNTIL(c->closes);
    CU_ASSERT_STRING_EQUAL(call_body(c), "hello");
    CU_ASSERT_EQUAL(relay_target_idle(rig.target), 0);
    rig_stop();
}

/* The same while nobody asks anything: the connection waits in the pool, and the loop has had no turn to see it when
 * the next request comes. Off: no read in origin_pool_take(). */
static void nor_are_bytes_on_an_idle_connection(void) {
    rig_go();
    struct call *c = call_get("/");
    struct service_conn *s = service_wait(0, "\r\n\r\n");
    service_says(s, OK_HELLO);
    UNTIL(c->closes);
    CU_ASSERT_EQUAL(relay_target_idle(rig.target), 1);
    service_says(s, "HTTP/1.1 200 Smuggled\r\nContent-Length: 3\r\n\r\nbad");
    c = call_get("/next");
    s = service_wait(1, "/next");
    service_says(s, OK_HELLO);
    UNTIL(c->closes);
    CU_ASSERT_STRING_EQUAL(call_body(c), "hello");
    rig_stop();
}

static void the_pool_is_bounded_and_closed_connections_leave_it(void) {
    struct call *calls[8];
    rig_go();
    for (unsigned i = 0; i < 8; i++)
        calls[i] = call_get("/");
    for (unsigned i = 0; i < 8; i++)
        service_says(service_wait(i, "\r\n\r\n"), OK_HELLO);
    for (unsigned i = 0; i < 8; i++)
        UNTIL(calls[i]->closes);
    CU_ASSERT_EQUAL(relay_target_idle(rig.target), rig.cfg.pool_size);
    for (unsigned i = 0; i < 8; i++)
        service_close(&rig.conns[i]);
    UNTIL(relay_target_idle(rig.target) == 0);
    rig_stop();
}

static void idle_connections_time_out(void) {
    rig_start();
    rig.cfg.pool_idle_ms = 30;
    rig_target();
    struct call *c = call_get("/");
    service_says(service_wait(0, "\r\n\r\n"), OK_HELLO);
    UNTIL(c->closes);
    UNTIL(relay_target_idle(rig.target) == 0);
    UNTIL(rig.conns[0].ended);
    rig_stop();
}

/* The answer split at every byte: heads that come in pieces, bodies too. */
static void answers_in_pieces(void) {
    static const char *const answers[] = {
        "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nX-Long: abcdefgh\r\n\r\nhello",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nh\r\n4\r\nello\r\n0\r\nTrailer: x\r\n\r\n",
        "HTTP/1.1 103 Early Hints\r\nLink: </s>\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello",
    };
    rig_go();
    unsigned n = 0;
    for (size_t a = 0; a < HT_ARRAY_LEN(answers); a++)
        for (size_t cut = 1; cut < strlen(answers[a]); cut++) {
            rig.n_calls = n % (RIG_CALLS - 1); /* records are used again */
            struct call *c = &rig.calls[rig.n_calls];
            ht_buf_free(&c->body);
            ht_buf_free(&c->send);
            *c = (struct call){.reset = -1};
            c = call_get("/");
            n++;
            struct service_conn *s = service_wait(0, "\r\n\r\n");
            service_forget(s);
            service_bytes(s, answers[a], cut);
            for (int i = 0; i < 3; i++)
                ready_turn();
            service_says(s, answers[a] + cut);
            UNTIL(c->closes);
            CU_ASSERT_STRING_EQUAL(call_body(c), "hello");
            CU_ASSERT_EQUAL(c->interims, a == 2);
            CU_ASSERT_EQUAL(rig.n_conns, 1);
        }
    rig.n_calls = RIG_CALLS;
    rig_stop();
}

static void interim_answers_are_passed_on(void) {
    rig_go();
    struct call *c = call_get("/");
    struct service_conn *s = service_wait(0, "\r\n\r\n");
    service_says(s, "HTTP/1.1 103 Early Hints\r\nLink: </style.css>\r\n\r\n");
    UNTIL(c->interims == 1);
    CU_ASSERT_STRING_EQUAL(c->interim, "103 Link: </style.css>");
    CU_ASSERT_EQUAL(c->heads, 0);
    service_says(s, OK_HELLO);
    UNTIL(c->closes);
    CU_ASSERT_STRING_EQUAL(call_body(c), "hello");
    rig_stop();
}

/* More of them than the tunnel carries are left out, and the answer is not lost. Off: no limit in parse_heads(), and
 * the kit ends the stream. */
static void interim_answers_without_end(void) {
    rig_go();
    struct call *c = call_get("/");
    struct service_conn *s = service_wait(0, "\r\n\r\n");
    for (unsigned i = 0; i < 3 * WIRE_LIMIT_MAX_INTERIM; i++)
        service_says(s, "HTTP/1.1 102 Processing\r\n\r\n");
    service_says(s, OK_HELLO);
    UNTIL(c->closes);
    CU_ASSERT_EQUAL(c->interims, WIRE_LIMIT_MAX_INTERIM);
    CU_ASSERT_EQUAL(c->reset, -1);
    CU_ASSERT_STRING_EQUAL(call_body(c), "hello");
    rig_stop();
}

static void answers_without_a_body(void) {
    rig_go();
    struct call *c = call_http("HEAD", "/", HEADERS(H("host", "a")), 1, "", true);
    struct service_conn *s = service_wait(0, "\r\n\r\n");
    service_forget(s);
    service_says(s, "HTTP/1.1 200 OK\r\nContent-Length: 12345\r\n\r\n");
    UNTIL(c->closes);
    CU_ASSERT_STRING_EQUAL(c->head, "200 Content-Length: 12345");
    static const char *const bare[] = {"HTTP/1.1 204 No Content\r\n\r\n",
                                       "HTTP/1.1 304 Not Modified\r\nETag: x\r\n\r\n",
                                       "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"};
    for (size_t i = 0; i < HT_ARRAY_LEN(bare); i++) {
        c = call_get("/");
        service_wait(0, "\r\n\r\n");
        service_forget(s);
        service_says(s, bare[i]);
        UNTIL(c->closes);
        CU_ASSERT_EQUAL(c->received, 0);
        CU_ASSERT_EQUAL(c->eofs, 1);
    }
    CU_ASSERT_EQUAL(rig.n_conns, 1);
    rig_stop();
}

static void a_body_until_the_end_of_the_connection(void) {
    rig_go();
    struct call *c = call_get("/");
    struct service_conn *s = service_wait(0, "\r\n\r\n");
    service_says(s, "HTTP/1.1 200 OK\r\n\r\nsome");
    UNTIL(c->received == 4);
    CU_ASSERT_EQUAL(c->eofs, 0);
    service_says(s, " more");
    UNTIL(c->received == 9);
    service_close(s);
    UNTIL(c->closes);
    CU_ASSERT_EQUAL(c->reset, -1);
    CU_ASSERT_STRING_EQUAL(call_body(c), "some more");
    CU_ASSERT_EQUAL(relay_target_idle(rig.target), 0);
    rig_stop();
}

static void truncated_answers_are_cut(void) {
    static const char *const answers[] = {
        "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n",
    };
    rig_go();
    for (unsigned i = 0; i < HT_ARRAY_LEN(answers); i++) {
        struct call *c = call_get("/");
        struct service_conn *s = service_wait(i, "\r\n\r\n");
        service_says(s, answers[i]);
        UNTIL(c->received == 5);
        service_close(s);
        UNTIL(c->closes);
        CU_ASSERT_EQUAL(c->reset, WIRE_CODE_INTERNAL_ERROR);
        CU_ASSERT_EQUAL(c->eofs, 0);
    }
    UNTIL(rig.finished == 3);
    CU_ASSERT_PTR_NOT_NULL(strstr(rig.last_error, "in the middle of its answer"));
    rig_stop();
}

static void bad_answers_are_refused(void) {
    static const char *const answers[] = {
        "HTTP/0.9 200 OK\r\n\r\n",
        "hello, this is no HTTP\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello",
        "HTTP/1.1 200 OK\r\nBad Name: x\r\n\r\n",
        "HTTP/1.1 200 OK\r\nX: a\rY: b\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
        "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
    };
    rig_go();
    for (unsigned i = 0; i < HT_ARRAY_LEN(answers); i++) {
        struct call *c = call_get("/");
        service_says(service_wait(i, "\r\n\r\n"), answers[i]);
        UNTIL(c->closes);
        CU_ASSERT_EQUAL(c->reset, WIRE_CODE_INTERNAL_ERROR);
        CU_ASSERT_PTR_NOT_NULL(strstr(c->reason, "bad answer from 127.0.0.1:"));
        UNTIL(rig.conns[i].ended);
    }
    CU_ASSERT_EQUAL(relay_target_idle(rig.target), 0);
    rig_stop();
}

/* What can be read in one way only is passed on clean, and said once a target. */
static void odd_answers_are_put_right(void) {
    static const struct {
        const char *answer, *head, *log;
    } rows[] = {
        {"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nX: y\r\nContent-Length: 05, 5\r\n\r\nhello",
         "200 Content-Length: 5, X: y", "the same Content-Length twice"},
        {"HTTP/1.1 999 Denied\r\nContent-Length: 5\r\n\r\nhello", "999 Content-Length: 5", "a status above 599"},
        {"HTTP/1.1 200 OK\nContent-Length: 5\n\nhello", "200 Content-Length: 5", "lines that end without a CR"},
        {"HTTP/1.1 200 OK\r\nSet-Cookie: a=\001b\r\nContent-Length: 5\r\n\r\nhello",
         "200 Set-Cookie: a= b, Content-Length: 5", "control bytes"},
        {"HTTP/1.1 200 OK\r\nX: a\r\n b\r\nContent-Length : 5\r\n\r\nhello", "200 X: a   b, Content-Length: 5",
         "a field folded"},
        {"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5 \r\nhello\r\n0\r\n\r\n", "200",
         "chunked body in HTTP/1.0"},
        {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\nhello\n0\n\n", "200", "chunk sizes with blanks"},
    };
    char log[8192] = "";
    FILE *said = tmpfile();
    CU_ASSERT_PTR_NOT_NULL_FATAL(said);
    rig_go();
    ht_log_setup(fileno(said), HT_LOG_WARN, HT_LOG_TEXT);
    unsigned conns = 0;
    for (unsigned i = 0; i < 2 * HT_ARRAY_LEN(rows); i++) {
        unsigned row = i % HT_ARRAY_LEN(rows);
        struct call *c = call_get("/");
        struct service_conn *s = service_wait(conns, "\r\n\r\n");
        service_forget(s);
        service_says(s, rows[row].answer);
        UNTIL(c->closes);
        CU_ASSERT_STRING_EQUAL(c->head, rows[row].head);
        CU_ASSERT_STRING_EQUAL(call_body(c), "hello");
        CU_ASSERT_EQUAL(c->reset, -1);
        conns += relay_target_idle(rig.target) == 0;
    }
    rewind(said);
    CU_ASSERT_FATAL(fread(log, 1, sizeof log - 1, said) > 0);
    for (unsigned i = 0; i < HT_ARRAY_LEN(rows); i++) {
        const char *at = strstr(log, rows[i].log);
        CU_ASSERT_PTR_NOT_NULL_FATAL(at);
        CU_ASSERT_PTR_NULL(strstr(at + 1, rows[i].log));
    }
    CU_ASSERT_PTR_NOT_NULL(strstr(log, "127.0.0.1:"));
    rig_stop();
    fclose(said);
}

static void a_service_that_is_not_there(void) {
    rig_start();
    int held = deafen(&rig.listener);
    rig_target();
    struct call *c = call_get("/");
    UNTIL(c->closes);
    CU_ASSERT_EQUAL(c->reset, WIRE_CODE_REFUSED_STREAM);
    CU_ASSERT_PTR_NOT_NULL(strstr(c->reason, "connection refused"));
    CU_ASSERT_EQUAL(strncmp(c->reason, "refused: ", 9), 0); /* rule ANSWER-2 */
    UNTIL(rig.finished == 1);
    CU_ASSERT_EQUAL(rig.last.status, 502);
    CU_ASSERT_EQUAL(rig.last.reset_code, WIRE_CODE_REFUSED_STREAM);
    close(held);
    rig_stop();
}

/* ---- sending a request twice ---- */

static struct call *once_then(struct call *(*second)(void)) {
    struct call *c = call_get("/warm");
    struct service_conn *s = service_wait(0, "\r\n\r\n");
    service_forget(s);
    service_says(s, OK_HELLO);
    UNTIL(c->closes);
    CU_ASSERT_EQUAL(relay_target_idle(rig.target), 1);
    return second();
}

static struct call *second_get(void) { return call_get("/second"); }

static struct call *second_post(void) {
    return call_http("POST", "/second", HEADERS(H("host", "a"), H("content-length", "3")), 2, "abc", true);
}

static void a_get_on_a_stale_connection_is_sent_again(void) {
    rig_go();
    struct call *c = once_then(second_get);
    struct service_conn *s = service_wait(0, "/second");
    service_close(s); /* as if its idle timeout had struck just now */
    s = service_wait(1, "/second");
    service_says(s, OK_HELLO);
    UNTIL(c->closes);
    CU_ASSERT_EQUAL(c->reset, -1);
    CU_ASSERT_STRING_EQUAL(call_body(c), "hello");
    CU_ASSERT_EQUAL(rig.n_conns, 2);
    rig_stop();
}

static void but_only_once(void) {
    rig_go();
    struct call *c = once_then(second_get);
    service_close(service_wait(0, "/second"));
    service_close(service_wait(1, "/second"));
    UNTIL(c->closes);
    CU_ASSERT_EQUAL(c->reset, WIRE_CODE_INTERNAL_ERROR);
    CU_ASSERT_PTR_NOT_NULL(strstr(c->reason, "without an answer"));
    settle();
    CU_ASSERT_EQUAL(rig.n_conns, 2);
    rig_stop();
}

static void a_post_is_never_sent_again(void) {
    rig_go();
    struct call *c = once_then(second_post);
    service_close(service_wait(0, "abc"));
    UNTIL(c->closes);
    CU_ASSERT_EQUAL(c->reset, WIRE_CODE_INTERNAL_ERROR);
    settle();
    CU_ASSERT_EQUAL(rig.n_conns, 1);
    rig_stop();
}

static void nor_is_a_get_that_was_half_answered(void) {
    rig_go();
    struct call *c = once_then(second_get);
    struct service_conn *s = service_wait(0, "/second");
    service_says(s, "HTTP/1.1 2");
    settle();
    service_close(s);
    UNTIL(c->closes);
    CU_ASSERT_EQUAL(c->reset, WIRE_CODE_INTERNAL_ERROR);
    settle();
    CU_ASSERT_EQUAL(rig.n_conns, 1);
    rig_stop();
}

static void a_post_finds_out_that_a_connection_is_stale(void) {
    rig_go();
    struct call *c = call_get("/warm");
    struct service_conn *s = service_wait(0, "\r\n\r\n");
    service_says(s, OK_HELLO);
    UNTIL(c->closes);
    /* Closed, and the loop has had no turn to notice when the POST comes. */
    service_close(s);
    c = second_post();
    s = service_wait(1, "abc");
    service_says(s, OK_HELLO);
    UNTIL(c->closes);
    CU_ASSERT_EQUAL(c->reset, -1);
    rig_stop();
}

static const struct tap_test tests[] = {
    {"a request and its answer", a_request_and_its_answer},
    {"a missing Host is filled in", a_missing_host_is_filled_in},
    {"connections are used again", connections_are_used_again},
    {"idle connections do not starve the others", idle_connections_do_not_starve_the_others},
    {"a slow answer closes no connections", a_slow_answer_closes_no_connections},
    {"connections that are not used again", connections_that_are_not_used_again},
    {"bytes behind a body are never an answer", bytes_behind_a_body_are_never_an_answer},
    {"bytes on an idle connection are never an answer", nor_are_bytes_on_an_idle_connection},
    {"the pool is bounded, and closed connections leave it", the_pool_is_bounded_and_closed_connections_leave_it},
    {"idle connections time out", idle_connections_time_out},
    {"answers in pieces, cut at every byte", answers_in_pieces},
    {"interim answers are passed on", interim_answers_are_passed_on},
    {"interim answers without end", interim_answers_without_end},
    {"answers without a body", answers_without_a_body},
    {"a body until the end of the connection", a_body_until_the_end_of_the_connection},
    {"truncated answers are cut", truncated_answers_are_cut},
    {"bad answers are refused", bad_answers_are_refused},
    {"odd answers are put right", odd_answers_are_put_right},
    {"a service that is not there", a_service_that_is_not_there},
    {"a GET on a stale connection is sent again", a_get_on_a_stale_connection_is_sent_again},
    {"a request on a stale connection is repeated once only", but_only_once},
    {"a POST is never sent again", a_post_is_never_sent_again},
    {"a half-answered GET is never sent again", nor_is_a_get_that_was_half_answered},
    {"a POST does not use a stale connection", a_post_finds_out_that_a_connection_is_stale},
    {NULL, NULL},
};

int main(void) { return tap_main("origin, http", tests); }
