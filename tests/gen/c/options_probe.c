/* What the generated parsers make of a command line, for tests/gen/test_gen_options.py: one `name=value` per line. */
#include "options_gen.h"

#include "base/mem.h"

#include <arpa/inet.h>
#include <stdlib.h>

static void text(const char *name, const char *value) {
    if (value)
        printf("%s=%s\n", name, value);
}

static void number(const char *name, uint64_t value) { printf("%s=%llu\n", name, (unsigned long long)value); }

static void print_serve(const struct opt_serve *o) {
    printf("listen=%s|%u\n", o->listen.host, o->listen.port);
    text("token", o->token);
    text("token-file", o->token_file);
    for (size_t i = 0; i < o->n_trusted_proxy; i++)
        printf("trusted-proxy[%zu]=%u/%u %02x%02x\n", i, o->trusted_proxy[i].family, o->trusted_proxy[i].bits,
               o->trusted_proxy[i].addr[0], o->trusted_proxy[i].addr[1]);
    number("insecure-listen", o->insecure_listen);
    text("expose-address", o->expose_address);
    for (size_t i = 0; i < o->n_reserved_ports; i++)
        printf("reserved-ports[%zu]=%u-%u\n", i, o->reserved_ports[i].first, o->reserved_ports[i].last);
    number("allow-privileged-expose", o->allow_privileged_expose);
    number("allow-privileged-pull", o->allow_privileged_pull);
    text("public-url-pattern", o->public_url_pattern);
    number("max-sessions", o->max_sessions);
    number("max-bindings-per-session", o->max_bindings_per_session);
    number("max-streams-per-session", o->max_streams_per_session);
    number("max-connections", o->max_connections);
    number("max-pre-auth-connections", o->max_pre_auth_connections);
    number("max-fds", o->max_fds);
    number("stream-initial-window", o->stream_initial_window);
    number("session-initial-window", o->session_initial_window);
    number("session-buffer", o->session_buffer);
    number("hello-timeout", o->hello_timeout_ms);
    number("ping-interval", o->ping_interval_ms);
    number("pong-timeout", o->pong_timeout_ms);
    number("suspect-after", o->suspect_after_ms);
    number("takeover-grace", o->takeover_grace_ms);
    number("idle-timeout", o->idle_timeout_ms);
    number("response-timeout", o->response_timeout_ms);
    number("head-timeout", o->head_timeout_ms);
    number("keepalive-timeout", o->keepalive_timeout_ms);
    number("min-body-rate", o->min_body_rate);
    number("send-timeout", o->send_timeout_ms);
    number("half-close-timeout", o->half_close_timeout_ms);
    number("drain-timeout", o->drain_timeout_ms);
    number("log-level", o->log_level);
    number("log-format", o->log_format);
    text("log-file", o->log_file);
    printf("set=%s%s%s\n", o->set_listen ? "listen " : "", o->set_max_sessions ? "max-sessions " : "",
           o->set_trusted_proxy ? "trusted-proxy" : "");
}

static void print_expose(const struct opt_expose *o) {
    text("url", o->url);
    text("token", o->token);
    text("label", o->label);
    text("url-file", o->url_file);
    number("takeover", o->takeover);
    number("set-takeover", o->set_takeover);
    number("sample", o->sample);
    number("pool-size", o->pool_size);
    number("connect-timeout", o->connect_timeout_ms);
    for (size_t i = 0; i < o->n_args; i++)
        printf("args[%zu]=%s\n", i, o->args[i]);
}

static int serve(int argc, char **argv, struct ht_errmsg *err, bool print) {
    struct opt_serve o;
    int rc = opt_serve_parse(&o, argc, argv, err);
    if (rc == HT_OK && print)
        print_serve(&o);
    opt_serve_free(&o);
    opt_serve_free(&o);
    return rc;
}

static int expose(int argc, char **argv, struct ht_errmsg *err, bool print) {
    struct opt_expose o;
    int rc = opt_expose_parse(&o, argc, argv, err);
    if (rc == HT_OK && print)
        print_expose(&o);
    opt_expose_free(&o);
    return rc;
}

static int up(int argc, char **argv, struct ht_errmsg *err, bool print) {
    struct opt_up o;
    int rc = opt_up_parse(&o, argc, argv, err);
    if (rc == HT_OK && print) {
        text("file", o.file);
        for (size_t i = 0; i < o.n_headers; i++)
            printf("header[%zu]=%s\n", i, o.headers[i]);
    }
    opt_up_free(&o);
    opt_up_free(&o);
    return rc;
}

static int sessions_list(int argc, char **argv, struct ht_errmsg *err, bool print) {
    struct opt_sessions_list o;
    int rc = opt_sessions_list_parse(&o, argc, argv, err);
    if (rc == HT_OK && print) {
        text("url", o.url);
        number("json", o.json);
        number("timeout", o.timeout_ms);
    }
    opt_sessions_list_free(&o);
    return rc;
}

