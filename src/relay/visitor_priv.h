/*
 * What the kit's files of the relay share. No other room includes it.
 *
 *   table.c             the bindings of all owners, and what they share
 *   bind.c              BIND, and how a binding changes its owner
 *   names.c             the index of bindings by name
 *   port.c              listeners: which port a BIND may have, and accepting visitors
 *   inside.c            ports without a listener, for visitors from inside this program
 *   inner.c             a session in memory, for such visitors
 *   visitor_http.c      a visitor of an EXPOSE port: its life and its timers
 *   visitor_answer.c    the kit's own answers to visitors
 *   visitor_request.c   the request of a visitor: the head, STREAM_OPEN, and the body on its way to the stream
 *   visitor_response.c  the answer on its way back to the visitor
 *   visitor_wait.c      visitors that wait until they may open a stream
 *   visitor_stray.c     streams whose answer is complete, but which have not ended yet
 *   visitor_tcp.c       a visitor of a PULL port
 *   front*.c            public addresses, whose requests find their binding by host (front_priv.h)
 */
#ifndef HT_RELAY_VISITOR_PRIV_H
#define HT_RELAY_VISITOR_PRIV_H

#include "relay/kit.h"
#include "relay/names_priv.h"
#include "relay/pipe.h"
#include "relay/reply.h"
#include "relay/trailers_priv.h"

#define RELAY_SCRATCH 16384 /* most bytes read at once while a head is awaited */
/* An idle visitor gives larger buffers than this back. */
#define RELAY_KEEP_BUFFER 1024
#define RELAY_KEEP_VISITORS 256 /* unused records that are kept for new visitors */
/* After an answer that ends a connection, further input is dropped until the visitor is quiet for this long ... */
#define RELAY_LINGER_QUIET_MS 5000
#define RELAY_LINGER_MS 30000 /* ... and for this long at most */
/* The same for visitors who are refused because no permit is left. */
#define RELAY_REFUSED_LINGER_MS 500
/* How often to check whether a visitor that has closed its side is still there. */
#define RELAY_HALF_CLOSED_MS 500
/* How often to check the time limits of a request whose link is away. */
#define RELAY_AWAY_LOOK_MS 500
/* How long visitors from inside have after their link is back, before they are late with something. */
#define RELAY_BACK_MS 5000
/* How often to check whether a slow request body takes resources from others. */
#define RELAY_SHORT_MS 1000
#define RELAY_SOURCE_BUCKETS 256 /* a power of two */
#define RELAY_OWNER_BURST 3000   /* streams that visitors of one owner may open and leave early at once */

struct relay_front;
struct relay_front_door;

struct relay_table {
    unsigned n_users;            /* that have sessions */
    struct relay_kit_config cfg; /* its pointers lead to the copies below */
    struct relay_front *front;   /* NULL: it has none */
    char *url_pattern;
    uint16_t *reserved;
    uint16_t proxy_port;     /* port of the CONNECT proxy, reserved as well; 0: there is no proxy */
    struct ht_list ports;    /* struct relay_port */
    struct ht_list bindings; /* struct relay_binding, by `all` */
    struct relay_name_index names;
    unsigned n_visitors;
    bool draining;
    uint64_t lenient_until_ms; /* of relay_inside_away(); 0: never */

    struct ht_pool http_visitors, tcp_visitors, partial_heads, strays, source_pool;
    struct ht_list stray_list; /* struct relay_stray, oldest first */
    struct io_timer stray_timer;
    struct ht_list waiting; /* struct relay_waiter, by `all` */
    struct ht_list owners;  /* struct relay_owner for which visitors wait, by `waits` */
    struct io_timer wait_timer;
    struct ht_list all_sources; /* struct relay_source, by `all` */
    unsigned n_sources;
    struct ht_list sources[RELAY_SOURCE_BUCKETS]; /* struct relay_source, by `hash` */
    struct io_fds refused; /* permits for visitors who get a 503 because no permit is left; others are just closed */

    /* Scratch space of one callback: its content does not outlive the callback. */
    struct http_head head;
    struct wire_header fields[HTTP_MAX_HEADERS];
    char scratch[RELAY_SCRATCH];
};

