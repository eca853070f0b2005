/* Making and freeing the translator, incoming messages, frames for the link, and timers. */
#include "vtunnel/vtunnel_priv.h"

#include "base/log.h"
#include "base/mem.h"
#include "log_gen.h"

#include <assert.h>

/* ---- life ---- */

struct vtunnel *vtunnel_create(const struct vtunnel_config *cfg, struct mux_link *link, const struct vtunnel_ops *ops,
                               void *ctx, uint64_t now_ms) {
    struct vtunnel *v = ht_calloc(1, sizeof *v);
    if (!v)
        return NULL;
    v->cfg = *cfg;
    v->link = link;
    v->ops = ops;
    v->ctx = ctx;
    for (unsigned i = 0; i < VT_BUCKETS; i++) {
        ht_list_init(&v->by_peer[i]);
        ht_list_init(&v->by_mux[i]);
    }
    ht_list_init(&v->leaving);
    ht_list_init(&v->ports);
    v->next_mux_id = 2;
    v->window = v->stream_window = v->credit = cfg->window;
    v->now_ms = v->heard_at = now_ms;
    v->ping_at = cfg->role == VTUNNEL_ROLE_CLIENT ? now_ms + VTUNNEL_LIMIT_PING_INTERVAL : VT_NEVER; /* VKEEP-1 */
    return v;
}

void vtunnel_destroy(struct vtunnel **vp) {
    struct vtunnel *v = *vp;
    *vp = NULL;
    if (!v)
        return;
    vt_streams_free(v);
    vt_ports_free(v);
    ht_buf_free(&v->own);
    ht_pool_put(v->cfg.blocks, v->held);
    ht_pool_put(v->cfg.blocks, v->frames);
    wire_scratch_destroy(&v->scratch);
    ht_free(v);
}

int vtunnel_start(struct vtunnel *v) {
    struct ht_slice caps[WIRE_N_CAPABILITIES];
    const struct wire_hello hello = {.version = WIRE_V1,
                                     .capabilities = caps,
                                     .n_capabilities = wire_caps_names(v->cfg.names ? WIRE_CAP_NAMES : 0, caps)};
    uint8_t frame[256];
    vt_feed(v, frame, wire_encode_hello(frame, sizeof frame, 0, &hello));
    return v->over ? HT_ECLOSED : 0;
}

void vt_end(struct vtunnel *v, uint16_t code, const char *reason) {
    if (v->ended)
        return;
    v->ended = v->over = true;
    v->ops->end(v->ctx, code, reason);
}

unsigned vtunnel_streams(const struct vtunnel *v) { return v->n_streams; }

/* ---- frames towards the link ---- */

static void fed(struct vtunnel *v, ssize_t used) {
    if (used < 0)
        v->over = true;
    mux_link_fed(v->link);
}

void vt_feed(struct vtunnel *v, const uint8_t *frame, int n) {
    assert(n > 0);
    if (!v->over)
        fed(v, mux_link_message(v->link, frame, (size_t)n, true));
}

void vt_feed_eof(struct vtunnel *v, const struct vt_stream *s) {
    uint8_t frame[WIRE_LIMIT_HEADER];
    vt_feed(v, frame, wire_encode_eof(frame, sizeof frame, s->mux_id));
}

void vt_feed_reset(struct vtunnel *v, const struct vt_stream *s, enum wire_code code, const char *reason) {
    uint8_t frame[WIRE_LIMIT_HEADER + 256];
    vt_feed(v, frame, wire_encode_reset(frame, sizeof frame, s->mux_id, (uint16_t)code, ht_slice_str(reason)));
}

void vt_feed_credit(struct vtunnel *v, uint32_t mux_id, uint32_t n) {
    uint8_t frames[2 * (WIRE_LIMIT_HEADER + 4)];
    int len = wire_encode_window(frames, sizeof frames, 0, n);
    if (mux_id)
        len += wire_encode_window(frames + len, sizeof frames - (size_t)len, mux_id, n);
    vt_feed(v, frames, len);
}

static void feed_data(struct vtunnel *v, struct vt_stream *s, const uint8_t *p, size_t n) {
    s->credit -= (uint32_t)n;
    v->credit -= (uint32_t)n;
    while (n > 0 && !v->over) {
        uint8_t header[WIRE_LIMIT_HEADER];
        size_t take = ht_min(n, WIRE_LIMIT_MAX_PAYLOAD);
        (void)wire_encode_header(header, WIRE_DATA, s->mux_id, (uint32_t)take);
        ssize_t used = mux_link_message(v->link, header, sizeof header, false);
        if (used >= 0)
            used = mux_link_message(v->link, p, take, true);
        fed(v, used);
        p += take;
        n -= take;
    }
}

