/*
 * Names: hosts that programs in a container reach by name (rule NAME-1). Kit and driver read them with the same code,
 * so that both understand a name in the same way. Pure text; nothing is looked up.
 *
 *   gitlab.example.com         this host, ports 80 and 443
 *   gitlab.example.com:8443    this host, this port
 *   gitlab.example.com:*       this host, every port
 *   *.corp.example:443         every host with one label or more before corp.example; not corp.example itself
 *   10.1.2.3:5432  [fd00::1]:* addresses; a name with *. never covers an address
 *
 * The case of letters does not matter, nor does one dot at the end. A label has ASCII letters, digits, - and _; other
 * letters are written as A-labels (xn--...). Texts that only some programs read as an address are refused: 127.1,
 * 2130706433, 0x7f.0.0.1, 010.0.0.1.
 *
 * The normal form of a host is what everything here compares: lower case, no dot at the end, no brackets, addresses as
 * inet_ntop(3) writes them, and an IPv4-mapped IPv6 address as IPv4.
 */
#ifndef HT_WIRE_NAME_H
#define HT_WIRE_NAME_H

#include "base/base.h"
#include "base/err.h"
#include "wire_gen.h"

#define WIRE_HOST_ROOM (WIRE_LIMIT_NAME_HOST + 1)
#define WIRE_NAME_ROOM (WIRE_LIMIT_NAME_TEXT + 1)

enum wire_name_ports {
    WIRE_NAME_WEB,      /* no port was given: 80 and 443 */
    WIRE_NAME_ONE_PORT, /* `port` */
    WIRE_NAME_ANY_PORT, /* :* */
};

/* A name that was read. */
struct wire_name {
    char host[WIRE_HOST_ROOM]; /* in normal form; of a wildcard the part behind "*." */
    bool wildcard;
    enum wire_name_ports ports;
    uint16_t port; /* of WIRE_NAME_ONE_PORT */
};

/* Reads a name. 0, or HT_EINVAL: *err is one sentence that says what would be right. */
int wire_name_read(struct wire_name *out, struct ht_slice text, struct ht_errmsg *err) HT_MUST_USE;

/* Reads a host without brackets and writes its normal form. 0, or HT_EINVAL with *err. */
int wire_host_read(char out[WIRE_HOST_ROOM], struct ht_slice host, struct ht_errmsg *err) HT_MUST_USE;

/* Reads "host:port" or "[v6]:port"; both parts are needed. `host` gets the normal form. 0, or HT_EINVAL with *err. */
int wire_authority_read(char host[WIRE_HOST_ROOM], uint16_t *port, struct ht_slice text,
                        struct ht_errmsg *err) HT_MUST_USE;
/* Writes "host:port" or "[v6]:port". Returns `out`. */
char *wire_authority_put(const char *host, uint16_t port, char out[WIRE_NAME_ROOM]);

/* True when the name covers that host and port. `host` must be in normal form. */
bool wire_name_covers(const struct wire_name *name, const char *host, uint16_t port);

/* Writes the name with its host in normal form, such as "*.corp.example:443". Returns `out`. */
char *wire_name_put(const struct wire_name *name, char out[WIRE_NAME_ROOM]);

/* True when a host in normal form is an address. */
bool wire_host_is_address(const char *host);

/* ---- hosts at the kit's public port: label.c ---- */

#define WIRE_LABEL_ROOM (WIRE_LIMIT_NAME_LABEL + 1)

/*
 * Reads one label and writes it in lower case (rule HOST-1, RFC 1035 2.3.1, RFC 5891 4.2.3.1). A label has letters,
 * digits and hyphens, with no hyphen at either end. A label with "--" at its third place must be a valid A-label. 0, or
 * HT_EINVAL with *err.
 */
int wire_label_read(char out[WIRE_LABEL_ROOM], struct ht_slice text, struct ht_errmsg *err) HT_MUST_USE;

/* The same for a domain of at least `least` labels, without a dot at its end. The last label must not be a number. */
int wire_domain_read(char out[WIRE_HOST_ROOM], struct ht_slice text, unsigned least, struct ht_errmsg *err) HT_MUST_USE;

/*
 * The host of a Host field or of a target, whose form was checked, as it is looked up: lower case, without port and
 * without one dot at the end. Its length; 0: there is none, or it is too long for one.
 */
size_t wire_asked_host(char out[WIRE_HOST_ROOM], struct ht_slice authority);

/*
 * Checks that the text is one to four certificates in PEM and nothing else (rule NAME-8): lines of CERTIFICATE blocks,
 * and blank lines between blocks. 0, or HT_EINVAL with *err, which never quotes the text: it may be a key.
 */
int wire_ca_check(struct ht_slice pem, struct ht_errmsg *err) HT_MUST_USE;

#endif
