/*
 * A slow link: slow DELAY_MS MBIT TO_PORT [LISTEN_ADDRESS [LISTEN_PORT]] passes TCP through to 127.0.0.1:TO_PORT.
 * Prints its own port.
 *
 * Each byte comes out DELAY_MS after it came in, in both directions, so that a round trip takes twice as long. MBIT is
 * what the link carries in each direction, all connections together, and 0 is no limit. A limited link takes bytes only
 * when it has room: what waits for it waits in a socket's buffer of QUEUE bytes, as in a router, and behind that at the
 * sender. An opening handshake is not delayed.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include <arpa/inet.h>

enum {
    MAX_PAIRS = 1024,
    BLOCK = 256 * 1024,
    HELD = 32 << 20, /* bytes on their way in one direction of one connection */
    TURN = 4096,     /* what one connection may send over a limited link before another one may */
    QUEUE = 64 * 1024,
    BURST_NS = 10000000, /* what a limited link makes good when it woke up late */
};

enum { UP, DOWN };

struct block {
    struct block *next;
    uint64_t due;
    size_t at, len; /* len 0: the end */
    char data[BLOCK];
};

struct way {
    int from, to;
    struct block *first, *last;
    size_t held;
    bool ended, full; /* full: its target takes no more at the moment */
};

struct pair {
    struct way ways[2];
};

static struct pair *pairs[MAX_PAIRS];
static int n_pairs;
static struct block *spare; /* the one used last is the one that is still in a cache */
static uint64_t delay, ns_per_mib, free_at[2];

static _Noreturn void die(const char *what) {
    fprintf(stderr, "slow: %s: %s\n", what, strerror(errno));
    exit(1);
}

static uint64_t now(void) {
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (uint64_t)ts.tv_sec * 1000000000 + (uint64_t)ts.tv_nsec;
}

static void prepare(int fd) {
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &(int){1}, sizeof(int));
    fcntl(fd, F_SETFL, O_NONBLOCK);
}

static void small_queue(int fd) {
    if (ns_per_mib)
        setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &(int){QUEUE}, sizeof(int));
}

static struct block *block_get(void) {
    struct block *b = spare;
    if (b)
        spare = b->next;
    else if (!(b = malloc(sizeof *b)))
        die("memory");
    b->next = NULL;
    b->at = b->len = 0;
    return b;
}

static void block_put(struct block *b) {
    b->next = spare;
    spare = b;
}

static void drop_first(struct way *w) {
    struct block *b = w->first;
    w->first = b->next;
    block_put(b);
}

static void end_pair(int i) {
    struct pair *p = pairs[i];
    for (int d = 0; d < 2; d++)
        while (p->ways[d].first)
            drop_first(&p->ways[d]);
    close(p->ways[UP].from);
    close(p->ways[UP].to);
    free(p);
    pairs[i] = pairs[--n_pairs];
}

