#include "relay/trailers_priv.h"

bool relay_has_trailers(const struct mux_stream *st) {
    const struct mux_session *s = mux_stream_session(st);
    return s && mux_session_agreed(s, WIRE_CAP_TRAILERS);
}

int relay_send_trailers(struct mux_stream *st, struct ht_buf *lines, struct wire_header *room) {
    struct http_field fields[HTTP_MAX_HEADERS];
    const char *p = (const char *)ht_buf_head(lines);
    size_t n = ht_buf_size(lines) ? http_trailer_fields(p, ht_buf_size(lines), fields) : 0;
    for (size_t i = 0; i < n; i++)
        room[i] = (struct wire_header){.name = http_text(p, fields[i].name), .value = http_text(p, fields[i].value)};
    int rc = n ? mux_stream_trailers(st, &(struct wire_trailers){room, n}) : 0;
    ht_buf_free(lines);
    return rc;
}

int relay_last_chunk(struct ht_buf *to, const struct wire_trailers *t) {
    int rc = ht_buf_append_str(to, "0\r\n");
    for (size_t i = 0; rc == 0 && i < t->n_headers; i++) {
        if (http_may_be_trailer(t->headers[i].name))
            rc = http_write_field(to, t->headers[i].name, t->headers[i].value);
        else if (!http_is_token(t->headers[i].name) || !http_is_field_value(t->headers[i].value))
            rc = HT_EINVAL;
    }
    if (rc == 0 && ht_buf_size(to) > HTTP_MAX_CHUNK_OVERHEAD) { /* RFC 9110 6.5.1: they may be dropped */
        ht_buf_free(to);
        return HT_OK;
    }
    return rc ? rc : http_write_end(to);
}
