/*
 * vtunnel's JSON against a link of the multiplexer, both ways, without sockets and with a clock of our own: a kit's
 * session behind the server's half, a driver's behind the client's, and the two halves against each other.
 *
 * To see it fail: leave out vt_forget_held() when a stream is gone, or the line of VFLOW-2 in vt_pause().
 */
#include "base/mem.h"
#include "mux/mux.h"
#include "support/tap.h"
#include "vtunnel/vtunnel.h"
#include "wire/bytes.h"

#include <stdio.h>
#include <stdlib.h>

#define WINDOW (256u * 1024u)
#define STREAMS 8

/* ---- one end: a link, its session, the translator, and what came out of it ---- */

struct end;

struct end_stream {
    struct end *e;
    struct mux_stream *st;
    uint8_t *got;
    size_t n_got, n_taken;
    size_t to_send;
    bool eof_wanted, saw_eof, over;
    uint16_t code;
};

struct end {
    struct vtunnel *vt;
    struct mux_link *link;
    struct mux_session *mux;
    struct ht_pool pool;
    bool paused, ended, taking; /* taking: what comes is taken at once */
    uint16_t end_code;
    char end_reason[128];
    unsigned n_streams, n_bound, n_refused, next_bind;
    char last_error[128];
    struct end_stream streams[STREAMS];
    uint64_t now;
};

static void on_output(void *ctx) { (void)ctx; }
static void on_pause(void *ctx, bool pause) {
    struct end *e = ctx;
    CU_ASSERT_NOT_EQUAL(e->paused, pause);
    e->paused = pause;
}
static void on_end(void *ctx, uint16_t code, const char *reason) {
    struct end *e = ctx;
    CU_ASSERT_FALSE(e->ended);
    e->ended = true;
    e->end_code = code;
    (void)snprintf(e->end_reason, sizeof e->end_reason, "%s", reason);
}
static const struct vtunnel_ops vt_ops = {on_output, on_pause, on_end};

/* streams of either end */

static void st_data(void *ctx, const uint8_t *p, size_t n) {
    struct end_stream *s = ctx;
    s->got = realloc(s->got, s->n_got + n);
    memcpy(s->got + s->n_got, p, n);
    s->n_got += n;
}
static void st_data_end(void *ctx) {
    struct end_stream *s = ctx;
    if (s->e->taking && s->st) {
        mux_stream_consumed(s->st, s->n_got - s->n_taken);
        s->n_taken = s->n_got;
    }
}
static void st_eof(void *ctx) { ((struct end_stream *)ctx)->saw_eof = true; }
static ssize_t st_pull(void *ctx, uint8_t *out, size_t cap, unsigned *flags) {
    struct end_stream *s = ctx;
    size_t n = ht_min(cap, s->to_send);
    for (size_t i = 0; i < n; i++)
        out[i] = (uint8_t)(s->to_send - i);
    s->to_send -= n;
    *flags = s->to_send ? MUX_PULL_MORE : s->eof_wanted ? MUX_PULL_EOF : 0;
    return (ssize_t)n;
}
static void st_closed(void *ctx, uint16_t code, struct ht_slice reason, bool remote) {
    struct end_stream *s = ctx;
    (void)reason;
    (void)remote;
    s->over = true;
    s->code = code;
}
static const struct mux_stream_ops st_ops = {
    .data = st_data, .data_end = st_data_end, .eof = st_eof, .pull = st_pull, .closed = st_closed};

static struct end_stream *new_stream(struct end *e) {
    CU_ASSERT_FATAL(e->n_streams < STREAMS);
    struct end_stream *s = &e->streams[e->n_streams++];
    s->e = e;
    return s;
}

/* sessions */

