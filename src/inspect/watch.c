#include "inspect/watch.h"

#include "base/mem.h"
#include "inspect/frames.h"

#define EVENTS_AT_ONCE (4u << 20) /* bytes of events that a piece may decode to */

/* What an exchange needs whose bytes are more than heads and bodies. */
struct inspect_watch {
    struct inspect_exchange *x;
    struct inspect_ws up, down; /* of a WebSocket */
    struct inspect_sse sse;
    struct inspect_decoder *decoder; /* of events with a content coding */
    int64_t decoding;                /* bytes that the decoders were counted with */
    bool blind;                      /* the coding cannot be undone (any more) */
};

static void found(void *ctx, const struct inspect_frame *f) {
    struct inspect_watch *w = ctx;
    inspect_add_frame(w->x, f);
}

static void watch_free(struct inspect_exchange *x) {
    struct inspect_watch *w = x->watch;
    if (!w)
        return;
    x->watch = NULL;
    inspect_ws_free(&w->up);
    inspect_ws_free(&w->down);
    inspect_sse_free(&w->sse);
    inspect_decoder_destroy(&w->decoder);
    inspect_account(x, -w->decoding - (int64_t)sizeof *w);
    ht_free(w);
}

/* Called once the answer's head is known. Without memory there are no frames. */
static void watch_begin(struct inspect_exchange *x) {
    if (x->kind != INSPECT_WEBSOCKET && x->kind != INSPECT_SSE)
        return;
    struct inspect_watch *w = x->watch = ht_calloc(1, sizeof *w);
    if (!w)
        return;
    w->x = x;
    w->up = (struct inspect_ws){.max = inspect_max_frame(x), .emit = found, .ctx = w};
    w->down = w->up;
    w->down.down = true;
    w->sse = (struct inspect_sse){.max = inspect_max_frame(x), .emit = found, .ctx = w};
    struct ht_slice coding = inspect_field(&x->response, "content-encoding");
    if (x->kind == INSPECT_WEBSOCKET)
        inspect_ws_extensions(inspect_field(&x->response, "sec-websocket-extensions"), &w->up, &w->down);
    else if (coding.n)
        w->blind = !(w->decoder = inspect_decoder_create(coding));
    inspect_account(x, (int64_t)sizeof *w);
}

/* Their windows are memory that a stranger chooses, so they count. */
static void count_decoders(struct inspect_watch *w) {
    int64_t now = (int64_t)(inspect_decoder_bytes(w->up.inflate) + inspect_decoder_bytes(w->down.inflate) +
                            inspect_decoder_bytes(w->decoder));
    int64_t more = now - w->decoding;
    w->decoding = now;
    if (more)
        inspect_account(w->x, more);
}

static void feed_events(struct inspect_watch *w, struct ht_slice piece) {
    struct ht_buf plain = {0};
    if (w->blind)
        return;
    if (!w->decoder) {
        inspect_sse_feed(&w->sse, piece);
        return;
    }
    size_t most = ht_min(EVENTS_AT_ONCE, inspect_decoder_allowance(w->decoder, piece.n));
    w->blind = inspect_decoder_feed(w->decoder, piece, most, &plain) < 0;
    inspect_sse_feed(&w->sse, ht_buf_slice(&plain));
    ht_buf_free(&plain);
    count_decoders(w);
}

/* ---- relay_tap ---- */

void *inspect_watch_begin(struct inspect_store *s, int binding, struct ht_slice binding_name,
                          const struct wire_stream_open *open, struct ht_slice head) {
    struct inspect_begin b = {.binding = binding, .binding_name = binding_name, .visitor = open->peer_addr};
    inspect_replay_read(s, open->peer_addr, &b);
    return inspect_begin(s, &b, head);
}

static void on_moment(void *x, enum relay_tap_moment m) {
    static const enum inspect_moment moments[] = {[RELAY_TAP_CONNECTING] = INSPECT_CONNECTING,
                                                  [RELAY_TAP_CONNECTED] = INSPECT_CONNECTED,
                                                  [RELAY_TAP_SENT] = INSPECT_SENT,
                                                  [RELAY_TAP_ANSWERS] = INSPECT_ANSWERS};
    inspect_mark(x, moments[m]);
}

static void on_head(void *ctx, struct ht_slice head, bool final) {
    struct inspect_exchange *x = ctx;
    if (!final) {
        inspect_interim(x, head);
        return;
    }
    inspect_response(x, head);
    watch_begin(x);
}

/* Nothing more is kept of an exchange that was pushed out, so nothing more is looked for in it. */
static struct inspect_watch *watching(struct inspect_exchange *x) {
    if (x->watch && !inspect_is_listed(x))
        watch_free(x);
    return x->watch;
}

static void on_body(void *ctx, bool answer, struct ht_slice piece) {
    struct inspect_exchange *x = ctx;
    inspect_body(x, answer, piece);
    if (answer && x->kind == INSPECT_SSE && watching(x))
        feed_events(x->watch, piece);
}

static void on_body_end(void *ctx, bool answer, struct ht_slice trailers) {
    struct inspect_exchange *x = ctx;
    if (trailers.n)
        inspect_trailers(x, answer, trailers);
    inspect_body_end(x, answer);
}

static void on_raw(void *ctx, bool down, struct ht_slice piece) {
    struct inspect_exchange *x = ctx;
    if (x->kind != INSPECT_WEBSOCKET) {
        inspect_body(x, down, piece);
        return;
    }
    inspect_count(x, down, piece.n);
    struct inspect_watch *w = watching(x);
    if (!w)
        return;
    inspect_ws_feed(down ? &w->down : &w->up, piece);
    count_decoders(w);
}

static void on_end(void *ctx, enum relay_tap_fault fault, struct ht_slice text) {
    static const enum inspect_fault faults[] = {
        [RELAY_TAP_NO_FAULT] = INSPECT_NO_FAULT,    [RELAY_TAP_REFUSED] = INSPECT_REFUSED,
        [RELAY_TAP_TIMEOUT] = INSPECT_TIMEOUT,      [RELAY_TAP_RESET] = INSPECT_RESET,
        [RELAY_TAP_PROTOCOL] = INSPECT_PROTOCOL,    [RELAY_TAP_LINK] = INSPECT_LINK_LOST,
        [RELAY_TAP_VISITOR] = INSPECT_VISITOR_LEFT, [RELAY_TAP_INTERNAL] = INSPECT_INTERNAL,
    };
    struct inspect_exchange *x = ctx;
    watch_free(x);
    inspect_end(x, faults[fault], text);
}

const struct relay_tap inspect_watch_tap = {
    .moment = on_moment,
    .head = on_head,
    .body = on_body,
    .body_end = on_body_end,
    .raw = on_raw,
    .end = on_end,
};
