/* The small server: one connection of it, and a peer that writes and reads by hand. */
#include "web_rig.h"

#include "base/clock.h"

#define HEAD_MAX 512

struct client {
    struct web_conn web;
    unsigned ticks;
};

static struct {
    struct web_server server;
    struct client *c; /* NULL: gone */
    int fd;           /* the peer's end */
    int ended, gone, requests, upgraded;
    struct io_conn *taken;
    char early[64], said[65536], body[64];
    size_t n_said, big, n_body;
    unsigned pieces, drained;
} w;

/* ---- what is served ---- */

static bool serve_path(struct web_conn *c) {
    char body[256];
    struct ht_slice path = web_path(c), x = web_field(c, "X-Word");
    struct web_reply r = {.status = 200, .type = "text/plain"};
    w.requests++;
    if (ht_slice_is(path, "/stream")) {
        r.body = ht_slice_str("begun\n");
        return web_stream(c, &r);
    }
    if (ht_slice_is(path, "/take") || ht_slice_is(path, "/early") || ht_slice_is(path, "/take-later")) {
        w.early[0] = path.p[1] == 'e' ? 'e' : path.n > 5 ? 'l' : '\0';
        w.n_body = 0;
        return web_take_body(c, 16);
    }
    if (ht_slice_is(path, "/later"))
        return web_later(c);
    if (ht_slice_is(path, "/up"))
        return web_upgrade(c, ht_buf_append_str(&c->out.queue, "HTTP/1.1 101 Switching Protocols\r\n\r\n"));
    if (ht_slice_is(path, "/big")) {
        char *big = ht_calloc(1, w.big);
        if (!big) {
            web_conn_close(c);
            return false;
        }
        memset(big, 'b', w.big);
        r.body = ht_slice_of(big, w.big);
        bool alive = web_reply(c, &r);
        ht_free(big);
        return alive;
    }
    snprintf(body, sizeof body, "%.*s %.*s", HT_SLICE_ARG(path), HT_SLICE_ARG(x));
    r.body = ht_slice_str(body);
    r.extra = "X-More: 1\r\n";
    return web_reply(c, &r);
}

static bool take(struct web_conn *c, struct ht_slice piece, bool last) {
    w.pieces++;
    CU_ASSERT_FATAL(w.n_body + piece.n < sizeof w.body);
    if (piece.n)
        memcpy(w.body + w.n_body, piece.p, piece.n);
    w.n_body += piece.n;
    if (last && w.early[0] == 'l')
        return web_later(c);
    if (!last && w.early[0] != 'e')
        return true;
    return web_reply(c, &(struct web_reply){.status = 201, .body = ht_slice_of(w.body, w.n_body)});
}

static void drained(struct web_conn *c) {
    (void)c;
    w.drained++;
}

static bool refuse(struct web_conn *c, uint16_t status, const char *text) {
    return web_reply(c, &(struct web_reply){.status = status, .body = ht_slice_str(text)});
}

static void tick(struct web_conn *c) {
    struct client *k = ht_container_of(c, struct client, web);
    k->ticks++;
    if (ht_buf_append_str(&c->out.queue, "tick\n") < 0)
        web_conn_close(c);
    else
        web_conn_flush(c);
}

static void upgraded(struct web_conn *c) {
    w.upgraded++;
    snprintf(w.early, sizeof w.early, "%.*s", HT_SLICE_ARG(ht_buf_slice(&c->in)));
    w.taken = web_conn_take(c);
    web_conn_close(c);
}

static void gone(struct web_conn *c) {
    w.gone++;
    w.c = NULL;
    ht_free(ht_container_of(c, struct client, web));
}

static const struct web_server_ops ops = {.request = serve_path,
                                          .body = take,
                                          .refuse = refuse,
                                          .tick = tick,
                                          .drained = drained,
                                          .upgraded = upgraded,
                                          .gone = gone};

/* ---- the rig ---- */

/* A connection with `early` in its socket. */
static void begin_with(const char *early) {
    struct web_server server = w.server;
    int fd[2];
    memset(&w, 0, sizeof w);
    w.server = server;
    if (!w.server.ops)
        w.server = (struct web_server){.ops = &ops, .limits = {HEAD_MAX, 16, HEAD_MAX / 2}};
    CU_ASSERT_EQUAL_FATAL(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fd), 0);
    w.fd = fd[1];
    peer_write(w.fd, early, strlen(early));
    struct io_conn *io = io_conn_adopt(loop, fd[0], NULL, NULL);
    struct client *c = ht_calloc(1, sizeof *c);
    if (!io || !c) {
        io_conn_close(&io);
        ht_free(c);
        w.gone++;
        return;
    }
    w.c = c;
    web_conn_begin(&c->web, loop, &w.server, io);
}

