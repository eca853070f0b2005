/* Lines of HAProxy's log: framed byte by byte and cut at each place, read, and made private. */
#include "base/mem.h"
#include "edge/logline.h"
#include "inspect/mask.h"
#include "support/tap.h"

#include <stdio.h>
#include <stdlib.h>

#define NOW INT64_C(1796005834104)
#define DOTS INSPECT_DOTS
#define LONG "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"

static struct edge_log_reader *reader;
static struct edge_log_row row;

static bool reads(const char *line, size_t n, const struct edge_log_privacy *p) {
    char *copy = malloc(n ? n : 1); /* of that length exactly, so that a sanitizer sees each step too far */
    if (n)
        memcpy(copy, line, n);
    reader = reader ? reader : calloc(1, sizeof *reader);
    bool ok = edge_log_read(reader, ht_slice_of(copy, n), NOW, p, &row);
    for (size_t i = 0; i < HAPROXY_LOG_FIELDS; i++) { /* what is found must not be the copy's, once that is gone */
        static char kept[HAPROXY_LOG_FIELDS][16384];
        memcpy(kept[i], row.text[i].p ? row.text[i].p : "", row.text[i].n);
        row.text[i].p = kept[i];
    }
    free(copy);
    return ok;
}

static bool reads_text(const char *line) { return reads(line, strlen(line), NULL); }

static void is(enum haproxy_log_field field, const char *want) {
    if (!ht_slice_is(row.text[field], want))
        printf("# %s is \"%.*s\" and not \"%s\"\n", haproxy_log[field].name, HT_SLICE_ARG(row.text[field]), want);
    CU_ASSERT_TRUE(ht_slice_is(row.text[field], want));
}

/* ---- frames ---- */

static void frames_are_found_wherever_bytes_are_cut(void) {
    static const char *const lines[] = {"hello", "x", "{\"a\":\"b c\"}", NULL};
    static const char stream[] = "5 hello1 x11 {\"a\":\"b c\"}3 \n \n";
    for (size_t cut = 0; cut < sizeof stream - 1; cut++) {
        size_t at = 0, n = 0;
        struct ht_slice line;
        int used;
        while ((used = edge_log_frame(ht_slice_of(stream + at, cut - at), &line)) > 0) {
            CU_ASSERT_TRUE_FATAL(n < 3);
            CU_ASSERT_TRUE(ht_slice_is(line, lines[n++]));
            at += (size_t)used;
        }
        CU_ASSERT_EQUAL(used, 0);
        while (at < sizeof stream - 1 &&
               (used = edge_log_frame(ht_slice_of(stream + at, sizeof stream - 1 - at), &line)) > 0) {
            CU_ASSERT_TRUE(n == 3 ? ht_slice_is(line, "\n \n") : ht_slice_is(line, lines[n]));
            n++;
            at += (size_t)used;
        }
        CU_ASSERT_EQUAL(n, 4);
        CU_ASSERT_EQUAL(at, sizeof stream - 1);
    }
}

static void what_is_no_frame_is_refused(void) {
    static const char *const bad[] = {
        " x",        "x",        "0 ", "05 hello", "-1 x", "5hello", "5\thello", "65537 ", "99999999999999999999 x",
        "{\"a\":1}", "\n5 hello"};
    struct ht_slice line;
    for (size_t i = 0; i < HT_ARRAY_LEN(bad); i++)
        CU_ASSERT_EQUAL(edge_log_frame(ht_slice_str(bad[i]), &line), HT_EPROTO);
    CU_ASSERT_EQUAL(edge_log_frame(ht_slice_str(""), &line), 0);
    CU_ASSERT_EQUAL(edge_log_frame(ht_slice_str("65536"), &line), 0);
    CU_ASSERT_EQUAL(edge_log_frame(ht_slice_str("65536 x"), &line), 0);
}

/* ---- lines ---- */

#define LINE                                                                                                           \
    "{\"time\":\"1796005834000\",\"client\":\"203.0.113.50\",\"clientPort\":\"4711\",\"host\":\"me-3000.edge."         \
    "localhost\","                                                                                                     \
    "\"method\":\"GET\",\"url\":\"\\/"                                                                                 \
    "a?b=c\",\"status\":\"200\",\"bytesIn\":\"61\",\"bytesOut\":\"56\",\"waitMs\":\"0\","                              \
    "\"connectMs\":\"-1\",\"totalMs\":\"12\",\"container\":\"-\",\"address\":\"127.0.0.1\",\"userAgent\":"             \
    "\"x\\u001by\"}"

