/*
 * The generated vectors of the text wire through the C codec, in blocks of exactly their size; JSONTestSuite through
 * it; and what the encoder refuses.
 *
 * To see it fail: let decode_base64() in src/wire/text.c take what ht_base64_get() refuses, or leave out json_end().
 */
#include "json_suite.h"
#include "support/tap.h"
#include "vtunnel_gen.h"

#include <cjson/cJSON.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static cJSON *doc;

static const char *text(const cJSON *of, const char *name) {
    const cJSON *item = cJSON_GetObjectItemCaseSensitive(of, name);
    return cJSON_IsString(item) ? item->valuestring : NULL;
}

static unsigned nibble(char c) { return (unsigned)(c <= '9' ? c - '0' : c - 'a' + 10); }

struct bytes {
    uint8_t *p;
    size_t n;
};

/* A block of its own, without a byte to spare. */
static struct bytes unhex(const char *hex) {
    struct bytes b = {malloc(strlen(hex) / 2 + (*hex == '\0')), 0};
    for (; hex[0] && hex[1]; hex += 2)
        b.p[b.n++] = (uint8_t)(nibble(hex[0]) << 4 | nibble(hex[1]));
    return b;
}

struct run {
    struct bytes in, arena;
    struct vtunnel_message m;
    struct wire_text_error err;
    int rc;
};

static void begin(struct run *r, const uint8_t *p, size_t n, unsigned sender) {
    memset(r, 0, sizeof *r);
    r->in = (struct bytes){malloc(n ? n : 1), n};
    memcpy(r->in.p, p, n);
    bool escapes = n && memchr(p, '\\', n);
    r->arena = (struct bytes){malloc(escapes ? n : 1), escapes ? n : 0};
    struct json_arena arena = {(char *)r->arena.p, 0, r->arena.n};
    r->rc = wire_text_decode(&vtunnel_spec, sender, r->in.p, r->in.n, &arena, &r->m, &r->err);
}

static void end(struct run *r) {
    free(r->in.p);
    free(r->arena.p);
}

static bool same_slice(struct ht_slice s, const char *want) {
    return want ? s.n == strlen(want) && memcmp(s.p, want, s.n) == 0 : s.n == 0;
}

static bool same_message(const struct vtunnel_message *m, const cJSON *want) {
    const cJSON *port = cJSON_GetObjectItemCaseSensitive(want, "port"),
                *id = cJSON_GetObjectItemCaseSensitive(want, "stream_id");
    struct bytes data = unhex(text(want, "data") ? text(want, "data") : "");
    bool same = strcmp(vtunnel_type_name(m->type), text(want, "type")) == 0 &&
                m->port == (port ? (int64_t)port->valuedouble : 0) &&
                m->stream_id == (id ? (uint32_t)id->valuedouble : 0) && same_slice(m->error, text(want, "error")) &&
                same_slice(m->local_addr, text(want, "local_addr")) && m->data.n == data.n &&
                (data.n == 0 || memcmp(m->data.p, data.p, data.n) == 0);
    free(data.p);
    return same;
}

/* The message written again, in every room up to what it needs. */
static bool same_canonical(const struct vtunnel_message *m, const char *hex) {
    struct bytes want = unhex(hex);
    bool same = true;
    for (size_t cap = want.n > 40 ? want.n - 40 : 0; cap <= want.n + 1; cap++) {
        uint8_t *out = malloc(cap ? cap : 1);
        int n = wire_text_encode(&vtunnel_spec, m, out, cap);
        same = same && (cap < want.n ? n == HT_ESPACE : n == (int)want.n && memcmp(out, want.p, want.n) == 0);
        free(out);
    }
    free(want.p);
    return same;
}

static void check(const cJSON *v) {
    struct bytes in = unhex(text(v, "hex"));
    const cJSON *want = cJSON_GetObjectItemCaseSensitive(v, "message"),
                *stream = cJSON_GetObjectItemCaseSensitive(v, "stream");
    unsigned sender = strcmp(text(v, "sender"), "client") == 0 ? VTUNNEL_ROLE_CLIENT : VTUNNEL_ROLE_SERVER;
    struct run r;
    begin(&r, in.p, in.n, sender);
    bool good;
    if (want)
        good = r.rc == 0 && same_message(&r.m, want) && same_canonical(&r.m, text(v, "canonical"));
    else
        good =
            r.rc == HT_EPROTO && strcmp(r.err.rule, text(v, "error")) == 0 && r.err.text[0] != '\0' &&
            (stream ? r.m.type != VTUNNEL_UNKNOWN && r.m.stream_id == (uint32_t)stream->valuedouble && r.m.data.n == 0
                    : r.m.type == VTUNNEL_UNKNOWN);
    if (!good)
        printf("# %s: %d %s %s\n", text(v, "id"), r.rc, r.err.rule ? r.err.rule : "", r.err.text);
    CU_ASSERT(good);
    end(&r);
    free(in.p);
}

static void each_vector(void) {
    const cJSON *v;
    cJSON_ArrayForEach(v, cJSON_GetObjectItemCaseSensitive(doc, "vectors")) check(v);
}

static void every_message_has_enough(void) {
    for (unsigned type = 1; type <= VTUNNEL_N_TYPES; type++) {
        unsigned good = 0, bad = 0;
        const char *name = vtunnel_type_name((enum vtunnel_type)type);
        const cJSON *v;
        cJSON_ArrayForEach(v, cJSON_GetObjectItemCaseSensitive(doc, "vectors")) {
            const cJSON *m = cJSON_GetObjectItemCaseSensitive(v, "message");
            good += m && strcmp(text(m, "type"), name) == 0;
            bad += !m && strncmp(text(v, "id"), name, strlen(name)) == 0;
        }
        CU_ASSERT(good >= 6);
        CU_ASSERT(bad >= 1 || vtunnel_spec.messages[type - 1].senders == 3);
    }
}

