/*
 * What the files of this room share. No other room includes it.
 *
 *   link.c       one WebSocket: handshake, input, its end
 *   session.c    the life of a session, its state function, attaching links
 *   ids.c        which stream ids were used
 *   stream.c     streams: table, handles, callbacks, ends
 *   in.c         what each received frame does
 *   out.c        the control queue, the turns of the streams, pull()
 *   window.c     credit: consumed bytes, WINDOW in both directions, growing windows
 *   keepalive.c  everything that depends on time
 *   replay.c     stream-resume: counting messages, acknowledging them, links that are away and what takes over
 *   compat.c     workarounds for published drivers
 *
 * A callback may destroy anything. Two rules make that safe. A function that makes a callback holds a reference to what
 * it uses afterwards (link_ref, session_ref, stream_ref). And it checks the state again after the callback.
 */
#ifndef HT_MUX_MUX_PRIV_H
#define HT_MUX_MUX_PRIV_H

#include "base/buf.h"
#include "base/list.h"
#include "flow/flow.h"
#include "mux/mux.h"
#include "wire/bytes.h"
#include "wire/frames.h"

/* Sizes are in bytes. */
#define MUX_PIECE WIRE_LIMIT_MAX_PAYLOAD /* most DATA that a stream sends in one turn, beside others on a slow link */
#define MUX_RUN 5                        /* most pieces of a turn that is a whole message */
#define MUX_FIRST_PIECE 32768u           /* as MUX_PIECE, for a stream that has just become ready while others wait */
#define MUX_LEAST_PIECE 4096u            /* DATA needs at least this much room in a message */
/* A link is interactive after it sent a small piece while other streams had something, or bulk within the last MUX_BULK
 * messages. Its next MUX_INTERACTIVE messages are short, so that the next small piece waits less. Bulk alone gets long
 * messages, which cost less. */
#define MUX_SMALL_PIECE 16384u
#define MUX_INTERACTIVE 1024u
#define MUX_BULK 32u
/* A link is swift after MUX_SWIFT_BYTES took at most MUX_SWIFT_MS: a message is on its way for a millisecond or less.
 * Bulk beside bulk then sends a whole message in its turn. */
#define MUX_SWIFT_BYTES (8u << 20)
#define MUX_SWIFT_MS 32u
#define MUX_PONGS 16u              /* most PONGs that wait; beyond that the latest PING replaces the last one */
#define MUX_CONGESTED (256u << 10) /* length of the control queue at which no new stream should be opened ... */
#define MUX_ROOM (128u << 10)      /* ... and at which streams may be opened again: room() */
#define MUX_QUEUE_KEEP (16u << 10) /* memory that an empty control queue keeps */
#define MUX_GAPS_MAX 1024u         /* ranges of ids that may still come */
#define MUX_REASON_MAX 256u        /* most bytes of a RESET's reason that we send */
/* An ACK goes out after so many bytes, or a quarter of the peer's replay buffer. What is kept little and is used again
 * soon stays in the caches: seldom ACKs cost the sender more than they save (tests/bench/keeping.c). */
#define MUX_ACK_BYTES (256u << 10)

/* Budgets for events that cost us work: at most BURST at once, and RATE more each second (hardening case 14). */
#define MUX_CHURN_BURST 10000u
#define MUX_CHURN_RATE 2000u

/* ---- links ---- */

/*
 * Stream-resume: what is counted for the links of one index (RESUME-6). It outlives the links, and begins again when
 * their streams were given up.
 */
struct replay {
    uint64_t sent;    /* messages that were pulled in all */
    uint64_t acked;   /* of these the peer has confirmed so many */
    uint64_t came;    /* messages that have come in all */
    uint64_t told;    /* of these the peer was told so many */
    uint64_t since;   /* when a tick first saw messages that the peer was not told of; 0: none has */
    uint64_t away_at; /* since when the link is away; 0: it is not */
    uint64_t away_ms; /* how long links were away in all, without the present time */
    size_t kept;      /* bytes, as the owner said last */
    uint32_t fresh;   /* bytes that have come since the peer was told last */
    bool due;         /* an ACK must go out, alone if need be */
    /* KEEP-6: since when the peer has confirmed no message, as a tick saw it first; 0: none waits, or no tick came yet
     */
    uint64_t waits_since;
};

