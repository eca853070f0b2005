/* requests list, requests show, requests replay: the inspector of a running driver on the command line. */
#include "cli/cli.h"

#include "base/clock.h"
#include "driver/place.h"
#include "json/json.h"

#include <cjson/cJSON.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define API "/api/v1/inspector"
#define INSPECTORS_MAX 16
#define BODY_SHOWN 65536
#define POLL_US 100000

/* ---- which inspector ---- */

struct place {
    char host[300], host_field[320], token[256];
    uint16_t port;
    uint64_t timeout_ms;
};

/* Takes http://HOST:PORT/#TOKEN apart. */
static int place_of(struct place *p, const char *url, struct ht_errmsg *err) {
    static const char scheme[] = "http://";
    const char *host = url + sizeof scheme - 1, *hash = strchr(url, '#');
    bool v6 = false;
    if (strncmp(url, scheme, sizeof scheme - 1) != 0 || !hash || !hash[1] || strlen(hash + 1) >= sizeof p->token)
        return ht_fail(err, HT_EINVAL,
                       "the address of an inspector is http://HOST:PORT/#TOKEN, as the driver prints it");
    size_t n = strcspn(host, "/#");
    struct ht_slice authority = ht_slice_of(host, n);
    const char *colon = memrchr(authority.p, ':', authority.n);
    char *end = NULL;
    unsigned long port = colon ? strtoul(colon + 1, &end, 10) : 0;
    if (!colon || end != host + n || port == 0 || port > 65535 || n >= sizeof p->host_field || colon == host)
        return ht_fail(err, HT_EINVAL, "the address of the inspector has no port");
    v6 = *host == '[';
    size_t name = (size_t)(colon - host) - (v6 ? 2 : 0);
    if (name >= sizeof p->host)
        return ht_fail(err, HT_EINVAL, "the address of the inspector is too long");
    snprintf(p->host, sizeof p->host, "%.*s", (int)name, host + v6);
    snprintf(p->host_field, sizeof p->host_field, "%.*s", (int)n, host);
    snprintf(p->token, sizeof p->token, "%s", hash + 1);
    p->port = (uint16_t)port;
    return HT_OK;
}

/* The one that is named, or else the only one that runs. 0, or an exit status after a complaint. */
static int find_place(struct place *p, const char *url, uint64_t timeout_ms) {
    struct driver_inspector list[INSPECTORS_MAX];
    struct ht_errmsg err;
    p->timeout_ms = timeout_ms;
    if (!url) {
        size_t n = driver_inspectors(list, INSPECTORS_MAX);
        if (n == 0) {
            cli_complain(
                "no driver of this user runs with --inspect; `hoody-tunnel expose 3000 --inspect 4040` does, and "
                "--inspector names one elsewhere");
            return OPT_EXIT_GAVE_UP;
        }
        if (n > 1) {
            cli_complain("%zu drivers run with --inspect; name one with --inspector:", n);
            for (size_t i = 0; i < n; i++)
                cli_complain("  process %ld: %s", list[i].pid, list[i].url);
            return OPT_EXIT_USAGE;
        }
        url = list[0].url;
    }
    if (place_of(p, url, &err) == HT_OK)
        return OPT_EXIT_OK;
    cli_complain("%s", err.text);
    return OPT_EXIT_USAGE;
}

/* ---- asking ---- */

static cJSON *parse(const struct ht_buf *body) {
    static const struct json_limits limits = {.max_depth = 16, .max_keys = JSON_MAX_KEYS};
    const char *text = (const char *)ht_buf_head(body);
    if (ht_buf_size(body) == 0 || json_validate(text, ht_buf_size(body), &limits, NULL) < 0)
        return NULL;
    return cJSON_ParseWithLength(text, ht_buf_size(body));
}

static int complain_answer(const struct web_answer *a) {
    cJSON *tree = parse(&a->body);
    const cJSON *error = cJSON_GetObjectItemCaseSensitive(tree, "error");
    if (a->status == 401)
        cli_complain("the inspector refused the token; the driver makes a new one each time it starts");
    else
        cli_complain("%s", cJSON_IsString(error) ? error->valuestring : "the server at this address is no inspector");
    cJSON_Delete(tree);
    return a->status == 401 ? OPT_EXIT_AUTH : OPT_EXIT_FAILURE;
}

