/*
 * Bytes to events: a real session and the model (session_model.h) live through the same things, and are compared after
 * each. sr_run() is all that a caller needs; any bytes are legal, so it is a fuzz target as it stands.
 *
 * The first bytes choose role, version, windows, timeouts and habits; then each event takes one byte for what happens
 * and a few for the details. When the bytes are used up, everything is taken down and nothing may be left.
 */
#ifndef HT_TESTS_MODEL_SESSION_RIG_H
#define HT_TESTS_MODEL_SESSION_RIG_H

#include "base/mem.h"
#include "model/session_model.h"
#include "support/pieces.h"

#define SR_FRAMES 80

struct sr;

struct sr_stream {
    struct sr *r;
    struct mux_stream *st;
    unsigned closes, eofs, heads, interims;
    uint16_t code;
    bool remote, due; /* due: data_end() must still come */
    uint64_t rx, written;
};

struct sr_link {
    struct sr *r;
    struct mux_link *l;
    int index; /* our slot */
    bool told, more;
    bool left; /* something may have stayed in it at `pulled_at` */
    uint64_t pulled_at;
    int closes;
    uint16_t ws_code;
    unsigned ask_index; /* driver: of the JOIN that was sent */
};

/* A frame that the peer sends, and what the model must know of it. */
struct sr_frame {
    uint8_t type;
    uint32_t id, at, len; /* `at`: of the header */
    bool bad, fatal, skip, http, upgrade, final;
    uint16_t status;
    uint32_t value; /* code, increment, ref, binding; fatal: GOAWAY's code */
};

struct sr_message {
    uint8_t p[65536];
    uint32_t n;
    struct sr_frame f[SR_FRAMES];
    unsigned n_f, next;
    uint32_t done;           /* bytes of the present DATA payload */
    struct sm_stream *taker; /* of the present DATA frame */
    bool begun;
    uint32_t seen;       /* bytes that the model has been fed with */
    uint32_t tail_error; /* the message itself is wrong: GOAWAY's code; 0: it is not */
};

/* What the owner keeps of a link index. */
struct sr_kept {
    uint64_t seen; /* what acked() or replay() said last */
    size_t bytes;
    uint32_t size[4096]; /* of message n at n % 4096: more than an input can have on their way */
};

struct sr {
    struct sm m;
    struct sr_kept kept[WIRE_LIMIT_MAX_CONNECTIONS];
    struct sr_message half[SM_LINKS]; /* cut by the loss of a link; to be sent again on the next one. n 0: none */
    int rc;                           /* of the last resume */
    struct mux_session *s;
    struct sr_link k[SM_LINKS];
    struct sr_stream a[SM_STREAMS];
    unsigned n_a;
    struct sr_message msg;
    uint8_t out[WIRE_LIMIT_MAX_MESSAGE];
    const uint8_t *in;
    size_t in_n, in_at;
    uint32_t salt;
    size_t cap;
    unsigned stall;
    bool destroy_in_over, refuse_hello, refused, trace;
    int feeding; /* the link whose message is half fed; -1: none */
    unsigned events, overs, pongs, goaways, binds, lost, others, aways, given_up;
    enum mux_end why;
    uint32_t hello_first_id;
};

#define SR_TRACE(r, ...)                                                                                               \
    do {                                                                                                               \
        if ((r)->trace) {                                                                                              \
            printf("#   ");                                                                                            \
            printf(__VA_ARGS__);                                                                                       \
            printf("\n");                                                                                              \
        }                                                                                                              \
    } while (0)

static inline uint8_t sr_u8(struct sr *r) { return r->in_at < r->in_n ? r->in[r->in_at++] : 0; }
static inline uint32_t sr_u16(struct sr *r) { return (uint32_t)sr_u8(r) << 8 | sr_u8(r); }

