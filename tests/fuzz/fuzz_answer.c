/*
 * The whole way of an answer: a visitor on one end of a socket pair asks, the real visitor code opens a stream on a
 * real session, the fuzzer plays the driver and answers with any frames. What reaches the visitor is read by a plain
 * reader that knows what was asked: one final head for a request at most, interim ones before it, framing that is never
 * ambiguous, and bodies made of the driver's bytes alone (hardening cases 2, 6, 7).
 *
 * Input: what is asked (one byte), then operations: see operation().
 */
#include "heads.h"
#include "relay/visitor_priv.h"
#include "wire/bytes.h"

#include <sys/socket.h>
#include <unistd.h>

#define MOST 65536
#define REQUESTS 2
#define BODY 0x80 /* bytes of DATA are from here on, so that a head cannot be taken for them */

struct asked {
    const char *text;
    unsigned requests;
    bool head, old, upgrade;
};

static const struct asked asks[] = {
    {"GET / HTTP/1.1\r\nHost: a\r\n\r\n", 1, false, false, false},
    {"HEAD / HTTP/1.1\r\nHost: a\r\n\r\n", 1, true, false, false},
    {"GET / HTTP/1.0\r\n\r\n", 1, false, true, false},
    {"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n", 1, false, true, false},
    {"GET /1 HTTP/1.1\r\nHost: a\r\n\r\nGET /2 HTTP/1.1\r\nHost: a\r\n\r\n", 2, false, false, false},
    {"HEAD /1 HTTP/1.1\r\nHost: a\r\n\r\nHEAD /2 HTTP/1.1\r\nHost: a\r\n\r\n", 2, true, false, false},
    {"GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n", 1, false, false, true},
    {"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhel", 1, false, false, false},
    {"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\nGET / HTTP/1.1\r\nHost: "
     "a\r\n\r\n",
     2, false, false, false},
    {"POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\nabc", 1, false, false, false},
};

static struct world {
    struct io_loop *loop;
    struct io_fds fds;
    struct ht_metrics metrics;
    struct relay_table *table;
    struct relay_owner owner;
    struct relay_binding *binding;
    struct mux_link *l;
    struct mux_session *s;
    struct io_task pump;
    bool dead;                  /* the session is over */
    uint32_t streams[REQUESTS]; /* ids in the order they were opened */
    unsigned n_streams;
    uint8_t sent[MOST]; /* DATA in the order it was sent, of all streams */
    size_t n_sent;
} w;

/* ---- the driver ---- */

static void feed(const uint8_t *p, size_t n) {
    if (w.dead || !w.l)
        return;
    uint8_t *copy = fuzz_copy(p, n);
    if (mux_link_message(w.l, copy, n, true) < 0)
        w.dead = true;
    if (w.l)
        mux_link_fed(w.l);
    free(copy);
}

static void feed_frame(uint8_t type, uint32_t id, const void *payload, size_t n) {
    static uint8_t m[WIRE_LIMIT_HEADER + MOST];
    wire_encode_header(m, type, id, (uint32_t)n);
    if (n)
        memcpy(m + WIRE_LIMIT_HEADER, payload, n);
    feed(m, WIRE_LIMIT_HEADER + n);
}

static void pump(struct io_task *t) {
    static uint8_t out[WIRE_LIMIT_MAX_MESSAGE];
    size_t n;
    (void)t;
    while (w.l && (n = mux_link_pull(w.l, out, sizeof out)) > 0)
        for (size_t at = 0; at < n; at += WIRE_LIMIT_HEADER + wire_get32(out + at + 5))
            if (out[at] == WIRE_STREAM_OPEN) {
                FUZZ_CHECK(w.n_streams < REQUESTS); /* no more than were asked for */
                w.streams[w.n_streams++] = wire_get32(out + at + 1);
            }
}

static void on_over(void *ctx, enum mux_end why, const char *text) {
    (void)ctx, (void)why, (void)text;
    w.dead = true;
    w.owner.mux = NULL;
}

