/*
 * A kit's session and a driver's, joined in memory, under random schedules: who writes, reads, resets, releases, pulls
 * and delivers when, and in what pieces, comes from a printed seed. Every byte is checked against what was sent,
 * borrowed bytes only when they are due, and the credit of the two ends must add up after each step.
 */
#ifndef HT_TESTS_MUX_PAIR_H
#define HT_TESTS_MUX_PAIR_H

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

static inline uint32_t roll(uint32_t n) {
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

struct msgs {
    struct msg *first, **last;
};

/* One link of one end, with the messages that travel away from it. */
struct port {
    struct port *older; /* all ports that were made */
    struct end *end;
    unsigned index;
    struct mux_link *l;
    struct port *peer;
    struct msgs out;
    bool closed;
    size_t data_flying, window_flying; /* session credit under way */
};

/* With stream-resume: the messages of one index that are not acknowledged. */
struct store {
    struct msgs kept;
    uint64_t forgotten; /* messages 1 to this one */
    size_t bytes;
};

struct end {
    enum wire_role role;
    struct mux_session *s;
    struct port *port[LINKS];
    struct store store[LINKS];
    struct side side[SIDES];
    unsigned n_sides, overs, aways, given_up, replays;
    enum mux_end why;
};

static struct end kit, driver;
static struct port *ports;
static unsigned violations, completed, resets, trailers;
static struct mux_config config;
static bool chaos; /* the next callbacks may end their own session */
static bool lossy; /* links are being lost: what is under way is not known */

/* What is sent are parts of a noise that repeats after a prime number of bytes. */
#define PERIOD 65521u
static uint8_t noise[2 * PERIOD];

static inline void make_noise(void) {
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

static inline void check_slices(struct side *x) {
    for (unsigned i = 0; i < x->n_slices; i++)
        for (size_t j = 0, n; j < x->slice[i].n; j += n, x->checked += n) {
            n = ht_min(x->slice[i].n - j, PERIOD);
            violations += memcmp(x->slice[i].p + j, pattern(x->peer->end, x->id, x->checked), n) != 0;
        }
    x->n_slices = 0;
}

/* ---- callbacks ---- */

static inline void end_somehow(struct end *e, bool rude);

static inline void maybe_drop(struct side *x) {
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

static inline void on_head(void *ctx, const struct wire_response_head *head) {
    (void)head;
    maybe_drop(ctx);
}

static inline void on_data(void *ctx, const uint8_t *p, size_t n) {
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

static inline void on_trailers(void *ctx, const struct wire_trailers *t) {
    struct side *x = ctx;
    if (x->eof || x->closed || x->trailers_came || x->received != x->peer->sent || t->n_headers != 1 ||
        !ht_slice_is(t->headers[0].name, "x-sum"))
        violations++;
    x->trailers_came = true;
    trailers++;
    maybe_drop(x);
}

static inline void on_eof(void *ctx) {
    struct side *x = ctx;
    if (x->eof || x->closed || !x->peer->finishing || x->received != x->peer->sent ||
        x->trailers_came != x->peer->trailers_sent)
        violations++;
    x->eof = true;
    maybe_drop(x);
}

static inline void on_data_end(void *ctx) {
    struct side *x = ctx;
    check_slices(x);
    if (x->st && roll(3))
        mux_stream_consumed(x->st, roll(2) ? mux_stream_unconsumed(x->st) : roll(50000));
    maybe_drop(x);
}

/* Of some streams, and of some so much that no message has room for it. */
static inline void send_trailers(struct side *x) {
    static char much[60000];
    memset(much, 'm', sizeof much);
    struct wire_header field = {ht_slice_str("x-sum"), ht_slice_of(much, roll(8) ? 10 : ht_min(sizeof much, 49152))};
    struct wire_trailers t = {&field, 1};
    if (x->http && config.caps & WIRE_CAP_TRAILERS && roll(2))
        x->trailers_sent = mux_stream_trailers(x->st, &t) == 0;
}

static inline ssize_t on_pull(void *ctx, uint8_t *out, size_t cap, unsigned *flags) {
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

static inline ssize_t on_pullv(void *ctx, const struct iovec *to, int n, unsigned *flags) {
    return pull_pieces(on_pull, ctx, to, n, flags);
}

static inline void on_writable(void *ctx, bool yes) {
    struct side *x = ctx;
    if (yes && x->st)
        mux_stream_ready(x->st);
}

static inline void on_closed(void *ctx, uint16_t code, struct ht_slice reason, bool remote) {
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

static inline void on_stream_open(void *ctx, struct mux_stream *st, const struct wire_stream_open *open) {
    struct end *e = ctx;
    struct side *x = &e->side[open->bind_id - 1]; /* the test's own number of the stream */
    x->id = mux_stream_id(st);
    x->st = st;
    mux_stream_accept(st, &stream_ops, x);
    if (roll(50) == 0)
        mux_stream_release(&x->st);
}

static inline void on_link_lost(void *ctx, struct mux_link *l, unsigned index) { (void)ctx, (void)l, (void)index; }

static inline void on_over(void *ctx, enum mux_end why, const char *text) {
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

static inline void on_away(void *ctx, const char *text) {
    struct end *e = ctx;
    (void)text;
    e->aways++;
}

static inline void empty(struct msgs *m) {
    for (struct msg *one; (one = m->first);) {
        m->first = one->next;
        free(one->p);
        free(one);
    }
    m->last = &m->first;
}

static inline void on_given_up(void *ctx, unsigned index) {
    struct end *e = ctx;
    e->given_up++;
    empty(&e->store[index].kept);
    e->store[index].forgotten = e->store[index].bytes = 0;
}

static const struct mux_session_ops session_ops = {.stream_open = on_stream_open,
                                                   .link_lost = on_link_lost,
                                                   .away = on_away,
                                                   .given_up = on_given_up,
                                                   .over = on_over};

static inline void on_output(void *ctx) { (void)ctx; }

static inline void on_close(void *ctx, uint16_t code, const char *reason) {
    struct port *p = ctx;
    (void)code, (void)reason;
    p->closed = true;
}

/* ---- what is kept ---- */

static inline struct msg *copy_of(const uint8_t *p, size_t n) {
    struct msg *m = calloc(1, sizeof *m);
    m->p = malloc(n); /* of its own, so that a borrowed byte too late shows */
    memcpy(m->p, p, n);
    m->n = n;
    return m;
}

static inline void append(struct msgs *to, struct msg *m) {
    *to->last = m;
    to->last = &m->next;
}

static inline size_t on_kept(void *ctx) {
    struct port *p = ctx;
    return p->end->store[p->index].bytes;
}

static inline void on_acked(void *ctx, uint64_t count) {
    struct port *p = ctx;
    struct store *k = &p->end->store[p->index];
    for (; k->forgotten < count; k->forgotten++) {
        struct msg *m = k->kept.first;
        if (!m) {
            violations++;
            return;
        }
        if (!(k->kept.first = m->next))
            k->kept.last = &k->kept.first;
        k->bytes -= m->n;
        free(m->p);
        free(m);
    }
}

static inline void send(struct port *p, const uint8_t *bytes, size_t n);

static inline void on_replay(void *ctx, uint64_t count) {
    struct port *p = ctx;
    on_acked(p, count);
    for (struct msg *m = p->end->store[p->index].kept.first; m; m = m->next) {
        p->end->replays++;
        send(p, m->p, m->n);
    }
}

static unsigned links_wanted;

/* The socket of `p` is over, as this end sees it; or the end has another one. */
static inline void lose(struct port *p, bool clean) {
    if (!p || !p->l)
        return;
    if (roll(2))
        mux_link_closed(p->l, clean);
    mux_link_destroy(&p->l);
    empty(&p->peer->out);
    p->peer->data_flying = p->peer->window_flying = 0;
}

static inline void start_session(struct port *p, const struct wire_hello_ok *ok) {
    struct mux_config c = config;
    struct end *e = p->end;
    c.role = e->role;
    e->s = mux_session_create(&c, &session_ops, e, 1000);
    if (!e->s || mux_session_attach(e->s, p->l, ok) < 0)
        abort();
    e->port[0] = p;
}

/* False: the session is as it was. */
static inline bool go_on(struct port *p, uint64_t received, const struct wire_hello_ok *ok) {
    struct end *e = p->end;
    int rc = mux_session_can_resume(e->s, 0, received);
    if (rc == HT_EAGAIN)
        return false;
    if (rc == 0 && !mux_session_is_away(e->s)) /* RESUME-3 */
        lose(e->port[0], false);
    if (rc < 0 || mux_session_resume(e->s, p->l, received, ok, e->s->now_ms + roll(1000)) < 0)
        violations++;
    e->port[0] = p;
    return true;
}

static inline void on_hello(void *ctx, const struct wire_hello *hello) {
    struct port *p = ctx;
    static struct ht_slice names[WIRE_N_CAPABILITIES];
    struct wire_hello_ok ok = {.session_id = ht_slice_str("S-1"),
                               .stream_window = config.stream_window,
                               .session_window = config.session_window,
                               .connections_granted = (uint16_t)links_wanted,
                               .capabilities = names,
                               .n_capabilities = wire_caps_names(config.caps, names)};
    if (!hello->has_resume)
        start_session(p, &ok);
    else if (!go_on(p, hello->resume.received, &ok))
        mux_link_refuse(p->l, NULL, WIRE_GOAWAY_SUPERSEDED_CLOSE, WIRE_GOAWAY_SUPERSEDED_MESSAGE);
}

static inline void on_hello_ok(void *ctx, const struct wire_hello_ok *ok) {
    struct port *p = ctx;
    if (!ok->has_received)
        start_session(p, ok);
    else if (!go_on(p, ok->received, ok))
        violations++;
}

static inline void joins(struct port *p, unsigned index, const uint64_t *messages) {
    int rc = mux_session_join(p->end->s, p->l, index, NULL, messages);
    if (rc == HT_EAGAIN && p->end == &kit) {
        mux_link_refuse_join(p->l, &(struct wire_join_err){.code = WIRE_JOIN_ERROR_INVALID_TICKET});
        return;
    }
    violations += rc < 0;
    p->end->port[index] = p;
}

static inline bool is_live(const struct end *e) { return e->s && e->s->state == SESSION_LIVE; }

static inline void on_join(void *ctx, const struct wire_join *join) {
    struct port *p = ctx;
    if (p->end->port[join->index] != p) /* RESUME-3, for a secondary */
        lose(p->end->port[join->index], false);
    if (is_live(p->end))
        joins(p, join->index, join->has_received ? &join->received : NULL);
    else
        mux_link_refuse_join(p->l, &(struct wire_join_err){.code = WIRE_JOIN_ERROR_UNKNOWN_SESSION});
}

static inline void on_join_ok(void *ctx, const struct wire_join_ok *ok) {
    struct port *p = ctx;
    if (is_live(p->end)) /* else the primary was lost meanwhile */
        joins(p, ok->index, ok->has_received ? &ok->received : NULL);
    else
        p->closed = true;
}

static inline void on_join_err(void *ctx, const struct wire_join_err *err) { (void)ctx, (void)err; }
static inline void on_refused(void *ctx, const struct wire_goaway *g) { (void)ctx, (void)g; }

static const struct mux_link_ops link_ops = {.hello = on_hello,
                                             .join = on_join,
                                             .hello_ok = on_hello_ok,
                                             .join_ok = on_join_ok,
                                             .join_err = on_join_err,
                                             .refused = on_refused,
                                             .output = on_output,
                                             .close = on_close,
                                             .kept = on_kept,
                                             .acked = on_acked,
                                             .replay = on_replay};

/* ---- the wire between them ---- */

/* Counts session credit in a message; `sign` +1 when it leaves, -1 when it has arrived. */
static inline void count_credit(struct port *p, const struct msg *m, int sign) {
    for (size_t off = 0; off < m->n;) {
        uint32_t id = wire_get32(m->p + off + 1), len = wire_get32(m->p + off + 5);
        if (m->p[off] == WIRE_DATA)
            p->data_flying += (size_t)((long)len * sign);
        else if (m->p[off] == WIRE_WINDOW && id == 0)
            p->window_flying += (size_t)((long)wire_get32(m->p + off + 9) * sign);
        off += 9 + len;
    }
}

static inline void send(struct port *p, const uint8_t *bytes, size_t n) {
    struct msg *m = copy_of(bytes, n);
    append(&p->out, m);
    count_credit(p, m, 1);
}

static inline bool pull(struct port *p, size_t cap) {
    static uint8_t room[WIRE_LIMIT_MAX_MESSAGE];
    size_t n = p->l ? mux_link_pull(p->l, room, cap) : 0;
    if (n == 0)
        return false;
    if (p->l && mux_link_counts(p->l)) {
        struct store *k = &p->end->store[p->index];
        append(&k->kept, copy_of(room, n));
        k->bytes += n;
    }
    if (p->peer->l)
        send(p, room, n);
    return true;
}

/* Shows the next bytes of the oldest message to the other end. */
static inline bool deliver(struct port *p, size_t piece) {
    struct msg *m = p->out.first;
    struct mux_link *to = p->peer->l;
    if (!m || !to)
        return false;
    m->shown = ht_min(m->n, m->shown + piece);
    p->out.first = m->next; /* a callback may lose the link, with all that is under way to it */
    if (!p->out.first)
        p->out.last = &p->out.first;
    ssize_t used = mux_link_message(to, m->p + m->used, m->shown - m->used, m->shown == m->n);
    if (p->peer->l)
        mux_link_fed(p->peer->l);
    if (used >= 0)
        m->used += (size_t)used;
    if (used >= 0 && m->shown < m->n && p->peer->l) {
        m->next = p->out.first;
        p->out.first = m;
        if (!m->next)
            p->out.last = &m->next;
        return true;
    }
    if (used >= 0 && m->used != m->n && p->peer->l)
        violations++;
    if (p->data_flying + p->window_flying > 0)
        count_credit(p, m, -1);
    free(m->p);
    free(m);
    return true;
}

static inline void drop_messages(struct port *p) {
    empty(&p->out);
    p->data_flying = p->window_flying = 0;
}

static inline bool pump(void) {
    bool moved = false;
    for (unsigned i = 0; i < links_wanted; i++) {
        while (pull(kit.port[i], WIRE_LIMIT_MAX_MESSAGE) | pull(driver.port[i], WIRE_LIMIT_MAX_MESSAGE))
            moved = true;
        while (deliver(kit.port[i], WIRE_LIMIT_MAX_MESSAGE) | deliver(driver.port[i], WIRE_LIMIT_MAX_MESSAGE))
            moved = true;
    }
    return moved;
}

/* What the receiver thinks may still come is what the sender has left and what is under way. */
static inline void check_credit(const struct end *from, const struct end *to) {
    size_t flying = 0, back = 0;
    if (lossy || !from->s || !to->s || from->overs || to->overs)
        return;
    for (unsigned i = 0; i < links_wanted; i++) {
        const struct msg *out = from->port[i]->out.first, *in = to->port[i]->out.first;
        flying += from->port[i]->data_flying;
        back += to->port[i]->window_flying;
        if ((out && out->shown) || (in && in->shown))
            return; /* in the middle of a message */
    }
    const struct flow_pool *pool = &to->s->recv;
    if (pool->recv.avail != from->s->send.credit + flying + back ||
        pool->recv.avail + pool->recv.owed + pool->deferred != pool->recv.window + pool->recv.over ||
        pool->held > config.session_buffer + config.session_window)
        violations++;
}

/* ---- the schedule ---- */

static inline struct port *new_port(struct end *e, unsigned index) {
    struct port *p = calloc(1, sizeof *p);
    *p = (struct port){.older = ports, .end = e, .index = index};
    p->out.last = &p->out.first;
    p->l = mux_link_create(e->role, config.version, &link_ops, p);
    return ports = p;
}

/* Two links that are joined, before their handshake. Returns the kit's. */
static inline struct port *connect(unsigned index) {
    struct port *k = new_port(&kit, index), *d = new_port(&driver, index);
    k->peer = d;
    d->peer = k;
    return k;
}

/* HELLO or JOIN of a driver, with what it has received. */
static inline void greet(struct port *d) {
    struct wire_hello hello = {.version = config.version};
    struct wire_join join = {
        .session_id = ht_slice_str("S-1"), .index = (uint16_t)d->index, .nonce = ht_slice_str("n")};
    struct wire_resume *resume = &hello.resume;
    resume->session_id = ht_slice_str("S-1");
    if (driver.s) {
        join.has_received = mux_session_counted(driver.s, d->index, &join.received);
        hello.has_resume = resume->has_received = mux_session_counted(driver.s, 0, &resume->received);
    }
    if ((d->index == 0 ? mux_link_send_hello(d->l, &hello) : mux_link_send_join(d->l, &join)) < 0)
        abort();
}

static inline void start(bool v2, const struct mux_config *c) {
    memset(&kit, 0, sizeof kit);
    memset(&driver, 0, sizeof driver);
    kit.role = WIRE_ROLE_KIT;
    driver.role = WIRE_ROLE_DRIVER;
    config = *c;
    config.version = v2 ? WIRE_V2 : WIRE_V1;
    links_wanted = v2 ? LINKS : 1;
    for (unsigned i = 0; i < LINKS; i++) {
        kit.store[i].kept.last = &kit.store[i].kept.first;
        driver.store[i].kept.last = &driver.store[i].kept.first;
    }
    for (unsigned i = 0; i < links_wanted; i++) {
        kit.port[i] = connect(i);
        driver.port[i] = kit.port[i]->peer;
    }
    for (unsigned i = 0; i < links_wanted; i++) {
        greet(driver.port[i]);
        while (pump())
            ;
    }
}

static inline void open_one(void) {
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

static inline void write_some(struct side *x, bool all) {
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

static inline void step(void) {
    struct end *e = roll(2) ? &kit : &driver;
    struct side *x = kit.n_sides ? &e->side[roll(kit.n_sides)] : NULL;
    struct port *p = e->port[roll(links_wanted)];
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
static inline void settle(void) {
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
        if (e->s->n_all || e->s->table.used || e->s->recv.held || e->s->recv.deferred || e->port[0]->l->n_ready)
            violations++;
    }
}

static inline void finish(size_t live) {
    for (int j = 0; j < 2; j++) {
        struct end *e = j ? &driver : &kit;
        mux_session_destroy(&e->s);
        for (unsigned i = 0; i < LINKS; i++)
            empty(&e->store[i].kept);
    }
    for (struct port *p; (p = ports);) {
        ports = p->older;
        drop_messages(p);
        mux_link_destroy(&p->l);
        free(p);
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

/* `rude`: from inside a callback. */
static inline void end_somehow(struct end *e, bool rude) {
    if (!e->s)
        return;
    switch (roll(6)) {
    case 0:
        mux_session_destroy(&e->s);
        break;
    case 1:
        mux_link_destroy(&e->port[0]->l);
        break;
    case 2:
        if (e->port[0]->l)
            mux_link_closed(e->port[0]->l, roll(2));
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

#endif
