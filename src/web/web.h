/*
 * The small HTTP/1.1 client that our own programs ask with. It knows sockets and HTTP, and neither tunnels nor what is
 * asked for.
 *
 *   client.c   one request and its answer
 *   sse.c      the reader of server-sent events
 */
#ifndef HT_WEB_WEB_H
#define HT_WEB_WEB_H

#include "base/base.h"
#include "base/buf.h"
#include "base/err.h"
#include "http/http.h"
#include "io/io.h"

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
