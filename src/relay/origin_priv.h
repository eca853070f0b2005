/*
 * What the files of the origin share; nobody else includes it.
 *
 *   origin_target.c    the target: its life, its lists, and which kind serves a stream
 *   origin_pool.c      connections to an HTTP service: dialled, kept, handed out again
 *   origin_http.c      one request from its stream to its end, called an exchange
 *   origin_request.c   the request's head, and its body on the way to the service
 *   origin_response.c  the service's answer on the way to the stream
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

/* How long a fresh connection may be without an answer while others are idle: of a service that is not known to serve
 * several at a time, and of one that is. */
#define ORIGIN_EASE_MS 100
#define ORIGIN_EASE_PARALLEL_MS 1000
/* For how long what was learnt about that is believed; and how often idle connections are closed of one that serves
 * several. */
#define ORIGIN_SHY_MS 60000
#define ORIGIN_EASE_AGAIN_MS 10000

/* What is read at once while an answer's head is awaited. What comes behind the head is copied once, so not too much.
 */
#define ORIGIN_HEAD_READ 16384
/* Exchanges that are kept with their buffers for the next request, and how large a buffer may stay. */
#define ORIGIN_KEEP_EXCHANGES 128
#define ORIGIN_KEEP_BUFFER 8192

struct relay_target {
    struct relay_target_config cfg;
    char *host;     /* cfg.host points here */
    char name[300]; /* host:port for messages and for a missing Host */

    uint32_t odd_told; /* enum http_odd: what the log knows of this service's answers */

    struct ht_list exchanges; /* live ones, struct origin_exchange */
    struct ht_list spare;     /* finished ones, kept for their buffers */
    struct ht_list tcp;       /* struct origin_tcp */
    unsigned n_active, n_spare;
    struct io_addr good;   /* the address that answered the last time; len 0: none */
    struct io_dial *probe; /* relay_target_probe() */
    uint64_t probe_us;     /* when it began */

    struct ht_list idle; /* struct origin_conn, the most recently used first */
    unsigned n_idle;
    struct io_timer idle_timer;
    struct ht_pool conns;
    /* A service that serves one connection at a time waits for the next request on an idle one, and sees no other. */
    unsigned n_fresh;      /* exchanges without a byte yet on connections that have served none */
    uint64_t fresh_ms;     /* when the last of them came, or one was answered */
    uint64_t parallel_ms;  /* when an answer came while another connection was idle: it serves several; 0: never */
    uint64_t eased_ms;     /* when idle ones were closed for those that wait; 0: never */
    uint64_t shy_until_ms; /* until then none becomes idle while one waits */
    struct io_timer ease_timer;

    /* Scratch of one callback: nothing in it lives longer. */
    struct http_head head;
    struct wire_header fields[HTTP_MAX_HEADERS];
    char scratch[ORIGIN_HEAD_READ];
};

/* A connection to an HTTP service. */
struct origin_conn {
    struct ht_list node; /* in target->idle while `x` is NULL */
    struct relay_target *t;
    struct io_conn *c;
    struct origin_exchange *x; /* whom it serves */
    uint64_t idle_since_ms;
    bool reused; /* has served another request before this one */
};

/* A head that did not come in one piece, and where its parser stands. */
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
    struct origin_conn *conn; /* then this */
    struct relay_pipe *pipe;  /* after a 101 */

    /* the request */
    struct ht_buf head; /* request head, then the peer's address for the report */
    uint32_t head_len;  /* bytes of it that go out */
    uint32_t method_len, target_len;
    struct io_out out;            /* what has not been written yet */
    struct io_task flush;         /* for a head that nothing follows in this turn */
    enum http_body_kind req_body; /* never HTTP_BODY_CLOSE */
    uint64_t req_left;            /* HTTP_BODY_LENGTH: bytes still to come */
    uint64_t consumed;            /* bytes whose credit went back */
    unsigned n_chunk_heads;
    char chunk_heads[ORIGIN_CHUNK_HEADS][ORIGIN_CHUNK_HEAD]; /* borrowed by `out` until it is flushed */
    struct ht_buf last_chunk; /* the one with trailers behind it; borrowed as well. Empty: one without */
    bool upgrade, head_request;
    bool replayable; /* idempotent (RFC 9110 9.2.2) and without a body */
    bool replayed;
    bool req_ended;   /* the visitor has sent everything */
    bool req_dropped; /* the rest of the body interests nobody: it is taken and thrown away */

    /* the answer */
    struct origin_partial *partial;
    struct ht_buf early; /* body bytes that came with the head */
    struct http_chunked chunked;
    struct ht_buf trailers; /* its lines behind the last chunk */
    enum http_body_kind resp_body;
    uint64_t resp_left;
    unsigned interims;
    bool fresh;              /* counted in the target's n_fresh */
    bool keep_alive;         /* the head allows another request */
    bool resp_begun;         /* a byte of it was seen */
    bool responded;          /* the final head went to the stream */
    bool resp_ended;         /* the body was read to its end */
    bool resp_sent;          /* ... and given to the stream, with its EOF */
    const char *resp_failed; /* why it ends here; told once what came before is out */

    /* the report */
    uint64_t started_us, bytes_in, bytes_out;
    uint32_t id; /* of the stream, which may be gone by then */
    uint16_t status;
};

