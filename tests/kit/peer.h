/*
 * A kit in this process, and everybody who talks to it on the same loop: a driver that sends exactly the frames a test
 * spells out, and raw TCP clients (visitors, admin clients).
 */
#ifndef HT_TESTS_KIT_PEER_H
#define HT_TESTS_KIT_PEER_H

#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "kit/kit.h"
#include "support/tap.h"
#include "wire_gen.h"
#include "ws/ws.h"

#include <arpa/inet.h>
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

/* ---- the kit ---- */

struct kit_host {
    struct io_loop *loop;
    struct opt_serve opt;
    struct kit *kit;
    uint16_t port;
    size_t mem_before;
    int fds_before;
    bool drained;
};

static struct kit_host host;

#define TEST_LOOP host.loop
#include "support/turns.h"

/* Parses the words of `args` as `hoody-tunnel serve` would; the listener gets a free port. */
static inline void host_options(const char *args) {
    static char text[512];
    char *argv[32];
    int argc = 0;
    struct ht_errmsg err;
    snprintf(text, sizeof text, "--listen 127.0.0.1:0 %s", args);
    for (char *word = strtok(text, " "); word && argc < 32; word = strtok(NULL, " "))
        argv[argc++] = word;
    CU_ASSERT_EQUAL_FATAL(opt_serve_parse(&host.opt, argc, argv, &err), 0);
}

static inline void host_start(const char *args) {
    ht_log_setup(2, getenv("HT_TEST_LOG") ? HT_LOG_DEBUG : HT_LOG_ERROR, HT_LOG_TEXT);
    io_ignore_sigpipe();
    memset(&host, 0, sizeof host);
    host.mem_before = ht_mem_live();
    host.fds_before = io_count_fds();
    host_options(args);
    host.loop = io_loop_create();
    CU_ASSERT_PTR_NOT_NULL_FATAL(host.loop);
    struct ht_errmsg err = {""};
    host.kit = kit_create(host.loop, &host.opt, &err);
    if (!host.kit)
        printf("# %s\n", err.text);
    CU_ASSERT_PTR_NOT_NULL_FATAL(host.kit);
    struct io_addr a;
    kit_listen_addr(host.kit, &a);
    host.port = io_addr_port(&a);
    CU_ASSERT_FATAL(host.port != 0);
}

static inline void host_drained(void *ctx) { ((struct kit_host *)ctx)->drained = true; }

/* Waits until nobody is there any more, then destroys all and looks for what was left behind. What waits for the driver
 * of a parked session ends with the kit. */
static inline void host_stop(void) {
    UNTIL(kit_websockets(host.kit) == 0 && kit_http_clients(host.kit) == 0 &&
          (kit_visitors(host.kit) == 0 || kit_sessions_parked(host.kit) > 0));
    CU_ASSERT_EQUAL(kit_websockets_pre_auth(host.kit), 0);
    CU_ASSERT(kit_streams(host.kit) == 0 || kit_sessions_parked(host.kit) > 0);
    kit_destroy(&host.kit);
    io_loop_destroy(&host.loop);
    opt_serve_free(&host.opt);
    CU_ASSERT_EQUAL(ht_mem_live(), host.mem_before);
    CU_ASSERT_EQUAL(io_count_fds(), host.fds_before);
}

/* ---- a driver ---- */

struct got_frame {
    uint8_t type;
    uint32_t stream_id;
    size_t at, len; /* payload in `bytes` */
};

struct peer {
    struct ws_connect *connect;
    struct ws_conn *ws;
    bool open, failed, closed;
    int status; /* HTTP, when it failed */
    char protocol[32];
    uint16_t close_code;
    bool close_local;
    struct ht_buf out;   /* the next message */
    struct ht_buf bytes; /* all messages so far */
    struct got_frame frames[256];
    size_t n_frames, n_read, parsed;
    struct wire_scratch *scratch;
    union wire_any any; /* the last frame that peer_expect() has decoded */
    uint64_t body;      /* DATA bytes of the last peer_body() */
};

static inline uint32_t get32(const uint8_t *p) {
    return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}