/* How far a message was read. With the counts of struct replay, that is all that a link which takes over must know. */
struct mux_half {
    struct wire_asm at;
    uint32_t data_left;
    uint8_t acks;
    bool discard;
};

struct mux_link {
    const struct mux_link_ops *ops;
    void *ctx;
    struct mux_session *s; /* NULL: before the handshake and after the end */
    struct replay *rp;     /* of its index in s->replay; NULL: no session, or no stream-resume */
    enum wire_version version;
    unsigned index;
    unsigned refs;      /* one for each running call, and one for the owner */
    bool asked;         /* kit: the first frame was handed up, and was not answered yet */
    bool dead;          /* takes no more input; queued output can still be pulled */
    bool destroyed;     /* the owner has called mux_link_destroy() */
    bool woken;         /* output() was called, and pull() was not called since */
    bool discard;       /* the rest of the present DATA frame is dropped */
    bool away;          /* it is lost, and its streams wait; the session has a reference, and `dead` is set, too */
    bool past_first;    /* the first message has come whole; those behind it count (RESUME-6) */
    bool replays;       /* the owner must be asked to send again, before anything else is pulled */
    bool counted;       /* the last message that was pulled counts */
    uint8_t acks;       /* ACKs of the present message */
    bool ids_used_up;   /* driver: there is no id above the last STREAM_OPEN's */
    uint32_t next_id;   /* driver: the least id that the next STREAM_OPEN may have; ids grow on each link */
    uint32_t data_left; /* bytes of the present DATA frame whose credit was taken and that have not come yet */
    struct wire_asm assembler;
    const uint8_t *fed;     /* what the assembler is fed with; only for a link with `rp` */
    struct mux_half half;   /* of a link that takes over: to go on with once its first message is over (RESUME-10) */
    uint32_t skip;          /* bytes at the beginning of the next message that were read on a lost link; 0: no half */
    struct ht_buf greeting; /* HELLO_OK or JOIN_OK, which travels alone with stream-resume; no memory: it is sent */
    struct ht_buf queue;    /* encoded control frames, in order */
    unsigned n_pongs;
    uint8_t pongs[MUX_PONGS][8];
    struct ht_list fresh; /* streams that have just become ready: each sends one small piece before the ring */
    struct ht_list ring;  /* streams that take turns; one with nothing to send is removed at its turn */
    unsigned n_ready;     /* streams in fresh and ring that have something to send */
    unsigned interactive; /* how many of the next messages are kept short */
    unsigned bulk;        /* how many messages the last large piece is remembered for */
    uint32_t bulk_id;     /* the stream that sent it */
    bool swift;           /* see MUX_SWIFT_BYTES */
    uint32_t paced;       /* bytes since paced_at */
    uint64_t paced_at;
    unsigned n_streams;     /* open streams of this link */
    uint64_t left_at;       /* when the last pull() could not send everything; 0: it could */
    struct ht_list windows; /* streams with a WINDOW to send */
    struct ht_list batch;   /* streams that wait for data_end() */
};

/* The present message is the first one of a link that took over: the half is to go on behind it. */
static inline bool link_half_waits(const struct mux_link *l) { return l->skip > 0 && !l->past_first; }

/* How far the message was read that is not whole. */
static inline struct mux_half link_half(const struct mux_link *l) {
    return link_half_waits(l) ? l->half : (struct mux_half){l->assembler, l->data_left, l->acks, l->discard};
}

static inline void link_ref(struct mux_link *l) { l->refs++; }
/* Frees the link with the last reference. */
void link_unref(struct mux_link *l);
/* Calls output(), once until the next pull(). */
void link_wake(struct mux_link *l);
/* The buffer for decoded frames. All links of a thread share it, so a decoded frame must be handled before the next one
 * is decoded. */
