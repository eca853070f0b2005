/* Runs the tunnel of a command: signals, the plan, and the exit status. */
#include "cli/cli.h"

#include "base/mem.h"
#include "cli/live.h"
#include "driver/driver.h"
#include "http/http.h"

#include <signal.h>
#include <unistd.h>

/* ---- signals ---- */

static struct ht_tunnel *running; /* the tunnel that a signal stops */
static struct io_end_requests requests;

/* The first signal ends the tunnel in order, the second one without waiting, and the third one ends the process. */
static void on_signal(int signo) {
    unsigned n = io_end_request(&requests);
    (void)signo;
    if (n == 0)
        return;
    if (n > 2) {
        cli_screen_restore();
        _exit(OPT_EXIT_FAILURE);
    }
    if (running)
        ht_tunnel_stop(running);
}

static void on_hangup(int signo) {
    if (cli_terminal_gone()) { /* the terminal was closed: the same as Ctrl-C */
        on_signal(signo);
        return;
    }
    cli_audit_reopen();
    if (running) {
        ht_tunnel_reload(running);
        ht_tunnel_retry_now(running);
    }
}

void cli_catch_signals(void) {
    struct sigaction act = {.sa_handler = on_signal}, hangup = {.sa_handler = on_hangup, .sa_flags = SA_RESTART};
    cli_terminal_gone(); /* the first call stores whether there is a terminal */
    sigemptyset(&act.sa_mask);
    sigaddset(&act.sa_mask, SIGINT);
    sigaddset(&act.sa_mask, SIGTERM);
    sigaddset(&act.sa_mask, SIGHUP);
    hangup.sa_mask = act.sa_mask;
    sigaction(SIGHUP, &hangup, NULL);
    sigaction(SIGINT, &act, NULL);
    sigaction(SIGTERM, &act, NULL);
}

int cli_run_tunnel(struct ht_tunnel *t) {
    running = t;
    if (requests.n > 0) /* a signal came before there was a tunnel to stop */
        ht_tunnel_stop(t);
    int rc;
    while ((rc = ht_tunnel_run(t)) == HT_TUNNEL_STOPPED)
        ht_tunnel_close(t);
    running = NULL;
    return rc;
}

/* ---- a plan ---- */

void cli_plan_retry(struct ht_tunnel_options *o, bool given, uint64_t retry_for_ms) {
    o->retry_first = given && retry_for_ms > 0;
    o->retry_for_ms = retry_for_ms >= OPT_RETRY_FOR_MAX ? 0 : retry_for_ms ? (uint32_t)retry_for_ms : HT_NO_RETRY;
}

uint32_t cli_replay_buffer(bool given, uint64_t bytes) { return !given ? 0 : bytes ? (uint32_t)bytes : HT_NO_REPLAY; }

enum ht_forwarded cli_forwarded(bool given, enum opt_forwarded forwarded) {
    return !given ? HT_FORWARDED_AUTO : forwarded == OPT_FORWARDED_SET ? HT_FORWARDED_SET : HT_FORWARDED_PASS;
}

void cli_plan_inspect(struct cli_plan *p, const struct opt_addr *at) {
    if (!at)
        return;
    bool v6 = strchr(at->host, ':') != NULL;
    snprintf(p->inspect, sizeof p->inspect, "%s%s%s%s%u", v6 ? "[" : "", at->host, v6 ? "]" : "", *at->host ? ":" : "",
             at->port);
    p->options.inspect = p->inspect;
}

/* Wipes the values of headers, since everybody on this machine may read the arguments of a process. */
static void hide_headers(const struct ht_tunnel_options *o) {
    for (size_t i = 0; i < o->n_headers; i++) {
        union { /* an argument of main() may be written to (C11 5.1.2.2.1), and so may a text of the file */
            const char *in;
            char *out;
        } line = {.in = o->headers[i]};
        char *value = strchr(line.out, ':');
        if (value)
            memset(value + 1, '*', strlen(value + 1));
    }
}

static int complain_last(int rc) {
    const char *why = ht_tunnel_last_error();
    /* the library calls these by its own name */
    bool option = strncmp(why, "inspect: ", 9) == 0 || strncmp(why, "replay-buffer: ", 15) == 0;
    cli_complain("%s%s", option ? "--" : "", *why ? why : ht_strerror(rc));
    return ht_exit_status(rc);
}

