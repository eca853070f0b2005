/* Networks of addresses. */
#ifndef HT_BASE_CIDR_H
#define HT_BASE_CIDR_H

#include "base/base.h"

/* A network. `family` is 4 or 6. The bytes of the address are in network order; only the first `bits` bits count. */
struct ht_cidr {
    uint8_t family, bits;
    uint8_t addr[16];
};

/* Reads a network, or an address, which is a network of one: 10.0.0.0/8, fd00::/8, 192.168.1.7. */
bool ht_cidr_read(const char *text, size_t n, struct ht_cidr *out);

/* True when the address is in one of the networks. It has 4 or 16 bytes, for family 4 or 6. A v4-mapped IPv6 address
 * counts as its IPv4 address. */
bool ht_cidrs_match(const struct ht_cidr *list, size_t n, int family, const uint8_t *addr);

#endif
