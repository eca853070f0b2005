/*
 * The text of records. tests/kit/records/1.txt is what the first version has written, and every later one reads it.
 * HT_UPDATE_GOLDEN=1 writes it when it is not there.
 */
#include "base/mem.h"
#include "kit/bounds.h"
#include "kit/records.h"
#include "support/tap.h"

#include <stdio.h>
#include <stdlib.h>

#define FIXTURE "tests/kit/records/1.txt"
#define DIGEST "0123456789abcdef0123456789abcdef"

static const struct restart_message lines[] = {
    {.type = RESTART_SESSION,
     .session = {"S-00000000-0000-4000-8000-000000000001", 38},
     .token = {DIGEST, 32},
     .client = {DIGEST, 32},
     .driver = {"shop", 4},
     .peer = {"192.0.2.1:40000", 15},
     .version = 1,
     .next_stream = 2048,
     .next_bind = 4,
     .until = 1900000000123},
    {.type = RESTART_BINDING,
     .bind_id = 1,
     .kind = 1,
     .mode = 1,
     .port = 30000,
     .address = {"127.0.0.1", 9},
     .since = 1899999000,
     .label = {"a \"label\" \xc3\xa9", 12},
     .name = {"app", 3}},
    {.type = RESTART_HOSTNAME, .text = {"app.example.com", 15}},
    {.type = RESTART_HOSTNAME, .text = {"www.example.com", 15}},
    {.type = RESTART_BINDING,
     .bind_id = 3,
     .kind = 2,
     .mode = 2,
     .port = 40000,
     .address = {"::1", 3},
     .since = 1899999001},
    {.type = RESTART_NAMED, .text = {"*.corp.example:*", 16}},
    {.type = RESTART_CA, .text = {"-----BEGIN CERTIFICATE-----\nMII=\n-----END CERTIFICATE-----\n", 59}},
    {.type = RESTART_SESSION,
     .session = {"S-00000000-0000-4000-8000-000000000002", 38},
     .version = 2,
     .next_stream = 2,
     .next_bind = 1},
};

static int write_lines(const struct restart_message *m, size_t n, struct ht_buf *out) {
    struct records_writer w = {.lines = 0};
    struct restart_message head = {.seq = 7, .saved = 1899999999999, .program = ht_slice_str("hoody-tunnel/1.0.0")};
    for (size_t i = 0; i < n; i++)
        records_add(&w, &m[i]);
    return records_finish(&w, &head, out);
}

static bool same(const struct restart_message *a, const struct restart_message *b) {
    return a->type == b->type && ht_slice_eq(a->session, b->session) && ht_slice_eq(a->token, b->token) &&
           ht_slice_eq(a->client, b->client) && ht_slice_eq(a->driver, b->driver) && ht_slice_eq(a->peer, b->peer) &&
           a->version == b->version && a->next_stream == b->next_stream && a->next_bind == b->next_bind &&
           a->until == b->until && a->bind_id == b->bind_id && a->kind == b->kind && a->mode == b->mode &&
           a->port == b->port && ht_slice_eq(a->address, b->address) && a->since == b->since &&
           ht_slice_eq(a->label, b->label) && ht_slice_eq(a->name, b->name) && ht_slice_eq(a->text, b->text);
}

/* Whether the text says what `lines` say. */
static bool says_the_same(struct ht_slice text) {
    struct records r;
    struct ht_errmsg err;
    struct restart_message m;
    bool good = records_open(&r, text, &err) == HT_OK && r.head.seq == 7 && r.head.saved == 1899999999999 &&
                r.head.count == HT_ARRAY_LEN(lines) && ht_slice_is(r.head.program, "hoody-tunnel/1.0.0");
    for (size_t i = 0; good && i < HT_ARRAY_LEN(lines); i++)
        good = records_next(&r, &m) && same(&m, &lines[i]);
    good = good && !records_next(&r, &m);
    records_free(&r);
    return good;
}

