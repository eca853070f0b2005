#include "io/io.h"

#include <arpa/inet.h>
#include <dirent.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <unistd.h>

int io_addr_parse(struct io_addr *a, const char *host, uint16_t port) {
    *a = (struct io_addr){0};
    struct sockaddr_in v4 = {.sin_family = AF_INET, .sin_port = htons(port)};
    struct sockaddr_in6 v6 = {.sin6_family = AF_INET6, .sin6_port = htons(port)};
    if (inet_pton(AF_INET, host, &v4.sin_addr) == 1) {
        memcpy(&a->ss, &v4, sizeof v4);
        a->len = sizeof v4;
    } else if (inet_pton(AF_INET6, host, &v6.sin6_addr) == 1) {
        memcpy(&a->ss, &v6, sizeof v6);
        a->len = sizeof v6;
    } else {
        return HT_EINVAL;
    }
    return HT_OK;
}

static int parse_port(const char *s, uint16_t *port) {
    uint32_t v = 0;
    if (!*s)
        return HT_EINVAL;
    for (; *s; s++) {
        if (*s < '0' || *s > '9' || (v = v * 10 + (uint32_t)(*s - '0')) > 65535)
            return HT_EINVAL;
    }
    *port = (uint16_t)v;
    return HT_OK;
}

int io_addr_parse_hostport(struct io_addr *a, const char *text, struct ht_errmsg *err) {
    const char *colon = strrchr(text, ':');
    uint16_t port;
    if (!colon || parse_port(colon + 1, &port) != HT_OK)
        return ht_fail(err, HT_EINVAL, "\"%s\" is no address: a port from 0 to 65535 must follow the last colon", text);
    char host[INET6_ADDRSTRLEN + 2];
    size_t n = (size_t)(colon - text);
    if (n >= sizeof host)
        return ht_fail(err, HT_EINVAL, "\"%s\" is no address: the part before the port is too long", text);
    memcpy(host, text, n);
    host[n] = '\0';
    const char *bare = host;
    bool bracketed = n >= 2 && host[0] == '[' && host[n - 1] == ']';
    if (bracketed) {
        host[n - 1] = '\0';
        bare = host + 1;
    } else if (n == 0 || ht_slice_case_eq(ht_slice_str(host), ht_slice_str("localhost"))) {
        bare = "127.0.0.1";
    }
    if (bracketed != (strchr(bare, ':') != NULL) || io_addr_parse(a, bare, port) != HT_OK)
        return ht_fail(err, HT_EINVAL, "\"%s\" is no address: write 127.0.0.1:50, [::1]:50 or :50", text);
    return HT_OK;
}

bool io_host_is_localhost(struct ht_slice host) {
    static const char name[] = "localhost";
    size_t n = sizeof name - 1;
    return host.n >= n && ht_slice_case_eq(ht_slice_of(host.p + host.n - n, n), ht_slice_of(name, n)) &&
           (host.n == n || host.p[host.n - n - 1] == '.');
}

/* The IPv4 address inside, network order; false when there is none. */
static bool as_v4(const struct io_addr *a, struct in_addr *out) {
    if (a->ss.ss_family == AF_INET) {
        struct sockaddr_in v4;
        memcpy(&v4, &a->ss, sizeof v4);
        *out = v4.sin_addr;
        return true;
    }
    struct sockaddr_in6 v6;
    memcpy(&v6, &a->ss, sizeof v6);
    if (a->ss.ss_family != AF_INET6 || !IN6_IS_ADDR_V4MAPPED(&v6.sin6_addr))
        return false;
    memcpy(out, v6.sin6_addr.s6_addr + 12, 4);
    return true;
}

char *io_addr_host(const struct io_addr *a, char out[IO_ADDR_TEXT]) {
    struct in_addr v4;
    struct sockaddr_in6 v6;
    if (as_v4(a, &v4)) {
        inet_ntop(AF_INET, &v4, out, IO_ADDR_TEXT);
    } else if (a->ss.ss_family == AF_INET6) {
        memcpy(&v6, &a->ss, sizeof v6);
        inet_ntop(AF_INET6, &v6.sin6_addr, out, IO_ADDR_TEXT);
    } else {
        memcpy(out, "local", sizeof "local"); /* a socket pair or a Unix socket has no address to show */
    }
    return out;
}

char *io_addr_text(const struct io_addr *a, char out[IO_ADDR_TEXT]) {
    char host[IO_ADDR_TEXT];
    io_addr_host(a, host);
    if (a->ss.ss_family != AF_INET && a->ss.ss_family != AF_INET6)
        return memcpy(out, host, IO_ADDR_TEXT);
    snprintf(out, IO_ADDR_TEXT, strchr(host, ':') ? "[%.46s]:%u" : "%.46s:%u", host, (unsigned)io_addr_port(a));
    return out;
}

uint16_t io_addr_port(const struct io_addr *a) {
    struct sockaddr_in v4;
    struct sockaddr_in6 v6;
    switch (a->ss.ss_family) {
    case AF_INET:
        memcpy(&v4, &a->ss, sizeof v4);
        return ntohs(v4.sin_port);
    case AF_INET6:
        memcpy(&v6, &a->ss, sizeof v6);
        return ntohs(v6.sin6_port);
    default:
        return 0;
    }
}

