#include "edge/aliases.h"
#include "edge/api.h"
#include "edge/domains.h"
#include "edge/log.h"
#include "edge/permissions.h"
#include "edge/proxy_settings.h"

#include "base/log.h"
#include "base/mem.h"

#include <errno.h>
#include <grp.h>
#include <inttypes.h>
#include <netinet/in.h>
#include <pwd.h>
#include <stdio.h>
#include <sys/resource.h>
#include <unistd.h>

#define MOST_VISITORS 8000
#define LOG_WAITS "16777216" /* bytes of lines: some ten thousand requests while the agent is away */
#define SHOW_MS 2000         /* after the last change of several */
#define TIDY_MS 20           /* between two goes at documents whose files are to follow, */
#define TIDY_DOCS 2          /* and how many at most: the loop waits for the disk meanwhile */
#define TIDY_IDLE_MS 1000
#define RENEW_MS (UINT64_C(10) * 86400 * 1000) /* a certificate of one's own is good for 30 days */

struct edge {
    struct edge_config cfg;
    int lock;
    bool ready;
    struct edge_admin *admin;
    struct edge_maps *maps;
    struct edge_engine *engine;
    struct edge_kits *kits;
    struct edge_book *book;
    struct edge_state *state;
    struct edge_containers *containers;
    struct edge_aliases *aliases;
    struct edge_sessions *sessions;
    struct edge_permissions *permissions;
    struct edge_proxy_settings *proxy_settings;
    struct edge_domains *domains;
    struct edge_api *api;
    struct edge_log *log;
    struct edge_h3 *h3;
    struct io_timer renew, show, tidy; /* `show`: HTTP/3's server gets the certificates */
    bool ipv6, has_account;
    bool keeps; /* HAProxy is configured with memory for answers, which it takes as a whole */
    struct io_task keep;
    uint64_t site; /* what the certificate is */
    char revision[24];
    char folder[EDGE_FOLDER_MAX + 1], https_port[8], http_port[8], http3_port[8], maxconn[24], suffix[300];
    char cache_size[16], cache_max_object[24], cache_max_age[24], idle[24];
};

/* ---- what the machine has ---- */

/* Whether a port can be listened on: HAProxy would say so as well, in its own words. */
static int try_port(const char *host, uint16_t port, struct ht_errmsg *err) {
    struct io_addr a;
    int rc = io_addr_parse(&a, host, port), one = 1;
    int fd = rc == HT_OK ? socket(a.ss.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0) : -1;
    if (fd < 0)
        return HT_EADDR;
    (void)setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    if (a.ss.ss_family == AF_INET6)
        (void)setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &one, sizeof one);
    bool ok = bind(fd, (const struct sockaddr *)&a.ss, a.len) == 0 && listen(fd, 1) == 0;
    int e = errno;
    close(fd);
    if (ok)
        return HT_OK;
    if (e == EADDRINUSE)
        return ht_fail(err, HT_EINUSE, "port %u is in use by another program", port);
    if (e == EACCES)
        return ht_fail(err, HT_EACCESS, "port %u: only root, or who has CAP_NET_BIND_SERVICE, may listen on it", port);
    return ht_fail(err, HT_EADDR, "port %u at %s: %s", port, host, strerror(e));
}

static int check_ports(struct edge *e, struct ht_errmsg *err) {
    const char *v4 = e->cfg.local ? "127.0.0.1" : "0.0.0.0", *v6 = e->cfg.local ? "::1" : "::";
    const uint16_t ports[] = {e->cfg.https_port, e->cfg.http_port};
    e->ipv6 = try_port(v6, 0, NULL) == HT_OK;
    for (size_t i = 0; i < HT_ARRAY_LEN(ports) && !e->cfg.external; i++) {
        int rc = ports[i] ? try_port(v4, ports[i], err) : HT_OK;
        if (rc == HT_OK && ports[i] && e->ipv6)
            rc = try_port(v6, ports[i], err);
        if (rc < 0)
            return rc;
    }
    return HT_OK;
}

