/* The records: their bounds, who is told of them, and how they are written. */
#include "inspect/store.h"

#include "base/clock.h"
#include "base/mem.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#define NONCE 32 /* hexadecimal digits */

struct inspect_store {
    struct inspect_store_config cfg;
    struct inspect_secrets secrets;
    struct inspect_exchange **ring; /* max_exchanges places: an id is at its remainder */
    uint64_t first, end;            /* the ids that are there */
    uint64_t bytes;
    struct ht_list unlisted; /* struct inspect_exchange_priv of exchanges that run and were pushed out */
    struct ht_list observers;
    char nonce[NONCE + 1];
};

struct inspect_exchange_priv {
    struct ht_list node; /* in `unlisted` */
    struct inspect_store *s;
    bool listed, timed;
    bool no_length; /* the answer's head does not say how long it is */
    uint64_t began_us, ended_us, moments[INSPECT_N_MOMENTS];
    uint64_t held; /* bytes that this exchange adds to the store's */
};

/* One block: the record, what is private of it, and behind it the texts of its beginning. */
struct record {
    struct inspect_exchange x;
    struct inspect_exchange_priv p;
};

/* ---- the store ---- */

struct inspect_store *inspect_store_create(const struct inspect_store_config *cfg) {
    struct inspect_store *s = ht_calloc(1, sizeof *s);
    if (!s)
        return NULL;
    s->cfg = *cfg;
    s->cfg.max_body = ht_min64(cfg->max_body, cfg->max_bytes / 4);
    s->cfg.secrets = NULL;
    s->first = s->end = 1;
    ht_list_init(&s->unlisted);
    ht_list_init(&s->observers);
    s->ring = ht_calloc(cfg->max_exchanges, sizeof(struct inspect_exchange *));
    if (!s->ring || inspect_secrets_init(&s->secrets, cfg->secrets, cfg->n_secrets) < 0) {
        inspect_store_destroy(&s);
        return NULL;
    }
    unsigned char chance[NONCE / 2];
    ht_random_bytes(chance, sizeof chance);
    for (size_t i = 0; i < sizeof chance; i++)
        snprintf(s->nonce + 2 * i, 3, "%02x", chance[i]);
    return s;
}

const struct inspect_secrets *inspect_store_secrets(const struct inspect_store *s) { return &s->secrets; }
uint64_t inspect_store_bytes(const struct inspect_store *s) { return s->bytes; }
uint32_t inspect_store_count(const struct inspect_store *s) { return (uint32_t)(s->end - s->first); }
uint64_t inspect_store_first(const struct inspect_store *s) { return s->first; }
uint64_t inspect_store_end(const struct inspect_store *s) { return s->end; }

static struct inspect_exchange **place(const struct inspect_store *s, uint64_t id) {
    return &s->ring[id % s->cfg.max_exchanges];
}

const struct inspect_exchange *inspect_store_get(const struct inspect_store *s, uint64_t id) {
    return id >= s->first && id < s->end ? *place(s, id) : NULL;
}

void inspect_store_observe(struct inspect_store *s, struct inspect_observer *o) {
    ht_list_init(&o->node);
    ht_list_push_back(&s->observers, &o->node);
}

void inspect_observer_remove(struct inspect_observer *o) {
    if (o->node.next)
        ht_list_remove(&o->node);
}

#define TELL(s, what, ...)                                                                                             \
    HT_LIST_FOR_SAFE (it, &(s)->observers) {                                                                           \
        struct inspect_observer *o = HT_LIST_ENTRY(it, struct inspect_observer, node);                                 \
        if (o->what)                                                                                                   \
            o->what(__VA_ARGS__);                                                                                      \
    }

/* ---- memory ---- */

static void frames_free(struct inspect_exchange *x) {
    struct ht_list *node;
    while ((node = ht_list_pop_front(&x->frames)) != NULL)
        ht_free(HT_LIST_ENTRY(node, struct inspect_frame, node));
}

/* Frees what the record points to. */
static void empty(struct inspect_exchange *x) {
    ht_buf_free(&x->request.head);
    ht_buf_free(&x->request.trailers);
    ht_buf_free(&x->request.body);
    ht_buf_free(&x->response.head);
    ht_buf_free(&x->response.trailers);
    ht_buf_free(&x->response.body);
    ht_buf_free(&x->interims);
    ht_free((void *)(uintptr_t)x->error.p);
    frames_free(x);
    x->error = x->method = x->target = x->version = x->reason = x->type = ht_slice_of(NULL, 0);
}

static void record_free(struct inspect_exchange *x) {
    ht_list_remove(&x->priv->node);
    empty(x);
    ht_free(ht_container_of(x, struct record, x));
}

