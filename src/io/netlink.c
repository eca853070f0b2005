/*
 * Changes of the machine's network, as Linux tells them over rtnetlink(7). Only this file knows netlink. A program
 * needs no rights to listen, but a sandbox may refuse it.
 */
#include "base/mem.h"
#include "io/io_priv.h"

#include <errno.h>
#include <linux/if.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <netinet/in.h>
#include <stddef.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define READS 32         /* most messages of one turn */
#define SETTLE_LOOKS 64  /* most messages that matter and are skipped when it has settled */
#define ROOM (64 * 1024) /* of the socket: what does not fit is lost, which counts as a change */
#define NEWS_MAX 16384   /* of a longer one only the beginning is looked at */
#define LINK_LOCAL_V6 0xfe80u

struct io_network {
    struct io_loop *loop;
    ev_io io;
    struct io_timer settle; /* runs: a change was seen, and more may follow */
    void (*changed)(void *ctx);
    void *ctx;
};

/* ---- what a message says ---- */

struct cursor {
    const uint8_t *p;
    size_t n;
};

/* With the padding that netlink puts behind everything. (NLMSG_ALIGN counts with 32 bits.) */
static size_t padded(size_t n) { return (n + 3) & ~(size_t)3; }

static void skip(struct cursor *c, size_t n) {
    n = ht_min(padded(n), c->n);
    c->p += n;
    c->n -= n;
}

/* Takes a structure off the front. */
static bool take(struct cursor *c, void *to, size_t size) {
    if (c->n < size)
        return false;
    memcpy(to, c->p, size);
    skip(c, size);
    return true;
}

/* The value of the attribute `type`. False: the message has none, or ends before it. */
static bool find_attribute(struct cursor c, unsigned type, struct cursor *value) {
    struct rtattr a;
    for (struct cursor at = c; take(&at, &a, sizeof a); at = c) {
        if (a.rta_len < sizeof a || a.rta_len > c.n)
            return false;
        if ((a.rta_type & NLA_TYPE_MASK) == type) {
            *value = (struct cursor){c.p + sizeof a, a.rta_len - sizeof a};
            return true;
        }
        skip(&c, a.rta_len);
    }
    return false;
}

/* What a wireless driver says about itself, and what a bridge says about its ports, changes no way. */
static bool link_matters(struct cursor c) {
    struct ifinfomsg link;
    struct cursor wireless;
    return take(&c, &link, sizeof link) && link.ifi_family == AF_UNSPEC && !(link.ifi_flags & IFF_LOOPBACK) &&
           !find_attribute(c, IFLA_WIRELESS, &wireless);
}

static bool is_link_local(unsigned family, struct cursor c, unsigned attribute) {
    struct cursor v;
    return family == AF_INET6 && find_attribute(c, attribute, &v) && v.n >= 2 &&
           ((unsigned)v.p[0] << 8 | (v.p[1] & 0xc0u)) == LINK_LOCAL_V6;
}

/* Every interface that comes up gets a link-local address, and a route for it, which lead to no kit. One that goes away
 * may have been somebody's. */
static bool address_matters(struct cursor c, bool gone) {
    struct ifaddrmsg address;
    return take(&c, &address, sizeof address) && address.ifa_scope != RT_SCOPE_HOST &&
           (gone || !is_link_local(address.ifa_family, c, IFA_ADDRESS));
}

/* Routes of a kind that comes with every address are left to the address. */
static bool route_matters(struct cursor c) {
    struct rtmsg route;
    return take(&c, &route, sizeof route) && !(route.rtm_flags & RTM_F_CLONED) && route.rtm_type != RTN_LOCAL &&
           route.rtm_type != RTN_BROADCAST && route.rtm_type != RTN_MULTICAST && route.rtm_type != RTN_ANYCAST &&
           !is_link_local(route.rtm_family, c, RTA_DST);
}

static bool message_matters(unsigned type, struct cursor c) {
    switch (type) {
    case RTM_NEWLINK:
    case RTM_DELLINK:
        return link_matters(c);
    case RTM_NEWADDR:
    case RTM_DELADDR:
        return address_matters(c, type == RTM_DELADDR);
    case RTM_NEWROUTE:
    case RTM_DELROUTE:
        return route_matters(c);
    case RTM_NEWRULE: /* such as those of a VPN */
    case RTM_DELRULE:
        return true;
    default:
        return false;
    }
}

bool io_network_matters(const void *p, size_t n) {
    struct cursor c = {p, n};
    struct nlmsghdr head;
    for (struct cursor at = c; take(&at, &head, sizeof head); at = c) {
        if (head.nlmsg_len < sizeof head)
            return false;
        at.n = ht_min(at.n, head.nlmsg_len - sizeof head);
        if (message_matters(head.nlmsg_type, at))
            return true;
        skip(&c, head.nlmsg_len);
    }
    return false;
}

/* ---- the socket ---- */

