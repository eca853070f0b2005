/* Encoders and decoders beyond the vectors: bounds of the output, values that may not be sent, the assembler's
 * promises. */
#include "base/mem.h"
#include "support/tap.h"
#include "wire/bytes.h"
#include "wire/frames.h"

#include <stdio.h>
#include <stdlib.h>

static struct wire_scratch *scratch;
static uint8_t out[WIRE_LIMIT_HEADER + WIRE_LIMIT_MAX_PAYLOAD];

static const struct wire_header some_headers[] = {
    {{"host", 4}, {"example:3000", 12}},
    {{"x-latin", 7}, {"caf\xe9 \xff", 6}},
    {{"x-quotes", 8}, {"\"a\" \\ b\t\x01", 9}},
    {{"x-quotes", 8}, {"", 0}},
};

static struct wire_stream_open some_open(void) {
    return (struct wire_stream_open){.kind = WIRE_KIND_HTTP,
                                     .bind_id = 7,
                                     .method = ht_slice_str("GET"),
                                     .target = ht_slice_str("/a?b=\xc3\xa9"),
                                     .headers = some_headers,
                                     .n_headers = HT_ARRAY_LEN(some_headers),
                                     .has_peer_addr = true,
                                     .peer_addr = ht_slice_str("192.0.2.1:5")};
}

static void heads_keep_their_bytes(void) {
    struct wire_stream_open open = some_open(), back;
    int n = wire_encode_stream_open(out, sizeof out, 2, &open);
    CU_ASSERT_FATAL(n > (int)WIRE_LIMIT_HEADER);
    CU_ASSERT_EQUAL(out[0], WIRE_STREAM_OPEN);
    CU_ASSERT_EQUAL(wire_get32(out + 1), 2);
    CU_ASSERT_EQUAL(wire_get32(out + 5) + WIRE_LIMIT_HEADER, (unsigned)n);
    CU_ASSERT_EQUAL_FATAL(wire_decode_stream_open(out + 9, (size_t)n - 9, scratch, &back, NULL), 0);
    CU_ASSERT(ht_slice_eq(back.target, open.target));
    CU_ASSERT_EQUAL_FATAL(back.n_headers, open.n_headers);
    for (size_t i = 0; i < back.n_headers; i++) {
        CU_ASSERT(ht_slice_eq(back.headers[i].name, some_headers[i].name));
        CU_ASSERT(ht_slice_eq(back.headers[i].value, some_headers[i].value));
    }
    CU_ASSERT(back.has_peer_addr && !back.has_container_port && !back.has_http_version && !back.is_upgrade);
    /* Plain strings stay where they are: no copy. */
    CU_ASSERT((const uint8_t *)back.method.p > out && (const uint8_t *)back.method.p < out + n);
}

/* Every byte value at every place of a word, through the fast and the slow paths of the writer. */
static void every_byte_of_a_header(void) {
    for (unsigned c = 1; c < 256; c++)
        for (size_t at = 0; at < 20; at++) {
            char value[20];
            memset(value, 'v', sizeof value);
            value[at] = (char)c;
            struct wire_header h = {ht_slice_str("n"), ht_slice_of(value, sizeof value)};
            struct wire_response_head head = {.status = 200, .headers = &h, .n_headers = 1, .final = true}, back;
            int n = wire_encode_response_head(out, sizeof out, 2, &head);
            if (n < 0 || wire_decode_response_head(out + 9, (size_t)n - 9, scratch, &back, NULL) != 0 ||
                !ht_slice_eq(back.headers[0].value, h.value))
                CU_FAIL("header byte");
        }
}

