/*
 * Workarounds for published drivers. They are all off when the peer has named a capability of this project.
 */
#include "base/utf8.h"
#include "mux/mux_priv.h"

static bool wanted(const struct mux_session *s) { return s->cfg.role == WIRE_ROLE_KIT && !s->cfg.own_peer; }

/*
 * A published driver collects the bytes of a stream in a list until its local connection exists. With more than 1 MiB
 * in the list it resets the stream (HTTP) or stops for good (TCP), and a TCP EOF discards the list. It gives credit for
 * collected bytes at once, so a WINDOW only shows that it knows the stream. Bytes or a head on the stream show that the
 * connection exists; otherwise we assume it DIAL_SETTLE after the last WINDOW. Until then we send less than the limit
 * (FLOW-7) and hold a TCP EOF back.
 *
 * If nothing was sent, no WINDOW will come: an EOF alone waits for DIAL_SETTLE only. A driver that combines its WINDOWs
 * may never send one for a few bytes: after EOF_PATIENCE the EOF is sent in any case. These times begin with the first
 * tick that sees the stream waiting. That may be a little late, which is harmless.
 */
#define EOF_PATIENCE_MS 10000u

uint32_t compat_send_room(const struct mux_stream *st, uint32_t room) {
    if (st->dial == DIAL_DONE || !wanted(st->s))
        return room;
    return (uint32_t)ht_min(room, WIRE_LIMIT_FIRST_BURST - st->sent);
}

void compat_sent(struct mux_stream *st, uint32_t n) {
    if (st->dial != DIAL_DONE)
        st->sent += (uint32_t)ht_min(n, WIRE_LIMIT_FIRST_BURST - st->sent);
}

static void put_aside(struct mux_stream *st) {
    st->settle_at = 0;
    ht_list_push_back(&st->s->dialling, &st->turn);
    st->s->settle_check_at = st->s->now_ms;
}

bool compat_hold_eof(struct mux_stream *st) {
    if (st->kind != WIRE_KIND_TCP || st->dial == DIAL_DONE || !wanted(st->s))
        return false;
    st->place = PLACE_HELD;
    put_aside(st);
    return true;
}

void compat_hold_burst(struct mux_stream *st) {
    if (st->dial != DIAL_DONE && wanted(st->s))
        put_aside(st);
}

static void release(struct mux_stream *st) {
    ht_list_remove(&st->turn);
    if (st->place == PLACE_HELD) {
        st->place = PLACE_NOWHERE;
        out_enter(st, true);
    } else if (st->send.credit > 0) {
        stream_unblock(st);
    }
}

/* In session->dialling: put aside by one of the two above. */
static bool is_aside(const struct mux_stream *st) {
    return ht_list_linked(&st->turn) && (st->place == PLACE_HELD || st->place == PLACE_BLOCKED);
}

void compat_window_seen(struct mux_stream *st) {
    if (st->dial == DIAL_DONE)
        return;
    st->dial = DIAL_SEEN;
    if (is_aside(st)) { /* the wait begins, or begins again: it is still busy gathering */
        st->settle_at = 0;
        st->s->settle_check_at = st->s->now_ms;
    }
}

void compat_heard(struct mux_stream *st) {
    if (st->dial == DIAL_DONE)
        return;
    st->dial = DIAL_DONE;
    if (is_aside(st))
        release(st);
}

/* When the stream need not wait longer; UINT64_MAX: not before something comes. */
static uint64_t settle_at(const struct mux_stream *st) {
    if (st->dial == DIAL_SEEN || st->sent == 0)
        return st->s->now_ms + WIRE_LIMIT_DIAL_SETTLE;
    return st->place == PLACE_HELD ? st->s->now_ms + EOF_PATIENCE_MS : UINT64_MAX;
}