/* Asks for every binding. 0, or an exit status: one of them is wrong. */
static int bind_all(const struct cli_plan *p, struct ht_tunnel *t, uint16_t sample_port) {
    char local[32];
    snprintf(local, sizeof local, "127.0.0.1:%u", sample_port);
    for (size_t i = 0; i < p->n_binds; i++) {
        struct ht_bind_options b = p->binds[i];
        b.size = sizeof b;
        if (p->sample)
            b.target = local;
        int rc = ht_tunnel_bind(t, &b);
        if (rc < 0)
            return complain_last(rc);
    }
    return OPT_EXIT_OK;
}

static int run_connected(struct cli_plan *p, struct ht_tunnel *t, struct cli_events *e) {
    struct cli_sample *sample = NULL;
    struct ht_errmsg err;
    if (p->sample && !(sample = cli_sample_start(driver_loop(t), &err))) {
        cli_complain("the sample page cannot be served: %s", err.text);
        return OPT_EXIT_FAILURE;
    }
    int status = bind_all(p, t, sample ? cli_sample_port(sample) : 0);
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

/* Chooses the driver's name. 0 or an exit status. */
static int choose_name(struct cli_plan *p, char kept[DRIVER_NAME_MAX + 1]) {
    struct ht_errmsg err;
    if (p->nameless)
        return OPT_EXIT_OK;
    if (!p->name) {
        if (driver_name_default(kept, &err) < 0)
            cli_complain("warning: this machine's name could not be kept, so URLs begin with another one at the next "
                         "start, unless --name says which: %s",
                         err.text);
        p->options.client_name = kept;
    } else if (driver_name_check(p->name, &err) < 0) {
        cli_complain("--name: %s", err.text);
        return OPT_EXIT_USAGE;
    } else {
        p->options.client_name = p->name;
    }
    return OPT_EXIT_OK;
}

int cli_plan_access(struct cli_plan *p, char token[WIRE_LIMIT_MAX_TOKEN + 1], struct ht_errmsg *err) {
    struct cli_access a = {.url = p->options.url,
                           .ca = p->options.ca,
                           .pin = p->options.pin,
                           .token_file = p->token_file,
                           .token = p->token,
                           .set_url = p->set_url};
    if (p->options.vtunnel) /* vtunnel's server is no kit, so nothing that login has stored is shown to it */
        return cli_token(p->token_file, p->token, token, err);
    int rc = cli_access(&a, token, err);
    p->options.url = a.url;
    p->options.ca = a.ca;
    p->options.pin = a.pin;
    p->stored_url = a.stored_url;
    p->stored_token = a.stored_token;
    return rc;
}

#define SECRETS 32 /* most names of --inspect-secret */

/* Takes the names of --inspect-secret apart, in *text, which the caller frees. 0 or an exit status. */
static int split_secrets(struct cli_plan *p, char **text, const char *names[SECRETS]) {
    size_t n = 0;
    *text = NULL;
    if (!p->inspect_secret)
        return OPT_EXIT_OK;
    *text = ht_strndup(p->inspect_secret, strlen(p->inspect_secret));
    if (!*text) {
        cli_complain("%s", ht_err_text(HT_ENOMEM));
        return OPT_EXIT_FAILURE;
    }
    for (char *at = *text, *rest = NULL; (at = strtok_r(at, ", ", &rest)) != NULL && n < SECRETS; at = NULL) {
        if (!http_is_token(ht_slice_str(at))) {
            cli_complain("--inspect-secret: \"%s\" is no name of a header field", at);
            return OPT_EXIT_USAGE;
        }
        names[n++] = at;
    }
    p->options.inspect_secrets = names;
    p->options.n_inspect_secrets = n;
    return OPT_EXIT_OK;
}

static int create(struct cli_plan *p, struct ht_tunnel **t, void *user) {
    char token[WIRE_LIMIT_MAX_TOKEN + 1], auth[WIRE_LIMIT_MAX_TOKEN + 1], kept[DRIVER_NAME_MAX + 1];
    struct ht_errmsg err;
    int status = choose_name(p, kept);
    if (status != OPT_EXIT_OK)
        return status;
    if (cli_plan_access(p, token, &err) < 0 || cli_proxy_put(&p->options, auth, &err) < 0) {
        explicit_bzero(token, sizeof token);
        cli_complain("%s", err.text);
        return OPT_EXIT_CONFIG;
    }
    p->options.size = sizeof p->options;
    p->options.strict_bindings = 1; /* if one binding is refused, the command ends */
    p->options.token = token;
    int rc = ht_tunnel_create(t, &p->options, &cli_event_callbacks, user);
    p->options.token = p->options.client_name = p->options.proxy_auth = NULL;
    explicit_bzero(token, sizeof token);
    explicit_bzero(auth, sizeof auth);
    cli_proxy_hide();
    hide_headers(&p->options);
    return rc < 0 ? complain_last(rc) : OPT_EXIT_OK;
}

int cli_plan_create(struct cli_plan *p, struct ht_tunnel **t, void *user) {
    const char *names[SECRETS];
    char *text;
    int status = split_secrets(p, &text, names);
    inspect_draw_qr = cli_qr_rows;
    if (status == OPT_EXIT_OK)
        status = create(p, t, user);
    p->options.inspect_secrets = NULL;
    p->options.n_inspect_secrets = 0;
    ht_free(text);
    return status;
}

/* ---- the block on a terminal ---- */

/* No block with a debug log, whose lines would be written into the middle of it. */
static bool wants_block(const struct cli_plan *p) {
    return p->live && !p->json && p->log_level <= HT_LOG_INFO && cli_screen_possible();
}

static int begin_audit(const struct cli_plan *p, struct ht_tunnel *t, struct cli_events *e) {
    struct ht_errmsg err;
    if (cli_audit_open(&e->audit, driver_loop(t), p->audit, &err) == HT_OK)
        return OPT_EXIT_OK;
    cli_complain("%s", err.text);
    return OPT_EXIT_CONFIG;
}

static int run_shown(struct cli_plan *p, struct ht_tunnel *t, struct cli_events *e, struct cli_live *live) {
    if (live)
        cli_live_attach(live, e, t, driver_loop(t));
    int status = run_connected(p, t, e);
    cli_live_detach(live);
    return status;
}

int cli_plan_run(struct cli_plan *p) {
    struct cli_events events = {.json = false};
    struct cli_live *live = NULL;
    struct ht_tunnel *t = NULL;
    char url[2 * DRIVER_PATH_MAX]; /* a copy: when login's file is read again, p->options.url is no longer valid */
    bool color = cli_use_color(p->color, STDOUT_FILENO);
    if (p->json && p->qr) {
        cli_complain("--qr draws for people and --json writes for programs; leave one of them out");
        return OPT_EXIT_USAGE;
    }
    ht_log_setup(STDERR_FILENO, p->log_level, HT_LOG_TEXT);
    io_raise_fd_limit();
    p->options.measure_every_ms = wants_block(p) ? CLI_LIVE_MEASURE_MS : 0;
    int status = cli_plan_create(p, &t, &events);
    if (status != OPT_EXIT_OK)
        return status;
    if (cli_events_init(&events, driver_loop(t), (unsigned)p->n_binds) == HT_OK &&
        (!wants_block(p) || (live = cli_live_create(p->options.url, p->binds, p->n_binds, color)))) {
        events.tunnel = t;
        events.binds = p->binds;
        for (size_t i = 0; i < p->n_binds; i++)
            events.by_name = events.by_name || p->binds[i].portless;
        events.json = p->json;
        events.log_level = p->log_level;
        events.url_file = p->url_file;
        events.state.path = p->state_file;
        events.token_file = p->token_file;
        events.qr = p->qr;
        events.default_url = !p->set_url && !p->stored_url;
        snprintf(url, sizeof url, "%s", p->options.url);
        events.stored_url = p->stored_token ? url : NULL;
        events.no_token = !p->token_file && !(p->token && *p->token) && !p->stored_token;
        events.color = color;
        events.audit_query = p->audit_query;
        status = begin_audit(p, t, &events);
        if (status == OPT_EXIT_OK)
            status = run_shown(p, t, &events, live);
    } else {
        cli_complain("%s", ht_err_text(HT_ENOMEM));
        status = OPT_EXIT_FAILURE;
    }
    cli_events_free(&events);
    cli_live_destroy(&live);
    ht_tunnel_destroy(&t);
    return status;
}
