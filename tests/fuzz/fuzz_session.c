/*
 * A session of either role between a peer and a local side that both do anything: frames good and bad, whole and cut,
 * in any order; streams opened, written, consumed, reset and released at any time, inside callbacks too; links lost;
 * time passing. What is checked:
 *
 *   - calls upward keep to the contract of mux.h: nothing after the end, nothing after the release, ends only once;
 *   - what goes out is legal for the peer to receive, frame by frame, and within the credit that the peer gave;
 *   - credit that is given back never exceeds what came, and does come back (FLOW-2);
 *   - no memory is left.
 *
 * Input: role and options, the local side's temper, then operations: see operation(). seeds.py writes operation 0.
 */
#include "session_local.h"
#include "wire/bytes.h"

#include <inttypes.h>

/* ---- what goes out ---- */

static int peer_frame(void *ctx, uint8_t type, uint32_t id, const uint8_t *payload, size_t len) {
    static struct wire_scratch *scratch;
    struct link *k = ctx;
    struct rig *r = k->rig;
    struct flow *f = flow_of(r, id);
    union wire_any v;
    struct wire_error err;
    if (!scratch)
        scratch = wire_scratch_create();
    FUZZ_CHECK(scratch && wire_decode_any(type, payload, len, scratch, &v, &err) == 0);
    FUZZ_CHECK(!k->acks); /* it comes last */
    k->tells = true;
    switch (type) {
    case WIRE_HELLO:
    case WIRE_HELLO_OK:
    case WIRE_JOIN:
    case WIRE_JOIN_OK:
        k->peer.state = WIRE_LINK_OPEN;
        k->greets = true;
        break;
    case WIRE_ACK:
        FUZZ_CHECK(r->cfg.caps & WIRE_CAP_STREAM_RESUME && v.ack.received > counts_of(k)->acked_in);
        counts_of(k)->acked_in = v.ack.received;
        k->acks = true;
        break;
    case WIRE_GOAWAY:
        k->peer.state = WIRE_LINK_CLOSING;
        break;
    case WIRE_PING:
        memcpy(r->nonce, v.ping.nonce, sizeof r->nonce);
        break;
    case WIRE_STREAM_OPEN:
        FUZZ_CHECK(id % 2 == 0 && id > k->last_open);
        k->last_open = id;
        if (f) {
            FUZZ_CHECK(!f->opened);
            f->opened = true;
            f->upgrade = v.stream_open.kind == WIRE_KIND_HTTP && v.stream_open.is_upgrade;
        }
        break;
    case WIRE_WINDOW:
        if (id == 0)
            r->session.granted += v.window.increment;
        else if (f)
            f->granted += v.window.increment;
        if (!(r->cfg.caps & WIRE_CAP_AUTO_WINDOW)) {
            FUZZ_CHECK(r->session.granted <= r->session.in);
            FUZZ_CHECK(!f || f->granted <= f->in);
        }
        break;
    case WIRE_EOF:
        if (f) {
            FUZZ_CHECK(!f->reset && (!f->eof || f->upgrade) && (f->opened || r->cfg.role == WIRE_ROLE_DRIVER));
            f->eof = true;
        }
        break;
    case WIRE_RESET:
        if (f)
            f->reset = true;
        break;
    case WIRE_STREAM_CONNECTED:
        FUZZ_CHECK(r->cfg.caps & WIRE_CAP_NAMES && r->cfg.role == WIRE_ROLE_DRIVER);
        FUZZ_CHECK(!f || (!f->reset && !f->eof));
        break;
    case WIRE_STREAM_RESPONSE_HEAD:
        FUZZ_CHECK(!f || (!f->reset && !f->eof));
        break;
    default:
        break;
    }
    return 0;
}

static int peer_data(void *ctx, uint32_t id, const uint8_t *chunk, size_t n, uint32_t frame_len, bool first) {
    struct link *k = ctx;
    struct rig *r = k->rig;
    struct flow *f = flow_of(r, id);
    (void)chunk, (void)first;
    FUZZ_CHECK(!k->acks);
    k->tells = true;
    FUZZ_CHECK(n == frame_len && n > 0);
    r->session.credit -= (int64_t)n;
    FUZZ_CHECK(r->session.credit >= 0);
    if (f) {
        f->credit -= (int64_t)n;
        FUZZ_CHECK(f->credit >= 0 && !f->reset && (!f->eof || f->upgrade));
        FUZZ_CHECK(f->opened || r->cfg.role == WIRE_ROLE_DRIVER);
    }
    return 0;
}

