/* Frames, violations, control frames and closing, against a raw peer that sends exactly these bytes. */
#include "ws_peer.h"

#include <malloc.h>
#include <stdio.h>

static struct io_loop *loop;

/* ---- frames ---- */

static void sample(struct ht_buf *wire, struct ht_buf *expect, bool masked, bool big) {
    static uint8_t data[70000];
    for (size_t i = 0; i < sizeof data; i++)
        data[i] = (uint8_t)(i * 31 + i / 256);
    add_frame(wire, BIN, masked, 0, "hello", 5);
    add_message(expect, "hello", 5);
    add_frame(wire, BIN, masked, 0, "", 0);
    add_message(expect, "", 0);
    add_frame(wire, FRAG, masked, 0, data, 7);
    add_frame(wire, PING, masked, 0, "are you there", 13);
    add_frame(wire, CONT, masked, 0, data + 7, 130);
    add_frame(wire, CONT, masked, 0, "", 0);
    add_frame(wire, PONG, masked, 0, "unasked", 7);
    add_frame(wire, LAST, masked, 0, data + 137, 3);
    add_message(expect, data, 140);
    add_frame(wire, FRAG, masked, 0, "", 0);
    add_frame(wire, LAST, masked, 0, "", 0);
    add_message(expect, "", 0);
    add_frame(wire, BIN, masked, 0, data, 125);
    add_message(expect, data, 125);
    add_frame(wire, BIN, masked, 0, data + 1, 126);
    add_message(expect, data + 1, 126);
    if (big) {
        add_frame(wire, BIN, masked, 0, data + 2, 65535);
        add_message(expect, data + 2, 65535);
        add_frame(wire, FRAG, masked, 0, data + 3, 65536);
        add_frame(wire, LAST, masked, 0, data + 3 + 65536, 999);
        add_message(expect, data + 3, 65536 + 999);
    }
    add_frame(wire, BIN, masked, 0, "bye", 3);
    add_message(expect, "bye", 3);
}

static bool equal(const struct ht_buf *a, const struct ht_buf *b) {
    return a->len == b->len && (a->len == 0 || memcmp(a->data, b->data, a->len) == 0);
}

static void frames_whole_by_bytes_and_split(void) {
    for (int side = WS_SERVER; side <= WS_CLIENT; side++) {
        struct ht_buf wire = {0}, big = {0}, expect = {0}, expect_big = {0};
        sample(&wire, &expect, side == WS_SERVER, false);
        sample(&big, &expect_big, side == WS_SERVER, true);
        unsigned bad = 0;
        for (size_t split = 0; split <= wire.len + 1; split++) {
            struct end e;
            /* At 0 whole, behind the end by single bytes; the odd ones come as early bytes of the handshake. */
            bool early = split % 2;
            int fd = end_open(&e, loop, (enum ws_side)side,
                              early ? ht_slice_of(wire.data, ht_min(split, wire.len)) : ht_slice_str(""));
            e.seed = (unsigned)split;
            if (split > wire.len && !early) {
                for (size_t i = 0; i < wire.len; i++) {
                    raw_write(loop, fd, wire.data + i, 1);
                    loop_turns(loop, 1);
                }
            } else {
                size_t at = ht_min(split, wire.len);
                if (!early)
                    raw_write(loop, fd, wire.data, at);
                loop_turns(loop, 1);
                raw_write(loop, fd, wire.data + at, wire.len - at);
            }
            loop_turns(loop, 2);
            bad += !equal(&e.got, &expect) || e.closed || e.feds == 0 || io_loop_blocks(loop)->live != 0;
            struct ht_buf back = {0};
            struct seen *s = ht_malloc(sizeof *s);
            size_t at = 0;
            bad += !raw_read(fd, &back) || !next_frame(&back, &at, s) || s->b0 != PONG || s->n != 13 ||
                   memcmp(s->p, "are you there", 13) != 0 || s->masked != (side == WS_CLIENT) || at != back.len;
            ht_free(s);
            ht_buf_free(&back);
            end_free(&e);
            close(fd);
        }
        CU_ASSERT_EQUAL(bad, 0);
        for (size_t step = 1; step < 200000; step = step * 3 + 1) {
            struct end e;
            int fd = end_open(&e, loop, (enum ws_side)side, ht_slice_str(""));
            e.seed = (unsigned)step;
            if (step < 40)
                e.seed = 0; /* nothing is consumed until the end */
            for (size_t at = 0; at < big.len; at += step) {
                raw_write(loop, fd, big.data + at, ht_min(step, big.len - at));
                if (step > 1000 || at % 64 == 0)
                    loop_turns(loop, 1);
            }
            loop_turns(loop, 3);
            CU_ASSERT(equal(&e.got, &expect_big));
            end_free(&e);
            close(fd);
        }
        ht_buf_free(&wire);
        ht_buf_free(&big);
        ht_buf_free(&expect);
        ht_buf_free(&expect_big);
    }
}

