/* edge aliases: names of services of containers. */
#include "cli/cli.h"

#include <cjson/cJSON.h>

static const char words[] = "the words are list, get ALIAS, create ALIAS, update ALIAS, delete ALIAS, on ALIAS, or off "
                            "ALIAS";

#define LIST "/proxy/aliases"
#define NAME_MAX_BYTES 63
#define ID_BYTES 24

struct asking {
    struct cli_edge e;
    const struct opt_edge_aliases *o;
};

/* ---- showing ---- */

static const char *text_of(const cJSON *object, const char *name) {
    const cJSON *v = cJSON_GetObjectItemCaseSensitive(object, name);
    return cJSON_IsString(v) ? v->valuestring : "-";
}

static bool is_true(const cJSON *object, const char *name) {
    return cJSON_IsTrue(cJSON_GetObjectItemCaseSensitive(object, name));
}

static double number_of(const cJSON *object, const char *name) {
    const cJSON *v = cJSON_GetObjectItemCaseSensitive(object, name);
    return cJSON_IsNumber(v) ? v->valuedouble : 0;
}

static int add_row(struct cli_table *t, const cJSON *one) {
    char service[80], version[24], target[512];
    snprintf(service, sizeof service, "%s-%.0f", text_of(one, "program"), number_of(one, "index"));
    snprintf(version, sizeof version, "v%.0f", number_of(one, "file_version"));
    snprintf(target, sizeof target, "%s%s", text_of(one, "target_path"),
             is_true(one, "exact")                 ? " alone"
             : is_true(one, "allow_path_override") ? " or below"
                                                   : "");
    const char *state = !is_true(one, "enabled") ? "off" : is_true(one, "expired") ? "expired" : "on";
    return cli_table_row(t, (const char *[]){text_of(one, "alias"), text_of(one, "container_id"), service, target,
                                             state, text_of(one, "expires_at"), version});
}

/* A list, or one. */
static int show(const struct asking *a, const cJSON *data) {
    static const char *const heading[] = {"ALIAS", "CONTAINER", "SERVICE", "TARGET", "STATE", "EXPIRES", "VERSION"};
    struct cli_table t = {.columns = HT_ARRAY_LEN(heading)};
    const cJSON *one, *all = cJSON_GetObjectItemCaseSensitive(data, "aliases");
    if (a->e.json)
        return cli_edge_print_json(data);
    int rc = cli_table_row(&t, heading);
    if (!all && rc == HT_OK)
        rc = add_row(&t, data);
    cJSON_ArrayForEach(one, all) {
        if (rc == HT_OK)
            rc = add_row(&t, one);
    }
    rc = cli_table_end(&t, rc);
    if (!all && rc == OPT_EXIT_OK && strcmp(text_of(data, "host"), "-") != 0)
        printf("https://%s\n", text_of(data, "host"));
    return rc;
}

/* ---- which one ---- */

static bool is_word(const char *text, const char *chars, size_t most) {
    return *text && !text[strspn(text, chars)] && strlen(text) <= most;
}

/* A name, or an id: no alias is called like one. `out` is the path of its document. */
static int find(const struct asking *a, const char *word, char out[128]) {
    char path[128];
    cJSON *data = NULL;
    if (!is_word(word, "abcdefghijklmnopqrstuvwxyz0123456789-", NAME_MAX_BYTES)) {
        cli_complain("\"%s\" is no name of an alias, such as my-app, and no id", word);
        return OPT_EXIT_USAGE;
    }
    if (strlen(word) == ID_BYTES && is_word(word, "0123456789abcdef", ID_BYTES)) {
        snprintf(out, 128, LIST "/%s", word);
        return OPT_EXIT_OK;
    }
    snprintf(path, sizeof path, LIST "?alias=%s", word);
    int status = cli_edge_ask(&a->e, "GET", path, NULL, NULL, &data);
    const cJSON *one = cJSON_GetArrayItem(cJSON_GetObjectItemCaseSensitive(data, "aliases"), 0);
    if (status == OPT_EXIT_OK && !is_word(text_of(one, "id"), "0123456789abcdef", ID_BYTES)) {
        cli_complain("there is no alias %s", word);
        status = OPT_EXIT_FAILURE;
    } else if (status == OPT_EXIT_OK) {
        snprintf(out, 128, LIST "/%s", text_of(one, "id"));
    }
    cJSON_Delete(data);
    return status;
}

/* ---- what an alias is to be ---- */

static bool add_text(cJSON *body, const char *name, const char *value, const char *nothing) {
    if (!value)
        return true;
    return nothing && strcmp(value, nothing) == 0 ? cJSON_AddNullToObject(body, name) != NULL
                                                  : cJSON_AddStringToObject(body, name, value) != NULL;
}

/* The body; the caller frees it. NULL: no memory. */
static char *body_of(const struct opt_edge_aliases *o, const char *name) {
    cJSON *body = cJSON_CreateObject();
    bool ok = body && add_text(body, "alias", name, NULL) && add_text(body, "container_id", o->container, NULL) &&
              add_text(body, "program", o->program, NULL) && add_text(body, "target_path", o->target_path, "none") &&
              add_text(body, "expires_at", o->expires_at, "never");
    if (ok && o->set_index)
        ok = cJSON_AddNumberToObject(body, "index", o->index) != NULL;
    if (ok && o->set_allow_path_override)
        ok = cJSON_AddBoolToObject(body, "allow_path_override", o->allow_path_override) != NULL;
    if (ok && o->set_exact)
        ok = cJSON_AddBoolToObject(body, "exact", o->exact) != NULL;
    char *text = ok ? cJSON_PrintUnformatted(body) : NULL;
    cJSON_Delete(body);
    return text;
}