/* One message. False: there is none. */
static bool pull(struct link *k, size_t cap) {
    static const struct wire_asm_ops ops = {peer_frame, peer_data};
    struct wire_error err = {.rule = NULL};
    size_t n = k->l ? mux_link_pull(k->l, message_out, cap) : 0;
    FUZZ_CHECK(n <= cap);
    if (n == 0)
        return false;
    bool counts = k->l && mux_link_counts(k->l);
    struct mux_session *s = k->rig->s;
    counts_of(k)->sent += counts;
    k->greets = k->acks = k->tells = false;
    ssize_t rc = wire_asm_feed(&k->peer, message_out, n, true, &ops, k, &err);
    if (rc < 0)
        fprintf(stderr, "the peer must refuse: %s %s\n", err.rule, err.text);
    FUZZ_CHECK(rc == (ssize_t)n);
    bool alone = k->acks && n == WIRE_LIMIT_HEADER + 8;
    FUZZ_CHECK(!(k->greets || alone) || !counts);
    /* Of a session that goes on nothing is left uncounted. */
    if (k->l && s && s == k->rig->s && !k->rig->over && k->rig->cfg.caps & WIRE_CAP_STREAM_RESUME && !k->told_to_close)
        FUZZ_CHECK(counts == !(k->greets || alone));
    return true;
}

/* ---- what comes in ---- */

static void add_bytes(struct link *k, const void *p, size_t n) {
    if (k->in_n + n > WIRE_LIMIT_MAX_MESSAGE + 100)
        return;
    if (p && n)
        memcpy(k->in + k->in_n, p, n);
    else
        memset(k->in + k->in_n, 'y', n);
    k->in_n += n;
}

static void add_frame(struct link *k, uint8_t type, uint32_t id, const void *payload, size_t n) {
    uint8_t head[WIRE_LIMIT_HEADER];
    if (k->in_n + n + sizeof head > WIRE_LIMIT_MAX_MESSAGE + 100)
        return;
    wire_encode_header(head, type, id, (uint32_t)n);
    add_bytes(k, head, sizeof head);
    add_bytes(k, payload, n);
}

static void add_text(struct link *k, uint8_t type, uint32_t id, const char *text) {
    add_frame(k, type, id, text, strlen(text));
}

/* Counts what the message gives us and brings, at most: what is refused ends the session. */
static void count(struct link *k) {
    struct rig *r = k->rig;
    for (size_t at = 0; at + WIRE_LIMIT_HEADER <= k->in_n;) {
        uint32_t id = wire_get32(k->in + at + 1), len = wire_get32(k->in + at + 5);
        struct flow *f = flow_of(r, id);
        bool whole = len <= k->in_n - at - WIRE_LIMIT_HEADER;
        if (k->in[at] == WIRE_WINDOW && len == 4 && whole) {
            uint32_t n = wire_get32(k->in + at + WIRE_LIMIT_HEADER);
            r->session.credit += id == 0 ? n : 0;
            if (f)
                f->credit += n;
        } else if (k->in[at] == WIRE_DATA) {
            r->session.in += len;
            if (f)
                f->in += len;
        }
        if (!whole)
            return;
        at += WIRE_LIMIT_HEADER + len;
    }
}

/* The message that was gathered goes in, in pieces of `cut` bytes; as ws does it. */
static void send(struct link *k, size_t cut) {
    size_t n = k->in_n, off = 0, have = 0;
    k->in_n = 0;
    if (!k->l || k->deaf)
        return;
    k->in_n = n;
    count(k);
    k->in_n = 0;
    if (cut && n / cut > 3000)
        cut = n / 3000 + 1;
    do {
        have = cut ? ht_min(n, have + cut) : n;
        uint8_t *copy = fuzz_copy(k->in + off, have - off);
        ssize_t used = mux_link_message(k->l, copy, have - off, have == n);
        FUZZ_CHECK(used <= (ssize_t)(have - off));
        if (k->l)
            mux_link_fed(k->l);
        free(copy);
        if (used < 0 || !k->l) {
            k->deaf = true;
            return;
        }
        off += (size_t)used;
    } while (have < n);
    FUZZ_CHECK(off == n);
}

/* ---- operations ---- */

