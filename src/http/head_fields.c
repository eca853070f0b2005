/* The fields that decide about framing, the connection and the way a message takes. */
#include "http/chars_priv.h"
#include "http/head_priv.h"

/* Connection options beside close, keep-alive and upgrade. Real ones name one or two; each is compared with every
 * field. */
#define MAX_NAMED 32

/* ---- authority ---- */

static bool port_valid(struct ht_slice s) {
    unsigned port = 0;
    for (size_t i = 0; i < s.n; i++) {
        if (s.p[i] < '0' || s.p[i] > '9' || (port = port * 10 + (unsigned)(s.p[i] - '0')) > 65535)
            return false;
    }
    return true;
}

/* The address between the brackets of an IP literal; the dialler knows better, this only keeps other bytes out. */
static bool ip_literal_valid(struct ht_slice s) {
    bool colon = false;
    for (size_t i = 0; i < s.n; i++) {
        if (!http_is((unsigned char)s.p[i], HTTP_C_HEX) && s.p[i] != ':' && s.p[i] != '.')
            return false;
        colon |= s.p[i] == ':';
    }
    return s.n >= 2 && colon;
}

/* reg-name or IPv4 address, RFC 3986 3.2.2, but no comma: a list must not pass for a name. Returns its length. */
static size_t name_length(struct ht_slice s) {
    size_t i = 0;
    while (i < s.n) {
        if (http_is((unsigned char)s.p[i], HTTP_C_HOST))
            i++;
        else if (s.p[i] == '%' && s.n - i > 2 && http_is((unsigned char)s.p[i + 1], HTTP_C_HEX) &&
                 http_is((unsigned char)s.p[i + 2], HTTP_C_HEX))
            i += 3;
        else
            break;
    }
    return i;
}

bool http_authority_valid(struct ht_slice s, bool may_be_empty) {
    if (s.n == 0)
        return may_be_empty;
    size_t n;
    if (s.p[0] == '[') {
        const char *end = memchr(s.p, ']', s.n);
        if (!end || !ip_literal_valid(ht_slice_of(s.p + 1, (size_t)(end - s.p) - 1)))
            return false;
        n = (size_t)(end - s.p) + 1;
    } else {
        n = name_length(s);
    }
    if (n == 0)
        return false;
    return n == s.n || (s.p[n] == ':' && port_valid(ht_slice_of(s.p + n + 1, s.n - n - 1)));
}

/* ---- one function per field ---- */

static bool host(struct http_head *h, const struct http_field *f, struct ht_slice value) {
    if (h->response)
        return true;
    if (h->flags & HTTP_HAS_HOST)
        return http_refuse(h, 400, "more than one Host"); /* RFC 9112 3.2 */
    if (!http_authority_valid(value, true))
        return http_refuse(h, 400, "bad Host");
    h->flags |= HTTP_HAS_HOST;
    h->host = f->value;
    return true;
}

bool http_parse_length(struct ht_slice s, uint64_t *out) {
    uint64_t n = 0;
    for (size_t i = 0; i < s.n; i++) {
        if (s.p[i] < '0' || s.p[i] > '9')
            return false;
        unsigned digit = (unsigned)(s.p[i] - '0');
        if (n > ((uint64_t)INT64_MAX - digit) / 10)
            return false;
        n = n * 10 + digit;
    }
    *out = n;
    return s.n > 0;
}

/* RFC 9112 6.3 (5): a list of equal lengths may be taken for one of them, also over several fields. */
static bool loose_length(struct http_head *h, struct ht_slice value) {
    bool last = false;
    while (!last) {
        const char *comma = memchr(value.p, ',', value.n);
        size_t n = comma ? (size_t)(comma - value.p) : value.n;
        uint64_t length;
        if (!http_parse_length(http_trim(ht_slice_of(value.p, n)), &length))
            return http_refuse(h, 502, "bad Content-Length");
        if ((h->flags & HTTP_HAS_CONTENT_LENGTH) && h->content_length != length)
            return http_refuse(h, 502, "two values of Content-Length that differ");
        if (h->flags & HTTP_HAS_CONTENT_LENGTH)
            h->odd |= HTTP_ODD_LENGTH;
        h->content_length = length;
        h->flags |= HTTP_HAS_CONTENT_LENGTH;
        last = !comma;
        value = ht_slice_of(value.p + n + !last, value.n - n - !last);
    }
    return true;
}

