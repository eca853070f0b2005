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
    const char *target;  /* host:port; "": it said none that can be read */
    const char *session; /* whose driver has connected; NULL: nobody's, the kit did it itself */
    const void *user;    /* the client's; NULL: not known */
    uint16_t status;     /* what it was told, as HTTP has it; 0: nothing */
    const char *why;     /* it was refused, or did not get there; NULL: it did */
};

/* Who a client is. `pass` is what it has shown, by which it may be cut again. */
struct relay_known {
    const void *user, *pass;
};

struct relay_connect_config {
    struct io_addr addr;
    struct relay_policy policy; /* its rules must outlive the proxy; the listener's own port is added to own_ports */
    uint64_t dial_timeout_ms;
    uint64_t idle_timeout_ms; /* of a connection that stands; 0: for ever */
    bool wants_token;         /* as Proxy-Authorization */
    bool (*knows)(void *ctx, struct ht_slice token, struct relay_known *out); /* in constant time */
    const void *nobody; /* the user that a client is that need not show a token */
    bool (*may_come)(void *ctx, const struct io_addr *peer);
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
 * The clients go, or those for which `which` says so; the listener stays. The `pass` of one that sends requests for
 * http:// URLs is NULL: it shows a token with each.
 */
void relay_connect_cut(struct relay_connect *c, bool (*which)(const struct relay_known *who), const char *why);
unsigned relay_connect_clients(const struct relay_connect *c);
/* The address of the listener, with the real port. */
void relay_connect_addr(const struct relay_connect *c, struct io_addr *out);

#endif
