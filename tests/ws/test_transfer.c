/* Two ends against each other: every byte arrives, and how fast. */
#include "ws_peer.h"

#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <time.h>

struct flow {
    struct ws_conn *w;
    uint64_t to_send, got, hash_out, hash_in;
    unsigned seed;
    size_t piece; /* 0: random sizes */
    bool cheap;   /* measure: no hash, no pattern */
    int done, closed;
};

/* FNV over words: enough to see a lost, doubled or moved byte. */
static uint64_t mix(uint64_t h, const uint8_t *p, size_t n) {
    for (size_t i = 0; i < n; i++)
        h = (h ^ p[i]) * 1099511628211u;
    return h;
}

static ssize_t on_message(void *ctx, uint8_t *p, size_t n, bool end) {
    struct flow *f = ctx;
    size_t take = f->cheap || end ? n : rnd(&f->seed) % (n + 1);
    if (!f->cheap)
        f->hash_in = mix(f->hash_in, p, take);
    f->got += take;
    return (ssize_t)take;
}

static void on_fed(void *ctx) { (void)ctx; }

static size_t on_pull(void *ctx, uint8_t *out, size_t cap) {
    struct flow *f = ctx;
    size_t n = ht_min(f->piece ? f->piece : rnd(&f->seed) % (rnd(&f->seed) % 3 ? 3000 : 262144) + 1, cap);
    n = (size_t)ht_min(n, f->to_send);
    if (!f->cheap) {
        for (size_t i = 0; i < n; i++)
            out[i] = (uint8_t)rnd(&f->seed);
        f->hash_out = mix(f->hash_out, out, n);
    }
    f->to_send -= n;
    return n;
}

static void on_closed(void *ctx, uint16_t code, struct ht_slice reason, bool local) {
    (void)code;
    (void)reason;
    (void)local;
    ((struct flow *)ctx)->closed++;
}

static const struct ws_ops flow_ops = {on_message, on_fed, on_pull, on_closed};

static bool tcp_pair(int fd[2]) {
    int l = socket(AF_INET, SOCK_STREAM, 0);
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
    socklen_t len = sizeof a;
    bool ok = bind(l, (struct sockaddr *)&a, len) == 0 && listen(l, 1) == 0 &&
              getsockname(l, (struct sockaddr *)&a, &len) == 0;
    fd[0] = socket(AF_INET, SOCK_STREAM, 0);
    ok = ok && connect(fd[0], (struct sockaddr *)&a, len) == 0 && (fd[1] = accept(l, NULL, NULL)) >= 0;
    close(l);
    if (ok) {
        fcntl(fd[0], F_SETFL, O_NONBLOCK);
        fcntl(fd[1], F_SETFL, O_NONBLOCK);
    }
    return ok;
}

