/* The answer on its way to the stream: heads are parsed here, the body is read straight into the outgoing message. */
#include "base/clock.h"
#include "base/mem.h"
#include "relay/origin_priv.h"

#include <stdio.h>

/* ---- head ---- */

void origin_response_free_partial(struct origin_exchange *x) {
    if (!x->partial)
        return;
    ht_buf_free(&x->partial->buf);
    ht_free(x->partial);
    x->partial = NULL;
}

/* Keeps the unfinished head in `buf`, and the parser's state with it, until more comes. 0 or HT_ENOMEM. */
static int keep_partial(struct origin_exchange *x, const char *buf, size_t len) {
    x->partial = ht_calloc(1, sizeof *x->partial);
    if (!x->partial)
        return HT_ENOMEM;
    x->partial->head = x->t->head;
    return ht_buf_append(&x->partial->buf, buf, len);
}

static void bad_answer(struct origin_exchange *x, const char *text) {
    char why[512];
    snprintf(why, sizeof why, "bad answer from %s: %s", x->t->name, text);
    origin_http_fail_as(x, WIRE_CODE_INTERNAL_ERROR, WIRE_ORIGIN_ERROR_BAD_ANSWER, why);
}

/* What a TLS service says to a request: a record with an alert (RFC 8446 5.1, 6). */
static bool is_tls_alert(const char *p, size_t n) { return n >= 3 && p[0] == 0x15 && p[1] == 0x03 && p[2] <= 0x04; }

static void no_http(struct origin_exchange *x, const char *p, size_t n, const char *text) {
    char why[512];
    if (!is_tls_alert(p, n)) {
        bad_answer(x, text);
        return;
    }
    snprintf(why, sizeof why, "%s speaks TLS, and the tunnel plain HTTP", x->t->name);
    origin_http_fail_as(x, WIRE_CODE_INTERNAL_ERROR, WIRE_ORIGIN_ERROR_TLS_SERVICE, why);
}

/* Connection and Upgrade are what a 101 is about; everything else that is hop-by-hop ends here (RFC 9110 7.6.1). */
static bool is_passed_on(const struct origin_exchange *x, const struct http_head *h, const char *buf, uint32_t i) {
    if (!http_field_is_hop_by_hop(h, buf, i))
        return true;
    enum http_hop hop = http_hop_of(http_text(buf, h->fields[i].name));
    if (h->status != 101) /* what it announces comes, too */
        return relay_has_trailers(x->st) && x->resp_body == HTTP_BODY_CHUNKED && hop == HTTP_HOP_TRAILER;
    return hop == HTTP_HOP_CONNECTION || hop == HTTP_HOP_UPGRADE;
}

/* The service's owner may like to know, once, what other proxies and browsers will have to put right as well. */
static void tell_odd(struct relay_target *t, uint32_t odd) {
    for (uint32_t one = 1; odd & ~t->odd_told; one <<= 1)
        if (odd & ~t->odd_told & one) {
            t->odd_told |= one;
            ht_log_with(HT_LOG_WARN, "origin", HT_LOG_FIELDS(log_target(t->name)),
                        "the service's answer has %s; it is passed on all the same, and only the first one is logged",
                        http_odd_text(one));
        }
}

/* What the kit gets is clean, whatever the service said. */
static struct ht_slice clean_value(const struct http_head *h, char *buf, uint32_t i) {
    if (h->odd & (HTTP_ODD_CONTROL | HTTP_ODD_FOLD))
        http_clean(buf, h->fields[i].value);
    return http_text(buf, h->fields[i].value);
}

static bool is_length(const struct http_head *h, const char *buf, uint32_t i) {
    return ht_slice_case_eq(http_text(buf, h->fields[i].name), ht_slice_str("content-length"));
}

/* The service's own words beside the status; empty when they are the usual ones, or too many for the tunnel. */
static struct ht_slice own_reason(const struct http_head *h, char *buf) {
    if (h->odd & HTTP_ODD_CONTROL)
        http_clean(buf, h->reason);
    struct ht_slice said = http_text(buf, h->reason);
    if (said.n > WIRE_LIMIT_MAX_REASON || ht_slice_is(said, http_reason(h->status)))
        said.n = 0;
    return said;
}