static void begin(void) { begin_with(""); }

static void look(void) { w.n_said = peer_read(w.fd, w.said, sizeof w.said, w.n_said, &w.ended); }

static void say(const char *text) {
    peer_write(w.fd, text, strlen(text));
    loop_turns(loop, 3);
    look();
}

static void end(void) {
    if (w.c)
        web_conn_close(&w.c->web);
    io_conn_close(&w.taken);
    if (w.fd >= 0)
        close(w.fd);
    CU_ASSERT_EQUAL(w.gone, 1);
    loop_turns(loop, 2); /* one that lingers sees its peer go */
    w.server = (struct web_server){.ops = NULL};
}

#define OK(path_and_word, n)                                                                                           \
    "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\ncontent-length: " n "\r\nX-More: 1\r\n\r\n" path_and_word

/* ---- tests ---- */

static void split_at_every_byte(void) {
    static const char text[] = "GET /a?b HTTP/1.1\r\nHost: x\r\nX-Word: yes\r\n\r\n";
    for (size_t at = 0; at < sizeof text; at++) {
        char first[sizeof text];
        snprintf(first, sizeof first, "%.*s", (int)at, text);
        begin_with(first);
        look();
        CU_ASSERT_EQUAL(w.requests, at == sizeof text - 1); /* what came with the connection is served at once */
        say(text + at);
        CU_ASSERT_STRING_EQUAL(w.said, OK("/a yes", "6"));
        CU_ASSERT(!w.ended && w.requests == 1 && w.c->web.state == WEB_IDLE);
        end();
    }
    begin();
    for (size_t at = 0; at < sizeof text - 1; at++) {
        say((char[]){text[at], '\0'});
        CU_ASSERT_EQUAL(w.c->web.state, at == sizeof text - 2 ? WEB_IDLE : WEB_HEAD);
    }
    CU_ASSERT_STRING_EQUAL(w.said, OK("/a yes", "6"));
    CU_ASSERT_EQUAL(w.c->web.in.cap, 0); /* one that is quiet holds no buffer */
    end();
}

static void one_answer_after_another(void) {
    begin();
    say("GET /1 HTTP/1.1\r\nHost: x\r\n\r\nHEAD /2 HTTP/1.1\r\nHost: x\r\n\r\nGET /3 HTTP/1.1\r\nHost: x\r\n\r\nGET");
    CU_ASSERT_STRING_EQUAL(w.said, OK("/1 ", "3") OK("", "3") OK("/3 ", "3"));
    CU_ASSERT(w.requests == 3 && w.c->web.state == WEB_HEAD);
    end();
}

/* Hardening case 2: what stands behind such a request is not looked at. */
static void a_body_ends_the_connection(void) {
    static const char *const rows[] = {
        "POST /a HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nGET /b HTTP/1.1\r\nHost: x\r\n\r\n",
        "GET /a HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET /b HTTP/1.1\r\nHost: x\r\n\r\n",
        "GET /a HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\nGET /b HTTP/1.1\r\nHost: x\r\n\r\n",
        "GET /a HTTP/1.0\r\n\r\nGET /b HTTP/1.1\r\nHost: x\r\n\r\n",
    };
    for (size_t i = 0; i < HT_ARRAY_LEN(rows); i++) {
        begin();
        say(rows[i]);
        CU_ASSERT_STRING_EQUAL(w.said, "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\ncontent-length: 3\r\nX-More: "
                                       "1\r\nConnection: close\r\n\r\n/a ");
        CU_ASSERT(w.requests == 1 && w.gone == 1 && w.ended);
        peer_write(w.fd, "more", 4); /* it lingers: the answer is not lost to a reset */
        end();
    }
}

#define TOOK(body, n) "HTTP/1.1 201 Created\r\ncontent-length: " n "\r\n\r\n" body
#define TAKE_5 "POST /take HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhello"
#define TAKE_CHUNKS                                                                                                    \
    "POST /take HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhe\r\n3;x=y\r\nllo\r\n0\r\nA: b\r\n\r\n"