static void ses_bind(void *ctx, const struct wire_bind *bind, const struct wire_error *err) {
    struct end *e = ctx;
    CU_ASSERT_PTR_NULL_FATAL(err);
    if (bind->container_port == 81) {
        const struct wire_bind_err no = {.has_client_bind_ref = true,
                                         .client_bind_ref = bind->client_bind_ref,
                                         .code = WIRE_BIND_ERROR_PORT_IN_USE,
                                         .message = ht_slice_str("taken")};
        CU_ASSERT_EQUAL(mux_session_send(e->mux, WIRE_BIND_ERR, &no), 0);
        return;
    }
    const struct wire_bind_ok ok = {.client_bind_ref = bind->client_bind_ref,
                                    .bind_id = ++e->next_bind,
                                    .container_port = bind->container_port ? bind->container_port : 5555};
    CU_ASSERT_EQUAL(mux_session_send(e->mux, WIRE_BIND_OK, &ok), 0);
}
static void ses_bind_ok(void *ctx, const struct wire_bind_ok *ok) {
    struct end *e = ctx;
    (void)ok;
    e->n_bound++;
}
static void ses_bind_err(void *ctx, const struct wire_bind_err *err) {
    struct end *e = ctx;
    e->n_refused++;
    (void)snprintf(e->last_error, sizeof e->last_error, "%d %.*s", err->code, (int)err->message.n, err->message.p);
}
static void ses_stream_open(void *ctx, struct mux_stream *st, const struct wire_stream_open *open) {
    struct end *e = ctx;
    struct end_stream *s = new_stream(e);
    CU_ASSERT_EQUAL(open->kind, WIRE_KIND_TCP);
    s->st = st;
    mux_stream_accept(st, &st_ops, s);
}
static void ses_over(void *ctx, enum mux_end why, const char *text) {
    (void)ctx;
    (void)why;
    (void)text;
}
static const struct mux_session_ops ses_ops = {.bind = ses_bind,
                                               .bind_ok = ses_bind_ok,
                                               .bind_err = ses_bind_err,
                                               .stream_open = ses_stream_open,
                                               .over = ses_over};

static void make_session(struct end *e, enum wire_role role, const struct wire_hello_ok *ok) {
    const struct mux_config cfg = {.role = role,
                                   .version = WIRE_V1,
                                   .stream_window = ok->stream_window,
                                   .session_window = ok->session_window,
                                   .max_streams = STREAMS,
                                   .session_buffer = WINDOW,
                                   .first_stream_id = 2,
                                   .own_peer = true};
    e->mux = mux_session_create(&cfg, &ses_ops, e, e->now);
    CU_ASSERT_PTR_NOT_NULL_FATAL(e->mux);
    CU_ASSERT_EQUAL_FATAL(mux_session_attach(e->mux, e->link, ok), 0);
}
static void link_hello(void *ctx, const struct wire_hello *hello) {
    const struct wire_hello_ok ok = {
        .session_id = ht_slice_str("S-1"), .stream_window = WINDOW, .session_window = WINDOW, .connections_granted = 1};
    CU_ASSERT_EQUAL(hello->version, WIRE_V1);
    make_session(ctx, WIRE_ROLE_KIT, &ok);
}
static void link_hello_ok(void *ctx, const struct wire_hello_ok *ok) { make_session(ctx, WIRE_ROLE_DRIVER, ok); }
static void link_closes(void *ctx, uint16_t code, const char *reason) {
    (void)ctx;
    printf("# the link closes: %u %s\n", code, reason ? reason : "");
    CU_FAIL("the link closes");
}
static const struct mux_link_ops link_ops = {
    .hello = link_hello, .hello_ok = link_hello_ok, .output = on_output, .close = link_closes};

static void begin(struct end *e, enum vtunnel_role role) {
    memset(e, 0, sizeof *e);
    e->now = 1000;
    e->taking = true;
    ht_pool_init(&e->pool, 256u * 1024u + 4096u, 0);
    const struct vtunnel_config cfg = {
        .role = role, .blocks = &e->pool, .window = WINDOW, .max_streams = STREAMS, .peer = "test"};
    bool kit = role == VTUNNEL_ROLE_SERVER;
    e->link = mux_link_create(kit ? WIRE_ROLE_KIT : WIRE_ROLE_DRIVER, WIRE_V1, &link_ops, e);
    e->vt = vtunnel_create(&cfg, e->link, &vt_ops, e, e->now);
    CU_ASSERT_FATAL(e->link && e->vt);
    if (kit) {
        CU_ASSERT_EQUAL(vtunnel_start(e->vt), 0);
        return;
    }
    const struct wire_hello hello = {.version = WIRE_V1};
    CU_ASSERT_EQUAL(mux_link_send_hello(e->link, &hello), 0);
}

