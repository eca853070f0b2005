/*
 * Each system call of the kit (and of our driver, where it takes part) fails once in each scenario, in every way that
 * its manual page knows (support/failing.h). What is only an inconvenience (EINTR, EAGAIN, a short read or write) must
 * not be seen by anybody. What is a failure may cost one connection or one session, visibly; nobody is told anything
 * wrong, the next one is served, and nothing is left behind.
 *
 * Runs: sanitized.
 */
#include "scenarios.h"

#define FAILING_NOW kit_runs
#include "support/failing.h"

/* ---- what may go wrong ---- */

static const struct failing_kind kinds[] = {
    {RECV, EINTR, true},           {RECV, SHORT, true},
    {RECV, EAGAIN, true},          {RECV, ECONNRESET, false},
    {RECV, ENOMEM, false},         {SENDMSG, EINTR, true},
    {SENDMSG, SHORT, true},        {SENDMSG, EAGAIN, true},
    {SENDMSG, EPIPE, false},       {SENDMSG, ECONNRESET, false},
    {SENDMSG, ENOBUFS, false},     {ACCEPT4, EINTR, true},
    {ACCEPT4, EAGAIN, true},       {ACCEPT4, ECONNABORTED, true},
    {ACCEPT4, EMFILE, false},      {ACCEPT4, ENFILE, false},
    {ACCEPT4, ENOMEM, false},      {SOCKET, EMFILE, false},
    {SOCKET, ENOBUFS, false},      {BIND, EADDRINUSE, false},
    {BIND, EACCES, false},         {LISTEN, EADDRINUSE, false},
    {CONNECT, EINTR, true},        {CONNECT, ECONNREFUSED, false},
    {CONNECT, ENETUNREACH, false}, {CONNECT, EADDRNOTAVAIL, false},
    {EPOLL_WAIT, EINTR, true},     {SHUTDOWN, ENOTCONN, false},
    {SETSOCKOPT, ENOBUFS, false},  {GETSOCKOPT, ENOBUFS, false},
    {GETSOCKNAME, ENOBUFS, false}, {GETPEERNAME, ENOTCONN, false},
    {OPEN, EMFILE, true}, /* the reserve of a listener */
    {READ, EINTR, true},           {WRITE, EINTR, true},
};

static bool run_once(size_t which, const struct failing_kind *kind, long at, bool *good) {
    scenario_start(which);
    fault_arm(kind, at);
    *good = scenarios[which].run();
    bool hit = fault_disarm();
    hang_up_all();
    if (scenarios[which].run != drain) {
        /* A listener that ran out of descriptors rests for a tenth of a second. */
        uint64_t end = ht_now_ms() + PATIENCE_MS;
        bool works = scenarios[which].run();
        hang_up_all();
        while (!works && ht_now_ms() < end) {
            /* Not so often that the queue of a listener that rests is full before it is back. */
            for (uint64_t until = ht_now_ms() + 20; ht_now_ms() < until;)
                patient_turn();
            works = scenarios[which].run();
            hang_up_all();
        }
        CU_ASSERT(works);
        if (!works)
            printf("# %s: no recovery\n", scenarios[which].name);
        for (int i = 0; i < 200 && kit_sessions_live(host.kit) > 0; i++)
            patient_turn();
    }
    host_stop();
    return hit;
}

static void every_call_may_fail(void) {
    struct failing_sums sums = {0, 0, 0};
    for (int who = 0; who < N_CLIENTS; who++)
        c[who].fd = -1;
    for (size_t which = 0; which < HT_ARRAY_LEN(scenarios); which++) {
        uint64_t start = ht_now_ms();
        unsigned before = sums.total;
        for (size_t kind = 0; kind < HT_ARRAY_LEN(kinds); kind++) {
            /* Real failures in every second scenario; where a listener has to rest for a tenth of a second, in every
             * sixth. */
            bool rests = kinds[kind].call == ACCEPT4;
            if (kinds[kind].harmless || (which + kind) % (rests ? 6 : 2) == 0)
                fail_each_call(&sums, which, scenarios[which].name, &kinds[kind], 500, run_once);
        }
        if (getenv("HT_TEST_LOG"))
            printf("# %s: %u faults, %llu ms\n", scenarios[which].name, sums.total - before,
                   (unsigned long long)(ht_now_ms() - start));
    }
    printf("# %u faults, %u of them seen by somebody\n", sums.total, sums.seen);
    CU_ASSERT_EQUAL(sums.bad, 0);
    CU_ASSERT(sums.total > 1000);
    CU_ASSERT(sums.seen > 100);
}

/* A kit that cannot start says why and leaves nothing; what it can do without is no reason not to start. */
static void starting_may_fail(void) {
    unsigned failed = 0, started = 0;
    ht_log_setup(2, HT_LOG_ERROR, HT_LOG_TEXT);
    for (size_t kind = 0; kind < HT_ARRAY_LEN(kinds); kind++) {
        bool hit = true;
        for (long at = 0; hit && at < 100; at++) {
            char *argv[] = {(char *)(uintptr_t) "--listen", (char *)(uintptr_t) "127.0.0.1:0",
                            (char *)(uintptr_t) "--connect-proxy", (char *)(uintptr_t) "127.0.0.1:0"};
            struct opt_serve opt;
            struct ht_errmsg err = {""};
            size_t memory = ht_mem_live();
            int descriptors = io_count_fds();
            CU_ASSERT_EQUAL_FATAL(opt_serve_parse(&opt, HT_ARRAY_LEN(argv), argv, &err), 0);
            fault_arm(&kinds[kind], at);
            kit_runs = true;
            struct io_loop *loop = io_loop_create();
            struct kit *k = loop ? kit_create(loop, &opt, &err) : NULL;
            kit_runs = false;
            hit = fault_disarm();
            CU_ASSERT(k || hit);
            CU_ASSERT(k || !loop || err.text[0]);
            started += k != NULL;
            failed += k == NULL;
            kit_destroy(&k);
            io_loop_destroy(&loop);
            opt_serve_free(&opt);
            CU_ASSERT_EQUAL(ht_mem_live(), memory);
            CU_ASSERT_EQUAL(io_count_fds(), descriptors);
        }
    }
    printf("# %u did not start, %u did\n", failed, started);
    CU_ASSERT(failed >= 4);
}

int main(void) {
    static const struct tap_test tests[] = {
        {"starting may fail", starting_may_fail},
        {"every call may fail", every_call_may_fail},
        {NULL, NULL},
    };
    return tap_main("failing system calls", tests);
}