/* Fields that repeat a secret are left out. Returns how many stay. */
static size_t hide(struct relay_target *t, size_t n) {
    size_t to = 0;
    for (size_t i = 0; i < n; i++)
        if (!t->cfg.hides(t->cfg.ctx, t->fields[i].value))
            t->fields[to++] = t->fields[i];
    return to;
}

static int respond(struct origin_exchange *x, const struct http_head *h, char *buf, bool final) {
    struct relay_target *t = x->t;
    char digits[24];
    size_t n = 0;
    bool told = false;
    if (h->odd)
        tell_odd(t, h->odd);
    for (uint32_t i = 0; i < h->n_fields; i++) {
        if (!is_passed_on(x, h, buf, i))
            continue;
        struct wire_header *to = &t->fields[n];
        to->name = http_text(buf, h->fields[i].name);
        to->value = clean_value(h, buf, i);
        if ((h->odd & HTTP_ODD_LENGTH) && is_length(h, buf, i)) {
            if (told)
                continue;
            told = true;
            to->value = ht_slice_of(
                digits, (size_t)snprintf(digits, sizeof digits, "%llu", (unsigned long long)h->content_length));
        }
        n++;
    }
    if (t->cfg.hides)
        n = hide(t, n);
    if (t->cfg.answers)
        n = t->cfg.answers(t->cfg.ctx, origin_http_note(x), h->status, t->fields, n, HT_ARRAY_LEN(t->fields));
    struct wire_response_head head = {.status = h->status, .headers = t->fields, .n_headers = n, .final = final};
    head.reason = own_reason(h, buf);
    if (t->cfg.hides && t->cfg.hides(t->cfg.ctx, head.reason))
        head.reason.n = 0;
    head.has_reason = head.reason.n > 0;
    return mux_stream_respond(x->st, &head);
}

/* Body bytes that were read together with the head. `*extra`: bytes behind the end. 0 or an error with a text. */
static int take_early(struct origin_exchange *x, char *p, size_t n, bool *extra, const char **why) {
    struct http_error e;
    size_t take = n, used = n;
    switch (x->resp_body) {
    case HTTP_BODY_NONE:
        take = used = 0;
        x->resp_ended = true;
        break;
    case HTTP_BODY_LENGTH:
        take = used = x->resp_left < n ? (size_t)x->resp_left : n;
        x->resp_left -= take;
        x->resp_ended = x->resp_left == 0;
        break;
    case HTTP_BODY_CHUNKED:
        if (http_chunked_decode(&x->chunked, p, &take, &used, &e) < 0) {
            *why = e.text;
            return HT_EPROTO;
        }
        x->resp_ended = x->chunked.done;
        if (x->chunked.odd)
            tell_odd(x->t, HTTP_ODD_CHUNK);
        break;
    case HTTP_BODY_CLOSE:
        break;
    }
    *extra = used < n;
    int rc = ht_buf_append(&x->early, p, take);
    if (rc < 0)
        *why = ht_err_text(rc);
    return rc;
}

/* `rest` is what was read behind the head. */
static void final_head(struct origin_exchange *x, const struct http_head *h, char *buf, char *rest, size_t n_rest) {
    const char *why;
    bool extra = false;
    ORIGIN_TAP(x, head, ht_slice_of(buf, (size_t)(rest - buf)), true); /* before it is cleaned in place */
    if (h->status == 101 && !x->upgrade) {
        bad_answer(x, "a 101 that nobody asked for");
        return;
    }
    if (h->status == 101 && !origin_request_is_sent(x)) {
        bad_answer(x, "a 101 before the whole request was sent"); /* RFC 9110 7.8, hardening case 6 */
        return;
    }
    x->status = h->status;
    x->resp_body = http_response_body(h, x->head_request);
    x->resp_left = h->content_length;
    x->chunked.loose = true;
    if (relay_has_trailers(x->st) || x->tap)
        x->chunked.trailers = &x->trailers;
    x->keep_alive = (h->flags & HTTP_KEEP_ALIVE) && x->resp_body != HTTP_BODY_CLOSE;
    int rc = 0;
    /* Before the head goes out: a body that is wrong from its beginning can still become a 502. */
    if (h->status != 101)
        rc = take_early(x, rest, n_rest, &extra, &why);
    if (rc < 0) {
        bad_answer(x, why);
        return;
    }
    rc = respond(x, h, buf, true);
    if (rc < 0) {
        bad_answer(x, rc == HT_ESPACE ? "its head is too large for the tunnel" : ht_err_text(rc));
        return;
    }
    x->responded = true;
    ORIGIN_LOG(x->t, "answered", log_stream(x->id), log_status(x->status),
               log_duration_us(ht_now_us() - x->started_us));
    if (h->status == 101) {
        /* `rest` may lie in the partial head's buffer: freed with the exchange, after the pipe has copied it. */
        origin_http_become_pipe(x, ht_slice_of(rest, n_rest));
        return;
    }
    origin_response_free_partial(x);
    if (x->resp_ended)
        origin_http_answered(x, extra);
    else
        io_conn_read_on(x->conn->c, false); /* pull() reads now */
    mux_stream_ready(x->st);
}

