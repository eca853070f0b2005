/* The public front: requests find their binding by host, and its visitors are those of a port in everything else. */
#include "relay/front_priv.h"
#include "relay/visitor_rig.h"

static struct driver e;
static struct relay_front_door *door;
static struct io_listener *listener;
static uint16_t public_port;
static struct ht_buf handed; /* what own_host() was given */
static struct io_conn *handed_conn;
static bool trust, same_holder;

static void accepted(void *ctx, struct io_conn *conn, const struct io_addr *peer) {
    (void)ctx;
    if (relay_front_permit(door, conn, peer))
        relay_front_visit(door, conn, peer);
}

static const struct io_listener_ops listener_ops = {.accepted = accepted};

static bool trusted(void *ctx, const struct io_addr *peer) {
    (void)ctx;
    (void)peer;
    return trust;
}

static void own_host(void *ctx, struct io_conn *conn, const struct io_addr *peer, struct ht_buf *said, bool https) {
    (void)ctx;
    CU_ASSERT(io_addr_is_loopback(peer));
    CU_ASSERT_FALSE(https);
    handed = *said;
    *said = (struct ht_buf){0};
    handed_conn = conn;
}

static bool same(const struct relay_owner *o, const struct relay_owner *other) {
    (void)o;
    (void)other;
    return same_holder;
}

static enum relay_yield yields(struct relay_owner *o, const struct relay_owner *to) {
    (void)to;
    return same_holder && !o->mux ? RELAY_YIELDS : RELAY_KEEPS;
}

static const struct relay_owner_ops owner_ops = {.revoked = drv_revoked, .same = same, .yields = yields};

static void front_begin(bool no_ports) {
    rig_start();
    rig.cfg.no_ports = no_ports;
    rig_table();
    trust = same_holder = false;
    struct relay_front_config cfg = {.domain = "t.test", .trusted = trusted, .own_host = own_host};
    CU_ASSERT_EQUAL_FATAL(relay_front_open(rig.table, &cfg), 0);
    struct io_addr addr;
    struct ht_errmsg err;
    CU_ASSERT_EQUAL_FATAL(io_addr_parse(&addr, "127.0.0.1", 0), 0);
    CU_ASSERT_EQUAL_FATAL(io_listen(rig.loop, &addr, &listener_ops, NULL, &listener, &err), 0);
    io_listener_local(listener, &addr);
    public_port = io_addr_port(&addr);
    CU_ASSERT_EQUAL_FATAL(relay_front_door_add(rig.table->front, &addr, false, false, &door), 0);
    drv_start(&d);
    drv_start(&e);
    d.owner.ops = e.owner.ops = &owner_ops;
    d.owner.name = "ann";
    e.owner.name = "bob";
}

static void front_end(void) {
    io_listener_close(&listener);
    drv_stop(&d);
    drv_stop(&e);
    rig_stop();
}

static struct relay_bound bound;
static enum wire_bind_error code;

static int front_bind(struct driver *by, uint16_t number, const char *name, const char *hostname, bool takeover) {
    struct ht_slice host = ht_slice_str(hostname);
    struct wire_bind bind = {
        .kind = WIRE_KIND_HTTP,
        .mode = WIRE_MODE_EXPOSE,
        .container_port = number,
        .takeover = takeover,
        .has_name = name != NULL,
        .name = ht_slice_str(name),
        .hostnames = &host,
        .n_hostnames = hostname != NULL,
    };
    return rig_bind(by, bind, &bound, &code);
}

static void ask(struct visitor *v, const char *host) {
    char text[256];
    snprintf(text, sizeof text, "GET / HTTP/1.1\r\nHost: %s\r\n\r\n", host);
    vis_send(v, text);
}

static void answer(struct driver *by, unsigned n) {
    UNTIL(by->n_streams >= n);
    uint32_t id = by->streams[n - 1].id;
    drv_head(by, id, 200, "content-length: 1");
    drv_text(by, id, "x");
    drv_eof(by, id);
    drv_send(by);
}

