/* up: the bindings that a file names; config check: whether it is good, and what up would do. */
#include "cli/cli.h"

#include "base/mem.h"
#include "cli/config.h"
#include "driver/url.h"

/* ---- file, environment and arguments together ---- */

/* An argument goes before the environment, and that before the file. `set_x` is true for both of the former. */
#define OR_FILE(o, c, x, field) ((o).set_##x ? (o).field : (c)->top.field)

/* Both commands have these options under the same names. */
#define MERGE(p, o, c)                                                                                                 \
    do {                                                                                                               \
        (p)->options.url = OR_FILE(o, c, url, url);                                                                    \
        (p)->options.ca = (o).set_ca ? (o).ca : (c)->ca;                                                               \
        (p)->options.pin = OR_FILE(o, c, pin, pin);                                                                    \
        (p)->options.connect_timeout_ms = (uint32_t)OR_FILE(o, c, connect_timeout, connect_timeout_ms);                \
        (p)->options.ping_interval_ms = (uint32_t)OR_FILE(o, c, ping_interval, ping_interval_ms);                      \
        (p)->options.pong_timeout_ms = (uint32_t)OR_FILE(o, c, pong_timeout, pong_timeout_ms);                         \
        (p)->options.suspect_after_ms = (uint32_t)OR_FILE(o, c, suspect_after, suspect_after_ms);                      \
        (p)->options.max_streams = OR_FILE(o, c, max_streams, max_streams);                                            \
        (p)->options.max_window = (uint32_t)OR_FILE(o, c, max_window, max_window);                                     \
        (p)->options.replay_buffer = cli_replay_buffer((o).set_replay_buffer || (c)->top.set_replay_buffer,            \
                                                       OR_FILE(o, c, replay_buffer, replay_buffer));                   \
        (p)->options.connections = OR_FILE(o, c, connections, connections);                                            \
        (p)->options.pool_size = OR_FILE(o, c, pool_size, pool_size);                                                  \
        if ((p)->options.pool_size == 0)                                                                               \
            (p)->options.pool_size = HT_NO_POOL;                                                                       \
        cli_plan_retry(&(p)->options, (o).set_retry_for || (c)->top.set_retry_for,                                     \
                       OR_FILE(o, c, retry_for, retry_for_ms));                                                        \
        (p)->token_file = (o).set_token_file ? (o).token_file : (o).set_token ? NULL : (c)->token_file;                \
        (p)->set_url = (o).set_url || (c)->top.set_url;                                                                \
        (p)->url_from = (o).set_url        ? cli_from_where((o).url, "--url", "HOODY_TUNNEL_URL")                      \
                        : (c)->top.set_url ? "the file"                                                                \
                                           : NULL;                                                                     \
        (p)->token_from = (o).set_token_file                                                                           \
                              ? cli_from_where((o).token_file, "--token-file", "HOODY_TUNNEL_TOKEN_FILE")              \
                          : (o).set_token   ? "HOODY_TUNNEL_TOKEN"                                                     \
                          : (c)->token_file ? "the file"                                                               \
                                            : NULL;                                                                    \
        (p)->token = (o).token;                                                                                        \
        cli_proxy_set(OR_FILE(o, c, proxy, proxy),                                                                     \
                      (o).set_proxy_auth_file ? (o).proxy_auth_file : (c)->proxy_auth_file,                            \
                      (o).set_proxy_ca ? (o).proxy_ca : (c)->proxy_ca);                                                \
        (p)->name = OR_FILE(o, c, name, name);                                                                         \
        (p)->url_file = (o).set_url_file ? (o).url_file : (c)->url_file;                                               \
        (p)->state_file = (o).set_state_file ? (o).state_file : (c)->state_file;                                       \
        (p)->audit = (o).set_audit ? (o).audit : (c)->audit;                                                           \
        (p)->audit_query = OR_FILE(o, c, audit_query, audit_query);                                                    \
        (p)->json = (o).json;                                                                                          \
    } while (0)

static const struct ht_policy *plan_policy(struct ht_policy *to, const struct cli_config_policy *p) {
    *to = (struct ht_policy){
        .size = sizeof *to,
        .inject_names = p->names,
        .inject_values = p->values,
        .n_inject = p->n_names,
        .user = p->user,
        .replace = p->replace,
        .allow = p->allow.texts,
        .deny = p->deny.texts,
        .n_allow = p->allow.n,
        .n_deny = p->deny.n,
        .rate = p->rate,
    };
    return to;
}

