/*
 * A small HTTP/1.1 server and client for the pages and APIs of this program. It serves one request after another, and
 * reads the body of a request only where its owner wants it. It knows sockets and HTTP, and neither tunnels nor the
 * content that is served.
 *
 *   server.c   one connection of a server: heads, bodies, time limits, answers, streams, upgrades
 *   client.c   one request and its answer
 *   sse.c      reads server-sent events
 */
#ifndef HT_WEB_WEB_H
#define HT_WEB_WEB_H

#include "base/base.h"
#include "base/buf.h"
#include "base/err.h"
#include "http/http.h"
#include "io/io.h"

/* ---- server ---- */

struct web_conn;

struct web_server_ops {
    /*
     * A head has come: c->head, with its bytes at web_bytes(). The callee calls web_reply(), web_stream() or
     * web_upgrade(), and returns the result; or web_take_body() or web_later(). A body is not read otherwise: for a
     * request with one c->close_after is set already, so that it cannot be taken for the next request (hardening case
     * 2).
     */
    bool (*request)(struct web_conn *c);
    /* After web_take_body(): the next bytes of the body, valid during the call. With `last`, which may come with no
     * bytes, the callee answers as in request(). It may answer before; the connection is then closed behind that. NULL
     * for a server that takes no bodies. */
    bool (*body)(struct web_conn *c, struct ht_slice piece, bool last);
    /* The head or the body is not valid, the body is too long (413), or one of them did not come in time (408). The
     * callee calls web_reply() once and returns the result. `text` is static and needs no escaping. */
    bool (*refuse)(struct web_conn *c, uint16_t status, const char *text);
    /* A stream was quiet for tick_ms. The callee may append to c->out.queue and flush. NULL for a server without
     * streams. */
    void (*tick)(struct web_conn *c);
    /* All that a stream had to write is written, after it had to wait. The callee may go on as in tick(). May be NULL.
     */
    void (*drained)(struct web_conn *c);
    /* The answer to an upgrade was written. The callee calls web_conn_take(), takes the bytes behind the request from
     * c->in, and calls web_conn_close(). NULL for a server without upgrades. */
    void (*upgraded)(struct web_conn *c);
    /* The connection is closed. The owner may free the memory. */
    void (*gone)(struct web_conn *c);
};

#define WEB_BODY_STEP (64u * 1024u)

/* The settings of a server; they must outlive its connections. */
struct web_server {
    const struct web_server_ops *ops;
    struct http_limits limits;
    uint64_t head_timeout_ms; /* for a head: from its first byte, and from the start of the connection; 0: for ever */
    uint64_t body_timeout_ms; /* for each WEB_BODY_STEP bytes of a body; 0: for ever */
    uint64_t keepalive_timeout_ms; /* between two requests; 0: for ever */
    uint64_t write_timeout_ms;     /* for an answer that the peer does not read; 0: for ever */
    uint64_t tick_ms;              /* between two ticks of a stream; 0: none */
};

enum web_state {
    WEB_IDLE,    /* no byte of a request has come */
    WEB_HEAD,    /* bytes of a head have come, or the answer is being written */
    WEB_BODY,    /* the body is read */
    WEB_WAIT,    /* the answer comes later; nothing is read */
    WEB_STREAM,  /* an answer without an end; no further request is read */
    WEB_UPGRADE, /* upgraded() is called when the answer is written */
};

/* One connection of a server; a member of its owner's structure. The owner may read all fields, and may write
 * close_after and out.queue. */
struct web_conn {
    const struct web_server *server;
    struct io_conn *io;
    struct ht_buf in;
    struct io_out out;
    struct io_timer timer;
    enum web_state state;
    bool no_body;     /* the request is HEAD */
    bool close_after; /* close when everything is written; the connection then lingers (hardening case 2) */
    struct http_head head;
    /* Of a body that is read: */
    struct http_chunked chunked;
    uint64_t body_left; /* with a length: bytes that have not come yet */
    uint64_t body_got, body_max;
    uint64_t body_step; /* body_got at which its owner has more time again */
    bool body_whole;
};

/* Starts serving `io`, which `c` owns from now on. `c` must be zero-initialised. Bytes that have come already are
 * served at once, so `c` may be gone when this returns. */
void web_conn_begin(struct web_conn *c, struct io_loop *loop, const struct web_server *server, struct io_conn *io);
/* The same, and *said was read from it already. Takes what is in there. */
void web_conn_adopt(struct web_conn *c, struct io_loop *loop, const struct web_server *server, struct io_conn *io,
                    struct ht_buf *said);
/* At once; calls gone(). */
void web_conn_close(struct web_conn *c);
/* Takes the connection out of its web_conn, which must be closed next. The caller owns the result. */
struct io_conn *web_conn_take(struct web_conn *c);
/* True while output waits to be written. */
bool web_conn_busy(const struct web_conn *c);
/* Writes what the connection takes. False: the connection is gone. Not inside request() and refuse(): a flush follows
 * them. */
bool web_conn_flush(struct web_conn *c);

