/* Connections, listeners and dialling over socket pairs and loopback. */
#include "io/share.h"
#include "net_support.h"
#include "support/ports.h"

#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/resource.h>
#include <sys/wait.h>

/* ---- a listener that adopts what comes ---- */

struct host {
    struct io_listener *l;
    struct side side[8];
    int n, failed, failed_err;
    bool refuse, close_listener;
    char peer[IO_ADDR_TEXT];
};

static void host_accepted(void *ctx, struct io_conn *c, const struct io_addr *peer) {
    struct host *h = ctx;
    io_addr_text(peer, h->peer);
    if (h->refuse || h->n == 8) {
        io_conn_close(&c);
        h->n++;
        return;
    }
    struct side *s = &h->side[h->n++];
    s->c = c;
    io_conn_set_ops(c, &side_ops, s);
    io_conn_read_on(c, true);
    if (h->close_listener)
        io_listener_close(&h->l);
}

static void host_failed(void *ctx, int err) {
    struct host *h = ctx;
    h->failed++;
    h->failed_err = err;
}

static const struct io_listener_ops host_ops = {host_accepted, host_failed};

static uint16_t host_open(struct host *h, const char *ip, uint16_t port) {
    struct io_addr a;
    struct ht_errmsg e;
    *h = (struct host){0};
    if (io_addr_parse(&a, ip, port) != HT_OK || io_listen(loop, &a, &host_ops, h, &h->l, &e) != HT_OK)
        return 0;
    io_listener_local(h->l, &a);
    return io_addr_port(&a);
}

static void host_free(struct host *h) {
    for (int i = 0; i < h->n && i < 8; i++)
        io_conn_close(&h->side[i].c);
    io_listener_close(&h->l);
}

static struct io_dial *dial_to(struct dialled *d, const char *name, uint16_t port, uint64_t ms) {
    struct ht_errmsg e;
    *d = (struct dialled){0};
    return io_dial_start(loop, name, port, NULL, ms, &dial_ops, d, &e);
}

/* A connected pair through the kernel's TCP. */
static bool tcp_pair(struct host *h, struct dialled *d) {
    uint16_t port = host_open(h, "127.0.0.1", 0);
    if (!port || !dial_to(d, "127.0.0.1", port, PATIENCE_MS) || !turn_until(&d->done, PATIENCE_MS))
        return false;
    return turn_until(&h->n, PATIENCE_MS) && d->side.c;
}

static void one_read_fills_several_pieces(void) {
    struct host h;
    struct dialled d;
    CU_ASSERT_FATAL(tcp_pair(&h, &d));
    struct side *b = &h.side[0];
    io_conn_read_on(b->c, false);
    CU_ASSERT_EQUAL(side_write(&d.side, "abcdefghij", 10), 10);
    CU_ASSERT_EQUAL(poll(&(struct pollfd){.fd = io_conn_fd(b->c), .events = POLLIN}, 1, PATIENCE_MS), 1);
    char out[3][4] = {{0}};
    const struct iovec to[3] = {{out[0], 2}, {out[1], 1}, {out[2], 3}};
    CU_ASSERT_EQUAL(io_conn_readv(b->c, to, 3, 4), 4); /* no more than it may, wherever that ends */
    CU_ASSERT(memcmp(out[0], "ab", 3) == 0 && memcmp(out[1], "c", 2) == 0 && memcmp(out[2], "d", 2) == 0);
    CU_ASSERT_EQUAL(io_conn_readv(b->c, to, 3, 100), 6);
    CU_ASSERT(memcmp(out[0], "ef", 3) == 0 && memcmp(out[1], "g", 2) == 0 && memcmp(out[2], "hij", 4) == 0);
    CU_ASSERT_EQUAL(io_conn_readv(b->c, to, 3, 100), HT_EAGAIN);
    uint64_t in, n_out;
    io_conn_counts(b->c, &in, &n_out);
    CU_ASSERT_EQUAL(in, 10);
    io_conn_close(&d.side.c);
    host_free(&h);
}

/* ---- congestion control ---- */

static const char *control_of(int fd, char out[16]) {
    socklen_t len = 15;
    memset(out, 0, 16);
    CU_ASSERT_EQUAL(getsockopt(fd, IPPROTO_TCP, TCP_CONGESTION, out, &len), 0);
    return out;
}

/* The end that was dialled chooses when it has something to send. */
static void write_bulk(struct io_conn *c, int to) {
    static char block[65536];
    struct iovec v = {block, sizeof block};
    uint64_t in, out = 0;
    while (out < 300000) {
        ssize_t n = io_conn_write(c, &v, 1);
        CU_ASSERT_FATAL(n > 0 || n == HT_EAGAIN);
        while (read(to, block, sizeof block) > 0)
            ;
        io_conn_counts(c, &in, &out);
    }
}

