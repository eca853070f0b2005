#include "relay/out_priv.h"

int relay_out_spill(struct relay_out *o) {
    if (o->n_iov == 0)
        return HT_OK;
    uint8_t *to = ht_buf_reserve(&o->queue, o->borrowed);
    if (!to)
        return HT_ENOMEM;
    for (int i = 0; i < o->n_iov; i++) {
        memcpy(to, o->iov[i].iov_base, o->iov[i].iov_len);
        to += o->iov[i].iov_len;
    }
    ht_buf_commit(&o->queue, o->borrowed);
    o->n_iov = 0;
    o->borrowed = 0;
    return HT_OK;
}

int relay_out_add(struct relay_out *o, const void *p, size_t n) {
    if (n == 0)
        return HT_OK;
    if (o->n_iov == RELAY_OUT_IOV) {
        int rc = relay_out_spill(o);
        if (rc)
            return rc;
    }
    union { /* iovec has no const: writing never changes the bytes */
        const void *in;
        void *out;
    } base = {.in = p};
    o->iov[o->n_iov++] = (struct iovec){.iov_base = base.out, .iov_len = n};
    o->borrowed += n;
    return HT_OK;
}

int relay_out_copy(struct relay_out *o, const void *p, size_t n) {
    int rc = relay_out_spill(o);
    return rc ? rc : ht_buf_append(&o->queue, p, n);
}

/* Takes `n` written bytes off the front: the queue first, then the borrowed slices. */
static void drop_front(struct relay_out *o, size_t n) {
    size_t queued = ht_min(n, ht_buf_size(&o->queue));
    if (queued)
        ht_buf_consume(&o->queue, queued);
    n -= queued;
    o->borrowed -= n;
    int gone = 0;
    while (n > 0 && n >= o->iov[gone].iov_len)
        n -= o->iov[gone++].iov_len;
    o->n_iov -= gone;
    memmove(o->iov, o->iov + gone, (size_t)o->n_iov * sizeof o->iov[0]);
    if (n > 0) {
        o->iov[0].iov_base = (char *)o->iov[0].iov_base + n;
        o->iov[0].iov_len -= n;
    }
}

ssize_t relay_out_flush(struct relay_out *o, struct io_conn *conn) {
    size_t total = relay_out_pending(o);
    if (total == 0) {
        io_conn_want_write(conn, false);
        return 0;
    }
    struct iovec iov[RELAY_OUT_IOV + 1];
    int n = 0;
    if (ht_buf_size(&o->queue))
        iov[n++] = (struct iovec){.iov_base = ht_buf_head(&o->queue), .iov_len = ht_buf_size(&o->queue)};
    if (o->n_iov)
        memcpy(iov + n, o->iov, (size_t)o->n_iov * sizeof iov[0]);
    ssize_t sent = io_conn_write(conn, iov, n + o->n_iov);
    if (sent == HT_EAGAIN)
        sent = 0;
    if (sent < 0)
        return sent;
    if ((size_t)sent < total) {
        drop_front(o, (size_t)sent);
        int rc = relay_out_spill(o);
        if (rc)
            return rc;
        io_conn_want_write(conn, true);
        return sent;
    }
    relay_out_drop_borrowed(o);
    /* Only a reader that fell behind ever made the queue: when it has caught up, the memory goes back. */
    if (o->queue.data)
        ht_buf_free(&o->queue);
    io_conn_want_write(conn, false);
    return sent;
}

void relay_out_drop_borrowed(struct relay_out *o) {
    o->n_iov = 0;
    o->borrowed = 0;
}

size_t relay_out_pending(const struct relay_out *o) { return o->borrowed + ht_buf_size(&o->queue); }

void relay_out_free(struct relay_out *o) {
    relay_out_drop_borrowed(o);
    ht_buf_free(&o->queue);
}

/* ---- fields behind a body (rule TRAIL-2) ---- */

bool relay_has_trailers(const struct mux_stream *st) {
    const struct mux_session *s = mux_stream_session(st);
    return s && mux_session_agreed(s, WIRE_CAP_TRAILERS);
}

int relay_send_trailers(struct mux_stream *st, struct ht_buf *lines, struct wire_header *room) {
    struct http_field fields[HTTP_MAX_HEADERS];
    const char *p = (const char *)ht_buf_head(lines);
    size_t n = ht_buf_size(lines) ? http_trailer_fields(p, ht_buf_size(lines), fields) : 0;
    for (size_t i = 0; i < n; i++)
        room[i] = (struct wire_header){.name = http_text(p, fields[i].name), .value = http_text(p, fields[i].value)};
    int rc = n ? mux_stream_trailers(st, &(struct wire_trailers){room, n}) : 0;
    ht_buf_free(lines);
    return rc;
}

int relay_last_chunk(struct ht_buf *to, const struct wire_trailers *t) {
    int rc = ht_buf_append_str(to, "0\r\n");
    for (size_t i = 0; rc == 0 && i < t->n_headers; i++) {
        if (http_may_be_trailer(t->headers[i].name))
            rc = http_write_field(to, t->headers[i].name, t->headers[i].value);
        else if (!http_is_token(t->headers[i].name) || !http_is_field_value(t->headers[i].value))
            rc = HT_EINVAL;
    }
    if (rc == 0 && ht_buf_size(to) > HTTP_MAX_CHUNK_OVERHEAD) { /* RFC 9110 6.5.1: they may be dropped */
        ht_buf_free(to);
        return HT_OK;
    }
    return rc ? rc : http_write_end(to);
}
