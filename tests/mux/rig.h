/*
 * One real end of a session, and a peer that the test plays by hand: it writes frames, and reads what the real end
 * would send.
 */
#ifndef HT_TESTS_MUX_RIG_H
#define HT_TESTS_MUX_RIG_H

#include "base/mem.h"
#include "mux/mux.h"
#include "support/pieces.h"
#include "support/tap.h"
#include "wire/bytes.h"

#include <CUnit/CUnit.h>
#include <stdio.h>
#include <stdlib.h>

#define RIG_STREAMS 1100

/* What the test knows of one stream of the real end. */
struct rig_stream {
    struct rig *rig;
    struct mux_stream *st;
    size_t to_send;
    bool then_eof, more_lies, keep; /* keep: do not count bytes as consumed */
    bool lose_link;                 /* the next call destroys the link */
    size_t received;
    unsigned datas, data_ends, eofs, closes, heads, interims, pulls, runs, trailers, fields;
    int writable; /* last word: -1 none, 0, 1 */
    uint16_t code;
    bool remote;
};

struct rig_frame {
    uint8_t type;
    uint32_t id, len;
    uint8_t head[512]; /* the payload's beginning */
    unsigned message;
};

struct rig {
    struct mux_config cfg;
    struct mux_link *l;
    struct mux_session *s;
    uint64_t now;
    unsigned closes, overs, used_up, goaways, binds, bad_binds, outputs, pongs;
    uint64_t rtt_us;
    uint16_t ws_code;
    enum mux_end why;
    bool destroy_in_over;
    struct rig_stream streams[RIG_STREAMS];
    unsigned n_streams;
    uint8_t in[262144 + 64];
    size_t in_len;
    struct rig_frame out[20000];
    unsigned n_out, read, messages;
    size_t data_out;
    /* stream-resume: how many messages count, and what is kept of them */
    unsigned aways, lost, given_up, counted, replays;
    uint64_t acked, replayed, hello_received;
    uint32_t size_of[1024];
    size_t kept;
    uint64_t drained; /* what the kernel at the other end has; `draining`: not all that was sent */
    bool draining;
    int rc; /* of the last resume */
};

static uint8_t rig_buffer[262144 + 65536];

/* ---- callbacks ---- */

static inline void rig_whim(struct rig_stream *t) {
    if (!t->lose_link)
        return;
    t->lose_link = false;
    mux_link_destroy(&t->rig->l);
}

static inline void rig_head(void *ctx, const struct wire_response_head *head) {
    struct rig_stream *t = ctx;
    if (head->final)
        t->heads++;
    else
        t->interims++;
}

static inline void rig_data(void *ctx, const uint8_t *p, size_t n) {
    struct rig_stream *t = ctx;
    (void)p;
    t->received += n;
    t->datas++;
    rig_whim(t);
}

static inline void rig_trailers(void *ctx, const struct wire_trailers *t) {
    struct rig_stream *s = ctx;
    s->trailers++;
    s->fields += (unsigned)t->n_headers;
}

static inline void rig_eof(void *ctx) { ((struct rig_stream *)ctx)->eofs++; }

static inline void rig_data_end(void *ctx) {
    struct rig_stream *t = ctx;
    t->data_ends++;
    if (!t->keep && t->st)
        mux_stream_consumed(t->st, mux_stream_unconsumed(t->st));
}

static inline ssize_t rig_fill(void *ctx, uint8_t *out, size_t cap, unsigned *flags) {
    struct rig_stream *t = ctx;
    size_t n = ht_min(cap, t->to_send);
    memset(out, 'x', n);
    t->pulls++;
    t->to_send -= n;
    if (t->to_send > 0 || t->more_lies)
        *flags = MUX_PULL_MORE;
    else if (t->then_eof)
        *flags = MUX_PULL_EOF;
    rig_whim(t);
    return (ssize_t)n;
}

