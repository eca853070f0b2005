#include "base/clock.h"
#include "relay/visitor_priv.h"

#include <arpa/inet.h>
#include <netinet/in.h>

int relay_pull_addr(struct ht_slice host, struct io_addr *out) {
    if (host.n == 0 || ht_slice_case_eq(host, ht_slice_str("localhost")))
        return io_addr_parse(out, "127.0.0.1", 0);
    char text[IO_ADDR_TEXT];
    if (host.n >= sizeof text)
        return HT_EINVAL;
    memcpy(text, host.p, host.n);
    text[host.n] = '\0';
    /* 127.0.0.0/8 and ::1 as they are; a v4-mapped address would be a second name for the same listener. */
    if (strlen(text) != host.n || io_addr_parse(out, text, 0))
        return HT_EINVAL;
    if (out->ss.ss_family == AF_INET6 && strchr(text, '.'))
        return HT_EINVAL;
    return io_addr_is_loopback(out) ? HT_OK : HT_EINVAL;
}

static bool is_wildcard(const struct io_addr *a) {
    if (a->ss.ss_family == AF_INET)
        return ((const struct sockaddr_in *)(const void *)&a->ss)->sin_addr.s_addr == htonl(INADDR_ANY);
    const struct in6_addr *v6 = &((const struct sockaddr_in6 *)(const void *)&a->ss)->sin6_addr;
    return IN6_IS_ADDR_UNSPECIFIED(v6);
}

bool relay_addr_overlap(const struct io_addr *a, const struct io_addr *b) {
    if (a->ss.ss_family != b->ss.ss_family)
        return false; /* listeners are IPV6_V6ONLY */
    if (is_wildcard(a) || is_wildcard(b))
        return true;
    char x[IO_ADDR_TEXT], y[IO_ADDR_TEXT];
    return strcmp(io_addr_host(a, x), io_addr_host(b, y)) == 0;
}

struct io_addr relay_addr_with_port(const struct io_addr *a, uint16_t port) {
    struct io_addr r = *a;
    if (r.ss.ss_family == AF_INET)
        ((struct sockaddr_in *)(void *)&r.ss)->sin_port = htons(port);
    else
        ((struct sockaddr_in6 *)(void *)&r.ss)->sin6_port = htons(port);
    return r;
}

bool relay_port_reserved(const struct relay_table *t, uint16_t port) {
    if (port < WIRE_LIMIT_RESERVED_BELOW)
        return true;
    for (size_t i = 0; i < t->cfg.n_reserved_ports; i++)
        if (t->reserved[i] == port)
            return true;
    return false;
}

/*
 * A port from the range of outgoing connections is lost to one of those when nobody listens there for a moment: while
 * the kit starts anew, say.
 */
uint16_t relay_random_port(const struct relay_table *t, bool outside) {
    const uint32_t min = WIRE_LIMIT_RANDOM_PORT_MIN, max = WIRE_LIMIT_RANDOM_PORT_MAX;
    uint32_t r, first = ht_max(t->cfg.outgoing_first, min), last = ht_min(t->cfg.outgoing_last, max);
    uint32_t hole = first <= last ? last - first + 1 : 0, all = max - min + 1;
    if (!outside || hole == all)
        hole = 0;
    ht_random_bytes(&r, sizeof r);
    uint32_t port = min + r % (all - hole);
    if (hole && port >= first)
        port += hole;
    return port;
}

int relay_public_url(const char *pattern, uint16_t port, char *out, size_t cap) {
    static const char hole[] = "{port}";
    struct ht_buf b = {0};
    int rc = HT_OK;
    while (rc == HT_OK && pattern && *pattern) {
        const char *at = strstr(pattern, hole);
        rc = ht_buf_append(&b, pattern, at ? (size_t)(at - pattern) : strlen(pattern));
        if (rc == HT_OK && at)
            rc = ht_buf_printf(&b, "%u", port);
        pattern = at ? at + sizeof hole - 1 : NULL;
    }
    if (rc == HT_OK && ht_buf_size(&b) >= cap)
        rc = HT_ESPACE;
    if (rc == HT_OK) {
        if (ht_buf_size(&b))
            memcpy(out, ht_buf_head(&b), ht_buf_size(&b));
        out[ht_buf_size(&b)] = '\0';
    }
    ht_buf_free(&b);
    return rc;
}