static bool got(struct visitor *v, const char *text) {
    return vis_got(v) && memmem(ht_buf_head(&v->rx), ht_buf_size(&v->rx), text, strlen(text)) != NULL;
}

static void forget(struct visitor *v) { v->rx.off = v->rx.len = 0; }

static void expect(struct visitor *v, const char *text) {
    UNTIL(got(v, text));
    forget(v);
}

static void test_each_by_its_own_host(void) {
    front_begin(true);
    CU_ASSERT_EQUAL(front_bind(&d, 3000, "web", "app.example.com", false), 0);
    CU_ASSERT_EQUAL(bound.port, 3000);
    char url[64];
    snprintf(url, sizeof url, "http://app.example.com:%u", public_port);
    CU_ASSERT_STRING_EQUAL(bound.public_url, url);
    CU_ASSERT_EQUAL_FATAL(bound.n_hosts, 3);
    CU_ASSERT(ht_slice_is(bound.hosts[1], "web.t.test"));
    CU_ASSERT(ht_slice_is(bound.hosts[2], "ann-3000.t.test"));
    CU_ASSERT_EQUAL(front_bind(&e, 3000, NULL, NULL, false), 0);
    CU_ASSERT(ht_slice_is(bound.hosts[0], "bob-3000.t.test"));
    /* one connection, one host after another: whatever the ones before asked for */
    struct visitor v = vis_connect(public_port);
    static const struct {
        const char *host;
        int whose;
    } asks[] = {{"ann-3000.t.test", 0},   {"bob-3000.t.test", 1},     {"APP.example.com:8443", 0},
                {"web.t.test.", 0},       {"bob-3000.T.TEST.:80", 1}, {"nobody.t.test", 2},
                {"ann-3001.t.test", 2},   {"ann-3000.t.testx", 2},    {"x.ann-3000.t.test", 2},
                {"ann-3000.t.test..", 2}, {"3000.t.test", 2},         {"bob-3000.t.test", 1}};
    unsigned n[2] = {0};
    for (size_t i = 0; i < HT_ARRAY_LEN(asks); i++) {
        ask(&v, asks[i].host);
        if (asks[i].whose == 2) {
            expect(&v, "error=unknown-host\r\n\r\nthere is no tunnel of this name here");
            continue;
        }
        answer(asks[i].whose ? &e : &d, ++n[asks[i].whose]);
        expect(&v, "\r\n\r\nx");
    }
    CU_ASSERT_EQUAL(d.n_streams, n[0]);
    CU_ASSERT_EQUAL(e.n_streams, n[1]);
    CU_ASSERT_EQUAL(rig.metrics.visitor_responses_total[HT_METRIC_CLASS_UNKNOWN_HOST], 6);
    vis_close(&v);
    UNTIL(relay_count_visitors(rig.table) == 0);
    front_end();
}

static const char *const request = "GET / HTTP/1.1\r\nHost: ann-3000.t.test\r\n\r\n";

static struct relay_binding *only(struct driver *by) {
    CU_ASSERT_FATAL(!ht_list_empty(&by->owner.bindings));
    return HT_LIST_ENTRY(by->owner.bindings.next, struct relay_binding, node);
}