static inline ssize_t rig_fill_pieces(void *ctx, const struct iovec *to, int n, unsigned *flags) {
    ((struct rig_stream *)ctx)->runs++;
    return pull_pieces(rig_fill, ctx, to, n, flags);
}

static inline void rig_writable(void *ctx, bool yes) { ((struct rig_stream *)ctx)->writable = yes; }

static inline void rig_closed(void *ctx, uint16_t code, struct ht_slice reason, bool remote) {
    struct rig_stream *t = ctx;
    (void)reason;
    t->closes++;
    t->code = code;
    t->remote = remote;
}

static const struct mux_stream_ops rig_stream_ops = {
    .response_head = rig_head,
    .data = rig_data,
    .trailers = rig_trailers,
    .eof = rig_eof,
    .data_end = rig_data_end,
    .pull = rig_fill,
    .writable = rig_writable,
    .closed = rig_closed,
    .pullv = rig_fill_pieces,
};

static inline void rig_stream_open(void *ctx, struct mux_stream *st, const struct wire_stream_open *open) {
    struct rig *r = ctx;
    (void)open;
    struct rig_stream *t = &r->streams[r->n_streams++ % RIG_STREAMS];
    if (t->st)
        mux_stream_release(&t->st);
    *t = (struct rig_stream){.rig = r, .st = st, .writable = -1};
    mux_stream_accept(st, &rig_stream_ops, t);
}

static inline void rig_bind(void *ctx, const struct wire_bind *bind, const struct wire_error *err) {
    struct rig *r = ctx;
    r->binds++;
    r->bad_binds += err != NULL;
    (void)!mux_session_send(r->s, WIRE_BIND_ERR,
                            &(struct wire_bind_err){.has_client_bind_ref = bind->has_client_bind_ref,
                                                    .client_bind_ref = bind->client_bind_ref,
                                                    .code = WIRE_BIND_ERROR_INTERNAL,
                                                    .message = ht_slice_str("no")});
}

static inline void rig_goaway(void *ctx, const struct wire_goaway *g) {
    (void)g;
    ((struct rig *)ctx)->goaways++;
}

static inline void rig_pong(void *ctx, uint64_t rtt_us) {
    ((struct rig *)ctx)->rtt_us = rtt_us;
    ((struct rig *)ctx)->pongs++;
}

static inline void rig_over(void *ctx, enum mux_end why, const char *text) {
    struct rig *r = ctx;
    r->overs++;
    r->why = why;
    CU_ASSERT(text != NULL);
    if (r->destroy_in_over)
        mux_session_destroy(&r->s);
}

static inline void rig_used_up(void *ctx) { ((struct rig *)ctx)->used_up++; }

static inline void rig_link_lost(void *ctx, struct mux_link *l, unsigned index) {
    (void)l, (void)index;
    ((struct rig *)ctx)->lost++;
}

static inline void rig_away(void *ctx, const char *text) {
    CU_ASSERT(text != NULL);
    ((struct rig *)ctx)->aways++;
}

static inline void rig_given_up(void *ctx, unsigned index) {
    (void)index;
    ((struct rig *)ctx)->given_up++;
}

static const struct mux_session_ops rig_session_ops = {
    .bind = rig_bind,
    .stream_open = rig_stream_open,
    .goaway = rig_goaway,
    .pong = rig_pong,
    .link_lost = rig_link_lost,
    .away = rig_away,
    .given_up = rig_given_up,
    .used_up = rig_used_up,
    .over = rig_over,
};

static inline struct wire_hello_ok rig_hello_ok(void) {
    return (struct wire_hello_ok){
        .session_id = ht_slice_str("S-1"),
        .stream_window = WIRE_LIMIT_STREAM_WINDOW,
        .session_window = WIRE_LIMIT_SESSION_WINDOW,
        .connections_granted = 1,
    };
}

