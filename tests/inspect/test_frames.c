/* WebSocket messages and server-sent events: whole, byte by byte, split at each position, and broken. */
#include "base/mem.h"
#include "inspect/frames.h"
#include "support/tap.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <zlib.h>

/* ---- what was found, as a text ---- */

static char found[4000];

static void put(const char *fmt, ...) {
    va_list args;
    size_t n = strlen(found);
    va_start(args, fmt);
    vsnprintf(found + n, sizeof found - n, fmt, args);
    va_end(args);
}

static void emit(void *ctx, const struct inspect_frame *f) {
    (void)ctx;
    put("%s %llu%s%s [%.*s]", inspect_opcode_word(f->opcode), (unsigned long long)f->size, f->truncated ? " cut" : "",
        f->compressed ? " packed" : "", (int)ht_min(f->data.n, 40), f->data.n ? f->data.p : "");
    if (f->event.n)
        put(" event=%.*s", HT_SLICE_ARG(f->event));
    if (f->id.n)
        put(" id=%.*s", HT_SLICE_ARG(f->id));
    put("; ");
}

static void expect(const char *want) {
    if (strcmp(found, want) != 0)
        printf("# %s\n# instead of %s\n", found, want);
    CU_ASSERT_STRING_EQUAL(found, want);
    found[0] = '\0';
}

/* Feeds bytes that are allocated exactly, so that a read beyond them is seen. */
static void feed_ws(struct inspect_ws *w, struct ht_slice s) {
    char *exact = malloc(s.n ? s.n : 1);
    memcpy(exact, s.p ? s.p : "", s.n);
    inspect_ws_feed(w, ht_slice_of(exact, s.n));
    free(exact);
}

static struct inspect_ws ws_like(const struct inspect_ws *like) {
    struct inspect_ws w = {
        .max = like->max ? like->max : 100, .deflate = like->deflate, .no_takeover = like->no_takeover, .emit = emit};
    return w;
}

/* Whole, byte by byte, and in two pieces at each position. */
static void ws_finds(struct inspect_ws like, struct ht_slice bytes, const char *want) {
    for (size_t at = 0; at <= bytes.n + 1; at++) {
        struct inspect_ws w = ws_like(&like);
        if (at <= bytes.n) {
            feed_ws(&w, ht_slice_of(bytes.p, at));
            feed_ws(&w, ht_slice_of(bytes.p + at, bytes.n - at));
        }
        for (size_t i = 0; at > bytes.n && i < bytes.n; i++)
            feed_ws(&w, ht_slice_of(bytes.p + i, 1));
        inspect_ws_free(&w);
        expect(want);
    }
}

#define BYTES(text) ht_slice_of(text, sizeof(text) - 1)

static void messages(void) {
    ws_finds((struct inspect_ws){0}, BYTES("\x81\x05Hello"), "text 5 [Hello]; ");
    ws_finds((struct inspect_ws){0}, BYTES("\x81\x85\x37\xfa\x21\x3d\x7f\x9f\x4d\x51\x58"),
             "text 5 [Hello]; "); /* RFC 6455 5.7 */
    ws_finds((struct inspect_ws){0}, BYTES("\x01\x03Hel\x89\x02hi\x80\x02lo\x8a\x00"),
             "ping 2 [hi]; text 5 [Hello]; pong 0 []; ");
    ws_finds((struct inspect_ws){0}, BYTES("\x82\x00\x81\x00"), "binary 0 []; text 0 []; ");
    ws_finds((struct inspect_ws){0},
             BYTES("\x88\x05\x03\xe8"
                   "bye\x88\x02\x03\xe9\x88\x00"),
             "close 5 [1000 bye]; close 2 [1001]; close 0 []; ");
    ws_finds((struct inspect_ws){0},
             BYTES("\x82\x7e\x00\x03"
                   "abc\x82\x7f\x00\x00\x00\x00\x00\x00\x00\x02"
                   "de"),
             "binary 3 [abc]; binary 2 [de]; ");
    ws_finds((struct inspect_ws){.max = 3},
             BYTES("\x81\x05Hello\x01\x02"
                   "ab\x80\x02"
                   "cd"),
             "text 5 cut [Hel]; text 4 cut [abc]; ");
    ws_finds((struct inspect_ws){0}, BYTES("\x81\x05Hell"), "");
}

