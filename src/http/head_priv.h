/* What head.c and head_fields.c share: the rules for single fields. Private to src/http. */
#ifndef HT_HTTP_HEAD_PRIV_H
#define HT_HTTP_HEAD_PRIV_H

#include "http/http.h"

/* Bits of http_head.seen: what the fields so far contain. */
enum http_seen {
    HTTP_SEEN_TRANSFER_ENCODING = 1u << 0,
    HTTP_SEEN_CLOSE = 1u << 1,
    HTTP_SEEN_KEEP_ALIVE = 1u << 2,
    HTTP_SEEN_CONNECTION_UPGRADE = 1u << 3,
    HTTP_SEEN_UPGRADE = 1u << 4,
    HTTP_SEEN_UPGRADE_WEBSOCKET = 1u << 5,
    HTTP_SEEN_BAD_EXPECT = 1u << 6,
};

/* Sets h->error and returns false. For a response the status becomes 502. Use: return http_refuse(...). */
bool http_refuse(struct http_head *h, uint16_t status, const char *text);

/* Handles the field that was just stored at h->fields[h->n_fields - 1]. False: the head is refused. */
bool http_take_field(struct http_head *h, const char *buf);

/* The last field's value is folded or has control bytes; `odd` says which. False: the head is refused, because the
 * field decides about framing or about the connection. */
bool http_take_dirt(struct http_head *h, const char *buf, uint32_t odd);

/* After the last field: marks the fields that Connection names as hop-by-hop. */
void http_mark_named_fields(struct http_head *h, const char *buf);

/* True for uri-host [":" port] (RFC 9110 7.2) without userinfo. `may_be_empty`: an empty text is valid too. */
bool http_authority_valid(struct ht_slice s, bool may_be_empty);

#endif
