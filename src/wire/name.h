/*
 * Hosts that programs in a container reach by name, as both ends of a tunnel read them (rule NAME-1): there is one
 * reader, so that the kit never sends what a driver understands in another way. Pure text; nothing is looked up.
 *
 *   gitlab.example.com         that host, ports 80 and 443
 *   gitlab.example.com:8443    ... that port
 *   gitlab.example.com:*       ... every port
 *   *.corp.example:443         one label or more before corp.example; not corp.example itself
 *   10.1.2.3:5432  [fd00::1]:* addresses; no *. covers one
 *
 * Letters' case makes no difference, nor does one dot at the end. Labels are letters, digits, - and _; other letters
 * come as A-labels (xn--...). What only some programs take for an address is refused: 127.1, 2130706433, 0x7f.0.0.1,
 * 010.0.0.1.
 */
#ifndef HT_WIRE_NAME_H
#define HT_WIRE_NAME_H

#include "base/base.h"
#include "base/err.h"
#include "wire_gen.h"

#define WIRE_HOST_ROOM (WIRE_LIMIT_NAME_HOST + 1)
#define WIRE_NAME_ROOM (WIRE_LIMIT_NAME_TEXT + 1)

enum wire_name_ports {
    WIRE_NAME_WEB,      /* none was named: 80 and 443 */
    WIRE_NAME_ONE_PORT, /* `port` */
    WIRE_NAME_ANY_PORT, /* :* */
};

/* A name as it is registered. */
struct wire_name {
    char host[WIRE_HOST_ROOM]; /* in the one spelling (wire_host_read()); of a wildcard what stands behind "*." */
    bool wildcard;
    enum wire_name_ports ports;
    uint16_t port; /* WIRE_NAME_ONE_PORT */
};

/* Reads a name. HT_EINVAL with *err, one sentence that says what would be right. */
int wire_name_read(struct wire_name *out, struct ht_slice text, struct ht_errmsg *err) HT_MUST_USE;

/*
 * Reads a host that somebody asks for (no brackets) into the one spelling that everything here compares: lower case, no
 * dot at the end, addresses as inet_ntop(3) writes them, an IPv4 address inside an IPv6 one as IPv4. HT_EINVAL with
 * *err.
 */
int wire_host_read(char out[WIRE_HOST_ROOM], struct ht_slice host, struct ht_errmsg *err) HT_MUST_USE;

/* "host:port" or "[v6]:port", both parts needed: the host as wire_host_read() has it. HT_EINVAL with *err. */
int wire_authority_read(char host[WIRE_HOST_ROOM], uint16_t *port, struct ht_slice text,
                        struct ht_errmsg *err) HT_MUST_USE;
/* The same, written. Returns `out`. */
char *wire_authority_put(const char *host, uint16_t port, char out[WIRE_NAME_ROOM]);

/* Whether the name stands for that host and port. `host` is in the one spelling. */
bool wire_name_covers(const struct wire_name *name, const char *host, uint16_t port);

/* The name in its one spelling: "*.corp.example:443". Returns `out`. */
char *wire_name_put(const struct wire_name *name, char out[WIRE_NAME_ROOM]);

/* A host in the one spelling that is an address. */
bool wire_host_is_address(const char *host);

/*
 * Whether the text is one to four certificates in PEM and nothing else (rule NAME-8): only lines of CERTIFICATE blocks
 * and blank ones between them. HT_EINVAL with *err, which never quotes it: it may be a key.
 */
int wire_ca_check(struct ht_slice pem, struct ht_errmsg *err) HT_MUST_USE;

#endif