/* What the application will do with stream `id`: the real callbacks and the model must agree without talking. */
static inline uint32_t sr_trait(const struct sr *r, uint32_t id) {
    uint32_t x = (id ^ r->salt) * 0x9E3779B1u;
    return x ^ x >> 15;
}

static inline enum sm_policy sr_policy(const struct sr *r, uint32_t id) {
    uint32_t x = sr_trait(r, id) >> 8 & 15;
    return x == 0 ? SM_REFUSE : x == 1 ? SM_IGNORE : SM_ACCEPT;
}

static inline enum sm_act sr_act(const struct sr *r, uint32_t id) {
    static const enum sm_act of[8] = {
        SM_HOLD, SM_HOLD, SM_HOLD, SM_AUTO, SM_AT_ONCE, SM_RESET_IN_DATA, SM_RELEASE_IN_DATA, SM_AUTO};
    uint32_t x = sr_trait(r, id);
    enum sm_act act = of[x & 7];
    return act == SM_RESET_IN_DATA || act == SM_RELEASE_IN_DATA ? (x >> 3 & 3) == 0 ? act : SM_AUTO : act;
}

static inline bool sr_release_in_closed(const struct sr *r, uint32_t id) { return sr_trait(r, id) >> 12 & 1; }

static inline void sr_give_traits(struct sr *r, struct sm_stream *s) {
    s->act = sr_act(r, s->id);
    s->release_in_closed = sr_release_in_closed(r, s->id);
    s->lazy = (sr_trait(r, s->id) >> 13 & 7) == 0;
}

/* ---- upward calls of streams ---- */

static inline struct sm_stream *sr_model_of(struct sr_stream *a) { return &a->r->m.st[a - a->r->a]; }

static inline void sr_on_head(void *ctx, const struct wire_response_head *head) {
    struct sr_stream *a = ctx;
    if (head->final)
        a->heads++;
    else
        a->interims++;
    a->due = true;
}

static inline void sr_on_data(void *ctx, const uint8_t *p, size_t n) {
    struct sr_stream *a = ctx;
    uint32_t id = mux_stream_id(a->st);
    for (size_t i = 0; i < n; i++)
        if (p[i] != sm_byte(id, a->rx + i)) {
            sm_fail(&a->r->m, "stream %u: byte %llu came wrong", id, (unsigned long long)(a->rx + i));
            break;
        }
    a->rx += n;
    a->due = true;
    switch (sr_act(a->r, id)) {
    case SM_AT_ONCE:
        mux_stream_consumed(a->st, n);
        break;
    case SM_RESET_IN_DATA:
        mux_stream_reset(a->st, WIRE_CODE_CANCEL, "enough");
        break;
    case SM_RELEASE_IN_DATA:
        a->due = false;
        mux_stream_release(&a->st);
        break;
    default:
        break;
    }
}

static inline void sr_on_eof(void *ctx) {
    struct sr_stream *a = ctx;
    a->eofs++;
    a->due = true;
}

static inline void sr_on_data_end(void *ctx) {
    struct sr_stream *a = ctx;
    if (!a->due)
        sm_fail(&a->r->m, "data_end() without data");
    a->due = false;
    if (sr_act(a->r, mux_stream_id(a->st)) == SM_AUTO)
        mux_stream_consumed(a->st, mux_stream_unconsumed(a->st));
}

static inline void sr_say_eof(struct sr_stream *a, struct sm_stream *s, unsigned *flags) {
    const struct sm *m = &a->r->m;
    *flags = MUX_PULL_EOF;
    s->then_eof = false;
    s->said_eof = true;
    s->eof_held = sm_kit(m) && !m->cfg.own_peer && !s->http && !s->dialled; /* section 10 of the protocol */
    s->eof_until = 0;
}

