/* Requests that wait until a command has printed their secret. The stream's window bounds their bodies. */
#include "guard/guard_priv.h"

#include "base/mem.h"

struct guard_waiting {
    struct ht_list node;
    struct guard_door *d;
    struct mux_stream *st;
    uint64_t id;
    struct guard_decision decision;
    struct ht_errmsg why; /* its secret cannot be had; "": it can */
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

static struct guard_waiting *waiting_new(const struct wire_stream_open *open) {
    const struct ht_slice *texts[] = {&open->method, &open->target, &open->peer_addr, &open->http_version,
                                      &open->authority};
    size_t size = fields_size(open->headers, open->n_headers);
    for (size_t i = 0; i < HT_ARRAY_LEN(texts); i++)
        size += texts[i]->n;
    struct guard_waiting *w = ht_malloc(sizeof *w + size);
    if (!w)
        return NULL;
    *w = (struct guard_waiting){.open = *open};
    char *at = (char *)(w->fields + open->n_headers);
    keep_fields(open->headers, open->n_headers, w->fields, &at);
    struct ht_slice *copies[] = {&w->open.method, &w->open.target, &w->open.peer_addr, &w->open.http_version,
                                 &w->open.authority};
    for (size_t i = 0; i < HT_ARRAY_LEN(texts); i++)
        *copies[i] = keep(*texts[i], &at);
    w->open.headers = w->fields;
    return w;
}

static void waiting_free(struct guard_waiting *w) {
    ht_list_remove(&w->node);
    ht_buf_free(&w->body);
    ht_free(w->trailers_block);
    ht_free(w);
}

/* ---- the stream ---- */

static void waiting_fail(struct guard_waiting *w) {
    mux_stream_reset(w->st, WIRE_CODE_INTERNAL_ERROR, ht_err_text(HT_ENOMEM));
    mux_stream_release(&w->st);
    waiting_free(w);
}

static void waiting_data(void *ctx, const uint8_t *p, size_t n) {
    struct guard_waiting *w = ctx;
    if (ht_buf_append(&w->body, p, n) < 0)
        waiting_fail(w);
}

static void waiting_trailers(void *ctx, const struct wire_trailers *t) {
    struct guard_waiting *w = ctx;
    struct wire_header *to = ht_malloc(fields_size(t->headers, t->n_headers) + 1);
    if (!to) {
        waiting_fail(w);
        return;
    }
    char *at = (char *)(to + t->n_headers);
    keep_fields(t->headers, t->n_headers, to, &at);
    w->trailers_block = to;
    w->trailers = (struct wire_trailers){.headers = to, .n_headers = t->n_headers};
}

static void waiting_eof(void *ctx) {
    struct guard_waiting *w = ctx;
    w->eof = true;
}

static void waiting_nothing(void *ctx) { (void)ctx; }

static ssize_t waiting_pull(void *ctx, uint8_t *out, size_t cap, unsigned *flags) {
    (void)ctx, (void)out, (void)cap;
    *flags = 0;
    return 0;
}

static void waiting_closed(void *ctx, uint16_t code, struct ht_slice reason, bool remote) {
    struct guard_waiting *w = ctx;
    (void)code, (void)reason, (void)remote;
    mux_stream_release(&w->st);
    waiting_free(w);
}

static const struct mux_stream_ops waiting_ops = {
    .data = waiting_data,
    .trailers = waiting_trailers,
    .eof = waiting_eof,
    .data_end = waiting_nothing,
    .pull = waiting_pull,
    .closed = waiting_closed,
};

void guard_waiting_add(struct guard_door *d, struct mux_stream *st, const struct wire_stream_open *open, uint64_t id,
                       const struct guard_decision *decision) {
    struct guard_waiting *w = waiting_new(open);
    if (!w) {
        mux_stream_reset(st, WIRE_CODE_INTERNAL_ERROR, ht_err_text(HT_ENOMEM));
        mux_stream_release(&st);
        return;
    }
    w->d = d;
    w->st = st;
    w->id = id;
    w->decision = *decision;
    ht_list_init(&w->node);
    ht_list_push_back(&d->h->waiting, &w->node);
    mux_stream_accept(st, &waiting_ops, w);
}

/* ---- the end of the wait ---- */

static void take(void *ctx) {
    struct guard_waiting *w = ctx;
    guard_request_go(w->d, w->st, &w->open, w->id, &w->decision, w->why.text);
}

void guard_waiting_resume(struct guard_host *h) {
    HT_LIST_FOR_SAFE (it, &h->waiting) {
        struct guard_waiting *w = HT_LIST_ENTRY(it, struct guard_waiting, node);
        if (guard_request_load(w->d, &w->decision, &w->why) == HT_EAGAIN)
            continue;
        ht_list_remove(&w->node);
        mux_stream_hand_over(w->st, take, w,
                             &(struct mux_arrived){.bytes = ht_buf_head(&w->body),
                                                   .n = ht_buf_size(&w->body),
                                                   .trailers = w->trailers_block ? &w->trailers : NULL,
                                                   .eof = w->eof});
        waiting_free(w);
    }
}

void guard_waiting_cut(struct guard_host *h) {
    while (!ht_list_empty(&h->waiting)) {
        struct guard_waiting *w = HT_LIST_ENTRY(h->waiting.next, struct guard_waiting, node);
        mux_stream_reset(w->st, WIRE_CODE_CANCEL, "the tunnel is closing");
        mux_stream_release(&w->st);
        waiting_free(w);
    }
}
