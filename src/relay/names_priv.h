/*
 * The index of bindings by the names that drivers have registered. The CONNECT proxy finds a binding here and opens a
 * stream to it.
 *
 * A lookup costs the same with one name and with ten thousand: one look into a hash table for the exact host, and one
 * for each label of the host for wildcards.
 */
#ifndef HT_RELAY_NAMES_PRIV_H
#define HT_RELAY_NAMES_PRIV_H

#include "relay/kit.h"
#include "wire/name.h"

struct relay_binding;

enum relay_name_state {
    RELAY_NAME_NONE,   /* no binding has a name that covers it */
    RELAY_NAME_LIVE,   /* a stream can be opened, now or when it is this visitor's turn (relay_must_wait()) */
    RELAY_NAME_PARKED, /* the driver is away and may come back: 503 with Retry-After */
};

/*
 * Finds the binding for a host and port among those of one user (rule NAME-5). The exact host goes before the longest
 * wildcard, and the exact port before a name for every port. `host` is in normal form (wire_host_read()). *out is set
 * unless the result is RELAY_NAME_NONE, and is valid until the end of the turn.
 */
enum relay_name_state relay_name_find(const struct relay_table *t, const void *user, const char *host, uint16_t port,
                                      struct relay_binding **out);

/*
 * A visitor who uses a binding by name: while it waits for its turn, and while its stream is open. It is a member of
 * its owner's structure.
 */
struct relay_name_visitor;
struct relay_name_visitor_ops {
    /* The binding no longer exists or has another owner. The visitor has left it already. The callee resets its stream
     * with `code`, if there is one, and may free the visitor. */
    void (*gone)(struct relay_name_visitor *v, uint16_t code, const char *reason);
};
struct relay_name_visitor {
    struct ht_list node; /* in the binding's list */
    struct relay_binding *b;
    const struct relay_name_visitor_ops *ops;
};
void relay_name_enter(struct relay_name_visitor *v, struct relay_binding *b, const struct relay_name_visitor_ops *ops);
/* Does nothing for a visitor that has left. */
void relay_name_leave(struct relay_name_visitor *v);

/*
 * Opens a stream to the host and port. `ops->connected` is called when the driver is connected to it. A RESET before
 * that has a reason that begins with a word of the spec's origin_errors. 0, or: HT_ECLOSED: the driver has just left;
 * HT_ELIMIT: all streams are in use (relay_no_stream_text()); HT_ENOMEM.
 */
int relay_name_open(const struct relay_name_visitor *v, const char *host, uint16_t port, const char *peer,
                    const struct mux_stream_ops *ops, void *ctx, struct mux_stream **out) HT_MUST_USE;

/* ---- for table.c ---- */

/* An entry of the index: one host with one port, or with every port. */
struct relay_name {
    struct relay_name *next; /* in its bucket */
    struct relay_binding *b; /* NULL: not in the index */
    const char *host;
    uint32_t hash;
    uint16_t port; /* 0: every port */
    bool wildcard;
};

struct relay_name_index {
    struct relay_name **bucket;
    size_t n_buckets; /* a power of two, or 0 */
    size_t used;
    bool shared;   /* all users share the names: lookups do not compare the user */
    uint64_t seed; /* random, so that nobody can choose names that share a bucket */
};

/* The names of a BIND, parsed. One block of memory; the owner calls relay_names_free(). */
struct relay_names {
    size_t n, n_entries;
    size_t n_asked;             /* of hosts at the front: how many BIND has named */
    struct ht_slice *texts;     /* each name once, in normal form */
    struct relay_name *entries; /* a name without a port is two of them */
    struct ht_slice ca;         /* PEM; empty: none */
};

/* Reads the names of a BIND. *out is NULL when there are none. 0, or HT_EINVAL or HT_ENOMEM with *err. */
int relay_names_read(const struct wire_bind *bind, struct relay_names **out, struct ht_errmsg *err) HT_MUST_USE;
/* Clears the pointer. NULL is ignored. */
void relay_names_free(struct relay_names **names);
/* Makes room for the names in the index, so that relay_names_add() cannot fail. 0 or HT_ENOMEM. */
int relay_names_reserve(struct relay_name_index *x, const struct relay_names *names) HT_MUST_USE;
/* Who of that user has the same host and port, or NULL; of anybody in a shared index. */
struct relay_name *relay_names_holder(const struct relay_name_index *x, const void *user, const struct relay_name *e);
/* The one with exactly this host, of an index of hosts for every port; or NULL. */
struct relay_name *relay_names_exact(const struct relay_name_index *x, const char *host);
/* None of them has a holder. */
void relay_names_add(struct relay_name_index *x, struct relay_names *names, struct relay_binding *b);
/* Removes the names. NULL is ignored. */
void relay_names_remove(struct relay_name_index *x, struct relay_names *names);
void relay_name_index_free(struct relay_name_index *x);
/* Calls gone() for all visitors who use the binding by name. */
void relay_name_drop_visitors(struct relay_binding *b, uint16_t code, const char *reason);

#endif
