/*
 * The inspector's store: the last exchanges of a driver, in memory, oldest first.
 *
 * An exchange is a request with its answer, and what passed behind a 101. It is written while it runs, by the tap
 * (inspect/watch.h) or by an import, and read by the API. Everything is bounded: exchanges, bytes of the whole store,
 * of each body, of the frames of each exchange. What is over a bound pushes the oldest exchanges out, running ones
 * included; a body is cut.
 *
 * One thread. A pointer to an exchange, and each slice in it, is good until the next call that writes to the store or
 * until the loop's next turn; keep the id instead. Observers must not write to the store, except that they may call
 * inspect_store_clear() later, from a task of their own.
 */
#ifndef HT_INSPECT_STORE_H
#define HT_INSPECT_STORE_H

#include "base/base.h"
#include "base/buf.h"
#include "base/err.h"
#include "base/list.h"
#include "inspect/mask.h"

/* ---- what is kept ---- */

/* Each list has its words, which the API uses: INSPECT_SSE is "sse". */
#define INSPECT_KINDS(X)                                                                                               \
    X(INSPECT_HTTP, "http")                                                                                            \
    X(INSPECT_WEBSOCKET, "websocket")                                                                                  \
    X(INSPECT_SSE, "sse")       /* the answer is text/event-stream */                                                  \
    X(INSPECT_STREAM, "stream") /* the answer has no length and took longer than INSPECT_STREAM_US */

#define INSPECT_STATES(X)                                                                                              \
    X(INSPECT_RUNNING, "running")                                                                                      \
    X(INSPECT_DONE, "done")                                                                                            \
    X(INSPECT_FAILED, "failed")

/* Why an exchange failed: the code, and a title for people. */
#define INSPECT_FAULTS(X)                                                                                              \
    X(INSPECT_NO_FAULT, "", "")                                                                                        \
    X(INSPECT_REFUSED, "origin_refused", "The service could not be reached")                                           \
    X(INSPECT_TIMEOUT, "origin_timeout", "The service did not answer in time")                                         \
    X(INSPECT_RESET, "origin_reset", "The service closed the connection")                                              \
    X(INSPECT_PROTOCOL, "origin_protocol", "The service answered something that is not valid HTTP")                    \
    X(INSPECT_LINK_LOST, "link_lost", "The link to the kit was lost")                                                  \
    X(INSPECT_VISITOR_LEFT, "visitor_left", "The visitor left before the end")                                         \
    X(INSPECT_INTERNAL, "internal", "The driver could not pass it on")

/* The opcodes of RFC 6455 that a message has. */
#define INSPECT_OPCODES(X)                                                                                             \
    X(INSPECT_TEXT, "text", 1)                                                                                         \
    X(INSPECT_BINARY, "binary", 2)                                                                                     \
    X(INSPECT_CLOSE, "close", 8)                                                                                       \
    X(INSPECT_PING, "ping", 9)                                                                                         \
    X(INSPECT_PONG, "pong", 10)

#define INSPECT_ENUM(name, ...) name,
enum inspect_kind { INSPECT_KINDS(INSPECT_ENUM) };
enum inspect_state { INSPECT_STATES(INSPECT_ENUM) };
enum inspect_fault { INSPECT_FAULTS(INSPECT_ENUM) };
#undef INSPECT_ENUM
#define INSPECT_ENUM(name, word, value) name = (value),
enum inspect_opcode { INSPECT_OPCODES(INSPECT_ENUM) };
#undef INSPECT_ENUM

/* Static storage. */
const char *inspect_kind_word(enum inspect_kind k);
const char *inspect_state_word(enum inspect_state s);
const char *inspect_fault_word(enum inspect_fault f);
const char *inspect_fault_title(enum inspect_fault f);
const char *inspect_opcode_word(enum inspect_opcode o);

#define INSPECT_STREAM_US 2000000

/*
 * A WebSocket message, whose fragments are joined and whose compression is undone, a control frame, or a server-sent
 * event (`down`, INSPECT_TEXT).
 */
struct inspect_frame {
    struct ht_list node; /* in the exchange's `frames`, oldest first */
    uint64_t seq;        /* counts from 1 for each exchange */
    uint64_t at_us;      /* since 1970 */
    bool down;           /* to the visitor */
    enum inspect_opcode opcode;
    uint64_t size;         /* bytes of the whole message */
    bool truncated;        /* `data` is its beginning only */
    bool compressed;       /* the compression could not be undone: size and data are as they travelled */
    struct ht_slice data;  /* a close frame's is "1000 reason"; text may hold bytes that are not UTF-8 */
    struct ht_slice event; /* of a server-sent event: its type and id; empty: none */
    struct ht_slice id;
};

