/* PROXY headers: what is one and what is not, however it is cut, and that nothing behind it is taken. */
#include "base/clock.h"
#include "base/mem.h"
#include "io/proxied.h"
#include "support/tap.h"

#include <stdio.h>
#include <sys/socket.h>
#include <unistd.h>

static struct io_loop *loop;
#define TEST_LOOP loop
#include "support/turns.h"

#define SIGNATURE "\r\n\r\n\0\r\nQUIT\n"

struct header {
    const char *bytes;
    size_t n;
    const char *from; /* NULL: the connection's own peer; "": it is no header */
};
#define TEXT(text, from)                                                                                               \
    { text, sizeof text - 1, from }

static const struct header headers[] = {
    TEXT("PROXY TCP4 192.0.2.7 198.51.100.1 4000 80\r\n", "192.0.2.7:4000"),
    TEXT("PROXY TCP4 255.255.255.255 255.255.255.255 65535 65535\r\n", "255.255.255.255:65535"),
    TEXT("PROXY TCP6 2001:db8::1 ::1 0 65535\r\n", "[2001:db8::1]:0"),
    TEXT("PROXY UNKNOWN\r\n", NULL),
    TEXT("PROXY UNKNOWN ffff::1 ffff::2 65535 65535\r\n", NULL),
    TEXT("PROXY UNKNOWNX\r\n", ""),
    TEXT("PROXY TCP4 192.0.2.7 198.51.100.1 4000 80\n", ""),
    TEXT("PROXY TCP4 192.0.2.7 198.51.100.1 4000 80\rX", ""),
    TEXT("PROXY TCP4  192.0.2.7 198.51.100.1 4000 80\r\n", ""),
    TEXT("PROXY TCP4 192.0.2.7 198.51.100.1 4000 80 \r\n", ""),
    TEXT("PROXY TCP4 192.0.2.7 198.51.100.1 4000\r\n", ""),
    TEXT("PROXY TCP4 192.0.2.7 198.51.100.1 4000 65536\r\n", ""),
    TEXT("PROXY TCP4 192.0.2.7 198.51.100.1 04000 80\r\n", ""),
    TEXT("PROXY TCP4 192.0.2.7 198.51.100.1 +4000 80\r\n", ""),
    TEXT("PROXY TCP4 192.0.2.07 198.51.100.1 4000 80\r\n", ""),
    TEXT("PROXY TCP4 2001:db8::1 ::1 4000 80\r\n", ""),
    TEXT("PROXY TCP6 192.0.2.7 198.51.100.1 4000 80\r\n", ""),
    TEXT("PROXY UDP4 192.0.2.7 198.51.100.1 4000 80\r\n", ""),
    TEXT("PROXY TCP4 192.0.2.7\t198.51.100.1 4000 80\r\n", ""),
    TEXT("proxy TCP4 192.0.2.7 198.51.100.1 4000 80\r\n", ""),
    TEXT("GET / HTTP/1.1\r\nHost: a\r\n\r\n", ""),
    TEXT(SIGNATURE "\x21\x11\0\x0c\xc0\0\2\x08\xc6\x33\x64\1\0\1\0\2", "192.0.2.8:1"),
    TEXT(SIGNATURE "\x21\x11\0\x10\xc0\0\2\x08\xc6\x33\x64\1\0\1\0\2\4\0\1x", "192.0.2.8:1"),
    TEXT(SIGNATURE "\x21\x21\0\x24\x20\1\x0d\xb8\0\0\0\0\0\0\0\0\0\0\0\1\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\1\0\1\0\2",
         "[2001:db8::1]:1"),
    TEXT(SIGNATURE "\x20\0\0\0", NULL),
    TEXT(SIGNATURE "\x20\x11\0\x02zz", NULL),
    TEXT(SIGNATURE "\x21\0\0\x02zz", NULL),
    TEXT(SIGNATURE "\x22\x11\0\x0c\xc0\0\2\x08\xc6\x33\x64\1\0\1\0\2", ""),
    TEXT(SIGNATURE "\x11\x11\0\x0c\xc0\0\2\x08\xc6\x33\x64\1\0\1\0\2", ""),
    TEXT(SIGNATURE "\x21\x12\0\x0c\xc0\0\2\x08\xc6\x33\x64\1\0\1\0\2", ""),
    TEXT(SIGNATURE "\x21\x31\0\x0c\xc0\0\2\x08\xc6\x33\x64\1\0\1\0\2", ""),
    TEXT(SIGNATURE "\x21\x11\0\x0b\xc0\0\2\x08\xc6\x33\x64\1\0\1\0", ""),
    TEXT(SIGNATURE "\x21\x11\0\x0f\xc0\0\2\x08\xc6\x33\x64\1\0\1\0\2\4\0\1", ""), /* a value that is cut off */
    TEXT(SIGNATURE "\x21\x11\xff\xff", ""),
    TEXT("\r\n\r\n\0\r\nQUIT\r", ""),
};

static const char *text_of(const struct io_proxied *p, char out[IO_ADDR_TEXT]) {
    return p->known ? io_addr_text(&p->from, out) : NULL;
}

static bool is_header(const struct header *h) { return !h->from || h->from[0]; }

