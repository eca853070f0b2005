/* From the store's structures to those of the API. */
#include "inspect/server_priv.h"

#include "base/base64.h"
#include "base/mem.h"
#include "base/text.h"
#include "inspect/decode.h"

#include <stdio.h>

#define FIELDS_MAX 256

static double ms_of(uint64_t us) { return (double)us / 1000.0; }

static struct ht_slice cut(struct ht_slice s, size_t max) { return ht_slice_of(s.p, ht_min(s.n, max)); }

int show_string(struct ht_buf *out, struct ht_slice text) {
    const uint8_t *p = (const uint8_t *)text.p, *end = p + text.n;
    int rc = ht_buf_append(out, "\"", 1);
    while (rc == HT_OK && text.n && p < end) {
        size_t run = ht_text_run(p, end, HT_TEXT_JSON);
        char one[HT_TEXT_CHAR];
        if (run) {
            rc = ht_buf_append(out, p, run);
            p += run;
            continue;
        }
        unsigned n = ht_text_next(&p, end, HT_TEXT_JSON, one);
        rc = ht_buf_append(out, one, n);
    }
    return rc == HT_OK ? ht_buf_append(out, "\"", 1) : rc;
}

/* ---- an exchange ---- */

struct texts {
    char id[24], of[24];
};

static struct ht_slice id_text(uint64_t id, char out[24]) {
    return ht_slice_of(out, (size_t)snprintf(out, 24, "%llu", (unsigned long long)id));
}

/* The codes stand in the order of enum inspect_fault, which begins with "none". */
static struct inspect_api_fault fault_of(const struct inspect_exchange *x) {
    return (struct inspect_api_fault){
        .code = (enum inspect_api_fault_code)x->fault,
        .title = ht_slice_str(inspect_fault_title(x->fault)),
        .message = x->error.p ? x->error : ht_slice_str(""),
    };
}

_Static_assert((int)INSPECT_REFUSED == (int)INSPECT_API_FAULT_CODE_ORIGIN_REFUSED &&
                   (int)INSPECT_INTERNAL == (int)INSPECT_API_FAULT_CODE_INTERNAL,
               "the spec and the store list the same faults");
_Static_assert((int)INSPECT_HTTP + 1 == (int)INSPECT_API_EXCHANGE_KIND_HTTP &&
                   (int)INSPECT_STREAM + 1 == (int)INSPECT_API_EXCHANGE_KIND_STREAM,
               "the spec and the store list the same kinds");
_Static_assert((int)INSPECT_RUNNING + 1 == (int)INSPECT_API_EXCHANGE_STATE_RUNNING &&
                   (int)INSPECT_FAILED + 1 == (int)INSPECT_API_EXCHANGE_STATE_FAILED,
               "the spec and the store list the same states");

static struct ht_slice or_empty(struct ht_slice s) { return s.p ? s : ht_slice_str(""); }

static struct ht_slice version_of(const struct inspect_exchange *x) {
    return x->version.n > 5 ? ht_slice_of(x->version.p + 5, x->version.n - 5) : ht_slice_str("1.1");
}

/* An exchange and its detail have these members; `t` holds texts of theirs. */
#define EXCHANGE_MEMBERS(x, t)                                                                                         \
    .id = id_text((x)->id, (t)->id), .started_at = ms_of((x)->at_us),                                                  \
    .kind = (enum inspect_api_exchange_kind)((int)(x)->kind + 1),                                                      \
    .state = (enum inspect_api_exchange_state)((int)(x)->state + 1), .binding = or_empty((x)->binding_name),           \
    .method = or_empty((x)->method), .target = cut(or_empty((x)->target), INSPECT_TARGET_SHOWN),                       \
    .http_version = version_of(x), .visitor = or_empty((x)->visitor), .status = (x)->status,                           \
    .has_status = (x)->status != 0, .type = (x)->type, .request_bytes = (x)->request.size,                             \
    .response_bytes = (x)->response.size, .duration_ms = ms_of((x)->duration_us),                                      \
    .has_duration_ms = (x)->state != INSPECT_RUNNING,                                                                  \
    .timing = {.queued = ms_of((x)->timing.queued),                                                                    \
               .connect = ms_of((x)->timing.connect),                                                                  \
               .send = ms_of((x)->timing.send),                                                                        \
               .wait = ms_of((x)->timing.wait),                                                                        \
               .receive = ms_of((x)->timing.receive)},                                                                 \
    .has_timing = (x)->state != INSPECT_RUNNING,                                                                       \
    .replay_of = (x)->replay_of ? id_text((x)->replay_of, (t)->of) : ht_slice_of(NULL, 0), .edited = (x)->edited,      \
    .imported = (x)->imported, .error = fault_of(x), .has_error = (x)->fault != INSPECT_NO_FAULT,                      \
    .frames = (x)->n_frames, .has_frames = (x)->kind == INSPECT_WEBSOCKET || (x)->kind == INSPECT_SSE

