/* What the relay's own files need of relay_out beyond pipe.h. */
#ifndef HT_RELAY_OUT_PRIV_H
#define HT_RELAY_OUT_PRIV_H

#include "http/http.h"
#include "relay/pipe.h"

/* Copies everything borrowed, so that its memory may go. 0 or HT_ENOMEM (nothing is lost then). */
int relay_out_spill(struct relay_out *o) HT_MUST_USE;
/* Adds bytes that need not stay valid. 0 or HT_ENOMEM. */
int relay_out_copy(struct relay_out *o, const void *p, size_t n) HT_MUST_USE;
/* Forgets what is borrowed; what was copied stays. */
void relay_out_drop_borrowed(struct relay_out *o);

/* Whether fields behind a body have a place on this stream. */
bool relay_has_trailers(const struct mux_stream *st);
/* Sends what http_chunked.trailers has collected ahead of the EOF, and empties `lines`. `room` is scratch for
 * HTTP_MAX_HEADERS of them. 0, or an error of mux_stream_trailers(). */
int relay_send_trailers(struct mux_stream *st, struct ht_buf *lines, struct wire_header *room) HT_MUST_USE;
/* The last chunk with those of the fields behind it that may stand there, into the empty `to`. 0, HT_ENOMEM, or
 * HT_EINVAL: one that may stand nowhere. More than 16 KiB of them leave `to` empty. */
int relay_last_chunk(struct ht_buf *to, const struct wire_trailers *t) HT_MUST_USE;

/* relay_pipe_destroy() with a RESET of that code for the stream. */
void relay_pipe_abort(struct relay_pipe **p, uint16_t code, const char *reason);

#endif