/* The next message that matters. 1: there is one, or some were lost; 0: none is left; HT_EAGAIN: perhaps more. */
static int look(struct io_network *n) {
    uint8_t message[NEWS_MAX];
    for (int i = 0; i < READS; i++) {
        struct sockaddr_nl from = {.nl_pid = 1};
        socklen_t len = sizeof from;
        ssize_t got = recvfrom(n->io.fd, message, sizeof message, 0, (struct sockaddr *)&from, &len);
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            return errno == ENOBUFS;
        if (from.nl_pid == 0 && io_network_matters(message, (size_t)got)) /* 0: the kernel */
            return 1;
    }
    return HT_EAGAIN;
}

static void on_message(struct ev_loop *ev, ev_io *io, int events) {
    (void)ev, (void)events;
    struct io_network *n = ht_container_of(io, struct io_network, io);
    if (look(n) != 1)
        return;
    /* Not watched meanwhile: a machine where routes change all the time costs a look at each end of this time. */
    io_unwatch(n->loop, io);
    io_timer_set(&n->settle, IO_NETWORK_SETTLE_MS);
}

static void settled(struct io_timer *timer) {
    struct io_network *n = ht_container_of(timer, struct io_network, settle);
    for (int i = 0; i < SETTLE_LOOKS && look(n) == 1; i++)
        continue;
    io_watch(n->loop, &n->io);
    n->changed(n->ctx);
}

static int open_socket(struct ht_errmsg *err) {
    const struct sockaddr_nl to = {.nl_family = AF_NETLINK,
                                   .nl_groups = RTMGRP_LINK | RTMGRP_IPV4_IFADDR | RTMGRP_IPV6_IFADDR |
                                                RTMGRP_IPV4_ROUTE | RTMGRP_IPV6_ROUTE | RTMGRP_IPV4_RULE |
                                                1u << (RTNLGRP_IPV6_RULE - 1)};
    const int room = ROOM;
    int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_NONBLOCK | SOCK_CLOEXEC, NETLINK_ROUTE);
    if (fd < 0)
        return ht_fail(err, HT_EIO, "the system does not tell of changes of its network: %s", strerror(errno));
    (void)setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &room, sizeof room);
    if (bind(fd, (const struct sockaddr *)&to, sizeof to) == 0)
        return fd;
    int why = errno;
    close(fd);
    return ht_fail(err, HT_EIO, "the system does not tell of changes of its network: %s", strerror(why));
}

struct io_network *io_network_watch(struct io_loop *loop, void (*changed)(void *ctx), void *ctx,
                                    struct ht_errmsg *err) {
    int fd = open_socket(err);
    struct io_network *n = fd < 0 ? NULL : ht_calloc(1, sizeof *n);
    if (!n) {
        if (fd >= 0) {
            close(fd);
            (void)ht_fail(err, HT_ENOMEM, "out of memory");
        }
        return NULL;
    }
    n->loop = loop;
    n->changed = changed;
    n->ctx = ctx;
    io_timer_init(loop, &n->settle, settled);
    ev_io_init(&n->io, on_message, fd, EV_READ);
    io_watch(loop, &n->io);
    return n;
}

void io_network_stop(struct io_network **np) {
    struct io_network *n = *np;
    if (!n)
        return;
    *np = NULL;
    io_timer_stop(&n->settle);
    io_unwatch(n->loop, &n->io);
    close(n->io.fd);
    ht_free(n);
}

/* ---- ways ---- */

static void clear_port(struct io_addr *a) {
    _Static_assert(offsetof(struct sockaddr_in, sin_port) == offsetof(struct sockaddr_in6, sin6_port), "one place");
    memset((uint8_t *)&a->ss + offsetof(struct sockaddr_in, sin_port), 0, sizeof(in_port_t));
}

static bool is_ip(const struct io_addr *a) { return a->ss.ss_family == AF_INET || a->ss.ss_family == AF_INET6; }

/* A datagram socket that is connected has been given an address. */
bool io_addr_way(const struct io_addr *to, struct io_addr *from) {
    int fd = is_ip(to) ? socket(to->ss.ss_family, SOCK_DGRAM | SOCK_CLOEXEC, 0) : -1;
    *from = (struct io_addr){.len = sizeof from->ss};
    bool found = fd >= 0 && connect(fd, (const struct sockaddr *)&to->ss, to->len) == 0 &&
                 getsockname(fd, (struct sockaddr *)&from->ss, &from->len) == 0;
    if (fd >= 0)
        close(fd);
    if (found)
        clear_port(from);
    else
        *from = (struct io_addr){.len = 0};
    return found;
}

/* Only an own address can be bound to. Any other failure says nothing about the address. */
static bool is_gone(struct io_addr a) {
    clear_port(&a);
    int fd = is_ip(&a) ? socket(a.ss.ss_family, SOCK_DGRAM | SOCK_CLOEXEC, 0) : -1;
    bool gone = fd >= 0 && bind(fd, (const struct sockaddr *)&a.ss, a.len) != 0 && errno == EADDRNOTAVAIL;
    if (fd >= 0)
        close(fd);
    return gone;
}

bool io_conn_is_stranded(struct io_conn *c) {
    struct io_addr here, there, from;
    io_conn_local(c, &here);
    io_conn_peer(c, &there);
    return is_gone(here) && io_addr_way(&there, &from);
}
