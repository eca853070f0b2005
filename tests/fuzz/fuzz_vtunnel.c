/*
 * vtunnel's JSON: the codec by itself, and the translator with a link and a session of mux behind it.
 *
 * Input: a byte (bit 0: we are the client), then steps. A step is a byte: 0-4 a message (two bytes of length, the
 * text), 5 a message cut in two, 6 something is pulled, 7 a visitor comes (or a port is asked for), 8 bytes of a
 * stream, 9 its end, 10 a reset, 11 it takes what it was given, 12 time passes (a byte, in quarters of a second).
 */
#include "fuzz.h"
#include "mux/mux.h"
#include "vtunnel/vtunnel.h"

#define WINDOW (64u * 1024u)
#define STREAMS 6u
#define BLOCK (256u * 1024u + 4096u)

struct one {
    struct mux_stream *st;
    size_t to_send, got;
    bool eof;
};

struct world {
    bool client, paused, ended, dead;
    struct vtunnel *vt;
    struct mux_link *link;
    struct mux_session *mux;
    struct ht_pool pool;
    struct one streams[STREAMS];
    unsigned n;
    uint32_t next_bind;
    uint64_t now;
};

static void on_output(void *ctx) { (void)ctx; }
static void on_pause(void *ctx, bool pause) {
    struct world *w = ctx;
    FUZZ_CHECK(w->paused != pause);
    w->paused = pause;
}
static void on_end(void *ctx, uint16_t code, const char *reason) {
    struct world *w = ctx;
    FUZZ_CHECK(!w->ended && code >= 1000 && strlen(reason) <= 120);
    w->ended = true;
}
static const struct vtunnel_ops vt_ops = {on_output, on_pause, on_end};

static void st_data(void *ctx, const uint8_t *p, size_t n) {
    struct one *s = ctx;
    s->got += n;
    FUZZ_CHECK(s->got <= WINDOW && (n == 0 || p[n - 1] == p[n - 1]));
}
static ssize_t st_pull(void *ctx, uint8_t *out, size_t cap, unsigned *flags) {
    struct one *s = ctx;
    size_t n = ht_min(cap, s->to_send);
    memset(out, 'v', n);
    s->to_send -= n;
    *flags = s->to_send ? MUX_PULL_MORE : s->eof ? MUX_PULL_EOF : 0;
    return (ssize_t)n;
}
static void st_closed(void *ctx, uint16_t code, struct ht_slice reason, bool remote) {
    (void)ctx;
    (void)code;
    (void)reason;
    (void)remote;
}
static void st_nothing(void *ctx) { (void)ctx; }
static const struct mux_stream_ops st_ops = {.connected = st_nothing,
                                             .data = st_data,
                                             .data_end = st_nothing,
                                             .eof = st_nothing,
                                             .pull = st_pull,
                                             .closed = st_closed};

static void ses_bind(void *ctx, const struct wire_bind *bind, const struct wire_error *err) {
    struct world *w = ctx;
    FUZZ_CHECK(!err);
    const struct wire_bind_ok ok = {.client_bind_ref = bind->client_bind_ref,
                                    .bind_id = ++w->next_bind,
                                    .container_port = bind->container_port ? bind->container_port : 5555};
    const struct wire_bind_err no = {.has_client_bind_ref = true,
                                     .client_bind_ref = bind->client_bind_ref,
                                     .code = WIRE_BIND_ERROR_RESERVED_PORT,
                                     .message = ht_slice_str("no")};
    bool good = bind->container_port % 2 == 0;
    (void)!mux_session_send(w->mux, good ? WIRE_BIND_OK : WIRE_BIND_ERR, good ? (const void *)&ok : &no);
}
static void ses_stream_open(void *ctx, struct mux_stream *st, const struct wire_stream_open *open) {
    struct world *w = ctx;
    struct mux_stream *handle = st;
    (void)open;
    if (w->n == STREAMS) {
        mux_stream_reset(st, WIRE_CODE_REFUSED_STREAM, "full");
        mux_stream_release(&handle);
        return;
    }
    w->streams[w->n] = (struct one){.st = st};
    mux_stream_accept(st, &st_ops, &w->streams[w->n++]);
}
static void ses_over(void *ctx, enum mux_end why, const char *text) {
    struct world *w = ctx;
    (void)text;
    FUZZ_CHECK(why != MUX_END_VIOLATION); /* what we say to the link is never wrong, whatever the peer says */
    w->dead = true;
}
static void ses_bound(void *ctx, const struct wire_bind_ok *ok) {
    (void)ctx;
    (void)ok;
}
static void ses_refused(void *ctx, const struct wire_bind_err *err) {
    (void)ctx;
    (void)err;
}
static void ses_revoked(void *ctx, const struct wire_bind_revoked *r) {
    (void)ctx;
    (void)r;
}
static const struct mux_session_ops ses_ops = {.bind = ses_bind,
                                               .bind_ok = ses_bound,
                                               .bind_err = ses_refused,
                                               .bind_revoked = ses_revoked,
                                               .stream_open = ses_stream_open,
                                               .over = ses_over};

