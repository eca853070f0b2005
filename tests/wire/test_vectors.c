/* The generated vectors through the C codec: whole, byte by byte, and in two pieces split at each position. */
#include "base/mem.h"
#include "support/tap.h"
#include "wire/bytes.h"
#include "wire/frames.h"

#include <cjson/cJSON.h>
#include <stdio.h>
#include <stdlib.h>

struct bytes {
    uint8_t *p;
    size_t n;
};

static cJSON *doc;
static struct wire_scratch *scratch;

static cJSON *field(const cJSON *of, const char *name) { return cJSON_GetObjectItemCaseSensitive(of, name); }
static const char *text(const cJSON *of, const char *name) {
    const cJSON *item = field(of, name);
    return cJSON_IsString(item) ? item->valuestring : NULL;
}

static unsigned nibble(char c) { return (unsigned)(c <= '9' ? c - '0' : c - 'a' + 10); }

static void unhex(struct bytes *b, const char *hex) {
    for (; hex && hex[0] && hex[1]; hex += 2)
        b->p[b->n++] = (uint8_t)(nibble(hex[0]) << 4 | nibble(hex[1]));
}

/* The message of a vector; the caller frees p. */
static struct bytes message_of(const cJSON *v) {
    const char *prefix = text(v, "prefix"), *hex = text(v, "hex");
    int repeat = prefix ? field(v, "repeat")->valueint : 0;
    struct bytes b = {malloc((prefix ? strlen(prefix) / 2 * (size_t)repeat : 0) + strlen(hex) / 2 + 1), 0};
    for (int i = 0; i < repeat; i++)
        unhex(&b, prefix);
    unhex(&b, hex);
    return b;
}

static enum wire_link_state state_of(const char *name) {
    for (int i = 0; i < 32; i++)
        if (strcmp(wire_link_state_name((enum wire_link_state)i), name) == 0)
            return (enum wire_link_state)i;
    CU_FAIL_FATAL("unknown state in a vector");
    return WIRE_LINK_OPEN;
}

/* One run of one vector. */
struct run {
    const cJSON *want; /* the next expected frame, NULL behind the last */
    bool mismatch;
    uint8_t *data; /* DATA so far */
    size_t data_n;
    struct wire_error *err;
};

static bool same_hex(const char *hex, const uint8_t *p, size_t n) {
    if (strlen(hex) != 2 * n)
        return false;
    for (size_t i = 0; i < n; i++)
        if ((nibble(hex[2 * i]) << 4 | nibble(hex[2 * i + 1])) != p[i])
            return false;
    return true;
}

static void expect_frame(struct run *r, bool good) {
    if (!good)
        r->mismatch = true;
    if (r->want)
        r->want = r->want->next;
}

static bool is_next(const struct run *r, uint8_t type, uint32_t stream_id) {
    return r->want && field(r->want, "type")->valueint == type && field(r->want, "stream")->valuedouble == stream_id;
}

static int on_frame(void *ctx, uint8_t type, uint32_t stream_id, const uint8_t *payload, size_t len) {
    static uint8_t out[WIRE_LIMIT_HEADER + WIRE_LIMIT_MAX_PAYLOAD];
    struct run *r = ctx;
    union wire_any value;
    int rc = wire_decode_any(type, payload, len, scratch, &value, r->err);
    if (rc != 0)
        return rc;
    int n = wire_encode_any(out, sizeof out, type, stream_id, &value);
    const char *canonical = r->want ? text(r->want, "canonical") : NULL;
    bool good = is_next(r, type, stream_id);
    if (canonical)
        good = good && n >= (int)WIRE_LIMIT_HEADER && wire_get32(out + 1) == stream_id && out[0] == type &&
               same_hex(canonical, out + WIRE_LIMIT_HEADER, (size_t)n - WIRE_LIMIT_HEADER);
    else
        good = good && n == HT_EINVAL;
    expect_frame(r, good);
    return 0;
}

static int on_data(void *ctx, uint32_t stream_id, const uint8_t *chunk, size_t n, uint32_t frame_len, bool first) {
    struct run *r = ctx;
    if (first != (r->data_n == 0) || (n == 0) != (frame_len == 0) || r->data_n + n > frame_len)
        r->mismatch = true;
    memcpy(r->data + r->data_n, chunk, n);
    r->data_n += n;
    if (r->data_n == frame_len) {
        const char *value = r->want ? text(r->want, "value") : NULL;
        expect_frame(r, is_next(r, WIRE_DATA, stream_id) && value && same_hex(value, r->data, r->data_n));
        r->data_n = 0;
    }
    return 0;
}

static const struct wire_asm_ops ops = {on_frame, on_data};

/* Presents bytes from `off` to `upto`, in a block of their own so that a sanitizer sees every step too far. */
static ssize_t present(struct wire_asm *a, const struct bytes *m, size_t off, size_t upto, struct run *r) {
    size_t n = upto - off;
    uint8_t *copy = malloc(n ? n : 1);
    memcpy(copy, m->p + off, n);
    ssize_t rc = wire_asm_feed(a, copy, n, upto == m->n, &ops, r, r->err);
    free(copy);
    return rc;
}