static void finish(struct end *e) {
    for (unsigned i = 0; i < e->n_streams; i++) {
        mux_stream_release(&e->streams[i].st);
        free(e->streams[i].got);
    }
    vtunnel_destroy(&e->vt);
    mux_session_destroy(&e->mux);
    mux_link_destroy(&e->link);
    CU_ASSERT_EQUAL(e->pool.live, 0);
    ht_pool_drain(&e->pool);
}

/* ---- talking to it ---- */

static void say(struct end *e, const struct vtunnel_message *m) {
    uint8_t *text = malloc(300000);
    int n = wire_text_encode(&vtunnel_spec, m, text, 300000);
    CU_ASSERT_FATAL(n > 0);
    CU_ASSERT_FALSE_FATAL(e->paused);
    CU_ASSERT_EQUAL(vtunnel_message(e->vt, text, (size_t)n / 2, false, e->now), 0);
    CU_ASSERT_EQUAL(vtunnel_message(e->vt, text, (size_t)n, true, e->now), n);
    free(text);
}
static void say_text(struct end *e, const char *t) {
    size_t n = strlen(t);
    uint8_t *copy = malloc(n + 1);
    memcpy(copy, t, n + 1);
    CU_ASSERT_EQUAL(vtunnel_message(e->vt, copy, n, true, e->now), (ssize_t)n);
    free(copy);
}

static uint8_t heard_block[256u * 1024u];
/* The next message; type 0: nothing is to be said. `cap` as small as it may be from time to time. */
static struct vtunnel_message hear(struct end *e) {
    static unsigned round;
    struct vtunnel_message m = {0};
    struct wire_text_error err;
    struct json_arena none = {0};
    size_t n = vtunnel_pull(e->vt, heard_block, round++ % 3 ? sizeof heard_block : 8192);
    if (n == 0)
        return m;
    int rc = wire_text_decode(&vtunnel_spec, VTUNNEL_ROLE_SERVER, heard_block, n, &none, &m, &err);
    if (rc != 0)
        rc = wire_text_decode(&vtunnel_spec, VTUNNEL_ROLE_CLIENT, heard_block, n, &none, &m, &err);
    CU_ASSERT_EQUAL(rc, 0);
    return m;
}
static void hear_only(struct end *e, enum vtunnel_type type, uint32_t id) {
    struct vtunnel_message m = hear(e);
    CU_ASSERT_EQUAL(m.type, type);
    CU_ASSERT_EQUAL(m.stream_id, id);
}
static void hear_nothing(struct end *e) { CU_ASSERT_EQUAL(hear(e).type, VTUNNEL_UNKNOWN); }

static void tick(struct end *e, uint64_t ms) {
    e->now += ms;
    vtunnel_tick(e->vt, e->now);
    if (e->mux)
        mux_session_tick(e->mux, e->now);
}

static void server_with_port(struct end *e) {
    begin(e, VTUNNEL_ROLE_SERVER);
    hear_nothing(e);
    say(e, &(struct vtunnel_message){.type = VTUNNEL_LISTEN, .port = 80, .local_addr = ht_slice_str("localhost:3000")});
    CU_ASSERT_EQUAL(hear(e).port, 80);
}

static struct end_stream *visitor(struct end *e) {
    struct end_stream *s = new_stream(e);
    const struct wire_stream_open open = {.kind = WIRE_KIND_TCP, .bind_id = 1};
    CU_ASSERT_EQUAL_FATAL(mux_stream_open(e->mux, &open, &st_ops, s, &s->st), 0);
    struct vtunnel_message m = hear(e);
    CU_ASSERT_EQUAL(m.type, VTUNNEL_CONNECT);
    CU_ASSERT_EQUAL(m.port, 80);
    CU_ASSERT_EQUAL(m.stream_id, e->n_streams);
    return s;
}

static void send(struct end_stream *s, size_t n, bool eof) {
    s->to_send = n;
    s->eof_wanted = eof;
    mux_stream_ready(s->st);
}

