/* One direction of a WebSocket: heads, masks, fragments, compression. */
#include "inspect/frames.h"

#include "base/mem.h"

enum { CONTINUATION = 0 };

static bool is_control(uint8_t opcode) { return opcode >= INSPECT_CLOSE; }

static void give_up(struct inspect_ws *w) {
    inspect_ws_free(w);
    w->broken = true;
}

void inspect_ws_free(struct inspect_ws *w) {
    ht_buf_free(&w->data);
    ht_buf_free(&w->raw);
    inspect_decoder_destroy(&w->inflate);
}

/* ---- messages ---- */

static void keep(struct ht_buf *b, uint32_t max, struct ht_slice piece) {
    size_t have = ht_buf_size(b);
    if (have < max) /* without memory, the message is shown cut */
        (void)!ht_buf_append(b, piece.p, ht_min(piece.n, max - have));
}

/* The window is lost, so this message and all behind it are shown as they travelled. */
static void go_dull(struct inspect_ws *w) {
    w->dull = true;
    inspect_decoder_destroy(&w->inflate);
    ht_buf_free(&w->data);
}

/* How much a piece of `n` bytes may inflate to. */
static size_t most_of(const struct inspect_ws *w, size_t n) {
    size_t most = (size_t)(INSPECT_INFLATE_MAX - ht_min64(w->size, INSPECT_INFLATE_MAX));
    return ht_min(most, inspect_decoder_allowance(w->inflate, n));
}

static void inflate_piece(struct inspect_ws *w, struct ht_slice piece) {
    if (w->dull)
        return;
    if (!w->inflate)
        w->inflate = inspect_decoder_create_raw();
    if (!w->inflate || inspect_decoder_count(w->inflate, piece, w->max, most_of(w, piece.n), &w->data, &w->size) < 0)
        go_dull(w);
}

static void message_piece(struct inspect_ws *w, struct ht_slice piece) {
    w->travelled += piece.n;
    if (w->packed) {
        keep(&w->raw, w->max, piece);
        inflate_piece(w, piece);
        return;
    }
    w->size += piece.n;
    keep(&w->data, w->max, piece);
}

static void message_end(struct inspect_ws *w) {
    struct inspect_frame f = {.down = w->down, .opcode = (enum inspect_opcode)w->message};
    if (w->packed && !w->dull)
        inflate_piece(w, ht_slice_of("\0\0\xff\xff", 4)); /* RFC 7692 7.2.2 */
    f.compressed = w->packed && w->dull;
    f.size = f.compressed ? w->travelled : w->size;
    f.data = ht_buf_slice(f.compressed ? &w->raw : &w->data);
    f.truncated = f.data.n < f.size;
    w->emit(w->ctx, &f);
    if (w->inflate && w->no_takeover)
        inspect_decoder_reset(w->inflate);
    ht_buf_free(&w->data); /* most WebSockets are quiet most of the time */
    ht_buf_free(&w->raw);
    w->size = w->travelled = 0;
    w->message = CONTINUATION;
}

static void control_end(struct inspect_ws *w) {
    char text[8 + sizeof w->control];
    struct inspect_frame f = {.down = w->down, .opcode = (enum inspect_opcode)w->opcode, .size = w->n_control};
    f.data = ht_slice_of(w->control, w->n_control);
    if (w->opcode == INSPECT_CLOSE && w->n_control >= 2) {
        size_t n = ht_uint_put(text, (uint64_t)(w->control[0] << 8 | w->control[1]));
        size_t rest = w->n_control - 2;
        if (rest) {
            text[n++] = ' ';
            memcpy(text + n, w->control + 2, rest);
        }
        f.data = ht_slice_of(text, n + rest);
    }
    w->emit(w->ctx, &f);
}

/* ---- frames ---- */

/* How long the head is, as far as its first two bytes say. */
static size_t head_size(const struct inspect_ws *w) {
    if (w->n_head < 2)
        return 2;
    uint8_t n = w->head[1] & 0x7f;
    return 2u + (n == 126 ? 2 : n == 127 ? 8 : 0) + (w->head[1] & 0x80 ? 4 : 0);
}

