/*
 * Every decoder of a frame's payload: what is accepted can be written again, and reads as the same thing.
 *
 * Input: the frame's type (a number that is none stands for one that is), the payload.
 */
#include "base/utf8.h"
#include "fuzz.h"
#include "wire/bytes.h"
#include "wire_gen.h"
#include "json/json.h"

static uint8_t type_of(uint8_t byte) {
    uint8_t types[256];
    unsigned n = 0;
    if (wire_frame_rule(byte))
        return byte;
    for (unsigned i = 0; i < 256; i++)
        if (wire_frame_rule((uint8_t)i))
            types[n++] = (uint8_t)i;
    return types[byte % n];
}

static bool is_json(uint8_t type) {
    static const uint8_t bytes[] = {
        WIRE_DATA, WIRE_EOF, WIRE_RESET, WIRE_WINDOW, WIRE_PING, WIRE_PONG, WIRE_STREAM_CONNECTED, WIRE_ACK};
    return !memchr(bytes, type, sizeof bytes);
}

/* What is decoded and yet cannot be written: names that only a later version knows; DATA, which has no payload but
 * bytes. */
static bool read_only(uint8_t type, const union wire_any *v) {
    switch (type) {
    case WIRE_DATA:
        return true;
    case WIRE_BIND:
        return v->bind.kind == WIRE_KIND_UNKNOWN || v->bind.mode == WIRE_MODE_UNKNOWN;
    case WIRE_BIND_ERR:
        return v->bind_err.code == WIRE_BIND_ERROR_UNKNOWN;
    case WIRE_UNBIND_ERR:
        return v->unbind_err.code == WIRE_BIND_ERROR_UNKNOWN;
    case WIRE_JOIN_ERR:
        return v->join_err.code == WIRE_JOIN_ERROR_UNKNOWN;
    default:
        return false;
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static uint8_t out[WIRE_LIMIT_HEADER + WIRE_LIMIT_MAX_PAYLOAD], again[sizeof out];
    static struct wire_scratch *first, *second; /* used again and again, as by a link */
    struct fuzz_in in = {data, data + size};
    uint8_t type = type_of(fuzz_u8(&in));
    size_t n = ht_min(fuzz_left(&in), WIRE_LIMIT_MAX_PAYLOAD);
    uint32_t id = wire_frame_rule(type)->zero == WIRE_ZERO ? 0 : 7;
    uint8_t *payload = fuzz_copy(in.p, n);
    if (!first && (!(first = wire_scratch_create()) || !(second = wire_scratch_create())))
        abort();

    union wire_any v, w;
    struct wire_error err = {.rule = NULL};
    int rc = wire_decode_any(type, payload, n, first, &v, &err);
    bool json = is_json(type);
    if (rc < 0 && type != WIRE_DATA) {
        FUZZ_CHECK(rc == HT_EPROTO && err.rule && err.text[0] && memchr(err.text, 0, sizeof err.text));
        FUZZ_CHECK(ht_utf8_valid((const uint8_t *)err.text, strlen(err.text)));
    } else if (rc == 0) {
        int len = wire_encode_any(out, sizeof out, type, id, &v);
        if (len < 0) {
            /* A text may grow: a byte becomes \u00XX. */
            FUZZ_CHECK(len == HT_ESPACE || (len == HT_EINVAL && read_only(type, &v)));
        } else {
            FUZZ_CHECK((size_t)len >= WIRE_LIMIT_HEADER && (size_t)len <= sizeof out);
            size_t m = (size_t)len - WIRE_LIMIT_HEADER;
            FUZZ_CHECK(out[0] == type && wire_get32(out + 1) == id);
            FUZZ_CHECK(wire_get32(out + 5) == m);
            uint8_t *copy = fuzz_copy(out + WIRE_LIMIT_HEADER, m);
            FUZZ_CHECK(wire_decode_any(type, copy, m, second, &w, &err) == 0);
            FUZZ_CHECK(wire_encode_any(again, sizeof again, type, id, &w) == len);
            FUZZ_CHECK(memcmp(out, again, (size_t)len) == 0);
            if (json)
                FUZZ_CHECK(json_validate((const char *)copy, m, NULL, NULL) == 0);
            free(copy);
            /* One byte less room than needed is noticed in time. */
            uint8_t *tight = malloc((size_t)len);
            if (!tight)
                abort();
            FUZZ_CHECK(wire_encode_any(tight, (size_t)len - 1, type, id, &v) == HT_ESPACE);
            FUZZ_CHECK(wire_encode_any(tight, (size_t)len, type, id, &v) == len);
            free(tight);
        }
        if (json)
            FUZZ_CHECK(json_validate((const char *)payload, n, NULL, NULL) == 0);
    }
    free(payload);
    return 0;
}
