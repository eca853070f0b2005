/* Messages that are kept until they are acknowledged and sent again over the next connection, against a raw peer. */
#include "ws_peer.h"

static struct io_loop *loop;
static struct seen seen;

static void pattern(uint8_t *p, size_t n, unsigned tag) {
    for (size_t i = 0; i < n; i++)
        p[i] = (uint8_t)(tag * 37 + i * 11 + i / 256);
}

static void queue(struct end *e, unsigned tag, size_t n) {
    static uint8_t data[MAX_PULL];
    pattern(data, n, tag);
    add_message(&e->queue, data, n);
    ws_conn_want_send(e->w);
}

/* A connection that sends from `k`. `small`: the kernel takes few bytes at a time. Returns the peer's descriptor. */
static int line_open(struct end *e, enum ws_side side, struct ws_kept *k, bool small) {
    int fd = end_open(e, loop, side, ht_slice_str(""));
    CU_ASSERT_PTR_NOT_NULL_FATAL(e->w);
    int size = 4608;
    if (small)
        setsockopt(io_conn_fd(ws_conn_io(e->w)), SOL_SOCKET, SO_SNDBUF, &size, sizeof size);
    ws_conn_set_kept(e->w, k);
    e->keep = true;
    return fd;
}

static void line_end(struct end *e, int fd, struct ht_buf *back) {
    end_free(e);
    if (fd >= 0)
        close(fd);
    back->len = back->off = 0;
}

/* Reads until nothing comes any more. */
static void drain(int fd, struct ht_buf *back) {
    for (int still = 0; still < 10; still++) {
        size_t before = back->len;
        loop_turns(loop, 1);
        raw_read(fd, back);
        if (back->len > before)
            still = 0;
    }
}

static bool came(const struct ht_buf *back, size_t *at, unsigned tag, size_t n) {
    static uint8_t want[MAX_PULL];
    pattern(want, n, tag);
    return next_frame(back, at, &seen) && seen.b0 == BIN && seen.n == n && memcmp(seen.p, want, n) == 0;
}

static void nothing_is_held(struct ws_kept *k) {
    CU_ASSERT_EQUAL(ws_kept_bytes(k), 0);
    CU_ASSERT_EQUAL(io_loop_blocks(loop)->live, 0);
}

/* ---- what is kept, and in how much memory ---- */

static void blocks_are_shared_and_given_back(void) {
    for (int side = WS_SERVER; side <= WS_CLIENT; side++) {
        struct ws_kept *k = ws_kept_create(loop);
        struct ht_buf back = {0};
        struct end e;
        size_t at = 0;
        int fd = line_open(&e, (enum ws_side)side, k, false);
        for (unsigned i = 1; i <= 40; i++)
            queue(&e, i, 1000);
        drain(fd, &back);
        for (unsigned i = 1; i <= 40; i++)
            CU_ASSERT(came(&back, &at, i, 1000) && seen.masked == (side == WS_CLIENT));
        CU_ASSERT_EQUAL(at, back.len);
        CU_ASSERT_EQUAL(ws_kept_last(k), 40);
        CU_ASSERT_EQUAL(ws_kept_bytes(k), IO_BLOCK);
        CU_ASSERT_EQUAL(io_loop_blocks(loop)->live, 1);
        ws_kept_forget(k, 39);
        ws_kept_forget(k, 0);
        CU_ASSERT_EQUAL(ws_kept_bytes(k), IO_BLOCK);
        /* What is not kept needs no room for longer than it is sent. */
        e.keep = false;
        for (unsigned i = 0; i < 20; i++) {
            queue(&e, i, 100000);
            drain(fd, &back);
        }
        e.keep = true;
        queue(&e, 41, 100000);
        drain(fd, &back);
        CU_ASSERT_EQUAL(ws_kept_bytes(k), IO_BLOCK);
        CU_ASSERT_EQUAL(ws_kept_last(k), 41);
        ws_kept_forget(k, 1000); /* more than there are */
        nothing_is_held(k);
        e.keep = false;
        queue(&e, 1, 1000);
        drain(fd, &back);
        nothing_is_held(k);
        e.keep = true;
        queue(&e, 1, 1000);
        drain(fd, &back);
        CU_ASSERT_EQUAL(ws_kept_bytes(k), IO_BLOCK); /* number 42 is not forgotten in advance */
        ws_kept_destroy(&k);
        CU_ASSERT_PTR_NULL(k);
        CU_ASSERT_EQUAL(io_loop_blocks(loop)->live, 0);
        line_end(&e, fd, &back);
        ht_buf_free(&back);
    }
    ws_kept_destroy(&(struct ws_kept *){NULL});
}

