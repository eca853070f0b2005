#include "wire/frames.h"

#include "wire/bytes.h"
#include "wire/codec.h"

void wire_asm_begin_message(struct wire_asm *a) {
    a->consumed = a->frames = a->left = 0;
    a->skipping = a->data_first = false;
}

static unsigned version_of(const struct wire_asm *a) { return a->version ? a->version : WIRE_NEWEST_VERSION; }

static int message_error(struct wire_error *err, const char *rule, const char *text) {
    return wire_fail(err, WIRE_SCOPE_SESSION, WIRE_CODE_PROTOCOL_ERROR, WIRE_CLOSE_PROTOCOL_ERROR, rule, "%s", text);
}

/* Goes on with the DATA or skipped payload that is under way. The bytes used, or what the callback returned. */
static ssize_t feed_payload(struct wire_asm *a, const uint8_t *p, size_t n, const struct wire_asm_ops *ops, void *ctx) {
    size_t take = ht_min(n, a->left);
    a->left -= (uint32_t)take;
    if (a->skipping || take == 0)
        return (ssize_t)take;
    bool first = a->data_first;
    a->data_first = false;
    int rc = ops->data(ctx, a->data_stream, p, take, a->data_len, first);
    return rc < 0 ? rc : (ssize_t)take;
}

/* One frame from its header on. The bytes used, 0 when more are needed first, or an error. */
static ssize_t feed_frame(struct wire_asm *a, const uint8_t *p, size_t n, const struct wire_asm_ops *ops, void *ctx,
                          struct wire_error *err) {
    if (a->frames == WIRE_LIMIT_OF(version_of(a), MAX_FRAMES))
        return message_error(err, "MSG-3", "more frames in one message than allowed");
    if (n < WIRE_LIMIT_HEADER)
        return 0;
    uint8_t type = p[0];
    uint32_t stream_id = wire_get32(p + 1), len = wire_get32(p + 5);
    int rc = wire_check_rx_agreed(a->version, a->caps, a->role, a->state, type, stream_id, len, err);
    if (rc < 0)
        return rc;
    if (rc == 0 && type != WIRE_DATA) {
        if (n - WIRE_LIMIT_HEADER < len)
            return 0;
        a->frames++;
        rc = ops->frame(ctx, type, stream_id, p + WIRE_LIMIT_HEADER, len);
        return rc < 0 ? rc : (ssize_t)(WIRE_LIMIT_HEADER + len);
    }
    a->frames++;
    a->left = a->data_len = len;
    a->data_stream = stream_id;
    a->skipping = rc == 1;
    a->data_first = true;
    if (len == 0 && !a->skipping && (rc = ops->data(ctx, stream_id, p + WIRE_LIMIT_HEADER, 0, 0, true)) < 0)
        return rc;
    return WIRE_LIMIT_HEADER;
}

ssize_t wire_asm_feed(struct wire_asm *a, const uint8_t *p, size_t n, bool message_end, const struct wire_asm_ops *ops,
                      void *ctx, struct wire_error *err) {
    size_t off = 0;
    if (n > WIRE_LIMIT_OF(version_of(a), MAX_MESSAGE) - a->consumed)
        return wire_fail(err, WIRE_SCOPE_SESSION, WIRE_CODE_FRAME_SIZE_ERROR, WIRE_CLOSE_TOO_BIG, "MSG-4",
                         "message longer than allowed");
    while (off < n) {
        ssize_t used =
            a->left > 0 ? feed_payload(a, p + off, n - off, ops, ctx) : feed_frame(a, p + off, n - off, ops, ctx, err);
        if (used < 0)
            return used;
        if (used == 0)
            break;
        off += (size_t)used;
    }
    a->consumed += (uint32_t)off;
    if (!message_end)
        return (ssize_t)off;
    if (off < n || a->left > 0)
        return message_error(err, "MSG-5", "a frame crosses the end of its message");
    if (a->frames == 0)
        return message_error(err, "MSG-2", "empty message");
    a->whole = a->frames;
    wire_asm_begin_message(a);
    return (ssize_t)off;
}