/* One that runs is still known to its writer, so its record stays; nothing else of it does. */
static void push_out(struct inspect_store *s) {
    struct inspect_exchange *x = *place(s, s->first);
    *place(s, s->first++) = NULL;
    s->bytes -= x->priv->held;
    x->priv->listed = false;
    if (x->state != INSPECT_RUNNING) {
        record_free(x);
        return;
    }
    empty(x);
    ht_list_push_back(&s->unlisted, &x->priv->node);
}

static void push_out_first(struct inspect_store *s) {
    uint64_t id = s->first;
    push_out(s);
    TELL(s, removed, o, id);
}

/* After something was added: the oldest go until the rest fits. The one that grew may go, too. */
static void account(struct inspect_exchange *x, int64_t bytes) {
    struct inspect_store *s = x->priv->s;
    if (!x->priv->listed)
        return;
    x->priv->held += (uint64_t)bytes;
    s->bytes += (uint64_t)bytes;
    while (s->bytes > s->cfg.max_bytes && s->first < s->end)
        push_out_first(s);
}

void inspect_account(struct inspect_exchange *x, int64_t bytes) { account(x, bytes); }
bool inspect_is_listed(const struct inspect_exchange *x) { return x->priv->listed; }

void inspect_store_clear(struct inspect_store *s) {
    while (s->first < s->end)
        push_out(s);
    TELL(s, cleared, o);
}

void inspect_store_destroy(struct inspect_store **sp) {
    struct inspect_store *s = *sp;
    if (!s)
        return;
    *sp = NULL;
    while (s->first < s->end)
        push_out(s);
    while (!ht_list_empty(&s->unlisted))
        record_free(
            &ht_container_of(HT_LIST_ENTRY(s->unlisted.next, struct inspect_exchange_priv, node), struct record, p)->x);
    inspect_secrets_free(&s->secrets);
    ht_free(s->ring);
    ht_free(s);
}

/* Appends, and counts the memory that it took. The exchange may be pushed out. */
static bool keep(struct inspect_exchange *x, struct ht_buf *b, struct ht_slice what) {
    size_t before = b->cap;
    int rc = ht_buf_append(b, what.p, what.n);
    account(x, (int64_t)b->cap - (int64_t)before);
    return rc == HT_OK;
}

/* The same for what is never added to: not a byte more than it needs. */
static bool keep_whole(struct inspect_exchange *x, struct ht_buf *b, struct ht_slice what) {
    if (b->data || what.n == 0 || !(b->data = ht_malloc(what.n)))
        return false;
    memcpy(b->data, what.p, what.n);
    b->len = b->cap = what.n;
    account(x, (int64_t)what.n);
    return true;
}

/* ---- writing ---- */

static uint64_t wall_us(void) { return ht_now_us() + (uint64_t)(1000 * ht_wall_offset_ms()); }

static void changed(struct inspect_exchange *x) {
    if (x->priv->listed)
        TELL(x->priv->s, changed, o, x);
}

/* The text up to `end`, taken from the front of *line; all of it when `end` does not come. */
static struct ht_slice word(struct ht_slice *line, char end) {
    const char *at = line->n ? memchr(line->p, end, line->n) : NULL;
    struct ht_slice w = ht_slice_of(line->p, at ? (size_t)(at - line->p) : line->n);
    size_t used = w.n + (at != NULL);
    *line = ht_slice_of(line->p ? line->p + used : NULL, line->n - used);
    return w;
}

static struct ht_slice first_line(const struct ht_buf *head) {
    struct ht_slice all = ht_buf_slice(head), line = word(&all, '\n');
    if (line.n && line.p[line.n - 1] == '\r')
        line.n--;
    return line;
}

static void read_request_line(struct inspect_exchange *x) {
    struct ht_slice line = first_line(&x->request.head);
    x->method = word(&line, ' ');
    x->target = word(&line, ' ');
    x->version = line;
}

struct inspect_exchange *inspect_begin(struct inspect_store *s, const struct inspect_begin *b, struct ht_slice head) {
    size_t size = sizeof(struct record) + b->binding_name.n + b->visitor.n;
    struct record *r = ht_calloc(1, size);
    if (!r)
        return NULL;
    char *at = (char *)(r + 1);
    struct inspect_exchange *x = &r->x;
    ht_list_init(&r->p.node);
    ht_list_init(&x->frames);
    x->priv = &r->p;
    x->binding = b->binding;
    x->binding_name = ht_slice_copy(&at, b->binding_name);
    x->visitor = ht_slice_copy(&at, b->visitor);
    x->replay_of = b->replay_of;
    x->edited = b->edited;
    x->imported = b->imported;
    x->at_us = b->at_us ? b->at_us : wall_us();
    r->p.s = s;
    r->p.began_us = ht_now_us();
    if (!keep_whole(x, &x->request.head, head)) { /* not listed yet, so it pushes nothing out */
        record_free(x);
        return NULL;
    }
    read_request_line(x);
    if (s->end - s->first == s->cfg.max_exchanges)
        push_out_first(s);
    x->id = s->end++;
    *place(s, x->id) = x;
    r->p.listed = true;
    TELL(s, added, o, x);
    account(x, (int64_t)(size + head.n));
    return x;
}

