/* Server-sent events. */
#include "base/mem.h"
#include "support/tap.h"
#include "web/web.h"

#include <stdio.h>

static char events_seen[1024];

static void remember(void *ctx, struct ht_slice data, const char *id) {
    size_t n = strlen(events_seen);
    (void)ctx;
    CU_ASSERT_EQUAL(data.p[data.n], '\0');
    snprintf(events_seen + n, sizeof events_seen - n, "%s<%.*s>", id, HT_SLICE_ARG(data));
}

static void in_pieces_of_any_size(void) {
    static const char text[] =
        ": hello\n\nid: 7\nevent: bind\ndata: {\"a\":1}\n\n\n:\r\n\r\ndata:one\r\ndata:  two\r\ndata\r\n"
        "retry: 5\r\nid\r\n\r\nid: 8\rdata: x\r\rdata: never ended\n";
    for (size_t piece = 1; piece < sizeof text; piece++) {
        struct web_sse s = {.cr = false};
        events_seen[0] = '\0';
        for (size_t at = 0; at < sizeof text - 1; at += piece)
            CU_ASSERT_EQUAL(
                web_sse_feed(&s, ht_slice_of(text + at, ht_min(piece, sizeof text - 1 - at)), remember, NULL), 0);
        CU_ASSERT_STRING_EQUAL(events_seen, "7<{\"a\":1}><one\n two\n>8<x>");
        web_sse_free(&s);
    }
    static char big[WEB_SSE_MAX + 8];
    struct web_sse s = {.cr = false};
    memset(big, 'x', sizeof big);
    CU_ASSERT_EQUAL(web_sse_feed(&s, ht_slice_of(big, WEB_SSE_MAX), remember, NULL), 0);
    CU_ASSERT_EQUAL(web_sse_feed(&s, ht_slice_of(big, 1), remember, NULL), HT_ELIMIT);
    web_sse_free(&s);
    memcpy(big, "data:", 5); /* many lines of one event are bounded too */
    big[1000] = '\n';
    int rc = 0;
    for (int i = 0; i < 100 && rc == 0; i++)
        rc = web_sse_feed(&s, ht_slice_of(big, 1001), remember, NULL);
    CU_ASSERT_EQUAL(rc, HT_ELIMIT);
    web_sse_free(&s);
}

static const struct tap_test tests[] = {
    {"events are read from pieces of any size", in_pieces_of_any_size},
    {NULL, NULL},
};

int main(void) { return tap_main("web, server-sent events", tests); }
