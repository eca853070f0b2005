/*
 * WebSocket (RFC 6455) for both ends, over a connection of io. Data frames are our own framing: read in place, masked
 * and unmasked in place, eight bytes and more at a time. Control frames go through wslay, which owns PING/PONG, close
 * codes and the closing handshake. The only room that includes wslay.h.
 */
#ifndef HT_WS_WS_H
#define HT_WS_WS_H

#include "base/base.h"
#include "base/buf.h"
#include "base/err.h"
#include "http/http.h"
#include "io/io.h"

/* ---- the opening handshake, pure ---- */

#define WS_KEY_LEN 24    /* base64 of 16 random bytes */
#define WS_ACCEPT_LEN 28 /* base64 of a SHA-1 */

void ws_make_key(char out[WS_KEY_LEN + 1]);
void ws_accept_for(struct ht_slice key, char out[WS_ACCEPT_LEN + 1]);

/*
 * Checks a parsed request as an upgrade (RFC 6455 4.2.1): GET, HTTP/1.1, Host, Upgrade, Connection, a key of 16 bytes,
 * version 13. Returns 0, or HT_EPROTO with the status to answer (400, 405, 426 with Sec-WebSocket-Version: 13) in *e.
 * *key is set to the request's key, *protocols to all offered subprotocols as one comma list ("" when none; several
 * header lines are joined in `scratch`).
 */
int ws_check_request(const struct http_head *h, const char *buf, struct ht_slice *key, struct ht_slice *protocols,
                     struct ht_buf *scratch, struct http_error *e);
/* The 101 with an optional subprotocol (NULL for none). */
int ws_write_101(struct ht_buf *out, struct ht_slice key, const char *protocol) HT_MUST_USE;

/* ---- an open WebSocket ---- */

struct ws_conn;

enum ws_side { WS_SERVER, WS_CLIENT };

struct ws_limits {
    size_t max_message;     /* bytes of one message; over it: close 1009. Above max_pull only for an owner who consumes
                               as the bytes come: what waits unconsumed must fit into one receive block. */
    unsigned max_fragments; /* frames of one message, empty ones count; over it: close 1008 */
    size_t max_pull; /* the most that pull() is ever asked for, in bytes; with a header it must fit into an IO_BLOCK */
};

/* Close codes of RFC 6455 7.4.1 that no frame carries: a close frame without a code; a socket that dropped. */
#define WS_CLOSE_NO_CODE 1005u
#define WS_CLOSE_DROPPED 1006u

struct ws_ops {
    /*
     * Payload of the present message: p[0..n) are its bytes not yet consumed, contiguous, unmasked. `end` says
     * that the message's last byte is included; a message without any is presented with n 0. Returns how many bytes
     * were consumed: the rest is presented again, with more behind it (with `end` everything must be consumed; what is
     * left then is a violation, close 1002). The bytes are valid until `fed` was called, and may be changed. Negative:
     * stop, the owner has closed or destroyed this connection (fed() still comes when it was only closed).
     */
    ssize_t (*message)(void *ctx, uint8_t *p, size_t n, bool end);
    /* A batch of reads was handed up; slices borrowed in message() die when this returns. */
    void (*fed)(void *ctx);
    /*
     * Room to send: build ONE message of at most `cap` bytes at `out` and return its length; 0: nothing to send now
     * (ws_conn_want_send() asks again), or `cap` is too small for what is next: a 0 is asked again with the full
     * max_pull as soon as what was built before has left.
     */
    size_t (*pull)(void *ctx, uint8_t *out, size_t cap);
    /*
     * The connection is over: called exactly once, last of all, and never from inside ws_conn_create/close/destroy.
     * `code` is the peer's close code (WS_CLOSE_NO_CODE: a close frame without one; WS_CLOSE_DROPPED: the socket
     * dropped with no close frame, or we have closed because the peer broke the rules). `local` is true when we started
     * the close, for a violation too. `reason` is printable text: the peer's own, or what happened. The socket is gone
     * already. Destroy the ws_conn in it or later.
     */
    void (*closed)(void *ctx, uint16_t code, struct ht_slice reason, bool local);
};