static inline ssize_t sr_on_pull(void *ctx, uint8_t *out, size_t cap, unsigned *flags) {
    struct sr_stream *a = ctx;
    struct sm_stream *s = sr_model_of(a);
    size_t n = ht_min(cap, s->pending);
    if (s->dry && n > 0) { /* its source has nothing just now, and says that it will */
        s->dry = false;
        mux_stream_ready(a->st);
        return 0;
    }
    if (s->lazy)
        n = ht_min(n, 7);
    for (size_t i = 0; i < n; i++)
        out[i] = sm_byte(s->id, a->written + i);
    a->written += n;
    s->pending -= (uint32_t)n;
    if (s->pending > 0 && s->lazy)
        mux_stream_ready(a->st);
    else if (s->pending > 0)
        *flags = MUX_PULL_MORE;
    else if (s->then_eof)
        sr_say_eof(a, s, flags);
    return (ssize_t)n;
}

static inline ssize_t sr_on_pullv(void *ctx, const struct iovec *to, int n, unsigned *flags) {
    return pull_pieces(sr_on_pull, ctx, to, n, flags);
}

static inline void sr_on_writable(void *ctx, bool yes) {
    struct sr_stream *a = ctx;
    struct sm_stream *s = sr_model_of(a);
    if (s->told_no == !yes)
        sm_fail(&a->r->m, "stream %u: writable(%d) told twice", s->id, yes);
    s->told_no = !yes;
}

static inline void sr_on_closed(void *ctx, uint16_t code, struct ht_slice reason, bool remote) {
    struct sr_stream *a = ctx;
    (void)reason;
    a->closes++;
    a->code = code;
    a->remote = remote;
    if (sr_release_in_closed(a->r, mux_stream_id(a->st))) {
        a->due = false;
        mux_stream_release(&a->st);
    }
}

static const struct mux_stream_ops sr_stream_ops = {
    .response_head = sr_on_head,
    .data = sr_on_data,
    .eof = sr_on_eof,
    .data_end = sr_on_data_end,
    .pull = sr_on_pull,
    .writable = sr_on_writable,
    .closed = sr_on_closed,
    .pullv = sr_on_pullv,
};

/* ---- upward calls of sessions ---- */

static inline void sr_on_stream_open(void *ctx, struct mux_stream *st, const struct wire_stream_open *open) {
    struct sr *r = ctx;
    (void)open;
    if (r->n_a == SM_STREAMS) {
        sm_fail(&r->m, "more streams than were opened");
        mux_stream_release(&st);
        return;
    }
    struct sr_stream *a = &r->a[r->n_a++];
    *a = (struct sr_stream){.r = r, .st = st};
    switch (sr_policy(r, mux_stream_id(st))) {
    case SM_ACCEPT:
        mux_stream_accept(st, &sr_stream_ops, a);
        break;
    case SM_REFUSE:
        mux_stream_release(&a->st);
        break;
    case SM_IGNORE:
        break;
    }
}

static inline void sr_on_bind(void *ctx, const struct wire_bind *bind, const struct wire_error *err) {
    struct sr *r = ctx;
    int rc;
    r->binds++;
    if (err) {
        struct wire_bind_err no = {
            .has_client_bind_ref = true, .client_bind_ref = bind->client_bind_ref, .code = WIRE_BIND_ERROR_INTERNAL};
        rc = mux_session_send(r->s, WIRE_BIND_ERR, &no);
    } else {
        struct wire_bind_ok ok = {
            .client_bind_ref = bind->client_bind_ref, .bind_id = r->m.bind_ids + 1, .container_port = 2000};
        r->m.bind_ids++;
        r->m.bindings++;
        r->m.idle_marked = false;
        mux_session_set_bindings(r->s, r->m.bindings);
        rc = mux_session_send(r->s, WIRE_BIND_OK, &ok);
    }
    if (rc != 0)
        sm_fail(&r->m, "an answer to BIND cannot be sent: %d", rc);
}