static void take(int listener, int to_port) {
    int near = accept(listener, NULL, NULL), far = socket(AF_INET, SOCK_STREAM, 0);
    struct sockaddr_in a = {
        .sin_family = AF_INET, .sin_port = htons((uint16_t)to_port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    struct pair *p = calloc(1, sizeof *p);
    small_queue(far);
    if (near < 0 || far < 0 || !p || n_pairs == MAX_PAIRS || connect(far, (struct sockaddr *)&a, sizeof a) < 0) {
        close(near);
        close(far);
        free(p);
        return;
    }
    prepare(near);
    prepare(far);
    p->ways[UP] = (struct way){.from = near, .to = far};
    p->ways[DOWN] = (struct way){.from = far, .to = near};
    pairs[n_pairs++] = p;
}

static bool may_read(const struct way *w, int direction, uint64_t t) {
    return !w->ended && w->held < HELD && (!ns_per_mib || free_at[direction] <= t);
}

/* When what is read now comes out at the other end; a limited link is busy for as long as it sends it. */
static uint64_t due(int direction, size_t n, uint64_t t) {
    if (!ns_per_mib)
        return t + delay;
    if (free_at[direction] + BURST_NS < t)
        free_at[direction] = t - BURST_NS;
    free_at[direction] += n * ns_per_mib >> 20;
    return (free_at[direction] > t ? free_at[direction] : t) + delay;
}

static bool way_read(struct way *w, int direction, uint64_t t) {
    struct block *b = block_get();
    ssize_t n = recv(w->from, b->data, ns_per_mib ? TURN : BLOCK, 0);
    if (n < 0) {
        block_put(b);
        return errno == EAGAIN || errno == EINTR;
    }
    w->ended = n == 0;
    b->len = (size_t)n;
    b->due = due(direction, b->len, t);
    w->held += b->len;
    if (w->first)
        w->last->next = b;
    else
        w->first = b;
    w->last = b;
    return true;
}

static bool way_write(struct way *w, uint64_t t) {
    while (w->first && w->first->due <= t) {
        struct block *b = w->first;
        if (b->len == 0) {
            shutdown(w->to, SHUT_WR);
        } else {
            ssize_t n = send(w->to, b->data + b->at, b->len - b->at, MSG_NOSIGNAL);
            w->full = n < 0 && errno == EAGAIN;
            if (n < 0)
                return w->full || errno == EINTR;
            b->at += (size_t)n;
            w->held -= (size_t)n;
            if (b->at < b->len)
                continue;
        }
        drop_first(w);
    }
    return true;
}

static void sooner(uint64_t *wake, uint64_t then) {
    if (then < *wake)
        *wake = then;
}

/* Fills in what to wait for: the listener, and two descriptors of each pair. Returns until when. */
static uint64_t plan(struct pollfd *fds, uint64_t t) {
    uint64_t wake = UINT64_MAX;
    for (int i = 0; i < n_pairs; i++) {
        struct pollfd *two = fds + 1 + 2 * i; /* near, far */
        two[0] = (struct pollfd){.fd = pairs[i]->ways[UP].from};
        two[1] = (struct pollfd){.fd = pairs[i]->ways[UP].to};
        for (int d = 0; d < 2; d++) {
            const struct way *w = &pairs[i]->ways[d];
            if (may_read(w, d, t))
                two[d == UP ? 0 : 1].events |= POLLIN;
            else if (!w->ended && w->held < HELD)
                sooner(&wake, free_at[d]);
            if (w->first && w->full)
                two[d == UP ? 1 : 0].events |= POLLOUT;
            else if (w->first)
                sooner(&wake, w->first->due);
        }
    }
    return wake;
}

static void wait_for(struct pollfd *fds, uint64_t t) {
    uint64_t wake = plan(fds, t), left = wake > t ? wake - t : 0;
    struct timespec ts = {.tv_sec = (time_t)(left / 1000000000), .tv_nsec = (long)(left % 1000000000)};
    for (int i = 1; i <= 2 * n_pairs; i++) /* a reset that nobody waits for would wake us again and again */
        if (!fds[i].events)
            fds[i].fd = -1;
    if (ppoll(fds, (nfds_t)(1 + 2 * n_pairs), wake == UINT64_MAX ? NULL : &ts, NULL) < 0 && errno != EINTR)
        die("poll");
}

static bool pair_move(struct pair *p, const struct pollfd *two, uint64_t t) {
    bool well = true, over = true;
    for (int d = 0; d < 2; d++) {
        struct way *w = &p->ways[d];
        const struct pollfd *in = &two[d == UP ? 0 : 1], *out = &two[d == UP ? 1 : 0];
        if (out->revents)
            w->full = false;
        if (in->revents & (POLLIN | POLLHUP | POLLERR) && may_read(w, d, t))
            well = well && way_read(w, d, t);
        if (!w->full)
            well = well && way_write(w, t);
        over = over && w->ended && !w->first;
    }
    return well && !over;
}

static _Noreturn void pass(int listener, int to_port) {
    static struct pollfd fds[1 + 2 * MAX_PAIRS];
    for (int turn = 0;; turn++) {
        fds[0] = (struct pollfd){.fd = listener, .events = POLLIN};
        wait_for(fds, now());
        uint64_t t = now();
        bool ended[MAX_PAIRS] = {false};
        int standing = n_pairs;
        for (int k = 0; k < standing; k++) {
            int i = (k + turn) % standing; /* whoever is first has the link */
            ended[i] = !pair_move(pairs[i], fds + 1 + 2 * i, t);
        }
        for (int i = standing - 1; i >= 0; i--)
            if (ended[i])
                end_pair(i);
        if (fds[0].revents)
            take(listener, to_port);
    }
}

int main(int argc, char **argv) {
    if (argc < 4 || argc > 6) {
        fprintf(stderr, "usage: slow DELAY_MS MBIT TO_PORT [LISTEN_ADDRESS [LISTEN_PORT]]\n");
        return 2;
    }
    signal(SIGPIPE, SIG_IGN);
    prctl(PR_SET_TIMERSLACK, 1000UL);
    delay = (uint64_t)(atof(argv[1]) * 1e6);
    ns_per_mib = atof(argv[2]) > 0 ? (uint64_t)((1 << 20) * 8e3 / atof(argv[2])) : 0;
    int listener = socket(AF_INET, SOCK_STREAM, 0);
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = inet_addr(argc > 4 ? argv[4] : "127.0.0.1")};
    a.sin_port = htons((uint16_t)(argc > 5 ? atoi(argv[5]) : 0));
    socklen_t len = sizeof a;
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &(int){1}, sizeof(int));
    small_queue(listener);
    if (bind(listener, (struct sockaddr *)&a, len) < 0 || listen(listener, 4096) < 0)
        die("listen");
    getsockname(listener, (struct sockaddr *)&a, &len);
    printf("%d\n", ntohs(a.sin_port));
    fflush(stdout);
    pass(listener, atoi(argv[3]));
}
