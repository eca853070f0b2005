/*
 * Each system call of the kit (and of our driver, where it takes part) fails once in each scenario, in every way that
 * its manual page knows: this program has functions of these names of its own, which everything in it uses, libev too.
 * What is only an inconvenience (EINTR, EAGAIN, a short read or write) must not be seen by anybody. What is a failure
 * may cost one connection or one session, visibly; nobody is told anything wrong, the next one is served, and nothing
 * is left behind.
 */
#include "scenarios.h"

#include <fcntl.h>
#include <sys/epoll.h>
#include <sys/syscall.h>

enum call {
    RECV,
    SENDMSG,
    SEND,
    ACCEPT4,
    SOCKET,
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
    enum call call;
    int err;
    long in;  /* calls to go */
    bool hit; /* it has happened */
} fault = {.call = N_CALLS};

/* Whether this call is the one. */
static bool strike(enum call call) {
    if (!kit_runs || fault.call != call || fault.hit || fault.in-- > 0)
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
    return strike(OPEN) ? -1 : (int)syscall(SYS_openat, AT_FDCWD, name, flags, 0);
}

ssize_t read(int fd, void *buf, size_t n) { return strike(READ) ? -1 : syscall(SYS_read, fd, buf, n); }

ssize_t write(int fd, const void *buf, size_t n) { return strike(WRITE) ? -1 : syscall(SYS_write, fd, buf, n); }

/* ---- what may go wrong ---- */

static const struct {
    enum call call;
    int err;
    bool harmless; /* nobody may notice */
} kinds[] = {
    {RECV, EINTR, true},           {RECV, SHORT, true},
    {RECV, EAGAIN, true},          {RECV, ECONNRESET, false},
    {RECV, ENOMEM, false},         {SENDMSG, EINTR, true},
    {SENDMSG, SHORT, true},        {SENDMSG, EAGAIN, true},
    {SENDMSG, EPIPE, false},       {SENDMSG, ECONNRESET, false},
    {SENDMSG, ENOBUFS, false},     {ACCEPT4, EINTR, true},
    {ACCEPT4, EAGAIN, true},       {ACCEPT4, ECONNABORTED, true},
    {ACCEPT4, EMFILE, false},      {ACCEPT4, ENFILE, false},
    {ACCEPT4, ENOMEM, false},      {SOCKET, EMFILE, false},
    {SOCKET, ENOBUFS, false},      {BIND, EADDRINUSE, false},
    {BIND, EACCES, false},         {LISTEN, EADDRINUSE, false},
    {CONNECT, EINTR, true},        {CONNECT, ECONNREFUSED, false},
    {CONNECT, ENETUNREACH, false}, {CONNECT, EADDRNOTAVAIL, false},
    {EPOLL_WAIT, EINTR, true},     {SHUTDOWN, ENOTCONN, false},
    {SETSOCKOPT, ENOBUFS, false},  {GETSOCKOPT, ENOBUFS, false},
    {GETSOCKNAME, ENOBUFS, false}, {GETPEERNAME, ENOTCONN, false},
    {OPEN, EMFILE, true}, /* the reserve of a listener */
    {READ, EINTR, true},           {WRITE, EINTR, true},
};

static bool run_once(size_t which, size_t kind, long at, bool *good) {
    host_start("");
    few_turns();
    fault.call = kinds[kind].call;
    fault.err = kinds[kind].err;
    fault.in = at;
    fault.hit = false;
    *good = scenarios[which].run();
    bool hit = fault.hit;
    fault.call = N_CALLS;
    hang_up_all();
    if (scenarios[which].run != drain) {
        /* A listener that ran out of descriptors rests for a tenth of a second. */
        uint64_t end = ht_now_ms() + PATIENCE_MS;
        bool works = scenarios[which].run();
        hang_up_all();
        while (!works && ht_now_ms() < end) {
            /* Not so often that the queue of a listener that rests is full before it is back. */
            for (uint64_t until = ht_now_ms() + 20; ht_now_ms() < until;)
                patient_turn();
            works = scenarios[which].run();
            hang_up_all();
        }
        CU_ASSERT(works);
        if (!works)
            printf("# %s: no recovery\n", scenarios[which].name);
        for (int i = 0; i < 200 && kit_sessions_live(host.kit) > 0; i++)
            patient_turn();
    }
    host_stop();
    return hit;
}