static inline ssize_t peer_message(void *ctx, uint8_t *data, size_t n, bool end) {
    struct peer *p = ctx;
    (void)end;
    if (ht_buf_append(&p->bytes, data, n) != 0)
        abort();
    while (p->bytes.len - p->parsed >= WIRE_LIMIT_HEADER) {
        const uint8_t *f = p->bytes.data + p->parsed;
        uint32_t len = get32(f + 5);
        if (p->bytes.len - p->parsed < WIRE_LIMIT_HEADER + len || p->n_frames == HT_ARRAY_LEN(p->frames))
            break;
        p->frames[p->n_frames++] = (struct got_frame){f[0], get32(f + 1), p->parsed + WIRE_LIMIT_HEADER, len};
        p->parsed += WIRE_LIMIT_HEADER + len;
    }
    return (ssize_t)n;
}

static inline void peer_fed(void *ctx) { (void)ctx; }

static inline size_t peer_pull(void *ctx, uint8_t *out, size_t cap) {
    struct peer *p = ctx;
    size_t n = ht_buf_size(&p->out);
    if (n == 0 || n > cap)
        return 0;
    memcpy(out, ht_buf_head(&p->out), n);
    ht_buf_consume(&p->out, n);
    return n;
}

static inline void peer_closed(void *ctx, uint16_t code, struct ht_slice reason, bool local) {
    struct peer *p = ctx;
    (void)reason;
    p->closed = true;
    p->close_code = code;
    p->close_local = local;
}

static const struct ws_ops peer_ws_ops = {peer_message, peer_fed, peer_pull, peer_closed};

static inline void peer_is_open(void *ctx, struct io_conn *conn, struct ht_slice protocol, struct ht_slice early) {
    static const struct ws_limits limits = {1u << 20, 64, WIRE_LIMIT_MAX_MESSAGE};
    struct peer *p = ctx;
    p->connect = NULL;
    p->open = true;
    snprintf(p->protocol, sizeof p->protocol, "%.*s", HT_SLICE_ARG(protocol));
    p->ws = ws_conn_create(host.loop, conn, WS_CLIENT, &limits, early, &peer_ws_ops, p);
    if (!p->ws)
        abort();
}

static inline void peer_failed(void *ctx, int err, uint16_t status, uint64_t retry_after_ms, const char *text) {
    struct peer *p = ctx;
    (void)err, (void)retry_after_ms, (void)text;
    p->connect = NULL;
    p->failed = true;
    p->status = status;
}

/* Connects and waits until it is open or was refused. `extra`: header lines with CRLF, or NULL. */
static inline void peer_connect_as(struct peer *p, const char *protocols, const char *extra) {
    static const struct ws_connect_ops ops = {peer_is_open, peer_failed};
    char field[32];
    snprintf(field, sizeof field, "127.0.0.1:%u", host.port);
    struct ws_connect_options o = {
        .host = "127.0.0.1",
        .port = host.port,
        .host_field = field,
        .path = WIRE_CONNECT_PATH,
        .protocols = protocols,
        .extra = extra,
        .timeout_ms = PATIENCE_MS,
    };
    struct ht_errmsg err;
    memset(p, 0, sizeof *p);
    p->scratch = wire_scratch_create();
    CU_ASSERT_PTR_NOT_NULL_FATAL(p->scratch);
    p->connect = ws_connect_start(host.loop, &o, &ops, p, &err);
    CU_ASSERT_PTR_NOT_NULL_FATAL(p->connect);
    UNTIL(p->open || p->failed);
}

static inline void peer_connect(struct peer *p) { peer_connect_as(p, WIRE_SUBPROTOCOL_V1, NULL); }

/* Drops the socket without a word and forgets everything. */
static inline void peer_drop(struct peer *p) {
    ws_connect_cancel(&p->connect);
    ws_conn_destroy(&p->ws);
    ht_buf_free(&p->out);
    ht_buf_free(&p->bytes);
    wire_scratch_destroy(&p->scratch);
}

/* A clean goodbye: a close frame without a code, answered by the kit. */
static inline void peer_bye(struct peer *p) {
    if (!p->closed) {
        ws_conn_close(p->ws, 0, NULL);
        UNTIL(p->closed);
    }
    peer_drop(p);
}

/* Adds a frame to the message that peer_flush() sends; `payload` is the frame's struct. */
static inline void peer_add(struct peer *p, uint8_t type, uint32_t stream_id, const void *payload) {
    uint8_t *to = ht_buf_reserve(&p->out, WIRE_LIMIT_HEADER + WIRE_LIMIT_MAX_PAYLOAD);
    CU_ASSERT_PTR_NOT_NULL_FATAL(to);
    int n = wire_encode_any(to, WIRE_LIMIT_HEADER + WIRE_LIMIT_MAX_PAYLOAD, type, stream_id, payload);
    CU_ASSERT_FATAL(n > 0);
    ht_buf_commit(&p->out, (size_t)n);
}