/* Root's HAProxy becomes an account of its own once it listens. */
static int find_account(struct edge *e, struct ht_errmsg *err) {
    e->has_account = geteuid() == 0;
    if (!e->has_account || (getpwnam(HAPROXY_ACCOUNT) && getgrnam(HAPROXY_ACCOUNT)))
        return HT_OK;
    return ht_fail(err, HT_EIO,
                   "HAProxy must not run as root, and there is no account %s, which its package makes: install the "
                   "package %s",
                   HAPROXY_ACCOUNT, HAPROXY_PACKAGE);
}

static void count_visitors(struct edge *e) {
    struct rlimit l;
    unsigned long most = MOST_VISITORS;
    if (getrlimit(RLIMIT_NOFILE, &l) == 0 && l.rlim_cur != RLIM_INFINITY && l.rlim_cur < 2 * MOST_VISITORS + 400)
        most = l.rlim_cur > 600 ? (l.rlim_cur - 400) / 2 : 100;
    snprintf(e->maxconn, sizeof e->maxconn, "%lu", most);
    snprintf(e->idle, sizeof e->idle, "%lu", most / 8);
}

/* HAProxy counts its room in MiB, and has none for an object that is larger than half of it. */
static void measure_cache(struct edge *e) {
    uint64_t mib = e->cfg.cache_bytes >> 20;
    uint64_t object = ht_min(e->cfg.cache_max_object, (mib << 20) / 2);
    snprintf(e->cache_size, sizeof e->cache_size, "%" PRIu64, mib);
    snprintf(e->cache_max_object, sizeof e->cache_max_object, "%" PRIu64, object);
    snprintf(e->cache_max_age, sizeof e->cache_max_age, "%" PRIu64, e->cfg.cache_max_age_ms / 1000);
}

/* ---- the configuration ---- */

static int write_config(struct edge *e, struct ht_errmsg *err) {
    uint64_t hash = e->site;
    e->keeps = edge_maps_count(e->maps, HAPROXY_MAP_CACHES) > 0;
    struct edge_settings s = {.values = {
                                  [HAPROXY_SET_FOLDER] = e->folder,
                                  [HAPROXY_SET_CONTAINERS] = e->suffix,
                                  [HAPROXY_SET_IPV4] = e->cfg.local ? "127.0.0.1" : "0.0.0.0",
                                  [HAPROXY_SET_IPV6] = !e->ipv6       ? ""
                                                       : e->cfg.local ? "::1"
                                                                      : "::",
                                  [HAPROXY_SET_HTTPS_PORT] = e->https_port,
                                  [HAPROXY_SET_HTTP_PORT] = e->http_port,
                                  [HAPROXY_SET_ACCOUNT] = e->has_account ? HAPROXY_ACCOUNT : "",
                                  [HAPROXY_SET_LOG_SIZE] = LOG_WAITS,
                                  [HAPROXY_SET_HTTP3_PORT] = e->http3_port,
                                  [HAPROXY_SET_ACME] = e->cfg.acme.email ? "on" : "",
                                  [HAPROXY_SET_CLIENT_ADDRESS] = edge_client_name(e->cfg.client),
                                  [HAPROXY_SET_FROM_KITS] = EDGE_FROM_KITS,
                                  [HAPROXY_SET_MAXCONN] = e->maxconn,
                                  [HAPROXY_SET_CACHE_SIZE] = e->keeps ? e->cache_size : "0",
                                  [HAPROXY_SET_CACHE_MAX_OBJECT] = e->cache_max_object,
                                  [HAPROXY_SET_CACHE_MAX_AGE] = e->cache_max_age,
                                  [HAPROXY_SET_IDLE] = e->idle,
                                  [HAPROXY_SET_REVISION] = e->revision,
                              }};
    static const struct {
        const char *name;
        const struct haproxy_file *file;
    } files[] = {{"haproxy/gate.spoe", &haproxy_spoe},
                 {"haproxy/gate.lua", &haproxy_lua},
                 {"haproxy/answer.lua", &haproxy_answer_lua},
                 {"haproxy/haproxy.cfg", &haproxy_config}};
    int rc = HT_OK;
    e->revision[0] = '\0';
    for (size_t i = 0; rc == HT_OK && i < 2 * HT_ARRAY_LEN(files); i++) { /* first to know what they are */
        struct ht_buf text = {0};
        size_t file = i % HT_ARRAY_LEN(files);
        rc = edge_render(&text, files[file].file, &s);
        if (rc < 0)
            ht_fail(err, rc, "out of memory");
        else if (i < HT_ARRAY_LEN(files))
            hash = edge_site_hash(hash, ht_buf_slice(&text));
        else
            rc = edge_folder_write(e->folder, files[file].name, ht_buf_slice(&text), true, err);
        ht_buf_free(&text);
        if (i + 1 == HT_ARRAY_LEN(files))
            snprintf(e->revision, sizeof e->revision, "%016llx", (unsigned long long)hash);
    }
    return rc;
}