/* A port: a listener and its visitors. Today it opens and closes with its only binding. */
struct relay_port {
    struct ht_list node; /* in the table's list */
    struct relay_table *t;
    struct io_listener *listener; /* NULL: the binding is portless (rule NAME-3) or inside */
    struct io_addr addr;
    uint16_t number; /* 0: there is no listener */
    enum wire_kind kind;
    enum wire_mode mode;
    struct relay_binding *binding; /* set before the first visitor; NULL: at a door, where each request finds its own */
    struct ht_list visitors;       /* struct visitor_http or visitor_tcp, by kind */
    struct relay_connect *proxy;   /* the proxy whose clients the visitors are; NULL: none */
    struct relay_front_door *door; /* the door of the front at which the visitors come in; NULL: none */
    unsigned n_visitors;
};

/* A port, or names, that an owner holds. */
struct relay_binding {
    struct ht_list node; /* in the owner's list */
    struct ht_list all;  /* in the table's list */
    struct relay_table *t;
    struct relay_owner *owner; /* changes on a takeover */
    struct relay_port *port;
    uint32_t id;
    struct relay_names *names; /* NULL: none */
    struct ht_list by_name;    /* struct relay_name_visitor */
    unsigned n_by_name;
    struct relay_names *hosts; /* hosts at the front; NULL: none */
    struct ht_list by_host;    /* struct visitor_http of a door, by `node`, while its request is for this binding */
    unsigned n_by_host;
    char *url;                   /* as in BIND_OK; NULL: none */
    int64_t since;               /* when the present owner got it, in Unix seconds */
    char label[RELAY_LABEL_MAX]; /* safe to show (base/text.h); "": none */
};

/* Refuses a BIND with the error code `why`. `r` is a structure with `code` and `err` of relay_bind(). */
#define RELAY_REFUSE(r, why, rc, ...) (*(r)->code = WIRE_BIND_ERROR_##why, ht_fail((r)->err, (rc), __VA_ARGS__))

/* ---- port.c ---- */

/* Reads the address of a PULL binding, with port 0. 0, or HT_EINVAL: it is not a loopback address. */
int relay_pull_addr(struct ht_slice host, struct io_addr *out) HT_MUST_USE;
/* True when listeners on both addresses with the same port would conflict. Ports are ignored. */
bool relay_addr_overlap(const struct io_addr *a, const struct io_addr *b);
struct io_addr relay_addr_with_port(const struct io_addr *a, uint16_t port);
/* True when no driver may bind the port. */
bool relay_port_reserved(const struct relay_table *t, uint16_t port);
/* A random port for an owner that asks for any: one of its own, if it has ports of its own. `outside`: not in the range
 * of outgoing connections, if other ports exist. */
uint16_t relay_pick_port(const struct relay_table *t, const struct relay_owner *o, bool outside);
/* Writes the URL of a port by --public-url-pattern. 0, HT_ESPACE: it does not fit, or HT_ENOMEM. */
int relay_public_url(const char *pattern, uint16_t port, char *out, size_t cap) HT_MUST_USE;

/* Initialises a port without listener and binding; it is in no list yet. The port of `addr` is its number, or 0. */
void relay_port_init(struct relay_port *p, struct relay_table *t, enum wire_kind kind, enum wire_mode mode,
                     const struct io_addr *addr);
/* Opens the port for a BIND on `addr`, or makes a port without a listener when relay_listens() is false.
 * relay_port_find() must be NULL. The caller owns *out and gives it a binding. 0, or a negative error with *code and
 * *err. */
int relay_port_open(struct relay_table *t, const struct relay_owner *o, const struct wire_bind *bind,
                    const struct io_addr *addr, struct relay_port **out, enum wire_bind_error *code,
                    struct ht_errmsg *err) HT_MUST_USE;
/* The format of the message that a port is in use. It is also used for a port of another user, who must stay unknown.
 */
