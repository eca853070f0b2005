/* expose and pull: the bindings that the arguments name. */
#include "cli/cli.h"

#include "base/mem.h"
#include "driver/url.h"
#include "wire/name.h"

/* Makes a binding for each target; all other fields are those of `like`. 0 or an exit status. */
static int plan_targets(struct cli_plan *p, const char *const *args, size_t n, const struct ht_bind_options *like) {
    struct ht_errmsg err;
    p->binds = ht_calloc(n ? n : 1, sizeof *p->binds);
    if (!p->binds) {
        cli_complain("%s", ht_err_text(HT_ENOMEM));
        return OPT_EXIT_FAILURE;
    }
    for (; p->n_binds < n; p->n_binds++) {
        struct cli_target target;
        if (cli_target_parse(&target, args[p->n_binds], &err) < 0) {
            cli_complain("%s", err.text);
            return OPT_EXIT_USAGE;
        }
        p->binds[p->n_binds] = *like;
        p->binds[p->n_binds].target = target.local;
        p->binds[p->n_binds].container_port = target.container_port;
    }
    if (p->sample) {
        p->binds[0] = *like;
        p->n_binds = 1;
    }
    return OPT_EXIT_OK;
}

/* Takes the options --target-* from bindings to whose target no TLS is spoken. 0 or an exit status. */
static int spare_plain_targets(struct cli_plan *p, const struct ht_bind_options *like) {
    size_t n_tls = 0;
    for (size_t i = 0; i < p->n_binds; i++) {
        struct ht_bind_options *b = &p->binds[i];
        struct driver_target target;
        const char *to = b->portless ? strchr(b->names[0], '=') : NULL;
        to = to ? to + 1 : b->target;
        if (!to || driver_target_parse(&target, to, NULL) < 0 || target.tls == DRIVER_PLAIN)
            b->target_ca = b->target_cert = b->target_key = b->target_alpn = b->target_sni = NULL;
        else
            n_tls++;
    }
    if (n_tls > 0 ||
        !(like->target_ca || like->target_cert || like->target_key || like->target_alpn || like->target_sni))
        return OPT_EXIT_OK;
    bool expose = like->kind == HT_EXPOSE_HTTP;
    cli_complain("--target-* options are for %s targets, as in 8085=%s://www.example.com:443, and there is none",
                 expose ? "https://" : "tls://", expose ? "https" : "tls");
    return OPT_EXIT_USAGE;
}

/* Both commands have these options under the same names. */
#define COMMON(o)                                                                                                      \
    .options = {.url = (o).url,                                                                                        \
                .ca = (o).ca,                                                                                          \
                .pin = (o).pin,                                                                                        \
                .connect_timeout_ms = (uint32_t)(o).connect_timeout_ms,                                                \
                .headers = (o).headers,                                                                                \
                .n_headers = (o).n_headers,                                                                            \
                .connections = (o).connections,                                                                        \
                .ping_interval_ms = (uint32_t)(o).ping_interval_ms,                                                    \
                .pong_timeout_ms = (uint32_t)(o).pong_timeout_ms,                                                      \
                .suspect_after_ms = (uint32_t)(o).suspect_after_ms,                                                    \
                .max_streams = (o).max_streams,                                                                        \
                .max_window = (uint32_t)(o).max_window,                                                                \
                .replay_buffer = cli_replay_buffer((o).set_replay_buffer, (o).replay_buffer)},                         \
    .token_file = (o).token_file, .token = (o).token, .url_file = (o).url_file, .state_file = (o).state_file,          \
    .json = (o).json, .set_url = (o).set_url, .live = (o).live, .color = (o).color, .log_level = (o).log_level

static bool hostnames_good(const char *const *hostnames, size_t n) {
    char host[WIRE_HOST_ROOM];
    struct ht_errmsg err;
    for (size_t i = 0; i < n; i++)
        if (wire_domain_read(host, ht_slice_str(hostnames[i]), 2, &err)) {
            cli_idn_hint(hostnames[i], &err);
            cli_complain("--hostname %s", err.text);
            return false;
        }
    return true;
}

int cmd_expose(int argc, char **argv) {
    struct opt_expose o;
    struct ht_errmsg err;
    int rc = opt_expose_parse(&o, argc, argv, &err);
    if (rc != 0)
        return cli_parse_result(rc, OPT_CMD_EXPOSE, &err);
    CLI_PROXY(o);
    struct cli_plan p = {COMMON(o), .name = o.name, .sample = o.sample, .qr = o.qr};
    p.options.pool_size = o.pool_size ? o.pool_size : HT_NO_POOL;
    p.options.inspect_keep = o.inspect_keep;
    p.options.inspect_memory = o.inspect_memory;
    p.options.inspect_body = o.inspect_body;
    p.options.insecure_inspect = o.insecure_inspect;
    p.inspect_secret = o.inspect_secret;
    cli_plan_inspect(&p, o.set_inspect ? &o.inspect : NULL);
    cli_plan_retry(&p.options, o.set_retry_for, o.retry_for_ms);
    if (o.sample && o.n_args > 0) {
        cli_complain("--sample takes no TARGET: it exposes a built-in page");
        rc = OPT_EXIT_USAGE;
    } else if (o.n_hostname && o.n_args > 1) {
        cli_complain("--hostname is for one TARGET; in the file of `up` each one has its own");
        rc = OPT_EXIT_USAGE;
    } else if (!hostnames_good(o.hostname, o.n_hostname)) {
        rc = OPT_EXIT_USAGE;
    } else {
        struct ht_bind_options like = {
            .kind = HT_EXPOSE_HTTP,
            .label = o.label,
            .takeover = o.takeover,
            .hostnames = o.hostname,
            .n_hostnames = o.n_hostname,
            .target_ca = o.target_ca,
            .target_cert = o.target_cert,
            .target_key = o.target_key,
            .target_sni = o.target_sni,
            .host_header = o.host_header,
            .forwarded = cli_forwarded(o.set_forwarded, o.forwarded),
            .request_headers = o.request_header,
            .n_request_headers = o.n_request_header,
            .response_headers = o.response_header,
            .n_response_headers = o.n_response_header,
            .trusted_edges = o.trusted_edge,
            .n_trusted_edges = o.n_trusted_edge,
            .allow_ips = o.allow_ip,
            .n_allow_ips = o.n_allow_ip,
            .deny_ips = o.deny_ip,
            .n_deny_ips = o.n_deny_ip,
            .basic_auth = o.basic_auth,
            .basic_auth_pass = o.basic_auth_pass,
            .error_pages = o.error_page,
            .n_error_pages = o.n_error_page,
        };
        rc = plan_targets(&p, o.args, o.n_args, &like);
        rc = rc == OPT_EXIT_OK && !o.sample ? spare_plain_targets(&p, &like) : rc;
        rc = rc == OPT_EXIT_OK ? cli_plan_run(&p) : rc;
    }
    ht_free(p.binds);
    opt_expose_free(&o);
    return rc;
}