/* With each capacity below the need: HT_ESPACE, and not a byte behind it touched. */
static void output_is_bounded(void) {
    struct wire_stream_open open = some_open();
    int need = wire_encode_stream_open(out, sizeof out, 2, &open);
    for (int cap = 0; cap <= need; cap++) {
        uint8_t *room = malloc((size_t)cap + 1);
        room[cap] = 0xA5;
        CU_ASSERT_EQUAL(wire_encode_stream_open(room, (size_t)cap, 2, &open), cap < need ? HT_ESPACE : need);
        CU_ASSERT_EQUAL(room[cap], 0xA5);
        free(room);
    }
    uint8_t nonce[8] = "12345678";
    for (size_t cap = 0; cap < 17; cap++)
        CU_ASSERT_EQUAL(wire_encode_ping(out, cap, nonce), HT_ESPACE);
    CU_ASSERT_EQUAL(wire_encode_pong(out, 17, nonce), 17);
    CU_ASSERT_EQUAL(wire_encode_eof(out, 8, 2), HT_ESPACE);
    CU_ASSERT_EQUAL(wire_encode_eof(out, 9, 2), 9);
}

static void a_payload_fits_its_frame(void) {
    static char big[30000], huge[65535];
    memset(big, 'x', sizeof big);
    memset(huge, 'x', sizeof huge);
    static uint8_t room[200000];
    struct wire_header h[] = {
        {{"a", 1}, {big, sizeof big}}, {{"b", 1}, {big, sizeof big}}, {{"c", 1}, {big, sizeof big}}};
    struct wire_response_head head = {.status = 200, .headers = h, .n_headers = 2, .final = true};
    CU_ASSERT(wire_encode_response_head(room, sizeof room, 2, &head) > 60000);
    head.n_headers = 3;
    CU_ASSERT_EQUAL(wire_encode_response_head(room, sizeof room, 2, &head), HT_ESPACE);
    CU_ASSERT_EQUAL(wire_encode_reset(room, sizeof room, 2, 7, ht_slice_of(huge, 65535)), HT_EINVAL);
    CU_ASSERT_EQUAL(wire_encode_reset(room, sizeof room, 2, 7, ht_slice_of(huge, 65534)), 65536 + 9);
}

static void values_that_may_not_be_sent(void) {
    struct wire_stream_open open = some_open();
    CU_ASSERT_EQUAL(wire_encode_stream_open(out, sizeof out, 0, &open), HT_EINVAL); /* FRAME-8 */
    open.kind = WIRE_KIND_UNKNOWN;
    CU_ASSERT_EQUAL(wire_encode_stream_open(out, sizeof out, 2, &open), HT_EINVAL);
    open = some_open();
    open.bind_id = 0;
    CU_ASSERT_EQUAL(wire_encode_stream_open(out, sizeof out, 2, &open), HT_EINVAL);
    open = some_open();
    open.target = ht_slice_of("/\0", 2);
    CU_ASSERT_EQUAL(wire_encode_stream_open(out, sizeof out, 2, &open), HT_EINVAL);
    open = some_open();
    open.peer_addr = ht_slice_str("\xff not UTF-8");
    CU_ASSERT_EQUAL(wire_encode_stream_open(out, sizeof out, 2, &open), HT_EINVAL);
    open = some_open();
    struct wire_header many[129];
    for (size_t i = 0; i < HT_ARRAY_LEN(many); i++)
        many[i] = some_headers[0];
    open.headers = many;
    open.n_headers = 129;
    CU_ASSERT_EQUAL(wire_encode_stream_open(out, sizeof out, 2, &open), HT_EINVAL);
    open.n_headers = 128;
    CU_ASSERT(wire_encode_stream_open(out, sizeof out, 2, &open) > 0);
    CU_ASSERT_EQUAL(wire_encode_window(out, sizeof out, 0, 0), HT_EINVAL); /* FLOW-3 */
    CU_ASSERT_EQUAL(wire_encode_window(out, sizeof out, 0, 1), 13);
    CU_ASSERT_EQUAL(wire_encode_reset(out, sizeof out, 2, 7, ht_slice_str("\xc3")), HT_EINVAL);
    CU_ASSERT_EQUAL(wire_encode_reset(out, sizeof out, 0, 7, ht_slice_str("")), HT_EINVAL);
    struct wire_unbind unbind = {.bind_id = 1};
    CU_ASSERT_EQUAL(wire_encode_unbind(out, sizeof out, 4, &unbind), HT_EINVAL);
    CU_ASSERT_EQUAL(wire_encode_any(out, sizeof out, WIRE_PING, 4, &(union wire_any){0}), HT_EINVAL);
    CU_ASSERT_EQUAL(wire_encode_any(out, sizeof out, WIRE_DATA, 2, NULL), HT_EINVAL);
    CU_ASSERT_EQUAL(wire_encode_any(out, sizeof out, 0x7E, 2, NULL), HT_EINVAL);
    CU_ASSERT_EQUAL(wire_encode_any(out, sizeof out, WIRE_EOF, 2, NULL), 9);
    struct wire_reissue none = {0};
    CU_ASSERT_EQUAL(wire_encode_reissue(out, sizeof out, 0, &none), HT_EINVAL); /* FIELD-5 */
}

