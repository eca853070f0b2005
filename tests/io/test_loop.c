/* The loop itself: tasks, timers, signals, embedding; addresses. */
#include "base/clock.h"
#include "base/mem.h"
#include "io/io.h"
#include "support/tap.h"

#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <unistd.h>

struct counter {
    struct io_task task;
    struct io_loop *loop;
    int runs, again;
    struct io_task *cancel;
};

static void count_run(struct io_task *t) {
    struct counter *c = ht_container_of(t, struct counter, task);
    c->runs++;
    if (c->again-- > 0)
        io_task_add(c->loop, t);
    if (c->cancel)
        io_task_cancel(c->cancel);
}

static void tasks_run_once_before_the_turn_ends(void) {
    struct io_loop *loop = io_loop_create();
    struct counter a = {.loop = loop}, b = {.loop = loop};
    io_task_init(&a.task, count_run);
    io_task_init(&b.task, count_run);
    io_task_add(loop, &a.task);
    io_task_add(loop, &a.task);
    io_loop_turn(loop, true); /* must not wait: there is work */
    CU_ASSERT_EQUAL(a.runs, 1);
    io_loop_turn(loop, false);
    CU_ASSERT_EQUAL(a.runs, 1);
    a.cancel = &b.task;
    io_task_add(loop, &a.task);
    io_task_add(loop, &b.task);
    io_loop_turn(loop, true);
    CU_ASSERT_EQUAL(a.runs, 2);
    CU_ASSERT_EQUAL(b.runs, 0);
    io_loop_destroy(&loop);
    CU_ASSERT_PTR_NULL(loop);
}

static void tasks_go_in_sixteen_rounds(void) {
    struct io_loop *loop = io_loop_create();
    struct counter a = {.loop = loop, .again = 40};
    io_task_init(&a.task, count_run);
    io_task_add(loop, &a.task);
    io_loop_turn(loop, true);
    CU_ASSERT_EQUAL(a.runs, 16);
    io_loop_turn(loop, true);
    CU_ASSERT_EQUAL(a.runs, 32);
    io_loop_turn(loop, true);
    CU_ASSERT_EQUAL(a.runs, 41);
    io_loop_destroy(&loop);
}

struct tick {
    struct io_timer timer;
    uint64_t from, by, fired_at; /* it is due between the two: the clock goes on while it is set */
    int fired;
};
static int fire_order;
static void on_tick(struct io_timer *t) {
    struct tick *k = ht_container_of(t, struct tick, timer);
    k->fired = ++fire_order;
    k->fired_at = ht_now_us();
}

static void set(struct tick *k, uint64_t after_ms) {
    k->from = ht_now_us() + after_ms * 1000;
    io_timer_set(&k->timer, after_ms);
    k->by = ht_now_us() + after_ms * 1000;
}

static void timers_fire_in_order_and_not_early(void) {
    struct io_loop *loop = io_loop_create();
    enum { N = 300 };
    static struct tick t[N];
    uint64_t start = ht_now_us();
    fire_order = 0;
    for (int i = 0; i < N; i++) {
        io_timer_init(loop, &t[i].timer, on_tick);
        t[i].fired = 0;
        set(&t[i], (uint64_t)((i * 37) % 50));
    }
    /* Every third is stopped, every fifth moved later, every seventh earlier. */
    int expect = 0;
    for (int i = 0; i < N; i++) {
        if (i % 5 == 0)
            set(&t[i], 60);
        else if (i % 7 == 0)
            set(&t[i], 1);
        if (i % 3 == 0)
            io_timer_stop(&t[i].timer);
        expect += i % 3 != 0;
        CU_ASSERT_EQUAL(io_timer_active(&t[i].timer), i % 3 != 0);
    }
    while (fire_order < expect && ht_now_us() - start < 5000000)
        io_loop_turn(loop, true);
    CU_ASSERT_EQUAL(fire_order, expect);
    for (int i = 0; i < N; i++) {
        CU_ASSERT_EQUAL(t[i].fired != 0, i % 3 != 0);
        CU_ASSERT_FALSE(io_timer_active(&t[i].timer));
        if (t[i].fired)
            CU_ASSERT(t[i].fired_at >= t[i].from);
        for (int j = 0; j < i && t[i].fired; j++)
            if (t[j].fired && t[j].by + 2000 < t[i].from)
                CU_ASSERT(t[j].fired < t[i].fired);
    }
    CU_ASSERT(io_loop_take_lag_us(loop) < 5000000);
    io_loop_destroy(&loop);
}

