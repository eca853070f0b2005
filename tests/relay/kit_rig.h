/*
 * A binding table on a loop, owners whose driver is played by the test frame by frame, and visitors on real loopback
 * sockets. Nothing here sleeps: everything waits for a condition while the loop turns.
 */
#ifndef HT_TESTS_RELAY_KIT_RIG_H
#define HT_TESTS_RELAY_KIT_RIG_H

#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "relay/kit.h"
#include "support/fds.h"
#include "support/tap.h"
#include "wire/bytes.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define RIG_STREAMS 256

/* ---- the world ---- */

struct rig {
    struct io_loop *loop;
    struct io_fds fds;
    struct ht_metrics metrics;
    struct relay_kit_config cfg;
    struct relay_table *table;
    size_t mem_before;
    int fds_before;
};

static struct rig rig;
static unsigned rig_caps; /* what both sides of the next session have named */

#define TEST_LOOP rig.loop
#include "support/turns.h"

static inline void rig_start(void) {
    io_ignore_sigpipe();
    ht_log_setup(2, getenv("HT_TEST_LOG") ? HT_LOG_DEBUG : HT_LOG_ERROR, HT_LOG_TEXT);
    rig = (struct rig){.mem_before = ht_mem_live(), .fds_before = io_count_fds(), .fds = {.total = 200}};
    rig.loop = io_loop_create();
    CU_ASSERT_PTR_NOT_NULL_FATAL(rig.loop);
    rig.cfg = (struct relay_kit_config){
        .loop = rig.loop,
        .fds = &rig.fds,
        .metrics = &rig.metrics,
        .head_limits = {WIRE_LIMIT_MAX_HEAD, WIRE_LIMIT_MAX_HEADERS, WIRE_LIMIT_MAX_TARGET},
        .head_timeout_ms = 30000,
        .keepalive_timeout_ms = 75000,
        .response_timeout_ms = 300000,
        .half_close_timeout_ms = 30000,
        .send_timeout_ms = 30000,
        .hold_ms = WIRE_LIMIT_HOLD,
        .body_grace_ms = 20000,
        .min_body_rate = 500,
        .max_bindings_per_session = 8,
        .max_names_per_session = 32,
    };
    CU_ASSERT_EQUAL_FATAL(io_addr_parse(&rig.cfg.expose_address, "127.0.0.1", 0), 0);
}

static inline void rig_table(void) {
    rig.table = relay_table_create(&rig.cfg);
    CU_ASSERT_PTR_NOT_NULL_FATAL(rig.table);
}

/* Ends everything and looks whether anything is left. */
static inline void rig_stop(void) {
    relay_table_destroy(&rig.table);
    io_loop_destroy(&rig.loop);
    CU_ASSERT_EQUAL(rig.fds.used, 0);
    CU_ASSERT(fds_are_back(rig.fds_before));
    CU_ASSERT_EQUAL(ht_mem_live(), rig.mem_before);
}

/* ---- a driver, played by hand ---- */

/* A failing allocation that was meant for the rooms and hits the test is tried again. */
static inline void rig_append(struct ht_buf *b, const void *p, size_t n) {
    int rc = ht_buf_append(b, p, n);
    if (rc)
        rc = ht_buf_append(b, p, n);
    CU_ASSERT_EQUAL_FATAL(rc, 0);
}

struct played_stream {
    uint32_t id;
    char open[4096]; /* STREAM_OPEN's payload */
    struct ht_buf body;
    unsigned eofs;
    char trailers[1024]; /* STREAM_TRAILERS' payload */
    int reset;           /* -1: none */
    uint32_t window;
};

