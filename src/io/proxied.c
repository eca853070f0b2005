#include "io/proxied.h"

#include "base/mem.h"

#include <arpa/inet.h>
#include <stdio.h>

/* ---- version 1: a line ---- */

#define V1_MAX 107u
#define V1_BEGIN "PROXY "

/* The text up to the next space, or to the end: never empty. */
static bool next_part(const char **at, const char *end, char *out, size_t cap) {
    const char *space = memchr(*at, ' ', (size_t)(end - *at));
    size_t n = (size_t)((space ? space : end) - *at);
    if (n == 0 || n >= cap)
        return false;
    memcpy(out, *at, n);
    out[n] = '\0';
    *at = space ? space + 1 : end;
    return strlen(out) == n && (!space || *at < end);
}

static bool read_port(const char *text, uint16_t *out) {
    unsigned n = 0;
    size_t len = strspn(text, "0123456789");
    if (len == 0 || len > 5 || text[len] || (len > 1 && text[0] == '0'))
        return false;
    for (size_t i = 0; i < len; i++)
        n = n * 10 + (unsigned)(text[i] - '0');
    *out = (uint16_t)n;
    return n <= UINT16_MAX;
}

/* p[0..n) is the line without its CRLF. */
static const char *read_line(struct io_proxied *out, const char *p, size_t n) {
    char family[8], from[INET6_ADDRSTRLEN], to[INET6_ADDRSTRLEN], ports[2][8];
    uint16_t port[2];
    const char *at = p + sizeof V1_BEGIN - 1, *end = p + n;
    struct io_addr dest;
    if (end - at >= 7 && memcmp(at, "UNKNOWN", 7) == 0 && (end - at == 7 || at[7] == ' '))
        return NULL; /* what follows is to be ignored */
    if (!next_part(&at, end, family, sizeof family) || !next_part(&at, end, from, sizeof from) ||
        !next_part(&at, end, to, sizeof to) || !next_part(&at, end, ports[0], sizeof ports[0]) ||
        !next_part(&at, end, ports[1], sizeof ports[1]) || at != end)
        return "a PROXY line has a family, two addresses and two ports";
    bool v4 = strcmp(family, "TCP4") == 0;
    if (!v4 && strcmp(family, "TCP6") != 0)
        return "the family of a PROXY line is TCP4, TCP6 or UNKNOWN";
    if (!read_port(ports[0], &port[0]) || !read_port(ports[1], &port[1]))
        return "a port of a PROXY line is a number up to 65535";
    if (io_addr_parse(&out->from, from, port[0]) || io_addr_parse(&dest, to, port[1]) ||
        out->from.ss.ss_family != (v4 ? AF_INET : AF_INET6) || dest.ss.ss_family != (v4 ? AF_INET : AF_INET6))
        return "an address of a PROXY line is not of its family";
    out->known = true;
    return NULL;
}

static ssize_t parse_line(struct io_proxied *out, const uint8_t *p, size_t n, const char **why) {
    size_t most = n < V1_MAX ? n : V1_MAX;
    for (size_t i = 0; i < most; i++) {
        if (p[i] == '\n' && i > 0 && p[i - 1] == '\r') {
            *why = read_line(out, (const char *)p, i - 1);
            return *why ? HT_EPROTO : (ssize_t)i + 1;
        }
        if ((p[i] < ' ' && p[i] != '\r') || p[i] > '~' || (i > 0 && p[i - 1] == '\r')) {
            *why = "a PROXY line is printable and ends with CRLF";
            return HT_EPROTO;
        }
    }
    *why = "a PROXY line has at most 107 bytes";
    out->wants = n; /* no end yet: all of it is the line's */
    return n >= V1_MAX ? HT_EPROTO : HT_EAGAIN;
}

/* ---- version 2: bytes ---- */

static const uint8_t signature[12] = {0x0d, 0x0a, 0x0d, 0x0a, 0x00, 0x0d, 0x0a, 0x51, 0x55, 0x49, 0x54, 0x0a};

enum { V2_HEAD = 16, V2_LOCAL = 0x20, V2_PROXY = 0x21, V2_UNSPEC = 0x00, V2_TCP4 = 0x11, V2_TCP6 = 0x21 };

static uint16_t u16(const uint8_t *p) { return (uint16_t)(p[0] << 8 | p[1]); }

/* What follows the addresses: type, length, value, over and over. */
static bool values_whole(const uint8_t *p, size_t n) {
    while (n >= 3 && n - 3 >= u16(p + 1)) {
        size_t one = 3u + u16(p + 1);
        p += one;
        n -= one;
    }
    return n == 0;
}

