/* list, sessions list, sessions kill, bindings list, health, ready, metrics: the kit's admin API as tables. */
#include "cli/cli.h"

#include "json/json.h"

#include <cjson/cJSON.h>
#include <ctype.h>
#include <stdlib.h>
#include <string.h>

/* ---- reading an answer: members that are missing or have another type are read as empty ---- */

static const char *text_of(const cJSON *object, const char *name) {
    const cJSON *v = cJSON_GetObjectItemCaseSensitive(object, name);
    return cJSON_IsString(v) ? v->valuestring : "-";
}

static unsigned long long number_of(const cJSON *object, const char *name) {
    const cJSON *v = cJSON_GetObjectItemCaseSensitive(object, name);
    return cJSON_IsNumber(v) && v->valuedouble > 0 ? (unsigned long long)v->valuedouble : 0;
}

static const cJSON *list_of(const cJSON *object, const char *name) {
    const cJSON *v = cJSON_GetObjectItemCaseSensitive(object, name);
    return cJSON_IsArray(v) ? v : NULL;
}

/* cJSON accepts much that is not JSON, so the text is checked strictly first. */
static cJSON *parse(const struct ht_buf *body) {
    static const struct json_limits limits = {.max_depth = 16, .max_keys = JSON_MAX_KEYS, .refuse_nul = true};
    const char *text = (const char *)ht_buf_head(body);
    if (ht_buf_size(body) == 0 || json_validate(text, ht_buf_size(body), &limits, NULL) < 0)
        return NULL;
    return cJSON_ParseWithLength(text, ht_buf_size(body));
}

static int metrics_json(struct ht_buf *body);

/* ---- what all of these commands do ---- */

struct admin_command {
    struct cli_ask ask;
    struct cli_access access;
    bool json;
    int (*show)(const cJSON *answer);  /* prints the answer; NULL: it is not JSON, and is printed as it is */
    const char *session;               /* sessions kill: the session's id, for the message about a 404; else NULL */
    const char *must;                  /* a member, or a text if it is not JSON, that the answer of every kit has */
    bool (*well)(const cJSON *answer); /* true: the exit status is 0; NULL: it always is */
};

static int answer_failed(const struct admin_command *c, const struct web_answer *a) {
    cJSON *tree = parse(&a->body);
    const cJSON *message = cJSON_GetObjectItemCaseSensitive(tree, "message");
    if (!cJSON_IsString(message))
        message = cJSON_GetObjectItemCaseSensitive(tree, "error");
    const char *said = cJSON_IsString(message) ? message->valuestring : "";
    if (a->status == 404 && c->session && *said)
        cli_complain("the kit has no session %s, or is closing it already; `%s sessions list` names them", c->session,
                     cli_program);
    else
        cli_complain_status(a->status, said, c->ask.token, c->access.stored_token);
    cJSON_Delete(tree);
    return a->status == 401 ? OPT_EXIT_AUTH : OPT_EXIT_FAILURE;
}

static int print_raw(const struct ht_buf *body) {
    size_t n = ht_buf_size(body);
    bool newline = n > 0 && ht_buf_head(body)[n - 1] == '\n';
    bool ok = fwrite(ht_buf_head(body), 1, n, stdout) == n && (newline || putchar('\n') != EOF) && fflush(stdout) == 0;
    if (!ok)
        cli_complain("standard output cannot be written");
    return ok ? OPT_EXIT_OK : OPT_EXIT_FAILURE;
}

static int show_answer(const struct admin_command *c, struct web_answer *a) {
    if (!c->show) {
        if (!memmem(ht_buf_head(&a->body), ht_buf_size(&a->body), c->must, strlen(c->must))) {
            cli_complain("the server at this URL is not a kit: its answer has no %s...", c->must);
            return OPT_EXIT_FAILURE;
        }
        if (c->json && metrics_json(&a->body) < 0) {
            cli_complain("the server at this URL is not a kit: its answer is no list of metrics");
            return OPT_EXIT_FAILURE;
        }
        return print_raw(&a->body);
    }
    cJSON *tree = parse(&a->body);
    if (!cJSON_IsObject(tree)) {
        cJSON_Delete(tree);
        cli_complain("the server at this URL is not a kit: its answer is not JSON");
        return OPT_EXIT_FAILURE;
    }
    if (!cJSON_HasObjectItem(tree, c->must)) {
        cJSON_Delete(tree);
        cli_complain("the server at this URL is not a kit: its answer has no \"%s\"", c->must);
        return OPT_EXIT_FAILURE;
    }
    int status = c->json ? print_raw(&a->body) : c->show(tree);
    if (status == OPT_EXIT_OK && (fflush(stdout) != 0 || (c->well && !c->well(tree))))
        status = OPT_EXIT_FAILURE;
    cJSON_Delete(tree);
    return status;
}

