/* expose and pull: one tunnel, its events on standard output. */
#include "cli/cli.h"

#include "driver/driver.h"

#include <signal.h>
#include <unistd.h>

/* ---- signals ---- */

static struct ht_tunnel *running; /* what a signal stops */
static volatile sig_atomic_t signals;

static void on_signal(int signo) {
    (void)signo;
    if (signals++ > 0)
        _exit(OPT_EXIT_FAILURE); /* asked twice: at once */
    if (running)
        ht_tunnel_stop(running);
}

static void on_hangup(int signo) {
    (void)signo;
    if (running)
        ht_tunnel_retry_now(running);
}

void cli_catch_signals(void) {
    struct sigaction act = {.sa_handler = on_signal}, hangup = {.sa_handler = on_hangup, .sa_flags = SA_RESTART};
    sigemptyset(&hangup.sa_mask);
    sigaction(SIGHUP, &hangup, NULL);
    sigemptyset(&act.sa_mask);
    sigaction(SIGINT, &act, NULL);
    sigaction(SIGTERM, &act, NULL);
}

int cli_run_tunnel(struct ht_tunnel *t) {
    running = t;
    if (signals > 0) /* it came while nothing could be stopped */
        ht_tunnel_stop(t);
    int rc = ht_tunnel_run(t);
    if (rc == HT_TUNNEL_STOPPED) {
        ht_tunnel_close(t);
        rc = ht_tunnel_run(t);
    }
    running = NULL;
    return rc;
}

/* ---- what the two commands have in common ---- */

struct tunnel_command {
    enum ht_bind_kind kind;
    struct ht_tunnel_options options;
    struct ht_bind_options bind; /* all but target and port */
    const char *token_file, *token_env, *url_file;
    const char **args;
    size_t n_args;
    bool json, sample;
    enum ht_log_level level;
    char token[CLI_TOKEN_MAX + 1];
};

static int complain_last(const char *what, int rc) {
    const char *why = ht_tunnel_last_error();
    cli_complain("%s%s", what, *why ? why : ht_strerror(rc));
    return ht_exit_status(rc);
}

/* Asks for every target. 0, or an exit code when one of them cannot even be asked for. */
static int bind_all(struct tunnel_command *c, struct ht_tunnel *t, uint16_t sample_port) {
    struct ht_errmsg err;
    char local[32];
    if (c->sample) {
        struct ht_bind_options b = c->bind;
        snprintf(local, sizeof local, "127.0.0.1:%u", sample_port);
        b.target = local;
        int rc = ht_tunnel_bind(t, &b);
        return rc < 0 ? complain_last("", rc) : OPT_EXIT_OK;
    }
    for (size_t i = 0; i < c->n_args; i++) {
        struct cli_target target;
        struct ht_bind_options b = c->bind;
        if (cli_target_parse(&target, c->args[i], &err) < 0) {
            cli_complain("%s", err.text);
            return OPT_EXIT_USAGE;
        }
        b.target = target.local;
        b.container_port = target.container_port;
        int rc = ht_tunnel_bind(t, &b);
        if (rc < 0)
            return complain_last("", rc);
    }
    return OPT_EXIT_OK;
}

static int run_connected(struct tunnel_command *c, struct ht_tunnel *t, struct cli_events *e) {
    struct cli_sample *sample = NULL;
    struct ht_errmsg err;
    if (c->sample && !(sample = cli_sample_start(driver_loop(t), &err))) {
        cli_complain("the sample page cannot be served: %s", err.text);
        return OPT_EXIT_FAILURE;
    }
    int status = bind_all(c, t, sample ? cli_sample_port(sample) : 0);
    if (status == OPT_EXIT_OK) {
        cli_catch_signals();
        int rc = ht_tunnel_connect(t);
        if (rc == HT_TUNNEL_OK)
            rc = cli_run_tunnel(t);
        status = e->bind_failed ? OPT_EXIT_BIND : e->file_failed ? OPT_EXIT_CONFIG : ht_exit_status(rc);
    }
    cli_sample_stop(&sample);
    return status;
}

