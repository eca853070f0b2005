/* The rules of heads beyond the grammar: what is refused all the same, and what a head says about body and connection.
 */
#include "http/head_priv.h"

#include "http/chars_priv.h"
#include "http/machine_priv.h"

struct context {
    struct http_head *h;
    const char *buf;
};

bool http_refuse(struct http_head *h, uint16_t status, const char *text) {
    h->error = (struct http_error){h->response ? 502 : status, text};
    return false;
}

/* ---- start lines ---- */

/* "http://" or "https://", RFC 9110 4.2: its length, or 0. */
static uint32_t scheme_length(struct ht_slice target) {
    if (target.n >= 7 && ht_slice_case_eq(ht_slice_of(target.p, 7), ht_slice_str("http://")))
        return 7;
    if (target.n >= 8 && ht_slice_case_eq(ht_slice_of(target.p, 8), ht_slice_str("https://")))
        return 8;
    return 0;
}

static struct ht_slice target_authority(struct ht_slice target) {
    uint32_t begin = scheme_length(target);
    size_t end = begin;
    while (end < target.n && target.p[end] != '/' && target.p[end] != '?')
        end++;
    return ht_slice_of(target.p + begin, end - begin);
}

/* absolute-form, RFC 9112 3.2.2. */
static bool absolute_target(struct http_head *h, struct ht_slice method, struct ht_slice target) {
    struct ht_slice authority = target_authority(target);
    if (!http_authority_valid(authority, false)) /* userinfo too: RFC 9110 4.2.4 */
        return http_refuse(h, 400, "bad authority in the request target");
    h->flags |= HTTP_TARGET_ABSOLUTE;
    h->authority = (struct http_span){h->target.off + (uint32_t)(authority.p - target.p), (uint32_t)authority.n};
    uint32_t skip = (uint32_t)(authority.p + authority.n - target.p);
    if (skip < h->target.len) {
        h->path = (struct http_span){h->target.off + skip, h->target.len - skip};
        if (target.p[skip] == '?')
            h->flags |= HTTP_PATH_NEEDS_SLASH;
    } else {
        /* An empty path means "/" (RFC 9110 4.2.3): the one before the authority serves. */
        h->path = (struct http_span){h->authority.off - 1, 1};
        if (ht_slice_is(method, "OPTIONS"))
            h->flags |= HTTP_PATH_IS_SERVER;
    }
    return true;
}

/* authority-form, RFC 9112 3.2.3: with a port. */
static bool connect_target(struct http_head *h, struct ht_slice target) {
    if (!h->proxy)
        return http_refuse(h, 405, "CONNECT is not served");
    if (!http_authority_valid(target, false) || target.p[target.n - 1] < '0' || target.p[target.n - 1] > '9' ||
        !memchr(target.p, ':', target.n))
        return http_refuse(h, 400, "CONNECT wants host:port");
    h->flags |= HTTP_CONNECT;
    h->authority = h->target;
    return true;
}

static bool request_line(struct http_head *h, const char *buf, const struct http_machine *m) {
    h->method = m->a;
    h->target = h->path = m->b;
    if (m->version / 10 != 1 || m->version % 10 > 1)
        return http_refuse(h, 505, "only HTTP/1.0 and HTTP/1.1 are served");
    h->minor = m->version % 10;
    struct ht_slice method = http_text(buf, h->method), target = http_text(buf, h->target);
    if (ht_slice_is(method, "CONNECT"))
        return connect_target(h, target);
    if (target.p[0] == '/')
        return true;
    /* RFC 9112 3.2.4: "only for a server-wide OPTIONS request". UPnP's M-SEARCH and NOTIFY have it too, but those are
     * datagrams to a multicast group and no server of HTTP over TCP sees them. */
    if (ht_slice_is(target, "*"))
        return ht_slice_is(method, "OPTIONS") || http_refuse(h, 400, "only OPTIONS may have the target *");
    if (scheme_length(target))
        return absolute_target(h, method, target);
    return http_refuse(h, 400, "bad request target");
}

