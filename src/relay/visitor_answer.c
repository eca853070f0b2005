/*
 * The kit's own answers, for requests that no driver answers. Each has one sentence for people and an error code for
 * programs (rule ANSWER-1). It is plain text, a page or JSON, as the request prefers.
 */
#include "base/log.h"
#include "log_gen.h"
#include "relay/connect_priv.h"
#include "relay/visitor_priv.h"

#include <stdio.h>
#include <time.h>

#define ANSWER_WITH(name, more)                                                                                        \
    {                                                                                                                  \
        .status = WIRE_ANSWER_##name##_STATUS, .retry_after = WIRE_ANSWER_##name##_RETRY_AFTER,                        \
        .class = HT_METRIC_CLASS_##name, .error = WIRE_ANSWER_##name##_ERROR, .body = WIRE_ANSWER_##name##_BODY,       \
        .fields = more                                                                                                 \
    }
#define ANSWER(name) ANSWER_WITH(name, "")

const struct visitor_answer answer_bad_request = ANSWER(BAD_REQUEST);
const struct visitor_answer answer_unknown_host = ANSWER(UNKNOWN_HOST);
const struct visitor_answer answer_connect_refused = ANSWER(CONNECT_REFUSED);
const struct visitor_answer answer_head_timeout = ANSWER(HEAD_TIMEOUT);
const struct visitor_answer answer_body_timeout = ANSWER(BODY_TIMEOUT);
const struct visitor_answer answer_no_body = ANSWER(NO_BODY);
const struct visitor_answer answer_target_too_long = ANSWER(TARGET_TOO_LONG);
const struct visitor_answer answer_head_too_large = ANSWER(HEAD_TOO_LARGE);
const struct visitor_answer answer_bad_gateway = ANSWER(BAD_GATEWAY);
const struct visitor_answer answer_driver_error = ANSWER(DRIVER_ERROR);
const struct visitor_answer answer_taken_over = ANSWER(TAKEN_OVER);
const struct visitor_answer answer_closed = ANSWER(CLOSED);
const struct visitor_answer answer_link_lost = ANSWER(LINK_LOST);
const struct visitor_answer answer_parked = ANSWER(PARKED);
const struct visitor_answer answer_stream_cap = ANSWER(STREAM_CAP);
const struct visitor_answer answer_fd_cap = ANSWER(FD_CAP);
const struct visitor_answer answer_response_timeout = ANSWER(RESPONSE_TIMEOUT);
const struct visitor_answer answer_version = ANSWER(VERSION);
const struct visitor_answer answer_busy = ANSWER(BUSY);
const struct visitor_answer answer_proxy_bad_target = ANSWER(PROXY_BAD_TARGET);
const struct visitor_answer answer_proxy_denied = ANSWER(PROXY_DENIED);
const struct visitor_answer answer_proxy_untrusted = ANSWER(PROXY_UNTRUSTED);
const struct visitor_answer answer_proxy_bad_answer = ANSWER(PROXY_BAD_ANSWER);
const struct visitor_answer answer_proxy_token =
    ANSWER_WITH(PROXY_TOKEN, "proxy-authenticate: Basic realm=\"hoody-tunnel\"\r\n");
const struct visitor_answer answer_proxy_unknown = ANSWER(PROXY_UNKNOWN);
const struct visitor_answer answer_proxy_refused = ANSWER(PROXY_REFUSED);
const struct visitor_answer answer_proxy_unreachable = ANSWER(PROXY_UNREACHABLE);
const struct visitor_answer answer_proxy_busy = ANSWER(PROXY_BUSY);
const struct visitor_answer answer_proxy_ending = ANSWER(PROXY_ENDING);
const struct visitor_answer answer_proxy_timeout = ANSWER(PROXY_TIMEOUT);
const struct visitor_answer answer_proxy_slow = ANSWER(PROXY_SLOW);

const struct visitor_answer *visitor_answer_for_reset(const struct visitor_http *v, struct ht_slice reason) {
    static const struct {
        const char *word;
        struct visitor_answer answer;
    } known[] = {
#define ROW(word, name) {word, ANSWER(name)},
        WIRE_ORIGIN_ANSWERS(ROW)
#undef ROW
    };
    const char *colon = reason.n ? memchr(reason.p, ':', reason.n) : NULL;
    if (!colon || !v->b->owner->own_peer) /* the reasons of published drivers have no code words */
        return &answer_bad_gateway;
    struct ht_slice word = ht_slice_of(reason.p, (size_t)(colon - reason.p));
    if (v->port->proxy)
        return connect_plain_answer(word);
    for (size_t i = 0; i < HT_ARRAY_LEN(known); i++)
        if (ht_slice_is(word, known[i].word))
            return &known[i].answer;
    return &answer_bad_gateway;
}

/* ---- writing one ---- */

