/* Bindings: every answer to a BIND, takeover, and what is left when owners go. */
#include "relay/kit_rig.h"

#include "relay/visitor_priv.h"

static struct driver d, e;

static void begin(void) {
    rig_start();
    rig_table();
    drv_start(&d);
    drv_start(&e);
}

static void end(void) {
    drv_stop(&d);
    drv_stop(&e);
    rig_stop();
}

static struct wire_bind expose(uint16_t port, bool takeover) {
    return (struct wire_bind){
        .kind = WIRE_KIND_HTTP, .mode = WIRE_MODE_EXPOSE, .container_port = port, .takeover = takeover};
}

static struct wire_bind pull(uint16_t port, const char *host) {
    return (struct wire_bind){.kind = WIRE_KIND_TCP,
                              .mode = WIRE_MODE_PULL,
                              .container_port = port,
                              .has_host = host != NULL,
                              .host = ht_slice_str(host)};
}

static void expect_error(struct driver *who, struct wire_bind bind, enum wire_bind_error want) {
    struct relay_bound bound;
    enum wire_bind_error code;
    unsigned used = rig.fds.used;
    CU_ASSERT(rig_bind(who, bind, &bound, &code) < 0);
    if (code != want)
        printf("# port %u: got %d, expected %d\n", bind.container_port, code, want);
    CU_ASSERT_EQUAL(code, want);
    CU_ASSERT_EQUAL(rig.fds.used, used);
}

static struct relay_bound expect_bound(struct driver *who, struct wire_bind bind) {
    struct relay_bound bound;
    enum wire_bind_error code;
    CU_ASSERT_EQUAL_FATAL(rig_bind(who, bind, &bound, &code), 0);
    return bound;
}

/* Some port of this machine that nobody listens on just now. */
static uint16_t free_port(void) {
    struct relay_bound b = expect_bound(&e, pull(0, NULL));
    CU_ASSERT_EQUAL(relay_unbind(rig.table, &e.owner, b.bind_id), 0);
    return b.port;
}

static void other_pairs_of_kind_and_mode_are_refused(void) {
    begin();
    expect_error(&d, (struct wire_bind){.kind = WIRE_KIND_HTTP, .mode = WIRE_MODE_PULL}, WIRE_BIND_ERROR_INVALID_KIND);
    expect_error(&d, (struct wire_bind){.kind = WIRE_KIND_TCP, .mode = WIRE_MODE_EXPOSE}, WIRE_BIND_ERROR_INVALID_KIND);
    expect_error(&d, (struct wire_bind){.kind = WIRE_KIND_UNKNOWN, .mode = WIRE_MODE_EXPOSE},
                 WIRE_BIND_ERROR_INVALID_KIND);
    struct wire_bind b = pull(0, NULL);
    b.takeover = true;
    expect_error(&d, b, WIRE_BIND_ERROR_INVALID_KIND);
    end();
}

static void reserved_and_privileged_ports_are_refused(void) {
    static const uint16_t reserved[] = {3999, 40000};
    rig_start();
    rig.cfg.reserved_ports = reserved;
    rig.cfg.n_reserved_ports = HT_ARRAY_LEN(reserved);
    rig_table();
    drv_start(&d);
    drv_start(&e);
    expect_error(&d, expose(1, false), WIRE_BIND_ERROR_RESERVED_PORT);
    expect_error(&d, expose(79, false), WIRE_BIND_ERROR_RESERVED_PORT);
    expect_error(&d, pull(79, NULL), WIRE_BIND_ERROR_RESERVED_PORT);
    expect_error(&d, expose(3999, false), WIRE_BIND_ERROR_RESERVED_PORT);
    expect_error(&d, pull(40000, NULL), WIRE_BIND_ERROR_RESERVED_PORT);
    expect_error(&d, expose(80, false), WIRE_BIND_ERROR_PRIVILEGED_PORT);
    expect_error(&d, expose(1023, false), WIRE_BIND_ERROR_PRIVILEGED_PORT);
    expect_error(&d, pull(1023, NULL), WIRE_BIND_ERROR_PRIVILEGED_PORT);
    CU_ASSERT_EQUAL(rig.metrics.takeovers_total, 0);
    for (int i = 0; i < 4; i++) {
        struct relay_bound b = expect_bound(&d, expose(0, false));
        CU_ASSERT(b.port >= WIRE_LIMIT_RANDOM_PORT_MIN && b.port <= WIRE_LIMIT_RANDOM_PORT_MAX && b.port != 40000);
        CU_ASSERT_EQUAL(b.bind_id, (uint32_t)i + 1); /* rule BIND-4 */
        CU_ASSERT_STRING_EQUAL(b.public_url, "");
    }
    end();
}