static void a_request_is_read(void) {
    CU_ASSERT_TRUE(reads_text(LINE));
    CU_ASSERT_EQUAL(row.kind, EDGE_LOG_REQUEST);
    CU_ASSERT_EQUAL(row.level, EDGE_LOG_INFO);
    CU_ASSERT_EQUAL(row.number[HAPROXY_LOG_TIME], INT64_C(1796005834000));
    CU_ASSERT_EQUAL(row.number[HAPROXY_LOG_STATUS], 200);
    CU_ASSERT_EQUAL(row.number[HAPROXY_LOG_WAIT_MS], 0);
    CU_ASSERT_EQUAL(row.number[HAPROXY_LOG_CONNECT_MS], EDGE_LOG_NONE);
    CU_ASSERT_EQUAL(row.number[HAPROXY_LOG_RESPONSE_MS], EDGE_LOG_NONE);
    is(HAPROXY_LOG_CLIENT, "203.0.113.50");
    is(HAPROXY_LOG_URL, "/a?b=c");
    is(HAPROXY_LOG_USER_AGENT, "x\x1by");
    is(HAPROXY_LOG_CONTAINER, "");
    CU_ASSERT_EQUAL(row.number[HAPROXY_LOG_CLIENT_PORT], 4711);
}

static void kinds_and_levels_follow_from_what_is_there(void) {
    static const struct {
        const char *line;
        enum edge_log_kind kind;
        enum edge_log_level level;
    } rows[] = {
        {"{}", EDGE_LOG_REQUEST, EDGE_LOG_WARN},
        {"{\"status\":\"399\"}", EDGE_LOG_REQUEST, EDGE_LOG_INFO},
        {"{\"status\":\"404\"}", EDGE_LOG_REQUEST, EDGE_LOG_WARN},
        {"{\"status\":\"500\"}", EDGE_LOG_REQUEST, EDGE_LOG_FAIL},
        {"{\"status\":\"-1\"}", EDGE_LOG_REQUEST, EDGE_LOG_WARN},
        {"{\"status\":\"0\"}", EDGE_LOG_REQUEST, EDGE_LOG_WARN},
        {"{\"status\":\"404\",\"reason\":\"host\"}", EDGE_LOG_REFUSED, EDGE_LOG_WARN},
        {"{\"status\":\"503\",\"reason\":\"off\"}", EDGE_LOG_REFUSED, EDGE_LOG_FAIL},
        {"{\"status\":\"200\",\"reason\":\"-\"}", EDGE_LOG_REQUEST, EDGE_LOG_INFO},
        {"{\"status\":\"0\",\"message\":\"SSL handshake failure\"}", EDGE_LOG_ERROR, EDGE_LOG_WARN},
        {"Proxy edge stopped.", EDGE_LOG_ENGINE, EDGE_LOG_INFO},
        {"", EDGE_LOG_ENGINE, EDGE_LOG_INFO},
        {"12 events dropped\n", EDGE_LOG_ENGINE, EDGE_LOG_WARN},
    };
    for (size_t i = 0; i < HT_ARRAY_LEN(rows); i++) {
        CU_ASSERT_TRUE(reads_text(rows[i].line));
        if (row.kind != rows[i].kind || row.level != rows[i].level)
            printf("# %s: kind %d, level %d\n", rows[i].line, row.kind, row.level);
        CU_ASSERT_TRUE(row.kind == rows[i].kind && row.level == rows[i].level);
        CU_ASSERT_EQUAL(row.number[HAPROXY_LOG_TIME], NOW);
    }
    CU_ASSERT_EQUAL(row.lost, 12);
    CU_ASSERT_TRUE(reads_text("1 event dropped"));
    CU_ASSERT_EQUAL(row.lost, 1);
    static const char *const none[] = {
        "dropped", "12 dropped", "12 events", "x 12 events dropped", "12 events dropped x", " events dropped"};
    for (size_t i = 0; i < HT_ARRAY_LEN(none); i++) {
        CU_ASSERT_TRUE(reads_text(none[i]));
        CU_ASSERT_EQUAL(row.lost, 0);
    }
    CU_ASSERT_TRUE(reads_text("{\"status\":\"400\",\"message\":\"Success\"}"));
    is(HAPROXY_LOG_MESSAGE, "the request could not be read");
}

static void numbers_are_digits_and_nothing_else(void) {
    static const char *const bad[] = {"", "-", "-1", "+1", "1 ", "0x1", "1.5", "1e3", "999999999999999999", "\\u0031x"};
    char line[128];
    for (size_t i = 0; i < HT_ARRAY_LEN(bad); i++) {
        snprintf(line, sizeof line, "{\"bytesIn\":\"%s\"}", bad[i]);
        CU_ASSERT_TRUE(reads_text(line));
        CU_ASSERT_EQUAL(row.number[HAPROXY_LOG_BYTES_IN], EDGE_LOG_NONE);
    }
    CU_ASSERT_TRUE(reads_text("{\"bytesIn\":\"99999999999999999\"}"));
    CU_ASSERT_EQUAL(row.number[HAPROXY_LOG_BYTES_IN], INT64_C(99999999999999999));
}