/* Whoever has asked when the binding goes learns it as at a port; who only waits stays, and asks for another one. */
static void test_a_binding_goes(void) {
    front_begin(true);
    struct visitor asked, idle, begun;
    for (unsigned how = 0; how < 3; how++) {
        CU_ASSERT_EQUAL(front_bind(&d, 3000, NULL, NULL, false), 0);
        unsigned before = d.n_streams;
        asked = vis_connect(public_port);
        idle = vis_connect(public_port);
        begun = vis_connect(public_port);
        vis_send(&begun, request);
        UNTIL(d.n_streams == before + 1);
        drv_head(&d, drv_last(&d)->id, 200, "content-length: 9");
        drv_text(&d, drv_last(&d)->id, "x");
        drv_send(&d);
        UNTIL(got(&begun, "\r\n\r\nx"));
        vis_send(&asked, request);
        UNTIL(d.n_streams == before + 2);
        UNTIL(only(&d)->n_by_host == 2 && door->port.n_visitors == 1);
        if (how == 0)
            CU_ASSERT_EQUAL(relay_unbind(rig.table, &d.owner, only(&d)->id), 0);
        if (how == 1)
            relay_owner_drop(rig.table, &d.owner);
        if (how == 2) { /* taken over: the binding stays, and so do those who wait for an answer */
            same_holder = true;
            e.owner.name = "ann";
            CU_ASSERT_EQUAL(front_bind(&e, 3000, NULL, NULL, true), 0);
            CU_ASSERT_EQUAL(d.n_revoked, 1);
        }
        UNTIL(got(&asked, how == 2 ? "error=taken-over" : "error=closed"));
        UNTIL(vis_over(&begun));
        CU_ASSERT(begun.cut);
        UNTIL(drv_find(&d, drv_last(&d)->id)->reset >= 0);
        ask(&idle, "ann-3000.t.test");
        if (how == 2) {
            answer(&e, 1);
            UNTIL(got(&idle, "\r\n\r\nx"));
        } else {
            UNTIL(got(&idle, "error=unknown-host"));
        }
        vis_close(&asked);
        vis_close(&idle);
        vis_close(&begun);
        UNTIL(relay_count_visitors(rig.table) == 0);
    }
    front_end();
}

static void test_whose_a_name_is(void) {
    front_begin(true);
    CU_ASSERT_EQUAL(front_bind(&d, 3000, "web", "app.example.com", false), 0);
    static const struct {
        const char *name, *hostname;
        enum wire_bind_error code;
    } refused[] = {
        {"WEB", NULL, WIRE_BIND_ERROR_NAME_IN_USE},
        {NULL, "App.Example.Com.", WIRE_BIND_ERROR_NAME_IN_USE},
        {"ann-3000", NULL, WIRE_BIND_ERROR_NAME_IN_USE},
        {"ann-1", NULL, WIRE_BIND_ERROR_NAME_IN_USE}, /* which her next port would have */
        {"status", NULL, WIRE_BIND_ERROR_INVALID_NAME},
        {"www", NULL, WIRE_BIND_ERROR_INVALID_NAME},
        {"api", NULL, WIRE_BIND_ERROR_INVALID_NAME},
        {"3000", NULL, WIRE_BIND_ERROR_INVALID_NAME},
        {"-a", NULL, WIRE_BIND_ERROR_INVALID_NAME},
        {"a_b", NULL, WIRE_BIND_ERROR_INVALID_NAME},
        {"a.b", NULL, WIRE_BIND_ERROR_INVALID_NAME},
        {NULL, "x.t.test", WIRE_BIND_ERROR_INVALID_NAME},
        {NULL, "T.test", WIRE_BIND_ERROR_INVALID_NAME},
        {NULL, "localhost", WIRE_BIND_ERROR_INVALID_NAME},
        {NULL, "10.0.0.1", WIRE_BIND_ERROR_INVALID_NAME},
    };
    for (size_t i = 0; i < HT_ARRAY_LEN(refused); i++) {
        CU_ASSERT(front_bind(&e, 4000, refused[i].name, refused[i].hostname, true) < 0);
        CU_ASSERT_EQUAL(code, refused[i].code);
    }
    /* the name of a driver is its client's while it has a binding under it, parked or not */
    e.owner.name = "Ann";
    CU_ASSERT(front_bind(&e, 4000, NULL, NULL, true) < 0);
    CU_ASSERT_EQUAL(code, WIRE_BIND_ERROR_NAME_IN_USE);
    d.owner.mux = NULL;
    CU_ASSERT(front_bind(&e, 4000, NULL, NULL, false) < 0);
    /* the same client's next process shares it, and gets what is parked */
    same_holder = true;
    CU_ASSERT_EQUAL(front_bind(&e, 4000, NULL, NULL, false), 0);
    CU_ASSERT_EQUAL(d.owner.n_bindings, 1);
    CU_ASSERT_EQUAL(front_bind(&e, 3000, "web", NULL, false), 0);
    CU_ASSERT_EQUAL(d.owner.n_bindings, 0);
    CU_ASSERT_EQUAL(d.owner.n_named, 0);
    CU_ASSERT_EQUAL(e.owner.n_named, 2);
    CU_ASSERT_EQUAL(front_bind(&e, 5000, "app", "app.example.com", false), 0);
    d.owner.mux = d.s;
    d.owner.name = NULL;
    same_holder = false;
    /* a driver without a name has the port's number alone */
    CU_ASSERT_EQUAL(front_bind(&d, 3000, NULL, NULL, false), 0);
    CU_ASSERT(ht_slice_is(bound.hosts[0], "3000.t.test"));
    CU_ASSERT(front_bind(&d, 3000, NULL, NULL, false) < 0);
    CU_ASSERT_EQUAL(front_bind(&d, 0, NULL, NULL, false), 0);
    CU_ASSERT(bound.port >= WIRE_LIMIT_RANDOM_PORT_MIN);
    d.owner.name = "a-name-of-fifty-eight-characters-0123456789-0123456789-012";
    CU_ASSERT(front_bind(&d, 3001, NULL, NULL, false) < 0);
    CU_ASSERT_EQUAL(code, WIRE_BIND_ERROR_INVALID_NAME);
    d.owner.name = NULL;
    front_end();
}