/* ---- the server's half ---- */

static void ports(void) {
    struct end e;
    server_with_port(&e);
    say_text(&e, "{\"type\":\"listen\",\"port\":80}"); /* VLISTEN-1 */
    hear_only(&e, VTUNNEL_LISTEN_OK, 0);
    say_text(&e, "{\"type\":\"listen\",\"port\":81}{}"); /* none */
    hear_nothing(&e);
    say_text(&e, "{\"type\":\"listen\",\"port\":81}");
    say_text(&e, "{\"type\":\"listen\",\"port\":81}"); /* before the first is answered: both are */
    for (int i = 0; i < 2; i++) {
        struct vtunnel_message m = hear(&e);
        CU_ASSERT_EQUAL(m.type, VTUNNEL_LISTEN_ERR);
        CU_ASSERT_TRUE(ht_slice_is(m.error, "listen tcp 127.0.0.1:81: bind: address already in use"));
    }
    say_text(&e, "{\"type\":\"listen\",\"port\":-7}");
    CU_ASSERT_TRUE(ht_slice_is(hear(&e).error, "listen tcp: address -7: invalid port"));
    say_text(&e, "{\"type\":\"listen\"}"); /* VLISTEN-2 */
    struct vtunnel_message m = hear(&e);
    CU_ASSERT_TRUE(m.type == VTUNNEL_LISTEN_OK && m.port == 0);
    const struct wire_bind_revoked gone = {.bind_id = 1, .reason = ht_slice_str("taken over")};
    CU_ASSERT_EQUAL(mux_session_send(e.mux, WIRE_BIND_REVOKED, &gone), 0);
    m = hear(&e);
    CU_ASSERT_TRUE(m.type == VTUNNEL_LISTEN_ERR && m.port == 80 && ht_slice_is(m.error, "taken over")); /* VLISTEN-4 */
    finish(&e);
}

static void both_ways_to_an_end(void) {
    struct end e;
    server_with_port(&e);
    struct end_stream *a = visitor(&e), *b = visitor(&e);
    send(a, 100000, true);
    size_t n = 0;
    struct vtunnel_message m;
    while ((m = hear(&e)).type == VTUNNEL_DATA) {
        CU_ASSERT(m.data.n <= VTUNNEL_LIMIT_MAX_DATA && m.stream_id == 1);
        for (size_t i = 0; i < m.data.n; i++)
            if ((uint8_t)m.data.p[i] != (uint8_t)(100000 - n - i))
                CU_FAIL("bytes are mixed up");
        n += m.data.n;
    }
    CU_ASSERT_EQUAL(n, 100000);
    CU_ASSERT_TRUE(m.type == VTUNNEL_CLOSE && m.stream_id == 1);
    /* what was under way before the client heard of it still comes */
    say(&e, &(struct vtunnel_message){.type = VTUNNEL_DATA, .stream_id = 1, .data = ht_slice_str("late")});
    CU_ASSERT_EQUAL(a->n_got, 4);
    say(&e, &(struct vtunnel_message){.type = VTUNNEL_CLOSE, .stream_id = 1});
    CU_ASSERT_TRUE(a->saw_eof && a->over && a->code == 0);
    hear_nothing(&e);
    /* the client's end first */
    say(&e, &(struct vtunnel_message){.type = VTUNNEL_DATA, .stream_id = 2, .data = ht_slice_str("bye")});
    say(&e, &(struct vtunnel_message){.type = VTUNNEL_CLOSE, .stream_id = 2});
    hear_only(&e, VTUNNEL_CLOSE, 2);
    CU_ASSERT_TRUE(b->saw_eof && !b->over && b->n_got == 3);
    say(&e, &(struct vtunnel_message){.type = VTUNNEL_DATA, .stream_id = 2, .data = ht_slice_str("x")});
    say(&e, &(struct vtunnel_message){.type = VTUNNEL_CLOSE, .stream_id = 2});
    CU_ASSERT_EQUAL(b->n_got, 3);
    send(b, 0, true);
    hear_nothing(&e);
    CU_ASSERT_TRUE(b->over && b->code == 0);
    CU_ASSERT_EQUAL(vtunnel_streams(e.vt), 0);
    finish(&e);
}