static void what_is_written_is_read(void) {
    struct ht_buf out = {0};
    CU_ASSERT_EQUAL(write_lines(lines, HT_ARRAY_LEN(lines), &out), HT_OK);
    CU_ASSERT(says_the_same(ht_buf_slice(&out)));
    ht_buf_free(&out);
    CU_ASSERT_EQUAL(write_lines(NULL, 0, &out), HT_OK);
    struct records r;
    struct ht_errmsg err;
    struct restart_message m;
    CU_ASSERT_EQUAL(records_open(&r, ht_buf_slice(&out), &err), HT_OK);
    CU_ASSERT_FALSE(records_next(&r, &m));
    records_free(&r);
    ht_buf_free(&out);
}

static size_t read_file(const char *path, char *out, size_t cap) {
    FILE *f = fopen(path, "rb");
    size_t n = f ? fread(out, 1, cap, f) : 0;
    if (f)
        fclose(f);
    return n;
}

static void the_first_version_is_read(void) {
    static char text[8192];
    size_t n = read_file(FIXTURE, text, sizeof text);
    if (n == 0 && getenv("HT_UPDATE_GOLDEN")) {
        struct ht_buf out = {0};
        FILE *f = fopen(FIXTURE, "wb");
        CU_ASSERT_EQUAL(write_lines(lines, HT_ARRAY_LEN(lines), &out), HT_OK);
        CU_ASSERT(f && fwrite(ht_buf_head(&out), 1, ht_buf_size(&out), f) == ht_buf_size(&out));
        if (f)
            fclose(f);
        ht_buf_free(&out);
        n = read_file(FIXTURE, text, sizeof text);
    }
    CU_ASSERT(n > 0);
    CU_ASSERT(says_the_same(ht_slice_of(text, n)));
}

/* Refused, or it says the same. */
static bool harmless(struct ht_slice text, struct ht_errmsg *err) {
    struct records r;
    int rc = records_open(&r, text, err);
    records_free(&r);
    return rc == HT_EPROTO || rc == HT_ELIMIT || says_the_same(text);
}

static void every_cut_and_every_flipped_bit(void) {
    struct ht_buf out = {0};
    struct ht_errmsg err;
    CU_ASSERT_EQUAL(write_lines(lines, HT_ARRAY_LEN(lines), &out), HT_OK);
    size_t n = ht_buf_size(&out);
    char *copy = malloc(n + 1);
    for (size_t cut = 0; cut < n; cut++) {
        char *piece = malloc(cut ? cut : 1); /* so that a read behind its end is seen */
        memcpy(piece, ht_buf_head(&out), cut);
        struct records r;
        CU_ASSERT_EQUAL(records_open(&r, ht_slice_of(piece, cut), &err), HT_EPROTO);
        records_free(&r);
        free(piece);
    }
    unsigned read_right = 0;
    for (size_t i = 0; i < n; i++)
        for (int bit = 0; bit < 8; bit++) {
            memcpy(copy, ht_buf_head(&out), n);
            copy[i] = (char)(copy[i] ^ 1 << bit);
            CU_ASSERT(harmless(ht_slice_of(copy, n), &err));
            read_right += says_the_same(ht_slice_of(copy, n));
        }
    CU_ASSERT_EQUAL(read_right, 0);
    memcpy(copy, ht_buf_head(&out), n);
    copy[n] = '\n';
    struct records r;
    CU_ASSERT_EQUAL(records_open(&r, ht_slice_of(copy, n + 1), &err), HT_EPROTO);
    CU_ASSERT_PTR_NOT_NULL(strstr(err.text, "behind their end"));
    records_free(&r);
    free(copy);
    ht_buf_free(&out);
}