/*
 * Takes an io connection whose handshake is done. `early` are bytes that were read behind the handshake (may be empty).
 * No callback comes before this returns. NULL: out of memory, or more early bytes than IO_BLOCK (the io connection is
 * closed).
 */
struct ws_conn *ws_conn_create(struct io_loop *loop, struct io_conn *conn, enum ws_side side,
                               const struct ws_limits *limits, struct ht_slice early, const struct ws_ops *ops,
                               void *ctx) HT_MUST_USE;
void ws_conn_set_limits(struct ws_conn *w, const struct ws_limits *limits);
/*
 * From now on messages go out as text, and are taken as text or binary just the same (their bytes are not checked for
 * UTF-8). Without it they are binary, and text is closed with 1003.
 */
void ws_conn_use_text(struct ws_conn *w);

/* Something can be pulled: at the end of this turn pull() is called as long as there is room, and everything goes out
 * in one system call. Cheap; call as often as you like. */
void ws_conn_want_send(struct ws_conn *w);

/*
 * Sends a PING (RFC 6455 5.5.2) ahead of what waits, so that the peer has something to answer when nothing else is
 * said; its PONG is not told, but counts as bytes read (io_conn_counts). Out of memory and a connection that closes:
 * nothing happens.
 */
void ws_conn_ping(struct ws_conn *w);

/* Stops or resumes handing messages up (the kernel's buffer then stops the peer). Control frames keep being answered
 * only while reading: use it for orderly shutdown, never as flow control. */
void ws_conn_pause(struct ws_conn *w, bool pause);

/*
 * Starts the closing handshake after everything that pull() still gives was sent: a close frame with `code` (0: one
 * without a code) and `reason` (at most 123 bytes of it, may be NULL), then waits for the peer's answer up to 2 s, then
 * closes the socket. closed() follows. Nothing is handed up any more; a drain that makes no progress for 2 s is given
 * up. A second call does nothing.
 */
void ws_conn_close(struct ws_conn *w, uint16_t code, const char *reason);
/* Sends nothing more and drops the socket now; closed() is not called. Clears the pointer. NULL is ignored. */
void ws_conn_destroy(struct ws_conn **w);

/* Bytes waiting in our buffers (not in the kernel's). */
size_t ws_conn_unsent(const struct ws_conn *w);
/* NULL once closed() was called. */
struct io_conn *ws_conn_io(struct ws_conn *w);

/* ---- the opening handshake of a client over io ---- */

struct ws_connect;

struct ws_connect_options {
    const char *host; /* as dialled, no brackets */
    uint16_t port;
    struct io_tls *tls;     /* NULL: ws:// */
    const char *host_field; /* value of Host */
    const char *path;       /* origin-form */
    const char *protocols;  /* Sec-WebSocket-Protocol */
    const char *extra;      /* more header lines, each ending in CRLF, or NULL; may hold secrets: never logged */
    uint64_t timeout_ms;    /* for all of it */
};

struct ws_connect_ops {
    /* Open. `protocol` is what the server chose. `early` must be given to ws_conn_create(). The object is gone
     * afterwards. */
    void (*open)(void *ctx, struct io_conn *conn, struct ht_slice protocol, struct ht_slice early);
    /* `status` is the HTTP status when the server answered with another than 101, else 0; `text` says where and why.
     * `retry_after_ms` from Retry-After, 0 when absent. */
    void (*failed)(void *ctx, int err, uint16_t status, uint64_t retry_after_ms, const char *text);
};

struct ws_connect *ws_connect_start(struct io_loop *loop, const struct ws_connect_options *o,
                                    const struct ws_connect_ops *ops, void *ctx, struct ht_errmsg *err) HT_MUST_USE;
void ws_connect_cancel(struct ws_connect **c);

/* ---- masking, pure ---- */

/* XORs n bytes with the mask, whose first byte to use is mask[offset % 4]. In place; fast for any alignment. */
void ws_mask(uint8_t *p, size_t n, const uint8_t mask[4], size_t offset);

#endif
