/* A ws_conn that writes down what it is told, and a raw peer at the other end of a socket pair. */
#ifndef HT_TESTS_WS_PEER_H
#define HT_TESTS_WS_PEER_H

#include "base/buf.h"
#include "base/clock.h"
#include "base/mem.h"
#include "support/guard.h"
#include "support/tap.h"
#include "ws/ws.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#define BIN 0x82
#define FRAG 0x02 /* first, not final */
#define CONT 0x00
#define LAST 0x80
#define TEXT 0x81
#define PING 0x89
#define PONG 0x8a
#define CLOSE 0x88

struct end {
    struct io_loop *loop;
    struct ws_conn *w;
    struct ht_buf got; /* each complete message: 4 bytes of length, then its bytes */
    struct ht_buf part;
    size_t messages, calls, feds, borrowed;
    unsigned seed; /* not 0: consume a random part of what is presented */
    bool stop_in_message, destroy_in_message, destroy_in_fed, destroy_in_pull, destroy_in_closed, pause_in_message;
    /* to send */
    struct ht_buf queue; /* like `got` */
    size_t pulls, max_cap, min_cap;
    bool keep;                     /* what is sent is kept */
    bool fill;                     /* one message more, as long as may be */
    void (*in_pull)(struct end *); /* called in pull(), once; NULL: nothing */
    /* closed */
    int closed;
    uint16_t code;
    char reason[200];
    bool local;
};

static inline unsigned rnd(unsigned *s) { return *s = *s * 1664525u + 1013904223u, *s >> 8; }

static inline void buf_add(struct ht_buf *b, const void *p, size_t n) {
    /* Twice: the first may be the allocation that a test lets fail, which is not meant for us. */
    if (ht_buf_append(b, p, n) != HT_OK && ht_buf_append(b, p, n) != HT_OK)
        abort();
}

static inline void add_message(struct ht_buf *b, const void *p, size_t n) {
    uint32_t len = (uint32_t)n;
    buf_add(b, &len, sizeof len);
    buf_add(b, p, n);
}

static inline ssize_t end_message(void *ctx, uint8_t *p, size_t n, bool end) {
    struct end *e = ctx;
    e->calls++;
    if (e->destroy_in_message) {
        ws_conn_destroy(&e->w);
        memset(p, 0xee, n); /* still ours */
        return -1;
    }
    if (e->stop_in_message) {
        ws_conn_close(e->w, 1000, "enough");
        return -1;
    }
    if (e->pause_in_message)
        ws_conn_pause(e->w, true);
    size_t take = n;
    if (!end && e->seed)
        take = n ? rnd(&e->seed) % (n + 1) : 0;
    buf_add(&e->part, p, take);
    if (end) {
        e->messages++;
        add_message(&e->got, e->part.data, e->part.len);
        e->part.len = 0;
    }
    return (ssize_t)take;
}

static inline void end_fed(void *ctx) {
    struct end *e = ctx;
    e->feds++;
    if (e->destroy_in_fed)
        ws_conn_destroy(&e->w);
}

static inline size_t end_pull(void *ctx, uint8_t *out, size_t cap) {
    struct end *e = ctx;
    uint32_t len;
    e->pulls++;
    e->max_cap = ht_max(e->max_cap, cap);
    e->min_cap = e->min_cap ? ht_min(e->min_cap, cap) : cap;
    if (e->destroy_in_pull) {
        ws_conn_destroy(&e->w);
        memset(out, 0xee, cap);
        return 0;
    }
    if (ht_buf_size(&e->queue) == 0) {
        len = e->fill ? (uint32_t)cap : 0;
        e->fill = false;
        memset(out, 'f', len);
        return len;
    }
    memcpy(&len, ht_buf_head(&e->queue), sizeof len);
    if (len > cap)
        return 0;
    memcpy(out, ht_buf_head(&e->queue) + sizeof len, len);
    ht_buf_consume(&e->queue, sizeof len + len);
    if (e->keep)
        ws_conn_keep(e->w);
    if (e->in_pull) {
        void (*in_pull)(struct end *) = e->in_pull;
        e->in_pull = NULL;
        in_pull(e);
    }
    return len;
}

static inline void end_closed(void *ctx, uint16_t code, struct ht_slice reason, bool local) {
    struct end *e = ctx;
    e->closed++;
    e->code = code;
    e->local = local;
    size_t n = ht_min(reason.n, sizeof e->reason - 1);
    if (n)
        memcpy(e->reason, reason.p, n);
    e->reason[n] = '\0';
    if (e->destroy_in_closed)
        ws_conn_destroy(&e->w);
}

