/*
 * The front of a kit: public addresses at which visitors reach every EXPOSE binding by host (rules HOST-1 to HOST-6).
 * Its visitors are like those of a port (visitor_http.c), except that the Host of each request decides its binding.
 *
 * A door is one public address. The caller listens there, ends TLS, and hands the connections to the front.
 */
#ifndef HT_RELAY_FRONT_H
#define HT_RELAY_FRONT_H

#include "relay/kit.h"

struct relay_front;
struct relay_front_door; /* one public address */

#define RELAY_DOMAIN_MAX (WIRE_LIMIT_NAME_HOST - WIRE_LIMIT_NAME_LABEL - 1) /* a label and a dot make a host of it */
#define RELAY_URL_MAX 320                                                   /* https://, a host, a port; or a pattern */

#define RELAY_HOST_HOLE "{host}" /* is replaced by the host in a pattern */
#define RELAY_PATTERN_MAX 64     /* most bytes of such a pattern */

struct relay_front_config {
    const char *domain; /* as wire_domain_read() writes it; copied */
    /* The pattern of URLs behind an edge, with RELAY_HOST_HOLE in it; must outlive the front. NULL: URLs have the
     * scheme and port of a door. */
    const char *url_pattern;
    /* True when the forwarded fields of this peer, such as X-Forwarded-For, are believed (rule HOST-6). NULL: never. */
    bool (*trusted)(void *ctx, const struct io_addr *peer);
    /*
     * A request for the domain itself, or for status.{domain}, has come. The callee owns the connection and takes the
     * bytes in `said`, which begin with the head of the request. Its permit was given back. NULL: these hosts are
     * unknown.
     */
    void (*own_host)(void *ctx, struct io_conn *conn, const struct io_addr *peer, struct ht_buf *said, bool https);
    void *ctx;
};

/* Makes the front of a table that has no bindings yet. The table owns it. 0 or HT_ENOMEM. */
int relay_front_open(struct relay_table *t, const struct relay_front_config *cfg) HT_MUST_USE;
/* NULL: the table has no front. */
struct relay_front *relay_table_front(const struct relay_table *t);

/*
 * Adds an address, whose port is reserved from now on. URLs have the scheme and port of the first https address, or
 * else of the first address. `redirects`: the address only redirects, so its port is reserved and it has no visitors.
 * The front owns *out. 0 or HT_ENOMEM.
 */
int relay_front_door_add(struct relay_front *f, const struct io_addr *addr, bool https, bool redirects,
                         struct relay_front_door **out) HT_MUST_USE;
/* Takes a permit for a new connection. False: there is none, and the connection was closed, over plain HTTP with an
 * answer. */
bool relay_front_permit(struct relay_front_door *d, struct io_conn *conn, const struct io_addr *peer) HT_MUST_USE;
/* Gives the permit of a connection back that did not become a visitor. */
void relay_front_permit_back(struct relay_front_door *d);
/* Makes a connection with a permit a visitor, and owns it. It may have TLS. `peer` counts as its address. */
void relay_front_visit(struct relay_front_door *d, struct io_conn *conn, const struct io_addr *peer);
/* For io_listener_ops.accept_failed of the listeners. */
void relay_front_accept_failed(struct relay_front_door *d, int err);
/* Closes idle visitors now and the others after their answer (relay_table_drain()). */
void relay_front_drain(struct relay_front *f);
/* Cuts all visitors. */
void relay_front_cut(struct relay_front *f);

/* Whether a host, as wire_asked_host() writes it, is the domain itself or status.{domain}. */
bool relay_front_is_own(const struct relay_front *f, const char *host);
/* The URL of a host; returns `out`. */
char *relay_front_url(const struct relay_front *f, struct ht_slice host, char out[RELAY_URL_MAX]);

#endif
