/* What the files of the server share. No other room includes it. */
#ifndef HT_INSPECT_SERVER_PRIV_H
#define HT_INSPECT_SERVER_PRIV_H

#include "inspect/har.h"
#include "inspect/server.h"
#include "relay/inner.h"
#include "web/web.h"

#define INSPECT_API_BASE "/api/v1/inspector"
#define INSPECT_CLIENTS 64u
#define INSPECT_READERS 16u
#define INSPECT_REPLAYS 16u        /* under way at once */
#define INSPECT_WATCHED 16u        /* exchanges whose frames are told */
#define INSPECT_WATCH_MS 60000u    /* how long after somebody has fetched them */
#define INSPECT_TARGET_SHOWN 8192u /* bytes of a target in an answer */
#define INSPECT_DECODED_MAX (64u * 1024u * 1024u)
#define INSPECT_SECONDS 60u /* of traffic */

/* What an answer becomes after its handler. */
enum client_role {
    CLIENT_PLAIN,
    CLIENT_FEED,   /* a reader of events */
    CLIENT_EXPORT, /* a HAR file is written piece by piece */
    CLIENT_IMPORT, /* the answer comes when the file was read */
    CLIENT_REPLAY, /* the answer comes when the request was sent */
};

/* A connection, and its present request. */
struct client {
    struct ht_list node;
    struct inspect_server *s;
    struct web_conn web;
    enum client_role role;
    char method[16];
    struct ht_buf target, body;
    struct ht_list reader; /* CLIENT_FEED: node in s->readers */
    bool behind;           /* CLIENT_FEED: it was too slow: a snapshot comes next */
    struct io_timer go_on; /* CLIENT_EXPORT, CLIENT_IMPORT: the next part of the work */
    uint64_t *ids;         /* CLIENT_EXPORT: those that are asked for; NULL: all */
    size_t n_ids, at_id;
    uint64_t next_id, end_id;
    bool secrets, not_first;
    struct har_in *import;
    struct replay *replay; /* CLIENT_REPLAY: the one it waits for; NULL: none */
};

/* What the feed remembers of an exchange; a ring by id. */
struct feed_mark {
    uint64_t id, sent_ms, request, response; /* the last two: bytes that were counted as traffic */
    bool dirty;
};

#define FEED_MARKS 16384u

struct feed {
    struct inspect_observer observer;
    struct ht_list readers; /* struct client */
    unsigned n_readers;
    struct feed_mark *marks; /* FEED_MARKS of them while somebody reads */
    struct ht_buf dirty;     /* of uint64_t: ids to tell of */
    struct ht_buf removed;   /* the same: ids that are gone */
    struct ht_buf batch;     /* events for all readers */
    bool lost;               /* the batch became too long */
    struct io_timer tick, second;
    struct {
        uint64_t id, until_ms;
    } watched[INSPECT_WATCHED];
    uint64_t traffic[INSPECT_SECONDS]; /* a ring */
    unsigned oldest;
    uint64_t in, out, begun; /* in this second */
    struct inspect_api_rates rates;
};

/* A request that is sent again. */
struct replay {
    struct ht_list node;
    struct inspect_server *s;
    struct client *client; /* who waits for it; NULL: nobody any more */
    uint64_t original, id; /* id: 0: it is not in the store yet */
    int binding;
    bool edited, opened;  /* opened: its stream was */
    uint16_t port;        /* of its visitor's address: how its stream is known */
    struct io_conn *conn; /* the visitor's */
    struct io_out out;
    struct io_task tell; /* its client gets the answer */
    struct io_timer timer;
    char first[80]; /* the first line of an answer that came before there was an exchange */
};

struct inspect_server {
    struct inspect_server_config cfg;
    char *host, *token;
    char authority[3][32]; /* the names of this machine with the port, as Host has them */
    struct io_listener *listener;
    struct web_server web;
    struct ht_list clients;
    unsigned n_clients;
    struct feed feed;
    /* replay.c */
    struct io_fds fds;
    struct ht_metrics metrics; /* of the relay inside; they are not used */
    struct relay_table *table;
    struct relay_owner owner;
    struct relay_inner inner;
    struct relay_binding *binding;
    struct ht_list replays;
    unsigned n_replays;
    uint16_t next_port;
    unsigned n_imports;
};

