#include "cli/cli.h"

#include "driver/url.h"
#include "wire/name.h"

/* True for the names that every machine has for itself. */
static bool is_own_name(const char *host) {
    struct io_addr a;
    size_t n = strlen(host);
    return strcmp(host, "localhost") == 0 || (n > 10 && strcmp(host + n - 10, ".localhost") == 0) ||
           (io_addr_parse(&a, host, 0) == HT_OK && io_addr_is_loopback(&a));
}

int cli_target_parse(struct cli_target *t, const char *text, struct ht_errmsg *err) {
    struct driver_target local;
    struct ht_slice port;
    const char *equals = strchr(text, '='), *url = strstr(text, "://"), *rest;
    if ((url && equals > url) ||
        (equals && strncmp(text, "unix:", 5) == 0)) /* the = belongs to the query or the path */
        equals = NULL;
    t->local = equals ? equals + 1 : text;
    if (!equals && driver_target_is_pair(text, &port, &rest))
        return ht_fail(err, HT_EINVAL, "\"%s\": write %.*s=%s for port %.*s of the container and %s%s here", text,
                       HT_SLICE_ARG(port), rest, HT_SLICE_ARG(port), rest[strspn(rest, "0123456789")] ? "" : "port ",
                       rest);
    int rc = driver_target_parse(&local, t->local, err);
    if (rc < 0)
        return rc;
    t->container_port = local.port;
    if (equals && driver_port_parse(ht_slice_of(text, (size_t)(equals - text)), &t->container_port) < 0)
        return ht_fail(
            err, HT_EINVAL,
            "\"%s\": what is left of the = must be a container port from 1 to 65535, or 0 to let the kit pick", text);
    return HT_OK;
}

bool cli_target_name(const char *local, char out[CLI_NAME]) {
    struct driver_target t;
    struct wire_name name;
    if (driver_target_parse(&t, local, NULL) < 0 || t.tls || t.any_loopback || driver_target_is_unix(&t) ||
        strchr(t.host, ':'))
        return false;
    int n = snprintf(out, CLI_NAME, "%s:%u", t.host, t.port);
    if (n < 0 || n >= CLI_NAME || wire_name_read(&name, ht_slice_str(out), NULL) < 0)
        return false;
    return !wire_host_is_address(name.host) && !is_own_name(name.host);
}

/* Turns a URL into a name: "https://host/x" into host:443. */
static int name_of_url(const char *text, const char *target, struct ht_errmsg *err) {
    const char *rest = strstr(text, "://") + 3;
    size_t scheme = (size_t)(rest - 3 - text), n = strcspn(rest, "/?#=");
    struct ht_slice host = ht_slice_of(rest, n);
    bool http = ht_slice_case_eq(ht_slice_of(text, scheme), ht_slice_str("http"));
    if (memchr(rest, '@', n)) /* the message does not repeat it: it may hold a password */
        return ht_fail(
            err, HT_EINVAL,
            "what is to be reached contains a user name; write a host and a port, as in gitlab.example.com:443");
    return ht_fail(err, HT_EINVAL, "\"%s\": what is to be reached is a name, not a URL; write %.*s%s%s%s", text,
                   HT_SLICE_ARG(host),
                   memchr(rest, ':', n) ? ""
                   : http               ? ":80"
                                        : ":443",
                   target ? "=" : "", target ? target : "");
}

int cli_reach_parse(const char *text, const char **target, struct ht_errmsg *err) {
    const char *equals = strchr(text, '='), *url = strstr(text, "://");
    struct wire_name name;
    struct driver_target at;
    struct ht_errmsg why;
    struct ht_slice left = ht_slice_of(text, equals ? (size_t)(equals - text) : strlen(text));
    uint16_t port;
    *target = equals ? equals + 1 : NULL;
    if (url && (!equals || url < equals))
        return name_of_url(text, *target, err);
    if (driver_port_parse(left, &port) == HT_OK && equals)
        return ht_fail(err, HT_EINVAL,
                       "\"%s\": left of the = stands a name, not a port; `pull %s` gives the container a port, `reach "
                       "%s` the name",
                       text, text, *target);
    if (left.n > 0 && strspn(text, "0123456789") == left.n)
        return ht_fail(
            err, HT_EINVAL,
            "\"%s\": a port is not a name; `pull %s` gives it to the container, and `reach myapi.test:80=%s` leads "
            "a name there",
            text, text, text);
    if (wire_name_read(&name, left, &why) < 0)
        return ht_fail(err, HT_EINVAL, "%s", why.text);
    if (is_own_name(name.host))
        return ht_fail(
            err, HT_EINVAL,
            "\"%s\": programs in the container mean their own machine by that; give it a name of its own, as in "
            "myapi.test:%u=%.*s",
            text, name.ports == WIRE_NAME_ONE_PORT ? name.port : 80, HT_SLICE_ARG(left));
    if (*target && (driver_target_parse(&at, *target, &why) < 0 || driver_target_check(&at, false, *target, &why) < 0))
        return ht_fail(err, HT_EINVAL, "%s", why.text);
    return HT_OK;
}
