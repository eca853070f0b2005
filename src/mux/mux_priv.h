/*
 * What the files of this room share. Nobody else includes it.
 *
 *   link.c       one WebSocket: handshake, feeding, its end
 *   session.c    life of a session, its one transition function, attaching links
 *   ids.c        which stream ids were used
 *   stream.c     streams: table, handles, calls upward, ends
 *   in.c         what received frames do
 *   out.c        control queue, turns of the streams, pull()
 *   window.c     credit: what was consumed, WINDOW both ways, growing windows
 *   keepalive.c  everything that depends on time
 *   compat.c     workarounds for published drivers
 *
 * Callbacks may destroy anything. Two rules make that safe: a function that calls upward holds what it touches
 * afterwards (link_ref, session_ref, stream_ref), and it looks at the state again after the call.
 */
#ifndef HT_MUX_MUX_PRIV_H
#define HT_MUX_MUX_PRIV_H

#include "base/buf.h"
#include "base/list.h"
#include "flow/flow.h"
#include "mux/mux.h"
#include "wire/bytes.h"
#include "wire/frames.h"

#define MUX_PIECE WIRE_LIMIT_MAX_PAYLOAD /* most DATA in one turn of a stream */
#define MUX_FIRST_PIECE 32768u           /* the same for a stream that just became ready, while others wait */
#define MUX_LEAST_PIECE 4096u            /* a message with less room than this is full for DATA */
/* A link is interactive after a small piece went out in front of others' bulk: its next MUX_INTERACTIVE messages are
 * short, so that the next small piece waits less. Bulk alone gets long messages, which cost less. */
#define MUX_SMALL_PIECE 16384u
#define MUX_SHORT_MESSAGE (WIRE_LIMIT_HEADER + MUX_PIECE)
#define MUX_INTERACTIVE 1024u
#define MUX_PONGS 16u              /* PINGs that are answered one by one; of more only the latest */
#define MUX_CONGESTED (256u << 10) /* bytes of control frames from which openers should wait */
#define MUX_ROOM (128u << 10)      /* ... and to which the queue has to go down until they are called */
#define MUX_QUEUE_KEEP (16u << 10) /* memory that an empty control queue keeps */
#define MUX_GAPS_MAX 1024u         /* ranges of ids that may still come */
#define MUX_REASON_MAX 256u        /* bytes of a RESET's reason that we send */

/* What costs us work and may come in a burst; so many of it come back each second (hardening case 14). */
#define MUX_CHURN_BURST 10000u
#define MUX_CHURN_RATE 2000u

/* ---- links ---- */

struct mux_link {
    const struct mux_link_ops *ops;
    void *ctx;
    struct mux_session *s; /* NULL: before the handshake and after the end */
    enum wire_version version;
    unsigned index;
    unsigned refs;      /* calls that are running, and one for the owner */
    bool asked;         /* kit: the first frame went up and has no answer yet */
    bool dead;          /* takes nothing more in; what is queued can still be pulled */
    bool destroyed;     /* by its owner */
    bool woken;         /* output() was called and pull() was not yet */
    bool discard;       /* the rest of the present DATA frame goes nowhere */
    bool ids_used_up;   /* driver */
    uint32_t next_id;   /* driver: the least id that the next STREAM_OPEN may have; ids grow on each link */
    uint32_t data_left; /* of the present DATA frame, credit taken and bytes not seen */
    struct wire_asm assembler;
    struct ht_buf queue; /* encoded control frames, in order */
    unsigned n_pongs;
    uint8_t pongs[MUX_PONGS][8];
    struct ht_list fresh;   /* streams that became ready: one small piece each ahead of the ring */
    struct ht_list ring;    /* streams in turn; some may have nothing left and go when met */
    unsigned n_ready;       /* streams in fresh and ring that have something */
    unsigned interactive;   /* messages that are kept short */
    unsigned n_streams;     /* open ones pinned here */
    uint64_t left_at;       /* when the last pull() left something behind; 0: it did not */
    struct ht_list windows; /* streams with a WINDOW to send */
    struct ht_list batch;   /* streams that wait for data_end() */
};

