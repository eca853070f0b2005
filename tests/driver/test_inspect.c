/* The inspector of a tunnel: where it listens, what it refuses, and whether it knows that a service is there. */
#include "driver/kit_script.h"

static char url[256];
static unsigned n_told, n_warnings;

static void inspecting(void *user, const char *text) {
    (void)user;
    n_told++;
    snprintf(url, sizeof url, "%s", text);
}

static void log_text(void *user, enum ht_log_severity severity, const char *text) {
    (void)user, (void)text;
    n_warnings += severity <= HT_SEVERITY_WARNING;
}

static int create(struct ht_tunnel_options *o) {
    o->size = sizeof *o;
    o->url = w.url;
    o->connect_timeout_ms = 5000;
    o->retry_for_ms = HT_NO_RETRY;
    return driver_create_on(w.loop, &w.t, o, &calls, NULL);
}

static void begin(void) {
    calls.inspecting = inspecting;
    calls.log = log_text;
    n_told = n_warnings = 0;
    url[0] = '\0';
    world_start();
}

static void it_listens_and_says_where(void) {
    struct ht_tunnel_options o = {.inspect = "0"};
    char first[256];
    begin();
    CU_ASSERT_EQUAL_FATAL(create(&o), HT_TUNNEL_OK);
    CU_ASSERT_EQUAL(n_told, 0); /* not before the tunnel is run */
    UNTIL(n_told);
    CU_ASSERT_EQUAL(strncmp(url, "http://127.0.0.1:", 17), 0);
    CU_ASSERT_EQUAL(strspn(strchr(url, '#') + 1, "0123456789abcdef"), 48);
    snprintf(first, sizeof first, "%s", url);
    /* Another one gets another secret, and the port of the first is taken. */
    struct ht_tunnel *one = w.t, *two;
    char at[64];
    snprintf(at, sizeof at, "127.0.0.1:%.5s", url + 17);
    at[10 + strspn(at + 10, "0123456789")] = '\0';
    struct ht_tunnel_options taken = {.inspect = at};
    CU_ASSERT_EQUAL(create(&taken), HT_TUNNEL_EINSPECT);
    CU_ASSERT_PTR_NOT_NULL(strstr(ht_tunnel_last_error(), "is taken"));
    CU_ASSERT_EQUAL(ht_exit_status(HT_TUNNEL_EINSPECT), ht_exit_status(HT_TUNNEL_ETLS));
    CU_ASSERT_PTR_NULL(w.t);
    CU_ASSERT_EQUAL_FATAL(create(&o), HT_TUNNEL_OK);
    two = w.t;
    UNTIL(n_told == 2);
    CU_ASSERT_STRING_NOT_EQUAL(strchr(url, '#'), strchr(first, '#'));
    ht_tunnel_destroy(&two);
    w.t = one;
    world_stop();
}

static void addresses(void) {
    static const struct {
        const char *inspect;
        int insecure, rc;
    } rows[] = {
        {"localhost:0", 0, HT_TUNNEL_OK}, {"127.9.9.9:0", 0, HT_TUNNEL_OK},
        {"[::1]:0", 0, HT_TUNNEL_OK},     {"", 0, HT_TUNNEL_OK},
        {"0.0.0.0:0", 1, HT_TUNNEL_OK},   {"0.0.0.0:0", 0, HT_TUNNEL_EINVAL},
        {"[::]:0", 0, HT_TUNNEL_EINVAL},  {"192.0.2.1:0", 0, HT_TUNNEL_EINVAL},
        {"65536", 0, HT_TUNNEL_EINVAL},   {"host:1", 0, HT_TUNNEL_EINVAL},
        {"4040x", 0, HT_TUNNEL_EINVAL},   {":", 0, HT_TUNNEL_EINVAL},
    };
    for (size_t i = 0; i < HT_ARRAY_LEN(rows); i++) {
        struct ht_tunnel_options o = {.inspect = rows[i].inspect, .insecure_inspect = rows[i].insecure};
        begin();
        int rc = create(&o);
        if (rc != rows[i].rc)
            printf("# %s: %d, %s\n", rows[i].inspect, rc, ht_tunnel_last_error());
        CU_ASSERT_EQUAL(rc, rows[i].rc);
        world_stop();
    }
    struct ht_tunnel_options o = {.inspect = "0", .inspect_memory = 1000};
    begin();
    CU_ASSERT_EQUAL(create(&o), HT_TUNNEL_EINVAL);
    world_stop();
}

static void comes(void *ctx, struct io_conn *c, const struct io_addr *peer) {
    (void)ctx, (void)peer;
    io_conn_close(&c);
}

/* A port where nobody listens is found out again and again, said once, and forgotten when somebody does. */
static void whether_a_service_is_there(void) {
    static const struct io_listener_ops ops = {.accepted = comes};
    struct ht_tunnel_options o = {.inspect = "0"};
    struct io_listener *service = NULL;
    struct io_addr at;
    char target[32];
    begin();
    CU_ASSERT_EQUAL_FATAL(io_addr_parse(&at, "127.0.0.1", 0), 0);
    CU_ASSERT_EQUAL_FATAL(io_listen(w.loop, &at, &ops, NULL, &service, NULL), 0);
    io_listener_local(service, &at);
    snprintf(target, sizeof target, "127.0.0.1:%u", io_addr_port(&at));
    world_deafens(&service);
    CU_ASSERT_EQUAL_FATAL(create(&o), HT_TUNNEL_OK);
    CU_ASSERT_EQUAL_FATAL(ht_tunnel_connect(w.t), HT_TUNNEL_OK);
    UNTIL(w.connected);
    CU_ASSERT(bind_one(HT_EXPOSE_HTTP, target, 0) > 0);
    struct driver_binding *b = HT_LIST_ENTRY(w.t->bindings.next, struct driver_binding, node);
    UNTIL(b->unreachable);
    unsigned said = n_warnings;
    for (int i = 0; i < 3; i++) {
        ht_clock_skip(5100000);
        for (int k = 0; k < 20; k++)
            ready_turn();
    }
    CU_ASSERT(said == 1 && n_warnings == 1);
    world_lets_go();
    CU_ASSERT_EQUAL_FATAL(io_listen(w.loop, &at, &ops, NULL, &service, NULL), 0);
    ht_clock_skip(5100000);
    UNTIL(!b->unreachable);
    io_listener_close(&service);
    world_stop();
}

static void each_allocation_fails(void) {
    static const char *const names[] = {"X-One"};
    begin();
    for (long i = 0;; i++) {
        struct ht_tunnel_options o = {.inspect = "0", .inspect_secrets = names, .n_inspect_secrets = 1};
        ht_mem_fail_at(i);
        int rc = create(&o);
        bool over = ht_mem_fail_pending();
        ht_mem_fail_at(-1);
        ht_tunnel_destroy(&w.t);
        if (over) {
            CU_ASSERT_EQUAL(rc, HT_TUNNEL_OK);
            break;
        }
    }
    world_stop();
}

int main(void) {
    static const struct tap_test tests[] = {
        {"it listens and says where", it_listens_and_says_where},
        {"addresses", addresses},
        {"whether a service is there", whether_a_service_is_there},
        {"each allocation fails", each_allocation_fails},
        {NULL, NULL},
    };
    return tap_main("driver inspect", tests);
}
