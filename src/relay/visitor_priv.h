/*
 * What the kit's files of the relay share; nobody else includes it.
 *
 *   table.c             the bindings of all owners: BIND, UNBIND, takeover
 *   names.c             bindings by the names that are reached through them
 *   port.c              listeners: which of them a BIND may have, and who comes in there
 *   inside.c            ports without a listener, for visitors from inside this program
 *   inner.c             both ends of a session in memory, for those
 *   visitor_http.c      a visitor of an EXPOSE port: its life and its timers
 *   visitor_answer.c    the kit's own answers to it
 *   visitor_request.c   its request: the head, STREAM_OPEN, the body on the way to the stream
 *   visitor_response.c  the answer on the way back
 *   visitor_wait.c      visitors that wait for room on the link
 *   visitor_stray.c     streams whose answer was complete before they ended
 *   visitor_tcp.c       a visitor of a PULL port
 */
#ifndef HT_RELAY_VISITOR_PRIV_H
#define HT_RELAY_VISITOR_PRIV_H

#include "relay/kit.h"
#include "relay/names_priv.h"
#include "relay/pipe.h"
#include "relay/trailers_priv.h"

#define RELAY_SCRATCH 16384 /* what is read at once while a head is awaited */
/* Buffers of a visitor that are larger than this go back when it is idle. */
#define RELAY_KEEP_BUFFER 1024
#define RELAY_KEEP_VISITORS 256 /* records kept for the next visitors */
/* After an answer that ends a connection what still comes is read and dropped: until it was quiet for so long ... */
#define RELAY_LINGER_QUIET_MS 5000
#define RELAY_LINGER_MS 30000 /* ... and no longer than that */
/* The same for those who are refused for want of a permit. */
#define RELAY_REFUSED_LINGER_MS 500
/* How often it is looked whether a visitor that has closed its side is still there. */
#define RELAY_HALF_CLOSED_MS 500
/* How often it is looked whether a slow body is in the way of others by now. */
#define RELAY_SHORT_MS 1000
#define RELAY_SOURCE_BUCKETS 256 /* a power of two */
#define RELAY_OWNER_BURST 3000   /* streams that visitors of an owner may open and leave in a burst */

struct relay_table {
    struct relay_kit_config cfg; /* its pointers lead to the copies below */
    char *url_pattern;
    uint16_t *reserved;
    uint16_t proxy_port;     /* which is reserved as well; 0: there is no proxy */
    struct ht_list ports;    /* struct relay_port */
    struct ht_list bindings; /* struct relay_binding, by `all` */
    struct relay_name_index names;
    unsigned n_visitors;
    bool draining;

    struct ht_pool http_visitors, tcp_visitors, partial_heads, strays, source_pool;
    struct ht_list stray_list; /* struct relay_stray, oldest first */
    struct io_timer stray_timer;
    struct ht_list waiting; /* struct relay_waiter, by `all` */
    struct ht_list owners;  /* struct relay_owner that somebody waits for, by `waits` */
    struct io_timer wait_timer;
    struct ht_list all_sources;
    unsigned n_sources;
    struct ht_list sources[RELAY_SOURCE_BUCKETS]; /* struct relay_source, by `hash` */
    struct io_fds refused; /* visitors beyond the permits that still get a 503; the rest are closed at once */

    /* Scratch of one callback: nothing in it lives longer. */
    struct http_head head;
    struct wire_header fields[HTTP_MAX_HEADERS];
    char scratch[RELAY_SCRATCH];
};

/* A listener and who came in there. Today it opens and closes with its only binding. */
struct relay_port {
    struct ht_list node; /* in the table's list */
    struct relay_table *t;
    struct io_listener *listener; /* NULL: of a portless binding (rule NAME-3) */
    struct io_addr addr;
    uint16_t number; /* 0: the same */
    enum wire_kind kind;
    enum wire_mode mode;
    struct relay_binding *binding; /* set before the loop turns; see relay_port_route() */
    struct ht_list visitors;       /* struct visitor_http or visitor_tcp, by kind */
    struct relay_connect *proxy;   /* whose clients they are; NULL: of no proxy */
    unsigned n_visitors;
};