static void make_session(struct world *w, enum wire_role role, const struct wire_hello_ok *ok) {
    const struct mux_config cfg = {.role = role,
                                   .version = WIRE_V1,
                                   .stream_window = ok->stream_window,
                                   .session_window = ok->session_window,
                                   .max_streams = STREAMS,
                                   .session_buffer = WINDOW,
                                   .first_stream_id = 2,
                                   .own_peer = true,
                                   .caps = role == WIRE_ROLE_KIT ? WIRE_CAP_NAMES : 0};
    w->mux = mux_session_create(&cfg, &ses_ops, w, w->now);
    FUZZ_CHECK(w->mux && mux_session_attach(w->mux, w->link, ok) == 0);
}
static void link_hello(void *ctx, const struct wire_hello *hello) {
    const struct wire_hello_ok ok = {
        .session_id = ht_slice_str("S-1"), .stream_window = WINDOW, .session_window = WINDOW, .connections_granted = 1};
    FUZZ_CHECK(hello->version == WIRE_V1);
    make_session(ctx, WIRE_ROLE_KIT, &ok);
}
static void link_hello_ok(void *ctx, const struct wire_hello_ok *ok) { make_session(ctx, WIRE_ROLE_DRIVER, ok); }
static void link_closes(void *ctx, uint16_t code, const char *reason) {
    (void)ctx;
    (void)code;
    (void)reason;
}
static const struct mux_link_ops link_ops = {
    .hello = link_hello, .hello_ok = link_hello_ok, .output = on_output, .close = link_closes};

/* What is accepted can be written again, and reads as the same thing. */
static void check_codec(const uint8_t *p, size_t n, unsigned sender) {
    uint8_t *text = fuzz_copy(p, n), *room = malloc(n ? n : 1);
    struct json_arena arena = {(char *)room, 0, n};
    struct vtunnel_message m, back;
    struct wire_text_error err = {.rule = NULL};
    int rc = wire_text_decode(&vtunnel_spec, sender, text, n, &arena, &m, &err);
    FUZZ_CHECK(rc == 0 || (rc == HT_EPROTO && err.rule && memchr(err.text, 0, sizeof err.text)));
    if (rc == 0) {
        size_t cap = 2 * n + 4096;
        uint8_t *out = malloc(cap);
        int len = wire_text_encode(&vtunnel_spec, &m, out, cap);
        FUZZ_CHECK(len > 0);
        uint8_t *copy = fuzz_copy(out, (size_t)len), *room2 = malloc((size_t)len);
        struct json_arena arena2 = {(char *)room2, 0, (size_t)len};
        FUZZ_CHECK(wire_text_decode(&vtunnel_spec, sender, copy, (size_t)len, &arena2, &back, &err) == 0);
        FUZZ_CHECK(back.type == m.type && back.port == m.port && back.stream_id == m.stream_id);
        FUZZ_CHECK(ht_slice_eq(back.data, m.data) && ht_slice_eq(back.local_addr, m.local_addr));
        uint8_t *tight = malloc((size_t)len);
        FUZZ_CHECK(wire_text_encode(&vtunnel_spec, &m, tight, (size_t)len - 1) == HT_ESPACE);
        free(tight);
        free(room2);
        free(copy);
        free(out);
    }
    free(room);
    free(text);
}

static void message(struct world *w, struct ht_slice s, bool cut) {
    unsigned sender = w->client ? VTUNNEL_ROLE_SERVER : VTUNNEL_ROLE_CLIENT;
    check_codec((const uint8_t *)s.p, s.n, sender);
    if (w->paused || w->ended || w->dead)
        return;
    uint8_t *text = fuzz_copy(s.p, s.n);
    if (cut && s.n > 1)
        FUZZ_CHECK(vtunnel_message(w->vt, text, s.n / 2, false, w->now) == 0);
    ssize_t used = vtunnel_message(w->vt, text, s.n, true, w->now);
    FUZZ_CHECK(used == (ssize_t)s.n || used == HT_ECLOSED);
    free(text);
}