static ssize_t takes_nothing(void *ctx, uint8_t *p, size_t n, bool end) {
    struct end *e = ctx;
    e->messages += end;
    e->calls++;
    (void)p;
    return end ? (ssize_t)n : 0;
}

static void a_full_message_that_is_consumed_at_its_end(void) {
    /* 262144 bytes in 64 fragments of uneven length, PINGs between them: all must wait in one block. */
    static const struct ws_ops ops = {takes_nothing, end_fed, end_pull, end_closed};
    struct end e = {.loop = loop};
    int fd[2];
    nonblocking_pair(fd);
    e.w = ws_conn_create(loop, io_conn_adopt(loop, fd[0], NULL, NULL), WS_SERVER, &usual_limits, ht_slice_str(""), &ops,
                         &e);
    static uint8_t zero[262144];
    struct ht_buf wire = {0};
    for (int round = 0; round < 3; round++)
        for (size_t i = 0, at = 0; i < 64; i++) {
            size_t n = i == 63 ? sizeof zero - at : 100 + i * 129;
            add_frame(&wire, i == 0 ? FRAG : i == 63 ? LAST : CONT, true, 0, zero, n);
            add_frame(&wire, PING, true, 0, zero, 125);
            at += n;
        }
    raw_write(loop, fd[1], wire.data, wire.len);
    loop_turns(loop, 3);
    CU_ASSERT_EQUAL(e.messages, 3);
    CU_ASSERT_EQUAL(e.closed, 0);
    ht_buf_free(&wire);
    end_free(&e);
    close(fd[1]);
}

/* ---- violations ---- */

static void expect_close(struct ht_buf *wire, enum ws_side side, uint16_t code, const char *what) {
    struct end e;
    struct ht_buf back = {0};
    struct seen *s = ht_malloc(sizeof *s);
    int fd = end_open(&e, loop, side, ht_slice_str(""));
    ws_conn_set_limits(e.w, &(struct ws_limits){.max_message = 1000, .max_fragments = 4, .max_pull = MAX_PULL});
    /* Whatever stands behind a violation must never be handed up. */
    add_frame(wire, BIN, side == WS_SERVER, 0, "canary", 6);
    raw_write(loop, fd, wire->data, wire->len);
    loop_turns(loop, 3);
    size_t at = 0;
    raw_read(fd, &back);
    bool ok = next_frame(&back, &at, s) && s->b0 == CLOSE && s->n >= 2 && s->masked == (side == WS_CLIENT);
    uint16_t got = ok ? (uint16_t)(s->p[0] << 8 | s->p[1]) : 0;
    ok = ok && got == code && at == back.len && e.closed == 1 && e.local && e.code == 1006 && e.messages == 0;
    if (!ok)
        printf("# %s: close code %u, expected %u; closed %d local %d code %u (%s), messages %zu\n", what, got, code,
               e.closed, e.local, e.code, e.reason, e.messages);
    CU_ASSERT(ok);
    /* The socket ends cleanly: the close frame was not lost to a reset. */
    CU_ASSERT_FALSE(raw_read(fd, &back));
    close(fd);
    loop_turns(loop, 2);
    ht_free(s);
    ht_buf_free(&back);
    ht_buf_free(wire);
    end_free(&e);
}

