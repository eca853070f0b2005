/*
 * Each allocation fails once in each of these scenarios: the kit goes on, nobody is told anything wrong, nothing is
 * left behind, and the same scenario works right after it.
 *
 * Runs: sanitized.
 */
#include "scenarios.h"

static bool run_once(size_t which, long fail_at) {
    scenario_start(which);
    ht_mem_fail_at(fail_at);
    bool good = scenarios[which].run();
    bool pending = ht_mem_fail_pending();
    ht_mem_fail_at(-1);
    hang_up_all();
    /* Whatever happened: the same works now, on the same kit if there is one. */
    if (scenarios[which].run == drain) {
        host_stop();
        CU_ASSERT(good || !pending);
        return !pending;
    }
    if (!scenarios[which].run()) {
        printf("# %s does not work again after allocation %ld failed\n", scenarios[which].name, fail_at);
        for (int who = 0; who < N_CLIENTS; who++)
            printf("# %d: %zu bytes, %s\n", who, c[who].n, c[who].text);
        CU_FAIL_FATAL("no recovery");
    }
    hang_up_all();
    for (int i = 0; i < 200 && kit_sessions_live(host.kit) > 0; i++)
        one_turn();
    host_stop();
    CU_ASSERT(good || !pending);
    if (!good && pending)
        printf("# %s fails by itself\n", scenarios[which].name);
    return !pending;
}

static void the_kit_outlives_every_failure(void) {
    unsigned total = 0;
    for (int who = 0; who < N_CLIENTS; who++)
        c[who].fd = -1;
    for (size_t which = 0; which < HT_ARRAY_LEN(scenarios); which++) {
        long index = 0;
        uint64_t start = ht_now_ms();
        while (index < 2000 && run_once(which, index))
            index++;
        CU_ASSERT(index > 5 && index < 2000);
        printf("# %s: %ld allocations, %llu ms\n", scenarios[which].name, index,
               (unsigned long long)(ht_now_ms() - start));
        total += (unsigned)index;
    }
    printf("# %u failures in %zu scenarios\n", total, HT_ARRAY_LEN(scenarios));
}

static void creating_one_may_fail(void) {
    ht_log_setup(2, HT_LOG_ERROR, HT_LOG_TEXT);
    size_t before = ht_mem_live();
    struct io_loop *loop = io_loop_create();
    struct opt_serve opt;
    struct ht_errmsg err;
    char *argv[] = {(char *)(uintptr_t) "--listen",        (char *)(uintptr_t) "127.0.0.1:0",
                    (char *)(uintptr_t) "--connect-proxy", (char *)(uintptr_t) "127.0.0.1:0",
                    (char *)(uintptr_t) "--connect-allow", (char *)(uintptr_t) "127.0.0.1"};
    CU_ASSERT_EQUAL_FATAL(opt_serve_parse(&opt, HT_ARRAY_LEN(argv), argv, &err), 0);
    size_t made = ht_mem_live();
    struct kit *k = NULL;
    long index = 0;
    for (; index < 100 && !k; index++) {
        ht_mem_fail_at(index);
        k = kit_create(loop, &opt, &err);
        ht_mem_fail_at(-1);
        if (!k)
            CU_ASSERT_EQUAL(ht_mem_live(), made);
    }
    CU_ASSERT_PTR_NOT_NULL(k);
    CU_ASSERT(index > 3);
    kit_destroy(&k);
    opt_serve_free(&opt);
    io_loop_destroy(&loop);
    CU_ASSERT_EQUAL(ht_mem_live(), before);
}

int main(void) {
    static const struct tap_test tests[] = {
        {"creating a kit may fail at each allocation", creating_one_may_fail},
        {"a kit survives each failed allocation", the_kit_outlives_every_failure},
        {NULL, NULL},
    };
    return tap_main("failing memory", tests);
}