/* RFC 9112 6.2 and 6.3: once, and a number. */
static bool content_length(struct http_head *h, struct ht_slice value) {
    if (h->loose)
        return loose_length(h, value);
    if (h->flags & HTTP_HAS_CONTENT_LENGTH)
        return http_refuse(h, 400, "more than one Content-Length");
    if (!http_parse_length(value, &h->content_length))
        return http_refuse(h, 400, "bad Content-Length");
    h->flags |= HTTP_HAS_CONTENT_LENGTH;
    return true;
}

/* RFC 9112 6.1: we know one coding, and anything that another party might read differently is refused. */
static bool transfer_encoding(struct http_head *h, struct ht_slice value) {
    if (h->seen & HTTP_SEEN_TRANSFER_ENCODING)
        return http_refuse(h, 400, "more than one Transfer-Encoding");
    if (!ht_slice_case_eq(value, ht_slice_str("chunked")))
        return http_refuse(h, 400, "Transfer-Encoding is not chunked");
    if (h->minor == 0 && !h->loose)
        return http_refuse(h, 400, "Transfer-Encoding in HTTP/1.0");
    if (h->minor == 0)
        h->odd |= HTTP_ODD_OLD_CHUNKED;
    h->seen |= HTTP_SEEN_TRANSFER_ENCODING;
    h->flags |= HTTP_CHUNKED;
    return true;
}

static bool expect(struct http_head *h, struct ht_slice value) {
    if (h->response || h->minor == 0) /* RFC 9110 10.1.1: ignored in HTTP/1.0 */
        return true;
    if (ht_slice_case_eq(value, ht_slice_str("100-continue")))
        h->flags |= HTTP_EXPECT_CONTINUE;
    else
        h->seen |= HTTP_SEEN_BAD_EXPECT;
    return true;
}

static uint32_t connection_option(struct ht_slice s) {
    if (s.n == 5 && ht_slice_case_eq(s, ht_slice_str("close")))
        return HTTP_SEEN_CLOSE;
    if (s.n == 10 && ht_slice_case_eq(s, ht_slice_str("keep-alive")))
        return HTTP_SEEN_KEEP_ALIVE;
    if (s.n == 7 && ht_slice_case_eq(s, ht_slice_str("upgrade")))
        return HTTP_SEEN_CONNECTION_UPGRADE;
    return 0;
}

static bool connection(struct http_head *h, struct ht_slice value) {
    struct ht_slice item;
    while (http_list_next(&value, &item)) {
        uint32_t option = connection_option(item);
        h->seen |= option;
        if (option == 0 && ++h->n_named > MAX_NAMED)
            return http_refuse(h, 400, "Connection names too many fields");
    }
    return true;
}

static bool upgrade(struct http_head *h, struct ht_slice value) {
    struct ht_slice item;
    while (http_list_next(&value, &item)) {
        h->seen |= HTTP_SEEN_UPGRADE;
        if (ht_slice_case_eq(item, ht_slice_str("websocket"))) /* RFC 6455 4.2.1: without a version */
            h->seen |= HTTP_SEEN_UPGRADE_WEBSOCKET;
    }
    return true;
}

static void set_hop(struct http_head *h, uint32_t i) { h->hop[i / 64] |= UINT64_C(1) << (i % 64); }

/* Length and first letter single out the few names that matter; one comparison then decides. */
#define IS(literal) ((name.p[0] | 0x20) == (literal)[0] && http_lower_eq(name.p, literal, sizeof(literal) - 1))

enum http_hop http_hop_of(struct ht_slice name) {
    switch (name.n) {
    case 2:
        return IS("te") ? HTTP_HOP_TE : HTTP_HOP_NONE;
    case 7:
        return IS("upgrade") ? HTTP_HOP_UPGRADE : IS("trailer") ? HTTP_HOP_TRAILER : HTTP_HOP_NONE;
    case 10:
        return IS("connection") ? HTTP_HOP_CONNECTION : IS("keep-alive") ? HTTP_HOP_KEEP_ALIVE : HTTP_HOP_NONE;
    case 16:
        return IS("proxy-connection") ? HTTP_HOP_PROXY_CONNECTION : HTTP_HOP_NONE;
    case 17:
        return IS("transfer-encoding") ? HTTP_HOP_TRANSFER_ENCODING : HTTP_HOP_NONE;
    default:
        return HTTP_HOP_NONE;
    }
}

