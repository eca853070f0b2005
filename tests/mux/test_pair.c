/*
 * A kit's session and a driver's, joined in memory, under random schedules: who writes, reads, resets, releases, pulls
 * and delivers when, and in what pieces, comes from a printed seed. Every byte is checked against what was sent,
 * borrowed bytes only when they are due, and the credit of the two ends must add up after each step.
 *
 * Run with a number to repeat a seed, and with a second one to take more steps.
 */
#include "mux/mux_priv.h"

#include "base/mem.h"
#include "support/pieces.h"
#include "support/tap.h"

#include <CUnit/CUnit.h>
#include <stdio.h>
#include <stdlib.h>

#define LINKS 3
#define SIDES 400
#define SLICES 200

static uint64_t seed;
#ifdef HT_SANITIZED
static unsigned steps_wanted = 8000;
#else
static unsigned steps_wanted = 30000;
#endif

static uint32_t roll(uint32_t n) {
    seed ^= seed << 13;
    seed ^= seed >> 7;
    seed ^= seed << 17;
    return (uint32_t)(seed >> 16) % n;
}

/* One end of one stream. */
struct side {
    struct end *end;
    struct mux_stream *st;
    struct side *peer;
    uint32_t id;
    size_t sent, to_send; /* to_send: written by the owner and not pulled yet */
    bool finishing;       /* EOF after to_send */
    bool head_due;        /* driver, HTTP: the final head is still to come */
    size_t received, checked;
    struct {
        const uint8_t *p;
        size_t n;
    } slice[SLICES];
    unsigned n_slices;
    bool eof, closed, in_order, hands_off;
    bool http, trailers_sent, trailers_came;
};

struct msg {
    struct msg *next;
    uint8_t *p;
    size_t n, shown, used;
};

/* One link of one end, with the messages that travel away from it. */
struct port {
    struct end *end;
    struct mux_link *l;
    struct port *peer;
    struct msg *first, **last;
    bool closed;
    size_t data_flying, window_flying; /* session credit under way */
};

struct end {
    enum wire_role role;
    struct mux_session *s;
    struct port port[LINKS];
    struct side side[SIDES];
    unsigned n_sides, overs;
    enum mux_end why;
};

static struct end kit, driver;
static unsigned violations, completed, resets, trailers;
static struct mux_config config;
static bool chaos; /* the next callbacks may end their own session */

/* What is sent are parts of a noise that repeats after a prime number of bytes. */
#define PERIOD 65521u
static uint8_t noise[2 * PERIOD];

static void make_noise(void) {
    uint64_t x = 88172645463325252u; /* xorshift64, Marsaglia 2003 */
    for (size_t i = 0; i < PERIOD; i++) {
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        noise[i] = noise[PERIOD + i] = (uint8_t)(x >> 32);
    }
}

/* The bytes from number `at` on of what `from` sends on stream `id`; PERIOD of them are good. */
static const uint8_t *pattern(const struct end *from, uint32_t id, size_t at) {
    return noise + (id * 31 + (from->role == WIRE_ROLE_KIT ? 101 : 7) + at) % PERIOD;
}

static void check_slices(struct side *x) {
    for (unsigned i = 0; i < x->n_slices; i++)
        for (size_t j = 0, n; j < x->slice[i].n; j += n, x->checked += n) {
            n = ht_min(x->slice[i].n - j, PERIOD);
            violations += memcmp(x->slice[i].p + j, pattern(x->peer->end, x->id, x->checked), n) != 0;
        }
    x->n_slices = 0;
}

/* ---- callbacks ---- */

static void end_somehow(struct end *e, bool rude);

static void maybe_drop(struct side *x) {
    if (chaos && roll(30) == 0) {
        chaos = false;
        end_somehow(x->end, true);
    }
    if (!x->hands_off && x->st && roll(400) == 0) {
        x->n_slices = 0;
        resets += !mux_stream_is_over(x->st);
        mux_stream_release(&x->st);
    }
}