static const char *const opens[] = {
    "{\"kind\":\"http\",\"bindId\":1,\"method\":\"GET\",\"target\":\"/\",\"headers\":[],\"isUpgrade\":false}",
    "{\"kind\":\"http\",\"bindId\":1,\"method\":\"GET\",\"target\":\"/"
    "\",\"headers\":[[\"upgrade\",\"x\"]],\"isUpgrade\":true}",
    "{\"kind\":\"tcp\",\"bindId\":1,\"containerPort\":5432,\"peerAddr\":\"127.0.0.1:1\"}",
    "{\"kind\":\"http\"}",
    "{\"kind\":\"tcp\",\"bindId\":1,\"authority\":\"a.b:1\"}",
    "{\"kind\":\"tcp\",\"bindId\":1,\"authority\":7}",
};
static const char *const heads[] = {
    "{\"status\":200,\"headers\":[],\"final\":true}",
    "{\"status\":103,\"headers\":[[\"link\",\"x\"]],\"final\":false}",
    "{\"status\":101,\"headers\":[],\"final\":true}",
    "{\"status\":204,\"headers\":[[\"a\",\"b\\r\\n\"]],\"final\":true}",
};
static const uint32_t increments[] = {1, 65536, 1048576, 0, 16777216, 0x7fffffff, 0xffffffff, 1000};

static struct record *some_record(struct rig *r, struct fuzz_in *in) {
    struct record *t = r->n_records ? &r->records[fuzz_u8(in) % r->n_records] : NULL;
    return t && t->st ? t : NULL;
}

static void open_or_respond(struct rig *r, struct fuzz_in *in) {
    uint8_t what = fuzz_u8(in);
    if (r->cfg.role == WIRE_ROLE_KIT) {
        struct wire_stream_open open = {.kind = what & 1 ? WIRE_KIND_TCP : WIRE_KIND_HTTP,
                                        .bind_id = 1,
                                        .method = ht_slice_str("GET"),
                                        .target = ht_slice_str("/"),
                                        .is_upgrade = (what & 3) == 2,
                                        .has_authority = (what & 5) == 5,
                                        .authority = ht_slice_str("a.b:1")};
        struct record *t = r->s && !r->over ? new_record(r) : NULL;
        if (t)
            t->awaits = open.has_authority;
        if (t && mux_stream_open(r->s, &open, &stream_ops, t, &t->st) < 0)
            FUZZ_CHECK(!t->st);
        FUZZ_CHECK(!t || !t->st || !open.has_authority || r->cfg.caps & WIRE_CAP_NAMES);
        return;
    }
    static const uint16_t statuses[] = {200, 103, 101, 204};
    struct record *t = some_record(r, in);
    struct wire_response_head head = {.status = statuses[what & 3], .final = (what & 3) != 1};
    if (t && what & 4)
        (void)!mux_stream_connected(t->st);
    else if (t)
        (void)!mux_stream_respond(t->st, &head);
}

static void local(struct rig *r, struct fuzz_in *in, uint8_t op) {
    struct record *t = some_record(r, in);
    uint32_t n = fuzz_u16(in);
    if (!t)
        return;
    switch (op % 5) {
    case 0:
        t->to_send += t->then_eof ? 0 : n * 16;
        mux_stream_ready(t->st);
        break;
    case 1:
        t->then_eof = true;
        mux_stream_ready(t->st);
        break;
    case 2:
        consume(t, n * 4);
        break;
    case 3:
        mux_stream_reset(t->st, (uint16_t)(n & 15), "because");
        FUZZ_CHECK(mux_stream_is_over(t->st));
        break;
    default:
        release(t);
        break;
    }
}

static void make_link(struct rig *r, unsigned i) {
    struct link *k = &r->links[i];
    if (k->l)
        return;
    k->l = mux_link_create(r->cfg.role, r->cfg.version, &link_ops, k);
    FUZZ_CHECK(k->l);
    k->in_n = 0;
    k->told_to_close = k->deaf = false;
    k->last_open = 0;
    bool kit = r->cfg.role == WIRE_ROLE_KIT;
    k->peer = (struct wire_asm){.role = kit ? WIRE_ROLE_DRIVER : WIRE_ROLE_KIT, .caps = ~0u};
    if (kit)
        k->peer.state = i ? WIRE_LINK_AWAIT_JOIN_OK : WIRE_LINK_AWAIT_HELLO_OK;
    else
        k->peer.state = WIRE_LINK_AWAIT_HELLO;
    struct wire_hello hello = {.version = r->cfg.version};
    struct wire_join join = {.session_id = ht_slice_str("S-1"), .index = i, .nonce = ht_slice_str("n")};
    if (!kit)
        FUZZ_CHECK((i ? mux_link_send_join(k->l, &join) : mux_link_send_hello(k->l, &hello)) == 0);
}

