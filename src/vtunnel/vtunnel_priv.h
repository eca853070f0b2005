/* What the files of this room share. */
#ifndef HT_VTUNNEL_VTUNNEL_PRIV_H
#define HT_VTUNNEL_VTUNNEL_PRIV_H

#include "base/list.h"
#include "vtunnel/vtunnel.h"
#include "wire/bytes.h"

#define VT_BUCKETS 256u
#define VT_MAX_PORTS 256u        /* most ports, answered or not */
#define VT_OWN_MAX (64u * 1024u) /* with more bytes of unsent answers of our own, no message is read */
#define VT_PULL (128u * 1024u)   /* bytes asked for in each mux_link_pull() */
#define VT_WORD_MAX 4096u        /* bytes of the longest message other than data */
#define VT_NEVER UINT64_MAX

enum vt_pause { VT_PAUSE_DATA = 1, VT_PAUSE_OWN = 2 }; /* bits: bytes wait for credit; the peer does not read answers */

struct vt_stream {
    struct ht_list by_peer, by_mux; /* in the buckets */
    struct ht_list leaving;         /* in vtunnel.leaving: the peer has closed, and our side still sends */
    uint32_t id, mux_id;
    uint32_t credit; /* bytes that the link still takes for this stream */
    char *host;      /* vt_port.host */
    uint64_t leave_by;
    enum vtunnel_stream_state state; /* only vt_stream_set_state() changes it */
};

enum vt_port_state { VT_PORT_ASKED, VT_PORT_OPEN };

struct vt_port {
    struct ht_list node;
    enum vt_port_state state;
    uint16_t port; /* as asked for */
    uint32_t bind_id;
    uint64_t ref;
    unsigned owed;  /* answers that are still owed, beyond the first */
    bool named;     /* server: BIND has asked for a name too */
    char label[64]; /* server: the target, for people */
    char *host;     /* client, of a target with TLS: the value that Host gets. NULL: Host is not changed */
};

struct vtunnel {
    struct vtunnel_config cfg;
    struct mux_link *link;
    const struct vtunnel_ops *ops;
    void *ctx;
    struct wire_scratch *scratch; /* for decoding frames; allocated on first use */
    bool over;                    /* the link takes no more input */
    bool ended;                   /* end() was called */

    struct ht_list by_peer[VT_BUCKETS], by_mux[VT_BUCKETS];
    struct ht_list leaving; /* struct vt_stream, the earliest leave_by first */
    unsigned n_streams;
    uint32_t next_mux_id; /* client */
    struct ht_list ports; /* struct vt_port */
    unsigned n_ports;
    uint64_t next_ref; /* server: next client ref of BIND. Client: next bind id */

    /* towards the link */
    uint32_t credit, window, stream_window; /* session credit now; initial windows of session and stream */
    unsigned paused;                        /* bits of enum vt_pause */
    uint8_t *held;                          /* a block with bytes that have no credit yet; NULL: none */
    size_t held_at, held_n;
    uint32_t held_for; /* mux id of their stream */

    /* towards the peer */
    struct ht_buf own; /* messages to send, each behind its length in two bytes */
    uint8_t *frames;   /* a block with frames that were pulled and not all translated yet; NULL: none */
    size_t frame_at, frames_n;
    size_t data_at; /* position in the payload of a DATA frame */

    /* time */
    uint64_t now_ms, heard_at, ping_at, stalled_at, pong_at;
};

/* ---- link.c: frames towards the link ---- */

void vt_feed(struct vtunnel *v, const uint8_t *frame, int n); /* `n` is the result of the encoder, also an error */
void vt_feed_eof(struct vtunnel *v, const struct vt_stream *s);
void vt_feed_reset(struct vtunnel *v, const struct vt_stream *s, enum wire_code code, const char *reason);
void vt_feed_credit(struct vtunnel *v, uint32_t mux_id, uint32_t n);
/* Feeds bytes of the peer to the link as far as there is credit; the rest is held. */
void vt_give(struct vtunnel *v, struct vt_stream *s, const uint8_t *p, size_t n);
/* The link has given credit back. */
void vt_granted(struct vtunnel *v, uint32_t mux_id, uint32_t n);
void vt_pause(struct vtunnel *v, enum vt_pause why, bool on);
/* Drops bytes that are held for this stream. */
void vt_forget_held(struct vtunnel *v, uint32_t mux_id);

void vt_end(struct vtunnel *v, uint16_t code, const char *reason);

/* ---- stream.c ---- */

struct vt_stream *vt_stream_new(struct vtunnel *v, uint32_t id, uint32_t mux_id);
struct vt_stream *vt_stream_by_peer(struct vtunnel *v, uint32_t id);
struct vt_stream *vt_stream_by_mux(struct vtunnel *v, uint32_t mux_id);
/* The only function that changes a stream's state. A stream that is gone is freed. */
void vt_stream_set_state(struct vtunnel *v, struct vt_stream *s, enum vtunnel_stream_state to);
void vt_streams_free(struct vtunnel *v);
/* Closes the stream in both directions, because bytes are missing or it stops others. */
void vt_stream_cut(struct vtunnel *v, struct vt_stream *s, const char *why);
/* Messages of the peer: data, data that is invalid, close. */
void vt_stream_data(struct vtunnel *v, uint32_t id, struct ht_slice data);
void vt_stream_hole(struct vtunnel *v, uint32_t id);
void vt_stream_close(struct vtunnel *v, uint32_t id);
/* Frames of the link: EOF, RESET, DATA. */
void vt_stream_ended(struct vtunnel *v, struct vt_stream *s);
void vt_stream_lost(struct vtunnel *v, struct vt_stream *s);
void vt_stream_talks(struct vtunnel *v, struct vt_stream *s);
/* The stream that holds most of the credit; NULL: none holds any. */
struct vt_stream *vt_stream_fattest(struct vtunnel *v);

/* ---- port.c ---- */

void vt_port_listen(struct vtunnel *v, int64_t port, struct ht_slice local_addr);
void vt_port_bound(struct vtunnel *v, const struct wire_bind_ok *ok);
void vt_port_refused(struct vtunnel *v, const struct wire_bind_err *err);
void vt_port_revoked(struct vtunnel *v, const struct wire_bind_revoked *revoked);
void vt_port_bind(struct vtunnel *v, const struct wire_bind *bind);
void vt_port_unbind(struct vtunnel *v, const struct wire_unbind *unbind);
void vt_port_listen_ok(struct vtunnel *v, int64_t port);
void vt_port_listen_err(struct vtunnel *v, int64_t port, struct ht_slice error);
struct vt_port *vt_port_by_bind(struct vtunnel *v, uint32_t bind_id);
struct vt_port *vt_port_by_number(struct vtunnel *v, int64_t port);
void vt_ports_free(struct vtunnel *v);

/* ---- out.c: messages towards the peer ---- */

/* Queues a short message. Without memory the connection ends. */
void vt_say(struct vtunnel *v, const struct vtunnel_message *m);
static inline void vt_say_close(struct vtunnel *v, uint32_t id) {
    vt_say(v, &(struct vtunnel_message){.type = VTUNNEL_CLOSE, .stream_id = id});
}

#endif