static void transfer(struct flow *server, struct flow *client, bool tcp, int sndbuf) {
    struct io_loop *loop = io_loop_create();
    CU_ASSERT_FATAL(loop != NULL);
    size_t live = ht_mem_live();
    int fd[2];
    if (tcp) {
        CU_ASSERT_FATAL(tcp_pair(fd));
    } else {
        nonblocking_pair(fd);
    }
    if (sndbuf)
        for (int i = 0; i < 2; i++)
            setsockopt(fd[i], SOL_SOCKET, SO_SNDBUF, &sndbuf, sizeof sndbuf);
    struct io_conn *a = io_conn_adopt(loop, fd[0], NULL, NULL), *b = io_conn_adopt(loop, fd[1], NULL, NULL);
    io_conn_tune_tunnel(a, 0);
    server->w = ws_conn_create(loop, a, WS_SERVER, &usual_limits, ht_slice_str(""), &flow_ops, server);
    client->w = ws_conn_create(loop, b, WS_CLIENT, &usual_limits, ht_slice_str(""), &flow_ops, client);
    uint64_t up = client->to_send, down = server->to_send, moved = 0, stop = ht_now_ms() + PATIENCE_MS;
    ws_conn_want_send(server->w);
    ws_conn_want_send(client->w);
    /* However slow the machine is just now: what must not happen is that nothing moves. */
    while ((server->got < up || client->got < down) && !server->closed && !client->closed) {
        io_loop_turn(loop, true);
        if (server->got + client->got != moved)
            stop = ht_now_ms() + PATIENCE_MS;
        moved = server->got + client->got;
        if (ht_now_ms() >= stop)
            break;
    }
    CU_ASSERT_EQUAL(server->got, up);
    CU_ASSERT_EQUAL(client->got, down);
    CU_ASSERT_EQUAL(server->hash_in, client->hash_out);
    CU_ASSERT_EQUAL(client->hash_in, server->hash_out);
    loop_turns(loop, 3);
    CU_ASSERT_EQUAL(ws_conn_unsent(client->w), 0);
    CU_ASSERT_EQUAL(io_loop_blocks(loop)->live, 0); /* idle connections hold no block */
    ws_conn_close(client->w, 1000, "done");
    CU_ASSERT(loop_until(loop, &server->closed, PATIENCE_MS));
    CU_ASSERT(loop_until(loop, &client->closed, PATIENCE_MS));
    ws_conn_destroy(&server->w);
    ws_conn_destroy(&client->w);
    ht_pool_drain(io_loop_blocks(loop));
    CU_ASSERT_EQUAL(ht_mem_live(), live);
    io_loop_destroy(&loop);
}

static void both_ways_with_equal_hashes(void) {
    for (unsigned seed = 1; seed < 5; seed++) {
        struct flow s = {.to_send = 6000000, .seed = seed}, c = {.to_send = 7000000, .seed = seed * 77};
        transfer(&s, &c, seed & 1, 0);
    }
}

static void through_a_tiny_send_buffer(void) {
    struct flow s = {.to_send = 700000, .seed = 5}, c = {.to_send = 800000, .seed = 9};
    transfer(&s, &c, false, 1);
    struct flow s2 = {.to_send = 700000, .seed = 5}, c2 = {.to_send = 800000, .seed = 9};
    transfer(&s2, &c2, true, 1);
}

static void speed(void) {
#ifdef HT_SANITIZED
    const uint64_t total = 64u << 20;
#else
    const uint64_t total = 256u << 20; /* a quarter of a second each, alone on a core */
#endif
    static const struct {
        const char *name;
        size_t piece;
        bool up, tcp;
    } runs[] = {
        {"client to server, 256 KiB messages, socketpair", 262144, true, false},
        {"server to client, 256 KiB messages, socketpair", 262144, false, false},
        {"client to server, 256 KiB messages, TCP", 262144, true, true},
        {"server to client, 256 KiB messages, TCP", 262144, false, true},
        {"client to server, 64 KiB messages, socketpair", 65536, true, false},
        {"client to server, 1 KiB messages, socketpair", 1024, true, false},
    };
    for (size_t i = 0; i < HT_ARRAY_LEN(runs); i++) {
        uint64_t n = runs[i].piece < 65536 ? total / 8 : total;
        clock_t begin = clock();
        struct flow s = {.cheap = true, .piece = runs[i].piece, .to_send = runs[i].up ? 0 : n},
                    c = {.cheap = true, .piece = runs[i].piece, .to_send = runs[i].up ? n : 0};
        transfer(&s, &c, runs[i].tcp, 0);
        double seconds = (double)(clock() - begin) / CLOCKS_PER_SEC;
        printf("# %s: %.0f MB/s (both ends, by CPU time)\n", runs[i].name, (double)n / 1e6 / seconds);
    }
}

int main(void) {
    alarm(120);
    io_ignore_sigpipe();
    static const struct tap_test tests[] = {
        {"megabytes pass both ways unchanged", both_ways_with_equal_hashes},
        {"bytes pass unchanged through a tiny send buffer", through_a_tiny_send_buffer},
        {"throughput is measured", speed},
        {NULL, NULL},
    };
    return tap_main("ws transfer", tests);
}
