/* A WebSocket server that sends every binary message back. For the program beside it and for the interop test. */
#ifndef HT_TESTS_ECHO_H
#define HT_TESTS_ECHO_H

#include "base/buf.h"
#include "base/mem.h"
#include "http/http.h"
#include "io/io.h"
#include "ws/ws.h"

#include <unistd.h>

/* An echo that is not fetched stops what comes in. */
#define ECHO_QUEUE_MAX (1024u * 1024u)

struct echo_server {
    struct io_loop *loop;
    struct io_listener *listener;
    struct ht_list peers;
    unsigned served;
};

struct echo_peer {
    struct ht_list node;
    struct echo_server *server;
    struct io_conn *conn; /* until the handshake is done */
    struct ws_conn *ws;
    struct http_head head;
    struct ht_buf in;    /* the request's head */
    struct ht_buf queue; /* 4 bytes of length, then the message */
};

static inline void echo_free(struct echo_peer *p) {
    ht_list_remove(&p->node);
    io_conn_close(&p->conn);
    ws_conn_destroy(&p->ws);
    ht_buf_free(&p->in);
    ht_buf_free(&p->queue);
    ht_free(p);
}

static inline ssize_t echo_message(void *ctx, uint8_t *bytes, size_t n, bool end) {
    struct echo_peer *p = ctx;
    uint32_t len = (uint32_t)n;
    if (!end)
        return 0;
    if (n == 0)
        return 0; /* pull() cannot give an empty message */
    if (ht_buf_append(&p->queue, &len, sizeof len) != HT_OK || ht_buf_append(&p->queue, bytes, n) != HT_OK) {
        ws_conn_close(p->ws, 1011, "out of memory");
        return -1;
    }
    ws_conn_pause(p->ws, ht_buf_size(&p->queue) > ECHO_QUEUE_MAX);
    ws_conn_want_send(p->ws);
    return (ssize_t)n;
}

static inline void echo_fed(void *ctx) { (void)ctx; }

static inline size_t echo_pull(void *ctx, uint8_t *out, size_t cap) {
    struct echo_peer *p = ctx;
    uint32_t len;
    if (ht_buf_size(&p->queue) == 0)
        return 0;
    memcpy(&len, ht_buf_head(&p->queue), sizeof len);
    if (len > cap)
        return 0;
    memcpy(out, ht_buf_head(&p->queue) + sizeof len, len);
    ht_buf_consume(&p->queue, sizeof len + len);
    ws_conn_pause(p->ws, ht_buf_size(&p->queue) > ECHO_QUEUE_MAX);
    return len;
}

static inline void echo_closed(void *ctx, uint16_t code, struct ht_slice reason, bool local) {
    (void)code;
    (void)reason;
    (void)local;
    echo_free(ctx);
}

static const struct ws_ops echo_ws_ops = {echo_message, echo_fed, echo_pull, echo_closed};

static inline void echo_write(struct echo_peer *p, const struct ht_buf *b) {
    struct iovec v = {.iov_base = b->data, .iov_len = b->len};
    /* A fresh socket has room for a head. */
    if (io_conn_write(p->conn, &v, 1) != (ssize_t)b->len)
        io_conn_abort(&p->conn);
}

static inline void echo_answer(struct echo_peer *p, int head_len, const struct http_error *parse_error) {
    static const struct ws_limits limits = {.max_message = 262144, .max_fragments = 64, .max_pull = 262144};
    const char *buf = (const char *)ht_buf_head(&p->in);
    struct ht_slice key, protocols, first = ht_slice_str("");
    struct ht_buf scratch = {0}, out = {0};
    struct http_error e = *parse_error;
    char chosen[64] = "";
    int rc = head_len < 0 ? head_len : ws_check_request(&p->head, buf, &key, &protocols, &scratch, &e);
    if (rc == HT_OK && http_list_next(&protocols, &first) && first.n < sizeof chosen)
        memcpy(chosen, first.p, first.n);
    rc = rc == HT_OK ? ws_write_101(&out, key, *chosen ? chosen : NULL) : rc;
    if (rc == HT_OK) {
        echo_write(p, &out);
    } else if (http_write_answer(&out, 1, e.status ? e.status : 500, NULL, e.text ? e.text : "", false, true) ==
               HT_OK) {
        echo_write(p, &out);
        io_conn_close_lingering(&p->conn, 1000);
    }
    ht_buf_free(&scratch);
    ht_buf_free(&out);
    if (rc != HT_OK || !p->conn) {
        echo_free(p);
        return;
    }
    p->server->served++;
    struct io_conn *conn = p->conn;
    p->conn = NULL;
    p->ws = ws_conn_create(p->server->loop, conn, WS_SERVER, &limits,
                           ht_slice_of(buf + head_len, ht_buf_size(&p->in) - (size_t)head_len), &echo_ws_ops, p);
    ht_buf_free(&p->in);
    if (!p->ws)
        echo_free(p);
}

static inline void echo_readable(void *ctx) {
    struct echo_peer *p = ctx;
    struct http_error e = {0};
    uint8_t *to = ht_buf_reserve(&p->in, 4096);
    ssize_t n = to ? io_conn_read(p->conn, to, 4096) : HT_ENOMEM;
    if (n == HT_EAGAIN)
        return;
    if (n < 0) {
        echo_free(p);
        return;
    }
    ht_buf_commit(&p->in, (size_t)n);
    int len = http_head_parse(&p->head, (const char *)ht_buf_head(&p->in), ht_buf_size(&p->in), &e);
    if (len != HT_EAGAIN)
        echo_answer(p, len, &e);
}

static inline void echo_writable(void *ctx) { (void)ctx; }

static const struct io_conn_ops echo_conn_ops = {echo_readable, echo_writable};

static inline void echo_accepted(void *ctx, struct io_conn *conn, const struct io_addr *peer) {
    struct echo_server *s = ctx;
    struct echo_peer *p = ht_calloc(1, sizeof *p);
    (void)peer;
    if (!p) {
        io_conn_close(&conn);
        return;
    }
    ht_list_push_back(&s->peers, &p->node);
    p->server = s;
    http_request_begin(&p->head, NULL);
    p->conn = conn;
    io_conn_set_ops(conn, &echo_conn_ops, p);
    io_conn_read_on(conn, true);
}

static const struct io_listener_ops echo_listener_ops = {echo_accepted, NULL};

static inline int echo_start(struct echo_server *s, struct io_loop *loop, const struct io_addr *addr,
                             struct ht_errmsg *err) {
    *s = (struct echo_server){.loop = loop};
    ht_list_init(&s->peers);
    return io_listen(loop, addr, &echo_listener_ops, s, &s->listener, err);
}

static inline void echo_stop(struct echo_server *s) {
    io_listener_close(&s->listener);
    while (!ht_list_empty(&s->peers))
        echo_free(HT_LIST_ENTRY(s->peers.next, struct echo_peer, node));
}

#endif