static void violations_get_their_close_code(void) {
    struct ht_buf b = {0};
    static uint8_t big[2000];
    for (int side = WS_SERVER; side <= WS_CLIENT; side++) {
        bool m = side == WS_SERVER;
        enum ws_side sd = (enum ws_side)side;
        for (int rsv = 1; rsv < 8; rsv++) {
            add_frame(&b, (uint8_t)(BIN | rsv << 4), m, 0, "x", 1);
            expect_close(&b, sd, 1002, "reserved bits");
            add_frame(&b, (uint8_t)(PING | rsv << 4), m, 0, "x", 1);
            expect_close(&b, sd, 1002, "reserved bits on a control frame");
        }
        for (uint8_t op = 0; op < 16; op++)
            if ((op > 2 && op < 8) || op > 10) {
                add_frame(&b, 0x80 | op, m, 0, "x", 1);
                expect_close(&b, sd, 1002, "opcode");
            }
        add_frame(&b, BIN, !m, 0, "x", 1);
        expect_close(&b, sd, 1002, "mask of data");
        add_frame(&b, PING, !m, 0, "x", 1);
        expect_close(&b, sd, 1002, "mask of a control frame");
        add_frame(&b, PING & 0x7f, m, 0, "x", 1);
        expect_close(&b, sd, 1002, "fragmented ping");
        add_frame(&b, CLOSE & 0x7f, m, 0, "", 0);
        expect_close(&b, sd, 1002, "fragmented close");
        add_frame(&b, PING, m, 0, big, 126);
        expect_close(&b, sd, 1002, "long ping");
        add_frame(&b, CLOSE, m, 8, big, 70);
        expect_close(&b, sd, 1002, "control frame with a long length");
        add_frame(&b, CONT, m, 0, "x", 1);
        expect_close(&b, sd, 1002, "continuation of nothing");
        add_frame(&b, LAST, m, 0, "", 0);
        expect_close(&b, sd, 1002, "empty continuation of nothing");
        add_frame(&b, FRAG, m, 0, "x", 1);
        add_frame(&b, BIN, m, 0, "x", 1);
        expect_close(&b, sd, 1002, "message in a message");
        add_frame(&b, FRAG, m, 0, "x", 1);
        add_frame(&b, TEXT, m, 0, "x", 1);
        expect_close(&b, sd, 1002, "text in a message");
        add_frame(&b, TEXT, m, 0, "x", 1);
        expect_close(&b, sd, 1003, "text");
        add_frame(&b, BIN, m, 2, "x", 1);
        expect_close(&b, sd, 1002, "not the shortest length, 2");
        add_frame(&b, BIN, m, 2, big, 125);
        expect_close(&b, sd, 1002, "not the shortest length, 2, at the border");
        add_frame(&b, BIN, m, 8, big, 200);
        expect_close(&b, sd, 1002, "not the shortest length, 8");
        add_frame(&b, BIN, m, 8, big, 0);
        b.data[2] = 0x80;
        expect_close(&b, sd, 1002, "top bit of the length");
        add_frame(&b, BIN, m, 8, big, 0);
        b.data[2] = 0x7f;
        expect_close(&b, sd, 1009, "the longest length");
        add_frame(&b, BIN, m, 0, big, 1001);
        expect_close(&b, sd, 1009, "too big");
        add_frame(&b, FRAG, m, 0, big, 1000);
        add_frame(&b, CONT, m, 0, big, 1);
        expect_close(&b, sd, 1009, "too big in pieces");
        for (int i = 0; i < 5; i++)
            add_frame(&b, i ? CONT : FRAG, m, 0, "", 0);
        expect_close(&b, sd, 1008, "too many fragments");
        /* wslay judges close frames. */
        add_frame(&b, CLOSE, m, 0, "\x03", 1);
        expect_close(&b, sd, 1002, "close with half a code");
        static const uint16_t codes[] = {0, 999, 1004, 1005, 1006, 1015, 1016, 2999, 5000, 65535};
        for (size_t i = 0; i < HT_ARRAY_LEN(codes); i++) {
            uint8_t p[2] = {(uint8_t)(codes[i] >> 8), (uint8_t)codes[i]};
            add_frame(&b, CLOSE, m, 0, p, 2);
            expect_close(&b, sd, 1002, "close code that may not be sent");
        }
        add_frame(&b, CLOSE, m, 0, "\x03\xe8\xff\xfe", 4);
        expect_close(&b, sd, 1007, "close reason that is no UTF-8");
        add_frame(&b, CLOSE, m, 0, "\x03\xe8\xed\xa0\x80", 5);
        expect_close(&b, sd, 1007, "surrogate in a close reason");
    }
}

static ssize_t leaves_one(void *ctx, uint8_t *p, size_t n, bool end) {
    (void)ctx;
    (void)p;
    (void)end;
    return n ? (ssize_t)n - 1 : 0;
}

static void bytes_left_at_the_end_are_a_violation(void) {
    static const struct ws_ops ops = {leaves_one, end_fed, end_pull, end_closed};
    struct end e = {.loop = loop};
    int fd[2];
    struct ht_buf wire = {0};
    nonblocking_pair(fd);
    e.w = ws_conn_create(loop, io_conn_adopt(loop, fd[0], NULL, NULL), WS_CLIENT, &usual_limits, ht_slice_str(""), &ops,
                         &e);
    add_frame(&wire, BIN, false, 0, "half a frame", 12);
    raw_write(loop, fd[1], wire.data, wire.len);
    loop_turns(loop, 3);
    CU_ASSERT_EQUAL(e.closed, 1);
    CU_ASSERT(strstr(e.reason, "middle") != NULL);
    ht_buf_free(&wire);
    end_free(&e);
    close(fd[1]);
    loop_turns(loop, 2);
}

/* ---- PINGs ---- */

