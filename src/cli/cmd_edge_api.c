/* edge containers, edge services, edge state: what the API of an edge on this machine has and does. */
#include "cli/cli.h"

#include "json/json.h"

#include <cjson/cJSON.h>
#include <inttypes.h>
#include <limits.h>
#include <stdarg.h>
#include <stdlib.h>
#include <unistd.h>

#define SOCKET "run/api.sock"
#define BASE "/api/v1"

/* ---- asking ---- */

/* An id goes into a path: nothing but what an id has may stand there. */
static bool is_word(const char *id, const char *chars) { return *id && !id[strspn(id, chars)] && strlen(id) <= 64; }

/* The folder that is named; or that of a server, if one works there; or that of a user. */
int cli_edge_socket(const char *folder, char *out) {
    const char *state = getenv("XDG_STATE_HOME"), *home = getenv("HOME");
    if (folder) {
        snprintf(out, PATH_MAX, "%s/" SOCKET, folder);
        return OPT_EXIT_OK;
    }
    snprintf(out, PATH_MAX, CLI_EDGE_UP_FOLDER "/" SOCKET);
    if (access(out, F_OK) == 0)
        return OPT_EXIT_OK;
    bool given = state && *state == '/';
    if (!given && (!home || *home != '/')) {
        cli_complain("no edge works in " CLI_EDGE_UP_FOLDER "; --folder names another folder");
        return OPT_EXIT_USAGE;
    }
    snprintf(out, PATH_MAX, "%s%s/hoody-tunnel/edge/" SOCKET, given ? state : home, given ? "" : "/.local/state");
    return OPT_EXIT_OK;
}

/* cJSON accepts much that is not JSON, so the text is checked strictly first. */
static cJSON *parse(const struct ht_buf *body) {
    static const struct json_limits limits = {
        .max_depth = JSON_MAX_DEPTH, .max_keys = JSON_MAX_KEYS, .refuse_nul = true};
    const char *text = (const char *)ht_buf_head(body);
    if (ht_buf_size(body) == 0 || json_validate(text, ht_buf_size(body), &limits, NULL) < 0)
        return NULL;
    return cJSON_ParseWithLength(text, ht_buf_size(body));
}

int cli_edge_ask(const struct cli_edge *e, const char *method, const char *path, const char *body, const char *version,
                 cJSON **data) {
    char socket[PATH_MAX], whole[1024], extra[128];
    struct web_answer answer;
    struct ht_errmsg err;
    *data = NULL;
    int status = cli_edge_socket(e->folder, socket);
    if (status != OPT_EXIT_OK)
        return status;
    snprintf(whole, sizeof whole, BASE "%s", path);
    snprintf(extra, sizeof extra, "If-Match: %s\r\n", version ? version : "");
    struct web_ask ask = {.socket = socket,
                          .host_field = "edge",
                          .method = method,
                          .path = whole,
                          .user_agent = "hoody-tunnel/" HT_VERSION,
                          .extra = version ? extra : NULL,
                          .body = ht_slice_str(body),
                          .timeout_ms = e->timeout_ms};
    if (web_fetch(&ask, &answer, &err) < 0) {
        cli_complain("no edge answers at %s: %s; --folder names the folder of a running one", socket, err.text);
        return OPT_EXIT_GAVE_UP;
    }
    cJSON *tree = parse(&answer.body);
    const cJSON *message = cJSON_GetObjectItemCaseSensitive(tree, "message");
    bool good = answer.status == 200 && cJSON_HasObjectItem(tree, "data");
    if (good)
        *data = cJSON_DetachItemFromObjectCaseSensitive(tree, "data");
    else if (!e->quiet)
        cli_complain("%s", cJSON_IsString(message) ? message->valuestring : "the answer is none of an edge's");
    cJSON_Delete(tree);
    ht_buf_free(&answer.body);
    return good ? OPT_EXIT_OK : OPT_EXIT_FAILURE;
}

/* The version that a document has now; file:v0 when there is none. */
static int version_now(const struct cli_edge *e, const char *document, char out[40]) {
    cJSON *data;
    int status = cli_edge_ask(e, "GET", document, NULL, NULL, &data);
    const cJSON *version = cJSON_GetObjectItemCaseSensitive(data, "file_version");
    snprintf(out, 40, "file:v%.0f", cJSON_IsNumber(version) ? version->valuedouble : 0);
    cJSON_Delete(data);
    return status;
}

