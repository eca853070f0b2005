/*
 * The multiplexer: sessions, their links and their streams. Sans-I/O: bytes go in with mux_link_message(), come out
 * with mux_link_pull(), and time passes with mux_session_tick(); no socket and no WebSocket is known here.
 *
 *   link     one WebSocket. Begins before there is a session (HELLO or JOIN is what makes or finds one).
 *   session  1 link (v1) or up to 16 (v2; index 0 is the primary, stream-zero frames travel there).
 *   stream   opened by the kit, pinned to the link that carried its STREAM_OPEN.
 *
 * Upward calls go through small structs of functions, which must outlive what they were given to. They may call back
 * into this room, and may destroy streams, links and sessions, the present one included; but mux_link_message() of any
 * link is not called from inside one (decoded payloads share their room).
 *
 * Rule of memory: whoever gets a `struct mux_stream *` holds a handle and gives it back with mux_stream_release(),
 * once. A handle outlives its session: calls on a dead one do nothing and say so.
 */
#ifndef HT_MUX_MUX_H
#define HT_MUX_MUX_H

#include "base/base.h"
#include "base/err.h"
#include "metrics_gen.h"
#include "wire_gen.h"

#include <sys/types.h>

struct mux_link;
struct mux_session;
struct mux_stream;

/* What this implementation can do of the protocol's capabilities: what a driver names, and a kit accepts. */
#define MUX_CAPS                                                                                                       \
    (WIRE_CAP_MULTI_WS | WIRE_CAP_SHARD_MAP | WIRE_CAP_REISSUE_TICKETS | WIRE_CAP_AUTO_WINDOW | WIRE_CAP_CLIENT |      \
     WIRE_CAP_TRAILERS | WIRE_CAP_HANDOVER | WIRE_CAP_NAMES)

/* ---- links ---- */

struct mux_link_ops {
    /* Kit. The first frame. Answer with mux_session_attach() (then HELLO_OK) or mux_link_refuse(). */
    void (*hello)(void *ctx, const struct wire_hello *hello);
    /* Kit, v2. Answer with mux_session_join() or mux_link_refuse_join(). */
    void (*join)(void *ctx, const struct wire_join *join);
    /* Driver. Create a session and attach it, or close the link. */
    void (*hello_ok)(void *ctx, const struct wire_hello_ok *ok);
    /* Driver, v2. */
    void (*join_ok)(void *ctx, const struct wire_join_ok *ok);
    void (*join_err)(void *ctx, const struct wire_join_err *err);
    /* Driver: GOAWAY before there was a session (refused: session limit, authentication). */
    void (*refused)(void *ctx, const struct wire_goaway *goaway);
    /* There is something to pull. Not told again before the next pull(). */
    void (*output)(void *ctx);
    /* Close the WebSocket once everything that can be pulled is out. `ws_code` 0: a close frame without a code.
     * Comes at most once; message() is ignored afterwards. */
    void (*close)(void *ctx, uint16_t ws_code, const char *reason);
};

/* NULL: out of memory. */
struct mux_link *mux_link_create(enum wire_role role, enum wire_version version, const struct mux_link_ops *ops,
                                 void *ctx) HT_MUST_USE;

/*
 * Feeding and pulling have the shapes of ws_ops (ws/ws.h): see there for consumption and lifetimes. Negative: the link
 * takes nothing more in (closed or destroyed meanwhile); what it still has to say can be pulled.
 */
ssize_t mux_link_message(struct mux_link *l, const uint8_t *p, size_t n, bool end);
void mux_link_fed(struct mux_link *l);
/*
 * One message of at most `cap` bytes and 64 frames: PONGs, the control queue in order, WINDOWs, then DATA of the
 * streams in turn, each up to 64 KiB. 0: nothing to send; output() says when that changes. A control frame waits until
 * it fits, so `cap` below 9 + 65,536 may stop everything; 128 KiB and more is wise. On a slow link a smaller `cap`
 * keeps messages short.
 */
