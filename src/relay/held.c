#include "relay/held.h"

#include "base/buf.h"
#include "base/mem.h"

struct relay_held {
    struct mux_stream *st;
    void (*left)(void *ctx);
    void *ctx;
    void (*take)(void *ctx, struct mux_stream *st, const struct wire_stream_open *open);
    void *take_ctx;
    struct wire_stream_open open;
    struct ht_buf body;
    struct wire_trailers trailers;
    void *trailers_block; /* what they are in; NULL: none have come */
    bool eof;
    struct wire_header fields[]; /* and behind them all texts of `open` */
};

/* ---- copies of what is borrowed ---- */

static size_t fields_size(const struct wire_header *h, size_t n) {
    size_t size = n * sizeof *h;
    for (size_t i = 0; i < n; i++)
        size += h[i].name.n + h[i].value.n;
    return size;
}

static struct ht_slice keep(struct ht_slice s, char **at) {
    struct ht_slice copy = ht_slice_of(*at, s.n);
    if (s.n)
        memcpy(*at, s.p, s.n);
    *at += s.n;
    return copy;
}

static void keep_fields(const struct wire_header *from, size_t n, struct wire_header *to, char **at) {
    for (size_t i = 0; i < n; i++) {
        to[i].name = keep(from[i].name, at);
        to[i].value = keep(from[i].value, at);
    }
}

static struct relay_held *held_new(const struct wire_stream_open *open) {
    const struct ht_slice *texts[] = {&open->method, &open->target, &open->peer_addr, &open->http_version,
                                      &open->authority};
    size_t size = fields_size(open->headers, open->n_headers);
    for (size_t i = 0; i < HT_ARRAY_LEN(texts); i++)
        size += texts[i]->n;
    struct relay_held *h = ht_malloc(sizeof *h + size);
    if (!h)
        return NULL;
    *h = (struct relay_held){.open = *open};
    char *at = (char *)(h->fields + open->n_headers);
    keep_fields(open->headers, open->n_headers, h->fields, &at);
    struct ht_slice *copies[] = {&h->open.method, &h->open.target, &h->open.peer_addr, &h->open.http_version,
                                 &h->open.authority};
    for (size_t i = 0; i < HT_ARRAY_LEN(texts); i++)
        *copies[i] = keep(*texts[i], &at);
    h->open.headers = h->fields;
    return h;
}

static void held_free(struct relay_held *h) {
    ht_buf_free(&h->body);
    ht_free(h->trailers_block);
    ht_free(h);
}

/* ---- the stream ---- */

static void held_left(struct relay_held *h) {
    void (*left)(void *) = h->left;
    void *ctx = h->ctx;
    mux_stream_release(&h->st);
    held_free(h);
    left(ctx);
}

static void held_fail(struct relay_held *h) {
    mux_stream_reset(h->st, WIRE_CODE_INTERNAL_ERROR, ht_err_text(HT_ENOMEM));
    held_left(h);
}

static void on_data(void *ctx, const uint8_t *p, size_t n) {
    struct relay_held *h = ctx;
    if (ht_buf_append(&h->body, p, n) < 0)
        held_fail(h);
}

static void on_trailers(void *ctx, const struct wire_trailers *t) {
    struct relay_held *h = ctx;
    struct wire_header *to = ht_malloc(fields_size(t->headers, t->n_headers) + 1);
    if (!to) {
        held_fail(h);
        return;
    }
    char *at = (char *)(to + t->n_headers);
    keep_fields(t->headers, t->n_headers, to, &at);
    h->trailers_block = to;
    h->trailers = (struct wire_trailers){.headers = to, .n_headers = t->n_headers};
}

static void on_eof(void *ctx) {
    struct relay_held *h = ctx;
    h->eof = true;
}

static void on_nothing(void *ctx) { (void)ctx; }

static ssize_t on_pull(void *ctx, uint8_t *out, size_t cap, unsigned *flags) {
    (void)ctx, (void)out, (void)cap;
    *flags = 0;
    return 0;
}

static void on_closed(void *ctx, uint16_t code, struct ht_slice reason, bool remote) {
    (void)code, (void)reason, (void)remote;
    held_left(ctx);
}

static const struct mux_stream_ops ops = {
    .data = on_data,
    .trailers = on_trailers,
    .eof = on_eof,
    .data_end = on_nothing,
    .pull = on_pull,
    .closed = on_closed,
};

struct relay_held *relay_held_start(struct mux_stream *st, const struct wire_stream_open *open, void (*left)(void *ctx),
                                    void *ctx) {
    struct relay_held *h = held_new(open);
    if (!h) {
        mux_stream_reset(st, WIRE_CODE_INTERNAL_ERROR, ht_err_text(HT_ENOMEM));
        mux_stream_release(&st);
        return NULL;
    }
    h->st = st;
    h->left = left;
    h->ctx = ctx;
    mux_stream_accept(st, &ops, h);
    return h;
}

const struct wire_stream_open *relay_held_open(const struct relay_held *h) { return &h->open; }

static void take(void *ctx) {
    struct relay_held *h = ctx;
    h->take(h->take_ctx, h->st, &h->open);
}

void relay_held_go(struct relay_held **hp,
                   void (*take_it)(void *ctx, struct mux_stream *st, const struct wire_stream_open *open), void *ctx) {
    struct relay_held *h = *hp;
    *hp = NULL;
    h->take = take_it;
    h->take_ctx = ctx;
    mux_stream_hand_over(h->st, take, h,
                         &(struct mux_arrived){.bytes = ht_buf_head(&h->body),
                                               .n = ht_buf_size(&h->body),
                                               .trailers = h->trailers_block ? &h->trailers : NULL,
                                               .eof = h->eof});
    held_free(h);
}

void relay_held_cut(struct relay_held **hp, uint16_t code, const char *reason) {
    struct relay_held *h = *hp;
    *hp = NULL;
    if (!h)
        return;
    mux_stream_reset(h->st, code, reason);
    mux_stream_release(&h->st);
    held_free(h);
}
