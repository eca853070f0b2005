/*
 * The kit's CONNECT proxy. A client connects to its listener and names a destination. A driver that has registered the
 * name connects to it; otherwise the kit itself does, if the policy allows it (dest.h).
 */
#ifndef HT_RELAY_CONNECT_H
#define HT_RELAY_CONNECT_H

#include "relay/dest.h"
#include "relay/kit.h"

#define RELAY_CONNECT_HEADS 256 /* most clients that have not named a destination; one more makes another one leave */

struct relay_connect;

/* The outcome for a client, or for one of its requests for an http:// URL. Valid during the call. */
struct relay_connect_told {
    struct ht_slice peer;
    const char *target;  /* host:port; "": the client named none that is valid */
    const char *session; /* the session whose driver has connected; NULL: the kit itself has connected */
    const void *user;    /* the client's user; NULL: not known */
    uint16_t status;     /* the HTTP status that the client got; 0: none */
    const char *why;     /* why it was refused or could not connect; NULL: it is connected */
};

/* The user of a client, and the pass (token) that it has shown. Both belong to the caller. */
struct relay_known {
    const void *user, *pass;
};

struct relay_connect_config {
    struct io_addr addr;
    struct relay_policy policy; /* its rules must outlive the proxy; the listener's own port is added to own_ports */
    uint64_t dial_timeout_ms;
    uint64_t idle_timeout_ms; /* how long a connection may be quiet; 0: for ever */
    bool wants_token;         /* clients must show a token (Proxy-Authorization) */
    bool (*knows)(void *ctx, struct ht_slice token, struct relay_known *out); /* in constant time; false: not valid */
    const void *nobody;                                             /* the user of clients that need not show a token */
    bool (*may_come)(void *ctx, const struct io_addr *peer);        /* false: the client is refused for its address */
    void (*told)(void *ctx, const struct relay_connect_told *told); /* may be NULL */
    void (*left)(void *ctx); /* a client has left; never called inside the functions below */
    void *ctx;
};

/*
 * Opens the listener. Its clients use at most half of the table's descriptor permits. The table must outlive the proxy.
 * 0, or an error of io_listen() with *err.
 */
int relay_connect_open(struct relay_table *t, const struct relay_connect_config *cfg, struct relay_connect **out,
                       struct ht_errmsg *err) HT_MUST_USE;
/* Cuts all clients and closes the listener. Clears the pointer. NULL is ignored. */
void relay_connect_close(struct relay_connect **c);
/* From now on new clients get 503. Clients that have sent nothing yet are closed. */
void relay_connect_drain(struct relay_connect *c);
/*
 * Cuts all clients, or those for which which() returns true; the listener stays open. For a client that sends requests
 * for http:// URLs `pass` is NULL: it shows a token with each request.
 */
void relay_connect_cut(struct relay_connect *c, bool (*which)(const struct relay_known *who), const char *why);
/* Closes the listener, which another process goes on with. Clients stay. */
void relay_connect_let_go(struct relay_connect *c);
/* NULL: it was let go. */
struct io_listener *relay_connect_listener(const struct relay_connect *c);
unsigned relay_connect_clients(const struct relay_connect *c);
/* The address of the listener, with the real port. */
void relay_connect_addr(const struct relay_connect *c, struct io_addr *out);

#endif
