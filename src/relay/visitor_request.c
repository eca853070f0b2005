/* A visitor's request: its head becomes STREAM_OPEN, its body DATA. */
#include "base/clock.h"
#include "base/log.h"
#include "log_gen.h"
#include "relay/connect_priv.h"
#include "relay/front_priv.h"
#include "relay/visitor_priv.h"

static_assert(HTTP_MAX_HEADERS >= WIRE_LIMIT_MAX_HEADERS, "a head the parser takes must fit the frame");

/* ---- STREAM_OPEN ---- */

static void lower_case(char *p, size_t n) {
    for (size_t i = 0; i < n; i++)
        p[i] = (char)(p[i] + ((p[i] >= 'A' && p[i] <= 'Z') << 5));
}

/*
 * Rule HTTP-1. `strip`: a GET or HEAD without a body loses what speaks of one, for a published driver forwards the
 * field but not the body, which ruins its pool of local connections (wire protocol, section 10).
 */
static bool is_forwarded(const struct visitor_http *v, const struct http_head *h, const char *p, uint32_t i,
                         bool strip) {
    struct ht_slice name = http_text(p, h->fields[i].name);
    switch (name.n) {
    case 6:
        if (ht_slice_is(name, "expect")) /* rule HTTP-13 */
            return false;
        break;
    case 7:
        if (ht_slice_is(name, "upgrade"))
            return v->upgrade;
        if (ht_slice_is(name, "trailer"))
            return v->chunks && v->chunks->request.trailers;
        break;
    case 10:
        if (ht_slice_is(name, "connection"))
            return v->upgrade;
        break;
    case 14:
        if (ht_slice_is(name, "content-length"))
            return !strip;
        break;
    case 17:
        if (ht_slice_is(name, "transfer-encoding"))
            return !strip;
        break;
    case 19:
        if (v->port->proxy && ht_slice_is(name, "proxy-authorization")) /* RFC 9110 11.7.2: it was for us */
            return false;
        break;
    default:
        break;
    }
    if (v->port->door && http_field_is_about_visitor(name))
        return front_field_stays(v, name);
    return !http_field_is_hop_by_hop(h, p, i);
}

/* RFC 9110 10.1.4, rule TRAIL-3: trailers are the one thing in TE that the whole way can promise. */
static bool te_is_forwarded(const struct visitor_http *v, const struct mux_session *mux, struct ht_slice value) {
    return mux_session_agreed(mux, WIRE_CAP_TRAILERS) && !v->http10 && !v->upgrade && http_te_wants_trailers(value);
}

static ssize_t build_fields(const struct visitor_http *v, const struct mux_session *mux, const struct http_head *h,
                            char *p, struct ht_slice authority, bool strip) {
    struct wire_header *to = v->port->t->fields;
    size_t n = 0;
    /* RFC 9112 3.2.2: the target says for whom it is, also when an HTTP/1.0 visitor sent no Host. */
    if (authority.n && !(h->flags & HTTP_HAS_HOST) && h->n_fields < HTTP_MAX_HEADERS)
        to[n++] = (struct wire_header){.name = ht_slice_str("host"), .value = authority};
    for (uint32_t i = 0; i < h->n_fields; i++) {
        const struct http_field *f = &h->fields[i];
        lower_case(p + f->name.off, f->name.len); /* rule HTTP-2 */
        struct ht_slice name = http_text(p, f->name), value = http_text(p, f->value);
        if (is_forwarded(v, h, p, i, strip))
            to[n++] = (struct wire_header){.name = name, .value = value};
        else if (name.n == 2 && ht_slice_is(name, "te") && te_is_forwarded(v, mux, value))
            to[n++] = (struct wire_header){.name = name, .value = ht_slice_str("trailers")};
    }
    if (v->port->proxy) /* RFC 9110 7.6.3; connect_plain_check() has seen to the room */
        to[n++] = (struct wire_header){.name = ht_slice_str("via"),
                                       .value = ht_slice_str(v->http10 ? CONNECT_VIA_10 : CONNECT_VIA)};
    return v->port->door ? front_fields_put(v, h, p, to, n) : (ssize_t)n;
}

