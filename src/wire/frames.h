/*
 * Frames out of messages, as the bytes come in.
 *
 * The owner of a link keeps the bytes of the present message that were not consumed yet in one piece and presents them
 * with what came since. Payload of DATA is handed up at once; every other frame waits until it is whole (at most 9 +
 * 65,536 bytes). A header is checked before its payload has come: nobody makes us wait for, or store, what will be
 * refused.
 */
#ifndef HT_WIRE_FRAMES_H
#define HT_WIRE_FRAMES_H

#include "base/base.h"
#include "base/err.h"
#include "wire_gen.h"

#include <sys/types.h>

struct wire_asm_ops {
    /* A whole frame of a known type other than DATA. `payload` is good during the call. */
    int (*frame)(void *ctx, uint8_t type, uint32_t stream_id, const uint8_t *payload, size_t len);
    /*
     * A piece of a DATA payload; `frame_len` is the payload's whole length. `first`: no piece of this frame came
     * before, so credit for all of it is checked now. An empty DATA frame comes once, with n == 0.
     */
    int (*data)(void *ctx, uint32_t stream_id, const uint8_t *chunk, size_t n, uint32_t frame_len, bool first);
};

/* Zero-initialise, then set role and state; the owner changes state as the handshake goes on, also inside the
 * callbacks. */
struct wire_asm {
    enum wire_role role; /* ours: the receiver */
    enum wire_link_state state;
    unsigned version; /* of the link's subprotocol; 0: the newest */
    unsigned caps;    /* what both sides have named: a frame of another capability is skipped like an unknown one */
    /* private */
    uint32_t consumed; /* bytes of this message */
    uint32_t frames;
    uint32_t left; /* bytes of the DATA or skipped payload that is under way */
    uint32_t data_len, data_stream;
    bool skipping, data_first;
};

/* Forgets what is left of the message before. Needed only after a message was abandoned. */
void wire_asm_begin_message(struct wire_asm *a);

/*
 * p[0..n) are the bytes of the message that were not consumed before; `message_end`: no more will come. Returns how
 * many were consumed (all of them at the end of a message); HT_EPROTO with *err filled: a rule was broken, the session
 * is over; or whatever negative value a callback returned. After a negative return `a` is not touched any more.
 */
ssize_t wire_asm_feed(struct wire_asm *a, const uint8_t *p, size_t n, bool message_end, const struct wire_asm_ops *ops,
                      void *ctx, struct wire_error *err) HT_MUST_USE;

#endif
