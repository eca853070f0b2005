/*
 * What the files of the origin share. No other room includes it.
 *
 *   origin_target.c    the target: its life, its lists, and which file serves a stream
 *   origin_pool.c      connections to an HTTP service: made, kept, used again
 *   origin_http.c      an exchange: one request with its answer, from STREAM_OPEN to the end
 *   origin_request.c   the request's head, and its body on its way to the service
 *   origin_response.c  the service's answer on its way to the stream
 *   origin_tcp.c       a raw connection
 */
#ifndef HT_RELAY_ORIGIN_PRIV_H
#define HT_RELAY_ORIGIN_PRIV_H

#include "base/buf.h"
#include "base/list.h"
#include "base/log.h"
#include "log_gen.h"
#include "relay/origin.h"
#include "relay/pipe.h"
#include "relay/trailers_priv.h"

/*
 * A service that serves one connection at a time waits for the next request on an idle connection, and never accepts a
 * new one. So idle connections are closed when a new connection gets no answer for ORIGIN_EASE_MS, or for
 * ORIGIN_EASE_PARALLEL_MS when the service is known to serve several connections at a time.
 */
#define ORIGIN_EASE_MS 100
#define ORIGIN_EASE_PARALLEL_MS 1000
/* How long such knowledge about a service is used. */
#define ORIGIN_SHY_MS 60000
/* How often idle connections are closed for a service that serves several connections at a time. */
#define ORIGIN_EASE_AGAIN_MS 10000

/* Most bytes read at once while an answer's head is awaited. Bytes behind the head are copied, so it is not large. */
#define ORIGIN_HEAD_READ 16384
/* How many finished exchanges are kept for new requests, and how large a buffer they may keep. */
#define ORIGIN_KEEP_EXCHANGES 128
#define ORIGIN_KEEP_BUFFER 8192

/* Addresses of the last connections that are kept, and how many of them have to come back as visitors to prove that the
 * tunnel leads back to itself. */
#define ORIGIN_OWN 64
#define ORIGIN_OWN_MET 8

/* Our own address of a connection to the service. */
struct origin_own {
    uint64_t hash;
    bool met; /* a visitor came from there */
};

struct relay_target {
    struct relay_target_config cfg;
    char *host;     /* cfg.host points here */
    char name[300]; /* host:port or unix:/path, for messages */

    uint32_t odd_told; /* enum http_odd, as bits: peculiarities of this service's answers that were logged */

    struct ht_list exchanges; /* struct origin_exchange in use */
    struct ht_list spare;     /* finished exchanges, kept for their buffers */
    struct ht_list tcp;       /* struct origin_tcp */
    unsigned n_active, n_spare;
    struct io_addr good;               /* the address that has answered last; len 0: none */
    struct origin_own own[ORIGIN_OWN]; /* a ring */
    unsigned n_own;                    /* entries written; at most twice the ring */
    struct io_dial *probe;             /* of relay_target_probe(); NULL: none */
    uint64_t probe_us;                 /* when it began */

    struct ht_list idle; /* struct origin_conn, the most recently used first */
    unsigned n_idle;
    struct io_timer idle_timer;
    struct ht_pool conns;
    /* For ORIGIN_EASE_MS: */
    unsigned n_fresh;      /* exchanges that wait for their first byte on a new connection */
    uint64_t fresh_ms;     /* when one of them began or got its first byte */
    uint64_t parallel_ms;  /* when an answer came while another connection was idle: it serves several; 0: never */
    uint64_t eased_ms;     /* when idle connections were closed last; 0: never */
    uint64_t shy_until_ms; /* until then a connection is not kept idle while an exchange waits on a new one */
    struct io_timer ease_timer;

    /* Scratch space of one callback: its content does not outlive the callback. */
    struct http_head head;
    struct wire_header fields[HTTP_MAX_HEADERS];
    char scratch[ORIGIN_HEAD_READ];
};

/* A connection to an HTTP service. */
struct origin_conn {
    struct ht_list node; /* in target->idle while `x` is NULL */
    struct relay_target *t;
    struct io_conn *c;
    struct origin_exchange *x; /* the exchange that uses it; NULL: idle */
    uint64_t idle_since_ms;
    bool reused; /* it has served another request before */
};

/* A head that comes in pieces: the parser's state and the bytes so far. */
struct origin_partial {
    struct http_head head;
    struct ht_buf buf;
};

#define ORIGIN_CHUNK_HEADS 8
#define ORIGIN_CHUNK_HEAD 20