/* A visitor who goes on sending after the target has closed hears of it, as TCP would tell it. */
static void who_talks_to_a_closed_end(void) {
    struct end e;
    server_with_port(&e);
    struct end_stream *a = visitor(&e), *b = visitor(&e);
    say(&e, &(struct vtunnel_message){.type = VTUNNEL_CLOSE, .stream_id = 1});
    hear_only(&e, VTUNNEL_CLOSE, 1);
    send(a, 10, false);
    hear_nothing(&e);
    CU_ASSERT_TRUE(a->over && a->code == WIRE_CODE_CANCEL);
    /* with bytes on their way to it, it gets some time */
    say(&e, &(struct vtunnel_message){.type = VTUNNEL_DATA, .stream_id = 2, .data = ht_slice_str("x")});
    say(&e, &(struct vtunnel_message){.type = VTUNNEL_CLOSE, .stream_id = 2});
    hear_only(&e, VTUNNEL_CLOSE, 2);
    send(b, 10, false);
    hear_nothing(&e);
    CU_ASSERT_FALSE(b->over);
    CU_ASSERT_EQUAL(vtunnel_deadline(e.vt), e.now + VTUNNEL_LIMIT_STALL_TIMEOUT);
    tick(&e, VTUNNEL_LIMIT_STALL_TIMEOUT - 1);
    CU_ASSERT_FALSE(b->over);
    tick(&e, 1);
    CU_ASSERT_TRUE(b->over);
    CU_ASSERT_EQUAL(vtunnel_streams(e.vt), 0);
    finish(&e);
}

static void a_reset_is_a_close(void) {
    struct end e;
    server_with_port(&e);
    struct end_stream *a = visitor(&e), *b = visitor(&e);
    mux_stream_reset(a->st, WIRE_CODE_CANCEL, "gone");
    hear_only(&e, VTUNNEL_CLOSE, 1);
    say(&e, &(struct vtunnel_message){.type = VTUNNEL_DATA, .stream_id = 1, .data = ht_slice_str("x")});
    say(&e, &(struct vtunnel_message){.type = VTUNNEL_CLOSE, .stream_id = 1});
    say_text(&e, "{\"type\":\"data\",\"stream_id\":2,\"data\":\"A\"}"); /* VDATA-2 */
    hear_only(&e, VTUNNEL_CLOSE, 2);
    CU_ASSERT_TRUE(b->over && b->code == WIRE_CODE_CANCEL);
    CU_ASSERT_EQUAL(vtunnel_streams(e.vt), 0);
    hear_nothing(&e);
    finish(&e);
}

static void silence(void) {
    struct end e;
    server_with_port(&e);
    say_text(&e, "{\"type\":\"ping\"}");
    hear_only(&e, VTUNNEL_PONG, 0);
    CU_ASSERT_EQUAL(vtunnel_deadline(e.vt), e.now + VTUNNEL_LIMIT_DEADLINE);
    tick(&e, VTUNNEL_LIMIT_DEADLINE - 1);
    say_text(&e, "rubbish counts too"); /* VKEEP-2 */
    tick(&e, VTUNNEL_LIMIT_DEADLINE - 1);
    CU_ASSERT_FALSE(e.ended);
    tick(&e, 1);
    CU_ASSERT_TRUE(e.ended);
    CU_ASSERT_EQUAL(e.end_code, VTUNNEL_END_SILENT_CODE);
    CU_ASSERT_STRING_EQUAL(e.end_reason, VTUNNEL_END_SILENT_REASON);
    CU_ASSERT_EQUAL(vtunnel_deadline(e.vt), UINT64_MAX);
    finish(&e);
}

static void fill_one(struct end *e, uint32_t id, size_t n) {
    static char bytes[VTUNNEL_LIMIT_MAX_DATA];
    while (n > 0 && !e->paused) {
        size_t take = ht_min(n, sizeof bytes);
        say(e, &(struct vtunnel_message){.type = VTUNNEL_DATA, .stream_id = id, .data = ht_slice_of(bytes, take)});
        n -= take;
    }
}