static int decode_bind(const char *json, struct wire_bind *bind, struct wire_error *err) {
    return wire_decode_bind((const uint8_t *)json, strlen(json), scratch, bind, err);
}

/* BIND-5: whatever else is wrong, the reference is read when it can be, and the text names the field. */
static void a_bad_bind_can_be_answered(void) {
    struct wire_bind b;
    struct wire_error err;
    CU_ASSERT_EQUAL(
        decode_bind("{\"containerPort\":70000,\"kind\":\"http\",\"mode\":\"expose\",\"clientBindRef\":5}", &b, &err),
        HT_EPROTO);
    CU_ASSERT(b.has_client_bind_ref && b.client_bind_ref == 5);
    CU_ASSERT_PTR_NOT_NULL(strstr(err.text, "BIND.containerPort"));
    CU_ASSERT_EQUAL(err.scope, WIRE_SCOPE_REPLY);
    CU_ASSERT_EQUAL(decode_bind("{\"kind\":7,\"clientBindRef\":6}", &b, &err), HT_EPROTO);
    CU_ASSERT(b.has_client_bind_ref && b.client_bind_ref == 6);
    CU_ASSERT_PTR_NOT_NULL(strstr(err.text, "BIND.kind"));
    CU_ASSERT_EQUAL(decode_bind("{\"clientBindRef\":7,", &b, &err), HT_EPROTO);
    CU_ASSERT_STRING_EQUAL(err.rule, "JSON-1");
    CU_ASSERT_EQUAL(decode_bind("{\"kind\":\"http\",\"mode\":\"expose\"}", &b, &err), HT_EPROTO);
    CU_ASSERT(!b.has_client_bind_ref);
    CU_ASSERT_PTR_NOT_NULL(strstr(err.text, "BIND.clientBindRef"));
    /* Kinds and modes of the future are for the binding table to refuse (BIND-2). */
    CU_ASSERT_EQUAL(decode_bind("{\"kind\":\"udp\",\"mode\":\"expose\",\"clientBindRef\":1}", &b, &err), 0);
    CU_ASSERT_EQUAL(b.kind, WIRE_KIND_UNKNOWN);
    /* 0, null and absent are the same port. */
    CU_ASSERT_EQUAL(
        decode_bind("{\"kind\":\"tcp\",\"mode\":\"pull\",\"clientBindRef\":1,\"containerPort\":null}", &b, &err), 0);
    CU_ASSERT_EQUAL(b.container_port, 0);
}

static void absent_windows_have_their_defaults(void) {
    static const char json[] = "{\"sessionId\":\"S-1\"}", null[] = "{\"sessionId\":\"S-1\",\"streamWindow\":null}";
    struct wire_hello_ok ok;
    CU_ASSERT_EQUAL(wire_decode_hello_ok((const uint8_t *)json, sizeof json - 1, scratch, &ok, NULL), 0);
    CU_ASSERT_EQUAL(ok.stream_window, WIRE_LIMIT_STREAM_WINDOW);
    CU_ASSERT_EQUAL(ok.session_window, WIRE_LIMIT_SESSION_WINDOW);
    CU_ASSERT_EQUAL(ok.connections_granted, 1);
    CU_ASSERT_EQUAL(wire_decode_hello_ok((const uint8_t *)null, sizeof null - 1, scratch, &ok, NULL),
                    HT_EPROTO); /* HELLO-9 */
}

