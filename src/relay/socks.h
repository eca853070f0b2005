/*
 * The server side of SOCKS5 (RFC 1928, RFC 1929), with the command CONNECT only. Pure: bytes go in, a destination and
 * replies come out.
 */
#ifndef HT_RELAY_SOCKS_H
#define HT_RELAY_SOCKS_H

#include "relay/connect.h"
#include "relay/dest.h"

#define RELAY_SOCKS_VERSION 5 /* the first byte that a client sends */
#define RELAY_SOCKS_REPLY 10  /* bytes of the longest reply */

enum relay_socks_code { /* RFC 1928 6 */
                        RELAY_SOCKS_GOOD = 0,
                        RELAY_SOCKS_FAILED = 1,
                        RELAY_SOCKS_DENIED = 2,
                        RELAY_SOCKS_UNREACHABLE = 4,
                        RELAY_SOCKS_REFUSED = 5,
                        RELAY_SOCKS_TIMEOUT = 6,
                        RELAY_SOCKS_COMMAND = 7,
                        RELAY_SOCKS_ADDRESS = 8,
};

/* The caller zero-initialises it and sets the first three fields. */
struct relay_socks {
    bool wants_token;
    bool (*knows)(void *ctx, struct ht_slice token, struct relay_known *out);
    void *ctx;
    struct relay_known who; /* SOCKS_DONE, if a token was wanted */
    enum { SOCKS_GREETING, SOCKS_PASSWORD, SOCKS_REQUEST, SOCKS_DONE, SOCKS_BAD } step;
    bool wrong_token, no_token;
    const char *why;                  /* SOCKS_BAD: the reason, for the log; static storage */
    uint8_t reply[RELAY_SOCKS_REPLY]; /* the reply to the last step */
    size_t reply_len;                 /* 0: no reply */
    struct relay_dest dest;           /* SOCKS_DONE: the destination */
};

/*
 * Reads the present step from p[0..n). Returns how many bytes it used (> 0), and s->step is the next step. HT_EAGAIN:
 * the step needs more bytes. In both cases the caller sends s->reply. At SOCKS_BAD it then closes the connection. At
 * SOCKS_DONE it connects, and makes the reply itself with relay_socks_put().
 */
int relay_socks_feed(struct relay_socks *s, const uint8_t *p, size_t n);

/* Writes the reply to a request. It has no address of this machine. */
void relay_socks_put(uint8_t out[RELAY_SOCKS_REPLY], enum relay_socks_code code);

#endif
