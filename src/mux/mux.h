/*
 * The multiplexer: sessions, their links and their streams. It does no I/O: bytes go in with mux_link_message() and
 * come out with mux_link_pull(), and time passes with mux_session_tick(). It knows no sockets and no WebSockets.
 *
 *   link     One WebSocket, seen from here. It exists before its session: HELLO makes a session, JOIN finds one.
 *   session  Has 1 link (v1), or up to 16 (v2). The link with index 0 is the primary; stream-zero frames use it.
 *   stream   One request or connection. The kit opens it. It stays on the link that carried its STREAM_OPEN.
 *
 * Callbacks are small structs of functions, which must outlive the object that uses them. A callback may call this room
 * and may destroy streams, links and sessions, its own included. It must not call mux_link_message(), for any link:
 * decoded payloads share one buffer.
 *
 * Ownership: who gets a `struct mux_stream *` owns a handle and gives it back once, with mux_stream_release(). A handle
 * may outlive its session. Calls with such a handle do nothing and return HT_ECLOSED or a neutral value.
 */
#ifndef HT_MUX_MUX_H
#define HT_MUX_MUX_H

#include "base/base.h"
#include "base/err.h"
#include "metrics_gen.h"
#include "wire_gen.h"

#include <sys/types.h>
#include <sys/uio.h>

struct mux_link;
struct mux_session;
struct mux_stream;

/* The capabilities of the protocol that this implementation has: a driver names them, and a kit accepts them. */
#define MUX_CAPS                                                                                                       \
    (WIRE_CAP_MULTI_WS | WIRE_CAP_SHARD_MAP | WIRE_CAP_REISSUE_TICKETS | WIRE_CAP_AUTO_WINDOW | WIRE_CAP_CLIENT |      \
     WIRE_CAP_TRAILERS | WIRE_CAP_HANDOVER | WIRE_CAP_NAMES | WIRE_CAP_HOSTS | WIRE_CAP_LARGE_WINDOW |                 \
     WIRE_CAP_STREAM_RESUME)

/* ---- links ---- */

struct mux_link_ops {
    /* Kit. HELLO is the first frame. The callee answers with mux_session_attach(), which sends HELLO_OK, or with
     * mux_link_refuse(). Frames are valid during the call, here and below. */
    void (*hello)(void *ctx, const struct wire_hello *hello);
    /* Kit, v2. The callee answers with mux_session_join() or mux_link_refuse_join(). */
    void (*join)(void *ctx, const struct wire_join *join);
    /* Driver. The callee makes a session and attaches the link, or closes the link. */
    void (*hello_ok)(void *ctx, const struct wire_hello_ok *ok);
    /* Driver, v2. */
    void (*join_ok)(void *ctx, const struct wire_join_ok *ok);
    void (*join_err)(void *ctx, const struct wire_join_err *err);
    /* Driver. GOAWAY has come before there was a session: the kit refuses (session limit, authentication). */
    void (*refused)(void *ctx, const struct wire_goaway *goaway);
    /* mux_link_pull() has output. Called once, and again only after the next pull. */
    void (*output)(void *ctx);
    /* The callee must send everything that can be pulled and then close the WebSocket with `ws_code`. 0: with a close
     * frame without a code. Called at most once. The link ignores input from then on. */
    void (*close)(void *ctx, uint16_t ws_code, const char *reason);
    /*
     * The next three only with stream-resume, and never NULL then. What they are about belongs to the session and the
     * link's index, and outlives the link: the owner keeps the messages of an index that mux_link_counts() has said
     * true of, numbered from 1 in the order in which they were pulled. Each of these may do nothing but look after
     * these messages.
     *
     * kept: how many bytes the owner keeps of this index (RESUME-8).
     */
    size_t (*kept)(void *ctx);
    /* The messages 1 to `count` may be forgotten. A peer may acknowledge what was pulled and is not written yet. */
    void (*acked)(void *ctx, uint64_t count);
    /*
     * Called inside the first mux_link_pull() behind HELLO, HELLO_OK, JOIN or JOIN_OK of a link that goes on where a
     * lost one of its index ended. mux_link_pull() then returns 0 and has called output(). The messages 1 to `count`
     * may be forgotten, and all later ones must be sent, unchanged and in their order, before mux_link_pull() is called
     * again (RESUME-4).
     */
    void (*replay)(void *ctx, uint64_t count);
    /* May be NULL. How many bytes the kernel at the other end of the connection has taken in so far; *waits: others
     * were sent and are on their way still. So a slow link is told from a dead one (KEEP-6). */
    uint64_t (*drained)(void *ctx, bool *waits);
};

