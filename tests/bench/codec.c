/* Frames a second through the generated codec, encoding and decoding each: one `name: frames` line per kind of frame.
 */
#include "base/clock.h"
#include "wire/frames.h"
#include "wire_gen.h"

#include <stdio.h>
#include <stdlib.h>

enum { ROUNDS = 20000, BATCH = 32 };

static struct wire_scratch *scratch;
static uint64_t seen;

static int on_frame(void *ctx, uint8_t type, uint32_t stream_id, const uint8_t *payload, size_t len) {
    union wire_any out;
    struct wire_error err;
    (void)ctx;
    seen += stream_id;
    return wire_decode_any(type, payload, len, scratch, &out, &err) < 0 ? HT_EPROTO : 0;
}

static int on_data(void *ctx, uint32_t stream_id, const uint8_t *chunk, size_t n, uint32_t frame_len, bool first) {
    (void)ctx;
    (void)chunk;
    (void)frame_len;
    seen += stream_id + n + first;
    return 0;
}

static struct wire_stream_open open_frame(void) {
    static const struct wire_header headers[] = {
        {{"host", 4}, {"app.example.org", 15}},
        {{"user-agent", 10}, {"Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0", 70}},
        {{"accept", 6}, {"text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8", 63}},
        {{"accept-language", 15}, {"en-US,en;q=0.5", 14}},
        {{"accept-encoding", 15}, {"gzip, deflate, br", 17}},
        {{"cookie", 6}, {"session=0123456789abcdef0123456789abcdef", 40}},
        {{"cache-control", 13}, {"no-cache", 8}},
    };
    struct wire_stream_open v = {.kind = WIRE_KIND_HTTP, .bind_id = 1};
    v.method = ht_slice_str("GET");
    v.target = ht_slice_str("/static/app.js?v=12345");
    v.headers = headers;
    v.n_headers = HT_ARRAY_LEN(headers);
    return v;
}

static struct wire_response_head head_frame(void) {
    static const struct wire_header headers[] = {
        {{"content-type", 12}, {"text/html; charset=utf-8", 24}},
        {{"content-length", 14}, {"1024", 4}},
        {{"date", 4}, {"Sat, 01 Jan 2028 00:00:00 GMT", 29}},
        {{"server", 6}, {"nginx", 5}},
        {{"etag", 4}, {"\"65a1b2c3-400\"", 14}},
    };
    struct wire_response_head v = {.status = 200, .final = true};
    v.headers = headers;
    v.n_headers = HT_ARRAY_LEN(headers);
    return v;
}

static int encode(int kind, uint8_t *out, size_t cap) {
    static const struct ht_slice reason = {"visitor gone", 12};
    switch (kind) {
    case 0: {
        struct wire_stream_open v = open_frame();
        return wire_encode_stream_open(out, cap, 2, &v);
    }
    case 1: {
        struct wire_response_head v = head_frame();
        return wire_encode_response_head(out, cap, 2, &v);
    }
    case 2:
        return wire_encode_window(out, cap, 2, 65536);
    case 3:
        return wire_encode_reset(out, cap, 2, WIRE_CODE_CANCEL, reason);
    default: {
        int n = wire_encode_data_header(out, 2, 1024);
        memset(out + n, 'x', 1024);
        return n + 1024;
    }
    }
}

int main(void) {
    static const char *const names[] = {"STREAM_OPEN with 7 headers", "STREAM_RESPONSE_HEAD with 5 headers", "WINDOW",
                                        "RESET", "DATA of 1 KiB"};
    static const struct wire_asm_ops ops = {on_frame, on_data};
    static uint8_t message[256 * 1024];
    scratch = wire_scratch_create();
    if (!scratch)
        return 1;
    for (int kind = 0; kind < (int)HT_ARRAY_LEN(names); kind++) {
        bool to_kit = kind != 0;
        uint64_t start = ht_now_us();
        for (int round = 0; round < ROUNDS; round++) {
            struct wire_asm a = {
                .role = to_kit ? WIRE_ROLE_KIT : WIRE_ROLE_DRIVER, .state = WIRE_LINK_OPEN, .caps = ~0u};
            struct wire_error err;
            size_t n = 0;
            for (int i = 0; i < BATCH; i++) {
                int len = encode(kind, message + n, sizeof message - n);
                if (len < 0)
                    return 1;
                n += (size_t)len;
            }
            if (wire_asm_feed(&a, message, n, true, &ops, NULL, &err) != (ssize_t)n) {
                fprintf(stderr, "%s: %s\n", names[kind], err.text);
                return 1;
            }
        }
        double seconds = (double)(ht_now_us() - start) / 1e6;
        printf("%s: %.0f\n", names[kind], (double)ROUNDS * BATCH / seconds);
    }
    wire_scratch_destroy(&scratch);
    return seen == 0;
}
