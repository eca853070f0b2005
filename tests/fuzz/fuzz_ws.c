/*
 * An open WebSocket of either side, fed any bytes in any pieces, beside a plain reading of RFC 6455: the same messages
 * are handed up, the same close code goes out, and the end is told once.
 *
 * Input: side and limits (one byte), a seed for the pieces (one byte), the bytes.
 */
#include "base/utf8.h"
#include "fuzz.h"
#include "wire/bytes.h"
#include "ws/ws.h"

#include <errno.h>
#include <sys/socket.h>
#include <unistd.h>

#define MOST 8192

/* ---- the plain reading ---- */

struct reading {
    uint64_t messages; /* hash of lengths and bytes */
    unsigned n_messages, n_pings;
    uint16_t sent;        /* close code that we owe for a violation; 0: none */
    bool closed;          /* the peer's close frame came, and was good */
    uint16_t closed_code; /* 1005: without a code */
    uint8_t message[MOST];
    size_t n;
};

static bool close_code_valid(uint16_t code) {
    return (code >= 1000 && code <= 1003) || (code >= 1007 && code <= 1014) || (code >= 3000 && code <= 4999);
}

/* RFC 6455 7.4.1, 5.5.1, 8.1. */
static void read_close(struct reading *r, const uint8_t *p, size_t n) {
    uint16_t code = n >= 2 ? (uint16_t)wire_get16(p) : 1005;
    if (n > 2 && !ht_utf8_valid(p + 2, n - 2))
        r->sent = 1007; /* first: where both are wrong, either may be said */
    else if (n >= 2 && !close_code_valid(code))
        r->sent = 1002;
    else
        r->closed = true;
    r->closed_code = code;
}

static uint16_t header_wrong(uint8_t b0, uint8_t b1, bool server, bool in_message) {
    uint8_t opcode = b0 & 15;
    bool control = opcode >= 8;
    if (b0 & 0x70 || opcode > 10 || (opcode > 2 && opcode < 8) || !!(b1 & 0x80) != server)
        return 1002;
    if (control)
        return !(b0 & 0x80) || (b1 & 0x7f) > 125 || (opcode == 8 && (b1 & 0x7f) == 1) ? 1002 : 0;
    if ((opcode == 0) != in_message)
        return 1002;
    return opcode == 1 ? 1003 : 0;
}

static void read_all(struct reading *r, const uint8_t *p, size_t n, bool server, const struct ws_limits *limits) {
    size_t at = 0;
    uint64_t size = 0;
    unsigned fragments = 0;
    bool in_message = false;
    while (n - at >= 2 && !r->sent && !r->closed) {
        uint8_t b0 = p[at], b1 = p[at + 1], opcode = b0 & 15, mask[4] = {0};
        size_t extended = (b1 & 0x7f) == 126 ? 2 : (b1 & 0x7f) == 127 ? 8 : 0;
        uint64_t len = b1 & 0x7f;
        if ((r->sent = header_wrong(b0, b1, server, in_message)) || n - at < 2 + extended + (server ? 4u : 0u))
            return;
        at += 2;
        if (extended)
            len = 0;
        for (size_t i = 0; i < extended; i++)
            len = len << 8 | p[at++];
        if ((extended == 2 && len < 126) || (extended == 8 && (len < 65536 || len >> 63))) {
            r->sent = 1002;
            return;
        }
        if (server)
            memcpy(mask, p + at, 4);
        at += server ? 4 : 0;
        size_t have = (size_t)(len < n - at ? len : n - at);
        uint8_t payload[MOST];
        for (size_t i = 0; i < have; i++)
            payload[i] = p[at + i] ^ mask[i & 3];
        if (opcode >= 8) {
            if (have < len)
                return;
            at += have;
            r->n_pings += opcode == 9;
            if (opcode == 8)
                read_close(r, payload, have);
            continue;
        }
        if (opcode)
            size = fragments = 0, r->n = 0;
        in_message = true;
        if (++fragments > limits->max_fragments)
            r->sent = 1008;
        else if (len > limits->max_message || size + len > limits->max_message)
            r->sent = 1009;
        if (r->sent)
            return;
        size += len;
        memcpy(r->message + r->n, payload, have);
        r->n += have;
        at += have;
        if (have == len && b0 & 0x80) {
            in_message = false;
            r->n_messages++;
            r->messages = fuzz_hash(fuzz_hash_u32(r->messages, (uint32_t)r->n), r->message, r->n);
        }
    }
}

/* ---- the real one ---- */

struct end {
    struct ws_conn *w;
    uint64_t messages;
    unsigned n_messages, closes;
    uint16_t code;
    bool greedy; /* consumes as it comes */
    uint32_t seed;
    uint8_t part[MOST];
    size_t part_n;
};

static ssize_t on_message(void *ctx, uint8_t *p, size_t n, bool end) {
    struct end *e = ctx;
    FUZZ_CHECK(e->closes == 0);
    size_t take = end ? n : e->greedy ? fuzz_next(&e->seed) % (n + 1) : 0;
    FUZZ_CHECK(e->part_n + take <= sizeof e->part);
    if (take)
        memcpy(e->part + e->part_n, p, take);
    e->part_n += take;
    memset(p, 0xee, take); /* what was consumed is ours */
    if (end) {
        e->n_messages++;
        e->messages = fuzz_hash(fuzz_hash_u32(e->messages, (uint32_t)e->part_n), e->part, e->part_n);
        e->part_n = 0;
    }
    return (ssize_t)take;
}