static inline void link_ref(struct mux_link *l) { l->refs++; }
void link_unref(struct mux_link *l);
/* Calls output() once until the next pull(). */
void link_wake(struct mux_link *l);
/* Decoders' room, one for all links of a thread: what was decoded is used up before anything else is decoded. */
struct wire_scratch *link_scratch(void);
/* Room for a payload as compat_head_in() has it, LINK_TEXT_SIZE bytes, shared in the same way. */
#define LINK_TEXT_SIZE ((size_t)2 * WIRE_LIMIT_MAX_PAYLOAD)
uint8_t *link_text(void);
/* Nothing more comes in; the owner is asked to close with `ws_code`. No-op on a dead link. */
void link_close(struct mux_link *l, uint16_t ws_code, const char *reason);
/* Takes the link out of its session; its streams must be off. */
void link_detach(struct mux_link *l);
/* Belongs to the session as `index` from now on. */
void link_attach(struct mux_link *l, struct mux_session *s, unsigned index);

/* ---- sessions ---- */

enum session_state {
    SESSION_NEW,      /* no link yet */
    SESSION_LIVE,     /* a primary carries it */
    SESSION_DRAINING, /* we said GOAWAY; open streams may finish */
    SESSION_GOING,    /* driver: the kit said GOAWAY; its streams may finish until it closes */
    SESSION_OVER,     /* nothing works any more; over() has been or is being called */
    SESSION_COUNT,
};

/* Open addressing by stream id. Ids are even and growing, so id / 2 spreads them perfectly. */
struct stream_table {
    struct mux_stream **slot;
    uint32_t mask; /* slots - 1; meaningless while slot is NULL */
    uint32_t used;
};

/*
 * Ids that were passed over and may still come on another link, as ranges in order. What finds no place here counts as
 * used: a stream that comes so late is refused.
 */
struct id_gaps {
    struct id_gap {
        uint32_t first, last;
    } * gap;
    unsigned n, cap;
};

struct mux_session {
    struct mux_config cfg;
    const struct mux_session_ops *ops;
    void *ctx;
    enum session_state state;
    unsigned refs; /* calls that are running, and one for the owner */
    bool destroyed;
    struct mux_link *links[WIRE_LIMIT_MAX_CONNECTIONS];
    unsigned n_links;
    struct stream_table table; /* open streams */
    struct ht_list all;        /* open ones and handles not released */
    unsigned n_all;
    struct ht_list starved;  /* streams in turn that session credit ran out for, first come first served */
    struct ht_list dialling; /* compat: streams that wait for the driver's dial */
    struct flow_send send;
    struct flow_pool recv;
    uint64_t sent[WIRE_LIMIT_MAX_CONNECTIONS];     /* DATA bytes on links of each index (SHARD-3) ... */
    uint64_t received[WIRE_LIMIT_MAX_CONNECTIONS]; /* ... those of a frame count from its beginning */
    uint32_t send_limit, stream_send_limit;        /* what WINDOW may lift the windows to */
    uint32_t next_id;    /* kit: the id of the next stream; driver: the least one never seen */
    uint32_t last_id;    /* kit: that mux_stream_open() may use */
    uint32_t going_last; /* SESSION_GOING: the last stream that the kit has opened; 0: it did not say */
    bool ids_used_up;
    struct id_gaps gaps;  /* driver, v2: ids below next_id that have not come yet */
    uint32_t strays;      /* frames for streams that never were */
    size_t trailers;      /* bytes of trailers that wait to be sent */
    uint32_t faults_left; /* what the peer does wrong on streams; used up, it ends the session */
    uint32_t churn_left;  /* driver: streams that visitors reset; used up, new ones are refused */
    uint64_t budgets_at;  /* when they were last filled up */
    int failed;           /* an error inside; the next tick ends the session */
    bool room_wanted;     /* mux_session_congested() has said yes, and room() was not called since */