static void on_head(void *ctx, const struct wire_response_head *head) {
    (void)head;
    maybe_drop(ctx);
}

static void on_data(void *ctx, const uint8_t *p, size_t n) {
    struct side *x = ctx;
    if (x->eof || x->closed || x->n_slices == SLICES)
        violations++;
    x->slice[x->n_slices].p = p;
    x->slice[x->n_slices++].n = n;
    x->received += n;
    if (x->n_slices == SLICES)
        check_slices(x);
    maybe_drop(x);
}

static void on_trailers(void *ctx, const struct wire_trailers *t) {
    struct side *x = ctx;
    if (x->eof || x->closed || x->trailers_came || x->received != x->peer->sent || t->n_headers != 1 ||
        !ht_slice_is(t->headers[0].name, "x-sum"))
        violations++;
    x->trailers_came = true;
    trailers++;
    maybe_drop(x);
}

static void on_eof(void *ctx) {
    struct side *x = ctx;
    if (x->eof || x->closed || !x->peer->finishing || x->received != x->peer->sent ||
        x->trailers_came != x->peer->trailers_sent)
        violations++;
    x->eof = true;
    maybe_drop(x);
}

static void on_data_end(void *ctx) {
    struct side *x = ctx;
    check_slices(x);
    if (x->st && roll(3))
        mux_stream_consumed(x->st, roll(2) ? mux_stream_unconsumed(x->st) : roll(50000));
    maybe_drop(x);
}

/* Of some streams, and of some so much that no message has room for it. */
static void send_trailers(struct side *x) {
    static char much[60000];
    memset(much, 'm', sizeof much);
    struct wire_header field = {ht_slice_str("x-sum"), ht_slice_of(much, roll(8) ? 10 : ht_min(sizeof much, 49152))};
    struct wire_trailers t = {&field, 1};
    if (x->http && config.caps & WIRE_CAP_TRAILERS && roll(2))
        x->trailers_sent = mux_stream_trailers(x->st, &t) == 0;
}

static ssize_t on_pull(void *ctx, uint8_t *out, size_t cap, unsigned *flags) {
    struct side *x = ctx;
    if (!x->hands_off && roll(500) == 0) {
        resets++;
        mux_stream_reset(x->st, WIRE_CODE_CANCEL, "changed my mind");
        return HT_ECLOSED;
    }
    if (chaos && roll(30) == 0) {
        chaos = false;
        end_somehow(x->end, true);
        return HT_ECLOSED;
    }
    size_t n = ht_min(cap, x->to_send);
    if (roll(4) == 0 && n > 0)
        n = roll((uint32_t)n);
    for (size_t i = 0, some; i < n; i += some) {
        some = ht_min(n - i, PERIOD);
        memcpy(out + i, pattern(x->end, x->id, x->sent + i), some);
    }
    x->sent += n;
    x->to_send -= n;
    if (x->to_send == 0 && x->finishing) {
        *flags = MUX_PULL_EOF;
        send_trailers(x);
    } else if (x->to_send > 0 && n > 0)
        *flags = MUX_PULL_MORE;
    else if (x->to_send > 0)
        mux_stream_ready(x->st); /* nothing now, and another try */
    return (ssize_t)n;
}

static ssize_t on_pullv(void *ctx, const struct iovec *to, int n, unsigned *flags) {
    return pull_pieces(on_pull, ctx, to, n, flags);
}

static void on_writable(void *ctx, bool yes) {
    struct side *x = ctx;
    if (yes && x->st)
        mux_stream_ready(x->st);
}

static void on_closed(void *ctx, uint16_t code, struct ht_slice reason, bool remote) {
    struct side *x = ctx;
    (void)reason, (void)remote;
    if (x->closed)
        violations++;
    x->closed = true;
    x->in_order = code == 0;
    if (x->in_order) {
        completed++;
        if (!x->eof || !x->finishing || x->received != x->peer->sent || x->to_send)
            violations++;
    } else if (code == WIRE_CODE_PROTOCOL_ERROR || code == WIRE_CODE_FLOW_CONTROL_ERROR ||
               code == WIRE_CODE_STREAM_CLOSED) {
        violations++;
    }
    maybe_drop(x);
}

