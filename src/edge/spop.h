/*
 * SPOP 2.0, the protocol between HAProxy and an agent (HAProxy's doc/SPOE.txt): frames, lists and values, and what an
 * agent says. Pure: it knows bytes, and no sockets.
 *
 * Frames are not fragmented: the agent does not announce that it takes pieces.
 */
#ifndef HT_EDGE_SPOP_H
#define HT_EDGE_SPOP_H

#include "base/base.h"
#include "base/buf.h"
#include "base/err.h"

#include <sys/types.h>

#define SPOP_FRAME_MIN 256u   /* the least that a peer must take */
#define SPOP_FRAME_MAX 16380u /* the most that is taken here, without the length in front: HAProxy's usual buffer */

enum spop_type {
    SPOP_UNSET = 0,
    SPOP_HELLO = 1,
    SPOP_DISCONNECT = 2,
    SPOP_NOTIFY = 3,
    SPOP_AGENT_HELLO = 101,
    SPOP_AGENT_DISCONNECT = 102,
    SPOP_ACK = 103,
};

/* Why a connection ends (SPOE.txt 3.5). */
enum spop_status {
    SPOP_NORMAL = 0,
    SPOP_TOO_BIG = 3,
    SPOP_INVALID = 4,
    SPOP_NO_VERSION = 5,
    SPOP_NO_MAX_FRAME = 6,
    SPOP_NO_CAPABILITIES = 7,
    SPOP_BAD_VERSION = 8,
    SPOP_BAD_MAX_FRAME = 9,
    SPOP_FRAGMENTED = 10,
    SPOP_RESOURCES = 13,
};
/* A short sentence; never NULL. Static storage. */
const char *spop_status_text(enum spop_status status);

struct spop_frame {
    uint8_t type; /* enum spop_type, or one that is not known */
    uint64_t stream, frame;
    struct ht_slice payload; /* borrows from the input */
};

/*
 * Takes the first frame of `in`, whose length may be `max` at most. Returns how many bytes it has, its length included;
 * HT_EAGAIN: the rest has not come yet; HT_EPROTO: *why says what is wrong, and nothing behind it can be read.
 */
ssize_t spop_frame_read(struct ht_slice in, size_t max, struct spop_frame *out, enum spop_status *why) HT_MUST_USE;

/* ---- what is in a payload ---- */

enum spop_kind { SPOP_NULL, SPOP_BOOL, SPOP_INT, SPOP_ADDRESS, SPOP_BYTES };

struct spop_value {
    enum spop_kind kind;
    uint64_t number;       /* a boolean or an integer; a negative one as its two's complement */
    struct ht_slice bytes; /* of an address in network order (4 or 16), a text or anything */
};

/* Each takes what is next off *rest. 1: there was one. 0: the payload has ended. HT_EPROTO: it is not valid. */
int spop_next_pair(struct ht_slice *rest, struct ht_slice *name, struct spop_value *value) HT_MUST_USE;
/* `n` pairs follow, which the caller takes. */
int spop_next_message(struct ht_slice *rest, struct ht_slice *name, unsigned *n) HT_MUST_USE;

struct spop_hello {
    uint32_t max_frame; /* of both sides */
    bool check;         /* HAProxy only asks whether there is an agent */
    bool pipelining;
};

/* Reads the payload of HAProxy's HELLO. 0, or HT_EPROTO with *why. */
int spop_hello_read(struct ht_slice payload, struct spop_hello *out, enum spop_status *why) HT_MUST_USE;

/* ---- what an agent says: whole frames are appended. 0 or HT_ENOMEM: nothing was appended. ---- */

int spop_put_hello(struct ht_buf *b, const struct spop_hello *hello) HT_MUST_USE;
int spop_put_disconnect(struct ht_buf *b, enum spop_status status) HT_MUST_USE;

/* An answer to a NOTIFY: variables of the transaction. */
struct spop_set {
    const char *name; /* without scope and prefix */
    enum spop_kind kind;
    uint64_t number;
    struct ht_slice bytes;
};
int spop_put_ack(struct ht_buf *b, uint64_t stream, uint64_t frame, const struct spop_set *sets, size_t n) HT_MUST_USE;

#endif