struct wire_scratch *link_scratch(void);
/* The output buffer for compat_head_in(), LINK_TEXT_SIZE bytes, shared in the same way. */
#define LINK_TEXT_SIZE ((size_t)2 * WIRE_LIMIT_MAX_PAYLOAD)
uint8_t *link_text(void);
/* Takes no more input, and asks the owner to close with `ws_code`. Does nothing on a dead link. */
void link_close(struct mux_link *l, uint16_t ws_code, const char *reason);
/* What was queued is not sent. */
void link_drop_output(struct mux_link *l);
/* Takes the link out of its session, which frees one that was away and that its owner has destroyed. Its streams must
 * be off the wire. */
void link_detach(struct mux_link *l);
/* The frame that is queued, if there is one, becomes the greeting. The queue is empty then, and holds no memory. */
void link_greet(struct mux_link *l);
/* As wire_asm_feed(). */
ssize_t link_feed(struct mux_link *l, const uint8_t *p, size_t n, bool end, struct wire_error *err);
/* Makes the link the session's link `index`. */
void link_attach(struct mux_link *l, struct mux_session *s, unsigned index);

/* ---- sessions ---- */

enum session_state {
    SESSION_NEW,      /* no link yet */
    SESSION_LIVE,     /* has a primary link */
    SESSION_AWAY,     /* stream-resume: all links are lost and away; mux_session_resume() goes on */
    SESSION_DRAINING, /* we have sent GOAWAY; open streams may finish */
    SESSION_GOING,    /* driver: the kit has sent GOAWAY; open streams may finish until it closes */
    SESSION_OVER,     /* has ended; over() was called, or is about to be */
    SESSION_COUNT,
};

/* A hash table by stream id with open addressing. Ids are even and grow, so id / 2 is a perfect hash. */
struct stream_table {
    struct mux_stream **slot;
    uint32_t mask; /* slots - 1; meaningless while slot is NULL */
    uint32_t used;
};

/*
 * Ids that were skipped and may still come on another link, as sorted ranges. When there are too many ranges, an id
 * counts as used, and a stream with it is refused.
 */
struct id_gaps {
    struct id_gap {
        uint32_t first, last;
    } * gap;
    unsigned n, cap;
};

/* How fast bytes pass a window. */
struct mux_pace {
    uint32_t since; /* the low bits of now_ms */
    uint32_t bytes; /* since then */
};

struct mux_session {
    struct mux_config cfg;
    const struct mux_session_ops *ops;
    void *ctx;
    enum session_state state;
    unsigned refs; /* one for each running call, and one for the owner */
    bool destroyed;
    struct mux_link *links[WIRE_LIMIT_MAX_CONNECTIONS]; /* those that are away, too */
    unsigned n_links;                                   /* without them */
    unsigned n_away;
    struct replay *replay;     /* by index; NULL: no stream-resume */
    size_t kept;               /* bytes that the owner keeps, of all indexes */
    uint32_t unacked;          /* bit i: messages have come on index i that the peer was not told of */
    uint32_t unconfirmed;      /* bit i: messages were sent on index i that the peer has not confirmed */
    uint32_t ack_bytes;        /* after so many bytes an ACK is due */
    bool full;                 /* a link had no room in the replay buffer when it wanted to send, and waits for it */
    bool said_goaway;          /* the peer will not come back to this session */
    bool restarts;             /* SESSION_GOING: for HANDOVER-1 alone, so what is under way outlives a lost link */
    struct stream_table table; /* open streams */
    struct ht_list all;        /* open streams, and ended ones whose handle was not released */
    unsigned n_all;
    struct ht_list starved;  /* streams whose turn found no session credit, in order of arrival */
    struct ht_list dialling; /* compat: streams that wait until the driver has dialled */
    struct flow_send send;
    struct flow_pool recv;
    struct mux_pace pace;                          /* of bytes received */
    uint64_t sent[WIRE_LIMIT_MAX_CONNECTIONS];     /* DATA bytes on links of each index (SHARD-3) */
    uint64_t received[WIRE_LIMIT_MAX_CONNECTIONS]; /* the same; all bytes of a frame count when it begins */
    uint64_t swallowed;                            /* DATA bytes that were sent and then taken off `sent` again */
    uint32_t send_limit, stream_send_limit;        /* the largest windows that WINDOW may give us */
    uint32_t next_id;    /* kit: id of the next stream. Driver: the least id that was not seen yet */
    uint32_t last_id;    /* kit: the last id that mux_stream_open() may use */
    uint32_t going_last; /* SESSION_GOING: the last stream that the kit has opened; 0: not known */
    bool ids_used_up;
    struct id_gaps gaps;  /* driver, v2: ids below next_id that have not come yet */
    uint32_t strays;      /* frames for streams that never existed */
    size_t trailers;      /* bytes of trailers that wait to be sent */
    uint32_t faults_left; /* budget of faults that the peer may make on streams; at 0 the session ends */
    uint32_t churn_left;  /* driver: budget of streams that visitors reset; at 0 new streams are refused */
    uint64_t budgets_at;  /* when these two were filled last */
    int failed;           /* an internal error; the next tick ends the session */
    bool room_wanted;     /* mux_session_congested() was true, and room() was not called since */

