/* edge logs, edge stats: the log of an edge on this machine, asked at the Unix socket in its folder. */
#include "cli/cli.h"

#include "json/json.h"

#include <cjson/cJSON.h>
#include <errno.h>
#include <limits.h>
#include <signal.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#define SILENCE_MS 60000 /* an edge without requests sends a comment every 15 seconds */
#define AGAIN_MS 1000    /* before it is asked again where it was lost */
#define ERROR_MAX 4096
#define LAST_MAX 1000

/* ---- questions ---- */

/* Appends &name=value, percent-encoded, if there is a value. */
static int put_param(struct ht_buf *b, const char *name, const char *value) {
    int rc = value ? ht_buf_printf(b, "&%s=", name) : HT_OK;
    for (; rc == HT_OK && value && *value; value++) {
        bool plain = ht_is_digit(*value) || (ht_lower(*value) >= 'a' && ht_lower(*value) <= 'z') ||
                     (*value && strchr("-._~", *value));
        rc = ht_buf_printf(b, plain ? "%c" : "%%%02X", plain ? *value : (unsigned char)*value);
    }
    return rc;
}

static int put_filter(struct ht_buf *b, const struct opt_edge_logs *o) {
    const struct {
        const char *name, *value;
    } params[] = {
        {"level", o->level ? o->level : NULL}, {"kind", o->kind}, {"method", o->method}, {"serviceName", o->service},
        {"container", o->container},           {"host", o->host}, {"alias", o->alias}};
    int rc = HT_OK;
    for (size_t i = 0; rc == HT_OK && i < HT_ARRAY_LEN(params); i++)
        rc = put_param(b, params[i].name, params[i].value);
    return rc == HT_OK ? ht_buf_append(b, "", 1) : rc;
}

static cJSON *parse(const char *text, size_t n) {
    static const struct json_limits limits = {.max_depth = 16, .max_keys = JSON_MAX_KEYS};
    return n && json_validate(text, n, &limits, NULL) == HT_OK ? cJSON_ParseWithLength(text, n) : NULL;
}

/* The exit status for an answer that is none. */
static int complain_answer(unsigned status, const struct ht_buf *body) {
    cJSON *tree = parse((const char *)ht_buf_head(body), ht_buf_size(body));
    const cJSON *message = cJSON_GetObjectItemCaseSensitive(tree, "message");
    cli_complain("%s", cJSON_IsString(message) ? message->valuestring : "what answers there is no edge");
    cJSON_Delete(tree);
    return status == 400 ? OPT_EXIT_USAGE : OPT_EXIT_FAILURE;
}

/* OPT_EXIT_OK: *tree is the answer, and *data what is in it. */
static int ask(const char *socket, const char *path, uint64_t timeout_ms, cJSON **tree, const cJSON **data) {
    struct web_answer answer;
    struct ht_errmsg err;
    const struct web_ask a = {.socket = socket,
                              .host = "edge",
                              .host_field = "edge",
                              .path = path,
                              .user_agent = "hoody-tunnel/" HT_VERSION,
                              .timeout_ms = timeout_ms};
    if (web_fetch(&a, &answer, &err) < 0) {
        cli_complain("no edge answers at %s: %s; --folder names the folder of a running one", socket, err.text);
        return OPT_EXIT_GAVE_UP;
    }
    *tree = parse((const char *)ht_buf_head(&answer.body), ht_buf_size(&answer.body));
    *data = cJSON_GetObjectItemCaseSensitive(*tree, "data");
    int status =
        answer.status == 200 && cJSON_IsObject(*data) ? OPT_EXIT_OK : complain_answer(answer.status, &answer.body);
    ht_buf_free(&answer.body);
    if (status != OPT_EXIT_OK) {
        cJSON_Delete(*tree);
        *tree = NULL;
    }
    return status;
}

/* ---- rows ---- */

static const char *text_of(const cJSON *row, const char *name) {
    const cJSON *v = cJSON_GetObjectItemCaseSensitive(row, name);
    return cJSON_IsString(v) ? v->valuestring : "";
}

static double number_of(const cJSON *row, const char *name, double none) {
    const cJSON *v = cJSON_GetObjectItemCaseSensitive(row, name);
    return cJSON_IsNumber(v) ? v->valuedouble : none;
}

static void put_time(double ms, char out[32]) {
    struct tm tm;
    time_t s = ms > 0 && ms < 253402300799e3 ? (time_t)(ms / 1000) : 0;
    char day[24];
    strftime(day, sizeof day, "%Y-%m-%dT%H:%M:%S", gmtime_r(&s, &tm));
    snprintf(out, 32, "%s.%03dZ", day, s ? (int)(ms - 1000.0 * (double)s) : 0);
}