static void memory_is_at_most_twice_what_is_kept(void) {
    struct ws_kept *k = ws_kept_create(loop);
    struct ht_buf back = {0};
    struct end e;
    unsigned seed = 7;
    size_t kept = 0;
    int fd = line_open(&e, WS_SERVER, k, false);
    for (unsigned i = 0; i < 300; i++) {
        size_t n = rnd(&seed) % (rnd(&seed) % 2 ? 2000 : WS_KEPT_CAP) + 1;
        kept += n;
        queue(&e, i, n);
        drain(fd, &back);
        back.len = 0;
        CU_ASSERT(ws_kept_bytes(k) >= kept && ws_kept_bytes(k) <= 2 * kept + IO_BLOCK);
    }
    CU_ASSERT(e.min_cap >= WS_KEPT_CAP);
    CU_ASSERT_EQUAL(e.max_cap, MAX_PULL);
    CU_ASSERT_EQUAL(ws_kept_last(k), 300);
    /* The longest messages leave next to nothing over. */
    ws_kept_forget(k, 300);
    for (unsigned i = 0; i < 10; i++)
        queue(&e, i, MAX_PULL);
    drain(fd, &back);
    CU_ASSERT_EQUAL(ws_kept_bytes(k), 10 * IO_BLOCK);
    for (uint64_t i = 1; i <= 10; i++) {
        ws_kept_forget(k, 300 + i);
        CU_ASSERT_EQUAL(ws_kept_bytes(k), (10 - i) * IO_BLOCK);
    }
    nothing_is_held(k);
    ws_kept_destroy(&k);
    line_end(&e, fd, &back);
    ht_buf_free(&back);
}

/* ---- sending again ---- */

static void what_was_not_acknowledged_is_sent_again(void) {
    for (int side = WS_SERVER; side <= WS_CLIENT; side++) {
        struct ws_kept *k = ws_kept_create(loop);
        struct ht_buf back = {0};
        struct end e;
        uint8_t mask[21][4];
        size_t at = 0;
        int fd = line_open(&e, (enum ws_side)side, k, false);
        for (unsigned i = 1; i <= 20; i++)
            queue(&e, i, 1000 * i);
        drain(fd, &back);
        for (unsigned i = 1; i <= 20; i++) {
            memcpy(mask[i], back.data + at + 4, 4);
            CU_ASSERT(came(&back, &at, i, 1000 * i));
        }
        line_end(&e, fd, &back);
        ws_kept_forget(k, 7);
        for (int again = 0; again < 3; again++) {
            fd = line_open(&e, (enum ws_side)side, k, again == 1);
            e.keep = false;
            queue(&e, 99, 10); /* as a handshake would be */
            drain(fd, &back);
            at = 0;
            CU_ASSERT(came(&back, &at, 99, 10));
            ws_conn_resend(e.w);
            ws_conn_resend(e.w); /* it is at it */
            queue(&e, 77, 10);
            drain(fd, &back);
            for (unsigned i = 8; i <= 20; i++) {
                if (side == WS_CLIENT) /* once in four thousand million it is the same */
                    CU_ASSERT(memcmp(mask[i], back.data + at + 4, 4) != 0);
                CU_ASSERT(came(&back, &at, i, 1000 * i));
            }
            CU_ASSERT(came(&back, &at, 77, 10) && at == back.len);
            CU_ASSERT_EQUAL(ws_kept_resent(k), 182000 * ((uint64_t)again + 1));
            line_end(&e, fd, &back);
        }
        ws_kept_forget(k, 20);
        nothing_is_held(k);
        /* With nothing to be sent again, new messages follow at once. */
        fd = line_open(&e, (enum ws_side)side, k, false);
        ws_conn_resend(e.w);
        queue(&e, 5, 500);
        drain(fd, &back);
        at = 0;
        CU_ASSERT(came(&back, &at, 5, 500) && ws_kept_last(k) == 21);
        line_end(&e, fd, &back);
        ws_kept_destroy(&k);
        ht_buf_free(&back);
    }
}