static void test_hosts(void) {
    static const char *const bad[] = {"10.0.0.1",         "0.0.0.0", "::",    "example.com", "127.0.0.1 ",
                                      "::ffff:127.0.0.1", "[::1]",   "127.1", "128.0.0.1"};
    begin();
    for (size_t i = 0; i < HT_ARRAY_LEN(bad); i++)
        expect_error(&d, pull(0, bad[i]), WIRE_BIND_ERROR_INVALID_HOST);
    expect_bound(&d, pull(0, "127.0.0.1"));
    expect_bound(&d, pull(0, "127.9.8.7"));
    expect_bound(&d, pull(0, "LocalHost"));
    expect_bound(&d, pull(0, ""));
    end();
}

static void test_two_families(void) {
    begin();
    uint16_t port = free_port();
    struct relay_bound bound;
    enum wire_bind_error code;
    expect_bound(&d, pull(port, "127.0.0.1"));
    if (rig_bind(&d, pull(port, "::1"), &bound, &code) == 0) { /* a machine may have no IPv6 */
        CU_ASSERT_EQUAL(bound.port, port);
        struct visitor v = vis_connect_to("::1", port);
        UNTIL(d.n_streams == 1);
        CU_ASSERT_PTR_NOT_NULL(strstr(drv_last(&d)->open, "\"peerAddr\":\"[::1]:"));
        vis_close(&v);
        UNTIL(d.streams[0].eofs == 1);
    } else {
        CU_ASSERT_EQUAL(code, WIRE_BIND_ERROR_INTERNAL);
    }
    end();
}

/* Ports of the kit's choice keep out of the kernel's range for outgoing connections, wherever that lies. */
static void test_outside(void) {
    static const struct {
        uint16_t first, last, least, most;
    } rows[] = {{32768, 60999, 20000, 65534}, {1024, 60000, 60001, 65534}, {30000, 65535, 20000, 29999},
                {1024, 65535, 20000, 65534},  {0, 0, 20000, 65534},        {65534, 65534, 20000, 65533},
                {20000, 65533, 65534, 65534}};
    for (size_t i = 0; i < HT_ARRAY_LEN(rows); i++) {
        begin();
        rig.table->cfg.outgoing_first = rows[i].first;
        rig.table->cfg.outgoing_last = rows[i].last;
        bool all = rows[i].first <= 20000 && rows[i].last >= 65534;
        unsigned odd = 0;
        for (int n = 0; n < 2000; n++) {
            uint16_t port = relay_pick_port(rig.table, &d.owner, true);
            odd +=
                port < rows[i].least || port > rows[i].most || (!all && port >= rows[i].first && port <= rows[i].last);
            port = relay_pick_port(rig.table, &d.owner, false);
            odd += port < 20000 || port > 65534;
        }
        CU_ASSERT_EQUAL(odd, 0);
        end();
    }
}