static void a_random_life_of_timers(void) {
    struct io_loop *loop = io_loop_create();
    enum { N = 64 };
    static struct tick t[N];
    unsigned seed = 7;
    for (int i = 0; i < N; i++)
        io_timer_init(loop, &t[i].timer, on_tick);
    uint64_t stop = ht_now_ms() + 60;
    while (ht_now_ms() < stop) {
        for (int k = 0; k < 20; k++) {
            seed = seed * 1103515245u + 12345u;
            struct tick *x = &t[(seed >> 16) % N];
            x->fired = 0;
            if (seed & 0x1000)
                io_timer_stop(&x->timer);
            else
                io_timer_set(&x->timer, (seed >> 8) % 9);
        }
        io_loop_turn(loop, false);
        for (int i = 0; i < N; i++)
            if (io_timer_active(&t[i].timer))
                CU_ASSERT(t[i].timer.due / 1000 + 1 >= io_now_ms(loop));
    }
    for (int i = 0; i < N; i++)
        io_timer_stop(&t[i].timer);
    io_loop_destroy(&loop);
}

static int got_signal;
static struct io_loop *signal_loop;
static void on_signal(struct io_signal *s, int signo) {
    (void)s;
    got_signal = signo;
    io_loop_break(signal_loop);
}

static void signals_and_run_and_break(void) {
    struct io_loop *loop = signal_loop = io_loop_create();
    struct io_signal s;
    io_signal_start(loop, &s, SIGUSR1, on_signal);
    io_loop_turn(loop, false);
    kill(getpid(), SIGUSR1);
    io_loop_run(loop);
    CU_ASSERT_EQUAL(got_signal, SIGUSR1);
    io_signal_stop(&s);
    io_ignore_sigpipe();
    struct sigaction sa;
    sigaction(SIGPIPE, NULL, &sa);
    CU_ASSERT(sa.sa_handler == SIG_IGN);
    io_loop_destroy(&loop);
}

/* One that comes while the program ends must not change how it ends. */
static void a_signal_that_was_ignored_is_ignored_again(void) {
    struct io_loop *loop = signal_loop = io_loop_create();
    struct io_signal two[2];
    struct sigaction sa;
    signal(SIGUSR1, SIG_DFL);
    signal(SIGUSR2, SIG_IGN);
    io_signal_start(loop, &two[0], SIGUSR1, on_signal);
    io_signal_start(loop, &two[1], SIGUSR2, on_signal);
    io_signal_stop(&two[0]);
    io_signal_stop(&two[1]);
    sigaction(SIGUSR1, NULL, &sa);
    CU_ASSERT(sa.sa_handler == SIG_DFL);
    sigaction(SIGUSR2, NULL, &sa);
    CU_ASSERT(sa.sa_handler == SIG_IGN);
    signal(SIGUSR2, SIG_DFL);
    io_loop_destroy(&loop);
}

static void signals_that_belong_to_one_request(void) {
    struct io_end_requests r = {.n = 0};
    CU_ASSERT_EQUAL(io_end_request(&r), 1);
    CU_ASSERT_EQUAL(io_end_request(&r), 0);
    ht_clock_skip((IO_SAME_REQUEST_MS + 1) * UINT64_C(1000));
    CU_ASSERT_EQUAL(io_end_request(&r), 2);
    CU_ASSERT_EQUAL(io_end_request(&r), 3);
    CU_ASSERT_EQUAL(r.n, 3);
}

