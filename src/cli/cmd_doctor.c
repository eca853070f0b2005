/* doctor: what keeps this machine from a kit, one step after the other. Nothing is left behind in the kit. */
#include "cli/checks.h"

#include "base/clock.h"
#include "base/text.h"
#include "driver/driver.h"
#include "driver/proxy.h"

#include <stdarg.h>
#include <time.h>
#include <unistd.h>

#define ADDRESSES_MAX 8
#define SOON_S (14 * 86400) /* a certificate that ends sooner is told */
#define MEASURE_MS 100
#define SAMPLE_MAX (256u * 1024u)

enum step { STEP_NAME, STEP_TCP, STEP_PROXY, STEP_TLS, STEP_UPGRADE, STEP_TOKEN, STEP_BIND, STEP_WAY, N_STEPS };
static const char *const step_names[N_STEPS] = {"name",    "tcp",   "proxy", "tls",
                                                "upgrade", "token", "bind",  "round-trip"};

struct doctor {
    const struct opt_doctor *o;
    struct io_loop *loop;
    struct driver_url url;
    const struct io_proxy *via;
    struct cli_access access;
    bool has_token, over;
    struct cli_check found[N_STEPS];
    enum step now;
    uint64_t begun_us;
    struct io_timer limit;

    struct io_addr addr[ADDRESSES_MAX];
    unsigned n_addr;
    struct io_conn *conn; /* what a dial came to */
    int err;
    char text[512];

    struct ht_tunnel *tunnel;
    struct cli_sample *sample;
    bool connected, bound, refused, ended;
    int end_error;
    uint16_t status;
    uint64_t rtt_us;
    size_t body;
    char server[96], user[96], url_text[400];
    uint16_t port;
};

/* ---- findings ---- */

static void begin(struct doctor *d, enum step step) {
    d->now = step;
    d->begun_us = ht_now_us();
}

static void find(struct doctor *d, enum cli_verdict verdict, const char *help, const char *fmt, ...) HT_PRINTF(4, 5);
static void find(struct doctor *d, enum cli_verdict verdict, const char *help, const char *fmt, ...) {
    struct cli_check *f = &d->found[d->now];
    va_list ap;
    f->verdict = verdict;
    f->us = verdict == CLI_SKIPPED ? 0 : ht_now_us() - d->begun_us;
    f->help = help;
    va_start(ap, fmt);
    vsnprintf(f->text, sizeof f->text, fmt, ap);
    va_end(ap);
}

/* Returns false, for the caller to return. */
static bool fail(struct doctor *d, int exit_status, const char *help, const char *text) {
    d->found[d->now].exit_status = exit_status;
    find(d, CLI_FAILED, help, "%s", text);
    return false;
}

/* ---- waiting ---- */

static void wake(struct doctor *d) { io_loop_break(d->loop); }

static void on_limit(struct io_timer *t) {
    struct doctor *d = ht_container_of(t, struct doctor, limit);
    d->over = true;
    wake(d);
}

/* Until `*flag`, the end of the tunnel or the time limit. True: the flag is set. */
static bool wait_for(struct doctor *d, const bool *flag) {
    d->over = false;
    io_timer_set(&d->limit, d->o->timeout_ms);
    while (!*flag && !d->over && !d->ended)
        io_loop_run(d->loop);
    io_timer_stop(&d->limit);
    return *flag;
}

/* ---- dialling ---- */

static void on_connected(void *ctx, struct io_conn *c) {
    struct doctor *d = ctx;
    d->conn = c;
    d->over = true;
    wake(d);
}

static void on_failed(void *ctx, int err, const char *text) {
    struct doctor *d = ctx;
    d->err = err;
    snprintf(d->text, sizeof d->text, "%s", text);
    d->over = true;
    wake(d);
}

/* Notes each address, and lets none be dialled. */
static bool note_address(void *ctx, const struct io_addr *a) {
    struct doctor *d = ctx;
    if (d->n_addr < ADDRESSES_MAX)
        d->addr[d->n_addr++] = *a;
    return false;
}

static const struct io_dial_ops dial_ops = {.connected = on_connected, .failed = on_failed};
static const struct io_dial_ops name_ops = {.connected = on_connected, .failed = on_failed, .allowed = note_address};

