/*
 * The kit's CONNECT proxy: who connects to its listener names a destination, and is led there by a connection of the
 * kit's own, as far as the policy allows it (dest.h).
 */
#ifndef HT_RELAY_CONNECT_H
#define HT_RELAY_CONNECT_H

#include "relay/dest.h"
#include "relay/kit.h"

#define RELAY_CONNECT_HEADS 256 /* clients that have not said where to yet; one more, and one gives way */

struct relay_connect;

/* What has become of a client, or of one of its requests for an http:// URL. All of it is good during the call. */
struct relay_connect_told {
    struct ht_slice peer;
    const char *target;  /* host:port; "": it said none that can be read */
    const char *session; /* whose driver has connected; NULL: nobody's, the kit did it itself */
    uint16_t status;     /* what it was told, as HTTP has it; 0: nothing */
    const char *why;     /* it was refused, or did not get there; NULL: it did */
};

struct relay_connect_config {
    struct io_addr addr;
    struct relay_policy policy; /* its rules are borrowed; the listener's own port is added here */
    uint64_t dial_timeout_ms;
    uint64_t idle_timeout_ms;                                /* of a connection that stands; 0: for ever */
    bool wants_token;                                        /* as Proxy-Authorization */
    bool (*token_matches)(void *ctx, struct ht_slice token); /* in constant time */
    bool (*may_come)(void *ctx, const struct io_addr *peer);
    void (*told)(void *ctx, const struct relay_connect_told *told); /* may be NULL */
    void (*left)(void *ctx); /* a client is gone; not from inside a call of these below */
    void *ctx;
};

/*
 * Opens the listener. Its connections take permits of the table's, at most half of them. 0, or an error with *err as
 * io_listen() has it. The table outlives it.
 */
int relay_connect_open(struct relay_table *t, const struct relay_connect_config *cfg, struct relay_connect **out,
                       struct ht_errmsg *err) HT_MUST_USE;
/* Cuts everybody. Clears the pointer. NULL is ignored. */
void relay_connect_close(struct relay_connect **c);
/* New clients are told 503; who has said nothing yet goes. */
void relay_connect_drain(struct relay_connect *c);
/* The clients go, the listener stays. */
void relay_connect_cut(struct relay_connect *c, const char *why);
unsigned relay_connect_clients(const struct relay_connect *c);
void relay_connect_addr(const struct relay_connect *c, struct io_addr *out);

#endif