/* On a machine that has BBR for everything, connections inside it have something else, and all others BBR still. */
static void nothing_paces_inside_the_machine(void) {
    struct host h;
    struct dialled d;
    char usual[16], got[16];
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    control_of(fd, usual);
    bool paces = strncmp(usual, "bbr", 3) == 0;
    if (!paces)
        printf("# this machine has %s for everything, which stays\n", usual);
    for (int any = 0; any < 2; any++) { /* a listener of its own, and one for all addresses */
        uint16_t port = host_open(&h, any ? "0.0.0.0" : "127.0.0.1", 0);
        CU_ASSERT_FATAL(port && dial_to(&d, "127.0.0.1", port, PATIENCE_MS) && turn_until(&d.done, PATIENCE_MS));
        CU_ASSERT_FATAL(turn_until(&h.n, PATIENCE_MS) && d.side.c);
        int ends[2] = {io_conn_fd(d.side.c), io_conn_fd(h.side[0].c)};
        write_bulk(d.side.c, ends[1]);
        for (int i = 0; i < 2; i++)
            CU_ASSERT(paces ? strncmp(control_of(ends[i], got), "bbr", 3) != 0
                            : !strcmp(control_of(ends[i], got), usual));
        io_conn_close(&d.side.c);
        host_free(&h);
    }
    CU_ASSERT_STRING_EQUAL(control_of(fd, got), usual);
    close(fd);
    /* The address of a documentation net (RFC 5737): nobody answers, and nothing there is this machine's. */
    CU_ASSERT_FATAL(dial_to(&d, "192.0.2.1", 9, 50) != NULL);
    int newest = dup(0);
    close(newest);
    for (fd = 3; fd <= newest; fd++) { /* its socket is one of these */
        struct sockaddr_in at;
        socklen_t len = sizeof at;
        int type = 0;
        socklen_t type_len = sizeof type;
        if (getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &type_len) == 0 && type == SOCK_STREAM &&
            getsockname(fd, (struct sockaddr *)&at, &len) == 0 && at.sin_family == AF_INET)
            CU_ASSERT_STRING_EQUAL(control_of(fd, got), usual);
    }
    CU_ASSERT(turn_until(&d.done, PATIENCE_MS));
}

/* The kernel tells of a reset once. Told to a writer, it must not be an end for the reader. */
static void a_reset_stays_one(void) {
    for (int asks = 0; asks < 2; asks++) {
        int fd[2], listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
        socklen_t len = sizeof at;
        CU_ASSERT_FATAL(listener >= 0 && bind(listener, (struct sockaddr *)&at, len) == 0 && listen(listener, 1) == 0);
        CU_ASSERT_FATAL(getsockname(listener, (struct sockaddr *)&at, &len) == 0);
        fd[0] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        CU_ASSERT_FATAL(connect(fd[0], (struct sockaddr *)&at, len) == 0);
        fd[1] = accept(listener, NULL, NULL);
        close(listener);
        struct io_conn *c = io_conn_adopt(loop, fd[0], NULL, NULL);
        CU_ASSERT_FATAL(fd[1] >= 0 && c != NULL);
        CU_ASSERT_EQUAL(write(fd[1], "abc", 3), 3);
        setsockopt(fd[1], SOL_SOCKET, SO_LINGER, &(struct linger){.l_onoff = 1}, sizeof(struct linger));
        close(fd[1]);
        char got[8];
        struct iovec v = {(void *)(uintptr_t) "x", 1};
        CU_ASSERT_EQUAL(asks ? io_conn_error(c) : (int)io_conn_write(c, &v, 1), HT_ERESET);
        ssize_t n;
        while ((n = io_conn_read(c, got, sizeof got)) > 0) /* what had come before it, if the kernel still has it */
            CU_ASSERT_EQUAL(n, 3);
        CU_ASSERT_EQUAL(n, HT_ERESET);
        CU_ASSERT_EQUAL(io_conn_discard(c), HT_ERESET);
        io_conn_close(&c);
    }
}