/* Waits for the end of a dial. The caller closes `conn`. HT_OK, or an error with `text`. */
static int dial(struct doctor *d, const struct io_dial_ops *ops, const struct io_proxy *via, const char *host,
                uint16_t port, struct io_tls *tls) {
    struct ht_errmsg err;
    d->err = HT_OK;
    d->over = false;
    struct io_dial *dial = io_dial_start_via(d->loop, via, host, port, tls, d->o->timeout_ms, ops, d, &err);
    if (!dial) {
        snprintf(d->text, sizeof d->text, "%s", err.text);
        return HT_EIO;
    }
    while (!d->over)
        io_loop_run(d->loop);
    return d->err;
}

/* ---- the steps ---- */

static const char *first_host(const struct doctor *d) { return d->via ? d->via->host : d->url.host; }
static uint16_t first_port(const struct doctor *d) { return d->via ? d->via->port : d->url.port; }

static bool try_name(struct doctor *d) {
    char list[ADDRESSES_MAX * (IO_ADDR_TEXT + 2)] = "", one[IO_ADDR_TEXT];
    begin(d, STEP_NAME);
    (void)dial(d, &name_ops, NULL, first_host(d), first_port(d), NULL);
    if (d->n_addr == 0)
        return fail(d, OPT_EXIT_GAVE_UP,
                    d->via ? "check the proxy's name"
                           : "check the name in --url and this machine's name servers; where only a proxy knows it, "
                             "--proxy names that",
                    d->text);
    for (unsigned i = 0; i < d->n_addr; i++)
        snprintf(list + strlen(list), sizeof list - strlen(list), "%s%s", i ? ", " : "",
                 io_addr_host(&d->addr[i], one));
    find(d, CLI_OK, "", "%s%s: %s%s%s", d->via ? "the proxy " : "", first_host(d), list,
         d->via ? "; the proxy resolves " : "", d->via ? d->url.host : "");
    return true;
}

static bool try_tcp(struct doctor *d) {
    char list[ADDRESSES_MAX * (IO_ADDR_TEXT + 64)] = "", one[IO_ADDR_TEXT];
    unsigned good = 0;
    begin(d, STEP_TCP);
    for (unsigned i = 0; i < d->n_addr; i++) {
        uint64_t since = ht_now_us();
        char took[CLI_HUMAN];
        int rc = dial(d, &dial_ops, NULL, io_addr_host(&d->addr[i], one), first_port(d), NULL);
        io_conn_close(&d->conn);
        good += rc == HT_OK;
        size_t at = strlen(list);
        snprintf(list + at, sizeof list - at, "%s%s %s", i ? ", " : "", io_addr_text(&d->addr[i], one),
                 rc == HT_OK ? cli_human_us(ht_now_us() - since, took) : ht_err_text(rc));
    }
    if (good == 0)
        return fail(d, OPT_EXIT_GAVE_UP,
                    d->via ? "check that the proxy runs, and its port"
                           : "check that the kit runs and its port is let through; where a proxy is the only way out, "
                             "--proxy names it",
                    list);
    find(d, good < d->n_addr ? CLI_WARNING : CLI_OK,
         good < d->n_addr
             ? "a dead address costs each new connection up to 250 ms; take it out of the name or mend its route"
             : "",
         "%s", list);
    return true;
}

static bool try_proxy(struct doctor *d) {
    begin(d, STEP_PROXY);
    if (!d->via) {
        find(d, CLI_SKIPPED, "", "none: the kit is reached directly");
        return true;
    }
    int rc = dial(d, &dial_ops, d->via, d->url.host, d->url.port, NULL);
    io_conn_close(&d->conn);
    if (rc < 0)
        return fail(d, ht_err_is_tls(rc) ? OPT_EXIT_CONFIG : OPT_EXIT_GAVE_UP, "", d->text);
    find(d, CLI_OK, "", "%s opens connections to %s", d->via->name, d->url.host_field);
    return true;
}

