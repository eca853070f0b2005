#include "edge/spop.h"

#define LENGTH 4        /* bytes in front of a frame */
#define FLAG_FIN 1u     /* the frame is whole */
#define VARINT_BYTES 10 /* of the largest number */
#define TYPE_MASK 0x0f
#define TRUE_FLAG 0x10
#define VERSION "2.0"

/* Values of <TYPE>, SPOE.txt 3.1. */
enum { T_NULL, T_BOOL, T_INT32, T_UINT32, T_INT64, T_UINT64, T_IPV4, T_IPV6, T_STRING, T_BINARY };

/* ACTION-SET-VAR <NB-ARGS> <TRANSACTION>, SPOE.txt 3.4. */
static const uint8_t set_var[] = {1, 3, 2};

const char *spop_status_text(enum spop_status status) {
    switch (status) {
    case SPOP_NORMAL:
        return "a normal end";
    case SPOP_TOO_BIG:
        return "a frame is too big";
    case SPOP_INVALID:
        return "a frame is not valid";
    case SPOP_NO_VERSION:
        return "there is no supported-versions";
    case SPOP_NO_MAX_FRAME:
        return "there is no max-frame-size";
    case SPOP_NO_CAPABILITIES:
        return "there are no capabilities";
    case SPOP_BAD_VERSION:
        return "its versions do not include " VERSION;
    case SPOP_BAD_MAX_FRAME:
        return "its max-frame-size is too small";
    case SPOP_FRAGMENTED:
        return "a frame came in pieces, which was not agreed";
    case SPOP_RESOURCES:
        return "out of memory";
    }
    return "unknown";
}

/* ---- reading ---- */

static bool take(struct ht_slice *rest, size_t n, struct ht_slice *out) {
    if (n > rest->n)
        return false;
    *out = ht_slice_of(rest->p, n);
    *rest = ht_slice_of(rest->p + n, rest->n - n);
    return true;
}

static bool take_u8(struct ht_slice *rest, uint8_t *out) {
    struct ht_slice s;
    bool ok = take(rest, 1, &s);
    if (ok)
        *out = (uint8_t)*s.p;
    return ok;
}

static bool take_varint(struct ht_slice *rest, uint64_t *out) {
    uint8_t b;
    if (!take_u8(rest, &b))
        return false;
    *out = b;
    for (unsigned shift = 4; b >= (shift == 4 ? 240 : 128); shift += 7) {
        /* Beyond the 64th bit another byte cannot be right. */
        if (shift > 60 || !take_u8(rest, &b) || (shift == 60 && b > 0x0f))
            return false;
        uint64_t more = (uint64_t)b << shift;
        if (*out + more < more)
            return false;
        *out += more;
    }
    return true;
}

static bool take_text(struct ht_slice *rest, struct ht_slice *out) {
    uint64_t n;
    return take_varint(rest, &n) && n <= rest->n && take(rest, (size_t)n, out);
}

static bool take_value(struct ht_slice *rest, struct spop_value *out) {
    uint8_t type;
    *out = (struct spop_value){.kind = SPOP_NULL};
    if (!take_u8(rest, &type))
        return false;
    switch (type & TYPE_MASK) {
    case T_NULL:
        return true;
    case T_BOOL:
        out->kind = SPOP_BOOL;
        out->number = (type & TRUE_FLAG) != 0;
        return true;
    case T_INT32:
    case T_UINT32:
    case T_INT64:
    case T_UINT64:
        out->kind = SPOP_INT;
        return take_varint(rest, &out->number);
    case T_IPV4:
    case T_IPV6:
        out->kind = SPOP_ADDRESS;
        return take(rest, (type & TYPE_MASK) == T_IPV4 ? 4 : 16, &out->bytes);
    case T_STRING:
    case T_BINARY:
        out->kind = SPOP_BYTES;
        return take_text(rest, &out->bytes);
    default:
        return false;
    }
}

