/* Changes of the network: what of the kernel's messages matters, and a network of this test's own that changes. */
#include "io/io_priv.h"
#include "io/net_support.h"
#include "support/netns.h"

#include <linux/if.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <string.h>
#include <sys/resource.h>

/* ---- messages ---- */

/* One message: a header, the body of its kind, and attributes. */
struct message {
    _Alignas(4) uint8_t bytes[256];
    size_t n;
};

static void put(struct message *m, const void *p, size_t n) {
    memcpy(m->bytes + m->n, p, n);
    m->n += NLMSG_ALIGN(n);
    uint32_t len = (uint32_t)m->n;
    memcpy(m->bytes, &len, sizeof len); /* nlmsg_len */
}

static struct message message(uint16_t type, const void *body, size_t n) {
    struct message m = {.n = 0};
    struct nlmsghdr head = {.nlmsg_type = type};
    put(&m, &head, sizeof head);
    put(&m, body, n);
    return m;
}

static struct message with(struct message m, uint16_t type, const void *value, size_t n) {
    struct rtattr a = {.rta_len = (uint16_t)(sizeof a + n), .rta_type = type};
    put(&m, &a, sizeof a);
    put(&m, value, n);
    return m;
}

static struct message of_link(uint16_t type, uint8_t family, unsigned flags) {
    struct ifinfomsg body = {.ifi_family = family, .ifi_flags = flags};
    return message(type, &body, sizeof body);
}

static struct message of_address(uint16_t type, uint8_t family, uint8_t scope, const void *address) {
    struct ifaddrmsg body = {.ifa_family = family, .ifa_scope = scope};
    return with(message(type, &body, sizeof body), IFA_ADDRESS, address, family == AF_INET ? 4 : 16);
}

static struct message of_route(uint16_t type, uint8_t family, uint8_t kind, unsigned flags, const void *to) {
    struct rtmsg body = {.rtm_family = family, .rtm_type = kind, .rtm_flags = flags};
    struct message m = message(type, &body, sizeof body);
    return to ? with(m, RTA_DST, to, family == AF_INET ? 4 : 16) : m;
}

static const uint8_t v4[4] = {192, 0, 2, 1}, v6[16] = {0x20, 0x01, 0x0d, 0xb8, [15] = 1},
                     near[16] = {0xfe, 0xbf, [15] = 1};

