#include "cli/cli.h"

#include "driver/url.h"

int cli_target_parse(struct cli_target *t, const char *text, struct ht_errmsg *err) {
    struct driver_target local;
    struct ht_slice port;
    const char *equals = strchr(text, '='), *url = strstr(text, "://"), *rest;
    if (url && equals > url) /* of its query */
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