/* What an owner has of a port. */
struct relay_binding {
    struct ht_list node; /* in the owner's list */
    struct ht_list all;  /* in the table's */
    struct relay_table *t;
    struct relay_owner *owner; /* moves on a takeover */
    struct relay_port *port;
    uint32_t id;
    struct relay_names *names; /* NULL: none */
    struct ht_list by_name;    /* struct relay_name_visitor */
    unsigned n_by_name;
    int64_t since;               /* Unix seconds; a takeover begins anew */
    char label[RELAY_LABEL_MAX]; /* fit to be seen; "": none */
};

/* Refuses a BIND: `r` has its `code` and `err`. */
#define RELAY_REFUSE(r, why, rc, ...) (*(r)->code = WIRE_BIND_ERROR_##why, ht_fail((r)->err, (rc), __VA_ARGS__))

/* ---- port.c ---- */

/* The host of a pull as an address with port 0. HT_EINVAL: it is not loopback. */
int relay_pull_addr(struct ht_slice host, struct io_addr *out) HT_MUST_USE;
bool relay_addr_overlap(const struct io_addr *a, const struct io_addr *b); /* ports aside */
struct io_addr relay_addr_with_port(const struct io_addr *a, uint16_t port);
bool relay_port_reserved(const struct relay_table *t, uint16_t port);
/* For an expose; `outside` the range of outgoing connections, when that leaves any. */
uint16_t relay_random_port(const struct relay_table *t, bool outside);
/* A binding of `o` at `p`, in no list yet. */
void relay_binding_init(struct relay_binding *b, struct relay_owner *o, struct relay_port *p, uint32_t id);
/* HT_ESPACE: longer than fits. */
int relay_public_url(const char *pattern, uint16_t port, char *out, size_t cap) HT_MUST_USE;

/* A port without a listener and a binding, in no list yet. `addr` has its number: 0 for one that nobody dials. */
void relay_port_init(struct relay_port *p, struct relay_table *t, enum wire_kind kind, enum wire_mode mode,
                     const struct io_addr *addr);
/* Opens the port that a BIND asks for, on `addr`, or stands for none when it is portless; it may not be one that is in
 * the way of another (relay_port_find()). The caller gives it a binding. 0, or a negative error with *code and *err. */
int relay_port_open(struct relay_table *t, const struct wire_bind *bind, const struct io_addr *addr,
                    struct relay_port **out, enum wire_bind_error *code, struct ht_errmsg *err) HT_MUST_USE;
/* With all of its visitors: RESET with `code`. Clears the pointer. */
void relay_port_close(struct relay_port **p, uint16_t code, const char *reason);
/* The one that holds the number on an address that a new one would need, or NULL. */
struct relay_port *relay_port_find(const struct relay_table *t, const struct io_addr *addr, uint16_t number);
/* The binding has a new owner: its open streams get RESET; visitors of an EXPOSE stay. */
void relay_port_revoke(struct relay_port *p, const struct relay_binding *b, uint16_t code, const char *reason);
/* Whose the request is whose head is here. With several bindings, its host will say. */
static inline struct relay_binding *relay_port_route(const struct relay_port *p) { return p->binding; }
extern const struct io_listener_ops relay_port_ops; /* ctx: the port */
/* A line for a visitor who was turned away before it could say anything. NULL: for want of a permit. */
void relay_turned_away(const struct relay_port *p, const struct io_addr *peer, const char *why);
/* A visitor came or went: counts and permits. */
void relay_visitor_added(struct relay_port *p, struct ht_list *node);
void relay_visitor_removed(struct relay_port *p, struct ht_list *node);

/* ---- table.c ---- */

/* The session that serves the binding's visitors now, or NULL: parked, just resumed, or about to end. */
struct mux_session *relay_binding_mux(const struct relay_binding *b);
/* Takes a descriptor permit; one that only lingers gives way. */
bool relay_permit(struct relay_table *t) HT_MUST_USE;
/* Which bound is reached, its number, and the option that moves it, for the operator. Both return out. */
#define RELAY_FULL_TEXT 128
const char *relay_no_permit_text(const struct relay_table *t, char out[RELAY_FULL_TEXT]);
const char *relay_no_stream_text(const struct relay_binding *b, char out[RELAY_FULL_TEXT]);
/* Nearly nothing is left of what all visitors of the binding share: descriptors, or streams or memory of its session.
 */
