/*
 * The driver's side of the relay: a stream from the kit on one end, a service on the laptop on the other.
 */
#ifndef HT_RELAY_ORIGIN_H
#define HT_RELAY_ORIGIN_H

#include "base/base.h"
#include "base/err.h"
#include "http/http.h"
#include "io/io.h"
#include "metrics_gen.h"
#include "mux/mux.h"
#include "wire_gen.h"

/* What the driver may want to show. All fields are only valid during the call. */
struct relay_request_info {
    struct ht_slice method, target, peer_addr;
    uint32_t stream_id;
    uint16_t status;     /* 0: no answer */
    bool answered;       /* the service had begun its answer, whatever came of it */
    uint16_t reset_code; /* 0: ended in order */
    uint64_t bytes_in;   /* from the visitor */
    uint64_t bytes_out;  /* to the visitor */
    uint64_t duration_us;
    const char *error;     /* NULL, or why it failed, for a person */
    const char *authority; /* of a stream by name; NULL: none */
};

struct relay_target_config {
    struct io_loop *loop;
    const char *host; /* copied */
    uint16_t port;
    bool both_loopbacks; /* `host` is 127.0.0.1 because nobody named one: a service on ::1 is meant as well */
    enum wire_kind kind;
    struct io_tls *tls; /* spoken to the service; outlives the target. NULL: none */
    uint64_t connect_timeout_ms;
    bool secret; /* requests hold secrets: memory that they were in is wiped */
    /* A header field's value of an answer that the stream must not get, for a service repeats what it was sent. May be
     * NULL. */
    bool (*hides)(void *ctx, struct ht_slice value);
    /* Instead of io_dial_start(). NULL: that. */
    struct io_dial *(*dial)(void *ctx, const struct io_dial_ops *ops, void *ops_ctx, struct ht_errmsg *err);
    /* io_dial_ops.allowed. NULL: all may. */
    bool (*allowed)(void *ctx, const struct io_addr *a);
    unsigned pool_size;    /* idle connections kept to an HTTP service */
    uint64_t pool_idle_ms; /* and for how long */
    struct http_limits head_limits;
    struct ht_metrics *metrics; /* may be NULL */
    /* A request or a TCP connection is over. May be NULL. Must not destroy the target. */
    void (*finished)(void *ctx, const struct relay_request_info *info);
    bool tells_cut; /* finished() also comes for requests that relay_target_destroy() cuts */
    /* What relay_target_probe() has found; `status`: what visitors get meanwhile. May be NULL. */
    void (*down)(void *ctx, const char *why, uint16_t status);
    void *ctx;
    /* For the log, and looked at then: the session's id and the port in the container. May be NULL. */
    const char *session;
    const uint16_t *container_port;
};

struct relay_target;

struct relay_target *relay_target_create(const struct relay_target_config *cfg) HT_MUST_USE;
/* Resets open streams, closes the pool. Clears the pointer. NULL is ignored. */
void relay_target_destroy(struct relay_target **t);
/* Takes a new stream: from now on it belongs to the target (mux_stream_accept is called here). `open` is only borrowed.
 */
void relay_target_serve(struct relay_target *t, struct mux_stream *st, const struct wire_stream_open *open);

/*
 * The same for a TCP stream with an authority, which is led to `host` instead of the target's own. `guarded`: not to an
 * address of this machine, a link-local or another one that dest.h guards.
 */
void relay_target_serve_at(struct relay_target *t, struct mux_stream *st, const struct wire_stream_open *open,
                           const char *host, uint16_t port, bool guarded);

/* Connects once, says nothing, and tells down() when nobody is there. Only for HTTP, which is used to that, and for
 * TLS, whose handshake has much to tell. */
void relay_target_probe(struct relay_target *t);

unsigned relay_target_active(const struct relay_target *t); /* streams being served */
unsigned relay_target_idle(const struct relay_target *t);   /* pooled connections */

#endif
