#include "driver/proxy.h"

#include <stdlib.h>

int driver_proxy_choose(struct io_proxy **out, const struct driver_url *kit, const struct driver_proxy_choice *choice,
                        struct ht_errmsg *err) {
    const char *url = choice->url, *from = "--proxy";
    *out = NULL;
    if (!url)
        url = io_proxy_from_env(getenv, kit->tls, kit->host, kit->port, &from);
    if (!url || !*url || strcmp(url, DRIVER_NO_PROXY) == 0)
        return HT_OK;
    const struct io_proxy_config cfg = {.url = url,
                                        .from = from,
                                        .auth = choice->auth && *choice->auth ? choice->auth : NULL,
                                        .ca_file = choice->ca,
                                        .ca_option = "--proxy-ca"};
    return io_proxy_create(out, &cfg, err);
}