    uint64_t now_ms;
    bool heard;                      /* input came since the last tick */
    bool idle_marked;                /* idle_since is set */
    bool ping_sent;                  /* a PING waits for its PONG */
    bool in_order;                   /* mux_session_in_order() was called, and its PING was not answered yet */
    uint64_t ping_nonce;             /* of the last PING */
    uint64_t ping_us, measure_us;    /* for the round trip: when PING was sent; time of mux_session_measure() */
    bool active;                     /* streams are open, or bytes wait to be sent, since active_since */
    bool probing;                    /* mux_session_probe() was called, and its PING has no answer */
    uint64_t patience_ms;            /* what it said; 0: suspect_after_ms */
    uint64_t active_since, moved_at; /* moved_at: when bytes that had to wait were sent last */
    uint64_t heard_at, idle_since, ping_at, drain_until;
    uint64_t settle_check_at; /* when compat_tick() has work; UINT64_MAX: it has none */
    bool rtt_known;
    uint64_t rtt_ms; /* the last round trip */
    /* KEEP-6 */
    uint64_t ack_ms;                        /* how long ACKs have taken of late; it falls slowly */
    uint64_t drained, drain_at, drained_at; /* look_at_drain() */
    unsigned bindings;
    uint16_t drain_ws_code;
};

static inline void session_ref(struct mux_session *s) { s->refs++; }
void session_unref(struct mux_session *s);
static inline bool session_alive(const struct mux_session *s) { return !s->destroyed && s->state != SESSION_OVER; }
static inline struct mux_link *session_primary(const struct mux_session *s) { return s->links[0]; }

/* The link for the next stream; NULL: there is none. */
struct mux_link *session_next_link(const struct mux_session *s);

/* The only function that changes a session's state. It asserts that the change is legal. */
void session_set_state(struct mux_session *s, enum session_state to);

/*
 * Ends the session: closes its streams with `stream_code`, asks all links except `but` to close with `ws_code`, and
 * calls over(). Does nothing when the session has ended already. `s` may be freed on return, unless the caller holds a
 * reference.
 */
struct session_end {
    enum mux_end why;
    const char *text;
    uint16_t ws_code;
    enum wire_code stream_code;
    bool remote; /* the peer has caused it */
};
void session_finish(struct mux_session *s, const struct session_end *end, struct mux_link *but);

/* The peer broke a rule: sends GOAWAY, closes, and calls over(MUX_END_VIOLATION). Returns HT_EPROTO, so that the caller
 * takes no more input. */