int cli_edge_change(const struct cli_edge *e, const char *method, const char *document, const char *path,
                    const char *body, cJSON **data) {
    char version[40];
    *data = NULL;
    if (e->if_match && !is_word(e->if_match, "0123456789:filev")) {
        cli_complain("--if-match %s: a version is file:v and a number", e->if_match);
        return OPT_EXIT_USAGE;
    }
    if (e->if_match)
        return cli_edge_ask(e, method, path, body, e->if_match, data);
    int status = version_now(e, document, version);
    return status == OPT_EXIT_OK ? cli_edge_ask(e, method, path, body, version, data) : status;
}

/* ---- showing ---- */

int cli_edge_print_json(const cJSON *data) {
    char *text = cJSON_Print(data);
    bool ok = text && puts(text) >= 0 && fflush(stdout) == 0;
    if (!ok)
        cli_complain("standard output cannot be written");
    cJSON_free(text);
    return ok ? OPT_EXIT_OK : OPT_EXIT_FAILURE;
}

static const char *text_of(const cJSON *object, const char *name) {
    const cJSON *v = cJSON_GetObjectItemCaseSensitive(object, name);
    return cJSON_IsString(v) ? v->valuestring : "-";
}

static const char *switch_of(const cJSON *object) {
    return cJSON_IsFalse(cJSON_GetObjectItemCaseSensitive(object, "enable_proxy")) ? "off" : "on";
}

static int add_container(struct cli_table *t, const cJSON *one) {
    char version[24];
    const cJSON *v = cJSON_GetObjectItemCaseSensitive(one, "file_version");
    snprintf(version, sizeof version, "v%.0f", cJSON_IsNumber(v) ? v->valuedouble : 0);
    return cli_table_row(t, (const char *[]){text_of(one, "id"), text_of(one, "project_id"), text_of(one, "ip"),
                                             switch_of(one), text_of(one, "source"), version});
}

/* A list, or one. */
static int show_containers(const struct cli_edge *e, const cJSON *data) {
    static const char *const heading[] = {"CONTAINER", "PROJECT", "ADDRESS", "STATE", "SOURCE", "VERSION"};
    struct cli_table t = {.columns = HT_ARRAY_LEN(heading)};
    const cJSON *one, *all = cJSON_GetObjectItemCaseSensitive(data, "containers");
    if (e->json)
        return cli_edge_print_json(data);
    int rc = cli_table_row(&t, heading);
    if (!all && rc == HT_OK)
        rc = add_container(&t, data);
    cJSON_ArrayForEach(one, all) {
        if (rc == HT_OK)
            rc = add_container(&t, one);
    }
    return cli_table_end(&t, rc);
}

static int show_services(const struct cli_edge *e, const cJSON *data) {
    static const char *const heading[] = {"SERVICE", "PORT", "STATE", "OWN"};
    struct cli_table t = {.columns = HT_ARRAY_LEN(heading)};
    const cJSON *one, *all = cJSON_GetObjectItemCaseSensitive(data, "services");
    if (e->json)
        return cli_edge_print_json(data);
    int rc = cli_table_row(&t, heading);
    cJSON_ArrayForEach(one, all) {
        char port[16] = "any";
        const cJSON *number = cJSON_GetObjectItemCaseSensitive(one, "port");
        if (cJSON_IsNumber(number) && number->valuedouble > 0)
            snprintf(port, sizeof port, "%.0f", number->valuedouble);
        bool own = cJSON_IsTrue(cJSON_GetObjectItemCaseSensitive(one, "own"));
        if (rc == HT_OK)
            rc = cli_table_row(&t, (const char *[]){text_of(one, "service"), port, switch_of(one), own ? "yes" : "no"});
    }
    return cli_table_end(&t, rc);
}

/* ---- words ---- */

static int wrong_words(enum opt_command_id command, const char *usage) {
    struct ht_errmsg err;
    return cli_parse_result(ht_fail(&err, HT_EINVAL, "%s", usage), command, &err);
}

static bool is_id(const char *id) {
    if (is_word(id, "0123456789abcdef") && strlen(id) == 24)
        return true;
    cli_complain("\"%s\" is no id of a project or container, which has 24 of 0-9 and a-f", id);
    return false;
}

static bool is_service(const char *name) {
    if (is_word(name, "abcdefghijklmnopqrstuvwxyz-"))
        return true;
    cli_complain("\"%s\" is no service: a-z and single hyphens between them", name);
    return false;
}

/* A member of a body: a text of the command line. */
static bool plain(const char *what, const char *text) {
    if (is_word(text, "0123456789abcdefABCDEF.:"))
        return true;
    cli_complain("\"%s\" is no %s", text, what);
    return false;
}

/* ---- edge containers ---- */

