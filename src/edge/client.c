/* Who the visitor is: whom HAProxy believes about that, and how containers see it. */
#include "edge/edge_priv.h"

#include "proc/caps.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <unistd.h>

#define NET_TEXT (INET6_ADDRSTRLEN + 8)

const char *edge_client_name(enum edge_client client) {
    static const char *const names[] = {
        [EDGE_CLIENT_HEADER] = "header", [EDGE_CLIENT_PROXY] = "proxy", [EDGE_CLIENT_TPROXY] = "tproxy"};
    return names[client];
}

/* HAProxy's version 2.6 gives the capability up with root. So it is never root, and has it from the start. */
int edge_client_check(const struct edge_config *cfg, struct ht_errmsg *err) {
    if (cfg->http3_port && geteuid() == 0)
        return ht_fail(err, HT_EACCESS,
                       "--http3: what ends QUIC must not be root; run the edge as another user with the ambient "
                       "capability CAP_NET_BIND_SERVICE, as hoody-tunnel-edge.service does");
    if (cfg->client != EDGE_CLIENT_TPROXY)
        return HT_OK;
    if (cfg->container_nets.n == 0)
        return ht_fail(err, HT_EINVAL,
                       "--client-address tproxy needs --container-network: the networks of containers whose default "
                       "gateway is this server");
    if (geteuid() == 0)
        return ht_fail(
            err, HT_EACCESS,
            "--client-address tproxy: HAProxy would have to stay root; run the edge as another user with the "
            "ambient capabilities CAP_NET_ADMIN and CAP_NET_BIND_SERVICE, as hoody-tunnel-edge.service does");
    if (!proc_caps_inherited(PROC_CAP_NET_ADMIN))
        return ht_fail(
            err, HT_EACCESS,
            "--client-address tproxy: HAProxy needs CAP_NET_ADMIN as an ambient capability to connect from a "
            "visitor's address; hoody-tunnel-edge.service gives it");
    return HT_OK;
}

/* 10.0.0.0/8: bits that do not count are 0, so that a network has one spelling. */
static const char *net_text(const struct ht_cidr *c, char out[NET_TEXT]) {
    uint8_t addr[16];
    char text[INET6_ADDRSTRLEN];
    size_t bytes = c->family == 4 ? 4 : 16;
    for (size_t i = 0; i < bytes; i++) {
        unsigned kept = i * 8 >= c->bits ? 0 : ht_min(c->bits - i * 8, 8u);
        addr[i] = (uint8_t)(c->addr[i] & (0xff00u >> kept));
    }
    inet_ntop(c->family == 4 ? AF_INET : AF_INET6, addr, text, sizeof text);
    snprintf(out, NET_TEXT, "%s/%u", text, c->bits);
    return out;
}

static int put(struct edge_maps *maps, enum haproxy_map map, const struct edge_nets *nets, const char *value) {
    char text[NET_TEXT];
    int rc = HT_OK;
    for (size_t i = 0; rc == HT_OK && i < nets->n; i++)
        rc = edge_maps_set(maps, map, net_text(&nets->list[i], text), value);
    return rc;
}

int edge_client_maps(const struct edge_config *cfg, struct edge_maps *maps, struct ht_errmsg *err) {
    int rc = put(maps, HAPROXY_MAP_FRONTS, &cfg->header_fronts, "header");
    if (rc == HT_OK)
        rc = put(maps, HAPROXY_MAP_FRONTS, &cfg->proxy_fronts, "proxy");
    if (rc == HT_OK)
        rc = put(maps, HAPROXY_MAP_NETWORKS, &cfg->container_nets, "1");
    return rc == HT_OK ? rc : ht_fail(err, rc, "out of memory");
}
