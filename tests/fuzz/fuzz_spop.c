/*
 * SPOP: any bytes are frames or are refused, the same however they are cut; what a frame holds is inside it; and the
 * agent answers each question with one frame that can be read, or ends the connection, and lets nobody in whom the
 * permissions do not.
 *
 * Input: a byte that says where it is cut, then what HAProxy sends.
 */
#include "base/log.h"
#include "edge/gate.h"
#include "edge/spop.h"
#include "fuzz.h"

#include <fcntl.h>

#define CONTAINER "67e89abc123def456789abcd-890abcdef12345678901cdef"
#define TOKEN "0123456789abcdef"
static const char document[] =
    "{\"groups\":{\"a\":{\"type\":\"token\",\"value\":\"" TOKEN "\"},\"b\":{\"type\":\"token\","
    "\"value\":\"" TOKEN "\",\"param\":\"k\"},\"c\":{\"type\":\"token\",\"value\":\"" TOKEN
    "\",\"cookie\":\"k\"}},\"permissions\":{\"a\":{\"*\":true},\"b\":{\"*\":true},"
    "\"c\":{\"*\":true}}}";

static bool inside(struct ht_slice part, struct ht_slice whole) {
    return part.n == 0 || (part.p >= whole.p && part.p + part.n <= whole.p + whole.n);
}

/* All that a payload may be, to its end. */
static uint64_t read_payload(struct ht_slice payload, uint64_t hash) {
    struct ht_slice rest = payload, name;
    struct spop_value v;
    struct spop_hello hello;
    enum spop_status why;
    unsigned n;
    int rc;
    while ((rc = spop_next_pair(&rest, &name, &v)) > 0) {
        FUZZ_CHECK(inside(name, payload) && inside(v.bytes, payload) && inside(rest, payload));
        FUZZ_CHECK(v.kind != SPOP_ADDRESS || v.bytes.n == 4 || v.bytes.n == 16);
        hash = fuzz_hash_u32(hash, (uint32_t)v.number + (uint32_t)v.kind);
    }
    FUZZ_CHECK(rc == HT_EPROTO || rest.n == 0);
    rest = payload;
    while ((rc = spop_next_message(&rest, &name, &n)) > 0) {
        FUZZ_CHECK(n <= 255 && inside(name, payload));
        while (n > 0 && spop_next_pair(&rest, &name, &v) > 0)
            n--;
    }
    rc = spop_hello_read(payload, &hello, &why);
    FUZZ_CHECK(rc == HT_EPROTO ||
               (why == SPOP_NORMAL && hello.max_frame >= SPOP_FRAME_MIN && hello.max_frame <= SPOP_FRAME_MAX));
    return hash;
}

/* What all frames are, read from buffers of exactly what has come. */
static uint64_t read_all(const uint8_t *data, size_t size, size_t step) {
    uint64_t hash = FUZZ_HASH;
    size_t done = 0;
    for (size_t have = ht_min(step, size);; have = ht_min(have + step, size)) {
        struct spop_frame f;
        enum spop_status why;
        ssize_t n;
        void *copy = fuzz_copy(data + done, have - done);
        while ((n = spop_frame_read(ht_slice_of(copy, have - done), SPOP_FRAME_MAX, &f, &why)) > 0) {
            FUZZ_CHECK((size_t)n <= have - done && n <= (ssize_t)SPOP_FRAME_MAX + 4);
            hash = fuzz_hash_u32(read_payload(f.payload, hash), (uint32_t)f.stream + f.type);
            done += (size_t)n;
            free(copy);
            copy = fuzz_copy(data + done, have - done);
        }
        free(copy);
        if (n == HT_EPROTO)
            return fuzz_hash_u32(hash, why);
        if (have == size)
            return hash;
    }
}

/* ---- the agent ---- */

static struct io_loop *loop;
static struct edge_policies *policies;
static struct edge_hooktable *hooks;
static struct edge_maps *maps;

static void prepare(void) {
    struct ht_errmsg err;
    ht_log_setup(open("/dev/null", O_WRONLY | O_CLOEXEC), HT_LOG_ERROR, HT_LOG_TEXT);
    loop = io_loop_create();
    maps = edge_maps_create(loop, "/nonexistent", NULL);
    policies = edge_policies_create(maps);
    hooks = edge_hooktable_create(maps);
    edge_maps_hold(maps);
    FUZZ_CHECK(edge_policies_set(policies, EDGE_OF_CONTAINER, CONTAINER + 25, ht_slice_str(document), &err) == HT_OK);
}

static void turn(void) { io_loop_turn(loop, false); }

/* An answer that lets somebody in is only for who has shown the token, or for another container. */
static void look_at(struct ht_slice said, bool shown) {
    struct spop_frame f;
    enum spop_status why;
    ssize_t n;
    while ((n = spop_frame_read(said, SPOP_FRAME_MAX, &f, &why)) > 0) {
        FUZZ_CHECK(f.type == SPOP_AGENT_HELLO || f.type == SPOP_ACK || f.type == SPOP_AGENT_DISCONNECT);
        bool allowed = f.type == SPOP_ACK && memmem(f.payload.p, f.payload.n, "\5allow", 6) &&
                       !memmem(f.payload.p, f.payload.n, "\4open", 5);
        FUZZ_CHECK(!allowed || shown);
        said = ht_slice_of(said.p + n, said.n - (size_t)n);
    }
    FUZZ_CHECK(said.n == 0);
}

static void ask(const uint8_t *data, size_t size, size_t first) {
    struct edge_gate *gate = edge_gate_create(loop, policies, hooks);
    struct io_conn *both[2];
    static uint8_t out[1 << 18];
    size_t n = 0;
    ssize_t got;
    bool shown = memmem(data, size, TOKEN, sizeof TOKEN - 1) || memchr(data, '%', size);
    FUZZ_CHECK(gate && io_conn_pair(loop, both) == HT_OK);
    edge_gate_accept(gate, both[1]);
    struct iovec v[2] = {{(void *)(uintptr_t)data, first}, {(void *)(uintptr_t)(data + first), size - first}};
    for (int i = 0; i < 2; i++) {
        if (v[i].iov_len)
            (void)!io_conn_write(both[0], &v[i], 1);
        turn();
        turn();
    }
    while (n < sizeof out && (got = io_conn_read(both[0], out + n, sizeof out - n)) > 0)
        n += (size_t)got;
    if (n < sizeof out)
        look_at(ht_slice_of(out, n), shown);
    io_conn_close(&both[0]);
    turn();
    edge_gate_destroy(&gate);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    if (!loop)
        prepare();
    if (size < 1 || size > 60000)
        return 0;
    size_t cut = data[0];
    data++;
    size--;
    uint64_t whole = read_all(data, size, size ? size : 1);
    FUZZ_CHECK(read_all(data, size, cut + 1) == whole);
    size_t live = ht_mem_live();
    ask(data, size, ht_min(cut, size));
    FUZZ_CHECK(ht_mem_live() <= live);
    return 0;
}
