/* SPOP: every frame byte by byte, numbers at their borders, what HAProxy says, and what is no frame. */
#include "base/mem.h"
#include "edge/spop.h"
#include "support/tap.h"

#include <stdio.h>
#include <stdlib.h>

static struct ht_slice bytes(const struct ht_buf *b) { return ht_buf_slice(b); }

/* HAProxy's bytes, from a description: the length comes by itself. */
static void frame_of(struct ht_buf *b, uint8_t type, uint8_t flags, const char *ids, size_t n_ids, const char *payload,
                     size_t n) {
    uint8_t head[] = {0, 0, 0, 0, type, 0, 0, 0, flags};
    size_t len = sizeof head - 4 + n_ids + n;
    head[2] = (uint8_t)(len >> 8);
    head[3] = (uint8_t)len;
    CU_ASSERT(ht_buf_append(b, head, sizeof head) == 0 && ht_buf_append(b, ids, n_ids) == 0 &&
              ht_buf_append(b, payload, n) == 0);
}

#define FRAME(b, type, flags, ids, payload) frame_of(b, type, flags, ids, sizeof(ids) - 1, payload, sizeof(payload) - 1)

static void frames_come_in_pieces(void) {
    static const char payload[] = "\4gate\2\4path\10\2/x\3src\6\1\2\3\4";
    struct ht_buf b = {0};
    struct spop_frame f;
    enum spop_status why;
    FRAME(&b, SPOP_NOTIFY, 1, "\xf0\x01\2", payload);
    size_t whole = ht_buf_size(&b);
    CU_ASSERT_EQUAL(ht_buf_append(&b, "next", 4), 0);
    for (size_t n = 0; n < whole; n++) {
        char *copy = malloc(n ? n : 1); /* a step too far is seen */
        memcpy(copy, ht_buf_head(&b), n);
        CU_ASSERT_EQUAL(spop_frame_read(ht_slice_of(copy, n), SPOP_FRAME_MAX, &f, &why), HT_EAGAIN);
        free(copy);
    }
    CU_ASSERT_EQUAL(spop_frame_read(bytes(&b), SPOP_FRAME_MAX, &f, &why), (ssize_t)whole);
    CU_ASSERT(f.type == SPOP_NOTIFY && f.stream == 256 && f.frame == 2 && f.payload.n == sizeof payload - 1);
    struct ht_slice rest = f.payload, name;
    struct spop_value v;
    unsigned args;
    CU_ASSERT(spop_next_message(&rest, &name, &args) == 1 && ht_slice_is(name, "gate") && args == 2);
    CU_ASSERT(spop_next_pair(&rest, &name, &v) == 1 && ht_slice_is(name, "path") && v.kind == SPOP_BYTES &&
              ht_slice_is(v.bytes, "/x"));
    CU_ASSERT(spop_next_pair(&rest, &name, &v) == 1 && ht_slice_is(name, "src") && v.kind == SPOP_ADDRESS &&
              v.bytes.n == 4 && memcmp(v.bytes.p, "\1\2\3\4", 4) == 0);
    CU_ASSERT_EQUAL(spop_next_message(&rest, &name, &args), 0);
    /* A payload that ends anywhere else is refused, and nothing behind it is read. */
    for (size_t n = 1; n < sizeof payload - 1; n++) {
        char *copy = malloc(n);
        memcpy(copy, payload, n);
        rest = ht_slice_of(copy, n);
        int rc = spop_next_message(&rest, &name, &args);
        for (unsigned i = 0; rc > 0 && i < 2; i++)
            rc = spop_next_pair(&rest, &name, &v);
        CU_ASSERT(rc == HT_EPROTO || n == 6 || n == 15);
        free(copy);
    }
    ht_buf_free(&b);
}

static void bad_frames(void) {
    static const struct {
        const char *text;
        size_t n;
        enum spop_status why;
    } rows[] = {
        {"\0\0\x40\0", 4, SPOP_TOO_BIG},
        {"\xff\xff\xff\xff", 4, SPOP_TOO_BIG},
        {"\0\0\0\0", 4, SPOP_INVALID},
        {"\0\0\0\1\3", 5, SPOP_INVALID},
        {"\0\0\0\6\3\0\0\0\1\1", 10, SPOP_INVALID},      /* no frame id */
        {"\0\0\0\6\3\0\0\0\1\xf0", 10, SPOP_INVALID},    /* half a number */
        {"\0\0\0\7\3\0\0\0\0\1\1", 11, SPOP_FRAGMENTED}, /* a piece */
        {"\0\0\0\7\0\0\0\0\1\1\1", 11, SPOP_FRAGMENTED}, /* the last one of several */
        {"\0\0\0\x11\3\0\0\0\1\xff\xff\xff\xff\xff\xff\xff\xff\xff\x10\1\1", 21, SPOP_INVALID}, /* above 2^64 */
    };
    struct spop_frame f;
    enum spop_status why;
    for (size_t i = 0; i < HT_ARRAY_LEN(rows); i++) {
        ssize_t rc = spop_frame_read(ht_slice_of(rows[i].text, rows[i].n), 0x3fff, &f, &why);
        if (rc != HT_EPROTO || why != rows[i].why)
            printf("# row %zu: %zd, %s\n", i, rc, spop_status_text(why));
        CU_ASSERT(rc == HT_EPROTO && why == rows[i].why);
    }
}

