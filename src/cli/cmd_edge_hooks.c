/* edge hooks: what the edge does to requests for a container. */
#include "cli/cli.h"

#include "base/buf.h"

#include <cjson/cJSON.h>
#include <stdlib.h>

static const char words[] =
    "the words are list [SERVICE], get SERVICE ID, add SERVICE FILE, set SERVICE ID FILE, move SERVICE ID "
    "POSITION, delete SERVICE [ID], or replace FILE";

struct asking {
    struct cli_edge e;
    char document[128]; /* the path of the hooks */
    char path[256];     /* of what is asked for */
};

/* ---- what goes into a request ---- */

/* Names go into a path: nothing but what a name has may stand there. */
static bool is_name(const char *what, const char *name, const char *chars) {
    if (*name && !name[strspn(name, chars)] && strlen(name) <= 40)
        return true;
    cli_complain("\"%s\" is no %s", name, what);
    return false;
}

/* The path of a service's hooks, or of one of them with `id`. False: they are no names. */
static bool make_path(struct asking *a, const char *service, const char *id, const char *below) {
    bool good =
        is_name("service such as terminal, http or *", service, "abcdefghijklmnopqrstuvwxyz-*") &&
        (!id || is_name("id of a hook, which has a-z, 0-9, - and _", id, "abcdefghijklmnopqrstuvwxyz0123456789-_"));
    if (good)
        snprintf(a->path, sizeof a->path, "%s/%s%s%s%s", a->document, service, id ? "/" : "", id ? id : "", below);
    return good;
}

/* ---- showing ---- */

static char *compact(const cJSON *one, const char *name) {
    const cJSON *v = cJSON_GetObjectItemCaseSensitive(one, name);
    return v ? cJSON_PrintUnformatted(v) : NULL;
}

static int add_hook(struct cli_table *t, const char *service, int position, const cJSON *one) {
    const cJSON *id = cJSON_GetObjectItemCaseSensitive(one, "id");
    char at[16], *match = compact(one, "match"), *actions = compact(one, "actions"), *timeout = compact(one, "timeout");
    snprintf(at, sizeof at, "%d", position);
    const char *const cells[] = {service,
                                 at,
                                 cJSON_IsString(id) ? id->valuestring : "-",
                                 match ? match : "-",
                                 actions ? actions : "-",
                                 timeout ? timeout : "-"};
    int rc = cli_table_row(t, cells);
    cJSON_free(match);
    cJSON_free(actions);
    cJSON_free(timeout);
    return rc;
}

static int add_list(struct cli_table *t, const char *service, const cJSON *list) {
    const cJSON *one;
    int rc = HT_OK, n = 0;
    cJSON_ArrayForEach(one, list) {
        if (rc == HT_OK)
            rc = add_hook(t, service, n++, one);
    }
    return rc;
}

/* One hook, those of a service, or all of them. */
static int add_rows(struct cli_table *t, const cJSON *data) {
    const cJSON *hooks = cJSON_GetObjectItemCaseSensitive(data, "hooks"), *list;
    const cJSON *service = cJSON_GetObjectItemCaseSensitive(data, "service");
    const cJSON *position = cJSON_GetObjectItemCaseSensitive(data, "position");
    const char *name = cJSON_IsString(service) ? service->valuestring : "-";
    int rc = HT_OK;
    if (cJSON_IsArray(hooks))
        return add_list(t, name, hooks);
    if (!cJSON_IsObject(hooks))
        return add_hook(t, name, cJSON_IsNumber(position) ? position->valueint : 0, data);
    cJSON_ArrayForEach(list, hooks) {
        if (rc == HT_OK)
            rc = add_list(t, list->string, list);
    }
    return rc;
}

static int show(const struct asking *a, const cJSON *data) {
    static const char *const heads[] = {"SERVICE", "POSITION", "ID", "MATCH", "ACTIONS", "TIMEOUT"};
    struct cli_table t = {.columns = HT_ARRAY_LEN(heads)};
    const cJSON *version = cJSON_GetObjectItemCaseSensitive(data, "file_version");
    if (a->e.json)
        return cli_edge_print_json(data);
    int rc = cli_table_row(&t, heads);
    if (rc == HT_OK)
        rc = add_rows(&t, data);
    printf("file:v%.0f\n", cJSON_IsNumber(version) ? version->valuedouble : 0);
    if (t.n == t.columns) /* a heading alone says nothing */
        t.n = 0;
    return cli_table_end(&t, rc);
}

/* ---- the words ---- */

static int change(const struct asking *a, const char *method, const char *path, const char *body) {
    cJSON *data = NULL;
    int status = cli_edge_change(&a->e, method, a->document, path, body, &data);
    if (status == OPT_EXIT_OK)
        status = show(a, data);
    cJSON_Delete(data);
    return status;
}

