/* The block on a terminal at every size, texts that would speak to the terminal, rows that are cut, QR codes. */
#include "base/utf8.h"
#include "cli/live.h"
#include "support/tap.h"

#include <stdlib.h>

/* ---- texts ---- */

static void texts_are_made_safe(void) {
    static const struct {
        const char *text, *safe;
    } rows[] = {
        {"plain", "plain"},
        {"", ""},
        {"a\033[2J\r\n\t\x7f", "a\\x1b[2J\\x0d\\x0a\\x09\\x7f"},
        {"k\xc3\xa4se \xe2\x82\xac", "k\xc3\xa4se \xe2\x82\xac"},
        {"\xc2\x9b\x31m", "\\u009b1m"}, /* CSI as one character */
        {"a\xe2\x80\xae\x62", "a\\u202eb"},
        {"\xff\xc3", "\\xff\\xc3"},
        {"\xed\xa0\x80", "\\xed\\xa0\\x80"},
    };
    for (size_t i = 0; i < HT_ARRAY_LEN(rows); i++) {
        struct ht_buf b = {0};
        CU_ASSERT_EQUAL(cli_put_text(&b, rows[i].text), 0);
        CU_ASSERT(ht_slice_is(ht_buf_slice(&b), rows[i].safe));
        ht_buf_free(&b);
    }
}

static void rows_are_cut(void) {
    static const struct {
        const char *text;
        unsigned columns, used;
        const char *row;
    } rows[] = {
        {"abc", 3, 3, "abc"},
        {"abcd", 3, 3, "ab\xe2\x80\xa6"},
        {"abc", 1, 1, "\xe2\x80\xa6"},
        {"abc", 0, 0, ""},
        {"", 5, 0, ""},
        {"\xe6\xbc\xa2\xe5\xad\x97", 4, 4, "\xe6\xbc\xa2\xe5\xad\x97"}, /* two columns each */
        {"\xe6\xbc\xa2\xe5\xad\x97", 3, 3, "\xe6\xbc\xa2\xe2\x80\xa6"},
        {"\xe6\xbc\xa2\xe5\xad\x97", 2, 2, " \xe2\x80\xa6"},
        {"a\033b", 6, 6, "a\\x1bb"},
        {"a\033b", 5, 5, "a   \xe2\x80\xa6"},
        {"e\xcc\x81x", 2, 2, "e\xcc\x81x"}, /* a combining accent takes none */
    };
    for (size_t i = 0; i < HT_ARRAY_LEN(rows); i++) {
        struct ht_buf b = {0};
        struct cli_row r = {.b = &b, .columns = rows[i].columns};
        cli_row_add(&r, "31", rows[i].text);
        CU_ASSERT_EQUAL(r.rc, 0);
        CU_ASSERT_EQUAL(r.used, rows[i].used);
        CU_ASSERT(ht_slice_is(ht_buf_slice(&b), rows[i].row));
        if (!ht_slice_is(ht_buf_slice(&b), rows[i].row))
            printf("# %zu: %.*s\n", i, HT_SLICE_ARG(ht_buf_slice(&b)));
        ht_buf_free(&b);
    }
    struct ht_buf b = {0};
    struct cli_row r = {.b = &b, .columns = 10, .color = true};
    cli_row_add(&r, "31", "ab");
    cli_row_pad(&r, 4);
    cli_row_add(&r, NULL, "c");
    CU_ASSERT(ht_slice_is(ht_buf_slice(&b), "\033[31mab\033[0m  c"));
    ht_buf_free(&b);
}

/* ---- the block ---- */

#define BINDINGS 5

static struct live_binding bindings[BINDINGS];

