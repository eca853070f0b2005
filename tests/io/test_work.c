/* Work on threads: results, order, what is cancelled, and a loop that ends before its threads do. */
#include "io/net_support.h"

#include <stdatomic.h>

static atomic_int running, most, ran;
static atomic_bool gate_open;

/* Waits for the gate, so that it is known how many run at a time. */
static void job(const void *in, size_t n, void *out) {
    int now = atomic_fetch_add(&running, 1) + 1, had = atomic_load(&most);
    while (now > had && !atomic_compare_exchange_weak(&most, &had, now))
        continue;
    while (!atomic_load(&gate_open))
        usleep(100);
    memcpy(out, in, n < IO_WORK_RESULT ? n : IO_WORK_RESULT);
    atomic_fetch_add(&ran, 1);
    atomic_fetch_sub(&running, 1);
}

struct wish {
    int done;
    char result;
};

static void on_done(void *ctx, const void *out) {
    struct wish *w = ctx;
    w->done++;
    w->result = out ? *(const char *)out : '?';
}

static void results_and_bounds(void) {
    struct wish w[6] = {{0}};
    struct io_work *job_of[6];
    atomic_store(&gate_open, false);
    for (int i = 0; i < 6; i++)
        CU_ASSERT_PTR_NOT_NULL(job_of[i] = io_work_start(loop, job, &(char){(char)('a' + i)}, 1, on_done, &w[i]));
    for (uint64_t stop = ht_now_ms() + PATIENCE_MS; atomic_load(&running) < IO_WORKERS && ht_now_ms() < stop;)
        turns(1);
    io_work_cancel(&job_of[0]); /* it runs, and keeps its thread */
    io_work_cancel(&job_of[5]); /* it has not begun */
    CU_ASSERT(!job_of[0] && atomic_load(&running) == IO_WORKERS);
    atomic_store(&gate_open, true);
    for (int i = 1; i < 5; i++)
        CU_ASSERT(turn_until(&w[i].done, PATIENCE_MS) && w[i].done == 1 && w[i].result == 'a' + i);
    for (uint64_t stop = ht_now_ms() + PATIENCE_MS; atomic_load(&ran) < 5 && ht_now_ms() < stop;)
        turns(1); /* nobody is told of the end of the first one */
    CU_ASSERT(!w[0].done && !w[5].done && atomic_load(&most) == IO_WORKERS && atomic_load(&ran) == 5);
    static const uint8_t large[IO_WORK_MAX + 1];
    CU_ASSERT_PTR_NULL(io_work_start(loop, job, large, sizeof large, on_done, w));
}

static void the_loop_ends_first(void) {
    struct wish w = {0};
    struct io_loop *own = io_loop_create();
    int before = atomic_load(&ran);
    atomic_store(&gate_open, false);
    CU_ASSERT_PTR_NOT_NULL(io_work_start(own, job, "x", 1, on_done, &w));
    CU_ASSERT_PTR_NOT_NULL(io_work_start(own, job, "y", 1, on_done, &w));
    CU_ASSERT_PTR_NOT_NULL(io_work_start(own, job, "z", 1, on_done, &w));
    io_loop_destroy(&own);
    atomic_store(&gate_open, true);
    for (uint64_t stop = ht_now_ms() + PATIENCE_MS; atomic_load(&ran) < before + 2 && ht_now_ms() < stop;)
        usleep(1000);
    CU_ASSERT(!w.done && atomic_load(&ran) == before + 2); /* the third had not begun */
}

/* Without a thread or a descriptor the result is that there is none. */
static void failing_allocations(void) {
    struct wish w = {0};
    ht_mem_fail_at(0);
    CU_ASSERT_PTR_NULL(io_work_start(loop, job, "x", 1, on_done, &w));
    ht_mem_fail_at(-1);
    CU_ASSERT(!w.done);
}

static const struct tap_test tests[] = {
    {"so many run at a time, the others after them; what is cancelled tells nothing", results_and_bounds},
    {"a loop ends before its threads do", the_loop_ends_first},
    {"without memory there is no work", failing_allocations},
    {NULL, NULL},
};

int main(void) {
    loop = io_loop_create();
    int rc = tap_main("io, work", tests);
    turns(2);
    io_loop_destroy(&loop);
    return rc;
}