/* "2026-02-01T10:00:11.000Z  200  GET  me-3000.example.com/path  203.0.113.50  12 ms". What is said in place of a
 * request, or why it was refused, is the end. */
static int put_row(struct ht_buf *b, const cJSON *row, bool color) {
    const char *level = text_of(row, "level"), *message = text_of(row, "message"), *reason = text_of(row, "reason");
    const char *paint = strcmp(level, "error") == 0 ? "\033[31m" : strcmp(level, "warn") == 0 ? "\033[33m" : "";
    char time[32], status[8] = "-";
    double ms = number_of(row, "totalMs", -1), code = number_of(row, "status", -1);
    put_time(number_of(row, "time", 0), time);
    if (code >= 0 && code < 1000)
        snprintf(status, sizeof status, "%.0f", code);
    int rc = ht_buf_printf(b, "%s  %s%s%s", time, color ? paint : "", *message ? level : status,
                           color && *paint ? "\033[0m" : "");
    const char *const parts[] = {"  ", text_of(row, "method"), "  ", text_of(row, "host"), text_of(row, "url"),
                                 "  ", text_of(row, "client")};
    for (size_t i = 0; rc == HT_OK && i < HT_ARRAY_LEN(parts); i++)
        if (!*message || i > 4)
            rc = cli_put_text(b, parts[i]);
    if (rc == HT_OK && ms >= 0)
        rc = ht_buf_printf(b, "  %.0f ms", ms);
    if (rc == HT_OK && *reason)
        rc = ht_buf_append_str(b, "  refused: ");
    if (rc == HT_OK && *message)
        rc = ht_buf_append_str(b, "  ");
    return rc == HT_OK ? cli_put_text(b, *message ? message : reason) : rc;
}

/* Appends the row as a line. */
static int put_line(struct ht_buf *b, const cJSON *row, bool json, bool color) {
    char *text = json ? cJSON_PrintUnformatted(row) : NULL;
    int rc = !json ? put_row(b, row, color) : text ? ht_buf_append_str(b, text) : HT_ENOMEM;
    cJSON_free(text);
    return rc == HT_OK ? ht_buf_append_str(b, "\n") : rc;
}

static int print_rows(const cJSON *rows, bool json, bool color) {
    const cJSON *row;
    int rc = HT_OK;
    bool ok = true;
    cJSON_ArrayForEach(row, rows) {
        struct ht_buf line = {0};
        if (rc == HT_OK)
            rc = put_line(&line, row, json, color);
        ok = ok && (rc < 0 || fwrite(ht_buf_head(&line), 1, ht_buf_size(&line), stdout) == ht_buf_size(&line));
        ht_buf_free(&line);
    }
    if (rc < 0)
        cli_complain("%s", ht_err_text(rc));
    else if (!ok || fflush(stdout) != 0)
        cli_complain("standard output cannot be written");
    return rc == HT_OK && ok ? OPT_EXIT_OK : OPT_EXIT_FAILURE;
}

/* ---- following ---- */

struct tail {
    struct io_loop *loop;
    struct cli_output out;
    struct web_request *request;
    struct web_sse sse;
    struct io_timer again;
    struct io_signal interrupt, terminate;
    struct ht_buf error;
    const char *socket, *filter;
    uint64_t timeout_ms;
    unsigned long long last;
    uint16_t status;
    bool json, color, lost;
    int exit_status;
};

static void finish(struct tail *t, int status) {
    t->exit_status = status;
    io_loop_break(t->loop);
}

static void on_event(void *ctx, struct ht_slice data, const char *id) {
    struct tail *t = ctx;
    struct ht_buf line = {0};
    cJSON *row = parse(data.p, data.n);
    t->last = strtoull(id, NULL, 10);
    if (!cJSON_IsObject(row) || put_line(&line, row, t->json, t->color) < 0)
        cli_complain("a row was left out");
    else
        cli_output_line(&t->out, ht_buf_slice(&line));
    cJSON_Delete(row);
    ht_buf_free(&line);
}

static void on_head(void *ctx, uint16_t status) {
    struct tail *t = ctx;
    t->status = status;
    if (status == 200 && t->lost)
        cli_complain("following the log again");
    t->lost = t->lost && status != 200;
}

static int on_piece(void *ctx, struct ht_slice piece) {
    struct tail *t = ctx;
    if (t->status == 200)
        return web_sse_feed(&t->sse, piece, on_event, t);
    return ht_buf_append(&t->error, piece.p, ht_min(piece.n, ERROR_MAX - ht_buf_size(&t->error)));
}

