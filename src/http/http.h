/*
 * HTTP/1.1 for a proxy (RFC 9110, RFC 9112): reading heads of requests and responses, chunked bodies, how a body is
 * framed, and writing heads. Pure: it knows bytes, and neither sockets nor tunnels.
 *
 * Parsing is incremental. The caller collects a head in one buffer, which may grow and move. The parser remembers its
 * position and stores offsets, so even a head that comes byte by byte is read only once.
 */
#ifndef HT_HTTP_HTTP_H
#define HT_HTTP_HTTP_H

#include "base/base.h"
#include "base/buf.h"
#include "base/err.h"

#define HTTP_MAX_CHUNK_OVERHEAD (16u * 1024u) /* most bytes of chunk extensions and trailers in one message */
#define HTTP_MAX_HEADERS 128                  /* the same as the protocol's limit; relay asserts it */

struct http_span {
    uint32_t off, len; /* in the head's buffer, in bytes */
};

struct http_field {
    struct http_span name, value; /* value without surrounding white space */
};

enum http_flag {
    HTTP_HAS_CONTENT_LENGTH = 1u << 0,
    HTTP_CHUNKED = 1u << 1,           /* Transfer-Encoding is exactly `chunked` */
    HTTP_KEEP_ALIVE = 1u << 2,        /* version and Connection allow another message (RFC 9112 9.3) */
    HTTP_UPGRADE = 1u << 3,           /* Connection has `upgrade`, and there is an Upgrade field; never in HTTP/1.0 */
    HTTP_UPGRADE_WEBSOCKET = 1u << 4, /* and the Upgrade field has `websocket` */
    HTTP_EXPECT_CONTINUE = 1u << 5,
    HTTP_HAS_HOST = 1u << 6,
    HTTP_TARGET_ABSOLUTE = 1u << 7,  /* the target is in absolute-form; `path` is its path */
    HTTP_PATH_NEEDS_SLASH = 1u << 8, /* the target was like http://host?query: `path` is "?query"; send "/" before it */
    HTTP_PATH_IS_SERVER = 1u << 9,   /* OPTIONS http://host: `path` is "/"; send "*" instead (RFC 9112 3.2.4) */
    HTTP_CONNECT = 1u << 10,         /* the method is CONNECT: the proxy connects to `authority`; no path, no body */
};

/* Deviations from RFC 9112 in the answer of a local service that could be read all the same. */
enum http_odd {
    HTTP_ODD_START_LINE = 1u << 0,  /* too many blanks, or an empty line before it */
    HTTP_ODD_VERSION = 1u << 1,     /* neither HTTP/1.0 nor HTTP/1.1: read as 1.1 */
    HTTP_ODD_STATUS = 1u << 2,      /* 600 to 999, which is in no known class */
    HTTP_ODD_LINE_END = 1u << 3,    /* LF without CR */
    HTTP_ODD_CONTROL = 1u << 4,     /* control bytes in a value or the reason: see http_clean() */
    HTTP_ODD_FOLD = 1u << 5,        /* a folded value: see http_clean() */
    HTTP_ODD_NAME = 1u << 6,        /* blanks before a colon */
    HTTP_ODD_LENGTH = 1u << 7,      /* the same Content-Length more than once */
    HTTP_ODD_OLD_CHUNKED = 1u << 8, /* chunked in HTTP/1.0 */
    HTTP_ODD_CHUNK = 1u << 9        /* never in a head: see struct http_chunked */
};
#define HTTP_N_ODD 10

struct http_limits {
    uint32_t max_head;    /* bytes of the whole head; beyond it: 431 */
    uint32_t max_headers; /* number of fields, at most HTTP_MAX_HEADERS; beyond it: 431 */
    uint32_t max_target;  /* bytes; beyond it: 414 */
};

/* Why a head was refused: the status for the answer, and one sentence for the log and the body. */
struct http_error {
    uint16_t status;  /* 400, 405, 414, 417, 431, 505; for responses always 502 */
    const char *text; /* static storage */
};