/* The connection is lost after each so many bytes, in the first sending and in each that follows. */
static void connections_lost_in_the_middle_of_messages(void) {
    static const size_t sizes[] = {3, 70000, 125, 126, 131072, 1, 65536, 20000};
    for (int side = WS_SERVER; side <= WS_CLIENT; side++) {
        struct ws_kept *k = ws_kept_create(loop);
        struct ht_buf back = {0};
        struct end e;
        unsigned seed = 11;
        int fd = line_open(&e, (enum ws_side)side, k, true);
        for (unsigned i = 0; i < HT_ARRAY_LEN(sizes); i++)
            queue(&e, i, sizes[i]);
        for (int loss = 0; loss < 60; loss++) {
            size_t bytes = rnd(&seed) % 310000;
            while (back.len < bytes) {
                size_t before = back.len;
                loop_turns(loop, 2);
                raw_read(fd, &back);
                if (back.len == before)
                    break;
            }
            struct ht_buf rest = e.queue; /* what was not pulled yet */
            e.queue = (struct ht_buf){0};
            line_end(&e, loss % 2 ? fd : -1, &back);
            if (loss % 2 == 0)
                close(fd);
            fd = line_open(&e, (enum ws_side)side, k, true);
            e.queue = rest;
            ws_conn_resend(e.w);
        }
        drain(fd, &back);
        size_t at = 0;
        for (unsigned i = 0; i < HT_ARRAY_LEN(sizes); i++)
            CU_ASSERT(came(&back, &at, i, sizes[i]));
        CU_ASSERT_EQUAL(at, back.len);
        CU_ASSERT_EQUAL(ws_kept_last(k), HT_ARRAY_LEN(sizes));
        line_end(&e, fd, &back);
        ws_kept_destroy(&k);
        ht_buf_free(&back);
    }
}

/* Messages 1..6 of 100,000 bytes are kept, and a connection has begun to send them again. */
static int half_resent(struct end *e, enum ws_side side, struct ws_kept **k, struct ht_buf *back) {
    *k = ws_kept_create(loop);
    int fd = line_open(e, side, *k, false);
    for (unsigned i = 1; i <= 6; i++)
        queue(e, i, 100000);
    drain(fd, back);
    line_end(e, fd, back);
    fd = line_open(e, side, *k, true);
    ws_conn_resend(e->w);
    loop_turns(loop, 3);
    CU_ASSERT(ws_conn_unsent(e->w) > 0 && ws_conn_unsent(e->w) < 100014); /* in the middle of the first one */
    return fd;
}

static void acknowledged_while_it_is_sent_again(void) {
    for (int side = WS_SERVER; side <= WS_CLIENT; side++)
        for (unsigned upto = 0; upto <= 6; upto++) {
            struct ws_kept *k;
            struct ht_buf back = {0};
            struct end e;
            size_t at = 0;
            int fd = half_resent(&e, (enum ws_side)side, &k, &back);
            ws_kept_forget(k, upto);
            drain(fd, &back);
            CU_ASSERT(came(&back, &at, 1, 100000)); /* whole, since it was begun */
            for (unsigned i = upto > 1 ? upto + 1 : 2; i <= 6; i++)
                CU_ASSERT(came(&back, &at, i, 100000));
            CU_ASSERT_EQUAL(at, back.len);
            ws_kept_forget(k, 6);
            nothing_is_held(k);
            queue(&e, 7, 300);
            drain(fd, &back);
            CU_ASSERT(came(&back, &at, 7, 300) && at == back.len && ws_kept_last(k) == 7);
            line_end(&e, fd, &back);
            ws_kept_destroy(&k);
            ht_buf_free(&back);
        }
}