static void what_matters(void) {
    const struct {
        bool matters;
        struct message m;
    } rows[] = {
        {true, of_link(RTM_NEWLINK, AF_UNSPEC, IFF_UP)},
        {true, of_link(RTM_DELLINK, AF_UNSPEC, 0)},
        {false, of_link(RTM_NEWLINK, AF_UNSPEC, IFF_UP | IFF_LOOPBACK)},
        {false, of_link(RTM_NEWLINK, AF_BRIDGE, IFF_UP)},
        {true, with(of_link(RTM_NEWLINK, AF_UNSPEC, IFF_UP), IFLA_IFNAME, "eth0", 5)},
        {false, with(of_link(RTM_NEWLINK, AF_UNSPEC, IFF_UP), IFLA_WIRELESS, "????", 4)},
        {false, with(with(of_link(RTM_NEWLINK, AF_UNSPEC, IFF_UP), IFLA_IFNAME, "wlan0", 6), IFLA_WIRELESS, "????", 4)},
        {true, of_address(RTM_NEWADDR, AF_INET, RT_SCOPE_UNIVERSE, v4)},
        {true, of_address(RTM_DELADDR, AF_INET, RT_SCOPE_UNIVERSE, v4)},
        {false, of_address(RTM_NEWADDR, AF_INET, RT_SCOPE_HOST, v4)},
        {true, of_address(RTM_NEWADDR, AF_INET6, RT_SCOPE_UNIVERSE, v6)},
        {false, of_address(RTM_NEWADDR, AF_INET6, RT_SCOPE_LINK, near)},
        {true, of_address(RTM_DELADDR, AF_INET6, RT_SCOPE_LINK, near)},
        {true, of_route(RTM_NEWROUTE, AF_INET, RTN_UNICAST, 0, NULL)},
        {true, of_route(RTM_DELROUTE, AF_INET6, RTN_UNICAST, 0, v6)},
        {true, of_route(RTM_NEWROUTE, AF_INET, RTN_UNREACHABLE, 0, v4)},
        {false, of_route(RTM_NEWROUTE, AF_INET, RTN_LOCAL, 0, v4)},
        {false, of_route(RTM_NEWROUTE, AF_INET, RTN_BROADCAST, 0, v4)},
        {false, of_route(RTM_NEWROUTE, AF_INET6, RTN_MULTICAST, 0, v6)},
        {false, of_route(RTM_NEWROUTE, AF_INET6, RTN_UNICAST, 0, near)},
        {false, of_route(RTM_NEWROUTE, AF_INET6, RTN_UNICAST, RTM_F_CLONED, v6)},
        {true, message(RTM_NEWRULE, "", 1)},
        {false, of_link(RTM_NEWNEIGH, AF_UNSPEC, 0)},
        {false, of_link(NLMSG_ERROR, AF_UNSPEC, 0)},
        {false, of_link(NLMSG_DONE, AF_UNSPEC, 0)},
    };
    struct message last = of_address(RTM_DELADDR, AF_INET, RT_SCOPE_UNIVERSE, v4);
    for (size_t i = 0; i < HT_ARRAY_LEN(rows); i++) {
        uint8_t both[512];
        const struct message *m = &rows[i].m;
        if (io_network_matters(m->bytes, m->n) != rows[i].matters)
            printf("# row %zu\n", i);
        CU_ASSERT_EQUAL(io_network_matters(m->bytes, m->n), rows[i].matters);
        memcpy(both, m->bytes, m->n);
        memcpy(both + m->n, last.bytes, last.n);
        CU_ASSERT(io_network_matters(both, m->n + last.n)); /* each message of several is looked at */
    }
}

/* Nothing is read behind the end, whatever the lengths say: a block of exactly that size, under sanitizers. */
static void cut_and_lying_messages(void) {
    struct message m =
        with(with(of_link(RTM_NEWLINK, AF_UNSPEC, IFF_UP), IFLA_IFNAME, "wlan0", 6), IFLA_WIRELESS, "????", 4);
    for (size_t n = 0; n <= m.n; n++) {
        uint8_t *exact = ht_malloc(n + 1);
        CU_ASSERT_PTR_NOT_NULL_FATAL(exact);
        uint8_t *p = exact + 1;
        memcpy(p, m.bytes, n);
        bool head_and_body = n >= sizeof(struct nlmsghdr) + sizeof(struct ifinfomsg);
        CU_ASSERT_EQUAL(io_network_matters(p, n), head_and_body && n < m.n); /* what is cut off cannot speak for it */
        for (size_t at = 0; at + 4 <= n; at += 2)
            for (unsigned lie = 0; lie < 4; lie++) {
                static const uint32_t lengths[] = {0, 3, 0x7fffffff, UINT32_MAX};
                memcpy(p, m.bytes, n);
                memcpy(p + at, &lengths[lie], sizeof lengths[lie]);
                (void)io_network_matters(p, n);
            }
        ht_free(exact);
    }
}

/* ---- a network ---- */

static bool have_network;

static int n_changes;
static void count_change(void *ctx) { (*(int *)ctx)++; }