static bool status_line(struct http_head *h, const struct http_machine *m) {
    h->reason = m->a;
    h->minor = m->version % 10;
    if (m->version / 10 != 1 || m->version % 10 > 1) {
        /* RFC 9110 2.5: a higher version is read as the highest we know. Another major one says at least that much when
         * it has a line like this. */
        if (!h->loose || m->version < 10)
            return http_refuse(h, 502, "the answer is neither HTTP/1.0 nor HTTP/1.1");
        h->minor = 1;
        h->odd |= HTTP_ODD_VERSION;
    }
    /* RFC 9110 15: 100 to 599. Clients are to take 600 to 999 for a 5xx; below 100 even their number is in doubt. */
    if (m->status < 100 || (m->status > 599 && !h->loose))
        return http_refuse(h, 502, "the answer's status is out of range");
    if (m->status > 599)
        h->odd |= HTTP_ODD_STATUS;
    h->status = m->status;
    return true;
}

/* ---- the whole head ---- */

/* Host and port of "host:80" and "host:" are those of "host" for http; 443 for https (RFC 9110 4.2.3). */
static struct ht_slice without_default_port(struct ht_slice s, bool https) {
    const char *port = https ? ":443" : ":80";
    size_t n = strlen(port);
    if (s.n && s.p[s.n - 1] == ':')
        s.n--;
    else if (s.n > n && memcmp(s.p + s.n - n, port, n) == 0)
        s.n -= n;
    return s;
}

static bool request_end(struct http_head *h, const char *buf) {
    /* RFC 9110 9.3.6: what follows is no body, so nothing may say how long one is. */
    if (h->flags & HTTP_CONNECT)
        return !(h->flags & (HTTP_CHUNKED | HTTP_HAS_CONTENT_LENGTH)) || http_refuse(h, 400, "CONNECT has no body");
    if (h->minor == 1 && !(h->flags & HTTP_HAS_HOST))
        return http_refuse(h, 400, "no Host"); /* RFC 9112 3.2 */
    if ((h->flags & HTTP_HAS_HOST) && (h->flags & HTTP_TARGET_ABSOLUTE)) {
        struct ht_slice target = http_text(buf, h->target);
        bool https = scheme_length(target) == 8;
        if (!ht_slice_case_eq(without_default_port(target_authority(target), https),
                              without_default_port(http_text(buf, h->host), https)))
            return http_refuse(h, 400, "Host is not the authority of the request target"); /* hardening case 5 */
    }
    if (h->seen & HTTP_SEEN_BAD_EXPECT)
        return http_refuse(h, 417, "unknown expectation");
    return true;
}

static bool head_end(struct http_head *h, const char *buf) {
    if ((h->flags & HTTP_CHUNKED) && (h->flags & HTTP_HAS_CONTENT_LENGTH))
        return http_refuse(h, 400, "both Transfer-Encoding and Content-Length"); /* hardening case 1 */
    if (!h->response && !request_end(h, buf))
        return false;
    /* RFC 9112 9.3 */
    if (!(h->seen & HTTP_SEEN_CLOSE) && (h->minor == 1 || (h->seen & HTTP_SEEN_KEEP_ALIVE)))
        h->flags |= HTTP_KEEP_ALIVE;
    /* RFC 9112 6.1 for chunked in HTTP/1.0. The same doubt is about what calls itself another version. */
    if (h->odd & (HTTP_ODD_OLD_CHUNKED | HTTP_ODD_VERSION))
        h->flags &= ~(uint32_t)HTTP_KEEP_ALIVE;
    /* An answer that cannot have a body and yet announces one: what follows is not to be trusted (RFC 9112 6.3). */
    if (h->response && (h->status < 200 || h->status == 204) && ((h->flags & HTTP_CHUNKED) || h->content_length))
        h->flags &= ~(uint32_t)HTTP_KEEP_ALIVE;
    /* RFC 9110 7.8 */
    if (h->minor == 1 && (h->seen & HTTP_SEEN_CONNECTION_UPGRADE) && (h->seen & HTTP_SEEN_UPGRADE)) {
        h->flags |= HTTP_UPGRADE;
        if (h->seen & HTTP_SEEN_UPGRADE_WEBSOCKET)
            h->flags |= HTTP_UPGRADE_WEBSOCKET;
    }
    http_mark_named_fields(h, buf);
    return true;
}