static struct inspect_message *side(struct inspect_exchange *x, bool response) {
    return response ? &x->response : &x->request;
}

static void look_for_stream(struct inspect_exchange *x) {
    if (x->kind == INSPECT_HTTP && x->priv->no_length && ht_now_us() - x->priv->began_us > INSPECT_STREAM_US)
        x->kind = INSPECT_STREAM;
}

void inspect_body(struct inspect_exchange *x, bool response, struct ht_slice piece) {
    struct inspect_message *m = side(x, response);
    if (!x->priv->listed)
        return;
    size_t have = ht_buf_size(&m->body);
    /* Behind a gap nothing is kept: what is captured is the beginning. */
    if (m->size == have && have < x->priv->s->cfg.max_body)
        (void)keep(x, &m->body, ht_slice_of(piece.p, (size_t)ht_min64(piece.n, x->priv->s->cfg.max_body - have)));
    m->size += piece.n;
    if (response)
        look_for_stream(x);
    changed(x);
}

void inspect_count(struct inspect_exchange *x, bool response, uint64_t n) {
    side(x, response)->size += n;
    changed(x);
}

uint32_t inspect_max_frame(const struct inspect_exchange *x) { return x->priv->s->cfg.max_frame; }

void inspect_body_end(struct inspect_exchange *x, bool response) {
    side(x, response)->ended = true;
    if (response)
        x->priv->ended_us = ht_now_us();
    changed(x);
}

void inspect_trailers(struct inspect_exchange *x, bool response, struct ht_slice lines) {
    if (x->priv->listed && keep_whole(x, &side(x, response)->trailers, lines))
        changed(x);
}

void inspect_interim(struct inspect_exchange *x, struct ht_slice head) {
    if (!x->priv->listed)
        return;
    if (ht_buf_size(&x->interims) + head.n <= x->priv->s->cfg.max_body && keep(x, &x->interims, head))
        x->n_interims++;
    changed(x);
}

static bool says_websocket(const struct inspect_message *m) {
    return ht_slice_case_eq(inspect_field(m, "upgrade"), ht_slice_str("websocket"));
}

static bool is_event_stream(struct ht_slice type) {
    static const char name[] = "text/event-stream";
    return type.n >= sizeof name - 1 && ht_slice_case_eq(ht_slice_of(type.p, sizeof name - 1), ht_slice_str(name)) &&
           (type.n == sizeof name - 1 || strchr("; \t", type.p[sizeof name - 1]));
}

void inspect_response(struct inspect_exchange *x, struct ht_slice head) {
    if (!x->priv->listed || !keep_whole(x, &x->response.head, head) || !x->priv->listed)
        return;
    struct ht_slice line = first_line(&x->response.head), digits;
    (void)word(&line, ' ');
    digits = word(&line, ' ');
    for (size_t i = 0; i < digits.n && i < 3 && ht_is_digit(digits.p[i]); i++)
        x->status = (uint16_t)(10 * x->status + (digits.p[i] - '0'));
    x->reason = line;
    x->type = inspect_field(&x->response, "content-type");
    x->priv->no_length = !inspect_field(&x->response, "content-length").p;
    if (x->status == 101)
        x->kind = says_websocket(&x->response) ? INSPECT_WEBSOCKET : INSPECT_STREAM;
    else if (is_event_stream(x->type))
        x->kind = INSPECT_SSE;
    changed(x);
}

/* What a frame takes of the heap. */
static size_t frame_size(const struct inspect_frame *f) { return sizeof *f + f->data.n + f->event.n + f->id.n; }

static void drop_frame(struct inspect_exchange *x) {
    struct inspect_frame *f = HT_LIST_ENTRY(ht_list_pop_front(&x->frames), struct inspect_frame, node);
    account(x, -(int64_t)frame_size(f));
    x->frames_dropped++;
    ht_free(f);
}