static void acknowledged_before_it_is_out(void) {
    for (int side = WS_SERVER; side <= WS_CLIENT; side++) {
        struct ws_kept *k = ws_kept_create(loop);
        struct ht_buf back = {0};
        struct end e;
        size_t at = 0;
        int fd = line_open(&e, (enum ws_side)side, k, true);
        for (unsigned i = 1; i <= 3; i++)
            queue(&e, i, 50000);
        loop_turns(loop, 3);
        CU_ASSERT(ws_conn_unsent(e.w) > 0);
        ws_kept_forget(k, 3);
        CU_ASSERT_EQUAL(ws_kept_bytes(k), IO_BLOCK); /* it is being written from */
        drain(fd, &back);
        for (unsigned i = 1; i <= 3; i++)
            CU_ASSERT(came(&back, &at, i, 50000));
        CU_ASSERT_EQUAL(at, back.len);
        ws_kept_forget(k, 3);
        nothing_is_held(k);
        line_end(&e, fd, &back);
        ws_kept_destroy(&k);
        ht_buf_free(&back);
    }
}

static void ask_to_resend(struct end *e) { ws_conn_resend(e->w); }

static void resending_is_asked_for_in_pull(void) {
    struct ws_kept *k = ws_kept_create(loop);
    struct ht_buf back = {0};
    struct end e;
    size_t at = 0;
    int fd = line_open(&e, WS_CLIENT, k, false);
    queue(&e, 1, 90000);
    queue(&e, 2, 500);
    drain(fd, &back);
    line_end(&e, fd, &back);
    fd = line_open(&e, WS_CLIENT, k, false);
    e.keep = false;
    e.in_pull = ask_to_resend;
    queue(&e, 50, 20);
    queue(&e, 51, 20);
    drain(fd, &back);
    CU_ASSERT(came(&back, &at, 50, 20));
    CU_ASSERT(came(&back, &at, 1, 90000) && came(&back, &at, 2, 500));
    CU_ASSERT(came(&back, &at, 51, 20) && at == back.len);
    line_end(&e, fd, &back);
    ws_kept_destroy(&k);
    ht_buf_free(&back);
}

/* ---- who owns what ---- */

static struct ws_kept *in_pull_kept;
static struct end other;
static int other_fd;

static void destroy_kept(struct end *e) {
    (void)e;
    ws_kept_destroy(&in_pull_kept);
}
static void destroy_conn(struct end *e) { ws_conn_destroy(&e->w); }
static void destroy_conn_and_kept(struct end *e) {
    ws_conn_destroy(&e->w);
    ws_kept_destroy(&in_pull_kept);
}
static void destroy_kept_and_conn(struct end *e) {
    ws_kept_destroy(&in_pull_kept);
    ws_conn_destroy(&e->w);
}
static void take_away(struct end *e) { ws_conn_set_kept(e->w, NULL); }
static void take_over(struct end *e) {
    other_fd = line_open(&other, e->keep ? WS_CLIENT : WS_SERVER, in_pull_kept, false);
    ws_conn_resend(other.w);
}
static void forget_all(struct end *e) {
    (void)e;
    ws_kept_forget(in_pull_kept, 1000);
}

/* The session ends while its last words are on their way: they go out, and so do the close frames. */
static void expect_last_words(struct end *e, int fd, bool pong, size_t unsent, size_t n) {
    struct ht_buf back = {0};
    size_t at = 0;
    CU_ASSERT(ws_conn_unsent(e->w) > 0 && io_loop_blocks(loop)->live == 1);
    e->keep = false;
    queue(e, 9, 262144);
    ws_conn_close(e->w, 1001, "bye");
    drain(fd, &back);
    CU_ASSERT(!pong || (next_frame(&back, &at, &seen) && seen.b0 == PONG));
    for (unsigned i = 1; i <= unsent; i++)
        CU_ASSERT(came(&back, &at, i, n));
    CU_ASSERT(came(&back, &at, 9, 262144));
    CU_ASSERT(next_frame(&back, &at, &seen) && seen.b0 == CLOSE && at == back.len);
    CU_ASSERT_EQUAL(io_loop_blocks(loop)->live, 0);
    line_end(e, fd, &back);
    ht_buf_free(&back);
}

