/*
 * WebSocket (RFC 6455) for clients and servers, over a connection of io. This room frames data itself: it reads and
 * masks in place, eight bytes or more at a time. The library wslay handles control frames: PING, PONG, close codes and
 * the closing handshake. No other room includes wslay.h.
 */
#ifndef HT_WS_WS_H
#define HT_WS_WS_H

#include "base/base.h"
#include "base/buf.h"
#include "base/err.h"
#include "http/http.h"
#include "io/io.h"

/* ---- the opening handshake of a server; pure ---- */

#define WS_KEY_LEN 24    /* base64 of 16 random bytes */
#define WS_ACCEPT_LEN 28 /* base64 of a SHA-1 */

/* Writes a random key for Sec-WebSocket-Key, and a NUL. */
void ws_make_key(char out[WS_KEY_LEN + 1]);
/* Writes the value of Sec-WebSocket-Accept for a key, and a NUL. */
void ws_accept_for(struct ht_slice key, char out[WS_ACCEPT_LEN + 1]);

/*
 * Checks that a parsed request is a WebSocket upgrade (RFC 6455 4.2.1): GET, HTTP/1.1, Host, Upgrade, Connection, a key
 * of 16 bytes, version 13. 0: *key is the request's key, and *protocols is the list of offered subprotocols, separated
 * by commas, "" for none. Both borrow from `buf` or from `scratch`, in which several header lines are joined.
 * HT_EPROTO: *e has the status to answer: 400, 405, or 426 (with Sec-WebSocket-Version: 13).
 */
int ws_check_request(const struct http_head *h, const char *buf, struct ht_slice *key, struct ht_slice *protocols,
                     struct ht_buf *scratch, struct http_error *e);
/* Appends the 101 response. `protocol` is the chosen subprotocol; NULL: none. 0 or HT_ENOMEM. */
int ws_write_101(struct ht_buf *out, struct ht_slice key, const char *protocol) HT_MUST_USE;

/* ---- an open WebSocket ---- */

struct ws_conn;

enum ws_side { WS_SERVER, WS_CLIENT };

struct ws_limits {
    /* Most bytes of a received message; beyond it: close 1009. It may be larger than max_pull only if the owner
     * consumes bytes as they come: bytes that were not consumed must fit into one IO_BLOCK. */
    size_t max_message;
    unsigned max_fragments; /* most frames of a received message, empty ones included; beyond it: close 1008 */
    size_t max_pull;        /* most bytes that pull() is asked for; with the header they must fit into an IO_BLOCK */
};

/* Close codes that are never sent (RFC 6455 7.4.1): a close frame without a code; a socket that closed without a frame.
 */
#define WS_CLOSE_NO_CODE 1005u
#define WS_CLOSE_DROPPED 1006u

struct ws_ops {
    /*
     * Payload of the present message: p[0..n) are all its bytes that were not consumed, in one piece and unmasked.
     * `end` is true when they include the last byte of the message. An empty message is one call with n == 0. The
     * callee returns how many bytes it has consumed. The rest is presented again, with later bytes behind it. With
     * `end` everything must be consumed; otherwise the connection is closed with 1002. The bytes are valid until fed()
     * returns, and may be changed. A negative result means that the callee has closed or destroyed this connection;
     * after a close fed() is still called.
     */
    ssize_t (*message)(void *ctx, uint8_t *p, size_t n, bool end);
    /* The end of a batch of reads. Slices that were borrowed in message() are invalid when this returns. */
    void (*fed)(void *ctx);
    /*
     * There is room to send. The callee writes ONE message of at most `cap` bytes to `out` and returns its length. 0:
     * there is nothing to send, or `cap` is too small for it. After 0, pull() is called again after
     * ws_conn_want_send(), or with the full max_pull as soon as the earlier messages have been written.
     */
    size_t (*pull)(void *ctx, uint8_t *out, size_t cap);
    /*
     * The connection has closed, and so has the socket. Called exactly once, as the last callback, and never inside
     * ws_conn_create(), ws_conn_close() or ws_conn_destroy(). `code` is the peer's close code, or WS_CLOSE_NO_CODE: its
     * close frame had none, or WS_CLOSE_DROPPED: the socket closed without a close frame, or the peer broke a rule.
     * `local` is true when we have started the close, also because of a broken rule. `reason` is printable text: the
     * peer's reason, or a description. The callee destroys the ws_conn, now or later.
     */
    void (*closed)(void *ctx, uint16_t code, struct ht_slice reason, bool local);
};