static bool take_hop_field(struct http_head *h, uint32_t i, enum http_hop hop, struct ht_slice value) {
    set_hop(h, i);
    switch (hop) {
    case HTTP_HOP_CONNECTION:
        return connection(h, value);
    case HTTP_HOP_UPGRADE:
        return upgrade(h, value);
    case HTTP_HOP_TRANSFER_ENCODING:
        return transfer_encoding(h, value);
    default:
        return true;
    }
}

bool http_take_field(struct http_head *h, const char *buf) {
    uint32_t i = h->n_fields - 1;
    const struct http_field *f = &h->fields[i];
    struct ht_slice name = http_text(buf, f->name), value = http_text(buf, f->value);
    enum http_hop hop = http_hop_of(name);
    if (hop != HTTP_HOP_NONE)
        return take_hop_field(h, i, hop, value);
    switch (name.n) {
    case 4:
        return IS("host") ? host(h, f, value) : true;
    case 6:
        return IS("expect") ? expect(h, value) : true;
    case 14:
        return IS("content-length") ? content_length(h, value) : true;
    default:
        return true;
    }
}
#undef IS

bool http_take_dirt(struct http_head *h, const char *buf, uint32_t odd) {
    static const char *const strict[] = {"content-length", "transfer-encoding", "connection", "upgrade"};
    struct ht_slice name = http_text(buf, h->fields[h->n_fields - 1].name);
    for (size_t i = 0; i < HT_ARRAY_LEN(strict); i++)
        if (ht_slice_case_eq(name, ht_slice_str(strict[i])))
            return http_refuse(h, 502, "a folded line or a control byte in a field that frames the answer");
    h->odd |= odd;
    return true;
}

/* ---- fields that Connection names ---- */

static bool starts_with(struct ht_slice s, const char *prefix) {
    size_t n = strlen(prefix);
    return s.n >= n && ht_slice_case_eq(ht_slice_of(s.p, n), ht_slice_str(prefix));
}

/*
 * Fields meant for the recipient of the content. RFC 9110 7.6.1 forbids to name such a field in Connection; doing so
 * anyway is an attempt to take off what a proxy in front checked or added (hardening case 8), so it has no effect.
 */
bool http_is_end_to_end(struct ht_slice name) {
    static const char *const prefixes[] = {
        "access-control-", "content-", "if-", "sec-", "x-auth", "x-forwarded-", "x-real-ip",
    };
    static const char *const names[] = {
        "accept",
        "accept-encoding",
        "accept-language",
        "age",
        "allow",
        "authorization",
        "cache-control",
        "cookie",
        "date",
        "etag",
        "expect",
        "expires",
        "forwarded",
        "from",
        "host",
        "last-modified",
        "location",
        "max-forwards",
        "origin",
        "proxy-authenticate",
        "proxy-authorization",
        "range",
        "referer",
        "retry-after",
        "server",
        "set-cookie",
        "strict-transport-security",
        "user-agent",
        "vary",
        "via",
        "www-authenticate",
        "x-api-key",
        "x-csrf-token",
        "x-request-id",
    };
    for (size_t i = 0; i < HT_ARRAY_LEN(prefixes); i++)
        if (starts_with(name, prefixes[i]))
            return true;
    for (size_t i = 0; i < HT_ARRAY_LEN(names); i++)
        if (ht_slice_case_eq(name, ht_slice_str(names[i])))
            return true;
    return false;
}

void http_mark_named_fields(struct http_head *h, const char *buf) {
    if (h->n_named == 0)
        return;
    for (uint32_t c = 0; c < h->n_fields; c++) {
        if (!ht_slice_case_eq(http_text(buf, h->fields[c].name), ht_slice_str("connection")))
            continue;
        struct ht_slice rest = http_text(buf, h->fields[c].value), item;
        while (http_list_next(&rest, &item)) {
            if (http_is_end_to_end(item))
                continue;
            for (uint32_t i = 0; i < h->n_fields; i++)
                if (h->fields[i].name.len == item.n && ht_slice_case_eq(http_text(buf, h->fields[i].name), item))
                    set_hop(h, i);
        }
    }
}

/* ---- fields behind a body ---- */