extern const char relay_port_in_use_text[];
/* Closes the port and all its visitors; their streams get RESET with `code`. Clears the pointer. */
void relay_port_close(struct relay_port **p, uint16_t code, const char *reason);
/* True when a listener is needed for the BIND. */
static inline bool relay_listens(const struct relay_table *t, const struct wire_bind *bind) {
    return !bind->portless && !(t->cfg.no_ports && bind->mode == WIRE_MODE_EXPOSE);
}
/* The open port that conflicts with `addr` and `number`; NULL: none. */
struct relay_port *relay_port_find(const struct relay_table *t, const struct io_addr *addr, uint16_t number);
/* The binding has a new owner: its open streams get RESET. Idle visitors of an EXPOSE port stay. */
void relay_port_revoke(struct relay_port *p, const struct relay_binding *b, uint16_t code, const char *reason);
extern const struct io_listener_ops relay_port_ops; /* ctx: the port */
/* Logs that a visitor was refused before it sent anything. `why` NULL: no permit was left. */
void relay_turned_away(const struct relay_port *p, const struct io_addr *peer, const char *why);
/* A visitor has come, or has left: update counters, metrics and permits. */
void relay_visitor_added(struct relay_port *p, struct ht_list *node);
void relay_visitor_removed(struct relay_port *p, struct ht_list *node);

/* ---- table.c ---- */

/* Initialises a binding of `o` on `p`; it is in no list yet. */
void relay_binding_init(struct relay_binding *b, struct relay_owner *o, struct relay_port *p, uint32_t id);
/* Closes a binding with its port and visitors, whose streams get RESET with `code`, and frees it. */
void relay_binding_destroy(struct relay_binding *b, uint16_t code, const char *reason);
/* Replaces the names of the binding, which owns `names` from now on; NULL: by none. The index must have room for them,
 * and no binding may hold them. */
void relay_binding_set_names(struct relay_binding *b, struct relay_names *names);
/* Valid until the next bind or unbind. */
struct relay_binding_info relay_binding_info_of(const struct relay_binding *b);
/* The session that serves the binding's visitors now. NULL: it is parked or away, has just resumed, or is about to end.
 */
struct mux_session *relay_binding_mux(const struct relay_binding *b);
/* True when visitors are served: now, or after they have waited for a session that is away. */
bool relay_binding_serves(const struct relay_binding *b);
/* Takes a descriptor permit. If none is left, a lingering connection gives its own up, or a visitor that waits for a
 * session that is away. False: there is none. */
bool relay_permit(struct relay_table *t) HT_MUST_USE;
/* Whether one more visitor of `o` leaves enough descriptors to those of other users. */
#define RELAY_KEPT_PART 8 /* of all descriptors, for users who have less than their part */
bool relay_fair(const struct relay_table *t, const struct relay_owner *o);
/* Texts for the operator: which limit is reached, its number, and the option that changes it. Both return `out`. */
#define RELAY_FULL_TEXT 128
const char *relay_no_permit_text(const struct relay_table *t, char out[RELAY_FULL_TEXT]);
const char *relay_no_stream_text(const struct relay_binding *b, char out[RELAY_FULL_TEXT]);
/* True when shared resources are nearly used up: descriptors, or streams or memory of the binding's session. */
bool relay_is_short(const struct relay_binding *b);

/* ---- visitor_wait.c ---- */

/* A source address of visitors of one owner. It exists while its visitors wait, or while it has a debt because they
 * have opened streams and left them early. */
struct relay_source {
    struct ht_list hash, all; /* in the table's lists */
    struct ht_list turn;      /* in the owner's list, while visitors wait */
    struct ht_list waiting;   /* struct relay_waiter, by `node` */
    struct relay_table *t;
    struct relay_owner *owner;
    uint64_t from; /* relay_from() */
    int32_t left;  /* streams that its visitors may still open and leave early */
    uint64_t filled_ms;
};

struct relay_waiter;
struct relay_waiter_ops {
    /* In all calls the waiter waits no more. */
    void (*turn)(struct relay_waiter *w);          /* it may open its stream, if the session still exists */
    void (*left)(struct relay_waiter *w, int why); /* the visitor has closed its side (HT_EOF) or the connection */
    void (*shed)(struct relay_waiter *w);          /* the session is away: say so, and give the descriptor up */
};

/* A member of a visitor's structure, which sets the first three fields. */
struct relay_waiter {
    const struct relay_waiter_ops *ops;
    struct io_conn *conn;
    bool half_close;             /* true: the visitor still waits after it has closed its side */
    bool stays;                  /* so does this one: the session was away while it waited */
    bool held;                   /* it began to wait while the session was away */
    uint64_t since_ms;           /* when it began to wait */
    struct relay_source *source; /* NULL: does not wait */
    struct ht_list node, all;
};