/*
 * Makes a WebSocket of a connection whose handshake is done, and owns the connection. `early` are the bytes that were
 * read behind the handshake; they are copied. No callback is called before this returns. NULL: out of memory, or more
 * early bytes than IO_BLOCK; the connection is closed.
 */
struct ws_conn *ws_conn_create(struct io_loop *loop, struct io_conn *conn, enum ws_side side,
                               const struct ws_limits *limits, struct ht_slice early, const struct ws_ops *ops,
                               void *ctx) HT_MUST_USE;
void ws_conn_set_limits(struct ws_conn *w, const struct ws_limits *limits);
/*
 * From now on messages are sent as text. Received messages may be text or binary; their bytes are not checked for
 * UTF-8. Without this call messages are sent as binary, and a text message closes the connection with 1003.
 */
void ws_conn_use_text(struct ws_conn *w);
/* It carries the tunnel: sets its socket up as io_conn_tune_tunnel() says, and its receive window follows what it
 * carries from now on (bulk.c). `kept_short` is the length of a message that the peer keeps short because somebody
 * waits behind it. */
void ws_conn_tune_tunnel(struct ws_conn *w, uint64_t dead_ms, size_t kept_short);

/* There is something to send: pull() is called at the end of this turn while there is room. One system call then writes
 * all messages. Cheap, and may be called at any time. */
void ws_conn_want_send(struct ws_conn *w);

/*
 * Sends a PING (RFC 6455 5.5.2) before the messages that wait, so that the peer answers even when there is no other
 * traffic. No callback reports the PONG, but it counts as bytes read (io_conn_counts()). Does nothing without memory or
 * while the connection closes.
 */
void ws_conn_ping(struct ws_conn *w);

/* Stops or resumes reading; the kernel's buffer then stops the peer. While reading is stopped no PING is answered, so
 * use this for an orderly shutdown and never for flow control. */
void ws_conn_pause(struct ws_conn *w, bool pause);

/*
 * Starts the closing handshake. Everything that pull() returns is sent first, then a close frame with `code` (0:
 * without a code) and at most 123 bytes of `reason` (may be NULL). The peer has 2 s to answer; then the socket is
 * closed, and closed() follows. message() is not called any more. If the peer takes no bytes for 2 s, the rest is not
 * sent. A second call does nothing.
 */
void ws_conn_close(struct ws_conn *w, uint16_t code, const char *reason);
/* Closes the socket now and sends nothing more; closed() is not called. Clears the pointer. NULL is ignored. */
void ws_conn_destroy(struct ws_conn **w);

/*
 * For a WebSocket that is between two messages of its peer and has nothing to send: appends what was read of its
 * connection and not parsed yet. HT_EAGAIN: it is in the middle of something. HT_ENOMEM. Not inside a callback.
 */
int ws_conn_unread(const struct ws_conn *w, struct ht_buf *rest) HT_MUST_USE;
/* Takes the connection off such a WebSocket, which is destroyed. The caller owns it, and it is not read. */
struct io_conn *ws_conn_take(struct ws_conn **w) HT_MUST_USE;

/* Bytes that wait in our buffers, without those in the kernel's. */
size_t ws_conn_unsent(const struct ws_conn *w);
/* NULL once closed() was called. */
struct io_conn *ws_conn_io(struct ws_conn *w);

/*
 * ---- messages that are kept until the peer has acknowledged them ----
 *
 * A ws_kept outlives connections: when one is lost, the next one sends again what the peer lacks. The owner knows what
 * that is; here messages are only numbered, from 1. The blocks that messages are sent from are kept, without a copy.
 * Messages that are not kept may be sent in between; they are gone with their connection.
 */
struct ws_kept;

/* NULL: out of memory. */
struct ws_kept *ws_kept_create(struct io_loop *loop) HT_MUST_USE;
/*
 * At any time, inside pull() too. Clears the pointer; NULL is ignored. A connection that sends from it goes on without:
 * what was pulled is still sent, unless it was to send messages again. Then those that are left are not sent, pull() is
 * not called any more, and only control frames follow.
 */
