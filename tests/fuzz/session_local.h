/* fuzz_session.c's local side: what mux calls upward, checked against the contract of mux.h, and what it does then. */
#ifndef HT_TESTS_FUZZ_SESSION_LOCAL_H
#define HT_TESTS_FUZZ_SESSION_LOCAL_H

#include "base/utf8.h"
#include "fuzz.h"
#include "mux/mux.h"
#include "wire/frames.h"

#define STREAMS 200
#define LINKS 3
#define IDS 1024 /* stream ids below 2 * IDS are followed */
#define PIECE 65536

struct rig;

struct record {
    struct rig *rig;
    struct mux_stream *st; /* NULL: released */
    size_t to_send, received, consumed;
    bool then_eof, keep;
    bool eof, final, closed, blocked;
    bool awaits; /* STREAM_CONNECTED */
};

/* What crossed the wire for an id. */
struct flow {
    int64_t credit;      /* what we may still send, at most */
    int64_t in, granted; /* DATA that came; WINDOW that went out */
    bool opened, eof, reset, upgrade;
};

struct link {
    struct rig *rig;
    struct mux_link *l;
    struct wire_asm peer; /* receives what we send */
    bool told_to_close, deaf;
    uint32_t last_open;
    uint8_t *in;
    size_t in_n;
    bool greets, acks, tells; /* what the present message has: the handshake's frame, ACK, anything else */
};

/* With stream-resume: the messages of a link index. */
struct counts {
    uint64_t sent, acked, acked_in; /* acked_in: the largest ACK that the peer was sent */
};
#define KEPT 5000 /* bytes that the owner says it keeps of a message */

struct rig {
    struct mux_config cfg;
    struct mux_session *s;
    struct link links[LINKS];
    struct record records[STREAMS];
    unsigned n_records;
    struct flow session, flows[IDS];
    uint64_t now;
    uint8_t nonce[8]; /* of the last PING that went out */
    uint32_t temper;  /* 0: callbacks only look */
    bool over, cut_message;
    struct counts counts[LINKS];
    bool resumed;     /* what the peer sent again is in the books twice */
    uint64_t claimed; /* the count of the next HELLO or JOIN */
};

static struct rig room;
static uint8_t message_out[WIRE_LIMIT_MAX_MESSAGE];

static uint32_t whim(struct rig *r, uint32_t of) { return r->temper ? fuzz_next(&r->temper) % of : 1; }

static struct flow *flow_of(struct rig *r, uint32_t id) { return id && id / 2 < IDS ? &r->flows[id / 2] : NULL; }

/* ---- the local side's whims ---- */

static void release(struct record *t) {
    if (t->st)
        mux_stream_release(&t->st);
}

/* Something unexpected inside a callback. False: the session or the stream is gone. */
static void act_up(struct rig *r, struct record *t) {
    switch (whim(r, 40)) {
    case 0:
        if (t)
            release(t);
        break;
    case 2:
        if (t && t->st)
            mux_stream_reset(t->st, WIRE_CODE_CANCEL, "a whim");
        break;
    case 3:
        mux_session_destroy(&r->s);
        break;
    case 4:
        if (r->s)
            mux_session_shutdown(r->s, WIRE_CODE_NO_ERROR, "enough", 10, 1000);
        break;
    case 5:
        mux_link_destroy(&r->links[whim(r, LINKS)].l);
        break;
    case 6:
        if (t && t->st)
            mux_stream_ready(t->st);
        break;
    default:
        break;
    }
}

/* ---- streams ---- */

static struct record *live(void *ctx) {
    struct record *t = ctx;
    FUZZ_CHECK(t->st != NULL); /* nothing comes after the release */
    return t;
}

static void on_head(void *ctx, const struct wire_response_head *head) {
    struct record *t = live(ctx);
    FUZZ_CHECK(t->rig->cfg.role == WIRE_ROLE_KIT && !t->closed && !t->eof && !t->final);
    FUZZ_CHECK(head->final == (head->status >= 200 || head->status == 101));
    t->final = head->final;
    act_up(t->rig, t);
}

static void on_data(void *ctx, const uint8_t *p, size_t n) {
    struct record *t = live(ctx);
    FUZZ_CHECK(!t->closed && !t->eof && n > 0 && !t->awaits);
    t->received += n;
    (void)fuzz_hash(0, p, ht_min(n, 16));
    act_up(t->rig, t);
}

static void on_connected(void *ctx) {
    struct record *t = live(ctx);
    FUZZ_CHECK(t->rig->cfg.role == WIRE_ROLE_KIT && !t->closed && !t->eof && t->awaits);
    t->awaits = false;
    act_up(t->rig, t);
}

static void on_eof(void *ctx) {
    struct record *t = live(ctx);
    FUZZ_CHECK(!t->closed && !t->eof && !t->awaits);
    t->eof = true;
    act_up(t->rig, t);
}

static void consume(struct record *t, size_t n) {
    n = ht_min(n, t->received - t->consumed);
    t->consumed += n;
    mux_stream_consumed(t->st, n);
}