static void bytes_half_close_and_counts(void) {
    struct host h;
    struct dialled d;
    CU_ASSERT_FATAL(tcp_pair(&h, &d));
    struct side *a = &d.side, *b = &h.side[0];
    struct iovec v[3] = {{(void *)(uintptr_t) "one", 3}, {NULL, 0}, {(void *)(uintptr_t) "twox", 4}};
    CU_ASSERT_EQUAL(io_conn_write(a->c, v, 3), 7);
    while (b->got < 7)
        io_loop_turn(loop, true);
    CU_ASSERT_EQUAL(b->last, 'x');
    CU_ASSERT_EQUAL(io_conn_shutdown(a->c), HT_OK);
    CU_ASSERT_EQUAL(io_conn_shutdown(a->c), HT_OK);
    CU_ASSERT(turn_until(&b->ended, PATIENCE_MS));
    CU_ASSERT_EQUAL(b->err, HT_EOF);
    CU_ASSERT_EQUAL(side_write(b, "back", 4), 4); /* the other direction goes on */
    while (a->got < 4)
        io_loop_turn(loop, true);
    uint64_t in, out;
    io_conn_counts(a->c, &in, &out);
    CU_ASSERT(in == 4 && out == 7);
    int nodelay = 0;
    socklen_t len = sizeof nodelay;
    getsockopt(io_conn_fd(a->c), IPPROTO_TCP, TCP_NODELAY, &nodelay, &len);
    CU_ASSERT(nodelay != 0);
    io_conn_tune_tunnel(a->c, 30000);
    unsigned dead = 0;
    socklen_t dead_len = sizeof dead;
    CU_ASSERT_EQUAL(getsockopt(io_conn_fd(a->c), IPPROTO_TCP, TCP_USER_TIMEOUT, &dead, &dead_len), 0);
    CU_ASSERT_EQUAL(dead, 30000);
    struct io_addr pa, lb;
    char ta[IO_ADDR_TEXT], tb[IO_ADDR_TEXT];
    io_conn_peer(a->c, &pa);
    io_conn_local(b->c, &lb);
    CU_ASSERT_STRING_EQUAL(io_addr_text(&pa, ta), io_addr_text(&lb, tb));
    io_conn_local(a->c, &pa);
    CU_ASSERT_STRING_EQUAL(io_addr_text(&pa, ta), h.peer);
    io_conn_close(&a->c);
    io_conn_close(&a->c);
    CU_ASSERT_PTR_NULL(a->c);
    host_free(&h);
}

static void reading_pauses_and_is_level_triggered(void) {
    struct host h;
    struct dialled d;
    CU_ASSERT_FATAL(tcp_pair(&h, &d));
    struct side *b = &h.side[0];
    io_conn_read_on(b->c, false);
    CU_ASSERT_EQUAL(side_write(&d.side, "0123456789", 10), 10);
    turns(5);
    CU_ASSERT_EQUAL(b->got, 0);
    b->cap = 1;
    io_conn_read_on(b->c, true);
    io_conn_read_on(b->c, false);
    io_conn_read_on(b->c, true);
    for (int i = 0; b->got < 10 && i < 1000; i++)
        io_loop_turn(loop, true);
    CU_ASSERT_EQUAL(b->got, 10);
    CU_ASSERT(b->reads >= 10);
    io_conn_close(&d.side.c);
    host_free(&h);
}

static void a_full_socket_blocks_and_becomes_writable(void) {
    struct host h;
    struct dialled d;
    CU_ASSERT_FATAL(tcp_pair(&h, &d));
    struct side *a = &d.side, *b = &h.side[0];
    static uint8_t block[65536];
    io_conn_read_on(b->c, false);
    size_t sent = 0;
    ssize_t n;
    while ((n = side_write(a, block, sizeof block)) > 0)
        sent += (size_t)n;
    CU_ASSERT_EQUAL(n, HT_EAGAIN);
    io_conn_want_write(a->c, true);
    turns(3);
    CU_ASSERT_EQUAL(a->writable, 0);
    io_conn_read_on(b->c, true);
    CU_ASSERT(turn_until(&a->writable, PATIENCE_MS));
    CU_ASSERT_EQUAL(a->writable, 1);
    for (int i = 0; b->got < sent && i < 100000; i++)
        io_loop_turn(loop, true);
    CU_ASSERT_EQUAL(b->got, sent);
    io_conn_close(&a->c);
    host_free(&h);
}

static void an_abort_is_no_clean_end(void) {
    struct host h;
    struct dialled d;
    CU_ASSERT_FATAL(tcp_pair(&h, &d));
    io_conn_abort(&d.side.c);
    io_conn_abort(&d.side.c);
    CU_ASSERT(turn_until(&h.side[0].ended, PATIENCE_MS));
    CU_ASSERT_EQUAL(h.side[0].err, HT_ERESET);
    /* Writing to a dead one is an error, not a signal. */
    ssize_t n = 1;
    for (int i = 0; i < 3 && n > 0; i++)
        n = side_write(&h.side[0], "x", 1);
    CU_ASSERT(n < 0 && n != HT_EAGAIN);
    host_free(&h);
}