ssize_t spop_frame_read(struct ht_slice in, size_t max, struct spop_frame *out, enum spop_status *why) {
    const uint8_t *p = (const uint8_t *)in.p;
    if (in.n < LENGTH)
        return HT_EAGAIN;
    size_t n = (size_t)p[0] << 24 | (size_t)p[1] << 16 | (size_t)p[2] << 8 | p[3];
    *why = SPOP_TOO_BIG;
    if (n > max)
        return HT_EPROTO;
    if (in.n - LENGTH < n)
        return HT_EAGAIN;
    struct ht_slice rest = ht_slice_of(in.p + LENGTH, n), flags;
    *why = SPOP_INVALID;
    if (!take_u8(&rest, &out->type) || !take(&rest, 4, &flags) || !take_varint(&rest, &out->stream) ||
        !take_varint(&rest, &out->frame))
        return HT_EPROTO;
    *why = SPOP_FRAGMENTED;
    if (out->type == SPOP_UNSET || !((uint8_t)flags.p[3] & FLAG_FIN))
        return HT_EPROTO;
    out->payload = rest;
    return (ssize_t)(n + LENGTH);
}

int spop_next_pair(struct ht_slice *rest, struct ht_slice *name, struct spop_value *value) {
    if (rest->n == 0)
        return 0;
    return take_text(rest, name) && take_value(rest, value) ? 1 : HT_EPROTO;
}

int spop_next_message(struct ht_slice *rest, struct ht_slice *name, unsigned *n) {
    uint8_t args;
    if (rest->n == 0)
        return 0;
    if (!take_text(rest, name) || !take_u8(rest, &args))
        return HT_EPROTO;
    *n = args;
    return 1;
}

/* Whether a list with commas has the item; blanks around it do not count. */
static bool list_has(struct ht_slice list, const char *item) {
    while (list.n) {
        const char *comma = memchr(list.p, ',', list.n);
        struct ht_slice s = ht_slice_of(list.p, comma ? (size_t)(comma - list.p) : list.n);
        list = comma ? ht_slice_of(comma + 1, list.n - s.n - 1) : ht_slice_of(NULL, 0);
        while (s.n && *s.p == ' ')
            s = ht_slice_of(s.p + 1, s.n - 1);
        while (s.n && s.p[s.n - 1] == ' ')
            s.n--;
        if (ht_slice_is(s, item))
            return true;
    }
    return false;
}

int spop_hello_read(struct ht_slice payload, struct spop_hello *out, enum spop_status *why) {
    struct ht_slice name, versions = {NULL, 0}, capabilities = {NULL, 0};
    struct spop_value v;
    uint64_t max = 0;
    int more;
    *out = (struct spop_hello){.check = false};
    while ((more = spop_next_pair(&payload, &name, &v)) > 0) {
        if (ht_slice_is(name, "supported-versions") && v.kind == SPOP_BYTES)
            versions = v.bytes;
        else if (ht_slice_is(name, "max-frame-size") && v.kind == SPOP_INT)
            max = v.number;
        else if (ht_slice_is(name, "capabilities") && v.kind == SPOP_BYTES)
            capabilities = v.bytes;
        else if (ht_slice_is(name, "healthcheck") && v.kind == SPOP_BOOL)
            out->check = v.number;
    }
    *why = more < 0                         ? SPOP_INVALID
           : !versions.p                    ? SPOP_NO_VERSION
           : !list_has(versions, VERSION)   ? SPOP_BAD_VERSION
           : max == 0                       ? SPOP_NO_MAX_FRAME
           : max < SPOP_FRAME_MIN           ? SPOP_BAD_MAX_FRAME
           : !capabilities.p && !out->check ? SPOP_NO_CAPABILITIES
                                            : SPOP_NORMAL;
    out->max_frame = (uint32_t)ht_min64(max, SPOP_FRAME_MAX);
    out->pipelining = list_has(capabilities, "pipelining");
    return *why == SPOP_NORMAL ? HT_OK : HT_EPROTO;
}

/* ---- writing ---- */

static int put_varint(struct ht_buf *b, uint64_t v) {
    uint8_t out[VARINT_BYTES];
    size_t n = 0;
    if (v < 240) {
        out[n++] = (uint8_t)v;
        return ht_buf_append(b, out, n);
    }
    out[n++] = (uint8_t)(v | 240);
    for (v = (v - 240) >> 4; v >= 128; v = (v - 128) >> 7)
        out[n++] = (uint8_t)(v | 128);
    out[n++] = (uint8_t)v;
    return ht_buf_append(b, out, n);
}

static int put_text(struct ht_buf *b, struct ht_slice s) {
    int rc = put_varint(b, s.n);
    return rc == HT_OK ? ht_buf_append(b, s.p, s.n) : rc;
}