static int open_stream(struct visitor_http *v, struct mux_session *mux, const struct http_head *h, char *p) {
    struct relay_binding *b = v->b;
    if (v->body == HTTP_BODY_CHUNKED) {
        if (!visitor_need_chunks(v))
            return HT_ENOMEM;
        v->chunks->request = (struct http_chunked){
            .trailers = mux_session_agreed(mux, WIRE_CAP_TRAILERS) ? &v->chunks->trailers : NULL,
        };
    }
    struct ht_slice method = http_text(p, h->method), target = http_text(p, h->path);
    struct ht_slice authority = http_text(p, h->authority);
    bool get = v->head_request || ht_slice_is(method, "GET");
    if (h->flags & HTTP_PATH_NEEDS_SLASH) {
        /* "http://host?query": the host moves over the scheme's last byte and makes room. */
        char *to = p + h->authority.off - 1;
        memmove(to, to + 1, authority.n);
        authority.p = to;
        p[h->path.off - 1] = '/';
        target = ht_slice_of(p + h->path.off - 1, target.n + 1);
    } else if (h->flags & HTTP_PATH_IS_SERVER) {
        target = ht_slice_str("*");
    }
    ssize_t n_fields = build_fields(v, mux, h, p, authority, get && v->body == HTTP_BODY_NONE);
    if (n_fields < 0)
        return (int)n_fields;
    struct wire_stream_open open = {
        .kind = WIRE_KIND_HTTP,
        .bind_id = b->id,
        .method = method,
        .target = target,
        .headers = b->t->fields,
        .n_headers = (size_t)n_fields,
        .is_upgrade = v->upgrade,
        .has_container_port = true,
        .container_port = b->port->number,
        .has_peer_addr = true,
        .peer_addr = ht_slice_str(v->peer),
        .has_http_version = true,
        .http_version = ht_slice_str(v->http10 ? "1.0" : "1.1"),
    };
    int rc = mux_stream_open(mux, &open, &visitor_stream_ops, v, &v->st);
    if (rc == HT_OK) {
        visitor_set_state(v, VISITOR_ACTIVE);
        relay_opened(b, v->from);
    }
    v->stream_id = rc ? 0 : mux_stream_id(v->st);
    ht_log_with(HT_LOG_DEBUG, "visitor",
                HT_LOG_FIELDS(log_session(b->owner->id), log_port(b->port->number), log_peer(v->peer),
                              log_stream(v->stream_id), log_method_slice(method),
                              log_target_slice(ht_slice_of(target.p, ht_min(target.n, 200))),
                              log_reason(rc ? ht_err_text(rc) : NULL)),
                rc ? "a request got no stream" : "a request");
    return rc;
}

static const struct visitor_answer *answer_for(int rc) {
    switch (rc) {
    case HT_ELIMIT:
        return &answer_stream_cap;
    case HT_ESPACE:
        return &answer_head_too_large;
    case HT_ECLOSED:
    case HT_ENOMEM:
        return &answer_parked;
    default:
        return &answer_bad_request;
    }
}

/* ---- the head ---- */

/*
 * RFC 9110 7.8 lets a server ignore an upgrade; one that it agrees to begins behind the whole request. Ignored are:
 * HTTP/2 begun with HTTP2-Settings (curl --http2), which RFC 9113 3.1 did away with; one behind a chunked body, whose
 * end two readers have put in two places (hardening case 6); and one behind any body when the driver is a published
 * one, which has no place for bytes before the 101. All others are the service's to agree to: docker's `tcp`,
 * BuildKit's `h2c`.
 */
static bool is_upgrade(const struct visitor_http *v, const struct http_head *h, const char *p) {
    if (!(h->flags & HTTP_UPGRADE))
        return false;
    const struct http_field *f = http_field_find(h, p, "upgrade");
    if (f && ht_slice_case_eq(http_text(p, f->value), ht_slice_str("h2c")) && http_field_find(h, p, "http2-settings"))
        return false;
    return v->body == HTTP_BODY_NONE || (v->body == HTTP_BODY_LENGTH && v->b && v->b->owner->own_peer);
}