/* The caller owns the link. NULL: out of memory. */
struct mux_link *mux_link_create(enum wire_role role, enum wire_version version, const struct mux_link_ops *ops,
                                 void *ctx) HT_MUST_USE;

/*
 * Input. Both work as the functions of struct ws_ops: ws/ws.h says how much of a message is consumed and how long `p`
 * must live. A negative result means that the link takes no more input, because it was closed or destroyed. Its output
 * can still be pulled.
 */
ssize_t mux_link_message(struct mux_link *l, const uint8_t *p, size_t n, bool end);
void mux_link_fed(struct mux_link *l);
/*
 * Writes one message of at most `cap` bytes and 64 frames to `out`, and returns its length. The order is: PONGs, the
 * control queue, WINDOWs, then DATA of the streams in turn, each up to 64 KiB. 0: nothing to send; output() is called
 * when there is. A control frame waits until it fits whole, so a `cap` below 9 + 65,536 may stop all output. Use 128
 * KiB or more; on a slow link a smaller `cap` keeps messages short.
 */
size_t mux_link_pull(struct mux_link *l, uint8_t *out, size_t cap);
/* While a small piece may have to pass bulk, messages are no longer than this, and bulk that has more fills them. */
#define MUX_SHORT_MESSAGE (WIRE_LIMIT_HEADER + WIRE_LIMIT_MAX_PAYLOAD)
/* After mux_link_pull() has returned a message: true when the owner must keep it until acked() or replay() lets it go.
 * False without stream-resume, and for the few messages that do not count (RESUME-6). */
bool mux_link_counts(const struct mux_link *l);
/* Bytes of control frames that wait to be pulled. Stream data does not count: it stays at its source. */
size_t mux_link_queued(const struct mux_link *l);

/*
 * The WebSocket has closed. `clean`: the peer sent a close frame without a code or with 1000; the session then ends for
 * good instead of parking (END-1). The session reports it by over(), away() or link_lost(). The link exists until
 * mux_link_destroy().
 */
void mux_link_closed(struct mux_link *l, bool clean);
/* For its session the connection is lost, and the owner's link is gone. (With stream-resume the session goes on to use
 * the struct, until another link takes over or the streams end.) Clears the pointer. NULL is ignored. */
void mux_link_destroy(struct mux_link **l);

/* Kit, before there is a session: sends `goaway` unless it is NULL, then closes with `ws_code`. */
void mux_link_refuse(struct mux_link *l, const struct wire_goaway *goaway, uint16_t ws_code, const char *reason);
void mux_link_refuse_join(struct mux_link *l, const struct wire_join_err *err);
/* Driver: sends the first frame. 0 or an error of the encoder. */
int mux_link_send_hello(struct mux_link *l, const struct wire_hello *hello) HT_MUST_USE;
int mux_link_send_join(struct mux_link *l, const struct wire_join *join) HT_MUST_USE;

/* ---- sessions ---- */

enum mux_end {
    MUX_END_CLEAN,     /* the peer ended it, by GOAWAY or a clean close. The kit does not park it (END-1) */
    MUX_END_LOST,      /* the primary link was lost. The kit may park the session */
    MUX_END_VIOLATION, /* the peer broke a rule, and has got GOAWAY for it */
    MUX_END_TIMEOUT,   /* no PONG came in time. The kit may park the session */
    MUX_END_IDLE,      /* idle timeout */
    MUX_END_LOCAL,     /* mux_session_shutdown() or mux_session_close() has ended it */
};

