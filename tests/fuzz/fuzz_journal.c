/*
 * The journal of the edge's store: what was put into it comes out as it was; when a byte of it is another one, or its
 * end is missing, what stood before comes out and nothing else; and any bytes at all are read without harm.
 *
 * Input: where a byte changes and by how much, or where it ends (three bytes), then records: kind, length of the id,
 * length of the text (two bytes), and the texts. All of it is also read as a journal.
 */
#include "edge/journal.h"
#include "fuzz.h"

#define MOST 16

struct seen {
    size_t n, most;
    const struct edge_record *want;
};

static int same(void *ctx, const struct edge_record *r) {
    struct seen *s = ctx;
    FUZZ_CHECK(s->n < s->most);
    const struct edge_record *w = &s->want[s->n++];
    FUZZ_CHECK(r->kind == w->kind && strcmp(r->id, w->id) == 0 && r->version == w->version &&
               ht_slice_eq(r->text, w->text));
    return HT_OK;
}

static int any(void *ctx, const struct edge_record *r) {
    (void)ctx;
    FUZZ_CHECK(r->kind < EDGE_KINDS && strlen(r->id) <= EDGE_ID_MAX && r->text.n <= EDGE_DOC_MAX);
    return HT_OK;
}

static size_t read_from(const char *text, size_t n, const struct edge_record *want, size_t most) {
    uint64_t chain = HT_HASH;
    struct seen s = {.most = most, .want = want};
    char *copy = fuzz_copy(text, n);
    struct ht_slice rest = ht_slice_of(copy, n);
    FUZZ_CHECK(edge_journal_read(&rest, &chain, same, &s) == HT_OK && rest.n <= n);
    free(copy);
    return s.n;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct edge_record want[MOST] = {0};
    size_t ends[MOST + 1] = {0}, n = 0, live = ht_mem_live();
    uint64_t chain = HT_HASH;
    struct ht_buf b = {0};
    if (size > 20000)
        return 0;
    char *raw = fuzz_copy(data, size);
    struct ht_slice rest = ht_slice_of(raw, size);
    FUZZ_CHECK(edge_journal_read(&rest, &chain, any, NULL) == HT_OK);
    free(raw);

    struct fuzz_in in = {data, data + size};
    uint32_t at = fuzz_u16(&in);
    uint8_t by = fuzz_u8(&in);
    chain = HT_HASH;
    while (fuzz_left(&in) > 4 && n < MOST) {
        struct edge_record *r = &want[n];
        r->kind = (enum edge_kind)(fuzz_u8(&in) % EDGE_KINDS);
        struct ht_slice id = fuzz_take(&in, fuzz_u8(&in) % EDGE_ID_MAX);
        for (size_t i = 0; i < id.n; i++)
            r->id[i] = "abcdefghijklmnopqrstuvwxyz012345"[(uint8_t)id.p[i] % 32];
        if (id.n == 0)
            r->id[0] = 'x';
        r->version = fuzz_u16(&in) + UINT64_C(1);
        r->text = fuzz_take(&in, fuzz_u16(&in) % 600);
        FUZZ_CHECK(edge_journal_put(&b, &chain, r->kind, r->id, r->version, r->text) == HT_OK);
        ends[++n] = ht_buf_size(&b);
    }
    char *text = (char *)ht_buf_head(&b);
    size_t total = ht_buf_size(&b);
    if (total) {
        FUZZ_CHECK(read_from(text, total, want, n) == n);
        size_t place = at % total, whole = 0;
        while (whole < n && ends[whole + 1] <= place)
            whole++;
        if (by) { /* records before the changed byte are there, the others are not */
            text[place] = (char)((uint8_t)text[place] + by);
            size_t got = read_from(text, total, want, whole);
            FUZZ_CHECK(got == whole);
        } else {
            FUZZ_CHECK(read_from(text, place, want, n) == whole);
        }
    }
    ht_buf_free(&b);
    FUZZ_CHECK(ht_mem_live() == live);
    return 0;
}
