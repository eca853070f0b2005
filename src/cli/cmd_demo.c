/* demo: a kit, a driver and a page in one process, connected over loopback as they would be over the Internet. */
#include "cli/cli.h"

#include "cli/live.h"
#include "driver/driver.h"
#include "kit/kit.h"

#include <stdio.h>
#include <unistd.h>

struct demo {
    struct cli_events events; /* first, so that a pointer to it is one to the whole */
    struct io_loop *loop;
    struct kit *kit;
    struct cli_sample *sample;
    struct ht_tunnel *tunnel;
    bool shown;            /* the tunnel is shown as a block on a terminal */
    struct cli_live *live; /* that block; NULL: none */
    char kit_url[IO_ADDR_TEXT];
};

static void on_bound(void *user, const struct ht_bound *b) {
    struct demo *d = user;
    struct ht_buf text = {0};
    int rc = ht_buf_printf(&text,
                           "\nA page of this machine, through a tunnel and back:\n\n    %s\n\n"
                           "Open it, or try from another terminal:\n\n"
                           "    curl -i %s/\n"
                           "    curl -N %s/events\n"
                           "    %s list --url %s\n"
                           "    %s expose 0=3000 --url %s   # a server of yours on port 3000\n"
                           "    %s pull 0=5432 --url %s     # a database of yours, for programs beside the kit\n\n"
                           "Ctrl-C ends everything. Requests show up below.\n\n",
                           b->url, b->url, b->url, cli_program, d->kit_url, cli_program, d->kit_url, cli_program,
                           d->kit_url);
    if (rc == HT_OK)
        cli_events_line(&d->events, ht_buf_slice(&text));
    ht_buf_free(&text);
    if (d->live) /* the block has a row for it */
        cli_event_callbacks.bound(&d->events, b);
}

static int start_tunnel(struct demo *d, const struct opt_serve *kit) {
    char token[WIRE_LIMIT_MAX_TOKEN + 1], local[32];
    struct ht_errmsg err;
    /* The kit reads the same variables as `serve`, so the driver must show the token that they may set. */
    if (cli_token(kit->token_file, kit->token, token, &err) < 0) {
        cli_complain("%s", err.text);
        return OPT_EXIT_CONFIG;
    }
    struct ht_tunnel_callbacks calls = cli_event_callbacks;
    calls.bound = on_bound;
    if (!d->live)
        calls.connected = NULL;
    struct ht_tunnel_options options = {.size = sizeof options,
                                        .url = d->kit_url,
                                        .token = token,
                                        .measure_every_ms = d->live ? CLI_LIVE_MEASURE_MS : 0};
    snprintf(local, sizeof local, "127.0.0.1:%u", cli_sample_port(d->sample));
    struct ht_bind_options bind = {.size = sizeof bind, .kind = HT_EXPOSE_HTTP, .target = local, .label = "demo"};
    int rc = driver_create_on(d->loop, &d->tunnel, &options, &calls, d);
    explicit_bzero(token, sizeof token);
    if (rc == HT_TUNNEL_OK)
        rc = ht_tunnel_bind(d->tunnel, &bind);
    if (rc >= 0)
        rc = ht_tunnel_connect(d->tunnel);
    if (rc < 0)
        cli_complain("%s", ht_tunnel_last_error());
    d->events.tunnel = d->tunnel;
    return ht_exit_status(rc);
}

static int run_demo(struct demo *d, const struct opt_serve *kit) {
    struct ht_errmsg err;
    d->loop = io_loop_create();
    if (!d->loop || cli_events_init(&d->events, d->loop, 1) < 0) {
        cli_complain("%s", ht_err_text(HT_ENOMEM));
        return OPT_EXIT_FAILURE;
    }
    d->kit = kit_create(d->loop, kit, &err);
    if (!d->kit) {
        cli_complain("%s", err.text);
        return OPT_EXIT_CONFIG;
    }
    struct io_addr at;
    kit_listen_addr(d->kit, &at);
    io_addr_text(&at, d->kit_url);
    d->sample = cli_sample_start(d->loop, &err);
    if (!d->sample) {
        cli_complain("the sample page cannot be served: %s", err.text);
        return OPT_EXIT_FAILURE;
    }
    bool color = cli_use_color(OPT_COLOR_AUTO, STDOUT_FILENO);
    d->events.color = color;
    if (d->shown && !(d->live = cli_live_create(d->kit_url, &(struct ht_bind_options){.label = "demo"}, 1, color))) {
        cli_complain("%s", ht_err_text(HT_ENOMEM));
        return OPT_EXIT_FAILURE;
    }
    int status = start_tunnel(d, kit);
    if (status != OPT_EXIT_OK)
        return status;
    cli_catch_signals();
    if (d->live)
        cli_live_attach(d->live, &d->events, d->tunnel, d->loop);
    int rc = cli_run_tunnel(d->tunnel);
    return d->events.bind_failed ? OPT_EXIT_FAILURE : ht_exit_status(rc);
}

int cmd_demo(int argc, char **argv) {
    static char listen_option[] = "--listen", listen_value[] = "127.0.0.1:0";
    char *kit_argv[] = {listen_option, listen_value, NULL};
    struct opt_demo o;
    struct opt_serve kit;
    struct ht_errmsg err;
    struct demo d = {.loop = NULL};
    int rc = opt_demo_parse(&o, argc, argv, &err);
    if (rc != 0)
        return cli_parse_result(rc, OPT_CMD_DEMO, &err);
    /* Log lines of the kit would hide the lines of the tunnel. */
    ht_log_setup(STDERR_FILENO, o.set_log_level ? o.log_level : HT_LOG_WARN, HT_LOG_TEXT);
    d.shown = o.live && !o.set_log_level && cli_screen_possible();
    opt_demo_free(&o);
    rc = opt_serve_parse(&kit, 2, kit_argv, &err);
    if (rc != 0)
        return cli_parse_result(rc, OPT_CMD_SERVE, &err);
    io_raise_fd_limit();
    int status = run_demo(&d, &kit);
    if (d.events.urls)
        cli_events_free(&d.events);
    cli_live_destroy(&d.live);
    ht_tunnel_destroy(&d.tunnel);
    cli_sample_stop(&d.sample);
    kit_destroy(&d.kit);
    io_loop_destroy(&d.loop);
    opt_serve_free(&kit);
    return status;
}