static struct cli_live example(enum ht_tunnel_state state) {
    struct cli_live l = {
        .status = {.state = state,
                   .attempt = 3,
                   .retry_in_ms = 3500,
                   .connections = 2,
                   .granted = 4,
                   .streams = 2,
                   .up_ms = 3725000,
                   .round_trip_us = 12300,
                   .streams_total = 1234,
                   .bytes_in = 3 << 20,
                   .bytes_out = 900 << 20},
        .kit = "wss://kit.example",
        .session = "S-1",
        .server = "kit/1",
        .user = "ann",
        .why = "connection refused",
        .bindings = bindings,
        .n_bindings = BINDINGS,
        .rate_in = 1536,
        .rate_out = 2e6,
    };
    for (unsigned i = 0; i < BINDINGS; i++) {
        bindings[i] = (struct live_binding){.state = i == 4 ? LIVE_GONE : i == 3 ? LIVE_ASKED : LIVE_BOUND};
        snprintf(bindings[i].url, sizeof bindings[i].url, "https://app-%u.example", i);
        snprintf(bindings[i].target, sizeof bindings[i].target, "127.0.0.1:%u", 3000 + i);
        snprintf(bindings[i].name, sizeof bindings[i].name, "%s", i == 0 ? "web" : "");
        snprintf(bindings[i].why, sizeof bindings[i].why, "%s", i == 4 ? "was taken over" : "");
    }
    return l;
}

static void add_requests(struct cli_live *l, unsigned n) {
    for (unsigned i = 0; i < n; i++) {
        char target[16];
        snprintf(target, sizeof target, "/%u", i);
        struct ht_request r = {.kind = i % 3 ? HT_EXPOSE_HTTP : HT_PULL_TCP,
                               .method = "GET",
                               .target = target,
                               .peer = "192.0.2.1:5",
                               .status = i % 2 ? 200 : 0,
                               .error = i % 2 ? NULL : "connection refused",
                               .bytes_out = i * 1000,
                               .duration_us = i * 100};
        l->soon = true; /* no timer here */
        cli_live_request(l, &r);
    }
}