static inline void sr_on_unbind(void *ctx, const struct wire_unbind *unbind) {
    struct sr *r = ctx;
    struct wire_unbind_ok ok = {.bind_id = unbind->bind_id};
    r->binds++;
    if (r->m.bindings > 0) {
        r->m.idle_marked = false;
        mux_session_set_bindings(r->s, --r->m.bindings);
    }
    if (mux_session_send(r->s, WIRE_UNBIND_OK, &ok) != 0)
        sm_fail(&r->m, "an answer to UNBIND cannot be sent");
}

static inline void sr_on_goaway(void *ctx, const struct wire_goaway *g) {
    (void)g;
    ((struct sr *)ctx)->goaways++;
}

static inline void sr_on_pong(void *ctx, uint64_t rtt_us) {
    (void)rtt_us;
    ((struct sr *)ctx)->pongs++;
}

static inline void sr_on_lost(void *ctx, struct mux_link *l, unsigned index) {
    (void)l;
    (void)index;
    ((struct sr *)ctx)->lost++;
}

static inline void sr_on_away(void *ctx, const char *text) {
    (void)text;
    ((struct sr *)ctx)->aways++;
}

static inline void sr_on_given_up(void *ctx, unsigned index) {
    struct sr *r = ctx;
    r->given_up++;
    r->kept[index] = (struct sr_kept){0};
}

static inline void sr_on_over(void *ctx, enum mux_end why, const char *text) {
    struct sr *r = ctx;
    (void)text;
    r->overs++;
    r->why = why;
    if (r->destroy_in_over)
        mux_session_destroy(&r->s);
}

#define SR_COUNT(name, type)                                                                                           \
    static inline void name(void *ctx, const struct type *what) {                                                      \
        (void)what;                                                                                                    \
        ((struct sr *)ctx)->others++;                                                                                  \
    }
SR_COUNT(sr_on_bind_ok, wire_bind_ok)
SR_COUNT(sr_on_bind_err, wire_bind_err)
SR_COUNT(sr_on_unbind_ok, wire_unbind_ok)
SR_COUNT(sr_on_revoked, wire_bind_revoked)
SR_COUNT(sr_on_map, wire_shard_map)
SR_COUNT(sr_on_reissue, wire_reissue)

static const struct mux_session_ops sr_session_ops = {
    .bind = sr_on_bind,
    .unbind = sr_on_unbind,
    .reissue = sr_on_reissue,
    .bind_ok = sr_on_bind_ok,
    .bind_err = sr_on_bind_err,
    .unbind_ok = sr_on_unbind_ok,
    .bind_revoked = sr_on_revoked,
    .shard_map = sr_on_map,
    .stream_open = sr_on_stream_open,
    .goaway = sr_on_goaway,
    .pong = sr_on_pong,
    .link_lost = sr_on_lost,
    .away = sr_on_away,
    .given_up = sr_on_given_up,
    .over = sr_on_over,
};

/* ---- upward calls of links ---- */

static inline void sr_attach(struct sr_link *k) {
    struct sr *r = k->r;
    struct wire_hello_ok ok = {
        .session_id = ht_slice_str("S-1"),
        .stream_window = r->m.cfg.stream_window,
        .session_window = r->m.cfg.session_window,
        .connections_granted = 1,
    };
    mux_session_destroy(&r->s);
    memset(r->kept, 0, sizeof r->kept);
    for (int i = 0; i < SM_LINKS; i++)
        r->half[i].n = 0;
    r->s = mux_session_create(&r->m.cfg, &sr_session_ops, r, r->m.now);
    if (!r->s || mux_session_attach(r->s, k->l, &ok) != 0)
        sm_fail(&r->m, "a session cannot begin");
}

static inline void sr_take_up(struct sr_link *k, uint64_t messages) {
    struct sr *r = k->r;
    static struct ht_slice names[WIRE_N_CAPABILITIES];
    struct wire_hello_ok ok = {
        .session_id = ht_slice_str("S-1"),
        .stream_window = r->m.cfg.stream_window,
        .session_window = r->m.cfg.session_window,
        .connections_granted = 1,
        .capabilities = names,
        .n_capabilities = wire_caps_names(r->m.cfg.caps, names),
    };
    r->rc = mux_session_resume(r->s, k->l, messages, &ok, r->m.now);
}