static int run_admin(struct admin_command *c) {
    char token[WIRE_LIMIT_MAX_TOKEN + 1];
    struct ht_errmsg err;
    struct web_answer answer;
    if (cli_access(&c->access, token, &err) < 0) {
        cli_complain("%s", err.text);
        return OPT_EXIT_CONFIG;
    }
    c->ask.url = c->access.url;
    c->ask.ca = c->access.ca;
    c->ask.pin = c->access.pin;
    c->ask.token = token;
    bool nobody_said = !c->access.set_url && !c->access.stored_url;
    int rc = cli_admin_ask(&c->ask, &answer, &err);
    int status;
    if (rc < 0) {
        cli_complain("%s%s", err.text, nobody_said && rc != HT_EINVAL ? CLI_NAME_THE_KIT : "");
        status = rc == HT_EINVAL ? OPT_EXIT_USAGE : rc == HT_ETLS ? OPT_EXIT_CONFIG : OPT_EXIT_GAVE_UP;
    } else if (answer.status < 200 || answer.status > 299) {
        status = answer_failed(c, &answer);
    } else {
        status = show_answer(c, &answer);
    }
    explicit_bzero(token, sizeof token);
    if (rc == HT_OK)
        ht_buf_free(&answer.body);
    return status;
}

/* ---- list ---- */

/* Appends the names, with commas between. */
static int put_names(struct ht_buf *b, const cJSON *names) {
    const cJSON *one;
    int rc = HT_OK;
    cJSON_ArrayForEach(one, names) {
        if (rc == HT_OK && cJSON_IsString(one))
            rc = ht_buf_printf(b, "%s%s", ht_buf_size(b) ? "," : "", one->valuestring);
    }
    return rc;
}

static int put_ports(struct ht_buf *b, const cJSON *bindings) {
    const cJSON *one;
    int rc = HT_OK;
    cJSON_ArrayForEach(one, bindings) {
        unsigned long long port = number_of(one, "containerPort");
        if (rc == HT_OK && port)
            rc = ht_buf_printf(b, "%s%llu", ht_buf_size(b) ? "," : "", port);
        if (rc == HT_OK)
            rc = put_names(b, list_of(one, "names"));
    }
    if (rc == HT_OK && ht_buf_size(b) == 0)
        rc = ht_buf_append_str(b, "-");
    return rc == HT_OK ? ht_buf_append(b, "", 1) : rc;
}

static int add_tunnel(struct cli_table *t, const cJSON *one) {
    struct ht_buf expose = {0}, pull = {0};
    char streams[24];
    snprintf(streams, sizeof streams, "%llu", number_of(one, "activeStreams"));
    int rc = put_ports(&expose, list_of(one, "exposeBindings"));
    if (rc == HT_OK)
        rc = put_ports(&pull, list_of(one, "pullBindings"));
    if (rc == HT_OK)
        rc = cli_table_row(t, (const char *[]){text_of(one, "sessionId"), text_of(one, "peerAddr"),
                                               text_of(one, "protocol"), streams, (const char *)expose.data,
                                               (const char *)pull.data});
    ht_buf_free(&expose);
    ht_buf_free(&pull);
    return rc;
}