static void a_lingering_close_gets_its_answer_through(void) {
    struct host h;
    struct dialled d;
    static uint8_t block[100000];
    CU_ASSERT_FATAL(tcp_pair(&h, &d));
    struct side *a = &d.side, *b = &h.side[0];
    io_conn_read_on(b->c, false);
    ssize_t n = side_write(a, block, sizeof block); /* the peer is still sending */
    CU_ASSERT(n > 0);
    CU_ASSERT_EQUAL(side_write(b, "answer", 6), 6);
    io_conn_close_lingering(&b->c, 2000);
    CU_ASSERT_PTR_NULL(b->c);
    CU_ASSERT(turn_until(&a->ended, PATIENCE_MS));
    CU_ASSERT_EQUAL(a->err, HT_EOF);
    CU_ASSERT_EQUAL(a->got, 6);
    int fds = io_count_fds();
    io_conn_close(&a->c);
    turns(3);
    CU_ASSERT_EQUAL(io_count_fds(), fds - 2);
    host_free(&h);

    /* One who sends on and on is read from, whatever it sends, until the time is over; one who is silent goes sooner.
     */
    for (int silent = 0; silent < 2; silent++) {
        CU_ASSERT_FATAL(tcp_pair(&h, &d));
        fds = io_count_fds();
        uint64_t begin = ht_now_ms(), sent = 0;
        io_conn_linger(&h.side[0].c,
                       &(struct io_linger){.quiet_ms = silent ? 30 : 60000, .all_ms = 300 + silent * 60000});
        while (io_count_fds() == fds && ht_now_ms() - begin < 5000) {
            while (!silent && sent < (64u << 20) && (n = side_write(&d.side, block, sizeof block)) > 0)
                sent += (uint64_t)n;
            io_loop_turn(loop, silent);
        }
        CU_ASSERT_EQUAL(io_count_fds(), fds - 1);
        CU_ASSERT(silent || sent > (4u << 20));
        CU_ASSERT(ht_now_ms() - begin >= (silent ? 30 : 300));
        io_conn_close(&d.side.c);
        host_free(&h);
    }

    /* With a permit: half of them at most, and whoever lingers longest gives way. */
    struct io_fds permits = {.total = 4, .used = 0};
    struct host hosts[3];
    struct dialled many[3];
    for (int i = 0; i < 3; i++) {
        CU_ASSERT_FATAL(tcp_pair(&hosts[i], &many[i]));
        io_conn_linger(&hosts[i].side[0].c, &(struct io_linger){.quiet_ms = 60000, .all_ms = 60000, .fds = &permits});
        CU_ASSERT_EQUAL(permits.used, (unsigned)ht_min(i + 1, 2));
    }
    CU_ASSERT(io_linger_shed(loop, &permits) && io_linger_shed(loop, &permits) && !io_linger_shed(loop, &permits));
    CU_ASSERT(permits.used == 0 && permits.lingering == 0);
    for (int i = 0; i < 3; i++) {
        io_conn_close(&many[i].side.c);
        host_free(&hosts[i]);
    }
}

static void callbacks_may_close(void) {
    struct host h;
    struct dialled d;
    CU_ASSERT_FATAL(tcp_pair(&h, &d));
    h.side[0].close_in_readable = true;
    io_conn_want_write(h.side[0].c, true); /* readable and writable in one turn; the second must not come */
    CU_ASSERT_EQUAL(side_write(&d.side, "x", 1), 1);
    for (int i = 0; h.side[0].c && i < 100; i++) {
        io_conn_want_write(h.side[0].c, true);
        turns(1);
    }
    CU_ASSERT_PTR_NULL(h.side[0].c);
    io_conn_close(&d.side.c);
    host_free(&h);
    uint16_t port = host_open(&h, "127.0.0.1", 0);
    h.close_listener = true;
    CU_ASSERT(dial_to(&d, "127.0.0.1", port, PATIENCE_MS) != NULL);
    CU_ASSERT(turn_until(&h.n, PATIENCE_MS));
    CU_ASSERT_PTR_NULL(h.l);
    CU_ASSERT(turn_until(&d.done, PATIENCE_MS));
    io_conn_close(&d.side.c);
    host_free(&h);
}

/* ---- listening ---- */

static void listen_errors(void) {
    struct host h;
    struct io_addr a;
    struct ht_errmsg e = {""};
    struct io_listener *l = NULL;
    uint16_t port = host_open(&h, "127.0.0.1", 0);
    CU_ASSERT(port != 0);
    CU_ASSERT_EQUAL(io_addr_parse(&a, "127.0.0.1", port), HT_OK);
    CU_ASSERT_EQUAL(io_listen(loop, &a, &host_ops, &h, &l, &e), HT_EINUSE);
    CU_ASSERT(strstr(e.text, "127.0.0.1:") && strstr(e.text, "in use"));
    CU_ASSERT_EQUAL(io_addr_parse(&a, "192.0.2.1", 0), HT_OK);
    CU_ASSERT_EQUAL(io_listen(loop, &a, &host_ops, &h, &l, &e), HT_EADDR);
    ht_mem_fail_at(0);
    CU_ASSERT_EQUAL(io_listen(loop, &a, &host_ops, &h, &l, &e), HT_ENOMEM);
    ht_mem_fail_at(-1);
    CU_ASSERT_PTR_NULL(l);
    /* The same port on ::1 is another listener (where there is IPv6). */
    struct host six;
    if (host_open(&six, "::1", port))
        host_free(&six);
    host_free(&h);
}