int session_violation(struct mux_session *s, enum wire_code code, uint16_t ws_code, const char *text);
/* An internal error, such as no memory: the next tick ends the session, because no other call runs there. */
void session_fail(struct mux_session *s, int err);
/* The present time for measurements, in microseconds: that of mux_session_measure() or of the last tick, if later. */
uint64_t session_measured_us(const struct mux_session *s);
/* Queues GOAWAY on the primary. Errors are ignored. */
/* True for the GOAWAY of HANDOVER-1, after which the links of the session go on. */
bool session_is_handover(const struct mux_session *s, const struct wire_goaway *g);
/* True while links may come and go. */
static inline bool session_goes_on(const struct mux_session *s) {
    return s->state == SESSION_LIVE || (s->state == SESSION_GOING && s->restarts);
}
void session_send_goaway(struct mux_session *s, uint32_t code, const char *message);
/* A link is lost: the primary, which ends the session, or a secondary with its streams. `clean`: as in
 * mux_link_closed(). */
void session_link_gone(struct mux_session *s, struct mux_link *l, bool clean);
/* What has not come of the DATA frame on a lost link will never come. */
void session_drop_rest(struct mux_session *s, struct mux_link *l);
/* Ends the streams of a link as lost. */
void session_end_streams(struct mux_session *s, struct mux_link *l);

/* ---- streams ---- */

/* The list in which a stream waits with its `turn`. */
enum stream_place {
    PLACE_NOWHERE,
    PLACE_SPENT,   /* in link->fresh or link->ring with nothing to send; removed at its turn */
    PLACE_WAITING, /* there with something to send; counted in link->n_ready */
    PLACE_STARVED, /* in session->starved: waits for session credit */
    PLACE_BLOCKED, /* waits for a WINDOW of its own; in session->dialling or in no list */
    PLACE_HELD,    /* its EOF waits until the driver has dialled; in session->dialling (compat) */
};

/* What a stream wants to send at its turn. */
enum stream_wish {
    WISH_NOTHING,
    WISH_PULL, /* bytes from pull() */
    WISH_EOF,  /* EOF: pull() has returned MUX_PULL_EOF */
};

enum stream_head {
    HEAD_DUE,      /* no final response head yet; with an authority: no STREAM_CONNECTED yet */
    HEAD_PASSED,   /* sent or received */
    HEAD_SWITCHED, /* the head was a 101: raw bytes follow */
};

/* The request of an upgrade has an EOF of its own: see stream_request_eof(). */
enum stream_request {
    REQUEST_PLAIN,  /* no upgrade, or an upgrade that was declined */
    REQUEST_DUE,    /* STREAM_OPEN has isUpgrade, and neither its EOF nor DATA has passed yet */
    REQUEST_PASSED, /* the EOF of the request has passed */
};

/* What the kit knows about the driver's local connection (compat). */
enum stream_dial {
    DIAL_UNKNOWN,
    DIAL_SEEN, /* the driver has sent a WINDOW for the stream, so it knows the stream */
    DIAL_DONE, /* the driver is connected, as far as we can tell */
};

struct mux_stream {
    struct ht_list turn;   /* in link->fresh, link->ring, session->starved, session->dialling, or no list */
    struct ht_list all;    /* in session->all */
    struct ht_list window; /* in link->windows, or no list */
    struct ht_list batch;  /* in batch_of->batch, or no list */
    struct mux_link *batch_of;
    struct mux_session *s;            /* NULL: the session is gone, and calls do nothing */
    struct mux_link *l;               /* NULL: no longer on the wire and not in the table */
    const struct mux_stream_ops *ops; /* NULL: nobody gets callbacks */
    void *ctx;
    uint32_t id;
    struct flow_send send;
    struct flow_recv recv;
    uint32_t unconsumed;
    uint32_t sent;                /* compat: bytes sent before the driver had dialled */
    uint64_t away_ms;             /* on: replay.away_ms at its beginning; off: how long its link was away */
    struct mux_pace pace;         /* of bytes consumed */
    uint64_t settle_at;           /* compat: when the wait for the driver's dial ends; 0: no tick has seen the stream */
    uint8_t *trailers;            /* the encoded frame to send before EOF; NULL: none */
    uint16_t busy;                /* number of running callbacks */
    uint8_t kind;                 /* enum wire_kind */
    uint8_t interim;              /* number of interim heads so far */
    uint8_t nudges;               /* calls of mux_stream_ready() since the last pull */
    enum wire_stream_state state; /* only stream_set_state() changes it */
    enum stream_place place;
    enum stream_wish wish;
    enum stream_head head;
    enum stream_request request;
    enum stream_dial dial;
    bool handle;       /* the owner has not released the stream */
    bool told_no;      /* the last writable() call said false */
    bool pulling;      /* pull() is running */
    bool lost;         /* see mux_stream_was_lost() */
    bool trailers_in;  /* the peer's trailers have come: only EOF or RESET may follow */
    bool trailers_out; /* ours were set */
};

