/*
 * The writer of heads: whatever names, values, reasons and targets it is given, what comes out reads back as exactly
 * the lines that were taken, and what was refused left nothing behind (response splitting, hardening case 7).
 *
 * Input: what begins the head (one byte), then pieces: a byte for the kind, one for the length, the text.
 */
#include "heads.h"

#define MOST_FIELDS 100

struct written {
    struct ht_slice name, value;
};

/* A refusal appends nothing. */
static bool taken(const struct ht_buf *b, size_t before, int rc) {
    FUZZ_CHECK(rc == HT_OK || rc == HT_EINVAL);
    FUZZ_CHECK(rc == HT_OK || ht_buf_size(b) == before);
    return rc == HT_OK;
}

static bool holds_control(struct ht_slice s) {
    for (size_t i = 0; i < s.n; i++)
        if (((unsigned char)s.p[i] < ' ' && s.p[i] != '\t') || s.p[i] == 0x7f)
            return true;
    return false;
}

static bool begin(struct ht_buf *b, struct fuzz_in *in, uint8_t how) {
    struct ht_slice first = fuzz_take(in, fuzz_u8(in)), second = fuzz_take(in, fuzz_u8(in));
    uint16_t status = (uint16_t)(90 + fuzz_u16(in) % 920);
    if (how & 1) {
        bool ok = taken(b, 0, http_write_request_line(b, first, second));
        FUZZ_CHECK(!ok || (head_is_token(first) && second.n > 0 && !holds_control(second)));
        return ok;
    }
    bool ok = taken(b, 0, http_write_status(b, (how >> 1) & 3, status, first));
    FUZZ_CHECK(!ok || (status >= 100 && status <= 999 && ((how >> 1) & 3) <= 1));
    FUZZ_CHECK(ok || status < 100 || status > 999 || ((how >> 1) & 3) > 1 || holds_control(first));
    return ok;
}

static void read_back(const struct ht_buf *b, bool request, const struct written *w, size_t n) {
    static struct head_lines lines;
    static struct head_outcome parsed;
    const char *text = (const char *)ht_buf_head(b);
    head_read(&lines, text, ht_buf_size(b));
    FUZZ_CHECK(lines.n == n);
    for (size_t i = 0; i < n; i++)
        FUZZ_CHECK(ht_slice_eq(lines.name[i], w[i].name) && ht_slice_eq(lines.value[i], head_trimmed(w[i].value)));
    head_begin(&parsed, !request, NULL);
    int rc = head_feed(&parsed, text, ht_buf_size(b));
    /* The parser may dislike what the lines mean together, never how they are written. */
    FUZZ_CHECK(rc == (int)ht_buf_size(b) || rc == HT_EPROTO);
    if (rc == HT_EPROTO)
        FUZZ_CHECK(!strstr(parsed.e.text, "CR and LF") && !strstr(parsed.e.text, "control byte") &&
                   !strstr(parsed.e.text, "bad field name") && !strstr(parsed.e.text, "folded"));
}

/* An answer of our own, with the text as its body. */
static void whole_answer(struct fuzz_in *in, uint8_t how) {
    static struct head_outcome parsed;
    struct ht_buf b = {0};
    uint16_t status = (uint16_t)(100 + fuzz_u16(in) % 500);
    char body[64];
    struct ht_slice text = fuzz_take(in, sizeof body - 1);
    if (text.n)
        memcpy(body, text.p, text.n);
    body[text.n] = '\0';
    bool head = how & 2, close = how & 4, bodyless = status < 200 || status == 204 || status == 304;
    FUZZ_CHECK(http_write_answer(&b, (how >> 3) & 1, status, "retry-after: 5\r\n", body, head, close) == HT_OK);
    head_begin(&parsed, true, NULL);
    int rc = head_feed(&parsed, (const char *)ht_buf_head(&b), ht_buf_size(&b));
    FUZZ_CHECK(rc > 0 && parsed.h.status == status);
    size_t behind = ht_buf_size(&b) - (size_t)rc;
    FUZZ_CHECK(behind == (head || bodyless ? 0 : strlen(body)));
    FUZZ_CHECK(bodyless == !(parsed.h.flags & HTTP_HAS_CONTENT_LENGTH));
    FUZZ_CHECK(bodyless || parsed.h.content_length == strlen(body));
    FUZZ_CHECK(!!(parsed.h.flags & HTTP_KEEP_ALIVE) == !close);
    ht_buf_free(&b);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct written w[MOST_FIELDS + 1];
    struct fuzz_in in = {data, data + size};
    struct ht_buf b = {0};
    size_t n = 0, live = ht_mem_live();
    uint8_t how = fuzz_u8(&in);
    char digits[32];
    if (how & 0x80) {
        whole_answer(&in, how);
    } else if (begin(&b, &in, how)) {
        while (fuzz_left(&in) && n < MOST_FIELDS) {
            struct written f = {.name = fuzz_take(&in, fuzz_u8(&in) % 64)};
            f.value = fuzz_take(&in, fuzz_u8(&in));
            bool ok = taken(&b, ht_buf_size(&b), http_write_field(&b, f.name, f.value));
            FUZZ_CHECK(ok == (head_is_token(f.name) && !holds_control(f.value)));
            if (ok)
                w[n++] = f;
        }
        if (how & 8) {
            uint64_t length = fuzz_hash(FUZZ_HASH, data, size) >> (how & 0x30);
            FUZZ_CHECK(http_write_content_length(&b, length) == HT_OK);
            snprintf(digits, sizeof digits, "%llu", (unsigned long long)length);
            w[n++] = (struct written){ht_slice_str("content-length"), ht_slice_str(digits)};
        }
        FUZZ_CHECK(http_write_end(&b) == HT_OK);
        read_back(&b, how & 1, w, n);
    }
    ht_buf_free(&b);
    FUZZ_CHECK(ht_mem_live() == live);
    return 0;
}