bool http_te_wants_trailers(struct ht_slice value) {
    struct ht_slice item;
    while (http_list_next(&value, &item))
        if (ht_slice_case_eq(item, ht_slice_str("trailers")))
            return true;
    return false;
}

/* Equal to `lower`, or begins with it when that ends in a hyphen. */
static bool is_like(struct ht_slice name, const char *lower) {
    size_t n = strlen(lower);
    if (lower[n - 1] == '-' ? name.n < n : name.n != n)
        return false;
    for (size_t i = 0; i < n; i++)
        if ((name.p[i] == '_' ? '-' : name.p[i] | 0x20) != lower[i])
            return false;
    return true;
}

/* As a service may take it that reads names from its environment: CONTENT_LENGTH there, Transfer_Encoding here. */
static bool is_like_hop(struct ht_slice name) {
    char plain[sizeof "transfer-encoding"];
    if (name.n >= sizeof plain)
        return false;
    for (size_t i = 0; i < name.n; i++)
        plain[i] = name.p[i] == '_' ? '-' : name.p[i];
    return http_hop_of(ht_slice_of(plain, name.n)) != HTTP_HOP_NONE;
}

bool http_may_be_trailer(struct ht_slice name) {
    static const char *const never[] = {
        /* the connection, beside enum http_hop */
        "proxy-", "http2-settings",
        /* routing */
        "host", "forwarded", "x-forwarded-", "x-real-ip", "via", "origin", "x-original-", "x-rewrite-",
        /* how the request is to be handled */
        "cache-control", "pragma", "expect", "max-forwards", "range", "if-", "x-http-method", "x-http-method-override",
        "x-method-override",
        /* who asks */
        "authorization", "www-authenticate", "authentication-info", "cookie", "set-cookie", "x-auth-", "x-api-key",
        "x-csrf-token", "sec-", "access-control-", "strict-transport-security",
        /* how the answer is to be handled */
        "age", "date", "expires", "location", "retry-after", "vary", "warning", "refresh",
        /* the content: how long it is, and how to read it */
        "content-"};
    if (is_like(name, "content-digest")) /* RFC 9530 2 has it there */
        return true;
    if (is_like_hop(name))
        return false;
    for (size_t i = 0; i < HT_ARRAY_LEN(never); i++)
        if (is_like(name, never[i]))
            return false;
    return true;
}

size_t http_trailer_fields(const char *buf, size_t len, struct http_field out[HTTP_MAX_HEADERS]) {
    size_t n = 0;
    for (const char *p = buf, *end = buf + len; p < end;) {
        const char *colon = memchr(p, ':', (size_t)(end - p));
        const char *lf = colon ? memchr(colon, '\n', (size_t)(end - colon)) : NULL;
        if (!lf)
            break;
        struct ht_slice name = ht_slice_of(p, (size_t)(colon - p));
        const char *stop = lf[-1] == '\r' ? lf - 1 : lf;
        struct ht_slice value = http_trim(ht_slice_of(colon + 1, (size_t)(stop - colon - 1)));
        p = lf + 1;
        if (!http_may_be_trailer(name))
            continue;
        if (n == HTTP_MAX_HEADERS)
            return 0;
        out[n++] = (struct http_field){{(uint32_t)(name.p - buf), (uint32_t)name.n},
                                       {(uint32_t)(value.p - buf), (uint32_t)value.n}};
    }
    return n;
}

/* ---- what tells a service about its visitor ---- */

/* True when the name begins with `what`. An underscore counts as a hyphen: services that turn names into variables
 * (CGI) cannot tell them apart. */
static bool is_called(struct ht_slice name, const char *what, size_t n) {
    for (size_t i = 0; i < n; i++) {
        char c = ht_lower(name.p[i]);
        if ((c == '_' ? '-' : c) != what[i])
            return false;
    }
    return true;
}

bool http_field_is_like(struct ht_slice name, const char *what) {
    return name.n == strlen(what) && is_called(name, what, name.n);
}

bool http_field_is_about_visitor(struct ht_slice name) {
    static const char prefix[] = "x-forwarded-";
    switch (name.n) {
    case 9:
        return http_field_is_like(name, "forwarded") || http_field_is_like(name, "x-real-ip");
    default:
        return name.n > sizeof prefix - 1 && is_called(name, prefix, sizeof prefix - 1);
    }
}