void vt_pause(struct vtunnel *v, enum vt_pause why, bool on) {
    unsigned was = v->paused;
    v->paused = on ? was | why : was & ~(unsigned)why;
    if (!was == !v->paused)
        return;
    v->stalled_at = v->now_ms;
    v->pong_at = v->now_ms + VTUNNEL_LIMIT_STALL_PONG;
    v->heard_at = v->now_ms; /* VFLOW-2: what was not read says nothing */
    v->ops->pause(v->ctx, v->paused);
}

void vt_give(struct vtunnel *v, struct vt_stream *s, const uint8_t *p, size_t n) {
    size_t now = ht_min(n, ht_min(s->credit, v->credit));
    uint32_t mux_id = s->mux_id;
    assert(!v->held);
    feed_data(v, s, p, now);
    if (now == n || v->over)
        return;
    v->held = ht_pool_get(v->cfg.blocks);
    if (!v->held) {
        vt_stream_cut(v, s, ht_err_text(HT_ENOMEM));
        return;
    }
    memcpy(v->held, p + now, n - now);
    v->held_at = 0;
    v->held_n = n - now;
    v->held_for = mux_id;
    vt_pause(v, VT_PAUSE_DATA, true);
}

static void drop_held(struct vtunnel *v) {
    ht_pool_put(v->cfg.blocks, v->held);
    v->held = NULL;
    v->held_n = 0;
    vt_pause(v, VT_PAUSE_DATA, false);
}

void vt_forget_held(struct vtunnel *v, uint32_t mux_id) {
    if (v->held && v->held_for == mux_id)
        drop_held(v);
}

void vt_granted(struct vtunnel *v, uint32_t mux_id, uint32_t n) {
    struct vt_stream *s = mux_id ? vt_stream_by_mux(v, mux_id) : NULL;
    if (mux_id == 0)
        v->credit += n;
    else if (s)
        s->credit += n;
    s = v->held ? vt_stream_by_mux(v, v->held_for) : NULL;
    size_t now = s ? ht_min(v->held_n, ht_min(s->credit, v->credit)) : 0;
    if (now == 0)
        return;
    feed_data(v, s, v->held + v->held_at, now);
    v->held_at += now;
    v->held_n -= now;
    v->stalled_at = v->now_ms; /* it moves */
    if (v->held_n == 0)
        drop_held(v);
}

/* ---- messages of the peer ---- */

static void connect_received(struct vtunnel *v, const struct vtunnel_message *m) {
    struct vt_port *port = vt_port_by_number(v, m->port);
    struct vt_stream *s = vt_stream_by_peer(v, m->stream_id);
    if (s) { /* VSTREAM-2 */
        vt_feed_reset(v, s, WIRE_CODE_CANCEL, "its id is used again");
        vt_stream_set_state(v, s, VTUNNEL_STREAM_GONE);
    }
    s = port && port->state == VT_PORT_OPEN && v->next_mux_id ? vt_stream_new(v, m->stream_id, v->next_mux_id) : NULL;
    if (!s) {
        vt_say_close(v, m->stream_id);
        return;
    }
    v->next_mux_id += 2;
    s->host = port->host ? ht_strndup(port->host, strlen(port->host)) : NULL;
    const struct wire_stream_open open = {
        .kind = WIRE_KIND_TCP,
        .bind_id = port->bind_id,
        .has_container_port = true,
        .container_port = port->port,
    };
    uint8_t frame[512];
    vt_feed(v, frame, wire_encode_stream_open(frame, sizeof frame, s->mux_id, &open));
}

static void received(struct vtunnel *v, const struct vtunnel_message *m) {
    switch (m->type) {
    case VTUNNEL_LISTEN:
        vt_port_listen(v, m->port, m->local_addr);
        break;
    case VTUNNEL_LISTEN_OK:
        vt_port_listen_ok(v, m->port);
        break;
    case VTUNNEL_LISTEN_ERR:
        vt_port_listen_err(v, m->port, m->error);
        break;
    case VTUNNEL_CONNECT:
        connect_received(v, m);
        break;
    case VTUNNEL_DATA:
        vt_stream_data(v, m->stream_id, m->data);
        break;
    case VTUNNEL_CLOSE:
        vt_stream_close(v, m->stream_id);
        break;
    case VTUNNEL_PING:
        vt_say(v, &(struct vtunnel_message){.type = VTUNNEL_PONG});
        break;
    case VTUNNEL_PONG:
    case VTUNNEL_UNKNOWN:
        break;
    }
}

