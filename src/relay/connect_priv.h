/*
 * What the files of the CONNECT proxy share; nobody else includes it.
 *
 *   connect.c         the listener; a client, its head, CONNECT and SOCKS5, the dial
 *   connect_plain.c   clients that send requests with an absolute target instead
 *   socks.c           SOCKS5 by itself
 *   dest.c            destinations, and the policy about them
 *   splice.c          bytes between two connections
 */
#ifndef HT_RELAY_CONNECT_PRIV_H
#define HT_RELAY_CONNECT_PRIV_H

#include "io/crowd.h"
#include "relay/connect.h"
#include "relay/visitor_priv.h"

struct connect_plain;

struct relay_connect {
    struct relay_table *t;
    struct relay_connect_config cfg;
    struct io_listener *listener;
    struct io_addr addr;
    struct ht_list clients;
    unsigned n_clients, n_permits; /* those of connect_plain.c included */
    struct crowd heads;
    struct connect_plain *plain; /* NULL: nobody has come for it yet */
    bool draining;
};

/* Whether the value of Proxy-Authorization has the token; counts one that has not. `shown` empty: there is none. */
bool connect_knows(struct relay_connect *c, struct ht_slice shown);
/* Whether the policy lets this address of it be dialled; *denied, when it does not: why. */
bool connect_may_dial(const struct relay_connect *c, const struct relay_dest *dest, const struct io_addr *a,
                      const char **denied);
/* Somebody is gone who held so many permits. */
void connect_left(struct relay_connect *c, unsigned permits);

/* A connection to what a driver has registered by that name; NULL with *err. */
struct io_dial *connect_by_name(struct relay_connect *c, const struct relay_dest *dest, const struct io_dial_ops *ops,
                                void *ctx, struct ht_errmsg *err) HT_MUST_USE;

/* ---- connect_plain.c ---- */

#define CONNECT_PLAIN_PERMITS 2 /* the client's, and one for the service that its present request is for */

/*
 * Takes the connection of a client with what it has sent, from the head of its first request on, and
 * CONNECT_PLAIN_PERMITS permits; connect_left() follows. HT_ENOMEM: nothing was taken.
 */
int connect_plain_begin(struct relay_connect *c, struct io_conn **conn, const struct io_addr *peer,
                        struct ht_buf *said) HT_MUST_USE;
/* Whoever waits for a request goes. */
void connect_plain_drain(struct relay_connect *c);
void connect_plain_cut(struct relay_connect *c, const char *why);
void connect_plain_destroy(struct relay_connect *c);

/* For the visitor's code, at a port with a `proxy`. NULL: the request goes on. */
const struct visitor_answer *connect_plain_check(struct visitor_http *v, const struct http_head *h, const char *bytes);
/* What a RESET's word stands for there. */
const struct visitor_answer *connect_plain_answer(struct ht_slice word);

#endif