static int show_list(const cJSON *answer) {
    static const char *const heading[] = {"SESSION", "DRIVER", "PROTOCOL", "STREAMS", "EXPOSE", "PULL"};
    struct cli_table t = {.columns = HT_ARRAY_LEN(heading)};
    const cJSON *one, *sessions = list_of(answer, "sessions");
    int rc = cli_table_row(&t, heading);
    cJSON_ArrayForEach(one, sessions) {
        if (rc == HT_OK)
            rc = add_tunnel(&t, one);
    }
    int status = cJSON_GetArraySize(sessions) > 0 ? cli_table_end(&t, rc) : OPT_EXIT_OK;
    cli_table_free(&t);
    printf("%s%d sessions, %llu parked, %llu bindings, %llu streams, %llu descriptors free\n",
           cJSON_GetArraySize(sessions) > 0 ? "\n" : "", cJSON_GetArraySize(sessions),
           number_of(answer, "orphanedSessions"), number_of(answer, "totalBindings"), number_of(answer, "totalStreams"),
           number_of(answer, "fdPermitsAvailable"));
    return status;
}

/* ---- sessions list, bindings list ---- */

#define STATE_TEXT 64

/* The state of a session or binding. Older kits do not say it, and list only those that are live. */
static const char *state_of(const cJSON *one, char text[STATE_TEXT]) {
    if (!cJSON_IsTrue(cJSON_GetObjectItemCaseSensitive(one, "parked")))
        return "live";
    snprintf(text, STATE_TEXT, "parked until %s", text_of(one, "parkedUntil"));
    return text;
}

static int add_session(struct cli_table *t, const cJSON *one) {
    char streams[64], sockets[24], bindings[24], state[STATE_TEXT];
    snprintf(streams, sizeof streams, "%llu/%llu", number_of(one, "activeStreams"), number_of(one, "maxStreams"));
    snprintf(sockets, sizeof sockets, "%llu", number_of(one, "connectionsGranted"));
    snprintf(bindings, sizeof bindings, "%d", cJSON_GetArraySize(list_of(one, "bindings")));
    bool v2 = cJSON_IsTrue(cJSON_GetObjectItemCaseSensitive(one, "isV2"));
    return cli_table_row(t, (const char *[]){text_of(one, "sessionId"), text_of(one, "peerAddr"), v2 ? "v2" : "v1",
                                             sockets, streams, bindings, state_of(one, state)});
}

static int show_sessions(const cJSON *answer) {
    static const char *const heading[] = {"SESSION", "DRIVER", "PROTOCOL", "SOCKETS", "STREAMS", "BINDINGS", "STATE"};
    struct cli_table t = {.columns = HT_ARRAY_LEN(heading)};
    const cJSON *one;
    int rc = cli_table_row(&t, heading);
    cJSON_ArrayForEach(one, list_of(answer, "sessions")) {
        if (rc == HT_OK)
            rc = add_session(&t, one);
    }
    return cli_table_end(&t, rc);
}

static int add_binding(struct cli_table *t, const cJSON *one) {
    char port[24] = "-", id[24], state[STATE_TEXT];
    struct ht_buf names = {0};
    if (number_of(one, "port"))
        snprintf(port, sizeof port, "%llu", number_of(one, "port"));
    snprintf(id, sizeof id, "%llu", number_of(one, "bindId"));
    int rc = put_names(&names, list_of(one, "names"));
    if (rc == HT_OK)
        rc = ht_buf_append(&names, "", 1);
    if (rc == HT_OK)
        rc = cli_table_row(t, (const char *[]){port, text_of(one, "mode"), text_of(one, "kind"),
                                               text_of(one, "bindAddr"), text_of(one, "label"), state_of(one, state),
                                               id, text_of(one, "sessionId"), (const char *)names.data});
    ht_buf_free(&names);
    return rc;
}

static int show_bindings(const cJSON *answer) {
    static const char *const heading[] = {"PORT",  "MODE", "KIND",    "ADDRESS", "LABEL",
                                          "STATE", "ID",   "SESSION", "NAMES"};
    struct cli_table t = {.columns = HT_ARRAY_LEN(heading) - 1};
    const cJSON *one;
    cJSON_ArrayForEach(one, list_of(answer, "bindings")) {
        if (cJSON_GetArraySize(list_of(one, "names")) > 0)
            t.columns = HT_ARRAY_LEN(heading);
    }
    int rc = cli_table_row(&t, heading);
    cJSON_ArrayForEach(one, list_of(answer, "bindings")) {
        if (rc == HT_OK)
            rc = add_binding(&t, one);
    }
    return cli_table_end(&t, rc);
}

