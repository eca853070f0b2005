#include "io/io.h"

static void drop_queue(struct io_out *o) {
    if (o->secret && o->queue.data)
        explicit_bzero(o->queue.data, o->queue.cap);
    ht_buf_free(&o->queue);
}

/* Room for `n` more copied bytes. A buffer that grows may move, and leave a secret behind. */
static uint8_t *reserve(struct io_out *o, size_t n) {
    if (!o->secret || o->queue.cap - o->queue.len >= n)
        return ht_buf_reserve(&o->queue, n);
    struct ht_buf more = {0};
    size_t have = ht_buf_size(&o->queue);
    if (!ht_buf_reserve(&more, (have + n) * 2))
        return NULL;
    if (have)
        memcpy(more.data, ht_buf_head(&o->queue), have);
    more.len = have;
    drop_queue(o);
    o->queue = more;
    return more.data + have;
}

int io_out_copy(struct io_out *o, const void *p, size_t n) {
    uint8_t *to = n ? reserve(o, n) : NULL;
    if (!to)
        return n ? HT_ENOMEM : HT_OK;
    memcpy(to, p, n);
    ht_buf_commit(&o->queue, n);
    return HT_OK;
}

int io_out_spill(struct io_out *o) {
    if (o->n_iov == 0)
        return HT_OK;
    uint8_t *to = reserve(o, o->borrowed);
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

int io_out_add(struct io_out *o, const void *p, size_t n) {
    if (n == 0)
        return HT_OK;
    if (o->n_iov == IO_OUT_IOV) {
        int rc = io_out_spill(o);
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

/* Takes `n` written bytes off the front: the queue first, then the borrowed slices. */
static void drop_front(struct io_out *o, size_t n) {
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

ssize_t io_out_flush(struct io_out *o, struct io_conn *conn) {
    size_t total = io_out_pending(o);
    if (total == 0) {
        io_conn_want_write(conn, false);
        return 0;
    }
    struct iovec iov[IO_OUT_IOV + 1];
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
        int rc = io_out_spill(o);
        if (rc)
            return rc;
        io_conn_want_write(conn, true);
        return sent;
    }
    io_out_drop_borrowed(o);
    /* Only a reader that fell behind ever made the queue: when it has caught up, the memory goes back. */
    if (o->queue.data)
        drop_queue(o);
    io_conn_want_write(conn, false);
    return sent;
}

void io_out_drop_borrowed(struct io_out *o) {
    o->n_iov = 0;
    o->borrowed = 0;
}

size_t io_out_pending(const struct io_out *o) { return o->borrowed + ht_buf_size(&o->queue); }

void io_out_free(struct io_out *o) {
    io_out_drop_borrowed(o);
    drop_queue(o);
}
