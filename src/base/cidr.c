#include "base/cidr.h"

#include <arpa/inet.h>

bool ht_cidr_read(const char *text, size_t n, struct ht_cidr *out) {
    char addr[64];
    const char *slash = memchr(text, '/', n);
    size_t addr_len = slash ? (size_t)(slash - text) : n;
    if (addr_len >= sizeof addr)
        return false;
    memcpy(addr, text, addr_len);
    addr[addr_len] = '\0';
    *out = (struct ht_cidr){0};
    if (inet_pton(AF_INET, addr, out->addr) == 1)
        out->family = 4;
    else if (inet_pton(AF_INET6, addr, out->addr) == 1)
        out->family = 6;
    else
        return false;
    uint64_t bits = out->family == 4 ? 32 : 128;
    if (slash) {
        const char *p = slash + 1, *end = text + n;
        uint64_t wanted = 0;
        for (; p < end && *p >= '0' && *p <= '9' && wanted <= bits; p++)
            wanted = wanted * 10 + (uint64_t)(*p - '0');
        if (p == slash + 1 || p < end || wanted > bits)
            return false;
        bits = wanted;
    }
    out->bits = (uint8_t)bits;
    return true;
}

bool ht_cidrs_match(const struct ht_cidr *list, size_t n, int family, const uint8_t *addr) {
    static const uint8_t mapped[12] = {[10] = 0xff, [11] = 0xff};
    if (family == 6 && memcmp(addr, mapped, sizeof mapped) == 0) {
        family = 4;
        addr += sizeof mapped;
    }
    for (size_t i = 0; i < n; i++) {
        const struct ht_cidr *c = &list[i];
        size_t whole = c->bits / 8;
        uint8_t rest = (uint8_t)(0xff00u >> c->bits % 8);
        if (c->family == family && memcmp(c->addr, addr, whole) == 0 &&
            (rest == 0 || ((c->addr[whole] ^ addr[whole]) & rest) == 0))
            return true;
    }
    return false;
}