/* False: no WebSocket says this (RFC 6455 5.2, 5.4, 5.5). */
static bool frame_begins(struct inspect_ws *w) {
    size_t n_mask = w->head[1] & 0x80 ? 4 : 0, end = w->n_head - n_mask;
    uint8_t n = w->head[1] & 0x7f;
    w->opcode = w->head[0] & 0x0f;
    w->fin = w->head[0] & 0x80;
    w->masked = n_mask > 0;
    if (n_mask)
        memcpy(w->mask, w->head + end, 4);
    w->left = n < 126 ? n : 0;
    for (size_t i = 2; i < end; i++)
        w->left = w->left << 8 | w->head[i];
    w->at = 0;
    w->n_head = 0;
    w->in_payload = true;
    bool rsv1 = w->head[0] & 0x40, first = !is_control(w->opcode) && w->opcode != CONTINUATION;
    if (w->head[0] & 0x30 || (rsv1 && (!w->deflate || !first)) || w->left >> 63)
        return false;
    if (is_control(w->opcode)) {
        w->n_control = 0;
        return w->opcode <= INSPECT_PONG && w->fin && w->left <= sizeof w->control;
    }
    if (w->opcode > INSPECT_BINARY || first == (w->message != CONTINUATION))
        return false;
    if (first) {
        w->message = w->opcode;
        w->packed = rsv1;
    }
    return true;
}

static void frame_ends(struct inspect_ws *w) {
    w->in_payload = false;
    if (is_control(w->opcode))
        control_end(w);
    else if (w->fin)
        message_end(w);
}

/* Payload of at most one step, unmasked into a copy: the bytes are on their way and stay as they are. */
static size_t payload(struct inspect_ws *w, struct ht_slice bytes) {
    char copy[4096];
    size_t n = (size_t)ht_min64(w->left, ht_min(bytes.n, sizeof copy));
    for (size_t i = 0; i < n; i++)
        copy[i] = (char)((uint8_t)bytes.p[i] ^ (w->masked ? w->mask[(w->at + i) & 3] : 0));
    w->at += n;
    w->left -= n;
    if (n && is_control(w->opcode)) {
        memcpy(w->control + w->n_control, copy, n);
        w->n_control += n;
    } else if (n) {
        message_piece(w, ht_slice_of(copy, n));
    }
    return n;
}

void inspect_ws_feed(struct inspect_ws *w, struct ht_slice bytes) {
    while (!w->broken && bytes.n) {
        size_t used = 1;
        if (w->in_payload) {
            used = payload(w, bytes);
        } else {
            w->head[w->n_head++] = (uint8_t)*bytes.p;
            if (w->n_head == head_size(w) && w->n_head >= 2 && !frame_begins(w))
                give_up(w);
        }
        if (!w->broken && w->in_payload && w->left == 0)
            frame_ends(w);
        bytes = ht_slice_of(bytes.p + used, bytes.n - used);
    }
}

/* ---- extensions ---- */

static struct ht_slice item(struct ht_slice *s, char end) {
    const char *at = memchr(s->p, end, s->n);
    struct ht_slice i = ht_slice_of(s->p, at ? (size_t)(at - s->p) : s->n);
    size_t used = i.n + (at != NULL);
    *s = ht_slice_of(s->p + used, s->n - used);
    for (; i.n && (*i.p == ' ' || *i.p == '\t'); i.n--)
        i.p++;
    while (i.n && (i.p[i.n - 1] == ' ' || i.p[i.n - 1] == '\t'))
        i.n--;
    return i;
}

void inspect_ws_extensions(struct ht_slice value, struct inspect_ws *up, struct inspect_ws *down) {
    while (value.n) {
        struct ht_slice one = item(&value, ',');
        if (one.n == 0 || !ht_slice_case_eq(item(&one, ';'), ht_slice_str("permessage-deflate")))
            continue;
        up->deflate = down->deflate = true;
        while (one.n) {
            struct ht_slice parameter = item(&one, ';');
            if (ht_slice_case_eq(parameter, ht_slice_str("server_no_context_takeover")))
                down->no_takeover = true;
            else if (ht_slice_case_eq(parameter, ht_slice_str("client_no_context_takeover")))
                up->no_takeover = true;
        }
    }
}
