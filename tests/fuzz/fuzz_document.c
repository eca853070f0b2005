/*
 * Documents of the edge's store: any bytes are a document, or none; its parts are JSON values with good names, each
 * once; a change gives a document that is one again, with the parts that it should have.
 *
 * Input: the file of a document, a NUL, the new value of a part.
 */
#include "edge/state_priv.h"
#include "fuzz.h"
#include "json/json.h"

static struct edge_doc *parse(struct ht_slice text, int *rc) {
    struct edge_doc *d = NULL;
    size_t at = 0;
    char *copy = ht_strndup(text.n ? text.p : "", text.n);
    FUZZ_CHECK(copy);
    *rc = edge_doc_parse(&d, "some-id", copy, text.n, &at);
    FUZZ_CHECK((*rc == HT_OK) == (d != NULL) && (d || (*rc == HT_EPROTO && at <= text.n)));
    return d;
}

static void look(const struct edge_doc *d) {
    struct json_error bad;
    FUZZ_CHECK(edge_doc_version(d) > 0 && edge_doc_version(d) < EDGE_ANY_VERSION);
    FUZZ_CHECK(edge_doc_parts(d) > 0 && edge_doc_parts(d) <= EDGE_PARTS_MAX);
    for (size_t i = 0; i < edge_doc_parts(d); i++) {
        const char *name = edge_doc_part_name(d, i);
        struct ht_slice value = edge_doc_part(d, name);
        FUZZ_CHECK(strspn(name, "abcdefghijklmnopqrstuvwxyz_") == strlen(name) && *name);
        FUZZ_CHECK(value.p && json_validate(value.p, value.n, NULL, &bad) == 0);
        for (size_t k = 0; k < i; k++)
            FUZZ_CHECK(strcmp(edge_doc_part_name(d, k), name) != 0);
    }
}

/* White space around a value does not belong to it. */
static struct ht_slice bare(struct ht_slice s) {
    while (s.n && strchr(" \t\r\n", s.p[0]))
        s = ht_slice_of(s.p + 1, s.n - 1);
    while (s.n && strchr(" \t\r\n", s.p[s.n - 1]))
        s.n--;
    return s;
}

/* A part that is new, or has another value, or goes. */
static void change(const struct edge_doc *d, const char *part, struct ht_slice value) {
    struct edge_change c = {.part = part, .value = value};
    struct edge_doc *now = NULL;
    struct ht_errmsg err = {""};
    int rc = edge_change_check(EDGE_CONTAINER, "some-id", &c, 1, &err);
    if (rc == HT_OK)
        rc = edge_doc_make(&now, "some-id", d, &c, 1, edge_doc_version(d) + 1, &err);
    FUZZ_CHECK(rc >= 0 || err.text[0]);
    if (!now) /* it was refused, or has no part left */
        return;
    look(now);
    FUZZ_CHECK(edge_doc_version(now) == edge_doc_version(d) + 1);
    FUZZ_CHECK(value.p ? ht_slice_eq(edge_doc_part(now, part), bare(value)) : !edge_doc_part(now, part).p);
    for (size_t i = 0; i < edge_doc_parts(d); i++) {
        const char *other = edge_doc_part_name(d, i);
        FUZZ_CHECK(strcmp(other, part) == 0 || ht_slice_eq(edge_doc_part(now, other), edge_doc_part(d, other)));
    }
    struct edge_doc *again = parse(ht_slice_str(now->text), &rc);
    FUZZ_CHECK(again && edge_doc_parts(again) == edge_doc_parts(now));
    edge_doc_free(again);
    edge_doc_free(now);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    const uint8_t *nul = size ? memchr(data, '\0', size) : NULL;
    size_t n = nul ? (size_t)(nul - data) : size, live = ht_mem_live();
    if (size > 20000)
        return 0;
    int rc;
    char *value = fuzz_copy(nul ? nul + 1 : data + n, size - n - (nul ? 1 : 0));
    struct edge_doc *d = parse(ht_slice_of(data, n), &rc);
    if (d) {
        char first[EDGE_PART_NAME_MAX + 1];
        snprintf(first, sizeof first, "%s", edge_doc_part_name(d, 0));
        look(d);
        if (edge_doc_version(d) < EDGE_ANY_VERSION - 1) {
            change(d, first, ht_slice_of(value, size - n - (nul ? 1 : 0)));
            change(d, "another", ht_slice_of(value, size - n - (nul ? 1 : 0)));
            change(d, first, ht_slice_of(NULL, 0));
        }
    }
    edge_doc_free(d);
    free(value);
    FUZZ_CHECK(ht_mem_live() == live);
    return 0;
}
