/* A secondary link of rig.h's session, whose other end the test plays by hand. */
#ifndef HT_TESTS_MUX_SECONDARY_H
#define HT_TESTS_MUX_SECONDARY_H

#include "mux/rig.h"

struct secondary {
    struct rig *r;
    struct mux_link *l;
    int rc;
    unsigned closes, counted, replays;
    uint64_t acked;
    uint32_t size_of[1024]; /* of each message that counts, by its number */
    size_t kept, data_out;
};

static inline void secondary_joined(void *ctx, const struct wire_join *join) {
    struct secondary *x = ctx;
    x->rc = mux_session_join(x->r->s, x->l, join->index, join->has_received_bytes ? &join->received_bytes : NULL,
                             join->has_received ? &join->received : NULL);
    if (x->rc < 0)
        mux_link_refuse_join(x->l, &(struct wire_join_err){.code = WIRE_JOIN_ERROR_INVALID_TICKET});
}

static inline void secondary_output(void *ctx) { (void)ctx; }

static inline void secondary_close(void *ctx, uint16_t ws_code, const char *reason) {
    (void)ws_code, (void)reason;
    ((struct secondary *)ctx)->closes++;
}

static inline void secondary_join_ok(void *ctx, const struct wire_join_ok *ok) {
    struct secondary *x = ctx;
    x->rc = mux_session_join(x->r->s, x->l, ok->index, ok->has_received_bytes ? &ok->received_bytes : NULL,
                             ok->has_received ? &ok->received : NULL);
}

static inline size_t secondary_kept(void *ctx) { return ((struct secondary *)ctx)->kept; }

static inline void secondary_acked(void *ctx, uint64_t count) {
    struct secondary *x = ctx;
    while (x->acked < count) {
        uint32_t *size = &x->size_of[++x->acked % HT_ARRAY_LEN(x->size_of)];
        x->kept -= *size;
        *size = 0;
    }
}

static inline void secondary_replay(void *ctx, uint64_t count) {
    struct secondary *x = ctx;
    secondary_acked(x, count);
    x->replays++;
}

static const struct mux_link_ops secondary_ops = {.join = secondary_joined,
                                                  .join_ok = secondary_join_ok,
                                                  .output = secondary_output,
                                                  .close = secondary_close,
                                                  .kept = secondary_kept,
                                                  .acked = secondary_acked,
                                                  .replay = secondary_replay};

/* One message into the secondary. */
static inline ssize_t secondary_in(struct secondary *x, uint8_t type, uint32_t id, const void *payload, size_t n) {
    static uint8_t m[70000];
    wire_encode_header(m, type, id, (uint32_t)n);
    if (payload)
        memcpy(m + 9, payload, n);
    ssize_t rc = mux_link_message(x->l, m, n + 9, true);
    mux_link_fed(x->l);
    return rc;
}

/* What the peer says: JOIN to a kit, JOIN_OK to a driver that has said JOIN. */
static inline void secondary_join(struct rig *r, struct secondary *x, const char *json) {
    bool kit = r->cfg.role == WIRE_ROLE_KIT;
    struct wire_join ours = {.session_id = {"S-1", 3}, .index = 1, .nonce = {"n", 1}};
    *x = (struct secondary){.r = r, .rc = -1};
    x->l = mux_link_create(r->cfg.role, WIRE_V2, &secondary_ops, x);
    if (!kit) {
        CU_ASSERT_EQUAL(mux_link_send_join(x->l, &ours), 0);
        CU_ASSERT(mux_link_pull(x->l, rig_buffer, WIRE_LIMIT_MAX_MESSAGE) > 0);
    }
    secondary_in(x, kit ? WIRE_JOIN : WIRE_JOIN_OK, 0, json, strlen(json));
}

/* Type of the first frame that the secondary has to send, or 0. */
static inline uint8_t secondary_says(struct secondary *x, uint32_t *id) {
    size_t n = mux_link_pull(x->l, rig_buffer, WIRE_LIMIT_MAX_MESSAGE);
    *id = n ? wire_get32(rig_buffer + 1) : 0;
    rig_buffer[n] = '\0';
    return n ? rig_buffer[0] : 0;
}

/* All that it has to say, unlooked at. */
static inline void secondary_pull(struct secondary *x) {
    size_t n;
    while ((n = mux_link_pull(x->l, rig_buffer, WIRE_LIMIT_MAX_MESSAGE)) > 0) {
        if (mux_link_counts(x->l)) {
            x->size_of[++x->counted % HT_ARRAY_LEN(x->size_of)] = (uint32_t)n;
            x->kept += n;
        }
        for (size_t at = 0; at < n; at += WIRE_LIMIT_HEADER + wire_get32(rig_buffer + at + 5))
            x->data_out += rig_buffer[at] == WIRE_DATA ? wire_get32(rig_buffer + at + 5) : 0;
    }
}

#endif