/* With the right length and hash, so that only the lines themselves are wrong. */
static int open_body(const char *body, struct ht_errmsg *err) {
    char text[4096];
    struct records r;
    uint64_t h = HT_HASH;
    for (const char *p = body; *p; p++)
        h = ht_hash_char(h, *p);
    int n = snprintf(text, sizeof text, "hoody-tunnel-records 1 %016llx %zu\n%s", (unsigned long long)h, strlen(body),
                     body);
    int rc = records_open(&r, ht_slice_of(text, (size_t)n), err);
    struct restart_message m;
    while (rc == HT_OK && records_next(&r, &m))
        ;
    records_free(&r);
    return rc;
}

#define HEAD(count) "{\"type\":\"records\",\"format\":1,\"count\":" #count "}\n"
#define SESSION "{\"type\":\"session\",\"session\":\"S-1\",\"next_stream\":2,\"next_bind\":1}\n"
#define BINDING "{\"type\":\"binding\",\"bind_id\":1,\"kind\":1,\"mode\":1}\n"
#define NAMED "{\"type\":\"named\",\"text\":\"a\"}\n"
#define CA "{\"type\":\"ca\",\"text\":\"a\"}\n"

static void lines_in_wrong_places(void) {
    static const char *const good[] = {
        HEAD(0),
        HEAD(1) SESSION,
        HEAD(2) SESSION SESSION,
        HEAD(6) SESSION BINDING BINDING NAMED NAMED CA,
        HEAD(5) SESSION BINDING CA NAMED SESSION,
        HEAD(1) "{\"session\":\"S-1\",\"unknown\":[1],\"next_bind\":1,\"next_stream\":2,\"type\":\"session\"}\n",
    };
    static const char *const bad[] = {
        "",
        "\n",
        SESSION,
        HEAD(1) BINDING,
        HEAD(2) SESSION NAMED,
        HEAD(2) SESSION CA,
        HEAD(4) SESSION BINDING CA CA,
        HEAD(1) HEAD(0),
        HEAD(1),
        HEAD(2) SESSION,
        HEAD(0) SESSION,
        HEAD(1) SESSION SESSION,
        HEAD(1) "{\"type\":\"session\",\"next_stream\":2,\"next_bind\":1}\n",
        HEAD(1) "{\"type\":\"session\",\"session\":\"S-1\",\"next_stream\":3,\"next_bind\":1}\n",
        HEAD(1) "{\"type\":\"session\",\"session\":\"S-1\",\"next_stream\":0,\"next_bind\":1}\n",
        HEAD(1) "{\"type\":\"session\",\"session\":\"S-1\",\"next_stream\":2}\n",
        HEAD(1) "{\"type\":\"session\",\"session\":\"S-1\",\"next_stream\":2,\"next_bind\":1,\"token\":\"YWJj\"}\n",
        HEAD(1) "{\"type\":\"session\",\"session\":\"S-1\",\"next_stream\":2,\"next_bind\":1,\"client\":\"?\"}\n",
        HEAD(2) SESSION "{\"type\":\"binding\",\"kind\":1,\"mode\":1}\n",
        HEAD(2) SESSION "{\"type\":\"binding\",\"bind_id\":1,\"mode\":1}\n",
        HEAD(2) SESSION "{\"type\":\"binding\",\"bind_id\":1,\"kind\":1,\"mode\":1,\"port\":65536}\n",
        HEAD(3) SESSION BINDING "{\"type\":\"named\"}\n",
        HEAD(1) "{\"type\":\"hello\",\"format\":1}\n",
        HEAD(1) "{\"type\":\"go\"}\n",
        HEAD(1) "{\"type\":\"mood\"}\n",
        HEAD(1) "session\n",
        HEAD(1) "{\"type\":\"session\",\"session\":\"S-1\",\"next_stream\":2,\"next_bind\":1}",
        "{\"type\":\"records\",\"format\":2,\"count\":0}\n",
        "{\"type\":\"records\",\"count\":0}\n",
    };
    struct ht_errmsg err;
    for (size_t i = 0; i < HT_ARRAY_LEN(good); i++)
        CU_ASSERT_EQUAL(open_body(good[i], &err), HT_OK);
    for (size_t i = 0; i < HT_ARRAY_LEN(bad); i++) {
        CU_ASSERT_EQUAL(open_body(bad[i], &err), HT_EPROTO);
        CU_ASSERT(strncmp(err.text, "damaged: ", 9) == 0);
    }
}

