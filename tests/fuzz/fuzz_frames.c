/*
 * The assembler of frames: a message gives the same frames and the same verdict however it is cut, and both are those
 * of a plain walk over the whole message.
 *
 * Input: role and state, how many 256-byte pieces of payload are appended (two bytes), the message.
 */
#include "fuzz.h"
#include "wire/bytes.h"
#include "wire/frames.h"

struct trace {
    struct wire_asm *a; /* NULL: the walk, which keeps `state` itself */
    enum wire_link_state state;
    bool moves; /* the owner changes the state as the handshake goes on */
    uint64_t hash;
    unsigned frames;
    uint32_t data_left;
};

static void move_on(struct trace *t, uint8_t type) {
    enum wire_link_state to;
    if (type == WIRE_GOAWAY)
        to = WIRE_LINK_CLOSING;
    else if (type == WIRE_HELLO || type == WIRE_HELLO_OK || type == WIRE_JOIN || type == WIRE_JOIN_OK)
        to = WIRE_LINK_OPEN;
    else
        return;
    if (!t->moves)
        return;
    if (t->a)
        t->a->state = to;
    t->state = to;
}

static int on_frame(void *ctx, uint8_t type, uint32_t stream_id, const uint8_t *payload, size_t len) {
    struct trace *t = ctx;
    FUZZ_CHECK(type != WIRE_DATA && wire_frame_rule(type) && t->data_left == 0);
    t->frames++;
    t->hash = fuzz_hash_u32(fuzz_hash_u32(fuzz_hash_u32(t->hash, type), stream_id), (uint32_t)len);
    t->hash = fuzz_hash(t->hash, payload, len);
    move_on(t, type);
    return 0;
}

static int on_data(void *ctx, uint32_t stream_id, const uint8_t *chunk, size_t n, uint32_t frame_len, bool first) {
    struct trace *t = ctx;
    FUZZ_CHECK(frame_len <= WIRE_LIMIT_MAX_PAYLOAD);
    FUZZ_CHECK(first == (t->data_left == 0));
    if (first) {
        t->frames++;
        t->data_left = frame_len;
        t->hash = fuzz_hash_u32(fuzz_hash_u32(fuzz_hash_u32(t->hash, WIRE_DATA), stream_id), frame_len);
    }
    FUZZ_CHECK(n <= t->data_left && (n > 0 || frame_len == 0));
    t->data_left -= (uint32_t)n;
    t->hash = fuzz_hash(t->hash, chunk, n);
    return 0;
}

/* What the message means, read in one go. False: it breaks a rule. */
static bool walk(struct trace *t, enum wire_role role, const uint8_t *p, size_t n) {
    unsigned frames = 0;
    if (n > WIRE_LIMIT_MAX_MESSAGE || n == 0)
        return false;
    for (size_t at = 0; at < n;) {
        if (++frames > WIRE_LIMIT_MAX_FRAMES || n - at < WIRE_LIMIT_HEADER)
            return false;
        uint32_t id = wire_get32(p + at + 1), len = wire_get32(p + at + 5);
        int rc = wire_check_rx(role, t->state, p[at], id, len, NULL);
        if (rc < 0)
            return false;
        const uint8_t *payload = p + at + WIRE_LIMIT_HEADER;
        size_t have = ht_min(len, n - at - WIRE_LIMIT_HEADER);
        if (rc == 0 && p[at] == WIRE_DATA && (have > 0 || len == 0)) {
            (void)on_data(t, id, payload, have, len, true);
        } else if (rc == 0 && p[at] != WIRE_DATA && have == len) {
            (void)on_frame(t, p[at], id, payload, len);
        }
        if (have < len)
            return false;
        at += WIRE_LIMIT_HEADER + len;
    }
    return true;
}

struct cuts {
    size_t every, at; /* `every` bytes each; 0: one cut at `at` */
    uint32_t seed;    /* not 0: at random places */
};

static size_t next_end(struct cuts *c, size_t have, size_t n) {
    size_t end = n;
    if (c->seed)
        end = have + 1 + fuzz_next(&c->seed) % (n - have);
    else if (c->every)
        end = have + c->every;
    else if (have < c->at)
        end = c->at;
    return ht_min(end, n);
}

static bool feed(struct trace *t, struct wire_asm *a, const uint8_t *p, size_t n, struct cuts c) {
    static const struct wire_asm_ops ops = {on_frame, on_data};
    struct wire_error err = {.rule = NULL};
    size_t off = 0, have = 0;
    do {
        have = next_end(&c, have, n);
        uint8_t *copy = fuzz_copy(p + off, have - off);
        ssize_t used = wire_asm_feed(a, copy, have - off, have == n, &ops, t, &err);
        free(copy);
        if (used < 0) {
            FUZZ_CHECK(used == HT_EPROTO && err.rule && err.text[0] && memchr(err.text, 0, sizeof err.text));
            FUZZ_CHECK(err.scope == WIRE_SCOPE_SESSION);
            return false;
        }
        FUZZ_CHECK((size_t)used <= have - off);
        off += (size_t)used;
        FUZZ_CHECK(have - off < WIRE_LIMIT_HEADER + WIRE_LIMIT_MAX_PAYLOAD); /* what must be stored is bounded */
    } while (have < n);
    FUZZ_CHECK(off == n && t->data_left == 0);
    return true;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct fuzz_in in = {data, data + size};
    uint8_t how = fuzz_u8(&in);
    size_t pad = fuzz_u16(&in) % 1200 * 256, given = fuzz_left(&in), n = given + pad;
    enum wire_role role = how & 1 ? WIRE_ROLE_DRIVER : WIRE_ROLE_KIT;
    struct trace start = {.state = (enum wire_link_state)((how >> 1) % 5), .moves = how & 0x80, .hash = FUZZ_HASH};
    uint8_t *m = malloc(n + 1);
    if (!m)
        abort();
    if (given)
        memcpy(m, in.p, given);
    memset(m + given, 'x', pad);

    struct trace whole = start;
    bool good = walk(&whole, role, m, n);
    size_t splits = n <= 300 ? n + 3 : 6;
    for (size_t i = 0; i < splits; i++) {
        struct wire_asm a = {.role = role, .state = start.state, .caps = ~0u};
        struct trace t = start;
        t.a = &a;
        struct cuts c = {.at = i - 1};
        if (i == 0)
            c.at = n;
        else if (n > 300)
            c.seed = (uint32_t)i + how;
        else if (i == 1)
            c = (struct cuts){.every = 1};
        FUZZ_CHECK(feed(&t, &a, m, n, c) == good);
        if (n <= WIRE_LIMIT_MAX_MESSAGE)
            FUZZ_CHECK(t.hash == whole.hash && t.frames == whole.frames);
    }
    free(m);
    return 0;
}