void ws_kept_destroy(struct ws_kept **k);
/* The memory that it holds, in whole blocks. At least half of each but the last one is messages. */
size_t ws_kept_bytes(const struct ws_kept *k);
/* The same without the block that the next message goes to: one that is idle needs no room. 0 for NULL. */
size_t ws_kept_full(const struct ws_kept *k);
/* The number of the last message that was kept; 0: none yet. */
uint64_t ws_kept_last(const struct ws_kept *k);
/* Bytes of messages that were sent again, in all. */
uint64_t ws_kept_resent(const struct ws_kept *k);
/* Messages 1..count need not be sent again, not even those that wait to be. A count beyond the last message is taken
 * for it; a lower one than before changes nothing. */
void ws_kept_forget(struct ws_kept *k, uint64_t count);

/*
 * From now on the connection's messages are built in `k`, and ws_conn_keep() keeps them. NULL: no longer. The
 * connection that had `k` before loses it, as by ws_kept_destroy(); in its pull() also what was pulled in this turn,
 * unless it is kept. `k` must always be sent from the same side, with a max_pull of at most 256 KiB.
 *
 * While a connection has a kept, pull() is asked for as much as WS_KEPT_CAP or max_pull, whichever is less, or more. So
 * 0 means that there is nothing, and it is called again only after ws_conn_want_send().
 */
#define WS_KEPT_CAP (128u * 1024u)
void ws_conn_set_kept(struct ws_conn *w, struct ws_kept *k);
/* In pull(): the message that it returns is kept. It gets the next number. */
void ws_conn_keep(struct ws_conn *w);
/*
 * Everything kept that was not forgotten is sent again, before pull() is called any more. May be called in pull(),
 * which then returns 0. Does nothing while the connection is at it already. If the connection ends meanwhile, the next
 * one begins anew.
 */
void ws_conn_resend(struct ws_conn *w);

/* ---- the opening handshake of a client over io ---- */

struct ws_connect;

struct ws_connect_options {
    const char *host; /* the host to dial, without brackets */
    uint16_t port;
    struct io_tls *tls;         /* NULL: ws:// */
    const struct io_proxy *via; /* NULL: directly; it must outlive the handshake */
    const char *host_field;     /* value of Host */
    const char *path;           /* origin-form */
    const char *protocols;      /* value of Sec-WebSocket-Protocol; NULL: none */
    const char *extra;          /* more header lines, each with CRLF; NULL: none. May hold secrets: never logged */
    uint64_t timeout_ms;        /* for dialling and handshake together */
};

struct ws_connect_ops {
    /* The WebSocket is open. The callee owns `conn`. `protocol` is the subprotocol that the server chose. `early` must
     * be passed to ws_conn_create(). The slices are valid during the call. The ws_connect no longer exists. */
    void (*open)(void *ctx, struct io_conn *conn, struct ht_slice protocol, struct ht_slice early);
    /* `err` is HT_EAUTH after a 403, and after a 401 that does not want another login than a bearer token.
     * `status` is the HTTP status if the server answered with another status than 101, else 0. `retry_after_ms` is from
     * Retry-After; 0: absent. `text` tells a person where and why. The ws_connect no longer exists. */
    void (*failed)(void *ctx, int err, uint16_t status, uint64_t retry_after_ms, const char *text);
};

/* Dials and makes the opening handshake. Copies what it needs of `o`. NULL: it cannot start, and *err says why. */
struct ws_connect *ws_connect_start(struct io_loop *loop, const struct ws_connect_options *o,
                                    const struct ws_connect_ops *ops, void *ctx, struct ht_errmsg *err) HT_MUST_USE;
/* No callback is called any more. Clears the pointer. NULL is ignored. */
void ws_connect_cancel(struct ws_connect **c);

/* ---- masking, and frames; pure ---- */

/* Appends the message of a client as one frame. Its mask is zero: it goes to somebody of this machine. 0 or HT_ENOMEM.
 */
int ws_frame_of_client(struct ht_buf *out, const uint8_t *p, size_t n) HT_MUST_USE;

/* XORs n bytes with the mask in place, beginning with mask[offset % 4]. Fast for any alignment. */
void ws_mask(uint8_t *p, size_t n, const uint8_t mask[4], size_t offset);

#endif