/* Whatever follows the number. */
static void a_newer_format_is_refused_in_words(void) {
    static const char *const newer[] = {
        "hoody-tunnel-records 2 0000000000000000 0\n",
        "hoody-tunnel-records 7 sha256:whatever\nnot lines at all",
        "hoody-tunnel-records 1000000000000 \n",
    };
    static const char *const broken[] = {
        "hoody-tunnel-records 0 0000000000000000 0\n",
        "hoody-tunnel-records 01 0000000000000000 0\n",
        "hoody-tunnel-records  2 0000000000000000 0\n",
        "hoody-tunnel-records -2 0000000000000000 0\n",
        "hoody-tunnel-records 2 0000000000000000 0",
        "hoody-tunnel-records 99999999999999999999 0\n",
        "hoody-tunnel-records\n",
        "hoody-tunnel-records 1 cbf29ce484222325 0 \n",
    };
    struct records r;
    struct ht_errmsg err;
    for (size_t i = 0; i < HT_ARRAY_LEN(newer); i++) {
        CU_ASSERT_EQUAL(records_open(&r, ht_slice_str(newer[i]), &err), HT_ELIMIT);
        CU_ASSERT_PTR_NOT_NULL(strstr(err.text, "a newer version of hoody-tunnel has written them"));
        records_free(&r);
    }
    for (size_t i = 0; i < HT_ARRAY_LEN(broken); i++) {
        CU_ASSERT_EQUAL(records_open(&r, ht_slice_str(broken[i]), &err), HT_EPROTO);
        records_free(&r);
    }
}

static void each_allocation_may_fail(void) {
    struct ht_buf out = {0};
    struct records r;
    struct ht_errmsg err;
    size_t before = ht_mem_live();
    bool done = false;
    for (long i = 0; i < 100 && !done; i++) {
        ht_mem_fail_at(i);
        int rc = write_lines(lines, HT_ARRAY_LEN(lines), &out);
        done = ht_mem_fail_pending();
        ht_mem_fail_at(-1);
        CU_ASSERT_EQUAL(rc, done ? HT_OK : HT_ENOMEM);
        if (!done)
            ht_buf_free(&out);
    }
    CU_ASSERT(done);
    done = false;
    for (long i = 0; i < 100 && !done; i++) {
        ht_mem_fail_at(i);
        int rc = records_open(&r, ht_buf_slice(&out), &err);
        done = ht_mem_fail_pending();
        ht_mem_fail_at(-1);
        CU_ASSERT_EQUAL(rc, done ? HT_OK : HT_ENOMEM);
        records_free(&r);
    }
    CU_ASSERT(done);
    ht_buf_free(&out);
    CU_ASSERT_EQUAL(ht_mem_live(), before);
}

static void what_cannot_be_written(void) {
    static char text[9000];
    struct ht_buf out = {0};
    memset(text, 'x', sizeof text);
    struct restart_message bad = {.type = RESTART_CA, .text = {text, sizeof text}};
    CU_ASSERT_EQUAL(write_lines(&bad, 1, &out), HT_EINVAL);
    bad = (struct restart_message){.type = RESTART_UNKNOWN};
    CU_ASSERT_EQUAL(write_lines(&bad, 1, &out), HT_EINVAL);
    CU_ASSERT_EQUAL(ht_buf_size(&out), 0);
}

/* ---- how much they are ---- */

#define LABEL 127 /* bytes of a label (spec/restart.yaml) */
#define TWICE(x) x x
#define LONG TWICE(TWICE(TWICE(TWICE(TWICE(TWICE("0123456789abcdef")))))) /* 1024 characters */