/* VFLOW-1 to VFLOW-3. */
static void who_takes_nothing(void) {
    struct end e;
    server_with_port(&e);
    struct end_stream *slow = visitor(&e), *other = visitor(&e);
    e.taking = false;
    fill_one(&e, 1, WINDOW);
    CU_ASSERT_FALSE(e.paused);
    CU_ASSERT_EQUAL(slow->n_got, WINDOW);
    fill_one(&e, 1, 5000);
    CU_ASSERT_TRUE(e.paused);
    /* a pong every 15 s although nobody asks, and the client's silence does not count */
    tick(&e, VTUNNEL_LIMIT_STALL_PONG - 1);
    hear_nothing(&e);
    tick(&e, 1);
    hear_only(&e, VTUNNEL_PONG, 0);
    /* it moves: the reading goes on */
    mux_stream_consumed(slow->st, 100000);
    hear_nothing(&e);
    CU_ASSERT_FALSE(e.paused);
    CU_ASSERT_EQUAL(slow->n_got, WINDOW + 5000);
    CU_ASSERT_EQUAL(vtunnel_deadline(e.vt), e.now + VTUNNEL_LIMIT_DEADLINE);
    say(&e, &(struct vtunnel_message){.type = VTUNNEL_DATA, .stream_id = 2, .data = ht_slice_str("hi")});
    CU_ASSERT_EQUAL(other->n_got, 2);
    /* it takes nothing for 30 s: it is closed, so that the others go on */
    fill_one(&e, 1, 2 * WINDOW);
    CU_ASSERT_TRUE(e.paused);
    tick(&e, VTUNNEL_LIMIT_STALL_TIMEOUT);
    CU_ASSERT_FALSE(e.paused);
    CU_ASSERT_TRUE(slow->over && slow->code == WIRE_CODE_CANCEL && !other->over);
    hear_only(&e, VTUNNEL_PONG, 0);
    hear_only(&e, VTUNNEL_CLOSE, 1);
    say(&e, &(struct vtunnel_message){.type = VTUNNEL_DATA, .stream_id = 2, .data = ht_slice_str("hi")});
    CU_ASSERT_EQUAL(other->n_got, 4);
    CU_ASSERT_FALSE(e.ended);
    finish(&e);
}

/* A client that asks and never reads. */
static void answers_that_are_not_read(void) {
    struct end e;
    server_with_port(&e);
    unsigned asked = 0;
    while (!e.paused && asked < 100000) {
        say_text(&e, "{\"type\":\"ping\"}");
        asked++;
    }
    CU_ASSERT_TRUE(e.paused);
    CU_ASSERT(ht_mem_bytes() < (size_t)2 << 20);
    tick(&e, VTUNNEL_LIMIT_DEADLINE - 1);
    CU_ASSERT_FALSE(e.ended);
    for (unsigned i = 0; i < asked; i++)
        hear_only(&e, VTUNNEL_PONG, 0);
    CU_ASSERT_FALSE(e.paused);
    while (!e.paused)
        say_text(&e, "{\"type\":\"ping\"}");
    tick(&e, VTUNNEL_LIMIT_DEADLINE);
    CU_ASSERT_TRUE(e.ended);
    finish(&e);
}

/* ---- the client's half ---- */

static void client_with_target(struct end *e, const char *target) {
    begin(e, VTUNNEL_ROLE_CLIENT);
    hear_nothing(e);
    CU_ASSERT_PTR_NOT_NULL_FATAL(e->mux);
    const struct wire_bind bind = {.has_client_bind_ref = true,
                                   .client_bind_ref = 9,
                                   .kind = WIRE_KIND_TCP,
                                   .mode = WIRE_MODE_PULL,
                                   .container_port = 9000,
                                   .has_label = true,
                                   .label = ht_slice_str(target)};
    CU_ASSERT_EQUAL(mux_session_send(e->mux, WIRE_BIND, &bind), 0);
    struct vtunnel_message m = hear(e);
    CU_ASSERT_TRUE(m.type == VTUNNEL_LISTEN && m.port == 9000 && ht_slice_is(m.local_addr, target));
}