static void a_million_pings_cost_nothing(void) {
    struct end e;
    struct ht_buf wire = {0}, back = {0};
    int fd = end_open(&e, loop, WS_SERVER, ht_slice_str(""));
    for (int i = 0; i < 1000; i++)
        add_frame(&wire, PING, true, 0, "", 0);
    loop_turns(loop, 2);
    size_t live = ht_mem_live();
    struct mallinfo2 before = mallinfo2();
#ifdef HT_SANITIZED
    const int rounds = 100;
#else
    const int rounds = 1000;
#endif
    for (int i = 0; i < rounds; i++)
        raw_write(loop, fd, wire.data, wire.len);
    /* Nobody has read a PONG, and still a message gets through: reading has never stopped. */
    wire.len = 0;
    add_frame(&wire, PING, true, 0, "last", 4);
    add_frame(&wire, BIN, true, 0, "through", 7);
    raw_write(loop, fd, wire.data, wire.len);
    loop_turns(loop, 3);
    struct mallinfo2 after = mallinfo2();
    CU_ASSERT_EQUAL(e.messages, 1);
    CU_ASSERT(ht_mem_live() <= live + 2); /* what was received, and a send block at most */
    CU_ASSERT(after.uordblks + after.hblkhd < before.uordblks + before.hblkhd + 1024 * 1024);
    bool open = true;
    for (int i = 0; i < 100; i++) {
        open = open && raw_read(fd, &back);
        loop_turns(loop, 1);
    }
    CU_ASSERT(open && back.len > 6);
    CU_ASSERT(memcmp(back.data + back.len - 6, "\x8a\x04last", 6) == 0); /* the latest one is answered */
    CU_ASSERT_EQUAL(e.closed, 0);
    ht_buf_free(&wire);
    ht_buf_free(&back);
    end_free(&e);
    close(fd);
}

static void pongs_go_ahead_of_messages(void) {
    struct end e;
    struct ht_buf wire = {0}, back = {0};
    int fd = end_open(&e, loop, WS_SERVER, ht_slice_str(""));
    add_message(&e.queue, "one", 3);
    add_message(&e.queue, "two", 3);
    ws_conn_want_send(e.w);
    add_frame(&wire, PING, true, 0, "p", 1);
    raw_write(loop, fd, wire.data, wire.len);
    loop_turns(loop, 2);
    raw_read(fd, &back);
    static const char want[] = "\x8a\x01p\x82\x03one\x82\x03two";
    CU_ASSERT(back.len == sizeof want - 1 && memcmp(back.data, want, back.len) == 0);
    CU_ASSERT_EQUAL(e.max_cap, MAX_PULL);
    ht_buf_free(&wire);
    ht_buf_free(&back);
    end_free(&e);
    close(fd);
}

/* Asked for, text is sent, and taken as text or binary, whole or in pieces of 4,096 bytes. */
static void text_where_it_is_asked_for(void) {
    static uint8_t text[20000];
    for (int side = WS_SERVER; side <= WS_CLIENT; side++) {
        struct end e;
        bool masked = side == WS_SERVER;
        struct ht_buf wire = {0}, expect = {0}, back = {0};
        int fd = end_open(&e, loop, (enum ws_side)side, ht_slice_str(""));
        ws_conn_set_limits(e.w, &(struct ws_limits){sizeof text, 64, MAX_PULL});
        ws_conn_use_text(e.w);
        memset(text, 't', sizeof text);
        add_frame(&wire, TEXT, masked, 0, "text", 4);
        add_message(&expect, "text", 4);
        add_frame(&wire, BIN, masked, 0, "binary", 6);
        add_message(&expect, "binary", 6);
        for (size_t at = 0; at < sizeof text; at += 4096) {
            uint8_t b0 = at == 0 ? TEXT & 0x7f : at + 4096 < sizeof text ? CONT : LAST;
            add_frame(&wire, b0, masked, 0, text + at, ht_min(4096, sizeof text - at));
        }
        add_message(&expect, text, sizeof text);
        add_message(&e.queue, "{}", 2);
        raw_write(loop, fd, wire.data, wire.len);
        ws_conn_want_send(e.w);
        loop_turns(loop, 3);
        raw_read(fd, &back);
        CU_ASSERT(equal(&e.got, &expect) && !e.closed);
        CU_ASSERT(back.len == (masked ? 4u : 8u) && back.data[0] == TEXT);
        ht_buf_free(&wire);
        ht_buf_free(&expect);
        ht_buf_free(&back);
        end_free(&e);
        close(fd);
    }
}

