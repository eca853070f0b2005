/* edge dev, edge up: a kit and the edge in front of it, in one process. */
#include "cli/cli.h"

#include "edge/edge.h"
#include "kit/kit.h"
#include "kit/users.h"

#include <errno.h>
#include <limits.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <unistd.h>

#define DEV_DOMAIN "edge.localhost"
#define DEV_ID "me"
#define TOKEN_FILE "kit.token"
#define API_TOKEN_FILE "api.token"

struct run {
    bool dev, external, take_over;
    const char *domain, *id, *haproxy, *cert, *key, *containers, *api, *api_users;
    uint16_t port, http_port;              /* of HTTPS, and of what leads to it */
    uint64_t log_max_size, log_max_age_ms; /* of the edge's log of requests */
    bool log_address_masking;
    uint64_t audit_max_size;
    uint64_t alias_rest_ms;
    uint64_t cache_size, cache_max_object, cache_max_age_ms;
    const char *error_pages_folder;
    uint16_t http3_port;
    struct edge_acme_config acme;
    enum edge_client client;
    struct edge_nets container_nets, proxy_fronts, header_fronts;
    enum ht_log_level log_level;
    char folder[PATH_MAX], token_file[PATH_MAX + 16];
    char pattern[64], kit_domain[256]; /* the kit's */

    struct io_loop *loop;
    struct kit *kit;
    struct kit_users *users; /* of the API's port */
    struct edge *edge;
    struct io_signal term, intr, hup;
    struct io_end_requests asked;
    char token[WIRE_LIMIT_MAX_TOKEN + 1], api_token[WIRE_LIMIT_MAX_TOKEN + 1];
    int status;
};

/* ---- lines for people ---- */

static void say(const char *fmt, ...) HT_PRINTF(1, 2);
static void say(const char *fmt, ...) {
    va_list ap;
    va_start(ap, fmt);
    vprintf(fmt, ap);
    va_end(ap);
    fflush(stdout);
}

static void port_text(const struct run *r, char out[8]) {
    out[0] = '\0';
    if (r->port != 443)
        snprintf(out, 8, ":%u", r->port);
}

static void say_dev(const struct run *r) {
    char kit[IO_ADDR_TEXT], port[8];
    struct io_addr at;
    kit_listen_addr(r->kit, &at);
    port_text(r, port);
    say("Give a server on port 3000 of this machine a name, from another terminal:\n\n"
        "    %s expose 3000 --name %s --url %s\n\n"
        "It is https://%s-3000.%s%s then. Browsers and other programs trust it once they know this authority, which "
        "is\n"
        "good for *.%s alone:\n\n"
        "    %s/%s\n\n"
        "    curl --cacert %s/%s https://%s-3000.%s%s/\n\n"
        "Ctrl-C ends everything. What is bound shows up below.\n\n",
        cli_program, r->id, io_addr_text(&at, kit), r->id, r->domain, port, r->domain, r->folder, EDGE_AUTHORITY_FILE,
        r->folder, EDGE_AUTHORITY_FILE, r->id, r->domain, port);
}

static void say_up(const struct run *r) {
    char port[8];
    port_text(r, port);
    say("Drivers connect to https://%s.%s%s with the token in %s:\n\n"
        "    %s expose 3000 --name %s --url https://%s.%s%s --token-file FILE\n\n",
        r->id, r->domain, port, r->token_file[0] ? r->token_file : "HOODY_TUNNEL_TOKEN", cli_program, r->id, r->id,
        r->domain, port);
    if (!r->cert)
        say("The certificate is of an authority of its own, for trying out: %s/%s. Drivers take it with\n"
            "--ca FILE. --tls-cert and --tls-key name one that everybody trusts, for *.%s.\n\n",
            r->folder, EDGE_AUTHORITY_FILE, r->domain);
}

/* ---- what the edge tells ---- */

static void on_ready(void *ctx, const char *version) {
    const struct run *r = ctx;
    char port[8];
    port_text(r, port);
    say("edge: https://*.%s%s is served by HAProxy %s\n\n", r->domain, port, version);
    if (r->dev)
        say_dev(r);
    else
        say_up(r);
}

static void on_service(void *ctx, const char *url, bool bound) {
    (void)ctx;
    say("%s %s\n", bound ? "bound  " : "unbound", url);
}