/* What no WebSocket says ends the looking; what came before was told. */
static void broken_ones(void) {
    static const struct ht_slice rows[] = {
        {"\x83\x00", 2},                                  /* a reserved opcode */
        {"\x8b\x00", 2},                                  /* a reserved control */
        {"\x80\x00", 2},                                  /* a continuation of nothing */
        {"\x01\x00\x01\x00", 4},                          /* a message within a message */
        {"\x09\x00", 2},                                  /* a fragmented control */
        {"\x89\x7e\x00\x7e", 4},                          /* a long one */
        {"\xc1\x00", 2},                                  /* compressed, which was not agreed on */
        {"\xa1\x00", 2},                                  /* a reserved bit */
        {"\x82\x7f\xff\xff\xff\xff\xff\xff\xff\xff", 10}, /* a length beyond 63 bits */
    };
    for (size_t i = 0; i < HT_ARRAY_LEN(rows); i++) {
        char bytes[40] = "\x89\x01!";
        memcpy(bytes + 3, rows[i].p, rows[i].n);
        memcpy(bytes + 3 + rows[i].n, "\x81\x01?", 3);
        ws_finds((struct inspect_ws){0}, ht_slice_of(bytes, rows[i].n + 6), "ping 1 [!]; ");
    }
    static const char control[4 + 126] = "\x89\x7e\x00\x7e"; /* a whole one that is too long */
    ws_finds((struct inspect_ws){.max = 0}, ht_slice_of(control, sizeof control), "");
    ws_finds((struct inspect_ws){.deflate = true}, BYTES("\x89\x01!\xc9\x00"),
             "ping 1 [!]; "); /* a compressed control */
}

/* ---- compression ---- */

/* A frame with `text`, compressed as one message of the connection whose compressor is `z`. */
static size_t packed(z_stream *z, const char *text, size_t n, uint8_t *to, size_t cap) {
    static uint8_t body[1 << 20];
    z->next_in = (Bytef *)(uintptr_t)text;
    z->avail_in = (uInt)n;
    z->next_out = body;
    z->avail_out = sizeof body;
    CU_ASSERT_EQUAL(deflate(z, Z_SYNC_FLUSH), Z_OK);
    size_t size = sizeof body - z->avail_out - 4, head = size < 126 ? 2 : 10;
    CU_ASSERT_FATAL(head + size <= cap);
    to[0] = 0xc1;
    to[1] = (uint8_t)(size < 126 ? size : 127);
    for (size_t i = 2; i < head; i++)
        to[i] = (uint8_t)(size >> 8 * (9 - i));
    memcpy(to + head, body, size);
    return head + size;
}

static void compressor(z_stream *z) {
    *z = (z_stream){.avail_in = 0};
    CU_ASSERT_EQUAL_FATAL(deflateInit2(z, 9, Z_DEFLATED, -15, 8, Z_DEFAULT_STRATEGY), Z_OK);
}

static void compression(void) {
    uint8_t b[400];
    z_stream z;
    compressor(&z);
    size_t n = packed(&z, "Hello, Hello", 12, b, sizeof b);
    n += packed(&z, "Hello, Hello", 12, b + n, sizeof b - n); /* refers to the first */
    memcpy(b + n, "\x81\x01!", 3);                            /* a message may go without */
    n += 3;
    n += packed(&z, "Hello, Hello again", 18, b + n, sizeof b - n);
    memcpy(b + n, "\xc1\x01\x00", 3); /* an empty one (RFC 7692 7.2.3.6) */
    n += 3;
    ws_finds((struct inspect_ws){.deflate = true}, ht_slice_of(b, n),
             "text 12 [Hello, Hello]; text 12 [Hello, Hello]; text 1 [!]; text 18 [Hello, Hello again]; text 0 []; ");
    ws_finds((struct inspect_ws){.deflate = true, .max = 4}, ht_slice_of(b, n),
             "text 12 cut [Hell]; text 12 cut [Hell]; text 1 [!]; text 18 cut [Hell]; text 0 []; ");
    deflateReset(&z);
    n = packed(&z, "Hello, Hello", 12, b, sizeof b);
    deflateReset(&z);
    n += packed(&z, "Hello, Hello", 12, b + n, sizeof b - n);
    ws_finds((struct inspect_ws){.deflate = true, .no_takeover = true}, ht_slice_of(b, n),
             "text 12 [Hello, Hello]; text 12 [Hello, Hello]; ");
    deflateEnd(&z);
    /* RFC 7692 7.2.3.1, 7.2.3.3, 7.2.3.4: one frame, two, without compression, with a last block */
    ws_finds((struct inspect_ws){.deflate = true},
             BYTES("\xc1\x07\xf2\x48\xcd\xc9\xc9\x07\x00\x41\x03\xf2\x48\xcd\x80\x04\xc9\xc9\x07\x00"),
             "text 5 [Hello]; text 5 [Hello]; ");
    ws_finds((struct inspect_ws){.deflate = true}, BYTES("\xc1\x0b\x00\x05\x00\xfa\xffHello\x00"), "text 5 [Hello]; ");
    ws_finds((struct inspect_ws){.deflate = true},
             BYTES("\xc1\x08\xf3\x48\xcd\xc9\xc9\x07\x00\x00\xc1\x05\xf2\x00\x11\x00\x00"),
             "text 5 [Hello]; text 5 [Hello]; ");
}