#define TAKE_NONE "POST /take HTTP/1.1\r\nHost: x\r\n\r\n"

/* Whatever comes behind a body that was read to its end is the next request. */
static void bodies_that_are_taken(void) {
    static const char text[] = TAKE_5 TAKE_CHUNKS TAKE_NONE "GET /a HTTP/1.1\r\nHost: x\r\n\r\n";
    for (size_t at = 0; at < sizeof text; at++) {
        char first[sizeof text];
        snprintf(first, sizeof first, "%.*s", (int)at, text);
        begin_with(first);
        say(text + at);
        CU_ASSERT_STRING_EQUAL(w.said, TOOK("hello", "5") TOOK("hello", "5") TOOK("", "0") OK("/a ", "3"));
        CU_ASSERT(w.requests == 4 && !w.ended && w.c->web.state == WEB_IDLE);
        end();
    }
    begin(); /* whoever asks first is told to go on, once */
    say("POST /take HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nExpect: 100-continue\r\nConnection: close\r\n\r\n");
    CU_ASSERT_STRING_EQUAL(w.said, "HTTP/1.1 100 Continue\r\n\r\n");
    CU_ASSERT_EQUAL_FATAL(w.gone, 0);
    say("he");
    say("llo");
    CU_ASSERT_STRING_EQUAL(w.said, "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 201 Created\r\ncontent-length: 5\r\n"
                                   "Connection: close\r\n\r\nhello");
    CU_ASSERT(w.ended && w.gone == 1);
    end();
}

/* Hardening case 2 again: a body that was not read to its end, or whose end is not certain. */
static void bodies_that_end_the_connection(void) {
    static const struct {
        const char *text;
        const char *status;
    } rows[] = {
        {"POST /take HTTP/1.1\r\nHost: x\r\nContent-Length: 17\r\n\r\n", "HTTP/1.1 413 "},
        {"POST /take HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n11\r\n12345678901234567\r\n0\r\n\r\n",
         "HTTP/1.1 413 "},
        {"POST /take HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n5 \r\n", "HTTP/1.1 400 "},
        {"POST /take HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
         "HTTP/1.1 400 "},
        {"POST /early HTTP/1.1\r\nHost: x\r\nContent-Length: 16\r\n\r\nGET /", "HTTP/1.1 201 "},
        {"POST /take HTTP/1.0\r\nContent-Length: 1\r\n\r\nx", "HTTP/1.1 201 "},
    };
    for (size_t i = 0; i < HT_ARRAY_LEN(rows); i++) {
        char text[512];
        begin();
        snprintf(text, sizeof text, "%sGET /b HTTP/1.1\r\nHost: x\r\n\r\n", rows[i].text);
        say(text);
        CU_ASSERT_NSTRING_EQUAL(w.said, rows[i].status, strlen(rows[i].status));
        CU_ASSERT_PTR_NOT_NULL(strstr(w.said, "Connection: close\r\n"));
        CU_ASSERT_PTR_NULL(strstr(w.said, "HTTP/1.1 200"));
        CU_ASSERT(w.ended && w.gone == 1 && w.requests <= 1);
        end();
    }
}

static void answers_that_come_later(void) {
    begin();
    say("GET /later HTTP/1.1\r\nHost: x\r\n\r\nGET /a HTTP/1.1\r\nHost: x\r\n\r\n");
    CU_ASSERT(w.requests == 1 && w.c->web.state == WEB_WAIT && w.n_said == 0);
    web_answer(&w.c->web, &(struct web_reply){.status = 200, .type = "text/plain", .extra = "X-More: 1\r\n"});
    loop_turns(loop, 2);
    look();
    CU_ASSERT_STRING_EQUAL(w.said, OK("", "0") OK("/a ", "3"));
    end();
    begin();
    say("POST /take-later HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhelloGET /a HTTP/1.1\r\nHost: x\r\n\r\n");
    CU_ASSERT(w.requests == 1 && w.c->web.state == WEB_WAIT && w.n_body == 5);
    web_answer(&w.c->web, &(struct web_reply){.status = 201});
    look();
    CU_ASSERT_STRING_EQUAL(w.said, TOOK("", "0") OK("/a ", "3"));
    end();
}

