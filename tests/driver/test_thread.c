/* The ways to drive a tunnel beside its own loop: a descriptor in somebody's poll(), and a thread. */
#include "kit/peer.h"

#include "driver/hoody_tunnel.h"

#include <pthread.h>
#include <stdatomic.h>

static struct ht_tunnel *tunnel;
static atomic_uint connected, bound, unbound, ended, failed;
static atomic_int end_error, join_in_callback;
static pthread_t told_in;

static void on_connected(void *user, const struct ht_connected *c) {
    (void)user, (void)c;
    told_in = pthread_self();
    atomic_store(&join_in_callback, ht_tunnel_join(tunnel));
    atomic_fetch_add(&connected, 1);
}

static void on_bound(void *user, const struct ht_bound *b) {
    (void)user, (void)b;
    atomic_fetch_add(&bound, 1);
}

static void on_bind_failed(void *user, const struct ht_bind_failure *f) {
    (void)user, (void)f;
    atomic_fetch_add(&failed, 1);
}

static void on_unbound(void *user, const struct ht_unbound *u) {
    (void)user, (void)u;
    atomic_fetch_add(&unbound, 1);
}

static void on_ended(void *user, int error, const char *text) {
    (void)user, (void)text;
    atomic_store(&end_error, error);
    atomic_fetch_add(&ended, 1);
}

/* A kit, and a tunnel to it that nobody runs yet. */
static void begin(void) {
    static const struct ht_tunnel_callbacks calls = {.size = sizeof calls,
                                                     .connected = on_connected,
                                                     .bound = on_bound,
                                                     .bind_failed = on_bind_failed,
                                                     .unbound = on_unbound,
                                                     .ended = on_ended};
    char url[64];
    host_start("");
    snprintf(url, sizeof url, "ws://127.0.0.1:%u", host.port);
    struct ht_tunnel_options o = {.size = sizeof o, .url = url, .connections = 2};
    connected = bound = unbound = ended = failed = 0;
    CU_ASSERT_EQUAL_FATAL(ht_tunnel_create(&tunnel, &o, &calls, NULL), HT_TUNNEL_OK);
}

static int bind_port(uint16_t port) {
    struct ht_bind_options b = {.size = sizeof b, .kind = HT_PULL_TCP, .target = "127.0.0.1:9", .container_port = port};
    return ht_tunnel_bind(tunnel, &b);
}

static struct ht_tunnel_status status(void) {
    struct ht_tunnel_status s = {.size = sizeof s};
    CU_ASSERT_EQUAL(ht_tunnel_get_status(tunnel, &s), HT_TUNNEL_OK);
    return s;
}

/* What blocks is asked for by threads: the main thread is the kit's. */
struct job {
    int (*what)(void);
    int rc;
    atomic_bool done;
};

static void *do_job(void *arg) {
    struct job *j = arg;
    j->rc = j->what();
    atomic_store(&j->done, true);
    return NULL;
}

static int elsewhere(int (*what)(void)) {
    struct job j = {.what = what};
    pthread_t id;
    CU_ASSERT_EQUAL_FATAL(pthread_create(&id, NULL, do_job, &j), 0);
    UNTIL(atomic_load(&j.done));
    pthread_join(id, NULL);
    return j.rc;
}

static int join(void) { return ht_tunnel_join(tunnel); }

static void goodbye(void) {
    CU_ASSERT_EQUAL(ht_tunnel_close(tunnel), HT_TUNNEL_OK);
    CU_ASSERT_EQUAL(elsewhere(join), HT_TUNNEL_OK);
    CU_ASSERT_EQUAL(ended, 1);
    CU_ASSERT_EQUAL(end_error, HT_TUNNEL_OK);
    UNTIL(kit_sessions_live(host.kit) == 0);
    CU_ASSERT_EQUAL(kit_sessions_parked(host.kit), 0);
}

static void stop(void) {
    ht_tunnel_destroy(&tunnel);
    host_stop();
}

static void a_thread_of_its_own(void) {
    begin();
    CU_ASSERT_EQUAL(ht_tunnel_join(tunnel), HT_TUNNEL_ESTATE); /* there is none */
    CU_ASSERT(bind_port(0) > 0);                               /* before and after the start are the same */
    CU_ASSERT_EQUAL(ht_tunnel_connect(tunnel), HT_TUNNEL_OK);
    CU_ASSERT_EQUAL(ht_tunnel_start(tunnel), HT_TUNNEL_OK);
    CU_ASSERT_EQUAL(ht_tunnel_start(tunnel), HT_TUNNEL_ESTATE);
    CU_ASSERT_EQUAL(ht_tunnel_run(tunnel), HT_TUNNEL_ESTATE);
    CU_ASSERT_EQUAL(ht_tunnel_process(tunnel), HT_TUNNEL_ESTATE);
    CU_ASSERT_EQUAL(ht_tunnel_fd(tunnel), HT_TUNNEL_ESTATE);
    CU_ASSERT_EQUAL(ht_tunnel_timeout_ms(tunnel), -1);
    UNTIL(bound == 1);
    CU_ASSERT(!pthread_equal(told_in, pthread_self()));
    CU_ASSERT_EQUAL(join_in_callback, HT_TUNNEL_ESTATE);
    int second = bind_port(0);
    CU_ASSERT(second > 1);
    UNTIL(bound == 2 && status().connections == 2);
    CU_ASSERT_EQUAL(ht_tunnel_connect(tunnel), HT_TUNNEL_ESTATE);
    CU_ASSERT_STRING_EQUAL(ht_tunnel_last_error(),
                           "ht_tunnel_connect() can be called once for a tunnel"); /* the caller's own */
    CU_ASSERT_EQUAL(status().bindings, 2);
    CU_ASSERT_EQUAL(ht_tunnel_streams(tunnel), 0);
    CU_ASSERT_EQUAL(ht_tunnel_unbind(tunnel, second), HT_TUNNEL_OK);
    CU_ASSERT_EQUAL(ht_tunnel_unbind(tunnel, 77), HT_TUNNEL_EINVAL);
    UNTIL(unbound == 1);
    goodbye();
    CU_ASSERT_EQUAL(bind_port(0), HT_TUNNEL_ESTATE); /* it is over, and says so */
    CU_ASSERT_EQUAL(ht_tunnel_close(tunnel), HT_TUNNEL_OK);
    CU_ASSERT_EQUAL(status().state, HT_TUNNEL_ENDED);
    CU_ASSERT_EQUAL(ht_tunnel_join(tunnel), HT_TUNNEL_ESTATE); /* once */
    stop();
}