static int put_u8(struct ht_buf *b, uint8_t v) { return ht_buf_append(b, &v, 1); }

static int put_typed(struct ht_buf *b, enum spop_kind kind, uint64_t number, struct ht_slice bytes) {
    int rc;
    switch (kind) {
    case SPOP_BOOL:
        return put_u8(b, number ? T_BOOL | TRUE_FLAG : T_BOOL);
    case SPOP_INT:
        rc = put_u8(b, T_UINT64);
        return rc == HT_OK ? put_varint(b, number) : rc;
    case SPOP_ADDRESS:
        rc = put_u8(b, bytes.n == 4 ? T_IPV4 : T_IPV6);
        return rc == HT_OK ? ht_buf_append(b, bytes.p, bytes.n) : rc;
    case SPOP_BYTES:
        rc = put_u8(b, T_STRING);
        return rc == HT_OK ? put_text(b, bytes) : rc;
    case SPOP_NULL:
        break;
    }
    return put_u8(b, T_NULL);
}

/* A frame's beginning, and where it is; the length follows in end_frame(). */
static int begin_frame(struct ht_buf *b, enum spop_type type, uint64_t stream, uint64_t frame, size_t *at) {
    const uint8_t head[] = {0, 0, 0, 0, (uint8_t)type, 0, 0, 0, FLAG_FIN};
    *at = ht_buf_size(b);
    int rc = ht_buf_append(b, head, sizeof head);
    if (rc == HT_OK)
        rc = put_varint(b, stream);
    return rc == HT_OK ? put_varint(b, frame) : rc;
}

static int end_frame(struct ht_buf *b, size_t at, int rc) {
    if (rc < 0) {
        b->len = b->off + at;
        return rc;
    }
    uint8_t *p = ht_buf_head(b) + at;
    size_t n = ht_buf_size(b) - at - LENGTH;
    for (unsigned i = 0; i < LENGTH; i++)
        p[i] = (uint8_t)(n >> (24 - 8 * i));
    return HT_OK;
}

static int put_pair(struct ht_buf *b, const char *name, enum spop_kind kind, uint64_t number, const char *text) {
    int rc = put_text(b, ht_slice_str(name));
    return rc == HT_OK ? put_typed(b, kind, number, ht_slice_str(text)) : rc;
}

int spop_put_hello(struct ht_buf *b, const struct spop_hello *hello) {
    size_t at;
    int rc = begin_frame(b, SPOP_AGENT_HELLO, 0, 0, &at);
    if (rc == HT_OK)
        rc = put_pair(b, "version", SPOP_BYTES, 0, VERSION);
    if (rc == HT_OK)
        rc = put_text(b, ht_slice_str("max-frame-size"));
    if (rc == HT_OK)
        rc = put_u8(b, T_UINT32);
    if (rc == HT_OK)
        rc = put_varint(b, hello->max_frame);
    if (rc == HT_OK)
        rc = put_pair(b, "capabilities", SPOP_BYTES, 0, hello->pipelining ? "pipelining" : "");
    return end_frame(b, at, rc);
}

int spop_put_disconnect(struct ht_buf *b, enum spop_status status) {
    size_t at;
    int rc = begin_frame(b, SPOP_AGENT_DISCONNECT, 0, 0, &at);
    if (rc == HT_OK)
        rc = put_text(b, ht_slice_str("status-code"));
    if (rc == HT_OK)
        rc = put_u8(b, T_UINT32);
    if (rc == HT_OK)
        rc = put_varint(b, status);
    if (rc == HT_OK)
        rc = put_pair(b, "message", SPOP_BYTES, 0, spop_status_text(status));
    return end_frame(b, at, rc);
}

int spop_put_ack(struct ht_buf *b, uint64_t stream, uint64_t frame, const struct spop_set *sets, size_t n) {
    size_t at;
    int rc = begin_frame(b, SPOP_ACK, stream, frame, &at);
    for (size_t i = 0; rc == HT_OK && i < n; i++) {
        rc = ht_buf_append(b, set_var, sizeof set_var);
        if (rc == HT_OK)
            rc = put_text(b, ht_slice_str(sets[i].name));
        if (rc == HT_OK)
            rc = put_typed(b, sets[i].kind, sets[i].number, sets[i].bytes);
    }
    return end_frame(b, at, rc);
}