    uint64_t now_ms;
    bool heard;                      /* something came since the last tick */
    bool idle_marked;                /* idle_since counts */
    bool ping_sent;                  /* and not answered */
    bool in_order;                   /* see mux_session_in_order(); until the last PING is answered */
    uint64_t ping_nonce;             /* of the last PING */
    uint64_t ping_us, measure_us;    /* for the round trip: when it went, and what mux_session_measure() said last */
    bool active;                     /* something is under way, since active_since */
    bool probing;                    /* see mux_session_probe(); until something is heard */
    uint64_t active_since, moved_at; /* moved_at: what had to wait for room went on */
    uint64_t heard_at, idle_since, ping_at, drain_until;
    uint64_t settle_check_at; /* when compat_tick() has something to do; UINT64_MAX: nothing */
    bool rtt_known;
    uint64_t rtt_ms; /* last round trip */
    unsigned bindings;
    uint16_t drain_ws_code;
};

static inline void session_ref(struct mux_session *s) { s->refs++; }
void session_unref(struct mux_session *s);
static inline bool session_alive(const struct mux_session *s) { return !s->destroyed && s->state != SESSION_OVER; }
static inline struct mux_link *session_primary(const struct mux_session *s) { return s->links[0]; }

/* The link that the next stream goes to; NULL: none. */
struct mux_link *session_next_link(const struct mux_session *s);

/* The only place where a session's state changes; asserts that the change is legal. */
void session_set_state(struct mux_session *s, enum session_state to);

/*
 * The end: streams are closed with `stream_code`, links (but not `but`) are told to close with `ws_code`, over() is
 * called. No-op when it is over already. `s` may be freed on return unless it is held.
 */
struct session_end {
    enum mux_end why;
    const char *text;
    uint16_t ws_code;
    enum wire_code stream_code;
    bool remote; /* the peer's doing */
};
void session_finish(struct mux_session *s, const struct session_end *end, struct mux_link *but);

/* The peer broke a rule: GOAWAY, close, over(MUX_END_VIOLATION). Returns HT_EPROTO, which stops feeding. */
int session_violation(struct mux_session *s, enum wire_code code, uint16_t ws_code, const char *text);
/* Out of memory inside: ends the session from the next tick, where nothing is running. */
void session_fail(struct mux_session *s, int err);
/* The latest time that is known, for measurements. */
uint64_t session_measured_us(const struct mux_session *s);
/* Queues GOAWAY on the primary, as good as it can. */
void session_send_goaway(struct mux_session *s, uint32_t code, const char *message);
/* The primary, or a secondary with its streams, is gone. `clean`: see mux_link_closed(). */
void session_link_gone(struct mux_session *s, struct mux_link *l, bool clean);

/* ---- streams ---- */

/* Where a stream's `turn` is. */
enum stream_place {
    PLACE_NOWHERE,
    PLACE_SPENT,   /* in link->fresh or link->ring with nothing left, until it is met */
    PLACE_WAITING, /* there, with something to send: counted in link->n_ready */
    PLACE_STARVED, /* in session->starved */
    PLACE_BLOCKED, /* no credit of its own, until WINDOW comes; in session->dialling or in no list */
    PLACE_HELD,    /* its EOF waits for the driver: in session->dialling (compat) */
};

/* What it asks for when its turn comes. */
enum stream_wish {
    WISH_NOTHING,
    WISH_PULL,
    WISH_EOF, /* pull() said the end; EOF is not written yet */
};

enum stream_head {
    HEAD_DUE, /* the final response head has not passed, nor STREAM_CONNECTED of a stream with an authority */
    HEAD_PASSED,
    HEAD_SWITCHED, /* it was a 101: what follows is raw bytes */
};

/* The request of an upgrade has an EOF of its own: see stream_request_eof(). */
enum stream_request {
    REQUEST_PLAIN, /* no upgrade, or one that was declined */
    REQUEST_DUE,   /* STREAM_OPEN said isUpgrade; no EOF has passed yet, nor DATA in its place */
    REQUEST_PASSED,
};

/* What we know of the driver's local connection (compat). */
enum stream_dial {
    DIAL_UNKNOWN,
    DIAL_SEEN, /* the driver has sent a WINDOW for it */
    DIAL_DONE, /* it stands, for all we know */
};

