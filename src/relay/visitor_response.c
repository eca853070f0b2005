/* The answer on its way to the visitor. What comes from the driver is checked like any other input. */
#include "base/log.h"
#include "log_gen.h"
#include "relay/connect_priv.h"
#include "relay/visitor_priv.h"

/* ---- trouble ---- */

/* The driver broke a rule (hardening case 7). The stream gets RESET 1. The visitor gets a 502 if nothing of the answer
 * was sent yet; otherwise its connection is cut. */
static void violation(struct visitor_http *v, const char *why) {
    visitor_end_stream(v, WIRE_CODE_PROTOCOL_ERROR, why);
    /* `committed` is set by a write. But in a long batch the head may have been copied into the queue before one. */
    if (v->committed || (v->answer != ANSWER_AWAITED && ht_buf_size(&v->out.queue))) {
        visitor_lost(v, true, why);
        return;
    }
    ht_log_with(HT_LOG_DEBUG, "visitor",
                HT_LOG_FIELDS(log_session(v->b->owner->id), log_port(v->port->number), log_peer(v->peer),
                              log_stream(v->stream_id), log_reason(why)),
                "the driver's answer is not valid HTTP");
    io_out_drop_borrowed(&v->out);
    (void)visitor_answer(v, &answer_driver_error, true);
}

static void out_of_memory(struct visitor_http *v) { visitor_lost(v, true, ht_err_text(HT_ENOMEM)); }

/* ---- the head ---- */

/* Hop-by-hop fields are dropped: the kit decides about the visitor's connection by itself. */
static bool is_dropped(const struct visitor_http *v, struct ht_slice name) {
    switch (http_hop_of(name)) {
    case HTTP_HOP_NONE:
    case HTTP_HOP_UPGRADE: /* a 101 needs it; the caller decides */
        return false;
    case HTTP_HOP_TRAILER:
        return v->http10 || !relay_has_trailers(v->st);
    default:
        return true;
    }
}

static bool is_connection(struct ht_slice name) {
    return name.n == 10 && ht_slice_case_eq(name, ht_slice_str("connection"));
}

/* True when a Connection field of the head names this field, which is then hop-by-hop too (RFC 9110 7.6.1). */
static bool is_named(const struct wire_response_head *head, struct ht_slice name) {
    for (size_t i = 0; i < head->n_headers; i++) {
        struct ht_slice rest = head->headers[i].value, item;
        if (!is_connection(head->headers[i].name))
            continue;
        while (http_list_next(&rest, &item))
            if (item.n == name.n && ht_slice_case_eq(item, name))
                return !http_is_end_to_end(name);
    }
    return false;
}

struct answer_head {
    bool has_length;
    uint64_t length;
    struct ht_slice upgrade;
};

/* Writes the status line and the driver's fields. 0, HT_ENOMEM, or HT_EPROTO. */
static int write_fields(struct visitor_http *v, const struct wire_response_head *head, struct answer_head *a) {
    struct ht_slice reason = head->has_reason ? head->reason : ht_slice_of(NULL, 0);
    int rc = http_write_status(&v->head, 1, head->status, reason);
    bool names = false;
    for (size_t i = 0; i < head->n_headers && !names; i++)
        names = is_connection(head->headers[i].name);
    for (size_t i = 0; i < head->n_headers && rc == HT_OK; i++) {
        struct ht_slice name = head->headers[i].name, value = head->headers[i].value;
        if (name.n == 14 && ht_slice_case_eq(name, ht_slice_str("content-length"))) {
            uint64_t n;
            if (!http_parse_length(value, &n) || (a->has_length && a->length != n))
                return HT_EPROTO;
            a->has_length = true;
            a->length = n;
        } else if (name.n == 7 && ht_slice_case_eq(name, ht_slice_str("upgrade"))) {
            a->upgrade = value;
        } else if (!is_dropped(v, name) && !(names && is_named(head, name))) {
            rc = http_write_field(&v->head, name, value);
        }
    }
    return rc == HT_EINVAL ? HT_EPROTO : rc;
}