/* Heads in buf[0..len): interim ones are passed on, the final one starts the body. */
static void parse_heads(struct origin_exchange *x, struct http_head *h, char *buf, size_t len) {
    struct http_error e;
    while (len > 0) {
        int n = http_head_parse(h, buf, len, &e);
        if (n == HT_EAGAIN) {
            if (!x->partial && keep_partial(x, buf, len) < 0)
                bad_answer(x, ht_err_text(HT_ENOMEM));
            return;
        }
        if (n < 0) {
            no_http(x, buf, len, e.text);
            return;
        }
        if (h->status >= 200 || h->status == 101) {
            final_head(x, h, buf, buf + n, len - (size_t)n);
            return;
        }
        ORIGIN_TAP(x, head, ht_slice_of(buf, (size_t)n), false);
        /* A service that has more to say than the tunnel carries is heard out all the same. */
        if (++x->interims <= WIRE_LIMIT_MAX_INTERIM && respond(x, h, buf, false) < 0) {
            bad_answer(x, "an interim head that does not fit the tunnel");
            return;
        }
        buf += n;
        len -= (size_t)n;
        if (x->partial)
            ht_buf_consume(&x->partial->buf, (size_t)n);
        http_loose_response_begin(h, &x->t->cfg.head_limits);
    }
    origin_response_free_partial(x);
}

void origin_response_read_head(struct origin_exchange *x) {
    struct relay_target *t = x->t;
    ssize_t n = io_conn_read(x->conn->c, t->scratch, sizeof t->scratch);
    if (n == HT_EAGAIN)
        return;
    if (n == HT_EOF) {
        origin_http_lost(x, "closed the connection without an answer");
        return;
    }
    if (n < 0) {
        origin_http_lost(x, ht_err_text((int)n));
        return;
    }
    if (!x->resp_begun) {
        origin_pool_answers(x);
        ORIGIN_TAP(x, moment, RELAY_TAP_ANSWERS);
    }
    x->resp_begun = true;
    if (!x->partial) {
        http_loose_response_begin(&t->head, &t->cfg.head_limits);
        parse_heads(x, &t->head, t->scratch, (size_t)n);
        return;
    }
    struct ht_buf *b = &x->partial->buf;
    if (ht_buf_append(b, t->scratch, (size_t)n) < 0) {
        bad_answer(x, ht_err_text(HT_ENOMEM));
        return;
    }
    parse_heads(x, &x->partial->head, (char *)ht_buf_head(b), ht_buf_size(b));
}

/* ---- body ---- */

/*
 * Reads body bytes into to[0..n_to), which has room for at least one; chunks only into the first piece, where they are
 * decoded. Returns their number (0: only framing came, or nothing was ready: see `*more`), or a negative error with a
 * text. Ends the answer when its last byte was read.
 */
