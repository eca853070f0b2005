/*
 * Requests at a steady rate: rate PORT PER_SECOND SECONDS. It ends sooner when its standard input does.
 *
 * A request is due at its moment, whatever became of those before, and what it took is counted from that moment on: a
 * server that stands still cannot hide it by being asked less. Each takes a kept connection that is idle, or a new one.
 * Lines on standard input mark windows: "begin" and "end". In the end it prints
 *
 *     inside COUNT P50 P99 MAX      microseconds, of the requests that were due within a window
 *     outside COUNT P50 P99 MAX
 *     connections COUNT
 *     errors COUNT TEXT             TEXT: the first one
 */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { HEAD = 2048, BODY = 64, EVENTS = 256, PATIENCE_S = 30 };

struct connection {
    int fd;
    size_t request; /* which one it has */
    size_t got;
    char head[HEAD];
    struct connection *next; /* of those that are idle */
};

struct took {
    uint64_t due, us;
    bool inside, done;
};

static const char request_text[] = "GET /bytes/64 HTTP/1.1\r\nHost: rate\r\n\r\n";
static struct took *all;
static size_t started, finished, errors, connections;
static bool inside; /* a window */
static bool over;
static struct connection *idle;
static char first_error[200];
static int poller;
static struct sockaddr_in server = {.sin_family = AF_INET};

static uint64_t now_us(void) {
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (uint64_t)ts.tv_sec * 1000000 + (uint64_t)ts.tv_nsec / 1000;
}

static _Noreturn void die(const char *what) {
    fprintf(stderr, "rate: %s: %s\n", what, strerror(errno));
    exit(1);
}

static void drop(struct connection *c) {
    close(c->fd);
    free(c);
}

static void failed(struct connection *c, const char *what, int error) {
    if (errors++ == 0)
        snprintf(first_error, sizeof first_error, "request %zu: %s%s%s after %zu bytes", c->request, what,
                 error ? ": " : "", error ? strerror(error) : "", c->got);
    finished++;
    drop(c);
}

static struct connection *dial(void) {
    struct connection *c = calloc(1, sizeof *c);
    if (!c || (c->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)) < 0)
        die("socket");
    connections++;
    return c;
}

static void start(uint64_t due) {
    struct connection *c = idle;
    if (c) {
        idle = c->next;
    } else {
        c = dial();
        c->request = started;
        if (connect(c->fd, (struct sockaddr *)&server, sizeof server) < 0) { /* loopback: at once or never */
            started++;
            failed(c, "connect", errno);
            return;
        }
        setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &(int){1}, sizeof(int));
        struct epoll_event e = {.events = EPOLLIN, .data.ptr = c};
        if (epoll_ctl(poller, EPOLL_CTL_ADD, c->fd, &e) < 0)
            die("epoll");
    }
    c->request = started++;
    c->got = 0;
    all[c->request] = (struct took){.due = due, .inside = inside};
    if (send(c->fd, request_text, sizeof request_text - 1, MSG_NOSIGNAL) != sizeof request_text - 1)
        failed(c, "send", errno);
}

/* The whole answer is there when the head is, and BODY bytes behind it. */
static void look(struct connection *c) {
    c->head[c->got] = '\0';
    char *end = strstr(c->head, "\r\n\r\n");
    if (!end || c->got < (size_t)(end + 4 - c->head) + BODY)
        return;
    if (strncmp(c->head, "HTTP/1.1 200 ", 13) != 0 || c->got != (size_t)(end + 4 - c->head) + BODY) {
        c->head[60] = '\0';
        *strchrnul(c->head, '\r') = '\0';
        failed(c, c->head, 0);
        return;
    }
    all[c->request].us = now_us() - all[c->request].due;
    all[c->request].done = true;
    finished++;
    if (strcasestr(c->head, "\r\nconnection: close\r\n")) {
        drop(c);
        return;
    }
    c->got = 0;
    c->request = SIZE_MAX;
    c->next = idle;
    idle = c;
}