static const struct mux_stream_ops stream_ops = {.response_head = on_head,
                                                 .data = on_data,
                                                 .trailers = on_trailers,
                                                 .eof = on_eof,
                                                 .data_end = on_data_end,
                                                 .pull = on_pull,
                                                 .writable = on_writable,
                                                 .closed = on_closed,
                                                 .pullv = on_pullv};

static void on_stream_open(void *ctx, struct mux_stream *st, const struct wire_stream_open *open) {
    struct end *e = ctx;
    struct side *x = &e->side[open->bind_id - 1]; /* the test's own number of the stream */
    x->id = mux_stream_id(st);
    x->st = st;
    mux_stream_accept(st, &stream_ops, x);
    if (roll(50) == 0)
        mux_stream_release(&x->st);
}

static void on_link_lost(void *ctx, struct mux_link *l, unsigned index) { (void)ctx, (void)l, (void)index; }

static void on_over(void *ctx, enum mux_end why, const char *text) {
    struct end *e = ctx;
    e->overs++;
    e->why = why;
    if (why == MUX_END_VIOLATION) {
        printf("# %s\n", text);
        violations++;
    }
    if (roll(2))
        mux_session_destroy(&e->s);
}

static const struct mux_session_ops session_ops = {
    .stream_open = on_stream_open, .link_lost = on_link_lost, .over = on_over};

static void on_output(void *ctx) { (void)ctx; }

static void on_close(void *ctx, uint16_t code, const char *reason) {
    struct port *p = ctx;
    (void)code, (void)reason;
    p->closed = true;
}

static unsigned links_wanted;

static void start_session(struct end *e, struct mux_link *l, const struct wire_hello_ok *ok) {
    struct mux_config c = config;
    c.role = e->role;
    e->s = mux_session_create(&c, &session_ops, e, 1000);
    if (!e->s || mux_session_attach(e->s, l, ok) < 0)
        abort();
}

static void on_hello(void *ctx, const struct wire_hello *hello) {
    struct port *p = ctx;
    (void)hello;
    struct wire_hello_ok ok = {.session_id = ht_slice_str("S-1"),
                               .stream_window = config.stream_window,
                               .session_window = config.session_window,
                               .connections_granted = (uint16_t)links_wanted};
    start_session(p->end, p->l, &ok);
}

static void on_hello_ok(void *ctx, const struct wire_hello_ok *ok) {
    struct port *p = ctx;
    start_session(p->end, p->l, ok);
}

static void on_join(void *ctx, const struct wire_join *join) {
    struct port *p = ctx;
    if (mux_session_join(p->end->s, p->l, join->index, NULL) < 0)
        abort();
}

static void on_join_ok(void *ctx, const struct wire_join_ok *ok) {
    struct port *p = ctx;
    if (mux_session_join(p->end->s, p->l, ok->index, NULL) < 0)
        abort();
}

static const struct mux_link_ops link_ops = {.hello = on_hello,
                                             .join = on_join,
                                             .hello_ok = on_hello_ok,
                                             .join_ok = on_join_ok,
                                             .output = on_output,
                                             .close = on_close};

/* ---- the wire between them ---- */

/* Counts session credit in a message; `sign` +1 when it leaves, -1 when it has arrived. */
static void count_credit(struct port *p, const struct msg *m, int sign) {
    for (size_t off = 0; off < m->n;) {
        uint32_t id = wire_get32(m->p + off + 1), len = wire_get32(m->p + off + 5);
        if (m->p[off] == WIRE_DATA)
            p->data_flying += (size_t)((long)len * sign);
        else if (m->p[off] == WIRE_WINDOW && id == 0)
            p->window_flying += (size_t)((long)wire_get32(m->p + off + 9) * sign);
        off += 9 + len;
    }
}