/* RFC 9112 5.2: the line belongs to the value above it. */
static bool fold(struct http_head *h, const char *buf, const struct http_machine *m) {
    if (h->n_fields == 0)
        return http_refuse(h, 502, "folded field line");
    struct http_span *value = &h->fields[h->n_fields - 1].value;
    if (m->b.len) {
        if (value->len == 0)
            *value = m->b;
        else
            value->len = m->b.off + m->b.len - value->off;
    }
    return http_take_dirt(h, buf, m->dirty ? HTTP_ODD_FOLD | HTTP_ODD_CONTROL : HTTP_ODD_FOLD);
}

static bool on_event(void *ctx, enum http_event ev, const struct http_machine *m) {
    const struct context *c = ctx;
    struct http_head *h = c->h;
    switch (ev) {
    case HTTP_EV_REQUEST_LINE:
        return request_line(h, c->buf, m);
    case HTTP_EV_STATUS_LINE:
        return status_line(h, m);
    case HTTP_EV_FIELD:
        if (h->n_fields == h->limits.max_headers)
            return http_refuse(h, 431, "too many header fields");
        h->fields[h->n_fields++] = (struct http_field){m->a, m->b};
        return http_take_field(h, c->buf) && (!m->dirty || http_take_dirt(h, c->buf, HTTP_ODD_CONTROL));
    case HTTP_EV_FOLD:
        return fold(h, c->buf, m);
    case HTTP_EV_END:
        break;
    }
    h->odd |= m->odd;
    return head_end(h, c->buf);
}

/* ---- the interface ---- */

static void begin(struct http_head *h, const struct http_limits *limits, enum http_kind kind) {
    static const struct http_limits usual = {48 * 1024, HTTP_MAX_HEADERS, 16 * 1024};
    memset(h, 0, offsetof(struct http_head, fields));
    h->limits = limits ? *limits : usual;
    h->limits.max_headers = (uint32_t)ht_min(h->limits.max_headers, HTTP_MAX_HEADERS);
    h->limits.max_head = (uint32_t)ht_min(h->limits.max_head, INT32_MAX);
    h->response = kind != HTTP_REQUEST;
    h->loose = kind == HTTP_LOOSE_RESPONSE;
    http_machine_begin(&h->machine, kind, h->limits.max_target);
}

void http_request_begin(struct http_head *h, const struct http_limits *limits) { begin(h, limits, HTTP_REQUEST); }
void http_response_begin(struct http_head *h, const struct http_limits *limits) { begin(h, limits, HTTP_RESPONSE); }
void http_proxy_request_begin(struct http_head *h, const struct http_limits *limits) {
    begin(h, limits, HTTP_REQUEST);
    h->proxy = true;
}
void http_loose_response_begin(struct http_head *h, const struct http_limits *limits) {
    begin(h, limits, HTTP_LOOSE_RESPONSE);
}

const char *http_odd_text(uint32_t one) {
    switch (one) {
    case HTTP_ODD_START_LINE:
        return "extra blanks, or an extra empty line before it, in the status line";
    case HTTP_ODD_VERSION:
        return "a version other than HTTP/1.0 and HTTP/1.1";
    case HTTP_ODD_STATUS:
        return "a status above 599";
    case HTTP_ODD_LINE_END:
        return "lines that end without a CR";
    case HTTP_ODD_CONTROL:
        return "control bytes in a field or the reason";
    case HTTP_ODD_FOLD:
        return "a field folded over several lines";
    case HTTP_ODD_NAME:
        return "blanks between a field's name and its colon";
    case HTTP_ODD_LENGTH:
        return "the same Content-Length twice";
    case HTTP_ODD_OLD_CHUNKED:
        return "a chunked body in HTTP/1.0";
    case HTTP_ODD_CHUNK:
        return "chunk sizes with blanks behind them or without a CR";
    default:
        return "";
    }
}

