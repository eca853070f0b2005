/* Server-sent events (the HTML standard, 9.2.6). */
#include "inspect/frames.h"

#include "base/mem.h"

void inspect_sse_free(struct inspect_sse *s) { ht_buf_free(&s->data); }

static void dispatch(struct inspect_sse *s) {
    struct inspect_frame f = {.down = true, .opcode = INSPECT_TEXT, .size = s->size};
    f.data = ht_buf_slice(&s->data);
    f.truncated = f.data.n < f.size;
    f.event = ht_slice_of(s->event, s->n_event);
    f.id = ht_slice_of(s->id, s->n_id);
    if (s->has_data)
        s->emit(s->ctx, &f);
    ht_buf_free(&s->data);
    s->size = s->n_event = s->n_id = 0;
    s->has_data = false;
}

static bool is_field(const struct inspect_sse *s, const char *name) {
    return s->n_field == strlen(name) && memcmp(s->field, name, s->n_field) == 0;
}

static void data(struct inspect_sse *s, struct ht_slice piece) {
    size_t have = ht_buf_size(&s->data);
    s->size += piece.n;
    if (have < s->max) /* without memory, the event is shown cut */
        (void)!ht_buf_append(&s->data, piece.p, ht_min(piece.n, s->max - have));
}

/* The name of the field is complete. */
static void value_begins(struct inspect_sse *s) {
    if (is_field(s, "event"))
        s->n_event = 0; /* the last one counts */
    else if (is_field(s, "id"))
        s->n_id = 0;
    else if (is_field(s, "data") && s->has_data)
        data(s, ht_slice_str("\n"));
    s->has_data = s->has_data || is_field(s, "data");
}

static void text(char *to, size_t *n, struct ht_slice piece) {
    size_t part = ht_min(piece.n, INSPECT_SSE_NAME - *n);
    memcpy(to + *n, piece.p, part);
    *n += part;
}

static void value_piece(struct inspect_sse *s, struct ht_slice piece) {
    if (is_field(s, "data"))
        data(s, piece);
    else if (is_field(s, "event"))
        text(s->event, &s->n_event, piece);
    else if (is_field(s, "id"))
        text(s->id, &s->n_id, piece);
}

static void line_ends(struct inspect_sse *s) {
    if (s->state == INSPECT_SSE_FIELD && s->n_field == 0)
        dispatch(s);
    else if (s->state == INSPECT_SSE_FIELD)
        value_begins(s); /* a field without a colon has an empty value */
    s->state = INSPECT_SSE_FIELD;
    s->n_field = 0;
}

/* Takes one step: a character of a name, or a run of a value. Returns how many bytes. */
static size_t step(struct inspect_sse *s, struct ht_slice bytes) {
    char c = *bytes.p;
    if (c == '\r' || c == '\n') {
        line_ends(s);
        s->skip_lf = c == '\r';
        return 1;
    }
    if (s->state == INSPECT_SSE_FIELD && c == ':') {
        value_begins(s);
        s->state = INSPECT_SSE_SPACE;
        return 1;
    }
    if (s->state == INSPECT_SSE_FIELD) {
        if (s->n_field < sizeof s->field)
            s->field[s->n_field] = c;
        s->n_field++;
        return 1;
    }
    bool space = s->state == INSPECT_SSE_SPACE && c == ' ';
    s->state = INSPECT_SSE_VALUE;
    if (space)
        return 1;
    size_t n = 0;
    while (n < bytes.n && bytes.p[n] != '\r' && bytes.p[n] != '\n')
        n++;
    value_piece(s, ht_slice_of(bytes.p, n));
    return n;
}

void inspect_sse_feed(struct inspect_sse *s, struct ht_slice bytes) {
    static const char bom[] = "\xef\xbb\xbf";
    while (bytes.n) {
        size_t used = 1;
        if (s->n_bom < 3 && *bytes.p == bom[s->n_bom]) {
            s->n_bom++;
        } else if (s->skip_lf && *bytes.p == '\n') {
            s->skip_lf = false;
        } else {
            s->n_field += s->n_bom < 3 ? s->n_bom : 0; /* half a mark is the beginning of a name */
            s->n_bom = 3;
            s->skip_lf = false;
            used = step(s, bytes);
        }
        bytes = ht_slice_of(bytes.p + used, bytes.n - used);
    }
}