/* The state of the head grammar (machine_priv.h). Not for code outside src/http. */
struct http_machine {
    int cs;        /* Ragel state */
    uint32_t pos;  /* bytes read so far */
    uint32_t mark; /* where the present element began */
    uint32_t max_target;
    struct http_span a, b;
    uint16_t version, status;
    uint32_t odd; /* enum http_odd */
    int bad;
    bool dirty; /* the value of the present line has control bytes */
};

/* A parsed head and the parser's state, about 2 KiB. Keep it only while a head is read or a request is answered. */
struct http_head {
    /* results */
    struct http_span method, target, reason;
    struct http_span path;      /* the target to send on, in origin-form or "*": the path of an absolute target */
    struct http_span host;      /* value of Host */
    struct http_span authority; /* authority of a target in absolute-form or authority-form */
    uint8_t minor;              /* HTTP/1.minor */
    uint16_t status;            /* responses */
    uint32_t flags;             /* enum http_flag */
    uint64_t content_length;
    uint32_t n_fields;
    uint32_t odd; /* enum http_odd; of a loose head only */
    /* private */
    bool response, loose, proxy;
    uint32_t seen;    /* enum http_seen */
    uint32_t n_named; /* names in Connection other than the usual options */
    struct http_limits limits;
    struct http_machine machine;
    struct http_error error;
    uint64_t hop[HTTP_MAX_HEADERS / 64];        /* bit i: field i is hop-by-hop */
    struct http_field fields[HTTP_MAX_HEADERS]; /* result; the last member, so that a new head need not clear it */
};

/* Prepares for a new head. `limits` NULL: 48 KiB, 128 fields, a target of 16 KiB. */
void http_request_begin(struct http_head *h, const struct http_limits *limits);
void http_response_begin(struct http_head *h, const struct http_limits *limits);
/* The same for a request to a proxy: it also accepts CONNECT, with a target in authority-form (RFC 9112 3.2.3). Host
 * may be missing then. */
void http_proxy_request_begin(struct http_head *h, const struct http_limits *limits);
/*
 * The same for the answer of a local service, which its owner trusts. Deviations from RFC 9112 that have only one
 * meaning are accepted, and h->odd says which. The caller writes the head anew: with one Content-Length, and values
 * after http_clean(). A head that two readers may understand differently is refused as usual, and the error names it.
 */
void http_loose_response_begin(struct http_head *h, const struct http_limits *limits);
/* The text for one bit of enum http_odd, to follow "an answer with ..."; static storage. */
const char *http_odd_text(uint32_t one);
/* Replaces control bytes in a value or reason of a loose head by SP, in the head's buffer (RFC 9110 5.5, RFC 9112 5.2).
 */
void http_clean(char *buf, struct http_span s);

/*
 * Parses buf[0..len). The buffer begins with the first byte of the head, and its content may only grow between calls.
 * Returns the length of the head with its empty line (> 0), HT_EAGAIN when it needs more bytes, or HT_EPROTO with *e.
 * Empty lines before a request line are skipped (RFC 9112 2.2). It refuses everything that hardening cases 1, 3, 4 and
 * 5 name; each check has its rule beside it. The result does not depend on the pieces in which the bytes come. A syntax
 * error is reported at its first wrong byte, a long target at the first byte too many, and a long head when max_head
 * bytes do not contain its end. Rules for a field are checked at the end of its line, and rules for all fields at the
 * end of the head. A refused or complete head returns the same result again.
 */
int http_head_parse(struct http_head *h, const char *buf, size_t len, struct http_error *e);

/* The bytes of a span; `buf` is the head's buffer. */
static inline struct ht_slice http_text(const char *buf, struct http_span s) { return ht_slice_of(buf + s.off, s.len); }

