/*
 * What the files of the guard share.
 *
 *   guard.c    hosts and their doors: made and freed
 *   entry.c    an incoming connection: the pair, TLS or plain, the visitor
 *   request.c  a request: checked, then refused or sent on with its secrets
 *   wait.c     requests that wait until a command has printed their secret
 *
 * A door is one port of a host, with TLS or without, and the binding and the target for it.
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
    struct ht_metrics metrics; /* of the relay inside; they are not used */
    struct io_fds fds;
    struct relay_table *table;
    struct relay_owner owner;
    struct relay_inner inner; /* between visitors and services */
    struct ht_list hosts;     /* struct guard_host */
    struct ht_list entries;   /* struct guard_entry */
    struct ht_list refusals;  /* as in relay/reply.h */
    unsigned n_entries;
    bool away; /* guard_away() */
    uint64_t last_id;
    struct wire_header fields[HTTP_MAX_HEADERS + GUARD_HEADERS_MAX]; /* scratch space of one callback */
};

struct guard_door {
    struct guard_host *h;
    uint16_t port;
    bool tls;    /* the program in the container uses TLS */
    bool secure; /* the service is reached by TLS, or is on this machine */
    uint32_t bind_id;
    struct relay_binding *binding;
    struct relay_target *target;
    struct ht_list requests; /* struct guard_running: allowed requests that have not ended */
};

/* A request. It exists from its head until it is refused or has ended. */
struct guard_running {
    struct ht_list node; /* in the door's list, once it is allowed */
    uint32_t stream_id;
    uint64_t began_us;
    struct guard_event event; /* points to `texts` and to texts of the policy */
    char texts[];
};

struct guard_host {
    struct ht_list node;
    struct guard *g;
    void *ctx; /* for events */
    char *name, *target;
    char host_field[300]; /* value of Host when the target has a name of its own; "": the request's Host stays */
    uint16_t target_port;
    enum guard_spoken spoken;
    struct io_tls *tls, *named; /* TLS to the service; named: checks the certificate for `name`, whatever is dialled */
    struct guard_policy *policy;
    struct io_task secrets; /* starts commands, and handles one that has ended */
    struct ht_errmsg why;   /* why a command has failed; "": none has */
    struct ht_list waiting; /* struct guard_waiting */
    struct io_tls_host *tls_host;
    struct guard_door doors[GUARD_DOORS_MAX];
    unsigned n_doors, n_entries;
    bool down; /* the service does not answer, and that was reported */
};

struct guard_entry {
    struct ht_list node;
    struct guard_host *h;
    uint16_t port;
    struct relay_pipe *pipe;
    struct io_conn *conn; /* the inner end; NULL once the handshake or the visitor owns it */
    struct io_accept *accept;
    struct io_timer timer;
    struct io_addr peer;
};

/* ---- guard.c ---- */

/* Finds or makes the door. NULL: the host has GUARD_DOORS_MAX, or out of memory. */
struct guard_door *guard_door_get(struct guard_host *h, uint16_t port, bool tls);
struct guard_door *guard_door_find(struct guard *g, uint32_t bind_id);

/* ---- entry.c ---- */

void guard_entries_cut(struct guard *g, const struct guard_host *h);

/* ---- request.c ---- */

/* Reads the secrets for an allowed request. If one cannot be read, the decision becomes a refusal, and *why says why.
 * 0, or HT_EAGAIN: a command has not printed a secret yet. */
int guard_request_load(struct guard_door *d, struct guard_decision *decision, struct ht_errmsg *why) HT_MUST_USE;
/* Carries out the decision. `why` is the text of guard_request_load(), or "". */
void guard_request_go(struct guard_door *d, struct mux_stream *st, const struct wire_stream_open *open, uint64_t id,
                      const struct guard_decision *decision, const char *why);
/* relay_inner_config.stream_open; ctx: the guard */
void guard_request_open(void *ctx, struct mux_stream *st, const struct wire_stream_open *open);
/* relay_target_config.finished and .hides; ctx: the door */
void guard_request_finished(void *ctx, const struct relay_request_info *info);
bool guard_request_hides(void *ctx, struct ht_slice value);

/* ---- wait.c ---- */

/* Keeps the request and its input until the host's secrets are read or have failed. */
void guard_waiting_add(struct guard_door *d, struct mux_stream *st, const struct wire_stream_open *open, uint64_t id,
                       const struct guard_decision *decision);
void guard_waiting_resume(struct guard_host *h);
void guard_waiting_cut(struct guard_host *h);

#endif