static void on_done(void *ctx, int rc, const char *why) {
    struct tail *t = ctx;
    if (rc == HT_OK && t->status != 200) {
        finish(t, complain_answer(t->status, &t->error));
        return;
    }
    if (!t->lost)
        cli_complain("the log is away (%s); trying again", rc < 0 ? why : "the edge has ended it");
    t->lost = true;
    io_timer_set(&t->again, AGAIN_MS);
}

static void follow_from(struct io_timer *timer) {
    static const struct web_request_ops ops = {.head = on_head, .piece = on_piece, .done = on_done};
    struct tail *t = ht_container_of(timer, struct tail, again);
    struct ht_errmsg err;
    struct ht_buf path = {0};
    web_request_destroy(&t->request);
    web_sse_free(&t->sse);
    t->sse = (struct web_sse){0};
    t->status = 0;
    int rc = ht_buf_printf(&path, "/_logs/stream?afterId=%llu%s", t->last, t->filter);
    if (rc == HT_OK)
        rc = ht_buf_append(&path, "", 1);
    const struct web_ask a = {.socket = t->socket,
                              .host = "edge",
                              .host_field = "edge",
                              .path = rc == HT_OK ? (const char *)ht_buf_head(&path) : "",
                              .user_agent = "hoody-tunnel/" HT_VERSION,
                              .timeout_ms = t->timeout_ms,
                              .quiet_ms = SILENCE_MS};
    if (rc < 0)
        ht_fail(&err, rc, "%s", ht_err_text(rc));
    else
        rc = web_request_start(&t->request, t->loop, &a, &ops, t, &err);
    ht_buf_free(&path);
    if (rc < 0) {
        cli_complain("%s", err.text);
        finish(t, OPT_EXIT_FAILURE);
    }
}

static void on_signal(struct io_signal *s, int signo) {
    finish(signo == SIGINT ? ht_container_of(s, struct tail, interrupt) : ht_container_of(s, struct tail, terminate),
           OPT_EXIT_OK);
}

static int follow(struct tail *t) {
    t->loop = io_loop_create();
    if (!t->loop) {
        cli_complain("%s", ht_err_text(HT_ENOMEM));
        return OPT_EXIT_FAILURE;
    }
    cli_output_init(&t->out, t->loop);
    io_timer_init(t->loop, &t->again, follow_from);
    io_signal_start(t->loop, &t->interrupt, SIGINT, on_signal);
    io_signal_start(t->loop, &t->terminate, SIGTERM, on_signal);
    io_timer_set(&t->again, 0);
    io_loop_run(t->loop);
    web_request_destroy(&t->request);
    io_timer_stop(&t->again);
    io_block_end_signals();
    cli_output_finish(&t->out);
    io_signal_stop(&t->interrupt);
    io_signal_stop(&t->terminate);
    io_loop_destroy(&t->loop);
    web_sse_free(&t->sse);
    ht_buf_free(&t->error);
    return t->exit_status;
}

static int run(const struct opt_edge_logs *o, const char *socket, const char *filter) {
    char path[64];
    struct ht_buf whole = {0};
    cJSON *tree = NULL;
    const cJSON *data = NULL;
    bool color = cli_use_color(o->color, STDOUT_FILENO);
    snprintf(path, sizeof path, "/_logs?last=%u", (unsigned)o->last);
    int rc = ht_buf_printf(&whole, "%s%s", path, filter);
    if (rc == HT_OK)
        rc = ht_buf_append(&whole, "", 1);
    int status =
        rc == HT_OK ? ask(socket, (const char *)ht_buf_head(&whole), o->timeout_ms, &tree, &data) : OPT_EXIT_FAILURE;
    ht_buf_free(&whole);
    if (status != OPT_EXIT_OK)
        return status;
    status = print_rows(cJSON_GetObjectItemCaseSensitive(data, "logs"), o->json, color);
    unsigned long long last = (unsigned long long)number_of(data, "lastId", 0);
    cJSON_Delete(tree);
    if (status != OPT_EXIT_OK || !o->follow)
        return status;
    struct tail t = {
        .socket = socket, .filter = filter, .timeout_ms = o->timeout_ms, .last = last, .json = o->json, .color = color};
    return follow(&t);
}

