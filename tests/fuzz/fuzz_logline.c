/*
 * Lines of HAProxy's log: any bytes are lines or are refused, and every line is a row that can be kept and shown.
 *
 * Input: flags (one byte: addresses are masked, a further secret is known), then what comes on the socket. What is no
 * frame is read as one line.
 */
#include "base/utf8.h"
#include "edge/logline.h"
#include "fuzz.h"

static struct edge_log_reader reader;

static void check_masked(struct ht_slice url, const struct edge_log_privacy *p) {
    static char once[70000 * 13], twice[70000 * 13];
    size_t n = edge_log_mask_url(url, p, once, sizeof once);
    /* Dots may make a long name one that is too long to be looked at; then its value is masked only the second time. */
    FUZZ_CHECK(url.n > 160 ||
               (n == edge_log_mask_url(ht_slice_of(once, n), p, twice, sizeof twice) && memcmp(once, twice, n) == 0));
    size_t cut = edge_log_mask_url(url, p, twice, n / 2);
    FUZZ_CHECK(cut == n / 2 && memcmp(once, twice, cut) == 0);
}

static void check_line(struct ht_slice line, const struct edge_log_privacy *p) {
    struct edge_log_row row;
    char *copy = fuzz_copy(line.p, line.n);
    bool json = line.n && line.p[0] == '{';
    bool ok = edge_log_read(&reader, ht_slice_of(copy, line.n), INT64_C(1796005834104), p, &row);
    FUZZ_CHECK(ok || json);
    FUZZ_CHECK(row.kind < EDGE_LOG_KINDS && row.level < EDGE_LOG_LEVELS);
    FUZZ_CHECK(!json || ok == (row.kind != EDGE_LOG_ENGINE));
    FUZZ_CHECK(!ok || !json || json_validate(copy, line.n, NULL, NULL) == 0);
    for (size_t i = 0; i < HAPROXY_LOG_FIELDS; i++) {
        FUZZ_CHECK(row.number[i] >= EDGE_LOG_NONE);
        FUZZ_CHECK(haproxy_log[i].number ? row.text[i].n == 0 : row.number[i] == EDGE_LOG_NONE);
        /* A URL may be cut within a character, where its masked form does not fit. */
        FUZZ_CHECK(i == HAPROXY_LOG_URL || row.text[i].n == 0 ||
                   ht_utf8_valid((const uint8_t *)row.text[i].p, row.text[i].n));
    }
    check_masked(ht_slice_of(copy, line.n), p);
    free(copy);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static const char *const secrets[] = {"mine"};
    struct fuzz_in in = {data, data + size};
    uint8_t flags = fuzz_u8(&in);
    struct edge_log_privacy p = {.mask_addresses = flags & 1, .secrets = secrets, .n_secrets = flags >> 1 & 1};
    struct ht_slice rest = ht_slice_of(in.p, ht_min(fuzz_left(&in), 70000)), line;
    for (int used;;) {
        used = edge_log_frame(rest, &line);
        FUZZ_CHECK(used >= 0 ? (size_t)used <= rest.n : used == HT_EPROTO);
        if (used <= 0)
            break;
        /* No beginning of it is a frame. */
        struct ht_slice other;
        FUZZ_CHECK(edge_log_frame(ht_slice_of(rest.p, (size_t)used - 1), &other) == 0);
        FUZZ_CHECK(line.n > 0 && line.n <= EDGE_LOG_LINE && line.p + line.n == rest.p + used);
        check_line(line, &p);
        rest = ht_slice_of(rest.p + used, rest.n - (size_t)used);
    }
    check_line(rest, &p);
    return 0;
}