/* Page by page, as one list. */
static int list_containers(const struct cli_edge *e) {
    cJSON *all = NULL, *data, *whole = cJSON_CreateObject(), *list = cJSON_AddArrayToObject(whole, "containers");
    char path[128] = "/containers";
    int status = list ? OPT_EXIT_OK : OPT_EXIT_FAILURE;
    for (bool more = true; status == OPT_EXIT_OK && more;) {
        status = cli_edge_ask(e, "GET", path, NULL, NULL, &data);
        if (status != OPT_EXIT_OK)
            break;
        all = cJSON_GetObjectItemCaseSensitive(data, "containers");
        more = cJSON_IsTrue(cJSON_GetObjectItemCaseSensitive(data, "more")) && cJSON_GetArraySize(all) > 0;
        while (cJSON_GetArraySize(all) > 0) {
            cJSON *one = cJSON_DetachItemFromArray(all, 0);
            snprintf(path, sizeof path, "/containers?after=%.24s", text_of(one, "id"));
            cJSON_AddItemToArray(list, one);
        }
        cJSON_Delete(data);
    }
    if (status == OPT_EXIT_OK)
        status = show_containers(e, whole);
    cJSON_Delete(whole);
    return status;
}

static int set_container(struct cli_edge *e, const char *id, const char *ip, const char *project) {
    char document[128], path[128], body[256], version[40];
    cJSON *data = NULL;
    if (!is_id(id) || !plain("IP address", ip) || (project && !is_id(project)))
        return OPT_EXIT_USAGE;
    snprintf(document, sizeof document, "/containers/%s/proxy", id);
    snprintf(path, sizeof path, "/containers/%s/proxy/address", id);
    snprintf(body, sizeof body, "{\"ip\":\"%s\"%s%s%s}", ip, project ? ",\"project_id\":\"" : "",
             project ? project : "", project ? "\"" : "");
    if (project && !e->if_match) { /* then it need not be known yet */
        struct cli_edge quiet = *e;
        quiet.quiet = true;
        (void)version_now(&quiet, document, version);
        e->if_match = version;
    }
    int status = cli_edge_change(e, "PUT", document, path, body, &data);
    if (status == OPT_EXIT_OK)
        status = show_containers(e, data);
    cJSON_Delete(data);
    return status;
}

static int remove_container(const struct cli_edge *e, const char *id) {
    char document[128];
    cJSON *data = NULL;
    if (!is_id(id))
        return OPT_EXIT_USAGE;
    snprintf(document, sizeof document, "/containers/%s/proxy", id);
    int status = cli_edge_change(e, "DELETE", document, document, NULL, &data);
    if (status == OPT_EXIT_OK && e->json)
        status = cli_edge_print_json(data);
    else if (status == OPT_EXIT_OK)
        printf("%s is forgotten\n", id);
    cJSON_Delete(data);
    return status;
}

int cmd_edge_containers(int argc, char **argv) {
    struct opt_edge_containers o;
    struct ht_errmsg err;
    int rc = opt_edge_containers_parse(&o, argc, argv, &err);
    if (rc != 0)
        return cli_parse_result(rc, OPT_CMD_EDGE_CONTAINERS, &err);
    struct cli_edge e = {.folder = o.folder, .if_match = o.if_match, .json = o.json, .timeout_ms = o.timeout_ms};
    const char *word = o.n_args ? o.args[0] : "list";
    if (strcmp(word, "list") == 0 && o.n_args <= 1)
        rc = list_containers(&e);
    else if (strcmp(word, "set") == 0 && o.n_args == 3)
        rc = set_container(&e, o.args[1], o.args[2], o.project);
    else if (strcmp(word, "remove") == 0 && o.n_args == 2)
        rc = remove_container(&e, o.args[1]);
    else
        rc = wrong_words(OPT_CMD_EDGE_CONTAINERS, "the words are list, set CONTAINER ADDRESS, or remove CONTAINER");
    opt_edge_containers_free(&o);
    return rc;
}

/* ---- edge services ---- */

static int change_service(const struct cli_edge *e, const char *id, const char *service, const char *port) {
    char document[128], path[256], body[64];
    cJSON *data = NULL;
    if (!is_id(id) || !is_service(service) || (port && !plain("port", port)))
        return OPT_EXIT_USAGE;
    snprintf(document, sizeof document, "/containers/%s/proxy", id);
    snprintf(path, sizeof path, "%s/services/%s", document, service);
    snprintf(body, sizeof body, "{\"port\":%.20s}", port ? port : "");
    int status = cli_edge_change(e, port ? "PUT" : "DELETE", document, path, port ? body : NULL, &data);
    if (status == OPT_EXIT_OK)
        status = show_services(e, data);
    cJSON_Delete(data);
    return status;
}