static void a_message_too_big_for_the_rest_of_a_block_is_asked_again(void) {
    struct end e;
    struct ht_buf back = {0};
    static uint8_t big[MAX_PULL];
    int fd = end_open(&e, loop, WS_SERVER, ht_slice_str(""));
    add_message(&e.queue, big, 1000);
    add_message(&e.queue, big, sizeof big);
    ws_conn_want_send(e.w);
    for (int i = 0; i < 50; i++) {
        loop_turns(loop, 1);
        raw_read(fd, &back);
    }
    CU_ASSERT_EQUAL(back.len, 4 + 1000 + 10 + sizeof big);
    ht_buf_free(&back);
    end_free(&e);
    close(fd);
}

/* ---- closing ---- */

static void the_peer_closes(void) {
    static const struct {
        const char *payload;
        size_t n;
        uint16_t code;
        const char *reason;
    } cases[] = {
        {"", 0, 1005, ""},
        {"\x03\xe8", 2, 1000, ""},
        {"\x03\xe9going\naway", 12, 1001, "going?away"},
        {"\x0f\xa0own code", 10, 4000, "own code"},
        {"\x03\xf4restart", 9, 1012, "restart"},
        {"\x03\xf6", 2, 1014, ""},
    };
    for (int side = WS_SERVER; side <= WS_CLIENT; side++)
        for (size_t i = 0; i < HT_ARRAY_LEN(cases); i++) {
            struct end e;
            struct ht_buf wire = {0}, back = {0};
            struct seen *s = ht_malloc(sizeof *s);
            size_t at = 0;
            int fd = end_open(&e, loop, (enum ws_side)side, ht_slice_str(""));
            add_frame(&wire, CLOSE, side == WS_SERVER, 0, cases[i].payload, cases[i].n);
            add_frame(&wire, BIN, side == WS_SERVER, 0, "late", 4);
            raw_write(loop, fd, wire.data, wire.len);
            loop_turns(loop, 3);
            bool open = raw_read(fd, &back);
            CU_ASSERT(next_frame(&back, &at, s) && s->b0 == CLOSE && at == back.len);
            CU_ASSERT(s->n == (cases[i].n ? 2 : 0) || s->n == cases[i].n); /* the code is echoed */
            CU_ASSERT(s->n < 2 || memcmp(s->p, cases[i].payload, 2) == 0);
            /* The server closes the socket first. */
            CU_ASSERT_EQUAL(open, side == WS_CLIENT);
            close(fd);
            CU_ASSERT(loop_until(loop, &e.closed, PATIENCE_MS));
            CU_ASSERT_EQUAL(e.code, cases[i].code);
            CU_ASSERT_STRING_EQUAL(e.reason, cases[i].reason);
            CU_ASSERT_FALSE(e.local);
            CU_ASSERT_EQUAL(e.messages, 0);
            CU_ASSERT_PTR_NULL(ws_conn_io(e.w));
            ws_conn_want_send(e.w);
            ws_conn_close(e.w, 1000, "");
            loop_turns(loop, 2);
            CU_ASSERT_EQUAL(e.closed, 1);
            ht_free(s);
            ht_buf_free(&wire);
            ht_buf_free(&back);
            end_free(&e);
        }
}

static void we_close_after_what_is_left(void) {
    for (int side = WS_SERVER; side <= WS_CLIENT; side++) {
        struct end e;
        struct ht_buf wire = {0}, back = {0};
        struct seen *s = ht_malloc(sizeof *s);
        size_t at = 0;
        int fd = end_open(&e, loop, (enum ws_side)side, ht_slice_str(""));
        add_message(&e.queue, "first this", 10);
        ws_conn_close(e.w, 1013, "try again");
        ws_conn_close(e.w, 1000, "twice");
        loop_turns(loop, 2);
        raw_read(fd, &back);
        CU_ASSERT(next_frame(&back, &at, s) && s->b0 == BIN && s->n == 10 && memcmp(s->p, "first this", 10) == 0);
        CU_ASSERT(next_frame(&back, &at, s) && s->b0 == CLOSE && s->n == 11 &&
                  memcmp(s->p, "\x03\xf5try again", 11) == 0);
        CU_ASSERT_EQUAL(at, back.len);
        /* What the peer still sends is dropped, a PING gets no answer any more, its close frame counts. */
        add_frame(&wire, BIN, side == WS_SERVER, 0, "ignored", 7);
        add_frame(&wire, FRAG, side == WS_SERVER, 0, "", 0);
        add_frame(&wire, PING, side == WS_SERVER, 0, "", 0);
        add_frame(&wire, LAST, side == WS_SERVER, 0, "x", 1);
        add_frame(&wire, TEXT, side == WS_SERVER, 0, "text", 4);
        add_frame(&wire, CLOSE, side == WS_SERVER, 0, "\x03\xf5you too", 9);
        raw_write(loop, fd, wire.data, wire.len);
        loop_turns(loop, 3);
        if (side == WS_SERVER)
            CU_ASSERT_EQUAL(e.closed, 1);
        close(fd);
        CU_ASSERT(loop_until(loop, &e.closed, PATIENCE_MS));
        CU_ASSERT_EQUAL(e.code, 1013);
        CU_ASSERT_STRING_EQUAL(e.reason, "you too");
        CU_ASSERT(e.local);
        CU_ASSERT_EQUAL(e.messages, 0);
        ht_free(s);
        ht_buf_free(&wire);
        ht_buf_free(&back);
        end_free(&e);
    }
}

