/* Which proxy stands between this machine and a kit. */
#ifndef HT_DRIVER_PROXY_H
#define HT_DRIVER_PROXY_H

#include "driver/url.h"
#include "io/proxy.h"

#define DRIVER_NO_PROXY "none"

struct driver_proxy_choice {
    const char *url;  /* NULL: what the environment says (io_proxy_from_env()); "" or DRIVER_NO_PROXY: none */
    const char *auth; /* "USER:PASSWORD" in place of what the URL has; NULL or "": that */
    const char *ca;   /* authorities of an https:// proxy; NULL: the system's */
};

/* *out is NULL when the kit is reached directly. 0; or HT_EINVAL, HT_ETLS or HT_ENOMEM with *err. */
int driver_proxy_choose(struct io_proxy **out, const struct driver_url *kit, const struct driver_proxy_choice *choice,
                        struct ht_errmsg *err) HT_MUST_USE;

#endif
