/*
 * What the files of the guard share.
 *
 *   guard.c    life: hosts, and their doors
 *   entry.c    a connection on its way in: the pair, TLS or not, the visitor
 *   request.c  what becomes of a request: checked, refused, or sent on with its secrets
 *   wait.c     requests whose secret a command has not said yet
 */
#ifndef HT_GUARD_GUARD_PRIV_H
#define HT_GUARD_GUARD_PRIV_H

#include "base/list.h"
#include "guard/guard.h"
#include "relay/inner.h"
#include "relay/kit.h"
#include "relay/origin.h"
#include "relay/pipe.h"

struct guard {
    struct guard_config cfg;
    struct ht_metrics metrics; /* of the relay inside; nobody looks at them */
    struct io_fds fds;
    struct relay_table *table;
    struct relay_owner owner;
    struct relay_inner inner; /* between visitors and services */
    struct ht_list hosts;     /* struct guard_host */
    struct ht_list entries;   /* struct guard_entry */
    struct ht_list refusals;  /* struct guard_refusal */
    unsigned n_entries;
    uint64_t last_id;
    struct wire_header fields[HTTP_MAX_HEADERS + GUARD_HEADERS_MAX]; /* scratch of one callback */
};

/* A port of a host, with TLS or without. */
struct guard_door {
    struct guard_host *h;
    uint16_t port;
    bool tls;    /* in the container */
    bool secure; /* the way to the service is */
    uint32_t bind_id;
    struct relay_binding *binding;
    struct relay_target *target;
    struct ht_list requests; /* struct guard_running: allowed, and not over */
};

/* A request from its head on; one that is allowed until it is over. */
struct guard_running {
    struct ht_list node; /* in the door's list, once it is allowed */
    uint32_t stream_id;
    uint64_t began_us;
    struct guard_event event; /* its texts are in `texts`, or the policy's */
    char texts[];
};

struct guard_host {
    struct ht_list node;
    struct guard *g;
    void *ctx; /* for events */
    char *name, *target;
    char host_field[300]; /* Host for a service that another URL names; "": the request's own */
    uint16_t target_port;
    enum guard_spoken spoken;
    struct io_tls *tls, *named; /* for the service; one that checks for the name wherever it is dialled */
    struct guard_policy *policy;
    struct io_task secrets; /* commands are to be started, or one has ended */
    struct ht_errmsg why;   /* it failed; "": it did not */
    struct ht_list waiting; /* struct guard_waiting */
    struct io_ending *ending;
    struct guard_door doors[GUARD_DOORS_MAX];
    unsigned n_doors, n_entries;
    bool down; /* the service does not answer, and that was told */
};

struct guard_entry {
    struct ht_list node;
    struct guard_host *h;
    uint16_t port;
    struct relay_pipe *pipe;
    struct io_conn *conn; /* the inner end, until it is somebody else's */
    struct io_accept *accept;
    struct io_timer timer;
    struct io_addr peer;
};

/* ---- guard.c ---- */

/* NULL: too many, or out of memory. */
struct guard_door *guard_door_get(struct guard_host *h, uint16_t port, bool tls);
struct guard_door *guard_door_find(struct guard *g, uint32_t bind_id);

/* ---- entry.c ---- */

void guard_entries_cut(struct guard *g, const struct guard_host *h);

/* ---- request.c ---- */

/* Reads the secrets of a request that passes; one that cannot be read changes the decision, and *why says why.
 * HT_EAGAIN: they are awaited. */
int guard_request_load(struct guard_door *d, struct guard_decision *decision, struct ht_errmsg *why) HT_MUST_USE;
/* Does what was decided; `why` is "" or guard_request_load()'s. */
void guard_request_go(struct guard_door *d, struct mux_stream *st, const struct wire_stream_open *open, uint64_t id,
                      const struct guard_decision *decision, const char *why);
/* relay_inner_config.stream_open; ctx: the guard */
void guard_request_open(void *ctx, struct mux_stream *st, const struct wire_stream_open *open);
/* relay_target_config.finished and .hides; ctx: the door */
void guard_request_finished(void *ctx, const struct relay_request_info *info);
bool guard_request_hides(void *ctx, struct ht_slice value);
void guard_refusals_drop(struct guard *g);

/* ---- wait.c ---- */

/* Keeps the request with what comes of it, until the host's secrets are there or cannot be had. */
void guard_waiting_add(struct guard_door *d, struct mux_stream *st, const struct wire_stream_open *open, uint64_t id,
                       const struct guard_decision *decision);
void guard_waiting_resume(struct guard_host *h);
void guard_waiting_cut(struct guard_host *h);

#endif
