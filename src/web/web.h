/*
 * A small HTTP/1.1 server and client for the pages and APIs of this program. It serves one request after another and
 * reads no request bodies. It knows sockets and HTTP, and neither tunnels nor the content that is served.
 *
 *   server.c   one connection of a server: heads, time limits, answers, streams, upgrades
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
     * A head has come: c->head, its bytes at web_bytes(). Calls web_reply(), web_stream() or web_upgrade(), and returns
     * false when one of them says that the connection is gone. c->close_after is set already for a request with a body,
     * which is never read, so that it cannot be taken for the next request (hardening case 2).
     */
    bool (*request)(struct web_conn *c);
    /* A head that cannot be read or did not come in time (408): calls web_reply() once, and returns what that said.
     * `text` is static and needs no escaping. */
    bool (*refuse)(struct web_conn *c, uint16_t status, const char *text);
    /* A stream was quiet for tick_ms. May append to c->out.queue and flush. NULL without streams. */
    void (*tick)(struct web_conn *c);
    /* The answer to an upgrade has left: web_conn_take(), what came behind the request is in c->in, then
     * web_conn_close(). NULL without upgrades. */
    void (*upgraded)(struct web_conn *c);
    /* It is over and closed; the memory is its owner's again. */
    void (*gone)(struct web_conn *c);
};

/* What the connections of a server have in common; it outlives them. */
struct web_server {
    const struct web_server_ops *ops;
    struct http_limits limits;
    /* For a head, from its first byte and from the start of a connection; between two requests; for an answer that
     * nobody reads; between the ticks of a stream. 0: for ever. */
    uint64_t head_timeout_ms, keepalive_timeout_ms, write_timeout_ms, tick_ms;
};

enum web_state {
    WEB_IDLE,    /* nothing of a request has come */
    WEB_HEAD,    /* bytes of a head have come: its time runs; or its answer waits for the reader */
    WEB_STREAM,  /* an answer without an end: nothing is expected of the peer but that it leaves */
    WEB_UPGRADE, /* once the answer has left, somebody else takes the connection */
};

/* One connection of a server, part of what its owner keeps of it. To read: all; to write: close_after, out.queue. */
struct web_conn {
    const struct web_server *server;
    struct io_conn *io;
    struct ht_buf in;
    struct io_out out;
    struct io_timer timer;
    enum web_state state;
    bool no_body;     /* the request is HEAD */
    bool close_after; /* once what is to be written has left; then it lingers (hardening case 2) */
    struct http_head head;
};

/* `c` is zeros; takes `io`. What has come already is served at once, so that `c` may be gone when this returns. */
void web_conn_begin(struct web_conn *c, struct io_loop *loop, const struct web_server *server, struct io_conn *io);
/* At once; calls gone(). */
void web_conn_close(struct web_conn *c);
/* The connection without its web_conn, which is to be closed next. */
struct io_conn *web_conn_take(struct web_conn *c);
/* Whether something waits to be written. */
bool web_conn_busy(const struct web_conn *c);
/* Writes what it can. False: the connection is gone. Not from inside request() and refuse(): it follows them. */
bool web_conn_flush(struct web_conn *c);

/* Of the present request: the bytes of its head; the path without the query; a field's value, empty when there is none.
 */
const char *web_bytes(const struct web_conn *c);
struct ht_slice web_path(const struct web_conn *c);
struct ht_slice web_field(const struct web_conn *c, const char *name);

struct web_reply {
    uint16_t status;
    const char *type;     /* Content-Type, or NULL */
    struct ht_slice body; /* of HEAD its length alone is sent */
    const char *extra;    /* header lines, each with its CRLF, or NULL */
};

/* Each of these returns false when there is no memory: the connection is gone then. */

/* Answers the request. */
bool web_reply(struct web_conn *c, const struct web_reply *r) HT_MUST_USE;
/* Begins an answer without a length; more goes into c->out.queue. It ends with web_conn_close(), or once everything has
 * left after c->close_after was set. */
bool web_stream(struct web_conn *c, const struct web_reply *r) HT_MUST_USE;
/* The answer is in c->out.queue already (`rc`: what writing it there came to). */
bool web_upgrade(struct web_conn *c, int rc) HT_MUST_USE;

/* ---- client ---- */

struct web_ask {
    const char *host; /* as io_dial_start() wants it */
    uint16_t port;
    bool tls;
    const char *ca;            /* a file of those to trust; NULL or "": the system's */
    const char *host_field;    /* for Host, and for messages */
    const char *method, *path; /* NULL: GET; origin-form with the query */
    const char *user_agent;    /* or NULL */
    const char *token;         /* NULL or "": none is shown */
    uint64_t timeout_ms;       /* for the whole answer; with quiet_ms for its head */
    uint64_t quiet_ms;         /* an answer without an end: the longest time without a byte; 0: it has one */
};

struct web_request;

struct web_request_ops {
    void (*head)(void *ctx, uint16_t status);
    int (*piece)(void *ctx, struct ht_slice body);        /* 0, or an error that ends the request */
    void (*done)(void *ctx, int rc, const char *why_not); /* the last call; 0: the answer was complete */
};

/*
 * Asks, and tells what comes through `ops`; what `ask` points to may go once this has returned. 0, or an error with
 * *err: HT_ETLS (the CA file) and others; *request is NULL then.
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

/* The same on a loop of its own. 0: *answer is filled (free answer->body). Else a negative error with *err; HT_ELIMIT:
 * it is longer than WEB_ANSWER_MAX. */
int web_fetch(const struct web_ask *ask, struct web_answer *answer, struct ht_errmsg *err) HT_MUST_USE;

/* ---- server-sent events ---- */

#define WEB_SSE_MAX (64u * 1024u) /* one event */

/* A stream of server-sent events (HTML, 9.2.6). Zero-initialised is the start of one. */
struct web_sse {
    struct ht_buf line, data, id; /* what has come of the present line; the data so far; the last id */
    bool cr;                      /* the last byte was a CR: an LF behind it belongs to it */
};

/* Takes bytes; calls `event` for each whole one: `data` without the last newline, `id` the last one that came, or "".
 * Both end in a NUL that does not count. 0, HT_ELIMIT, HT_ENOMEM. */
int web_sse_feed(struct web_sse *s, struct ht_slice bytes,
                 void (*event)(void *ctx, struct ht_slice data, const char *id), void *ctx) HT_MUST_USE;
void web_sse_free(struct web_sse *s);

#endif