/* A published driver that was given no token still sends auth, without one. */
static void auth_without_a_token(void) {
    static const char json[] = "{\"version\":\"hoody-tunnel.v1\",\"auth\":{\"kind\":\"bearer\"},\"capabilities\":[]}";
    struct wire_hello hello;
    CU_ASSERT_EQUAL(wire_decode_hello((const uint8_t *)json, sizeof json - 1, scratch, &hello, NULL), 0);
    CU_ASSERT(hello.has_auth && hello.auth.token.n == 0 && !hello.has_resume && !hello.has_max_connections);
}

static void names(void) {
    CU_ASSERT_STRING_EQUAL(wire_frame_name(WIRE_STREAM_OPEN), "STREAM_OPEN");
    CU_ASSERT_STRING_EQUAL(wire_frame_name(0x7F), "unknown");
    CU_ASSERT_STRING_EQUAL(wire_code_name(WIRE_CODE_BIND_TAKEOVER), "BIND_TAKEOVER");
    CU_ASSERT_STRING_EQUAL(wire_code_name(4711), "unknown");
    CU_ASSERT_STRING_EQUAL(wire_role_name(WIRE_ROLE_DRIVER), "driver");
    CU_ASSERT_STRING_EQUAL(wire_link_state_name((enum wire_link_state)77), "unknown");
    CU_ASSERT_STRING_EQUAL(wire_version_text(WIRE_V2), WIRE_SUBPROTOCOL_V2);
    CU_ASSERT_EQUAL(wire_version_from(ht_slice_str(WIRE_SUBPROTOCOL_V1)), WIRE_V1);
    CU_ASSERT_EQUAL(wire_version_from(ht_slice_str("hoody-tunnel.v")), WIRE_VERSION_UNKNOWN);
    CU_ASSERT_EQUAL(wire_bind_error_from(ht_slice_str("PORT_IN_USE")), WIRE_BIND_ERROR_PORT_IN_USE);
    CU_ASSERT_PTR_NULL(wire_kind_text(WIRE_KIND_UNKNOWN));
    CU_ASSERT_PTR_NULL(wire_kind_text((enum wire_kind)9));
}

static void sends_are_checked(void) {
    CU_ASSERT_EQUAL(wire_check_tx(WIRE_ROLE_KIT, WIRE_LINK_OPEN, WIRE_STREAM_OPEN, 2, 100, NULL), 0);
    CU_ASSERT_EQUAL(wire_check_tx(WIRE_ROLE_DRIVER, WIRE_LINK_OPEN, WIRE_STREAM_OPEN, 2, 100, NULL), HT_EPROTO);
    CU_ASSERT_EQUAL(wire_check_tx(WIRE_ROLE_KIT, WIRE_LINK_OPEN, WIRE_STREAM_OPEN, 0, 100, NULL), HT_EPROTO);
    CU_ASSERT_EQUAL(wire_check_tx(WIRE_ROLE_KIT, WIRE_LINK_AWAIT_HELLO, WIRE_STREAM_OPEN, 2, 100, NULL), HT_EPROTO);
    CU_ASSERT_EQUAL(wire_check_tx(WIRE_ROLE_DRIVER, WIRE_LINK_AWAIT_HELLO_OK, WIRE_HELLO, 0, 100, NULL), 0);
    CU_ASSERT_EQUAL(wire_check_tx(WIRE_ROLE_KIT, WIRE_LINK_AWAIT_HELLO, WIRE_HELLO_OK, 0, 100, NULL), 0);
    CU_ASSERT_EQUAL(wire_check_tx(WIRE_ROLE_KIT, WIRE_LINK_AWAIT_HELLO, WIRE_GOAWAY, 0, 100, NULL), 0);
    CU_ASSERT_EQUAL(wire_check_tx(WIRE_ROLE_KIT, WIRE_LINK_OPEN, WIRE_DATA, 2, 65537, NULL), HT_EPROTO);
    CU_ASSERT_EQUAL(wire_check_tx(WIRE_ROLE_KIT, WIRE_LINK_OPEN, 0x0F, 0, 0, NULL), HT_EPROTO);
    wire_assert_tx(WIRE_ROLE_KIT, WIRE_LINK_OPEN, WIRE_PING, 0, 8);
}