static bool pull(struct port *p, size_t cap) {
    static uint8_t room[WIRE_LIMIT_MAX_MESSAGE];
    size_t n = p->l ? mux_link_pull(p->l, room, cap) : 0;
    if (n == 0)
        return false;
    struct msg *m = calloc(1, sizeof *m);
    m->p = malloc(n); /* of its own, so that a borrowed byte too late shows */
    memcpy(m->p, room, n);
    m->n = n;
    *p->last = m;
    p->last = &m->next;
    count_credit(p, m, 1);
    return true;
}

/* Shows the next bytes of the oldest message to the other end. */
static bool deliver(struct port *p, size_t piece) {
    struct msg *m = p->first;
    struct mux_link *to = p->peer->l;
    if (!m || !to)
        return false;
    m->shown = ht_min(m->n, m->shown + piece);
    ssize_t used = mux_link_message(to, m->p + m->used, m->shown - m->used, m->shown == m->n);
    if (p->peer->l)
        mux_link_fed(p->peer->l);
    if (used >= 0)
        m->used += (size_t)used;
    if (used >= 0 && m->shown < m->n)
        return true;
    if (used >= 0 && m->used != m->n)
        violations++;
    count_credit(p, m, -1);
    if (!(p->first = m->next))
        p->last = &p->first;
    free(m->p);
    free(m);
    return true;
}

static void drop_messages(struct port *p) {
    while (p->first) {
        struct msg *m = p->first;
        p->first = m->next;
        free(m->p);
        free(m);
    }
    p->last = &p->first;
    p->data_flying = p->window_flying = 0;
}

static bool pump(void) {
    bool moved = false;
    for (unsigned i = 0; i < links_wanted; i++) {
        while (pull(&kit.port[i], WIRE_LIMIT_MAX_MESSAGE) | pull(&driver.port[i], WIRE_LIMIT_MAX_MESSAGE))
            moved = true;
        while (deliver(&kit.port[i], WIRE_LIMIT_MAX_MESSAGE) | deliver(&driver.port[i], WIRE_LIMIT_MAX_MESSAGE))
            moved = true;
    }
    return moved;
}

/* What the receiver thinks may still come is what the sender has left and what is under way. */
static void check_credit(const struct end *from, const struct end *to) {
    size_t flying = 0, back = 0;
    if (!from->s || !to->s || from->overs || to->overs)
        return;
    for (unsigned i = 0; i < links_wanted; i++) {
        flying += from->port[i].data_flying;
        back += to->port[i].window_flying;
        if ((from->port[i].first && from->port[i].first->shown) || (to->port[i].first && to->port[i].first->shown))
            return; /* in the middle of a message */
    }
    const struct flow_pool *pool = &to->s->recv;
    if (pool->recv.avail != from->s->send.credit + flying + back ||
        pool->recv.avail + pool->recv.owed + pool->deferred != pool->recv.window + pool->recv.over ||
        pool->held > config.session_buffer + config.session_window)
        violations++;
}

/* ---- the schedule ---- */

static void start(bool v2, const struct mux_config *c) {
    memset(&kit, 0, sizeof kit);
    memset(&driver, 0, sizeof driver);
    kit.role = WIRE_ROLE_KIT;
    driver.role = WIRE_ROLE_DRIVER;
    config = *c;
    config.version = v2 ? WIRE_V2 : WIRE_V1;
    links_wanted = v2 ? LINKS : 1;
    for (unsigned i = 0; i < links_wanted; i++) {
        struct port *k = &kit.port[i], *d = &driver.port[i];
        *k = (struct port){.end = &kit, .peer = d};
        *d = (struct port){.end = &driver, .peer = k};
        k->last = &k->first;
        d->last = &d->first;
    }
    for (unsigned i = 0; i < links_wanted; i++) {
        struct port *k = &kit.port[i], *d = &driver.port[i];
        k->l = mux_link_create(WIRE_ROLE_KIT, config.version, &link_ops, k);
        d->l = mux_link_create(WIRE_ROLE_DRIVER, config.version, &link_ops, d);
        struct wire_hello hello = {.version = config.version};
        struct wire_join join = {.session_id = ht_slice_str("S-1"), .index = (uint16_t)i, .nonce = ht_slice_str("n")};
        if ((i == 0 ? mux_link_send_hello(d->l, &hello) : mux_link_send_join(d->l, &join)) < 0)
            abort();
        while (pump())
            ;
    }
}

