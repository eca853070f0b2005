/* Writes heads. Everything is checked before it is written, because most of it comes from a peer (hardening case 7). */
#include "http/chars_priv.h"
#include "http/http.h"

#include <stdio.h>

static char *put(char *to, struct ht_slice s) {
    if (s.n)
        memcpy(to, s.p, s.n);
    return to + s.n;
}

/* Makes the bytes written from the reserved place up to `end` part of the buffer. */
static int commit(struct ht_buf *b, const char *end) {
    ht_buf_commit(b, (size_t)((const uint8_t *)end - (b->data + b->len)));
    return HT_OK;
}

int http_write_status(struct ht_buf *b, uint8_t minor, uint16_t status, struct ht_slice reason) {
    if (minor > 1 || status < 100 || status > 999 || !http_is_field_value(reason))
        return HT_EINVAL;
    if (reason.n == 0)
        reason = ht_slice_str(http_reason(status));
    char *to = (char *)ht_buf_reserve(b, sizeof "HTTP/1.1 200 \r\n" + reason.n);
    if (!to)
        return HT_ENOMEM;
    to = put(to, ht_slice_of("HTTP/1.", 7));
    *to++ = (char)('0' + minor);
    *to++ = ' ';
    *to++ = (char)('0' + status / 100);
    *to++ = (char)('0' + status / 10 % 10);
    *to++ = (char)('0' + status % 10);
    *to++ = ' ';
    to = put(to, reason);
    return commit(b, put(to, ht_slice_of("\r\n", 2)));
}

int http_write_request_line(struct ht_buf *b, struct ht_slice method, struct ht_slice target) {
    const unsigned char *p = (const unsigned char *)target.p;
    if (!http_is_token(method) || target.n == 0 || http_skip(p, p + target.n, HTTP_C_TARGET) != p + target.n)
        return HT_EINVAL;
    char *to = (char *)ht_buf_reserve(b, method.n + target.n + sizeof "  HTTP/1.1\r\n");
    if (!to)
        return HT_ENOMEM;
    to = put(to, method);
    *to++ = ' ';
    to = put(to, target);
    return commit(b, put(to, ht_slice_of(" HTTP/1.1\r\n", 11)));
}

int http_write_field(struct ht_buf *b, struct ht_slice name, struct ht_slice value) {
    if (!http_is_token(name) || !http_is_field_value(value))
        return HT_EINVAL;
    value = http_trim(value);
    char *to = (char *)ht_buf_reserve(b, name.n + value.n + sizeof ": \r\n");
    if (!to)
        return HT_ENOMEM;
    to = put(to, name);
    *to++ = ':';
    *to++ = ' ';
    to = put(to, value);
    return commit(b, put(to, ht_slice_of("\r\n", 2)));
}

int http_write_content_length(struct ht_buf *b, uint64_t n) {
    char digits[HT_UINT_DIGITS];
    return http_write_field(b, ht_slice_of("content-length", 14), ht_slice_of(digits, ht_uint_put(digits, n)));
}

int http_write_end(struct ht_buf *b) { return ht_buf_append(b, "\r\n", 2); }

size_t http_chunk_head(char *out, size_t n) {
    size_t digits = 1;
    for (size_t rest = n >> 4; rest; rest >>= 4)
        digits++;
    for (size_t i = digits; i-- > 0; n >>= 4)
        out[i] = "0123456789abcdef"[n & 15];
    memcpy(out + digits, "\r\n", 2);
    return digits + 2;
}