/* Cut anywhere, a message is none. */
static void a_prefix_is_no_message(void) {
    static const char whole[] = "{\"type\":\"data\",\"stream_id\":42,\"data\":\"aGVsbG8gd29ybGQ=\"}";
    for (size_t n = 0; n < sizeof whole - 1; n++) {
        struct run r;
        begin(&r, (const uint8_t *)whole, n, VTUNNEL_ROLE_CLIENT);
        CU_ASSERT_EQUAL(r.rc, HT_EPROTO);
        end(&r);
    }
}

static void an_arena_that_is_too_small(void) {
    char copy[] = "{\"type\":\"listen\",\"local_addr\":\"a\\u0041b\"}";
    struct json_arena none = {0};
    struct vtunnel_message m;
    struct wire_text_error err;
    CU_ASSERT_EQUAL(
        wire_text_decode(&vtunnel_spec, VTUNNEL_ROLE_CLIENT, (uint8_t *)copy, sizeof copy - 1, &none, &m, &err),
        HT_ENOMEM);
}

static void what_is_not_written(void) {
    static char big[VTUNNEL_LIMIT_MAX_MESSAGE];
    uint8_t out[64];
    const struct vtunnel_message bad[] = {
        {.type = VTUNNEL_UNKNOWN},
        {.type = (enum vtunnel_type)(VTUNNEL_N_TYPES + 1)},
        {.type = VTUNNEL_LISTEN, .port = (int64_t)1 << 40},
        {.type = VTUNNEL_LISTEN, .local_addr = ht_slice_of("\xff", 1)},
        {.type = VTUNNEL_LISTEN, .local_addr = ht_slice_of("\0", 1)},
        {.type = VTUNNEL_DATA, .data = ht_slice_of(big, sizeof big)},
        {.type = VTUNNEL_LISTEN_ERR, .error = ht_slice_of(big, 2000)},
    };
    for (size_t i = 0; i < HT_ARRAY_LEN(bad); i++)
        CU_ASSERT(wire_text_encode(&vtunnel_spec, &bad[i], out, sizeof out) < 0);
}

/* ---- JSONTestSuite: as the value of a key that nobody knows, and as the whole message ---- */

static bool twice(const char *name) { return strncmp(name, "object_duplicated_key", 21) == 0; }

static int as_value(const char *p, size_t n) {
    static const char before[] = "{\"type\":\"ping\",\"x\":", behind[] = "}";
    char *all = malloc(sizeof before + n + sizeof behind);
    memcpy(all, before, sizeof before - 1);
    memcpy(all + sizeof before - 1, p, n);
    memcpy(all + sizeof before - 1 + n, behind, 1);
    struct run r;
    begin(&r, (uint8_t *)all, sizeof before + n, VTUNNEL_ROLE_CLIENT);
    int rc = r.rc;
    end(&r);
    free(all);
    return rc;
}

static int as_message(const char *p, size_t n) {
    struct run r;
    begin(&r, (const uint8_t *)p, n, VTUNNEL_ROLE_CLIENT);
    int rc = r.rc;
    end(&r);
    return rc;
}

/* Texts that become good ones inside an object. */
static bool closes_something(const struct json_suite_text *t) {
    return t->n && (t->text[0] == '}' || t->text[0] == ']');
}

static void the_suite(void) {
    for (size_t i = 0; i < HT_ARRAY_LEN(json_suite); i++) {
        const struct json_suite_text *t = &json_suite[i];
        int rc = as_value(t->text, t->n);
        if (t->kind == 'y' && !twice(t->name) && rc != 0) {
            printf("# %s: %d\n", t->name, rc);
            CU_FAIL("a good text was refused");
        }
        /* A comma and a bracket may continue what stands around it. */
        if (t->kind == 'n' && rc == 0 && !closes_something(t) && !memchr(t->text, ',', t->n)) {
            printf("# %s was taken\n", t->name);
            CU_FAIL("a bad text was taken");
        }
        CU_ASSERT_EQUAL(as_message(t->text, t->n), HT_EPROTO); /* none of them is one of ours */
    }
}

static cJSON *load(void) {
    char path[512];
    const char *w = getenv("W");
    (void)snprintf(path, sizeof path, "%s/gen/vtunnel_vectors.json", w ? w : "build");
    FILE *f = fopen(path, "rb");
    if (!f)
        return NULL;
    (void)fseek(f, 0, SEEK_END);
    size_t n = (size_t)ftell(f);
    rewind(f);
    char *all = malloc(n + 1);
    cJSON *out = fread(all, 1, n, f) == n ? cJSON_ParseWithLength(all, n) : NULL;
    free(all);
    (void)fclose(f);
    return out;
}

int main(void) {
    static const struct tap_test tests[] = {
        {"each vector is decoded and encoded as it says", each_vector},
        {"every message has good and bad vectors", every_message_has_enough},
        {"a message that is cut anywhere is refused", a_prefix_is_no_message},
        {"a small arena is an error, not an overflow", an_arena_that_is_too_small},
        {"values out of bounds are not written", what_is_not_written},
        {"JSONTestSuite", the_suite},
        {NULL, NULL},
    };
    doc = load();
    if (!doc) {
        puts("not ok 1 - vtunnel_vectors.json can be read\n1..1");
        return 1;
    }
    int status = tap_main("text_vectors", tests);
    cJSON_Delete(doc);
    return status;
}
