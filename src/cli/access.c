/* Chooses the kit for a command: its URL, its CA and its token. */
#include "cli/cli.h"

#include "cli/kits.h"

#include <stdlib.h>

static struct cli_kits stored; /* a cli_access points into it until the next call */

static bool take_token(struct cli_kit *kit, char out[WIRE_LIMIT_MAX_TOKEN + 1], struct ht_errmsg *err, int *rc) {
    if (!kit->token)
        return false;
    char where[PATH_MAX + 32];
    snprintf(where, sizeof where, "%s", stored.path);
    *rc = cli_token_check(kit->token, where, out, err);
    explicit_bzero(kit->token, strlen(kit->token));
    return *rc == HT_OK;
}

int cli_access(struct cli_access *a, char token[WIRE_LIMIT_MAX_TOKEN + 1], struct ht_errmsg *err) {
    a->stored_url = a->stored_token = false;
    int rc = cli_token(a->token_file, a->token, token, err);
    if (rc < 0 || (a->set_url && *token && (a->ca || a->pin)))
        return rc;
    struct cli_kits now;
    rc = cli_kits_load(&now, err);
    size_t i = rc < 0 || !a->set_url ? 0 : cli_kits_find(&now, a->url);
    cli_kits_free(&stored);
    stored = now;
    if (rc < 0 || i >= stored.n)
        return rc;
    struct cli_kit *kit = &stored.list[i];
    if (!a->set_url) {
        a->url = kit->url;
        a->stored_url = true;
    }
    if (!a->ca && !a->pin) { /* a CA or pin that was given replaces both stored ones */
        a->ca = kit->ca;
        a->pin = kit->pin;
    }
    if (!*token)
        a->stored_token = take_token(kit, token, err, &rc);
    return rc;
}

const char *cli_from_where(const char *text, const char *option, const char *variable) {
    const char *set = getenv(variable);
    return text && text == set ? variable : option; /* values point into the environment, or into the arguments */
}