struct mux_stream {
    struct ht_list turn;   /* link->fresh, link->ring, session->starved, session->dialling, or none */
    struct ht_list all;    /* session->all */
    struct ht_list window; /* link->windows, or none */
    struct ht_list batch;  /* batch_of->batch, or none */
    struct mux_link *batch_of;
    struct mux_session *s;            /* NULL: dead */
    struct mux_link *l;               /* NULL: no longer on the wire, nor in the table */
    const struct mux_stream_ops *ops; /* NULL: nobody to call */
    void *ctx;
    uint32_t id;
    struct flow_send send;
    struct flow_recv recv;
    uint32_t unconsumed;
    uint32_t sent;       /* bytes sent before the driver's dial was done (compat) */
    uint32_t grow_bytes; /* consumed since grow_since */
    uint64_t grow_since;
    uint64_t settle_at;           /* compat: when it need not wait longer; 0: no tick has seen it yet */
    uint8_t *trailers;            /* the encoded frame that goes ahead of EOF; NULL: none */
    uint16_t busy;                /* upward calls that are running */
    uint8_t kind;                 /* enum wire_kind */
    uint8_t interim;              /* interim heads so far */
    uint8_t nudges;               /* ready() while already in turn */
    enum wire_stream_state state; /* stream_set_state() changes it */
    enum stream_place place;
    enum stream_wish wish;
    enum stream_head head;
    enum stream_request request;
    enum stream_dial dial;
    bool handle;  /* not released */
    bool told_no; /* writable(false) was the last word */
    bool pulling;
    bool lost;        /* see mux_stream_was_lost() */
    bool trailers_in; /* the peer's trailers have come: only EOF or RESET may follow */
    bool trailers_out;
};

/* Already on the wire, and not off it yet. */
static inline bool stream_is_on(const struct mux_stream *st) { return st->l != NULL; }
/* The only place where a stream's state changes; asserts that the spec's machine leads there. */
void stream_set_state(struct mux_stream *st, enum wire_stream_state to);
/* EOF was sent, or came. */
void stream_end_local(struct mux_stream *st);
void stream_end_remote(struct mux_stream *st);
static inline bool stream_local_ended(const struct mux_stream *st) {
    return st->state == WIRE_STATE_HALF_CLOSED_LOCAL || st->state == WIRE_STATE_CLOSED;
}
static inline bool stream_remote_ended(const struct mux_stream *st) {
    return st->state == WIRE_STATE_HALF_CLOSED_REMOTE || st->state == WIRE_STATE_CLOSED;
}

/* STREAM-1. False: the id was used before. */
bool ids_take(struct mux_session *s, uint32_t id);
void ids_free(struct mux_session *s);

struct mux_stream *table_find(const struct stream_table *t, uint32_t id);
int table_add(struct stream_table *t, struct mux_stream *st) HT_MUST_USE;
void table_remove(struct stream_table *t, uint32_t id);
void table_free(struct stream_table *t);

/* A stream that is open on `l`, in the table and counted; NULL: out of memory. */
struct mux_stream *stream_create(struct mux_session *s, struct mux_link *l, uint32_t id,
                                 enum wire_kind kind) HT_MUST_USE;
/* What the driver has to say before anything else, as its STREAM_OPEN has it. */
void stream_await_answer(struct mux_stream *st, const struct wire_stream_open *open);
static inline void stream_ref(struct mux_stream *st) { st->busy++; }
/* Frees it when nobody needs it any more. */
void stream_unref(struct mux_stream *st);
/* Off the wire, out of every list but `all` and `batch`. No call upward. */
void stream_off(struct mux_stream *st);
/* Trailers that were not sent are not wanted any more. */
void stream_drop_trailers(struct mux_stream *st);
/* stream_off() and closed(). */
void stream_end(struct mux_stream *st, uint16_t code, struct ht_slice reason, bool remote);
/* The peer broke a rule of the stream: RESET and closed(). Returns 0, or HT_EPROTO when it did that too often. */
int stream_violation(struct mux_stream *st, enum wire_code code, const char *reason);
/* The session is gone for this stream: closed(), data_end(), and the handle is dead. */
void stream_orphan(struct mux_stream *st, uint16_t code, struct ht_slice reason, bool remote);
/* Both directions have ended? Then closed(0). */
void stream_check_done(struct mux_stream *st);
void stream_tell_writable(struct mux_stream *st, bool yes);
/*
 * True: an EOF of the kit's that comes now ends an upgrade's request only. It follows STREAM_OPEN as with any request
 * without a body, and drivers ignore it until the 101 (wire protocol, section 4); the bytes after the 101 have an EOF
 * of their own. A message may take its time on the way: then the 101 overtakes the EOF behind its STREAM_OPEN.
 */