static void what_comes_is_handed_out_as_a_connection(void) {
    struct host h;
    struct dialled d;
    uint16_t port = host_open(&h, "127.0.0.1", 0);
    unsigned fds = io_loop_fds(loop);
    CU_ASSERT(dial_to(&d, "127.0.0.1", port, PATIENCE_MS) != NULL);
    CU_ASSERT(turn_until(&d.done, PATIENCE_MS));
    CU_ASSERT(turn_until(&h.n, PATIENCE_MS));
    CU_ASSERT_EQUAL(io_loop_fds(loop), fds + 2);
    CU_ASSERT_EQUAL(side_write(&h.side[0], "x", 1), 1);
    while (d.side.got == 0)
        turns(1);
    io_conn_close(&d.side.c);
    /* without memory for one it goes as it came, and the next is let in */
    io_listener_pause(h.l, true);
    CU_ASSERT(dial_to(&d, "127.0.0.1", port, PATIENCE_MS) != NULL);
    CU_ASSERT(turn_until(&d.done, PATIENCE_MS));
    io_listener_pause(h.l, false);
    ht_mem_fail_at(0);
    CU_ASSERT(turn_until(&d.side.ended, PATIENCE_MS));
    ht_mem_fail_at(-1);
    CU_ASSERT_EQUAL(h.n, 1);
    io_conn_close(&d.side.c);
    CU_ASSERT(dial_to(&d, "127.0.0.1", port, PATIENCE_MS) != NULL);
    while (h.n < 2)
        turns(1);
    CU_ASSERT(turn_until(&d.done, PATIENCE_MS));
    io_conn_close(&d.side.c);
    host_free(&h);
    CU_ASSERT_EQUAL(io_loop_fds(loop), fds - 2); /* of the listener: its socket and its reserve */
}

static void a_paused_listener_lets_them_wait(void) {
    struct host h;
    struct dialled d;
    uint16_t port = host_open(&h, "127.0.0.1", 0);
    io_listener_pause(h.l, true);
    CU_ASSERT(dial_to(&d, "127.0.0.1", port, PATIENCE_MS) != NULL);
    CU_ASSERT(turn_until(&d.done, PATIENCE_MS)); /* by the kernel */
    turns(3);
    CU_ASSERT_EQUAL(h.n, 0);
    io_listener_set_ops(h.l, &host_ops, &h);
    io_listener_pause(h.l, false);
    CU_ASSERT(turn_until(&h.n, PATIENCE_MS));
    io_conn_close(&d.side.c);
    host_free(&h);
}

/* In a child, whose limit can be lowered: exit status 0 when all went well, else the number of what did not. */
static int no_descriptors_left(void) {
    struct host h;
    loop = io_loop_create();
    uint16_t port = host_open(&h, "127.0.0.1", 0);
    h.refuse = true;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0), fill[64], n = 0;
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(port), .sin_addr = {htonl(INADDR_LOOPBACK)}};
    turns(2);
    struct rlimit lim = {.rlim_cur = 32, .rlim_max = 32};
    setrlimit(RLIMIT_NOFILE, &lim);
    while (n < 64 && (fill[n] = dup(fd)) >= 0)
        n++;
    if (n == 0 || n == 64)
        return 1;
    if (connect(fd, (struct sockaddr *)&to, sizeof to) != 0 && errno != EINPROGRESS)
        return 2;
    if (!turn_until(&h.failed, PATIENCE_MS) || h.failed_err != HT_EFDS || h.n != 0)
        return 3;
    char c;
    turns(2);
    if (recv(fd, &c, 1, 0) != 0) /* the visitor was hung up on, not left waiting */
        return 4;
    /* No spinning: until the pause is over nothing is tried. */
    int before = h.failed;
    turns(50);
    if (h.failed != before)
        return 5;
    struct dialled d;
    if (!dial_to(&d, "127.0.0.1", port, 1000) || !turn_until(&d.done, PATIENCE_MS) || d.err != HT_EFDS)
        return 6;
    struct ht_errmsg e;
    if (io_dial_start(loop, "127.1", port, NULL, 1000, &dial_ops, &d, &e)) /* no pair for the resolver */
        return 7;
    for (int i = 0; i < 3; i++)
        close(fill[--n]);
    if (!dial_to(&d, "127.0.0.1", port, 1000) || !turn_until(&d.done, PATIENCE_MS) || d.err != HT_OK)
        return 8;
    return turn_until(&h.n, PATIENCE_MS) ? 0 : 9; /* recovery by itself */
}