/* The same with any bytes as payload, right or wrong. */
static inline void peer_add_raw(struct peer *p, uint8_t type, uint32_t stream_id, const void *payload, size_t n) {
    uint8_t *to = ht_buf_reserve(&p->out, WIRE_LIMIT_HEADER + n);
    CU_ASSERT_PTR_NOT_NULL_FATAL(to);
    wire_encode_header(to, type, stream_id, (uint32_t)n);
    if (n)
        memcpy(to + WIRE_LIMIT_HEADER, payload, n);
    ht_buf_commit(&p->out, WIRE_LIMIT_HEADER + n);
}

static inline void peer_flush(struct peer *p) {
    ws_conn_want_send(p->ws);
    UNTIL(ht_buf_size(&p->out) == 0 || p->closed);
}

static inline void peer_send(struct peer *p, uint8_t type, uint32_t stream_id, const void *payload) {
    peer_add(p, type, stream_id, payload);
    peer_flush(p);
}

static inline void peer_send_text(struct peer *p, uint8_t type, uint32_t stream_id, const char *json) {
    peer_add_raw(p, type, stream_id, json, strlen(json));
    peer_flush(p);
}

/* The next frame must be of this type; credit and PINGs in between are passed over. It is decoded into p->any. */
static inline const struct got_frame *peer_expect(struct peer *p, uint8_t type) {
    for (;;) {
        UNTIL(p->n_read < p->n_frames || p->closed);
        CU_ASSERT_FATAL(p->n_read < p->n_frames);
        const struct got_frame *f = &p->frames[p->n_read++];
        if (f->type != type && (f->type == WIRE_WINDOW || f->type == WIRE_PING))
            continue;
        if (f->type != type)
            printf("# got %s instead of %s: %.*s\n", wire_frame_name(f->type), wire_frame_name(type), (int)f->len,
                   (const char *)p->bytes.data + f->at);
        CU_ASSERT_EQUAL_FATAL(f->type, type);
        if (type != WIRE_DATA && type != WIRE_EOF) {
            struct wire_error err;
            int rc = wire_decode_any(type, p->bytes.data + f->at, f->len, p->scratch, &p->any, &err);
            if (rc < 0)
                printf("# %s\n", err.text);
            CU_ASSERT_EQUAL_FATAL(rc, 0);
        }
        return f;
    }
}

static inline struct ht_slice peer_payload(const struct peer *p, const struct got_frame *f) {
    return ht_slice_of(p->bytes.data + f->at, f->len);
}

static inline void peer_hello(struct peer *p, const struct wire_hello *h) { peer_send(p, WIRE_HELLO, 0, h); }

/* HELLO as the published driver says it, and the answer. `id` (may be NULL) gets the session's name. */
static inline void peer_begin(struct peer *p, char id[64]) {
    struct wire_hello h = {.version = WIRE_V1};
    peer_hello(p, &h);
    peer_expect(p, WIRE_HELLO_OK);
    if (id)
        snprintf(id, 64, "%.*s", HT_SLICE_ARG(p->any.hello_ok.session_id));
}

static inline void peer_start(struct peer *p, char id[64]) {
    peer_connect(p);
    CU_ASSERT_FATAL(p->open);
    peer_begin(p, id);
}

static inline void peer_resume(struct peer *p, const char *id) {
    struct wire_hello h = {.version = WIRE_V1, .has_resume = true, .resume = {.session_id = ht_slice_str(id)}};
    peer_connect(p);
    CU_ASSERT_FATAL(p->open);
    peer_hello(p, &h);
    peer_expect(p, WIRE_HELLO_OK);
}

#define PEER_CLIENT "0123456789abcdef0123456789abcdef" /* a client id */

/* Connects and sends HELLO with capabilities, a client id and a session to resume, each of which may be NULL. */
static inline void peer_hello_as(struct peer *p, const struct ht_slice *caps, size_t n_caps, const char *client,
                                 const char *resume) {
    struct wire_hello h = {
        .version = WIRE_V1,
        .capabilities = caps,
        .n_capabilities = n_caps,
        .has_client = client != NULL,
        .client = {.id = ht_slice_str(client)},
        .has_resume = resume != NULL,
        .resume = {.session_id = ht_slice_str(resume)},
    };
    peer_connect(p);
    CU_ASSERT_FATAL(p->open);
    peer_hello(p, &h);
}