static void open_one(void) {
    if (!kit.s || kit.n_sides == SIDES)
        return;
    unsigned n = kit.n_sides;
    struct side *a = &kit.side[n], *b = &driver.side[n];
    bool http = roll(2);
    struct wire_stream_open open = {.kind = http ? WIRE_KIND_HTTP : WIRE_KIND_TCP,
                                    .bind_id = n + 1,
                                    .method = ht_slice_str("PUT"),
                                    .target = ht_slice_str("/a")};
    *a = (struct side){.end = &kit, .peer = b};
    *b = (struct side){.end = &driver, .peer = a, .head_due = http, .http = http};
    if (mux_stream_open(kit.s, &open, &stream_ops, a, &a->st) < 0)
        return;
    a->id = b->id = mux_stream_id(a->st);
    kit.n_sides++;
}

static void write_some(struct side *x, bool all) {
    if (!x->st || x->finishing || mux_stream_is_over(x->st))
        return;
    if (x->head_due) {
        struct wire_response_head head = {.status = 200, .final = all || roll(3) > 0};
        if (!head.final)
            head.status = 103;
        if (mux_stream_respond(x->st, &head) == 0)
            x->head_due = !head.final;
        if (x->head_due)
            return;
    }
    x->to_send += roll(20) == 0 ? roll(400000) : roll(3000);
    x->finishing = all || roll(6) == 0;
    mux_stream_ready(x->st);
}

static void step(void) {
    struct end *e = roll(2) ? &kit : &driver;
    struct side *x = kit.n_sides ? &e->side[roll(kit.n_sides)] : NULL;
    struct port *p = &e->port[roll(links_wanted)];
    static const size_t pieces[] = {1, 8, 9, 10, 100, 5000, 70000, 262144};
    switch (roll(12)) {
    case 0:
        open_one();
        break;
    case 1:
    case 2:
    case 3:
        if (x)
            write_some(x, false);
        break;
    case 4:
        if (x && x->st)
            mux_stream_consumed(x->st, roll(200000));
        break;
    case 5:
        if (x && x->st && roll(60) == 0) {
            resets += !mux_stream_is_over(x->st);
            mux_stream_reset(x->st, WIRE_CODE_CANCEL, "random");
        } else if (x && x->st && mux_stream_is_over(x->st) && roll(2)) {
            mux_stream_release(&x->st);
        }
        break;
    case 6:
    case 7:
        pull(p, roll(3) ? WIRE_LIMIT_MAX_MESSAGE : 20 + roll(3000));
        break;
    case 8:
        if (e->s)
            mux_session_tick(e->s, e->s->now_ms + roll(200));
        break;
    default:
        deliver(p, pieces[roll(HT_ARRAY_LEN(pieces))]);
    }
    check_credit(&kit, &driver);
    check_credit(&driver, &kit);
}

/* Everybody writes to the end and takes everything: all streams must come to their end, and all credit must come back.
 */