bool relay_is_short(const struct relay_binding *b);

/* ---- visitor_wait.c ---- */

/* An address with visitors of one owner: they wait, or have left streams that they had opened. */
struct relay_source {
    struct ht_list hash, all; /* in the table's */
    struct ht_list turn;      /* in the owner's, while somebody waits */
    struct ht_list waiting;   /* struct relay_waiter, by `node` */
    struct relay_table *t;
    struct relay_owner *owner;
    uint64_t from;
    int32_t left; /* streams that it may still open and leave */
    uint64_t filled_ms;
};

struct relay_waiter;
struct relay_waiter_ops {
    /* Both: it waits no more. */
    void (*turn)(struct relay_waiter *w);          /* it may open its stream; the session may be gone, too */
    void (*left)(struct relay_waiter *w, int why); /* the visitor has closed its side (HT_EOF), or all of it */
};

/* Embedded in a visitor, which fills in the first three. */
struct relay_waiter {
    const struct relay_waiter_ops *ops;
    struct io_conn *conn;
    bool half_close;             /* one that has closed its side goes on waiting */
    struct relay_source *source; /* NULL: does not wait */
    struct ht_list node, all;
};

/* What visitors are told apart by. */
uint64_t relay_from(const struct io_addr *peer);
/* Whether a visitor of the binding's session, which is there, may not open a stream now. */
bool relay_must_wait(struct relay_binding *b, uint64_t from);
/* Takes it into the row. 0 or HT_ENOMEM. */
int relay_wait(struct relay_binding *b, struct relay_waiter *w, uint64_t from) HT_MUST_USE;
/* Out of it again; no-op for one that does not wait. */
void relay_wait_end(struct relay_waiter *w);
void relay_wait_fired(struct io_timer *t);
/* A stream was opened; it was answered to its end; a visitor has left it before. */
void relay_opened(struct relay_binding *b, uint64_t from);
void relay_answered(struct relay_binding *b, uint64_t from);
void relay_left_early(struct relay_binding *b, uint64_t from);
/* Whoever waits for `from` waits for `to`, in the same order; debts go along. */
void relay_wait_move(struct relay_table *t, struct relay_owner *from, struct relay_owner *to);
/* The owner goes; nobody waits for it any more. NULL: all of them. */
void relay_owner_forget(struct relay_table *t, struct relay_owner *o);

/* ---- visitors of EXPOSE ---- */

/*
 * The connection. Only an ACTIVE visitor has a stream, and it always has one: visitor_set_state() asserts it, and
 * visitor_end_stream() is how it loses it early. Whatever can outlive the stream asks for the state first.
 */
enum visitor_state {
    VISITOR_HEAD,    /* awaits a request head, or has a part of it */
    VISITOR_WAITING, /* has a head, in `partial` and `in`, and waits for its turn to open a stream */
    VISITOR_ACTIVE,  /* a stream answers its request */
    VISITOR_SENDING, /* without a stream: the rest of a whole answer is on its way out, then `keep` decides */
    VISITOR_PIPE,    /* raw bytes after a 101 */
    VISITOR_STATES
};

/* The request's body. */
enum visitor_request {
    REQUEST_COMES,   /* more of it is awaited */
    REQUEST_BLOCKED, /* ... but the stream takes no more for now */
    REQUEST_WHOLE    /* all of it was read */
};

/* The answer, as far as it was handed to `out`. */
enum visitor_reply {
    ANSWER_AWAITED, /* no final head */
    ANSWER_BEGUN,   /* the final head */
    ANSWER_WHOLE    /* all of it */
};

/* How the answer is framed for the visitor (rule HTTP-5). */
enum visitor_framing { FRAMING_NONE, FRAMING_LENGTH, FRAMING_CHUNKED, FRAMING_CLOSE };

