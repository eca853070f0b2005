/*
 * The kit's side of the relay: which ports are bound to whom, and what happens to a visitor who connects to one.
 *
 * A binding belongs to an owner (one session, live or parked). An EXPOSE binding's visitors speak HTTP/1.1
 * (visitor_http.c), a PULL binding's are raw bytes (visitor_tcp.c).
 */
#ifndef HT_RELAY_KIT_H
#define HT_RELAY_KIT_H

#include "base/base.h"
#include "base/err.h"
#include "base/list.h"
#include "http/http.h"
#include "io/io.h"
#include "metrics_gen.h"
#include "mux/mux.h"
#include "wire/name.h"
#include "wire_gen.h"

/* Descriptors beside the permits: of visitors who are told that there is no permit for them. */
#define RELAY_REFUSED 16

struct relay_kit_config {
    struct io_loop *loop;
    struct io_fds *fds;         /* permits for visitors' descriptors and listeners */
    struct ht_metrics *metrics; /* never NULL */
    struct http_limits head_limits;
    uint64_t head_timeout_ms;          /* absolute, for a request head; 408 when a part of it is there */
    uint64_t keepalive_timeout_ms;     /* idle between requests */
    uint64_t response_timeout_ms;      /* until the final response head; 504 */
    uint64_t half_close_timeout_ms;    /* a quiet half-closed TCP stream, or HTTP visitor whose answer has begun */
    uint64_t send_timeout_ms;          /* a visitor that takes nothing of its answer */
    uint64_t body_grace_ms;            /* how long a request body may be slower than min_body_rate */
    uint32_t min_body_rate;            /* bytes per second on average, where something is short; 0: any */
    unsigned max_bindings_per_session; /* a session: an owner */
    unsigned max_names_per_session;    /* of all of its bindings */
    bool allow_privileged_expose, allow_privileged_pull;
    const uint16_t *reserved_ports;
    size_t n_reserved_ports;
    uint16_t outgoing_first, outgoing_last; /* ports that the kernel gives to outgoing connections; 0: not known */
    struct io_addr expose_address;          /* address EXPOSE listeners bind; its port is ignored */
    const char *public_url_pattern;         /* NULL: publicUrl is null; "{port}" is replaced */
};

struct relay_table; /* all bindings of a kit */
struct relay_binding;
struct relay_owner;
struct relay_binding_info;

/* What becomes of a port that somebody else asks for. */
enum relay_yield {
    RELAY_KEEPS,   /* its owner keeps it */
    RELAY_YIELDS,  /* it changes hands */
    RELAY_PENDING, /* that will be known later: relay_bind() says HT_EAGAIN, and is to be called again */
};

struct relay_owner_ops {
    /* The binding was taken over by another owner: tell the old driver (BIND_REVOKED). */
    void (*revoked)(struct relay_owner *o, uint32_t bind_id, const char *reason);
    /* Does `o` give a binding to `to` without being told to? NULL: never. */
    enum relay_yield (*yields)(struct relay_owner *o, const struct relay_owner *to);
    /* Says in *err why `to` cannot have `what` ("port 3000", "gitlab.example.com:443"), which is part of `b` and which
     * `o` keeps. NULL: the relay does. */
    void (*keeps)(const struct relay_owner *o, const struct relay_owner *to, const char *what,
                  const struct relay_binding_info *b, struct ht_errmsg *err);
};

/* Embedded in the kit's session record. */
struct relay_owner {
    const char *id;          /* for the log; NULL: none */
    struct ht_list bindings; /* of struct relay_binding */
    struct mux_session *mux; /* NULL while parked: visitors get 503 with Retry-After */
    bool restarting;         /* visitors wait for the owner that gets its bindings (relay_owner_move) */
    uint64_t not_before_ms;  /* until then visitors get 503 too (a published driver that has just resumed); 0: none */
    uint32_t next_bind_id;   /* from 1 */
    unsigned n_bindings, n_names;
    struct ht_list turns; /* of the relay's own: addresses that visitors wait from */
    struct ht_list waits; /* ... and its place among the owners that somebody waits for */
    unsigned n_sources;   /* ... addresses with a debt of streams that were left early, and what all may still leave */
    int32_t churn_left;
    uint64_t churn_filled_ms;
    bool own_peer; /* mux_config.own_peer */
    const struct relay_owner_ops *ops;
};