size_t mux_link_pull(struct mux_link *l, uint8_t *out, size_t cap);
/* Bytes of frames that wait for pull() (without stream data, which stays at its source). */
size_t mux_link_queued(const struct mux_link *l);

/*
 * The WebSocket is over. `clean`: the peer sent a close frame with no code or 1000 (rule: such an end never parks). The
 * session hears of it through over() or link_lost(). The link itself stays until mux_link_destroy().
 */
void mux_link_closed(struct mux_link *l, bool clean);
/* Also detaches it from its session as if the socket had dropped. Clears the pointer. NULL is ignored. */
void mux_link_destroy(struct mux_link **l);

/* Kit, before a session: GOAWAY (when `goaway` is given), then close with `ws_code` (0xFFFF: plain socket close). */
void mux_link_refuse(struct mux_link *l, const struct wire_goaway *goaway, uint16_t ws_code, const char *reason);
void mux_link_refuse_join(struct mux_link *l, const struct wire_join_err *err);
/* Driver: the first frame. 0 or an encoding error. */
int mux_link_send_hello(struct mux_link *l, const struct wire_hello *hello) HT_MUST_USE;
int mux_link_send_join(struct mux_link *l, const struct wire_join *join) HT_MUST_USE;

/* ---- sessions ---- */

enum mux_end {
    MUX_END_CLEAN,     /* the peer said goodbye: GOAWAY or a clean close; never parks */
    MUX_END_LOST,      /* the link dropped; the kit may park it */
    MUX_END_VIOLATION, /* the peer broke a rule and was told so */
    MUX_END_TIMEOUT,   /* no PONG in time: parks like LOST */
    MUX_END_IDLE,      /* idle timeout */
    MUX_END_LOCAL,     /* mux_session_shutdown() came to its end */
};

struct mux_session_ops {
    /* Kit. `err` is NULL for a BIND that could be understood; else it holds the text and the ref if `bind` has one. */
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
    /* Driver. A new stream: call mux_stream_accept() before returning, or mux_stream_reset() and mux_stream_release().
     * The handle is yours in any case. */
    void (*stream_open)(void *ctx, struct mux_stream *stream, const struct wire_stream_open *open);
    /* Both. The peer's GOAWAY, before over(). May be NULL. */
    void (*goaway)(void *ctx, const struct wire_goaway *goaway);
    /* A round trip of PING, in microseconds. May be NULL. */
    void (*pong)(void *ctx, uint64_t rtt_us);
    /* v2: a secondary is gone; its streams were closed with REFUSED_STREAM. The link is yours to destroy. May be NULL.
     */
    void (*link_lost)(void *ctx, struct mux_link *link, unsigned index);
    /* Kit. mux_stream_open() has just used mux_config.last_stream_id, and opens no more. May be NULL. */
    void (*used_up)(void *ctx);
    /* Kit. The queue that mux_session_congested() complained of has become short. May be NULL. */
    void (*room)(void *ctx);
    /* The session has ended: every stream was closed before, nothing comes after. Destroy it in here or later. */
    void (*over)(void *ctx, enum mux_end why, const char *text);
};

/* Bytes of control frames that wait for a peer who does not read, from which nothing new is taken on. */
#define MUX_QUEUE_MAX (4u << 20)
/* Bytes of trailers of one session that wait for their EOF. */
#define MUX_TRAILERS_MAX (256u << 10)

