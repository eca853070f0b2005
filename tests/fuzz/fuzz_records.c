/*
 * Records of sessions: any bytes are refused in words, or give sessions with bindings, names and certificates in their
 * places; what they say is written again as it was read. Nothing is leaked, and the input stays as it was.
 *
 * Input: a byte, and a text. The byte's lowest bit: the text is the whole. Else it is what follows the first line,
 * which is made for it, since nobody finds its hash by chance.
 */
#include "base/buf.h"
#include "fuzz.h"
#include "kit/records.h"

#include <inttypes.h>

static void check_message(const struct restart_message *m, unsigned *sessions, unsigned *bindings) {
    switch (m->type) {
    case RESTART_SESSION:
        ++*sessions;
        *bindings = 0;
        FUZZ_CHECK(m->session.n > 0 && m->session.n <= 64 && m->next_stream % 2 == 0 && m->next_stream >= 2);
        FUZZ_CHECK((m->token.n == 0 || m->token.n == 32) && (m->client.n == 0 || m->client.n == 32));
        FUZZ_CHECK(m->next_bind > 0 && m->until >= 0 && m->driver.n <= 63 && m->peer.n <= 64);
        break;
    case RESTART_BINDING:
        ++*bindings;
        FUZZ_CHECK(*sessions > 0 && m->bind_id > 0 && m->kind > 0 && m->mode > 0 && m->port <= 65535);
        FUZZ_CHECK(m->label.n <= 127 && m->name.n <= 63 && m->address.n <= 64);
        break;
    case RESTART_NAMED:
    case RESTART_HOSTNAME:
    case RESTART_CA:
        FUZZ_CHECK(*bindings > 0 && m->text.n > 0 && m->text.n <= 8192);
        break;
    default:
        FUZZ_CHECK(!"a message of another kind");
    }
}

/* Writes what is left of `r`. */
static int write_again(struct records *r, struct ht_buf *out) {
    struct records_writer w = {.lines = 0};
    struct restart_message m, head = r->head;
    unsigned sessions = 0, bindings = 0, lines = 0;
    while (records_next(r, &m)) {
        lines++;
        check_message(&m, &sessions, &bindings);
        records_add(&w, &m);
    }
    FUZZ_CHECK(lines == r->head.count && r->left == 0);
    return records_finish(&w, &head, out);
}

static void check_text(struct ht_slice text) {
    struct records r, again;
    struct ht_errmsg err = {""};
    struct ht_buf one = {0}, two = {0};
    int rc = records_open(&r, text, &err);
    FUZZ_CHECK(rc == HT_OK || rc == HT_EPROTO || rc == HT_ELIMIT);
    FUZZ_CHECK((rc == HT_OK) == (err.text[0] == '\0'));
    if (rc == HT_OK) {
        FUZZ_CHECK(r.head.type == RESTART_RECORDS && r.head.format <= RESTART_LIMIT_FORMAT);
        /* Written once it has our form; read and written once more it stays the same. */
        FUZZ_CHECK(write_again(&r, &one) == HT_OK);
        FUZZ_CHECK(records_open(&again, ht_buf_slice(&one), &err) == HT_OK && again.head.seq == r.head.seq);
        FUZZ_CHECK(write_again(&again, &two) == HT_OK && ht_slice_eq(ht_buf_slice(&one), ht_buf_slice(&two)));
        records_free(&again);
    }
    records_free(&r);
    ht_buf_free(&one);
    ht_buf_free(&two);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct fuzz_in in = {data, data + size};
    size_t live = ht_mem_live();
    bool whole = fuzz_u8(&in) & 1;
    size_t n = fuzz_left(&in);
    char first[96] = "";
    if (!whole) {
        uint64_t h = HT_HASH;
        for (size_t i = 0; i < n; i++)
            h = ht_hash_char(h, (char)in.p[i]);
        snprintf(first, sizeof first, "hoody-tunnel-records %u %016" PRIx64 " %zu\n", RESTART_LIMIT_FORMAT, h, n);
    }
    size_t head = strlen(first);
    char *text = malloc(head + n + 1), *same = malloc(head + n + 1);
    FUZZ_CHECK(text && same);
    memcpy(text, first, head);
    memcpy(text + head, in.p, n);
    text = realloc(text, head + n ? head + n : 1); /* so that a step behind its end is seen */
    memcpy(same, text, head + n);
    check_text(ht_slice_of(text, head + n));
    FUZZ_CHECK(memcmp(same, text, head + n) == 0);
    free(text);
    free(same);
    FUZZ_CHECK(ht_mem_live() == live);
    return 0;
}