/* The handshake of a link that takes over, with a count that the peer claims. */
static void come_back(struct rig *r, unsigned i) {
    struct link *k = &r->links[i];
    unsigned long long n = r->claimed;
    char text[200];
    int v = r->cfg.version == WIRE_V2 ? 2 : 1;
    if (r->cfg.role == WIRE_ROLE_DRIVER)
        (void)pull(k, sizeof message_out);
    if (r->cfg.role == WIRE_ROLE_KIT && i == 0)
        snprintf(text, sizeof text,
                 "{\"version\":\"hoody-tunnel.v%d\",\"resume\":{\"sessionId\":\"S-1\",\"received\":%llu}}", v, n);
    else if (i == 0)
        snprintf(text, sizeof text,
                 "{\"sessionId\":\"S-1\",\"streamWindow\":%u,\"sessionWindow\":%u,\"received\":%llu,\"capabilities\":"
                 "[\"stream-resume\",\"auto-window\",\"trailers\",\"names\"]}",
                 r->cfg.stream_window, r->cfg.session_window, n);
    else
        snprintf(text, sizeof text, "{\"sessionId\":\"S-1\",\"index\":%u,\"nonce\":\"n\",\"received\":%llu}", i, n);
    bool kit = r->cfg.role == WIRE_ROLE_KIT;
    add_text(k, i == 0 ? kit ? WIRE_HELLO : WIRE_HELLO_OK : kit ? WIRE_JOIN : WIRE_JOIN_OK, 0, text);
    send(k, 0);
}

/* The peer comes back on link `i`, mostly with a count that can be true. */
static void reconnect(struct rig *r, unsigned i, uint8_t what) {
    const struct counts *n = &r->counts[i];
    struct link *k = &r->links[i];
    if (!r->s || r->over || (i == 0) != mux_session_is_away(r->s))
        return;
    mux_link_destroy(&k->l);
    if (!r->s || r->over)
        return;
    make_link(r, i);
    r->claimed =
        what < 240 ? n->acked + (n->sent > n->acked ? what % (n->sent - n->acked + 1) : 0) : n->sent + what - 247;
    come_back(r, i);
}

static void shake_hands(struct rig *r, unsigned i) {
    struct link *k = &r->links[i];
    char join[64];
    if (r->cfg.role == WIRE_ROLE_DRIVER)
        (void)pull(k, sizeof message_out); /* a kit answers what it has got */
    snprintf(join, sizeof join, "{\"sessionId\":\"S-1\",\"index\":%u,\"nonce\":\"n\"}", i);
    if (r->cfg.role == WIRE_ROLE_KIT)
        add_text(k, i ? WIRE_JOIN : WIRE_HELLO, 0,
                 i                           ? join
                 : r->cfg.version == WIRE_V2 ? "{\"version\":\"hoody-tunnel.v2\",\"capabilities\":[\"multi-ws\"]}"
                                             : "{\"version\":\"hoody-tunnel.v1\",\"capabilities\":[]}");
    else
        add_text(k, i ? WIRE_JOIN_OK : WIRE_HELLO_OK, 0, i ? join + 18 : "{\"sessionId\":\"S-1\"}");
    if (i && r->cfg.role == WIRE_ROLE_DRIVER) {
        k->in_n = 0;
        snprintf(join, sizeof join, "{\"index\":%u}", i);
        add_text(k, WIRE_JOIN_OK, 0, join);
    }
    send(k, 0);
}

static void session_wide(struct rig *r, struct link *k, uint8_t what) {
    bool usable = r->s && !r->over;
    switch (what % 8) {
    case 0:
        if (usable)
            mux_session_shutdown(r->s, WIRE_CODE_NO_ERROR, "bye", what & 0x70, 1001);
        break;
    case 1:
        if (usable && r->cfg.role == WIRE_ROLE_DRIVER)
            mux_session_close(r->s);
        break;
    case 2:
        if (r->s)
            mux_session_set_bindings(r->s, what >> 6);
        break;
    case 3:
        if (k->l)
            mux_link_closed(k->l, what & 0x10);
        k->deaf = true;
        break;
    case 4:
        mux_link_destroy(&k->l);
        break;
    case 5:
        if (r->cfg.version == WIRE_V2 && k != r->links && usable) {
            make_link(r, (unsigned)(k - r->links));
            shake_hands(r, (unsigned)(k - r->links));
        }
        break;
    case 6:
        if ((what & 0x70) == 0x40)
            mux_session_destroy(&r->s);
        else if (what & 0x40)
            reconnect(r, (unsigned)(k - r->links), (uint8_t)(what * 7));
        break;
    default:
        while (pull(k, sizeof message_out))
            ;
        break;
    }
}