static void test_with_ports(void) {
    front_begin(false);
    CU_ASSERT_EQUAL(front_bind(&d, 0, NULL, NULL, false), 0);
    uint16_t number = bound.port;
    CU_ASSERT(front_bind(&e, number, NULL, NULL, false) < 0);
    CU_ASSERT_EQUAL(code, WIRE_BIND_ERROR_ALREADY_BOUND);
    CU_ASSERT(front_bind(&e, public_port, NULL, NULL, false) < 0);
    CU_ASSERT_EQUAL(code, WIRE_BIND_ERROR_RESERVED_PORT);
    char host[64];
    snprintf(host, sizeof host, "ann-%u.t.test", number);
    struct visitor v = vis_connect(public_port), w = vis_connect(number);
    ask(&v, host);
    ask(&w, "whatever");
    answer(&d, 1);
    answer(&d, 2);
    UNTIL(got(&v, "\r\n\r\nx") && got(&w, "\r\n\r\nx"));
    /* whoever takes the port over has it under its own name */
    CU_ASSERT_EQUAL(front_bind(&e, number, NULL, NULL, true), 0);
    forget(&v);
    ask(&v, host);
    UNTIL(got(&v, "error=unknown-host"));
    snprintf(host, sizeof host, "bob-%u.t.test", number);
    ask(&v, host);
    UNTIL(e.n_streams == 1);
    leave_soon(&v);
    leave_soon(&w);
    UNTIL(relay_count_visitors(rig.table) == 0);
    front_end();
}

static bool opened_with(const char *text) { return strstr(drv_last(&d)->open, text) != NULL; }

