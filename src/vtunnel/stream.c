/* Streams: their ids on both sides, their states, and what each side reports about them. */
#include "base/log.h"
#include "base/mem.h"
#include "log_gen.h"
#include "vtunnel/vtunnel_priv.h"

#include <assert.h>

static struct ht_list *bucket(struct ht_list *of, uint32_t id) {
    return &of[id * 2654435761u >> 24 & (VT_BUCKETS - 1)];
}

struct vt_stream *vt_stream_new(struct vtunnel *v, uint32_t id, uint32_t mux_id) {
    struct vt_stream *s = ht_calloc(1, sizeof *s);
    if (!s)
        return NULL;
    s->id = id;
    s->mux_id = mux_id;
    s->credit = v->stream_window;
    ht_list_init(&s->leaving);
    ht_list_push_back(bucket(v->by_peer, id), &s->by_peer);
    ht_list_push_back(bucket(v->by_mux, mux_id), &s->by_mux);
    v->n_streams++;
    return s;
}

struct vt_stream *vt_stream_by_peer(struct vtunnel *v, uint32_t id) {
    HT_LIST_FOR (it, bucket(v->by_peer, id)) {
        struct vt_stream *s = HT_LIST_ENTRY(it, struct vt_stream, by_peer);
        if (s->id == id)
            return s;
    }
    return NULL;
}

struct vt_stream *vt_stream_by_mux(struct vtunnel *v, uint32_t mux_id) {
    HT_LIST_FOR (it, bucket(v->by_mux, mux_id)) {
        struct vt_stream *s = HT_LIST_ENTRY(it, struct vt_stream, by_mux);
        if (s->mux_id == mux_id)
            return s;
    }
    return NULL;
}

void vt_stream_set_state(struct vtunnel *v, struct vt_stream *s, enum vtunnel_stream_state to) {
    assert(vtunnel_stream_may(s->state, to));
    s->state = to;
    if (to != VTUNNEL_STREAM_GONE)
        return;
    vt_forget_held(v, s->mux_id);
    ht_list_remove(&s->by_peer);
    ht_list_remove(&s->by_mux);
    ht_list_remove(&s->leaving);
    v->n_streams--;
    ht_free(s->host);
    ht_free(s);
}

void vt_streams_free(struct vtunnel *v) {
    for (unsigned i = 0; i < VT_BUCKETS; i++)
        HT_LIST_FOR_SAFE (it, &v->by_mux[i]) {
            struct vt_stream *s = HT_LIST_ENTRY(it, struct vt_stream, by_mux);
            ht_free(s->host);
            ht_free(s);
        }
}

void vt_stream_cut(struct vtunnel *v, struct vt_stream *s, const char *why) {
    ht_log_stranger(HT_LOG_INFO, "vtunnel", HT_LOG_FIELDS(log_peer(v->cfg.peer), log_stream(s->id), log_reason(why)),
                    "a stream is closed");
    if (s->state == VTUNNEL_STREAM_OPEN)
        vt_say_close(v, s->id);
    vt_feed_reset(v, s, WIRE_CODE_CANCEL, why);
    vt_stream_set_state(v, s, VTUNNEL_STREAM_GONE);
}

/* ---- the peer ---- */

/*
 * What vtunnel's client does for HTTP that comes at its port under that port's name and goes to a host with TLS: the
 * first Host field of a message says the host. Written in another way, or cut by the message's end, it stays.
 */
static size_t with_host(const char *host, struct ht_slice data, uint8_t *out) {
    static const char field[] = "\r\nHost: ";
    const char *at = memmem(data.p, data.n, field, sizeof field - 1), *value = at ? at + sizeof field - 1 : NULL;
    const char *end = value ? memmem(value, (size_t)(data.p + data.n - value), "\r\n", 2) : NULL;
    if (!end)
        return 0;
    size_t before = (size_t)(value - data.p), len = strlen(host), behind = (size_t)(data.p + data.n - end);
    memcpy(out, data.p, before);
    memcpy(out + before, host, len);
    memcpy(out + before + len, end, behind);
    return before + len + behind;
}