static void tell_certificate(struct doctor *d, const struct io_tls_facts *f) {
    char ends[32] = "?";
    time_t at = (time_t)f->ends, now = time(NULL);
    struct tm tm;
    if (gmtime_r(&at, &tm))
        strftime(ends, sizeof ends, "%Y-%m-%d", &tm);
    find(d, at - now < SOON_S ? CLI_WARNING : CLI_OK,
         at - now < SOON_S ? "renew it: drivers are refused afterwards" : "",
         "%s; the certificate of %s by %s is good until %s", f->version, f->subject, f->issuer, ends);
}

static bool try_tls(struct doctor *d) {
    struct io_tls_facts facts;
    struct ht_errmsg err;
    begin(d, STEP_TLS);
    if (!d->url.tls) {
        find(d, driver_host_is_local(d->url.host) ? CLI_SKIPPED : CLI_WARNING, "",
             "none: the kit's URL is one without TLS");
        return true;
    }
    struct io_tls *tls = io_tls_create_pinned(d->access.ca, d->access.pin, &err);
    if (!tls)
        return fail(d, OPT_EXIT_CONFIG, "", err.text);
    int rc = dial(d, &dial_ops, d->via, d->url.host, d->url.port, tls);
    if (rc == HT_OK && io_conn_tls_facts(d->conn, &facts))
        tell_certificate(d, &facts);
    io_conn_close(&d->conn);
    io_tls_destroy(&tls);
    if (rc == HT_ECERTDATE)
        return fail(d, OPT_EXIT_CONFIG, "set this machine's clock if that is wrong, or have the certificate renewed",
                    d->text);
    if (rc < 0)
        return fail(d, ht_err_is_tls(rc) ? OPT_EXIT_CONFIG : OPT_EXIT_GAVE_UP,
                    d->via && ht_err_is_tls(rc) ? "the proxy may look into TLS: --ca names its authority then" : "",
                    d->text);
    return true;
}

/* ---- the tunnel ---- */

static void on_tunnel_up(void *user, const struct ht_connected *c) {
    struct doctor *d = user;
    snprintf(d->server, sizeof d->server, "%s", c->server);
    snprintf(d->user, sizeof d->user, "%s", c->user ? c->user : "");
    d->connected = true;
    wake(d);
}

static void on_tunnel_bound(void *user, const struct ht_bound *b) {
    struct doctor *d = user;
    snprintf(d->url_text, sizeof d->url_text, "%s", b->url);
    d->port = b->container_port;
    d->bound = true;
    wake(d);
}

static void on_bind_failed(void *user, const struct ht_bind_failure *f) {
    struct doctor *d = user;
    snprintf(d->text, sizeof d->text, "%s: %s", f->code, f->message);
    d->bound = d->refused = true;
    wake(d);
}

static void on_latency(void *user, uint64_t us) {
    struct doctor *d = user;
    d->rtt_us = us;
    wake(d);
}

static void on_ended(void *user, int error, const char *text) {
    struct doctor *d = user;
    d->end_error = error;
    snprintf(d->text, sizeof d->text, "%s", text);
    d->ended = true;
    wake(d);
}

static const struct ht_tunnel_callbacks tunnel_calls = {.size = sizeof tunnel_calls,
                                                        .connected = on_tunnel_up,
                                                        .bound = on_tunnel_bound,
                                                        .bind_failed = on_bind_failed,
                                                        .latency = on_latency,
                                                        .ended = on_ended};

static bool try_upgrade(struct doctor *d) {
    begin(d, STEP_UPGRADE);
    int rc = ht_tunnel_connect(d->tunnel);
    bool up = rc == HT_TUNNEL_OK && wait_for(d, &d->connected);
    if (!up && d->end_error == HT_TUNNEL_EAUTH) {
        find(d, CLI_OK, "", "a kit answers");
        begin(d, STEP_TOKEN);
        return fail(d, OPT_EXIT_AUTH,
                    !d->has_token            ? CLI_GIVE_A_TOKEN
                    : d->access.stored_token ? CLI_STORED_TOKEN
                                             : "check --token-file or HOODY_TUNNEL_TOKEN with whoever runs the kit",
                    d->text);
    }
    if (!up)
        return fail(d, d->ended ? ht_exit_status(d->end_error) : OPT_EXIT_GAVE_UP, "",
                    d->ended ? d->text : "the kit did not answer in time");
    find(d, CLI_OK, "", "%s opened a session", d->server[0] ? d->server : "the kit");
    begin(d, STEP_TOKEN);
    if (d->has_token)
        find(d, CLI_OK, "", "the kit takes it%s%s", d->user[0] ? ", for " : "", d->user);
    else
        find(d, CLI_SKIPPED, "", "none is shown, and the kit wants none");
    return true;
}

