/*
 * JSONTestSuite wherever JSON comes in (hardening case 17): the validator itself, every frame that carries JSON, and
 * the validator as those set it that build a tree behind it (answers of the admin API, events).
 *
 * Two must-accept texts have a key twice. RFC 8259 section 4 leaves that to the reader, the suite wants it taken, this
 * protocol refuses it: two readers that take different ones of the two are how checks are passed by.
 *
 * To see it fail: let digits() in src/json/json.c take a leading zero, or leave out the call of json_end() in a
 * generated decoder (gen/templates/wire_gen.c.j2).
 */
#include "json_suite.h"
#include "support/tap.h"
#include "wire/bytes.h"
#include "wire/frames.h"
#include "json/json.h"

#include <cjson/cJSON.h>
#include <stdio.h>
#include <stdlib.h>

/* What a caller that builds a tree of NUL-terminated strings asks for. */
static const struct json_limits for_trees = {16, JSON_MAX_KEYS, true};

static bool twice(const struct json_suite_text *t) { return strncmp(t->name, "object_duplicated_key", 21) == 0; }

static bool has_nul(const struct json_suite_text *t) {
    const char *p = memmem(t->text, t->n, "\\u0000", 6);
    return p && p[-1] != '\\';
}

/* A block of its own for each text, so that a sanitizer sees every step too far. */
static int validate(const char *text, size_t n, const struct json_limits *limits, struct json_error *err) {
    char *copy = malloc(n ? n : 1);
    memcpy(copy, text, n);
    int rc = json_validate(copy, n, limits, err);
    free(copy);
    return rc;
}

static char *repeated(const char *piece, size_t times, size_t *n) {
    size_t len = strlen(piece);
    char *text = malloc(len * times);
    for (size_t i = 0; i < times; i++)
        memcpy(text + i * len, piece, len);
    *n = len * times;
    return text;
}

static void the_suite_is_whole(void) {
    unsigned y = 0, n = 0;
    for (size_t i = 0; i < HT_ARRAY_LEN(json_suite); i++) {
        y += json_suite[i].kind == 'y';
        n += json_suite[i].kind == 'n';
    }
    CU_ASSERT_EQUAL(y, 95);
    CU_ASSERT_EQUAL(n + HT_ARRAY_LEN(json_suite_repeated), 188);
}

static void the_validator_agrees(void) {
    const struct json_limits *limits[] = {NULL, &for_trees};
    for (size_t k = 0; k < HT_ARRAY_LEN(limits); k++) {
        unsigned wrong = 0;
        for (size_t i = 0; i < HT_ARRAY_LEN(json_suite); i++) {
            const struct json_suite_text *t = &json_suite[i];
            struct json_error err = {JSON_OK, 0};
            int rc = validate(t->text, t->n, limits[k], &err);
            bool good = t->kind == 'i' || (rc == 0) == (t->kind == 'y');
            if (t->kind == 'y' && twice(t))
                good = rc < 0 && err.reason == JSON_DUPLICATE;
            else if (t->kind == 'y' && limits[k] && has_nul(t))
                good = rc < 0 && err.reason == JSON_NUL;
            if (!good)
                printf("# %c_%s: %d, %s at %zu\n", t->kind, t->name, rc, json_reason_text(err.reason), err.offset);
            wrong += !good;
        }
        for (size_t i = 0; i < HT_ARRAY_LEN(json_suite_repeated); i++) {
            size_t n;
            char *text = repeated(json_suite_repeated[i].piece, json_suite_repeated[i].times, &n);
            wrong += validate(text, n, limits[k], NULL) == 0;
            free(text);
        }
        CU_ASSERT_EQUAL(wrong, 0);
    }
}

/* What passes the validator for trees, cJSON reads; and no string of it lost its end. */
static void a_tree_behind_the_validator_is_whole(void) {
    for (size_t i = 0; i < HT_ARRAY_LEN(json_suite); i++) {
        const struct json_suite_text *t = &json_suite[i];
        if (validate(t->text, t->n, &for_trees, NULL) < 0)
            continue;
        const char *end = NULL;
        cJSON *tree = cJSON_ParseWithLengthOpts(t->text, t->n, &end, 0);
        if (!tree)
            printf("# %c_%s\n", t->kind, t->name);
        CU_ASSERT_PTR_NOT_NULL(tree);
        cJSON_Delete(tree);
    }
}

/* ---- frames ---- */

struct base {
    uint8_t type;
    char text[4096];
    size_t n;
};

static struct base bases[64];
static size_t n_bases;

static unsigned nibble(char c) { return (unsigned)(c <= '9' ? c - '0' : c - 'a' + 10); }