static void a_kept_that_is_destroyed_while_it_is_sent(void) {
    for (int side = WS_SERVER; side <= WS_CLIENT; side++)
        for (int in_pull = 0; in_pull < 2; in_pull++) {
            struct ws_kept *k = in_pull_kept = ws_kept_create(loop);
            struct ht_buf back = {0};
            struct end e;
            int fd = line_open(&e, (enum ws_side)side, k, true);
            for (unsigned i = 1; i <= 4; i++)
                queue(&e, i, 30000);
            add_frame(&back, PING, side == WS_SERVER, 0, "ping", 4);
            raw_write(loop, fd, back.data, back.len);
            back.len = 0;
            if (in_pull)
                e.in_pull = destroy_kept;
            loop_turns(loop, 3);
            CU_ASSERT(ws_conn_unsent(e.w) > 0);
            if (!in_pull)
                ws_kept_destroy(&in_pull_kept);
            CU_ASSERT_PTR_NULL(in_pull_kept);
            ht_buf_free(&back);
            expect_last_words(&e, fd, true, 4, 30000);
        }
}

static void a_kept_that_is_destroyed_while_the_last_is_sent_again(void) {
    for (int side = WS_SERVER; side <= WS_CLIENT; side++) {
        struct ws_kept *k = ws_kept_create(loop);
        struct ht_buf back = {0};
        struct end e;
        int fd = line_open(&e, (enum ws_side)side, k, false);
        queue(&e, 1, 100000);
        drain(fd, &back);
        line_end(&e, fd, &back);
        fd = line_open(&e, (enum ws_side)side, k, true);
        ws_conn_resend(e.w);
        loop_turns(loop, 3);
        ws_kept_destroy(&k);
        ht_buf_free(&back);
        expect_last_words(&e, fd, false, 1, 100000);
    }
}

/* Control frames and a block's worth of messages must fit into one block. */
static void a_whole_block_is_taken_along(void) {
    struct ws_kept *k = ws_kept_create(loop);
    struct ht_buf back = {0};
    struct end e;
    uint8_t payload[125] = {1};
    size_t at = 0;
    int fd = line_open(&e, WS_CLIENT, k, true);
    queue(&e, 1, 60000);
    e.fill = true;
    add_frame(&back, PING, false, 0, payload, sizeof payload);
    raw_write(loop, fd, back.data, back.len);
    back.len = 0;
    ws_conn_ping(e.w);
    loop_turns(loop, 3);
    CU_ASSERT(ws_conn_unsent(e.w) > 200000 && ws_kept_bytes(k) == IO_BLOCK);
    ws_conn_set_kept(e.w, NULL);
    CU_ASSERT_EQUAL(ws_kept_bytes(k), IO_BLOCK);
    ws_kept_destroy(&k);
    drain(fd, &back);
    CU_ASSERT(next_frame(&back, &at, &seen) && seen.b0 == PING);
    CU_ASSERT(next_frame(&back, &at, &seen) && seen.b0 == PONG && seen.n == 125);
    CU_ASSERT(came(&back, &at, 1, 60000));
    CU_ASSERT(next_frame(&back, &at, &seen) && seen.n > 200000 && at == back.len && seen.p[seen.n - 1] == 'f');
    line_end(&e, fd, &back);
    CU_ASSERT_EQUAL(io_loop_blocks(loop)->live, 0);
    ht_buf_free(&back);
}

/* Messages are missing then, so none may follow. */
static void a_kept_that_leaves_while_it_is_sent_again(void) {
    for (int side = WS_SERVER; side <= WS_CLIENT; side++)
        for (int how = 0; how < 2; how++) {
            struct ws_kept *k;
            struct ht_buf back = {0};
            struct end e;
            size_t at = 0;
            int fd = half_resent(&e, (enum ws_side)side, &k, &back);
            if (how == 0)
                ws_kept_destroy(&k);
            else
                ws_conn_set_kept(e.w, NULL);
            size_t pulls = e.pulls;
            queue(&e, 9, 10);
            ws_conn_ping(e.w);
            drain(fd, &back);
            CU_ASSERT(came(&back, &at, 1, 100000));
            CU_ASSERT(next_frame(&back, &at, &seen) && seen.b0 == PING && at == back.len);
            CU_ASSERT_EQUAL(e.pulls, pulls);
            ws_conn_close(e.w, 1001, "bye");
            drain(fd, &back);
            CU_ASSERT(next_frame(&back, &at, &seen) && seen.b0 == CLOSE && at == back.len);
            CU_ASSERT_EQUAL(e.pulls, pulls);
            line_end(&e, fd, &back);
            ws_kept_destroy(&k);
            CU_ASSERT_EQUAL(io_loop_blocks(loop)->live, 0);
            ht_buf_free(&back);
        }
}

