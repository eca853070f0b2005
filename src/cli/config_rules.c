/* Checks the values of a configuration file: each one by itself, and which of them can be combined. */
#include "cli/config.h"

#include "base/mem.h"
#include "cli/cli.h"
#include "driver/hoody_tunnel.h"
#include "driver/name.h"
#include "driver/url.h"
#include "http/http.h"
#include "wire/name.h"
#include "wire_gen.h"

int cli_config_header(struct cli_config *c, const char *name, struct opt_mark name_at, const char *value,
                      struct opt_mark value_at) {
    bool good = true;
    if (!http_is_token(ht_slice_str(name))) {
        cli_config_problem(c, name_at, "headers: \"%.80s\" is not a header's name; use letters, digits and -", name);
        good = false;
    }
    if (!http_is_field_value(ht_slice_str(value))) { /* the message does not repeat it: it may be a secret */
        cli_config_problem(c, value_at, "headers: the value of %.80s holds a character that a header cannot carry",
                           name);
        good = false;
    }
    for (size_t i = 0; i < c->n_headers && good; i++) {
        struct ht_slice other = ht_slice_of(c->headers[i], strcspn(c->headers[i], ":"));
        if (!ht_slice_case_eq(other, ht_slice_str(name)))
            continue;
        cli_config_problem(c, name_at, "headers: %.80s is given twice, first on line %u; leave one of them out", name,
                           c->header_marks[i].line);
        good = false;
    }
    if (!good)
        return HT_OK;
    size_t nn = strlen(name), nv = strlen(value);
    const char **headers = ht_realloc(c->headers, (c->n_headers + 1) * sizeof *headers);
    if (!headers)
        return HT_ENOMEM;
    c->headers = headers;
    struct opt_mark *marks = ht_realloc(c->header_marks, (c->n_headers + 1) * sizeof *marks);
    if (!marks)
        return HT_ENOMEM;
    c->header_marks = marks;
    char *line = ht_malloc(nn + nv + 3);
    if (!line)
        return HT_ENOMEM;
    snprintf(line, nn + nv + 3, "%s: %s", name, value);
    char *kept = cli_config_keep(c, line, nn + nv + 2);
    explicit_bzero(line, nn + nv + 2);
    ht_free(line);
    if (!kept)
        return HT_ENOMEM;
    c->headers[c->n_headers] = kept;
    c->header_marks[c->n_headers++] = name_at;
    return HT_OK;
}

/* Writes a path of the file as one of the working directory: "token.txt" in "dir/tunnel.yaml" is "dir/token.txt". */
static int beside_the_file(struct cli_config *c, const char *path, char **out) {
    const char *slash = strrchr(c->file.name, '/');
    char joined[4096];
    if (!path)
        return HT_OK;
    int n = snprintf(joined, sizeof joined, "%.*s%s", path[0] == '/' || !slash ? 0 : (int)(slash + 1 - c->file.name),
                     c->file.name, path);
    if (n < 0 || (size_t)n >= sizeof joined) {
        cli_config_problem(c, (struct opt_mark){1, 1}, "a path is longer than %zu bytes", sizeof joined - 1);
        return HT_OK;
    }
    *out = cli_config_keep(c, joined, (size_t)n);
    return *out ? HT_OK : HT_ENOMEM;
}

struct cli_config_gate *cli_config_gate_add(struct cli_config *c) {
    struct cli_config_gate *g = ht_calloc(1, sizeof *g);
    if (g) {
        g->next = c->gates;
        c->gates = g;
    }
    return g;
}

void cli_config_gates_free(struct cli_config *c) {
    while (c->gates) {
        struct cli_config_gate *g = c->gates;
        c->gates = g->next;
        ht_free(g);
    }
}

/* "STATUS=FILE" or "FILE", with the path of the file. */
static int page_beside_the_file(struct cli_config *c, const char **page) {
    const char *equals = strchr(*page, '='), *file = equals ? equals + 1 : *page;
    char text[4096], *path = NULL;
    int rc = beside_the_file(c, file, &path);
    if (rc < 0 || !path)
        return rc;
    int n = snprintf(text, sizeof text, "%.*s%s", (int)(file - *page), *page, path);
    *page = cli_config_keep(c, text, ht_min((size_t)n, sizeof text - 1));
    return *page ? HT_OK : HT_ENOMEM;
}

int cli_config_gate_set(struct cli_config *c, const struct opt_config_expose *item, struct cli_config_gate *g) {
    struct cli_config_rules *pages = &g->lists[CLI_GATE_PAGES];
    g->host_header = item->host_header;
    g->forwarded = cli_forwarded(item->set_forwarded, item->forwarded);
    g->basic_auth_pass = item->basic_auth_pass;
    int rc = beside_the_file(c, item->basic_auth, &g->basic_auth);
    for (size_t i = 0; i < pages->n && rc == HT_OK; i++)
        rc = page_beside_the_file(c, &pages->texts[i]);
    return rc;
}

static int add_binding(struct cli_config *c, const struct cli_config_binding *b) {
    struct cli_config_binding *more = ht_realloc(c->bindings, (c->n_bindings + 1) * sizeof *more);
    if (!more)
        return HT_ENOMEM;
    c->bindings = more;
    c->bindings[c->n_bindings++] = *b;
    return HT_OK;
}