/* The source of an address as a number: the IPv4 address, or the first 64 bits of an IPv6 address. */
uint64_t relay_from(const struct io_addr *peer);
/* True when a visitor from there must not open a stream now. relay_binding_serves() is true. */
bool relay_must_wait(struct relay_binding *b, uint64_t from);
/* Makes the visitor wait for its turn. 0 or HT_ENOMEM. */
int relay_wait(struct relay_binding *b, struct relay_waiter *w, uint64_t from) HT_MUST_USE;
/* Stops waiting. Does nothing for a visitor that does not wait. */
void relay_wait_end(struct relay_waiter *w);
void relay_wait_fired(struct io_timer *t);
/* Ends the wait of a visitor whose session is away, as when its time was over. False: there is none. */
bool relay_hold_shed(struct relay_table *t);
/* What happened to a visitor's stream: it was opened, it was answered to the end, or the visitor has left it early. */
void relay_opened(struct relay_binding *b, uint64_t from);
void relay_answered(struct relay_binding *b, uint64_t from);
void relay_left_early(struct relay_binding *b, uint64_t from);
/* Visitors who wait for `from` now wait for `to`, in the same order. The debts of their addresses move as well. */
void relay_wait_move(struct relay_table *t, struct relay_owner *from, struct relay_owner *to);
/* Frees all sources of an owner that goes away. NULL: of all owners. */
void relay_owner_forget(struct relay_table *t, struct relay_owner *o);

/* ---- visitors of EXPOSE ---- */

/*
 * The state of a visitor's connection. A visitor has a stream exactly while it is ACTIVE: visitor_set_state() asserts
 * it. visitor_end_stream() takes the stream away early, so code that may run after it checks the state first.
 */
enum visitor_state {
    VISITOR_HEAD,    /* waits for a request head, or has a part of it */
    VISITOR_WAITING, /* has a head, in `partial` and `in`, and waits until it may open a stream */
    VISITOR_ACTIVE,  /* a stream answers its request */
    VISITOR_SENDING, /* has no stream: the rest of a complete answer is being written; `keep` decides what follows */
    VISITOR_PIPE,    /* raw bytes after a 101 */
    VISITOR_STATES
};

/* The body of the request. */
enum visitor_request {
    REQUEST_COMES,   /* more of it will come */
    REQUEST_BLOCKED, /* more of it will come, but the stream takes no more for now */
    REQUEST_WHOLE    /* all of it was read */
};

/* How much of the answer was handed to `out`. */
enum visitor_reply {
    ANSWER_AWAITED, /* not even the final head */
    ANSWER_BEGUN,   /* the final head, and perhaps a part of the body */
    ANSWER_WHOLE    /* all of it */
};

/* How the answer is framed for the visitor (rule HTTP-5). */
enum visitor_framing { FRAMING_NONE, FRAMING_LENGTH, FRAMING_CHUNKED, FRAMING_CLOSE };

/* What only chunks need: most connections never have it. */
struct visitor_chunks {
    struct http_chunked request;
    struct ht_buf trailers; /* of the request: the field lines behind the last chunk */
    struct ht_buf last;     /* of the answer: the last chunk with its trailers; `out` borrows it. Empty: no trailers */
};

/*
 * Much of what a kit's memory is when it has many visitors: an idle one has one of these. What only some need is made
 * when they need it.
 */
struct visitor_http {
    struct ht_list node; /* in the port's list; at a door in the binding's by_host, while `b` is set */
    struct relay_waiter waiter;
    struct relay_port *port;
    struct relay_binding *b; /* of the request; NULL until its head has come, and at a door for an unknown host */
    struct io_conn *conn;
    struct mux_stream *st; /* NULL: not ACTIVE */
    struct relay_pipe *pipe;
    struct visitor_chunks *chunks; /* of a request or an answer in chunks; NULL: there was none */
    struct http_head *partial;     /* the parser's state, for a head that came in pieces or has to wait; else NULL */
    size_t head_len;               /* WAITING: length of the head in `in` */
    uint64_t from;                 /* relay_from() */
    struct ht_buf in;              /* bytes that were read and not used yet: of a head, a body, or the next request */
    struct io_task next;           /* continues with the bytes in `in` */
    struct io_timer timer;
    uint64_t deadline_ms; /* the present deadline. The timer may fire earlier, and is then set again */
    uint64_t armed_ms;    /* when the timer fires */

    enum visitor_state state : 8;
    bool fresh;   /* has not sent a byte yet */
    bool trusted; /* what it says of other visitors is true (rule HOST-6) */