/* True from the STREAM_OPEN until the stream has ended on the wire. */
static inline bool stream_is_on(const struct mux_stream *st) { return st->l != NULL; }
/* The only function that changes a stream's state. It asserts that the spec's state machine has the change. */
void stream_set_state(struct mux_stream *st, enum wire_stream_state to);
/* EOF was sent, or has come. */
void stream_end_local(struct mux_stream *st);
void stream_end_remote(struct mux_stream *st);
static inline bool stream_local_ended(const struct mux_stream *st) {
    return st->state == WIRE_STATE_HALF_CLOSED_LOCAL || st->state == WIRE_STATE_CLOSED;
}
static inline bool stream_remote_ended(const struct mux_stream *st) {
    return st->state == WIRE_STATE_HALF_CLOSED_REMOTE || st->state == WIRE_STATE_CLOSED;
}

/* Marks an id as used (STREAM-1). False: it was used before. */
bool ids_take(struct mux_session *s, uint32_t id);
void ids_free(struct mux_session *s);

struct mux_stream *table_find(const struct stream_table *t, uint32_t id);
/* 0 or HT_ENOMEM. */
int table_add(struct stream_table *t, struct mux_stream *st) HT_MUST_USE;
void table_remove(struct stream_table *t, uint32_t id);
void table_free(struct stream_table *t);

/* Makes an open stream on `l`, in the table and counted. NULL: out of memory. */
struct mux_stream *stream_create(struct mux_session *s, struct mux_link *l, uint32_t id,
                                 enum wire_kind kind) HT_MUST_USE;
/* Sets what must come from the driver first, as its STREAM_OPEN says: a head, or STREAM_CONNECTED. */
void stream_await_answer(struct mux_stream *st, const struct wire_stream_open *open);
static inline void stream_ref(struct mux_stream *st) { st->busy++; }
/* Frees the stream when it has ended, its handle was released and no callback runs. */
void stream_unref(struct mux_stream *st);
/* Takes the stream off the wire and out of every list except `all` and `batch`. Makes no callback. */
void stream_off(struct mux_stream *st);
/* Frees trailers that were not sent. */
void stream_drop_trailers(struct mux_stream *st);
/* stream_off(), then closed(). */
void stream_end(struct mux_stream *st, uint16_t code, struct ht_slice reason, bool remote);
/* The peer broke a rule of the stream: sends RESET and calls closed(). Returns 0, or HT_EPROTO when the peer did so too
 * often and the session has ended. */
int stream_violation(struct mux_stream *st, enum wire_code code, const char *reason);
/* The session is going away: calls closed() and data_end(). Afterwards calls with the handle do nothing. */
void stream_orphan(struct mux_stream *st, uint16_t code, struct ht_slice reason, bool remote);
/* Calls closed(0) if both directions have ended. */
void stream_check_done(struct mux_stream *st);
/* Calls writable() if the value has changed. */
void stream_tell_writable(struct mux_stream *st, bool yes);
/*
 * True: an EOF of the kit that comes now ends only the request of an upgrade. That EOF follows STREAM_OPEN, as for any
 * request without a body, and drivers ignore it until the 101 (wire protocol, section 4). The bytes after the 101 have
 * an EOF of their own. The 101 may overtake the EOF behind STREAM_OPEN, because each direction has its own delay.
 */