static void settle(void) {
    for (unsigned round = 0, quiet = 0; round < 20000 && quiet < 30; round++) {
        bool moved = pump();
        for (unsigned i = 0; i < kit.n_sides; i++)
            for (int j = 0; j < 2; j++) {
                struct side *x = j ? &driver.side[i] : &kit.side[i];
                x->hands_off = true;
                write_some(x, true);
                if (x->st)
                    mux_stream_consumed(x->st, mux_stream_unconsumed(x->st));
            }
        if (kit.s)
            mux_session_tick(kit.s, kit.s->now_ms + 500);
        if (driver.s)
            mux_session_tick(driver.s, driver.s->now_ms + 500);
        quiet = moved ? 0 : quiet + 1;
    }
    for (unsigned i = 0; i < kit.n_sides; i++)
        for (int j = 0; j < 2; j++) {
            struct side *x = j ? &driver.side[i] : &kit.side[i];
            if (x->st && !mux_stream_is_over(x->st)) {
                printf("# stream %u of %s stands still: %zu to send, %zu/%zu\n", x->id, j ? "driver" : "kit",
                       x->to_send, x->received, x->peer->sent);
                violations++;
            }
            mux_stream_release(&x->st);
        }
    pump();
    check_credit(&kit, &driver);
    check_credit(&driver, &kit);
    for (int j = 0; j < 2; j++) {
        struct end *e = j ? &driver : &kit;
        if (!e->s || e->overs)
            continue;
        if (e->s->n_all || e->s->table.used || e->s->recv.held || e->s->recv.deferred || e->port[0].l->n_ready)
            violations++;
    }
}

static void finish(size_t live) {
    for (int j = 0; j < 2; j++) {
        struct end *e = j ? &driver : &kit;
        mux_session_destroy(&e->s);
        for (unsigned i = 0; i < links_wanted; i++) {
            drop_messages(&e->port[i]);
            mux_link_destroy(&e->port[i].l);
        }
    }
    for (unsigned i = 0; i < SIDES; i++) {
        mux_stream_release(&kit.side[i].st);
        mux_stream_release(&driver.side[i].st);
    }
    CU_ASSERT_EQUAL(ht_mem_live(), live);
}

static const struct mux_config usual = {
    .stream_window = WIRE_LIMIT_STREAM_WINDOW,
    .session_window = WIRE_LIMIT_SESSION_WINDOW,
    .max_streams = SIDES,
    .session_buffer = WIRE_LIMIT_SESSION_BUFFER,
    .ping_interval_ms = 20000,
    .pong_timeout_ms = 100000000,
    .own_peer = true,
};

static void run(const char *name, bool v2, const struct mux_config *c, unsigned steps) {
    size_t live = ht_mem_live();
    uint64_t began = seed;
    violations = completed = resets = 0;
    start(v2, c);
    for (unsigned i = 0; i < steps && violations == 0; i++)
        step();
    settle();
    CU_ASSERT_EQUAL(kit.overs + driver.overs, 0);
    CU_ASSERT_EQUAL(violations, 0);
    CU_ASSERT(completed > 20);
    printf("# %s: seed %llu, %u streams, %u ends in order, %u resets\n", name, (unsigned long long)began, kit.n_sides,
           completed, resets);
    finish(live);
}

static void usual_windows(void) {
    for (int i = 0; i < 4; i++)
        run("usual windows", false, &usual, steps_wanted / 4);
}

static void small_windows(void) {
    static const uint32_t sizes[] = {500, 1000, 65536, 131072};
    for (size_t i = 0; i < HT_ARRAY_LEN(sizes); i++) {
        struct mux_config c = usual;
        c.stream_window = sizes[i];
        c.session_window = sizes[i] * 2;
        c.session_buffer = sizes[i];
        run("small windows", false, &c, sizes[i] == 500 ? steps_wanted / 20 : steps_wanted / 4);
    }
}

static void a_tight_session(void) {
    struct mux_config c = usual;
    c.session_window = 65536;
    c.session_buffer = 0;
    run("a tight session", false, &c, steps_wanted / 4);
}

static void growing_windows(void) {
    struct mux_config c = usual;
    c.caps = WIRE_CAP_AUTO_WINDOW | WIRE_CAP_LARGE_WINDOW;
    c.max_window = 64u << 20;
    c.stream_window = 65536;
    run("growing windows", false, &c, steps_wanted / 4);
}

static void with_trailers(void) {
    struct mux_config c = usual;
    c.caps = WIRE_CAP_TRAILERS;
    trailers = 0;
    run("with trailers", false, &c, steps_wanted / 4);
    run("with trailers", true, &c, steps_wanted / 4);
    CU_ASSERT(trailers > 10);
}

static void published_peers(void) {
    struct mux_config c = usual;
    c.own_peer = false;
    run("published peers", false, &c, steps_wanted / 4);
}