/* Both send the same bytes, and the second masks them anew while the first is half-way. */
static void another_connection_takes_over(void) {
    for (int side = WS_SERVER; side <= WS_CLIENT; side++) {
        struct ws_kept *k = ws_kept_create(loop);
        struct ht_buf back = {0}, back2 = {0};
        struct end e, e2;
        size_t at = 0, at2 = 0;
        int fd = line_open(&e, (enum ws_side)side, k, true);
        for (unsigned i = 1; i <= 5; i++)
            queue(&e, i, 60000);
        loop_turns(loop, 3);
        CU_ASSERT(ws_conn_unsent(e.w) > 0);
        uint64_t pulled = ws_kept_last(k);
        int fd2 = line_open(&e2, (enum ws_side)side, k, true);
        ws_conn_resend(e2.w);
        loop_turns(loop, 3);
        ws_conn_close(e.w, 1001, "");
        e.queue.len = 0; /* its link has nothing more for it */
        e.queue.off = 0;
        drain(fd2, &back2);
        drain(fd, &back);
        CU_ASSERT(pulled > 0 && pulled < 5);
        for (unsigned i = 1; i <= pulled; i++) {
            CU_ASSERT(came(&back, &at, i, 60000));
            CU_ASSERT(came(&back2, &at2, i, 60000));
        }
        CU_ASSERT_EQUAL(at2, back2.len);
        CU_ASSERT(next_frame(&back, &at, &seen) && seen.b0 == CLOSE && at == back.len);
        ws_kept_forget(k, 5);
        nothing_is_held(k);
        line_end(&e, fd, &back);
        line_end(&e2, fd2, &back2);
        ws_kept_destroy(&k);
        ht_buf_free(&back);
        ht_buf_free(&back2);
    }
}

static void a_connection_that_cannot_take_its_bytes_along(void) {
    struct ws_kept *k = ws_kept_create(loop);
    struct ht_buf back = {0};
    struct end e;
    int fd = line_open(&e, WS_CLIENT, k, true);
    queue(&e, 1, 100000);
    loop_turns(loop, 3);
    CU_ASSERT(ws_conn_unsent(e.w) > 0);
    ht_pool_drain(io_loop_blocks(loop));
    ht_mem_fail_at(0);
    ws_conn_set_kept(e.w, NULL);
    CU_ASSERT_FALSE(ht_mem_fail_pending());
    ht_mem_fail_at(-1);
    CU_ASSERT_EQUAL(e.closed, 0);
    CU_ASSERT(loop_until(loop, &e.closed, PATIENCE_MS));
    CU_ASSERT_EQUAL(e.code, 1006);
    line_end(&e, fd, &back);
    fd = line_open(&e, WS_CLIENT, k, false);
    ws_conn_resend(e.w);
    drain(fd, &back);
    size_t at = 0;
    CU_ASSERT(came(&back, &at, 1, 100000) && at == back.len);
    line_end(&e, fd, &back);
    ws_kept_destroy(&k);
    ht_buf_free(&back);
}

