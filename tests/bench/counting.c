/*
 * For LD_PRELOAD: counts the system calls of a program that move bytes or wait, and what it copies itself, into the
 * file that COUNTING names, as an array of native uint64_t; see enum kind, and calls.py, which reads it. The file is
 * mapped, so it can be read at any moment. No privilege is needed, and the program runs as fast as ever.
 *
 * A call that fails counts as well. What libc does inside itself is not seen.
 */
#include <dlfcn.h>
#include <fcntl.h>
#include <poll.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

enum kind { READS, READ_BYTES, WRITES, WRITTEN_BYTES, WAITS, OTHERS, COPIED_BYTES, N_KINDS };

/* A shorter copy is a head or a field, and none of a body. */
enum { BODY = 2048 };

static uint64_t nowhere[N_KINDS], *counts = nowhere;

__attribute__((constructor)) static void begin(void) {
    const char *path = getenv("COUNTING");
    int fd = path ? open(path, O_RDWR | O_CLOEXEC) : -1;
    void *map = fd < 0 ? MAP_FAILED : mmap(NULL, sizeof nowhere, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (fd >= 0)
        close(fd);
    if (map == MAP_FAILED)
        abort(); /* a test without it would prove nothing */
    counts = map;
}

static void add(enum kind kind, uint64_t n) { __atomic_fetch_add(&counts[kind], n, __ATOMIC_RELAXED); }

static void count(enum kind kind, int64_t n) {
    add(kind, 1);
    if ((kind == READS || kind == WRITES) && n > 0)
        add(kind + 1, (uint64_t)n);
}

#define SEEN __attribute__((visibility("default")))
#define FIND(next, name)                                                                                               \
    if (!next)                                                                                                         \
    *(void **)&next = dlsym(RTLD_NEXT, #name)
#define CALL(kind, type, name, params, args)                                                                           \
    SEEN type name params;                                                                                             \
    SEEN type name params {                                                                                            \
        static type(*next) params;                                                                                     \
        FIND(next, name);                                                                                              \
        type n = next args;                                                                                            \
        count(kind, (int64_t)n);                                                                                       \
        return n;                                                                                                      \
    }

CALL(READS, ssize_t, read, (int fd, void *buf, size_t n_), (fd, buf, n_))
CALL(READS, ssize_t, __read_chk, (int fd, void *buf, size_t n_, size_t room), (fd, buf, n_, room))
CALL(READS, ssize_t, readv, (int fd, const struct iovec *v, int n_), (fd, v, n_))
CALL(READS, ssize_t, recv, (int fd, void *buf, size_t n_, int flags), (fd, buf, n_, flags))
CALL(READS, ssize_t, __recv_chk, (int fd, void *buf, size_t n_, size_t room, int flags), (fd, buf, n_, room, flags))
CALL(READS, ssize_t, recvmsg, (int fd, struct msghdr *m, int flags), (fd, m, flags))
CALL(WRITES, ssize_t, write, (int fd, const void *buf, size_t n_), (fd, buf, n_))
CALL(WRITES, ssize_t, writev, (int fd, const struct iovec *v, int n_), (fd, v, n_))
CALL(WRITES, ssize_t, send, (int fd, const void *buf, size_t n_, int flags), (fd, buf, n_, flags))
CALL(WRITES, ssize_t, sendmsg, (int fd, const struct msghdr *m, int flags), (fd, m, flags))
CALL(WRITES, ssize_t, splice, (int in, off64_t *a, int out, off64_t *b, size_t n_, unsigned f), (in, a, out, b, n_, f))
CALL(WAITS, int, epoll_wait, (int fd, struct epoll_event *e, int n_, int ms), (fd, e, n_, ms))
CALL(WAITS, int, poll, (struct pollfd * fds, nfds_t n_, int ms), (fds, n_, ms))
CALL(WAITS, int, __poll_chk, (struct pollfd * fds, nfds_t n_, int ms, size_t room), (fds, n_, ms, room))
CALL(OTHERS, int, epoll_ctl, (int fd, int what, int of, struct epoll_event *e), (fd, what, of, e))
CALL(OTHERS, int, setsockopt, (int fd, int a, int b, const void *p, socklen_t n_), (fd, a, b, p, n_))
CALL(OTHERS, int, getsockopt, (int fd, int a, int b, void *restrict p, socklen_t *restrict n_), (fd, a, b, p, n_))
CALL(OTHERS, int, getsockname, (int fd, __SOCKADDR_ARG a, socklen_t *restrict n_), (fd, a, n_))
CALL(OTHERS, int, getpeername, (int fd, __SOCKADDR_ARG a, socklen_t *restrict n_), (fd, a, n_))
CALL(OTHERS, int, socket, (int a, int b, int c), (a, b, c))
CALL(OTHERS, int, connect, (int fd, __CONST_SOCKADDR_ARG a, socklen_t n_), (fd, a, n_))
CALL(OTHERS, int, accept, (int fd, __SOCKADDR_ARG a, socklen_t *restrict n_), (fd, a, n_))
CALL(OTHERS, int, accept4, (int fd, __SOCKADDR_ARG a, socklen_t *restrict n_, int f), (fd, a, n_, f))
CALL(OTHERS, int, shutdown, (int fd, int how), (fd, how))
CALL(OTHERS, int, close, (int fd), (fd))

SEEN int ioctl(int fd, unsigned long what, ...) {
    static int (*next)(int, unsigned long, ...);
    va_list more;
    va_start(more, what);
    void *arg = va_arg(more, void *);
    va_end(more);
    FIND(next, ioctl);
    add(OTHERS, 1);
    return next(fd, what, arg);
}

/* Looking a function up may copy something: until the first one is found, bytes are copied one by one. */
static void *slowly(void *to, const void *from, size_t n) {
    volatile char *t = to;
    const char *f = from;
    if ((uintptr_t)to <= (uintptr_t)from)
        for (size_t i = 0; i < n; i++)
            t[i] = f[i];
    else
        while (n--)
            t[n] = f[n];
    return to;
}

#define COPY(name, params, args)                                                                                       \
    SEEN void *name params;                                                                                            \
    SEEN void *name params {                                                                                           \
        static void *(*next)params;                                                                                    \
        static int looking;                                                                                            \
        if (!next && looking)                                                                                          \
            return slowly(to, from, n);                                                                                \
        looking = 1;                                                                                                   \
        FIND(next, name);                                                                                              \
        if (n >= BODY)                                                                                                 \
            add(COPIED_BYTES, n);                                                                                      \
        return next args;                                                                                              \
    }

COPY(memcpy, (void *restrict to, const void *restrict from, size_t n), (to, from, n))
COPY(memmove, (void *to, const void *from, size_t n), (to, from, n))
COPY(__memcpy_chk, (void *restrict to, const void *restrict from, size_t n, size_t room), (to, from, n, room))
COPY(__memmove_chk, (void *to, const void *from, size_t n, size_t room), (to, from, n, room))