int show_exchange(struct ht_buf *out, const struct inspect_exchange *x) {
    struct texts t;
    struct inspect_api_exchange v = {EXCHANGE_MEMBERS(x, &t)};
    return inspect_api_write_exchange(out, &v);
}

/* ---- header fields ---- */

struct fields {
    struct inspect_api_header list[FIELDS_MAX];
    size_t n;
    struct ht_buf masked; /* the values that are shown in place of secrets */
    size_t from[FIELDS_MAX];
};

/* Reads field lines. `plain`: secrets are not masked. The caller frees f->masked. */
static int fields_read(struct fields *f, const struct inspect_store *store, struct ht_slice lines, bool plain) {
    struct inspect_field one;
    int rc = HT_OK;
    f->n = 0;
    f->masked = (struct ht_buf){0};
    while (rc == HT_OK && f->n < FIELDS_MAX && inspect_field_next(inspect_store_secrets(store), &lines, &one)) {
        f->from[f->n] = ht_buf_size(&f->masked);
        if (one.secret && !plain)
            rc = inspect_mask_value(one.name, one.value, &f->masked);
        f->list[f->n++] = (struct inspect_api_header){or_empty(one.name), or_empty(one.value), one.secret};
    }
    for (size_t i = 0; rc == HT_OK && !plain && i < f->n; i++) {
        size_t end = i + 1 < f->n ? f->from[i + 1] : ht_buf_size(&f->masked);
        if (f->list[i].secret)
            f->list[i].value =
                or_empty(ht_slice_of((const char *)ht_buf_head(&f->masked) + f->from[i], end - f->from[i]));
    }
    return rc;
}

int show_headers(struct ht_buf *out, const struct inspect_store *store, const struct inspect_message *m) {
    struct fields *f = ht_malloc(sizeof *f);
    int rc = f ? fields_read(f, store, inspect_head_fields(&m->head), true) : HT_ENOMEM;
    if (rc == HT_OK) {
        struct inspect_api_headers v = {.headers = f->list, .n_headers = f->n};
        rc = inspect_api_write_headers(out, &v);
    }
    if (f)
        ht_buf_free(&f->masked);
    ht_free(f);
    return rc;
}

struct ht_slice show_coding(const struct inspect_message *m) {
    struct ht_slice coding = inspect_field(m, "content-encoding");
    return coding.n && inspect_can_decode(coding) ? coding : ht_slice_of(NULL, 0);
}

int show_body(const struct inspect_message *m, struct ht_buf *scratch, struct ht_slice *body) {
    struct ht_slice coding = show_coding(m);
    *body = or_empty(ht_buf_slice(&m->body));
    if (!coding.n || !body->n)
        return HT_OK;
    int rc = inspect_decode(coding, *body, INSPECT_DECODED_MAX, scratch);
    if (rc == HT_OK)
        *body = or_empty(ht_buf_slice(scratch));
    return rc == HT_ENOMEM ? rc : HT_OK;
}

struct sides {
    struct fields head[2], trailers[2];
};

