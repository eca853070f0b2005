/* edge permissions: who may visit a container, or the containers of a project. */
#include "cli/cli.h"

#include "base/buf.h"
#include "json/json.h"

#include <cjson/cJSON.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

#define FILE_MAX 262144u

static const char words[] = "the words are show, replace FILE, remove, default allow|deny, group NAME TYPE FILE, "
                            "ungroup NAME, allow GROUP PROGRAM ACCESS, or forget GROUP";

struct asking {
    struct cli_edge e;
    char document[128]; /* the path of the permissions */
};

/* ---- what goes into a request ---- */

/* Names go into a path: nothing but what a name has may stand there. */
static bool is_name(const char *what, const char *name, const char *chars) {
    if (*name && !name[strspn(name, chars)] && strlen(name) <= 40)
        return true;
    cli_complain("\"%s\" is no %s", name, what);
    return false;
}

static bool is_group(const char *name) {
    return is_name("name of a group", name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_");
}

int cli_edge_read_object(const char *file, struct ht_buf *out) {
    int fd = strcmp(file, "-") == 0 ? STDIN_FILENO : open(file, O_RDONLY | O_CLOEXEC);
    ssize_t n = fd < 0 ? -1 : 1;
    while (n > 0 && ht_buf_size(out) <= FILE_MAX) {
        uint8_t *to = ht_buf_reserve(out, 65536);
        n = to ? read(fd, to, 65536) : -1;
        if (n > 0)
            ht_buf_commit(out, (size_t)n);
    }
    int why = errno;
    if (fd > STDIN_FILENO)
        close(fd);
    struct json_error e = {JSON_OK, 0};
    if (n < 0)
        cli_complain("%s: %s", file, strerror(why));
    else if (ht_buf_size(out) > FILE_MAX)
        cli_complain("%s has more than %u bytes", file, FILE_MAX);
    else if (json_validate((const char *)ht_buf_head(out), ht_buf_size(out), NULL, &e) < 0)
        cli_complain("%s: byte %zu: %s", file, e.offset, json_reason_text(e.reason));
    else
        return ht_buf_append(out, "", 1) == HT_OK ? OPT_EXIT_OK : OPT_EXIT_FAILURE;
    return OPT_EXIT_FAILURE;
}

static void wipe(struct ht_buf *b) {
    if (b->data)
        explicit_bzero(b->data, b->cap);
    ht_buf_free(b);
}

/* ---- showing ---- */

static int add_row(struct cli_table *t, const char *group, const char *type, const char *program, const char *access) {
    return cli_table_row(t, (const char *[]){group, type, program, access});
}

/* A row for each program of each group, and one for a group that may nothing. */
static int add_group(struct cli_table *t, const cJSON *group, const cJSON *rules) {
    const cJSON *type = cJSON_GetObjectItemCaseSensitive(group, "type"), *rule;
    const char *word = cJSON_IsString(type) ? type->valuestring : "-";
    bool any = false;
    int rc = HT_OK;
    cJSON_ArrayForEach(rule, rules) {
        char *access = cJSON_PrintUnformatted(rule);
        if (rc == HT_OK)
            rc = add_row(t, any ? "" : group->string, any ? "" : word, rule->string, access ? access : "-");
        cJSON_free(access);
        any = true;
    }
    return rc == HT_OK && !any ? add_row(t, group->string, word, "-", "-") : rc;
}

static int show(const struct asking *a, const cJSON *data) {
    struct cli_table t = {.columns = 4};
    const cJSON *group, *word = cJSON_GetObjectItemCaseSensitive(data, "default");
    const cJSON *rules = cJSON_GetObjectItemCaseSensitive(data, "permissions");
    const cJSON *version = cJSON_GetObjectItemCaseSensitive(data, "file_version");
    if (a->e.json)
        return cli_edge_print_json(data);
    int rc = add_row(&t, "GROUP", "TYPE", "PROGRAM", "ACCESS");
    cJSON_ArrayForEach(group, cJSON_GetObjectItemCaseSensitive(data, "groups")) {
        if (rc == HT_OK)
            rc = add_group(&t, group, cJSON_GetObjectItemCaseSensitive(rules, group->string));
    }
    printf("default %s%s, file:v%.0f\n", cJSON_IsString(word) ? word->valuestring : "-",
           cJSON_IsFalse(cJSON_GetObjectItemCaseSensitive(data, "enable_proxy")) ? ", switched off" : "",
           cJSON_IsNumber(version) ? version->valuedouble : 0);
    if (t.n == t.columns) /* a heading alone says nothing */
        t.n = 0;
    return cli_table_end(&t, rc);
}

/* ---- the words ---- */

static int change(const struct asking *a, const char *method, const char *below, const char *body) {
    char path[256];
    cJSON *data = NULL;
    snprintf(path, sizeof path, "%s%s", a->document, below);
    int status = cli_edge_change(&a->e, method, a->document, path, body, &data);
    if (status == OPT_EXIT_OK)
        status = show(a, data);
    cJSON_Delete(data);
    return status;
}

static int show_now(const struct asking *a) {
    cJSON *data = NULL;
    int status = cli_edge_ask(&a->e, "GET", a->document, NULL, NULL, &data);
    if (status == OPT_EXIT_OK)
        status = show(a, data);
    cJSON_Delete(data);
    return status;
}

static int put_file(const struct asking *a, const char *below, const char *file) {
    struct ht_buf text = {0};
    int status = cli_edge_read_object(file, &text);
    if (status == OPT_EXIT_OK)
        status = change(a, "PUT", below, (const char *)ht_buf_head(&text));
    wipe(&text);
    return status;
}

static int put_group(const struct asking *a, const char *name, const char *type, const char *file) {
    char below[128];
    if (!is_group(name) ||
        !is_name("type of a group, which is ip, token, password or jwt", type, "abcdefghijklmnopqrstuvwxyz"))
        return OPT_EXIT_USAGE;
    snprintf(below, sizeof below, "/groups/%s/%s", name, type);
    return put_file(a, below, file);
}

static int delete_of(const struct asking *a, const char *what, const char *group) {
    char below[128];
    if (!is_group(group))
        return OPT_EXIT_USAGE;
    snprintf(below, sizeof below, "/%s/%s", what, group);
    return change(a, "DELETE", below, NULL);
}

/* ACCESS is JSON, or a word that stands for a text: a range, or *. */
static int allow(const struct asking *a, const char *group, const char *program, const char *access) {
    char below[128], *text = NULL;
    cJSON *body = cJSON_CreateObject();
    bool is_json = json_validate(access, strlen(access), NULL, NULL) == 0;
    cJSON *value = is_json ? cJSON_Parse(access) : cJSON_CreateString(access);
    int status = OPT_EXIT_USAGE;
    if (is_group(group)) {
        snprintf(below, sizeof below, "/permissions/%s", group);
        bool ok = cJSON_AddStringToObject(body, "program", program) && cJSON_AddItemToObject(body, "access", value);
        text = ok ? cJSON_PrintUnformatted(body) : NULL;
        value = ok ? NULL : value;
        status = text ? change(a, "PUT", below, text) : OPT_EXIT_FAILURE;
    }
    cJSON_free(text);
    cJSON_Delete(value);
    cJSON_Delete(body);
    return status;
}

static int put_default(const struct asking *a, const char *word) {
    char body[64];
    if (!is_name("default, which is allow or deny", word, "adelnowy"))
        return OPT_EXIT_USAGE;
    snprintf(body, sizeof body, "{\"default\":\"%s\"}", word);
    return change(a, "PATCH", "/default", body);
}

static int wrong_words(const char *usage) {
    struct ht_errmsg err;
    return cli_parse_result(ht_fail(&err, HT_EINVAL, "%s", usage), OPT_CMD_EDGE_PERMISSIONS, &err);
}

static int run(const struct asking *a, const char *const *args, size_t n) {
    const char *word = n ? args[0] : "show";
    if (strcmp(word, "show") == 0 && n <= 1)
        return show_now(a);
    if (strcmp(word, "replace") == 0 && n == 2)
        return put_file(a, "", args[1]);
    if (strcmp(word, "remove") == 0 && n == 1)
        return change(a, "DELETE", "", NULL);
    if (strcmp(word, "default") == 0 && n == 2)
        return put_default(a, args[1]);
    if (strcmp(word, "group") == 0 && n == 4)
        return put_group(a, args[1], args[2], args[3]);
    if (strcmp(word, "ungroup") == 0 && n == 2)
        return delete_of(a, "groups", args[1]);
    if (strcmp(word, "allow") == 0 && n == 4)
        return allow(a, args[1], args[2], args[3]);
    if (strcmp(word, "forget") == 0 && n == 2)
        return delete_of(a, "permissions", args[1]);
    return wrong_words(words);
}

int cmd_edge_permissions(int argc, char **argv) {
    struct opt_edge_permissions o;
    struct asking a;
    struct ht_errmsg err;
    int rc = opt_edge_permissions_parse(&o, argc, argv, &err);
    if (rc != 0)
        return cli_parse_result(rc, OPT_CMD_EDGE_PERMISSIONS, &err);
    a.e = (struct cli_edge){.folder = o.folder, .if_match = o.if_match, .json = o.json, .timeout_ms = o.timeout_ms};
    const char *id = o.container ? o.container : o.project;
    if (!id || (o.container && o.project))
        rc = wrong_words("--container or --project says whose permissions they are");
    else if (!is_name("id of a project or container, which has 24 of 0-9 and a-f", id, "0123456789abcdef"))
        rc = OPT_EXIT_USAGE;
    else {
        snprintf(a.document, sizeof a.document, "/%s/%s/proxy/permissions", o.container ? "containers" : "projects",
                 id);
        rc = run(&a, o.args, o.n_args);
    }
    opt_edge_permissions_free(&o);
    return rc;
}