static void plan_gate(struct ht_bind_options *to, const struct cli_config_gate *g) {
    const struct cli_config_rules *lists = g->lists;
    to->host_header = g->host_header;
    to->forwarded = g->forwarded;
    to->basic_auth = g->basic_auth;
    to->basic_auth_pass = g->basic_auth_pass;
    to->trusted_edges = lists[CLI_GATE_EDGES].texts;
    to->n_trusted_edges = lists[CLI_GATE_EDGES].n;
    to->allow_ips = lists[CLI_GATE_ALLOW].texts;
    to->n_allow_ips = lists[CLI_GATE_ALLOW].n;
    to->deny_ips = lists[CLI_GATE_DENY].texts;
    to->n_deny_ips = lists[CLI_GATE_DENY].n;
    to->request_headers = lists[CLI_GATE_REQUEST].texts;
    to->n_request_headers = lists[CLI_GATE_REQUEST].n;
    to->response_headers = lists[CLI_GATE_RESPONSE].texts;
    to->n_response_headers = lists[CLI_GATE_RESPONSE].n;
    to->error_pages = lists[CLI_GATE_PAGES].texts;
    to->n_error_pages = lists[CLI_GATE_PAGES].n;
}

/* Takes the bindings of the file, and its headers followed by those of the arguments. 0 or HT_ENOMEM. */
static int plan_lists(struct cli_plan *p, const struct cli_config *c, const char *const *more, size_t n_more) {
    size_t n = c->n_headers + n_more;
    const char **headers = ht_calloc(n ? n : 1, sizeof *headers);
    p->options.headers = headers;
    p->binds = ht_calloc(c->n_bindings ? c->n_bindings : 1, sizeof *p->binds);
    p->policies = ht_calloc(c->n_bindings ? c->n_bindings : 1, sizeof *p->policies);
    if (!headers || !p->binds || !p->policies)
        return HT_ENOMEM;
    for (size_t i = 0; i < n; i++)
        headers[i] = i < c->n_headers ? c->headers[i] : more[i - c->n_headers];
    p->options.n_headers = n;
    for (; p->n_binds < c->n_bindings; p->n_binds++) {
        const struct cli_config_binding *b = &c->bindings[p->n_binds];
        p->binds[p->n_binds] = (struct ht_bind_options){
            .kind = b->pull ? HT_PULL_TCP : HT_EXPOSE_HTTP,
            .target = b->target,
            .container_port = b->container_port,
            .label = b->label,
            .takeover = b->takeover,
            .name = b->name,
            .hostnames = b->hostname ? &b->hostname : NULL,
            .n_hostnames = b->hostname != NULL,
            .pull_host = b->host,
            .target_ca = b->ca,
            .target_cert = b->cert,
            .target_key = b->key,
            .target_alpn = b->alpn,
            .target_sni = b->sni,
            .names = b->by_name ? &b->by_name : NULL,
            .n_names = b->by_name != NULL,
            .names_optional = !b->portless,
            .portless = b->portless,
            .policy = b->policy ? plan_policy(&p->policies[p->n_binds], b->policy) : NULL,
        };
        if (b->gate)
            plan_gate(&p->binds[p->n_binds], b->gate);
    }
    return HT_OK;
}

static void plan_free(struct cli_plan *p) {
    const void *headers = p->options.headers;
    union { /* made above as an array that may be freed */
        const void *in;
        void *out;
    } list = {.in = headers};
    ht_free(list.out);
    ht_free(p->binds);
    ht_free(p->policies);
}

/* ---- problems ---- */

static void problems_json(const struct cli_config *c) {
    struct ht_buf b = {0};
    int rc = ht_buf_append_str(&b, "{\"file\":");
    if (rc == HT_OK)
        rc = cli_json_string(&b, c->file.name);
    if (rc == HT_OK)
        rc = ht_buf_append_str(&b, ",\"ok\":false,\"errors\":[");
    for (size_t i = 0; i < c->file.n_problems && rc == HT_OK; i++) {
        const struct opt_problem *p = &c->file.problems[i];
        rc = ht_buf_printf(&b, "%s{\"line\":%u,\"column\":%u,\"message\":", i ? "," : "", p->at.line, p->at.column);
        if (rc == HT_OK)
            rc = cli_json_string(&b, p->text);
        if (rc == HT_OK)
            rc = ht_buf_append_str(&b, "}");
    }
    if (rc == HT_OK)
        rc = ht_buf_append_str(&b, "]}\n");
    if (rc == HT_OK)
        fwrite(ht_buf_head(&b), 1, ht_buf_size(&b), stdout);
    ht_buf_free(&b);
}

