/* Messages for the peer: our own answers first, then the translated frames of the link, in order. */
#include "vtunnel/vtunnel_priv.h"

#include <assert.h>

/* {"type":"data","stream_id":4294967295,"data":""} */
#define DATA_AROUND 64u

void vt_say(struct vtunnel *v, const struct vtunnel_message *m) {
    if (v->over)
        return;
    uint8_t *to = ht_buf_reserve(&v->own, 2 + VT_WORD_MAX);
    int n = to ? wire_text_encode(&vtunnel_spec, m, to + 2, VT_WORD_MAX) : HT_ENOMEM;
    if (n < 0) {
        if (n == HT_ENOMEM)
            vt_end(v, VTUNNEL_CLOSE_GOING_AWAY, ht_err_text(HT_ENOMEM));
        return;
    }
    wire_put16(to, (uint32_t)n);
    ht_buf_commit(&v->own, 2 + (size_t)n);
    if (ht_buf_size(&v->own) > VT_OWN_MAX)
        vt_pause(v, VT_PAUSE_OWN, true);
    v->ops->output(v->ctx);
}

static size_t pull_own(struct vtunnel *v, uint8_t *out, size_t cap) {
    const uint8_t *p = ht_buf_head(&v->own);
    size_t n = wire_get16(p);
    assert(n <= cap);
    memcpy(out, p + 2, n);
    ht_buf_consume(&v->own, 2 + n);
    if (ht_buf_size(&v->own) == 0) {
        if (v->own.cap > 4 * VT_WORD_MAX)
            ht_buf_free(&v->own);
        vt_pause(v, VT_PAUSE_OWN, false);
    }
    return n;
}

/* ---- frames ---- */

static void hello_ok(struct vtunnel *v, const struct wire_hello_ok *ok) {
    v->window = v->credit = ok->session_window;
    v->stream_window = ok->stream_window;
}

/* Client: the driver's HELLO. */
static void answer_hello(struct vtunnel *v) {
    const struct wire_hello_ok ok = {
        .session_id = ht_slice_str("vtunnel"),
        .stream_window = v->stream_window,
        .session_window = v->window,
        .connections_granted = 1,
    };
    uint8_t frame[1024];
    vt_feed(v, frame, wire_encode_hello_ok(frame, sizeof frame, 0, &ok));
}

static void stream_open(struct vtunnel *v, uint32_t mux_id, const struct wire_stream_open *open) {
    const struct vt_port *port = vt_port_by_bind(v, open->bind_id);
    struct vt_stream *s = port ? vt_stream_new(v, mux_id / 2, mux_id) : NULL; /* ours are even: 1, 2, 3 for the peer */
    if (!s) {
        const struct vt_stream none = {.mux_id = mux_id};
        vt_feed_reset(v, &none, WIRE_CODE_REFUSED_STREAM, port ? ht_err_text(HT_ENOMEM) : "no such port");
        return;
    }
    const struct vtunnel_message m = {.type = VTUNNEL_CONNECT, .port = port->port, .stream_id = s->id};
    vt_say(v, &m);
    if (open->has_authority) { /* NAME-7; its client does not tell whether it gets there */
        uint8_t frame[WIRE_LIMIT_HEADER];
        vt_feed(v, frame, wire_encode_header(frame, WIRE_STREAM_CONNECTED, mux_id, 0));
    }
}

static void pong(struct vtunnel *v, const struct wire_ping *ping) {
    uint8_t frame[WIRE_LIMIT_HEADER + sizeof ping->nonce];
    vt_feed(v, frame, wire_encode_pong(frame, sizeof frame, ping->nonce));
}