static int list_services(const struct cli_edge *e, const char *id) {
    char path[128];
    cJSON *data;
    if (!is_id(id))
        return OPT_EXIT_USAGE;
    snprintf(path, sizeof path, "/containers/%s/proxy/services", id);
    int status = cli_edge_ask(e, "GET", path, NULL, NULL, &data);
    if (status == OPT_EXIT_OK)
        status = show_services(e, data);
    cJSON_Delete(data);
    return status;
}

int cmd_edge_services(int argc, char **argv) {
    struct opt_edge_services o;
    struct ht_errmsg err;
    int rc = opt_edge_services_parse(&o, argc, argv, &err);
    if (rc != 0)
        return cli_parse_result(rc, OPT_CMD_EDGE_SERVICES, &err);
    struct cli_edge e = {.folder = o.folder, .if_match = o.if_match, .json = o.json, .timeout_ms = o.timeout_ms};
    const char *word = o.n_args > 1 ? o.args[1] : "list";
    if (strcmp(word, "list") == 0 && o.n_args <= 2)
        rc = list_services(&e, o.args[0]);
    else if (strcmp(word, "set") == 0 && o.n_args == 4)
        rc = change_service(&e, o.args[0], o.args[2], o.args[3]);
    else if (strcmp(word, "remove") == 0 && o.n_args == 3)
        rc = change_service(&e, o.args[0], o.args[2], NULL);
    else
        rc = wrong_words(OPT_CMD_EDGE_SERVICES,
                         "behind the container the words are list, set SERVICE PORT, or remove SERVICE");
    opt_edge_services_free(&o);
    return rc;
}

/* ---- edge state ---- */

/* Where a switch is read, and where it is changed. */
static int state_paths(const struct opt_edge_state *o, char document[128], char path[256]) {
    if ((!o->project) == (!o->container) || (o->service && !o->container))
        return wrong_words(OPT_CMD_EDGE_STATE, "give --project ID, or --container ID, and with that --service NAME");
    if ((o->project && !is_id(o->project)) || (o->container && !is_id(o->container)) ||
        (o->service && !is_service(o->service)))
        return OPT_EXIT_USAGE;
    snprintf(document, 128, "/%s/%s/proxy/permissions/state", o->project ? "projects" : "containers",
             o->project ? o->project : o->container);
    if (o->service)
        snprintf(path, 256, "/containers/%s/proxy/services/%s/state", o->container, o->service);
    else
        snprintf(path, 256, "%s", document);
    return OPT_EXIT_OK;
}

/* The one of a service is in its list, or is a service itself. */
static int show_switch(const struct cli_edge *e, const cJSON *data, const char *service) {
    const cJSON *one, *found = data, *list = cJSON_GetObjectItemCaseSensitive(data, "services");
    cJSON_ArrayForEach(one, list) {
        if (service && strcmp(text_of(one, "service"), service) == 0)
            found = one;
    }
    if (e->json)
        return cli_edge_print_json(found);
    return puts(switch_of(found)) >= 0 && fflush(stdout) == 0 ? OPT_EXIT_OK : OPT_EXIT_FAILURE;
}

static int run_state(const struct cli_edge *e, const struct opt_edge_state *o, const char *word) {
    char document[128], path[256];
    cJSON *data = NULL;
    bool off = strcmp(word, "off") == 0, show = strcmp(word, "show") == 0;
    if (!off && !show && strcmp(word, "on") != 0)
        return wrong_words(OPT_CMD_EDGE_STATE, "the word is on, off or show");
    int status = state_paths(o, document, path);
    if (status != OPT_EXIT_OK)
        return status;
    if (show) {
        size_t n = strlen(path) - (o->service ? strlen("/state") : 0);
        path[n] = '\0'; /* a service shows its own state */
        status = cli_edge_ask(e, "GET", path, NULL, NULL, &data);
    } else {
        status = cli_edge_change(e, "PATCH", document, path,
                                 off ? "{\"enable_proxy\":false}" : "{\"enable_proxy\":true}", &data);
    }
    if (status == OPT_EXIT_OK)
        status = show_switch(e, data, o->service);
    cJSON_Delete(data);
    return status;
}

int cmd_edge_state(int argc, char **argv) {
    struct opt_edge_state o;
    struct ht_errmsg err;
    int rc = opt_edge_state_parse(&o, argc, argv, &err);
    if (rc != 0)
        return cli_parse_result(rc, OPT_CMD_EDGE_STATE, &err);
    struct cli_edge e = {.folder = o.folder, .if_match = o.if_match, .json = o.json, .timeout_ms = o.timeout_ms};
    rc = run_state(&e, &o, o.n_args ? o.args[0] : "show");
    opt_edge_state_free(&o);
    return rc;
}
