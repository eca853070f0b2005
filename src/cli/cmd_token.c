/* token new: a token for a user, and the line that lets it in. */
#include "cli/cli.h"

#include "kit/kit.h"

static int print(const char *name, const char *token, const char *line, bool json) {
    if (json)
        printf("{\"name\": \"%s\", \"token\": \"%s\", \"digest\": \"%s\"}\n", name, token, line);
    else
        printf("The token of %s, which is shown this once; it goes to %s:\n\n  %s\n\n"
               "The line for the file of users, below `tokens:` of %s; it is no secret:\n\n      - %s\n",
               name, name, token, name, line);
    if (fflush(stdout) == 0 && !ferror(stdout))
        return OPT_EXIT_OK;
    cli_complain("standard output cannot be written");
    return OPT_EXIT_FAILURE;
}

int cmd_token_new(int argc, char **argv) {
    struct opt_token_new o;
    struct ht_errmsg err;
    char token[KIT_TOKEN_TEXT], line[KIT_TOKEN_LINE];
    int rc = opt_token_new_parse(&o, argc, argv, &err);
    if (rc != 0)
        return cli_parse_result(rc, OPT_CMD_TOKEN_NEW, &err);
    if (kit_user_name_good(o.args[0])) {
        kit_token_new(token, line);
        rc = print(o.args[0], token, line, o.json);
        explicit_bzero(token, sizeof token);
    } else {
        cli_complain("a user's name is 1 to 63 letters, digits, and any of . _ @ -, as in `%s token new ann`",
                     cli_program);
        rc = OPT_EXIT_USAGE;
    }
    opt_token_new_free(&o);
    return rc;
}