struct mux_session_ops {
    /* Kit. `err` is NULL for a valid BIND. Otherwise it has the reason, and `bind` has the client's ref if there was
     * one. */
    void (*bind)(void *ctx, const struct wire_bind *bind, const struct wire_error *err);
    void (*unbind)(void *ctx, const struct wire_unbind *unbind);
    void (*reissue)(void *ctx, const struct wire_reissue *ask);
    /* Driver. */
    void (*bind_ok)(void *ctx, const struct wire_bind_ok *ok);
    void (*bind_err)(void *ctx, const struct wire_bind_err *err);
    void (*unbind_ok)(void *ctx, const struct wire_unbind_ok *ok);
    void (*unbind_err)(void *ctx, const struct wire_unbind_err *err);
    void (*bind_revoked)(void *ctx, const struct wire_bind_revoked *revoked);
    void (*shard_map)(void *ctx, const struct wire_shard_map *map);
    void (*reissued)(void *ctx, const struct wire_reissue *tickets);
    /* Driver. A new stream; the callee owns the handle. Before it returns it calls mux_stream_accept(), or refuses with
     * mux_stream_reset() and mux_stream_release(). */
    void (*stream_open)(void *ctx, struct mux_stream *stream, const struct wire_stream_open *open);
    /* Both. The peer has sent GOAWAY; over() comes later. May be NULL. */
    void (*goaway)(void *ctx, const struct wire_goaway *goaway);
    /* A PING was answered after `rtt_us`. May be NULL. */
    void (*pong)(void *ctx, uint64_t rtt_us);
    /* v2: a secondary link is lost, and its streams were closed with REFUSED_STREAM. With stream-resume they are not:
     * they wait for another link of this index. The callee destroys the link. May be NULL. */
    void (*link_lost)(void *ctx, struct mux_link *link, unsigned index);
    /*
     * With stream-resume: the primary is lost, or no PONG came in time, and the session is AWAY (see below). This comes
     * instead of over() with MUX_END_LOST or MUX_END_TIMEOUT. All its links were asked to close, as far as they are not
     * closed yet; the callee destroys them, now or later. `text` says why. NULL: such a session ends as without
     * stream-resume.
     */
    void (*away)(void *ctx, const char *text);
    /* With stream-resume, v2: the streams that waited for a link of this index have ended with REFUSED_STREAM, because
     * resume_grace_ms have passed or the peer has given them up. The owner forgets all that it keeps of the index;
     * messages count from 1 again. May be NULL in v1. */
    void (*given_up)(void *ctx, unsigned index);
    /* Kit. mux_stream_open() has used mux_config.last_stream_id, and can open no more streams. May be NULL. */
    void (*used_up)(void *ctx);
    /* Kit. The queue is short again after mux_session_congested() was true. May be NULL. */
    void (*room)(void *ctx);
    /* The session has ended. All its streams were closed before, and this is the last callback. The callee destroys the
     * session, now or later. */
    void (*over)(void *ctx, enum mux_end why, const char *text);
};

/* With this many bytes of control frames queued (the peer does not read), the session takes no new work. */
#define MUX_QUEUE_MAX (4u << 20)
/* When the replay buffer is full, or a link's part of it, no DATA is sent. When so much more is kept, nothing is but
 * ACKs: a peer that reads and does not acknowledge is then one that does not read, and our memory is bounded. */
#define MUX_KEPT_MORE (1u << 20)
/* Most bytes of trailers that wait for their EOF in one session. */
#define MUX_TRAILERS_MAX (256u << 10)

/* What several sessions may have together. It outlives them. */
struct mux_quota {
    uint32_t max_streams; /* 0: any number */
    uint32_t streams;     /* at present */
};

struct mux_config {
    enum wire_role role;
    enum wire_version version;
    uint32_t stream_window;  /* bytes; initial window of a stream, in both directions (HELLO_OK) */
    uint32_t session_window; /* bytes; the same for the session */
    uint32_t max_window;     /* bytes; how far we let our receive windows grow (FLOW-8, FLOW-9); 0: not at all */
    uint32_t max_streams;    /* streams at the same time. A stream counts until its handle is released */
    uint64_t session_buffer; /* bytes that we hold for the session before we keep session credit back (FLOW-6) */
    uint64_t ping_interval_ms, pong_timeout_ms, idle_timeout_ms; /* 0: never */
    /* Replaces ping_interval_ms and pong_timeout_ms while streams are open or bytes wait to be sent (KEEP-5). With
     * stream-resume the shorter times for messages without an ACK follow it, too (KEEP-6). 0: not. */
    uint64_t suspect_after_ms;
    uint64_t measure_interval_ms; /* how often to send PING for the round trip, also when frames come; 0: never */
    uint32_t first_stream_id;     /* kit: 2, or the next id of a resumed session, since ids are never reused */
    uint32_t last_stream_id;      /* kit: the last id to use; 0: the largest of the protocol */
    bool own_peer;              /* the peer named a capability of this project: no workarounds for published drivers */
    unsigned caps;              /* the capabilities that both sides named, WIRE_CAP_... */
    struct ht_metrics *metrics; /* may be NULL */
    struct mux_quota *quota;    /* of several sessions; may be NULL */
    /* With stream-resume: bytes of messages that the owner keeps for the session, as HELLO or HELLO_OK said (0: the
     * least, MIN_REPLAY_BUFFER); what the peer said of itself (0: nothing); how long the streams of a secondary wait
     * for another link. */
    uint32_t replay_buffer, peer_replay_buffer;
    uint64_t resume_grace_ms;
    /* Fills p[0..n) with unguessable bytes, for the nonces of PINGs. NULL: the nonces are a counter. */
    void (*random)(void *p, size_t n);
};

