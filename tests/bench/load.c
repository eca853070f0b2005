/*
 * The load for `make bench`, small enough not to be what is measured.
 *
 * - load serve: an HTTP server on a free loopback port (printed). GET /bytes/N gives N bytes, PUT takes all.
 * - load get PORT N [PARALLEL]: downloads N bytes over each of PARALLEL connections; prints the seconds.
 * - load put PORT N: uploads N bytes; prints the seconds.
 * - load flow PORT SECONDS [PARALLEL]: downloads for so long; prints bytes a second.
 * - load latency PORT COUNT GAP [N]: COUNT small requests on one connection, GAP microseconds apart, or as many as
 * there are in ENOUGH_S seconds; prints p50 and p99 in microseconds. With N, beside a download without an end of which
 * N bytes have come before.
 * - load idle PORT COUNT HTTP: opens COUNT connections (with one request each when HTTP is 1), prints "ready", waits
 * for the end of standard input.
 */
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { BLOCK = 256 * 1024, HEAD = 4096, ENOUGH_S = 20 };

static char zeros[BLOCK];

static _Noreturn void die(const char *what) {
    fprintf(stderr, "load: %s: %s\n", what, strerror(errno));
    exit(1);
}

static double now(void) {
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (double)ts.tv_sec + (double)ts.tv_nsec / 1e9;
}

static int send_all(int fd, const char *p, uint64_t n, uint64_t block) {
    while (n) {
        ssize_t w = send(fd, p, (size_t)(n < block ? n : block), MSG_NOSIGNAL);
        if (w < 0 && errno == EINTR)
            continue;
        if (w <= 0)
            return -1;
        n -= (uint64_t)w;
        if (block != BLOCK)
            p += w;
    }
    return 0;
}

static int send_text(int fd, const char *text) { return send_all(fd, text, strlen(text), strlen(text)); }
static int send_zeros(int fd, uint64_t n) { return send_all(fd, zeros, n, BLOCK); }

/* Reads up to the empty line into `head` (NUL-terminated); returns how many bytes behind it were read too, or -1. */
static ssize_t read_head(int fd, char head[HEAD]) {
    size_t n = 0;
    for (;;) {
        ssize_t r = recv(fd, head + n, HEAD - 1 - n, 0);
        if (r <= 0)
            return -1;
        n += (size_t)r;
        head[n] = '\0';
        char *end = strstr(head, "\r\n\r\n");
        if (end) {
            size_t rest = n - (size_t)(end + 4 - head);
            end[4] = '\0';
            return (ssize_t)rest;
        }
        if (n == HEAD - 1)
            return -1;
    }
}

static int skip(int fd, uint64_t n, char *scratch) {
    while (n) {
        ssize_t r = recv(fd, scratch, (size_t)(n < BLOCK ? n : BLOCK), 0);
        if (r <= 0)
            return -1;
        n -= (uint64_t)r;
    }
    return 0;
}

static uint64_t content_length(const char *head) {
    const char *field = strcasestr(head, "content-length:");
    return field ? strtoull(field + 15, NULL, 10) : 0;
}