/* Asks, and has a 2xx answer when it returns OPT_EXIT_OK; the caller frees answer->body then. */
static int ask(const struct place *p, const char *method, const char *path, struct web_answer *answer) {
    char whole[512];
    struct ht_errmsg err;
    snprintf(whole, sizeof whole, API "%s", path);
    const struct web_ask a = {.host = p->host,
                              .port = p->port,
                              .host_field = p->host_field,
                              .method = method,
                              .path = whole,
                              .user_agent = "hoody-tunnel/" HT_VERSION,
                              .token = p->token,
                              .timeout_ms = p->timeout_ms};
    if (web_fetch(&a, answer, &err) < 0) {
        cli_complain("the inspector cannot be reached: %s", err.text);
        return OPT_EXIT_GAVE_UP;
    }
    if (answer->status >= 200 && answer->status <= 299)
        return OPT_EXIT_OK;
    int status = complain_answer(answer);
    ht_buf_free(&answer->body);
    return status;
}

static int ask_json(const struct place *p, const char *method, const char *path, cJSON **tree) {
    struct web_answer answer;
    int status = ask(p, method, path, &answer);
    *tree = NULL;
    if (status != OPT_EXIT_OK)
        return status;
    *tree = parse(&answer.body);
    ht_buf_free(&answer.body);
    if (cJSON_IsObject(*tree))
        return OPT_EXIT_OK;
    cJSON_Delete(*tree);
    *tree = NULL;
    cli_complain("the server at this address is no inspector: its answer is no JSON object");
    return OPT_EXIT_FAILURE;
}

/* ---- parts of an exchange ---- */

static const char *text_of(const cJSON *object, const char *name) {
    const cJSON *v = cJSON_GetObjectItemCaseSensitive(object, name);
    return cJSON_IsString(v) ? v->valuestring : "";
}

static double number_of(const cJSON *object, const char *name) {
    const cJSON *v = cJSON_GetObjectItemCaseSensitive(object, name);
    return cJSON_IsNumber(v) ? v->valuedouble : 0;
}

/* "200", "200 left", "running", or the code of what went wrong. */
static void status_text(const cJSON *x, char out[64]) {
    const cJSON *status = cJSON_GetObjectItemCaseSensitive(x, "status");
    const cJSON *error = cJSON_GetObjectItemCaseSensitive(x, "error");
    int n = cJSON_IsNumber(status) ? snprintf(out, 64, "%d", status->valueint) : snprintf(out, 64, "-");
    if (strcmp(text_of(x, "state"), "running") == 0)
        snprintf(out + n, 64 - (size_t)n, " running");
    else if (cJSON_IsObject(error))
        snprintf(out + n, 64 - (size_t)n, " %.40s", text_of(error, "code"));
}

static void time_text(double ms, char out[16]) {
    time_t seconds = (time_t)(ms / 1000);
    struct tm tm;
    if (!localtime_r(&seconds, &tm) || !strftime(out, 16, "%H:%M:%S", &tm))
        snprintf(out, 16, "-");
}

static int print_json(cJSON *tree) {
    char *text = cJSON_PrintUnformatted(tree);
    bool ok = text && puts(text) >= 0 && fflush(stdout) == 0;
    cJSON_free(text);
    if (!ok)
        cli_complain("standard output cannot be written");
    return ok ? OPT_EXIT_OK : OPT_EXIT_FAILURE;
}

/* ---- list ---- */

static bool has_status(const cJSON *x, const char *want) {
    char text[64];
    if (!want)
        return true;
    if (strcmp(want, "error") == 0)
        return strcmp(text_of(x, "state"), "failed") == 0 || number_of(x, "status") >= 400;
    status_text(x, text);
    for (size_t i = 0; i < 3; i++)
        if (!want[i] || (want[i] != 'x' && want[i] != text[i]))
            return false;
    return want[3] == '\0';
}

static bool wanted(const cJSON *x, const struct opt_requests_list *o) {
    return has_status(x, o->status) && (!o->method || strcasecmp(o->method, text_of(x, "method")) == 0) &&
           (!o->path || strcasestr(text_of(x, "target"), o->path));
}