struct inspect_message {
    struct ht_buf head;     /* as it travelled, from the first line to the empty line; empty: none (yet) */
    struct ht_buf trailers; /* field lines, without the empty line */
    struct ht_buf body;     /* the captured beginning, without chunk framing, with its content coding */
    uint64_t size;          /* bytes of the whole body so far, the same way */
    bool ended;             /* the body is complete */
};

/* Durations in microseconds. */
struct inspect_timing {
    uint64_t queued;  /* in the driver */
    uint64_t connect; /* to the service; 0: on a connection that there was */
    uint64_t send;    /* until the whole request was written */
    uint64_t wait;    /* until the answer's first byte */
    uint64_t receive; /* until its last one */
};

/* Read it; only the functions below write. */
struct inspect_exchange {
    uint64_t id; /* from 1, in the order of the beginnings */
    enum inspect_kind kind;
    enum inspect_state state;
    uint64_t at_us;               /* when the head of the request was complete, since 1970 */
    uint64_t duration_us;         /* 0 while it runs */
    struct inspect_timing timing; /* valid when it runs no more */

    int binding; /* the driver's number; 0: none, as of an import */
    struct ht_slice binding_name;
    struct ht_slice visitor; /* its address, or "you" for a replay */
    uint64_t replay_of;      /* id of the original, which may be gone; 0: it is no replay */
    bool edited, imported;

    struct ht_slice method, target, version; /* parts of request.head; version is as in "HTTP/1.1" */
    uint16_t status;                         /* 0: no answer */
    struct ht_slice reason, type;            /* parts of response.head: behind the status, and Content-Type */
    struct inspect_message request, response;
    struct ht_buf interims; /* the heads of 1xx answers, one behind the other, as they travelled */
    unsigned n_interims;

    enum inspect_fault fault;
    struct ht_slice error; /* what the system or the parser said; empty: nothing */

    struct ht_list frames;   /* struct inspect_frame */
    uint64_t n_frames;       /* all that there were; those in the list have the highest numbers */
    uint64_t frames_dropped; /* pushed out by newer ones */

    void *watch;                        /* its writer's own */
    struct inspect_exchange_priv *priv; /* the store's own */
};

/* ---- the store ---- */

struct inspect_store;

struct inspect_store_config {
    uint32_t max_exchanges;     /* at least 1 */
    uint64_t max_bytes;         /* of all exchanges together; passed by at most one body */
    uint64_t max_body;          /* kept of each body; at most a quarter of max_bytes */
    uint32_t max_frames;        /* kept of each exchange */
    uint32_t max_frame;         /* bytes kept of each frame */
    const char *const *secrets; /* further names of header fields whose values are masked; copied */
    size_t n_secrets;
};

#define INSPECT_FRAMES_KEPT 1000
#define INSPECT_FRAME_KEPT 16384

/* NULL: out of memory. */
struct inspect_store *inspect_store_create(const struct inspect_store_config *cfg) HT_MUST_USE;
/* Exchanges that still run must have been ended, or never be written to again. Clears the pointer. NULL is ignored. */
void inspect_store_destroy(struct inspect_store **s);

const struct inspect_secrets *inspect_store_secrets(const struct inspect_store *s);
uint64_t inspect_store_bytes(const struct inspect_store *s); /* memory that the exchanges hold */
uint32_t inspect_store_count(const struct inspect_store *s);

/*
 * The ids in the store are one run without a gap:
 *     for (uint64_t id = inspect_store_first(s); id < inspect_store_end(s); id++)
 *         show(inspect_store_get(s, id));
 */
uint64_t inspect_store_first(const struct inspect_store *s);
uint64_t inspect_store_end(const struct inspect_store *s);
/* NULL: there is none, or no more. */
const struct inspect_exchange *inspect_store_get(const struct inspect_store *s, uint64_t id);

/* Forgets all exchanges. What runs goes on, unlisted. */
void inspect_store_clear(struct inspect_store *s);

/* ---- observers ---- */

/*
 * Told of what has happened, in the order in which they were added. Each function may be NULL. `changed` comes with
 * every piece of a body: who draws limits its own rate.
 */
struct inspect_observer {
    struct ht_list node; /* the store's */
    void (*added)(struct inspect_observer *o, const struct inspect_exchange *x);
    void (*changed)(struct inspect_observer *o, const struct inspect_exchange *x);
    void (*frame)(struct inspect_observer *o, const struct inspect_exchange *x, const struct inspect_frame *f);
    void (*removed)(struct inspect_observer *o, uint64_t id); /* pushed out by newer ones */
    void (*cleared)(struct inspect_observer *o);
};