/* Makes a session, which the caller owns. `now_ms` is monotonic time. NULL: out of memory. */
struct mux_session *mux_session_create(const struct mux_config *cfg, const struct mux_session_ops *ops, void *ctx,
                                       uint64_t now_ms) HT_MUST_USE;
/* Closes the open streams, sends nothing, and does not call over(). Links are detached and not destroyed. Clears the
 * pointer. NULL is ignored. */
void mux_session_destroy(struct mux_session **s);

/* Changes the owner: all later callbacks go to `ops` with `ctx`. */
void mux_session_set_ops(struct mux_session *s, const struct mux_session_ops *ops, void *ctx);

/* Makes `l` the primary (index 0). A kit also sends HELLO_OK. 0 or an error of the encoder. */
int mux_session_attach(struct mux_session *s, struct mux_link *l, const struct wire_hello_ok *ok) HT_MUST_USE;
/*
 * v2: makes `l` the secondary link `index`. A kit also sends JOIN_OK. Both counts are the peer's word; NULL: it did not
 * say. `bytes` is the number of DATA bytes that it has received on links of this index (SHARD-3): the credit of bytes
 * that were lost with a link is given back. `messages` is the number of messages that it has received there (RESUME-9):
 * if this side waits with the streams of the index, they go on; otherwise they end before this returns, with
 * given_up(). HT_EINVAL: the index is in use or out of range. HT_EPROTO: a count cannot be true, and the session has
 * ended. (A kit takes more messages than were sent for none, RESUME-11.) HT_EAGAIN, at a kit: fewer messages than were
 * acknowledged, so this JOIN was sent before another one; the streams still wait.
 */
int mux_session_join(struct mux_session *s, struct mux_link *l, unsigned index, const uint64_t *bytes,
                     const uint64_t *messages) HT_MUST_USE;
/* The number of DATA bytes that this side has received on links of `index`, for JOIN (SHARD-3). */
uint64_t mux_session_received(const struct mux_session *s, unsigned index);

/*
 * Streams that survive a lost link (stream-resume). When the primary is lost, the session is AWAY: it has no link, and
 * its streams, their credit and what is queued for the peer stay. Everything may be called meanwhile. Streams can be
 * consumed, written as far as their sources are asked, reset and released, and frames can be sent; all of it goes out
 * after the resume. No stream can be opened. No timer runs, and the owner decides how long to wait:
 * mux_session_resume() goes on, mux_session_shutdown() and mux_session_close() end the session at once, and so does
 * mux_session_destroy(). The streams end as those of a lost session do then.
 *
 * A lost secondary waits in the same way while the session lives, for resume_grace_ms.
 */
bool mux_session_is_away(const struct mux_session *s);
/* True when the streams of `index` wait for a link. *messages is then how many messages were received on this index,
 * for HELLO.resume and JOIN (RESUME-9). */
bool mux_session_counted(const struct mux_session *s, unsigned index, uint64_t *messages);
/*
 * Whether the session could go on with a peer that has received so many messages on links of `index`. It may be asked
 * before the old link is dropped. 0: yes. HT_EINVAL: no stream-resume, or the session ends. HT_EPROTO: more messages
 * than were sent. HT_EAGAIN: fewer than the peer has acknowledged, so it is an old word: such a HELLO is refused as
 * WIRE_GOAWAY_SUPERSEDED, and the session stays as it is (RESUME-11).
 */