int cmd_edge_logs(int argc, char **argv) {
    struct opt_edge_logs o;
    struct ht_errmsg err;
    struct ht_buf filter = {0};
    char socket[PATH_MAX];
    int rc = opt_edge_logs_parse(&o, argc, argv, &err);
    if (rc != 0)
        return cli_parse_result(rc, OPT_CMD_EDGE_LOGS, &err);
    if (o.last > LAST_MAX) {
        cli_complain("--last %u: the API gives at most %d at a time", (unsigned)o.last, LAST_MAX);
        rc = OPT_EXIT_USAGE;
    } else if ((rc = cli_edge_socket(o.folder, socket)) != OPT_EXIT_OK) {
        /* it was said why */
    } else if (put_filter(&filter, &o) < 0) {
        cli_complain("%s", ht_err_text(HT_ENOMEM));
        rc = OPT_EXIT_FAILURE;
    } else {
        rc = run(&o, socket, (const char *)ht_buf_head(&filter));
    }
    ht_buf_free(&filter);
    opt_edge_logs_free(&o);
    return rc;
}

/* ---- sums ---- */

static int add_service(struct cli_table *t, const cJSON *s) {
    static const char *const counts[] = {"requests", "refused", "warnings", "errors"};
    const char *container = text_of(s, "container"), *name = text_of(s, "serviceName");
    char in[CLI_HUMAN], out[CLI_HUMAN];
    struct ht_buf who = {0};
    double requests = number_of(s, "requests", 0);
    int rc = cli_put_text(&who, *container ? container : text_of(s, "host"));
    if (rc == HT_OK && *container)
        rc = ht_buf_append_str(&who, ".");
    if (rc == HT_OK && *container)
        rc = cli_put_text(&who, name);
    if (rc == HT_OK)
        rc = cli_table_cell(t, "%.*s", (int)ht_buf_size(&who), who.data ? (const char *)ht_buf_head(&who) : "");
    ht_buf_free(&who);
    for (size_t i = 0; rc == HT_OK && i < HT_ARRAY_LEN(counts); i++)
        rc = cli_table_cell(t, "%.0f", number_of(s, counts[i], 0));
    if (rc == HT_OK)
        rc = cli_table_cell(t, "%s", cli_human_bytes((uint64_t)number_of(s, "bytesIn", 0), in));
    if (rc == HT_OK)
        rc = cli_table_cell(t, "%s", cli_human_bytes((uint64_t)number_of(s, "bytesOut", 0), out));
    if (rc == HT_OK)
        rc = cli_table_cell(t, "%.0f ms", requests > 0 ? number_of(s, "totalMs", 0) / requests : 0);
    return rc == HT_OK ? cli_table_cell(t, "%.0f ms", number_of(s, "longestMs", 0)) : rc;
}

static int show_stats(const cJSON *data) {
    static const char *const heading[] = {"SERVICE", "REQUESTS", "REFUSED", "4XX",    "5XX",
                                          "IN",      "OUT",      "MEAN",    "LONGEST"};
    struct cli_table t = {.columns = HT_ARRAY_LEN(heading)};
    char bytes[CLI_HUMAN];
    const cJSON *one, *services = cJSON_GetObjectItemCaseSensitive(data, "services");
    int rc = cli_table_row(&t, heading);
    cJSON_ArrayForEach(one, services) {
        if (rc == HT_OK)
            rc = add_service(&t, one);
    }
    if (rc == HT_OK) {
        cli_table_print(&t, stdout);
        printf("\n%.0f rows in %s; since the edge began %.0f lines were written and %.0f lost\n",
               number_of(data, "rows", 0), cli_human_bytes((uint64_t)number_of(data, "bytes", 0), bytes),
               number_of(data, "written", 0), number_of(data, "lost", 0));
    } else {
        cli_complain("%s", ht_err_text(rc));
    }
    cli_table_free(&t);
    return rc == HT_OK && fflush(stdout) == 0 ? OPT_EXIT_OK : OPT_EXIT_FAILURE;
}

int cmd_edge_stats(int argc, char **argv) {
    struct opt_edge_stats o;
    struct ht_errmsg err;
    char socket[PATH_MAX], path[64];
    cJSON *tree = NULL;
    const cJSON *data = NULL;
    int rc = opt_edge_stats_parse(&o, argc, argv, &err);
    if (rc != 0)
        return cli_parse_result(rc, OPT_CMD_EDGE_STATS, &err);
    rc = cli_edge_socket(o.folder, socket);
    if (rc == OPT_EXIT_OK) {
        snprintf(path, sizeof path, "/_logs/stats?hours=%u", (unsigned)o.hours);
        rc = ask(socket, path, o.timeout_ms, &tree, &data);
    }
    if (rc == OPT_EXIT_OK && o.json) {
        char *text = cJSON_PrintUnformatted(data);
        rc = text && puts(text) >= 0 && fflush(stdout) == 0 ? OPT_EXIT_OK : OPT_EXIT_FAILURE;
        cJSON_free(text);
    } else if (rc == OPT_EXIT_OK) {
        rc = show_stats(data);
    }
    cJSON_Delete(tree);
    opt_edge_stats_free(&o);
    return rc;
}