struct client *client_of(struct web_conn *web);
/* The exchange with that id as text; NULL: there is none. */
const struct inspect_exchange *exchange_of(const struct inspect_server *s, const char *id);
/* Answers a request that waited, with what `res` has; frees it. */
void client_answer(struct client *c, struct inspect_api_response *res);
/* Header lines of each answer that is not the page. */
#define API_HEADERS                                                                                                    \
    "Cache-Control: no-store\r\nX-Content-Type-Options: nosniff\r\nReferrer-Policy: no-referrer\r\n"                   \
    "Cross-Origin-Resource-Policy: same-origin\r\nCross-Origin-Opener-Policy: same-origin\r\n"

/* ---- api.c: handlers; ctx is the client ---- */

int api_state(void *ctx, const struct inspect_api_request *req, struct inspect_api_response *res);
int api_find(void *ctx, const struct inspect_api_request *req, struct inspect_api_response *res);
int api_clear(void *ctx, const struct inspect_api_request *req, struct inspect_api_response *res);
int api_exchange(void *ctx, const struct inspect_api_request *req, struct inspect_api_response *res);
int api_body(void *ctx, const struct inspect_api_request *req, struct inspect_api_response *res);
int api_reveal(void *ctx, const struct inspect_api_request *req, struct inspect_api_response *res);
int api_frames(void *ctx, const struct inspect_api_request *req, struct inspect_api_response *res);
int api_reconnect(void *ctx, const struct inspect_api_request *req, struct inspect_api_response *res);

/* ---- show.c: these append JSON; 0 or HT_ENOMEM ---- */

int show_exchange(struct ht_buf *out, const struct inspect_exchange *x) HT_MUST_USE;
int show_detail(struct ht_buf *out, const struct inspect_store *store, const struct inspect_exchange *x) HT_MUST_USE;
int show_headers(struct ht_buf *out, const struct inspect_store *store, const struct inspect_message *m) HT_MUST_USE;
int show_frame(struct ht_buf *out, const struct inspect_exchange *x, const struct inspect_frame *f) HT_MUST_USE;
int show_link(struct ht_buf *out, const struct inspect_server *s) HT_MUST_USE;
int show_bindings(struct ht_buf *out, const struct inspect_server *s) HT_MUST_USE; /* the array */
int show_snapshot(struct ht_buf *out, const struct inspect_server *s) HT_MUST_USE;
/* A JSON string with its quotes; bytes that are not UTF-8 become U+FFFD. */
int show_string(struct ht_buf *out, struct ht_slice text) HT_MUST_USE;
/* The coding of a body that can be undone; empty: none. */
struct ht_slice show_coding(const struct inspect_message *m);
/* The captured body with its coding undone, or as it is when there is none or it is broken. *from points into *scratch
 * or into the message. */
int show_body(const struct inspect_message *m, struct ht_buf *scratch, struct ht_slice *body) HT_MUST_USE;

/* ---- feed.c ---- */

int feed_open(void *ctx, const struct inspect_api_request *req, struct inspect_api_response *res);
void feed_start(struct inspect_server *s);
void feed_stop(struct inspect_server *s);
/* The answer's head was written: the client reads from now on. False: the connection is gone. */
bool feed_join(struct client *c);
void feed_leave(struct client *c);
void feed_drained(struct client *c);
void feed_watch(struct inspect_server *s, uint64_t id);
/* An event of all readers, whose data is whatever show() appends. */
void feed_tell_link(struct inspect_server *s);
void feed_tell_bindings(struct inspect_server *s);

/* ---- replay.c ---- */

int replay_ask(void *ctx, const struct inspect_api_request *req, struct inspect_api_response *res);
int replay_init(struct inspect_server *s) HT_MUST_USE;
void replay_end(struct inspect_server *s);
void replay_leave(struct client *c);
/* The store has a new exchange of the visitor "you". */
void replay_added(struct inspect_server *s, const struct inspect_exchange *x);

/* ---- har_out.c, har_in.c ---- */

int har_export(void *ctx, const struct inspect_api_request *req, struct inspect_api_response *res);
/* Writes the next part. False: the connection is gone. */
bool har_export_more(struct client *c);
void har_export_drop(struct client *c);
int har_import(void *ctx, const struct inspect_api_request *req, struct inspect_api_response *res);
void har_import_drop(struct client *c);

#endif