static void pass_time(struct rig *r, uint32_t ms) {
    r->now += ms;
    if (r->s)
        mux_session_tick(r->s, r->now);
}

static void add_head(struct link *k, uint32_t id, uint8_t what) {
    if (what & 0x80)
        add_frame(k, WIRE_STREAM_CONNECTED, id, NULL, 0);
    else
        add_text(k, WIRE_STREAM_RESPONSE_HEAD, id, heads[what % HT_ARRAY_LEN(heads)]);
}

static void add_peer_frame(struct link *k, struct fuzz_in *in, uint8_t op) {
    struct rig *r = k->rig;
    uint32_t id = fuzz_u8(in);
    uint8_t p[8];
    switch (op) {
    case 1:
        add_frame(k, fuzz_u8(in), id, NULL, 0);
        break;
    case 2:
        if (r->cfg.role == WIRE_ROLE_KIT)
            add_head(k, id, fuzz_u8(in));
        else
            add_text(k, WIRE_STREAM_OPEN, id, opens[fuzz_u8(in) % HT_ARRAY_LEN(opens)]);
        break;
    case 3:
        add_frame(k, WIRE_DATA, id, NULL, ht_min(fuzz_u16(in) * 2, PIECE));
        break;
    case 4:
        add_frame(k, WIRE_EOF, id, NULL, 0);
        break;
    case 5:
        wire_put16(p, fuzz_u8(in));
        add_frame(k, WIRE_RESET, id, p, 2);
        break;
    case 6:
        wire_put32(p, increments[fuzz_u8(in) % HT_ARRAY_LEN(increments)]);
        add_frame(k, WIRE_WINDOW, id, p, 4);
        break;
    case 7:
        if (id & 2) {
            wire_put64(p, counts_of(k)->acked + (id >> 2 & 15) - (id >> 6));
            add_frame(k, WIRE_ACK, 0, p, 8);
            break;
        }
        add_frame(k, id & 1 ? WIRE_PING : WIRE_PONG, 0, r->nonce, 8);
        break;
    default:
        if (r->cfg.role == WIRE_ROLE_KIT)
            add_text(k, WIRE_BIND, 0,
                     id & 1 ? "{\"clientBindRef\":1,\"kind\":\"http\",\"mode\":\"expose\",\"containerPort\":80}"
                            : "{\"clientBindRef\":2,\"kind\":3}");
        else
            add_text(k, WIRE_GOAWAY, 0, "{\"code\":0,\"message\":\"m\"}");
        break;
    }
}

static void operation(struct rig *r, struct fuzz_in *in) {
    uint8_t op = fuzz_u8(in), kind = op & 15;
    struct link *k = &r->links[(op >> 4) % 8 < LINKS ? (op >> 4) % 8 : 0];
    if (kind == 0) {
        struct ht_slice s = fuzz_take(in, fuzz_u16(in));
        add_bytes(k, s.p, s.n);
        send(k, op & 0x80 ? 1 : 0);
    } else if (kind <= 8) {
        add_peer_frame(k, in, kind);
        if (op & 0x80)
            send(k, fuzz_u8(in) & 3 ? 0 : 7);
    } else if (kind == 9) {
        open_or_respond(r, in);
    } else if (kind == 10 || kind == 11) {
        local(r, in, (uint8_t)(op >> 4));
    } else if (kind == 12) {
        (void)pull(k, ht_min(sizeof message_out, WIRE_LIMIT_HEADER + PIECE + fuzz_u8(in) * 1024u));
    } else if (kind == 13) {
        pass_time(r, fuzz_u16(in) * (op & 0x80 ? 100 : 1));
    } else if (kind == 14) {
        session_wide(r, k, fuzz_u8(in));
    } else {
        send(k, fuzz_u8(in));
    }
}

/* ---- one run ---- */