const char *http_reason(uint16_t status) {
    switch (status) {
#define REASON(number, text)                                                                                           \
    case number:                                                                                                       \
        return text;
        REASON(100, "Continue")
        REASON(101, "Switching Protocols")
        REASON(102, "Processing")
        REASON(103, "Early Hints")
        REASON(104, "Upload Resumption Supported")
        REASON(200, "OK")
        REASON(201, "Created")
        REASON(202, "Accepted")
        REASON(203, "Non-Authoritative Information")
        REASON(204, "No Content")
        REASON(205, "Reset Content")
        REASON(206, "Partial Content")
        REASON(207, "Multi-Status")
        REASON(208, "Already Reported")
        REASON(226, "IM Used")
        REASON(300, "Multiple Choices")
        REASON(301, "Moved Permanently")
        REASON(302, "Found")
        REASON(303, "See Other")
        REASON(304, "Not Modified")
        REASON(305, "Use Proxy")
        REASON(307, "Temporary Redirect")
        REASON(308, "Permanent Redirect")
        REASON(400, "Bad Request")
        REASON(401, "Unauthorized")
        REASON(402, "Payment Required")
        REASON(403, "Forbidden")
        REASON(404, "Not Found")
        REASON(405, "Method Not Allowed")
        REASON(406, "Not Acceptable")
        REASON(407, "Proxy Authentication Required")
        REASON(408, "Request Timeout")
        REASON(409, "Conflict")
        REASON(410, "Gone")
        REASON(411, "Length Required")
        REASON(412, "Precondition Failed")
        REASON(413, "Content Too Large")
        REASON(414, "URI Too Long")
        REASON(415, "Unsupported Media Type")
        REASON(416, "Range Not Satisfiable")
        REASON(417, "Expectation Failed")
        REASON(421, "Misdirected Request")
        REASON(422, "Unprocessable Content")
        REASON(423, "Locked")
        REASON(424, "Failed Dependency")
        REASON(425, "Too Early")
        REASON(426, "Upgrade Required")
        REASON(428, "Precondition Required")
        REASON(429, "Too Many Requests")
        REASON(431, "Request Header Fields Too Large")
        REASON(451, "Unavailable For Legal Reasons")
        REASON(500, "Internal Server Error")
        REASON(501, "Not Implemented")
        REASON(502, "Bad Gateway")
        REASON(503, "Service Unavailable")
        REASON(504, "Gateway Timeout")
        REASON(505, "HTTP Version Not Supported")
        REASON(506, "Variant Also Negotiates")
        REASON(507, "Insufficient Storage")
        REASON(508, "Loop Detected")
        REASON(511, "Network Authentication Required")
#undef REASON
    default:
        return "";
    }
}

int http_write_answer(struct ht_buf *b, uint8_t minor, uint16_t status, const char *extra, const char *body,
                      bool head_request, bool close) {
    /* RFC 9110 8.6: no Content-Length in 1xx and 204; a 304 would have to give that of the 200. */
    bool bodyless = status < 200 || status == 204 || status == 304;
    size_t n = body && !bodyless ? strlen(body) : 0;
    char framing[80] = "";
    if (!bodyless)
        snprintf(framing, sizeof framing, "content-type: text/plain; charset=utf-8\r\ncontent-length: %zu\r\n", n);
    struct ht_slice parts[] = {
        ht_slice_str(framing),
        ht_slice_str(extra),
        ht_slice_str(close        ? "connection: close\r\n"
                     : minor == 0 ? "connection: keep-alive\r\n"
                                  : ""),
        ht_slice_of("\r\n", 2),
        ht_slice_of(body, head_request ? 0 : n),
    };
    size_t total = sizeof "HTTP/1.1 200 \r\n" + 64; /* the longest reason has 31 letters */
    for (size_t i = 0; i < HT_ARRAY_LEN(parts); i++)
        total += parts[i].n;
    /* All the room at once: then nothing below can run out of memory half-way. */
    if (!ht_buf_reserve(b, total))
        return HT_ENOMEM;
    int rc = http_write_status(b, minor, status, ht_slice_of(NULL, 0));
    for (size_t i = 0; rc == HT_OK && i < HT_ARRAY_LEN(parts); i++)
        rc = ht_buf_append(b, parts[i].p, parts[i].n);
    return rc;
}