struct mux_config {
    enum wire_role role;
    enum wire_version version;
    uint32_t stream_window;  /* bytes; both directions start with it (HELLO_OK) */
    uint32_t session_window; /* bytes */
    uint32_t max_streams;    /* handles that are not released count too: a slot stays taken until its work is undone */
    uint64_t session_buffer; /* bytes we hold for this session before session credit is kept back */
    uint64_t ping_interval_ms, pong_timeout_ms, idle_timeout_ms; /* 0: never */
    /* The same two while something is under way: streams, or bytes that wait to go out (KEEP-5). 0: never. */
    uint64_t suspect_after_ms;
    uint64_t measure_interval_ms; /* PING this often although something comes, for the round trip; 0: never */
    uint32_t first_stream_id;     /* kit: 2, or where a resumed session goes on: ids are never reused */
    uint32_t last_stream_id;      /* kit: that may be used; 0: the last there is */
    bool own_peer;                /* the peer named one of our capabilities: no workarounds for published drivers */
    unsigned caps;                /* the set of what both named */
    struct ht_metrics *metrics;   /* may be NULL */
    /* Fills p[0..n) with unguessable bytes, for the nonces of PINGs. NULL: they count. */
    void (*random)(void *p, size_t n);
};

/* `now_ms` is monotonic. NULL: out of memory. */
struct mux_session *mux_session_create(const struct mux_config *cfg, const struct mux_session_ops *ops, void *ctx,
                                       uint64_t now_ms) HT_MUST_USE;
/* Closes what is open without a word on the wire; over() is not called. Links are detached, not destroyed. */
void mux_session_destroy(struct mux_session **s);

/* Another owner. What is heard from now on goes there. */
void mux_session_set_ops(struct mux_session *s, const struct mux_session_ops *ops, void *ctx);

/* Makes `l` the primary (index 0) and, at the kit, sends HELLO_OK. 0 or an encoding error. */
int mux_session_attach(struct mux_session *s, struct mux_link *l, const struct wire_hello_ok *ok) HT_MUST_USE;
/*
 * v2: makes `l` the secondary `index`; at the kit sends JOIN_OK. `received`: what the peer says of the DATA bytes it
 * has had on links of this index (rule SHARD-3), so that the credit of those that a lost link has swallowed comes back;
 * NULL: it does not say. HT_EINVAL: the index is taken or out of range; HT_EPROTO: it has had more than was sent, and
 * the session has ended.
 */
int mux_session_join(struct mux_session *s, struct mux_link *l, unsigned index, const uint64_t *received) HT_MUST_USE;
/* The same of this side, for JOIN. */
uint64_t mux_session_received(const struct mux_session *s, unsigned index);

/* Queues a stream-zero frame on the primary: `payload` is the frame's struct (struct wire_bind_ok * for WIRE_BIND_OK,
 * ...). */
int mux_session_send(struct mux_session *s, enum wire_frame_type type, const void *payload) HT_MUST_USE;

/*
 * GOAWAY now (none without a `message`: it was sent already), no new streams; when the last handle is released or
 * `grace_ms` is over the rest is reset (CANCEL), the links are closed with `ws_code`, and over(MUX_END_LOCAL) comes,
 * from tick() and never from in here. A second call can only shorten the grace.
 */
void mux_session_shutdown(struct mux_session *s, uint16_t code, const char *message, uint64_t grace_ms,
                          uint16_t ws_code);

/* Driver: a clean goodbye without GOAWAY: close frame without a code; over(MUX_END_LOCAL) comes at once. */
void mux_session_close(struct mux_session *s);

/*
 * Lets timers act, and is the only way in which time passes: call it at the deadline, and best at the beginning of each
 * turn (it is cheap, and round trips are measured in its steps). A timer may fire late but never early.
 */
void mux_session_tick(struct mux_session *s, uint64_t now_ms);
/*
 * The time for measurements alone; nothing acts on it. Call it before messages are fed, so that a round trip ends when
 * its PONG is here; without it the last tick() counts.
 */
void mux_session_measure(struct mux_session *s, uint64_t now_us);
/*
 * The machine was asleep, or its clock was set: whether the peer is still there is asked at once, and it has
 * `suspect_after_ms` for its answer.
 */
void mux_session_probe(struct mux_session *s);
/* When tick() wants to be called next (monotonic ms; the past: at once); UINT64_MAX: no need. Cheap: ask at the end of
 * each turn. */