static void what_it_says(void) {
    struct cli_live l = example(HT_TUNNEL_UP);
    struct cli_frame f = {.n_rows = 0};
    add_requests(&l, 2);
    CU_ASSERT_EQUAL(cli_live_frame(&l, 100, 40, &f), 0);
    CU_ASSERT_EQUAL(ht_buf_append(&f.text, "", 1), 0);
    const char *text = (const char *)ht_buf_head(&f.text);
    CU_ASSERT_PTR_EQUAL(strstr(text, "online  wss://kit.example  12.3 ms  up 1:02:05\n"
                                     "session S-1 of ann, 2 of 4 WebSockets, kit/1\n\n"
                                     "was taken over  https://app-4.example \xe2\x86\x92 127.0.0.1:3004\n"
                                     "https://app-0.example \xe2\x86\x92 127.0.0.1:3000  web\n"
                                     "https://app-1.example \xe2\x86\x92 127.0.0.1:3001\n"),
                        text);
    CU_ASSERT_PTR_NOT_NULL(strstr(text, "\xe2\x86\x92 127.0.0.1:3003\n\n"
                                        "2 open, 1234 so far  in 1.5 KiB/s (3.0 MiB)  out 1.9 MiB/s (900 MiB)\n\n"));
    CU_ASSERT_PTR_NOT_NULL(strstr(text, "  tcp  0 us       0 B       192.0.2.1:5  connection refused\n"));
    CU_ASSERT_PTR_NOT_NULL(strstr(text, "  200  100 us     1000 B    GET /1\n\nCtrl-C ends it"));
    CU_ASSERT_PTR_NULL(strstr(text, "checked"));
    ht_buf_free(&f.text);
    f = (struct cli_frame){.n_rows = 0};
    /* Once it goes on, once it is over, and two that are refused. */
    cli_live_decided(&l, &(struct ht_audit){.allowed = 1});
    cli_live_decided(&l, &(struct ht_audit){.allowed = 1, .over = 1});
    cli_live_decided(&l, &(struct ht_audit){.over = 1});
    cli_live_decided(&l, &(struct ht_audit){.over = 1});
    CU_ASSERT_EQUAL(cli_live_frame(&l, 100, 40, &f), 0);
    CU_ASSERT_EQUAL(ht_buf_append(&f.text, "", 1), 0);
    CU_ASSERT_PTR_NOT_NULL(
        strstr((const char *)ht_buf_head(&f.text), "(900 MiB)\nrequests checked: 1 allowed, 2 refused\n\n"));
    ht_buf_free(&f.text);
    f = (struct cli_frame){.n_rows = 0};
    l = example(HT_TUNNEL_RETRYING);
    CU_ASSERT_EQUAL(cli_live_frame(&l, 100, 3, &f), 0);
    CU_ASSERT(ht_slice_is(ht_buf_slice(&f.text), "kit away  wss://kit.example\nattempt 3 in 4 s: connection refused"));
    ht_buf_free(&f.text);
    f = (struct cli_frame){.n_rows = 0};
    CU_ASSERT_EQUAL(cli_live_frame(&l, 100, 4, &f), 0);
    CU_ASSERT_PTR_NOT_NULL(strstr((const char *)ht_buf_head(&f.text), "refused\n5 ports"));
    ht_buf_free(&f.text);
    f = (struct cli_frame){.n_rows = 0};
    l.n_bindings = 0;
    CU_ASSERT_EQUAL(cli_live_frame(&l, 100, 3, &f), 0);
    CU_ASSERT(ht_slice_is(ht_buf_slice(&f.text), "kit away  wss://kit.example\nattempt 3 in 4 s: connection refused"));
    ht_buf_free(&f.text);
    f = (struct cli_frame){.n_rows = 0};
    l.status.paused_left_ms = 55000; /* and nothing is cut meanwhile */
    l.status.streams = 3;
    CU_ASSERT_EQUAL(cli_live_frame(&l, 100, 3, &f), 0);
    CU_ASSERT(ht_slice_is(ht_buf_slice(&f.text), "paused  wss://kit.example  3 wait, for 0:55 at most\n"
                                                 "attempt 3 in 4 s: connection refused"));
    ht_buf_free(&f.text);
    f = (struct cli_frame){.n_rows = 0};
    l.status.streams = 1;
    CU_ASSERT_EQUAL(cli_live_frame(&l, 30, 3, &f), 0);
    CU_ASSERT_PTR_NOT_NULL(strstr((const char *)ht_buf_head(&f.text), "paused  wss://kit.example\n"));
    ht_buf_free(&f.text);
    l.status.state = HT_TUNNEL_UP; /* and back, with what it has cost */
    l.status.paused_left_ms = 0;
    l.status.up_ms = 61000;
    l.status.whole = 2;
    l.status.longest_pause_ms = 2100;
    l.status.resent = 65536;
    static const struct {
        unsigned columns;
        const char *row;
    } rows[] = {
        {100, "online  wss://kit.example  12.3 ms  up 1:01  2 pauses, 2.1 s at most, 64.0 KiB sent again\n"},
        {60, "online  wss://kit.example  12.3 ms  up 1:01  2 pauses\n"},
        {40, "online  wss://kit.example  12.3 ms\n"},
    };
    for (size_t i = 0; i < HT_ARRAY_LEN(rows); i++) {
        f = (struct cli_frame){.n_rows = 0};
        CU_ASSERT_EQUAL(cli_live_frame(&l, rows[i].columns, 3, &f), 0);
        CU_ASSERT_EQUAL(strncmp((const char *)ht_buf_head(&f.text), rows[i].row, strlen(rows[i].row)), 0);
        if (strncmp((const char *)ht_buf_head(&f.text), rows[i].row, strlen(rows[i].row)) != 0)
            printf("# %.*s\n", HT_SLICE_ARG(ht_buf_slice(&f.text)));
        ht_buf_free(&f.text);
    }
}

