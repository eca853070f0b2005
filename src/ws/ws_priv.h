/* What the files of this room share: the state of an open WebSocket. */
#ifndef HT_WS_WS_PRIV_H
#define HT_WS_WS_PRIV_H

#include "ws/ws.h"

#include <wslay/wslay.h>

#define WS_CLOSE_WAIT_MS 2000
#define WS_HEADER_MAX 14   /* RFC 6455 5.2: 2, 8 of length, 4 of mask */
#define WS_CONTROL_MAX 125 /* payload of a control frame, RFC 6455 5.5 */
#define WS_REASON_MAX 123  /* payload of a control frame without the close code */
#define WS_LONG_MESSAGE                                                                                                \
    (128u * 1024u)     /* a message from this size on carries bulk, and nothing urgent waits behind it */
#define WS_SEGMENTS 32 /* most messages that share one system call */
#define WS_ENOUGH                                                                                                      \
    (64u * 1024u) /* so much goes out before more is built: what becomes ready meanwhile is not behind it */
#define WS_IN_KEPT (1u << 31)
#define WS_STASH 32 /* fewer unread bytes than this wait in `stash` instead of a block */

/* What happens to received bytes. */
enum ws_rx {
    WS_RX_OPEN, /* they are handed up */
    WS_RX_DROP, /* we are closing: data is dropped, and we look for the peer's close frame */
    WS_RX_DONE, /* the peer's close frame has come: we only wait for the end of the socket */
    WS_RX_DEAD, /* the peer broke a rule: nothing more is read */
};

/* How far our own close frame is. */
enum ws_tx {
    WS_TX_OPEN,  /* not begun */
    WS_TX_DRAIN, /* the owner closes, and everything from pull() is sent first */
    WS_TX_CLOSE, /* a close frame is queued in wslay and is sent next */
    WS_TX_SENT,  /* it is in the send block or was sent; nothing follows it */
    WS_TX_DEAD,  /* writing has failed */
};

/* Whether bulk has the connection for itself, and the window that follows from it. Zeros but for `kept_short`: it has
 * not. */
struct ws_bulk {
    size_t kept_short; /* see ws_conn_tune_tunnel() */
    enum io_tunnel_window window;
    uint32_t score;
    uint32_t left; /* IO_WINDOW_SHRINKS: bytes that may still come as the large window let them */
};

struct ws_conn {
    struct io_loop *loop;
    struct io_conn *io;
    const struct ws_ops *ops;
    void *ctx;
    struct ws_limits limits;
    wslay_event_context_ptr wslay;
    struct io_task in, out;
    struct io_timer timer;
    enum ws_rx rx;
    enum ws_tx tx;
    int busy; /* number of running callbacks: the memory is freed only after they return */
    bool server;
    bool text;
    bool paused;
    bool destroyed;    /* the owner has called ws_conn_destroy() while busy */
    bool over;         /* closed() was called */
    bool local;        /* we have started the close */
    bool handed;       /* message() was called since the last fed() */
    bool put_off;      /* `out` runs again after the other tasks of this turn */
    bool blocked;      /* the kernel takes no more bytes for now */
    bool ping_pending; /* `ping` must be answered */
    bool short_way;    /* ws_conn_tune_tunnel() has found it so: `bulk` decides about the receive window */
    struct ws_bulk bulk;

    /* receiving: block[msg_at..+msg_n) is unconsumed payload, block[raw_at..raw_end) behind it was not parsed yet */
    uint8_t *block;
    size_t msg_at, msg_n, raw_at, raw_end;
    uint64_t frame_left; /* payload of the present data frame that has not come yet */
    size_t message_size; /* payload of all frames of the present message so far; the present frame counts in full */
    unsigned fragments;
    bool fin, in_message;
    uint8_t mask[4];
    uint8_t mask_at;
    uint8_t stash[WS_STASH];

    /* sending */
    uint8_t *send_block; /* with a kept it holds control frames alone */
    size_t send_end;
    struct ws_kept *kept; /* NULL: nothing is kept */
    bool sends_long;      /* the last message from pull() was a long one */
    bool silent;          /* its kept left in the middle of something: no message may follow */
    uint8_t *kept_block;  /* the kept's block that segments lie in */
    struct {
        uint32_t at, n; /* in `send_block`; from WS_IN_KEPT on: in `kept_block` */
    } seg[WS_SEGMENTS];
    unsigned seg_first, seg_end;
    uint8_t masks[128]; /* unguessable bytes for the next masks (RFC 6455 5.3) */
    unsigned masks_left;

