#include "base/log.h"
#include "log_gen.h"
#include "relay/visitor_priv.h"

/* Frees the visitor. Its pipe was destroyed before. */
static void tcp_free(struct visitor_tcp *v) {
    struct relay_table *t = v->port->t;
    relay_visitor_removed(v->port, &v->node);
    ht_pool_put(&t->tcp_visitors, v);
}

static void pipe_done(void *ctx, uint16_t code, const char *text) {
    struct visitor_tcp *v = ctx;
    uint64_t in, out;
    relay_pipe_counts(v->pipe, &in, &out);
    ht_log_with(HT_LOG_DEBUG, "visitor",
                HT_LOG_FIELDS(log_session(v->b->owner->id), log_port(v->port->number), log_code(code), log_bytes_in(in),
                              log_bytes_out(out), log_reason(code ? text : "in order")),
                "connection over");
    relay_pipe_destroy(&v->pipe);
    if (code == WIRE_CODE_CANCEL)
        relay_left_early(v->b, v->from);
    else
        relay_answered(v->b, v->from);
    tcp_free(v);
}

static const struct relay_pipe_ops pipe_ops = {.done = pipe_done};

/* Until the pipe sets its own, which is before anything can happen on the stream. */
static const struct mux_stream_ops no_ops = {.writable = NULL};

/* Rules TCP-3, PARK-2: closes the connection, and sends nothing. */
static void turn_away(struct visitor_tcp *v, int why) {
    char text[RELAY_FULL_TEXT];
    ht_log_stranger(HT_LOG_INFO, "visitor",
                    HT_LOG_FIELDS(log_session(v->b->owner->id), log_port(v->port->number), log_peer(v->peer),
                                  log_reason(why == HT_ELIMIT ? relay_no_stream_text(v->b, text) : ht_err_text(why))),
                    "a connection was refused");
    io_conn_close(&v->conn);
    tcp_free(v);
}

static void serve(struct visitor_tcp *v) {
    struct relay_binding *b = v->b;
    struct relay_table *t = b->t;
    struct mux_session *mux = relay_binding_mux(b);
    struct wire_stream_open open = {
        .kind = WIRE_KIND_TCP,
        .bind_id = b->id,
        .has_container_port = true,
        .container_port = b->port->number,
        .has_peer_addr = true,
        .peer_addr = ht_slice_str(v->peer),
    };
    struct mux_stream *st;
    int rc = mux ? mux_stream_open(mux, &open, &no_ops, NULL, &st) : HT_ECLOSED;
    if (rc) {
        turn_away(v, rc);
        return;
    }
    relay_opened(b, v->from);
    uint64_t quiet = b->owner->own_peer ? 0 : t->cfg.half_close_timeout_ms;
    struct io_conn *conn = v->conn;
    v->conn = NULL;
    v->pipe = relay_pipe_start(t->cfg.loop, conn, st, ht_slice_of(NULL, 0), quiet, &pipe_ops, v);
    if (!v->pipe)
        tcp_free(v);
}

static void turn_has_come(struct relay_waiter *w) { serve(ht_container_of(w, struct visitor_tcp, waiter)); }

static void left_while_waiting(struct relay_waiter *w, int why) {
    turn_away(ht_container_of(w, struct visitor_tcp, waiter), why);
}

static void shed(struct relay_waiter *w) { turn_away(ht_container_of(w, struct visitor_tcp, waiter), HT_ECLOSED); }

static const struct relay_waiter_ops waiter_ops = {.turn = turn_has_come, .left = left_while_waiting, .shed = shed};

void visitor_tcp_begin(struct relay_port *p, struct io_conn *conn, const struct io_addr *peer) {
    struct relay_table *t = p->t;
    struct relay_binding *b = p->binding;
    struct visitor_tcp *v = ht_pool_get(&t->tcp_visitors);
    if (!v || io_conn_set_share(conn, b->owner->share) < 0) {
        ht_pool_put(&t->tcp_visitors, v);
        io_conn_abort(&conn);
        io_fds_give(t->cfg.fds);
        return;
    }
    *v = (struct visitor_tcp){.port = p, .b = b, .conn = conn, .from = relay_from(peer)};
    v->waiter = (struct relay_waiter){.ops = &waiter_ops, .conn = conn, .half_close = true};
    io_addr_text(peer, v->peer);
    ht_list_init(&v->node);
    relay_visitor_added(p, &v->node);
    if (!relay_must_wait(b, v->from))
        serve(v);
    else if (relay_wait(b, &v->waiter, v->from))
        turn_away(v, HT_ENOMEM);
}

void visitor_tcp_destroy(struct visitor_tcp *v, uint16_t code, const char *reason) {
    relay_wait_end(&v->waiter);
    io_conn_abort(&v->conn);
    relay_pipe_abort(&v->pipe, code, reason);
    tcp_free(v);
}