static inline bool stream_request_eof(const struct mux_stream *st) {
    return st->request != REQUEST_PLAIN && (st->head == HEAD_DUE || st->request == REQUEST_DUE);
}
/* The stream has credit of its own again: lets it send. May make callbacks. */
void stream_unblock(struct mux_stream *st);
/*
 * The final response head has passed. If it declines an upgrade (any status but 101), the EOF of the request ends the
 * kit's direction as usual, whether it has passed or is still to come.
 */
void stream_head_passed(struct mux_stream *st, int status);
/* Makes data_end() due at the end of the present batch. */
void stream_mark_batch(struct mux_stream *st, struct mux_link *l);

/* ---- receiving ---- */

/* Handle a frame, or a piece of a DATA frame, as the callbacks of struct wire_asm_ops. 0 or HT_EPROTO: the session has
 * ended. */
int in_frame(struct mux_session *s, struct mux_link *l, uint8_t type, uint32_t id, const uint8_t *payload, size_t len);
int in_data(struct mux_session *s, struct mux_link *l, uint32_t id, const uint8_t *p, size_t n, uint32_t frame_len,
            bool first);
/* Counts a fault of the peer on a stream. 0, or HT_EPROTO when there were too many and the session has ended. */
int in_fault(struct mux_session *s);

/* ---- sending ---- */

/* These append a frame to the control queue. 0, HT_ENOMEM, or an error of the encoder. */
int out_session_frame(struct mux_link *l, enum wire_frame_type type, const void *payload) HT_MUST_USE;
int out_stream_open(struct mux_link *l, uint32_t id, const struct wire_stream_open *open) HT_MUST_USE;
int out_response_head(struct mux_link *l, uint32_t id, const struct wire_response_head *head) HT_MUST_USE;
int out_connected(struct mux_link *l, uint32_t id) HT_MUST_USE;
/* Cannot fail: without memory the session ends. */
void out_reset(struct mux_link *l, uint32_t id, uint16_t code, const char *reason);
void out_pong(struct mux_link *l, const uint8_t nonce[8]);
/* Queues a stream with bytes or EOF to send for its turn. Does nothing while it waits for credit. `fresh`: before the
 * streams that have had a turn. */
void out_enter(struct mux_stream *st, bool fresh);
/* Takes a stream out of the turns and out of every list of waiting streams. */
void out_leave(struct mux_stream *st);
/* Session credit has come: starved streams may send again. */
void out_feed_starved(struct mux_session *s);

/* A message that is being pulled. */
struct mux_message {
    uint8_t *p;
    size_t len, cap;
    unsigned frames, max_frames;
    unsigned in_vain; /* streams that gave nothing, and want to be asked again */
    bool acks;        /* there is room for an ACK behind `cap` */
    bool no_data;     /* the replay buffer is full: control frames only */
    bool nothing;     /* and not even those */
};

/* ---- stream-resume ---- */

/* The bytes of an ACK. */
#define REPLAY_ACK (WIRE_LIMIT_HEADER + 8u)

/* As wire_asm_feed(), for a link with `rp`. What was read on a lost link is skipped (RESUME-10). */
ssize_t resume_feed(struct mux_link *l, const uint8_t *p, size_t n, bool end, struct wire_error *err);
/* `n` bytes of a message were read, and that was all of it when `end` is true. */
void resume_came(struct mux_link *l, size_t n, bool end);
/* The link became dead while a frame was handled whose bytes end here. Returns HT_ECLOSED. */
int resume_stopped(struct mux_link *l, const uint8_t *end_of_frame);
/* ACK has come. 0 or HT_EPROTO. */
int resume_acked(struct mux_session *s, struct mux_link *l, uint64_t messages);