/* Adds a pulled binding, with the name of its target's host if there is one. */
static int add_pulled(struct cli_config *c, struct cli_config_binding *b) {
    char name[CLI_NAME];
    if (cli_target_name(b->target, name) && !(b->by_name = cli_config_keep(c, name, strlen(name))))
        return HT_ENOMEM;
    return add_binding(c, b);
}

/* Sets the paths of an item. */
static int tls_files(struct cli_config *c, struct cli_config_binding *b, const char *ca, const char *cert,
                     const char *key) {
    int rc = beside_the_file(c, ca, &b->ca);
    if (rc == HT_OK)
        rc = beside_the_file(c, cert, &b->cert);
    return rc == HT_OK ? beside_the_file(c, key, &b->key) : rc;
}

/* Files for TLS need a target that is reached by TLS: tls://, or with a policy any target but http://. */
static void check_tls(struct cli_config *c, const struct cli_config_binding *b, const struct opt_config_reach *r,
                      bool tls) {
    if (b->policy && r->alpn)
        cli_config_problem(c, b->at, "alpn: requests that are checked are HTTP/1.1, and nothing else can be named");
    else if (b->policy && r->target && strncmp(r->target, "http://", 7) == 0 && (r->ca || r->cert || r->key))
        cli_config_problem(c, b->at, "ca, cert and key are for TLS, and plain HTTP is spoken to an http:// target");
    else if (!b->policy && !tls && (r->ca || r->cert || r->key || r->alpn || r->sni))
        cli_config_problem(c, b->at,
                           "ca, cert, key, sni and alpn are for tls:// targets only, and TLS is carried as it is here");
}

/* Joins the name and its target as NAME=TARGET. */
static int bind_name(struct cli_config *c, const struct opt_config_reach *r, const struct cli_config_binding *where) {
    struct cli_config_binding b = *where;
    struct driver_target to;
    struct ht_errmsg err;
    const char *target;
    char text[1024];
    b.pull = b.portless = true;
    b.label = r->label;
    b.alpn = r->alpn;
    b.sni = r->sni;
    int rc = tls_files(c, &b, r->ca, r->cert, r->key);
    if (rc < 0 || !r->name)
        return rc;
    int n = snprintf(text, sizeof text, "%s%s%s", r->name, r->target ? "=" : "", r->target ? r->target : "");
    if (n < 0 || (size_t)n >= sizeof text) {
        cli_config_problem(c, b.at, "name: with its target it is longer than %zu bytes", sizeof text - 1);
        return HT_OK;
    }
    if (strchr(r->name, '='))
        cli_config_problem(c, b.port_at, "name: \"%.80s\" has a target in it; write that as a key, target", r->name);
    else if (cli_reach_parse(r->name, &target, &err) < 0)
        cli_config_problem(c, b.port_at, "name: %s", err.text);
    else if (r->target &&
             (driver_target_parse(&to, r->target, &err) < 0 || driver_target_check(&to, false, r->target, &err) < 0))
        cli_config_problem(c, b.target_at, "target: %s", err.text);
    else if (b.policy && r->target && to.tls == DRIVER_TLS_INSECURE)
        cli_config_problem(c, b.target_at,
                           "target: requests are checked only for a host whose certificate is verified; "
                           "write tls:// and, for an authority of your own, ca");
    else
        check_tls(c, &b, r, r->target && to.tls);
    if (!(b.by_name = cli_config_keep(c, text, (size_t)n)))
        return HT_ENOMEM;
    return add_binding(c, &b);
}

