/* events: reads GET /events until the command is ended, and prints a line for each event of the kit. */
#include "cli/cli.h"

#include "base/clock.h"
#include "driver/driver.h"
#include "json/json.h"

#include <cjson/cJSON.h>
#include <signal.h>
#include <stdlib.h>
#include <unistd.h>

/* A kit without events sends a comment every 15 seconds. After this time without a byte it counts as lost. */
#define SILENCE_MS 60000
#define BODY_MAX 4096 /* most bytes of an error's body that are read */

struct tail {
    struct io_loop *loop;
    struct cli_output out;
    struct web_request *request;
    struct web_sse sse;
    struct cli_ask ask;
    bool stored_token; /* login's */
    struct ht_buf error_body;
    struct io_timer again;
    struct io_signal interrupt, terminate, hangup;
    uint64_t retry_for_ms, lost_at, up_at;
    unsigned attempts;
    unsigned long long last_id;
    uint16_t status; /* of the present answer; 0: none yet */
    uint16_t told;   /* the status of the last refusal that was reported */
    bool json, color, reached, lost, retry_first;
    int exit_status;
};

static void finish(struct tail *t, int status) {
    t->exit_status = status;
    io_loop_break(t->loop);
}

/* ---- an event as a line ---- */

/* Appends a value: a plain word as it is, any other text as a JSON string. */
static int put_text(struct ht_buf *b, const char *text) {
    bool plain = *text != '\0';
    for (const char *p = text; *p; p++)
        plain = plain && (unsigned char)*p > ' ' && (unsigned char)*p < 0x7f && *p != '"' && *p != '\\';
    return plain ? ht_buf_append_str(b, text) : cli_json_string(b, text);
}

static int put_member(struct ht_buf *b, const cJSON *m) {
    int rc = ht_buf_append_str(b, "  ");
    if (rc == HT_OK)
        rc = put_text(b, m->string);
    if (rc == HT_OK)
        rc = ht_buf_append_str(b, "=");
    if (rc == HT_OK && cJSON_IsString(m))
        return put_text(b, m->valuestring);
    if (rc == HT_OK && cJSON_IsNumber(m))
        return ht_buf_printf(b, "%.15g", m->valuedouble);
    return rc == HT_OK ? ht_buf_append_str(b, cJSON_IsTrue(m) ? "yes" : cJSON_IsFalse(m) ? "no" : "?") : rc;
}

/* "2026-02-01T10:00:11Z  bind  sessionId=S-1  port=3000  ...": all members that the kit sends, in its order. */
static int put_event(struct ht_buf *b, const cJSON *event, bool color) {
    const cJSON *time = cJSON_GetObjectItemCaseSensitive(event, "time"), *m;
    const cJSON *type = cJSON_GetObjectItemCaseSensitive(event, "event");
    int rc = put_text(b, cJSON_IsString(time) ? time->valuestring : "-");
    if (rc == HT_OK)
        rc = ht_buf_append_str(b, color ? "  \033[1m" : "  ");
    if (rc == HT_OK)
        rc = put_text(b, cJSON_IsString(type) ? type->valuestring : "-");
    if (rc == HT_OK && color)
        rc = ht_buf_append_str(b, "\033[0m");
    cJSON_ArrayForEach(m, event) {
        if (rc == HT_OK && m != time && m != type && !cJSON_IsNull(m))
            rc = put_member(b, m);
    }
    return rc;
}

static void show(struct tail *t, struct ht_slice data) {
    static const struct json_limits limits = {.max_depth = 8, .max_keys = JSON_MAX_KEYS, .refuse_nul = true};
    struct ht_buf line = {0};
    cJSON *event = NULL;
    int rc = json_validate(data.p, data.n, &limits, NULL);
    if (rc == HT_OK) {
        event = cJSON_ParseWithLength(data.p, data.n);
        rc = cJSON_IsObject(event) ? HT_OK : HT_EPROTO;
    }
    if (rc == HT_OK)
        rc = t->json ? ht_buf_append(&line, data.p, data.n) : put_event(&line, event, t->color);
    if (rc == HT_OK)
        rc = ht_buf_append_str(&line, "\n");
    if (rc == HT_OK)
        cli_output_line(&t->out, ht_buf_slice(&line));
    else
        cli_complain("an event was left out: %s", rc == HT_EPROTO ? "it is not a JSON object" : ht_err_text(rc));
    cJSON_Delete(event);
    ht_buf_free(&line);
}

