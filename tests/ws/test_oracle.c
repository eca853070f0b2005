/* Our framing against wslay's: what one writes the other must read, byte for byte. */
#include "ws_peer.h"

#include <stdio.h>
#include <wslay/wslay.h>

static struct io_loop *loop;

struct memory {
    struct ht_buf bytes;
    struct ht_buf messages; /* as struct end keeps them */
    struct ht_buf part;
    unsigned seed;
    unsigned errors;
};

static ssize_t to_memory(const uint8_t *p, size_t n, int flags, void *user) {
    (void)flags;
    struct memory *m = user;
    buf_add(&m->bytes, p, n);
    return (ssize_t)n;
}

static ssize_t from_memory(uint8_t *p, size_t n, int flags, void *user) {
    (void)flags;
    struct memory *m = user;
    n = ht_min(n, ht_buf_size(&m->bytes));
    if (n == 0)
        return -1;
    memcpy(p, ht_buf_head(&m->bytes), n);
    ht_buf_consume(&m->bytes, n);
    return (ssize_t)n;
}

static int random_mask(uint8_t *p, size_t n, void *user) {
    struct memory *m = user;
    for (size_t i = 0; i < n; i++)
        p[i] = (uint8_t)rnd(&m->seed);
    return 0;
}

static const struct wslay_frame_callbacks frame_callbacks = {to_memory, from_memory, random_mask};

static size_t random_length(unsigned *seed) {
    switch (rnd(seed) % 8) {
    case 0:
        return rnd(seed) % 3;
    case 1:
        return 124 + rnd(seed) % 4;
    case 2:
        return 65534 + rnd(seed) % 4;
    default:
        return rnd(seed) % 3000;
    }
}

static void write_by_wslay(wslay_frame_context_ptr ctx, uint8_t opcode, bool fin, bool mask, const uint8_t *p,
                           size_t n) {
    struct wslay_frame_iocb f = {
        .fin = fin, .opcode = opcode, .payload_length = n, .mask = mask, .data = p, .data_length = n};
    size_t done = 0;
    do {
        ssize_t k = wslay_frame_send(ctx, &f);
        if (k < 0)
            break;
        done += (size_t)k;
        f.data += k;
        f.data_length -= (size_t)k;
    } while (done < n);
}

static void we_read_what_wslay_writes(void) {
    static uint8_t data[70000];
    for (unsigned seed = 1; seed < 41; seed++) {
        struct memory m = {.seed = seed};
        struct ht_buf expect = {0};
        struct end e;
        wslay_frame_context_ptr ctx;
        enum ws_side side = seed % 2 ? WS_SERVER : WS_CLIENT;
        CU_ASSERT_FATAL(wslay_frame_context_init(&ctx, &frame_callbacks, &m) == 0);
        for (int k = 0; k < 30; k++) {
            unsigned frames = rnd(&m.seed) % 3 ? 1 : rnd(&m.seed) % 9 + 1;
            struct ht_buf whole = {0};
            for (unsigned i = 0; i < frames; i++) {
                size_t n = random_length(&m.seed);
                if (whole.len + n > 262144)
                    n = 0;
                for (size_t b = 0; b < n; b++)
                    data[b] = (uint8_t)rnd(&m.seed);
                buf_add(&whole, data, n);
                write_by_wslay(ctx, i ? WSLAY_CONTINUATION_FRAME : WSLAY_BINARY_FRAME, i == frames - 1,
                               side == WS_SERVER, data, n);
                if (rnd(&m.seed) % 4 == 0)
                    write_by_wslay(ctx, rnd(&m.seed) % 2 ? WSLAY_PING : WSLAY_PONG, true, side == WS_SERVER, data,
                                   ht_min(n, 125));
            }
            add_message(&expect, whole.data, whole.len);
            ht_buf_free(&whole);
        }
        int fd = end_open(&e, loop, side, ht_slice_str(""));
        e.seed = seed % 3 ? seed : 0;
        struct ht_buf back = {0};
        while (ht_buf_size(&m.bytes)) {
            size_t n = ht_min(random_length(&m.seed) + 1, ht_buf_size(&m.bytes));
            raw_write(loop, fd, ht_buf_head(&m.bytes), n);
            ht_buf_consume(&m.bytes, n);
            if (rnd(&m.seed) % 2)
                loop_turns(loop, 1);
            raw_read(fd, &back);
        }
        loop_turns(loop, 3);
        CU_ASSERT_EQUAL(e.closed, 0);
        CU_ASSERT(e.got.len == expect.len && memcmp(e.got.data, expect.data, expect.len) == 0);
        wslay_frame_context_free(ctx);
        ht_buf_free(&m.bytes);
        ht_buf_free(&expect);
        ht_buf_free(&back);
        end_free(&e);
        close(fd);
    }
}

static void wslay_reads_what_we_write(void) {
    static uint8_t data[MAX_PULL];
    for (unsigned seed = 1; seed < 21; seed++) {
        struct memory m = {.seed = seed};
        struct end e;
        enum ws_side side = seed % 2 ? WS_SERVER : WS_CLIENT;
        wslay_frame_context_ptr ctx;
        CU_ASSERT_FATAL(wslay_frame_context_init(&ctx, &frame_callbacks, &m) == 0);
        int fd = end_open(&e, loop, side, ht_slice_str(""));
        for (int k = 0; k < 40; k++) {
            size_t n = k == 20 ? MAX_PULL : random_length(&m.seed) + 1;
            for (size_t b = 0; b < n; b++)
                data[b] = (uint8_t)rnd(&m.seed);
            add_message(&e.queue, data, n);
        }
        struct ht_buf expect = {0};
        buf_add(&expect, e.queue.data, e.queue.len);
        ws_conn_want_send(e.w);
        for (int i = 0; i < 300; i++) {
            loop_turns(loop, 1);
            raw_read(fd, &m.bytes);
        }
        bool good = true;
        struct wslay_frame_iocb f;
        memset(&f, 0, sizeof f);
        for (;;) {
            ssize_t n = wslay_frame_recv(ctx, &f);
            if (n < 0)
                break;
            good = good && f.fin && f.rsv == 0 && f.opcode == WSLAY_BINARY_FRAME && f.mask == (side == WS_CLIENT);
            buf_add(&m.part, f.data, f.data_length);
            if (m.part.len == f.payload_length) {
                add_message(&m.messages, m.part.data, m.part.len);
                m.part.len = 0;
            }
        }
        CU_ASSERT(good);
        CU_ASSERT(m.messages.len == expect.len && memcmp(m.messages.data, expect.data, expect.len) == 0);
        wslay_frame_context_free(ctx);
        ht_buf_free(&m.bytes);
        ht_buf_free(&m.messages);
        ht_buf_free(&m.part);
        ht_buf_free(&expect);
        end_free(&e);
        close(fd);
    }
}

int main(void) {
    alarm(120);
    io_ignore_sigpipe();
    loop = io_loop_create();
    static const struct tap_test tests[] = {
        {"we read what wslay writes", we_read_what_wslay_writes},
        {"wslay reads what we write", wslay_reads_what_we_write},
        {NULL, NULL},
    };
    int rc = tap_main("ws oracle", tests);
    io_loop_destroy(&loop);
    return ht_mem_live() ? 1 : rc;
}