/* Writes the fields for the framing, and decides whether the connection stays open (rule HTTP-5). */
static int write_framing(struct visitor_http *v, const struct answer_head *a) {
    int rc = HT_OK;
    bool bodiless = v->head_request || v->status == 204 || v->status == 304;
    v->answer_left = a->length;
    if (bodiless) {
        v->framing = FRAMING_NONE;
        if (a->has_length && v->status != 204)
            rc = http_write_content_length(&v->head, a->length);
    } else if (a->has_length) {
        v->framing = FRAMING_LENGTH;
        rc = http_write_content_length(&v->head, a->length);
    } else if (v->http10) {
        v->framing = FRAMING_CLOSE;
        io_conn_reset_on_exit(v->conn);
        v->keep = false;
    } else {
        v->framing = FRAMING_CHUNKED;
        rc = ht_buf_append_str(&v->head, "transfer-encoding: chunked\r\n");
    }
    /* The answer may end before the request: then the rest of the body must not be taken for the next request
     * (hardening case 2). After an upgrade that was refused, the visitor may already send bytes of the other protocol.
     */
    if (v->request != REQUEST_WHOLE || v->upgrade || v->port->t->draining || !relay_binding_serves(v->b))
        v->keep = false;
    if (rc == HT_OK && !v->keep)
        rc = ht_buf_append_str(&v->head, "connection: close\r\n");
    else if (rc == HT_OK && v->http10)
        rc = ht_buf_append_str(&v->head, "connection: keep-alive\r\n");
    return rc;
}

/* Writes the fields of a 101 (RFC 9110 7.8). Published drivers leave out Connection, and some of them Upgrade. */
static int write_upgrade(struct visitor_http *v, const struct answer_head *a) {
    int rc = ht_buf_append_str(&v->head, "connection: Upgrade\r\n");
    if (rc)
        return rc;
    struct ht_slice to = a->upgrade.n ? a->upgrade : ht_slice_str("websocket");
    rc = http_write_field(&v->head, ht_slice_str("upgrade"), to);
    return rc == HT_EINVAL ? HT_EPROTO : rc;
}

static const char *check_head(const struct visitor_http *v, const struct wire_response_head *head) {
    if (v->answer != ANSWER_AWAITED)
        return "a second final head"; /* rule HTTP-7 */
    if (head->status < 100 || head->status > 999)
        return "a status that is not from 100 to 999";
    if (head->status == 101 && !v->upgrade)
        return "a 101 that nobody asked for"; /* hardening case 6 */
    if (head->status == 101)
        return v->request == REQUEST_WHOLE ? NULL : "a 101 before the whole request"; /* RFC 9110 7.8 */
    if (head->final != (head->status >= 200))
        return head->final ? "a final head with an interim status" : "an interim head with a final status";
    return NULL;
}

static void stream_head(void *ctx, const struct wire_response_head *head) {
    struct visitor_http *v = ctx;
    const char *wrong = check_head(v, head);
    if (wrong) {
        violation(v, wrong);
        return;
    }
    bool interim = head->status < 200 && head->status != 101;
    if (interim && v->http10)
        return; /* RFC 9110 15.2 */
    /* If `out` still borrows an interim head from v->head, it is copied first. */
    if (io_out_spill(&v->out)) {
        out_of_memory(v);
        return;
    }
    v->head.off = v->head.len = 0;
    v->status = head->status;
    struct answer_head a = {.has_length = false};
    int rc = write_fields(v, head, &a);
    if (rc == HT_OK && head->status == 101)
        rc = write_upgrade(v, &a);
    else if (rc == HT_OK && !interim)
        rc = write_framing(v, &a);
    if (rc == HT_OK && v->port->proxy)
        rc = http_write_field(&v->head, ht_slice_str("via"), ht_slice_str(CONNECT_VIA));
    if (rc == HT_OK)
        rc = http_write_end(&v->head);
    if (rc == HT_OK)
        rc = io_out_add(&v->out, ht_buf_head(&v->head), ht_buf_size(&v->head));
    if (rc == HT_EPROTO) {
        violation(v, "a head that cannot be passed on"); /* rule HTTP-6 */
        return;
    }
    if (rc) {
        out_of_memory(v);
        return;
    }
    v->port->t->cfg.metrics->visitor_responses_total[HT_METRIC_CLASS_1XX + head->status / 100 - 1]++;
    if (head->status == 101) {
        visitor_become_pipe(v);
        return;
    }
    if (interim)
        return;
    bool whole = v->framing == FRAMING_NONE || (v->framing == FRAMING_LENGTH && v->answer_left == 0);
    v->answer = whole ? ANSWER_WHOLE : ANSWER_BEGUN;
}