static void every_call_may_fail(void) {
    unsigned total = 0, seen = 0, bad = 0;
    for (int who = 0; who < N_CLIENTS; who++)
        c[who].fd = -1;
    for (size_t which = 0; which < HT_ARRAY_LEN(scenarios); which++) {
        uint64_t start = ht_now_ms();
        unsigned before = total;
        for (size_t kind = 0; kind < HT_ARRAY_LEN(kinds); kind++) {
            bool good;
            /* Real failures in every second scenario; where a listener has to rest for a tenth of a second, in every
             * sixth. */
            bool rests = kinds[kind].call == ACCEPT4;
            if (!kinds[kind].harmless && (which + kind) % (rests ? 6 : 2) != 0)
                continue;
            for (long at = 0; at < 500 && run_once(which, kind, at, &good); at++) {
                total++;
                seen += !good;
                if (good || !kinds[kind].harmless)
                    continue;
                printf("# %s: call %d, error %d, the %ldth: not harmless\n", scenarios[which].name, kinds[kind].call,
                       kinds[kind].err, at);
                bad++;
            }
        }
        if (getenv("HT_TEST_LOG"))
            printf("# %s: %u faults, %llu ms\n", scenarios[which].name, total - before,
                   (unsigned long long)(ht_now_ms() - start));
    }
    printf("# %u faults, %u of them seen by somebody\n", total, seen);
    CU_ASSERT_EQUAL(bad, 0);
    CU_ASSERT(total > 1000);
    CU_ASSERT(seen > 100);
}

/* A kit that cannot start says why and leaves nothing; what it can do without is no reason not to start. */
static void starting_may_fail(void) {
    unsigned failed = 0, started = 0;
    ht_log_setup(2, HT_LOG_ERROR, HT_LOG_TEXT);
    for (size_t kind = 0; kind < HT_ARRAY_LEN(kinds); kind++) {
        bool hit = true;
        for (long at = 0; hit && at < 100; at++) {
            char *argv[] = {(char *)(uintptr_t) "--listen", (char *)(uintptr_t) "127.0.0.1:0"};
            struct opt_serve opt;
            struct ht_errmsg err = {""};
            size_t memory = ht_mem_live();
            int descriptors = io_count_fds();
            CU_ASSERT_EQUAL_FATAL(opt_serve_parse(&opt, 2, argv, &err), 0);
            fault.call = kinds[kind].call;
            fault.err = kinds[kind].err;
            fault.in = at;
            fault.hit = false;
            kit_runs = true;
            struct io_loop *loop = io_loop_create();
            struct kit *k = loop ? kit_create(loop, &opt, &err) : NULL;
            kit_runs = false;
            fault.call = N_CALLS;
            hit = fault.hit;
            CU_ASSERT(k || hit);
            CU_ASSERT(k || !loop || err.text[0]);
            started += k != NULL;
            failed += k == NULL;
            kit_destroy(&k);
            io_loop_destroy(&loop);
            opt_serve_free(&opt);
            CU_ASSERT_EQUAL(ht_mem_live(), memory);
            CU_ASSERT_EQUAL(io_count_fds(), descriptors);
        }
    }
    printf("# %u did not start, %u did\n", failed, started);
    CU_ASSERT(failed >= 4);
}

int main(void) {
    static const struct tap_test tests[] = {
        {"starting may fail", starting_may_fail},
        {"every call may fail", every_call_may_fail},
        {NULL, NULL},
    };
    return tap_main("failing system calls", tests);
}
