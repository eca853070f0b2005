/* login, logout: remember and forget a kit, so that commands need no URL and token. */
#include "cli/cli.h"

#include "cli/kits.h"
#include "driver/url.h"
#include "json/json.h"

#include <cjson/cJSON.h>
#include <signal.h>
#include <stdlib.h>
#include <unistd.h>

/* ---- trying the token at the kit ---- */

struct login {
    const struct opt_login *o;
    const char *url;
    char token[WIRE_LIMIT_MAX_TOKEN + 1];
    char user[128]; /* who the kit says it is; "": an older kit */
};

static bool has_member(const struct web_answer *a, const char *member, struct login *l) {
    static const struct json_limits limits = {.max_depth = 16, .max_keys = JSON_MAX_KEYS, .refuse_nul = true};
    const char *text = (const char *)ht_buf_head(&a->body);
    size_t n = ht_buf_size(&a->body);
    cJSON *tree = n && json_validate(text, n, &limits, NULL) == 0 ? cJSON_ParseWithLength(text, n) : NULL;
    const cJSON *found = cJSON_GetObjectItemCaseSensitive(tree, member);
    if (cJSON_IsString(found))
        snprintf(l->user, sizeof l->user, "%s", found->valuestring);
    bool has = found != NULL;
    cJSON_Delete(tree);
    return has;
}

/* Returns an exit status. *status is that of the kit's answer; 0: there was none. */
static int ask(struct login *l, const char *resource, const char *member, unsigned *status) {
    struct cli_ask q = {.url = l->url,
                        .ca = l->o->ca,
                        .pin = l->o->pin,
                        .token = l->token,
                        .resource = resource,
                        .timeout_ms = l->o->timeout_ms};
    struct web_answer a;
    struct ht_errmsg err;
    *status = 0;
    int rc = cli_admin_ask(&q, &a, &err);
    if (rc < 0) {
        cli_complain("%s; nothing was stored", err.text);
        return rc == HT_EINVAL ? OPT_EXIT_USAGE : rc == HT_ETLS ? OPT_EXIT_CONFIG : OPT_EXIT_GAVE_UP;
    }
    *status = a.status;
    int exit_code = OPT_EXIT_OK;
    if (a.status == 200 && !has_member(&a, member, l)) {
        cli_complain("the server at this URL is not a kit: its answer has no \"%s\"; nothing was stored", member);
        exit_code = OPT_EXIT_FAILURE;
    }
    ht_buf_free(&a.body);
    return exit_code;
}

/* Asks /me, or, of an older kit that does not have it, a listing. */
static int try_token(struct login *l, unsigned *status) {
    int rc = ask(l, "/me", "name", status);
    return *status == 404 ? ask(l, "/tunnels", "totalBindings", status) : rc;
}

static int complain_read(int rc) {
    if (rc == HT_ELIMIT)
        cli_complain("the token has more than %u characters", WIRE_LIMIT_MAX_TOKEN);
    else
        cli_complain("no token could be read from standard input");
    return OPT_EXIT_CONFIG;
}

/* A person at a terminal is asked for a token only if the kit wants one. */
static int get_token(struct login *l, bool *tried) {
    struct ht_errmsg err;
    unsigned status = 0;
    *tried = false;
    int rc = cli_token(l->o->token_file, l->o->token, l->token, &err);
    if (rc < 0) {
        cli_complain("%s", err.text);
        return OPT_EXIT_CONFIG;
    }
    if (*l->token)
        return OPT_EXIT_OK;
    if (!isatty(STDIN_FILENO)) {
        rc = cli_read_line(l->token);
    } else {
        int exit_code = try_token(l, &status);
        *tried = exit_code != OPT_EXIT_OK || status == 200;
        if (*tried)
            return exit_code;
        char prompt[2 * DRIVER_PATH_MAX];
        snprintf(prompt, sizeof prompt, "Token for %s (not shown): ", l->url);
        rc = cli_read_unseen(prompt, l->token);
    }
    if (rc < 0)
        return complain_read(rc);
    char checked[WIRE_LIMIT_MAX_TOKEN + 1];
    rc = cli_token_check(l->token, "standard input", checked, &err);
    explicit_bzero(checked, sizeof checked);
    if (rc < 0)
        cli_complain("%s", err.text);
    return rc < 0 ? OPT_EXIT_CONFIG : OPT_EXIT_OK;
}

static int check_token(struct login *l) {
    unsigned status;
    int rc = try_token(l, &status);
    if (rc != OPT_EXIT_OK || status == 200)
        return rc;
    if (status == 401)
        cli_complain(*l->token ? "the kit refused the token; nothing was stored"
                               : "the kit wants a token; nothing was stored");
    else
        cli_complain_status(status, "", l->token, false);
    return status == 401 ? OPT_EXIT_AUTH : OPT_EXIT_FAILURE;
}

/* ---- storing it ---- */

static int complain(const struct ht_errmsg *err) {
    cli_complain("%s", err->text);
    return OPT_EXIT_CONFIG;
}

/* Later commands run in other folders, so the path is stored as an absolute one. NULL: there is no such file. */
static const char *absolute(const char *path, char out[PATH_MAX]) { return path ? realpath(path, out) : NULL; }