static void without_descriptors_it_pauses_and_recovers(void) {
    pid_t pid = fork();
    if (pid == 0)
        _exit(no_descriptors_left());
    int status = -1;
    CU_ASSERT(waitpid(pid, &status, 0) == pid);
    CU_ASSERT(WIFEXITED(status));
    CU_ASSERT_EQUAL(WEXITSTATUS(status), 0);
}

static void many_at_once(void) {
    struct host h;
    uint16_t port = host_open(&h, "127.0.0.1", 0);
    h.refuse = true;
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(port), .sin_addr = {htonl(INADDR_LOOPBACK)}};
    int fd[150];
    for (int i = 0; i < 150; i++) {
        fd[i] = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
        if (connect(fd[i], (struct sockaddr *)&to, sizeof to) != 0 && errno != EINPROGRESS)
            CU_FAIL("connect");
    }
    io_loop_turn(loop, true); /* the kernel learns about the listener in the turn it is handled in */
    CU_ASSERT(h.n > 0 && h.n <= 64);
    for (int i = 0; h.n < 150 && i < 1000; i++)
        io_loop_turn(loop, true);
    CU_ASSERT_EQUAL(h.n, 150);
    for (int i = 0; i < 150; i++)
        close(fd[i]);
    host_free(&h);
}

/* ---- dialling ---- */

static uint16_t free_port(void) {
    struct host h;
    uint16_t port = host_open(&h, "127.0.0.1", 0);
    host_free(&h);
    return port;
}

static void dial_refused(void) {
    struct dialled d;
    uint16_t port = free_port();
    struct io_dial *dial = dial_to(&d, "127.0.0.1", port, PATIENCE_MS);
    CU_ASSERT(dial != NULL && !d.done);
    CU_ASSERT(turn_until(&d.done, PATIENCE_MS));
    CU_ASSERT_EQUAL(d.err, HT_EREFUSED);
    char want[100];
    snprintf(want, sizeof want, "cannot connect to 127.0.0.1:%u: connection refused", port);
    CU_ASSERT_STRING_EQUAL(d.text, want);
    /* Both families of localhost are tried and named; names below it are not looked up either. */
    static const char *const names[] = {"localhost", "app-3000.tunnel.LocalHost"};
    for (size_t i = 0; i < HT_ARRAY_LEN(names); i++) {
        CU_ASSERT(dial_to(&d, names[i], port, PATIENCE_MS) != NULL);
        CU_ASSERT(turn_until(&d.done, PATIENCE_MS));
        CU_ASSERT_EQUAL(d.err, HT_EREFUSED);
        CU_ASSERT(strstr(d.text, "tried 127.0.0.1:") && strstr(d.text, "[::1]:"));
    }
}

static void localhost_falls_back_to_v6(void) {
    struct host h;
    struct dialled d;
    uint16_t port = host_open(&h, "::1", 0);
    if (!port)
        return; /* a machine without IPv6 */
    int held = hold_v4_port(port);
    while (held < 0) { /* somebody has it in the other family */
        host_free(&h);
        port = host_open(&h, "::1", 0);
        CU_ASSERT_FATAL(port != 0);
        held = hold_v4_port(port);
    }
    CU_ASSERT(dial_to(&d, "LocalHost", port, PATIENCE_MS) != NULL);
    CU_ASSERT(turn_until(&d.done, PATIENCE_MS));
    CU_ASSERT_EQUAL(d.err, HT_OK);
    CU_ASSERT(turn_until(&h.n, PATIENCE_MS));
    io_conn_close(&d.side.c);
    host_free(&h);
    close(held);
}

static struct {
    int done;
    unsigned n;
    bool loopback;
    char why[128];
} resolved;

static void on_resolved(void *ctx, const struct io_addr *addr, unsigned n, const char *why) {
    CU_ASSERT_PTR_EQUAL(ctx, &resolved);
    resolved.done++;
    resolved.n = n;
    resolved.loopback = n > 0;
    for (unsigned i = 0; i < n; i++)
        resolved.loopback = resolved.loopback && io_addr_is_loopback(&addr[i]) && io_addr_port(&addr[i]) == 0;
    snprintf(resolved.why, sizeof resolved.why, "%s", why ? why : "");
}

