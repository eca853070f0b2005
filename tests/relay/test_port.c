/* Listeners by themselves, and when a visitor of one gets its binding. */
#include "relay/kit_rig.h"

#include "base/mem.h"
#include "relay/visitor_priv.h"

#define GET "GET / HTTP/1.1\r\nHost: a\r\n\r\n"

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

static struct wire_bind expose(uint16_t number) {
    return (struct wire_bind){.kind = WIRE_KIND_HTTP, .mode = WIRE_MODE_EXPOSE, .container_port = number};
}

static const struct wire_bind pull = {.kind = WIRE_KIND_TCP, .mode = WIRE_MODE_PULL};

static struct io_addr at(const char *host) {
    struct io_addr a;
    CU_ASSERT_EQUAL_FATAL(io_addr_parse(&a, host, 0), 0);
    return a;
}

static int open_port(struct wire_bind bind, const char *host, struct relay_port **out, enum wire_bind_error *code) {
    struct ht_errmsg err = {""};
    struct io_addr addr = at(host);
    *out = NULL;
    *code = WIRE_BIND_ERROR_UNKNOWN;
    struct relay_owner anybody;
    relay_owner_init(&anybody, NULL);
    int rc = relay_port_open(rig.table, &anybody, &bind, &addr, out, code, &err);
    CU_ASSERT((rc == 0) == (*out != NULL));
    CU_ASSERT(rc == 0 || err.text[0]);
    return rc;
}

static struct relay_port *opened(struct wire_bind bind, const char *host) {
    struct relay_port *p;
    enum wire_bind_error code;
    CU_ASSERT_EQUAL_FATAL(open_port(bind, host, &p, &code), 0);
    return p;
}

static void refused(struct wire_bind bind, const char *host, int want, enum wire_bind_error why) {
    struct relay_port *p;
    enum wire_bind_error code;
    unsigned used = rig.fds.used;
    CU_ASSERT_EQUAL(open_port(bind, host, &p, &code), want);
    CU_ASSERT_EQUAL(code, why);
    CU_ASSERT_EQUAL(rig.fds.used, used);
}

static struct relay_port *only_port(void) {
    CU_ASSERT_FATAL(!ht_list_empty(&rig.table->ports) && rig.table->ports.next == rig.table->ports.prev);
    return HT_LIST_ENTRY(rig.table->ports.next, struct relay_port, node);
}

static const struct visitor_http *first_visitor(const struct relay_port *p) {
    CU_ASSERT_FATAL(p->n_visitors > 0);
    return HT_LIST_ENTRY(p->visitors.next, struct visitor_http, node);
}

static void a_port_is_found_by_each_address_that_overlaps(void) {
    begin();
    struct io_addr v4 = at("127.0.0.1"), other = at("127.0.0.2"), any = at("0.0.0.0"), v6 = at("::1");
    struct relay_port *p = opened(expose(0), "127.0.0.1");
    CU_ASSERT(p->number >= WIRE_LIMIT_RANDOM_PORT_MIN);
    CU_ASSERT_EQUAL(io_addr_port(&p->addr), p->number);
    CU_ASSERT_EQUAL(rig.fds.used, 1);
    CU_ASSERT_PTR_EQUAL(relay_port_find(rig.table, &v4, p->number), p);
    CU_ASSERT_PTR_EQUAL(relay_port_find(rig.table, &any, p->number), p);
    CU_ASSERT_PTR_NULL(relay_port_find(rig.table, &v4, p->number + 1));
    CU_ASSERT_PTR_NULL(relay_port_find(rig.table, &other, p->number));
    CU_ASSERT_PTR_NULL(relay_port_find(rig.table, &v6, p->number));
    struct relay_port *q = opened(pull, "127.0.0.2");
    CU_ASSERT_EQUAL(q->kind, WIRE_KIND_TCP);
    CU_ASSERT_EQUAL(rig.fds.used, 2);
    relay_port_close(&p, WIRE_CODE_BIND_ERROR, "");
    CU_ASSERT_PTR_NULL(p);
    CU_ASSERT_PTR_EQUAL(only_port(), q);
    relay_port_close(&q, WIRE_CODE_BIND_ERROR, "");
    CU_ASSERT(ht_list_empty(&rig.table->ports));
    CU_ASSERT_EQUAL(rig.fds.used, 0);
    end();
}