static void test_forwarded(void) {
    static const char sent[] =
        "GET /%d HTTP/1.1\r\nHost: ann-3000.t.test:99\r\nX-Forwarded-For: 192.0.2.1\r\nForwarded: for=192.0.2.2\r\n"
        "X-Forwarded-Proto: https\r\nX-Forwarded-Host: evil.test\r\nX-Forwarded-Port: 1\r\nX-Real-IP: 192.0.2.3\r\n"
        "X_Forwarded_For: 192.0.2.4\r\nX-Forwarded-For: 192.0.2.5\r\nX-Forwardedly: kept\r\n\r\n";
    char text[1024];
    front_begin(true);
    CU_ASSERT_EQUAL(front_bind(&d, 3000, NULL, NULL, false), 0);
    struct visitor v = vis_connect(public_port);
    snprintf(text, sizeof text, sent, 1);
    vis_send(&v, text);
    UNTIL(d.n_streams == 1);
    CU_ASSERT_PTR_NULL(strstr(drv_last(&d)->open, "192.0.2."));
    CU_ASSERT_PTR_NULL(strstr(drv_last(&d)->open, "evil"));
    CU_ASSERT_PTR_NULL(strstr(drv_last(&d)->open, "x-forwarded-port"));
    CU_ASSERT(opened_with("[\"x-forwardedly\",\"kept\"],[\"x-forwarded-for\",\"127.0.0.1\"],"
                          "[\"x-forwarded-host\",\"ann-3000.t.test:99\"],[\"x-forwarded-proto\",\"http\"],"
                          "[\"forwarded\",\"for=127.0.0.1;host=\\\"ann-3000.t.test:99\\\";proto=http\"]]"));
    leave_soon(&v);
    trust = true;
    v = vis_connect(public_port);
    snprintf(text, sizeof text, sent, 2);
    vis_send(&v, text);
    UNTIL(d.n_streams == 2);
    CU_ASSERT(opened_with("[\"x-forwarded-for\",\"192.0.2.1, 192.0.2.4, 192.0.2.5, 127.0.0.1\"]"));
    CU_ASSERT(opened_with("[\"forwarded\",\"for=192.0.2.2, for=127.0.0.1;host="));
    CU_ASSERT(opened_with("[\"x-forwarded-host\",\"evil.test\"]"));
    CU_ASSERT(opened_with("[\"x-forwarded-proto\",\"https\"]"));
    CU_ASSERT(opened_with("[\"x-forwarded-port\",\"1\"]"));
    CU_ASSERT_PTR_NULL(strstr(drv_last(&d)->open, "\"http\"]"));
    leave_soon(&v);
    UNTIL(relay_count_visitors(rig.table) == 0);
    front_end();
}

/* The kit's own page: the connection goes over with all that was read from it. */
static void test_own_host(void) {
    static const char *const hosts[] = {"t.test", "status.t.test:1"};
    front_begin(true);
    CU_ASSERT_EQUAL(front_bind(&d, 3000, NULL, NULL, false), 0);
    for (size_t i = 0; i < 2 * HT_ARRAY_LEN(hosts); i++) {
        struct visitor v = vis_connect(public_port);
        char text[128];
        snprintf(text, sizeof text, "POST /x HTTP/1.1\r\nHost: %s\r\nContent-Length: 3\r\n\r\nabc", hosts[i / 2]);
        if (i % 2 == 0) { /* in two pieces, behind a request for somebody else */
            ask(&v, "nobody.t.test");
            expect(&v, "error=unknown-host");
            vis_send(&v, "POST /x HT");
            UNTIL(door->port.n_visitors == 1);
            vis_send(&v, text + 10);
        } else {
            vis_send(&v, text);
        }
        UNTIL(handed_conn != NULL);
        CU_ASSERT_EQUAL(ht_buf_size(&handed), strlen(text));
        CU_ASSERT_EQUAL(memcmp(ht_buf_head(&handed), text, strlen(text)), 0);
        CU_ASSERT_EQUAL(relay_count_visitors(rig.table), 0);
        CU_ASSERT_EQUAL(rig.fds.used, 0);
        io_conn_close(&handed_conn);
        ht_buf_free(&handed);
        vis_close(&v);
    }
    front_end();
}

static void test_no_permit(void) {
    front_begin(true);
    unsigned total = rig.fds.total;
    rig.fds.total = rig.fds.used;
    struct visitor v = vis_connect(public_port);
    UNTIL(got(&v, "error=fd-cap"));
    rig.fds.total = total;
    vis_close(&v);
    front_end();
}

int main(void) {
    static const struct tap_test tests[] = {
        {"each request goes where its own host leads", test_each_by_its_own_host},
        {"a binding goes, and its visitors with it", test_a_binding_goes},
        {"whose a name is", test_whose_a_name_is},
        {"hosts beside ports", test_with_ports},
        {"what a request says of its visitor", test_forwarded},
        {"the kit's own hosts", test_own_host},
        {"no permit", test_no_permit},
        {NULL, NULL},
    };
    return tap_main("relay front", tests);
}