uint64_t mux_session_deadline(const struct mux_session *s);
/* A PING now, whatever else is out: only the PONG of this one counts from here on, and pong() tells of it. */
void mux_session_ping(struct mux_session *s);
/*
 * Kit, v2: what was sent on the primary until now must arrive before the next stream does. Those go on the primary too
 * until a PING behind it was answered: another link may be faster.
 */
void mux_session_in_order(struct mux_session *s);
/* When something came last (monotonic ms), as far as time is known here. */
uint64_t mux_session_heard_ms(const struct mux_session *s);
/* The kit tells how many bindings there are: idle reaping needs zero. */
void mux_session_set_bindings(struct mux_session *s, unsigned n);

unsigned mux_session_streams(const struct mux_session *s); /* open ones and handles not released */
/* Streams are open on it. */
bool mux_link_is_busy(const struct mux_link *l);
unsigned mux_session_links(const struct mux_session *s);
uint32_t mux_session_next_id(const struct mux_session *s);
bool mux_session_draining(const struct mux_session *s);
/* True while the queue that the next stream's STREAM_OPEN would go into is long: openers should wait. After a true
 * room() says when it is short again. */
bool mux_session_congested(struct mux_session *s);
/* Both sides have named this capability (WIRE_CAP_...). */
bool mux_session_agreed(const struct mux_session *s, unsigned capability);
/* Three quarters of its streams or of the bytes that are held for it are taken, or openers wait. */
bool mux_session_short(const struct mux_session *s);
/* max_streams when all of them are taken, else 0. */
uint32_t mux_session_full(const struct mux_session *s);
/* False: the peer is a published driver, which cannot take a body with this method (rule HTTP-15). */
bool mux_session_takes_body(const struct mux_session *s, struct ht_slice method);

/* ---- streams ---- */

enum mux_pull_flag {
    MUX_PULL_MORE = 1, /* there is more to pull right now: keep the stream in turn */
    MUX_PULL_EOF = 2,  /* these were the last bytes: EOF follows them */
};

struct mux_stream_ops {
    /* Kit. Interim heads (final == false) may come before the final one. */
    void (*response_head)(void *ctx, const struct wire_response_head *head);
    /* Kit. The driver has the connection that the stream's authority asks for. May be NULL. */
    void (*connected)(void *ctx);
    /* Bytes from the peer; borrowed until data_end() returns. Count what you have finished with mux_stream_consumed().
     */
    void (*data)(void *ctx, const uint8_t *p, size_t n);
    /* The fields behind the body: once at most, after all data(), and only eof() follows. `t` is good during the call.
     * May be NULL: nobody wants them. */
    void (*trailers)(void *ctx, const struct wire_trailers *t);
    /* The peer sends no more. Comes after all data(). */
    void (*eof)(void *ctx);
    /* Once per batch for each stream that got response_head(), data() or eof(): write what you can in one call, copy
     * the rest. After closed() it still comes if it was due. */
    void (*data_end)(void *ctx);
    /*
     * Fill out[0..cap) with bytes for the peer, straight from their source. Returns their number (0 is fine) and sets
     * *flags. Without bytes or without MUX_PULL_MORE the stream leaves the round until mux_stream_ready() (which may be
     * called in here too). A `cap` of 0 asks for MUX_PULL_EOF alone: there is no credit. HT_ECLOSED: it has reset or
     * released the stream itself.
     */
    ssize_t (*pull)(void *ctx, uint8_t *out, size_t cap, unsigned *flags);
    /*
     * Blocked or unblocked by credit or by a full link (ready() came several times without a pull): on false stop
     * listening to the source; on true go on and call mux_stream_ready(). Only edges are told. May be NULL.
     */
    void (*writable)(void *ctx, bool yes);
    /*
     * The stream is over on the wire. `code` 0: both sides sent EOF. Else RESET by the peer (`remote`), a rule that the
     * peer broke, or the end of the session or of the stream's link: REFUSED_STREAM when that was lost, else CANCEL.
     * The handle stays valid until released.
     */
    void (*closed)(void *ctx, uint16_t code, struct ht_slice reason, bool remote);
};