static int store(const struct login *l) {
    struct cli_kits_change c;
    struct ht_errmsg err;
    char ca[PATH_MAX];
    int rc = cli_kits_begin(&c, &err);
    if (rc == HT_OK) {
        bool first = l->o->default_ || c.kits.n == 0;
        rc = cli_kits_put(
            &c.kits,
            &(struct cli_kit_texts){.url = l->url, .token = l->token, .ca = absolute(l->o->ca, ca), .pin = l->o->pin},
            first);
        if (rc < 0)
            ht_fail(&err, rc, "%s", ht_err_text(rc));
    }
    if (rc == HT_OK)
        rc = cli_kits_save(&c, &err);
    if (rc == HT_OK)
        printf("logged in to %s%s%s%s, stored in %s%s\n", l->url, *l->user ? " as " : "", l->user,
               *l->token ? "" : " (it wants no token)", c.kits.path,
               cli_kits_find(&c.kits, l->url) == 0 ? "" : "; another kit is the default");
    cli_kits_end(&c);
    return rc == HT_OK ? OPT_EXIT_OK : complain(&err);
}

/* Warns when the token is sent without encryption. */
static void warn_of_plain(const struct login *l) {
    struct driver_url url;
    if (*l->token && driver_url_parse(&url, l->url, WIRE_CONNECT_PATH, NULL) == HT_OK && !url.tls &&
        !driver_host_is_local(url.host))
        cli_complain("warning: %s is not encrypted, so everybody on the way to the kit can read the token; https:// is",
                     l->url);
}

static int list(void) {
    struct cli_kits k;
    struct ht_errmsg err;
    struct cli_table t = {.columns = 3};
    if (cli_kits_load(&k, &err) < 0) {
        cli_kits_free(&k);
        return complain(&err);
    }
    int rc = HT_OK;
    for (size_t i = 0; i < k.n && rc == HT_OK; i++) {
        rc = cli_table_cell(&t, "%s", k.list[i].url);
        if (rc == HT_OK)
            rc = cli_table_cell(&t, "%s", k.list[i].token ? "token" : "no token");
        if (rc == HT_OK)
            rc = cli_table_cell(&t, "%s", i == 0 ? "default" : "");
    }
    if (k.n == 0)
        printf("no kit is stored; `%s login https://kit.example` stores one\n", cli_program);
    else
        cli_table_print(&t, stdout);
    cli_table_free(&t);
    cli_kits_free(&k);
    return rc == HT_OK ? OPT_EXIT_OK : OPT_EXIT_FAILURE;
}

static int login(struct login *l) {
    struct driver_url url;
    struct ht_errmsg err;
    bool tried;
    if (driver_url_parse(&url, l->url, WIRE_CONNECT_PATH, &err) < 0) {
        cli_complain("%s", err.text);
        return OPT_EXIT_USAGE;
    }
    if (l->o->ca && access(l->o->ca, R_OK) < 0) {
        cli_complain("--ca: %s cannot be read", l->o->ca);
        return OPT_EXIT_CONFIG;
    }
    int rc = get_token(l, &tried);
    warn_of_plain(l);
    if (rc == OPT_EXIT_OK && !tried)
        rc = check_token(l);
    return rc == OPT_EXIT_OK ? store(l) : rc;
}

int cmd_login(int argc, char **argv) {
    struct opt_login o;
    struct ht_errmsg err;
    int rc = opt_login_parse(&o, argc, argv, &err);
    if (rc != 0)
        return cli_parse_result(rc, OPT_CMD_LOGIN, &err);
    CLI_PROXY(o);
    if (o.n_args == 0) {
        rc = list();
    } else {
        struct login l = {.o = &o, .url = o.args[0]};
        rc = login(&l);
        explicit_bzero(&l, sizeof l);
    }
    if (fflush(stdout) != 0 && rc == OPT_EXIT_OK)
        rc = OPT_EXIT_FAILURE;
    opt_login_free(&o);
    return rc;
}

int cmd_logout(int argc, char **argv) {
    struct opt_logout o;
    struct ht_errmsg err;
    struct cli_kits_change c = {.lock = -1};
    int rc = opt_logout_parse(&o, argc, argv, &err);
    if (rc != 0)
        return cli_parse_result(rc, OPT_CMD_LOGOUT, &err);
    rc = cli_kits_load(&c.kits, &err);
    if (rc == HT_OK && (c.kits.n > 0 || !*c.kits.path)) { /* without kits nothing is changed, and no folder is made */
        cli_kits_end(&c);
        rc = cli_kits_begin(&c, &err);
    }
    size_t i = rc < 0 || o.n_args == 0 ? 0 : cli_kits_find(&c.kits, o.args[0]);
    int status = rc < 0 ? complain(&err) : OPT_EXIT_OK;
    if (rc == HT_OK && i >= c.kits.n) {
        cli_complain(o.n_args ? "no kit is stored for %s; `hoody-tunnel login` lists them" : "no kit is stored",
                     o.n_args ? o.args[0] : "");
        status = OPT_EXIT_FAILURE;
    } else if (rc == HT_OK) {
        printf("forgot %s\n", c.kits.list[i].url);
        cli_kits_remove(&c.kits, i);
        status = cli_kits_save(&c, &err) < 0 ? complain(&err) : OPT_EXIT_OK;
    }
    cli_kits_end(&c);
    opt_logout_free(&o);
    return status;
}