void http_clean(char *buf, struct http_span s) {
    for (char *p = buf + s.off, *end = p + s.len; p < end; p++)
        if (!http_is((unsigned char)*p, HTTP_C_TEXT))
            *p = ' ';
}

static void refuse_syntax(struct http_head *h, enum http_result bad) {
    static const char *const texts[] = {
        [HTTP_BAD_LINE_END] = "CR and LF may stand only together at the end of a line",
        [HTTP_BAD_METHOD] = "bad method",
        [HTTP_BAD_TARGET] = "forbidden byte in the request target",
        [HTTP_LONG_TARGET] = "the request target is too long",
        [HTTP_BAD_VERSION] = "bad HTTP version",
        [HTTP_BAD_STATUS] = "bad status",
        [HTTP_BAD_REASON] = "control byte in the reason",
        [HTTP_BAD_NAME] = "bad field name",
        [HTTP_FOLDED] = "folded field line",
        [HTTP_BAD_VALUE] = "control byte in a field value",
    };
    /* With LF allowed to stand alone only a CR is left to say that of; with control bytes allowed, only a NUL. */
    if (h->loose && bad == HTTP_BAD_LINE_END)
        http_refuse(h, 502, "a CR without an LF");
    else if (h->loose && bad == HTTP_BAD_VALUE)
        http_refuse(h, 502, "a NUL in a field value");
    else
        http_refuse(h, bad == HTTP_LONG_TARGET ? 414 : 400, texts[bad]);
}

int http_head_parse(struct http_head *h, const char *buf, size_t len, struct http_error *e) {
    if (!h->error.status) {
        struct context c = {h, buf};
        /* Bytes over the limit are not looked at, so that it matters nowhere how many came at once. */
        uint32_t n = (uint32_t)ht_min(len, h->limits.max_head);
        enum http_result r = http_machine_run(&h->machine, buf, n, on_event, &c);
        if (r == HTTP_DONE)
            return (int)h->machine.pos;
        if (r == HTTP_MORE && h->machine.pos < h->limits.max_head)
            return HT_EAGAIN;
        if (r == HTTP_MORE)
            http_refuse(h, 431, "the head is too large");
        else if (r != HTTP_STOPPED)
            refuse_syntax(h, r);
    }
    *e = h->error;
    return HT_EPROTO;
}

const struct http_field *http_field_find(const struct http_head *h, const char *buf, const char *name) {
    struct ht_slice wanted = ht_slice_str(name);
    for (uint32_t i = 0; i < h->n_fields; i++)
        if (h->fields[i].name.len == wanted.n && ht_slice_case_eq(http_text(buf, h->fields[i].name), wanted))
            return &h->fields[i];
    return NULL;
}

/* RFC 9112 6.3. */
static enum http_body_kind body_of(const struct http_head *h, enum http_body_kind otherwise) {
    if (h->flags & HTTP_CHUNKED)
        return HTTP_BODY_CHUNKED;
    if (h->flags & HTTP_HAS_CONTENT_LENGTH)
        return h->content_length ? HTTP_BODY_LENGTH : HTTP_BODY_NONE;
    return otherwise;
}

enum http_body_kind http_request_body(const struct http_head *h) { return body_of(h, HTTP_BODY_NONE); }

enum http_body_kind http_response_body(const struct http_head *h, bool head_request) {
    if (head_request || h->status < 200 || h->status == 204 || h->status == 304)
        return HTTP_BODY_NONE;
    return body_of(h, HTTP_BODY_CLOSE);
}