static int show_now(const struct asking *a, const char *path) {
    cJSON *data = NULL;
    int status = cli_edge_ask(&a->e, "GET", path, NULL, NULL, &data);
    if (status == OPT_EXIT_OK)
        status = show(a, data);
    cJSON_Delete(data);
    return status;
}

static int send_file(const struct asking *a, const char *method, const char *path, const char *file) {
    struct ht_buf text = {0};
    int status = cli_edge_read_object(file, &text);
    if (status == OPT_EXIT_OK)
        status = change(a, method, path, (const char *)ht_buf_head(&text));
    ht_buf_free(&text);
    return status;
}

static int move(struct asking *a, const char *service, const char *id, const char *position) {
    char body[64];
    if (!make_path(a, service, id, "/position") || !is_name("position, which counts from 0", position, "0123456789"))
        return OPT_EXIT_USAGE;
    snprintf(body, sizeof body, "{\"position\":%lu}", strtoul(position, NULL, 10));
    return change(a, "PATCH", a->path, body);
}

/* The file has the hooks by service, as `list --json` shows them. */
static int replace(const struct asking *a, const char *file) {
    struct ht_buf text = {0}, body = {0};
    int status = cli_edge_read_object(file, &text);
    cJSON *whole = status == OPT_EXIT_OK ? cJSON_Parse((const char *)ht_buf_head(&text)) : NULL;
    const cJSON *hooks = cJSON_GetObjectItemCaseSensitive(whole, "hooks");
    if (status == OPT_EXIT_OK) {
        char *inner = cJSON_PrintUnformatted(cJSON_IsObject(hooks) ? hooks : whole);
        status = inner && ht_buf_printf(&body, "{\"hooks\":%s}", inner) == HT_OK && ht_buf_append(&body, "", 1) == HT_OK
                     ? change(a, "PUT", a->document, (const char *)ht_buf_head(&body))
                     : OPT_EXIT_FAILURE;
        cJSON_free(inner);
    }
    cJSON_Delete(whole);
    ht_buf_free(&text);
    ht_buf_free(&body);
    return status;
}

static int wrong_words(const char *usage) {
    struct ht_errmsg err;
    return cli_parse_result(ht_fail(&err, HT_EINVAL, "%s", usage), OPT_CMD_EDGE_HOOKS, &err);
}

static int run(struct asking *a, const char *const *args, size_t n) {
    const char *word = n ? args[0] : "list";
    if (strcmp(word, "list") == 0 && n <= 1)
        return show_now(a, a->document);
    if (strcmp(word, "list") == 0 && n == 2)
        return make_path(a, args[1], NULL, "") ? show_now(a, a->path) : OPT_EXIT_USAGE;
    if (strcmp(word, "get") == 0 && n == 3)
        return make_path(a, args[1], args[2], "") ? show_now(a, a->path) : OPT_EXIT_USAGE;
    if (strcmp(word, "add") == 0 && n == 3)
        return make_path(a, args[1], NULL, "") ? send_file(a, "POST", a->path, args[2]) : OPT_EXIT_USAGE;
    if (strcmp(word, "set") == 0 && n == 4)
        return make_path(a, args[1], args[2], "") ? send_file(a, "PUT", a->path, args[3]) : OPT_EXIT_USAGE;
    if (strcmp(word, "move") == 0 && n == 4)
        return move(a, args[1], args[2], args[3]);
    if (strcmp(word, "delete") == 0 && (n == 2 || n == 3))
        return make_path(a, args[1], n == 3 ? args[2] : NULL, "") ? change(a, "DELETE", a->path, NULL) : OPT_EXIT_USAGE;
    if (strcmp(word, "replace") == 0 && n == 2)
        return replace(a, args[1]);
    return wrong_words(words);
}

int cmd_edge_hooks(int argc, char **argv) {
    struct opt_edge_hooks o;
    struct asking a;
    struct ht_errmsg err;
    int rc = opt_edge_hooks_parse(&o, argc, argv, &err);
    if (rc != 0)
        return cli_parse_result(rc, OPT_CMD_EDGE_HOOKS, &err);
    a.e = (struct cli_edge){.folder = o.folder, .if_match = o.if_match, .json = o.json, .timeout_ms = o.timeout_ms};
    if (!o.container)
        rc = wrong_words("--container says whose hooks they are");
    else if (!is_name("id of a container, which has 24 of 0-9 and a-f", o.container, "0123456789abcdef"))
        rc = OPT_EXIT_USAGE;
    else {
        snprintf(a.document, sizeof a.document, "/containers/%s/proxy/hooks", o.container);
        rc = run(&a, o.args, o.n_args);
    }
    opt_edge_hooks_free(&o);
    return rc;
}