void compat_tick(struct mux_session *s) {
    if (s->now_ms < s->settle_check_at)
        return;
    s->settle_check_at = UINT64_MAX;
    struct ht_list due;
    ht_list_init(&due);
    HT_LIST_FOR_SAFE (node, &s->dialling) {
        struct mux_stream *st = HT_LIST_ENTRY(node, struct mux_stream, turn);
        if (st->settle_at == 0)
            st->settle_at = settle_at(st);
        if (s->now_ms >= st->settle_at) {
            ht_list_remove(&st->turn);
            ht_list_push_back(&due, &st->turn);
        } else if (st->settle_at < s->settle_check_at) {
            s->settle_check_at = st->settle_at;
        }
    }
    /* Calls upward may end any of them, which takes it off the list. */
    while (!ht_list_empty(&due))
        compat_heard(HT_LIST_ENTRY(due.next, struct mux_stream, turn));
}

bool mux_session_takes_body(const struct mux_session *s, struct ht_slice method) {
    /* It drops the bodies of these two and forwards Content-Length, which ruins its next request: another visitor's. */
    return !wanted(s) || !(ht_slice_is(method, "GET") || ht_slice_is(method, "HEAD"));
}

/* ---- bytes of heads ---- */

/*
 * Between our peers U+0080-U+00FF stand for the bytes 0x80-0xFF (rule FIELD-4). A published driver knows text: what it
 * gets it writes as UTF-8, and what it read as UTF-8 it sends. (A part of it reads heads as Latin-1, as node does, and
 * then says what FIELD-4 asks for; it writes them as UTF-8 all the same.) So a run of such characters that are the
 * bytes of UTF-8 is shown to it as the text that it means, and text from it that is no such run becomes its UTF-8 bytes
 * (rule FIELD-8). Only names and values of heads hold bytes from 0x80 on, so whole payloads can be rewritten.
 */

/* The run of characters from U+0080 on at p: its end. `*bytes`: all are below U+0100. NULL: no UTF-8. */
static const uint8_t *run_end(const uint8_t *p, const uint8_t *end, bool *bytes) {
    *bytes = true;
    while (p < end && *p >= 0x80) {
        unsigned n = ht_utf8_len(p, end);
        if (n == 0)
            return NULL;
        *bytes = *bytes && *p <= 0xC3;
        p += n;
    }
    return p;
}

/* The bytes that a run of characters below U+0100 stands for; to may be p. Returns their number. */
static size_t to_bytes(uint8_t *to, const uint8_t *p, const uint8_t *end) {
    uint8_t *at = to;
    for (; p < end; p += 2)
        *at++ = (uint8_t)ht_utf8_get(p, 2);
    return (size_t)(at - to);
}

static bool is_ascii(const uint8_t *p, size_t n) {
    uint8_t all = 0;
    for (size_t i = 0; i < n; i++)
        all |= p[i];
    return all < 0x80;
}

size_t compat_head_out(const struct mux_link *l, uint8_t *p, size_t n) {
    if (!l->s || !wanted(l->s) || is_ascii(p, n))
        return n;
    uint8_t *to = p;
    for (const uint8_t *from = p, *end = p + n; from < end;) {
        bool bytes;
        const uint8_t *behind = run_end(from, end, &bytes); /* we wrote it: UTF-8, and bytes */
        if (behind == from) {
            *to++ = *from++;
            continue;
        }
        uint8_t text[256]; /* a longer run is left as it is */
        size_t size = (size_t)(behind - from);
        if (size <= 2 * sizeof text && ht_utf8_valid(text, to_bytes(text, from, behind))) {
            memcpy(to, text, size / 2);
            to += size / 2;
        } else {
            memmove(to, from, size);
            to += size;
        }
        from = behind;
    }
    return (size_t)(to - p);
}

size_t compat_head_in(const struct mux_session *s, const uint8_t *p, size_t n, uint8_t *out) {
    if (!wanted(s) || is_ascii(p, n))
        return 0;
    uint8_t *to = out;
    for (const uint8_t *end = p + n; p < end;) {
        bool bytes;
        const uint8_t *behind = run_end(p, end, &bytes);
        if (!behind)
            return 0; /* the decoder says what is wrong */
        if (behind == p) {
            *to++ = *p++;
            continue;
        }
        size_t size = bytes ? to_bytes(to, p, behind) : 0;
        if (size && ht_utf8_valid(to, size)) {
            size = (size_t)(behind - p);
            memcpy(to, p, size);
            to += size;
            p = behind;
        }
        while (p < behind)
            to += ht_utf8_put(to, *p++);
    }
    return (size_t)(to - out);
}