/*
 * A HAProxy that somebody else starts does so from these files alone, before the agent as well: after a crash of the
 * machine the disk may have older maps, in which what is off or has a policy is not. So its unit compares this file
 * with the boot that it is in. It is written behind all others.
 */
static int write_boot(const struct edge *e, struct ht_errmsg *err) {
    static const char from[] = "/proc/sys/kernel/random", name[] = "boot_id";
    char text[64];
    int n = edge_folder_read(from, name, text, sizeof text, err);
    if (n < 0)
        return n == HT_EOF ? ht_fail(err, HT_EIO, "%s/%s is missing", from, name) : n;
    return edge_folder_write(e->folder, EDGE_BOOT_FILE, ht_slice_of(text, (size_t)n), false, err);
}

static int write_all(struct edge *e, struct ht_errmsg *err) {
    e->site = HT_HASH;
    int rc = edge_site_write(&e->cfg, &e->site, err);
    if (rc == HT_OK)
        rc = write_config(e, err);
    if (rc == HT_OK)
        rc = edge_domains_write(e->domains, err);
    if (rc == HT_OK)
        rc = edge_maps_write(e->maps, err);
    return rc == HT_OK ? write_boot(e, err) : rc;
}

/* ---- what HAProxy does ---- */

static void on_starts(void *ctx) {
    struct edge *e = ctx;
    struct ht_errmsg err;
    edge_maps_hold(e->maps);
    edge_domains_hold(e->domains);
    if (edge_maps_write(e->maps, &err) < 0 || edge_domains_write(e->domains, &err) < 0)
        ht_error("edge", "%s", err.text);
}

/* Caddy takes the TCP port of the same number as well, and would share visitors with HAProxy there. */
static void begin_http3(struct edge *e) {
    struct ht_errmsg err;
    bool native = edge_engine_has_quic(e->engine);
    if (!native && (e->cfg.http3_port == e->cfg.https_port || e->cfg.http3_port == e->cfg.http_port)) {
        e->cfg.ops->failed(e->cfg.ctx,
                           "--http3-port: this HAProxy has no QUIC, and Caddy, which does it then, cannot have a port "
                           "that HAProxy has, as it takes the TCP port as well");
        return;
    }
    e->h3 = edge_h3_start(
        &(struct edge_h3_config){
            .loop = e->cfg.loop, .folder = e->folder, .maps = e->maps, .port = e->cfg.http3_port, .native = native},
        &err);
    if (!e->h3)
        e->cfg.ops->failed(e->cfg.ctx, err.text);
}

static void on_serves(void *ctx, const char *version) {
    struct edge *e = ctx;
    edge_maps_compare(e->maps);
    edge_domains_go(e->domains);
    if (e->cfg.http3_port && !e->ready)
        begin_http3(e);
    if (!e->ready)
        e->cfg.ops->ready(e->cfg.ctx, version);
    else
        ht_info("edge", "HAProxy %s serves", version);
    e->ready = true;
}