static inline void rig_hello(void *ctx, const struct wire_hello *hello) {
    struct rig *r = ctx;
    struct wire_hello_ok ok = rig_hello_ok();
    if (hello && hello->has_resume && hello->resume.has_received) {
        r->rc = mux_session_resume(r->s, r->l, hello->resume.received, &ok, r->now);
        return;
    }
    r->s = mux_session_create(&r->cfg, &rig_session_ops, r, r->now);
    if (r->s && mux_session_attach(r->s, r->l, &ok) < 0)
        mux_session_destroy(&r->s);
}

static inline void rig_hello_ok_came(void *ctx, const struct wire_hello_ok *ok) {
    struct rig *r = ctx;
    if (ok->has_received)
        r->rc = mux_session_resume(r->s, r->l, ok->received, ok, r->now);
    else
        rig_hello(ctx, NULL);
}

static inline size_t rig_kept(void *ctx) { return ((struct rig *)ctx)->kept; }

static inline void rig_acked(void *ctx, uint64_t count) {
    struct rig *r = ctx;
    CU_ASSERT(count <= r->counted);
    while (r->acked < count)
        r->kept -= r->size_of[++r->acked % HT_ARRAY_LEN(r->size_of)];
}

static inline void rig_replay(void *ctx, uint64_t count) {
    struct rig *r = ctx;
    rig_acked(ctx, count);
    r->replays++;
    r->replayed = count;
}

static inline uint64_t rig_drained(void *ctx, bool *waits) {
    struct rig *r = ctx;
    *waits = r->draining;
    return r->drained;
}

static inline void rig_output(void *ctx) { ((struct rig *)ctx)->outputs++; }

static inline void rig_close(void *ctx, uint16_t ws_code, const char *reason) {
    struct rig *r = ctx;
    CU_ASSERT(reason != NULL);
    r->closes++;
    r->ws_code = ws_code;
}

static const struct mux_link_ops rig_link_ops = {
    .hello = rig_hello,
    .hello_ok = rig_hello_ok_came,
    .output = rig_output,
    .close = rig_close,
    .kept = rig_kept,
    .acked = rig_acked,
    .replay = rig_replay,
    .drained = rig_drained,
};

/* ---- the peer's side ---- */

static inline void rig_raw(struct rig *r, const void *p, size_t n) {
    memcpy(r->in + r->in_len, p, n);
    r->in_len += n;
}

static inline void rig_add(struct rig *r, uint8_t type, uint32_t id, const void *payload, size_t n) {
    r->in_len += (size_t)wire_encode_header(r->in + r->in_len, type, id, (uint32_t)n);
    if (payload)
        memcpy(r->in + r->in_len, payload, n);
    else
        memset(r->in + r->in_len, 'y', n);
    r->in_len += n;
}

/* Sends what was added as one message, whole. Returns what message() says. */
static inline ssize_t rig_send(struct rig *r) {
    ssize_t n = mux_link_message(r->l, r->in, r->in_len, true);
    if (r->l)
        mux_link_fed(r->l);
    r->in_len = 0;
    return n;
}

static inline ssize_t rig_frame_in(struct rig *r, uint8_t type, uint32_t id, const void *payload, size_t n) {
    rig_add(r, type, id, payload, n);
    return rig_send(r);
}

static inline ssize_t rig_text(struct rig *r, uint8_t type, uint32_t id, const char *json) {
    return rig_frame_in(r, type, id, json, strlen(json));
}

static inline ssize_t rig_window(struct rig *r, uint32_t id, uint32_t n) {
    uint8_t p[4];
    wire_put32(p, n);
    return rig_frame_in(r, WIRE_WINDOW, id, p, 4);
}

static inline ssize_t rig_reset(struct rig *r, uint32_t id, uint16_t code) {
    uint8_t p[2];
    wire_put16(p, code);
    return rig_frame_in(r, WIRE_RESET, id, p, 2);
}