static void take_head(struct visitor_http *v, const struct http_head *h, const char *p) {
    struct ht_slice method = http_text(p, h->method);
    v->http10 = h->minor == 0;
    v->keep = (h->flags & HTTP_KEEP_ALIVE) && !v->port->t->draining;
    v->head_request = ht_slice_is(method, "HEAD");
    const struct http_field *accept = http_field_find(h, p, "accept");
    v->form = accept ? relay_form_of(http_text(p, accept->value)) : RELAY_TEXT;
    v->body = http_request_body(h);
    v->upgrade = is_upgrade(v, h, p);
    v->body_left = h->content_length;
    v->stream_id = 0;
    v->request = v->body == HTTP_BODY_NONE ? REQUEST_WHOLE : REQUEST_COMES;
    if (ht_log_enabled(HT_LOG_DEBUG))
        v->started_us = ht_now_us();
}

static void drop_partial(struct visitor_http *v) {
    ht_pool_put(&v->port->t->partial_heads, v->partial);
    v->partial = NULL;
}

/* What came behind the head stays in `in`; the head itself goes. `kept`: p[0..n) is `in`. */
static bool keep_rest(struct visitor_http *v, const char *p, size_t head_len, size_t n, bool kept) {
    if (kept) {
        ht_buf_consume(&v->in, head_len);
        return true;
    }
    if (ht_buf_append(&v->in, p + head_len, n - head_len) == HT_OK)
        return true;
    visitor_lost(v, true, ht_err_text(HT_ENOMEM));
    return false;
}

static void stream_opened(struct visitor_http *v, uint32_t flags) {
    struct relay_table *t = v->port->t;
    v->progress_ms = visitor_stream_ms(v);
    v->body_due_ms = v->progress_ms + t->cfg.body_grace_ms;
    visitor_watch_clocks(v);
    visitor_update_reading(v);
    mux_stream_ready(v->st);
    if ((flags & HTTP_EXPECT_CONTINUE) && !v->http10 && v->request != REQUEST_WHOLE && ht_buf_size(&v->in) == 0) {
        static const char go_on[] = "HTTP/1.1 100 Continue\r\n\r\n"; /* rule HTTP-13 */
        if (io_out_add(&v->out, go_on, sizeof go_on - 1))
            visitor_lost(v, true, ht_err_text(HT_ENOMEM));
        else
            (void)visitor_flush(v);
    }
}

/* RFC 9110 7.6.2: how far a TRACE or OPTIONS may still go. NULL: on, and from here one less. */
static const struct visitor_answer *count_forward(const struct http_head *h, char *p) {
    static const struct visitor_answer here = {.status = 200, .class = HT_METRIC_CLASS_2XX, .body = ""};
    static const struct visitor_answer no_trace = {
        .status = 501, .class = HT_METRIC_CLASS_5XX, .error = "trace-refused", .body = "TRACE is not answered here"};
    struct ht_slice method = http_text(p, h->method);
    bool trace = ht_slice_is(method, "TRACE");
    const struct http_field *f = trace || ht_slice_is(method, "OPTIONS") ? http_field_find(h, p, "max-forwards") : NULL;
    uint64_t left;
    if (!f)
        return NULL;
    if (!http_parse_length(http_text(p, f->value), &left))
        return &answer_bad_request;
    if (left == 0)
        return trace ? &no_trace : &here;
    char *digit = p + f->value.off + f->value.len - 1;
    while (*digit == '0')
        *digit-- = '9';
    *digit = (char)(*digit - 1);
    return NULL;
}

/* p[0..n) begins with the head; `kept`: it is `in`. */
static void open_or_refuse(struct visitor_http *v, const struct http_head *h, char *p, size_t head_len, size_t n,
                           bool kept) {
    uint32_t flags = h->flags;
    struct mux_session *mux = relay_binding_mux(v->b);
    const struct visitor_answer *refuse = NULL;
    int rc = HT_ECLOSED;
    if (mux && v->body != HTTP_BODY_NONE && !mux_session_takes_body(mux, http_text(p, h->method)))
        refuse = &answer_no_body;
    else if (mux)
        rc = open_stream(v, mux, h, p);
    if (v->partial)
        drop_partial(v);
    if (!keep_rest(v, p, head_len, n, kept))
        return;
    if (refuse || rc)
        (void)visitor_answer(v, refuse ? refuse : answer_for(rc), true);
    else
        stream_opened(v, flags);
}

