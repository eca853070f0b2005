/* Sessions of rig.h with stream-resume, whose link is lost and comes back. */
#ifndef HT_TESTS_MUX_REPLAY_H
#define HT_TESTS_MUX_REPLAY_H

#include "mux/mux_priv.h"
#include "mux/rig.h"

#define START(role, tune)                                                                                              \
    size_t live = ht_mem_live();                                                                                       \
    struct rig *r = rig_start(role, tune);                                                                             \
    CU_ASSERT_PTR_NOT_NULL_FATAL(r->s)
#define STOP() rig_stop(r, live)

#define BUFFER WIRE_LIMIT_MIN_REPLAY_BUFFER
#define GRACE 60000u

static inline void resuming(struct mux_config *c) {
    c->caps = WIRE_CAP_STREAM_RESUME;
    c->suspect_after_ms = WIRE_LIMIT_SUSPECT_AFTER;
    c->resume_grace_ms = GRACE;
}

static inline void resuming_v2(struct mux_config *c) {
    resuming(c);
    c->version = WIRE_V2;
}

static inline ssize_t ack(struct rig *r, uint64_t count) {
    uint8_t p[8];
    wire_put64(p, count);
    return rig_frame_in(r, WIRE_ACK, 0, p, sizeof p);
}

/* A frame that asks for no answer. */
static inline ssize_t nothing_much(struct rig *r) { return rig_frame_in(r, WIRE_PONG, 0, "12345678", 8); }

/* The count of the next ACK; UINT64_MAX: there is none. */
static inline uint64_t acked(struct rig *r) {
    const struct rig_frame *f = rig_next(r, WIRE_ACK);
    return f ? wire_get64(f->head) : UINT64_MAX;
}

static inline void lose(struct rig *r) {
    rig_pull(r);
    mux_link_closed(r->l, false);
    mux_link_destroy(&r->l);
}

/* The peer comes back, and has received so many messages. */
static inline void come_back(struct rig *r, uint64_t received) {
    char json[200];
    r->l = mux_link_create(r->cfg.role, r->cfg.version, &rig_link_ops, r);
    CU_ASSERT_PTR_NOT_NULL_FATAL(r->l);
    if (r->cfg.role == WIRE_ROLE_KIT) {
        snprintf(json, sizeof json,
                 "{\"version\":\"hoody-tunnel.v%d\",\"capabilities\":[\"stream-resume\"],"
                 "\"resume\":{\"sessionId\":\"S-1\",\"received\":%llu}}",
                 r->cfg.version == WIRE_V2 ? 2 : 1, (unsigned long long)received);
        rig_text(r, WIRE_HELLO, 0, json);
        return;
    }
    struct wire_hello hello = {.version = r->cfg.version};
    CU_ASSERT_EQUAL(mux_link_send_hello(r->l, &hello), 0);
    rig_pull(r);
    snprintf(json, sizeof json,
             "{\"sessionId\":\"S-1\",\"capabilities\":[\"stream-resume\",\"handover\"],\"received\":%llu}",
             (unsigned long long)received);
    rig_text(r, WIRE_HELLO_OK, 0, json);
}

#endif