static void on_hello(void *ctx, const struct wire_hello *hello) {
    static const struct mux_session_ops ops = {.over = on_over};
    static const struct mux_config cfg = {
        .role = WIRE_ROLE_KIT,
        .version = WIRE_V1,
        .stream_window = WIRE_LIMIT_STREAM_WINDOW,
        .session_window = WIRE_LIMIT_SESSION_WINDOW,
        .max_streams = 16,
        .session_buffer = WIRE_LIMIT_SESSION_BUFFER,
        .first_stream_id = 2,
        .own_peer = true,
    };
    struct wire_hello_ok ok = {.session_id = ht_slice_str("S-1"),
                               .stream_window = cfg.stream_window,
                               .session_window = cfg.session_window,
                               .connections_granted = 1};
    (void)ctx, (void)hello;
    w.s = mux_session_create(&cfg, &ops, NULL, io_now_ms(w.loop));
    FUZZ_CHECK(w.s && mux_session_attach(w.s, w.l, &ok) == 0);
    w.owner.mux = w.s;
}

static void on_output(void *ctx) {
    (void)ctx;
    io_task_add(w.loop, &w.pump);
}

static void on_close(void *ctx, uint16_t code, const char *reason) {
    (void)ctx, (void)code, (void)reason;
    w.dead = true;
}

static void turn(void) {
    for (int i = 0; i < 3; i++)
        io_loop_turn(w.loop, false);
}

static void world_begin(void) {
    struct relay_kit_config cfg = {
        .fds = &w.fds,
        .metrics = &w.metrics,
        .head_limits = {WIRE_LIMIT_MAX_HEAD, WIRE_LIMIT_MAX_HEADERS, WIRE_LIMIT_MAX_TARGET},
        .head_timeout_ms = 30000,
        .send_timeout_ms = 30000,
        .body_grace_ms = 20000,
        .min_body_rate = 500,
        .keepalive_timeout_ms = 75000,
        .response_timeout_ms = 300000,
        .half_close_timeout_ms = 30000,
        .max_bindings_per_session = 1,
    };
    struct relay_bound bound;
    enum wire_bind_error code;
    struct ht_errmsg err;
    struct wire_bind bind = {.kind = WIRE_KIND_HTTP, .mode = WIRE_MODE_EXPOSE};
    io_ignore_sigpipe();
    w.fds.total = 100;
    cfg.loop = w.loop = io_loop_create();
    FUZZ_CHECK(w.loop && io_addr_parse(&cfg.expose_address, "127.0.0.1", 0) == 0);
    w.table = relay_table_create(&cfg);
    relay_owner_init(&w.owner, NULL);
    FUZZ_CHECK(w.table && relay_bind(w.table, &w.owner, &bind, &bound, &code, &err) == 0);
    w.binding = HT_LIST_ENTRY(w.owner.bindings.next, struct relay_binding, node);
    io_task_init(&w.pump, pump);
}

static void session_begin(void) {
    static const struct mux_link_ops ops = {.hello = on_hello, .output = on_output, .close = on_close};
    static const char hello[] = "{\"version\":\"hoody-tunnel.v1\",\"capabilities\":[]}";
    /* Each input is a visitor of its own, who owes nothing for the others that have left. */
    relay_owner_forget(w.table, &w.owner);
    w.owner.churn_left = RELAY_OWNER_BURST;
    w.dead = false;
    w.n_streams = 0;
    w.n_sent = 0;
    w.l = mux_link_create(WIRE_ROLE_KIT, WIRE_V1, &ops, NULL);
    FUZZ_CHECK(w.l);
    feed_frame(WIRE_HELLO, 0, hello, sizeof hello - 1);
}

static void session_end(void) {
    w.owner.mux = NULL;
    mux_session_destroy(&w.s);
    mux_link_destroy(&w.l);
    io_task_cancel(&w.pump);
}

/* ---- operations ---- */

static void send_head(struct fuzz_in *in, uint32_t id) {
    static const uint16_t statuses[] = {200, 204, 304, 404, 100, 103, 101, 599};
    static const char *const names[] = {
        "content-length", "transfer-encoding", "connection", "keep-alive", "x-a",
        "upgrade",        "trailer",           "set-cookie", "te",         "content-type"};
    struct wire_header fields[8];
    static uint8_t frame[16384];
    uint8_t kind = fuzz_u8(in), count = fuzz_u8(in) & 7;
    struct wire_response_head head = {.status = statuses[kind & 7], .headers = fields, .n_headers = count};
    head.final = (head.status >= 200 || head.status == 101) != !!(kind & 0x80);
    for (uint8_t i = 0; i < count; i++) {
        uint8_t which = fuzz_u8(in);
        fields[i].name = which < 200 ? ht_slice_str(names[which % HT_ARRAY_LEN(names)]) : fuzz_take(in, which - 199);
        fields[i].value = fuzz_take(in, fuzz_u8(in));
    }
    int n = wire_encode_response_head(frame, sizeof frame, id, &head);
    if (n > 0)
        feed(frame, (size_t)n);
}