/* The columns that a row takes, escape sequences left out. */
static unsigned columns_of(struct ht_slice row) {
    const uint8_t *p = (const uint8_t *)row.p, *end = p + row.n;
    unsigned n = 0;
    while (p < end) {
        if (*p == '\033') {
            while (*p++ != 'm')
                ;
            continue;
        }
        unsigned len = ht_utf8_len(p, end);
        CU_ASSERT_FATAL(len > 0);
        p += len;
        n++; /* nothing wider is in the example */
    }
    return n;
}

/* A URL is there as a whole, on a row of its own when it is long, or its binding is folded; what is narrow is shorter.
 */
static void urls_are_whole(void) {
    static char urls[BINDINGS][2048];
    bool good = true;
    for (unsigned columns = 1; columns <= 200; columns++)
        for (unsigned rows = 2; rows <= 40; rows++) {
            struct cli_live l = example(HT_TUNNEL_UP);
            struct cli_frame f = {.n_rows = 0};
            unsigned there = 0;
            add_requests(&l, 3);
            for (unsigned i = 0; i < BINDINGS; i++) {
                snprintf(urls[i], sizeof urls[i], "https://a-long-name-of-a-project-%u.region%0*u.example/", i,
                         10 + 40 * (int)i, i);
                snprintf(bindings[i].url, sizeof bindings[i].url, "%s", urls[i]);
            }
            good = good && cli_live_frame(&l, columns, rows, &f) == 0 && ht_buf_append(&f.text, "", 1) == 0;
            for (unsigned i = 0; i < BINDINGS; i++) {
                const char *at = strstr((const char *)ht_buf_head(&f.text), urls[i]);
                there += at != NULL;
            }
            good = good && there + f.folded == BINDINGS && f.lines <= rows - 1;
            if (rows >= 8 && columns >= 40)
                good = good && strstr((const char *)ht_buf_head(&f.text), " open") &&
                       strstr((const char *)ht_buf_head(&f.text), "Ctrl-C ends it");
            if (rows == 40 && columns >= 60)
                good = good && f.folded == 0;
            if (!good)
                printf("# %ux%u: %u there, %u folded\n%s\n", columns, rows, there, f.folded,
                       (const char *)ht_buf_head(&f.text));
            CU_ASSERT_FATAL(good);
            ht_buf_free(&f.text);
        }
    struct cli_live l = example(HT_TUNNEL_UP);
    struct cli_frame f = {.n_rows = 0};
    snprintf(bindings[0].url, sizeof bindings[0].url, "https://app-0.a-long-name.example/");
    CU_ASSERT_EQUAL(cli_live_frame(&l, 40, 40, &f), 0);
    CU_ASSERT_EQUAL(ht_buf_append(&f.text, "", 1), 0);
    CU_ASSERT_PTR_NOT_NULL(strstr((const char *)ht_buf_head(&f.text),
                                  "\nhttps://app-0.a-long-name.example/\n  \xe2\x86\x92 127.0.0.1:3000  web\n"));
    CU_ASSERT_PTR_NOT_NULL(strstr((const char *)ht_buf_head(&f.text), "\n2 open  in 1.5 KiB/s  out 1.9 MiB/s\n"));
    ht_buf_free(&f.text);
}

/* The inspector's page, whole or not at all. */
#define PAGE "http://127.0.0.1:4040/#0123456789abcdef0123456789abcdef0123456789abcdef"

static void the_inspector(void) {
    bool seen = false;
    for (unsigned rows = 1; rows < 30; rows++) {
        struct cli_live l = example(HT_TUNNEL_UP);
        struct cli_frame f = {.n_rows = 0};
        snprintf(l.inspector, sizeof l.inspector, "%s", PAGE);
        CU_ASSERT_EQUAL(cli_live_frame(&l, 40, rows, &f), 0);
        CU_ASSERT_EQUAL(ht_buf_append(&f.text, "", 1), 0);
        const char *text = (const char *)ht_buf_head(&f.text);
        CU_ASSERT_EQUAL(strstr(text, "inspector") != NULL, strstr(text, "inspector " PAGE "\n") != NULL);
        CU_ASSERT(!seen || strstr(text, PAGE)); /* with more room it stays */
        seen = seen || strstr(text, PAGE);
        ht_buf_free(&f.text);
    }
    CU_ASSERT(seen);
}

