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

#define HTTP_MAX_CHUNK_OVERHEAD (16u * 1024u) /* chunk extensions and trailers of one message */
#define HTTP_MAX_HEADERS 128                  /* checked against the spec's limit by the room that knows both */

struct http_span {
    uint32_t off, len; /* in the head's buffer */
};

struct http_field {
    struct http_span name, value; /* value without surrounding white space */
};

enum http_flag {
    HTTP_HAS_CONTENT_LENGTH = 1u << 0,
    HTTP_CHUNKED = 1u << 1,           /* Transfer-Encoding is exactly `chunked` */
    HTTP_KEEP_ALIVE = 1u << 2,        /* what the version and Connection say, RFC 9112 9.3 */
    HTTP_UPGRADE = 1u << 3,           /* Connection names upgrade and an Upgrade field is there; never in HTTP/1.0 */
    HTTP_UPGRADE_WEBSOCKET = 1u << 4, /* ... and it names websocket */
    HTTP_EXPECT_CONTINUE = 1u << 5,
    HTTP_HAS_HOST = 1u << 6,
    HTTP_TARGET_ABSOLUTE = 1u << 7,  /* absolute-form: the path part is `path` */
    HTTP_PATH_NEEDS_SLASH = 1u << 8, /* the target was like http://host?query: `path` is "?query", send "/" before it */
    HTTP_PATH_IS_SERVER = 1u << 9,   /* OPTIONS http://host: `path` is "/", send "*" instead (RFC 9112 3.2.4) */
    HTTP_CONNECT = 1u << 10,         /* a proxy is to connect to `authority`; there is neither a path nor a body */
};

/* How an answer of a local service was not what RFC 9112 asks for, and could be read all the same. */
enum http_odd {
    HTTP_ODD_START_LINE = 1u << 0,  /* blanks or an empty line too many */
    HTTP_ODD_VERSION = 1u << 1,     /* neither HTTP/1.0 nor HTTP/1.1: taken for 1.1 */
    HTTP_ODD_STATUS = 1u << 2,      /* 600 to 999: no class that anybody knows */
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
    uint32_t max_head;    /* bytes of the whole head; over it: 431 */
    uint32_t max_headers; /* at most HTTP_MAX_HEADERS; over it: 431 */
    uint32_t max_target;  /* bytes; over it: 414 */
};

/* Why a head was refused: the answer a server owes, and one sentence for the log and the body. */
struct http_error {
    uint16_t status;  /* 400, 405, 414, 417, 431, 505; for responses always 502 */
    const char *text; /* static storage */
};

/* The state of the head grammar (machine_priv.h); nobody's business outside src/http. */
struct http_machine {
    int cs;        /* Ragel state */
    uint32_t pos;  /* bytes looked at so far */
    uint32_t mark; /* where the present piece began */
    uint32_t max_target;
    struct http_span a, b;
    uint16_t version, status;
    uint32_t odd; /* enum http_odd */
    int bad;
    bool dirty; /* the present line's value holds control bytes */
};

/* A parsed head, and the state of parsing it. 2 KiB: kept only while a head is being read or a request answered. */
struct http_head {
    /* results */
    struct http_span method, target, reason;
    struct http_span path;      /* origin-form (or "*") to send on: target, or its path when the target was absolute */
    struct http_span host;      /* value of Host */
    struct http_span authority; /* of a target in absolute-form */
    uint8_t minor;              /* HTTP/1.minor */
    uint16_t status;            /* responses */
    uint32_t flags;             /* enum http_flag */
    uint64_t content_length;
    uint32_t n_fields;
    uint32_t odd; /* enum http_odd; of a loose head only */
    /* private: the machine and what the rules have seen */
    bool response, loose, proxy;
    uint32_t seen;
    uint32_t n_named; /* fields that Connection names beside the usual options */
    struct http_limits limits;
    struct http_machine machine;
    struct http_error error;
    uint64_t hop[HTTP_MAX_HEADERS / 64];        /* bit i: field i is hop-by-hop */
    struct http_field fields[HTTP_MAX_HEADERS]; /* result; last, so that starting over need not touch it */
};

