#include "relay/socks.h"

enum { NO_METHOD = 0xff, PLAIN = 0, PASSWORD = 2 };
enum { CONNECT = 1 };
enum { ADDR_V4 = 1, ADDR_NAME = 3, ADDR_V6 = 4 };

static void reply(struct relay_socks *s, uint8_t a, uint8_t b) {
    s->reply[0] = a;
    s->reply[1] = b;
    s->reply_len = 2;
}

static int bad(struct relay_socks *s, size_t n, const char *why) {
    s->step = SOCKS_BAD;
    s->why = why;
    return (int)n;
}

static int refuse(struct relay_socks *s, size_t n, enum relay_socks_code code, const char *why) {
    relay_socks_put(s->reply, code);
    s->reply_len = RELAY_SOCKS_REPLY;
    return bad(s, n, why);
}

void relay_socks_put(uint8_t out[RELAY_SOCKS_REPLY], enum relay_socks_code code) {
    memset(out, 0, RELAY_SOCKS_REPLY);
    out[0] = RELAY_SOCKS_VERSION;
    out[1] = (uint8_t)code;
    out[3] = ADDR_V4;
}

static int greeting(struct relay_socks *s, const uint8_t *p, size_t n) {
    if (p[0] != RELAY_SOCKS_VERSION)
        return bad(s, 1, "this is not SOCKS5");
    if (n < 2 || n < 2 + (size_t)p[1])
        return HT_EAGAIN;
    size_t taken = 2 + (size_t)p[1];
    bool plain = memchr(p + 2, PLAIN, p[1]) != NULL, password = memchr(p + 2, PASSWORD, p[1]) != NULL;
    if (!s->wants_token && plain) {
        s->step = SOCKS_REQUEST;
        reply(s, RELAY_SOCKS_VERSION, PLAIN);
    } else if (password) { /* where no token is wanted, any will do */
        s->step = SOCKS_PASSWORD;
        reply(s, RELAY_SOCKS_VERSION, PASSWORD);
    } else {
        s->no_token = s->wants_token;
        reply(s, RELAY_SOCKS_VERSION, NO_METHOD);
        return bad(s, taken, s->wants_token ? "there is no token" : "it offers no method that is known here");
    }
    return (int)taken;
}

static int password(struct relay_socks *s, const uint8_t *p, size_t n) {
    if (p[0] != 1)
        return bad(s, 1, "the name and password are not in the form of RFC 1929");
    if (n < 2 || n < 3 + (size_t)p[1])
        return HT_EAGAIN;
    size_t at = 2 + (size_t)p[1], taken = at + 1 + p[at];
    if (n < taken)
        return HT_EAGAIN;
    bool good = !s->wants_token || s->knows(s->ctx, ht_slice_of(p + at + 1, p[at]), &s->who);
    s->wrong_token = !good;
    reply(s, 1, !good);
    if (!good)
        return bad(s, taken, "the token is wrong");
    s->step = SOCKS_REQUEST;
    return (int)taken;
}

static int request(struct relay_socks *s, const uint8_t *p, size_t n) {
    if (p[0] != RELAY_SOCKS_VERSION)
        return bad(s, 1, "the request is not SOCKS5");
    if (n < 5)
        return HT_EAGAIN;
    size_t len = p[3] == ADDR_V4 ? 4 : p[3] == ADDR_V6 ? 16 : p[3] == ADDR_NAME ? (size_t)p[4] + 1 : 0;
    if (p[1] != CONNECT)
        return refuse(s, n, RELAY_SOCKS_COMMAND, "only CONNECT is served");
    if (len == 0 || p[2] != 0)
        return refuse(s, n, RELAY_SOCKS_ADDRESS, "the destination is of no kind that is known here");
    size_t taken = 4 + len + 2;
    if (n < taken)
        return HT_EAGAIN;
    uint16_t port = (uint16_t)(p[4 + len] << 8 | p[5 + len]);
    char text[IO_ADDR_TEXT];
    struct ht_slice host = ht_slice_of(p + 5, len - 1);
    if (p[3] != ADDR_NAME) {
        struct io_addr a = io_addr_of_bytes(p[3] == ADDR_V4 ? 4 : 6, p + 4, port);
        host = ht_slice_str(io_addr_host(&a, text));
    }
    const char *why;
    if (relay_dest_set(&s->dest, host, port, &why))
        return refuse(s, taken, RELAY_SOCKS_ADDRESS, why);
    s->step = SOCKS_DONE;
    return (int)taken;
}

int relay_socks_feed(struct relay_socks *s, const uint8_t *p, size_t n) {
    s->reply_len = 0;
    if (n == 0)
        return HT_EAGAIN;
    switch (s->step) {
    case SOCKS_GREETING:
        return greeting(s, p, n);
    case SOCKS_PASSWORD:
        return password(s, p, n);
    case SOCKS_REQUEST:
        return request(s, p, n);
    case SOCKS_DONE:
    case SOCKS_BAD:
        break;
    }
    return HT_EAGAIN;
}