/* A kit numbers its events. A gap shows how many were missed; a smaller number means that the kit was restarted. */
static void on_event(void *ctx, struct ht_slice data, const char *id_text) {
    struct tail *t = ctx;
    unsigned long long id = strtoull(id_text, NULL, 10);
    if (t->last_id > 0 && id > t->last_id + 1)
        cli_complain("%llu events were missed", id - t->last_id - 1);
    t->last_id = id;
    show(t, data);
}

/* ---- the answer ---- */

static void on_head(void *ctx, uint16_t status) {
    struct tail *t = ctx;
    t->status = status;
    if (status != 200)
        return;
    if (t->lost)
        cli_complain("reading the kit's events again");
    t->lost = false;
    t->told = 0;
    t->reached = true;
    t->up_at = io_now_ms(t->loop);
}

static int on_piece(void *ctx, struct ht_slice piece) {
    struct tail *t = ctx;
    if (t->status == 200)
        return web_sse_feed(&t->sse, piece, on_event, t);
    size_t room = BODY_MAX - ht_buf_size(&t->error_body);
    return ht_buf_append(&t->error_body, piece.p, ht_min(piece.n, room));
}

/* Complains with the error that the body has. */
static void complain_status(struct tail *t) {
    cJSON *tree = NULL;
    const char *body = (const char *)ht_buf_head(&t->error_body);
    size_t n = ht_buf_size(&t->error_body);
    if (n > 0 && json_validate(body, n, &(struct json_limits){8, JSON_MAX_KEYS, true}, NULL) == HT_OK)
        tree = cJSON_ParseWithLength(body, n);
    const cJSON *error = cJSON_GetObjectItemCaseSensitive(tree, "error");
    cli_complain_status(t->status, cJSON_IsString(error) ? error->valuestring : "", t->ask.token, t->stored_token);
    cJSON_Delete(tree);
}

/* True when another attempt makes sense after a refusal: once the kit was reached, something in between may refuse, for
 * a while. */
static bool may_wait(const struct tail *t) { return t->reached || t->retry_first; }

static void wait_or_give_up(struct tail *t, const char *why, uint64_t min_ms) {
    uint64_t now = io_now_ms(t->loop), random;
    if (!t->lost) {
        t->lost_at = now;
        if (t->up_at > 0 && now - t->up_at >= DRIVER_STEADY_MS)
            t->attempts = 0;
    }
    bool for_ever = t->retry_for_ms >= OPT_RETRY_FOR_MAX;
    if (!may_wait(t) || (!for_ever && now - t->lost_at >= t->retry_for_ms)) {
        cli_complain("%s", why);
        finish(t, OPT_EXIT_GAVE_UP);
        return;
    }
    ht_random_bytes(&random, sizeof random);
    uint64_t wait = driver_backoff(t->attempts++, min_ms, WIRE_LIMIT_RETRY_MAX, random);
    if (!for_ever)
        wait = ht_min64(wait, t->lost_at + t->retry_for_ms - now);
    if (!t->lost)
        cli_complain("%s; trying again", why);
    t->lost = true;
    io_timer_set(&t->again, wait);
}

static void on_done(void *ctx, int rc, const char *why) {
    struct tail *t = ctx;
    if (rc == HT_OK && t->status != 200) {
        if (t->status != t->told || !may_wait(t)) /* a refusal that repeats is reported once */
            complain_status(t);
        t->told = t->status;
        if (may_wait(t))
            wait_or_give_up(t, "no events for now",
                            t->status < 500 ? DRIVER_REFUSED_WAITS * WIRE_LIMIT_RETRY_MIN : WIRE_LIMIT_RETRY_MIN);
        else
            finish(t, t->status == 401 ? OPT_EXIT_AUTH : OPT_EXIT_FAILURE);
    } else {
        wait_or_give_up(t, rc < 0 ? why : "the kit ended its events", WIRE_LIMIT_RETRY_MIN);
    }
}