static bool polls(int fd, int ms) { return poll(&(struct pollfd){.fd = fd, .events = POLLIN}, 1, ms) == 1; }

static void an_embedded_loop_tells_when_it_has_work(void) {
    struct io_loop *loop = io_loop_create();
    int fd = io_loop_fd(loop);
    CU_ASSERT_FATAL(fd >= 0);
    CU_ASSERT(polls(fd, 1000)); /* whatever was set up before must be seen once */
    io_loop_turn(loop, false);
    for (int i = 0; i < 5 && polls(fd, 0); i++)
        io_loop_turn(loop, false);
    CU_ASSERT_FALSE(polls(fd, 0));
    CU_ASSERT_EQUAL(io_loop_fd(loop), fd); /* many ask before each poll */
    CU_ASSERT_FALSE(polls(fd, 0));
    struct counter a = {.loop = loop};
    io_task_init(&a.task, count_run);
    io_task_add(loop, &a.task);
    CU_ASSERT(polls(fd, 1000));
    io_loop_turn(loop, false);
    CU_ASSERT_EQUAL(a.runs, 1);
    CU_ASSERT_FALSE(polls(fd, 0));
    struct tick k = {0};
    io_timer_init(loop, &k.timer, on_tick);
    io_timer_set(&k.timer, 20);
    uint64_t begin = ht_now_ms();
    while (!k.fired && ht_now_ms() - begin < 3000) {
        CU_ASSERT(polls(fd, 3000));
        io_loop_turn(loop, false);
    }
    CU_ASSERT(k.fired != 0 && ht_now_ms() - begin >= 20);
    CU_ASSERT_FALSE(polls(fd, 0));
    io_loop_destroy(&loop);
}

static void addresses(void) {
    struct io_addr a;
    struct ht_errmsg e;
    char t[IO_ADDR_TEXT];
    static const struct {
        const char *in, *out, *host;
        bool loopback;
    } good[] = {
        {"127.0.0.1:50", "127.0.0.1:50", "127.0.0.1", true},
        {"[::1]:65535", "[::1]:65535", "::1", true},
        {":0", "127.0.0.1:0", "127.0.0.1", true},
        {"localhost:80", "127.0.0.1:80", "127.0.0.1", true},
        {"[::ffff:10.0.0.1]:9", "10.0.0.1:9", "10.0.0.1", false},
        {"[::ffff:127.3.0.1]:9", "127.3.0.1:9", "127.3.0.1", true},
        {"0.0.0.0:1", "0.0.0.0:1", "0.0.0.0", false},
        {"[2001:db8::2]:443", "[2001:db8::2]:443", "2001:db8::2", false},
    };
    for (size_t i = 0; i < HT_ARRAY_LEN(good); i++) {
        CU_ASSERT_EQUAL(io_addr_parse_hostport(&a, good[i].in, &e), HT_OK);
        CU_ASSERT_STRING_EQUAL(io_addr_text(&a, t), good[i].out);
        CU_ASSERT_STRING_EQUAL(io_addr_host(&a, t), good[i].host);
        CU_ASSERT_EQUAL(io_addr_is_loopback(&a), good[i].loopback);
        CU_ASSERT_EQUAL(io_addr_port(&a), atoi(strrchr(good[i].in, ':') + 1));
    }
    static const char *const bad[] = {
        "",        "80",         "127.0.0.1",  "127.0.0.1:",  "127.0.0.1:65536",
        "::1:80",  "[::1]80",    "[]:1",       "[1.2.3.4]:5", "example.org:80",
        "1.2.3:4", "1.2.3.4:-1", "1.2.3.4:+1", "[::1]:1 ",    "1.2.3.4:99999999999999999999"};
    for (size_t i = 0; i < HT_ARRAY_LEN(bad); i++) {
        e.text[0] = '\0';
        CU_ASSERT_EQUAL(io_addr_parse_hostport(&a, bad[i], &e), HT_EINVAL);
        CU_ASSERT(strstr(e.text, bad[i]) != NULL);
    }
    CU_ASSERT_EQUAL(io_addr_parse(&a, "name", 1), HT_EINVAL);
    memset(&a, 0, sizeof a);
    CU_ASSERT_STRING_EQUAL(io_addr_text(&a, t), "local");
    CU_ASSERT_FALSE(io_addr_is_loopback(&a));
    CU_ASSERT_EQUAL(io_addr_port(&a), 0);
    struct io_fds f = {.total = 2};
    CU_ASSERT(io_fds_take(&f) && io_fds_take(&f) && !io_fds_take(&f));
    io_fds_give(&f);
    CU_ASSERT_EQUAL(io_fds_available(&f), 1);
    CU_ASSERT(io_raise_fd_limit() > 3);
}