static int side_read(struct sides *s, int i, const struct inspect_store *store, const struct inspect_exchange *x,
                     struct inspect_api_message *v) {
    const struct inspect_message *m = i ? &x->response : &x->request;
    int rc = fields_read(&s->head[i], store, inspect_head_fields(&m->head), false);
    if (rc == HT_OK)
        rc = fields_read(&s->trailers[i], store, ht_buf_slice(&m->trailers), false);
    *v = (struct inspect_api_message){
        .status = x->status,
        .has_status = i == 1,
        .reason = i ? or_empty(x->reason) : ht_slice_of(NULL, 0),
        .headers = s->head[i].list,
        .n_headers = s->head[i].n,
        .trailers = s->trailers[i].n ? s->trailers[i].list : NULL,
        .n_trailers = s->trailers[i].n,
        .body = {.size = m->size, .captured = ht_buf_size(&m->body), .decoded_from = show_coding(m)},
    };
    return rc;
}

int show_detail(struct ht_buf *out, const struct inspect_store *store, const struct inspect_exchange *x) {
    struct texts t;
    struct inspect_api_exchange_detail v = {EXCHANGE_MEMBERS(x, &t),
                                            .has_response = ht_buf_size(&x->response.head) > 0};
    struct sides *s = ht_calloc(1, sizeof *s);
    int rc = s ? side_read(s, 0, store, x, &v.request) : HT_ENOMEM;
    if (rc == HT_OK && v.has_response)
        rc = side_read(s, 1, store, x, &v.response);
    if (rc == HT_OK)
        rc = inspect_api_write_exchange_detail(out, &v);
    for (int i = 0; s && i < 2; i++) {
        ht_buf_free(&s->head[i].masked);
        ht_buf_free(&s->trailers[i].masked);
    }
    ht_free(s);
    return rc;
}

/* ---- frames ---- */

static enum inspect_api_frame_opcode opcode_of(enum inspect_opcode o) {
    switch (o) {
    case INSPECT_TEXT:
        return INSPECT_API_FRAME_OPCODE_TEXT;
    case INSPECT_BINARY:
        return INSPECT_API_FRAME_OPCODE_BINARY;
    case INSPECT_PING:
        return INSPECT_API_FRAME_OPCODE_PING;
    case INSPECT_PONG:
        return INSPECT_API_FRAME_OPCODE_PONG;
    case INSPECT_CLOSE:
        break;
    }
    return INSPECT_API_FRAME_OPCODE_CLOSE;
}

int show_frame(struct ht_buf *out, const struct inspect_exchange *x, const struct inspect_frame *f) {
    char id[24], *base64 = NULL;
    bool text = (f->opcode == INSPECT_TEXT && !f->compressed) || f->opcode == INSPECT_CLOSE || f->data.n == 0;
    struct inspect_api_frame v = {
        .exchange_id = id_text(x->id, id),
        .seq = f->seq,
        .at = ms_of(f->at_us),
        .dir = f->down ? INSPECT_API_FRAME_DIR_DOWN : INSPECT_API_FRAME_DIR_UP,
        .opcode = opcode_of(f->opcode),
        .size = f->size,
        .text = text ? or_empty(f->data) : ht_slice_of(NULL, 0),
        .event = f->event.n ? f->event : ht_slice_of(NULL, 0),
        .id = f->id.n ? f->id : ht_slice_of(NULL, 0),
        .truncated = true,
        .has_truncated = f->truncated,
    };
    if (!text) {
        base64 = ht_malloc(ht_base64_size(f->data.n) + 1);
        if (!base64)
            return HT_ENOMEM;
        v.base64 = ht_slice_of(base64, ht_base64_put(base64, f->data.p, f->data.n));
    }
    int rc = inspect_api_write_frame(out, &v);
    ht_free(base64);
    return rc;
}

/* ---- the driver ---- */

static struct ht_slice text_or_none(const char *text) { return text ? ht_slice_str(text) : ht_slice_of(NULL, 0); }