static void long_reasons_are_cut_between_characters(void) {
    struct end e;
    struct ht_buf back = {0};
    struct seen *s = ht_malloc(sizeof *s);
    size_t at = 0;
    char reason[300];
    memset(reason, 'a', sizeof reason);
    memcpy(reason + 122, "\xe2\x82\xac", 3);
    reason[299] = '\0';
    int fd = end_open(&e, loop, WS_SERVER, ht_slice_str(""));
    ws_conn_close(e.w, 1000, reason);
    loop_turns(loop, 2);
    raw_read(fd, &back);
    CU_ASSERT(next_frame(&back, &at, s) && s->b0 == CLOSE && s->n == 124);
    ht_free(s);
    ht_buf_free(&back);
    end_free(&e);
    close(fd);
}

static void the_peer_vanishes(void) {
    for (int how = 0; how < 3; how++) {
        struct end e;
        int fd = end_open(&e, loop, WS_SERVER, ht_slice_str(""));
        if (how == 1)
            raw_write(loop, fd, "\x82\xfe", 2); /* in the middle of a header */
        if (how == 2)
            raw_write(loop, fd,
                      "\x82\x85"
                      "abcd"
                      "ab",
                      8); /* and of a message */
        loop_turns(loop, 2);
        close(fd);
        CU_ASSERT(loop_until(loop, &e.closed, PATIENCE_MS));
        CU_ASSERT_EQUAL(e.code, 1006);
        CU_ASSERT_FALSE(e.local);
        CU_ASSERT(strlen(e.reason) > 10);
        CU_ASSERT_EQUAL(e.messages, 0);
        CU_ASSERT_EQUAL(io_loop_blocks(loop)->live, 0);
        loop_turns(loop, 2);
        CU_ASSERT_EQUAL(e.closed, 1);
        end_free(&e);
    }
}

static void a_peer_that_does_not_answer_is_dropped(void) {
    struct end e;
    int fd = end_open(&e, loop, WS_SERVER, ht_slice_str(""));
    ws_conn_close(e.w, 1000, "");
    uint64_t begin = ht_now_ms();
    CU_ASSERT(loop_until(loop, &e.closed, PATIENCE_MS));
    CU_ASSERT(ht_now_ms() - begin >= 1990);
    CU_ASSERT_EQUAL(e.code, 1006);
    CU_ASSERT(e.local);
    end_free(&e);
    close(fd);
}

static void the_close_frame_is_read_when_writing_fails(void) {
    struct end e;
    struct ht_buf wire = {0};
    int fd = end_open(&e, loop, WS_SERVER, ht_slice_str(""));
    add_frame(&wire, BIN, true, 0, "goaway", 6);
    add_frame(&wire, CLOSE, true, 0, "\x03\xe9", 2);
    add_message(&e.queue, "into the void", 13);
    /* Our write finds the socket dead while its bytes are still unread. */
    ws_conn_pause(e.w, true);
    raw_write(loop, fd, wire.data, wire.len);
    close(fd);
    ws_conn_want_send(e.w);
    ws_conn_pause(e.w, false);
    CU_ASSERT(loop_until(loop, &e.closed, PATIENCE_MS));
    CU_ASSERT_EQUAL(e.code, 1001);
    CU_ASSERT_EQUAL(e.messages, 1);
    ht_buf_free(&wire);
    end_free(&e);
}

static void pausing_stops_messages_and_resumes(void) {
    struct end e;
    struct ht_buf wire = {0};
    int fd = end_open(&e, loop, WS_SERVER, ht_slice_str(""));
    for (int i = 0; i < 5; i++)
        add_frame(&wire, BIN, true, 0, "0123456789", 10);
    e.pause_in_message = true;
    raw_write(loop, fd, wire.data, wire.len);
    loop_turns(loop, 3);
    for (size_t i = 1; i <= 5; i++) {
        CU_ASSERT_EQUAL(e.messages, i);
        ws_conn_pause(e.w, false);
        loop_turns(loop, 3);
    }
    CU_ASSERT_EQUAL(e.messages, 5);
    ws_conn_pause(e.w, true);
    ws_conn_close(e.w, 1000, ""); /* must listen for the answer all the same */
    wire.len = 0;
    add_frame(&wire, CLOSE, true, 0, "\x03\xe8", 2);
    raw_write(loop, fd, wire.data, wire.len);
    CU_ASSERT(loop_until(loop, &e.closed, PATIENCE_MS));
    CU_ASSERT_EQUAL(e.code, 1000);
    ht_buf_free(&wire);
    end_free(&e);
    close(fd);
}

