/*
 * The inspector's page and API (spec/inspector.yaml): a web server on the driver's loop that shows what the store has,
 * and sends requests again.
 *
 *   server.c    connections, who may ask, which handler answers
 *   api.c       the handlers that read: exchanges, bodies, frames, search
 *   show.c      from the store's structures to those of the API
 *   feed.c      server-sent events
 *   replay.c    requests that are sent again
 *   har_out.c   HAR files that are written
 *   har_in.c    HAR files that are read
 */
#ifndef HT_INSPECT_SERVER_H
#define HT_INSPECT_SERVER_H

#include "inspect/store.h"
#include "inspect_api_gen.h"
#include "io/io.h"
#include "mux/mux.h"
#include "wire_gen.h"

/* What the driver tells. Texts are valid until the loop's next turn. */
struct inspect_link {
    enum inspect_api_link_state state;
    double rtt_ms;      /* < 0: not known */
    const char *kit;    /* its URL; NULL: none */
    double retry_in_ms; /* < 0: none */
    double grace_ms;    /* < 0: none */
    const char *reason; /* why it is not connected; NULL: none */
    /* How often it was lost, and nothing with it: how long it was away then, and what was sent again for that. */
    uint64_t pauses, paused_ms, longest_pause_ms, resent;
};

struct inspect_binding {
    int number; /* as inspect_exchange.binding */
    const char *name;
    bool pull;
    uint16_t port;       /* in the container; 0: none, or not yet */
    const char *url;     /* NULL: not known */
    const char *address; /* of the service */
    bool reachable;
};

struct inspect_server_config {
    struct io_loop *loop;
    struct inspect_store *store; /* must outlive the server */
    const char *host;            /* a literal address; copied */
    uint16_t port;               /* 0: one is picked */
    const char *token;           /* copied; never empty */
    const char *version;         /* of the program, for files; must outlive the server */
    void (*link)(void *ctx, struct inspect_link *out);
    /* The binding at place `index`, from 0. False: there are no more. */
    bool (*binding)(void *ctx, unsigned index, struct inspect_binding *out);
    /* Serves a stream as one of a visitor of that binding (relay_target_serve()), whose peer_addr is the mark of a
     * replay. Without such a binding, or when `number` is 0 and no HTTP service is exposed: false, and the stream is
     * still the caller's. */
    bool (*serve)(void *ctx, int number, struct mux_stream *st, const struct wire_stream_open *open);
    /* Connects to the kit anew, as SIGHUP does. */
    void (*reconnect)(void *ctx);
    void *ctx;
};

/*
 * Draws the QR code of a URL. The program sets it; NULL, as in the library, which has no such drawer: bindings have no
 * code. False: the text is too long for one, or there is no memory.
 */
#define INSPECT_QR_SIDE 177 /* modules of the largest code */

struct inspect_qr {
    unsigned size;                                       /* modules in a row */
    char rows[INSPECT_QR_SIDE][INSPECT_QR_SIDE / 4 + 2]; /* hexadecimal digits, as the spec has them */
};

extern bool (*inspect_draw_qr)(const char *text, struct inspect_qr *out);

struct inspect_server;

/* Listens. 0; or an error of io_listen() or HT_ENOMEM, with *err, and *s is NULL. */
int inspect_server_start(struct inspect_server **s, const struct inspect_server_config *cfg,
                         struct ht_errmsg *err) HT_MUST_USE;
/* Closes every connection. Clears the pointer. NULL is ignored. */
void inspect_server_stop(struct inspect_server **s);
uint16_t inspect_server_port(const struct inspect_server *s);
/* The link or a binding is not as it was: the readers of the feed are told. NULL is ignored. */
void inspect_server_link_changed(struct inspect_server *s);
void inspect_server_bindings_changed(struct inspect_server *s);

#endif