struct driver {
    struct relay_owner owner; /* first: revoked() gets it */
    struct mux_link *l;
    struct mux_session *s;
    struct mux_config cfg;
    struct io_task pump;
    struct ht_buf msg; /* frames to the kit, not sent yet */
    struct played_stream streams[RIG_STREAMS];
    unsigned n_streams;
    bool deaf;       /* does not take the kit's messages */
    bool no_windows; /* takes bytes and gives no credit back */
    unsigned n_revoked;
    uint32_t revoked_id;
    unsigned messages;
    bool may_end;     /* the session may give up */
    uint64_t counted; /* stream-resume: messages of the kit that count */
};

static inline void drv_room(void *ctx) {
    struct driver *d = ctx;
    relay_owner_room(rig.table, &d->owner);
}

static inline void drv_went(void *ctx, const char *text) { (void)ctx, (void)text; }

static inline void drv_hello(void *ctx, const struct wire_hello *hello) {
    static const struct mux_session_ops ops = {.room = drv_room, .away = drv_went};
    struct driver *d = ctx;
    struct wire_hello_ok ok = {
        .session_id = ht_slice_str("S-1"),
        .stream_window = d->cfg.stream_window,
        .session_window = d->cfg.session_window,
        .connections_granted = 1,
    };
    if (hello->has_resume) {
        CU_ASSERT_EQUAL(mux_session_resume(d->s, d->l, hello->resume.received, &ok, io_now_ms(rig.loop)), 0);
        return;
    }
    d->s = mux_session_create(&d->cfg, &ops, d, ht_now_ms());
    CU_ASSERT_PTR_NOT_NULL_FATAL(d->s);
    CU_ASSERT_EQUAL_FATAL(mux_session_attach(d->s, d->l, &ok), 0);
}

static inline void drv_output(void *ctx) {
    struct driver *d = ctx;
    io_task_add(rig.loop, &d->pump);
}

static inline void drv_close(void *ctx, uint16_t code, const char *reason) {
    (void)ctx;
    (void)code;
    (void)reason;
}

/* It gets every message at once. */
static inline size_t drv_kept(void *ctx) { return (void)ctx, 0; }
static inline void drv_acked(void *ctx, uint64_t count) { (void)ctx, (void)count; }

static const struct mux_link_ops drv_link_ops = {.hello = drv_hello,
                                                 .output = drv_output,
                                                 .close = drv_close,
                                                 .kept = drv_kept,
                                                 .acked = drv_acked,
                                                 .replay = drv_acked};

static inline struct played_stream *drv_find(struct driver *d, uint32_t id) {
    for (unsigned i = 0; i < d->n_streams; i++)
        if (d->streams[i].id == id)
            return &d->streams[i];
    return NULL;
}

/* The stream that was opened last. */
static inline struct played_stream *drv_last(struct driver *d) {
    CU_ASSERT_FATAL(d->n_streams > 0);
    return &d->streams[d->n_streams - 1];
}

static inline void drv_frame(struct driver *d, const void *p, size_t n) { rig_append(&d->msg, p, n); }

/* Everything queued goes to the kit as one message. */
static inline void drv_send(struct driver *d) {
    if (ht_buf_size(&d->msg) == 0)
        return;
    ssize_t n = mux_link_message(d->l, ht_buf_head(&d->msg), ht_buf_size(&d->msg), true);
    CU_ASSERT(n == (ssize_t)ht_buf_size(&d->msg) || d->may_end);
    mux_link_fed(d->l);
    d->msg.off = d->msg.len = 0;
}

static inline void drv_window(struct driver *d, uint32_t id, uint32_t n) {
    uint8_t f[16];
    int len = wire_encode_window(f, sizeof f, id, n);
    CU_ASSERT_FATAL(len > 0);
    drv_frame(d, f, (size_t)len);
}