static void client_with_port(struct end *e) { client_with_target(e, "localhost:3000"); }

static void the_client(void) {
    struct end e;
    client_with_port(&e);
    say_text(&e, "{\"type\":\"listen_ok\",\"port\":9001}");
    CU_ASSERT_EQUAL(e.n_bound, 0);
    say_text(&e, "{\"type\":\"listen_ok\",\"port\":9000}");
    CU_ASSERT_EQUAL(e.n_bound, 1);
    say_text(&e, "{\"type\":\"connect\",\"port\":9001,\"stream_id\":3}"); /* VSTREAM-2 */
    hear_only(&e, VTUNNEL_CLOSE, 3);
    say_text(&e, "{\"type\":\"connect\",\"port\":9000}"); /* stream 0 is one */
    say_text(&e, "{\"type\":\"data\",\"data\":\"aGVsbG8=\"}");
    CU_ASSERT_EQUAL_FATAL(e.n_streams, 1);
    CU_ASSERT_EQUAL(e.streams[0].n_got, 5);
    send(&e.streams[0], 3, true);
    hear_only(&e, VTUNNEL_DATA, 0);
    hear_only(&e, VTUNNEL_CLOSE, 0);
    say_text(&e, "{\"type\":\"close\"}");
    CU_ASSERT_TRUE(e.streams[0].over && e.streams[0].code == 0);
    say_text(&e, "{\"type\":\"connect\",\"port\":9000,\"stream_id\":4294967295}");
    say_text(&e, "{\"type\":\"connect\",\"port\":9000,\"stream_id\":4294967295}"); /* the first one ends */
    CU_ASSERT_TRUE(e.n_streams == 3 && e.streams[1].over && !e.streams[2].over);
    mux_stream_reset(e.streams[2].st, WIRE_CODE_REFUSED_STREAM, "refused"); /* a target that cannot be dialled */
    hear_only(&e, VTUNNEL_CLOSE, UINT32_MAX);
    hear_nothing(&e);
    CU_ASSERT_EQUAL(vtunnel_streams(e.vt), 0);
    finish(&e);
}

/* As vtunnel's client has it: the first Host of a message, written exactly so, says the target's host. */
static void the_host_of_tls(void) {
    static const struct {
        const char *target, *in, *out;
    } rows[] = {
        {"tls://www.example.com:443", "GET / HTTP/1.1\r\nHost: localhost:9000\r\nA: b\r\n\r\nbody",
         "GET / HTTP/1.1\r\nHost: www.example.com\r\nA: b\r\n\r\nbody"},
        {"tls://www.example.com:443", "\r\nHost: a\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n",
         "\r\nHost: www.example.com\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n"},
        {"tls://a.example:443", "x\r\nHost: a-much-longer-name.example\r\n", "x\r\nHost: a.example\r\n"},
        {"tls+insecure://[::1]:8443", "x\r\nHost: \r\n", "x\r\nHost: [::1]\r\n"},
        {"tls://www.example.com:443", "x\r\nhost: a\r\nHost:a\r\n", "x\r\nhost: a\r\nHost:a\r\n"},
        {"tls://www.example.com:443", "x\r\nHost: cut", "x\r\nHost: cut"},
        {"tls://www.example.com:443", "x\r\nHost: ", "x\r\nHost: "},
        {"localhost:3000", "x\r\nHost: a\r\n", "x\r\nHost: a\r\n"},
        {"tlsx://www.example.com:443", "x\r\nHost: a\r\n", "x\r\nHost: a\r\n"},
    };
    for (size_t i = 0; i < HT_ARRAY_LEN(rows); i++) {
        struct end e;
        client_with_target(&e, rows[i].target);
        say_text(&e, "{\"type\":\"listen_ok\",\"port\":9000}");
        say_text(&e, "{\"type\":\"connect\",\"port\":9000,\"stream_id\":1}");
        say(&e, &(struct vtunnel_message){.type = VTUNNEL_DATA, .stream_id = 1, .data = ht_slice_str(rows[i].in)});
        CU_ASSERT_FATAL(e.n_streams == 1 && e.streams[0].n_got > 0);
        struct ht_slice got = ht_slice_of((const char *)e.streams[0].got, e.streams[0].n_got);
        if (!ht_slice_is(got, rows[i].out))
            printf("# %s: %.*s\n", rows[i].target, HT_SLICE_ARG(got));
        CU_ASSERT(ht_slice_is(got, rows[i].out));
        finish(&e);
    }
}

