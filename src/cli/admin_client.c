/* Requests to a kit's admin API: the address, the token, and the answer. */
#include "cli/cli.h"

#include "driver/url.h"
#include "wire_gen.h"

#define PATH_MAX_LEN (DRIVER_PATH_MAX + 512)

/* A request that is ready to be sent. */
struct place {
    struct driver_url url;
    char path[PATH_MAX_LEN];
    struct web_ask ask; /* points to `url` and `path` */
};

/* Writes the path of a resource such as /readyz. It has the prefix that a proxy in front of the kit may have added. */
static int root_path(const struct driver_url *u, const char *resource, char *out, size_t cap) {
    size_t n = strcspn(u->path, "?"), tail = strlen(WIRE_CONNECT_PATH);
    n = n >= tail && memcmp(u->path + n - tail, WIRE_CONNECT_PATH, tail) == 0 ? n - tail : 0;
    int len = snprintf(out, cap, "%.*s%s", (int)n, u->path, resource);
    return len < 0 || (size_t)len >= cap ? HT_ESPACE : HT_OK;
}

static int find(struct place *p, const struct cli_ask *ask, struct ht_errmsg *err) {
    struct driver_url *u = &p->url;
    if (driver_url_parse(u, ask->url, WIRE_CONNECT_PATH, err) < 0)
        return HT_EINVAL;
    int rc = ask->at_root ? root_path(u, ask->resource, p->path, sizeof p->path)
                          : driver_url_admin_path(u, WIRE_CONNECT_PATH, ask->resource, p->path, sizeof p->path);
    if (rc < 0)
        return ht_fail(err, HT_EINVAL, "the path of the kit's URL is too long");
    p->ask = (struct web_ask){
        .host = u->host,
        .port = u->port,
        .tls = u->tls,
        .ca = ask->ca,
        .pin = ask->pin,
        .host_field = u->host_field,
        .method = ask->method,
        .path = p->path,
        .user_agent = "hoody-tunnel/" HT_VERSION,
        .token = ask->token,
        .timeout_ms = ask->timeout_ms,
        .quiet_ms = ask->quiet_ms,
    };
    return cli_proxy_for(u, &p->ask.via, err);
}

int cli_request_start(struct web_request **request, struct io_loop *loop, const struct cli_ask *ask,
                      const struct web_request_ops *ops, void *ctx, struct ht_errmsg *err) {
    struct place p;
    *request = NULL;
    int rc = find(&p, ask, err);
    return rc < 0 ? rc : web_request_start(request, loop, &p.ask, ops, ctx, err);
}

int cli_admin_ask(const struct cli_ask *ask, struct web_answer *answer, struct ht_errmsg *err) {
    struct place p;
    *answer = (struct web_answer){0};
    int rc = find(&p, ask, err);
    return rc < 0 ? rc : web_fetch(&p.ask, answer, err);
}