int cli_config_bind(struct cli_config *c, enum opt_mapping_id kind, const void *item,
                    const struct cli_config_binding *where) {
    struct cli_config_binding b = *where;
    const struct opt_config_expose *expose = kind == OPT_MAP_EXPOSE ? item : NULL;
    const struct opt_config_pull *pull = kind == OPT_MAP_PULL ? item : NULL;
    struct driver_target local;
    struct ht_slice pair_port;
    const char *pair_local;
    struct ht_errmsg err;
    if (kind == OPT_MAP_REACH)
        return bind_name(c, item, where);
    b.pull = pull != NULL;
    b.takeover = expose && expose->takeover;
    b.target = expose ? expose->target : pull->target;
    b.label = expose ? expose->label : pull->label;
    b.name = expose ? expose->name : NULL;
    b.hostname = expose ? expose->hostname : NULL;
    b.host = pull ? pull->host : NULL;
    b.alpn = pull ? pull->alpn : NULL;
    b.sni = expose ? expose->sni : pull->sni;
    int rc = pull ? tls_files(c, &b, pull->ca, pull->cert, pull->key)
                  : tls_files(c, &b, expose->ca, expose->cert, expose->key);
    if (rc < 0)
        return rc;
    bool has_port = expose ? expose->set_port : pull->set_port;
    unsigned port = expose ? expose->port : pull->port;
    if (b.host && !driver_host_is_local(b.host))
        cli_config_problem(c, b.at, "host: \"%.80s\" is not a loopback address; write 127.0.0.1, ::1 or localhost",
                           b.host);
    char host[WIRE_HOST_ROOM], name[WIRE_LABEL_ROOM];
    if (b.name && wire_label_read(name, ht_slice_str(b.name), &err)) {
        cli_idn_hint(b.name, &err);
        cli_config_problem(c, b.at, "name: %s", err.text);
    }
    if (b.hostname && wire_domain_read(host, ht_slice_str(b.hostname), 2, &err)) {
        cli_idn_hint(b.hostname, &err);
        cli_config_problem(c, b.at, "hostname: %s", err.text);
    }
    if (!b.target)
        return HT_OK; /* it is missing or wrong, which was reported */
    if (driver_target_is_pair(b.target, &pair_port, &pair_local))
        cli_config_problem(c, b.target_at,
                           "target: \"%.80s\": write target: %.80s, and port: %.*s for the container's port", b.target,
                           pair_local, HT_SLICE_ARG(pair_port));
    else if (strchr(b.target, '=') && !strstr(b.target, "://") && strncmp(b.target, "unix:", 5) != 0)
        cli_config_problem(c, b.target_at, "target: \"%.80s\" has a container port in it; write that as a key, port",
                           b.target);
    else if (driver_target_parse(&local, b.target, &err) < 0)
        cli_config_problem(c, b.target_at, "target: %s", err.text);
    else if (driver_target_check(&local, expose != NULL, b.target, &err) < 0)
        cli_config_problem(c, b.target_at, "target: %s", err.text);
    else
        b.container_port = has_port ? (uint16_t)port : local.port;
    return pull ? add_pulled(c, &b) : add_binding(c, &b);
}

int cli_config_bind_text(struct cli_config *c, enum opt_mapping_id kind, const char *text, struct opt_mark at) {
    struct cli_config_binding b = {.pull = kind == OPT_MAP_PULL, .at = at, .target_at = at, .port_at = at};
    struct cli_target target;
    struct driver_target local;
    struct ht_errmsg err;
    if (kind == OPT_MAP_REACH) {
        const char *to;
        b.pull = b.portless = true;
        b.by_name = text; /* opt_yaml_text() has kept it */
        if (cli_reach_parse(text, &to, &err) < 0) {
            cli_config_problem(c, at, "%s", err.text);
            return HT_OK;
        }
        return add_binding(c, &b);
    }
    int rc = cli_target_parse(&target, text, &err);
    if (rc == HT_OK && driver_target_parse(&local, target.local, NULL) == HT_OK)
        rc = driver_target_check(&local, !b.pull, text, &err);
    if (rc < 0) {
        cli_config_problem(c, at, "%s", err.text);
        return HT_OK;
    }
    b.target = target.local;
    b.container_port = target.container_port;
    return b.pull ? add_pulled(c, &b) : add_binding(c, &b);
}

/* Two bindings cannot have the same port of the same address. */
static void refuse_same_ports(struct cli_config *c) {
    for (size_t i = 0; i < c->n_bindings; i++) {
        const struct cli_config_binding *b = &c->bindings[i];
        for (size_t j = 0; j < i && b->container_port > 0; j++) {
            const struct cli_config_binding *a = &c->bindings[j];
            const char *ha = a->host ? a->host : "127.0.0.1", *hb = b->host ? b->host : "127.0.0.1";
            if (a->pull == b->pull && a->container_port == b->container_port && strcmp(ha, hb) == 0) {
                cli_config_problem(c, b->port_at,
                                   "port %u of the container is asked for twice, first on line %u; give one of them "
                                   "another port",
                                   b->container_port, a->port_at.line);
                break;
            }
        }
    }
}

int cli_config_finish(struct cli_config *c) {
    struct driver_url url;
    struct ht_errmsg err;
    if (c->top.set_url && driver_url_parse(&url, c->top.url, WIRE_CONNECT_PATH, &err) < 0)
        cli_config_problem(c, c->url_at, "url: %s", err.text);
    if (c->top.set_name && driver_name_check(c->top.name, &err) < 0)
        cli_config_problem(c, c->name_at, "name: %s", err.text);
    refuse_same_ports(c);
    if (c->n_bindings == 0 && c->file.n_problems == 0)
        cli_config_problem(c, (struct opt_mark){1, 1},
                           "the file asks for nothing; name at least one binding under expose, pull or reach");
    int rc = beside_the_file(c, c->top.url_file, &c->url_file);
    if (rc == HT_OK)
        rc = beside_the_file(c, c->top.state_file, &c->state_file);
    if (rc == HT_OK)
        rc = beside_the_file(c, c->top.audit, &c->audit);
    if (rc == HT_OK)
        rc = beside_the_file(c, c->top.token_file, &c->token_file);
    if (rc == HT_OK)
        rc = beside_the_file(c, c->top.proxy_auth_file, &c->proxy_auth_file);
    if (rc == HT_OK)
        rc = beside_the_file(c, c->top.proxy_ca, &c->proxy_ca);
    return rc == HT_OK ? beside_the_file(c, c->top.ca, &c->ca) : rc;
}
