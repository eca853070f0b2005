/*
 * WebSocket messages (RFC 6455) and server-sent events out of the bytes that carry them, piece by piece. Both only look
 * on: bytes that make no sense end the looking, never the connection. Memory is bounded by `max` and the windows of the
 * compression. Pure.
 */
#ifndef HT_INSPECT_FRAMES_H
#define HT_INSPECT_FRAMES_H

#include "inspect/decode.h"
#include "inspect/store.h"

/* Told of each one that is complete; its slices are valid during the call only. at_us and seq are not set. */
typedef void inspect_emit(void *ctx, const struct inspect_frame *f);

/* ---- one direction of a WebSocket ---- */

/* A message that inflates to more than this, or than its decoder allows, is shown as it travelled, and so are all that
 * follow it. */
#define INSPECT_INFLATE_MAX (16u << 20)

struct inspect_ws {
    /* set by the caller */
    bool down;
    uint32_t max;     /* bytes kept of a message */
    bool deflate;     /* permessage-deflate was agreed on (RFC 7692) */
    bool no_takeover; /* ... and each message begins with an empty window */
    inspect_emit *emit;
    void *ctx;
    /* the parser's own */
    bool broken; /* what came is no WebSocket: nothing more is read */
    bool dull;   /* the window of the compression is lost */
    uint8_t head[14], mask[4];
    size_t n_head; /* bytes of the frame's head so far */
    uint64_t left; /* of the frame's payload */
    uint64_t at;   /* bytes of the payload so far, for the mask */
    bool in_payload, masked, fin;
    uint8_t opcode;     /* of the frame */
    uint8_t message;    /* opcode of the message whose frames come; 0: none */
    bool packed;        /* the message is compressed */
    struct ht_buf data; /* the message so far */
    uint64_t size;      /* bytes of it; when packed, inflated ones */
    uint64_t travelled; /* bytes of it as they came */
    struct ht_buf raw;  /* when packed: its beginning as it came, should it not inflate */
    struct inspect_decoder *inflate;
    uint8_t control[125];
    size_t n_control;
};

void inspect_ws_feed(struct inspect_ws *w, struct ht_slice bytes);
void inspect_ws_free(struct inspect_ws *w);
/* Reads the Sec-WebSocket-Extensions of a 101 into `deflate` and `no_takeover` of both directions. */
void inspect_ws_extensions(struct ht_slice value, struct inspect_ws *up, struct inspect_ws *down);

/* ---- server-sent events ---- */

#define INSPECT_SSE_NAME 256 /* bytes kept of an event's type and id */

struct inspect_sse {
    /* set by the caller */
    uint32_t max; /* bytes kept of an event's data */
    inspect_emit *emit;
    void *ctx;
    /* the parser's own */
    unsigned n_bom; /* bytes of a byte order mark so far; 3: it cannot come any more */
    bool skip_lf;   /* the last line ended with CR */
    enum { INSPECT_SSE_FIELD, INSPECT_SSE_SPACE, INSPECT_SSE_VALUE } state;
    char field[8];
    size_t n_field; /* bytes of the field's name, counted beyond its room */
    bool has_data;  /* a data line came */
    struct ht_buf data;
    uint64_t size;
    char event[INSPECT_SSE_NAME], id[INSPECT_SSE_NAME];
    size_t n_event, n_id;
};

void inspect_sse_feed(struct inspect_sse *s, struct ht_slice bytes);
void inspect_sse_free(struct inspect_sse *s);

#endif