/* Date (RFC 9110 6.6.1). Not by strftime(), whose names depend on the locale. */
static int put_date(struct ht_buf *b) {
    static const char days[][4] = {"Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"};
    static const char months[][4] = {"Jan", "Feb", "Mar", "Apr", "May", "Jun",
                                     "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"};
    time_t now = time(NULL);
    struct tm tm;
    gmtime_r(&now, &tm);
    return ht_buf_printf(b, "date: %s, %02d %s %d %02d:%02d:%02d GMT\r\n", days[tm.tm_wday], tm.tm_mday,
                         months[tm.tm_mon], tm.tm_year + 1900, tm.tm_hour, tm.tm_min, tm.tm_sec);
}

struct how {
    enum relay_form form;
    bool head_request;
    const char *connection; /* a field with its CRLF, or "" */
};

static int put_answer(struct ht_buf *b, const struct visitor_answer *a, const struct how *how) {
    struct ht_buf body = {0};
    enum relay_form form = a->error ? how->form : RELAY_TEXT;
    int rc = relay_form_body(&body, form, a->status, a->error, a->body);
    if (rc == HT_OK)
        rc = http_write_status(b, 1, a->status, ht_slice_of(NULL, 0));
    if (rc == HT_OK)
        rc = ht_buf_printf(b, "content-type: %s\r\ncontent-length: %zu\r\n", relay_form_type(form), ht_buf_size(&body));
    if (rc == HT_OK && a->retry_after)
        rc = ht_buf_printf(b, "retry-after: %u\r\n", a->retry_after);
    if (rc == HT_OK)
        rc = ht_buf_append_str(b, how->connection);
    if (rc == HT_OK && a->fields)
        rc = ht_buf_append_str(b, a->fields);
    if (rc == HT_OK)
        rc = put_date(b);
    if (rc == HT_OK)
        rc = ht_buf_printf(
            b, "cache-control: no-store\r\n%s%s%s%s\r\n", a->error ? "x-hoody-tunnel: error=" : "",
            a->error ? a->error : "", a->error ? "\r\n" : "",
            form == RELAY_HTML ? "content-security-policy: default-src 'none'; style-src 'unsafe-inline'\r\n" : "");
    if (rc == HT_OK && !how->head_request)
        rc = ht_buf_append(b, ht_buf_head(&body), ht_buf_size(&body));
    ht_buf_free(&body);
    return rc;
}

/* Logs an answer at a level that fits: many of them are the visitor's own fault. */
static void log_answer(const struct visitor_http *v, const struct visitor_answer *a) {
    char text[RELAY_FULL_TEXT];
    ht_log_stranger(a->status >= 500 ? HT_LOG_INFO : HT_LOG_DEBUG, "visitor",
                    HT_LOG_FIELDS(log_session(visitor_session(v)), log_port(v->port->number), log_peer(v->peer),
                                  log_stream(v->stream_id), log_status(a->status),
                                  log_reason(a == &answer_stream_cap ? relay_no_stream_text(v->b, text) : a->body)),
                    "the kit answered itself");
}

bool visitor_answer(struct visitor_http *v, const struct visitor_answer *a, bool keep) {
    if (v->port->proxy)
        a = connect_plain_words(a);
    /* After a bad request it is not known where the next one begins (rule HTTP-12). */
    bool stays = keep && v->keep && v->request == REQUEST_WHOLE && !v->upgrade && !v->port->t->draining &&
                 a->status != answer_bad_request.status;
    struct how how = {.form = v->form,
                      .head_request = v->head_request,
                      .connection = !stays      ? "connection: close\r\n"
                                    : v->http10 ? "connection: keep-alive\r\n"
                                                : ""};
    v->head.off = v->head.len = 0;
    if (io_out_spill(&v->out) || put_answer(&v->head, a, &how) ||
        io_out_add(&v->out, ht_buf_head(&v->head), ht_buf_size(&v->head))) {
        visitor_lost(v, true, ht_err_text(HT_ENOMEM));
        return false;
    }
    v->port->t->cfg.metrics->visitor_responses_total[a->class]++;
    log_answer(v, a);
    visitor_set_state(v, VISITOR_SENDING);
    v->keep = stays;
    v->status = a->status;
    v->answer = ANSWER_WHOLE;
    visitor_deadline(v, v->port->t->cfg.send_timeout_ms);
    visitor_update_reading(v);
    return visitor_flush(v) && visitor_settle(v);
}

int visitor_answer_put(struct relay_table *t, const struct visitor_answer *a, struct ht_buf *out) {
    const struct how how = {.form = RELAY_TEXT, .connection = "connection: close\r\n"};
    t->cfg.metrics->visitor_responses_total[a->class]++;
    return put_answer(out, a, &how);
}

bool visitor_answer_write(struct relay_table *t, struct io_conn *conn, const struct visitor_answer *a) {
    struct ht_buf b = {0};
    bool ok = visitor_answer_put(t, a, &b) == HT_OK;
    if (ok) {
        struct iovec iov = {.iov_base = ht_buf_head(&b), .iov_len = ht_buf_size(&b)};
        ok = io_conn_write(conn, &iov, 1) > 0; /* it fits the empty send buffer of a new socket */
    }
    ht_buf_free(&b);
    return ok;
}