/* A version knows its own frames, fields, capabilities and limits; to it others are unknown ones. */
static void versions_are_kept_apart(void) {
    struct wire_error err;
    struct wire_hello hello;
    static const char text[] = "{\"version\":\"hoody-tunnel.v1\",\"maxConnections\":\"many\"}";
    CU_ASSERT_EQUAL(wire_check_rx_in(WIRE_V2, WIRE_ROLE_KIT, WIRE_LINK_AWAIT_HELLO, WIRE_JOIN, 0, 50, &err), 0);
    CU_ASSERT_EQUAL(wire_check_rx_in(WIRE_V1, WIRE_ROLE_KIT, WIRE_LINK_AWAIT_HELLO, WIRE_JOIN, 0, 50, &err), HT_EPROTO);
    CU_ASSERT_STRING_EQUAL(err.rule, "FRAME-6");
    /* So does one of a capability that was not agreed on; below the range that is skipped rules of its own say what. */
    const enum wire_link_state open = WIRE_LINK_OPEN;
    for (uint32_t id = 0; id < 3; id += 2)
        for (int role = 0; role < 2; role++)
            CU_ASSERT_EQUAL(wire_check_rx_agreed(WIRE_V1, WIRE_CAP_AUTO_WINDOW, role ? WIRE_ROLE_KIT : WIRE_ROLE_DRIVER,
                                                 open, WIRE_STREAM_TRAILERS, id, 0, &err),
                            1);
    CU_ASSERT_EQUAL(
        wire_check_rx_agreed(WIRE_V1, WIRE_CAP_TRAILERS, WIRE_ROLE_KIT, open, WIRE_STREAM_TRAILERS, 2, 9, &err), 0);
    CU_ASSERT_EQUAL(
        wire_check_rx_agreed(WIRE_V1, WIRE_CAP_TRAILERS, WIRE_ROLE_KIT, open, WIRE_STREAM_TRAILERS, 0, 9, &err),
        HT_EPROTO);
    CU_ASSERT_EQUAL(wire_check_rx_agreed(WIRE_V2, 0, WIRE_ROLE_DRIVER, open, WIRE_SHARD_MAP, 0, 50, &err), 0);
    CU_ASSERT(wire_frame_in(WIRE_V2, WIRE_JOIN) && wire_frame_in(0, WIRE_JOIN) && !wire_frame_in(WIRE_V1, WIRE_JOIN));
    CU_ASSERT(!wire_frame_in(WIRE_V2, 0x0F));
    CU_ASSERT(wire_caps_in(WIRE_V2) & WIRE_CAP_MULTI_WS);
    CU_ASSERT(!(wire_caps_in(WIRE_V1) & WIRE_CAP_MULTI_WS));
    CU_ASSERT(wire_caps_in(WIRE_V1) & WIRE_CAP_AUTO_WINDOW);
    CU_ASSERT_EQUAL(WIRE_LIMIT_OF(WIRE_V1, MAX_FRAMES), 64);
    const uint8_t *p = (const uint8_t *)text;
    CU_ASSERT_EQUAL(wire_decode_hello(p, sizeof text - 1, wire_scratch_for(scratch, WIRE_V1), &hello, &err), 0);
    CU_ASSERT(!hello.has_max_connections);
    CU_ASSERT_EQUAL(wire_decode_hello(p, sizeof text - 1, wire_scratch_for(scratch, WIRE_V2), &hello, &err), HT_EPROTO);
    CU_ASSERT_STRING_EQUAL(err.rule, "FIELD-1");
    CU_ASSERT_EQUAL(wire_decode_hello(p, sizeof text - 1, wire_scratch_for(scratch, 0), &hello, &err), HT_EPROTO);
}