static void on_failed(void *ctx, const char *text) {
    struct run *r = ctx;
    cli_complain("%s", text);
    r->status = OPT_EXIT_CONFIG;
    io_loop_break(r->loop);
}

/* ---- signals ---- */

static void drained(void *ctx) { io_loop_break(((struct run *)ctx)->loop); }

static void asked_to_end(struct run *r) {
    unsigned n = io_end_request(&r->asked);
    if (n == 1)
        kit_drain(r->kit, drained, r);
    else if (n > 1)
        io_loop_break(r->loop);
}

static void on_term(struct io_signal *s, int signo) {
    (void)signo;
    asked_to_end(ht_container_of(s, struct run, term));
}

static void on_intr(struct io_signal *s, int signo) {
    (void)signo;
    asked_to_end(ht_container_of(s, struct run, intr));
}

static void on_hup(struct io_signal *s, int signo) {
    struct run *r = ht_container_of(s, struct run, hup);
    struct ht_errmsg err;
    (void)signo;
    if (cli_terminal_gone()) {
        asked_to_end(r);
        return;
    }
    if (kit_reload_token(r->kit, &err) < 0)
        ht_error("edge", "%s", err.text);
    if (r->api_users && kit_users_load(&r->users, r->api_users, &err) < 0)
        ht_error("edge", "%s; users stay as they are", err.text);
    else if (r->api_users)
        edge_users_changed(r->edge);
    edge_reload(r->edge);
}

static void begin_signals(struct run *r) {
    cli_terminal_gone(); /* the first call stores whether there is a terminal */
    io_signal_start(r->loop, &r->term, SIGTERM, on_term);
    io_signal_start(r->loop, &r->intr, SIGINT, on_intr);
    io_signal_start(r->loop, &r->hup, SIGHUP, on_hup);
}

static void end_signals(struct run *r) {
    io_block_end_signals();
    io_signal_stop(&r->term);
    io_signal_stop(&r->intr);
    io_signal_stop(&r->hup);
}

/* ---- the kit ---- */

/* A token in a file of the folder's own, which is made once. Writes the file's path. */
static int make_token(const struct run *r, const char *name, char path[PATH_MAX + 16], struct ht_errmsg *err) {
    char token[KIT_TOKEN_TEXT], line[KIT_TOKEN_LINE];
    struct ht_buf text = {0};
    snprintf(path, PATH_MAX + 16, "%s/%s", r->folder, name);
    if (access(path, F_OK) == 0)
        return HT_OK;
    kit_token_new(token, line);
    int rc = ht_buf_printf(&text, "%s\n", token);
    if (rc == HT_OK)
        rc = edge_folder_write(r->folder, name, ht_buf_slice(&text), true, err);
    else
        ht_fail(err, rc, "out of memory");
    explicit_bzero(token, sizeof token);
    if (text.data)
        explicit_bzero(text.data, text.cap);
    ht_buf_free(&text);
    return rc;
}

/* The kit of a server wants a token; without one from the user it has one of its own. So has the API at a port. */
static int own_tokens(struct run *r, struct ht_errmsg *err) {
    char path[PATH_MAX + 16];
    int rc = HT_OK;
    if (!r->dev && !r->token_file[0] && !getenv("HOODY_TUNNEL_TOKEN"))
        rc = make_token(r, TOKEN_FILE, r->token_file, err);
    if (rc == HT_OK && r->api_users)
        return r->api ? kit_users_load(&r->users, r->api_users, err)
                      : ht_fail(err, HT_EINVAL,
                                "--api-users %s: without --api there is no port that they could come to", r->api_users);
    if (rc == HT_OK && r->api)
        rc = make_token(r, API_TOKEN_FILE, path, err);
    if (rc == HT_OK && r->api)
        rc = cli_token(path, NULL, r->api_token, err);
    if (rc == HT_OK && r->api && !r->api_token[0])
        rc = ht_fail(err, HT_EINVAL, "the file of the token is empty: %s", path);
    return rc;
}

/*
 * The kit serves visitors by host, at one loopback address: it opens no port for a service, whose number would be the
 * one of the service itself on this machine. HAProxy says who a visitor is: by a PROXY header to services, and by
 * X-Forwarded-For to the kit itself, which the edge asks without either.
 */
