/*
 * SOCKS5 as its server reads it (RFC 1928, RFC 1929): CONNECT and nothing else. Pure: bytes in, a destination and
 * replies out.
 */
#ifndef HT_RELAY_SOCKS_H
#define HT_RELAY_SOCKS_H

#include "relay/dest.h"

#define RELAY_SOCKS_VERSION 5 /* the first byte a client says */
#define RELAY_SOCKS_REPLY 10

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

/* Zero-initialised with the first three is the start of one. */
struct relay_socks {
    bool wants_token;
    bool (*token_matches)(void *ctx, struct ht_slice token);
    void *ctx;
    enum { SOCKS_GREETING, SOCKS_PASSWORD, SOCKS_REQUEST, SOCKS_DONE, SOCKS_BAD } step;
    bool wrong_token, no_token;
    const char *why;                  /* SOCKS_BAD: for the log; static */
    uint8_t reply[RELAY_SOCKS_REPLY]; /* to the step that was taken */
    size_t reply_len;                 /* 0: none, yet */
    struct relay_dest dest;           /* SOCKS_DONE */
};

/*
 * Looks at p[0..n) for the present step. Returns how many bytes it took, > 0, and there is another step; HT_EAGAIN:
 * more is needed. s->reply is to be sent in any case, at SOCKS_BAD before the end; at SOCKS_DONE it is the caller's to
 * make.
 */
int relay_socks_feed(struct relay_socks *s, const uint8_t *p, size_t n);

/* The reply to a request, RELAY_SOCKS_REPLY bytes. No address of ours is told. */
void relay_socks_put(uint8_t out[RELAY_SOCKS_REPLY], enum relay_socks_code code);

#endif