/* HELLO of version 2 and its answer; `resume` may be NULL. */
static inline void peer_v2_hello(struct peer *p, uint32_t asked, const struct ht_slice *caps, size_t n_caps,
                                 const char *resume) {
    struct wire_hello h = {
        .version = WIRE_V2,
        .capabilities = caps,
        .n_capabilities = n_caps,
        .has_max_connections = true,
        .max_connections = asked,
        .has_resume = resume != NULL,
        .resume = {.session_id = ht_slice_str(resume)},
    };
    peer_connect_as(p, WIRE_SUBPROTOCOL_V2, NULL);
    peer_hello(p, &h);
    peer_expect(p, WIRE_HELLO_OK);
}

/* Connects and says JOIN; the answer is yet to come. */
static inline void peer_join(struct peer *p, const char *id, unsigned index, const char *nonce) {
    struct wire_join j = {.session_id = ht_slice_str(id), .index = (uint16_t)index, .nonce = ht_slice_str(nonce)};
    peer_connect_as(p, WIRE_SUBPROTOCOL_V2, NULL);
    peer_send(p, WIRE_JOIN, 0, &j);
}

static inline void peer_expect_join_err(struct peer *p, enum wire_join_error code) {
    peer_expect(p, WIRE_JOIN_ERR);
    CU_ASSERT_EQUAL(p->any.join_err.code, code);
    UNTIL(p->closed);
    peer_drop(p);
}

/* Binds and returns the port. */
static inline uint16_t peer_bind(struct peer *p, enum wire_kind kind, uint16_t port) {
    struct wire_bind b = {
        .has_client_bind_ref = true,
        .client_bind_ref = 7,
        .kind = kind,
        .mode = kind == WIRE_KIND_HTTP ? WIRE_MODE_EXPOSE : WIRE_MODE_PULL,
        .container_port = port,
    };
    peer_send(p, WIRE_BIND, 0, &b);
    peer_expect(p, WIRE_BIND_OK);
    CU_ASSERT_EQUAL(p->any.bind_ok.client_bind_ref, 7);
    return p->any.bind_ok.container_port;
}

/* ---- a raw TCP client ---- */

struct raw {
    int fd;
    bool eof;
    struct ht_buf in;
};

/* From a loopback address, which is whom the kit sees. */
static inline void raw_connect_from(struct raw *r, uint16_t port, const char *source) {
    struct sockaddr_in from = {.sin_family = AF_INET},
                       to = {.sin_family = AF_INET, .sin_port = htons(port), .sin_addr = {htonl(INADDR_LOOPBACK)}};
    memset(r, 0, sizeof *r);
    inet_pton(AF_INET, source, &from.sin_addr);
    r->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    CU_ASSERT_FATAL(r->fd >= 0);
    setsockopt(r->fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &(int){1}, sizeof(int));
    CU_ASSERT_EQUAL_FATAL(bind(r->fd, (struct sockaddr *)&from, sizeof from), 0);
    CU_ASSERT_EQUAL_FATAL(connect(r->fd, (struct sockaddr *)&to, sizeof to), 0);
}

static inline void raw_connect(struct raw *r, uint16_t port) { raw_connect_from(r, port, "127.0.0.1"); }

static inline void raw_send(struct raw *r, const char *text) {
    CU_ASSERT_EQUAL_FATAL(send(r->fd, text, strlen(text), MSG_NOSIGNAL), (ssize_t)strlen(text));
}

/* Takes what has come; true while nothing has ended. */
static inline void raw_read(struct raw *r) {
    while (!r->eof) {
        uint8_t *to = ht_buf_reserve(&r->in, 65536);
        if (!to)
            abort();
        ssize_t n = recv(r->fd, to, 65536, MSG_DONTWAIT);
        if (n > 0)
            ht_buf_commit(&r->in, (size_t)n);
        else if (n == 0 || (errno != EAGAIN && errno != EWOULDBLOCK))
            r->eof = true;
        else
            return;
    }
}

static inline const char *raw_text(struct raw *r) {
    raw_read(r);
    uint8_t *end = ht_buf_reserve(&r->in, 1);
    if (!end)
        abort();
    *end = '\0';
    return (const char *)ht_buf_head(&r->in);
}