/* A number goes out and comes back; its length is that of the specification. */
static void numbers(void) {
    static const struct {
        uint64_t n;
        size_t len;
    } rows[] = {{0, 1},
                {239, 1},
                {240, 2},
                {2287, 2},
                {2288, 3},
                {264431, 3},
                {264432, 4},
                {33818863, 4},
                {33818864, 5},
                {UINT32_MAX, 5},
                {1u << 20, 4},
                {UINT64_MAX / 2, 10},
                {UINT64_MAX - 1, 10},
                {UINT64_MAX, 10}};
    for (size_t i = 0; i < HT_ARRAY_LEN(rows); i++) {
        struct ht_buf b = {0};
        struct spop_frame f;
        enum spop_status why;
        CU_ASSERT_EQUAL(spop_put_ack(&b, rows[i].n, 7, NULL, 0), 0);
        ssize_t n = spop_frame_read(bytes(&b), SPOP_FRAME_MAX, &f, &why);
        if (n != (ssize_t)(4 + 5 + rows[i].len + 1))
            printf("# %llu takes %zd bytes\n", (unsigned long long)rows[i].n, n - 10);
        CU_ASSERT(n == (ssize_t)(4 + 5 + rows[i].len + 1) && f.stream == rows[i].n && f.frame == 7);
        ht_buf_free(&b);
    }
}

static void values(void) {
    /* One of each type, and those that are not known. */
    static const char all[] = "\1a\0"
                              "\1b\1"
                              "\1c\x11"
                              "\1d\2\5"
                              "\1e\3\6"
                              "\1f\4\7"
                              "\1g\5\xf0\0"
                              "\1h\6\1\2\3\4"
                              "\1i\7"
                              "0123456789abcdef"
                              "\1j\10\0"
                              "\1k\11\2\0\1";
    static const enum spop_kind kinds[] = {SPOP_NULL, SPOP_BOOL,    SPOP_BOOL,    SPOP_INT,   SPOP_INT,  SPOP_INT,
                                           SPOP_INT,  SPOP_ADDRESS, SPOP_ADDRESS, SPOP_BYTES, SPOP_BYTES};
    static const uint64_t number[] = {0, 0, 1, 5, 6, 7, 240, 0, 0, 0, 0};
    static const size_t length[] = {0, 0, 0, 0, 0, 0, 0, 4, 16, 0, 2};
    struct ht_slice rest = ht_slice_of(all, sizeof all - 1), name;
    struct spop_value v;
    for (size_t i = 0; i < HT_ARRAY_LEN(kinds); i++)
        CU_ASSERT(spop_next_pair(&rest, &name, &v) == 1 && v.kind == kinds[i] && v.number == number[i] &&
                  v.bytes.n == length[i] && name.n == 1 && *name.p == (char)('a' + i));
    CU_ASSERT_EQUAL(spop_next_pair(&rest, &name, &v), 0);
    for (int type = 10; type < 16; type++) {
        char bad[] = {1, 'x', (char)type, 0};
        rest = ht_slice_of(bad, sizeof bad);
        CU_ASSERT_EQUAL(spop_next_pair(&rest, &name, &v), HT_EPROTO);
    }
}

#define VERSIONS "\22supported-versions\10"
#define MAX_FRAME "\16max-frame-size\3"
#define CAPABLE "\14capabilities\10"