static ssize_t read_body(struct origin_exchange *x, const struct iovec *to, int n_to, bool *more, const char **why) {
    struct http_error e;
    size_t cap = io_iov_size(to, x->resp_body == HTTP_BODY_CHUNKED ? 1 : n_to);
    /* One byte more than the body has: a service that says too much must not say it to the next request. */
    size_t want = x->resp_body == HTTP_BODY_LENGTH && x->resp_left < cap ? (size_t)x->resp_left + 1 : cap;
    ssize_t r = io_conn_readv(x->conn->c, to, n_to, want);
    *more = r == (ssize_t)want;
    if (r == HT_EAGAIN)
        return 0;
    if (r == HT_EOF && x->resp_body == HTTP_BODY_CLOSE) {
        origin_http_answered(x, true);
        return 0;
    }
    if (r < 0) {
        *why = r == HT_EOF ? "closed the connection in the middle of its answer" : ht_err_text((int)r);
        return r;
    }
    size_t n = (size_t)r, used = n;
    if (x->resp_body == HTTP_BODY_LENGTH) {
        bool extra = n > x->resp_left;
        n = extra ? (size_t)x->resp_left : n;
        x->resp_left -= n;
        if (x->resp_left == 0)
            origin_http_answered(x, extra);
    } else if (x->resp_body == HTTP_BODY_CHUNKED) {
        if (http_chunked_decode(&x->chunked, to[0].iov_base, &n, &used, &e) < 0) {
            *why = e.text;
            return HT_EPROTO;
        }
        if (x->chunked.odd)
            tell_odd(x->t, HTTP_ODD_CHUNK);
        if (x->chunked.done)
            origin_http_answered(x, used < (size_t)r);
    }
    return (ssize_t)n;
}

/* Tells the tap of n bytes that were read into `to`. */
static void tap_body(struct origin_exchange *x, const struct iovec *to, size_t n) {
    for (; n > 0; to++) {
        size_t part = ht_min(n, to->iov_len);
        ORIGIN_TAP(x, body, true, ht_slice_of(to->iov_base, part));
        n -= part;
    }
}

static ssize_t body_failed(struct origin_exchange *x) {
    char text[512];
    snprintf(text, sizeof text, "%s: %s", x->t->name, x->resp_failed);
    origin_http_fail(x, WIRE_CODE_INTERNAL_ERROR, text);
    return HT_ECLOSED;
}

/* Those that do not fit are dropped, as they may be (RFC 9110 6.5.1). */
static void send_trailers(struct origin_exchange *x) {
    if (!relay_has_trailers(x->st)) /* collected for the tap */
        return;
    int rc = relay_send_trailers(x->st, &x->trailers, x->t->fields);
    if (rc < 0)
        ORIGIN_LOG(x->t, "the trailers of an answer were dropped", log_stream(x->id), log_reason(ht_err_text(rc)));
}

ssize_t origin_response_pull(struct origin_exchange *x, const struct iovec *to, int n_to, unsigned *flags) {
    struct iovec rest;
    size_t cap = to[0].iov_len;
    *flags = 0;
    if (!x->responded)
        return 0;
    if (x->resp_failed)
        return body_failed(x);
    size_t n = ht_min(cap, ht_buf_size(&x->early));
    if (n > 0) {
        memcpy(to[0].iov_base, ht_buf_head(&x->early), n);
        ht_buf_consume(&x->early, n);
        ORIGIN_TAP(x, body, true, ht_slice_of(to[0].iov_base, n));
        rest = (struct iovec){.iov_base = (char *)to[0].iov_base + n, .iov_len = cap - n};
        to = &rest;
        n_to = 1;
    }
    if (!x->resp_ended && n < cap) {
        const char *why = NULL;
        bool more = false;
        ssize_t r;
        do /* with little credit a read may bring nothing but framing, and a pull without bytes ends the stream's turn
            */
            r = read_body(x, to, n_to, &more, &why);
        while (r == 0 && more && !x->resp_ended);
        if (r < 0) {
            x->resp_failed = why;
            x->fault = r == HT_EPROTO ? RELAY_TAP_PROTOCOL : RELAY_TAP_RESET;
        }
        if (HT_UNLIKELY(x->tap != NULL) && r > 0)
            tap_body(x, to, (size_t)r);
        if (r < 0 && n == 0)
            return body_failed(x);
        n += r > 0 ? (size_t)r : 0;
        if (x->resp_failed || (!x->resp_ended && more)) /* what came before the failure goes first */
            *flags = MUX_PULL_MORE;
        else if (!x->resp_ended)
            io_conn_read_on(x->conn->c, true);
    } else if (!x->resp_ended || ht_buf_size(&x->early) > 0) {
        *flags = MUX_PULL_MORE;
    }
    if (x->resp_ended && ht_buf_size(&x->early) == 0) {
        ORIGIN_TAP(x, body_end, true, ht_buf_slice(&x->trailers));
        send_trailers(x);
        *flags = MUX_PULL_EOF;
        x->resp_sent = true;
    }
    x->bytes_out += n;
    return (ssize_t)n;
}