/* mux_link_pull() of a link with a greeting: nothing but that. */
void resume_greet(struct mux_link *l, struct mux_message *m);
/* mux_link_pull() of a link with `rp`: before and behind the frames. False: there are none to be sent. */
bool resume_begin(struct mux_link *l, struct mux_message *m);
void resume_end(struct mux_link *l, struct mux_message *m);

/* A link is lost. True: it is away, and what is to be said about it was said. */
bool resume_wait(struct mux_session *s, struct mux_link *l, bool clean);
/* All links of a live session go away, and are asked to close with `ws_code`, but for `but`, which is closed. False:
 * the session may not wait. */
bool resume_away(struct mux_session *s, uint16_t ws_code, const char *text, struct mux_link *but);
/* The streams of `index` are gone, and so is what was kept: counts from 1 again. Calls given_up(). */
void resume_forget(struct mux_session *s, unsigned index);
/* Another link joins, of a session with stream-resume. `messages` is the peer's word. 0: *ok says in `has_received`
 * whether the streams of the index go on; otherwise they have ended. Or a negative error. */
int resume_join(struct mux_session *s, struct mux_link *l, unsigned index, const uint64_t *messages,
                struct wire_join_ok *ok);
/* Makes the link the session's link `index`. `messages`: where a lost one ended. Allocates nothing. */
void resume_attach(struct mux_link *l, struct mux_session *s, unsigned index, const uint64_t *messages);
void resume_tick(struct mux_session *s);
uint64_t resume_deadline(const struct mux_session *s);
/* KEEP-6: since when a message of any index waits for its ACK; UINT64_MAX: none does, or no resume could go on with it.
 */
uint64_t resume_waits_since(const struct mux_session *s);
/* The stream is about to go off its link. */
void resume_stream_off(struct mux_stream *st);

/* ---- credit ---- */

/* A WINDOW has come, for the session or a stream. 0 or HT_EPROTO. */
int window_session_grant(struct mux_session *s, uint32_t n);
int window_stream_grant(struct mux_stream *st, uint32_t n);
/* How many bytes of DATA the stream's own credit allows now. */
uint32_t window_stream_room(const struct mux_stream *st);
/* `n` bytes of DATA are dropped: the peer gets their session credit back. */
void window_drop(struct mux_session *s, uint32_t n);
/* `n` bytes of DATA are handed up, and will be consumed. */
void window_session_came(struct mux_session *s, uint32_t n);
/* How large the protocol lets a window become above its first size; 0: not at all. */
uint32_t window_limit(const struct mux_session *s);
/* These send a WINDOW when it is due. */
void window_session_check(struct mux_session *s);
void window_stream_check(struct mux_stream *st);

/* ---- workarounds for published drivers; compat.c says why ---- */

/* How many of `room` bytes may be sent on the stream now. */
uint32_t compat_send_room(const struct mux_stream *st, uint32_t room);
/* `n` bytes were sent on the stream. */
void compat_sent(struct mux_stream *st, uint32_t n);
/* True: the EOF must wait until the driver has dialled. The stream is then in session->dialling. */
bool compat_hold_eof(struct mux_stream *st);
/* The stream is blocked. If only compat_send_room() blocks it, compat_tick() lets it go on. */
void compat_hold_burst(struct mux_stream *st);
/* A WINDOW of the stream has come. */
void compat_window_seen(struct mux_stream *st);
/* DATA or a head of the stream has come: the driver is connected. */
void compat_heard(struct mux_stream *st);
void compat_tick(struct mux_session *s);
/* Changes the payload of a STREAM_OPEN, in place, to what a published driver understands. Returns its length, which is
 * not larger than before. */
size_t compat_head_out(const struct mux_link *l, uint8_t *p, size_t n);
/* Converts the payload of a published driver's head to what FIELD-4 demands. Writes to out[0..2n) and returns the
 * length. 0: the payload is good as it is. */
size_t compat_head_in(const struct mux_session *s, const uint8_t *p, size_t n, uint8_t *out);

#endif