/* How the request would have an answer of ours. */
enum visitor_form { VISITOR_TEXT, VISITOR_HTML, VISITOR_JSON };

struct visitor_http {
    struct ht_list node; /* in the port's list */
    struct relay_waiter waiter;
    struct relay_port *port;
    struct relay_binding *b; /* of the request; NULL until its head has come */
    struct io_conn *conn;
    struct mux_stream *st;
    struct relay_pipe *pipe;
    struct http_head *partial; /* the parser's state for a head that did not come at once, or has to wait */
    size_t head_len;           /* of one that waits */
    uint64_t from;             /* relay_from() */
    struct ht_buf in;          /* read and not yet used: a partial head, a body's beginning, the next request */
    struct io_task next;       /* goes on with what is in `in` */
    struct io_timer timer;
    uint64_t deadline_ms; /* what the timer is about; it may fire earlier and is set again then */
    uint64_t armed_ms;

    enum visitor_state state;
    bool fresh; /* has not sent a byte yet */

    /* the request */
    enum visitor_request request;
    enum http_body_kind body;
    enum visitor_form form;
    struct http_chunked chunked;
    struct ht_buf trailers; /* its lines behind the last chunk */
    uint64_t body_left;
    uint64_t progress_ms; /* when its body moved last */
    uint64_t body_due_ms; /* by then more of it has to come: moves on with every byte, and where nothing is short */
    uint64_t blocked_ms;  /* since when the stream takes no more; that time is not the visitor's */
    bool upgrade, head_request, http10;
    bool keep;        /* the connection may serve another request */
    bool half_closed; /* it has sent all it will ever send, and may or may not be there for its answer */
    uint64_t look_ms; /* when that is looked into */

    /* the answer */
    struct io_out out;
    struct ht_buf head; /* its head; borrowed by `out` until it is flushed */
    uint64_t answer_left;
    enum visitor_framing framing;
    uint16_t status;
    enum visitor_reply answer;
    bool committed; /* bytes of it may be on their way: it cannot become a 502 any more */
    bool stream_ended;
    bool stalled;     /* the visitor does not take its answer as fast as it comes */
    uint64_t sent_ms; /* when it took something, or fell behind */
    bool chunk_open;
    uint8_t chunk_slot;
    size_t chunk_bytes;
    char chunk_head[20];
    struct ht_buf last_chunk; /* the one with trailers behind it; borrowed as well. Empty: one without */
    uint64_t started_us;      /* when its head had come; 0: none has. Only for the log, as is the next one */
    uint32_t stream_id;       /* of the request that was opened last */

    char peer[IO_ADDR_TEXT];
};

/* A connection of the port's, with a permit. */
/* NULL: out of memory, and the connection and its permit are gone. */
struct visitor_http *visitor_http_begin(struct relay_port *p, struct io_conn *conn, const struct io_addr *peer);
/* What was read from it before that; taken, and left empty. */
void visitor_http_said(struct visitor_http *v, struct ht_buf *said);
/* One for which there is no permit: it still learns why, as long as they are not too many (hardening case 22). What is
 * left of it is for the caller to close. */
void visitor_http_refuse(struct relay_table *t, struct io_conn **conn);
/* The port is gone: RESET with `code`, the connection is closed or cut. */
void visitor_http_destroy(struct visitor_http *v, uint16_t code, const char *reason);
/* The binding has a new owner: an open stream gets RESET; an idle visitor stays. */
void visitor_http_revoke(struct visitor_http *v, uint16_t code, const char *reason);

/* Ends the stream, if there is one (RESET with `code`). Its visitor sends what it has from now on. */
void visitor_end_stream(struct visitor_http *v, uint16_t code, const char *reason);
/* The only place where the state changes. */
void visitor_set_state(struct visitor_http *v, enum visitor_state to);
/* The visitor has closed its side behind a whole request: `printf ... | nc` wants its answer all the same. */
void visitor_half_closed(struct visitor_http *v);
/* The connection is of no use: RESET CANCEL for an open stream, and the visitor is gone. `cut`: with RST, so that what
 * the visitor has got does not look complete. */