/* Frames with a payload that has to be decoded. They come from our own link, so they are good. */
static void decoded(struct vtunnel *v, uint8_t type, uint32_t id, const uint8_t *payload, size_t len) {
    union wire_any any;
    struct wire_error err;
    if (!v->scratch && !(v->scratch = wire_scratch_create())) {
        vt_end(v, VTUNNEL_CLOSE_GOING_AWAY, ht_err_text(HT_ENOMEM));
        return;
    }
    if (wire_decode_any(type, payload, len, v->scratch, &any, &err) < 0)
        return;
    switch (type) {
    case WIRE_HELLO_OK:
        hello_ok(v, &any.hello_ok);
        break;
    case WIRE_HELLO:
        answer_hello(v);
        break;
    case WIRE_BIND:
        vt_port_bind(v, &any.bind);
        break;
    case WIRE_BIND_OK:
        vt_port_bound(v, &any.bind_ok);
        break;
    case WIRE_BIND_ERR:
        vt_port_refused(v, &any.bind_err);
        break;
    case WIRE_BIND_REVOKED:
        vt_port_revoked(v, &any.bind_revoked);
        break;
    case WIRE_UNBIND:
        vt_port_unbind(v, &any.unbind);
        break;
    case WIRE_STREAM_OPEN:
        stream_open(v, id, &any.stream_open);
        break;
    case WIRE_PING: /* whether the peer is there is found out with messages of its own (VKEEP-2) */
        pong(v, &any.ping);
        break;
    default: /* GOAWAY: the close frame that follows says why */
        break;
    }
}

static void frame(struct vtunnel *v, uint8_t type, uint32_t id, const uint8_t *payload, size_t len) {
    struct vt_stream *s = id ? vt_stream_by_mux(v, id) : NULL;
    if (type == WIRE_EOF && s)
        vt_stream_ended(v, s);
    else if (type == WIRE_RESET && s)
        vt_stream_lost(v, s);
    else if (type == WIRE_WINDOW)
        vt_granted(v, id, wire_get32(payload));
    else if (type != WIRE_EOF && type != WIRE_RESET)
        decoded(v, type, id, payload, len);
}

/* A message of the DATA frame that is next, or 0 when it needs none (any more). */
static size_t data(struct vtunnel *v, uint32_t id, const uint8_t *payload, size_t len, uint8_t *out, size_t cap) {
    struct vt_stream *s = vt_stream_by_mux(v, id);
    size_t n = 0;
    if (s && s->state == VTUNNEL_STREAM_OPEN && v->data_at < len) {
        size_t take = ht_min(len - v->data_at, ht_min(VTUNNEL_LIMIT_MAX_DATA, (cap - DATA_AROUND) / 4 * 3));
        const struct vtunnel_message m = {
            .type = VTUNNEL_DATA, .stream_id = s->id, .data = ht_slice_of(payload + v->data_at, take)};
        int rc = wire_text_encode(&vtunnel_spec, &m, out, cap);
        assert(rc > 0);
        n = (size_t)rc;
        v->data_at += take;
    } else {
        v->data_at = len;
    }
    if (v->data_at < len)
        return n;
    v->data_at = 0;
    v->frame_at += WIRE_LIMIT_HEADER + len;
    if (len) /* it has left the link, so the stream may have more */
        vt_feed_credit(v, s ? id : 0, (uint32_t)len);
    s = vt_stream_by_mux(v, id);
    if (s && n == 0 && len)
        vt_stream_talks(v, s);
    return n;
}

static bool fill(struct vtunnel *v) {
    if (!v->frames && !(v->frames = ht_pool_get(v->cfg.blocks)))
        return false;
    v->frame_at = 0;
    v->frames_n = mux_link_pull(v->link, v->frames, VT_PULL);
    if (v->frames_n > 0)
        return true;
    ht_pool_put(v->cfg.blocks, v->frames);
    v->frames = NULL;
    return false;
}

size_t vtunnel_pull(struct vtunnel *v, uint8_t *out, size_t cap) {
    for (;;) {
        if (ht_buf_size(&v->own))
            return pull_own(v, out, cap);
        if (v->frame_at == v->frames_n && !fill(v))
            return 0;
        const uint8_t *p = v->frames + v->frame_at;
        uint8_t type = p[0];
        uint32_t id = wire_get32(p + 1), len = wire_get32(p + 5);
        if (type == WIRE_DATA) {
            size_t n = data(v, id, p + WIRE_LIMIT_HEADER, len, out, cap);
            if (n > 0)
                return n;
            continue;
        }
        v->frame_at += WIRE_LIMIT_HEADER + len;
        frame(v, type, id, p + WIRE_LIMIT_HEADER, len);
    }
}