/* ---- status ---- */

/* Where a binding is reached: its URL, or else its port, or else its names. */
static int put_place(struct ht_buf *b, const cJSON *one) {
    const cJSON *url = cJSON_GetObjectItemCaseSensitive(one, "url");
    bool pull = strcmp(text_of(one, "mode"), "pull") == 0;
    unsigned long long port = number_of(one, "port");
    int rc = HT_OK;
    if (cJSON_IsString(url) && *url->valuestring)
        rc = ht_buf_append_str(b, url->valuestring);
    else if (port && pull)
        rc = ht_buf_printf(b, strchr(text_of(one, "bindAddr"), ':') ? "[%s]:%llu" : "%s:%llu", text_of(one, "bindAddr"),
                           port);
    else if (port)
        rc = ht_buf_printf(b, "port %llu", port);
    if (rc == HT_OK)
        rc = put_names(b, list_of(one, "names"));
    return rc == HT_OK ? ht_buf_append(b, "", 1) : rc;
}

static int add_mine(struct cli_table *t, const cJSON *one) {
    char state[STATE_TEXT];
    struct ht_buf place = {0};
    int rc = put_place(&place, one);
    if (rc == HT_OK)
        rc = cli_table_row(t, (const char *[]){(const char *)place.data, text_of(one, "mode"), state_of(one, state),
                                               text_of(one, "label")});
    ht_buf_free(&place);
    return rc;
}

static int show_status(const cJSON *answer) {
    static const char *const heading[] = {"WHERE", "MODE", "STATE", "LABEL"};
    struct cli_table t = {.columns = HT_ARRAY_LEN(heading)};
    const cJSON *one, *mine = list_of(answer, "bindings");
    if (cJSON_GetArraySize(mine) == 0) {
        printf("nothing is open; `%s 3000` opens this machine's port 3000\n", cli_program);
        return OPT_EXIT_OK;
    }
    int rc = cli_table_row(&t, heading);
    cJSON_ArrayForEach(one, mine) {
        if (rc == HT_OK)
            rc = add_mine(&t, one);
    }
    return cli_table_end(&t, rc);
}

static bool none_is_parked(const cJSON *answer) {
    const cJSON *one;
    cJSON_ArrayForEach(one, list_of(answer, "bindings")) {
        if (cJSON_IsTrue(cJSON_GetObjectItemCaseSensitive(one, "parked")))
            return false;
    }
    return true;
}

/* ---- health ---- */

static int show_health(const cJSON *answer) {
    struct cli_table t = {.columns = 2};
    char rss[CLI_HUMAN], fds[24], pid[24];
    cli_human_bytes(number_of(cJSON_GetObjectItemCaseSensitive(answer, "memory"), "rss"), rss);
    snprintf(fds, sizeof fds, "%llu", number_of(answer, "fds"));
    snprintf(pid, sizeof pid, "%llu", number_of(answer, "pid"));
    const char *const rows[][2] = {
        {"status", text_of(answer, "status")},
        {"service", text_of(answer, "service")},
        {"built", text_of(answer, "built")},
        {"started", text_of(answer, "started")},
        {"memory", rss},
        {"descriptors", fds},
        {"process", pid},
        {"address", text_of(answer, "ip")},
    };
    int rc = HT_OK;
    for (size_t i = 0; i < HT_ARRAY_LEN(rows) && rc == HT_OK; i++)
        rc = cli_table_row(&t, rows[i]);
    int status = cli_table_end(&t, rc);
    bool ok = strcmp(text_of(answer, "status"), "ok") == 0;
    return status != OPT_EXIT_OK ? status : ok ? OPT_EXIT_OK : OPT_EXIT_FAILURE;
}

/* ---- sessions kill ---- */

static int show_closing(const cJSON *answer) {
    const char *id = text_of(answer, "sessionId");
    struct cli_table t = {.columns = 1};
    return cli_table_end(&t, cli_table_cell(&t, "%s is %s", id, text_of(answer, "status")));
}