static void hellos(void) {
    static const struct {
        const char *text;
        size_t n;
        enum spop_status why;
        uint32_t max;
        bool check, pipelining;
    } rows[] = {
#define ROW(t, ...) {t, sizeof(t) - 1, __VA_ARGS__}
        ROW(VERSIONS "\3"
                     "2.0" MAX_FRAME "\xfc\xf0\6" CAPABLE "\20pipelining,async",
            SPOP_NORMAL, 16380, false, true),
        ROW(VERSIONS "\10"
                     "1.0, 2.0" MAX_FRAME "\xf0\1" CAPABLE "\0"
                     "\11engine-id\10\1x",
            SPOP_NORMAL, 256, false, false),
        ROW(VERSIONS "\3"
                     "2.0" MAX_FRAME "\xf0\xf4\xff\x1f" CAPABLE "\13 pipelining",
            SPOP_NORMAL, SPOP_FRAME_MAX, false, true),
        ROW(VERSIONS "\3"
                     "2.0" MAX_FRAME "\xf0\1"
                     "\13healthcheck\x11",
            SPOP_NORMAL, 256, true, false),
        ROW("", SPOP_NO_VERSION, 0, false, false),
        ROW(VERSIONS "\3"
                     "1.9",
            SPOP_BAD_VERSION, 0, false, false),
        ROW(VERSIONS "\4"
                     "12.0",
            SPOP_BAD_VERSION, 0, false, false),
        ROW(VERSIONS "\3"
                     "2.0",
            SPOP_NO_MAX_FRAME, 0, false, false),
        ROW(VERSIONS "\3"
                     "2.0" MAX_FRAME "\xf0\0" CAPABLE "\0",
            SPOP_BAD_MAX_FRAME, 240, false, false),
        ROW(VERSIONS "\3"
                     "2.0" MAX_FRAME "\xf0\1",
            SPOP_NO_CAPABILITIES, 256, false, false),
        ROW(VERSIONS "\3"
                     "2.",
            SPOP_INVALID, 0, false, false),
        ROW("\1x", SPOP_INVALID, 0, false, false),
#undef ROW
    };
    for (size_t i = 0; i < HT_ARRAY_LEN(rows); i++) {
        struct spop_hello h;
        enum spop_status why;
        int rc = spop_hello_read(ht_slice_of(rows[i].text, rows[i].n), &h, &why);
        if (why != rows[i].why || h.max_frame != rows[i].max)
            printf("# row %zu: %s, %u\n", i, spop_status_text(why), h.max_frame);
        CU_ASSERT(rc == (why == SPOP_NORMAL ? 0 : HT_EPROTO) && why == rows[i].why && h.max_frame == rows[i].max &&
                  h.check == rows[i].check && h.pipelining == rows[i].pipelining);
    }
}

static void is(const struct ht_buf *b, const char *want, size_t n) {
    CU_ASSERT(ht_slice_eq(bytes(b), ht_slice_of(want, n)));
}

/* Byte by byte as SPOE.txt says. */
static void what_an_agent_says(void) {
    struct spop_hello h = {.max_frame = 16380, .pipelining = true};
    struct ht_buf b = {0};
    static const char hello[] = "\0\0\0\x40\145\0\0\0\1\0\0\7version\10\3"
                                "2.0\16max-frame-size\3\xfc\xf0\6\14"
                                "capabilities\10\12pipelining";
    CU_ASSERT_EQUAL(spop_put_hello(&b, &h), 0);
    is(&b, hello, sizeof hello - 1);
    ht_buf_consume(&b, ht_buf_size(&b));
    static const char gone[] = "\0\0\0\x33\146\0\0\0\1\0\0\13status-code\3\4\7message\10\24"
                               "a frame is not valid";
    CU_ASSERT_EQUAL(spop_put_disconnect(&b, SPOP_INVALID), 0);
    is(&b, gone, sizeof gone - 1);
    ht_buf_consume(&b, ht_buf_size(&b));
    const struct spop_set sets[] = {{"verdict", SPOP_BYTES, 0, ht_slice_str("allow")},
                                    {"strip", SPOP_BOOL, 1, {NULL, 0}},
                                    {"wait", SPOP_INT, 300, {NULL, 0}}};
    static const char ack[] =
        "\0\0\0\x2e\147\0\0\0\1\5\6\1\3\2\7verdict\10\5allow\1\3\2\5strip\x11\1\3\2\4wait\5\xfc\3";
    CU_ASSERT_EQUAL(spop_put_ack(&b, 5, 6, sets, 3), 0);
    is(&b, ack, sizeof ack - 1);
    ht_buf_free(&b);
}

/* Without memory a buffer has what it had before. */
static void no_memory(void) {
    static char large[600];
    const struct spop_set sets[] = {{"verdict", SPOP_BYTES, 0, ht_slice_str("allow")},
                                    {"large", SPOP_BYTES, 0, ht_slice_of(large, sizeof large)}};
    for (long i = 0;; i++) {
        struct ht_buf b = {0};
        int rc = ht_buf_append_str(&b, "before");
        CU_ASSERT_EQUAL(rc, 0);
        ht_mem_fail_at(i);
        rc = spop_put_ack(&b, 1, 2, sets, 2);
        bool failed = !ht_mem_fail_pending();
        ht_mem_fail_at(-1);
        CU_ASSERT(rc == (failed ? HT_ENOMEM : HT_OK) && (!failed || ht_slice_is(bytes(&b), "before")));
        ht_buf_free(&b);
        if (!failed)
            break;
        CU_ASSERT(i < 100);
    }
    CU_ASSERT_EQUAL(ht_mem_live(), 0);
}

static const struct tap_test tests[] = {
    {"a frame is whole at its last byte, and its payload is read to its end and no further", frames_come_in_pieces},
    {"what is no frame: too long, cut inside, in pieces, numbers above 64 bits", bad_frames},
    {"numbers have the bytes that the specification gives them", numbers},
    {"values of each type, and of none", values},
    {"HAProxy's HELLO: versions, sizes, capabilities, health checks", hellos},
    {"what an agent says, byte by byte", what_an_agent_says},
    {"without memory nothing is appended", no_memory},
    {NULL, NULL},
};

int main(void) { return tap_main("edge, SPOP", tests); }
