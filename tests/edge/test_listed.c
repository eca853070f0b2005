/* HAProxy's list of requests: what is read of it, and what is told apart by its number. */
#include "edge/listed.h"

#include "base/mem.h"
#include "support/tap.h"

#include <stdlib.h>

static const char list[] =
    "0x559494851eb0: [30/Nov/2026:17:39:13.750510] id=4294967295 proto=tcpv4 source=127.0.0.1:55118\n"
    "  flags=0xc4a, conn_retries=1, conn_exp=<NEVER> conn_et=0x000 srv_conn=0x55949478f8f0, pend_pos=(nil) waiting=0\n"
    "  frontend=edge (id=2 mode=http), listener=? (id=1) addr=127.0.0.1:18080\n"
    "  backend=any_tls (id=3 mode=http) addr=127.0.0.1:54838\n"
    "  server=any (id=1) addr=10.0.0.7:8443\n"
    "  task=0x55949496ed20 (state=0x00 nice=0 calls=4 rate=1 exp=2s tmask=0x1 age=1m2s)\n"
    "0x55949496f6f0: [30/Nov/2026:17:39:14.794587] id=0 proto=unix_stream source=unix:1\n"
    "  frontend=GLOBAL (id=0 mode=tcp), listener=? (id=1) addr=unix:1\n"
    "  backend=<NONE> (id=-1 mode=-)\n"
    "  server=<NONE> (id=-1)\n"
    "  task=0x55949496fae0 (state=0x00 nice=-64 calls=1 rate=0 exp=<NEVER> tmask=0x1 age=?)\n"
    "\n"
    "0x7f45ec0689d0: [30/Nov/2026:17:39:14.800000] id=1 proto=tcpv6 source=::1:55118\n"
    "  backend=any (id=4 mode=http) addr=::1:54838\n"
    "  server=any (id=1) addr=fd00::7:80\n"
    "  task=0x55949496ed20 (state=0x00 nice=0 calls=4 rate=1 exp=2s tmask=0x1 age=1s)\n\n";

static void what_is_read(void) {
    struct ht_slice text = ht_slice_str(list);
    struct edge_listed l;
    CU_ASSERT_TRUE_FATAL(edge_listed_next(&text, 7, &l));
    CU_ASSERT_STRING_EQUAL(l.name, "0x559494851eb0");
    CU_ASSERT_EQUAL(l.number, 4294967295u);
    CU_ASSERT_EQUAL(l.process, 7);
    CU_ASSERT_STRING_EQUAL(l.ip, "10.0.0.7");
    CU_ASSERT_EQUAL(l.port, 8443);
    CU_ASSERT_TRUE(l.tls);
    CU_ASSERT_TRUE(l.old);
    CU_ASSERT_TRUE_FATAL(edge_listed_next(&text, 7, &l));
    CU_ASSERT_EQUAL(l.number, 0);
    CU_ASSERT_STRING_EQUAL(l.ip, "");
    CU_ASSERT_FALSE(l.old);
    CU_ASSERT_TRUE_FATAL(edge_listed_next(&text, 7, &l));
    CU_ASSERT_STRING_EQUAL(l.ip, "fd00::7");
    CU_ASSERT_EQUAL(l.port, 80);
    CU_ASSERT_FALSE(l.tls);
    CU_ASSERT_FALSE(l.old);
    CU_ASSERT_FALSE(edge_listed_next(&text, 7, &l));
}

/* Each in memory of its own, so that a sanitizer sees a byte too many. */
static void lists_that_are_cut(void) {
    for (size_t n = 0; n < sizeof list; n++) {
        char *copy = malloc(n ? n : 1);
        struct edge_listed l;
        unsigned found = 0;
        CU_ASSERT_PTR_NOT_NULL_FATAL(copy);
        memcpy(copy, list, n);
        for (struct ht_slice text = ht_slice_of(copy, n); edge_listed_next(&text, 7, &l); found++)
            CU_ASSERT_TRUE(strncmp(l.name, "0x", 2) == 0);
        CU_ASSERT_TRUE(found <= 3);
        free(copy);
    }
}

static void what_is_no_request(void) {
    static const char *const texts[] = {
        "Session not found.\n",
        "0x1234: [a] proto=tcpv4\n",
        "0x1234 [a] id=1\n",
        "0x1234: [a] id=x\n",
        "0x12345678901234567890: [a] id=1\n",
        "\n\n",
        "0x: [a] id=1\n",
        "0x12;x: [a] id=1\n",
    };
    struct edge_listed l;
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        struct ht_slice text = ht_slice_str(texts[i]);
        CU_ASSERT_FALSE(edge_listed_next(&text, 7, &l));
    }
}

static void which_is_newer(void) {
    CU_ASSERT_TRUE(edge_listed_newer(2, 1));
    CU_ASSERT_FALSE(edge_listed_newer(1, 1));
    CU_ASSERT_FALSE(edge_listed_newer(1, 2));
    CU_ASSERT_TRUE(edge_listed_newer(3, UINT32_MAX - 3));
    CU_ASSERT_FALSE(edge_listed_newer(UINT32_MAX - 3, 3));
}

static void sets(void) {
    struct edge_listed_set set = {.list = NULL};
    struct edge_listed one = {.process = 7, .number = 0}, other = {.process = 8, .number = 12};
    CU_ASSERT_PTR_NULL(edge_listed_find(&set, &one));
    for (unsigned i = 0; i < 100; i++) {
        one.number = i * 37 % 100;
        CU_ASSERT_EQUAL(edge_listed_add(&set, &one), HT_OK);
    }
    edge_listed_sort(&set);
    for (unsigned i = 0; i < 100; i++) {
        one.number = i;
        CU_ASSERT_PTR_NOT_NULL(edge_listed_find(&set, &one));
    }
    one.number = 100;
    CU_ASSERT_PTR_NULL(edge_listed_find(&set, &one));
    CU_ASSERT_PTR_NULL(edge_listed_find(&set, &other));
    edge_listed_free(&set);
    ht_mem_fail_at(0);
    CU_ASSERT_EQUAL(edge_listed_add(&set, &one), HT_ENOMEM);
    CU_ASSERT_EQUAL(set.n, 0);
    edge_listed_free(&set);
    CU_ASSERT_EQUAL(ht_mem_live(), 0);
}

int main(void) {
    static const struct tap_test tests[] = {
        {"a request has its number, its age, and where it has been sent", what_is_read},
        {"a list may be cut anywhere", lists_that_are_cut},
        {"what is no request is left out", what_is_no_request},
        {"numbers start again behind the last one", which_is_newer},
        {"one is found by its process and number", sets},
        {NULL, NULL},
    };
    return tap_main("listed", tests);
}