int mux_session_can_resume(const struct mux_session *s, unsigned index, uint64_t messages) HT_MUST_USE;
/*
 * Makes `l` the primary of an AWAY session, which goes on. `messages` is the peer's word: how many messages it has
 * received. A kit also sends HELLO_OK, whose `received` is set here. A driver passes the HELLO_OK that has come; it
 * must have the windows and capabilities of the session (RESUME-9). Secondaries JOIN afterwards. Errors leave the
 * session AWAY as it was: HT_EPROTO and HT_EAGAIN as above, and HT_EPROTO also for such a HELLO_OK; HT_EINVAL: not
 * AWAY, a link of another version, or a call is running that uses the lost link; or an error of the encoder.
 */
int mux_session_resume(struct mux_session *s, struct mux_link *l, uint64_t messages, const struct wire_hello_ok *ok,
                       uint64_t now_ms) HT_MUST_USE;

/* Queues a stream-zero frame on the primary. `payload` is the struct of the frame: struct wire_bind_ok * for
 * WIRE_BIND_OK, and so on. 0 or a negative error. */
int mux_session_send(struct mux_session *s, enum wire_frame_type type, const void *payload) HT_MUST_USE;

/*
 * Ends the session in order. It sends GOAWAY (not without a `message`: GOAWAY was sent before) and takes no new
 * streams. When the last handle is released or `grace_ms` have passed, it resets the remaining streams (CANCEL), closes
 * the links with `ws_code` and calls over(MUX_END_LOCAL). That happens in mux_session_tick(), and never inside this
 * call as long as the session has a link; an AWAY session has none. A second call can only shorten the grace.
 */
void mux_session_shutdown(struct mux_session *s, uint16_t code, const char *message, uint64_t grace_ms,
                          uint16_t ws_code);

/* Driver, or a session that is AWAY: ends the session at once, with a close frame without a code and without GOAWAY.
 * Calls over(MUX_END_LOCAL) before it returns. */
void mux_session_close(struct mux_session *s);

/*
 * Sets the time and runs the timers. Time passes only by this call. Call it when the deadline is reached, and best at
 * the beginning of each turn: it is cheap, and round trips are measured in its steps. A timer may fire late, never
 * early.
 */
void mux_session_tick(struct mux_session *s, uint64_t now_ms);
/*
 * Sets the time for measurements only; no timer runs. Call it before input is fed, so that a round trip ends when its
 * PONG arrives. Without this call the time of the last tick is used.
 */
void mux_session_measure(struct mux_session *s, uint64_t now_us);
/*
 * Call it when the machine was suspended, its clock was set, or its network is another one. `now_us` is monotonic. It
 * sends a PING at once, and until it is answered the peer may not be silent for `patience_ms`; 0: `suspect_after_ms`.
 * Does nothing while such a PING is unanswered.
 */
void mux_session_probe(struct mux_session *s, uint64_t now_us, uint64_t patience_ms);
/* When mux_session_tick() must be called next, in monotonic milliseconds. A time in the past means at once; UINT64_MAX:
 * not at all. Cheap enough to ask at the end of each turn. */
uint64_t mux_session_deadline(const struct mux_session *s);
/* Sends a PING now, even if another one is unanswered. From then on only the PONG of this one counts; pong() reports
 * it. `now_us` is monotonic. */
void mux_session_ping(struct mux_session *s, uint64_t now_us);
/*
 * Kit, v2: everything sent on the primary until now must arrive before the next stream. Links differ in speed, so new
 * streams use the primary too, until a PING that was sent now is answered.
 */
void mux_session_in_order(struct mux_session *s);
/* When input came last, in monotonic milliseconds of mux_session_tick(). */
uint64_t mux_session_heard_ms(const struct mux_session *s);
/* Kit: sets the number of bindings. The idle timeout runs only while it is zero. */
void mux_session_set_bindings(struct mux_session *s, unsigned n);

/* How many streams are open or have a handle that is not released. */
unsigned mux_session_streams(const struct mux_session *s);
/* True when streams are open, or something was sent that the peer may lack: a session that is wanted no more waits for
 * that before it closes. Without stream-resume only streams count. */
