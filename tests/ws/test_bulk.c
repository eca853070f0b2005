/* When a connection's receive window is large: while bulk has it for itself, and never beside small answers. */
#include "ws/ws_peer.h"
#include "ws/ws_priv.h"

#include <CUnit/CUnit.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>

#define LONG 262144
#define SHORT 65545 /* one piece with its header, beside small answers */
#define NOT_YET ((struct ws_bulk){.kept_short = SHORT})

static unsigned feed(struct ws_bulk *b, unsigned times, size_t n) {
    unsigned changes = 0;
    for (unsigned i = 0; i < times; i++)
        changes += ws_bulk_message(b, n);
    return changes;
}

static void bulk_alone_is_sure_after_32_long_messages(void) {
    struct ws_bulk b = NOT_YET;
    CU_ASSERT_EQUAL(feed(&b, 31, LONG), 0);
    CU_ASSERT_EQUAL(b.window, IO_WINDOW_SMALL);
    CU_ASSERT_EQUAL(feed(&b, 1, LONG), 1);
    CU_ASSERT_EQUAL(b.window, IO_WINDOW_LARGE);
    CU_ASSERT_EQUAL(feed(&b, 1000, LONG), 0);
}

static void four_short_messages_take_it_back(void) {
    struct ws_bulk b = NOT_YET;
    feed(&b, 100, LONG);
    CU_ASSERT_EQUAL(feed(&b, 3, SHORT), 0);
    CU_ASSERT_EQUAL(feed(&b, 1, SHORT), 1);
    CU_ASSERT_EQUAL(b.window, IO_WINDOW_SHRINKS);
    /* The buffer is small again when what the large window had let through has come. */
    CU_ASSERT_EQUAL(feed(&b, IO_TUNNEL_LARGE / SHORT, SHORT), 0);
    CU_ASSERT_EQUAL(feed(&b, 1, SHORT), 1);
    CU_ASSERT_EQUAL(b.window, IO_WINDOW_SMALL);
    CU_ASSERT_EQUAL(feed(&b, 1000, SHORT), 0);
}

static void what_is_shorter_still_does_not(void) {
    struct ws_bulk b = NOT_YET;
    feed(&b, 32, LONG);
    CU_ASSERT_EQUAL(feed(&b, 1000, 13), 0);        /* WINDOWs of the other direction */
    CU_ASSERT_EQUAL(feed(&b, 1000, SHORT - 1), 0); /* a source that is dry again and again */
    CU_ASSERT_EQUAL(b.window, IO_WINDOW_LARGE);
}

static void beside_small_answers_it_never_grows(void) {
    struct ws_bulk b = NOT_YET;
    for (int i = 0; i < 100; i++)
        CU_ASSERT_EQUAL(feed(&b, 7, LONG) + feed(&b, 1, SHORT) + feed(&b, 1, 100), 0);
    CU_ASSERT_EQUAL(b.window, IO_WINDOW_SMALL);
}

static void it_grows_again_while_it_shrinks(void) {
    struct ws_bulk b = NOT_YET;
    feed(&b, 32, LONG);
    feed(&b, 4, SHORT);
    CU_ASSERT_EQUAL(b.window, IO_WINDOW_SHRINKS);
    feed(&b, 32, LONG);
    CU_ASSERT_EQUAL(b.window, IO_WINDOW_LARGE);
}

/* ---- with sockets ---- */

static bool loopback_pair(int fd[2]) {
    int l = socket(AF_INET, SOCK_STREAM, 0);
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
    socklen_t len = sizeof a;
    bool ok = bind(l, (struct sockaddr *)&a, len) == 0 && listen(l, 1) == 0 &&
              getsockname(l, (struct sockaddr *)&a, &len) == 0;
    fd[0] = socket(AF_INET, SOCK_STREAM, 0);
    ok = ok && connect(fd[0], (struct sockaddr *)&a, len) == 0 && (fd[1] = accept(l, NULL, NULL)) >= 0;
    close(l);
    for (int i = 0; ok && i < 2; i++)
        fcntl(fd[i], F_SETFL, O_NONBLOCK);
    return ok;
}

static int rcvbuf(int fd) {
    int n = 0;
    socklen_t len = sizeof n;
    CU_ASSERT_EQUAL(getsockopt(fd, SOL_SOCKET, SO_RCVBUF, &n, &len), 0);
    return n;
}

/* One message of n bytes from a server's peer, unmasked as from a server, taken in by the loop. */
static void pass(struct end *e, int from, size_t n) {
    static uint8_t message[10 + LONG];
    size_t want = e->messages + 1;
    memcpy(message,
           (uint8_t[10]){0x82, 127, 0, 0, 0, 0, (uint8_t)(n >> 24), (uint8_t)(n >> 16), (uint8_t)(n >> 8), (uint8_t)n},
           10);
    uint64_t stop = ht_now_ms() + PATIENCE_MS;
    for (size_t sent = 0; (sent < 10 + n || e->messages < want) && ht_now_ms() < stop;) {
        ssize_t w = sent < 10 + n ? write(from, message + sent, 10 + n - sent) : 0;
        sent += w > 0 ? (size_t)w : 0;
        io_loop_turn(e->loop, false);
    }
    CU_ASSERT_EQUAL(e->messages, want);
    e->got.off = e->got.len = 0;
}

static void the_socket_follows(void) {
    struct end e = {.loop = io_loop_create()};
    int fd[2] = {-1, -1};
    CU_ASSERT_FATAL(e.loop && loopback_pair(fd));
    struct io_conn *c = io_conn_adopt(e.loop, fd[0], NULL, NULL);
    e.w = ws_conn_create(e.loop, c, WS_CLIENT, &usual_limits, ht_slice_str(""), &end_ops, &e);
    ws_conn_tune_tunnel(e.w, 0, SHORT);
    if (!e.w->short_way) {
        printf("# the round trip of this loopback is too long: not looked at\n");
    } else {
        int small = rcvbuf(fd[0]);
        for (int i = 0; i < 31; i++)
            pass(&e, fd[1], LONG);
        CU_ASSERT_EQUAL(rcvbuf(fd[0]), small);
        pass(&e, fd[1], LONG);
        CU_ASSERT(rcvbuf(fd[0]) > small);
        for (int i = 0; i < 4; i++)
            pass(&e, fd[1], SHORT);
        CU_ASSERT(rcvbuf(fd[0]) > small); /* what is on its way still finds its place */
        for (int i = 0; i < 17; i++)
            pass(&e, fd[1], SHORT);
        CU_ASSERT_EQUAL(rcvbuf(fd[0]), small);
    }
    ws_conn_destroy(&e.w);
    close(fd[1]);
    ht_buf_free(&e.got);
    ht_buf_free(&e.part);
    io_loop_destroy(&e.loop);
}

int main(void) {
    static const struct tap_test tests[] = {
        {"bulk alone is sure after 32 long messages", bulk_alone_is_sure_after_32_long_messages},
        {"four messages that are kept short take the large window back", four_short_messages_take_it_back},
        {"what is shorter still does not", what_is_shorter_still_does_not},
        {"beside small answers it never grows", beside_small_answers_it_never_grows},
        {"it grows again while it shrinks", it_grows_again_while_it_shrinks},
        {"the socket's buffer follows", the_socket_follows},
        {NULL, NULL},
    };
    return tap_main("bulk alone", tests);
}