static void on_data_end(void *ctx) {
    struct record *t = live(ctx);
    if (!t->keep)
        consume(t, SIZE_MAX);
    act_up(t->rig, t);
}

static ssize_t on_pull(void *ctx, uint8_t *out, size_t cap, unsigned *flags) {
    struct record *t = live(ctx);
    FUZZ_CHECK(!t->closed && cap <= PIECE);
    size_t n = ht_min(cap, t->to_send);
    memset(out, 'x', n);
    t->to_send -= n;
    if (t->to_send > 0)
        *flags = MUX_PULL_MORE;
    else if (t->then_eof)
        *flags = MUX_PULL_EOF;
    if (whim(t->rig, 64) == 0) {
        mux_stream_reset(t->st, WIRE_CODE_INTERNAL_ERROR, "a whim");
        return HT_ECLOSED;
    }
    return (ssize_t)n;
}

static void on_writable(void *ctx, bool yes) {
    struct record *t = live(ctx);
    FUZZ_CHECK(!t->closed && t->blocked == yes); /* only edges */
    t->blocked = !yes;
    if (yes)
        mux_stream_ready(t->st);
    act_up(t->rig, t);
}

static void on_closed(void *ctx, uint16_t code, struct ht_slice reason, bool remote) {
    struct record *t = live(ctx);
    (void)code, (void)remote;
    FUZZ_CHECK(!t->closed && ht_utf8_valid((const uint8_t *)reason.p, reason.n));
    t->closed = true;
    FUZZ_CHECK(mux_stream_is_over(t->st));
    act_up(t->rig, t);
}

static const struct mux_stream_ops stream_ops = {.response_head = on_head,
                                                 .connected = on_connected,
                                                 .data = on_data,
                                                 .eof = on_eof,
                                                 .data_end = on_data_end,
                                                 .pull = on_pull,
                                                 .writable = on_writable,
                                                 .closed = on_closed};

static struct record *new_record(struct rig *r) {
    if (r->n_records == STREAMS)
        return NULL;
    struct record *t = &r->records[r->n_records++];
    *t = (struct record){.rig = r};
    t->keep = whim(r, 4) == 0;
    return t;
}

/* ---- the session ---- */

static void on_stream_open(void *ctx, struct mux_stream *st, const struct wire_stream_open *open) {
    struct rig *r = ctx;
    FUZZ_CHECK(!r->over && r->cfg.role == WIRE_ROLE_DRIVER);
    FUZZ_CHECK(!open->has_authority || r->cfg.caps & WIRE_CAP_NAMES);
    struct record *t = new_record(r);
    if (!t || whim(r, 8) == 0) {
        mux_stream_reset(st, WIRE_CODE_REFUSED_STREAM, "no");
        mux_stream_release(&st);
        return;
    }
    t->st = st;
    mux_stream_accept(st, &stream_ops, t);
    act_up(r, t);
}

static void on_bind(void *ctx, const struct wire_bind *bind, const struct wire_error *err) {
    struct rig *r = ctx;
    FUZZ_CHECK(!r->over && r->cfg.role == WIRE_ROLE_KIT && (!err || err->text[0]));
    struct wire_bind_err no = {.has_client_bind_ref = bind->has_client_bind_ref,
                               .client_bind_ref = bind->client_bind_ref,
                               .code = WIRE_BIND_ERROR_INTERNAL,
                               .message = ht_slice_str(err ? err->text : "no")};
    if (r->s)
        (void)!mux_session_send(r->s, WIRE_BIND_ERR, &no);
    act_up(r, NULL);
}

static void on_goaway(void *ctx, const struct wire_goaway *g) {
    struct rig *r = ctx;
    (void)g;
    FUZZ_CHECK(!r->over);
    act_up(r, NULL);
}

static void on_link_lost(void *ctx, struct mux_link *link, unsigned index) {
    struct rig *r = ctx;
    (void)link;
    FUZZ_CHECK(!r->over && index > 0 && index < LINKS);
}

static void on_away(void *ctx, const char *text) {
    struct rig *r = ctx;
    FUZZ_CHECK(!r->over && text && r->cfg.caps & WIRE_CAP_STREAM_RESUME && mux_session_is_away(r->s));
    for (unsigned i = 0; i < r->n_records; i++)
        FUZZ_CHECK(!r->records[i].st || mux_stream_is_over(r->records[i].st) || mux_stream_is_away(r->records[i].st));
    act_up(r, NULL);
}

static void on_given_up(void *ctx, unsigned index) {
    struct rig *r = ctx;
    FUZZ_CHECK(!r->over && index > 0 && index < LINKS);
    r->counts[index] = (struct counts){0};
    act_up(r, NULL);
}

static void on_over(void *ctx, enum mux_end why, const char *text) {
    struct rig *r = ctx;
    (void)why;
    FUZZ_CHECK(!r->over && text);
    r->over = true;
    for (unsigned i = 0; i < r->n_records; i++)
        FUZZ_CHECK(!r->records[i].st || r->records[i].closed || mux_stream_is_over(r->records[i].st));
    if (whim(r, 2) == 0)
        mux_session_destroy(&r->s);
}