static void several_links(void) {
    for (int i = 0; i < 4; i++)
        run("several links", true, &usual, steps_wanted / 4);
}

/* A secondary drops in the middle of everything: its streams end, the others do not notice. */
static void a_lost_secondary(void) {
    for (int i = 0; i < 20; i++) {
        size_t live = ht_mem_live();
        violations = completed = resets = 0;
        start(true, &usual);
        for (unsigned n = 0; n < 1500 + roll(500); n++)
            step();
        unsigned lost = 1 + roll(LINKS - 1);
        for (int j = 0; j < 2; j++) {
            struct port *p = j ? &driver.port[lost] : &kit.port[lost];
            drop_messages(p);
            if (roll(2))
                mux_link_closed(p->l, roll(2));
            mux_link_destroy(&p->l);
        }
        violations = 0; /* credit that was lost with the link cannot add up */
        for (unsigned n = 0; n < 500; n++) {
            deliver(&kit.port[0], 100000);
            deliver(&driver.port[0], 100000);
            pull(&kit.port[0], 262144);
            pull(&driver.port[0], 262144);
        }
        settle();
        CU_ASSERT_EQUAL(kit.overs + driver.overs, 0);
        CU_ASSERT_EQUAL(mux_session_links(kit.s), LINKS - 1);
        finish(live);
    }
}

/* `rude`: from inside a callback. */
static void end_somehow(struct end *e, bool rude) {
    if (!e->s)
        return;
    switch (roll(6)) {
    case 0:
        mux_session_destroy(&e->s);
        break;
    case 1:
        mux_link_destroy(&e->port[0].l);
        break;
    case 2:
        if (e->port[0].l)
            mux_link_closed(e->port[0].l, roll(2));
        break;
    case 3:
        mux_session_shutdown(e->s, 0, "bye", rude ? 0 : roll(200), 1001);
        break;
    case 4:
        mux_session_close(e->s);
        break;
    default:
        (void)!mux_session_send(e->s, WIRE_GOAWAY, &(struct wire_goaway){.code = 0, .message = ht_slice_str("bye")});
    }
}

static void ends(bool rude) {
    for (int i = 0; i < 300; i++) {
        size_t live = ht_mem_live();
        violations = completed = resets = 0;
        start(i % 3 == 0, &usual);
        for (unsigned n = roll(600); n > 0; n--)
            step();
        if (rude)
            chaos = true;
        else
            end_somehow(roll(2) ? &kit : &driver, false);
        for (unsigned n = 0; n < 400; n++)
            step();
        chaos = false;
        CU_ASSERT_EQUAL(violations, 0);
        CU_ASSERT(kit.overs <= 1 && driver.overs <= 1);
        finish(live);
    }
}

/* The end comes at any moment, from any side, and nothing is left or used afterwards. */
static void sudden_ends(void) { ends(false); }

/* The same out of a callback of a stream: what called it must not touch what is gone. */
static void ends_inside_callbacks(void) { ends(true); }

int main(int argc, char **argv) {
    static const struct tap_test tests[] = {
        {"two sessions with the usual windows exchange all streams", usual_windows},
        {"two sessions with small windows exchange all streams", small_windows},
        {"two sessions with very small windows exchange all streams", a_tight_session},
        {"two sessions with growing windows exchange all streams", growing_windows},
        {"two sessions exchange all streams with trailers", with_trailers},
        {"peers without capabilities exchange all streams", published_peers},
        {"two sessions exchange all streams over several links", several_links},
        {"a lost secondary costs its own streams only", a_lost_secondary},
        {"a session may end at any moment", sudden_ends},
        {"a session may end inside any callback", ends_inside_callbacks},
        {NULL, NULL},
    };
    seed = argc > 1 ? strtoull(argv[1], NULL, 10) : 20260101;
    if (argc > 2)
        steps_wanted = (unsigned)strtoul(argv[2], NULL, 10);
    make_noise();
    return tap_main("mux pair", tests);
}