static void on_failed(void *ctx, const char *text) {
    struct edge *e = ctx;
    e->cfg.ops->failed(e->cfg.ctx, text);
}

static void on_service(void *ctx, const char *url, bool bound) {
    struct edge *e = ctx;
    e->cfg.ops->service(e->cfg.ctx, url, bound);
}

void edge_reload(struct edge *e) {
    struct ht_errmsg err;
    if (edge_book_load(&e->book, e->cfg.book, e->maps, &err) < 0)
        ht_error("edge", "%s; the addresses stay as they are", err.text);
    (void)edge_containers_again(e->containers);
    if (edge_proxy_settings_again(e->proxy_settings, &err) < 0)
        ht_error("edge", "%s; the pages stay as they are", err.text);
    if (write_all(e, &err) < 0)
        ht_error("edge", "%s; HAProxy goes on as it is", err.text);
    else
        edge_engine_reload(e->engine);
    edge_h3_reload(e->h3);
}

/* The first service wants answers kept. */
static void on_wanted(void *ctx) {
    struct edge *e = ctx;
    if (e->engine && !e->keeps && e->cfg.cache_bytes)
        io_task_add(e->cfg.loop, &e->keep);
}

static void on_keep(struct io_task *t) {
    struct edge *e = ht_container_of(t, struct edge, keep);
    struct ht_errmsg err;
    if (write_config(e, &err) < 0)
        ht_error("edge", "%s; no answers are kept", err.text);
    else
        edge_engine_reload(e->engine);
}

static void on_renew(struct io_timer *t) {
    struct edge *e = ht_container_of(t, struct edge, renew);
    io_timer_set(t, RENEW_MS);
    edge_reload(e);
}

static void on_certificates(void *ctx) {
    struct edge *e = ctx;
    io_timer_set(&e->show, SHOW_MS);
}

static void on_show(struct io_timer *t) { edge_h3_reload(ht_container_of(t, struct edge, show)->h3); }

static void on_tidy(struct io_timer *t) {
    struct edge *e = ht_container_of(t, struct edge, tidy);
    io_timer_set(t, edge_state_tidy(e->state, TIDY_DOCS) ? TIDY_MS : TIDY_IDLE_MS);
}

/* Neither a map's file nor HAProxy has what the disk might still refuse. */
static void before_maps(void *ctx) {
    const struct edge *e = ctx;
    struct ht_errmsg err;
    if (edge_state_commit(e->state, &err) < 0)
        ht_debug("edge", "a change was taken back"); /* who asked for it is told, and the log */
}

/* ---- beginning and end ---- */

static int check_config(const struct edge_config *cfg, struct ht_errmsg *err) {
    static const char good[] = "abcdefghijklmnopqrstuvwxyz0123456789.-";
    size_t n = strlen(cfg->domain);
    if (n < 3 || n > 180 || !strchr(cfg->domain, '.') || cfg->domain[strspn(cfg->domain, good)] ||
        cfg->domain[0] == '.' || cfg->domain[n - 1] == '.' || strstr(cfg->domain, ".."))
        return ht_fail(err, HT_EINVAL, "\"%s\" is no domain such as edge.example.com, in lower case", cfg->domain);
    n = strlen(cfg->node);
    if (n < 1 || n > 40 || cfg->node[strspn(cfg->node, "abcdefghijklmnopqrstuvwxyz0123456789")])
        return ht_fail(err, HT_EINVAL, EDGE_NO_ID, cfg->node);
    return HT_OK;
}