/* Reads the file, and complains about mistakes. 0 or an exit status. The caller frees *c in each case. */
static int load(struct cli_config *c, const char *name, bool json) {
    struct ht_errmsg err = {""};
    int rc = cli_config_load(c, name, &err);
    if (rc == HT_OK)
        return OPT_EXIT_OK;
    if (rc == HT_EINVAL && json)
        problems_json(c);
    else if (rc == HT_EINVAL)
        cli_config_print_problems(c, stderr);
    else
        cli_complain("%s", err.text[0] ? err.text : ht_err_text(rc));
    return rc == HT_ENOMEM ? OPT_EXIT_FAILURE : OPT_EXIT_CONFIG;
}

/* ---- what up would do ---- */

/* Checks that only the driver can do: it reads the files of CA and token, and refuses headers that it sets itself. */
static int try_out(struct cli_config *c, struct cli_plan *p) {
    char token[WIRE_LIMIT_MAX_TOKEN + 1], auth[WIRE_LIMIT_MAX_TOKEN + 1];
    struct ht_errmsg err;
    struct ht_tunnel *t = NULL;
    if (cli_plan_access(p, token, &err) < 0) {
        cli_config_problem(c, p->token_file == c->token_file ? c->token_file_at : (struct opt_mark){1, 1}, "%s",
                           err.text);
        token[0] = '\0';
    }
    struct ht_tunnel_options o = p->options;
    o.size = sizeof o;
    o.token = token;
    o.proxy = "none";
    for (size_t i = 0; i < c->n_headers; i++) {
        o.headers = &c->headers[i];
        o.n_headers = 1;
        o.ca = o.pin = NULL;
        if (ht_tunnel_create(&t, &o, NULL, NULL) == HT_TUNNEL_EINVAL)
            cli_config_problem(c, c->header_marks[i], "headers: %s", ht_tunnel_last_error());
        ht_tunnel_destroy(&t);
    }
    o.n_headers = 0;
    o.ca = p->options.ca;
    o.pin = p->options.pin;
    o.client_name = p->name;
    if (cli_proxy_put(&o, auth, &err) < 0)
        cli_config_problem(c, (struct opt_mark){1, 1}, "%s", err.text);
    int rc = ht_tunnel_create(&t, &o, NULL, NULL);
    if (rc < 0)
        cli_config_problem(c, c->ca && rc == HT_TUNNEL_ETLS ? c->ca_at : (struct opt_mark){1, 1}, "%s",
                           ht_tunnel_last_error());
    for (size_t i = 0; i < p->n_binds && rc == HT_TUNNEL_OK; i++) { /* files for TLS, and what goes with them */
        struct ht_bind_options b = p->binds[i];
        b.size = sizeof b;
        if (ht_tunnel_bind(t, &b) < 0)
            cli_config_problem(c, c->bindings[i].at, "%s", ht_tunnel_last_error());
    }
    ht_tunnel_destroy(&t);
    explicit_bzero(token, sizeof token);
    explicit_bzero(auth, sizeof auth);
    if (c->file.n_problems == 0)
        return OPT_EXIT_OK;
    if (p->json)
        problems_json(c);
    else
        cli_config_print_problems(c, stderr);
    return OPT_EXIT_CONFIG;
}

/* Shows the rules for requests: names of header fields, but never a value, which may be a secret. */
static int put_policy_text(struct ht_buf *b, const struct ht_policy *p) {
    int rc = HT_OK;
    for (size_t i = 0; rc == HT_OK && i < p->n_inject; i++)
        rc = ht_buf_printf(b, "%s%s",
                           i            ? ", "
                           : p->replace ? ", the placeholder becomes "
                                        : ", sets ",
                           p->inject_names[i]);
    if (rc == HT_OK && p->n_allow)
        rc = ht_buf_printf(b, ", allows %zu rule%s", p->n_allow, p->n_allow == 1 ? "" : "s");
    if (rc == HT_OK && p->n_deny)
        rc = ht_buf_printf(b, ", denies %zu rule%s", p->n_deny, p->n_deny == 1 ? "" : "s");
    if (rc == HT_OK && p->rate)
        rc = ht_buf_printf(b, ", at most %s", p->rate);
    return rc;
}