/* Starts over for a new head. `limits` NULL: 48 KiB, 128 fields, 16 KiB target. */
void http_request_begin(struct http_head *h, const struct http_limits *limits);
void http_response_begin(struct http_head *h, const struct http_limits *limits);
/* The same for a request to a proxy: CONNECT is taken, with a target in authority-form (RFC 9112 3.2.3). Host does not
 * matter to it, and need not be there. */
void http_proxy_request_begin(struct http_head *h, const struct http_limits *limits);
/*
 * The same for the answer of a local service, which is its user's own: what can be read in one way only is taken, and
 * h->odd says what it was. Whoever passes it on writes it anew: one Content-Length, values through http_clean(). What
 * two readers might take for two things is refused as ever, with an error that names it.
 */
void http_loose_response_begin(struct http_head *h, const struct http_limits *limits);
/* One of enum http_odd in words, as something an answer has; static storage. */
const char *http_odd_text(uint32_t one);
/* Control bytes of a loose head's value or reason become SP, in the head's buffer (RFC 9110 5.5, RFC 9112 5.2). */
void http_clean(char *buf, struct http_span s);

/*
 * Looks at buf[0..len), which starts at the head's first byte and has only grown since the last call.
 * Returns the length of the head with its empty line (> 0); HT_EAGAIN when more is needed; HT_EPROTO with *e filled.
 * Empty lines before a request line are skipped (RFC 9112 2.2). Everything that hardening.md cases 1, 3, 4, 5 name is
 * refused here: see each rule beside its check. The answer does not depend on how the bytes were cut: refusals come at
 * the first offending byte (a target at the first byte too many, a head when max_head bytes do not hold its end), the
 * field rules at the end of the line, what needs all fields at the end of the head. Once refused or complete it gives
 * the same answer again.
 */
int http_head_parse(struct http_head *h, const char *buf, size_t len, struct http_error *e);

/* The bytes of a span; `buf` is the head's buffer. */
static inline struct ht_slice http_text(const char *buf, struct http_span s) { return ht_slice_of(buf + s.off, s.len); }

/* The first field of that name (lower or any case), or NULL. */
const struct http_field *http_field_find(const struct http_head *h, const char *buf, const char *name);

/* The fields that speak of one connection and go no further (RFC 9110 7.6.1): the only list of them. */
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

/* Which of them this is, in any case. */
enum http_hop http_hop_of(struct ht_slice name);

/*
 * True when field `i` of a complete head is hop-by-hop: one of enum http_hop, or named by Connection
 * (case-insensitive). Naming a field in Connection does not make it hop-by-hop when it is meant for the recipient of
 * the content: content-*, host, authorization, cookie, forwarded, x-forwarded-*, sec-*, if-* and so on; the list is in
 * head_fields.c (hardening case 8). A caller that frames the message itself, or passes an upgrade on, looks at those
 * fields first. Costs one bit test.
 */
static inline bool http_field_is_hop_by_hop(const struct http_head *h, const char *buf, uint32_t i) {
    (void)buf;
    return (h->hop[i / 64] >> (i % 64)) & 1;
}

/*
 * Digits and nothing else, at most 2^63-1 (RFC 9110 8.6): no sign, no list, not even of equal values (hardening case
 * 1). Everybody who reads a length reads it with this one.
 */
bool http_parse_length(struct ht_slice s, uint64_t *out) HT_MUST_USE;

/* True for a field that is meant for the recipient of the content: what http_field_is_hop_by_hop() says of a field that
 * Connection names. */
bool http_is_end_to_end(struct ht_slice name);

/* RFC 9110 5.6.2 token; RFC 9110 5.5 field value: no CR, LF, NUL or other control byte but HTAB; obs-text may be. */
bool http_is_token(struct ht_slice s);
bool http_is_field_value(struct ht_slice s);

/* Splits a comma list (RFC 9110 5.6.1): calls give one trimmed, non-empty element after another. False at the end.
 * Quotes mean nothing to it: for lists of tokens such as Connection, Upgrade, Sec-WebSocket-Protocol. */
bool http_list_next(struct ht_slice *rest, struct ht_slice *item);
/* A value of TE says that its sender does not drop the fields behind a body (RFC 9110 10.1.4). */
bool http_te_wants_trailers(struct ht_slice value);

/* ---- bodies ---- */

/*
 * A chunked body, decoded in place. Zero-initialised is the start of a body. Chunk extensions and trailers are checked
 * and dropped, unless somebody wants the trailers; together at most 16 KiB for a message (hardening case 4).
 */