/* The head is kept as it was parsed. */
static void wait_for_turn(struct visitor_http *v, const struct http_head *h, const char *p, size_t head_len, size_t n,
                          bool kept) {
    struct relay_table *t = v->port->t;
    if (!v->partial) {
        v->partial = ht_pool_get(&t->partial_heads);
        if (v->partial)
            *v->partial = *h;
    }
    v->head_len = head_len;
    if (!v->partial || relay_wait(v->b, &v->waiter, v->from)) {
        visitor_lost(v, true, ht_err_text(HT_ENOMEM));
        return;
    }
    if (!kept && !keep_rest(v, p, 0, n, false))
        return;
    visitor_set_state(v, VISITOR_WAITING);
    visitor_update_reading(v);
    visitor_deadline(v, t->cfg.response_timeout_ms);
}

static void turn_has_come(struct relay_waiter *w) {
    struct visitor_http *v = ht_container_of(w, struct visitor_http, waiter);
    open_or_refuse(v, v->partial, (char *)ht_buf_head(&v->in), v->head_len, ht_buf_size(&v->in), true);
}

/* One that has only closed its side may still read: it gets an answer, but no stream. */
static void left_while_waiting(struct relay_waiter *w, int why) {
    struct visitor_http *v = ht_container_of(w, struct visitor_http, waiter);
    if (why == HT_EOF)
        (void)visitor_answer(v, &answer_busy, false);
    else
        visitor_lost(v, true, ht_err_text(why)); /* rule HTTP-9 */
}

static void shed(struct relay_waiter *w) {
    (void)visitor_answer(ht_container_of(w, struct visitor_http, waiter), &answer_parked, false);
}

const struct relay_waiter_ops visitor_waiter_ops = {.turn = turn_has_come, .left = left_while_waiting, .shed = shed};

static void head_complete(struct visitor_http *v, const struct http_head *h, char *p, size_t head_len, size_t n,
                          bool kept) {
    v->b = v->port->binding;
    if (v->port->door && front_enter(v, h, p)) {
        front_hand_over(v, p, n, kept);
        return;
    }
    take_head(v, h, p);
    /* Hardening case 6: a WebSocket begins with a GET, which has no body (RFC 6455 4.1). */
    bool odd = (h->flags & HTTP_UPGRADE_WEBSOCKET) && v->body != HTTP_BODY_NONE;
    const struct visitor_answer *refuse = odd ? &answer_bad_request : NULL;
    if (!refuse && !v->b)
        refuse = &answer_unknown_host;
    /* A port does this before there is a visitor; here the host had to tell whose it is. */
    if (!refuse && v->port->door && !relay_fair(v->port->t, v->b->owner))
        refuse = &answer_fd_cap;
    if (!refuse && v->port->door && io_conn_set_share(v->conn, v->b->owner->share) < 0)
        refuse = &answer_busy;
    if (!refuse && !relay_binding_serves(v->b))
        refuse = &answer_parked;
    if (!refuse && v->port->door && h->n_fields > HTTP_MAX_HEADERS - FRONT_FIELDS)
        refuse = &answer_head_too_large;
    if (!refuse && v->port->proxy)
        refuse = connect_plain_check(v, h, p);
    if (!refuse)
        refuse = count_forward(h, p);
    if (refuse) {
        if (v->partial)
            drop_partial(v);
        if (keep_rest(v, p, head_len, n, kept))
            (void)visitor_answer(v, refuse, refuse != &answer_fd_cap);
    } else if (relay_must_wait(v->b, v->from)) {
        wait_for_turn(v, h, p, head_len, n, kept);
    } else {
        open_or_refuse(v, h, p, head_len, n, kept);
    }
}

static void head_refused(struct visitor_http *v, const struct http_error *e) {
    static const struct {
        uint16_t status;
        const struct visitor_answer *answer;
    } known[] = {
        {WIRE_ANSWER_BAD_REQUEST_STATUS, &answer_bad_request},
        {WIRE_ANSWER_CONNECT_REFUSED_STATUS, &answer_connect_refused},
        {WIRE_ANSWER_TARGET_TOO_LONG_STATUS, &answer_target_too_long},
        {WIRE_ANSWER_HEAD_TOO_LARGE_STATUS, &answer_head_too_large},
        {WIRE_ANSWER_VERSION_STATUS, &answer_version},
    };
    ht_log_with(HT_LOG_DEBUG, "visitor",
                HT_LOG_FIELDS(log_session(visitor_session(v)), log_port(v->port->number), log_peer(v->peer),
                              log_status(e->status), log_reason(e->text)),
                "a request head is refused");
    struct visitor_answer a = {
        .status = e->status, .class = HT_METRIC_CLASS_BAD_REQUEST, .error = answer_bad_request.error, .body = e->text};
    for (size_t i = 0; i < HT_ARRAY_LEN(known); i++)
        if (known[i].status == e->status)
            a = *known[i].answer;
    v->keep = false;
    v->request = REQUEST_COMES; /* nobody knows where it ends */
    (void)visitor_answer(v, &a, false);
}