bool io_addr_is_loopback(const struct io_addr *a) {
    struct in_addr v4;
    if (as_v4(a, &v4))
        return ntohl(v4.s_addr) >> 24 == 127;
    struct sockaddr_in6 v6;
    memcpy(&v6, &a->ss, sizeof v6);
    return a->ss.ss_family == AF_INET6 && IN6_IS_ADDR_LOOPBACK(&v6.sin6_addr);
}

int io_addr_bytes(const struct io_addr *a, uint8_t out[16]) {
    struct sockaddr_in v4;
    struct sockaddr_in6 v6;
    switch (a->ss.ss_family) {
    case AF_INET:
        memcpy(&v4, &a->ss, sizeof v4);
        memcpy(out, &v4.sin_addr, 4);
        return 4;
    case AF_INET6:
        memcpy(&v6, &a->ss, sizeof v6);
        memcpy(out, &v6.sin6_addr, 16);
        return 6;
    default:
        return 0;
    }
}

struct io_addr io_addr_of_bytes(int family, const uint8_t *bytes, uint16_t port) {
    struct io_addr a = {.len = 0};
    struct sockaddr_in v4 = {.sin_family = AF_INET, .sin_port = htons(port)};
    struct sockaddr_in6 v6 = {.sin6_family = AF_INET6, .sin6_port = htons(port)};
    if (family == 4) {
        memcpy(&v4.sin_addr, bytes, 4);
        memcpy(&a.ss, &v4, sizeof v4);
        a.len = sizeof v4;
    } else {
        memcpy(&v6.sin6_addr, bytes, 16);
        memcpy(&a.ss, &v6, sizeof v6);
        a.len = sizeof v6;
    }
    return a;
}

bool io_addr_same(const struct io_addr *a, const struct io_addr *b) {
    struct sockaddr_in x4, y4;
    struct sockaddr_in6 x6, y6;
    if (a->ss.ss_family != b->ss.ss_family || io_addr_port(a) != io_addr_port(b))
        return false;
    switch (a->ss.ss_family) {
    case AF_INET:
        memcpy(&x4, &a->ss, sizeof x4);
        memcpy(&y4, &b->ss, sizeof y4);
        return x4.sin_addr.s_addr == y4.sin_addr.s_addr;
    case AF_INET6:
        memcpy(&x6, &a->ss, sizeof x6);
        memcpy(&y6, &b->ss, sizeof y6);
        return IN6_ARE_ADDR_EQUAL(&x6.sin6_addr, &y6.sin6_addr) && x6.sin6_scope_id == y6.sin6_scope_id;
    default:
        return false;
    }
}

/* A link-local address is one of an interface: two of them may well have the same. */
static void keep_scope(struct io_addr *to, const struct io_addr *from) {
    struct sockaddr_in6 v6, was;
    memcpy(&v6, &to->ss, sizeof v6);
    memcpy(&was, &from->ss, sizeof was);
    v6.sin6_scope_id = was.sin6_scope_id;
    memcpy(&to->ss, &v6, sizeof v6);
}

/* Only an own address can be bound to. The interfaces could be listed too, but not from inside a sandbox. */
bool io_addr_is_own(const struct io_addr *a) {
    uint8_t bytes[16];
    int family = io_addr_bytes(a, bytes);
    struct io_addr any_port = io_addr_of_bytes(family, bytes, 0);
    if (family == 6)
        keep_scope(&any_port, a);
    int fd = family ? socket(a->ss.ss_family, SOCK_DGRAM | SOCK_CLOEXEC, 0) : -1;
    if (fd < 0)
        return false;
    bool own = bind(fd, (const struct sockaddr *)&any_port.ss, any_port.len) == 0;
    close(fd);
    return own;
}

void io_addr_source(const struct io_addr *a, uint8_t out[IO_SOURCE_LEN]) {
    struct in_addr v4;
    struct sockaddr_in6 v6;
    memset(out, 0, IO_SOURCE_LEN);
    if (as_v4(a, &v4)) {
        memcpy(out + 4, &v4, 4); /* no /64 that anybody has begins with 32 zeros */
    } else if (a->ss.ss_family == AF_INET6) {
        memcpy(&v6, &a->ss, sizeof v6);
        memcpy(out, v6.sin6_addr.s6_addr, IO_SOURCE_LEN);
    }
}

/* ---- descriptors ---- */

int io_count_fds(void) {
    DIR *d = opendir("/proc/self/fd");
    if (!d)
        return -1;
    int n = 0;
    for (struct dirent *e; (e = readdir(d));)
        n += e->d_name[0] != '.';
    closedir(d);
    return n - 1; /* the directory's own */
}

unsigned io_raise_fd_limit(void) {
    struct rlimit lim;
    if (getrlimit(RLIMIT_NOFILE, &lim) != 0)
        return 0;
    rlim_t had = lim.rlim_cur;
    lim.rlim_cur = lim.rlim_max;
    if (setrlimit(RLIMIT_NOFILE, &lim) != 0)
        lim.rlim_cur = had;
    return lim.rlim_cur > UINT32_MAX ? UINT32_MAX : (unsigned)lim.rlim_cur;
}