static void addresses_of_a_name(void) {
    struct io_loop *before = loop;
    size_t held = ht_mem_live();
    loop = io_loop_create();
    for (int i = 0; i < 2; i++) { /* the second time they are known, and come no sooner than this returns */
        memset(&resolved, 0, sizeof resolved);
        CU_ASSERT_PTR_NOT_NULL_FATAL(io_resolve_start(loop, "localhost", on_resolved, &resolved));
        CU_ASSERT_EQUAL(resolved.done, 0);
        CU_ASSERT(turn_until(&resolved.done, PATIENCE_MS));
        CU_ASSERT_TRUE(resolved.loopback);
        CU_ASSERT_STRING_EQUAL(resolved.why, "");
    }
    memset(&resolved, 0, sizeof resolved);
    CU_ASSERT_PTR_NOT_NULL_FATAL(io_resolve_start(loop, "no such name", on_resolved, &resolved));
    CU_ASSERT(turn_until(&resolved.done, PATIENCE_MS));
    CU_ASSERT_EQUAL(resolved.n, 0);
    CU_ASSERT_NOT_EQUAL(resolved.why[0], '\0');
    char longest[300];
    memset(longest, 'a', sizeof longest);
    longest[299] = '\0';
    CU_ASSERT_PTR_NULL(io_resolve_start(loop, longest, on_resolved, &resolved));
    for (int i = 0; i < 2; i++) { /* known, and not known */
        struct io_resolve *r = io_resolve_start(loop, i ? "localhost" : "another", on_resolved, &resolved);
        CU_ASSERT_PTR_NOT_NULL_FATAL(r);
        io_resolve_cancel(&r);
        CU_ASSERT_PTR_NULL(r);
    }
    for (int i = 0; i < 2; i++) {
        ht_mem_fail_at(i);
        CU_ASSERT_PTR_NULL(io_resolve_start(loop, "yet another", on_resolved, &resolved));
        ht_mem_fail_at(-1);
    }
    CU_ASSERT_EQUAL(resolved.done, 1);
    io_loop_destroy(&loop);
    CU_ASSERT_EQUAL(ht_mem_live(), held);
    loop = before;
}

static void names_are_resolved_off_the_loop(void) {
    struct host h;
    struct dialled d;
    uint16_t port = host_open(&h, "127.0.0.1", 0);
    /* glibc takes this for an address, we do not: it goes the resolver's way without a name server. */
    CU_ASSERT(dial_to(&d, "127.1", port, 5000) != NULL);
    CU_ASSERT(!d.done);
    CU_ASSERT(turn_until(&d.done, PATIENCE_MS));
    CU_ASSERT_EQUAL(d.err, HT_OK);
    io_conn_close(&d.side.c);
    CU_ASSERT(dial_to(&d, "no such name", port, 5000) != NULL);
    CU_ASSERT(turn_until(&d.done, PATIENCE_MS));
    CU_ASSERT(d.err == HT_ERESOLVE || d.err == HT_ETIMEDOUT);
    CU_ASSERT(strstr(d.text, "cannot resolve no such name: ") != NULL);
    char longest[400];
    memset(longest, 'a', sizeof longest - 1);
    longest[sizeof longest - 1] = '\0';
    CU_ASSERT_PTR_NULL(dial_to(&d, longest, 1, 1000));
    host_free(&h);
}

static void dials_are_cancelled(void) {
    struct host h;
    struct dialled d;
    uint16_t port = host_open(&h, "127.0.0.1", 0);
    struct io_dial *dial = dial_to(&d, "127.0.0.1", port, PATIENCE_MS);
    io_dial_cancel(&dial);
    CU_ASSERT_PTR_NULL(dial);
    io_dial_cancel(&dial);
    dial = dial_to(&d, "127.2", port, PATIENCE_MS); /* a name that nobody has asked for yet */
    io_dial_cancel(&dial);
    dial = dial_to(&d, "127.0.0.1", free_port(), 2000);
    io_dial_cancel(&dial);
    turns(5);
    CU_ASSERT_EQUAL(d.done, 0);
    /* What stood before it was called off is reset: nobody came and left in order. */
    CU_ASSERT(h.n == 1 && h.side[0].ended && h.side[0].err != HT_EOF);
    host_free(&h);
}

static void dials_time_out(void) {
    /* A listener whose queue is full does not answer; nothing outside this machine is needed. */
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
    socklen_t len = sizeof to;
    int l = socket(AF_INET, SOCK_STREAM, 0), fd[16];
    CU_ASSERT_FATAL(bind(l, (struct sockaddr *)&to, len) == 0 && listen(l, 0) == 0 &&
                    getsockname(l, (struct sockaddr *)&to, &len) == 0);
    for (int i = 0; i < 16; i++) {
        fd[i] = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
        if (connect(fd[i], (struct sockaddr *)&to, len) != 0 && errno != EINPROGRESS)
            CU_FAIL("connect");
    }
    struct dialled d;
    uint64_t begin = ht_now_ms();
    CU_ASSERT(dial_to(&d, "127.0.0.1", ntohs(to.sin_port), 120) != NULL);
    CU_ASSERT(turn_until(&d.done, 3000));
    CU_ASSERT_EQUAL(d.err, HT_ETIMEDOUT);
    CU_ASSERT(ht_now_ms() - begin >= 119);
    CU_ASSERT(strstr(d.text, "no answer within 120 ms") != NULL);
    for (int i = 0; i < 16; i++)
        close(fd[i]);
    close(l);
}