static void heads_that_are_refused(void) {
    static char long_head[HEAD_MAX + 64], long_target[HEAD_MAX / 2 + 64];
    snprintf(long_head, sizeof long_head, "GET / HTTP/1.1\r\nX: %0*d", HEAD_MAX, 0);
    snprintf(long_target, sizeof long_target, "GET /%0*d", HEAD_MAX / 2, 0);
    const struct {
        const char *head, *status;
    } rows[] = {
        {"nonsense\r\n\r\n", "HTTP/1.1 400 "},
        {"GET / HTTP/1.1\r\n\r\n", "HTTP/1.1 400 "},
        {"GET / HTTP/3.0\r\n\r\n", "HTTP/1.1 505 "},
        {long_head, "HTTP/1.1 431 "},
        {long_target, "HTTP/1.1 414 "},
    };
    for (size_t i = 0; i < HT_ARRAY_LEN(rows); i++) {
        begin();
        say(rows[i].head);
        CU_ASSERT_NSTRING_EQUAL(w.said, rows[i].status, strlen(rows[i].status));
        CU_ASSERT_PTR_NOT_NULL(strstr(w.said, "Connection: close\r\n"));
        CU_ASSERT(w.gone == 1 && w.ended && w.requests == 0);
        end();
    }
}

static void turn_until_gone(void) {
    CU_ASSERT(loop_until(loop, &w.gone, PATIENCE_MS));
    look();
}

static void time_limits(void) {
    begin(); /* without limits nothing happens */
    CU_ASSERT_FALSE(io_timer_active(&w.c->web.timer));
    w.c->web.server = &w.server;
    w.server.head_timeout_ms = 1;
    say("GET / HTT");
    turn_until_gone();
    CU_ASSERT_NSTRING_EQUAL(w.said, "HTTP/1.1 408 ", 13);
    end();

    w.server = (struct web_server){.ops = &ops, .limits = {HEAD_MAX, 16, HEAD_MAX / 2}, .head_timeout_ms = 1};
    begin(); /* one that says nothing learns nothing */
    turn_until_gone();
    CU_ASSERT_STRING_EQUAL(w.said, "");
    CU_ASSERT(w.ended);
    end();

    w.server = (struct web_server){.ops = &ops, .limits = {HEAD_MAX, 16, HEAD_MAX / 2}, .keepalive_timeout_ms = 1};
    begin_with("GET /a HTTP/1.1\r\nHost: x\r\n\r\n");
    turn_until_gone();
    CU_ASSERT_STRING_EQUAL(w.said, OK("/a ", "3"));
    CU_ASSERT(w.ended);
    end();
}

/* The time is for each WEB_BODY_STEP bytes: one who sends a byte now and then does not stay. */
static void slow_bodies(void) {
    w.server = (struct web_server){.ops = &ops, .limits = {HEAD_MAX, 16, HEAD_MAX / 2}, .body_timeout_ms = 50};
    begin_with("POST /take HTTP/1.1\r\nHost: x\r\nContent-Length: 16\r\n\r\n");
    for (unsigned i = 0; !w.gone && i < 15; i++) {
        CU_ASSERT(send(w.fd, "x", 1, MSG_NOSIGNAL | MSG_DONTWAIT) == 1 || errno == EPIPE);
        for (uint64_t from = ht_now_ms(); !w.gone && ht_now_ms() - from < 20;)
            loop_turns(loop, 1);
    }
    look();
    CU_ASSERT(w.gone == 1 && w.pieces > 0 && w.n_body < 16);
    CU_ASSERT_NSTRING_EQUAL(w.said, "HTTP/1.1 408 ", 13);
    end();
}

#define GET_BIG "GET /big HTTP/1.1\r\nHost: x\r\n\r\n"

/* Begins with a request for more than the socket takes. */
static void begin_stalled(void) {
    begin();
    w.big = 8u << 20;
    peer_write(w.fd, GET_BIG, sizeof GET_BIG - 1);
    loop_turns(loop, 3);
    /* On a busy machine a write timeout of a millisecond may have passed already. */
    CU_ASSERT_FATAL(w.c ? web_conn_busy(&w.c->web) : w.server.write_timeout_ms > 0);
}