static void send_data(uint32_t id, size_t n, uint8_t byte) {
    n = ht_min(n, MOST - w.n_sent);
    memset(w.sent + w.n_sent, BODY | byte, n);
    feed_frame(WIRE_DATA, id, w.sent + w.n_sent, n);
    w.n_sent += n;
}

static void operation(struct fuzz_in *in) {
    uint8_t op = fuzz_u8(in), code[2] = {0, op};
    uint32_t id = w.streams[(op >> 3) & 1];
    if ((unsigned)((op >> 3) & 1) >= w.n_streams)
        id = 2;
    switch (op & 7) {
    case 0:
    case 1:
        send_head(in, id);
        break;
    case 2:
    case 3:
        send_data(id, op & 0x80 ? fuzz_u16(in) % 20000 : fuzz_u8(in), op >> 4);
        break;
    case 4:
        feed_frame(WIRE_EOF, id, NULL, 0);
        break;
    case 5:
        feed_frame(WIRE_RESET, id, code, 2);
        break;
    case 6: {
        struct ht_slice s = fuzz_take(in, fuzz_u8(in));
        feed_frame(WIRE_STREAM_RESPONSE_HEAD, id, s.p, s.n);
        break;
    }
    default:
        turn();
        break;
    }
    if (op & 0x40)
        turn();
}

/* ---- what the visitor got ---- */

struct answers {
    const uint8_t *p, *end;
    size_t body; /* bytes of bodies that came from the driver so far */
    bool fresh;  /* nothing of the present answer's body was seen */
    bool ours;   /* the present answer is the kit's own: its text is ASCII */
};

/* Body bytes of the driver come in the order they were sent; those of a stream whose answer was cut may be missing. */
static void take_body(struct answers *a, size_t n) {
    for (size_t i = 0; i < n; i++) {
        a->ours = a->fresh ? a->p[i] < BODY : a->ours;
        a->fresh = false;
        FUZZ_CHECK(a->ours == (a->p[i] < BODY));
        if (a->ours)
            continue;
        while (a->body < w.n_sent && w.sent[a->body] != a->p[i])
            a->body++;
        FUZZ_CHECK(a->body < w.n_sent);
        a->body++;
    }
    a->p += n;
}

/* RFC 9112 7.1, as we write it. False: it is cut off. */
static bool take_chunks(struct answers *a) {
    for (;;) {
        uint64_t n = 0;
        const uint8_t *first = a->p;
        for (; a->p < a->end && *a->p != '\r'; a->p++) {
            const char *digits = "0123456789abcdef", *at = *a->p ? strchr(digits, *a->p) : NULL;
            FUZZ_CHECK(at && n < 1u << 20);
            n = n * 16 + (uint64_t)(at - digits);
        }
        if (a->end - a->p < 2)
            return false;
        FUZZ_CHECK(a->p > first && a->p[1] == '\n');
        a->p += 2;
        size_t have = ht_min((size_t)n, (size_t)(a->end - a->p));
        take_body(a, have);
        if (have < n || a->end - a->p < 2)
            return false;
        FUZZ_CHECK(a->p[0] == '\r' && a->p[1] == '\n');
        a->p += 2;
        if (n == 0)
            return true;
    }
}

static const uint8_t *head_end(const struct answers *a) {
    for (const uint8_t *p = a->p; a->end - p >= 4; p++)
        if (memcmp(p, "\r\n\r\n", 4) == 0)
            return p + 4;
    return NULL;
}

static bool is_final(unsigned status) { return status >= 200 || status == 101; }