struct origin_exchange {
    struct ht_list node;
    struct relay_target *t;
    struct mux_stream *st;
    struct io_dial *dial;     /* while a connection is being made */
    struct origin_conn *conn; /* once the connection is made */
    struct relay_pipe *pipe;  /* after a 101 */

    /* the request */
    struct ht_buf head; /* the request's head; behind it the peer's address, for the report, and the note */
    uint32_t head_len;  /* how many bytes of `head` are sent */
    uint32_t method_len, target_len, note_len;
    struct io_out out;            /* bytes that were not written yet */
    struct io_task flush;         /* writes a head behind which nothing comes in this turn */
    enum http_body_kind req_body; /* never HTTP_BODY_CLOSE */
    uint64_t req_left;            /* HTTP_BODY_LENGTH: bytes that have not come yet */
    uint64_t consumed;            /* bytes whose credit was given back */
    unsigned n_chunk_heads;
    char chunk_heads[ORIGIN_CHUNK_HEADS][ORIGIN_CHUNK_HEAD]; /* `out` borrows them until it is flushed */
    struct ht_buf last_chunk; /* the last chunk with its trailers; `out` borrows it. Empty: no trailers */
    bool upgrade, head_request;
    bool replayable; /* the request may be sent again: it is idempotent (RFC 9110 9.2.2) and has no body */
    bool replayed;
    bool req_ended;   /* the visitor has sent everything */
    bool req_dropped; /* the rest of the body is read and dropped */

    /* the answer */
    struct origin_partial *partial;
    struct ht_buf early; /* body bytes that came with the head */
    struct http_chunked chunked;
    struct ht_buf trailers; /* the field lines behind the last chunk */
    enum http_body_kind resp_body;
    uint64_t resp_left;
    unsigned interims;
    bool fresh;      /* counts in the target's n_fresh */
    bool keep_alive; /* the head allows another request on the connection */
    bool resp_begun; /* a byte of the answer has come */
    bool responded;  /* the final head went to the stream */
    bool resp_ended; /* the body was read to its end */
    bool resp_sent;  /* the whole body and EOF went to the stream */
    const char
        *resp_failed; /* why the answer is cut here; the stream fails after the bytes before it. NULL: it is not */

    void *tap; /* what the tap's begin() returned; NULL: it is off */
    enum relay_tap_fault fault;
    bool tapped_sent; /* RELAY_TAP_SENT was told */

    /* the report */
    uint64_t started_us, bytes_in, bytes_out;
    uint32_t id; /* the stream's id; the stream may no longer exist */
    uint16_t status;
};

#define ORIGIN_LOG_PORT(t) log_port((t)->cfg.container_port ? *(t)->cfg.container_port : 0)
/* Logs a line at level debug with these fields and the usual ones. Arguments are evaluated only when the level is on.
 */
#define ORIGIN_LOG(t, text, ...)                                                                                       \
    ht_log_with(HT_LOG_DEBUG, "origin",                                                                                \
                HT_LOG_FIELDS(log_session((t)->cfg.session), ORIGIN_LOG_PORT(t), log_target((t)->name), __VA_ARGS__),  \
                text)

/* Tells the tap, if there is one: ORIGIN_TAP(x, body, true, piece). */
#define ORIGIN_TAP(x, what, ...)                                                                                       \
    do {                                                                                                               \
        if (HT_UNLIKELY((x)->tap != NULL))                                                                             \
            (x)->t->cfg.tap->what((x)->tap, __VA_ARGS__);                                                              \
    } while (0)

/* ---- origin_pool.c ---- */

/* An idle connection; NULL: there is none. A connection that was closed meanwhile, or has sent bytes without a request,
 * is closed here and not returned: its bytes would be taken for the next answer. */
struct origin_conn *origin_pool_take(struct relay_target *t);
/* Makes a record for a new connection, and owns it. NULL: out of memory; the connection is closed. */
struct origin_conn *origin_pool_adopt(struct relay_target *t, struct io_conn *c) HT_MUST_USE;
/* The exchange no longer needs the connection: it is kept idle, or closed. */
void origin_pool_put(struct origin_conn *oc);
void origin_pool_close(struct origin_conn *oc, const char *why);
/* Closes with RST, so that the service does not take a cut request for a complete one. */
void origin_pool_abort(struct origin_conn *oc);
/* Frees the record and gives the connection to the caller. */
struct io_conn *origin_pool_release(struct origin_conn *oc);
/* The exchange waits for its answer on a new connection. */
void origin_pool_waits(struct origin_exchange *x);
/* The first byte of an answer has come. */
void origin_pool_answers(struct origin_exchange *x);
/* The exchange no longer waits on a new connection. */
void origin_pool_waited(struct origin_exchange *x);
void origin_pool_init(struct relay_target *t);
void origin_pool_clear(struct relay_target *t);