static void *serve_one(void *arg) {
    int fd = (int)(intptr_t)arg, one = 1;
    char head[HEAD], answer[128];
    char *scratch = malloc(BLOCK);
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    for (;;) {
        ssize_t rest = read_head(fd, head);
        if (rest < 0 || !scratch)
            break;
        if (strncmp(head, "PUT", 3) == 0) {
            if (skip(fd, content_length(head) - (uint64_t)rest, scratch) < 0)
                break;
            if (send_text(fd, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n") < 0)
                break;
            continue;
        }
        uint64_t n = strtoull(strncmp(head, "GET /bytes/", 11) == 0 ? head + 11 : "0", NULL, 10);
        int len =
            snprintf(answer, sizeof answer, "HTTP/1.1 200 OK\r\nContent-Length: %llu\r\n\r\n", (unsigned long long)n);
        if (n <= 65536) {
            char small[sizeof answer + 65536];
            memcpy(small, answer, (size_t)len);
            memset(small + len, 'x', (size_t)n);
            if (send_all(fd, small, (uint64_t)len + n, (uint64_t)len + n) < 0)
                break;
        } else if (send_text(fd, answer) < 0 || send_zeros(fd, n) < 0) {
            break;
        }
    }
    free(scratch);
    close(fd);
    return NULL;
}

static _Noreturn void serve(void) {
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof a;
    if (fd < 0 || bind(fd, (struct sockaddr *)&a, len) < 0 || listen(fd, 4096) < 0)
        die("listen");
    getsockname(fd, (struct sockaddr *)&a, &len);
    printf("%d\n", ntohs(a.sin_port));
    fflush(stdout);
    pthread_attr_t attr;
    pthread_attr_init(&attr);
    pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
    pthread_attr_setstacksize(&attr, 512 * 1024);
    for (;;) {
        int c = accept(fd, NULL, NULL);
        pthread_t t;
        if (c >= 0 && pthread_create(&t, &attr, serve_one, (void *)(intptr_t)c) != 0)
            close(c);
    }
}

static int dial(int port) {
    int fd = socket(AF_INET, SOCK_STREAM, 0), one = 1;
    struct sockaddr_in a = {
        .sin_family = AF_INET, .sin_port = htons((uint16_t)port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    if (fd < 0 || connect(fd, (struct sockaddr *)&a, sizeof a) < 0)
        die("connect");
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    return fd;
}

struct download {
    int port;
    uint64_t n;
};

static void *get_one(void *arg) {
    const struct download *d = arg;
    char head[HEAD];
    char *scratch = malloc(BLOCK);
    int fd = dial(d->port);
    snprintf(head, sizeof head, "GET /bytes/%llu HTTP/1.1\r\nHost: bench\r\n\r\n", (unsigned long long)d->n);
    if (!scratch || send_text(fd, head) < 0)
        die("request");
    ssize_t rest = read_head(fd, head);
    if (rest < 0 || strncmp(head, "HTTP/1.1 200", 12) != 0 || content_length(head) != d->n)
        die("answer");
    if (skip(fd, d->n - (uint64_t)rest, scratch) < 0)
        die("body");
    free(scratch);
    close(fd);
    return NULL;
}

static int get(int port, uint64_t n, int parallel) {
    pthread_t *threads = calloc((size_t)parallel, sizeof *threads);
    struct download d = {port, n};
    double start = now();
    for (int i = 0; threads && i < parallel; i++)
        if (pthread_create(&threads[i], NULL, get_one, &d) != 0)
            die("thread");
    for (int i = 0; threads && i < parallel; i++)
        pthread_join(threads[i], NULL);
    printf("%.6f\n", now() - start);
    free(threads);
    return 0;
}

/* The bytes of all endless downloads so far. */
static _Atomic uint64_t flowed;

static void *flow_one(void *arg) {
    char head[HEAD];
    char *scratch = malloc(BLOCK);
    int fd = dial((int)(intptr_t)arg);
    if (!scratch || send_text(fd, "GET /bytes/4398046511104 HTTP/1.1\r\nHost: bench\r\n\r\n") < 0)
        die("request");
    if (read_head(fd, head) < 0 || strncmp(head, "HTTP/1.1 200", 12) != 0)
        die("answer");
    for (ssize_t r; (r = recv(fd, scratch, BLOCK, 0)) > 0;)
        atomic_fetch_add(&flowed, (uint64_t)r);
    errno = ECONNRESET;
    die("an endless download");
}

static void flow_start(int port, int parallel) {
    for (int i = 0; i < parallel; i++) {
        pthread_t t;
        if (pthread_create(&t, NULL, flow_one, (void *)(intptr_t)port) != 0)
            die("thread");
    }
}

static int flow(int port, long long seconds, int parallel) {
    double start = now();
    struct timespec ts = {.tv_sec = (time_t)seconds};
    flow_start(port, parallel);
    clock_nanosleep(CLOCK_MONOTONIC, 0, &ts, NULL);
    printf("%.0f\n", (double)atomic_load(&flowed) / (now() - start));
    return 0;
}

static void flow_wait(uint64_t n) {
    struct timespec ms = {.tv_nsec = 1000000};
    while (atomic_load(&flowed) < n)
        clock_nanosleep(CLOCK_MONOTONIC, 0, &ms, NULL);
}

static int put(int port, uint64_t n) {
    char head[HEAD];
    int fd = dial(port);
    double start = now();
    snprintf(head, sizeof head, "PUT /up HTTP/1.1\r\nHost: bench\r\nContent-Length: %llu\r\n\r\n",
             (unsigned long long)n);
    if (send_text(fd, head) < 0 || send_zeros(fd, n) < 0 || read_head(fd, head) < 0 ||
        strncmp(head, "HTTP/1.1 200", 12) != 0)
        die("upload");
    printf("%.6f\n", now() - start);
    close(fd);
    return 0;
}

static int by_value(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static int latency(int port, size_t count, long gap_us, uint64_t beside) {
    static const char request[] = "GET /bytes/1024 HTTP/1.1\r\nHost: bench\r\n\r\n";
    double *took = calloc(count, sizeof *took);
    char head[HEAD], *scratch = malloc(BLOCK);
    if (beside)
        flow_start(port, 1);
    flow_wait(beside);
    int fd = dial(port);
    struct timespec next;
    clock_gettime(CLOCK_MONOTONIC, &next);
    double end = now() + ENOUGH_S;
    size_t n = 0;
    for (; took && scratch && n < count && now() < end; n++) {
        double start = now();
        if (send_text(fd, request) < 0)
            die("request");
        ssize_t rest = read_head(fd, head);
        if (rest < 0 || strncmp(head, "HTTP/1.1 200", 12) != 0 ||
            skip(fd, content_length(head) - (uint64_t)rest, scratch) < 0)
            die("answer");
        took[n] = now() - start;
        next.tv_nsec += gap_us * 1000;
        while (next.tv_nsec >= 1000000000) {
            next.tv_sec++;
            next.tv_nsec -= 1000000000;
        }
        clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &next, NULL);
    }
    qsort(took, n, sizeof *took, by_value);
    printf("%.1f %.1f\n", took[n / 2] * 1e6, took[n * 99 / 100] * 1e6);
    free(took);
    free(scratch);
    close(fd);
    return 0;
}

static int idle(int port, int count, int http) {
    char head[HEAD], *scratch = malloc(BLOCK);
    int *fds = calloc((size_t)count, sizeof *fds);
    for (int i = 0; fds && scratch && i < count; i++) {
        fds[i] = dial(port);
        if (!http)
            continue;
        if (send_text(fds[i], "GET /bytes/1024 HTTP/1.1\r\nHost: bench\r\n\r\n") < 0)
            die("request");
        ssize_t rest = read_head(fds[i], head);
        if (rest < 0 || skip(fds[i], content_length(head) - (uint64_t)rest, scratch) < 0)
            die("answer");
    }
    printf("ready\n");
    fflush(stdout);
    while (read(0, head, sizeof head) > 0)
        ;
    free(fds);
    free(scratch);
    return 0;
}

int main(int argc, char **argv) {
    signal(SIGPIPE, SIG_IGN);
    const char *mode = argc > 1 ? argv[1] : "";
    int port = argc > 2 ? atoi(argv[2]) : 0;
    long long a = argc > 3 ? atoll(argv[3]) : 0, b = argc > 4 ? atoll(argv[4]) : 1;
    if (strcmp(mode, "serve") == 0)
        serve();
    if (strcmp(mode, "get") == 0 && argc > 3)
        return get(port, (uint64_t)a, (int)b);
    if (strcmp(mode, "put") == 0 && argc > 3)
        return put(port, (uint64_t)a);
    if (strcmp(mode, "latency") == 0 && argc > 4)
        return latency(port, (size_t)a, (long)b, argc > 5 ? strtoull(argv[5], NULL, 10) : 0);
    if (strcmp(mode, "flow") == 0 && argc > 3)
        return flow(port, a, (int)b);
    if (strcmp(mode, "idle") == 0 && argc > 4)
        return idle(port, (int)a, (int)b);
    fprintf(stderr, "usage: load serve | get PORT BYTES [PARALLEL] | put PORT BYTES | flow PORT SECONDS [PARALLEL] | "
                    "latency PORT COUNT GAP_US [BYTES] | idle PORT COUNT HTTP\n");
    return 2;
}