int show_link(struct ht_buf *out, const struct inspect_server *s) {
    struct inspect_link l = {
        .state = INSPECT_API_LINK_STATE_CONNECTING, .rtt_ms = -1, .retry_in_ms = -1, .grace_ms = -1};
    s->cfg.link(s->cfg.ctx, &l);
    struct inspect_api_link v = {
        .state = l.state,
        .rtt_ms = l.rtt_ms,
        .has_rtt_ms = l.rtt_ms >= 0,
        .kit = text_or_none(l.kit),
        .retry_in_ms = l.retry_in_ms,
        .has_retry_in_ms = l.retry_in_ms >= 0,
        .grace_ms = l.grace_ms,
        .has_grace_ms = l.grace_ms >= 0,
        .reason = text_or_none(l.reason),
        .pauses = {.count = l.pauses,
                   .total_ms = l.paused_ms,
                   .longest_ms = l.longest_pause_ms,
                   .resent_bytes = l.resent},
    };
    return inspect_api_write_link(out, &v);
}

bool (*inspect_draw_qr)(const char *text, struct inspect_qr *out);

static int show_binding(struct ht_buf *out, const struct inspect_binding *b) {
    char id[24];
    struct inspect_qr qr;
    struct ht_slice rows[INSPECT_QR_SIDE];
    struct inspect_api_binding v = {
        .id = id_text((uint64_t)b->number, id),
        .name = ht_slice_str(b->name ? b->name : ""),
        .mode = b->pull ? INSPECT_API_MODE_PULL : INSPECT_API_MODE_EXPOSE,
        .port = b->port,
        .url = b->url && *b->url ? ht_slice_str(b->url) : ht_slice_of(NULL, 0),
        .target = {.address = ht_slice_str(b->address ? b->address : ""), .reachable = b->reachable},
    };
    v.has_qr = v.url.n && inspect_draw_qr && inspect_draw_qr(b->url, &qr);
    if (v.has_qr) {
        for (unsigned i = 0; i < qr.size; i++)
            rows[i] = ht_slice_str(qr.rows[i]);
        v.qr = (struct inspect_api_qr){.size = qr.size, .rows = rows, .n_rows = qr.size};
    }
    return inspect_api_write_binding(out, &v);
}

int show_bindings(struct ht_buf *out, const struct inspect_server *s) {
    struct inspect_binding b;
    int rc = ht_buf_append_str(out, "[");
    for (unsigned i = 0; rc == HT_OK && s->cfg.binding(s->cfg.ctx, i, &b); i++) {
        rc = i ? ht_buf_append_str(out, ",") : HT_OK;
        rc = rc == HT_OK ? show_binding(out, &b) : rc;
    }
    return rc == HT_OK ? ht_buf_append_str(out, "]") : rc;
}

int show_snapshot(struct ht_buf *out, const struct inspect_server *s) {
    const struct inspect_store *store = s->cfg.store;
    int rc = ht_buf_append_str(out, "{\"link\":");
    rc = rc == HT_OK ? show_link(out, s) : rc;
    rc = rc == HT_OK ? ht_buf_append_str(out, ",\"bindings\":") : rc;
    rc = rc == HT_OK ? show_bindings(out, s) : rc;
    rc = rc == HT_OK ? ht_buf_append_str(out, ",\"exchanges\":[") : rc;
    bool first = true;
    for (uint64_t id = inspect_store_first(store); rc == HT_OK && id < inspect_store_end(store); id++) {
        const struct inspect_exchange *x = inspect_store_get(store, id);
        if (!x)
            continue;
        rc = first ? HT_OK : ht_buf_append_str(out, ",");
        first = false;
        rc = rc == HT_OK ? show_exchange(out, x) : rc;
    }
    rc = rc == HT_OK ? ht_buf_append_str(out, "],\"traffic\":[") : rc;
    for (unsigned i = 0; rc == HT_OK && i < INSPECT_SECONDS; i++)
        rc = ht_buf_printf(out, "%s%llu", i ? "," : "",
                           (unsigned long long)s->feed.traffic[(s->feed.oldest + i) % INSPECT_SECONDS]);
    rc = rc == HT_OK ? ht_buf_append_str(out, "],\"rates\":") : rc;
    rc = rc == HT_OK ? inspect_api_write_rates(out, &s->feed.rates) : rc;
    return rc == HT_OK ? ht_buf_append_str(out, "}") : rc;
}