/* Leaves the last ones that are wanted. */
static void keep_wanted(cJSON *list, const struct opt_requests_list *o) {
    for (int i = cJSON_GetArraySize(list), left = (int)o->last; i-- > 0;) {
        if (left > 0 && wanted(cJSON_GetArrayItem(list, i), o))
            left--;
        else
            cJSON_DeleteItemFromArray(list, i);
    }
}

static int add_safe(struct cli_table *t, const char *text) {
    struct ht_buf safe = {0};
    char cut[201];
    snprintf(cut, sizeof cut, "%s", text);
    int rc = cli_put_text(&safe, cut);
    if (rc == HT_OK)
        rc = ht_buf_append(&safe, "", 1);
    if (rc == HT_OK)
        rc = cli_table_cell(t, "%s", (const char *)ht_buf_head(&safe));
    ht_buf_free(&safe);
    return rc;
}

static int add_row(struct cli_table *t, const cJSON *x) {
    char status[64], at[16];
    status_text(x, status);
    time_text(number_of(x, "startedAt"), at);
    int rc = add_safe(t, text_of(x, "id"));
    rc = rc == HT_OK ? cli_table_cell(t, "%s", at) : rc;
    rc = rc == HT_OK ? add_safe(t, text_of(x, "method")) : rc;
    rc = rc == HT_OK ? add_safe(t, status) : rc;
    rc = rc == HT_OK ? cli_table_cell(t, "%.0f ms", number_of(x, "durationMs")) : rc;
    rc = rc == HT_OK ? cli_table_cell(t, "%.0f", number_of(x, "responseBytes")) : rc;
    rc = rc == HT_OK ? add_safe(t, text_of(x, "visitor")) : rc;
    return rc == HT_OK ? add_safe(t, text_of(x, "target")) : rc;
}

static int print_list(const cJSON *list) {
    static const char *const heading[] = {"ID", "TIME", "METHOD", "STATUS", "DURATION", "BYTES", "FROM", "TARGET"};
    struct cli_table t = {.columns = HT_ARRAY_LEN(heading)};
    const cJSON *x;
    int rc = cli_table_row(&t, heading);
    cJSON_ArrayForEach(x, list) {
        if (rc == HT_OK)
            rc = add_row(&t, x);
    }
    return cli_table_end(&t, rc);
}

int cmd_requests_list(int argc, char **argv) {
    struct opt_requests_list o;
    struct ht_errmsg err;
    struct place p;
    cJSON *tree = NULL;
    int rc = opt_requests_list_parse(&o, argc, argv, &err);
    if (rc != 0)
        return cli_parse_result(rc, OPT_CMD_REQUESTS_LIST, &err);
    int status = find_place(&p, o.inspector, o.timeout_ms);
    if (status == OPT_EXIT_OK)
        status = ask_json(&p, "GET", "/state", &tree);
    cJSON *list = cJSON_GetObjectItemCaseSensitive(tree, "exchanges");
    if (status == OPT_EXIT_OK && !cJSON_IsArray(list)) {
        cli_complain("the server at this address is no inspector");
        status = OPT_EXIT_FAILURE;
    }
    if (status == OPT_EXIT_OK) {
        keep_wanted(list, &o);
        status = o.json ? print_json(list) : print_list(list);
    }
    cJSON_Delete(tree);
    opt_requests_list_free(&o);
    return status;
}

/* ---- show ---- */

/* Bytes of a stranger, safe for a terminal; line ends stay. */
static int put_block(struct ht_buf *b, struct ht_slice text) {
    int rc = HT_OK;
    while (rc == HT_OK && text.n) {
        const char *end = memchr(text.p, '\n', text.n);
        size_t n = end ? (size_t)(end - text.p) : text.n, line = n;
        if (line && text.p[line - 1] == '\r')
            line--;
        char *copy = strndup(text.p, line);
        rc = copy ? cli_put_text(b, copy) : HT_ENOMEM;
        free(copy);
        if (rc == HT_OK && end)
            rc = ht_buf_append_str(b, "\n");
        text = ht_slice_of(text.p + n + (end != NULL), text.n - n - (end != NULL));
    }
    return rc;
}

static int put_line(struct ht_buf *b, const char *text) {
    int rc = cli_put_text(b, text);
    return rc == HT_OK ? ht_buf_append_str(b, "\n") : rc;
}

