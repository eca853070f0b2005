/* edge domains: own domains of an edge on this machine, and their certificates. */
#include "cli/cli.h"

#include "base/buf.h"
#include "wire/name.h"

#include <cjson/cJSON.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#define FILE_MAX 32768u

static const char words[] = "the words are list, get DOMAIN, add DOMAIN ALIAS, remove DOMAIN, renew DOMAIN, "
                            "cert DOMAIN CERTIFICATE [KEY], or uncert DOMAIN";

/* ---- what goes into a request ---- */

/* Into a path: nothing but what a domain has may stand there; the server's own begins with *. */
static bool read_domain(const char *text, char out[WIRE_HOST_ROOM + 2]) {
    struct ht_errmsg err;
    bool own = text[0] == '*' && text[1] == '.';
    if (wire_domain_read(out + 2 * own, ht_slice_str(text + 2 * own), 2, &err) == 0) {
        memcpy(out, "*.", own ? 2 : 0);
        return true;
    }
    cli_idn_hint(text, &err);
    cli_complain("%s", err.text);
    return false;
}

static bool is_alias(const char *text) {
    if (*text && !text[strspn(text, "abcdefghijklmnopqrstuvwxyz0123456789-.")] && strlen(text) <= 100)
        return true;
    cli_complain("\"%s\" is no id of an alias, which `hoody-tunnel edge aliases` shows", text);
    return false;
}