static void warm_blocks_stay_for_a_second(void) {
    struct io_loop *loop = io_loop_create();
    struct ht_pool *pool = io_loop_blocks(loop);
    void *blocks[10];
    for (int round = 0; round < 3; round++) {
        for (int i = 0; i < 10; i++)
            blocks[i] = ht_pool_get(pool);
        for (int i = 0; i < 10; i++)
            io_loop_put_block(loop, blocks[i]);
        CU_ASSERT_EQUAL(pool->free_count, 10);
        ht_clock_skip(1001000);
        io_loop_turn(loop, true); /* they were in use in this second */
        CU_ASSERT_EQUAL(pool->free_count, 10);
    }
    ht_clock_skip(1001000);
    io_loop_turn(loop, true);
    CU_ASSERT(pool->free_count < 10);
    CU_ASSERT_EQUAL(io_loop_timeout_ms(loop), -1); /* nothing wakes the process any more */
    for (int i = 0; i < 10; i++)
        blocks[i] = ht_pool_get(pool);
    for (int i = 0; i < 10; i++)
        io_loop_put_block(loop, blocks[i]);
    CU_ASSERT(io_loop_timeout_ms(loop) > 0);
    io_loop_destroy(&loop);
}

static void a_loop_leaves_nothing(void) {
    int fds = io_count_fds();
    size_t live = ht_mem_live();
    for (int i = 0; i < 20; i++) {
        struct io_loop *loop = io_loop_create();
        io_loop_turn(loop, false);
        ht_pool_put(io_loop_blocks(loop), ht_pool_get(io_loop_blocks(loop)));
        io_loop_destroy(&loop);
    }
    io_loop_destroy(&(struct io_loop *){NULL});
    ht_mem_fail_at(0);
    CU_ASSERT_PTR_NULL(io_loop_create());
    ht_mem_fail_at(-1);
    CU_ASSERT_EQUAL(io_count_fds(), fds);
    CU_ASSERT_EQUAL(ht_mem_live(), live);
}

int main(void) {
    alarm(60);
    static const struct tap_test tests[] = {
        {"tasks run once, before the turn ends", tasks_run_once_before_the_turn_ends},
        {"tasks that add tasks run in at most sixteen rounds a turn", tasks_go_in_sixteen_rounds},
        {"timers fire in order and not early", timers_fire_in_order_and_not_early},
        {"timers set, moved and stopped at random fire when they should", a_random_life_of_timers},
        {"a signal is reported, and break ends run", signals_and_run_and_break},
        {"a signal that was ignored is ignored again afterwards", a_signal_that_was_ignored_is_ignored_again},
        {"signals within half a second are one request to end", signals_that_belong_to_one_request},
        {"an embedded loop reports when it has work", an_embedded_loop_tells_when_it_has_work},
        {"addresses are read and written", addresses},
        {"warm blocks stay for a second", warm_blocks_stay_for_a_second},
        {"a destroyed loop leaves no descriptor open", a_loop_leaves_nothing},
        {NULL, NULL},
    };
    return tap_main("io loop", tests);
}