bool mux_session_owes(const struct mux_session *s);
/* True when streams are open on the link. */
bool mux_link_is_busy(const struct mux_link *l);
/* How many links the session has; those that are away do not count. */
unsigned mux_session_links(const struct mux_session *s);
/* Kit: the id that the next stream will get. Driver: the least id that was not seen yet. */
uint32_t mux_session_next_id(const struct mux_session *s);
/* Bytes of DATA so far, from the peer and to it. */
void mux_session_bytes(const struct mux_session *s, uint64_t *in, uint64_t *out);
/* True after mux_session_shutdown(), and at a driver after the kit's GOAWAY. */
bool mux_session_draining(const struct mux_session *s);
/* True while the control queue for the next STREAM_OPEN is long: do not open streams now. When this has returned true,
 * room() is called once the queue is short. */
bool mux_session_congested(struct mux_session *s);
/* True when both sides have named this capability (WIRE_CAP_...). */
bool mux_session_agreed(const struct mux_session *s, unsigned capability);
/* True when resources are short: three quarters of its streams, or of the bytes that it may hold, are in use, or
 * callers wait to open streams. */
bool mux_session_short(const struct mux_session *s);
/* max_streams when that many streams exist, else 0. */
uint32_t mux_session_full(const struct mux_session *s);
/* False when the peer is a published driver that cannot take a body with this method (rule HTTP-15). */
bool mux_session_takes_body(const struct mux_session *s, struct ht_slice method);

/* ---- streams ---- */

enum mux_pull_flag {
    MUX_PULL_MORE = 1, /* the source has more bytes now: ask this stream again in its next turn */
    MUX_PULL_EOF = 2,  /* these bytes were the last: send EOF behind them */
};

struct mux_stream_ops {
    /* Kit. The head of the answer. Interim heads (final == false) may come before the final one. */
    void (*response_head)(void *ctx, const struct wire_response_head *head);
    /* Kit. The driver has made the connection for a stream with an authority. May be NULL. */
    void (*connected)(void *ctx);
    /* Bytes from the peer, valid until data_end() returns. The callee reports with mux_stream_consumed() how many it no
     * longer needs. */
    void (*data)(void *ctx, const uint8_t *p, size_t n);
    /* The trailer fields behind the body, valid during the call. At most once, after all data(); only eof() follows.
     * May be NULL: they are dropped. */
    void (*trailers)(void *ctx, const struct wire_trailers *t);
    /* The peer has sent EOF: no more data() follows. */
    void (*eof)(void *ctx);
    /* Called once per batch of input for each stream that got response_head(), data() or eof() in it. The callee writes
     * what it can with one call and copies the rest. If it is due it comes even after closed(). */
    void (*data_end)(void *ctx);
    /*
     * Writes bytes for the peer to out[0..cap), straight from their source. Returns their number (0 is allowed) and
     * sets *flags. After 0 bytes, or without MUX_PULL_MORE, it is not called again before mux_stream_ready(), which may
     * be called in here. `cap` is 0 when there is no credit: only MUX_PULL_EOF can be returned. HT_ECLOSED: the callee
     * has reset or released the stream.
     */
    ssize_t (*pull)(void *ctx, uint8_t *out, size_t cap, unsigned *flags);
    /*
     * False: the stream cannot send, because it has no credit or its link is full (mux_stream_ready() came several
     * times without a pull). The callee stops reading its source. True: it can send again. The callee reads on and
     * calls mux_stream_ready(). Called only when the value changes. May be NULL.
     */
    void (*writable)(void *ctx, bool yes);
    /*
     * The stream has ended on the wire. `code` 0: both sides sent EOF. Otherwise the reason is one of these: RESET by
     * the peer (`remote` is true), a rule that the peer broke, or the end of the session or link. A lost link gives
     * REFUSED_STREAM, an end of the session CANCEL. The handle stays valid until it is released.
     */
    void (*closed)(void *ctx, uint16_t code, struct ht_slice reason, bool remote);
    /*
     * As pull(), into to[0..n) in order, each full before the next one gets a byte. Asked instead of pull() while no
     * other stream of the link has anything: one system call fills a whole message. May be NULL.
     */
    ssize_t (*pullv)(void *ctx, const struct iovec *to, int n, unsigned *flags);
};

/*
 * Kit. Opens a stream and queues STREAM_OPEN. The caller owns *out. Errors: HT_ELIMIT: max_streams is reached, or the
 * control queue is full. HT_ESPACE: the head does not fit a frame. HT_ECLOSED: the session drains, has ended, or has no
 * ids left. HT_EINVAL: it has an authority, and the driver did not name that capability. HT_ENOMEM.
 */
