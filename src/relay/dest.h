/*
 * The policy of the CONNECT proxy: which destinations a client may reach (hardening case 35). Pure: it uses no socket
 * and no name server.
 *
 * A host name is checked twice: the name itself, and then each address that it resolves to. So a name server cannot
 * turn a harmless name into a way to this machine, or to a service that trusts its own network. The rules:
 *
 *   - A match of `deny` is refused. `deny` goes before everything else.
 *   - Some addresses are guarded: loopback, unspecified, link-local (metadata services of clouds), multicast and
 * reserved addresses, other metadata services, and all addresses of this machine. They need a rule of `allow` with a
 * network that is not wider than the guarded one; an address of this machine needs exactly that address. A rule with a
 * name never opens a guarded address.
 *   - The kit's own ports on addresses of this machine need a rule that also names the port.
 *   - For everything else the default decides: all of it is allowed, or only matches of `allow`.
 *
 * Private networks (RFC 1918, RFC 6598, RFC 4193) are not guarded. A client that reaches the proxy's listener is on
 * this machine and can connect to them itself. Containers reach each other by such addresses, and programs that use the
 * proxy for everything still need them.
 *
 * An IPv4 address inside an IPv6 address (mapped, compatible, NAT64, 6to4, Teredo, ISATAP) is checked as well.
 */
#ifndef HT_RELAY_DEST_H
#define HT_RELAY_DEST_H

#include "base/base.h"
#include "base/err.h"
#include "io/io.h"
#include "wire/name.h"

#define RELAY_HOST_MAX WIRE_HOST_ROOM

/* A destination. `host` is in normal form (wire/name.h). */
struct relay_dest {
    char host[RELAY_HOST_MAX];
    uint16_t port;
    bool is_addr;
    struct io_addr addr;       /* when is_addr: the address with the port */
    char text[WIRE_NAME_ROOM]; /* host:port */
};

/*
 * Reads "host:port" or "[v6]:port". Without a port it uses `usual_port`; when that is 0, a port is needed. The host is
 * read by wire_host_read(), which refuses unusual forms of an address (127.1, 0x7f.0.0.1, 0177.0.0.1, 2130706433). The
 * port may have leading zeros, since clients send them; registered names may not. 0, or HT_EINVAL with *why in static
 * storage.
 */
int relay_dest_parse(struct relay_dest *d, struct ht_slice authority, uint16_t usual_port,
                     const char **why) HT_MUST_USE;
/* The same for a host without brackets and a port. */
int relay_dest_set(struct relay_dest *d, struct ht_slice host, uint16_t port, const char **why) HT_MUST_USE;

/* One of --connect-allow and --connect-deny. */
struct relay_rule {
    enum relay_rule_kind { RULE_ANY, RULE_NAME, RULE_BELOW, RULE_NET } kind;
    int family;                /* RULE_NET: 4 or 6 */
    uint8_t bits, addr[16];    /* RULE_NET: length of the prefix, and the address */
    uint16_t first, last;      /* ports */
    char host[RELAY_HOST_MAX]; /* RULE_NAME: the name; RULE_BELOW: a dot and the name */
};

/*
 * Reads WHAT[:PORTS]. WHAT is *, a name, *.name (all names below it), an address, or a network (10.0.0.0/8,
 * [fd00::/8]). PORTS is *, one port, or FIRST-LAST. 0, or HT_EINVAL with *err.
 */
int relay_rule_parse(struct relay_rule *r, const char *text, struct ht_errmsg *err) HT_MUST_USE;

struct relay_policy {
    bool pass; /* the default: true allows destinations that no rule matches */
    const struct relay_rule *allow, *deny;
    size_t n_allow, n_deny;
    uint16_t own_ports[4]; /* ports of the kit; 0: unused place */
};

/* Checks the destination before its name is looked up. NULL: it may be looked up. Otherwise why not, for a person. */
const char *relay_policy_name(const struct relay_policy *p, const struct relay_dest *d);
/* Checks one address of the destination; `own`: this machine has the address. NULL: it may be dialled. Otherwise why
 * not. */
const char *relay_policy_addr(const struct relay_policy *p, const struct relay_dest *d, const struct io_addr *a,
                              bool own);

#endif