/* The first field with that name, in any case; NULL: none. */
const struct http_field *http_field_find(const struct http_head *h, const char *buf, const char *name);

/* The hop-by-hop fields: they are about one connection and are not sent on (RFC 9110 7.6.1). This is the only list. */
enum http_hop {
    HTTP_HOP_NONE,
    HTTP_HOP_CONNECTION,
    HTTP_HOP_KEEP_ALIVE,
    HTTP_HOP_PROXY_CONNECTION,
    HTTP_HOP_TE,
    HTTP_HOP_TRAILER,
    HTTP_HOP_TRANSFER_ENCODING,
    HTTP_HOP_UPGRADE,
};

/* The hop-by-hop field with that name, in any case; HTTP_HOP_NONE: it is none. */
enum http_hop http_hop_of(struct ht_slice name);

/*
 * True when field `i` of a complete head is hop-by-hop: it is in enum http_hop, or Connection names it (in any case).
 * Connection cannot make a field hop-by-hop that is meant for the recipient of the content: content-*, host,
 * authorization, cookie, forwarded, x-forwarded-*, sec-*, if-* and others (hardening case 8; head_fields.c has the
 * list). A caller that frames the message itself, or passes an upgrade on, reads these fields before it drops them.
 * Costs one bit test.
 */
static inline bool http_field_is_hop_by_hop(const struct http_head *h, const char *buf, uint32_t i) {
    (void)buf;
    return (h->hop[i / 64] >> (i % 64)) & 1;
}

/*
 * Reads a Content-Length (RFC 9110 8.6): digits only, at most 2^63-1; no sign and no list, not even of equal values
 * (hardening case 1). All code that reads a length uses this function. False: it is not valid.
 */
bool http_parse_length(struct ht_slice s, uint64_t *out) HT_MUST_USE;

/* True for a field that is meant for the recipient of the content, and that Connection cannot make hop-by-hop. */
bool http_is_end_to_end(struct ht_slice name);

/* True when the name is `what`, which is in lower case, in any case. An underscore counts as a hyphen: services that
 * turn names into variables (CGI) cannot tell them apart. */
bool http_field_is_like(struct ht_slice name, const char *what);
/* True for a field that says who the visitor is and how he came: Forwarded, X-Forwarded-*, X-Real-IP. */
bool http_field_is_about_visitor(struct ht_slice name);

/* True for a token (RFC 9110 5.6.2). */
bool http_is_token(struct ht_slice s);
/* True for a field value (RFC 9110 5.5): no CR, LF, NUL or other control bytes except HTAB; obs-text is allowed. */
bool http_is_field_value(struct ht_slice s);

/* Splits a comma list (RFC 9110 5.6.1). Each call returns the next element, trimmed and not empty, and advances *rest.
 * False at the end. It does not know quotes: use it for lists of tokens, such as Connection, Upgrade and
 * Sec-WebSocket-Protocol. */
bool http_list_next(struct ht_slice *rest, struct ht_slice *item);
/* True when a value of TE says that its sender accepts trailers (RFC 9110 10.1.4). */
bool http_te_wants_trailers(struct ht_slice value);

/* ---- bodies ---- */

/*
 * A decoder of chunked bodies, which works in place. Zero-initialise it before each body. Chunk extensions and trailers
 * are checked and dropped; `trailers` keeps the latter. Together they may have 16 KiB in a message (hardening case 4).
 */
struct http_chunked {
    uint64_t left; /* bytes of the present chunk that have not come yet */
    uint32_t overhead;
    int cs;
    bool loose; /* set before the body, for a local service: padded sizes and LF without CR are accepted */
    bool odd;   /* loose: the body had some */
    bool done, started;
    const char *failed;      /* why the body was refused; NULL: it was not */
    struct ht_buf *trailers; /* set before the body: collects the lines behind the last chunk; NULL: they are dropped */
};