static void answers_that_nobody_reads(void) {
    begin_stalled();
    peer_write(w.fd, "GET /a HTTP/1.1\r\nHost: x\r\n\r\n", 28); /* gets no further before this one is out */
    loop_turns(loop, 3);
    CU_ASSERT_EQUAL(w.requests, 1);
    for (size_t n = 0; n < w.big; loop_turns(loop, 1)) {
        look();
        n += w.n_said;
        w.n_said = 0;
    }
    loop_turns(loop, 3);
    look();
    CU_ASSERT(w.requests == 2 && w.c->web.state == WEB_IDLE && !w.ended);
    end();

    w.server = (struct web_server){.ops = &ops, .limits = {HEAD_MAX, 16, HEAD_MAX / 2}, .write_timeout_ms = 1};
    begin_stalled();
    turn_until_gone();
    end();

    begin_stalled();
    close(w.fd);
    w.fd = -1;
    turn_until_gone();
    end();
}

static void streams(void) {
    w.server = (struct web_server){.ops = &ops, .limits = {HEAD_MAX, 16, HEAD_MAX / 2}, .tick_ms = 1};
    begin_with("GET /stream HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    while (w.c->ticks < 2)
        io_loop_turn(loop, true);
    look();
    CU_ASSERT_STRING_EQUAL(w.said, "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n\r\nbegun\ntick\ntick\n");
    say("GET /a HTTP/1.1\r\nHost: x\r\n\r\n"); /* nobody listens */
    CU_ASSERT(w.requests == 1 && w.c && w.c->web.state == WEB_STREAM);
    w.c->web.close_after = true;
    turn_until_gone();
    CU_ASSERT(w.ended);
    end();

    begin_with("GET /stream HTTP/1.1\r\nHost: x\r\n\r\n"); /* one that leaves is seen */
    CU_ASSERT_EQUAL(shutdown(w.fd, SHUT_WR), 0);
    turn_until_gone();
    end();
}

static void an_upgrade_hands_over(void) {
    begin_with("GET /up HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\nearly");
    look();
    CU_ASSERT_STRING_EQUAL(w.said, "HTTP/1.1 101 Switching Protocols\r\n\r\n");
    CU_ASSERT_STRING_EQUAL(w.early, "early");
    CU_ASSERT(w.upgraded == 1 && w.gone == 1 && !w.ended);
    CU_ASSERT_PTR_NOT_NULL(w.taken);
    end();
}

/* The i-th allocation fails, for every i: the connection ends, or the answer is whole. */
static void without_memory(void) {
    static const char *const rows[] = {
        "GET /a HTTP/1.1\r\nHost: x\r\n\r\n",
        "GET /stream HTTP/1.1\r\nHost: x\r\n\r\n",
        "GET /up HTTP/1.1\r\nHost: x\r\n\r\n",
        TAKE_CHUNKS,
        "POST /take HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nExpect: 100-continue\r\n\r\nx",
        "nonsense\r\n\r\n",
    };
    for (size_t i = 0; i < HT_ARRAY_LEN(rows); i++) {
        size_t live = ht_mem_live();
        bool failed = true;
        for (int at = 0; failed; at++) {
            ht_mem_fail_at(at);
            begin_with(rows[i]);
            failed = !ht_mem_fail_pending();
            ht_mem_fail_at(-1);
            look();
            CU_ASSERT(w.ended || w.n_said > 0);
            CU_ASSERT(failed || w.n_said > 0);
            end();
        }
        loop_turns(loop, 2);
        CU_ASSERT_EQUAL(ht_mem_live(), live);
    }
}

static const struct tap_test tests[] = {
    {"a request split at every byte", split_at_every_byte},
    {"one answer after another", one_answer_after_another},
    {"a request with a body ends the connection", a_body_ends_the_connection},
    {"a body that is taken ends where the next request begins", bodies_that_are_taken},
    {"a body that is cut, too long or doubtful ends the connection", bodies_that_end_the_connection},
    {"an answer that comes later", answers_that_come_later},
    {"bad heads are refused", heads_that_are_refused},
    {"the server's time limits", time_limits},
    {"a body that comes too slowly is refused", slow_bodies},
    {"a client that does not read gets no second answer and is dropped", answers_that_nobody_reads},
    {"an answer without an end is written piece by piece", streams},
    {"an upgrade hands the connection over", an_upgrade_hands_over},
    {"each allocation may fail", without_memory},
    {NULL, NULL},
};

int main(void) {
    io_ignore_sigpipe();
    loop = io_loop_create();
    int rc = loop ? tap_main("web, server", tests) : 1;
    io_loop_destroy(&loop);
    return rc;
}