static int parse_kit(struct run *r, struct opt_serve *o, struct ht_errmsg *err) {
    /* The options point into these for as long as the kit lives. */
    static char listen[] = "--listen", any[] = "127.0.0.1:0", public[] = "--public", any_http[] = "http://127.0.0.1:0",
                domain[] = "--domain", no_ports[] = "--no-ports", pattern[] = "--public-url-pattern",
                trusted[] = "--trusted-proxy", loopback[] = "127.0.0.0/8", proxied[] = "--proxy-protocol",
                from[] = EDGE_FROM_KITS "/32", token_file[] = "--token-file";
    char port[8];
    port_text(r, port);
    snprintf(r->pattern, sizeof r->pattern, "https://{host}%s", port);
    snprintf(r->kit_domain, sizeof r->kit_domain, "%.255s", r->domain);
    char *argv[] = {listen,     any,     public,   any_http, domain, r->kit_domain, no_ports,      pattern,
                    r->pattern, trusted, loopback, proxied,  from,   token_file,    r->token_file, NULL};
    int argc = (int)HT_ARRAY_LEN(argv) - 1;
    if (!r->token_file[0])
        argv[argc -= 2] = NULL;
    return opt_serve_parse(o, argc, argv, err);
}

static int start_kit(struct run *r, const struct opt_serve *o, struct edge_kit_config *out, struct ht_errmsg *err) {
    int rc = cli_token(o->token_file, o->token, r->token, err);
    if (rc < 0)
        return rc;
    if (!r->dev && !r->token[0])
        return ht_fail(err, HT_EINVAL, "the file of the token is empty: %s", r->token_file);
    r->kit = kit_create(r->loop, o, err);
    if (!r->kit)
        return HT_EIO;
    *out = (struct edge_kit_config){.id = r->id, .token = r->token};
    kit_listen_addr(r->kit, &out->base);
    (void)kit_public_addr(r->kit, &out->visits);
    return HT_OK;
}

/* ---- the whole ---- */

static bool find_user(void *ctx, struct ht_slice token, struct edge_user *out) {
    const struct run *r = ctx;
    const char *name;
    bool found = kit_users_find(r->users, token, &name, &out->admin);
    snprintf(out->name, sizeof out->name, "%s", name);
    return found;
}

static int start(struct run *r, const struct opt_serve *o, struct ht_errmsg *err) {
    static const struct edge_ops one = {.ready = on_ready, .service = on_service, .failed = on_failed};
    static const struct edge_ops many = {
        .ready = on_ready, .service = on_service, .user = find_user, .failed = on_failed};
    struct edge_kit_config kit;
    int rc = start_kit(r, o, &kit, err);
    if (rc < 0)
        return rc;
    rc = edge_start(&r->edge,
                    &(struct edge_config){.loop = r->loop,
                                          .folder = r->folder,
                                          .domain = r->domain,
                                          .node = r->id,
                                          .book = r->containers,
                                          .api = r->api,
                                          .api_token = r->api_token,
                                          .haproxy = r->haproxy,
                                          .take_over = r->take_over,
                                          .external = r->external,
                                          .local = r->dev,
                                          .https_port = r->port,
                                          .http_port = r->http_port,
                                          .log_max_bytes = r->log_max_size,
                                          .log_max_age_ms = r->log_max_age_ms,
                                          .log_masks_addresses = r->log_address_masking,
                                          .alias_rest_ms = r->alias_rest_ms,
                                          .audit_max_bytes = r->audit_max_size,
                                          .cert_file = r->cert,
                                          .key_file = r->key,
                                          .cache_bytes = r->cache_size,
                                          .cache_max_object = r->cache_max_object,
                                          .cache_max_age_ms = r->cache_max_age_ms,
                                          .pages = r->error_pages_folder,
                                          .http3_port = r->http3_port,
                                          .acme = r->acme,
                                          .client = r->client,
                                          .container_nets = r->container_nets,
                                          .proxy_fronts = r->proxy_fronts,
                                          .header_fronts = r->header_fronts,
                                          .ops = r->users ? &many : &one,
                                          .ctx = r},
                    err);
    return rc == HT_OK ? edge_follow(r->edge, &kit, err) : rc;
}

