/*
 * What it costs to keep messages until they are acknowledged, by how often they are: CPU time for each GiB of bulk, of
 * the sender and of the receiver, with the ratio to a sender that keeps nothing. Three processes pass bytes on as a
 * tunnel does: a local service, the side that reads from it into messages, and the other side.
 *
 *     keeping [MIB [ROUNDS [KIB ...]]]
 *
 * KIB are the bytes between two acknowledgements; 0: nothing is kept, with which all others are compared.
 *
 * The ways take turns in each round, so that a machine that does other things beside it disturbs all of them alike.
 */
#include "base/clock.h"
#include "mux/mux.h"
#include "ws/ws.h"

#include <fcntl.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#define MIB ((uint64_t)1 << 20)
enum { MESSAGE = 262144, ROUNDS_MAX = 64, WAYS_MAX = 16 };

static uint64_t every[WAYS_MAX] = {0, MIB, 4 * MIB, 16 * MIB};
static size_t n_ways = 4;

struct result {
    double sender, receiver; /* seconds */
    double kept;             /* bytes kept on average */
};

struct end {
    struct io_loop *loop;
    struct ws_conn *w;
    struct ws_kept *kept;
    struct result *result;
    int service;
    uint64_t left, got, messages, told, every;
    double sum; /* of what was kept at each message */
    bool tell;
};

static double cpu(void) {
    struct rusage u;
    getrusage(RUSAGE_SELF, &u);
    return (double)(u.ru_utime.tv_sec + u.ru_stime.tv_sec) + (double)(u.ru_utime.tv_usec + u.ru_stime.tv_usec) / 1e6;
}

static size_t send_pull(void *ctx, uint8_t *out, size_t cap) {
    struct end *e = ctx;
    if (e->left == 0)
        return 0;
    ssize_t n = recv(e->service, out, ht_min(ht_min(cap, MESSAGE), e->left), MSG_WAITALL);
    if (n <= 0)
        abort();
    e->left -= (uint64_t)n;
    if (e->kept) {
        ws_conn_keep(e->w);
        e->sum += (double)ws_kept_bytes(e->kept);
        e->messages++;
        e->result->kept = e->sum / (double)e->messages;
    }
    return (size_t)n;
}

static ssize_t send_message(void *ctx, uint8_t *p, size_t n, bool end) {
    struct end *e = ctx;
    uint64_t count;
    if (!end || n != sizeof count)
        return 0;
    memcpy(&count, p, sizeof count);
    if (e->kept)
        ws_kept_forget(e->kept, count);
    return (ssize_t)n;
}

static size_t receive_pull(void *ctx, uint8_t *out, size_t cap) {
    struct end *e = ctx;
    if (!e->tell || cap < sizeof e->messages)
        return 0;
    e->tell = false;
    e->told = e->got;
    memcpy(out, &e->messages, sizeof e->messages);
    return sizeof e->messages;
}

static ssize_t receive_message(void *ctx, uint8_t *p, size_t n, bool end) {
    struct end *e = ctx;
    (void)p;
    e->got += n;
    e->messages += end;
    if (e->every && e->got - e->told >= e->every && !e->tell) {
        e->tell = true;
        ws_conn_want_send(e->w);
    }
    return (ssize_t)n;
}

static void on_fed(void *ctx) {
    struct end *e = ctx;
    if (e->left && e->got == e->left)
        ws_conn_close(e->w, 1000, "");
}

static void nothing_fed(void *ctx) { (void)ctx; }

static void on_closed(void *ctx, uint16_t code, struct ht_slice reason, bool local) {
    (void)code;
    (void)reason;
    (void)local;
    io_loop_break(((struct end *)ctx)->loop);
}

static void run(struct end *e, int fd, enum ws_side side, const struct ws_ops *ops) {
    static const struct ws_limits limits = {.max_message = MESSAGE, .max_fragments = 64, .max_pull = MESSAGE};
    double begin = cpu();
    e->loop = io_loop_create();
    fcntl(fd, F_SETFL, O_NONBLOCK);
    struct io_conn *c = e->loop ? io_conn_adopt(e->loop, fd, NULL, NULL) : NULL;
    e->w = c ? ws_conn_create(e->loop, c, side, &limits, ht_slice_str(""), ops, e) : NULL;
    if (!e->w)
        abort();
    ws_conn_tune_tunnel(e->w, 0, MUX_SHORT_MESSAGE);
    bool sends = ops->pull == send_pull;
    if (sends && e->every) {
        e->kept = ws_kept_create(e->loop);
        ws_conn_set_kept(e->w, e->kept);
    }
    ws_conn_want_send(e->w);
    io_loop_run(e->loop);
    *(sends ? &e->result->sender : &e->result->receiver) = cpu() - begin;
    exit(0);
}