/* The file's text; the caller wipes and frees it. */
static int read_file(const char *file, struct ht_buf *out) {
    int fd = strcmp(file, "-") == 0 ? STDIN_FILENO : open(file, O_RDONLY | O_CLOEXEC);
    ssize_t n = fd < 0 ? -1 : 1;
    while (n > 0 && ht_buf_size(out) <= FILE_MAX) {
        uint8_t *to = ht_buf_reserve(out, FILE_MAX);
        n = to ? read(fd, to, FILE_MAX) : -1;
        if (n > 0)
            ht_buf_commit(out, (size_t)n);
    }
    int why = errno;
    if (fd > STDIN_FILENO)
        close(fd);
    if (n < 0)
        cli_complain("%s: %s", file, strerror(why));
    else if (ht_buf_size(out) > FILE_MAX)
        cli_complain("%s has more than %u bytes, and no certificate has", file, FILE_MAX);
    else if (memchr(ht_buf_head(out) ? (const char *)ht_buf_head(out) : "", '\0', ht_buf_size(out)))
        cli_complain("%s is no PEM: there is a zero byte in it", file);
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

static const char *text_of(const cJSON *object, const char *name) {
    const cJSON *v = cJSON_GetObjectItemCaseSensitive(object, name);
    return cJSON_IsString(v) ? v->valuestring : "-";
}

static double number_of(const cJSON *object, const char *name) {
    const cJSON *v = cJSON_GetObjectItemCaseSensitive(object, name);
    return cJSON_IsNumber(v) ? v->valuedouble : 0;
}

static const char *day_of(const cJSON *object, const char *name, char out[32]) {
    time_t at = (time_t)number_of(object, name);
    struct tm tm;
    if (at <= 0 || !gmtime_r(&at, &tm) || strftime(out, 32, "%Y-%m-%d", &tm) == 0)
        snprintf(out, 32, "-");
    return out;
}

static int show(const struct cli_edge *e, const cJSON *data) {
    static const char *const heading[] = {"DOMAIN", "ALIAS", "STATE", "SOURCE", "GOOD UNTIL", "NEXT", "ERROR"};
    struct cli_table t = {.columns = HT_ARRAY_LEN(heading)};
    const cJSON *one, *all = cJSON_GetObjectItemCaseSensitive(data, "domains");
    char until[32], next[32];
    if (e->json)
        return cli_edge_print_json(data);
    int rc = cli_table_row(&t, heading);
    for (one = all ? all->child : data; rc == HT_OK && one; one = all ? one->next : NULL)
        rc = cli_table_row(&t, (const char *[]){text_of(one, "domain"), text_of(one, "alias"), text_of(one, "state"),
                                                text_of(one, "source"), day_of(one, "not_after", until),
                                                day_of(one, "next_try", next), text_of(one, "error")});
    return cli_table_end(&t, rc);
}

/* ---- the words ---- */

/* Page by page, as one list. */
static int list(const struct cli_edge *e) {
    char path[512] = "/proxy/domains";
    cJSON *whole = NULL, *data;
    int status = OPT_EXIT_OK;
    for (bool more = true; status == OPT_EXIT_OK && more;) {
        status = cli_edge_ask(e, "GET", path, NULL, NULL, &data);
        if (status != OPT_EXIT_OK)
            break;
        cJSON *page = cJSON_GetObjectItemCaseSensitive(data, "domains");
        const cJSON *last = cJSON_GetArrayItem(page, cJSON_GetArraySize(page) - 1);
        more = cJSON_IsTrue(cJSON_GetObjectItemCaseSensitive(data, "more")) && last;
        snprintf(path, sizeof path, "/proxy/domains?behind=%.253s", text_of(last, "domain"));
        if (!whole) {
            whole = data;
            cJSON_DeleteItemFromObjectCaseSensitive(whole, "more");
            continue;
        }
        while (cJSON_GetArraySize(page) > 0)
            cJSON_AddItemToArray(cJSON_GetObjectItemCaseSensitive(whole, "domains"),
                                 cJSON_DetachItemFromArray(page, 0));
        cJSON_Delete(data);
    }
    if (status == OPT_EXIT_OK)
        status = show(e, whole);
    cJSON_Delete(whole);
    return status;
}

/* A request whose answer is the domain. */
static int ask(const struct cli_edge *e, const char *method, const char *path) {
    cJSON *data = NULL;
    int status = cli_edge_ask(e, method, path, NULL, NULL, &data);
    if (status == OPT_EXIT_OK)
        status = show(e, data);
    cJSON_Delete(data);
    return status;
}

static int change(const struct cli_edge *e, const char *method, const char *document, const char *below,
                  const char *body) {
    char path[512];
    cJSON *data = NULL;
    snprintf(path, sizeof path, "%s%s", document, below);
    int status = cli_edge_change(e, method, document, path, body, &data);
    if (status == OPT_EXIT_OK && cJSON_HasObjectItem(data, "domain"))
        status = show(e, data);
    else if (status == OPT_EXIT_OK && e->json)
        status = cli_edge_print_json(data);
    else if (status == OPT_EXIT_OK)
        printf("%s is taken away\n", document + sizeof "/proxy/domains/" - 1);
    cJSON_Delete(data);
    return status;
}

/* It may be there already, and lead elsewhere. */
static int add(struct cli_edge *e, const char *document, const char *alias) {
    char body[160], version[40] = "file:v0";
    cJSON *data = NULL;
    struct cli_edge quiet = *e;
    quiet.quiet = true;
    snprintf(body, sizeof body, "{\"alias\":\"%s\"}", alias);
    int status = e->if_match ? OPT_EXIT_OK : cli_edge_ask(&quiet, "GET", document, NULL, NULL, &data);
    if (!e->if_match && status == OPT_EXIT_OK)
        snprintf(version, sizeof version, "file:v%.0f", number_of(data, "file_version"));
    if (!e->if_match)
        e->if_match = version;
    cJSON_Delete(data);
    status = status == OPT_EXIT_GAVE_UP ? status : change(e, "PUT", document, "", body);
    e->if_match = NULL;
    return status;
}

static int cert(const struct cli_edge *e, const char *document, const char *cert_file, const char *key_file) {
    struct ht_buf pem = {0}, key = {0};
    cJSON *body = cJSON_CreateObject();
    int status = read_file(cert_file, &pem);
    if (status == OPT_EXIT_OK && key_file)
        status = read_file(key_file, &key);
    bool ok = status == OPT_EXIT_OK && cJSON_AddStringToObject(body, "certificate", (const char *)ht_buf_head(&pem)) &&
              (!key_file || cJSON_AddStringToObject(body, "key", (const char *)ht_buf_head(&key)));
    char *text = ok ? cJSON_PrintUnformatted(body) : NULL;
    if (status == OPT_EXIT_OK)
        status = text ? change(e, "PUT", document, "/certificate", text) : OPT_EXIT_FAILURE;
    if (text)
        explicit_bzero(text, strlen(text));
    cJSON_free(text);
    cJSON_Delete(body);
    wipe(&pem);
    wipe(&key);
    return status;
}

static int wrong_words(void) {
    struct ht_errmsg err;
    return cli_parse_result(ht_fail(&err, HT_EINVAL, "%s", words), OPT_CMD_EDGE_DOMAINS, &err);
}

static int run(struct cli_edge *e, const char *const *args, size_t n) {
    char domain[WIRE_HOST_ROOM + 2], document[WIRE_HOST_ROOM + 40], renew[WIRE_HOST_ROOM + 48];
    const char *word = n ? args[0] : "list";
    if (strcmp(word, "list") == 0 && n <= 1)
        return list(e);
    static const struct {
        const char *word;
        size_t least, most;
    } known[] = {{"get", 2, 2}, {"add", 3, 3}, {"remove", 2, 2}, {"renew", 2, 2}, {"cert", 3, 4}, {"uncert", 2, 2}};
    size_t i = 0;
    while (i < HT_ARRAY_LEN(known) && strcmp(word, known[i].word) != 0)
        i++;
    if (i == HT_ARRAY_LEN(known) || n < known[i].least || n > known[i].most)
        return wrong_words();
    if (!read_domain(args[1], domain) || (strcmp(word, "add") == 0 && !is_alias(args[2])))
        return OPT_EXIT_USAGE;
    snprintf(document, sizeof document, "/proxy/domains/%s", domain);
    snprintf(renew, sizeof renew, "%s/renew", document);
    switch (i) {
    case 0:
        return ask(e, "GET", document);
    case 1:
        return add(e, document, args[2]);
    case 2:
        return change(e, "DELETE", document, "", NULL);
    case 3:
        return ask(e, "POST", renew);
    case 4:
        return cert(e, document, args[2], n == 4 ? args[3] : NULL);
    default:
        return change(e, "DELETE", document, "/certificate", NULL);
    }
}

int cmd_edge_domains(int argc, char **argv) {
    struct opt_edge_domains o;
    struct ht_errmsg err;
    int rc = opt_edge_domains_parse(&o, argc, argv, &err);
    if (rc != 0)
        return cli_parse_result(rc, OPT_CMD_EDGE_DOMAINS, &err);
    struct cli_edge e = {.folder = o.folder, .if_match = o.if_match, .json = o.json, .timeout_ms = o.timeout_ms};
    rc = run(&e, o.args, o.n_args);
    opt_edge_domains_free(&o);
    return rc;
}