static inline void sr_on_hello(void *ctx, const struct wire_hello *hello) {
    struct sr_link *k = ctx;
    struct wire_goaway full = {.code = WIRE_CODE_RESOURCE_EXHAUSTED};
    if (hello->has_resume)
        sr_take_up(k, hello->resume.received);
    else if (k->r->refuse_hello)
        mux_link_refuse(k->l, &full, WIRE_CLOSE_TRY_AGAIN_LATER, "full");
    else
        sr_attach(k);
}

static inline void sr_on_hello_ok(void *ctx, const struct wire_hello_ok *ok) {
    if (ok->has_received)
        sr_take_up(ctx, ok->received);
    else
        sr_attach(ctx);
}

static inline void sr_on_join(void *ctx, const struct wire_join *join) {
    struct sr_link *k = ctx;
    struct wire_join_err no = {.code = WIRE_JOIN_ERROR_INTERNAL};
    if (!k->r->s ||
        mux_session_join(k->r->s, k->l, join->index, NULL, join->has_received ? &join->received : NULL) != 0)
        mux_link_refuse_join(k->l, &no);
}

static inline void sr_on_join_ok(void *ctx, const struct wire_join_ok *ok) {
    struct sr_link *k = ctx;
    if (k->r->s)
        (void)!mux_session_join(k->r->s, k->l, k->ask_index, NULL, ok->has_received ? &ok->received : NULL);
}

static inline void sr_on_join_err(void *ctx, const struct wire_join_err *err) {
    (void)err;
    ((struct sr_link *)ctx)->r->refused = true;
}

static inline void sr_on_refused(void *ctx, const struct wire_goaway *g) {
    (void)g;
    ((struct sr_link *)ctx)->r->refused = true;
}

static inline void sr_on_output(void *ctx) {
    struct sr_link *k = ctx;
    if (k->told)
        sm_fail(&k->r->m, "output() told twice");
    k->told = true;
}

static inline void sr_on_close(void *ctx, uint16_t ws_code, const char *reason) {
    struct sr_link *k = ctx;
    (void)reason;
    k->closes++;
    k->ws_code = ws_code;
}

static inline struct sr_kept *sr_kept_of(struct sr_link *k) { return &k->r->kept[k->r->m.link[k - k->r->k].index]; }

static inline size_t sr_on_kept(void *ctx) { return sr_kept_of(ctx)->bytes; }

static inline void sr_on_acked(void *ctx, uint64_t count) {
    struct sr_kept *x = sr_kept_of(ctx);
    while (x->seen < count)
        x->bytes -= x->size[++x->seen % HT_ARRAY_LEN(x->size)];
}

static inline void sr_on_replay(void *ctx, uint64_t count) {
    struct sr_link *k = ctx;
    struct sm_index *x = sm_index_of(&k->r->m, (int)(k - k->r->k));
    if (!x->again || count != x->acked)
        sm_fail(&k->r->m, "replay(%llu) instead of %llu, due %d", (unsigned long long)count,
                (unsigned long long)x->acked, x->again);
    x->again = false;
    sr_on_acked(ctx, count);
}

static const struct mux_link_ops sr_link_ops = {
    .hello = sr_on_hello,
    .join = sr_on_join,
    .hello_ok = sr_on_hello_ok,
    .join_ok = sr_on_join_ok,
    .join_err = sr_on_join_err,
    .refused = sr_on_refused,
    .output = sr_on_output,
    .close = sr_on_close,
    .kept = sr_on_kept,
    .acked = sr_on_acked,
    .replay = sr_on_replay,
};

#include "model/session_events.h"

#endif