    /* the request */
    bool upgrade, head_request, http10;
    bool keep;        /* the connection may serve another request */
    bool half_closed; /* the visitor has closed its side; it may still read its answer, or be gone */
    enum visitor_request request : 8;
    enum http_body_kind body : 8;
    enum relay_form form : 8;

    /* the answer */
    enum visitor_framing framing : 8;
    enum visitor_reply answer : 8;
    bool committed; /* bytes of the answer may have been sent: it can no longer be replaced by a 502 */
    bool stream_ended;
    bool stalled; /* the visitor reads its answer more slowly than it comes */
    bool chunk_open;
    uint8_t chunk_slot;
    uint16_t status;
    uint32_t stream_id; /* of the last request that was opened. Only for the log */

    /* the request */
    uint64_t body_left;
    /* The first three are times of visitor_stream_ms(). */
    uint64_t progress_ms; /* when body bytes came last */
    uint64_t body_due_ms; /* more body bytes must come before this time; it moves with each byte, and while nothing is
                             short */
    uint64_t blocked_ms;  /* since when the stream takes no more; this time does not count against the visitor */
    uint64_t look_ms;     /* when to check whether it is gone */

    /* the answer */
    struct io_out out;
    struct ht_buf head; /* the head; `out` borrows it until it is flushed */
    uint64_t answer_left;
    uint64_t sent_ms; /* when the visitor last took bytes, or began to stall */
    size_t chunk_bytes;
    uint64_t started_us; /* when the head was complete; 0: it is not. Only for the log */
    char *peer;
    char chunk_head[20];
};

/* Makes a visitor of a new connection of the port, for which a permit was taken. NULL: out of memory; the connection is
 * closed and the permit given back. */
struct visitor_http *visitor_http_begin(struct relay_port *p, struct io_conn *conn, const struct io_addr *peer);
/* Hands over bytes that were read from the connection before visitor_http_begin(). Leaves `said` empty. */
void visitor_http_said(struct visitor_http *v, struct ht_buf *said);
/* Answers a visitor for whom no permit is left, unless there are too many of those (hardening case 22). The caller
 * closes *conn if it is not NULL afterwards. */
void visitor_http_refuse(struct relay_table *t, struct io_conn **conn);
/* The port closes: the stream gets RESET with `code`, and the connection is closed, or cut in the middle of an answer.
 */
void visitor_http_destroy(struct visitor_http *v, uint16_t code, const char *reason);
/* The binding has a new owner: an open stream gets RESET; an idle visitor stays. */
void visitor_http_revoke(struct visitor_http *v, uint16_t code, const char *reason);

/* Ends the stream, if there is one, with RESET and `code`. The visitor is then SENDING. */
void visitor_end_stream(struct visitor_http *v, uint16_t code, const char *reason);
/* The only function that changes the state. */
void visitor_set_state(struct visitor_http *v, enum visitor_state to);
/* The visitor has closed its side behind a complete request. It still gets its answer, as `printf ... | nc` expects. */
void visitor_half_closed(struct visitor_http *v);
/* The connection has failed: an open stream gets RESET CANCEL, and the visitor is freed. `cut`: close with RST, so that
 * a part of an answer does not look complete. */
void visitor_lost(struct visitor_http *v, bool cut, const char *why);
/* Makes `chunks` if there are none. False: out of memory. */
bool visitor_need_chunks(struct visitor_http *v) HT_MUST_USE;
/* The session id for log lines: of the request's binding, or of the port's before a head has come. */
const char *visitor_session(const struct visitor_http *v);
/* Writes what the connection takes. False: the visitor was freed. */
bool visitor_flush(struct visitor_http *v);
/* The answer is complete and written: continue with the next request, or close. False: the visitor was freed. */
bool visitor_settle(struct visitor_http *v);
/* Sets the deadline to `after_ms` from now. */
void visitor_deadline(struct visitor_http *v, uint64_t after_ms);
/* Milliseconds of a clock that stands still while the link of the visitor's stream is away, or the link that the
 * proxy reaches its destination by. */
uint64_t visitor_stream_ms(const struct visitor_http *v);
/* Sets the deadline to the first of the time limits that hold while a request is answered. */
void visitor_watch_clocks(struct visitor_http *v);
/* Switches reading on or off, as the state demands. */
void visitor_update_reading(struct visitor_http *v);
/* Connection and stream become a pipe (rule HTTP-4). The visitor may be freed. */
void visitor_become_pipe(struct visitor_http *v);