    /* control frames */
    struct ht_slice feed; /* the bytes that wslay reads next */
    uint8_t ping[2 + 4 + WS_CONTROL_MAX];
    size_t ping_n;
    uint16_t close_code; /* ours */
    uint16_t peer_code;  /* 0: no close frame has come */
    char close_reason[WS_REASON_MAX + 1];
    char peer_reason[WS_REASON_MAX + 1];
    const char *failure; /* static text: what the peer did wrong */
};

/* Every callback of the owner is made between these two. ws_leave() frees `w` when the owner has destroyed it. */
static inline void ws_enter(struct ws_conn *w) { w->busy++; }
void ws_leave(struct ws_conn *w);

/* Closes the socket and calls closed(). Only between ws_enter() and ws_leave(). */
void ws_finish(struct ws_conn *w, uint16_t code, const char *reason);
/* The same with code and reason of the peer's close frame. Without one: WS_CLOSE_DROPPED and `otherwise`. */
void ws_finish_as_peer_said(struct ws_conn *w, const char *otherwise);
/* The peer broke a rule: hands nothing more up, sends a close frame with `code`, then closes the socket. */
void ws_fail(struct ws_conn *w, uint16_t code, const char *text);

/* ---- bulk.c ---- */

/* A message of `n` bytes has come. True: `window` is another one now. */
bool ws_bulk_message(struct ws_bulk *b, size_t n);

/* ---- receive.c ---- */
extern const struct io_conn_ops ws_io_ops;
void ws_on_in(struct io_task *t);
int ws_receive_early(struct ws_conn *w, struct ht_slice early);
/* Drops all received bytes that were not consumed. */
void ws_receive_drop(struct ws_conn *w);
bool ws_receive_pending(const struct ws_conn *w);

/* ---- send.c ---- */
void ws_on_out(struct io_task *t);
void ws_on_writable(void *ctx);
void ws_next_mask(struct ws_conn *w, uint8_t out[4]);
/* Writes the header of a message right in front of its n bytes, and masks them if need be. Returns the bytes of the
 * header, at most WS_HEADER_MAX. */
size_t ws_frame(struct ws_conn *w, uint8_t *p, size_t n);
/* The first bytes of a frame with a whole message of n bytes, without the mask. Returns how many, at most
 * WS_HEADER_MAX - 4. */
size_t ws_frame_start(uint8_t *h, uint8_t opcode, bool masked, size_t n);
static inline void ws_add_segment(struct ws_conn *w, size_t at, size_t n) {
    w->seg[w->seg_end].at = (uint32_t)at;
    w->seg[w->seg_end++].n = (uint32_t)n;
}
static inline uint8_t *ws_segment(const struct ws_conn *w, unsigned i) {
    uint32_t at = w->seg[i].at;
    return at & WS_IN_KEPT ? w->kept_block + (at - WS_IN_KEPT) : w->send_block + at;
}
/* Nothing of what was built is sent any more: the blocks go back. */
void ws_send_drop(struct ws_conn *w);

/* ---- resend.c ---- */

/* Builds the next segments of a connection with a kept: of messages that are sent again, else from pull(). Inside
 * pull() the connection may lose its kept. HT_OK, or HT_ENOMEM: nothing was pulled. */
int ws_kept_fill(struct ws_conn *w);
/* The segments that ws_kept_fill() has built were written, or are dropped. */
void ws_kept_written(struct ws_kept *k);
/* The connection loses its kept, if it has one. What it was about to send it sends all the same, from a copy. */
void ws_kept_leave(struct ws_conn *w);

/* ---- control.c ---- */
int ws_control_init(struct ws_conn *w);
/* Handles a complete control frame, whose header was checked. The bytes may be changed. */
void ws_control_received(struct ws_conn *w, uint8_t *frame, size_t n, uint8_t opcode);
/* ws_control_write() has something to do. */
bool ws_control_waits(const struct ws_conn *w);
/* Appends the frames that wslay has queued, and the answer to the last PING, to the send block. The block must have
 * room for them. */
void ws_control_write(struct ws_conn *w);

#endif