static void it_fits_every_terminal(void) {
    bool good = true;
    for (int state = HT_TUNNEL_NEW; state <= HT_TUNNEL_ENDED; state++) {
        struct cli_live l = example((enum ht_tunnel_state)state);
        l.color = state % 2;
        l.n_refused = (uint64_t)state / 2;
        snprintf(l.inspector, sizeof l.inspector, "%s", state % 3 ? PAGE : "");
        for (unsigned requests = 0; requests < 12; requests += 11) {
            add_requests(&l, requests);
            for (unsigned columns = 1; columns <= 90; columns++) {
                for (unsigned rows = 1; rows <= 30; rows++) {
                    struct cli_frame f = {.n_rows = 0};
                    good = good && cli_live_frame(&l, columns, rows, &f) == 0;
                    good = good && f.n_rows >= 1 && (f.lines <= rows - 1 || rows == 1);
                    unsigned lines = 0;
                    struct ht_slice rest = ht_buf_slice(&f.text);
                    for (unsigned i = 0; i < f.n_rows && good; i++) {
                        const char *end = memchr(rest.p, '\n', rest.n);
                        size_t n = end ? (size_t)(end - rest.p) : rest.n;
                        good = columns_of(ht_slice_of(rest.p, n)) == f.widths[i] && (end != NULL) == (i + 1 < f.n_rows);
                        lines += f.widths[i] > columns ? (f.widths[i] + columns - 1) / columns : 1;
                        rest = ht_slice_of(rest.p + n + (end ? 1 : 0), rest.n - n - (end ? 1 : 0));
                    }
                    good = good && lines == f.lines;
                    if (!good)
                        printf("# state %d, %ux%u\n", state, columns, rows);
                    CU_ASSERT_FATAL(good);
                    ht_buf_free(&f.text);
                }
            }
        }
    }
}

static void qr_codes(void) {
    struct ht_buf b = {0};
    static char big[4000];
    CU_ASSERT_EQUAL(cli_qr_put(&b, "https://kit.example", false), 0);
    const char *text = (const char *)ht_buf_head(&b), *end = memchr(text, '\n', ht_buf_size(&b));
    CU_ASSERT_PTR_NOT_NULL_FATAL(end);
    unsigned wide = columns_of(ht_slice_of(text, (size_t)(end - text)));
    unsigned lines = 0;
    for (size_t i = 0; i < ht_buf_size(&b); i++)
        lines += text[i] == '\n';
    CU_ASSERT_EQUAL((wide - 4) % 4, 1); /* 17 + 4 times its version */
    CU_ASSERT_EQUAL(lines, (wide + 1) / 2);
    ht_buf_free(&b);
    memset(big, 'x', sizeof big - 1);
    CU_ASSERT_EQUAL(cli_qr_put(&b, big, false), HT_ELIMIT);
    ht_buf_free(&b);
}

static const struct tap_test tests[] = {
    {"control and invalid bytes of texts are escaped", texts_are_made_safe},
    {"a row is cut at the terminal's width, with a sign", rows_are_cut},
    {"the block shows link, bindings, traffic and requests", what_it_says},
    {"a URL is shown whole or not at all", urls_are_whole},
    {"the inspector's page is shown whole or not at all", the_inspector},
    {"the block fits a terminal of any size", it_fits_every_terminal},
    {"a QR code is drawn where there is room for it", qr_codes},
    {NULL, NULL},
};

int main(void) {
    setenv("LC_ALL", "C.UTF-8", 1);
    return tap_main("cli, live", tests);
}