void vt_stream_data(struct vtunnel *v, uint32_t id, struct ht_slice data) {
    struct vt_stream *s = vt_stream_by_peer(v, id);
    if (!s || s->state == VTUNNEL_STREAM_CLOSED || !data.n) /* VSTREAM-4 */
        return;
    /* base64 was a third longer, so the host finds room behind what it stands for. */
    uint8_t *block = s->host ? ht_pool_get(v->cfg.blocks) : NULL;
    size_t n = block && data.n + strlen(s->host) <= VTUNNEL_LIMIT_MAX_MESSAGE ? with_host(s->host, data, block) : 0;
    if (n)
        vt_give(v, s, block, n);
    else
        vt_give(v, s, (const uint8_t *)data.p, data.n);
    ht_pool_put(v->cfg.blocks, block);
}

void vt_stream_hole(struct vtunnel *v, uint32_t id) {
    struct vt_stream *s = vt_stream_by_peer(v, id);
    if (s && s->state != VTUNNEL_STREAM_CLOSED)
        vt_stream_cut(v, s, "base64 that cannot be read: bytes are missing");
}

/* VSTREAM-3: our end is closed behind what came before. */
void vt_stream_close(struct vtunnel *v, uint32_t id) {
    struct vt_stream *s = vt_stream_by_peer(v, id);
    if (!s || s->state == VTUNNEL_STREAM_CLOSED)
        return;
    vt_feed_eof(v, s);
    if (s->state == VTUNNEL_STREAM_CLOSING) {
        vt_stream_set_state(v, s, VTUNNEL_STREAM_GONE);
        return;
    }
    vt_say_close(v, id);
    vt_stream_set_state(v, s, VTUNNEL_STREAM_CLOSED);
}

/* ---- our end ---- */

void vt_stream_ended(struct vtunnel *v, struct vt_stream *s) {
    if (s->state == VTUNNEL_STREAM_CLOSED) {
        vt_stream_set_state(v, s, VTUNNEL_STREAM_GONE);
    } else if (s->state == VTUNNEL_STREAM_OPEN) {
        vt_say_close(v, s->id);
        vt_stream_set_state(v, s, VTUNNEL_STREAM_CLOSING);
    }
}

void vt_stream_lost(struct vtunnel *v, struct vt_stream *s) {
    if (s->state == VTUNNEL_STREAM_OPEN)
        vt_say_close(v, s->id);
    vt_stream_set_state(v, s, VTUNNEL_STREAM_GONE);
}

/*
 * The peer has closed both directions, and our end goes on sending into nowhere: it has to hear of that, as TCP would
 * tell it. What is still on its way to it gets some time.
 */
void vt_stream_talks(struct vtunnel *v, struct vt_stream *s) {
    if (s->state != VTUNNEL_STREAM_CLOSED || ht_list_linked(&s->leaving))
        return;
    if (s->credit == v->stream_window) {
        vt_feed_reset(v, s, WIRE_CODE_CANCEL, "the other side has closed");
        vt_stream_set_state(v, s, VTUNNEL_STREAM_GONE);
        return;
    }
    s->leave_by = v->now_ms + VTUNNEL_LIMIT_STALL_TIMEOUT;
    ht_list_push_back(&v->leaving, &s->leaving);
}

struct vt_stream *vt_stream_fattest(struct vtunnel *v) {
    struct vt_stream *found = NULL;
    for (unsigned i = 0; i < VT_BUCKETS; i++) {
        HT_LIST_FOR (it, &v->by_mux[i]) {
            struct vt_stream *s = HT_LIST_ENTRY(it, struct vt_stream, by_mux);
            if (s->credit < v->stream_window && (!found || s->credit < found->credit))
                found = s;
        }
    }
    return found;
}