static inline bool stream_request_eof(const struct mux_stream *st) {
    return st->request != REQUEST_PLAIN && (st->head == HEAD_DUE || st->request == REQUEST_DUE);
}
/* A blocked stream has credit of its own again. May call up. */
void stream_unblock(struct mux_stream *st);
/*
 * The final response head. When an upgrade got another answer than 101, the EOF of its request, which has passed or is
 * due, was an end like any other.
 */
void stream_head_passed(struct mux_stream *st, int status);
/* data_end() becomes due with the present batch. */
void stream_mark_batch(struct mux_stream *st, struct mux_link *l);

/* ---- receiving ---- */

int in_frame(struct mux_session *s, struct mux_link *l, uint8_t type, uint32_t id, const uint8_t *payload, size_t len);
int in_data(struct mux_session *s, struct mux_link *l, uint32_t id, const uint8_t *p, size_t n, uint32_t frame_len,
            bool first);
/* The peer broke a rule of one stream. 0, or HT_EPROTO when it did so too often and the session has ended. */
int in_fault(struct mux_session *s);

/* ---- sending ---- */

/* Appends a frame to the control queue. 0, HT_ENOMEM, or what the encoder says. */
int out_session_frame(struct mux_link *l, enum wire_frame_type type, const void *payload) HT_MUST_USE;
int out_stream_open(struct mux_link *l, uint32_t id, const struct wire_stream_open *open) HT_MUST_USE;
int out_response_head(struct mux_link *l, uint32_t id, const struct wire_response_head *head) HT_MUST_USE;
int out_connected(struct mux_link *l, uint32_t id) HT_MUST_USE;
/* Never fails: out of memory ends the session. */
void out_reset(struct mux_link *l, uint32_t id, uint16_t code, const char *reason);
void out_pong(struct mux_link *l, const uint8_t nonce[8]);
/* Puts a stream that is ready, or has an EOF to write, in turn; no-op while it waits for something else. `fresh`: ahead
 * of those that have had their turn. */
void out_enter(struct mux_stream *st, bool fresh);
/* Out of turn, and off the lists of those that wait. */
void out_leave(struct mux_stream *st);
/* Session credit has come: starved streams go on. */
void out_feed_starved(struct mux_session *s);

/* ---- credit ---- */

/* WINDOW came. 0 or HT_EPROTO. */
int window_session_grant(struct mux_session *s, uint32_t n);
int window_stream_grant(struct mux_stream *st, uint32_t n);
/* How much DATA the stream's own credit allows for now. */
uint32_t window_stream_room(const struct mux_stream *st);
/* `n` bytes of DATA for nobody: their session credit goes back. */
void window_drop(struct mux_session *s, uint32_t n);
/* The session's WINDOW goes out when it is due. */
void window_session_check(struct mux_session *s);
void window_stream_check(struct mux_stream *st);

/* ---- workarounds for published drivers ---- */

/* What may be sent on the stream now, at most `room`. */
uint32_t compat_send_room(const struct mux_stream *st, uint32_t room);
void compat_sent(struct mux_stream *st, uint32_t n);
/* True: the EOF that is pending must wait; the stream was put aside. */
bool compat_hold_eof(struct mux_stream *st);
/* The stream is blocked: it goes on by itself when that was for compat_send_room() alone. */
void compat_hold_burst(struct mux_stream *st);
/* A WINDOW of the stream came. */
void compat_window_seen(struct mux_stream *st);
/* DATA or a head of the stream came. */
void compat_heard(struct mux_stream *st);
void compat_tick(struct mux_session *s);
/* A STREAM_OPEN's payload as a published driver should see it, in place. Returns its length, which does not grow. */
size_t compat_head_out(const struct mux_link *l, uint8_t *p, size_t n);
/* A head's payload of a published driver as FIELD-4 would have it, into out[0..2n). 0: it can stay as it is. */
size_t compat_head_in(const struct mux_session *s, const uint8_t *p, size_t n, uint8_t *out);

#endif