/* Parts of the present request: the bytes of its head, the path without the query, and the value of a field; empty:
 * there is no such field. */
const char *web_bytes(const struct web_conn *c);
struct ht_slice web_path(const struct web_conn *c);
struct ht_slice web_field(const struct web_conn *c, const char *name);

struct web_reply {
    uint16_t status;
    const char *type;     /* Content-Type; NULL: none */
    struct ht_slice body; /* for HEAD only its length is sent */
    const char *extra;    /* more header lines, each with CRLF; NULL: none */
};

/* Each of these returns false when there is no memory; the connection is then gone. */

/* Answers the request. */
bool web_reply(struct web_conn *c, const struct web_reply *r) HT_MUST_USE;
/* Begins an answer without a length. The owner appends more to c->out.queue. The answer ends with web_conn_close(), or
 * when everything is written after c->close_after was set. */
bool web_stream(struct web_conn *c, const struct web_reply *r) HT_MUST_USE;
/* Sends the answer to an upgrade, which is in c->out.queue already. `rc` is the result of writing it there. */
bool web_upgrade(struct web_conn *c, int rc) HT_MUST_USE;

/* In request(): the body is read, at most `max` bytes of it, and comes by body(). The head, and all that points into
 * it, is gone when request() returns. */
bool web_take_body(struct web_conn *c, uint64_t max) HT_MUST_USE;
/* In request() and body(): the answer comes by web_answer(). The connection may be closed before; gone() tells. */
bool web_later(struct web_conn *c) HT_MUST_USE;
/* Answers a request that web_later() let wait. The connection may be gone when this returns. */
void web_answer(struct web_conn *c, const struct web_reply *r);

/* ---- client ---- */

struct web_ask {
    const char *socket; /* the path of a Unix socket to ask there, without TLS; NULL: at the host */
    const char *host;   /* as for io_dial_start() */
    uint16_t port;
    bool tls;
    const struct io_proxy *via; /* NULL: directly; it must outlive the request */
    const char *ca;             /* a file of those to trust; NULL or "": the system's */
    const char *pin;            /* the fingerprint of the only certificate to take, or NULL */
    const char *host_field;     /* for Host, and for messages */
    const char *method, *path;  /* NULL: GET; origin-form with the query */
    const char *user_agent;     /* or NULL */
    const char *token;          /* NULL or "": none is shown */
    const char *extra;          /* more header lines, each with CRLF; NULL: none */
    struct ht_slice body;       /* JSON; .p is NULL: the request has none */
    uint64_t timeout_ms;        /* for the whole answer, or with quiet_ms for its head */
    uint64_t quiet_ms; /* longest time without a byte, for an answer without an end; 0: the answer has an end */
};

struct web_request;

struct web_request_ops {
    void (*head)(void *ctx, uint16_t status);
    int (*piece)(void *ctx, struct ht_slice body);        /* 0, or an error that ends the request */
    void (*done)(void *ctx, int rc, const char *why_not); /* the last call; 0: the answer was complete */
};

/*
 * Sends a request and reports the answer through `ops`. Copies what it needs of `ask`. The caller owns *request. 0, or
 * an error with *err, such as HT_ETLS (the CA file); *request is then NULL.
 */
int web_request_start(struct web_request **request, struct io_loop *loop, const struct web_ask *ask,
                      const struct web_request_ops *ops, void *ctx, struct ht_errmsg *err) HT_MUST_USE;
/* Not from inside its callbacks. Clears the pointer. NULL is ignored. */
void web_request_destroy(struct web_request **request);

#define WEB_ANSWER_MAX (16u * 1024u * 1024u)

struct web_answer {
    uint16_t status;
    struct ht_buf body; /* with a NUL behind it that does not count */
};

/* The same on a loop of its own; it blocks until the answer is complete. 0: the caller frees answer->body. Otherwise a
 * negative error with *err, such as HT_ELIMIT: the answer is longer than WEB_ANSWER_MAX. */
int web_fetch(const struct web_ask *ask, struct web_answer *answer, struct ht_errmsg *err) HT_MUST_USE;

/* ---- server-sent events ---- */

#define WEB_SSE_MAX (64u * 1024u) /* most bytes of an event */

/* A reader of server-sent events (HTML, 9.2.6). Zero-initialise it before each stream. */
struct web_sse {
    struct ht_buf line, data, id; /* the present line so far; the data of the event so far; the last id */
    bool cr;                      /* the last byte was a CR: an LF behind it belongs to the same line end */
};

/* Reads bytes and calls event() for each complete event. `data` has no newline at its end; `id` is the last id that has
 * come, or "". Both have a NUL behind them that does not count, and are valid during the call. 0, HT_ELIMIT (an event
 * is too long) or HT_ENOMEM. */
int web_sse_feed(struct web_sse *s, struct ht_slice bytes,
                 void (*event)(void *ctx, struct ht_slice data, const char *id), void *ctx) HT_MUST_USE;
void web_sse_free(struct web_sse *s);

#endif