static int run(struct run *r) {
    struct opt_serve o;
    struct ht_errmsg err;
    ht_log_setup(STDERR_FILENO, r->log_level, HT_LOG_TEXT);
    io_raise_fd_limit();
    int rc = edge_folder_make(r->folder, &err);
    if (rc == HT_OK)
        rc = own_tokens(r, &err);
    if (rc < 0) {
        cli_complain("%s", err.text);
        return rc == HT_EINVAL ? OPT_EXIT_USAGE : OPT_EXIT_CONFIG;
    }
    rc = parse_kit(r, &o, &err);
    if (rc != 0)
        return cli_parse_result(rc, OPT_CMD_SERVE, &err);
    r->loop = io_loop_create();
    if (r->loop) {
        begin_signals(r);
        rc = start(r, &o, &err);
        if (rc == HT_OK)
            io_loop_run(r->loop);
        end_signals(r);
        edge_stop(&r->edge);
        kit_destroy(&r->kit);
        io_loop_destroy(&r->loop);
    } else {
        rc = ht_fail(&err, HT_ENOMEM, "%s", ht_err_text(HT_ENOMEM));
    }
    if (rc < 0)
        cli_complain("%s", err.text);
    opt_serve_free(&o);
    kit_users_free(&r->users);
    explicit_bzero(r->token, sizeof r->token);
    explicit_bzero(r->api_token, sizeof r->api_token);
    return rc == HT_EINVAL ? OPT_EXIT_USAGE : rc < 0 ? OPT_EXIT_CONFIG : r->status;
}

static int default_folder(struct run *r) {
    const char *state = getenv("XDG_STATE_HOME"), *home = getenv("HOME");
    bool given = state && *state == '/'; /* the XDG specification says to ignore a relative path */
    if (!given && (!home || *home != '/')) {
        cli_complain("neither XDG_STATE_HOME nor HOME says where the edge's folder is to be; --folder names it");
        return -1;
    }
    snprintf(r->folder, sizeof r->folder, "%s%s/hoody-tunnel/edge", given ? state : home, given ? "" : "/.local/state");
    return 0;
}

/* HAProxy reads files from wherever it is. */
static int given_folder(struct run *r, const char *folder) {
    char cwd[PATH_MAX];
    if (folder[0] == '/')
        snprintf(r->folder, sizeof r->folder, "%s", folder);
    else if (!getcwd(cwd, sizeof cwd) || strlen(cwd) + strlen(folder) + 2 > sizeof r->folder) {
        cli_complain("--folder %s: give an absolute path", folder);
        return -1;
    } else {
        snprintf(r->folder, sizeof r->folder, "%s", cwd);
        strcat(strcat(r->folder, "/"), folder);
    }
    return 0;
}

int cmd_edge_dev(int argc, char **argv) {
    struct opt_edge_dev o;
    struct ht_errmsg err;
    int rc = opt_edge_dev_parse(&o, argc, argv, &err);
    if (rc != 0)
        return cli_parse_result(rc, OPT_CMD_EDGE_DEV, &err);
    struct run r = {.dev = true,
                    .take_over = o.take_over,
                    .domain = DEV_DOMAIN,
                    .id = o.id ? o.id : DEV_ID,
                    .haproxy = o.haproxy,
                    .containers = o.containers,
                    .api = o.set_api ? o.api.text : NULL,
                    .api_users = o.api_users,
                    .log_max_size = o.log_max_size,
                    .log_max_age_ms = o.log_max_age_ms,
                    .log_address_masking = o.log_address_masking,
                    .alias_rest_ms = o.alias_rest_ms,
                    .cache_size = o.cache_size,
                    .cache_max_object = o.cache_max_object,
                    .cache_max_age_ms = o.cache_max_age_ms,
                    .error_pages_folder = o.error_pages_folder,
                    .audit_max_size = o.audit_max_size,
                    .port = (uint16_t)o.port,
                    .log_level = o.set_log_level ? o.log_level : HT_LOG_WARN};
    rc = o.folder ? given_folder(&r, o.folder) : default_folder(&r);
    rc = rc < 0 ? OPT_EXIT_USAGE : run(&r);
    opt_edge_dev_free(&o);
    return rc;
}

static enum edge_client client_of(enum opt_client_address a) {
    return a == OPT_CLIENT_ADDRESS_PROXY    ? EDGE_CLIENT_PROXY
           : a == OPT_CLIENT_ADDRESS_TPROXY ? EDGE_CLIENT_TPROXY
                                            : EDGE_CLIENT_HEADER;
}

