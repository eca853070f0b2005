/* The request on its way to the service: the head from STREAM_OPEN's fields, the body framed as the head says. */
#include "relay/origin_priv.h"

/* ---- head ---- */

/* RFC 9110 7.6.1. An upgrade keeps the two that make it one, and what Trailer announces comes. */
static bool is_dropped(struct ht_slice name, bool upgrade) {
    switch (http_hop_of(name)) {
    case HTTP_HOP_NONE:
    case HTTP_HOP_TRAILER:
        return false;
    case HTTP_HOP_CONNECTION:
    case HTTP_HOP_UPGRADE:
        return !upgrade;
    default:
        return true;
    }
}

/* Finds out how the body is framed; the visitor's framing decides, checked again because two readings are an attack. */
static const char *read_framing(struct origin_exchange *x, struct ht_slice name, struct ht_slice value) {
    if (ht_slice_case_eq(name, ht_slice_str("content-length"))) {
        if (x->req_body != HTTP_BODY_NONE || !http_parse_length(value, &x->req_left))
            return "ambiguous or malformed content-length";
        x->req_body = HTTP_BODY_LENGTH;
    } else if (ht_slice_case_eq(name, ht_slice_str("transfer-encoding"))) {
        if (x->req_body != HTTP_BODY_NONE || !ht_slice_case_eq(value, ht_slice_str("chunked")))
            return "ambiguous or unsupported transfer-encoding";
        x->req_body = HTTP_BODY_CHUNKED;
    }
    return NULL;
}

/* RFC 9110 9.2.2. */
static bool is_idempotent(struct ht_slice method) {
    static const char *const yes[] = {"GET", "HEAD", "PUT", "DELETE", "OPTIONS", "TRACE"};
    for (size_t i = 0; i < HT_ARRAY_LEN(yes); i++)
        if (ht_slice_is(method, yes[i]))
            return true;
    return false;
}

/* All that the head will need, at once: a buffer that grows may move, and leave a secret behind. */
static bool reserve_head(struct ht_buf *b, const struct wire_stream_open *open) {
    size_t n = open->method.n + open->target.n + open->peer_addr.n + 256;
    for (size_t i = 0; i < open->n_headers; i++)
        n += open->headers[i].name.n + open->headers[i].value.n + 4;
    return ht_buf_reserve(b, n) != NULL;
}

static int write_head(struct origin_exchange *x, const struct wire_stream_open *open, const char **why) {
    struct ht_buf *b = &x->head;
    if (x->t->cfg.secret && !reserve_head(b, open))
        return HT_ENOMEM;
    bool has_host = false, te = false;
    int rc = http_write_request_line(b, open->method, open->target);
    for (size_t i = 0; rc == 0 && i < open->n_headers; i++) {
        struct ht_slice name = open->headers[i].name, value = open->headers[i].value;
        *why = read_framing(x, name, value);
        if (*why)
            return HT_EPROTO;
        has_host = has_host || ht_slice_case_eq(name, ht_slice_str("host"));
        if (!is_dropped(name, x->upgrade))
            rc = http_write_field(b, name, value);
        else if (name.n == 2 && !x->upgrade) /* the only one of that length */
            te = te || http_te_wants_trailers(value);
    }
    if (rc == 0 && !has_host) /* an HTTP/1.0 visitor may have none; we speak 1.1 */
        rc = http_write_field(b, ht_slice_str("host"), ht_slice_str(origin_authority(x->t)));
    if (rc == 0 && x->req_body == HTTP_BODY_CHUNKED)
        rc = http_write_field(b, ht_slice_str("transfer-encoding"), ht_slice_str("chunked"));
    if (rc == 0 && te && relay_has_trailers(x->st)) /* rule TRAIL-3; a sender of TE names it (RFC 9110 10.1.4) */
        rc = ht_buf_append_str(b, "te: trailers\r\nconnection: te\r\n");
    if (rc == 0)
        rc = http_write_end(b);
    return rc;
}

int origin_request_build(struct origin_exchange *x, const struct wire_stream_open *open, const char **why) {
    *why = "a header field of the request is not allowed in HTTP/1.1";
    x->upgrade = open->is_upgrade;
    x->head_request = ht_slice_is(open->method, "HEAD");
    int rc = write_head(x, open, why);
    if (rc == HT_ENOMEM)
        *why = ht_err_text(HT_ENOMEM);
    if (rc < 0)
        return rc;
    x->head_len = (uint32_t)x->head.len;
    x->method_len = (uint32_t)open->method.n;
    x->target_len = (uint32_t)open->target.n;
    bool no_body = x->req_body == HTTP_BODY_NONE || (x->req_body == HTTP_BODY_LENGTH && x->req_left == 0);
    x->replayable = no_body && is_idempotent(open->method);
    if (x->upgrade && x->req_body == HTTP_BODY_CHUNKED) {
        *why = "an upgrade with a chunked body"; /* hardening case 6 */
        return HT_EPROTO;
    }
    rc = ht_buf_append(&x->head, open->peer_addr.p, open->peer_addr.n);
    if (rc < 0)
        *why = ht_err_text(rc);
    return rc;
}