/* The resource of a session. Reserved characters of the id are percent-encoded (RFC 3986 2.1). */
static int session_path(struct ht_buf *b, const char *id, unsigned grace_ms) {
    int rc = ht_buf_append_str(b, "/sessions/");
    for (const char *p = id; *p && rc == HT_OK; p++)
        rc = isalnum((unsigned char)*p) || strchr("-._~", *p) ? ht_buf_append(b, p, 1)
                                                              : ht_buf_printf(b, "%%%02X", (unsigned char)*p);
    return rc == HT_OK ? ht_buf_printf(b, "?grace_ms=%u%c", grace_ms, 0) : rc;
}

int cmd_sessions_kill(int argc, char **argv) {
    struct opt_sessions_kill o;
    struct ht_errmsg err;
    struct ht_buf path = {0};
    int rc = opt_sessions_kill_parse(&o, argc, argv, &err);
    if (rc != 0)
        return cli_parse_result(rc, OPT_CMD_SESSIONS_KILL, &err);
    CLI_PROXY(o);
    rc = session_path(&path, o.args[0], o.grace_ms);
    if (rc < 0) {
        cli_complain("%s", ht_err_text(rc));
        rc = OPT_EXIT_FAILURE;
    } else {
        struct admin_command c = {
            .ask = {.method = "DELETE", .resource = (const char *)path.data, .timeout_ms = o.timeout_ms},
            .access = CLI_ACCESS(o),
            .json = o.json,
            .show = show_closing,
            .session = o.args[0],
            .must = "sessionId",
        };
        rc = run_admin(&c);
    }
    ht_buf_free(&path);
    opt_sessions_kill_free(&o);
    return rc;
}

/* ---- ready: the answer is the exit status ---- */

static int show_ready(const cJSON *answer) {
    (void)answer;
    return puts("ready") < 0 ? OPT_EXIT_FAILURE : OPT_EXIT_OK;
}

int cmd_ready(int argc, char **argv) {
    struct opt_ready o;
    struct ht_errmsg err;
    int rc = opt_ready_parse(&o, argc, argv, &err);
    if (rc != 0)
        return cli_parse_result(rc, OPT_CMD_READY, &err);
    CLI_PROXY(o);
    if (o.state_file) {
        rc = cli_state_ask(o.state_file, o.json);
        opt_ready_free(&o);
        return rc;
    }
    struct admin_command c = {
        .ask = {.resource = "/readyz", .at_root = true, .timeout_ms = o.timeout_ms},
        .access = {.url = o.url, .ca = o.ca, .pin = o.pin, .set_url = o.set_url},
        .json = o.json,
        .show = show_ready,
        .must = "started",
    };
    rc = run_admin(&c);
    opt_ready_free(&o);
    /* A kit that cannot be reached is not ready. Programs that run health checks expect 0 or 1. */
    return rc == OPT_EXIT_GAVE_UP ? OPT_EXIT_FAILURE : rc;
}

/* ---- metrics as JSON: one object per sample of the text ---- */

/* `labels` is the text between the braces, such as a="x",b="y". The escapes \\, \" and \n are those of JSON. */
static int put_labels(struct ht_buf *b, struct ht_slice labels) {
    int rc = ht_buf_append_str(b, ",\"labels\":{");
    bool in_value = false, in_name = false;
    for (size_t i = 0; i < labels.n && rc == HT_OK; i++) {
        char c = labels.p[i];
        if (!in_value && !in_name && c != ',') {
            in_name = true;
            rc = ht_buf_append_str(b, "\"");
        }
        if (in_name && c == '=') {
            in_name = false;
            in_value = true;
            rc = ht_buf_append_str(b, "\":\"");
            i++; /* skips the opening quote */
        } else if (in_value && c == '\\' && i + 1 < labels.n) {
            rc = ht_buf_append(b, labels.p + i++, 2);
        } else {
            in_value = in_value && c != '"';
            rc = rc == HT_OK ? ht_buf_append(b, &c, 1) : rc;
        }
    }
    return rc == HT_OK ? ht_buf_append_str(b, "}") : rc;
}

