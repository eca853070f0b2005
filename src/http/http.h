/*
 * HTTP/1.1 as a proxy of record sees it: request and response heads, chunked bodies, framing decisions, and the writer
 * of heads. Pure: bytes in, bytes out, no sockets and no tunnel. RFC 9110 and RFC 9112.
 *
 * Parsing is incremental: a head is collected by the caller in one contiguous buffer that may grow and move; the parser
 * remembers how far it has looked and keeps offsets, so that a head that comes byte by byte costs one pass.
 */
#ifndef HT_HTTP_HTTP_H
#define HT_HTTP_HTTP_H

#include "base/base.h"
#include "base/buf.h"
#include "base/err.h"

#define HTTP_MAX_HEADERS 128 /* checked against the spec's limit by the room that knows both */

struct http_span {
    uint32_t off, len; /* in the head's buffer */
};

struct http_field {
    struct http_span name, value; /* value without surrounding white space */
};

enum http_flag {
    HTTP_HAS_CONTENT_LENGTH = 1u << 0,
    HTTP_CHUNKED = 1u << 1,          /* Transfer-Encoding is exactly `chunked` */
    HTTP_KEEP_ALIVE = 1u << 2,       /* what the version and Connection say, RFC 9112 9.3 */
    HTTP_UPGRADE = 1u << 3,          /* Connection names upgrade and an Upgrade field is there */
    HTTP_UPGRADE_WEBSOCKET = 1u << 4, /* ... and it names websocket */
    HTTP_EXPECT_CONTINUE = 1u << 5,
    HTTP_HAS_HOST = 1u << 6,
    HTTP_TARGET_ABSOLUTE = 1u << 7, /* absolute-form: the path part is `path` */
};

struct http_limits {
    uint32_t max_head;    /* bytes of the whole head; over it: 431 */
    uint32_t max_headers; /* at most HTTP_MAX_HEADERS; over it: 431 */
    uint32_t max_target;  /* bytes; over it: 414 */
};

/* A parsed head, and the state of parsing it. About 2 KiB: kept only while a head is being read or a request answered. */
struct http_head {
    /* results */
    struct http_span method, target, reason;
    struct http_span path; /* origin-form to send on: target, or its path when the target was absolute */
    struct http_span host; /* value of Host */
    uint8_t minor;         /* HTTP/1.minor */
    uint16_t status;       /* responses */
    uint32_t flags;        /* enum http_flag */
    uint64_t content_length;
    uint32_t n_fields;
    struct http_field fields[HTTP_MAX_HEADERS];
    /* the machine */
    struct http_limits limits;
    uint32_t pos; /* bytes looked at so far */
    int cs;       /* Ragel state */
    bool response;
    uint32_t mark;
};

/* Starts over for a new head. `limits` NULL: 48 KiB, 128 fields, 16 KiB target. */
void http_request_begin(struct http_head *h, const struct http_limits *limits);
void http_response_begin(struct http_head *h, const struct http_limits *limits);

/* Why a head was refused: the answer a server owes, and one sentence for the log and the body. */
struct http_error {
    uint16_t status;  /* 400, 405, 408, 413, 414, 417, 431, 501, 505; for responses always 502 */
    const char *text; /* static storage */
};

/*
 * Looks at buf[0..len), which starts at the head's first byte and has only grown since the last call.
 * Returns the length of the head with its empty line (> 0); HT_EAGAIN when more is needed; HT_EPROTO with *e filled.
 * One empty line before a request line is skipped (RFC 9112 2.2). Everything that hardening.md cases 1, 3, 4, 5 name is
 * refused here: see each rule beside its check.
 */
int http_head_parse(struct http_head *h, const char *buf, size_t len, struct http_error *e);

/* The bytes of a span; `buf` is the head's buffer. */
static inline struct ht_slice http_text(const char *buf, struct http_span s) { return ht_slice_of(buf + s.off, s.len); }