static void check_streams(struct rig *r) {
    unsigned handles = 0;
    for (unsigned i = 0; i < r->n_records; i++) {
        struct record *t = &r->records[i];
        if (!t->st)
            continue;
        handles++;
        if (mux_stream_session(t->st))
            FUZZ_CHECK(mux_stream_unconsumed(t->st) == t->received - t->consumed);
        FUZZ_CHECK(!t->closed || mux_stream_is_over(t->st));
    }
    if (r->s && !r->over)
        FUZZ_CHECK(mux_session_streams(r->s) <= r->cfg.max_streams && mux_session_streams(r->s) <= handles);
}

/* With nothing left unconsumed, everything pulled: the peer can go on (FLOW-2). */
static void check_credit(struct rig *r) {
    if (!r->s || r->over || r->temper || r->resumed || mux_session_is_away(r->s))
        return;
    for (unsigned i = 0; i < r->n_records; i++)
        if (r->records[i].st)
            consume(&r->records[i], SIZE_MAX);
    for (unsigned i = 0; i < LINKS; i++)
        while (pull(&r->links[i], sizeof message_out))
            ;
    if (!r->s || r->over || !r->links[0].l || r->links[0].deaf || r->links[0].told_to_close)
        return;
    int64_t left = (int64_t)r->cfg.session_window - r->session.in + r->session.granted;
    FUZZ_CHECK(r->cfg.caps & WIRE_CAP_AUTO_WINDOW || left >= (int64_t)ht_min(PIECE, r->cfg.session_window));
}

static void start(struct rig *r, uint8_t how, uint8_t temper) {
    memset(r, 0, sizeof *r);
    r->now = 1000000;
    r->temper = temper & 0x80 ? 0x1000u + temper : 0;
    r->cfg = (struct mux_config){
        .role = how & 1 ? WIRE_ROLE_DRIVER : WIRE_ROLE_KIT,
        .version = how & 2 ? WIRE_V2 : WIRE_V1,
        .stream_window = how & 0x10 ? 70000 : WIRE_LIMIT_STREAM_WINDOW,
        .session_window = how & 0x10 ? 100000 : WIRE_LIMIT_SESSION_WINDOW,
        .max_streams = how & 0x20 ? 3 : 1024,
        .session_buffer = how & 0x40 ? 80000 : WIRE_LIMIT_SESSION_BUFFER,
        .ping_interval_ms = 30000,
        .pong_timeout_ms = 60000,
        .suspect_after_ms = temper & 0x40 ? 0 : WIRE_LIMIT_SUSPECT_AFTER,
        .idle_timeout_ms = how & 1 ? 0 : 300000,
        .own_peer = !(how & 4),
        .caps = (how & 8 ? WIRE_CAP_AUTO_WINDOW | WIRE_CAP_TRAILERS | WIRE_CAP_NAMES : 0) |
                (temper & 0x20 && !(how & 4) ? WIRE_CAP_STREAM_RESUME : 0),
        .resume_grace_ms = 5000,
    };
    r->session.credit = r->cfg.session_window;
    for (size_t i = 0; i < IDS; i++)
        r->flows[i].credit = r->cfg.stream_window;
    for (unsigned i = 0; i < LINKS; i++) {
        r->links[i].rig = r;
        r->links[i].in = malloc(WIRE_LIMIT_MAX_MESSAGE + 200);
        if (!r->links[i].in)
            abort();
    }
    make_link(r, 0);
    if (!(how & 0x80))
        shake_hands(r, 0);
}

static void finish(struct rig *r) {
    for (unsigned i = 0; i < r->n_records; i++)
        release(&r->records[i]);
    mux_session_destroy(&r->s);
    for (unsigned i = 0; i < LINKS; i++) {
        mux_link_destroy(&r->links[i].l);
        free(r->links[i].in);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static size_t live = SIZE_MAX;
    struct fuzz_in in = {data, data + size};
    struct rig *r = &room;
    if (live == SIZE_MAX)
        live = ht_mem_live();
    uint8_t how = fuzz_u8(&in);
    start(r, how, fuzz_u8(&in));
    for (unsigned i = 0; i < 600 && fuzz_left(&in); i++) {
        operation(r, &in);
        check_streams(r);
    }
    check_credit(r);
    finish(r);
    /* The decoder's room of peer_frame() stays. */
    size_t now = ht_mem_live();
    FUZZ_CHECK(now >= live && now <= live + 1);
    return 0;
}