/* ---- origin_http.c ---- */

void origin_http_serve(struct relay_target *t, struct mux_stream *st, const struct wire_stream_open *open,
                       struct ht_slice note);
/* The note of the exchange; empty: none. */
struct ht_slice origin_http_note(const struct origin_exchange *x);
void origin_http_abort(struct origin_exchange *x);
void origin_http_drain_spare(struct relay_target *t);
/* Resets the stream with `code` and ends the exchange, which must not be used afterwards. `text` is for people. */
void origin_http_fail(struct origin_exchange *x, uint16_t code, const char *text);
/* The same when the service is the cause that there is no answer: the visitor learns the `error` (rule ANSWER-2). */
void origin_http_fail_as(struct origin_exchange *x, uint16_t code, enum wire_origin_error error, const char *text);
/* The connection has failed or ended too early. The request is sent again if that is safe; else the exchange fails. */
void origin_http_lost(struct origin_exchange *x, const char *text);
/* The answer was read to its end. `extra`: bytes follow it. Gives the connection back or closes it. */
void origin_http_answered(struct origin_exchange *x, bool extra);
/* After a 101: connection and stream become a pipe. `early` are bytes that came behind the head. */
void origin_http_become_pipe(struct origin_exchange *x, struct ht_slice early);

/* ---- origin_target.c ---- */

/* Dials the target for a stream, or for none (0); as io_dial_start(). */
struct io_dial *origin_dial(struct relay_target *t, uint32_t stream, const struct io_dial_ops *ops, void *ctx,
                            struct ht_errmsg *err);
/* A dial has succeeded: logs it, and remembers the address for the next dial. */
void origin_dialled(struct relay_target *t, struct io_conn *c, uint32_t stream, uint64_t began_us);
/* What Host says when a request has none. */
const char *origin_authority(const struct relay_target *t);
/* Logs a dial that has failed. */
void origin_undialled(const struct relay_target *t, const char *why, uint32_t stream, uint64_t began_us);

/* The spec's origin error for a failed dial; `err` as in io_dial_ops.failed. */
enum wire_origin_error origin_error_of(int err);
/* What the kit's visitor gets for it. */
struct relay_failure origin_failure(enum wire_origin_error error);
/* Writes a RESET's reason: the word of the error, a colon, and the text. Returns `out`. */
#define ORIGIN_REASON 512
const char *origin_reason(enum wire_origin_error error, const char *text, char out[ORIGIN_REASON]);

/* ---- origin_request.c ---- */

/* Builds x->head. 0, or an error with a text for RESET in *why. */
int origin_request_build(struct origin_exchange *x, const struct wire_stream_open *open, const char **why) HT_MUST_USE;
/* These add body bytes, the trailers, or the end of the body to x->out. 0, or an error with a text in *why. */
int origin_request_data(struct origin_exchange *x, const uint8_t *p, size_t n, const char **why) HT_MUST_USE;
int origin_request_trailers(struct origin_exchange *x, const struct wire_trailers *t, const char **why) HT_MUST_USE;
int origin_request_end(struct origin_exchange *x, const char **why) HT_MUST_USE;
/* Writes what the connection takes, and gives the credit of written bytes back. */
void origin_request_flush(struct origin_exchange *x);
/* From now on the rest of the body is dropped. */
void origin_request_drop(struct origin_exchange *x);
/* True when the whole request has come and was written. */
bool origin_request_is_sent(const struct origin_exchange *x);

/* ---- origin_response.c ---- */

/* The connection is readable while a head is awaited. The exchange may be freed. */
void origin_response_read_head(struct origin_exchange *x);
/* mux_stream_ops.pullv */
ssize_t origin_response_pull(struct origin_exchange *x, const struct iovec *to, int n_to, unsigned *flags);
void origin_response_free_partial(struct origin_exchange *x);

/* ---- origin_tcp.c ---- */

/* Serves a stream with a raw connection to `host` and `port`, or to the target when `host` is NULL. `guarded`: as in
 * relay_target_serve_at(). */
void origin_tcp_serve(struct relay_target *t, struct mux_stream *st, const struct wire_stream_open *open,
                      const char *host, uint16_t port, bool guarded);
void origin_tcp_abort_all(struct relay_target *t);

#endif