static void test_headers(void) {
    char text[IO_ADDR_TEXT], behind[512];
    for (size_t i = 0; i < HT_ARRAY_LEN(headers); i++) {
        const struct header *h = &headers[i];
        struct io_proxied p;
        const char *why;
        int n = (int)h->n;
        memcpy(behind, h->bytes, h->n);
        memcpy(behind + h->n, "GET / HTTP/1.1\r\n\r\n", 18);
        ssize_t rc = io_proxied_parse(&p, (const uint8_t *)behind, h->n + 18, &why);
        CU_ASSERT_EQUAL(rc, is_header(h) ? n : HT_EPROTO);
        const char *from = rc > 0 ? text_of(&p, text) : NULL;
        if (rc > 0 && h->from)
            CU_ASSERT_STRING_EQUAL(from ? from : "", h->from);
        CU_ASSERT(rc > 0 || why[0]);
        /* byte by byte it says the same, and never asks for what is behind it */
        for (size_t cut = 0; is_header(h) && cut < h->n; cut++) {
            CU_ASSERT_EQUAL(io_proxied_parse(&p, (const uint8_t *)behind, cut, &why), HT_EAGAIN);
            CU_ASSERT(p.wants >= cut && p.wants <= h->n);
        }
    }
    /* the longest line, and one more */
    memset(behind, 'x', sizeof behind);
    memcpy(behind, "PROXY UNKNOWN ", 14);
    struct io_proxied p;
    const char *why;
    CU_ASSERT_EQUAL(io_proxied_parse(&p, (const uint8_t *)behind, 106, &why), HT_EAGAIN);
    CU_ASSERT_EQUAL(io_proxied_parse(&p, (const uint8_t *)behind, 107, &why), HT_EPROTO);
    memcpy(behind + 105, "\r\n", 2);
    CU_ASSERT_EQUAL(io_proxied_parse(&p, (const uint8_t *)behind, sizeof behind, &why), 107);
}

/* ---- on a connection ---- */

static struct io_conn *told_conn;
static char told_from[IO_ADDR_TEXT], failed_why[128];

static void told(void *ctx, struct io_conn *c, const struct io_addr *from) {
    (void)ctx;
    told_conn = c;
    io_addr_text(from, told_from);
}

static void failed(void *ctx, const char *why) {
    (void)ctx;
    snprintf(failed_why, sizeof failed_why, "%s", why);
}

static const struct io_proxied_ops ops = {told, failed};

static struct io_proxied_reader *begin(struct io_conn *pair[2], uint64_t timeout_ms) {
    struct io_addr peer;
    told_conn = NULL;
    failed_why[0] = '\0';
    CU_ASSERT_EQUAL_FATAL(io_conn_pair(loop, pair), 0);
    CU_ASSERT_EQUAL_FATAL(io_addr_parse(&peer, "203.0.113.1", 9), 0);
    struct io_proxied_reader *r = io_proxied_start(loop, pair[1], &peer, timeout_ms, &ops, NULL);
    CU_ASSERT_PTR_NOT_NULL_FATAL(r);
    return r;
}

static void say(struct io_conn *c, const void *p, size_t n) {
    struct iovec iov = {.iov_base = (char *)(uintptr_t)p, .iov_len = n};
    CU_ASSERT_EQUAL(io_conn_write(c, &iov, 1), (ssize_t)n);
}

static void test_on_a_connection(void) {
    char got[64];
    for (size_t i = 0; i < HT_ARRAY_LEN(headers); i++) {
        const struct header *h = &headers[i];
        for (int pieces = 0; pieces < 2; pieces++) {
            struct io_conn *pair[2];
            (void)begin(pair, 60000);
            for (size_t at = 0; pieces && at < h->n && !failed_why[0]; at++) {
                say(pair[0], h->bytes + at, 1);
                io_loop_turn(loop, true);
            }
            if (!pieces) {
                char all[512];
                memcpy(all, h->bytes, h->n);
                memcpy(all + h->n, "hello", 5);
                say(pair[0], all, h->n + 5);
            }
            if (!is_header(h) && pieces) { /* one that says no more, or was refused already */
                io_conn_close(&pair[0]);
                UNTIL(failed_why[0]);
                continue;
            }
            UNTIL(told_conn || failed_why[0]);
            CU_ASSERT_EQUAL(told_conn != NULL, is_header(h));
            if (told_conn) {
                CU_ASSERT_STRING_EQUAL(told_from, h->from ? h->from : "203.0.113.1:9");
                if (!pieces) {
                    CU_ASSERT_EQUAL(io_conn_read(told_conn, got, sizeof got), 5);
                    CU_ASSERT_EQUAL(memcmp(got, "hello", 5), 0);
                }
                io_conn_close(&told_conn);
            }
            io_conn_close(&pair[0]);
        }
    }
}

static void test_ends(void) {
    struct io_conn *pair[2];
    (void)begin(pair, 1);
    say(pair[0], "PROXY ", 6);
    UNTIL(failed_why[0]);
    CU_ASSERT_STRING_EQUAL(failed_why, "its PROXY header did not come in time");
    io_conn_close(&pair[0]);
    (void)begin(pair, 60000);
    say(pair[0], "PROXY ", 6);
    io_conn_close(&pair[0]);
    UNTIL(failed_why[0]);
    struct io_proxied_reader *r = begin(pair, 60000);
    io_proxied_cancel(&r);
    CU_ASSERT_PTR_NULL(r);
    io_proxied_cancel(&r);
    io_conn_close(&pair[0]);
    CU_ASSERT_EQUAL(failed_why[0], '\0');
}

static int set_up(void) {
    io_ignore_sigpipe();
    loop = io_loop_create();
    return loop ? 0 : 1;
}

static int tear_down(void) {
    io_loop_destroy(&loop);
    return 0;
}

int main(void) {
    static const struct tap_test tests[] = {
        {"headers of both versions are parsed, and wrong ones refused", test_headers},
        {"the bytes behind a header stay on the connection", test_on_a_connection},
        {"a header that is late, wrong or cut off ends the connection", test_ends},
        {NULL, NULL},
    };
    size_t before = ht_mem_live();
    if (set_up())
        return 1;
    int rc = tap_main("io proxied", tests);
    tear_down();
    return rc || ht_mem_live() != before;
}