void visitor_lost(struct visitor_http *v, bool cut, const char *why);
/* Whose it is, for the log: before its head has come, the port's. */
const char *visitor_session(const struct visitor_http *v);
/* Writes what it can. False: the visitor is gone. */
bool visitor_flush(struct visitor_http *v);
/* The answer is complete and written: next request or close. False: the visitor is gone. */
bool visitor_settle(struct visitor_http *v);
void visitor_deadline(struct visitor_http *v, uint64_t after_ms);
/* The same for a visitor whose request is being answered: whichever of its clocks is due next. */
void visitor_watch_clocks(struct visitor_http *v);
/* Reading on or off, as the state wants it. */
void visitor_update_reading(struct visitor_http *v);
/* The connection and the stream are a pipe from now on (rule HTTP-4). The visitor may be gone. */
void visitor_become_pipe(struct visitor_http *v);

/* ---- visitor_answer.c ---- */

/* An answer of the kit's own. */
struct visitor_answer {
    uint16_t status;
    uint8_t retry_after; /* seconds; 0: no such field */
    enum ht_metric_class class;
    const char *error;  /* for programs (rule ANSWER-1); NULL: it is none */
    const char *body;   /* one sentence without a full stop, nothing in it that JSON would have to escape */
    const char *fields; /* of its own, each with its CRLF; NULL: none */
};
extern const struct visitor_answer answer_bad_request, answer_connect_refused, answer_head_timeout, answer_body_timeout,
    answer_no_body, answer_target_too_long, answer_head_too_large, answer_bad_gateway, answer_driver_error,
    answer_taken_over, answer_closed, answer_link_lost, answer_parked, answer_stream_cap, answer_fd_cap,
    answer_response_timeout, answer_version, answer_busy, answer_proxy_bad_target, answer_proxy_denied,
    answer_proxy_untrusted, answer_proxy_bad_answer, answer_proxy_token, answer_proxy_unknown, answer_proxy_refused,
    answer_proxy_unreachable, answer_proxy_busy, answer_proxy_ending, answer_proxy_timeout, answer_proxy_slow;

/* What a RESET of the driver's before the head stands for (rule ANSWER-2). */
const struct visitor_answer *visitor_answer_for_reset(const struct visitor_http *v, struct ht_slice reason);
/* What the value of an Accept field likes best (RFC 9110 12.5.1). */
enum visitor_form visitor_answer_form(struct ht_slice accept);
/* Sends it; there is no stream any more. The connection lives on when it is safe and `keep`; else it is closed behind
 * it. False: the visitor is gone. */
bool visitor_answer(struct visitor_http *v, const struct visitor_answer *a, bool keep);
/* The text of one for somebody who is no visitor, and counts it. 0 or HT_ENOMEM. */
int visitor_answer_put(struct relay_table *t, const struct visitor_answer *a, struct ht_buf *out) HT_MUST_USE;
/* The same to somebody who is no visitor: the whole of it at once, for the caller to close. Counts it. False: it could
 * not be written. */
bool visitor_answer_write(struct relay_table *t, struct io_conn *conn, const struct visitor_answer *a);

/* ---- visitor_request.c ---- */

/* Bytes can be read while a head is awaited. The visitor may be gone. */
void visitor_read_head(struct visitor_http *v);
/* The same with what `in` holds. */
void visitor_parse_kept(struct visitor_http *v);
extern const struct relay_waiter_ops visitor_waiter_ops;
/* mux_stream_ops.pull */
ssize_t visitor_pull(void *ctx, uint8_t *out, size_t cap, unsigned *flags);

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
 * Takes a stream whose answer is complete though its EOF has not come. Published drivers send it late for HEAD, 204 and
 * 304, when their local connection closes: the visitor does not wait for it. When it takes too long the stream is
 * reset.
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
    struct io_conn *conn; /* until the pipe has it */
    struct relay_waiter waiter;
    uint64_t from; /* relay_from() */
    char peer[IO_ADDR_TEXT];
};

void visitor_tcp_begin(struct relay_port *p, struct io_conn *conn, const struct io_addr *peer);
void visitor_tcp_destroy(struct visitor_tcp *v, uint16_t code, const char *reason);

#endif