static void forget_idle(struct connection *c) {
    for (struct connection **at = &idle; *at; at = &(*at)->next)
        if (*at == c) {
            *at = c->next;
            break;
        }
    drop(c);
}

static void readable(struct connection *c) {
    ssize_t n = recv(c->fd, c->head + c->got, sizeof c->head - 1 - c->got, MSG_DONTWAIT);
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (c->request == SIZE_MAX) { /* idle: an end is its right */
        forget_idle(c);
        return;
    }
    if (n <= 0) {
        failed(c, n == 0 ? "the connection was closed" : "the connection failed", n < 0 ? errno : 0);
        return;
    }
    c->got += (size_t)n;
    look(c);
}

/* The last mark that came on standard input counts. */
static void marks(void) {
    static char line[64];
    static size_t have;
    ssize_t n = read(STDIN_FILENO, line + have, sizeof line - 1 - have);
    if (n <= 0) {
        epoll_ctl(poller, EPOLL_CTL_DEL, STDIN_FILENO, NULL);
        over = true;
        return;
    }
    have += (size_t)n;
    line[have] = '\0';
    for (char *end; (end = strchr(line, '\n')); have = strlen(line)) {
        inside = strncmp(line, "begin", 5) == 0;
        memmove(line, end + 1, strlen(end + 1) + 1);
    }
}

static void wait_until(uint64_t moment) {
    struct epoll_event events[EVENTS];
    uint64_t now = now_us(), left = moment > now ? moment - now : 0;
    struct timespec ts = {.tv_sec = (time_t)(left / 1000000), .tv_nsec = (long)(left % 1000000) * 1000};
    int n = epoll_pwait2(poller, events, EVENTS, &ts, NULL);
    for (int i = 0; i < n; i++) {
        if (events[i].data.ptr)
            readable(events[i].data.ptr);
        else
            marks();
    }
}

static int by_value(const void *a, const void *b) {
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

static void tell(const char *name, bool which) {
    uint64_t *us = malloc(sizeof *us * (started + 1));
    size_t n = 0;
    for (size_t i = 0; us && i < started; i++)
        if (all[i].done && all[i].inside == which)
            us[n++] = all[i].us;
    if (n)
        qsort(us, n, sizeof *us, by_value);
    printf("%s %zu %llu %llu %llu\n", name, n, n ? (unsigned long long)us[n / 2] : 0,
           n ? (unsigned long long)us[n * 99 / 100] : 0, n ? (unsigned long long)us[n - 1] : 0);
    free(us);
}

int main(int argc, char **argv) {
    double per_second = argc > 2 ? atof(argv[2]) : 0, seconds = argc > 3 ? atof(argv[3]) : 0;
    size_t most = (size_t)(per_second * seconds);
    signal(SIGPIPE, SIG_IGN);
    if (most == 0) {
        fprintf(stderr, "usage: rate PORT PER_SECOND SECONDS\n");
        return 2;
    }
    server.sin_port = htons((uint16_t)atoi(argv[1]));
    server.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    all = calloc(most, sizeof *all);
    poller = epoll_create1(EPOLL_CLOEXEC);
    struct epoll_event e = {.events = EPOLLIN};
    if (!all || poller < 0 || epoll_ctl(poller, EPOLL_CTL_ADD, STDIN_FILENO, &e) < 0)
        die("start");
    uint64_t begun = now_us();
    while (started < most && !over) {
        uint64_t due = begun + (uint64_t)((double)started * 1e6 / per_second);
        if (now_us() < due) {
            wait_until(due);
        } else {
            start(due);
            if (started % 16 == 0)
                wait_until(0);
        }
    }
    for (uint64_t end = now_us() + PATIENCE_S * 1000000u; finished < started && now_us() < end;)
        wait_until(now_us() + 10000);
    if (finished < started && errors == 0)
        snprintf(first_error, sizeof first_error, "not answered in time");
    errors += started - finished;
    tell("inside", true);
    tell("outside", false);
    printf("connections %zu\nerrors %zu %s\n", connections, errors, first_error);
    return 0;
}