/* A message that inflates to more than anybody wants, and one that is no deflate: shown as they came. */
static void bombs(void) {
    enum { SIZE = 40 << 20 };
    static uint8_t b[1 << 20];
    char *zeros = calloc(1, SIZE);
    z_stream z;
    compressor(&z);
    struct inspect_ws w = {.deflate = true, .max = 30, .emit = emit};
    size_t n = packed(&z, zeros, SIZE, b, sizeof b), bytes = ht_mem_bytes();
    inspect_ws_feed(&w, ht_slice_of(b, n / 2));
    CU_ASSERT(ht_mem_bytes() - bytes < 100000);
    inspect_ws_feed(&w, ht_slice_of(b + n / 2, n - n / 2));
    CU_ASSERT_PTR_NULL(w.inflate);
    CU_ASSERT_PTR_NOT_NULL(strstr(found, "cut packed"));
    found[0] = '\0';
    n = packed(&z, "more", 4, b, sizeof b);
    inspect_ws_feed(&w, ht_slice_of(b, n));
    CU_ASSERT_PTR_NOT_NULL(strstr(found, " packed ["));
    found[0] = '\0';
    inspect_ws_feed(&w, BYTES("\x81\x05plain"));
    expect("text 5 [plain]; ");
    inspect_ws_free(&w);
    deflateEnd(&z);
    free(zeros);
    ws_finds((struct inspect_ws){.deflate = true}, BYTES("\xc1\x04\xff\xff\xff\xff\x81\x01!"),
             "text 4 packed [\xff\xff\xff\xff]; text 1 [!]; ");
}

/* Messages that are each below the bound, again and again: they cost time in proportion to what was sent for them. */
static void many_bombs(void) {
    enum { SIZE = 12 << 20 };
    static uint8_t b[1 << 20];
    char *zeros = calloc(1, SIZE);
    z_stream z;
    compressor(&z);
    struct inspect_ws w = {.deflate = true, .max = 3, .emit = emit};
    size_t sent = 0;
    uint64_t inflated = 0;
    for (int i = 0; i < 8; i++) {
        size_t n = packed(&z, zeros, SIZE, b, sizeof b);
        inspect_ws_feed(&w, ht_slice_of(b, n));
        sent += n;
        inflated += strstr(found, "packed") ? 0 : SIZE;
        found[0] = '\0';
    }
    CU_ASSERT(inflated >= SIZE && inflated <= INSPECT_DECODE_AHEAD + INSPECT_DECODE_RATIO * (uint64_t)sent);
    inspect_ws_free(&w);
    deflateEnd(&z);
    free(zeros);
}

static void extensions(void) {
    static const struct {
        const char *value;
        bool deflate, up, down;
    } rows[] = {
        {"", false, false, false},
        {"permessage-deflate", true, false, false},
        {"x-other; a=1, permessage-deflate ; client_max_window_bits=12; server_no_context_takeover", true, false, true},
        {"Permessage-Deflate;client_no_context_takeover;", true, true, false},
        {"permessage-deflated, ,;", false, false, false},
    };
    for (size_t i = 0; i < HT_ARRAY_LEN(rows); i++) {
        struct inspect_ws up = {0}, down = {0};
        inspect_ws_extensions(ht_slice_str(rows[i].value), &up, &down);
        CU_ASSERT_EQUAL(up.deflate, rows[i].deflate);
        CU_ASSERT_EQUAL(down.deflate, rows[i].deflate);
        CU_ASSERT_EQUAL(up.no_takeover, rows[i].up);
        CU_ASSERT_EQUAL(down.no_takeover, rows[i].down);
    }
}