/* Names become a set and a set becomes names, whatever there are and however often a peer says them. */
static void capabilities_are_a_set(void) {
    struct ht_slice names[WIRE_N_CAPABILITIES], said[40];
    CU_ASSERT_EQUAL(wire_caps_names(0, names), 0);
    unsigned all = wire_caps_in(0);
    CU_ASSERT_EQUAL(all, (1u << WIRE_N_CAPABILITIES) - 1);
    CU_ASSERT_EQUAL(wire_caps_names(all, names), WIRE_N_CAPABILITIES);
    CU_ASSERT_EQUAL(wire_caps_of(WIRE_V2, names, WIRE_N_CAPABILITIES), all);
    CU_ASSERT_EQUAL(wire_caps_of(WIRE_V1, names, WIRE_N_CAPABILITIES), wire_caps_in(WIRE_V1));
    for (size_t i = 0; i < HT_ARRAY_LEN(said); i++)
        said[i] = ht_slice_str(i % 2 ? "auto-window" : "no-such-thing");
    CU_ASSERT_EQUAL(wire_caps_of(WIRE_V1, said, HT_ARRAY_LEN(said)), WIRE_CAP_AUTO_WINDOW);
    CU_ASSERT_EQUAL(wire_caps_names(WIRE_CAP_AUTO_WINDOW, names), 1);
    CU_ASSERT(ht_slice_is(names[0], "auto-window"));
    CU_ASSERT(!(WIRE_CAPS_OURS & WIRE_CAP_MULTI_WS));
    CU_ASSERT(WIRE_CAPS_OURS & WIRE_CAP_SHARD_MAP);
}

/* ---- the assembler ---- */

struct seen {
    unsigned frames, pieces, firsts;
    size_t bytes;
    int stop; /* returned by the next callback */
    struct wire_asm *a;
    struct wire_error err;
};

static int on_frame(void *ctx, uint8_t type, uint32_t stream_id, const uint8_t *payload, size_t len) {
    struct seen *s = ctx;
    (void)stream_id, (void)payload, (void)len;
    s->frames++;
    if (type == WIRE_HELLO)
        s->a->state = WIRE_LINK_OPEN;
    return s->stop;
}

static int on_data(void *ctx, uint32_t stream_id, const uint8_t *chunk, size_t n, uint32_t frame_len, bool first) {
    struct seen *s = ctx;
    (void)stream_id, (void)chunk, (void)frame_len;
    s->pieces++;
    s->firsts += first;
    s->bytes += n;
    return s->stop;
}

static const struct wire_asm_ops ops = {on_frame, on_data};

static void data_does_not_wait(void) {
    struct wire_asm a = {.role = WIRE_ROLE_KIT, .state = WIRE_LINK_OPEN};
    struct seen s = {.a = &a};
    uint8_t m[9 + 1000 + 9] = {0};
    (void)wire_encode_data_header(m, 2, 1000);
    (void)wire_encode_header(m + 1009, WIRE_EOF, 2, 0);
    CU_ASSERT_EQUAL(wire_asm_feed(&a, m, 8, false, &ops, &s, &s.err), 0); /* half a header stays with the owner */
    CU_ASSERT_EQUAL(wire_asm_feed(&a, m, 9, false, &ops, &s, &s.err), 9);
    CU_ASSERT_EQUAL(s.pieces, 0);
    CU_ASSERT_EQUAL(wire_asm_feed(&a, m + 9, 1, false, &ops, &s, &s.err), 1);
    CU_ASSERT_EQUAL(s.pieces, 1);
    CU_ASSERT_EQUAL(wire_asm_feed(&a, m + 10, 500, false, &ops, &s, &s.err), 500);
    CU_ASSERT_EQUAL(wire_asm_feed(&a, m + 510, sizeof m - 510, true, &ops, &s, &s.err), (ssize_t)(sizeof m - 510));
    CU_ASSERT(s.pieces == 3 && s.firsts == 1 && s.bytes == 1000 && s.frames == 1);
}