/* Between two messages the connection can go to another WebSocket, of another process perhaps: with what was read
 * behind the first message, wherever that ends. */
static void a_connection_is_taken_off(void) {
    struct ht_buf wire = {0}, expect = {0};
    CU_ASSERT_EQUAL_FATAL(ws_frame_of_client(&wire, (const uint8_t *)"hello", 5), HT_OK);
    size_t first = wire.len;
    add_frame(&wire, PING, true, 0, "are you there", 13);
    static const uint8_t more[70000];
    CU_ASSERT_EQUAL_FATAL(ws_frame_of_client(&wire, more, 200), HT_OK);
    add_message(&expect, more, 200);
    size_t split_until = wire.len;
    CU_ASSERT_EQUAL_FATAL(ws_frame_of_client(&wire, more, sizeof more), HT_OK);
    add_message(&expect, more, sizeof more);
    for (size_t split = first; split <= split_until; split++) {
        struct end e, next = {.loop = loop};
        struct ht_buf rest = {0};
        int fd = end_open(&e, loop, WS_SERVER, ht_slice_str(""));
        e.pause_in_message = true;
        raw_write(loop, fd, wire.data, split);
        loop_turns(loop, 2);
        CU_ASSERT_EQUAL_FATAL(e.messages, 1);
        CU_ASSERT_EQUAL_FATAL(ws_conn_unread(e.w, &rest), HT_OK);
        CU_ASSERT(rest.len == split - first && (rest.len == 0 || memcmp(rest.data, wire.data + first, rest.len) == 0));
        struct io_conn *conn = ws_conn_take(&e.w);
        CU_ASSERT_PTR_NULL(e.w);
        int own = io_conn_release(&conn);
        CU_ASSERT_PTR_NULL(conn);
        next.w = ws_conn_create(loop, io_conn_adopt(loop, own, NULL, NULL), WS_SERVER, &usual_limits,
                                ht_buf_slice(&rest), &end_ops, &next);
        raw_write(loop, fd, wire.data + split, wire.len - split);
        loop_turns(loop, 3);
        CU_ASSERT(equal(&next.got, &expect) && !next.closed && e.closed == 0);
        ht_buf_free(&rest);
        end_free(&e);
        end_free(&next);
        close(fd);
    }
    CU_ASSERT_EQUAL(io_loop_blocks(loop)->live, 0);
    ht_buf_free(&wire);
    ht_buf_free(&expect);
}

static void a_connection_stays_while_something_is_under_way(void) {
    static const struct {
        uint8_t b0;
        const char *text;
    } halves[] = {{FRAG, "half a message"}, {PING, "an answer is due"}};
    for (size_t i = 0; i < HT_ARRAY_LEN(halves); i++) {
        struct end e;
        struct ht_buf wire = {0}, rest = {0};
        int fd = end_open(&e, loop, WS_SERVER, ht_slice_str(""));
        add_frame(&wire, halves[i].b0, true, 0, halves[i].text, strlen(halves[i].text));
        add_frame(&wire, i == 0 ? LAST : BIN, true, 0, "rest", 4);
        e.pause_in_message = true;
        raw_write(loop, fd, wire.data, i == 0 ? wire.len - 1 : wire.len);
        if (i == 0) { /* the rest of it has not come */
            loop_turns(loop, 1);
            CU_ASSERT_EQUAL(ws_conn_unread(e.w, &rest), HT_EAGAIN);
        } else {
            loop_turns(loop, 2);
            CU_ASSERT_EQUAL(e.messages, 1);
            CU_ASSERT_EQUAL(ws_conn_unread(e.w, &rest), HT_OK); /* the PONG is out by now */
            ws_conn_ping(e.w);
            CU_ASSERT_EQUAL(ws_conn_unread(e.w, &rest), HT_EAGAIN);
        }
        CU_ASSERT_EQUAL(rest.len, 0);
        ht_buf_free(&wire);
        ht_buf_free(&rest);
        end_free(&e);
        close(fd);
    }
}