static void ask_again(struct io_timer *timer) {
    static const struct web_request_ops ops = {.head = on_head, .piece = on_piece, .done = on_done};
    struct tail *t = ht_container_of(timer, struct tail, again);
    struct ht_errmsg err;
    web_request_destroy(&t->request);
    web_sse_free(&t->sse);
    t->sse = (struct web_sse){0};
    ht_buf_consume(&t->error_body, ht_buf_size(&t->error_body));
    t->status = 0;
    int rc = cli_request_start(&t->request, t->loop, &t->ask, &ops, t, &err);
    if (rc < 0) {
        cli_complain("%s", err.text);
        finish(t, rc == HT_EINVAL ? OPT_EXIT_USAGE : rc == HT_ETLS ? OPT_EXIT_CONFIG : OPT_EXIT_FAILURE);
    }
}

/* ---- the command ---- */

static void on_interrupt(struct io_signal *s, int signo) {
    struct tail *t =
        signo == SIGINT ? ht_container_of(s, struct tail, interrupt) : ht_container_of(s, struct tail, terminate);
    finish(t, OPT_EXIT_OK);
}

static void on_hangup(struct io_signal *s, int signo) {
    struct tail *t = ht_container_of(s, struct tail, hangup);
    (void)signo;
    if (cli_terminal_gone())
        finish(t, OPT_EXIT_OK);
    else if (io_timer_active(&t->again))
        io_timer_set(&t->again, 0);
}

static int run(struct tail *t) {
    t->loop = io_loop_create();
    if (!t->loop) {
        cli_complain("%s", ht_err_text(HT_ENOMEM));
        return OPT_EXIT_FAILURE;
    }
    cli_output_init(&t->out, t->loop);
    cli_terminal_gone(); /* the first call stores whether there is a terminal */
    io_timer_init(t->loop, &t->again, ask_again);
    io_signal_start(t->loop, &t->interrupt, SIGINT, on_interrupt);
    io_signal_start(t->loop, &t->terminate, SIGTERM, on_interrupt);
    io_signal_start(t->loop, &t->hangup, SIGHUP, on_hangup);
    io_timer_set(&t->again, 0);
    io_loop_run(t->loop);
    web_request_destroy(&t->request);
    io_timer_stop(&t->again);
    io_block_end_signals();
    cli_output_finish(&t->out);
    io_signal_stop(&t->interrupt);
    io_signal_stop(&t->terminate);
    io_signal_stop(&t->hangup);
    io_loop_destroy(&t->loop);
    web_sse_free(&t->sse);
    ht_buf_free(&t->error_body);
    return t->exit_status;
}

int cmd_events(int argc, char **argv) {
    struct opt_events o;
    struct ht_errmsg err;
    char token[WIRE_LIMIT_MAX_TOKEN + 1];
    int rc = opt_events_parse(&o, argc, argv, &err);
    if (rc != 0)
        return cli_parse_result(rc, OPT_CMD_EVENTS, &err);
    CLI_PROXY(o);
    struct cli_access access = CLI_ACCESS(o);
    if (cli_access(&access, token, &err) < 0) {
        cli_complain("%s", err.text);
        rc = OPT_EXIT_CONFIG;
    } else {
        struct tail t = {
            .ask = {.url = access.url,
                    .ca = access.ca,
                    .pin = access.pin,
                    .token = token,
                    .resource = "/events",
                    .timeout_ms = o.timeout_ms,
                    .quiet_ms = SILENCE_MS},
            .stored_token = access.stored_token,
            .retry_for_ms = o.retry_for_ms,
            .retry_first = o.set_retry_for && o.retry_for_ms > 0,
            .json = o.json,
            .color = cli_use_color(o.color, STDOUT_FILENO),
        };
        rc = run(&t);
    }
    explicit_bzero(token, sizeof token);
    opt_events_free(&o);
    return rc;
}
