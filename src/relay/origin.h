/*
 * The driver's side of the relay: it connects streams from the kit with local services.
 */
#ifndef HT_RELAY_ORIGIN_H
#define HT_RELAY_ORIGIN_H

#include "base/base.h"
#include "base/err.h"
#include "http/http.h"
#include "io/io.h"
#include "metrics_gen.h"
#include "mux/mux.h"
#include "relay/tap.h"
#include "wire_gen.h"

/* A report about a request or connection that has ended. All fields are valid during the call only. */
struct relay_request_info {
    struct ht_slice method, target, peer_addr;
    uint32_t stream_id;
    uint16_t status;     /* 0: no answer */
    bool answered;       /* the service has begun its answer, even if the answer failed later */
    uint16_t reset_code; /* 0: ended in order */
    uint64_t bytes_in;   /* from the visitor */
    uint64_t bytes_out;  /* to the visitor */
    uint64_t duration_us;
    const char *error;     /* why it failed, for a person; NULL: it did not */
    const char *authority; /* host:port of a stream by name; NULL: none */
};

/* An exchange that fails before its answer has begun. The texts are valid during the call only. */
struct relay_failure {
    struct ht_slice note; /* of relay_target_serve_noted(); empty: none */
    uint16_t status;      /* what the visitor gets */
    const char *code;     /* the same as a word for programs */
    const char *text;     /* and as a sentence for people */
    bool head;            /* the request was HEAD */
};

struct relay_target_config {
    struct io_loop *loop;
    const char *host;    /* copied; the path of a Unix socket begins with a slash */
    uint16_t port;       /* of a Unix socket 0 */
    bool both_loopbacks; /* the user gave no host, so `host` is 127.0.0.1: a service on ::1 is tried as well */
    enum wire_kind kind;
    struct io_tls *tls; /* TLS to the service; must outlive the target. NULL: none, as always with a Unix socket */
    uint64_t connect_timeout_ms;
    bool secret; /* requests hold secrets: memory that held requests is wiped */
    /* Returns true for the value of a response header field that must not go into the stream: a service may repeat a
     * secret that it got. May be NULL. */
    bool (*hides)(void *ctx, struct ht_slice value);
    /* Changes fields[0..n), at most `cap`, of an answer on its way into the stream, and returns their new number. May
     * be NULL. */
    size_t (*answers)(void *ctx, struct ht_slice note, uint16_t status, struct wire_header *fields, size_t n,
                      size_t cap);
    /* Answers a request in the place of the kit, and owns the stream then: true. False: the stream is reset, and the
     * kit answers. May be NULL. */
    bool (*fails)(void *ctx, struct mux_stream *st, const struct relay_failure *f);
    /* Called instead of io_dial_start(). `stream`: the id of the stream that needs the connection; 0: none does. NULL:
     * io_dial_start() is used. */
    struct io_dial *(*dial)(void *ctx, uint32_t stream, const struct io_dial_ops *ops, void *ops_ctx,
                            struct ht_errmsg *err);
    /* As io_dial_ops.allowed. NULL: all addresses are allowed. */
    bool (*allowed)(void *ctx, const struct io_addr *a);
    unsigned pool_size;    /* most idle connections that are kept to an HTTP service */
    uint64_t pool_idle_ms; /* how long an idle connection is kept */
    struct http_limits head_limits;
    struct ht_metrics *metrics; /* may be NULL */
    /* A request or TCP connection has ended. May be NULL. Must not destroy the target. */
    void (*finished)(void *ctx, const struct relay_request_info *info);
    /* Who is told of exchanges with an HTTP service; must outlive the target. NULL: nobody. */
    const struct relay_tap *tap;
    bool tells_cut; /* finished() is also called for requests that relay_target_destroy() cuts */
    /* relay_target_probe() has found no service. `status` is what visitors get while it is down. May be NULL. */
    void (*down)(void *ctx, const char *why, uint16_t status);
    void (*up)(void *ctx); /* it has found one. May be NULL */
    void *ctx;
    /* For log lines: the session's id and the port in the container, read when a line is written. May be NULL. */
    const char *session;
    const uint16_t *container_port;
};

struct relay_target;

/* NULL: out of memory. */
struct relay_target *relay_target_create(const struct relay_target_config *cfg) HT_MUST_USE;
/* Resets open streams and closes all connections. Clears the pointer. NULL is ignored. */
void relay_target_destroy(struct relay_target **t);
/* Serves a new stream: the target owns it from now on and calls mux_stream_accept(). `open` is valid during the call.
 */
void relay_target_serve(struct relay_target *t, struct mux_stream *st, const struct wire_stream_open *open);

/* The same for an HTTP stream, with a note for answers() and fails() of its exchange; copied. */
void relay_target_serve_noted(struct relay_target *t, struct mux_stream *st, const struct wire_stream_open *open,
                              struct ht_slice note);

/*
 * The same for a TCP stream with an authority. It connects to `host` and `port` instead of the target's own. `guarded`:
 * it refuses addresses that dest.h guards, such as those of this machine and link-local ones.
 */
void relay_target_serve_at(struct relay_target *t, struct mux_stream *st, const struct wire_stream_open *open,
                           const char *host, uint16_t port, bool guarded);

/* Connects once, sends nothing, and calls down() when that fails. Only for HTTP services, which tolerate it, and for
 * services with TLS, whose handshake shows most faults. */
void relay_target_probe(struct relay_target *t);

unsigned relay_target_active(const struct relay_target *t); /* streams being served */
unsigned relay_target_idle(const struct relay_target *t);   /* pooled connections */

#endif