static const struct ws_ops end_ops = {end_message, end_fed, end_pull, end_closed};
/* As with the kit. */
enum { MAX_PULL = 262144 };
static const struct ws_limits usual_limits = {.max_message = 262144, .max_fragments = 64, .max_pull = MAX_PULL};

static inline void nonblocking_pair(int fd[2]) {
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fd) != 0)
        abort();
}

/* Opens `e` on one end of a new pair; returns the other end's descriptor. */
static inline int end_open(struct end *e, struct io_loop *loop, enum ws_side side, struct ht_slice early) {
    int fd[2];
    nonblocking_pair(fd);
    *e = (struct end){.loop = loop};
    struct io_conn *c = io_conn_adopt(loop, fd[0], NULL, NULL);
    e->w = c ? ws_conn_create(loop, c, side, &usual_limits, early, &end_ops, e) : NULL;
    return fd[1];
}

static inline void end_free(struct end *e) {
    ws_conn_destroy(&e->w);
    ht_buf_free(&e->got);
    ht_buf_free(&e->part);
    ht_buf_free(&e->queue);
}

/* A frame as a peer would send it. `form` 0: shortest length; 2, 8: that many bytes of length. */
static inline void add_frame(struct ht_buf *b, uint8_t b0, bool masked, int form, const void *payload, size_t n) {
    uint8_t h[14], m[4] = {0x12, 0x9a, 0x00, 0xf7};
    size_t at = 2;
    if (form == 0)
        form = n < 126 ? 1 : n < 65536 ? 2 : 8;
    h[0] = b0;
    h[1] = (uint8_t)((masked ? 0x80 : 0) | (form == 1 ? n : form == 2 ? 126u : 127u));
    for (int i = form - 1; form > 1 && i >= 0; i--)
        h[at++] = (uint8_t)((uint64_t)n >> (8 * i));
    if (masked) {
        memcpy(h + at, m, 4);
        at += 4;
    }
    buf_add(b, h, at);
    size_t begin = b->len;
    buf_add(b, payload, n);
    for (size_t i = 0; masked && i < n; i++)
        b->data[begin + i] ^= m[i % 4];
}

/* A frame as it came from ws_conn; false when there is no whole one at *at. */
struct seen {
    uint8_t b0;
    bool masked;
    size_t n;
    uint8_t p[300000];
};

static inline bool next_frame(const struct ht_buf *b, size_t *at, struct seen *s) {
    const uint8_t *p = b->data + *at;
    size_t have = b->len - *at, h = 2, n;
    if (have < 2)
        return false;
    s->b0 = p[0];
    s->masked = p[1] & 0x80;
    n = p[1] & 0x7f;
    unsigned ext = n == 126 ? 2 : n == 127 ? 8 : 0;
    if (have < 2u + ext)
        return false;
    if (ext) {
        n = 0;
        for (unsigned i = 0; i < ext; i++)
            n = n << 8 | p[h++];
    }
    const uint8_t *mask = p + h;
    h += s->masked ? 4 : 0;
    if (have < h + n || n > sizeof s->p)
        return false;
    s->n = n;
    for (size_t i = 0; i < n; i++)
        s->p[i] = p[h + i] ^ (s->masked ? mask[i % 4] : 0);
    *at += h + n;
    return true;
}

/* Reads what is there. False at the end of the connection. */
static inline bool raw_read(int fd, struct ht_buf *to) {
    for (;;) {
        uint8_t *p = ht_buf_reserve(to, 65536);
        ssize_t n = p ? recv(fd, p, 65536, 0) : 0;
        if (n <= 0)
            return n < 0 && errno == EAGAIN;
        ht_buf_commit(to, (size_t)n);
    }
}

/* Sends it all, turning the loop when the socket is full. */
static inline void raw_write(struct io_loop *loop, int fd, const void *p, size_t n) {
    const uint8_t *at = p;
    while (n) {
        ssize_t k = send(fd, at, n, MSG_NOSIGNAL);
        if (k < 0 && errno != EAGAIN)
            return;
        if (k > 0) {
            at += k;
            n -= (size_t)k;
        }
        if (n)
            io_loop_turn(loop, false);
    }
}

#endif
