#include "base/log.h"
#include "relay/visitor.h"

#include <unistd.h>

/* The record and its counts; the pipe is gone already. */
static void tcp_free(struct visitor_tcp *v) {
    struct relay_table *t = v->b->t;
    relay_visitor_removed(v->b, &v->node);
    ht_pool_put(&t->tcp_visitors, v);
}

static void pipe_done(void *ctx, uint16_t code, const char *text) {
    struct visitor_tcp *v = ctx;
    uint64_t in, out;
    relay_pipe_counts(v->pipe, &in, &out);
    ht_debug("visitor", "pull port %u: %llu bytes in, %llu out, %s", v->b->port, (unsigned long long)in,
             (unsigned long long)out, code ? text : "in order");
    relay_pipe_destroy(&v->pipe);
    tcp_free(v);
}

static const struct relay_pipe_ops pipe_ops = {.done = pipe_done};

/* Nothing can happen on the stream before the pipe has put its own in their place. */
static const struct mux_stream_ops no_ops = {.writable = NULL};

static void serve(struct relay_binding *b, struct mux_session *mux, struct io_conn *conn, const struct io_addr *peer) {
    struct relay_table *t = b->t;
    struct visitor_tcp *v = ht_pool_get(&t->tcp_visitors);
    if (!v) {
        io_conn_abort(&conn);
        io_fds_give(t->cfg.fds);
        return;
    }
    *v = (struct visitor_tcp){.b = b};
    ht_list_init(&v->node);
    char text[IO_ADDR_TEXT];
    struct wire_stream_open open = {
        .kind = WIRE_KIND_TCP,
        .bind_id = b->id,
        .has_container_port = true,
        .container_port = b->port,
        .has_peer_addr = true,
        .peer_addr = ht_slice_str(io_addr_text(peer, text)),
    };
    struct mux_stream *st;
    int rc = mux_stream_open(mux, &open, &no_ops, NULL, &st);
    if (rc) {
        /* Rule TCP-3: over the cap the connection is closed, nothing sent. */
        ht_debug("visitor", "pull port %u: %s refused: %s", b->port, text, ht_err_text(rc));
        if (!HT_MUTANT(TCP_3))
            io_conn_close(&conn);
        io_fds_give(t->cfg.fds);
        ht_pool_put(&t->tcp_visitors, v);
        return;
    }
    relay_visitor_added(b, &v->node);
    uint64_t quiet = b->owner->own_peer ? 0 : t->cfg.half_close_timeout_ms;
    v->pipe = relay_pipe_start(t->cfg.loop, conn, st, ht_slice_of(NULL, 0), quiet, &pipe_ops, v);
    if (!v->pipe)
        tcp_free(v);
}

static void accepted(void *ctx, int fd, const struct io_addr *peer) {
    struct relay_binding *b = ctx;
    struct relay_table *t = b->t;
    struct mux_session *mux = relay_binding_mux(b);
    if (!mux || !io_fds_take(t->cfg.fds)) {
        if (!HT_MUTANT(PARK_2_B))
            close(fd); /* rules TCP-3, PARK-2 */
        return;
    }
    struct io_conn *conn = io_conn_adopt(t->cfg.loop, fd, NULL, NULL);
    if (!conn) {
        io_fds_give(t->cfg.fds);
        return;
    }
    serve(b, mux, conn, peer);
}

static void accept_failed(void *ctx, int err) {
    struct relay_binding *b = ctx;
    b->t->cfg.metrics->accept_errors_total++;
    ht_debug("visitor", "port %u: cannot accept: %s", b->port, ht_err_text(err));
}

const struct io_listener_ops relay_tcp_listener_ops = {.accepted = accepted, .accept_failed = accept_failed};

void visitor_tcp_destroy(struct visitor_tcp *v, uint16_t code, const char *reason) {
    relay_pipe_abort(&v->pipe, code, reason);
    tcp_free(v);
}