/* The first field of that name (lower or any case), or NULL. */
const struct http_field *http_field_find(const struct http_head *h, const char *buf, const char *name);

/* True when field `i` is hop-by-hop: RFC 9110 7.6.1, the fixed list, or named by Connection (case-insensitive). Fields
 * a sender may not strip from us (content-length, transfer-encoding, host, ...) are never hop-by-hop by being named in
 * Connection (hardening case 8). */
bool http_field_is_hop_by_hop(const struct http_head *h, const char *buf, uint32_t i);

/* RFC 9110 5.6.2 token; RFC 9110 5.5 field value (no CR, LF, NUL or other control byte but HTAB; obs-text is allowed). */
bool http_is_token(struct ht_slice s);
bool http_is_field_value(struct ht_slice s);

/* Splits a comma list (RFC 9110 5.6.1): calls give one trimmed, non-empty element after another. False at the end. */
bool http_list_next(struct ht_slice *rest, struct ht_slice *item);

/* ---- bodies ---- */

/*
 * A chunked body, decoded in place. Zero-initialised is the start of a body. Chunk extensions and trailers are checked
 * and dropped; together at most 16 KiB for a message (hardening case 4).
 */
struct http_chunked {
    uint64_t left; /* bytes of the present chunk still to come */
    uint32_t overhead;
    int cs;
    bool done, started;
};

/*
 * Decodes buf[0..*len): body bytes are moved together at the front of buf, *len becomes their number, and *used how many
 * raw bytes were read (less than given only once the body has ended: the rest belongs to the next message; it stays
 * where it was, at buf + *used). Returns 0, or HT_EPROTO with *e (status 400). c->done tells the end.
 */
int http_chunked_decode(struct http_chunked *c, char *buf, size_t *len, size_t *used, struct http_error *e);

/* How a message's body is delimited (RFC 9112 6.3). */
enum http_body_kind { HTTP_BODY_NONE, HTTP_BODY_LENGTH, HTTP_BODY_CHUNKED, HTTP_BODY_CLOSE };

enum http_body_kind http_request_body(const struct http_head *h);
/* `head_request`: the request was HEAD. A 1xx, 204, 304 has none (RFC 9110 6.4.1). */
enum http_body_kind http_response_body(const struct http_head *h, bool head_request);

/* ---- writing ---- */

/* Status line. An empty reason takes the registered one (RFC 9110 15). 0 or HT_ENOMEM, HT_EINVAL (status not 100..599). */
int http_write_status(struct ht_buf *b, uint8_t minor, uint16_t status, struct ht_slice reason) HT_MUST_USE;
int http_write_request_line(struct ht_buf *b, struct ht_slice method, struct ht_slice target) HT_MUST_USE;
/* One field; HT_EINVAL when the name is no token or the value holds what must not go out (response splitting). */
int http_write_field(struct ht_buf *b, struct ht_slice name, struct ht_slice value) HT_MUST_USE;
int http_write_content_length(struct ht_buf *b, uint64_t n) HT_MUST_USE;
int http_write_end(struct ht_buf *b) HT_MUST_USE; /* the empty line */

/* Head of a chunk of `n` > 0 bytes into `out` (at least 20 bytes): hex length and CRLF. Returns its length. */
size_t http_chunk_head(char *out, size_t n);
#define HTTP_CHUNK_TAIL "\r\n"
#define HTTP_CHUNK_LAST "0\r\n\r\n"

/* The registered reason phrase of a status; "" for one that has none. */
const char *http_reason(uint16_t status);

/* A whole small answer of our own: status, Content-Type: text/plain, Content-Length, the extra lines (each ending in CRLF,
 * may be NULL), Connection: close when `close`, and the body (left out when `head_request`). */
int http_write_answer(struct ht_buf *b, uint8_t minor, uint16_t status, const char *extra, const char *body,
                      bool head_request, bool close) HT_MUST_USE;

#endif