static const struct mux_session_ops session_ops = {
    .bind = on_bind,
    .stream_open = on_stream_open,
    .goaway = on_goaway,
    .link_lost = on_link_lost,
    .away = on_away,
    .given_up = on_given_up,
    .over = on_over,
};

/* ---- links ---- */

static void begin_session(struct link *k) {
    struct rig *r = k->rig;
    struct wire_hello_ok ok = {
        .session_id = ht_slice_str("S-1"),
        .stream_window = r->cfg.stream_window,
        .session_window = r->cfg.session_window,
        .connections_granted = 1,
    };
    r->s = mux_session_create(&r->cfg, &session_ops, r, r->now);
    FUZZ_CHECK(r->s && mux_session_attach(r->s, k->l, &ok) == 0);
}

/* A count that may be a lie: then nothing changes. */
static void resume(struct link *k, uint64_t messages) {
    static struct ht_slice names[WIRE_N_CAPABILITIES];
    struct rig *r = k->rig;
    struct counts *n = &r->counts[0];
    struct wire_hello_ok ok = {
        .session_id = ht_slice_str("S-1"),
        .stream_window = r->cfg.stream_window,
        .session_window = r->cfg.session_window,
        .connections_granted = 1,
        .capabilities = names,
        .n_capabilities = wire_caps_names(r->cfg.caps, names),
    };
    int rc = mux_session_resume(r->s, k->l, messages, &ok, r->now);
    FUZZ_CHECK(rc == (messages > n->sent ? HT_EPROTO : messages < n->acked ? HT_EAGAIN : 0));
    FUZZ_CHECK(mux_session_is_away(r->s) == (rc < 0));
    r->resumed = true;
    if (rc == 0)
        n->acked = messages;
    else
        mux_link_refuse(k->l, NULL, WIRE_CLOSE_PROTOCOL_ERROR, "no");
}

static void on_hello(void *ctx, const struct wire_hello *hello) {
    struct link *k = ctx;
    if (k == k->rig->links && k->rig->s && mux_session_is_away(k->rig->s) && hello->has_resume &&
        hello->resume.has_received)
        resume(k, hello->resume.received);
    else if (k == k->rig->links && !k->rig->s && !k->rig->over)
        begin_session(k);
    else
        mux_link_refuse(k->l, &(struct wire_goaway){.code = WIRE_CODE_RESOURCE_EXHAUSTED}, 1013, "no more");
}

static void on_hello_ok(void *ctx, const struct wire_hello_ok *ok) {
    struct link *k = ctx;
    if (k == k->rig->links && k->rig->s && mux_session_is_away(k->rig->s) && ok->has_received)
        resume(k, ok->received);
    else if (!k->rig->s && !k->rig->over)
        begin_session(k);
}

static void on_join(void *ctx, const struct wire_join *join) {
    struct link *k = ctx;
    unsigned index = join->index < LINKS ? (unsigned)join->index : 1;
    if (!k->rig->s || k == k->rig->links ||
        mux_session_join(k->rig->s, k->l, index, NULL, join->has_received ? &join->received : NULL) < 0)
        mux_link_refuse_join(k->l, &(struct wire_join_err){.code = WIRE_JOIN_ERROR_INTERNAL});
}

static void on_join_ok(void *ctx, const struct wire_join_ok *ok) {
    struct link *k = ctx;
    if (k->rig->s)
        (void)!mux_session_join(k->rig->s, k->l, (unsigned)(k - k->rig->links), NULL,
                                ok->has_received ? &ok->received : NULL);
}

static void on_join_err(void *ctx, const struct wire_join_err *err) { (void)ctx, (void)err; }
static void on_refused(void *ctx, const struct wire_goaway *g) { (void)ctx, (void)g; }
static void on_output(void *ctx) { (void)ctx; }

static void on_close(void *ctx, uint16_t ws_code, const char *reason) {
    struct link *k = ctx;
    (void)ws_code;
    FUZZ_CHECK(!k->told_to_close && reason);
    k->told_to_close = true;
}

static struct counts *counts_of(struct link *k) { return &k->rig->counts[k - k->rig->links]; }

static size_t on_kept(void *ctx) {
    const struct counts *n = counts_of(ctx);
    return (size_t)(n->sent - n->acked) * KEPT;
}

static void on_acked(void *ctx, uint64_t count) {
    struct counts *n = counts_of(ctx);
    FUZZ_CHECK(count > n->acked && count <= n->sent);
    n->acked = count;
}

static void on_replay(void *ctx, uint64_t count) {
    struct counts *n = counts_of(ctx);
    FUZZ_CHECK(count >= n->acked && count <= n->sent);
    n->acked = count;
}

static const struct mux_link_ops link_ops = {
    .hello = on_hello,
    .join = on_join,
    .hello_ok = on_hello_ok,
    .join_ok = on_join_ok,
    .join_err = on_join_err,
    .refused = on_refused,
    .output = on_output,
    .close = on_close,
    .kept = on_kept,
    .acked = on_acked,
    .replay = on_replay,
};

#endif