static int prepare(struct edge *e, struct ht_errmsg *err) {
    int rc = check_config(&e->cfg, err);
    if (rc == HT_OK)
        rc = edge_folder_make(e->cfg.folder, err);
    if (rc < 0)
        return rc;
    snprintf(e->folder, sizeof e->folder, "%s", e->cfg.folder);
    snprintf(e->https_port, sizeof e->https_port, "%u", e->cfg.https_port);
    if (e->cfg.http_port)
        snprintf(e->http_port, sizeof e->http_port, "%u", e->cfg.http_port);
    if (e->cfg.http3_port)
        snprintf(e->http3_port, sizeof e->http3_port, "%u", e->cfg.http3_port);
    snprintf(e->suffix, sizeof e->suffix, ".%s.containers.%s", e->cfg.node, e->cfg.domain);
    count_visitors(e);
    measure_cache(e);
    e->lock = rc = edge_folder_lock(e->folder, err);
    if (rc >= 0)
        rc = find_account(e, err);
    if (rc == HT_OK && !e->cfg.external)
        rc = edge_client_check(&e->cfg, err);
    return rc == HT_OK ? check_ports(e, err) : rc;
}

/* Documents and the address book, the maps that are made of them, and the API that changes them. */
static int begin_state(struct edge *e, struct ht_errmsg *err) {
    struct io_loop *loop = e->cfg.loop;
    int rc = edge_book_load(&e->book, e->cfg.book, e->maps, err);
    if (rc == HT_OK && e->cfg.take_over)
        rc = edge_state_take_over(e->folder, err);
    if (rc == HT_OK)
        rc = edge_state_open(&e->state, e->folder, err);
    if (rc < 0)
        return rc;
    edge_state_limit_audit(e->state, e->cfg.audit_max_bytes);
    edge_maps_behind(e->maps, before_maps, e);
    io_timer_set(&e->tidy, 0);
    e->containers = edge_containers_create(
        &(struct edge_containers_config){.loop = loop, .state = e->state, .maps = e->maps, .book = &e->book});
    e->aliases = edge_aliases_create(&(struct edge_aliases_config){.loop = loop,
                                                                   .state = e->state,
                                                                   .maps = e->maps,
                                                                   .suffix = e->suffix,
                                                                   .domain = e->cfg.domain,
                                                                   .rest_ms = e->cfg.alias_rest_ms});
    if (!e->aliases)
        return ht_fail(err, HT_ENOMEM, "out of memory");
    rc = edge_permissions_start(&e->permissions, loop, e->folder, e->state, e->maps, err);
    if (rc == HT_OK)
        rc = edge_proxy_settings_start(
            &e->proxy_settings,
            &(struct edge_proxy_settings_config){
                .loop = loop, .state = e->state, .maps = e->maps, .pages = e->cfg.pages, .wanted = on_wanted, .ctx = e},
            err);
    if (rc < 0)
        return rc;
    rc = edge_domains_start(&e->domains,
                            &(struct edge_domains_config){.loop = loop,
                                                          .folder = e->folder,
                                                          .domain = e->cfg.domain,
                                                          .node = e->cfg.node,
                                                          .acme = &e->cfg.acme,
                                                          .state = e->state,
                                                          .admin = e->admin,
                                                          .settled = on_certificates,
                                                          .ctx = e},
                            err);
    if (rc < 0)
        return rc;
    e->sessions = e->containers ? edge_sessions_create(loop, e->folder, e->admin, e->maps) : NULL;
    if (!e->sessions)
        return ht_fail(err, HT_ENOMEM, "out of memory");
    return edge_api_start(&e->api,
                          &(struct edge_api_config){.loop = loop,
                                                    .folder = e->folder,
                                                    .listen = e->cfg.api,
                                                    .token = e->cfg.api_token,
                                                    .user = e->cfg.ops->user,
                                                    .user_ctx = e->cfg.ctx,
                                                    .state = e->state,
                                                    .containers = e->containers,
                                                    .aliases = e->aliases,
                                                    .domains = e->domains,
                                                    .domain = e->cfg.domain,
                                                    .maps = e->maps,
                                                    .book = &e->book,
                                                    .log = e->log},
                          err);
}