static int put_sample(struct ht_buf *b, struct ht_slice line, bool first) {
    const char *space = memchr(line.p, ' ', line.n), *open = memchr(line.p, '{', line.n);
    const char *close = line.p + line.n;
    while (open && close > open && close[-1] != '}')
        close--;
    struct ht_slice name = ht_slice_of(line.p, (size_t)((open ? open : space ? space : line.p) - line.p));
    const char *value = open ? close : space;
    if (!value || name.n == 0 || (open && close <= open))
        return HT_EPROTO;
    char number[64];
    snprintf(number, sizeof number, "%.*s", (int)ht_min((size_t)(line.p + line.n - value), sizeof number - 1), value);
    int rc = ht_buf_printf(b, "%s{\"name\":\"%.*s\"", first ? "" : ",\n", HT_SLICE_ARG(name));
    if (rc == HT_OK)
        rc = put_labels(b, open ? ht_slice_of(open + 1, (size_t)(close - open) - 2) : ht_slice_of(NULL, 0));
    double v = strtod(number, NULL);
    bool finite = v - v == 0; /* NaN and the infinities have no JSON form */
    if (rc == HT_OK)
        rc = finite ? ht_buf_printf(b, ",\"value\":%.17g}", v) : ht_buf_append_str(b, ",\"value\":null}");
    return rc;
}

static int metrics_json(struct ht_buf *body) {
    struct ht_buf out = {0};
    struct ht_slice rest = ht_buf_slice(body);
    bool first = true;
    int rc = ht_buf_append_str(&out, "{\"metrics\":[\n");
    while (rest.n > 0 && rc == HT_OK) {
        const char *end = memchr(rest.p, '\n', rest.n);
        struct ht_slice line = ht_slice_of(rest.p, end ? (size_t)(end - rest.p) : rest.n);
        rest = ht_slice_of(rest.p + line.n + (end ? 1 : 0), rest.n - line.n - (end ? 1 : 0));
        if (line.n == 0 || line.p[0] == '#')
            continue;
        rc = put_sample(&out, line, first);
        first = false;
    }
    if (rc == HT_OK)
        rc = ht_buf_append_str(&out, "\n]}\n");
    if (rc == HT_OK) {
        struct ht_buf old = *body;
        *body = out;
        ht_buf_free(&old);
    } else {
        ht_buf_free(&out);
    }
    return rc;
}

/* ---- the commands ---- */

/* Each command has its own structure, but these options have the same names in all of them. */
#define ADMIN_COMMAND(NAME, ID, RESOURCE, SHOW, MUST, WELL)                                                            \
    int cmd_##NAME(int argc, char **argv) {                                                                            \
        struct opt_##NAME o;                                                                                           \
        struct ht_errmsg err;                                                                                          \
        int rc = opt_##NAME##_parse(&o, argc, argv, &err);                                                             \
        if (rc != 0)                                                                                                   \
            return cli_parse_result(rc, ID, &err);                                                                     \
        CLI_PROXY(o);                                                                                                  \
        struct admin_command c = {                                                                                     \
            .ask = {.resource = RESOURCE, .timeout_ms = o.timeout_ms},                                                 \
            .access = CLI_ACCESS(o),                                                                                   \
            .json = o.json,                                                                                            \
            .show = SHOW,                                                                                              \
            .must = MUST,                                                                                              \
            .well = WELL,                                                                                              \
        };                                                                                                             \
        rc = run_admin(&c);                                                                                            \
        opt_##NAME##_free(&o);                                                                                         \
        return rc;                                                                                                     \
    }

ADMIN_COMMAND(list, OPT_CMD_LIST, "/tunnels", show_list, "totalBindings", NULL)
ADMIN_COMMAND(status, OPT_CMD_STATUS, "/bindings", show_status, "bindings", none_is_parked)
ADMIN_COMMAND(sessions_list, OPT_CMD_SESSIONS_LIST, "/sessions", show_sessions, "sessions", NULL)
ADMIN_COMMAND(bindings_list, OPT_CMD_BINDINGS_LIST, "/bindings", show_bindings, "bindings", NULL)
ADMIN_COMMAND(health, OPT_CMD_HEALTH, "/health", show_health, "userAgent", NULL)
ADMIN_COMMAND(metrics, OPT_CMD_METRICS, "/metrics", NULL, "hoody_tunnel_", NULL)
