/* Who the visitor is: the maps of networks, and what is refused before HAProxy is asked. */
#include "base/mem.h"
#include "edge/edge_priv.h"
#include "support/tap.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static struct ht_cidr net(const char *text) {
    struct ht_cidr c;
    CU_ASSERT_TRUE_FATAL(ht_cidr_read(text, strlen(text), &c));
    return c;
}

static void is(const struct edge_maps *maps, enum haproxy_map map, const char *key, const char *value) {
    const char *got = edge_maps_get(maps, map, key);
    CU_ASSERT_TRUE(got && strcmp(got, value) == 0);
}

static void networks_have_one_spelling(void) {
    const struct ht_cidr header[] = {net("10.1.2.3/8"), net("192.0.2.7"), net("10.200.0.0/8"), net("203.0.113.129/25")};
    const struct ht_cidr proxy[] = {net("192.0.2.7/32"), net("fd77::1:2/64"), net("2001:db8::1")};
    const struct ht_cidr all[] = {net("1.2.3.4/0"), net("::1/0"), net("fd77:0:0:ffff::/51")};
    const struct edge_config cfg = {.header_fronts = {header, HT_ARRAY_LEN(header)},
                                    .proxy_fronts = {proxy, HT_ARRAY_LEN(proxy)},
                                    .container_nets = {all, HT_ARRAY_LEN(all)}};
    char folder[64] = "/tmp/ht-edge-XXXXXX", line[128];
    struct ht_errmsg err;
    CU_ASSERT_PTR_NOT_NULL_FATAL(mkdtemp(folder));
    CU_ASSERT_EQUAL_FATAL(edge_folder_make(folder, &err), HT_OK);
    struct io_loop *loop = io_loop_create();
    struct edge_maps *maps = edge_maps_create(loop, folder, NULL);
    CU_ASSERT_EQUAL(edge_client_maps(&cfg, maps, &err), HT_OK);
    is(maps, HAPROXY_MAP_FRONTS, "10.0.0.0/8", "header");
    is(maps, HAPROXY_MAP_FRONTS, "203.0.113.128/25", "header");
    is(maps, HAPROXY_MAP_FRONTS, "192.0.2.7/32", "proxy"); /* who must begin with a header cannot be believed without */
    is(maps, HAPROXY_MAP_FRONTS, "fd77::/64", "proxy");
    is(maps, HAPROXY_MAP_FRONTS, "2001:db8::1/128", "proxy");
    CU_ASSERT_EQUAL(edge_maps_count(maps, HAPROXY_MAP_FRONTS), 5);
    is(maps, HAPROXY_MAP_NETWORKS, "0.0.0.0/0", "1");
    is(maps, HAPROXY_MAP_NETWORKS, "::/0", "1");
    is(maps, HAPROXY_MAP_NETWORKS, "fd77:0:0:e000::/51", "1");
    CU_ASSERT_EQUAL(edge_maps_count(maps, HAPROXY_MAP_NETWORKS), 3);
    edge_maps_destroy(&maps);
    io_loop_destroy(&loop);
    snprintf(line, sizeof line, "rm -r %s", folder);
    CU_ASSERT_EQUAL(system(line), 0);
    CU_ASSERT_EQUAL(ht_mem_live(), 0);
}

static void what_tproxy_takes(void) {
    const struct ht_cidr one[] = {net("10.0.0.0/8")};
    struct edge_config cfg = {.client = EDGE_CLIENT_HEADER};
    struct ht_errmsg err = {""};
    CU_ASSERT_EQUAL(edge_client_check(&cfg, &err), HT_OK);
    cfg.client = EDGE_CLIENT_PROXY;
    CU_ASSERT_EQUAL(edge_client_check(&cfg, &err), HT_OK);
    cfg.client = EDGE_CLIENT_TPROXY;
    CU_ASSERT_EQUAL(edge_client_check(&cfg, &err), HT_EINVAL);
    CU_ASSERT_PTR_NOT_NULL(strstr(err.text, "--container-network"));
    cfg.container_nets = (struct edge_nets){one, 1};
    CU_ASSERT_EQUAL(edge_client_check(&cfg, &err), HT_EACCESS); /* as root, and without the capability as well */
    CU_ASSERT_PTR_NOT_NULL(strstr(err.text, "CAP_NET_ADMIN"));
}

int main(void) {
    static const struct tap_test tests[] = {
        {"networks have one spelling, and who comes with a PROXY header is not believed without",
         networks_have_one_spelling},
        {"tproxy takes networks, a user and a capability", what_tproxy_takes},
        {NULL, NULL},
    };
    return tap_main("client", tests);
}
