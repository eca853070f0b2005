/*
 * The kit's side of the relay: the table of bindings, and what happens to a visitor who connects to a bound port.
 *
 * A binding belongs to an owner, which is one session, live or parked. Visitors of an EXPOSE binding speak HTTP/1.1
 * (visitor_http.c). Visitors of a PULL binding send raw bytes (visitor_tcp.c).
 */
#ifndef HT_RELAY_KIT_H
#define HT_RELAY_KIT_H

#include "base/base.h"
#include "base/err.h"
#include "base/list.h"
#include "http/http.h"
#include "io/io.h"
#include "io/share.h"
#include "metrics_gen.h"
#include "mux/mux.h"
#include "wire/name.h"
#include "wire_gen.h"

/* Descriptors beyond the permits, for visitors who get an answer that no permit is left. */
#define RELAY_REFUSED 16

struct relay_kit_config {
    struct io_loop *loop;
    struct io_fds *fds;         /* descriptor permits for visitors and listeners */
    struct ht_metrics *metrics; /* never NULL */
    struct http_limits head_limits;
    uint64_t head_timeout_ms;          /* for a whole request head; then 408 if a part of it has come */
    uint64_t keepalive_timeout_ms;     /* how long a connection may be idle between requests */
    uint64_t response_timeout_ms;      /* until the final response head; then 504 */
    uint64_t half_close_timeout_ms;    /* how long a half-closed TCP stream, or HTTP answer, may be quiet */
    uint64_t send_timeout_ms;          /* how long a visitor may read nothing of its answer */
    uint64_t hold_ms;                  /* how long a new visitor waits for a session that is away; 0: not at all */
    uint64_t body_grace_ms;            /* how long a request body may be slower than min_body_rate */
    uint32_t min_body_rate;            /* average bytes per second while resources are short; 0: no minimum */
    unsigned max_bindings_per_session; /* per owner */
    unsigned max_names_per_session;    /* per owner, over all of its bindings */
    bool allow_privileged_expose, allow_privileged_pull;
    bool no_ports; /* EXPOSE bindings have no listener: visitors reach them at the front only (rule HOST-5) */
    const uint16_t *reserved_ports;
    size_t n_reserved_ports;
    uint16_t outgoing_first, outgoing_last; /* ports that the kernel uses for outgoing connections; 0: not known */
    struct io_addr expose_address;          /* the address of EXPOSE listeners; its port is ignored */
    const char *public_url_pattern;         /* "{port}" in it is replaced; NULL: publicUrl is null */
};

struct relay_table; /* all bindings of a kit */
struct relay_front;
struct relay_binding;
struct relay_owner;
struct relay_binding_info;

/* What happens to a port that another owner asks for. */
enum relay_yield {
    RELAY_KEEPS,   /* the present owner keeps it */
    RELAY_YIELDS,  /* the new owner gets it */
    RELAY_PENDING, /* not known yet: relay_bind() returns HT_EAGAIN and must be called again */
};

struct relay_owner_ops {
    /* Another owner has taken the binding over. The callee tells the driver of `o` (BIND_REVOKED). */
    void (*revoked)(struct relay_owner *o, uint32_t bind_id, const char *reason);
    /* Returns whether `o` gives its binding to `to` when `to` did not ask for a takeover. NULL: never. */
    enum relay_yield (*yields)(struct relay_owner *o, const struct relay_owner *to);
    /* Writes to *err why `to` cannot get `what` ("port 3000", "gitlab.example.com:443"). `what` belongs to the binding
     * `b` of `o`. NULL: the relay writes the message. */
    void (*keeps)(const struct relay_owner *o, const struct relay_owner *to, const char *what,
                  const struct relay_binding_info *b, struct ht_errmsg *err);
    /* True when both owners belong to the same driver, so that they may share its name (rule HOST-3). NULL: never. */
    bool (*same)(const struct relay_owner *o, const struct relay_owner *other);
    /* True when `o` may have this host, in lower case, at a front of `domain`; false with *err. NULL: always. */
    bool (*may_name)(const struct relay_owner *o, const char *host, const char *domain, struct ht_errmsg *err);
    /* A port for an owner that asks for any port, a different one at each call. 0, or NULL: every port will do. */
    uint16_t (*pick)(const struct relay_owner *o);
    /* True when `o` may have one more binding; false with *err. NULL: always. */
    bool (*may_add)(const struct relay_owner *o, struct ht_errmsg *err);
};