/* A head that is not there yet keeps its bytes and the parser's state. */
static void head_incomplete(struct visitor_http *v, const char *p, size_t n, bool kept) {
    struct relay_table *t = v->port->t;
    if (!v->partial) {
        v->partial = ht_pool_get(&t->partial_heads);
        if (!v->partial) {
            visitor_lost(v, true, ht_err_text(HT_ENOMEM));
            return;
        }
        *v->partial = t->head;
        /* Hardening case 9: absolute, from the first byte (on a new connection: from its beginning). */
        if (!v->fresh)
            visitor_deadline(v, t->cfg.head_timeout_ms);
    }
    if (kept || keep_rest(v, p, 0, n, false))
        visitor_update_reading(v);
}

static void parse(struct visitor_http *v, char *p, size_t n, bool kept) {
    struct relay_table *t = v->port->t;
    struct http_head *h = v->partial ? v->partial : &t->head;
    struct http_error e;
    if (!v->partial)
        http_request_begin(h, &t->cfg.head_limits);
    int rc = http_head_parse(h, p, n, &e);
    if (rc > 0) {
        v->fresh = false;
        head_complete(v, h, p, (size_t)rc, n, kept);
    } else if (rc == HT_EAGAIN) {
        head_incomplete(v, p, n, kept);
    } else {
        head_refused(v, &e);
    }
}

void visitor_parse_kept(struct visitor_http *v) { parse(v, (char *)ht_buf_head(&v->in), ht_buf_size(&v->in), true); }

void visitor_read_head(struct visitor_http *v) {
    struct relay_table *t = v->port->t;
    /* A head that is there at once, as most are, is never copied and needs no memory of the visitor's own. */
    ssize_t n = io_conn_read(v->conn, t->scratch, sizeof t->scratch);
    if (n == HT_EAGAIN)
        return;
    if (n <= 0) {
        visitor_lost(v, false, n == HT_EOF ? "closed" : ht_err_text((int)n));
        return;
    }
    if (ht_buf_size(&v->in) == 0)
        parse(v, t->scratch, (size_t)n, false);
    else if (keep_rest(v, t->scratch, 0, (size_t)n, false))
        visitor_parse_kept(v);
}

/* ---- the body ---- */

static ssize_t body_stopped(struct visitor_http *v, int err) {
    static const char why[] = "the request's body ended early";
    if (err == HT_EAGAIN)
        return 0;
    if (v->answer == ANSWER_BEGUN || (v->answer == ANSWER_AWAITED && err != HT_EOF)) {
        visitor_lost(v, true, why);
        return HT_ECLOSED;
    }
    /* It may still listen: to the whole answer that is on its way, or to why there is none (RFC 9112 8). */
    v->keep = false;
    visitor_end_stream(v, WIRE_CODE_CANCEL, why);
    if (v->answer == ANSWER_AWAITED)
        (void)visitor_answer(v, &answer_bad_request, false);
    return HT_ECLOSED;
}

static ssize_t body_moved(struct visitor_http *v, size_t n, bool ended, bool more, unsigned *flags) {
    const struct relay_kit_config *cfg = &v->port->t->cfg;
    v->progress_ms = visitor_stream_ms(v);
    if (cfg->min_body_rate)
        v->body_due_ms += n * 1000 / cfg->min_body_rate;
    if (ended) {
        v->request = REQUEST_WHOLE;
        *flags = MUX_PULL_EOF;
        visitor_update_reading(v);
    } else if (more) {
        *flags = MUX_PULL_MORE;
    }
    return (ssize_t)n;
}