/* Whatever the owner does in pull(), a message that it counts is not lost. */
static void anything_may_happen_in_pull(void) {
    static const struct {
        void (*what)(struct end *);
        bool kept_stays, conn_stays;
    } cases[] = {
        {destroy_conn, true, false},
        {destroy_conn_and_kept, false, false},
        {destroy_kept_and_conn, false, false},
        {take_away, true, true},
        {take_over, true, true},
        {forget_all, true, true},
    };
    for (size_t i = 0; i < HT_ARRAY_LEN(cases); i++) {
        in_pull_kept = ws_kept_create(loop);
        other = (struct end){.loop = loop};
        other_fd = -1;
        struct ht_buf back = {0};
        struct end e;
        size_t at = 0;
        int fd = line_open(&e, WS_CLIENT, in_pull_kept, false);
        queue(&e, 1, 4000);
        drain(fd, &back);
        CU_ASSERT(came(&back, &at, 1, 4000));
        e.in_pull = cases[i].what;
        queue(&e, 2, 5000);
        drain(fd, &back);
        CU_ASSERT_EQUAL(e.w != NULL, cases[i].conn_stays);
        CU_ASSERT_EQUAL(in_pull_kept != NULL, cases[i].kept_stays);
        if (in_pull_kept)
            CU_ASSERT_EQUAL(ws_kept_last(in_pull_kept), 2);
        if (cases[i].what == forget_all) { /* 1 alone could be forgotten: 2 was not there yet */
            CU_ASSERT(came(&back, &at, 2, 5000));
            CU_ASSERT_EQUAL(ws_kept_bytes(in_pull_kept), IO_BLOCK);
            ws_kept_forget(in_pull_kept, 1);
        }
        CU_ASSERT_EQUAL(at, back.len); /* without its kept it has nothing to send */
        line_end(&e, fd, &back);
        if (in_pull_kept) {
            if (other_fd < 0)
                take_over(&e);
            other.keep = true;
            queue(&other, 3, 6000);
            drain(other_fd, &back);
            at = 0;
            CU_ASSERT(cases[i].what == forget_all || came(&back, &at, 1, 4000));
            CU_ASSERT(came(&back, &at, 2, 5000) && came(&back, &at, 3, 6000) && at == back.len);
            line_end(&other, other_fd, &back);
        }
        ws_kept_destroy(&in_pull_kept);
        CU_ASSERT_EQUAL(io_loop_blocks(loop)->live, 0);
        ht_buf_free(&back);
    }
}

/* ---- control frames and closing ---- */

static void pings_are_answered_meanwhile(void) {
    for (int side = WS_SERVER; side <= WS_CLIENT; side++) {
        struct ws_kept *k;
        struct ht_buf back = {0}, wire = {0};
        struct end e;
        size_t at = 0;
        int fd = half_resent(&e, (enum ws_side)side, &k, &back);
        add_frame(&wire, PING, side == WS_SERVER, 0, "ping", 4);
        raw_write(loop, fd, wire.data, wire.len);
        drain(fd, &back);
        CU_ASSERT(came(&back, &at, 1, 100000));
        CU_ASSERT(next_frame(&back, &at, &seen) && seen.b0 == PONG && seen.n == 4);
        for (unsigned i = 2; i <= 6; i++)
            CU_ASSERT(came(&back, &at, i, 100000));
        raw_write(loop, fd, wire.data, wire.len);
        queue(&e, 7, 10);
        drain(fd, &back);
        CU_ASSERT(next_frame(&back, &at, &seen) && seen.b0 == PONG);
        CU_ASSERT(came(&back, &at, 7, 10) && at == back.len);
        line_end(&e, fd, &back);
        ws_kept_destroy(&k);
        ht_buf_free(&back);
        ht_buf_free(&wire);
    }
}

static void closing_meanwhile(void) {
    for (int side = WS_SERVER; side <= WS_CLIENT; side++)
        for (int by_peer = 0; by_peer < 2; by_peer++) {
            struct ws_kept *k;
            struct ht_buf back = {0}, wire = {0};
            struct end e;
            size_t at = 0;
            int fd = half_resent(&e, (enum ws_side)side, &k, &back);
            add_frame(&wire, CLOSE, side == WS_SERVER, 0, "\x03\xe8", 2);
            if (by_peer)
                raw_write(loop, fd, wire.data, wire.len);
            else
                ws_conn_close(e.w, 1000, "");
            drain(fd, &back);
            /* What has lost its reader is not sent; else everything goes first. */
            for (unsigned i = 1; i <= (by_peer ? 1 : 6); i++)
                CU_ASSERT(came(&back, &at, i, 100000));
            CU_ASSERT(next_frame(&back, &at, &seen) && seen.b0 == CLOSE && at == back.len);
            line_end(&e, fd, &back);
            CU_ASSERT_EQUAL(ws_kept_last(k), 6);
            fd = line_open(&e, (enum ws_side)side, k, false);
            ws_conn_resend(e.w);
            drain(fd, &back);
            at = 0;
            for (unsigned i = 1; i <= 6; i++)
                CU_ASSERT(came(&back, &at, i, 100000));
            line_end(&e, fd, &back);
            ws_kept_destroy(&k);
            ht_buf_free(&back);
            ht_buf_free(&wire);
        }
}

/* ---- memory ---- */