static int put_fields(struct ht_buf *b, const cJSON *fields) {
    const cJSON *f;
    int rc = HT_OK;
    cJSON_ArrayForEach(f, fields) {
        rc = rc == HT_OK ? cli_put_text(b, text_of(f, "name")) : rc;
        rc = rc == HT_OK ? ht_buf_append_str(b, ": ") : rc;
        rc = rc == HT_OK ? put_line(b, text_of(f, "value")) : rc;
    }
    return rc == HT_OK ? ht_buf_append_str(b, "\n") : rc;
}

static int put_body(struct ht_buf *b, const struct place *p, const char *id, const char *side, int *status) {
    char path[128];
    struct web_answer answer;
    snprintf(path, sizeof path, "/exchanges/%s/%s/body", id, side);
    *status = ask(p, "GET", path, &answer);
    if (*status != OPT_EXIT_OK)
        return HT_OK;
    size_t n = ht_buf_size(&answer.body);
    struct ht_slice body = ht_slice_of((const char *)ht_buf_head(&answer.body), ht_min(n, (size_t)BODY_SHOWN));
    int rc = body.n && memchr(body.p, '\0', body.n) ? ht_buf_printf(b, "(%zu bytes that are no text)", n)
                                                    : put_block(b, body);
    if (rc == HT_OK && n > BODY_SHOWN)
        rc = ht_buf_printf(b, "\n... %zu bytes more", n - BODY_SHOWN);
    if (rc == HT_OK && n)
        rc = ht_buf_append_str(b, "\n\n");
    ht_buf_free(&answer.body);
    return rc;
}

static int put_side(struct ht_buf *b, const struct place *p, const cJSON *x, const char *side, bool secrets,
                    int *status) {
    const cJSON *m = cJSON_GetObjectItemCaseSensitive(x, side);
    char path[128];
    cJSON *plain = NULL;
    if (!cJSON_IsObject(m))
        return HT_OK;
    if (secrets) {
        snprintf(path, sizeof path, "/exchanges/%s/%s/reveal", text_of(x, "id"), side);
        *status = ask_json(p, "POST", path, &plain);
        if (*status != OPT_EXIT_OK)
            return HT_OK;
    }
    int rc = put_fields(b, cJSON_GetObjectItemCaseSensitive(plain ? plain : m, "headers"));
    cJSON_Delete(plain);
    return rc == HT_OK ? put_body(b, p, text_of(x, "id"), side, status) : rc;
}

static int put_exchange(struct ht_buf *b, const struct place *p, const cJSON *x, bool secrets, int *status) {
    char text[64];
    const cJSON *error = cJSON_GetObjectItemCaseSensitive(x, "error");
    int rc = cli_put_text(b, text_of(x, "method"));
    rc = rc == HT_OK ? ht_buf_append_str(b, " ") : rc;
    rc = rc == HT_OK ? put_line(b, text_of(x, "target")) : rc;
    rc = rc == HT_OK ? put_side(b, p, x, "request", secrets, status) : rc;
    if (rc < 0 || *status != OPT_EXIT_OK)
        return rc;
    status_text(x, text);
    rc = ht_buf_printf(b, "%s, %.1f ms\n", text, number_of(x, "durationMs"));
    if (rc == HT_OK && cJSON_IsObject(error)) {
        rc = cli_put_text(b, text_of(error, "title"));
        rc = rc == HT_OK ? ht_buf_append_str(b, ": ") : rc;
        rc = rc == HT_OK ? put_line(b, text_of(error, "message")) : rc;
    }
    return rc == HT_OK ? put_side(b, p, x, "response", secrets, status) : rc;
}

static int show(const struct place *p, const cJSON *x, bool secrets) {
    struct ht_buf b = {0};
    int status = OPT_EXIT_OK, rc = put_exchange(&b, p, x, secrets, &status);
    if (rc == HT_OK && status == OPT_EXIT_OK &&
        (fwrite(ht_buf_head(&b), 1, ht_buf_size(&b), stdout) != ht_buf_size(&b) || fflush(stdout) != 0))
        rc = HT_EIO;
    if (rc < 0)
        cli_complain("%s", ht_err_text(rc));
    ht_buf_free(&b);
    return rc < 0 ? OPT_EXIT_FAILURE : status;
}