/* One answer with its interim heads. False: nothing follows it. */
static bool take_answer(struct answers *a, const struct asked *q) {
    static struct head_lines lines;
    unsigned status;
    do {
        const uint8_t *end = head_end(a);
        if (!end)
            return false;
        head_read(&lines, (const char *)a->p, (size_t)(end - a->p));
        FUZZ_CHECK(lines.start.n >= 12 && memcmp(lines.start.p, "HTTP/1.1 ", 9) == 0);
        status = (unsigned)(lines.start.p[9] - '0') * 100 + (unsigned)(lines.start.p[10] - '0') * 10 +
                 (unsigned)(lines.start.p[11] - '0');
        FUZZ_CHECK(status >= 100 && status <= 999 && (is_final(status) || !q->old));
        a->p = end;
    } while (!is_final(status));
    struct ht_slice v = {NULL, 0};
    unsigned chunked = head_count(&lines, "transfer-encoding", &v), lengths = 0;
    FUZZ_CHECK(chunked == 0 || (chunked == 1 && ht_slice_is(v, "chunked") && !q->old));
    lengths = head_count(&lines, "content-length", &v);
    FUZZ_CHECK(lengths + chunked <= 1 && head_count(&lines, "keep-alive", &v) == 0);
    FUZZ_CHECK(head_count(&lines, "connection", &v) <= 1);
    a->fresh = true;
    bool last = head_any_lists(&lines, "connection", "close");
    if (status == 101) {
        FUZZ_CHECK(q->upgrade && head_any_lists(&lines, "connection", "upgrade") && lengths + chunked == 0);
        take_body(a, (size_t)(a->end - a->p));
        return false;
    }
    if (q->head || status == 204 || status == 304)
        return !last;
    if (chunked)
        return take_chunks(a) && !last;
    if (lengths == 0) {
        FUZZ_CHECK(q->old && last);
        take_body(a, (size_t)(a->end - a->p));
        return false;
    }
    (void)head_count(&lines, "content-length", &v);
    uint64_t n = 0;
    for (size_t i = 0; i < v.n; i++) {
        FUZZ_CHECK(v.p[i] >= '0' && v.p[i] <= '9');
        n = n > 1u << 30 ? n : n * 10 + (uint64_t)(v.p[i] - '0');
    }
    size_t have = (size_t)ht_min((size_t)n, (size_t)(a->end - a->p));
    take_body(a, have);
    return have == n && !last;
}

static void check_answers(const uint8_t *p, size_t n, const struct asked *q) {
    struct answers a = {.p = p, .end = p + n};
    for (unsigned i = 0; i < q->requests; i++)
        if (!take_answer(&a, q)) {
            /* Half a head at most. */
            FUZZ_CHECK(!head_end(&a));
            return;
        }
    FUZZ_CHECK(a.p == a.end); /* nothing behind the last answer */
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static uint8_t got[MOST * 2];
    struct fuzz_in in = {data, data + size};
    const struct asked *q = &asks[fuzz_u8(&in) % HT_ARRAY_LEN(asks)];
    if (!w.loop)
        world_begin();
    unsigned fds = w.fds.used;
    session_begin();
    int fd[2];
    struct io_addr peer;
    FUZZ_CHECK(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fd) == 0);
    FUZZ_CHECK(io_addr_parse(&peer, "127.0.0.1", 9) == 0);
    FUZZ_CHECK(send(fd[1], q->text, strlen(q->text), MSG_NOSIGNAL) == (ssize_t)strlen(q->text));
    struct io_conn *conn = io_conn_adopt(w.loop, fd[0], NULL, NULL);
    FUZZ_CHECK(conn != NULL);
    relay_port_ops.accepted(w.binding->port, conn, &peer);
    turn();
    size_t n = 0;
    ssize_t more = 0;
    for (int i = 0; i < 100 && fuzz_left(&in); i++) {
        operation(&in);
        while (n < sizeof got && (more = recv(fd[1], got + n, sizeof got - n, 0)) > 0)
            n += (size_t)more;
    }
    turn();
    while (n < sizeof got && (more = recv(fd[1], got + n, sizeof got - n, 0)) > 0)
        n += (size_t)more;
    if (n < sizeof got)
        check_answers(got, n, q);
    close(fd[1]);
    turn();
    session_end();
    turn();
    FUZZ_CHECK(w.fds.used == fds && relay_count_visitors(w.table) == 0);
    return 0;
}