static void tcp_pair(int fd[2]) {
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
    socklen_t len = sizeof a;
    int l = socket(AF_INET, SOCK_STREAM, 0);
    if (bind(l, (struct sockaddr *)&a, len) != 0 || listen(l, 1) != 0 ||
        getsockname(l, (struct sockaddr *)&a, &len) != 0)
        abort();
    fd[0] = socket(AF_INET, SOCK_STREAM, 0);
    if (connect(fd[0], (struct sockaddr *)&a, len) != 0 || (fd[1] = accept(l, NULL, NULL)) < 0)
        abort();
    close(l);
}

static void serve(int fd) {
    static uint8_t page[MESSAGE];
    while (send(fd, page, sizeof page, MSG_NOSIGNAL) > 0)
        continue;
    exit(0);
}

static void measure(uint64_t bytes, enum ws_side sender, uint64_t acks_every, struct result *r) {
    static const struct ws_ops sends = {send_message, nothing_fed, send_pull, on_closed},
                               receives = {receive_message, on_fed, receive_pull, on_closed};
    int service[2], link[2];
    pid_t child[3];
    tcp_pair(service);
    tcp_pair(link);
    struct end e = {.result = r, .service = service[1], .left = bytes, .every = acks_every};
    for (int i = 0; i < 3; i++) {
        child[i] = fork();
        if (child[i] < 0)
            abort();
        if (child[i] > 0)
            continue;
        close(i == 0 ? service[1] : service[0]);
        close(i == 1 ? link[1] : link[0]);
        if (i == 0)
            serve(service[0]);
        run(&e, link[i - 1],
            i == 1                ? sender
            : sender == WS_CLIENT ? WS_SERVER
                                  : WS_CLIENT,
            i == 1 ? &sends : &receives);
    }
    for (int i = 0; i < 2; i++) {
        close(service[i]);
        close(link[i]);
    }
    for (int i = 2; i >= 0; i--) {
        int status;
        if (waitpid(child[i], &status, 0) != child[i] || status != 0)
            abort();
    }
}

static int by_size(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* What a fourth of the rounds is below: the others were disturbed more. */
static double quartile(double *v, size_t n) {
    qsort(v, n, sizeof *v, by_size);
    return v[n / 4];
}

static void side(const char *name, enum ws_side sender, uint64_t bytes, size_t rounds, struct result *shared) {
    static double of[WAYS_MAX][4][ROUNDS_MAX];
    double gib = (double)bytes / (double)(1024 * MIB);
    for (size_t r = 0; r < rounds; r++) {
        for (size_t i = 0; i < n_ways; i++) {
            size_t w = r % 2 ? n_ways - 1 - i : i;
            *shared = (struct result){.kept = 0};
            measure(bytes, sender, every[w], shared);
            of[w][0][r] = shared->sender / gib;
            of[w][1][r] = shared->receiver / gib;
            of[w][2][r] = of[w][0][r] + of[w][1][r];
            of[w][3][r] = shared->kept / (double)MIB;
        }
    }
    printf("%s, lower quartiles of %zu rounds\n"
           "  acknowledged every  sender s/GiB  receiver s/GiB   both  sender ratio  both, ratio  kept MiB\n",
           name, rounds);
    double base[3];
    for (size_t w = 0; w < n_ways; w++) {
        double v[4];
        for (size_t i = 0; i < HT_ARRAY_LEN(v); i++)
            v[i] = quartile(of[w][i], rounds);
        if (w == 0)
            memcpy(base, v, sizeof base);
        if (every[w])
            printf("  %14.2f MiB", (double)every[w] / (double)MIB);
        else
            printf("  %18s", "nothing is kept");
        printf("  %12.3f  %14.3f  %5.3f  %12.3f  %11.3f  %8.1f\n", v[0], v[1], v[2], v[0] / base[0], v[2] / base[2],
               v[3]);
    }
    fflush(stdout);
}

int main(int argc, char **argv) {
    uint64_t bytes = (argc > 1 ? strtoull(argv[1], NULL, 10) : 1024) * MIB;
    size_t rounds = argc > 2 ? strtoul(argv[2], NULL, 10) : 5;
    if (bytes == 0 || rounds == 0 || rounds > ROUNDS_MAX) {
        fprintf(stderr, "keeping [MIB [ROUNDS [KIB ...]]], with at most %d rounds\n", ROUNDS_MAX);
        return 2;
    }
    if (argc > 3)
        n_ways = ht_min((size_t)argc - 2, WAYS_MAX);
    for (size_t i = 1; argc > 3 && i < n_ways; i++)
        every[i] = strtoull(argv[i + 2], NULL, 10) * 1024;
    io_ignore_sigpipe();
    struct result *shared = mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (shared == MAP_FAILED)
        return 1;
    side("a client sends", WS_CLIENT, bytes, rounds, shared);
    side("a server sends", WS_SERVER, bytes, rounds, shared);
    return 0;
}
