/* What the files of this room share: the state of an open WebSocket. */
#ifndef HT_WS_WS_PRIV_H
#define HT_WS_WS_PRIV_H

#include "ws/ws.h"

#include <wslay/wslay.h>

#define WS_CLOSE_WAIT_MS 2000
#define WS_HEADER_MAX 14               /* RFC 6455 5.2: 2, 8 of length, 4 of mask */
#define WS_CONTROL_MAX 125             /* payload of a control frame, RFC 6455 5.5 */
#define WS_REASON_MAX 123              /* a control frame less the code */
#define WS_LONG_MESSAGE (128u * 1024u) /* longer ones carry bulk that nothing else waits behind */
#define WS_SEGMENTS 32                 /* messages that share one system call */
#define WS_STASH 32                    /* fewer bytes than this wait without a block */

/* What becomes of bytes that come in. */
enum ws_rx {
    WS_RX_OPEN, /* handed up */
    WS_RX_DROP, /* we are closing: frames are parsed, data is dropped, the peer's close frame counts */
    WS_RX_DONE, /* the peer's close frame was here: only the end of the socket is of interest */
    WS_RX_DEAD, /* the peer broke the rules: nothing behind it can be trusted, nothing is read */
};

/* Where our own close frame stands. */
enum ws_tx {
    WS_TX_OPEN,
    WS_TX_DRAIN, /* the owner closes: what pull() still gives goes first */
    WS_TX_CLOSE, /* a close frame is queued in wslay, next to leave */
    WS_TX_SENT,  /* it is in the block or gone; nothing follows it */
    WS_TX_DEAD,  /* writing failed */
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
    int busy; /* callbacks of ours on the stack: memory stays until they are done */
    bool server;
    bool text;
    bool paused;
    bool destroyed;    /* by the owner, while busy */
    bool over;         /* closed() was called */
    bool local;        /* we started the close */
    bool handed;       /* message() was called since the last fed() */
    bool put_off;      /* `out` waits for the turn's other tasks */
    bool blocked;      /* the kernel takes no more for now */
    bool ping_pending; /* `ping` must be answered */

    /* receiving: block[msg_at..+msg_n) is unconsumed payload, block[raw_at..raw_end) behind it is yet to be parsed */
    uint8_t *block;
    size_t msg_at, msg_n, raw_at, raw_end;
    uint64_t frame_left; /* payload of the present data frame still to come */
    size_t message_size; /* payload of the present message's frames so far, the present one's in full */
    unsigned fragments;
    bool fin, in_message;
    uint8_t mask[4];
    uint8_t mask_at;
    uint8_t stash[WS_STASH];

    /* sending */
    uint8_t *send_block;
    size_t send_end;
    bool sends_long; /* the message pulled last was a long one */
    struct {
        uint32_t at, n;
    } seg[WS_SEGMENTS];
    unsigned seg_first, seg_end;
    uint8_t masks[128]; /* unguessable bytes in store (RFC 6455 5.3) */
    unsigned masks_left;

    /* control frames */
    struct ht_slice feed; /* what wslay reads next */
    uint8_t ping[2 + 4 + WS_CONTROL_MAX];
    size_t ping_n;
    uint16_t close_code; /* ours */
    uint16_t peer_code;  /* 0: none came */
    char close_reason[WS_REASON_MAX + 1];
    char peer_reason[WS_REASON_MAX + 1];
    const char *failure; /* static text: what the peer did wrong */
};

/* Callbacks of the owner are called between these two. */
static inline void ws_enter(struct ws_conn *w) { w->busy++; }
void ws_leave(struct ws_conn *w);

/* The end: closes the socket and tells the owner. Between ws_enter() and ws_leave(). */
void ws_finish(struct ws_conn *w, uint16_t code, const char *reason);
/* As the peer's close frame says, or WS_CLOSE_DROPPED with `otherwise`. */
void ws_finish_as_peer_said(struct ws_conn *w, const char *otherwise);
/* The peer broke the rules: nothing more is handed up, a close frame with `code` goes out, then the socket is closed.
 */
void ws_fail(struct ws_conn *w, uint16_t code, const char *text);

/* ---- receive.c ---- */
extern const struct io_conn_ops ws_io_ops;
void ws_on_in(struct io_task *t);
int ws_receive_early(struct ws_conn *w, struct ht_slice early);
/* Nothing that has come is of interest any more. */
void ws_receive_drop(struct ws_conn *w);
bool ws_receive_pending(const struct ws_conn *w);

/* ---- send.c ---- */
void ws_on_out(struct io_task *t);
void ws_on_writable(void *ctx);
void ws_next_mask(struct ws_conn *w, uint8_t out[4]);

/* ---- control.c ---- */
int ws_control_init(struct ws_conn *w);
/* A whole control frame as it came; its header is checked already. It may be changed. */
void ws_control_received(struct ws_conn *w, uint8_t *frame, size_t n, uint8_t opcode);
/* Moves what wslay has queued, and the answer to the last PING, to the end of the send block (there is room). */
void ws_control_write(struct ws_conn *w);

#endif