static inline ssize_t rig_ping(struct rig *r, const char nonce[9]) { return rig_frame_in(r, WIRE_PING, 0, nonce, 8); }

#define RIG_OPEN_TCP "{\"kind\":\"tcp\",\"bindId\":1,\"containerPort\":5432,\"peerAddr\":\"127.0.0.1:1\"}"
#define RIG_OPEN_HTTP                                                                                                  \
    "{\"kind\":\"http\",\"bindId\":1,\"method\":\"GET\",\"target\":\"/\",\"headers\":[],\"isUpgrade\":false}"
#define RIG_RESUME                                                                                                     \
    "{\"version\":\"hoody-tunnel.v1\",\"capabilities\":[\"stream-resume\"],"                                           \
    "\"resume\":{\"sessionId\":\"S-1\",\"received\":1}}"
#define RIG_HEAD "{\"status\":200,\"headers\":[],\"final\":true}"

static inline ssize_t rig_open(struct rig *r, uint32_t id, const char *json) {
    return rig_text(r, WIRE_STREAM_OPEN, id, json);
}

/* A number of a JSON payload; UINT64_MAX: it is not there. */
static inline uint64_t rig_number_of(const struct rig_frame *f, const char *key) {
    const char *at = strstr((const char *)f->head, key);
    return at ? strtoull(at + strlen(key), NULL, 10) : UINT64_MAX;
}

/* One message of the real end into the log. False: nothing to send. */
static inline bool rig_pull_one(struct rig *r, size_t cap) {
    size_t n = mux_link_pull(r->l, rig_buffer, cap);
    unsigned frames = 0;
    if (n == 0)
        return false;
    CU_ASSERT(n <= WIRE_LIMIT_MAX_MESSAGE && n <= cap);
    if (mux_link_counts(r->l)) {
        r->size_of[++r->counted % HT_ARRAY_LEN(r->size_of)] = (uint32_t)n;
        r->kept += n;
    }
    for (size_t off = 0; off < n;) {
        struct rig_frame *f = &r->out[r->n_out++ % HT_ARRAY_LEN(r->out)];
        f->type = rig_buffer[off];
        f->id = wire_get32(rig_buffer + off + 1);
        f->len = wire_get32(rig_buffer + off + 5);
        f->message = r->messages;
        memset(f->head, 0, sizeof f->head);
        memcpy(f->head, rig_buffer + off + 9, ht_min(f->len, sizeof f->head - 1));
        r->data_out += f->type == WIRE_DATA ? f->len : 0;
        if (f->type == WIRE_HELLO_OK)
            r->hello_received = rig_number_of(f, "\"received\":");
        off += WIRE_LIMIT_HEADER + f->len;
        frames++;
        CU_ASSERT(off <= n);
    }
    CU_ASSERT(frames <= WIRE_LIMIT_MAX_FRAMES);
    r->messages++;
    return true;
}

static inline void rig_pull(struct rig *r) {
    while (rig_pull_one(r, WIRE_LIMIT_MAX_MESSAGE))
        ;
}

/* Pulls everything, then takes the next frame of `type` that was not looked at; NULL: there is none. */
static inline const struct rig_frame *rig_next(struct rig *r, uint8_t type) {
    rig_pull(r);
    while (r->read < r->n_out) {
        const struct rig_frame *f = &r->out[r->read++ % HT_ARRAY_LEN(r->out)];
        if (f->type == type)
            return f;
    }
    return NULL;
}

static inline unsigned rig_count(struct rig *r, uint8_t type, uint32_t id) {
    unsigned n = 0;
    rig_pull(r);
    for (unsigned i = 0; i < r->n_out; i++)
        n += r->out[i].type == type && r->out[i].id == id;
    return n;
}

/* The next RESET: is it for `id` with `code`? */
static inline bool rig_was_reset(struct rig *r, uint32_t id, uint16_t code) {
    const struct rig_frame *f = rig_next(r, WIRE_RESET);
    return f && f->id == id && wire_get16(f->head) == code;
}

