/* What head.c and head_fields.c share: the rules of single fields and what they have seen. Private to src/http. */
#ifndef HT_HTTP_HEAD_PRIV_H
#define HT_HTTP_HEAD_PRIV_H

#include "http/http.h"

/* In http_head.seen. */
enum http_seen {
    HTTP_SEEN_TRANSFER_ENCODING = 1u << 0,
    HTTP_SEEN_CLOSE = 1u << 1,
    HTTP_SEEN_KEEP_ALIVE = 1u << 2,
    HTTP_SEEN_CONNECTION_UPGRADE = 1u << 3,
    HTTP_SEEN_UPGRADE = 1u << 4,
    HTTP_SEEN_UPGRADE_WEBSOCKET = 1u << 5,
    HTTP_SEEN_BAD_EXPECT = 1u << 6,
};

/* Fills h->error; always false, so that `return http_refuse(...)` reads well. Responses: the status becomes 502. */
bool http_refuse(struct http_head *h, uint16_t status, const char *text);

/* Takes the field that was just stored at h->fields[h->n_fields - 1]. False: refused. */
bool http_take_field(struct http_head *h, const char *buf);

/* The last field's value is folded or holds control bytes, in `odd`: false and refused where that would make it
 * doubtful how the message is framed or what becomes of the connection. */
bool http_take_dirt(struct http_head *h, const char *buf, uint32_t odd);

/* With all fields there: finds those that Connection names. */
void http_mark_named_fields(struct http_head *h, const char *buf);

/* uri-host [":" port] (RFC 9110 7.2) without userinfo; an empty host only when `may_be_empty` and nothing else is
 * there. */
bool http_authority_valid(struct ht_slice s, bool may_be_empty);

#endif
