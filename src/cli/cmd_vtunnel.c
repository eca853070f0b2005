/* vtunnel-client: pulls ports like `pull`, but from a server that speaks vtunnel's JSON protocol. */
#include "cli/cli.h"

#include "base/mem.h"
#include "driver/url.h"
#include "vtunnel_gen.h"

/* "PORT=TARGET", as vtunnel's client takes it. 0 or an exit status. */
static int plan_forward(struct ht_bind_options *b, const char *text) {
    const char *sign = strchr(text, '=');
    uint16_t port = 0;
    if (!sign || driver_port_parse(ht_slice_of(text, (size_t)(sign - text)), &port) < 0 || port == 0) {
        cli_complain("-forward %.200s: it is PORT=TARGET with a port from 1 to 65535, such as 9000=localhost:3000",
                     text);
        return OPT_EXIT_USAGE;
    }
    *b = (struct ht_bind_options){.kind = HT_PULL_TCP, .target = sign + 1, .container_port = port, .label = sign + 1};
    return OPT_EXIT_OK;
}

static int plan_forwards(struct cli_plan *p, const struct opt_vtunnel_client *o) {
    int rc = OPT_EXIT_OK;
    if (!o->server || !*o->server) {
        cli_complain("-server is missing: the URL of the server, such as ws://tunnel.example.com/");
        return OPT_EXIT_USAGE;
    }
    if (o->n_forward == 0) {
        cli_complain("-forward is missing: give at least one, such as 9000=localhost:3000");
        return OPT_EXIT_USAGE;
    }
    p->binds = ht_calloc(o->n_forward, sizeof *p->binds);
    if (!p->binds) {
        cli_complain("%s", ht_err_text(HT_ENOMEM));
        return OPT_EXIT_FAILURE;
    }
    for (; rc == OPT_EXIT_OK && p->n_binds < o->n_forward; p->n_binds++)
        rc = plan_forward(&p->binds[p->n_binds], o->forward[p->n_binds]);
    return rc;
}

int cmd_vtunnel_client(int argc, char **argv) {
    struct opt_vtunnel_client o;
    struct ht_errmsg err;
    int rc = opt_vtunnel_client_parse(&o, argc, argv, &err);
    if (rc != 0)
        return cli_parse_result(rc, OPT_CMD_VTUNNEL_CLIENT, &err);
    CLI_PROXY(o);
    struct cli_plan p = {
        .options = {.url = o.server,
                    .ca = o.ca,
                    .pin = o.pin,
                    .connect_timeout_ms = VTUNNEL_LIMIT_HANDSHAKE_TIMEOUT,
                    .headers = o.headers,
                    .n_headers = o.n_headers,
                    .vtunnel = 1},
        .token_file = o.token_file,
        .token = o.token,
        .nameless = true,
        .set_url = true,
        .json = o.json,
        .live = o.live,
        .color = o.color,
        .log_level = o.log_level,
    };
    rc = plan_forwards(&p, &o);
    rc = rc == OPT_EXIT_OK ? cli_plan_run(&p) : rc;
    ht_free(p.binds);
    opt_vtunnel_client_free(&o);
    return rc;
}
