/*
 * Bindings by the names that their drivers have registered: what the CONNECT proxy asks, and how it opens a stream.
 *
 * Look-ups cost the same with one name and with ten thousand: an exact host is one look into a table, a wildcard one
 * more for each of the host's labels.
 */
#ifndef HT_RELAY_NAMES_PRIV_H
#define HT_RELAY_NAMES_PRIV_H

#include "relay/kit.h"
#include "wire/name.h"

struct relay_binding;

enum relay_name_state {
    RELAY_NAME_NONE,   /* no binding has a name for it */
    RELAY_NAME_LIVE,   /* a stream can be opened now, or once others have made room (relay_must_wait()) */
    RELAY_NAME_PARKED, /* its driver is away and may come back: 503 with Retry-After */
};

/*
 * Whose host and port it is (rule NAME-5): the host itself before the longest wildcard, the port itself before every
 * port. `host` is in the one spelling (wire_host_read()). *out is set unless it is NONE, and good until the loop turns.
 */
enum relay_name_state relay_name_find(const struct relay_table *t, const char *host, uint16_t port,
                                      struct relay_binding **out);

/*
 * Somebody who came by name, from when it was found whose name it is until it has no use for the binding any more:
 * while it waits for its turn, and while its stream is open. Embedded in whoever that is.
 */
struct relay_name_visitor;
struct relay_name_visitor_ops {
    /* The binding is gone or belongs to somebody else: it has left already. Its stream, if it has one, is reset with
     * `code`; it may be freed in here. */
    void (*gone)(struct relay_name_visitor *v, uint16_t code, const char *reason);
};
struct relay_name_visitor {
    struct ht_list node; /* in the binding's list */
    struct relay_binding *b;
    const struct relay_name_visitor_ops *ops;
};
void relay_name_enter(struct relay_name_visitor *v, struct relay_binding *b, const struct relay_name_visitor_ops *ops);
/* No-op for one that has left. */
void relay_name_leave(struct relay_name_visitor *v);

/*
 * Opens a stream to what the visitor asked for. `ops->connected` tells that the driver has its connection; until then a
 * RESET has a reason that begins with a word of the spec's origin_errors. 0; HT_ECLOSED: the driver has just gone;
 * HT_ELIMIT: no stream is left (relay_no_stream_text()); HT_ENOMEM.
 */
int relay_name_open(const struct relay_name_visitor *v, const char *host, uint16_t port, const char *peer,
                    const struct mux_stream_ops *ops, void *ctx, struct mux_stream **out) HT_MUST_USE;

/* ---- for table.c ---- */

/* A host with a port. */
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
    uint64_t seed; /* nobody can choose names that meet in one bucket */
};

/* What a BIND says of names, read. One block: relay_names_free(). */
struct relay_names {
    size_t n, n_entries;
    struct ht_slice *texts;     /* each name once, in its one spelling */
    struct relay_name *entries; /* a name without a port is two of them */
    struct ht_slice ca;         /* PEM; empty: none */
};

/* Reads them; *out NULL: there are none. 0, or HT_EINVAL or HT_ENOMEM with *err. */
int relay_names_read(const struct wire_bind *bind, struct relay_names **out, struct ht_errmsg *err) HT_MUST_USE;
void relay_names_free(struct relay_names **names);
/* Room for them in the index, so that relay_names_add() cannot fail. */
int relay_names_reserve(struct relay_name_index *x, const struct relay_names *names) HT_MUST_USE;
/* Who has the same host and port, or NULL. */
struct relay_name *relay_names_holder(const struct relay_name_index *x, const struct relay_name *e);
/* None of them has a holder. */
void relay_names_add(struct relay_name_index *x, struct relay_names *names, struct relay_binding *b);
/* Out of the index; no-op for NULL. */
void relay_names_remove(struct relay_name_index *x, struct relay_names *names);
void relay_name_index_free(struct relay_name_index *x);
/* Tells all who came by name; there are none afterwards. */
void relay_name_drop_visitors(struct relay_binding *b, uint16_t code, const char *reason);

#endif
