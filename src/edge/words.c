/* Ids, names and addresses that the address book and the API have in common. */
#include "edge/edge_priv.h"

#include <stdio.h>

bool edge_is_id(struct ht_slice s) {
    for (size_t i = 0; i < s.n; i++)
        if (!ht_is_digit(s.p[i]) && (s.p[i] < 'a' || s.p[i] > 'f'))
            return false;
    return s.n == EDGE_ID;
}

/* Letters, and single hyphens between them. */
bool edge_is_service(struct ht_slice s) {
    for (size_t i = 0; i < s.n; i++) {
        bool hyphen = s.p[i] == '-' && i > 0 && i + 1 < s.n && s.p[i - 1] != '-';
        if (!hyphen && (s.p[i] < 'a' || s.p[i] > 'z'))
            return false;
    }
    return s.n > 0 && s.n < EDGE_SERVICE;
}

bool edge_has_port(struct ht_slice service) {
    return edge_is_service(service) && !ht_slice_is(service, "http") && !ht_slice_is(service, "https");
}

/* With a port of this machine a visitor would reach whatever listens there, for this machine alone. */
int edge_read_address(struct ht_slice s, char out[IO_ADDR_TEXT], struct ht_errmsg *err) {
    struct io_addr a;
    char text[IO_ADDR_TEXT];
    uint8_t bytes[16] = {0};
    snprintf(text, sizeof text, "%.*s", (int)ht_min(s.n, sizeof text - 1), s.p ? s.p : "");
    if (s.n >= sizeof text || io_addr_parse(&a, text, 0) < 0)
        return ht_fail(err, HT_EINVAL, "\"%s\" is no IP address", text);
    int family = io_addr_bytes(&a, bytes);
    bool none = bytes[0] == 0 && (family == 4 || memcmp(bytes, (const uint8_t[16]){0}, 16) == 0);
    bool many = family == 4 ? bytes[0] >= 224 : bytes[0] == 0xff;
    bool near = family == 4 ? bytes[0] == 169 && bytes[1] == 254 : bytes[0] == 0xfe && (bytes[1] & 0xc0) == 0x80;
    if (none || many || near || io_addr_is_loopback(&a) || io_addr_is_own(&a))
        return ht_fail(err, HT_EINVAL,
                       "%s is no address that a container can have: it is this machine's, or link-local, or no single "
                       "machine's",
                       text);
    io_addr_host(&a, out);
    return HT_OK;
}