/* ---- the body ---- */

/* All bytes of a batch go into one chunk, whose head is written when their number is known. */
static int close_chunk(struct visitor_http *v) {
    if (!v->chunk_open)
        return HT_OK;
    size_t n = http_chunk_head(v->chunk_head, v->chunk_bytes);
    v->out.iov[v->chunk_slot] = (struct iovec){.iov_base = v->chunk_head, .iov_len = n};
    v->out.borrowed += n;
    v->chunk_open = false;
    v->chunk_bytes = 0;
    return io_out_add(&v->out, HTTP_CHUNK_TAIL, sizeof HTTP_CHUNK_TAIL - 1);
}

/* Sends the bytes that have come, and cuts the connection behind them, so that the answer does not look complete. */
static void cut_short(struct visitor_http *v, const char *why) {
    int rc = close_chunk(v);
    ssize_t n = rc ? rc : io_out_flush(&v->out, v->conn);
    visitor_lost(v, true, n < 0 ? ht_err_text((int)n) : why);
}

static int add_to_chunk(struct visitor_http *v, const uint8_t *p, size_t n) {
    /* Four entries are needed for the chunk's head, these bytes, its tail and the last chunk. If there are fewer, the
     * chunk is ended and copied, and a new one begins. */
    if (v->out.n_iov + 4 > IO_OUT_IOV && (close_chunk(v) || io_out_spill(&v->out)))
        return HT_ENOMEM;
    if (!v->chunk_open) {
        v->chunk_open = true;
        v->chunk_slot = (uint8_t)v->out.n_iov;
        v->out.iov[v->out.n_iov++] = (struct iovec){.iov_base = v->chunk_head, .iov_len = 0};
    }
    v->chunk_bytes += n;
    return io_out_add(&v->out, p, n);
}

static void stream_data(void *ctx, const uint8_t *p, size_t n) {
    struct visitor_http *v = ctx;
    if (n == 0)
        return;
    if (v->answer == ANSWER_AWAITED) {
        violation(v, "data before the head");
        return;
    }
    if (v->framing == FRAMING_NONE) {
        /* The answer is complete without these bytes: the visitor gets it, and the driver gets a RESET. */
        visitor_end_stream(v, WIRE_CODE_PROTOCOL_ERROR, "data for an answer that has no body");
        if (visitor_flush(v))
            (void)visitor_settle(v);
        return;
    }
    if (v->framing == FRAMING_LENGTH) {
        if (n > v->answer_left) {
            violation(v, "more data than content-length says");
            return;
        }
        v->answer_left -= n;
        v->answer = v->answer_left == 0 ? ANSWER_WHOLE : ANSWER_BEGUN;
    }
    if (v->framing == FRAMING_CHUNKED ? add_to_chunk(v, p, n) : io_out_add(&v->out, p, n))
        out_of_memory(v);
}

/*
 * A visitor that reads chunks can read trailers behind the last one (RFC 9112 7.1.2), whether it has asked for them
 * with TE or not. With any other framing there is no place for trailers, and they are dropped.
 */