/* Two connections, the second sends again. What was pulled is never lost, and a connection without memory ends. */
static void with_little_memory(struct ws_kept *k) {
    struct ht_buf back = {0}, wire = {0};
    struct end e;
    add_frame(&wire, PING, true, 0, "p", 1);
    for (int again = 0; again < 2; again++) {
        int fd = end_open(&e, loop, WS_CLIENT, ht_slice_str(""));
        if (e.w) {
            ws_conn_set_kept(e.w, k);
            e.keep = true;
            if (again)
                ws_conn_resend(e.w);
            for (unsigned i = 0; i < 3; i++)
                queue(&e, i, 120000);
            ws_conn_ping(e.w);
            drain(fd, &back);
            CU_ASSERT(!e.closed || e.code == 1006);
            CU_ASSERT(e.closed || ht_buf_size(&e.queue) == 0);
        }
        line_end(&e, fd, &back);
    }
    ht_buf_free(&back);
    ht_buf_free(&wire);
}

static void failing_allocations(void) {
    long i = 0;
    for (bool failed = true; failed; i++) {
        ht_pool_drain(io_loop_blocks(loop));
        size_t live = ht_mem_live();
        ht_mem_fail_at(i);
        struct ws_kept *k = ws_kept_create(loop);
        if (k)
            with_little_memory(k);
        failed = !ht_mem_fail_pending();
        ht_mem_fail_at(-1);
        if (k) { /* now there is memory: everything that was counted arrives */
            struct ht_buf back = {0};
            struct end e;
            uint64_t n = 0;
            size_t at = 0;
            int fd = line_open(&e, WS_CLIENT, k, false);
            ws_conn_resend(e.w);
            drain(fd, &back);
            while (next_frame(&back, &at, &seen))
                n += seen.n == 120000;
            CU_ASSERT_EQUAL(n, ws_kept_last(k));
            CU_ASSERT_EQUAL(at, back.len);
            line_end(&e, fd, &back);
            ht_buf_free(&back);
        }
        ws_kept_destroy(&k);
        CU_ASSERT_EQUAL(io_loop_blocks(loop)->live, 0);
        ht_pool_drain(io_loop_blocks(loop));
        loop_turns(loop, 2);
        CU_ASSERT_EQUAL(ht_mem_live(), live);
    }
    CU_ASSERT(i > 8);
}

int main(void) {
    alarm(120);
    io_ignore_sigpipe();
    int fds = io_count_fds();
    loop = io_loop_create();
    static const struct tap_test tests[] = {
        {"blocks are shared, and given back", blocks_are_shared_and_given_back},
        {"memory is at most twice what is kept", memory_is_at_most_twice_what_is_kept},
        {"what was not acknowledged is sent again, masked anew", what_was_not_acknowledged_is_sent_again},
        {"connections are lost in the middle of messages", connections_lost_in_the_middle_of_messages},
        {"messages are acknowledged while they are sent again", acknowledged_while_it_is_sent_again},
        {"messages are acknowledged before they are out", acknowledged_before_it_is_out},
        {"resending may be asked for in pull", resending_is_asked_for_in_pull},
        {"a kept is destroyed while it is sent", a_kept_that_is_destroyed_while_it_is_sent},
        {"a kept is destroyed while the last message is sent again",
         a_kept_that_is_destroyed_while_the_last_is_sent_again},
        {"a whole block is taken along", a_whole_block_is_taken_along},
        {"a kept leaves while it is sent again", a_kept_that_leaves_while_it_is_sent_again},
        {"another connection takes over", another_connection_takes_over},
        {"a connection that cannot take its bytes along ends", a_connection_that_cannot_take_its_bytes_along},
        {"anything may happen in pull", anything_may_happen_in_pull},
        {"PINGs are answered meanwhile", pings_are_answered_meanwhile},
        {"connections are closed meanwhile", closing_meanwhile},
        {"each allocation may fail", failing_allocations},
        {NULL, NULL},
    };
    int rc = tap_main("ws kept", tests);
    loop_turns(loop, 2);
    io_loop_destroy(&loop);
    if (io_count_fds() != fds || ht_mem_live() != 0) {
        printf("Bail out! %d descriptors, %zu blocks left\n", io_count_fds() - fds, ht_mem_live());
        return 1;
    }
    return rc;
}