static void changes_are_told(void) {
    struct ht_errmsg err = {""};
    if (!have_network)
        return;
    loop = io_loop_create();
    CU_ASSERT_PTR_NOT_NULL_FATAL(loop);
    struct io_network *n = io_network_watch(loop, count_change, &n_changes, &err);
    CU_ASSERT_PTR_NOT_NULL_FATAL(n);
    static const char *const moves[] = {
        "ip addr add 198.51.100.1/24 dev d1",        "ip link set d1 up",
        "ip route add 203.0.113.0/24 via 192.0.2.9", "ip route del 203.0.113.0/24",
        "ip rule add to 203.0.113.0/24 lookup 77",   "ip rule del to 203.0.113.0/24 lookup 77",
        "ip addr del 198.51.100.1/24 dev d1",        "ip addr add 2001:db8::1/64 dev d1 nodad",
        "ip addr del 2001:db8::1/64 dev d1",         "ip link set d1 down",
    };
    for (size_t i = 0; i < HT_ARRAY_LEN(moves); i++) {
        turns(5);
        int before = n_changes, seen;
        uint64_t begun = ht_now_ms();
        SH(moves[i]);
        for (seen = 0; !seen && ht_now_ms() < begun + PATIENCE_MS; seen = n_changes > before)
            turns(1);
        if (!seen)
            printf("# nobody told: %s\n", moves[i]);
        CU_ASSERT_FATAL(seen);
        CU_ASSERT(ht_now_ms() >= begun + IO_NETWORK_SETTLE_MS);
    }
    io_network_stop(&n);
    CU_ASSERT_PTR_NULL(n);
    io_network_stop(&n);
    io_loop_destroy(&loop);
}

/* Many changes are one; what cannot matter is none. */
static void a_storm_is_one_change(void) {
    struct ht_errmsg err = {""};
    if (!have_network)
        return;
    loop = io_loop_create();
    CU_ASSERT_PTR_NOT_NULL_FATAL(loop);
    int changes = 0;
    struct io_network *n = io_network_watch(loop, count_change, &changes, &err);
    CU_ASSERT_PTR_NOT_NULL_FATAL(n);
    SH("ip addr add 127.0.0.5/8 dev lo && ip addr del 127.0.0.5/8 dev lo && ip neigh add 192.0.2.77 lladdr "
       "02:00:00:00:00:01 dev d0");
    uint64_t until = ht_now_ms() + 2 * IO_NETWORK_SETTLE_MS;
    while (ht_now_ms() < until)
        turns(1);
    CU_ASSERT_EQUAL(changes, 0);
    uint64_t begun = ht_now_ms();
    SH("i=0; while [ $i -lt 4000 ]; do echo route add 203.0.113.0/24 via 192.0.2.9; echo route del 203.0.113.0/24; "
       "i=$((i+1)); done | "
       "ip -batch -"); /* more than the socket holds */
    while (!changes)
        turns(1);
    until = ht_now_ms() + 3 * IO_NETWORK_SETTLE_MS;
    while (ht_now_ms() < until)
        turns(1);
    CU_ASSERT(changes <= (int)((ht_now_ms() - begun) / IO_NETWORK_SETTLE_MS) + 1);
    CU_ASSERT(changes <=
              3); /* nobody turned the loop during the storm, so it came all at once, and then there was quiet */
    io_network_stop(&n);
    io_loop_destroy(&loop);
}

/* ---- one connection ---- */

static struct side accepted;

static void on_accepted(void *ctx, struct io_conn *c, const struct io_addr *peer) {
    (void)ctx, (void)peer;
    accepted.c = c;
    io_conn_set_ops(c, &side_ops, &accepted);
}

