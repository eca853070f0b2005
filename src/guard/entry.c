/* An incoming connection: from the stream of raw bytes to a visitor of the inner session. */
#include "guard/guard_priv.h"

#include "base/mem.h"

#include <stdio.h>

#define TLS_HANDSHAKE 0x16 /* the first byte of a client that speaks TLS (RFC 8446 5.1) */

static void entry_free(struct guard_entry *e) {
    io_timer_stop(&e->timer);
    io_accept_cancel(&e->accept);
    relay_pipe_destroy(&e->pipe);
    io_conn_abort(&e->conn);
    ht_list_remove(&e->node);
    e->h->n_entries--;
    e->h->g->n_entries--;
    ht_free(e);
}

void guard_entries_cut(struct guard *g, const struct guard_host *h) {
    HT_LIST_FOR_SAFE (it, &g->entries) {
        struct guard_entry *e = HT_LIST_ENTRY(it, struct guard_entry, node);
        if (e->h != h)
            continue;
        relay_pipe_abort(&e->pipe, WIRE_CODE_CANCEL, "the tunnel is closing");
        entry_free(e);
    }
}

/* ---- inwards ---- */

/* The connection is a visitor's from now on; the pipe tells when it is over. */
static void visit(struct guard_entry *e, struct io_conn *conn, bool tls) {
    struct guard_door *d = guard_door_get(e->h, e->port, tls);
    io_timer_stop(&e->timer);
    if (!d) {
        e->h->g->cfg.trouble(e->h->g->cfg.ctx, e->h->name,
                             "a program asked for one more of its ports than can be served, or memory is out");
        io_conn_abort(&conn);
        return;
    }
    (void)!relay_inner_up(&e->h->g->inner); /* without memory for it the visitor is told 503 */
    relay_inside_visit(d->binding, conn, &e->peer);
}

static void accepted(void *ctx, struct io_conn *conn) {
    struct guard_entry *e = ctx;
    e->accept = NULL;
    visit(e, conn, true);
}

static void accept_failed(void *ctx, enum io_accept_why why, const char *text) {
    struct guard_entry *e = ctx;
    e->accept = NULL;
    if (why != IO_ACCEPT_LEFT) /* who connects and leaves is nobody's trouble */
        e->h->g->cfg.trouble(e->h->g->cfg.ctx, e->h->name, text);
}

static const struct io_accept_ops accept_ops = {.accepted = accepted, .failed = accept_failed};

static void first_byte(void *ctx) {
    struct guard_entry *e = ctx;
    struct guard *g = e->h->g;
    struct ht_errmsg err;
    int first = io_conn_peek(e->conn);
    if (first == HT_EAGAIN)
        return;
    struct io_conn *conn = e->conn;
    e->conn = NULL;
    io_conn_set_ops(conn, NULL, NULL);
    io_conn_read_on(conn, false);
    io_timer_stop(&e->timer);
    if (first < 0) {
        io_conn_close(&conn);
    } else if (first != TLS_HANDSHAKE) {
        visit(e, conn, false);
    } else {
        e->accept = io_accept_start(g->cfg.loop, conn, e->h->tls_host, WIRE_LIMIT_HEAD_TIMEOUT, &accept_ops, e, &err);
        if (!e->accept)
            g->cfg.trouble(g->cfg.ctx, e->h->name, err.text);
    }
}

static const struct io_conn_ops first_ops = {.readable = first_byte};

static void silent(struct io_timer *t) {
    struct guard_entry *e = ht_container_of(t, struct guard_entry, timer);
    if (e->h->g->away)
        io_timer_set(t, WIRE_LIMIT_HEAD_TIMEOUT);
    else
        io_conn_close(&e->conn); /* the pipe sees it */
}

/* ---- the stream ---- */

static void pipe_done(void *ctx, uint16_t code, const char *text) {
    (void)code, (void)text;
    entry_free(ctx);
}

static const struct relay_pipe_ops pipe_ops = {.done = pipe_done};

static void refuse(struct mux_stream *st, const char *why) {
    mux_stream_reset(st, WIRE_CODE_REFUSED_STREAM, why);
    mux_stream_release(&st);
}

/* What of the peer's address can be read; limits are kept by it. */
static void read_peer(const struct wire_stream_open *open, struct io_addr *out) {
    char text[IO_ADDR_TEXT];
    snprintf(text, sizeof text, "%.*s", (int)ht_min(open->peer_addr.n, sizeof text - 1),
             open->peer_addr.n ? open->peer_addr.p : "");
    if (!*text || io_addr_parse_hostport(out, text, NULL) < 0)
        (void)!io_addr_parse(out, "127.0.0.1", 0);
}

/* The pipe sets its own before the loop turns. */
static void nothing(void *ctx) { (void)ctx; }
static const struct mux_stream_ops no_ops = {.eof = nothing, .data_end = nothing};

void guard_host_serve(struct guard_host *h, struct mux_stream *st, const struct wire_stream_open *open, uint16_t port) {
    struct guard *g = h->g;
    struct io_conn *ends[2];
    struct guard_entry *e = g->n_entries < g->cfg.max_streams ? ht_calloc(1, sizeof *e) : NULL;
    if (!e || io_conn_pair(g->cfg.loop, ends) < 0) {
        ht_free(e);
        refuse(st, "busy: no memory or descriptors left, or too many connections");
        return;
    }
    e->h = h;
    e->port = port;
    e->conn = ends[1];
    read_peer(open, &e->peer);
    ht_list_init(&e->node);
    ht_list_push_back(&g->entries, &e->node);
    g->n_entries++;
    h->n_entries++;
    io_timer_init(g->cfg.loop, &e->timer, silent);
    io_timer_set(&e->timer, WIRE_LIMIT_HEAD_TIMEOUT);
    io_conn_set_ops(e->conn, &first_ops, e);
    io_conn_read_on(e->conn, true);
    mux_stream_accept(st, &no_ops, e);
    if (open->has_authority && mux_stream_connected(st) < 0) {
        io_conn_close(&ends[0]);
        refuse(st, ht_err_text(HT_ENOMEM));
        entry_free(e);
        return;
    }
    e->pipe = relay_pipe_start(g->cfg.loop, ends[0], st, ht_slice_of(NULL, 0), 0, &pipe_ops, e);
    if (!e->pipe)
        entry_free(e);
}
