/*
 * Assembles frames from the bytes of messages.
 *
 * The owner of a link keeps the bytes that were not consumed in one piece and presents them again with the bytes that
 * have come since. Payload of DATA is handed up at once. Every other frame is handed up when it is complete (at most 9
 * + 65,536 bytes). A header is checked before the payload comes, so a peer cannot make us wait for, or store, a frame
 * that will be refused.
 */
#ifndef HT_WIRE_FRAMES_H
#define HT_WIRE_FRAMES_H

#include "base/base.h"
#include "base/err.h"
#include "wire_gen.h"

#include <sys/types.h>

struct wire_asm_ops {
    /* A complete frame of a known type other than DATA. `payload` is valid during the call. 0, or a negative value that
     * stops wire_asm_feed(). */
    int (*frame)(void *ctx, uint8_t type, uint32_t stream_id, const uint8_t *payload, size_t len);
    /*
     * A piece of a DATA payload, whose whole length is `frame_len`. `first` is true for the first piece of a frame: the
     * callee then checks the credit for the whole frame. An empty DATA frame is one call with n == 0. 0, or a negative
     * value that stops wire_asm_feed().
     */
    int (*data)(void *ctx, uint32_t stream_id, const uint8_t *chunk, size_t n, uint32_t frame_len, bool first);
};

/* Zero-initialise it, then set role and state. The owner changes `state` during the handshake, also in the callbacks.
 */
struct wire_asm {
    enum wire_role role; /* our own role, that of the receiver */
    enum wire_link_state state;
    unsigned version; /* of the link's subprotocol; 0: the newest */
    unsigned caps;    /* capabilities that both sides named; a frame of another one is skipped as unknown */
    uint32_t whole;   /* frames of the last message that came to its end */
    /* private */
    uint32_t consumed; /* bytes of this message */
    uint32_t frames;   /* frames of this message */
    uint32_t left;     /* bytes of the present DATA or skipped payload that have not come yet */
    uint32_t data_len, data_stream;
    bool skipping, data_first;
};

/* Drops the rest of the last message. Needed only when that message was not completed. */
void wire_asm_begin_message(struct wire_asm *a);

/*
 * p[0..n) are the bytes of the message that were not consumed yet. `message_end`: no more bytes of it will come.
 * Returns how many bytes were consumed; at the end of a message that is all of them. HT_EPROTO with *err: the peer
 * broke a rule that ends the session. Any other negative value is what a callback returned. After a negative result `a`
 * is not accessed, so a callback may free it.
 */
ssize_t wire_asm_feed(struct wire_asm *a, const uint8_t *p, size_t n, bool message_end, const struct wire_asm_ops *ops,
                      void *ctx, struct wire_error *err) HT_MUST_USE;

#endif