static void ignored(struct vtunnel *v, const char *rule, const char *text) {
    ht_log_stranger(HT_LOG_INFO, "vtunnel", HT_LOG_FIELDS(log_peer(v->cfg.peer), log_rule(rule), log_reason(text)),
                    "a message was ignored");
}

ssize_t vtunnel_message(struct vtunnel *v, uint8_t *p, size_t n, bool end, uint64_t now_ms) {
    if (v->over)
        return HT_ECLOSED;
    if (!end)
        return 0;
    v->now_ms = v->heard_at = now_ms; /* VKEEP-2: any message */
    struct vtunnel_message m;
    struct wire_text_error err;
    struct json_arena arena = {0};
    if (n && memchr(p, '\\', n)) {
        arena.p = ht_pool_get(v->cfg.blocks);
        arena.cap = arena.p ? n : 0;
    }
    unsigned sender = v->cfg.role == VTUNNEL_ROLE_SERVER ? VTUNNEL_ROLE_CLIENT : VTUNNEL_ROLE_SERVER;
    int rc = wire_text_decode(&vtunnel_spec, sender, p, n, &arena, &m, &err);
    if (rc == 0)
        received(v, &m);
    else if (rc == HT_ENOMEM)
        vt_end(v, VTUNNEL_CLOSE_GOING_AWAY, ht_err_text(HT_ENOMEM));
    else
        ignored(v, err.rule, err.text);
    if (rc == HT_EPROTO && m.type != VTUNNEL_UNKNOWN)
        vt_stream_hole(v, m.stream_id);
    ht_pool_put(v->cfg.blocks, arena.p);
    return v->over ? HT_ECLOSED : (ssize_t)n;
}

/* ---- time ---- */

static void let_leave(struct vtunnel *v) {
    while (!ht_list_empty(&v->leaving)) {
        struct vt_stream *s = HT_LIST_ENTRY(v->leaving.next, struct vt_stream, leaving);
        if (s->leave_by > v->now_ms)
            return;
        vt_stream_cut(v, s, "the other side has closed");
    }
}

/* VFLOW-2, VFLOW-3. */
static void look_at_stall(struct vtunnel *v) {
    if (v->paused & VT_PAUSE_OWN) {
        if (v->now_ms >= v->stalled_at + VTUNNEL_LIMIT_DEADLINE)
            vt_end(v, VTUNNEL_END_SILENT_CODE, "the answers are not read");
        return;
    }
    if (v->now_ms >= v->pong_at && v->cfg.role == VTUNNEL_ROLE_SERVER) {
        v->pong_at = v->now_ms + VTUNNEL_LIMIT_STALL_PONG;
        vt_say(v, &(struct vtunnel_message){.type = VTUNNEL_PONG});
    }
    if (!v->held || v->now_ms < v->stalled_at + VTUNNEL_LIMIT_STALL_TIMEOUT)
        return;
    struct vt_stream *s = vt_stream_fattest(v);
    v->stalled_at = v->now_ms;
    if (s)
        vt_stream_cut(v, s, "it does not read what it is sent, and all other streams wait for it");
}

void vtunnel_tick(struct vtunnel *v, uint64_t now_ms) {
    v->now_ms = now_ms;
    if (v->over || v->ended)
        return;
    let_leave(v);
    if (now_ms >= v->ping_at) {
        v->ping_at = now_ms + VTUNNEL_LIMIT_PING_INTERVAL;
        vt_say(v, &(struct vtunnel_message){.type = VTUNNEL_PING});
    }
    if (v->paused)
        look_at_stall(v);
    else if (now_ms >= v->heard_at + VTUNNEL_LIMIT_DEADLINE)
        vt_end(v, VTUNNEL_END_SILENT_CODE, VTUNNEL_END_SILENT_REASON);
}

uint64_t vtunnel_deadline(const struct vtunnel *v) {
    uint64_t due = v->ping_at;
    if (v->over || v->ended)
        return VT_NEVER;
    if (!ht_list_empty(&v->leaving))
        due = ht_min64(due, HT_LIST_ENTRY(v->leaving.next, struct vt_stream, leaving)->leave_by);
    if (!v->paused)
        return ht_min64(due, v->heard_at + VTUNNEL_LIMIT_DEADLINE);
    if (v->paused & VT_PAUSE_OWN)
        return ht_min64(due, v->stalled_at + VTUNNEL_LIMIT_DEADLINE);
    if (v->cfg.role == VTUNNEL_ROLE_SERVER)
        due = ht_min64(due, v->pong_at);
    return v->held ? ht_min64(due, v->stalled_at + VTUNNEL_LIMIT_STALL_TIMEOUT) : due;
}