/*
 * Kit. Opens a stream: STREAM_OPEN is queued. HT_ELIMIT: max_streams, or the control queue is full; HT_ESPACE: the head
 * does not fit a frame; HT_ECLOSED: draining, gone, or without ids; HT_EINVAL: an authority for a driver that knows
 * none; HT_ENOMEM.
 */
int mux_stream_open(struct mux_session *s, const struct wire_stream_open *open, const struct mux_stream_ops *ops,
                    void *ctx, struct mux_stream **out) HT_MUST_USE;
/* Driver. Takes a new stream. */
void mux_stream_accept(struct mux_stream *st, const struct mux_stream_ops *ops, void *ctx);
void mux_stream_set_ops(struct mux_stream *st, const struct mux_stream_ops *ops, void *ctx);

/* What has come for a stream: not consumed yet. */
struct mux_arrived {
    const uint8_t *bytes;
    size_t n;
    const struct wire_trailers *trailers; /* NULL: none */
    bool eof;
};
/*
 * Driver. Somebody kept the stream until it was known whose it is: take() gives it to him (mux_stream_accept(), or the
 * end of it), and his ops are told what has come until now, as if it came now.
 */
void mux_stream_hand_over(struct mux_stream *st, void (*take)(void *ctx), void *ctx, const struct mux_arrived *arrived);

/* Driver. Queues STREAM_RESPONSE_HEAD. HT_ESPACE: does not fit; HT_EINVAL: a second final head; HT_ECLOSED. */
int mux_stream_respond(struct mux_stream *st, const struct wire_response_head *head) HT_MUST_USE;

/* Driver. The connection that the stream's authority asks for stands: only now may the stream have bytes or an end.
 * HT_EINVAL: it has no authority, or a second time; HT_ENOMEM; HT_ECLOSED. */
int mux_stream_connected(struct mux_stream *st) HT_MUST_USE;

/*
 * The fields behind the body, for a stream that will say MUX_PULL_EOF next: in its pull() or before. They go out
 * between its last bytes and the EOF. 0 also when the peer did not name `trailers`: then they are dropped. HT_ESPACE:
 * they do not fit a frame; HT_ELIMIT: too many wait to be sent already; HT_EINVAL: a second time, not HTTP, behind a
 * 101, or (a driver's) before the final head; HT_ENOMEM; HT_ECLOSED. The stream can go on without them in each case.
 */
int mux_stream_trailers(struct mux_stream *st, const struct wire_trailers *t) HT_MUST_USE;

/*
 * There is something to pull (bytes or the end). Cheap; call as often as you like. A stream that was not in the round
 * lately goes ahead of the others for one piece, so a small answer passes bulk transfers.
 */
void mux_stream_ready(struct mux_stream *st);
/* `n` bytes that data() handed up were finished with: stream credit goes back. Also after the stream is over: they
 * count as held by the session until then, or until the release. */
void mux_stream_consumed(struct mux_stream *st, size_t n);
/* RESET in both directions; closed() is not called. The handle stays until released. No-op when already over. */
void mux_stream_reset(struct mux_stream *st, uint16_t code, const char *reason);
/* Gives the handle back: no upward call any more. A stream that is not over is reset (CANCEL). Clears the pointer. */
void mux_stream_release(struct mux_stream **st);

uint32_t mux_stream_id(const struct mux_stream *st);
bool mux_stream_is_over(const struct mux_stream *st);
/* It is over because its link or its session was lost, and neither side has reset it. */
bool mux_stream_was_lost(const struct mux_stream *st);
/* The peer sent EOF / we did. */
bool mux_stream_remote_ended(const struct mux_stream *st);
bool mux_stream_local_ended(const struct mux_stream *st);
/* Bytes handed up and not yet consumed. */
size_t mux_stream_unconsumed(const struct mux_stream *st);
struct mux_session *mux_stream_session(const struct mux_stream *st); /* NULL: dead */

#endif