static bool pull(struct world *w, size_t cap) {
    static uint8_t out[256u * 1024u];
    struct json_arena none = {0};
    struct vtunnel_message m;
    struct wire_text_error err;
    size_t n = vtunnel_pull(w->vt, out, cap);
    FUZZ_CHECK(n <= cap);
    if (n > 0) { /* what we say is always right; without a backslash no arena is needed */
        unsigned sender = w->client ? VTUNNEL_ROLE_CLIENT : VTUNNEL_ROLE_SERVER;
        if (!memchr(out, '\\', n))
            FUZZ_CHECK(wire_text_decode(&vtunnel_spec, sender, out, n, &none, &m, &err) == 0);
    }
    return n > 0;
}

static void come(struct world *w, uint8_t b) {
    if (!w->mux || w->dead)
        return;
    if (w->client) {
        const struct wire_bind bind = {.has_client_bind_ref = true,
                                       .client_bind_ref = b,
                                       .kind = WIRE_KIND_TCP,
                                       .mode = WIRE_MODE_PULL,
                                       .container_port = b,
                                       .has_label = true,
                                       .label = ht_slice_str(b & 2 ? "tls://a.example:443" : "localhost:1")};
        (void)!mux_session_send(w->mux, WIRE_BIND, &bind);
        return;
    }
    struct one *s = &w->streams[w->n];
    const struct wire_stream_open open = {.kind = WIRE_KIND_TCP,
                                          .bind_id = b % 4u + 1,
                                          .has_authority = b & 8,
                                          .authority = ht_slice_str("a.example:443")};
    if (w->n == STREAMS)
        return;
    *s = (struct one){0};
    if (mux_stream_open(w->mux, &open, &st_ops, s, &s->st) == 0)
        w->n++;
}

static void step(struct world *w, struct fuzz_in *in) {
    uint8_t op = fuzz_u8(in) % 13;
    if (op <= 5) {
        size_t n = fuzz_u16(in);
        message(w, fuzz_take(in, n), op == 5);
        return;
    }
    uint8_t b = fuzz_u8(in);
    struct one *s = w->n ? &w->streams[b % w->n] : NULL;
    if (op == 6) {
        (void)pull(w, b % 2 ? 8192 : 256u * 1024u);
    } else if (op == 7) {
        come(w, b);
    } else if (op == 12) {
        w->now += (uint64_t)b * 250;
        vtunnel_tick(w->vt, w->now);
        if (w->mux)
            mux_session_tick(w->mux, w->now);
    } else if (s && s->st) {
        if (op == 8)
            s->to_send += (size_t)b * 300;
        if (op == 9)
            s->eof = true;
        if (op == 10)
            mux_stream_reset(s->st, WIRE_CODE_CANCEL, "");
        if (op == 11) {
            mux_stream_consumed(s->st, s->got);
            s->got = 0;
        }
        mux_stream_ready(s->st);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct fuzz_in in = {data, data + size};
    struct world *w = calloc(1, sizeof *w);
    if (!w)
        abort();
    w->client = fuzz_u8(&in) & 1;
    w->now = 1000;
    ht_pool_init(&w->pool, BLOCK, 0);
    const struct vtunnel_config cfg = {.role = w->client ? VTUNNEL_ROLE_CLIENT : VTUNNEL_ROLE_SERVER,
                                       .blocks = &w->pool,
                                       .window = WINDOW,
                                       .max_streams = STREAMS,
                                       .names = true,
                                       .peer = "fuzz"};
    w->link = mux_link_create(w->client ? WIRE_ROLE_DRIVER : WIRE_ROLE_KIT, WIRE_V1, &link_ops, w);
    w->vt = w->link ? vtunnel_create(&cfg, w->link, &vt_ops, w, w->now) : NULL;
    FUZZ_CHECK(w->vt);
    const struct wire_hello hello = {.version = WIRE_V1};
    FUZZ_CHECK((w->client ? mux_link_send_hello(w->link, &hello) : vtunnel_start(w->vt)) == 0);
    (void)pull(w, 8192);
    for (unsigned i = 0; i < 2000 && fuzz_left(&in); i++) {
        step(w, &in);
        FUZZ_CHECK(w->pool.live <= 3); /* what waits for credit, what is being told, and a text with escapes */
    }
    for (unsigned i = 0; i < 2000 && pull(w, 256u * 1024u); i++) {
    }
    for (unsigned i = 0; i < w->n; i++)
        mux_stream_release(&w->streams[i].st);
    vtunnel_destroy(&w->vt);
    mux_session_destroy(&w->mux);
    mux_link_destroy(&w->link);
    FUZZ_CHECK(w->pool.live == 0);
    free(w);
    return 0;
}