static void stopped_and_destroyed(void) {
    for (int how = 0; how < 3; how++) {
        begin();
        CU_ASSERT_EQUAL(ht_tunnel_start(tunnel), HT_TUNNEL_OK);
        CU_ASSERT_EQUAL(ht_tunnel_connect(tunnel), HT_TUNNEL_OK);
        if (how > 0)
            UNTIL(connected);
        if (how == 1) {
            ht_tunnel_stop(tunnel);
            CU_ASSERT_EQUAL(ht_tunnel_join(tunnel), HT_TUNNEL_STOPPED);
            CU_ASSERT_EQUAL(status().state, HT_TUNNEL_ENDED);
            CU_ASSERT_EQUAL(ended, 0);
        }
        stop(); /* joins by itself */
    }
}

/* Calls from many threads at once, also while it ends. */
static void *hammer(void *arg) {
    atomic_bool *go_on = arg;
    while (atomic_load(go_on)) {
        int n = bind_port(0);
        struct ht_tunnel_status s = {.size = sizeof s};
        (void)ht_tunnel_get_status(tunnel, &s);
        (void)ht_tunnel_streams(tunnel);
        ht_tunnel_retry_now(tunnel);
        if (n > 0)
            (void)ht_tunnel_unbind(tunnel, n);
        if (n == HT_TUNNEL_ESTATE)
            break;
    }
    return NULL;
}

static void many_threads_ask_at_once(void) {
    atomic_bool go_on = true;
    pthread_t ids[4];
    begin();
    CU_ASSERT_EQUAL(ht_tunnel_start(tunnel), HT_TUNNEL_OK);
    CU_ASSERT_EQUAL(ht_tunnel_connect(tunnel), HT_TUNNEL_OK);
    for (size_t i = 0; i < HT_ARRAY_LEN(ids); i++)
        CU_ASSERT_EQUAL_FATAL(pthread_create(&ids[i], NULL, hammer, &go_on), 0);
    UNTIL(unbound + failed >= 200);
    goodbye(); /* and each of them hears that it is over */
    for (size_t i = 0; i < HT_ARRAY_LEN(ids); i++)
        pthread_join(ids[i], NULL);
    stop();
}

/* ---- somebody else's loop ---- */

/* Waits by the descriptor alone, or by the clock alone; the kit's turns come in between. */
static int turn(bool by_clock) {
    struct pollfd fds[] = {{.fd = io_loop_fd(host.loop), .events = POLLIN},
                           {.fd = ht_tunnel_fd(tunnel), .events = POLLIN}};
    int most = ht_tunnel_timeout_ms(tunnel);
    (void)poll(fds, by_clock ? 1 : 2, most < 0 || most > 5 || !by_clock ? 5 : most);
    io_loop_turn(host.loop, false);
    return by_clock || fds[1].revents ? ht_tunnel_process(tunnel) : HT_TUNNEL_OK;
}

static void somebody_elses_loop(void) {
    for (int by_clock = 0; by_clock < 2; by_clock++) {
        begin();
        CU_ASSERT_EQUAL(ht_tunnel_timeout_ms(tunnel), -1);
        CU_ASSERT_EQUAL(ht_tunnel_process(tunnel), HT_TUNNEL_OK); /* nothing to do */
        CU_ASSERT(bind_port(0) > 0);
        CU_ASSERT_EQUAL(ht_tunnel_connect(tunnel), HT_TUNNEL_OK);
        uint64_t until = ht_now_ms() + PATIENCE_MS;
        while (!(bound && status().connections == 2) && ht_now_ms() < until)
            CU_ASSERT_EQUAL(turn(by_clock), HT_TUNNEL_OK);
        CU_ASSERT_EQUAL(bound, 1);
        int ms = ht_tunnel_timeout_ms(tunnel); /* to the next PING, at the latest */
        CU_ASSERT(ms >= 0 && ms <= 30000);
        CU_ASSERT_EQUAL(ht_tunnel_start(tunnel), HT_TUNNEL_ESTATE); /* too late for a thread */
        CU_ASSERT_EQUAL(ht_tunnel_close(tunnel), HT_TUNNEL_OK);
        while (!ended && ht_now_ms() < until)
            (void)turn(by_clock);
        CU_ASSERT_EQUAL(ended, 1);
        CU_ASSERT_EQUAL(ht_tunnel_timeout_ms(tunnel), -1);
        CU_ASSERT_EQUAL(ht_tunnel_process(tunnel), HT_TUNNEL_OK);
        stop();
    }
}

static const struct tap_test tests[] = {
    {"a tunnel can have a thread of its own", a_thread_of_its_own},
    {"a tunnel with a thread can be stopped and destroyed", stopped_and_destroyed},
    {"many threads may call a tunnel at once", many_threads_ask_at_once},
    {"a tunnel can run on a loop of the caller", somebody_elses_loop},
    {NULL, NULL},
};

int main(void) { return tap_main("driver, ways to drive it", tests); }
