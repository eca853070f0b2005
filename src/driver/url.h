/* Reads the kit's URL and the targets of bindings, as people write them. Pure text: no name is looked up. */
#ifndef HT_DRIVER_URL_H
#define HT_DRIVER_URL_H

#include "base/base.h"
#include "base/err.h"

#define DRIVER_HOST_MAX 255 /* RFC 1035 2.3.4 */
#define DRIVER_PATH_MAX 1024

struct driver_url {
    bool tls;
    uint16_t port;
    char host[DRIVER_HOST_MAX + 1];        /* without brackets */
    char host_field[DRIVER_HOST_MAX + 16]; /* value of Host, with brackets, and with the port if it is no default */
    char path[DRIVER_PATH_MAX + 1];        /* origin-form, with the query */
};

/*
 * Reads the kit's URL:
 *   ws://, wss://       as it is
 *   http://, https://   the same as ws:// and wss://
 *   host[:port][/path]  ws:// when the host is this machine (driver_host_is_local()), else wss://
 *
 * The default ports are 80 and 443. A path that ends in "/connect" is used as it is. Any other path is a prefix, and
 * `default_path` is put behind it: "/edge" gives "/edge/api/v1/tunnel/connect", and so does "/edge/api/v1/tunnel". With
 * `default_path` NULL every path is used as it is. A user name, a fragment or control bytes are refused. 0, or
 * HT_EINVAL with *err.
 */
int driver_url_parse(struct driver_url *u, const char *text, const char *default_path,
                     struct ht_errmsg *err) HT_MUST_USE;

/*
 * Writes the path of the admin API's `resource` ("/health"): the path of `u` with the resource in place of "/connect".
 * 0, or HT_ESPACE: it does not fit.
 */
int driver_url_admin_path(const struct driver_url *u, const char *connect_path, const char *resource, char *out,
                          size_t cap) HT_MUST_USE;

enum driver_target_tls { DRIVER_PLAIN, DRIVER_TLS, DRIVER_TLS_INSECURE };

struct driver_target {
    char host[DRIVER_HOST_MAX + 1]; /* without brackets; of a Unix socket its path, which begins with a slash */
    uint16_t port;                  /* 0: a Unix socket */
    bool any_loopback;              /* no host was given: 127.0.0.1, or ::1 if only that answers */
    bool https;                     /* the scheme was https or https+insecure: for expose */
    enum driver_target_tls tls;
};

/*
 * Reads a target: "3000", ":3000", "host:3000", "[::1]:3000", "http://host:3000", "https://host:3000",
 * "https+insecure://host:3000", "tls://host:443", "tls+insecure://host:443", "unix:/path" or "unix:///path". The
 * default port of a scheme with TLS is 443, that of http:// 80. Without a host the target is on this machine. A host
 * that is a number is refused: other tools write two ports as "8080:3000", and here it would name another machine. 0,
 * or HT_EINVAL with *err.
 */
int driver_target_parse(struct driver_target *t, const char *text, struct ht_errmsg *err) HT_MUST_USE;

/* Checks that the target can be exposed, or else be pulled: https:// is for the former, tls:// for the latter. `text`
 * is the text that it was read from. 0, or HT_EINVAL with *err. */
int driver_target_check(const struct driver_target *t, bool expose, const char *text,
                        struct ht_errmsg *err) HT_MUST_USE;

/* True for a Unix socket. */
static inline bool driver_target_is_unix(const struct driver_target *t) { return t->host[0] == '/'; }

/* Writes the target for people: host:port, behind a scheme if TLS is spoken to it, or unix:/path. Returns `out`. */
#define DRIVER_TARGET_TEXT (DRIVER_HOST_MAX + 32)
char *driver_target_text(const struct driver_target *t, char out[DRIVER_TARGET_TEXT]);

/* True when the text is PORT:TARGET, as other tools write it. *port and *local are then its two parts. */
bool driver_target_is_pair(const char *text, struct ht_slice *port, const char **local);

/* Reads a whole number from 0 to 65535, without anything around it. 0 or HT_EINVAL. */
int driver_port_parse(struct ht_slice text, uint16_t *out) HT_MUST_USE;

/* True for localhost and names below it, 127.0.0.0/8 and ::1. */
bool driver_host_is_local(const char *host);

#endif