static inline bool raw_ended(struct raw *r) {
    raw_read(r);
    return r->eof;
}

static inline void raw_close(struct raw *r) {
    if (r->fd >= 0)
        close(r->fd);
    r->fd = -1;
    ht_buf_free(&r->in);
}

/* One request on a connection of its own. Returns the status; the whole answer is in r->in. */
static inline int raw_ask(struct raw *r, uint16_t port, const char *request) {
    raw_connect(r, port);
    raw_send(r, request);
    UNTIL(raw_ended(r));
    int status = 0;
    sscanf(raw_text(r), "HTTP/1.1 %d", &status);
    return status;
}

static inline const char *raw_body(struct raw *r) {
    const char *end = strstr(raw_text(r), "\r\n\r\n");
    return end ? end + 4 : "";
}

static inline bool port_refuses(uint16_t port) {
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons(port), .sin_addr = {htonl(INADDR_LOOPBACK)}};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    bool refused = connect(fd, (struct sockaddr *)&a, sizeof a) != 0 && errno == ECONNREFUSED;
    close(fd);
    return refused;
}

/* ---- both sides of a request ---- */

/* Answers stream `id` with 200 and `body`. */
static inline void answer_stream(struct peer *p, uint32_t id, const char *body) {
    char length[24];
    snprintf(length, sizeof length, "%zu", strlen(body));
    struct wire_header h[] = {{ht_slice_str("content-length"), ht_slice_str(length)}};
    struct wire_response_head head = {.status = 200, .headers = h, .n_headers = 1, .final = true};
    peer_add(p, WIRE_STREAM_RESPONSE_HEAD, id, &head);
    peer_add_raw(p, WIRE_DATA, id, body, strlen(body));
    peer_add_raw(p, WIRE_EOF, id, NULL, 0);
    peer_flush(p);
}

/* Answers the stream that comes next with 200 and `body`. */
static inline void answer_one(struct peer *p, const char *path, const char *body) {
    const struct got_frame *f = peer_expect(p, WIRE_STREAM_OPEN);
    uint32_t id = f->stream_id;
    const struct wire_stream_open *open = &p->any.stream_open;
    CU_ASSERT_EQUAL(open->kind, WIRE_KIND_HTTP);
    CU_ASSERT(ht_slice_is(open->method, "GET"));
    CU_ASSERT(ht_slice_is(open->target, path));
    CU_ASSERT(open->has_peer_addr && strncmp(open->peer_addr.p, "127.0.0.1:", 10) == 0);
    f = peer_expect(p, WIRE_EOF);
    CU_ASSERT_EQUAL(f->stream_id, id);
    answer_stream(p, id, body);
}

/* DATA bytes that came, on stream `id` or (0) on all. */
static inline uint64_t data_bytes(const struct peer *p, uint32_t id) {
    uint64_t n = 0;
    for (size_t i = 0; i < p->n_frames; i++)
        if (p->frames[i].type == WIRE_DATA && (id == 0 || p->frames[i].stream_id == id))
            n += p->frames[i].len;
    return n;
}

/* Pushes into a pull port until the kernel takes no more; the kit must stop at its credit. */
static inline void fill(struct raw *r, size_t n) {
    static const char zeros[65536];
    uint64_t until = ht_now_ms() + PATIENCE_MS;
    while (n > 0 && ht_now_ms() < until) {
        ssize_t sent = send(r->fd, zeros, ht_min(n, sizeof zeros), MSG_NOSIGNAL | MSG_DONTWAIT);
        if (sent > 0)
            n -= (size_t)sent;
        one_turn();
    }
    CU_ASSERT_EQUAL(n, 0);
}

#define GET(path) "GET " path " HTTP/1.1\r\nHost: app\r\nConnection: close\r\n\r\n"

static inline void get_through(struct peer *p, uint16_t port) {
    struct raw r;
    raw_connect(&r, port);
    raw_send(&r, GET("/hello?x=1"));
    answer_one(p, "/hello?x=1", "good day");
    UNTIL(raw_ended(&r));
    CU_ASSERT_EQUAL(strncmp(raw_text(&r), "HTTP/1.1 200 ", 13), 0);
    CU_ASSERT_STRING_EQUAL(raw_body(&r), "good day");
    raw_close(&r);
}

#endif
