/*
 * The front of a kit: public addresses at which visitors reach every EXPOSE binding by the host that they ask for
 * (rules HOST-1 to HOST-6). Its visitors are those of a port (visitor_http.c) but for one thing: each of their requests
 * goes to the binding that its own Host leads to.
 *
 * Who listens there, ends TLS and reads PROXY headers is the caller's business: it hands connections in.
 */
#ifndef HT_RELAY_FRONT_H
#define HT_RELAY_FRONT_H

#include "relay/kit.h"

struct relay_front;
struct relay_front_door; /* one public address */

#define RELAY_DOMAIN_MAX (WIRE_LIMIT_NAME_HOST - WIRE_LIMIT_NAME_LABEL - 1) /* a label and a dot make a host of it */
#define RELAY_URL_MAX 320                                                   /* https://, a host, a port; or a pattern */

#define RELAY_HOST_HOLE "{host}" /* in a pattern: the host goes there */
#define RELAY_PATTERN_MAX 64     /* of such a pattern */

struct relay_front_config {
    const char *domain; /* as wire_domain_read() writes it; copied */
    /* What URLs look like where an edge stands in front, with RELAY_HOST_HOLE in it; it outlives the front. NULL: they
     * have the scheme and the port of a door. */
    const char *url_pattern;
    /* Whether what the peer says of other visitors is true: X-Forwarded-For and its like (rule HOST-6). NULL: nobody's
     * is. */
    bool (*trusted)(void *ctx, const struct io_addr *peer);
    /*
     * A request for the domain itself, or for status.{domain}: the connection belongs to the callee from now on, with
     * the bytes read from it so far, which begin with the request's head; its permit was given back. NULL: nobody has
     * these hosts.
     */
    void (*own_host)(void *ctx, struct io_conn *conn, const struct io_addr *peer, struct ht_buf *said, bool https);
    void *ctx;
};

/* The table has one front, before it has bindings; it goes with the table. 0 or HT_ENOMEM. */
int relay_front_open(struct relay_table *t, const struct relay_front_config *cfg) HT_MUST_USE;
/* NULL: it has none. */
struct relay_front *relay_table_front(const struct relay_table *t);

/*
 * One more address; its port's number is reserved from now on. URLs are those of the first https one, or else of the
 * first. `redirects`: it serves nobody, and counts only as reserved. 0 or HT_ENOMEM.
 */
int relay_front_door_add(struct relay_front *f, const struct io_addr *addr, bool https, bool redirects,
                         struct relay_front_door **out) HT_MUST_USE;
/* Takes a permit for a connection that has come in there. False: there is none, and the connection is gone; over plain
 * HTTP it was told. */
bool relay_front_permit(struct relay_front_door *d, struct io_conn *conn, const struct io_addr *peer) HT_MUST_USE;
/* Gives it back, for one that did not become a visitor. */
void relay_front_permit_back(struct relay_front_door *d);
/* A connection with such a permit, TLS inside or not, is a visitor from now on; `peer` counts as its address. */
void relay_front_visit(struct relay_front_door *d, struct io_conn *conn, const struct io_addr *peer);
/* accept_failed of the listeners. */
void relay_front_accept_failed(struct relay_front_door *d, int err);
/* Who waits for a request goes; nobody is kept for another one (relay_table_drain()). */
void relay_front_drain(struct relay_front *f);
/* Everybody goes. */
void relay_front_cut(struct relay_front *f);

/* The URL of a host; returns `out`. */
char *relay_front_url(const struct relay_front *f, struct ht_slice host, char out[RELAY_URL_MAX]);

#endif