static void destroying_in_any_callback(void) {
    for (int where = 0; where < 5; where++) {
        struct end e;
        struct ht_buf wire = {0};
        ht_pool_drain(io_loop_blocks(loop));
        size_t live = ht_mem_live();
        int fd = end_open(&e, loop, WS_SERVER, ht_slice_str(""));
        e.destroy_in_message = where == 0;
        e.destroy_in_fed = where == 1;
        e.destroy_in_pull = where == 2;
        e.destroy_in_closed = where == 3;
        e.stop_in_message = where == 4;
        ws_conn_want_send(e.w);
        loop_turns(loop, where == 2); /* before the peer closes */
        add_frame(&wire, BIN, true, 0, "one", 3);
        add_frame(&wire, BIN, true, 0, "two", 3);
        add_frame(&wire, CLOSE, true, 0, "", 0);
        raw_write(loop, fd, wire.data, wire.len);
        loop_turns(loop, 4);
        CU_ASSERT_EQUAL(e.w == NULL, where != 4);
        CU_ASSERT_EQUAL(e.closed, where >= 3);
        if (where == 4) {
            CU_ASSERT_EQUAL(e.calls, 1);
            CU_ASSERT_EQUAL(e.feds, 1);
            CU_ASSERT_EQUAL(e.code, 1005);
        }
        ht_buf_free(&wire);
        end_free(&e);
        close(fd);
        ht_pool_drain(io_loop_blocks(loop));
        CU_ASSERT_EQUAL(ht_mem_live(), live);
    }
}

static void failing_allocations(void) {
    struct ht_buf wire = {0};
    add_frame(&wire, BIN, true, 0, "0123456789012345678901234567890123456789", 40);
    add_frame(&wire, PING, true, 0, "", 0);
    int fds = io_count_fds();
    for (long i = 0; i < 12; i++) {
        struct end e;
        ht_pool_drain(io_loop_blocks(loop));
        size_t live = ht_mem_live();
        ht_mem_fail_at(i);
        int fd = end_open(&e, loop, WS_SERVER,
                          ht_slice_of(i % 2 ? "\x82\x80"
                                              "mask"
                                            : "early",
                                      6 - (i + 1) % 2));
        if (e.w) {
            raw_write(loop, fd, wire.data, wire.len);
            loop_turns(loop, 4);
        }
        ht_mem_fail_at(-1);
        if (e.w && e.closed)
            CU_ASSERT_EQUAL(e.code, 1006);
        end_free(&e);
        close(fd);
        loop_turns(loop, 2); /* what lingers sees the end */
        ht_pool_drain(io_loop_blocks(loop));
        CU_ASSERT_EQUAL(ht_mem_live(), live);
    }
    loop_turns(loop, 3);
    CU_ASSERT_EQUAL(io_count_fds(), fds);
    ht_buf_free(&wire);
}

int main(void) {
    alarm(120);
    io_ignore_sigpipe();
    int fds = io_count_fds();
    loop = io_loop_create();
    static const struct tap_test tests[] = {
        {"frames are read whole, byte by byte and split", frames_whole_by_bytes_and_split},
        {"a full message that is consumed at its end", a_full_message_that_is_consumed_at_its_end},
        {"violations get their close code", violations_get_their_close_code},
        {"bytes left at the end are a violation", bytes_left_at_the_end_are_a_violation},
        {"a million PINGs cost nothing", a_million_pings_cost_nothing},
        {"PONGs go ahead of messages", pongs_go_ahead_of_messages},
        {"a message too big for the rest of a block is asked again",
         a_message_too_big_for_the_rest_of_a_block_is_asked_again},
        {"text messages are used where the owner asks for them", text_where_it_is_asked_for},
        {"a close of the peer is answered and reported", the_peer_closes},
        {"closing sends what is queued first", we_close_after_what_is_left},
        {"long reasons are cut between characters", long_reasons_are_cut_between_characters},
        {"a peer that vanishes is reported", the_peer_vanishes},
        {"a peer that does not answer is dropped", a_peer_that_does_not_answer_is_dropped},
        {"the close frame is read when writing fails", the_close_frame_is_read_when_writing_fails},
        {"pausing stops messages and resumes", pausing_stops_messages_and_resumes},
        {"a connection is taken off, and goes on elsewhere", a_connection_is_taken_off},
        {"it stays while something is under way", a_connection_stays_while_something_is_under_way},
        {"a connection can be destroyed in any callback", destroying_in_any_callback},
        {"each allocation may fail", failing_allocations},
        {NULL, NULL},
    };
    int rc = tap_main("ws conn", tests);
    loop_turns(loop, 2);
    io_loop_destroy(&loop);
    if (io_count_fds() != fds || ht_mem_live() != 0) {
        printf("Bail out! %d descriptors, %zu blocks left\n", io_count_fds() - fds, ht_mem_live());
        return 1;
    }
    return rc;
}
