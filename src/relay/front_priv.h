/*
 * What the front is to the files of the relay; nobody else includes it.
 *
 *   front.c          its addresses and its visitors, and whose a request is
 *   front_hosts.c    the hosts of bindings: what a BIND asks for, who holds which
 *   front_fields.c   what a request says of its visitor (rule HOST-6)
 */
#ifndef HT_RELAY_FRONT_PRIV_H
#define HT_RELAY_FRONT_PRIV_H

#include "relay/front.h"
#include "relay/visitor_priv.h"

#define FRONT_FIELDS 5 /* that a request may get on its way: Host, and what front_fields_put() adds */
#define FRONT_DRIVERS 256

struct relay_front {
    struct relay_table *t;
    struct relay_front_config cfg;
    char domain[WIRE_HOST_ROOM];
    char status[WIRE_HOST_ROOM];
    struct ht_list doors;
    const struct relay_front_door *url; /* whose scheme and port URLs have; NULL: there is no door yet */
    struct relay_name_index hosts;
    struct ht_list drivers[FRONT_DRIVERS]; /* struct relay_owner, by the hash of its name */
    struct ht_buf text;                    /* of one request's fields */
};

struct relay_front_door {
    struct ht_list node;
    struct relay_front *f;
    struct relay_port port; /* without a listener and a binding of its own: who has none yet is its visitor */
    bool https, redirects;
};

/* ---- for table.c: front_hosts.c ---- */

/* What a BIND of an EXPOSE asks for; the last one is that of its port, and "" as long as that is not known. Freed by
 * relay_names_free(). Whoever is in the way is not looked for. 0, or an error with *code and *err. */
int front_hosts_read(struct relay_front *f, const struct relay_owner *o, const struct wire_bind *bind,
                     struct relay_names **out, enum wire_bind_error *code, struct ht_errmsg *err) HT_MUST_USE;
/* The port's number is known: the last host gets it. */
void front_hosts_of_port(const struct relay_front *f, const struct relay_owner *o, struct relay_names *hosts,
                         uint16_t number);
/* The entry of the port's host. */
static inline struct relay_name *front_host_of_port(struct relay_names *hosts) {
    return &hosts->entries[hosts->n_entries - 1];
}
/* Somebody else who has the driver's name of `o`, or the one that `hosts` would look like one of; or NULL. */
const struct relay_owner *front_name_taken(const struct relay_front *f, const struct relay_owner *o,
                                           const struct wire_bind *bind);
/* The binding has these hosts from now on, in the place of those it has; NULL: none. There is room for them, and nobody
 * holds them. */
void front_set_hosts(struct relay_front *f, struct relay_binding *b, struct relay_names *hosts);
/* The bindings of `from` are those of `to` now. */
void front_owner_moved(struct relay_front *f, struct relay_owner *from, struct relay_owner *to);

/* ---- for table.c: front.c ---- */

void front_close(struct relay_front **f);
/* The number is one of its addresses'. */
bool front_has_port(const struct relay_front *f, uint16_t number);
/* Visitors whose request is for the binding: as relay_port_close() and relay_port_revoke() do to those of a port. */
void front_drop_visitors(struct relay_binding *b, uint16_t code, const char *reason);
void front_revoke_visitors(struct relay_binding *b, uint16_t code, const char *reason);

/* ---- for the visitor's code ---- */

/* Finds whose the request is: v->b, or NULL. True: it is the kit's own, and the visitor is to be handed over. */
bool front_enter(struct visitor_http *v, const struct http_head *h, const char *p);
/* It is nobody's any more. */
void front_leave(struct visitor_http *v);
/* The visitor is gone, with p[0..n), which it has said; `kept`: that is its `in`. */
void front_hand_over(struct visitor_http *v, const char *p, size_t n, bool kept);

/* A field that says something of the visitor. */
bool front_field_is_about_visitor(struct ht_slice name);
/* Whether that one goes on as it is. */
bool front_field_stays(const struct visitor_http *v, struct ht_slice name);
/* Adds the kit's own to to[n..): good until the next request. The new number, or HT_ENOMEM. */
ssize_t front_fields_put(const struct visitor_http *v, const struct http_head *h, const char *p, struct wire_header *to,
                         size_t n) HT_MUST_USE;

#endif
