/* The kit's own answers: to a visitor whose request no driver answers. */
#include "relay/visitor.h"

#include <stdio.h>

#define ANSWER(name)                                                                                                   \
    {                                                                                                                  \
        .status = WIRE_ANSWER_##name##_STATUS, .retry_after = WIRE_ANSWER_##name##_RETRY_AFTER,                        \
        .class = HT_METRIC_CLASS_##name, .body = WIRE_ANSWER_##name##_BODY                                             \
    }

const struct visitor_answer answer_bad_request = ANSWER(BAD_REQUEST);
const struct visitor_answer answer_connect_refused = ANSWER(CONNECT_REFUSED);
const struct visitor_answer answer_head_timeout = ANSWER(HEAD_TIMEOUT);
const struct visitor_answer answer_body_timeout = ANSWER(BODY_TIMEOUT);
const struct visitor_answer answer_target_too_long = ANSWER(TARGET_TOO_LONG);
const struct visitor_answer answer_head_too_large = ANSWER(HEAD_TOO_LARGE);
const struct visitor_answer answer_bad_gateway = ANSWER(BAD_GATEWAY);
const struct visitor_answer answer_parked = ANSWER(PARKED);
const struct visitor_answer answer_stream_cap = ANSWER(STREAM_CAP);
const struct visitor_answer answer_fd_cap = ANSWER(FD_CAP);
const struct visitor_answer answer_response_timeout = ANSWER(RESPONSE_TIMEOUT);
const struct visitor_answer answer_version = ANSWER(VERSION);

bool visitor_answer(struct visitor_http *v, const struct visitor_answer *a, bool keep) {
    /* Behind a 400 nobody knows what comes (rule HTTP-12). */
    bool stays = keep && v->keep && v->request == REQUEST_WHOLE && !v->upgrade && !v->b->t->paused &&
                 a->status != answer_bad_request.status;
    char extra[64] = "";
    if (a->retry_after && !HT_MUTANT(PARK_2))
        snprintf(extra, sizeof extra, "retry-after: %u\r\n", a->retry_after);
    if (stays && v->http10)
        strcat(extra, "connection: keep-alive\r\n");
    v->head.off = v->head.len = 0;
    if (relay_out_spill(&v->out) ||
        http_write_answer(&v->head, 1, a->status, extra[0] ? extra : NULL, a->body, v->head_request, !stays) ||
        relay_out_add(&v->out, ht_buf_head(&v->head), ht_buf_size(&v->head))) {
        visitor_lost(v, true, ht_err_text(HT_ENOMEM));
        return false;
    }
    v->b->t->cfg.metrics->visitor_responses_total[a->class]++;
    visitor_set_state(v, VISITOR_SENDING);
    v->keep = stays;
    v->status = a->status;
    v->answer = ANSWER_WHOLE;
    visitor_deadline(v, v->b->t->cfg.send_timeout_ms);
    visitor_update_reading(v);
    return visitor_flush(v) && visitor_settle(v);
}

bool visitor_answer_write(struct relay_table *t, struct io_conn *conn, const struct visitor_answer *a) {
    struct ht_buf b = {0};
    char extra[32] = "";
    if (a->retry_after)
        snprintf(extra, sizeof extra, "retry-after: %u\r\n", a->retry_after);
    t->cfg.metrics->visitor_responses_total[a->class]++;
    bool ok = http_write_answer(&b, 1, a->status, extra[0] ? extra : NULL, a->body, false, true) == HT_OK;
    if (ok) {
        struct iovec iov = {.iov_base = ht_buf_head(&b), .iov_len = ht_buf_size(&b)};
        ok = io_conn_write(conn, &iov, 1) > 0; /* fits the empty send buffer of a new socket, or fails */
    }
    ht_buf_free(&b);
    return ok;
}