static void test_refused(void) {
    begin();
    struct relay_port *p = opened(expose(0), "127.0.0.1");
    refused(expose(p->number), "127.0.0.1", HT_EINUSE, WIRE_BIND_ERROR_PORT_IN_USE);
    refused(expose(0), "203.0.113.1", HT_EADDR, WIRE_BIND_ERROR_INTERNAL); /* of no machine */
    unsigned total = rig.fds.total;
    rig.fds.total = rig.fds.used;
    refused(pull, "127.0.0.1", HT_EFDS, WIRE_BIND_ERROR_INTERNAL);
    rig.fds.total = total;
    for (int i = 0; i < 2; i++) {
        ht_mem_fail_at(i);
        refused(pull, "127.0.0.1", HT_ENOMEM, WIRE_BIND_ERROR_INTERNAL);
    }
    ht_mem_fail_at(-1);
    CU_ASSERT_PTR_EQUAL(only_port(), p);
    relay_port_close(&p, WIRE_CODE_BIND_ERROR, "");
    end();
}

static void test_accept_fails(void) {
    begin();
    rig_expose(&d);
    relay_port_ops.accept_failed(only_port(), HT_EFDS);
    CU_ASSERT_EQUAL(rig.metrics.accept_errors_total, 1);
    end();
}

static void test_binding_of_a_visitor(void) {
    begin();
    struct visitor v = vis_connect(rig_expose(&d));
    struct relay_port *p = only_port();
    UNTIL(p->n_visitors == 1);
    const struct visitor_http *x = first_visitor(p);
    CU_ASSERT_PTR_EQUAL(x->port, p);
    CU_ASSERT_PTR_NULL(x->b);
    vis_send(&v, "GET / HTTP/1.1\r\nHo");
    UNTIL(x->partial != NULL);
    CU_ASSERT_PTR_NULL(x->b);
    vis_send(&v, "st: a\r\n\r\n");
    UNTIL(d.n_streams == 1);
    CU_ASSERT_PTR_EQUAL(x->b, p->binding);
    drv_head(&d, d.streams[0].id, 200, "content-length: 0");
    drv_eof(&d, d.streams[0].id);
    drv_send(&d);
    UNTIL(x->state == VISITOR_HEAD);
    CU_ASSERT_PTR_NULL(x->b); /* the next request may be somebody else's */
    vis_send(&v, GET);
    UNTIL(d.n_streams == 2);
    CU_ASSERT_PTR_EQUAL(x->b, p->binding);
    vis_close(&v);
    UNTIL(p->n_visitors == 0);
    end();
}

static void test_half_a_head_at_a_takeover(void) {
    begin();
    uint16_t number = rig_expose(&d);
    struct visitor v = vis_connect(number), odd = vis_connect(number);
    struct relay_port *p = only_port();
    UNTIL(p->n_visitors == 2);
    vis_send(&v, "GET / HTTP/1.1\r\nHo");
    UNTIL(first_visitor(p)->partial != NULL);
    struct relay_bound bound;
    enum wire_bind_error code;
    struct wire_bind bind = expose(number);
    bind.takeover = true;
    CU_ASSERT_EQUAL(rig_bind(&e, bind, &bound, &code), 0);
    CU_ASSERT_PTR_EQUAL(only_port(), p);
    CU_ASSERT_PTR_EQUAL(p->binding->owner, &e.owner);
    vis_send(&v, "st: a\r\n\r\n");
    UNTIL(e.n_streams == 1);
    CU_ASSERT_EQUAL(d.n_streams, 0);
    /* one that never says what it wants is refused without a binding */
    vis_send(&odd, "?\r\n\r\n");
    UNTIL(p->n_visitors == 1);
    UNTIL(vis_got(&odd) > 0);
    CU_ASSERT_EQUAL(memcmp(ht_buf_head(&odd.rx), "HTTP/1.1 400 ", 13), 0);
    relay_owner_drop(rig.table, &e.owner);
    CU_ASSERT(ht_list_empty(&rig.table->ports));
    CU_ASSERT_EQUAL(relay_count_visitors(rig.table), 0);
    vis_close(&v);
    vis_close(&odd);
    end();
}

int main(void) {
    static const struct tap_test tests[] = {
        {"a port is found by each address that overlaps its own", a_port_is_found_by_each_address_that_overlaps},
        {"a port that cannot be opened", test_refused},
        {"a visitor could not be accepted", test_accept_fails},
        {"a visitor has a binding from its head to its answer", test_binding_of_a_visitor},
        {"half a head at a takeover", test_half_a_head_at_a_takeover},
        {NULL, NULL},
    };
    return tap_main("relay ports", tests);
}