/* ---- the words ---- */

/* Page by page, as one list. */
static int list(const struct asking *a) {
    cJSON *data, *whole = cJSON_CreateObject(), *out = cJSON_AddArrayToObject(whole, "aliases");
    char path[160], after[ID_BYTES + 1] = "";
    int status = out ? OPT_EXIT_OK : OPT_EXIT_FAILURE;
    if (a->o->container && !is_word(a->o->container, "0123456789abcdef", ID_BYTES)) {
        cli_complain("\"%s\" is no id of a container, which has 24 of 0-9 and a-f", a->o->container);
        status = OPT_EXIT_USAGE;
    }
    for (bool more = true; status == OPT_EXIT_OK && more;) {
        snprintf(path, sizeof path, LIST "?limit=1000%s%s%s%s", *after ? "&after=" : "", after,
                 a->o->container ? "&container=" : "", a->o->container ? a->o->container : "");
        status = cli_edge_ask(&a->e, "GET", path, NULL, NULL, &data);
        if (status != OPT_EXIT_OK)
            break;
        cJSON *all = cJSON_GetObjectItemCaseSensitive(data, "aliases");
        more = is_true(data, "more") && cJSON_GetArraySize(all) > 0;
        while (cJSON_GetArraySize(all) > 0) {
            cJSON *one = cJSON_DetachItemFromArray(all, 0);
            snprintf(after, sizeof after, "%s", text_of(one, "id"));
            cJSON_AddItemToArray(out, one);
        }
        cJSON_Delete(data);
    }
    if (status == OPT_EXIT_OK)
        status = show(a, whole);
    cJSON_Delete(whole);
    return status;
}

static int ask(const struct asking *a, const char *method, const char *path, const char *body) {
    cJSON *data = NULL;
    int status = cli_edge_ask(&a->e, method, path, body, NULL, &data);
    if (status == OPT_EXIT_OK)
        status = show(a, data);
    cJSON_Delete(data);
    return status;
}

static int change(const struct asking *a, const char *method, const char *alias, const char *below, const char *body) {
    char document[128], path[160];
    cJSON *data = NULL;
    int status = find(a, alias, document);
    if (status != OPT_EXIT_OK)
        return status;
    snprintf(path, sizeof path, "%s%s", document, below);
    status = cli_edge_change(&a->e, method, document, path, body, &data);
    if (status == OPT_EXIT_OK && (body || a->e.json))
        status = body ? show(a, data) : cli_edge_print_json(data);
    else if (status == OPT_EXIT_OK)
        printf("%s is gone\n", alias);
    cJSON_Delete(data);
    return status;
}

static int with_body(const struct asking *a, const char *alias, bool create) {
    char *body = body_of(a->o, create ? alias : a->o->rename);
    int status = OPT_EXIT_FAILURE;
    if (body)
        status = create ? ask(a, "POST", LIST, body) : change(a, "PATCH", alias, "", body);
    cJSON_free(body);
    return status;
}

static int get(const struct asking *a, const char *alias) {
    char document[128];
    int status = find(a, alias, document);
    return status == OPT_EXIT_OK ? ask(a, "GET", document, NULL) : status;
}

static int run(const struct asking *a, const char *const *args, size_t n) {
    struct ht_errmsg err;
    const char *word = n ? args[0] : "list", *alias = n > 1 ? args[1] : "";
    if (strcmp(word, "list") == 0 && n <= 1)
        return list(a);
    if (strcmp(word, "get") == 0 && n == 2)
        return get(a, alias);
    if (strcmp(word, "create") == 0 && n == 2)
        return with_body(a, alias, true);
    if (strcmp(word, "update") == 0 && n == 2)
        return with_body(a, alias, false);
    if (strcmp(word, "delete") == 0 && n == 2)
        return change(a, "DELETE", alias, "", NULL);
    if ((strcmp(word, "on") == 0 || strcmp(word, "off") == 0) && n == 2)
        return change(a, "PATCH", alias, "/state", word[1] == 'n' ? "{\"enabled\":true}" : "{\"enabled\":false}");
    return cli_parse_result(ht_fail(&err, HT_EINVAL, "%s", words), OPT_CMD_EDGE_ALIASES, &err);
}

int cmd_edge_aliases(int argc, char **argv) {
    struct opt_edge_aliases o;
    struct ht_errmsg err;
    int rc = opt_edge_aliases_parse(&o, argc, argv, &err);
    if (rc != 0)
        return cli_parse_result(rc, OPT_CMD_EDGE_ALIASES, &err);
    struct asking a = {.e = {.folder = o.folder, .if_match = o.if_match, .json = o.json, .timeout_ms = o.timeout_ms},
                       .o = &o};
    rc = run(&a, o.args, o.n_args);
    opt_edge_aliases_free(&o);
    return rc;
}