static inline void drv_take(struct driver *d, uint8_t type, uint32_t id, const uint8_t *p, size_t n) {
    if (type == WIRE_STREAM_OPEN) {
        CU_ASSERT_FATAL(d->n_streams < RIG_STREAMS);
        struct played_stream *st = &d->streams[d->n_streams++];
        *st = (struct played_stream){.id = id, .reset = -1};
        n = ht_min(n, sizeof st->open - 1);
        memcpy(st->open, p, n);
        st->open[n] = '\0';
        return;
    }
    struct played_stream *st = drv_find(d, id);
    if (!st)
        return;
    switch (type) {
    case WIRE_DATA:
        rig_append(&st->body, p, n);
        if (!d->no_windows && n) {
            drv_window(d, id, (uint32_t)n);
            drv_window(d, 0, (uint32_t)n);
        }
        break;
    case WIRE_EOF:
        st->eofs++;
        break;
    case WIRE_STREAM_TRAILERS:
        CU_ASSERT_EQUAL(st->eofs, 0);
        snprintf(st->trailers, sizeof st->trailers, "%.*s", (int)n, (const char *)p);
        break;
    case WIRE_RESET:
        st->reset = p[0] << 8 | p[1];
        break;
    case WIRE_WINDOW:
        st->window += (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
        break;
    default:
        break;
    }
}

static inline void drv_pump(struct io_task *task) {
    static uint8_t out[WIRE_LIMIT_MAX_MESSAGE];
    struct driver *d = ht_container_of(task, struct driver, pump);
    size_t n;
    while (!d->deaf && d->l && (n = mux_link_pull(d->l, out, sizeof out)) > 0) {
        d->messages++;
        d->counted += mux_link_counts(d->l);
        for (size_t at = 0; at < n;) {
            uint32_t id =
                (uint32_t)out[at + 1] << 24 | (uint32_t)out[at + 2] << 16 | (uint32_t)out[at + 3] << 8 | out[at + 4];
            uint32_t len =
                (uint32_t)out[at + 5] << 24 | (uint32_t)out[at + 6] << 16 | (uint32_t)out[at + 7] << 8 | out[at + 8];
            drv_take(d, out[at], id, out + at + WIRE_LIMIT_HEADER, len);
            at += WIRE_LIMIT_HEADER + len;
        }
        drv_send(d);
    }
}

static inline void drv_revoked(struct relay_owner *o, uint32_t bind_id, const char *reason) {
    struct driver *d = ht_container_of(o, struct driver, owner);
    CU_ASSERT(reason && reason[0]);
    d->n_revoked++;
    d->revoked_id = bind_id;
}

/* A live session with its owner. */
static inline void drv_start(struct driver *d) {
    memset(d, 0, sizeof *d);
    d->cfg = (struct mux_config){
        .role = WIRE_ROLE_KIT,
        .version = WIRE_V1,
        .stream_window = WIRE_LIMIT_STREAM_WINDOW,
        .session_window = WIRE_LIMIT_SESSION_WINDOW,
        .max_streams = 128,
        .session_buffer = WIRE_LIMIT_SESSION_BUFFER,
        .first_stream_id = 2,
        .own_peer = true,
        .caps = rig_caps,
        .metrics = &rig.metrics,
    };
    io_task_init(&d->pump, drv_pump);
    d->l = mux_link_create(WIRE_ROLE_KIT, WIRE_V1, &drv_link_ops, d);
    CU_ASSERT_PTR_NOT_NULL_FATAL(d->l);
    uint8_t f[512];
    struct wire_hello hello = {.version = WIRE_V1};
    int n = wire_encode_hello(f, sizeof f, 0, &hello);
    CU_ASSERT_FATAL(n > 0);
    drv_frame(d, f, (size_t)n);
    drv_send(d);
    static const struct relay_owner_ops ops = {.revoked = drv_revoked};
    relay_owner_init(&d->owner, &ops);
    d->owner.mux = d->s;
    d->owner.own_peer = true;
}

/* With stream-resume: the link drops, and its streams wait. */
static inline void drv_away(struct driver *d) {
    settle();
    mux_session_tick(d->s, io_now_ms(rig.loop));
    mux_link_destroy(&d->l);
    CU_ASSERT(mux_session_is_away(d->s));
    relay_owner_away(rig.table, &d->owner);
}

static inline void drv_back(struct driver *d) {
    char json[256];
    uint8_t f[WIRE_LIMIT_HEADER];
    d->l = mux_link_create(WIRE_ROLE_KIT, WIRE_V1, &drv_link_ops, d);
    CU_ASSERT_PTR_NOT_NULL_FATAL(d->l);
    int n = snprintf(json, sizeof json,
                     "{\"version\":\"hoody-tunnel.v1\",\"capabilities\":[\"stream-resume\"],"
                     "\"resume\":{\"sessionId\":\"S-1\",\"received\":%llu}}",
                     (unsigned long long)d->counted);
    drv_frame(d, f, (size_t)wire_encode_header(f, WIRE_HELLO, 0, (uint32_t)n));
    drv_frame(d, json, (size_t)n);
    drv_send(d);
    CU_ASSERT_FALSE(mux_session_is_away(d->s));
    relay_owner_back(&d->owner);
    relay_owner_room(rig.table, &d->owner);
}

/* The link drops: the owner is parked. */
static inline void drv_drop(struct driver *d) {
    d->owner.mux = NULL;
    mux_session_destroy(&d->s);
    mux_link_destroy(&d->l);
    io_task_cancel(&d->pump);
}

static inline void drv_stop(struct driver *d) {
    if (rig.table)
        relay_owner_drop(rig.table, &d->owner);
    drv_drop(d);
    for (unsigned i = 0; i < d->n_streams; i++)
        ht_buf_free(&d->streams[i].body);
    ht_buf_free(&d->msg);
}

/* "name: value" lines with "\n" between. */
static inline size_t drv_fields(struct wire_header h[16], const char *fields) {
    size_t n = 0;
    while (fields && *fields) {
        const char *colon = strstr(fields, ": "), *end = strchr(fields, '\n');
        end = end ? end : fields + strlen(fields);
        h[n++] = (struct wire_header){ht_slice_of(fields, (size_t)(colon - fields)),
                                      ht_slice_of(colon + 2, (size_t)(end - colon - 2))};
        fields = *end ? end + 1 : NULL;
    }
    return n;
}

/* `fields`: see drv_fields(). Queued, not sent. */
static inline void drv_head_said(struct driver *d, uint32_t id, uint16_t status, const char *reason, const char *fields,
                                 bool final) {
    struct wire_header h[16];
    struct wire_response_head head = {
        .status = status, .headers = h, .n_headers = drv_fields(h, fields), .final = final};
    head.has_reason = reason != NULL;
    head.reason = ht_slice_str(reason);
    uint8_t f[8192];
    int len = wire_encode_response_head(f, sizeof f, id, &head);
    CU_ASSERT_FATAL(len > 0);
    drv_frame(d, f, (size_t)len);
}

static inline void drv_head_final(struct driver *d, uint32_t id, uint16_t status, const char *fields, bool final) {
    drv_head_said(d, id, status, NULL, fields, final);
}

static inline void drv_trailers(struct driver *d, uint32_t id, const char *fields) {
    struct wire_header h[16];
    struct wire_trailers t = {h, drv_fields(h, fields)};
    uint8_t f[8192];
    int len = wire_encode_trailers(f, sizeof f, id, &t);
    CU_ASSERT_FATAL(len > 0);
    drv_frame(d, f, (size_t)len);
}

static inline void drv_head(struct driver *d, uint32_t id, uint16_t status, const char *fields) {
    drv_head_final(d, id, status, fields, status >= 200 || status == 101);
}

static inline void drv_data(struct driver *d, uint32_t id, const void *p, size_t n) {
    uint8_t f[WIRE_LIMIT_HEADER];
    wire_encode_data_header(f, id, (uint32_t)n);
    drv_frame(d, f, sizeof f);
    drv_frame(d, p, n);
}

static inline void drv_text(struct driver *d, uint32_t id, const char *text) { drv_data(d, id, text, strlen(text)); }

static inline void drv_eof(struct driver *d, uint32_t id) {
    uint8_t f[WIRE_LIMIT_HEADER];
    CU_ASSERT_FATAL(wire_encode_eof(f, sizeof f, id) > 0);
    drv_frame(d, f, sizeof f);
}

static inline void drv_reset(struct driver *d, uint32_t id, uint16_t code) {
    uint8_t f[64];
    int n = wire_encode_reset(f, sizeof f, id, code, ht_slice_str("because"));
    CU_ASSERT_FATAL(n > 0);
    drv_frame(d, f, (size_t)n);
}

/* ---- bindings ---- */

static inline int rig_bind(struct driver *d, struct wire_bind bind, struct relay_bound *out,
                           enum wire_bind_error *code) {
    struct ht_errmsg err = {""};
    *code = WIRE_BIND_ERROR_UNKNOWN;
    int rc = relay_bind(rig.table, &d->owner, &bind, out, code, &err);
    CU_ASSERT(rc == 0 || err.text[0]);
    return rc;
}

static inline uint16_t rig_expose(struct driver *d) {
    struct relay_bound bound;
    enum wire_bind_error code;
    struct wire_bind bind = {.kind = WIRE_KIND_HTTP, .mode = WIRE_MODE_EXPOSE};
    CU_ASSERT_EQUAL_FATAL(rig_bind(d, bind, &bound, &code), 0);
    return bound.port;
}

static inline uint16_t rig_pull(struct driver *d) {
    struct relay_bound bound;
    enum wire_bind_error code;
    struct wire_bind bind = {.kind = WIRE_KIND_TCP, .mode = WIRE_MODE_PULL};
    CU_ASSERT_EQUAL_FATAL(rig_bind(d, bind, &bound, &code), 0);
    return bound.port;
}

/* ---- visitors ---- */

struct visitor {
    int fd;
    struct ht_buf rx;
    bool ended, cut; /* FIN, RST */
    char addr[IO_ADDR_TEXT];
};

/* `from`: the address it comes from; NULL: any. */
static inline struct visitor vis_connect_from(const char *from, const char *host, uint16_t port) {
    struct visitor v = {.fd = -1};
    struct io_addr a, b;
    CU_ASSERT_EQUAL_FATAL(io_addr_parse(&a, host, port), 0);
    v.fd = socket(a.ss.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    CU_ASSERT_FATAL(v.fd >= 0);
    if (from) {
        CU_ASSERT_EQUAL_FATAL(io_addr_parse(&b, from, 0), 0);
        CU_ASSERT_EQUAL_FATAL(bind(v.fd, (struct sockaddr *)&b.ss, b.len), 0);
    }
    CU_ASSERT_EQUAL_FATAL(connect(v.fd, (struct sockaddr *)&a.ss, a.len), 0);
    CU_ASSERT_EQUAL(fcntl(v.fd, F_SETFL, O_NONBLOCK), 0);
    setsockopt(v.fd, IPPROTO_TCP, TCP_NODELAY, &(int){1}, sizeof(int));
    struct io_addr me = {.len = sizeof me.ss};
    CU_ASSERT_EQUAL(getsockname(v.fd, (struct sockaddr *)&me.ss, &me.len), 0);
    io_addr_text(&me, v.addr);
    return v;
}

static inline struct visitor vis_connect_to(const char *host, uint16_t port) {
    return vis_connect_from(NULL, host, port);
}

static inline struct visitor vis_connect(uint16_t port) { return vis_connect_to("127.0.0.1", port); }

static inline void vis_close(struct visitor *v) {
    if (v->fd >= 0)
        close(v->fd);
    v->fd = -1;
    ht_buf_free(&v->rx);
}

static inline void vis_read(struct visitor *v, size_t most) {
    static char buf[65536];
    while (!v->ended && !v->cut && most) {
        ssize_t n = recv(v->fd, buf, ht_min(most, sizeof buf), 0);
        if (n > 0) {
            rig_append(&v->rx, buf, (size_t)n);
            most -= (size_t)n;
        } else if (n == 0) {
            v->ended = true;
        } else {
            v->cut = errno != EAGAIN;
            return;
        }
    }
}

static inline size_t vis_got(struct visitor *v) {
    vis_read(v, SIZE_MAX);
    return ht_buf_size(&v->rx);
}

static inline bool vis_over(struct visitor *v) {
    vis_read(v, SIZE_MAX);
    return v->ended || v->cut;
}

static inline void vis_send_bytes(struct visitor *v, const void *p, size_t n) {
    const char *at = p;
    uint64_t end = ht_now_ms() + PATIENCE_MS;
    while (n && ht_now_ms() < end) {
        ssize_t done = send(v->fd, at, n, MSG_NOSIGNAL);
        if (done > 0) {
            at += done;
            n -= (size_t)done;
        } else {
            CU_ASSERT_FATAL(errno == EAGAIN);
            one_turn();
        }
    }
    CU_ASSERT_EQUAL(n, 0);
}

static inline void vis_send(struct visitor *v, const char *text) { vis_send_bytes(v, text, strlen(text)); }

/* Waits for exactly these bytes and takes them. */
#define OWN "\1"

/* How many bytes of what came are `text`, in which OWN stands for the fields of every answer of ours; 0: not so, or not
 * yet. */
static inline size_t vis_match(struct visitor *v, const char *text) {
    static const char fixed[] = " GMT\r\ncache-control: no-store\r\n", why[] = "x-hoody-tunnel: error=";
    size_t n = vis_got(v);
    const char *from = (const char *)ht_buf_head(&v->rx), *p = from, *end = p + n;
    for (; *text; text++) {
        if (*text != *OWN) {
            if (p == end || *p++ != *text)
                return 0;
            continue;
        }
        if ((size_t)(end - p) < 31 + sizeof fixed || memcmp(p, "date: ", 6) != 0 ||
            memcmp(p + 31, fixed, sizeof fixed - 1) != 0)
            return 0;
        p += 31 + sizeof fixed - 1;
        if ((size_t)(end - p) < sizeof why || memcmp(p, why, sizeof why - 1) != 0)
            continue; /* it is no error */
        p = memchr(p, '\n', (size_t)(end - p));
        if (!p++)
            return 0;
    }
    return (size_t)(p - from);
}

static inline void vis_expect(struct visitor *v, const char *text) {
    uint64_t end = ht_now_ms() + PATIENCE_MS;
    size_t n;
    while ((n = vis_match(v, text)) == 0 && !v->ended && !v->cut && ht_now_ms() < end)
        one_turn();
    bool same = n > 0;
    if (!same)
        printf("# expected: %s\n# got: %.*s\n", text, (int)ht_buf_size(&v->rx),
               ht_buf_size(&v->rx) ? (const char *)ht_buf_head(&v->rx) : "");
    CU_ASSERT_FATAL(same);
    ht_buf_consume(&v->rx, n);
}

/* Nothing more comes but the end, in order or cut. */
static inline void vis_expect_end(struct visitor *v, bool cut) {
    UNTIL(vis_over(v));
    CU_ASSERT_EQUAL(v->cut, cut);
    CU_ASSERT_EQUAL(ht_buf_size(&v->rx), 0);
    if (ht_buf_size(&v->rx))
        printf("# left: %.*s\n", (int)ht_buf_size(&v->rx), (const char *)ht_buf_head(&v->rx));
}

/* An answer of the kit's own. */
#define ANSWER(status_line, more, length, body)                                                                        \
    "HTTP/1.1 " status_line "\r\ncontent-type: text/plain; charset=utf-8\r\ncontent-length: " length "\r\n" more OWN   \
    "\r\n" body
#define CLOSE "connection: close\r\n"

#endif