static void test_taken(void) {
    begin();
    struct relay_bound b = expect_bound(&d, expose(0, false));
    expect_error(&e, expose(b.port, false), WIRE_BIND_ERROR_ALREADY_BOUND);
    expect_error(&d, expose(b.port, false), WIRE_BIND_ERROR_ALREADY_BOUND);
    expect_error(&e, pull(b.port, NULL), WIRE_BIND_ERROR_ALREADY_BOUND);
    drv_drop(&d);
    expect_error(&e, expose(b.port, false), WIRE_BIND_ERROR_ALREADY_BOUND); /* parked */
    /* some other program */
    struct io_addr a;
    CU_ASSERT_EQUAL(io_addr_parse(&a, "127.0.0.1", 0), 0);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    CU_ASSERT_EQUAL_FATAL(bind(fd, (struct sockaddr *)&a.ss, a.len), 0);
    CU_ASSERT_EQUAL_FATAL(listen(fd, 1), 0);
    CU_ASSERT_EQUAL_FATAL(getsockname(fd, (struct sockaddr *)&a.ss, &a.len), 0);
    expect_error(&e, expose(io_addr_port(&a), false), WIRE_BIND_ERROR_PORT_IN_USE);
    expect_error(&e, expose(io_addr_port(&a), true), WIRE_BIND_ERROR_PORT_IN_USE);
    expect_error(&e, pull(io_addr_port(&a), NULL), WIRE_BIND_ERROR_PORT_IN_USE);
    close(fd);
    end();
}

static void a_session_has_a_bounded_number_of_bindings(void) {
    begin();
    for (int i = 0; i < 8; i++)
        expect_bound(&d, i % 2 ? expose(0, false) : pull(0, NULL));
    expect_error(&d, pull(0, NULL), WIRE_BIND_ERROR_BIND_CAP_EXCEEDED);
    struct relay_bound other = expect_bound(&e, expose(0, false));
    expect_error(&d, expose(other.port, true), WIRE_BIND_ERROR_BIND_CAP_EXCEEDED);
    CU_ASSERT_EQUAL(relay_unbind(rig.table, &d.owner, 3), 0);
    CU_ASSERT_EQUAL(relay_unbind(rig.table, &d.owner, 3), HT_EINVAL);
    CU_ASSERT_EQUAL(expect_bound(&d, pull(0, NULL)).bind_id, 9); /* ids are never used again */
    rig.fds.total = rig.fds.used;
    expect_error(&e, pull(0, NULL), WIRE_BIND_ERROR_INTERNAL);
    end();
}

static void the_public_url_comes_from_the_pattern(void) {
    rig_start();
    char pattern[] = "https://x-{port}.example/{port}/{p}";
    rig.cfg.public_url_pattern = pattern;
    rig_table();
    pattern[0] = '!'; /* copied */
    drv_start(&d);
    drv_start(&e);
    struct relay_bound b = expect_bound(&d, expose(0, false));
    char want[128];
    snprintf(want, sizeof want, "https://x-%u.example/%u/{p}", b.port, b.port);
    CU_ASSERT_STRING_EQUAL(b.public_url, want);
    end();
    rig_start();
    char *endless = malloc(2000);
    CU_ASSERT_PTR_NOT_NULL_FATAL(endless);
    memset(endless, 'x', 1999);
    endless[1999] = '\0';
    rig.cfg.public_url_pattern = endless;
    rig_table();
    drv_start(&d);
    drv_start(&e);
    expect_error(&d, expose(0, false), WIRE_BIND_ERROR_INTERNAL);
    free(endless);
    end();
}

#define GET "GET / HTTP/1.1\r\nHost: a\r\n\r\n"
#define TAKEN ANSWER("502 Bad Gateway", "", "57", "another client took this port over before the answer came")

