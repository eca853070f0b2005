/*
 * What the front shares with the other files of the relay. No other room includes it.
 *
 *   front.c          its addresses and visitors, and finding the binding for a request
 *   front_hosts.c    the hosts of bindings: reading a BIND, and which binding has which host
 *   front_fields.c   forwarded fields (rule HOST-6)
 */
#ifndef HT_RELAY_FRONT_PRIV_H
#define HT_RELAY_FRONT_PRIV_H

#include "relay/front.h"
#include "relay/visitor_priv.h"

#define FRONT_FIELDS 5 /* most fields that a request gets on its way: Host, and those of front_fields_put() */
#define FRONT_DRIVERS 256

struct relay_front {
    struct relay_table *t;
    struct relay_front_config cfg;
    char domain[WIRE_HOST_ROOM];
    char status[WIRE_HOST_ROOM];
    struct ht_list doors;
    const struct relay_front_door *url; /* URLs have the scheme and port of this door; NULL: there is no door yet */
    struct relay_name_index hosts;
    struct ht_list drivers[FRONT_DRIVERS]; /* struct relay_owner, by the hash of its name */
    struct ht_buf text;                    /* texts of the fields of one request */
};

struct relay_front_door {
    struct ht_list node;
    struct relay_front *f;
    struct relay_port
        port; /* has no listener and no binding; its visitors are those whose request has no binding yet */
    bool https, redirects;
};

/* ---- for table.c: front_hosts.c ---- */

/* Reads the hosts that a BIND of an EXPOSE asks for. The last one is the host of its port, and "" until the port is
 * known. relay_names_free() frees them. It does not check whether others hold them. 0, or an error with *code and *err.
 */
int front_hosts_read(struct relay_front *f, const struct relay_owner *o, const struct wire_bind *bind,
                     struct relay_names **out, enum wire_bind_error *code, struct ht_errmsg *err) HT_MUST_USE;
/* Completes the last host, now that the number of the port is known. */
void front_hosts_of_port(const struct relay_front *f, const struct relay_owner *o, struct relay_names *hosts,
                         uint16_t number);
/* The entry of the port's host. */
static inline struct relay_name *front_host_of_port(struct relay_names *hosts) {
    return &hosts->entries[hosts->n_entries - 1];
}
/* True when the owner may have the host (rule USER-3); false with *err. front_hosts_read() has asked, except for the
 * host of a port that was not known yet. */
bool front_may_have(const struct relay_front *f, const struct relay_owner *o, const char *host, struct ht_errmsg *err);
/* Another owner whose driver has the same name as that of `o`, or a name that a host in `bind` would look like; NULL:
 * none. */
const struct relay_owner *front_name_taken(const struct relay_front *f, const struct relay_owner *o,
                                           const struct wire_bind *bind);
/* Replaces the hosts of the binding; NULL: by none. The index must have room for them, and no binding may hold them. */
void front_set_hosts(struct relay_front *f, struct relay_binding *b, struct relay_names *hosts);
/* The bindings of `from` now belong to `to`. */
void front_owner_moved(struct relay_front *f, struct relay_owner *from, struct relay_owner *to);

/* ---- for table.c: front.c ---- */

void front_close(struct relay_front **f);
/* True when a door has this port. */
bool front_has_port(const struct relay_front *f, uint16_t number);
/* Do the same as relay_port_close() and relay_port_revoke(), for visitors of the front whose request is for `b`. */
void front_drop_visitors(struct relay_binding *b, uint16_t code, const char *reason);
void front_revoke_visitors(struct relay_binding *b, uint16_t code, const char *reason);

/* ---- for the visitor's code ---- */

/* Finds the binding for the request and sets v->b, or NULL for an unknown host. True: the request is for a host of the
 * kit itself, and the caller calls front_hand_over(). */
bool front_enter(struct visitor_http *v, const struct http_head *h, const char *p);
/* The request has ended: the visitor no longer belongs to the binding. */
void front_leave(struct visitor_http *v);
/* Hands the connection to own_host(), with the bytes p[0..n) that were read, and frees the visitor. `kept`: the bytes
 * are those in v->in. */
void front_hand_over(struct visitor_http *v, const char *p, size_t n, bool kept);

/* True when a field about the visitor (http_field_is_about_visitor()) is sent on. */
bool front_field_stays(const struct visitor_http *v, struct ht_slice name);
/* Adds the kit's own forwarded fields to to[n..); they are valid until the next request. Returns the new number of
 * fields, or HT_ENOMEM. */
ssize_t front_fields_put(const struct visitor_http *v, const struct http_head *h, const char *p, struct wire_header *to,
                         size_t n) HT_MUST_USE;

#endif