struct http_chunked {
    uint64_t left; /* bytes of the present chunk still to come */
    uint32_t overhead;
    int cs;
    bool loose; /* set at the start: from a local service. Padded sizes and LF without CR are taken */
    bool odd;   /* ... and there were some */
    bool done, started;
    const char *failed;      /* why the body was refused; it stays refused */
    struct ht_buf *trailers; /* set at the start: collects the lines behind the last chunk; NULL: nobody wants them */
};

/*
 * Decodes buf[0..*len): body bytes are moved together at the front of buf, *len becomes their number, and *used how
 * many raw bytes were read (less than given only once the body has ended: the rest belongs to the next message; it
 * stays where it was, at buf + *used). Returns 0, or HT_EPROTO with *e (status 400). c->done tells the end. The size is
 * at most 2^63-1 and has no more than 16 KiB of leading zeros; the grammar is that of RFC 9112 7.1, taken strictly (no
 * white space behind the size, CRLF only).
 */
int http_chunked_decode(struct http_chunked *c, char *buf, size_t *len, size_t *used, struct http_error *e);

/*
 * False for a field that must not stand behind a body (RFC 9110 6.5.1): what frames, routes or authenticates the
 * message, says how it is to be handled or read, or is about the connection. An underscore is taken for a hyphen, as
 * the services do that turn names into variables.
 */
bool http_may_be_trailer(struct ht_slice name);
/* The fields in the lines that http_chunked.trailers has collected, without those. Returns how many; 0 also when there
 * are more than HTTP_MAX_HEADERS: none at all is better than some. */
size_t http_trailer_fields(const char *buf, size_t len, struct http_field out[HTTP_MAX_HEADERS]);

/* How a message's body is delimited (RFC 9112 6.3). A content-length of 0 counts as NONE. */
enum http_body_kind { HTTP_BODY_NONE, HTTP_BODY_LENGTH, HTTP_BODY_CHUNKED, HTTP_BODY_CLOSE };

enum http_body_kind http_request_body(const struct http_head *h);
/* `head_request`: the request was HEAD. A 1xx, 204, 304 has none (RFC 9110 6.4.1). */
enum http_body_kind http_response_body(const struct http_head *h, bool head_request);

/* ---- writing ---- */

/* All of these append nothing when they fail. */

/* Status line. An empty reason takes the registered one (RFC 9110 15). 0 or HT_ENOMEM, HT_EINVAL (status not 100..999,
 * a control byte in the reason). */
int http_write_status(struct ht_buf *b, uint8_t minor, uint16_t status, struct ht_slice reason) HT_MUST_USE;
/* HT_EINVAL when the method is no token, or the target is empty or holds a byte that http_head_parse() refuses there.
 */
int http_write_request_line(struct ht_buf *b, struct ht_slice method, struct ht_slice target) HT_MUST_USE;
/* One field, the value without its surrounding white space; HT_EINVAL when the name is no token or the value holds what
 * must not go out (response splitting). */
int http_write_field(struct ht_buf *b, struct ht_slice name, struct ht_slice value) HT_MUST_USE;
int http_write_content_length(struct ht_buf *b, uint64_t n) HT_MUST_USE;
int http_write_end(struct ht_buf *b) HT_MUST_USE; /* the empty line */

/* Head of a chunk of `n` > 0 bytes into `out` (at least 20 bytes): hex length and CRLF. Returns its length. */
size_t http_chunk_head(char *out, size_t n);
#define HTTP_CHUNK_TAIL "\r\n"
#define HTTP_CHUNK_LAST "0\r\n\r\n"

/* The registered reason phrase of a status; "" for one that has none. */
const char *http_reason(uint16_t status);

/* A whole small answer of our own: status, Content-Type: text/plain, Content-Length, the extra lines (each ending in
 * CRLF, may be NULL), Connection: close when `close` (HTTP/1.0: keep-alive when not), and the body (may be NULL; left
 * out when `head_request`). 1xx, 204 and 304 carry neither body nor length. */
int http_write_answer(struct ht_buf *b, uint8_t minor, uint16_t status, const char *extra, const char *body,
                      bool head_request, bool close) HT_MUST_USE;

#endif