static int begin(struct edge *e, struct ht_errmsg *err) {
    static const struct edge_engine_ops ops = {.starts = on_starts, .serves = on_serves, .failed = on_failed};
    struct io_loop *loop = e->cfg.loop;
    e->admin = edge_admin_create(loop, e->folder, EDGE_ADMIN_OF_WORKER);
    e->maps = e->admin ? edge_maps_create(loop, e->folder, e->admin) : NULL;
    e->kits = e->maps ? edge_kits_create(&(struct edge_kits_config){.loop = loop,
                                                                    .domain = e->cfg.domain,
                                                                    .https_port = e->cfg.https_port,
                                                                    .maps = e->maps,
                                                                    .service = on_service,
                                                                    .ctx = e})
                      : NULL;
    if (!e->kits)
        return ht_fail(err, HT_ENOMEM, "out of memory");
    int rc = edge_log_start(&e->log,
                            &(struct edge_log_config){.loop = loop,
                                                      .folder = e->folder,
                                                      .max_bytes = e->cfg.log_max_bytes,
                                                      .max_age_ms = e->cfg.log_max_age_ms,
                                                      .mask_addresses = e->cfg.log_masks_addresses},
                            err);
    if (rc == HT_OK)
        rc = begin_state(e, err);
    if (rc == HT_OK)
        rc = edge_client_maps(&e->cfg, e->maps, err);
    if (rc == HT_OK)
        rc = write_all(e, err);
    if (rc < 0)
        return rc;
    e->engine = edge_engine_start(&(struct edge_engine_config){.loop = loop,
                                                               .program = e->cfg.haproxy,
                                                               .folder = e->folder,
                                                               .admin = e->admin,
                                                               .external = e->cfg.external,
                                                               .revision = e->revision,
                                                               .ops = &ops,
                                                               .ctx = e},
                                  err);
    if (!e->engine)
        return HT_EIO;
    if (!e->cfg.cert_file)
        io_timer_set(&e->renew, RENEW_MS);
    return HT_OK;
}

int edge_start(struct edge **out, const struct edge_config *cfg, struct ht_errmsg *err) {
    struct edge *e = ht_calloc(1, sizeof *e);
    *out = NULL;
    if (!e)
        return ht_fail(err, HT_ENOMEM, "out of memory");
    e->cfg = *cfg;
    e->lock = -1;
    io_timer_init(cfg->loop, &e->renew, on_renew);
    io_task_init(&e->keep, on_keep);
    io_timer_init(cfg->loop, &e->show, on_show);
    io_timer_init(cfg->loop, &e->tidy, on_tidy);
    int rc = prepare(e, err);
    if (rc == HT_OK)
        rc = begin(e, err);
    if (rc < 0)
        edge_stop(&e);
    *out = e;
    return rc;
}

void edge_users_changed(struct edge *e) { edge_api_users_changed(e->api); }

int edge_follow(struct edge *e, const struct edge_kit_config *kit, struct ht_errmsg *err) {
    return edge_kits_add(e->kits, kit, err);
}

void edge_stop(struct edge **ep) {
    struct edge *e = *ep;
    *ep = NULL;
    if (!e)
        return;
    io_timer_stop(&e->renew);
    io_task_cancel(&e->keep);
    io_timer_stop(&e->show);
    io_timer_stop(&e->tidy);
    edge_api_stop(&e->api);
    edge_h3_stop(&e->h3);
    edge_kits_destroy(&e->kits);
    edge_sessions_leave(e->sessions);
    edge_domains_leave(e->domains);
    edge_admin_destroy(&e->admin); /* who waits for an answer must still be there */
    edge_engine_stop(&e->engine);
    edge_sessions_destroy(&e->sessions);
    edge_permissions_stop(&e->permissions);
    edge_aliases_destroy(&e->aliases);
    edge_proxy_settings_stop(&e->proxy_settings);
    edge_domains_stop(&e->domains);
    edge_containers_destroy(&e->containers);
    if (e->maps)
        edge_maps_behind(e->maps, NULL, NULL);
    edge_state_close(&e->state);
    edge_log_stop(&e->log); /* behind HAProxy's last line */
    edge_maps_destroy(&e->maps);
    edge_book_free(&e->book);
    if (e->lock >= 0)
        close(e->lock);
    ht_free(e);
}