static void failing_allocations(void) {
    int fds = io_count_fds();
    for (long i = 0; i < 8; i++) {
        size_t live = ht_mem_live();
        struct host h;
        struct dialled d;
        ht_mem_fail_at(i);
        uint16_t port = host_open(&h, "127.0.0.1", 0);
        h.refuse = true;
        struct io_dial *dial = port ? dial_to(&d, "127.0.0.1", port, 1000) : NULL;
        if (dial) {
            CU_ASSERT(turn_until(&d.done, PATIENCE_MS));
            CU_ASSERT(d.err == HT_OK || d.err == HT_ENOMEM);
            io_conn_close_lingering(&d.side.c, 10);
            turns(3);
        }
        ht_mem_fail_at(-1);
        host_free(&h);
        int never = 0;
        if (ht_mem_live() != live)
            turn_until(&never, 30);
        CU_ASSERT_EQUAL(ht_mem_live(), live);
    }
    CU_ASSERT_EQUAL(io_count_fds(), fds);
}

static void a_share_that_cannot_be_had(void) {
    struct io_share share;
    struct io_conn *ends[2];
    io_share_init(loop, &share);
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    struct io_conn *c = io_conn_adopt(loop, fd, NULL, NULL);
    CU_ASSERT_PTR_NOT_NULL_FATAL(c);
    ht_mem_fail_at(0);
    CU_ASSERT_EQUAL(io_conn_set_share(c, &share), HT_ENOMEM);
    CU_ASSERT_EQUAL(io_conn_set_share(c, NULL), HT_OK);
    ht_mem_fail_at(-1);
    CU_ASSERT_EQUAL(share.n_conns, 0);
    CU_ASSERT_EQUAL(io_conn_set_share(c, &share), HT_OK);
    CU_ASSERT_EQUAL(io_conn_set_share(c, &share), HT_OK);
    CU_ASSERT_EQUAL(share.n_conns, 1);
    io_conn_close(&c);
    CU_ASSERT_EQUAL(share.n_conns, 0);
    size_t live = ht_mem_live();
    for (long i = 0; i < 4; i++) {
        ht_mem_fail_at(i);
        CU_ASSERT_EQUAL(io_conn_pair(loop, ends), HT_ENOMEM);
        ht_mem_fail_at(-1);
        CU_ASSERT(!ends[0] && !ends[1] && ht_mem_live() == live);
    }
    io_share_stop(&share);
}

int main(void) {
    alarm(120);
    io_ignore_sigpipe();
    int fds = io_count_fds();
    loop = io_loop_create();
    static const struct tap_test tests[] = {
        {"bytes pass both ways, with half-close, and are counted", bytes_half_close_and_counts},
        {"one read fills several pieces", one_read_fills_several_pieces},
        {"nothing paces inside the machine", nothing_paces_inside_the_machine},
        {"reading pauses and is level-triggered", reading_pauses_and_is_level_triggered},
        {"a full socket blocks and becomes writable", a_full_socket_blocks_and_becomes_writable},
        {"an abort is a reset for the peer", an_abort_is_no_clean_end},
        {"a reset that a writer has met is a reset for the reader too", a_reset_stays_one},
        {"a lingering close gets its answer through", a_lingering_close_gets_its_answer_through},
        {"callbacks may close", callbacks_may_close},
        {"an address that cannot be listened on is reported", listen_errors},
        {"a listener hands out connections", what_comes_is_handed_out_as_a_connection},
        {"connections to a paused listener wait", a_paused_listener_lets_them_wait},
        {"without descriptors it pauses and recovers", without_descriptors_it_pauses_and_recovers},
        {"many connections at once are served", many_at_once},
        {"a refused dial is reported", dial_refused},
        {"localhost falls back to IPv6", localhost_falls_back_to_v6},
        {"names are resolved off the loop", names_are_resolved_off_the_loop},
        {"the addresses of a name, for who does not connect there", addresses_of_a_name},
        {"a cancelled dial makes no callback", dials_are_cancelled},
        {"a dial without an answer times out", dials_time_out},
        {"each allocation may fail", failing_allocations},
        {"without memory a connection joins no share, and is no end of a pair", a_share_that_cannot_be_had},
        {NULL, NULL},
    };
    int rc = tap_main("io net", tests);
    turns(2);
    io_loop_destroy(&loop);
    /* A cancelled resolver thread closes its end when it is done. */
    for (uint64_t stop = ht_now_ms() + 5000; io_count_fds() != fds && ht_now_ms() < stop;)
        continue;
    if (io_count_fds() != fds || ht_mem_live() != 0) {
        printf("Bail out! %d descriptors, %zu blocks left\n", io_count_fds() - fds, ht_mem_live());
        return 1;
    }
    return rc;
}
