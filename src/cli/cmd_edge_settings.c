/* edge settings, edge cache: what an edge keeps of containers' answers, and their pages. */
#include "cli/cli.h"

#include "base/buf.h"

#include <cjson/cJSON.h>

#define ID 24

static int wrong_words(enum opt_command_id command, const char *usage) {
    struct ht_errmsg err;
    return cli_parse_result(ht_fail(&err, HT_EINVAL, "%s", usage), command, &err);
}

/* An id goes into a path: nothing but what an id has may stand there. */
static bool is_id(const char *id) {
    if (strlen(id) == ID && !id[strspn(id, "0123456789abcdef")])
        return true;
    cli_complain("\"%s\" is no id of a project or container, which has 24 of 0-9 and a-f", id);
    return false;
}

static bool is_service(const char *name) {
    if (*name && !name[strspn(name, "abcdefghijklmnopqrstuvwxyz-")] && strlen(name) <= 40)
        return true;
    cli_complain("\"%s\" is no service, such as terminal", name);
    return false;
}

/* ---- edge settings ---- */

static int get(const struct cli_edge *e, const char *path) {
    cJSON *data = NULL;
    int status = cli_edge_ask(e, "GET", path, NULL, NULL, &data);
    if (status == OPT_EXIT_OK)
        status = cli_edge_print_json(data);
    cJSON_Delete(data);
    return status;
}

static int set(const struct cli_edge *e, const char *path, const char *file) {
    struct ht_buf text = {0};
    cJSON *data = NULL;
    int status = cli_edge_read_object(file, &text);
    if (status == OPT_EXIT_OK)
        status = cli_edge_change(e, "PUT", path, path, (const char *)ht_buf_head(&text), &data);
    if (status == OPT_EXIT_OK)
        status = cli_edge_print_json(data);
    cJSON_Delete(data);
    ht_buf_free(&text);
    return status;
}

int cmd_edge_settings(int argc, char **argv) {
    struct opt_edge_settings o;
    struct ht_errmsg err;
    char path[128];
    int rc = opt_edge_settings_parse(&o, argc, argv, &err);
    if (rc != 0)
        return cli_parse_result(rc, OPT_CMD_EDGE_SETTINGS, &err);
    struct cli_edge e = {.folder = o.folder, .if_match = o.if_match, .timeout_ms = o.timeout_ms};
    const char *word = o.n_args ? o.args[0] : "get", *id = o.container ? o.container : o.project;
    bool shows = strcmp(word, "get") == 0 && o.n_args <= 1, sets = strcmp(word, "set") == 0 && o.n_args == 2;
    if (!shows && !sets)
        rc = wrong_words(OPT_CMD_EDGE_SETTINGS, "the words are get, or set FILE");
    else if (!id || (o.container && o.project))
        rc = wrong_words(OPT_CMD_EDGE_SETTINGS, "--container or --project says whose settings they are");
    else if (!is_id(id))
        rc = OPT_EXIT_USAGE;
    else {
        snprintf(path, sizeof path, "/%s/%s/proxy/settings", o.container ? "containers" : "projects", id);
        rc = shows ? get(&e, path) : set(&e, path, o.args[1]);
    }
    opt_edge_settings_free(&o);
    return rc;
}

/* ---- edge cache ---- */

static int purge(const struct cli_edge *e, const char *id, const char *service) {
    char path[256];
    cJSON *data = NULL;
    snprintf(path, sizeof path, "/containers/%s/proxy%s%s/cache/purge", id, service ? "/services/" : "",
             service ? service : "");
    int status = cli_edge_ask(e, "POST", path, NULL, NULL, &data);
    if (status == OPT_EXIT_OK && e->json)
        status = cli_edge_print_json(data);
    else if (status == OPT_EXIT_OK)
        status = puts("what was kept is used no more") >= 0 && fflush(stdout) == 0 ? OPT_EXIT_OK : OPT_EXIT_FAILURE;
    cJSON_Delete(data);
    return status;
}

int cmd_edge_cache(int argc, char **argv) {
    struct opt_edge_cache o;
    struct ht_errmsg err;
    int rc = opt_edge_cache_parse(&o, argc, argv, &err);
    if (rc != 0)
        return cli_parse_result(rc, OPT_CMD_EDGE_CACHE, &err);
    struct cli_edge e = {.folder = o.folder, .json = o.json, .timeout_ms = o.timeout_ms};
    if (strcmp(o.args[0], "purge") != 0 || !o.container)
        rc = wrong_words(OPT_CMD_EDGE_CACHE, "the word is purge, and --container says of which one");
    else if (!is_id(o.container) || (o.service && !is_service(o.service)))
        rc = OPT_EXIT_USAGE;
    else
        rc = purge(&e, o.container, o.service);
    opt_edge_cache_free(&o);
    return rc;
}
