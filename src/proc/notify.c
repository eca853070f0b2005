#include "proc/notify.h"

#include <errno.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

int proc_notify_open(struct proc_notify *n, struct ht_errmsg *err) {
    const char *name = getenv("NOTIFY_SOCKET");
    *n = (struct proc_notify){.fd = -1};
    if (!name || !*name)
        return HT_OK;
    size_t len = strlen(name);
    if ((*name != '/' && *name != '@') || len < 2 || len >= sizeof n->addr.sun_path)
        return ht_fail(err, HT_EINVAL, "NOTIFY_SOCKET %s: not the name of a unix socket", name);
    n->addr.sun_family = AF_UNIX;
    memcpy(n->addr.sun_path, name, len);
    n->len = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + len);
    if (*name == '@')
        n->addr.sun_path[0] = '\0'; /* an abstract name has no terminator and is as long as it is given */
    else
        n->len++;
    n->fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    return n->fd >= 0 ? HT_OK : ht_fail(err, HT_EIO, "NOTIFY_SOCKET %s: %s", name, strerror(errno));
}

void proc_notify_close(struct proc_notify *n) {
    if (n->fd >= 0)
        close(n->fd);
    n->fd = -1;
}

bool proc_notify_wanted(const struct proc_notify *n) { return n->fd >= 0; }

static int send_text(const struct proc_notify *n, int fd, const char *fmt, va_list ap) {
    char text[512];
    union {
        char room[CMSG_SPACE(sizeof(int))];
        struct cmsghdr align;
    } control = {{0}};
    int len = vsnprintf(text, sizeof text, fmt, ap);
    if (len < 0 || (size_t)len >= sizeof text)
        return HT_EIO;
    struct iovec v = {text, (size_t)len};
    struct sockaddr_un to = n->addr;
    struct msghdr m = {.msg_name = &to, .msg_namelen = n->len, .msg_iov = &v, .msg_iovlen = 1};
    if (fd >= 0) {
        m.msg_control = control.room;
        m.msg_controllen = sizeof control.room;
        struct cmsghdr *c = CMSG_FIRSTHDR(&m);
        *c = (struct cmsghdr){.cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS, .cmsg_len = CMSG_LEN(sizeof fd)};
        memcpy(CMSG_DATA(c), &fd, sizeof fd);
    }
    ssize_t sent;
    do
        sent = sendmsg(n->fd, &m, MSG_NOSIGNAL);
    while (sent < 0 && errno == EINTR);
    if (sent < 0 && (errno == EAGAIN || errno == EWOULDBLOCK || errno == ENOBUFS))
        return HT_EAGAIN;
    return sent == len ? HT_OK : HT_EIO;
}

int proc_notify_send(const struct proc_notify *n, const char *fmt, ...) {
    va_list ap;
    if (n->fd < 0)
        return HT_OK;
    va_start(ap, fmt);
    int rc = send_text(n, -1, fmt, ap);
    va_end(ap);
    return rc < 0 ? HT_EIO : HT_OK;
}

int proc_notify_send_fd(const struct proc_notify *n, int fd, const char *fmt, ...) {
    va_list ap;
    if (n->fd < 0)
        return HT_OK;
    va_start(ap, fmt);
    int rc = send_text(n, fd, fmt, ap);
    va_end(ap);
    return rc;
}

/* Reads a whole number without anything around it; 0: it is not one. */
static uint64_t number(const char *name) {
    const char *text = getenv(name);
    char *end;
    if (!text || *text < '0' || *text > '9')
        return 0;
    errno = 0;
    unsigned long long v = strtoull(text, &end, 10);
    return *end || errno ? 0 : v;
}

uint64_t proc_notify_watchdog_ms(void) {
    uint64_t us = number("WATCHDOG_USEC");
    if (getenv("WATCHDOG_PID") && number("WATCHDOG_PID") != (uint64_t)getpid())
        return 0; /* meant for another process of the service */
    return us / 1000;
}

unsigned proc_notify_stores(void) { return (unsigned)ht_min64(number("FDSTORE"), UINT32_MAX); }