/* ---- visitor_answer.c ---- */

/* An answer of the kit itself. */
struct visitor_answer {
    uint16_t status;
    uint8_t retry_after; /* Retry-After in seconds; 0: no such field */
    enum ht_metric_class class;
    const char *error;  /* error code for programs (rule ANSWER-1); NULL: none */
    const char *body;   /* one sentence without a full stop, and without characters that JSON escapes */
    const char *fields; /* more field lines, each with CRLF; NULL: none */
};
extern const struct visitor_answer answer_bad_request, answer_unknown_host, answer_connect_refused, answer_head_timeout,
    answer_body_timeout, answer_no_body, answer_target_too_long, answer_head_too_large, answer_bad_gateway,
    answer_driver_error, answer_taken_over, answer_closed, answer_link_lost, answer_parked, answer_stream_cap,
    answer_fd_cap, answer_response_timeout, answer_version, answer_busy, answer_proxy_bad_target, answer_proxy_denied,
    answer_proxy_untrusted, answer_proxy_bad_answer, answer_proxy_token, answer_proxy_unknown, answer_proxy_refused,
    answer_proxy_unreachable, answer_proxy_busy, answer_proxy_ending, answer_proxy_timeout, answer_proxy_slow;

/* The answer for a RESET that the driver has sent before the head (rule ANSWER-2). */
const struct visitor_answer *visitor_answer_for_reset(const struct visitor_http *v, struct ht_slice reason);
/* Sends an answer to a visitor without a stream. The connection stays open if `keep` is true and that is safe;
 * otherwise it is closed behind the answer. False: the visitor was freed. */
bool visitor_answer(struct visitor_http *v, const struct visitor_answer *a, bool keep);
/* Appends the text of an answer for a connection that is no visitor, and counts it in the metrics. 0 or HT_ENOMEM. */
int visitor_answer_put(struct relay_table *t, const struct visitor_answer *a, struct ht_buf *out) HT_MUST_USE;
/* Writes an answer with one call to a connection that is no visitor, and counts it. The caller closes the connection.
 * False: it could not be written. */
bool visitor_answer_write(struct relay_table *t, struct io_conn *conn, const struct visitor_answer *a);

/* ---- visitor_request.c ---- */

/* The connection is readable while a head is awaited. The visitor may be freed. */
void visitor_read_head(struct visitor_http *v);
/* Continues with the bytes in `in`. The visitor may be freed. */
void visitor_parse_kept(struct visitor_http *v);
extern const struct relay_waiter_ops visitor_waiter_ops;
/* mux_stream_ops.pull and pullv */
ssize_t visitor_pull(void *ctx, uint8_t *out, size_t cap, unsigned *flags);
ssize_t visitor_pullv(void *ctx, const struct iovec *to, int n_to, unsigned *flags);

/* ---- visitor_response.c ---- */

extern const struct mux_stream_ops visitor_stream_ops;

/* ---- visitor_stray.c ---- */

struct relay_stray {
    struct ht_list node;
    struct relay_table *t;
    struct mux_stream *st;
    uint64_t deadline_ms;
};

/*
 * Owns a stream whose answer is complete, but whose EOF has not come. Published drivers send EOF late for HEAD, 204 and
 * 304: when their local connection closes. The visitor does not wait for it. A stream that takes too long is reset.
 */
void relay_stray_adopt(struct relay_table *t, struct mux_stream *st);
void relay_stray_fired(struct io_timer *timer);
void relay_stray_drop_all(struct relay_table *t);

/* ---- visitors of PULL ---- */

struct visitor_tcp {
    struct ht_list node; /* in the port's list */
    struct relay_port *port;
    struct relay_binding *b;
    struct relay_pipe *pipe;
    struct io_conn *conn; /* NULL once the pipe owns it */
    struct relay_waiter waiter;
    uint64_t from; /* relay_from() */
    char peer[IO_ADDR_TEXT];
};

/* Makes a visitor of a new connection of the port, for which a permit was taken. */
void visitor_tcp_begin(struct relay_port *p, struct io_conn *conn, const struct io_addr *peer);
void visitor_tcp_destroy(struct visitor_tcp *v, uint16_t code, const char *reason);

#endif