int mux_stream_open(struct mux_session *s, const struct wire_stream_open *open, const struct mux_stream_ops *ops,
                    void *ctx, struct mux_stream **out) HT_MUST_USE;
/* Driver. Accepts a new stream inside stream_open(). */
void mux_stream_accept(struct mux_stream *st, const struct mux_stream_ops *ops, void *ctx);
/* Changes who gets the callbacks. */
void mux_stream_set_ops(struct mux_stream *st, const struct mux_stream_ops *ops, void *ctx);

/* Input of a stream that was kept and not consumed yet. */
struct mux_arrived {
    const uint8_t *bytes;
    size_t n;
    const struct wire_trailers *trailers; /* NULL: none */
    bool eof;
};
/*
 * Driver. Passes a stream on whose input was kept meanwhile. take() is called first: it accepts the stream with other
 * ops, or ends it. Then those ops get the input in `arrived` as if it came now.
 */
void mux_stream_hand_over(struct mux_stream *st, void (*take)(void *ctx), void *ctx, const struct mux_arrived *arrived);

/* Driver. Queues STREAM_RESPONSE_HEAD. 0, or: HT_ESPACE: it does not fit a frame; HT_EINVAL: the stream is not HTTP, or
 * a final head was sent before; HT_ECLOSED; HT_ENOMEM. */
int mux_stream_respond(struct mux_stream *st, const struct wire_response_head *head) HT_MUST_USE;

/* Driver. Sends STREAM_CONNECTED: the connection for the stream's authority exists. Only after it the stream may send
 * bytes or EOF. 0, or: HT_EINVAL: the stream has no authority, or it was sent before; HT_ENOMEM; HT_ECLOSED. */
int mux_stream_connected(struct mux_stream *st) HT_MUST_USE;

/*
 * Sets the trailer fields of a stream, before its pull() returns MUX_PULL_EOF, or inside that call. They are sent
 * between the last bytes and EOF. If the peer did not name `trailers` they are dropped, and the result is 0. Errors:
 * HT_ESPACE: they do not fit a frame. HT_ELIMIT: too many trailers wait to be sent (MUX_TRAILERS_MAX). HT_EINVAL: they
 * were set before, the stream is not HTTP, its answer was a 101, or the driver has not sent the final head yet.
 * HT_ENOMEM. HT_ECLOSED. The stream can go on without trailers after each of these.
 */
int mux_stream_trailers(struct mux_stream *st, const struct wire_trailers *t) HT_MUST_USE;

/*
 * The source has bytes or its end to pull. Cheap, and may be called at any time. A stream that was not ready for a
 * while goes ahead of the others for one piece, so that a small answer does not wait behind bulk transfers.
 */
void mux_stream_ready(struct mux_stream *st);
/* `n` bytes from data() were consumed, and the peer gets their credit back. Call it after the end of the stream too:
 * the session counts bytes as held until they are consumed or the handle is released. */
void mux_stream_consumed(struct mux_stream *st, size_t n);
/* Sends RESET, which ends both directions; closed() is not called. The handle stays valid until it is released. Does
 * nothing when the stream has ended. */
void mux_stream_reset(struct mux_stream *st, uint16_t code, const char *reason);
/* Gives the handle back; no callback comes any more. A stream that has not ended is reset (CANCEL). Clears the pointer.
 */
void mux_stream_release(struct mux_stream **st);

uint32_t mux_stream_id(const struct mux_stream *st);
/* True when the stream has ended on the wire. */
bool mux_stream_is_over(const struct mux_stream *st);
/* True when it ended because its link or session was lost, and neither side has reset it. */
bool mux_stream_was_lost(const struct mux_stream *st);
/* True when the peer has sent EOF, or when we have. */
bool mux_stream_remote_ended(const struct mux_stream *st);
bool mux_stream_local_ended(const struct mux_stream *st);
/* True while the link of the stream is away (stream-resume). */
bool mux_stream_is_away(const struct mux_stream *st);
/* For how many milliseconds, in all, the link of the stream was away since the stream began. A clock that must stand
 * still meanwhile subtracts what came to this since it was started. */
uint64_t mux_stream_away_ms(const struct mux_stream *st, uint64_t now_ms);
/* Bytes from data() that were not consumed yet. */
size_t mux_stream_unconsumed(const struct mux_stream *st);
/* NULL: the session no longer exists. */
struct mux_session *mux_stream_session(const struct mux_stream *st);

#endif