/* A member of the kit's session record. The owner outlives its bindings. */
struct relay_owner {
    const char *id;                /* for the log; NULL: none */
    const char *name;              /* its driver's, as in HELLO; NULL: none. Does not change while it has bindings */
    struct io_share *share;        /* of what its visitors send; NULL: none */
    const struct mux_quota *quota; /* of its sessions' streams; NULL: none */
    const void *user;              /* whose it is: what another user's owner has is as good as another program's */
    struct ht_list bindings;       /* of struct relay_binding */
    struct mux_session *mux;       /* NULL while parked: visitors get 503 with Retry-After */
    bool restarting;               /* visitors wait for the owner that gets its bindings (relay_owner_move) */
    bool away;                     /* relay_owner_away(): new visitors wait for hold_ms, and get no stream meanwhile */
    uint64_t away_since_ms;        /* while it is away */
    uint64_t not_before_ms; /* until then visitors get 503 too (a published driver that has just resumed); 0: none */
    uint32_t next_bind_id;  /* from 1 */
    unsigned n_bindings, n_names;
    /* The relay's own: */
    struct ht_list named; /* node in the front's list of drivers, while it has bindings with hosts */
    unsigned n_named;     /* how many bindings with hosts it has */
    struct ht_list turns; /* struct relay_source: addresses from which visitors wait */
    struct ht_list waits; /* node in the table's list of owners for which visitors wait */
    unsigned n_sources;   /* addresses that wait, or whose visitors have left streams early */
    int32_t churn_left;   /* streams that visitors of this owner may still open and leave early */
    uint64_t churn_filled_ms;
    bool own_peer; /* as mux_config.own_peer */
    const struct relay_owner_ops *ops;
};

void relay_owner_init(struct relay_owner *o, const struct relay_owner_ops *ops);

/* Copies texts and lists of `cfg`; loop, fds and metrics must outlive the table. NULL: out of memory. */
struct relay_table *relay_table_create(const struct relay_kit_config *cfg) HT_MUST_USE;
/* Closes every listener and visitor. Clears the pointer. */
void relay_table_destroy(struct relay_table **t);

#define RELAY_LABEL_MAX 128 /* most bytes of a label that are kept, with the NUL */

struct relay_bound {
    uint32_t bind_id;
    uint16_t port;                /* 0: portless */
    char public_url[1024];        /* "": none */
    char label[RELAY_LABEL_MAX];  /* as in relay_binding_info */
    const struct ht_slice *names; /* as in relay_binding_info */
    size_t n_names;
    const struct ht_slice *hosts; /* hosts at the front; the first is that of public_url */
    size_t n_hosts;
};

/* Carries out a BIND (section 3 of the protocol). 0 with *out. HT_EAGAIN: not decided yet (RELAY_PENDING). Another
 * negative error: *code and *err are for BIND_ERR. */
int relay_bind(struct relay_table *t, struct relay_owner *o, const struct wire_bind *bind, struct relay_bound *out,
               enum wire_bind_error *code, struct ht_errmsg *err) HT_MUST_USE;
/* Carries out an UNBIND: closes the listener and resets the open streams of the binding. HT_EINVAL: no such binding. */
int relay_unbind(struct relay_table *t, struct relay_owner *o, uint32_t bind_id) HT_MUST_USE;
/* The configuration of a table whose bindings are all without a listener, with the protocol's limits and one binding
 * for each owner. */
struct relay_kit_config relay_inside_config(struct io_loop *loop, struct io_fds *fds, struct ht_metrics *metrics);
/* Makes an HTTP binding of `o` without a listener. Its visitors come from relay_inside_visit(). It is closed like any
 * other binding. NULL: out of memory. */
struct relay_binding *relay_inside_open(struct relay_table *t, struct relay_owner *o, uint32_t *bind_id) HT_MUST_USE;
/* The way to all visitors from inside is away, or is back again. What they would miss meanwhile, and for a moment
 * afterwards, begins anew: the time for a head, and the time to read an answer. */
void relay_inside_away(struct relay_table *t, bool away);
/* Makes a connection from inside this program a visitor of the binding, and owns it. `peer` counts as its address. */
void relay_inside_visit(struct relay_binding *b, struct io_conn *conn, const struct io_addr *peer);
/* Call it from mux_session_ops.room: visitors who wait for room may open streams again. */
void relay_owner_room(struct relay_table *t, struct relay_owner *o);
/*
 * The owner's session is away and may come back whole; its `mux`, if it has one, keeps the open streams. New visitors
 * wait up to hold_ms each before they are told that the session is parked. When descriptors run short, those who wait
 * like this give theirs up first. Harmless when the owner is away already.
 */