static int put_binding_text(struct ht_buf *b, const struct ht_bind_options *o) {
    struct driver_target local;
    char whole[DRIVER_TARGET_TEXT];
    if (o->portless) {
        size_t n = strcspn(o->names[0], "=");
        int rc = ht_buf_printf(b, "%.*s%s%s", (int)n, o->names[0], o->names[0][n] ? " -> " : "",
                               o->names[0][n] ? o->names[0] + n + 1 : "");
        if (rc == HT_OK && o->policy)
            rc = put_policy_text(b, o->policy);
        if (rc == HT_OK && o->label)
            rc = ht_buf_printf(b, "  (%s)", o->label);
        return rc == HT_OK ? ht_buf_append(b, "", 1) : rc;
    }
    if (driver_target_parse(&local, o->target, NULL) < 0)
        return HT_EINVAL;
    int rc = HT_OK;
    if (o->container_port)
        rc = ht_buf_printf(b, "%s%sport %u", o->pull_host ? o->pull_host : "", o->pull_host ? " " : "",
                           o->container_port);
    else
        rc = ht_buf_append_str(b, "a port that the kit picks");
    if (rc == HT_OK)
        rc = ht_buf_printf(b, " -> %s", driver_target_text(&local, whole));
    if (rc == HT_OK && local.tls == DRIVER_TLS_INSECURE)
        rc = ht_buf_append_str(b, ", certificate not verified");
    if (rc == HT_OK && o->target_ca)
        rc = ht_buf_printf(b, ", trusts %s", o->target_ca);
    if (rc == HT_OK && o->target_cert)
        rc = ht_buf_printf(b, ", shows %s", o->target_cert);
    if (rc == HT_OK && o->label)
        rc = ht_buf_printf(b, "  (%s)", o->label);
    if (rc == HT_OK && o->n_names)
        rc = ht_buf_printf(b, ", and by name");
    if (rc == HT_OK && o->takeover)
        rc = ht_buf_append_str(b, ", taken from whoever holds it");
    if (rc == HT_OK && o->host_header && strcmp(o->host_header, "preserve") != 0)
        rc = ht_buf_printf(b, ", Host: %s", o->host_header);
    if (rc == HT_OK && o->basic_auth)
        rc = ht_buf_printf(b, ", logins of %s", o->basic_auth);
    if (rc == HT_OK && (o->n_allow_ips || o->n_deny_ips))
        rc = ht_buf_append_str(b, ", for some addresses only");
    return rc == HT_OK ? ht_buf_append(b, "", 1) : rc;
}

static const char *url_from(const struct cli_plan *p) {
    return p->url_from ? p->url_from : p->stored_url ? "login" : "the default";
}

static const char *token_from(const struct cli_plan *p) {
    return p->token_from ? p->token_from : p->stored_token ? "login" : NULL;
}

static int show_text(const struct cli_config *c, const struct cli_plan *p) {
    struct cli_table t = {.columns = 2};
    const struct ht_tunnel_options *o = &p->options;
    char sockets[64] = "", retry[64] = "for ever";
    if (o->connections > 1)
        snprintf(sockets, sizeof sockets, ", up to %u WebSockets", o->connections);
    if (o->retry_for_ms)
        snprintf(retry, sizeof retry, o->retry_for_ms == HT_NO_RETRY ? "never" : "for %u s", o->retry_for_ms / 1000);
    int rc = cli_table_cell(&t, "kit");
    if (rc == HT_OK)
        rc = cli_table_cell(&t, "%s%s  (%s)", o->url, sockets, url_from(p));
    if (rc == HT_OK)
        rc = cli_table_cell(&t, "token");
    if (rc == HT_OK)
        rc = cli_table_cell(&t, "%s%s%s%s", p->token_file ? p->token_file : "", p->token_file ? "  (" : "",
                            token_from(p) ? token_from(p) : "none", p->token_file ? ")" : "");
    if (rc == HT_OK)
        rc = cli_table_cell(&t, "name");
    if (rc == HT_OK)
        rc = cli_table_cell(&t, "%s", p->name ? p->name : "the one that is kept for this machine");
    if (rc == HT_OK)
        rc = cli_table_cell(&t, "retries");
    if (rc == HT_OK)
        rc = cli_table_cell(&t, "%s%s", retry, o->retry_first ? ", at the start too" : "");
    if (rc == HT_OK && p->audit)
        rc = cli_table_cell(&t, "audit");
    if (rc == HT_OK && p->audit)
        rc = cli_table_cell(&t, "%s%s", p->audit, p->audit_query ? ", with queries" : "");
    for (size_t i = 0; i < o->n_headers && rc == HT_OK; i++) { /* names: a value may be a secret */
        rc = cli_table_cell(&t, "header");
        if (rc == HT_OK)
            rc = cli_table_cell(&t, "%.*s", (int)strcspn(o->headers[i], ":"), o->headers[i]);
    }
    for (size_t i = 0; i < p->n_binds && rc == HT_OK; i++) {
        struct ht_buf text = {0};
        rc = put_binding_text(&text, &p->binds[i]);
        if (rc == HT_OK)
            rc = cli_table_cell(&t, p->binds[i].portless              ? "reach"
                                    : p->binds[i].kind == HT_PULL_TCP ? "pull"
                                                                      : "expose");
        if (rc == HT_OK && ht_buf_size(&text))
            rc = cli_table_cell(&t, "%s", (const char *)ht_buf_head(&text));
        ht_buf_free(&text);
    }
    if (rc == HT_OK) {
        printf("%s is good; `%s up` would do this:\n\n", c->file.name, cli_program);
        cli_table_print(&t, stdout);
        puts("\nAn argument goes before its variable, that before the file, that before what `hoody-tunnel login` has "
             "stored.");
    } else {
        cli_complain("%s", ht_err_text(rc));
    }
    cli_table_free(&t);
    return rc == HT_OK ? OPT_EXIT_OK : OPT_EXIT_FAILURE;
}