static void a_takeover_moves_the_port_and_tells_its_old_owner(void) {
    begin();
    struct relay_bound b = expect_bound(&d, expose(0, false));
    struct visitor waits = vis_connect(b.port), reads = vis_connect(b.port), idle = vis_connect(b.port);
    vis_send(&waits, GET);
    UNTIL(d.n_streams == 1);
    vis_send(&reads, GET);
    UNTIL(d.n_streams == 2);
    drv_head(&d, 4, 200, "content-length: 9");
    drv_text(&d, 4, "abc");
    drv_send(&d);
    vis_expect(&reads, "HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nabc");
    UNTIL(relay_count_visitors(rig.table) == 3);
    struct visitor late = vis_connect(b.port); /* in the listener's queue */
    vis_send(&late, GET);
    unsigned used = rig.fds.used;
    struct relay_bound mine = expect_bound(&e, expose(b.port, true));
    CU_ASSERT_EQUAL(mine.port, b.port);
    CU_ASSERT_EQUAL(mine.bind_id, 1);
    CU_ASSERT_EQUAL(rig.fds.used, used - 1); /* the one that was cut */
    CU_ASSERT_EQUAL(d.n_revoked, 1);
    CU_ASSERT_EQUAL(d.revoked_id, b.bind_id);
    CU_ASSERT_EQUAL(d.owner.n_bindings, 0);
    CU_ASSERT_EQUAL(e.owner.n_bindings, 1);
    CU_ASSERT_EQUAL(rig.metrics.takeovers_total, 1);
    vis_expect(&waits, TAKEN);
    vis_expect_end(&reads, true);
    UNTIL(d.streams[0].reset == WIRE_CODE_BIND_TAKEOVER && d.streams[1].reset == WIRE_CODE_BIND_TAKEOVER);
    /* nobody was refused: the one in the queue, the idle one and the one with the 502 go on at the new owner */
    UNTIL(e.n_streams == 1);
    vis_send(&idle, GET);
    UNTIL(e.n_streams == 2);
    vis_send(&waits, GET);
    UNTIL(e.n_streams == 3);
    CU_ASSERT_EQUAL(d.n_streams, 2);
    relay_owner_drop(rig.table, &d.owner);
    CU_ASSERT_EQUAL(relay_count_visitors(rig.table), 3);
    vis_close(&waits);
    vis_close(&reads);
    vis_close(&idle);
    vis_close(&late);
    end();
}

static void test_takeover_of_parked(void) {
    begin();
    struct relay_bound b = expect_bound(&d, expose(0, false));
    struct visitor v = vis_connect(b.port);
    vis_send(&v, GET);
    UNTIL(d.n_streams == 1);
    drv_drop(&d);
    vis_expect(&v, ANSWER("503 Service Unavailable", "retry-after: 5\r\n", "69",
                          "the link to the client of this tunnel was lost before the answer came"));
    expect_bound(&e, expose(b.port, true));
    CU_ASSERT_EQUAL(d.n_revoked, 1);
    vis_send(&v, GET);
    UNTIL(e.n_streams == 1);
    /* from itself: the binding gets a new id */
    struct relay_bound again = expect_bound(&e, expose(b.port, true));
    CU_ASSERT_EQUAL(again.bind_id, 2);
    CU_ASSERT_EQUAL(e.n_revoked, 1);
    CU_ASSERT_EQUAL(e.revoked_id, 1);
    CU_ASSERT_EQUAL(e.owner.n_bindings, 1);
    vis_expect(&v, TAKEN);
    /* a pull is never taken */
    struct relay_bound p = expect_bound(&e, pull(0, NULL));
    expect_error(&d, expose(p.port, true), WIRE_BIND_ERROR_ALREADY_BOUND);
    /* a port that nobody holds is simply bound */
    expect_bound(&d, expose(free_port(), true));
    vis_close(&v);
    end();
}

static void unbind_closes_the_port_and_cuts_its_visitors(void) {
    begin();
    struct relay_bound b = expect_bound(&d, expose(0, false)), p = expect_bound(&d, pull(0, NULL));
    struct visitor idle = vis_connect(b.port), waits = vis_connect(b.port), raw = vis_connect(p.port);
    vis_send(&waits, GET);
    UNTIL(d.n_streams == 2 && relay_count_visitors(rig.table) == 3);
    CU_ASSERT_EQUAL(relay_unbind(rig.table, &d.owner, b.bind_id), 0);
    vis_expect(&waits,
               ANSWER("502 Bad Gateway", CLOSE, "57", "the tunnel of this port was closed before the answer came"));
    vis_expect_end(&waits, false);
    vis_expect_end(&idle, false);
    CU_ASSERT_EQUAL(relay_count_visitors(rig.table), 1);
    CU_ASSERT_EQUAL(relay_unbind(rig.table, &d.owner, p.bind_id), 0);
    vis_expect_end(&raw, true);
    UNTIL(d.streams[0].reset == WIRE_CODE_BIND_ERROR && d.streams[1].reset == WIRE_CODE_BIND_ERROR);
    struct io_addr a;
    CU_ASSERT_EQUAL(io_addr_parse(&a, "127.0.0.1", b.port), 0);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    CU_ASSERT(connect(fd, (struct sockaddr *)&a.ss, a.len) < 0);
    close(fd);
    vis_close(&idle);
    vis_close(&waits);
    vis_close(&raw);
    end();
}