static void on_fed(void *ctx) { (void)ctx; }

static size_t on_pull(void *ctx, uint8_t *out, size_t cap) {
    (void)ctx, (void)out, (void)cap;
    return 0;
}

static void on_closed(void *ctx, uint16_t code, struct ht_slice reason, bool local) {
    struct end *e = ctx;
    (void)local;
    FUZZ_CHECK(++e->closes == 1);
    e->code = code;
    for (size_t i = 0; i < reason.n; i++)
        FUZZ_CHECK((unsigned char)reason.p[i] >= ' ' && reason.p[i] != 0x7f);
}

static const struct ws_ops ops = {on_message, on_fed, on_pull, on_closed};

static size_t drain(int fd, uint8_t *out, size_t n) {
    ssize_t got;
    while (n < MOST && (got = recv(fd, out + n, MOST - n, MSG_DONTWAIT)) > 0)
        n += (size_t)got;
    return n;
}

/* What the real one sent: PONGs and at most one close frame, last. Returns its code; 0: none. */
static uint16_t check_output(const uint8_t *p, size_t n, bool server, unsigned pings) {
    unsigned pongs = 0;
    uint16_t code = 0;
    for (size_t at = 0; at < n;) {
        FUZZ_CHECK(n - at >= 2 && (p[at] == 0x8a || p[at] == 0x88) && code == 0);
        size_t len = p[at + 1] & 0x7f, head = server ? 2 : 6;
        FUZZ_CHECK(!!(p[at + 1] & 0x80) == !server && len <= 125 && n - at >= head + len);
        pongs += p[at] == 0x8a;
        if (p[at] == 0x88) {
            uint8_t b[2] = {0, 0};
            for (size_t i = 0; i < 2 && len >= 2; i++)
                b[i] = p[at + head + i] ^ (server ? 0 : p[at + 2 + i]);
            code = len >= 2 ? (uint16_t)wire_get16(b) : 1005;
        }
        at += head + len;
    }
    FUZZ_CHECK(pongs <= pings);
    return code;
}

static void run(const uint8_t *p, size_t n, bool server, const struct ws_limits *limits, uint32_t seed,
                const struct reading *want) {
    static struct io_loop *loop;
    static struct end e;
    static uint8_t output[MOST];
    int fd[2];
    if (!loop) {
        io_ignore_sigpipe();
        loop = io_loop_create();
    }
    FUZZ_CHECK(loop && socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fd) == 0);
    e = (struct end){.messages = FUZZ_HASH, .greedy = seed & 1, .seed = seed};
    size_t early = seed % 3 == 0 ? ht_min(n, fuzz_next(&seed) % 64) : 0, got = 0;
    struct io_conn *c = io_conn_adopt(loop, fd[0], NULL, NULL);
    FUZZ_CHECK(c);
    e.w = ws_conn_create(loop, c, server ? WS_SERVER : WS_CLIENT, limits, ht_slice_of(p, early), &ops, &e);
    FUZZ_CHECK(e.w);
    for (size_t at = early; at < n && !e.closes;) {
        size_t piece = ht_min(n - at, seed & 1 ? n : 1 + fuzz_next(&seed) % 200);
        ssize_t done = send(fd[1], p + at, piece, MSG_NOSIGNAL);
        if (done < 0 && errno != EAGAIN)
            break; /* it has gone already */
        at += done > 0 ? (size_t)done : 0;
        io_loop_turn(loop, false);
        got = drain(fd[1], output, got);
    }
    (void)shutdown(fd[1], SHUT_WR);
    for (int i = 0; i < 50 && !e.closes; i++) {
        io_loop_turn(loop, false);
        got = drain(fd[1], output, got);
    }
    got = drain(fd[1], output, got);
    FUZZ_CHECK(e.closes == 1 && !ws_conn_io(e.w));
    FUZZ_CHECK(e.n_messages == want->n_messages && e.messages == want->messages);
    uint16_t sent = got < MOST ? check_output(output, got, server, want->n_pings) : 0;
    if (want->sent)
        FUZZ_CHECK((sent == want->sent || got >= MOST) && e.code == 1006);
    else if (want->closed)
        /* The end of the input in the same turn as the close frame leaves nobody to answer. */
        FUZZ_CHECK((sent == want->closed_code || got >= MOST || (early && sent == 0)) && e.code == want->closed_code);
    else
        FUZZ_CHECK(sent == 0 && e.code == 1006);
    ws_conn_destroy(&e.w);
    close(fd[1]);
    for (int i = 0; i < 3; i++)
        io_loop_turn(loop, false); /* a lingering connection sees the end */
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static const size_t messages[] = {262144, 300, 70, 0};
    static const unsigned fragments[] = {64, 3, 2, 1};
    static struct reading want;
    struct fuzz_in in = {data, data + size};
    uint8_t how = fuzz_u8(&in), seed = fuzz_u8(&in);
    struct ws_limits limits = {messages[(how >> 1) & 3], fragments[(how >> 3) & 3], 262144};
    size_t n = ht_min(fuzz_left(&in), MOST);
    bool server = !(how & 1);
    memset(&want, 0, offsetof(struct reading, message));
    want.n = 0;
    want.messages = FUZZ_HASH;
    read_all(&want, in.p, n, server, &limits);
    run(in.p, n, server, &limits, 2u * seed + 1, &want); /* all at once */
    run(in.p, n, server, &limits, 2u * seed + 2, &want);
    return 0;
}