void inspect_add_frame(struct inspect_exchange *x, const struct inspect_frame *given) {
    struct inspect_frame f = *given;
    if (!x->priv->listed)
        return;
    uint32_t most = x->priv->s->cfg.max_frame;
    f.truncated = f.truncated || f.data.n > most;
    f.data.n = ht_min(f.data.n, most);
    f.event.n = ht_min(f.event.n, most);
    f.id.n = ht_min(f.id.n, most);
    f.seq = ++x->n_frames;
    if (f.at_us == 0)
        f.at_us = wall_us();
    if (x->n_frames - x->frames_dropped > x->priv->s->cfg.max_frames && !ht_list_empty(&x->frames))
        drop_frame(x);
    struct inspect_frame *kept = ht_malloc(frame_size(&f));
    if (!kept || x->priv->s->cfg.max_frames == 0) {
        x->frames_dropped++;
        ht_free(kept);
        changed(x);
        return;
    }
    *kept = f;
    char *at = (char *)(kept + 1);
    kept->data = ht_slice_copy(&at, f.data);
    kept->event = ht_slice_copy(&at, f.event);
    kept->id = ht_slice_copy(&at, f.id);
    ht_list_init(&kept->node);
    ht_list_push_back(&x->frames, &kept->node);
    account(x, (int64_t)frame_size(kept));
    if (x->priv->listed)
        TELL(x->priv->s, frame, o, x, kept);
    changed(x);
}

/* ---- times, and the end ---- */

void inspect_mark(struct inspect_exchange *x, enum inspect_moment m) { x->priv->moments[m] = ht_now_us(); }

void inspect_set_timing(struct inspect_exchange *x, const struct inspect_timing *t, uint64_t duration_us) {
    x->timing = *t;
    x->duration_us = duration_us;
    x->priv->timed = true;
}

/* The time from the last moment to this one. A moment that never came, or came early, takes none. */
static uint64_t step(uint64_t *at, uint64_t moment) {
    uint64_t took = moment > *at ? moment - *at : 0;
    *at += took;
    return took;
}

static void make_timing(struct inspect_exchange *x) {
    const uint64_t *m = x->priv->moments;
    uint64_t now = ht_now_us(), at = x->priv->began_us;
    struct inspect_timing t;
    t.queued = step(&at, m[INSPECT_CONNECTING] ? m[INSPECT_CONNECTING] : m[INSPECT_CONNECTED]);
    t.connect = step(&at, m[INSPECT_CONNECTED] || !m[INSPECT_CONNECTING] ? m[INSPECT_CONNECTED] : now);
    /* An answer may come before the whole request was sent. */
    bool early = m[INSPECT_ANSWERS] && (!m[INSPECT_SENT] || m[INSPECT_SENT] > m[INSPECT_ANSWERS]);
    t.send = step(&at, early ? m[INSPECT_ANSWERS] : m[INSPECT_SENT]);
    t.wait = step(&at, m[INSPECT_ANSWERS] ? m[INSPECT_ANSWERS] : now);
    t.receive = step(&at, x->priv->ended_us ? x->priv->ended_us : now);
    inspect_set_timing(x, &t, now - x->priv->began_us);
}

void inspect_end(struct inspect_exchange *x, enum inspect_fault fault, struct ht_slice error) {
    if (!x->priv->listed) {
        record_free(x);
        return;
    }
    x->state = fault == INSPECT_NO_FAULT ? INSPECT_DONE : INSPECT_FAILED;
    x->fault = fault;
    char *text = error.n ? ht_malloc(error.n) : NULL;
    char *at = text;
    x->error = text ? ht_slice_copy(&at, error) : ht_slice_of(NULL, 0);
    if (!x->priv->timed)
        make_timing(x);
    look_for_stream(x);
    /* It can be pushed out for good from here on: told before that. */
    changed(x);
    account(x, text ? (int64_t)error.n : 0);
}

/* ---- replays ---- */

char *inspect_replay_mark(const struct inspect_store *s, uint64_t original, bool edited, char out[INSPECT_MARK]) {
    snprintf(out, INSPECT_MARK, "%s:%c:%" PRIu64, s->nonce, edited ? 'e' : 'a', original);
    return out;
}

void inspect_replay_read(const struct inspect_store *s, struct ht_slice peer, struct inspect_begin *b) {
    char text[INSPECT_MARK];
    if (peer.n < NONCE + 4 || peer.n >= sizeof text || !ht_const_time_eq(peer.p, NONCE, s->nonce, NONCE))
        return;
    char *at = text;
    (void)ht_slice_copy(&at, peer);
    *at = '\0';
    b->replay_of = strtoull(text + NONCE + 3, NULL, 10);
    b->edited = text[NONCE + 1] == 'e';
    b->visitor = ht_slice_str("you");
}