void relay_owner_init(struct relay_owner *o, const struct relay_owner_ops *ops);

struct relay_table *relay_table_create(const struct relay_kit_config *cfg) HT_MUST_USE;
/* Closes every listener and visitor. */
void relay_table_destroy(struct relay_table **t);

#define RELAY_LABEL_MAX 128 /* bytes that are kept of a label */

struct relay_bound {
    uint32_t bind_id;
    uint16_t port;               /* 0: portless */
    char public_url[1024];       /* "" when there is none */
    char label[RELAY_LABEL_MAX]; /* as in relay_binding_info */
    const struct ht_slice *names;
    size_t n_names;
};

/* BIND. 0 with *out, HT_EAGAIN (see RELAY_PENDING), or a negative error with the wire's code and a text for BIND_ERR.
 * Section 3 of the protocol. */
int relay_bind(struct relay_table *t, struct relay_owner *o, const struct wire_bind *bind, struct relay_bound *out,
               enum wire_bind_error *code, struct ht_errmsg *err) HT_MUST_USE;
/* UNBIND: closes the listener; open streams of the binding are reset. HT_EINVAL: no such binding. */
int relay_unbind(struct relay_table *t, struct relay_owner *o, uint32_t bind_id) HT_MUST_USE;
/* An HTTP binding of `o` that nothing listens for: its visitors come from relay_inside_visit(). It goes like any other
 * one. NULL: out of memory. */
struct relay_binding *relay_inside_open(struct relay_table *t, struct relay_owner *o, uint32_t *bind_id) HT_MUST_USE;
/* A connection from inside this program is a visitor of it from now on; `peer` is who counts as its address. */
void relay_inside_visit(struct relay_binding *b, struct io_conn *conn, const struct io_addr *peer);
/* There is room again (mux_session_ops.room): visitors who wait for it go on. */
void relay_owner_room(struct relay_table *t, struct relay_owner *o);
/* All bindings of `from` belong to `to`, which has none, with the same ids; visitors stay, and so do their streams in
 * whatever session they are. Those who wait do so for `to`. */
void relay_owner_move(struct relay_table *t, struct relay_owner *from, struct relay_owner *to);
/* The owner is gone: all of its bindings, listeners and visitors. */
void relay_owner_drop(struct relay_table *t, struct relay_owner *o);
/* From now on no connection is kept for another request. Visitors of a session that ends are still answered: 503. */
void relay_table_drain(struct relay_table *t);

/* For the admin API and HELLO_OK's resumedBinds. Valid until the next bind or unbind. */
struct relay_binding_info {
    const struct relay_owner *owner;
    uint32_t bind_id;
    uint16_t port; /* 0: it listens nowhere */
    enum wire_kind kind;
    enum wire_mode mode;
    char bind_addr[IO_ADDR_TEXT]; /* host part of the listener's address; "" without one */
    unsigned visitors;            /* connections at present, those that came by name too */
    const struct ht_slice *names; /* in their one spelling; good while the binding lives */
    size_t n_names;
    struct ht_slice ca; /* certificates that its driver offers, in PEM; empty: none */
    const char *label;  /* as its driver calls it, fit to be seen; "": it does not */
    int64_t since;      /* when its present owner got it, in Unix seconds */
};
/* Calls `each` for all bindings (of `o` only, when given). */
void relay_each_binding(const struct relay_table *t, const struct relay_owner *o,
                        void (*each)(void *ctx, const struct relay_binding_info *info), void *ctx);
unsigned relay_count_visitors(const struct relay_table *t);

#endif