static int put_json(struct ht_buf *b, const char *key, const char *text) {
    int rc = ht_buf_printf(b, ",\"%s\":", key);
    if (rc == HT_OK)
        rc = text ? cli_json_string(b, text) : ht_buf_append_str(b, "null");
    return rc;
}

static int put_json_list(struct ht_buf *b, const char *key, const char *const *texts, size_t n) {
    int rc = ht_buf_printf(b, ",\"%s\":[", key);
    for (size_t i = 0; rc == HT_OK && i < n; i++) {
        rc = i ? ht_buf_append_str(b, ",") : HT_OK;
        if (rc == HT_OK)
            rc = cli_json_string(b, texts[i]);
    }
    return rc == HT_OK ? ht_buf_append_str(b, "]") : rc;
}

/* Shows names of header fields, but never a value. */
static int put_policy_json(struct ht_buf *b, const struct ht_policy *p) {
    int rc = put_json_list(b, "inject", p->inject_names, p->n_inject);
    if (rc == HT_OK)
        rc = put_json(b, "replace", p->replace);
    if (rc == HT_OK)
        rc = put_json_list(b, "allow", p->allow, p->n_allow);
    if (rc == HT_OK)
        rc = put_json_list(b, "deny", p->deny, p->n_deny);
    return rc == HT_OK ? put_json(b, "rate", p->rate) : rc;
}

static int put_binding_json(struct ht_buf *b, const struct ht_bind_options *o) {
    struct driver_target local;
    const char *name = o->n_names ? o->names[0] : NULL, *to = name ? strchr(name, '=') : NULL;
    struct ht_buf text = {0};
    int rc = ht_buf_printf(b, "{\"mode\":\"%s\",\"containerPort\":%u",
                           o->portless              ? "reach"
                           : o->kind == HT_PULL_TCP ? "pull"
                                                    : "expose",
                           o->container_port);
    if (rc == HT_OK && name)
        rc = ht_buf_printf(&text, "%.*s%c", (int)strcspn(name, "="), name, 0);
    if (rc == HT_OK)
        rc = put_json(b, "names", name ? (const char *)ht_buf_head(&text) : NULL);
    ht_buf_free(&text);
    if (rc == HT_OK)
        rc = put_json(b, "target", o->target ? o->target : to ? to + 1 : NULL);
    if (rc == HT_OK && o->target && driver_target_parse(&local, o->target, NULL) == HT_OK)
        rc = ht_buf_printf(b, ",\"tls\":%s,\"insecure\":%s", local.tls ? "true" : "false",
                           local.tls == DRIVER_TLS_INSECURE ? "true" : "false");
    if (rc == HT_OK && o->policy)
        rc = put_policy_json(b, o->policy);
    if (rc == HT_OK)
        rc = put_json(b, "label", o->label);
    if (rc == HT_OK && o->kind == HT_PULL_TCP)
        rc = put_json(b, "host", o->pull_host);
    else if (rc == HT_OK)
        rc = ht_buf_printf(b, ",\"takeover\":%s", o->takeover ? "true" : "false");
    if (rc == HT_OK && o->name)
        rc = put_json(b, "name", o->name);
    if (rc == HT_OK && o->n_hostnames)
        rc = put_json(b, "hostname", o->hostnames[0]);
    return rc == HT_OK ? ht_buf_append_str(b, "}") : rc;
}

