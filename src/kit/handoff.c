#include "kit/handoff.h"

#include "base/clock.h"

#include <errno.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

/* Waits until the socket is ready. False: not in time. */
static bool wait_for(int fd, short events, uint64_t until) {
    for (;;) {
        uint64_t now = ht_now_ms();
        struct pollfd p = {.fd = fd, .events = events};
        int n = poll(&p, 1, until > now ? (int)ht_min64(until - now, 60000) : 0);
        if (n > 0)
            return true;
        if ((n < 0 && errno != EINTR) || (n == 0 && ht_now_ms() >= until))
            return false;
    }
}

/* What a control message for that many descriptors needs. */
union control {
    char room[CMSG_SPACE(RESTART_LIMIT_MAX_SOCKETS * sizeof(int))];
    struct cmsghdr align;
};

int handoff_send(int fd, const struct restart_message *m, const int *fds, size_t n_fds, uint64_t wait_ms) {
    uint8_t text[RESTART_LIMIT_MAX_MESSAGE];
    union control control = {{0}};
    uint64_t until = ht_now_ms() + wait_ms;
    int n = wire_text_encode(&restart_spec, m, text, sizeof text);
    if (n < 0 || n_fds > RESTART_LIMIT_MAX_SOCKETS)
        return HT_EINVAL;
    struct iovec v = {text, (size_t)n};
    struct msghdr h = {.msg_iov = &v, .msg_iovlen = 1};
    if (n_fds) {
        h.msg_control = control.room;
        h.msg_controllen = CMSG_SPACE(n_fds * sizeof *fds);
        struct cmsghdr *c = CMSG_FIRSTHDR(&h);
        *c = (struct cmsghdr){
            .cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS, .cmsg_len = CMSG_LEN(n_fds * sizeof *fds)};
        memcpy(CMSG_DATA(c), fds, n_fds * sizeof *fds);
    }
    for (;;) {
        if (sendmsg(fd, &h, MSG_NOSIGNAL | MSG_DONTWAIT) >= 0)
            return HT_OK;
        if (errno == EINTR)
            continue;
        if (errno != EAGAIN && errno != EWOULDBLOCK && errno != ENOBUFS)
            return HT_ECLOSED;
        if (!wait_for(fd, POLLOUT, until))
            return HT_ETIMEDOUT;
    }
}

static void take_fds(struct msghdr *h, struct handoff_got *got) {
    for (struct cmsghdr *c = CMSG_FIRSTHDR(h); c; c = CMSG_NXTHDR(h, c)) {
        if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
            continue;
        size_t n = (c->cmsg_len - CMSG_LEN(0)) / sizeof got->fds[0];
        n = ht_min(n, HT_ARRAY_LEN(got->fds) - got->n_fds);
        memcpy(got->fds + got->n_fds, CMSG_DATA(c), n * sizeof got->fds[0]);
        got->n_fds += n;
    }
}

int handoff_receive(int fd, unsigned sender, struct handoff_got *got, uint64_t wait_ms) {
    union control control;
    uint64_t until = ht_now_ms() + wait_ms;
    got->n_fds = 0;
    for (;;) {
        struct iovec v = {got->text, sizeof got->text};
        struct msghdr h = {
            .msg_iov = &v, .msg_iovlen = 1, .msg_control = control.room, .msg_controllen = sizeof control.room};
        ssize_t n = recvmsg(fd, &h, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) {
            if (wait_ms == 0)
                return HT_EAGAIN;
            if (!wait_for(fd, POLLIN, until))
                return HT_ETIMEDOUT;
            continue;
        }
        if (n <= 0)
            return HT_ECLOSED;
        take_fds(&h, got);
        struct json_arena arena = {.p = got->arena, .cap = sizeof got->arena};
        bool whole = !(h.msg_flags & (MSG_TRUNC | MSG_CTRUNC));
        if (whole && wire_text_decode(&restart_spec, sender, got->text, (size_t)n, &arena, &got->m, NULL) == 0)
            return HT_OK;
        handoff_drop(got);
        return HT_EPROTO;
    }
}

void handoff_drop(struct handoff_got *got) {
    for (size_t i = 0; i < got->n_fds; i++)
        if (got->fds[i] >= 0)
            close(got->fds[i]);
    got->n_fds = 0;
}