static void headers_are_judged_before_their_payload(void) {
    struct wire_asm a = {.role = WIRE_ROLE_KIT, .state = WIRE_LINK_AWAIT_HELLO};
    struct seen s = {.a = &a};
    uint8_t m[9];
    (void)wire_encode_header(m, WIRE_BIND, 0, 60000);
    CU_ASSERT_EQUAL(wire_asm_feed(&a, m, sizeof m, false, &ops, &s, &s.err), HT_EPROTO);
    CU_ASSERT_STRING_EQUAL(s.err.rule, "FRAME-9");
    CU_ASSERT_EQUAL(s.err.ws_close, WIRE_CLOSE_PROTOCOL_ERROR);
}

static void the_state_may_change_inside_a_message(void) {
    struct wire_asm a = {.role = WIRE_ROLE_KIT, .state = WIRE_LINK_AWAIT_HELLO};
    struct seen s = {.a = &a};
    uint8_t m[18];
    (void)wire_encode_header(m, WIRE_HELLO, 0, 0);
    (void)wire_encode_header(m + 9, WIRE_BIND, 0, 0);
    CU_ASSERT_EQUAL(wire_asm_feed(&a, m, sizeof m, true, &ops, &s, &s.err), 18);
    CU_ASSERT_EQUAL(s.frames, 2);
}

static void a_callback_can_stop_it(void) {
    struct wire_asm *a = malloc(sizeof *a);
    *a = (struct wire_asm){.role = WIRE_ROLE_KIT, .state = WIRE_LINK_OPEN};
    struct seen s = {.a = a, .stop = HT_ECLOSED};
    uint8_t m[27];
    for (int i = 0; i < 3; i++)
        (void)wire_encode_header(m + 9 * i, WIRE_EOF, 2, 0);
    CU_ASSERT_EQUAL(wire_asm_feed(a, m, sizeof m, true, &ops, &s, &s.err), HT_ECLOSED);
    CU_ASSERT_EQUAL(s.frames, 1);
    free(a);
}

static void messages_can_be_abandoned(void) {
    struct wire_asm a = {.role = WIRE_ROLE_KIT, .state = WIRE_LINK_OPEN};
    struct seen s = {.a = &a};
    uint8_t m[12] = {0};
    (void)wire_encode_data_header(m, 2, 100);
    CU_ASSERT_EQUAL(wire_asm_feed(&a, m, sizeof m, false, &ops, &s, &s.err), 12);
    wire_asm_begin_message(&a);
    (void)wire_encode_header(m, WIRE_EOF, 2, 0);
    CU_ASSERT_EQUAL(wire_asm_feed(&a, m, 9, true, &ops, &s, &s.err), 9);
    CU_ASSERT_EQUAL(s.frames, 1);
}

/* Limits count anew with every message. */
static void messages_follow_each_other(void) {
    struct wire_asm a = {.role = WIRE_ROLE_KIT, .state = WIRE_LINK_OPEN};
    struct seen s = {.a = &a};
    static uint8_t m[9 * WIRE_LIMIT_MAX_FRAMES];
    for (size_t i = 0; i < WIRE_LIMIT_MAX_FRAMES; i++)
        (void)wire_encode_header(m + 9 * i, WIRE_EOF, 2, 0);
    for (int i = 0; i < 600; i++)
        CU_ASSERT_EQUAL_FATAL(wire_asm_feed(&a, m, sizeof m, true, &ops, &s, &s.err), (ssize_t)sizeof m);
    CU_ASSERT_EQUAL(s.frames, 600 * WIRE_LIMIT_MAX_FRAMES);
}