static void add_long_binding(struct records_writer *w, const struct opt_serve *o, uint32_t id) {
    static char label[LABEL + 1], ca[WIRE_LIMIT_MAX_CA + 1];
    memset(label, 1, LABEL); /* six characters each */
    for (size_t i = 0; i < WIRE_LIMIT_MAX_CA; i++)
        ca[i] = i % 65 == 64 ? '\n' : 'A';
    records_add(w, &(struct restart_message){.type = RESTART_BINDING,
                                             .bind_id = UINT32_MAX - id,
                                             .kind = 2,
                                             .mode = 2,
                                             .port = 65535,
                                             .address = ht_slice_of(LONG, 45),
                                             .since = INT32_MAX,
                                             .label = ht_slice_str(label),
                                             .name = ht_slice_of(LONG, 63)});
    for (unsigned i = 0; i < WIRE_LIMIT_MAX_HOSTNAMES; i++)
        records_add(w, &(struct restart_message){.type = RESTART_HOSTNAME, .text = {LONG, WIRE_LIMIT_NAME_HOST}});
    for (unsigned i = 0; id == 0 && i < o->max_names_per_session; i++)
        records_add(w, &(struct restart_message){.type = RESTART_NAMED, .text = {LONG, WIRE_LIMIT_NAME_TEXT}});
    records_add(w, &(struct restart_message){.type = RESTART_CA, .text = ht_slice_str(ca)});
}

static void the_longest_are_within_their_bound(void) {
    const struct opt_serve o = {.max_sessions = 4, .max_bindings_per_session = 5, .max_names_per_session = 30};
    struct records_writer w = {.lines = 0};
    struct restart_message head = {.seq = INT64_C(1) << 52, .saved = INT64_C(1) << 52, .program = {LONG, 64}};
    struct ht_buf out = {0};
    struct ht_errmsg err = {""};
    struct records r;
    size_t text = kit_bound_record_text(&o);
    for (unsigned s = 0; s < 2 * o.max_sessions; s++) {
        records_add(&w, &(struct restart_message){.type = RESTART_SESSION,
                                                  .session = ht_slice_of(LONG, 38),
                                                  .token = ht_slice_of(LONG, 32),
                                                  .client = ht_slice_of(LONG, 32),
                                                  .driver = ht_slice_of(LONG, 63),
                                                  .peer = ht_slice_of(LONG, 64),
                                                  .version = 2,
                                                  .next_stream = UINT32_MAX - 1,
                                                  .next_bind = UINT32_MAX,
                                                  .until = INT64_C(1) << 52});
        for (unsigned b = 0; b < o.max_bindings_per_session; b++)
            add_long_binding(&w, &o, b);
    }
    size_t memory = w.body.cap;
    CU_ASSERT_EQUAL_FATAL(records_finish(&w, &head, &out), HT_OK);
    memory += out.cap;
    printf("# %zu bytes of text, and at most %zu; %zu of memory, and at most %zu\n", ht_buf_size(&out), text, memory,
           kit_bound_records(&o));
    CU_ASSERT(ht_buf_size(&out) <= text && ht_buf_size(&out) > text / 2);
    CU_ASSERT(memory <= kit_bound_records(&o));
    CU_ASSERT_EQUAL(records_open(&r, ht_buf_slice(&out), &err), HT_OK);
    records_free(&r);
    ht_buf_free(&out);
}

int main(void) {
    static const struct tap_test tests[] = {
        {"what is written is read", what_is_written_is_read},
        {"the first version is read", the_first_version_is_read},
        {"every cut and every flipped bit", every_cut_and_every_flipped_bit},
        {"lines in wrong places", lines_in_wrong_places},
        {"a newer format is refused in words", a_newer_format_is_refused_in_words},
        {"each allocation may fail", each_allocation_may_fail},
        {"what cannot be written", what_cannot_be_written},
        {"the longest records are within their bound", the_longest_are_within_their_bound},
        {NULL, NULL},
    };
    return tap_main("records of sessions", tests);
}
