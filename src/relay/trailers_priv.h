/* Fields behind a body (rule TRAIL-2), between an HTTP message and a stream. */
#ifndef HT_RELAY_TRAILERS_PRIV_H
#define HT_RELAY_TRAILERS_PRIV_H

#include "http/http.h"
#include "mux/mux.h"

/* Whether fields behind a body have a place on this stream. */
bool relay_has_trailers(const struct mux_stream *st);
/* Sends what http_chunked.trailers has collected ahead of the EOF, and empties `lines`. `room` is scratch for
 * HTTP_MAX_HEADERS of them. 0, or an error of mux_stream_trailers(). */
int relay_send_trailers(struct mux_stream *st, struct ht_buf *lines, struct wire_header *room) HT_MUST_USE;
/* The last chunk with those of the fields behind it that may stand there, into the empty `to`. 0, HT_ENOMEM, or
 * HT_EINVAL: one that may stand nowhere. More than 16 KiB of them leave `to` empty. */
int relay_last_chunk(struct ht_buf *to, const struct wire_trailers *t) HT_MUST_USE;

#endif