static void a_time_of_another_age_is_now(void) {
    CU_ASSERT_TRUE(reads_text("{\"time\":\"5000\"}"));
    CU_ASSERT_EQUAL(row.number[HAPROXY_LOG_TIME], NOW);
    CU_ASSERT_TRUE(reads_text("{\"time\":\"99996005834104\"}"));
    CU_ASSERT_EQUAL(row.number[HAPROXY_LOG_TIME], NOW);
}

static void a_cut_or_broken_line_is_a_row_that_tells_nothing_of_it(void) {
    static const char *const bad[] = {"{\"url\":\"/?token=x\",\"url\":\"/\"}",
                                      "{\"url\":\"/?token=x\"} ,",
                                      "{\"url\":\"/?token=x\",\"status\":200}",
                                      "{\"url\":[\"/?token=x\"]}",
                                      "{\"url\":\"/?token=x\",\"b\":{\"c\":{}}}",
                                      "{\"url\":\"/?token=\xff\"}",
                                      "{\"url\":\"/?token=\n\"}",
                                      "{\"url\":\"/?token=x\\ud800\"}",
                                      "{url:1}"};
    for (size_t n = 1; n < sizeof LINE - 1; n++) {
        CU_ASSERT_FALSE(reads(LINE, n, NULL));
        CU_ASSERT_EQUAL(row.kind, EDGE_LOG_ENGINE);
        CU_ASSERT_EQUAL(row.level, EDGE_LOG_WARN);
        CU_ASSERT_EQUAL(row.text[HAPROXY_LOG_URL].n, 0);
    }
    for (size_t i = 0; i < HT_ARRAY_LEN(bad); i++) {
        CU_ASSERT_FALSE(reads_text(bad[i]));
        CU_ASSERT_PTR_NULL(memmem(row.text[HAPROXY_LOG_MESSAGE].p, row.text[HAPROXY_LOG_MESSAGE].n, "token", 5));
        CU_ASSERT_TRUE(row.text[HAPROXY_LOG_MESSAGE].n > 20);
    }
}

static void members_of_another_version_are_skipped(void) {
    CU_ASSERT_TRUE(reads_text("{\"later\":{\"a\":1},\"status\":\"204\",\"more\":\"x\",\"host\":\"a\\u0000b\"}"));
    CU_ASSERT_EQUAL(row.number[HAPROXY_LOG_STATUS], 204);
    CU_ASSERT_TRUE(ht_slice_eq(row.text[HAPROXY_LOG_HOST], ht_slice_of("a\0b", 3)));
}

static void own_words_are_safe_to_show_and_not_long(void) {
    static char line[5000];
    memset(line, 'x', sizeof line);
    memcpy(line, "a\x1b[31m\xff\n", 8);
    CU_ASSERT_TRUE(reads(line, sizeof line, NULL));
    CU_ASSERT_TRUE(row.text[HAPROXY_LOG_MESSAGE].n <= 1024);
    CU_ASSERT_EQUAL(memcmp(row.text[HAPROXY_LOG_MESSAGE].p, "a\\x1b[31m\\xff\\x0a", 16), 0);
}

/* ---- privacy ---- */