static int parse(const struct opt_command *c, int argc, char **argv, struct ht_errmsg *err, bool print) {
    switch (c->id) {
    case OPT_CMD_SERVE:
        return serve(argc, argv, err, print);
    case OPT_CMD_EXPOSE:
        return expose(argc, argv, err, print);
    case OPT_CMD_UP:
        return up(argc, argv, err, print);
    case OPT_CMD_SESSIONS_LIST:
        return sessions_list(argc, argv, err, print);
    default:
        return HT_EINVAL;
    }
}

/* word ARGUMENT...: which command is meant without one, and what its arguments are. */
static void print_left_out(int argc, char **argv) {
    const struct opt_command *c;
    struct ht_errmsg err;
    argv--;
    argc++;
    if (opt_command_left_out(&opt_program, &argc, argv, &c, &err) < 0) {
        printf("%s\n", err.text);
        return;
    }
    printf("%s", c->name);
    for (int i = 1; i < argc; i++)
        printf(" %s", argv[i]);
    printf("%s\n", argv[argc] ? " and more" : "");
}

static void print_all_help(void) {
    opt_overview(&opt_program, stdout);
    for (size_t i = 0; i < OPT_COMMANDS; i++) {
        printf("=== %s\n", opt_commands[i].name);
        opt_help(&opt_commands[i], stdout);
    }
}

/* match ADDRESS NETWORK...: whether the address is in one of the networks. */
static void print_match(int argc, char **argv) {
    struct opt_serve o;
    struct ht_errmsg err;
    uint8_t addr[16] = {0};
    char name[] = "--trusted-proxy";
    char *args[32];
    int n = 0;
    for (int i = 1; i < argc; i++) {
        args[n++] = name;
        args[n++] = argv[i];
    }
    int family = strchr(argv[0], ':') ? 6 : 4;
    inet_pton(family == 6 ? AF_INET6 : AF_INET, argv[0], addr);
    if (opt_serve_parse(&o, n, args, &err) == HT_OK)
        printf("%d\n", ht_cidrs_match(o.trusted_proxy, o.n_trusted_proxy, family, addr));
    opt_serve_free(&o);
}

/* ports LIST PORT...: which of the ports the list holds. */
static void print_ports(int argc, char **argv) {
    struct opt_serve o;
    struct ht_errmsg err;
    char *args[] = {(char[]){"--reserved-ports"}, argv[0]};
    if (opt_serve_parse(&o, 2, args, &err) == HT_OK)
        for (int i = 1; i < argc; i++)
            printf("%d", opt_ports_contain(o.reserved_ports, o.n_reserved_ports, (uint16_t)atoi(argv[i])));
    printf("\n");
    opt_serve_free(&o);
}

/* fail COMMAND...: parses again and again, letting the next allocation fail each time, until none is left to fail. */
static void print_failures(const struct opt_command *c, int argc, char **argv, int used) {
    struct ht_errmsg err = {""};
    long index = 0;
    for (;; index++) {
        ht_mem_fail_at(index);
        int rc = parse(c, argc - used, argv + used, &err, false);
        ht_mem_fail_at(-1);
        if (ht_mem_live() != 0)
            printf("leak after allocation %ld\n", index);
        if (rc == HT_OK)
            break;
        if (rc != HT_ENOMEM)
            printf("allocation %ld: %d %s\n", index, rc, err.text);
    }
    printf("failed=%ld\n", index);
}

int main(int argc, char **argv) {
    if (argc > 2 && strcmp(argv[1], "match") == 0) {
        print_match(argc - 2, argv + 2);
        return 0;
    }
    if (argc > 2 && strcmp(argv[1], "ports") == 0) {
        print_ports(argc - 2, argv + 2);
        return 0;
    }
    if (argc > 2 && strcmp(argv[1], "word") == 0) {
        print_left_out(argc - 2, argv + 2);
        return 0;
    }
    if (argc == 2 && strcmp(argv[1], "all-help") == 0) {
        print_all_help();
        return 0;
    }
    bool fail = argc > 1 && strcmp(argv[1], "fail") == 0;
    if (fail) {
        argc--;
        argv++;
    }
    struct ht_errmsg err = {""};
    const struct opt_command *c;
    int used;
    int rc = opt_command_find(&opt_program, argc, argv, &c, &used, &err);
    if (rc != HT_OK) {
        printf("find=%d %s%s\n", rc, c ? c->name : "", err.text);
        return 0;
    }
    if (fail) {
        print_failures(c, argc, argv, used);
        return 0;
    }
    rc = parse(c, argc - used, argv + used, &err, true);
    printf("rc=%d\n", rc);
    if (rc < 0)
        printf("error=%s\n", err.text);
    return 0;
}