#define ORIGIN_LOG_PORT(t) log_port((t)->cfg.container_port ? *(t)->cfg.container_port : 0)
/* A line of the debug level with these fields beside those that each has. Nothing is looked at when the level is off.
 */
#define ORIGIN_LOG(t, text, ...)                                                                                       \
    ht_log_with(HT_LOG_DEBUG, "origin",                                                                                \
                HT_LOG_FIELDS(log_session((t)->cfg.session), ORIGIN_LOG_PORT(t), log_target((t)->name), __VA_ARGS__),  \
                text)

/* ---- origin_pool.c ---- */

/* An idle connection, or NULL. One that was closed meanwhile, or has said something that nobody asked for, is none: the
 * next request would take it for its answer. */
struct origin_conn *origin_pool_take(struct relay_target *t);
/* Wraps a new connection. NULL: out of memory (it is closed). */
struct origin_conn *origin_pool_adopt(struct relay_target *t, struct io_conn *c) HT_MUST_USE;
/* The exchange is through with it: keep it, or close it. */
void origin_pool_put(struct origin_conn *oc);
void origin_pool_close(struct origin_conn *oc, const char *why);
/* The same with a reset: what was under way must not seem to have ended in order. */
void origin_pool_abort(struct origin_conn *oc);
/* Frees the record and hands the connection itself to the caller. */
struct io_conn *origin_pool_release(struct origin_conn *oc);
/* The exchange waits for its answer on a connection that has served nobody yet. */
void origin_pool_waits(struct origin_exchange *x);
/* A byte of an answer came. */
void origin_pool_answers(struct origin_exchange *x);
/* It waits no more. */
void origin_pool_waited(struct origin_exchange *x);
void origin_pool_init(struct relay_target *t);
void origin_pool_clear(struct relay_target *t);

/* ---- origin_http.c ---- */

void origin_http_serve(struct relay_target *t, struct mux_stream *st, const struct wire_stream_open *open);
void origin_http_abort(struct origin_exchange *x);
void origin_http_drain_spare(struct relay_target *t);
/* RESET with `code`, and the exchange is over: do not touch it afterwards. `text` is for people. */
void origin_http_fail(struct origin_exchange *x, uint16_t code, const char *text);
/* The same when there is no answer because of the service: the visitor is told which `error` it is (rule ANSWER-2). */
void origin_http_fail_as(struct origin_exchange *x, uint16_t code, enum wire_origin_error error, const char *text);
/* The connection broke or ended too early. The request is sent again where that is safe; else the exchange fails. */
void origin_http_lost(struct origin_exchange *x, const char *text);
/* The answer was read to its end, `extra`: with bytes behind it. Lets go of the connection. */
void origin_http_answered(struct origin_exchange *x, bool extra);
/* After a 101: takes the connection and the stream out of HTTP. */
void origin_http_become_pipe(struct origin_exchange *x, struct ht_slice early);

/* ---- origin_target.c ---- */

/* io_dial_start() to the target. */
struct io_dial *origin_dial(struct relay_target *t, const struct io_dial_ops *ops, void *ctx, struct ht_errmsg *err);
/* It stands: the next one goes to the same address. */
void origin_dialled(struct relay_target *t, struct io_conn *c, uint32_t stream, uint64_t began_us);
/* A line for a dial that failed. */
void origin_undialled(const struct relay_target *t, const char *why, uint32_t stream, uint64_t began_us);

/* What a connection that did not come about means for a visitor; `err` as in io_dial_ops.failed. */
enum wire_origin_error origin_error_of(int err);
/* The status that the kit gives its visitor for it. */
uint16_t origin_error_status(enum wire_origin_error error);
/* A RESET's reason: the error's word, a colon, the text. */
#define ORIGIN_REASON 512
const char *origin_reason(enum wire_origin_error error, const char *text, char out[ORIGIN_REASON]);

/* ---- origin_request.c ---- */

/* Builds x->head. 0, or an error with a text for RESET. */
int origin_request_build(struct origin_exchange *x, const struct wire_stream_open *open, const char **why) HT_MUST_USE;
/* Body bytes, the fields behind it, and the body's end into x->out. 0, or an error with a text. */
int origin_request_data(struct origin_exchange *x, const uint8_t *p, size_t n, const char **why) HT_MUST_USE;
int origin_request_trailers(struct origin_exchange *x, const struct wire_trailers *t, const char **why) HT_MUST_USE;
int origin_request_end(struct origin_exchange *x, const char **why) HT_MUST_USE;
/* Writes what it can and gives the credit back. */
void origin_request_flush(struct origin_exchange *x);
/* From now on the body goes nowhere. */
void origin_request_drop(struct origin_exchange *x);
/* Nothing is missing and everything was written. */
bool origin_request_is_sent(const struct origin_exchange *x);

/* ---- origin_response.c ---- */

/* The connection has bytes while a head is awaited. The exchange may be over afterwards. */
void origin_response_read_head(struct origin_exchange *x);
/* mux_stream_ops.pull */
ssize_t origin_response_pull(struct origin_exchange *x, uint8_t *out, size_t cap, unsigned *flags);
void origin_response_free_partial(struct origin_exchange *x);

/* ---- origin_tcp.c ---- */

/* `host` NULL: to the target. */
void origin_tcp_serve(struct relay_target *t, struct mux_stream *st, const struct wire_stream_open *open,
                      const char *host, uint16_t port, bool guarded);
void origin_tcp_abort_all(struct relay_target *t);

#endif