static void who_is_stranded(void) {
    static const struct io_listener_ops ops = {.accepted = on_accepted};
    struct io_listener *l = NULL;
    struct io_addr at;
    struct dialled d = {.done = 0};
    struct ht_errmsg err = {""};
    if (!have_network)
        return;
    loop = io_loop_create();
    CU_ASSERT_PTR_NOT_NULL_FATAL(loop);
    CU_ASSERT_EQUAL_FATAL(io_addr_parse(&at, "192.0.2.1", 0), 0);
    CU_ASSERT_EQUAL_FATAL(io_listen(loop, &at, &ops, NULL, &l, NULL), 0);
    io_listener_local(l, &at);
    struct io_dial *dial = io_dial_start(loop, "192.0.2.1", io_addr_port(&at), NULL, 5000, &dial_ops, &d, &err);
    CU_ASSERT_PTR_NOT_NULL_FATAL(dial);
    CU_ASSERT_FATAL(turn_until(&d.done, PATIENCE_MS));
    CU_ASSERT_PTR_NOT_NULL_FATAL(d.side.c);
    char text[IO_ADDR_TEXT];
    io_conn_local(d.side.c, &at);
    CU_ASSERT_STRING_EQUAL(io_addr_host(&at, text), "192.0.2.2");
    CU_ASSERT(!io_conn_is_stranded(d.side.c));
    struct io_addr to, from;
    io_conn_peer(d.side.c, &to);
    CU_ASSERT(io_addr_way(&to, &from));
    CU_ASSERT_STRING_EQUAL(io_addr_text(&from, text), "192.0.2.2:0");
    SH("ip addr del 192.0.2.2/24 dev d0 && " WAY_FROM("192.0.2.1"));
    CU_ASSERT(io_conn_is_stranded(d.side.c));
    SH("ip link set d0 down && ip addr flush dev d0"); /* no way at all: it may come back */
    CU_ASSERT(!io_conn_is_stranded(d.side.c));
    CU_ASSERT(!io_addr_way(&to, &from));
    CU_ASSERT_EQUAL(from.len, 0);
    SH("ip link set d0 up && ip addr add 192.0.2.3/24 dev d0");
    CU_ASSERT(io_conn_is_stranded(d.side.c));
    SH("ip addr add 192.0.2.2/24 dev d0");
    CU_ASSERT(!io_conn_is_stranded(d.side.c));
    struct io_conn *pair[2];
    CU_ASSERT_EQUAL_FATAL(io_conn_pair(loop, pair), 0);
    CU_ASSERT(!io_conn_is_stranded(pair[0])); /* not of this kind */
    io_conn_close(&pair[0]);
    io_conn_close(&pair[1]);
    io_conn_abort(&d.side.c);
    io_conn_abort(&accepted.c);
    io_listener_close(&l);
    io_loop_destroy(&loop);
}

/* Where the kernel does not tell, as in a sandbox. */
static void without(void) {
    struct ht_errmsg err = {""};
    struct rlimit had, none;
    loop = io_loop_create();
    CU_ASSERT_PTR_NOT_NULL_FATAL(loop);
    CU_ASSERT_EQUAL_FATAL(getrlimit(RLIMIT_NOFILE, &had), 0);
    none = had;
    none.rlim_cur = 0;
    CU_ASSERT_EQUAL_FATAL(setrlimit(RLIMIT_NOFILE, &none), 0);
    struct io_network *n = io_network_watch(loop, count_change, NULL, &err);
    struct io_addr to, from;
    CU_ASSERT_EQUAL(io_addr_parse(&to, "127.0.0.1", 9), 0);
    CU_ASSERT(!io_addr_way(&to, &from));
    CU_ASSERT_EQUAL_FATAL(setrlimit(RLIMIT_NOFILE, &had), 0);
    CU_ASSERT_PTR_NULL(n);
    CU_ASSERT_PTR_NOT_NULL(strstr(err.text, "does not tell"));
    io_loop_destroy(&loop);
}

/* ---- the clock ---- */

static void a_clock_is_watched_and_left(void) {
    struct io_wake w = {.woke = NULL};
    int fds = io_count_fds();
    io_wake_stop(&w);
    loop = io_loop_create();
    CU_ASSERT_PTR_NOT_NULL_FATAL(loop);
    io_wake_start(loop, &w, NULL); /* which is never called */
    turns(5);
    io_wake_stop(&w);
    io_wake_stop(&w);
    io_loop_destroy(&loop);
    CU_ASSERT_EQUAL(io_count_fds(), fds);
}

int main(void) {
    static const struct tap_test tests[] = {
        {"what of the kernel's messages matters", what_matters},
        {"messages that are cut, and lengths that lie", cut_and_lying_messages},
        {"each change of links, addresses, routes and rules is told", changes_are_told},
        {"a storm of changes is one, and what cannot matter is none", a_storm_is_one_change},
        {"a connection is stranded when its address is gone and there is another way", who_is_stranded},
        {"a system that does not tell", without},
        {"a clock that is watched costs a descriptor, which is given back", a_clock_is_watched_and_left},
        {NULL, NULL},
    };
    io_ignore_sigpipe();
    have_network = enter_network();
    return tap_main("io: netlink", tests);
}