static void cursors_stop_at_the_end(void) {
    static const uint8_t b[] = {1, 2, 3, 4, 5, 6, 7};
    struct wire_cursor c = wire_cursor_of(b, sizeof b);
    CU_ASSERT_EQUAL(wire_cursor_u8(&c), 1);
    CU_ASSERT_EQUAL(wire_cursor_u16(&c), 0x0203);
    CU_ASSERT_EQUAL(wire_cursor_u32(&c), 0x04050607);
    CU_ASSERT(!c.bad && wire_cursor_left(&c) == 0);
    CU_ASSERT_EQUAL(wire_cursor_u8(&c), 0);
    CU_ASSERT(c.bad);
    c = wire_cursor_of(b, 3);
    CU_ASSERT_EQUAL(wire_cursor_u32(&c), 0);
    CU_ASSERT_EQUAL(wire_cursor_u8(&c), 0); /* bad stays bad */
    CU_ASSERT(c.bad);
    uint8_t eight[8];
    wire_put64(eight, UINT64_C(0x0102030405060708));
    c = wire_cursor_of(eight, sizeof eight);
    CU_ASSERT_EQUAL(eight[0], 1);
    CU_ASSERT_EQUAL(wire_cursor_u64(&c), UINT64_C(0x0102030405060708));
    CU_ASSERT(!c.bad);
    CU_ASSERT_EQUAL(wire_cursor_u64(&c), 0);
    CU_ASSERT(c.bad);
}

static void scratch_can_fail(void) {
    size_t live = ht_mem_live();
    ht_mem_fail_at(0);
    struct wire_scratch *s = wire_scratch_create();
    CU_ASSERT_PTR_NULL(s);
    wire_scratch_destroy(&s);
    wire_scratch_destroy(NULL);
    s = wire_scratch_create();
    CU_ASSERT_PTR_NOT_NULL(s);
    wire_scratch_destroy(&s);
    CU_ASSERT_PTR_NULL(s);
    CU_ASSERT_EQUAL(ht_mem_live(), live);
}

/* Encoding, decoding and assembling take no memory. */
static void nothing_is_allocated(void) {
    size_t live = ht_mem_live();
    ht_mem_fail_at(0);
    heads_keep_their_bytes();
    data_does_not_wait();
    ht_mem_fail_at(-1);
    CU_ASSERT_EQUAL(ht_mem_live(), live);
}

int main(void) {
    static const struct tap_test tests[] = {
        {"heads keep their bytes", heads_keep_their_bytes},
        {"every byte of a header survives", every_byte_of_a_header},
        {"output is bounded", output_is_bounded},
        {"a payload fits its frame", a_payload_fits_its_frame},
        {"invalid values are not written", values_that_may_not_be_sent},
        {"a bad BIND can be answered", a_bad_bind_can_be_answered},
        {"absent windows have their defaults", absent_windows_have_their_defaults},
        {"auth may come without a token", auth_without_a_token},
        {"enum values have names", names},
        {"sends are checked", sends_are_checked},
        {"versions are kept apart", versions_are_kept_apart},
        {"capabilities are a set", capabilities_are_a_set},
        {"DATA does not wait for its frame", data_does_not_wait},
        {"headers are judged before their payload", headers_are_judged_before_their_payload},
        {"the state may change inside a message", the_state_may_change_inside_a_message},
        {"a callback can stop the assembler", a_callback_can_stop_it},
        {"a half-built message can be dropped", messages_can_be_abandoned},
        {"limits count anew with every message", messages_follow_each_other},
        {"cursors stop at the end", cursors_stop_at_the_end},
        {"the allocation of the scratch may fail", scratch_can_fail},
        {"nothing is allocated on the way", nothing_is_allocated},
        {NULL, NULL},
    };
    scratch = wire_scratch_create();
    int status = scratch ? tap_main("codec", tests) : 1;
    wire_scratch_destroy(&scratch);
    return status;
}