/* Told with this GOAWAY, closed with this code, over as a violation, and nothing is taken in any more. */
static inline bool rig_went_away(struct rig *r, unsigned code, uint16_t ws_code) {
    char want[32];
    snprintf(want, sizeof want, "\"code\":%u,", code);
    const struct rig_frame *f = rig_next(r, WIRE_GOAWAY);
    return f && strstr((const char *)f->head, want) && r->closes == 1 && r->ws_code == ws_code && r->overs == 1 &&
           r->why == MUX_END_VIOLATION && rig_ping(r, "whatever") > 0 && !rig_next(r, WIRE_PONG);
}

/* ---- the real end ---- */

static inline struct rig_stream *rig_visit(struct rig *r, enum wire_kind kind) {
    struct rig_stream *t = &r->streams[r->n_streams % RIG_STREAMS];
    struct wire_stream_open open = {
        .kind = kind, .bind_id = 1, .method = ht_slice_str("GET"), .target = ht_slice_str("/")};
    if (t->st)
        mux_stream_release(&t->st);
    *t = (struct rig_stream){.rig = r, .writable = -1};
    if (mux_stream_open(r->s, &open, &rig_stream_ops, t, &t->st) < 0)
        return NULL;
    r->n_streams++;
    return t;
}

static inline void rig_write(struct rig_stream *t, size_t n, bool then_eof) {
    t->to_send += n;
    t->then_eof = then_eof;
    mux_stream_ready(t->st);
}

static inline void rig_tick(struct rig *r, uint64_t later) {
    r->now += later;
    if (r->s)
        mux_session_tick(r->s, r->now);
}

static inline struct mux_config rig_config(enum wire_role role) {
    return (struct mux_config){
        .role = role,
        .version = WIRE_V1,
        .stream_window = WIRE_LIMIT_STREAM_WINDOW,
        .session_window = WIRE_LIMIT_SESSION_WINDOW,
        .max_streams = 1024,
        .session_buffer = WIRE_LIMIT_SESSION_BUFFER,
        .ping_interval_ms = 30000,
        .pong_timeout_ms = 60000,
        .idle_timeout_ms = role == WIRE_ROLE_KIT ? 300000 : 0,
        .own_peer = true,
    };
}

/* Up to the end of the handshake; NULL when there was no memory for it. `tune` may change the configuration. */
static inline struct rig *rig_start(enum wire_role role, void (*tune)(struct mux_config *)) {
    static struct rig room;
    struct rig *r = &room;
    memset(r, 0, sizeof *r);
    r->now = 1000000;
    r->cfg = rig_config(role);
    if (tune)
        tune(&r->cfg);
    r->l = mux_link_create(role, r->cfg.version, &rig_link_ops, r);
    if (!r->l)
        return NULL;
    if (role == WIRE_ROLE_KIT) {
        rig_text(r, WIRE_HELLO, 0,
                 r->cfg.version == WIRE_V2
                     ? "{\"version\":\"hoody-tunnel.v2\",\"capabilities\":[],\"maxConnections\":3}"
                     : "{\"version\":\"hoody-tunnel.v1\",\"capabilities\":[]}");
    } else {
        struct wire_hello hello = {.version = r->cfg.version};
        if (mux_link_send_hello(r->l, &hello) == 0) {
            rig_pull(r);
            rig_text(r, WIRE_HELLO_OK, 0, "{\"sessionId\":\"S-1\"}");
        }
    }
    return r;
}

/* Ends everything and asserts that no memory is left. */
static inline void rig_stop(struct rig *r, size_t live_before) {
    for (unsigned i = 0; i < RIG_STREAMS; i++)
        mux_stream_release(&r->streams[i].st);
    mux_session_destroy(&r->s);
    mux_link_destroy(&r->l);
    CU_ASSERT_EQUAL(ht_mem_live(), live_before);
}

#endif