static int show_json(const struct cli_config *c, const struct cli_plan *p) {
    struct ht_buf b = {0};
    int rc = ht_buf_append_str(&b, "{\"ok\":true");
    if (rc == HT_OK)
        rc = put_json(&b, "file", c->file.name);
    if (rc == HT_OK)
        rc = put_json(&b, "url", p->options.url);
    if (rc == HT_OK)
        rc = put_json(&b, "urlFrom", url_from(p));
    if (rc == HT_OK)
        rc = put_json(&b, "tokenFile", p->token_file);
    if (rc == HT_OK)
        rc = put_json(&b, "tokenFrom", token_from(p));
    if (rc == HT_OK)
        rc = put_json(&b, "name", p->name);
    if (rc == HT_OK)
        rc = put_json(&b, "audit", p->audit);
    if (rc == HT_OK)
        rc = ht_buf_printf(&b, ",\"connections\":%u,\"bindings\":[", p->options.connections);
    for (size_t i = 0; i < p->n_binds && rc == HT_OK; i++) {
        rc = i ? ht_buf_append_str(&b, ",") : HT_OK;
        if (rc == HT_OK)
            rc = put_binding_json(&b, &p->binds[i]);
    }
    if (rc == HT_OK)
        rc = ht_buf_append_str(&b, "]}\n");
    if (rc == HT_OK)
        fwrite(ht_buf_head(&b), 1, ht_buf_size(&b), stdout);
    else
        cli_complain("%s", ht_err_text(rc));
    ht_buf_free(&b);
    return rc == HT_OK ? OPT_EXIT_OK : OPT_EXIT_FAILURE;
}

/* ---- the commands ---- */

int cmd_config_check(int argc, char **argv) {
    struct opt_config_check o;
    struct cli_config c;
    struct ht_errmsg err;
    int rc = opt_config_check_parse(&o, argc, argv, &err);
    if (rc != 0)
        return cli_parse_result(rc, OPT_CMD_CONFIG_CHECK, &err);
    rc = load(&c, o.file, o.json);
    if (rc == OPT_EXIT_OK) {
        struct cli_plan p = {.json = o.json};
        MERGE(&p, o, &c);
        if (plan_lists(&p, &c, NULL, 0) < 0) {
            cli_complain("%s", ht_err_text(HT_ENOMEM));
            rc = OPT_EXIT_FAILURE;
        } else {
            rc = try_out(&c, &p);
        }
        if (rc == OPT_EXIT_OK)
            rc = o.json ? show_json(&c, &p) : show_text(&c, &p);
        if (fflush(stdout) != 0 && rc == OPT_EXIT_OK) {
            cli_complain("standard output cannot be written");
            rc = OPT_EXIT_FAILURE;
        }
        plan_free(&p);
    }
    cli_config_free(&c);
    opt_config_check_free(&o);
    return rc;
}

int cmd_up(int argc, char **argv) {
    struct opt_up o;
    struct cli_config c;
    struct ht_errmsg err;
    int rc = opt_up_parse(&o, argc, argv, &err);
    if (rc != 0)
        return cli_parse_result(rc, OPT_CMD_UP, &err);
    rc = load(&c, o.file, false);
    if (rc == OPT_EXIT_OK) {
        struct cli_plan p = {.color = o.color, .live = o.live, .qr = o.qr, .log_level = o.log_level};
        MERGE(&p, o, &c);
        p.options.inspect_keep = OR_FILE(o, &c, inspect_keep, inspect_keep);
        p.options.inspect_memory = OR_FILE(o, &c, inspect_memory, inspect_memory);
        p.options.inspect_body = OR_FILE(o, &c, inspect_body, inspect_body);
        p.options.insecure_inspect = OR_FILE(o, &c, insecure_inspect, insecure_inspect);
        p.inspect_secret = OR_FILE(o, &c, inspect_secret, inspect_secret);
        cli_plan_inspect(&p, o.set_inspect ? &o.inspect : c.top.set_inspect ? &c.top.inspect : NULL);
        if (plan_lists(&p, &c, o.headers, o.n_headers) < 0) {
            cli_complain("%s", ht_err_text(HT_ENOMEM));
            rc = OPT_EXIT_FAILURE;
        } else {
            rc = cli_plan_run(&p);
        }
        plan_free(&p);
    }
    cli_config_free(&c);
    opt_up_free(&o);
    return rc;
}