static void stream_trailers(void *ctx, const struct wire_trailers *t) {
    struct visitor_http *v = ctx;
    if (v->framing != FRAMING_CHUNKED || v->answer != ANSWER_BEGUN)
        return;
    int rc = visitor_need_chunks(v) ? relay_last_chunk(&v->chunks->last, t) : HT_ENOMEM;
    if (rc == HT_EINVAL)
        violation(v, "a trailer field that cannot be passed on"); /* rule HTTP-6 */
    else if (rc)
        out_of_memory(v);
}

static void stream_eof(void *ctx) {
    struct visitor_http *v = ctx;
    v->stream_ended = true;
}

/* The stream's EOF ends the answer. False: the visitor was freed. */
static bool end_answer(struct visitor_http *v) {
    if (v->answer == ANSWER_AWAITED) {
        violation(v, "ended without a head");
        return false;
    }
    if (v->framing == FRAMING_LENGTH) {
        /* Rule HTTP-5: the answer has the length that its head gave. */
        cut_short(v, "less data than content-length says");
        return false;
    }
    bool trailers = v->chunks && ht_buf_size(&v->chunks->last);
    struct ht_slice last = trailers ? ht_buf_slice(&v->chunks->last) : ht_slice_str(HTTP_CHUNK_LAST);
    if (v->framing == FRAMING_CHUNKED && io_out_add(&v->out, last.p, last.n)) {
        out_of_memory(v);
        return false;
    }
    v->answer = ANSWER_WHOLE;
    return true;
}

static void stream_data_end(void *ctx) {
    struct visitor_http *v = ctx;
    if (close_chunk(v)) {
        out_of_memory(v);
        return;
    }
    if (v->stream_ended && v->answer != ANSWER_WHOLE && !end_answer(v))
        return;
    if (visitor_flush(v))
        (void)visitor_settle(v);
}

static void stream_writable(void *ctx, bool yes) {
    struct visitor_http *v = ctx;
    uint64_t now = visitor_stream_ms(v);
    if (v->request != REQUEST_WHOLE) {
        if (yes && v->request == REQUEST_BLOCKED)
            v->body_due_ms += now - v->blocked_ms;
        v->request = yes ? REQUEST_COMES : REQUEST_BLOCKED;
        v->blocked_ms = now;
        visitor_watch_clocks(v);
        visitor_update_reading(v);
    }
    if (yes)
        mux_stream_ready(v->st);
}

static void stream_closed(void *ctx, uint16_t code, struct ht_slice reason, bool remote) {
    struct visitor_http *v = ctx;
    if (code == WIRE_CODE_NO_ERROR && v->stream_ended)
        return; /* the regular end, which data_end() handles */
    ht_log_with(HT_LOG_DEBUG, "visitor",
                HT_LOG_FIELDS(log_session(v->b->owner->id), log_port(v->port->number), log_peer(v->peer),
                              log_stream(v->stream_id), log_code(code), log_reason_slice(reason)),
                remote ? "the driver ended the stream" : "the stream ended");
    /* The link was lost, or the driver has no answer and says why, or it has broken a rule. */
    const struct visitor_answer *instead = mux_stream_was_lost(v->st) ? &answer_link_lost
                                           : remote                   ? visitor_answer_for_reset(v, reason)
                                           : code == WIRE_CODE_PROTOCOL_ERROR || code == WIRE_CODE_FLOW_CONTROL_ERROR
                                               ? &answer_driver_error
                                               : &answer_link_lost;
    visitor_end_stream(v, code, "");
    if (v->answer == ANSWER_WHOLE) {
        if (visitor_flush(v))
            (void)visitor_settle(v);
    } else if (v->answer == ANSWER_BEGUN) {
        /* Rule HTTP-8. */
        cut_short(v, "the driver ended the answer");
    } else {
        (void)visitor_answer(v, instead, true);
    }
}

const struct mux_stream_ops visitor_stream_ops = {
    .response_head = stream_head,
    .data = stream_data,
    .trailers = stream_trailers,
    .eof = stream_eof,
    .data_end = stream_data_end,
    .pull = visitor_pull,
    .writable = stream_writable,
    .closed = stream_closed,
    .pullv = visitor_pullv,
};