/* ---- body ---- */

/* Borrows when there is a connection to write to in this turn, copies while it is being made. */
static int out_add(struct origin_exchange *x, const void *p, size_t n) {
    return x->conn ? io_out_add(&x->out, p, n) : io_out_copy(&x->out, p, n);
}

static void give_credit(struct origin_exchange *x, uint64_t up_to) {
    if (up_to <= x->consumed || !x->st)
        return;
    size_t n = (size_t)(up_to - x->consumed);
    x->consumed = up_to;
    mux_stream_consumed(x->st, n);
}

int origin_request_data(struct origin_exchange *x, const uint8_t *p, size_t n, const char **why) {
    if (x->req_dropped) {
        give_credit(x, x->bytes_in);
        return 0;
    }
    int rc;
    switch (x->req_body) {
    case HTTP_BODY_LENGTH:
        if (n > x->req_left) {
            *why = "the request's body is longer than its content-length";
            return HT_EPROTO;
        }
        x->req_left -= n;
        rc = out_add(x, p, n);
        break;
    case HTTP_BODY_CHUNKED: {
        /* A head stays borrowed until the flush. There are more of them than iovecs to hold head, data and tail: when
         * the first is used again, everything before has been copied. */
        char *head = x->chunk_heads[x->n_chunk_heads++ % ORIGIN_CHUNK_HEADS];
        rc = out_add(x, head, http_chunk_head(head, n));
        if (rc == 0)
            rc = out_add(x, p, n);
        if (rc == 0)
            rc = out_add(x, HTTP_CHUNK_TAIL, sizeof HTTP_CHUNK_TAIL - 1);
        break;
    }
    default:
        *why = "body bytes for a request that has no body";
        return HT_EPROTO;
    }
    if (rc < 0)
        *why = ht_err_text(rc);
    else
        ORIGIN_TAP(x, body, false, ht_slice_of(p, n));
    return rc;
}

int origin_request_trailers(struct origin_exchange *x, const struct wire_trailers *t, const char **why) {
    if (x->req_dropped || x->req_body != HTTP_BODY_CHUNKED)
        return 0;
    int rc = relay_last_chunk(&x->last_chunk, t);
    if (rc < 0)
        *why = rc == HT_EINVAL ? "a trailer field of the request is not allowed in HTTP/1.1" : ht_err_text(rc);
    return rc;
}

/* What stands between the last chunk's size and the empty line. */
static struct ht_slice trailer_lines(const struct ht_buf *last_chunk) {
    static const size_t around = sizeof "0\r\n" - 1 + sizeof "\r\n" - 1;
    struct ht_slice all = ht_buf_slice(last_chunk);
    return all.n > around ? ht_slice_of(all.p + 3, all.n - around) : ht_slice_of(NULL, 0);
}

int origin_request_end(struct origin_exchange *x, const char **why) {
    x->req_ended = true;
    if (x->req_dropped)
        return 0;
    if (x->req_body == HTTP_BODY_LENGTH && x->req_left > 0) {
        *why = "the request's body is shorter than its content-length";
        return HT_EPROTO;
    }
    int rc = 0;
    ORIGIN_TAP(x, body_end, false, trailer_lines(&x->last_chunk));
    if (x->req_body == HTTP_BODY_CHUNKED && ht_buf_size(&x->last_chunk))
        rc = out_add(x, ht_buf_head(&x->last_chunk), ht_buf_size(&x->last_chunk));
    else if (x->req_body == HTTP_BODY_CHUNKED)
        rc = out_add(x, HTTP_CHUNK_LAST, sizeof HTTP_CHUNK_LAST - 1);
    if (rc < 0)
        *why = ht_err_text(rc);
    return rc;
}

void origin_request_drop(struct origin_exchange *x) {
    x->req_dropped = true;
    io_out_free(&x->out);
    give_credit(x, x->bytes_in);
}

void origin_request_flush(struct origin_exchange *x) {
    if (!x->conn)
        return;
    io_task_cancel(&x->flush);
    if (x->req_dropped)
        return;
    if (io_out_flush(&x->out, x->conn->c) < 0) {
        /* The service reads no more. What it may have said before (a 413, say) is still to be read: that side decides.
         */
        io_conn_want_write(x->conn->c, false);
        origin_request_drop(x);
        return;
    }
    size_t pending = io_out_pending(&x->out);
    /* Framing counts as pending too: credit never runs ahead of what was written. */
    if (x->bytes_in > pending)
        give_credit(x, x->bytes_in - pending);
    if (HT_UNLIKELY(x->tap != NULL) && !x->tapped_sent && origin_request_is_sent(x)) {
        x->tapped_sent = true;
        ORIGIN_TAP(x, moment, RELAY_TAP_SENT);
    }
}

bool origin_request_is_sent(const struct origin_exchange *x) {
    bool complete =
        x->req_ended || x->req_body == HTTP_BODY_NONE || (x->req_body == HTTP_BODY_LENGTH && x->req_left == 0);
    return complete && !x->req_dropped && io_out_pending(&x->out) == 0;
}