/* The observer is the caller's, and must be removed before it is freed, and before the store is destroyed. */
void inspect_store_observe(struct inspect_store *s, struct inspect_observer *o);
void inspect_observer_remove(struct inspect_observer *o); /* harmless when it was removed, or zero-initialised */

/* ---- fields ---- */

struct inspect_field {
    struct ht_slice name, value; /* order and spelling as on the wire; a folded value has its line ends in it */
    bool secret;                 /* show inspect_mask_value() instead */
};

/* The field lines of a message's head, without its first line; of its trailers use ht_buf_slice(). */
struct ht_slice inspect_head_fields(const struct ht_buf *head);
/* Takes the next field from the front of *lines. False: there is none. */
bool inspect_field_next(const struct inspect_secrets *secrets, struct ht_slice *lines, struct inspect_field *f);
/* The value of the first field of this name in the message's head; empty (p NULL): none. */
struct ht_slice inspect_field(const struct inspect_message *m, const char *name);
/* Takes the next whole head from the front of *heads, which is x->interims as a slice. False: there is none. */
bool inspect_interim_next(struct ht_slice *heads, struct ht_slice *head);

/* ---- writing ---- */

struct inspect_begin {
    int binding;
    struct ht_slice binding_name, visitor;
    uint64_t replay_of;
    bool edited, imported;
    uint64_t at_us; /* since 1970; 0: now */
};

/*
 * A new exchange; `head` is the request's, as it goes to the service. The writer keeps the pointer until inspect_end(),
 * also when the exchange was pushed out meanwhile: then the functions below do nothing. NULL: out of memory.
 */
struct inspect_exchange *inspect_begin(struct inspect_store *s, const struct inspect_begin *b,
                                       struct ht_slice head) HT_MUST_USE;
/* Without memory, what these would keep is not kept, and counted in size only. */
void inspect_body(struct inspect_exchange *x, bool response, struct ht_slice piece);
/* Counts bytes that are not kept as a body: those that carry frames. */
void inspect_count(struct inspect_exchange *x, bool response, uint64_t n);
void inspect_body_end(struct inspect_exchange *x, bool response);
void inspect_trailers(struct inspect_exchange *x, bool response, struct ht_slice lines);
void inspect_interim(struct inspect_exchange *x, struct ht_slice head);
void inspect_response(struct inspect_exchange *x, struct ht_slice head);
uint32_t inspect_max_frame(const struct inspect_exchange *x);
/* `f` needs no node and no seq; what it points to is copied, at most max_frame bytes of data. at_us 0: now. */
void inspect_add_frame(struct inspect_exchange *x, const struct inspect_frame *f);

/* Moments, which make the timing. Each may come again when a request is sent again; the last one counts. */
enum inspect_moment { INSPECT_CONNECTING, INSPECT_CONNECTED, INSPECT_SENT, INSPECT_ANSWERS, INSPECT_N_MOMENTS };
void inspect_mark(struct inspect_exchange *x, enum inspect_moment m);
/* For an import: a timing and a duration of its own, instead of what the moments say. */
void inspect_set_timing(struct inspect_exchange *x, const struct inspect_timing *t, uint64_t duration_us);
/* More memory that the exchange holds for its writer, counted with the rest; negative: less. */
void inspect_account(struct inspect_exchange *x, int64_t bytes);
/* False: the exchange was pushed out, and nothing more is kept of it. */
bool inspect_is_listed(const struct inspect_exchange *x);
/* The last call: the pointer may be gone afterwards. `fault` INSPECT_NO_FAULT: it ended in order. */
void inspect_end(struct inspect_exchange *x, enum inspect_fault fault, struct ht_slice error);

/* ---- replays ---- */

/*
 * A replay goes to the service like a visitor's request, and the tap knows it by the visitor's address: this text,
 * which nobody outside can guess. Pass it as peer_addr; the exchange then has replay_of, edited and the visitor "you".
 * `original` 0: an imported or new request, which is listed as a replay of none. Returns `out`.
 */
#define INSPECT_MARK 80
char *inspect_replay_mark(const struct inspect_store *s, uint64_t original, bool edited, char out[INSPECT_MARK]);
/* If `peer` is such a text: sets replay_of, edited and visitor in *b. */
void inspect_replay_read(const struct inspect_store *s, struct ht_slice peer, struct inspect_begin *b);

#endif