/* What is asked of an ACME server, and how. False: the options do not fit together. */
static bool acme_of(const struct opt_edge_up *o, struct edge_acme_config *out) {
    bool more = o->set_acme_server || o->acme_ca || o->n_acme_address || o->acme_dns;
    const char *at = o->acme_email ? strchr(o->acme_email, '@') : NULL;
    *out = (struct edge_acme_config){.email = o->acme_email,
                                     .server = o->acme_server,
                                     .ca = o->acme_ca,
                                     .lego = o->lego,
                                     .addresses = {o->acme_address, o->n_acme_address},
                                     .daily_cap = (unsigned)o->acme_daily_cap,
                                     .retry_ms = o->acme_retry_ms,
                                     .dns = o->acme_dns,
                                     .dns_env = o->acme_dns_env,
                                     .dns_check = o->acme_dns_check};
    if (!o->acme_email && more)
        cli_complain("without --acme-email no ACME server is asked for anything; give it as well");
    else if (o->acme_email && (!at || at == o->acme_email || !at[1] || o->acme_email[0] == '-'))
        cli_complain("--acme-email %s: this is no e-mail address", o->acme_email);
    else if (o->acme_email && strncmp(o->acme_server, "https://", 8) != 0)
        cli_complain("--acme-server %s: give an https URL, of the server's directory", o->acme_server);
    else if (o->acme_dns && o->n_tls_cert)
        cli_complain("--acme-dns and --tls-cert are for the same certificate; give one of them");
    else if (o->acme_dns && o->acme_dns[strspn(o->acme_dns, "abcdefghijklmnopqrstuvwxyz0123456789-")])
        cli_complain("--acme-dns %s: a provider has letters, digits and -; `lego dnshelp` lists them", o->acme_dns);
    else
        return true;
    return false;
}

int cmd_edge_up(int argc, char **argv) {
    struct opt_edge_up o;
    struct ht_errmsg err;
    int rc = opt_edge_up_parse(&o, argc, argv, &err);
    if (rc != 0)
        return cli_parse_result(rc, OPT_CMD_EDGE_UP, &err);
    struct run r = {.take_over = o.take_over,
                    .external = o.engine == OPT_ENGINE_EXTERNAL,
                    .domain = o.domain,
                    .id = o.id,
                    .haproxy = o.haproxy,
                    .containers = o.containers,
                    .api = o.set_api ? o.api.text : NULL,
                    .api_users = o.api_users,
                    .cert = o.n_tls_cert ? o.tls_cert[0] : NULL,
                    .key = o.n_tls_key ? o.tls_key[0] : NULL,
                    .log_max_size = o.log_max_size,
                    .log_max_age_ms = o.log_max_age_ms,
                    .log_address_masking = o.log_address_masking,
                    .alias_rest_ms = o.alias_rest_ms,
                    .cache_size = o.cache_size,
                    .cache_max_object = o.cache_max_object,
                    .cache_max_age_ms = o.cache_max_age_ms,
                    .error_pages_folder = o.error_pages_folder,
                    .audit_max_size = o.audit_max_size,
                    .port = 443,
                    .http_port = 80,
                    .http3_port = o.http3 ? (uint16_t)o.http3_port : 0,
                    .client = client_of(o.client_address),
                    .container_nets = {o.container_network, o.n_container_network},
                    .proxy_fronts = {o.proxy_protocol, o.n_proxy_protocol},
                    .header_fronts = {o.trusted_proxy, o.n_trusted_proxy},
                    .log_level = o.log_level};
    snprintf(r.token_file, sizeof r.token_file, "%s", o.token_file ? o.token_file : "");
    if (!o.domain || !o.id) {
        cli_complain("edge up needs --domain and --id: the services are https://ID-PORT.DOMAIN");
        rc = OPT_EXIT_USAGE;
    } else if (o.n_tls_cert > 1 || o.n_tls_key > 1 || (o.n_tls_key && !o.n_tls_cert)) {
        cli_complain("edge up takes one --tls-cert, and one --tls-key with it");
        rc = OPT_EXIT_USAGE;
    } else if (!acme_of(&o, &r.acme)) {
        rc = OPT_EXIT_USAGE;
    } else {
        rc = given_folder(&r, o.folder ? o.folder : CLI_EDGE_UP_FOLDER) < 0 ? OPT_EXIT_USAGE : run(&r);
    }
    opt_edge_up_free(&o);
    return rc;
}