static int run_tunnel(struct tunnel_command *c) {
    struct cli_events events = {.json = false};
    struct ht_errmsg err;
    struct ht_tunnel *t = NULL;
    ht_log_setup(STDERR_FILENO, c->level, HT_LOG_TEXT);
    if (cli_token(c->token_file, c->token_env, c->token, &err) < 0) {
        cli_complain("%s", err.text);
        return OPT_EXIT_CONFIG;
    }
    io_raise_fd_limit();
    c->options.size = sizeof c->options;
    c->options.token = c->token;
    c->bind.size = sizeof c->bind;
    c->bind.kind = c->kind;
    int rc = ht_tunnel_create(&t, &c->options, &cli_event_callbacks, &events);
    explicit_bzero(c->token, sizeof c->token);
    if (rc < 0)
        return complain_last("", rc);
    int status = OPT_EXIT_FAILURE;
    if (cli_events_init(&events, driver_loop(t), c->sample ? 1 : (unsigned)c->n_args) == HT_OK) {
        events.tunnel = t;
        events.json = c->json;
        events.level = c->level;
        events.url_file = c->url_file;
        status = run_connected(c, t, &events);
    } else {
        cli_complain("%s", ht_err_text(HT_ENOMEM));
    }
    cli_events_free(&events);
    ht_tunnel_destroy(&t);
    return status;
}

#define FOR_EVER_MS (UINT64_C(720) * 3600 * 1000) /* the longest that --retry-for takes */

/* --retry-for: not given is for ever, but the first connection must work at once. */
static void set_retry(struct ht_tunnel_options *o, bool given, uint64_t retry_for_ms) {
    o->retry_first = given && retry_for_ms > 0;
    o->retry_for_ms = retry_for_ms >= FOR_EVER_MS ? 0 : retry_for_ms ? (uint32_t)retry_for_ms : HT_NO_RETRY;
}

int cmd_expose(int argc, char **argv) {
    struct opt_expose o;
    struct ht_errmsg err;
    int rc = opt_expose_parse(&o, argc, argv, &err);
    if (rc != 0)
        return cli_parse_result(rc, OPT_CMD_EXPOSE, &err);
    struct tunnel_command c = {
        .kind = HT_EXPOSE_HTTP,
        .options = {.url = o.url,
                    .ca_file = o.ca,
                    .connect_timeout_ms = (uint32_t)o.connect_timeout_ms,
                    .pool_size = o.pool_size ? o.pool_size : HT_NO_POOL},
        .bind = {.label = o.label, .takeover = o.takeover},
        .token_file = o.token_file,
        .token_env = o.token,
        .url_file = o.url_file,
        .args = o.args,
        .n_args = o.n_args,
        .json = o.json,
        .sample = o.sample,
        .level = o.log_level,
    };
    set_retry(&c.options, o.set_retry_for, o.retry_for_ms);
    if (o.sample && o.n_args > 0) {
        cli_complain("--sample takes no TARGET: it is the built-in page that is exposed");
        rc = OPT_EXIT_USAGE;
    } else {
        rc = run_tunnel(&c);
    }
    opt_expose_free(&o);
    return rc;
}

int cmd_pull(int argc, char **argv) {
    struct opt_pull o;
    struct ht_errmsg err;
    int rc = opt_pull_parse(&o, argc, argv, &err);
    if (rc != 0)
        return cli_parse_result(rc, OPT_CMD_PULL, &err);
    struct tunnel_command c = {
        .kind = HT_PULL_TCP,
        .options = {.url = o.url, .ca_file = o.ca, .connect_timeout_ms = (uint32_t)o.connect_timeout_ms},
        .bind = {.label = o.label, .pull_host = o.set_pull_host ? o.pull_host : NULL},
        .token_file = o.token_file,
        .token_env = o.token,
        .url_file = o.url_file,
        .args = o.args,
        .n_args = o.n_args,
        .json = o.json,
        .level = o.log_level,
    };
    set_retry(&c.options, o.set_retry_for, o.retry_for_ms);
    rc = run_tunnel(&c);
    opt_pull_free(&o);
    return rc;
}
