/*
 * Lines of HAProxy's log: how they follow each other on the socket, what stands in one, and what of it is kept. Pure.
 */
#ifndef HT_EDGE_LOGLINE_H
#define HT_EDGE_LOGLINE_H

#include "base/base.h"
#include "base/err.h"
#include "haproxy_gen.h"
#include "json/json.h"

/* Most bytes of a line; HAProxy's own bound is in haproxy.cfg.j2. */
#define EDGE_LOG_LINE 65536

/*
 * The next line at the front of `bytes`, which are framed by octet counts (RFC 6587, 3.4.1): "11 hello world". The
 * number of bytes that it takes, and *line is in there; 0: there is no whole line yet; HT_EPROTO: these are no lines.
 */
int edge_log_frame(struct ht_slice bytes, struct ht_slice *line) HT_MUST_USE;

enum edge_log_kind {
    EDGE_LOG_REQUEST, /* a service has answered, or did not */
    EDGE_LOG_REFUSED, /* HAProxy has answered itself: `reason` says why */
    EDGE_LOG_ERROR,   /* a connection without a request that could be read: `message` says what happened */
    EDGE_LOG_ENGINE,  /* what HAProxy, or the agent itself, says about itself: `message` */
    EDGE_LOG_KINDS
};
enum edge_log_level { EDGE_LOG_INFO, EDGE_LOG_WARN, EDGE_LOG_FAIL, EDGE_LOG_LEVELS };

/* Their names, as in the API. */
extern const char *const edge_log_kinds[EDGE_LOG_KINDS];
extern const char *const edge_log_levels[EDGE_LOG_LEVELS];

#define EDGE_LOG_NONE (-1) /* a number that is not there */

struct edge_log_row {
    enum edge_log_kind kind;
    enum edge_log_level level;
    struct ht_slice text[HAPROXY_LOG_FIELDS]; /* empty: not there. Any UTF-8, U+0000 too */
    int64_t number[HAPROXY_LOG_FIELDS];
    unsigned long lost; /* lines that HAProxy says it had no room for */
};

/* What lines are decoded with; large. */
struct edge_log_reader {
    struct json_reader json;
    char text[EDGE_LOG_LINE];  /* decoded */
    char url[3 * 2500 + 1024]; /* masked */
    char client[64];           /* masked */
};

struct edge_log_privacy {
    bool mask_addresses;        /* visitors' addresses lose their last part */
    const char *const *secrets; /* further names of parameters whose values are masked, in lower case */
    size_t n_secrets;
};

/*
 * Reads a line, which came at `now_ms` since 1970. Any bytes make a row: a line that is no JSON object is HAProxy's
 * own, and one that should be JSON and is not becomes a row that says so. Slices point into `g` or into static storage
 * and are valid until its next use. True: it was well-formed.
 */
bool edge_log_read(struct edge_log_reader *g, struct ht_slice line, int64_t now_ms, const struct edge_log_privacy *p,
                   struct edge_log_row *row);

/* A row of the agent's own: kind EDGE_LOG_ENGINE. `text` is borrowed. */
void edge_log_say(struct edge_log_row *row, int64_t now_ms, enum edge_log_level level, struct ht_slice text);

/* Writes `url` with the values of secret parameters masked to out[0..cap), cut where there is no room. Returns the
 * length. */
size_t edge_log_mask_url(struct ht_slice url, const struct edge_log_privacy *p, char *out, size_t cap);
/* Writes an address without its last part: 203.0.113.0, 2001:db8:1::. What is no address becomes nothing. Returns the
 * length; `out` has 64 bytes. */
size_t edge_log_mask_address(struct ht_slice address, char out[64]);

#endif
