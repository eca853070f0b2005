/*
 * Where somebody may be led who names a destination himself: the CONNECT proxy's policy (hardening case 35). Pure: no
 * socket, no name server.
 *
 * A name is looked at twice: by itself, and again as each address that it turned out to have, so that no name server
 * can turn an innocent one into a way to this machine or to a service that trusts whoever reaches it. Rules:
 *
 *   - what `deny` has is refused; it goes before everything else
 *   - some addresses are guarded: loopback, unspecified, link-local (the metadata of clouds), multicast, reserved ones,
 *     metadata services elsewhere, and all addresses of this machine. They need a rule of `allow` that names the
 *     network: one that is no wider than the guarded one, for an own address that address alone. Names never open them.
 *   - the kit's own ports there need a rule that names the port as well
 *   - everything else as the default says: all of it, or what `allow` has
 *
 * Private networks (RFC 1918, RFC 6598, RFC 4193) are not guarded. Who reaches the proxy's listener is in this machine
 * already and may connect there itself; containers reach each other by such addresses, and a program that is told to
 * use a proxy for everything has to reach them still.
 *
 * An IPv4 address inside an IPv6 one (mapped, compatible, NAT64, 6to4, Teredo, ISATAP) is looked at as well.
 */
#ifndef HT_RELAY_DEST_H
#define HT_RELAY_DEST_H

#include "base/base.h"
#include "base/err.h"
#include "io/io.h"
#include "wire/name.h"

#define RELAY_HOST_MAX WIRE_HOST_ROOM

/* A destination. `host` is in the one spelling (wire/name.h). */
struct relay_dest {
    char host[RELAY_HOST_MAX];
    uint16_t port;
    bool is_addr;
    struct io_addr addr;       /* with the port */
    char text[WIRE_NAME_ROOM]; /* host:port */
};

/*
 * "host:port", "[v6]:port"; without a port the given one, 0: there must be one. HT_EINVAL with *why. Addresses have
 * one form only: what some take for 127.0.0.1 as well (127.1, 0x7f.0.0.1, 0177.0.0.1, 2130706433) is refused. Hosts are
 * read as everywhere (wire_host_read()); a port may have zeros before it here, as clients send it, and no name has.
 */
int relay_dest_parse(struct relay_dest *d, struct ht_slice authority, uint16_t usual_port,
                     const char **why) HT_MUST_USE;
/* The same for a host alone, without brackets. */
int relay_dest_set(struct relay_dest *d, struct ht_slice host, uint16_t port, const char **why) HT_MUST_USE;

/* One of --connect-allow and --connect-deny. */
struct relay_rule {
    enum relay_rule_kind { RULE_ANY, RULE_NAME, RULE_BELOW, RULE_NET } kind;
    int family; /* RULE_NET */
    uint8_t bits, addr[16];
    uint16_t first, last;      /* ports */
    char host[RELAY_HOST_MAX]; /* RULE_NAME; RULE_BELOW: with its first dot */
};

/*
 * WHAT[:PORTS]. WHAT is *, a name, *.name (all names below it), an address, or a network (10.0.0.0/8, [fd00::/8]);
 * PORTS is *, a port, or first-last. HT_EINVAL with *err.
 */
int relay_rule_parse(struct relay_rule *r, const char *text, struct ht_errmsg *err) HT_MUST_USE;

struct relay_policy {
    bool pass; /* the default */
    const struct relay_rule *allow, *deny;
    size_t n_allow, n_deny;
    uint16_t own_ports[4]; /* 0: none */
};

/* Whether it may be looked up at all. NULL: yes; else why not, for a person. */
const char *relay_policy_name(const struct relay_policy *p, const struct relay_dest *d);
/* Whether this address of it may be dialled; `own`: this machine has it. NULL: yes; else why not. */
const char *relay_policy_addr(const struct relay_policy *p, const struct relay_dest *d, const struct io_addr *a,
                              bool own);

#endif