static ssize_t pull_length(struct visitor_http *v, const struct iovec *to, int n_to, unsigned *flags) {
    size_t cap = io_iov_size(to, n_to), want = v->body_left < cap ? (size_t)v->body_left : cap;
    size_t kept = ht_buf_size(&v->in);
    ssize_t n;
    if (kept) {
        n = (ssize_t)ht_min(ht_min(want, kept), to[0].iov_len);
        memcpy(to[0].iov_base, ht_buf_head(&v->in), (size_t)n);
        ht_buf_consume(&v->in, (size_t)n);
    } else {
        n = io_conn_readv(v->conn, to, n_to, want);
        if (n <= 0)
            return body_stopped(v, (int)n);
    }
    v->body_left -= (uint64_t)n;
    return body_moved(v, (size_t)n, v->body_left == 0, kept || (size_t)n == want, flags);
}

static ssize_t chunk_refused(struct visitor_http *v, const struct http_error *e) {
    ht_log_with(HT_LOG_DEBUG, "visitor",
                HT_LOG_FIELDS(log_session(v->b->owner->id), log_port(v->port->number), log_peer(v->peer),
                              log_stream(v->stream_id), log_reason(e->text)),
                "a request body is refused");
    if (v->answer != ANSWER_AWAITED) {
        visitor_lost(v, true, e->text);
        return HT_ECLOSED;
    }
    visitor_end_stream(v, WIRE_CODE_CANCEL, e->text);
    v->keep = false;
    (void)visitor_answer(v, &answer_bad_request, false);
    return HT_ECLOSED;
}

/* Rule HTTP-2 for the names. Those that do not fit are dropped, as they may be (RFC 9110 6.5.1). */
static void send_trailers(struct visitor_http *v) {
    char *p = (char *)ht_buf_head(&v->chunks->trailers);
    bool name = true;
    for (size_t i = 0; i < ht_buf_size(&v->chunks->trailers); i++) {
        name = p[i] != ':' && (name || p[i] == '\n');
        if (name)
            lower_case(p + i, 1);
    }
    int rc = relay_send_trailers(v->st, &v->chunks->trailers, v->port->t->fields);
    if (rc < 0)
        ht_log_with(HT_LOG_DEBUG, "visitor",
                    HT_LOG_FIELDS(log_session(v->b->owner->id), log_port(v->port->number), log_peer(v->peer),
                                  log_stream(v->stream_id), log_reason(ht_err_text(rc))),
                    "the trailers of a request were dropped");
}

static ssize_t pull_chunked(struct visitor_http *v, uint8_t *out, size_t cap, unsigned *flags) {
    for (;;) {
        size_t kept = ht_buf_size(&v->in), raw;
        if (kept) {
            raw = ht_min(kept, cap);
            memcpy(out, ht_buf_head(&v->in), raw);
        } else {
            ssize_t n = io_conn_read(v->conn, out, cap);
            if (n <= 0)
                return body_stopped(v, (int)n);
            raw = (size_t)n;
        }
        size_t len = raw, used = 0;
        struct http_error e;
        if (http_chunked_decode(&v->chunks->request, (char *)out, &len, &used, &e))
            return chunk_refused(v, &e);
        if (kept) {
            ht_buf_consume(&v->in, used);
        } else if (used < raw && ht_buf_append(&v->in, out + used, raw - used)) { /* the next request */
            visitor_lost(v, true, ht_err_text(HT_ENOMEM));
            return HT_ECLOSED;
        }
        bool done = v->chunks->request.done;
        if (done)
            send_trailers(v);
        if (len > 0 || done)
            return body_moved(v, len, done, kept || raw == cap, flags);
        if (!kept && raw < cap)
            return 0;
    }
}

ssize_t visitor_pullv(void *ctx, const struct iovec *to, int n_to, unsigned *flags) {
    struct visitor_http *v = ctx;
    if (v->request == REQUEST_WHOLE) {
        *flags = MUX_PULL_EOF;
        return 0;
    }
    if (to[0].iov_len == 0)
        return 0;
    return v->body == HTTP_BODY_CHUNKED ? pull_chunked(v, to[0].iov_base, to[0].iov_len, flags)
                                        : pull_length(v, to, n_to, flags);
}

ssize_t visitor_pull(void *ctx, uint8_t *out, size_t cap, unsigned *flags) {
    return visitor_pullv(ctx, &(struct iovec){.iov_base = out, .iov_len = cap}, 1, flags);
}
