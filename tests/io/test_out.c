/* A connection's write queue: what is borrowed, what is copied, and in which order it leaves. */
#include "net_support.h"

#include <sys/socket.h>

static struct {
    struct side side;
    struct io_out out;
    int fd; /* the peer's end */
} w;

static void begin(void) {
    int fd[2];
    memset(&w, 0, sizeof w);
    CU_ASSERT_EQUAL_FATAL(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fd), 0);
    w.fd = fd[1];
    w.side.c = io_conn_adopt(loop, fd[0], &side_ops, &w.side);
    CU_ASSERT_PTR_NOT_NULL_FATAL(w.side.c);
}

static void end(void) {
    io_out_free(&w.out);
    CU_ASSERT_EQUAL(io_out_pending(&w.out), 0);
    io_conn_close(&w.side.c);
    if (w.fd >= 0)
        close(w.fd);
}

static void add(const char *text) { CU_ASSERT_EQUAL(io_out_add(&w.out, text, strlen(text)), 0); }

/* Fills the socket; returns with how many bytes. */
static size_t fill(void) {
    static const char filling[4096] = {0};
    size_t all = 0;
    for (ssize_t n; (n = side_write(&w.side, filling, sizeof filling)) > 0;)
        all += (size_t)n;
    return all;
}

/* Takes exactly so many bytes off the peer's end. */
static void take(size_t n) {
    char drop[4096];
    while (n > 0) {
        ssize_t got = read(w.fd, drop, ht_min(n, sizeof drop));
        CU_ASSERT_FATAL(got > 0);
        n -= (size_t)got;
    }
}

static void expect(const char *text) {
    char got[512];
    ssize_t n = read(w.fd, got, sizeof got);
    CU_ASSERT_EQUAL(n, (ssize_t)strlen(text));
    CU_ASSERT(n < 0 || memcmp(got, text, (size_t)n) == 0);
}

static void borrowed_goes_without_a_copy(void) {
    begin();
    CU_ASSERT_EQUAL(io_out_flush(&w.out, w.side.c), 0); /* nothing is fine */
    add("one ");
    add("");
    add("two");
    CU_ASSERT_EQUAL(w.out.n_iov, 2);
    CU_ASSERT_EQUAL(io_out_pending(&w.out), 7);
    CU_ASSERT_EQUAL(io_out_flush(&w.out, w.side.c), 7);
    CU_ASSERT_PTR_NULL(w.out.queue.data);
    CU_ASSERT_EQUAL(io_out_pending(&w.out), 0);
    expect("one two");
    end();
}

/* However many slices, and copies between them: the order stays. */
static void more_slices_than_places(void) {
    char want[3 * 26 + 16] = "";
    static const char letters[] = "abcdefghijklmnopqrstuvwxyz";
    begin();
    for (int i = 0; i < 2 * IO_OUT_IOV; i++) {
        CU_ASSERT_EQUAL(io_out_add(&w.out, letters + i % 26, 1), 0);
        strncat(want, letters + i % 26, 1);
    }
    CU_ASSERT_EQUAL(ht_buf_size(&w.out.queue), IO_OUT_IOV);
    CU_ASSERT_EQUAL(io_out_spill(&w.out), 0);
    CU_ASSERT_EQUAL(ht_buf_size(&w.out.queue), 2 * IO_OUT_IOV);
    CU_ASSERT_EQUAL(ht_buf_append(&w.out.queue, "copied ", 7), 0);
    add("borrowed");
    strcat(want, "copied borrowed");
    CU_ASSERT_EQUAL(io_out_flush(&w.out, w.side.c), (ssize_t)strlen(want));
    expect(want);
    CU_ASSERT_PTR_NULL(w.out.queue.data); /* caught up: the memory goes back */
    end();
}

/* What a full socket does not take is copied, so that what was lent may go; it is written when there is room. */
static void a_full_socket(void) {
    char lent[] = "lent";
    begin();
    size_t all = fill();
    add(lent);
    CU_ASSERT_EQUAL(io_out_flush(&w.out, w.side.c), 0);
    memset(lent, 'x', 4);
    CU_ASSERT(io_out_pending(&w.out) == 4 && w.out.n_iov == 0);
    CU_ASSERT_EQUAL(w.side.writable, 0);
    take(all);
    CU_ASSERT(turn_until(&w.side.writable, PATIENCE_MS)); /* it was asked for */
    CU_ASSERT_EQUAL(io_out_flush(&w.out, w.side.c), 4);
    expect("lent");
    end();
}

/* The kernel takes a part, which may end anywhere: in the queue, or in any of the slices. */
static void a_part_is_written(void) {
    static char piece[3][300000];
    for (int i = 0; i < 3; i++)
        memset(piece[i], 'a' + i, sizeof piece[i]);
    begin();
    CU_ASSERT_EQUAL(ht_buf_append(&w.out.queue, piece[0], sizeof piece[0]), 0);
    CU_ASSERT_EQUAL(io_out_add(&w.out, piece[1], sizeof piece[1]), 0);
    CU_ASSERT_EQUAL(io_out_add(&w.out, piece[2], sizeof piece[2]), 0);
    size_t left = sizeof piece, at = 0;
    while (at < sizeof piece) {
        char got[70000];
        ssize_t n = io_out_flush(&w.out, w.side.c);
        CU_ASSERT_FATAL(n >= 0);
        left -= (size_t)n;
        CU_ASSERT_EQUAL(io_out_pending(&w.out), left);
        while ((n = read(w.fd, got, sizeof got)) > 0)
            for (ssize_t i = 0; i < n; i++, at++)
                if (got[i] != 'a' + (char)(at / sizeof piece[0]))
                    CU_FAIL_FATAL("a byte out of order");
    }
    CU_ASSERT_EQUAL(left, 0);
    end();
}

static void forgetting(void) {
    begin();
    add("first ");
    CU_ASSERT_EQUAL(io_out_spill(&w.out), 0);
    add("second");
    io_out_drop_borrowed(&w.out);
    CU_ASSERT_EQUAL(io_out_flush(&w.out, w.side.c), 6);
    expect("first ");
    end();
}

static void errors(void) {
    begin();
    add("kept");
    ht_mem_fail_at(0);
    CU_ASSERT_EQUAL(io_out_spill(&w.out), HT_ENOMEM);
    ht_mem_fail_at(-1);
    CU_ASSERT_EQUAL(io_out_flush(&w.out, w.side.c), 4); /* nothing was lost */
    expect("kept");
    close(w.fd);
    w.fd = -1;
    add("late");
    CU_ASSERT(io_out_flush(&w.out, w.side.c) < 0);
    end();
}

static const struct tap_test tests[] = {
    {"what is borrowed goes without a copy", borrowed_goes_without_a_copy},
    {"more slices than places are copied", more_slices_than_places},
    {"a full socket keeps the rest until it is writable", a_full_socket},
    {"the rest of a slice that was written in part is kept", a_part_is_written},
    {"dropping borrowed bytes keeps the copies", forgetting},
    {"errors of the connection are returned", errors},
    {NULL, NULL},
};

int main(void) {
    io_ignore_sigpipe();
    loop = io_loop_create();
    int rc = loop ? tap_main("io, write queue", tests) : 1;
    io_loop_destroy(&loop);
    return rc;
}