static bool same_error(const cJSON *want, const struct wire_error *e) {
    static const char *const scopes[] = {"stream", "session", "reply"};
    return want && strcmp(text(want, "rule"), e->rule) == 0 && strcmp(text(want, "scope"), scopes[e->scope]) == 0 &&
           strcmp(text(want, "code"), wire_code_name(e->code)) == 0 && field(want, "close")->valueint == e->ws_close &&
           e->text[0] != '\0';
}

/* Feeds a message in pieces that end at ends[0..n); says what went wrong. */
static bool check(const cJSON *v, const struct bytes *m, const size_t *ends, size_t n_ends) {
    static uint8_t data[WIRE_LIMIT_MAX_PAYLOAD];
    struct wire_error err = {.rule = "none"};
    const cJSON *frames = field(v, "frames");
    struct run r = {.want = frames ? frames->child : NULL, .data = data, .err = &err};
    struct wire_asm a = {.role = strcmp(text(v, "receiver"), "kit") == 0 ? WIRE_ROLE_KIT : WIRE_ROLE_DRIVER,
                         .state = state_of(text(v, "state")),
                         .caps = ~0u};
    size_t off = 0;
    ssize_t rc = 0;
    for (size_t i = 0; i < n_ends && rc >= 0; i++) {
        rc = present(&a, m, off, ends[i], &r);
        off += rc > 0 ? (size_t)rc : 0;
    }
    bool good = rc < 0 ? same_error(field(v, "error"), &err) : frames && !r.want && !r.mismatch && off == m->n;
    if (!good)
        printf("# %s: %s %s %s (off %zu of %zu)\n", text(v, "id"), rc < 0 ? err.rule : "accepted",
               rc < 0 ? err.text : "", r.mismatch ? "another frame than expected" : "", off, m->n);
    return good;
}

static void fed_whole(void) {
    const cJSON *v;
    unsigned count = 0;
    cJSON_ArrayForEach(v, field(doc, "vectors")) {
        struct bytes m = message_of(v);
        CU_ASSERT(check(v, &m, &m.n, 1));
        free(m.p);
        count++;
    }
    CU_ASSERT(count > 23 * 8);
}

static void fed_byte_by_byte(void) {
    const cJSON *v;
    cJSON_ArrayForEach(v, field(doc, "vectors")) {
        struct bytes m = message_of(v);
        size_t *ends = malloc((m.n + 1) * sizeof *ends), n = 0;
        /* Of long messages every byte would be a copy of all before it: bigger steps there. */
        size_t step = m.n > 4096 ? 997 : 1;
        for (size_t at = step; at < m.n; at += step)
            ends[n++] = at;
        ends[n++] = m.n;
        CU_ASSERT(check(v, &m, ends, n));
        free(ends);
        free(m.p);
    }
}

static void split_at_each_position(void) {
    const cJSON *v;
    cJSON_ArrayForEach(v, field(doc, "vectors")) {
        struct bytes m = message_of(v);
        size_t step = m.n > 200 ? m.n / 50 : 1;
        for (size_t at = 0; at <= m.n; at += step) {
            size_t ends[] = {at, m.n};
            if (at == m.n && m.n > 0)
                break;
            if (!check(v, &m, ends, 2)) {
                CU_FAIL("split at some position");
                break;
            }
        }
        free(m.p);
    }
}

static void every_frame_has_enough(void) {
    for (unsigned type = 0; type < 256; type++) {
        const struct wire_frame_rule *f = wire_frame_rule((uint8_t)type);
        unsigned good = 0, bad = 0;
        const cJSON *v;
        if (!f)
            continue;
        cJSON_ArrayForEach(v, field(doc, "vectors")) {
            const char *id = text(v, "id");
            size_t n = strlen(f->name);
            if (strncmp(id, f->name, n) == 0 && id[n] == '/') {
                good += strncmp(id + n, "/good/", 6) == 0;
                bad += strncmp(id + n, "/bad/", 5) == 0;
            }
        }
        CU_ASSERT(good >= 3);
        CU_ASSERT(bad >= 5);
    }
}

static cJSON *load(void) {
    char path[512];
    const char *w = getenv("W");
    (void)snprintf(path, sizeof path, "%s/gen/vectors.json", w ? w : "build");
    FILE *f = fopen(path, "rb");
    if (!f)
        return NULL;
    (void)fseek(f, 0, SEEK_END);
    size_t n = (size_t)ftell(f);
    rewind(f);
    char *all = malloc(n + 1);
    cJSON *out = all && fread(all, 1, n, f) == n ? cJSON_ParseWithLength(all, n) : NULL;
    free(all);
    (void)fclose(f);
    return out;
}

int main(void) {
    static const struct tap_test tests[] = {
        {"each vector fed whole", fed_whole},
        {"each vector fed byte by byte", fed_byte_by_byte},
        {"each vector split at each position", split_at_each_position},
        {"at least 3 good and 5 bad vectors for each frame", every_frame_has_enough},
        {NULL, NULL},
    };
    doc = load();
    scratch = wire_scratch_create();
    if (!doc || !scratch) {
        puts("not ok 1 - vectors.json can be read\n1..1");
        return 1;
    }
    int status = tap_main("vectors", tests);
    wire_scratch_destroy(&scratch);
    cJSON_Delete(doc);
    return status;
}