static bool try_bind(struct doctor *d) {
    struct ht_errmsg err;
    char target[32];
    begin(d, STEP_BIND);
    if (!(d->sample = cli_sample_start(d->loop, &err)))
        return fail(d, OPT_EXIT_FAILURE, "", err.text);
    snprintf(target, sizeof target, "127.0.0.1:%u", cli_sample_port(d->sample));
    const struct ht_bind_options b = {.size = sizeof b, .kind = HT_EXPOSE_HTTP, .target = target, .label = "doctor"};
    if (ht_tunnel_bind(d->tunnel, &b) < 0)
        return fail(d, OPT_EXIT_BIND, "", ht_tunnel_last_error());
    if (!wait_for(d, &d->bound))
        return fail(d, d->ended ? ht_exit_status(d->end_error) : OPT_EXIT_BIND, "",
                    d->ended ? d->text : "the kit did not answer in time");
    if (d->refused)
        return fail(d, OPT_EXIT_BIND, "whoever runs the kit knows its limits and who may expose", d->text);
    if (d->port)
        find(d, CLI_OK, "", "the kit gave port %u", d->port);
    else
        find(d, CLI_OK, "", "the kit serves it at its public port");
    return true;
}

/* ---- a way through it ---- */

static void on_head(void *ctx, uint16_t status) { ((struct doctor *)ctx)->status = status; }

static int on_piece(void *ctx, struct ht_slice piece) {
    struct doctor *d = ctx;
    d->body += piece.n;
    return d->body > SAMPLE_MAX ? HT_ELIMIT : HT_OK;
}

static void on_done(void *ctx, int rc, const char *text) {
    struct doctor *d = ctx;
    d->err = rc;
    snprintf(d->text, sizeof d->text, "%s", text);
    d->over = true;
    wake(d);
}

/* Asks for the service where visitors find it. HT_OK, or an error with `text`. */
static int visit(struct doctor *d) {
    static const struct web_request_ops ops = {.head = on_head, .piece = on_piece, .done = on_done};
    struct driver_url u;
    struct ht_errmsg err;
    struct web_request *r;
    if (driver_url_parse(&u, d->url_text, NULL, &err) < 0) {
        snprintf(d->text, sizeof d->text, "%s", err.text);
        return HT_EINVAL;
    }
    const struct web_ask ask = {.host = u.host,
                                .port = u.port,
                                .tls = u.tls,
                                .via = driver_host_is_local(u.host) ? NULL : d->via,
                                .ca = d->access.ca,
                                .host_field = u.host_field,
                                .path = u.path,
                                .timeout_ms = d->o->timeout_ms};
    d->over = false;
    int rc = web_request_start(&r, d->loop, &ask, &ops, d, &err);
    if (rc < 0) {
        snprintf(d->text, sizeof d->text, "%s", err.text);
        return rc;
    }
    while (!d->over && !d->ended)
        io_loop_run(d->loop);
    web_request_destroy(&r);
    if (d->err == HT_OK && d->status != 200) {
        snprintf(d->text, sizeof d->text, "%s answered %u", d->url_text, d->status);
        return HT_EPROTO;
    }
    return d->err;
}

static bool try_way(struct doctor *d) {
    char took[CLI_HUMAN] = "";
    begin(d, STEP_WAY);
    bool local = driver_host_is_local(d->url.host), has_url = strncmp(d->url_text, "http", 4) == 0;
    int rc = has_url ? visit(d) : HT_OK;
    if (d->ended)
        return fail(d, ht_exit_status(d->end_error), "", d->text);
    if (d->rtt_us)
        cli_human_us(d->rtt_us, took);
    if (has_url && rc == HT_OK)
        find(d, CLI_OK, "", "a request to %s came back through the kit and this machine", d->url_text);
    else if (has_url && local)
        return fail(d, OPT_EXIT_FAILURE, "the tunnel stands, and its port does not answer", d->text);
    else if (has_url)
        find(d, CLI_WARNING,
             "visitors reach that URL another way: its name, edge or certificate may have to be looked at",
             "%s; a PING came back in %s", d->text, *took ? took : "no time that was measured");
    else if (*took)
        find(d, CLI_OK, "", "a PING came back in %s; the port is the container's, and could not be tried from here",
             took);
    else
        find(d, CLI_WARNING, "",
             "no PING was measured, and the port is the container's: it could not be tried from here");
    return true;
}