/* An id goes into a path as it is. */
static bool good_id(const char *id) {
    bool good = *id && strlen(id) <= 20 && strspn(id, "0123456789") == strlen(id);
    if (!good)
        cli_complain("\"%.40s\" is no id; `%s requests list` shows them", id, cli_program);
    return good;
}

int cmd_requests_show(int argc, char **argv) {
    struct opt_requests_show o;
    struct ht_errmsg err;
    struct place p;
    char path[64];
    cJSON *tree = NULL;
    int rc = opt_requests_show_parse(&o, argc, argv, &err);
    if (rc != 0)
        return cli_parse_result(rc, OPT_CMD_REQUESTS_SHOW, &err);
    int status = good_id(o.args[0]) ? find_place(&p, o.inspector, o.timeout_ms) : OPT_EXIT_USAGE;
    if (status == OPT_EXIT_OK) {
        snprintf(path, sizeof path, "/exchanges/%s", o.args[0]);
        status = ask_json(&p, "GET", path, &tree);
    }
    if (status == OPT_EXIT_OK)
        status = o.json ? print_json(tree) : show(&p, tree, o.secrets);
    cJSON_Delete(tree);
    opt_requests_show_free(&o);
    return status;
}

/* ---- replay ---- */

/* Waits until the replay has ended. *x becomes its last state. */
static int await(const struct place *p, cJSON **x) {
    char path[64];
    uint64_t end = ht_now_ms() + p->timeout_ms;
    snprintf(path, sizeof path, "/exchanges/%.20s", text_of(*x, "id"));
    while (strcmp(text_of(*x, "state"), "running") == 0 && ht_now_ms() < end) {
        usleep(POLL_US);
        cJSON *now = NULL;
        int status = ask_json(p, "GET", path, &now);
        if (status != OPT_EXIT_OK)
            return status;
        cJSON_Delete(*x);
        *x = now;
    }
    return OPT_EXIT_OK;
}

static int replay(const struct place *p, const char *id, bool json) {
    char path[64], text[64];
    cJSON *x = NULL;
    snprintf(path, sizeof path, "/exchanges/%s/replay", id);
    int status = ask_json(p, "POST", path, &x);
    if (status == OPT_EXIT_OK)
        status = await(p, &x);
    if (status == OPT_EXIT_OK && json) {
        status = print_json(x);
    } else if (status == OPT_EXIT_OK) {
        struct ht_buf b = {0};
        status_text(x, text);
        int rc =
            ht_buf_printf(&b, "%.20s as %.20s: %s, %.1f ms, ", id, text_of(x, "id"), text, number_of(x, "durationMs"));
        rc = rc == HT_OK ? cli_put_text(&b, text_of(x, "method")) : rc;
        rc = rc == HT_OK ? ht_buf_append_str(&b, " ") : rc;
        rc = rc == HT_OK ? put_line(&b, text_of(x, "target")) : rc;
        if (rc < 0 || fwrite(ht_buf_head(&b), 1, ht_buf_size(&b), stdout) != ht_buf_size(&b) || fflush(stdout) != 0)
            status = OPT_EXIT_FAILURE;
        ht_buf_free(&b);
    }
    if (status == OPT_EXIT_OK && strcmp(text_of(x, "state"), "done") != 0) {
        cli_complain(strcmp(text_of(x, "state"), "running") == 0
                         ? "the service has not answered in time; --timeout gives it more"
                         : "the service did not answer");
        status = OPT_EXIT_FAILURE;
    }
    cJSON_Delete(x);
    return status;
}

int cmd_requests_replay(int argc, char **argv) {
    struct opt_requests_replay o;
    struct ht_errmsg err;
    struct place p;
    int rc = opt_requests_replay_parse(&o, argc, argv, &err);
    if (rc != 0)
        return cli_parse_result(rc, OPT_CMD_REQUESTS_REPLAY, &err);
    int status = OPT_EXIT_OK;
    for (size_t i = 0; i < o.n_args && status == OPT_EXIT_OK; i++)
        status = good_id(o.args[i]) ? OPT_EXIT_OK : OPT_EXIT_USAGE;
    if (status == OPT_EXIT_OK)
        status = find_place(&p, o.inspector, o.timeout_ms);
    for (size_t i = 0; i < o.n_args && status == OPT_EXIT_OK; i++)
        status = replay(&p, o.args[i], o.json);
    opt_requests_replay_free(&o);
    return status;
}