static ssize_t parse_bytes(struct io_proxied *out, const uint8_t *p, size_t n, const char **why) {
    out->wants = V2_HEAD;
    if (n < V2_HEAD)
        return HT_EAGAIN;
    size_t len = u16(p + 14), addresses = p[13] == V2_TCP4 ? 12 : p[13] == V2_TCP6 ? 36 : 0;
    *why = NULL;
    if (p[12] != V2_LOCAL && p[12] != V2_PROXY)
        *why = "a PROXY header of version 2 is LOCAL or PROXY";
    else if (V2_HEAD + len > IO_PROXIED_MAX)
        *why = "a PROXY header is too long";
    else if (p[12] == V2_PROXY && p[13] != V2_TCP4 && p[13] != V2_TCP6 && p[13] != V2_UNSPEC)
        *why = "a PROXY header is for TCP over IPv4 or IPv6";
    else if (p[12] == V2_PROXY && len < addresses)
        *why = "the addresses of a PROXY header are cut off";
    if (*why)
        return HT_EPROTO;
    out->wants = V2_HEAD + len;
    if (n < out->wants)
        return HT_EAGAIN;
    const uint8_t *body = p + V2_HEAD;
    if (p[12] == V2_LOCAL || p[13] == V2_UNSPEC)
        return (ssize_t)out->wants;
    if (!values_whole(body + addresses, len - addresses)) {
        *why = "what follows the addresses of a PROXY header is cut off";
        return HT_EPROTO;
    }
    bool v4 = p[13] == V2_TCP4;
    out->from = io_addr_of_bytes(v4 ? 4 : 6, body, u16(body + (v4 ? 8 : 32)));
    out->known = true;
    return (ssize_t)out->wants;
}

ssize_t io_proxied_parse(struct io_proxied *out, const uint8_t *p, size_t n, const char **why) {
    static const char line[] = V1_BEGIN;
    *out = (struct io_proxied){.known = false};
    size_t v1 = n < sizeof line - 1 ? n : sizeof line - 1, v2 = n < sizeof signature ? n : sizeof signature;
    *why = "it does not begin with a PROXY header";
    if (memcmp(p, signature, v2) == 0 && n > 0)
        return parse_bytes(out, p, n, why);
    if (memcmp(p, line, v1) != 0 || n == 0)
        return n ? HT_EPROTO : HT_EAGAIN;
    if (n >= sizeof line - 1)
        return parse_line(out, p, n, why);
    out->wants = n;
    return HT_EAGAIN;
}

/* ---- reading it ---- */

struct io_proxied_reader {
    struct io_conn *c;
    const struct io_proxied_ops *ops;
    void *ctx;
    struct io_addr peer;
    struct io_timer timer;
    size_t n;
    uint8_t said[IO_PROXIED_MAX];
};

void io_proxied_cancel(struct io_proxied_reader **rp) {
    struct io_proxied_reader *r = *rp;
    if (!r)
        return;
    *rp = NULL;
    io_timer_stop(&r->timer);
    io_conn_abort(&r->c);
    ht_free(r);
}

static void fail(struct io_proxied_reader *r, const char *why) {
    const struct io_proxied_ops *ops = r->ops;
    void *ctx = r->ctx;
    io_proxied_cancel(&r);
    ops->failed(ctx, why);
}

static void succeed(struct io_proxied_reader *r, const struct io_proxied *said) {
    const struct io_proxied_ops *ops = r->ops;
    void *ctx = r->ctx;
    struct io_conn *c = r->c;
    struct io_addr from = said->known ? said->from : r->peer;
    r->c = NULL;
    io_conn_read_on(c, false);
    io_proxied_cancel(&r);
    ops->told(ctx, c, &from);
}

/* What is behind the header stays on the connection: it may be for TLS. So it is looked at first, and no more is taken
 * than is the header's for sure. */
static void readable(void *ctx) {
    struct io_proxied_reader *r = ctx;
    struct io_proxied said;
    const char *why;
    ssize_t n = io_conn_peek_bytes(r->c, r->said + r->n, sizeof r->said - r->n);
    if (n == HT_EAGAIN)
        return;
    if (n <= 0) {
        fail(r, n == HT_EOF ? "it ended in its PROXY header" : ht_err_text((int)n));
        return;
    }
    ssize_t rc = io_proxied_parse(&said, r->said, r->n + (size_t)n, &why);
    if (rc == HT_EPROTO) {
        fail(r, why);
        return;
    }
    size_t whole = rc > 0 ? (size_t)rc : said.wants;
    size_t take = whole - r->n < (size_t)n ? whole - r->n : (size_t)n;
    n = take ? io_conn_read(r->c, r->said + r->n, take) : 0;
    if (n < 0) {
        fail(r, ht_err_text((int)n));
        return;
    }
    r->n += (size_t)n;
    if (rc > 0 && r->n == (size_t)rc)
        succeed(r, &said);
}

static void timed_out(struct io_timer *t) {
    fail(ht_container_of(t, struct io_proxied_reader, timer), "its PROXY header did not come in time");
}

struct io_proxied_reader *io_proxied_start(struct io_loop *loop, struct io_conn *c, const struct io_addr *peer,
                                           uint64_t timeout_ms, const struct io_proxied_ops *ops, void *ctx) {
    static const struct io_conn_ops conn_ops = {.readable = readable};
    struct io_proxied_reader *r = ht_calloc(1, sizeof *r);
    if (!r) {
        io_conn_abort(&c);
        return NULL;
    }
    r->c = c;
    r->ops = ops;
    r->ctx = ctx;
    r->peer = *peer;
    io_timer_init(loop, &r->timer, timed_out);
    io_timer_set(&r->timer, timeout_ms);
    io_conn_set_ops(c, &conn_ops, r);
    io_conn_read_on(c, true);
    return r;
}