/* One good document for each type of frame that has one, from the generated vectors. */
static void take_base(const cJSON *frame) {
    const cJSON *type = cJSON_GetObjectItemCaseSensitive(frame, "type");
    const char *hex = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(frame, "canonical"));
    if (!hex || strncmp(hex, "7b", 2) != 0 || strlen(hex) / 2 > sizeof bases[0].text || n_bases == HT_ARRAY_LEN(bases))
        return;
    for (size_t i = 0; i < n_bases; i++)
        if (bases[i].type == type->valueint)
            return;
    struct base *b = &bases[n_bases++];
    b->type = (uint8_t)type->valueint;
    for (b->n = 0; hex[2 * b->n]; b->n++)
        b->text[b->n] = (char)(nibble(hex[2 * b->n]) << 4 | nibble(hex[2 * b->n + 1]));
}

static void load_bases(const char *path) {
    FILE *f = fopen(path, "r");
    if (!f)
        return;
    fseek(f, 0, SEEK_END);
    size_t n = (size_t)ftell(f);
    rewind(f);
    char *text = malloc(n + 1);
    n = fread(text, 1, n, f);
    fclose(f);
    cJSON *doc = cJSON_ParseWithLength(text, n);
    free(text);
    const cJSON *v, *frame;
    cJSON_ArrayForEach(v, cJSON_GetObjectItemCaseSensitive(doc, "vectors"))
        cJSON_ArrayForEach(frame, cJSON_GetObjectItemCaseSensitive(v, "frames")) take_base(frame);
    cJSON_Delete(doc);
}

static struct wire_scratch *scratch;

static int decode(uint8_t type, const char *text, size_t n, struct wire_error *err) {
    union wire_any any;
    uint8_t *copy = malloc(n ? n : 1);
    memcpy(copy, text, n);
    int rc = wire_decode_any(type, copy, n, scratch, &any, err);
    free(copy);
    return rc;
}

/* The base with one more member that nobody knows: rule ids aside, only the JSON of its value can be wrong. */
static size_t with_member(const struct base *b, const struct json_suite_text *t, char *out) {
    bool empty = b->n == 2;
    size_t n = b->n - 1;
    memcpy(out, b->text, n);
    n += (size_t)sprintf(out + n, "%s\"zz-suite\":", empty ? "" : ",");
    memcpy(out + n, t->text, t->n);
    out[n + t->n] = '}';
    return n + t->n + 1;
}

static void every_frame_agrees(void) {
    static char text[16384];
    scratch = wire_scratch_create();
    CU_ASSERT_PTR_NOT_NULL_FATAL(scratch);
    CU_ASSERT_FATAL(n_bases >= 15);
    for (size_t k = 0; k < n_bases; k++) {
        const struct base *b = &bases[k];
        unsigned wrong = 0, tried = 0;
        struct wire_error err = {0};
        CU_ASSERT_EQUAL(decode(b->type, b->text, b->n, &err), 0);
        for (size_t i = 0; i < HT_ARRAY_LEN(json_suite); i++) {
            const struct json_suite_text *t = &json_suite[i];
            if (t->kind == 'i')
                continue;
            size_t n = with_member(b, t, text);
            int inside = decode(b->type, text, n, &err);
            bool good = t->kind == 'y' && !twice(t) ? inside == 0 : inside == HT_EPROTO && err.rule && err.text[0];
            /* The whole payload; an accepted text may still lack what the frame needs. */
            int whole = decode(b->type, t->text, t->n, &err);
            good = good && (t->kind == 'y' || (whole == HT_EPROTO && err.rule && err.text[0]));
            if (!good)
                printf("# %s, %c_%s: %d inside, %d as a whole\n", wire_frame_name(b->type), t->kind, t->name, inside,
                       whole);
            wrong += !good;
            tried++;
        }
        CU_ASSERT_EQUAL(wrong, 0);
        CU_ASSERT_EQUAL(tried, 95 + 188 - HT_ARRAY_LEN(json_suite_repeated));
    }
    wire_scratch_destroy(&scratch);
    printf("# %zu kinds of frames\n", n_bases);
}

int main(void) {
    static const struct tap_test tests[] = {
        {"the whole test suite is there", the_suite_is_whole},
        {"the validator agrees", the_validator_agrees},
        {"a tree of a valid text is complete", a_tree_behind_the_validator_is_whole},
        {"every frame agrees", every_frame_agrees},
        {NULL, NULL},
    };
    const char *w = getenv("W");
    char path[4096];
    (void)snprintf(path, sizeof path, "%s/gen/vectors.json", w ? w : "build");
    load_bases(path);
    return tap_main("JSONTestSuite", tests);
}
