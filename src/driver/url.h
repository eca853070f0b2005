/* Where the kit is and where a local service is, as people write them. Pure text: no name is looked up. */
#ifndef HT_DRIVER_URL_H
#define HT_DRIVER_URL_H

#include "base/base.h"
#include "base/err.h"

#define DRIVER_HOST_MAX 255 /* RFC 1035 2.3.4 */
#define DRIVER_PATH_MAX 1024

struct driver_url {
    bool tls;
    uint16_t port;
    char host[DRIVER_HOST_MAX + 1];        /* no brackets */
    char host_field[DRIVER_HOST_MAX + 16]; /* for Host: brackets, and the port unless it is the scheme's own */
    char path[DRIVER_PATH_MAX + 1];        /* origin-form, with the query */
};

/*
 * Reads the kit's URL:
 *   ws://, wss://     as it is
 *   http://, https:// the same as ws:// and wss://
 *   host[:port][/path] without a scheme: ws:// when the host is this machine (localhost, 127.0.0.0/8, ::1), else wss://
 * Without a port it is the scheme's (80, 443). A path is taken as it is when it ends in "/connect"; any other is a
 * prefix, which `default_path` is put behind: "/edge" gives "/edge/api/v1/tunnel/connect", and so does
 * "/edge/api/v1/tunnel". With `default_path` NULL the path is always taken as it is. A user name, a fragment and
 * control bytes are refused. HT_EINVAL with *err.
 */
int driver_url_parse(struct driver_url *u, const char *text, const char *default_path,
                     struct ht_errmsg *err) HT_MUST_USE;

/*
 * The path of the admin API's `resource` ("/health") beside a connect path: ".../connect" gives way to the resource.
 * HT_ESPACE: too long.
 */
int driver_url_admin_path(const struct driver_url *u, const char *connect_path, const char *resource, char *out,
                          size_t cap) HT_MUST_USE;

enum driver_target_tls { DRIVER_PLAIN, DRIVER_TLS, DRIVER_TLS_INSECURE };

struct driver_target {
    char host[DRIVER_HOST_MAX + 1]; /* no brackets */
    uint16_t port;
    bool any_loopback; /* no host was named: 127.0.0.1 or ::1, whichever answers */
    enum driver_target_tls tls;
};

/*
 * "3000", ":3000", "host:3000", "[::1]:3000", "http://host:3000", "tls://host:443", "tls+insecure://host:443" (443 need
 * not be said); without a host it is 127.0.0.1, or ::1 if that answers. A host that is a number is refused: "8080:3000"
 * is how other tools write two ports, and would otherwise leave this machine. HT_EINVAL with *err.
 */
int driver_target_parse(struct driver_target *t, const char *text, struct ht_errmsg *err) HT_MUST_USE;

/* HT_EINVAL with *err when it cannot be exposed. `text` is what it was read from. */
int driver_target_check_expose(const struct driver_target *t, const char *text, struct ht_errmsg *err) HT_MUST_USE;

/* Whether the text is PORT:TARGET, as other tools write it; then *port and *local are its two parts. */
bool driver_target_is_pair(const char *text, struct ht_slice *port, const char **local);

/* A whole number from 0 to 65535, nothing around it. HT_EINVAL. */
int driver_port_parse(struct ht_slice text, uint16_t *out) HT_MUST_USE;

/* localhost, 127.0.0.0/8, ::1. */
bool driver_host_is_local(const char *host);

#endif