static void secrets_in_urls_are_masked(void) {
    static const char *const extra[] = {"mine"};
    static const struct edge_log_privacy p = {.secrets = extra, .n_secrets = 1};
    static const struct {
        const char *url, *want;
    } rows[] = {
        {"/", "/"},
        {"*", "*"},
        {"", ""},
        {"/a?b=c&d", "/a?b=c&d"},
        {"/?token=abc", "/?token=" DOTS},
        {"/?access_token=abc&x=1", "/?access_token=" DOTS "&x=1"},
        {"/?x=1;token=abc;y", "/?x=1;token=" DOTS ";y"},
        {"/?TOKEN=abc", "/?TOKEN=" DOTS},
        {"/?%74oken=abc", "/?%74oken=" DOTS},
        {"/?t%6Fk%65n=abc", "/?t%6Fk%65n=" DOTS},
        {"/?password=a=b&c", "/?password=" DOTS "&c"},
        {"/?X-Amz-Signature=1&X-Amz-Credential=2&X-Amz-Date=3",
         "/?X-Amz-Signature=" DOTS "&X-Amz-Credential=" DOTS "&X-Amz-Date=3"},
        {"/?key=1&monkey=2&mine=3&mines=4", "/?key=" DOTS "&monkey=2&mine=" DOTS "&mines=4"},
        {"/?token=&token&=x", "/?token=&token&=x"},
        {"/?a?token=x", "/?a?token=" DOTS},
        {"/a;token=x/b;c=d?e", "/a;token=" DOTS "/b;c=d?e"},
        {"/a;jsessionid=x;sid=y/", "/a;jsessionid=x;sid=" DOTS "/"},
        {"/eyJhbGciOi.eyJzdWIiOi.c2ln/x", "/" DOTS "/x"},
        {"/?q=eyJhbGciOi.eyJzdWIiOi.c2ln&r=1", "/?q=" DOTS "&r=1"},
        {"/?eyJhbGciOi.eyJzdWIiOi.c2ln", "/?" DOTS},
        {"/eyJ/eyJustAName", "/eyJ/eyJustAName"},
        {"/%", "/%"},
        {"/?%=%&%7=1&token%=x", "/?%=%&%7=1&token%=" DOTS},
        {"/?eyJhbGciOi.eyJzdWIiOi.c2ln?token=x", "/?" DOTS "?token=" DOTS},
        {"/?" LONG LONG LONG LONG LONG "token=x", "/?" LONG LONG LONG LONG LONG "token=" DOTS},
    };
    char out[512];
    for (size_t i = 0; i < HT_ARRAY_LEN(rows); i++) {
        size_t n = edge_log_mask_url(ht_slice_str(rows[i].url), &p, out, sizeof out);
        if (!ht_slice_is(ht_slice_of(out, n), rows[i].want))
            printf("# %s became %.*s\n", rows[i].url, (int)n, out);
        CU_ASSERT_TRUE(ht_slice_is(ht_slice_of(out, n), rows[i].want));
        for (size_t cap = 0; cap < n; cap++) /* cut, never behind its end, and never the secret */
            CU_ASSERT_EQUAL(edge_log_mask_url(ht_slice_str(rows[i].url), &p, out, cap), cap);
    }
    CU_ASSERT_TRUE(reads("{\"url\":\"/?mine=1\"}", 18, &p));
    is(HAPROXY_LOG_URL, "/?mine=" DOTS);
}

static void addresses_lose_their_last_part(void) {
    static const char *const rows[][2] = {{"203.0.113.50", "203.0.113.0"},
                                          {"127.0.0.1", "127.0.0.0"},
                                          {"2001:db8:1:2:3:4:5:6", "2001:db8:1::"},
                                          {"::1", "::"},
                                          {"::ffff:203.0.113.50", "::ffff:203.0.113.0"},
                                          {"", ""},
                                          {"unix", ""},
                                          {"1.2.3", ""},
                                          {"::g", ""},
                                          {"1111111111111111111111111111111111111111111111111111111111111111111", ""}};
    static const struct edge_log_privacy p = {.mask_addresses = true};
    char out[64];
    for (size_t i = 0; i < HT_ARRAY_LEN(rows); i++) {
        size_t n = edge_log_mask_address(ht_slice_str(rows[i][0]), out);
        CU_ASSERT_TRUE(ht_slice_is(ht_slice_of(out, n), rows[i][1]));
    }
    CU_ASSERT_TRUE(reads(LINE, sizeof LINE - 1, &p));
    is(HAPROXY_LOG_CLIENT, "203.0.113.0");
    CU_ASSERT_EQUAL(row.number[HAPROXY_LOG_CLIENT_PORT], EDGE_LOG_NONE);
}

int main(void) {
    static const struct tap_test tests[] = {
        {"frames are found wherever the bytes are cut", frames_are_found_wherever_bytes_are_cut},
        {"what is no frame is refused", what_is_no_frame_is_refused},
        {"a request is read", a_request_is_read},
        {"kinds and levels follow from what is there", kinds_and_levels_follow_from_what_is_there},
        {"numbers are digits and nothing else", numbers_are_digits_and_nothing_else},
        {"a time of another age is now", a_time_of_another_age_is_now},
        {"a cut or broken line is a row that tells nothing of it",
         a_cut_or_broken_line_is_a_row_that_tells_nothing_of_it},
        {"members of another version are skipped", members_of_another_version_are_skipped},
        {"HAProxy's own words are safe to show and not long", own_words_are_safe_to_show_and_not_long},
        {"secrets in URLs are masked", secrets_in_urls_are_masked},
        {"addresses lose their last part", addresses_lose_their_last_part},
        {NULL, NULL},
    };
    int rc = tap_main("edge: lines of the log", tests);
    free(reader);
    return rc;
}