/* ---- server-sent events ---- */

static void sse_finds(uint32_t max, const char *text, const char *want) {
    size_t n = strlen(text);
    for (size_t at = 0; at <= n + 1; at++) {
        struct inspect_sse s = {.max = max, .emit = emit};
        char *exact = malloc(n + 1);
        memcpy(exact, text, n);
        if (at <= n) {
            inspect_sse_feed(&s, ht_slice_of(exact, at));
            inspect_sse_feed(&s, ht_slice_of(exact + at, n - at));
        }
        for (size_t i = 0; at > n && i < n; i++)
            inspect_sse_feed(&s, ht_slice_of(exact + i, 1));
        inspect_sse_free(&s);
        free(exact);
        expect(want);
    }
}

static void events(void) {
    sse_finds(100, "data: one\n\n", "text 3 [one]; ");
    sse_finds(100, "data: one\r\ndata:two\r\n\r\ndata:  three\r\r", "text 7 [one\ntwo]; text 6 [ three]; ");
    sse_finds(100,
              "\xef\xbb\xbf"
              "event: add\nid: 7\ndata: x\n\nid\ndata: y\n\n",
              "text 1 [x] event=add id=7; text 1 [y]; ");
    sse_finds(100, ": comment\nretry: 10\n\nevent: none\n\ndata\n\ndata\ndata\n\n", "text 0 []; text 1 [\n]; ");
    sse_finds(100, "database: 1\ndat: 2\nDATA: 3\n\ndata: cut", "");
    sse_finds(4, "data: one\ndata: two\n\n", "text 7 cut [one\n]; ");
    sse_finds(100, "event: a\nevent: b\ndata: {\"a\": 1}\n\n", "text 8 [{\"a\": 1}] event=b; ");
    sse_finds(100,
              "\xef\xbb"
              "data: x\n\n",
              ""); /* half a mark is the beginning of another name */
    sse_finds(100, "\n\n\r\n: hi\n\ndata: x\n\n", "text 1 [x]; ");
}

static void long_names(void) {
    char text[2 * INSPECT_SSE_NAME + 30];
    memcpy(text, "event: ", 7);
    memset(text + 7, 'e', INSPECT_SSE_NAME + 10);
    strcpy(text + 7 + INSPECT_SSE_NAME + 10, "\ndata: x\n\n");
    struct inspect_sse s = {.max = 100, .emit = emit};
    inspect_sse_feed(&s, ht_slice_str(text));
    CU_ASSERT_EQUAL(strspn(strstr(found, "event=") + 6, "e"), INSPECT_SSE_NAME);
    found[0] = '\0';
    inspect_sse_free(&s);
}

/* ---- without memory ---- */

static void each_allocation_fails(void) {
    size_t blocks = ht_mem_live();
    for (long i = 0;; i++) {
        struct inspect_ws w = {.deflate = true, .max = 100, .emit = emit};
        struct inspect_sse s = {.max = 100, .emit = emit};
        ht_mem_fail_at(i);
        inspect_ws_feed(&w, BYTES("\xc1\x07\xf2\x48\xcd\xc9\xc9\x07\x00\x81\x05Hello\xc1\x05\xf2\x00\x11\x00\x00"));
        inspect_sse_feed(&s, ht_slice_str("data: one\n\n"));
        bool over = ht_mem_fail_pending();
        ht_mem_fail_at(-1);
        inspect_ws_free(&w);
        inspect_sse_free(&s);
        CU_ASSERT_EQUAL(ht_mem_live(), blocks);
        unsigned n = 0;
        for (const char *at = found; (at = strstr(at, "; ")) != NULL; at += 2)
            n++;
        CU_ASSERT_EQUAL(n, 4); /* each is told of, if only by its size */
        found[0] = '\0';
        if (over)
            break;
    }
}

int main(void) {
    static const struct tap_test tests[] = {
        {"messages", messages},
        {"what is no WebSocket", broken_ones},
        {"compressed messages", compression},
        {"bombs", bombs},
        {"many bombs", many_bombs},
        {"extensions", extensions},
        {"server-sent events", events},
        {"long names of events", long_names},
        {"each allocation fails", each_allocation_fails},
        {NULL, NULL},
    };
    return tap_main("inspect frames", tests);
}