/* Adds to each binding the name of its target's host. plan_names_free() frees the texts. 0 or an exit status. */
static int plan_names(struct cli_plan *p) {
    char name[CLI_NAME];
    for (size_t i = 0; i < p->n_binds; i++) {
        struct ht_bind_options *b = &p->binds[i];
        if (!cli_target_name(b->target, name))
            continue;
        char **list = ht_malloc(sizeof *list + strlen(name) + 1);
        if (!list) {
            cli_complain("%s", ht_err_text(HT_ENOMEM));
            return OPT_EXIT_FAILURE;
        }
        *list = memcpy(list + 1, name, strlen(name) + 1);
        b->names = (const char *const *)list;
        b->n_names = 1;
        b->names_optional = 1;
    }
    return OPT_EXIT_OK;
}

static void plan_names_free(struct cli_plan *p) {
    for (size_t i = 0; i < p->n_binds; i++) {
        union { /* made above */
            const char *const *in;
            void *out;
        } list = {.in = p->binds[i].names};
        ht_free(list.out);
    }
}

int cmd_pull(int argc, char **argv) {
    struct opt_pull o;
    struct ht_errmsg err;
    int rc = opt_pull_parse(&o, argc, argv, &err);
    if (rc != 0)
        return cli_parse_result(rc, OPT_CMD_PULL, &err);
    CLI_PROXY(o);
    struct cli_plan p = {COMMON(o), .name = o.name};
    cli_plan_retry(&p.options, o.set_retry_for, o.retry_for_ms);
    struct ht_bind_options like = {
        .kind = HT_PULL_TCP,
        .label = o.label,
        .pull_host = o.set_pull_host ? o.pull_host : NULL,
        .target_ca = o.target_ca,
        .target_cert = o.target_cert,
        .target_key = o.target_key,
        .target_alpn = o.target_alpn,
        .target_sni = o.target_sni,
    };
    rc = plan_targets(&p, o.args, o.n_args, &like);
    rc = rc == OPT_EXIT_OK ? spare_plain_targets(&p, &like) : rc;
    rc = rc == OPT_EXIT_OK ? plan_names(&p) : rc;
    rc = rc == OPT_EXIT_OK ? cli_plan_run(&p) : rc;
    plan_names_free(&p);
    ht_free(p.binds);
    opt_pull_free(&o);
    return rc;
}

/* Makes a binding for each name, so that a refusal concerns only one of them. 0 or an exit status. */
static int plan_reach(struct cli_plan *p, const char *const *args, size_t n, const struct ht_bind_options *like) {
    struct ht_errmsg err;
    const char *target;
    p->binds = ht_calloc(n ? n : 1, sizeof *p->binds);
    if (!p->binds) {
        cli_complain("%s", ht_err_text(HT_ENOMEM));
        return OPT_EXIT_FAILURE;
    }
    for (; p->n_binds < n; p->n_binds++) {
        if (cli_reach_parse(args[p->n_binds], &target, &err) < 0) {
            cli_complain("%s", err.text);
            return OPT_EXIT_USAGE;
        }
        p->binds[p->n_binds] = *like;
        p->binds[p->n_binds].names = &args[p->n_binds];
        p->binds[p->n_binds].n_names = 1;
        p->binds[p->n_binds].portless = 1;
    }
    return OPT_EXIT_OK;
}

int cmd_reach(int argc, char **argv) {
    struct opt_reach o;
    struct ht_errmsg err;
    int rc = opt_reach_parse(&o, argc, argv, &err);
    if (rc != 0)
        return cli_parse_result(rc, OPT_CMD_REACH, &err);
    CLI_PROXY(o);
    struct cli_plan p = {COMMON(o), .nameless = true, .audit = o.audit, .audit_query = o.audit_query};
    cli_plan_retry(&p.options, o.set_retry_for, o.retry_for_ms);
    struct ht_bind_options like = {
        .kind = HT_PULL_TCP,
        .label = o.label,
        .target_ca = o.target_ca,
        .target_cert = o.target_cert,
        .target_key = o.target_key,
        .target_alpn = o.target_alpn,
        .target_sni = o.target_sni,
    };
    rc = plan_reach(&p, o.args, o.n_args, &like);
    rc = rc == OPT_EXIT_OK ? spare_plain_targets(&p, &like) : rc;
    rc = rc == OPT_EXIT_OK ? cli_plan_run(&p) : rc;
    ht_free(p.binds);
    opt_reach_free(&o);
    return rc;
}
