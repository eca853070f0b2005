/* Trailer fields (rule TRAIL-2) on their way between an HTTP message and a stream. */
#ifndef HT_RELAY_TRAILERS_PRIV_H
#define HT_RELAY_TRAILERS_PRIV_H

#include "http/http.h"
#include "mux/mux.h"

/* True when the stream can carry trailers: both sides have named that capability. */
bool relay_has_trailers(const struct mux_stream *st);
/* Sends the field lines that http_chunked.trailers has collected in `lines` before EOF, and empties `lines`. `room` is
 * scratch space for HTTP_MAX_HEADERS fields. 0, or an error of mux_stream_trailers(). */
int relay_send_trailers(struct mux_stream *st, struct ht_buf *lines, struct wire_header *room) HT_MUST_USE;
/* Writes the last chunk, and behind it the fields that are allowed as trailers, to the empty `to`. 0, HT_ENOMEM, or
 * HT_EINVAL: a field is not valid anywhere. With more than 16 KiB of fields `to` stays empty. */
int relay_last_chunk(struct ht_buf *to, const struct wire_trailers *t) HT_MUST_USE;

#endif