void relay_owner_away(struct relay_table *t, struct relay_owner *o);
/* The opposite, for a session that is back or will not come back. When `mux` is right again, call relay_owner_room().
 */
void relay_owner_back(struct relay_owner *o);
/* How many visitors wait for the owner. */
unsigned relay_owner_waiting(const struct relay_owner *o);
/* Gives all bindings of `from` to `to`, which has none. They keep their ids. Visitors stay, and open streams stay in
 * the session that they use. Visitors who wait now wait for `to`. */
void relay_owner_move(struct relay_table *t, struct relay_owner *from, struct relay_owner *to);
/* Closes all bindings, listeners and visitors of the owner. */
void relay_owner_drop(struct relay_table *t, struct relay_owner *o);
/* From now on a connection is closed after its answer. Visitors of a session that ends still get a 503. */
void relay_table_drain(struct relay_table *t);
/*
 * So many users have sessions here. When descriptors are scarce, visitors of those that have more of them than their
 * part are turned away first.
 */
void relay_table_set_users(struct relay_table *t, unsigned n);
/* How many more connections the visitors of a user may have if nobody else takes any. `share`: the user's. */
unsigned relay_permits_left(const struct relay_table *t, const struct io_share *share);

/* For the admin API and HELLO_OK's resumedBinds. Valid until the next bind or unbind. */
struct relay_binding_info {
    const struct relay_owner *owner;
    uint32_t bind_id;
    uint16_t port; /* 0: there is no listener */
    enum wire_kind kind;
    enum wire_mode mode;
    char bind_addr[IO_ADDR_TEXT]; /* host of the listener's address; "": there is no listener */
    unsigned visitors;            /* present connections, including those by name or host */
    const struct ht_slice *names; /* in normal form (wire/name.h); valid while the binding exists */
    size_t n_names;
    struct ht_slice ca;           /* certificates that the driver offers, as PEM; empty: none */
    const char *label;            /* the driver's label, safe to show (base/text.h); "": none */
    int64_t since;                /* when its present owner got it, in Unix seconds */
    const struct ht_slice *hosts; /* hosts at the front; valid while the binding exists */
    size_t n_hosts;
    const char *url; /* as in BIND_OK; "": none */
};
/* Calls `each` for all bindings, or only for those of `o` when it is not NULL. */
void relay_each_binding(const struct relay_table *t, const struct relay_owner *o,
                        void (*each)(void *ctx, const struct relay_binding_info *info), void *ctx);
unsigned relay_count_visitors(const struct relay_table *t);

/* ---- bindings that outlive their kit (restore.c) ---- */

/* A binding, so that another process can make it anew. */
struct relay_kept {
    struct wire_bind bind; /* what a BIND would say to get it, with the number of its port */
    uint32_t bind_id;
    int64_t since;                /* as in relay_binding_info */
    struct io_addr addr;          /* where it listens; len 0: it has no listener */
    struct io_listener *listener; /* NULL: none */
};
/* Calls each() for the bindings of `o`, in the order in which they were made. What *kept points to is valid during the
 * call. */
void relay_each_kept(const struct relay_table *t, const struct relay_owner *o,
                     void (*each)(void *ctx, const struct relay_kept *kept), void *ctx);
/*
 * Makes a binding of `o` anew, with the id and the time that *kept has. Nobody is asked for anything: what another
 * binding holds stays there. `listener` is not looked at: io_listen() takes an inherited socket. 0; HT_EINUSE: another
 * program has the port, and the caller may try again; another error, with *err: it cannot be had here any more.
 */
int relay_restore(struct relay_table *t, struct relay_owner *o, const struct relay_kept *kept,
                  struct ht_errmsg *err) HT_MUST_USE;
/* Stops accepting at the ports of `o`, or goes on. Visitors meanwhile wait in the kernel. */
void relay_owner_pause(struct relay_owner *o, bool pause);
/* Closes the listeners of `o`, which another process goes on with. Its bindings and their visitors stay. */
void relay_owner_let_go(struct relay_owner *o);
/* How many connections of visitors its bindings have. */
unsigned relay_owner_visitors(const struct relay_owner *o);
/* How many connections the front has between two requests, or before the first. */
unsigned relay_front_waiting(const struct relay_front *f);

#endif
