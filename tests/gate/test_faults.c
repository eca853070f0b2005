/* A gate whose i-th allocation fails, for every i: it is not made, says so, and nothing is left. */
#include "gate/gate.h"

#include "io/net_support.h"

#include <sys/stat.h>

#define HASH "$2y$10$abcdefghijklmnopqrstuuabcdefghijklmnopqrstuvwxyz01234"

static char users[] = "/tmp/ht-users-XXXXXX", page[] = "/tmp/ht-page-XXXXXX.html";

static void on_trouble(void *ctx, const char *text) {
    (void)text;
    ++*(int *)ctx;
}

static struct gate *make(int *troubles, int *rc, struct ht_errmsg *err) {
    static const char *const rules[] = {"A: b", "-C"}, *const nets[] = {"10.0.0.0/8,::1", "10.0.0.1"},
                             *const pages[] = {page};
    return gate_create(&(struct gate_config){.loop = loop,
                                             .options = {.host_header = "rewrite",
                                                         .request_headers = rules,
                                                         .response_headers = rules,
                                                         .n_request_headers = 2,
                                                         .n_response_headers = 2,
                                                         .allow = nets,
                                                         .deny = nets,
                                                         .edges = nets,
                                                         .n_allow = 2,
                                                         .n_deny = 2,
                                                         .n_edges = 2,
                                                         .passwords = users,
                                                         .pages = pages,
                                                         .n_pages = 1},
                                             .authority = "localhost:3000",
                                             .trouble = on_trouble,
                                             .ctx = troubles},
                       rc, err);
}

static void each_allocation(void) {
    struct ht_errmsg err;
    size_t live = ht_mem_live();
    int troubles = 0, rc = 0, failed = 0;
    for (long i = 0;; i++) {
        ht_mem_fail_at(i);
        struct gate *g = make(&troubles, &rc, &err);
        bool over = ht_mem_fail_pending();
        ht_mem_fail_at(-1);
        CU_ASSERT((g == NULL) == (rc < 0) && (over || g || (rc == HT_ENOMEM && err.text[0])));
        failed += g == NULL;
        gate_destroy(&g);
        CU_ASSERT_EQUAL(ht_mem_live(), live);
        if (over)
            break;
    }
    CU_ASSERT(failed > 15 && rc == 0);
    struct gate *g = make(&troubles, &rc, &err);
    CU_ASSERT_PTR_NOT_NULL_FATAL(g);
    size_t with = ht_mem_live();
    for (long i = 0;; i++) { /* what was read before stays */
        ht_mem_fail_at(i);
        gate_reload(g);
        bool over = ht_mem_fail_pending();
        ht_mem_fail_at(-1);
        CU_ASSERT_EQUAL(ht_mem_live(), with);
        if (over)
            break;
    }
    CU_ASSERT(troubles > 2);
    gate_destroy(&g);
    CU_ASSERT_EQUAL(ht_mem_live(), live);
}

static const struct tap_test tests[] = {{"each allocation of a gate may fail", each_allocation}, {NULL, NULL}};

int main(void) {
    int fd = mkstemp(users), other = mkstemps(page, 5);
    static const char text[] = "ann:" HASH "\nbob:" HASH "\n";
    loop = io_loop_create();
    if (fd < 0 || other < 0 || write(fd, text, sizeof text - 1) < 0 || write(other, "sorry", 5) < 0)
        return 1;
    int rc = tap_main("gate, faults", tests);
    io_loop_destroy(&loop);
    close(fd);
    close(other);
    unlink(users);
    unlink(page);
    return rc;
}