static void part(struct doctor *d) {
    bool never = false;
    if (d->tunnel && d->connected && !d->ended) {
        ht_tunnel_close(d->tunnel);
        (void)wait_for(d, &never);
    }
    ht_tunnel_destroy(&d->tunnel);
    cli_sample_stop(&d->sample);
}

/* ---- the command ---- */

/* The tunnel is made first: it checks the options, and the proxy's credentials are wiped from the arguments behind it.
 */
static int prepare(struct doctor *d) {
    char token[WIRE_LIMIT_MAX_TOKEN + 1] = "", auth[WIRE_LIMIT_MAX_TOKEN + 1] = "";
    struct ht_errmsg err;
    uint64_t patience = d->o->timeout_ms;
    struct ht_tunnel_options o = {.size = sizeof o,
                                  .token = token,
                                  .connect_timeout_ms = (uint32_t)patience,
                                  .retry_for_ms = HT_NO_RETRY,
                                  .measure_every_ms = MEASURE_MS,
                                  .headers = d->o->headers,
                                  .n_headers = d->o->n_headers,
                                  .client_id = ""};
    int status = OPT_EXIT_CONFIG;
    if (cli_access(&d->access, token, &err) < 0 || cli_proxy_put(&o, auth, &err) < 0) {
        cli_complain("%s", err.text);
    } else {
        o.url = d->access.url;
        o.ca = d->access.ca;
        o.pin = d->access.pin;
        d->has_token = *token != '\0';
        int rc = driver_create_on(d->loop, &d->tunnel, &o, &tunnel_calls, d);
        status = rc < 0 ? ht_exit_status(rc) : OPT_EXIT_OK;
        if (rc < 0)
            cli_complain("%s", ht_tunnel_last_error());
        else if (driver_url_parse(&d->url, o.url, WIRE_CONNECT_PATH, &err) < 0 ||
                 cli_proxy_for(&d->url, &d->via, &err) < 0) {
            cli_complain("%s", err.text);
            status = OPT_EXIT_USAGE;
        }
    }
    explicit_bzero(token, sizeof token);
    explicit_bzero(auth, sizeof auth);
    return status;
}

int cmd_doctor(int argc, char **argv) {
    static bool (*const steps[])(struct doctor *) = {try_name,    try_tcp,  try_proxy, try_tls,
                                                     try_upgrade, try_bind, try_way};
    struct opt_doctor o;
    struct ht_errmsg err;
    int rc = opt_doctor_parse(&o, argc, argv, &err);
    if (rc != 0)
        return cli_parse_result(rc, OPT_CMD_DOCTOR, &err);
    CLI_PROXY(o);
    ht_log_setup(STDERR_FILENO, HT_LOG_ERROR, HT_LOG_TEXT);
    struct doctor d = {.o = &o, .loop = io_loop_create(), .access = CLI_ACCESS(o)};
    if (!d.loop) {
        cli_complain("%s", ht_err_text(HT_ENOMEM));
        rc = OPT_EXIT_FAILURE;
    } else {
        io_timer_init(d.loop, &d.limit, on_limit);
        for (unsigned i = 0; i < N_STEPS; i++)
            d.found[i].name = step_names[i];
        rc = prepare(&d);
        for (size_t i = 0; rc == OPT_EXIT_OK && i < HT_ARRAY_LEN(steps); i++)
            if (!steps[i](&d))
                break;
        part(&d);
        if (rc == OPT_EXIT_OK)
            rc = cli_checks_tell(d.found, N_STEPS, o.json, o.color);
        io_loop_destroy(&d.loop);
    }
    opt_doctor_free(&o);
    return rc;
}
