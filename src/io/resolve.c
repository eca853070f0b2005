#include "io/io_int.h"

#include <errno.h>
#include <netdb.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <sys/socket.h>
#include <unistd.h>

struct question {
    uint16_t port;
    char host[256]; /* RFC 1035 2.3.4: at most 255 octets */
};

static void answer(const struct question *q, struct io_resolved *r) {
    char port[8];
    snprintf(port, sizeof port, "%u", (unsigned)q->port);
    struct addrinfo hints = {.ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM, .ai_flags = AI_ADDRCONFIG};
    struct addrinfo *list = NULL;
    r->gai = getaddrinfo(q->host, port, &hints, &list);
    if (r->gai != 0) {
        r->gai = r->gai == EAI_SYSTEM ? EAI_FAIL : r->gai;
        return;
    }
    for (struct addrinfo *a = list; a && r->n < IO_RESOLVE_MAX; a = a->ai_next) {
        if (a->ai_addrlen > sizeof r->addr[0].ss)
            continue;
        memcpy(&r->addr[r->n].ss, a->ai_addr, a->ai_addrlen);
        r->addr[r->n++].len = a->ai_addrlen;
    }
    freeaddrinfo(list);
}

static void *worker(void *arg) {
    int fd = (int)(intptr_t)arg;
    struct question q;
    struct io_resolved r = {0};
    if (recv(fd, &q, sizeof q, 0) == (ssize_t)sizeof q) {
        answer(&q, &r);
        /* Nobody listens any more when it was cancelled: MSG_NOSIGNAL, and the result does not matter. */
        if (send(fd, &r, sizeof r, MSG_NOSIGNAL) < 0)
            errno = 0;
    }
    close(fd);
    return NULL;
}

int io_resolve_start(const char *host, uint16_t port) {
    struct question q = {.port = port};
    size_t n = strlen(host);
    if (n >= sizeof q.host)
        return HT_ERESOLVE;
    memcpy(q.host, host, n);
    int fd[2];
    /* SEQPACKET keeps question and answer whole. */
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, fd) != 0)
        return ht_err_from_errno(errno);
    int rc = HT_OK;
    pthread_attr_t attr;
    pthread_t thread;
    if (send(fd[0], &q, sizeof q, MSG_NOSIGNAL) != (ssize_t)sizeof q)
        rc = HT_EIO;
    if (rc == HT_OK && pthread_attr_init(&attr) != 0)
        rc = HT_ENOMEM;
    if (rc == HT_OK) {
        /* Signals are for the loop's thread alone. */
        sigset_t all, old;
        sigfillset(&all);
        pthread_sigmask(SIG_SETMASK, &all, &old);
        pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
        rc = pthread_create(&thread, &attr, worker, (void *)(intptr_t)fd[1]) == 0 ? HT_OK : HT_ENOMEM;
        pthread_sigmask(SIG_SETMASK, &old, NULL);
        pthread_attr_destroy(&attr);
    }
    if (rc == HT_OK)
        return fd[0];
    close(fd[0]);
    close(fd[1]);
    return rc;
}

int io_resolve_take(int fd, struct io_resolved *out) {
    ssize_t n = recv(fd, out, sizeof *out, MSG_DONTWAIT);
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return HT_EAGAIN;
    return n == (ssize_t)sizeof *out && out->n <= IO_RESOLVE_MAX ? HT_OK : HT_EIO;
}
