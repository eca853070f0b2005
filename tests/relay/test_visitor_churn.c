/* Visitors who open streams only to leave them pay for it themselves: hardening case 28, the kit's half. */
#include "relay/visitor_priv.h"
#include "relay/visitor_rig.h"

#define NEVER (-1000000)

static struct relay_binding *binding(void) {
    return HT_LIST_ENTRY(rig.table->bindings.next, struct relay_binding, all);
}

static unsigned waiting(void) {
    unsigned n = 0;
    HT_LIST_FOR (it, &rig.table->waiting)
        n++;
    return n;
}

/* What 127.0.0.1 may still leave. */
static void set_left(int32_t left) {
    struct io_addr a;
    CU_ASSERT_EQUAL_FATAL(io_addr_parse(&a, "127.0.0.1", 0), 0);
    uint64_t from = relay_from(&a);
    relay_left_early(binding(), from);
    HT_LIST_FOR (it, &rig.table->all_sources) {
        struct relay_source *src = HT_LIST_ENTRY(it, struct relay_source, all);
        if (src->from == from)
            src->left = left;
    }
}

static void answer(const struct played_stream *st) {
    drv_head(&d, st->id, 200, "content-length: 1");
    drv_text(&d, st->id, "x");
    drv_eof(&d, st->id);
    drv_send(&d);
}

/* It waits before it opens anything, so that nothing is opened for one that leaves again; others do not wait. */
static void test_debt(void) {
    begin();
    set_left(NEVER);
    struct visitor bad = vis_connect(port), patient = vis_connect(port);
    vis_send(&bad, GET);
    vis_send(&patient, GET);
    UNTIL(waiting() == 2);
    struct visitor good = vis_connect_from("127.0.0.2", "127.0.0.1", port);
    vis_send(&good, GET);
    answer(opened(1));
    vis_expect(&good, OK_X);
    leave_soon(&bad);
    UNTIL(relay_count_visitors(rig.table) == 2);
    CU_ASSERT_EQUAL(d.n_streams, 1);
    set_left(10);
    answer(opened(2));
    vis_expect(&patient, OK_X);
    CU_ASSERT_EQUAL(d.n_streams, 2);
    leave_soon(&good);
    leave(&patient);
    end();
}

/* What is left early is paid for, what is answered is not. */
static void test_who_pays(void) {
    begin();
    struct visitor v = vis_connect(port);
    vis_send(&v, GET);
    answer(opened(1));
    vis_expect(&v, OK_X);
    CU_ASSERT_EQUAL(d.owner.n_sources, 0);
    vis_send(&v, GET);
    opened(2);
    leave_soon(&v);
    UNTIL(d.owner.n_sources == 1);
    UNTIL(d.owner.n_sources == 0); /* soon forgotten */
    v = vis_connect(port);
    vis_send(&v, POST "Content-Length: 5\r\n\r\n"); /* an early answer resets the stream as well */
    answer(opened(3));
    UNTIL(d.owner.n_sources == 1);
    leave(&v);
    v = vis_connect(port);
    vis_send(&v, GET);
    opened(4);
    UNTIL(d.owner.n_sources == 0);
    drv_reset(&d, d.streams[3].id, WIRE_CODE_REFUSED_STREAM); /* the driver's doing */
    drv_send(&d);
    UNTIL(vis_got(&v) > 0);
    CU_ASSERT_EQUAL(d.owner.n_sources, 0);
    leave(&v);
    end();
}

/* However many addresses they come from, all of them stay below what a driver puts up with. */
static void all_addresses_together_have_a_limit_too(void) {
    begin();
    for (uint64_t from = 1; from < 20000; from++)
        relay_left_early(binding(), from);
    CU_ASSERT_EQUAL(d.owner.churn_left, -RELAY_OWNER_BURST);
    CU_ASSERT(d.owner.n_sources < 5000); /* which takes bounded memory */
    d.owner.churn_left = NEVER;
    struct visitor v = vis_connect_from("127.0.0.3", "127.0.0.1", port);
    vis_send(&v, GET);
    UNTIL(waiting() == 1);
    d.owner.churn_left = RELAY_OWNER_BURST;
    answer(opened(1));
    vis_expect(&v, OK_X);
    leave(&v);
    end();
}

static void test_pull(void) {
    begin();
    uint16_t pull = rig_pull(&d);
    set_left(NEVER);
    struct visitor bad = vis_connect(pull), half = vis_connect(pull);
    vis_send(&half, "all it says");
    shutdown(half.fd, SHUT_WR);
    UNTIL(waiting() == 2);
    leave_soon(&bad);
    UNTIL(relay_count_visitors(rig.table) == 1);
    CU_ASSERT_EQUAL(d.n_streams, 0);
    set_left(10);
    struct played_stream *st = opened(1);
    UNTIL(st->eofs == 1);
    CU_ASSERT_EQUAL(ht_buf_size(&st->body), strlen("all it says"));
    drv_eof(&d, st->id);
    drv_send(&d);
    vis_expect_end(&half, false);
    leave(&half);
    end();
}

static void the_debts_go_with_the_owner(void) {
    begin();
    set_left(NEVER);
    struct visitor v = vis_connect(port);
    vis_send(&v, GET);
    UNTIL(waiting() == 1);
    relay_owner_drop(rig.table, &d.owner);
    CU_ASSERT_EQUAL(rig.table->n_sources, 0);
    UNTIL(vis_over(&v));
    leave(&v);
    end();
}

int main(void) {
    static const struct tap_test tests[] = {
        {"an address with a debt waits, others do not", test_debt},
        {"only streams that are left early cost", test_who_pays},
        {"all addresses together have a limit too", all_addresses_together_have_a_limit_too},
        {"visitors of a pull have the same budget", test_pull},
        {"the debts go with the owner", the_debts_go_with_the_owner},
        {NULL, NULL},
    };
    return tap_main("relay visitors that come and go", tests);
}