/*
 * Decodes buf[0..*len). The body bytes are moved to the front of buf, *len becomes their number, and *used the number
 * of bytes read. *used is smaller than the old *len only when the body has ended: the rest, at buf + *used, belongs to
 * the next message. c->done is true at the end of the body. Returns 0, or HT_EPROTO with *e (status 400). The grammar
 * is RFC 9112 7.1, strictly: no white space behind a size, and CRLF only. A size is at most 2^63-1, with at most 16 KiB
 * of leading zeros.
 */
int http_chunked_decode(struct http_chunked *c, char *buf, size_t *len, size_t *used, struct http_error *e);

/*
 * False for a field that must not be a trailer (RFC 9110 6.5.1): fields for framing, routing, authentication, handling
 * or interpreting the message, and fields about the connection. An underscore counts as a hyphen, because some services
 * turn both into the same variable name.
 */
bool http_may_be_trailer(struct ht_slice name);
/* Parses the lines that http_chunked.trailers has collected, and leaves out fields that must not be trailers. Returns
 * the number of fields. More than HTTP_MAX_HEADERS fields: returns 0, since a part of them could mislead. */
size_t http_trailer_fields(const char *buf, size_t len, struct http_field out[HTTP_MAX_HEADERS]);

/* How a message's body is delimited (RFC 9112 6.3). A content-length of 0 counts as NONE. */
enum http_body_kind { HTTP_BODY_NONE, HTTP_BODY_LENGTH, HTTP_BODY_CHUNKED, HTTP_BODY_CLOSE };

enum http_body_kind http_request_body(const struct http_head *h);
/* `head_request`: the request was HEAD. Answers to HEAD, and 1xx, 204 and 304, have no body (RFC 9110 6.4.1). */
enum http_body_kind http_response_body(const struct http_head *h, bool head_request);

/* ---- writing ---- */

/* These append to `b`. They return 0 or an error, HT_ENOMEM or what is named below; on an error nothing was appended.
 */

/* A status line. An empty reason becomes the registered one (RFC 9110 15). HT_EINVAL: the status is not in 100..999, or
 * the reason has a control byte. */
int http_write_status(struct ht_buf *b, uint8_t minor, uint16_t status, struct ht_slice reason) HT_MUST_USE;
/* HT_EINVAL: the method is not a token, or the target is empty or has a byte that http_head_parse() refuses. */
int http_write_request_line(struct ht_buf *b, struct ht_slice method, struct ht_slice target) HT_MUST_USE;
/* One field, its value without white space around it. HT_EINVAL: the name is not a token, or the value has a byte that
 * could split the response, such as CR or LF. */
int http_write_field(struct ht_buf *b, struct ht_slice name, struct ht_slice value) HT_MUST_USE;
int http_write_content_length(struct ht_buf *b, uint64_t n) HT_MUST_USE;
int http_write_end(struct ht_buf *b) HT_MUST_USE; /* the empty line */

/* Writes the head of a chunk of `n` > 0 bytes, a hexadecimal length and CRLF, to `out`, which has at least 20 bytes.
 * Returns its length. */
size_t http_chunk_head(char *out, size_t n);
#define HTTP_CHUNK_TAIL "\r\n"
#define HTTP_CHUNK_LAST "0\r\n\r\n"

/* The registered reason phrase of a status; "" when it has none. Static storage. */
const char *http_reason(uint16_t status);

/*
 * A whole small answer: the status line, Content-Type: text/plain, Content-Length, the lines in `extra` (each with
 * CRLF; may be NULL) and `body` (may be NULL; left out when `head_request`). With `close` it has Connection: close;
 * without it an HTTP/1.0 answer has Connection: keep-alive. 1xx, 204 and 304 have neither body nor length. 0,
 * HT_ENOMEM, or an error of the functions above.
 */
int http_write_answer(struct ht_buf *b, uint8_t minor, uint16_t status, const char *extra, const char *body,
                      bool head_request, bool close) HT_MUST_USE;

#endif