static void a_refused_port(void) {
    struct end e;
    client_with_port(&e);
    say_text(&e, "{\"type\":\"listen_err\",\"port\":9000,\"error\":\"listen tcp 127.0.0.1:9000: bind: address already "
                 "in use\"}");
    CU_ASSERT_EQUAL(e.n_refused, 1);
    CU_ASSERT_STRING_EQUAL(e.last_error, "2 listen tcp 127.0.0.1:9000: bind: address already in use");
    say_text(&e, "{\"type\":\"listen_err\",\"port\":9000}");
    CU_ASSERT_EQUAL(e.n_refused, 1);
    finish(&e);
}

/* VKEEP-1, VKEEP-2. */
static void the_clients_clock(void) {
    struct end e;
    client_with_port(&e);
    CU_ASSERT_EQUAL(vtunnel_deadline(e.vt), e.now + VTUNNEL_LIMIT_PING_INTERVAL);
    tick(&e, VTUNNEL_LIMIT_PING_INTERVAL);
    hear_only(&e, VTUNNEL_PING, 0);
    say_text(&e, "{\"type\":\"pong\"}");
    tick(&e, VTUNNEL_LIMIT_PING_INTERVAL);
    hear_only(&e, VTUNNEL_PING, 0);
    tick(&e, VTUNNEL_LIMIT_PING_INTERVAL);
    hear_only(&e, VTUNNEL_PING, 0);
    CU_ASSERT_TRUE(e.ended);
    finish(&e);
}

/* ---- without memory, at every allocation ---- */

static void no_memory(void) {
    for (long at = 0;; at++) {
        struct end e;
        server_with_port(&e);
        struct end_stream *a = visitor(&e);
        (void)a;
        ht_mem_fail_at(at);
        struct end_stream *b = new_stream(&e);
        const struct wire_stream_open open = {.kind = WIRE_KIND_TCP, .bind_id = 1};
        if (mux_stream_open(e.mux, &open, &st_ops, b, &b->st) == 0)
            (void)vtunnel_pull(e.vt, heard_block, sizeof heard_block);
        if (!e.ended) {
            static char text[] = "{\"type\":\"data\",\"stream_id\":1,\"data\":\"aGVs\\u0062G8=\"}";
            char copy[sizeof text];
            memcpy(copy, text, sizeof text);
            (void)vtunnel_message(e.vt, (uint8_t *)copy, sizeof text - 1, true, e.now);
        }
        if (!e.ended)
            while (vtunnel_pull(e.vt, heard_block, sizeof heard_block) > 0) {
            }
        bool more = !ht_mem_fail_pending();
        ht_mem_fail_at(-1);
        finish(&e);
        if (!more)
            break;
        CU_ASSERT_FATAL(at < 200);
    }
}

int main(void) {
    static const struct tap_test tests[] = {
        {"ports: once, twice, taken, outside of the range, of the kit's choice, lost", ports},
        {"a stream carries both ways and ends from either end", both_ways_to_an_end},
        {"who goes on talking to an end that has closed is told", who_talks_to_a_closed_end},
        {"a reset is a close, and so are bytes that cannot be read", a_reset_is_a_close},
        {"silence ends the connection, rubbish does not", silence},
        {"who takes nothing is held, stops the reading, and is closed", who_takes_nothing},
        {"answers that nobody reads stop the reading, and end it", answers_that_are_not_read},
        {"the client's half: connect, stream 0, an id twice, a target that is not there", the_client},
        {"the client's half: a port that is refused", a_refused_port},
        {"the client's half: the Host of a target with TLS", the_host_of_tls},
        {"the client's half: ping, and a server that is silent", the_clients_clock},
        {"without memory at every allocation", no_memory},
        {NULL, NULL},
    };
    return tap_main("vtunnel", tests);
}