static unsigned seen;
static unsigned seen_visitors;

static void see(void *ctx, const struct relay_binding_info *info) {
    seen++;
    seen_visitors += info->visitors;
    CU_ASSERT_PTR_EQUAL(info->owner, ctx);
    CU_ASSERT_STRING_EQUAL(info->bind_addr, info->kind == WIRE_KIND_TCP ? "127.0.0.2" : "127.0.0.1");
    CU_ASSERT(info->port > 1023 && info->bind_id > 0);
}

static void test_info(void) {
    begin();
    struct relay_bound b = expect_bound(&d, expose(0, false));
    expect_bound(&d, pull(0, "127.0.0.2"));
    expect_bound(&e, pull(0, "127.0.0.2"));
    struct visitor v = vis_connect(b.port);
    UNTIL(relay_count_visitors(rig.table) == 1);
    seen = seen_visitors = 0;
    relay_each_binding(rig.table, &d.owner, see, &d.owner);
    CU_ASSERT_EQUAL(seen, 2);
    CU_ASSERT_EQUAL(seen_visitors, 1);
    relay_each_binding(rig.table, &e.owner, see, &e.owner);
    CU_ASSERT_EQUAL(seen, 3);
    vis_close(&v);
    end();
}

/* The table may go first, with everything open. */
static void with_the_table_all_listeners_and_visitors_go(void) {
    begin();
    struct relay_bound b = expect_bound(&d, expose(0, false)), p = expect_bound(&d, pull(0, NULL));
    struct visitor v = vis_connect(b.port), w = vis_connect(p.port);
    vis_send(&v, GET);
    UNTIL(d.n_streams == 2);
    relay_table_destroy(&rig.table);
    vis_close(&v);
    vis_close(&w);
    end();
}

static void any_allocation_may_fail(void) {
    for (long i = 0; i < 12; i++) {
        begin();
        ht_mem_fail_at(i);
        struct relay_bound bound;
        enum wire_bind_error code;
        if (rig_bind(&d, expose(0, false), &bound, &code))
            CU_ASSERT_EQUAL(code, WIRE_BIND_ERROR_INTERNAL);
        ht_mem_fail_at(-1);
        end();
    }
}

int main(void) {
    static const struct tap_test tests[] = {
        {"other pairs of kind and mode are refused", other_pairs_of_kind_and_mode_are_refused},
        {"reserved and privileged ports are refused", reserved_and_privileged_ports_are_refused},
        {"hosts of a pull", test_hosts},
        {"one port in two families", test_two_families},
        {"automatic ports outside the outgoing range", test_outside},
        {"ports that are taken", test_taken},
        {"a session has a bounded number of bindings", a_session_has_a_bounded_number_of_bindings},
        {"the public URL comes from the pattern", the_public_url_comes_from_the_pattern},
        {"a takeover moves the port and tells its old owner", a_takeover_moves_the_port_and_tells_its_old_owner},
        {"takeover of a parked session", test_takeover_of_parked},
        {"UNBIND closes the port and cuts its visitors", unbind_closes_the_port_and_cuts_its_visitors},
        {"what the admin sees", test_info},
        {"with the table all listeners and visitors go", with_the_table_all_listeners_and_visitors_go},
        {"any allocation may fail", any_allocation_may_fail},
        {NULL, NULL},
    };
    return tap_main("relay table", tests);
}
