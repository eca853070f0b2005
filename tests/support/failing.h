/*
 * System calls that fail once, in every way that their manual pages know: the program that includes this has functions
 * of these names of its own, which everything in it uses, libev too. FAILING_NOW is an expression of the includer's:
 * whether it is the tested side that calls. `fault` says which call is to fail, the how manieth, and whether it has.
 */
#ifndef HT_TESTS_FAILING_H
#define HT_TESTS_FAILING_H

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

enum failing_call {
    RECV,
    SENDMSG,
    SEND,
    ACCEPT4,
    SOCKET,
    SOCKETPAIR,
    BIND,
    LISTEN,
    CONNECT,
    EPOLL_WAIT,
    EPOLL_CTL,
    SHUTDOWN,
    SETSOCKOPT,
    GETSOCKOPT,
    GETSOCKNAME,
    GETPEERNAME,
    OPEN,
    READ,
    WRITE,
    N_CALLS
};

#define SHORT (-1) /* one byte of what was asked for */

static struct {
    enum failing_call call;
    int err;
    long in;  /* calls to go */
    bool hit; /* it has happened */
} fault = {.call = N_CALLS};

/* A way in which a call fails. */
struct failing_kind {
    enum failing_call call;
    int err;
    bool harmless; /* nobody may notice */
};

/* The call number `at`, from 0, of those that come from now on fails in this way. */
static inline void fault_arm(const struct failing_kind *kind, long at) {
    fault.call = kind->call;
    fault.err = kind->err;
    fault.in = at;
    fault.hit = false;
}

/* No call fails any more. Returns whether one has. */
static inline bool fault_disarm(void) {
    fault.call = N_CALLS;
    return fault.hit;
}

struct failing_sums {
    unsigned total, seen, bad; /* calls that failed; that were noticed; that were noticed though they are harmless */
};

/*
 * Lets each call of a scenario fail in one way, one call in each run, at most `most` of them. run() arms the fault and
 * runs the scenario `which`. It returns false when the call did not come any more, and sets *good when nobody noticed.
 */
static inline void fail_each_call(struct failing_sums *sums, size_t which, const char *name,
                                  const struct failing_kind *kind, long most,
                                  bool (*run)(size_t which, const struct failing_kind *kind, long at, bool *good)) {
    bool good;
    for (long at = 0; at < most && run(which, kind, at, &good); at++) {
        sums->total++;
        sums->seen += !good;
        if (good || !kind->harmless)
            continue;
        printf("# %s: call %d, error %d, the %ldth: not harmless\n", name, kind->call, kind->err, at);
        sums->bad++;
    }
}

/* Whether this call is the one. */
static bool strike(enum failing_call call) {
    if (!FAILING_NOW || fault.call != call || fault.hit || fault.in-- > 0)
        return false;
    fault.hit = true;
    if (fault.err != SHORT)
        errno = fault.err;
    return true;
}

/* ---- the functions ---- */

ssize_t recv(int fd, void *buf, size_t n, int flags) {
    if (strike(RECV)) {
        if (fault.err != SHORT)
            return -1;
        n = n ? 1 : 0;
    }
    return syscall(SYS_recvfrom, fd, buf, n, flags, NULL, NULL);
}

ssize_t send(int fd, const void *buf, size_t n, int flags) {
    if (strike(SEND)) {
        if (fault.err != SHORT)
            return -1;
        n = n ? 1 : 0;
    }
    return syscall(SYS_sendto, fd, buf, n, flags, NULL, 0);
}

ssize_t sendmsg(int fd, const struct msghdr *m, int flags) {
    if (strike(SENDMSG)) {
        if (fault.err != SHORT)
            return -1;
        struct iovec one = m->msg_iov[0];
        struct msghdr cut = {.msg_iov = &one, .msg_iovlen = 1};
        one.iov_len = one.iov_len ? 1 : 0;
        return syscall(SYS_sendmsg, fd, &cut, flags);
    }
    return syscall(SYS_sendmsg, fd, m, flags);
}

int accept4(int fd, __SOCKADDR_ARG addr, socklen_t *len, int flags) {
    return strike(ACCEPT4) ? -1 : (int)syscall(SYS_accept4, fd, addr.__sockaddr__, len, flags);
}

int socket(int domain, int type, int protocol) {
    return strike(SOCKET) ? -1 : (int)syscall(SYS_socket, domain, type, protocol);
}

int socketpair(int domain, int type, int protocol, int fds[2]) {
    return strike(SOCKETPAIR) ? -1 : (int)syscall(SYS_socketpair, domain, type, protocol, fds);
}

int bind(int fd, __CONST_SOCKADDR_ARG addr, socklen_t len) {
    return strike(BIND) ? -1 : (int)syscall(SYS_bind, fd, addr.__sockaddr__, len);
}

int listen(int fd, int backlog) { return strike(LISTEN) ? -1 : (int)syscall(SYS_listen, fd, backlog); }

int connect(int fd, __CONST_SOCKADDR_ARG addr, socklen_t len) {
    bool now = strike(CONNECT);
    if (now && fault.err != EINTR)
        return -1;
    int rc = (int)syscall(SYS_connect, fd, addr.__sockaddr__, len);
    if (now) { /* connect(2): interrupted, it goes on all the same */
        errno = EINTR;
        return -1;
    }
    return rc;
}

int epoll_wait(int fd, struct epoll_event *events, int n, int timeout) {
    return strike(EPOLL_WAIT) ? -1 : (int)syscall(SYS_epoll_pwait, fd, events, n, timeout, NULL, 8);
}

int epoll_ctl(int fd, int op, int on, struct epoll_event *event) {
    return strike(EPOLL_CTL) ? -1 : (int)syscall(SYS_epoll_ctl, fd, op, on, event);
}

int shutdown(int fd, int how) { return strike(SHUTDOWN) ? -1 : (int)syscall(SYS_shutdown, fd, how); }

int setsockopt(int fd, int level, int name, const void *value, socklen_t len) {
    return strike(SETSOCKOPT) ? -1 : (int)syscall(SYS_setsockopt, fd, level, name, value, len);
}

int getsockopt(int fd, int level, int name, void *restrict value, socklen_t *restrict len) {
    return strike(GETSOCKOPT) ? -1 : (int)syscall(SYS_getsockopt, fd, level, name, value, len);
}

int getsockname(int fd, __SOCKADDR_ARG addr, socklen_t *restrict len) {
    return strike(GETSOCKNAME) ? -1 : (int)syscall(SYS_getsockname, fd, addr.__sockaddr__, len);
}

int getpeername(int fd, __SOCKADDR_ARG addr, socklen_t *restrict len) {
    return strike(GETPEERNAME) ? -1 : (int)syscall(SYS_getpeername, fd, addr.__sockaddr__, len);
}

int open(const char *name, int flags, ...) {
    va_list ap;
    va_start(ap, flags);
    mode_t mode = flags & O_CREAT ? va_arg(ap, mode_t) : 0;
    va_end(ap);
    return strike(OPEN) ? -1 : (int)syscall(SYS_openat, AT_FDCWD, name, flags, mode);
}

ssize_t read(int fd, void *buf, size_t n) {
    if (strike(READ)) {
        if (fault.err != SHORT)
            return -1;
        n = n ? 1 : 0;
    }
    return syscall(SYS_read, fd, buf, n);
}

ssize_t write(int fd, const void *buf, size_t n) { return strike(WRITE) ? -1 : syscall(SYS_write, fd, buf, n); }

#endif
